/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The configuration file: inih cuts it into sections, names and values; what is wrong is said with
 * file and line, everything at once. Part of config.h.
 */
#include <ctype.h>
#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include <ini.h>

#include "base/parse.h"
#include "daemon/config-fields.h"
#include "daemon/config-rows.h"
#include "daemon/filter-compile.h"
#include "daemon/prefix-map.h"

#define NAME_MAX_LENGTH 32
#define ERRORS_MAX	50
/* A file beyond this is not a configuration. */
#define LINES_MAX 100000
/* inih takes 198 octets; the value of a longer line goes past it. */
#define LINE_MAX_OCTETS 4096
#define LONG_NAME_MAX	64

#define ROWS_MAX 128

struct reader {
	FILE *file;
	const char *path;
	unsigned int line;
	struct fm_buf *errors;
	unsigned int n_errors;
	int error; /* -errno: not all could be read */
	struct fm_config *config;
	bool line_reported;
	char *long_value; /* of a line that inih has in short; NULL: it has all of it */
	char section[64]; /* of the last value, as written */
	void *owner;	  /* what its rows are members of; NULL: unknown section */
	const char *row_section;
	bool given[ROWS_MAX];	      /* rows given in the section */
	unsigned int begun[ROWS_MAX]; /* line of the section whose first row it is */
};

__attribute__((format(printf, 3, 4))) static void complain(struct reader *reader, unsigned int line,
							   const char *format, ...)
{
	va_list arguments;
	char text[512];

	reader->line_reported = true;
	if (reader->n_errors++ >= ERRORS_MAX)
		return;
	va_start(arguments, format);
	vsnprintf(text, sizeof(text), format, arguments);
	va_end(arguments);
	for (char *p = text; *p; p++)
		if ((unsigned char)*p < 0x20 || *p == 0x7f)
			*p = '?';
	fm_buf_printf(reader->errors, "%s:%u: %s\n", reader->path, line, text);
}

/* Letters in common at the same places: good enough to guess what was meant. */
static size_t likeness(const char *a, const char *b)
{
	size_t same = 0, longer = FM_MAX(strlen(a), strlen(b)), common = 0;

	while (a[common] && a[common] == b[common])
		common++;
	for (const char *p = a; *p; p++)
		same += strchr(b, *p) != NULL;
	return longer ? (same * 100 + common * 50) / longer : 0;
}

static void complain_unknown_key(struct reader *reader, const char *name)
{
	const char *best = NULL;
	size_t best_likeness = 75;

	for (size_t i = 0; i < fm_n_settings; i++) {
		if (strcmp(fm_settings[i].info.section, reader->row_section))
			continue;
		if (likeness(name, fm_settings[i].info.key) > best_likeness) {
			best = fm_settings[i].info.key;
			best_likeness = likeness(name, best);
		}
	}
	if (best)
		complain(reader, reader->line, "[%s] has no setting '%s': did you mean '%s'?",
			 reader->section, name, best);
	else
		complain(reader, reader->line,
			 "[%s] has no setting '%s': see flowmond --list-settings", reader->section,
			 name);
}

static void complain_value(struct reader *reader, const struct fm_setting *row, const char *value,
			   int error)
{
	_fm_cleanup_buf_ struct fm_buf expected = {}, low = {}, high = {};

	if (row->type == &fm_setting_type_FIELDS) {
		fm_config_explain_fields(reader->owner, row, value, &expected);
		complain(reader, reader->line, "[%s] %s = %s: %s", reader->section, row->info.key,
			 value, expected.data);
		return;
	}
	if (row->type->expected)
		fm_buf_printf(&expected, "%s", row->type->expected);
	else
		fm_config_words(row->info.type, &expected);
	if (row->info.max) {
		row->type->print(row, &row->info.min, &low);
		row->type->print(row, &row->info.max, &high);
		fm_buf_printf(&expected, ", from %s to %s", low.data, high.data);
	}
	complain(reader, reader->line, "[%s] %s = %s: expected %s", reader->section, row->info.key,
		 value, error == -ENOMEM ? "memory" : expected.data);
}

static void complain_twice(struct reader *reader, unsigned int first)
{
	complain(reader, reader->line, "[%s] is there twice: the first is in line %u",
		 reader->section, first);
}

static bool name_is_good(const char *name)
{
	size_t length = strlen(name);

	return length && length <= NAME_MAX_LENGTH &&
	       strspn(name, "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789_-") ==
		       length;
}

