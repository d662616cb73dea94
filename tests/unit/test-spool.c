/* SPDX-License-Identifier: Apache-2.0 */
/*
 * IPFIX files and the spool: what goes in comes out, octet for octet and in order, or it is
 * counted; torn, garbled and missing files cost what they must and no more.
 */
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <sched.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/mount.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/wait.h>

#include "base/clock.h"
#include "base/macro.h"
#include "daemon/spool.h"
#include "ipfix/file-reader.h"
#include "ipfix/file-writer.h"
#include "records.h"
#include "test.h"

#define KEPT_MAX 20000

struct kept {
	uint8_t *data;
	size_t size;
	struct fm_message_info info;
};

/* What a session emitted, in order. */
static struct kept kept[KEPT_MAX];
static size_t n_kept;

static void keep(void *userdata, const uint8_t *message, size_t size,
		 const struct fm_message_info *info)
{
	if (n_kept == KEPT_MAX)
		abort();
	kept[n_kept].data = malloc(size);
	memcpy(kept[n_kept].data, message, size);
	kept[n_kept].size = size;
	kept[n_kept++].info = *info;
}

static void forget(void)
{
	while (n_kept)
		free(kept[--n_kept].data);
}

/* Templates, n records of all families, interface names and statistics, as messages. */
static void make(unsigned int n, unsigned int profile, bool biflow, size_t message_size)
{
	const struct fm_session_options options = {
		.profile = profile,
		.biflow = biflow,
		.domain = 7,
		.enterprise_number = 32473,
		.message_size = message_size,
	};
	const struct fm_exporter_stats exporter = {};
	const struct fm_sink_stats sink = {.records = n};
	uint64_t now = fm_clock_realtime_ns();
	struct fm_session *session;

	forget();
	if (fm_session_new(&session, &options, keep, NULL) < 0)
		abort();
	fm_session_templates(session, now);
	for (unsigned int i = 0; i < n; i++) {
		struct fm_record record;

		records_make(&record, 5, i, biflow, now);
		fm_session_record(session, &record, now + i * FM_NS_PER_MS);
	}
	fm_session_interface(session, 2, "eth0", NULL, now);
	fm_session_flush(session, now);
	fm_session_statistics(session, &exporter, &sink, now);
	fm_session_free(session);
}

static char directory[] = "/tmp/flowmond-spool-XXXXXX";
static int directory_fd;

static bool same_info(const struct fm_message_info *a, const struct fm_message_info *b)
{
	return a->records == b->records && a->packets == b->packets && a->octets == b->octets &&
	       a->sequenced == b->sequenced && a->domain == b->domain &&
	       a->is_template == b->is_template;
}

/* --- files --- */

static void write_file(const char *name)
{
	struct fm_file_writer *writer;

	unlinkat(directory_fd, name, 0);
	if (fm_file_writer_new(&writer, directory_fd, name) < 0)
		abort();
	for (size_t i = 0; i < n_kept; i++)
		if (fm_file_writer_append(writer, kept[i].data, kept[i].size) < 0)
			abort();
	fm_file_writer_free(writer);
}

/* Messages of the file that are those kept, from the first on. */
static size_t read_file(const char *name, uint64_t *ret_rest)
{
	struct fm_file_reader *reader;
	struct fm_message_info info;
	const uint8_t *message;
	size_t n = 0, size;

	if (fm_file_reader_new(&reader, directory_fd, name) < 0)
		abort();
	while (fm_file_reader_next(reader, UINT64_MAX, &message, &size, &info) > 0) {
		if (n >= n_kept || size != kept[n].size || memcmp(message, kept[n].data, size) ||
		    !same_info(&info, &kept[n].info))
			break;
		n++;
	}
	*ret_rest = fm_file_reader_rest(reader);
	fm_file_reader_free(reader);
	return n;
}

static void test_file(void)
{
	static const unsigned int profiles[] = {FM_P_STANDARD, FM_P_FULL, FM_P_NTOP};
	uint64_t rest;
	size_t n;

	for (unsigned int i = 0; i < 6; i++) {
		make(3000, profiles[i % 3], i >= 3, i % 2 ? 1400 : 65535);
		write_file("a");
		n = read_file("a", &rest);
		FM_TEST(n == n_kept && rest == 0,
			"file: %zu messages come back, with what is in them (profile %u, %s)", n,
			profiles[i % 3], i >= 3 ? "biflows" : "uniflows");
	}
}

