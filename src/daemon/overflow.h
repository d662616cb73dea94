/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Packets that found no slot: read from the overflow ring once a sweep, merged by flow key,
 * exported with flowEndReason 5. Events stay in the ring until what was merged of them is
 * committed, a batch of at most FM_OVERFLOW_FLOWS conversations each time; when sinks have no room
 * the ring holds the rest. Owned by the sweeper.
 */
#ifndef FM_OVERFLOW_H
#define FM_OVERFLOW_H

#include <stdbool.h>

#include "base/cleanup.h"
#include "daemon/export.h"
#include "daemon/ledger.h"
#include "daemon/loader.h"

#define FM_OVERFLOW_FLOWS 128

struct fm_overflow_reader;

int fm_overflow_new(struct fm_overflow_reader **ret, struct fm_kernel *kernel,
		    struct fm_export *exporter, struct fm_ledger *ledger);
struct fm_overflow_reader *fm_overflow_free(struct fm_overflow_reader *reader);
FM_DEFINE_CLEANUP(struct fm_overflow_reader *, fm_overflow_free)

/*
 * Reads what is there and exports what was merged, as far as sinks have room. Returns whether
 * anything is left.
 */
bool fm_overflow_read(struct fm_overflow_reader *reader);

/* ledger.h: what was read up to this position is exported. */
void fm_overflow_consumed(struct fm_overflow_reader *reader, uint64_t position);

/* Conversations exported from the ring so far. */
uint64_t fm_overflow_conversations(const struct fm_overflow_reader *reader);

#endif
