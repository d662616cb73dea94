/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What outlives a process: the store, the outbox and the ledger, with processes that are killed at
 * every place in between. In a BPF file system of its own.
 */
#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <sched.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/macro.h"
#include "daemon/kept.h"
#include "daemon/ledger.h"
#include "daemon/numbering.h"
#include "daemon/outbox.h"
#include "daemon/region.h"
#include "daemon/store.h"
#include "test.h"

#define RING	(64 << 10)
#define OFFSET	8
#define DOMAIN	7
#define KILLS	60
#define ENTRIES 5

static char root[] = "/tmp/fm-survival-XXXXXX";
static char pins[64];

static struct fm_store *open_store(void)
{
	struct fm_store *store;

	if (fm_store_new(&store, pins) < 0)
		abort();
	return store;
}

static struct fm_outbox *open_outbox(struct fm_store *store, uint64_t committed,
				     struct fm_outbox_found *found)
{
	const struct fm_outbox_options options = {.store = store,
						  .name = "outbox-test",
						  .octets = RING,
						  .committed = committed,
						  .sequence_offset = OFFSET,
						  .account_octets = 64};
	struct fm_outbox *outbox;

	if (fm_outbox_new(&outbox, &options, found) < 0 || fm_outbox_keep(outbox) < 0)
		abort();
	return outbox;
}

/* Message number n has a length and contents of its own. */
static size_t make(uint32_t n, uint8_t message[2048])
{
	size_t size = 40 + n * 131 % 1400;

	memset(message, (int)n, size);
	memcpy(message, &n, sizeof(n));
	return size;
}

static bool append(struct fm_outbox *outbox, uint32_t n)
{
	const struct fm_message_info info = {
		.records = 3, .packets = n, .octets = 10 * n, .sequenced = 3, .domain = DOMAIN};
	uint8_t message[2048];

	return fm_outbox_append(outbox, message, make(n, message), &info);
}

/* The next message is number n, and numbered so. */
static bool is_next(struct fm_outbox *outbox, uint32_t n, uint64_t *ret_id)
{
	uint8_t expected[2048];
	struct fm_message_info info;
	const uint8_t *message;
	uint32_t sequence;
	size_t size;

	if (!fm_outbox_peek(outbox, &message, &size, &info) || size != make(n, expected) ||
	    memcmp(message, expected, OFFSET) ||
	    memcmp(message + OFFSET + 4, expected + OFFSET + 4, size - OFFSET - 4))
		return false;
	memcpy(&sequence, message + OFFSET, sizeof(sequence));
	*ret_id = info.outbox_id;
	return ntohl(sequence) == 3 * n && info.packets == n && info.records == 3;
}

static void test_store(void)
{
	struct fm_store *store = open_store(), *second = NULL;
	char path[128];
	int fd = -1, taken;

	FM_TEST(fm_store_new(&second, pins) == -EWOULDBLOCK, "a second process does not get it");
	FM_TEST(fm_store_new(&second, root) == -EMEDIUMTYPE, "only in a BPF file system");
	if (fm_region_map_new("fm_test", 1, 8, &fd, NULL) < 0)
		abort();
	FM_TEST(fm_store_put(store, "g3-about", fd) == 0 &&
			fm_store_put(store, "g3-about", fd) == -EEXIST &&
			fm_store_put(store, "../x", fd) == -EINVAL,
		"a name once, and only names");
	snprintf(path, sizeof(path), "%s/theirs", pins);
	if (mkdir(path, 0700) < 0)
		abort();
	store = fm_store_free(store);
	store = open_store();
	taken = fm_store_take(store, "g3-about");
	FM_TEST(taken >= 0 && fm_store_take(store, "g4-about") == -ENOENT,
		"a next process takes what is there");
	FM_TEST(fm_store_remove_rest(store) == 0, "what was taken is no rest");
	store = fm_store_free(store);
	store = open_store();
	FM_TEST(fm_store_remove_rest(store) == 1 && fm_store_take(store, "g3-about") == -ENOENT,
		"what nobody takes is removed");
	FM_TEST(access(path, F_OK) == 0, "what is not ours is not removed");
	rmdir(path);
	close(taken);
	close(fd);
	fm_store_clear(store);
	fm_store_free(store);
}

/* --- kept memory --- */

static const struct fm_kept_form kept_form = {
	.map = "fm_test",
	.magic = "fmtest",
	.version = 7,
	.value_size = FM_KEPT_PAGE,
};