static void test_torn(void)
{
	unsigned int wrong = 0;
	size_t last, whole = 0;
	uint64_t rest;

	make(100, FM_P_STANDARD, false, 1400);
	last = kept[n_kept - 1].size;
	for (size_t i = 0; i < n_kept - 1; i++)
		whole += kept[i].size;
	write_file("a");
	for (size_t cut = last; cut-- > 0;) {
		_fm_cleanup_close_ int fd = openat(directory_fd, "a", O_WRONLY | O_CLOEXEC);

		if (ftruncate(fd, (off_t)(whole + cut)) < 0)
			abort();
		wrong += read_file("a", &rest) != n_kept - 1 || rest != cut;
	}
	FM_TEST(wrong == 0, "file: torn at any of the last message's %zu octets costs that message",
		last);
}

static void test_failed_write(void)
{
	struct rlimit limit, before;
	struct fm_file_writer *writer;
	size_t n = 0, refused;
	uint64_t rest;

	make(100, FM_P_STANDARD, false, 1400);
	getrlimit(RLIMIT_FSIZE, &before);
	limit = before;
	limit.rlim_cur = 3000;
	unlinkat(directory_fd, "a", 0);
	if (fm_file_writer_new(&writer, directory_fd, "a") < 0)
		abort();
	setrlimit(RLIMIT_FSIZE, &limit);
	while (n < n_kept && fm_file_writer_append(writer, kept[n].data, kept[n].size) == 0)
		n++;
	setrlimit(RLIMIT_FSIZE, &before);
	refused = n;
	FM_TEST(n > 2 && n < n_kept && read_file("a", &rest) == n && rest == 0,
		"file: a write that fails leaves nothing behind");
	while (n < n_kept && fm_file_writer_append(writer, kept[n].data, kept[n].size) == 0)
		n++;
	FM_TEST(n == n_kept && read_file("a", &rest) == n && rest == 0 && refused < n,
		"file: it goes on where it was");
	FM_TEST(fm_file_writer_sync(writer) == 0 && fm_file_writer_sync(writer) == 0,
		"file: synchronised without waiting");
	fm_file_writer_free(writer);
}

static uint64_t next_random(uint64_t *state)
{
	*state ^= *state << 13;
	*state ^= *state >> 7;
	*state ^= *state << 17;
	return *state;
}

/* Reads a file of these octets to its end. False: it gave more than it can hold. */
static bool survives(const uint8_t *octets, size_t size)
{
	_fm_cleanup_close_ int fd = -1;
	struct fm_file_reader *reader;
	struct fm_message_info info;
	const uint8_t *message;
	uint64_t total = 0;
	size_t length;

	unlinkat(directory_fd, "g", 0);
	fd = openat(directory_fd, "g", O_WRONLY | O_CREAT | O_CLOEXEC, 0600);
	if (write(fd, octets, size) != (ssize_t)size ||
	    fm_file_reader_new(&reader, directory_fd, "g") < 0)
		abort();
	while (fm_file_reader_next(reader, UINT64_MAX, &message, &length, &info) > 0 &&
	       total <= size)
		total += length;
	total += fm_file_reader_rest(reader);
	fm_file_reader_free(reader);
	return total == size;
}

static void test_garbage(void)
{
	static uint8_t whole[1 << 16], changed[1 << 16];
	uint64_t state = 0x9e3779b97f4a7c15;
	unsigned int wrong = 0, rounds = 4000;
	size_t size = 0;

	make(60, FM_P_FULL, true, 1400);
	for (size_t i = 0; i < n_kept && size + kept[i].size < sizeof(whole); i++) {
		memcpy(whole + size, kept[i].data, kept[i].size);
		size += kept[i].size;
	}
	for (unsigned int round = 0; round < rounds; round++) {
		uint64_t n = next_random(&state) % 8 + 1;

		memcpy(changed, whole, size);
		for (; n > 0; n--)
			changed[next_random(&state) % size] = n % 2   ? (uint8_t)next_random(&state)
							      : n % 4 ? 0xff
								      : 0;
		wrong += !survives(changed, size - (round % 2 ? next_random(&state) % size : 0));
	}
	for (size_t i = 0; i < sizeof(changed); i++)
		changed[i] = (uint8_t)next_random(&state);
	wrong += !survives(changed, sizeof(changed));
	memset(changed, 0, sizeof(changed));
	wrong += !survives(changed, sizeof(changed));
	wrong += !survives(changed, 0);
	FM_TEST(wrong == 0, "file: %u garbled files are read to an end that adds up", rounds);
}

