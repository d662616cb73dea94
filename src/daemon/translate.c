/* SPDX-License-Identifier: Apache-2.0 */
/* From one layout to another: see translate.h. */
#include "daemon/translate.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "base/macro.h"
#include "bpf/hash.h"
#include "daemon/fold.h"
#include "daemon/gates.h"
#include "daemon/ring.h"

#define MEMBERS_MAX 256
/* Homes of conversations a region, at least. */
#define HOMES_MIN 64u
/* Where slots found no place: with other seeds and twice the homes. */
#define TRIES 3

/* A member as it is there and here. */
struct member {
	uint32_t from, from_size, to, to_size;
};

struct members {
	size_t n;
	struct member members[MEMBERS_MAX];
};

static void find_members(struct members *ret, const struct fm_about *from,
			 const struct fm_about *own, uint32_t map)
{
	ret->n = 0;
	for (size_t i = 0; i < own->n_rows && ret->n < MEMBERS_MAX; i++) {
		const struct fm_about_row *to = &own->rows[i], *row;

		row = to->map == map ? fm_about_find(from, map, to->name) : NULL;
		if (row)
			ret->members[ret->n++] =
				(struct member){row->offset, row->size, to->offset, to->size};
	}
}

static uint64_t read_number(const uint8_t *from, uint32_t size)
{
	uint64_t octet8;
	uint32_t octet4;
	uint16_t octet2;

	switch (size) {
	case 1:
		return *from;
	case 2:
		memcpy(&octet2, from, size);
		return octet2;
	case 4:
		memcpy(&octet4, from, size);
		return octet4;
	}
	memcpy(&octet8, from, sizeof(octet8));
	return octet8;
}

static void write_number(uint8_t *to, uint32_t size, uint64_t value)
{
	uint32_t octet4 = (uint32_t)FM_MIN(value, (uint64_t)UINT32_MAX);
	uint16_t octet2 = (uint16_t)FM_MIN(value, (uint64_t)UINT16_MAX);

	if (size == 1)
		*to = (uint8_t)FM_MIN(value, (uint64_t)UINT8_MAX);
	else if (size == 2)
		memcpy(to, &octet2, size);
	else if (size == 4)
		memcpy(to, &octet4, size);
	else
		memcpy(to, &value, size);
}

static bool is_number(uint32_t size)
{
	return size == 1 || size == 2 || size == 4 || size == 8;
}

/* Numbers may have become wider or narrower. */
static void copy_members(const struct members *members, const uint8_t *from, void *to)
{
	for (size_t i = 0; i < members->n; i++) {
		const struct member *member = &members->members[i];
		uint8_t *target = (uint8_t *)to + member->to;

		if (member->from_size == member->to_size)
			memcpy(target, from + member->from, member->to_size);
		else if (is_number(member->from_size) && is_number(member->to_size))
			write_number(target, member->to_size,
				     read_number(from + member->from, member->from_size));
	}
}

/* --- tables --- */

/* One run over all sources. */
struct run {
	struct fm_generation *into;
	const struct fm_about *own, *own_shared;
	struct fm_translated *found;
	struct members members[_FM_REGION_MAP_MAX]; /* of the tables being read */
};

/* Within the same distance of its home as programs would keep to; UINT32_MAX: there is none. */
static uint32_t find_free(const struct fm_generation *into, uint32_t cpu, uint32_t home)
{
	for (uint32_t p = home; p < home + FM_PROBES; p++)
		if (into->regions[cpu].slots[p].tag == FM_TAG_FREE)
			return p;
	return UINT32_MAX;
}

/* A place in the CPU's region, else in another: partials of all are folded. */
static uint32_t place(const struct fm_generation *into, const struct fm_key *key, uint64_t hash,
		      uint32_t *cpu)
{
	uint32_t home = fm_key_home(key, hash, into->homes), wanted = *cpu;

	for (uint32_t i = 0; i < into->n_cpus; i++) {
		uint32_t p = UINT32_MAX;

		*cpu = (wanted + i) % into->n_cpus;
		if (into->regions[*cpu].slots)
			p = find_free(into, *cpu, home);
		if (p != UINT32_MAX)
			return p;
	}
	return UINT32_MAX;
}

static void lose(struct run *run, uint64_t packets)
{
	run->found->unplaced++;
	run->found->unplaced_packets += packets;
}

/* A slot that is taken over. */
struct source {
	const struct fm_foreign *from;
	uint32_t cpu, position;
	struct fm_slot slot;
};