/* A process that has taken what is kept, or made it; the second word of it is what it found. */
static int open_kept(struct fm_kept *kept, const struct fm_kept_form *form, uint32_t pages,
		     struct fm_store *store)
{
	int r = fm_kept_init(kept, form, store, "memo-kept", pages);

	if (r == 0)
		r = fm_kept_take(kept);
	if (r < 0 && (fm_kept_make(kept) < 0 || fm_kept_put(kept) < 0))
		abort();
	return r;
}

/* A word of what is in the store. */
static void garble(struct fm_store *store, const char *name, size_t offset, uint32_t value)
{
	int fd = fm_store_take(store, name);
	uint32_t pages;
	void *memory;

	if (fd < 0 || fm_region_map_take(fd, FM_KEPT_PAGE, &pages, &memory) < 0)
		abort();
	memcpy((uint8_t *)memory + offset, &value, sizeof(value));
	fm_region_unmap(memory, pages, FM_KEPT_PAGE);
	close(fd);
}

static uint32_t *word(const struct fm_kept *kept)
{
	return (uint32_t *)((uint8_t *)kept->memory + 2 * FM_KEPT_PAGE - sizeof(uint32_t));
}

/* What a next process makes of it, and whether that is in the store. */
static int next_kept(const struct fm_kept_form *form, uint32_t pages, bool *ret_good)
{
	struct fm_store *store = open_store();
	struct fm_kept kept;
	int r = open_kept(&kept, form, pages, store);

	*ret_good = *word(&kept) == (r < 0 ? 0 : 5);
	*word(&kept) = 5;
	fm_kept_done(&kept);
	fm_store_free(store);
	store = open_store();
	*ret_good &= open_kept(&kept, form, pages, store) == 0 && *word(&kept) == 5;
	fm_kept_done(&kept);
	fm_store_free(store);
	return r;
}

/* Memory is taken if it is of this form, else it is forgotten and made anew. */
static void test_kept(void)
{
	struct fm_kept_form form = kept_form;
	struct fm_store *store;
	struct fm_kept kept;
	bool good, ours;

	FM_TEST(next_kept(&form, 4, &good) == -ENOENT && good, "kept: made, and found by the next");
	FM_TEST(next_kept(&form, 4, &good) == 0 && good, "kept: and by the one behind it");
	FM_TEST(next_kept(&form, 3, &good) == -EINVAL && good, "kept: of another size");
	form.version++;
	FM_TEST(next_kept(&form, 3, &good) == -EINVAL && good, "kept: of another version");
	form.magic = "fmother";
	FM_TEST(next_kept(&form, 3, &good) == -EINVAL && good, "kept: of another kind");
	form.value_size *= 2;
	FM_TEST(next_kept(&form, 3, &good) == -EINVAL && good, "kept: of other elements");
	store = open_store();
	FM_TEST(fm_kept_init(&kept, &form, store, "memo-kept", 8) == 0 &&
			fm_kept_take_any(&kept) == 0 && kept.n_elements == 3 && *word(&kept) == 5,
		"kept: of any size");
	FM_TEST(fm_kept_refuse(&kept) == -EINVAL && !fm_store_has(store, "memo-kept", &ours) &&
			fm_kept_take(&kept) == -ENOENT && fm_kept_make(&kept) == 0 &&
			kept.n_elements == 8 && *word(&kept) == 0,
		"kept: refused, it is over");
	FM_TEST(!fm_store_has(store, "memo-kept", &ours) && fm_kept_put(&kept) == 0 &&
			fm_kept_put(&kept) == 0 && fm_store_has(store, "memo-kept", &ours),
		"kept: in the store once it is put");
	fm_kept_forget(&kept);
	FM_TEST(!fm_store_has(store, "memo-kept", &ours), "kept: forgotten");
	fm_kept_done(&kept);
	fm_store_free(store);
	FM_TEST(open_kept(&kept, &form, 2, NULL) == -ENOENT && *word(&kept) == 0 && kept.fd < 0,
		"kept: without a store it is the process' own");
	fm_kept_done(&kept);
	memset(&kept, 0, sizeof(kept));
	fm_kept_done(&kept);
}

/* --- outbox --- */

/* Fills and empties in uneven steps: everything comes out, in order, many times round the ring. */
static void test_ring(void)
{
	struct fm_outbox_found found;
	struct fm_outbox *outbox = open_outbox(NULL, 0, &found);
	uint32_t in = 0, out = 0;
	bool good = true, full = false;
	uint64_t id;

	while (out < 2000 && good) {
		for (unsigned int i = 0; i < 1 + in % 97; i++) {
			if (!append(outbox, in)) {
				full = true;
				break;
			}
			in++;
		}
		fm_outbox_publish(outbox);
		for (unsigned int i = 0; i < 1 + out % 61 && out < in && good; i++, out++) {
			good = is_next(outbox, out, &id);
			fm_outbox_give(outbox);
			fm_outbox_done(outbox, id);
		}
	}
	FM_TEST(good && full, "2000 messages through a full ring, each once and in order");
	FM_TEST(fm_outbox_waiting(outbox) == in - out, "what waits is counted");
	fm_outbox_free(outbox);
}

