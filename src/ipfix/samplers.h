/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What a session has told of samplers, and what it must tell before a record: what the record's
 * sampler is (PSAMP, RFC 5476 6.5.2), and, for collectors that know one interval a domain, that of
 * all records. Owned by the session.
 */
#ifndef FM_SAMPLERS_H
#define FM_SAMPLERS_H

#include <stdbool.h>
#include <stdint.h>

#include "ipfix/options.h"
#include "ipfix/record.h"

/* Numbers of samplers are below this. */
#define FM_SAMPLERS_MAX 16

struct fm_samplers {
	bool active; /* a sampler was met, or others may have told of one */
	struct {
		uint32_t interval; /* 0: is not known */
		uint16_t algorithm;
	} v[FM_SAMPLERS_MAX];
	bool unsure;   /* others may have told an interval before */
	uint32_t rate; /* the interval of all records that was told; 0: none, it is 1 if sure */
	uint16_t rate_algorithm;
	uint32_t seen; /* interval of the records since since_ns; 0: none, UINT32_MAX: several */
	uint64_t since_ns;
};

/* To be told before the record. */
enum {
	FM_SAMPLERS_TELL_ONE = 1, /* its sampler */
	FM_SAMPLERS_TELL_RATE = 2,
};

/* The record needs nothing told: it is of no sampler, as all before. */
static inline bool fm_samplers_pass(struct fm_samplers *samplers, const struct fm_record *record,
				    uint64_t now_ns)
{
	if (samplers->active || record->selector)
		return false;
	if (!samplers->since_ns) {
		samplers->since_ns = now_ns;
		samplers->seen = 1;
	}
	return true;
}

/*
 * What must be told before a record that did not pass: selector below FM_SAMPLERS_MAX; now_ns of
 * any clock. Returns what it takes for told.
 */
unsigned int fm_samplers_note(struct fm_samplers *samplers, const struct fm_record *record,
			      uint64_t now_ns);

/* A sampler that earlier sessions may have told of. */
void fm_samplers_know(struct fm_samplers *samplers, uint32_t selector, uint32_t interval,
		      uint16_t algorithm);

/* What is told of a sampler; false: it is not known. */
bool fm_samplers_get(const struct fm_samplers *samplers, uint32_t selector,
		     struct fm_sampler_record *ret);

#endif
