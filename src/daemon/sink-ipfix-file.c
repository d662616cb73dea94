/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Rotated IPFIX files (RFC 5655) as a sink: flowmond-TIME-NUMBER.ipfix, time in UTC. A file has
 * that name once it is complete, and .part behind it until then, so that nobody reads half of one.
 * Each begins with templates and the names of interfaces, ends with the exporter's statistics, and
 * is a session of its own: its sequence numbers begin at 0.
 *
 * Messages are written while a transaction is open. How much of the file counts stands in a memo,
 * which is part of the transaction: what is behind that was written by a process that was killed
 * before it could commit, and is cut off by the next. So a file is completed between transactions
 * only.
 */
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <time.h>

#include "base/clock.h"
#include "base/log.h"
#include "base/macro.h"
#include "base/siphash.h"
#include "daemon/config-fields.h"
#include "daemon/memo.h"
#include "daemon/sink.h"
#include "daemon/tell.h"
#include "ipfix/file-reader.h"
#include "ipfix/file-writer.h"
#include "ipfix/session.h"

#define TICK_US	     1000000
#define MESSAGE_SIZE 4096
#define RETRY_NS     (5 * FM_NS_PER_S)
#define NAME_SIZE    80
#define PART	     ".part"
/* A sink that is being replaced still has its memo. */
#define MEMOS_MAX 4

/* What outlives the process. */
struct written {
	uint64_t device, inode; /* of the file that is open; 0: there is none */
	uint64_t octets;	/* of it that count */
	char file[NAME_SIZE];	/* its name when it is complete */
	struct fm_sink_stats stats;
};

struct file_sink {
	struct fm_sink sink;
	struct fm_sink_env env;
	const struct fm_config *config;
	struct fm_session *session;
	sd_event_source *tick;
	int directory_fd;
	struct fm_file_writer *writer; /* NULL: no file is open */
	int lock_fd;		       /* says to others that the .part file is in use */
	struct fm_memo *memo;
	struct written *written; /* its value */
	bool open;		 /* a transaction is */
	bool broken;		 /* nothing more can be written to the file */
	bool worth_it;		 /* there is more in it than can be had again */
	uint64_t number;	 /* of the next file */
	uint64_t begun_ns, synced_ns, retry_ns;
	bool names_due;
	int state; /* 0: writing, -errno; as it was logged */
	char name[320];
};

static struct file_sink *of(struct fm_sink *sink)
{
	return (struct file_sink *)sink;
}

/* Logged when it changes. */
static void set_state(struct file_sink *files, int error)
{
	const struct fm_log_field field = {"FLOWMOND_SINK", files->name};

	if (files->state == error)
		return;
	files->state = error;
	if (error < 0)
		fm_log_with(LOG_WARNING, &field, 1, "%s: cannot write: %s", files->name,
			    strerror(-error));
	else
		fm_log_with(LOG_INFO, &field, 1, "%s: writing", files->name);
}

/* --- which files there are --- */

/* flowmond-20261121T120000Z-000001.ipfix, perhaps .part. */
static bool parse_name(const char *name, uint64_t *ret_number, bool *ret_part)
{
	unsigned int date, time_of_day;
	uint64_t number;
	int used = 0;

	if (sscanf(name, "flowmond-%8uT%6uZ-%12" SCNu64 ".ipfix%n", &date, &time_of_day, &number,
		   &used) != 3 ||
	    !used)
		return false;
	*ret_part = !strcmp(name + used, PART);
	*ret_number = number;
	return *ret_part || !name[used];
}

/* A .part file that a killed process left: its whole messages become a complete file. */
static void complete_left(struct file_sink *files, const char *name)
{
	_fm_cleanup_close_ int fd =
		openat(files->directory_fd, name, O_RDWR | O_CLOEXEC | O_NOFOLLOW | O_NONBLOCK);
	_fm_cleanup_(fm_file_reader_freep) struct fm_file_reader *reader = NULL;
	struct fm_message_info info;
	const uint8_t *message;
	char complete[NAME_SIZE];
	size_t size;

	if (fd < 0 || flock(fd, LOCK_EX | LOCK_NB) < 0 ||
	    fm_file_reader_new(&reader, files->directory_fd, name) < 0)
		return;
	while (fm_file_reader_next(reader, UINT64_MAX, &message, &size, &info) > 0)
		;
	if (!fm_file_reader_offset(reader)) {
		unlinkat(files->directory_fd, name, 0);
		return;
	}
	if (fm_file_reader_rest(reader) && ftruncate(fd, (off_t)fm_file_reader_offset(reader)) < 0)
		return;
	snprintf(complete, sizeof(complete), "%.*s",
		 (int)FM_MIN(strlen(name) - strlen(PART), sizeof(complete) - 1), name);
	if (renameat(files->directory_fd, name, files->directory_fd, complete) == 0)
		fm_log_notice("%s: %s was left by another process", files->name, complete);
}

