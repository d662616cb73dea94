/* SPDX-License-Identifier: Apache-2.0 */
/* Tables that describe themselves: see about.h. */
#include "daemon/about.h"

#include <stdio.h>
#include <string.h>

#include "base/macro.h"

#define MAGIC	"flowmond"
#define VERSION 1

/* Larger ones are lies: no version has had any. */
#define VALUE_MAX 65536

struct builder {
	struct fm_about *about;
	enum fm_region_map map;
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

static void slot_rows(struct fm_about *about)
{
	struct builder builder = {about, FM_REGION_SLOTS};

	MEMBER(struct fm_slot, key.addr);
	MEMBER(struct fm_slot, key.port);
	MEMBER(struct fm_slot, key.protocol);
	MEMBER(struct fm_slot, key.family);
	MEMBER(struct fm_slot, key.tos);
	MEMBER(struct fm_slot, key.tunnel_type);
	MEMBER(struct fm_slot, key.vlan);
	MEMBER(struct fm_slot, key.cvlan);
	MEMBER(struct fm_slot, key.tunnel_id);
	MEMBER(struct fm_slot, key.ifindex);
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

/* FNV-1a over the rows, and what else must be the same for programs to go on with a table. */
static uint64_t hash_rows(const struct fm_about *about)
{
	uint64_t hash = 0xcbf29ce484222325ULL ^ FM_LAYOUT ^ FM_PROBES << 8 ^ FM_BLOCK_SHIFT << 16;
	const uint8_t *octets = (const uint8_t *)about->rows;

	for (size_t i = 0; i < about->n_rows * sizeof(about->rows[0]); i++)
		hash = (hash ^ octets[i]) * 0x100000001b3ULL;
	for (size_t i = 0; i < _FM_REGION_MAP_MAX; i++)
		hash = (hash ^ about->value_size[i]) * 0x100000001b3ULL;
	return hash;
}

void fm_about_init(struct fm_about *about)
{
	*about = (struct fm_about){
		.version = VERSION,
		.value_size = {[FM_REGION_SLOTS] = sizeof(struct fm_slot),
			       [FM_REGION_EXPORTED] = sizeof(struct fm_exported),
			       [FM_REGION_TCP] = sizeof(struct fm_tcp_slot),
			       [FM_REGION_TCP_EXPORTED] = sizeof(struct fm_tcp_exported),
			       [FM_REGION_TUNNELS] = sizeof(struct fm_tunnel)},
		.tag_live = FM_TAG_LIVE,
		.tag_closing = FM_TAG_CLOSING,
		.tag_tombstone = FM_TAG_TOMBSTONE,
	};
	memcpy(about->magic, MAGIC, sizeof(about->magic));
	slot_rows(about);
	account_rows(about);
	beside_rows(about);
	about->layout = hash_rows(about);
}

static bool row_is_sound(const struct fm_about *about, const struct fm_about_row *row)
{
	if (!memchr(row->name, '\0', sizeof(row->name)) || row->map >= _FM_REGION_MAP_MAX)
		return false;
	return row->size > 0 && row->size <= about->value_size[row->map] &&
	       row->offset <= about->value_size[row->map] - row->size;
}

bool fm_about_is_sound(const struct fm_about *about)
{
	if (memcmp(about->magic, MAGIC, sizeof(about->magic)) || about->version != VERSION)
		return false;
	if (about->n_rows > FM_ABOUT_ROWS_MAX || about->n_cpus == 0 || about->n_cpus > 65536 ||
	    about->homes == 0 || about->n_slots < about->homes ||
	    about->n_slots > UINT32_MAX - 65536)
		return false;
	for (size_t i = 0; i < _FM_REGION_MAP_MAX; i++)
		if (about->value_size[i] > VALUE_MAX || about->value_size[i] % 8)
			return false;
	if (!about->value_size[FM_REGION_SLOTS] || !about->value_size[FM_REGION_EXPORTED])
		return false;
	for (size_t i = 0; i < about->n_rows; i++)
		if (!row_is_sound(about, &about->rows[i]))
			return false;
	return true;
}

bool fm_about_is_own(const struct fm_about *about)
{
	struct fm_about own;

	fm_about_init(&own);
	return about->layout == own.layout && about->n_rows == own.n_rows &&
	       !memcmp(about->rows, own.rows, own.n_rows * sizeof(own.rows[0])) &&
	       !memcmp(about->value_size, own.value_size, sizeof(own.value_size));
}
