/* SPDX-License-Identifier: Apache-2.0 */
/* The kernel half in user space: see kernel.h. */
#include "kernel.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* Constants to the verifier, variables here: in place of rodata.bpf.h. */
#define FM_RODATA_BPF_H
static volatile struct fm_rodata fm_ro;
static struct fm_live fm_live;

/* The packet that is before the hook: addresses do not fit into the members of the context. */
static const uint8_t *packet_data;
static size_t packet_length, packet_linear;
#define packet_member_data     ((void *)packet_data)
#define packet_member_data_end ((void *)(packet_data + packet_linear))
/* 32-bit values through an address, as the pointer casts of the real one want them. */
#define packet_member_ingress_ifindex  (skb->ingress_ifindex)
#define packet_member_tc_index	       (skb->tc_index)
#define FM_SKB_LOAD(skb, member, type) ((type)packet_member_##member)

/*
 * What is said in BPF's assembler repeats a bound for an old verifier and changes no value: it is
 * left out. (No other use of either word is followed by a parenthesis.)
 */
#define asm
#define volatile(...)

#pragma clang diagnostic ignored "-Wmissing-prototypes"
#pragma clang diagnostic ignored "-Wstrict-prototypes"
#pragma clang diagnostic ignored "-Wmissing-variable-declarations"
#pragma clang diagnostic ignored "-Wsign-compare"

#include "bpf/flowmond.bpf.c"

#undef asm
#undef volatile

#define CELLS	  64
#define FRAGMENTS 64
#define SLOTS	  FM_ALL_SLOTS(KERNEL_HOMES)
#define BLOCKS	  ((SLOTS + FM_BLOCK_SLOTS - 1) >> FM_BLOCK_SHIFT)
#define ELEMENTS  (SLOTS + (BLOCKS + FM_MARKS_PER_SLOT - 1) / FM_MARKS_PER_SLOT)

static struct fm_slot slots[ELEMENTS];
static struct fm_tcp_slot tcp_slots[SLOTS];
static struct fm_tunnel tunnels[SLOTS];
static struct fm_tcp_cell cells[CELLS];
static struct fm_counters counters[_FM_HOOK_MAX];
static struct fm_aggregate_work votes;
static struct fm_parser parser;
static struct fm_tcp_work tcp_work;
/* Every other address is in a prefix, or has a number. */
static struct fm_prefix_value prefixes[2] = {{{~0ULL, 0}, 0, 64, {0}}, {{0, 0}, 64500, 0, {0}}};
static struct fm_overflow overflow_event;
static bool ring_has_room;
static __u32 seen_ifindex, seen_flags = FM_SEEN_YES;
static __u64 now_ns;

static struct {
	struct fm_fragment_key key;
	struct fm_fragment value;
} fragments[FRAGMENTS];
static size_t n_fragments;

/* Arrays, as the kernel has them: no element beyond. Regions are their own inner maps. */
static const struct {
	void *map, *memory;
	size_t n, size;
} arrays[] = {
	{&fm_counters, counters, _FM_HOOK_MAX, sizeof(counters[0])},
	{slots, slots, ELEMENTS, sizeof(slots[0])},
	{tcp_slots, tcp_slots, SLOTS, sizeof(tcp_slots[0])},
	{tunnels, tunnels, SLOTS, sizeof(tunnels[0])},
	{&fm_cells, cells, CELLS, sizeof(cells[0])},
	{&fm_scratch, &parser, 1, sizeof(parser)},
	{&fm_tcp_scratch, &tcp_work, 1, sizeof(tcp_work)},
	{&fm_votes, &votes, 1, sizeof(votes)},
	{&fm_table, slots, 1, 0},
	{&fm_tcp_table, tcp_slots, 1, 0},
	{&fm_tunnel_table, tunnels, 1, 0},
};

void *bpf_map_lookup_elem(void *map, const void *key)
{
	__u32 index;

	if (map == &fm_fragments) {
		for (size_t i = 0; i < n_fragments; i++)
			if (!memcmp(&fragments[i].key, key, sizeof(fragments[i].key)))
				return &fragments[i].value;
		return NULL;
	}
	if (map == &fm_prefixes) {
		index = ((const struct fm_filter_net *)key)->addr[15] % 4;
		return index < 2 ? &prefixes[index] : NULL;
	}
	memcpy(&index, key, sizeof(index));
	if (map == &fm_ifaces)
		return seen_ifindex && index == seen_ifindex ? &seen_flags : NULL;
	for (size_t i = 0; i < sizeof(arrays) / sizeof(arrays[0]); i++)
		if (arrays[i].map == map)
			return index < arrays[i].n
				       ? (char *)arrays[i].memory + index * arrays[i].size
				       : NULL;
	abort();
}

long bpf_map_update_elem(void *map, const void *key, const void *value, __u64 flags)
{
	struct fm_fragment *known = bpf_map_lookup_elem(map, key);

	if (map != &fm_fragments)
		abort();
	if (!known) {
		if (n_fragments == FRAGMENTS)
			return -E2BIG;
		memcpy(&fragments[n_fragments].key, key, sizeof(fragments[0].key));
		known = &fragments[n_fragments++].value;
	}
	memcpy(known, value, sizeof(*known));
	return 0;
}

long bpf_skb_load_bytes(const struct __sk_buff *skb, __u32 offset, void *to, __u32 length)
{
	if (offset > packet_length || length > packet_length - offset) {
		memset(to, 0, length);
		return -EFAULT;
	}
	memcpy(to, packet_data + offset, length);
	return 0;
}

