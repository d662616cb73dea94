/* SPDX-License-Identifier: Apache-2.0 */
/*
 * One program at one hook of one device: TCX, or a filter of a clsact qdisc. Other people's
 * programs, filters and qdiscs are never touched. Called by hooks.c in the device's namespace.
 */
#ifndef FM_ATTACH_H
#define FM_ATTACH_H

#include <stdbool.h>
#include <stdint.h>

#include "bpf/abi.h"
#include "daemon/config.h"

struct fm_attachment {
	unsigned int ns;
	uint32_t ifindex;
	enum fm_hook hook;
	bool layer3;
	bool tcx;
	int link_fd;	   /* tcx */
	bool made_qdisc;   /* clsact: the qdisc was not there before */
	uint32_t priority; /* clsact */
};

/*
 * Attaches program_fd: at ingress before all others, since they may drop or redirect; at egress
 * behind them. 0 or -errno (-ENODEV: no such device).
 */
int fm_attach(struct fm_attachment *ret, uint32_t ifindex, enum fm_hook hook, int program_fd,
	      enum fm_attach_mode mode);

/* Puts another program in its place in one step: no packet passes between, none passes both. */
int fm_attach_replace(struct fm_attachment *attachment, int program_fd);

void fm_detach(struct fm_attachment *attachment);

#endif
