/* SPDX-License-Identifier: Apache-2.0 */
/* Maps that describe themselves: see about.h. */
#include "daemon/about.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>

#include "base/fnv.h"
#include "base/macro.h"

#define MAGIC	"flowmond"
#define VERSION 3

/* Larger ones are lies: no version has had any. */
#define VALUE_MAX 65536

struct builder {
	struct fm_about *about;
	uint32_t map;
};

const char *const fm_shared_map_names[_FM_SHARED_MAP_MAX] = {
	[FM_SHARED_COUNTERS] = "counters", [FM_SHARED_IFACES] = "ifaces",
	[FM_SHARED_OVERFLOW] = "overflow", [FM_SHARED_FRAGMENTS] = "fragments",
	[FM_SHARED_LIVE] = "live",	   [FM_SHARED_GATES] = "gates",
	[FM_SHARED_FILTERS] = "filters",   [FM_SHARED_FILTER_NETS] = "filter-nets",
	[FM_SHARED_RULES] = "rules",
};

static void row(struct builder *builder, const char *name, size_t offset, size_t size)
{
	struct fm_about_row *row = &builder->about->rows[builder->about->n_rows++];

	memset(row, 0, sizeof(*row));
	snprintf(row->name, sizeof(row->name), "%s", name);
	row->map = builder->map;
	row->offset = (uint32_t)offset;
	row->size = (uint32_t)size;
}

/* A member of one of two halves. */
static void half_row(struct builder *builder, unsigned int half, const char *name, size_t offset,
		     size_t size)
{
	char text[FM_ABOUT_NAME_MAX];

	snprintf(text, sizeof(text), "%u.%s", half, name);
	row(builder, text, offset, size);
}

