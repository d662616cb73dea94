/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What the TCP metrics make of losses and repetitions: each case is a conversation whose figures
 * follow from the RFC that it names.
 */
#include "base/macro.h"
#include "talk.h"

static struct harness h;

/* What is sent in order and acknowledged is none of it. */
static void plain(void)
{
	shake();
	say(A, .payload = 1000, .more = PSH);
	say(B, .payload = 100, .more = PSH);
	say(A);
	for (unsigned int i = 0; i < 100; i++) {
		say(B, .payload = 1448);
		say(B, .payload = 1448);
		say(A);
	}
	say(A, .more = FIN);
	say(B);
	say(B, .more = FIN);
	say(A);
	expect(A, "nothing to tell of A");
	expect(B, "nothing to tell of B");
}

/* RFC 9293 3.8.4: an octet that was acknowledged, or none, below the next one. */
static void keep_alive(void)
{
	shake();
	say(A, .payload = 1000);
	say(B, .payload = 100);
	say(A);
	for (unsigned int i = 0; i < 3; i++) {
		say(A, .seq = 1000);
		say(B);
		say(B, .seq = 100, .payload = 1);
		say(A);
		talk_pause(i == 1 ? 260 : 20);
	}
	expect(A, "keep-alives without data are no repetition");
	expect(B, "keep-alives of one octet are none either");
	say(A, .payload = 10);
	talk_pause(20);
	say(A, .seq = 1001, .payload = 10);
	expect(A, "data after them are", .retransmitted_packets = 1, .retransmitted_octets = 10);
}

/* One octet that was not acknowledged is no keep-alive. */
static void one_octet(void)
{
	shake();
	say(A, .payload = 1);
	talk_pause(20);
	say(A, .seq = 1, .payload = 1);
	expect(A, "one octet again", .retransmitted_packets = 1, .retransmitted_octets = 1);
}

/* RFC 6675 5: the second of five segments was lost behind this point. */
static void sack(void)
{
	shake();
	for (unsigned int i = 0; i < 5; i++)
		say(A, .payload = 1000);
	say(B, .ack = 1001);
	for (unsigned int i = 1; i <= 3; i++)
		say(B, .ack = 1001, .sack = {{2001, 2001 + i * 1000}});
	say(A, .seq = 1001, .payload = 1000);
	say(B, .ack = 5001);
	expect(A, "one fast retransmission", .retransmitted_packets = 1,
	       .retransmitted_octets = 1000, .fast_packets = 1);
	expect(B, "three duplicate acknowledgements", .dup_acks = 3);
}

/* The same; with the whole loss and its repair to both sides of 2^32, and exactly on it. */
static void wraparound(void)
{
	for (uint32_t at = 0; at <= 2; at++) {
		/* The first segment ends before, on and behind 2^32. */
		shake(.isn = {0xfffffc17 - 1 + at, 0xffffff9a + at});
		for (unsigned int i = 0; i < 4; i++)
			say(A, .payload = 1000, .more = PSH);
		say(B, .ack = 1, .sack = {{1001, 2001}});
		say(B, .ack = 1, .sack = {{1001, 3001}});
		say(B, .ack = 1, .sack = {{1001, 4001}});
		talk_pause(20);
		say(A, .seq = 1, .payload = 1000);
		say(B, .payload = 100);
		say(A);
		say(B, .payload = 100);
		say(A);
		talk_pause(20);
		say(B, .seq = 1, .payload = 200);
		expect(A, "fast retransmission", .retransmitted_packets = 1,
		       .retransmitted_octets = 1000, .fast_packets = 1);
		expect(B, "what was acknowledged, again", .retransmitted_packets = 1,
		       .retransmitted_octets = 200, .dup_acks = 3);
	}
}

