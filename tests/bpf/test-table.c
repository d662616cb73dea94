/* SPDX-License-Identifier: Apache-2.0 */
/* The table: chains, tombstones, slots being closed, no slot left, no ring left, no table at all.
 */
#include <arpa/inet.h>
#include <errno.h>
#include <netinet/in.h>
#include <string.h>

#include <bpf/bpf.h>

#include "bpf/hash.h"
#include "daemon/sweep.h"
#include "harness.h"
#include "test.h"

#define HOME 17 /* any */

static struct harness h;
static struct packet p;
/* Source ports whose flows share a home. */
static uint16_t neighbours[FM_PROBES + 2];

static void udp(uint16_t port)
{
	packet_new(&p);
	packet_eth(&p);
	packet_ip4(&p, .src = 0x0a000001, .dst = 0x0a000002, .protocol = IPPROTO_UDP, .ttl = 9,
		   .tos = 16, .fragment = 0x4000);
	packet_udp(&p, port, 53);
	packet_payload(&p, 72);
	packet_end(&p);
}

static void send_one(uint16_t port)
{
	udp(port);
	harness_packet(&h, &p);
}

static struct fm_slot *slots(void)
{
	return h.generation->regions[h.cpu].slots;
}

/* Finds flows of one home: each is tried, its slot's key hashed as the kernel half does. */
static void find_neighbours(void)
{
	unsigned int n = 0;

	for (uint16_t port = 1000; n < FM_PROBES + 2; port++) {
		struct fm_slot *slot;
		uint64_t hash;

		harness_reset(&h);
		send_one(port);
		if (harness_slots(&h, &slot) != 1)
			return;
		hash = fm_hash(&slot->key, h.generation->seed);
		if (fm_hash_home(hash, h.generation->homes) == HOME)
			neighbours[n++] = port;
	}
}

static void test_home(void)
{
	struct fm_slot *slot;

	harness_reset(&h);
	send_one(neighbours[0]);
	FM_TEST(harness_slots(&h, &slot) == 1 && slot == &slots()[HOME] &&
			slot->tag == fm_hash_tag(fm_hash(&slot->key, h.generation->seed)),
		"the daemon finds home and tag by the same hash");
}

/* Fills every slot within reach of the home. */
static void fill(void)
{
	harness_reset(&h);
	for (unsigned int i = 0; i < FM_PROBES; i++)
		send_one(neighbours[i]);
}

static bool event_is_whole(uint16_t port)
{
	const struct fm_half *half = &h.event.half;
	unsigned int d = h.event.direction;

	return d < 2 && ntohs(h.event.key.port[d]) == port && ntohs(h.event.key.port[!d]) == 53 &&
	       h.event.key.protocol == IPPROTO_UDP && h.event.key.family == 4 &&
	       h.event.key.addr[d][15] == 1 && h.event.key.addr[!d][15] == 2 &&
	       half->packets == 1 && half->octets == 100 && half->min_length == 100 &&
	       half->max_length == 100 && half->min_ttl == 9 && half->max_ttl == 9 &&
	       half->tos == 16 && half->fragment_flags == 0x40 && half->ingress_if == 1 &&
	       half->egress_if == 0 && half->first_ns != 0 && half->last_tick != 0;
}

static void test_full(void)
{
	struct fm_slot *slot;

	fill();
	FM_TEST(harness_slots(&h, &slot) == FM_PROBES &&
			harness_count(&h, FM_COUNTER_overflow).packets == 0,
		"as many flows as probes share a home");
	send_one(neighbours[FM_PROBES]);
	harness_drain(&h);
	FM_TEST(harness_slots(&h, &slot) == FM_PROBES && h.events.packets == 1 &&
			h.events.octets == 100 &&
			harness_count(&h, FM_COUNTER_overflow).packets == 1 &&
			harness_count(&h, FM_COUNTER_overflow).octets == 100 &&
			harness_identity(&h),
		"one more travels on the ring");
	FM_TEST(event_is_whole(neighbours[FM_PROBES]), "it carries key and measures");
	send_one(neighbours[FM_PROBES - 1]);
	FM_TEST(slots()[HOME + FM_PROBES - 1].half[0].packets +
					slots()[HOME + FM_PROBES - 1].half[1].packets ==
				2 &&
			harness_identity(&h),
		"the farthest flow is still found");
}