/* Cuts off what an earlier process wrote to its file and did not commit. */
static void cut_left(struct file_sink *files, struct written *written)
{
	_fm_cleanup_close_ int fd = -1;
	char part[NAME_SIZE + sizeof(PART)];
	struct stat status;

	written->file[NAME_SIZE - 1] = '\0';
	snprintf(part, sizeof(part), "%s" PART, written->file);
	if (written->inode)
		fd = openat(files->directory_fd, part,
			    O_WRONLY | O_CLOEXEC | O_NOFOLLOW | O_NONBLOCK);
	if (fd >= 0 && flock(fd, LOCK_EX | LOCK_NB) == 0 && fstat(fd, &status) == 0 &&
	    S_ISREG(status.st_mode) && status.st_dev == written->device &&
	    status.st_ino == written->inode && (uint64_t)status.st_size > written->octets &&
	    ftruncate(fd, (off_t)written->octets) < 0)
		fm_log_warning("%s: %s: cannot cut off what was not committed: %s", files->name,
			       part, strerror(errno));
	written->device = written->inode = written->octets = 0;
}

static int open_memo(struct file_sink *files, const char *name, struct fm_memo **ret)
{
	const struct fm_ledger *ledger = files->env.ledger;
	int r = fm_memo_new(ret, files->env.store, name, sizeof(struct written),
			    ledger ? fm_ledger_committed(ledger) : 0);

	if (r == 0) {
		cut_left(files, fm_memo_value(*ret));
		fm_memo_publish(*ret);
	}
	return r;
}

/* Every memo that earlier processes left for the directory; the first is ours from now on. */
static int find_memo(struct file_sink *files)
{
	static const uint8_t key[16];
	const char *directory = files->config->file_directory;
	struct fm_store *store = files->env.store;
	char name[FM_STORE_NAME_MAX], unused[FM_STORE_NAME_MAX] = "";
	int r = 0;

	for (unsigned int i = 0; store && i < MEMOS_MAX && r == 0; i++) {
		_fm_cleanup_(fm_memo_freep) struct fm_memo *memo = NULL;
		bool ours, there;

		snprintf(name, sizeof(name), "memo-%016" PRIx64 "-%u",
			 fm_siphash(key, directory, strlen(directory)), i);
		there = fm_store_has(store, name, &ours);
		if (!there && !*unused)
			strcpy(unused, name);
		if (!there || ours)
			continue;
		r = open_memo(files, name, &memo);
		if (r == 0 && !files->memo)
			files->memo = FM_TAKE_PTR(memo);
		else if (r == 0)
			fm_memo_forget(memo);
	}
	if (r == 0 && !files->memo)
		r = open_memo(files, unused, &files->memo);
	if (r == 0)
		files->written = fm_memo_value(files->memo);
	return r;
}

static int find_left(struct file_sink *files)
{
	_fm_cleanup_close_ int fd = openat(files->directory_fd, ".", O_RDONLY | O_CLOEXEC);
	DIR *dir = fd < 0 ? NULL : fdopendir(fd);

	if (!dir)
		return -errno;
	FM_TAKE_FD(fd);
	for (struct dirent *entry; (entry = readdir(dir));) {
		uint64_t number;
		bool part;

		if (!parse_name(entry->d_name, &number, &part))
			continue;
		files->number = FM_MAX(files->number, number + 1);
		if (part)
			complete_left(files, entry->d_name);
	}
	closedir(dir);
	return 0;
}

/* A complete file, in a list sorted by number. */
struct found {
	uint64_t number, size;
	char name[NAME_SIZE];
};

