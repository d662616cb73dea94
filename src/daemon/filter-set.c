/* SPDX-License-Identifier: Apache-2.0 */
/* Sets of values of a dimension: see filter-set.h. */
#include "daemon/filter-set.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "base/macro.h"

#define BUCKETS 4096
/* Points that all sets of a pool have (128 MiB), and that are looked at to make them (a second). */
#define POINTS_MAX ((size_t)1 << 23)
#define WORK_MAX   ((size_t)1 << 28)

struct fm_filter_pool {
	struct fm_filter_set *bucket[BUCKETS];
	size_t n_points, work;
	/* A set that is being made. */
	struct fm_filter_point *scratch;
	size_t n_scratch, capacity;
};

/* --- values --- */

bool fm_filter_point_next(struct fm_filter_point *point)
{
	if (++point->low)
		return true;
	return ++point->high != 0;
}

struct fm_filter_point fm_prefix_last(struct fm_prefix prefix)
{
	struct fm_filter_point last = prefix.first;

	if (prefix.length <= 64) {
		last.high |= prefix.length < 64 ? UINT64_MAX >> prefix.length : 0;
		last.low = UINT64_MAX;
	} else if (prefix.length < 128) {
		last.low |= UINT64_MAX >> (prefix.length - 64);
	}
	return last;
}

struct fm_filter_point fm_filter_point_of(const uint8_t addr[16])
{
	struct fm_filter_point point = {};

	for (unsigned int i = 0; i < 8; i++) {
		point.high = point.high << 8 | addr[i];
		point.low = point.low << 8 | addr[8 + i];
	}
	return point;
}

void fm_filter_point_write(struct fm_filter_point point, uint8_t ret[16])
{
	for (unsigned int i = 0; i < 8; i++) {
		ret[i] = (uint8_t)(point.high >> (56 - 8 * i));
		ret[8 + i] = (uint8_t)(point.low >> (56 - 8 * i));
	}
}

/* --- prefixes --- */

int fm_prefixes_add(struct fm_prefixes *prefixes, struct fm_prefix prefix)
{
	if (prefixes->n == prefixes->capacity) {
		size_t capacity = prefixes->capacity ? prefixes->capacity * 2 : 16;
		struct fm_prefix *grown = reallocarray(prefixes->v, capacity, sizeof(*grown));

		if (!grown)
			return -ENOMEM;
		prefixes->v = grown;
		prefixes->capacity = capacity;
	}
	prefixes->v[prefixes->n++] = prefix;
	return 0;
}

int fm_prefix_compare(const void *a, const void *b)
{
	const struct fm_prefix *x = a, *y = b;
	int order = fm_filter_point_compare(x->first, y->first);

	return order ? order : (int)x->length - (int)y->length;
}

void fm_prefixes_sort(struct fm_prefixes *prefixes)
{
	size_t kept = 0;

	if (!prefixes->n)
		return;
	qsort(prefixes->v, prefixes->n, sizeof(*prefixes->v), fm_prefix_compare);
	for (size_t i = 1; i < prefixes->n; i++)
		if (fm_prefix_compare(&prefixes->v[kept], &prefixes->v[i]))
			prefixes->v[++kept] = prefixes->v[i];
	prefixes->n = kept + 1;
}

void fm_prefixes_done(struct fm_prefixes *prefixes)
{
	free(prefixes->v);
	*prefixes = (struct fm_prefixes){};
}

/* --- pools --- */

int fm_filter_pool_new(struct fm_filter_pool **ret)
{
	struct fm_filter_pool *pool = calloc(1, sizeof(*pool));

	if (!pool)
		return -ENOMEM;
	*ret = pool;
	return 0;
}

struct fm_filter_pool *fm_filter_pool_free(struct fm_filter_pool *pool)
{
	if (!pool)
		return NULL;
	for (size_t i = 0; i < BUCKETS; i++)
		while (pool->bucket[i]) {
			struct fm_filter_set *next = pool->bucket[i]->next;

			free(pool->bucket[i]);
			pool->bucket[i] = next;
		}
	free(pool->scratch);
	free(pool);
	return NULL;
}

