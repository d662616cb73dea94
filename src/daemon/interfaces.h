/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Network devices: which there are, which are hooked, which are covered by others; kept true as
 * devices come, go, move and are stacked. Owned by the manager, which gets told what to attach.
 */
#ifndef FM_INTERFACES_H
#define FM_INTERFACES_H

#include <net/if.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include <systemd/sd-event.h>

#include "base/cleanup.h"
#include "bpf/abi.h"
#include "daemon/config.h"

/* Interface indexes of the ns-th network namespace begin here, the daemon's own is the 0th. */
#define FM_INTERFACES_BASE(ns) ((uint32_t)(ns) << 24)

struct fm_device {
	unsigned int ns;
	uint32_t ifindex;
	char name[IFNAMSIZ];
	char alias[64];
	unsigned short arphrd;
	char kind[16];
	uint32_t master; /* 0: none */
	uint32_t link;	 /* lower device or veth peer; 0: none, or in another namespace */
};

struct fm_plan {
	bool ingress, egress; /* hooked there */
	bool layer3;	      /* packets without a link-layer header */
	bool seen;	      /* what came in here was counted on its way in */
};

/*
 * What to do with each device of one namespace. Pure. Once: only the lowest matching devices are
 * hooked, what is stacked on them is covered. ns: name of the namespace, NULL: the daemon's own.
 */
void fm_interfaces_plan(const struct fm_device *devices, size_t n, const struct fm_names *patterns,
			const char *ns, enum fm_observe observe, struct fm_plan *ret);

struct fm_interfaces_ops {
	/* In the device's network namespace. 0 or -errno. */
	int (*attach)(void *userdata, const struct fm_device *device, enum fm_hook hook,
		      bool layer3);
	void (*detach)(void *userdata, unsigned int ns, uint32_t ifindex, enum fm_hook hook);
	void (*set_seen)(void *userdata, unsigned int ns, uint32_t ifindex, bool seen);
	/* After something was attached, detached or renamed. */
	void (*changed)(void *userdata);
};

struct fm_interfaces;

/* Attaches to all that is there, then follows. patterns must outlive it or be replaced. */
int fm_interfaces_new(struct fm_interfaces **ret, sd_event *event, const struct fm_names *patterns,
		      enum fm_observe observe, const struct fm_interfaces_ops *ops, void *userdata);

/* Other patterns: only differences are attached and detached. 0 or -errno. */
int fm_interfaces_reconfigure(struct fm_interfaces *interfaces, const struct fm_names *patterns,
			      enum fm_observe observe);

/* Detaches everything. */
struct fm_interfaces *fm_interfaces_free(struct fm_interfaces *interfaces);
FM_DEFINE_CLEANUP(struct fm_interfaces *, fm_interfaces_free)

/* Each device that is hooked. */
void fm_interfaces_for_each(struct fm_interfaces *interfaces,
			    void (*fn)(void *argument, const struct fm_device *device,
				       const struct fm_plan *plan),
			    void *argument);

#endif
