/* SPDX-License-Identifier: Apache-2.0 */
/* What the TCP metrics make of the ways a connection begins: handshakes, options, negotiation. */
#include <string.h>

#include "base/macro.h"
#include "talk.h"

#define MEASURED FM_TCP_NOTE_MEASURED

static struct harness h;

/* RFC 9293 3.5. */
static void handshake(void)
{
	const uint8_t options = FM_TCP_OPTION_MSS | FM_TCP_OPTION_SCALE | FM_TCP_OPTION_SACK;

	shake(.rtt_ms = 20, .scale = {9, 3});
	talk_time(talk_half(B)->handshake_us, 20, "SYN to SYN-ACK");
	talk_time(talk_half(A)->handshake_us, 20, "SYN-ACK to ACK");
	talk_same(talk_half(A)->rtt_samples, 1, "one round trip of B's");
	talk_same(talk_half(B)->rtt_samples, 1, "one of A's");
	talk_same(talk_half(A)->notes, MEASURED | FM_TCP_NOTE_SYN, "A opens");
	talk_same(talk_half(B)->notes, MEASURED | FM_TCP_NOTE_SYN_ACK, "B answers");
	talk_same(talk_half(A)->mss, 1460, "MSS");
	talk_same(talk_half(A)->scale, 10, "scale of A");
	talk_same(talk_half(B)->scale, 4, "scale of B");
	talk_same(talk_half(A)->options, options, "options of A");
	talk_same(talk_half(B)->options, options, "options of B");
	shake(.stamps = true, .plain = {false, true});
	talk_same(talk_half(A)->options, options | FM_TCP_OPTION_TIMESTAMPS, "timestamps");
	talk_same(talk_half(B)->options,
		  FM_TCP_OPTION_MSS | FM_TCP_OPTION_SACK | FM_TCP_OPTION_TIMESTAMPS,
		  "no scale of B");
	expect(A, "nothing to tell of A");
	expect(B, "nothing to tell of B");
}

/* RFC 6298 5, and 3: Karn. echo: TSecr of the SYN-ACK, 0: the latest. */
static void syn_twice(bool stamps, uint32_t echo)
{
	talk_open();
	talk.stamps = stamps;
	say(A, .more = SYN, .bare = true);
	talk_pause(250);
	say(A, .more = SYN, .bare = true);
	talk_pause(20);
	say(B, .more = SYN, .te = echo);
	talk_pause(30);
	say(A);
	expect(A, "the SYN again", .syn_again = 1, .retransmitted_packets = 1,
	       .timeout_packets = 1);
	expect(B, "nothing to tell of B");
	talk_time(talk_half(A)->handshake_us, 30, "SYN-ACK to ACK");
	talk_same(talk_half(A)->rtt_samples, 1, "one round trip");
}

static void syn_again(void)
{
	syn_twice(false, 0);
	talk_same(talk_half(B)->handshake_us, 0, "no telling which SYN was answered");
	talk_same(talk_half(B)->rtt_samples, 0, "so no round trip");
	syn_twice(true, 0);
	talk_time(talk_half(B)->handshake_us, 20, "the echo says the second");
	talk_same(talk_half(B)->rtt_samples, 1, "a round trip");
	syn_twice(true, 1);
	talk_same(talk_half(B)->handshake_us, 0, "the echo says the first");
	talk_same(talk_half(B)->rtt_samples, 0, "which is not the one that was timed");
}

static void syn_ack_twice(bool stamps, uint32_t echo)
{
	talk_open();
	talk.stamps = stamps;
	say(A, .more = SYN, .bare = true);
	talk_pause(20);
	say(B, .more = SYN);
	talk_pause(250);
	say(B, .more = SYN);
	talk_pause(30);
	say(A, .te = echo);
	say(A, .payload = 100);
	say(B);
	expect(A, "nothing to tell of A");
	expect(B, "the SYN-ACK again", .syn_again = 1, .retransmitted_packets = 1,
	       .timeout_packets = 1);
	talk_time(talk_half(B)->handshake_us, 20, "SYN to SYN-ACK");
}

