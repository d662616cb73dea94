/* SPDX-License-Identifier: Apache-2.0 */
/* Tables and the programs over them: see generation.h. Called by the manager. */
#include "daemon/generation.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/random.h>
#include <time.h>
#include <unistd.h>

#include <bpf/bpf.h>
#include <bpf/libbpf.h>

#include "base/macro.h"
#include "daemon/cpus.h"
#include "daemon/prefix-map.h"
#include "flowmond.skel.h"

#define FM_SLOTS_PER_FLOW 2

void fm_generation_part_name(unsigned int number, const char *part, char ret[FM_STORE_NAME_MAX])
{
	snprintf(ret, FM_STORE_NAME_MAX, "g%u-%s", number, part);
}

void fm_generation_region_name(unsigned int number, uint32_t cpu, const char *map,
			       char ret[FM_STORE_NAME_MAX])
{
	snprintf(ret, FM_STORE_NAME_MAX, "g%u-%u-%s", number, cpu, map);
}

/* Puts a region into the tables of the programs. */
static int publish_region(const struct fm_generation *generation, uint32_t cpu)
{
	const struct fm_region *region = &generation->regions[cpu];
	/* Slots last: programs use what lies beside a slot as soon as there are slots. */
	const struct {
		enum fm_region_map map;
		int table_fd;
	} tables[] = {
		{FM_REGION_TCP, generation->tcp_table_fd},
		{FM_REGION_TUNNELS, generation->tunnel_table_fd},
		{FM_REGION_SLOTS, generation->table_fd},
	};

	for (size_t i = 0; i < FM_ARRAY_SIZE(tables); i++)
		if (region->fd[tables[i].map] >= 0 &&
		    bpf_map_update_elem(tables[i].table_fd, &cpu, &region->fd[tables[i].map],
					BPF_ANY) < 0)
			return -errno;
	return 0;
}

static int keep_region(const struct fm_generation *generation, uint32_t cpu)
{
	char name[FM_STORE_NAME_MAX];
	int r = 0;

	for (unsigned int i = 0; i < _FM_REGION_MAP_MAX && r == 0; i++)
		if (fm_kernel_store(generation->kernel) && generation->regions[cpu].fd[i] >= 0) {
			fm_generation_region_name(generation->number, cpu, fm_region_map_names[i],
						  name);
			r = fm_store_put(fm_kernel_store(generation->kernel), name,
					 generation->regions[cpu].fd[i]);
		}
	return r;
}

static void forget_region(const struct fm_generation *generation, uint32_t cpu)
{
	char name[FM_STORE_NAME_MAX];

	for (unsigned int i = 0; i < _FM_REGION_MAP_MAX && fm_kernel_store(generation->kernel);
	     i++) {
		fm_generation_region_name(generation->number, cpu, fm_region_map_names[i], name);
		fm_store_remove(fm_kernel_store(generation->kernel), name);
	}
}

/* A CPU's tables, kept before the first packet is counted into them. */
static int region_new(struct fm_generation *generation, uint32_t cpu)
{
	int r = fm_region_new(&generation->regions[cpu], &generation->shape);

	if (r < 0)
		return r;
	r = keep_region(generation, cpu);
	if (r == 0)
		r = publish_region(generation, cpu);
	if (r < 0) {
		forget_region(generation, cpu);
		fm_region_done(&generation->regions[cpu], &generation->shape);
	}
	return r;
}

int fm_generation_follow_cpus(struct fm_generation *generation)
{
	_fm_cleanup_free_ bool *online = calloc(generation->n_cpus, sizeof(*online));
	int made = 0, r;

	if (!online)
		return -ENOMEM;
	fm_cpus_online(online, generation->n_cpus);
	for (unsigned int cpu = 0; cpu < generation->n_cpus; cpu++) {
		if (!online[cpu] || generation->regions[cpu].slots)
			continue;
		r = region_new(generation, cpu);
		if (r < 0)
			return r;
		made++;
	}
	return made;
}

static uint32_t homes_for(unsigned int n_cpus, uint64_t max_flows)
{
	_fm_cleanup_free_ bool *online = calloc(n_cpus, sizeof(*online));
	uint64_t homes, n_online = 0;

	if (!online)
		return 0;
	fm_cpus_online(online, n_cpus);
	for (unsigned int cpu = 0; cpu < n_cpus; cpu++)
		n_online += online[cpu];
	homes = (max_flows * FM_SLOTS_PER_FLOW + n_online - 1) / FM_MAX(n_online, (uint64_t)1);
	return FM_MIN(homes, (uint64_t)UINT32_MAX - FM_ALL_SLOTS(0));
}

