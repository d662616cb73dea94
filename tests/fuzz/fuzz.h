/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What the fuzzers share: an input that is taken piece by piece, and checks that end the run. Each
 * fuzz-*.c is a program of its own with one entry, which libFuzzer calls.
 */
#ifndef FM_FUZZ_H
#define FM_FUZZ_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

int LLVMFuzzerInitialize(int *argc, char ***argv);
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

#define FUZZ_CHECK(condition)                                                                      \
	do {                                                                                       \
		if (!(condition)) {                                                                \
			fprintf(stderr, "%s:%d: not so: %s\n", __FILE__, __LINE__, #condition);    \
			abort();                                                                   \
		}                                                                                  \
	} while (0)

struct input {
	const uint8_t *at;
	size_t left;
};

/* The next octets, as many as there are; what is missing is 0. Returns how many there were. */
static inline size_t input_copy(struct input *input, void *to, size_t octets)
{
	size_t n = octets < input->left ? octets : input->left;

	memset(to, 0, octets);
	if (n)
		memcpy(to, input->at, n);
	input->at += n;
	input->left -= n;
	return n;
}

/* The next octets where they are, as many as there are. */
static inline const uint8_t *input_take(struct input *input, size_t octets, size_t *ret_octets)
{
	const uint8_t *at = input->at;

	*ret_octets = octets < input->left ? octets : input->left;
	input->at += *ret_octets;
	input->left -= *ret_octets;
	return at;
}

static inline uint8_t input_u8(struct input *input)
{
	uint8_t value;

	input_copy(input, &value, sizeof(value));
	return value;
}

static inline uint16_t input_u16(struct input *input)
{
	uint16_t value;

	input_copy(input, &value, sizeof(value));
	return value;
}

static inline uint32_t input_u32(struct input *input)
{
	uint32_t value;

	input_copy(input, &value, sizeof(value));
	return value;
}

static inline uint64_t input_u64(struct input *input)
{
	uint64_t value;

	input_copy(input, &value, sizeof(value));
	return value;
}

/* Reads all of it, which is to be there. */
static inline void fuzz_touch(const void *memory, size_t octets)
{
	for (size_t i = 0; i < octets; i++)
		(void)((const volatile uint8_t *)memory)[i];
}

/*
 * Octets in memory that something else is to believe: patches of the input, each a place and 8
 * octets or fewer, go over them, up to so many.
 */
static inline void input_patch(struct input *input, void *memory, size_t octets, unsigned int most)
{
	while (most-- > 0 && input->left > 3) {
		uint32_t place = input_u16(input) | (uint32_t)input_u8(input) << 16;
		size_t at = place % octets, n = 1 + (place >> 16) % 8;

		input_copy(input, (uint8_t *)memory + at, n < octets - at ? n : octets - at);
	}
}

#endif
