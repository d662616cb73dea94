/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Encoders: one ops struct and one file a protocol. An encoder makes messages of one set each, from
 * a layout and records written by fm_layout_write, and owns sequence numbers. Used by session.c.
 */
#ifndef FM_ENCODE_H
#define FM_ENCODE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "ipfix/layout-options.h"

/* Layouts of a session: flow records, options. */
#define FM_LAYOUTS_MAX (FM_LAYOUTS_RECORDS + (unsigned int)_FM_OPTIONS_MAX)

struct fm_encoder;

/* A finished message; valid until the encoder's next. */
struct fm_encoded {
	const uint8_t *message;
	size_t size;
	uint32_t sequenced; /* by how much the domain's sequence number goes on */
};

struct fm_encoder_ops {
	bool host_order; /* takes records in host order */
	/* 0, -ENOMEM, -EINVAL. */
	int (*new)(struct fm_encoder **ret, const struct fm_session_options *options);
	/* Takes up a layout, before it is described; it outlives the encoder. 0 or -errno. */
	int (*add)(struct fm_encoder *encoder, const struct fm_layout *layout);
	void (*free)(struct fm_encoder *encoder);
	/* Sequence numbers from 0. */
	int (*restart)(struct fm_encoder *encoder);
	/* Records of the layout that a message can hold. */
	size_t (*capacity)(const struct fm_session_options *options,
			   const struct fm_layout *layout);
	/* A message with the layout's template. */
	int (*describe)(struct fm_encoder *encoder, const struct fm_layout *layout, uint64_t now_ns,
			struct fm_encoded *ret);
	/* A message with n records, at most capacity. */
	int (*encode)(struct fm_encoder *encoder, const struct fm_layout *layout,
		      const uint8_t *records, size_t n, uint64_t now_ns, struct fm_encoded *ret);
};

/* Every encoder starts with this. */
struct fm_encoder {
	const struct fm_encoder_ops *ops;
};

extern const struct fm_encoder_ops fm_encoder_ipfix, fm_encoder_v9;

/* fm_session_new with an encoder of one's own; for tests. */
int fm_session_new_encoder(struct fm_session **ret, const struct fm_session_options *options,
			   const struct fm_encoder_ops *ops, fm_session_emit_fn emit,
			   void *userdata);

/* Network order. */
static inline uint8_t *fm_put_u16(uint8_t *at, uint16_t value)
{
	at[0] = (uint8_t)(value >> 8);
	at[1] = (uint8_t)value;
	return at + 2;
}

static inline uint8_t *fm_put_u32(uint8_t *at, uint32_t value)
{
	at = fm_put_u16(at, (uint16_t)(value >> 16));
	return fm_put_u16(at, (uint16_t)value);
}

#endif
