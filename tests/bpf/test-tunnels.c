/* SPDX-License-Identifier: Apache-2.0 */
/* Tunnels looked into, and what lies between link layer and IP; each header as its RFC draws it. */
#include <netinet/in.h>
#include <string.h>

#include "base/macro.h"
#include "bpf/hash.h"
#include "harness.h"
#include "test.h"

#define OUTER_A	     0xc0000201u
#define OUTER_B	     0xc0000202u
#define INNER_A	     0x0a000001u
#define INNER_B	     0x0a000002u
#define INNER_OCTETS 100 /* of each inner packet */

static struct harness h;
static struct packet p;

/* One way to carry a packet; id is what the header says, version of the outer IP header. */
struct carrier {
	const char *name;
	uint8_t type;
	bool has_id; /* in the header */
	bool key_id; /* and part of the key */
	int inner;   /* the only version it carries, 0: both */
	uint8_t protocol;
	uint16_t port; /* UDP */
	bool ethernet;
};

static const struct carrier carriers[] = {
	{"VXLAN", FM_TUNNEL_VXLAN, true, true, 0, IPPROTO_UDP, 4789, true},
	{"VXLAN, old port", FM_TUNNEL_VXLAN, true, true, 0, IPPROTO_UDP, 8472, true},
	{"GENEVE", FM_TUNNEL_GENEVE, true, true, 0, IPPROTO_UDP, 6081, true},
	{"GENEVE of IP, options", FM_TUNNEL_GENEVE, true, true, 0, IPPROTO_UDP, 6081, false},
	{"GRE", FM_TUNNEL_GRE, false, false, 0, IPPROTO_GRE, 0, false},
	{"GRE, key, checksum, sequence", FM_TUNNEL_GRE, true, true, 0, IPPROTO_GRE, 1, false},
	{"GRE of Ethernet", FM_TUNNEL_GRE, false, false, 0, IPPROTO_GRE, 0, true},
	{"NVGRE", FM_TUNNEL_NVGRE, true, true, 0, IPPROTO_GRE, 2, true},
	{"IP in IP", FM_TUNNEL_IPIP, false, false, 4, IPPROTO_IPIP, 0, false},
	{"IPv6 in IP", FM_TUNNEL_IP6IP, false, false, 6, IPPROTO_IPV6, 0, false},
	{"GTP-U", FM_TUNNEL_GTPU, true, false, 0, IPPROTO_UDP, 2152, false},
	{"GTP-U, extension headers", FM_TUNNEL_GTPU, true, false, 0, IPPROTO_UDP, 2152, true},
	{"MPLS in UDP", FM_TUNNEL_MPLS_UDP, false, false, 0, IPPROTO_UDP, 6635, false},
};

static void add_ip(int version, uint8_t protocol, bool back, uint32_t a, uint32_t b)
{
	if (version == 4)
		packet_ip4(&p, .src = back ? b : a, .dst = back ? a : b, .protocol = protocol);
	else
		packet_ip6(&p, .src = back ? b : a, .dst = back ? a : b, .next = protocol);
}

/* The header of the tunnel itself. */
static void add_tunnel(const struct carrier *c, uint32_t id)
{
	switch (c->type) {
	case FM_TUNNEL_VXLAN:
		packet_vxlan(&p, id);
		break;
	case FM_TUNNEL_GENEVE:
		packet_geneve(&p, id, c->ethernet ? 0 : 12);
		break;
	case FM_TUNNEL_GRE:
		packet_gre(&p, c->has_id ? 0xb0 : 0, id);
		break;
	case FM_TUNNEL_NVGRE:
		packet_gre(&p, 0x20, id << 8 | 7);
		break;
	case FM_TUNNEL_GTPU:
		packet_gtpu(&p, id, c->ethernet ? 1 : 0);
		break;
	case FM_TUNNEL_MPLS_UDP:
		packet_mpls(&p, 1000, false);
		packet_mpls(&p, 2000, true);
		break;
	}
}

