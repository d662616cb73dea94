/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The configuration: struct members, parser, checks and printing all come from config.def. Read by
 * main and, on reload, by the manager.
 */
#ifndef FM_CONFIG_H
#define FM_CONFIG_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <syslog.h>

#include "base/buf.h"
#include "base/cleanup.h"
#include "base/macro.h"
#include "bpf/abi.h"
#include "daemon/config-members.h"
#include "ipfix/field-list.h"

enum fm_observe { FM_OBSERVE_ONCE, FM_OBSERVE_EVERY };
enum fm_attach_mode { FM_ATTACH_AUTO, FM_ATTACH_TCX, FM_ATTACH_CLSACT };
enum fm_transport_kind {
	FM_TRANSPORT_UDP,
	FM_TRANSPORT_TCP,
	FM_TRANSPORT_TLS,
	FM_TRANSPORT_DTLS,
};
enum fm_protocol { FM_PROTOCOL_IPFIX, FM_PROTOCOL_V9 };
enum fm_profile { FM_PROFILE_STANDARD, FM_PROFILE_NTOP, FM_PROFILE_FULL };
enum fm_aggregation { FM_AGGREGATION_NO, FM_AGGREGATION_PORTS, FM_AGGREGATION_HOSTS };
enum fm_measure { FM_MEASURE_AUTO, FM_MEASURE_NO, FM_MEASURE_YES };
enum fm_policy { FM_POLICY_COPY, FM_POLICY_BALANCE, FM_POLICY_FAILOVER };
enum fm_v9_time { FM_V9_TIME_ABSOLUTE, FM_V9_TIME_SYSUPTIME };
enum fm_spool_mode { FM_SPOOL_AUTO, FM_SPOOL_NO, FM_SPOOL_YES };
enum fm_log_level {
	FM_LOG_LEVEL_ERROR = LOG_ERR,
	FM_LOG_LEVEL_WARNING = LOG_WARNING,
	FM_LOG_LEVEL_NOTICE = LOG_NOTICE,
	FM_LOG_LEVEL_INFO = LOG_INFO,
	FM_LOG_LEVEL_DEBUG = LOG_DEBUG,
};

/* Bits of key_extra. */
#define FM_KEY_VLAN	 0x1u
#define FM_KEY_INTERFACE 0x2u
#define FM_KEY_TOS	 0x4u

struct fm_filter_rules;
struct fm_prefix_map;

struct fm_names {
	char **v;
	size_t n;
};

struct fm_address {
	char *text; /* as written; NULL: not set */
	char *host;
	char *port;
};

struct fm_collector_config {
	char *name;
	unsigned int line; /* of its section in the file */
	uint64_t identity; /* which certificate files; see identity.h */
#define FM_SETTING(section, key, type, member, ...)                                                \
	FM_SECTION_##section(, FM_CTYPE_##type member;, )
#include "daemon/config.def"
#undef FM_SETTING
};

/* Collectors that share the records; a collector is in one group at most. */
struct fm_group_config {
	char *name;
	unsigned int line;
#define FM_SETTING(section, key, type, member, ...)                                                \
	FM_SECTION_##section(, , FM_CTYPE_##type member;)
#include "daemon/config.def"
#undef FM_SETTING
};

struct fm_config {
#define FM_SETTING(section, key, type, member, ...)                                                \
	FM_SECTION_##section(FM_CTYPE_##type member;, , )
#include "daemon/config.def"
#undef FM_SETTING
	struct fm_prefix_map *prefix_map; /* what prefix_file holds; NULL: there is none */
	struct fm_collector_config *collectors;
	size_t n_collectors;
	struct fm_group_config *groups;
	size_t n_groups;
};

/* Defaults everywhere, no collectors. 0 or -ENOMEM. */
int fm_config_new(struct fm_config **ret);
struct fm_config *fm_config_free(struct fm_config *config);
FM_DEFINE_CLEANUP(struct fm_config *, fm_config_free)

/*
 * Reads a file; path names it in messages. All errors are appended to errors, a line each: file,
 * line, what was given, what was expected. 0, -EINVAL (errors say why) or -errno of reading.
 */
int fm_config_load(const char *path, struct fm_config **ret, struct fm_buf *errors);
/* The same of an open file; for tests. */
int fm_config_parse(FILE *file, const char *path, struct fm_config **ret, struct fm_buf *errors);

/* What is used without a file: all interfaces but loopback, readable lines on the terminal. */
int fm_config_new_embedded(struct fm_config **ret);

/* As a file that parses to the same configuration. */
int fm_config_print(const struct fm_config *config, struct fm_buf *ret);

/* The shipped example: every setting with its help and default, commented out. */
int fm_config_print_example(struct fm_buf *ret);

/* Rows of config.def, for tables and manuals. */
struct fm_setting_info {
	const char *section, *key, *type, *default_text, *help;
	uint64_t min, max;
};
size_t fm_config_settings(const struct fm_setting_info **ret);

/* The words an ENUM setting takes, such as "udp or tcp"; "" for other types. */
int fm_config_words(const char *type, struct fm_buf *ret);

/* Whether two collectors are configured the same. */
bool fm_config_collector_equal(const struct fm_collector_config *a,
			       const struct fm_collector_config *b);

#endif
