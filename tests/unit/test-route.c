/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Routes: who gets a conversation under each policy, when members go down and come back, and over a
 * reload. Sinks and clock are the test's.
 */
#include <arpa/inet.h>
#include <errno.h>
#include <netinet/in.h>
#include <stdlib.h>
#include <string.h>

#include "base/clock.h"
#include "base/log.h"
#include "base/macro.h"
#include "daemon/export.h"
#include "daemon/route.h"
#include "test.h"

#define SINKS_MAX  5
#define FLOWS	   6000
#define S(seconds) ((uint64_t)((seconds) * (double)FM_NS_PER_S))

/* A sink that notes what it was given, flow by flow. */
struct fake {
	struct fm_sink sink;
	bool up;
	uint64_t since_ns;
	size_t room;
	unsigned int kept; /* told that others wait */
	uint64_t records, packets, octets;
	uint32_t given[FLOWS]; /* records */
};

static struct fake fakes[SINKS_MAX];
static const struct fm_timebase timebase = {.tick_ns = 4 * FM_NS_PER_MS};
static uint8_t key[FM_ROUTE_KEY_OCTETS] = {1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15, 16};

static size_t fake_room(struct fm_sink *sink)
{
	return ((struct fake *)sink)->room;
}

static bool fake_up(const struct fm_sink *sink, uint64_t *ret_since_ns)
{
	*ret_since_ns = ((const struct fake *)sink)->since_ns;
	return ((const struct fake *)sink)->up;
}

/* The flow's number is in the ends' addresses, behind the 10 of make(). */
static void fake_record(struct fm_sink *sink, const struct fm_record *record)
{
	struct fake *fake = (struct fake *)sink;
	unsigned int flow = (unsigned int)record->src_ip4[2] << 8 | record->src_ip4[3];

	if (flow >= FLOWS)
		abort();
	fake->records++;
	fake->packets += record->packets + record->rev_packets;
	fake->octets += record->octets + record->rev_octets;
	fake->given[flow]++;
}

static void fake_kept(struct fm_sink *sink)
{
	((struct fake *)sink)->kept++;
}

static const struct fm_sink_ops fake_ops = {
	.kind = "fake",
	.room = fake_room,
	.kept = fake_kept,
	.up = fake_up,
	.record = fake_record,
};

/* A group of collectors a, b, c.. over fakes in this order, all up since 0. */
struct rig {
	struct fm_config *config;
	struct fm_export exporter;
	uint64_t now_ns;
};

static struct fm_config *parse(const char *text)
{
	_fm_cleanup_buf_ struct fm_buf errors = {};
	struct fm_config *config = NULL;
	FILE *file = fmemopen((void *)text, strlen(text), "r");

	if (!file || fm_config_parse(file, "test", &config, &errors) < 0) {
		fprintf(stderr, "%s\n", errors.data ? errors.data : "no memory");
		abort();
	}
	fclose(file);
	return config;
}

static struct fm_config *config_of(unsigned int n, const char *group)
{
	_fm_cleanup_buf_ struct fm_buf text = {};

	for (unsigned int i = 0; i < n; i++)
		fm_buf_printf(&text, "[collector %c]\naddress = 192.0.2.1:%u\n", 'a' + i, 1000 + i);
	fm_buf_printf(&text, "%s", group);
	return parse(text.data);
}

static void fakes_forget(void)
{
	for (unsigned int i = 0; i < SINKS_MAX; i++) {
		fakes[i].records = fakes[i].packets = fakes[i].octets = 0;
		memset(fakes[i].given, 0, sizeof(fakes[i].given));
	}
}

static void fakes_init(void)
{
	memset(fakes, 0, sizeof(fakes));
	for (unsigned int i = 0; i < SINKS_MAX; i++) {
		fakes[i].sink.ops = &fake_ops;
		fakes[i].up = true;
		fakes[i].room = SIZE_MAX;
	}
}

/* Routes of n fakes under the group, in the place of those there are. */
static void rig_apply(struct rig *rig, unsigned int n, const char *group)
{
	struct fm_sink *sinks[SINKS_MAX];
	struct fm_routes routes;

	fm_config_free(rig->config);
	rig->config = config_of(n, group);
	for (unsigned int i = 0; i < n; i++)
		sinks[i] = &fakes[i].sink;
	if (fm_routes_init(&routes, key, rig->config, sinks, n, &rig->exporter.routes) < 0)
		abort();
	fm_routes_done(&rig->exporter.routes);
	rig->exporter.routes = routes;
}