/* What lies beside it goes where there is a target for it. */
static void copy_beside(const struct run *run, const struct source *source,
			void *const targets[_FM_REGION_MAP_MAX])
{
	for (unsigned int map = FM_REGION_EXPORTED; map < _FM_REGION_MAP_MAX; map++) {
		const uint8_t *element =
			fm_foreign_element(source->from, source->cpu, map, source->position);

		if (element && targets[map])
			copy_members(&run->members[map], element, targets[map]);
	}
}

static void put(const struct run *run, const struct source *source, uint32_t cpu, uint32_t position)
{
	const struct fm_region *region = &run->into->regions[cpu];
	void *const targets[_FM_REGION_MAP_MAX] = {
		[FM_REGION_EXPORTED] = &region->exported[position],
		[FM_REGION_TCP] = region->tcp ? &region->tcp[position] : NULL,
		[FM_REGION_TCP_EXPORTED] =
			region->tcp_exported ? &region->tcp_exported[position] : NULL,
		[FM_REGION_TUNNELS] = region->tunnels ? &region->tunnels[position] : NULL,
	};

	region->slots[position] = source->slot;
	copy_beside(run, source, targets);
}

#define ADD_SUM(name) into->half[d].name += from->half[d].name;
#define ADD_MIN(name)
#define ADD_MAX(name)
#define ADD_OR(name)
#define ADD_LATEST(name)
#define ADD_FIRST(name)
#define ADD_LAST(name)

static void add_exported(struct fm_exported *into, const struct fm_exported *from)
{
	for (unsigned int d = 0; d < 2; d++) {
#define FM_METRIC(type, name, rule, help) ADD_##rule(name)
#include "bpf/metrics.def"
#undef FM_METRIC
	}
}

static void add_tcp_exported(struct fm_tcp_exported *into, const struct fm_tcp_exported *from)
{
	for (unsigned int d = 0; d < 2; d++) {
#define FM_TCP_METRIC(type, name, rule, help) ADD_##rule(name)
#include "bpf/tcp.def"
#undef FM_TCP_METRIC
	}
}

/* Two slots of one key become one, and so do their accounts. */
static void merge(const struct run *run, const struct source *source, uint32_t cpu,
		  uint32_t position)
{
	const struct fm_region *region = &run->into->regions[cpu];
	struct fm_slot *into = &region->slots[position];
	struct fm_exported exported = {};
	struct fm_tcp_exported tcp_exported = {};
	struct fm_tcp_slot tcp = {};
	void *const targets[_FM_REGION_MAP_MAX] = {
		[FM_REGION_EXPORTED] = &exported,
		[FM_REGION_TCP] = region->tcp ? &tcp : NULL,
		[FM_REGION_TCP_EXPORTED] = region->tcp_exported ? &tcp_exported : NULL,
	};

	copy_beside(run, source, targets);
	for (unsigned int d = 0; d < 2; d++) {
		if (!source->slot.half[d].packets)
			continue;
		if (region->tcp)
			fm_fold_tcp_merge(&region->tcp[position].half[d], &tcp.half[d],
					  &into->half[d], &source->slot.half[d]);
		fm_fold_merge(&into->half[d], &source->slot.half[d]);
		if (exported.half[d].packets)
			into->mark_tick = source->slot.mark_tick;
	}
	add_exported(&region->exported[position], &exported);
	if (region->tcp_exported)
		add_tcp_exported(&region->tcp_exported[position], &tcp_exported);
}

/*
 * Where there is no place, since many processes were killed before they emptied what they took
 * over, and each left slots of the same keys.
 */
static bool merge_any(const struct run *run, const struct source *source, uint64_t hash)
{
	const struct fm_generation *into = run->into;
	uint32_t home = fm_key_home(&source->slot.key, hash, into->homes);

	for (uint32_t cpu = 0; cpu < into->n_cpus; cpu++) {
		const struct fm_slot *slots = into->regions[cpu].slots;

		for (uint32_t p = home; slots && p < home + FM_PROBES; p++)
			if (slots[p].tag == source->slot.tag &&
			    !memcmp(&slots[p].key, &source->slot.key, sizeof(slots[p].key))) {
				merge(run, source, cpu, p);
				return true;
			}
	}
	return false;
}

