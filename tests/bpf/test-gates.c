/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What each interface counts: crafted packets of every kind on interfaces with gates of their own,
 * compared with a count of what was given to the hooks and with what lies in the slots.
 */
#include <netinet/in.h>

#include "base/macro.h"
#include "harness.h"
#include "test.h"

#define MONITORED 2
#define OUT	  3
#define NO_GATE	  4

static struct harness h;
static struct packet p;

/* What was given to a hook. */
struct given {
	uint32_t ifindex;
	enum fm_hook hook;
	uint64_t frames, frame_octets, packets, octets;
	uint64_t again, ignored, aggregated;
	struct fm_counters before;
};

static struct given all[] = {
	{.ifindex = MONITORED, .hook = FM_HOOK_INGRESS},
	{.ifindex = MONITORED, .hook = FM_HOOK_EGRESS},
	{.ifindex = OUT, .hook = FM_HOOK_INGRESS},
	{.ifindex = OUT, .hook = FM_HOOK_EGRESS},
	{.ifindex = NO_GATE, .hook = FM_HOOK_INGRESS},
};

static struct given *given_to(uint32_t ifindex, enum fm_hook hook)
{
	for (size_t i = 0; i < FM_ARRAY_SIZE(all); i++)
		if (all[i].ifindex == ifindex && all[i].hook == hook)
			return &all[i];
	return NULL;
}

static void sum_of(const struct given *given, struct fm_counters *ret)
{
	const struct fm_gates *gates = fm_kernel_gates(h.kernel);

	fm_gates_sum(gates, fm_gates_find(gates, given->ifindex), given->hook, ret);
}

/* Gives the packet to a hook; it stands for packets of octets in all. */
static struct given *give(struct harness_run run, uint64_t packets, uint64_t octets)
{
	struct given *given = given_to(run.ifindex, run.hook);

	if (harness_run(&h, p.data, p.length, &run) < 0)
		return NULL;
	given->frames++;
	given->frame_octets += p.length;
	given->packets += packets;
	given->octets += octets;
	if (run.hook == FM_HOOK_EGRESS && run.ingress_ifindex == MONITORED)
		given->again += packets;
	return given;
}

#define GIVE(packets, octets, ...) give((struct harness_run){__VA_ARGS__}, packets, octets)

static void udp(uint16_t port, size_t payload)
{
	packet_new(&p);
	packet_eth(&p);
	packet_ip4(&p, .src = 0x0a000001, .dst = 0x0a000002, .protocol = IPPROTO_UDP);
	packet_udp(&p, port, 53);
	packet_payload(&p, payload);
	packet_end(&p);
}

static void tcp(uint16_t port, size_t payload)
{
	packet_new(&p);
	packet_eth(&p);
	packet_ip4(&p, .src = 0x0a000001, .dst = 0x0a000002, .protocol = IPPROTO_TCP);
	packet_tcp(&p, port, 80, 0x10, 0);
	packet_payload(&p, payload);
	packet_end(&p);
}

static void vlan_ip6(uint16_t port)
{
	packet_new(&p);
	packet_eth(&p);
	packet_vlan(&p, 0x8100, 100);
	packet_ip6(&p, .src = 1, .dst = 2, .next = IPPROTO_UDP);
	packet_udp(&p, port, 53);
	packet_payload(&p, 30);
	packet_end(&p);
}

static void fragment(uint16_t port, bool first)
{
	packet_new(&p);
	packet_eth(&p);
	packet_ip4(&p, .src = 0x0a000003, .dst = 0x0a000002, .protocol = IPPROTO_UDP,
		   .fragment = first ? 0x2000 : 5, .id = port);
	if (first)
		packet_udp(&p, port, 53);
	packet_payload(&p, first ? 32 : 40);
	packet_end(&p);
}

static void not_ip(void)
{
	packet_new(&p);
	packet_eth(&p);
	packet_put16(&p, 12, 0x0806);
	packet_payload(&p, 28);
	packet_end(&p);
}

static void cut_ip(void)
{
	udp(9, 40);
	p.length = 14 + 12;
}

/* The mix of one hook; ports tell the flows of hooks apart. */
static void give_mix(uint32_t ifindex, enum fm_hook hook, uint32_t from, uint16_t port)
{
	for (unsigned int i = 0; i < 5; i++) { /* the first makes the slot, the rest find it */
		udp(port, 20 + i);
		GIVE(1, 48 + i, .ifindex = ifindex, .hook = hook, .ingress_ifindex = from);
	}
	tcp(port, 4000);
	for (unsigned int i = 0; i < 2; i++)
		GIVE(4, 4000 + 4 * 40, .ifindex = ifindex, .hook = hook, .ingress_ifindex = from,
		     .gso_size = 1000, .gso_segs = 4);
	vlan_ip6(port);
	GIVE(1, 78, .ifindex = ifindex, .hook = hook, .ingress_ifindex = from);
	fragment(port, true);
	GIVE(1, 60, .ifindex = ifindex, .hook = hook, .ingress_ifindex = from);
	fragment(port, false);
	GIVE(1, 60, .ifindex = ifindex, .hook = hook, .ingress_ifindex = from);
}

static void give_ignored(uint32_t ifindex, enum fm_hook hook, uint32_t from)
{
	struct given *given;
	uint64_t octets;

	for (unsigned int i = 0; i < 3; i++) {
		struct fm_count before = harness_count(&h, FM_COUNTER_seen);

		if (i == 2)
			cut_ip();
		else
			not_ip();
		given = GIVE(1, 0, .ifindex = ifindex, .hook = hook, .ingress_ifindex = from);
		octets = harness_count(&h, FM_COUNTER_seen).octets - before.octets;
		if (!given)
			continue;
		given->octets += octets;
		given->ignored += from != MONITORED;
	}
}