/* One process: takes over, appends in transactions, sends, and is gone at a random moment. */
struct life {
	uint32_t sent;	     /* messages that are with the network */
	uint32_t committed;  /* messages of transactions that were committed */
	uint64_t unnoted[9]; /* of those sent, ids that the outbox was not told of */
	unsigned int n;
};

/* What an earlier life sent and did not note is done, and only that. */
static unsigned int settle(struct fm_outbox *outbox, struct life *life)
{
	unsigned int wrong = 0;
	struct fm_message_info info;
	size_t size;

	for (unsigned int i = 0; i < life->n; i++) {
		uint64_t id = life->unnoted[i];

		wrong += !fm_outbox_was_given(outbox, id) ||
			 fm_outbox_settle(outbox, id + 8, &size, &info) ||
			 !fm_outbox_settle(outbox, id, &size, &info) || info.records != 3 ||
			 info.outbox_id != id || fm_outbox_settle(outbox, id, &size, &info);
	}
	life->n = 0;
	return wrong;
}

static void test_kills(void)
{
	struct life life = {};
	uint64_t serial = 0;
	unsigned int wrong = 0;

	srandom(1);
	for (unsigned int i = 0; i < KILLS; i++) {
		struct fm_store *store = open_store();
		struct fm_outbox_found found;
		struct fm_outbox *outbox = open_outbox(store, serial, &found);
		uint32_t next = life.committed;
		uint64_t id;

		wrong += found.messages != life.committed - life.sent + life.n || found.unsound;
		wrong += settle(outbox, &life);
		for (unsigned int n = (unsigned int)random() % 9; n > 0 && append(outbox, next);
		     n--)
			next++;
		switch (random() % 4) {
		case 0: /* nothing was prepared */
			break;
		case 1: /* prepared, not committed */
			fm_outbox_prepare(outbox, serial + 1);
			break;
		case 2: /* committed, not published */
			fm_outbox_prepare(outbox, ++serial);
			life.committed = next;
			break;
		case 3:
			fm_outbox_prepare(outbox, ++serial);
			fm_outbox_publish(outbox);
			life.committed = next;
			for (unsigned int n = (unsigned int)random() % 9;
			     n > 0 && life.sent < life.committed; n--, life.sent++) {
				wrong += !is_next(outbox, life.sent, &id);
				fm_outbox_give(outbox);
				if (random() % 2)
					fm_outbox_done(outbox, id);
				else
					life.unnoted[life.n++] = id;
			}
			if (random() % 2 && is_next(outbox, life.sent, &id))
				fm_outbox_give(outbox); /* and it did not go */
			break;
		}
		fm_outbox_free(outbox);
		fm_store_free(store);
	}
	FM_TEST(wrong == 0 && life.sent > KILLS / 2,
		"%d kills: what is committed and not sent is there, and nothing else", KILLS);
}

/* More is done than was published. */
static void test_contradiction(void)
{
	struct fm_store *store = open_store();
	struct fm_outbox_found found;

	fm_outbox_free(open_outbox(store, 0, &found));
	garble(store, "outbox-test", 16, 64);
	fm_outbox_free(open_outbox(store, 0, &found));
	FM_TEST(found.unsound, "an outbox that contradicts itself is not taken");
	fm_store_clear(store);
	fm_store_free(store);
}

