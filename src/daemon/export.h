/* SPDX-License-Identifier: Apache-2.0 */
/*
 * From conversations to flow records to sinks. Called by the sweep and the overflow reader; owned
 * by the manager.
 */
#ifndef FM_EXPORT_H
#define FM_EXPORT_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "daemon/fold.h"
#include "daemon/naming.h"
#include "daemon/route.h"
#include "daemon/sink.h"
#include "daemon/timebase.h"
#include "ipfix/record.h"

struct fm_export {
	struct fm_sink **sinks; /* owned */
	size_t n_sinks;
	struct fm_routes routes; /* to them; owned */
	const struct fm_timebase *timebase;
	const struct fm_naming *naming; /* NULL: no names */
	/* What samplers are, by number: fm_kernel_rules(). NULL: there are none. */
	const struct fm_rule_count *samplers;
	bool biflow;
	uint64_t records;
	uint64_t packets;
	uint64_t octets;
	uint64_t reasons[FM_END_REASON_RESOURCES + 1]; /* records by flowEndReason */
};

/*
 * Whether every sink that the next conversation may go to can take it; asked before each, since it
 * looks who is up as well.
 */
bool fm_export_room(struct fm_export *exporter);

/* Hands a conversation to the routes, as two records or as one with its reverse. */
void fm_export_conversation(struct fm_export *exporter, const struct fm_conversation *conversation,
			    enum fm_end_reason reason);

/*
 * Makes records of a conversation: 0 to 2. ret holds two. Halves without packets since the last
 * export make none. Others see it for tests and benchmarks.
 */
size_t fm_export_records(const struct fm_export *exporter,
			 const struct fm_conversation *conversation, enum fm_end_reason reason,
			 struct fm_record ret[2]);

/* What the sinks were handed is part of transaction serial of the ledger. */
void fm_export_prepare(struct fm_export *exporter, uint64_t serial);

/* It is committed: every sink sends it. */
void fm_export_flush(struct fm_export *exporter);

#endif
