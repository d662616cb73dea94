/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The cells that TCP connections are measured in: too few of them, packets of one connection on
 * several CPUs, and segments that mean no good.
 */
#include <stdlib.h>
#include <string.h>

#include <netinet/in.h>
#include <unistd.h>

#include "base/macro.h"
#include "bpf/hash.h"
#include "daemon/fold.h"
#include "talk.h"
#include "test.h"

#define CELLS_FLOWS   16
#define CELLS	      (CELLS_FLOWS * 5 / 4 + FM_CELL_PROBES - 1)
#define CONNECTIONS   40
#define HOME_CELLS    5120
#define HOME_PORTS    1000
#define HOSTILE_FLOWS 4
#define HOSTILE	      100000

/* Nothing has to be soon. */
#define SLOW_US 600000000

static struct harness h;

static struct fm_region *region(void)
{
	return &h.generation->regions[h.cpu];
}

/* Handshake and a request, answered: three packets of each side. */
static void greet(void)
{
	say(A, .more = SYN, .bare = true, .scale = 8);
	say(B, .more = SYN, .scale = 8);
	say(A);
	say(A, .payload = 100, .more = PSH);
	say(B, .payload = 100, .more = PSH);
	say(B, .payload = 100, .more = PSH);
}

/* What a slot's notes must be: measured from the first packet to the last, or not at all. */
static bool all_or_nothing(const struct fm_tcp_half *half)
{
	static const struct fm_tcp_half missed = {.notes = FM_TCP_NOTE_MISSED};

	if (half->notes & FM_TCP_NOTE_MEASURED)
		return !(half->notes & (FM_TCP_NOTE_MISSED | FM_TCP_NOTE_MIDSTREAM));
	return memcmp(half, &missed, sizeof(missed)) == 0;
}

static void full(void)
{
	uint64_t missed = 0, held = 0, overflow;
	unsigned int measured = 0;
	bool good = true;

	talk_open();
	for (unsigned int i = 0; i < CONNECTIONS; i++) {
		greet();
		talk_next();
	}
	for (uint32_t i = 0; i < h.generation->n_slots; i++) {
		const struct fm_slot *slot = &region()->slots[i];

		if (slot->tag < FM_TAG_CLOSING)
			continue;
		for (unsigned int d = 0; d < 2; d++) {
			const struct fm_tcp_half *half = &region()->tcp[i].half[d];

			held += slot->half[d].packets;
			good &= all_or_nothing(half);
			good &= talk_equal(half, &(struct fm_tcp_half){}, "any");
			if (half->notes & FM_TCP_NOTE_MISSED)
				missed += slot->half[d].packets;
			else
				measured++;
		}
	}
	overflow = harness_count(&h, FM_COUNTER_overflow).packets;
	talk_same(held + overflow, 6 * CONNECTIONS, "no packet is lost");
	talk_true(good, "each is measured from first to last or not at all");
	talk_same(harness_count(&h, FM_COUNTER_not_measured).packets, missed, "told how many not");
	talk_true(missed + overflow >= 6 * (CONNECTIONS - CELLS), "as many as have no cell");
	talk_true(measured >= 16, "the others are");
}

/* What ended makes room; and leaves nothing behind. */
static void room_again(void)
{
	fm_kernel_set_live(h.kernel, 100000, 2);
	talk_open();
	for (unsigned int i = 0; i < CONNECTIONS; i++) {
		greet();
		say(A, .payload = 1000);
		say(A, .more = RST);
		talk_next();
	}
	talk_pause(100);
	talk_open();
	greet();
	talk_true(all_or_nothing(talk_half(A)) && (talk_half(A)->notes & FM_TCP_NOTE_MEASURED),
		  "a new connection finds a cell");
	talk_same(talk_half(A)->app_samples + talk_half(B)->app_samples, 1, "is measured");
	expect(A, "nothing is left in it: A");
	expect(B, "nothing is left in it: B");
	fm_kernel_set_live(h.kernel, 100000, 100000);
}

