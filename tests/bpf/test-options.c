/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Options of the key and of observation: every combination loads, each does what it says. Argument
 * --all: with every combination of TCP and tunnels as well.
 */
#include <arpa/inet.h>
#include <netinet/in.h>
#include <string.h>
#include <sys/utsname.h>

#include <bpf/bpf.h>

#include "base/macro.h"
#include "harness.h"
#include "test.h"

/*
 * Instructions the verifier looks at for each program, with a quarter of room: 1,000,000 is the
 * kernel's limit, and the figure grows unnoticed with every branch. Verifiers differ: since Linux
 * 6.18 they look at less.
 */
static const struct {
	const char *name;
	enum fm_hook hook;
	bool layer3;
	unsigned int limit[2][2]; /* by verifier, the older first; TCP measured or not */
} programs[] = {
	{"fm_in_l2", FM_HOOK_INGRESS, false, {{74000, 95000}, {59000, 80500}}},
	{"fm_out_l2", FM_HOOK_EGRESS, false, {{79000, 99000}, {63000, 84000}}},
	{"fm_in_l3", FM_HOOK_INGRESS, true, {{74000, 95000}, {59000, 80500}}},
	{"fm_out_l3", FM_HOOK_EGRESS, true, {{79000, 99000}, {63000, 84000}}},
};

static struct packet p;

static void udp(uint16_t tci, uint8_t tos)
{
	packet_new(&p);
	packet_eth(&p);
	if (tci) {
		packet_vlan(&p, 0x88a8, tci);
		packet_vlan(&p, 0x8100, tci + 1);
	}
	packet_ip4(&p, .src = 0x0a000001, .dst = 0x0a000002, .protocol = IPPROTO_UDP, .tos = tos);
	packet_udp(&p, 1000, 53);
	packet_payload(&p, 20);
	packet_end(&p);
}

static size_t slots(const struct harness *h)
{
	struct fm_slot *slot;

	return harness_slots(h, &slot);
}

/* Packets that differ in one thing, n of them on each hook: flows that come of it. */
static void run_all(struct harness *h)
{
	harness_reset(h);
	udp(0, 0);
	harness_packet(h, &p, .ifindex = 2);
	udp(100, 0);
	harness_packet(h, &p, .ifindex = 2);
	udp(0, 4);
	harness_packet(h, &p, .ifindex = 2);
	udp(0, 0);
	harness_packet(h, &p, .ifindex = 3);
	harness_packet(h, &p, .ifindex = 3, .hook = FM_HOOK_EGRESS, .ingress_ifindex = 2);
}

static void test_combination(unsigned int bits)
{
	struct fm_kernel_options options = {.max_flows = 64,
					    .key_vlan = bits & 1,
					    .key_interface = bits & 2,
					    .key_tos = bits & 4,
					    .observe_every = bits & 8};
	size_t wanted = 1;
	struct harness h;
	struct fm_slot *slot;
	int r = harness_init(&h, &options);

	if (!FM_TEST(r == 0, "options %u load: %d", bits, r))
		return;
	wanted += options.key_vlan + options.key_tos;
	wanted += options.key_interface || options.observe_every; /* interface 3 */
	wanted += options.observe_every;			  /* its egress */
	fm_kernel_set_seen(h.kernel, 2, true);
	run_all(&h);
	FM_TEST(slots(&h) == wanted && harness_identity(&h), "options %u: %zu flows of %zu", bits,
		slots(&h), wanted);
	FM_TEST(harness_count(&h, FM_COUNTER_again).packets == !options.observe_every,
		"options %u: counted once", bits);
	harness_reset(&h);
	udp(100, 8);
	harness_packet(&h, &p, .ifindex = 3, .hook = FM_HOOK_EGRESS);
	FM_TEST(harness_slots(&h, &slot) == 1 && slot->key.vlan == (options.key_vlan ? 100 : 0) &&
			slot->key.cvlan == (options.key_vlan ? 101 : 0) &&
			slot->key.tos == (options.key_tos ? 8 : 0) && slot->key.tunnel_id == 0 &&
			slot->key.tunnel_type == 0 &&
			slot->key.ifindex == (options.observe_every   ? (3 | FM_KEY_EGRESS)
					      : options.key_interface ? 3
								      : 0),
		"options %u: members of the key", bits);
	harness_done(&h);
}

