/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * Undoes segmentation offload: the wire packets and octets that a super-packet stands for. Every
 * segment repeats all headers before the payload that was cut up; in a tunnel that is the inner
 * transport's payload. Part of parse.bpf.h.
 */
#ifndef FM_SEGMENTS_BPF_H
#define FM_SEGMENTS_BPF_H

#include "parse.bpf.h"

#define FM_ETH_P_TEB 0x6558
/* A gso_size that says: each segment as long as it is (SCTP); the lengths are then an average. */
#define FM_GSO_BY_FRAGS 0xffff

/* GRE header at offset: its length, RFC 2784 and 2890; the EtherType behind it in *ret_type. */
static __always_inline __u32 fm_gre_length(struct __sk_buff *skb, __u32 offset, __u16 *ret_type)
{
	__u8 scratch[4], *gre = fm_header(skb, offset, scratch, sizeof(scratch));
	__u32 length = 4;

	if (!gre || (gre[1] & 7))
		return 0;
	length += gre[0] & 0x80 ? 4 : 0;
	length += gre[0] & 0x20 ? 4 : 0;
	length += gre[0] & 0x10 ? 4 : 0;
	*ret_type = gre[2] << 8 | gre[3];
	return length;
}

/* The tunnel header behind the outer IP header; 0: none that is known. */
static __always_inline __u32 fm_tunnel_length(struct __sk_buff *skb, struct fm_parser *parser,
					      __u16 *ret_type)
{
	__u8 scratch[4], *geneve;
	__u16 port = bpf_ntohs(parser->at.dst_port);

	switch (parser->at.protocol) {
	case IPPROTO_IPIP:
		*ret_type = ETH_P_IP;
		return 0;
	case IPPROTO_IPV6:
		*ret_type = ETH_P_IPV6;
		return 0;
	case IPPROTO_GRE:
		return fm_gre_length(skb, parser->at.offset, ret_type);
	case IPPROTO_UDP:
		break;
	default:
		return 0;
	}
	if (port == FM_PORT_VXLAN || port == FM_PORT_VXLAN_OLD) {
		*ret_type = FM_ETH_P_TEB;
		return 16;
	}
	if (port != FM_PORT_GENEVE)
		return 0;
	geneve = fm_header(skb, parser->at.offset + 8, scratch, sizeof(scratch));
	if (!geneve)
		return 0;
	*ret_type = geneve[2] << 8 | geneve[3];
	return 16 + (geneve[0] & 0x3f) * 4;
}

/* The inner IP and transport headers at offset; 0: not told. */
static __always_inline __u32 fm_inner_length(struct __sk_buff *skb, __u32 offset, __u16 type)
{
	__u8 scratch[20], *header;
	__u32 start = offset, protocol;

	if (type == FM_ETH_P_TEB) {
		header = fm_header(skb, offset, scratch, ETH_HLEN);
		if (!header)
			return 0;
		type = header[12] << 8 | header[13];
		offset += ETH_HLEN;
	}
	header = fm_header(skb, offset, scratch, 20);
	if (!header)
		return 0;
	if (type == ETH_P_IP) {
		protocol = header[9];
		offset += (header[0] & 0xf) * 4;
	} else if (type == ETH_P_IPV6) {
		protocol = header[6];
		offset += sizeof(struct ipv6hdr);
	} else {
		return 0;
	}
	if (protocol == IPPROTO_UDP)
		return offset + 8 - start;
	if (protocol != IPPROTO_TCP)
		return 0;
	header = fm_header(skb, offset, scratch, 20);
	if (!header)
		return 0;
	return offset + (header[12] >> 4) * 4 - start;
}

/* Octets of the headers that every segment repeats, from the IP header on. */
static __always_inline __u32 fm_segment_headers(struct __sk_buff *skb, struct fm_parser *parser)
{
	__u32 headers = parser->at.offset - parser->at.l3, tunnel, inner;
	__u16 type = 0;

	if (parser->at.protocol == IPPROTO_TCP)
		return headers + parser->packet.transport;
	tunnel = fm_tunnel_length(skb, parser, &type);
	if (!type) {
		if (!parser->packet.transport)
			parser->packet.notes |= FM_NOTE_UNSURE;
		return headers + parser->packet.transport;
	}
	inner = fm_inner_length(skb, parser->at.offset + tunnel, type);
	if (!inner)
		parser->packet.notes |= FM_NOTE_UNSURE;
	return headers + tunnel + inner;
}

FM_GLOBAL int fm_parse_segments(struct __sk_buff *skb, struct fm_parser *parser)
{
	__u32 headers, payload, last, size, segments;

	if (!parser)
		return 0;
	size = skb->gso_size;
	segments = skb->gso_segs;
	headers = fm_segment_headers(skb, parser);
	if (!size || headers >= parser->packet.octets)
		return 0;
	payload = parser->packet.octets - headers;
	if (!segments)
		segments = (payload + size - 1) / size;
	if (segments < 2)
		return 0;
	if (size == FM_GSO_BY_FRAGS)
		size = (payload + segments - 1) / segments;
	parser->packet.packets = segments;
	parser->packet.octets = payload + segments * headers;
	parser->packet.max_length = fm_length16(headers + size);
	last = (segments - 1) * size;
	parser->packet.min_length = fm_length16(headers + (payload > last ? payload - last : size));
	return 0;
}

#endif
