/* SPDX-License-Identifier: Apache-2.0 */
/* See reader.h. */
#include "reader.h"

#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>

#include "base/macro.h"

#define READER_HEADER 16

bool same(const struct sums *a, const struct sums *b)
{
	if (!memcmp(a, b, sizeof(*a)))
		return true;
	printf("# records %" PRIu64 " and %" PRIu64 ", packets %" PRIu64 " and %" PRIu64
	       ", octets %" PRIu64 " and %" PRIu64 "\n",
	       a->records, b->records, a->packets, b->packets, a->octets, b->octets);
	return false;
}

static uint64_t reader_get(const uint8_t *at, unsigned int size)
{
	uint64_t value = 0;

	for (unsigned int i = 0; i < size; i++)
		value = value << 8 | at[i];
	return value;
}

void reader_init(struct reader *reader, const struct fm_session_options *options)
{
	memset(reader, 0, sizeof(*reader));
	reader->message_size = options->message_size;
	for (unsigned int i = 0; i < FM_LAYOUTS_RECORDS; i++)
		fm_layout_records(&reader->layouts[i], options, i);
	for (unsigned int i = 0; i < _FM_OPTIONS_MAX; i++)
		fm_layout_options(&reader->option_layouts[i], options, (enum fm_options_kind)i);
}

void reader_know_all(struct reader *reader)
{
	memset(reader->described, 1, sizeof(reader->described));
}

static size_t reader_audits(struct reader *reader, const uint8_t *at, const uint8_t *end)
{
	const struct fm_layout *layout = &reader->option_layouts[FM_OPTIONS_AUDIT];
	size_t n = 0;

	for (; at + layout->record_size <= end; at += layout->record_size, n++) {
		const uint8_t *field = at;

		for (unsigned int i = 0; i < layout->n; field += layout->fields[i++].wire)
			if (layout->fields[i].ie == 430)
				reader->audit_frames += reader_get(field, layout->fields[i].wire);
	}
	reader->audits += n;
	return n;
}

static size_t reader_data(struct reader *reader, const struct fm_layout *layout, const uint8_t *at,
			  const uint8_t *end)
{
	size_t n = 0;

	for (; at < end; at += layout->record_size, n++) {
		const uint8_t *field = at;

		reader->got.records++;
		for (unsigned int i = 0; i < layout->n; field += layout->fields[i++].wire)
			if (!layout->fields[i].pen && layout->fields[i].ie == 1)
				reader->got.octets += reader_get(field, layout->fields[i].wire);
			else if (!layout->fields[i].pen && layout->fields[i].ie == 2)
				reader->got.packets += reader_get(field, layout->fields[i].wire);
	}
	return n;
}

static void reader_message(struct reader *reader, const uint8_t *message, size_t size)
{
	uint32_t *expected = &reader->expected[reader_get(message + 12, 4) != 0];
	uint16_t set = (uint16_t)reader_get(message + READER_HEADER, 2);
	size_t data_size = size - READER_HEADER - 4, n = 0;

	reader->messages++;
	if (reader_get(message + 8, 4) != *expected) {
		printf("# sequence %" PRIu64 ", not %u\n", reader_get(message + 8, 4), *expected);
		reader->faults++;
	}
	if (set == 2 || set == 3) {
		uint16_t id = (uint16_t)reader_get(message + READER_HEADER + 4, 2);

		reader->templates++;
		reader->rounds += id == reader->layouts[0].id;
		reader->described[id % sizeof(reader->described)] = true;
		return;
	}
	for (unsigned int i = 0; i < FM_LAYOUTS_RECORDS; i++)
		if (set == reader->layouts[i].id)
			n = reader_data(reader, &reader->layouts[i], message + READER_HEADER + 4,
					message + size);
	for (unsigned int i = 0; i < _FM_OPTIONS_MAX; i++)
		if (set == reader->option_layouts[i].id)
			reader->options[i] += n = data_size / reader->option_layouts[i].record_size;
	if (set == reader->option_layouts[FM_OPTIONS_AUDIT].id)
		n = reader_audits(reader, message + READER_HEADER + 4, message + size);
	*expected += (uint32_t)n;
	/* Templates come first: those of the families and of options. */
	if (!n || !reader->described[set % sizeof(reader->described)])
		reader->faults++;
}

/* Whole messages of a stream. */
static void reader_stream(struct reader *reader)
{
	size_t at = 0;

	while (reader->size - at >= READER_HEADER) {
		const uint8_t *message = reader->data + at;
		size_t size = reader_get(message + 2, 2);

		if (reader_get(message, 2) != 10 || size < READER_HEADER ||
		    size > FM_MAX(reader->message_size, (size_t)FM_SESSION_TEMPLATE_MAX)) {
			reader->faults++;
			reader->size = 0;
			return;
		}
		if (reader->size - at < size)
			break;
		reader_message(reader, message, size);
		at += size;
	}
	memmove(reader->data, reader->data + at, reader->size - at);
	reader->size -= at;
}

void reader_feed(struct reader *reader, const uint8_t *data, size_t size, bool stream)
{
	if (stream) {
		memcpy(reader->data + reader->size, data, size);
		reader->size += size;
		reader_stream(reader);
		return;
	}
	if (size != reader_get(data + 2, 2))
		reader->faults++;
	reader_message(reader, data, size);
}

bool reader_drain(struct reader *reader, int fd, bool stream)
{
	for (;;) {
		ssize_t n = recv(fd, reader->data + reader->size,
				 sizeof(reader->data) - reader->size, MSG_DONTWAIT);

		if (n <= 0)
			return n == 0 || errno != EAGAIN;
		if (stream) {
			reader->size += (size_t)n;
			reader_stream(reader);
		} else {
			reader_feed(reader, reader->data, (size_t)n, false);
		}
	}
}
