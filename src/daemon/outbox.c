/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Outboxes: see outbox.h. Positions count octets since the beginning and never wrap; a message lies
 * in one piece, so the end of the ring may be filled up.
 */
#include "daemon/outbox.h"

#include <arpa/inet.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/macro.h"
#include "daemon/kept.h"

#define HEADER_PAGES 2
#define MESSAGE_MAX  (1 << 20)
/* Nothing counts up to here. */
#define POSITION_MAX (UINT64_MAX / 2)

static const struct fm_kept_form kept_form = {
	.map = "fm_outbox",
	.magic = "fmoutbox",
	.version = 3,
	.value_size = FM_KEPT_PAGE,
};

/* What is published and what comes next; the next only counts with its serial. */
struct point {
	uint64_t end;
	struct fm_outbox_numbers numbers;
};

/* In shared memory: the first pages. */
struct header {
	struct fm_kept_head head;
	uint32_t pages;
	uint64_t tail;		   /* all before is done */
	struct point published[2]; /* in turns: the one that counts is whole */
	uint32_t which;
	uint64_t serial; /* of prepared; 0: there is nothing prepared */
	struct point prepared;
	uint64_t account[768];
	char name[FM_STORE_NAME_MAX]; /* in the store: another's is not to be used by two */
};

_Static_assert(sizeof(struct header) <= HEADER_PAGES * FM_KEPT_PAGE, "its pages");

enum state {
	STATE_WAITING = 1,
	STATE_GIVEN,
	STATE_DONE,
	STATE_FILL, /* up to the end of the ring */
};

/* In front of each message, at multiples of 8. */
struct entry {
	uint32_t length; /* to the next one */
	uint32_t size;	 /* of the message */
	uint32_t state, audits;
	uint32_t records, sequenced, domain;
	uint16_t is_template, is_kept;
	uint64_t packets, octets;
};

struct fm_outbox {
	struct fm_kept kept;
	struct header *header;
	uint8_t *ring;
	size_t size; /* of the ring */
	struct point now;
	uint64_t given; /* what is before was given out */
	size_t waiting;
	unsigned int sequence_offset;
};

static struct entry *entry_at(const struct fm_outbox *outbox, uint64_t position)
{
	return (struct entry *)(outbox->ring + position % outbox->size);
}

/* Whether an entry can be what it says: all of it before end and in the ring. */
static bool entry_is_sound(const struct fm_outbox *outbox, uint64_t position, uint64_t end)
{
	size_t left = outbox->size - position % outbox->size;
	const struct entry *entry = entry_at(outbox, position);

	if (position % 8 || end - position < sizeof(*entry) || left < sizeof(*entry))
		return false;
	if (entry->length % 8 || entry->length < sizeof(*entry) || entry->length > left ||
	    entry->length > end - position)
		return false;
	return entry->size <= entry->length - sizeof(*entry) && entry->state >= STATE_WAITING &&
	       entry->state <= STATE_FILL;
}

/* Looks through what is there; false: it contradicts itself. */
static bool survey(struct fm_outbox *outbox, struct fm_outbox_found *ret)
{
	uint64_t end = outbox->now.end, position = outbox->header->tail;
	size_t n = 0;

	if (position > end || end - position > outbox->size || position % 8 || end % 8 ||
	    end > POSITION_MAX)
		return false;
	*ret = (struct fm_outbox_found){};
	while (position < end) {
		const struct entry *entry = entry_at(outbox, position);

		if (!entry_is_sound(outbox, position, end))
			return false;
		n += entry->state == STATE_WAITING || entry->state == STATE_GIVEN;
		position += entry->length;
	}
	ret->messages = outbox->waiting = n;
	return true;
}

static void advance(struct fm_outbox *outbox)
{
	struct header *header = outbox->header;
	uint64_t tail = header->tail;

	while (tail < outbox->given) {
		const struct entry *entry = entry_at(outbox, tail);

		if (entry->state != STATE_DONE && entry->state != STATE_FILL)
			break;
		tail += entry->length;
	}
	__atomic_store_n(&header->tail, tail, __ATOMIC_RELEASE);
}

static bool adopt(struct fm_outbox *outbox, const struct fm_outbox_options *options,
		  struct fm_outbox_found *ret)
{
	const struct header *header = outbox->header;

	if (header->pages != outbox->kept.n_elements ||
	    strncmp(header->name, outbox->kept.name, sizeof(header->name)))
		return false;
	outbox->now = header->published[header->which & 1];
	if (header->serial && header->serial <= options->committed &&
	    header->prepared.end >= outbox->now.end)
		outbox->now = header->prepared;
	if (!survey(outbox, ret))
		return false;
	outbox->given = header->tail;
	fm_outbox_publish(outbox);
	return true;
}

static void set_memory(struct fm_outbox *outbox)
{
	outbox->header = outbox->kept.memory;
	outbox->ring = (uint8_t *)outbox->kept.memory + HEADER_PAGES * FM_KEPT_PAGE;
	outbox->size = (size_t)(outbox->kept.n_elements - HEADER_PAGES) * FM_KEPT_PAGE;
}

