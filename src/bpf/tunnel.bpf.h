/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * Headers between a packet's start and the IP header that counts: MPLS and PPPoE, which are always
 * gone through, and tunnels, which are where fm_ro.tunnel says so; segments.bpf.h asks the same
 * functions how much of a super-packet is headers. Part of parse.bpf.h.
 */
#ifndef FM_TUNNEL_BPF_H
#define FM_TUNNEL_BPF_H

#include "hash.h"
#include "parse.bpf.h"

#define FM_ETH_P_TEB	   0x6558 /* Ethernet inside */
#define FM_MAX_LABELS	   8
#define FM_LABELS_KEPT	   3
#define FM_MAX_TUNNELS	   3
#define FM_MAX_INNER_TAGS  2
#define FM_MAX_GTP_HEADERS 4
#define FM_UDP_HEADER	   8
#define FM_PPP_IP	   0x0021
#define FM_PPP_IPV6	   0x0057
#define FM_GTP_TPDU	   255
/* RFC 7637 3.2: smaller ones are reserved, so they are keys of plain GRE. */
#define FM_NVGRE_FIRST 0x1000

/* What a tunnel turned out to carry. */
enum fm_inside {
	FM_INSIDE_UNKNOWN,
	FM_INSIDE_PACKET,
	FM_INSIDE_BUNDLE, /* several packets, each with its tunnel header */
};

static __always_inline int fm_is_shim(__u16 type)
{
	return type == ETH_P_MPLS_UC || type == ETH_P_MPLS_MC || type == ETH_P_PPP_SES;
}

/* IP by the version in the first octet at offset; 0: neither. */
static __always_inline __u16 fm_ip_type(struct __sk_buff *skb, __u32 offset)
{
	__u8 scratch, *first = fm_header(skb, offset, &scratch, sizeof(scratch));

	if (!first)
		return 0;
	if (*first >> 4 == 4)
		return ETH_P_IP;
	return *first >> 4 == 6 ? ETH_P_IPV6 : 0;
}

/*
 * A label stack at found.offset (RFC 3032 2.1): found is what lies behind it and the first labels.
 * What is neither IPv4 nor IPv6 is a pseudowire or nothing.
 */
FM_GLOBAL int fm_mpls(struct __sk_buff *skb, struct fm_parser *parser)
{
	__u64 labels = 1;

	if (!parser)
		return 0;
	parser->found.type = 0;
	parser->found.mpls = 0;
	for (int i = 0; i < FM_MAX_LABELS; i++) {
		__u8 scratch[4], *entry;

		entry = fm_header(skb, parser->found.offset, scratch, sizeof(scratch));
		if (!entry)
			return 0;
		parser->found.offset += sizeof(scratch);
		if (i < FM_LABELS_KEPT)
			labels = labels << 20 |
				 ((__u32)entry[0] << 12 | entry[1] << 4 | entry[2] >> 4);
		if (!(entry[2] & 1))
			continue;
		parser->found.mpls = labels;
		parser->found.type = fm_ip_type(skb, parser->found.offset);
		return 0;
	}
	return 0;
}

/* MPLS or PPPoE (RFC 2516) between link layer and IP: at.offset and at.type are then IP's. */
FM_GLOBAL int fm_parse_shim(struct __sk_buff *skb, struct fm_parser *parser)
{
	__u8 scratch[8], *session;
	__u16 protocol;

	if (!parser)
		return 0;
	if (parser->at.type != ETH_P_PPP_SES) {
		parser->found.offset = parser->at.offset;
		fm_mpls(skb, parser);
		parser->packet.mpls = parser->found.mpls;
		parser->at.offset = parser->found.offset;
		parser->at.type = parser->found.type;
		return 0;
	}
	parser->at.type = 0;
	session = fm_header(skb, parser->at.offset, scratch, sizeof(scratch));
	if (!session || session[0] != 0x11 || session[1])
		return 0;
	protocol = session[6] << 8 | session[7];
	if (protocol == FM_PPP_IP)
		parser->at.type = ETH_P_IP;
	else if (protocol == FM_PPP_IPV6)
		parser->at.type = ETH_P_IPV6;
	parser->at.offset += sizeof(scratch);
	return 0;
}

