/* SPDX-License-Identifier: Apache-2.0 */
/* What an earlier process left: see found.h. */
#include "daemon/found.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/log.h"
#include "base/macro.h"
#include "daemon/ring.h"
#include "daemon/sweep.h"
#include "daemon/translate.h"

static void about_name(enum fm_about_kind kind, unsigned int number, char ret[FM_STORE_NAME_MAX])
{
	if (kind == FM_ABOUT_TABLES)
		fm_generation_part_name(number, "about", ret);
	else
		fm_kernel_shared_name(number, "about", ret);
}

static unsigned int above(unsigned int next, uint32_t number)
{
	return number >= next && number < UINT32_MAX ? number + 1 : next;
}

/* Signs, leading zeros and numbers that are too large are not ours. */
static void note_book(struct fm_found_book *books, size_t *n, enum fm_about_kind kind,
		      const char *name, unsigned int number)
{
	char again[FM_STORE_NAME_MAX];

	about_name(kind, number, again);
	if (strcmp(name, again) || number == UINT32_MAX || *n == FM_FOUND_MAX)
		return;
	books[(*n)++].number = number;
}

static void note_name(void *userdata, const char *name)
{
	struct fm_found *found = userdata;
	unsigned int number;

	if (sscanf(name, "g%u-", &number) == 1) {
		note_book(found->tables, &found->n_tables, FM_ABOUT_TABLES, name, number);
		found->next_tables = above(found->next_tables, number);
	} else if (sscanf(name, "shared-%u-", &number) == 1) {
		note_book(found->shared, &found->n_shared, FM_ABOUT_SHARED, name, number);
		found->next_shared = above(found->next_shared, number);
	}
}

/* Out of the store; the description first: without it the rest is nothing. */
static void forget(struct fm_store *store, enum fm_about_kind kind, unsigned int number)
{
	char name[FM_STORE_NAME_MAX];

	about_name(kind, number, name);
	fm_store_remove(store, name);
	name[strlen(name) - strlen("about")] = '\0';
	fm_store_remove_all(store, name);
}

static int read_book(struct fm_store *store, enum fm_about_kind kind, struct fm_found_book *book)
{
	_fm_cleanup_close_ int fd = -1;
	char name[FM_STORE_NAME_MAX];
	int r;

	about_name(kind, book->number, name);
	fd = fm_store_take(store, name);
	if (fd < 0)
		return fd;
	book->about = malloc(sizeof(*book->about));
	if (!book->about)
		return -ENOMEM;
	r = fm_about_read(fd, NULL, book->about);
	if (r == 0 && book->about->kind != kind)
		r = -EINVAL;
	if (r < 0) {
		free(book->about);
		book->about = NULL;
	}
	return r;
}

static const char *describe(enum fm_about_kind kind)
{
	return kind == FM_ABOUT_TABLES ? "tables" : "counters and ring";
}

/* Those that cannot be believed go. */
static int read_books(struct fm_store *store, enum fm_about_kind kind, struct fm_found_book *books,
		      size_t *n)
{
	size_t kept = 0;

	for (size_t i = 0; i < *n; i++) {
		int r = read_book(store, kind, &books[i]);

		if (r == -ENOMEM)
			return r;
		if (r == 0) {
			books[kept++] = books[i];
			continue;
		}
		fm_log_warning("%s %u of an earlier process cannot be used: %s", describe(kind),
			       books[i].number, strerror(-r));
		forget(store, kind, books[i].number);
	}
	*n = kept;
	return 0;
}

static bool lists(const uint32_t *numbers, uint32_t n, unsigned int number)
{
	for (uint32_t i = 0; i < n; i++)
		if (numbers[i] == number)
			return true;
	return false;
}

static const struct fm_about_taken *taken_by(const struct fm_found_book *book)
{
	return &book->about->taken[book->about->which & 1];
}

static bool tables_taken(const struct fm_found *found, unsigned int number)
{
	for (size_t i = 0; i < found->n_tables; i++) {
		const struct fm_about_taken *taken = taken_by(&found->tables[i]);

		if (found->tables[i].number != number &&
		    lists(taken->tables, taken->n_tables, number))
			return true;
	}
	return false;
}

static bool counters_taken(const struct fm_found *found, unsigned int number)
{
	for (size_t i = 0; i < found->n_shared; i++) {
		const struct fm_about_taken *taken = taken_by(&found->shared[i]);

		if (found->shared[i].number != number &&
		    lists(taken->shared, taken->n_shared, number))
			return true;
	}
	return false;
}

static bool ring_taken(const struct fm_found *found, unsigned int number)
{
	for (size_t i = 0; i < found->n_tables; i++) {
		const struct fm_about_taken *taken = taken_by(&found->tables[i]);

		if (lists(taken->shared, taken->n_shared, number))
			return true;
	}
	return false;
}

