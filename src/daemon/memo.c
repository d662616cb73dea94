/* SPDX-License-Identifier: Apache-2.0 */
/* Memos: see memo.h. */
#include "daemon/memo.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "base/macro.h"
#include "daemon/region.h"

#define MAGIC	"fmmemo"
#define VERSION 1
#define PAGE	4096u

/* In shared memory. */
struct header {
	char magic[8];
	uint32_t version, octets;
	uint64_t serial; /* of prepared; 0: there is nothing prepared */
	uint32_t which, unused;
	uint8_t published[2][FM_MEMO_OCTETS_MAX]; /* in turns: the one that counts is whole */
	uint8_t prepared[FM_MEMO_OCTETS_MAX];
};

_Static_assert(sizeof(struct header) <= PAGE, "a page");

struct fm_memo {
	struct fm_store *store;
	char name[FM_STORE_NAME_MAX];
	int fd;
	size_t octets;
	struct header *header;
	uint64_t now[FM_MEMO_OCTETS_MAX / sizeof(uint64_t)];
};

static bool adopt(struct fm_memo *memo, uint64_t committed)
{
	const struct header *header = memo->header;

	if (memcmp(header->magic, MAGIC, sizeof(MAGIC)) || header->version != VERSION ||
	    header->octets != memo->octets)
		return false;
	if (header->serial && header->serial <= committed)
		memcpy(memo->now, header->prepared, memo->octets);
	else
		memcpy(memo->now, header->published[header->which & 1], memo->octets);
	fm_memo_publish(memo);
	return true;
}

static int take(struct fm_memo *memo, uint64_t committed)
{
	int r, fd = fm_store_take(memo->store, memo->name);
	void *memory;

	if (fd < 0)
		return fd;
	r = fm_region_map_adopt(fd, 1, PAGE, &memory);
	if (r == 0) {
		memo->header = memory;
		if (adopt(memo, committed)) {
			memo->fd = fd;
			return 0;
		}
		fm_region_unmap(memory, 1, PAGE);
		memo->header = NULL;
		r = -EINVAL;
	}
	close(fd);
	fm_store_remove(memo->store, memo->name);
	return r;
}

static int make(struct fm_memo *memo)
{
	void *memory;
	int r;

	if (!memo->store) {
		memory = calloc(1, PAGE);
		if (!memory)
			return -ENOMEM;
	} else {
		r = fm_region_map_new("fm_memo", 1, PAGE, &memo->fd, &memory);
		if (r < 0)
			return r;
	}
	memo->header = memory;
	memo->header->version = VERSION;
	memo->header->octets = (uint32_t)memo->octets;
	memcpy(memo->header->magic, MAGIC, sizeof(MAGIC));
	return memo->store ? fm_store_put(memo->store, memo->name, memo->fd) : 0;
}

int fm_memo_new(struct fm_memo **ret, struct fm_store *store, const char *name, size_t octets,
		uint64_t committed)
{
	_fm_cleanup_(fm_memo_freep) struct fm_memo *memo = NULL;
	int r = -ENOENT;

	if (octets > FM_MEMO_OCTETS_MAX || strlen(name) >= FM_STORE_NAME_MAX)
		return -EINVAL;
	memo = calloc(1, sizeof(*memo));
	if (!memo)
		return -ENOMEM;
	memo->fd = -1;
	memo->store = store;
	memo->octets = octets;
	strcpy(memo->name, name);
	if (store)
		r = take(memo, committed);
	if (r < 0)
		r = make(memo);
	if (r < 0)
		return r;
	*ret = FM_TAKE_PTR(memo);
	return 0;
}

struct fm_memo *fm_memo_free(struct fm_memo *memo)
{
	if (!memo)
		return NULL;
	if (memo->fd >= 0) {
		fm_region_unmap(memo->header, 1, PAGE);
		close(memo->fd);
	} else {
		free(memo->header);
	}
	free(memo);
	return NULL;
}

void fm_memo_forget(struct fm_memo *memo)
{
	if (memo->store)
		fm_store_remove(memo->store, memo->name);
}

void *fm_memo_value(struct fm_memo *memo)
{
	return memo->now;
}

void fm_memo_prepare(struct fm_memo *memo, uint64_t serial)
{
	struct header *header = memo->header;

	__atomic_store_n(&header->serial, 0, __ATOMIC_RELEASE);
	__atomic_thread_fence(__ATOMIC_SEQ_CST);
	memcpy(header->prepared, memo->now, memo->octets);
	__atomic_store_n(&header->serial, serial, __ATOMIC_RELEASE);
}

void fm_memo_publish(struct fm_memo *memo)
{
	struct header *header = memo->header;
	uint32_t other = !(header->which & 1);

	memcpy(header->published[other], memo->now, memo->octets);
	__atomic_store_n(&header->which, other, __ATOMIC_RELEASE);
	__atomic_store_n(&header->serial, 0, __ATOMIC_RELEASE);
}
