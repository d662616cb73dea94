/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Tables of another layout, with any content and any description: what is taken for sound is read
 * inside its maps, and every packet of it is in the tables that are made of it, or told as lost.
 * generation.c's part stands here, without a kernel.
 */
#include <errno.h>
#include <linux/bpf.h>
#include <sys/mman.h>
#include <unistd.h>

#include "daemon/ring.h"
#include "daemon/translate.h"
#include "fuzz.h"
#include "keep.h"

#define NUMBER 7
#define CPUS   2 /* here */
#define THERE  2 /* in what is found */
#define SLOTS  40
#define RING   4096u

/* --- what generation.c and loader.c do --- */

unsigned int fm_kernel_cpus(const struct fm_kernel *kernel)
{
	return CPUS;
}

struct fm_gates *fm_kernel_gates(const struct fm_kernel *kernel)
{
	abort();
}

void fm_kernel_took(struct fm_kernel *kernel, const unsigned int *numbers, size_t n)
{
}

void fm_kernel_shared_name(unsigned int number, const char *part, char ret[FM_STORE_NAME_MAX])
{
	snprintf(ret, FM_STORE_NAME_MAX, "shared-%u-%s", number, part);
}

void fm_generation_region_name(unsigned int number, uint32_t cpu, const char *map,
			       char ret[FM_STORE_NAME_MAX])
{
	snprintf(ret, FM_STORE_NAME_MAX, "gen-%u-%u-%s", number, cpu, map);
}

bool fm_generation_has_region(struct fm_store *store, unsigned int number, uint32_t cpu)
{
	return cpu < THERE;
}

int fm_generation_new_replaced(struct fm_generation **ret, struct fm_kernel *kernel,
			       const struct fm_kernel_options *options, uint32_t homes)
{
	struct fm_generation *generation = calloc(1, sizeof(*generation));

	generation->options = *options;
	generation->homes = homes;
	generation->all_homes = FM_ALL_HOMES(homes);
	generation->n_slots = FM_ALL_SLOTS(homes);
	generation->n_cpus = CPUS;
	generation->regions = calloc(CPUS, sizeof(*generation->regions));
	for (unsigned int i = 0; i < FM_SEEDS; i++)
		generation->seed[i] = 0x9e3779b97f4a7c15ULL * (i + homes);
	*ret = generation;
	return 0;
}

int fm_generation_add_region(struct fm_generation *generation, uint32_t cpu)
{
	struct fm_region *region = &generation->regions[cpu];
	size_t n = generation->n_slots;

	FUZZ_CHECK(cpu < CPUS);
	if (region->slots)
		return 0;
	region->slots = aligned_alloc(64, n * sizeof(*region->slots));
	memset(region->slots, 0, n * sizeof(*region->slots));
	region->exported = calloc(n, sizeof(*region->exported));
	if (generation->options.tcp) {
		region->tcp = aligned_alloc(64, n * sizeof(*region->tcp));
		region->tcp_exported = calloc(n, sizeof(*region->tcp_exported));
	}
	if (generation->options.tunnel)
		region->tunnels = calloc(n, sizeof(*region->tunnels));
	return 0;
}

void fm_generation_repair(struct fm_generation *generation)
{
}

int fm_generation_publish(struct fm_generation *generation, const struct fm_about_taken *taken)
{
	FUZZ_CHECK(taken->n_tables == 1 && taken->tables[0] == NUMBER);
	return 0;
}

void fm_generation_forget(struct fm_generation *generation)
{
}

struct fm_generation *fm_generation_free(struct fm_generation *generation)
{
	for (uint32_t i = 0; generation && i < CPUS; i++) {
		free(generation->regions[i].slots);
		free(generation->regions[i].exported);
		free(generation->regions[i].tcp);
		free(generation->regions[i].tcp_exported);
		free(generation->regions[i].tunnels);
	}
	if (generation)
		free(generation->regions);
	free(generation);
	return NULL;
}

/* --- what is found --- */

static struct fm_about about, about_shared;