static void begin_collector(struct reader *reader, const char *name)
{
	struct fm_config *config = reader->config;
	struct fm_collector_config *collector;

	for (size_t i = 0; i < config->n_collectors; i++)
		if (!strcmp(config->collectors[i].name, name)) {
			complain_twice(reader, config->collectors[i].line);
			return;
		}
	if (fm_config_add_collector(config, name, reader->line, &collector) < 0)
		complain(reader, reader->line, "no memory");
	else
		reader->owner = collector;
}

static void begin_group(struct reader *reader, const char *name)
{
	struct fm_config *config = reader->config;
	struct fm_group_config *group;

	for (size_t i = 0; i < config->n_groups; i++)
		if (!strcmp(config->groups[i].name, name)) {
			complain_twice(reader, config->groups[i].line);
			return;
		}
	if (fm_config_add_group(config, name, reader->line, &group) < 0)
		complain(reader, reader->line, "no memory");
	else
		reader->owner = group;
}

/* '[kind NAME]'. False: the section is no such. */
static bool begin_named(struct reader *reader, const char *section, const char *kind,
			void (*begin)(struct reader *reader, const char *name))
{
	size_t length = strlen(kind);
	const char *name = section + length;

	if (strncmp(section, kind, length) || (*name && !isspace((unsigned char)*name)))
		return false;
	name += strspn(name, " \t");
	reader->row_section = kind;
	if (name_is_good(name))
		begin(reader, name);
	else
		complain(reader, reader->line,
			 "[%s]: expected a name of 1 to %d letters, digits, _ or - behind '%s'",
			 reader->section, NAME_MAX_LENGTH, kind);
	return true;
}

static void complain_unknown_section(struct reader *reader, const char *section)
{
	_fm_cleanup_buf_ struct fm_buf sections = {};
	const char *last = "";

	for (size_t i = 0; i < fm_n_settings; i++) {
		if (!strcmp(fm_settings[i].info.section, last))
			continue;
		fm_buf_printf(&sections, "%s%s%s", *last ? ", " : "", fm_settings[i].info.section,
			      fm_settings[i].owner != FM_IN_MAIN ? " NAME" : "");
		last = fm_settings[i].info.section;
	}
	complain(reader, reader->line, "[%s] is no section: expected one of %s", section,
		 sections.data ? sections.data : "");
}

/* A section begins: which rows are its own. */
static void begin_section(struct reader *reader, const char *section)
{
	snprintf(reader->section, sizeof(reader->section), "%s", section);
	reader->owner = NULL;
	memset(reader->given, 0, sizeof(reader->given));
	if (begin_named(reader, section, "collector", begin_collector) ||
	    begin_named(reader, section, "group", begin_group))
		return;
	for (size_t i = 0; i < fm_n_settings; i++) {
		if (fm_settings[i].owner != FM_IN_MAIN ||
		    strcmp(fm_settings[i].info.section, section))
			continue;
		if (reader->begun[i])
			complain(reader, reader->line,
				 "[%s] is there twice: the first is in line %u", section,
				 reader->begun[i]);
		reader->begun[i] = reader->line;
		reader->owner = reader->config;
		reader->row_section = fm_settings[i].info.section;
		return;
	}
	complain_unknown_section(reader, section);
}

/* '[section]': inih would cut a long name and says nothing of an empty section. */
static void read_heading(struct reader *reader, const char *line)
{
	_fm_cleanup_free_ char *section = NULL;
	size_t length = strcspn(line + 1, "]\r\n");
	const char *rest = line + 1 + length;

	if (*rest == ']')
		rest++;
	rest += strspn(rest, " \t\r\n");
	if (line[1 + length] != ']' || (*rest && *rest != ';' && *rest != '#')) {
		reader->owner = NULL;
		complain(reader, reader->line, "expected a heading such as [flows]");
		return;
	}
	section = strndup(line + 1, length);
	if (section)
		begin_section(reader, section);
	else
		complain(reader, reader->line, "no memory");
}

/* Neither heading, nor comment, nor value, nor empty. */
static bool is_junk(const char *line)
{
	size_t begin = strspn(line, " \t\r\n");

	return line[begin] && !strchr("[#;", line[begin]) && !strpbrk(line, "=:");
}

/* Keeps the value of a line that inih does not take, without the comment and the spaces around it.
 */
