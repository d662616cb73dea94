/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The sweep: takes due conversations out of the tables, exactly. Called by the manager in steps of
 * some microseconds, so that the event loop never waits; what it finds goes to a callback.
 *
 *   scan      a window of homes at a time, the same in every CPU's region: slots that are due are
 *             folded with their partials; idle and ended ones are marked CLOSING in all regions,
 *             long-lived ones exported as difference and left
 *   fence     one grace period for all that was marked: no program holds an old pointer
 *   collect   final values are read and handed on, slots become TOMBSTONE when the ledger commits
 *
 * A batch of marked slots is bounded; a sweep is as many batches as it takes.
 */
#ifndef FM_SWEEP_H
#define FM_SWEEP_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/cleanup.h"
#include "daemon/fold.h"
#include "daemon/ledger.h"
#include "daemon/generation.h"
#include "ipfix/record.h"

struct fm_sweep_ops {
	/* Makes what is exported and what is noted of it one; NULL: the sweep has its own. */
	struct fm_ledger *ledger;
	/* Whether a conversation (two records) can be taken now. */
	bool (*room)(void *userdata);
	void (*conversation)(void *userdata, const struct fm_conversation *conversation,
			     enum fm_end_reason reason);
};

/* All in ticks. */
struct fm_sweep_timeouts {
	uint32_t idle;
	uint32_t active;
	uint32_t linger;
	uint32_t brief; /* idle of what had a packet a direction at most; 0: as all */
};

enum fm_sweep_state {
	FM_SWEEP_IDLE,	  /* done; begin again when it is time */
	FM_SWEEP_MORE,	  /* call step again */
	FM_SWEEP_NO_ROOM, /* call step again when there is room */
	FM_SWEEP_FENCE,	  /* wait for a grace period, then call fenced */
};

struct fm_sweep_stats {
	uint64_t sweeps;
	uint64_t live_slots; /* of the last whole sweep */
	uint64_t tombstones;
	uint64_t closed; /* conversations taken out */
	uint64_t active; /* conversations exported and left */
	uint64_t fences;
};

struct fm_sweep;

/* ledger.h: stores an entry that a sweep of the generation added. */
void fm_sweep_apply(struct fm_generation *generation, const struct fm_ledger_entry *entry);

int fm_sweep_new(struct fm_sweep **ret, const struct fm_sweep_ops *ops, void *userdata);
struct fm_sweep *fm_sweep_free(struct fm_sweep *sweep);
FM_DEFINE_CLEANUP(struct fm_sweep *, fm_sweep_free)

/*
 * Begins a sweep of a generation's tables. recheck: look at every slot, not only at due ones (after
 * timeouts became shorter).
 */
void fm_sweep_begin(struct fm_sweep *sweep, struct fm_generation *generation,
		    const struct fm_sweep_timeouts *timeouts, uint32_t now_tick, bool recheck);

/*
 * Begins to empty tables that no program writes any more (detached or replaced, and fenced):
 * everything that is live is exported with reason and its slot freed.
 */
void fm_sweep_begin_drain(struct fm_sweep *sweep, struct fm_generation *generation,
			  uint32_t now_tick, enum fm_end_reason reason);

/* One step. */
enum fm_sweep_state fm_sweep_step(struct fm_sweep *sweep);

/* The grace period that FM_SWEEP_FENCE asked for is over. */
void fm_sweep_fenced(struct fm_sweep *sweep);

enum fm_sweep_state fm_sweep_current(const struct fm_sweep *sweep);
const struct fm_sweep_stats *fm_sweep_get_stats(const struct fm_sweep *sweep);

#endif
