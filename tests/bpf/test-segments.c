/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Segmentation offload undone: a super-packet counts as the packets it becomes on the wire, cut
 * up here by hand. Jumbograms.
 */
#include <netinet/in.h>

#include "harness.h"
#include "test.h"

#define A 0x0a000001
#define B 0x0a000002

static struct harness h;
static struct packet p;

/* What a real segmentation makes: every segment has all headers and up to size of the payload. */
struct wire {
	uint64_t packets, octets;
	uint16_t shortest, longest;
};

static struct wire cut_up(size_t headers, size_t payload, size_t size)
{
	struct wire wire = {.shortest = UINT16_MAX};

	while (payload > 0) {
		size_t part = payload < size ? payload : size, length = headers + part;

		wire.packets++;
		wire.octets += length;
		wire.shortest = length < wire.shortest ? length : wire.shortest;
		wire.longest = length > wire.longest ? length : wire.longest;
		payload -= part;
	}
	return wire;
}

/* headers: octets behind Ethernet that every segment repeats. */
static void check(const char *name, size_t headers, size_t payload, struct harness_run run)
{
	struct wire wire = cut_up(headers, payload, run.gso_size);
	struct fm_slot *slot;
	struct fm_half *half;
	int r;

	harness_reset(&h);
	r = harness_run(&h, p.data, p.length, &run);
	if (!FM_TEST(r == 0 && harness_slots(&h, &slot) == 1, "%s: one flow", name))
		return;
	half = &slot->half[slot->half[1].packets != 0];
	if (half->packets != wire.packets || half->octets != wire.octets)
		FM_TEST_NOTE("%llu/%llu, not %llu/%llu", half->packets, half->octets,
			     (unsigned long long)wire.packets, (unsigned long long)wire.octets);
	FM_TEST(half->packets == wire.packets && half->octets == wire.octets,
		"%s: packets and octets", name);
	FM_TEST(half->min_length == wire.shortest && half->max_length == wire.longest,
		"%s: shortest and longest", name);
	FM_TEST(harness_count(&h, FM_COUNTER_seen).packets == wire.packets &&
			harness_count(&h, FM_COUNTER_segments_unsure).packets == 0 &&
			harness_identity(&h),
		"%s: identity", name);
}

static size_t from_l3(size_t payload)
{
	packet_payload(&p, payload);
	packet_end(&p);
	return p.length - payload - 14;
}

static void start(int version, uint8_t protocol)
{
	packet_new(&p);
	packet_eth(&p);
	if (version == 4)
		packet_ip4(&p, .src = A, .dst = B, .protocol = protocol);
	else
		packet_ip6(&p, .src = 1, .dst = 2, .next = protocol);
}

static void test_plain(void)
{
	/* A last segment of the full size, of one octet, of all but one. */
	static const size_t payloads[] = {2000, 2001, 2499, 501, 3000};
	char name[80];

	for (int version = 4; version <= 6; version += 2)
		for (size_t i = 0; i < sizeof(payloads) / sizeof(payloads[0]); i++)
			for (int known = 0; known < 2; known++) {
				size_t payload = payloads[i], headers;
				uint32_t segments = known ? (payload + 499) / 500 : 0;

				start(version, IPPROTO_TCP);
				packet_tcp(&p, 1, 2, 0x10, known ? 12 : 0);
				headers = from_l3(payload);
				snprintf(name, sizeof(name), "tcp v%d, %zu by 500, gso_segs %u",
					 version, payload, segments);
				check(name, headers, payload,
				      (struct harness_run){.gso_size = 500, .gso_segs = segments});
				start(version, IPPROTO_UDP);
				packet_udp(&p, 1, 2);
				headers = from_l3(payload);
				snprintf(name, sizeof(name), "udp v%d, %zu by 500, gso_segs %u",
					 version, payload, segments);
				check(name, headers, payload,
				      (struct harness_run){.gso_size = 500, .gso_segs = segments});
			}
}

/* Length fields that cannot say how long a BIG TCP packet is. */
static void test_big(void)
{
	struct harness_run run = {.gso_size = 700};
	size_t headers;

	start(4, IPPROTO_TCP);
	packet_tcp(&p, 1, 2, 0x10, 12);
	headers = from_l3(2500);
	packet_put16(&p, 16, 0);
	check("BIG TCP v4, total length 0", headers, 2500, run);
	start(6, IPPROTO_TCP);
	packet_tcp(&p, 1, 2, 0x10, 12);
	headers = from_l3(2500);
	packet_put16(&p, 18, 0);
	check("BIG TCP v6, payload length 0", headers, 2500, run);
	/* The host's own marker between its layers; segments do not carry it. */
	start(6, 0);
	packet_ext(&p, IPPROTO_TCP, 0);
	p.data[56] = 0xc2;
	p.data[57] = 4;
	packet_put16(&p, 58, 0);
	packet_put16(&p, 60, 2540);
	packet_tcp(&p, 1, 2, 0x10, 12);
	headers = from_l3(2500) - 8;
	packet_put16(&p, 18, 0);
	check("BIG TCP v6, jumbo payload option", headers, 2500, run);
}

static void inner(int version, bool udp)
{
	if (version == 4)
		packet_ip4(&p, .src = 0xc0a80001, .dst = 0xc0a80002, .options = udp ? 0 : 8,
			   .protocol = udp ? IPPROTO_UDP : IPPROTO_TCP);
	else
		packet_ip6(&p, .src = 3, .dst = 4, .next = udp ? IPPROTO_UDP : IPPROTO_TCP);
	if (udp)
		packet_udp(&p, 5, 6);
	else
		packet_tcp(&p, 5, 6, 0x10, 12);
}

