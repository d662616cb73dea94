/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * The packets that most packets are: TCP or UDP straight behind an IP header without options,
 * whole, in linear memory, no segmentation, no tag in the data. Everything else is left to
 * parse.bpf.h, which would say the same of these. Called by flowmond.bpf.c.
 *
 * All is inlined and no address is taken, so that the packet's members live in registers.
 */
#ifndef FM_FAST_BPF_H
#define FM_FAST_BPF_H

#include "parse.bpf.h"

#define FM_ETH_OCTETS 14
#define FM_IP4_OCTETS 20
#define FM_IP6_OCTETS 40
#define FM_TCP_OCTETS 20
#define FM_UDP_OCTETS 8

/* Two 32-bit words as the 64-bit word that has them in this order in memory. */
static __always_inline __u64 fm_word_of(__u32 first, __u32 second)
{
#if __BYTE_ORDER__ == __ORDER_LITTLE_ENDIAN__
	return first | (__u64)second << 32;
#else
	return second | (__u64)first << 32;
#endif
}

/* a < b without a branch: a packet's direction is not for the branch predictor
 * to know. */
static __always_inline __u64 fm_less(__u64 a, __u64 b)
{
	return ((~a & b) | ((~a | b) & (a - b))) >> 63;
}

/* The ports as they stand in the packet, turned around where d is 1. */
static __always_inline __u32 fm_ports_turn(__u32 ports, __u64 d)
{
	__u32 turn = d << 4;

	return ports << turn | ports >> ((32 - turn) & 31);
}

static __always_inline __u64 fm_ports_less(__u32 ports)
{
#if __BYTE_ORDER__ == __ORDER_LITTLE_ENDIAN__
	return (ports & 0xffff) > ports >> 16;
#else
	return ports >> 16 > (ports & 0xffff);
#endif
}

/*
 * Ports and what the transport alone says; 0: not for here. room: octets that the IP header states
 * behind itself.
 */
static __always_inline int fm_fast_transport(struct fm_packet *packet, void *transport,
					     void *data_end, __u8 protocol, __u32 room,
					     __u32 *ret_ports)
{
	if (protocol == IPPROTO_TCP) {
		if (transport + FM_TCP_OCTETS > data_end || room < FM_TCP_OCTETS)
			return 0;
		packet->tcp_flags = ((__u8 *)transport)[13];
	} else if (protocol == IPPROTO_UDP) {
		if (transport + FM_UDP_OCTETS > data_end || room < FM_UDP_OCTETS)
			return 0;
		if (fm_ro.tcp && transport + FM_UDP_OCTETS + 1 <= data_end)
			packet->first = ((__u8 *)transport)[FM_UDP_OCTETS];
		if (fm_ro.tunnel != FM_TUNNEL_KEY_OUTER &&
		    fm_is_tunnel_port(((struct udphdr *)transport)->dest))
			return 0;
	} else {
		return 0;
	}
	*ret_ports = *(__u32 *)transport;
	return 1;
}

static __always_inline void fm_fast_key(struct fm_packet *packet, __u32 ports, __u8 protocol,
					__u8 family, __u64 d)
{
	/* protocol, family, tos, tunnel type */
	__u32 kind = bpf_htonl((__u32)protocol << 24 | (__u32)family << 16);

	packet->direction = d;
	*(__u64 *)packet->key.port = fm_word_of(fm_ports_turn(ports, d), kind);
}

static __always_inline int fm_fast_ip4(struct fm_packet *packet, void *data, void *data_end,
				       __u32 available, __u32 link)
{
	struct iphdr *ip = data;
	__u32 total, src, dst, swap, ports;
	__u64 d;

	if (data + FM_IP4_OCTETS > data_end || *(__u8 *)data != 0x45 ||
	    (ip->frag_off & bpf_htons(FM_IP_MF | FM_IP_OFFSET)))
		return 0;
	total = bpf_ntohs(ip->tot_len);
	if (total > available || total < FM_IP4_OCTETS ||
	    !fm_fast_transport(packet, data + FM_IP4_OCTETS, data_end, ip->protocol,
			       total - FM_IP4_OCTETS, &ports))
		return 0;
	if (fm_ro.tcp) {
		packet->l4 = link + FM_IP4_OCTETS;
		packet->l4_octets = total - FM_IP4_OCTETS;
		packet->ip_id = bpf_ntohs(ip->id);
	}
	packet->octets = total;
	packet->ttl = ip->ttl;
	packet->tos = ip->tos;
	packet->fragment_flags = ip->frag_off & bpf_htons(FM_IP_DF) ? FM_FRAGMENT_DF : 0;
	src = ip->saddr;
	dst = ip->daddr;
	d = ((__u64)dst - src) >> 63;
	if (src == dst)
		d = fm_ports_less(ports);
	swap = (src ^ dst) & -(__u32)d;
	*(__u64 *)&packet->key.addr[0][8] = fm_word_of(bpf_htonl(0xffff), src ^ swap);
	*(__u64 *)&packet->key.addr[1][8] = fm_word_of(bpf_htonl(0xffff), dst ^ swap);
	fm_fast_key(packet, ports, ip->protocol, 4, d);
	return 1;
}

