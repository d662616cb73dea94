/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Layouts of options records: see layout-options.h. What a kind has for fields stands here, all
 * else of it is a row of options.def.
 */
#include "ipfix/layout-options.h"

#include <string.h>

#include "base/macro.h"

/* Added to the number of a template that has own elements. */
#define ID_OWN 128

#define OPTION(struct_type, member, name, number, octets, field_kind)                              \
	{                                                                                          \
		.ie_name = name, .ie = number, .v9 = number, .wire = octets,                       \
		.size = sizeof(((struct struct_type *)0)->member), .kind = field_kind,             \
		.offset = offsetof(struct struct_type, member)                                     \
	}
#define OWN(struct_type, member, name, number, octets, field_kind, field_unit, meaning, text)      \
	{                                                                                          \
		.ie_name = name, .help = text, .pen = FM_PEN_OWN, .ie = number, .wire = octets,    \
		.size = sizeof(((struct struct_type *)0)->member), .kind = field_kind,             \
		.unit = field_unit, .semantics = FM_SEMANTICS_##meaning,                           \
		.offset = offsetof(struct struct_type, member)                                     \
	}

/*
 * The only form of a name that nfdump takes: no field more, and the scope is what nfdump 1.7 takes
 * for one. Other records must have none of its fields but numbers of their own.
 */
static const struct fm_field fields_interface[] = {
	OPTION(fm_interface_option, domain, "observationDomainId", 149, 4, FM_KIND_U),
	OPTION(fm_interface_option, ifindex, "ingressInterface", 10, 4, FM_KIND_U),
	OPTION(fm_interface_option, name, "interfaceDescription", 83, 32, FM_KIND_TEXT),
};

static const struct fm_field fields_device[] = {
	OPTION(fm_device_option, domain, "observationDomainId", 149, 4, FM_KIND_U),
	OPTION(fm_device_option, record.ifindex, "ingressPhysicalInterface", 252, 4, FM_KIND_U),
	OPTION(fm_device_option, record.name, "interfaceName", 82, 16, FM_KIND_TEXT),
	OWN(fm_device_option, record.alias, "interfaceAlias", 240, 64, FM_KIND_TEXT, "", NONE,
	    "alias that the administrator gave the interface"),
	OWN(fm_device_option, record.namespace, "interfaceNamespace", 241, 64, FM_KIND_TEXT, "",
	    NONE, "network namespace of the interface; empty: the exporter's own"),
	OWN(fm_device_option, record.speed, "interfaceSpeed", 242, 8, FM_KIND_OPT, "", QUANTITY,
	    "bits a second; absent: not known"),
	OWN(fm_device_option, record.vrf, "interfaceVRFID", 243, 4, FM_KIND_U, "", ID,
	    "VRF of the interface, as in ingressVRFID; 0: none"),
};

static const struct fm_field fields_vrf[] = {
	OPTION(fm_vrf_option, domain, "observationDomainId", 149, 4, FM_KIND_U),
	OPTION(fm_vrf_option, record.id, "ingressVRFID", 234, 4, FM_KIND_U),
	OPTION(fm_vrf_option, record.name, "VRFname", 236, 32, FM_KIND_TEXT),
};

static const struct fm_field fields_application[] = {
	OPTION(fm_application_option, domain, "observationDomainId", 149, 4, FM_KIND_U),
	OPTION(fm_application_option, record.id, "applicationId", 95, 4, FM_KIND_APP),
	OPTION(fm_application_option, record.name, "applicationName", 96, 24, FM_KIND_TEXT),
	OPTION(fm_application_option, record.description, "applicationDescription", 94, 56,
	       FM_KIND_TEXT),
};

#define STATISTIC_OF_DAEMON(name) exporter.name
#define STATISTIC_OF_SINK(name)	  sink.name

