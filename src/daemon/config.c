/* SPDX-License-Identifier: Apache-2.0 */
/* Settings as rows: defaults, parsing and printing of values. See config.h. */
#include "daemon/config.h"

#include <errno.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#include "base/parse.h"
#include "daemon/config-rows.h"
#include "daemon/filter-rules.h"
#include "daemon/pattern.h"
#include "daemon/prefix-map.h"

#define HOST_MAX     253
#define HOST_LETTERS "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789-.:_"

static const struct fm_setting_word words[] = {
#define FM_WORD(type, value, word) {"ENUM_" #type, value, word},
#include "daemon/config-words.def"
#undef FM_WORD
};

const struct fm_setting fm_settings[] = {
#define FM_SETTING(section, key, type, member, default_text, min, max, help)                       \
	{                                                                                          \
		{#section, #key, #type, default_text, help, min, max},                             \
		&fm_setting_type_##type,                                                           \
		offsetof(FM_SECTION_##section(struct fm_config, struct fm_collector_config,        \
					      struct fm_group_config),                             \
			 member),                                                                  \
		FM_SECTION_##section(FM_IN_MAIN, FM_IN_COLLECTOR, FM_IN_GROUP),                    \
	},
#include "daemon/config.def"
#undef FM_SETTING
};

const size_t fm_n_settings = FM_ARRAY_SIZE(fm_settings);

/* --- values by type --- */

static void done_names(void *member)
{
	struct fm_names *names = member;

	fm_parse_list_free(names->v, names->n);
	*names = (struct fm_names){};
}

static int parse_names(const struct fm_setting *row, const char *text, void *member)
{
	struct fm_names names;
	int r = fm_parse_list(text, &names.v, &names.n);

	for (size_t i = 0; r == 0 && i < names.n; i++) {
		r = fm_pattern_check(names.v[i]);
		if (r < 0)
			fm_parse_list_free(names.v, names.n);
	}
	if (r < 0)
		return r;
	done_names(member);
	*(struct fm_names *)member = names;
	return 0;
}

/* Names of something else in the file, which the whole is checked for; added to those there are. */
static int parse_list(const struct fm_setting *row, const char *text, void *member)
{
	struct fm_names *names = member, more;
	char **grown;
	int r = fm_parse_list(text, &more.v, &more.n);

	if (r < 0)
		return r;
	grown = reallocarray(names->v, names->n + more.n + 1, sizeof(*grown));
	if (!grown) {
		fm_parse_list_free(more.v, more.n);
		return -ENOMEM;
	}
	for (size_t i = 0; i <= more.n; i++) /* with the NULL at the end */
		grown[names->n + i] = more.v[i];
	free(more.v);
	names->v = grown;
	names->n += more.n;
	return 0;
}

/* In as many lines as the file's reader wants for it. */
static void print_list(const struct fm_setting *row, const void *member, struct fm_buf *ret)
{
	const struct fm_names *names = member;
	size_t begin = ret->size;

	for (size_t i = 0; i < names->n; i++) {
		if (i && ret->size + strlen(names->v[i]) > begin + FM_SETTING_COLUMNS) {
			fm_buf_printf(ret, "\n%s = ", row->info.key);
			begin = ret->size;
		}
		fm_buf_printf(ret, "%s%s", ret->size > begin ? ", " : "", names->v[i]);
	}
}

static void done_rules(void *member)
{
	struct fm_filter_rules **rules = member;

	*rules = fm_filter_rules_free(*rules);
}

int fm_config_add_rule(struct fm_filter_rules **rules, const char *text, struct fm_buf *complaint)
{
	int r = *rules ? 0 : fm_filter_rules_new(rules);

	if (r < 0) {
		fm_buf_printf(complaint, "no memory");
		return r;
	}
	return *text ? fm_filter_rules_add(*rules, text, complaint) : 0;
}

static int parse_rules(const struct fm_setting *row, const char *text, void *member)
{
	_fm_cleanup_buf_ struct fm_buf complaint = {};

	return fm_config_add_rule(member, text, &complaint);
}

static void print_rules(const struct fm_setting *row, const void *member, struct fm_buf *ret)
{
	const struct fm_filter_rules *rules = *(struct fm_filter_rules *const *)member;

	for (size_t i = 0; i < rules->n_rules; i++) {
		if (i)
			fm_buf_printf(ret, "\n%s = ", row->info.key);
		fm_buf_printf(ret, "%s", rules->rules[i].text);
	}
}

