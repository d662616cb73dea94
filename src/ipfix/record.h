/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A flow record: what the daemon makes of a slot and every sink takes. Members are the rows of
 * fields.def; rows of other families stay 0 and are not encoded.
 */
#ifndef FM_RECORD_H
#define FM_RECORD_H

#include <stdint.h>

/* Families: every record is of exactly one of the first four, with or without its reverse. */
enum fm_family {
	FM_FAMILY_IP4,
	FM_FAMILY_IP6,
	FM_FAMILY_ICMP4,
	FM_FAMILY_ICMP6,
	_FM_FAMILY_MAX,
};

#define FM_F_IP4    ((1u << FM_FAMILY_IP4) | (1u << FM_FAMILY_ICMP4))
#define FM_F_IP6    ((1u << FM_FAMILY_IP6) | (1u << FM_FAMILY_ICMP6))
#define FM_F_ICMP4  (1u << FM_FAMILY_ICMP4)
#define FM_F_ICMP6  (1u << FM_FAMILY_ICMP6)
#define FM_F_ALL    (FM_F_IP4 | FM_F_IP6)
#define FM_F_BIFLOW (FM_F_ALL | 0x100u) /* only in biflow templates */

#define FM_P_STANDARD 0x1u
#define FM_P_FULL     0x2u
#define FM_P_ALL      (FM_P_STANDARD | FM_P_FULL)

#define FM_PEN_OWN 0xffffffffu

/* flowEndReason, IANA element 136. */
enum fm_end_reason {
	FM_END_REASON_IDLE = 1,
	FM_END_REASON_ACTIVE = 2,
	FM_END_REASON_END = 3,
	FM_END_REASON_FORCED = 4,
	FM_END_REASON_RESOURCES = 5,
};

struct fm_record {
#define FM_FIELD(name, type, dim, ...) type name dim;
#include "fields.def"
#undef FM_FIELD
	uint8_t family; /* enum fm_family */
	uint8_t biflow; /* the reverse members count */
};

#endif
