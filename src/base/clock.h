/* SPDX-License-Identifier: Apache-2.0 */
/* Clocks in nanoseconds. */
#ifndef FM_CLOCK_H
#define FM_CLOCK_H

#include <stdint.h>

uint64_t fm_clock_monotonic_ns(void);

/* Since 1970. */
uint64_t fm_clock_realtime_ns(void);

#endif
