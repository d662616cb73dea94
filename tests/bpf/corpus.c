/* SPDX-License-Identifier: Apache-2.0 */
/* Packets of every kind: see corpus.h. */
#include "corpus.h"

#include <netinet/in.h>

static void corpus_ip(struct packet *p, int version, uint8_t protocol, unsigned int tags)
{
	packet_new(p);
	packet_eth(p);
	for (unsigned int i = 0; i < tags; i++)
		packet_vlan(p, i ? 0x8100 : 0x88a8, 0x2000 | (10 + i));
	if (version == 4)
		packet_ip4(p, .src = 0x0a000001, .dst = 0x0a000002, .protocol = protocol, .tos = 8,
			   .fragment = 0x4000);
	else
		packet_ip6(p, .src = 1, .dst = 2, .next = protocol, .traffic_class = 0x2c);
}

static void corpus_transport(struct packet *p, unsigned int which)
{
	switch (which) {
	case 0:
		packet_tcp(p, 40000, 443, 0x12, 12);
		break;
	case 1:
		packet_udp(p, 53, 40000);
		break;
	case 2:
		packet_sctp(p, 9, 8);
		packet_sctp_chunk(p, 3, 9);
		packet_sctp_chunk(p, 0, 21);
		packet_sctp_chunk(p, 14, 4);
		break;
	case 3:
		packet_icmp(p, 8, 0);
		break;
	case 4:
		packet_icmp(p, 128, 0);
		break;
	case 5:
		packet_dccp(p, 1, 2);
		break;
	case 6:
		packet_udplite(p, 5, 5);
		break;
	}
}

static void corpus_extended(struct packet *p, unsigned int which)
{
	corpus_ip(p, 6, which == 2 ? 44 : 0, 0);
	if (which < 2)
		packet_ext(p, which ? 60 : 43, which);
	if (which == 0)
		packet_ext(p, 51, 0);
	if (which == 1)
		packet_ext(p, 44, 1);
	if (which == 0)
		packet_ext_auth(p, 135, 4);
	if (which == 0)
		packet_ext(p, 6, 0);
	if (which)
		packet_ext_fragment(p, which == 1 ? 17 : 60, which == 1 ? 1 : 0, 4711);
	if (which == 2)
		packet_ext(p, 17, 0);
	corpus_transport(p, which ? 1 : 0);
}

static void corpus_fragment4(struct packet *p, uint16_t field)
{
	packet_new(p);
	packet_eth(p);
	packet_ip4(p, .src = 0x0a000001, .dst = 0x0a000002, .protocol = IPPROTO_UDP, .id = 99,
		   .fragment = field, .options = 4);
	packet_udp(p, 2000, 3000);
}

/* Behind labels (1 to 3) or in a PPPoE session. */
static void corpus_shim(struct packet *p, unsigned int which)
{
	int version = which & 1 ? 6 : 4;

	packet_new(p);
	packet_eth(p);
	if (which < 4)
		for (unsigned int i = 0; i < which; i++)
			packet_mpls(p, 16 + i, i + 1 == which);
	else
		packet_pppoe(p, 7, version);
	if (which == 0)
		packet_mpls(p, 3, true);
	if (version == 4)
		packet_ip4(p, .src = 0x0a000001, .dst = 0x0a000002, .protocol = IPPROTO_TCP);
	else
		packet_ip6(p, .src = 1, .dst = 2, .next = IPPROTO_TCP);
	packet_tcp(p, 1000, 2000, 0x10, 0);
}

static void corpus_any(struct packet *p, int version, uint8_t protocol)
{
	if (version == 4)
		packet_ip4(p, .src = 0xc0000202, .dst = 0xc0000201, .protocol = protocol);
	else
		packet_ip6(p, .src = 12, .dst = 11, .next = protocol);
}

/* What follows the outer IP header, of corpus_tunnel()'s protocols. */
static void corpus_shell(struct packet *p, unsigned int which)
{
	static const uint16_t ports[] = {4789, 6081, 8472, 2152, 2152, 6635};

	if (which < 6)
		packet_udp(p, 50000, ports[which]);
	if (which == 0 || which == 2)
		packet_vxlan(p, 0x123456 + which);
	else if (which == 1)
		packet_geneve(p, 77, 12);
	else if (which == 3 || which == 4)
		packet_gtpu(p, 0xabcdef01, which == 3 ? 0 : 2);
	else if (which == 5)
		packet_mpls(p, 70000, true);
	else if (which < 9)
		packet_gre(p, which == 6 ? 0 : which == 7 ? 0x20 : 0xb0, 0x12345678);
	if (which == 0 || which == 2 || which == 7)
		packet_eth(p);
	if (which == 2)
		packet_vlan(p, 0x8100, 10);
}

/* In tunnels (0 to 10 in IPv4, 11 on in IPv6), the last ones in each other. */
static void corpus_tunnel(struct packet *p, unsigned int which)
{
	static const uint8_t protocols[] = {17, 17, 17, 17, 17, 17, 47, 47, 47, 4, 41};
	int outer = which < 11 ? 4 : 6;
	unsigned int depth = which < 16 ? 1 : which - 14, kind = which % 11;

	packet_new(p);
	packet_eth(p);
	for (unsigned int i = 0; i < depth; i++, kind = (kind + 3) % 9) {
		corpus_any(p, outer, protocols[kind]);
		corpus_shell(p, kind);
	}
	if (which % 11 == 9 || (which % 11 != 10 && which & 1))
		packet_ip4(p, .src = 0x0a000001, .dst = 0x0a000002, .protocol = IPPROTO_UDP,
			   .id = 99, .fragment = which & 2 ? 0x2000 : 0);
	else
		packet_ip6(p, .src = 1, .dst = 2, .next = IPPROTO_UDP);
	packet_udp(p, 2000, 3000);
}

void corpus_make(struct packet *p, unsigned int n)
{
	static const uint8_t protocols[] = {6, 17, 132, 1, 58, 33, 136};

	if (n < 28) {
		corpus_ip(p, n & 1 ? 6 : 4, protocols[n / 2 % 7], n < 14 ? 0 : 1 + n % 3);
		corpus_transport(p, n / 2 % 7);
	} else if (n < 31) {
		corpus_extended(p, n - 28);
	} else if (n < 34) {
		corpus_fragment4(p, n == 31 ? 0x2000 : n == 32 ? 0x2001 : 3);
	} else if (n < 36) {
		corpus_ip(p, n == 34 ? 4 : 6, 47, 0);
	} else if (n < CORPUS_TUNNELS) {
		corpus_shim(p, n - 36);
	} else {
		corpus_tunnel(p, n - CORPUS_TUNNELS);
	}
	packet_payload(p, 5 + n % CORPUS_TUNNELS);
	packet_end(p);
	if (n & 1)
		packet_payload(p, 3);
}
