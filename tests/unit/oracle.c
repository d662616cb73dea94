/* SPDX-License-Identifier: Apache-2.0 */
/* IPFIX written from the rows of the layouts, by RFC 7011 alone: see oracle.h. */
#include "oracle.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#define DOMAINS	     4
#define SET_TEMPLATE 2
#define SET_OPTIONS  3

struct oracle {
	struct fm_encoder encoder;
	size_t n_domains;
	struct {
		uint32_t domain, sequence;
	} domains[DOMAINS];
	uint8_t message[65536];
};

static size_t oracle_capacity(const struct fm_session_options *options,
			      const struct fm_layout *layout)
{
	return (options->message_size - 20) / layout->record_size;
}

static int oracle_new(struct fm_encoder **ret, const struct fm_session_options *options)
{
	struct oracle *oracle = calloc(1, sizeof(*oracle));

	if (!oracle)
		return -ENOMEM;
	oracle->encoder.ops = &fm_encoder_oracle;
	*ret = &oracle->encoder;
	return 0;
}

static int oracle_add(struct fm_encoder *encoder, const struct fm_layout *layout)
{
	return 0;
}

static void oracle_free(struct fm_encoder *encoder)
{
	free(encoder);
}

static int oracle_restart(struct fm_encoder *encoder)
{
	((struct oracle *)encoder)->n_domains = 0;
	return 0;
}

static uint32_t *sequence_of(struct oracle *oracle, uint32_t domain)
{
	size_t i = 0;

	while (i < oracle->n_domains && oracle->domains[i].domain != domain)
		i++;
	if (i == oracle->n_domains) {
		if (i == DOMAINS)
			abort();
		oracle->domains[i].domain = domain;
		oracle->domains[i].sequence = 0;
		oracle->n_domains++;
	}
	return &oracle->domains[i].sequence;
}

/* RFC 7011 3.1, 3.3.2: header and set header before what is there. */
static void finish(struct oracle *oracle, const struct fm_layout *layout, uint16_t set_id,
		   const uint8_t *end, uint32_t n, uint64_t now_ns, struct fm_encoded *ret)
{
	size_t size = (size_t)(end - oracle->message);
	uint32_t *sequence = sequence_of(oracle, layout->domain);
	uint8_t *at = oracle->message;

	at = fm_put_u16(at, 10);
	at = fm_put_u16(at, (uint16_t)size);
	at = fm_put_u32(at, (uint32_t)(now_ns / 1000000000));
	at = fm_put_u32(at, *sequence);
	at = fm_put_u32(at, layout->domain);
	at = fm_put_u16(at, set_id);
	fm_put_u16(at, (uint16_t)(size - 16));
	*sequence += n;
	*ret = (struct fm_encoded){.message = oracle->message, .size = size, .sequenced = n};
}

/* RFC 7011 3.4.1, 3.4.2.2, 7 */
static int oracle_describe(struct fm_encoder *encoder, const struct fm_layout *layout,
			   uint64_t now_ns, struct fm_encoded *ret)
{
	struct oracle *oracle = (struct oracle *)encoder;
	uint8_t *at = oracle->message + 20;

	at = fm_put_u16(at, layout->id);
	at = fm_put_u16(at, layout->n);
	if (layout->is_options)
		at = fm_put_u16(at, layout->n_scope);
	for (unsigned int i = 0; i < layout->n; i++) {
		const struct fm_field *field = &layout->fields[i];

		at = fm_put_u16(at, field->ie | (field->pen ? 0x8000 : 0));
		at = fm_put_u16(at, field->kind == FM_KIND_VAR ? 65535 : field->wire);
		if (field->pen)
			at = fm_put_u32(at, field->pen);
	}
	finish(oracle, layout, layout->is_options ? SET_OPTIONS : SET_TEMPLATE, at, 0, now_ns, ret);
	return 0;
}

static int oracle_encode(struct fm_encoder *encoder, const struct fm_layout *layout,
			 const uint8_t *records, size_t n, uint64_t now_ns, struct fm_encoded *ret)
{
	struct oracle *oracle = (struct oracle *)encoder;
	uint8_t *at = oracle->message + 20;

	for (size_t i = 0; i < n; i++) {
		const uint8_t *record = records + i * layout->record_size, *field = record;

		/* RFC 7011 7: below 255 octets one octet tells how many there are. */
		for (unsigned int k = 0; k < layout->n; k++)
			field += layout->fields[k].kind == FM_KIND_VAR ? 1 + field[0]
								       : layout->fields[k].wire;
		memcpy(at, record, (size_t)(field - record));
		at += field - record;
	}
	finish(oracle, layout, layout->id, at, (uint32_t)n, now_ns, ret);
	return 0;
}

const struct fm_encoder_ops fm_encoder_oracle = {
	.new = oracle_new,
	.add = oracle_add,
	.free = oracle_free,
	.restart = oracle_restart,
	.capacity = oracle_capacity,
	.describe = oracle_describe,
	.encode = oracle_encode,
};