static void print_names(const struct fm_setting *row, const void *member, struct fm_buf *ret)
{
	const struct fm_names *names = member;

	for (size_t i = 0; i < names->n; i++)
		fm_buf_printf(ret, "%s%s", i ? ", " : "", names->v[i]);
}

static int parse_bool(const struct fm_setting *row, const char *text, void *member)
{
	return fm_parse_bool(text, member);
}

static void print_bool(const struct fm_setting *row, const void *member, struct fm_buf *ret)
{
	fm_buf_printf(ret, "%s", *(const bool *)member ? "yes" : "no");
}

static int parse_number(const struct fm_setting *row, const char *text, void *member)
{
	return fm_parse_u64(text, row->info.min, row->info.max, member);
}

static int parse_size(const struct fm_setting *row, const char *text, void *member)
{
	return fm_parse_size(text, row->info.min, row->info.max, member);
}

static void print_number(const struct fm_setting *row, const void *member, struct fm_buf *ret)
{
	fm_buf_printf(ret, "%" PRIu64, *(const uint64_t *)member);
}

static int parse_duration(const struct fm_setting *row, const char *text, void *member)
{
	return fm_parse_duration_ns(text, row->info.min, row->info.max, member);
}

static void print_duration(const struct fm_setting *row, const void *member, struct fm_buf *ret)
{
	uint64_t ns = *(const uint64_t *)member;

	if (ns && ns % FM_NS_PER_HOUR == 0)
		fm_buf_printf(ret, "%" PRIu64 "h", ns / FM_NS_PER_HOUR);
	else if (ns && ns % FM_NS_PER_MIN == 0)
		fm_buf_printf(ret, "%" PRIu64 "m", ns / FM_NS_PER_MIN);
	else if (ns % FM_NS_PER_S == 0)
		fm_buf_printf(ret, "%" PRIu64 "s", ns / FM_NS_PER_S);
	else
		fm_buf_printf(ret, "%" PRIu64 "ms", ns / FM_NS_PER_MS);
}

static void done_address(void *member)
{
	struct fm_address *address = member;

	free(address->text);
	free(address->host);
	free(address->port);
	*address = (struct fm_address){};
}

static int parse_address(const struct fm_setting *row, const char *text, void *member)
{
	struct fm_address address = {};
	int r;

	if (*text) {
		r = fm_parse_host_port(text, &address.host, &address.port);
		if (r < 0)
			return r;
		address.text = strdup(text);
		if (!address.text) {
			free(address.host);
			free(address.port);
			return -ENOMEM;
		}
	}
	done_address(member);
	*(struct fm_address *)member = address;
	return 0;
}

static void print_address(const struct fm_setting *row, const void *member, struct fm_buf *ret)
{
	const struct fm_address *address = member;

	fm_buf_printf(ret, "%s", address->text ? address->text : "");
}

static void done_path(void *member)
{
	free(*(char **)member);
	*(char **)member = NULL;
}

static int set_text(const char *text, void *member)
{
	char *copy = strdup(text);

	if (!copy)
		return -ENOMEM;
	done_path(member);
	*(char **)member = copy;
	return 0;
}

static int parse_path(const struct fm_setting *row, const char *text, void *member)
{
	if (*text && *text != '/' && strcmp(text, "-"))
		return -EINVAL;
	return set_text(text, member);
}

static int parse_file(const struct fm_setting *row, const char *text, void *member)
{
	if (*text != '/' && (strchr(text, '/') || !strcmp(text, ".") || !strcmp(text, "..")))
		return -EINVAL;
	return set_text(text, member);
}

/* Names of hosts, addresses of both families. */
static int parse_host(const struct fm_setting *row, const char *text, void *member)
{
	size_t length = strlen(text);

	if (length > HOST_MAX || strspn(text, HOST_LETTERS) != length)
		return -EINVAL;
	return set_text(text, member);
}

static void print_path(const struct fm_setting *row, const void *member, struct fm_buf *ret)
{
	fm_buf_printf(ret, "%s", *(char *const *)member);
}

static const struct fm_setting_word *find_word(const char *type, const char *text)
{
	for (size_t i = 0; i < FM_ARRAY_SIZE(words); i++)
		if (!strcmp(words[i].type, type) && !strcmp(words[i].word, text))
			return &words[i];
	return NULL;
}