static void add_carrier(const struct carrier *c, int outer, uint32_t id, bool back)
{
	add_ip(outer, c->protocol, back, outer == 4 ? OUTER_A : 11, outer == 4 ? OUTER_B : 12);
	if (c->protocol == IPPROTO_UDP)
		packet_udp(&p, back ? 50001 : 50000, c->port);
	add_tunnel(c, id);
	if (c->ethernet && c->type != FM_TUNNEL_GTPU)
		packet_eth(&p);
}

/* An inner TCP packet of INNER_OCTETS. */
static void add_inner(int inner, bool back)
{
	add_ip(inner, IPPROTO_TCP, back, inner == 4 ? INNER_A : 1, inner == 4 ? INNER_B : 2);
	packet_tcp(&p, back ? 80 : 1234, back ? 1234 : 80, 0x18, 0);
	packet_payload(&p, INNER_OCTETS - (inner == 4 ? 40 : 60));
}

static void make(const struct carrier *c, int outer, int inner, uint32_t id, bool back)
{
	packet_new(&p);
	packet_eth(&p);
	add_carrier(c, outer, id, back);
	add_inner(inner, back);
	packet_end(&p);
}

static void run(void)
{
	harness_packet(&h, &p, .ifindex = 2);
}

static bool addresses_are(const struct fm_tunnel *tunnel, int outer)
{
	static const uint8_t mapped[12] = {[10] = 0xff, [11] = 0xff};
	static const uint8_t prefix[4] = {0x20, 0x01, 0x0d, 0xb8};

	if (outer == 4)
		return !memcmp(tunnel->addr[0], mapped, 12) && tunnel->addr[0][15] == 1 &&
		       !memcmp(tunnel->addr[1], mapped, 12) && tunnel->addr[1][15] == 2;
	return !memcmp(tunnel->addr[0], prefix, 4) && tunnel->addr[0][15] == 11 &&
	       tunnel->addr[1][15] == 12;
}

/* Both directions through a tunnel: one slot, keyed by what is inside. */
static void test_carrier(const struct carrier *c, int outer, int inner)
{
	uint32_t id = c->type == FM_TUNNEL_NVGRE ? 0x5678 : 77;
	const struct fm_tunnel *tunnel;
	size_t there, back;
	struct fm_slot *slot;

	harness_reset(&h);
	make(c, outer, inner, id, false);
	there = p.length;
	run();
	make(c, outer, inner, c->type == FM_TUNNEL_GTPU ? 78 : id, true);
	back = p.length;
	run();
	FM_TEST(harness_slots(&h, &slot) == 1 && slot->key.protocol == IPPROTO_TCP &&
			slot->key.family == inner && slot->key.port[0] == htons(1234) &&
			slot->half[0].packets == 1 && slot->half[0].octets == INNER_OCTETS &&
			slot->half[1].packets == 1 && slot->half[1].octets == INNER_OCTETS &&
			slot->half[0].tcp_flags == 0x18,
		"%s, %d in %d: one conversation, of inner octets", c->name, inner, outer);
	if (!slot)
		return;
	tunnel = harness_tunnel(&h, slot);
	FM_TEST(tunnel->type == c->type && tunnel->family == outer && addresses_are(tunnel, outer),
		"%s, %d in %d: type and end points", c->name, inner, outer);
	FM_TEST(tunnel->id[0] == (c->has_id ? id : FM_TUNNEL_NO_ID) &&
			tunnel->id[1] == (!c->has_id		      ? FM_TUNNEL_NO_ID
					  : c->type == FM_TUNNEL_GTPU ? 78
								      : id),
		"%s, %d in %d: ids", c->name, inner, outer);
	FM_TEST(harness_identity(&h) && harness_count(&h, FM_COUNTER_tunnel_headers).packets == 2 &&
			harness_count(&h, FM_COUNTER_tunnel_headers).octets ==
				there + back - 2 * 14 - 2 * INNER_OCTETS,
		"%s, %d in %d: outer headers accounted for", c->name, inner, outer);
	FM_TEST((slot->half[0].mpls == (1ULL << 40 | 1000ULL << 20 | 2000)) ==
			(c->type == FM_TUNNEL_MPLS_UDP),
		"%s, %d in %d: labels", c->name, inner, outer);
	/* Another id is another flow, where ids are part of the key. */
	make(c, outer, inner, id + 1, false);
	run();
	FM_TEST(harness_slots(&h, &slot) == (c->key_id ? 2 : 1), "%s, %d in %d: another id",
		c->name, inner, outer);
}

