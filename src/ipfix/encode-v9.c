/* SPDX-License-Identifier: Apache-2.0 */
/*
 * NetFlow v9 (RFC 3954 with erratum 2096), written from the rows of the layouts. One FlowSet a
 * packet, padded to 4 octets.
 */
#include "ipfix/encode.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "base/macro.h"

#define VERSION		   9
#define HEADER_SIZE	   20
#define SET_HEADER_SIZE	   4
#define SET_TEMPLATE	   0
#define SET_OPTIONS	   1
#define SCOPE_SYSTEM	   1
#define SCOPE_INTERFACE	   2
#define FIELD_SIZE	   4
#define ELEMENT_INTERFACE  252
#define ALIGN_DOWN4(value) ((value) & ~(size_t)3)

_Static_assert(FM_SESSION_TEMPLATE_MAX >=
		       HEADER_SIZE + SET_HEADER_SIZE + 6 + FM_LAYOUT_FIELDS_MAX * FIELD_SIZE,
	       "a template of all fields");

struct v9 {
	struct fm_encoder encoder;
	uint64_t boot_ns;
	uint32_t sequence; /* packets of all kinds; there is one source id */
	size_t size;	   /* of message */
	uint8_t message[];
};

static size_t v9_capacity(const struct fm_session_options *options, const struct fm_layout *layout)
{
	size_t set = ALIGN_DOWN4(options->message_size - HEADER_SIZE);

	return (set - SET_HEADER_SIZE) / layout->record_size;
}

static int v9_new(struct fm_encoder **ret, const struct fm_session_options *options)
{
	size_t size = FM_MAX(options->message_size, (size_t)FM_SESSION_TEMPLATE_MAX);
	struct v9 *v9 = malloc(sizeof(*v9) + size);

	if (!v9)
		return -ENOMEM;
	*v9 = (struct v9){.encoder.ops = &fm_encoder_v9, .boot_ns = options->boot_ns, .size = size};
	*ret = &v9->encoder;
	return 0;
}

static int v9_add(struct fm_encoder *encoder, const struct fm_layout *layout)
{
	return 0; /* a layout is all it needs */
}

static void v9_free(struct fm_encoder *encoder)
{
	free(encoder);
}

static int v9_restart(struct fm_encoder *encoder)
{
	((struct v9 *)encoder)->sequence = 0;
	return 0;
}

/* Pads the set, then writes the headers before it. count: records or templates (RFC 3954 5.1). */
static void finish(struct v9 *v9, const struct fm_layout *layout, uint16_t set_id, uint8_t *end,
		   uint16_t count, uint64_t now_ns, struct fm_encoded *ret)
{
	uint8_t *at = v9->message;
	uint32_t seconds = (uint32_t)(now_ns / FM_NS_PER_S);

	while ((end - v9->message) % 4)
		*end++ = 0;
	at = fm_put_u16(at, VERSION);
	at = fm_put_u16(at, count);
	/*
	 * The header tells the time in whole seconds: sysUptime is of the same moment, so that a
	 * collector finds the same boot time in every packet.
	 */
	at = fm_put_u32(at, (uint32_t)(seconds * 1000ULL - v9->boot_ns / FM_NS_PER_MS));
	at = fm_put_u32(at, seconds);
	at = fm_put_u32(at, v9->sequence++);
	at = fm_put_u32(at, layout->domain);
	at = fm_put_u16(at, set_id);
	fm_put_u16(at, (uint16_t)(end - v9->message - HEADER_SIZE));
	*ret = (struct fm_encoded){
		.message = v9->message, .size = (size_t)(end - v9->message), .sequenced = 1};
}

/* RFC 3954 6.1: an interface has a type of its own, a domain is the system. */
static uint16_t scope_type(const struct fm_field *field)
{
	return field->ie == ELEMENT_INTERFACE ? SCOPE_INTERFACE : SCOPE_SYSTEM;
}

static int v9_describe(struct fm_encoder *encoder, const struct fm_layout *layout, uint64_t now_ns,
		       struct fm_encoded *ret)
{
	struct v9 *v9 = (struct v9 *)encoder;
	uint8_t *at = v9->message + HEADER_SIZE + SET_HEADER_SIZE;

	at = fm_put_u16(at, layout->id);
	if (layout->is_options) { /* lengths in octets (RFC 3954 6.1) */
		at = fm_put_u16(at, layout->n_scope * FIELD_SIZE);
		at = fm_put_u16(at, (layout->n - layout->n_scope) * FIELD_SIZE);
	} else {
		at = fm_put_u16(at, layout->n);
	}
	for (unsigned int i = 0; i < layout->n; i++) {
		at = fm_put_u16(at, i < layout->n_scope ? scope_type(&layout->fields[i])
							: layout->fields[i].v9);
		at = fm_put_u16(at, layout->fields[i].wire);
	}
	finish(v9, layout, layout->is_options ? SET_OPTIONS : SET_TEMPLATE, at, 1, now_ns, ret);
	return 0;
}

static int v9_encode(struct fm_encoder *encoder, const struct fm_layout *layout,
		     const uint8_t *records, size_t n, uint64_t now_ns, struct fm_encoded *ret)
{
	struct v9 *v9 = (struct v9 *)encoder;
	uint8_t *at = v9->message + HEADER_SIZE + SET_HEADER_SIZE;
	size_t size = n * layout->record_size;

	memcpy(at, records, size);
	finish(v9, layout, layout->id, at + size, (uint16_t)n, now_ns, ret);
	return 0;
}

const struct fm_encoder_ops fm_encoder_v9 = {
	.new = v9_new,
	.add = v9_add,
	.free = v9_free,
	.restart = v9_restart,
	.capacity = v9_capacity,
	.describe = v9_describe,
	.encode = v9_encode,
};