static int parse_enum(const struct fm_setting *row, const char *text, void *member)
{
	const struct fm_setting_word *word = find_word(row->info.type, text);

	if (!word)
		return -EINVAL;
	*(unsigned int *)member = word->value;
	return 0;
}

static void print_enum(const struct fm_setting *row, const void *member, struct fm_buf *ret)
{
	for (size_t i = 0; i < FM_ARRAY_SIZE(words); i++)
		if (!strcmp(words[i].type, row->info.type) &&
		    words[i].value == *(const unsigned int *)member)
			fm_buf_printf(ret, "%s", words[i].word);
}

/* A list of words, each a bit. */
static int parse_bits(const struct fm_setting *row, const char *text, void *member)
{
	struct fm_names names;
	unsigned int bits = 0;
	int r = fm_parse_list(text, &names.v, &names.n);

	if (r < 0)
		return r;
	for (size_t i = 0; i < names.n && r == 0; i++) {
		const struct fm_setting_word *word = find_word(row->info.type, names.v[i]);

		if (word)
			bits |= word->value;
		else
			r = -EINVAL;
	}
	fm_parse_list_free(names.v, names.n);
	if (r == 0)
		*(unsigned int *)member = bits;
	return r;
}

static void print_bits(const struct fm_setting *row, const void *member, struct fm_buf *ret)
{
	const char *separator = "";

	for (size_t i = 0; i < FM_ARRAY_SIZE(words); i++)
		if (!strcmp(words[i].type, row->info.type) &&
		    (words[i].value & *(const unsigned int *)member)) {
			fm_buf_printf(ret, "%s%s", separator, words[i].word);
			separator = ", ";
		}
}

const struct fm_setting_type fm_setting_type_NAMES = {parse_names, print_names, done_names,
						      "a list such as eth*, !docker0"};
const struct fm_setting_type fm_setting_type_LIST = {parse_list, print_list, done_names,
						     "a list such as a, b"};
const struct fm_setting_type fm_setting_type_RULES = {parse_rules, print_rules, done_rules,
						      "a rule such as exclude udp and port 53"};
const struct fm_setting_type fm_setting_type_BOOL = {parse_bool, print_bool, NULL, "yes or no"};
const struct fm_setting_type fm_setting_type_COUNT = {parse_size, print_number, NULL,
						      "a number, with K, M or G for 1024s"};
const struct fm_setting_type fm_setting_type_SIZE = {parse_size, print_number, NULL,
						     "octets, with K, M or G for 1024s"};
const struct fm_setting_type fm_setting_type_NUMBER = {parse_number, print_number, NULL,
						       "a number"};
const struct fm_setting_type fm_setting_type_DURATION = {parse_duration, print_duration, NULL,
							 "a duration with ms, s, m or h"};
const struct fm_setting_type fm_setting_type_ADDRESS = {parse_address, print_address, done_address,
							"host:port or [v6]:port"};
const struct fm_setting_type fm_setting_type_PATH = {parse_path, print_path, done_path,
						     "a path that begins with /, or -"};
const struct fm_setting_type fm_setting_type_FILE = {
	parse_file, print_path, done_path,
	"a path that begins with /, or the name of a credential"};
const struct fm_setting_type fm_setting_type_HOST = {parse_host, print_path, done_path,
						     "a host name or an address"};
#define FM_SETTING_TYPE_ENUM(type)                                                                 \
	const struct fm_setting_type fm_setting_type_ENUM_##type = {parse_enum, print_enum, NULL,  \
								    NULL}
FM_SETTING_TYPE_ENUM(FILTER);
FM_SETTING_TYPE_ENUM(OBSERVE);
FM_SETTING_TYPE_ENUM(ATTACH);
FM_SETTING_TYPE_ENUM(TRANSPORT);
FM_SETTING_TYPE_ENUM(PROTOCOL);
FM_SETTING_TYPE_ENUM(PROFILE);
FM_SETTING_TYPE_ENUM(POLICY);
FM_SETTING_TYPE_ENUM(V9_TIME);
FM_SETTING_TYPE_ENUM(TUNNEL);
FM_SETTING_TYPE_ENUM(AGGREGATE);
FM_SETTING_TYPE_ENUM(MEASURE);
FM_SETTING_TYPE_ENUM(SPOOL);
FM_SETTING_TYPE_ENUM(LOG_LEVEL);
const struct fm_setting_type fm_setting_type_ENUM_KEYS = {parse_bits, print_bits, NULL, NULL};