/* --- spool --- */

static struct fm_spool_options spool_options = {
	.name = "main",
	.max_octets = 64 << 20,
	.file_octets = 20000,
	.sync_ns = FM_NS_PER_S,
};

static struct fm_spool *open_spool(void)
{
	struct fm_spool *spool = NULL;
	int r;

	spool_options.directory = directory;
	r = fm_spool_new(&spool, &spool_options);
	if (r < 0) {
		printf("Bail out! spool: %s\n", strerror(-r));
		exit(99);
	}
	return spool;
}

/* Empties the directory of the spool. */
static void clean(void)
{
	_fm_cleanup_free_ char *command = NULL;

	if (asprintf(&command, "rm -rf %s/main", directory) < 0 || system(command) != 0)
		abort();
}

/* Puts what is kept; what of it the spool refused. */
static size_t put_all(struct fm_spool *spool, struct fm_spool_sum *sum)
{
	size_t refused = 0;

	for (size_t i = 0; i < n_kept; i++) {
		if (kept[i].info.is_template) {
			fm_spool_template(spool, kept[i].data, kept[i].size);
			continue;
		}
		if (fm_spool_put(spool, kept[i].data, kept[i].size, &kept[i].info) < 0) {
			refused++;
			continue;
		}
		sum->messages++;
		sum->records += kept[i].info.records;
		sum->packets += kept[i].info.packets;
		sum->octets += kept[i].info.octets;
	}
	return refused;
}

/* The kept data message behind number at. */
static size_t next_kept(size_t at)
{
	while (at < n_kept && kept[at].info.is_template)
		at++;
	return at;
}

/* Takes messages out as long as they are those kept from at on; where it ended. */
static size_t take(struct fm_spool *spool, size_t at, size_t n, bool done)
{
	struct fm_message_info info;
	const uint8_t *message;
	size_t size;

	while (n > 0 && fm_spool_next(spool, &message, &size, &info) > 0) {
		if (!info.is_template) {
			at = next_kept(at);
			if (at == n_kept || size != kept[at].size ||
			    memcmp(message, kept[at].data, size) ||
			    !same_info(&info, &kept[at].info)) {
				FM_TEST_NOTE("message %zu is another", at);
				return SIZE_MAX;
			}
			at++;
			n--;
		}
		if (done || info.is_template)
			fm_spool_done(spool, info.spool_id, true);
	}
	return next_kept(at);
}

static bool same_sum(const struct fm_spool_sum *a, const struct fm_spool_sum *b)
{
	if (!memcmp(a, b, sizeof(*a)))
		return true;
	FM_TEST_NOTE("messages %" PRIu64 " %" PRIu64 ", records %" PRIu64 " %" PRIu64
		     ", packets %" PRIu64 " %" PRIu64 ", octets %" PRIu64 " %" PRIu64,
		     a->messages, b->messages, a->records, b->records, a->packets, b->packets,
		     a->octets, b->octets);
	return false;
}

static struct fm_spool_sum sum_two(const struct fm_spool_sum *a, const struct fm_spool_sum *b)
{
	return (struct fm_spool_sum){a->messages + b->messages, a->records + b->records,
				     a->packets + b->packets, a->octets + b->octets};
}

static unsigned int count_files(void)
{
	_fm_cleanup_close_ int fd = openat(directory_fd, "main", O_RDONLY | O_CLOEXEC);
	DIR *dir = fdopendir(dup(fd));
	unsigned int n = 0;

	for (struct dirent *entry; dir && (entry = readdir(dir));)
		n += strstr(entry->d_name, ".ipfix") != NULL;
	if (dir)
		closedir(dir);
	return n;
}

