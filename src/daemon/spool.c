/* SPDX-License-Identifier: Apache-2.0 */
/* Messages on disk: see spool.h. */
#include "daemon/spool.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/stat.h>

#include "base/fnv.h"
#include "base/macro.h"
#include "ipfix/file-reader.h"
#include "ipfix/file-writer.h"

#define NAME_FORMAT "%020" PRIu64 ".ipfix"
#define NAME_SIZE   32
#define POSITION    "position"
#define MAGIC	    0x314c4f4f5053464dULL /* "MFSPOOL1" */
/* Templates of a session: families, encapsulations and options; more are not kept. */
#define TEMPLATES_MAX	128
#define SEQUENCE_OFFSET 8

struct file {
	struct file *next;
	uint64_t number;
	uint64_t size;
	bool counted;			/* sum is known: this process wrote it */
	bool finished;			/* all of it was read, and nothing will be added */
	uint64_t torn;			/* octets behind its last whole message */
	struct fm_spool_sum sum, taken; /* taken: by fm_spool_next */
};

struct template
{
	uint32_t domain;
	uint16_t id;
	size_t size;
	uint8_t *message;
	uint64_t file; /* + 1; where it was written last */
};

/* A message under way. */
struct entry {
	struct file *file; /* NULL: was dropped meanwhile */
	uint64_t end;	   /* offset behind it */
	bool done, sent;
	uint32_t export_time;
	struct fm_spool_sum sum;
};

/* As it is in the file "position". Written in one piece, in one sector. */
struct position {
	uint64_t magic;
	uint64_t file, offset;
	struct fm_spool_gap gap;
	uint64_t check;
};

_Static_assert(sizeof(struct position) <= 512, "a sector");

struct fm_spool {
	struct fm_spool_options options;
	char *path; /* of directory_fd */
	int directory_fd;
	int position_fd;
	struct position position;
	struct file *first, *last;
	uint64_t n_files, file_octets, next_number;
	struct fm_file_writer *writer; /* of the last file; NULL: none is being written */
	struct fm_file_reader *reader; /* of reading */
	struct file *reading;
	bool at_end; /* fm_spool_next found no more */
	struct entry entries[FM_SPOOL_WINDOW];
	uint64_t first_id, next_id; /* of entries */
	struct template templates[TEMPLATES_MAX];
	size_t n_templates;
	uint64_t synced_ns;
	struct fm_spool_stats stats;
};

static void add_sum(struct fm_spool_sum *to, const struct fm_spool_sum *sum)
{
	to->messages += sum->messages;
	to->records += sum->records;
	to->packets += sum->packets;
	to->octets += sum->octets;
}

static void subtract_sum(struct fm_spool_sum *from, const struct fm_spool_sum *sum)
{
	from->messages -= sum->messages;
	from->records -= sum->records;
	from->packets -= sum->packets;
	from->octets -= sum->octets;
}

/* Of data messages. */
static struct fm_spool_sum sum_of(const struct fm_message_info *info)
{
	if (info->is_template)
		return (struct fm_spool_sum){};
	return (struct fm_spool_sum){1, info->records, info->packets, info->octets};
}

static struct entry *entry_of(struct fm_spool *spool, uint64_t id)
{
	return &spool->entries[id % FM_SPOOL_WINDOW];
}

/* --- position --- */

static uint64_t check_of(const struct position *position)
{
	return fm_fnv(FM_FNV_BEGIN, position, offsetof(struct position, check));
}

/* Best effort: what cannot be noted is sent again after a restart. */
static void note_position(struct fm_spool *spool)
{
	spool->position.magic = MAGIC;
	spool->position.check = check_of(&spool->position);
	if (spool->position_fd < 0)
		spool->position_fd =
			openat(spool->directory_fd, POSITION,
			       O_RDWR | O_CREAT | O_CLOEXEC | O_NOFOLLOW | O_NONBLOCK, 0640);
	if (spool->position_fd >= 0 &&
	    pwrite(spool->position_fd, &spool->position, sizeof(spool->position), 0) < 0) {
		close(spool->position_fd);
		spool->position_fd = -1;
	}
}

static void read_position(struct fm_spool *spool)
{
	struct position position;

	spool->position_fd =
		openat(spool->directory_fd, POSITION, O_RDWR | O_CLOEXEC | O_NOFOLLOW | O_NONBLOCK);
	if (spool->position_fd >= 0 &&
	    pread(spool->position_fd, &position, sizeof(position), 0) == sizeof(position) &&
	    position.magic == MAGIC && position.check == check_of(&position))
		spool->position = position;
}