/* Cut anywhere it is some flow, and the sums hold. */
static void test_cut(const struct carrier *c, int outer, int inner)
{
	size_t wrong = 0, whole = 0, undecoded = 0;
	struct fm_slot *slot;

	make(c, outer, inner, 0x5678, false);
	for (size_t length = 15; length <= p.length; length++) {
		harness_reset(&h);
		harness_packet(&h, &p, .ifindex = 2, .cut = length);
		wrong += !harness_identity(&h) || harness_slots(&h, &slot) > 1;
		if (!slot)
			continue;
		if (slot->key.tunnel_type)
			whole++;
		else
			undecoded += harness_count(&h, FM_COUNTER_tunnel_undecoded).packets;
	}
	/* From the inner IP header on it is the inner flow. */
	FM_TEST(!wrong && whole == INNER_OCTETS + 1u - (inner == 4 ? 20 : 40) && undecoded,
		"%s, %d in %d: cut at every octet: %zu decoded, %zu not", c->name, inner, outer,
		whole, undecoded);
}

/* Neither decoded nor lost: counted by what is outside. */
static void expect_outer(const char *what)
{
	struct fm_slot *slot;

	run();
	FM_TEST(harness_slots(&h, &slot) == 1 && !slot->key.tunnel_type &&
			slot->key.protocol != IPPROTO_TCP &&
			slot->half[slot->half[1].packets != 0].octets == p.length - 14 &&
			harness_count(&h, FM_COUNTER_tunnel_undecoded).packets == 1 &&
			harness_identity(&h),
		"not decoded: %s", what);
	harness_reset(&h);
}

static void test_undecoded(void)
{
	harness_reset(&h);
	make(&carriers[0], 4, 4, 7, false);
	p.data[14 + 28] = 0;
	expect_outer("VXLAN without an id");
	make(&carriers[2], 4, 4, 7, false);
	p.data[14 + 28] |= 0x40;
	expect_outer("GENEVE of another version");
	make(&carriers[4], 4, 4, 7, false);
	p.data[14 + 21] |= 1;
	expect_outer("GRE version 1");
	make(&carriers[4], 4, 4, 7, false);
	packet_put16(&p, 14 + 22, 0x0806);
	expect_outer("GRE of ARP");
	make(&carriers[10], 4, 4, 7, false);
	p.data[14 + 29] = 1;
	expect_outer("GTP-U echo");
	make(&carriers[8], 4, 4, 7, false);
	p.data[14 + 20] = 0x65;
	expect_outer("IP in IP that is not IPv4");
	make(&carriers[8], 4, 4, 7, false);
	p.data[14 + 20] = 0x44;
	expect_outer("inner header too short");
	make(&carriers[0], 4, 4, 7, false);
	packet_put16(&p, 14 + 6, 0x2000);
	expect_outer("first fragment of a tunnel packet");
}

/* Inner octets are what the inner header says: padding of the inner frame does not count. */
static void test_padding(void)
{
	struct fm_slot *slot;

	harness_reset(&h);
	packet_new(&p);
	packet_eth(&p);
	add_carrier(&carriers[0], 4, 7, false);
	packet_ip4(&p, .src = INNER_A, .dst = INNER_B, .protocol = IPPROTO_UDP);
	packet_udp(&p, 9, 9);
	packet_payload(&p, 4);
	packet_end(&p);
	packet_payload(&p, 14); /* the outer lengths know nothing of it: made to */
	packet_put16(&p, 16, (uint16_t)(p.length - 14));
	packet_put16(&p, 14 + 20 + 4, (uint16_t)(p.length - 34));
	run();
	FM_TEST(harness_slots(&h, &slot) == 1 && slot->half[0].octets == 32 && harness_identity(&h),
		"padding of the inner frame does not count");
}

