/* SPDX-License-Identifier: Apache-2.0 */
/*
 * For the tests of src/ipfix: an IPFIX encoder that shares nothing with libfixbuf, random records,
 * and a list that keeps what a session emits.
 */
#ifndef FM_ORACLE_H
#define FM_ORACLE_H

#include "ipfix/encode.h"

extern const struct fm_encoder_ops fm_encoder_oracle;

/* A message as it was emitted. */
struct kept {
	uint8_t *message;
	size_t size;
	struct fm_message_info info;
};

struct keeper {
	struct kept *kept;
	size_t n;
};

/* For fm_session_new; userdata is a struct keeper. */
void keep(void *userdata, const uint8_t *message, size_t size, const struct fm_message_info *info);
void keeper_done(struct keeper *keeper);

/* Any values in the members of the family; reproducible by state. */
void random_record(struct fm_record *ret, uint64_t *state, bool biflow);

static inline uint32_t get_u16(const uint8_t *at)
{
	return (uint32_t)at[0] << 8 | at[1];
}

static inline uint32_t get_u32(const uint8_t *at)
{
	return get_u16(at) << 16 | get_u16(at + 2);
}

static inline uint64_t get_u64(const uint8_t *at)
{
	return (uint64_t)get_u32(at) << 32 | get_u32(at + 4);
}

#endif
