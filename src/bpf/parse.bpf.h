/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * From a packet to its flow key and measures: link layer and VLAN tags, IPv4 with options, IPv6
 * with extension headers, ports and flags of the transports, fragments. Called by flowmond.bpf.c.
 *
 * Every header goes through fm_header(), which checks bounds; nothing is read behind the end that
 * the IP header states, so that padding is never taken for a header.
 *
 * The functions marked FM_GLOBAL are verified once each, by themselves, instead of once for every
 * way to reach them: inlined, the ways multiply beyond what the verifier follows.
 */
#ifndef FM_PARSE_BPF_H
#define FM_PARSE_BPF_H

#include <stddef.h>
#include <linux/bpf.h>
#include <linux/if_ether.h>
#include <linux/in.h>
#include <linux/ip.h>
#include <linux/ipv6.h>
#include <linux/tcp.h>
#include <linux/udp.h>
#include <bpf/bpf_endian.h>
#include <bpf/bpf_helpers.h>

#include "abi.h"
#include "rodata.bpf.h"

#define FM_IP_DF       0x4000
#define FM_IP_MF       0x2000
#define FM_IP_OFFSET   0x1fff
#define FM_FRAGMENT_DF 0x40
#define FM_FRAGMENT_MF 0x20
/* A fragment this long after the first belongs to another packet (RFC 8200 4.5: 60 s). */
#define FM_FRAGMENT_LIFETIME_NS 60000000000ULL
/* No header that is looked at begins behind this. */
#define FM_MAX_OFFSET 2048

#define FM_OPTION_JUMBO 0xc2 /* RFC 2675 */

#define FM_GLOBAL __attribute__((noinline))

enum fm_verdict {
	FM_PARSED,
	FM_NOT_IP,
	FM_MALFORMED,
};

/* Where the parser stands. */
struct fm_cursor {
	__u32 l3;     /* offset of the IP header */
	__u32 offset; /* offset of what comes next */
	__u32 end;    /* offset behind the last octet that the IP header states */
	__u16 src_port;
	__u16 dst_port;
	__u16 fragment_offset; /* 8-octet units */
	__u8 more_fragments;
	__u8 fragmented;
	__u32 fragment_id;
	__u16 type; /* EtherType of what comes at l3, host order */
	__u8 protocol;
	__u64 src[2]; /* addresses as they travel, IPv4 in the first 4 octets */
	__u64 dst[2];
};

/* What is told of one packet (or of the wire packets one super-packet stands for). */
struct fm_packet {
	struct fm_key key; /* ports and addresses already in canonical order */
	__u32 direction;   /* endpoint that sent it */
	__u32 packets;	   /* on the wire */
	__u32 octets;	   /* IP octets on the wire */
	__u32 l3_octets;   /* IP octets of the buffer */
	__u32 flow_label;
	__u32 l4_octets; /* of the buffer, from the transport header to the end of the IP packet */
	__u64 mpls;	 /* labels from the top, 20 bits each, behind a 1 bit; 0: none */
	__u16 min_length;
	__u16 max_length;
	__u16 vlan;
	__u16 cvlan;
	__u16 headers; /* octets of tunnel headers before the IP header that counts */
	__u16 ip_id;   /* IPv4 identification */
	__u16 l4;      /* offset of the transport header */
	__u8 first;    /* octet of UDP payload, where the short way saw it */
	__u8 ttl;
	__u8 tos;
	__u8 tcp_flags;
	__u8 fragment_flags;
	__u8 ends;
	__u8 transport; /* 0: no transport header in this packet (later fragment, cut
			   short) */
	__u8 verdict;	/* enum fm_verdict */
	__u8 notes;	/* bit FM_NOTE_*: counters of class NOTE to raise */
};

/* What a tunnel header leads to. */
struct fm_found {
	__u64 mpls;   /* labels that were gone through, as in fm_packet */
	__u32 offset; /* of the inner IP header */
	__u32 id;     /* FM_TUNNEL_NO_ID: none */
	__u16 type;   /* EtherType there, host order */
	__u8 tunnel;  /* enum fm_tunnel_type */
	__u8 padding[5];
};

