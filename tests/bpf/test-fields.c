/* SPDX-License-Identifier: Apache-2.0 */
/* Key, direction and measures of one packet of every protocol, and the options of the key. */
#include <arpa/inet.h>
#include <errno.h>
#include <netinet/in.h>
#include <string.h>

#include "harness.h"
#include "test.h"

#define A 0x0a000001
#define B 0x0a000002

/* One packet's flow; ports in host order. */
struct expect {
	uint8_t protocol;
	uint16_t src_port, dst_port;
	uint64_t octets;
	uint8_t ttl, tos, tcp_flags, fragment_flags, ends;
	uint16_t vlan, cvlan;
};

static struct harness h;

static bool differs(const char *what, uint64_t is, uint64_t wanted)
{
	if (is != wanted)
		FM_TEST_NOTE("%s: %llu, not %llu", what, (unsigned long long)is,
			     (unsigned long long)wanted);
	return is != wanted;
}

/* Whether the address of an endpoint is the one that stands in the packet. */
static bool address_is(const struct fm_key *key, unsigned int endpoint, const struct packet *p,
		       bool source)
{
	static const uint8_t mapped[12] = {[10] = 0xff, [11] = 0xff};
	const uint8_t *ip = p->data + p->l3;

	if (key->family == 6)
		return !memcmp(key->addr[endpoint], ip + (source ? 8 : 24), 16);
	return !memcmp(key->addr[endpoint], mapped, 12) &&
	       !memcmp(key->addr[endpoint] + 12, ip + (source ? 12 : 16), 4);
}

static bool slot_is(const struct fm_slot *slot, const struct packet *p, const struct expect *e,
		    unsigned int *ret_direction)
{
	unsigned int d = slot->half[1].packets != 0;
	const struct fm_half *half = &slot->half[d];
	bool bad = false;

	*ret_direction = d;
	bad |= differs("family", slot->key.family, p->data[p->l3] >> 4);
	bad |= differs("protocol", slot->key.protocol, e->protocol);
	bad |= differs("source port", ntohs(slot->key.port[d]), e->src_port);
	bad |= differs("destination port", ntohs(slot->key.port[!d]), e->dst_port);
	bad |= differs("source address", address_is(&slot->key, d, p, true), true);
	bad |= differs("destination address", address_is(&slot->key, !d, p, false), true);
	bad |= differs("packets", half->packets, 1);
	bad |= differs("octets", half->octets, e->octets);
	bad |= differs("min length", half->min_length, e->octets);
	bad |= differs("max length", half->max_length, e->octets);
	bad |= differs("min ttl", half->min_ttl, e->ttl ? e->ttl : 64);
	bad |= differs("max ttl", half->max_ttl, e->ttl ? e->ttl : 64);
	bad |= differs("tos", half->tos, e->tos);
	bad |= differs("tcp flags", half->tcp_flags, e->tcp_flags);
	bad |= differs("fragment flags", half->fragment_flags, e->fragment_flags);
	bad |= differs("ends", half->ends, e->ends);
	bad |= differs("vlan", half->vlan, e->vlan);
	bad |= differs("cvlan", half->cvlan, e->cvlan);
	bad |= differs("hook", half->hook, FM_HOOK_INGRESS);
	bad |= differs("ingress interface", half->ingress_if, 1);
	bad |= differs("egress interface", half->egress_if, 0);
	bad |= differs("other half", slot->half[!d].packets, 0);
	return !bad;
}

/* One packet, one flow; returns the direction it was counted in, -1 on a failure. */
static int one(const char *name, const struct packet *p, struct expect e,
	       const struct harness_run *run)
{
	struct harness_run plain = {};
	unsigned int direction = 0;
	struct fm_slot *slot;
	bool ok;
	int r;

	harness_reset(&h);
	r = harness_run(&h, p->data, p->length, run ? run : &plain);
	ok = r == 0 && harness_slots(&h, &slot) == 1;
	if (!ok)
		FM_TEST_NOTE("run: %d, slots: %zu", r, harness_slots(&h, &slot));
	if (!ok || !slot_is(slot, p, &e, &direction) || !harness_identity(&h))
		ok = false;
	fm_test_ok(ok, "%s", name);
	return ok ? (int)direction : -1;
}
#define ONE(name, p, ...) one(name, p, (struct expect){__VA_ARGS__}, NULL)

