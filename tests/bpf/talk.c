/* SPDX-License-Identifier: Apache-2.0 */
/* Conversations over TCP: see talk.h. */
#include "talk.h"
#include "test.h"

#include <netinet/in.h>
#include <sched.h>
#include <stdio.h>
#include <string.h>
#include <sys/resource.h>
#include <time.h>
#include <unistd.h>

#include "base/macro.h"

#define SERVER	   443
#define FIRST_PORT 2000
#define TRIES	   50
#define TRYING_NS  (20 * 1000000000ULL) /* the short ones more often, on slow machines */

/* What is compared of a side. */
#define TALK_COUNTS(X)                                                                             \
	X(retransmitted_packets)                                                                   \
	X(retransmitted_octets)                                                                    \
	X(fast_packets)                                                                            \
	X(timeout_packets)                                                                         \
	X(out_of_order)                                                                            \
	X(duplicates)                                                                              \
	X(dup_acks)                                                                                \
	X(ect)                                                                                     \
	X(ce)                                                                                      \
	X(ece)                                                                                     \
	X(cwr)                                                                                     \
	X(zero_windows)                                                                            \
	X(window_fulls)                                                                            \
	X(syn_again)                                                                               \
	X(refused)

struct talk talk;

static const char *case_name;
static bool was_late; /* in a conversation of the case before this one */

static const char *const mode_names[_TALK_MODE_MAX] = {
	[TALK_IP4] = "v4",
	[TALK_IP6] = "v6",
	[TALK_WRAP] = "wrap",
	[TALK_LOCAL] = "own",
};

static uint64_t now_ns(void)
{
	struct timespec now;

	clock_gettime(CLOCK_MONOTONIC, &now);
	return now.tv_sec * 1000000000ULL + now.tv_nsec;
}

/* Counts what passed since the last call, less what was asked for. */
static void pass(uint64_t planned_ns)
{
	uint64_t now = now_ns(), passed = now - talk.last_ns;

	talk.last_ns = now;
	talk.unplanned_ns += passed > planned_ns ? passed - planned_ns : 0;
}

static bool late(void)
{
	return talk.unplanned_ns > talk.budget_ns;
}

void talk_next(void)
{
	static const uint32_t isns[2][2] = {{0x1000, 0x70000000}, {0xfffffe00, 0xffffffcc}};
	static const uint32_t stamps[2][2] = {{7000, 90001}, {0xfffffff5, 0xffffffe5}};
	bool wrap = talk.mode == TALK_WRAP;

	for (unsigned int d = 0; d < 2; d++)
		talk.side[d] = (struct talk_side){
			.isn = isns[wrap][d],
			.stamp0 = stamps[wrap][d],
			.window = 500,
			.ip_id = 1000 * (d + 1),
		};
	if (++talk.port < FIRST_PORT)
		talk.port = FIRST_PORT;
	talk.stamps = false;
	talk.clock_ms = 0;
}

void talk_open(void)
{
	talk_next();
	harness_reset(talk.h);
	was_late |= late();
	talk.unplanned_ns = 0;
	talk.last_ns = now_ns();
}

void talk_pause(unsigned int ms)
{
	talk.clock_ms += ms;
	usleep(ms * 1000);
	pass(ms * 1000000ULL);
}

static uint8_t put_octets(uint8_t *at, uint32_t value, uint8_t n)
{
	for (uint8_t i = 0; i < n; i++)
		at[i] = value >> (8 * (n - 1 - i));
	return n;
}

static uint8_t put_options(uint8_t *into, unsigned int from, const struct talk_piece *piece)
{
	const struct talk_side *me = &talk.side[from], *peer = &talk.side[!from];
	uint8_t n = 0, blocks = 0;

	if (piece->mss) {
		n += put_octets(into + n, 0x0204, 2);
		n += put_octets(into + n, piece->mss, 2);
	}
	if (piece->sack_ok)
		n += put_octets(into + n, 0x0402, 2);
	if (talk.stamps && !piece->no_stamps) {
		n += put_octets(into + n, 0x080a, 2);
		n += put_octets(into + n, me->stamp0 + me->stamp, 4);
		n += put_octets(
			into + n,
			piece->bare ? 0 : peer->stamp0 + (piece->te ? piece->te : peer->stamp), 4);
	}
	if (piece->scale)
		n += put_octets(into + n, 0x01030300 | (piece->scale - 1), 4);
	while (blocks < FM_ARRAY_SIZE(piece->sack) && piece->sack[blocks][0])
		blocks++;
	if (blocks)
		n += put_octets(into + n, 0x0500 | (2 + 8 * blocks), 2);
	for (uint8_t i = 0; i < blocks; i++) {
		n += put_octets(into + n, peer->isn + piece->sack[i][0], 4);
		n += put_octets(into + n, peer->isn + piece->sack[i][1], 4);
	}
	memcpy(into + n, piece->options, piece->n_options);
	return n + piece->n_options;
}