/* A packet on its way through the parser. */
struct fm_parser {
	struct fm_packet packet;
	struct fm_tunnel tunnel; /* around the packet that is counted, addresses as it travels */
	struct fm_found found;	 /* the last tunnel header that was looked at */
	__u64 hash;		 /* where it was counted, if it was */
	__u32 position;
	__u32 tick;
	__u32 placeless; /* it found no slot and no room on the ring: left to fm_aggregate() */
	__u32 again;	 /* an earlier hook counted it */
	__u32 some;	 /* a sampler took some of its packets: they are not measured */
	__u32 left;	 /* of its packets and octets, what is in no flow */
	__u32 left_octets;
	__u32 action; /* enum fm_filter_action: why */
	struct fm_cursor at;
	struct ipv6hdr scratch; /* an IP header that is not linear; too much for the stack */
};

#define FM_NOTE_CUT_TRANSPORT 0x01
#define FM_NOTE_CUT_PAYLOAD   0x02
#define FM_NOTE_DEEP_HEADERS  0x04
#define FM_NOTE_ORPHAN	      0x08
#define FM_NOTE_UNSURE	      0x10
#define FM_NOTE_DEEP_TUNNEL   0x20
#define FM_NOTE_UNDECODED     0x40

struct fm_fragment_key {
	__u64 src[2];
	__u64 dst[2];
	__u32 id;
	__u8 protocol;
	__u8 tunnel_type; /* around it: addresses are unique in a network only */
	__u16 unused;
	__u32 tunnel_id;
	__u32 unused2;
};

struct fm_fragment {
	__u64 seen_ns;
	__u16 src_port;
	__u16 dst_port;
	__u32 protocol;
};

struct {
	__uint(type, BPF_MAP_TYPE_LRU_HASH);
	__uint(max_entries, 16384);
	__type(key, struct fm_fragment_key);
	__type(value, struct fm_fragment);
} fm_fragments SEC(".maps");

/*
 * A load the compiler cannot split into context + offset, which the verifier refuses. Fuzzers,
 * which run in user space, have their own.
 */
#ifndef FM_SKB_LOAD
#define FM_SKB_LOAD(skb, member, type)                                                             \
	({                                                                                         \
		type value_;                                                                       \
		asm volatile("%[v] = *(u32 *)(%[skb] + %[off])"                                    \
			     : [v] "=r"(value_)                                                    \
			     : [skb] "r"(skb), [off] "i"(offsetof(struct __sk_buff, member)));     \
		value_;                                                                            \
	})
#endif

/*
 * The length octets at offset: in the packet itself where they are linear, else copied to scratch.
 * NULL where the packet ends before.
 */
static __always_inline void *fm_header(struct __sk_buff *skb, __u32 offset, void *scratch,
				       __u32 length)
{
	void *data = FM_SKB_LOAD(skb, data, void *);
	void *data_end = FM_SKB_LOAD(skb, data_end, void *);

	if (offset > FM_MAX_OFFSET)
		return NULL;
	/*
	 * Linux 6.1 loses the bound of a copy that was spilled before the comparison: say it once
	 * more, in the register that is used.
	 */
	asm volatile("%[o] &= 0xfff" : [o] "+r"(offset));
	if (data + offset + length <= data_end)
		return data + offset;
	if (bpf_skb_load_bytes(skb, offset, scratch, length))
		return NULL;
	return scratch;
}

static __always_inline int fm_is_vlan(__be16 ethertype)
{
	return ethertype == bpf_htons(ETH_P_8021Q) || ethertype == bpf_htons(ETH_P_8021AD);
}

static __always_inline void fm_vlan_add(struct fm_parser *parser, int *depth, __u16 tci)
{
	if (*depth == 0)
		parser->packet.vlan = tci & 0xfff;
	else if (*depth == 1)
		parser->packet.cvlan = tci & 0xfff;
	(*depth)++;
}

