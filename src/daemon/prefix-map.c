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
#include "daemon/region.h"

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

/* Of equal ones the order of the file is that in memory. */
static int compare(const void *a, const void *b)
{
	const struct fm_prefix_entry *const *x = a, *const *y = b;
	int order = fm_prefix_compare(&(*x)->prefix, &(*y)->prefix);

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
		if (i + 1 == map->n || fm_prefix_compare(&order[i]->prefix, &order[i + 1]->prefix))
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
	/* One more is added that keeps the families apart. */
	if (r == 0 && map->n >= FM_FILTER_NETS) {
		fm_buf_printf(complaint, "%s: expected fewer than %u prefixes", path,
			      FM_FILTER_NETS);
		r = -E2BIG;
	}
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
	struct fm_filter_point behind = fm_prefix_last((struct fm_prefix){.length = length});
	struct fm_filter_point mask = {~behind.high, ~behind.low};

	fm_filter_point_write(mask, (uint8_t *)ret);
}

static int put(int fd, struct fm_prefix prefix, uint32_t number, unsigned int kept)
{
	struct fm_filter_net net = {.length = prefix.length};
	struct fm_prefix_value value = {.number = number};

	fm_filter_point_write(prefix.first, net.addr);
	fm_prefix_mask(kept, value.mask);
	value.length = (uint8_t)(fm_prefix_is_ip4(prefix) ? kept - IP4_BITS : kept);
	return bpf_map_update_elem(fd, &net, &value, BPF_ANY) < 0 ? -errno : 0;
}

int fm_prefix_map_trie(const struct fm_prefix_map *map, unsigned int length4)
{
	int r, fd = fm_region_trie_new("fm_prefixes", sizeof(struct fm_prefix_value));

	if (fd < 0)
		return fd;
	/* Prefixes of IPv6 that hold all of IPv4's addresses are not theirs. */
	r = put(fd, fm_prefix_ip4(), 0, IP4_BITS + length4);
	for (size_t i = 0; i < map->n && r == 0; i++)
		r = put(fd, map->v[i].prefix, map->v[i].number, map->v[i].prefix.length);
	if (r < 0)
		close(fd);
	return r < 0 ? r : fd;
}
