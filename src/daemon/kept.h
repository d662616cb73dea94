/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Memory that outlives the process: elements of a map, under a name in the store. Its owner takes
 * what an earlier process left, refuses that if it is not sound, and makes a new one if there is
 * none; without a store it is the process' own.
 */
#ifndef FM_KEPT_H
#define FM_KEPT_H

#include <stdint.h>

#include "daemon/store.h"

#define FM_KEPT_PAGE 4096u

static inline uint32_t fm_kept_pages(size_t octets)
{
	return (uint32_t)((octets + FM_KEPT_PAGE - 1) / FM_KEPT_PAGE);
}

/* What memory begins with whose form says so. */
struct fm_kept_head {
	char magic[8];
	uint32_t version;
};

/* The same for all of a kind. */
struct fm_kept_form {
	const char *map;   /* its name in the kernel */
	const char *magic; /* NULL: it begins with no head */
	uint32_t version;
	uint32_t value_size; /* of an element */
};

struct fm_kept {
	const struct fm_kept_form *form;
	struct fm_store *store; /* NULL: nothing outlives the process */
	char name[FM_STORE_NAME_MAX];
	uint32_t n_new;	     /* elements of a new one */
	uint32_t n_elements; /* of memory */
	void *memory;	     /* NULL: none was taken or made */
	int fd;		     /* -1: it is the process' own */
	bool in_store;
};

/* 0 or -EINVAL: the name is too long. What is all zero can be given to fm_kept_done(), too. */
int fm_kept_init(struct fm_kept *kept, const struct fm_kept_form *form, struct fm_store *store,
		 const char *name, uint32_t n_elements);

/*
 * What an earlier process left. 0, -ENOENT there is none, -EINVAL it has not this form and is
 * forgotten, or -errno.
 */
int fm_kept_take(struct fm_kept *kept);

/* The same of any number of elements. */
int fm_kept_take_any(struct fm_kept *kept);

/* What was taken is not sound, and is forgotten. -EINVAL. */
int fm_kept_refuse(struct fm_kept *kept);

/* New memory, all zero but its head; the owner fills it, then puts it. 0 or -errno. */
int fm_kept_make(struct fm_kept *kept);

/* 0 or -errno: it does not outlive the process. */
int fm_kept_put(struct fm_kept *kept);

/* Out of the store. */
void fm_kept_forget(struct fm_kept *kept);

/* It stays in the store. */
void fm_kept_done(struct fm_kept *kept);

#endif