static void move(unsigned int cpu)
{
	cpu_set_t set;

	CPU_ZERO(&set);
	CPU_SET(cpu, &set);
	sched_setaffinity(0, sizeof(set), &set);
}

static void build(struct packet *p, unsigned int from, const struct talk_piece *piece)
{
	const struct talk_side *me = &talk.side[from], *peer = &talk.side[!from];
	uint32_t ack = peer->isn + (piece->ack ? piece->ack : peer->next);
	uint8_t options[64];
	uint8_t n_options = put_options(options, from, piece);
	uint32_t seq = me->next;

	if (piece->more & SYN)
		seq = 0;
	else if (piece->seq)
		seq = piece->seq;
	packet_new(p);
	packet_eth(p);
	if (talk.mode == TALK_IP6)
		packet_ip6(p, .src = 1 + from, .dst = 2 - from, .next = IPPROTO_TCP,
			   .traffic_class = piece->ecn);
	else
		packet_ip4(p, .src = 0x0a000001 + from, .dst = 0x0a000002 - from,
			   .protocol = IPPROTO_TCP, .id = me->ip_id, .tos = piece->ecn);
	packet_segment(p, .src = from == A ? talk.port : SERVER,
		       .dst = from == A ? SERVER : talk.port, .seq = me->isn + seq,
		       .ack = piece->bare ? 0 : ack, .flags = piece->more | (piece->bare ? 0 : ACK),
		       .window = me->window, .options = options, .n_options = n_options);
	packet_payload(p, piece->payload);
	p->length -= piece->cut;
	packet_end(p);
}

void talk_say(unsigned int from, struct talk_piece piece)
{
	static struct packet p;
	struct talk_side *me = &talk.side[from];
	bool own = talk.mode == TALK_LOCAL && from == A;
	uint32_t wires = 1, end;

	if (piece.window)
		me->window = piece.window < 0 ? 0 : piece.window;
	if (piece.gso_size)
		wires = (piece.payload + piece.gso_size - 1) / piece.gso_size;
	if (!piece.copy)
		me->ip_id++;
	me->stamp = piece.ts ? piece.ts : 1 + talk.clock_ms;
	build(&p, from, &piece);
	if (talk.split == TALK_BY_SIDE)
		move(from);
	else if (talk.split == TALK_BY_PACKET)
		move((talk.side[A].packets + talk.side[B].packets) & 1);
	if (harness_packet(talk.h, &p, .hook = own ? FM_HOOK_EGRESS : FM_HOOK_INGRESS,
			   .gso_size = piece.gso_size, .gso_segs = piece.gso_size ? wires : 0) < 0)
		talk_same(0, 1, "the packet was taken");
	if (talk.split)
		move(talk.h->cpu);
	me->ip_id += wires - 1;
	me->packets += wires;
	end = (piece.more & SYN ? 1
	       : piece.seq	? piece.seq
				: me->next) +
	      piece.payload + !!(piece.more & FIN);
	if (end > me->next)
		me->next = end;
	pass(0);
}

void talk_shake(struct talk_opening opening)
{
	uint8_t scale[2];

	for (unsigned int d = 0; d < 2; d++)
		scale[d] = opening.plain[d] ? 0 : (opening.scale[d] ? opening.scale[d] : 7) + 1;
	talk_open();
	for (unsigned int d = 0; d < 2; d++)
		if (opening.isn[d])
			talk.side[d].isn = opening.isn[d];
	talk.stamps = opening.stamps;
	say(A, .more = SYN, .bare = true, .window = 64240, .mss = 1460, .sack_ok = true,
	    .scale = scale[A]);
	if (opening.rtt_ms)
		talk_pause(opening.rtt_ms);
	say(B, .more = SYN, .window = 64240, .mss = 1460, .sack_ok = true, .scale = scale[B]);
	if (opening.rtt_ms)
		talk_pause(opening.rtt_ms);
	say(A, .window = 500);
	talk.side[B].window = 500;
}

