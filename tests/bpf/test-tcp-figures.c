/* SPDX-License-Identifier: Apache-2.0 */
/* What the TCP metrics say of windows, congestion marks and time. */
#include <stdlib.h>
#include <time.h>

#include "base/macro.h"
#include "talk.h"

static struct harness h;

/* RFC 9293 3.8.6: each time it closes. */
static void zero_window(void)
{
	shake();
	say(A, .payload = 1000);
	say(B, .window = -1);
	expect(B, "closes", .zero_windows = 1);
	say(B);
	talk_pause(20);
	say(B);
	expect(B, "and stays closed", .zero_windows = 1);
	say(B, .window = 500);
	say(A, .payload = 1000);
	say(B, .window = -1);
	expect(B, "closes again", .zero_windows = 2);
	say(A, .window = -1, .more = RST);
	expect(A, "the window of a RST says nothing");
	talk_open();
	say(A, .more = SYN, .bare = true, .scale = 8, .window = 64240);
	say(B, .more = SYN, .scale = 8, .window = 64240);
	say(A, .window = -1);
	expect(A, "closed from the first", .zero_windows = 1);
	talk_same(~talk_half(A)->window_low, 0, "the smallest is 0");
	talk_same(talk_half(A)->window_max, 0, "so is the largest");
	talk_same(~talk_half(A)->window_last, 0, "and the last");
}

/* RFC 9293 3.8.6.1: one octet again and again; or below the window as Linux does it. */
static void window_probe(void)
{
	shake();
	say(A, .payload = 1000);
	say(B, .window = -1);
	for (unsigned int i = 0; i < 3; i++) {
		talk_pause(20);
		say(A, .seq = 1000);
		say(B);
	}
	expect(A, "of no octet");
	expect(B, "its answers", .zero_windows = 1);
	for (unsigned int i = 0; i < 3; i++) {
		talk_pause(i == 1 ? 260 : 20);
		say(A, .seq = 1001, .payload = 1);
		say(B, .ack = 1001);
	}
	expect(A, "of one octet");
	expect(B, "its answers are duplicates to RFC 5681", .zero_windows = 1, .dup_acks = 3);
	say(B, .ack = 1002, .window = 500);
	say(A, .seq = 1002, .payload = 1000);
	expect(A, "goes on");
}

/* RFC 7323 2.3. */
static void window_full(void)
{
	shake();
	say(B, .window = 10);
	say(A, .payload = 1000);
	expect(A, "280 octets left");
	say(A, .payload = 280);
	expect(A, "full", .window_fulls = 1);
	say(B);
	say(A, .payload = 1279);
	expect(A, "one octet left", .window_fulls = 1);
	say(A, .payload = 1);
	expect(A, "full again", .window_fulls = 2);
	say(B, .ack = 2001, .window = 5);
	say(A, .payload = 81);
	expect(A, "a smaller window", .window_fulls = 3);
	expect(B, "nothing to tell of B");
	/* Deep in a flow, by a packet of which there is nothing else to tell. */
	say(B, .window = 10);
	for (unsigned int i = 0; i < 10; i++) {
		say(A, .payload = 100);
		say(B);
	}
	say(A, .payload = 1000);
	expect(A, "280 octets left again", .window_fulls = 3);
	say(A, .payload = 280);
	expect(A, "full by a mere packet", .window_fulls = 4);
}

/* RFC 7323 2.2: the window of a SYN is not scaled. */
static void window_full_syn(void)
{
	talk_open();
	say(A, .more = SYN, .bare = true, .scale = 8, .window = 1000);
	say(B, .more = SYN, .scale = 8, .window = 1000);
	say(A, .payload = 999);
	expect(A, "one octet left");
	say(A, .payload = 1);
	expect(A, "full", .window_fulls = 1);
}

