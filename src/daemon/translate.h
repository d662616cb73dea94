/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What is in maps of another layout, put into maps of this one member by member: members that this
 * layout does not know are left, those that the other has not are 0. Nobody writes the others any
 * more. They stay as they are until what was made of them is published. Called by found.c.
 */
#ifndef FM_TRANSLATE_H
#define FM_TRANSLATE_H

#include <stddef.h>
#include <stdint.h>

#include "daemon/foreign.h"
#include "daemon/generation.h"

/* What was found in them. */
struct fm_translated {
	uint64_t slots, events;
	uint64_t unplaced; /* slots and events for which there was no place: lost */
	uint64_t unplaced_packets;
};

/*
 * Tables, with their accounts, and the events on rings that were not taken yet become one
 * generation that is to be emptied, in the store already. *ret NULL: there was nothing. 0 or
 * -errno.
 */
int fm_translate_tables(struct fm_generation **ret, struct fm_kernel *kernel,
			struct fm_foreign *const *foreign, size_t n_foreign,
			struct fm_foreign_shared *const *shared, size_t n_shared,
			struct fm_translated *ret_found);

/* What was counted counts on, by names. 0 or -ENOMEM. */
int fm_translate_counters(struct fm_kernel *kernel, struct fm_foreign_shared *const *shared,
			  size_t n_shared);

#endif
