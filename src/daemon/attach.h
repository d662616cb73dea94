/* SPDX-License-Identifier: Apache-2.0 */
/*
 * One program at one hook of one device: TCX, or a filter of a clsact qdisc. Other people's
 * programs, filters and qdiscs are never touched. Called by hooks.c, to attach in the device's
 * network namespace, else anywhere. clsact needs CAP_NET_ADMIN, TCX only a program that is loaded.
 */
#ifndef FM_ATTACH_H
#define FM_ATTACH_H

#include <stdbool.h>
#include <stdint.h>

#include "base/cleanup.h"
#include "bpf/abi.h"
#include "daemon/clsact.h"
#include "daemon/config.h"
#include "daemon/store.h"

struct fm_attachment {
	unsigned int ns;
	uint32_t ifindex;
	enum fm_hook hook;
	bool layer3;
	bool tcx;
	char kept[FM_STORE_NAME_MAX]; /* name of the link in the store; empty: not there */
	int link_fd;		      /* tcx */
	struct fm_clsact clsact;      /* else */
};

/*
 * Attaches program_fd before all others: what they drop or redirect has been here, and what they
 * accept would not come here any more (TC_ACT_OK ends the walk, at egress as well). Auto: TCX,
 * where the kernel refuses its attach type clsact. A filter that an earlier run left is replaced. 0
 * or -errno: ENODEV no such device, EPERM, EINVAL or EOPNOTSUPP not with this kernel, EBUSY
 * (clsact) an ingress qdisc is there.
 */
int fm_attach(struct fm_attachment *ret, uint32_t ifindex, enum fm_hook hook, int program_fd,
	      enum fm_attach_mode mode);

/*
 * Goes on with a TCX link that an earlier process made, with another program, in one step. 0: the
 * descriptor is the attachment's; -EINVAL it is no such link, -ENOLINK the device is gone, -errno.
 */
int fm_attach_adopt(struct fm_attachment *ret, uint32_t ifindex, enum fm_hook hook, int link_fd,
		    int program_fd);

/*
 * Puts another program in its place in one step: no packet passes between, none passes both. Under
 * clsact, what somebody else removed is attached anew. 0 or -errno (ENODEV, ENOLINK: the device is
 * gone).
 */
int fm_attach_replace(struct fm_attachment *attachment, int program_fd);

/* Takes the program off; a device that is gone is no error. */
void fm_detach(struct fm_attachment *attachment);

/* Lets go of it as it is: a link stays if the store has it, a filter in any case. */
void fm_attach_leave(struct fm_attachment *attachment);

/*
 * Removes what a killed run left on a device of the current namespace: its filters, and the qdisc
 * if it came with them. TCX leaves nothing. Number of filters or -errno.
 */
int fm_attach_purge(uint32_t ifindex);

#endif