/* Who was silent too long loses its cell, and is picked up again or not measured any more. */
static void displaced(void)
{
	const uint8_t lost = FM_TCP_NOTE_MIDSTREAM | FM_TCP_NOTE_MISSED;
	struct talk first;
	unsigned int port;

	fm_kernel_set_live(h.kernel, 2, 2);
	talk_open();
	greet();
	first = talk;
	talk_pause(100);
	for (unsigned int i = 0; i < CONNECTIONS; i++) {
		talk_next();
		greet();
	}
	fm_kernel_set_live(h.kernel, 100000, 100000);
	port = talk.port;
	memcpy(talk.side, first.side, sizeof(talk.side));
	talk.port = first.port;
	say(A);
	say(A, .payload = 100);
	say(B);
	for (uint32_t i = 0; i < h.generation->n_slots; i++) {
		const struct fm_slot *slot = &region()->slots[i];
		const struct fm_tcp_half *half = region()->tcp[i].half;

		if (slot->tag < FM_TAG_CLOSING || slot->key.port[A] != htons(first.port))
			continue;
		talk_same(slot->half[A].packets, 5, "its slot");
		talk_true((half[A].notes & lost) && (half[B].notes & lost), "noted");
		talk_true(talk_equal(&half[A], &(struct fm_tcp_half){}, "A"), "nothing wrong of A");
		talk_true(talk_equal(&half[B], &(struct fm_tcp_half){}, "B"), "nothing wrong of B");
	}
	talk.port = port;
}

/* A conversation that has a little of all, and nothing that would be another thing if later. */
static void converse(void)
{
	shake(.stamps = true);
	for (unsigned int i = 0; i < 10; i++) {
		say(A, .payload = 100, .more = PSH, .window = 400 + i, .ecn = 2);
		say(B, .payload = 1000);
		say(B, .payload = 1000);
		say(B, .payload = 1000, .more = PSH, .window = 600 - i);
	}
	say(A);
	for (unsigned int i = 0; i < 6; i++)
		say(B, .payload = 1000);
	say(A, .ack = 32001);
	for (unsigned int i = 0; i < 3; i++)
		say(A, .ack = 32001, .sack = {{33001, 34001 + i * 1000}});
	talk_pause(20);
	say(B, .seq = 32001, .payload = 1000);
	say(A, .window = -1, .more = ECE);
	say(A, .window = 10);
	say(B, .payload = 1280);
	talk_pause(260);
	say(B, .seq = 36001, .payload = 1280);
	say(A, .window = 300);
	say(A, .seq = 1000, .payload = 1);
	say(B);
	say(B, .seq = 40001, .payload = 1000, .ts = 100);
	say(B, .seq = 37281, .payload = 2720, .ts = 99);
	say(A);
	talk_pause(20);
	say(A, .payload = 10);
	say(B, .window = 123);
	say(B, .more = FIN);
	/* The last window, and behind it a packet on the other CPU that does not change it. */
	say(A, .payload = 10, .window = 321);
	talk_pause(20);
	say(A, .payload = 10);
}

/* The conversation over all CPUs. */
static void fold(struct fm_conversation *ret)
{
	static const struct fm_exported before;
	static const struct fm_tcp_exported tcp_before;
	struct fm_exported now;
	struct fm_tcp_exported tcp_now;
	bool first = true;

	memset(ret, 0, sizeof(*ret));
	for (unsigned int cpu = 0; cpu < h.generation->n_cpus; cpu++) {
		const struct fm_region *of = &h.generation->regions[cpu];

		for (uint32_t i = 0; of->slots && i < h.generation->n_slots; i++) {
			if (of->slots[i].tag < FM_TAG_CLOSING ||
			    of->slots[i].key.port[A] != htons(talk.port))
				continue;
			if (first)
				fm_fold_init(ret, &of->slots[i].key);
			first = false;
			fm_fold_slot(ret, &of->slots[i], &before, &now);
			fm_fold_tcp(ret, &of->slots[i], &of->tcp[i], &tcp_before, &tcp_now);
		}
	}
}