/* An Ethernet frame at found.offset, tags included: found is what lies behind. */
static __always_inline void fm_find_in_ethernet(struct __sk_buff *skb, struct fm_found *found)
{
	__u8 scratch[ETH_HLEN], *header = fm_header(skb, found->offset, scratch, ETH_HLEN);

	found->type = 0;
	if (!header)
		return;
	found->type = header[12] << 8 | header[13];
	found->offset += ETH_HLEN;
	for (int i = 0; i < FM_MAX_INNER_TAGS; i++) {
		__u8 tag_scratch[4], *tag;

		if (!fm_is_vlan(bpf_htons(found->type)))
			return;
		tag = fm_header(skb, found->offset, tag_scratch, sizeof(tag_scratch));
		if (!tag) {
			found->type = 0;
			return;
		}
		found->type = tag[2] << 8 | tag[3];
		found->offset += sizeof(tag_scratch);
	}
}

/* RFC 7348 5. */
static __always_inline void fm_find_vxlan(struct __sk_buff *skb, struct fm_found *found)
{
	__u8 scratch[8], *header = fm_header(skb, found->offset, scratch, sizeof(scratch));

	if (!header || !(header[0] & 0x08))
		return;
	found->tunnel = FM_TUNNEL_VXLAN;
	found->id = (__u32)header[4] << 16 | header[5] << 8 | header[6];
	found->offset += sizeof(scratch);
	found->type = FM_ETH_P_TEB;
}

/* RFC 8926 3.4. */
static __always_inline void fm_find_geneve(struct __sk_buff *skb, struct fm_found *found)
{
	__u8 scratch[8], *header = fm_header(skb, found->offset, scratch, sizeof(scratch));

	if (!header || header[0] >> 6)
		return;
	found->tunnel = FM_TUNNEL_GENEVE;
	found->id = (__u32)header[4] << 16 | header[5] << 8 | header[6];
	found->offset += sizeof(scratch) + (header[0] & 0x3f) * 4;
	found->type = header[2] << 8 | header[3];
}

/* RFC 2784, RFC 2890, RFC 7637 3.2; version 1 is PPTP's and routing (RFC 1701) long gone. */
static __always_inline void fm_find_gre(struct __sk_buff *skb, struct fm_found *found)
{
	__u8 scratch[4], *header = fm_header(skb, found->offset, scratch, sizeof(scratch));
	__u8 flags, key_scratch[4], *key;

	if (!header || (header[1] & 7) || (header[0] & 0x40))
		return;
	flags = header[0];
	found->type = header[2] << 8 | header[3];
	found->offset += flags & 0x80 ? 8 : 4;
	found->tunnel = FM_TUNNEL_GRE;
	if (flags & 0x20) {
		key = fm_header(skb, found->offset, key_scratch, sizeof(key_scratch));
		if (!key) {
			found->tunnel = FM_TUNNEL_NONE;
			return;
		}
		found->id = (__u32)key[0] << 24 | key[1] << 16 | key[2] << 8 | key[3];
		found->offset += sizeof(key_scratch);
		if (flags == 0x20 && found->type == FM_ETH_P_TEB &&
		    found->id >> 8 >= FM_NVGRE_FIRST) {
			found->tunnel = FM_TUNNEL_NVGRE;
			found->id >>= 8;
		}
	}
	found->offset += flags & 0x10 ? 4 : 0;
}

/* 3GPP TS 29.281 5.1 and 5.2: user data only, extension headers skipped. */
static __always_inline void fm_find_gtpu(struct __sk_buff *skb, struct fm_found *found)
{
	__u8 scratch[8], *header = fm_header(skb, found->offset, scratch, sizeof(scratch));
	__u32 offset = found->offset + sizeof(scratch);
	__u8 flags, next = 0;

	if (!header || header[0] >> 4 != 3 || header[1] != FM_GTP_TPDU)
		return;
	flags = header[0] & 7;
	found->id = (__u32)header[4] << 24 | header[5] << 16 | header[6] << 8 | header[7];
	if (flags) {
		__u8 more_scratch[4], *more;

		more = fm_header(skb, offset, more_scratch, sizeof(more_scratch));
		if (!more)
			return;
		next = flags & 4 ? more[3] : 0;
		offset += sizeof(more_scratch);
	}
	for (int i = 0; i < FM_MAX_GTP_HEADERS && next; i++) {
		__u8 octet, *at = fm_header(skb, offset, &octet, 1);

		if (!at || !*at)
			return;
		offset += *at * 4;
		at = fm_header(skb, offset - 1, &octet, 1);
		if (!at)
			return;
		next = *at;
	}
	if (next)
		return;
	found->tunnel = FM_TUNNEL_GTPU;
	found->offset = offset;
	found->type = fm_ip_type(skb, offset);
}

/* Ports behind which the long way looks for a tunnel. */
static __always_inline int fm_is_tunnel_port(__be16 port)
{
	return port == bpf_htons(FM_PORT_VXLAN) || port == bpf_htons(FM_PORT_VXLAN_OLD) ||
	       port == bpf_htons(FM_PORT_GENEVE) || port == bpf_htons(FM_PORT_GTPU) ||
	       port == bpf_htons(FM_PORT_MPLS_UDP);
}

