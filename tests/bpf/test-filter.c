/* SPDX-License-Identifier: Apache-2.0 */
/* Rules in the kernel: who is counted, where the rest is told, what each rule and sampler counts.
 */
#include <netinet/in.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "daemon/filters.h"
#include "harness.h"
#include "some-filters.h"
#include "test.h"

#define MONITORED 2
#define OUT	  4
#define SEGMENT	  50
#define FILTERS	  300
#define PACKETS	  20

static struct harness h;
static struct fm_filters *filters;
static struct fm_filter_rules *rules;
static struct packet p;

/* These rules hold from now on; NULL ends the list. */
static bool hold(enum fm_filter_action otherwise, ...)
{
	struct fm_filter_rules *before = rules, *now;
	_fm_cleanup_buf_ struct fm_buf complaint = {};
	const char *text;
	va_list list;
	int r = fm_filter_rules_new(&now);

	if (r == 0)
		va_start(list, otherwise);
	while (r == 0 && (text = va_arg(list, const char *)))
		r = fm_filter_rules_add(now, text, &complaint);
	va_end(list);
	if (r == 0)
		r = fm_filters_set(filters, now, otherwise);
	if (r < 0)
		printf("# %s\n", complaint.size ? complaint.data : strerror(-r));
	rules = now;
	fm_filter_rules_free(before);
	harness_reset(&h);
	return r == 0;
}

static void udp(uint32_t src, uint32_t dst, uint16_t src_port, uint16_t dst_port)
{
	packet_new(&p);
	packet_eth(&p);
	packet_ip4(&p, .src = src, .dst = dst, .protocol = IPPROTO_UDP);
	packet_udp(&p, src_port, dst_port);
	packet_payload(&p, 72);
	packet_end(&p);
}

static bool count_is(enum fm_counter counter, uint64_t packets, uint64_t octets)
{
	struct fm_count count = harness_count(&h, counter);

	if (count.packets == packets && count.octets == octets)
		return true;
	printf("# counted %llu packets, %llu octets\n", count.packets, count.octets);
	return false;
}

/* What a rule counted since the test began: each test has rules of its own. */
static bool rule_is(size_t number, uint64_t matched, uint64_t counted)
{
	struct fm_filters_count count;

	if (!fm_filters_count(filters, number, &count))
		return false;
	if (count.matched.packets == matched && count.counted.packets == counted)
		return true;
	printf("# %s: %llu packets, %llu counted\n", count.text, count.matched.packets,
	       count.counted.packets);
	return false;
}

static uint64_t in_slots(uint64_t *ret_octets)
{
	const struct fm_region *region = &h.generation->regions[h.cpu];
	uint64_t packets = 0;

	*ret_octets = 0;
	for (uint32_t i = 0; i < h.generation->n_slots; i++)
		for (unsigned int d = 0; d < 2 && region->slots[i].tag >= FM_TAG_CLOSING; d++) {
			packets += region->slots[i].half[d].packets;
			*ret_octets += region->slots[i].half[d].octets;
		}
	return packets;
}

static void test_exclude(void)
{
	uint64_t octets;

	FM_TEST(hold(FM_FILTER_INCLUDE, "exclude net 10.0.0.0/8 and port 53", NULL),
		"exclude: rules hold");
	for (unsigned int i = 0; i < 3; i++) {
		udp(0x0a000001, 0xc0000201, 40000, 53);
		harness_packet(&h, &p, .ifindex = MONITORED);
		udp(0xc0000201, 0x0a000001, 53, 40000);
		harness_packet(&h, &p, .ifindex = MONITORED);
		udp(0xc0000202, 0xc0000201, 40000, 53);
		harness_packet(&h, &p, .ifindex = MONITORED);
	}
	FM_TEST(in_slots(&octets) == 3 && octets == 300, "exclude: the others are in flows");
	FM_TEST(count_is(FM_COUNTER_filtered, 6, 600), "exclude: filtered");
	FM_TEST(count_is(FM_COUNTER_seen, 9, 900) && harness_identity(&h),
		"exclude: the sum holds");
	FM_TEST(rule_is(0, 6, 0) && rule_is(1, 3, 3), "exclude: each rule counts");
}