/* Any octets there: told to be unsound, or taken as they are, but never a crash or a hang. */
static void test_garbage(void)
{
	unsigned int unsound = 0;

	srandom(2);
	for (unsigned int i = 0; i < 300; i++) {
		struct fm_store *store = open_store();
		struct fm_outbox_found found;
		struct fm_outbox *outbox = open_outbox(store, 0, &found);
		struct fm_message_info info;
		const uint8_t *message;
		uint8_t *memory;
		size_t size;

		unsound += found.unsound;
		for (unsigned int n = 0; n < 20; n++)
			append(outbox, n);
		fm_outbox_publish(outbox);
		memory = (uint8_t *)fm_outbox_account(outbox);
		memory -= (uintptr_t)memory % 4096;
		for (unsigned int n = 0; n < 8; n++)
			memory[random() % (random() % 2 ? 256 : 30000)] = (uint8_t)random();
		fm_outbox_free(outbox);
		fm_store_free(store);
		store = open_store();
		outbox = open_outbox(store, 0, &found);
		for (unsigned int n = 0; n < 20; n++)
			fm_outbox_settle(outbox, (uint64_t)random() % RING, &size, &info);
		while (fm_outbox_peek(outbox, &message, &size, &info)) {
			fm_outbox_give(outbox);
			fm_outbox_done(outbox, info.outbox_id);
		}
		unsound += found.unsound;
		fm_outbox_forget(outbox);
		fm_outbox_free(outbox);
		fm_store_free(store);
	}
	FM_TEST(unsound > 100, "garbled 300 times: %u told", unsound);
}

/* Where a pin stands for another's outbox, it is not shared. */
static void test_names(void)
{
	struct fm_outbox_options options = {.name = "outbox-one", .octets = RING};
	struct fm_outbox *one = NULL, *two = NULL;
	struct fm_outbox_found found;
	int fd;

	options.store = open_store();
	if (fm_outbox_new(&one, &options, &found) < 0 || fm_outbox_keep(one) < 0)
		abort();
	fd = fm_store_take(options.store, "outbox-one");
	if (fd < 0 || fm_store_put(options.store, "outbox-two", fd) < 0)
		abort();
	close(fd);
	options.name = "outbox-two";
	FM_TEST(fm_outbox_new(&two, &options, &found) == 0 && found.unsound &&
			fm_outbox_account(one) != fm_outbox_account(two) && append(one, 1) &&
			(fm_outbox_publish(one), fm_outbox_waiting(two) == 0),
		"an outbox under another's name is not taken");
	fm_outbox_free(one);
	fm_outbox_free(two);
	fm_store_clear(options.store);
	fm_store_free(options.store);
}

/* --- ledger --- */

struct applying {
	const struct fm_ledger *ledger;
	unsigned int applied[ENTRIES];
	unsigned int n, die_at;
	uint64_t prepared; /* the last serial */
	bool prepared_after, published, published_before;
};

static void prepare(void *userdata, uint64_t serial)
{
	struct applying *applying = userdata;

	applying->prepared = serial;
	applying->prepared_after |= fm_ledger_committed(applying->ledger) >= serial;
}

static void publish(void *userdata)
{
	struct applying *applying = userdata;

	applying->published = true;
	applying->published_before |= fm_ledger_committed(applying->ledger) < applying->prepared;
}

static void apply(void *userdata, const struct fm_ledger_entry *entry)
{
	struct applying *applying = userdata;

	if (applying->n == applying->die_at)
		_exit(0);
	applying->n++;
	applying->published_before |= applying->published;
	if (entry->position < ENTRIES)
		applying->applied[entry->position]++;
}

static void finish(void *userdata, const struct fm_ledger_found *found)
{
	apply(userdata, &found->entry);
}

static const struct fm_ledger_ops ledger_ops = {prepare, publish, apply, finish};

static struct fm_ledger *open_ledger(struct fm_store *store, struct applying *applying)
{
	struct fm_ledger *ledger;

	if (fm_ledger_new(&ledger, store, 2) < 0)
		abort();
	fm_ledger_set_ops(ledger, &ledger_ops, applying);
	applying->ledger = ledger;
	return ledger;
}

/* A process that commits some entries, and dies when it carries out the one of this number. */
static void commit_and_die(unsigned int die_at)
{
	struct applying applying = {.die_at = die_at};
	pid_t pid = fork();

	if (pid == 0) {
		struct fm_ledger *ledger = open_ledger(open_store(), &applying);

		for (uint32_t i = 0; i < ENTRIES; i++)
			fm_ledger_add(ledger)->position = i;
		fm_ledger_commit(ledger);
		_exit(0);
	}
	waitpid(pid, NULL, 0);
}

static void test_ledger(void)
{
	for (unsigned int die_at = 0; die_at <= ENTRIES; die_at++) {
		struct applying applying = {.die_at = UINT32_MAX};
		struct fm_store *store;
		struct fm_ledger *ledger;
		size_t finished, again;
		bool good = true;

		commit_and_die(die_at);
		store = open_store();
		ledger = open_ledger(store, &applying);
		finished = fm_ledger_finish(ledger);
		again = fm_ledger_finish(ledger);
		for (unsigned int i = 0; i < ENTRIES; i++)
			good = good && applying.applied[i] == (die_at < ENTRIES);
		FM_TEST(good && finished == (die_at < ENTRIES ? ENTRIES : 0) && again == 0 &&
				fm_ledger_committed(ledger) == 1,
			"ledger: killed at entry %u: all are carried out by the next process, once",
			die_at);
		fm_ledger_add(ledger)->position = 0;
		fm_ledger_commit(ledger);
		FM_TEST(applying.published && !applying.published_before &&
				applying.prepared == 2 && !applying.prepared_after,
			"ledger: then it goes on; prepared, committed, carried out, sent");
		fm_ledger_forget(ledger);
		fm_ledger_free(ledger);
		fm_store_clear(store);
		fm_store_free(store);
	}
}

