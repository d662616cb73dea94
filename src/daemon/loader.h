/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The kernel half in the daemon's hands: maps, programs, tables.
 *
 * struct fm_kernel holds what lives as long as the daemon: counters, interface table, overflow
 * ring, settings that programs read. struct fm_generation holds what a change of the key or of
 * the table's size replaces: programs and flow tables. The manager owns both, the sweep reads the
 * tables, attach uses the program descriptors.
 */
#ifndef FM_LOADER_H
#define FM_LOADER_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/cleanup.h"
#include "bpf/abi.h"
#include "daemon/gates.h"

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

/* Elements of the map of a region of n_slots: the slots and the marks of their blocks. */
static inline uint32_t fm_region_elements(uint32_t n_slots)
{
	uint32_t blocks = (n_slots + FM_BLOCK_SLOTS - 1) >> FM_BLOCK_SHIFT;

	return n_slots + (blocks + FM_MARKS_PER_SLOT - 1) / FM_MARKS_PER_SLOT;
}

/* The mark of a block of a region's slots. */
static inline uint8_t *fm_region_mark(struct fm_slot *slots, uint32_t n_slots, uint32_t block)
{
	return (uint8_t *)&slots[n_slots + block / FM_MARKS_PER_SLOT] + block % FM_MARKS_PER_SLOT;
}

/* Accounts of n_slots slots, size octets each, all zero; NULL: no memory. */
void *fm_exported_new(uint32_t n_slots, size_t size);
void fm_exported_free(void *exported, uint32_t n_slots, size_t size);

/* One CPU's table; slots is NULL where the CPU was never online. */
struct fm_region {
	int fd;
	struct fm_slot *slots;
	struct fm_exported *exported;	      /* the daemon's, one a slot */
	struct fm_tcp_slot *tcp;	      /* beside each slot; NULL: not measured */
	struct fm_tcp_exported *tcp_exported; /* likewise */
	struct fm_tunnel *tunnels; /* beside each slot; NULL: tunnels are not looked into */
};

/* What the programs are made with. */
struct fm_kernel_options {
	uint64_t max_flows;
	bool observe_every;
	bool key_vlan;
	bool key_interface;
	bool key_tos;
	bool tcp;		   /* measure TCP and QUIC */
	enum fm_tunnel_key tunnel; /* which headers are the key */
};

struct fm_kernel;

struct fm_generation {
	struct fm_kernel *kernel;
	struct fm_kernel_options options;
	struct fm_kernel_options wanted; /* options, unless the kernel could not do all of it */
	__u64 seed[FM_SEEDS];
	unsigned int n_cpus; /* possible CPUs = regions */
	uint32_t homes;	     /* homes a region */
	uint32_t n_slots;    /* slots a region: homes + FM_PROBES - 1 */
	struct fm_region *regions;
	struct flowmond_bpf **programs; /* one object a network namespace, loaded when first used */
	size_t n_programs;
	int table_fd;
	int tcp_table_fd, tunnel_table_fd, cells_fd;
};

/* Makes the object that later generations share maps through. 0 or -ENOMEM. */
int fm_kernel_new(struct fm_kernel **ret);
struct fm_kernel *fm_kernel_free(struct fm_kernel *kernel);
FM_DEFINE_CLEANUP(struct fm_kernel *, fm_kernel_free)

/*
 * Loads programs and makes tables. 0 or -errno: EPERM (privileges), ENOMEM (tables), what the
 * kernel's verifier says. The first generation makes the shared maps as well.
 */
int fm_generation_new(struct fm_generation **ret, struct fm_kernel *kernel,
		      const struct fm_kernel_options *options);
struct fm_generation *fm_generation_free(struct fm_generation *generation);
FM_DEFINE_CLEANUP(struct fm_generation *, fm_generation_free)

/* Gives CPUs that came online a table. Number of new ones or -errno. */
int fm_generation_follow_cpus(struct fm_generation *generation);

/* Program descriptor for a hook, owned by the generation; -errno. */
int fm_generation_program(struct fm_generation *generation, unsigned int ns, enum fm_hook hook,
			  bool layer3);

/* The octets of memory a generation's tables take in all. */
uint64_t fm_generation_memory(const struct fm_generation *generation);

/* Timeouts that programs put into slots, in ticks. */
void fm_kernel_set_live(struct fm_kernel *kernel, uint32_t idle_ticks, uint32_t linger_ticks);

/* Adds up the counters of all CPUs, interfaces and hooks. */
void fm_kernel_counters(const struct fm_kernel *kernel, struct fm_counters *ret);

/* What each interface counts; NULL before the first generation. */
struct fm_gates *fm_kernel_gates(const struct fm_kernel *kernel);

/* Marks an interface (index with its namespace's base) as one whose packets are counted already. */
int fm_kernel_set_seen(struct fm_kernel *kernel, uint32_t ifindex, bool seen);

/* Descriptor of the overflow ring, for ring_buffer__new. */
int fm_kernel_overflow_fd(const struct fm_kernel *kernel);

/* Both clocks of the slots at one moment. */
int fm_kernel_clock(const struct fm_kernel *kernel, struct fm_clock *ret);

/*
 * Waits until no program that was running when it was called runs any more (one RCU grace period,
 * some 10 ms). Any thread. 0 or -errno.
 */
int fm_kernel_fence(struct fm_kernel *kernel);

/* For tests: fence by updating a map in a map even where membarrier(2) works. */
void fm_kernel_fence_by_map(struct fm_kernel *kernel);

#endif