static void take_slot(struct run *run, const struct fm_foreign *from, uint32_t from_cpu,
		      uint32_t from_position)
{
	const uint8_t *element = fm_foreign_element(from, from_cpu, FM_REGION_SLOTS, from_position);
	uint32_t cpu = from_cpu % run->into->n_cpus, position;
	struct source source = {.from = from, .cpu = from_cpu, .position = from_position};
	struct fm_slot *slot = &source.slot;
	uint64_t hash;

	copy_members(&run->members[FM_REGION_SLOTS], element, slot);
	hash = fm_hash(&slot->key, run->into->seed);
	slot->tag = fm_hash_tag(hash);
	position = place(run->into, &slot->key, hash, &cpu);
	run->found->slots++;
	if (position != UINT32_MAX)
		put(run, &source, cpu, position);
	else if (!merge_any(run, &source, hash))
		lose(run, slot->half[0].packets + slot->half[1].packets);
}

static void take_tables(struct run *run, const struct fm_foreign *from)
{
	for (unsigned int map = 0; map < _FM_REGION_MAP_MAX; map++)
		find_members(&run->members[map], from->about, run->own, map);
	for (uint32_t cpu = 0; cpu < from->about->n_cpus; cpu++) {
		if (!from->regions[cpu].memory[FM_REGION_SLOTS])
			continue;
		for (uint32_t p = 0; p < from->about->n_slots; p++)
			if (fm_foreign_is_live(from, cpu, p))
				take_slot(run, from, cpu, p);
	}
}

/* The slot of the key, else a free place for it; NULL: there is none. */
static struct fm_slot *find_slot(const struct fm_generation *into, const struct fm_key *key)
{
	uint64_t hash = fm_hash(key, into->seed);
	uint32_t home = fm_key_home(key, hash, into->homes), tag = fm_hash_tag(hash);

	for (uint32_t cpu = 0; cpu < into->n_cpus; cpu++) {
		struct fm_slot *slots = into->regions[cpu].slots;

		for (uint32_t p = home; slots && p < home + FM_PROBES; p++) {
			if (slots[p].tag == FM_TAG_FREE) {
				slots[p].key = *key;
				slots[p].tag = tag;
				return &slots[p];
			}
			if (slots[p].tag == tag && !memcmp(&slots[p].key, key, sizeof(*key)))
				return &slots[p];
		}
	}
	return NULL;
}

static void take_event(struct run *run, const struct fm_overflow *event)
{
	struct fm_slot *slot = find_slot(run->into, &event->key);

	run->found->events++;
	if (slot)
		fm_fold_merge(&slot->half[event->direction & 1], &event->half);
	else
		lose(run, event->half.packets);
}

/* Not consumed: tables that say that they took them are published with all at once. */
static int take_events(struct run *run, const struct fm_foreign_shared *from)
{
	_fm_cleanup_(fm_ring_freep) struct fm_ring *ring = NULL;
	struct members members;
	const uint8_t *element;
	size_t size;
	int r;

	if (from->ring_taken || from->ring_fd < 0 || fm_ring_new(&ring, from->ring_fd) < 0)
		return 0;
	if (!fm_ring_waiting(ring))
		return 0;
	r = fm_generation_add_region(run->into, 0);
	if (r < 0)
		return r;
	find_members(&members, from->about, run->own_shared, FM_SHARED_OVERFLOW);
	while ((element = fm_ring_read(ring, &size))) {
		struct fm_overflow event = {};

		if (size < from->about->value_size[FM_SHARED_OVERFLOW])
			continue;
		copy_members(&members, element, &event);
		take_event(run, &event);
	}
	return 0;
}

/* What all sources need, a region: slots by the CPU they are of here, events in the first. */
struct needs {
	uint64_t *slots;
	uint64_t events;
	bool tcp, tunnels;
};

static void needs_done(struct needs *needs)
{
	free(needs->slots);
}

static void count_slots(struct needs *needs, const struct fm_foreign *from, unsigned int n_cpus)
{
	needs->tcp = needs->tcp || from->about->tcp;
	needs->tunnels = needs->tunnels || from->about->tunnel;
	for (uint32_t cpu = 0; cpu < from->about->n_cpus; cpu++) {
		if (!from->regions[cpu].memory[FM_REGION_SLOTS])
			continue;
		for (uint32_t p = 0; p < from->about->n_slots; p++)
			needs->slots[cpu % n_cpus] += fm_foreign_is_live(from, cpu, p);
	}
}

static void count_events(struct needs *needs, const struct fm_foreign_shared *from)
{
	_fm_cleanup_(fm_ring_freep) struct fm_ring *ring = NULL;

	if (from->ring_taken || from->ring_fd < 0 || fm_ring_new(&ring, from->ring_fd) < 0)
		return;
	needs->events += fm_ring_waiting(ring) / from->about->value_size[FM_SHARED_OVERFLOW];
}