/* Whether what follows the IP header may be a tunnel's. */
static __always_inline int fm_is_tunnel(const struct fm_parser *parser)
{
	switch (parser->at.protocol) {
	case IPPROTO_IPIP:
	case IPPROTO_IPV6:
	case IPPROTO_GRE:
		return 1;
	case IPPROTO_UDP:
		return fm_is_tunnel_port(parser->at.dst_port);
	}
	return 0;
}

static __always_inline void fm_find_udp(struct __sk_buff *skb, struct fm_parser *parser)
{
	struct fm_found *found = &parser->found;

	found->offset += FM_UDP_HEADER;
	switch (bpf_ntohs(parser->at.dst_port)) {
	case FM_PORT_VXLAN:
	case FM_PORT_VXLAN_OLD:
		fm_find_vxlan(skb, found);
		break;
	case FM_PORT_GENEVE:
		fm_find_geneve(skb, found);
		break;
	case FM_PORT_GTPU:
		fm_find_gtpu(skb, found);
		break;
	case FM_PORT_MPLS_UDP:
		found->tunnel = FM_TUNNEL_MPLS_UDP;
		fm_mpls(skb, parser);
		break;
	}
}

/*
 * What the found IP header is the begin of: one packet, which can be parsed, so that nothing of the
 * outer one is kept. Or of the first of several: a super-packet of which the inner length covers a
 * part has been bundled from tunnel packets, by a router or an end point in user space.
 */
static __always_inline enum fm_inside fm_inside(struct __sk_buff *skb,
						const struct fm_parser *parser)
{
	__u32 offset = parser->found.offset;
	__u8 scratch[20], *header = fm_header(skb, offset, scratch, sizeof(scratch));
	__u32 there, length = sizeof(struct ipv6hdr), stated;

	if (!header || offset >= parser->at.end)
		return FM_INSIDE_UNKNOWN;
	there = parser->at.end - offset;
	if (parser->found.type == ETH_P_IPV6) {
		stated = header[4] << 8 | header[5];
		stated = stated ? stated + length : there;
		if (header[0] >> 4 != 6)
			return FM_INSIDE_UNKNOWN;
	} else {
		length = (header[0] & 15) * 4;
		stated = header[2] << 8 | header[3];
		stated = stated ? stated : there;
		if (header[0] >> 4 != 4 || length < sizeof(struct iphdr))
			return FM_INSIDE_UNKNOWN;
	}
	if (there < length || stated < length)
		return FM_INSIDE_UNKNOWN;
	if (skb->gso_size && parser->at.protocol == IPPROTO_UDP && stated < there)
		return FM_INSIDE_BUNDLE;
	return FM_INSIDE_PACKET;
}

/*
 * Looks behind the IP header that was parsed last: found says what tunnel begins there and where
 * its IP packet does. Returns enum fm_inside.
 */
FM_GLOBAL int fm_find_tunnel(struct __sk_buff *skb, struct fm_parser *parser)
{
	struct fm_found *found;

	if (!parser)
		return FM_INSIDE_UNKNOWN;
	found = &parser->found;
	*found = (struct fm_found){.offset = parser->at.offset, .id = FM_TUNNEL_NO_ID};
	switch (parser->at.protocol) {
	case IPPROTO_IPIP:
		found->tunnel = FM_TUNNEL_IPIP;
		found->type = ETH_P_IP;
		break;
	case IPPROTO_IPV6:
		found->tunnel = FM_TUNNEL_IP6IP;
		found->type = ETH_P_IPV6;
		break;
	case IPPROTO_GRE:
		fm_find_gre(skb, found);
		break;
	case IPPROTO_UDP:
		fm_find_udp(skb, parser);
		break;
	}
	if (found->type == FM_ETH_P_TEB)
		fm_find_in_ethernet(skb, found);
	if (found->tunnel == FM_TUNNEL_NONE ||
	    (found->type != ETH_P_IP && found->type != ETH_P_IPV6))
		return FM_INSIDE_UNKNOWN;
	return fm_inside(skb, parser);
}

