/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * Coarser keys (enum fm_coarse): without ports, with prefixes or numbers in place of addresses.
 * Called by flowmond.bpf.c, for each packet that is counted where fm_ro.coarse says so.
 */
#ifndef FM_COARSE_BPF_H
#define FM_COARSE_BPF_H

#include "filter.bpf.h"
#include "parse.bpf.h"

/* As fm_slot_described in table.bpf.h. */
const struct fm_prefix_value *fm_prefix_value_described __attribute__((unused));

/* Replaced before loading. */
struct {
	__uint(type, BPF_MAP_TYPE_LPM_TRIE);
	__uint(map_flags, BPF_F_NO_PREALLOC);
	__uint(max_entries, FM_FILTER_NETS);
	__type(key, struct fm_filter_net);
	__type(value, struct fm_prefix_value);
} fm_prefixes SEC(".maps");

/* The address of a side becomes its prefix, of this length, or a number. */
static __always_inline void fm_coarse_address(struct fm_key *key, __u32 side, __u64 high, __u64 low,
					      __u32 number, __u32 length)
{
	__u64 *address = (__u64 *)key->addr[side & 1];

	if (number) {
		address[0] = 0;
		*(__u32 *)&key->addr[side & 1][8] = key->family == 4 ? bpf_htonl(0xffff) : 0;
		*(__u32 *)&key->addr[side & 1][12] = bpf_htonl(number);
		length = FM_SIDE_NUMBER;
	} else {
		address[0] &= high;
		address[1] &= low;
	}
	if (fm_ro.coarse & FM_COARSE_PORTS)
		key->port[side & 1] = bpf_htons(length);
	else if (key->family == 4)
		key->addr[side & 1][FM_LENGTH_AT(4)] = length;
	else
		key->addr[side & 1][FM_LENGTH_AT(6)] = length;
}

static __always_inline void fm_coarse_side(struct fm_key *key, __u32 side, __u32 six)
{
	const struct fm_prefix_value *value = NULL;
	struct fm_filter_net net;

	if (fm_ro.has_prefixes) {
		net.length = 128;
		__builtin_memcpy(net.addr, key->addr[side & 1], sizeof(net.addr));
		value = bpf_map_lookup_elem(&fm_prefixes, &net);
	}
	if (value)
		fm_coarse_address(key, side, value->mask[0], value->mask[1], value->number,
				  value->length);
	else if (six)
		fm_coarse_address(key, side, fm_ro.prefix_mask[1][0], fm_ro.prefix_mask[1][1], 0,
				  fm_ro.prefix_length[1]);
	else
		fm_coarse_address(key, side, fm_ro.prefix_mask[0][0], fm_ro.prefix_mask[0][1], 0,
				  fm_ro.prefix_length[0]);
}

/* Whether the second end point is the smaller one. */
static __always_inline int fm_coarse_turned(const struct fm_key *key)
{
	const __u64 *a = (const __u64 *)key->addr[0], *b = (const __u64 *)key->addr[1];

	if (a[0] != b[0])
		return bpf_be64_to_cpu(a[0]) > bpf_be64_to_cpu(b[0]);
	if (a[1] != b[1])
		return bpf_be64_to_cpu(a[1]) > bpf_be64_to_cpu(b[1]);
	return bpf_ntohs(key->port[0]) > bpf_ntohs(key->port[1]);
}

static __always_inline void fm_coarse_turn(struct fm_key *key)
{
	__u64 *a = (__u64 *)key->addr[0], *b = (__u64 *)key->addr[1], word;
	__u16 port = key->port[0];

	word = a[0];
	a[0] = b[0];
	b[0] = word;
	word = a[1];
	a[1] = b[1];
	b[1] = word;
	key->port[0] = key->port[1];
	key->port[1] = port;
}

/* Makes the key of a packet that was parsed coarser. Verified by itself. */
FM_GLOBAL int fm_coarse_any(struct fm_parser *parser)
{
	struct fm_key *key;
	__u32 six;

	if (!parser)
		return 0;
	key = &parser->packet.key;
	six = key->family != 4;
	/* Of a family whose addresses are not cut, the keys are whole. */
	if (!(fm_ro.coarse & FM_COARSE_PORTS) && fm_ro.prefix_length[six & 1] == (six ? 128 : 32))
		return 0;
	fm_coarse_side(key, 0, six);
	fm_coarse_side(key, 1, six);
	if (fm_ro.coarse & FM_COARSE_PROTOCOL)
		key->protocol = FM_PROTOCOL_ANY;
	key->family |= FM_KEY_COARSE(fm_ro.coarse);
	if (fm_coarse_turned(key)) {
		fm_coarse_turn(key);
		parser->packet.direction ^= 1;
	}
	return 0;
}

#endif
