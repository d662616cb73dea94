/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Numbers of network namespaces that outlive the process: tables, gates and records know interfaces
 * by them, so a name keeps its number while the tables live. Owned by the manager.
 */
#ifndef FM_NUMBERING_H
#define FM_NUMBERING_H

#include "base/cleanup.h"
#include "daemon/store.h"

struct fm_numbering;

/* Goes on with what an earlier process kept, if it is sound. 0 or -ENOMEM. */
int fm_numbering_new(struct fm_numbering **ret, struct fm_store *store);
/* It stays in the store. */
struct fm_numbering *fm_numbering_free(struct fm_numbering *numbering);
FM_DEFINE_CLEANUP(struct fm_numbering *, fm_numbering_free)

/* Which namespace has the number, from 1 on; NULL: none. */
const char *fm_numbering_name(const struct fm_numbering *numbering, unsigned int number);

/* The next number is the namespace's. What cannot be kept is not known to the next process. */
void fm_numbering_add(struct fm_numbering *numbering, unsigned int number, const char *name);

#endif
