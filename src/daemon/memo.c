/* SPDX-License-Identifier: Apache-2.0 */
/* Memos: see memo.h. */
#include "daemon/memo.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "base/macro.h"
#include "daemon/kept.h"

static const struct fm_kept_form kept_form = {
	.map = "fm_memo",
	.magic = "fmmemo",
	.version = 1,
	.value_size = FM_KEPT_PAGE,
};

/* In shared memory. */
struct header {
	struct fm_kept_head head;
	uint32_t octets;
	uint64_t serial; /* of prepared; 0: there is nothing prepared */
	uint32_t which, unused;
	uint8_t published[2][FM_MEMO_OCTETS_MAX]; /* in turns: the one that counts is whole */
	uint8_t prepared[FM_MEMO_OCTETS_MAX];
};

_Static_assert(sizeof(struct header) <= FM_KEPT_PAGE, "a page");

struct fm_memo {
	struct fm_kept kept;
	size_t octets;
	struct header *header;
	uint64_t now[FM_MEMO_OCTETS_MAX / sizeof(uint64_t)];
};

static bool adopt(struct fm_memo *memo, uint64_t committed)
{
	const struct header *header = memo->header = memo->kept.memory;

	if (header->octets != memo->octets)
		return false;
	if (header->serial && header->serial <= committed)
		memcpy(memo->now, header->prepared, memo->octets);
	else
		memcpy(memo->now, header->published[header->which & 1], memo->octets);
	fm_memo_publish(memo);
	return true;
}

static int make(struct fm_memo *memo)
{
	int r = fm_kept_make(&memo->kept);

	if (r < 0)
		return r;
	memo->header = memo->kept.memory;
	memo->header->octets = (uint32_t)memo->octets;
	return fm_kept_put(&memo->kept);
}

int fm_memo_new(struct fm_memo **ret, struct fm_store *store, const char *name, size_t octets,
		uint64_t committed)
{
	_fm_cleanup_(fm_memo_freep) struct fm_memo *memo = NULL;
	int r;

	if (octets > FM_MEMO_OCTETS_MAX)
		return -EINVAL;
	memo = calloc(1, sizeof(*memo));
	if (!memo)
		return -ENOMEM;
	memo->octets = octets;
	r = fm_kept_init(&memo->kept, &kept_form, store, name, 1);
	if (r < 0)
		return r;
	r = fm_kept_take(&memo->kept);
	if (r == 0 && !adopt(memo, committed))
		r = fm_kept_refuse(&memo->kept);
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
	fm_kept_done(&memo->kept);
	free(memo);
	return NULL;
}

void fm_memo_forget(struct fm_memo *memo)
{
	fm_kept_forget(&memo->kept);
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
