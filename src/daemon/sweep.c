/* SPDX-License-Identifier: Apache-2.0 */
/* Taking flows out of the tables: see sweep.h. */
#include "daemon/sweep.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "base/macro.h"
#include "bpf/hash.h"

/* Slots of all regions that one window spans: their first lines fit into a core's cache. */
#define WINDOW_SLOTS 4096u
#define WINDOW_MIN   64u
/* Slots whose lines are fetched ahead of the scan, at most. */
#define AHEAD 24
/* The same of collecting. */
#define AHEAD_REFS 8
/* Slots marked before a fence; bounds the daemon's memory and what a fence delays. */
#define BATCH_REFS 65536
/* Conversations that one step of collecting handles. */
#define COLLECT_STEP 256

/* A slot that is being closed. Those of one conversation follow each other. */
struct ref {
	uint32_t position;
	uint16_t region;
	uint8_t reason;
	uint8_t more; /* the next one is of the same conversation */
};

enum phase {
	PHASE_NONE,
	PHASE_BEGIN,
	PHASE_SCAN,
	PHASE_FENCE,
	PHASE_COLLECT,
};

struct fm_sweep {
	struct fm_sweep_ops ops;
	void *userdata;
	struct fm_ledger *ledger; /* ops.ledger or own */
	struct fm_ledger *own;
	uint64_t
		kept_after; /* the transaction before the one that a slot was kept in last, and 1 */
	struct fm_generation *generation;
	struct fm_sweep_timeouts timeouts;
	uint32_t now;
	enum phase phase;
	enum fm_sweep_state state;
	bool recheck;
	bool drain;
	enum fm_end_reason drain_reason;

	uint16_t *regions; /* those that have slots */
	size_t n_regions;
	uint32_t window;	/* homes a window */
	uint32_t home;		/* next home to scan */
	uint32_t resume_region; /* where a scan without room stopped, inside the window */
	uint32_t resume_position;
	uint32_t keep_until; /* tombstones before this are younger than the last fence */
	bool tombstones_young;

	struct ref *refs;
	size_t n_refs, next_ref;
	struct fm_exported *now_sums; /* one a region */
	struct fm_tcp_exported *now_tcp_sums;
	uint64_t live, tombstones;
	struct fm_sweep_stats stats;
};

static uint32_t read_tag(const struct fm_slot *slot)
{
	return __atomic_load_n(&slot->tag, __ATOMIC_ACQUIRE);
}

static struct fm_slot *slot_at(const struct fm_sweep *sweep, uint16_t region, uint32_t position)
{
	return &sweep->generation->regions[region].slots[position];
}

static void own_apply(void *userdata, const struct fm_ledger_entry *entry)
{
	struct fm_sweep *sweep = userdata;

	fm_sweep_apply(sweep->generation, entry);
}

static void own_prepare(void *userdata, uint64_t serial)
{
}

static void own_publish(void *userdata)
{
}

/* For those who let nothing outlive them. */
static int make_ledger(struct fm_sweep *sweep)
{
	static const struct fm_ledger_ops ops = {
		.prepare = own_prepare,
		.publish = own_publish,
		.apply = own_apply,
	};
	int r = fm_ledger_new(&sweep->own, NULL, 1024);

	if (r < 0)
		return r;
	fm_ledger_set_ops(sweep->own, &ops, sweep);
	sweep->ledger = sweep->own;
	return 0;
}

int fm_sweep_new(struct fm_sweep **ret, const struct fm_sweep_ops *ops, void *userdata)
{
	_fm_cleanup_(fm_sweep_freep) struct fm_sweep *sweep = calloc(1, sizeof(*sweep));
	int r;

	if (!sweep)
		return -ENOMEM;
	sweep->ops = *ops;
	sweep->userdata = userdata;
	sweep->ledger = ops->ledger;
	if (!sweep->ledger) {
		r = make_ledger(sweep);
		if (r < 0)
			return r;
	}
	sweep->refs = calloc(BATCH_REFS, sizeof(*sweep->refs));
	if (!sweep->refs)
		return -ENOMEM;
	*ret = FM_TAKE_PTR(sweep);
	return 0;
}