/* Link layer: the EtherType of what comes at parser->at.offset. */
static __always_inline __be16 fm_parse_link(struct __sk_buff *skb, struct fm_parser *parser,
					    int layer3)
{
	struct ethhdr eth_scratch, *eth;
	__be16 ethertype = skb->protocol;
	int depth = 0;

	if (skb->vlan_present)
		fm_vlan_add(parser, &depth, skb->vlan_tci);
	if (layer3) {
		parser->at.offset = 0;
		return ethertype;
	}
	eth = fm_header(skb, 0, &eth_scratch, sizeof(*eth));
	if (!eth)
		return 0;
	ethertype = eth->h_proto;
	parser->at.offset = sizeof(*eth);
#pragma unroll
	for (int i = 0; i < FM_MAX_VLAN_TAGS; i++) {
		__be16 scratch[2], *tag;

		if (!fm_is_vlan(ethertype))
			break;
		tag = fm_header(skb, parser->at.offset, scratch, sizeof(scratch));
		if (!tag)
			return 0;
		fm_vlan_add(parser, &depth, bpf_ntohs(tag[0]));
		ethertype = tag[1];
		parser->at.offset += sizeof(scratch);
	}
	return ethertype;
}

/* ICMP type that answers (or asked for) a type; FM_ICMP_NO_ANSWER where there is none. */
static __always_inline __u16 fm_icmp_answer(__u8 family, __u8 type)
{
	if (family == 4) {
		switch (type) {
		case 0: /* echo reply <-> echo, RFC 792 */
			return 8;
		case 8:
			return 0;
		case 13: /* timestamp, RFC 792 */
			return 14;
		case 14:
			return 13;
		case 15: /* information, RFC 792 */
			return 16;
		case 16:
			return 15;
		case 17: /* address mask, RFC 950 */
			return 18;
		case 18:
			return 17;
		case 42: /* extended echo, RFC 8335 */
			return 43;
		case 43:
			return 42;
		}
		return FM_ICMP_NO_ANSWER;
	}
	switch (type) {
	case 128: /* echo, RFC 4443 */
		return 129;
	case 129:
		return 128;
	case 160: /* extended echo, RFC 8335 */
		return 161;
	case 161:
		return 160;
	}
	return FM_ICMP_NO_ANSWER;
}

static __always_inline void fm_parse_icmp(struct __sk_buff *skb, struct fm_parser *parser,
					  __u8 family)
{
	__u8 scratch[2], *icmp;
	__u16 answer;

	if (parser->at.offset + sizeof(scratch) > parser->at.end) {
		parser->packet.notes |= FM_NOTE_CUT_TRANSPORT;
		return;
	}
	icmp = fm_header(skb, parser->at.offset, scratch, sizeof(scratch));
	if (!icmp) {
		parser->packet.notes |= FM_NOTE_CUT_TRANSPORT;
		return;
	}
	answer = fm_icmp_answer(family, icmp[0]);
	parser->at.src_port = bpf_htons(icmp[0] << 8 | icmp[1]);
	/* Extended echo replies carry a code; the pair is keyed by type alone, code 0. */
	parser->at.dst_port =
		answer == FM_ICMP_NO_ANSWER ? FM_ICMP_NO_ANSWER : bpf_htons(answer << 8);
	parser->packet.transport = 8;
}

/* The first chunks of an SCTP packet, RFC 9260 3.2. */
static __always_inline void fm_parse_sctp(struct __sk_buff *skb, struct fm_parser *parser)
{
	__u32 offset = parser->at.offset + 12;

#pragma unroll
	for (int i = 0; i < 4; i++) {
		__u8 scratch[4], *chunk;

		if (offset + sizeof(scratch) > parser->at.end)
			return;
		chunk = fm_header(skb, offset, scratch, sizeof(scratch));
		if (!chunk)
			return;
		if (chunk[0] == 6)
			parser->packet.ends |= FM_END_SCTP_ABORT;
		if (chunk[0] == 14)
			parser->packet.ends |= FM_END_SCTP_SHUTDOWN;
		offset += ((chunk[2] << 8 | chunk[3]) + 3) & ~3u;
	}
}