/* RFC 7323 2.2: both have to offer it. */
static void window_plain(void)
{
	for (unsigned int d = 0; d < 2; d++) {
		shake(.plain = {d == A, d == B});
		say(A, .payload = 200, .window = 300);
		say(B, .payload = 300, .window = 200);
		say(A);
		expect(A, "A has not filled it");
		expect(B, "B has", .window_fulls = 1);
		say(A, .payload = 200);
		expect(A, "A has", .window_fulls = 1);
		talk_same(talk_half(A)->window_max, 500, "A's largest");
		talk_same(~talk_half(A)->window_low, 300, "A's smallest");
		talk_same(~talk_half(B)->window_last, 200, "B's last");
	}
}

static void windows(void)
{
	static const uint16_t said[] = {100, 50, 700, 50, 200};

	shake(.scale = {7, 2});
	for (unsigned int i = 0; i < FM_ARRAY_SIZE(said); i++) {
		say(A, .payload = 100, .window = said[i]);
		say(B, .payload = 100, .window = 2 * said[i]);
	}
	talk_same(~talk_half(A)->window_low, 50 << 7, "A's smallest");
	talk_same(talk_half(A)->window_max, 700 << 7, "A's largest");
	talk_same(~talk_half(A)->window_last, 200 << 7, "A's last");
	talk_same(~talk_half(B)->window_low, 100 << 2, "B's smallest");
	talk_same(talk_half(B)->window_max, 1400 << 2, "B's largest");
	talk_same(~talk_half(B)->window_last, 400 << 2, "B's last");
	shake(.scale = {15, 14});
	say(A, .window = 65535);
	say(B, .window = 65535);
	talk_same(talk_half(A)->window_max, 65535 << 14, "more than 14 is 14: RFC 7323 2.3");
	talk_same(talk_half(B)->window_max, 65535 << 14, "as large as can be");
}

/* RFC 3168 5 and 6.1. */
static void ecn(void)
{
	talk_open();
	say(A, .more = SYN | CWR | ECE, .bare = true, .window = 60000);
	say(B, .more = SYN | ECE, .window = 60000);
	say(A);
	expect(A, "no echo in SYN");
	expect(B, "nor in SYN-ACK");
	for (unsigned int i = 0; i < 10; i++)
		say(A, .payload = 100, .ecn = i == 3 ? 3 : 2);
	say(A, .payload = 100, .ecn = 1);
	expect(A, "11 capable, one of them marked", .ect = 11, .ce = 1);
	say(B, .ack = 401, .more = ECE);
	say(B, .ack = 801, .more = ECE);
	say(A, .payload = 100, .ecn = 2, .more = CWR);
	say(B);
	say(B, .payload = 100, .ecn = 2);
	say(A);
	expect(A, "window reduced once", .ect = 12, .ce = 1, .cwr = 1);
	expect(B, "two echoes", .ect = 1, .ece = 2);
	say(A, .payload = 2500, .gso_size = 500, .ecn = 2, .more = CWR);
	expect(A, "CWR is in the first of five: RFC 3168 6.1.2", .ect = 17, .ce = 1, .cwr = 2);
}

/* SYN 111, SYN-ACK and ACK as told: RFC 9768 tables 2 and 3. */
static void shake_accecn(uint16_t answer, uint16_t end)
{
	talk_open();
	say(A, .more = SYN | AE | CWR | ECE, .bare = true, .window = 60000);
	say(B, .more = SYN | answer, .window = 60000);
	say(A, .more = end);
}

static uint16_t ace(unsigned int counter)
{
	return (counter & 4 ? AE : 0) | (counter & 2 ? CWR : 0) | (counter & 1 ? ECE : 0);
}

/* Acknowledgements of B that tell these counters, one a packet of A. */
static void count_ace(const uint8_t *counters, unsigned int n)
{
	for (unsigned int i = 0; i < n; i++) {
		say(A, .payload = 100, .more = ace(5));
		say(B, .more = ace(counters[i]));
	}
}