#define SAME(row)                                                                                  \
	if (one->row != many->row) {                                                               \
		printf("# " #row " %lu on one CPU, %lu on two\n", (unsigned long)one->row,         \
		       (unsigned long)many->row);                                                  \
		same = false;                                                                      \
	}

/* All but times. */
static bool same_figures(const struct fm_tcp_half *one, const struct fm_tcp_half *many)
{
	bool same = talk_equal(many, one, "two CPUs");

	SAME(rtt_samples)
	SAME(app_samples)
	SAME(window_low)
	SAME(window_max)
	SAME(window_last)
	SAME(mss)
	SAME(scale)
	SAME(options)
	SAME(ecn)
	SAME(notes)
	return same;
}

static void cpus(void)
{
	struct fm_conversation one, many[2];

	for (unsigned int i = 0; i < 2; i++) {
		talk.split = i == 0 ? TALK_BY_SIDE : TALK_BY_PACKET;
		converse();
		fold(&many[i]);
	}
	talk.split = TALK_ONE_CPU;
	converse();
	fold(&one);
	expect(B, "as told", .retransmitted_packets = 2, .retransmitted_octets = 2280,
	       .fast_packets = 1, .timeout_packets = 1, .window_fulls = 1, .out_of_order = 1);
	talk_same(~one.tcp[A].window_last, 321 << 7, "A's last window");
	expect(A, "as told", .dup_acks = 3, .ect = 10, .zero_windows = 1, .ece = 1);
	for (unsigned int i = 0; i < 2; i++) {
		talk_same(many[i].half[A].packets, one.half[A].packets, "packets of A");
		talk_same(many[i].half[B].packets, one.half[B].packets, "packets of B");
		talk_true(same_figures(&one.tcp[A], &many[i].tcp[A]),
			  i == 0 ? "a CPU a side: A" : "by turns: A");
		talk_true(same_figures(&one.tcp[B], &many[i].tcp[B]),
			  i == 0 ? "a CPU a side: B" : "by turns: B");
	}
}

/* A figure that no segments can make. */
static const char *impossible(const struct fm_half *half, const struct fm_tcp_half *tcp)
{
	const uint64_t n = half->packets;

	if ((uint64_t)tcp->retransmitted_packets + tcp->out_of_order + tcp->duplicates +
		    tcp->dup_acks >
	    n)
		return "a packet is more than one thing";
	if (tcp->retransmitted_octets > half->octets)
		return "more octets again than at all";
	if ((uint64_t)tcp->fast_packets + tcp->timeout_packets > tcp->retransmitted_packets ||
	    tcp->syn_again > tcp->retransmitted_packets)
		return "more kinds than retransmissions";
	if (tcp->ect > n || tcp->ce > tcp->ect || tcp->ece > 7 * n || tcp->cwr > n)
		return "more marks than packets";
	if (tcp->zero_windows > n || tcp->window_fulls > n || tcp->refused > n)
		return "more windows than packets";
	if (tcp->rtt_samples > n || tcp->app_samples > n)
		return "more times than packets";
	if (tcp->rtt_samples && (~tcp->rtt_low > tcp->rtt_max_us ||
				 tcp->rtt_sum_us > (uint64_t)tcp->rtt_samples * tcp->rtt_max_us ||
				 tcp->rtt_sum_us < (uint64_t)tcp->rtt_samples * ~tcp->rtt_low))
		return "round trips";
	if (tcp->app_sum_us > (uint64_t)tcp->app_samples * tcp->app_max_us)
		return "answer times";
	if (tcp->window_low &&
	    (~tcp->window_low > ~tcp->window_last || ~tcp->window_last > tcp->window_max))
		return "windows";
	return NULL;
}

