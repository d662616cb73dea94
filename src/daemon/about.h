/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What tables are made of, told by themselves: a map beside them with their size, seeds and key,
 * and the name, offset and size of every member. So a process knows whether they are laid out
 * as its own. Used by generation.c.
 */
#ifndef FM_ABOUT_H
#define FM_ABOUT_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "daemon/region.h"

#define FM_ABOUT_ROWS_MAX 512
#define FM_ABOUT_NAME_MAX 40

/* Octets of the map and its elements. */
#define FM_ABOUT_VALUE	  4096
#define FM_ABOUT_ELEMENTS 8

enum fm_about_state {
	FM_ABOUT_UNFINISHED, /* not all of its maps are in the store */
	FM_ABOUT_CURRENT,
	FM_ABOUT_REPLACED, /* to be emptied */
};

struct fm_about_row {
	char name[FM_ABOUT_NAME_MAX];
	uint32_t map; /* enum fm_region_map */
	uint32_t offset, size;
};

/* Numbers that a version adds come at the end; what it does not know is left alone. */
struct fm_about {
	char magic[8];
	uint32_t version; /* of this struct */
	uint32_t state;	  /* enum fm_about_state */
	uint64_t layout;  /* hash of the rows */
	uint32_t n_rows;
	uint32_t n_cpus, homes, n_slots;
	uint32_t cells;
	uint32_t value_size[_FM_REGION_MAP_MAX]; /* 0: there is no such map */
	uint32_t tag_live;			 /* tags: from here on a slot is in use */
	uint32_t tag_closing, tag_tombstone;
	uint64_t max_flows;
	uint8_t observe_every, key_vlan, key_interface, key_tos, tcp, tunnel;
	uint8_t wanted_tcp;
	uint8_t unused;
	uint64_t seed[FM_SEEDS];
	struct fm_about_row rows[FM_ABOUT_ROWS_MAX];
};

_Static_assert(sizeof(struct fm_about) <= FM_ABOUT_VALUE * FM_ABOUT_ELEMENTS, "room");

/* Magic, version and this process' rows; the rest is the caller's. */
void fm_about_init(struct fm_about *about);

/*
 * Whether it can be believed: all names end, all members lie in their elements, numbers are such
 * as can be. The memory may change while it is read: the copy is what counts.
 */
bool fm_about_is_sound(const struct fm_about *about);

/* Whether tables are laid out as this process' own. */
bool fm_about_is_own(const struct fm_about *about);

#endif