struct fm_sweep *fm_sweep_free(struct fm_sweep *sweep)
{
	if (!sweep)
		return NULL;
	free(sweep->regions);
	free(sweep->refs);
	free(sweep->now_sums);
	free(sweep->now_tcp_sums);
	fm_ledger_free(sweep->own);
	free(sweep);
	return NULL;
}

/* Which CPUs have a table can have changed since the last sweep. */
static int list_regions(struct fm_sweep *sweep)
{
	const struct fm_generation *generation = sweep->generation;
	uint16_t *regions = reallocarray(sweep->regions, generation->n_cpus, sizeof(*regions));
	struct fm_exported *sums;
	struct fm_tcp_exported *tcp_sums;

	if (!regions)
		return -ENOMEM;
	sweep->regions = regions;
	sums = reallocarray(sweep->now_sums, generation->n_cpus, sizeof(*sums));
	if (!sums)
		return -ENOMEM;
	sweep->now_sums = sums;
	tcp_sums = reallocarray(sweep->now_tcp_sums, generation->n_cpus, sizeof(*tcp_sums));
	if (!tcp_sums)
		return -ENOMEM;
	sweep->now_tcp_sums = tcp_sums;
	sweep->n_regions = 0;
	for (unsigned int cpu = 0; cpu < generation->n_cpus; cpu++)
		if (generation->regions[cpu].slots)
			regions[sweep->n_regions++] = cpu;
	return 0;
}

/* Without memory it begins later: a table that is to be emptied is let go when its sweep ends. */
static enum fm_sweep_state step_begin(struct fm_sweep *sweep)
{
	if (list_regions(sweep) < 0)
		return FM_SWEEP_NO_ROOM;
	/* Whole blocks, so that each belongs to one window. */
	sweep->window = FM_MAX(WINDOW_MIN, WINDOW_SLOTS / (uint32_t)(sweep->n_regions + 1)) &
			~(FM_BLOCK_SLOTS - 1);
	/* Tombstones of the last sweep are freed by this one: only after a grace period. */
	sweep->phase = sweep->tombstones_young ? PHASE_FENCE : PHASE_SCAN;
	return sweep->tombstones_young ? FM_SWEEP_FENCE : FM_SWEEP_MORE;
}

static void begin(struct fm_sweep *sweep, struct fm_generation *generation, uint32_t now_tick)
{
	/* Of another table nobody knows how old its tombstones are. */
	if (sweep->generation != generation)
		sweep->tombstones_young = true;
	sweep->generation = generation;
	sweep->now = now_tick;
	sweep->home = 0;
	sweep->resume_region = 0;
	sweep->resume_position = 0;
	sweep->keep_until = 0;
	sweep->n_refs = 0;
	sweep->next_ref = 0;
	sweep->live = 0;
	sweep->tombstones = 0;
	sweep->recheck = false;
	sweep->drain = false;
	sweep->phase = PHASE_BEGIN;
	sweep->state = step_begin(sweep);
	if (sweep->state == FM_SWEEP_NO_ROOM) /* a step tries again */
		sweep->state = FM_SWEEP_MORE;
}

void fm_sweep_begin(struct fm_sweep *sweep, struct fm_generation *generation,
		    const struct fm_sweep_timeouts *timeouts, uint32_t now_tick, bool recheck)
{
	begin(sweep, generation, now_tick);
	sweep->timeouts = *timeouts;
	sweep->recheck = recheck;
}

void fm_sweep_begin_drain(struct fm_sweep *sweep, struct fm_generation *generation,
			  uint32_t now_tick, enum fm_end_reason reason)
{
	begin(sweep, generation, now_tick);
	sweep->drain = true;
	sweep->drain_reason = reason;
}

enum fm_sweep_state fm_sweep_current(const struct fm_sweep *sweep)
{
	return sweep->state;
}

const struct fm_sweep_stats *fm_sweep_get_stats(const struct fm_sweep *sweep)
{
	return &sweep->stats;
}

/* Whether the daemon should look closer: one line of the slot is read. */
static bool is_candidate(const struct fm_sweep *sweep, const struct fm_slot *slot)
{
	if (sweep->drain || sweep->recheck)
		return true;
	return (int32_t)(sweep->now - __atomic_load_n(&slot->due_tick, __ATOMIC_RELAXED)) >= 0 ||
	       (int32_t)(sweep->now - slot->mark_tick) >= (int32_t)sweep->timeouts.active;
}