static void syn_ack_again(void)
{
	syn_ack_twice(false, 0);
	talk_same(talk_half(A)->handshake_us, 0, "no telling which SYN-ACK was answered");
	syn_ack_twice(true, 0);
	talk_time(talk_half(A)->handshake_us, 30, "the echo says the second");
	syn_ack_twice(true, 21);
	talk_same(talk_half(A)->handshake_us, 0, "the echo says the first");
}

/* No answer at all, then one: RFC 6298 5.5. */
static void syn_four_times(void)
{
	talk_open();
	for (unsigned int i = 0; i < 4; i++) {
		say(A, .more = SYN, .bare = true);
		talk_pause(20);
	}
	say(B, .more = SYN);
	say(A);
	say(A, .payload = 100);
	expect(A, "three times again", .syn_again = 3, .retransmitted_packets = 3,
	       .timeout_packets = 3);
	talk_same(talk_half(A)->notes, MEASURED | FM_TCP_NOTE_SYN, "and not mid-stream");
}

/* RFC 9293 3.10.7.1: nobody listens. */
static void refused(void)
{
	talk_open();
	say(A, .more = SYN, .bare = true);
	say(B, .seq = 1, .more = RST);
	expect(B, "refused", .refused = 1);
	say(B, .seq = 1, .more = RST);
	expect(B, "once", .refused = 1);
	talk.side[A].isn += 1000000;
	say(A, .more = SYN, .bare = true);
	say(B, .seq = 1, .more = RST);
	expect(B, "and once more", .refused = 2);
	expect(A, "nothing to tell of A");
}

/* RFC 9293 3.5.2 and 3.10.4: the one that opened thinks better of it. */
static void not_refused(void)
{
	talk_open();
	say(A, .more = SYN, .bare = true);
	say(A, .more = RST, .bare = true);
	expect(A, "reset by A after SYN");
	talk_open();
	say(A, .more = SYN, .bare = true);
	say(B, .more = SYN);
	say(A, .more = RST, .bare = true);
	expect(A, "reset by A after SYN-ACK");
	expect(B, "B did not refuse");
	shake();
	say(B, .more = RST);
	expect(B, "reset by B, later");
	shake();
	say(A, .payload = 100);
	say(A, .payload = 100, .seq = 1, .more = RST);
	expect(A, "RST is no repetition");
	talk_open();
	say(B, .seq = 1, .ack = 1, .more = RST);
	expect(B, "reset of what was not seen");
}

/* RFC 9293 3.5 figure 7. */
static void simultaneous(void)
{
	const uint8_t notes = MEASURED | FM_TCP_NOTE_SYN | FM_TCP_NOTE_SYN_ACK;

	talk_open();
	say(A, .more = SYN, .bare = true, .scale = 8, .window = 64240);
	talk_pause(10);
	say(B, .more = SYN, .bare = true, .scale = 4, .window = 64240);
	talk_pause(20);
	say(A, .more = SYN, .scale = 8);
	talk_pause(30);
	say(B, .more = SYN, .scale = 4);
	talk_time(talk_half(A)->handshake_us, 20, "B's SYN to A's SYN-ACK");
	talk_time(talk_half(B)->handshake_us, 60, "A's SYN to B's SYN-ACK");
	talk_same(talk_half(A)->notes, notes, "A sent both");
	talk_same(talk_half(B)->notes, notes, "B too");
	expect(A, "an answer is no repetition: A");
	expect(B, "nor is B's");
	say(A, .payload = 1000, .window = 10);
	say(B, .payload = 1000, .window = 10);
	say(A);
	say(B);
	talk_same(talk_half(A)->window_max, 10 << 7, "A's window scaled");
	talk_same(talk_half(B)->window_max, 10 << 3, "B's window scaled");
	expect(A, "nothing to tell of A");
	expect(B, "nothing to tell of B");
	talk_pause(20);
	say(A, .more = SYN, .scale = 8);
	expect(A, "a second SYN-ACK is one", .syn_again = 1, .retransmitted_packets = 1,
	       .timeout_packets = 1);
}

/* RFC 9768 3.1.2: simultaneous open. */
static void simultaneous_ecn(void)
{
	talk_open();
	say(A, .more = SYN | AE | CWR | ECE, .bare = true);
	say(B, .more = SYN | AE | CWR | ECE, .bare = true);
	say(A, .more = SYN | CWR);
	say(B, .more = SYN | CWR);
	talk_true(talk_half(A)->ecn & FM_TCP_ACCECN_AGREED, "A agrees");
	talk_true(talk_half(B)->ecn & FM_TCP_ACCECN_AGREED, "B agrees");
}

