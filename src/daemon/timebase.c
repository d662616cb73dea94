/* SPDX-License-Identifier: Apache-2.0 */
/* Clocks: see timebase.h. */
#include "daemon/timebase.h"

#include <errno.h>
#include <time.h>

#include "base/clock.h"
#include "base/macro.h"

/*
 * Jiffies advance with CLOCK_MONOTONIC in steps of exactly one tick. A sample is between 0 and one
 * tick after the tick's beginning, so the smallest difference seen is the nearest to the truth.
 */
static int sample(struct fm_timebase *timebase, const struct fm_kernel *kernel)
{
	struct fm_clock clock;
	int64_t zero;
	int r = fm_kernel_clock(kernel, &clock);

	if (r < 0)
		return r;
	zero = (int64_t)clock.monotonic_ns - (int64_t)(clock.tick * timebase->tick_ns);
	if (!timebase->now_tick || zero < timebase->zero_ns)
		timebase->zero_ns = zero;
	timebase->now_tick = clock.tick;
	return 0;
}

int fm_timebase_sync(struct fm_timebase *timebase, const struct fm_kernel *kernel)
{
	timebase->realtime_ns = (int64_t)(fm_clock_realtime_ns() - fm_clock_monotonic_ns());
	return sample(timebase, kernel);
}

int fm_timebase_init(struct fm_timebase *timebase, const struct fm_kernel *kernel)
{
	struct timespec resolution;
	uint64_t end;
	int r;

	*timebase = (struct fm_timebase){};
	/* The resolution of a coarse clock is the length of a tick. */
	if (clock_getres(CLOCK_MONOTONIC_COARSE, &resolution) < 0)
		return -errno;
	timebase->tick_ns = resolution.tv_sec * FM_NS_PER_S + resolution.tv_nsec;
	if (timebase->tick_ns == 0)
		return -EINVAL;
	end = fm_clock_monotonic_ns() + 2 * timebase->tick_ns;
	do {
		r = fm_timebase_sync(timebase, kernel);
		if (r < 0)
			return r;
	} while (fm_clock_monotonic_ns() < end);
	return 0;
}

uint64_t fm_timebase_of_monotonic(const struct fm_timebase *timebase, uint64_t monotonic_ns)
{
	return monotonic_ns + timebase->realtime_ns;
}

uint64_t fm_timebase_of_tick(const struct fm_timebase *timebase, uint32_t tick)
{
	int64_t age = (int32_t)((uint32_t)timebase->now_tick - tick);
	int64_t ticks = (int64_t)timebase->now_tick - age;

	return timebase->zero_ns + ticks * (int64_t)timebase->tick_ns + timebase->realtime_ns;
}

uint32_t fm_timebase_ticks(const struct fm_timebase *timebase, uint64_t duration_ns)
{
	return (duration_ns + timebase->tick_ns - 1) / timebase->tick_ns;
}
