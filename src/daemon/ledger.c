/* SPDX-License-Identifier: Apache-2.0 */
/* Transactions: see ledger.h. */
#include "daemon/ledger.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "base/macro.h"
#include "daemon/kept.h"

#define REFS_MIN 4096

#define HEAD offsetof(struct fm_ledger_entry, exported)

static const struct fm_kept_form kept_form = {
	.map = "fm_ledger",
	.magic = "fmledger",
	.version = 2,
	.value_size = FM_KEPT_PAGE,
};

/*
 * In shared memory. committed > applied: the entries are to be carried out. Their form is that of
 * the process that wrote them.
 */
struct header {
	struct fm_kept_head head;
	uint32_t entry_size;
	uint64_t committed, applied;
	uint32_t n, unused;
	uint32_t exported_offset, exported_size;
	uint32_t tcp_offset, tcp_size;
};

struct fm_ledger {
	struct fm_ledger_ops ops;
	void *userdata;
	struct fm_kept kept;
	struct header *header;
	struct fm_ledger_entry *entries;
	size_t max, max_refs;
	size_t n; /* added */
};

/* Octets of entries. */
static size_t room(const struct fm_ledger *ledger)
{
	return (size_t)ledger->kept.n_elements * FM_KEPT_PAGE - sizeof(struct header);
}

static void set_memory(struct fm_ledger *ledger)
{
	ledger->header = ledger->kept.memory;
	ledger->entries = (struct fm_ledger_entry *)(ledger->header + 1);
	ledger->max = room(ledger) / sizeof(struct fm_ledger_entry);
}

static void set_form(struct header *header)
{
	header->entry_size = sizeof(struct fm_ledger_entry);
	header->exported_offset = offsetof(struct fm_ledger_entry, exported);
	header->exported_size = sizeof(struct fm_exported);
	header->tcp_offset = offsetof(struct fm_ledger_entry, tcp_exported);
	header->tcp_size = sizeof(struct fm_tcp_exported);
}

static bool is_pending(const struct header *header)
{
	return header->committed != header->applied;
}

static bool account_is_sound(const struct header *header, uint32_t offset, uint32_t size)
{
	return offset >= HEAD && offset <= header->entry_size &&
	       size <= header->entry_size - offset && offset % sizeof(uint64_t) == 0;
}

/* The form of entries only counts where there are any. */
static bool is_sound(const struct fm_ledger *ledger)
{
	const struct header *header = ledger->header;

	if (ledger->max < ledger->max_refs)
		return false;
	if (!is_pending(header))
		return true;
	return header->committed == header->applied + 1 && header->entry_size >= HEAD &&
	       header->entry_size % sizeof(uint64_t) == 0 &&
	       header->n <= room(ledger) / header->entry_size &&
	       account_is_sound(header, header->exported_offset, header->exported_size) &&
	       account_is_sound(header, header->tcp_offset, header->tcp_size);
}

static int take(struct fm_ledger *ledger)
{
	/* Another version's may be larger or smaller. */
	int r = fm_kept_take_any(&ledger->kept);

	if (r < 0)
		return r;
	set_memory(ledger);
	if (!is_sound(ledger))
		return fm_kept_refuse(&ledger->kept);
	if (!is_pending(ledger->header))
		set_form(ledger->header);
	return 0;
}

static int make(struct fm_ledger *ledger)
{
	int r = fm_kept_make(&ledger->kept);

	if (r < 0)
		return r;
	set_memory(ledger);
	set_form(ledger->header);
	return fm_kept_put(&ledger->kept);
}

int fm_ledger_new(struct fm_ledger **ret, struct fm_store *store, size_t max_refs)
{
	_fm_cleanup_(fm_ledger_freep) struct fm_ledger *ledger = calloc(1, sizeof(*ledger));
	size_t entries = FM_MAX((size_t)REFS_MIN, 4 * max_refs);
	int r;

	if (!ledger)
		return -ENOMEM;
	ledger->max_refs = max_refs;
	r = fm_kept_init(
		&ledger->kept, &kept_form, store, "ledger",
		fm_kept_pages(sizeof(struct header) + entries * sizeof(struct fm_ledger_entry)));
	if (r < 0)
		return r;
	r = take(ledger);
	if (r < 0)
		r = make(ledger);
	if (r < 0)
		return r;
	*ret = FM_TAKE_PTR(ledger);
	return 0;
}

struct fm_ledger *fm_ledger_free(struct fm_ledger *ledger)
{
	if (!ledger)
		return NULL;
	fm_kept_done(&ledger->kept);
	free(ledger);
	return NULL;
}

void fm_ledger_set_ops(struct fm_ledger *ledger, const struct fm_ledger_ops *ops, void *userdata)
{
	ledger->ops = *ops;
	ledger->userdata = userdata;
}

uint64_t fm_ledger_committed(const struct fm_ledger *ledger)
{
	return ledger->header->committed;
}

static void apply(struct fm_ledger *ledger, size_t n)
{
	for (size_t i = 0; i < n; i++) {
		/* A copy: the memory is shared. */
		struct fm_ledger_entry entry = ledger->entries[i];

		ledger->ops.apply(ledger->userdata, &entry);
	}
}

static void finish_one(struct fm_ledger *ledger, const struct header *form, const uint8_t *entry)
{
	struct fm_ledger_found found = {
		.exported = entry + form->exported_offset,
		.exported_size = form->exported_size,
		.tcp_exported = entry + form->tcp_offset,
		.tcp_exported_size = form->tcp_size,
	};

	memcpy(&found.entry, entry, HEAD);
	ledger->ops.finish(ledger->userdata, &found);
}

size_t fm_ledger_finish(struct fm_ledger *ledger)
{
	struct header *header = ledger->header;
	const struct header form = *header;
	const uint8_t *entries = (const uint8_t *)ledger->entries;
	size_t n = is_pending(&form) && is_sound(ledger) ? form.n : 0;

	for (size_t i = 0; i < n; i++)
		finish_one(ledger, &form, entries + i * form.entry_size);
	__atomic_store_n(&header->applied, header->committed, __ATOMIC_RELEASE);
	set_form(header);
	return n;
}

bool fm_ledger_has_room(const struct fm_ledger *ledger)
{
	return ledger->n + ledger->max_refs <= ledger->max;
}

struct fm_ledger_entry *fm_ledger_add(struct fm_ledger *ledger)
{
	struct fm_ledger_entry *entry = &ledger->entries[ledger->n++];

	*entry = (struct fm_ledger_entry){};
	return entry;
}

void fm_ledger_commit(struct fm_ledger *ledger)
{
	struct header *header = ledger->header;
	uint64_t serial = header->committed + 1;

	ledger->ops.prepare(ledger->userdata, serial);
	header->n = (uint32_t)ledger->n;
	__atomic_store_n(&header->committed, serial, __ATOMIC_SEQ_CST);
	apply(ledger, ledger->n);
	ledger->n = 0;
	/* Published before it is forgotten that it was to be. */
	ledger->ops.publish(ledger->userdata);
	__atomic_store_n(&header->applied, serial, __ATOMIC_RELEASE);
}

void fm_ledger_forget(struct fm_ledger *ledger)
{
	fm_kept_forget(&ledger->kept);
}
