/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The audit: at the end of every interval, what each interface itself counted, what of it came to
 * the programs, and where that went. What was told last is kept beside the gate (gates.h), so that
 * the next process goes on where a killed one ended; that changes in the transaction of the ledger
 * in which the audit is handed to the sinks, so that each interval is told once. Owned by the
 * manager.
 */
#ifndef FM_AUDIT_H
#define FM_AUDIT_H

#include <stdbool.h>
#include <stdint.h>

#include "base/cleanup.h"
#include "daemon/gates.h"
#include "daemon/ledger.h"
#include "daemon/sink.h"
#include "daemon/store.h"

struct fm_audit;

struct fm_audit_env {
	struct fm_gates *gates;
	struct fm_ledger *ledger; /* its ops prepare and publish what the sinks are told */
	struct fm_store *store;	  /* NULL: nothing outlives the process */
	/* What an interface (index with its namespace's base) counted itself. 0 or -errno. */
	int (*read)(void *userdata, uint32_t ifindex, enum fm_hook hook, uint64_t *ret_frames,
		    uint64_t *ret_octets);
	/* Whether the sinks can take one more. */
	bool (*room)(void *userdata);
	void (*tell)(void *userdata, const struct fm_audit_row *row);
	void *userdata;
};

/* Finishes what an earlier process committed. No transaction is open here and below. 0 or -errno.
 */
int fm_audit_new(struct fm_audit **ret, const struct fm_audit_env *env);
struct fm_audit *fm_audit_free(struct fm_audit *audit);
FM_DEFINE_CLEANUP(struct fm_audit *, fm_audit_free)

/*
 * Nanoseconds until the oldest interval has lasted for interval_ns: an earlier process may have
 * begun it.
 */
uint64_t fm_audit_due(const struct fm_audit *audit, uint64_t now_ns, uint64_t interval_ns);

/* After hooks were attached: their first interval begins. */
void fm_audit_follow(struct fm_audit *audit, uint64_t now_ns);

/*
 * The end of an interval of all interfaces, and the beginning of the next, as far as there is room:
 * true if some are left, for the next call.
 */
bool fm_audit_step(struct fm_audit *audit, uint64_t now_ns);

/* The same of all interfaces, room or not. */
void fm_audit_run(struct fm_audit *audit, uint64_t now_ns);

/* The end of the last interval of a hook that was just detached. */
void fm_audit_end(struct fm_audit *audit, uint32_t ifindex, enum fm_hook hook, uint64_t now_ns);

/* What became of what a gate counted, the record's part of it: all but interval and interface. */
void fm_audit_classes(struct fm_audit_record *record, const struct fm_counters *counters);

#endif
