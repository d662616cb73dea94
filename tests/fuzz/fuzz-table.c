/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Tables of our layout with any content, as after a kill at any moment or worse: they are
 * repaired, swept and emptied, what is found makes records that every sink can write, and it ends.
 */
#include <stdalign.h>

#include "daemon/export.h"
#include "daemon/sweep.h"
#include "bpf/hash.h"
#include "fuzz.h"
#include "ipfix/file-reader.h"
#include "ipfix/session.h"

#define CPUS	  3
#define HOMES	  32
#define SLOTS	  FM_ALL_SLOTS(HOMES)
#define ELEMENTS  (SLOTS + 8) /* marks behind the slots, and what is only fetched ahead */
#define STEPS_MAX 10000

static struct fm_slot slots[CPUS][ELEMENTS];
static struct fm_exported exported[CPUS][SLOTS];
static struct fm_tcp_slot tcp[CPUS][SLOTS];
static struct fm_tcp_exported tcp_exported[CPUS][SLOTS];
static struct fm_tunnel tunnels[CPUS][SLOTS];
static struct fm_look looks[CPUS][SLOTS / FM_BLOCK_SLOTS + 1];

static struct fm_region regions[CPUS];
static struct fm_generation generation = {
	.n_cpus = CPUS,
	.homes = HOMES,
	.all_homes = FM_ALL_HOMES(HOMES),
	.n_slots = SLOTS,
	.regions = regions,
};

static const struct fm_timebase timebase = {.tick_ns = 4000000, .now_tick = 1000000};
static struct fm_export exporter = {.timebase = &timebase};
static struct fm_session *session[2];
static size_t conversations, records, encoded[2];

static void on_message(void *userdata, const uint8_t *message, size_t size,
		       const struct fm_message_info *message_info)
{
	*(size_t *)userdata += message_info->records;
	FUZZ_CHECK(size <= 1400);
}

int LLVMFuzzerInitialize(int *argc, char ***argv)
{
	struct fm_session_options options = {.profile = FM_P_FULL,
					     .domain = 1,
					     .enterprise_number = 32473,
					     .message_size = 1400};

	FUZZ_CHECK(fm_session_new(&session[0], &options, on_message, &encoded[0]) == 0);
	options.protocol = FM_SESSION_V9;
	FUZZ_CHECK(fm_session_new(&session[1], &options, on_message, &encoded[1]) == 0);
	for (unsigned int i = 0; i < FM_SEEDS; i++)
		generation.seed[i] = 0x9e3779b97f4a7c15ULL * (i + 1);
	return 0;
}

static bool on_room(void *userdata)
{
	const uint8_t *often = userdata;
	static uint8_t turn;

	return *often == 0 || ++turn % 4 != 0;
}

static void on_conversation(void *userdata, const struct fm_conversation *conversation,
			    enum fm_end_reason reason)
{
	struct fm_record made[2];
	size_t n = fm_export_records(&exporter, conversation, reason, made);

	conversations++;
	FUZZ_CHECK(n <= 2);
	for (size_t i = 0; i < n; i++)
		for (size_t k = 0; k < 2; k++)
			FUZZ_CHECK(fm_session_record(session[k], &made[i], 1700000000000000000) ==
				   0);
	records += n;
}

/* A slot as a program leaves it, where one would be looked for or not. */
static void put_slot(struct input *input)
{
	unsigned int cpu = input_u8(input) % CPUS;
	uint8_t how = input_u8(input);
	struct fm_slot slot = {
		.key = {.family = how & 1 ? 4 : 6,
			.protocol = input_u8(input),
			.port = {input_u8(input), input_u8(input)}},
		.due_tick = input_u8(input),
		.mark_tick = input_u8(input),
	};
	uint64_t hash;
	uint32_t at;

	if (how & 2)
		slot.key.family |= FM_KEY_AGGREGATE((how >> 2) & 7);
	for (unsigned int d = 0; d < 2; d++) {
		slot.half[d].packets = input_u8(input);
		slot.half[d].octets = slot.half[d].packets * 100;
		slot.half[d].tcp_flags = input_u8(input);
		slot.half[d].last_tick = input_u8(input);
	}
	hash = fm_hash(&slot.key, generation.seed);
	slot.tag = how & 0x20 ? how & 3 : fm_hash_tag(hash);
	at = fm_key_home(&slot.key, hash, HOMES) + (how >> 6);
	slots[cpu][at % SLOTS] = slot;
}