static void rig_init(struct rig *rig, unsigned int n, const char *group)
{
	*rig = (struct rig){.exporter = {.timebase = &timebase}};
	fakes_init();
	rig_apply(rig, n, group);
}

static void rig_done(struct rig *rig)
{
	fm_routes_done(&rig->exporter.routes);
	rig->config = fm_config_free(rig->config);
}

/* Time goes on; then everybody is looked at, as before each conversation. */
static void at(struct rig *rig, double seconds)
{
	rig->now_ns = S(seconds);
	fm_routes_update(&rig->exporter.routes, rig->now_ns);
}

static void set_up(struct rig *rig, unsigned int i, bool up)
{
	fakes[i].up = up;
	fakes[i].since_ns = rig->now_ns;
}

/* Both ends' addresses hold the flow's number; halves: bits of those with packets. */
static struct fm_conversation make(unsigned int flow, unsigned int halves)
{
	struct fm_conversation result = {
		.key = {.protocol = IPPROTO_UDP, .family = 4, .port = {htons(1000), htons(53)}},
	};

	for (unsigned int d = 0; d < 2; d++) {
		const uint8_t end[4] = {10, (uint8_t)d, (uint8_t)(flow >> 8), (uint8_t)flow};

		memcpy(result.key.addr[d] + 12, end, sizeof(end));
		if (!(halves & 1u << d))
			continue;
		result.seen[d] = true;
		result.half[d].packets = 3 + d;
		result.half[d].octets = 100 + flow;
	}
	return result;
}

static void give(struct rig *rig, unsigned int flow, unsigned int halves)
{
	struct fm_conversation conversation = make(flow, halves);

	fm_export_conversation(&rig->exporter, &conversation, FM_END_REASON_ACTIVE);
}

static void give_all(struct rig *rig)
{
	fakes_forget();
	for (unsigned int flow = 0; flow < FLOWS; flow++)
		give(rig, flow, 3);
}

/* The one of n that has the whole conversation, both its records; -1: not exactly one. */
static int owner(unsigned int n, unsigned int flow)
{
	int found = -1;

	for (unsigned int i = 0; i < n; i++) {
		if (!fakes[i].given[flow])
			continue;
		if (found >= 0 || fakes[i].given[flow] != 2)
			return -1;
		found = (int)i;
	}
	return found;
}

/* Of all flows; false: one has not exactly one owner. */
static bool owners(unsigned int n, int ret[FLOWS])
{
	bool good = true;

	for (unsigned int flow = 0; flow < FLOWS; flow++) {
		ret[flow] = owner(n, flow);
		good &= ret[flow] >= 0;
	}
	return good;
}

/* Everything the exporter made was given, to members as to sinks. */
static bool sums_hold(const struct rig *rig, unsigned int n, unsigned int copies)
{
	uint64_t records = 0, packets = 0, octets = 0;

	for (unsigned int i = 0; i < n; i++) {
		records += fakes[i].records;
		packets += fakes[i].packets;
		octets += fakes[i].octets;
	}
	return records == copies * rig->exporter.records &&
	       packets == copies * rig->exporter.packets &&
	       octets == copies * rig->exporter.octets && records;
}

/* The next conversation goes to this fake, and the group says so. */
static bool only(struct rig *rig, unsigned int n, unsigned int wanted)
{
	const struct fm_route *route = &rig->exporter.routes.routes[rig->exporter.routes.n - 1];
	unsigned int flow = (unsigned int)(rig->exporter.records / 2 % FLOWS);
	bool good = true;

	fakes_forget();
	give(rig, flow, 3);
	for (size_t m = 0; m < route->n; m++)
		good &= fm_route_chosen(route, m) ==
			(route->members[m].sink == &fakes[wanted].sink);
	return good && owner(n, flow) == (int)wanted;
}

static void test_copy(void)
{
	struct rig rig;
	bool all = true;

	rig_init(&rig, 4, "[group g]\nmembers = b, c\npolicy = copy\n");
	set_up(&rig, 2, false);
	at(&rig, 1000);
	give_all(&rig);
	for (unsigned int i = 0; i < 4; i++)
		for (unsigned int flow = 0; flow < FLOWS; flow++)
			all &= fakes[i].given[flow] == 2;
	FM_TEST(all && sums_hold(&rig, 4, 4),
		"copy, and no group: each gets everything, down or up");
	fakes[1].room = 1;
	FM_TEST(!fm_routes_room(&rig.exporter.routes, 2) && fm_routes_room(&rig.exporter.routes, 1),
		"copy: there is room if every member has it");
	rig_done(&rig);
}