static __always_inline void fm_parse_transport(struct __sk_buff *skb, struct fm_parser *parser)
{
	__be16 port_scratch[2], *ports;

	if (parser->at.protocol == IPPROTO_TCP &&
	    parser->at.offset + sizeof(struct tcphdr) <= parser->at.end) {
		struct tcphdr scratch, *tcp;

		tcp = fm_header(skb, parser->at.offset, &scratch, sizeof(scratch));
		if (tcp) {
			parser->at.src_port = tcp->source;
			parser->at.dst_port = tcp->dest;
			parser->packet.tcp_flags = ((__u8 *)tcp)[13];
			parser->packet.transport = tcp->doff * 4;
			return;
		}
	}
	if (parser->at.offset + sizeof(port_scratch) > parser->at.end) {
		parser->packet.notes |= FM_NOTE_CUT_TRANSPORT;
		return;
	}
	ports = fm_header(skb, parser->at.offset, port_scratch, sizeof(port_scratch));
	if (!ports) {
		parser->packet.notes |= FM_NOTE_CUT_TRANSPORT;
		return;
	}
	parser->at.src_port = ports[0];
	parser->at.dst_port = ports[1];
	if (parser->at.protocol == IPPROTO_TCP) {
		parser->packet.notes |= FM_NOTE_CUT_TRANSPORT;
		return;
	}
	parser->packet.transport = parser->at.protocol == IPPROTO_SCTP ? 12 : 8;
	if (parser->at.protocol == IPPROTO_SCTP)
		fm_parse_sctp(skb, parser);
}

FM_GLOBAL int fm_parse_ports(struct __sk_buff *skb, struct fm_parser *parser)
{
	if (!parser)
		return 0;
	parser->packet.l4 = parser->at.offset;
	parser->packet.l4_octets =
		parser->at.end > parser->at.offset ? parser->at.end - parser->at.offset : 0;
	switch (parser->at.protocol) {
	case IPPROTO_TCP:
	case IPPROTO_UDP:
	case IPPROTO_UDPLITE:
	case IPPROTO_SCTP:
	case IPPROTO_DCCP:
		fm_parse_transport(skb, parser);
		break;
	case IPPROTO_ICMP:
		if (parser->packet.key.family == 4)
			fm_parse_icmp(skb, parser, 4);
		break;
	case IPPROTO_ICMPV6:
		if (parser->packet.key.family == 6)
			fm_parse_icmp(skb, parser, 6);
		break;
	}
	return 0;
}

/*
 * Ports of a fragment: the first fragment leaves its ports under (addresses, id) for the later
 * ones, which have no transport header. IPv4 tells packets apart by protocol as well (RFC 791); in
 * IPv6 only the first fragment knows the transport, where extension headers follow the fragment
 * header (RFC 8200 4.5).
 */
FM_GLOBAL int fm_parse_fragment(struct __sk_buff *skb, struct fm_parser *parser)
{
	struct fm_fragment_key key = {};
	struct fm_fragment *known, first = {};

	if (!parser)
		return 0;
	key.src[0] = parser->at.src[0];
	key.src[1] = parser->at.src[1];
	key.dst[0] = parser->at.dst[0];
	key.dst[1] = parser->at.dst[1];
	key.id = parser->at.fragment_id;
	if (fm_ro.tunnel != FM_TUNNEL_KEY_OUTER) {
		key.tunnel_type = parser->tunnel.type;
		key.tunnel_id = parser->tunnel.id[0];
	}
	if (parser->packet.key.family == 4)
		key.protocol = parser->at.protocol;
	if (parser->at.fragment_offset == 0) {
		fm_parse_ports(skb, parser);
		if (!parser->at.more_fragments)
			return 0;
		first.seen_ns = bpf_ktime_get_ns();
		first.src_port = parser->at.src_port;
		first.dst_port = parser->at.dst_port;
		first.protocol = parser->at.protocol;
		bpf_map_update_elem(&fm_fragments, &key, &first, BPF_ANY);
		return 0;
	}
	known = bpf_map_lookup_elem(&fm_fragments, &key);
	if (!known || bpf_ktime_get_ns() - known->seen_ns > FM_FRAGMENT_LIFETIME_NS) {
		parser->packet.notes |= FM_NOTE_ORPHAN;
		return 0;
	}
	parser->at.src_port = known->src_port;
	parser->at.dst_port = known->dst_port;
	parser->at.protocol = known->protocol;
	return 0;
}

