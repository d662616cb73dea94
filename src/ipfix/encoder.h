/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Encoders: one ops struct a protocol. A session gives them layouts and records written by
 * fm_layout_write(); they make messages. Each message holds one kind of thing.
 */
#ifndef FM_ENCODER_H
#define FM_ENCODER_H

#include "ipfix/layout.h"

struct fm_encoder;

/* What only the session knows of a message. */
struct fm_stamp {
	uint64_t now_ns; /* since 1970 */
	uint64_t boot_ns;
	uint32_t sequence;
	uint32_t domain;
};

struct fm_encoder_ops {
	bool host_order; /* how records are to be written */
	int (*new)(struct fm_encoder **ret, const struct fm_session_options *options,
		   const struct fm_layout *layouts, size_t n);
	void (*free)(struct fm_encoder *encoder);
	/* Records of a layout that fit into a message. */
	size_t (*fit)(const struct fm_encoder *encoder, const struct fm_layout *layout);
	/* A message that describes layout. */
	int (*describe)(struct fm_encoder *encoder, const struct fm_layout *layout);
	/* A message of n records, as many as fit at most. */
	int (*data)(struct fm_encoder *encoder, const struct fm_layout *layout,
		    const uint8_t *records, size_t n);
	/* Time, sequence and domain into the message's header. */
	void (*stamp)(struct fm_encoder *encoder, const struct fm_stamp *stamp);
	/* By how much a message of n data records lets the sequence go on. */
	uint32_t (*sequenced)(size_t n);
};

/* Every encoder starts with this. */
struct fm_encoder {
	const struct fm_encoder_ops *ops;
	size_t message_size; /* at most */
	uint8_t *message;
	size_t size; /* of the message that was made last */
};

extern const struct fm_encoder_ops fm_encoder_ipfix, fm_encoder_v9;

static inline void fm_put16(uint8_t *p, uint16_t value)
{
	p[0] = (uint8_t)(value >> 8);
	p[1] = (uint8_t)value;
}

static inline void fm_put32(uint8_t *p, uint32_t value)
{
	fm_put16(p, (uint16_t)(value >> 16));
	fm_put16(p + 2, (uint16_t)value);
}

#endif