/*
 * The partial slots of the key in all regions, as refs behind the batch's; returns their number.
 * They lie in the window that is being scanned, so this reads what is in the cache.
 */
static size_t find_partials(struct fm_sweep *sweep, const struct ref *candidate,
			    const struct fm_key *key, uint64_t hash)
{
	uint32_t home = fm_key_home(key, hash, sweep->generation->homes), tag = fm_hash_tag(hash);
	size_t n = 0;

	sweep->refs[sweep->n_refs + n++] = *candidate;
	for (size_t i = 0; i < sweep->n_regions; i++) {
		if (sweep->regions[i] == candidate->region)
			continue;
		for (uint32_t p = home; p < home + FM_PROBES; p++) {
			const struct fm_slot *slot = slot_at(sweep, sweep->regions[i], p);
			uint32_t seen = read_tag(slot);

			if (seen == FM_TAG_FREE)
				break;
			if (seen != tag || memcmp(&slot->key, key, sizeof(*key)))
				continue;
			sweep->refs[sweep->n_refs + n++] = (struct ref){
				.position = p,
				.region = sweep->regions[i],
			};
			break;
		}
	}
	return n;
}

/* Adds a slot and what lies beside it; what was read of it goes to place i. */
static void fold_ref(struct fm_sweep *sweep, const struct ref *ref, size_t i,
		     struct fm_conversation *ret)
{
	const struct fm_region *region = &sweep->generation->regions[ref->region];
	const struct fm_slot *slot = &region->slots[ref->position];

	fm_fold_slot(ret, slot, &region->exported[ref->position], &sweep->now_sums[i]);
	if (region->tcp)
		fm_fold_tcp(ret, slot, &region->tcp[ref->position],
			    &region->tcp_exported[ref->position], &sweep->now_tcp_sums[i]);
	if (region->tunnels)
		fm_fold_tunnel(ret, &region->tunnels[ref->position]);
}

static void fold_refs(struct fm_sweep *sweep, const struct ref *refs, size_t n,
		      const struct fm_key *key, struct fm_conversation *ret)
{
	fm_fold_init(ret, key);
	for (size_t i = 0; i < n; i++)
		fold_ref(sweep, &refs[i], i, ret);
}

void fm_sweep_apply(struct fm_generation *generation, const struct fm_ledger_entry *entry)
{
	struct fm_region *region;
	struct fm_slot *slot;

	if (entry->region >= generation->n_cpus || entry->position >= generation->n_slots)
		return;
	region = &generation->regions[entry->region];
	if (!region->slots)
		return;
	slot = &region->slots[entry->position];
	/* A slot that is not being closed was freed already, and has a next conversation by now. */
	if (entry->op == FM_LEDGER_FREE && slot->tag != FM_TAG_CLOSING)
		return;
	region->exported[entry->position] = entry->exported;
	if (region->tcp)
		region->tcp_exported[entry->position] = entry->tcp_exported;
	if (entry->op != FM_LEDGER_FREE)
		return;
	__atomic_store_n(&slot->tag, FM_TAG_TOMBSTONE, __ATOMIC_RELEASE);
	*fm_region_mark(region->slots, generation->n_slots, entry->position >> FM_BLOCK_SHIFT) = 1;
}

static struct fm_ledger_entry *note(struct fm_sweep *sweep, const struct ref *ref,
				    enum fm_ledger_op op)
{
	struct fm_ledger_entry *entry = fm_ledger_add(sweep->ledger);

	entry->op = op;
	entry->generation = sweep->generation->number;
	entry->region = ref->region;
	entry->position = ref->position;
	return entry;
}

/* What was read is exported: kept as that. */
static void keep_sums(struct fm_sweep *sweep, const struct ref *ref, size_t i)
{
	struct fm_ledger_entry *entry = note(sweep, ref, FM_LEDGER_KEEP);

	sweep->kept_after = fm_ledger_committed(sweep->ledger) + 1;
	entry->exported = sweep->now_sums[i];
	if (sweep->generation->regions[ref->region].tcp)
		entry->tcp_exported = sweep->now_tcp_sums[i];
}

