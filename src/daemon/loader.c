/* SPDX-License-Identifier: Apache-2.0 */
/* Loading, tables, counters, clocks and the grace period: see loader.h. Called by the manager. */
#include "daemon/loader.h"

#include <errno.h>
#include <linux/membarrier.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/random.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

#include <bpf/bpf.h>
#include <bpf/libbpf.h>

#include "base/macro.h"
#include "daemon/cpus.h"
#include "flowmond.skel.h"

#define FM_SLOTS_PER_FLOW 2

/* Shared maps: one row each; made by the first object that is loaded, reused by all later ones. */
enum {
	FM_MAP_COUNTERS,
	FM_MAP_IFACES,
	FM_MAP_OVERFLOW,
	FM_MAP_FRAGMENTS,
	FM_MAP_LIVE,
	FM_MAP_GATES,
	_FM_MAP_MAX,
};

static const char *const map_names[_FM_MAP_MAX] = {
	[FM_MAP_COUNTERS] = "counters", [FM_MAP_IFACES] = "ifaces",
	[FM_MAP_OVERFLOW] = "overflow", [FM_MAP_FRAGMENTS] = "fragments",
	[FM_MAP_LIVE] = "live",		[FM_MAP_GATES] = "gates",
};

struct fm_kernel {
	struct fm_store *store;	  /* NULL: none */
	unsigned int next_number; /* of generations */
	int map_fd[_FM_MAP_MAX];
	int clock_fd;
	int fence_outer_fd;
	int fence_inner_fd;
	bool fence_by_map;
	unsigned int n_cpus;
	struct fm_gates *gates;
	struct fm_counters *counters; /* FM_GATE_ELEMENT */
	struct fm_gate *gate_accounts;
	struct fm_live *live;
	size_t counters_size;
	size_t gate_accounts_size;
	size_t live_size;
};

static struct bpf_map *shared_map(struct flowmond_bpf *skeleton, unsigned int which)
{
	struct bpf_map *const maps[] = {
		[FM_MAP_COUNTERS] = skeleton->maps.fm_counters,
		[FM_MAP_IFACES] = skeleton->maps.fm_ifaces,
		[FM_MAP_OVERFLOW] = skeleton->maps.fm_overflow,
		[FM_MAP_FRAGMENTS] = skeleton->maps.fm_fragments,
		[FM_MAP_LIVE] = skeleton->maps.bss,
		[FM_MAP_GATES] = skeleton->maps.fm_gates,
	};

	return maps[which];
}

static size_t page_round(size_t size)
{
	size_t page = sysconf(_SC_PAGESIZE);

	return (size + page - 1) / page * page;
}

static int map_shared(int fd, size_t size, void **ret)
{
	void *memory = mmap(NULL, size, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);

	if (memory == MAP_FAILED)
		return -errno;
	*ret = memory;
	return 0;
}

/* What is in shared maps differs by version: another layout has other names in the store. */
static uint64_t shared_layout(void)
{
	static const char names[] =
#define FM_COUNTER(name, class, help) #name " "
#include "bpf/counters.def"
#undef FM_COUNTER
		;
	struct fm_about about;
	uint64_t hash;

	fm_about_init(&about);
	hash = about.layout ^ sizeof(struct fm_live) ^ sizeof(struct fm_gate) << 16;
	for (size_t i = 0; i < sizeof(names); i++)
		hash = (hash ^ (uint8_t)names[i]) * 0x100000001b3ULL;
	return hash;
}

static void shared_name(unsigned int map, char ret[FM_STORE_NAME_MAX])
{
	snprintf(ret, FM_STORE_NAME_MAX, "shared-%016llx-%s", (unsigned long long)shared_layout(),
		 map_names[map]);
}

/* New ones will be made. */
static void drop_shared(struct fm_kernel *kernel)
{
	char name[FM_STORE_NAME_MAX];

	for (unsigned int i = 0; i < _FM_MAP_MAX; i++) {
		shared_name(i, name);
		fm_store_remove(kernel->store, name);
		if (kernel->map_fd[i] >= 0)
			close(kernel->map_fd[i]);
		kernel->map_fd[i] = -1;
	}
}