static void test_ring_full(void)
{
	struct fm_count sent, coarse;

	fill();
	udp(neighbours[FM_PROBES]);
	harness_packet(&h, &p, .repeat = 20000);
	sent = harness_count(&h, FM_COUNTER_overflow);
	coarse = harness_count(&h, FM_COUNTER_coarse);
	harness_drain(&h);
	FM_TEST(sent.packets > 0 && coarse.packets > 0 && sent.packets + coarse.packets == 20000 &&
			sent.octets + coarse.octets == 2000000 &&
			harness_count(&h, FM_COUNTER_overflow_lost).packets == 0,
		"ring full: the rest goes into aggregates");
	FM_TEST(h.events.packets == sent.packets && h.events.octets == sent.octets &&
			harness_identity(&h),
		"ring full: what was sent arrives");
	send_one(neighbours[FM_PROBES]);
	harness_drain(&h);
	FM_TEST(h.events.packets == sent.packets + 1 && harness_identity(&h),
		"an emptied ring takes packets again");
}

static void test_no_region(void)
{
	struct fm_region *region = &h.generation->regions[h.cpu];
	uint32_t cpu = h.cpu;
	struct fm_count lost;
	int r;

	harness_reset(&h);
	r = bpf_map_delete_elem(h.generation->table_fd, &cpu);
	udp(1);
	harness_packet(&h, &p, .repeat = 20000);
	lost = harness_count(&h, FM_COUNTER_no_table);
	harness_drain(&h);
	FM_TEST(r == 0 && h.events.packets > 0 && lost.packets > 0 &&
			h.events.packets + lost.packets == 20000 && harness_identity(&h),
		"a CPU without a table: by the ring, then counted as lost");
	fm_kernel_set_seen(h.kernel, 1, true);
	harness_packet(&h, &p, .hook = FM_HOOK_EGRESS, .ingress_ifindex = 1);
	fm_kernel_set_seen(h.kernel, 1, false);
	FM_TEST(harness_count(&h, FM_COUNTER_again).packets == 1 && harness_identity(&h),
		"a CPU without a table: counted before");
	r = bpf_map_update_elem(h.generation->table_fd, &cpu, &region->fd[FM_REGION_SLOTS],
				BPF_ANY);
	FM_TEST(r == 0, "the table is back");
}

static void test_closing(void)
{
	struct fm_slot *slot;

	harness_reset(&h);
	send_one(neighbours[0]);
	slots()[HOME].tag = FM_TAG_CLOSING;
	send_one(neighbours[0]);
	FM_TEST(harness_slots(&h, &slot) == 2 &&
			slots()[HOME].half[0].packets + slots()[HOME].half[1].packets == 1 &&
			slots()[HOME + 1].half[0].packets + slots()[HOME + 1].half[1].packets ==
				1 &&
			harness_identity(&h),
		"a slot being closed is not matched");
	fill();
	for (unsigned int i = 0; i < FM_PROBES; i++)
		slots()[HOME + i].tag = FM_TAG_CLOSING;
	send_one(neighbours[0]);
	harness_drain(&h);
	FM_TEST(h.events.packets == 1 && harness_identity(&h), "nor taken for a free one");
}

static void test_tombstones(void)
{
	struct fm_slot *slot, last;

	fill();
	last = slots()[HOME + FM_PROBES - 1];
	for (unsigned int i = 0; i < FM_PROBES - 1; i++)
		slots()[HOME + i].tag = FM_TAG_TOMBSTONE;
	send_one(neighbours[FM_PROBES - 1]);
	FM_TEST(harness_slots(&h, &slot) == 1 && slot == &slots()[HOME + FM_PROBES - 1] &&
			slot->half[0].packets + slot->half[1].packets == 2 &&
			!memcmp(&slot->key, &last.key, sizeof(last.key)),
		"a chain over tombstones is followed");
	send_one(neighbours[FM_PROBES]);
	FM_TEST(harness_slots(&h, &slot) == 2 && slot == &slots()[HOME] &&
			slot->half[0].packets + slot->half[1].packets == 1 &&
			slot->half[0].octets + slot->half[1].octets == 100,
		"the first tombstone is taken, and nothing of the old flow is left");
	slots()[HOME + 1].tag = FM_TAG_FREE;
	send_one(neighbours[1]);
	FM_TEST(harness_slots(&h, &slot) == 3 && slots()[HOME + 1].tag >= FM_TAG_LIVE,
		"a free slot ends the chain");
}

/* A live slot with the tag of another flow: the key decides. */
static void test_tag_collision(void)
{
	struct fm_slot *slot;

	harness_reset(&h);
	send_one(neighbours[0]);
	slots()[HOME + 1] = slots()[HOME];
	slots()[HOME].key.port[0] ^= 1;
	send_one(neighbours[0]);
	FM_TEST(harness_slots(&h, &slot) == 2 &&
			slots()[HOME].half[0].packets + slots()[HOME].half[1].packets == 1 &&
			slots()[HOME + 1].half[0].packets + slots()[HOME + 1].half[1].packets == 2,
		"two keys with one tag");
}