/* RFC 2018 5: a retransmission is below the blocks; two segments were lost. */
static void sack_two(void)
{
	shake();
	for (unsigned int i = 0; i < 6; i++)
		say(A, .payload = 1000);
	say(B, .ack = 1, .sack = {{1001, 2001}});
	say(B, .ack = 1, .sack = {{3001, 4001}, {1001, 2001}});
	say(B, .ack = 1, .sack = {{3001, 5001}, {1001, 2001}});
	say(B, .ack = 1, .sack = {{3001, 6001}, {1001, 2001}});
	say(A, .seq = 1, .payload = 1000);
	say(B, .ack = 2001, .sack = {{3001, 6001}});
	say(A, .seq = 2001, .payload = 1000);
	say(B, .ack = 6001);
	expect(A, "both are fast", .retransmitted_packets = 2, .retransmitted_octets = 2000,
	       .fast_packets = 2);
	expect(B, "four duplicate acknowledgements", .dup_acks = 4);
}

/* The loss was before this point: what fills the gap comes a round trip later. */
static void sack_gap(void)
{
	shake(.rtt_ms = 20);
	say(A, .payload = 1000);
	for (unsigned int i = 2; i < 6; i++)
		say(A, .seq = i * 1000 + 1, .payload = 1000);
	say(B, .ack = 1001);
	for (unsigned int i = 1; i <= 4; i++)
		say(B, .ack = 1001, .sack = {{2001, 2001 + i * 1000}});
	talk_pause(60);
	say(A, .seq = 1001, .payload = 1000);
	say(B, .ack = 6001);
	expect(A, "what was not seen is a retransmission", .retransmitted_packets = 1,
	       .retransmitted_octets = 1000, .fast_packets = 1);
	expect(B, "four duplicate acknowledgements", .dup_acks = 4);
}

/* RFC 5681 3.2, without SACK. */
static void reno(void)
{
	shake();
	say(B, .payload = 1);
	for (unsigned int i = 0; i < 4; i++)
		say(A, .payload = 1000);
	for (unsigned int i = 0; i < 3; i++)
		say(B, .ack = 1);
	say(A, .seq = 1, .payload = 1000);
	say(B, .ack = 4001);
	expect(A, "one fast retransmission", .retransmitted_packets = 1,
	       .retransmitted_octets = 1000, .fast_packets = 1);
	expect(B, "three duplicate acknowledgements", .dup_acks = 3);
}

/* RFC 6582 3.2 step 3: what a partial acknowledgement leaves is still the same fast recovery. */
static void newreno(void)
{
	shake();
	say(B, .payload = 1);
	for (unsigned int i = 0; i < 6; i++)
		say(A, .payload = 1000);
	for (unsigned int i = 0; i < 4; i++)
		say(B, .ack = 1);
	say(A, .seq = 1, .payload = 1000);
	say(B, .ack = 2001);
	say(A, .seq = 2001, .payload = 1000);
	say(B, .ack = 6001);
	expect(A, "both are fast", .retransmitted_packets = 2, .retransmitted_octets = 2000,
	       .fast_packets = 2);
	expect(B, "four duplicate acknowledgements", .dup_acks = 4);
}

/* RFC 5681 2: a to e. */
static void dup_acks(void)
{
	shake();
	say(A, .payload = 1000);
	say(B);
	say(B);
	expect(B, "nothing is outstanding");
	say(A, .payload = 1000);
	say(B, .ack = 1001, .payload = 10);
	say(B, .ack = 1001, .payload = 10);
	expect(B, "there are data in them");
	say(B, .ack = 1001, .window = 600);
	say(B, .ack = 1001, .window = 700);
	expect(B, "they open the window");
	say(B, .ack = 1001, .more = FIN);
	expect(B, "FIN is none");
	talk_pause(20);
	say(A, .seq = 1001, .payload = 1000);
	expect(A, "none of these makes a retransmission fast", .retransmitted_packets = 1,
	       .retransmitted_octets = 1000);
	say(B, .ack = 1001, .more = RST);
	expect(B, "RST acknowledges nothing");
}

/* RFC 6675 2: with new blocks an acknowledgement is a duplicate whatever the window. */
static void dup_acks_sack(void)
{
	shake();
	for (unsigned int i = 0; i < 4; i++)
		say(A, .payload = 1000);
	for (unsigned int i = 1; i <= 3; i++)
		say(B, .ack = 1, .window = 500 + i, .sack = {{1001, 1001 + i * 1000}});
	say(A, .seq = 1, .payload = 1000);
	expect(A, "fast", .retransmitted_packets = 1, .retransmitted_octets = 1000,
	       .fast_packets = 1);
	expect(B, "three", .dup_acks = 3);
}