/* State cells of TCP connections: some more than conversations, so that few are displaced. */
static uint32_t cells_of(const struct fm_generation *generation)
{
	uint64_t cells = generation->options.max_flows;

	return generation->options.tcp ? FM_MIN(cells + cells / 4, (uint64_t)1 << 31) : 1;
}

/* Linux' smallest retransmission timeout, 200 ms, less one tick for where in them it falls. */
static uint32_t timeout_ticks(void)
{
	struct timespec resolution = {};
	uint64_t ticks = 50;

	if (clock_getres(CLOCK_MONOTONIC_COARSE, &resolution) == 0 && resolution.tv_nsec)
		ticks = 200 * FM_NS_PER_MS / resolution.tv_nsec;
	return FM_MAX(ticks, (uint64_t)2) - 1;
}

static void set_rodata(struct fm_rodata *rodata, const struct fm_generation *generation,
		       unsigned int ns)
{
	*rodata = (struct fm_rodata){
		.homes = generation->homes,
		.ifindex_base = ns << 24,
		.observe_every = generation->options.observe_every,
		.key_vlan = generation->options.key_vlan,
		.key_interface = generation->options.key_interface,
		.key_tos = generation->options.key_tos,
		.tunnel = generation->options.tunnel,
		.tcp = generation->options.tcp,
		.coarse = generation->options.coarse,
		.has_prefixes = generation->options.prefixes > 0,
		.prefix_length = {generation->options.prefix4, generation->options.prefix6},
		.tcp_cells = cells_of(generation),
		.timeout_ticks = timeout_ticks(),
	};
	fm_prefix_mask(128 - 32 + generation->options.prefix4, rodata->prefix_mask[0]);
	fm_prefix_mask(generation->options.prefix6, rodata->prefix_mask[1]);
	memcpy(rodata->seed, generation->seed, sizeof(rodata->seed));
}

/* The tables: maps of maps. */
enum {
	FM_TABLE_SLOTS,
	FM_TABLE_TCP,
	FM_TABLE_TUNNELS,
	_FM_TABLE_MAX,
};

/* Maps that the inner maps of the tables are checked against; needed until the object is loaded. */
struct patterns {
	int fd[_FM_TABLE_MAX];
};

static void patterns_done(struct patterns *patterns)
{
	for (unsigned int i = 0; i < _FM_TABLE_MAX; i++)
		if (patterns->fd[i] >= 0)
			close(patterns->fd[i]);
}

/* Cells of an earlier process that do not fit are let go: TCP is measured from anew then. */
static int prepare_cells(struct flowmond_bpf *skeleton, struct fm_generation *generation)
{
	int r = bpf_map__set_max_entries(skeleton->maps.fm_cells,
					 cells_of(generation) + FM_CELL_PROBES - 1);

	if (r < 0 || generation->cells_fd < 0)
		return r;
	r = fm_kernel_fits(skeleton->maps.fm_cells, generation->cells_fd);
	if (r < 0)
		return r;
	if (r > 0)
		return bpf_map__reuse_fd(skeleton->maps.fm_cells, generation->cells_fd);
	close(generation->cells_fd);
	generation->cells_fd = -1;
	return 0;
}

/* What stands for addresses: the same for the programs of all namespaces. */
static int prepare_prefixes(struct flowmond_bpf *skeleton, struct fm_generation *generation)
{
	const struct fm_prefix_map *map = fm_kernel_prefixes(generation->kernel);

	if (!generation->options.prefixes)
		return bpf_map__set_max_entries(skeleton->maps.fm_prefixes, 1);
	if (generation->prefixes_fd >= 0 &&
	    fm_kernel_fits(skeleton->maps.fm_prefixes, generation->prefixes_fd) <= 0) {
		close(generation->prefixes_fd);
		generation->prefixes_fd = -1;
	}
	if (generation->prefixes_fd < 0) {
		if (!map || map->digest != generation->options.prefixes)
			return -ESTALE;
		generation->prefixes_fd = fm_prefix_map_trie(map, generation->options.prefix4);
	}
	return generation->prefixes_fd < 0
		       ? generation->prefixes_fd
		       : bpf_map__reuse_fd(skeleton->maps.fm_prefixes, generation->prefixes_fd);
}

