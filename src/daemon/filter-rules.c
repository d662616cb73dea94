/* SPDX-License-Identifier: Apache-2.0 */
/* Rules as people write them: see filter-rules.h. What stands behind the action has its own file.
 */
#include "daemon/filter-rules.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "base/macro.h"
#include "base/parse.h"

#define SPACE	     " \t"
#define INTERVAL_MIN 2

static const char *const method_words[] = {
	[FM_SAMPLE_COUNT] = "packets",
	[FM_SAMPLE_RANDOM] = "random",
	[FM_SAMPLE_FLOWS] = "flows",
};

int fm_filter_rules_new(struct fm_filter_rules **ret)
{
	_fm_cleanup_(fm_filter_rules_freep) struct fm_filter_rules *rules =
		calloc(1, sizeof(*rules));
	int r;

	if (!rules)
		return -ENOMEM;
	r = fm_filter_pool_new(&rules->pool);
	if (r < 0)
		return r;
	rules->n_samplers = 1;
	*ret = FM_TAKE_PTR(rules);
	return 0;
}

struct fm_filter_rules *fm_filter_rules_free(struct fm_filter_rules *rules)
{
	if (!rules)
		return NULL;
	for (size_t i = 0; i < rules->n_rules; i++)
		free(rules->rules[i].text);
	for (size_t i = 0; i < rules->n_patterns; i++)
		free(rules->patterns[i]);
	for (size_t i = 0; i < rules->n_files; i++)
		free(rules->files[i].path);
	free(rules->rules);
	free(rules->patterns);
	free(rules->files);
	fm_clauses_done(&rules->clauses);
	fm_prefixes_done(&rules->prefixes);
	fm_filter_pool_free(rules->pool);
	free(rules);
	return NULL;
}

/* The next word of an action. False: it is not the one. */
static bool take(const char **at, const char *word)
{
	const char *begin = *at + strspn(*at, SPACE);
	size_t length = strlen(word);

	if (strncmp(begin, word, length) || (begin[length] && !strchr(SPACE "(", begin[length])))
		return false;
	*at = begin + length;
	return true;
}

static bool take_number(const char **at, uint32_t *ret)
{
	const char *begin = *at + strspn(*at, SPACE);
	size_t length = strspn(begin, "0123456789");
	char text[16];
	uint64_t number;

	if (!length || length >= sizeof(text))
		return false;
	memcpy(text, begin, length);
	text[length] = '\0';
	if (fm_parse_u64(text, INTERVAL_MIN, UINT32_MAX, &number) < 0)
		return false;
	*at = begin + length;
	*ret = (uint32_t)number;
	return true;
}

static int complain(const char *text, const char *at, const char *expected,
		    struct fm_buf *complaint)
{
	at += strspn(at, SPACE);
	if (*at)
		fm_buf_printf(complaint, "'%.*s' (character %zu): expected %s",
			      (int)FM_MIN(strcspn(at, SPACE), (size_t)60), at,
			      (size_t)(at - text) + 1, expected);
	else
		fm_buf_printf(complaint, "at the end: expected %s", expected);
	return -EINVAL;
}

/* The number of the rules' sampler that does so, which may be a new one. */
static int find_sampler(struct fm_filter_rules *rules, struct fm_sampler sampler,
			struct fm_buf *complaint)
{
	size_t i = 1;

	while (i < rules->n_samplers && (rules->samplers[i].interval != sampler.interval ||
					 rules->samplers[i].method != sampler.method))
		i++;
	if (i == FM_FILTER_SAMPLERS) {
		fm_buf_printf(complaint, "expected at most %d different samplers in all rules",
			      FM_FILTER_SAMPLERS - 1);
		return -E2BIG;
	}
	rules->samplers[i] = sampler;
	rules->n_samplers = FM_MAX(rules->n_samplers, i + 1);
	return (int)i;
}

/* 'sample' is read. */
static int read_sampler(struct fm_filter_rules *rules, const char *text, const char **at,
			struct fm_buf *complaint)
{
	struct fm_sampler sampler = {};

	if (!take(at, "1"))
		return complain(text, *at, "1 in N", complaint);
	if (!take(at, "in"))
		return complain(text, *at, "in N", complaint);
	if (!take_number(at, &sampler.interval))
		return complain(text, *at, "a number from 2 to 4294967295", complaint);
	for (size_t i = 0; i < FM_ARRAY_SIZE(method_words); i++) {
		if (!take(at, method_words[i]))
			continue;
		sampler.method = (uint32_t)i;
		return find_sampler(rules, sampler, complaint);
	}
	return complain(text, *at, "packets, random or flows", complaint);
}

