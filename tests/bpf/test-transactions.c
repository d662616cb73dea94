/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Sinks whose work is part of the ledger's transactions, and the audit: a process gives records to
 * one and is killed at a random moment, again and again; in the end every record is in the files
 * once, and every interval was told once. In a BPF file system of its own.
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
#include <sys/stat.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/macro.h"
#include "daemon/audit.h"
#include "daemon/config.h"
#include "daemon/gates.h"
#include "daemon/ledger.h"
#include "daemon/memo.h"
#include "daemon/sink.h"
#include "daemon/store.h"
#include "ipfix/file-reader.h"
#include "test.h"

#define KILLS	   400
#define KILL_NS	   (4 * FM_NS_PER_MS) /* at most, after the process began to give */
#define AT_ONCE	   600		      /* records of a transaction, at most */
#define AUDIT_EACH 5		      /* transactions */

/* What the process accounts for: it outlives it, as the tables do. */
struct account {
	uint64_t records;
	bool began; /* to give */
};

/* Where a process dies by itself; elsewhere it is killed at a random moment. */
enum place {
	PLACE_RANDOM,
	PLACE_PREPARED,
	PLACE_COMMITTED,
	PLACE_APPLIED,
	_PLACE_MAX,
};

struct rig {
	struct fm_config *config;
	struct fm_store *store;
	struct fm_ledger *ledger;
	struct fm_sink *sink;
	struct account *account;
	enum place place;
	unsigned int until; /* transactions before it */
};

static char root[] = "/tmp/fm-transactions-XXXXXX";
static char pins[64], directory[64];

static void for_each_interface(void *userdata,
			       void (*fn)(const struct fm_interface_name *name, void *arg),
			       void *arg)
{
	const struct fm_interface_name name = {.ifindex = 1, .name = "eth0"};

	fn(&name, arg);
}

static void exporter_stats(void *userdata, struct fm_exporter_stats *ret)
{
	*ret = (struct fm_exporter_stats){};
}

static void reached(struct rig *rig, enum place place)
{
	if (rig->place == place && rig->until-- == 0)
		raise(SIGKILL);
}

static void prepare(void *userdata, uint64_t serial)
{
	struct rig *rig = userdata;

	if (rig->sink->ops->prepare)
		rig->sink->ops->prepare(rig->sink, serial);
	reached(rig, PLACE_PREPARED);
}

static void publish(void *userdata)
{
	struct rig *rig = userdata;

	reached(rig, PLACE_APPLIED);
	rig->sink->ops->flush(rig->sink);
}

static void apply(void *userdata, const struct fm_ledger_entry *entry)
{
	struct rig *rig = userdata;

	reached(rig, PLACE_COMMITTED);
	rig->account->records = entry->value;
}

static void finish(void *userdata, const struct fm_ledger_found *found)
{
	apply(userdata, &found->entry);
}

static const struct fm_ledger_ops ledger_ops = {prepare, publish, apply, finish};

static struct fm_config *make_config(void)
{
	char text[256];
	struct fm_buf errors = {};
	struct fm_config *config;
	FILE *file;

	snprintf(text, sizeof(text), "[ipfix_file]\ndirectory = %s\nrotate_octets = 64K\n",
		 directory);
	file = fmemopen(text, strlen(text), "r");
	if (!file || fm_config_parse(file, "test", &config, &errors) < 0)
		abort();
	fclose(file);
	return config;
}

static void rig_open(struct rig *rig, struct account *account, sd_event *event)
{
	struct fm_sink_env env = {
		.event = event,
		.for_each_interface = for_each_interface,
		.exporter_stats = exporter_stats,
	};

	*rig = (struct rig){.config = make_config(), .account = account};
	if (fm_store_new(&rig->store, pins) < 0 || fm_ledger_new(&rig->ledger, rig->store, 2) < 0)
		abort();
	fm_ledger_set_ops(rig->ledger, &ledger_ops, rig);
	fm_ledger_finish(rig->ledger);
	env.config = rig->config;
	env.store = rig->store;
	env.ledger = rig->ledger;
	if (fm_sink_ipfix_file.open(&rig->sink, &env, 0) < 0)
		abort();
}