static void ip_of(struct packet *p, int version, uint8_t protocol, bool back)
{
	packet_new(p);
	packet_eth(p);
	if (version == 4)
		packet_ip4(p, .src = back ? B : A, .dst = back ? A : B, .protocol = protocol,
			   .ttl = 33, .tos = 0xb8);
	else
		packet_ip6(p, .src = back ? 2 : 1, .dst = back ? 1 : 2, .next = protocol,
			   .hops = 33, .traffic_class = 0xb8);
}

static const struct {
	const char *name;
	uint8_t protocol;
	size_t header;
	bool ports;
} transports[] = {
	{"tcp", IPPROTO_TCP, 20, true},
	{"udp", IPPROTO_UDP, 8, true},
	{"udplite", IPPROTO_UDPLITE, 8, true},
	{"sctp", IPPROTO_SCTP, 12, true},
	{"dccp", IPPROTO_DCCP, 16, true},
	{"esp", IPPROTO_ESP, 8, false},
	{"ospf", 89, 24, false},
	{"experimental", 253, 4, false},
};

static void transport_of(struct packet *p, uint8_t protocol, uint16_t src, uint16_t dst)
{
	switch (protocol) {
	case IPPROTO_TCP:
		packet_tcp(p, src, dst, 0x10, 0);
		break;
	case IPPROTO_UDP:
		packet_udp(p, src, dst);
		break;
	case IPPROTO_UDPLITE:
		packet_udplite(p, src, dst);
		break;
	case IPPROTO_SCTP:
		packet_sctp(p, src, dst);
		break;
	case IPPROTO_DCCP:
		packet_dccp(p, src, dst);
		break;
	}
}

/* Every transport over both versions, there and back: one conversation, two directions. */
static void test_transports(void)
{
	char name[64];
	struct packet p;

	for (size_t i = 0; i < sizeof(transports) / sizeof(transports[0]); i++)
		for (int version = 4; version <= 6; version += 2)
			for (int back = 0; back < 2; back++) {
				bool ports = transports[i].ports;
				uint16_t src = back ? 80 : 40000, dst = back ? 40000 : 80;

				ip_of(&p, version, transports[i].protocol, back);
				if (ports)
					transport_of(&p, transports[i].protocol, src, dst);
				else
					packet_payload(&p, transports[i].header);
				packet_payload(&p, 13);
				packet_end(&p);
				snprintf(name, sizeof(name), "%s over v%d, %s", transports[i].name,
					 version, back ? "back" : "there");
				ONE(name, &p, .protocol = transports[i].protocol,
				    .src_port = ports ? src : 0, .dst_port = ports ? dst : 0,
				    .octets = p.length - 14, .ttl = 33, .tos = 0xb8,
				    .tcp_flags = transports[i].protocol == IPPROTO_TCP ? 0x10 : 0);
			}
}

/* Both directions in one slot, one half each; equal addresses and ports as well. */
static void test_conversation(void)
{
	struct packet there, back;
	struct fm_slot *slot;

	for (int version = 4; version <= 6; version += 2) {
		ip_of(&there, version, IPPROTO_UDP, false);
		packet_udp(&there, 1000, 53);
		packet_end(&there);
		ip_of(&back, version, IPPROTO_UDP, true);
		packet_udp(&back, 53, 1000);
		packet_payload(&back, 100);
		packet_end(&back);
		harness_reset(&h);
		for (int i = 0; i < 3; i++) {
			harness_packet(&h, &there);
			harness_packet(&h, &back);
		}
		FM_TEST(harness_slots(&h, &slot) == 1 && slot->half[0].packets == 3 &&
				slot->half[1].packets == 3 &&
				slot->half[0].octets + slot->half[1].octets ==
					3 * (there.length + back.length - 28) &&
				harness_identity(&h),
			"v%d: both directions share a slot, one half each", version);
		ip_of(&there, version, IPPROTO_UDP, false);
		memcpy(there.data + there.l3 + (version == 4 ? 16 : 24),
		       there.data + there.l3 + (version == 4 ? 12 : 8), version == 4 ? 4 : 16);
		packet_udp(&there, 7, 7);
		packet_end(&there);
		ONE("equal endpoints", &there, .protocol = IPPROTO_UDP, .src_port = 7,
		    .dst_port = 7, .octets = there.length - 14, .ttl = 33, .tos = 0xb8);
	}
}

