/* SPDX-License-Identifier: Apache-2.0 */
/* Maps of another layout: see foreign.h. */
#include "daemon/foreign.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/macro.h"
#include "daemon/generation.h"
#include "daemon/loader.h"

/* Elements lie at multiples of 8. */
static size_t stride_of(size_t value_size)
{
	return (value_size + 7) & ~(size_t)7;
}

static int copy_about(struct fm_about **ret, const struct fm_about *about)
{
	*ret = malloc(sizeof(**ret));
	if (!*ret)
		return -ENOMEM;
	memcpy(*ret, about, sizeof(**ret));
	return 0;
}

/* --- tables --- */

static bool has_map(const struct fm_about *about, enum fm_region_map map)
{
	if (map == FM_REGION_TCP || map == FM_REGION_TCP_EXPORTED)
		return about->tcp && about->value_size[map];
	return map != FM_REGION_TUNNELS || (about->tunnel && about->value_size[map]);
}

static void region_done(struct fm_foreign_region *region)
{
	for (unsigned int i = 0; i < _FM_REGION_MAP_MAX; i++)
		fm_region_unmap(region->memory[i], region->n_elements[i], region->value_size[i]);
	*region = (struct fm_foreign_region){};
}

static int open_map(struct fm_foreign *foreign, struct fm_store *store, uint32_t cpu,
		    enum fm_region_map map)
{
	struct fm_foreign_region *region = &foreign->regions[cpu];
	size_t value_size = foreign->about->value_size[map];
	char name[FM_STORE_NAME_MAX];
	uint32_t n_elements;
	void *memory;
	int fd, r;

	fm_generation_region_name(foreign->number, cpu, fm_region_map_names[map], name);
	fd = fm_store_take(store, name);
	if (fd < 0)
		return fd;
	r = fm_region_map_take(fd, value_size, &n_elements, &memory);
	close(fd);
	if (r < 0)
		return r;
	region->memory[map] = memory;
	region->n_elements[map] = n_elements;
	region->value_size[map] = value_size;
	/* Behind the slots are marks, of which this one knows nothing. */
	return n_elements < foreign->about->n_slots ? -EINVAL : 0;
}

/* A region that is not whole is none; one that is not there is of a CPU that was never online. */
static void open_region(struct fm_foreign *foreign, struct fm_store *store, uint32_t cpu)
{
	int r = 0;

	if (!fm_generation_has_region(store, foreign->number, cpu))
		return;
	for (unsigned int map = 0; map < _FM_REGION_MAP_MAX && r == 0; map++)
		if (has_map(foreign->about, map))
			r = open_map(foreign, store, cpu, map);
	if (r < 0) {
		region_done(&foreign->regions[cpu]);
		foreign->broken++;
	}
}

int fm_foreign_open(struct fm_foreign **ret, struct fm_store *store, unsigned int number,
		    const struct fm_about *about)
{
	_fm_cleanup_(fm_foreign_freep) struct fm_foreign *foreign = calloc(1, sizeof(*foreign));
	int r;

	if (!foreign)
		return -ENOMEM;
	foreign->number = number;
	r = copy_about(&foreign->about, about);
	if (r < 0)
		return r;
	/* There is such a row, aligned: fm_about_is_sound() asks for it. */
	foreign->tag_offset = fm_about_find(foreign->about, FM_REGION_SLOTS, "tag")->offset;
	foreign->regions = calloc(about->n_cpus, sizeof(*foreign->regions));
	if (!foreign->regions)
		return -ENOMEM;
	for (uint32_t cpu = 0; cpu < about->n_cpus; cpu++)
		open_region(foreign, store, cpu);
	*ret = FM_TAKE_PTR(foreign);
	return 0;
}

struct fm_foreign *fm_foreign_free(struct fm_foreign *foreign)
{
	if (!foreign)
		return NULL;
	for (uint32_t cpu = 0; foreign->regions && cpu < foreign->about->n_cpus; cpu++)
		region_done(&foreign->regions[cpu]);
	free(foreign->regions);
	free(foreign->about);
	free(foreign);
	return NULL;
}

static uint8_t *element(const struct fm_foreign *foreign, uint32_t cpu, enum fm_region_map map,
			uint32_t position)
{
	const struct fm_foreign_region *region = &foreign->regions[cpu];

	if (!region->memory[map])
		return NULL;
	return region->memory[map] + position * stride_of(region->value_size[map]);
}

const uint8_t *fm_foreign_element(const struct fm_foreign *foreign, uint32_t cpu,
				  enum fm_region_map map, uint32_t position)
{
	return element(foreign, cpu, map, position);
}

static uint32_t *tag_of(const struct fm_foreign *foreign, uint32_t cpu, uint32_t position)
{
	return (uint32_t *)(element(foreign, cpu, FM_REGION_SLOTS, position) + foreign->tag_offset);
}

bool fm_foreign_is_live(const struct fm_foreign *foreign, uint32_t cpu, uint32_t position)
{
	uint32_t tag = __atomic_load_n(tag_of(foreign, cpu, position), __ATOMIC_ACQUIRE);

	return tag >= foreign->about->tag_live || tag == foreign->about->tag_closing;
}