/* RFC 2883 4: blocks below the acknowledgement report what came twice, and miss nothing. */
static void dsack(void)
{
	shake();
	for (unsigned int i = 0; i < 3; i++)
		say(A, .payload = 1000);
	say(B, .ack = 3001);
	say(A, .payload = 1000);
	say(B, .ack = 3001, .window = 510, .sack = {{1001, 2001}});
	expect(B, "no new information, another window: RFC 6675 2");
	talk_pause(20);
	say(A, .seq = 3001, .payload = 1000);
	expect(A, "does not make a retransmission fast", .retransmitted_packets = 1,
	       .retransmitted_octets = 1000);
	say(B, .ack = 4001, .sack = {{3001, 4001}});
	say(A, .payload = 1000);
	talk_pause(20);
	say(A, .seq = 4001, .payload = 1000);
	expect(A, "nor does one that acknowledges", .retransmitted_packets = 2,
	       .retransmitted_octets = 2000);
	expect(B, "and counts nothing");
}

/* RFC 8985 7: the last segment again, soon. */
static void tail_loss_probe(void)
{
	shake();
	for (unsigned int i = 0; i < 3; i++)
		say(A, .payload = 1000);
	talk_pause(40);
	say(A, .seq = 2001, .payload = 1000);
	say(B, .ack = 3001, .sack = {{2001, 3001}});
	expect(A, "neither fast nor timeout", .retransmitted_packets = 1,
	       .retransmitted_octets = 1000);
	expect(B, "its answer is no duplicate");
	say(A, .payload = 1000);
	talk_pause(40);
	say(A, .payload = 500);
	say(B);
	expect(A, "new data as probe are no repetition", .retransmitted_packets = 1,
	       .retransmitted_octets = 1000);
}

/* RFC 6298 5: nothing comes back; then all of it again, the first acknowledgements in between. */
static void timeout(void)
{
	shake();
	for (unsigned int i = 0; i < 4; i++)
		say(A, .payload = 1000);
	talk_pause(260);
	say(A, .seq = 1, .payload = 1000);
	say(B, .ack = 1001);
	say(A, .seq = 1001, .payload = 1000);
	say(A, .seq = 2001, .payload = 1000);
	say(B, .ack = 2001);
	say(B, .ack = 3001);
	say(A, .seq = 3001, .payload = 1000);
	say(B, .ack = 4001);
	expect(A, "all up to the recovery point", .retransmitted_packets = 4,
	       .retransmitted_octets = 4000, .timeout_packets = 4);
	for (unsigned int i = 0; i < 4; i++)
		say(A, .payload = 1000);
	for (unsigned int i = 0; i < 3; i++)
		say(B, .ack = 4001);
	say(A, .seq = 4001, .payload = 1000);
	say(B, .ack = 8001);
	expect(A, "what comes after is another matter", .retransmitted_packets = 5,
	       .retransmitted_octets = 5000, .timeout_packets = 4, .fast_packets = 1);
	expect(B, "with its duplicate acknowledgements", .dup_acks = 3);
}

/* RFC 6298 5.5: again and again, later and later. */
static void backoff(void)
{
	shake();
	say(A, .payload = 1000);
	say(A, .payload = 500);
	talk_pause(210);
	say(A, .seq = 1, .payload = 1000);
	talk_pause(420);
	say(A, .seq = 1, .payload = 1000);
	say(B, .ack = 1001);
	say(A, .seq = 1001, .payload = 500);
	say(B);
	expect(A, "three", .retransmitted_packets = 3, .retransmitted_octets = 2500,
	       .timeout_packets = 3);
}

/* RFC 5682 2.1: new data after the first acknowledgement show that the timeout was for nothing. */
static void forward_rto(void)
{
	shake();
	for (unsigned int i = 0; i < 4; i++)
		say(A, .payload = 1000);
	talk_pause(260);
	say(A, .seq = 1, .payload = 1000);
	say(B, .ack = 2001);
	say(A, .payload = 1000);
	say(A, .payload = 1000);
	say(B, .ack = 4001);
	say(B, .ack = 6001, .sack = {{1, 1001}});
	say(A, .payload = 1000);
	expect(A, "one", .retransmitted_packets = 1, .retransmitted_octets = 1000,
	       .timeout_packets = 1);
	expect(B, "no duplicate acknowledgements");
}

