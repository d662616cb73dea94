/* SPDX-License-Identifier: Apache-2.0 */
/* What samplers are: see sampler.h. */
#include "daemon/sampler.h"

#include "base/macro.h"
#include "ipfix/samplers.h"

_Static_assert(FM_FILTER_SAMPLERS <= FM_SAMPLERS_MAX, "numbers of samplers");

bool fm_sampler_of(const struct fm_rule_count *samplers, unsigned int number,
		   uint32_t *ret_interval, uint16_t *ret_algorithm)
{
	static const uint16_t algorithms[] = {
		[FM_SAMPLE_COUNT] = FM_SELECTOR_COUNT,
		[FM_SAMPLE_RANDOM] = FM_SELECTOR_RANDOM,
		[FM_SAMPLE_FLOWS] = FM_SELECTOR_FLOWS,
	};
	struct fm_sampler sampler;

	if (!number || !samplers)
		return false;
	sampler = samplers[number].sampler;
	if (!sampler.interval || sampler.method >= FM_ARRAY_SIZE(algorithms))
		return false;
	*ret_interval = sampler.interval;
	*ret_algorithm = algorithms[sampler.method];
	return true;
}

void fm_samplers_tell(const struct fm_rule_count *samplers, struct fm_session *session)
{
	for (unsigned int i = 1; i < FM_FILTER_SAMPLERS; i++) {
		uint32_t interval;
		uint16_t algorithm;

		if (fm_sampler_of(samplers, i, &interval, &algorithm))
			fm_session_sampler(session, i, interval, algorithm);
	}
}