/* A flow that is there when rules change: nothing of it is lost, what comes is filtered. */
static void test_change(void)
{
	uint64_t octets;

	hold(FM_FILTER_INCLUDE, NULL);
	udp(0x0a000001, 0x0a000002, 1, 7);
	for (unsigned int i = 0; i < 2; i++)
		harness_packet(&h, &p, .ifindex = MONITORED);
	hold(FM_FILTER_INCLUDE, "exclude port 7", NULL);
	harness_reset(&h);
	harness_packet(&h, &p, .ifindex = MONITORED);
	FM_TEST(in_slots(&octets) == 0 && count_is(FM_COUNTER_filtered, 1, 100),
		"a rule that comes holds at once");
	hold(FM_FILTER_INCLUDE, "exclude port 8", NULL);
	hold(FM_FILTER_INCLUDE, "exclude port 7", "exclude port 9", NULL);
	harness_packet(&h, &p, .ifindex = MONITORED);
	FM_TEST(rule_is(0, 2, 0) && rule_is(1, 0, 0), "a rule that comes back goes on counting");
	hold(FM_FILTER_INCLUDE, NULL);
	harness_packet(&h, &p, .ifindex = MONITORED);
	FM_TEST(in_slots(&octets) == 1 && count_is(FM_COUNTER_filtered, 0, 0),
		"without rules everything counts");
}

static void test_default(void)
{
	uint64_t octets;

	hold(FM_FILTER_EXCLUDE, "include dst port 99", NULL);
	udp(0x0a000001, 0x0a000002, 1, 99);
	harness_packet(&h, &p, .ifindex = MONITORED);
	udp(0x0a000002, 0x0a000001, 99, 1);
	harness_packet(&h, &p, .ifindex = MONITORED);
	FM_TEST(in_slots(&octets) == 1 && rule_is(0, 1, 1) && rule_is(1, 1, 0) &&
			harness_identity(&h),
		"default = exclude: what no rule includes is filtered");
	packet_put16(&p, 12, 0x0806);
	harness_packet(&h, &p, .ifindex = MONITORED);
	FM_TEST(count_is(FM_COUNTER_not_ip, 1, p.length - 14) && harness_identity(&h),
		"what is not IP is ignored, not filtered");
}

static void test_interface(void)
{
	const struct fm_filter_interface interface = {MONITORED, "uplink", NULL};
	const struct fm_filter_interface renamed = {MONITORED, "backup", NULL};
	uint64_t octets;

	fm_filters_add(filters, &interface);
	hold(FM_FILTER_INCLUDE, "exclude interface up* and in", NULL);
	udp(0x0a000001, 0x0a000002, 1, 3);
	harness_packet(&h, &p, .ifindex = MONITORED);
	harness_packet(&h, &p, .ifindex = OUT);
	harness_packet(&h, &p, .ifindex = MONITORED, .hook = FM_HOOK_EGRESS);
	FM_TEST(in_slots(&octets) == 2 && rule_is(0, 1, 0), "an interface, one direction");
	fm_filters_add(filters, &renamed);
	harness_packet(&h, &p, .ifindex = MONITORED);
	FM_TEST(in_slots(&octets) == 3 && rule_is(0, 1, 0), "an interface that has another name");
	FM_TEST(fm_filters_add(filters, &(struct fm_filter_interface){OUT, "up1", NULL}) == 0,
		"an interface that is new");
	harness_packet(&h, &p, .ifindex = OUT);
	FM_TEST(in_slots(&octets) == 3 && rule_is(0, 2, 0), "its packets are filtered");
}

/* Packets that are counted at their first hook, or not, at the next one. */
static void test_again(void)
{
	uint64_t octets;

	fm_kernel_set_seen(h.kernel, MONITORED, FM_SEEN_YES);
	hold(FM_FILTER_INCLUDE, "exclude src port 5", "sample 1 in 2 packets src port 6", NULL);
	for (uint16_t port = 4; port < 7; port++)
		for (unsigned int i = 0; i < 4; i++) {
			udp(0x0a000001, 0x0a000002, port, 99);
			harness_packet(&h, &p, .ifindex = MONITORED);
			harness_packet(&h, &p, .ifindex = OUT, .hook = FM_HOOK_EGRESS,
				       .ingress_ifindex = MONITORED);
		}
	FM_TEST(in_slots(&octets) == 6 && octets == 600, "forwarded: counted once");
	FM_TEST(count_is(FM_COUNTER_again, 12, 1200) && count_is(FM_COUNTER_filtered, 4, 400) &&
			count_is(FM_COUNTER_not_sampled, 2, 200) && harness_identity(&h),
		"forwarded: the sum holds");
	FM_TEST(count_is(FM_COUNTER_egress_unknown, 0, 0), "forwarded: no flow is missed");
	FM_TEST(rule_is(0, 4, 0) && rule_is(1, 4, 2), "forwarded: rules count once");
	fm_kernel_set_seen(h.kernel, MONITORED, FM_SEEN_NO);
}