/* Until it rests. */
static void sweep_on(struct fm_sweep *sweep)
{
	enum fm_sweep_state state = FM_SWEEP_MORE;

	for (unsigned int i = 0; state != FM_SWEEP_IDLE; i++) {
		FUZZ_CHECK(i < STEPS_MAX);
		if (state == FM_SWEEP_FENCE)
			fm_sweep_fenced(sweep);
		state = fm_sweep_step(sweep);
	}
}

static void fill(struct input *input, uint8_t how)
{
	memset(slots, 0, sizeof(slots));
	memset(exported, 0, sizeof(exported));
	memset(tcp, 0, sizeof(tcp));
	memset(tcp_exported, 0, sizeof(tcp_exported));
	memset(tunnels, 0, sizeof(tunnels));
	memset(looks, 0, sizeof(looks));
	for (unsigned int i = 0; i < CPUS; i++)
		regions[i] = (struct fm_region){
			.slots = slots[i],
			.exported = exported[i],
			.tcp = how & 1 ? tcp[i] : NULL,
			.tcp_exported = how & 1 ? tcp_exported[i] : NULL,
			.tunnels = how & 2 ? tunnels[i] : NULL,
			.looks = looks[i],
		};
	if (how & 4) /* a CPU that was never online */
		regions[1] = (struct fm_region){};
	for (unsigned int i = input_u8(input) % 64; i > 0 && input->left; i--)
		put_slot(input);
	input_patch(input, slots, sizeof(slots), input_u8(input));
	input_patch(input, exported, sizeof(exported), input_u8(input) & 7);
	input_patch(input, tcp, sizeof(tcp), input_u8(input) & 7);
	input_patch(input, tcp_exported, sizeof(tcp_exported), input_u8(input) & 7);
	input_patch(input, tunnels, sizeof(tunnels), input_u8(input) & 7);
}

static void check_empty(void)
{
	for (unsigned int i = 0; i < CPUS; i++)
		for (unsigned int k = 0; regions[i].slots && k < SLOTS; k++) {
			const struct fm_slot *slot = &slots[i][k];
			struct fm_key key = slot->key;
			uint64_t hash = fm_hash(&key, generation.seed);

			FUZZ_CHECK(slot->tag != FM_TAG_CLOSING);
			/* What lies where it belongs was taken out. */
			if (slot->tag == fm_hash_tag(hash))
				FUZZ_CHECK(k - fm_key_home(&key, hash, HOMES) >= FM_PROBES);
		}
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct input input = {data, size};
	uint8_t how = input_u8(&input), often = how & 8;
	const struct fm_sweep_ops ops = {.room = on_room, .conversation = on_conversation};
	const struct fm_region_shape shape = {SLOTS, how & 1, how & 2};
	const struct fm_sweep_timeouts timeouts = {20, 40, 5, how & 16 ? 3 : 0};
	struct fm_sweep *sweep;

	exporter.biflow = how & 0x40;
	conversations = records = encoded[0] = encoded[1] = 0;
	fill(&input, how);
	if (!(how & 0x80))
		for (unsigned int i = 0; i < CPUS; i++)
			if (regions[i].slots)
				fm_region_repair(&regions[i], &shape, generation.seed);
	FUZZ_CHECK(fm_sweep_new(&sweep, &ops, &often) == 0);
	fm_sweep_begin(sweep, &generation, &timeouts, input_u8(&input), how & 0x20);
	sweep_on(sweep);
	fm_sweep_begin_drain(sweep, &generation, input_u8(&input), FM_END_REASON_FORCED);
	sweep_on(sweep);
	if (!(how & 0x80))
		check_empty();
	fm_sweep_free(sweep);
	for (size_t k = 0; k < 2; k++) {
		FUZZ_CHECK(fm_session_flush(session[k], 1700000000000000000) == 0);
		FUZZ_CHECK(encoded[k] == records);
	}
	return 0;
}