/* Sizes the tables, or takes those that exist; a table that is not used has one element. */
static int prepare_tables(struct flowmond_bpf *skeleton, struct fm_generation *generation,
			  struct patterns *patterns)
{
	bool tunnels = generation->options.tunnel != FM_TUNNEL_KEY_OUTER;
	const struct {
		struct bpf_map *map;
		int fd;
		bool used;
		uint32_t n_elements;
		size_t value_size;
	} tables[_FM_TABLE_MAX] = {
		{skeleton->maps.fm_table, generation->table_fd, true,
		 fm_region_elements(generation->n_slots), sizeof(struct fm_slot)},
		{skeleton->maps.fm_tcp_table, generation->tcp_table_fd, generation->options.tcp,
		 generation->n_slots, sizeof(struct fm_tcp_slot)},
		{skeleton->maps.fm_tunnel_table, generation->tunnel_table_fd, tunnels,
		 generation->n_slots, sizeof(struct fm_tunnel)},
	};

	for (unsigned int i = 0; i < _FM_TABLE_MAX; i++) {
		int r = fm_region_map_new("fm_region", tables[i].used ? tables[i].n_elements : 1,
					  tables[i].value_size, &patterns->fd[i], NULL);

		if (r < 0)
			return r;
		r = bpf_map__set_inner_map_fd(tables[i].map, patterns->fd[i]);
		if (r == 0 && tables[i].fd >= 0)
			r = bpf_map__reuse_fd(tables[i].map, tables[i].fd);
		else if (r == 0)
			r = bpf_map__set_max_entries(tables[i].map,
						     tables[i].used ? generation->n_cpus : 1);
		if (r < 0)
			return r;
	}
	return prepare_cells(skeleton, generation);
}

/* Loads the programs for one network namespace. */
static int load_programs(struct fm_generation *generation, unsigned int ns)
{
	_fm_cleanup_(patterns_done) struct patterns patterns = {{-1, -1, -1}};
	struct flowmond_bpf *skeleton;
	int r = fm_kernel_open(&skeleton);

	if (r < 0)
		return r;
	set_rodata((struct fm_rodata *)&skeleton->rodata->fm_ro, generation, ns);
	r = prepare_tables(skeleton, generation, &patterns);
	if (r == 0)
		r = prepare_prefixes(skeleton, generation);
	if (r == 0)
		r = fm_kernel_prepare(generation->kernel, skeleton);
	if (r == 0)
		r = flowmond_bpf__load(skeleton);
	if (r == 0)
		r = fm_kernel_share(generation->kernel, skeleton);
	if (r < 0) {
		flowmond_bpf__destroy(skeleton);
		return r;
	}
	if (generation->table_fd < 0) {
		generation->table_fd = bpf_map__fd(skeleton->maps.fm_table);
		generation->tcp_table_fd = bpf_map__fd(skeleton->maps.fm_tcp_table);
		generation->tunnel_table_fd = bpf_map__fd(skeleton->maps.fm_tunnel_table);
		if (generation->cells_fd < 0)
			generation->cells_fd = dup(bpf_map__fd(skeleton->maps.fm_cells));
	}
	generation->programs[ns] = skeleton;
	return 0;
}

/* One without maps. */
static int generation_init(struct fm_generation **ret, struct fm_kernel *kernel,
			   unsigned int number)
{
	_fm_cleanup_(fm_generation_freep) struct fm_generation *generation = NULL;

	generation = calloc(1, sizeof(*generation));
	if (!generation)
		return -ENOMEM;
	*generation = (struct fm_generation){
		.kernel = kernel,
		.number = number,
		.about_fd = -1,
		.n_cpus = fm_kernel_cpus(kernel),
		.table_fd = -1,
		.tcp_table_fd = -1,
		.tunnel_table_fd = -1,
		.cells_fd = -1,
		.prefixes_fd = -1,
		.n_programs = 1,
	};
	generation->programs = calloc(1, sizeof(*generation->programs));
	generation->regions = calloc(generation->n_cpus, sizeof(*generation->regions));
	for (unsigned int cpu = 0; generation->regions && cpu < generation->n_cpus; cpu++)
		fm_region_init(&generation->regions[cpu]);
	if (!generation->programs || !generation->regions)
		return -ENOMEM;
	*ret = FM_TAKE_PTR(generation);
	return 0;
}

