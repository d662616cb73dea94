/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Says in the log when packets begin to be lost by a cause, and when that has ended: once each,
 * not each sweep. Owned by the manager.
 */
#ifndef FM_LOSSES_H
#define FM_LOSSES_H

#include <stdbool.h>
#include <stdint.h>

#include "bpf/abi.h"

struct fm_losses {
	bool known; /* what was lost before the start is no news */
	struct {
		struct fm_count count;	/* at the last look */
		struct fm_count before; /* it began to grow */
		uint64_t began_ns, grew_ns;
		bool growing;
	} cause[_FM_COUNTER_MAX];
};

/* Looks at the counters of the classes LOST and AGGREGATED; now_ns: CLOCK_MONOTONIC. */
void fm_losses_look(struct fm_losses *losses, const struct fm_counters *counters, uint64_t now_ns);

#endif
