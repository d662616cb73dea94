/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What a collector is told again and again beside flows: names of interfaces, VRFs and
 * applications, types of own elements, the exporter's figures, packets and records by cause. Keeps
 * what is due in a queue, so that the owner can pace it like flows, and tells nothing twice that
 * has not changed. Owned by the collector sink. Audits go past the queue: each is told once.
 */
#ifndef FM_TELL_H
#define FM_TELL_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "daemon/sink.h"
#include "ipfix/session.h"

struct fm_tell_entry;

/* Kinds of options records that go this way, at most. */
#define FM_TELL_KINDS 8

struct fm_tell {
	const struct fm_sink_env *env;
	struct fm_session *session;
	uint64_t interval_ns;
	uint64_t due_ns, names_due_ns; /* CLOCK_MONOTONIC, UINT64_MAX: not */
	uint64_t told[FM_TELL_KINDS];  /* digests by kind; 0: none */
	struct fm_tell_entry *entries; /* those from first on wait */
	size_t first, n, capacity;
	uint64_t dropped; /* for want of memory or room */
};

void fm_tell_init(struct fm_tell *tell, const struct fm_sink_env *env, struct fm_session *session,
		  uint64_t interval_ns);
void fm_tell_done(struct fm_tell *tell);

/* A transport session has begun: everything is due soon. What waits of the last is not told twice.
 */
void fm_tell_begun(struct fm_tell *tell, uint64_t now_ns);

/* Types of own elements are due again. */
void fm_tell_types(struct fm_tell *tell);

/* Names changed, or may have. */
void fm_tell_changed(struct fm_tell *tell, uint64_t now_ns);

/* Hands on at most room records, the figures of the sink being sink. Returns how many. */
size_t fm_tell_some(struct fm_tell *tell, uint64_t now_ns, size_t room,
		    const struct fm_sink_stats *sink);

/* An audit: the record and its causes. Waits for a flush. Returns how many; 0: it was not taken. */
size_t fm_tell_audit(struct fm_session *session, const struct fm_audit_row *row);

/* Whether records wait. */
bool fm_tell_waits(const struct fm_tell *tell);

/* All names at once, without pace; waits for a flush. For files. */
void fm_tell_names(const struct fm_sink_env *env, struct fm_session *session);

/* At the end: all that waits, and the last figures. */
void fm_tell_end(struct fm_tell *tell, const struct fm_sink_stats *sink);

#endif
