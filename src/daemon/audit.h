/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The audit: at the end of every interval, what each interface itself counted, what of it came to
 * the programs, and where that went. What was told last is kept beside the gate (gates.h), so that
 * the next process goes on where a killed one ended. Called by the manager.
 */
#ifndef FM_AUDIT_H
#define FM_AUDIT_H

#include <stdbool.h>
#include <stdint.h>

#include "daemon/gates.h"
#include "daemon/sink.h"

struct fm_audit {
	struct fm_gates *gates;
	/* What an interface (index with its namespace's base) counted itself. 0 or -errno. */
	int (*read)(void *userdata, uint32_t ifindex, enum fm_hook hook, uint64_t *ret_frames,
		    uint64_t *ret_octets);
	void (*tell)(void *userdata, const struct fm_audit_row *row);
	void *userdata;
};

/* After hooks were attached: their first interval begins. */
void fm_audit_follow(const struct fm_audit *audit, uint64_t now_ns);

/* The end of an interval of all interfaces, and the beginning of the next. */
void fm_audit_run(const struct fm_audit *audit, uint64_t now_ns);

/* The end of the last interval of a hook that was just detached. */
void fm_audit_end(const struct fm_audit *audit, uint32_t ifindex, enum fm_hook hook,
		  uint64_t now_ns);

/* What became of what a gate counted, the record's part of it: all but interval and interface. */
void fm_audit_classes(struct fm_audit_record *record, const struct fm_counters *counters);

#endif