static void set_shape(struct fm_generation *generation)
{
	generation->shape = (struct fm_region_shape){
		.n_slots = generation->n_slots,
		.tcp = generation->options.tcp,
		.tunnels = generation->options.tunnel != FM_TUNNEL_KEY_OUTER,
	};
}

/* What a next process has to know. */
static int describe(struct fm_generation *generation)
{
	const struct fm_kernel_options *options = &generation->options;
	struct fm_about *about;
	int r = fm_about_new(FM_ABOUT_TABLES, &generation->about_fd, &generation->about);

	if (r < 0)
		return r;
	about = generation->about;
	about->n_cpus = generation->n_cpus;
	about->homes = generation->homes;
	about->n_slots = generation->n_slots;
	about->max_flows = options->max_flows;
	about->observe_every = options->observe_every;
	about->key_vlan = options->key_vlan;
	about->key_interface = options->key_interface;
	about->key_tos = options->key_tos;
	about->tcp = options->tcp;
	about->tunnel = options->tunnel;
	about->coarse = options->coarse;
	about->prefix4 = options->prefix4;
	about->prefix6 = options->prefix6;
	about->prefixes = options->prefixes;
	about->wanted_tcp = generation->wanted.tcp;
	memcpy(about->seed, generation->seed, sizeof(generation->seed));
	about->state = FM_ABOUT_CURRENT;
	return 0;
}

/* Last of all: until then a next process finds nothing. */
static int keep(const struct fm_generation *generation)
{
	struct fm_store *store = fm_kernel_store(generation->kernel);
	char name[FM_STORE_NAME_MAX];
	int r = 0;

	if (!store)
		return 0;
	if (generation->cells_fd >= 0) {
		fm_generation_part_name(generation->number, "cells", name);
		r = fm_store_put(store, name, generation->cells_fd);
	}
	if (r == 0 && generation->prefixes_fd >= 0) {
		fm_generation_part_name(generation->number, "prefixes", name);
		r = fm_store_put(store, name, generation->prefixes_fd);
	}
	fm_generation_part_name(generation->number, "about", name);
	return r < 0 ? r : fm_store_put(store, name, generation->about_fd);
}

static int make_seed(struct fm_generation *generation)
{
	return getrandom(generation->seed, sizeof(generation->seed), 0) ==
			       (ssize_t)sizeof(generation->seed)
		       ? 0
		       : -EIO;
}

static void set_homes(struct fm_generation *generation, uint32_t homes)
{
	generation->homes = homes;
	generation->all_homes = FM_ALL_HOMES(homes);
	generation->n_slots = FM_ALL_SLOTS(homes);
	set_shape(generation);
}

int fm_generation_new(struct fm_generation **ret, struct fm_kernel *kernel,
		      const struct fm_kernel_options *options)
{
	_fm_cleanup_(fm_generation_freep) struct fm_generation *generation = NULL;
	int r = generation_init(&generation, kernel, fm_kernel_take_number(kernel));
	uint32_t homes;

	if (r < 0)
		return r;
	memcpy(&generation->options, options, sizeof(*options));
	memcpy(&generation->wanted, options, sizeof(*options));
	homes = homes_for(generation->n_cpus, options->max_flows);
	if (homes == 0)
		return -ENOMEM;
	set_homes(generation, homes);
	r = make_seed(generation);
	if (r == 0)
		r = load_programs(generation, 0);
	if (r == 0)
		r = fm_generation_follow_cpus(generation);
	if (r >= 0)
		r = describe(generation);
	if (r == 0)
		r = keep(generation);
	if (r < 0) {
		fm_generation_forget(generation);
		return r;
	}
	*ret = FM_TAKE_PTR(generation);
	return 0;
}

int fm_generation_new_replaced(struct fm_generation **ret, struct fm_kernel *kernel,
			       const struct fm_kernel_options *options, uint32_t homes)
{
	_fm_cleanup_(fm_generation_freep) struct fm_generation *generation = NULL;
	int r = generation_init(&generation, kernel, fm_kernel_take_number(kernel));

	if (r < 0)
		return r;
	memcpy(&generation->options, options, sizeof(*options));
	memcpy(&generation->wanted, options, sizeof(*options));
	set_homes(generation, homes);
	r = make_seed(generation);
	if (r < 0)
		return r;
	*ret = FM_TAKE_PTR(generation);
	return 0;
}

