/* SPDX-License-Identifier: Apache-2.0 */
/* Gates: see gates.h. */
#include "daemon/gates.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "base/clock.h"
#include "base/macro.h"

struct fm_gates {
	unsigned int n_cpus;
	struct fm_counters *counters; /* FM_GATE_ELEMENT, behind the CPUs those of the banks */
	struct fm_gate *banks, *accounts;
	unsigned int bank;
	__u64 *table; /* fm_live.gates */
	uint64_t rest_ns;
	uint8_t hooks[FM_GATES];      /* attached, a bit each */
	uint64_t closed_ns[FM_GATES]; /* the last of them was detached, CLOCK_MONOTONIC */
};

int fm_gates_new(struct fm_gates **ret, unsigned int n_cpus, struct fm_counters *counters,
		 struct fm_gate *accounts, __u64 *table, uint64_t rest_ns)
{
	struct fm_gates *gates = calloc(1, sizeof(*gates));

	if (!gates)
		return -ENOMEM;
	gates->n_cpus = n_cpus;
	gates->counters = counters;
	gates->banks = gates->accounts = accounts;
	gates->table = table;
	gates->rest_ns = rest_ns;
	/* What another process attached may still be. */
	for (unsigned int gate = 0; gate < FM_GATES; gate++)
		gates->closed_ns[gate] = fm_clock_monotonic_ns();
	*ret = gates;
	return 0;
}

struct fm_gates *fm_gates_free(struct fm_gates *gates)
{
	free(gates);
	return NULL;
}

/* Members are 64-bit words one behind the other. */
#define N_WORDS (offsetof(struct fm_counters, count[_FM_COUNTER_MAX]) / sizeof(uint64_t))

_Static_assert(sizeof(struct fm_count) == 2 * sizeof(uint64_t), "words");

void fm_counters_add(struct fm_counters *a, const struct fm_counters *b)
{
	const uint64_t *from = (const uint64_t *)b;
	uint64_t *to = (uint64_t *)a;

	for (size_t i = 0; i < N_WORDS; i++)
		to[i] += __atomic_load_n(&from[i], __ATOMIC_RELAXED);
}

void fm_counters_subtract(struct fm_counters *a, const struct fm_counters *b)
{
	const uint64_t *from = (const uint64_t *)b;
	uint64_t *to = (uint64_t *)a;

	for (size_t i = 0; i < N_WORDS; i++)
		to[i] -= from[i];
}

/* All that was ever counted at a gate. */
static void add_gate(const struct fm_gates *gates, unsigned int gate, enum fm_hook hook,
		     struct fm_counters *sum)
{
	for (unsigned int cpu = 0; cpu < gates->n_cpus; cpu++)
		fm_counters_add(sum, &gates->counters[FM_GATE_ELEMENT(cpu, gate, hook)]);
	fm_counters_add(sum,
			&gates->counters[FM_GATE_ELEMENT(gates->n_cpus + gates->bank, gate, hook)]);
}

void fm_gates_sum(const struct fm_gates *gates, unsigned int gate, enum fm_hook hook,
		  struct fm_counters *ret)
{
	*ret = (struct fm_counters){};
	add_gate(gates, gate, hook, ret);
	fm_counters_subtract(ret, &gates->accounts[gate].before[hook]);
}

void fm_gates_total(const struct fm_gates *gates, struct fm_counters *ret)
{
	*ret = (struct fm_counters){};
	for (unsigned int gate = 0; gate < FM_GATES; gate++) {
		if (gate != FM_GATE_OTHERS && !gates->accounts[gate].ifindex)
			continue;
		for (unsigned int hook = 0; hook < _FM_HOOK_MAX; hook++)
			add_gate(gates, gate, (enum fm_hook)hook, ret);
	}
}

unsigned int fm_gates_find(const struct fm_gates *gates, uint32_t ifindex)
{
	for (unsigned int gate = FM_GATE_OTHERS + 1; gate < FM_GATES; gate++)
		if (gates->accounts[gate].ifindex == ifindex)
			return gate;
	return FM_GATE_OTHERS;
}

bool fm_gates_is_open(const struct fm_gates *gates, unsigned int gate, enum fm_hook hook)
{
	return gates->hooks[gate] & 1u << hook;
}

struct fm_gate *fm_gates_account(struct fm_gates *gates, unsigned int gate)
{
	return &gates->accounts[gate];
}

/* An entry of the table that programs look at for this interface: its own or a free one. */
static __u64 *find_entry(const struct fm_gates *gates, uint32_t ifindex)
{
	__u64 *found = NULL;

	for (unsigned int i = 0; i < FM_GATE_PROBES; i++) {
		__u64 *entry = &gates->table[(FM_GATE_HOME(ifindex) + i) & (FM_GATE_HOMES - 1)];

		if (*entry >> 32 == ifindex)
			return entry;
		if (!*entry && !found)
			found = entry;
	}
	return found;
}

/*
 * One that nobody has. Whose interfaces are gone for long are nobody's from then on, not when there
 * is no other any more: the next process could not tell for how long they have been.
 */