/* Returns where the action ends, or NULL: complaint says why, *ret_error too. */
static const char *read_action(struct fm_filter_rules *rules, const char *text,
			       struct fm_rule *rule, int *ret_error, struct fm_buf *complaint)
{
	const char *at = text;
	int r = 0;

	if (take(&at, "include")) {
		rule->action = FM_FILTER_INCLUDE;
	} else if (take(&at, "exclude")) {
		rule->action = FM_FILTER_EXCLUDE;
	} else if (take(&at, "sample")) {
		rule->action = FM_FILTER_SAMPLE;
		r = read_sampler(rules, text, &at, complaint);
		rule->sampler = r > 0 ? (unsigned int)r : 0;
	} else {
		r = complain(text, at, "include, exclude or sample 1 in N", complaint);
	}
	*ret_error = r;
	return r < 0 ? NULL : at;
}

/* Takes over what it is given only where there is room for all of it. */
static int add(struct fm_filter_rules *rules, struct fm_rule *rule,
	       const struct fm_clauses *clauses)
{
	struct fm_rule *grown =
		reallocarray(rules->rules, rules->n_rules + 1, sizeof(*rules->rules));
	int r;

	if (!grown)
		return -ENOMEM;
	rules->rules = grown;
	rule->first_clause = rules->clauses.n;
	rule->n_clauses = clauses->n;
	r = fm_clauses_append(&rules->clauses, clauses);
	if (r < 0)
		return r;
	for (size_t c = rule->first_clause; c < rules->clauses.n; c++)
		for (unsigned int i = 0; i < FM_BY_INTERFACE; i++)
			fm_filter_set_keep(rules->clauses.v[c].set[i]);
	rules->rules[rules->n_rules++] = *rule;
	return 0;
}

static int read_rule(struct fm_filter_rules *rules, const char *text, struct fm_buf *complaint)
{
	_fm_cleanup_clauses_ struct fm_clauses clauses = {};
	_fm_cleanup_free_ char *copy = strdup(text);
	struct fm_rule rule = {.text = copy};
	const char *end;
	int r;

	if (rules->n_rules == FM_FILTER_RULES_MAX) {
		fm_buf_printf(complaint, "expected at most %d rules", FM_FILTER_RULES_MAX);
		return -E2BIG;
	}
	end = read_action(rules, text, &rule, &r, complaint);
	if (!end)
		return r;
	r = fm_filter_expression(rules, text, (size_t)(end - text), &clauses, complaint);
	if (r < 0)
		return r;
	if (clauses.n > FM_FILTER_CLAUSES_MAX - rules->clauses.n) {
		fm_buf_printf(
			complaint,
			"the rules need more than %d clauses (this one %zu, those before %zu): expected fewer 'or' of different kinds, or files of prefixes",
			FM_FILTER_CLAUSES_MAX, clauses.n, rules->clauses.n);
		return -E2BIG;
	}
	r = copy ? add(rules, &rule, &clauses) : -ENOMEM;
	if (r < 0) {
		fm_buf_printf(complaint, "no memory");
		return r;
	}
	copy = NULL; /* the rule's */
	return 0;
}

int fm_filter_rules_add(struct fm_filter_rules *rules, const char *text, struct fm_buf *complaint)
{
	int r = read_rule(rules, text, complaint);

	fm_filter_pool_sweep(rules->pool);
	return r;
}

static bool clause_equal(const struct fm_filter_clause *a, const struct fm_filter_clause *b)
{
	for (unsigned int i = 0; i < FM_BY_INTERFACE; i++)
		if (!fm_filter_set_equal(a->set[i], b->set[i]))
			return false;
	return !memcmp(a->where.all, b->where.all, sizeof(a->where.all)) &&
	       !memcmp(a->where.none, b->where.none, sizeof(a->where.none)) &&
	       a->where.hooks == b->where.hooks;
}

bool fm_filter_rules_equal(const struct fm_filter_rules *a, const struct fm_filter_rules *b)
{
	if (a->n_rules != b->n_rules || a->clauses.n != b->clauses.n)
		return false;
	for (size_t i = 0; i < a->n_rules; i++)
		if (strcmp(a->rules[i].text, b->rules[i].text) ||
		    a->rules[i].n_clauses != b->rules[i].n_clauses)
			return false;
	/* Patterns have the same numbers where the texts are the same. */
	for (size_t i = 0; i < a->clauses.n; i++)
		if (!clause_equal(&a->clauses.v[i], &b->clauses.v[i]))
			return false;
	return true;
}