int fm_generation_add_region(struct fm_generation *generation, uint32_t cpu)
{
	if (generation->regions[cpu].slots)
		return 0;
	return fm_region_new(&generation->regions[cpu], &generation->shape);
}

int fm_generation_publish(struct fm_generation *generation, const struct fm_about_taken *taken)
{
	int r = describe(generation);

	for (uint32_t cpu = 0; cpu < generation->n_cpus && r == 0; cpu++)
		r = keep_region(generation, cpu);
	if (r < 0)
		return r;
	generation->about->state = FM_ABOUT_REPLACED;
	generation->about->taken[0] = *taken;
	return keep(generation);
}

/* Reads the description into the generation; a copy, so that nobody changes it meanwhile. */
static int read_about(struct fm_generation *generation)
{
	_fm_cleanup_free_ struct fm_about *about = malloc(sizeof(*about));
	char name[FM_STORE_NAME_MAX];
	int r;

	if (!about)
		return -ENOMEM;
	fm_generation_part_name(generation->number, "about", name);
	generation->about_fd = fm_store_take(fm_kernel_store(generation->kernel), name);
	if (generation->about_fd < 0)
		return generation->about_fd;
	r = fm_about_read(generation->about_fd, &generation->about, about);
	if (r < 0)
		return r;
	if (about->kind != FM_ABOUT_TABLES || !fm_about_is_own(about) ||
	    about->n_cpus != generation->n_cpus || about->n_slots != FM_ALL_SLOTS(about->homes) ||
	    about->tunnel > FM_TUNNEL_KEY_BOTH || about->prefix4 > 32 || about->prefix6 > 128)
		return -EINVAL;
	/* Member by member: reload compares the whole struct. */
	generation->options.max_flows = about->max_flows;
	generation->options.observe_every = about->observe_every;
	generation->options.key_vlan = about->key_vlan;
	generation->options.key_interface = about->key_interface;
	generation->options.key_tos = about->key_tos;
	generation->options.tcp = about->tcp;
	generation->options.tunnel = about->tunnel;
	generation->options.coarse = about->coarse;
	generation->options.prefix4 = about->prefix4;
	generation->options.prefix6 = about->prefix6;
	generation->options.prefixes = about->prefixes;
	memcpy(&generation->wanted, &generation->options, sizeof(generation->wanted));
	generation->wanted.tcp = about->wanted_tcp;
	memcpy(generation->seed, about->seed, sizeof(generation->seed));
	set_homes(generation, about->homes);
	return 0;
}

bool fm_generation_has_region(struct fm_store *store, unsigned int number, uint32_t cpu)
{
	char name[FM_STORE_NAME_MAX];
	bool ours;

	for (unsigned int i = 0; i < _FM_REGION_MAP_MAX; i++) {
		fm_generation_region_name(number, cpu, fm_region_map_names[i], name);
		if (fm_store_has(store, name, &ours))
			return true;
	}
	return false;
}

/* -ENOENT: the CPU was never online. */
static int take_region(struct fm_generation *generation, uint32_t cpu)
{
	int fd[_FM_REGION_MAP_MAX], r = 0;
	char name[FM_STORE_NAME_MAX];

	if (!fm_generation_has_region(fm_kernel_store(generation->kernel), generation->number, cpu))
		return -ENOENT;
	for (unsigned int i = 0; i < _FM_REGION_MAP_MAX; i++) {
		fd[i] = -1;
		if (r < 0 || !fm_region_has(&generation->shape, i))
			continue;
		fm_generation_region_name(generation->number, cpu, fm_region_map_names[i], name);
		fd[i] = fm_store_take(fm_kernel_store(generation->kernel), name);
		if (fd[i] < 0)
			r = -EINVAL;
	}
	if (r == 0)
		r = fm_region_adopt(&generation->regions[cpu], &generation->shape, fd);
	for (unsigned int i = 0; i < _FM_REGION_MAP_MAX && r < 0; i++)
		if (fd[i] >= 0)
			close(fd[i]);
	return r;
}