/* Each TCP flag by itself, and what several packets leave together. */
static void test_tcp_flags(void)
{
	struct packet p;
	struct fm_slot *slot;

	for (int version = 4; version <= 6; version += 2) {
		bool each = true;

		for (unsigned int bit = 0; bit < 8; bit++) {
			harness_reset(&h);
			ip_of(&p, version, IPPROTO_TCP, false);
			packet_tcp(&p, 1, 2, 1 << bit, 12);
			packet_end(&p);
			harness_packet(&h, &p);
			each &= harness_slots(&h, &slot) == 1 &&
				(slot->half[0].tcp_flags | slot->half[1].tcp_flags) == 1 << bit &&
				slot->half[0].octets + slot->half[1].octets == p.length - 14;
		}
		FM_TEST(each, "v%d: each of the eight TCP flags", version);
	}
	harness_reset(&h);
	for (unsigned int bit = 0; bit < 8; bit += 2) {
		ip_of(&p, 4, IPPROTO_TCP, false);
		packet_tcp(&p, 1, 2, 1 << bit, 0);
		packet_end(&p);
		harness_packet(&h, &p);
	}
	FM_TEST(harness_slots(&h, &slot) == 1 &&
			(slot->half[0].tcp_flags | slot->half[1].tcp_flags) == 0x55,
		"TCP flags gather");
}

/* Lengths, TTL: smallest and largest of several packets; the first one's ToS stays. */
static void test_extremes(void)
{
	static const struct {
		uint8_t ttl, tos;
		size_t payload;
	} packets[] = {{60, 4, 100}, {10, 8, 5}, {200, 12, 900}, {61, 16, 300}};
	struct fm_half *half;
	struct fm_slot *slot;
	struct packet p;
	uint64_t octets = 0;

	harness_reset(&h);
	for (size_t i = 0; i < 4; i++) {
		packet_new(&p);
		packet_eth(&p);
		packet_ip4(&p, .src = A, .dst = B, .protocol = IPPROTO_UDP, .ttl = packets[i].ttl,
			   .tos = packets[i].tos, .fragment = i == 2 ? 0x4000 : 0);
		packet_udp(&p, 5, 6);
		packet_payload(&p, packets[i].payload);
		packet_end(&p);
		harness_packet(&h, &p);
		octets += p.length - 14;
	}
	if (!FM_TEST(harness_slots(&h, &slot) == 1, "four packets, one flow"))
		return;
	half = &slot->half[slot->half[1].packets != 0];
	FM_TEST(half->packets == 4 && half->octets == octets, "packets and octets add up");
	FM_TEST(half->min_length == 33 && half->max_length == 928, "shortest and longest");
	FM_TEST(half->min_ttl == 10 && half->max_ttl == 200, "smallest and largest TTL");
	FM_TEST(half->tos == 4, "type of service of the first packet");
	FM_TEST(half->fragment_flags == 0x40, "don't fragment");
	FM_TEST(half->first_ns != 0 && half->last_tick != 0, "times");
	FM_TEST(slot->due_tick == half->last_tick + 1000, "due after the idle timeout");
}

static const struct {
	int version;
	uint8_t type, answer;
} icmp_pairs[] = {{4, 8, 0},   {4, 13, 14},   {4, 15, 16},  {4, 17, 18},
		  {4, 42, 43}, {6, 128, 129}, {6, 160, 161}};

static void test_icmp(void)
{
	char name[64];
	struct packet p;
	struct fm_slot *slot;

	for (size_t i = 0; i < sizeof(icmp_pairs) / sizeof(icmp_pairs[0]); i++) {
		int version = icmp_pairs[i].version;
		uint8_t protocol = version == 4 ? IPPROTO_ICMP : IPPROTO_ICMPV6;
		uint8_t type = icmp_pairs[i].type, answer = icmp_pairs[i].answer;

		ip_of(&p, version, protocol, false);
		packet_icmp(&p, type, 0);
		packet_end(&p);
		snprintf(name, sizeof(name), "icmp v%d type %u asks", version, type);
		ONE(name, &p, .protocol = protocol, .src_port = type << 8, .dst_port = answer << 8,
		    .octets = p.length - 14, .ttl = 33, .tos = 0xb8);
		ip_of(&p, version, protocol, true);
		packet_icmp(&p, answer, 0);
		packet_end(&p);
		harness_packet(&h, &p);
		FM_TEST(harness_slots(&h, &slot) == 1 && slot->half[0].packets == 1 &&
				slot->half[1].packets == 1,
			"icmp v%d type %u answers", version, answer);
	}
	ip_of(&p, 4, IPPROTO_ICMP, false);
	packet_icmp(&p, 3, 4);
	packet_end(&p);
	ONE("icmp v4 unreachable", &p, .protocol = IPPROTO_ICMP, .src_port = 0x0304,
	    .dst_port = 0xffff, .octets = p.length - 14, .ttl = 33, .tos = 0xb8);
	ip_of(&p, 6, IPPROTO_ICMPV6, false);
	packet_icmp(&p, 135, 0);
	packet_end(&p);
	ONE("icmp v6 neighbour solicitation", &p, .protocol = IPPROTO_ICMPV6, .src_port = 135 << 8,
	    .dst_port = 0xffff, .octets = p.length - 14, .ttl = 33, .tos = 0xb8);
}

