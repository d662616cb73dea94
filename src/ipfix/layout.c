/* SPDX-License-Identifier: Apache-2.0 */
/* Layouts and the writing of records: see layout.h. */
#include "ipfix/layout.h"

#include <assert.h>
#include <endian.h>
#include <string.h>

#include "base/macro.h"

/* Seconds between 1900 (NTP) and 1970. */
#define NTP_EPOCH 2208988800ULL

#define RECORDS_ID	     256
#define RECORDS_ID_BIFLOW    32
#define RECORDS_ID_SYSUPTIME 64
#define RECORDS_ID_FULL	     128
#define RECORDS_ID_NTOP	     256
#define RECORDS_ID_LISTS     2048
#define INTERFACE_ID	     1024
#define TYPE_ID		     1026
#define STATISTICS_ID	     1027
#define AUDIT_ID	     FM_SESSION_AUDIT
#define CAUSE_ID	     1029
#define GAP_ID		     1030

/* Lists of fields that can have ids of their own. */
#define LISTS ((65536 - RECORDS_ID_LISTS) / FM_LAYOUTS_RECORDS)

_Static_assert(FM_LAYOUTS_RECORDS <= RECORDS_ID_BIFLOW, "ids overlap");

const struct fm_field fm_fields[] = {
#define FM_FIELD(name, type, dim, kind, ie_name, pen, ie, v9, wire, families, profile, unit,       \
		 semantics, help)                                                                  \
	{ie_name,                                                                                  \
	 help,                                                                                     \
	 pen,                                                                                      \
	 ie,                                                                                       \
	 v9,                                                                                       \
	 wire,                                                                                     \
	 sizeof(((struct fm_record *)0)->name),                                                    \
	 FM_KIND_##kind,                                                                           \
	 false,                                                                                    \
	 offsetof(struct fm_record, name),                                                         \
	 families,                                                                                 \
	 profile,                                                                                  \
	 unit,                                                                                     \
	 FM_SEMANTICS_##semantics},
#include "ipfix/fields.def"
#undef FM_FIELD
};

const size_t fm_n_fields = FM_ARRAY_SIZE(fm_fields);