static void test_order(void)
{
	struct fm_spool *spool;
	struct fm_spool_sum put = {};
	struct fm_spool_stats stats;
	struct fm_spool_gap gap;
	size_t at;

	clean();
	make(5000, FM_P_STANDARD, false, 1400);
	spool = open_spool();
	FM_TEST(fm_spool_is_empty(spool), "spool: empty at first");
	FM_TEST(put_all(spool, &put) == 0 && !fm_spool_is_empty(spool) && count_files() > 20,
		"spool: %" PRIu64 " messages in %u files", put.messages, count_files());
	FM_TEST(fm_spool_sync(spool, 5 * FM_NS_PER_S) == 0, "spool: synchronised");
	at = take(spool, 0, SIZE_MAX, true);
	fm_spool_stats(spool, &stats);
	FM_TEST(at == n_kept && same_sum(&stats.sent, &put) && same_sum(&stats.put, &put),
		"spool: all of them in order, octet for octet");
	FM_TEST(fm_spool_is_empty(spool) && fm_spool_at_end(spool) && count_files() == 0 &&
			stats.file_octets == 0,
		"spool: then it is empty, and the files are gone");
	fm_spool_gap(spool, &gap);
	FM_TEST(same_sum(&gap.sum, &put) && gap.to >= gap.from + 4,
		"spool: knows what the gap was");
	fm_spool_gap_told(spool);
	fm_spool_gap(spool, &gap);
	FM_TEST(gap.sum.messages == 0, "spool: and forgets it when it was told");
	fm_spool_free(spool);
}

/* Reads while it is written, with messages sent again every now and then. */
static void test_both_ways(void)
{
	struct fm_spool *spool;
	struct fm_spool_sum put = {};
	struct fm_spool_stats stats;
	size_t done = 0;
	bool good = true;

	clean();
	make(3000, FM_P_FULL, true, 1400);
	spool = open_spool();
	for (size_t i = 0; i < n_kept && good; i++) {
		if (kept[i].info.is_template) {
			fm_spool_template(spool, kept[i].data, kept[i].size);
			continue;
		}
		good = fm_spool_put(spool, kept[i].data, kept[i].size, &kept[i].info) == 0;
		put.messages++;
		if (i % 7 == 0) { /* the connection broke: they come again */
			good &= take(spool, done, 5, false) != SIZE_MAX;
			fm_spool_rewind(spool);
		}
		if (i % 3 == 0)
			done = take(spool, done, 3, true);
		good &= done != SIZE_MAX;
	}
	done = take(spool, done, SIZE_MAX, true);
	fm_spool_stats(spool, &stats);
	FM_TEST(good && done == n_kept && stats.sent.messages == put.messages &&
			fm_spool_is_empty(spool),
		"spool: written while it is read, some sent again: all in order, once");
	fm_spool_free(spool);
}

/* Every file alone has the templates of its records. */
static void test_alone(void)
{
	struct fm_spool *spool;
	struct fm_spool_sum put = {}, seen = {};
	unsigned int files = 0;
	bool templates_first = true;
	DIR *dir;

	clean();
	make(2000, FM_P_FULL, false, 1400);
	spool = open_spool();
	put_all(spool, &put);
	dir = fdopendir(openat(directory_fd, "main", O_RDONLY | O_CLOEXEC));
	for (struct dirent *entry; (entry = readdir(dir));) {
		struct fm_file_reader *reader;
		struct fm_message_info info;
		const uint8_t *message;
		bool first = true;
		size_t size;

		if (!strstr(entry->d_name, ".ipfix") ||
		    fm_file_reader_new(&reader, dirfd(dir), entry->d_name) < 0)
			continue;
		files++;
		for (; fm_file_reader_next(reader, UINT64_MAX, &message, &size, &info) > 0;
		     first = false) {
			templates_first &= !first || info.is_template;
			if (info.is_template)
				continue;
			seen.messages++;
			seen.records += info.records;
			seen.packets += info.packets;
			seen.octets += info.octets;
		}
		fm_file_reader_free(reader);
	}
	closedir(dir);
	FM_TEST(files > 10 && templates_first && same_sum(&seen, &put),
		"spool: each of %u files can be read alone", files);
	fm_spool_free(spool);
}

/* A process that puts everything, sends some and is killed with some under way. */
static void killed_after(size_t sent, size_t under_way)
{
	pid_t pid = fork();

	if (pid == 0) {
		struct fm_spool *spool = open_spool();
		struct fm_spool_sum put = {};

		put_all(spool, &put);
		take(spool, take(spool, 0, sent, true), under_way, false);
		raise(SIGKILL);
	}
	waitpid(pid, NULL, 0);
}