/* Time goes on by what a packet may take. */
__u64 bpf_ktime_get_ns(void)
{
	return now_ns += 100000;
}

__u64 bpf_jiffies64(void)
{
	return now_ns / 4000000;
}

__u32 bpf_get_smp_processor_id(void)
{
	return 0;
}

/* Of samplers: there are no rules here. */
__u32 bpf_get_prandom_u32(void)
{
	abort();
}

__u64 bpf_ringbuf_query(void *ring, __u64 flags)
{
	return ring_has_room ? 0 : FM_OVERFLOW_OCTETS;
}

void *bpf_ringbuf_reserve(void *ring, __u64 size, __u64 flags)
{
	if (size != sizeof(overflow_event))
		abort();
	return ring_has_room ? &overflow_event : NULL;
}

void bpf_ringbuf_submit(void *data, __u64 flags)
{
}

struct bpf_sock *bpf_sk_fullsock(struct bpf_sock *sk)
{
	return NULL;
}

struct bpf_tcp_sock *bpf_tcp_sock(struct bpf_sock *sk)
{
	return NULL;
}

void kernel_load(const struct fm_rodata *options)
{
	fm_ro = *options;
	fm_ro.homes = KERNEL_HOMES;
	fm_ro.tcp_cells = CELLS - FM_CELL_PROBES + 1;
	fm_live = (struct fm_live){.idle_ticks = 15 * 250, .linger_ticks = 5 * 250};
	kernel_reset();
	memset(cells, 0, sizeof(cells));
	memset(&votes, 0, sizeof(votes));
	n_fragments = 0;
}

void kernel_reset(void)
{
	memset(slots, 0, sizeof(slots));
	memset(tcp_slots, 0, sizeof(tcp_slots));
	memset(tunnels, 0, sizeof(tunnels));
	memset(counters, 0, sizeof(counters));
}

void kernel_set_seen(uint32_t ifindex, bool seen)
{
	seen_ifindex = seen ? ifindex : 0;
	fm_live.seen[FM_SEEN_CELL(ifindex)] = seen ? FM_SEEN_SHARED : 0;
}

void kernel_set_ring(bool room)
{
	ring_has_room = room;
}

void kernel_run(const struct kernel_packet *packet)
{
	struct __sk_buff skb = {
		.len = (__u32)packet->length,
		.protocol = bpf_htons(packet->type),
		.vlan_present = packet->tagged,
		.vlan_tci = packet->tci,
		.ifindex = packet->ifindex,
		.ingress_ifindex = packet->ingress_ifindex,
		.gso_size = packet->gso_size,
		.gso_segs = packet->gso_segs,
	};
	int answer;

	packet_data = packet->data;
	packet_length = packet->length;
	packet_linear = packet->linear;
	if (packet->hook == FM_HOOK_INGRESS)
		answer = packet->layer3 ? fm_in_l3(&skb) : fm_in_l2(&skb);
	else
		answer = packet->layer3 ? fm_out_l3(&skb) : fm_out_l2(&skb);
	if (answer != TC_ACT_UNSPEC)
		abort();
}

/* --- what compare.h asks of a harness --- */

struct harness;

enum {
	CLASS_SEEN,
	CLASS_AGAIN,
	CLASS_AGGREGATED,
	CLASS_IGNORED,
	CLASS_FILTERED,
	CLASS_LOST,
	CLASS_NOTE,
};

static const struct {
	const char *name;
	int class;
} counter_rows[] = {
#define FM_COUNTER(name, class, help) {#name, CLASS_##class},
#include "bpf/counters.def"
#undef FM_COUNTER
};

size_t harness_slots(const struct harness *h, struct fm_slot **ret_first)
{
	size_t n = 0;

	*ret_first = NULL;
	for (size_t i = 0; i < SLOTS; i++)
		if (slots[i].tag >= FM_TAG_LIVE && n++ == 0)
			*ret_first = &slots[i];
	return n;
}

const struct fm_tunnel *harness_tunnel(const struct harness *h, const struct fm_slot *slot)
{
	return fm_ro.tunnel == FM_TUNNEL_KEY_OUTER ? NULL : &tunnels[slot - slots];
}

struct fm_count harness_count(const struct harness *h, enum fm_counter which)
{
	struct fm_count count = {};

	for (size_t i = 0; i < _FM_HOOK_MAX; i++) {
		count.packets += counters[i].count[which].packets;
		count.octets += counters[i].count[which].octets;
	}
	return count;
}

void harness_forget_fragments(struct harness *h)
{
	n_fragments = 0;
}

bool harness_identity(const struct harness *h)
{
	struct fm_count sum = {};

	for (unsigned int i = 0; i < _FM_COUNTER_MAX; i++) {
		struct fm_count count = harness_count(h, i);
		bool seen = counter_rows[i].class == CLASS_SEEN;

		if (counter_rows[i].class == CLASS_NOTE)
			continue;
		sum.packets += seen ? count.packets : -count.packets;
		sum.octets += seen ? count.octets : -count.octets;
	}
	for (size_t i = 0; i < SLOTS; i++)
		for (unsigned int d = 0; d < 2 && slots[i].tag >= FM_TAG_LIVE; d++) {
			sum.packets -= slots[i].half[d].packets;
			sum.octets -= slots[i].half[d].octets;
		}
	return !sum.packets && !sum.octets;
}
