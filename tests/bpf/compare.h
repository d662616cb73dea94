/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Compares what the programs made of one packet, sent several times, with the model's reading.
 * Called by the tests that send packets nobody wrote an expectation for.
 */
#ifndef FM_TESTS_COMPARE_H
#define FM_TESTS_COMPARE_H

#include "harness.h"
#include "model.h"

/* Where the packet passed, and how often since the harness was reset. */
struct compare_way {
	uint64_t repeat;
	enum fm_hook hook;
	uint32_t ifindex;
	bool again; /* counted at its ingress before, but not into the tables that are looked at */
};

/* What the programs did otherwise than the model; NULL: nothing. */
const char *compare_differs(const struct harness *h, const struct model *m,
			    const struct compare_way *way);

/* A packet as a comment line: why it is shown, octets in hexadecimal. */
void compare_dump(const char *why, const uint8_t *data, size_t length);

/* Makes programs and model forget fragments, before the programs forget by themselves. */
void compare_forget(struct harness *h);

#endif