/* Larger elements, members elsewhere in them, others gone or of another size. */
static void describe(struct input *input, struct fm_about *ret, enum fm_about_kind kind)
{
	uint8_t how = input_u8(input);

	fm_about_init(ret, kind);
	ret->state = FM_ABOUT_CURRENT;
	ret->n_cpus = THERE;
	ret->homes = 4;
	ret->n_slots = SLOTS;
	ret->tcp = how & 1;
	ret->tunnel = how >> 1 & 1;
	for (unsigned int i = 0; i < FM_ABOUT_MAPS && how & 4; i++)
		ret->value_size[i] *= 2;
	for (uint32_t i = 0; i < ret->n_rows && how & 8; i++)
		ret->rows[i].offset =
			ret->value_size[ret->rows[i].map] - ret->rows[i].offset - ret->rows[i].size;
	if (how & 0x10)
		ret->tag_live = input_u8(input);
	for (unsigned int i = how >> 5; i > 0; i--) {
		struct fm_about_row *row = &ret->rows[input_u8(input) % ret->n_rows];

		if (input_u8(input) & 1)
			row->size = input_u8(input);
		else
			row->name[0] ^= 1;
	}
	input_patch(input, ret, offsetof(struct fm_about, rows), input_u8(input) & 3);
	input_patch(input, ret->rows, sizeof(ret->rows), input_u8(input) & 3);
}

/* Maps as the description was before it was garbled: what they hold is any. */
static void make_maps(struct input *input, const uint32_t value_size[FM_ABOUT_MAPS])
{
	for (uint32_t cpu = 0; cpu < THERE; cpu++)
		for (unsigned int map = 0; map < _FM_REGION_MAP_MAX; map++) {
			char name[FM_STORE_NAME_MAX];
			size_t octets;
			void *memory;
			int fd;

			fm_generation_region_name(NUMBER, cpu, fm_region_map_names[map], name);
			FUZZ_CHECK(fm_region_map_new(name, SLOTS + (map == FM_REGION_SLOTS),
						     value_size[map], &fd, NULL) == 0);
			fm_store_put(keep_store(), name, fd);
			close(fd);
			memory = keep_memory(name, &octets);
			input_patch(input, memory, octets, input_u8(input) & (map ? 3 : 31));
		}
}

/* Slots in use, where the description says that the tag is. */
static void use_slots(struct input *input)
{
	const struct fm_about_row *tag = fm_about_find(&about, FM_REGION_SLOTS, "tag");
	char name[FM_STORE_NAME_MAX];
	size_t octets;
	uint8_t *memory;

	for (unsigned int i = input_u8(input) & 31; i > 0; i--) {
		uint32_t cpu = input_u8(input) % THERE, value = 16u + input_u8(input);
		uint64_t at = (uint64_t)(input_u8(input) % SLOTS) * about.value_size[0];

		fm_generation_region_name(NUMBER, cpu, "slots", name);
		memory = keep_memory(name, &octets);
		if (at + tag->offset + sizeof(value) <= octets)
			memcpy(memory + at + tag->offset, &value, sizeof(value));
	}
}

static int make_ring(struct input *input, uint32_t value_size)
{
	size_t page = (size_t)sysconf(_SC_PAGESIZE), octets = 2 * page + 2 * RING;
	uint32_t length = (value_size + 8 + 7) / 8 * 8, at = 0;
	int fd = keep_ring(RING);
	uint8_t *memory = mmap(NULL, octets, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);

	FUZZ_CHECK(memory != MAP_FAILED);
	for (unsigned int i = input_u8(input) & 15; i > 0 && at + length < RING; i--) {
		*(uint32_t *)(memory + 2 * page + at) = value_size;
		input_copy(input, memory + 2 * page + at + 8, input_u8(input) % value_size);
		at += length;
	}
	*(uint64_t *)(memory + page) = at;
	memcpy(memory + 2 * page + RING, memory + 2 * page, RING);
	munmap(memory, octets);
	return fd;
}

/* --- and what it is worth --- */

static uint64_t number_of(const struct fm_about *of, uint32_t map, const char *name,
			  const uint8_t *element)
{
	const struct fm_about_row *row = fm_about_find(of, map, name);
	uint64_t value = 0;

	if (!row || (row->size != 1 && row->size != 2 && row->size != 4 && row->size != 8))
		return 0;
	for (uint32_t i = row->size; i > 0; i--) /* the fuzzers run where the first is the least */
		value = value << 8 | element[row->offset + i - 1];
	return value;
}

