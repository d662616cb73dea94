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
/* FM_KEY_EGRESS takes the bit above. */
#define FM_INTERFACES_NAMESPACES 128

/* Where fm_device.link is. */
#define FM_LINK_SAME   0    /* the device's own namespace */
#define FM_LINK_AWAY   (-1) /* one that is not followed */
#define FM_LINK_IN(ns) ((ns) + 1)

struct fm_device {
	unsigned int ns;
	uint32_t ifindex;
	char name[IFNAMSIZ];
	char alias[64];
	unsigned short arphrd;
	bool up;
	char kind[16];	 /* empty: hardware, loopback */
	uint32_t master; /* 0: none */
	uint32_t link;	 /* lower device or peer; 0: none */
	int link_ns;	 /* FM_LINK_* */
	uint16_t vlan;	 /* kind vlan */
	uint32_t table;	 /* of routes; kind vrf */
	uint64_t speed;	 /* bits a second; 0: not known */
};

struct fm_plan {
	bool ingress, egress; /* hooked there */
	bool layer3;	      /* packets without a link-layer header */
	bool seen;	      /* what came in here was counted on its way in */
	bool covered;	      /* its packets pass others that are hooked */
	bool mixed;	      /* covered, but not all of its packets pass hooked ones */
	bool foreign;	      /* matches, but its packets have a header that nobody here reads */
};

/*
 * What to do with each device of all namespaces. Pure: the once-rule is here and nowhere else; see
 * interfaces-plan.c. names: of the namespaces by index, the daemon's own is NULL. 0 or -ENOMEM.
 */
int fm_interfaces_plan(const struct fm_device *devices, size_t n, const struct fm_names *patterns,
		       const char *const *names, enum fm_observe observe, struct fm_plan *ret);

struct fm_interfaces_ops {
	/* In the device's network namespace; its hooks mark packets from then on. 0 or -errno. */
	int (*attach)(void *userdata, const struct fm_device *device, enum fm_hook hook,
		      bool layer3);
	/* In any namespace, all of them; the device may be gone. */
	void (*detach)(void *userdata, unsigned int ns, uint32_t ifindex, enum fm_hook hook);
	void (*set_marks)(void *userdata, unsigned int ns, uint32_t ifindex, bool marks);
	void (*set_seen)(void *userdata, unsigned int ns, uint32_t ifindex, enum fm_seen seen);
	/* What an earlier process left. */
	enum fm_seen (*get_seen)(void *userdata, unsigned int ns, uint32_t ifindex);
	/* Asks for fm_interfaces_passed() when all packets that are at a hook now have gone on.
	 * NULL: they have. */
	void (*pass)(void *userdata);
	/* The name of the ns-th namespace, as an earlier process had it: NULL, none. And a new one.
	 * NULL: nothing outlives this. */
	const char *(*name)(void *userdata, unsigned int ns);
	void (*named)(void *userdata, unsigned int ns, const char *name);
	/* After something was attached or detached, came, went, was renamed or changed otherwise in
	 * what is told of it. */
	void (*changed)(void *userdata);
};

struct fm_interfaces;

/*
 * Attaches to all that is there, then follows. patterns must outlive it or be replaced. A device
 * that cannot be attached to, or a namespace that cannot be entered, is logged and tried again; 0
 * or -errno: the daemon's own namespace cannot be read.
 */
int fm_interfaces_new(struct fm_interfaces **ret, sd_event *event, const struct fm_names *patterns,
		      enum fm_observe observe, const struct fm_interfaces_ops *ops, void *userdata);

/* Other patterns: only differences are attached and detached. 0 or -errno. */
int fm_interfaces_reconfigure(struct fm_interfaces *interfaces, const struct fm_names *patterns,
			      enum fm_observe observe);

/* What ops->pass asked for has come about. */
void fm_interfaces_passed(struct fm_interfaces *interfaces);

/* Detaches everything: no packet is counted twice by that. */
struct fm_interfaces *fm_interfaces_free(struct fm_interfaces *interfaces);
FM_DEFINE_CLEANUP(struct fm_interfaces *, fm_interfaces_free)

/* Stops to follow, and leaves all that is attached as it is. */
struct fm_interfaces *fm_interfaces_leave(struct fm_interfaces *interfaces);

/*
 * Each device of the namespaces that are followed, also those that are not hooked: a packet that
 * leaves by a hooked device may have come in by any. plan: what is attached and seen at present.
 */
void fm_interfaces_for_each(struct fm_interfaces *interfaces,
			    void (*fn)(void *argument, const struct fm_device *device,
				       const struct fm_plan *plan),
			    void *argument);

/* The name of the ns-th namespace; NULL: the daemon's own. */
const char *fm_interfaces_namespace(const struct fm_interfaces *interfaces, unsigned int ns);

/* What a device itself counted, read now. 0 or -errno. */
struct fm_link_counters;
int fm_interfaces_counters(struct fm_interfaces *interfaces, unsigned int ns, uint32_t ifindex,
			   struct fm_link_counters *ret);

/* Hooks that could not be attached when last tried; for tests. */
size_t fm_interfaces_failed(const struct fm_interfaces *interfaces);

#endif
