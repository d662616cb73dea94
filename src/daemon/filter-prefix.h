/* SPDX-License-Identifier: Apache-2.0 */
/* Addresses and prefixes as people write them, one or a file of them. Used by filter-expression.c.
 */
#ifndef FM_FILTER_PREFIX_H
#define FM_FILTER_PREFIX_H

#include <stdbool.h>

#include "base/buf.h"
#include "daemon/filter-set.h"

/*
 * An address, or unless it is to be a host, address/length; of both families. 0 or -EINVAL: what
 * was expected is said.
 */
int fm_prefix_parse(const char *text, bool host, struct fm_prefix *ret, struct fm_buf *expected);

/*
 * A file of prefixes, one a line; # begins a comment. They are added to those there are. 0 or
 * -errno: complaint names file and line.
 */
int fm_prefixes_load(const char *path, struct fm_prefixes *prefixes, struct fm_buf *complaint);

#endif