/* --- files --- */

static void name_of(const struct file *file, char ret[NAME_SIZE])
{
	snprintf(ret, NAME_SIZE, NAME_FORMAT, file->number);
}

static void unlink_file(const struct fm_spool *spool, const struct file *file)
{
	char name[NAME_SIZE];
	_fm_cleanup_close_ int fd = -1;

	/* Its room is free at once, also while a thread is bringing it to the disk. */
	name_of(file, name);
	fd = openat(spool->directory_fd, name,
		    O_WRONLY | O_TRUNC | O_CLOEXEC | O_NOFOLLOW | O_NONBLOCK);
	unlinkat(spool->directory_fd, name, 0);
}

static int append_file(struct fm_spool *spool, uint64_t number, uint64_t size)
{
	struct file *file = calloc(1, sizeof(*file));

	if (!file)
		return -ENOMEM;
	file->number = number;
	file->size = size;
	if (spool->last)
		spool->last->next = file;
	else
		spool->first = file;
	spool->last = file;
	spool->n_files++;
	spool->file_octets += size;
	return 0;
}

static void stop_reading(struct fm_spool *spool)
{
	spool->reader = fm_file_reader_free(spool->reader);
	spool->reading = NULL;
}

/* Nothing under way comes from this file any more. */
static void leave_file(struct fm_spool *spool, const struct file *file)
{
	if (spool->reading == file)
		stop_reading(spool);
	for (uint64_t id = spool->first_id; id < spool->next_id; id++)
		if (entry_of(spool, id)->file == file)
			entry_of(spool, id)->file = NULL;
}

/* Takes the first file from the list and from the disk. */
static void remove_first(struct fm_spool *spool)
{
	struct file *file = spool->first;

	leave_file(spool, file);
	if (file == spool->last)
		spool->writer = fm_file_writer_abandon(spool->writer);
	unlink_file(spool, file);
	spool->stats.torn_octets += file->torn;
	spool->first = file->next;
	if (!spool->first)
		spool->last = NULL;
	spool->n_files--;
	spool->file_octets -= file->size;
	free(file);
}

static void drop(struct fm_spool *spool, const struct fm_spool_sum *sum, enum fm_not_sent cause)
{
	add_sum(&spool->stats.dropped, sum);
	add_sum(&spool->stats.by_cause[cause], sum);
}

/* What is in the first file from where it will be read on. */
static struct fm_spool_sum count_rest(struct fm_spool *spool)
{
	struct file *file = spool->first;
	struct fm_spool_sum sum = {};
	struct fm_file_reader *reader = NULL;
	struct fm_message_info info;
	const uint8_t *message;
	char name[NAME_SIZE];
	uint64_t begin = file->number == spool->position.file ? spool->position.offset : 0;
	size_t size;

	if (file->counted) {
		sum = file->sum;
		subtract_sum(&sum, &file->taken);
		return sum;
	}
	if (file->finished)
		return sum;
	if (spool->reading == file)
		begin = FM_MAX(begin, fm_file_reader_offset(spool->reader));
	name_of(file, name);
	if (fm_file_reader_new(&reader, spool->directory_fd, name) < 0)
		return sum;
	fm_file_reader_rewind(reader, begin);
	while (fm_file_reader_next(reader, file->size, &message, &size, &info) > 0) {
		struct fm_spool_sum one = sum_of(&info);

		add_sum(&sum, &one);
	}
	fm_file_reader_free(reader);
	return sum;
}

/* Makes room: what of the oldest file is not under way is lost. */
static void drop_first(struct fm_spool *spool, enum fm_not_sent cause)
{
	struct fm_spool_sum rest = count_rest(spool);

	drop(spool, &rest, cause);
	remove_first(spool);
}

static bool parse_name(const char *name, uint64_t *ret)
{
	char again[NAME_SIZE];
	uint64_t number = 0;

	/* A number with all 20 digits is none that was counted up to. */
	if (strlen(name) != 26 || name[0] != '0')
		return false;
	for (unsigned int i = 0; i < 20; i++) {
		if (name[i] < '0' || name[i] > '9')
			return false;
		number = number * 10 + (uint64_t)(name[i] - '0');
	}
	snprintf(again, sizeof(again), NAME_FORMAT, number);
	*ret = number;
	return !strcmp(name, again);
}