/* Room for all of it, half empty. 0: there is nothing; UINT64_MAX: more than tables can have. */
static uint64_t homes_for(const struct needs *needs, unsigned int n_cpus)
{
	uint64_t most = needs->slots[0] + needs->events;

	for (unsigned int cpu = 1; cpu < n_cpus; cpu++)
		most = FM_MAX(most, needs->slots[cpu]);
	if (!most)
		return 0;
	return 2 * most > UINT32_MAX / 4 ? UINT64_MAX : FM_MAX(2 * most, (uint64_t)HOMES_MIN);
}

/* Tables for what is needed, empty. */
static int make_tables(struct fm_generation **ret, struct fm_kernel *kernel,
		       const struct needs *needs, uint32_t homes)
{
	_fm_cleanup_(fm_generation_freep) struct fm_generation *into = NULL;
	struct fm_kernel_options options;
	int r;

	memset(&options, 0, sizeof(options));
	options.max_flows = homes;
	options.tcp = needs->tcp;
	options.tunnel = needs->tunnels ? FM_TUNNEL_KEY_INNER : FM_TUNNEL_KEY_OUTER;
	r = fm_generation_new_replaced(&into, kernel, &options, homes);
	for (uint32_t cpu = 0; r == 0 && cpu < into->n_cpus; cpu++)
		if (needs->slots[cpu])
			r = fm_generation_add_region(into, cpu);
	if (r < 0)
		return r;
	*ret = FM_TAKE_PTR(into);
	return 0;
}

struct sources {
	struct fm_foreign *const *foreign;
	struct fm_foreign_shared *const *shared;
	size_t n_foreign, n_shared;
};

static int fill_tables(struct run *run, const struct sources *from)
{
	int r = 0;

	*run->found = (struct fm_translated){};
	for (size_t i = 0; i < from->n_foreign; i++)
		take_tables(run, from->foreign[i]);
	for (size_t i = 0; i < from->n_shared && r == 0; i++)
		r = take_events(run, from->shared[i]);
	return r;
}

static int publish(struct fm_generation *into, const struct sources *from)
{
	struct fm_about_taken taken = {.n_tables = (uint32_t)from->n_foreign,
				       .n_shared = (uint32_t)from->n_shared};
	int r;

	for (size_t i = 0; i < from->n_foreign; i++)
		taken.tables[i] = from->foreign[i]->number;
	for (size_t i = 0; i < from->n_shared; i++)
		taken.shared[i] = from->shared[i]->number;
	fm_generation_repair(into);
	r = fm_generation_publish(into, &taken);
	if (r < 0)
		fm_generation_forget(into);
	return r;
}

static int translate(struct fm_generation **ret, struct fm_kernel *kernel, struct run *run,
		     const struct sources *from, const struct needs *needs)
{
	uint64_t homes = homes_for(needs, fm_kernel_cpus(kernel));
	int r = 0;

	for (unsigned int i = 0; i < TRIES; i++, homes *= 2) {
		_fm_cleanup_(fm_generation_freep) struct fm_generation *into = NULL;

		if (homes > UINT32_MAX / 2)
			return -E2BIG;
		r = make_tables(&into, kernel, needs, (uint32_t)homes);
		if (r < 0)
			return r;
		run->into = into;
		r = fill_tables(run, from);
		if (r < 0)
			return r;
		if (run->found->unplaced && i + 1 < TRIES)
			continue;
		r = publish(into, from);
		if (r == 0)
			*ret = FM_TAKE_PTR(into);
		return r;
	}
	return r;
}

int fm_translate_tables(struct fm_generation **ret, struct fm_kernel *kernel,
			struct fm_foreign *const *foreign, size_t n_foreign,
			struct fm_foreign_shared *const *shared, size_t n_shared,
			struct fm_translated *ret_found)
{
	_fm_cleanup_free_ struct fm_about *own = malloc(sizeof(*own));
	_fm_cleanup_free_ struct fm_about *own_shared = malloc(sizeof(*own_shared));
	_fm_cleanup_free_ struct run *run = calloc(1, sizeof(*run));
	_fm_cleanup_(needs_done) struct needs needs = {};
	const struct sources from = {foreign, shared, n_foreign, n_shared};