static int take(struct fm_outbox *outbox, const struct fm_outbox_options *options,
		struct fm_outbox_found *ret)
{
	int r = fm_kept_take(&outbox->kept);

	if (r < 0)
		return r;
	set_memory(outbox);
	if (adopt(outbox, options, ret))
		return 0;
	outbox->now = (struct point){};
	return fm_kept_refuse(&outbox->kept);
}

static int make(struct fm_outbox *outbox)
{
	int r = fm_kept_make(&outbox->kept);

	if (r < 0)
		return r;
	set_memory(outbox);
	outbox->header->pages = outbox->kept.n_elements;
	strcpy(outbox->header->name, outbox->kept.name);
	return 0;
}

int fm_outbox_new(struct fm_outbox **ret, const struct fm_outbox_options *options,
		  struct fm_outbox_found *ret_found)
{
	_fm_cleanup_(fm_outbox_freep) struct fm_outbox *outbox = calloc(1, sizeof(*outbox));
	int r;

	*ret_found = (struct fm_outbox_found){};
	if (!outbox)
		return -ENOMEM;
	if (options->account_octets > sizeof(outbox->header->account))
		return -EINVAL;
	r = fm_kept_init(&outbox->kept, &kept_form, options->store, options->name,
			 HEADER_PAGES + fm_kept_pages(options->octets));
	if (r < 0)
		return r;
	outbox->sequence_offset = options->sequence_offset;
	r = take(outbox, options, ret_found);
	if (r < 0)
		*ret_found = (struct fm_outbox_found){.unsound = r != -ENOENT};
	if (r < 0)
		r = make(outbox);
	if (r < 0)
		return r;
	*ret = FM_TAKE_PTR(outbox);
	return 0;
}

struct fm_outbox *fm_outbox_free(struct fm_outbox *outbox)
{
	if (!outbox)
		return NULL;
	fm_kept_done(&outbox->kept);
	free(outbox);
	return NULL;
}

int fm_outbox_keep(struct fm_outbox *outbox)
{
	return fm_kept_put(&outbox->kept);
}

void fm_outbox_forget(struct fm_outbox *outbox)
{
	fm_kept_forget(&outbox->kept);
}

void fm_outbox_leave(struct fm_outbox *outbox, char ret_name[FM_STORE_NAME_MAX])
{
	fm_outbox_publish(outbox);
	snprintf(ret_name, FM_STORE_NAME_MAX, "%s", outbox->kept.in_store ? outbox->kept.name : "");
	outbox->kept.in_store = false;
}

void fm_outbox_get_numbers(const struct fm_outbox *outbox, struct fm_outbox_numbers *ret)
{
	*ret = outbox->now.numbers;
}

void fm_outbox_set_numbers(struct fm_outbox *outbox, const struct fm_outbox_numbers *numbers)
{
	outbox->now.numbers = *numbers;
	fm_outbox_publish(outbox);
}

void *fm_outbox_account(struct fm_outbox *outbox)
{
	return outbox->header->account;
}

/* The domain's next number goes into the message. */
static void put_sequence(struct fm_outbox *outbox, uint8_t *message,
			 const struct fm_message_info *info)
{
	struct fm_outbox_numbers *numbers = &outbox->now.numbers;
	unsigned int i = 0;
	uint32_t number;

	/* Domain 0 is there from the beginning: number 0 of no other. */
	while (i < FM_OUTBOX_DOMAINS && numbers->v[i].domain != info->domain &&
	       (numbers->v[i].domain || numbers->v[i].next))
		i++;
	/* A domain that was changed again and again. */
	if (i == FM_OUTBOX_DOMAINS)
		numbers->v[--i].next = 0;
	numbers->v[i].domain = info->domain;
	number = htonl(numbers->v[i].next);
	memcpy(message + outbox->sequence_offset, &number, sizeof(number));
	numbers->v[i].next += info->sequenced;
}

static bool has_room(const struct fm_outbox *outbox, uint64_t length)
{
	return outbox->now.end + length - outbox->header->tail <= outbox->size;
}

bool fm_outbox_append(struct fm_outbox *outbox, const uint8_t *message, size_t size,
		      const struct fm_message_info *info)
{
	size_t length = sizeof(struct entry) + (size + 7) / 8 * 8;
	size_t left = outbox->size - outbox->now.end % outbox->size;
	struct entry *entry = entry_at(outbox, outbox->now.end);

	if (size > MESSAGE_MAX || length > outbox->size)
		return false;
	if (length > left) {
		if (!has_room(outbox, left + length))
			return false;
		*entry = (struct entry){.length = (uint32_t)left, .state = STATE_FILL};
		outbox->now.end += left;
		left = outbox->size;
		entry = entry_at(outbox, outbox->now.end);
	}
	/* What is too small for one more entry belongs to this one. */
	if (left - length < sizeof(*entry))
		length = left;
	if (!has_room(outbox, length))
		return false;
	*entry = (struct entry){
		.length = (uint32_t)length,
		.size = (uint32_t)size,
		.state = STATE_WAITING,
		.records = info->records,
		.sequenced = info->sequenced,
		.domain = info->domain,
		.is_template = info->is_template,
		.is_kept = info->is_kept,
		.audits = info->audits,
		.packets = info->packets,
		.octets = info->octets,
	};
	memcpy(entry + 1, message, size);
	if (outbox->sequence_offset && size >= outbox->sequence_offset + sizeof(uint32_t))
		put_sequence(outbox, (uint8_t *)(entry + 1), info);
	outbox->now.end += length;
	outbox->waiting++;
	return true;
}