static void make_room(struct fm_sweep *sweep)
{
	if (!fm_ledger_has_room(sweep->ledger))
		fm_ledger_commit(sweep->ledger);
}

/*
 * A region can have two slots of one key: one that a killed process was closing, and the one that
 * came after it. The partials of the first are then those of the second as well, and what was
 * exported of them has to be noted before they are read again.
 */
static void settle_kept(struct fm_sweep *sweep, const struct ref *refs, size_t n)
{
	if (sweep->kept_after != fm_ledger_committed(sweep->ledger) + 1)
		return;
	for (size_t i = 0; i < n; i++)
		if (slot_at(sweep, refs[i].region, refs[i].position)->mark_tick == sweep->now) {
			fm_ledger_commit(sweep->ledger);
			return;
		}
}

/* Goes on after an active timeout: what was exported is kept beside the slots. */
static void keep_open(struct fm_sweep *sweep, const struct ref *refs, size_t n,
		      const struct fm_conversation *conversation)
{
	if (fm_fold_pending(conversation))
		sweep->ops.conversation(sweep->userdata, conversation, FM_END_REASON_ACTIVE);
	for (size_t i = 0; i < n; i++) {
		keep_sums(sweep, &refs[i], i);
		__atomic_store_n(&slot_at(sweep, refs[i].region, refs[i].position)->mark_tick,
				 sweep->now, __ATOMIC_RELAXED);
	}
	sweep->stats.active++;
}

static void close_slots(struct fm_sweep *sweep, size_t n, enum fm_end_reason reason)
{
	struct ref *refs = &sweep->refs[sweep->n_refs];

	for (size_t i = 0; i < n; i++) {
		__atomic_store_n(&slot_at(sweep, refs[i].region, refs[i].position)->tag,
				 FM_TAG_CLOSING, __ATOMIC_RELAXED);
		refs[i].reason = reason;
		refs[i].more = i + 1 < n;
	}
	sweep->n_refs += n;
}

/* Nothing writes any more: exported and freed at once. */
static void drain_slots(struct fm_sweep *sweep, size_t n,
			const struct fm_conversation *conversation)
{
	const struct ref *refs = &sweep->refs[sweep->n_refs];

	if (fm_fold_pending(conversation))
		sweep->ops.conversation(sweep->userdata, conversation, sweep->drain_reason);
	for (size_t i = 0; i < n; i++) {
		__atomic_store_n(&slot_at(sweep, refs[i].region, refs[i].position)->tag,
				 FM_TAG_CLOSING, __ATOMIC_RELAXED);
		note(sweep, &refs[i], FM_LEDGER_FREE);
	}
	sweep->stats.closed++;
}

/*
 * Looks again when the latest of the partials is due: this CPU's alone would be found every time.
 * After timeouts changed, a time that was told by the old ones does not count.
 */
static void postpone(struct fm_sweep *sweep, size_t n, uint32_t due_tick)
{
	const struct ref *refs = &sweep->refs[sweep->n_refs];

	for (size_t i = 0; i < n; i++) {
		struct fm_slot *slot = slot_at(sweep, refs[i].region, refs[i].position);

		if (sweep->recheck || (int32_t)(sweep->now - slot->due_tick) >= 0)
			__atomic_store_n(&slot->due_tick, due_tick, __ATOMIC_RELAXED);
	}
}

/* A candidate and its partials: close, export and go on, or leave alone. */
static void decide(struct fm_sweep *sweep, const struct ref *candidate, const struct fm_key *key,
		   uint64_t hash)
{
	struct fm_conversation conversation;
	size_t n = find_partials(sweep, candidate, key, hash);
	const struct ref *refs = &sweep->refs[sweep->n_refs];
	uint32_t mark, last, quiet, idle;
	bool ended;

	make_room(sweep);
	settle_kept(sweep, refs, n);
	fold_refs(sweep, refs, n, key, &conversation);
	if (sweep->drain) {
		drain_slots(sweep, n, &conversation);
		return;
	}
	mark = slot_at(sweep, refs[0].region, refs[0].position)->mark_tick;
	for (size_t i = 1; i < n; i++) {
		uint32_t other = slot_at(sweep, refs[i].region, refs[i].position)->mark_tick;

		if ((int32_t)(mark - other) > 0)
			mark = other;
	}
	last = fm_fold_last_tick(&conversation);
	if (!conversation.seen[0] && !conversation.seen[1])
		last = mark;
	quiet = (int32_t)(sweep->now - last) > 0 ? sweep->now - last : 0;
	ended = fm_fold_ended(&conversation);
	idle = sweep->timeouts.brief && fm_fold_brief(&conversation) ? sweep->timeouts.brief
								     : sweep->timeouts.idle;
	if (quiet >= idle || (ended && quiet >= sweep->timeouts.linger)) {
		close_slots(sweep, n, ended ? FM_END_REASON_END : FM_END_REASON_IDLE);
		return;
	}
	if ((int32_t)(sweep->now - mark) >= (int32_t)sweep->timeouts.active)
		keep_open(sweep, refs, n, &conversation);
	if (!ended)
		postpone(sweep, n, last + idle);
	else if (sweep->recheck)
		postpone(sweep, n, last + sweep->timeouts.linger);
}

