/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What an earlier process of another layout left: its flow tables, and the maps that its programs
 * shared, as they are. Opened by found.c, read member by member by translate.c.
 */
#ifndef FM_FOREIGN_H
#define FM_FOREIGN_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/cleanup.h"
#include "daemon/about.h"
#include "daemon/ledger.h"
#include "daemon/store.h"

/* One CPU's maps; memory[FM_REGION_SLOTS] NULL: the CPU was never online. */
struct fm_foreign_region {
	uint8_t *memory[_FM_REGION_MAP_MAX];
	uint32_t n_elements[_FM_REGION_MAP_MAX];
	size_t value_size[_FM_REGION_MAP_MAX];
};

struct fm_foreign {
	unsigned int number;
	struct fm_about *about; /* a copy */
	uint32_t tag_offset;	/* in a slot */
	struct fm_foreign_region *regions;
	unsigned int broken; /* regions that cannot be read */
};

/* Opens tables that describe themselves so. 0 or -errno. */
int fm_foreign_open(struct fm_foreign **ret, struct fm_store *store, unsigned int number,
		    const struct fm_about *about);
struct fm_foreign *fm_foreign_free(struct fm_foreign *foreign);
FM_DEFINE_CLEANUP(struct fm_foreign *, fm_foreign_free)

/* ledger.h: an entry that a process of their layout committed. */
void fm_foreign_apply(struct fm_foreign *foreign, const struct fm_ledger_found *found);

/* An element; NULL: there is no such map. */
const uint8_t *fm_foreign_element(const struct fm_foreign *foreign, uint32_t cpu,
				  enum fm_region_map map, uint32_t position);

/* Whether it is a slot that holds something: in use, or being closed. */
bool fm_foreign_is_live(const struct fm_foreign *foreign, uint32_t cpu, uint32_t position);

struct fm_foreign_shared {
	unsigned int number;
	struct fm_about *about; /* a copy */
	uint8_t *counters;	/* NULL: cannot be read */
	uint8_t *gates;
	int ring_fd, ifaces_fd; /* -1: not there */
	bool ring_taken;	/* by tables that are there */
};

int fm_foreign_shared_open(struct fm_foreign_shared **ret, struct fm_store *store,
			   unsigned int number, const struct fm_about *about);
struct fm_foreign_shared *fm_foreign_shared_free(struct fm_foreign_shared *shared);
FM_DEFINE_CLEANUP(struct fm_foreign_shared *, fm_foreign_shared_free)

/* Counters of a CPU at a gate and hook; CPU n_cpus: taken over by them from others. */
const uint8_t *fm_foreign_counters(const struct fm_foreign_shared *shared, uint32_t cpu,
				   uint32_t gate, uint32_t hook);

/* The account of a gate. */
const uint8_t *fm_foreign_gate(const struct fm_foreign_shared *shared, uint32_t gate);

#endif
