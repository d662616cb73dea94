/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A ledger that a next process finds torn or garbled: it is refused or carried out, once, and
 * transactions go on.
 */
#include "daemon/ledger.h"
#include "daemon/sweep.h"
#include "fuzz.h"
#include "keep.h"

#define NAME  "ledger"
#define SLOTS 64
#define CPUS  2

static size_t applied, prepared, published;
static uint64_t last_serial;
static struct fm_slot slots[CPUS][SLOTS];
static struct fm_exported exported[CPUS][SLOTS];
static struct fm_region regions[CPUS];
static struct fm_generation generation = {.n_cpus = CPUS, .n_slots = SLOTS, .regions = regions};

static void on_prepare(void *userdata, uint64_t serial)
{
	prepared++;
	last_serial = serial;
}

static void on_publish(void *userdata)
{
	published++;
}

/* As the daemon does: into tables that are there. */
static void on_apply(void *userdata, const struct fm_ledger_entry *entry)
{
	applied++;
	fm_sweep_apply(&generation, entry);
}

/* Accounts lie in the entry, whatever its form. */
static void on_finish(void *userdata, const struct fm_ledger_found *found)
{
	struct fm_ledger_entry entry = found->entry;

	fuzz_touch(found->exported, found->exported_size);
	fuzz_touch(found->tcp_exported, found->tcp_exported_size);
	if (found->exported_size == sizeof(entry.exported))
		memcpy(&entry.exported, found->exported, sizeof(entry.exported));
	on_apply(userdata, &entry);
}

static const struct fm_ledger_ops ops = {on_prepare, on_publish, on_apply, on_finish};

static void add(struct fm_ledger *ledger, struct input *input)
{
	struct fm_ledger_entry *entry = fm_ledger_add(ledger);

	entry->op = input_u8(input);
	entry->region = input_u8(input);
	entry->position = input_u16(input);
	entry->exported.half[0].packets = input_u8(input);
}

/* The begin of ledger.c's header: killed between a commit and its end, with more or less in it. */
static void garble(void *memory, struct input *input)
{
	struct {
		char magic[8];
		uint32_t version, entry_size;
		uint64_t committed, applied;
		uint32_t n, unused;
		uint32_t exported_offset, exported_size;
		uint32_t tcp_offset, tcp_size;
	} *header = memory;
	uint8_t how = input_u8(input);

	if (how & 1)
		header->committed = header->applied + 1;
	if (how & 2)
		header->n = input_u32(input);
	if (how & 4)
		header->n = input_u8(input);
	if (how & 8)
		header->entry_size = input_u16(input);
	if (how & 0x10)
		header->committed = input_u64(input);
	if (how & 0x20)
		header->exported_size = input_u32(input);
	if (how & 0x40)
		header->tcp_offset = input_u32(input);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct input input = {data, size};
	struct fm_ledger *ledger;
	size_t octets, n, entries = 0;
	uint64_t before;
	void *memory;

	for (unsigned int i = 0; i < CPUS; i++)
		regions[i] = (struct fm_region){.slots = slots[i], .exported = exported[i]};
	if (input_u8(&input) & 1)
		regions[1] = (struct fm_region){};
	FUZZ_CHECK(fm_ledger_new(&ledger, keep_store(), 2) == 0);
	fm_ledger_set_ops(ledger, &ops, NULL);
	n = input_u8(&input) & 15;
	for (size_t i = 0; i < n; i++)
		add(ledger, &input);
	if (n & 1)
		fm_ledger_commit(ledger);
	fm_ledger_free(ledger); /* killed there */
	memory = keep_memory(NAME, &octets);
	garble(memory, &input);
	/* Most of it are entries: the header is worth more. */
	input_patch(&input, memory, 64, input_u8(&input) & 7);
	input_patch(&input, memory, octets, input_u8(&input) & 15);
	applied = prepared = published = 0;
	FUZZ_CHECK(fm_ledger_new(&ledger, keep_store(), 2) == 0);
	fm_ledger_set_ops(ledger, &ops, NULL);
	FUZZ_CHECK(fm_ledger_finish(ledger) == applied && applied <= octets);
	FUZZ_CHECK(fm_ledger_finish(ledger) == 0 && !prepared && !published);
	applied = 0;
	before = fm_ledger_committed(ledger);
	while (fm_ledger_has_room(ledger)) {
		FUZZ_CHECK(entries < octets);
		add(ledger, &input);
		entries++;
	}
	fm_ledger_commit(ledger);
	FUZZ_CHECK(applied == entries && prepared == 1 && published == 1);
	FUZZ_CHECK(last_serial == before + 1 && fm_ledger_committed(ledger) == last_serial);
	fm_ledger_free(ledger);
	fm_store_remove(keep_store(), NAME);
	return 0;
}