/* A run of tombstones from first up to a free slot: no chain goes through them. */
static void free_tombstones(struct fm_sweep *sweep, uint16_t region, uint32_t first, uint32_t end)
{
	for (uint32_t p = end; p > first; p--) {
		uint32_t expected = FM_TAG_TOMBSTONE;

		if (p - 1 < sweep->keep_until)
			return;
		if (!__atomic_compare_exchange_n(&slot_at(sweep, region, p - 1)->tag, &expected,
						 FM_TAG_FREE, false, __ATOMIC_RELEASE,
						 __ATOMIC_RELAXED))
			return;
		sweep->tombstones--;
	}
}

static uint8_t *mark_at(const struct fm_sweep *sweep, uint16_t region, uint32_t position)
{
	return fm_region_mark(sweep->generation->regions[region].slots, sweep->generation->n_slots,
			      position >> FM_BLOCK_SHIFT);
}

static struct fm_look *look_at(const struct fm_sweep *sweep, uint16_t region, uint32_t position)
{
	return &sweep->generation->regions[region].looks[position >> FM_BLOCK_SHIFT];
}

/*
 * Takes the mark of a block that begins at position; returns whether there was one. The program
 * puts it back when it created a slot or made one due sooner, after that is published: so either
 * this scan sees that, or the mark is there after it.
 */
static bool take_mark(const struct fm_sweep *sweep, uint16_t region, uint32_t position)
{
	uint8_t *mark = mark_at(sweep, region, position);

	return __atomic_load_n(mark, __ATOMIC_RELAXED) &&
	       __atomic_exchange_n(mark, 0, __ATOMIC_SEQ_CST);
}

/* The next scan is to look at the block of a slot. */
static void put_mark(const struct fm_sweep *sweep, uint16_t region, uint32_t position)
{
	__atomic_store_n(mark_at(sweep, region, position), 1, __ATOMIC_RELAXED);
}

/* Whether a block without a mark can be passed over: nothing in it is due. */
static bool is_quiet(const struct fm_sweep *sweep, uint16_t region, uint32_t position)
{
	const struct fm_look *look = look_at(sweep, region, position);

	if (!look->live)
		return true;
	return !sweep->drain && !sweep->recheck && (int32_t)(sweep->now - look->due_tick) < 0;
}

/* Passes over a block, or begins to look at it. */
static bool skip_block(struct fm_sweep *sweep, uint16_t region, uint32_t position)
{
	struct fm_look *look = look_at(sweep, region, position);

	if (!take_mark(sweep, region, position) && is_quiet(sweep, region, position)) {
		sweep->live += look->live;
		return true;
	}
	*look = (struct fm_look){};
	return false;
}

/* Where slots are fetched ahead of the scan: it goes from one to the next as that does. */
struct ahead {
	uint32_t position, to, end;
};

static void fetch_next(const struct fm_sweep *sweep, uint16_t region, struct ahead *ahead)
{
	while (ahead->position < ahead->to && ahead->position % FM_BLOCK_SLOTS == 0 &&
	       !__atomic_load_n(mark_at(sweep, region, ahead->position), __ATOMIC_RELAXED) &&
	       is_quiet(sweep, region, ahead->position))
		ahead->position += FM_BLOCK_SLOTS;
	if (ahead->position < ahead->end)
		__builtin_prefetch(&slot_at(sweep, region, ahead->position++)->tag);
}