static void store_account(const struct fm_foreign *foreign, const struct fm_ledger_entry *entry,
			  enum fm_region_map map, const void *account, size_t size)
{
	uint8_t *to = element(foreign, entry->region, map, entry->position);

	if (to && size == foreign->about->value_size[map])
		memcpy(to, account, size);
}

/* As fm_sweep_apply(), without looking into the accounts: they are of this layout. */
void fm_foreign_apply(struct fm_foreign *foreign, const struct fm_ledger_found *found)
{
	const struct fm_ledger_entry *entry = &found->entry;
	uint32_t *tag;

	if (entry->region >= foreign->about->n_cpus || entry->position >= foreign->about->n_slots ||
	    !foreign->regions[entry->region].memory[FM_REGION_SLOTS])
		return;
	tag = tag_of(foreign, entry->region, entry->position);
	if (entry->op == FM_LEDGER_FREE && *tag != foreign->about->tag_closing)
		return;
	store_account(foreign, entry, FM_REGION_EXPORTED, found->exported, found->exported_size);
	store_account(foreign, entry, FM_REGION_TCP_EXPORTED, found->tcp_exported,
		      found->tcp_exported_size);
	if (entry->op == FM_LEDGER_FREE)
		__atomic_store_n(tag, foreign->about->tag_tombstone, __ATOMIC_RELEASE);
}

/* --- shared maps --- */

static int take_shared(struct fm_store *store, unsigned int number, enum fm_shared_map map)
{
	char name[FM_STORE_NAME_MAX];

	fm_kernel_shared_name(number, fm_shared_map_names[map], name);
	return fm_store_take(store, name);
}

/* Elements of the counters and of the gates; 0: more than a map can have. */
static uint32_t elements_of(const struct fm_about *about, enum fm_shared_map map)
{
	uint64_t n = (uint64_t)about->n_gates * FM_GATE_BANKS;

	if (map == FM_SHARED_COUNTERS)
		n = (uint64_t)about->n_gates * about->n_hooks * (about->n_cpus + FM_GATE_BANKS);
	return n > UINT32_MAX ? 0 : (uint32_t)n;
}

static uint8_t *map_shared(struct fm_store *store, unsigned int number,
			   const struct fm_about *about, enum fm_shared_map map)
{
	_fm_cleanup_close_ int fd = take_shared(store, number, map);
	void *memory;

	if (fd < 0 ||
	    fm_region_map_adopt(fd, elements_of(about, map), about->value_size[map], &memory) < 0)
		return NULL;
	return memory;
}

int fm_foreign_shared_open(struct fm_foreign_shared **ret, struct fm_store *store,
			   unsigned int number, const struct fm_about *about)
{
	_fm_cleanup_(fm_foreign_shared_freep) struct fm_foreign_shared *shared = NULL;
	int r;

	shared = calloc(1, sizeof(*shared));
	if (!shared)
		return -ENOMEM;
	shared->number = number;
	shared->ring_fd = shared->ifaces_fd = -1;
	r = copy_about(&shared->about, about);
	if (r < 0)
		return r;
	shared->counters = map_shared(store, number, about, FM_SHARED_COUNTERS);
	shared->gates = map_shared(store, number, about, FM_SHARED_GATES);
	shared->ring_fd = take_shared(store, number, FM_SHARED_OVERFLOW);
	shared->ifaces_fd = take_shared(store, number, FM_SHARED_IFACES);
	*ret = FM_TAKE_PTR(shared);
	return 0;
}

struct fm_foreign_shared *fm_foreign_shared_free(struct fm_foreign_shared *shared)
{
	if (!shared)
		return NULL;
	if (shared->counters)
		fm_region_unmap(shared->counters, elements_of(shared->about, FM_SHARED_COUNTERS),
				shared->about->value_size[FM_SHARED_COUNTERS]);
	if (shared->gates)
		fm_region_unmap(shared->gates, elements_of(shared->about, FM_SHARED_GATES),
				shared->about->value_size[FM_SHARED_GATES]);
	if (shared->ring_fd >= 0)
		close(shared->ring_fd);
	if (shared->ifaces_fd >= 0)
		close(shared->ifaces_fd);
	free(shared->about);
	free(shared);
	return NULL;
}

const uint8_t *fm_foreign_counters(const struct fm_foreign_shared *shared, uint32_t cpu,
				   uint32_t gate, uint32_t hook)
{
	const struct fm_about *about = shared->about;
	uint32_t at = cpu < about->n_cpus ? cpu : about->n_cpus + (about->which & 1);
	size_t index = ((size_t)at * about->n_gates + gate) * about->n_hooks + hook;

	return shared->counters + index * stride_of(about->value_size[FM_SHARED_COUNTERS]);
}

const uint8_t *fm_foreign_gate(const struct fm_foreign_shared *shared, uint32_t gate)
{
	const struct fm_about *about = shared->about;
	size_t index = (size_t)(about->which & 1) * about->n_gates + gate;

	return shared->gates + index * stride_of(about->value_size[FM_SHARED_GATES]);
}
