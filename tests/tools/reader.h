/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The least of an IPFIX collector, for tests of transports and sinks: whole messages, sequence
 * numbers, templates before data, sums of what came.
 */
#ifndef FM_TEST_READER_H
#define FM_TEST_READER_H

#include <stdbool.h>
#include <stdint.h>

#include "ipfix/layout-options.h"

struct sums {
	uint64_t records, packets, octets;
};

/* What a collector makes of one connection, or of datagrams. */
struct reader {
	struct fm_layout layouts[FM_LAYOUTS_RECORDS];
	struct fm_layout option_layouts[_FM_OPTIONS_MAX];
	bool described[2048]; /* by template id */
	uint8_t data[1 << 17];
	size_t size;
	size_t message_size; /* at most */
	struct sums got;
	uint64_t messages;
	uint32_t expected[2]; /* sequence, of domain 0 and the other */
	unsigned int templates;
	unsigned int rounds;		       /* times that the first of all templates came */
	unsigned int options[_FM_OPTIONS_MAX]; /* records of each kind */
	unsigned int audits;
	uint64_t audit_frames; /* in them */
	unsigned int faults;
};

/* Prints the difference, if there is one. */
bool same(const struct sums *a, const struct sums *b);

void reader_init(struct reader *reader, const struct fm_session_options *options);

/* As if templates had come already. */
void reader_know_all(struct reader *reader);

/* Octets of a stream, or a datagram. */
void reader_feed(struct reader *reader, const uint8_t *data, size_t size, bool stream);

/* Reads what is there. True: the peer has ended. */
bool reader_drain(struct reader *reader, int fd, bool stream);

#endif
