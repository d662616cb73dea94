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
#include "daemon/about.h"
#include "daemon/gates.h"
#include "daemon/region.h"
#include "daemon/store.h"

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
	unsigned int number;	/* in the names of what the store keeps of it */
	struct fm_about *about; /* in memory that outlives the process */
	int about_fd;
	bool adopted; /* an earlier process made it */
	struct fm_kernel_options options;
	struct fm_kernel_options wanted; /* options, unless the kernel could not do all of it */
	__u64 seed[FM_SEEDS];
	unsigned int n_cpus; /* possible CPUs = regions */
	uint32_t homes;	     /* homes of conversations a region */
	uint32_t all_homes;  /* with those of aggregates behind them */
	uint32_t n_slots;    /* slots a region */
	struct fm_region_shape shape;
	struct fm_region *regions;
	struct flowmond_bpf **programs; /* one object a network namespace, loaded when first used */
	size_t n_programs;
	int table_fd;
	int tcp_table_fd, tunnel_table_fd, cells_fd;
};

/*
 * Makes the object that later generations share maps through; with what an earlier process of the
 * same layout left in the store. The store may be NULL: nothing outlives the process. 0 or -ENOMEM.
 */
int fm_kernel_new(struct fm_kernel **ret, struct fm_store *store);
struct fm_kernel *fm_kernel_free(struct fm_kernel *kernel);
FM_DEFINE_CLEANUP(struct fm_kernel *, fm_kernel_free)

/*
 * Loads programs and makes tables. 0 or -errno: EPERM (privileges), ENOMEM (tables), what the
 * kernel's verifier says. The first generation makes the shared maps as well.
 */
int fm_generation_new(struct fm_generation **ret, struct fm_kernel *kernel,
		      const struct fm_kernel_options *options);

/*
 * Takes over tables of this layout that an earlier process left, the number-th generation of the
 * store, without programs. 0, -EINVAL: they are not of this layout, or not what they say; -errno.
 * What is in the store stays there.
 */
int fm_generation_adopt(struct fm_generation **ret, struct fm_kernel *kernel, unsigned int number);

/*
 * What a killed process left in the middle of: slots that were being closed are live again, all
 * blocks are marked. Nobody else may sweep.
 */
void fm_generation_repair(struct fm_generation *generation);

/* Programs for adopted tables, to be attached. 0 or -errno as fm_generation_new. */
int fm_generation_resume(struct fm_generation *generation);

/* Marks it as one that is to be emptied, for a next process to know. */
void fm_generation_retire(struct fm_generation *generation);

/* Takes it out of the store: it is empty. */
void fm_generation_forget(struct fm_generation *generation);

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

/* After a direction's first packet, in place of idle_ticks; 0: no longer. */
void fm_kernel_set_brief(struct fm_kernel *kernel, uint32_t brief_ticks);

/* Whether a packet found neither slot nor room on the ring since this was asked last. */
bool fm_kernel_take_placeless(struct fm_kernel *kernel);

/* Adds up the counters of all CPUs, interfaces and hooks. */
void fm_kernel_counters(const struct fm_kernel *kernel, struct fm_counters *ret);

/* What each interface counts; NULL before the first generation. */
struct fm_gates *fm_kernel_gates(const struct fm_kernel *kernel);

/* Marks an interface (index with its namespace's base) as one whose packets are counted already. */
int fm_kernel_set_seen(struct fm_kernel *kernel, uint32_t ifindex, bool seen);

/* Forgets the marked interfaces that is_seen does not know: those of an earlier process. */
void fm_kernel_prune_seen(struct fm_kernel *kernel,
			  bool (*is_seen)(void *userdata, uint32_t ifindex), void *userdata);

/* Possible CPUs. */
unsigned int fm_kernel_cpus(const struct fm_kernel *kernel);

/* Descriptor of the overflow ring, for fm_ring_new. */
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