static int is_file(const struct dirent *entry)
{
	uint64_t number;

	return parse_name(entry->d_name, &number);
}

/* Finds what an earlier process left. */
static int find_files(struct fm_spool *spool)
{
	struct dirent **entries = NULL;
	int n = scandirat(spool->directory_fd, ".", &entries, is_file, alphasort), r = 0;

	if (n < 0)
		return -errno;
	for (int i = 0; i < n; i++) {
		struct stat status;
		uint64_t number = 0;

		parse_name(entries[i]->d_name, &number);
		if (r == 0 &&
		    fstatat(spool->directory_fd, entries[i]->d_name, &status,
			    AT_SYMLINK_NOFOLLOW) == 0 &&
		    S_ISREG(status.st_mode)) {
			spool->next_number = FM_MAX(spool->next_number, number + 1);
			/* Sent already, but not removed in time; or nothing came into it. */
			if (number < spool->position.file || !status.st_size)
				unlinkat(spool->directory_fd, entries[i]->d_name, 0);
			else
				r = append_file(spool, number, (uint64_t)status.st_size);
		}
		free(entries[i]);
	}
	free(entries);
	return r;
}

/* --- opening --- */

static int open_directory(struct fm_spool *spool)
{
	_fm_cleanup_close_ int fd = -1;

	if (mkdir(spool->options.directory, 0750) < 0 && errno != EEXIST)
		return -errno;
	if (mkdir(spool->path, 0750) < 0 && errno != EEXIST)
		return -errno;
	fd = open(spool->path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	if (fd < 0)
		return -errno;
	if (flock(fd, LOCK_EX | LOCK_NB) < 0)
		return -errno;
	if (faccessat(fd, ".", W_OK | X_OK, AT_EACCESS) < 0)
		return -errno;
	if (spool->directory_fd >= 0)
		close(spool->directory_fd);
	spool->directory_fd = FM_TAKE_FD(fd);
	return 0;
}

int fm_spool_new(struct fm_spool **ret, const struct fm_spool_options *options)
{
	_fm_cleanup_(fm_spool_freep) struct fm_spool *spool = calloc(1, sizeof(*spool));
	int r;

	if (!spool)
		return -ENOMEM;
	spool->options = *options;
	/* Of a few files the oldest is not much. */
	spool->options.file_octets = FM_MIN(options->file_octets, options->max_octets / 4);
	spool->directory_fd = spool->position_fd = -1;
	spool->first_id = spool->next_id = spool->next_number = 1;
	if (asprintf(&spool->path, "%s/%s", options->directory, options->name) < 0) {
		spool->path = NULL;
		return -ENOMEM;
	}
	r = open_directory(spool);
	if (r < 0)
		return r;
	read_position(spool);
	r = find_files(spool);
	if (r < 0)
		return r;
	spool->next_number = FM_MAX(spool->next_number, spool->position.file + 1);
	/* It has its place on the disk before the disk can be full. */
	note_position(spool);
	*ret = FM_TAKE_PTR(spool);
	return 0;
}

struct fm_spool *fm_spool_free(struct fm_spool *spool)
{
	if (!spool)
		return NULL;
	fm_file_writer_free(spool->writer);
	stop_reading(spool);
	while (spool->first) {
		struct file *file = spool->first;

		spool->first = file->next;
		free(file);
	}
	for (size_t i = 0; i < spool->n_templates; i++)
		free(spool->templates[i].message);
	if (spool->position_fd >= 0)
		close(spool->position_fd);
	if (spool->directory_fd >= 0)
		close(spool->directory_fd);
	free(spool->path);
	free(spool);
	return NULL;
}

bool fm_spool_is_empty(const struct fm_spool *spool)
{
	return !spool->first && spool->first_id == spool->next_id;
}

/* --- writing --- */

static int append(struct fm_spool *spool, const uint8_t *message, size_t size)
{
	int r = fm_file_writer_append(spool->writer, message, size);

	if (r < 0)
		return r;
	spool->last->size += size;
	spool->file_octets += size;
	return 0;
}

static void close_writer(struct fm_spool *spool)
{
	spool->writer = fm_file_writer_free(spool->writer);
}

/* A new last file. */
static int begin_file(struct fm_spool *spool)
{
	char name[NAME_SIZE];
	int r;

	close_writer(spool);
	r = append_file(spool, spool->next_number, 0);
	if (r < 0)
		return r;
	spool->last->counted = true;
	name_of(spool->last, name);
	r = fm_file_writer_new(&spool->writer, spool->directory_fd, name);
	spool->next_number++;
	return r;
}

static uint32_t domain_of(const uint8_t *message)
{
	return (uint32_t)message[12] << 24 | message[13] << 16 | message[14] << 8 | message[15];
}

/*
 * Templates that the last file does not have yet, of the message's domain: with its number in the
 * sequence, which a collector that gets them with it has come to.
 */
static int append_templates(struct fm_spool *spool, const uint8_t *message)
{
	uint32_t domain = domain_of(message);
	int r = 0;

	for (size_t i = 0; r == 0 && i < spool->n_templates; i++) {
		struct template *template = &spool->templates[i];

		if (template->domain != domain || template->file == spool->last->number + 1)
			continue;
		memcpy(template->message + SEQUENCE_OFFSET, message + SEQUENCE_OFFSET, 4);
		r = append(spool, template->message, template->size);
		if (r == 0)
			template->file = spool->last->number + 1;
	}
	return r;
}

/* The last file has nothing but templates, or not even them. */
static void take_back_file(struct fm_spool *spool)
{
	struct file **at = &spool->first, *before = NULL;

	if (!spool->last || !spool->last->counted || spool->last->sum.messages)
		return;
	while (*at != spool->last) {
		before = *at;
		at = &before->next;
	}
	leave_file(spool, spool->last);
	spool->writer = fm_file_writer_abandon(spool->writer);
	unlink_file(spool, spool->last);
	spool->n_files--;
	spool->file_octets -= spool->last->size;
	free(spool->last);
	*at = NULL;
	spool->last = before;
}

static int find_template(const struct fm_spool *spool, uint32_t domain, uint16_t id, size_t *ret)
{
	for (size_t i = 0; i < spool->n_templates; i++)
		if (spool->templates[i].domain == domain && spool->templates[i].id == id) {
			*ret = i;
			return 0;
		}
	return -ENOENT;
}

int fm_spool_template(struct fm_spool *spool, const uint8_t *message, size_t size)
{
	struct template template = {.size = size};
	size_t i;
	bool known;

	if (size < 24)
		return -EBADMSG;
	template.domain = domain_of(message);
	template.id = (uint16_t)(message[20] << 8 | message[21]);
	known = find_template(spool, template.domain, template.id, &i) == 0;
	if (known && spool->templates[i].size == size &&
	    !memcmp(spool->templates[i].message + 16, message + 16, size - 16))
		return 0;
	if (!known && spool->n_templates == TEMPLATES_MAX)
		return -E2BIG;
	template.message = malloc(size);
	if (!template.message)
		return -ENOMEM;
	memcpy(template.message, message, size);
	if (known)
		free(spool->templates[i].message);
	else
		i = spool->n_templates++;
	spool->templates[i] = template;
	return 0;
}

/* The message with this id is about to be written; 0: none is. */
static void intend(struct fm_spool *spool, uint64_t id, size_t size)
{
	struct fm_spool_intent *intent = spool->options.intent;

	if (!intent)
		return;
	__atomic_store_n(&intent->outbox_id, 0, __ATOMIC_SEQ_CST);
	if (!id)
		return;
	intent->place = (struct fm_spool_place){spool->last->number, spool->last->size + size};
	__atomic_store_n(&intent->outbox_id, id, __ATOMIC_SEQ_CST);
}

static int try_put(struct fm_spool *spool, const uint8_t *message, size_t size,
		   const struct fm_message_info *info)
{
	struct fm_spool_sum sum = sum_of(info);
	int r = 0;

	if (!spool->writer || spool->last->size + size > spool->options.file_octets)
		r = begin_file(spool);
	if (r == 0)
		r = append_templates(spool, message);
	if (r < 0) {
		take_back_file(spool);
		return r;
	}
	intend(spool, info->outbox_id, size);
	r = append(spool, message, size);
	if (r < 0) {
		intend(spool, 0, 0);
		return r;
	}
	add_sum(&spool->last->sum, &sum);
	add_sum(&spool->stats.put, &sum);
	return 0;
}

/* Somebody removed the directory: what was in it is lost, and there is a new one. */
static int directory_gone(struct fm_spool *spool)
{
	struct stat status;

	if (fstat(spool->directory_fd, &status) == 0 && status.st_nlink > 0)
		return -ENOENT;
	while (spool->first)
		drop_first(spool, FM_NOT_SENT_spool_lost);
	if (spool->position_fd >= 0)
		close(spool->position_fd);
	spool->position_fd = -1;
	return open_directory(spool);
}

/* Octets that putting a message may take. */
static uint64_t octets_for(const struct fm_spool *spool, size_t size)
{
	uint64_t octets = size;

	for (size_t i = 0; i < spool->n_templates; i++)
		octets += spool->templates[i].size;
	return octets;
}

int fm_spool_put(struct fm_spool *spool, const uint8_t *message, size_t size,
		 const struct fm_message_info *info)
{
	uint64_t tries = spool->n_files + 2;
	int r;

	while (spool->first && spool->first != spool->last &&
	       spool->file_octets + octets_for(spool, size) > spool->options.max_octets)
		drop_first(spool, FM_NOT_SENT_spool_full);
	r = try_put(spool, message, size, info);
	while ((r == -ENOSPC || r == -EDQUOT || r == -EFBIG) && tries-- > 0) {
		close_writer(spool);
		take_back_file(spool);
		/* A file may also be too large for a limit of its own: then the next begins. */
		if (r != -EFBIG) {
			if (!spool->first)
				return r;
			drop_first(spool, FM_NOT_SENT_spool_full);
		}
		r = try_put(spool, message, size, info);
	}
	if (r == -ENOENT && directory_gone(spool) == 0)
		r = try_put(spool, message, size, info);
	if (r < 0) {
		close_writer(spool);
		take_back_file(spool);
		return r;
	}
	spool->at_end = false;
	return 0;
}

int fm_spool_sync(struct fm_spool *spool, uint64_t now_ns)
{
	if (!spool->writer || !spool->options.sync_ns ||
	    now_ns - spool->synced_ns < spool->options.sync_ns)
		return 0;
	spool->synced_ns = now_ns;
	return fm_file_writer_sync(spool->writer);
}

/* --- reading --- */

/* Files that were read to their end and have nothing under way any more. */
static void remove_finished(struct fm_spool *spool)
{
	while (spool->first) {
		struct file *file = spool->first;
		bool all_read =
			file->finished || (file == spool->last && spool->reading == file &&
					   fm_file_reader_offset(spool->reader) == file->size);

		if (!all_read || (spool->first_id < spool->next_id &&
				  entry_of(spool, spool->first_id)->file == file))
			return;
		remove_first(spool);
	}
}

/* Opens the next file to be read. 1; 0: there is none; -errno. */
static int open_reading(struct fm_spool *spool, struct file *file)
{
	char name[NAME_SIZE];
	int r;

	for (; file; file = file->next) {
		name_of(file, name);
		r = fm_file_reader_new(&spool->reader, spool->directory_fd, name);
		if (r == 0) {
			spool->reading = file;
			if (file->number == spool->position.file)
				fm_file_reader_rewind(spool->reader, spool->position.offset);
			return 1;
		}
		if (r != -ENOENT && r != -EBADF && r != -ELOOP)
			return r;
		/* Somebody took it away: what was in it is lost. */
		if (file->counted) {
			struct fm_spool_sum rest = file->sum;

			subtract_sum(&rest, &file->taken);
			drop(spool, &rest, FM_NOT_SENT_spool_lost);
			file->taken = file->sum;
		}
		file->finished = true;
		if (file == spool->last)
			close_writer(spool);
	}
	return 0;
}

static int next_message(struct fm_spool *spool, const uint8_t **ret_message, size_t *ret_size,
			struct fm_message_info *ret_info)
{
	struct file *file = spool->first;
	int r;

	while (!spool->reader && file && file->finished)
		file = file->next;
	if (!spool->reader) {
		r = open_reading(spool, file);
		if (r <= 0)
			return r;
	}
	for (;;) {
		file = spool->reading;
		r = fm_file_reader_next(spool->reader, file->size, ret_message, ret_size, ret_info);
		if (r != 0 || (file == spool->last && spool->writer))
			return r;
		file->torn = fm_file_reader_rest(spool->reader);
		file->finished = true;
		stop_reading(spool);
		r = open_reading(spool, file->next);
		if (r <= 0)
			return r;
	}
}

int fm_spool_next(struct fm_spool *spool, const uint8_t **ret_message, size_t *ret_size,
		  struct fm_message_info *ret_info)
{
	struct fm_message_info info;
	struct entry *entry;
	int r;

	if (spool->next_id - spool->first_id == FM_SPOOL_WINDOW)
		return 0;
	r = next_message(spool, ret_message, ret_size, &info);
	if (r <= 0) {
		spool->at_end = r == 0;
		remove_finished(spool);
		return r;
	}
	info.spool_id = spool->next_id++;
	entry = entry_of(spool, info.spool_id);
	*entry = (struct entry){
		.file = spool->reading,
		.end = fm_file_reader_offset(spool->reader),
		.export_time = fm_file_export_time(*ret_message),
		.sum = sum_of(&info),
	};
	info.spool_place = (struct fm_spool_place){entry->file->number, entry->end};
	add_sum(&spool->reading->taken, &entry->sum);
	*ret_info = info;
	return 1;
}

bool fm_spool_at_end(const struct fm_spool *spool)
{
	return spool->at_end;
}

static void count_gap(struct fm_spool_gap *gap, const struct entry *entry)
{
	if (!gap->sum.messages)
		gap->from = gap->to = entry->export_time;
	gap->from = FM_MIN(gap->from, entry->export_time);
	gap->to = FM_MAX(gap->to, entry->export_time);
	add_sum(&gap->sum, &entry->sum);
}

/* The oldest of what is under way is done with. */
static void settle(struct fm_spool *spool, const struct entry *entry)
{
	struct position *position = &spool->position;

	if (entry->sum.messages && entry->sent) {
		add_sum(&spool->stats.sent, &entry->sum);
		count_gap(&position->gap, entry);
	} else {
		drop(spool, &entry->sum, FM_NOT_SENT_too_long);
	}
	if (!entry->file)
		return;
	/* Templates from before the position come again after a restart. */
	if (position->file == entry->file->number)
		position->offset = FM_MAX(position->offset, entry->end);
	else
		position->offset = entry->end;
	position->file = entry->file->number;
}

void fm_spool_done(struct fm_spool *spool, uint64_t id, bool sent)
{
	bool moved = false;

	if (id < spool->first_id || id >= spool->next_id)
		return;
	entry_of(spool, id)->done = true;
	entry_of(spool, id)->sent = sent;
	while (spool->first_id < spool->next_id && entry_of(spool, spool->first_id)->done) {
		settle(spool, entry_of(spool, spool->first_id++));
		moved = true;
	}
	if (!moved)
		return;
	remove_finished(spool);
	note_position(spool);
}

void fm_spool_rewind(struct fm_spool *spool)
{
	for (; spool->first_id < spool->next_id; spool->first_id++) {
		const struct entry *entry = entry_of(spool, spool->first_id);

		if (entry->file)
			subtract_sum(&entry->file->taken, &entry->sum);
		else /* its file is no more */
			drop(spool, &entry->sum, FM_NOT_SENT_spool_full);
	}
	for (struct file *file = spool->first; file; file = file->next)
		file->finished = false;
	stop_reading(spool);
	spool->at_end = false;
}

bool fm_spool_has(const struct fm_spool *spool, const struct fm_spool_place *place)
{
	for (const struct file *file = spool->first; file; file = file->next)
		if (file->number == place->file)
			return file->size >= place->end;
	return place->file < spool->next_number;
}

static bool is_among(const struct fm_spool_place *places, size_t n,
		     const struct fm_spool_place *place)
{
	for (size_t i = 0; i < n; i++)
		if (places[i].file == place->file && places[i].end == place->end)
			return true;
	return false;
}

void fm_spool_settle(struct fm_spool *spool, const struct fm_spool_place *sent, size_t n)
{
	struct fm_message_info info;
	const uint8_t *message;
	size_t size;

	while (n && fm_spool_next(spool, &message, &size, &info) > 0) {
		/* What follows one that was not sent comes again with it. */
		if (!info.is_template && !is_among(sent, n, &info.spool_place))
			break;
		fm_spool_done(spool, info.spool_id, true);
	}
	fm_spool_rewind(spool);
}

void fm_spool_gap(const struct fm_spool *spool, struct fm_spool_gap *ret)
{
	*ret = spool->position.gap;
}

void fm_spool_gap_told(struct fm_spool *spool)
{
	spool->position.gap = (struct fm_spool_gap){};
	note_position(spool);
}

void fm_spool_stats(const struct fm_spool *spool, struct fm_spool_stats *ret)
{
	*ret = spool->stats;
	ret->files = spool->n_files;
	ret->file_octets = spool->file_octets;
}
