/* SPDX-License-Identifier: Apache-2.0 */
/* One CPU's tables: see region.h. */
#include "daemon/region.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include <bpf/bpf.h>

#include "base/cleanup.h"
#include "base/macro.h"
#include "bpf/hash.h"

const char *const fm_region_map_names[] = {
	[FM_REGION_SLOTS] = "slots",	 [FM_REGION_EXPORTED] = "exported",
	[FM_REGION_TCP] = "tcp",	 [FM_REGION_TCP_EXPORTED] = "tcp_exported",
	[FM_REGION_TUNNELS] = "tunnels",
};

static const size_t value_sizes[] = {
	[FM_REGION_SLOTS] = sizeof(struct fm_slot),
	[FM_REGION_EXPORTED] = sizeof(struct fm_exported),
	[FM_REGION_TCP] = sizeof(struct fm_tcp_slot),
	[FM_REGION_TCP_EXPORTED] = sizeof(struct fm_tcp_exported),
	[FM_REGION_TUNNELS] = sizeof(struct fm_tunnel),
};

/* Accounts are arrays in user space, and elements of a map lie at multiples of 8. */
_Static_assert(sizeof(struct fm_exported) % 8 == 0 && sizeof(struct fm_tcp_exported) % 8 == 0,
	       "accounts");

bool fm_region_has(const struct fm_region_shape *shape, enum fm_region_map map)
{
	if (map == FM_REGION_TCP || map == FM_REGION_TCP_EXPORTED)
		return shape->tcp;
	return map != FM_REGION_TUNNELS || shape->tunnels;
}

static uint32_t elements_of(const struct fm_region_shape *shape, enum fm_region_map map)
{
	return map == FM_REGION_SLOTS ? fm_region_elements(shape->n_slots) : shape->n_slots;
}

/* Elements of a map lie at multiples of 8, and it is mapped in whole pages. */
static size_t map_octets(uint32_t n_elements, size_t value_size)
{
	size_t page = (size_t)sysconf(_SC_PAGESIZE);
	size_t octets = n_elements * ((value_size + 7) & ~(size_t)7);

	return (octets + page - 1) / page * page;
}

uint64_t fm_region_octets(const struct fm_region_shape *shape)
{
	uint64_t octets = 0;

	for (unsigned int i = 0; i < _FM_REGION_MAP_MAX; i++)
		if (fm_region_has(shape, i))
			octets += map_octets(elements_of(shape, i), value_sizes[i]);
	return octets;
}

static int map_memory(int fd, uint32_t n_elements, size_t value_size, void **ret)
{
	void *memory = mmap(NULL, map_octets(n_elements, value_size), PROT_READ | PROT_WRITE,
			    MAP_SHARED, fd, 0);

	if (memory == MAP_FAILED)
		return -errno;
	*ret = memory;
	return 0;
}

int fm_region_map_new(const char *name, uint32_t n_elements, size_t value_size, int *ret_fd,
		      void **ret_memory)
{
	LIBBPF_OPTS(bpf_map_create_opts, opts, .map_flags = BPF_F_MMAPABLE);
	_fm_cleanup_close_ int fd = bpf_map_create(BPF_MAP_TYPE_ARRAY, name, sizeof(uint32_t),
						   (uint32_t)value_size, n_elements, &opts);
	int r;

	if (fd < 0)
		return -errno;
	if (ret_memory) {
		r = map_memory(fd, n_elements, value_size, ret_memory);
		if (r < 0)
			return r;
	}
	*ret_fd = FM_TAKE_FD(fd);
	return 0;
}

int fm_region_trie_new(const char *name, size_t value_size)
{
	LIBBPF_OPTS(bpf_map_create_opts, opts, .map_flags = BPF_F_NO_PREALLOC);
	int fd = bpf_map_create(BPF_MAP_TYPE_LPM_TRIE, name, sizeof(struct fm_filter_net),
				(uint32_t)value_size, FM_FILTER_NETS, &opts);

	return fd < 0 ? -errno : fd;
}

int fm_region_map_take(int fd, size_t value_size, uint32_t *ret_elements, void **ret_memory)
{
	struct bpf_map_info info = {};
	__u32 size = sizeof(info);
	int r;

	if (bpf_obj_get_info_by_fd(fd, &info, &size) < 0)
		return -EINVAL;
	if (info.type != BPF_MAP_TYPE_ARRAY || info.value_size != value_size ||
	    !(info.map_flags & BPF_F_MMAPABLE))
		return -EINVAL;
	r = map_memory(fd, info.max_entries, value_size, ret_memory);
	if (r == 0)
		*ret_elements = info.max_entries;
	return r;
}