int fm_config_words(const char *type, struct fm_buf *ret)
{
	size_t n = 0, left;

	for (size_t i = 0; i < FM_ARRAY_SIZE(words); i++)
		n += !strcmp(words[i].type, type);
	left = n;
	for (size_t i = 0; i < FM_ARRAY_SIZE(words); i++) {
		if (strcmp(words[i].type, type))
			continue;
		left--;
		fm_buf_printf(ret, "%s%s", words[i].word, left > 1 ? ", " : left ? " or " : "");
	}
	return fm_buf_error(ret);
}

size_t fm_config_settings(const struct fm_setting_info **ret)
{
	static struct fm_setting_info infos[FM_ARRAY_SIZE(fm_settings)];

	for (size_t i = 0; i < FM_ARRAY_SIZE(fm_settings); i++)
		infos[i] = fm_settings[i].info;
	*ret = infos;
	return FM_ARRAY_SIZE(fm_settings);
}

/* --- the whole --- */

static void *member_of(const struct fm_setting *row, void *owner)
{
	return (char *)owner + row->offset;
}

static void done_members(void *owner, enum fm_setting_owner kind)
{
	for (size_t i = 0; i < fm_n_settings; i++)
		if (fm_settings[i].owner == kind && fm_settings[i].type->done)
			fm_settings[i].type->done(member_of(&fm_settings[i], owner));
}

static int set_defaults(void *owner, enum fm_setting_owner kind)
{
	for (size_t i = 0; i < fm_n_settings; i++) {
		const struct fm_setting *row = &fm_settings[i];
		int r;

		if (row->owner != kind)
			continue;
		r = row->type->parse(row, row->info.default_text, member_of(row, owner));
		if (r < 0)
			return r;
	}
	return 0;
}

int fm_config_new(struct fm_config **ret)
{
	_fm_cleanup_(fm_config_freep) struct fm_config *config = calloc(1, sizeof(*config));
	int r;

	if (!config)
		return -ENOMEM;
	r = set_defaults(config, FM_IN_MAIN);
	if (r < 0)
		return r;
	*ret = FM_TAKE_PTR(config);
	return 0;
}

struct fm_config *fm_config_free(struct fm_config *config)
{
	if (!config)
		return NULL;
	for (size_t i = 0; i < config->n_collectors; i++) {
		done_members(&config->collectors[i], FM_IN_COLLECTOR);
		free(config->collectors[i].name);
	}
	for (size_t i = 0; i < config->n_groups; i++) {
		done_members(&config->groups[i], FM_IN_GROUP);
		free(config->groups[i].name);
	}
	free(config->collectors);
	free(config->groups);
	fm_prefix_map_free(config->prefix_map);
	done_members(config, FM_IN_MAIN);
	free(config);
	return NULL;
}

/* A named section's own: all of it, or nothing. */
static int init_named(void *owner, enum fm_setting_owner kind, const char *name, char **ret_name)
{
	_fm_cleanup_free_ char *copy = strdup(name);
	int r;

	if (!copy)
		return -ENOMEM;
	r = set_defaults(owner, kind);
	if (r < 0) {
		done_members(owner, kind);
		return r;
	}
	*ret_name = FM_TAKE_PTR(copy);
	return 0;
}

int fm_config_add_collector(struct fm_config *config, const char *name, unsigned int line,
			    struct fm_collector_config **ret)
{
	struct fm_collector_config *grown, made = {.line = line};
	int r;

	grown = reallocarray(config->collectors, config->n_collectors + 1, sizeof(*grown));
	if (!grown)
		return -ENOMEM;
	config->collectors = grown;
	r = init_named(&made, FM_IN_COLLECTOR, name, &made.name);
	if (r < 0)
		return r;
	config->collectors[config->n_collectors] = made;
	*ret = &config->collectors[config->n_collectors++];
	return 0;
}

int fm_config_add_group(struct fm_config *config, const char *name, unsigned int line,
			struct fm_group_config **ret)
{
	struct fm_group_config *grown, made = {.line = line};
	int r;

	grown = reallocarray(config->groups, config->n_groups + 1, sizeof(*grown));
	if (!grown)
		return -ENOMEM;
	config->groups = grown;
	r = init_named(&made, FM_IN_GROUP, name, &made.name);
	if (r < 0)
		return r;
	config->groups[config->n_groups] = made;
	*ret = &config->groups[config->n_groups++];
	return 0;
}

