/* SPDX-License-Identifier: Apache-2.0 */
/* Printed tables: see tables.h. */
#include "daemon/tables.h"

#include <inttypes.h>
#include <stdio.h>
#include <string.h>

#include "base/macro.h"
#include "daemon/config.h"
#include "ipfix/record.h"

#define COLUMNS_MAX 9
#define CELL_SIZE   512

/* Begins a table: its title and, in Markdown, what it is made from. */
static void title(enum fm_table_format format, const char *text, const char *source,
		  struct fm_buf *ret)
{
	if (format == FM_TABLE_MARKDOWN)
		fm_buf_printf(
			ret,
			"<!-- SPDX-License-Identifier: Apache-2.0 -->\n# %s\n\nMade from `%s`.\n\n",
			text, source);
}

static void cell(const char *text, struct fm_buf *ret)
{
	for (const char *p = text; *p; p++)
		fm_buf_printf(ret, *p == '|' ? "\\|" : "%c", *p);
}

/* A row of cells; in text, widths apply to all but the last. */
static void row(enum fm_table_format format, const char *const *cells, const int *widths, size_t n,
		struct fm_buf *ret)
{
	for (size_t i = 0; i < n; i++) {
		if (format == FM_TABLE_MARKDOWN) {
			fm_buf_printf(ret, "| ");
			cell(cells[i], ret);
			fm_buf_printf(ret, i + 1 < n ? " " : " |");
		} else if (i + 1 < n) {
			fm_buf_printf(ret, "%-*s ", widths[i], cells[i]);
		} else {
			fm_buf_printf(ret, "%s", cells[i]);
		}
	}
	fm_buf_printf(ret, "\n");
}

static void header(enum fm_table_format format, const char *const *cells, const int *widths,
		   size_t n, struct fm_buf *ret)
{
	row(format, cells, widths, n, ret);
	for (size_t i = 0; format == FM_TABLE_MARKDOWN && i < n; i++)
		fm_buf_printf(ret, "|---%s", i + 1 < n ? "" : "|\n");
}

static const char *pen_text(uint32_t pen, char ret[16])
{
	if (pen == FM_PEN_OWN)
		return "own";
	snprintf(ret, 16, "%" PRIu32, pen);
	return ret;
}

static const char *families_text(uint32_t families)
{
	static const struct {
		uint32_t families;
		const char *text;
	} texts[] = {
		{FM_F_ALL, "all"},
		{FM_F_IP4, "IPv4"},
		{FM_F_IP6, "IPv6"},
		{FM_F_ICMP4, "ICMP"},
		{FM_F_ICMP6, "ICMPv6"},
		{FM_F_TCP, "TCP"},
		{FM_F_QUIC, "QUIC"},
		{FM_F_MEASURED, "TCP, QUIC"},
		{FM_F_TUNNEL, "tunnel"},
		{FM_F_TUNNEL4, "tunnel, outer IPv4"},
		{FM_F_TUNNEL6, "tunnel, outer IPv6"},
		{FM_F_MPLS, "MPLS"},
		{FM_F_BIFLOW, "biflow"},
		{FM_F_SAMPLED, "sampled"},
		{FM_F_INITIATOR, "biflow or TCP"},
		{FM_F_TCP_REVERSE, "TCP biflow"},
		{FM_F_MEASURED_REVERSE, "TCP, QUIC biflow"},
		{FM_F_TUNNEL_REVERSE, "tunnel biflow"},
	};

	for (size_t i = 0; i < FM_ARRAY_SIZE(texts); i++)
		if (texts[i].families == families)
			return texts[i].text;
	return "?";
}

static const char *profiles_text(unsigned int profiles)
{
	if (profiles & (FM_P_SUM | FM_P_KEY))
		return "always";
	switch (profiles & FM_P_ALL) {
	case FM_P_ALL:
		return "all";
	case FM_P_FULL:
		return "full";
	case FM_P_NTOP:
		return "ntop";
	case FM_P_FULL | FM_P_NTOP:
		return "full, ntop";
	case 0:
		return "by name";
	}
	return "?";
}

static const char *number_or_none(unsigned int number, char ret[16])
{
	if (!number)
		return "-";
	snprintf(ret, 16, "%u", number);
	return ret;
}

int fm_tables_fields(enum fm_table_format format, struct fm_buf *ret)
{
	static const char *const names[] = {"element", "PEN",	   "id",   "v9",  "octets",
					    "records", "profiles", "unit", "help"};
	static const int widths[] = {32, 5, 4, 5, 6, 18, 10, 12, 0};

	title(format, "Fields of flow records", "src/ipfix/fields.def", ret);
	header(format, names, widths, FM_ARRAY_SIZE(names), ret);
#define FM_FIELD(name, type, dim, kind, ie_name, pen, ie, v9, wire, families, profile, unit,       \
		 semantics, help)                                                                  \
	{                                                                                          \
		char text[3][16];                                                                  \
		const char *const cells[] = {ie_name,                                              \
					     pen_text(pen, text[0]),                               \
					     #ie,                                                  \
					     number_or_none(v9, text[1]),                          \
					     #wire,                                                \
					     families_text(families),                              \
					     profiles_text(profile),                               \
					     unit,                                                 \
					     help};                                                \
		row(format, cells, widths, FM_ARRAY_SIZE(cells), ret);                             \
	}
