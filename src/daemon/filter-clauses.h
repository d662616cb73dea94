/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Clauses: what is said of a packet dimension by dimension. A list of them holds for a packet if
 * one does; an empty list for none. Used by filter-rules.c and filter-expression.c.
 */
#ifndef FM_FILTER_CLAUSES_H
#define FM_FILTER_CLAUSES_H

#include <stddef.h>
#include <stdint.h>

#include "base/cleanup.h"
#include "bpf/abi.h"
#include "daemon/filter-set.h"

#define FM_FILTER_PATTERNS 256
#define FM_FILTER_HOOKS	   ((1u << FM_HOOK_INGRESS) | (1u << FM_HOOK_EGRESS))

/* The numbers of a dimension's values: the greatest, and those that are no number of the packet. */
#define FM_FILTER_NO_PORT      65536
#define FM_FILTER_PORT_TOP     FM_FILTER_NO_PORT
#define FM_FILTER_IP6	       256 /* protocols of IPv6 begin here */
#define FM_FILTER_PROTOCOL_TOP 511
#define FM_FILTER_VLAN_TOP     4095
#define FM_FILTER_NO_FLAGS     256
#define FM_FILTER_FLAGS_TOP    FM_FILTER_NO_FLAGS

/* Interfaces that match all of some patterns and none of others, at some hooks. */
struct fm_filter_where {
	uint64_t all[FM_FILTER_PATTERNS / 64], none[FM_FILTER_PATTERNS / 64]; /* a bit a pattern */
	unsigned int hooks; /* bits 1 << enum fm_hook */
};

struct fm_filter_clause {
	const struct fm_filter_set *set[FM_BY_INTERFACE]; /* NULL: every value */
	struct fm_filter_where where;
};

struct fm_clauses {
	struct fm_filter_clause *v;
	size_t n, capacity;
};

/* One that holds for every packet. */
static inline struct fm_filter_clause fm_clause_any(void)
{
	return (struct fm_filter_clause){.where.hooks = FM_FILTER_HOOKS};
}

/*
 * All return 0, -ENOMEM or -E2BIG: more than FM_FILTER_CLAUSES - 1, or more than the pool takes. A
 * clause that can hold for no packet, or for none that another does not hold for, is left out; two
 * that differ in one dimension become one.
 */
int fm_clauses_add(struct fm_filter_pool *pool, struct fm_clauses *clauses,
		   const struct fm_filter_clause *clause);
/* Clauses that hold where either list does, where both do. */
int fm_clauses_join(struct fm_filter_pool *pool, struct fm_clauses *clauses,
		    const struct fm_clauses *others);
int fm_clauses_meet(struct fm_filter_pool *pool, struct fm_clauses *clauses,
		    const struct fm_clauses *others);
/* Behind those there are, as they are. 0 or -ENOMEM. */
int fm_clauses_append(struct fm_clauses *clauses, const struct fm_clauses *others);
void fm_clauses_done(struct fm_clauses *clauses);
#define _fm_cleanup_clauses_ _fm_cleanup_(fm_clauses_done)

#endif
