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
#include "daemon/filter-clauses.h"
#include "daemon/filter-set.h"

/* One number of rule[] and one clause are for packets that no rule speaks of. */
#define FM_FILTER_RULES_MAX   (FM_FILTER_RULES - 1)
#define FM_FILTER_CLAUSES_MAX (FM_FILTER_CLAUSES - 1)

struct fm_rule {
	char *text;
	enum fm_filter_action action;
	unsigned int sampler; /* of FM_FILTER_SAMPLE: which of the rules'; 0: none */
	size_t first_clause, n_clauses;
};

/* What a file of prefixes holds. */
struct fm_filter_file {
	char *path;
	const struct fm_filter_set *set;
};

struct fm_filter_rules {
	struct fm_rule *rules;
	size_t n_rules;
	struct fm_clauses clauses; /* in the rules' order */
	char **patterns;	   /* of interfaces */
	size_t n_patterns;
	struct fm_sampler samplers[FM_FILTER_SAMPLERS]; /* [0]: none */
	size_t n_samplers;				/* with [0] */
	struct fm_prefixes prefixes;			/* that any rule speaks of */
	struct fm_filter_file *files;			/* that were read */
	size_t n_files;
	struct fm_filter_pool *pool; /* owns the sets */
};

int fm_filter_rules_new(struct fm_filter_rules **ret);
struct fm_filter_rules *fm_filter_rules_free(struct fm_filter_rules *rules);
FM_DEFINE_CLEANUP(struct fm_filter_rules *, fm_filter_rules_free)

/*
 * Adds a rule behind those there are, and reads the files it names. 0 or -errno: it was not added,
 * and complaint says what was expected where.
 */
int fm_filter_rules_add(struct fm_filter_rules *rules, const char *text, struct fm_buf *complaint);

/* For tests: whether both are the same texts and say the same of every packet. */
bool fm_filter_rules_equal(const struct fm_filter_rules *a, const struct fm_filter_rules *b);

/*
 * What a rule holds for, without its action (filter-expression.c): the clauses of text, which
 * begins at the character begin of a rule. 0 or -errno as above.
 */
int fm_filter_expression(struct fm_filter_rules *rules, const char *rule, size_t begin,
			 struct fm_clauses *ret, struct fm_buf *complaint);

#endif