static void test_sctp(void)
{
	static const struct {
		const char *name;
		uint8_t type, end;
	} chunks[] = {{"abort", 6, FM_END_SCTP_ABORT},
		      {"shutdown complete", 14, FM_END_SCTP_SHUTDOWN},
		      {"data", 0, 0},
		      {"shutdown", 7, 0}};
	char name[64];
	struct packet p;

	for (size_t i = 0; i < 4; i++)
		for (int before = 0; before < 4; before++) {
			ip_of(&p, 6, IPPROTO_SCTP, false);
			packet_sctp(&p, 9, 8);
			for (int j = 0; j < before; j++)
				packet_sctp_chunk(&p, 3, 17);
			packet_sctp_chunk(&p, chunks[i].type, 4);
			packet_end(&p);
			snprintf(name, sizeof(name), "sctp %s behind %d chunks", chunks[i].name,
				 before);
			ONE(name, &p, .protocol = IPPROTO_SCTP, .src_port = 9, .dst_port = 8,
			    .octets = p.length - 14, .ttl = 33, .tos = 0xb8, .ends = chunks[i].end);
		}
}

static void test_headers(void)
{
	struct harness_run beside = {.vlan_tag = 0x8100u << 16 | 0x6064};
	struct packet p;

	packet_new(&p);
	packet_eth(&p);
	packet_ip4(&p, .src = A, .dst = B, .protocol = IPPROTO_TCP, .options = 40);
	packet_tcp(&p, 4, 5, 2, 40);
	packet_end(&p);
	ONE("IPv4 with 40 octets of options", &p, .protocol = IPPROTO_TCP, .src_port = 4,
	    .dst_port = 5, .octets = 120, .tcp_flags = 2);
	packet_new(&p);
	packet_eth(&p);
	packet_ip6(&p, .src = 1, .dst = 2, .next = 0);
	packet_ext(&p, 43, 0);
	packet_ext(&p, 60, 2);
	packet_ext(&p, 51, 1);
	packet_ext_auth(&p, 135, 4);
	packet_ext(&p, 6, 0);
	packet_tcp(&p, 4, 5, 2, 0);
	packet_end(&p);
	ONE("IPv6 with five extension headers", &p, .protocol = IPPROTO_TCP, .src_port = 4,
	    .dst_port = 5, .octets = p.length - 14, .tcp_flags = 2);
	packet_new(&p);
	packet_eth(&p);
	packet_vlan(&p, 0x88a8, 0x2000 | 100);
	packet_vlan(&p, 0x8100, 200);
	packet_vlan(&p, 0x8100, 300);
	packet_ip4(&p, .src = A, .dst = B, .protocol = IPPROTO_UDP);
	packet_udp(&p, 4, 5);
	packet_end(&p);
	ONE("three VLAN tags", &p, .protocol = IPPROTO_UDP, .src_port = 4, .dst_port = 5,
	    .octets = 28, .vlan = 100, .cvlan = 200);
	packet_new(&p);
	packet_eth(&p);
	packet_vlan(&p, 0x8100, 4095);
	packet_ip6(&p, .src = 1, .dst = 2, .next = IPPROTO_UDP);
	packet_udp(&p, 4, 5);
	packet_end(&p);
	ONE("a VLAN tag before IPv6", &p, .protocol = IPPROTO_UDP, .src_port = 4, .dst_port = 5,
	    .octets = 48, .vlan = 4095);
	ip_of(&p, 4, IPPROTO_UDP, false);
	packet_udp(&p, 4, 5);
	packet_end(&p);
	one("a VLAN tag beside the data", &p,
	    (struct expect){.protocol = IPPROTO_UDP,
			    .src_port = 4,
			    .dst_port = 5,
			    .octets = 28,
			    .ttl = 33,
			    .tos = 0xb8,
			    .vlan = 100},
	    &beside);
	packet_payload(&p, 18);
	ONE("Ethernet padding is not counted, IPv4", &p, .protocol = IPPROTO_UDP, .src_port = 4,
	    .dst_port = 5, .octets = 28, .ttl = 33, .tos = 0xb8);
	ip_of(&p, 6, IPPROTO_UDP, false);
	packet_udp(&p, 4, 5);
	packet_end(&p);
	packet_payload(&p, 18);
	ONE("Ethernet padding is not counted, IPv6", &p, .protocol = IPPROTO_UDP, .src_port = 4,
	    .dst_port = 5, .octets = 48, .ttl = 33, .tos = 0xb8);
}

