/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What stands for addresses in flows that are added up ([flows] prefix_file): the longest prefix of
 * a file, or its number. Part of the configuration; a generation gives it to its programs.
 */
#ifndef FM_PREFIX_MAP_H
#define FM_PREFIX_MAP_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/buf.h"
#include "base/cleanup.h"
#include "bpf/abi.h"
#include "daemon/filter-set.h"

struct fm_prefix_map {
	struct fm_prefix_entry {
		struct fm_prefix prefix;
		uint32_t number; /* 0: none */
	} * v;			 /* by prefix, none twice: the last line of the file decides */
	size_t n, capacity;
	bool has_numbers;
	uint64_t digest; /* of all, never 0 */
};

/* Reads a file (filter-prefix.h). 0 or -errno: complaint names file and line. */
int fm_prefix_map_load(const char *path, struct fm_prefix_map **ret, struct fm_buf *complaint);
struct fm_prefix_map *fm_prefix_map_free(struct fm_prefix_map *map);
FM_DEFINE_CLEANUP(struct fm_prefix_map *, fm_prefix_map_free)

/* The mask of a prefix of a mapped address, as programs take it. */
void fm_prefix_mask(unsigned int length, __u64 ret[2]);

/*
 * Makes the trie of all (key struct fm_filter_net, value struct fm_prefix_value). IPv4 addresses of
 * no prefix are cut to length4 bits. The descriptor, or -errno.
 */
int fm_prefix_map_trie(const struct fm_prefix_map *map, unsigned int length4);

#endif
