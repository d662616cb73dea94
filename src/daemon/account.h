/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A sink's own account, in memory that outlives the process and the version: figures are known by
 * their names, the evidence of what went out by its size. Used by the courier.
 */
#ifndef FM_ACCOUNT_H
#define FM_ACCOUNT_H

#include <stdint.h>

#include "daemon/spool.h"
#include "ipfix/options.h"
#include "ipfix/transport.h"

#define FM_ACCOUNT_FIGURES 64

/* Figures of one form: the hash of each name, then a number each. */
struct fm_account_bank {
	uint32_t n, unused;
	uint32_t names[FM_ACCOUNT_FIGURES];
	union {
		uint64_t figures[FM_ACCOUNT_FIGURES];
		struct fm_sink_stats stats;
	};
};

struct fm_account {
	uint32_t magic;
	uint32_t which; /* the bank that counts */
	uint32_t mark_size, intent_size;
	struct fm_account_bank banks[2];
	struct fm_transport_mark mark;
	struct fm_spool_intent intent;
};

/*
 * Goes on with what is there, or begins at 0. Figures of another version go into the other bank by
 * their names; one store makes that the one that counts. Evidence of another size is none.
 */
struct fm_sink_stats *fm_account_open(struct fm_account *account);

#endif