/* What others took a killed process could not forget any more. */
static void drop_taken(struct fm_found *found, enum fm_about_kind kind, struct fm_found_book *books,
		       size_t *n)
{
	bool is_taken[FM_FOUND_MAX];
	size_t kept = 0;

	for (size_t i = 0; i < *n; i++)
		is_taken[i] = kind == FM_ABOUT_TABLES ? tables_taken(found, books[i].number)
						      : counters_taken(found, books[i].number);
	for (size_t i = 0; i < *n; i++) {
		if (!is_taken[i]) {
			books[kept++] = books[i];
			continue;
		}
		forget(found->store, kind, books[i].number);
		free(books[i].about);
	}
	*n = kept;
}

/* Numbers that neither are in the store nor are said to be taken. */
static void set_numbers(struct fm_found *found)
{
	for (size_t i = 0; i < found->n_tables + found->n_shared; i++) {
		const struct fm_found_book *book = i < found->n_tables
							   ? &found->tables[i]
							   : &found->shared[i - found->n_tables];

		for (unsigned int bank = 0; bank < 2; bank++) {
			const struct fm_about_taken *taken = &book->about->taken[bank];

			for (uint32_t k = 0; k < taken->n_tables; k++)
				found->next_tables = above(found->next_tables, taken->tables[k]);
			for (uint32_t k = 0; k < taken->n_shared; k++)
				found->next_shared = above(found->next_shared, taken->shared[k]);
		}
	}
	fm_kernel_set_numbers(found->kernel, found->next_tables, found->next_shared);
}

/* The newest of this layout goes on, all others are read. */
static int open_shared(struct fm_found *found)
{
	const struct fm_found_book *best = NULL;
	int r;

	for (size_t i = 0; i < found->n_shared; i++) {
		const struct fm_found_book *book = &found->shared[i];

		if (fm_about_is_own(book->about) && !ring_taken(found, book->number) &&
		    (!best || best->number < book->number))
			best = book;
	}
	found->goes_on = best && fm_kernel_adopt(found->kernel, best->number) == 0;
	for (size_t i = 0; i < found->n_shared; i++) {
		struct fm_foreign_shared **foreign =
			&found->foreign_shared[found->n_foreign_shared];

		if (found->goes_on && &found->shared[i] == best)
			continue;
		r = fm_foreign_shared_open(foreign, found->store, found->shared[i].number,
					   found->shared[i].about);
		if (r < 0)
			return r;
		(*foreign)->ring_taken = ring_taken(found, found->shared[i].number);
		found->n_foreign_shared++;
		if (!(*foreign)->counters || !(*foreign)->gates)
			fm_log_warning(
				"counters %u of an earlier process cannot be read: they begin at 0",
				found->shared[i].number);
		if ((*foreign)->ring_fd < 0)
			fm_log_warning(
				"ring %u of an earlier process is not there: what was on it is lost",
				found->shared[i].number);
	}
	return 0;
}

/* The newest that was in use goes on; all others are to be emptied. */
static void sort_in(struct fm_found *found, struct fm_generation *generation)
{
	struct fm_generation *other = generation;

	if (generation->about->state == FM_ABOUT_CURRENT &&
	    (!found->current || found->current->number < generation->number)) {
		other = found->current;
		found->current = generation;
	}
	if (other)
		found->replaced[found->n_replaced++] = other;
}

static int open_tables(struct fm_found *found)
{
	for (size_t i = 0; i < found->n_tables; i++) {
		const struct fm_found_book *book = &found->tables[i];
		struct fm_foreign **foreign = &found->foreign[found->n_foreign];
		struct fm_generation *generation = NULL;
		int r = fm_generation_adopt(&generation, found->kernel, book->number);

		if (r == 0) {
			sort_in(found, generation);
			continue;
		}
		if (r != -EINVAL)
			return r;
		r = fm_foreign_open(foreign, found->store, book->number, book->about);
		if (r < 0)
			return r;
		found->n_foreign++;
		if ((*foreign)->broken)
			fm_log_warning(
				"tables %u of an earlier process: those of %u CPUs cannot be read, their packets are lost",
				book->number, (*foreign)->broken);
	}
	return 0;
}

int fm_found_open(struct fm_found *found, struct fm_store *store, struct fm_kernel *kernel)
{
	int r;

	*found = (struct fm_found){.store = store, .kernel = kernel};
	fm_store_each(store, note_name, found);
	r = read_books(store, FM_ABOUT_TABLES, found->tables, &found->n_tables);
	if (r == 0)
		r = read_books(store, FM_ABOUT_SHARED, found->shared, &found->n_shared);
	if (r < 0)
		return r;
	set_numbers(found);
	drop_taken(found, FM_ABOUT_TABLES, found->tables, &found->n_tables);
	drop_taken(found, FM_ABOUT_SHARED, found->shared, &found->n_shared);
	r = open_shared(found);
	return r < 0 ? r : open_tables(found);
}

