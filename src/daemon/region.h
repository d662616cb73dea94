/* SPDX-License-Identifier: Apache-2.0 */
/*
 * One CPU's part of the flow tables: its slots and what lies beside each, all in maps of their own
 * that the daemon has mapped. Made or taken over by generation.c, read by the sweep.
 */
#ifndef FM_REGION_H
#define FM_REGION_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "bpf/abi.h"

#define FM_EXPORTED_SUM(type, name) type name;
#define FM_EXPORTED_MIN(type, name)
#define FM_EXPORTED_MAX(type, name)
#define FM_EXPORTED_OR(type, name)
#define FM_EXPORTED_LATEST(type, name)
#define FM_EXPORTED_FIRST(type, name)
#define FM_EXPORTED_LAST(type, name)

/* What of a slot was exported before: the SUM rows of metrics.def, both directions. */
struct fm_exported {
	struct {
#define FM_METRIC(type, name, fold, help) FM_EXPORTED_##fold(type, name)
#include "bpf/metrics.def"
#undef FM_METRIC
	} half[2];
};

/* The same of the rows of tcp.def. */
struct fm_tcp_exported {
	struct {
#define FM_TCP_METRIC(type, name, fold, help) FM_EXPORTED_##fold(type, name)
#include "bpf/tcp.def"
#undef FM_TCP_METRIC
	} half[2];
};

/* The maps of a region, each with an element a slot. */
enum fm_region_map {
	FM_REGION_SLOTS,    /* and the marks of their blocks */
	FM_REGION_EXPORTED, /* the daemon's accounts: no program has them */
	FM_REGION_TCP,
	FM_REGION_TCP_EXPORTED,
	FM_REGION_TUNNELS,
	_FM_REGION_MAP_MAX,
};

extern const char *const fm_region_map_names[_FM_REGION_MAP_MAX];

/* Which of them there are, and how large. */
struct fm_region_shape {
	uint32_t n_slots;
	bool tcp, tunnels;
};

/* What a block of slots was like when the daemon looked at it last. */
struct fm_look {
	uint32_t due_tick; /* the first of its slots is due then */
	uint32_t live;	   /* slots in use */
};

struct fm_region {
	int fd[_FM_REGION_MAP_MAX]; /* -1: none; all of a CPU that was never online */
	struct fm_slot *slots;	    /* NULL: the CPU was never online */
	struct fm_exported *exported;
	struct fm_tcp_slot *tcp; /* NULL: not measured */
	struct fm_tcp_exported *tcp_exported;
	struct fm_tunnel *tunnels; /* NULL: tunnels are not looked into */
	struct fm_look *looks;	   /* one a block; this process' own */
};

static inline uint32_t fm_region_blocks(uint32_t n_slots)
{
	return (n_slots + FM_BLOCK_SLOTS - 1) >> FM_BLOCK_SHIFT;
}

/* Elements of the map of n_slots slots: the slots and the marks of their blocks. */
static inline uint32_t fm_region_elements(uint32_t n_slots)
{
	return n_slots + (fm_region_blocks(n_slots) + FM_MARKS_PER_SLOT - 1) / FM_MARKS_PER_SLOT;
}

/* The mark of a block of a region's slots. */
static inline uint8_t *fm_region_mark(struct fm_slot *slots, uint32_t n_slots, uint32_t block)
{
	return (uint8_t *)&slots[n_slots + block / FM_MARKS_PER_SLOT] + block % FM_MARKS_PER_SLOT;
}

/* No region. */
void fm_region_init(struct fm_region *region);

/* Makes all maps of the shape, zeroed. 0 or -errno. */
int fm_region_new(struct fm_region *ret, const struct fm_region_shape *shape);

/*
 * Takes over maps that an earlier process made, the descriptors with them. 0, -EINVAL: one of them
 * is not what it should be, or -errno; the descriptors are the caller's then.
 */
int fm_region_adopt(struct fm_region *ret, const struct fm_region_shape *shape,
		    const int fd[_FM_REGION_MAP_MAX]);

void fm_region_done(struct fm_region *region, const struct fm_region_shape *shape);

/*
 * What a killed process left in the middle of: slots that were being closed are live again,
 * accounts that contradict their slot are forgotten, all blocks are marked.
 */
void fm_region_repair(struct fm_region *region, const struct fm_region_shape *shape,
		      const __u64 seed[FM_SEEDS]);

/* Whether a shape has a map. */
bool fm_region_has(const struct fm_region_shape *shape, enum fm_region_map map);

/* Octets of all maps of a shape. */
uint64_t fm_region_octets(const struct fm_region_shape *shape);

/* A map of n_elements that is mapped into memory, and its descriptor. 0 or -errno. */
int fm_region_map_new(const char *name, uint32_t n_elements, size_t value_size, int *ret_fd,
		      void **ret_memory);

/* A trie of prefixes for programs, with values of this size. The descriptor, or -errno. */
int fm_region_trie_new(const char *name, size_t value_size);

/* Maps what fd is if it has that form: 0, -EINVAL it has not, -errno. */
int fm_region_map_adopt(int fd, uint32_t n_elements, size_t value_size, void **ret_memory);

/* The same of any number of elements. */
int fm_region_map_take(int fd, size_t value_size, uint32_t *ret_elements, void **ret_memory);

void fm_region_unmap(void *memory, uint32_t n_elements, size_t value_size);

#endif
