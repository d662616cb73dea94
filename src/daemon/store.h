/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Descriptors that outlive the process, by name: in a bpffs directory, where one is configured and
 * the descriptor is of BPF, else in systemd's descriptor store (FDSTORE=, sd_notify(3)). Owned by
 * the manager; loader, generations, hooks and outboxes put into it what a next process is to find.
 *
 * Names are letters, digits, - and _. What is put is kept until it is removed, whatever becomes of
 * the caller's descriptor.
 */
#ifndef FM_STORE_H
#define FM_STORE_H

#include <stdbool.h>
#include <stddef.h>

#include "base/cleanup.h"

#define FM_STORE_NAME_MAX 64

struct fm_store;

/*
 * Opens the directory (made if it is not there; NULL or "": none), locks it, and takes over what
 * systemd hands to this process. 0 or -errno: EWOULDBLOCK another process has the directory,
 * EMEDIUMTYPE it is not in a BPF file system.
 */
int fm_store_new(struct fm_store **ret, const char *directory);
struct fm_store *fm_store_free(struct fm_store *store);
FM_DEFINE_CLEANUP(struct fm_store *, fm_store_free)

/* Keeps what fd is under a name that is not in use. 0 or -errno; 0 also where nothing keeps it. */
int fm_store_put(struct fm_store *store, const char *name, int fd);

/*
 * A descriptor of what an earlier process kept, as often as asked for; the caller's. -ENOENT or
 * -errno.
 */
int fm_store_take(struct fm_store *store, const char *name);

/* Whether a name is kept; ret_ours: by this process, which put or took it. */
bool fm_store_has(struct fm_store *store, const char *name, bool *ret_ours);

/* No longer kept; a name that is not there is no error. */
void fm_store_remove(struct fm_store *store, const char *name);
void fm_store_remove_all(struct fm_store *store, const char *prefix);

/* Calls fn for each name that an earlier process kept and that was neither taken nor removed. */
void fm_store_each(struct fm_store *store, void (*fn)(void *userdata, const char *name),
		   void *userdata);

/* Removes what nobody took. Returns how many. */
size_t fm_store_remove_rest(struct fm_store *store);

/* Removes everything, also what this process put. */
void fm_store_clear(struct fm_store *store);

/* Where things are kept, for the log: the directory or "systemd"; NULL: nowhere. */
const char *fm_store_describe(const struct fm_store *store);

#endif