/* Record number n: any that is missing or there twice shows in the sums. */
static void give(struct rig *rig, uint64_t n)
{
	const struct fm_record record = {.family = FM_FAMILY_IP4, .packets = n, .octets = n * n};

	rig->sink->ops->record(rig->sink, &record);
}

static void transaction(struct rig *rig, unsigned int seed)
{
	const struct fm_audit_row row = {.record.ifindex = 1};
	uint64_t n = rig->account->records, end = n + 1 + seed % AT_ONCE;

	for (; n < end && rig->sink->ops->room(rig->sink) > 0; n++)
		give(rig, n);
	if (seed % AUDIT_EACH == 0)
		rig->sink->ops->audit(rig->sink, &row);
	fm_ledger_add(rig->ledger)->value = n;
	fm_ledger_commit(rig->ledger);
}

/* Gives until it is killed. */
static void live(struct account *account, unsigned int seed)
{
	struct rig rig;
	sd_event *event;

	srandom(seed);
	if (sd_event_new(&event) < 0)
		abort();
	rig_open(&rig, account, event);
	rig.place = (enum place)(seed % _PLACE_MAX);
	rig.until = seed % 20;
	account->began = true;
	for (;;)
		transaction(&rig, (unsigned int)random());
}

static void kill_once(struct account *account, unsigned int seed)
{
	const struct timespec wait = {.tv_nsec = random() % (long)(fm_test_patience() * KILL_NS)};
	pid_t pid;

	account->began = false;
	pid = fork();
	if (pid == 0)
		live(account, seed);
	/* Some die while they take over. */
	while (seed % 3 && !__atomic_load_n(&account->began, __ATOMIC_ACQUIRE))
		sched_yield();
	nanosleep(&wait, NULL);
	kill(pid, SIGKILL);
	waitpid(pid, NULL, 0);
}

/* What is in a file; false: it is not whole. */
static bool read_file(int directory_fd, const char *name, struct fm_message_info *sum)
{
	_fm_cleanup_(fm_file_reader_freep) struct fm_file_reader *reader = NULL;
	struct fm_message_info info;
	const uint8_t *message;
	size_t size;

	if (fm_file_reader_new(&reader, directory_fd, name) < 0)
		return false;
	while (fm_file_reader_next(reader, UINT64_MAX, &message, &size, &info) > 0) {
		sum->records += info.records;
		sum->packets += info.packets;
		sum->octets += info.octets;
	}
	return fm_file_reader_rest(reader) == 0;
}

/* All files; returns how many, those that are not complete in *ret_parts. */
static unsigned int read_files(struct fm_message_info *ret, unsigned int *ret_parts,
			       bool *ret_whole)
{
	DIR *dir = opendir(directory);
	unsigned int n = 0;

	*ret = (struct fm_message_info){};
	*ret_parts = 0;
	*ret_whole = true;
	if (!dir)
		abort();
	for (struct dirent *entry; (entry = readdir(dir));) {
		if (entry->d_name[0] == '.')
			continue;
		n++;
		*ret_parts += strstr(entry->d_name, ".part") != NULL;
		*ret_whole &= read_file(dirfd(dir), entry->d_name, ret);
		unlinkat(dirfd(dir), entry->d_name, 0);
	}
	closedir(dir);
	return n;
}

static void test_ipfix_file(struct account *account)
{
	uint64_t packets = 0, octets = 0;
	struct fm_message_info sum;
	struct fm_sink_stats stats;
	unsigned int parts, n;
	struct rig rig;
	sd_event *event;
	bool whole;

	*account = (struct account){};
	for (unsigned int i = 0; i < KILLS; i++)
		kill_once(account, i);
	if (sd_event_new(&event) < 0)
		abort();
	rig_open(&rig, account, event);
	rig.sink->ops->close(rig.sink, fm_clock_monotonic_ns(), &stats);
	fm_store_clear(rig.store);
	fm_ledger_free(rig.ledger);
	fm_store_free(rig.store);
	fm_config_free(rig.config);
	sd_event_unref(event);
	for (uint64_t i = 0; i < account->records; i++) {
		packets += i;
		octets += i * i;
	}
	n = read_files(&sum, &parts, &whole);
	FM_TEST(n > KILLS / 10 && parts == 0 && whole, "ipfix_file: %u files, all complete", n);
	FM_TEST(sum.records == account->records && sum.packets == packets && sum.octets == octets,
		"ipfix_file: killed %d times: each of %" PRIu64 " records once (%u)", KILLS,
		account->records, sum.records);
	FM_TEST(stats.records == account->records && stats.packets == packets &&
			stats.octets == octets && !stats.not_sent_records,
		"ipfix_file: its own figures say so (%" PRIu64 ")", stats.records);
}