int fm_config_set(void *owner, const struct fm_setting *row, const char *text)
{
	return row->type->parse(row, text, member_of(row, owner));
}

static void print_section(const void *owner, const char *section, struct fm_buf *ret)
{
	for (size_t i = 0; i < fm_n_settings; i++) {
		const struct fm_setting *row = &fm_settings[i];
		size_t before;

		if (strcmp(row->info.section, section))
			continue;
		fm_buf_printf(ret, "%s = ", row->info.key);
		before = ret->size;
		row->type->print(row, (const char *)owner + row->offset, ret);
		if (ret->size == before && !ret->error)
			ret->size--; /* no blank at the end of the line */
		fm_buf_printf(ret, "\n");
	}
}

static void print_heading(const char *section, const char *name, struct fm_buf *ret)
{
	fm_buf_printf(ret, "%s[%s%s%s]\n", ret->size ? "\n" : "", section, name ? " " : "",
		      name ? name : "");
}

int fm_config_print(const struct fm_config *config, struct fm_buf *ret)
{
	const char *section = "";

	for (size_t i = 0; i < fm_n_settings; i++) {
		if (!strcmp(fm_settings[i].info.section, section))
			continue;
		section = fm_settings[i].info.section;
		switch (fm_settings[i].owner) {
		case FM_IN_MAIN:
			print_heading(section, NULL, ret);
			print_section(config, section, ret);
			break;
		case FM_IN_COLLECTOR:
			for (size_t c = 0; c < config->n_collectors; c++) {
				print_heading(section, config->collectors[c].name, ret);
				print_section(&config->collectors[c], section, ret);
			}
			break;
		case FM_IN_GROUP:
			for (size_t g = 0; g < config->n_groups; g++) {
				print_heading(section, config->groups[g].name, ret);
				print_section(&config->groups[g], section, ret);
			}
			break;
		}
	}
	return fm_buf_error(ret);
}

/* Comment lines of at most 88 columns. */
static void print_comment(const char *text, struct fm_buf *ret)
{
	size_t column = 0;

	while (*text) {
		size_t length = strcspn(text, " ");

		if (column && column + 1 + length > 88) {
			fm_buf_printf(ret, "\n");
			column = 0;
		}
		fm_buf_printf(ret, "%s", column ? " " : "# ");
		fm_buf_append(ret, text, length);
		column += length + (column ? 1 : 2);
		text += length + (text[length] == ' ');
	}
	fm_buf_printf(ret, "\n");
}

int fm_config_print_example(struct fm_buf *ret)
{
	static const char *const named[] = {
		[FM_IN_MAIN] = NULL,
		[FM_IN_COLLECTOR] =
			"A collector; as many sections as there are collectors, each with a name of its own.",
		[FM_IN_GROUP] =
			"A group of collectors. One that is in no group gets every record; none is in two.",
	};
	const char *section = "";

	fm_buf_printf(ret, "# SPDX-License-Identifier: Apache-2.0\n");
	print_comment(
		"flowmond: every setting, with its default commented out. Durations take ms, s, m and h, sizes K, M and G. Check with flowmond --check-config, apply with systemctl reload flowmond.",
		ret);
	for (size_t i = 0; i < fm_n_settings; i++) {
		const struct fm_setting *row = &fm_settings[i];

		if (strcmp(row->info.section, section)) {
			section = row->info.section;
			fm_buf_printf(ret, "\n");
			if (named[row->owner])
				print_comment(named[row->owner], ret);
			fm_buf_printf(ret, named[row->owner] ? "#[%s main]\n" : "[%s]\n", section);
		}
		print_comment(row->info.help, ret);
		fm_buf_printf(ret, "#%s =%s%s\n", row->info.key, *row->info.default_text ? " " : "",
			      row->info.default_text);
	}
	return fm_buf_error(ret);
}

bool fm_config_collector_equal(const struct fm_collector_config *a,
			       const struct fm_collector_config *b)
{
	_fm_cleanup_buf_ struct fm_buf text_a = {}, text_b = {};

	print_section(a, "collector", &text_a);
	print_section(b, "collector", &text_b);
	return !strcmp(a->name, b->name) && text_a.data && text_b.data &&
	       !strcmp(text_a.data, text_b.data);
}
