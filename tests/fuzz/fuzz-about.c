/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What tables say of themselves, garbled: what is taken for sound holds together.
 */
#include "daemon/about.h"
#include "fuzz.h"

static struct fm_about about;

static void fill(enum fm_about_kind kind)
{
	fm_about_init(&about, kind);
	FUZZ_CHECK(fm_about_is_own(&about));
	about.state = FM_ABOUT_CURRENT;
	about.n_cpus = 2;
	about.homes = 64;
	about.n_slots = FM_ALL_SLOTS(64);
	FUZZ_CHECK(fm_about_is_sound(&about));
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct input input = {data, size};
	uint8_t how = input_u8(&input);

	fill(how & 8 ? FM_ABOUT_SHARED : FM_ABOUT_TABLES);
	if (how & 1)
		input_patch(&input, &about, offsetof(struct fm_about, rows), how >> 1 & 3);
	if (how & 0x80)
		input_patch(&input, about.rows, sizeof(about.rows), how >> 4 & 7);
	else
		input_copy(&input, &about.rows[how >> 4 & 7], sizeof(about.rows[0]));
	if (!fm_about_is_sound(&about))
		return 0;
	fm_about_is_own(&about);
	FUZZ_CHECK(about.n_rows <= FM_ABOUT_ROWS_MAX && about.n_cpus);
	for (uint32_t i = 0; i < about.n_rows; i++) {
		const struct fm_about_row *row = &about.rows[i];

		FUZZ_CHECK(strnlen(row->name, sizeof(row->name)) < sizeof(row->name));
		FUZZ_CHECK(row->map < FM_ABOUT_MAPS && row->size);
		FUZZ_CHECK((uint64_t)row->offset + row->size <= about.value_size[row->map]);
		FUZZ_CHECK(about.value_size[row->map] <= 65536);
		FUZZ_CHECK(fm_about_find(&about, row->map, row->name));
	}
	return 0;
}