/* Numbers of these sizes are written; reduced sizes between them are not. */
#define FM_FIELD(name, type, dim, kind, ie_name, pen, ie, v9, wire, ...)                           \
	_Static_assert(FM_KIND_##kind == FM_KIND_IP6 ||                                            \
			       (FM_KIND_##kind == FM_KIND_LABEL                                    \
					? wire == 3                                                \
					: wire == 1 || wire == 2 || wire == 4 || wire == 8),       \
		       #name);
#include "ipfix/fields.def"
#undef FM_FIELD

static void add(struct fm_layout *layout, const struct fm_field *field)
{
	assert(layout->n < FM_LAYOUT_FIELDS_MAX);
	layout->fields[layout->n++] = *field;
	layout->record_size += field->wire;
}

bool fm_layout_has_row(const struct fm_session_options *options, size_t row)
{
	return fm_field_list_has(&options->fields, row, fm_fields[row].profile & options->profile);
}

/* FNV-1a. */
static uint64_t mix(uint64_t hash, uint64_t value)
{
	for (unsigned int i = 0; i < 64; i += 8)
		hash = (hash ^ (value >> i & 0xff)) * 0x100000001b3;
	return hash;
}

uint64_t fm_layout_hash(const struct fm_session_options *options)
{
	uint64_t hash = 0xcbf29ce484222325;

	for (size_t i = 0; i < fm_n_fields; i++) {
		const struct fm_field *field = &fm_fields[i];

		if (!fm_layout_has_row(options, i))
			continue;
		hash = mix(hash,
			   field->pen == FM_PEN_OWN ? options->enterprise_number : field->pen);
		hash = mix(hash, (uint64_t)field->wire << 16 | field->ie);
	}
	return hash;
}

/* How far the ids of records are from those of the standard profile. */
static uint16_t records_id(const struct fm_session_options *options)
{
	bool sysuptime = options->protocol == FM_SESSION_V9 && options->v9_sysuptime;
	uint64_t kind = options->protocol | options->biflow << 1 | sysuptime << 2;

	if (fm_field_list_changes(&options->fields, options->profile))
		return (uint16_t)(RECORDS_ID_LISTS +
				  mix(fm_layout_hash(options), kind) % LISTS * FM_LAYOUTS_RECORDS);
	return (uint16_t)(RECORDS_ID + (options->biflow ? RECORDS_ID_BIFLOW : 0) +
			  (sysuptime ? RECORDS_ID_SYSUPTIME : 0) +
			  (options->profile == FM_P_FULL ? RECORDS_ID_FULL : 0) +
			  (options->profile == FM_P_NTOP ? RECORDS_ID_NTOP : 0));
}

void fm_layout_records(struct fm_layout *ret, const struct fm_session_options *options,
		       unsigned int index)
{
	bool v9 = options->protocol == FM_SESSION_V9;
	const struct fm_shape shape = {index % _FM_FAMILY_MAX, index / _FM_FAMILY_MAX,
				       options->biflow};

	*ret = (struct fm_layout){.id = (uint16_t)(records_id(options) + index),
				  .domain = options->domain,
				  .sysuptime = v9 && options->v9_sysuptime};
	for (size_t i = 0; i < fm_n_fields; i++) {
		struct fm_field field = fm_fields[i];

		if (!fm_shape_has(&shape, field.families) || !fm_layout_has_row(options, i) ||
		    (v9 && !field.v9))
			continue;
		if (field.pen == FM_PEN_OWN) {
			field.pen = options->enterprise_number;
			field.own = true;
		}
		if (ret->sysuptime && field.kind == FM_KIND_MSEC) {
			field.v9 = field.v9 == 152 ? 22 : 21; /* FIRST_SWITCHED, LAST_SWITCHED */
			field.wire = 4;
		}
		add(ret, &field);
	}
}

#define OPTION(struct_type, member, name, number, octets, field_kind)                              \
	{                                                                                          \
		.ie_name = name, .ie = number, .v9 = number, .wire = octets,                       \
		.size = sizeof(((struct struct_type *)0)->member), .kind = field_kind,             \
		.offset = offsetof(struct struct_type, member)                                     \
	}

static void options_layout(struct fm_layout *ret, uint16_t id, uint16_t n_scope,
			   const struct fm_field *fields, size_t n)
{
	*ret = (struct fm_layout){.id = id, .is_options = true, .n_scope = n_scope};
	for (size_t i = 0; i < n; i++)
		add(ret, &fields[i]);
}

void fm_layout_interface(struct fm_layout *ret)
{
	static const struct fm_field fields[] = {
		OPTION(fm_interface_option, domain, "observationDomainId", 149, 4, FM_KIND_U),
		OPTION(fm_interface_option, ifindex, "ingressInterface", 10, 4, FM_KIND_U),
		OPTION(fm_interface_option, name, "interfaceDescription", 83, 32, FM_KIND_TEXT),
	};

	options_layout(ret, INTERFACE_ID, 1, fields, FM_ARRAY_SIZE(fields));
}

#define STATISTIC_OF_DAEMON(name) exporter.name
#define STATISTIC_OF_SINK(name)	  sink.name

void fm_layout_statistics(struct fm_layout *ret)
{
	static const struct fm_field fields[] = {
		OPTION(fm_statistics_option, domain, "observationDomainId", 149, 4, FM_KIND_U),
#define FM_STATISTIC(owner, name, type, kind, ie_name, ie, help)                                   \
	OPTION(fm_statistics_option, STATISTIC_OF_##owner(name), ie_name, ie, 8, FM_KIND_##kind),
#include "ipfix/statistics.def"
#undef FM_STATISTIC
	};

	*ret = (struct fm_layout){.id = STATISTICS_ID, .is_options = true, .n_scope = 1};
	for (size_t i = 0; i < FM_ARRAY_SIZE(fields); i++)
		if (fields[i].ie)
			add(ret, &fields[i]);
}

const struct fm_field fm_audit_fields[] = {
	OPTION(fm_audit_option, domain, "observationDomainId", 149, 4, FM_KIND_U),
#define FM_AUDIT(name, type, field_kind, element, number, element_id, octets, field_unit, meaning, \
		 text)                                                                             \
	{.ie_name = element,                                                                       \
	 .help = text,                                                                             \
	 .pen = number,                                                                            \
	 .ie = element_id,                                                                         \
	 .v9 = (number) ? 0 : element_id,                                                          \
	 .wire = octets,                                                                           \
	 .size = sizeof(type),                                                                     \
	 .kind = FM_KIND_##field_kind,                                                             \
	 .unit = field_unit,                                                                       \
	 .semantics = FM_SEMANTICS_##meaning,                                                      \
	 .offset = offsetof(struct fm_audit_option, record.name)},
#include "ipfix/audit.def"
#undef FM_AUDIT
};

#define OWN(member, name, number, octets, field_kind, field_unit)                                  \
	{                                                                                          \
		.ie_name = name, .pen = FM_PEN_OWN, .ie = number, .wire = octets,                  \
		.size = sizeof(((struct fm_cause_option *)0)->member), .kind = field_kind,         \
		.unit = field_unit, .offset = offsetof(struct fm_cause_option, member)             \
	}

const struct fm_field fm_cause_fields[] = {
	OPTION(fm_cause_option, domain, "observationDomainId", 149, 4, FM_KIND_U),
	OPTION(fm_cause_option, record.ifindex, "ingressPhysicalInterface", 252, 4, FM_KIND_U),
	OPTION(fm_cause_option, record.direction, "flowDirection", 61, 1, FM_KIND_U),
	OWN(record.cause, "cause", 220, 24, FM_KIND_TEXT, ""),
	OWN(record.class, "causeClass", 221, 12, FM_KIND_TEXT, ""),
	OPTION(fm_cause_option, record.start_ns, "monitoringIntervalStartMilliSeconds", 359, 8,
	       FM_KIND_MSEC),
	OPTION(fm_cause_option, record.end_ns, "monitoringIntervalEndMilliSeconds", 360, 8,
	       FM_KIND_MSEC),
	OWN(record.packets, "causePackets", 222, 8, FM_KIND_U, "packets"),
	OWN(record.octets, "causeOctets", 223, 8, FM_KIND_U, "octets"),
	OWN(record.records, "causeRecords", 224, 8, FM_KIND_U, "flows"),
};

const size_t fm_n_audit_fields = FM_ARRAY_SIZE(fm_audit_fields);
const size_t fm_n_cause_fields = FM_ARRAY_SIZE(fm_cause_fields);

/* A layout whose own elements are only there in profile full. */
static void own_layout(struct fm_layout *ret, uint16_t id, uint16_t n_scope,
		       const struct fm_field *fields, size_t n,
		       const struct fm_session_options *options)
{
	bool v9 = options->protocol == FM_SESSION_V9;

	*ret = (struct fm_layout){.id = id, .is_options = true, .n_scope = n_scope};
	for (size_t i = 0; i < n; i++) {
		struct fm_field field = fields[i];

		if (field.pen == FM_PEN_OWN) {
			if (v9 || options->profile != FM_P_FULL)
				continue;
			field.pen = options->enterprise_number;
			field.own = true;
		}
		add(ret, &field);
	}
	if (options->profile == FM_P_FULL && !v9)
		ret->id += RECORDS_ID_FULL;
}

/* The scope is what nfdump 1.7 takes for one: interface and direction are plain fields. */
void fm_layout_audit(struct fm_layout *ret, const struct fm_session_options *options)
{
	own_layout(ret, AUDIT_ID, 1, fm_audit_fields, fm_n_audit_fields, options);
}

void fm_layout_cause(struct fm_layout *ret, const struct fm_session_options *options)
{
	own_layout(ret, CAUSE_ID, 1, fm_cause_fields, fm_n_cause_fields, options);
}

/*
 * The scope is what was exported in a span of export times, elements of RFC 5655; the counts are
 * totals within it.
 */
void fm_layout_gap(struct fm_layout *ret)
{
	static const struct fm_field fields[] = {
		OPTION(fm_gap_option, domain, "observationDomainId", 149, 4, FM_KIND_U),
		OPTION(fm_gap_option, gap.from, "minExportSeconds", 264, 4, FM_KIND_U),
		OPTION(fm_gap_option, gap.to, "maxExportSeconds", 260, 4, FM_KIND_U),
		OPTION(fm_gap_option, gap.messages, "exportedMessageTotalCount", 41, 8, FM_KIND_U),
		OPTION(fm_gap_option, gap.records, "exportedFlowRecordTotalCount", 42, 8,
		       FM_KIND_U),
		OPTION(fm_gap_option, gap.packets, "packetTotalCount", 86, 8, FM_KIND_U),
		OPTION(fm_gap_option, gap.octets, "octetTotalCount", 85, 8, FM_KIND_U),
	};

	options_layout(ret, GAP_ID, 3, fields, FM_ARRAY_SIZE(fields));
}

void fm_layout_type(struct fm_layout *ret)
{
	static const struct fm_field fields[] = {
		OPTION(fm_type_option, pen, "privateEnterpriseNumber", 346, 4, FM_KIND_U),
		OPTION(fm_type_option, ie, "informationElementId", 303, 2, FM_KIND_U),
		OPTION(fm_type_option, data_type, "informationElementDataType", 339, 1, FM_KIND_U),
		OPTION(fm_type_option, semantics, "informationElementSemantics", 344, 1, FM_KIND_U),
		OPTION(fm_type_option, units, "informationElementUnits", 345, 2, FM_KIND_U),
		OPTION(fm_type_option, range_begin, "informationElementRangeBegin", 342, 8,
		       FM_KIND_U),
		OPTION(fm_type_option, range_end, "informationElementRangeEnd", 343, 8, FM_KIND_U),
		OPTION(fm_type_option, name, "informationElementName", 341, 48, FM_KIND_TEXT),
	};

	options_layout(ret, TYPE_ID, 2, fields, FM_ARRAY_SIZE(fields));
}

static uint64_t all_ones(uint8_t octets)
{
	return UINT64_MAX >> (64 - 8 * octets);
}

/* Numbers of the IANA registry of units. */
static uint16_t unit_number(const char *unit)
{
	static const struct {
		const char *name;
		uint16_t number;
	} units[] = {
		{"octets", 2},	     {"packets", 3},	  {"flows", 4},	      {"seconds", 5},
		{"milliseconds", 6}, {"microseconds", 7}, {"nanoseconds", 8}, {"hops", 11},
	};

	for (size_t i = 0; i < FM_ARRAY_SIZE(units); i++)
		if (!strcmp(units[i].name, unit))
			return units[i].number;
	return 0;
}

/* Numbers of the IANA registry of data types. */
static uint8_t data_type(const struct fm_field *field)
{
	if (field->kind == FM_KIND_IP4)
		return 18;
	if (field->kind == FM_KIND_IP6)
		return 19;
	if (field->kind == FM_KIND_TEXT)
		return 13;
	return (uint8_t)(1 + __builtin_ctz(field->wire)); /* unsigned8, 16, 32, 64 */
}

void fm_layout_type_of(struct fm_type_option *ret, const struct fm_field *field,
		       uint32_t enterprise_number)
{
	*ret = (struct fm_type_option){
		.pen = enterprise_number,
		.ie = field->ie,
		.data_type = data_type(field),
		.semantics = field->semantics,
		.units = unit_number(field->unit),
	};
	/* What is absent lies outside of the range. */
	if (field->kind == FM_KIND_U || field->kind == FM_KIND_OPT)
		ret->range_end = all_ones(field->wire) - (field->kind == FM_KIND_OPT);
	memcpy(ret->name, field->ie_name, strnlen(field->ie_name, sizeof(ret->name) - 1));
}

static uint64_t read_unsigned(const void *member, uint8_t size)
{
	switch (size) {
	case 1:
		return *(const uint8_t *)member;
	case 2: {
		uint16_t value;

		memcpy(&value, member, sizeof(value));
		return value;
	}
	case 4: {
		uint32_t value;

		memcpy(&value, member, sizeof(value));
		return value;
	}
	default: {
		uint64_t value;

		memcpy(&value, member, sizeof(value));
		return value;
	}
	}
}

/* The sizes that occur get their own moves: this is most of the cost of a record. */
static inline void write_number(uint64_t value, uint8_t wire, bool host_order, uint8_t *ret)
{
	switch (wire) {
	case 1:
		*ret = (uint8_t)value;
		break;
	case 2: {
		uint16_t number = host_order ? (uint16_t)value : htobe16((uint16_t)value);

		memcpy(ret, &number, sizeof(number));
		break;
	}
	case 4: {
		uint32_t number = host_order ? (uint32_t)value : htobe32((uint32_t)value);

		memcpy(ret, &number, sizeof(number));
		break;
	}
	default: {
		uint64_t number = host_order ? value : htobe64(value);

		memcpy(ret, &number, sizeof(number));
		break;
	}
	}
}

static uint64_t ntp_time(uint64_t ns)
{
	uint64_t seconds = ns / FM_NS_PER_S + NTP_EPOCH, rest = ns % FM_NS_PER_S;

	return seconds << 32 | (rest << 32) / FM_NS_PER_S;
}

/* The largest number says absent: a larger one is the largest below. */
static uint64_t on_wire(uint64_t value, uint8_t size, uint8_t wire)
{
	return value == all_ones(size) ? all_ones(wire) : FM_MIN(value, all_ones(wire) - 1);
}

static void write_label(uint64_t section, uint8_t *ret)
{
	if (section == FM_ABSENT)
		section = 0;
	ret[0] = (uint8_t)(section >> 16);
	ret[1] = (uint8_t)(section >> 8);
	ret[2] = (uint8_t)section;
}

static void write_address4(const void *member, bool host_order, uint8_t *ret)
{
	uint8_t octets[4];

	memcpy(octets, member, sizeof(octets));
	write_number((uint64_t)octets[0] << 24 | octets[1] << 16 | octets[2] << 8 | octets[3], 4,
		     host_order, ret);
}

void fm_layout_write(const struct fm_layout *layout, const void *source, bool host_order,
		     uint64_t boot_ns, uint8_t *ret)
{
	for (unsigned int i = 0; i < layout->n; i++) {
		const struct fm_field *field = &layout->fields[i];
		const void *member = (const char *)source + field->offset;
		uint64_t value;

		switch (field->kind) {
		case FM_KIND_U:
			write_number(read_unsigned(member, field->size), field->wire, host_order,
				     ret);
			break;
		case FM_KIND_OPT:
			value = read_unsigned(member, field->size);
			write_number(on_wire(value, field->size, field->wire), field->wire,
				     host_order, ret);
			break;
		case FM_KIND_LABEL:
			write_label(read_unsigned(member, field->size), ret);
			break;
		case FM_KIND_MSEC:
			value = read_unsigned(member, field->size);
			value = layout->sysuptime ? value / FM_NS_PER_MS - boot_ns / FM_NS_PER_MS
						  : value / FM_NS_PER_MS;
			write_number(value, field->wire, host_order, ret);
			break;
		case FM_KIND_NTP:
			write_number(ntp_time(read_unsigned(member, field->size)), field->wire,
				     host_order, ret);
			break;
		case FM_KIND_IP4:
			write_address4(member, host_order, ret);
			break;
		default: /* octets as they are */
			memcpy(ret, member, field->wire);
			break;
		}
		ret += field->wire;
	}
}
