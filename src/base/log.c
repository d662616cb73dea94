/* SPDX-License-Identifier: Apache-2.0 */
/* The log: see log.h. */
#include "base/log.h"

#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/uio.h>
#include <unistd.h>

#define SD_JOURNAL_SUPPRESS_LOCATION
#include <systemd/sd-journal.h>

#include "base/cleanup.h"

#define FIELDS_MAX 8

/* The only state outside the manager: every module may log. */
static int log_level = LOG_INFO;
static bool log_journal;

void fm_log_init(int level, bool journal)
{
	log_level = level;
	log_journal = journal;
}

void fm_log_set_level(int level)
{
	log_level = level;
}

bool fm_log_is_journal(void)
{
	const char *stream = getenv("JOURNAL_STREAM");
	unsigned long device, inode;
	struct stat status;

	return stream && sscanf(stream, "%lu:%lu", &device, &inode) == 2 &&
	       fstat(STDERR_FILENO, &status) == 0 && status.st_dev == device &&
	       status.st_ino == inode;
}

static void to_journal(int priority, const struct fm_log_field *fields, size_t n_fields,
		       const char *message)
{
	struct iovec parts[FIELDS_MAX + 2];
	char *texts[FIELDS_MAX + 2] = {};
	size_t n = 0;

	if (n_fields > FIELDS_MAX)
		n_fields = FIELDS_MAX;
	if (asprintf(&texts[0], "PRIORITY=%d", priority) >= 0)
		n++;
	if (asprintf(&texts[n], "MESSAGE=%s", message) >= 0)
		n++;
	else /* no memory: the journal reads this as well */
		fprintf(stderr, "%s\n", message);
	for (size_t i = 0; i < n_fields; i++)
		if (asprintf(&texts[n], "%s=%s", fields[i].name, fields[i].value) >= 0)
			n++;
	for (size_t i = 0; i < n; i++)
		parts[i] = (struct iovec){.iov_base = texts[i], .iov_len = strlen(texts[i])};
	sd_journal_sendv(parts, (int)n);
	for (size_t i = 0; i < n; i++)
		free(texts[i]);
}

static void log_message(int priority, const struct fm_log_field *fields, size_t n_fields,
			const char *format, va_list arguments)
{
	_fm_cleanup_free_ char *message = NULL;
	char cut[512]; /* where there is no memory */
	va_list again;

	if (priority > log_level)
		return;
	va_copy(again, arguments);
	if (vasprintf(&message, format, arguments) < 0) {
		message = NULL;
		vsnprintf(cut, sizeof(cut), format, again);
	}
	va_end(again);
	if (log_journal)
		to_journal(priority, fields, n_fields, message ? message : cut);
	else
		fprintf(stderr, "flowmond: %s\n", message ? message : cut);
}

void fm_log(int priority, const char *format, ...)
{
	va_list arguments;

	va_start(arguments, format);
	log_message(priority, NULL, 0, format, arguments);
	va_end(arguments);
}

void fm_log_with(int priority, const struct fm_log_field *fields, size_t n_fields,
		 const char *format, ...)
{
	va_list arguments;

	va_start(arguments, format);
	log_message(priority, fields, n_fields, format, arguments);
	va_end(arguments);
}