#define COUNT_ACE(...)                                                                             \
	({                                                                                         \
		const uint8_t counters_[] = {__VA_ARGS__};                                         \
		count_ace(counters_, sizeof(counters_));                                           \
	})

/* RFC 9768 3.2.2. */
static void accecn(void)
{
	shake_accecn(CWR, CWR);
	COUNT_ACE(5, 5, 6, 6, 7, 7, 1);
	expect(A, "nothing was marked on the way to A");
	expect(B, "four marks, and no flags", .ece = 4);
	COUNT_ACE(0, 0);
	expect(B, "as many as eight can tell", .ece = 11);
	shake_accecn(CWR, CWR);
	COUNT_ACE(6);
	expect(B, "counted from 5: 3.2.1", .ece = 1);
	shake_accecn(CWR, AE | CWR);
	say(A, .payload = 100, .more = ace(6));
	expect(A, "the SYN-ACK was marked: table 4", .ece = 1);
	shake_accecn(AE | CWR, AE);
	say(A, .payload = 100, .more = ace(5));
	say(B, .more = ace(5));
	expect(A, "handshake encoding is no count");
	expect(B, "the mark of the SYN is none: 3.2.2.2");
	talk_open();
	say(A, .more = SYN | AE | CWR | ECE, .bare = true);
	say(B, .more = SYN | CWR);
	say(A, .payload = 100, .more = ace(5));
	say(A, .payload = 100, .more = ace(7));
	expect(A, "no pure acknowledgement first", .ece = 2);
}

/* Values that look like no flags at all, in packets that look like all others. */
static void accecn_quiet(void)
{
	shake_accecn(CWR, CWR);
	COUNT_ACE(5, 6, 7, 0, 1, 2, 3, 3, 3, 3, 4);
	expect(B, "up to 4", .ece = 7);
	shake_accecn(CWR, CWR);
	COUNT_ACE(5, 5, 5, 5, 5, 5, 5, 6, 7, 0);
	expect(B, "up to 8", .ece = 3);
	shake_accecn(CWR, CWR);
	for (unsigned int i = 0; i < 10; i++)
		say(A, .payload = 100, .more = ace(5));
	for (unsigned int i = 0; i < 10; i++)
		say(B, .ack = 101 + i * 100, .more = ace(i == 0 ? 5 : i < 7 ? 0 : 4));
	expect(B, "from 5 to 8 to 12", .ece = 7);
}

/* RFC 9768 3.2.2.2: an acknowledgement that was overtaken says nothing new. */
static void accecn_late(void)
{
	shake_accecn(CWR, CWR);
	for (unsigned int i = 0; i < 4; i++)
		say(A, .payload = 100, .more = ace(5));
	say(B, .ack = 101, .more = ace(5));
	say(B, .ack = 301, .more = ace(6));
	say(B, .ack = 201, .more = ace(5));
	say(B, .ack = 401, .more = ace(6));
	expect(B, "one mark", .ece = 1);
}

/* RFC 9768 table 2: B knows only the classic kind. */
static void accecn_classic(void)
{
	shake_accecn(ECE, 0);
	say(A, .payload = 100);
	say(B, .more = ECE);
	say(A, .payload = 100, .more = CWR);
	say(B, .more = ECE);
	expect(A, "CWR is CWR", .cwr = 1);
	expect(B, "ECE is ECE", .ece = 2);
}

