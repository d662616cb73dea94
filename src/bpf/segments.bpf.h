/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * Undoes segmentation offload: the wire packets and octets that a super-packet stands for. Every
 * segment repeats all headers before the payload that was cut up; in a tunnel that is the inner
 * transport's payload. Part of parse.bpf.h.
 */
#ifndef FM_SEGMENTS_BPF_H
#define FM_SEGMENTS_BPF_H

#include "parse.bpf.h"

/* A gso_size that says: each segment as long as it is (SCTP); the lengths are then an average. */
#define FM_GSO_BY_FRAGS 0xffff

/* The inner IP and transport headers at offset; 0: not told. */
static __always_inline __u32 fm_inner_length(struct __sk_buff *skb, __u32 offset, __u16 type)
{
	__u8 scratch[20], *header = fm_header(skb, offset, scratch, 20);
	__u32 start = offset, protocol;

	if (!header)
		return 0;
	if (type == ETH_P_IP) {
		protocol = header[9];
		offset += (header[0] & 0xf) * 4;
	} else {
		protocol = header[6];
		offset += sizeof(struct ipv6hdr);
	}
	if (protocol == IPPROTO_UDP) {
		header = fm_header(skb, offset, scratch, FM_UDP_HEADER);
		if (!header || fm_is_tunnel_port(*(__be16 *)(header + 2)))
			return 0;
		return offset + FM_UDP_HEADER - start;
	}
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
	__u32 headers = parser->at.offset - parser->at.l3, inner = 0;
	int inside;

	if (parser->at.protocol == IPPROTO_TCP)
		return headers + parser->packet.transport;
	if (!fm_is_tunnel(parser)) {
		if (!parser->packet.transport)
			parser->packet.notes |= FM_NOTE_UNSURE;
		return headers + parser->packet.transport;
	}
	inside = fm_find_tunnel(skb, parser);
	if (inside == FM_INSIDE_PACKET)
		inner = fm_inner_length(skb, parser->found.offset, parser->found.type);
	if (!inner) {
		if (inside != FM_INSIDE_BUNDLE)
			parser->packet.notes |= FM_NOTE_UNSURE;
		return headers + parser->packet.transport;
	}
	return parser->found.offset - parser->at.l3 + inner;
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