/* --- the audit --- */

#define INTERFACES 20
#define CPUS	   2
#define FIRST	   7 /* index of the first interface */

/* What is in maps elsewhere; and what each interface and hook was told of, a memo's value. */
struct world {
	struct fm_counters counters[FM_GATE_ELEMENT(CPUS + FM_GATE_BANKS, 0, 0)];
	struct fm_gate accounts[FM_GATE_BANKS * FM_GATES];
	__u64 table[FM_GATE_HOMES];
	uint64_t time_ns;
	bool began;
};

struct told {
	struct {
		uint64_t frames, end_ns;
	} of[INTERFACES][_FM_HOOK_MAX];
	uint64_t records, broken; /* intervals that do not begin where the last one ended */
};

struct audit_rig {
	struct world *world;
	struct fm_store *store;
	struct fm_ledger *ledger;
	struct fm_gates *gates;
	struct fm_memo *memo;
	struct fm_audit *audit;
	enum place place;
	unsigned int until;
};

static void die_at(struct audit_rig *rig, enum place place)
{
	if (rig->place == place && rig->until-- == 0)
		raise(SIGKILL);
}

static void audit_prepare(void *userdata, uint64_t serial)
{
	struct audit_rig *rig = userdata;

	fm_memo_prepare(rig->memo, serial);
	die_at(rig, PLACE_PREPARED);
}

static void audit_apply(void *userdata, const struct fm_ledger_entry *entry)
{
}

static void audit_publish(void *userdata)
{
	struct audit_rig *rig = userdata;

	die_at(rig, PLACE_COMMITTED);
	fm_memo_publish(rig->memo);
	die_at(rig, PLACE_APPLIED);
}

static int audit_read(void *userdata, uint32_t ifindex, enum fm_hook hook, uint64_t *ret_frames,
		      uint64_t *ret_octets)
{
	*ret_frames = *ret_octets = 0;
	return 0;
}

static void audit_tell(void *userdata, const struct fm_audit_row *row)
{
	const struct fm_audit_record *record = &row->record;
	struct audit_rig *rig = userdata;
	struct told *told = fm_memo_value(rig->memo);
	uint32_t interface = record->ifindex - FIRST;

	if (record->ifindex < FIRST || interface >= INTERFACES)
		return;
	told->records++;
	told->broken += told->of[interface][record->direction].end_ns != 0 &&
			told->of[interface][record->direction].end_ns != record->start_ns;
	told->of[interface][record->direction].end_ns = record->end_ns;
	told->of[interface][record->direction].frames += record->frames;
}

static void audit_finish(void *userdata, const struct fm_ledger_found *found)
{
}

static const struct fm_ledger_ops audit_ops = {audit_prepare, audit_publish, audit_apply,
					       audit_finish};

static void audit_open(struct audit_rig *rig, struct world *world)
{
	struct fm_audit_env env = {.read = audit_read, .tell = audit_tell, .userdata = rig};

	*rig = (struct audit_rig){.world = world};
	if (fm_store_new(&rig->store, pins) < 0 || fm_ledger_new(&rig->ledger, rig->store, 2) < 0)
		abort();
	fm_ledger_set_ops(rig->ledger, &audit_ops, rig);
	fm_ledger_finish(rig->ledger);
	if (fm_memo_new(&rig->memo, rig->store, "memo-test", sizeof(struct told),
			fm_ledger_committed(rig->ledger)) < 0 ||
	    fm_gates_new(&rig->gates, CPUS, world->counters, world->accounts, world->table, 0) < 0)
		abort();
	for (uint32_t i = 0; i < INTERFACES; i++)
		for (int hook = 0; hook < _FM_HOOK_MAX; hook++)
			fm_gates_open(rig->gates, FIRST + i, (enum fm_hook)hook);
	env.gates = rig->gates;
	env.ledger = rig->ledger;
	env.store = rig->store;
	if (fm_audit_new(&rig->audit, &env) < 0)
		abort();
	fm_audit_follow(rig->audit, ++world->time_ns);
}