static void round_trip(void)
{
	shake(.rtt_ms = 30);
	say(A, .payload = 1000);
	talk_pause(20);
	say(B);
	talk_same(talk_half(B)->rtt_samples, 2, "SYN and data");
	talk_time(~talk_half(B)->rtt_low, 20, "the shortest");
	talk_time(talk_half(B)->rtt_max_us, 30, "the longest");
	talk_time(talk_half(B)->rtt_sum_us, 50, "both");
	say(A, .payload = 1000);
	talk_pause(20);
	say(A, .payload = 1000);
	say(A, .payload = 1000);
	talk_pause(40);
	say(B);
	talk_same(talk_half(B)->rtt_samples, 3, "one segment at a time");
	talk_time(talk_half(B)->rtt_max_us, 60, "the first of three");
	say(A, .payload = 1000);
	say(B, .ack = 4501);
	talk_same(talk_half(B)->rtt_samples, 3, "half of it is not it");
	say(B);
	talk_same(talk_half(B)->rtt_samples, 4, "the other half is");
	say(A, .payload = 2000, .gso_size = 500);
	say(B, .ack = 5501);
	talk_same(talk_half(B)->rtt_samples, 5, "the first of four wire packets");
	say(B);
	say(B, .payload = 100);
	talk_pause(80);
	say(A, .payload = 100);
	talk_same(talk_half(A)->rtt_samples, 2, "ended by data");
	talk_time(talk_half(A)->rtt_max_us, 80, "B's data");
	talk_same(talk_half(B)->rtt_samples, 5, "and not by what is not acknowledged");
}

/* RFC 6298 3 and RFC 7323 4.1. */
static void karn(void)
{
	shake();
	say(A, .payload = 1000);
	talk_pause(20);
	say(A, .seq = 1, .payload = 1000);
	talk_pause(20);
	say(B);
	talk_same(talk_half(B)->rtt_samples, 1, "no telling which was answered");
	say(A, .payload = 1000);
	say(A, .payload = 1000);
	talk_pause(20);
	say(A, .seq = 2001, .payload = 1000);
	say(B, .ack = 2001);
	talk_same(talk_half(B)->rtt_samples, 2, "another was sent again");
	say(B);
	shake(.stamps = true);
	talk_pause(20);
	say(A, .payload = 1000);
	talk_pause(30);
	say(A, .seq = 1, .payload = 1000);
	talk_pause(30);
	say(B, .te = 51);
	talk_same(talk_half(B)->rtt_samples, 1, "the second was answered");
	say(A, .payload = 1000);
	talk_pause(30);
	say(A, .seq = 1001, .payload = 1000);
	talk_pause(30);
	say(B, .te = 81);
	talk_same(talk_half(B)->rtt_samples, 2, "the first was");
	talk_time(talk_half(B)->rtt_max_us, 60, "from the first");
}

/* docs/metrics.md: applicationLatency. */
static void latency(void)
{
	shake();
	say(A, .payload = 100, .more = PSH);
	talk_pause(10);
	say(B);
	talk_pause(30);
	say(B, .payload = 1000);
	say(B, .payload = 1000, .more = PSH);
	say(A);
	talk_same(talk_half(B)->app_samples, 1, "one answer");
	talk_time(talk_half(B)->app_sum_us, 40, "from request to answer");
	talk_same(talk_half(A)->app_samples, 0, "nothing before it");
	talk_pause(25);
	say(A, .payload = 1000);
	talk_same(talk_half(A)->app_samples, 1, "the next request");
	talk_time(talk_half(A)->app_sum_us, 25, "from answer to request");
	talk_pause(120);
	say(A, .payload = 100, .more = PSH);
	say(A, .seq = 1100, .payload = 1);
	say(B, .seq = 2000, .payload = 1);
	talk_pause(60);
	say(B, .payload = 10, .more = PSH);
	talk_same(talk_half(B)->app_samples, 2, "two answers");
	talk_time(talk_half(B)->app_max_us, 60, "from the last octet of the request");
	talk_time(talk_half(B)->app_sum_us, 100, "both");
	say(A, .payload = 100);
	say(B, .payload = 100);
	talk_same(talk_half(B)->app_samples, 2, "no request was pushed");
}