static void super(uint32_t segments, uint32_t last)
{
	packet_new(&p);
	packet_eth(&p);
	packet_ip4(&p, .src = 0x0a000001, .dst = 0x0a000002, .protocol = IPPROTO_TCP);
	packet_tcp(&p, 1, 443, 0x10, 0);
	packet_payload(&p, (segments - 1) * SEGMENT + last);
	packet_end(&p);
}

/* Super-packets count as their packets would one by one: every third, octet by octet. */
static void test_segments(void)
{
	uint64_t octets, packets = 0, expected = 0, all = 0, number = 0;

	hold(FM_FILTER_INCLUDE, "sample 1 in 3 packets tcp", NULL);
	for (uint32_t segments = 1; segments < 40; segments++) {
		uint32_t last = 1 + segments * 7 % SEGMENT;

		super(segments, last);
		harness_packet(&h, &p, .ifindex = MONITORED, .gso_size = segments > 1 ? SEGMENT : 0,
			       .gso_segs = segments);
		for (uint32_t i = 0; i < segments; i++) {
			uint32_t length = 40 + (i + 1 < segments ? SEGMENT : last);

			all += length;
			if (++number % 3 == 0) {
				packets++;
				expected += length;
			}
		}
	}
	FM_TEST(in_slots(&octets) == packets && octets == expected,
		"every third packet of super-packets");
	FM_TEST(count_is(FM_COUNTER_not_sampled, number - packets, all - expected) &&
			harness_identity(&h),
		"the others are not sampled");
	FM_TEST(rule_is(0, number, packets), "the sampler counts");
}

/* One of each N, whatever they are. */
static void test_random(void)
{
	uint64_t octets;

	hold(FM_FILTER_INCLUDE, "sample 1 in 10 random udp", NULL);
	for (unsigned int i = 0; i < 1000; i++) {
		udp(0x0a000001, 0x0a000002, (uint16_t)(1000 + i % 7), 99);
		harness_packet(&h, &p, .ifindex = MONITORED);
		if (i % 10 == 9 && in_slots(&octets) != (i + 1) / 10)
			break;
	}
	FM_TEST(in_slots(&octets) == 100 && rule_is(0, 1000, 100) && harness_identity(&h),
		"one at random of each ten packets");
}

/* Conversations as a whole, both directions, whatever their number. */
static void test_flows(void)
{
	uint64_t octets, packets, flows = 0, halves = 0;
	const struct fm_region *region = &h.generation->regions[h.cpu];

	hold(FM_FILTER_INCLUDE, "sample 1 in 8 flows udp", NULL);
	for (unsigned int round = 0; round < 3; round++)
		for (uint16_t i = 0; i < 4000; i++) {
			udp(0x0a000001, 0x0a000002, (uint16_t)(1024 + i), 99);
			harness_packet(&h, &p, .ifindex = MONITORED);
			udp(0x0a000002, 0x0a000001, 99, (uint16_t)(1024 + i));
			harness_packet(&h, &p, .ifindex = MONITORED);
		}
	packets = in_slots(&octets);
	for (uint32_t i = 0; i < h.generation->n_slots; i++) {
		const struct fm_slot *slot = &region->slots[i];

		if (slot->tag < FM_TAG_CLOSING)
			continue;
		flows++;
		halves += slot->half[0].packets == 3 && slot->half[1].packets == 3;
	}
	printf("# %llu of 4000 conversations\n", (unsigned long long)flows);
	/* 500 expected, standard deviation 21: seven of them. */
	FM_TEST(flows > 350 && flows < 650, "one conversation in eight");
	FM_TEST(halves == flows && packets == flows * 6, "all packets of each, in both directions");
	FM_TEST(rule_is(0, 24000, packets) && harness_identity(&h), "the sampler counts them");
}

/* Two samplers never share a slot, and a number is never another sampler's. */
static void test_samplers(void)
{
	const struct fm_region *region = &h.generation->regions[h.cpu];
	unsigned int seen = 0;

	hold(FM_FILTER_INCLUDE, "sample 1 in 2 packets src port 1", "sample 1 in 4 packets udp",
	     NULL);
	for (unsigned int i = 0; i < 8; i++) {
		udp(0x0a000001, 0x0a000002, 1, 99);
		harness_packet(&h, &p, .ifindex = MONITORED);
		udp(0x0a000001, 0x0a000002, 2, 99);
		harness_packet(&h, &p, .ifindex = MONITORED);
	}
	for (uint32_t i = 0; i < h.generation->n_slots; i++) {
		const struct fm_slot *slot = &region->slots[i];
		struct fm_sampler sampler =
			fm_filters_sampler(filters, slot->key.tunnel_type >> FM_KEY_SAMPLER_SHIFT);
		uint64_t packets = slot->half[0].packets + slot->half[1].packets;

		if (slot->tag >= FM_TAG_CLOSING)
			seen += sampler.interval * packets == 8 &&
				sampler.method == FM_SAMPLE_COUNT;
	}
	FM_TEST(seen == 2, "a slot says which sampler it is of");
}