/* All of them, or none. */
static void take_shared(struct fm_kernel *kernel)
{
	char name[FM_STORE_NAME_MAX];
	bool all = true;

	for (unsigned int i = 0; i < _FM_MAP_MAX; i++) {
		shared_name(i, name);
		kernel->map_fd[i] = fm_store_take(kernel->store, name);
		all = all && kernel->map_fd[i] >= 0;
	}
	if (!all)
		drop_shared(kernel);
}

static void note_number(void *userdata, const char *name)
{
	struct fm_kernel *kernel = userdata;
	unsigned int number;

	if (sscanf(name, "g%u-", &number) == 1 && number >= kernel->next_number &&
	    number < UINT32_MAX)
		kernel->next_number = number + 1;
}

int fm_kernel_new(struct fm_kernel **ret, struct fm_store *store)
{
	struct fm_kernel *kernel = calloc(1, sizeof(*kernel));
	int cpus = libbpf_num_possible_cpus();

	if (!kernel)
		return -ENOMEM;
	if (cpus < 0) {
		free(kernel);
		return cpus;
	}
	for (unsigned int i = 0; i < _FM_MAP_MAX; i++)
		kernel->map_fd[i] = -1;
	kernel->clock_fd = -1;
	kernel->fence_outer_fd = -1;
	kernel->fence_inner_fd = -1;
	kernel->n_cpus = cpus;
	kernel->store = store;
	if (store) {
		fm_store_each(store, note_number, kernel);
		take_shared(kernel);
	}
	*ret = kernel;
	return 0;
}

struct fm_kernel *fm_kernel_free(struct fm_kernel *kernel)
{
	if (!kernel)
		return NULL;
	fm_gates_free(kernel->gates);
	if (kernel->counters)
		munmap(kernel->counters, kernel->counters_size);
	if (kernel->gate_accounts)
		munmap(kernel->gate_accounts, kernel->gate_accounts_size);
	if (kernel->live)
		munmap(kernel->live, kernel->live_size);
	for (unsigned int i = 0; i < _FM_MAP_MAX; i++)
		if (kernel->map_fd[i] >= 0)
			close(kernel->map_fd[i]);
	if (kernel->clock_fd >= 0)
		close(kernel->clock_fd);
	if (kernel->fence_outer_fd >= 0)
		close(kernel->fence_outer_fd);
	if (kernel->fence_inner_fd >= 0)
		close(kernel->fence_inner_fd);
	free(kernel);
	return NULL;
}

/* A shared map of the first object becomes everybody's, also of later processes. */
static int share_map(struct fm_kernel *kernel, struct flowmond_bpf *skeleton, unsigned int map)
{
	char name[FM_STORE_NAME_MAX];

	if (kernel->map_fd[map] >= 0)
		return 0;
	kernel->map_fd[map] = dup(bpf_map__fd(shared_map(skeleton, map)));
	if (kernel->map_fd[map] < 0)
		return -errno;
	if (!kernel->store)
		return 0;
	shared_name(map, name);
	return fm_store_put(kernel->store, name, kernel->map_fd[map]);
}

/* Takes over the shared maps of the first object. */
static int kernel_adopt(struct fm_kernel *kernel, struct flowmond_bpf *skeleton)
{
	void *memory = NULL;
	int r = 0;

	for (unsigned int i = 0; i < _FM_MAP_MAX && r == 0; i++)
		r = share_map(kernel, skeleton, i);
	if (r < 0)
		return r;
	kernel->clock_fd = dup(bpf_program__fd(skeleton->progs.fm_clock));
	if (kernel->clock_fd < 0)
		return -errno;
	kernel->counters_size = page_round(FM_GATE_ELEMENT((size_t)kernel->n_cpus, 0, 0) *
					   sizeof(struct fm_counters));
	r = map_shared(kernel->map_fd[FM_MAP_COUNTERS], kernel->counters_size, &memory);
	if (r < 0)
		return r;
	kernel->counters = memory;
	kernel->gate_accounts_size = page_round(FM_GATES * sizeof(struct fm_gate));
	r = map_shared(kernel->map_fd[FM_MAP_GATES], kernel->gate_accounts_size, &memory);
	if (r < 0)
		return r;
	kernel->gate_accounts = memory;
	kernel->live_size = page_round(sizeof(*skeleton->bss));
	r = map_shared(kernel->map_fd[FM_MAP_LIVE], kernel->live_size, &memory);
	if (r < 0)
		return r;
	kernel->live = (void *)((char *)memory +
				((char *)&skeleton->bss->fm_live - (char *)skeleton->bss));
	return fm_gates_new(&kernel->gates, kernel->n_cpus, kernel->counters, kernel->gate_accounts,
			    kernel->live->gates, FM_GATES_REST_NS);
}