static bool hostile_figures(void)
{
	bool good = true;

	for (uint32_t i = 0; i < h.generation->n_slots; i++) {
		for (unsigned int d = 0; d < 2 && region()->slots[i].tag >= FM_TAG_CLOSING; d++) {
			const char *why =
				impossible(&region()->slots[i].half[d], &region()->tcp[i].half[d]);

			if (why)
				printf("# slot %u, side %u: %s\n", i, d, why);
			good &= !why;
		}
	}
	return good;
}

/* Near a few numbers, so that segments meet; some far. */
static uint32_t hostile_number(void)
{
	uint32_t near = (uint32_t)(random() % 4) << 30;

	return random() % 16 ? near + random() % 3000 - 1500 : (uint32_t)random() * 3;
}

static uint16_t hostile_flags(void)
{
	static const uint16_t usual[] = {ACK, ACK, ACK, ACK | PSH, ACK | PSH, SYN, SYN | ACK};

	return random() % 8 ? usual[random() % FM_ARRAY_SIZE(usual)] : random() % 512;
}

static uint8_t hostile_options(uint8_t *octets)
{
	static const uint8_t usual[] = {0, 1, 2, 3, 4, 5, 8, 10, 18, 30, 34, 172, 174};

	for (unsigned int i = 0; i < 40; i++)
		octets[i] = random() % 4 ? usual[random() % sizeof(usual)] : random();
	return random() % 2 ? 4 * (random() % 11) : 0;
}

static int hostile_segment(struct packet *p)
{
	unsigned int flow = random() % HOSTILE_FLOWS, from = random() & 1;
	struct harness_run how = {.hook = flow == 0 && from == A ? FM_HOOK_EGRESS
								 : FM_HOOK_INGRESS};
	uint8_t octets[40], n_options = hostile_options(octets);
	uint16_t payload = random() % 3 ? random() % 1400 : random() % 2;

	packet_new(p);
	packet_eth(p);
	if (flow == 1)
		packet_ip6(p, .src = 1 + from, .dst = 2 - from, .next = IPPROTO_TCP,
			   .traffic_class = random() % 4);
	else
		packet_ip4(p, .src = 0x0a000001 + from, .dst = 0x0a000002 - from,
			   .protocol = IPPROTO_TCP, .id = random() % 4, .tos = random() % 4);
	packet_segment(p, .src = from == A ? flow + 1 : 443, .dst = from == A ? 443 : flow + 1,
		       .seq = hostile_number(), .ack = hostile_number(), .flags = hostile_flags(),
		       .window = random() % 4 ? random() : 0, .options = octets,
		       .n_options = n_options);
	packet_payload(p, payload);
	/* A header that says it is longer than it is, or shorter. */
	if (random() % 64 == 0)
		p->data[p->length - payload - n_options - 8] ^= random() & 0xf0;
	else if (payload > 500 && random() % 4 == 0)
		how.gso_size = 500;
	packet_end(p);
	return harness_run(&h, p->data, p->length, &how);
}

static void hostile(void)
{
	static struct packet p;
	unsigned int not_taken = 0;
	bool good = true;

	talk_open();
	srandom(1);
	for (unsigned int i = 1; i <= HOSTILE && good; i++) {
		not_taken += hostile_segment(&p) < 0;
		if (i % 1000 == 0)
			good = harness_identity(&h) && hostile_figures();
	}
	talk_same(not_taken, 0, "every packet goes on");
	talk_true(good, "no figure is more than its packets");
	talk_same(harness_count(&h, FM_COUNTER_seen).packets >= HOSTILE, true, "all were seen");
}

static uint64_t wide_random(void)
{
	return (uint64_t)random() << 62 ^ (uint64_t)random() << 31 ^ random();
}