/* By rule, the last is of packets that no rule speaks of: how many it decided about. */
static size_t matched(uint64_t ret[SOME_RULES + 1])
{
	struct fm_filters_count count;
	size_t n = 0;

	while (n <= SOME_RULES && fm_filters_count(filters, n, &count))
		ret[n++] = count.matched.packets;
	return n;
}

/* Which rule the programs ask for a packet; -1: none, or several. */
static int decides(const struct some_packet *packet)
{
	uint64_t before[SOME_RULES + 1], after[SOME_RULES + 1];
	size_t n = matched(before);
	int rule = -1;

	if (harness_run(&h, packet->frame, packet->length,
			&(struct harness_run){.hook = packet->seen.hook,
					      .ifindex = packet->seen.ifindex}) < 0 ||
	    matched(after) != n)
		return -1;
	for (size_t i = 0; i < n; i++) {
		if (after[i] == before[i])
			continue;
		if (rule >= 0 || after[i] != before[i] + 1)
			return -1;
		rule = (int)i;
	}
	return rule;
}

static bool hold_some(const struct some_filter *filter)
{
	struct fm_filter_rules *before = rules;
	_fm_cleanup_buf_ struct fm_buf complaint = {};
	int r = fm_filter_rules_new(&rules);

	if (r == 0)
		for (size_t i = 0; i < filter->n_rules && r == 0; i++) {
			_fm_cleanup_buf_ struct fm_buf text = {};

			some_rule_print(filter, i, &text);
			r = fm_filter_rules_add(rules, text.data, &complaint);
		}
	if (r == 0)
		r = fm_filters_set(filters, rules, FM_FILTER_INCLUDE);
	fm_filter_rules_free(before);
	return r == 0;
}

/*
 * What unit-filter-pcap compares with libpcap, the programs do: random filters, random packets, at
 * the hooks that this namespace has.
 */
static void test_random_filters(void)
{
	char path[] = "/tmp/flowmond-filter-XXXXXX";
	unsigned int asked = 0, wrong = 0, others = 0;
	uint64_t random = 11;
	int fd = mkstemp(path);

	for (size_t i = 0; i < some_n_interfaces; i++)
		fm_filters_add(filters, &some_interfaces[i]);
	for (unsigned int i = 0; fd >= 0 && i < FILTERS; i++) {
		struct some_filter filter;
		struct some_packet packet;

		if (!some_filter_make(&filter, i + 1, path, false) || !hold_some(&filter)) {
			wrong++;
			break;
		}
		harness_reset(&h);
		for (unsigned int k = 0; k < PACKETS; k++) {
			size_t expected;
			int seen;

			some_packet_make(&packet, &random, true);
			if (packet.seen.ifindex > OUT) /* in another namespace */
				continue;
			expected = some_filter_verdict(&filter, &packet.seen);
			seen = decides(&packet);
			asked++;
			others += expected < filter.n_rules;
			if (seen == (int)expected)
				continue;
			if (!wrong++)
				printf("# filter %u: rule %d, expected %zu\n", i + 1, seen,
				       expected);
		}
		wrong += !harness_identity(&h);
	}
	if (fd >= 0)
		close(fd);
	unlink(path);
	printf("# %u packets, %u of them under a rule\n", asked, others);
	FM_TEST(asked > FILTERS && others > FILTERS && !wrong,
		"%u random filters: the programs ask the rule that holds", FILTERS);
}

int main(void)
{
	const struct fm_kernel_options options = {.max_flows = 16384, .tcp = true};
	int r;

	if (!harness_allowed())
		return fm_test_skip_all("needs root");
	r = harness_devices(3);
	if (r == 0)
		r = harness_init(&h, &options);
	if (r == 0)
		r = fm_filters_new(&filters, h.kernel);
	if (r < 0)
		return fm_test_bail("harness", r);
	test_exclude();
	test_change();
	test_default();
	test_interface();
	test_again();
	test_segments();
	test_random();
	test_flows();
	test_samplers();
	test_random_filters();
	hold(FM_FILTER_INCLUDE, NULL);
	fm_filters_free(filters);
	fm_filter_rules_free(rules);
	harness_done(&h);
	return fm_test_done();
}