/* Tunnels in tunnels: three are followed, the fourth is counted as what it is. */
static void test_nesting(void)
{
	const struct carrier *ipip = &carriers[8];

	for (int depth = 1; depth <= 4; depth++) {
		struct fm_slot *slot;

		harness_reset(&h);
		packet_new(&p);
		packet_eth(&p);
		for (int i = 0; i < depth; i++)
			add_carrier(i == 1 ? &carriers[5] : ipip, 4, 100 + i, false);
		add_inner(4, false);
		packet_end(&p);
		run();
		FM_TEST(harness_slots(&h, &slot) == 1 && harness_identity(&h) &&
				(slot->key.protocol == IPPROTO_TCP) == (depth < 4) &&
				harness_count(&h, FM_COUNTER_tunnel_deep).packets == (depth == 4),
			"nested %d deep", depth);
	}
}

/* Segmentation offload in a tunnel: wire packets, inner headers only. */
static void test_segments(void)
{
	for (size_t i = 0; i < FM_ARRAY_SIZE(carriers); i++) {
		const struct carrier *c = &carriers[i];
		int inner = c->inner ? c->inner : 4, header = inner == 4 ? 40 : 60;
		struct fm_slot *slot;

		harness_reset(&h);
		packet_new(&p);
		packet_eth(&p);
		add_carrier(c, 4, 0x5678, false);
		add_ip(inner, IPPROTO_TCP, false, inner == 4 ? INNER_A : 1,
		       inner == 4 ? INNER_B : 2);
		packet_tcp(&p, 1234, 80, 0x10, 0);
		packet_payload(&p, 2500);
		packet_end(&p);
		harness_packet(&h, &p, .ifindex = 2, .gso_size = 1000, .gso_segs = 3);
		FM_TEST(harness_slots(&h, &slot) == 1 && slot->half[0].packets == 3 &&
				slot->half[0].octets == 2500u + 3 * header &&
				slot->half[0].max_length == 1000 + header &&
				slot->half[0].min_length == 500 + header && harness_identity(&h),
			"%s: three segments", c->name);
	}
}

/*
 * Tunnel packets of one UDP flow bundled, by an end point in user space or on a router: each
 * segment has a tunnel header of its own, so that there is not one packet inside.
 */
static void test_bundle(const char *mode)
{
	for (size_t i = 0; i < FM_ARRAY_SIZE(carriers); i++) {
		const struct carrier *c = &carriers[i];
		size_t segment, headers;
		struct fm_slot *slot;

		if (c->protocol != IPPROTO_UDP)
			continue;
		for (int inner = 4; inner <= 6; inner += 2) {
			harness_reset(&h);
			make(c, 4, inner, 7, false);
			headers = 20 + 8;
			segment = p.length - 14 - headers;
			for (int copy = 0; copy < 2; copy++)
				packet_octets(&p, p.data + 14 + headers, segment);
			packet_put16(&p, 14 + 2, p.length - 14);
			packet_put16(&p, 14 + 24, p.length - 14 - 20);
			harness_packet(&h, &p, .ifindex = 2, .gso_size = segment, .gso_segs = 3);
			FM_TEST(harness_slots(&h, &slot) == 1 && !slot->key.tunnel_type &&
					slot->key.protocol == IPPROTO_UDP &&
					slot->half[0].packets == 3 &&
					slot->half[0].octets == 3 * (headers + segment) &&
					slot->half[0].max_length == headers + segment &&
					slot->half[0].min_length == headers + segment &&
					harness_identity(&h),
				"%s, bundled: %s, IPv%d", mode, c->name, inner);
		}
	}
}

/* Labels inside a tunnel that is not looked into are not the packet's. */
static void test_foreign_labels(const char *mode)
{
	struct fm_slot *slot;

	harness_reset(&h);
	packet_new(&p);
	packet_eth(&p);
	add_carrier(&carriers[12], 4, 0, false);
	packet_payload(&p, 3000); /* a pseudowire, say */
	packet_end(&p);
	harness_packet(&h, &p, .ifindex = 2, .gso_size = 1000, .gso_segs = 3);
	FM_TEST(harness_slots(&h, &slot) == 1 && slot->key.protocol == IPPROTO_UDP &&
			!slot->half[0].mpls && !slot->half[1].mpls && harness_identity(&h),
		"%s: labels of a tunnel that is not looked into", mode);
}