/* Puts the endpoints in order: smaller (address, port) first. */
static __always_inline void fm_key_set4(struct fm_parser *parser)
{
	struct fm_key *key = &parser->packet.key;
	__u16 src_port = parser->at.src_port, dst_port = parser->at.dst_port;
	__u32 src = parser->at.src[0], dst = parser->at.dst[0];
	__u32 d = src > dst || (src == dst && src_port > dst_port);

	parser->packet.direction = d;
	*(__u32 *)&key->addr[0][8] = bpf_htonl(0xffff);
	*(__u32 *)&key->addr[1][8] = bpf_htonl(0xffff);
	*(__u32 *)&key->addr[0][12] = d ? dst : src;
	*(__u32 *)&key->addr[1][12] = d ? src : dst;
	key->port[0] = d ? dst_port : src_port;
	key->port[1] = d ? src_port : dst_port;
	key->protocol = parser->at.protocol;
}

static __always_inline void fm_key_set6(struct fm_parser *parser)
{
	struct fm_key *key = &parser->packet.key;
	__u64 *lo = (__u64 *)key->addr[0], *hi = (__u64 *)key->addr[1];
	const __u64 *src = parser->at.src, *dst = parser->at.dst;
	__u16 src_port = parser->at.src_port, dst_port = parser->at.dst_port;
	__u32 d;

	if (src[0] != dst[0])
		d = src[0] > dst[0];
	else if (src[1] != dst[1])
		d = src[1] > dst[1];
	else
		d = src_port > dst_port;
	parser->packet.direction = d;
	lo[0] = d ? dst[0] : src[0];
	lo[1] = d ? dst[1] : src[1];
	hi[0] = d ? src[0] : dst[0];
	hi[1] = d ? src[1] : dst[1];
	key->port[0] = d ? dst_port : src_port;
	key->port[1] = d ? src_port : dst_port;
	key->protocol = parser->at.protocol;
}

static __always_inline enum fm_verdict fm_parse_ip4(struct __sk_buff *skb, struct fm_parser *parser)
{
	struct iphdr *ip = fm_header(skb, parser->at.l3, &parser->scratch, sizeof(*ip));
	__u32 header, total;
	__u16 flags;

	if (!ip || ip->version != 4 || ip->ihl < 5)
		return FM_MALFORMED;
	header = ip->ihl * 4;
	total = bpf_ntohs(ip->tot_len);
	/*
	 * A super-packet has no padding. 0 is what BIG TCP says beyond 65535 and what captures of
	 * segmentation offload hold: all that is there.
	 */
	if (skb->gso_size || !total)
		total = parser->packet.l3_octets;
	if (total < header || parser->packet.l3_octets < header)
		return FM_MALFORMED;
	if (total > parser->packet.l3_octets) {
		parser->packet.notes |= FM_NOTE_CUT_PAYLOAD;
		total = parser->packet.l3_octets;
	}
	parser->packet.octets = total;
	parser->packet.ip_id = bpf_ntohs(ip->id);
	parser->packet.ttl = ip->ttl;
	parser->packet.tos = ip->tos;
	parser->packet.key.family = 4;
	parser->at.src[0] = ip->saddr;
	parser->at.dst[0] = ip->daddr;
	parser->at.protocol = ip->protocol;
	parser->at.offset = parser->at.l3 + header;
	parser->at.end = parser->at.l3 + total;
	flags = bpf_ntohs(ip->frag_off);
	if (flags & FM_IP_DF)
		parser->packet.fragment_flags |= FM_FRAGMENT_DF;
	if (flags & (FM_IP_MF | FM_IP_OFFSET)) {
		parser->at.more_fragments = !!(flags & FM_IP_MF);
		if (parser->at.more_fragments)
			parser->packet.fragment_flags |= FM_FRAGMENT_MF;
		parser->at.fragment_offset = flags & FM_IP_OFFSET;
		parser->at.fragment_id = ip->id;
		fm_parse_fragment(skb, parser);
	} else {
		fm_parse_ports(skb, parser);
	}
	fm_key_set4(parser);
	return FM_PARSED;
}