static struct fm_counters *counters_of(struct audit_rig *rig, unsigned int interface,
				       unsigned int cpu, unsigned int hook)
{
	unsigned int gate = fm_gates_find(rig->gates, FIRST + interface);

	return &rig->world->counters[FM_GATE_ELEMENT(cpu, gate, hook)];
}

/* Packets come, an interval ends, again and again. */
static void audit_live(struct world *world, unsigned int seed)
{
	struct audit_rig rig;

	srandom(seed);
	audit_open(&rig, world);
	rig.place = (enum place)(seed % _PLACE_MAX);
	rig.until = seed % 10;
	world->began = true;
	for (;;) {
		for (unsigned int i = 0; i < INTERFACES; i++)
			counters_of(&rig, i, i % CPUS, i % 2)->frames += (uint64_t)random() % 1000;
		fm_audit_run(rig.audit, ++world->time_ns);
	}
}

static void test_audit(void)
{
	struct world *world = mmap(NULL, sizeof(*world), PROT_READ | PROT_WRITE,
				   MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	const struct told *told;
	struct audit_rig rig;
	unsigned int wrong = 0;
	uint64_t all = 0;

	if (world == MAP_FAILED)
		abort();
	/* The first intervals begin before anything is counted. */
	audit_open(&rig, world);
	fm_store_free(rig.store);
	for (unsigned int seed = 0; seed < KILLS; seed++) {
		const struct timespec wait = {.tv_nsec = random() %
							 (long)(fm_test_patience() * KILL_NS)};
		pid_t pid;

		world->began = false;
		pid = fork();
		if (pid == 0)
			audit_live(world, seed);
		while (seed % 3 && !__atomic_load_n(&world->began, __ATOMIC_ACQUIRE))
			sched_yield();
		nanosleep(&wait, NULL);
		kill(pid, SIGKILL);
		waitpid(pid, NULL, 0);
	}
	audit_open(&rig, world);
	fm_audit_run(rig.audit, ++world->time_ns);
	told = fm_memo_value(rig.memo);
	for (unsigned int i = 0; i < INTERFACES; i++)
		for (unsigned int hook = 0; hook < _FM_HOOK_MAX; hook++) {
			uint64_t counted = 0;

			for (unsigned int cpu = 0; cpu < CPUS; cpu++)
				counted += counters_of(&rig, i, cpu, hook)->frames;
			wrong += told->of[i][hook].frames != counted;
			all += counted;
		}
	FM_TEST(wrong == 0 && all > 0,
		"audit: killed %d times: told of each interface what was counted (%" PRIu64
		" frames in %" PRIu64 " records)",
		KILLS, all, told->records);
	FM_TEST(told->broken == 0, "audit: every interval begins where the last one ended");
	fm_store_clear(rig.store);
	fm_audit_free(rig.audit);
	fm_memo_free(rig.memo);
	fm_gates_free(rig.gates);
	fm_ledger_free(rig.ledger);
	fm_store_free(rig.store);
	munmap(world, sizeof(*world));
}

int main(void)
{
	struct account *account;

	if (geteuid() != 0)
		return fm_test_skip_all("needs root");
	if (!mkdtemp(root) || unshare(CLONE_NEWNS) < 0 ||
	    mount(NULL, "/", NULL, MS_REC | MS_PRIVATE, NULL) < 0)
		abort();
	snprintf(directory, sizeof(directory), "%s/files", root);
	snprintf(pins, sizeof(pins), "%s/bpf", root);
	if (mkdir(directory, 0700) < 0 || mkdir(pins, 0700) < 0 ||
	    mount("bpf", pins, "bpf", 0, NULL) < 0)
		abort();
	snprintf(pins, sizeof(pins), "%s/bpf/flowmond", root);
	account = mmap(NULL, sizeof(*account), PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS,
		       -1, 0);
	if (account == MAP_FAILED)
		abort();
	test_ipfix_file(account);
	test_audit();
	munmap(account, sizeof(*account));
	snprintf(pins, sizeof(pins), "%s/bpf", root);
	umount2(pins, MNT_DETACH);
	rmdir(pins);
	rmdir(directory);
	rmdir(root);
	return fm_test_done();
}