static void test_restart(void)
{
	struct fm_spool *spool;
	struct fm_spool_stats stats;
	struct fm_spool_gap gap;
	unsigned int wrong = 0;
	size_t at, data = 0;

	make(400, FM_P_STANDARD, false, 1400);
	for (size_t i = 0; i < n_kept; i++)
		data += !kept[i].info.is_template;
	spool_options.file_octets = 6000;
	for (size_t sent = 0; sent < data; sent++) {
		size_t expected = 0;

		clean();
		killed_after(sent, sent % 20);
		for (size_t i = 0; i < sent; i++)
			expected = next_kept(expected) + 1;
		spool = open_spool();
		at = take(spool, expected, SIZE_MAX, true);
		fm_spool_stats(spool, &stats);
		fm_spool_gap(spool, &gap);
		wrong += at != n_kept || stats.sent.messages != data - sent ||
			 !fm_spool_is_empty(spool) || gap.sum.messages != data;
		fm_spool_free(spool);
	}
	FM_TEST(wrong == 0,
		"spool: killed after any of %zu messages: the next process goes on with the next",
		data);
	spool_options.file_octets = 20000;
}

/* Outlives processes that are killed. */
struct shared {
	struct fm_spool_intent intent;
	struct fm_spool_place places[20]; /* of messages under way, in order */
	size_t n_places;
	size_t noted; /* messages that were put, as the process saw it */
};

static struct shared *shared;

/* As killed_after, and tells where each message under way ends. */
static void killed_with_places(size_t sent, size_t under_way)
{
	pid_t pid;

	shared->n_places = 0;
	pid = fork();
	if (pid == 0) {
		struct fm_spool *spool = open_spool();
		struct fm_spool_sum put = {};
		struct fm_message_info info;
		const uint8_t *message;
		size_t size;

		put_all(spool, &put);
		take(spool, 0, sent, true);
		while (shared->n_places < under_way &&
		       fm_spool_next(spool, &message, &size, &info) > 0)
			if (!info.is_template)
				shared->places[shared->n_places++] = info.spool_place;
		raise(SIGKILL);
	}
	waitpid(pid, NULL, 0);
}

/* What was under way and is known to be out does not come again; what follows a gap does. */
static void test_settled(void)
{
	const struct fm_spool_place foreign[] = {{0, 0}, {1, 1}, {UINT64_MAX, UINT64_MAX}};
	unsigned int wrong = 0;

	make(400, FM_P_STANDARD, false, 1400);
	spool_options.file_octets = 6000;
	for (size_t out = 0; out < 18; out++) {
		struct fm_spool *spool;
		struct fm_spool_gap gap;
		size_t expected = 0, at;

		clean();
		killed_with_places(7, out + 2);
		wrong += shared->n_places != out + 2;
		/* The last but one is not out. */
		shared->places[out] = shared->places[out + 1];
		for (size_t i = 0; i < 7 + out; i++)
			expected = next_kept(expected) + 1;
		spool = open_spool();
		fm_spool_settle(spool, foreign, FM_ARRAY_SIZE(foreign));
		fm_spool_settle(spool, shared->places, out + 1);
		fm_spool_gap(spool, &gap);
		wrong += gap.sum.messages != 7 + out;
		at = take(spool, expected, SIZE_MAX, true);
		wrong += at != n_kept || !fm_spool_is_empty(spool);
		fm_spool_free(spool);
	}
	FM_TEST(wrong == 0, "spool: killed with 0 to 17 messages out: the next is the one behind");
	spool_options.file_octets = 20000;
}

/* Puts without end, each noted when it was put, until it is killed. */
static void put_until_killed(void)
{
	struct fm_spool *spool = open_spool();

	for (size_t i = 0;; i = (i + 1) % n_kept) {
		struct fm_message_info info = kept[i].info;

		if (info.is_template) {
			fm_spool_template(spool, kept[i].data, kept[i].size);
			continue;
		}
		info.outbox_id = shared->noted + 1;
		if (fm_spool_put(spool, kept[i].data, kept[i].size, &info) == 0)
			shared->noted++;
	}
}

static size_t count_left(struct fm_spool *spool)
{
	struct fm_message_info info;
	const uint8_t *message;
	size_t size, n = 0;

	while (fm_spool_next(spool, &message, &size, &info) > 0) {
		n += !info.is_template;
		fm_spool_done(spool, info.spool_id, true);
	}
	return n;
}

