/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Generations: what a change of the key or of the table's size replaces, programs and flow tables.
 * Owned by the manager, then by the sweeper; the sweep reads the tables, hooks use the program
 * descriptors.
 */
#ifndef FM_GENERATION_H
#define FM_GENERATION_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/cleanup.h"
#include "bpf/abi.h"
#include "daemon/about.h"
#include "daemon/loader.h"
#include "daemon/region.h"

/* What the programs are made with. */
struct fm_kernel_options {
	uint64_t max_flows;
	bool observe_every;
	bool key_vlan;
	bool key_interface;
	bool key_tos;
	bool tcp;		   /* measure TCP and QUIC */
	enum fm_tunnel_key tunnel; /* which headers are the key */
	uint8_t coarse;		   /* bits of enum fm_coarse; 0: keys are whole */
	uint8_t prefix4, prefix6;  /* addresses are cut to so many bits, where they are not whole */
	uint64_t prefixes;	   /* digest of what fm_kernel_set_prefixes() gave; 0: none */
};

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
	int prefixes_fd; /* until programs are loaded first: -1 */
};

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
 * Tables of this layout without programs, for what is left of others: fm_generation_add_region
 * gives a CPU one, fm_generation_publish puts them into the store in one step, as such that are to
 * be emptied and stand for what was taken. 0 or -errno.
 */
int fm_generation_new_replaced(struct fm_generation **ret, struct fm_kernel *kernel,
			       const struct fm_kernel_options *options, uint32_t homes);
int fm_generation_add_region(struct fm_generation *generation, uint32_t cpu);
int fm_generation_publish(struct fm_generation *generation, const struct fm_about_taken *taken);

/* Whether the store has anything of a CPU's tables: else it was never online. */
bool fm_generation_has_region(struct fm_store *store, unsigned int number, uint32_t cpu);

/* How the store names the parts of a generation of any layout. */
void fm_generation_part_name(unsigned int number, const char *part, char ret[FM_STORE_NAME_MAX]);
void fm_generation_region_name(unsigned int number, uint32_t cpu, const char *map,
			       char ret[FM_STORE_NAME_MAX]);

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

#endif
