/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The packet parser and what counts: any octets before any hook. A packet that comes again goes the
 * short way the second time and through copies the third; all must say what the model says. With
 * segmentation, or several packets in a row, nothing may be lost between the counters.
 */
#include <endian.h>

#include "compare.h"
#include "fuzz.h"
#include "kernel.h"

#define REPEAT	    3
#define IFINDEX	    1
#define PACKETS_MAX 16

/* Where the input's first octets lead. */
struct plan {
	bool compared, tcp, tagged, layer3, again;
	enum fm_tunnel_key tunnel;
	enum fm_hook hook;
	uint16_t tci, gso_size, gso_segs, linear;
	bool every, ring, prefixes;
	uint8_t coarse; /* bits of enum fm_coarse */
};

static struct plan read_plan(struct input *input)
{
	static const uint8_t coarse[8] = {
		[4] = FM_COARSE | FM_COARSE_LENGTHS,
		[5] = FM_COARSE | FM_COARSE_PORTS,
		[6] = FM_COARSE | FM_COARSE_PORTS | FM_COARSE_PROTOCOL,
		[7] = FM_COARSE | FM_COARSE_PORTS,
	};
	uint8_t a = input_u8(input), b = input_u8(input);
	struct plan plan = {
		.compared = !(a & 0x01),
		.tcp = a & 0x02,
		.tagged = a & 0x04,
		.layer3 = a & 0x08,
		.hook = a & 0x10 ? FM_HOOK_EGRESS : FM_HOOK_INGRESS,
		.again = (a & 0x30) == 0x30,
		.tunnel = (a >> 6) % 3,
		.every = b & 0x01,
		.ring = b & 0x02,
		.coarse = coarse[b >> 2 & 7],
		.prefixes = (b >> 2 & 7) == 7,
	};

	plan.tci = input_u16(input);
	plan.linear = input_u8(input);
	if (plan.compared)
		return plan;
	plan.gso_size = input_u16(input);
	plan.gso_segs = input_u8(input);
	return plan;
}

static void load(const struct plan *plan)
{
	struct fm_rodata options = {
		.tcp = plan->tcp && (plan->compared || !plan->coarse),
		.coarse = plan->compared ? 0 : plan->coarse,
		.has_prefixes = plan->prefixes,
		.prefix_length = {20, 44},
		.prefix_mask = {{~0ULL, htobe64(0xfffffffffffff000)}, {htobe64(~0ULL << 20), 0}},
		.tunnel = plan->tunnel,
		.observe_every = !plan->compared && plan->every,
		.key_vlan = !plan->compared,
		.key_tos = !plan->compared,
		.timeout_ticks = 50,
	};

	for (unsigned int i = 0; i < FM_SEEDS; i++)
		options.seed[i] = 0x9e3779b97f4a7c15ULL * (i + 1);
	kernel_load(&options);
	kernel_set_seen(IFINDEX, plan->again);
	kernel_set_ring(plan->compared || plan->ring);
	model_forget();
}

/* The octets behind the packet's end are not to be touched: memory of its own. */
static void run(const struct plan *plan, const uint8_t *data, size_t length, uint16_t type,
		size_t linear)
{
	uint8_t *copy = malloc(length ?: 1);

	memcpy(copy, data, length);
	kernel_run(&(struct kernel_packet){
		.data = copy,
		.length = length,
		.linear = linear < length ? linear : length,
		.hook = plan->hook,
		.layer3 = plan->layer3,
		.type = type,
		.tagged = plan->tagged,
		.tci = plan->tci,
		.ifindex = IFINDEX,
		.ingress_ifindex = plan->again ? IFINDEX : 0,
		.gso_size = plan->gso_size,
		.gso_segs = plan->gso_segs,
	});
	free(copy);
}

static void compare(const struct plan *plan, const uint8_t *data, size_t length, uint16_t type)
{
	const struct model_link link = {
		.layer3 = plan->layer3,
		.type = type,
		.tagged = plan->tagged,
		.tci = plan->tci,
		.inner = plan->tunnel != FM_TUNNEL_KEY_OUTER,
	};
	const struct compare_way way = {
		.repeat = REPEAT, .hook = plan->hook, .ifindex = IFINDEX, .again = plan->again};
	const char *why;
	struct model m;

	run(plan, data, length, type, length);
	run(plan, data, length, type, length);
	run(plan, data, length, type, plan->linear);
	model_packet(&m, data, length, &link);
	why = compare_differs(NULL, &m, &way);
	if (!why)
		return;
	compare_dump(why, data, length);
	fflush(stdout);
	abort();
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct input input = {data, size};
	struct plan plan = read_plan(&input);
	uint16_t type = 0;

	if (plan.layer3) {
		type = input_u16(&input) & 1 ? 0x86dd : 0x0800;
		if (plan.compared && plan.tunnel == FM_TUNNEL_KEY_BOTH)
			plan.tunnel = FM_TUNNEL_KEY_INNER;
	} else if (plan.compared && plan.tunnel == FM_TUNNEL_KEY_BOTH) {
		plan.tunnel = FM_TUNNEL_KEY_INNER; /* the model does not know the hash */
	}
	load(&plan);
	if (plan.compared) {
		/* A device with a link layer gives all of its header. */
		if (input.left >= (plan.layer3 ? 1 : 14))
			compare(&plan, input.at, input.left, type);
		return 0;
	}
	for (unsigned int i = 0; i < PACKETS_MAX && input.left > 2; i++) {
		size_t length, wanted = input_u8(&input);
		const uint8_t *packet = input_take(&input, wanted, &length);

		run(&plan, packet, length, type, plan.linear < 128 ? plan.linear : length);
	}
	FUZZ_CHECK(harness_identity(NULL));
	return 0;
}
