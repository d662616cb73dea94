/* SPDX-License-Identifier: Apache-2.0 */
/*
 * JSON lines: an object a record, its keys the names of the information elements (fields.def),
 * rows of other families and profiles left out. Times are milliseconds since 1970; what was not
 * measured is null. Audits have "type":"audit" before the rows of audit.def, and what counted by
 * cause behind.
 */
#include <arpa/inet.h>
#include <inttypes.h>

#include "base/macro.h"
#include "daemon/config-fields.h"
#include "daemon/sink-lines.h"
#include "daemon/status.h"

#define JSON_U(value) fm_buf_printf(ret, "%" PRIu64, (uint64_t)(value))
#define JSON_OPT(value)                                                                            \
	((value) == (__typeof__(value))-1 ? fm_buf_append(ret, "null", 4) : JSON_U(value))
#define JSON_LABEL(value)                                                                          \
	((value) == FM_ABSENT ? fm_buf_append(ret, "null", 4) : JSON_U((value) >> 4))
#define JSON_APP(value)                                                                            \
	fm_buf_printf(ret, "\"%u:%u\"", (unsigned int)(value) >> 24, (unsigned int)(value)&0xffffff)
#define JSON_MSEC(value) fm_buf_printf(ret, "%" PRIu64, (value) / FM_NS_PER_MS)
#define JSON_NTP(value)	 fm_buf_printf(ret, "%" PRIu64, (value))
#define JSON_IP4(value)	 json_address(AF_INET, value, ret)
#define JSON_IP6(value)	 json_address(AF_INET6, value, ret)

static void json_address(int family, const uint8_t *address, struct fm_buf *ret)
{
	char text[INET6_ADDRSTRLEN];

	fm_buf_printf(ret, "\"%s\"", inet_ntop(family, address, text, sizeof(text)));
}

static void json_line(const struct fm_sink_env *env, const struct fm_session_options *fields,
		      const struct fm_record *record, struct fm_buf *ret)
{
	const struct fm_shape shape = fm_record_shape(record);
	const struct fm_field_list *list = &fields->fields;
	const unsigned int chosen = fields->profile;
	const char *separator = "{";

#define FM_FIELD(name, type, dim, kind, ie_name, pen, ie, v9, wire, families, profile, ...)        \
	if (fm_field_list_has(list, FM_ROW_##name, (profile)&chosen) &&                            \
	    fm_shape_has(&shape, families)) {                                                      \
		fm_buf_printf(ret, "%s\"" ie_name "\":", separator);                               \
		JSON_##kind(record->name);                                                         \
		separator = ",";                                                                   \
	}
#include "ipfix/fields.def"
#undef FM_FIELD
	fm_buf_append(ret, "}\n", 2);
}

static void json_audit(const struct fm_audit_row *row, struct fm_buf *ret)
{
	const char *separator = "";

	fm_buf_printf(ret, "{\"type\":\"audit\"");
#define FM_AUDIT(name, type, kind, ie_name, ...)                                                   \
	fm_buf_printf(ret, ",\"" ie_name "\":");                                                   \
	JSON_##kind(row->record.name);
#include "ipfix/audit.def"
#undef FM_AUDIT
	fm_buf_printf(ret, ",\"causes\":{");
	for (unsigned int i = 0; i < _FM_COUNTER_MAX; i++) {
		if (i == FM_COUNTER_seen || !row->causes[i].packets)
			continue;
		fm_buf_printf(ret, "%s\"%s\":{\"packets\":%llu,\"octets\":%llu}", separator,
			      fm_status_counter_name((enum fm_counter)i), row->causes[i].packets,
			      row->causes[i].octets);
		separator = ",";
	}
	fm_buf_append(ret, "}}\n", 3);
}

static const char *json_path(const struct fm_config *config)
{
	return config->json_file;
}

static const struct fm_sink_lines_kind json_kind = {
	.ops = &fm_sink_json,
	.path = json_path,
	.fields = fm_config_json_records,
	.line = json_line,
	.audit = json_audit,
};

static int json_open(struct fm_sink **ret, const struct fm_sink_env *env, size_t index)
{
	return fm_sink_lines_open(ret, env, &json_kind);
}

const struct fm_sink_ops fm_sink_json = {
	.kind = "json",
	.open = json_open,
	FM_SINK_LINES_OPS,
};