static int keep_value(struct reader *reader, const char *line, char *into, size_t size)
{
	size_t name = strcspn(line, "=:"), begin, length;

	if (name > LONG_NAME_MAX || !line[name] || *line == '[')
		return -E2BIG;
	begin = name + 1 + strspn(line + name + 1, " \t");
	length = strcspn(line + begin, "\r\n");
	for (size_t i = 1; i < length; i++)
		if (line[begin + i] == ';' && isspace((unsigned char)line[begin + i - 1]))
			length = i;
	while (length && isspace((unsigned char)line[begin + length - 1]))
		length--;
	reader->long_value = strndup(line + begin, length);
	if (!reader->long_value)
		return -ENOMEM;
	snprintf(into, size, "%.*s = ...\n", (int)name, line);
	return 0;
}

/* A line that inih would cut in two without a word. */
static void read_long_line(struct reader *reader, const char *line, size_t length, char *into,
			   int size)
{
	int r;

	if (length <= LINE_MAX_OCTETS && strchr(";#", line[strspn(line, " \t")]))
		return;
	r = length > LINE_MAX_OCTETS ? -E2BIG : keep_value(reader, line, into, (size_t)size);
	if (r == -E2BIG)
		complain(reader, reader->line, "the line is too long: expected at most %d octets",
			 length > LINE_MAX_OCTETS ? LINE_MAX_OCTETS : size - 2);
	else if (r < 0)
		complain(reader, reader->line, "no memory");
}

/*
 * Hands inih one line, whole or not at all: it would cut a longer one in two without a word; of
 * such a line it gets the name. A line that cannot be used is reported and handed on as empty.
 */
static char *read_line(char *into, int size, void *userdata)
{
	struct reader *reader = userdata;
	_fm_cleanup_free_ char *line = NULL;
	size_t capacity = 0;
	ssize_t length;

	length = getline(&line, &capacity, reader->file);
	if (length < 0) {
		/* No memory for a line is not the end of the file. */
		if (!feof(reader->file))
			reader->error = -errno;
		return NULL;
	}
	reader->line++;
	reader->line_reported = false;
	free(reader->long_value);
	reader->long_value = NULL;
	if (reader->line > LINES_MAX) {
		complain(reader, reader->line, "more than %d lines: not a configuration",
			 LINES_MAX);
		return NULL;
	}
	strcpy(into, "\n");
	if (memchr(line, '\0', (size_t)length))
		complain(reader, reader->line, "a NUL octet in the line: expected text");
	else if (!strncmp(line, "\xef\xbb\xbf", 3)) /* inih skips it, headings are found here */
		complain(reader, reader->line, "a byte order mark: expected plain UTF-8");
	else if (length > 1 && isspace((unsigned char)line[0]) && line[strspn(line, " \t\r\n")] &&
		 !strchr("#;", line[strspn(line, " \t")]))
		complain(
			reader, reader->line,
			"the line begins with a space: expected 'name = value' or '[section]' at its beginning");
	else if (is_junk(line))
		complain(reader, reader->line, "expected '[section]' or 'name = value'");
	else if (length >= size)
		read_long_line(reader, line, strcspn(line, "\r\n"), into, size);
	else
		memcpy(into, line, (size_t)length + 1);
	if (into[0] == '[')
		read_heading(reader, into);
	return into;
}

/* Whether a row may be given again. */
static bool adds_up(const struct fm_setting *row)
{
	return row->type == &fm_setting_type_LIST || row->type == &fm_setting_type_FIELDS ||
	       row->type == &fm_setting_type_RULES;
}

/* Rules say themselves what is wrong with them. */
static void set_rule(struct reader *reader, const struct fm_setting *row, const char *value)
{
	struct fm_filter_rules **rules = (void *)((char *)reader->owner + row->offset);
	_fm_cleanup_buf_ struct fm_buf complaint = {};

	if (fm_config_add_rule(rules, value, &complaint) < 0)
		complain(reader, reader->line, "[%s] %s: %s", reader->section, row->info.key,
			 complaint.data ? complaint.data : "no memory");
}

static void set_row(struct reader *reader, const struct fm_setting *row, const char *value)
{
	int r;

	if (row->type == &fm_setting_type_RULES) {
		set_rule(reader, row, value);
		return;
	}
	r = fm_config_set(reader->owner, row, value);
	if (r < 0)
		complain_value(reader, row, value, r);
}