static int by_number(const void *a, const void *b)
{
	const struct found *x = a, *y = b;

	return x->number < y->number ? -1 : x->number > y->number;
}

static size_t find_complete(struct file_sink *files, struct found **ret)
{
	_fm_cleanup_close_ int fd = openat(files->directory_fd, ".", O_RDONLY | O_CLOEXEC);
	DIR *dir = fd < 0 ? NULL : fdopendir(fd);
	struct found *list = NULL;
	size_t n = 0;

	if (!dir)
		return 0;
	FM_TAKE_FD(fd);
	for (struct dirent *entry; (entry = readdir(dir));) {
		struct found *grown, *one;
		struct stat status;
		bool part;

		grown = reallocarray(list, n + 1, sizeof(*list));
		if (!grown)
			break;
		list = grown;
		one = &list[n];
		if (!parse_name(entry->d_name, &one->number, &part) || part ||
		    fstatat(files->directory_fd, entry->d_name, &status, AT_SYMLINK_NOFOLLOW) < 0 ||
		    !S_ISREG(status.st_mode))
			continue;
		one->size = (uint64_t)status.st_size;
		snprintf(one->name, sizeof(one->name), "%.*s", NAME_SIZE - 1, entry->d_name);
		n++;
	}
	closedir(dir);
	if (n)
		qsort(list, n, sizeof(*list), by_number);
	*ret = list;
	return n;
}

static void remove_oldest(struct file_sink *files)
{
	const struct fm_config *config = files->config;
	_fm_cleanup_free_ struct found *list = NULL;
	size_t n = find_complete(files, &list);
	uint64_t octets = 0;

	for (size_t i = 0; i < n; i++)
		octets += list[i].size;
	for (size_t i = 0; i < n; i++) {
		bool many = config->file_keep_files && n - i > config->file_keep_files;
		bool large = config->file_keep_octets && octets > config->file_keep_octets;

		if (!many && !large)
			return;
		if (unlinkat(files->directory_fd, list[i].name, 0) < 0)
			fm_log_warning("%s: cannot remove %s: %s", files->name, list[i].name,
				       strerror(errno));
		octets -= list[i].size;
	}
}

/* --- writing --- */

static void lose(struct file_sink *files, enum fm_not_sent cause, uint64_t records,
		 uint64_t packets, uint64_t octets)
{
	const struct fm_not_sent_sum sum = {records, packets, octets};

	fm_sink_stats_lose(&files->written->stats, cause, &sum);
}

/* The file that is open is complete. No transaction is open. */
static void complete(struct file_sink *files)
{
	struct written *written = files->written;
	char part[NAME_SIZE + sizeof(PART)];

	files->broken = false;
	if (!files->writer)
		return;
	fm_memo_publish(files->memo);
	snprintf(part, sizeof(part), "%s" PART, written->file);
	files->writer = fm_file_writer_free(files->writer);
	if (!files->worth_it)
		unlinkat(files->directory_fd, part, 0);
	else if (renameat(files->directory_fd, part, files->directory_fd, written->file) < 0)
		fm_log_warning("%s: cannot rename %s: %s", files->name, part, strerror(errno));
	written->device = written->inode = written->octets = 0;
	fm_memo_publish(files->memo);
	if (files->lock_fd >= 0)
		close(files->lock_fd);
	files->lock_fd = -1;
	remove_oldest(files);
}

/* What cannot be written makes an end of the file (settle); the next is begun after a while. */
static void failed(struct file_sink *files, int error)
{
	set_state(files, error);
	files->retry_ns = fm_clock_monotonic_ns() + RETRY_NS;
	files->broken = true;
}

/* What was written counts, unless it is part of a transaction. */
static void settle(struct file_sink *files)
{
	if (files->open)
		return;
	fm_memo_publish(files->memo);
	if (files->broken)
		complete(files);
}

static void on_message(void *userdata, const uint8_t *message, size_t size,
		       const struct fm_message_info *info)
{
	struct file_sink *files = userdata;
	struct fm_sink_stats *stats = &files->written->stats;
	int r = -ENOENT;

	if (files->writer && !files->broken) {
		r = fm_file_writer_append(files->writer, message, size);
		if (r < 0)
			failed(files, r);
	}
	if (r < 0) {
		lose(files, FM_NOT_SENT_not_written, info->records, info->packets, info->octets);
		stats->not_sent_audits += info->audits;
		return;
	}
	files->written->octets = fm_file_writer_size(files->writer);
	files->worth_it |= info->records || info->audits;
	fm_sink_stats_sent(stats, info, size);
}