	needs.slots = calloc(fm_kernel_cpus(kernel), sizeof(*needs.slots));
	if (!own || !own_shared || !run || !needs.slots)
		return -ENOMEM;
	for (size_t i = 0; i < n_foreign; i++)
		count_slots(&needs, foreign[i], fm_kernel_cpus(kernel));
	for (size_t i = 0; i < n_shared; i++)
		count_events(&needs, shared[i]);
	*ret_found = (struct fm_translated){};
	*ret = NULL;
	if (!homes_for(&needs, fm_kernel_cpus(kernel)))
		return 0;
	fm_about_init(own, FM_ABOUT_TABLES);
	fm_about_init(own_shared, FM_ABOUT_SHARED);
	run->own = own;
	run->own_shared = own_shared;
	run->found = ret_found;
	return translate(ret, kernel, run, &from, &needs);
}

/* --- counters --- */

static uint64_t number_at(const struct fm_about *about, const uint8_t *element, const char *name)
{
	const struct fm_about_row *row = fm_about_find(about, FM_SHARED_GATES, name);

	return row && is_number(row->size) ? read_number(element + row->offset, row->size) : 0;
}

static const uint8_t *counters_at(const struct fm_about *about, const uint8_t *element,
				  const char *name)
{
	const struct fm_about_row *row = fm_about_find(about, FM_SHARED_GATES, name);

	return row && row->size == about->value_size[FM_SHARED_COUNTERS] ? element + row->offset
									 : NULL;
}

/* What of a gate lies beside its counters, by the names of its rows. */
static void read_account(const struct fm_foreign_shared *from, const struct members *members,
			 uint32_t gate, struct fm_gates_found *ret)
{
	static const struct {
		const char *before, *time_ns, *frames, *frame_octets, *counters;
	} names[_FM_HOOK_MAX] = {
		{"0.before", "0.audited.time_ns", "0.audited.frames", "0.audited.frame_octets",
		 "0.audited.counters"},
		{"1.before", "1.audited.time_ns", "1.audited.frames", "1.audited.frame_octets",
		 "1.audited.counters"},
	};
	const uint8_t *element = fm_foreign_gate(from, gate), *counters;

	ret->ifindex = (uint32_t)number_at(from->about, element, "ifindex");
	for (unsigned int hook = 0; hook < _FM_HOOK_MAX; hook++) {
		struct fm_gate_mark *mark = &ret->audited[hook];

		mark->time_ns = number_at(from->about, element, names[hook].time_ns);
		mark->frames = number_at(from->about, element, names[hook].frames);
		mark->frame_octets = number_at(from->about, element, names[hook].frame_octets);
		counters = counters_at(from->about, element, names[hook].counters);
		if (counters)
			copy_members(members, counters, &mark->counters);
		counters = counters_at(from->about, element, names[hook].before);
		if (counters)
			copy_members(members, counters, &ret->before[hook]);
	}
}

static void read_counters(const struct fm_foreign_shared *from, const struct members *members,
			  uint32_t gate, struct fm_gates_found *ret)
{
	uint32_t n_hooks = FM_MIN(from->about->n_hooks, (uint32_t)_FM_HOOK_MAX);

	for (uint32_t hook = 0; hook < n_hooks; hook++)
		for (uint32_t cpu = 0; cpu <= from->about->n_cpus; cpu++) {
			struct fm_counters counters = {};

			copy_members(members, fm_foreign_counters(from, cpu, gate, hook),
				     &counters);
			fm_counters_add(&ret->total[hook], &counters);
		}
}

int fm_translate_counters(struct fm_kernel *kernel, struct fm_foreign_shared *const *shared,
			  size_t n_shared)
{
	_fm_cleanup_free_ struct fm_about *own = malloc(sizeof(*own));
	struct fm_gates *gates = fm_kernel_gates(kernel);
	unsigned int numbers[FM_ABOUT_TAKEN];
	struct members members;

	if (!own)
		return -ENOMEM;
	fm_about_init(own, FM_ABOUT_SHARED);
	fm_gates_copy_bank(gates);
	for (size_t i = 0; i < n_shared; i++) {
		const struct fm_foreign_shared *from = shared[i];

		numbers[i] = from->number;
		find_members(&members, from->about, own, FM_SHARED_COUNTERS);
		for (uint32_t gate = 0;
		     from->counters && from->gates && gate < from->about->n_gates; gate++) {
			struct fm_gates_found found = {};

			read_account(from, &members, gate, &found);
			read_counters(from, &members, gate, &found);
			if (gate == FM_GATE_OTHERS || found.ifindex)
				fm_gates_take_over(gates, &found);
		}
	}
	fm_kernel_took(kernel, numbers, n_shared);
	return 0;
}
