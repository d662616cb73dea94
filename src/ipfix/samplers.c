/* SPDX-License-Identifier: Apache-2.0 */
/* Samplers that are told: see samplers.h. */
#include "ipfix/samplers.h"

#include <stdio.h>

#include "base/macro.h"

/* All records of so long had one interval: it is told as that of the domain. */
#define PERIOD_NS (60 * FM_NS_PER_S)
#define SEVERAL	  UINT32_MAX

static bool note_one(struct fm_samplers *samplers, const struct fm_record *record)
{
	uint32_t *interval = &samplers->v[record->selector].interval;
	uint16_t *algorithm = &samplers->v[record->selector].algorithm;

	if (!record->selector ||
	    (*interval == record->sampling_interval && *algorithm == record->selector_algorithm))
		return false;
	*interval = record->sampling_interval;
	*algorithm = record->selector_algorithm;
	return true;
}

static bool set_rate(struct fm_samplers *samplers, uint32_t rate)
{
	if (rate == (samplers->rate || samplers->unsure ? samplers->rate : 1))
		return false;
	samplers->rate = rate;
	return true;
}

/*
 * The interval of the domain is true of each record that comes behind it: it becomes 1 before the
 * first that has another, and what it was or became when no other came for a while.
 */
static bool note_rate(struct fm_samplers *samplers, const struct fm_record *record, uint64_t now_ns)
{
	uint32_t rate = record->selector ? record->sampling_interval : 1;
	bool is_first = !samplers->since_ns, tells = false;

	if (record->selector)
		samplers->rate_algorithm = record->selector_algorithm;
	if (is_first) {
		samplers->since_ns = now_ns;
		tells = set_rate(samplers, rate);
	} else if (now_ns - samplers->since_ns >= PERIOD_NS) {
		if (samplers->seen == rate)
			tells = set_rate(samplers, rate);
		samplers->since_ns = now_ns;
		samplers->seen = 0;
	}
	samplers->seen = !samplers->seen || samplers->seen == rate ? rate : SEVERAL;
	if (samplers->rate && rate != samplers->rate)
		tells |= set_rate(samplers, 1);
	return tells;
}

unsigned int fm_samplers_note(struct fm_samplers *samplers, const struct fm_record *record,
			      uint64_t now_ns)
{
	unsigned int told;

	samplers->active = true;
	told = note_one(samplers, record) ? FM_SAMPLERS_TELL_ONE : 0;
	return told | (note_rate(samplers, record, now_ns) ? FM_SAMPLERS_TELL_RATE : 0);
}

void fm_samplers_know(struct fm_samplers *samplers, uint32_t selector, uint32_t interval,
		      uint16_t algorithm)
{
	samplers->v[selector].interval = interval;
	samplers->v[selector].algorithm = algorithm;
	samplers->unsure = samplers->active = true;
}

static const char *algorithm_text(uint16_t algorithm)
{
	return algorithm == FM_SELECTOR_COUNT	 ? "packets"
	       : algorithm == FM_SELECTOR_RANDOM ? "at random"
						 : "flows";
}

bool fm_samplers_get(const struct fm_samplers *samplers, uint32_t selector,
		     struct fm_sampler_record *ret)
{
	uint32_t interval = samplers->v[selector].interval;
	uint16_t algorithm = samplers->v[selector].algorithm;

	if (!interval)
		return false;
	*ret = (struct fm_sampler_record){
		.selector = selector,
		.algorithm = algorithm,
		.interval = 1,
		.space = interval - 1,
	};
	snprintf(ret->name, sizeof(ret->name), "1 in %u %s", interval, algorithm_text(algorithm));
	return true;
}