static uint64_t packets_there(const struct fm_foreign *foreign)
{
	uint64_t sum = 0;

	for (uint32_t cpu = 0; cpu < foreign->about->n_cpus; cpu++)
		for (uint32_t p = 0; foreign->regions[cpu].memory[0] && p < foreign->about->n_slots;
		     p++) {
			const uint8_t *slot = fm_foreign_element(foreign, cpu, FM_REGION_SLOTS, p);

			if (!fm_foreign_is_live(foreign, cpu, p))
				continue;
			sum += number_of(&about, FM_REGION_SLOTS, "0.packets", slot);
			sum += number_of(&about, FM_REGION_SLOTS, "1.packets", slot);
		}
	return sum;
}

static uint64_t packets_on_ring(int fd)
{
	struct fm_ring *ring;
	const uint8_t *event;
	uint64_t sum = 0;
	size_t size;

	FUZZ_CHECK(fm_ring_new(&ring, fd) == 0);
	while ((event = fm_ring_read(ring, &size)))
		if (size >= about_shared.value_size[FM_SHARED_OVERFLOW])
			sum += number_of(&about_shared, FM_SHARED_OVERFLOW, "0.packets", event);
	fm_ring_free(ring);
	return sum;
}

static uint64_t packets_here(const struct fm_generation *generation)
{
	uint64_t sum = 0;

	for (uint32_t cpu = 0; generation && cpu < CPUS; cpu++)
		for (uint32_t p = 0; generation->regions[cpu].slots && p < generation->n_slots; p++)
			sum += generation->regions[cpu].slots[p].half[0].packets +
			       generation->regions[cpu].slots[p].half[1].packets;
	return sum;
}

/* What a ledger of theirs says is stored where it can be. */
static void apply(struct fm_foreign *foreign, struct input *input)
{
	uint8_t account[512] = {};

	for (unsigned int i = input_u8(input) & 15; i > 0; i--) {
		struct fm_ledger_found found = {
			.entry = {.op = input_u8(input) & 3,
				  .region = input_u8(input),
				  .position = input_u8(input)},
			.exported = account,
			.tcp_exported = account,
			.exported_size = input_u8(input) & 1
						 ? about.value_size[FM_REGION_EXPORTED] % 512
						 : input_u8(input),
			.tcp_exported_size = about.value_size[FM_REGION_TCP_EXPORTED] % 512,
		};

		fm_foreign_apply(foreign, &found);
	}
}

static void translate(struct fm_foreign *foreign, int ring_fd)
{
	struct fm_foreign_shared shared = {.number = 1, .about = &about_shared, .ring_fd = ring_fd};
	struct fm_foreign_shared *const all_shared[] = {&shared};
	struct fm_foreign *const all[] = {foreign};
	uint64_t there = packets_there(foreign);
	struct fm_generation *made = NULL;
	struct fm_translated found;
	int r;

	if (ring_fd >= 0)
		there += packets_on_ring(ring_fd);
	r = fm_translate_tables(&made, NULL, all, 1, all_shared, ring_fd >= 0, &found);
	FUZZ_CHECK(r == 0);
	FUZZ_CHECK(packets_here(made) + found.unplaced_packets == there);
	fm_generation_free(made);
}

static void clear(void)
{
	char name[FM_STORE_NAME_MAX];

	for (uint32_t cpu = 0; cpu < THERE; cpu++)
		for (unsigned int map = 0; map < _FM_REGION_MAP_MAX; map++) {
			fm_generation_region_name(NUMBER, cpu, fm_region_map_names[map], name);
			fm_store_remove(keep_store(), name);
		}
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct input input = {data, size};
	uint32_t value_size[FM_ABOUT_MAPS];
	struct fm_foreign *foreign;
	uint8_t how = input_u8(&input);
	int ring_fd = -1;

	fm_about_init(&about, FM_ABOUT_TABLES);
	for (unsigned int i = 0; i < FM_ABOUT_MAPS; i++)
		value_size[i] = about.value_size[i] * (how & 1 ? 2 : 1);
	describe(&input, &about, FM_ABOUT_TABLES);
	describe(&input, &about_shared, FM_ABOUT_SHARED);
	if (!fm_about_is_sound(&about))
		return 0;
	make_maps(&input, value_size);
	use_slots(&input);
	if (how & 2 && fm_about_is_sound(&about_shared))
		ring_fd = make_ring(&input, about_shared.value_size[FM_SHARED_OVERFLOW]);
	FUZZ_CHECK(fm_foreign_open(&foreign, keep_store(), NUMBER, &about) == 0);
	apply(foreign, &input);
	translate(foreign, ring_fd);
	fm_foreign_free(foreign);
	if (ring_fd >= 0)
		close(ring_fd);
	clear();
	return 0;
}
