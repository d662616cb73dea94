/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The rules that hold, in the kernel: tables (bpf/filter.h) for the programs, replaced in one step
 * while they run, and what each rule counted. Counts stay with the text of a rule, over reloads and
 * processes. Owned by the manager.
 */
#ifndef FM_FILTERS_H
#define FM_FILTERS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/cleanup.h"
#include "bpf/abi.h"
#include "daemon/filter-compile.h"
#include "daemon/interfaces.h"
#include "daemon/loader.h"
#include "daemon/numbering.h"

struct fm_filters;

/* After the first generation: the kernel's shared maps are there. 0 or -ENOMEM. */
int fm_filters_new(struct fm_filters **ret, struct fm_kernel *kernel);
/* The rules in the kernel stay as they are. */
struct fm_filters *fm_filters_free(struct fm_filters *filters);
FM_DEFINE_CLEANUP(struct fm_filters *, fm_filters_free)

/*
 * From now on packets are decided about by these rules, which must stay until others take their
 * place; otherwise: those that no rule speaks of. 0, or -errno and the rules before hold.
 */
int fm_filters_set(struct fm_filters *filters, const struct fm_filter_rules *rules,
		   enum fm_filter_action otherwise);

/*
 * The same before any interface is watched. Programs of an earlier process, which are attached,
 * obey as well: the rules are given the names that are known by now.
 */
int fm_filters_start(struct fm_filters *filters, const struct fm_filter_rules *rules,
		     enum fm_filter_action otherwise);

/* Before an interface gets its first hook. 0 or -errno: rules do not know it by name. */
int fm_filters_add(struct fm_filters *filters, const struct fm_filter_interface *interface);

/* Interfaces came, went or were renamed. 0 or -errno: rules know those of before. */
int fm_filters_follow(struct fm_filters *filters, struct fm_interfaces *interfaces,
		      const struct fm_numbering *numbering);

/* What a rule counted. */
struct fm_filters_count {
	const char *text;
	struct fm_count matched, counted;
};

/* By number of the rule, the last is of packets that no rule speaks of. False: no such rule. */
bool fm_filters_count(const struct fm_filters *filters, size_t number,
		      struct fm_filters_count *ret);

/* For tests: what the sampler of a number is; interval 0: there is none. */
struct fm_sampler fm_filters_sampler(const struct fm_filters *filters, unsigned int number);

#endif
