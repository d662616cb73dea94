/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Layouts of options records, a kind each (options.def), and the structs that their values are
 * given as. Used by session.c and the encoders.
 */
#ifndef FM_LAYOUT_OPTIONS_H
#define FM_LAYOUT_OPTIONS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "ipfix/layout.h"
#include "ipfix/options.h"
#include "ipfix/session.h"

/* Kinds of options records: rows of options.def. */
enum fm_options_kind {
#define FM_OPTIONS(NAME, ...) FM_OPTIONS_##NAME,
#include "ipfix/options.def"
#undef FM_OPTIONS
	_FM_OPTIONS_MAX
};

/* Their values are given as structs of these. */
struct fm_interface_option {
	uint32_t domain;
	uint32_t ifindex;
	char name[32];
};

struct fm_device_option {
	uint32_t domain;
	struct fm_device_record record;
};

struct fm_vrf_option {
	uint32_t domain;
	struct fm_vrf_record record;
};

struct fm_application_option {
	uint32_t domain;
	struct fm_application_record record;
};

struct fm_statistics_option {
	uint32_t domain;
	struct fm_exporter_stats exporter;
	struct fm_sink_stats sink;
};

struct fm_gap_option {
	uint32_t domain;
	struct fm_session_gap gap;
};

struct fm_audit_option {
	uint32_t domain;
	struct fm_audit_record record;
};

struct fm_cause_option {
	uint32_t domain;
	struct fm_cause_record record;
};

struct fm_sampler_option {
	uint32_t domain;
	struct fm_sampler_record record;
};

struct fm_rate_option {
	uint32_t domain;
	uint32_t interval;
	uint8_t kind; /* 1 deterministic, 2 random */
};

struct fm_type_option {
	uint32_t pen;
	uint16_t ie;
	uint8_t data_type;
	uint8_t semantics;
	uint16_t units;
	uint64_t range_begin, range_end; /* both 0: no range */
	char name[48];
	char description[176];
};

void fm_layout_options(struct fm_layout *ret, const struct fm_session_options *options,
		       enum fm_options_kind kind);

/* The fields of a kind, before a profile is chosen. */
size_t fm_layout_options_fields(enum fm_options_kind kind, const struct fm_field **ret);

/* Whether its template comes with every session; has_types: there are types to tell. */
bool fm_layout_options_first(enum fm_options_kind kind, const struct fm_session_options *options,
			     bool has_types);

/* The type record (RFC 5610 3.9) of an own element in a layout. */
void fm_layout_type_of(struct fm_type_option *ret, const struct fm_field *field);

#endif