/* Octets of an extension header, 0: not one that can be skipped. */
static __always_inline __u32 fm_ext_length(__u8 protocol, __u8 length)
{
	switch (protocol) {
	case IPPROTO_HOPOPTS:
	case IPPROTO_ROUTING:
	case IPPROTO_DSTOPTS:
	case 135: /* mobility, RFC 6275 */
	case 139: /* HIP, RFC 7401 */
	case 140: /* shim6, RFC 5533 */
		return (length + 1) * 8;
	case IPPROTO_FRAGMENT:
		return 8;
	case IPPROTO_AH: /* RFC 4302 2.2 */
		return (length + 2) * 4;
	}
	return 0;
}

/* Follows extension headers up to the transport or a later fragment's payload. */
FM_GLOBAL int fm_parse_ext(struct __sk_buff *skb, struct fm_parser *parser)
{
	if (!parser)
		return 0;
	for (int i = 0; i < FM_MAX_EXT_HEADERS; i++) {
		__u8 scratch[8], *ext;
		__u32 length;
		__u16 field;

		if (!fm_ext_length(parser->at.protocol, 0))
			return 0;
		if (parser->at.offset + sizeof(scratch) > parser->at.end) {
			parser->packet.notes |= FM_NOTE_CUT_TRANSPORT;
			return 0;
		}
		ext = fm_header(skb, parser->at.offset, scratch, sizeof(scratch));
		if (!ext) {
			parser->packet.notes |= FM_NOTE_CUT_TRANSPORT;
			return 0;
		}
		length = fm_ext_length(parser->at.protocol, ext[1]);
		/*
		 * BIG TCP: the stack's own marker for lengths beyond 16 bits, a hop-by-hop header
		 * with nothing but a jumbo payload option; segments do not carry it.
		 */
		if (i == 0 && skb->gso_size && parser->at.protocol == IPPROTO_HOPOPTS &&
		    ext[0] == IPPROTO_TCP && ext[1] == 0 && ext[2] == FM_OPTION_JUMBO) {
			parser->packet.octets -= length;
			parser->at.l3 += length;
		}
		if (parser->at.protocol == IPPROTO_FRAGMENT) {
			field = ext[2] << 8 | ext[3];
			parser->at.fragmented = 1;
			parser->at.more_fragments = field & 1;
			parser->at.fragment_offset = field >> 3;
			parser->at.fragment_id = *(__u32 *)(ext + 4);
			if (parser->at.more_fragments)
				parser->packet.fragment_flags |= FM_FRAGMENT_MF;
		}
		parser->at.protocol = ext[0];
		parser->at.offset += length;
		if (parser->at.fragment_offset)
			return 0;
	}
	if (fm_ext_length(parser->at.protocol, 0))
		parser->packet.notes |= FM_NOTE_DEEP_HEADERS;
	return 0;
}