/* Who has no room is told that others wait, if there are others, and they have. */
static void test_kept(void)
{
	struct rig rig;

	rig_init(&rig, 3, "[group g]\nmembers = b, c\npolicy = failover\n");
	FM_TEST(fm_routes_room(&rig.exporter.routes, 2) && !fakes[0].kept && !fakes[1].kept,
		"all have room: nobody waits");
	fakes[0].room = 1;
	FM_TEST(!fm_routes_room(&rig.exporter.routes, 2) && fakes[0].kept == 1 && !fakes[1].kept,
		"one has none: it is told that others wait");
	fakes[1].room = 0;
	FM_TEST(!fm_routes_room(&rig.exporter.routes, 2) && fakes[0].kept == 1 && !fakes[1].kept,
		"none has any: nobody waits for another; the member not chosen does not count");
	fakes[0].room = 2;
	FM_TEST(!fm_routes_room(&rig.exporter.routes, 2) && fakes[0].kept == 1 &&
			fakes[1].kept == 1,
		"a member of a group is told as well");
	rig_done(&rig);
}

static void test_balance_parts(void)
{
	struct rig rig;
	static const char pinned[] = "caacbacbccaabacbcccaabcc";
	static int first[FLOWS], other[FLOWS];
	unsigned int n[3] = {}, mixed = 0;
	bool same = true;

	rig_init(&rig, 3, "[group g]\nmembers = a, b, c\npolicy = balance\n");
	give_all(&rig);
	FM_TEST(owners(3, first) && sums_hold(&rig, 3, 1),
		"balance: each conversation is at one member, with both directions");
	for (unsigned int flow = 0; flow < FLOWS; flow++)
		n[first[flow]]++;
	/* 2000 each, standard deviation 36 */
	FM_TEST(n[0] > 1800 && n[1] > 1800 && n[2] > 1800, "balance: in even parts: %u %u %u", n[0],
		n[1], n[2]);
	for (unsigned int flow = 0; flow < FLOWS; flow++) {
		fakes_forget();
		give(&rig, flow, 1);
		give(&rig, flow, 2);
		mixed += owner(3, flow) != first[flow];
	}
	FM_TEST(!mixed, "balance: directions exported apart go to the same: %u do not", mixed);
	rig_done(&rig);

	rig_init(&rig, 3, "[group other]\nmembers = c, a, b\npolicy = balance\n");
	give_all(&rig);
	owners(3, other);
	FM_TEST(!memcmp(first, other, sizeof(first)),
		"balance: the same at the next start, whatever the order in the file");
	rig_done(&rig);
	for (unsigned int flow = 0; flow < sizeof(pinned) - 1; flow++)
		same &= first[flow] == pinned[flow] - 'a';
	FM_TEST(same, "balance: the same as in other versions");
}

/* What a setting adds to the key, and ICMP's types, may differ between the directions. */
static void test_balance_key(void)
{
	struct rig rig;
	static int first[FLOWS];
	unsigned int moved[2] = {}, spread = 0;

	rig_init(&rig, 3, "[group g]\nmembers = a, b, c\npolicy = balance\n");
	give_all(&rig);
	owners(3, first);
	for (unsigned int flow = 0; flow < 1000; flow++) {
		struct fm_conversation c = make(flow, 3);

		c.key.vlan = htons((uint16_t)flow);
		c.key.cvlan = 7;
		c.key.tos = 0xb8;
		c.key.ifindex = flow;
		c.key.tunnel_id = 5 * flow;
		c.key.tunnel_type = 1;
		fakes_forget();
		fm_export_conversation(&rig.exporter, &c, FM_END_REASON_IDLE);
		moved[0] += owner(3, flow) != first[flow];
		for (unsigned int type = 0; type < 2; type++) {
			c = make(flow, 1u << type);
			c.key.protocol = IPPROTO_ICMP;
			c.key.port[type] = htons((uint16_t)(type ? 0x0300 + flow : 0x0800));
			c.key.port[!type] = 0;
			if (type == 0)
				fakes_forget();
			fm_export_conversation(&rig.exporter, &c, FM_END_REASON_IDLE);
		}
		moved[1] += owner(3, flow) < 0;
		/* Another port is another conversation. */
		c = make(flow, 3);
		c.key.port[0] = htons(1001);
		fakes_forget();
		fm_export_conversation(&rig.exporter, &c, FM_END_REASON_IDLE);
		spread += owner(3, flow) != first[flow];
	}
	FM_TEST(!moved[0],
		"balance: VLAN, interface, ToS and tunnel do not part the directions: %u",
		moved[0]);
	FM_TEST(!moved[1], "balance: ICMP of two hosts stays together: %u do not", moved[1]);
	FM_TEST(spread > 500, "balance: ports spread what two hosts have: %u of 1000", spread);
	rig_done(&rig);
}

