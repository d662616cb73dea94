/* SPDX-License-Identifier: Apache-2.0 */
/* Maps and store in memory: see keep.h. */
#include "keep.h"

#include <errno.h>
#include <linux/bpf.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include <bpf/bpf.h>

#include "fuzz.h"

#define MAPS_MAX  32
#define NAMES_MAX 32

static struct map {
	ino_t inode; /* 0: none */
	struct bpf_map_info info;
} maps[MAPS_MAX];

static struct kept {
	char name[FM_STORE_NAME_MAX];
	int fd;
	void *memory; /* for who garbles it */
	size_t octets;
} names[NAMES_MAX];

static unsigned int next_map;

static size_t octets_of(const struct bpf_map_info *info)
{
	size_t page = (size_t)sysconf(_SC_PAGESIZE);
	size_t octets = (size_t)info->max_entries * ((info->value_size + 7) & ~7u);

	if (info->type == BPF_MAP_TYPE_RINGBUF)
		return 2 * page + 2 * (size_t)info->max_entries;
	return (octets + page - 1) / page * page;
}

/* The oldest is forgotten: nobody has so many. */
static int make(const struct bpf_map_info *info)
{
	int fd = memfd_create("map", MFD_CLOEXEC);
	struct stat status;

	FUZZ_CHECK(fd >= 0 && ftruncate(fd, (off_t)octets_of(info)) == 0);
	FUZZ_CHECK(fstat(fd, &status) == 0);
	maps[next_map++ % MAPS_MAX] = (struct map){status.st_ino, *info};
	return fd;
}

static struct map *find_map(int fd)
{
	struct stat status;

	if (fstat(fd, &status) == 0)
		for (size_t i = 0; i < MAPS_MAX; i++)
			if (maps[i].inode == status.st_ino)
				return &maps[i];
	return NULL;
}

int keep_ring(size_t octets)
{
	return make(&(struct bpf_map_info){.type = BPF_MAP_TYPE_RINGBUF,
					   .max_entries = (uint32_t)octets});
}

int bpf_map_create(enum bpf_map_type type, const char *name, __u32 key_size, __u32 value_size,
		   __u32 max_entries, const struct bpf_map_create_opts *opts)
{
	return make(&(struct bpf_map_info){.type = type,
					   .key_size = key_size,
					   .value_size = value_size,
					   .max_entries = max_entries,
					   .map_flags = opts ? opts->map_flags : 0});
}

int bpf_obj_get_info_by_fd(int fd, void *info, __u32 *size)
{
	const struct map *map = find_map(fd);

	if (!map) {
		errno = EINVAL;
		return -1;
	}
	memcpy(info, &map->info, *size < sizeof(map->info) ? *size : sizeof(map->info));
	return 0;
}

/* --- daemon/store.h --- */

struct fm_store *keep_store(void)
{
	return (struct fm_store *)names;
}

static struct kept *find_name(const char *name)
{
	for (size_t i = 0; i < NAMES_MAX; i++)
		if (!strcmp(names[i].name, name))
			return &names[i];
	return NULL;
}

void *keep_memory(const char *name, size_t *ret_octets)
{
	struct kept *kept = find_name(name);

	if (!kept)
		return NULL;
	*ret_octets = kept->octets;
	return kept->memory;
}

int fm_store_put(struct fm_store *store, const char *name, int fd)
{
	struct kept *kept = find_name("");

	FUZZ_CHECK(kept && !find_name(name));
	snprintf(kept->name, sizeof(kept->name), "%s", name);
	kept->fd = dup(fd);
	kept->octets = octets_of(&find_map(fd)->info);
	kept->memory = mmap(NULL, kept->octets, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
	FUZZ_CHECK(kept->fd >= 0 && kept->memory != MAP_FAILED);
	return 0;
}

int fm_store_take(struct fm_store *store, const char *name)
{
	struct kept *kept = find_name(name);

	return kept ? dup(kept->fd) : -ENOENT;
}

void fm_store_remove(struct fm_store *store, const char *name)
{
	struct kept *kept = find_name(name);

	if (!kept)
		return;
	munmap(kept->memory, kept->octets);
	close(kept->fd);
	*kept = (struct kept){};
}
