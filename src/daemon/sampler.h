/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What samplers are in records and options: from the numbers of the kernel's (bpf/filter.h). Used
 * by what makes records and by sinks.
 */
#ifndef FM_SAMPLER_H
#define FM_SAMPLER_H

#include <stdbool.h>
#include <stdint.h>

#include "bpf/abi.h"
#include "ipfix/session.h"

/*
 * The sampler of a number below FM_FILTER_SAMPLERS, as elements 34 and 304 tell it; false: there is
 * none. samplers: fm_kernel_rules(), or NULL.
 */
bool fm_sampler_of(const struct fm_rule_count *samplers, unsigned int number,
		   uint32_t *ret_interval, uint16_t *ret_algorithm);

/* A session tells of all that there are when it begins. */
void fm_samplers_tell(const struct fm_rule_count *samplers, struct fm_session *session);

#endif
