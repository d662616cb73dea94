/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Sets of values that a packet may have in one dimension (bpf/filter.h): addresses, ports,
 * protocols, tags, flags. Equal sets of a pool are one object, compared by address; the set of
 * every value is NULL. What a pool takes is bounded: whoever writes rules cannot use up memory or
 * time with them. Used by filter-rules.c and filter-compile.c.
 */
#ifndef FM_FILTER_SET_H
#define FM_FILTER_SET_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/cleanup.h"

/* A value; only addresses need all of it. */
struct fm_filter_point {
	uint64_t high, low;
};

/* From the first point on values are in it, from the second on they are not, and so on. */
struct fm_filter_set {
	struct fm_filter_set *next; /* of the same hash */
	bool kept;
	size_t n;
	struct fm_filter_point point[];
};

/* Addresses of both families; those of IPv4 are mapped (::ffff:a.b.c.d). */
struct fm_prefix {
	struct fm_filter_point first;
	unsigned int length;
};

struct fm_prefixes {
	struct fm_prefix *v;
	size_t n, capacity;
};

int fm_prefixes_add(struct fm_prefixes *prefixes, struct fm_prefix prefix);
/* By address, then by length, none twice. */
void fm_prefixes_sort(struct fm_prefixes *prefixes);
void fm_prefixes_done(struct fm_prefixes *prefixes);

static inline int fm_filter_point_compare(struct fm_filter_point a, struct fm_filter_point b)
{
	if (a.high != b.high)
		return a.high < b.high ? -1 : 1;
	return a.low < b.low ? -1 : a.low > b.low;
}

/* That of all IPv4 addresses. */
static inline struct fm_prefix fm_prefix_ip4(void)
{
	return (struct fm_prefix){{0, 0xffff00000000}, 96};
}

bool fm_prefix_is_ip4(struct fm_prefix prefix);

/* For qsort: by address, then by length. */
int fm_prefix_compare(const void *a, const void *b);

/* The last address of a prefix. */
struct fm_filter_point fm_prefix_last(struct fm_prefix prefix);
/* The next value; false: there is none. */
bool fm_filter_point_next(struct fm_filter_point *point);
struct fm_filter_point fm_filter_point_of(const uint8_t addr[16]);
void fm_filter_point_write(struct fm_filter_point point, uint8_t ret[16]);

struct fm_filter_pool;

int fm_filter_pool_new(struct fm_filter_pool **ret);
struct fm_filter_pool *fm_filter_pool_free(struct fm_filter_pool *pool);
FM_DEFINE_CLEANUP(struct fm_filter_pool *, fm_filter_pool_free)

/* What is not to go when the pool is swept: sets on the way to others are many. NULL is nothing. */
void fm_filter_set_keep(const struct fm_filter_set *set);
void fm_filter_pool_sweep(struct fm_filter_pool *pool);

/*
 * All return 0, -ENOMEM or -E2BIG: more than a pool takes. Numbers from first to last, where top is
 * the greatest of the dimension.
 */
int fm_filter_set_numbers(struct fm_filter_pool *pool, unsigned int first, unsigned int last,
			  unsigned int top, const struct fm_filter_set **ret);
/* The prefixes are sorted by it. One of IPv6 that holds all of IPv4's stands for IPv6 only. */
int fm_filter_set_prefixes(struct fm_filter_pool *pool, struct fm_prefixes *prefixes,
			   const struct fm_filter_set **ret);
int fm_filter_set_invert(struct fm_filter_pool *pool, const struct fm_filter_set *set,
			 const struct fm_filter_set **ret);
/* What is in one of them, in both of them. */
int fm_filter_set_join(struct fm_filter_pool *pool, const struct fm_filter_set *a,
		       const struct fm_filter_set *b, const struct fm_filter_set **ret);
int fm_filter_set_meet(struct fm_filter_pool *pool, const struct fm_filter_set *a,
		       const struct fm_filter_set *b, const struct fm_filter_set **ret);

static inline bool fm_filter_set_is_empty(const struct fm_filter_set *set)
{
	return set && !set->n;
}

bool fm_filter_set_has(const struct fm_filter_set *set, struct fm_filter_point value);
/* Also of two pools. */
bool fm_filter_set_equal(const struct fm_filter_set *a, const struct fm_filter_set *b);

#endif