static uint64_t ignored_in(const struct fm_counters *counters)
{
	return counters->count[FM_COUNTER_not_ip].packets +
	       counters->count[FM_COUNTER_malformed].packets;
}

/* What of the slots was counted at this hook. */
static struct fm_count held(const struct given *given)
{
	const struct fm_region *region = &h.generation->regions[h.cpu];
	struct fm_count sum = {};

	for (uint32_t i = 0; i < h.generation->n_slots; i++)
		for (unsigned int d = 0; d < 2; d++) {
			const struct fm_half *half = &region->slots[i].half[d];
			uint32_t at =
				given->hook == FM_HOOK_INGRESS ? half->ingress_if : half->egress_if;

			if (region->slots[i].tag < FM_TAG_CLOSING || half->hook != given->hook ||
			    at != given->ifindex)
				continue;
			sum.packets += half->packets;
			sum.octets += half->octets;
		}
	return sum;
}

static void check(const struct given *given, const char *name)
{
	struct fm_counters now;
	const struct fm_count *seen = &now.count[FM_COUNTER_seen];
	uint64_t in_flows;

	sum_of(given, &now);
	fm_counters_subtract(&now, &given->before);
	in_flows = seen->packets - now.count[FM_COUNTER_again].packets - ignored_in(&now) -
		   now.count[FM_COUNTER_overflow].packets -
		   now.count[FM_COUNTER_overflow_lost].packets;
	if (!FM_TEST(now.frames == given->frames && now.frame_octets == given->frame_octets &&
			     seen->packets == given->packets && seen->octets == given->octets,
		     "%s: every frame, packet and octet", name))
		printf("# frames %llu/%llu of %lu/%lu, packets %llu/%llu of %lu/%lu\n", now.frames,
		       now.frame_octets, given->frames, given->frame_octets, seen->packets,
		       seen->octets, given->packets, given->octets);
	FM_TEST(now.count[FM_COUNTER_again].packets == given->again, "%s: again", name);
	FM_TEST(ignored_in(&now) == given->ignored, "%s: ignored", name);
	FM_TEST(now.count[FM_COUNTER_overflow].packets == given->aggregated, "%s: aggregated",
		name);
	FM_TEST(held(given).packets == in_flows, "%s: the rest is in slots", name);
}

static void begin(void)
{
	harness_reset(&h);
	for (size_t i = 0; i < FM_ARRAY_SIZE(all); i++) {
		all[i] = (struct given){.ifindex = all[i].ifindex, .hook = all[i].hook};
		sum_of(&all[i], &all[i].before);
	}
}

static void check_all(const char *what)
{
	static const char *const names[] = {"monitored, in", "monitored, out", "other, in",
					    "other, out", "without a gate"};
	char name[80];

	for (size_t i = 0; i < FM_ARRAY_SIZE(all); i++) {
		snprintf(name, sizeof(name), "%s, %s", what, names[i]);
		check(&all[i], name);
	}
	FM_TEST(harness_identity(&h), "%s: the sum", what);
}

static void test_mix(const char *what)
{
	begin();
	give_mix(MONITORED, FM_HOOK_INGRESS, 0, 1000);
	give_mix(OUT, FM_HOOK_EGRESS, MONITORED, 1000);
	give_mix(OUT, FM_HOOK_EGRESS, 0, 2000);
	give_mix(OUT, FM_HOOK_INGRESS, 0, 3000);
	give_mix(NO_GATE, FM_HOOK_INGRESS, 0, 4000);
	give_ignored(MONITORED, FM_HOOK_INGRESS, 0);
	give_ignored(OUT, FM_HOOK_EGRESS, MONITORED);
	give_ignored(MONITORED, FM_HOOK_EGRESS, 0);
	check_all(what);
}

/* More flows than places: those without count at their interface as well. */
static void test_full(void)
{
	struct fm_count before;

	begin();
	for (unsigned int i = 0; i < 500; i++) {
		struct given *given;

		before = harness_count(&h, FM_COUNTER_overflow);
		udp((uint16_t)(10000 + i), 20);
		given = GIVE(1, 48, .ifindex = i & 1 ? MONITORED : OUT);
		if (given)
			given->aggregated +=
				harness_count(&h, FM_COUNTER_overflow).packets - before.packets;
	}
	FM_TEST(given_to(MONITORED, FM_HOOK_INGRESS)->aggregated > 10, "places ran out");
	check_all("full");
}

static int test_options(bool tcp_measured, const char *what)
{
	struct fm_kernel_options options = {.max_flows = 64, .tcp = tcp_measured};
	int r = harness_init(&h, &options);

	if (r < 0)
		return r;
	fm_kernel_set_seen(h.kernel, MONITORED, true);
	for (size_t i = 0; i < FM_ARRAY_SIZE(all); i++)
		if (all[i].ifindex != NO_GATE)
			fm_gates_open(fm_kernel_gates(h.kernel), all[i].ifindex, all[i].hook);
	test_mix(what);
	test_full();
	harness_done(&h);
	return 0;
}

int main(void)
{
	int r;

	if (!harness_allowed())
		return fm_test_skip_all("needs root");
	r = harness_devices(3);
	if (r == 0)
		r = test_options(false, "mix");
	if (r == 0)
		r = test_options(true, "mix with TCP measured");
	if (r < 0)
		return fm_test_bail("cannot begin", r);
	return fm_test_done();
}
