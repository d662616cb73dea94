/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What maps are made of, told by themselves: a map beside them with their sizes, seeds and key, and
 * the name, offset and size of every member. So a process knows whether they are laid out as its
 * own, and reads others member by member: a name means the same in every version. Used by
 * generation.c for flow tables, by loader.c for what all programs share, by foreign.c.
 */
#ifndef FM_ABOUT_H
#define FM_ABOUT_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "daemon/region.h"

#define FM_ABOUT_ROWS_MAX 512
#define FM_ABOUT_NAME_MAX 40
#define FM_ABOUT_MAPS	  8
#define FM_ABOUT_TAKEN	  16

/* Octets of the map and its elements. */
#define FM_ABOUT_VALUE	  4096
#define FM_ABOUT_ELEMENTS 8

enum fm_about_kind {
	FM_ABOUT_TABLES = 1, /* maps: enum fm_region_map */
	FM_ABOUT_SHARED = 2, /* maps: enum fm_shared_map */
};

enum fm_about_state {
	FM_ABOUT_UNFINISHED, /* not all of its maps are in the store */
	FM_ABOUT_CURRENT,
	FM_ABOUT_REPLACED, /* to be emptied */
};

/* The maps that all programs share; overflow is a ring of events. Rows tell of the first ones. */
enum fm_shared_map {
	FM_SHARED_COUNTERS,
	FM_SHARED_IFACES,
	FM_SHARED_OVERFLOW,
	FM_SHARED_FRAGMENTS,
	FM_SHARED_LIVE,
	FM_SHARED_GATES,
	FM_SHARED_FILTERS,
	FM_SHARED_FILTER_NETS,
	FM_SHARED_RULES,
	_FM_SHARED_MAP_MAX,
};

extern const char *const fm_shared_map_names[_FM_SHARED_MAP_MAX];

struct fm_about_row {
	char name[FM_ABOUT_NAME_MAX];
	uint32_t map;
	uint32_t offset, size;
};

/*
 * Numbers of others whose contents are here: they are over. Of shared maps, tables took the events
 * of the ring, shared maps took what was counted.
 */
struct fm_about_taken {
	uint32_t n_tables, n_shared;
	uint32_t tables[FM_ABOUT_TAKEN], shared[FM_ABOUT_TAKEN];
};

struct fm_about {
	char magic[8];
	uint32_t version; /* of this struct */
	uint32_t kind;	  /* enum fm_about_kind */
	uint32_t state;	  /* enum fm_about_state */
	uint32_t n_rows;
	uint64_t layout; /* hash of the rows */
	uint32_t n_cpus;
	uint32_t value_size[FM_ABOUT_MAPS]; /* of an element; 0: there is no such map */
	/* Tables. */
	uint32_t homes, n_slots;
	uint32_t tag_live; /* tags: from here on a slot is in use */
	uint32_t tag_closing, tag_tombstone;
	uint64_t max_flows;
	uint8_t observe_every, key_vlan, key_interface, key_tos, tcp, tunnel;
	uint8_t wanted_tcp;
	uint8_t coarse, prefix4, prefix6;
	uint8_t unused[6];
	uint64_t prefixes;
	uint64_t seed[FM_SEEDS];
	/* Shared maps: counters by CPU, gate and hook, behind them a CPU a bank; gates a bank. */
	uint32_t n_gates, n_hooks;
	uint32_t which; /* the bank that counts, and of taken */
	uint32_t unused2;
	struct fm_about_taken taken[2];
	struct fm_about_row rows[FM_ABOUT_ROWS_MAX];
};

_Static_assert(sizeof(struct fm_about) <= FM_ABOUT_VALUE * FM_ABOUT_ELEMENTS, "room");

/* Magic, version and this process' rows; the rest is the caller's. */
void fm_about_init(struct fm_about *about, enum fm_about_kind kind);

/* In memory that outlives the process, and its descriptor. 0 or -errno. */
int fm_about_new(enum fm_about_kind kind, int *ret_fd, struct fm_about **ret);
void fm_about_unmap(struct fm_about *about);

/*
 * Takes over the map that fd is, which stays the caller's: what it says is copied, for the memory
 * may change while it is read. *ret_memory may be NULL. 0, -EINVAL: it cannot be believed; -errno.
 */
int fm_about_read(int fd, struct fm_about **ret_memory, struct fm_about *ret_copy);

/*
 * For tests: whether a copy can be believed: names end, members lie in their elements, numbers can
 * be.
 */
bool fm_about_is_sound(const struct fm_about *about);

/* Whether maps are laid out as this process' own. */
bool fm_about_is_own(const struct fm_about *about);

/* The row of that name; NULL: there is none. */
const struct fm_about_row *fm_about_find(const struct fm_about *about, uint32_t map,
					 const char *name);

#endif