static void fin(void)
{
	shake();
	say(A, .payload = 100);
	say(A, .more = FIN);
	talk_pause(260);
	say(A, .seq = 101, .more = FIN);
	expect(A, "FIN again: RFC 6298", .retransmitted_packets = 1, .timeout_packets = 1);
	say(B);
	say(B, .payload = 50, .more = FIN);
	talk_pause(20);
	say(B, .seq = 1, .payload = 50, .more = FIN);
	say(A);
	expect(A, "its answers count nothing", .retransmitted_packets = 1, .timeout_packets = 1);
	expect(B, "with data", .retransmitted_packets = 1, .retransmitted_octets = 50);
}

/* RFC 9293 3.7.4: repacketised; what was sent before is part of it. */
static void overlap(void)
{
	shake();
	say(A, .payload = 1000);
	talk_pause(20);
	say(A, .seq = 501, .payload = 1000);
	expect(A, "the octets that were sent before", .retransmitted_packets = 1,
	       .retransmitted_octets = 500);
	say(A, .payload = 100);
	talk_pause(20);
	say(A, .seq = 1, .payload = 1600);
	expect(A, "all of it in one", .retransmitted_packets = 2, .retransmitted_octets = 2100);
}

/* Super-packets: the wire packets in them. */
static void segmentation(void)
{
	shake();
	say(A, .payload = 2500, .gso_size = 500);
	say(B, .ack = 501);
	say(B, .ack = 501, .sack = {{1501, 2501}});
	say(A, .seq = 501, .payload = 1000, .gso_size = 500);
	expect(A, "two of five", .retransmitted_packets = 2, .retransmitted_octets = 1000,
	       .fast_packets = 2);
	say(B, .ack = 2501);
	talk_pause(20);
	say(A, .seq = 1501, .payload = 2250, .gso_size = 500);
	expect(A, "two old, three new", .retransmitted_packets = 4, .retransmitted_octets = 2000,
	       .fast_packets = 2);
	say(A, .payload = 1250, .gso_size = 500);
	say(B);
	talk_pause(260);
	say(A, .seq = 3751, .payload = 1250, .gso_size = 500);
	expect(A, "the last is short", .retransmitted_packets = 7, .retransmitted_octets = 3250,
	       .fast_packets = 2, .timeout_packets = 3);
	expect(B, "one duplicate acknowledgement", .dup_acks = 1);
}

/* RFC 4737 3.3: late, not lost; no timestamps, so the time tells. */
static void out_of_order(void)
{
	shake(.rtt_ms = 100);
	say(A, .payload = 1000);
	say(A, .seq = 2001, .payload = 1000);
	say(A, .seq = 1001, .payload = 1000);
	expect(A, "one late", .out_of_order = 1);
	say(A, .seq = 5001, .payload = 1000);
	say(A, .seq = 3001, .payload = 1000);
	say(A, .seq = 4001, .payload = 1000);
	expect(A, "a gap of two filled in order", .out_of_order = 3);
	say(A, .seq = 8001, .payload = 1000);
	say(A, .seq = 7001, .payload = 1000);
	say(A, .seq = 6001, .payload = 1000);
	expect(A, "and against it", .out_of_order = 5);
	say(A, .seq = 10001, .payload = 1000);
	say(A, .seq = 12001, .payload = 1000);
	say(A, .seq = 11001, .payload = 1000);
	say(A, .seq = 9001, .payload = 1000);
	expect(A, "two gaps", .out_of_order = 7);
	say(A, .seq = 14001, .payload = 1000);
	say(A, .seq = 13001, .payload = 500);
	say(A, .seq = 13501, .payload = 500);
	expect(A, "in halves", .out_of_order = 9);
	say(A, .seq = 15001, .payload = 1000);
	expect(A, "going on", .out_of_order = 9);
}