static void region_name(const struct fm_generation *generation, uint32_t cpu, unsigned int map,
			char ret[FM_STORE_NAME_MAX])
{
	snprintf(ret, FM_STORE_NAME_MAX, "g%u-%u-%s", generation->number, cpu,
		 fm_region_map_names[map]);
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
		if (generation->kernel->store && generation->regions[cpu].fd[i] >= 0) {
			region_name(generation, cpu, i, name);
			r = fm_store_put(generation->kernel->store, name,
					 generation->regions[cpu].fd[i]);
		}
	return r;
}

static void forget_region(const struct fm_generation *generation, uint32_t cpu)
{
	char name[FM_STORE_NAME_MAX];

	for (unsigned int i = 0; i < _FM_REGION_MAP_MAX && generation->kernel->store; i++) {
		region_name(generation, cpu, i, name);
		fm_store_remove(generation->kernel->store, name);
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

static uint32_t homes_for(const struct fm_kernel *kernel, uint64_t max_flows)
{
	_fm_cleanup_free_ bool *online = calloc(kernel->n_cpus, sizeof(*online));
	uint64_t homes, n_online = 0;

	if (!online)
		return 0;
	fm_cpus_online(online, kernel->n_cpus);
	for (unsigned int cpu = 0; cpu < kernel->n_cpus; cpu++)
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
		.tcp_cells = cells_of(generation),
		.timeout_ticks = timeout_ticks(),
	};
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

/* Whether a map is what the object would make. */
static bool fits(const struct bpf_map *map, int fd)
{
	struct bpf_map_info info = {};
	__u32 size = sizeof(info);

	return bpf_obj_get_info_by_fd(fd, &info, &size) == 0 && info.type == bpf_map__type(map) &&
	       info.key_size == bpf_map__key_size(map) &&
	       info.value_size == bpf_map__value_size(map) &&
	       info.max_entries == bpf_map__max_entries(map);
}

/* Cells of an earlier process that do not fit are let go: TCP is measured from anew then. */
static int prepare_cells(struct flowmond_bpf *skeleton, struct fm_generation *generation)
{
	int r = bpf_map__set_max_entries(skeleton->maps.fm_cells,
					 cells_of(generation) + FM_CELL_PROBES - 1);

	if (r < 0 || generation->cells_fd < 0)
		return r;
	if (fits(skeleton->maps.fm_cells, generation->cells_fd))
		return bpf_map__reuse_fd(skeleton->maps.fm_cells, generation->cells_fd);
	close(generation->cells_fd);
	generation->cells_fd = -1;
	return 0;
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

/* Sizes maps before loading, or takes those that exist: -ESTALE if they are others. */
static int prepare_maps(struct flowmond_bpf *skeleton, struct fm_generation *generation,
			struct patterns *patterns)
{
	const struct fm_kernel *kernel = generation->kernel;
	int r = prepare_tables(skeleton, generation, patterns);

	if (r < 0)
		return r;
	r = bpf_map__set_max_entries(skeleton->maps.fm_counters,
				     FM_GATE_ELEMENT(kernel->n_cpus, 0, 0));
	if (r < 0 || kernel->map_fd[FM_MAP_COUNTERS] < 0)
		return r;
	for (unsigned int i = 0; i < _FM_MAP_MAX; i++)
		if (!fits(shared_map(skeleton, i), kernel->map_fd[i]))
			return -ESTALE;
	for (unsigned int i = 0; i < _FM_MAP_MAX; i++) {
		r = bpf_map__reuse_fd(shared_map(skeleton, i), kernel->map_fd[i]);
		if (r < 0)
			return r;
	}
	return 0;
}

/* Loads the programs for one network namespace. */
static int load_programs(struct fm_generation *generation, unsigned int ns)
{
	_fm_cleanup_(patterns_done) struct patterns patterns = {{-1, -1, -1}};
	struct flowmond_bpf *skeleton = flowmond_bpf__open();
	int r;

	if (!skeleton)
		return -errno;
	set_rodata((struct fm_rodata *)&skeleton->rodata->fm_ro, generation, ns);
	r = prepare_maps(skeleton, generation, &patterns);
	if (r == 0)
		r = flowmond_bpf__load(skeleton);
	if (r == 0 && generation->kernel->clock_fd < 0)
		r = kernel_adopt(generation->kernel, skeleton);
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

static void part_name(const struct fm_generation *generation, const char *part,
		      char ret[FM_STORE_NAME_MAX])
{
	snprintf(ret, FM_STORE_NAME_MAX, "g%u-%s", generation->number, part);
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
		.n_cpus = kernel->n_cpus,
		.table_fd = -1,
		.tcp_table_fd = -1,
		.tunnel_table_fd = -1,
		.cells_fd = -1,
		.n_programs = 1,
	};
	generation->programs = calloc(1, sizeof(*generation->programs));
	generation->regions = calloc(generation->n_cpus, sizeof(*generation->regions));
	if (!generation->programs || !generation->regions)
		return -ENOMEM;
	for (unsigned int cpu = 0; cpu < generation->n_cpus; cpu++)
		fm_region_init(&generation->regions[cpu]);
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

/* What a next process has to know, last of all: until then it finds nothing. */
static int describe(struct fm_generation *generation)
{
	const struct fm_kernel_options *options = &generation->options;
	struct fm_store *store = generation->kernel->store;
	char name[FM_STORE_NAME_MAX];
	void *memory;
	int r = fm_region_map_new("fm_about", FM_ABOUT_ELEMENTS, FM_ABOUT_VALUE,
				  &generation->about_fd, &memory);

	if (r < 0)
		return r;
	generation->about = memory;
	fm_about_init(generation->about);
	generation->about->n_cpus = generation->n_cpus;
	generation->about->homes = generation->homes;
	generation->about->n_slots = generation->n_slots;
	generation->about->max_flows = options->max_flows;
	generation->about->observe_every = options->observe_every;
	generation->about->key_vlan = options->key_vlan;
	generation->about->key_interface = options->key_interface;
	generation->about->key_tos = options->key_tos;
	generation->about->tcp = options->tcp;
	generation->about->tunnel = options->tunnel;
	generation->about->wanted_tcp = generation->wanted.tcp;
	memcpy(generation->about->seed, generation->seed, sizeof(generation->seed));
	generation->about->state = FM_ABOUT_CURRENT;
	if (!store)
		return 0;
	part_name(generation, "cells", name);
	r = fm_store_put(store, name, generation->cells_fd);
	if (r < 0)
		return r;
	part_name(generation, "about", name);
	return fm_store_put(store, name, generation->about_fd);
}

int fm_generation_new(struct fm_generation **ret, struct fm_kernel *kernel,
		      const struct fm_kernel_options *options)
{
	_fm_cleanup_(fm_generation_freep) struct fm_generation *generation = NULL;
	int r = generation_init(&generation, kernel, kernel->next_number++);

	if (r < 0)
		return r;
	memcpy(&generation->options, options, sizeof(*options));
	memcpy(&generation->wanted, options, sizeof(*options));
	generation->homes = homes_for(kernel, options->max_flows);
	if (generation->homes == 0)
		return -ENOMEM;
	generation->all_homes = FM_ALL_HOMES(generation->homes);
	generation->n_slots = FM_ALL_SLOTS(generation->homes);
	set_shape(generation);
	if (getrandom(generation->seed, sizeof(generation->seed), 0) !=
	    (ssize_t)sizeof(generation->seed))
		return -EIO;
	r = load_programs(generation, 0);
	if (r == -ESTALE) {
		drop_shared(kernel);
		r = load_programs(generation, 0);
	}
	if (r == 0)
		r = fm_generation_follow_cpus(generation);
	if (r >= 0)
		r = describe(generation);
	if (r < 0) {
		fm_generation_forget(generation);
		return r;
	}
	*ret = FM_TAKE_PTR(generation);
	return 0;
}

/* Reads the description into the generation; a copy, so that nobody changes it meanwhile. */
static int read_about(struct fm_generation *generation)
{
	_fm_cleanup_free_ struct fm_about *about = malloc(sizeof(*about));
	char name[FM_STORE_NAME_MAX];
	void *memory;
	int r;

	if (!about)
		return -ENOMEM;
	part_name(generation, "about", name);
	generation->about_fd = fm_store_take(generation->kernel->store, name);
	if (generation->about_fd < 0)
		return generation->about_fd;
	r = fm_region_map_adopt(generation->about_fd, FM_ABOUT_ELEMENTS, FM_ABOUT_VALUE, &memory);
	if (r < 0)
		return r;
	generation->about = memory;
	memcpy(about, memory, sizeof(*about));
	if (!fm_about_is_sound(about) || !fm_about_is_own(about) ||
	    about->state == FM_ABOUT_UNFINISHED || about->n_cpus != generation->n_cpus ||
	    about->n_slots != FM_ALL_SLOTS(about->homes) || about->tunnel > FM_TUNNEL_KEY_BOTH)
		return -EINVAL;
	generation->homes = about->homes;
	generation->all_homes = FM_ALL_HOMES(about->homes);
	generation->n_slots = about->n_slots;
	/* Member by member: reload compares the whole struct. */
	generation->options.max_flows = about->max_flows;
	generation->options.observe_every = about->observe_every;
	generation->options.key_vlan = about->key_vlan;
	generation->options.key_interface = about->key_interface;
	generation->options.key_tos = about->key_tos;
	generation->options.tcp = about->tcp;
	generation->options.tunnel = about->tunnel;
	memcpy(&generation->wanted, &generation->options, sizeof(generation->wanted));
	generation->wanted.tcp = about->wanted_tcp;
	memcpy(generation->seed, about->seed, sizeof(generation->seed));
	set_shape(generation);
	return 0;
}

/* -ENOENT: the CPU was never online. */
static int take_region(struct fm_generation *generation, uint32_t cpu)
{
	int fd[_FM_REGION_MAP_MAX], r = 0;
	char name[FM_STORE_NAME_MAX];

	for (unsigned int i = 0; i < _FM_REGION_MAP_MAX; i++) {
		fd[i] = -1;
		if (r < 0 || !fm_region_has(&generation->shape, i))
			continue;
		region_name(generation, cpu, i, name);
		fd[i] = fm_store_take(generation->kernel->store, name);
		if (fd[i] < 0)
			r = i == FM_REGION_SLOTS ? fd[i] : -EINVAL;
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
	part_name(generation, "cells", name);
	generation->cells_fd = fm_store_take(kernel->store, name);
	*ret = FM_TAKE_PTR(generation);
	return 0;
}

int fm_generation_resume(struct fm_generation *generation)
{
	int r = load_programs(generation, 0);

	if (r == -ESTALE) {
		drop_shared(generation->kernel);
		r = load_programs(generation, 0);
	}
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

	if (!generation || !generation->kernel->store)
		return;
	/* The description first: without it the rest is nothing. */
	part_name(generation, "about", prefix);
	fm_store_remove(generation->kernel->store, prefix);
	part_name(generation, "", prefix);
	fm_store_remove_all(generation->kernel->store, prefix);
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
	fm_region_unmap(generation->about, FM_ABOUT_ELEMENTS, FM_ABOUT_VALUE);
	if (generation->about_fd >= 0)
		close(generation->about_fd);
	if (generation->cells_fd >= 0)
		close(generation->cells_fd);
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

void fm_kernel_set_live(struct fm_kernel *kernel, uint32_t idle_ticks, uint32_t linger_ticks)
{
	__atomic_store_n(&kernel->live->idle_ticks, idle_ticks, __ATOMIC_RELAXED);
	__atomic_store_n(&kernel->live->linger_ticks, linger_ticks, __ATOMIC_RELAXED);
}

void fm_kernel_set_brief(struct fm_kernel *kernel, uint32_t brief_ticks)
{
	__atomic_store_n(&kernel->live->brief_ticks, brief_ticks, __ATOMIC_RELAXED);
}

bool fm_kernel_take_placeless(struct fm_kernel *kernel)
{
	return kernel->live && __atomic_exchange_n(&kernel->live->placeless, 0, __ATOMIC_RELAXED);
}

void fm_kernel_counters(const struct fm_kernel *kernel, struct fm_counters *ret)
{
	*ret = (struct fm_counters){};
	if (kernel->gates)
		fm_gates_total(kernel->gates, ret);
}

struct fm_gates *fm_kernel_gates(const struct fm_kernel *kernel)
{
	return kernel->gates;
}

/* What the interface table says in short about the interfaces of ifindex's cell. */
static uint32_t seen_cell(int fd, uint32_t ifindex)
{
	uint32_t cell = 0, *previous = NULL, key;

	while (bpf_map_get_next_key(fd, previous, &key) == 0) {
		previous = &key;
		if (FM_SEEN_CELL(key) == FM_SEEN_CELL(ifindex))
			cell = cell ? FM_SEEN_SHARED : key;
	}
	return cell;
}

int fm_kernel_set_seen(struct fm_kernel *kernel, uint32_t ifindex, bool seen)
{
	uint32_t flags = FM_IFACE_SEEN, *cell = &kernel->live->seen[FM_SEEN_CELL(ifindex)];
	int fd = kernel->map_fd[FM_MAP_IFACES];

	if (seen && bpf_map_update_elem(fd, &ifindex, &flags, BPF_ANY) < 0)
		return -errno;
	if (!seen && bpf_map_delete_elem(fd, &ifindex) < 0 && errno != ENOENT)
		return -errno;
	__atomic_store_n(cell, seen_cell(fd, ifindex), __ATOMIC_RELEASE);
	return 0;
}

void fm_kernel_prune_seen(struct fm_kernel *kernel,
			  bool (*is_seen)(void *userdata, uint32_t ifindex), void *userdata)
{
	int fd = kernel->map_fd[FM_MAP_IFACES];
	uint32_t *previous = NULL, key, at;

	while (bpf_map_get_next_key(fd, previous, &key) == 0) {
		if (is_seen(userdata, key)) {
			at = key;
			previous = &at;
		} else {
			/* The key is gone for the next step: from where the walk was. */
			fm_kernel_set_seen(kernel, key, false);
		}
	}
}

unsigned int fm_kernel_cpus(const struct fm_kernel *kernel)
{
	return kernel->n_cpus;
}

int fm_kernel_overflow_fd(const struct fm_kernel *kernel)
{
	return kernel->map_fd[FM_MAP_OVERFLOW];
}

int fm_kernel_clock(const struct fm_kernel *kernel, struct fm_clock *ret)
{
	struct fm_clock clock = {};
	/* A program of type syscall gets its context back where it was given. */
	LIBBPF_OPTS(bpf_test_run_opts, opts, .ctx_in = &clock, .ctx_size_in = sizeof(clock));

	if (bpf_prog_test_run_opts(kernel->clock_fd, &opts) < 0)
		return -errno;
	*ret = clock;
	return 0;
}

/*
 * Writing an element of an array of maps returns only when programs that might use the old one
 * are done; the kernel promises that since 4.15.
 */
static int fence_map(struct fm_kernel *kernel)
{
	LIBBPF_OPTS(bpf_map_create_opts, opts);
	uint32_t zero = 0;

	if (kernel->fence_inner_fd < 0) {
		kernel->fence_inner_fd =
			bpf_map_create(BPF_MAP_TYPE_ARRAY, "fm_fence_in", sizeof(uint32_t),
				       sizeof(uint32_t), 1, NULL);
		if (kernel->fence_inner_fd < 0)
			return -errno;
	}
	if (kernel->fence_outer_fd < 0) {
		opts.inner_map_fd = kernel->fence_inner_fd;
		kernel->fence_outer_fd =
			bpf_map_create(BPF_MAP_TYPE_ARRAY_OF_MAPS, "fm_fence", sizeof(uint32_t),
				       sizeof(uint32_t), 1, &opts);
		if (kernel->fence_outer_fd < 0)
			return -errno;
	}
	if (bpf_map_update_elem(kernel->fence_outer_fd, &zero, &kernel->fence_inner_fd, BPF_ANY) <
	    0)
		return -errno;
	return 0;
}

int fm_kernel_fence(struct fm_kernel *kernel)
{
	/* Refused where CPUs run without ticks (nohz_full). */
	if (!kernel->fence_by_map && syscall(SYS_membarrier, MEMBARRIER_CMD_GLOBAL, 0, 0) == 0)
		return 0;
	return fence_map(kernel);
}

void fm_kernel_fence_by_map(struct fm_kernel *kernel)
{
	kernel->fence_by_map = true;
}
