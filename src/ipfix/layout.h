/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Layouts: which rows of fields.def a template has, and records written in that order. Shared by
 * the encoders; both describe and fill a template from the same rows.
 */
#ifndef FM_LAYOUT_H
#define FM_LAYOUT_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "ipfix/record.h"
#include "ipfix/session.h"

#define FM_LAYOUT_FIELDS_MAX 144 /* more than records of one kind have */

enum fm_field_kind {
	FM_KIND_U,    /* unsigned, host order in the record */
	FM_KIND_OPT,  /* unsigned, all bits one: absent */
	FM_KIND_IP4,  /* 4 octets, network order */
	FM_KIND_IP6,  /* 16 octets */
	FM_KIND_MSEC, /* nanoseconds since 1970 -> milliseconds since 1970 (dateTimeMilliseconds) */
	FM_KIND_NTP,  /* nanoseconds since 1970 -> NTP 32.32 (dateTimeNanoseconds, RFC 7011 6.1.10)
		       */
	FM_KIND_LABEL, /* section of an MPLS label stack, 3 octets; absent: 0 */
	FM_KIND_TEXT,  /* options only: NUL padded */
	FM_KIND_VAR,   /* IPFIX options only: text of variable length, NUL terminated, below 255
			  octets; wire is what it takes at most. Outlives the batch it is in */
	FM_KIND_APP,   /* applicationId: engine * 2^24 + selector; 4 octets, in this order always */
};

/* Numbers of the IANA registry of semantics (RFC 7012 3.2). */
enum fm_semantics {
	FM_SEMANTICS_NONE = 0,
	FM_SEMANTICS_QUANTITY = 1,
	FM_SEMANTICS_TOTAL = 2,
	FM_SEMANTICS_DELTA = 3,
	FM_SEMANTICS_ID = 4,
	FM_SEMANTICS_FLAGS = 5,
};

/* What a VAR member is for an encoder that takes records in host order. */
struct fm_varfield {
	size_t size;
	const uint8_t *octets;
};

/* A row of fields.def, or a field of an options record. */
struct fm_field {
	const char *ie_name;
	const char *help;
	uint32_t pen;
	uint16_t ie;
	uint16_t v9;
	uint8_t wire;
	uint8_t size; /* of the member */
	uint8_t kind; /* enum fm_field_kind */
	bool own;     /* in a layout: an element of the configured enterprise */
	uint16_t offset;
	uint32_t families;
	uint32_t profile;
	const char *unit;  /* IANA's name of the unit, empty: none */
	uint8_t semantics; /* enum fm_semantics */
};

extern const struct fm_field fm_fields[];
extern const size_t fm_n_fields;

struct fm_layout {
	uint16_t id;
	uint16_t n;
	uint16_t n_scope; /* options: the first fields are the scope */
	uint16_t record_size;
	uint32_t domain; /* its messages are of this observation domain or source id */
	bool is_options;
	bool sysuptime; /* v9: MSEC fields are 21 and 22, 4 octets relative to boot */
	struct fm_field fields[FM_LAYOUT_FIELDS_MAX];
};

/* Flow records have so many layouts, numbered by fm_layout_index: without a sampler, then with. */
#define FM_LAYOUTS_UNSAMPLED ((unsigned int)_FM_FAMILY_MAX * _FM_ENCAPSULATION_MAX)
#define FM_LAYOUTS_RECORDS   (2 * FM_LAYOUTS_UNSAMPLED)

static inline unsigned int fm_layout_index(const struct fm_record *record)
{
	return (record->selector ? FM_LAYOUTS_UNSAMPLED : 0) +
	       record->encapsulation * _FM_FAMILY_MAX + record->family;
}

/* What a row must match to be in the layout of this index. */
static inline struct fm_shape fm_layout_shape(unsigned int index, bool biflow)
{
	unsigned int unsampled = index % FM_LAYOUTS_UNSAMPLED;

	return (struct fm_shape){unsampled % _FM_FAMILY_MAX, unsampled / _FM_FAMILY_MAX, biflow,
				 index >= FM_LAYOUTS_UNSAMPLED};
}

/* Whether flow records can have a row of fields.def. */
bool fm_layout_has_row(const struct fm_session_options *options, size_t row);

/* Tells which elements flow records may have; the same from version to version. */
uint64_t fm_layout_hash(const struct fm_session_options *options);

/* The layout of flow records with this index. */
void fm_layout_records(struct fm_layout *ret, const struct fm_session_options *options,
		       unsigned int index);

/* One more field, at the end. */
void fm_layout_add(struct fm_layout *layout, const struct fm_field *field);

/*
 * Writes source (a struct fm_record or one of the options) as the layout says: record_size octets,
 * in network order, or in host order for an encoder that turns them itself. boot_ns: for sysuptime.
 */
void fm_layout_write(const struct fm_layout *layout, const void *source, bool host_order,
		     uint64_t boot_ns, uint8_t *ret);

#endif