/* An inner Ethernet header, where the builder continues. */
static void inner_eth(int version)
{
	packet_append(&p, 12);
	packet_append(&p, 2);
	packet_put16(&p, p.length - 2, version == 4 ? 0x0800 : 0x86dd);
}

enum tunnel { VXLAN, GENEVE, GENEVE_OPTIONS, GRE, GRE_KEY, GRETAP, IPIP, _TUNNEL_MAX };
static const char *const tunnel_names[] = {
	"vxlan", "geneve", "geneve with options", "gre", "gre key", "gretap", "ip in ip"};

static void tunnel(enum tunnel which, int outer, int version)
{
	uint16_t type = version == 4 ? 0x0800 : 0x86dd;
	size_t at;

	if (which == IPIP) {
		start(outer, version == 4 ? IPPROTO_IPIP : IPPROTO_IPV6);
		return;
	}
	start(outer, which >= GRE ? IPPROTO_GRE : IPPROTO_UDP);
	if (which >= GRE) {
		at = p.length;
		packet_append(&p, which == GRE_KEY ? 12 : 4);
		p.data[at] = which == GRE_KEY ? 0x30 : 0;
		packet_put16(&p, at + 2, which == GRETAP ? 0x6558 : type);
		if (which == GRETAP)
			inner_eth(version);
		return;
	}
	packet_udp(&p, 30000, which == VXLAN ? 4789 : 6081);
	at = p.length;
	packet_append(&p, which == GENEVE_OPTIONS ? 8 + 12 : 8);
	p.data[at] = which == VXLAN ? 8 : which == GENEVE_OPTIONS ? 3 : 0;
	if (which != VXLAN)
		packet_put16(&p, at + 2, 0x6558);
	inner_eth(version);
}

static void test_tunnels(void)
{
	char name[80];

	for (int outer = 4; outer <= 6; outer += 2)
		for (int version = 4; version <= 6; version += 2)
			for (int udp = 0; udp < 2; udp++)
				for (int which = 0; which < _TUNNEL_MAX; which++) {
					size_t headers;

					tunnel(which, outer, version);
					inner(version, udp);
					headers = from_l3(2345);
					snprintf(name, sizeof(name), "%s v%d, %s v%d inside",
						 tunnel_names[which], outer, udp ? "udp" : "tcp",
						 version);
					check(name, headers, 2345,
					      (struct harness_run){.gso_size = 600});
				}
}

/* A tunnel that is not known: packets right, octets noted as unsure. */
static void test_unsure(void)
{
	struct fm_slot *slot;

	start(4, 115); /* L2TP */
	packet_payload(&p, 2000);
	packet_end(&p);
	harness_reset(&h);
	harness_packet(&h, &p, .gso_size = 500, .gso_segs = 4);
	FM_TEST(harness_slots(&h, &slot) == 1 &&
			slot->half[0].packets + slot->half[1].packets == 4 &&
			harness_count(&h, FM_COUNTER_segments_unsure).packets == 4 &&
			harness_identity(&h),
		"unknown tunnel: noted");
}

/* SCTP: 65535 stands for "each segment as long as it is"; headers of IP and SCTP are repeated. */
static void test_sctp(void)
{
	struct fm_slot *slot;
	struct fm_half *half;

	start(4, IPPROTO_SCTP);
	packet_sctp(&p, 1, 2);
	packet_sctp_chunk(&p, 0, 1000);
	packet_sctp_chunk(&p, 0, 600);
	packet_end(&p);
	harness_reset(&h);
	harness_packet(&h, &p, .gso_size = 65535, .gso_segs = 2);
	if (!FM_TEST(harness_slots(&h, &slot) == 1, "sctp: one flow"))
		return;
	half = &slot->half[slot->half[1].packets != 0];
	FM_TEST(half->packets == 2 && half->octets == 1600 + 2 * 32 && harness_identity(&h),
		"sctp: packets and octets");
	FM_TEST(half->max_length <= 1664 && half->min_length > 32 &&
			half->min_length <= half->max_length,
		"sctp: lengths are possible");
}

/* RFC 2675: payload length 0, a hop-by-hop header; no offload. */
static void test_jumbogram(void)
{
	struct fm_slot *slot;

	start(6, 0);
	packet_ext(&p, IPPROTO_UDP, 0);
	p.data[56] = 0xc2;
	p.data[57] = 4;
	packet_udp(&p, 1, 2);
	packet_payload(&p, 3000);
	packet_put16(&p, 60, 3016);
	harness_reset(&h);
	harness_packet(&h, &p);
	FM_TEST(harness_slots(&h, &slot) == 1 && slot->key.port[0] != 0 &&
			slot->half[0].octets + slot->half[1].octets == p.length - 14 &&
			slot->half[0].packets + slot->half[1].packets == 1 && harness_identity(&h),
		"jumbogram");
}

int main(void)
{
	struct fm_kernel_options options = {.max_flows = 64};
	int r;

	if (!harness_allowed())
		return fm_test_skip_all("needs root");
	r = harness_init(&h, &options);
	if (r < 0)
		return fm_test_bail("harness", r);
	test_plain();
	test_big();
	test_tunnels();
	test_unsure();
	test_sctp();
	test_jumbogram();
	harness_done(&h);
	return fm_test_done();
}