#define MEMBER(type, member)                                                                       \
	row(&builder, #member, offsetof(type, member), sizeof(((type *)NULL)->member))

static void key_rows(struct fm_about *about, uint32_t map, size_t base)
{
	const struct {
		const char *name;
		size_t offset, size;
	} members[] = {
#define KEY(member)                                                                                \
	{"key." #member, offsetof(struct fm_key, member), sizeof(((struct fm_key *)NULL)->member)}
		KEY(addr),	  KEY(port), KEY(protocol), KEY(family),    KEY(tos),
		KEY(tunnel_type), KEY(vlan), KEY(cvlan),    KEY(tunnel_id), KEY(ifindex),
#undef KEY
	};
	struct builder builder = {about, map};

	for (size_t i = 0; i < FM_ARRAY_SIZE(members); i++)
		row(&builder, members[i].name, base + members[i].offset, members[i].size);
}

static void slot_rows(struct fm_about *about)
{
	struct builder builder = {about, FM_REGION_SLOTS};

	key_rows(about, FM_REGION_SLOTS, offsetof(struct fm_slot, key));
	MEMBER(struct fm_slot, tag);
	MEMBER(struct fm_slot, due_tick);
	MEMBER(struct fm_slot, mark_tick);
	for (unsigned int i = 0; i < 2; i++) {
#define FM_METRIC(type, name, fold, help)                                                          \
	half_row(&builder, i, #name, offsetof(struct fm_slot, half[i].name), sizeof(type));
#include "bpf/metrics.def"
#undef FM_METRIC
	}
}

#define ACCOUNT_SUM(of, type, name)                                                                \
	half_row(&builder, i, #name, offsetof(struct of, half[i].name), sizeof(type));
#define ACCOUNT_MIN(of, type, name)
#define ACCOUNT_MAX(of, type, name)
#define ACCOUNT_OR(of, type, name)
#define ACCOUNT_LATEST(of, type, name)
#define ACCOUNT_FIRST(of, type, name)
#define ACCOUNT_LAST(of, type, name)

static void account_rows(struct fm_about *about)
{
	struct builder builder = {about, FM_REGION_EXPORTED};

	for (unsigned int i = 0; i < 2; i++) {
#define FM_METRIC(type, name, fold, help) ACCOUNT_##fold(fm_exported, type, name)
#include "bpf/metrics.def"
#undef FM_METRIC
	}
	builder.map = FM_REGION_TCP_EXPORTED;
	for (unsigned int i = 0; i < 2; i++) {
#define FM_TCP_METRIC(type, name, fold, help) ACCOUNT_##fold(fm_tcp_exported, type, name)
#include "bpf/tcp.def"
#undef FM_TCP_METRIC
	}
}

static void beside_rows(struct fm_about *about)
{
	struct builder builder = {about, FM_REGION_TCP};

	for (unsigned int i = 0; i < 2; i++) {
#define FM_TCP_METRIC(type, name, fold, help)                                                      \
	half_row(&builder, i, #name, offsetof(struct fm_tcp_slot, half[i].name), sizeof(type));
#include "bpf/tcp.def"
#undef FM_TCP_METRIC
	}
	builder.map = FM_REGION_TUNNELS;
	MEMBER(struct fm_tunnel, addr);
	MEMBER(struct fm_tunnel, id);
	MEMBER(struct fm_tunnel, type);
	MEMBER(struct fm_tunnel, family);
}

static void event_rows(struct fm_about *about)
{
	struct builder builder = {about, FM_SHARED_OVERFLOW};

	key_rows(about, FM_SHARED_OVERFLOW, offsetof(struct fm_overflow, key));
	MEMBER(struct fm_overflow, direction);
#define FM_METRIC(type, name, fold, help)                                                          \
	half_row(&builder, 0, #name, offsetof(struct fm_overflow, half.name), sizeof(type));
#include "bpf/metrics.def"
#undef FM_METRIC
}

static void counter_rows(struct fm_about *about)
{
	struct builder builder = {about, FM_SHARED_COUNTERS};

	MEMBER(struct fm_counters, frames);
	MEMBER(struct fm_counters, frame_octets);
#define FM_COUNTER(name, class, help)                                                              \
	row(&builder, #name ".packets",                                                            \
	    offsetof(struct fm_counters, count[FM_COUNTER_##name].packets), sizeof(__u64));        \
	row(&builder, #name ".octets",                                                             \
	    offsetof(struct fm_counters, count[FM_COUNTER_##name].octets), sizeof(__u64));
#include "bpf/counters.def"
#undef FM_COUNTER
}

static void gate_rows(struct fm_about *about)
{
	struct builder builder = {about, FM_SHARED_GATES};

	MEMBER(struct fm_gate, ifindex);
	for (unsigned int i = 0; i < _FM_HOOK_MAX; i++) {
#define HALF(name, member)                                                                         \
	half_row(&builder, i, name, offsetof(struct fm_gate, member),                              \
		 sizeof(((struct fm_gate *)NULL)->member))
		HALF("before", before[i]);
		HALF("audited.time_ns", audited[i].time_ns);
		HALF("audited.frames", audited[i].frames);
		HALF("audited.frame_octets", audited[i].frame_octets);
		HALF("audited.counters", audited[i].counters);
#undef HALF
	}
}

/* Over the rows, and what else must be the same for programs to go on with a table. */
static uint64_t hash_rows(const struct fm_about *about)
{
	uint64_t hash = fm_fnv(FM_FNV_BEGIN ^ FM_LAYOUT ^ FM_PROBES << 8 ^ FM_BLOCK_SHIFT << 16,
			       about->rows, about->n_rows * sizeof(about->rows[0]));

	for (size_t i = 0; i < FM_ABOUT_MAPS; i++)
		hash = fm_fnv_add(hash, about->value_size[i]);
	return hash;
}

static void init_tables(struct fm_about *about)
{
	static const uint32_t value_size[FM_ABOUT_MAPS] = {
		[FM_REGION_SLOTS] = sizeof(struct fm_slot),
		[FM_REGION_EXPORTED] = sizeof(struct fm_exported),
		[FM_REGION_TCP] = sizeof(struct fm_tcp_slot),
		[FM_REGION_TCP_EXPORTED] = sizeof(struct fm_tcp_exported),
		[FM_REGION_TUNNELS] = sizeof(struct fm_tunnel),
	};

	memcpy(about->value_size, value_size, sizeof(value_size));
	about->tag_live = FM_TAG_LIVE;
	about->tag_closing = FM_TAG_CLOSING;
	about->tag_tombstone = FM_TAG_TOMBSTONE;
	slot_rows(about);
	account_rows(about);
	beside_rows(about);
}

static void init_shared(struct fm_about *about)
{
	static const uint32_t value_size[FM_ABOUT_MAPS] = {
		[FM_SHARED_COUNTERS] = sizeof(struct fm_counters),
		[FM_SHARED_IFACES] = sizeof(__u32),
		[FM_SHARED_OVERFLOW] = sizeof(struct fm_overflow),
		[FM_SHARED_LIVE] = sizeof(struct fm_live),
		[FM_SHARED_GATES] = sizeof(struct fm_gate),
	};

	memcpy(about->value_size, value_size, sizeof(value_size));
	about->n_gates = FM_GATES;
	about->n_hooks = _FM_HOOK_MAX;
	event_rows(about);
	counter_rows(about);
	gate_rows(about);
}

void fm_about_init(struct fm_about *about, enum fm_about_kind kind)
{
	*about = (struct fm_about){.version = VERSION, .kind = kind};
	memcpy(about->magic, MAGIC, sizeof(about->magic));
	if (kind == FM_ABOUT_TABLES)
		init_tables(about);
	else
		init_shared(about);
	about->layout = hash_rows(about);
}

int fm_about_new(enum fm_about_kind kind, int *ret_fd, struct fm_about **ret)
{
	void *memory;
	int r = fm_region_map_new("fm_about", FM_ABOUT_ELEMENTS, FM_ABOUT_VALUE, ret_fd, &memory);

	if (r < 0)
		return r;
	fm_about_init(memory, kind);
	*ret = memory;
	return 0;
}

void fm_about_unmap(struct fm_about *about)
{
	fm_region_unmap(about, FM_ABOUT_ELEMENTS, FM_ABOUT_VALUE);
}

int fm_about_read(int fd, struct fm_about **ret_memory, struct fm_about *ret_copy)
{
	void *memory;
	int r = fm_region_map_adopt(fd, FM_ABOUT_ELEMENTS, FM_ABOUT_VALUE, &memory);

	if (r < 0)
		return r;
	memcpy(ret_copy, memory, sizeof(*ret_copy));
	if (!fm_about_is_sound(ret_copy)) {
		fm_about_unmap(memory);
		return -EINVAL;
	}
	if (ret_memory)
		*ret_memory = memory;
	else
		fm_about_unmap(memory);
	return 0;
}

static bool row_is_sound(const struct fm_about *about, const struct fm_about_row *row)
{
	if (!memchr(row->name, '\0', sizeof(row->name)) || row->map >= FM_ABOUT_MAPS)
		return false;
	return row->size > 0 && row->size <= about->value_size[row->map] &&
	       row->offset <= about->value_size[row->map] - row->size;
}

static bool taken_is_sound(const struct fm_about_taken *taken)
{
	return taken->n_tables <= FM_ABOUT_TAKEN && taken->n_shared <= FM_ABOUT_TAKEN;
}

static bool tables_are_sound(const struct fm_about *about)
{
	const struct fm_about_row *tag = fm_about_find(about, FM_REGION_SLOTS, "tag");

	if (!tag || tag->size != sizeof(uint32_t) || tag->offset % sizeof(uint32_t))
		return false;
	if (about->homes == 0 || about->n_slots < about->homes ||
	    about->n_slots > UINT32_MAX - 65536)
		return false;
	return about->value_size[FM_REGION_SLOTS] && about->value_size[FM_REGION_EXPORTED] &&
	       about->state != FM_ABOUT_UNFINISHED;
}

static bool shared_is_sound(const struct fm_about *about)
{
	return about->n_gates > 0 && about->n_gates <= 65536 && about->n_hooks > 0 &&
	       about->n_hooks <= 16 && about->value_size[FM_SHARED_COUNTERS] &&
	       about->value_size[FM_SHARED_GATES] && about->value_size[FM_SHARED_OVERFLOW];
}

bool fm_about_is_sound(const struct fm_about *about)
{
	if (memcmp(about->magic, MAGIC, sizeof(about->magic)) || about->version != VERSION)
		return false;
	if (about->n_rows > FM_ABOUT_ROWS_MAX || about->n_cpus == 0 || about->n_cpus > 65536 ||
	    !taken_is_sound(&about->taken[0]) || !taken_is_sound(&about->taken[1]))
		return false;
	for (size_t i = 0; i < FM_ABOUT_MAPS; i++)
		if (about->value_size[i] > VALUE_MAX || about->value_size[i] % 4)
			return false;
	for (size_t i = 0; i < about->n_rows; i++)
		if (!row_is_sound(about, &about->rows[i]))
			return false;
	if (about->kind == FM_ABOUT_TABLES)
		return tables_are_sound(about);
	return about->kind == FM_ABOUT_SHARED && shared_is_sound(about);
}

bool fm_about_is_own(const struct fm_about *about)
{
	struct fm_about own;

	fm_about_init(&own, about->kind);
	return about->layout == own.layout && about->n_rows == own.n_rows &&
	       about->n_gates == own.n_gates && about->n_hooks == own.n_hooks &&
	       !memcmp(about->rows, own.rows, own.n_rows * sizeof(own.rows[0])) &&
	       !memcmp(about->value_size, own.value_size, sizeof(own.value_size));
}

const struct fm_about_row *fm_about_find(const struct fm_about *about, uint32_t map,
					 const char *name)
{
	for (size_t i = 0; i < about->n_rows; i++)
		if (about->rows[i].map == map && !strcmp(about->rows[i].name, name))
			return &about->rows[i];
	return NULL;
}