/* Who found out how flows fall under one key has them evenly spread under another. */
static void test_balance_aim(void)
{
	struct rig rig;
	static int first[FLOWS];
	unsigned int aimed = 0, hit = 0;

	rig_init(&rig, 2, "[group g]\nmembers = a, b\npolicy = balance\n");
	give_all(&rig);
	owners(2, first);
	rig_done(&rig);
	key[5] ^= 0x40;
	rig_init(&rig, 2, "[group g]\nmembers = a, b\npolicy = balance\n");
	give_all(&rig);
	for (unsigned int flow = 0; flow < FLOWS; flow++)
		if (first[flow] == 0) {
			aimed++;
			hit += owner(2, flow) == 0;
		}
	key[5] ^= 0x40;
	FM_TEST(hit > aimed * 2 / 5 && hit < aimed * 3 / 5,
		"balance: aimed at a member under another key, %u of %u hit it", hit, aimed);
	rig_done(&rig);
}

/* Flows of which the owner is another one than before. */
static unsigned int moved(const int before[FLOWS], const int now[FLOWS], int from)
{
	unsigned int n = 0;

	for (unsigned int flow = 0; flow < FLOWS; flow++)
		n += before[flow] != now[flow] && (from < 0 || before[flow] == from);
	return n;
}

static void test_balance_moves(void)
{
	struct rig rig;
	static int first[FLOWS], now[FLOWS];
	unsigned int part = 0, to[4] = {};
	bool whole = true;

	rig_init(&rig, 4, "[group g]\nmembers = a, b, c, d\npolicy = balance\n");
	at(&rig, 100);
	give_all(&rig);
	owners(4, first);
	for (unsigned int flow = 0; flow < FLOWS; flow++)
		part += first[flow] == 1;
	set_up(&rig, 1, false);
	at(&rig, 101.99);
	give_all(&rig);
	whole &= owners(4, now);
	FM_TEST(whole && !moved(first, now, -1), "balance: down for less than 2s moves nothing");
	at(&rig, 102);
	give_all(&rig);
	whole &= owners(4, now);
	for (unsigned int flow = 0; flow < FLOWS; flow++)
		to[now[flow]] += first[flow] == 1;
	FM_TEST(whole && moved(first, now, -1) == part && moved(first, now, 1) == part,
		"balance: down for 2s, its conversations move and no others: %u", part);
	FM_TEST(!to[1] && to[0] > part / 5 && to[2] > part / 5 && to[3] > part / 5,
		"balance: they are spread over the others: %u %u %u", to[0], to[2], to[3]);
	at(&rig, 200);
	set_up(&rig, 1, true);
	at(&rig, 229.99);
	give_all(&rig);
	whole = owners(4, now);
	FM_TEST(whole && moved(first, now, -1) == part, "balance: up for less than 30s, not yet");
	/* Again down and up: it has to wait again. */
	set_up(&rig, 1, false);
	set_up(&rig, 1, true);
	at(&rig, 259.98);
	give_all(&rig);
	whole = owners(4, now);
	FM_TEST(whole && moved(first, now, -1) == part,
		"balance: one that flaps has to wait longer");
	at(&rig, 259.99);
	give_all(&rig);
	whole = owners(4, now);
	FM_TEST(whole && !moved(first, now, -1), "balance: up for 30s, just its own come back");
	rig_done(&rig);
}