static __always_inline enum fm_verdict fm_parse_ip6(struct __sk_buff *skb, struct fm_parser *parser)
{
	struct ipv6hdr *ip = fm_header(skb, parser->at.l3, &parser->scratch, sizeof(*ip));
	__u32 total;

	if (!ip || ip->version != 6 || parser->packet.l3_octets < sizeof(*ip))
		return FM_MALFORMED;
	total = bpf_ntohs(ip->payload_len) + sizeof(*ip);
	/* A jumbogram says 0 and has a hop-by-hop header (RFC 2675), so does BIG TCP. */
	if (skb->gso_size || (!ip->payload_len && ip->nexthdr == IPPROTO_HOPOPTS))
		total = parser->packet.l3_octets;
	if (total > parser->packet.l3_octets) {
		parser->packet.notes |= FM_NOTE_CUT_PAYLOAD;
		total = parser->packet.l3_octets;
	}
	parser->packet.octets = total;
	parser->packet.ttl = ip->hop_limit;
	parser->packet.tos = ip->priority << 4 | ip->flow_lbl[0] >> 4;
	parser->packet.flow_label =
		(__u32)(ip->flow_lbl[0] & 15) << 16 | ip->flow_lbl[1] << 8 | ip->flow_lbl[2];
	parser->packet.key.family = 6;
	__builtin_memcpy(parser->at.src, &ip->saddr, 16);
	__builtin_memcpy(parser->at.dst, &ip->daddr, 16);
	parser->at.protocol = ip->nexthdr;
	parser->at.offset = parser->at.l3 + sizeof(*ip);
	parser->at.end = parser->at.l3 + total;
	if (fm_ext_length(parser->at.protocol, 0))
		fm_parse_ext(skb, parser);
	if (parser->at.fragmented && (parser->at.fragment_offset || parser->at.more_fragments))
		fm_parse_fragment(skb, parser);
	else if (!(parser->packet.notes & FM_NOTE_CUT_TRANSPORT))
		fm_parse_ports(skb, parser);
	fm_key_set6(parser);
	return FM_PARSED;
}

/* A length in 16 bits; jumbograms can be longer. */
static __always_inline __u16 fm_length16(__u32 octets)
{
	return octets < 0xffff ? octets : 0xffff;
}

/* The IP packet at l3, of l3_octets: key, measures and, where at stands, what follows. */
FM_GLOBAL int fm_parse_ip(struct __sk_buff *skb, struct fm_parser *parser)
{
	if (!parser)
		return FM_NOT_IP;
	parser->packet.octets = parser->packet.l3_octets;
	if (parser->at.type == ETH_P_IP)
		return fm_parse_ip4(skb, parser);
	if (parser->at.type == ETH_P_IPV6)
		return fm_parse_ip6(skb, parser);
	return FM_NOT_IP;
}

#include "tunnel.bpf.h"
#include "segments.bpf.h"

/*
 * A packet is parsed in three steps, which the programs call one by one: each call deeper adds a
 * frame, and Linux allows 512 octets for all of them (tests/check/stack.py).
 *
 * First, up to the IP header. layer3: the device has no link-layer header.
 */
FM_GLOBAL int fm_parse_begin(struct __sk_buff *skb, struct fm_parser *parser, int layer3)
{
	if (!parser)
		return 0;
	parser->at.type = bpf_ntohs(fm_parse_link(skb, parser, layer3));
	if (fm_is_shim(parser->at.type))
		fm_parse_shim(skb, parser);
	parser->at.l3 = parser->at.offset;
	parser->packet.packets = 1;
	parser->packet.l3_octets = skb->len > parser->at.l3 ? skb->len - parser->at.l3 : 0;
	return 0;
}

/* Last, behind fm_parse_ip(): what is in a tunnel, and the packets of a segmented one. */
FM_GLOBAL int fm_parse_rest(struct __sk_buff *skb, struct fm_parser *parser)
{
	if (!parser)
		return 0;
	if (fm_ro.tunnel != FM_TUNNEL_KEY_OUTER && fm_is_tunnel(parser))
		fm_parse_tunnels(skb, parser);
	parser->packet.min_length = fm_length16(parser->packet.octets);
	parser->packet.max_length = parser->packet.min_length;
	if (skb->gso_size)
		fm_parse_segments(skb, parser);
	return 0;
}

#endif