static __always_inline int fm_fast_ip6(struct fm_packet *packet, void *data, void *data_end,
				       __u32 available, __u32 link)
{
	struct ipv6hdr *ip = data;
	__u64 *lo = (__u64 *)packet->key.addr[0], *hi = (__u64 *)packet->key.addr[1];
	__u64 src[2], dst[2], swap[2], d;
	__u32 total, ports;

	if (data + FM_IP6_OCTETS > data_end || ip->version != 6)
		return 0;
	total = bpf_ntohs(ip->payload_len) + FM_IP6_OCTETS;
	/* Up to 65575 octets, more than the lengths of a flow hold. */
	if (total > available || total > 0xffff ||
	    !fm_fast_transport(packet, data + FM_IP6_OCTETS, data_end, ip->nexthdr,
			       total - FM_IP6_OCTETS, &ports))
		return 0;
	if (fm_ro.tcp) {
		packet->l4 = link + FM_IP6_OCTETS;
		packet->l4_octets = total - FM_IP6_OCTETS;
	}
	packet->octets = total;
	packet->flow_label =
		(__u32)(ip->flow_lbl[0] & 15) << 16 | ip->flow_lbl[1] << 8 | ip->flow_lbl[2];
	packet->ttl = ip->hop_limit;
	packet->tos = ip->priority << 4 | ip->flow_lbl[0] >> 4;
	__builtin_memcpy(src, &ip->saddr, sizeof(src));
	__builtin_memcpy(dst, &ip->daddr, sizeof(dst));
	d = fm_less(dst[0], src[0]);
	if (src[0] == dst[0]) {
		d = fm_less(dst[1], src[1]);
		if (src[1] == dst[1])
			d = fm_ports_less(ports);
	}
	swap[0] = (src[0] ^ dst[0]) & -d;
	swap[1] = (src[1] ^ dst[1]) & -d;
	lo[0] = src[0] ^ swap[0];
	lo[1] = src[1] ^ swap[1];
	hi[0] = dst[0] ^ swap[0];
	hi[1] = dst[1] ^ swap[1];
	fm_fast_key(packet, ports, ip->nexthdr, 6, d);
	return 1;
}

/* 1 and the packet (zeroed before), or 0: parse it the long way. */
static __always_inline int fm_fast_parse(struct __sk_buff *skb, struct fm_packet *packet,
					 int layer3)
{
	void *data = FM_SKB_LOAD(skb, data, void *);
	void *data_end = FM_SKB_LOAD(skb, data_end, void *);
	__u32 link = layer3 ? 0 : FM_ETH_OCTETS, length = skb->len;
	__be16 ethertype;
	int known = 0;

	if (skb->gso_size || length < link)
		return 0;
	if (layer3) {
		ethertype = skb->protocol;
	} else {
		if (data + FM_ETH_OCTETS > data_end)
			return 0;
		ethertype = ((struct ethhdr *)data)->h_proto;
	}
	if (ethertype == bpf_htons(ETH_P_IP))
		known = fm_fast_ip4(packet, data + link, data_end, length - link, link);
	else if (ethertype == bpf_htons(ETH_P_IPV6))
		known = fm_fast_ip6(packet, data + link, data_end, length - link, link);
	if (!known)
		return 0;
	if (skb->vlan_present)
		packet->vlan = skb->vlan_tci & 0xfff;
	packet->packets = 1;
	packet->min_length = packet->octets;
	packet->max_length = packet->octets;
	return 1;
}

#endif