/* inih calls this for every name = value; non-zero: go on. */
static int on_value(void *userdata, const char *section, const char *name, const char *value)
{
	struct reader *reader = userdata;

	if (reader->long_value)
		value = reader->long_value;
	if (!*section)
		complain(reader, reader->line, "%s stands before any [section]", name);
	if (!reader->owner)
		return 1;
	for (size_t i = 0; i < fm_n_settings; i++) {
		const struct fm_setting *row = &fm_settings[i];

		if (strcmp(row->info.section, reader->row_section) || strcmp(row->info.key, name))
			continue;
		if (reader->given[i] && !adds_up(row))
			complain(reader, reader->line, "[%s] %s is given twice", reader->section,
				 name);
		reader->given[i] = true;
		set_row(reader, row, value);
		return 1;
	}
	complain_unknown_key(reader, name);
	return 1;
}

/* Line in which a section that has no name begins. */
static unsigned int line_of(const struct reader *reader, const char *section)
{
	size_t i = 0;

	while (strcmp(fm_settings[i].info.section, section))
		i++;
	return reader->begun[i];
}

/* Where a path must be of a directory, standard output is none. */
static void check_directory(struct reader *reader, const char *section, const char *path)
{
	if (!strcmp(path, "-"))
		complain(reader, line_of(reader, section),
			 "[%s] directory = -: expected a path that begins with /", section);
}

/* Fields that a sink's records have, with the rest of the settings. */
static void check_records(struct reader *reader, unsigned int line, const char *section,
			  const char *name, const struct fm_session_options *records)
{
	_fm_cleanup_buf_ struct fm_buf complaint = {};

	fm_config_check_records(reader->config, records, &complaint);
	if (complaint.size)
		complain(reader, line, "[%s%s] %s", section, name, complaint.data);
}

static const struct fm_collector_config *find_collector(const struct fm_config *config,
							const char *name)
{
	for (size_t i = 0; i < config->n_collectors; i++)
		if (!strcmp(config->collectors[i].name, name))
			return &config->collectors[i];
	return NULL;
}

/* The name's place among the members; n: it is none. */
static size_t find_member(const struct fm_group_config *group, const char *name)
{
	size_t m = 0;

	while (m < group->members.n && strcmp(group->members.v[m], name))
		m++;
	return m;
}

static void check_group(struct reader *reader, size_t g)
{
	const struct fm_config *config = reader->config;
	const struct fm_group_config *group = &config->groups[g];

	if (!group->members.n)
		complain(reader, group->line,
			 "[group %s] has no members: expected members = names of collectors",
			 group->name);
	for (size_t m = 0; m < group->members.n; m++) {
		const char *name = group->members.v[m];

		if (!find_collector(config, name))
			complain(
				reader, group->line,
				"[group %s] there is no [collector %s]: expected members that are collectors",
				group->name, name);
		if (find_member(group, name) < m)
			complain(reader, group->line, "[group %s] has the member %s twice",
				 group->name, name);
		for (size_t i = 0; i < g; i++)
			if (find_member(&config->groups[i], name) < config->groups[i].members.n)
				complain(
					reader, group->line,
					"[group %s] %s is a member of [group %s] in line %u: expected one group at most",
					group->name, name, config->groups[i].name,
					config->groups[i].line);
	}
}

/* Nobody shall believe that what goes in the clear is encrypted. */
static void check_identity(struct reader *reader, const struct fm_collector_config *c)
{
	bool secure = c->transport == FM_TRANSPORT_TLS || c->transport == FM_TRANSPORT_DTLS;

	if (!secure && (*c->certificate_file || *c->key_file || *c->ca_file || *c->peer_name))
		complain(
			reader, c->line,
			"[collector %s] certificate_file, key_file, ca_file and peer_name are for tls and dtls: expected transport = tls or dtls",
			c->name);
	if (!*c->certificate_file != !*c->key_file)
		complain(reader, c->line,
			 "[collector %s] expected both certificate_file and key_file, or neither",
			 c->name);
}

static void check_filter(struct reader *reader)
{
	_fm_cleanup_buf_ struct fm_buf complaint = {};

	if (reader->config->filter_rules->n_rules &&
	    fm_filter_check(reader->config->filter_rules, &complaint) < 0)
		complain(reader, line_of(reader, "filter"), "[filter] %s",
			 complaint.data ? complaint.data : "no memory");
}

