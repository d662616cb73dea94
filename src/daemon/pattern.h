/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Patterns of interface names: eth*, !docker0, veth0@NAMESPACE. Used by interfaces.c.
 *
 * An exclusion always wins. Only exclusions: everything but these. Loopback and devices that only
 * copy others' packets (ifb, nlmon) match by their full name only. A name with @NAMESPACE is one in
 * the network namespace /run/netns/NAMESPACE; those are never matched by anything else.
 */
#ifndef FM_PATTERN_H
#define FM_PATTERN_H

#include <stdbool.h>
#include <stddef.h>

#include "daemon/config.h"

/*
 * Whether the patterns name the interface. ns: its namespace's name, NULL: the daemon's own.
 * special: it matches by its full name only.
 */
bool fm_pattern_match(const struct fm_names *patterns, const char *ns, const char *name,
		      bool special);

/* The namespace part of a pattern, NULL: none. */
const char *fm_pattern_namespace(const char *pattern);

#endif