static void midstream(void)
{
	talk_open();
	say(A, .seq = 70001, .ack = 90001, .payload = 1000, .window = 200);
	talk.side[B].next = 90001;
	say(B, .window = 100);
	say(B, .payload = 500, .window = 300);
	say(A);
	talk_same(talk_half(A)->notes, MEASURED | FM_TCP_NOTE_MIDSTREAM, "A was not seen to open");
	talk_same(talk_half(B)->notes, MEASURED | FM_TCP_NOTE_MIDSTREAM, "nor B");
	talk_same(talk_half(A)->window_low | talk_half(A)->window_max | talk_half(A)->window_last,
		  0, "A's scale is not known");
	talk_same(talk_half(B)->window_low | talk_half(B)->window_max | talk_half(B)->window_last,
		  0, "nor B's");
	expect(A, "nothing to tell of A");
	expect(B, "nothing to tell of B");
	say(A, .payload = 1000);
	talk_pause(20);
	say(A, .seq = 71001, .payload = 1000);
	say(B, .window = -1);
	say(B, .window = 300);
	expect(A, "a repetition", .retransmitted_packets = 1, .retransmitted_octets = 1000);
	expect(B, "zero is zero at any scale", .zero_windows = 1);
	talk_same(talk_half(A)->handshake_us | talk_half(B)->handshake_us, 0, "no handshake");
}

/* One half of the handshake is not enough to know the scale. */
static void half_seen(void)
{
	talk_open();
	say(B, .more = SYN, .ack = 1, .scale = 8);
	say(A, .seq = 1, .window = 500);
	say(B, .payload = 100, .window = 500);
	talk_same(talk_half(A)->notes, MEASURED | FM_TCP_NOTE_MIDSTREAM, "A's SYN was missed");
	talk_same(talk_half(B)->notes, MEASURED | FM_TCP_NOTE_SYN_ACK, "B's was not");
	talk_same(talk_half(A)->window_max | talk_half(B)->window_max, 0, "no windows");
	talk_open();
	say(A, .more = SYN, .bare = true, .scale = 8);
	say(A, .ack = 1, .window = 500);
	say(A, .ack = 1, .payload = 100, .window = 600);
	talk_same(talk_half(A)->notes, MEASURED | FM_TCP_NOTE_SYN, "only A passes here");
	talk_same(talk_half(A)->window_max, 0, "no windows either");
	expect(A, "nothing to tell of A");
}

/* RFC 7413 4: data in the SYN. */
static void fast_open(void)
{
	static const uint8_t cookie[] = {34, 10, 1, 2, 3, 4, 5, 6, 7, 8};

	talk_open();
	say(A, .more = SYN, .bare = true, .payload = 100, .options = cookie,
	    .n_options = sizeof(cookie));
	talk_pause(20);
	say(B, .more = SYN);
	talk_pause(20);
	say(A, .payload = 200);
	say(B, .payload = 300);
	say(A);
	talk_same(talk_half(A)->options, FM_TCP_OPTION_FAST_OPEN, "the cookie");
	expect(A, "accepted: goes on behind them");
	expect(B, "nothing to tell of B");
	talk_time(talk_half(B)->handshake_us, 20, "SYN to SYN-ACK");
	talk_time(talk_half(A)->handshake_us, 20, "SYN-ACK to data");

	talk_open();
	say(A, .more = SYN, .bare = true, .payload = 100, .options = cookie,
	    .n_options = sizeof(cookie));
	talk_pause(20);
	say(B, .more = SYN, .ack = 1);
	say(A, .seq = 1, .payload = 100);
	say(B);
	expect(A, "only the SYN was acknowledged: data again", .retransmitted_packets = 1,
	       .retransmitted_octets = 100);
	expect(B, "nothing to tell of B");
	talk_time(talk_half(B)->handshake_us, 20, "SYN to SYN-ACK");
}

