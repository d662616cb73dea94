/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What a sink notes of its work, in memory that outlives the process: after a kill it reads as it
 * was when the last transaction of the ledger was committed. For sinks whose messages go through no
 * outbox.
 */
#ifndef FM_MEMO_H
#define FM_MEMO_H

#include <stddef.h>
#include <stdint.h>

#include "base/cleanup.h"
#include "daemon/store.h"

#define FM_MEMO_OCTETS_MAX 1024

struct fm_memo;

/*
 * Opens what is in the store under the name, or makes a new one, all zero, where there is none, or
 * one that is not sound or not of octets. store may be NULL: nothing outlives the process.
 * committed: serial of the ledger's last transaction that was. 0 or -errno.
 */
int fm_memo_new(struct fm_memo **ret, struct fm_store *store, const char *name, size_t octets,
		uint64_t committed);

/* It stays in the store. */
struct fm_memo *fm_memo_free(struct fm_memo *memo);
FM_DEFINE_CLEANUP(struct fm_memo *, fm_memo_free)

/* Out of the store. */
void fm_memo_forget(struct fm_memo *memo);

/* The owner's to write; nobody else sees that before it is prepared or published. */
void *fm_memo_value(struct fm_memo *memo);

/* What it is now is part of transaction serial. */
void fm_memo_prepare(struct fm_memo *memo, uint64_t serial);

/* What it is now counts. */
void fm_memo_publish(struct fm_memo *memo);

#endif
