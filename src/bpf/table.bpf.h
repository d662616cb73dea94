/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * The flow tables: one region a CPU, open addressing, plain stores. Finding and creating a slot is
 * written here once. Called by flowmond.bpf.c with softirqs off: nothing else writes the region of
 * this CPU but the daemon, and that only the tag of slots it takes out.
 */
#ifndef FM_TABLE_BPF_H
#define FM_TABLE_BPF_H

#include <linux/bpf.h>
#include <bpf/bpf_helpers.h>

#include "abi.h"
#include "hash.h"

#define FM_READ_ONCE(x) (*(const volatile typeof(x) *)&(x))
#define FM_NO_POSITION	0xffffffffu
#define FM_PROBES_NEAR	8

/* Makes the compiler describe the slot in BTF, which the inner map's definition alone does not. */
const struct fm_slot *fm_slot_described __attribute__((unused));

/* Sizes are set before loading: the outer map by possible CPUs, the inner by flows.max. */
struct fm_region_map {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(map_flags, BPF_F_MMAPABLE);
	__uint(max_entries, FM_PROBES);
	__type(key, __u32);
	__type(value, struct fm_slot);
};

struct {
	__uint(type, BPF_MAP_TYPE_ARRAY_OF_MAPS);
	__uint(max_entries, 1);
	__type(key, __u32);
	__array(values, struct fm_region_map);
} fm_table SEC(".maps");

/*
 * What only some configurations have of a conversation lies beside its slot, at the same position
 * of a region of its own, one a CPU as well: the rows of tcp.def, and the tunnel.
 */
#define FM_BESIDE(name, struct_type)                                                               \
	const struct struct_type *name##_described __attribute__((unused));                        \
	struct name##_region_map {                                                                 \
		__uint(type, BPF_MAP_TYPE_ARRAY);                                                  \
		__uint(map_flags, BPF_F_MMAPABLE);                                                 \
		__uint(max_entries, 1);                                                            \
		__type(key, __u32);                                                                \
		__type(value, struct struct_type);                                                 \
	};                                                                                         \
	struct {                                                                                   \
		__uint(type, BPF_MAP_TYPE_ARRAY_OF_MAPS);                                          \
		__uint(max_entries, 1);                                                            \
		__type(key, __u32);                                                                \
		__array(values, struct name##_region_map);                                         \
	} name SEC(".maps")

FM_BESIDE(fm_tcp_table, fm_tcp_slot);
FM_BESIDE(fm_tunnel_table, fm_tunnel);

/* This CPU's element at a position of one of them; NULL: it has none. */
static __always_inline void *fm_beside(void *table, __u32 position)
{
	__u32 cpu = bpf_get_smp_processor_id();
	void *region = bpf_map_lookup_elem(table, &cpu);

	return region ? bpf_map_lookup_elem(region, &position) : NULL;
}

static __always_inline int fm_key_equal(const struct fm_key *a, const struct fm_key *b)
{
	const __u64 *x = (const __u64 *)a, *y = (const __u64 *)b;

	return !((x[0] ^ y[0]) | (x[1] ^ y[1]) | (x[2] ^ y[2]) | (x[3] ^ y[3]) | (x[4] ^ y[4]) |
		 (x[5] ^ y[5])) &&
	       a->ifindex == b->ifindex;
}

/*
 * The live slot of a key at its home or little behind it, where most are, and its position; NULL:
 * not there.
 */
static __always_inline struct fm_slot *fm_table_near(void *region, const struct fm_key *key,
						     __u64 hash, __u32 homes, __u32 *ret_position)
{
	__u32 position = fm_hash_home(hash, homes), tag = fm_hash_tag(hash);

	for (int i = 0; i < FM_PROBES_NEAR; i++, position++) {
		struct fm_slot *slot = bpf_map_lookup_elem(region, &position);
		__u32 seen;

		if (!slot)
			return NULL;
		seen = FM_READ_ONCE(slot->tag);
		*ret_position = position;
		if (seen == tag)
			return fm_key_equal(&slot->key, key) ? slot : NULL;
		if (seen == FM_TAG_FREE)
			return NULL;
	}
	return NULL;
}

/*
 * The live slot of a key and its position, or NULL and the position where it may be created
 * (FM_NO_POSITION: none within so many probes of its home).
 */
static __always_inline struct fm_slot *fm_table_probe(void *region, const struct fm_key *key,
						      __u64 hash, __u32 home, int probes,
						      __u32 *ret_position)
{
	__u32 position = home, tag = fm_hash_tag(hash);
	__u32 free = FM_NO_POSITION;

	for (int i = 0; i < probes; i++, position++) {
		struct fm_slot *slot = bpf_map_lookup_elem(region, &position);
		__u32 seen;

		if (!slot)
			break;
		seen = FM_READ_ONCE(slot->tag);
		if (seen == tag && fm_key_equal(&slot->key, key)) {
			*ret_position = position;
			return slot;
		}
		if (seen == FM_TAG_FREE) {
			if (free == FM_NO_POSITION)
				free = position;
			break;
		}
		if (seen == FM_TAG_TOMBSTONE && free == FM_NO_POSITION)
			free = position;
	}
	*ret_position = free;
	return NULL;
}

/* The same of a conversation. */
static __always_inline struct fm_slot *fm_table_find(void *region, const struct fm_key *key,
						     __u64 hash, __u32 homes, __u32 *ret_position)
{
	return fm_table_probe(region, key, hash, fm_hash_home(hash, homes), FM_PROBES,
			      ret_position);
}

/* Says that the daemon is to look at the block of a slot: what it should see was published. */
static __always_inline void fm_table_mark(void *region, __u32 position, __u32 homes)
{
	__u32 block = position >> FM_BLOCK_SHIFT;
	__u32 element = FM_ALL_SLOTS(homes) + block / FM_MARKS_PER_SLOT;
	__u8 *marks = bpf_map_lookup_elem(region, &element);

	if (marks)
		*(volatile __u8 *)&marks[block & (FM_MARKS_PER_SLOT - 1)] = 1;
}

/*
 * When the daemon should next look at a slot. It passes over blocks until the first of their slots
 * is due, so it has to be told of one that is due sooner than it was. The exchange publishes that.
 */
static __always_inline void fm_table_set_due(void *region, struct fm_slot *slot, __u32 position,
					     __u32 homes, __u32 due_tick)
{
	if ((__s32)(due_tick - slot->due_tick) >= 0) {
		slot->due_tick = due_tick;
		return;
	}
	__sync_lock_test_and_set(&slot->due_tick, due_tick);
	fm_table_mark(region, position, homes);
}

/*
 * Claims the free slot or tombstone at position. The daemon may turn a tombstone into a free slot
 * meanwhile; either way it is this program's until the tag says live. The exchange publishes what
 * was written before it.
 */
static __always_inline struct fm_slot *fm_table_create(void *region, __u32 position,
						       const struct fm_key *key, __u64 hash,
						       __u32 homes, __u32 now_tick)
{
	struct fm_slot *slot = bpf_map_lookup_elem(region, &position);

	if (!slot)
		return NULL;
	__builtin_memcpy(&slot->key, key, sizeof(*key));
	__builtin_memset(slot->half, 0, sizeof(slot->half));
	slot->mark_tick = now_tick;
	slot->due_tick = now_tick;
	__sync_lock_test_and_set(&slot->tag, fm_hash_tag(hash));
	fm_table_mark(region, position, homes);
	return slot;
}

#endif
