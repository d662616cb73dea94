/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What the daemon tells of itself: to flowmonctl as text and JSON, to systemd as one line. One
 * table of figures (status.c) makes all three. Called by the manager.
 */
#ifndef FM_STATUS_H
#define FM_STATUS_H

#include <stdbool.h>
#include <stdint.h>

#include "base/buf.h"
#include "bpf/abi.h"
#include "daemon/export.h"
#include "daemon/sweep.h"

struct fm_status {
	uint64_t uptime_ns;
	const char *attach; /* tcx or clsact */
	bool resumed;	    /* with the tables of an earlier process */
	uint64_t interfaces;
	uint64_t hooks;
	uint64_t max_flows;
	uint64_t table_octets;
	uint64_t overflow_conversations;
	struct fm_counters counters;
	const struct fm_sweep_stats *sweep;
	const struct fm_export *exporter;
};

/* Class of a counter as counters.def has it, such as "LOST". */
const char *fm_status_counter_class(enum fm_counter counter);

/* Sum of a class's counters. */
struct fm_count fm_status_class_sum(const struct fm_counters *counters, const char *class);

int fm_status_text(const struct fm_status *status, struct fm_buf *ret);
int fm_status_json(const struct fm_status *status, struct fm_buf *ret);

/* One line for systemctl status. */
int fm_status_line(const struct fm_status *status, struct fm_buf *ret);

#endif