static unsigned int find_free(struct fm_gates *gates)
{
	unsigned int found = FM_GATE_OTHERS;
	uint64_t now = fm_clock_monotonic_ns();

	for (unsigned int gate = FM_GATES - 1; gate > FM_GATE_OTHERS; gate--) {
		uint32_t ifindex = gates->accounts[gate].ifindex;
		__u64 *entry;

		if (ifindex &&
		    (gates->hooks[gate] || now - gates->closed_ns[gate] < gates->rest_ns))
			continue;
		entry = ifindex ? find_entry(gates, ifindex) : NULL;
		if (entry && *entry >> 32 == ifindex)
			__atomic_store_n(entry, 0, __ATOMIC_RELAXED);
		gates->accounts[gate].ifindex = 0;
		found = gate;
	}
	return found;
}

/* Gives a gate to an interface. What was counted there for others stays in the total. */
static void give(struct fm_gates *gates, unsigned int gate, uint32_t ifindex, __u64 *entry)
{
	struct fm_gate *account = &gates->accounts[gate];

	for (unsigned int hook = 0; hook < _FM_HOOK_MAX; hook++) {
		/* First, so that a kill behind it leaves no mark of other counters. */
		__atomic_store_n(&account->audited[hook].time_ns, 0, __ATOMIC_SEQ_CST);
		account->before[hook] = (struct fm_counters){};
		add_gate(gates, gate, (enum fm_hook)hook, &account->before[hook]);
		account->audited[hook] = (struct fm_gate_mark){};
	}
	account->ifindex = ifindex;
	__atomic_store_n(entry, FM_GATE_ENTRY(ifindex, gate), __ATOMIC_RELEASE);
}

bool fm_gates_mark(struct fm_gates *gates, uint32_t ifindex, bool marks)
{
	__u64 *entry = find_entry(gates, ifindex);

	if (!entry || *entry >> 32 != ifindex)
		return false;
	__atomic_store_n(entry,
			 FM_GATE_ENTRY(ifindex, FM_GATE_OF(*entry)) | (marks ? FM_GATE_MARKS : 0),
			 __ATOMIC_RELEASE);
	return true;
}

unsigned int fm_gates_open(struct fm_gates *gates, uint32_t ifindex, enum fm_hook hook)
{
	unsigned int gate = fm_gates_find(gates, ifindex);
	__u64 *entry;

	if (gate == FM_GATE_OTHERS) {
		gate = find_free(gates); /* and free entries */
		entry = find_entry(gates, ifindex);
		if (entry && gate != FM_GATE_OTHERS)
			give(gates, gate, ifindex, entry);
		else
			gate = FM_GATE_OTHERS;
	}
	if (gate != FM_GATE_OTHERS)
		gates->hooks[gate] |= (uint8_t)(1u << hook);
	return gate;
}

void fm_gates_close(struct fm_gates *gates, uint32_t ifindex, enum fm_hook hook)
{
	unsigned int gate = fm_gates_find(gates, ifindex);

	if (gate == FM_GATE_OTHERS)
		return;
	gates->hooks[gate] &= (uint8_t) ~(1u << hook);
	gates->closed_ns[gate] = fm_clock_monotonic_ns();
}

void fm_gates_set_bank(struct fm_gates *gates, unsigned int bank)
{
	gates->bank = bank & 1;
	gates->accounts = &gates->banks[gates->bank * FM_GATES];
}

/* Counters of a bank. */
static struct fm_counters *bank_counters(const struct fm_gates *gates, unsigned int bank)
{
	return &gates->counters[FM_GATE_ELEMENT(gates->n_cpus + bank, 0, 0)];
}

void fm_gates_copy_bank(struct fm_gates *gates)
{
	memcpy(&gates->banks[!gates->bank * FM_GATES], gates->accounts,
	       FM_GATES * sizeof(*gates->accounts));
	memcpy(bank_counters(gates, !gates->bank), bank_counters(gates, gates->bank),
	       FM_GATE_ELEMENT(1, 0, 0) * sizeof(*gates->counters));
}

/* The gate that goes on with an interface's figures, in a bank. */
static unsigned int find_heir(const struct fm_gate *accounts, uint32_t ifindex)
{
	unsigned int found = FM_GATE_OTHERS;

	for (unsigned int gate = FM_GATES - 1; ifindex && gate > FM_GATE_OTHERS; gate--) {
		if (accounts[gate].ifindex == ifindex)
			return gate;
		if (!accounts[gate].ifindex)
			found = gate;
	}
	return found;
}

/* Both intervals become one, from the earlier beginning. */
static void join_marks(struct fm_gate_mark *into, const struct fm_gate_mark *from)
{
	struct fm_counters sum = into->counters;

	fm_counters_add(&sum, &from->counters);
	if (from->time_ns && (!into->time_ns || from->time_ns < into->time_ns))
		*into = *from;
	into->counters = sum;
}

void fm_gates_take_over(struct fm_gates *gates, const struct fm_gates_found *found)
{
	struct fm_gate *accounts = &gates->banks[!gates->bank * FM_GATES];
	unsigned int gate = find_heir(accounts, found->ifindex);
	struct fm_gate *account = &accounts[gate];

	if (gate != FM_GATE_OTHERS)
		account->ifindex = found->ifindex;
	for (unsigned int hook = 0; hook < _FM_HOOK_MAX; hook++) {
		fm_counters_add(&bank_counters(gates, !gates->bank)[FM_GATE_ELEMENT(0, gate, hook)],
				&found->total[hook]);
		fm_counters_add(&account->before[hook], &found->before[hook]);
		if (account->ifindex == found->ifindex)
			join_marks(&account->audited[hook], &found->audited[hook]);
		else /* told before, by another name */
			fm_counters_add(&account->before[hook], &found->audited[hook].counters);
	}
}