/* The middle of a gap first. */
static void out_of_order_middle(void)
{
	shake(.rtt_ms = 100);
	say(A, .seq = 3001, .payload = 1000);
	say(A, .seq = 1001, .payload = 1000);
	say(A, .seq = 1, .payload = 1000);
	say(A, .seq = 2001, .payload = 1000);
	expect(A, "all three late", .out_of_order = 3);
}

static void out_of_order_slow(void)
{
	shake(.rtt_ms = 20);
	say(A, .payload = 1000);
	say(A, .seq = 2001, .payload = 1000);
	talk_pause(80);
	say(A, .seq = 1001, .payload = 1000);
	expect(A, "later than a round trip: sent again", .retransmitted_packets = 1,
	       .retransmitted_octets = 1000);
	say(A, .seq = 4001, .payload = 1000);
	talk_pause(260);
	say(A, .seq = 3001, .payload = 1000);
	expect(A, "and after silence by timeout", .retransmitted_packets = 2,
	       .retransmitted_octets = 2000, .timeout_packets = 1);
}

/* Round trips that are not known: 3 ms. */
static void out_of_order_unknown(void)
{
	talk_open();
	say(A, .seq = 1001, .ack = 1, .payload = 1000);
	say(A, .seq = 3001, .ack = 1, .payload = 1000);
	say(A, .seq = 2001, .ack = 1, .payload = 1000);
	expect(A, "one late", .out_of_order = 1);
}

/* RFC 7323 5.4: timestamps are of the time of sending. */
static void out_of_order_stamps(void)
{
	shake(.stamps = true, .rtt_ms = 10);
	say(A, .payload = 1000, .ts = 200);
	say(A, .seq = 2001, .payload = 1000, .ts = 202);
	talk_pause(80);
	say(A, .seq = 1001, .payload = 1000, .ts = 201);
	expect(A, "an older one: was late, however late", .out_of_order = 1);
	say(A, .seq = 4001, .payload = 1000, .ts = 300);
	say(A, .seq = 3001, .payload = 1000, .ts = 301);
	expect(A, "a newer one: was sent again, however soon", .out_of_order = 1,
	       .retransmitted_packets = 1, .retransmitted_octets = 1000);
	say(A, .seq = 6001, .payload = 1000, .ts = 400);
	talk_pause(80);
	say(A, .seq = 5001, .payload = 1000, .ts = 400);
	expect(A, "the same, after a round trip", .out_of_order = 1, .retransmitted_packets = 2,
	       .retransmitted_octets = 2000);
	shake(.stamps = true, .rtt_ms = 100);
	say(A, .seq = 1001, .payload = 1000, .ts = 400);
	say(A, .seq = 1, .payload = 1000, .ts = 400);
	expect(A, "the same, soon", .out_of_order = 1);
}

/* What was late is taken for lost: then it comes again. */
static void out_of_order_again(void)
{
	shake(.rtt_ms = 100);
	for (unsigned int i = 1; i <= 3; i++)
		say(A, .seq = i * 1000 + 1, .payload = 1000);
	say(A, .seq = 1, .payload = 1000);
	for (unsigned int i = 1; i <= 3; i++)
		say(B, .ack = 1, .sack = {{1001, 1001 + i * 1000}});
	say(B, .ack = 4001);
	say(A, .seq = 1, .payload = 1000);
	say(B, .ack = 4001, .sack = {{1, 1001}});
	expect(A, "first late, then again", .out_of_order = 1, .retransmitted_packets = 1,
	       .retransmitted_octets = 1000);
	expect(B, "three duplicate acknowledgements", .dup_acks = 3);
}

/* The network doubles packets, their identification with them (RFC 6864 4). */
static void copies(void)
{
	shake();
	say(A, .payload = 1000);
	say(A, .seq = 1, .payload = 1000, .copy = true);
	expect(A, "of data", .duplicates = 1);
	say(A, .payload = 1000);
	say(A, .seq = 2001, .payload = 500);
	say(A, .seq = 2001, .payload = 500, .copy = true);
	say(A, .seq = 2001, .payload = 500, .copy = true);
	expect(A, "twice", .duplicates = 3);
	say(B);
	say(A, .more = FIN);
	say(A, .seq = 2501, .more = FIN, .copy = true);
	expect(A, "of FIN", .duplicates = 4);
}

