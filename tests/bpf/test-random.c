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
#include "corpus.h"
#include "harness.h"
#include "model.h"
#include "test.h"

/* Below this the kernel's test run wants whole headers: longer packets are cut in the kernel. */
#define SHORT	     128
#define FAILURES_MAX 10
/* The first packet of a flow and later ones go different ways through the programs. */
#define REPEAT 3
/* Well below what the kernel half remembers. */
#define FRAGMENTS_MAX 2000

static struct harness h;
static unsigned int failures;

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

static void dump(const char *why, const uint8_t *data, size_t length)
{
	printf("# %s, %zu octets:", why, length);
	for (size_t i = 0; i < length; i++)
		printf("%s%02x", i % 4 ? "" : " ", data[i]);
	putchar('\n');
}

static int run(const uint8_t *data, size_t length)
{
	uint8_t room[SHORT];

	if (length >= SHORT)
		return harness_run(&h, data, length, &(struct harness_run){.repeat = REPEAT});
	memset(room, 0xee, sizeof(room));
	memcpy(room, data, length);
	/* What the kernel's test run itself checks must not depend on what was mutated. */
	return harness_run(&h, room, SHORT, &(struct harness_run){.cut = length, .repeat = REPEAT});
}

static bool noted(enum fm_counter which, bool wanted)
{
	return harness_count(&h, which).packets == (wanted ? REPEAT : 0);
}

static const char *half_differs(const struct fm_half *half, const struct model *m)
{
	uint16_t length = m->octets;

	if (half->packets != REPEAT || half->octets != REPEAT * m->octets)
		return "packets or octets";
	if (half->min_length != length || half->max_length != length)
		return "lengths";
	if (half->min_ttl != m->ttl || half->max_ttl != m->ttl || half->tos != m->tos)
		return "ttl or tos";
	if (half->tcp_flags != m->tcp_flags || half->fragment_flags != m->fragment_flags ||
	    half->ends != m->ends)
		return "flags";
	if (half->vlan != m->vlan || half->cvlan != m->cvlan)
		return "vlan";
	return NULL;
}

/* What the kernel half did otherwise than the model; NULL: nothing. */
static const char *differs(const struct model *m)
{
	struct fm_count ignored;
	struct fm_slot *slot;
	size_t n = harness_slots(&h, &slot);

	if (!harness_identity(&h))
		return "identity";
	if (m->verdict != MODEL_FLOW) {
		ignored = harness_count(&h, m->verdict == MODEL_NOT_IP ? FM_COUNTER_not_ip
								       : FM_COUNTER_malformed);
		return n == 0 && ignored.packets == REPEAT && ignored.octets == REPEAT * m->octets
			       ? NULL
			       : "verdict";
	}
	if (n != 1)
		return "no flow";
	if (memcmp(&slot->key, &m->key, sizeof(m->key)))
		return "key";
	if (!noted(FM_COUNTER_cut_transport, m->cut_transport) ||
	    !noted(FM_COUNTER_cut_payload, m->cut_payload) ||
	    !noted(FM_COUNTER_deep_headers, m->deep_headers) ||
	    !noted(FM_COUNTER_fragment_orphan, m->orphan))
		return "notes";
	if (slot->half[!m->direction].packets)
		return "direction";
	return half_differs(&slot->half[m->direction], m);
}

static void compare(const uint8_t *data, size_t length)
{
	const char *why = "run";
	struct model m;

	if (failures >= FAILURES_MAX)
		return;
	if (model_fragments() > FRAGMENTS_MAX) {
		model_forget();
		harness_forget_fragments(&h);
	}
	harness_reset(&h);
	model_frame(&m, data, length);
	if (run(data, length) == 0)
		why = differs(&m);
	if (!why)
		return;
	failures++;
	dump(why, data, length);
}

static void test_cut(void)
{
	struct packet p;
	unsigned long n = 0;

	failures = 0;
	for (unsigned int i = 0; i < CORPUS_SIZE; i++) {
		corpus_make(&p, i);
		for (size_t length = 14; length <= p.length; length++, n++)
			compare(p.data, length);
	}
	FM_TEST(failures == 0, "packets cut at every octet: %lu", n);
}

static void test_contradictions(void)
{
	static const uint8_t values[] = {0, 1, 4, 5, 0x0f, 0x45, 0x60, 0x7f, 0x80, 0xff, 44, 58};
	struct packet p;
	unsigned long n = 0;

	failures = 0;
	for (unsigned int i = 0; i < CORPUS_SIZE; i++) {
		corpus_make(&p, i);
		for (size_t at = 12; at < p.length; at++) {
			uint8_t kept = p.data[at];

			for (size_t v = 0; v < FM_ARRAY_SIZE(values) + 2; v++, n++) {
				p.data[at] = v < FM_ARRAY_SIZE(values) ? values[v]
					     : v & 1		       ? kept + 1
								       : kept - 1;
				compare(p.data, p.length);
			}
			p.data[at] = kept;
		}
	}
	FM_TEST(failures == 0, "every octet set to contradicting values: %lu", n);
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
	unsigned int n = random_below(6);

	corpus_make(p, random_below(CORPUS_SIZE));
	if (random_below(4) == 0)
		packet_payload(p, random_below(1400));
	if (random_below(20) == 0) /* both ends at one address: the ports tell the direction */
		same_address(p);
	while (n-- > 0)
		p->data[12 + random_below(p->length < 100 ? p->length - 12 : 88)] = random_u32();
	if (random_below(50) == 0)
		for (size_t i = 14; i < p->length; i++)
			p->data[i] = random_u32();
	if (random_below(3) == 0)
		p->length = 14 + random_below(p->length - 13);
}

static void test_random(unsigned long n)
{
	struct packet p;

	failures = 0;
	for (unsigned long i = 0; i < n; i++) {
		mutate(&p);
		compare(p.data, p.length);
	}
	FM_TEST(failures == 0, "random packets: %lu", n);
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
			dump("identity", p.data, p.length);
		}
	}
	FM_TEST(failures == 0 && ran > n / 3, "random segmented packets: %lu", ran);
}

int main(int argc, char **argv)
{
	struct fm_kernel_options options = {.max_flows = 64};
	unsigned long n = argc > 1 ? strtoul(argv[1], NULL, 0) : 100000;
	int r;

	if (!harness_allowed())
		return fm_test_skip_all("needs root");
	random_state = argc > 2 ? strtoull(argv[2], NULL, 0) : fm_clock_realtime_ns();
	printf("# seed %" PRIu64 "\n", random_state);
	random_state |= 1;
	r = harness_init(&h, &options);
	if (r < 0)
		return fm_test_bail("harness", r);
	test_cut();
	test_contradictions();
	test_random(n);
	test_random_segments(n / 5);
	harness_done(&h);
	return fm_test_done();
}