static void check_aggregation(struct reader *reader)
{
	_fm_cleanup_buf_ struct fm_buf complaint = {};
	struct fm_config *config = reader->config;
	bool ports = config->aggregate == FM_AGGREGATION_NO;

	if (ports && config->prefix6 > FM_LENGTHS_MAX && config->prefix6 < 128)
		complain(reader, line_of(reader, "flows"),
			 "[flows] prefix6 = %llu: expected at most %d, or 128, beside ports",
			 (unsigned long long)config->prefix6, FM_LENGTHS_MAX);
	if (fm_config_coarse(config) && config->measure_tcp == FM_MEASURE_YES)
		complain(
			reader, line_of(reader, "metrics"),
			"[metrics] tcp = yes: TCP is not measured where flows are added up: expected auto or no");
	if (!*config->prefix_file)
		return;
	if (ports)
		complain(
			reader, line_of(reader, "flows"),
			"[flows] prefix_file: expected aggregate = ports or hosts, since it has no place beside ports");
	else if (fm_prefix_map_load(config->prefix_file, &config->prefix_map, &complaint) < 0)
		complain(reader, line_of(reader, "flows"), "[flows] prefix_file: %s",
			 complaint.data ? complaint.data : "no memory");
}

/* What no single value shows. */
static void check_whole(struct reader *reader)
{
	const struct fm_config *config = reader->config;
	struct fm_session_options records;

	check_aggregation(reader);
	for (size_t i = 0; i < config->n_collectors; i++) {
		const struct fm_collector_config *c = &config->collectors[i];

		if (!c->address.text)
			complain(reader, c->line,
				 "[collector %s] has no address: expected address = host:port",
				 c->name);
		if (c->protocol == FM_PROTOCOL_V9 && c->transport != FM_TRANSPORT_UDP)
			complain(
				reader, c->line,
				"[collector %s] NetFlow v9 goes over udp only: expected transport = udp or protocol = ipfix",
				c->name);
		if (c->protocol == FM_PROTOCOL_V9 && c->spool == FM_SPOOL_YES)
			complain(
				reader, c->line,
				"[collector %s] spool = yes: NetFlow v9 cannot wait in IPFIX files: expected protocol = ipfix or spool = no",
				c->name);
		check_identity(reader, c);
		fm_config_collector_records(config, c, &records);
		check_records(reader, c->line, "collector ", c->name, &records);
	}
	fm_config_file_records(config, &records);
	check_records(reader, line_of(reader, "ipfix_file"), "ipfix_file", "", &records);
	fm_config_json_records(config, &records);
	check_records(reader, line_of(reader, "json"), "json", "", &records);
	check_directory(reader, "spool", config->spool_directory);
	check_directory(reader, "ipfix_file", config->file_directory);
	for (size_t g = 0; g < config->n_groups; g++)
		check_group(reader, g);
	check_filter(reader);
}

int fm_config_parse(FILE *file, const char *path, struct fm_config **ret, struct fm_buf *errors)
{
	_fm_cleanup_(fm_config_freep) struct fm_config *config = NULL;
	struct reader reader = {.file = file, .path = path, .errors = errors};
	int r;

	r = fm_config_new(&config);
	if (r < 0)
		return r;
	if (fm_n_settings > ROWS_MAX)
		return -E2BIG;
	reader.config = config;
	r = ini_parse_stream(read_line, &reader, on_value, &reader);
	free(reader.long_value);
	if (reader.error)
		return reader.error;
	if (r == -2)
		return -ENOMEM;
	if (r > 0 && !reader.n_errors) /* the first line that is neither */
		complain(&reader, (unsigned int)r, "expected '[section]' or 'name = value'");
	if (!reader.n_errors)
		check_whole(&reader);
	if (reader.n_errors > ERRORS_MAX)
		fm_buf_printf(errors, "%s: and %u errors more\n", path,
			      reader.n_errors - ERRORS_MAX);
	if (reader.n_errors)
		return -EINVAL;
	*ret = FM_TAKE_PTR(config);
	return 0;
}

int fm_config_load(const char *path, struct fm_config **ret, struct fm_buf *errors)
{
	_fm_cleanup_fclose_ FILE *file = fopen(path, "re");
	struct stat status;

	if (!file)
		return -errno;
	if (fstat(fileno(file), &status) < 0)
		return -errno;
	if (S_ISDIR(status.st_mode))
		return -EISDIR;
	return fm_config_parse(file, path, ret, errors);
}

int fm_config_new_embedded(struct fm_config **ret)
{
	static char text[] = "[text]\nfile = -\n";
	_fm_cleanup_buf_ struct fm_buf errors = {};
	_fm_cleanup_fclose_ FILE *file = fmemopen(text, strlen(text), "r");

	if (!file)
		return -errno;
	return fm_config_parse(file, "embedded default", ret, &errors);
}