static void write_names(struct file_sink *files)
{
	files->names_due = false;
	fm_tell_names(&files->env, files->session);
	fm_session_flush(files->session, fm_clock_realtime_ns());
}

static void write_statistics(struct file_sink *files)
{
	struct fm_exporter_stats exporter = {};

	files->env.exporter_stats(files->env.userdata, &exporter);
	fm_session_statistics(files->session, &exporter, &files->written->stats,
			      fm_clock_realtime_ns());
}

static int create(struct file_sink *files)
{
	struct written *written = files->written;
	char part[NAME_SIZE + sizeof(PART)];
	time_t now = (time_t)(fm_clock_realtime_ns() / FM_NS_PER_S);
	struct stat status;
	struct tm tm;
	char when[32];
	int r;

	gmtime_r(&now, &tm);
	strftime(when, sizeof(when), "%Y%m%dT%H%M%SZ", &tm);
	snprintf(written->file, sizeof(written->file), "flowmond-%s-%06" PRIu64 ".ipfix", when,
		 files->number++);
	snprintf(part, sizeof(part), "%s" PART, written->file);
	r = fm_file_writer_new(&files->writer, files->directory_fd, part);
	if (r < 0)
		return r;
	files->lock_fd = openat(files->directory_fd, part, O_RDONLY | O_CLOEXEC | O_NOFOLLOW);
	if (files->lock_fd < 0 || flock(files->lock_fd, LOCK_EX | LOCK_NB) < 0 ||
	    fstat(files->lock_fd, &status) < 0)
		return -errno;
	/* Nothing of it counts yet. */
	written->device = status.st_dev;
	written->inode = status.st_ino;
	written->octets = 0;
	fm_memo_publish(files->memo);
	return 0;
}

/* A file to write to, if one can be had. Not in a transaction. */
static void need_file(struct file_sink *files)
{
	uint64_t now = fm_clock_monotonic_ns();
	int r;

	if (files->writer || now < files->retry_ns)
		return;
	files->worth_it = false;
	r = create(files);
	if (r < 0) {
		failed(files, r);
		complete(files);
		return;
	}
	files->begun_ns = files->synced_ns = now;
	files->retry_ns = 0;
	fm_session_restart(files->session);
	fm_session_begin(files->session, fm_clock_realtime_ns());
	write_names(files);
	if (!files->broken)
		set_state(files, 0);
}

/* What is written from now on is part of a transaction. */
static void begin(struct file_sink *files)
{
	if (files->open)
		return;
	need_file(files);
	files->open = true;
}

static void rotate(struct file_sink *files)
{
	if (!files->writer)
		return;
	fm_session_flush(files->session, fm_clock_realtime_ns());
	write_statistics(files);
	complete(files);
}

static int on_tick(sd_event_source *source, uint64_t usec, void *userdata)
{
	struct file_sink *files = userdata;
	const struct fm_config *config = files->config;
	uint64_t now = fm_clock_monotonic_ns();

	sd_event_source_set_time_relative(source, TICK_US);
	sd_event_source_set_enabled(source, SD_EVENT_ONESHOT);
	if (!files->writer || files->open)
		return 0;
	if (config->file_rotate_ns && now - files->begun_ns >= config->file_rotate_ns) {
		rotate(files);
		return 0;
	}
	if (files->names_due)
		write_names(files);
	if (config->file_sync_ns && now - files->synced_ns >= config->file_sync_ns) {
		int r = fm_file_writer_sync(files->writer);

		files->synced_ns = now;
		if (r < 0)
			failed(files, r);
	}
	settle(files);
	return 0;
}

/* --- the sink --- */