const struct fm_tcp_half *talk_half(unsigned int side)
{
	static const struct fm_tcp_half none;
	struct fm_slot *slot;

	if (harness_slots(talk.h, &slot) != 1)
		return &none;
	return &harness_tcp(talk.h, slot)->half[side];
}

bool talk_equal(const struct fm_tcp_half *a, const struct fm_tcp_half *b, const char *name)
{
	bool equal = true;

#define COMPARE(row)                                                                               \
	if (a->row != b->row) {                                                                    \
		printf("# %s: " #row " %u, not %u\n", name, a->row, b->row);                       \
		equal = false;                                                                     \
	}
	TALK_COUNTS(COMPARE)
#undef COMPARE
	return equal;
}

static void result(bool ok, const char *what)
{
	char name[200];

	snprintf(name, sizeof(name), "%s, %s: %s", mode_names[talk.mode], case_name, what);
	talk.report(ok, name);
}

void talk_expect(unsigned int side, const char *what, const struct fm_tcp_half *expected)
{
	pass(0);
	if (!late())
		result(talk_equal(talk_half(side), expected, side == A ? "A" : "B"), what);
}

void talk_same(uint64_t value, uint64_t expected, const char *what)
{
	pass(0);
	if (late())
		return;
	if (value != expected)
		printf("# %lu (0x%lx), not %lu (0x%lx)\n", value, value, expected, expected);
	result(value == expected, what);
}

void talk_time(uint64_t us, unsigned int pause_ms, const char *what)
{
	uint64_t from = pause_ms * 1000UL, to;

	pass(0);
	to = from + talk.unplanned_ns / 1000;
	if (late())
		return;
	if (us < from || us > to)
		printf("# %lu us, not %lu to %lu\n", us, from, to);
	result(us >= from && us <= to, what);
}

static uint64_t budget_of(const struct talk_case *one)
{
	struct timespec tick = {};

	if (one->budget_us != TALK_TICK)
		return (one->budget_us ? one->budget_us : TALK_BUDGET_US) * FM_NS_PER_US;
	clock_getres(CLOCK_MONOTONIC_COARSE, &tick);
	return tick.tv_nsec;
}

static void run(const struct talk_case *one, enum talk_mode mode)
{
	uint64_t begin_ns = now_ns();
	unsigned int tries = 0;
	bool again;

	talk.mode = mode;
	case_name = one->name;
	talk.budget_ns = budget_of(one);
	do {
		if (tries++ == 1)
			printf("# %s, %s: too slow, again\n", mode_names[mode], one->name);
		talk.unplanned_ns = 0;
		was_late = false;
		one->run();
		again = late() || was_late;
	} while (again && (tries < TRIES || now_ns() - begin_ns < fm_test_patience() * TRYING_NS));
	if (again)
		result(false, "this machine is too slow");
	talk.budget_ns = UINT64_MAX;
	talk_same(harness_identity(talk.h), true, "the books");
}

void talk_run(struct harness *h, void (*report)(bool ok, const char *name),
	      const struct talk_case *cases, size_t n)
{
	talk.h = h;
	talk.report = report;
	setpriority(PRIO_PROCESS, 0, -20); /* the fewer are late, the fewer are run again */
	for (size_t i = 0; i < n; i++) {
		unsigned int modes = cases[i].modes ? cases[i].modes : TALK_ALL;

		for (enum talk_mode mode = 0; mode < _TALK_MODE_MAX; mode++)
			if (modes >> mode & 1)
				run(&cases[i], mode);
	}
}

static void report_tap(bool ok, const char *name)
{
	fm_test_ok(ok, "%s", name);
}

int talk_main(struct harness *h, const struct talk_case *cases, size_t n)
{
	struct fm_kernel_options options = {.max_flows = 4096, .tcp = true};
	int r;

	if (!harness_allowed())
		return fm_test_skip_all("needs root");
	r = harness_init(h, &options);
	if (r < 0)
		return fm_test_bail("harness", r);
	talk_run(h, report_tap, cases, n);
	harness_done(h);
	return fm_test_done();
}
