/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Conversations over TCP for the tests of the metrics: packets told by what differs from the one
 * before, sequence numbers relative to the initial ones (the SYN is 0, data begin at 1), figures
 * compared as a whole. Each case runs over IPv4 and IPv6, across the end of the sequence numbers,
 * and with one side seen as this host's own.
 */
#ifndef FM_TESTS_TALK_H
#define FM_TESTS_TALK_H

#include "harness.h"

/* The sides. A opens and is the smaller address: half 0. */
enum { A, B };

enum talk_mode {
	TALK_IP4,
	TALK_IP6,
	TALK_WRAP,  /* IPv4; sequence numbers and timestamps wrap within the first data */
	TALK_LOCAL, /* IPv4; A is this host, seen at egress */
	_TALK_MODE_MAX,
};

#define TALK_ALL      0xf
#define TALK_NOT_OWN  0x7 /* what only the network does, and no host sees of itself */
#define TALK_NOT_IP6  0x5 /* likewise, by the identification */
#define TALK_ONLY_IP4 0x1
#define TALK_ONLY_IP6 0x2

struct talk_case {
	const char *name;
	void (*run)(void);
	unsigned int modes;	/* bits of enum talk_mode; 0: all */
	unsigned int budget_us; /* 0: TALK_BUDGET_US */
};

#define TALK_CASE(text, function, ...)                                                             \
	{                                                                                          \
		.name = text, .run = function, __VA_ARGS__                                         \
	}

/* A case that took longer than its pauses and this says nothing, and is run again. */
#define TALK_BUDGET_US 80000
#define TALK_TICK      1 /* as budget_us: a tick of the clock that flows are timed with */

#define FIN 0x01
#define SYN 0x02
#define RST 0x04
#define PSH 0x08
#define ACK 0x10
#define ECE 0x40
#define CWR 0x80
#define AE  0x100

struct talk_piece {
	uint32_t seq;  /* 0: goes on (of a SYN: is 0) */
	uint32_t ack;  /* 0: all that the other side sent */
	uint16_t more; /* flags beyond ACK */
	bool bare;     /* no ACK flag */
	uint32_t payload;
	int32_t window; /* 0: as before, -1: zero */
	uint16_t mss;
	uint8_t scale; /* plus 1 */
	bool sack_ok;
	bool no_stamps;
	uint32_t ts, te;     /* 0: the clock; the other side's latest */
	uint32_t sack[3][2]; /* of the other side's sequence numbers */
	const void *options; /* behind these */
	uint8_t n_options;
	uint8_t ecn;
	bool copy; /* has the identification of the side's last packet */
	uint16_t gso_size;
	uint32_t cut; /* octets missing at the end of the IP packet */
};

struct talk_side {
	uint32_t isn;
	uint32_t next; /* relative */
	uint16_t window;
	uint16_t ip_id;
	uint32_t stamp0;
	uint32_t stamp; /* of the last packet, relative */
	uint64_t packets;
};

/* Which CPU a packet passes on. */
enum talk_split {
	TALK_ONE_CPU,
	TALK_BY_SIDE,	/* A's on 0, B's on 1 */
	TALK_BY_PACKET, /* by turns */
};

struct talk {
	struct harness *h;
	void (*report)(bool ok, const char *name);
	enum talk_mode mode;
	struct talk_side side[2];
	uint16_t port;
	bool stamps;
	enum talk_split split;
	uint32_t clock_ms;
	uint64_t last_ns;
	uint64_t unplanned_ns;
	uint64_t budget_ns;
};

extern struct talk talk;
/* Other ports; nothing was said. talk_next(): beside what was said before. */
void talk_open(void);
void talk_next(void);
void talk_pause(unsigned int ms);
void talk_say(unsigned int from, struct talk_piece piece);
#define say(from, ...) talk_say(from, (struct talk_piece){__VA_ARGS__})

struct talk_opening {
	bool stamps;
	unsigned int rtt_ms; /* between SYN and SYN-ACK, and again before the ACK */
	bool plain[2];	     /* offers no window scale */
	uint8_t scale[2];    /* 0: 7 */
	uint32_t isn[2];     /* 0: as the mode has it */
};

/* Opens, and exchanges SYN, SYN-ACK and ACK: windows of 500 * 128 octets, SACK, MSS 1460. */
void talk_shake(struct talk_opening opening);
#define shake(...) talk_shake((struct talk_opening){__VA_ARGS__})

/* The figures of the conversation's only slot. */
const struct fm_tcp_half *talk_half(unsigned int side);

/* All that is counted of a side is as expected; what is not named is 0. */
void talk_expect(unsigned int side, const char *what, const struct fm_tcp_half *expected);
#define expect(side, what, ...) talk_expect(side, what, &(struct fm_tcp_half){__VA_ARGS__})

bool talk_equal(const struct fm_tcp_half *a, const struct fm_tcp_half *b, const char *name);

/* One figure. */
void talk_same(uint64_t value, uint64_t expected, const char *what);
#define talk_true(condition, what) talk_same(!!(condition), true, what)

/* A time: the pause, and at most what passed beside pauses more. */
void talk_time(uint64_t us, unsigned int pause_ms, const char *what);

/* Runs cases in all their modes; each result goes to report. */
void talk_run(struct harness *h, void (*report)(bool ok, const char *name),
	      const struct talk_case *cases, size_t n);
/* The same as a whole test program; the value to return from main. */
int talk_main(struct harness *h, const struct talk_case *cases, size_t n);

#endif
