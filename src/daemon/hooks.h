/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What is attached where: gives every hook the program it needs, replaces all programs when a
 * generation is replaced, leaves links to a next process. Owned by the manager; interfaces.c
 * decides what to hook.
 */
#ifndef FM_HOOKS_H
#define FM_HOOKS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "bpf/abi.h"
#include "daemon/attach.h"
#include "daemon/generation.h"

struct fm_hooks {
	struct fm_attachment *attachments;
	size_t n;
	enum fm_attach_mode mode;
	struct fm_generation *generation; /* whose programs are attached */
	struct fm_store *store;		  /* keeps links; NULL: none */
	size_t n_adopted;		  /* of an earlier process */
};

/*
 * Attaches in the current network namespace, which is the ns-th; what an earlier process attached
 * there gets the program instead. 0 or -errno.
 */
int fm_hooks_add(struct fm_hooks *hooks, unsigned int ns, uint32_t ifindex, enum fm_hook hook,
		 bool layer3);

void fm_hooks_remove(struct fm_hooks *hooks, unsigned int ns, uint32_t ifindex, enum fm_hook hook);

/*
 * Puts another generation's programs in the place of all attached ones, each in one step. 0, or
 * -errno of the first that failed; then what was replaced is put back.
 */
int fm_hooks_replace(struct fm_hooks *hooks, struct fm_generation *generation);

/* "tcx", "clsact" or "nothing". */
const char *fm_hooks_describe(const struct fm_hooks *hooks);

/* Takes everything off. */
void fm_hooks_done(struct fm_hooks *hooks);

/* Leaves everything attached, for a next process. */
void fm_hooks_leave(struct fm_hooks *hooks);

#endif