/* What is to be known of a slot in use while its block is skipped. */
static void remember(const struct fm_sweep *sweep, uint16_t region, uint32_t position)
{
	const struct fm_slot *slot = slot_at(sweep, region, position);
	struct fm_look *look = look_at(sweep, region, position);
	uint32_t due = __atomic_load_n(&slot->due_tick, __ATOMIC_RELAXED);
	uint32_t active = slot->mark_tick + sweep->timeouts.active;

	if ((int32_t)(active - due) < 0)
		due = active;
	if (!look->live++ || (int32_t)(due - look->due_tick) < 0)
		look->due_tick = due;
}

/*
 * A slot in use, if it may be due and is one of the homes [from, to). False: there is no room to
 * do something about it.
 */
static bool examine(struct fm_sweep *sweep, uint16_t region, uint32_t position, uint32_t from,
		    uint32_t to)
{
	const struct fm_slot *slot = slot_at(sweep, region, position);
	struct fm_key key;
	uint64_t hash;
	uint32_t home;

	if (!is_candidate(sweep, slot))
		return true;
	key = slot->key;
	hash = fm_hash(&key, sweep->generation->seed);
	home = fm_key_home(&key, hash, sweep->generation->homes);
	if (home < from || home >= to)
		return true;
	if (sweep->n_refs + sweep->n_regions > BATCH_REFS || !sweep->ops.room(sweep->userdata))
		return false;
	decide(sweep, &(struct ref){.position = position, .region = region}, &key, hash);
	return true;
}

/*
 * One region's part of the window of homes [from, to). Its conversations lie in [from, to +
 * FM_PROBES - 1); those behind to that belong to later homes are left to their window. Returns
 * false where it stopped for want of room or refs.
 */
static bool scan_region(struct fm_sweep *sweep, uint16_t region, uint32_t from, uint32_t to)
{
	uint32_t homes = sweep->generation->all_homes, end = to + FM_PROBES - 1;
	uint32_t run = UINT32_MAX, p = FM_MAX(from, sweep->resume_position);
	struct ahead ahead = {.position = p, .to = to == homes ? end : to, .end = end};

	for (unsigned int i = 0; i < AHEAD; i++)
		fetch_next(sweep, region, &ahead);

	for (; p < end; p++) {
		struct fm_slot *slot = slot_at(sweep, region, p);
		bool own = p < ahead.to;
		uint32_t tag;

		if (own && p % FM_BLOCK_SLOTS == 0 && skip_block(sweep, region, p)) {
			if (run != UINT32_MAX && read_tag(slot) == FM_TAG_FREE)
				free_tombstones(sweep, region, run, p);
			run = UINT32_MAX;
			p += FM_BLOCK_SLOTS - 1;
			continue;
		}
		tag = read_tag(slot);
		fetch_next(sweep, region, &ahead);
		if (tag == FM_TAG_FREE && run != UINT32_MAX)
			free_tombstones(sweep, region, run, p);
		if (tag == FM_TAG_TOMBSTONE && own) {
			run = run == UINT32_MAX ? p : run;
			sweep->tombstones++;
			put_mark(sweep, region, p);
			continue;
		}
		run = UINT32_MAX;
		if (tag < FM_TAG_LIVE)
			continue;
		if (!examine(sweep, region, p, from, to)) {
			if (own)
				put_mark(sweep, region, p);
			sweep->resume_position = p;
			return false;
		}
		if (!own)
			continue;
		sweep->live++;
		remember(sweep, region, p);
	}
	if (to == homes && run != UINT32_MAX)
		free_tombstones(sweep, region, run, end);
	sweep->resume_position = 0;
	return true;
}

static enum fm_sweep_state go_to_fence(struct fm_sweep *sweep)
{
	sweep->phase = PHASE_FENCE;
	sweep->stats.fences++;
	return FM_SWEEP_FENCE;
}

static enum fm_sweep_state finish(struct fm_sweep *sweep)
{
	sweep->stats.sweeps++;
	sweep->stats.live_slots = sweep->live;
	sweep->stats.tombstones = sweep->tombstones;
	sweep->phase = PHASE_NONE;
	return FM_SWEEP_IDLE;
}

