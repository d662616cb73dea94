/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Names that are not of an interface: applications by port (services.h) and VRFs, devices of that
 * kind. Tells what collectors are told of them, and which of them a flow record belongs to. Owned
 * by the manager.
 *
 * A VRF's id is the number of its routing table, in a network namespace that is not the daemon's
 * own the lower 24 bits of it over FM_INTERFACES_BASE. An interface belongs to the VRF that its
 * master is or that its master's master is; tagged packets to that of the VLAN device on it.
 */
#ifndef FM_NAMING_H
#define FM_NAMING_H

#include <stddef.h>
#include <stdint.h>

#include "base/cleanup.h"
#include "daemon/interfaces.h"
#include "ipfix/options.h"
#include "ipfix/record.h"

struct fm_naming;

int fm_naming_new(struct fm_naming **ret);
struct fm_naming *fm_naming_free(struct fm_naming *naming);
FM_DEFINE_CLEANUP(struct fm_naming *, fm_naming_free)

/* Reads the names of applications (again); path empty: none. 0 or -errno: those before stay. */
int fm_naming_read(struct fm_naming *naming, const char *path);

/* What VRFs there are. 0 or -ENOMEM: what was known stays. */
int fm_naming_follow(struct fm_naming *naming, struct fm_interfaces *interfaces);
/* The same of devices, by namespace and index; for tests. */
int fm_naming_devices(struct fm_naming *naming, const struct fm_device *devices, size_t n);

/* All below: naming may be NULL, there are no names then. */

/* Sets what a record belongs to. */
void fm_naming_set(const struct fm_naming *naming, struct fm_record *record);

/* The VRF of an interface and what is tagged so on it (0: untagged); 0: none. */
uint32_t fm_naming_vrf(const struct fm_naming *naming, uint32_t ifindex, uint16_t vlan);

size_t fm_naming_vrfs(const struct fm_naming *naming, const struct fm_vrf_record **ret);
size_t fm_naming_applications(const struct fm_naming *naming,
			      const struct fm_application_record **ret);

#endif