static void test_intent(void)
{
	unsigned int wrong = 0, between = 0;

	make(400, FM_P_STANDARD, false, 1400);
	spool_options.file_octets = 6000;
	spool_options.intent = &shared->intent;
	for (unsigned int i = 0; i < 100; i++) {
		struct fm_spool *spool;
		size_t put;
		pid_t pid;

		clean();
		*shared = (struct shared){};
		pid = fork();
		if (pid == 0)
			put_until_killed();
		usleep(2000 + (unsigned int)random() % 3000);
		kill(pid, SIGKILL);
		waitpid(pid, NULL, 0);
		put = shared->noted;
		spool = open_spool();
		if (shared->intent.outbox_id == put + 1) {
			between += fm_spool_has(spool, &shared->intent.place);
			put += fm_spool_has(spool, &shared->intent.place);
		}
		wrong += count_left(spool) != put;
		fm_spool_free(spool);
	}
	FM_TEST(wrong == 0, "spool: killed 100 times: what was put is known (%u not noted)",
		between);
	spool_options.intent = NULL;
	spool_options.file_octets = 20000;
}

static void test_position_lost(void)
{
	struct fm_spool *spool;
	struct fm_spool_stats stats;
	_fm_cleanup_close_ int fd = -1;
	size_t at;

	clean();
	make(400, FM_P_STANDARD, false, 1400);
	killed_after(10, 3);
	fd = openat(directory_fd, "main/position", O_RDWR | O_CLOEXEC);
	if (pwrite(fd, "garbage", 7, 10) != 7)
		abort();
	spool = open_spool();
	at = take(spool, 0, SIZE_MAX, true);
	fm_spool_stats(spool, &stats);
	FM_TEST(at == n_kept && fm_spool_is_empty(spool),
		"spool: a garbled position: rather again than not");
	fm_spool_free(spool);
}

/* A spool that was left: its last file is torn. */
static void test_torn_spool(void)
{
	struct fm_spool *spool;
	struct fm_spool_stats stats;
	unsigned int wrong = 0;
	size_t last, data = 0;
	const char *name = "main/00000000000000000001.ipfix";
	struct stat status;

	make(60, FM_P_STANDARD, false, 1400);
	last = kept[n_kept - 1].size;
	for (size_t i = 0; i < n_kept; i++)
		data += !kept[i].info.is_template;
	for (size_t cut = 1; cut <= last; cut += 7) {
		clean();
		killed_after(0, 0);
		if (fstatat(directory_fd, name, &status, 0) < 0)
			abort();
		_fm_cleanup_close_ int fd = openat(directory_fd, name, O_WRONLY | O_CLOEXEC);
		if (ftruncate(fd, status.st_size - (off_t)cut) < 0)
			abort();
		spool = open_spool();
		take(spool, 0, data - 1, true);
		take(spool, 0, 1, true); /* that there is none */
		fm_spool_stats(spool, &stats);
		wrong += stats.sent.messages != data - 1 || stats.torn_octets != last - cut ||
			 !fm_spool_is_empty(spool);
		fm_spool_free(spool);
	}
	FM_TEST(wrong == 0, "spool: a torn file costs its last message");
}

static void test_limit(void)
{
	struct fm_spool *spool;
	struct fm_spool_sum put = {}, all;
	struct fm_spool_stats stats;
	size_t at = 0, n_data = 0;
	bool bounded = true;

	clean();
	make(6000, FM_P_STANDARD, false, 1400);
	spool_options.max_octets = 100000;
	spool = open_spool();
	for (size_t i = 0; i < n_kept; i++) {
		if (kept[i].info.is_template) {
			fm_spool_template(spool, kept[i].data, kept[i].size);
			continue;
		}
		fm_spool_put(spool, kept[i].data, kept[i].size, &kept[i].info);
		n_data++;
		fm_spool_stats(spool, &stats);
		bounded &= stats.file_octets <= spool_options.max_octets;
		if (i % 50 == 0) { /* some are under way when their file is dropped */
			fm_spool_rewind(spool);
			take(spool, 0, 0, false);
		}
	}
	fm_spool_stats(spool, &stats);
	put = stats.put;
	for (size_t skip = 0; skip < stats.dropped.messages; skip++)
		at = next_kept(at) + 1;
	at = take(spool, at, SIZE_MAX, true);
	fm_spool_stats(spool, &stats);
	all = sum_two(&stats.sent, &stats.dropped);
	FM_TEST(bounded && stats.dropped.messages > n_data / 2, "spool: within its limit");
	FM_TEST(at == n_kept && same_sum(&all, &put) && put.messages == n_data,
		"spool: the oldest are dropped, dropped and sent are all");
	fm_spool_free(spool);
	spool_options.max_octets = 64 << 20;
}

