/* SPDX-License-Identifier: Apache-2.0 */
/* Gates are given, kept, given on and never lose what was counted at them. */
#include <stdlib.h>

#include "base/cleanup.h"
#include "daemon/audit.h"
#include "daemon/gates.h"
#include "test.h"

#define CPUS 2

static struct fm_counters *counters;
static struct fm_gate *accounts;
static __u64 *table;
static struct fm_gates *gates;

static void begin(uint64_t rest_ns)
{
	gates = fm_gates_free(gates);
	free(counters);
	free(accounts);
	free(table);
	counters = calloc(FM_GATE_ELEMENT(CPUS + FM_GATE_BANKS, 0, 0), sizeof(*counters));
	accounts = calloc(FM_GATES * FM_GATE_BANKS, sizeof(*accounts));
	table = calloc(FM_GATE_HOMES, sizeof(*table));
	if (!counters || !accounts || !table ||
	    fm_gates_new(&gates, CPUS, counters, accounts, table, rest_ns) < 0)
		abort();
}

/* As a program does: the gate it finds for the interface. */
static unsigned int look(uint32_t ifindex)
{
	for (unsigned int i = 0; i < FM_GATE_PROBES; i++) {
		__u64 entry = table[(FM_GATE_HOME(ifindex) + i) & (FM_GATE_HOMES - 1)];

		if (entry >> 32 == ifindex)
			return entry & (FM_GATES - 1);
	}
	return FM_GATE_OTHERS;
}

static void count(uint32_t ifindex, unsigned int cpu, enum fm_hook hook, unsigned int frames)
{
	struct fm_counters *element = &counters[FM_GATE_ELEMENT(cpu, look(ifindex), hook)];

	element->frames += frames;
	element->count[_FM_COUNTER_MAX - 1].octets += frames * 10;
}

static uint64_t frames_of(uint32_t ifindex, enum fm_hook hook)
{
	struct fm_counters sum;

	fm_gates_sum(gates, fm_gates_find(gates, ifindex), hook, &sum);
	return sum.count[_FM_COUNTER_MAX - 1].octets == sum.frames * 10 ? sum.frames : UINT64_MAX;
}

static uint64_t total(void)
{
	struct fm_counters sum;

	fm_gates_total(gates, &sum);
	return sum.frames;
}

static void test_apart(void)
{
	begin(0);
	fm_gates_open(gates, 7, FM_HOOK_INGRESS);
	fm_gates_open(gates, 7, FM_HOOK_EGRESS);
	fm_gates_open(gates, 1 << 24 | 7, FM_HOOK_INGRESS);
	count(7, 0, FM_HOOK_INGRESS, 1);
	count(7, 1, FM_HOOK_INGRESS, 20);
	count(7, 1, FM_HOOK_EGRESS, 300);
	count(1 << 24 | 7, 0, FM_HOOK_INGRESS, 4000);
	count(8, 0, FM_HOOK_INGRESS, 50000);
	FM_TEST(frames_of(7, FM_HOOK_INGRESS) == 21 && frames_of(7, FM_HOOK_EGRESS) == 300 &&
			frames_of(1 << 24 | 7, FM_HOOK_INGRESS) == 4000,
		"interfaces, directions and namespaces are told apart, CPUs added up");
	FM_TEST(frames_of(8, FM_HOOK_INGRESS) == 50000 && look(8) == FM_GATE_OTHERS,
		"who has no gate counts with the others");
	FM_TEST(total() == 54321, "the total has them all");
}

static bool marks(uint32_t ifindex)
{
	return table[FM_GATE_HOME(ifindex)] & FM_GATE_MARKS;
}