/* The outer addresses as a key has them. */
static __always_inline void fm_tunnel_set(struct fm_parser *parser)
{
	struct fm_tunnel *tunnel = &parser->tunnel;
	__u64 *src = (__u64 *)tunnel->addr[0], *dst = (__u64 *)tunnel->addr[1];

	tunnel->type = parser->found.tunnel;
	tunnel->id[0] = parser->found.id;
	tunnel->family = parser->packet.key.family;
	if (tunnel->family == 6) {
		src[0] = parser->at.src[0];
		src[1] = parser->at.src[1];
		dst[0] = parser->at.dst[0];
		dst[1] = parser->at.dst[1];
		return;
	}
	src[0] = 0;
	dst[0] = 0;
	*(__u32 *)&tunnel->addr[0][8] = bpf_htonl(0xffff);
	*(__u32 *)&tunnel->addr[1][8] = bpf_htonl(0xffff);
	*(__u32 *)&tunnel->addr[0][12] = parser->at.src[0];
	*(__u32 *)&tunnel->addr[1][12] = parser->at.dst[0];
}

/* Forgets the IP packet that was parsed, as if the found one were the first. */
static __always_inline void fm_tunnel_enter(struct fm_parser *parser)
{
	struct fm_packet *packet = &parser->packet;
	__u32 end = parser->at.end;

	fm_tunnel_set(parser);
	packet->headers += parser->found.offset - parser->at.l3;
	if (!packet->mpls)
		packet->mpls = parser->found.mpls;
	__builtin_memset(&packet->key, 0, sizeof(packet->key));
	__builtin_memset(&parser->at, 0, sizeof(parser->at));
	packet->flow_label = 0;
	packet->ip_id = 0;
	packet->tcp_flags = 0;
	packet->fragment_flags = 0;
	packet->ends = 0;
	packet->transport = 0;
	packet->l4_octets = 0;
	packet->notes = 0;
	packet->l3_octets = end - parser->found.offset;
	parser->at.l3 = parser->found.offset;
	parser->at.type = parser->found.type;
}

/*
 * Multilinear, as hash.h: type, id and the outer end points, the smaller first, so that both
 * directions have the same.
 */
static __always_inline __u32 fm_tunnel_hash(const struct fm_tunnel *tunnel, __u32 id)
{
	const __u64 *src = (const __u64 *)tunnel->addr[0], *dst = (const __u64 *)tunnel->addr[1];
	const volatile __u64 *seed = fm_ro.seed;
	__u64 h = FM_HASH_PAIR(tunnel->type, id, 0);
	const __u32 *lo = (const __u32 *)src, *hi = (const __u32 *)dst;

	if (src[0] > dst[0] || (src[0] == dst[0] && src[1] > dst[1])) {
		lo = (const __u32 *)dst;
		hi = (const __u32 *)src;
	}
	h += FM_HASH_PAIR(lo[0], lo[1], 2);
	h += FM_HASH_PAIR(lo[2], lo[3], 4);
	h += FM_HASH_PAIR(hi[0], hi[1], 6);
	h += FM_HASH_PAIR(hi[2], hi[3], 8);
	return h >> 32;
}

static __always_inline void fm_tunnel_key(struct fm_parser *parser)
{
	struct fm_tunnel *tunnel = &parser->tunnel;
	__u32 id = tunnel->id[0];

	if (tunnel->type == FM_TUNNEL_GTPU || id == FM_TUNNEL_NO_ID)
		id = 0;
	parser->packet.key.tunnel_type = tunnel->type;
	parser->packet.key.tunnel_id =
		fm_ro.tunnel == FM_TUNNEL_KEY_BOTH ? fm_tunnel_hash(tunnel, id) : id;
}

/*
 * Goes into the tunnel behind the IP header that was parsed last; the next one is to be parsed
 * then. 0: there is none to go into.
 */
FM_GLOBAL int fm_tunnel_step(struct __sk_buff *skb, struct fm_parser *parser)
{
	if (!parser || !fm_is_tunnel(parser))
		return 0;
	if (parser->at.more_fragments || parser->at.fragment_offset ||
	    fm_find_tunnel(skb, parser) != FM_INSIDE_PACKET) {
		parser->packet.notes |= FM_NOTE_UNDECODED;
		return 0;
	}
	fm_tunnel_enter(parser);
	return 1;
}

/* Goes into the tunnels of the IP packet that was parsed. */
static __always_inline int fm_parse_tunnels(struct __sk_buff *skb, struct fm_parser *parser)
{
	int deeper = 1;

	if (!parser)
		return 0;
#pragma unroll
	for (int i = 0; i < FM_MAX_TUNNELS; i++) {
		if (deeper)
			deeper = fm_tunnel_step(skb, parser);
		if (deeper)
			fm_parse_ip(skb, parser);
	}
	if (deeper && fm_is_tunnel(parser))
		parser->packet.notes |= FM_NOTE_DEEP_TUNNEL;
	if (parser->tunnel.type != FM_TUNNEL_NONE)
		fm_tunnel_key(parser);
	return 0;
}

#endif
