/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Packets cut at every octet, with every octet set to values that contradict the others, and
 * mutated at random: the kernel half must agree with the model and lose nothing.
 * Arguments: [number of random packets [seed]].
 */
#include <errno.h>
#include <inttypes.h>
#include <string.h>

#include "base/clock.h"
#include "base/macro.h"
#include "compare.h"
#include "corpus.h"
#include "test.h"

/* Below this the kernel's test run wants whole headers: longer packets are cut in the kernel. */
#define SHORT	     128
#define FAILURES_MAX 10
/* The first packet of a flow and later ones go different ways through the programs. */
#define REPEAT	 3
#define LOOPBACK 1

/* The ways a packet can come to a hook. */
struct way {
	const char *name;
	enum fm_hook hook;
	bool layer3; /* the packet without its Ethernet header */
	bool tagged; /* a tag beside the data */
	bool again;  /* came in by an interface that counts */
};

static const struct way ways[] = {
	{.name = "ingress"},
	{.name = "ingress, a tag beside", .tagged = true},
	{.name = "ingress, no Ethernet", .layer3 = true},
	{.name = "egress", .hook = FM_HOOK_EGRESS},
	{.name = "egress, no Ethernet", .hook = FM_HOOK_EGRESS, .layer3 = true},
	{.name = "egress, counted before", .hook = FM_HOOK_EGRESS, .again = true},
	{.name = "egress, counted before, a tag beside",
	 .hook = FM_HOOK_EGRESS,
	 .tagged = true,
	 .again = true},
};

static struct harness h;
static bool inner; /* tunnels are looked into */
static unsigned int failures;
static unsigned long compared;

static uint64_t random_state;

/* xorshift64*, so that a seed tells the whole run. */
static uint32_t random_u32(void)
{
	random_state ^= random_state >> 12;
	random_state ^= random_state << 25;
	random_state ^= random_state >> 27;
	return (random_state * 0x2545f4914f6cdd1dULL) >> 32;
}

static uint32_t random_below(uint32_t n)
{
	return ((uint64_t)random_u32() * n) >> 32;
}

/* Puts the packet before the hook; the model is told what the kernel's test run makes of it. */
static int run(const struct way *way, uint8_t *data, size_t length, struct model_link *ret_link)
{
	struct harness_run run = {.hook = way->hook, .layer3 = way->layer3, .repeat = REPEAT};
	uint8_t room[SHORT];

	*ret_link =
		(struct model_link){.layer3 = way->layer3, .tagged = way->tagged, .inner = inner};
	if (way->tagged) {
		ret_link->tci = random_u32();
		run.vlan_tag = 0x8100u << 16 | ret_link->tci;
	}
	if (way->again)
		run.ingress_ifindex = LOOPBACK;
	if (length >= SHORT)
		return harness_run(&h, data, length, &run);
	memset(room, 0xee, sizeof(room));
	memcpy(room, data, length);
	/* What the kernel's test run itself checks must not depend on what was mutated. */
	run.cut = length;
	return harness_run(&h, room, SHORT, &run);
}

/*
 * Without Ethernet: the same packet from its IP header on. The test run takes the EtherType from
 * octets 12 and 13, part of an address.
 */
static size_t without_ethernet(uint8_t *room, const uint8_t *data, size_t length, uint16_t *type)
{
	*type = data[12] << 8 | data[13];
	memcpy(room, data + 14, length - 14);
	room[12] = data[12];
	room[13] = data[13];
	return length - 14;
}

/* Whether packets from the interface count as seen. */
static void mark(bool seen)
{
	static bool marked;

	if (seen != marked)
		fm_kernel_set_seen(h.kernel, LOOPBACK, seen);
	marked = seen;
}

static void compare(const struct way *way, uint8_t *data, size_t length)
{
	static uint8_t room[PACKET_ROOM];
	struct model_link link;
	const char *why = "run";
	uint16_t type = 0;
	struct model m;

	if (failures >= FAILURES_MAX || (way->layer3 && length < 28))
		return;
	compare_forget(&h);
	harness_reset(&h);
	mark(way->again);
	if (way->layer3) {
		length = without_ethernet(room, data, length, &type);
		data = room;
	}
	if (run(way, data, length, &link) == 0) {
		link.type = type;
		model_packet(&m, data, length, &link);
		why = compare_differs(&h, &m,
				      &(struct compare_way){.repeat = REPEAT,
							    .hook = way->hook,
							    .ifindex = LOOPBACK,
							    .again = way->again});
	}
	compared++;
	if (!why)
		return;
	failures++;
	printf("# %s\n", way->name);
	compare_dump(why, data, length);
}

static void compare_all(uint8_t *data, size_t length)
{
	for (size_t i = 0; i < FM_ARRAY_SIZE(ways); i++)
		compare(&ways[i], data, length);
}