static void test_marks(void)
{
	unsigned int gate;

	begin(0);
	gate = fm_gates_open(gates, 7, FM_HOOK_EGRESS);
	FM_TEST(!marks(7) && fm_gates_mark(gates, 7, true) && marks(7) && look(7) == gate,
		"a gate that marks is still the interface's");
	fm_gates_open(gates, 7, FM_HOOK_INGRESS);
	FM_TEST(marks(7) && fm_gates_mark(gates, 7, false) && !marks(7) && look(7) == gate,
		"until it is told not to");
	FM_TEST(FM_GATE_ELEMENT(0u, FM_GATE_MARKS, FM_HOOK_INGRESS) >=
			FM_GATE_ELEMENT(1u << 15, 0, 0),
		"no array of counters has an element of a gate that marks");
	FM_TEST(!fm_gates_mark(gates, 8, true) && look(8) == FM_GATE_OTHERS,
		"an interface without a gate");
	fm_gates_mark(gates, 7, true);
	fm_gates_close(gates, 7, FM_HOOK_EGRESS);
	fm_gates_close(gates, 7, FM_HOOK_INGRESS);
	for (uint32_t i = 0; i < FM_GATES && look(7) != FM_GATE_OTHERS; i++)
		fm_gates_open(gates, 100 + i, FM_HOOK_EGRESS);
	FM_TEST(look(7) == FM_GATE_OTHERS && fm_gates_open(gates, 7, FM_HOOK_EGRESS) != gate,
		"given away while it marks, it is nobody else's entry");
}

static void test_kept(void)
{
	unsigned int gate;

	begin(0);
	gate = fm_gates_open(gates, 7, FM_HOOK_INGRESS);
	count(7, 0, FM_HOOK_INGRESS, 5);
	fm_gates_close(gates, 7, FM_HOOK_INGRESS);
	FM_TEST(!fm_gates_is_open(gates, gate, FM_HOOK_INGRESS) &&
			frames_of(7, FM_HOOK_INGRESS) == 5,
		"a closed gate keeps what was counted");
	gates = fm_gates_free(gates);
	if (fm_gates_new(&gates, CPUS, counters, accounts, table, 0) < 0)
		abort();
	FM_TEST(fm_gates_open(gates, 7, FM_HOOK_INGRESS) == gate &&
			frames_of(7, FM_HOOK_INGRESS) == 5,
		"and is the same one in another process");
}

static void test_full(uint64_t rest_ns)
{
	unsigned int gate;

	begin(rest_ns);
	for (uint32_t ifindex = 1; ifindex < FM_GATES; ifindex++)
		fm_gates_open(gates, ifindex, FM_HOOK_INGRESS);
	FM_TEST(fm_gates_find(gates, FM_GATES - 1) != FM_GATE_OTHERS &&
			fm_gates_open(gates, 5000, FM_HOOK_INGRESS) == FM_GATE_OTHERS &&
			look(5000) == FM_GATE_OTHERS,
		"no gate left: counted with the others");
	count(3, 0, FM_HOOK_INGRESS, 30);
	count(5000, 0, FM_HOOK_INGRESS, 1);
	gate = fm_gates_find(gates, 3);
	fm_gates_close(gates, 3, FM_HOOK_INGRESS);
	if (rest_ns) {
		FM_TEST(fm_gates_open(gates, 5000, FM_HOOK_INGRESS) == FM_GATE_OTHERS,
			"a gate that was just closed rests");
		return;
	}
	FM_TEST(fm_gates_open(gates, 5000, FM_HOOK_INGRESS) == gate && look(5000) == gate &&
			look(3) == FM_GATE_OTHERS,
		"a closed gate goes to the next interface");
	count(5000, 1, FM_HOOK_INGRESS, 200);
	FM_TEST(frames_of(5000, FM_HOOK_INGRESS) == 200 && total() == 231,
		"which begins at 0, while the total goes on");
}

/* Of whatever another process left closed the next one does not know for how long it has been. */
static void test_churn(void)
{
	begin(1);
	for (uint32_t ifindex = 1; ifindex < 4 * FM_GATES; ifindex++) {
		fm_gates_open(gates, ifindex, FM_HOOK_INGRESS);
		fm_gates_close(gates, ifindex, FM_HOOK_INGRESS);
	}
	gates = fm_gates_free(gates);
	if (fm_gates_new(&gates, CPUS, counters, accounts, table, UINT64_MAX) < 0)
		abort();
	FM_TEST(fm_gates_open(gates, 5000, FM_HOOK_INGRESS) != FM_GATE_OTHERS,
		"interfaces that came and went leave gates for those of the next process");
}