/* The same of further packets of a flow, which go the short way. */
static void test_padding(void)
{
	for (int version = 4; version <= 6; version += 2) {
		const uint64_t octets = version == 4 ? 28 : 48;
		struct fm_slot *slot;
		struct packet p;

		ip_of(&p, version, IPPROTO_UDP, false);
		packet_udp(&p, 4, 5);
		packet_end(&p);
		packet_payload(&p, 18);
		harness_reset(&h);
		harness_packet(&h, &p, .repeat = 3);
		FM_TEST(harness_slots(&h, &slot) == 1 &&
				slot->half[0].octets + slot->half[1].octets == 3 * octets &&
				slot->half[0].max_length + slot->half[1].max_length == octets &&
				harness_identity(&h),
			"Ethernet padding is never counted, IPv%d", version);
	}
}

/* Eight extension headers are followed, nine are noted. */
static void test_deep(void)
{
	struct packet p;
	struct fm_slot *slot;

	for (int n = 8; n <= 9; n++) {
		packet_new(&p);
		packet_eth(&p);
		packet_ip6(&p, .src = 1, .dst = 2, .next = 60);
		for (int i = 0; i < n; i++)
			packet_ext(&p, i == n - 1 ? IPPROTO_UDP : 60, 0);
		packet_udp(&p, 4, 5);
		packet_end(&p);
		harness_reset(&h);
		harness_packet(&h, &p);
		FM_TEST(harness_slots(&h, &slot) == 1 &&
				slot->key.protocol == (n == 8 ? IPPROTO_UDP : 60) &&
				(slot->key.port[0] != 0) == (n == 8) &&
				harness_count(&h, FM_COUNTER_deep_headers).packets == (n == 9u),
			"%d extension headers", n);
	}
}

/* Without an Ethernet header: the test run takes the protocol from octets 12 and 13, an address. */
static void test_layer3(void)
{
	struct harness_run layer3 = {.layer3 = true};
	struct packet p;

	packet_new(&p);
	packet_ip4(&p, .src = 0x08000001, .dst = B, .protocol = IPPROTO_UDP);
	packet_udp(&p, 4, 5);
	packet_payload(&p, 20);
	packet_end(&p);
	one("IPv4 without Ethernet", &p,
	    (struct expect){.protocol = IPPROTO_UDP, .src_port = 4, .dst_port = 5, .octets = 48},
	    &layer3);
	packet_new(&p);
	packet_ip6(&p, .src = 1, .dst = 2, .next = IPPROTO_TCP);
	packet_put16(&p, 12, 0x86dd);
	packet_tcp(&p, 4, 5, 0x12, 0);
	packet_end(&p);
	one("IPv6 without Ethernet", &p,
	    (struct expect){.protocol = IPPROTO_TCP,
			    .src_port = 4,
			    .dst_port = 5,
			    .octets = 60,
			    .tcp_flags = 0x12},
	    &layer3);
}

/* What is no flow. */
static void test_ignored(void)
{
	static const struct {
		const char *name;
		size_t at;
		uint8_t value;
		enum fm_counter counter;
	} cases[] = {
		{"ARP", 13, 6, FM_COUNTER_not_ip},
		{"version 5", 14, 0x55, FM_COUNTER_malformed},
		{"header of 16 octets", 14, 0x44, FM_COUNTER_malformed},
		{"header longer than the packet", 14, 0x4f, FM_COUNTER_malformed},
		{"total length below the header", 17, 19, FM_COUNTER_malformed},
	};
	struct fm_slot *slot;
	struct packet p;

	for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
		ip_of(&p, 4, IPPROTO_UDP, false);
		packet_udp(&p, 4, 5);
		packet_end(&p);
		p.data[cases[i].at] = cases[i].value;
		harness_reset(&h);
		harness_packet(&h, &p);
		FM_TEST(harness_slots(&h, &slot) == 0 &&
				harness_count(&h, cases[i].counter).packets == 1 &&
				harness_count(&h, cases[i].counter).octets == 28 &&
				harness_identity(&h),
			"ignored: %s", cases[i].name);
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
	test_transports();
	test_conversation();
	test_tcp_flags();
	test_extremes();
	test_icmp();
	test_sctp();
	test_headers();
	test_padding();
	test_deep();
	test_layer3();
	test_ignored();
	harness_done(&h);
	return fm_test_done();
}
