/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What the daemon tells of itself: to people as text, to programs as JSON and as Prometheus'
 * metrics, to systemd as one line. Figures have rows in ipfix/statistics.def, packets by cause in
 * bpf/counters.def; all forms are made of them. Called by the manager.
 */
#ifndef FM_STATUS_H
#define FM_STATUS_H

#include <net/if.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/buf.h"
#include "bpf/abi.h"
#include "daemon/export.h"
#include "daemon/filters.h"
#include "ipfix/options.h"

/* What one interface counts. */
struct fm_status_interface {
	uint32_t ifindex; /* 0: all that have no counters of their own */
	char name[IFNAMSIZ];
	bool hooked[_FM_HOOK_MAX];
	struct fm_counters counters[_FM_HOOK_MAX];
};

struct fm_status {
	const char *attach; /* tcx or clsact */
	bool resumed;	    /* with the tables of an earlier process */
	struct fm_exporter_stats figures;
	struct fm_counters counters;
	const struct fm_export *exporter;
	const struct fm_filters *filters;
	struct fm_status_interface *interfaces; /* owned */
	size_t n_interfaces;
};

void fm_status_done(struct fm_status *status);

/* Rows of counters.def; a class is such as "LOST". */
const char *fm_status_counter_name(enum fm_counter counter);
const char *fm_status_counter_class(enum fm_counter counter);
const char *fm_status_counter_help(enum fm_counter counter);

/* Rows of not-sent.def. */
const char *fm_status_not_sent_name(enum fm_not_sent cause);

/* Causes of what was not sent, with their records: "queue_full 100, stopped 2". */
int fm_status_not_sent_line(const struct fm_sink_stats *stats, struct fm_buf *ret);

/* Sum of a class's counters. */
struct fm_count fm_status_class_sum(const struct fm_counters *counters, const char *class);

/* Name of a flowEndReason. */
const char *fm_status_reason_name(enum fm_end_reason reason);

int fm_status_text(const struct fm_status *status, struct fm_buf *ret);
int fm_status_json(const struct fm_status *status, struct fm_buf *ret);

/* Prometheus' text format 0.0.4. */
int fm_status_metrics(const struct fm_status *status, struct fm_buf *ret);

/* One line for systemctl status. */
int fm_status_line(const struct fm_status *status, struct fm_buf *ret);

#endif