void fm_filter_set_keep(const struct fm_filter_set *set)
{
	if (set)
		((struct fm_filter_set *)set)->kept = true;
}

void fm_filter_pool_sweep(struct fm_filter_pool *pool)
{
	for (size_t i = 0; i < BUCKETS; i++)
		for (struct fm_filter_set **at = &pool->bucket[i]; *at;) {
			struct fm_filter_set *set = *at;

			if (set->kept) {
				at = &set->next;
				continue;
			}
			*at = set->next;
			pool->n_points -= set->n;
			free(set);
		}
}

/* Room for a set of so many points, after so many were looked at. */
static int begin(struct fm_filter_pool *pool, size_t most)
{
	struct fm_filter_point *grown;

	pool->n_scratch = 0;
	pool->work += most;
	if (most > POINTS_MAX || pool->work > WORK_MAX)
		return -E2BIG;
	if (most <= pool->capacity)
		return 0;
	grown = reallocarray(pool->scratch, most, sizeof(*grown));
	if (!grown)
		return -ENOMEM;
	pool->scratch = grown;
	pool->capacity = most;
	return 0;
}

static void put(struct fm_filter_pool *pool, struct fm_filter_point point)
{
	pool->scratch[pool->n_scratch++] = point;
}

/* The set that was made, or the one of the pool that equals it. */
static int finish(struct fm_filter_pool *pool, const struct fm_filter_set **ret)
{
	size_t octets = pool->n_scratch * sizeof(*pool->scratch);
	uint64_t hash = pool->n_scratch;
	struct fm_filter_set *set, **bucket;

	if (pool->n_scratch == 1 && !pool->scratch[0].high && !pool->scratch[0].low) {
		*ret = NULL;
		return 0;
	}
	for (size_t i = 0; i < pool->n_scratch; i++) {
		hash = (hash ^ pool->scratch[i].high) * 0x9e3779b97f4a7c15;
		hash = (hash ^ hash >> 32 ^ pool->scratch[i].low) * 0x9e3779b97f4a7c15;
	}
	bucket = &pool->bucket[(hash >> 32) % BUCKETS];
	for (set = *bucket; set; set = set->next) {
		if (set->n != pool->n_scratch ||
		    (octets && memcmp(set->point, pool->scratch, octets)))
			continue;
		*ret = set;
		return 0;
	}
	if (pool->n_points + pool->n_scratch > POINTS_MAX)
		return -E2BIG;
	set = malloc(sizeof(*set) + octets);
	if (!set)
		return -ENOMEM;
	set->n = pool->n_scratch;
	set->kept = false;
	if (octets)
		memcpy(set->point, pool->scratch, octets);
	set->next = *bucket;
	*bucket = set;
	pool->n_points += set->n;
	*ret = set;
	return 0;
}

/* --- sets --- */

int fm_filter_set_numbers(struct fm_filter_pool *pool, unsigned int first, unsigned int last,
			  unsigned int top, const struct fm_filter_set **ret)
{
	int r = begin(pool, 2);

	if (r < 0)
		return r;
	put(pool, (struct fm_filter_point){0, first});
	if (last <
	    top) /* else nothing is behind it: so the set of all values is the same for all */
		put(pool, (struct fm_filter_point){0, last + 1});
	return finish(pool, ret);
}

int fm_filter_set_invert(struct fm_filter_pool *pool, const struct fm_filter_set *set,
			 const struct fm_filter_set **ret)
{
	struct fm_filter_point zero = {};
	bool has_zero = !set || (set->n && !fm_filter_point_compare(set->point[0], zero));
	int r = begin(pool, set ? set->n + 1 : 1);

	if (r < 0)
		return r;
	if (!has_zero)
		put(pool, zero);
	for (size_t i = has_zero; set && i < set->n; i++)
		put(pool, set->point[i]);
	return finish(pool, ret);
}