void fm_found_done(struct fm_found *found)
{
	for (size_t i = 0; i < found->n_replaced; i++)
		fm_generation_free(found->replaced[i]);
	for (size_t i = 0; i < found->n_foreign; i++)
		fm_foreign_free(found->foreign[i]);
	for (size_t i = 0; i < found->n_foreign_shared; i++)
		fm_foreign_shared_free(found->foreign_shared[i]);
	for (size_t i = 0; i < found->n_tables; i++)
		free(found->tables[i].about);
	for (size_t i = 0; i < found->n_shared; i++)
		free(found->shared[i].about);
	fm_generation_free(found->current);
	*found = (struct fm_found){};
}

/* --- the ledger --- */

static void consume(int fd, uint64_t position)
{
	_fm_cleanup_(fm_ring_freep) struct fm_ring *ring = NULL;

	if (fd >= 0 && fm_ring_new(&ring, fd) == 0)
		fm_ring_consume(ring, position);
}

static void finish_ring(const struct fm_found *found, const struct fm_ledger_entry *entry)
{
	if (found->goes_on && entry->generation == fm_kernel_shared(found->kernel))
		consume(fm_kernel_overflow_fd(found->kernel), entry->value);
	for (size_t i = 0; i < found->n_foreign_shared; i++)
		if (found->foreign_shared[i]->number == entry->generation)
			consume(found->foreign_shared[i]->ring_fd, entry->value);
}

/* Accounts of tables of this layout are laid out as this one's. */
static void finish_own(struct fm_generation *generation, const struct fm_ledger_found *found)
{
	struct fm_ledger_entry entry = found->entry;

	if (found->exported_size != sizeof(entry.exported) ||
	    found->tcp_exported_size != sizeof(entry.tcp_exported))
		return;
	memcpy(&entry.exported, found->exported, sizeof(entry.exported));
	memcpy(&entry.tcp_exported, found->tcp_exported, sizeof(entry.tcp_exported));
	fm_sweep_apply(generation, &entry);
}

void fm_found_finish(struct fm_found *found, const struct fm_ledger_found *entry)
{
	if (entry->entry.op == FM_LEDGER_CONSUMED) {
		finish_ring(found, &entry->entry);
		return;
	}
	if (found->current && found->current->number == entry->entry.generation)
		finish_own(found->current, entry);
	for (size_t i = 0; i < found->n_replaced; i++)
		if (found->replaced[i]->number == entry->entry.generation)
			finish_own(found->replaced[i], entry);
	for (size_t i = 0; i < found->n_foreign; i++)
		if (found->foreign[i]->number == entry->entry.generation)
			fm_foreign_apply(found->foreign[i], entry);
}

void fm_found_repair(struct fm_found *found)
{
	if (found->current)
		fm_generation_repair(found->current);
	for (size_t i = 0; i < found->n_replaced; i++)
		fm_generation_repair(found->replaced[i]);
}

/* --- of another layout --- */

void fm_found_inherit(struct fm_found *found)
{
	for (size_t i = 0; i < found->n_foreign_shared; i++)
		if (found->foreign_shared[i]->ifaces_fd >= 0)
			fm_kernel_inherit_seen(found->kernel, found->foreign_shared[i]->ifaces_fd);
}

bool fm_found_waits(const struct fm_found *found)
{
	return found->n_replaced || found->n_foreign || found->n_foreign_shared;
}

static void tell(const struct fm_translated *told)
{
	fm_log_info(
		"took over %llu flows, %llu packets of rings and all counters of another layout",
		(unsigned long long)(told->slots), (unsigned long long)told->events);
	if (told->unplaced)
		fm_log_warning("lost %llu of them, %llu packets: there was no place for them",
			       (unsigned long long)told->unplaced,
			       (unsigned long long)told->unplaced_packets);
}

/*
 * In this order: tables are published with the numbers of all they stand for, then counters with
 * theirs; what is found with its number in such a list is over, so that it may be forgotten late.
 */
int fm_found_take_over(struct fm_found *found)
{
	struct fm_generation *generation = NULL;
	struct fm_translated told;
	int r;

	if (!found->n_foreign && !found->n_foreign_shared)
		return 0;
	r = fm_translate_tables(&generation, found->kernel, found->foreign, found->n_foreign,
				found->foreign_shared, found->n_foreign_shared, &told);
	if (r < 0)
		return r;
	if (generation)
		found->replaced[found->n_replaced++] = generation;
	if (found->n_foreign_shared)
		r = fm_translate_counters(found->kernel, found->foreign_shared,
					  found->n_foreign_shared);
	if (r < 0)
		return r;
	tell(&told);
	for (size_t i = 0; i < found->n_foreign; i++)
		forget(found->store, FM_ABOUT_TABLES, found->foreign[i]->number);
	for (size_t i = 0; i < found->n_foreign_shared; i++)
		forget(found->store, FM_ABOUT_SHARED, found->foreign_shared[i]->number);
	return 0;
}
