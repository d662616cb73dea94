/* SPDX-License-Identifier: Apache-2.0 */
/* The overflow ring's reader: see overflow.h. */
#include "daemon/overflow.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/random.h>

#include "base/macro.h"
#include "bpf/hash.h"
#include "daemon/ring.h"

#define BUCKETS (2 * FM_OVERFLOW_FLOWS)
#define NO_FLOW UINT16_MAX

struct fm_overflow_reader {
	struct fm_ring *ring;
	unsigned int number; /* of the shared maps that it is of */
	struct fm_export *exporter;
	struct fm_ledger *ledger;
	struct fm_conversation *flows;
	size_t n_flows;
	uint16_t buckets[BUCKETS]; /* indexes of flows */
	__u64 seed[FM_SEEDS];
	uint64_t conversations;
};

/* Finds or makes the conversation of a key; there is room for one more. */
static struct fm_conversation *find(struct fm_overflow_reader *reader, const struct fm_key *key)
{
	size_t bucket = fm_hash(key, reader->seed) >> 32;

	for (;; bucket++) {
		uint16_t *index = &reader->buckets[bucket % BUCKETS];

		if (*index == NO_FLOW) {
			*index = (uint16_t)reader->n_flows;
			fm_fold_init(&reader->flows[reader->n_flows], key);
			return &reader->flows[reader->n_flows++];
		}
		if (!memcmp(&reader->flows[*index].key, key, sizeof(*key)))
			return &reader->flows[*index];
	}
}

static void merge(struct fm_overflow_reader *reader, const void *data, size_t size)
{
	struct fm_overflow event;

	if (size < sizeof(event))
		return;
	/* The ring aligns to 8 octets, the half wants 64. */
	memcpy(&event, data, sizeof(event));
	fm_fold_half(find(reader, &event.key), event.direction & 1, &event.half);
}

/* Merges as many events as a batch takes. Returns whether there were any. */
static bool read_batch(struct fm_overflow_reader *reader)
{
	uint64_t before = fm_ring_position(reader->ring);

	reader->n_flows = 0;
	memset(reader->buckets, 0xff, sizeof(reader->buckets));
	while (reader->n_flows < FM_OVERFLOW_FLOWS) {
		size_t size;
		const void *event = fm_ring_read(reader->ring, &size);

		if (!event)
			break;
		merge(reader, event, size);
	}
	return fm_ring_position(reader->ring) != before;
}

/* A batch and where the ring is consumed to are one transaction. */
static void export_batch(struct fm_overflow_reader *reader)
{
	struct fm_ledger_entry *entry;

	if (!fm_ledger_has_room(reader->ledger))
		fm_ledger_commit(reader->ledger);
	for (size_t i = 0; i < reader->n_flows; i++)
		fm_export_conversation(reader->exporter, &reader->flows[i],
				       FM_END_REASON_RESOURCES);
	reader->conversations += reader->n_flows;
	entry = fm_ledger_add(reader->ledger);
	entry->op = FM_LEDGER_CONSUMED;
	entry->generation = reader->number;
	entry->value = fm_ring_position(reader->ring);
	fm_ledger_commit(reader->ledger);
}

bool fm_overflow_read(struct fm_overflow_reader *reader)
{
	while (fm_export_room(reader->exporter)) {
		if (!read_batch(reader))
			return false;
		export_batch(reader);
	}
	return true;
}

void fm_overflow_consumed(struct fm_overflow_reader *reader, uint64_t position)
{
	fm_ring_consume(reader->ring, position);
}

int fm_overflow_new(struct fm_overflow_reader **ret, struct fm_kernel *kernel,
		    struct fm_export *exporter, struct fm_ledger *ledger)
{
	_fm_cleanup_(fm_overflow_freep) struct fm_overflow_reader *reader = NULL;
	int r;

	reader = calloc(1, sizeof(*reader));
	if (!reader)
		return -ENOMEM;
	reader->number = fm_kernel_shared(kernel);
	reader->exporter = exporter;
	reader->ledger = ledger;
	reader->flows = aligned_alloc(_Alignof(struct fm_conversation),
				      FM_OVERFLOW_FLOWS * sizeof(*reader->flows));
	if (!reader->flows)
		return -ENOMEM;
	if (getrandom(reader->seed, sizeof(reader->seed), 0) != (ssize_t)sizeof(reader->seed))
		return -EIO;
	r = fm_ring_new(&reader->ring, fm_kernel_overflow_fd(kernel));
	if (r < 0)
		return r;
	*ret = FM_TAKE_PTR(reader);
	return 0;
}

struct fm_overflow_reader *fm_overflow_free(struct fm_overflow_reader *reader)
{
	if (!reader)
		return NULL;
	fm_ring_free(reader->ring);
	free(reader->flows);
	free(reader);
	return NULL;
}

uint64_t fm_overflow_conversations(const struct fm_overflow_reader *reader)
{
	return reader->conversations;
}
