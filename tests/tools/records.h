/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Random flow records that no two tools read differently, and their JSON: what the tests of
 * transports, sinks and collectors feed them with. The same seed and index give the same record.
 */
#ifndef FM_TEST_RECORDS_H
#define FM_TEST_RECORDS_H

#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>

#include "ipfix/layout.h"
#include "ipfix/record.h"

/* now_ns: nanoseconds since 1970 that no record is after. index: below 2^24, told by the source. */
void records_make(struct fm_record *ret, uint64_t seed, uint64_t index, bool biflow,
		  uint64_t now_ns);

/* Makes every other record one of RECORDS_SAMPLERS samplers that take all: nfdump scales. */
#define RECORDS_SAMPLERS 3
void records_sample(struct fm_record *record, uint64_t index);

/* A record as a JSON object, members of other templates than its own left out. */
void records_print(FILE *file, const struct fm_record *record, const struct fm_layout *layout);

#endif