static void test_balance_all_down(void)
{
	struct rig rig;
	static int first[FLOWS], now[FLOWS];

	rig_init(&rig, 3, "[group g]\nmembers = a, b, c\npolicy = balance\n");
	give_all(&rig);
	owners(3, first);
	for (unsigned int i = 0; i < 3; i++)
		set_up(&rig, i, false);
	at(&rig, 10);
	give_all(&rig);
	FM_TEST(owners(3, now) && !moved(first, now, -1),
		"balance: all down, each gets what it would");
	set_up(&rig, 2, true);
	at(&rig, 10);
	give_all(&rig);
	FM_TEST(fakes[2].records == 2 * FLOWS, "balance: the first that is up gets all, at once");
	at(&rig, 11);
	set_up(&rig, 0, true);
	at(&rig, 12);
	give_all(&rig);
	FM_TEST(fakes[2].records == 2 * FLOWS, "balance: the next one waits for its 30s");
	set_up(&rig, 2, false);
	at(&rig, 13);
	give_all(&rig);
	FM_TEST(fakes[2].records == 2 * FLOWS, "balance: nor takes over before the other's 2s");
	at(&rig, 14);
	give_all(&rig);
	FM_TEST(fakes[0].records == 2 * FLOWS, "balance: and then takes over");
	rig_done(&rig);
}

static void test_failover(void)
{
	struct rig rig;

	rig_init(&rig, 3, "[group g]\nmembers = b, a, c\npolicy = failover\n");
	at(&rig, 100);
	give_all(&rig);
	FM_TEST(fakes[1].records == 2 * FLOWS && sums_hold(&rig, 3, 1),
		"failover: all goes to the first in the file");
	set_up(&rig, 1, false);
	at(&rig, 101.99);
	FM_TEST(only(&rig, 3, 1), "failover: down for less than 2s, it stays");
	set_up(&rig, 1, true);
	at(&rig, 110);
	set_up(&rig, 1, false);
	at(&rig, 111);
	FM_TEST(only(&rig, 3, 1), "failover: also when it was down before");
	at(&rig, 112);
	FM_TEST(only(&rig, 3, 0), "failover: down for 2s, the next one gets it");
	set_up(&rig, 1, true);
	at(&rig, 141.99);
	FM_TEST(only(&rig, 3, 0), "failover: the first is up for less than 30s: not yet back");
	at(&rig, 142);
	FM_TEST(only(&rig, 3, 1), "failover: up for 30s: back");
	set_up(&rig, 1, false);
	set_up(&rig, 0, false);
	at(&rig, 144);
	FM_TEST(only(&rig, 3, 2), "failover: two down, the third gets it");
	set_up(&rig, 0, true);
	at(&rig, 170);
	set_up(&rig, 2, false);
	at(&rig, 171.99);
	FM_TEST(only(&rig, 3, 2), "failover: a better one that is up for 28s waits");
	at(&rig, 172);
	FM_TEST(only(&rig, 3, 0), "failover: but not where there is no other");
	set_up(&rig, 0, false);
	at(&rig, 174);
	FM_TEST(only(&rig, 3, 1), "failover: all down, it goes to the first");
	set_up(&rig, 2, true);
	at(&rig, 174);
	FM_TEST(only(&rig, 3, 2), "failover: whoever is up first gets it at once");
	fakes[1].room = fakes[0].room = 0;
	FM_TEST(fm_routes_room(&rig.exporter.routes, 2), "failover: only who gets it needs room");
	fakes[2].room = 1;
	FM_TEST(!fm_routes_room(&rig.exporter.routes, 2), "failover: and does");
	rig_done(&rig);

	rig_init(&rig, 2,
		 "[group g]\nmembers = a, b\npolicy = failover\nfailover_after = 0s\n"
		 "failback = 0s\n");
	set_up(&rig, 0, false);
	at(&rig, 0);
	FM_TEST(only(&rig, 2, 1), "failover: 0s is at once");
	set_up(&rig, 0, true);
	at(&rig, 0);
	FM_TEST(only(&rig, 2, 0), "failover: and back at once");
	rig_done(&rig);
}

