/* SPDX-License-Identifier: Apache-2.0 */
/* Addresses and prefixes as people write them, one or a file of them. Used by filter-expression.c
 * and prefix-map.c.
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

/* A prefix of a file, and the number behind it; 0: none. 0 or -ENOMEM. */
typedef int (*fm_prefix_fn)(void *userdata, struct fm_prefix prefix, uint32_t number);

/*
 * Reads a file of prefixes, one a line, behind it perhaps a number from 1 on; # begins a comment. 0
 * or -errno: complaint names file and line.
 */
int fm_prefix_file_read(const char *path, bool numbers, fm_prefix_fn fn, void *userdata,
			struct fm_buf *complaint);

/* The same without numbers; they are added to those there are. */
int fm_prefixes_load(const char *path, struct fm_prefixes *prefixes, struct fm_buf *complaint);

#endif