/* The same fragment in two networks that use the same addresses: two packets. */
static void test_fragments(void)
{
	const struct fm_half *half;
	struct fm_slot *slot;

	harness_reset(&h);
	harness_forget_fragments(&h);
	for (int i = 0; i < 4; i++) {
		bool later = i >= 2;

		packet_new(&p);
		packet_eth(&p);
		add_carrier(&carriers[0], 4, 5 + (i & 1), false);
		packet_ip4(&p, .src = INNER_A, .dst = INNER_B, .protocol = IPPROTO_UDP, .id = 1,
			   .fragment = later ? 1 : 0x2000);
		if (!later)
			packet_udp(&p, 100 + (i & 1), 200);
		packet_payload(&p, 8);
		packet_end(&p);
		run();
	}
	half = harness_slots(&h, &slot) == 2 ? slot->half : NULL;
	FM_TEST(half && half[0].packets == 2 && half[0].octets == 36 + 28 &&
			harness_count(&h, FM_COUNTER_fragment_orphan).packets == 0 &&
			harness_identity(&h),
		"fragments with the same id in two networks");
}

static void test_shims(void)
{
	struct fm_slot *slot;

	for (int version = 4; version <= 6; version += 2) {
		harness_reset(&h);
		packet_new(&p);
		packet_eth(&p);
		packet_mpls(&p, 16, false);
		packet_mpls(&p, 17, false);
		packet_mpls(&p, 18, false);
		packet_mpls(&p, 19, true);
		add_inner(version, false);
		packet_end(&p);
		run();
		FM_TEST(harness_slots(&h, &slot) == 1 && slot->half[0].octets == INNER_OCTETS &&
				slot->half[0].mpls ==
					(1ULL << 60 | 16ULL << 40 | 17ULL << 20 | 18) &&
				!slot->key.tunnel_type && harness_identity(&h),
			"MPLS, IPv%d: the first three of four labels", version);
		harness_reset(&h);
		packet_new(&p);
		packet_eth(&p);
		packet_vlan(&p, 0x8100, 5);
		packet_pppoe(&p, 9, version);
		add_inner(version, false);
		packet_end(&p);
		run();
		FM_TEST(harness_slots(&h, &slot) == 1 && slot->half[0].octets == INNER_OCTETS &&
				slot->half[0].vlan == 5 && harness_identity(&h),
			"PPPoE in a VLAN, IPv%d", version);
	}
	harness_reset(&h);
	packet_new(&p);
	packet_eth(&p);
	packet_mpls(&p, 16, true);
	packet_payload(&p, 60); /* a control word's zeros */
	run();
	FM_TEST(harness_slots(&h, &slot) == 0 &&
			harness_count(&h, FM_COUNTER_not_ip).packets == 1 && harness_identity(&h),
		"a pseudowire is not IP");
}

static void test_flow_label(void)
{
	struct fm_slot *slot;

	harness_reset(&h);
	packet_new(&p);
	packet_eth(&p);
	add_inner(6, false);
	packet_end(&p);
	p.data[14 + 1] |= 0x0a;
	p.data[14 + 2] = 0xbc;
	p.data[14 + 3] = 0xde;
	run();
	FM_TEST(harness_slots(&h, &slot) == 1 && slot->half[0].flow_label == 0xabcde, "flow label");
}

/* Octets turned at random anywhere: whatever it then is, the sums hold. */
static void test_hostile(void)
{
	size_t wrong = 0;

	srandom(1);
	for (unsigned int i = 0; i < 50000; i++) {
		const struct carrier *c = &carriers[(size_t)random() % FM_ARRAY_SIZE(carriers)];
		int outer = random() & 1 ? 4 : 6, inner = random() & 1 ? 4 : 6;

		if (i % 1000 == 0)
			harness_reset(&h);
		make(c, outer, c->inner ? c->inner : inner, (uint32_t)random(), random() & 1);
		for (int n = (int)(random() % 6); n > 0; n--)
			p.data[12 + (size_t)random() % (p.length - 12)] = (uint8_t)random();
		harness_packet(&h, &p, .ifindex = 2,
			       .cut = random() & 3 ? 0 : 15 + (uint32_t)random() % (p.length - 14),
			       .gso_size = random() & 7 ? 0 : 1 + (uint32_t)random() % 300);
		if (i % 1000 == 999) {
			harness_drain(&h);
			wrong += !harness_identity(&h);
		}
	}
	FM_TEST(!wrong, "50,000 random packets of tunnels");
}

