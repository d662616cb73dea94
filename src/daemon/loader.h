/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What all programs share and what lives as long as the daemon: counters, interface table, overflow
 * ring, settings that programs read, clocks, the grace period. What a change of the key or of the
 * table's size replaces is in generation.h. Owned by the manager.
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
#include "daemon/prefix-map.h"
#include "daemon/store.h"

struct fm_kernel;
struct flowmond_bpf;
struct bpf_map;

/*
 * Makes the object that later generations share maps through. The store may be NULL: nothing
 * outlives the process. 0 or -ENOMEM.
 */
int fm_kernel_new(struct fm_kernel **ret, struct fm_store *store);
struct fm_kernel *fm_kernel_free(struct fm_kernel *kernel);
FM_DEFINE_CLEANUP(struct fm_kernel *, fm_kernel_free)

/*
 * Before the first generation: the numbers of it and of new shared maps in the store, where no
 * other has them.
 */
void fm_kernel_set_numbers(struct fm_kernel *kernel, unsigned int generation, unsigned int shared);

/* Goes on with shared maps of the store. 0, -EINVAL: they are not as this process' own; -errno. */
int fm_kernel_adopt(struct fm_kernel *kernel, unsigned int number);

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

/*
 * For filter.c: the array of maps by bank, of tables or of tries of addresses; counts of rules
 * (FM_RULE_ELEMENT), NULL before the first generation; fm_live.filter.
 */
int fm_kernel_filter_fd(const struct fm_kernel *kernel, bool nets);
struct fm_rule_count *fm_kernel_rules(const struct fm_kernel *kernel);
uint32_t fm_kernel_filter(const struct fm_kernel *kernel);
void fm_kernel_set_filter(struct fm_kernel *kernel, uint32_t filter);

/* Whether packets of an interface (index with its namespace's base) are counted at their ingress.
 */
int fm_kernel_set_seen(struct fm_kernel *kernel, uint32_t ifindex, enum fm_seen seen);
enum fm_seen fm_kernel_seen(const struct fm_kernel *kernel, uint32_t ifindex);

/* Whether the hooks of interfaces without a gate mark packets. */
void fm_kernel_mark_others(struct fm_kernel *kernel, bool marks);

/* Forgets the marked interfaces that is_seen does not know: those of an earlier process. */
void fm_kernel_prune_seen(struct fm_kernel *kernel,
			  bool (*is_seen)(void *userdata, uint32_t ifindex), void *userdata);

/*
 * What stands for addresses in generations whose options have its digest; NULL: nothing. Stays
 * until it is replaced.
 */
void fm_kernel_set_prefixes(struct fm_kernel *kernel, const struct fm_prefix_map *map);
const struct fm_prefix_map *fm_kernel_prefixes(const struct fm_kernel *kernel);

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

/* The object, a part of this program. 0 or -errno; it cannot be read only for want of memory. */
int fm_kernel_open(struct flowmond_bpf **ret);

/*
 * For generations. Sizes the shared maps of an object before it is loaded, or puts those that exist
 * into their place: -ESTALE if they are others.
 */
int fm_kernel_prepare(struct fm_kernel *kernel, struct flowmond_bpf *skeleton);

/* Those of the first object that was loaded are everybody's, also of later processes. */
int fm_kernel_share(struct fm_kernel *kernel, struct flowmond_bpf *skeleton);

/* Whether a map is what the object would make: 1, 0, -errno. */
int fm_kernel_fits(const struct bpf_map *map, int fd);

/* NULL: there is none. */
struct fm_store *fm_kernel_store(const struct fm_kernel *kernel);

/* Of the next generation: no other in the store has it. */
unsigned int fm_kernel_take_number(struct fm_kernel *kernel);

/* Of the shared maps, and how the store names what is of such a number. */
unsigned int fm_kernel_shared(const struct fm_kernel *kernel);
void fm_kernel_shared_name(unsigned int number, const char *part, char ret[FM_STORE_NAME_MAX]);

/*
 * For what an earlier process of another layout left. Its interfaces count as seen, before any of
 * its programs is replaced; its counters, put into the other bank of the gates, count from now on.
 */
int fm_kernel_inherit_seen(struct fm_kernel *kernel, int ifaces_fd);
void fm_kernel_took(struct fm_kernel *kernel, const unsigned int *numbers, size_t n);

#endif