static enum fm_sweep_state step_scan(struct fm_sweep *sweep)
{
	uint32_t homes = sweep->generation->all_homes;
	uint32_t to = FM_MIN(homes, sweep->home + sweep->window);

	for (; sweep->resume_region < sweep->n_regions; sweep->resume_region++)
		if (!scan_region(sweep, sweep->regions[sweep->resume_region], sweep->home, to))
			return sweep->n_refs ? go_to_fence(sweep) : FM_SWEEP_NO_ROOM;
	sweep->resume_region = 0;
	sweep->home = to;
	if (to < homes)
		return FM_SWEEP_MORE;
	return sweep->n_refs ? go_to_fence(sweep) : finish(sweep);
}

/* Slots whose octets collecting reads soon lie anywhere: fetched so many refs before. */
static void fetch_ref(const struct fm_sweep *sweep, size_t i)
{
	const struct ref *ref = &sweep->refs[i];
	const struct fm_region *region;
	const struct fm_slot *slot;

	if (i >= sweep->n_refs)
		return;
	region = &sweep->generation->regions[ref->region];
	slot = &region->slots[ref->position];
	__builtin_prefetch(slot);
	__builtin_prefetch(&slot->half[0]);
	__builtin_prefetch(&slot->half[1]);
	__builtin_prefetch(&region->exported[ref->position]);
}

/* Hands on one closed conversation; returns the number of its refs. */
static size_t collect(struct fm_sweep *sweep)
{
	const struct ref *refs = &sweep->refs[sweep->next_ref];
	struct fm_conversation conversation;
	struct fm_key key = slot_at(sweep, refs[0].region, refs[0].position)->key;
	size_t n = 1;

	while (refs[n - 1].more)
		n++;
	for (size_t i = 0; i < n; i++)
		fetch_ref(sweep, sweep->next_ref + AHEAD_REFS + i);
	make_room(sweep);
	fold_refs(sweep, refs, n, &key, &conversation);
	if (fm_fold_pending(&conversation))
		sweep->ops.conversation(sweep->userdata, &conversation, refs[0].reason);
	for (size_t i = 0; i < n; i++)
		note(sweep, &refs[i], FM_LEDGER_FREE);
	sweep->tombstones += n;
	sweep->stats.closed++;
	return n;
}

static enum fm_sweep_state step_collect(struct fm_sweep *sweep)
{
	for (unsigned int i = 0; i < COLLECT_STEP && sweep->next_ref < sweep->n_refs; i++) {
		if (!sweep->ops.room(sweep->userdata))
			return FM_SWEEP_NO_ROOM;
		sweep->next_ref += collect(sweep);
		sweep->tombstones_young = true;
	}
	if (sweep->next_ref < sweep->n_refs)
		return FM_SWEEP_MORE;
	sweep->n_refs = 0;
	sweep->next_ref = 0;
	if (sweep->home >= sweep->generation->all_homes)
		return finish(sweep);
	/* Tombstones of this batch lie before here; they are freed after another fence. */
	sweep->keep_until = sweep->home + sweep->window + FM_PROBES;
	sweep->phase = PHASE_SCAN;
	return FM_SWEEP_MORE;
}

enum fm_sweep_state fm_sweep_step(struct fm_sweep *sweep)
{
	switch (sweep->phase) {
	case PHASE_BEGIN:
		sweep->state = step_begin(sweep);
		break;
	case PHASE_SCAN:
		sweep->state = step_scan(sweep);
		break;
	case PHASE_FENCE:
		sweep->state = FM_SWEEP_FENCE;
		break;
	case PHASE_COLLECT:
		sweep->state = step_collect(sweep);
		break;
	case PHASE_NONE:
		sweep->state = FM_SWEEP_IDLE;
		break;
	}
	/* What waits for something else must not hold back what was done. */
	if (sweep->own || sweep->state != FM_SWEEP_MORE)
		fm_ledger_commit(sweep->ledger);
	return sweep->state;
}

void fm_sweep_fenced(struct fm_sweep *sweep)
{
	if (sweep->phase != PHASE_FENCE)
		return;
	sweep->tombstones_young = false;
	sweep->phase = sweep->n_refs ? PHASE_COLLECT : PHASE_SCAN;
	sweep->state = FM_SWEEP_MORE;
}
