/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Patterns of interface names: eth*, !docker0, veth0@NAMESPACE (fnmatch(3)). Used by interfaces.c.
 *
 * The order does not matter, an exclusion always wins. A pattern with @NAMESPACE speaks of the
 * network namespace /run/netns/NAMESPACE, one without of the daemon's own. In a namespace that is
 * spoken of by exclusions only, everything but these matches; in one that is not spoken of, nothing
 * does. No patterns at all: all of the daemon's own namespace. Loopback and devices that only show
 * others' packets again (ifb, nlmon) match by their full name only.
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

/*
 * Whether it can match anything: not empty, no slash or colon, 15 characters at most without a
 * wildcard, and a namespace that is a file's name. 0 or -EINVAL.
 */
int fm_pattern_check(const char *pattern);

/* The namespace part of a pattern, NULL: none. */
const char *fm_pattern_namespace(const char *pattern);

#endif
