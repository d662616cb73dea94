/* SPDX-License-Identifier: Apache-2.0 */
/*
 * One filter of ours on a clsact qdisc, for kernels without TCX. Called by attach.c.
 *
 * Ours is what has kind bpf, a handle of ours and a name of ours; nothing else is ever changed. The
 * handle also tells whether the qdisc came with us, so that a later run, after a kill, still knows.
 */
#ifndef FM_CLSACT_H
#define FM_CLSACT_H

#include <stdbool.h>
#include <stdint.h>

#include "bpf/abi.h"

struct fm_clsact {
	int netlink_fd; /* owned; belongs to the device's network namespace */
	uint32_t ifindex;
	enum fm_hook hook;
	uint16_t priority;
	uint32_t handle;
};

/*
 * Adds the filter in front of all others that leave room for it, in the current network namespace;
 * one left by an earlier run is replaced. 0 or -errno: ENODEV no such device, EBUSY an ingress
 * qdisc sits where clsact would, EPERM, EINVAL no room.
 */
int fm_clsact_attach(struct fm_clsact *ret, int program_fd, uint32_t ifindex, enum fm_hook hook);

/*
 * Another program in the same place, in one step; attached anew where somebody else removed the
 * filter or the qdisc. Any namespace. 0 or -errno.
 */
int fm_clsact_replace(struct fm_clsact *clsact, int program_fd);

/*
 * Removes the filter, and the qdisc if it came with us and nothing is on it. Any namespace. 0, also
 * if all of it is gone already, or -errno.
 */
int fm_clsact_detach(struct fm_clsact *clsact);

/* Lets go of it without removing anything: a next process replaces the filter. */
void fm_clsact_leave(struct fm_clsact *clsact);

/* Removes all that an earlier run left on a device of the current namespace. Number of filters or
 * -errno. */
int fm_clsact_purge(uint32_t ifindex);

#endif
