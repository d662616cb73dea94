/* SPDX-License-Identifier: Apache-2.0 */
/* Shared maps, counters, clocks and the grace period: see loader.h. Called by the manager. */
#include "daemon/loader.h"

#include <errno.h>
#include <linux/membarrier.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/random.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <bpf/bpf.h>
#include <bpf/libbpf.h>

#include "base/macro.h"
#include "daemon/about.h"
#include "daemon/region.h"
#include "flowmond.skel.h"

struct fm_kernel {
	struct fm_store *store;	    /* NULL: none */
	unsigned int next_number;   /* of generations */
	unsigned int shared_number; /* in the names of what the store keeps of shared maps */
	struct fm_about *about;	    /* of them, in memory that outlives the process */
	int about_fd;
	int map_fd[_FM_SHARED_MAP_MAX];
	const struct fm_prefix_map *prefixes;
	int filter_pattern_fd[2]; /* tables of rules, tries: what the programs expect */
	int clock_fd;
	int fence_outer_fd;
	int fence_inner_fd;
	pthread_mutex_t fence_lock; /* of opening them */
	bool fence_by_map;
	unsigned int n_cpus;
	struct fm_gates *gates;
	struct fm_counters *counters; /* FM_GATE_ELEMENT */
	struct fm_gate *gate_accounts;
	struct fm_rule_count *rules; /* FM_RULE_ELEMENT */
	struct fm_live *live;
	size_t counters_size;
	size_t gate_accounts_size;
	size_t rules_size;
	size_t live_size;
};

