/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Tables of another process become tables of this one: many slots of one key, more than there are
 * places for, as processes leave them that are killed one after the other. Needs root.
 */
#include <string.h>

#include "base/macro.h"
#include "daemon/fold.h"
#include "daemon/loader.h"
#include "daemon/translate.h"
#include "test.h"

#define SLOTS 400

/* What they hold, in the form of this daemon; those of one CPU. */
static struct {
	struct fm_slot slots[SLOTS];
	struct fm_exported exported[SLOTS];
	struct fm_tcp_slot tcp[SLOTS];
	struct fm_tcp_exported tcp_exported[SLOTS];
} theirs;

static struct fm_about about;

/* Slot number i of so many keys, each different from the others of its key. */
static void fill(uint32_t i, uint32_t keys, uint8_t family)
{
	struct fm_slot *slot = &theirs.slots[i];
	uint32_t of = i % keys;

	*slot = (struct fm_slot){.tag = FM_TAG_LIVE | i, .mark_tick = 7};
	slot->key.family = family;
	memcpy(&slot->key.addr[0][12], &of, sizeof(of));
	for (unsigned int d = 0; d < 2; d++) {
		struct fm_half *half = &slot->half[d];

		/* Some know one direction alone. */
		if ((i >> 3) % 3 == d)
			continue;
		half->packets = 10 + i;
		half->octets = 1000 + 7 * i;
		half->first_ns = 1000000 - 13 * (i * 37 % SLOTS);
		half->last_tick = 1000 + i * 53 % SLOTS;
		half->min_length = (uint16_t)(60 + i * 31 % 100);
		half->max_length = (uint16_t)(900 + i * 17 % 100);
		half->tos = (uint8_t)i;
		half->egress_if = i % 5;
		half->tcp_flags = (uint8_t)(1 << i % 8);
		theirs.tcp[i].half[d].rtt_sum_us = 50 + i;
		theirs.tcp[i].half[d].rtt_max_us = i * 41 % 1000;
		theirs.tcp[i].half[d].srtt_us = 1 + i;
		if (i % 4)
			continue;
		theirs.exported[i].half[d].packets = 3 + i % 5;
		theirs.exported[i].half[d].octets = 300 + i;
		theirs.tcp_exported[i].half[d].rtt_sum_us = 20;
	}
}

static void fold(struct fm_conversation *conversation, const struct fm_slot *slot,
		 const struct fm_exported *exported, const struct fm_tcp_slot *tcp,
		 const struct fm_tcp_exported *tcp_exported)
{
	struct fm_tcp_exported tcp_now;
	struct fm_exported now;

	fm_fold_slot(conversation, slot, exported, &now);
	fm_fold_tcp(conversation, slot, tcp, tcp_exported, &tcp_now);
}

/* What they have of a key. */
static void fold_theirs(uint32_t of, uint32_t keys, struct fm_conversation *ret)
{
	fm_fold_init(ret, &theirs.slots[of].key);
	for (uint32_t i = of; i < SLOTS; i += keys)
		fold(ret, &theirs.slots[i], &theirs.exported[i], &theirs.tcp[i],
		     &theirs.tcp_exported[i]);
}

/* And what is here. Returns of how many slots. */
static unsigned int fold_ours(const struct fm_generation *into, struct fm_conversation *ret,
			      const struct fm_key *key)
{
	unsigned int n = 0;

	fm_fold_init(ret, key);
	for (uint32_t cpu = 0; cpu < into->n_cpus; cpu++) {
		const struct fm_region *region = &into->regions[cpu];

		for (uint32_t p = 0; region->slots && p < into->n_slots; p++) {
			if (region->slots[p].tag < FM_TAG_LIVE ||
			    memcmp(&region->slots[p].key, key, sizeof(*key)) != 0)
				continue;
			fold(ret, &region->slots[p], &region->exported[p], &region->tcp[p],
			     &region->tcp_exported[p]);
			n++;
		}
	}
	return n;
}

static void test_keys(struct fm_kernel *kernel, uint32_t keys, uint8_t family, const char *what)
{
	struct fm_foreign_region region = {
		.memory = {(uint8_t *)theirs.slots, (uint8_t *)theirs.exported,
			   (uint8_t *)theirs.tcp, (uint8_t *)theirs.tcp_exported},
		.n_elements = {SLOTS, SLOTS, SLOTS, SLOTS},
		.value_size = {sizeof(theirs.slots[0]), sizeof(theirs.exported[0]),
			       sizeof(theirs.tcp[0]), sizeof(theirs.tcp_exported[0])},
	};
	struct fm_foreign foreign = {
		.about = &about, .tag_offset = offsetof(struct fm_slot, tag), .regions = &region};
	struct fm_foreign *const all[] = {&foreign};
	struct fm_generation *into = NULL;
	struct fm_translated found;
	unsigned int n = 0, wrong = 0;

	memset(&theirs, 0, sizeof(theirs));
	for (uint32_t i = 0; i < SLOTS; i++)
		fill(i, keys, family);
	if (fm_translate_tables(&into, kernel, all, 1, NULL, 0, &found) < 0 || !into) {
		FM_TEST(false, "%s: taken over", what);
		return;
	}
	for (uint32_t of = 0; of < keys; of++) {
		struct fm_conversation expected, seen;

		fold_theirs(of, keys, &expected);
		n += fold_ours(into, &seen, &expected.key);
		wrong += memcmp(&expected, &seen, sizeof(seen)) != 0;
	}
	FM_TEST(found.slots == SLOTS && !found.unplaced && !wrong,
		"%s: %u keys in %u slots are as they were, %u of them wrong", what, keys, n, wrong);
	FM_TEST(keys == SLOTS ? n == SLOTS : n < SLOTS, "%s: %s", what,
		keys == SLOTS ? "each in a slot of its own" : "slots of one key became one");
	fm_generation_free(into);
}

int main(void)
{
	struct fm_kernel *kernel = NULL;

	if (geteuid() != 0)
		return fm_test_skip_all("needs root");
	if (fm_kernel_new(&kernel, NULL) < 0)
		return fm_test_bail("kernel", 1);
	fm_about_init(&about, FM_ABOUT_TABLES);
	about.n_cpus = 1;
	about.n_slots = SLOTS;
	about.homes = SLOTS;
	about.tcp = 1;
	test_keys(kernel, SLOTS, 4, "conversations");
	test_keys(kernel, 1, 4, "one conversation");
	test_keys(kernel, 3, 6, "three conversations");
	test_keys(kernel, 5, 4 | FM_KEY_AGGREGATE(FM_AGGREGATE_SERVER), "aggregates of servers");
	test_keys(kernel, 3, 4 | FM_KEY_AGGREGATE(FM_AGGREGATE_PROTOCOL),
		  "aggregates of protocols");
	fm_kernel_free(kernel);
	return fm_test_done();
}
