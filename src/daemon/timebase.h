/* SPDX-License-Identifier: Apache-2.0 */
/*
 * From the clocks of the slots (ticks, CLOCK_MONOTONIC) to wall time. Kept by the manager, synced
 * at every sweep.
 */
#ifndef FM_TIMEBASE_H
#define FM_TIMEBASE_H

#include <stdint.h>

#include "daemon/loader.h"

struct fm_timebase {
	uint64_t tick_ns;    /* length of a tick */
	uint64_t now_tick;   /* at the last sync */
	int64_t zero_ns;     /* CLOCK_MONOTONIC at which tick 0 began */
	int64_t realtime_ns; /* CLOCK_REALTIME - CLOCK_MONOTONIC */
};

/* Finds where ticks begin (takes up to two ticks). 0 or -errno. */
int fm_timebase_init(struct fm_timebase *timebase, const struct fm_kernel *kernel);

/* Takes the time: now_tick and the offset to wall time. 0 or -errno. */
int fm_timebase_sync(struct fm_timebase *timebase, const struct fm_kernel *kernel);

/* Nanoseconds since 1970 of a CLOCK_MONOTONIC time; of the beginning of a tick near now. */
uint64_t fm_timebase_of_monotonic(const struct fm_timebase *timebase, uint64_t monotonic_ns);
uint64_t fm_timebase_of_tick(const struct fm_timebase *timebase, uint32_t tick);

/* Ticks in a duration, rounded up. */
uint32_t fm_timebase_ticks(const struct fm_timebase *timebase, uint64_t duration_ns);

#endif