static void copies_of_acks(void)
{
	shake();
	say(A, .payload = 1000);
	say(A, .payload = 1000);
	say(B, .ack = 1001);
	say(B, .ack = 1001, .copy = true);
	expect(B, "data outstanding: no duplicate acknowledgement", .duplicates = 1);
	say(B, .ack = 2001);
	say(B, .ack = 2001, .copy = true);
	expect(B, "nothing outstanding", .duplicates = 2);
}

static void copies_of_syns(void)
{
	talk_open();
	say(A, .more = SYN, .bare = true);
	say(A, .more = SYN, .bare = true, .copy = true);
	say(B, .more = SYN);
	say(B, .more = SYN, .copy = true);
	say(A);
	expect(A, "of the SYN", .duplicates = 1);
	expect(B, "of the SYN-ACK", .duplicates = 1);
}

/* At once, but sent again: another identification. */
static void no_copies(void)
{
	shake();
	say(A, .payload = 1000);
	say(A, .seq = 1, .payload = 1000);
	expect(A, "sent again at once", .retransmitted_packets = 1, .retransmitted_octets = 1000);
}

/* Without identification. */
static void no_copies_later(void)
{
	shake();
	say(A, .payload = 1000);
	talk_pause(30);
	say(A, .seq = 1, .payload = 1000);
	expect(A, "sent again later", .retransmitted_packets = 1, .retransmitted_octets = 1000);
}

static const struct talk_case cases[] = {
	TALK_CASE("plain", plain),
	TALK_CASE("keep-alive", keep_alive),
	TALK_CASE("one octet", one_octet),
	TALK_CASE("SACK recovery", sack),
	TALK_CASE("wraparound", wraparound, .modes = TALK_ONLY_IP4),
	TALK_CASE("SACK recovery of two", sack_two),
	TALK_CASE("SACK recovery of a gap", sack_gap, .modes = TALK_NOT_OWN),
	TALK_CASE("recovery without SACK", reno),
	TALK_CASE("partial acknowledgement", newreno),
	TALK_CASE("duplicate acknowledgements", dup_acks),
	TALK_CASE("duplicate acknowledgements with SACK", dup_acks_sack),
	TALK_CASE("D-SACK", dsack),
	TALK_CASE("tail loss probe", tail_loss_probe),
	TALK_CASE("timeout", timeout),
	TALK_CASE("backoff", backoff),
	TALK_CASE("F-RTO", forward_rto),
	TALK_CASE("FIN", fin),
	TALK_CASE("partial overlap", overlap),
	TALK_CASE("segmentation offload", segmentation),
	TALK_CASE("out of order", out_of_order, .modes = TALK_NOT_OWN),
	TALK_CASE("out of order, the middle first", out_of_order_middle, .modes = TALK_NOT_OWN),
	TALK_CASE("too slow for out of order", out_of_order_slow, .modes = TALK_NOT_OWN),
	TALK_CASE("out of order, no round trip", out_of_order_unknown, .modes = TALK_NOT_OWN,
		  .budget_us = 2000),
	TALK_CASE("out of order by timestamps", out_of_order_stamps, .modes = TALK_NOT_OWN),
	TALK_CASE("out of order, then again", out_of_order_again, .modes = TALK_NOT_OWN),
	TALK_CASE("copies", copies, .modes = TALK_NOT_IP6),
	TALK_CASE("copies", copies, .modes = TALK_ONLY_IP6, .budget_us = TALK_TICK),
	TALK_CASE("copies of acknowledgements", copies_of_acks, .modes = TALK_NOT_IP6),
	TALK_CASE("copies of SYN", copies_of_syns, .modes = TALK_NOT_IP6),
	TALK_CASE("copies of SYN", copies_of_syns, .modes = TALK_ONLY_IP6, .budget_us = TALK_TICK),
	TALK_CASE("no copies", no_copies, .modes = TALK_NOT_IP6),
	TALK_CASE("no copies, without identification", no_copies_later),
};

int main(void)
{
	return talk_main(&h, cases, FM_ARRAY_SIZE(cases));
}