/* The SYN was lost, with its data; it comes again without (4.2.1) or with them. */
static void fast_open_again(void)
{
	talk_open();
	say(A, .more = SYN, .bare = true, .payload = 100);
	talk_pause(250);
	say(A, .more = SYN, .bare = true);
	say(B, .more = SYN, .ack = 1);
	say(A, .seq = 1, .payload = 100);
	expect(A, "SYN, then data", .retransmitted_packets = 2, .retransmitted_octets = 100,
	       .timeout_packets = 1, .syn_again = 1);
	talk_open();
	say(A, .more = SYN, .bare = true, .payload = 100);
	talk_pause(250);
	say(A, .more = SYN, .bare = true, .payload = 100);
	say(B, .more = SYN);
	expect(A, "SYN with data", .retransmitted_packets = 1, .retransmitted_octets = 100,
	       .timeout_packets = 1, .syn_again = 1);
}

static void options_of(const char *what, uint8_t expected, const uint8_t *octets, uint8_t n)
{
	talk_open();
	say(A, .more = SYN, .bare = true, .options = octets, .n_options = n, .payload = 30);
	talk_same(talk_half(A)->options, expected, what);
}

#define OPTIONS(what, expected, ...)                                                               \
	({                                                                                         \
		const uint8_t octets_[] = {__VA_ARGS__};                                           \
		options_of(what, expected, octets_, sizeof(octets_));                              \
	})

/* RFC 9293 3.1, 3.2. */
static void options(void)
{
	uint8_t octets[40];

	OPTIONS("multipath: RFC 8684", FM_TCP_OPTION_MULTIPATH, 30, 4, 0x01, 0x81);
	OPTIONS("a cookie asked for: RFC 7413", FM_TCP_OPTION_FAST_OPEN, 34, 2);
	OPTIONS("accurate ECN: RFC 9768, order 0", FM_TCP_OPTION_ACCECN, 172, 2);
	OPTIONS("and order 1", FM_TCP_OPTION_ACCECN, 174, 11, 0, 0, 1, 0, 0, 0, 0, 0, 1);
	OPTIONS("behind unknown ones", FM_TCP_OPTION_SACK, 253, 6, 0, 0, 0, 0, 77, 2, 4, 2);
	OPTIONS("no length left", 0, 1, 1, 1, 8);
	OPTIONS("cut short", 0, 8, 10, 0, 0, 0, 1, 0, 0);
	OPTIONS("length 0", 0, 2, 0, 4, 2);
	OPTIONS("length 1", 0, 253, 1, 4, 2);
	OPTIONS("length 255", 0, 253, 255, 4, 2);
	OPTIONS("end of the list", 0, 0, 1, 4, 2);
	OPTIONS("known kinds of another length", FM_TCP_OPTION_SACK, 2, 3, 5, 3, 2, 8, 2, 4, 2);
	memset(octets, 1, sizeof(octets));
	options_of("40 octets of nothing", 0, octets, 40);
	memcpy(octets + 38, (const uint8_t[]){4, 2}, 2);
	options_of("the last of 40", FM_TCP_OPTION_SACK, octets, 40);
	memcpy(octets + 36, (const uint8_t[]){2, 4, 4, 2}, 4);
	options_of("an end in the last four", FM_TCP_OPTION_MSS, octets, 40);
	memcpy(octets + 36, (const uint8_t[]){1, 1, 8, 10}, 4);
	options_of("the last leads out of 40", 0, octets, 40);
	octets[38] = 1;
	options_of("the last has no length", 0, octets, 40);
	for (unsigned int i = 0; i < 40; i += 2)
		memcpy(octets + i, (const uint8_t[]){4, 2}, 2);
	options_of("twenty of them", FM_TCP_OPTION_SACK, octets, 40);
	memset(octets, 0, sizeof(octets));
	memcpy(octets, (const uint8_t[]){253, 40}, 2);
	options_of("one of 40", 0, octets, 40);
	octets[1] = 38;
	memcpy(octets + 38, (const uint8_t[]){4, 2}, 2);
	options_of("one of 38 and one", FM_TCP_OPTION_SACK, octets, 40);
}