/* What is dropped was left by another process, and half of it sent; some of it is under way. */
static void test_limit_left(void)
{
	struct fm_spool *spool;
	struct fm_spool_sum put = {}, left;
	struct fm_spool_stats stats;
	struct fm_message_info info;
	const uint8_t *message;
	size_t size, n_data = 0, sent_before = 25;
	uint64_t ids[5], n = 0;

	clean();
	make(1500, FM_P_STANDARD, false, 1400);
	for (size_t i = 0; i < n_kept; i++)
		n_data += !kept[i].info.is_template;
	killed_after(sent_before, 0);
	spool_options.max_octets = 90000;
	spool = open_spool();
	while (n < 5 && fm_spool_next(spool, &message, &size, &info) > 0) {
		if (info.is_template)
			fm_spool_done(spool, info.spool_id, true);
		else
			ids[n++] = info.spool_id;
	}
	put_all(spool, &put);
	fm_spool_done(spool, ids[0], true);
	fm_spool_done(spool, ids[1], true);
	fm_spool_rewind(spool);
	while (fm_spool_next(spool, &message, &size, &info) > 0)
		fm_spool_done(spool, info.spool_id, true);
	fm_spool_stats(spool, &stats);
	left = sum_two(&stats.sent, &stats.dropped);
	FM_TEST(left.messages == 2 * n_data - sent_before && stats.dropped.messages > n_data,
		"spool: what another process left is counted when it is dropped, and what was under way");
	FM_TEST(fm_spool_is_empty(spool), "spool: it comes to its end");
	fm_spool_free(spool);
	spool_options.max_octets = 64 << 20;
}

static void test_too_large(void)
{
	struct rlimit limit, before;
	struct fm_spool_sum put = {};
	struct fm_spool *spool;
	size_t refused;

	clean();
	make(1000, FM_P_STANDARD, false, 1400);
	getrlimit(RLIMIT_FSIZE, &before);
	limit = before;
	limit.rlim_cur = 12000;
	spool = open_spool();
	setrlimit(RLIMIT_FSIZE, &limit);
	refused = put_all(spool, &put);
	setrlimit(RLIMIT_FSIZE, &before);
	FM_TEST(refused == 0 && take(spool, 0, SIZE_MAX, true) == n_kept,
		"spool: files that may not be that large: more files");
	limit.rlim_cur = 0;
	setrlimit(RLIMIT_FSIZE, &limit);
	put = (struct fm_spool_sum){};
	refused = put_all(spool, &put);
	setrlimit(RLIMIT_FSIZE, &before);
	FM_TEST(refused > 0 && put.messages == 0 && fm_spool_is_empty(spool) && count_files() == 0,
		"spool: what cannot be written is refused and leaves nothing");
	fm_spool_free(spool);
}

static void test_full(void)
{
	struct fm_spool_sum put = {}, all;
	struct fm_spool_stats stats;
	struct fm_spool *spool;
	char path[64];
	size_t at = 0, refused;

	snprintf(path, sizeof(path), "%s/main", directory);
	clean();
	if (mkdir(path, 0700) < 0 || unshare(CLONE_NEWNS) < 0 ||
	    mount(NULL, "/", NULL, MS_REC | MS_PRIVATE, NULL) < 0 ||
	    mount("tmpfs", path, "tmpfs", 0, "size=128k") < 0) {
		fm_test_ok(true, "spool: a full disk # SKIP needs root");
		return;
	}
	make(4000, FM_P_STANDARD, false, 1400);
	spool = open_spool();
	refused = put_all(spool, &put);
	fm_spool_stats(spool, &stats);
	for (size_t skip = 0; skip < stats.dropped.messages; skip++)
		at = next_kept(at) + 1;
	at = take(spool, at, SIZE_MAX, true);
	fm_spool_stats(spool, &stats);
	all = sum_two(&stats.sent, &stats.dropped);
	FM_TEST(refused == 0 && at == n_kept && stats.dropped.messages > 100 &&
			same_sum(&all, &put),
		"spool: a full disk: the oldest are dropped, dropped and sent are all");
	fm_spool_free(spool);
	umount2(path, MNT_DETACH);
}