/* Connections of one client to one server that find no cell, with these seeds. */
static unsigned int homeless(const uint64_t *seed, const struct fm_key *client)
{
	bool used[HOME_CELLS + FM_CELL_PROBES] = {};
	struct fm_key key = *client;
	unsigned int missed = 0;

	for (unsigned int i = 0; i < HOME_PORTS; i++) {
		uint32_t home, n = 0;

		key.port[0] = htons(20000 + i);
		home = fm_hash_home(fm_hash(&key, (const __u64 *)seed) | 1, HOME_CELLS);
		while (n < FM_CELL_PROBES && used[home + n])
			n++;
		if (n < FM_CELL_PROBES)
			used[home + n] = true;
		else
			missed++;
	}
	return missed;
}

/* Ports one behind the other are no worse than any: with random homes 1 in 100000 finds none. */
static void consecutive_ports(void)
{
	const struct fm_key client = {
		.addr = {{[10] = 0xff, 0xff, 10, 0, 0, 1}, {[10] = 0xff, 0xff, 10, 0, 0, 2}},
		.port = {0, htons(443)},
		.protocol = IPPROTO_TCP,
		.family = 4,
	};
	unsigned int worst = 0;
	uint64_t seed[FM_SEEDS];

	talk_open();
	srandom(1);
	for (unsigned int i = 0; i < 2000; i++) {
		unsigned int missed;

		for (unsigned int j = 0; j < FM_SEEDS; j++)
			seed[j] = wide_random();
		missed = homeless(seed, &client);
		worst = FM_MAX(worst, missed);
	}
	printf("# at most %u of %u find no cell\n", worst, HOME_PORTS);
	talk_true(worst <= HOME_PORTS / 100, "whatever the seeds, nearly all find a cell");
}

/* Each with cells of its own. */
static const struct talk_case few[] = {
	TALK_CASE("no cells left", full, .modes = 1 << TALK_IP4, .budget_us = SLOW_US),
	TALK_CASE("no cells left", full, .modes = 1 << TALK_IP6, .budget_us = SLOW_US),
	TALK_CASE("room again", room_again, .modes = 1 << TALK_IP4, .budget_us = SLOW_US),
	TALK_CASE("displaced", displaced, .modes = 1 << TALK_IP4, .budget_us = SLOW_US),
	TALK_CASE("consecutive ports", consecutive_ports, .modes = 1 << TALK_IP4,
		  .budget_us = SLOW_US),
};

static const struct talk_case many_cpus[] = {
	TALK_CASE("two CPUs", cpus, .budget_us = SLOW_US),
};

static const struct talk_case enemies[] = {
	TALK_CASE("hostile segments", hostile, .modes = TALK_ONLY_IP4, .budget_us = SLOW_US),
};

static void report(bool ok, const char *name)
{
	fm_test_ok(ok, "%s", name);
}

static int with_flows(uint64_t max_flows, const struct talk_case *cases, size_t n)
{
	struct fm_kernel_options options = {.max_flows = max_flows, .tcp = true};
	int r;

	r = harness_init(&h, &options);
	if (r < 0)
		return r;
	fm_kernel_set_live(h.kernel, 100000, 100000);
	talk_run(&h, report, cases, n);
	harness_done(&h);
	return 0;
}

int main(void)
{
	int r = 0;

	if (!harness_allowed())
		return fm_test_skip_all("needs root");
	for (size_t i = 0; r == 0 && i < FM_ARRAY_SIZE(few); i++)
		r = with_flows(CELLS_FLOWS, &few[i], 1);
	if (r == 0 && sysconf(_SC_NPROCESSORS_ONLN) > 1)
		r = with_flows(1024, many_cpus, FM_ARRAY_SIZE(many_cpus));
	if (r == 0)
		r = with_flows(64, enemies, FM_ARRAY_SIZE(enemies));
	if (r < 0)
		return fm_test_bail("harness", r);
	return fm_test_done();
}