/* The header says that it is longer than the packet: no TCP header that could be measured. */
static void options_missing(void)
{
	static const uint8_t octets[40] = {2, 4, 1, 0};

	shake();
	say(A, .options = octets, .n_options = 40, .cut = 20, .seq = 1);
	say(A, .options = octets, .n_options = 40, .cut = 1, .seq = 1);
	say(A, .options = octets, .n_options = 40);
	say(A, .payload = 100);
	expect(A, "nothing is read of it");
	talk_same(talk_half(A)->mss, 1460, "nor of its options");
	talk_same(harness_count(&h, FM_COUNTER_not_measured).packets, 0, "no want of a cell");
}

/* What options say to who reads them as RFC 9293 3.1 has it. */
static uint8_t options_read(const uint8_t *octets, unsigned int n)
{
	uint8_t seen = 0;

	for (unsigned int at = 0; at < n;) {
		unsigned int kind = octets[at], length;

		if (kind == 0)
			break;
		if (kind == 1) {
			at++;
			continue;
		}
		if (at + 1 >= n || octets[at + 1] < 2 || at + octets[at + 1] > n)
			break;
		length = octets[at + 1];
		seen |= kind == 2 && length == 4 ? FM_TCP_OPTION_MSS : 0;
		seen |= kind == 3 && length == 3 ? FM_TCP_OPTION_SCALE : 0;
		seen |= kind == 4 && length == 2 ? FM_TCP_OPTION_SACK : 0;
		seen |= kind == 8 && length == 10 ? FM_TCP_OPTION_TIMESTAMPS : 0;
		seen |= kind == 30 ? FM_TCP_OPTION_MULTIPATH : 0;
		seen |= kind == 34 ? FM_TCP_OPTION_FAST_OPEN : 0;
		seen |= kind == 172 || kind == 174 ? FM_TCP_OPTION_ACCECN : 0;
		at += length;
	}
	return seen;
}

static void options_random(void)
{
	static const uint8_t kinds[] = {0, 1, 2, 3, 4, 5, 8, 30, 34, 172, 174, 253};
	static const uint8_t lengths[] = {2, 2, 3, 3, 4, 4, 10, 10, 12, 0, 1, 40};
	uint32_t wrong = 0, random = 1;

	for (unsigned int i = 0; i < 500; i++) {
		uint8_t octets[40], n;

		for (unsigned int j = 0; j < 40; j++) {
			random = random * 1103515245 + 12345;
			if (random >> 31)
				octets[j] = kinds[(random >> 16) % sizeof(kinds)];
			else
				octets[j] = lengths[(random >> 16) % sizeof(lengths)];
		}
		n = 4 * (i % 11);
		talk_open();
		say(A, .more = SYN, .bare = true, .options = octets, .n_options = n);
		wrong += talk_half(A)->options != options_read(octets, n);
	}
	talk_same(wrong, 0, "500 times as the RFC has it");
}

static void reopen(uint32_t isn, const char *what)
{
	shake();
	say(A, .payload = 3000);
	say(B, .payload = 3000);
	say(A, .more = FIN);
	say(B, .more = FIN);
	say(A);
	talk.side[A].isn += isn;
	talk.side[B].isn += isn;
	talk.side[A].next = talk.side[B].next = 0;
	say(A, .more = SYN, .bare = true, .mss = 1400, .window = 64240);
	talk_pause(20);
	say(B, .more = SYN, .mss = 1300, .window = 64240);
	talk_pause(20);
	say(A, .window = 5000);
	say(A, .payload = 1000);
	say(B, .payload = 1000, .window = 5000);
	say(A);
	expect(A, what);
	expect(B, what);
	talk_true(talk_half(A)->rtt_samples >= 2, "round trips of the second handshake");
	talk_pause(20);
	say(A, .seq = 1, .payload = 1000);
	expect(A, "a repetition in it", .retransmitted_packets = 1, .retransmitted_octets = 1000);
	talk_same(~talk_half(A)->window_last, 5000, "without a scale this time");
	talk_same(talk_half(A)->mss, 1400, "with another MSS");
}

/* RFC 9293 3.6.1: the same ports again. */
static void reuse(void)
{
	reopen(1000000, "sequence numbers further on");
	reopen(-1001, "numbers that were used before");
	reopen(0x80001001, "on the other side of the circle");
	shake();
	say(A, .payload = 3000);
	talk.side[A].isn += 77777;
	talk.side[B].isn += 77777;
	talk.side[A].next = talk.side[B].next = 0;
	say(A, .more = SYN, .bare = true);
	say(B, .more = SYN);
	say(A, .payload = 100);
	expect(A, "after a crash");
	expect(B, "after a crash");
}