static void test_inner(void)
{
	for (size_t i = 0; i < FM_ARRAY_SIZE(carriers); i++)
		for (int outer = 4; outer <= 6; outer += 2)
			for (int inner = 4; inner <= 6; inner += 2) {
				if (carriers[i].inner && carriers[i].inner != inner)
					continue;
				test_carrier(&carriers[i], outer, inner);
				test_cut(&carriers[i], outer, inner);
			}
	test_undecoded();
	test_padding();
	test_nesting();
	test_segments();
	test_bundle("inner");
	test_foreign_labels("inner");
	test_fragments();
	test_shims();
	test_flow_label();
	test_hostile();
}

/* End points whose sums are equal are not the same end points. */
static void test_end_points(void)
{
	static const uint32_t ends[][2] = {{1, 8}, {2, 7}, {3, 6}, {4, 5}};
	struct fm_slot *slot;
	size_t n;

	for (int outer = 4; outer <= 6; outer += 2) {
		harness_reset(&h);
		for (size_t i = 0; i < 2 * FM_ARRAY_SIZE(ends); i++) {
			const uint32_t *end = ends[i / 2];

			packet_new(&p);
			packet_eth(&p);
			add_ip(outer, IPPROTO_IPIP, i & 1, end[0], end[1]);
			add_inner(4, i & 1);
			packet_end(&p);
			run();
		}
		n = harness_slots(&h, &slot);
		FM_TEST(n == FM_ARRAY_SIZE(ends) && harness_identity(&h),
			"both: IPv%d end points of equal sums: %zu flows", outer, n);
	}
}

/* The same inner flow through two tunnels: two flows, each of both directions. */
static void test_both(void)
{
	for (size_t i = 0; i < FM_ARRAY_SIZE(carriers); i++) {
		int inner = carriers[i].inner ? carriers[i].inner : 6;
		struct fm_slot *slot;

		harness_reset(&h);
		for (int outer = 4; outer <= 6; outer += 2)
			for (int back = 0; back < 2; back++) {
				make(&carriers[i], outer, inner, 0x5678, back);
				run();
			}
		FM_TEST(harness_slots(&h, &slot) == 2 && slot->half[0].packets == 1 &&
				slot->half[1].packets == 1 && harness_identity(&h),
			"both: %s", carriers[i].name);
	}
	test_end_points();
}

/* Not asked for: the tunnel's own packets, of all their octets. */
static void test_outer(void)
{
	for (size_t i = 0; i < FM_ARRAY_SIZE(carriers); i++) {
		int inner = carriers[i].inner ? carriers[i].inner : 4;
		struct fm_slot *slot;

		harness_reset(&h);
		make(&carriers[i], 4, inner, 0x5678, false);
		run();
		FM_TEST(harness_slots(&h, &slot) == 1 &&
				slot->key.protocol == carriers[i].protocol &&
				!slot->key.tunnel_type && slot->half[0].octets == p.length - 14 &&
				harness_count(&h, FM_COUNTER_tunnel_undecoded).packets == 0,
			"outer: %s", carriers[i].name);
	}
	test_bundle("outer");
	test_foreign_labels("outer");
}

static int with(enum fm_tunnel_key key, void (*tests)(void))
{
	struct fm_kernel_options options = {.max_flows = 64, .tunnel = key, .tcp = true};
	int r = harness_init(&h, &options);

	if (r < 0)
		return r;
	tests();
	harness_done(&h);
	return 0;
}

int main(void)
{
	int r;

	if (!harness_allowed())
		return fm_test_skip_all("needs root");
	r = harness_devices(3);
	if (r == 0)
		r = with(FM_TUNNEL_KEY_INNER, test_inner);
	if (r == 0)
		r = with(FM_TUNNEL_KEY_BOTH, test_both);
	if (r == 0)
		r = with(FM_TUNNEL_KEY_OUTER, test_outer);
	if (r < 0)
		return fm_test_bail("harness", r);
	return fm_test_done();
}
