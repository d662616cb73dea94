/* SPDX-License-Identifier: Apache-2.0 */
/* Prefixes in place of addresses: see prefix-map.h. */
#include "daemon/prefix-map.h"

#include <errno.h>
#include <stdlib.h>
#include <unistd.h>

#include <bpf/bpf.h>

#include "base/fnv.h"
#include "base/macro.h"
#include "daemon/filter-prefix.h"

/* Bits of a mapped address before those of IPv4. */
#define IP4_BITS 96

struct fm_prefix_map *fm_prefix_map_free(struct fm_prefix_map *map)
{
	if (map)
		free(map->v);
	free(map);
	return NULL;
}

static int add(void *userdata, struct fm_prefix prefix, uint32_t number)
{
	struct fm_prefix_map *map = userdata;

	if (map->n == map->capacity) {
		size_t capacity = map->capacity ? map->capacity * 2 : 64;
		struct fm_prefix_entry *grown = reallocarray(map->v, capacity, sizeof(*grown));

		if (!grown)
			return -ENOMEM;
		map->v = grown;
		map->capacity = capacity;
	}
	map->v[map->n++] = (struct fm_prefix_entry){prefix, number};
	map->has_numbers |= number > 0;
	return 0;
}

static int by_prefix(const struct fm_prefix_entry *a, const struct fm_prefix_entry *b)
{
	int order = fm_filter_point_compare(a->prefix.first, b->prefix.first);

	return order ? order : (int)a->prefix.length - (int)b->prefix.length;
}

/* Of equal ones the order of the file is that in memory. */
static int compare(const void *a, const void *b)
{
	const struct fm_prefix_entry *const *x = a, *const *y = b;
	int order = by_prefix(*x, *y);

	return order ? order : *x < *y ? -1 : *x > *y;
}

/* Sorted, the last of equal ones alone. */
static int sort(struct fm_prefix_map *map)
{
	_fm_cleanup_free_ const struct fm_prefix_entry **order = calloc(map->n + 1, sizeof(*order));
	struct fm_prefix_entry *sorted = calloc(map->n + 1, sizeof(*sorted));
	size_t n = 0;

	if (!order || !sorted) {
		free(sorted);
		return -ENOMEM;
	}
	for (size_t i = 0; i < map->n; i++)
		order[i] = &map->v[i];
	qsort(order, map->n, sizeof(*order), compare);
	for (size_t i = 0; i < map->n; i++)
		if (i + 1 == map->n || by_prefix(order[i], order[i + 1]))
			sorted[n++] = *order[i];
	free(map->v);
	map->v = sorted;
	map->n = n;
	return 0;
}

static uint64_t digest(const struct fm_prefix_map *map)
{
	uint64_t hash = FM_FNV_BEGIN;

	for (size_t i = 0; i < map->n; i++) {
		const struct fm_prefix_entry *entry = &map->v[i];
		const uint64_t words[] = {entry->prefix.first.high, entry->prefix.first.low,
					  (uint64_t)entry->prefix.length << 32 | entry->number};

		hash = fm_fnv(hash, words, sizeof(words));
	}
	return hash ? hash : 1;
}

int fm_prefix_map_load(const char *path, struct fm_prefix_map **ret, struct fm_buf *complaint)
{
	_fm_cleanup_(fm_prefix_map_freep) struct fm_prefix_map *map = calloc(1, sizeof(*map));
	int r = map ? fm_prefix_file_read(path, true, add, map, complaint) : -ENOMEM;

	if (r == 0)
		r = sort(map);
	if (r == -ENOMEM && !complaint->size)
		fm_buf_printf(complaint, "no memory");
	if (r < 0)
		return r;
	map->digest = digest(map);
	*ret = FM_TAKE_PTR(map);
	return 0;
}

void fm_prefix_mask(unsigned int length, __u64 ret[2])
{
	struct fm_filter_point mask = {
		length >= 64 ? UINT64_MAX : ~(UINT64_MAX >> length),
		length <= 64	? 0
		: length >= 128 ? UINT64_MAX
				: ~(UINT64_MAX >> (length - 64)),
	};

	fm_filter_point_write(mask, (uint8_t *)ret);
}

/* Its length as the family counts. */
static bool is_ip4(struct fm_prefix prefix)
{
	const struct fm_filter_point ip4 = fm_prefix_ip4().first;

	return prefix.length >= IP4_BITS && prefix.first.high == ip4.high &&
	       prefix.first.low >> 32 == ip4.low >> 32;
}

static int put(int fd, struct fm_prefix prefix, uint32_t number, unsigned int kept)
{
	struct fm_filter_net net = {.length = prefix.length};
	struct fm_prefix_value value = {.number = number};

	fm_filter_point_write(prefix.first, net.addr);
	fm_prefix_mask(kept, value.mask);
	value.length = (uint8_t)(is_ip4(prefix) ? kept - IP4_BITS : kept);
	return bpf_map_update_elem(fd, &net, &value, BPF_ANY) < 0 ? -errno : 0;
}

int fm_prefix_map_trie(const struct fm_prefix_map *map, unsigned int length4)
{
	LIBBPF_OPTS(bpf_map_create_opts, opts, .map_flags = BPF_F_NO_PREALLOC);
	int r, fd = bpf_map_create(BPF_MAP_TYPE_LPM_TRIE, "fm_prefixes",
				   sizeof(struct fm_filter_net), sizeof(struct fm_prefix_value),
				   FM_PREFIXES, &opts);

	if (fd < 0)
		return -errno;
	/* Prefixes of IPv6 that hold all of IPv4's addresses are not theirs. */
	r = put(fd, fm_prefix_ip4(), 0, IP4_BITS + length4);
	for (size_t i = 0; i < map->n && r == 0; i++)
		r = put(fd, map->v[i].prefix, map->v[i].number, map->v[i].prefix.length);
	if (r < 0)
		close(fd);
	return r < 0 ? r : fd;
}
