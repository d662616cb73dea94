/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Rules that say which packets are counted, as people write them: text in, clauses out. A rule
 * holds for a packet if one of its clauses does; a clause says for each dimension (bpf/filter.h)
 * which values it holds for. Made by config.c, read by filter-compile.c.
 */
#ifndef FM_FILTER_RULES_H
#define FM_FILTER_RULES_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/buf.h"
#include "base/cleanup.h"
#include "bpf/abi.h"
#include "daemon/filter-set.h"

/* One number of rule[] and one clause are for packets that no rule speaks of. */
#define FM_FILTER_RULES_MAX   (FM_FILTER_RULES - 1)
#define FM_FILTER_CLAUSES_MAX (FM_FILTER_CLAUSES - 1)
#define FM_FILTER_PATTERNS    256
#define FM_FILTER_HOOKS	      ((1u << FM_HOOK_INGRESS) | (1u << FM_HOOK_EGRESS))

/* A bit for each pattern that the rules have. */
struct fm_filter_patterns {
	uint64_t word[FM_FILTER_PATTERNS / 64];
};

/* Interfaces that match all of some patterns and none of others, at some hooks. */
struct fm_filter_where {
	struct fm_filter_patterns all, none;
	unsigned int hooks; /* bits 1 << enum fm_hook */
};

struct fm_filter_clause {
	const struct fm_filter_set *set[FM_BY_INTERFACE]; /* NULL: every value */
	struct fm_filter_where where;
};

struct fm_rule {
	char *text;
	enum fm_filter_action action;
	enum fm_sampler_method method; /* of FM_FILTER_SAMPLE */
	uint32_t interval;
	unsigned int sampler; /* number of it, from 1; 0: none */
	size_t first_clause, n_clauses;
};

struct fm_filter_rules {
	struct fm_rule *rules;
	size_t n_rules;
	struct fm_filter_clause *clauses; /* in the rules' order */
	size_t n_clauses;
	char **patterns; /* of interfaces */
	size_t n_patterns;
	struct fm_sampler sampler[FM_FILTER_SAMPLERS]; /* [0] is none */
	size_t n_samplers;			       /* with [0] */
	struct fm_filter_pool *pool;		       /* owns the sets */
	struct fm_filter_nets nets;		       /* prefixes that are spoken of */
	struct fm_filter_files *files;		       /* those read so far */
};

int fm_filter_rules_new(struct fm_filter_rules **ret);
struct fm_filter_rules *fm_filter_rules_free(struct fm_filter_rules *rules);
FM_DEFINE_CLEANUP(struct fm_filter_rules *, fm_filter_rules_free)

/*
 * Adds a rule behind those there are, and reads the files it names. 0 or -errno: nothing was added,
 * and complaint says what was expected where.
 */
int fm_filter_rules_add(struct fm_filter_rules *rules, const char *text, struct fm_buf *complaint);

/* Whether both say the same of every packet, by rules of the same texts. */
bool fm_filter_rules_equal(const struct fm_filter_rules *a, const struct fm_filter_rules *b);

#endif