/* Groups change between two conversations of the same sweep. */
static void test_reload(void)
{
	static const struct {
		unsigned int n;
		const char *group;
	} steps[] = {
		{3, "[group g]\nmembers = a, b, c\npolicy = balance\n"},
		{3, "[group g]\nmembers = a, b\npolicy = balance\n[group h]\nmembers = c\n"},
		{4, "[group g]\nmembers = d, c, b, a\npolicy = balance\n"},
		{4, "[group g]\nmembers = b, a, c, d\npolicy = failover\n"},
		{2, "[group g]\nmembers = b, a\npolicy = failover\n"},
		{3, "[group g]\nmembers = c, b, a\npolicy = failover\n"},
	};
	struct rig rig;
	unsigned int wrong = 0;

	rig_init(&rig, 3, steps[0].group);
	for (unsigned int flow = 0; flow < FLOWS; flow++) {
		const unsigned int step = flow % FM_ARRAY_SIZE(steps);

		rig_apply(&rig, steps[step].n, steps[step].group);
		give(&rig, flow, 3);
		/* c alone, in a group that copies, gets it too */
		if (step == 1) {
			wrong += fakes[2].given[flow] != 2 || owner(2, flow) < 0;
			continue;
		}
		wrong += owner(4, flow) < 0;
	}
	FM_TEST(!wrong, "reload: each conversation at one member, whenever groups change: %u not",
		wrong);
	rig_done(&rig);

	rig_init(&rig, 3, "[group g]\nmembers = a, b\npolicy = failover\n");
	set_up(&rig, 0, false);
	at(&rig, 2);
	set_up(&rig, 0, true);
	give_all(&rig);
	rig_apply(&rig, 3,
		  "[group g]\nmembers = a, c, b\npolicy = failover\nfailover_after = 1s\n");
	at(&rig, 3);
	FM_TEST(only(&rig, 3, 1) &&
			rig.exporter.routes.routes[0].members[2].records == 2 * FLOWS + 2,
		"reload: who had the records goes on, with its figures");
	rig_apply(&rig, 3, "[group g]\nmembers = a, c\npolicy = failover\n");
	at(&rig, 3);
	fakes_forget();
	give(&rig, 0, 3);
	FM_TEST(fakes[0].records == 2 && fakes[1].records == 2 && !fakes[2].records,
		"reload: one that leaves the group gets all by itself, the first takes over");
	rig_done(&rig);

	rig_init(&rig, 3, "[group g]\nmembers = a, b, c\npolicy = balance\n");
	set_up(&rig, 0, false);
	at(&rig, 2);
	set_up(&rig, 0, true);
	rig_apply(&rig, 3, "[group g]\nmembers = c, b, a\npolicy = balance\nfailback = 1m\n");
	at(&rig, 32);
	FM_TEST(!fm_route_chosen(&rig.exporter.routes.routes[0], 2),
		"reload: one that was out waits on, by the new settings");
	at(&rig, 62);
	FM_TEST(fm_route_chosen(&rig.exporter.routes.routes[0], 2), "reload: and comes back");
	rig_done(&rig);
}

/* Members go up and down at random: one owner always, and not one that was down for long. */
static void test_random(const char *policy)
{
	char group[128];
	struct rig rig;
	unsigned int none_or_two = 0, dead = 0, changes = 0;

	srand(4711);
	snprintf(group, sizeof(group), "[group g]\nmembers = a, b, c, d, e\npolicy = %s\n", policy);
	rig_init(&rig, 5, group);
	for (unsigned int i = 0; i < 200000; i++) {
		unsigned int flow = (unsigned int)rand() % FLOWS;
		bool somebody = false;
		int who;

		rig.now_ns += (uint64_t)rand() % FM_NS_PER_S;
		while (rand() % 4 == 0) {
			unsigned int member = (unsigned int)rand() % 5;

			set_up(&rig, member, !fakes[member].up);
			changes++;
		}
		fm_routes_update(&rig.exporter.routes, rig.now_ns);
		for (unsigned int m = 0; m < 5; m++)
			fakes[m].given[flow] = 0;
		give(&rig, flow, 3);
		who = owner(5, flow);
		none_or_two += who < 0;
		for (unsigned int m = 0; m < 5; m++)
			somebody |= fakes[m].up;
		dead += who >= 0 && somebody && !fakes[who].up &&
			rig.now_ns - fakes[who].since_ns >= S(2);
	}
	FM_TEST(!none_or_two && !dead && sums_hold(&rig, 5, 1),
		"%s: %u changes, 200000 conversations: %u without one owner, %u to the dead",
		policy, changes, none_or_two, dead);
	rig_done(&rig);
}

static void test_key(void)
{
	uint8_t one[FM_ROUTE_KEY_OCTETS] = {}, two[FM_ROUTE_KEY_OCTETS] = {};
	bool stable = fm_routes_machine_key(one);

	fm_routes_machine_key(two);
	FM_TEST(stable == !memcmp(one, two, sizeof(one)),
		"the machine's key is the same each time, a random one is not");
}

int main(void)
{
	fm_log_init(LOG_ERR, false);
	test_copy();
	test_kept();
	test_balance_parts();
	test_balance_key();
	test_balance_aim();
	test_balance_moves();
	test_balance_all_down();
	test_failover();
	test_reload();
	test_random("balance");
	test_random("failover");
	test_key();
	return fm_test_done();
}
