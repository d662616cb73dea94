/* SPDX-License-Identifier: Apache-2.0 */
/* The overflow ring's reader: see overflow.h. */
#include "daemon/overflow.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/random.h>

#include <bpf/libbpf.h>

#include "bpf/hash.h"

#define BUCKETS (2 * FM_OVERFLOW_FLOWS)
#define NO_FLOW UINT16_MAX

struct fm_overflow_reader {
	struct ring_buffer *ring;
	struct fm_export *exporter;
	struct fm_conversation *flows;
	size_t n_flows, next_flow; /* those before next_flow are exported */
	uint16_t buckets[BUCKETS]; /* indexes of flows */
	__u64 seed[FM_SEEDS];
	uint64_t conversations;
};

/* Finds or makes the conversation of a key; NULL when there is no room for one more. */
static struct fm_conversation *find(struct fm_overflow_reader *reader, const struct fm_key *key)
{
	size_t bucket = fm_hash(key, reader->seed) >> 32;

	for (;; bucket++) {
		uint16_t *index = &reader->buckets[bucket % BUCKETS];

		if (*index == NO_FLOW) {
			if (reader->n_flows == FM_OVERFLOW_FLOWS)
				return NULL;
			*index = reader->n_flows;
			fm_fold_init(&reader->flows[reader->n_flows], key);
			return &reader->flows[reader->n_flows++];
		}
		if (!memcmp(&reader->flows[*index].key, key, sizeof(*key)))
			return &reader->flows[*index];
	}
}

static void clear(struct fm_overflow_reader *reader)
{
	reader->n_flows = 0;
	reader->next_flow = 0;
	memset(reader->buckets, 0xff, sizeof(reader->buckets));
}

/* Returns non-zero to stop reading after this event, when one more key might not fit. */
static int on_event(void *userdata, void *data, size_t size)
{
	struct fm_overflow_reader *reader = userdata;
	struct fm_conversation *flow;
	struct fm_overflow event;

	if (size < sizeof(event))
		return 0;
	/* The ring aligns to 8 octets, the half wants 64. */
	memcpy(&event, data, sizeof(event));
	flow = find(reader, &event.key);
	if (flow)
		fm_fold_half(flow, event.direction & 1, &event.half);
	return reader->n_flows == FM_OVERFLOW_FLOWS ? -ENOSPC : 0;
}

/* Whether everything that was merged is exported. */
static bool export_merged(struct fm_overflow_reader *reader)
{
	while (reader->next_flow < reader->n_flows) {
		if (!fm_export_room(reader->exporter))
			return false;
		fm_export_conversation(reader->exporter, &reader->flows[reader->next_flow++],
				       FM_END_REASON_RESOURCES);
		reader->conversations++;
	}
	clear(reader);
	return true;
}

bool fm_overflow_read(struct fm_overflow_reader *reader)
{
	int r;

	do {
		if (!export_merged(reader))
			return true;
		r = ring_buffer__consume(reader->ring);
	} while (r == -ENOSPC);
	return !export_merged(reader);
}

int fm_overflow_new(struct fm_overflow_reader **ret, struct fm_kernel *kernel,
		    struct fm_export *exporter)
{
	_fm_cleanup_(fm_overflow_freep) struct fm_overflow_reader *reader = NULL;

	reader = calloc(1, sizeof(*reader));
	if (!reader)
		return -ENOMEM;
	reader->exporter = exporter;
	reader->flows = aligned_alloc(_Alignof(struct fm_conversation),
				      FM_OVERFLOW_FLOWS * sizeof(*reader->flows));
	if (!reader->flows)
		return -ENOMEM;
	if (getrandom(reader->seed, sizeof(reader->seed), 0) != (ssize_t)sizeof(reader->seed))
		return -EIO;
	clear(reader);
	reader->ring = ring_buffer__new(fm_kernel_overflow_fd(kernel), on_event, reader, NULL);
	if (!reader->ring)
		return -errno;
	*ret = FM_TAKE_PTR(reader);
	return 0;
}

struct fm_overflow_reader *fm_overflow_free(struct fm_overflow_reader *reader)
{
	if (!reader)
		return NULL;
	ring_buffer__free(reader->ring);
	free(reader->flows);
	free(reader);
	return NULL;
}

uint64_t fm_overflow_conversations(const struct fm_overflow_reader *reader)
{
	return reader->conversations;
}