int fm_region_map_adopt(int fd, uint32_t n_elements, size_t value_size, void **ret_memory)
{
	uint32_t elements = 0;
	void *memory = NULL;
	int r = fm_region_map_take(fd, value_size, &elements, &memory);

	if (r < 0)
		return r;
	if (elements != n_elements) {
		fm_region_unmap(memory, elements, value_size);
		return -EINVAL;
	}
	*ret_memory = memory;
	return 0;
}

void fm_region_unmap(void *memory, uint32_t n_elements, size_t value_size)
{
	if (memory)
		munmap(memory, map_octets(n_elements, value_size));
}

void fm_region_init(struct fm_region *region)
{
	*region = (struct fm_region){};
	for (unsigned int i = 0; i < _FM_REGION_MAP_MAX; i++)
		region->fd[i] = -1;
}

static void **memory_of(struct fm_region *region, enum fm_region_map map)
{
	void **const places[] = {
		[FM_REGION_SLOTS] = (void **)&region->slots,
		[FM_REGION_EXPORTED] = (void **)&region->exported,
		[FM_REGION_TCP] = (void **)&region->tcp,
		[FM_REGION_TCP_EXPORTED] = (void **)&region->tcp_exported,
		[FM_REGION_TUNNELS] = (void **)&region->tunnels,
	};

	return places[map];
}

void fm_region_done(struct fm_region *region, const struct fm_region_shape *shape)
{
	for (unsigned int i = 0; i < _FM_REGION_MAP_MAX; i++) {
		fm_region_unmap(*memory_of(region, i), elements_of(shape, i), value_sizes[i]);
		if (region->fd[i] >= 0)
			close(region->fd[i]);
	}
	free(region->looks);
	fm_region_init(region);
}

static int make_looks(struct fm_region *region, const struct fm_region_shape *shape)
{
	region->looks = calloc(fm_region_blocks(shape->n_slots), sizeof(*region->looks));
	return region->looks ? 0 : -ENOMEM;
}

/* Of maps that are there, or, fd being NULL, new ones. */
static int build(struct fm_region *ret, const struct fm_region_shape *shape, const int *fd)
{
	struct fm_region made;
	int r;

	fm_region_init(&made);
	r = make_looks(&made, shape);
	for (unsigned int i = 0; i < _FM_REGION_MAP_MAX && r == 0; i++) {
		uint32_t n_elements = elements_of(shape, i);

		if (!fm_region_has(shape, i))
			continue;
		if (fd)
			r = fm_region_map_adopt(fd[i], n_elements, value_sizes[i],
						memory_of(&made, i));
		else
			r = fm_region_map_new("fm_region", n_elements, value_sizes[i], &made.fd[i],
					      memory_of(&made, i));
	}
	if (r < 0) {
		fm_region_done(&made, shape);
		return r;
	}
	if (fd)
		memcpy(made.fd, fd, sizeof(made.fd));
	*ret = made;
	return 0;
}

int fm_region_new(struct fm_region *ret, const struct fm_region_shape *shape)
{
	return build(ret, shape, NULL);
}

int fm_region_adopt(struct fm_region *ret, const struct fm_region_shape *shape,
		    const int fd[_FM_REGION_MAP_MAX])
{
	return build(ret, shape, fd);
}

/* An account is of a slot in use, and of no more than was counted there. */
static void repair_account(const struct fm_region *region, uint32_t position)
{
	const struct fm_slot *slot = &region->slots[position];
	struct fm_exported *exported = &region->exported[position];
	bool sound = slot->tag >= FM_TAG_LIVE;

	for (unsigned int i = 0; i < 2; i++)
		sound = sound && exported->half[i].packets <= slot->half[i].packets &&
			exported->half[i].octets <= slot->half[i].octets;
	if (sound)
		return;
	*exported = (struct fm_exported){};
	if (region->tcp)
		region->tcp_exported[position] = (struct fm_tcp_exported){};
}

void fm_region_repair(struct fm_region *region, const struct fm_region_shape *shape,
		      const __u64 seed[FM_SEEDS])
{
	for (uint32_t i = 0; i < shape->n_slots; i++) {
		struct fm_key key = region->slots[i].key;
		uint32_t closing = FM_TAG_CLOSING, tag = fm_hash_tag(fm_hash(&key, seed));

		__atomic_compare_exchange_n(&region->slots[i].tag, &closing, tag, false,
					    __ATOMIC_RELEASE, __ATOMIC_RELAXED);
		repair_account(region, i);
	}
	for (uint32_t i = 0; i < fm_region_blocks(shape->n_slots); i++)
		__atomic_store_n(fm_region_mark(region->slots, shape->n_slots, i), 1,
				 __ATOMIC_RELAXED);
}
