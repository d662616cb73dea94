/* SPDX-License-Identifier: Apache-2.0 */
/* Between config.c (rows and values) and config-file.c (the file): how a row is put together. */
#ifndef FM_CONFIG_ROWS_H
#define FM_CONFIG_ROWS_H

#include "daemon/config.h"

/* Lists are printed in lines of this length. */
#define FM_SETTING_COLUMNS 80

struct fm_setting;

/* How values of a type are read, written and let go. */
struct fm_setting_type {
	int (*parse)(const struct fm_setting *row, const char *text, void *member);
	void (*print)(const struct fm_setting *row, const void *member, struct fm_buf *ret);
	void (*done)(void *member); /* NULL: nothing is owned */
	const char *expected;	    /* NULL: the words of config-words.def */
};

/* Whose member a row is. */
enum fm_setting_owner {
	FM_IN_MAIN,
	FM_IN_COLLECTOR, /* once for each [collector NAME] */
	FM_IN_GROUP,	 /* once for each [group NAME] */
};

struct fm_setting {
	struct fm_setting_info info;
	const struct fm_setting_type *type;
	size_t offset;
	enum fm_setting_owner owner;
};

struct fm_setting_word {
	const char *type;
	unsigned int value;
	const char *word;
};

extern const struct fm_setting_type fm_setting_type_NAMES, fm_setting_type_LIST,
	fm_setting_type_FIELDS, fm_setting_type_RULES, fm_setting_type_ENUM_FILTER,
	fm_setting_type_BOOL, fm_setting_type_COUNT, fm_setting_type_SIZE, fm_setting_type_NUMBER,
	fm_setting_type_DURATION, fm_setting_type_ADDRESS, fm_setting_type_PATH,
	fm_setting_type_FILE, fm_setting_type_HOST, fm_setting_type_ENUM_OBSERVE,
	fm_setting_type_ENUM_ATTACH, fm_setting_type_ENUM_KEYS, fm_setting_type_ENUM_TUNNEL,
	fm_setting_type_ENUM_AGGREGATE, fm_setting_type_ENUM_MEASURE,
	fm_setting_type_ENUM_TRANSPORT, fm_setting_type_ENUM_PROTOCOL, fm_setting_type_ENUM_PROFILE,
	fm_setting_type_ENUM_POLICY, fm_setting_type_ENUM_V9_TIME, fm_setting_type_ENUM_SPOOL,
	fm_setting_type_ENUM_LOG_LEVEL;

extern const struct fm_setting fm_settings[];
extern const size_t fm_n_settings;

/* Sets a member of owner (struct fm_config, fm_collector_config or fm_group_config) from text. */
int fm_config_set(void *owner, const struct fm_setting *row, const char *text);
/* A rule behind those there are; an empty text is none. complaint: what was expected where. */
int fm_config_add_rule(struct fm_filter_rules **rules, const char *text, struct fm_buf *complaint);

/* What is wrong with a text that a list of fields did not take. */
void fm_config_explain_fields(const void *owner, const struct fm_setting *row, const char *text,
			      struct fm_buf *ret);

int fm_config_add_collector(struct fm_config *config, const char *name, unsigned int line,
			    struct fm_collector_config **ret);
int fm_config_add_group(struct fm_config *config, const char *name, unsigned int line,
			struct fm_group_config **ret);

#endif