/* What is in as many of the two as it takes. */
static int combine(struct fm_filter_pool *pool, const struct fm_filter_set *a,
		   const struct fm_filter_set *b, unsigned int takes,
		   const struct fm_filter_set **ret)
{
	size_t i = 0, j = 0;
	bool inside = false;
	int r = begin(pool, a->n + b->n);

	if (r < 0)
		return r;
	while (i < a->n || j < b->n) {
		int order = i == a->n	? 1
			    : j == b->n ? -1
					: fm_filter_point_compare(a->point[i], b->point[j]);
		struct fm_filter_point at = order > 0 ? b->point[j] : a->point[i];

		i += order <= 0;
		j += order >= 0;
		if (((i & 1) + (j & 1) >= takes) == inside)
			continue;
		inside = !inside;
		put(pool, at);
	}
	return finish(pool, ret);
}

int fm_filter_set_join(struct fm_filter_pool *pool, const struct fm_filter_set *a,
		       const struct fm_filter_set *b, const struct fm_filter_set **ret)
{
	if (a && b && a != b)
		return combine(pool, a, b, 1, ret);
	*ret = b ? a : b;
	return 0;
}

int fm_filter_set_meet(struct fm_filter_pool *pool, const struct fm_filter_set *a,
		       const struct fm_filter_set *b, const struct fm_filter_set **ret)
{
	if (a && b && a != b)
		return combine(pool, a, b, 2, ret);
	*ret = a ? a : b;
	return 0;
}

bool fm_prefix_is_ip4(struct fm_prefix prefix)
{
	struct fm_prefix ip4 = fm_prefix_ip4();

	return prefix.length >= ip4.length && prefix.first.high == ip4.first.high &&
	       prefix.first.low >> 32 == ip4.first.low >> 32;
}

/* Of sorted prefixes those of one family. */
static int join_prefixes(struct fm_filter_pool *pool, const struct fm_prefixes *prefixes,
			 bool of_ip4, const struct fm_filter_set **ret)
{
	bool open = false; /* the last point is where the prefixes so far end */
	int r = begin(pool, 2 * prefixes->n);

	if (r < 0)
		return r;
	for (size_t i = 0; i < prefixes->n; i++) {
		struct fm_filter_point first = prefixes->v[i].first,
				       end = fm_prefix_last(prefixes->v[i]);

		if (fm_prefix_is_ip4(prefixes->v[i]) != of_ip4)
			continue;
		if (open) {
			int order =
				fm_filter_point_compare(first, pool->scratch[pool->n_scratch - 1]);

			if (order < 0) /* inside of the one before */
				continue;
			if (!order) /* where it ends */
				pool->n_scratch--;
			else
				put(pool, first);
		} else {
			put(pool, first);
		}
		open = fm_filter_point_next(&end);
		if (!open) /* nothing comes behind it */
			break;
		put(pool, end);
	}
	return finish(pool, ret);
}

int fm_filter_set_prefixes(struct fm_filter_pool *pool, struct fm_prefixes *prefixes,
			   const struct fm_filter_set **ret)
{
	struct fm_prefix all = fm_prefix_ip4();
	struct fm_prefixes one = {&all, 1, 1};
	const struct fm_filter_set *ip4 = NULL, *ip6 = NULL, *not_ip4;
	int r;

	fm_prefixes_sort(prefixes);
	r = join_prefixes(pool, &one, true, &not_ip4);
	if (r == 0)
		r = fm_filter_set_invert(pool, not_ip4, &not_ip4);
	if (r == 0)
		r = join_prefixes(pool, prefixes, false, &ip6);
	if (r == 0)
		r = fm_filter_set_meet(pool, ip6, not_ip4, &ip6);
	if (r == 0)
		r = join_prefixes(pool, prefixes, true, &ip4);
	return r < 0 ? r : fm_filter_set_join(pool, ip4, ip6, ret);
}

bool fm_filter_set_has(const struct fm_filter_set *set, struct fm_filter_point value)
{
	size_t low = 0, high;

	if (!set)
		return true;
	/* How many points are not behind the value. */
	for (high = set->n; low < high;) {
		size_t middle = low + (high - low) / 2;

		if (fm_filter_point_compare(set->point[middle], value) <= 0)
			low = middle + 1;
		else
			high = middle;
	}
	return low & 1;
}

bool fm_filter_set_equal(const struct fm_filter_set *a, const struct fm_filter_set *b)
{
	if (!a || !b)
		return a == b;
	return a->n == b->n && (!a->n || !memcmp(a->point, b->point, a->n * sizeof(*a->point)));
}
