/* SPDX-License-Identifier: Apache-2.0 */
/* Waiting for a sink without room: whatever it does, no more than a second and a tenth of the time.
 */
#include <stdlib.h>

#include "base/clock.h"
#include "base/macro.h"
#include "daemon/patience.h"
#include "test.h"

#define BEGIN	 (1000 * FM_NS_PER_S)
#define STEPS_MS 5 /* between two looks, at most */

/* What others see: asked each millisecond, or as seldom as that. */
struct rig {
	struct fm_patience patience;
	uint64_t now_ns, waited_ms, asked, refused;
};

/* One look; others have room if they are there. */
static void ask(struct rig *rig, bool others)
{
	rig->waited_ms += fm_patience_settle(&rig->patience, rig->now_ns);
	rig->asked++;
	if (!fm_patience_ask(&rig->patience, rig->now_ns)) {
		rig->refused++;
		return;
	}
	if (others)
		fm_patience_keep(&rig->patience);
}

/* There is room for once. */
static void find_room(struct rig *rig)
{
	rig->waited_ms += fm_patience_settle(&rig->patience, rig->now_ns);
}

/* But for the step that uses up the last of it. */
static bool is_bounded(const struct rig *rig)
{
	return rig->waited_ms * FM_NS_PER_MS <=
	       FM_NS_PER_S + (rig->now_ns - BEGIN) / 10 + STEPS_MS * FM_NS_PER_MS;
}

static void test_never(void)
{
	struct rig rig = {.now_ns = BEGIN};

	for (unsigned int i = 0; i < 60000; i++, rig.now_ns += FM_NS_PER_MS)
		ask(&rig, true);
	/* While it is waited for, the time that pays for it goes on. */
	FM_TEST(rig.waited_ms >= 1000 && rig.waited_ms <= 1112 && rig.patience.is_spent,
		"never any room: waited for once, %llu ms", (unsigned long long)rig.waited_ms);
}

static void test_alone(void)
{
	struct rig rig = {.now_ns = BEGIN};

	for (unsigned int i = 0; i < 60000; i++, rig.now_ns += FM_NS_PER_MS)
		ask(&rig, false);
	FM_TEST(rig.waited_ms == 0 && rig.refused == 0 && !rig.patience.is_spent,
		"nobody else: it has all the time");
}

/* A place at a time, as from one that takes what is sent slowly. */
static void test_trickle(void)
{
	struct rig rig = {.now_ns = BEGIN};
	bool bounded = true;

	for (unsigned int i = 0; i < 600000; i++, rig.now_ns += FM_NS_PER_MS) {
		if (i % 140 == 0)
			find_room(&rig);
		ask(&rig, true);
		/* Much room, now and then. */
		if (i % 30000 == 29999)
			fm_patience_restore(&rig.patience);
		bounded &= is_bounded(&rig);
	}
	FM_TEST(bounded && rig.waited_ms > 10000, "a trickle for ten minutes: waited for %llu ms",
		(unsigned long long)rig.waited_ms);
}

static void test_random(void)
{
	struct rig rig = {.now_ns = BEGIN};
	bool bounded = true;

	srand(4711);
	for (unsigned int i = 0; i < 200000; i++) {
		rig.now_ns += (uint64_t)rand() % (STEPS_MS * FM_NS_PER_MS);
		if (rand() % 3)
			ask(&rig, rand() % 4);
		else
			find_room(&rig);
		if (rand() % 1000 == 0)
			fm_patience_restore(&rig.patience);
		bounded &= is_bounded(&rig);
	}
	FM_TEST(bounded && rig.waited_ms > 5000 && rig.refused > 1000,
		"at random: waited for %llu of %llu ms", (unsigned long long)rig.waited_ms,
		(unsigned long long)((rig.now_ns - BEGIN) / FM_NS_PER_MS));
}

int main(void)
{
	test_never();
	test_alone();
	test_trickle();
	test_random();
	return fm_test_done();
}