/* Takes out whatever comes. */
static void take_any(struct fm_spool *spool)
{
	struct fm_message_info info;
	const uint8_t *message;
	size_t size;

	while (fm_spool_next(spool, &message, &size, &info) > 0)
		fm_spool_done(spool, info.spool_id, true);
}

static void test_gone(void)
{
	struct fm_spool_sum put = {}, all;
	struct fm_spool_stats stats;
	struct fm_spool *spool;

	clean();
	make(1000, FM_P_STANDARD, false, 1400);
	spool = open_spool();
	put_all(spool, &put);
	unlinkat(directory_fd, "main/00000000000000000002.ipfix", 0);
	take_any(spool);
	fm_spool_stats(spool, &stats);
	all = sum_two(&stats.sent, &stats.dropped);
	FM_TEST(same_sum(&all, &put) && stats.dropped.messages > 5 && stats.sent.messages > 5,
		"spool: a file that was removed is counted as dropped");
	put_all(spool, &put);
	clean();
	FM_TEST(put_all(spool, &put) == 0 && count_files() > 0,
		"spool: its directory was removed: made again");
	take_any(spool);
	fm_spool_stats(spool, &stats);
	all = sum_two(&stats.sent, &stats.dropped);
	FM_TEST(same_sum(&all, &put) && fm_spool_is_empty(spool),
		"spool: what was in it is counted as dropped");
	fm_spool_free(spool);
}

static void test_foreign_files(void)
{
	static const char *const names[] = {"main/00000000000000000005.ipfix", "main/x.ipfix",
					    "main/90000000000000000000.ipfix",
					    "main/00000000000000000007.ipfix"};
	struct fm_spool_sum put = {};
	struct fm_spool_stats stats;
	struct fm_spool *spool;

	clean();
	mkdirat(directory_fd, "main", 0700);
	for (size_t i = 0; i < 3; i++) {
		_fm_cleanup_close_ int fd =
			openat(directory_fd, names[i], O_WRONLY | O_CREAT | O_CLOEXEC, 0600);

		if (write(fd, "garbage that is no message at all", 33) != 33)
			abort();
	}
	if (symlinkat("/etc/passwd", directory_fd, names[3]) < 0)
		abort();
	make(200, FM_P_STANDARD, false, 1400);
	spool = open_spool();
	put_all(spool, &put);
	FM_TEST(take(spool, 0, SIZE_MAX, true) == n_kept, "spool: garbage holds nothing up");
	fm_spool_stats(spool, &stats);
	FM_TEST(stats.torn_octets == 33, "spool: it is told");
	fm_spool_free(spool);
}

static void test_second(void)
{
	struct fm_spool *spool, *other = NULL;
	int r;

	clean();
	spool = open_spool();
	r = fm_spool_new(&other, &spool_options);
	FM_TEST(r == -EWOULDBLOCK, "spool: one owner at a time");
	fm_spool_free(spool);
	r = fm_spool_new(&other, &spool_options);
	FM_TEST(r == 0, "spool: then the next");
	fm_spool_free(other);
	spool_options.directory = "/nonexistent/deep/down";
	r = fm_spool_new(&other, &spool_options);
	FM_TEST(r == -ENOENT, "spool: no directory to make it in");
}

int main(void)
{
	struct rlimit limit = {1 << 30, 1 << 30};

	if (!FM_TEST_SANITIZED)
		setrlimit(RLIMIT_AS, &limit);
	signal(SIGXFSZ, SIG_IGN);
	if (!mkdtemp(directory))
		return fm_test_bail("no directory", errno);
	directory_fd = open(directory, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	shared = mmap(NULL, sizeof(*shared), PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1,
		      0);
	if (shared == MAP_FAILED)
		return fm_test_bail("mmap", errno);
	test_file();
	test_torn();
	test_failed_write();
	test_garbage();
	test_order();
	test_both_ways();
	test_alone();
	test_restart();
	test_settled();
	test_intent();
	test_position_lost();
	test_torn_spool();
	test_limit();
	test_limit_left();
	test_too_large();
	test_gone();
	test_foreign_files();
	test_full();
	test_second();
	forget();
	{
		_fm_cleanup_free_ char *command = NULL;

		if (asprintf(&command, "rm -rf %s", directory) < 0 || system(command) != 0)
			return fm_test_bail("cannot clean", errno);
	}
	return fm_test_done();
}