static void test_crowded(void)
{
	unsigned int found = 0;

	begin(0);
	for (uint32_t i = 0; i <= FM_GATE_PROBES; i++)
		fm_gates_open(gates, 9 + i * FM_GATE_HOMES, FM_HOOK_EGRESS);
	for (uint32_t i = 0; i <= FM_GATE_PROBES; i++)
		found += look(9 + i * FM_GATE_HOMES) != FM_GATE_OTHERS;
	FM_TEST(found == FM_GATE_PROBES &&
			fm_gates_find(gates, 9 + FM_GATE_PROBES * FM_GATE_HOMES) == FM_GATE_OTHERS,
		"interfaces of one home: as many as programs look for");
}

/* --- intervals --- */

static struct fm_audit_record told[8];
static unsigned int n_told;

/* The device counts what its gate does. */
static int read_device(void *userdata, uint32_t ifindex, enum fm_hook hook, uint64_t *ret_frames,
		       uint64_t *ret_octets)
{
	*ret_frames = frames_of(ifindex, hook);
	*ret_octets = 100 * *ret_frames;
	return 0;
}

static void take(void *userdata, const struct fm_audit_row *row)
{
	if (row->record.ifindex == 7 && n_told < 8)
		told[n_told++] = row->record;
}

static bool is_interval(unsigned int i, uint64_t start_ns, uint64_t end_ns, uint64_t frames)
{
	return told[i].start_ns == start_ns && told[i].end_ns == end_ns &&
	       told[i].frames == frames && told[i].interface_frames == frames &&
	       told[i].interface_octets == 100 * frames;
}

static void no_serial(void *userdata, uint64_t serial)
{
}

static void no_publish(void *userdata)
{
}

static void no_entry(void *userdata, const struct fm_ledger_entry *entry)
{
}

static const struct fm_ledger_ops no_ops = {
	.prepare = no_serial, .publish = no_publish, .apply = no_entry};

static bool full;

static bool has_room(void *userdata)
{
	return !full;
}

static void test_intervals(void)
{
	struct fm_audit_env env = {.read = read_device, .room = has_room, .tell = take};
	_fm_cleanup_(fm_ledger_freep) struct fm_ledger *ledger = NULL;
	_fm_cleanup_(fm_audit_freep) struct fm_audit *audit = NULL;

	begin(0);
	if (fm_ledger_new(&ledger, NULL, 2) < 0)
		abort();
	fm_ledger_set_ops(ledger, &no_ops, NULL);
	env.gates = gates;
	env.ledger = ledger;
	if (fm_audit_new(&audit, &env) < 0)
		abort();
	n_told = 0;
	count(7, 0, FM_HOOK_INGRESS, 1);
	fm_gates_open(gates, 7, FM_HOOK_INGRESS);
	fm_audit_follow(audit, 1000);
	for (unsigned int i = 1; i <= 3; i++) {
		count(7, i % CPUS, FM_HOOK_INGRESS, i * 10);
		fm_audit_run(audit, 1000 * (i + 1));
	}
	count(7, 0, FM_HOOK_INGRESS, 5);
	full = true;
	FM_TEST(fm_audit_step(audit, 4400) && n_told == 3 &&
			fm_audit_due(audit, 4400, 500) == 100 &&
			fm_audit_due(audit, 9000, 500) == 0,
		"an audit waits for room, its intervals go on");
	fm_gates_close(gates, 7, FM_HOOK_INGRESS);
	fm_audit_end(audit, 7, FM_HOOK_INGRESS, 4500);
	fm_audit_run(audit, 5000);
	FM_TEST(n_told == 4 && is_interval(0, 1000, 2000, 10) && is_interval(1, 2000, 3000, 20) &&
			is_interval(2, 3000, 4000, 30) && is_interval(3, 4000, 4500, 5),
		"an audit's intervals follow each other, each with what came in it");
}

int main(void)
{
	test_apart();
	test_marks();
	test_kept();
	test_full(0);
	test_full(1000000000000ULL);
	test_churn();
	test_crowded();
	test_intervals();
	gates = fm_gates_free(gates);
	free(counters);
	free(accounts);
	free(table);
	return fm_test_done();
}
