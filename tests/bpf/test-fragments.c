/* SPDX-License-Identifier: Apache-2.0 */
/* Fragments of one packet belong to one flow, in whatever order they come. */
#include <arpa/inet.h>
#include <netinet/in.h>

#include "harness.h"
#include "test.h"

static struct harness h;
static uint32_t next_id = 1;

/* Fragment number i of three; each carries 64 octets behind the fragment header. */
static void fragment(struct packet *p, int version, uint32_t id, int i, uint8_t protocol)
{
	packet_new(p);
	packet_eth(p);
	if (version == 4) {
		packet_ip4(p, .src = 0x0a000001, .dst = 0x0a000002, .protocol = protocol, .id = id,
			   .fragment = (i < 2 ? 0x2000 : 0) | i * 8);
	} else {
		packet_ip6(p, .src = 1, .dst = 2, .next = 60);
		packet_ext(p, 44, 0);
		packet_ext_fragment(p, protocol, (i * 8) << 3 | (i < 2), id);
	}
	if (i == 0 && protocol == 60) {
		packet_ext(p, IPPROTO_UDP, 0);
		packet_ports(p, 56, 7000, 8000);
	} else if (i == 0) {
		packet_ports(p, 64, 7000, 8000);
	} else {
		packet_payload(p, 64);
	}
	packet_end(p);
}

/* Sends fragments in an order; -1 ends it. */
static uint64_t send_in(int version, const int *order, uint8_t protocol)
{
	uint64_t octets = 0;
	struct packet p;

	harness_reset(&h);
	next_id++;
	for (size_t i = 0; order[i] >= 0; i++) {
		fragment(&p, version, next_id, order[i], protocol);
		harness_packet(&h, &p);
		octets += p.length - 14;
	}
	return octets;
}

/* One flow with the ports of the first fragment. */
static bool whole(uint64_t octets, unsigned int packets, uint8_t fragment_flags)
{
	struct fm_slot *slot;
	struct fm_half *half;
	unsigned int d;

	if (harness_slots(&h, &slot) != 1)
		return false;
	d = slot->half[1].packets != 0;
	half = &slot->half[d];
	return half->packets == packets && half->octets == octets &&
	       slot->key.protocol == IPPROTO_UDP && ntohs(slot->key.port[d]) == 7000 &&
	       ntohs(slot->key.port[!d]) == 8000 && half->fragment_flags == fragment_flags;
}

static void test_version(int version)
{
	static const int in_order[] = {0, 1, 2, -1}, swapped[] = {0, 2, 1, -1},
			 late[] = {1, 0, 2, -1}, missing[] = {1, 2, -1}, repeated[] = {0, 0, 2, -1};
	struct fm_slot *slot;
	uint64_t octets;

	octets = send_in(version, in_order, IPPROTO_UDP);
	FM_TEST(whole(octets, 3, 0x20) && harness_identity(&h), "v%d: in order", version);
	octets = send_in(version, swapped, IPPROTO_UDP);
	FM_TEST(whole(octets, 3, 0x20) && harness_identity(&h), "v%d: later ones swapped", version);
	octets = send_in(version, repeated, IPPROTO_UDP);
	FM_TEST(whole(octets, 3, 0x20) && harness_identity(&h), "v%d: the first one twice",
		version);
	octets = send_in(version, late, IPPROTO_UDP);
	FM_TEST(harness_slots(&h, &slot) == 2 &&
			harness_count(&h, FM_COUNTER_fragment_orphan).packets == 1 &&
			harness_identity(&h),
		"v%d: the first one late: what came before has ports 0 and is noted", version);
	octets = send_in(version, missing, IPPROTO_UDP);
	FM_TEST(harness_slots(&h, &slot) == 1 && slot->key.port[0] == 0 && slot->key.port[1] == 0 &&
			slot->key.protocol == IPPROTO_UDP &&
			slot->half[0].octets + slot->half[1].octets == octets &&
			harness_count(&h, FM_COUNTER_fragment_orphan).packets == 2 &&
			harness_count(&h, FM_COUNTER_fragment_orphan).octets == octets &&
			harness_identity(&h),
		"v%d: without the first one", version);
}

/* RFC 8200 4.5: a fragment header may stand before further extension headers. */
static void test_behind(void)
{
	static const int in_order[] = {0, 1, 2, -1};
	uint64_t octets = send_in(6, in_order, 60);

	FM_TEST(whole(octets, 3, 0x20) && harness_identity(&h),
		"v6: extension headers behind the fragment header");
}

/* RFC 6946: offset 0, no more fragments, a packet like any other. */
static void test_atomic(void)
{
	struct packet p;

	packet_new(&p);
	packet_eth(&p);
	packet_ip6(&p, .src = 1, .dst = 2, .next = 44);
	packet_ext_fragment(&p, IPPROTO_UDP, 0, 77);
	packet_udp(&p, 7000, 8000);
	packet_end(&p);
	harness_reset(&h);
	harness_packet(&h, &p);
	FM_TEST(whole(56, 1, 0), "v6: atomic fragment");
}

/* Fragments of two packets, interleaved: the identifier tells them apart; so do the addresses. */
static void test_two(void)
{
	struct packet p;
	struct fm_slot *slot;

	for (int version = 4; version <= 6; version += 2) {
		harness_reset(&h);
		next_id += 2;
		for (int i = 0; i < 3; i++)
			for (uint32_t n = 0; n < 2; n++) {
				fragment(&p, version, next_id + n, i, IPPROTO_UDP);
				if (i == 0)
					packet_put16(&p, p.length - 64, 7000 + n);
				harness_packet(&h, &p);
			}
		FM_TEST(harness_slots(&h, &slot) == 2 &&
				slot->half[0].packets + slot->half[1].packets == 3 &&
				harness_identity(&h),
			"v%d: two packets interleaved", version);
	}
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
	test_version(4);
	test_version(6);
	test_behind();
	test_atomic();
	test_two();
	harness_done(&h);
	return fm_test_done();
}