static const struct fm_field fields_statistics[] = {
	OPTION(fm_statistics_option, domain, "observationDomainId", 149, 4, FM_KIND_U),
#define FM_STATISTIC(owner, name, type, kind, ie_name, ie, help)                                   \
	OPTION(fm_statistics_option, STATISTIC_OF_##owner(name), ie_name, ie, 8, FM_KIND_##kind),
#include "ipfix/statistics.def"
#undef FM_STATISTIC
};

/* Interface and direction are plain fields: the scope is as above. */
static const struct fm_field fields_audit[] = {
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

static const struct fm_field fields_cause[] = {
	OPTION(fm_cause_option, domain, "observationDomainId", 149, 4, FM_KIND_U),
	OPTION(fm_cause_option, record.ifindex, "ingressPhysicalInterface", 252, 4, FM_KIND_U),
	OPTION(fm_cause_option, record.direction, "flowDirection", 61, 1, FM_KIND_U),
	OWN(fm_cause_option, record.cause, "cause", 220, 24, FM_KIND_TEXT, "", NONE,
	    "what kept packets out of flows, or records from being sent"),
	OWN(fm_cause_option, record.class, "causeClass", 221, 12, FM_KIND_TEXT, "", NONE,
	    "class of the cause: AGAIN, IGNORED, LOST, ...; NOT_SENT and NOT_TOLD are of this collector"),
	OPTION(fm_cause_option, record.start_ns, "monitoringIntervalStartMilliSeconds", 359, 8,
	       FM_KIND_MSEC),
	OPTION(fm_cause_option, record.end_ns, "monitoringIntervalEndMilliSeconds", 360, 8,
	       FM_KIND_MSEC),
	OWN(fm_cause_option, record.packets, "causePackets", 222, 8, FM_KIND_U, "packets", QUANTITY,
	    "packets over the interval"),
	OWN(fm_cause_option, record.octets, "causeOctets", 223, 8, FM_KIND_U, "octets", QUANTITY,
	    "their octets"),
	OWN(fm_cause_option, record.records, "causeRecords", 224, 8, FM_KIND_U, "flows", QUANTITY,
	    "records that were not sent or told"),
};

/*
 * The scope is what was exported in a span of export times, elements of RFC 5655; the counts are
 * totals within it.
 */
static const struct fm_field fields_gap[] = {
	OPTION(fm_gap_option, domain, "observationDomainId", 149, 4, FM_KIND_U),
	OPTION(fm_gap_option, gap.from, "minExportSeconds", 264, 4, FM_KIND_U),
	OPTION(fm_gap_option, gap.to, "maxExportSeconds", 260, 4, FM_KIND_U),
	OPTION(fm_gap_option, gap.messages, "exportedMessageTotalCount", 41, 8, FM_KIND_U),
	OPTION(fm_gap_option, gap.records, "exportedFlowRecordTotalCount", 42, 8, FM_KIND_U),
	OPTION(fm_gap_option, gap.packets, "packetTotalCount", 86, 8, FM_KIND_U),
	OPTION(fm_gap_option, gap.octets, "octetTotalCount", 85, 8, FM_KIND_U),
};

static const struct fm_field fields_sampler[] = {
	OPTION(fm_sampler_option, domain, "observationDomainId", 149, 4, FM_KIND_U),
	OPTION(fm_sampler_option, record.selector, "selectorId", 302, 8, FM_KIND_U),
	OPTION(fm_sampler_option, record.algorithm, "selectorAlgorithm", 304, 2, FM_KIND_U),
	OPTION(fm_sampler_option, record.interval, "samplingPacketInterval", 305, 4, FM_KIND_U),
	OPTION(fm_sampler_option, record.space, "samplingPacketSpace", 306, 4, FM_KIND_U),
	OPTION(fm_sampler_option, record.name, "selectorName", 335, 32, FM_KIND_TEXT),
};

static const struct fm_field fields_rate[] = {
	OPTION(fm_rate_option, domain, "observationDomainId", 149, 4, FM_KIND_U),
	OPTION(fm_rate_option, interval, "samplingInterval", 34, 4, FM_KIND_U),
};

static const struct fm_field fields_rate_kind[] = {
	OPTION(fm_rate_option, domain, "observationDomainId", 149, 4, FM_KIND_U),
	OPTION(fm_rate_option, interval, "samplingInterval", 34, 4, FM_KIND_U),
	OPTION(fm_rate_option, kind, "samplingAlgorithm", 35, 1, FM_KIND_U),
};

/* Texts are of variable length: libfixbuf takes no others for the description of a type. */
static const struct fm_field fields_type[] = {
	OPTION(fm_type_option, pen, "privateEnterpriseNumber", 346, 4, FM_KIND_U),
	OPTION(fm_type_option, ie, "informationElementId", 303, 2, FM_KIND_U),
	OPTION(fm_type_option, data_type, "informationElementDataType", 339, 1, FM_KIND_U),
	OPTION(fm_type_option, semantics, "informationElementSemantics", 344, 1, FM_KIND_U),
	OPTION(fm_type_option, units, "informationElementUnits", 345, 2, FM_KIND_U),
	OPTION(fm_type_option, range_begin, "informationElementRangeBegin", 342, 8, FM_KIND_U),
	OPTION(fm_type_option, range_end, "informationElementRangeEnd", 343, 8, FM_KIND_U),
	OPTION(fm_type_option, name, "informationElementName", 341, 48, FM_KIND_VAR),
	OPTION(fm_type_option, description, "informationElementDescription", 340, 176, FM_KIND_VAR),
};

enum { DOMAIN_PROCESS, DOMAIN_RECORDS };
enum { WHEN_FIRST, WHEN_OWN, WHEN_TYPES, WHEN_LATER };

static const struct {
	uint16_t id, n_scope;
	uint8_t domain, when;
	const struct fm_field *fields;
	size_t n;
} kinds[_FM_OPTIONS_MAX] = {
#define FM_OPTIONS(NAME, name, number, scope, where, moment, help)                                 \
	[FM_OPTIONS_##NAME] = {number,	      scope,	     DOMAIN_##where,                       \
			       WHEN_##moment, fields_##name, FM_ARRAY_SIZE(fields_##name)},
#include "ipfix/options.def"
#undef FM_OPTIONS
};

/* Whether options records have own elements: a list of fields is about flow records. */
static bool has_own(const struct fm_session_options *options)
{
	return options->protocol != FM_SESSION_V9 && options->profile == FM_P_FULL;
}

size_t fm_layout_options_fields(enum fm_options_kind kind, const struct fm_field **ret)
{
	*ret = kinds[kind].fields;
	return kinds[kind].n;
}

bool fm_layout_options_first(enum fm_options_kind kind, const struct fm_session_options *options,
			     bool has_types)
{
	return kinds[kind].when == WHEN_FIRST ||
	       (kinds[kind].when == WHEN_OWN && has_own(options)) ||
	       (kinds[kind].when == WHEN_TYPES && has_types);
}

/*
 * What concerns the whole process goes under domain 0 in IPFIX (RFC 7011 3.1): so collectors that
 * count only flow records in a sequence see no gap. NetFlow v9 has no such rule, and counts packets
 * of all kinds in one sequence.
 */
void fm_layout_options(struct fm_layout *ret, const struct fm_session_options *options,
		       enum fm_options_kind kind)
{
	bool v9 = options->protocol == FM_SESSION_V9;

	*ret = (struct fm_layout){
		.id = kinds[kind].id,
		.is_options = true,
		.n_scope = kinds[kind].n_scope,
		.domain = v9 || kinds[kind].domain == DOMAIN_RECORDS ? options->domain : 0,
	};
	for (size_t i = 0; i < kinds[kind].n; i++) {
		struct fm_field field = kinds[kind].fields[i];

		/* Figures without an element are told elsewhere. */
		if (!field.ie || (field.pen == FM_PEN_OWN && !has_own(options)))
			continue;
		if (field.pen == FM_PEN_OWN) {
			field.pen = options->enterprise_number;
			field.own = true;
			ret->id = kinds[kind].id + ID_OWN;
		}
		fm_layout_add(ret, &field);
	}
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

/* What is longer is cut; the rest stays 0: collectors look for the end of the string there. */
static void copy_text(char *ret, size_t size, const char *text)
{
	memcpy(ret, text, strnlen(text, size - 1));
}

void fm_layout_type_of(struct fm_type_option *ret, const struct fm_field *field)
{
	*ret = (struct fm_type_option){
		.pen = field->pen,
		.ie = field->ie,
		.data_type = data_type(field),
		.semantics = field->semantics,
		.units = unit_number(field->unit),
	};
	/* What is absent lies outside of the range. */
	if (field->kind == FM_KIND_U || field->kind == FM_KIND_OPT)
		ret->range_end =
			(UINT64_MAX >> (64 - 8 * field->wire)) - (field->kind == FM_KIND_OPT);
	copy_text(ret->name, sizeof(ret->name), field->ie_name);
	copy_text(ret->description, sizeof(ret->description), field->help);
}