static struct bpf_map *shared_map(struct flowmond_bpf *skeleton, unsigned int which)
{
	struct bpf_map *const maps[] = {
		[FM_SHARED_COUNTERS] = skeleton->maps.fm_counters,
		[FM_SHARED_IFACES] = skeleton->maps.fm_ifaces,
		[FM_SHARED_OVERFLOW] = skeleton->maps.fm_overflow,
		[FM_SHARED_FRAGMENTS] = skeleton->maps.fm_fragments,
		[FM_SHARED_LIVE] = skeleton->maps.bss,
		[FM_SHARED_GATES] = skeleton->maps.fm_gates,
		[FM_SHARED_FILTERS] = skeleton->maps.fm_filters,
		[FM_SHARED_FILTER_NETS] = skeleton->maps.fm_filter_nets,
		[FM_SHARED_RULES] = skeleton->maps.fm_rules,
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

void fm_kernel_shared_name(unsigned int number, const char *part, char ret[FM_STORE_NAME_MAX])
{
	snprintf(ret, FM_STORE_NAME_MAX, "shared-%u-%s", number, part);
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
	for (unsigned int i = 0; i < _FM_SHARED_MAP_MAX; i++)
		kernel->map_fd[i] = -1;
	kernel->about_fd = -1;
	kernel->filter_pattern_fd[0] = kernel->filter_pattern_fd[1] = -1;
	kernel->clock_fd = -1;
	kernel->fence_outer_fd = -1;
	kernel->fence_inner_fd = -1;
	pthread_mutex_init(&kernel->fence_lock, NULL);
	kernel->n_cpus = cpus;
	kernel->store = store;
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
	if (kernel->rules)
		munmap(kernel->rules, kernel->rules_size);
	if (kernel->live)
		munmap(kernel->live, kernel->live_size);
	for (unsigned int i = 0; i < _FM_SHARED_MAP_MAX; i++)
		if (kernel->map_fd[i] >= 0)
			close(kernel->map_fd[i]);
	fm_about_unmap(kernel->about);
	if (kernel->about_fd >= 0)
		close(kernel->about_fd);
	for (unsigned int i = 0; i < 2; i++)
		if (kernel->filter_pattern_fd[i] >= 0)
			close(kernel->filter_pattern_fd[i]);
	if (kernel->clock_fd >= 0)
		close(kernel->clock_fd);
	if (kernel->fence_outer_fd >= 0)
		close(kernel->fence_outer_fd);
	if (kernel->fence_inner_fd >= 0)
		close(kernel->fence_inner_fd);
	pthread_mutex_destroy(&kernel->fence_lock);
	free(kernel);
	return NULL;
}

void fm_kernel_set_numbers(struct fm_kernel *kernel, unsigned int generation, unsigned int shared)
{
	kernel->next_number = generation;
	kernel->shared_number = shared;
}

int fm_kernel_open(struct flowmond_bpf **ret)
{
	*ret = flowmond_bpf__open();
	if (*ret)
		return 0;
	return errno >= LIBBPF_ERRNO__LIBELF ? -ENOMEM : -errno;
}

/* Whether maps of an earlier process are what programs of this one would make. */
static int check_shared(struct fm_kernel *kernel)
{
	struct flowmond_bpf *skeleton;
	int r = fm_kernel_open(&skeleton);

	if (r < 0)
		return r;
	r = fm_kernel_prepare(kernel, skeleton);
	flowmond_bpf__destroy(skeleton);
	return r;
}

static void let_go(struct fm_kernel *kernel)
{
	for (unsigned int i = 0; i < _FM_SHARED_MAP_MAX; i++) {
		if (kernel->map_fd[i] >= 0)
			close(kernel->map_fd[i]);
		kernel->map_fd[i] = -1;
	}
	fm_about_unmap(kernel->about);
	kernel->about = NULL;
	if (kernel->about_fd >= 0)
		close(kernel->about_fd);
	kernel->about_fd = -1;
}

int fm_kernel_adopt(struct fm_kernel *kernel, unsigned int number)
{
	_fm_cleanup_free_ struct fm_about *about = malloc(sizeof(*about));
	char name[FM_STORE_NAME_MAX];
	int r = 0;

	if (!about)
		return -ENOMEM;
	fm_kernel_shared_name(number, "about", name);
	kernel->about_fd = fm_store_take(kernel->store, name);
	if (kernel->about_fd < 0)
		return kernel->about_fd;
	r = fm_about_read(kernel->about_fd, &kernel->about, about);
	if (r == 0 && (about->kind != FM_ABOUT_SHARED || !fm_about_is_own(about) ||
		       about->n_cpus != kernel->n_cpus))
		r = -EINVAL;
	for (unsigned int i = 0; i < _FM_SHARED_MAP_MAX && r == 0; i++) {
		fm_kernel_shared_name(number, fm_shared_map_names[i], name);
		kernel->map_fd[i] = fm_store_take(kernel->store, name);
		if (kernel->map_fd[i] < 0)
			r = -EINVAL;
	}
	if (r == 0)
		r = check_shared(kernel);
	if (r < 0) {
		let_go(kernel);
		return r;
	}
	kernel->shared_number = number;
	return 0;
}

/* The maps of the first object become everybody's, also of later processes. */
static int keep_shared(struct fm_kernel *kernel, struct flowmond_bpf *skeleton)
{
	char name[FM_STORE_NAME_MAX];
	int r = fm_about_new(FM_ABOUT_SHARED, &kernel->about_fd, &kernel->about);

	if (r < 0)
		return r;
	kernel->about->state = FM_ABOUT_CURRENT;
	kernel->about->n_cpus = kernel->n_cpus;
	for (unsigned int i = 0; i < _FM_SHARED_MAP_MAX && r == 0; i++) {
		kernel->map_fd[i] = dup(bpf_map__fd(shared_map(skeleton, i)));
		if (kernel->map_fd[i] < 0)
			return -errno;
		fm_kernel_shared_name(kernel->shared_number, fm_shared_map_names[i], name);
		if (kernel->store)
			r = fm_store_put(kernel->store, name, kernel->map_fd[i]);
	}
	/* Last: without it the rest is nothing. */
	fm_kernel_shared_name(kernel->shared_number, "about", name);
	if (r == 0 && kernel->store)
		r = fm_store_put(kernel->store, name, kernel->about_fd);
	return r;
}

/* Unlike that of another daemon, whose packets may come here through a veth pair. */
static int choose_mark(struct fm_live *live)
{
	uint8_t random;

	if (live->mark)
		return 0;
	if (getrandom(&random, sizeof(random), 0) != (ssize_t)sizeof(random))
		return -EIO;
	live->mark = (uint32_t)(random ? random : 1) << FM_MARK_SHIFT;
	return 0;
}

int fm_kernel_share(struct fm_kernel *kernel, struct flowmond_bpf *skeleton)
{
	void *memory = NULL;
	int r = 0;

	if (kernel->clock_fd >= 0)
		return 0;
	if (!kernel->about)
		r = keep_shared(kernel, skeleton);
	if (r < 0)
		return r;
	kernel->counters_size =
		page_round(FM_GATE_ELEMENT((size_t)kernel->n_cpus + FM_GATE_BANKS, 0, 0) *
			   sizeof(struct fm_counters));
	r = map_shared(kernel->map_fd[FM_SHARED_COUNTERS], kernel->counters_size, &memory);
	if (r < 0)
		return r;
	kernel->counters = memory;
	kernel->gate_accounts_size = page_round(FM_GATES * FM_GATE_BANKS * sizeof(struct fm_gate));
	r = map_shared(kernel->map_fd[FM_SHARED_GATES], kernel->gate_accounts_size, &memory);
	if (r < 0)
		return r;
	kernel->gate_accounts = memory;
	kernel->rules_size =
		page_round(FM_RULE_ELEMENT((size_t)kernel->n_cpus, 0) * sizeof(*kernel->rules));
	r = map_shared(kernel->map_fd[FM_SHARED_RULES], kernel->rules_size, &memory);
	if (r < 0)
		return r;
	kernel->rules = memory;
	kernel->live_size = page_round(sizeof(*skeleton->bss));
	r = map_shared(kernel->map_fd[FM_SHARED_LIVE], kernel->live_size, &memory);
	if (r < 0)
		return r;
	kernel->live = (void *)((char *)memory +
				((char *)&skeleton->bss->fm_live - (char *)skeleton->bss));
	r = choose_mark(kernel->live);
	if (r < 0)
		return r;
	r = fm_gates_new(&kernel->gates, kernel->n_cpus, kernel->counters, kernel->gate_accounts,
			 kernel->live->gates, FM_GATES_REST_NS);
	if (r < 0)
		return r;
	fm_gates_set_bank(kernel->gates, kernel->about->which);
	/* Last: it says that all the others are there. */
	kernel->clock_fd = dup(bpf_program__fd(skeleton->progs.fm_clock));
	return kernel->clock_fd < 0 ? -errno : 0;
}

void fm_kernel_set_prefixes(struct fm_kernel *kernel, const struct fm_prefix_map *map)
{
	kernel->prefixes = map;
}

const struct fm_prefix_map *fm_kernel_prefixes(const struct fm_kernel *kernel)
{
	return kernel->prefixes;
}

int fm_kernel_fits(const struct bpf_map *map, int fd)
{
	struct bpf_map_info info = {};
	__u32 size = sizeof(info);

	if (bpf_obj_get_info_by_fd(fd, &info, &size) < 0)
		return -errno;
	return info.type == bpf_map__type(map) && info.key_size == bpf_map__key_size(map) &&
	       info.value_size == bpf_map__value_size(map) &&
	       info.max_entries == bpf_map__max_entries(map);
}

/*
 * Tables of rules are made without type information. Linux 6.1 takes no such map where programs
 * were loaded with a pattern that has some.
 */
static int prepare_filters(struct fm_kernel *kernel, struct flowmond_bpf *skeleton)
{
	int *pattern = kernel->filter_pattern_fd, r = 0;

	if (pattern[0] < 0)
		r = fm_region_map_new("fm_filter", 1, sizeof(struct fm_filter), &pattern[0], NULL);
	if (r == 0 && pattern[1] < 0) {
		pattern[1] = fm_region_trie_new("fm_nets", sizeof(struct fm_filter_net_rows));
		r = FM_MIN(pattern[1], 0);
	}
	if (r == 0)
		r = bpf_map__set_inner_map_fd(skeleton->maps.fm_filters, pattern[0]);
	return r < 0 ? r : bpf_map__set_inner_map_fd(skeleton->maps.fm_filter_nets, pattern[1]);
}

int fm_kernel_prepare(struct fm_kernel *kernel, struct flowmond_bpf *skeleton)
{
	int r = bpf_map__set_max_entries(skeleton->maps.fm_counters,
					 FM_GATE_ELEMENT(kernel->n_cpus + FM_GATE_BANKS, 0, 0));

	if (r == 0)
		r = bpf_map__set_max_entries(skeleton->maps.fm_rules,
					     FM_RULE_ELEMENT(kernel->n_cpus, 0));
	if (r == 0)
		r = prepare_filters(kernel, skeleton);
	if (r < 0 || kernel->map_fd[FM_SHARED_COUNTERS] < 0)
		return r;
	for (unsigned int i = 0; i < _FM_SHARED_MAP_MAX; i++) {
		r = fm_kernel_fits(shared_map(skeleton, i), kernel->map_fd[i]);
		if (r < 0)
			return r;
		/* Those in use are never let go, whatever is said of them. */
		if (r == 0)
			return kernel->clock_fd < 0 ? -ESTALE : -EINVAL;
	}
	for (unsigned int i = 0; i < _FM_SHARED_MAP_MAX; i++) {
		r = bpf_map__reuse_fd(shared_map(skeleton, i), kernel->map_fd[i]);
		if (r < 0)
			return r;
	}
	return 0;
}

struct fm_store *fm_kernel_store(const struct fm_kernel *kernel)
{
	return kernel->store;
}

unsigned int fm_kernel_take_number(struct fm_kernel *kernel)
{
	return kernel->next_number++;
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

int fm_kernel_filter_fd(const struct fm_kernel *kernel, bool nets)
{
	return kernel->map_fd[nets ? FM_SHARED_FILTER_NETS : FM_SHARED_FILTERS];
}

struct fm_rule_count *fm_kernel_rules(const struct fm_kernel *kernel)
{
	return kernel->rules;
}

uint32_t fm_kernel_filter(const struct fm_kernel *kernel)
{
	return __atomic_load_n(&kernel->live->filter, __ATOMIC_RELAXED);
}

void fm_kernel_set_filter(struct fm_kernel *kernel, uint32_t filter)
{
	__atomic_store_n(&kernel->live->filter, filter, __ATOMIC_RELEASE);
}

struct fm_gates *fm_kernel_gates(const struct fm_kernel *kernel)
{
	return kernel->gates;
}

enum fm_seen fm_kernel_seen(const struct fm_kernel *kernel, uint32_t ifindex)
{
	uint32_t value;

	if (bpf_map_lookup_elem(kernel->map_fd[FM_SHARED_IFACES], &ifindex, &value) < 0)
		return FM_SEEN_NO;
	return value == FM_SEEN_MARKED ? FM_SEEN_MARKED : FM_SEEN_YES;
}

/* What the interface table says in short about the interfaces of ifindex's cell. */
static uint32_t seen_cell(const struct fm_kernel *kernel, uint32_t ifindex)
{
	uint32_t cell = 0, *previous = NULL, key;

	while (bpf_map_get_next_key(kernel->map_fd[FM_SHARED_IFACES], previous, &key) == 0) {
		previous = &key;
		if (FM_SEEN_CELL(key) != FM_SEEN_CELL(ifindex))
			continue;
		if (cell || fm_kernel_seen(kernel, key) == FM_SEEN_MARKED)
			return FM_SEEN_SHARED;
		cell = key;
	}
	return cell;
}

int fm_kernel_set_seen(struct fm_kernel *kernel, uint32_t ifindex, enum fm_seen seen)
{
	uint32_t value = seen, *cell = &kernel->live->seen[FM_SEEN_CELL(ifindex)];
	int fd = kernel->map_fd[FM_SHARED_IFACES];

	if (seen && bpf_map_update_elem(fd, &ifindex, &value, BPF_ANY) < 0)
		return -errno;
	if (!seen && bpf_map_delete_elem(fd, &ifindex) < 0 && errno != ENOENT)
		return -errno;
	__atomic_store_n(cell, seen_cell(kernel, ifindex), __ATOMIC_RELEASE);
	return 0;
}

void fm_kernel_mark_others(struct fm_kernel *kernel, bool marks)
{
	__atomic_store_n(&kernel->live->others, marks ? FM_GATE_MARKS : 0, __ATOMIC_RELEASE);
}

void fm_kernel_prune_seen(struct fm_kernel *kernel,
			  bool (*is_seen)(void *userdata, uint32_t ifindex), void *userdata)
{
	int fd = kernel->map_fd[FM_SHARED_IFACES];
	uint32_t *previous = NULL, key, at;

	while (bpf_map_get_next_key(fd, previous, &key) == 0) {
		if (is_seen(userdata, key)) {
			at = key;
			previous = &at;
		} else {
			/* The key is gone for the next step: from where the walk was. */
			fm_kernel_set_seen(kernel, key, FM_SEEN_NO);
		}
	}
}

unsigned int fm_kernel_cpus(const struct fm_kernel *kernel)
{
	return kernel->n_cpus;
}

int fm_kernel_overflow_fd(const struct fm_kernel *kernel)
{
	return kernel->map_fd[FM_SHARED_OVERFLOW];
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
static int open_fence(struct fm_kernel *kernel)
{
	LIBBPF_OPTS(bpf_map_create_opts, opts);

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
	return 0;
}

static int fence_map(struct fm_kernel *kernel)
{
	uint32_t zero = 0;
	int r;

	pthread_mutex_lock(&kernel->fence_lock);
	r = open_fence(kernel);
	pthread_mutex_unlock(&kernel->fence_lock);
	if (r < 0)
		return r;
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

unsigned int fm_kernel_shared(const struct fm_kernel *kernel)
{
	return kernel->shared_number;
}

int fm_kernel_inherit_seen(struct fm_kernel *kernel, int ifaces_fd)
{
	uint32_t *previous = NULL, key, seen;
	struct bpf_map_info info = {};
	__u32 size = sizeof(info);
	int r = 0;

	if (bpf_obj_get_info_by_fd(ifaces_fd, &info, &size) < 0)
		return -errno;
	if (info.type != BPF_MAP_TYPE_HASH || info.key_size != sizeof(key) ||
	    info.value_size != sizeof(seen))
		return -EINVAL;
	while (r == 0 && bpf_map_get_next_key(ifaces_fd, previous, &key) == 0) {
		previous = &key;
		if (bpf_map_lookup_elem(ifaces_fd, &key, &seen) == 0 && seen == FM_SEEN_YES)
			r = fm_kernel_set_seen(kernel, key, FM_SEEN_YES);
	}
	return r;
}

void fm_kernel_took(struct fm_kernel *kernel, const unsigned int *numbers, size_t n)
{
	uint32_t other = !(kernel->about->which & 1);
	struct fm_about_taken *taken = &kernel->about->taken[other];

	*taken = (struct fm_about_taken){.n_shared = (uint32_t)n};
	for (size_t i = 0; i < n; i++)
		taken->shared[i] = numbers[i];
	__atomic_store_n(&kernel->about->which, other, __ATOMIC_SEQ_CST);
	fm_gates_set_bank(kernel->gates, other);
}
