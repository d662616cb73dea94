/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The daemon's log: structured journal entries where standard error is the journal, else lines on
 * standard error. Used by the daemon's outer modules and flowmonctl; base and ipfix are quiet.
 */
#ifndef FM_LOG_H
#define FM_LOG_H

#include <stdbool.h>
#include <stddef.h>
#include <syslog.h>

/* A field of a journal entry: name in capitals (FLOWMOND_COLLECTOR), value as text. */
struct fm_log_field {
	const char *name;
	const char *value;
};

/* level: the least urgent priority that is logged (LOG_ERR .. LOG_DEBUG). */
void fm_log_init(int level, bool journal);
void fm_log_set_level(int level);

/* Whether standard error is connected to the journal (JOURNAL_STREAM, systemd.exec(5)). */
bool fm_log_is_journal(void);

__attribute__((format(printf, 2, 3))) void fm_log(int priority, const char *format, ...);
__attribute__((format(printf, 4, 5))) void fm_log_with(int priority,
						       const struct fm_log_field *fields,
						       size_t n_fields, const char *format, ...);

#define fm_log_error(...)   fm_log(LOG_ERR, __VA_ARGS__)
#define fm_log_warning(...) fm_log(LOG_WARNING, __VA_ARGS__)
#define fm_log_notice(...)  fm_log(LOG_NOTICE, __VA_ARGS__)
#define fm_log_info(...)    fm_log(LOG_INFO, __VA_ARGS__)
#define fm_log_debug(...)   fm_log(LOG_DEBUG, __VA_ARGS__)

#endif