#include "ipfix/fields.def"
#undef FM_FIELD
	return fm_buf_error(ret);
}

/* What a setting takes: its words, or the form of its type. */
static void setting_values(const struct fm_setting_info *info, struct fm_buf *ret)
{
	static const struct {
		const char *type, *text;
	} forms[] = {
		{"NAMES", "list"},
		{"RULES", "rule"},
		{"LIST", "list"},
		{"FIELDS", "+field and -field"},
		{"BOOL", "yes or no"},
		{"COUNT", "number (K M G)"},
		{"SIZE", "octets (K M G)"},
		{"NUMBER", "number"},
		{"DURATION", "duration"},
		{"ADDRESS", "host:port"},
		{"PATH", "path"},
		{"FILE", "path or credential"},
		{"HOST", "name or address"},
	};

	for (size_t i = 0; i < FM_ARRAY_SIZE(forms); i++)
		if (!strcmp(forms[i].type, info->type))
			fm_buf_printf(ret, "%s", forms[i].text);
	fm_config_words(info->type, ret);
}

int fm_tables_settings(enum fm_table_format format, struct fm_buf *ret)
{
	static const char *const names[] = {"section", "setting", "value", "default", "help"};
	static const int widths[] = {10, 18, 36, 22, 0};
	const struct fm_setting_info *infos;
	size_t n = fm_config_settings(&infos);

	title(format, "Settings", "src/daemon/config.def", ret);
	header(format, names, widths, FM_ARRAY_SIZE(names), ret);
	for (size_t i = 0; i < n; i++) {
		_fm_cleanup_buf_ struct fm_buf values = {};

		setting_values(&infos[i], &values);
		if (fm_buf_error(&values))
			return fm_buf_error(&values);
		const char *const cells[] = {infos[i].section, infos[i].key, values.data,
					     *infos[i].default_text ? infos[i].default_text : "-",
					     infos[i].help};

		row(format, cells, widths, FM_ARRAY_SIZE(cells), ret);
	}
	return fm_buf_error(ret);
}

/* Begins a further table. */
static void subtitle(enum fm_table_format format, const char *text, const char *source,
		     const char *remark, struct fm_buf *ret)
{
	if (format == FM_TABLE_MARKDOWN)
		fm_buf_printf(ret, "\n## %s\n\nMade from `%s`. %s\n\n", text, source, remark);
	else
		fm_buf_printf(ret, "\n");
}

static void not_sent(enum fm_table_format format, struct fm_buf *ret)
{
	static const char *const names[] = {"not sent", "help"};
	static const int widths[] = {18, 0};

	subtitle(
		format, "Records that were not sent, by cause", "src/ipfix/not-sent.def",
		"Each counts records, packets and octets of one collector or file. Their sum is not_sent; given = sent + waiting + not_sent.",
		ret);
	header(format, names, widths, FM_ARRAY_SIZE(names), ret);
#define FM_NOT_SENT(name, help)                                                                    \
	row(format, (const char *const[]){#name, help}, widths, FM_ARRAY_SIZE(names), ret);
#include "ipfix/not-sent.def"
#undef FM_NOT_SENT
}

static void figures(enum fm_table_format format, struct fm_buf *ret)
{
	static const char *const names[] = {"figure", "of", "type", "element", "help"};
	static const int widths[] = {22, 7, 6, 30, 0};

	subtitle(
		format, "Figures", "src/ipfix/statistics.def",
		"Of the daemon, or of each sink: a collector or file. TOTAL only grows, GAUGE is what is so now; those with an element are in the options record of template 1027.",
		ret);
	header(format, names, widths, FM_ARRAY_SIZE(names), ret);
#define FM_STATISTIC(owner, name, type, kind, ie_name, ie, help)                                   \
	row(format, (const char *const[]){#name, #owner, #type, ie_name, help}, widths,            \
	    FM_ARRAY_SIZE(names), ret);
#include "ipfix/statistics.def"
#undef FM_STATISTIC
}

int fm_tables_counters(enum fm_table_format format, struct fm_buf *ret)
{
	static const char *const names[] = {"counter", "class", "help"};
	static const int widths[] = {18, 10, 0};

	title(format, "Counters", "src/bpf/counters.def", ret);
	if (format == FM_TABLE_MARKDOWN)
		fm_buf_printf(
			ret,
			"Each counts packets and octets. SEEN = what the flow tables hold or held + AGAIN + AGGREGATED + IGNORED + FILTERED + LOST, always.\n\n");
	header(format, names, widths, FM_ARRAY_SIZE(names), ret);
#define FM_COUNTER(name, class, help)                                                              \
	row(format, (const char *const[]){#name, #class, help}, widths, FM_ARRAY_SIZE(names), ret);
#include "bpf/counters.def"
#undef FM_COUNTER
	not_sent(format, ret);
	figures(format, ret);
	return fm_buf_error(ret);
}
