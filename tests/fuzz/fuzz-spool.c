/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A spool whose directory has any files and any position: it opens, what is put comes out once or
 * is counted as dropped, and it is empty in the end.
 */
#include <dirent.h>
#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include "daemon/spool.h"
#include "fuzz.h"

#define TURNS	   200
#define ROUNDS_MAX 100000
#define FILES_MAX  5
#define CHECKED	   64 /* octets of a position before its check */

static char directory[] = "/dev/shm/fuzz-spool-XXXXXX";
static int directory_fd;

static void clear(void)
{
	DIR *dir = opendir(directory);
	struct dirent *entry;

	while (dir && (entry = readdir(dir)))
		if (entry->d_name[0] != '.')
			unlinkat(directory_fd, entry->d_name,
				 entry->d_type == DT_DIR ? AT_REMOVEDIR : 0);
	if (dir)
		closedir(dir);
}

static void clean(void)
{
	clear();
	rmdir(directory);
}

int LLVMFuzzerInitialize(int *argc, char ***argv)
{
	FUZZ_CHECK(mkdtemp(directory));
	directory_fd = open(directory, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	FUZZ_CHECK(directory_fd >= 0);
	atexit(clean);
	return 0;
}

static void write_file(const char *name, const uint8_t *data, size_t size)
{
	int fd = openat(directory_fd, name, O_WRONLY | O_CREAT | O_TRUNC | O_NOFOLLOW | O_CLOEXEC,
			0600);

	if (fd < 0) /* a directory, by another of the names */
		return;
	FUZZ_CHECK(write(fd, data, size) == (ssize_t)size);
	close(fd);
}

static void write_ipfix(struct input *input)
{
	uint8_t how = input_u8(input);
	char name[64];
	size_t octets;
	const uint8_t *data;
	uint64_t number = how & 0x80 ? input_u64(input) : how & 7;

	snprintf(name, sizeof(name), how & 8 ? "%020llu.ipfi" : "%020llu.ipfix",
		 (unsigned long long)number);
	data = input_take(input, input_u16(input) % 2048, &octets);
	if ((how & 0x30) == 0x30)
		mkdirat(directory_fd, name, 0700);
	else if ((how & 0x30) == 0x20)
		(void)!symlinkat("/dev/zero", directory_fd, name);
	else
		write_file(name, data, octets);
}

/* A position whose check is right, or any octets. */
static void write_position(struct input *input)
{
	uint8_t position[CHECKED + 8] = "MFSPOOL1", how = input_u8(input);
	uint64_t check = 0xcbf29ce484222325;

	if (!how)
		return;
	for (size_t i = 8; i < CHECKED; i += 8)
		if (how & 1u << (i / 8 - 1) % 8)
			input_copy(input, position + i, how & 1 ? 8 : 1);
	for (size_t i = 0; i < CHECKED; i++)
		check = (check ^ position[i]) * 0x100000001b3;
	memcpy(position + CHECKED, &check, 8);
	if (how == 0x81)
		input_copy(input, position, sizeof(position));
	write_file("position", position, how == 0x82 ? 50 : sizeof(position));
}

/* A template of two counters, and so many records of it. */
static size_t make_message(uint8_t *to, unsigned int records)
{
	static const uint8_t set[] = {0, 2, 0, 16, 1, 0, 0, 2, 0, 2, 0, 1, 0, 1, 0, 1};
	size_t size = records ? 20 + 2 * records : 16 + sizeof(set);

	memset(to, 1, size);
	memset(to, 0, 20);
	to[1] = 10;
	to[2] = (uint8_t)(size >> 8);
	to[3] = (uint8_t)size;
	if (!records) {
		memcpy(to + 16, set, sizeof(set));
		return size;
	}
	to[16] = 1;
	to[18] = (uint8_t)((size - 16) >> 8);
	to[19] = (uint8_t)(size - 16);
	return size;
}

struct account {
	uint64_t put, out;
};

static void put(struct fm_spool *spool, unsigned int n, struct account *account)
{
	struct fm_message_info info = {.records = n, .packets = n, .octets = n, .sequenced = n};
	uint8_t message[1024];

	if (fm_spool_put(spool, message, make_message(message, n), &info) == 0)
		account->put += n;
}

/* Ids that nobody was given are of no consequence. */
static void done_of_nobody(struct fm_spool *spool, uint64_t id)
{
	struct fm_spool_stats before, after;

	fm_spool_stats(spool, &before);
	fm_spool_done(spool, id, true);
	fm_spool_stats(spool, &after);
	FUZZ_CHECK(!memcmp(&before, &after, sizeof(before)));
}

static void use(struct fm_spool *spool, struct input *input, struct account *account)
{
	uint64_t ids[32] = {};
	struct fm_message_info info;
	const uint8_t *message;
	size_t size;

	for (unsigned int i = 0; i < TURNS && input->left; i++) {
		uint8_t what = input_u8(input);

		switch (what & 3) {
		case 0:
			put(spool, 1 + what, account);
			break;
		case 1:
			if (fm_spool_next(spool, &message, &size, &info) != 1)
				break;
			FUZZ_CHECK(size >= 16 && message[1] == 10);
			ids[what >> 3] = info.spool_id;
			break;
		case 2:
			fm_spool_done(spool, ids[what >> 3], what & 4);
			done_of_nobody(spool, UINT64_MAX - what);
			done_of_nobody(spool, ids[what >> 3] + 1024);
			break;
		case 3:
			if (what == 3)
				fm_spool_rewind(spool);
			fm_spool_sync(spool, i);
			break;
		}
	}
}

/* All goes out. */
static void empty(struct fm_spool *spool)
{
	struct fm_message_info info;
	const uint8_t *message;
	size_t size;
	unsigned int rounds = 0;

	fm_spool_rewind(spool);
	while (!fm_spool_is_empty(spool)) {
		FUZZ_CHECK(rounds++ < ROUNDS_MAX);
		if (fm_spool_next(spool, &message, &size, &info) == 1)
			fm_spool_done(spool, info.spool_id, true);
	}
}

static void open_and_use(struct input *input, bool is_new)
{
	uint8_t how = input_u8(input);
	const struct fm_spool_options options = {
		.directory = "/dev/shm",
		.name = directory + sizeof("/dev/shm"),
		.max_octets = 8192,
		.file_octets = 2048,
		.sync_ns = how & 1,
	};
	struct fm_spool_stats stats;
	struct account account = {};
	struct fm_spool *spool;

	FUZZ_CHECK(fm_spool_new(&spool, &options) == 0);
	if (is_new)
		FUZZ_CHECK(fm_spool_is_empty(spool));
	{
		uint8_t message[64];

		FUZZ_CHECK(fm_spool_template(spool, message, make_message(message, 0)) == 0);
	}
	use(spool, input, &account);
	if (how & 2) {
		empty(spool);
		fm_spool_stats(spool, &stats);
		FUZZ_CHECK(stats.put.records == account.put && !stats.files && !stats.file_octets);
		FUZZ_CHECK(is_new ? stats.sent.records + stats.dropped.records == account.put
				  : stats.sent.records + stats.dropped.records >= account.put);
	}
	fm_spool_free(spool);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct input input = {data, size};
	unsigned int files = input_u8(&input) % FILES_MAX;

	clear();
	for (unsigned int i = 0; i < files; i++)
		write_ipfix(&input);
	write_position(&input);
	open_and_use(&input, files == 0);
	open_and_use(&input, false);
	return 0;
}