struct ecn {
	const char *what;
	uint16_t syn, syn_ack;
	uint8_t a, b;
};

/* RFC 3168 6.1.1; RFC 9768 table 2 and 3.1.3. */
static void ecn(void)
{
	const uint8_t asked = FM_TCP_ECN_ASKED, both = asked | FM_TCP_ACCECN_ASKED;
	const uint16_t all = AE | CWR | ECE;
	const struct ecn rows[] = {
		{"none", 0, 0, 0, 0},
		{"classic", CWR | ECE, ECE, asked, FM_TCP_ECN_AGREED},
		{"classic, not agreed", CWR | ECE, 0, asked, 0},
		{"classic, reflected", CWR | ECE, CWR | ECE, asked, 0},
		{"ECE alone does not ask", ECE, 0, 0, 0},
		{"CWR alone does not ask", CWR, 0, 0, 0},
		{"accurate, not-ECT", all, CWR, both, FM_TCP_ACCECN_AGREED},
		{"accurate, ECT(1)", all, CWR | ECE, both, FM_TCP_ACCECN_AGREED},
		{"accurate, ECT(0)", all, AE, both, FM_TCP_ACCECN_AGREED},
		{"accurate, CE", all, AE | CWR, both, FM_TCP_ACCECN_AGREED},
		{"accurate, reserved", all, AE | ECE, both, FM_TCP_ACCECN_AGREED},
		{"accurate, classic answer", all, ECE, both, FM_TCP_ECN_AGREED},
		{"accurate, not agreed", all, 0, both, 0},
		{"accurate, reflected", all, all, both, 0},
	};

	for (unsigned int i = 0; i < FM_ARRAY_SIZE(rows); i++) {
		talk_open();
		say(A, .more = SYN | rows[i].syn, .bare = true);
		say(B, .more = SYN | rows[i].syn_ack);
		talk_same(talk_half(A)->ecn << 8 | talk_half(B)->ecn, rows[i].a << 8 | rows[i].b,
			  rows[i].what);
	}
}

/* RFC 9768 3.1.4, 3.1.5: the mode is that of the first SYN-ACK. */
static void ecn_fallback(void)
{
	talk_open();
	say(A, .more = SYN | AE | CWR | ECE, .bare = true);
	talk_pause(20);
	say(A, .more = SYN, .bare = true);
	say(B, .more = SYN);
	talk_same(talk_half(B)->ecn, 0, "the second SYN without");
	talk_open();
	say(A, .more = SYN | AE | CWR | ECE, .bare = true);
	talk_pause(20);
	say(A, .more = SYN, .bare = true);
	say(B, .more = SYN | CWR);
	talk_same(talk_half(B)->ecn, FM_TCP_ACCECN_AGREED, "but the first was answered");
	talk_pause(20);
	say(B, .more = SYN);
	talk_same(talk_half(B)->ecn, FM_TCP_ACCECN_AGREED, "and that stays");
}

static const struct talk_case cases[] = {
	TALK_CASE("handshake", handshake),
	TALK_CASE("SYN again", syn_again),
	TALK_CASE("SYN-ACK again", syn_ack_again),
	TALK_CASE("SYN four times", syn_four_times),
	TALK_CASE("refused", refused),
	TALK_CASE("not refused", not_refused),
	TALK_CASE("simultaneous open", simultaneous),
	TALK_CASE("simultaneous open with ECN", simultaneous_ecn),
	TALK_CASE("mid-stream", midstream),
	TALK_CASE("half of a handshake", half_seen),
	TALK_CASE("fast open", fast_open),
	TALK_CASE("fast open, lost", fast_open_again),
	TALK_CASE("options", options),
	TALK_CASE("options missing", options_missing, .modes = TALK_ONLY_IP4),
	TALK_CASE("random options", options_random, .modes = TALK_ONLY_IP4, .budget_us = 60000000),
	TALK_CASE("ports again", reuse),
	TALK_CASE("ECN", ecn),
	TALK_CASE("ECN fallback", ecn_fallback),
};

int main(void)
{
	return talk_main(&h, cases, FM_ARRAY_SIZE(cases));
}