int fm_generation_adopt(struct fm_generation **ret, struct fm_kernel *kernel, unsigned int number)
{
	_fm_cleanup_(fm_generation_freep) struct fm_generation *generation = NULL;
	char name[FM_STORE_NAME_MAX];
	int r = generation_init(&generation, kernel, number);

	if (r < 0)
		return r;
	generation->adopted = true;
	r = read_about(generation);
	for (uint32_t cpu = 0; cpu < generation->n_cpus && r == 0; cpu++) {
		r = take_region(generation, cpu);
		if (r == -ENOENT)
			r = 0;
	}
	if (r < 0)
		return r;
	/* Without its cells TCP is measured from anew. */
	fm_generation_part_name(generation->number, "cells", name);
	generation->cells_fd = fm_store_take(fm_kernel_store(kernel), name);
	fm_generation_part_name(generation->number, "prefixes", name);
	generation->prefixes_fd = fm_store_take(fm_kernel_store(kernel), name);
	*ret = FM_TAKE_PTR(generation);
	return 0;
}

int fm_generation_resume(struct fm_generation *generation)
{
	int r = load_programs(generation, 0);

	for (uint32_t cpu = 0; cpu < generation->n_cpus && r == 0; cpu++)
		if (generation->regions[cpu].slots)
			r = publish_region(generation, cpu);
	return r < 0 ? r : fm_generation_follow_cpus(generation);
}

void fm_generation_repair(struct fm_generation *generation)
{
	for (uint32_t cpu = 0; cpu < generation->n_cpus; cpu++)
		if (generation->regions[cpu].slots)
			fm_region_repair(&generation->regions[cpu], &generation->shape,
					 generation->seed);
}

void fm_generation_retire(struct fm_generation *generation)
{
	__atomic_store_n(&generation->about->state, FM_ABOUT_REPLACED, __ATOMIC_RELEASE);
}

void fm_generation_forget(struct fm_generation *generation)
{
	char prefix[FM_STORE_NAME_MAX];

	if (!generation || !fm_kernel_store(generation->kernel))
		return;
	/* The description first: without it the rest is nothing. */
	fm_generation_part_name(generation->number, "about", prefix);
	fm_store_remove(fm_kernel_store(generation->kernel), prefix);
	fm_generation_part_name(generation->number, "", prefix);
	fm_store_remove_all(fm_kernel_store(generation->kernel), prefix);
}

struct fm_generation *fm_generation_free(struct fm_generation *generation)
{
	if (!generation)
		return NULL;
	for (unsigned int cpu = 0; generation->regions && cpu < generation->n_cpus; cpu++)
		fm_region_done(&generation->regions[cpu], &generation->shape);
	for (size_t ns = 0; generation->programs && ns < generation->n_programs; ns++)
		if (generation->programs[ns])
			flowmond_bpf__destroy(generation->programs[ns]);
	fm_about_unmap(generation->about);
	if (generation->about_fd >= 0)
		close(generation->about_fd);
	if (generation->cells_fd >= 0)
		close(generation->cells_fd);
	if (generation->prefixes_fd >= 0)
		close(generation->prefixes_fd);
	free(generation->programs);
	free(generation->regions);
	free(generation);
	return NULL;
}

int fm_generation_program(struct fm_generation *generation, unsigned int ns, enum fm_hook hook,
			  bool layer3)
{
	struct flowmond_bpf *skeleton;
	struct bpf_program *program;

	if (ns >= 1u << 7) /* an interface index keeps 24 bits, FM_KEY_EGRESS takes one */
		return -ERANGE;
	if (ns >= generation->n_programs) {
		struct flowmond_bpf **grown =
			reallocarray(generation->programs, ns + 1, sizeof(*grown));

		if (!grown)
			return -ENOMEM;
		for (size_t i = generation->n_programs; i <= ns; i++)
			grown[i] = NULL;
		generation->programs = grown;
		generation->n_programs = ns + 1;
	}
	if (!generation->programs[ns]) {
		int r = load_programs(generation, ns);

		if (r < 0)
			return r;
	}
	skeleton = generation->programs[ns];
	if (hook == FM_HOOK_INGRESS)
		program = layer3 ? skeleton->progs.fm_in_l3 : skeleton->progs.fm_in_l2;
	else
		program = layer3 ? skeleton->progs.fm_out_l3 : skeleton->progs.fm_out_l2;
	return bpf_program__fd(program);
}

uint64_t fm_generation_memory(const struct fm_generation *generation)
{
	uint64_t octets = 0;

	for (unsigned int cpu = 0; cpu < generation->n_cpus; cpu++)
		if (generation->regions[cpu].slots)
			octets += fm_region_octets(&generation->shape);
	if (generation->options.tcp)
		octets += (uint64_t)cells_of(generation) * FM_CELL_OCTETS;
	return octets;
}
