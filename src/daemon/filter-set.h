/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Sets of values that a packet may have in one dimension (bpf/filter.h): addresses, ports,
 * protocols, tags, flags. Equal sets are one object, so that they are compared by address.
 */
#ifndef FM_FILTER_SET_H
#define FM_FILTER_SET_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/cleanup.h"

/* Values beside the numbers that a dimension has. */
#define FM_FILTER_NO_PORT  65536
#define FM_FILTER_NO_FLAGS 256

/* A value; only addresses need all of it. */
struct fm_filter_point {
	uint64_t high, low;
};

/* Where what is in it and what is not take turns: first what is not, from the first point what is.
 */
struct fm_filter_set {
	size_t n;
	struct fm_filter_set *next; /* of the same hash */
	struct fm_filter_point point[];
};

/* A prefix of mapped addresses. */
struct fm_filter_range {
	struct fm_filter_point first;
	unsigned int length;
};

struct fm_filter_nets {
	struct fm_filter_range *v;
	size_t n, capacity;
};

struct fm_filter_pool;

#endif
