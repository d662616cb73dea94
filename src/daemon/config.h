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

enum fm_observe { FM_OBSERVE_ONCE, FM_OBSERVE_EVERY };
enum fm_attach_mode { FM_ATTACH_AUTO, FM_ATTACH_TCX, FM_ATTACH_CLSACT };
enum fm_transport_kind { FM_TRANSPORT_UDP, FM_TRANSPORT_TCP };
enum fm_protocol { FM_PROTOCOL_IPFIX, FM_PROTOCOL_V9 };
enum fm_profile { FM_PROFILE_STANDARD, FM_PROFILE_NTOP, FM_PROFILE_FULL };
enum fm_measure { FM_MEASURE_AUTO, FM_MEASURE_NO, FM_MEASURE_YES };
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

struct fm_names {
	char **v;
	size_t n;
};

struct fm_address {
	char *text; /* as written; NULL: not set */
	char *host;
	char *port;
};

/* The C type of a setting's member. */
#define FM_CTYPE_NAMES		struct fm_names
#define FM_CTYPE_BOOL		bool
#define FM_CTYPE_COUNT		uint64_t
#define FM_CTYPE_SIZE		uint64_t
#define FM_CTYPE_NUMBER		uint64_t
#define FM_CTYPE_DURATION	uint64_t
#define FM_CTYPE_ADDRESS	struct fm_address
#define FM_CTYPE_PATH		char *
#define FM_CTYPE_ENUM_OBSERVE	enum fm_observe
#define FM_CTYPE_ENUM_ATTACH	enum fm_attach_mode
#define FM_CTYPE_ENUM_KEYS	unsigned int
#define FM_CTYPE_ENUM_TUNNEL	enum fm_tunnel_key
#define FM_CTYPE_ENUM_MEASURE	enum fm_measure
#define FM_CTYPE_ENUM_TRANSPORT enum fm_transport_kind
#define FM_CTYPE_ENUM_PROTOCOL	enum fm_protocol
#define FM_CTYPE_ENUM_PROFILE	enum fm_profile
#define FM_CTYPE_ENUM_V9_TIME	enum fm_v9_time
#define FM_CTYPE_ENUM_SPOOL	enum fm_spool_mode
#define FM_CTYPE_ENUM_LOG_LEVEL enum fm_log_level

/* Which struct a section's rows are members of. */
#define FM_MAIN_capture(x) x
#define FM_MAIN_flows(x)   x
#define FM_MAIN_metrics(x) x
#define FM_MAIN_collector(x)
#define FM_MAIN_spool(x)      x
#define FM_MAIN_ipfix_file(x) x
#define FM_MAIN_json(x)	      x
#define FM_MAIN_text(x)	      x
#define FM_MAIN_bpf(x)	      x
#define FM_MAIN_log(x)	      x
#define FM_MAIN_control(x)    x
#define FM_COLLECTOR_capture(x)
#define FM_COLLECTOR_flows(x)
#define FM_COLLECTOR_metrics(x)
#define FM_COLLECTOR_collector(x) x
#define FM_COLLECTOR_spool(x)
#define FM_COLLECTOR_ipfix_file(x)
#define FM_COLLECTOR_json(x)
#define FM_COLLECTOR_text(x)
#define FM_COLLECTOR_bpf(x)
#define FM_COLLECTOR_log(x)
#define FM_COLLECTOR_control(x)

struct fm_collector_config {
	char *name;
	unsigned int line; /* of its section in the file */
#define FM_SETTING(section, key, type, member, ...) FM_COLLECTOR_##section(FM_CTYPE_##type member;)
#include "daemon/config.def"
#undef FM_SETTING
};

struct fm_config {
#define FM_SETTING(section, key, type, member, ...) FM_MAIN_##section(FM_CTYPE_##type member;)
#include "daemon/config.def"
#undef FM_SETTING
	struct fm_collector_config *collectors;
	size_t n_collectors;
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
int fm_config_parse(FILE *file, const char *path, struct fm_config **ret, struct fm_buf *errors);

/* What is used when there is no file: all interfaces but loopback, readable lines on the terminal.
 */
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
