/* SPDX-License-Identifier: Apache-2.0 */
/*
 * An outbox that a next process finds torn or garbled: it is refused or used, without a crash and
 * without an end that never comes; and what is appended then comes out.
 */
#include "daemon/outbox.h"
#include "fuzz.h"
#include "keep.h"

#define NAME	  "outbox"
#define TURNS	  200
#define LAST_SIZE 300

static uint8_t message[4096];

static const struct fm_message_info info = {
	.records = 1, .packets = 2, .octets = 3, .sequenced = 1, .domain = 7};

/* What an honest process does, by the octets of the input. */
static void use(struct fm_outbox *outbox, struct input *input, uint64_t *ids)
{
	struct fm_message_info found;
	const uint8_t *at;
	size_t size;
	uint64_t id;

	for (unsigned int i = 0; i < TURNS && input->left; i++) {
		uint8_t what = input_u8(input);

		id = ids[what >> 3];
		switch (what & 7) {
		case 0:
		case 1:
			fm_outbox_append(outbox, message, 16 + (what >> 3) * 16u, &info);
			break;
		case 2:
			fm_outbox_publish(outbox);
			break;
		case 3:
			fm_outbox_prepare(outbox, 1 + (what >> 3));
			break;
		case 4:
			if (!fm_outbox_peek(outbox, &at, &size, &found))
				break;
			/* All of it can be read. */
			fuzz_touch(at, size);
			fm_outbox_give(outbox);
			/* Whoever was given a message says what became of it. */
			fm_outbox_done(outbox, id);
			ids[what >> 3] = found.outbox_id;
			break;
		case 5:
			fm_outbox_settle(outbox, id, &size, &found);
			break;
		case 6:
			fm_outbox_done(outbox, id);
			break;
		case 7:
			FUZZ_CHECK(fm_outbox_room(outbox) <= 1 << 16);
			break;
		}
	}
}

/* Everything goes out, whatever it is, and so does what comes behind it. */
static void empty(struct fm_outbox *outbox, const uint64_t *ids)
{
	struct fm_message_info found;
	const uint8_t *at;
	size_t size, n = 0;

	for (unsigned int i = 0; i < 32; i++)
		fm_outbox_done(outbox, ids[i]);
	fm_outbox_publish(outbox);
	while (fm_outbox_peek(outbox, &at, &size, &found)) {
		FUZZ_CHECK(n++ < 100000);
		fuzz_touch(at, size);
		fm_outbox_give(outbox);
		fm_outbox_done(outbox, found.outbox_id);
	}
	FUZZ_CHECK(fm_outbox_append(outbox, message, LAST_SIZE, &info));
	FUZZ_CHECK(!fm_outbox_peek(outbox, &at, &size, &found));
	fm_outbox_publish(outbox);
	FUZZ_CHECK(fm_outbox_peek(outbox, &at, &size, &found) && size == LAST_SIZE);
	FUZZ_CHECK(!memcmp(at + 4, message + 4, size - 4));
	FUZZ_CHECK(found.records == info.records && found.octets == info.octets);
	fm_outbox_give(outbox);
	fm_outbox_done(outbox, found.outbox_id);
	FUZZ_CHECK(!fm_outbox_peek(outbox, &at, &size, &found));
	FUZZ_CHECK(fm_outbox_waiting(outbox) == 0);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct input input = {data, size};
	struct fm_outbox_options options = {
		.store = keep_store(),
		.name = NAME,
		.octets = 4096u << (input_u8(&input) & 3),
		.account_octets = 64,
	};
	uint64_t ids[32] = {};
	struct fm_outbox_found found;
	struct fm_outbox *outbox;
	struct input first;
	size_t octets;
	void *memory;

	for (size_t i = 0; i < sizeof(message); i++)
		message[i] = (uint8_t)(i * 7);
	first.at = input_take(&input, input_u8(&input), &first.left);
	FUZZ_CHECK(fm_outbox_new(&outbox, &options, &found) == 0 && !found.unsound &&
		   fm_outbox_keep(outbox) == 0);
	use(outbox, &first, ids);
	fm_outbox_free(outbox); /* killed there */
	memory = keep_memory(NAME, &octets);
	options.committed = input_u8(&input) & 31;
	input_patch(&input, memory, octets, input_u8(&input) & 15);
	memset(ids, 0, sizeof(ids));
	FUZZ_CHECK(fm_outbox_new(&outbox, &options, &found) == 0);
	use(outbox, &input, ids);
	empty(outbox, ids);
	fm_outbox_free(outbox);
	fm_store_remove(keep_store(), NAME);
	return 0;
}
