/* SPDX-License-Identifier: Apache-2.0 */
/* Clocks: see clock.h. */
#include "base/clock.h"

#include <time.h>

#include "base/macro.h"

static uint64_t now(clockid_t clock)
{
	struct timespec time;

	clock_gettime(clock, &time); /* cannot fail for these clocks */
	return (uint64_t)time.tv_sec * FM_NS_PER_S + (uint64_t)time.tv_nsec;
}

uint64_t fm_clock_monotonic_ns(void)
{
	return now(CLOCK_MONOTONIC);
}

uint64_t fm_clock_realtime_ns(void)
{
	return now(CLOCK_REALTIME);
}
