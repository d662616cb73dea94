/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Drives the sweep in the event loop: timer, slices, grace periods, room of the sinks; reads the
 * overflow ring; empties tables that were replaced. Owned by the manager.
 */
#ifndef FM_SWEEPER_H
#define FM_SWEEPER_H

#include <stdbool.h>
#include <stdint.h>

#include <systemd/sd-event.h>

#include "base/cleanup.h"
#include "daemon/export.h"
#include "daemon/generation.h"
#include "daemon/overflow.h"
#include "daemon/sweep.h"
#include "daemon/timebase.h"

struct fm_sweeper;

/* All in nanoseconds. */
struct fm_sweeper_settings {
	uint64_t interval_ns;
	uint64_t idle_ns;
	uint64_t active_ns;
	uint64_t linger_ns;
	uint64_t flood_ns;
};

/* The pointers outlive the sweeper. after_sweep is called when a sweep has ended. */
struct fm_sweeper_env {
	sd_event *event;
	struct fm_kernel *kernel;
	struct fm_timebase *timebase;
	struct fm_export *exporter;
	struct fm_ledger *ledger;
	void (*after_sweep)(void *userdata);
	void *userdata;
};

int fm_sweeper_new(struct fm_sweeper **ret, const struct fm_sweeper_env *env,
		   const struct fm_sweeper_settings *settings);
struct fm_sweeper *fm_sweeper_free(struct fm_sweeper *sweeper);
FM_DEFINE_CLEANUP(struct fm_sweeper *, fm_sweeper_free)

/* New timeouts; what becomes due by shorter ones is found by the next sweep. 0 or -errno. */
int fm_sweeper_configure(struct fm_sweeper *sweeper, const struct fm_sweeper_settings *settings);

/*
 * The generation to sweep from now on, owned by the sweeper. The one before is emptied after a
 * grace period and freed; its programs must be replaced or detached already. 0 or -errno (nothing
 * was taken then).
 */
int fm_sweeper_set_generation(struct fm_sweeper *sweeper, struct fm_generation *generation);

/*
 * Tables of an earlier process that no program writes any more: emptied and taken out of the store.
 * Owned by the sweeper. 0 or -EBUSY.
 */
int fm_sweeper_add_replaced(struct fm_sweeper *sweeper, struct fm_generation *generation);

/*
 * Exports everything that is left, as forced ends, and stops sweeping; programs must be detached.
 * Runs the event loop meanwhile, until deadline_ns (CLOCK_MONOTONIC). Returns the number of slots
 * that were still live at the deadline or -errno.
 */
int64_t fm_sweeper_finish(struct fm_sweeper *sweeper, uint64_t deadline_ns);

const struct fm_sweep_stats *fm_sweeper_stats(const struct fm_sweeper *sweeper);
uint64_t fm_sweeper_overflow_conversations(const struct fm_sweeper *sweeper);

#endif
