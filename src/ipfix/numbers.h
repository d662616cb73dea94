/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Sequence numbers that count a transport session's data records by domain. Kept by transports over
 * connections, which number messages when they are sent.
 */
#ifndef FM_NUMBERS_H
#define FM_NUMBERS_H

#include <stdint.h>

struct fm_message;

struct fm_numbers {
	struct {
		uint32_t domain, next;
	} v[16];
	unsigned int n;
};

/* Gives a message the next number of its domain. */
void fm_numbers_put(struct fm_numbers *numbers, struct fm_message *message);

#endif
