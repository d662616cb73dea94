/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Gates: which interface counts where, and what was counted for each. A gate is given to an
 * interface when it is hooked and stays its own while there are others; all of it lies in maps and
 * lives as long as the programs do. Made by the loader, used by the manager and the audit.
 */
#ifndef FM_GATES_H
#define FM_GATES_H

#include <stdbool.h>
#include <stdint.h>

#include "base/cleanup.h"
#include "bpf/abi.h"

struct fm_gates;

/* A program that was running when its hook was detached has ended long before. */
#define FM_GATES_REST_NS 10000000000ULL

/*
 * In memory that is shared with the programs and outlives this: counters of n_cpus and of two
 * banks, two banks of accounts. rest_ns: a gate goes to another interface when it was closed for so
 * long. The first bank counts until another is set. 0 or -ENOMEM.
 */
int fm_gates_new(struct fm_gates **ret, unsigned int n_cpus, struct fm_counters *counters,
		 struct fm_gate *accounts, __u64 *table, uint64_t rest_ns);
struct fm_gates *fm_gates_free(struct fm_gates *gates);
FM_DEFINE_CLEANUP(struct fm_gates *, fm_gates_free)

/* What counts from now on. */
void fm_gates_set_bank(struct fm_gates *gates, unsigned int bank);

/* The other bank becomes what this one is. */
void fm_gates_copy_bank(struct fm_gates *gates);

/* What programs of another layout counted at a gate, and how far that was told. */
struct fm_gates_found {
	uint32_t ifindex; /* FM_GATE_OTHERS: 0 */
	struct fm_counters total[_FM_HOOK_MAX];
	struct fm_counters before[_FM_HOOK_MAX];
	struct fm_gate_mark audited[_FM_HOOK_MAX];
};

/* Adds it to the other bank: at the gate of its interface, else at a free one, else at gate 0. */
void fm_gates_take_over(struct fm_gates *gates, const struct fm_gates_found *found);

/*
 * Before a hook of an interface (index with its namespace's base) is attached, and after it was
 * detached. The gate, or FM_GATE_OTHERS: there is none left for it.
 */
unsigned int fm_gates_open(struct fm_gates *gates, uint32_t ifindex, enum fm_hook hook);
void fm_gates_close(struct fm_gates *gates, uint32_t ifindex, enum fm_hook hook);

/* Whether an interface's hooks mark the packets that they count. False: it has no gate. */
bool fm_gates_mark(struct fm_gates *gates, uint32_t ifindex, bool marks);

/* FM_GATE_OTHERS: it has none. */
unsigned int fm_gates_find(const struct fm_gates *gates, uint32_t ifindex);
bool fm_gates_is_open(const struct fm_gates *gates, unsigned int gate, enum fm_hook hook);

/* The account of a gate below FM_GATES; the audited part is the caller's to write. */
struct fm_gate *fm_gates_account(struct fm_gates *gates, unsigned int gate);

/* What was counted at a gate for the interface that has it. */
void fm_gates_sum(const struct fm_gates *gates, unsigned int gate, enum fm_hook hook,
		  struct fm_counters *ret);

/* What was counted at all gates by all who ever had them. */
void fm_gates_total(const struct fm_gates *gates, struct fm_counters *ret);

/* a - b, member by member. */
void fm_counters_subtract(struct fm_counters *a, const struct fm_counters *b);

/* a + b, likewise. */
void fm_counters_add(struct fm_counters *a, const struct fm_counters *b);

#endif
