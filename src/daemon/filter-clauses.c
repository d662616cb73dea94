/* SPDX-License-Identifier: Apache-2.0 */
/* Lists of clauses: see filter-clauses.h. */
#include "daemon/filter-clauses.h"

#include <errno.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>

#include "base/macro.h"

#define CLAUSES_MAX (FM_FILTER_CLAUSES - 1)
#define WORDS	    (FM_FILTER_PATTERNS / 64)

static bool is_empty(const struct fm_filter_clause *clause)
{
	for (unsigned int i = 0; i < FM_BY_INTERFACE; i++)
		if (fm_filter_set_is_empty(clause->set[i]))
			return true;
	for (unsigned int i = 0; i < WORDS; i++)
		if (clause->where.all[i] & clause->where.none[i])
			return true;
	return !clause->where.hooks;
}

/* Whether the interfaces at the hooks of b are among those of a. */
static bool where_covers(const struct fm_filter_where *a, const struct fm_filter_where *b)
{
	for (unsigned int i = 0; i < WORDS; i++)
		if ((a->all[i] & ~b->all[i]) || (a->none[i] & ~b->none[i]))
			return false;
	return !(b->hooks & ~a->hooks);
}

/* Whether a surely holds for every packet that b holds for. */
static bool covers(const struct fm_filter_clause *a, const struct fm_filter_clause *b)
{
	for (unsigned int i = 0; i < FM_BY_INTERFACE; i++)
		if (a->set[i] && a->set[i] != b->set[i])
			return false;
	return where_covers(&a->where, &b->where);
}

/* The only dimension in which they differ; _FM_BY_MAX: they do in several. */
static unsigned int difference(const struct fm_filter_clause *a, const struct fm_filter_clause *b)
{
	unsigned int found = FM_BY_INTERFACE, n = 0;

	for (unsigned int i = 0; i < FM_BY_INTERFACE; i++)
		if (a->set[i] != b->set[i]) {
			found = i;
			n++;
		}
	if (memcmp(a->where.all, b->where.all, sizeof(a->where.all)) ||
	    memcmp(a->where.none, b->where.none, sizeof(a->where.none)))
		return _FM_BY_MAX;
	n += a->where.hooks != b->where.hooks;
	return n == 1 ? found : _FM_BY_MAX;
}

static void remove_clause(struct fm_clauses *clauses, size_t at)
{
	clauses->v[at] = clauses->v[--clauses->n];
}

static int append(struct fm_clauses *clauses, const struct fm_filter_clause *clause)
{
	if (clauses->n == clauses->capacity) {
		size_t capacity = clauses->capacity ? clauses->capacity * 2 : 4;
		struct fm_filter_clause *grown = reallocarray(clauses->v, capacity, sizeof(*grown));

		if (!grown)
			return -ENOMEM;
		clauses->v = grown;
		clauses->capacity = capacity;
	}
	clauses->v[clauses->n++] = *clause;
	return 0;
}

int fm_clauses_add(struct fm_filter_pool *pool, struct fm_clauses *clauses,
		   const struct fm_filter_clause *clause)
{
	struct fm_filter_clause made = *clause;

	if (is_empty(&made))
		return 0;
	/* What two became may go with what was there before. */
	for (size_t i = 0; i < clauses->n;) {
		const struct fm_filter_clause *other = &clauses->v[i];
		unsigned int by;
		int r;

		if (covers(other, &made))
			return 0;
		by = difference(other, &made);
		if (by < FM_BY_INTERFACE) {
			r = fm_filter_set_join(pool, other->set[by], made.set[by], &made.set[by]);
			if (r < 0)
				return r;
		} else if (by == FM_BY_INTERFACE) {
			made.where.hooks |= other->where.hooks;
		}
		if (by == _FM_BY_MAX && !covers(&made, other)) {
			i++;
			continue;
		}
		remove_clause(clauses, i);
		i = by == _FM_BY_MAX ? i : 0;
	}
	return clauses->n < CLAUSES_MAX ? append(clauses, &made) : -E2BIG;
}

int fm_clauses_join(struct fm_filter_pool *pool, struct fm_clauses *clauses,
		    const struct fm_clauses *others)
{
	int r = 0;

	for (size_t i = 0; i < others->n && r == 0; i++)
		r = fm_clauses_add(pool, clauses, &others->v[i]);
	return r;
}

static int meet(struct fm_filter_pool *pool, const struct fm_filter_clause *a,
		const struct fm_filter_clause *b, struct fm_filter_clause *ret)
{
	*ret = *a;
	for (unsigned int i = 0; i < FM_BY_INTERFACE; i++) {
		int r = fm_filter_set_meet(pool, a->set[i], b->set[i], &ret->set[i]);

		if (r < 0)
			return r;
		if (fm_filter_set_is_empty(ret->set[i]))
			return 0;
	}
	for (unsigned int i = 0; i < WORDS; i++) {
		ret->where.all[i] |= b->where.all[i];
		ret->where.none[i] |= b->where.none[i];
	}
	ret->where.hooks &= b->where.hooks;
	return 0;
}

int fm_clauses_meet(struct fm_filter_pool *pool, struct fm_clauses *clauses,
		    const struct fm_clauses *others)
{
	_fm_cleanup_clauses_ struct fm_clauses met = {};

	for (size_t i = 0; i < clauses->n; i++)
		for (size_t j = 0; j < others->n; j++) {
			struct fm_filter_clause clause;
			int r = meet(pool, &clauses->v[i], &others->v[j], &clause);

			if (r == 0)
				r = fm_clauses_add(pool, &met, &clause);
			if (r < 0)
				return r;
		}
	fm_clauses_done(clauses);
	*clauses = met;
	met = (struct fm_clauses){};
	return 0;
}

int fm_clauses_append(struct fm_clauses *clauses, const struct fm_clauses *others)
{
	size_t before = clauses->n;

	for (size_t i = 0; i < others->n; i++) {
		int r = append(clauses, &others->v[i]);

		if (r < 0) {
			clauses->n = before;
			return r;
		}
	}
	return 0;
}

void fm_clauses_done(struct fm_clauses *clauses)
{
	free(clauses->v);
	*clauses = (struct fm_clauses){};
}