static int init(struct file_sink *files)
{
	const struct fm_config *config = files->config;
	struct fm_session_options options;
	int r;

	fm_config_file_records(config, &options);
	options.message_size = MESSAGE_SIZE;
	if (mkdir(config->file_directory, 0750) < 0 && errno != EEXIST)
		return -errno;
	files->directory_fd = open(config->file_directory, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	if (files->directory_fd < 0)
		return -errno;
	r = find_memo(files);
	if (r == 0)
		r = find_left(files);
	if (r < 0)
		return r;
	r = fm_session_new(&files->session, &options, on_message, files);
	if (r < 0)
		return r;
	return sd_event_add_time_relative(files->env.event, &files->tick, CLOCK_MONOTONIC, TICK_US,
					  0, on_tick, files);
}

static void file_sink_free(struct file_sink *files)
{
	sd_event_source_disable_unref(files->tick);
	fm_session_free(files->session);
	fm_memo_free(files->memo);
	if (files->directory_fd >= 0)
		close(files->directory_fd);
	free(files);
}

static int file_open(struct fm_sink **ret, const struct fm_sink_env *env, size_t index)
{
	struct file_sink *files = calloc(1, sizeof(*files));
	int r;

	if (!files)
		return -ENOMEM;
	files->sink.ops = &fm_sink_ipfix_file;
	files->env = *env;
	files->config = env->config;
	files->directory_fd = files->lock_fd = -1;
	files->number = 1;
	snprintf(files->name, sizeof(files->name), "ipfix_file (%.300s)",
		 env->config->file_directory);
	r = init(files);
	if (r < 0) {
		fm_log_error("%s: %s", files->name, strerror(-r));
		file_sink_free(files);
		return r;
	}
	*ret = &files->sink;
	return 0;
}

static bool is_full(const struct file_sink *files)
{
	return files->writer &&
	       fm_file_writer_size(files->writer) >= files->config->file_rotate_octets;
}

/* A full file takes nothing until the transaction that filled it is committed. */
static size_t file_room(struct fm_sink *sink)
{
	return of(sink)->open && is_full(of(sink)) ? 0 : SIZE_MAX;
}

static void file_record(struct fm_sink *sink, const struct fm_record *record)
{
	enum fm_not_sent cause = FM_NOT_SENT_not_encoded;
	struct file_sink *files = of(sink);

	begin(files);
	if (!files->writer)
		cause = FM_NOT_SENT_not_written;
	else if (fm_session_record(files->session, record, fm_clock_realtime_ns()) == 0)
		return;
	lose(files, cause, 1, record->packets + record->rev_packets,
	     record->octets + record->rev_octets);
}

static void file_audit(struct fm_sink *sink, const struct fm_audit_row *row)
{
	struct file_sink *files = of(sink);

	begin(files);
	if (!files->writer || !fm_tell_audit(files->session, row))
		files->written->stats.not_sent_audits++;
}

static void file_prepare(struct fm_sink *sink, uint64_t serial)
{
	struct file_sink *files = of(sink);

	if (!files->open)
		return;
	fm_session_flush(files->session, fm_clock_realtime_ns());
	fm_memo_prepare(files->memo, serial);
}

static void file_flush(struct fm_sink *sink)
{
	struct file_sink *files = of(sink);

	if (!files->open)
		return;
	fm_session_flush(files->session, fm_clock_realtime_ns());
	files->open = false;
	settle(files);
	if (is_full(files))
		rotate(files);
}

static void file_interfaces_changed(struct fm_sink *sink)
{
	of(sink)->names_due = true;
}

static void file_close(struct fm_sink *sink, uint64_t deadline_ns, struct fm_sink_stats *ret_stats)
{
	struct file_sink *files = of(sink);

	file_flush(sink);
	rotate(files);
	*ret_stats = files->written->stats;
	fm_memo_forget(files->memo);
	file_sink_free(files);
}

static void file_stats(struct fm_sink *sink, struct fm_sink_stats *ret)
{
	*ret = of(sink)->written->stats;
}

static const char *file_describe(struct fm_sink *sink)
{
	return of(sink)->name;
}

const struct fm_sink_ops fm_sink_ipfix_file = {
	.kind = "ipfix_file",
	.open = file_open,
	.room = file_room,
	.record = file_record,
	.prepare = file_prepare,
	.flush = file_flush,
	.interfaces_changed = file_interfaces_changed,
	.audit = file_audit,
	.close = file_close,
	.stats = file_stats,
	.describe = file_describe,
};
