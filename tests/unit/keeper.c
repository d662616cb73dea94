/* SPDX-License-Identifier: Apache-2.0 */
/* What tests of sessions share: see oracle.h. */
#include <stdlib.h>
#include <string.h>

#include "ipfix/samplers.h"
#include "oracle.h"

void keep(void *userdata, const uint8_t *message, size_t size, const struct fm_message_info *info)
{
	struct keeper *keeper = userdata;
	struct kept *kept = realloc(keeper->kept, (keeper->n + 1) * sizeof(*kept));

	if (!kept)
		abort();
	keeper->kept = kept;
	kept = &keeper->kept[keeper->n++];
	kept->message = malloc(size);
	if (!kept->message)
		abort();
	memcpy(kept->message, message, size);
	kept->size = size;
	kept->info = *info;
}

void keeper_done(struct keeper *keeper)
{
	for (size_t i = 0; i < keeper->n; i++)
		free(keeper->kept[i].message);
	free(keeper->kept);
	*keeper = (struct keeper){};
}

/* splitmix64 */
static uint64_t next(uint64_t *state)
{
	uint64_t z = *state += 0x9e3779b97f4a7c15;

	z = (z ^ z >> 30) * 0xbf58476d1ce4e5b9;
	z = (z ^ z >> 27) * 0x94d049bb133111eb;
	return z ^ z >> 31;
}

void random_record(struct fm_record *ret, uint64_t *state, bool biflow)
{
	uint8_t octets[sizeof(*ret)];

	for (size_t i = 0; i < sizeof(octets); i++)
		octets[i] = (uint8_t)next(state);
	memcpy(ret, octets, sizeof(*ret));
	ret->family = next(state) % _FM_FAMILY_MAX;
	ret->encapsulation = next(state) % _FM_ENCAPSULATION_MAX;
	ret->biflow = biflow;
	ret->selector = next(state) % 4 ? 0 : next(state) % FM_SAMPLERS_MAX;
	ret->sampling_interval = 10 + ret->selector;
	ret->selector_algorithm = FM_SELECTOR_COUNT;
	/* times that NTP's era 0 has (until 2036), counts whose sums fit */
	ret->start_ns %= 2000000000000000000;
	ret->end_ns %= 2000000000000000000;
	ret->start_precise_ns %= 2000000000000000000;
	ret->packets >>= 24;
	ret->octets >>= 24;
	ret->rev_packets = biflow ? ret->rev_packets >> 24 : 0;
	ret->rev_octets = biflow ? ret->rev_octets >> 24 : 0;
}
