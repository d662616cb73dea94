/* SPDX-License-Identifier: Apache-2.0 */
/*
 * FNV-1a: tells one state of the daemon's own things from another, also from process to process.
 * Not for what others choose: siphash.h.
 */
#ifndef FM_FNV_H
#define FM_FNV_H

#include <stddef.h>
#include <stdint.h>
#include <string.h>

#define FM_FNV_BEGIN 0xcbf29ce484222325ULL

/* One step: of an octet, or of a number. */
static inline uint64_t fm_fnv_add(uint64_t hash, uint64_t value)
{
	return (hash ^ value) * 0x100000001b3ULL;
}

/* hash: FM_FNV_BEGIN, or that of what is in front. */
static inline uint64_t fm_fnv(uint64_t hash, const void *data, size_t size)
{
	const uint8_t *octets = data;

	for (size_t i = 0; i < size; i++)
		hash = fm_fnv_add(hash, octets[i]);
	return hash;
}

static inline uint64_t fm_fnv_text(const char *text)
{
	return fm_fnv(FM_FNV_BEGIN, text, strlen(text));
}

/* The same in 32 bits. */
static inline uint32_t fm_fnv32_text(const char *text)
{
	uint32_t hash = 0x811c9dc5;

	for (; *text; text++)
		hash = (hash ^ (uint8_t)*text) * 0x01000193;
	return hash;
}

#endif