void fm_outbox_prepare(struct fm_outbox *outbox, uint64_t serial)
{
	struct header *header = outbox->header;

	__atomic_store_n(&header->serial, 0, __ATOMIC_RELEASE);
	__atomic_thread_fence(__ATOMIC_SEQ_CST);
	header->prepared = outbox->now;
	__atomic_store_n(&header->serial, serial, __ATOMIC_RELEASE);
}

void fm_outbox_publish(struct fm_outbox *outbox)
{
	struct header *header = outbox->header;
	uint32_t other = !(header->which & 1);

	header->published[other] = outbox->now;
	__atomic_store_n(&header->which, other, __ATOMIC_RELEASE);
	__atomic_store_n(&header->serial, 0, __ATOMIC_RELEASE);
}

static uint64_t published_end(const struct fm_outbox *outbox)
{
	return outbox->header->published[outbox->header->which & 1].end;
}

static struct fm_message_info info_of(const struct entry *entry, uint64_t position)
{
	return (struct fm_message_info){
		.records = entry->records,
		.packets = entry->packets,
		.octets = entry->octets,
		.sequenced = entry->sequenced,
		.domain = entry->domain,
		.is_template = entry->is_template,
		.is_kept = entry->is_kept,
		.audits = entry->audits,
		.outbox_id = position + 1,
	};
}

static struct entry *find_given(const struct fm_outbox *outbox, uint64_t id)
{
	uint64_t position = outbox->header->tail;

	/* An id that is no entry's may be anything. */
	while (position < published_end(outbox) && position + 1 < id)
		position += entry_at(outbox, position)->length;
	if (position >= published_end(outbox) || position + 1 != id ||
	    entry_at(outbox, position)->state != STATE_GIVEN)
		return NULL;
	return entry_at(outbox, position);
}

bool fm_outbox_was_given(const struct fm_outbox *outbox, uint64_t id)
{
	return find_given(outbox, id);
}

bool fm_outbox_settle(struct fm_outbox *outbox, uint64_t id, size_t *ret_size,
		      struct fm_message_info *ret_info)
{
	struct entry *entry = find_given(outbox, id);

	if (!entry)
		return false;
	*ret_size = entry->size;
	*ret_info = info_of(entry, id - 1);
	entry->state = STATE_DONE;
	outbox->waiting--;
	advance(outbox);
	return true;
}

bool fm_outbox_peek(struct fm_outbox *outbox, const uint8_t **ret_message, size_t *ret_size,
		    struct fm_message_info *ret_info)
{
	while (outbox->given < published_end(outbox)) {
		const struct entry *entry = entry_at(outbox, outbox->given);

		if (entry->state == STATE_FILL || entry->state == STATE_DONE) {
			outbox->given += entry->length;
			advance(outbox);
			continue;
		}
		*ret_message = (const uint8_t *)(entry + 1);
		*ret_size = entry->size;
		*ret_info = info_of(entry, outbox->given);
		return true;
	}
	return false;
}

void fm_outbox_give(struct fm_outbox *outbox)
{
	struct entry *entry = entry_at(outbox, outbox->given);

	__atomic_store_n(&entry->state, STATE_GIVEN, __ATOMIC_RELEASE);
	outbox->given += entry->length;
}

/* An id is a position and 1. */
static struct entry *entry_of(const struct fm_outbox *outbox, uint64_t id)
{
	if (id == 0 || id - 1 < outbox->header->tail || id - 1 >= outbox->given)
		return NULL;
	return entry_at(outbox, id - 1);
}

void fm_outbox_done(struct fm_outbox *outbox, uint64_t id)
{
	struct entry *entry = entry_of(outbox, id);

	if (!entry || entry->state == STATE_DONE)
		return;
	__atomic_store_n(&entry->state, STATE_DONE, __ATOMIC_RELEASE);
	outbox->waiting--;
	advance(outbox);
}

size_t fm_outbox_room(const struct fm_outbox *outbox)
{
	size_t used = outbox->now.end - outbox->header->tail;
	size_t left = outbox->size - outbox->now.end % outbox->size;

	/* The larger piece: a message lies in one. */
	if (outbox->size - used <= left)
		return outbox->size - used;
	return FM_MAX(left, outbox->size - used - left);
}

bool fm_outbox_is_half_empty(const struct fm_outbox *outbox)
{
	return outbox->now.end - outbox->header->tail < outbox->size / 2;
}

size_t fm_outbox_waiting(const struct fm_outbox *outbox)
{
	return outbox->waiting;
}
