/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A flow record: what the daemon makes of a slot and every sink takes. Members are the rows of
 * fields.def; rows of other families stay 0 and are not encoded.
 */
#ifndef FM_RECORD_H
#define FM_RECORD_H

#include <stdbool.h>
#include <stdint.h>

/* Families: every record is of exactly one, with or without its reverse. */
enum fm_family {
	FM_FAMILY_IP4,
	FM_FAMILY_IP6,
	FM_FAMILY_ICMP4,
	FM_FAMILY_ICMP6,
	FM_FAMILY_TCP4, /* measured, else IP4 */
	FM_FAMILY_TCP6,
	FM_FAMILY_QUIC4,
	FM_FAMILY_QUIC6,
	_FM_FAMILY_MAX,
};

/* And what the packets came in. */
enum fm_encapsulation {
	FM_ENCAPSULATION_NONE,
	FM_ENCAPSULATION_TUNNEL4, /* the outer header is IPv4 */
	FM_ENCAPSULATION_TUNNEL6,
	FM_ENCAPSULATION_MPLS, /* and no tunnel */
	_FM_ENCAPSULATION_MAX,
};

/* What a row is part of: families */
#define FM_F_ICMP4 (1u << FM_FAMILY_ICMP4)
#define FM_F_ICMP6 (1u << FM_FAMILY_ICMP6)
#define FM_F_IP4                                                                                   \
	((1u << FM_FAMILY_IP4) | FM_F_ICMP4 | (1u << FM_FAMILY_TCP4) | (1u << FM_FAMILY_QUIC4))
#define FM_F_IP6                                                                                   \
	((1u << FM_FAMILY_IP6) | FM_F_ICMP6 | (1u << FM_FAMILY_TCP6) | (1u << FM_FAMILY_QUIC6))
#define FM_F_ALL      (FM_F_IP4 | FM_F_IP6)
#define FM_F_TCP      ((1u << FM_FAMILY_TCP4) | (1u << FM_FAMILY_TCP6))
#define FM_F_QUIC     ((1u << FM_FAMILY_QUIC4) | (1u << FM_FAMILY_QUIC6))
#define FM_F_MEASURED (FM_F_TCP | FM_F_QUIC)

/* only records with a reverse; those, and TCP */
#define FM_F_ONLY_BIFLOW      0x100u
#define FM_F_BIFLOW_OR_TCP    0x200u
#define FM_F_BIFLOW	      (FM_F_ALL | FM_F_ONLY_BIFLOW)
#define FM_F_INITIATOR	      (FM_F_ALL | FM_F_BIFLOW_OR_TCP)
#define FM_F_TCP_REVERSE      (FM_F_TCP | FM_F_ONLY_BIFLOW)
#define FM_F_MEASURED_REVERSE (FM_F_MEASURED | FM_F_ONLY_BIFLOW)

/* only these encapsulations; no bit: all */
#define FM_F_ENCAPSULATION(x) (0x1000u << (x))
#define FM_F_TUNNEL4	      (FM_F_ALL | FM_F_ENCAPSULATION(FM_ENCAPSULATION_TUNNEL4))
#define FM_F_TUNNEL6	      (FM_F_ALL | FM_F_ENCAPSULATION(FM_ENCAPSULATION_TUNNEL6))
#define FM_F_TUNNEL	      (FM_F_TUNNEL4 | FM_F_TUNNEL6)
#define FM_F_TUNNEL_REVERSE   (FM_F_TUNNEL | FM_F_ONLY_BIFLOW)
#define FM_F_MPLS	      (FM_F_ALL | FM_F_ENCAPSULATION(FM_ENCAPSULATION_MPLS))
#define FM_F_ENCAPSULATIONS   0xf000u

/* only records of a sampler */
#define FM_F_ONLY_SAMPLED 0x400u
#define FM_F_SAMPLED	  (FM_F_ALL | FM_F_ONLY_SAMPLED)

#define FM_P_STANDARD 0x1u
#define FM_P_FULL     0x2u
#define FM_P_NTOP     0x4u
#define FM_P_ALL      (FM_P_STANDARD | FM_P_FULL | FM_P_NTOP)

/*
 * Why a row cannot be left out: what records add up to would not be known; or flows would look like
 * one, always or where the key or [capture] observe tells them apart by it.
 */
#define FM_P_SUM	   0x8u
#define FM_P_KEY	   0x10u
#define FM_P_KEY_VLAN	   0x20u
#define FM_P_KEY_INTERFACE 0x40u
#define FM_P_KEY_TOS	   0x80u
#define FM_P_KEY_HOOK	   0x100u

/* Part of records where flows are added up: by prefixes, by numbers of a file. */
#define FM_P_PREFIXES 0x200u
#define FM_P_NUMBERS  0x400u

/* Value of an OPT row of 32 bits that was not measured. */
#define FM_ABSENT 0xffffffffu

#define FM_PEN_REVERSE 29305u /* RFC 5103 */
#define FM_PEN_OWN     0xffffffffu

/* selectorAlgorithm, IANA element 304: of those that there are. */
enum fm_selector {
	FM_SELECTOR_COUNT = 1,	/* systematic, by count */
	FM_SELECTOR_RANDOM = 3, /* at random, one of each N */
	FM_SELECTOR_FLOWS = 4,	/* flows, each with the same probability */
};

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
	uint8_t family;	       /* enum fm_family */
	uint8_t encapsulation; /* enum fm_encapsulation */
	uint8_t biflow;	       /* the reverse members count */
};

/* What of a row's families a record must match. */
struct fm_shape {
	unsigned int family;
	unsigned int encapsulation;
	bool biflow;
	bool sampled;
};

static inline struct fm_shape fm_record_shape(const struct fm_record *record)
{
	return (struct fm_shape){record->family, record->encapsulation, record->biflow,
				 record->selector};
}

/* Whether records of the shape have a row of these families. */
static inline bool fm_shape_has(const struct fm_shape *shape, uint32_t families)
{
	if (!(families & (1u << shape->family)))
		return false;
	if ((families & FM_F_ENCAPSULATIONS) &&
	    !(families & FM_F_ENCAPSULATION(shape->encapsulation)))
		return false;
	if ((families & FM_F_ONLY_SAMPLED) && !shape->sampled)
		return false;
	if ((families & FM_F_BIFLOW_OR_TCP) && !shape->biflow)
		return FM_F_TCP & (1u << shape->family);
	return shape->biflow || !(families & FM_F_ONLY_BIFLOW);
}

#endif
