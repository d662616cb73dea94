/* SPDX-License-Identifier: Apache-2.0 */
/*
 * NetFlow v9, RFC 3954 with erratum 2096: one FlowSet a message. Types above 127 are IPFIX's
 * elements, as collectors take them.
 */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "base/macro.h"
#include "ipfix/encoder.h"

#define HEADER		     20
#define SET_HEADER	     4
#define SET_TEMPLATE	     0
#define SET_OPTIONS_TEMPLATE 1
#define SCOPE_SYSTEM	     1

static int v9_new(struct fm_encoder **ret, const struct fm_session_options *options,
		  const struct fm_layout *layouts, size_t n)
{
	struct fm_encoder *encoder = calloc(1, sizeof(*encoder));

	if (!encoder)
		return -ENOMEM;
	encoder->message = malloc(options->message_size);
	if (!encoder->message) {
		free(encoder);
		return -ENOMEM;
	}
	*ret = encoder;
	return 0;
}

static void v9_free(struct fm_encoder *encoder)
{
	free(encoder->message);
	free(encoder);
}

static size_t v9_fit(const struct fm_encoder *encoder, const struct fm_layout *layout)
{
	size_t room = encoder->message_size - HEADER - SET_HEADER;

	return (room & ~(size_t)3) / layout->record_size;
}

/* The set's length and padding to 4 octets, which the length counts; then the header's count. */
static void finish(struct fm_encoder *encoder, uint16_t set, uint8_t *end, size_t count)
{
	while ((end - encoder->message) % 4)
		*end++ = 0;
	encoder->size = (size_t)(end - encoder->message);
	memset(encoder->message, 0, HEADER);
	fm_put16(encoder->message, 9);
	fm_put16(encoder->message + 2, (uint16_t)count);
	fm_put16(encoder->message + HEADER, set);
	fm_put16(encoder->message + HEADER + 2, (uint16_t)(encoder->size - HEADER));
}

static int v9_describe(struct fm_encoder *encoder, const struct fm_layout *layout)
{
	uint8_t *p = encoder->message + HEADER + SET_HEADER;
	unsigned int options = layout->n - layout->n_scope;

	if (HEADER + SET_HEADER + 8 + 4u * layout->n > encoder->message_size)
		return -EMSGSIZE;
	fm_put16(p, layout->id);
	p += 2;
	if (layout->is_options) {
		fm_put16(p, (uint16_t)(4 * layout->n_scope)); /* in octets */
		fm_put16(p + 2, (uint16_t)(4 * options));
		p += 4;
	} else {
		fm_put16(p, layout->n);
		p += 2;
	}
	for (unsigned int i = 0; i < layout->n; i++, p += 4) {
		const struct fm_field *field = &layout->fields[i];

		fm_put16(p, i < layout->n_scope ? SCOPE_SYSTEM : field->v9);
		fm_put16(p + 2, field->wire);
	}
	finish(encoder, layout->is_options ? SET_OPTIONS_TEMPLATE : SET_TEMPLATE, p, 1);
	return 0;
}

static int v9_data(struct fm_encoder *encoder, const struct fm_layout *layout,
		   const uint8_t *records, size_t n)
{
	uint8_t *p = encoder->message + HEADER + SET_HEADER;

	memcpy(p, records, n * layout->record_size);
	finish(encoder, layout->id, p + n * layout->record_size, n);
	return 0;
}

/*
 * unix_secs has whole seconds: sysUptime is made to fit it, so that the boot time a collector
 * derives is always the same.
 */
static void v9_stamp(struct fm_encoder *encoder, const struct fm_stamp *stamp)
{
	uint64_t seconds = stamp->now_ns / FM_NS_PER_S;
	uint64_t uptime = seconds * 1000 - stamp->boot_ns / FM_NS_PER_MS;

	fm_put32(encoder->message + 4, (uint32_t)uptime);
	fm_put32(encoder->message + 8, (uint32_t)seconds);
	fm_put32(encoder->message + 12, stamp->sequence);
	fm_put32(encoder->message + 16, stamp->domain);
}

static uint32_t v9_sequenced(size_t n)
{
	return 1; /* counts messages, of every kind */
}

const struct fm_encoder_ops fm_encoder_v9 = {
	.new = v9_new,
	.free = v9_free,
	.fit = v9_fit,
	.describe = v9_describe,
	.data = v9_data,
	.stamp = v9_stamp,
	.sequenced = v9_sequenced,
};