/* When the daemon should look: sooner after an end. */
static void test_due(void)
{
	static const uint8_t flags[] = {0x10, 0x11, 0x14, 0x04};
	struct fm_slot *slot;

	for (size_t i = 0; i < sizeof(flags); i++) {
		uint32_t wanted = flags[i] & 5 ? 100 : 1000, last;

		harness_reset(&h);
		packet_new(&p);
		packet_eth(&p);
		packet_ip6(&p, .src = 1, .dst = 2, .next = IPPROTO_TCP);
		packet_tcp(&p, 1, 2, flags[i], 0);
		packet_end(&p);
		harness_packet(&h, &p);
		if (!FM_TEST(harness_slots(&h, &slot) == 1, "one flow"))
			continue;
		last = slot->half[slot->half[1].packets != 0].last_tick;
		FM_TEST(slot->due_tick == last + wanted && slot->mark_tick == last,
			"TCP flags 0x%02x: due after %u ticks", flags[i], wanted);
	}
}

static void tcp(uint16_t port, uint8_t flags)
{
	packet_new(&p);
	packet_eth(&p);
	packet_ip6(&p, .src = 1, .dst = 2, .next = IPPROTO_TCP);
	packet_tcp(&p, port, 2, flags, 0);
	packet_end(&p);
	harness_packet(&h, &p);
}

static bool room(void *userdata)
{
	return true;
}

static void take(void *userdata, const struct fm_conversation *conversation,
		 enum fm_end_reason reason)
{
	++*(unsigned int *)userdata;
}

/* Sweeps when so many ticks have gone by since the slot's packet. */
static void sweep_after(struct fm_sweep *sweep, uint32_t ticks)
{
	static const struct fm_sweep_timeouts timeouts = {
		.idle = 1000, .active = 1 << 20, .linger = 100};
	enum fm_sweep_state state;
	struct fm_clock clock;

	fm_kernel_clock(h.kernel, &clock);
	fm_sweep_begin(sweep, h.generation, &timeouts, (uint32_t)clock.tick + ticks, false);
	do {
		state = fm_sweep_step(sweep);
		if (state == FM_SWEEP_FENCE)
			fm_sweep_fenced(sweep); /* no program runs meanwhile */
	} while (state != FM_SWEEP_IDLE);
}

/* Blocks that hold nothing due are passed over; what changes in them is seen. */
static void test_passed_over(void)
{
	static const struct fm_sweep_ops ops = {.room = room, .conversation = take};
	_fm_cleanup_(fm_sweep_freep) struct fm_sweep *sweep = NULL;
	const struct fm_sweep_stats *stats;
	unsigned int taken = 0;
	int r = fm_sweep_new(&sweep, &ops, &taken);

	if (!FM_TEST(r == 0, "a sweep"))
		return;
	stats = fm_sweep_get_stats(sweep);
	harness_reset(&h);
	for (uint16_t port = 1; port <= 40; port++)
		tcp(port, 0x10);
	sweep_after(sweep, 0);
	FM_TEST(taken == 0 && stats->live_slots == 40, "40 flows, none is due");
	sweep_after(sweep, 200);
	FM_TEST(taken == 0 && stats->live_slots == 40, "passed over, and counted all the same");
	tcp(7, 0x04);
	tcp(8, 0x14);
	sweep_after(sweep, 101 + 5);
	FM_TEST(taken == 2 && stats->live_slots == 40, "two ended: due sooner than before");
	tcp(50, 0x10);
	sweep_after(sweep, 0);
	FM_TEST(taken == 2 && stats->live_slots == 39, "they are gone, a new one is there");
	sweep_after(sweep, 1001);
	FM_TEST(taken == 41, "all are taken when they are due");
	sweep_after(sweep, 1001);
	FM_TEST(stats->live_slots == 0 && stats->tombstones == 0, "nothing is left");
}

int main(void)
{
	struct fm_kernel_options options = {.max_flows = 64};
	int r;

	if (!harness_allowed())
		return fm_test_skip_all("needs root");
	r = harness_init(&h, &options);
	if (r < 0)
		return fm_test_bail("harness", r);
	find_neighbours();
	if (!neighbours[FM_PROBES + 1])
		return fm_test_bail("no flows of one home", -ENOENT);
	test_home();
	test_full();
	test_ring_full();
	test_no_region();
	test_closing();
	test_tombstones();
	test_tag_collision();
	test_due();
	test_passed_over();
	harness_done(&h);
	return fm_test_done();
}
