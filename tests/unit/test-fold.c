/* SPDX-License-Identifier: Apache-2.0 */
/* Partial flows of several CPUs become one; what was exported does not count again. */
#include "daemon/fold.h"

#include <string.h>

#include "base/macro.h"
#include "test.h"

/* What one CPU holds of a conversation, and what of it was exported. */
struct part {
	struct fm_slot slot;
	struct fm_tcp_slot tcp;
	struct fm_tunnel tunnel;
	struct fm_exported exported;
	struct fm_tcp_exported tcp_exported;
};

static const struct fm_key key = {.protocol = 6, .family = 4};

static struct fm_conversation fold(struct part *parts, size_t n, bool keep)
{
	struct fm_conversation conversation;

	fm_fold_init(&conversation, &key);
	for (size_t i = 0; i < n; i++) {
		struct fm_exported now;
		struct fm_tcp_exported tcp_now;

		fm_fold_slot(&conversation, &parts[i].slot, &parts[i].exported, &now);
		fm_fold_tcp(&conversation, &parts[i].slot, &parts[i].tcp, &parts[i].tcp_exported,
			    &tcp_now);
		fm_fold_tunnel(&conversation, &parts[i].tunnel);
		if (!keep)
			continue;
		parts[i].exported = now;
		parts[i].tcp_exported = tcp_now;
	}
	return conversation;
}

/* The older CPU 0, and CPU 1 that saw the last packet. */
static void make(struct part parts[2])
{
	memset(parts, 0, 2 * sizeof(*parts));
	parts[0].slot.half[0] = (struct fm_half){
		.packets = 10, .octets = 1000, .first_ns = 5, .last_tick = 100, .flow_label = 7};
	parts[1].slot.half[0] = (struct fm_half){
		.packets = 20, .octets = 3000, .first_ns = 9, .last_tick = 200, .flow_label = 8};
	parts[0].tcp.half[0] = (struct fm_tcp_half){.retransmitted_packets = 3,
						    .rtt_sum_us = 100,
						    .rtt_samples = 2,
						    .rtt_low = ~40u,
						    .rtt_max_us = 60,
						    .window_last = ~1000u,
						    .mss = 1460,
						    .zero_windows = 1,
						    .notes = FM_TCP_NOTE_MEASURED};
	parts[1].tcp.half[0] = (struct fm_tcp_half){.retransmitted_packets = 4,
						    .rtt_sum_us = 200,
						    .rtt_samples = 3,
						    .rtt_low = ~70u,
						    .rtt_max_us = 80,
						    .window_last = ~2000u,
						    .zero_windows = 2,
						    .notes = FM_TCP_NOTE_SYN};
	parts[0].tunnel =
		(struct fm_tunnel){.type = FM_TUNNEL_GTPU, .family = 4, .id = {1, FM_TUNNEL_NO_ID}};
	parts[1].tunnel =
		(struct fm_tunnel){.type = FM_TUNNEL_GTPU, .family = 4, .id = {FM_TUNNEL_NO_ID, 2}};
}

static bool is_folded(const struct fm_conversation *c)
{
	const struct fm_half *half = &c->half[0];
	const struct fm_tcp_half *tcp = &c->tcp[0];

	return half->packets == 30 && half->octets == 4000 && half->first_ns == 5 &&
	       half->last_tick == 200 && half->flow_label == 7 && c->measured &&
	       tcp->retransmitted_packets == 7 && tcp->rtt_sum_us == 300 && tcp->rtt_samples == 5 &&
	       tcp->rtt_low == ~40u && tcp->rtt_max_us == 80 && tcp->window_last == ~2000u &&
	       tcp->mss == 1460 && tcp->zero_windows == 3 &&
	       tcp->notes == (FM_TCP_NOTE_MEASURED | FM_TCP_NOTE_SYN);
}

static void test_parts(void)
{
	struct fm_conversation c;
	struct part parts[2], turned[2];

	make(parts);
	c = fold(parts, 2, false);
	FM_TEST(is_folded(&c), "two CPUs make one");
	FM_TEST(c.tunnel.id[0] == 1 && c.tunnel.id[1] == 2, "each direction knows its tunnel id");
	turned[0] = parts[1];
	turned[1] = parts[0];
	c = fold(turned, 2, false);
	FM_TEST(is_folded(&c), "in any order");
}

static void test_exported(void)
{
	struct fm_conversation c;
	struct part parts[2];

	make(parts);
	fold(parts, 2, true);
	c = fold(parts, 2, true);
	FM_TEST(c.half[0].packets == 0 && c.tcp[0].retransmitted_packets == 0 &&
			c.tcp[0].rtt_sum_us == 0 && c.tcp[0].rtt_samples == 0 &&
			c.tcp[0].zero_windows == 0,
		"what was exported does not count again");
	FM_TEST(c.tcp[0].rtt_low == ~40u && c.tcp[0].mss == 1460 && c.tcp[0].window_last == ~2000u,
		"extremes and last values are of the whole flow");
	parts[1].slot.half[0].packets++;
	parts[1].tcp.half[0].retransmitted_packets += 5;
	parts[1].tcp.half[0].zero_windows = 1; /* wrapped around: 65,535 more */
	c = fold(parts, 2, true);
	FM_TEST(c.half[0].packets == 1 && c.tcp[0].retransmitted_packets == 5 &&
			c.tcp[0].zero_windows == 65535,
		"what came since does");
}

/* A CPU whose half counted no packet has nothing to say of it. */
static void test_empty(void)
{
	struct fm_conversation c;
	struct part parts[2];

	make(parts);
	parts[1].slot.half[0].packets = 0;
	c = fold(parts, 2, false);
	FM_TEST(c.half[0].packets == 10 && c.tcp[0].retransmitted_packets == 3 && !c.seen[1],
		"a half without packets is left out");
}

/* TCP flags of the two sides, ends told otherwise, and whether that is the end. */
static void test_ended(void)
{
	static const struct {
		uint8_t flags[2], ends[2];
		bool ended;
	} rows[] = {
		{{0x1a, 0x12}, {0, 0}, false},		{{0x1b, 0x12}, {0, 0}, false},
		{{0x1a, 0x13}, {0, 0}, false},		{{0x1b, 0x13}, {0, 0}, true},
		{{0x1e, 0x12}, {0, 0}, true},		{{0x02, 0x14}, {0, 0}, true},
		{{0, 0}, {FM_END_SCTP_ABORT, 0}, true}, {{0, 0}, {0, FM_END_SCTP_ABORT}, true},
	};
	unsigned int wrong = 0;

	for (size_t i = 0; i < FM_ARRAY_SIZE(rows); i++) {
		struct fm_conversation c;

		fm_fold_init(&c, &key);
		for (unsigned int d = 0; d < 2; d++) {
			c.half[d].tcp_flags = rows[i].flags[d];
			c.half[d].ends = rows[i].ends[d];
		}
		wrong += fm_fold_ended(&c) != rows[i].ended;
	}
	FM_TEST(wrong == 0, "a connection ends by FIN of both sides, or RST or abort of one");
}

int main(void)
{
	test_parts();
	test_exported();
	test_empty();
	test_ended();
	return fm_test_done();
}