static void test_cut(void)
{
	struct packet p;

	failures = compared = 0;
	for (unsigned int i = 0; i < CORPUS_SIZE; i++) {
		corpus_make(&p, i);
		for (size_t length = 14; length <= p.length; length++)
			compare_all(p.data, length);
	}
	FM_TEST(failures == 0, "%s: packets cut at every octet: %lu", inner ? "inner" : "outer",
		compared);
}

static void test_contradictions(void)
{
	static const uint8_t values[] = {0, 1, 4, 5, 0x0f, 0x45, 0x60, 0x7f, 0x80, 0xff, 44, 58};
	unsigned int first = inner ? CORPUS_TUNNELS : 0;
	unsigned int last = inner ? CORPUS_SIZE : CORPUS_TUNNELS;
	struct packet p;

	failures = compared = 0;
	for (unsigned int i = first; i < last; i++) {
		corpus_make(&p, i);
		for (size_t at = 12; at < p.length; at++) {
			uint8_t kept = p.data[at];

			for (size_t v = 0; v < FM_ARRAY_SIZE(values) + 2; v++) {
				p.data[at] = v < FM_ARRAY_SIZE(values) ? values[v]
					     : v & 1		       ? kept + 1
								       : kept - 1;
				compare_all(p.data, p.length);
			}
			p.data[at] = kept;
		}
	}
	FM_TEST(failures == 0, "%s: every octet set to contradicting values: %lu",
		inner ? "inner" : "outer", compared);
}

static void same_address(struct packet *p)
{
	uint8_t *ip = p->data + p->l3;

	if (ip[0] >> 4 == 4)
		memcpy(ip + 16, ip + 12, 4);
	else
		memcpy(ip + 24, ip + 8, random_below(2) ? 16 : 8);
}

static void mutate(struct packet *p)
{
	unsigned int n = random_below(6), reach = random_below(2) ? 88 : 250;

	corpus_make(p, random_below(CORPUS_SIZE));
	if (random_below(4) == 0)
		packet_payload(p, random_below(1400));
	if (random_below(20) == 0) /* both ends at one address: the ports tell the direction */
		same_address(p);
	while (n-- > 0)
		p->data[12 + random_below(p->length < reach + 12 ? p->length - 12 : reach)] =
			random_u32();
	if (random_below(50) == 0)
		for (size_t i = 14; i < p->length; i++)
			p->data[i] = random_u32();
	if (random_below(3) == 0)
		p->length = 14 + random_below(p->length - 13);
}

static void test_random(unsigned long n)
{
	struct packet p;

	failures = compared = 0;
	for (unsigned long i = 0; i < n; i++) {
		const struct way *way = &ways[random_below(FM_ARRAY_SIZE(ways))];

		mutate(&p);
		compare(way, p.data, p.length);
	}
	FM_TEST(failures == 0 && compared > n * 9 / 10, "%s: random packets: %lu",
		inner ? "inner" : "outer", compared);
}

/* With segmentation fields as odd as the rest only the sums are told. */
static void test_random_segments(unsigned long n)
{
	unsigned long ran = 0;
	struct packet p;

	failures = 0;
	for (unsigned long i = 0; i < n && failures < FAILURES_MAX; i++) {
		struct harness_run offload = {.gso_size = random_below(4) ? random_below(300)
									  : random_below(65536),
					      .gso_segs = random_below(3) ? random_below(20) : 0,
					      .repeat = REPEAT};

		mutate(&p);
		harness_reset(&h);
		if (harness_run(&h, p.data, p.length, &offload) != 0)
			continue; /* too short for the kernel's test run */
		ran++;
		if (!harness_identity(&h)) {
			failures++;
			compare_dump("identity", p.data, p.length);
		}
	}
	FM_TEST(failures == 0 && ran > n / 3, "%s: random segmented packets: %lu",
		inner ? "inner" : "outer", ran);
}

static int test_all(enum fm_tunnel_key key, unsigned long n)
{
	struct fm_kernel_options options = {.max_flows = 64, .tunnel = key};
	int r = harness_init(&h, &options);

	if (r < 0)
		return r;
	inner = key == FM_TUNNEL_KEY_INNER;
	model_forget();
	test_cut();
	test_contradictions();
	test_random(n);
	test_random_segments(n / 5);
	harness_done(&h);
	return 0;
}

int main(int argc, char **argv)
{
	unsigned long n = argc > 1 ? strtoul(argv[1], NULL, 0) : 100000;
	int r;

	if (!harness_allowed())
		return fm_test_skip_all("needs root");
	random_state = argc > 2 ? strtoull(argv[2], NULL, 0) : fm_clock_realtime_ns();
	printf("# seed %" PRIu64 "\n", random_state);
	random_state |= 1;
	r = test_all(FM_TUNNEL_KEY_OUTER, n);
	if (r == 0)
		r = test_all(FM_TUNNEL_KEY_INNER, n);
	if (r < 0)
		return fm_test_bail("harness", r);
	return fm_test_done();
}