/* One that contradicts itself is over; nothing of it is carried out. */
static void test_garbled_ledger(void)
{
	static const struct {
		const char *what;
		size_t offset;
		uint32_t value;
	} rows[] = {
		{"of another kind", 0, 0x6d66},
		{"of another version", 8, 1},
		{"entries smaller than their heads", 12, 8},
		{"two transactions at once", 16, 3},
		{"more entries than there is room for", 32, UINT32_MAX / 2},
		{"accounts beyond their entry", 40, 1 << 20},
	};

	for (size_t i = 0; i < FM_ARRAY_SIZE(rows); i++) {
		struct applying applying = {.die_at = UINT32_MAX};
		struct fm_store *store;
		struct fm_ledger *ledger;

		commit_and_die(0);
		store = open_store();
		garble(store, "ledger", rows[i].offset, rows[i].value);
		ledger = open_ledger(store, &applying);
		FM_TEST(fm_ledger_committed(ledger) == 0 && fm_ledger_finish(ledger) == 0 &&
				applying.n == 0,
			"a garbled ledger: %s", rows[i].what);
		fm_ledger_free(ledger);
		fm_store_clear(store);
		fm_store_free(store);
	}
}

/* Which names have which numbers: kept, and begun anew where that cannot be. */
static void test_numbering(void)
{
	static const char names[][8] = {"blue", "red", "green"};
	struct fm_store *store = open_store();
	struct fm_numbering *numbering;
	unsigned int wrong = 0;
	void *memory = NULL;
	bool ours;
	int fd;

	wrong += fm_numbering_new(&numbering, store) < 0 || fm_numbering_name(numbering, 1);
	wrong += fm_store_has(store, "namespaces", &ours);
	for (unsigned int i = 0; i < 3; i++)
		fm_numbering_add(numbering, i + 1, names[i]);
	fm_numbering_free(numbering);
	fm_store_free(store);
	store = open_store();
	wrong += fm_numbering_new(&numbering, store) < 0;
	for (unsigned int i = 0; i < 3; i++)
		wrong += !fm_numbering_name(numbering, i + 1) ||
			 strcmp(fm_numbering_name(numbering, i + 1), names[i]) != 0;
	FM_TEST(wrong == 0 && !fm_numbering_name(numbering, 4),
		"a namespace has the same number in the next process");
	fd = fm_store_take(store, "namespaces");
	wrong += fm_region_map_adopt(fd, 128, 256, &memory) < 0;
	strcpy((char *)memory + 3 * 256, "blue");
	fm_region_unmap(memory, 128, 256);
	close(fd);
	fm_numbering_free(numbering);
	wrong += fm_numbering_new(&numbering, store) < 0;
	FM_TEST(wrong == 0 && !fm_numbering_name(numbering, 1) &&
			!fm_store_has(store, "namespaces", &ours),
		"a name with two numbers: they begin anew");
	fm_numbering_free(numbering);
	fm_store_clear(store);
	fm_store_free(store);
}

int main(void)
{
	if (geteuid() != 0)
		return fm_test_skip_all("needs root");
	if (!mkdtemp(root) || unshare(CLONE_NEWNS) < 0 ||
	    mount(NULL, "/", NULL, MS_REC | MS_PRIVATE, NULL) < 0)
		abort();
	snprintf(pins, sizeof(pins), "%s/bpf", root);
	if (mkdir(pins, 0700) < 0 || mount("bpf", pins, "bpf", 0, NULL) < 0)
		abort();
	snprintf(pins, sizeof(pins), "%s/bpf/flowmond", root);
	test_store();
	test_kept();
	test_ring();
	test_kills();
	test_contradiction();
	test_garbage();
	test_names();
	test_ledger();
	test_garbled_ledger();
	test_numbering();
	snprintf(pins, sizeof(pins), "%s/bpf", root);
	umount2(pins, MNT_DETACH);
	rmdir(pins);
	rmdir(root);
	return fm_test_done();
}
