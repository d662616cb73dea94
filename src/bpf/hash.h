/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * Hash of a flow key, the same in the kernel and in the daemon: multilinear (pairs of 32-bit words,
 * each plus a random 64-bit seed, multiplied and added modulo 2^64) and mixed, so that nobody who
 * does not know the seeds can aim flows at one home.
 */
#ifndef FM_HASH_H
#define FM_HASH_H

#include "abi.h"

#ifndef __always_inline
#define __always_inline inline __attribute__((always_inline))
#endif

#define FM_HASH_PAIR(a, b, i) (((__u64)(a) + seed[i]) * ((__u64)(b) + seed[(i) + 1]))

/* The 32-bit word of the key at octet offset; the key is aligned to 4. */
static __always_inline __u32 fm_key_word(const struct fm_key *key, unsigned int offset)
{
	return *(const __u32 *)((const char *)key + offset);
}

/*
 * Keys in a row (ports counted up) have multilinear hashes in a row as well, which for one seed in
 * a hundred falls into few homes. This bijection leaves no rows.
 */
static __always_inline __u64 fm_hash_mix(__u64 h)
{
	h ^= h >> 32;
	h *= 0xff51afd7ed558ccdULL;
	return h ^ h >> 32;
}

/* Seeds: FM_SEEDS of them. */
static __always_inline __u64 fm_hash(const struct fm_key *key, const volatile __u64 *seed)
{
	/* ports; protocol, family, tos, tunnel type */
	__u64 h = FM_HASH_PAIR(fm_key_word(key, 32), fm_key_word(key, 36), 0);

	h += FM_HASH_PAIR(fm_key_word(key, 12), fm_key_word(key, 28), 2);
	if (key->family != 4) {
		h += FM_HASH_PAIR(fm_key_word(key, 0), fm_key_word(key, 4), 4);
		h += FM_HASH_PAIR(fm_key_word(key, 8), fm_key_word(key, 16), 6);
		h += FM_HASH_PAIR(fm_key_word(key, 20), fm_key_word(key, 24), 8);
	}
	if (fm_key_word(key, 40) | key->tunnel_id | key->ifindex) {
		h += FM_HASH_PAIR(fm_key_word(key, 40), key->tunnel_id, 10);
		h += FM_HASH_PAIR(key->ifindex, 0, 12);
	}
	return fm_hash_mix(h);
}

/* Home of a hash: 0..homes-1, monotone in the hash. */
static __always_inline __u32 fm_hash_home(__u64 hash, __u32 homes)
{
	return ((hash >> 32) * homes) >> 32;
}

/* Home of a key in a region with so many homes of conversations. */
static __always_inline __u32 fm_key_home(const struct fm_key *key, __u64 hash, __u32 homes)
{
	__u32 aggregates = FM_AGGREGATES(homes);

	switch (FM_KEY_AGGREGATE_OF(key)) {
	case FM_AGGREGATE_NONE:
		return fm_hash_home(hash, homes);
	case FM_AGGREGATE_FAMILY:
		return aggregates + (FM_KEY_FAMILY_OF(key) == 4 ? 0 : FM_AGGREGATE_PROBES);
	case FM_AGGREGATE_PROTOCOL:
		return aggregates + FM_FAMILY_HOMES + fm_hash_home(hash, FM_PROTOCOL_HOMES);
	}
	return aggregates + FM_FAMILY_HOMES + FM_PROTOCOL_HOMES +
	       fm_hash_home(hash, FM_ENDPOINT_HOMES);
}

/* Tag of a live slot. */
static __always_inline __u32 fm_hash_tag(__u64 hash)
{
	return ((__u32)hash ^ (__u32)(hash >> 32)) | FM_TAG_LIVE;
}

#endif