static void idle_gap(void)
{
	struct timespec tick = {};
	uint64_t tick_us, us, more_us;

	clock_getres(CLOCK_MONOTONIC_COARSE, &tick);
	tick_us = tick.tv_nsec / 1000;
	shake();
	say(B, .payload = 100);
	talk_pause(130);
	say(B, .payload = 100);
	talk_pause(130);
	say(A);
	talk_pause(30);
	say(A, .payload = 100);
	say(B);
	more_us = talk.unplanned_ns / 1000 + tick_us;
	us = talk_half(A)->gap_ticks * tick_us;
	talk_true(us + tick_us >= 260000 && us <= 260000 + more_us, "of A");
	us = talk_half(B)->gap_ticks * tick_us;
	talk_true(us + tick_us >= 160000 && us <= 160000 + more_us, "of B");
}

#define TIMED 8 /* packets of each 256, docs/metrics.md */

/* Arrivals in nanoseconds; how much an interval differs from the one before, in microseconds. */
static uint32_t difference_us(const uint64_t *arrivals, unsigned int i)
{
	int64_t d = (int64_t)(arrivals[i] - arrivals[i - 1]) -
		    (int64_t)(arrivals[i - 1] - arrivals[i - 2]);

	return llabs(d) / 1000;
}

static void jitter_same(uint32_t expected, const char *what)
{
	uint32_t jitter = talk_half(A)->jitter_16ths, off = 16 * talk.unplanned_ns / 1000;
	bool ok = jitter + off >= expected && jitter <= expected + off;

	if (!ok)
		printf("# %u, not %u\n", jitter, expected);
	talk_true(ok, what);
}

static void jitter_round(uint64_t *arrivals)
{
	static const unsigned int pauses[TIMED] = {0, 20, 60, 20, 30, 30, 0, 50};

	for (unsigned int i = 0; i < TIMED; i++) {
		uint64_t unplanned_ns = talk.unplanned_ns;

		talk_pause(pauses[i]);
		talk.unplanned_ns = unplanned_ns; /* a longer pause is in the arrivals */
		say(A, .ack = 1, .payload = 100);
		arrivals[i] = talk.last_ns;
	}
}

/* First the mean, then RFC 3550 A.8; in sixteenths of a microsecond. */
static void jitter(void)
{
	uint64_t arrivals[TIMED], unplanned_ns;
	uint32_t expected = 0;

	talk_open();
	say(A, .more = SYN, .bare = true);
	talk_pause(70);
	jitter_round(arrivals);
	unplanned_ns = talk.unplanned_ns;
	for (unsigned int i = 2; i < TIMED; i++)
		expected += 16 * difference_us(arrivals, i) / (TIMED - 2);
	jitter_same(expected, "the mean of six");
	for (unsigned int i = TIMED; i < 256; i++)
		say(A, .ack = 1, .payload = 100);
	talk.unplanned_ns = unplanned_ns; /* of those that are not timed it does not matter */
	jitter_same(expected, "no others are timed");
	jitter_round(arrivals);
	for (unsigned int i = 2; i < TIMED; i++)
		expected += difference_us(arrivals, i) - ((expected + 8) >> 4);
	jitter_same(expected, "256 later");
}

static const struct talk_case cases[] = {
	TALK_CASE("zero window", zero_window),
	TALK_CASE("window probe", window_probe),
	TALK_CASE("window full", window_full),
	TALK_CASE("window of SYN", window_full_syn),
	TALK_CASE("windows without scale", window_plain),
	TALK_CASE("windows", windows),
	TALK_CASE("ECN", ecn),
	TALK_CASE("accurate ECN", accecn),
	TALK_CASE("accurate ECN, quiet", accecn_quiet),
	TALK_CASE("accurate ECN, late", accecn_late),
	TALK_CASE("accurate ECN, classic answer", accecn_classic),
	TALK_CASE("round trip", round_trip),
	TALK_CASE("round trip, Karn", karn),
	TALK_CASE("application latency", latency),
	TALK_CASE("idle gap", idle_gap),
	TALK_CASE("jitter", jitter, .budget_us = 20000),
};

int main(void)
{
	return talk_main(&h, cases, FM_ARRAY_SIZE(cases));
}
