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

struct fm_kernel {
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

int fm_kernel_new(struct fm_kernel **ret)
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

/* Takes over the shared maps of the first object. */
static int kernel_adopt(struct fm_kernel *kernel, struct flowmond_bpf *skeleton)
{
	void *memory = NULL;
	int r;

	for (unsigned int i = 0; i < _FM_MAP_MAX; i++) {
		kernel->map_fd[i] = dup(bpf_map__fd(shared_map(skeleton, i)));
		if (kernel->map_fd[i] < 0)
			return -errno;
	}
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

static int inner_map_new(uint32_t n_elements, size_t value_size)
{
	LIBBPF_OPTS(bpf_map_create_opts, opts, .map_flags = BPF_F_MMAPABLE);
	int fd = bpf_map_create(BPF_MAP_TYPE_ARRAY, "fm_region", sizeof(uint32_t), value_size,
				n_elements, &opts);

	return fd < 0 ? -errno : fd;
}

void *fm_exported_new(uint32_t n_slots, size_t size)
{
	void *memory = mmap(NULL, n_slots * size, PROT_READ | PROT_WRITE,
			    MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);

	if (memory == MAP_FAILED)
		return NULL;
	/* Touched at random, slot by slot: a fault a page would cost more than the sweep. */
	madvise(memory, n_slots * size, MADV_HUGEPAGE);
	return memory;
}

void fm_exported_free(void *exported, uint32_t n_slots, size_t size)
{
	if (exported)
		munmap(exported, n_slots * size);
}

/* Elements of a map lie at multiples of 8. */
static size_t beside_octets(uint32_t n_slots, size_t size)
{
	return page_round(n_slots * ((size + 7) & ~(size_t)7));
}

static size_t region_octets(uint32_t n_slots)
{
	return page_round((size_t)fm_region_elements(n_slots) * sizeof(struct fm_slot));
}

static void region_done(struct fm_region *region, uint32_t n_slots)
{
	if (region->slots)
		munmap(region->slots, region_octets(n_slots));
	if (region->tcp)
		munmap(region->tcp, beside_octets(n_slots, sizeof(*region->tcp)));
	if (region->tunnels)
		munmap(region->tunnels, beside_octets(n_slots, sizeof(*region->tunnels)));
	fm_exported_free(region->exported, n_slots, sizeof(*region->exported));
	fm_exported_free(region->tcp_exported, n_slots, sizeof(*region->tcp_exported));
	if (region->fd >= 0)
		close(region->fd);
	*region = (struct fm_region){.fd = -1};
}

/* What lies beside a CPU's slots: a map of its own, put into the table of its kind. */
static int beside_init(const struct fm_generation *generation, int table_fd, uint32_t cpu,
		       size_t size, void **ret)
{
	_fm_cleanup_close_ int fd = inner_map_new(generation->n_slots, size);
	void *memory = NULL;
	int r;

	if (fd < 0)
		return fd;
	r = map_shared(fd, beside_octets(generation->n_slots, size), &memory);
	if (r < 0)
		return r;
	if (bpf_map_update_elem(table_fd, &cpu, &fd, BPF_ANY) < 0) {
		r = -errno;
		munmap(memory, beside_octets(generation->n_slots, size));
		return r;
	}
	*ret = memory;
	return 0;
}

/* Everything a region has but its slots. */
static int region_besides(struct fm_region *region, const struct fm_generation *generation,
			  uint32_t cpu)
{
	void *memory;
	int r;

	region->exported = fm_exported_new(generation->n_slots, sizeof(*region->exported));
	if (!region->exported)
		return -ENOMEM;
	if (generation->options.tcp) {
		r = beside_init(generation, generation->tcp_table_fd, cpu, sizeof(*region->tcp),
				&memory);
		if (r < 0)
			return r;
		region->tcp = memory;
		region->tcp_exported =
			fm_exported_new(generation->n_slots, sizeof(*region->tcp_exported));
		if (!region->tcp_exported)
			return -ENOMEM;
	}
	if (generation->options.tunnel != FM_TUNNEL_KEY_OUTER) {
		r = beside_init(generation, generation->tunnel_table_fd, cpu,
				sizeof(*region->tunnels), &memory);
		if (r < 0)
			return r;
		region->tunnels = memory;
	}
	return 0;
}

static int region_init(struct fm_region *region, const struct fm_generation *generation,
		       uint32_t cpu)
{
	struct fm_region made = {.fd = inner_map_new(fm_region_elements(generation->n_slots),
						     sizeof(struct fm_slot))};
	void *memory = NULL;
	int r;

	if (made.fd < 0)
		return made.fd;
	r = map_shared(made.fd, region_octets(generation->n_slots), &memory);
	if (r == 0) {
		made.slots = memory;
		r = region_besides(&made, generation, cpu);
	}
	/* Last: programs use what lies beside a slot as soon as there are slots. */
	if (r == 0 && bpf_map_update_elem(generation->table_fd, &cpu, &made.fd, BPF_ANY) < 0)
		r = -errno;
	if (r < 0) {
		region_done(&made, generation->n_slots);
		return r;
	}
	*region = made;
	return 0;
}

/* Bit map of the CPUs that are online, from /sys; every CPU if that cannot be read. */
static void online_cpus(bool *online, unsigned int n)
{
	_fm_cleanup_fclose_ FILE *file = fopen("/sys/devices/system/cpu/online", "re");
	unsigned int first, last;
	int separator;

	if (!file) {
		memset(online, true, n);
		return;
	}
	memset(online, false, n);
	while (fscanf(file, "%u", &first) == 1) {
		last = first;
		separator = fgetc(file);
		if (separator == '-') {
			if (fscanf(file, "%u", &last) != 1)
				return;
			separator = fgetc(file);
		}
		for (unsigned int cpu = first; cpu <= last && cpu < n; cpu++)
			online[cpu] = true;
		if (separator != ',')
			return;
	}
}

int fm_generation_follow_cpus(struct fm_generation *generation)
{
	_fm_cleanup_free_ bool *online = calloc(generation->n_cpus, sizeof(*online));
	int made = 0, r;

	if (!online)
		return -ENOMEM;
	online_cpus(online, generation->n_cpus);
	for (unsigned int cpu = 0; cpu < generation->n_cpus; cpu++) {
		if (!online[cpu] || generation->regions[cpu].slots)
			continue;
		r = region_init(&generation->regions[cpu], generation, cpu);
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
	online_cpus(online, kernel->n_cpus);
	for (unsigned int cpu = 0; cpu < kernel->n_cpus; cpu++)
		n_online += online[cpu];
	homes = (max_flows * FM_SLOTS_PER_FLOW + n_online - 1) / FM_MAX(n_online, (uint64_t)1);
	return FM_MIN(homes, (uint64_t)UINT32_MAX - FM_PROBES);
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

/* Sizes the tables, or takes those that exist; a table that is not used has one element. */
static int prepare_tables(struct flowmond_bpf *skeleton, const struct fm_generation *generation,
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
		int r = inner_map_new(tables[i].used ? tables[i].n_elements : 1,
				      tables[i].value_size);

		if (r < 0)
			return r;
		patterns->fd[i] = r;
		r = bpf_map__set_inner_map_fd(tables[i].map, patterns->fd[i]);
		if (r == 0 && tables[i].fd >= 0)
			r = bpf_map__reuse_fd(tables[i].map, tables[i].fd);
		else if (r == 0)
			r = bpf_map__set_max_entries(tables[i].map,
						     tables[i].used ? generation->n_cpus : 1);
		if (r < 0)
			return r;
	}
	if (generation->cells_fd >= 0)
		return bpf_map__reuse_fd(skeleton->maps.fm_cells, generation->cells_fd);
	return bpf_map__set_max_entries(skeleton->maps.fm_cells,
					cells_of(generation) + FM_CELL_PROBES - 1);
}

/* Sizes maps before loading, or takes those that exist. */
static int prepare_maps(struct flowmond_bpf *skeleton, const struct fm_generation *generation,
			struct patterns *patterns)
{
	const struct fm_kernel *kernel = generation->kernel;
	int r = prepare_tables(skeleton, generation, patterns);

	if (r < 0)
		return r;
	if (kernel->map_fd[FM_MAP_COUNTERS] < 0)
		return bpf_map__set_max_entries(skeleton->maps.fm_counters,
						FM_GATE_ELEMENT(kernel->n_cpus, 0, 0));
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
	if (r == 0 && generation->kernel->map_fd[FM_MAP_COUNTERS] < 0)
		r = kernel_adopt(generation->kernel, skeleton);
	if (r < 0) {
		flowmond_bpf__destroy(skeleton);
		return r;
	}
	if (generation->table_fd < 0) {
		generation->table_fd = bpf_map__fd(skeleton->maps.fm_table);
		generation->tcp_table_fd = bpf_map__fd(skeleton->maps.fm_tcp_table);
		generation->tunnel_table_fd = bpf_map__fd(skeleton->maps.fm_tunnel_table);
		generation->cells_fd = bpf_map__fd(skeleton->maps.fm_cells);
	}
	generation->programs[ns] = skeleton;
	return 0;
}

int fm_generation_new(struct fm_generation **ret, struct fm_kernel *kernel,
		      const struct fm_kernel_options *options)
{
	_fm_cleanup_(fm_generation_freep) struct fm_generation *generation = NULL;
	int r;

	generation = calloc(1, sizeof(*generation));
	if (!generation)
		return -ENOMEM;
	*generation = (struct fm_generation){
		.kernel = kernel,
		.n_cpus = kernel->n_cpus,
		.homes = homes_for(kernel, options->max_flows),
		.table_fd = -1,
		.tcp_table_fd = -1,
		.tunnel_table_fd = -1,
		.cells_fd = -1,
		.n_programs = 1,
	};
	memcpy(&generation->options, options, sizeof(*options));
	memcpy(&generation->wanted, options, sizeof(*options));
	if (generation->homes == 0)
		return -ENOMEM;
	generation->n_slots = generation->homes + FM_PROBES - 1;
	if (getrandom(generation->seed, sizeof(generation->seed), 0) !=
	    (ssize_t)sizeof(generation->seed))
		return -EIO;
	generation->programs = calloc(1, sizeof(*generation->programs));
	generation->regions = calloc(generation->n_cpus, sizeof(*generation->regions));
	if (!generation->programs || !generation->regions)
		return -ENOMEM;
	for (unsigned int cpu = 0; cpu < generation->n_cpus; cpu++)
		generation->regions[cpu].fd = -1;
	r = load_programs(generation, 0);
	if (r < 0)
		return r;
	r = fm_generation_follow_cpus(generation);
	if (r < 0)
		return r;
	*ret = FM_TAKE_PTR(generation);
	return 0;
}

struct fm_generation *fm_generation_free(struct fm_generation *generation)
{
	if (!generation)
		return NULL;
	for (unsigned int cpu = 0; generation->regions && cpu < generation->n_cpus; cpu++)
		region_done(&generation->regions[cpu], generation->n_slots);
	for (size_t ns = 0; generation->programs && ns < generation->n_programs; ns++)
		if (generation->programs[ns])
			flowmond_bpf__destroy(generation->programs[ns]);
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
	uint64_t octets = 0, slot = sizeof(struct fm_slot) + sizeof(struct fm_exported);

	if (generation->options.tcp)
		slot += sizeof(struct fm_tcp_slot) + sizeof(struct fm_tcp_exported);
	if (generation->options.tunnel != FM_TUNNEL_KEY_OUTER)
		slot += sizeof(struct fm_tunnel);
	for (unsigned int cpu = 0; cpu < generation->n_cpus; cpu++)
		if (generation->regions[cpu].slots)
			octets += generation->n_slots * slot;
	if (generation->options.tcp)
		octets += (uint64_t)cells_of(generation) * FM_CELL_OCTETS;
	return octets;
}

void fm_kernel_set_live(struct fm_kernel *kernel, uint32_t idle_ticks, uint32_t linger_ticks)
{
	__atomic_store_n(&kernel->live->idle_ticks, idle_ticks, __ATOMIC_RELAXED);
	__atomic_store_n(&kernel->live->linger_ticks, linger_ticks, __ATOMIC_RELAXED);
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
