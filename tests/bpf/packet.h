/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Builds packets octet by octet: each function appends a header, packet_end() fills in the length
 * fields. Used by the tests of the kernel half. All values in host order.
 */
#ifndef FM_TESTS_PACKET_H
#define FM_TESTS_PACKET_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define PACKET_ROOM   66000
#define PACKET_FIXUPS 16

struct packet {
	size_t length;
	size_t l3;	/* of the outermost IP header */
	size_t type_at; /* EtherType that says what comes next; 0: none */
	size_t n_fixups;
	struct {
		size_t field; /* of a 16-bit length */
		size_t from;  /* where what it counts begins */
	} fixup[PACKET_FIXUPS];
	uint8_t data[PACKET_ROOM];
};

/* 16 bits in network order anywhere in the data. */
void packet_put16(struct packet *p, size_t at, uint16_t value);
void packet_put32(struct packet *p, size_t at, uint32_t value);
/* Zeroed octets at the end. */
uint8_t *packet_append(struct packet *p, size_t length);
void packet_octets(struct packet *p, const void *octets, size_t length);

/* Starts anew. */
void packet_new(struct packet *p);
void packet_eth(struct packet *p);
void packet_vlan(struct packet *p, uint16_t tpid, uint16_t tci);

/* An MPLS label, the bottom of the stack or not; a PPPoE session's header, for IP of a version. */
void packet_mpls(struct packet *p, uint32_t label, bool bottom);
void packet_pppoe(struct packet *p, uint16_t session, int version);

/*
 * Headers of tunnels; what is appended next says what is inside where they have a field for it.
 * VXLAN (RFC 7348) and GENEVE (RFC 8926, octets of options, a multiple of 4) follow UDP, as does
 * GTP-U (3GPP TS 29.281; extensions: headers of 8 octets). GRE (RFC 2784, 2890): flags as in its
 * first octet.
 */
void packet_vxlan(struct packet *p, uint32_t vni);
void packet_geneve(struct packet *p, uint32_t vni, uint8_t options);
void packet_gre(struct packet *p, uint8_t flags, uint32_t key);
void packet_gtpu(struct packet *p, uint32_t teid, unsigned int extensions);

struct packet_ip4 {
	uint32_t src, dst;
	uint8_t protocol;
	uint8_t ttl;
	uint8_t tos;
	uint16_t fragment; /* flags and offset, as in the header */
	uint16_t id;
	uint8_t options; /* octets, a multiple of 4 */
};

void packet_add_ip4(struct packet *p, struct packet_ip4 ip);
#define packet_ip4(p, ...) packet_add_ip4(p, (struct packet_ip4){__VA_ARGS__})

struct packet_ip6 {
	uint8_t src, dst; /* last octet of 2001:db8::/32 addresses */
	uint8_t next;
	uint8_t hops;
	uint8_t traffic_class;
};

void packet_add_ip6(struct packet *p, struct packet_ip6 ip);
#define packet_ip6(p, ...) packet_add_ip6(p, (struct packet_ip6){__VA_ARGS__})

/* An extension header of 8 * (1 + more) octets: hop-by-hop, routing, destination, mobility... */
void packet_ext(struct packet *p, uint8_t next, uint8_t more);
void packet_ext_auth(struct packet *p, uint8_t next, uint8_t words);

/* field: offset in 8 octets << 3 | more. */
void packet_ext_fragment(struct packet *p, uint8_t next, uint16_t field, uint32_t id);
void packet_ports(struct packet *p, size_t length, uint16_t src, uint16_t dst);

/* options: octets, a multiple of 4. */
void packet_tcp(struct packet *p, uint16_t src, uint16_t dst, uint8_t flags, uint8_t options);

struct packet_segment {
	uint16_t src, dst;
	uint32_t seq, ack;
	uint16_t flags; /* 0x100: accurate ECN */
	uint16_t window;
	uint8_t n_options; /* octets; filled up to a multiple of 4 with no operation */
	const uint8_t *options;
};

/* A TCP header with all that metrics look at. */
void packet_add_segment(struct packet *p, struct packet_segment segment);
#define packet_segment(p, ...) packet_add_segment(p, (struct packet_segment){__VA_ARGS__})

void packet_udp(struct packet *p, uint16_t src, uint16_t dst);

/* Also UDP-Lite (coverage 0: all) and, with length 16, DCCP. */
void packet_udplite(struct packet *p, uint16_t src, uint16_t dst);
void packet_dccp(struct packet *p, uint16_t src, uint16_t dst);
void packet_sctp(struct packet *p, uint16_t src, uint16_t dst);
void packet_sctp_chunk(struct packet *p, uint8_t type, uint16_t length);
void packet_icmp(struct packet *p, uint8_t type, uint8_t code);
void packet_payload(struct packet *p, size_t length);

/* Fills in every length field. What is appended later is padding. */
void packet_end(struct packet *p);

#endif