/* Another namespace's programs: interface numbers carry its base, the table is the same. */
static void test_namespace(void)
{
	struct fm_kernel_options options = {.max_flows = 64, .key_interface = true};
	LIBBPF_OPTS(bpf_test_run_opts, opts, .data_in = p.data);
	struct fm_slot *slot;
	struct harness h;
	int r = harness_init(&h, &options), fd;

	if (!FM_TEST(r == 0, "harness"))
		return;
	udp(0, 0);
	opts.data_size_in = p.length;
	fd = fm_generation_program(h.generation, 5, FM_HOOK_INGRESS, false);
	r = bpf_prog_test_run_opts(fd, &opts);
	FM_TEST(r == 0 && harness_slots(&h, &slot) == 1 && slot->key.ifindex == (5 << 24 | 1) &&
			harness_identity(&h),
		"interfaces of another namespace have its base");
	harness_done(&h);
}

static bool is_new_verifier(void)
{
	unsigned int major = 0, minor = 0;
	struct utsname name;

	if (uname(&name) < 0 || sscanf(name.release, "%u.%u", &major, &minor) != 2)
		return false;
	return major > 6 || (major == 6 && minor >= 18);
}

#define PREFIXES 1 /* digest of those that programs are loaded with */

/* The most instructions of each program over all these options, for what tcp and tunnel say. */
static bool verified(struct fm_kernel_options *options, unsigned int most[4])
{
	static const struct fm_prefix_map map = {.digest = PREFIXES};
	struct harness h;

	if (harness_init_prefixes(&h, options, &map) != 0)
		return false;
	for (size_t i = 0; i < FM_ARRAY_SIZE(programs); i++) {
		int fd = fm_generation_program(h.generation, 0, programs[i].hook,
					       programs[i].layer3);
		struct bpf_prog_info info = {};
		uint32_t length = sizeof(info);

		if (bpf_obj_get_info_by_fd(fd, &info, &length) != 0)
			info.verified_insns = UINT32_MAX;
		most[i] = FM_MAX(most[i], info.verified_insns);
	}
	harness_done(&h);
	return true;
}

/*
 * Every combination of what can be on and off loads, within what older verifiers take as well. Few:
 * of the key's options only those that cost most.
 */
static void test_verified(bool tcp, enum fm_tunnel_key tunnel, unsigned int coarse, bool few)
{
	struct fm_kernel_options options = {
		.max_flows = 64,
		.tcp = tcp,
		.tunnel = tunnel,
		.coarse = (uint8_t)coarse,
		.prefixes = coarse & FM_COARSE_PORTS ? PREFIXES : 0,
	};
	unsigned int most[FM_ARRAY_SIZE(programs)] = {}, loaded = 0, n = few ? 1 : 16;

	for (unsigned int key = 0; key < n; key++) {
		options.key_vlan = few || key & 1;
		options.key_tos = few || key & 2;
		options.key_interface = key & 4;
		options.observe_every = key & 8;
		loaded += verified(&options, most);
	}
	FM_TEST(loaded == n, "tcp %d, tunnel %d, coarse %u: %u of %u combinations load", tcp,
		tunnel, coarse, loaded, n);
	for (size_t i = 0; i < FM_ARRAY_SIZE(programs); i++) {
		unsigned int limit = programs[i].limit[is_new_verifier()][tcp];

		FM_TEST(most[i] && most[i] <= limit,
			"tcp %d, tunnel %d, coarse %u, %s: %u instructions verified, limit %u", tcp,
			tunnel, coarse, programs[i].name, most[i], limit);
	}
}

int main(int argc, char **argv)
{
	static const unsigned int coarse[] = {0, FM_COARSE | FM_COARSE_LENGTHS,
					      FM_COARSE | FM_COARSE_PORTS | FM_COARSE_PROTOCOL};
	bool few = argc < 2 || strcmp(argv[1], "--all");
	int r;

	if (!harness_allowed())
		return fm_test_skip_all("needs root");
	r = harness_devices(2);
	if (r < 0)
		return fm_test_bail("devices", r);
	for (unsigned int bits = 0; bits < 16; bits++)
		test_combination(bits);
	test_namespace();
	for (unsigned int tunnel = 0; tunnel <= FM_TUNNEL_KEY_BOTH; tunnel++) {
		test_verified(true, tunnel, 0, few);
		for (size_t i = 0; i < FM_ARRAY_SIZE(coarse); i++)
			test_verified(false, tunnel, coarse[i], few);
	}
	return fm_test_done();
}
