/* SPDX-License-Identifier: Apache-2.0 */
/* Packets of every kind, to be cut and mutated. Used by test-random.c. */
#ifndef FM_TESTS_CORPUS_H
#define FM_TESTS_CORPUS_H

#include <netinet/in.h>

#include "packet.h"

#define CORPUS_SIZE 42

static inline void corpus_ip(struct packet *p, int version, uint8_t protocol, unsigned int tags)
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

static inline void corpus_transport(struct packet *p, unsigned int which)
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

static inline void corpus_extended(struct packet *p, unsigned int which)
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

static inline void corpus_fragment4(struct packet *p, uint16_t field)
{
	packet_new(p);
	packet_eth(p);
	packet_ip4(p, .src = 0x0a000001, .dst = 0x0a000002, .protocol = IPPROTO_UDP, .id = 99,
		   .fragment = field, .options = 4);
	packet_udp(p, 2000, 3000);
}

/* Behind labels (1 to 3) or in a PPPoE session. */
static inline void corpus_shim(struct packet *p, unsigned int which)
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

/* Packet number n of CORPUS_SIZE. */
static inline void corpus_make(struct packet *p, unsigned int n)
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
	} else {
		corpus_shim(p, n - 36);
	}
	packet_payload(p, 5 + n);
	packet_end(p);
	if (n & 1)
		packet_payload(p, 3);
}

#endif
