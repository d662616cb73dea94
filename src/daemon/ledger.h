/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Transactions: what is exported of conversations and what is noted of it beside their slots
 * happens together, whenever the process is killed. The sweep adds what is to be stored; commit
 * makes it so. Owned by the sweeper; a sweep without one has its own.
 */
#ifndef FM_LEDGER_H
#define FM_LEDGER_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/cleanup.h"
#include "daemon/region.h"
#include "daemon/store.h"

enum fm_ledger_op {
	FM_LEDGER_KEEP,	    /* the slot goes on: what was exported of it */
	FM_LEDGER_FREE,	    /* the slot is over: nothing exported, tombstone */
	FM_LEDGER_CONSUMED, /* the overflow ring was read up to value */
};

/*
 * What is stored where, such that storing it twice is the same as once. Up to value, entries are
 * the same in every version; accounts are laid out as those of the tables that they are for.
 */
struct fm_ledger_entry {
	uint32_t op;
	uint32_t generation; /* its number; of the shared maps that the ring is of */
	uint32_t region, position;
	uint64_t value;
	struct fm_exported exported;
	struct fm_tcp_exported tcp_exported;
};

/* An entry that an earlier process committed, of a version that may be another. */
struct fm_ledger_found {
	struct fm_ledger_entry entry; /* without its accounts */
	const void *exported, *tcp_exported;
	size_t exported_size, tcp_exported_size;
};

struct fm_ledger;

struct fm_ledger_ops {
	/* What was handed to the sinks so far becomes part of the transaction serial. */
	void (*prepare)(void *userdata, uint64_t serial);
	/* It is committed: it may go out. */
	void (*publish)(void *userdata);
	/* Stores an entry. One that speaks of what is not there is of no consequence. */
	void (*apply)(void *userdata, const struct fm_ledger_entry *entry);
	/* The same for fm_ledger_finish. */
	void (*finish)(void *userdata, const struct fm_ledger_found *found);
};

/*
 * The store may be NULL: nothing outlives the process. What an earlier process committed and did
 * not finish waits for fm_ledger_finish. max_refs: slots of one conversation. 0 or -errno.
 */
int fm_ledger_new(struct fm_ledger **ret, struct fm_store *store, size_t max_refs);
struct fm_ledger *fm_ledger_free(struct fm_ledger *ledger);
FM_DEFINE_CLEANUP(struct fm_ledger *, fm_ledger_free)

/* Who carries things out; before anything is added. */
void fm_ledger_set_ops(struct fm_ledger *ledger, const struct fm_ledger_ops *ops, void *userdata);

/* Serial of the last transaction that was committed, by this process or an earlier one. */
uint64_t fm_ledger_committed(const struct fm_ledger *ledger);

/* Carries out what an earlier process committed, by ops->finish alone. Returns how many entries. */
size_t fm_ledger_finish(struct fm_ledger *ledger);

/* Room for one more conversation; else commit first. */
bool fm_ledger_has_room(const struct fm_ledger *ledger);

/* The next entry, to be filled in. */
struct fm_ledger_entry *fm_ledger_add(struct fm_ledger *ledger);

/* All that was added happens, and what was handed to the sinks goes out. */
void fm_ledger_commit(struct fm_ledger *ledger);

/* Out of the store; for tests. */
void fm_ledger_forget(struct fm_ledger *ledger);

#endif
