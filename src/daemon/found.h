/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What an earlier process left in the store: which of it goes on, which is to be emptied, which is
 * of another layout and becomes tables of this one. The manager's part for its start; logs.
 */
#ifndef FM_FOUND_H
#define FM_FOUND_H

#include <stdbool.h>
#include <stddef.h>

#include "daemon/foreign.h"
#include "daemon/generation.h"
#include "daemon/ledger.h"
#include "daemon/loader.h"
#include "daemon/store.h"

#define FM_FOUND_MAX 15

/* What describes itself under a number. */
struct fm_found_book {
	unsigned int number;
	struct fm_about *about;
};

struct fm_found {
	struct fm_store *store;
	struct fm_kernel *kernel;
	struct fm_found_book tables[FM_FOUND_MAX], shared[FM_FOUND_MAX];
	size_t n_tables, n_shared;
	unsigned int next_tables, next_shared; /* numbers that are free */
	bool goes_on;			       /* with shared maps of this layout */
	struct fm_generation *current;
	struct fm_generation *replaced[FM_FOUND_MAX + 1];
	size_t n_replaced;
	struct fm_foreign *foreign[FM_FOUND_MAX];
	size_t n_foreign;
	struct fm_foreign_shared *foreign_shared[FM_FOUND_MAX];
	size_t n_foreign_shared;
};

/* Looks through the store; the kernel goes on with shared maps of it. 0 or -errno. */
int fm_found_open(struct fm_found *found, struct fm_store *store, struct fm_kernel *kernel);
void fm_found_done(struct fm_found *found);

/* Carries out an entry of the ledger that an earlier process committed. */
void fm_found_finish(struct fm_found *found, const struct fm_ledger_found *entry);

/* What a killed process left in the middle of is set right; after all entries. */
void fm_found_repair(struct fm_found *found);

/* Before programs are replaced: interfaces that others count at are seen. */
void fm_found_inherit(struct fm_found *found);

/* Whether anything is there that nobody may write any more before it is emptied. */
bool fm_found_waits(const struct fm_found *found);

/*
 * What is of another layout becomes one of those that are to be emptied, and goes out of the store.
 * Its programs are replaced, and a grace period is over. 0 or -errno.
 */
int fm_found_take_over(struct fm_found *found);

#endif
