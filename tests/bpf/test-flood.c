/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Floods: what finds no place is counted in aggregates, exactly, nothing is lost, and nothing that
 * has a place loses it. First one kind of flood after another on one CPU, then new flows on every
 * CPU as fast as it can, beside long conversations and under the sweep.
 */
#include <arpa/inet.h>
#include <errno.h>
#include <inttypes.h>
#include <netinet/in.h>
#include <pthread.h>
#include <sched.h>
#include <stdlib.h>
#include <string.h>

#include <bpf/bpf.h>

#include "base/clock.h"
#include "base/macro.h"
#include "daemon/sweep.h"
#include "daemon/timebase.h"
#include "flood.h"
#include "harness.h"
#include "test.h"
#include "wrap.skel.h"

#define VICTIM	0xc0000205 /* 192.0.2.5 */
#define VICTIMS 512
#define SCANNER 0xcb007107 /* 203.0.113.7 */
#define OCTETS	40	   /* of a packet */
#define SYN	0x02
#define SYN_ACK 0x12
#define ACK	0x10

#define RANDOM_CLIENT (FM_FLOOD_SOURCE | FM_FLOOD_SOURCE_PORT)
#define RANDOM_TARGET (FM_FLOOD_DESTINATION | FM_FLOOD_DESTINATION_PORT)

static struct harness h;
static struct packet p;

static void tcp(uint32_t src, uint16_t src_port, uint32_t dst, uint16_t dst_port, uint8_t flags)
{
	packet_new(&p);
	packet_eth(&p);
	packet_ip4(&p, .src = src, .dst = dst, .protocol = IPPROTO_TCP);
	packet_tcp(&p, src_port, dst_port, flags, 0);
	packet_end(&p);
}

/* Leaves no slot for a new flow and no room on the ring, and nothing aggregated. */
static void fill(void)
{
	const struct fm_generation *generation = h.generation;
	struct fm_slot *slots = generation->regions[h.cpu].slots;

	harness_reset(&h);
	memset(&slots[generation->n_slots], 0,
	       (fm_region_elements(generation->n_slots) - generation->n_slots) * sizeof(*slots));
	tcp(1, 1, 2, 2, SYN);
	harness_packet(&h, &p, .repeat = 20000, .flood = RANDOM_CLIENT | RANDOM_TARGET);
	tcp(1, 1, 2, 2, ACK); /* takes what of the ring is kept from others */
	harness_packet(&h, &p, .repeat = 20000, .flood = RANDOM_CLIENT | RANDOM_TARGET);
	memset(&slots[FM_AGGREGATES(generation->homes)], 0,
	       (generation->n_slots - FM_AGGREGATES(generation->homes)) * sizeof(*slots));
	/* Chains end at free slots, of which a table is never without; here it is. */
	for (uint32_t i = 0; i < FM_AGGREGATES(generation->homes); i++)
		if (slots[i].tag == FM_TAG_FREE)
			slots[i].tag = FM_TAG_CLOSING;
	fm_kernel_counters(h.kernel, &h.before);
}

/* What aggregates of a kind hold. */
struct found {
	size_t n;
	struct fm_slot *slot; /* the one with most packets */
	struct fm_count half[2];
};

static struct found find(enum fm_aggregate kind)
{
	struct fm_slot *slots = h.generation->regions[h.cpu].slots;
	struct found found = {};
	uint64_t most = 0;

	for (uint32_t i = FM_AGGREGATES(h.generation->homes); i < h.generation->n_slots; i++) {
		if (slots[i].tag < FM_TAG_CLOSING || FM_KEY_AGGREGATE_OF(&slots[i].key) != kind)
			continue;
		found.n++;
		if (slots[i].half[0].packets + slots[i].half[1].packets > most) {
			most = slots[i].half[0].packets + slots[i].half[1].packets;
			found.slot = &slots[i];
		}
		for (unsigned int d = 0; d < 2; d++) {
			found.half[d].packets += slots[i].half[d].packets;
			found.half[d].octets += slots[i].half[d].octets;
		}
	}
	return found;
}

/* Everything since fill() is in aggregates, to the packet and to the octet. */
static bool all_coarse(uint64_t packets)
{
	struct fm_count sum = {}, coarse = harness_count(&h, FM_COUNTER_coarse);

	for (enum fm_aggregate kind = FM_AGGREGATE_SERVER; kind <= FM_AGGREGATE_FAMILY; kind++) {
		struct found found = find(kind);

		printf("# kind %d: %zu, %llu and %llu packets\n", kind, found.n,
		       found.half[0].packets, found.half[1].packets);
		for (unsigned int d = 0; d < 2; d++) {
			sum.packets += found.half[d].packets;
			sum.octets += found.half[d].octets;
		}
	}
	return sum.packets == packets && sum.octets == packets * OCTETS &&
	       coarse.packets == packets && coarse.octets == packets * OCTETS &&
	       harness_count(&h, FM_COUNTER_seen).packets == packets &&
	       harness_count(&h, FM_COUNTER_overflow_lost).packets == 0 &&
	       harness_count(&h, FM_COUNTER_overflow).packets == 0;
}

static bool keeps(const struct fm_slot *slot, uint32_t address, uint16_t port, uint16_t other_port)
{
	static const uint8_t zero[16];
	uint32_t kept;

	if (!slot)
		return false;
	memcpy(&kept, &slot->key.addr[1][12], sizeof(kept));
	return !memcmp(slot->key.addr[0], zero, sizeof(zero)) && kept == htonl(address) &&
	       slot->key.port[1] == htons(port) && slot->key.port[0] == htons(other_port) &&
	       FM_KEY_FAMILY_OF(&slot->key) == 4 && slot->key.protocol == IPPROTO_TCP &&
	       slot->key.ifindex == 1;
}

static void test_syn_flood(void)
{
	struct found found;

	fill();
	tcp(1, 1, VICTIM, 80, SYN);
	harness_packet(&h, &p, .repeat = 5000, .flood = RANDOM_CLIENT);
	tcp(VICTIM, 80, 1, 1, SYN_ACK);
	harness_packet(&h, &p, .repeat = 3000, .flood = RANDOM_TARGET, .hook = FM_HOOK_EGRESS,
		       .ifindex = 1);
	found = find(FM_AGGREGATE_SERVER);
	FM_TEST(all_coarse(8000), "SYN flood: every packet in an aggregate");
	FM_TEST(found.n == 1 && keeps(found.slot, VICTIM, 80, 0) && found.half[0].packets > 4900 &&
			found.half[1].packets > 2900 && found.slot->half[0].tcp_flags == SYN &&
			found.slot->half[1].tcp_flags == SYN_ACK,
		"SYN flood: one aggregate of the server, with what it answers");
}

/*
 * Whatever cells of votes an address falls into, one after the other: no candidate of a packet
 * takes another's. What is left of the victim before may take up to 64 packets to forget.
 */
static void test_victims(void)
{
	const struct fm_generation *generation = h.generation;
	struct fm_slot *slots = generation->regions[h.cpu].slots;
	unsigned int missed = 0;

	fill();
	for (uint32_t i = 0; i < VICTIMS; i++) {
		struct found found;

		memset(&slots[FM_AGGREGATES(generation->homes)], 0,
		       (generation->n_slots - FM_AGGREGATES(generation->homes)) * sizeof(*slots));
		tcp(1, 1, VICTIM + i, 80, SYN);
		harness_packet(&h, &p, .repeat = 400, .flood = RANDOM_CLIENT);
		found = find(FM_AGGREGATE_SERVER);
		missed += found.n != 1 || !keeps(found.slot, VICTIM + i, 80, 0) ||
			  found.half[0].packets < 300;
	}
	FM_TEST(missed == 0, "SYN floods to %d addresses: %u without an aggregate of the server",
		VICTIMS, missed);
}

static void test_scan(void)
{
	struct found found;

	fill();
	tcp(SCANNER, 1, 1, 22, SYN);
	harness_packet(&h, &p, .repeat = 5000,
		       .flood = FM_FLOOD_SOURCE_PORT | FM_FLOOD_DESTINATION);
	tcp(1, 22, SCANNER, 1, 0x14);
	harness_packet(&h, &p, .repeat = 3000,
		       .flood = FM_FLOOD_SOURCE | FM_FLOOD_DESTINATION_PORT);
	found = find(FM_AGGREGATE_CLIENT);
	FM_TEST(all_coarse(8000), "scan of addresses: every packet in an aggregate");
	FM_TEST(found.n == 1 && keeps(found.slot, SCANNER, 0, 22) && found.half[1].packets > 4900 &&
			found.half[0].packets > 2900,
		"scan of addresses: one aggregate of the scanner and the port, with the answers");
}

static void test_ports(void)
{
	struct found found;

	fill();
	tcp(1, 1, VICTIM, 1, 0x10);
	harness_packet(&h, &p, .repeat = 5000, .flood = RANDOM_CLIENT | FM_FLOOD_DESTINATION_PORT);
	found = find(FM_AGGREGATE_ADDRESS);
	FM_TEST(all_coarse(5000) && found.n == 1 && keeps(found.slot, VICTIM, 0, 0) &&
			found.half[0].packets > 4900,
		"random ports: one aggregate of the victim");
	fill();
	tcp(SCANNER, 1, 1, 1, 0x10);
	harness_packet(&h, &p, .repeat = 5000, .flood = RANDOM_TARGET | FM_FLOOD_SOURCE_PORT);
	found = find(FM_AGGREGATE_ADDRESS);
	FM_TEST(all_coarse(5000) && found.n == 1 && keeps(found.slot, SCANNER, 0, 0) &&
			found.half[1].packets > 4900,
		"random addresses and ports: one aggregate of who sends them");
}

/* Nothing in common, and every protocol there is: each has a place, and what has not as well. */
static void test_everything(void)
{
	struct found found;

	fill();
	tcp(1, 1, 2, 2, SYN);
	harness_packet(&h, &p, .repeat = 5000, .flood = RANDOM_CLIENT | RANDOM_TARGET);
	found = find(FM_AGGREGATE_PROTOCOL);
	FM_TEST(all_coarse(5000) && found.n == 1 && found.half[0].packets == 5000,
		"all random: one aggregate of the protocol");
	harness_packet(&h, &p, .repeat = 20000,
		       .flood = RANDOM_CLIENT | RANDOM_TARGET | FM_FLOOD_PROTOCOL);
	found = find(FM_AGGREGATE_FAMILY);
	FM_TEST(all_coarse(25000) && found.n == 1 && found.half[0].packets > 0 &&
			found.slot->key.protocol == FM_PROTOCOL_ANY &&
			found.slot->key.ifindex == 0 && found.slot->half[0].ingress_if == 0,
		"more protocols than places: the rest in the aggregate of the family");
	found.slot->tag = FM_TAG_CLOSING;
	harness_packet(&h, &p, .repeat = 20000,
		       .flood = RANDOM_CLIENT | RANDOM_TARGET | FM_FLOOD_PROTOCOL);
	FM_TEST(find(FM_AGGREGATE_FAMILY).n == 2 && found.slot->half[0].packets > 0 &&
			find(FM_AGGREGATE_FAMILY).half[0].packets > found.slot->half[0].packets &&
			harness_count(&h, FM_COUNTER_overflow_lost).packets == 0,
		"the last place is being taken out: there is another");
}

/* Whoever votes for themselves in turns takes places of end points, never those of protocols. */
static void test_greedy(void)
{
	struct found found;

	fill();
	for (uint32_t i = 0; i < 1000; i++) {
		tcp(0x0a000000 + i, 1024 + i, 0x0b000000 + i, 443, SYN);
		harness_packet(&h, &p, .repeat = 20);
	}
	found = find(FM_AGGREGATE_PROTOCOL);
	FM_TEST(all_coarse(20000) && found.n == 1 && found.half[0].packets > 0,
		"more end points than places: the rest in the aggregate of the protocol");
}

/* A flow that looks like an aggregate has its own slot, and an aggregate never takes it. */
static void test_alike(void)
{
	struct fm_slot *slots = h.generation->regions[h.cpu].slots;
	const struct fm_slot *own = NULL;
	struct found found;

	fill();
	/* 0.0.0.0:0 -> VICTIM:80 with a slot of its own. */
	for (uint32_t i = 0; i < FM_AGGREGATES(h.generation->homes); i++)
		slots[i].tag = FM_TAG_FREE;
	tcp(0, 0, VICTIM, 80, SYN);
	harness_packet(&h, &p, .repeat = 7);
	for (uint32_t i = 0; i < FM_AGGREGATES(h.generation->homes); i++) {
		if (slots[i].tag == FM_TAG_FREE)
			slots[i].tag = FM_TAG_CLOSING;
		else
			own = &slots[i];
	}
	tcp(1, 1, VICTIM, 80, SYN);
	harness_packet(&h, &p, .repeat = 5000, .flood = RANDOM_CLIENT);
	tcp(0, 0, VICTIM, 80, SYN);
	harness_packet(&h, &p, .repeat = 4);
	found = find(FM_AGGREGATE_SERVER);
	FM_TEST(own && own->half[0].packets == 11 && FM_KEY_AGGREGATE_OF(&own->key) == 0,
		"the flow of 0.0.0.0 is counted by itself");
	FM_TEST(harness_count(&h, FM_COUNTER_coarse).packets == 5000 && found.n == 1 &&
			keeps(found.slot, VICTIM, 80, 0),
		"the aggregate beside it as well");
}

/* The second part: all CPUs. */

#define TALKS	   100
#define FLOODED	   6000000ULL
#define BURST	   1000
#define CPUS_MAX   256
#define ROOM	   5000
#define NEVER	   1000000
#define AFTERWARDS 200
#define FIRST_FREE 20000 /* ports of the conversations after the flood */

struct sender {
	pthread_t thread;
	unsigned int cpu, number;
	uint64_t wanted;
	int error;
	struct fm_count sent;
	uint64_t talked[TALKS][2];
};

static struct sender senders[CPUS_MAX];
static unsigned int n_senders, n_running;
static struct fm_count exported, aggregated;
static uint64_t talked[TALKS][2], afterwards, conversations;
static unsigned int places, out_of_room;

/* A sink with room for some conversations at a time. */
static bool room(void *userdata)
{
	return places > 0;
}

static void take(void *userdata, const struct fm_conversation *conversation,
		 enum fm_end_reason reason)
{
	const struct fm_key *key = &conversation->key;
	static const uint8_t client[4] = {10, 0, 0, 1}, server[4] = {10, 0, 0, 2};
	bool talk = !FM_KEY_AGGREGATE_OF(key) && !memcmp(&key->addr[0][12], client, 4) &&
		    !memcmp(&key->addr[1][12], server, 4);

	conversations++;
	places--;
	for (unsigned int d = 0; d < 2; d++) {
		struct fm_count *sum = FM_KEY_AGGREGATE_OF(key) ? &aggregated : &exported;

		sum->packets += conversation->half[d].packets;
		sum->octets += conversation->half[d].octets;
		if (talk && ntohs(key->port[0]) < TALKS)
			talked[ntohs(key->port[0])][d] += conversation->half[d].packets;
	}
	afterwards += talk && ntohs(key->port[0]) >= FIRST_FREE;
}

/* Conversation i between 10.0.0.1 and 10.0.0.2, there or back. */
static void talk(struct packet *packet, unsigned int i, bool back)
{
	packet_new(packet);
	packet_eth(packet);
	packet_ip4(packet, .src = 0x0a000001 + back, .dst = 0x0a000002 - back,
		   .protocol = IPPROTO_TCP);
	packet_tcp(packet, back ? 443 : i, back ? i : 443, 0x10, 0);
	packet_end(packet);
}

static int run_packet(struct sender *sender, const struct packet *packet, uint32_t flood,
		      uint32_t repeat)
{
	struct harness_run run = {.repeat = repeat, .flood = flood};
	int r = harness_run(&h, packet->data, packet->length, &run);

	sender->sent.packets += repeat;
	sender->sent.octets += (uint64_t)repeat * (packet->length - 14);
	return r;
}

static int pin(unsigned int cpu)
{
	cpu_set_t set;

	CPU_ZERO(&set);
	CPU_SET(cpu, &set);
	return sched_setaffinity(0, sizeof(set), &set) < 0 ? -errno : 0;
}

/* Floods of all kinds in turns, and in every conversation a packet a turn. */
static void *send_all(void *argument)
{
	static const uint32_t kinds[] = {
		RANDOM_CLIENT,
		FM_FLOOD_DESTINATION,
		RANDOM_CLIENT | RANDOM_TARGET,
	};
	struct sender *sender = argument;
	struct packet syn = {}, talking;

	packet_new(&syn);
	packet_eth(&syn);
	packet_ip4(&syn, .src = SCANNER, .dst = VICTIM, .protocol = IPPROTO_TCP);
	packet_tcp(&syn, 1024, 80, SYN, 0);
	packet_end(&syn);
	sender->error = pin(sender->cpu);
	for (unsigned int i = 0; !sender->error && sender->sent.packets < sender->wanted; i++) {
		unsigned int number = i % TALKS;
		bool back = (i / TALKS + sender->number) & 1;

		sender->error =
			run_packet(sender, &syn, kinds[i / 10 % FM_ARRAY_SIZE(kinds)], BURST);
		talk(&talking, number, back);
		sender->talked[number][back]++;
		if (!sender->error)
			sender->error = run_packet(sender, &talking, 0, 1);
	}
	__atomic_sub_fetch(&n_running, 1, __ATOMIC_RELEASE);
	return NULL;
}

static int start(void)
{
	cpu_set_t allowed;

	CPU_ZERO(&allowed);
	for (unsigned int cpu = 0; cpu < CPUS_MAX; cpu++)
		CPU_SET(cpu, &allowed);
	sched_setaffinity(0, sizeof(allowed), &allowed);
	if (sched_getaffinity(0, sizeof(allowed), &allowed) < 0)
		return -errno;
	for (unsigned int cpu = 0; cpu < CPUS_MAX; cpu++)
		if (CPU_ISSET(cpu, &allowed) && cpu < h.generation->n_cpus &&
		    h.generation->regions[cpu].slots) {
			senders[n_senders].number = n_senders;
			senders[n_senders++].cpu = cpu;
		}
	n_running = n_senders;
	for (unsigned int i = 0; i < n_senders; i++) {
		struct packet talking;

		senders[i].wanted = FLOODED / n_senders;
		/* The conversations are there before the flood, on every CPU, and not brief. */
		pin(senders[i].cpu);
		for (unsigned int t = 0; t < TALKS; t++) {
			talk(&talking, t, i & 1);
			senders[i].talked[t][i & 1] += 2;
			run_packet(&senders[i], &talking, 0, 2);
		}
	}
	sched_setaffinity(0, sizeof(allowed), &allowed);
	for (unsigned int i = 0; i < n_senders; i++)
		if (pthread_create(&senders[i].thread, NULL, send_all, &senders[i]) != 0)
			return -EAGAIN;
	return 0;
}

static void run_sweep(struct fm_sweep *sweep)
{
	enum fm_sweep_state state = fm_sweep_current(sweep);

	while (state != FM_SWEEP_IDLE) {
		if (state == FM_SWEEP_FENCE) {
			fm_kernel_fence(h.kernel);
			fm_sweep_fenced(sweep);
		}
		state = fm_sweep_step(sweep);
		if (state == FM_SWEEP_NO_ROOM) {
			out_of_room++;
			places = ROOM;
		}
	}
}

static void one_sweep(struct fm_sweep *sweep, struct fm_timebase *timebase)
{
	static const struct fm_sweep_timeouts timeouts = {
		.idle = NEVER, .active = NEVER, .linger = NEVER, .brief = 1};

	harness_drain(&h);
	fm_timebase_sync(timebase, h.kernel);
	fm_sweep_begin(sweep, h.generation, &timeouts, timebase->now_tick, false);
	run_sweep(sweep);
}

/* The tables are empty of the flood as soon as its flows are over, and who comes has a place. */
static void test_afterwards(struct fm_sweep *sweep, struct fm_timebase *timebase,
			    struct sender *sender)
{
	struct packet talking;
	uint64_t coarse, begin = timebase->now_tick;

	while (timebase->now_tick < begin + 3)
		fm_timebase_sync(timebase, h.kernel);
	one_sweep(sweep, timebase);
	one_sweep(sweep, timebase);
	printf("# %" PRIu64 " slots in use after the flood\n",
	       fm_sweep_get_stats(sweep)->live_slots);
	coarse = harness_count(&h, FM_COUNTER_coarse).packets +
		 harness_count(&h, FM_COUNTER_overflow).packets;
	for (unsigned int i = 0; i < AFTERWARDS; i++) {
		talk(&talking, FIRST_FREE + i, false);
		run_packet(sender, &talking, 0, 3);
	}
	FM_TEST(harness_count(&h, FM_COUNTER_coarse).packets +
				harness_count(&h, FM_COUNTER_overflow).packets ==
			coarse,
		"flows after the flood have places");
}

static void check(const struct fm_sweep_stats *stats, uint64_t ns)
{
	struct fm_count sent = {}, lost = harness_count(&h, FM_COUNTER_overflow_lost);
	unsigned int wrong = 0;
	int error = 0;

	for (unsigned int t = 0; t < TALKS; t++)
		for (unsigned int d = 0; d < 2; d++) {
			uint64_t told = 0;

			for (unsigned int i = 0; i < n_senders; i++)
				told += senders[i].talked[t][d];
			/* The client has the smaller address: endpoint 0. */
			wrong += told != talked[t][d] || told == 0;
		}
	for (unsigned int i = 0; i < n_senders; i++) {
		sent.packets += senders[i].sent.packets;
		sent.octets += senders[i].sent.octets;
		error = error ? error : senders[i].error;
	}
	printf("# %llu new flows a second on %u CPUs, under the sweep\n",
	       sent.packets * FM_NS_PER_S / ns, n_senders);
	printf("# sent %llu/%llu; flows %llu/%llu, aggregates %llu/%llu, one by one %llu/%llu\n",
	       sent.packets, sent.octets, exported.packets, exported.octets, aggregated.packets,
	       aggregated.octets, h.events.packets, h.events.octets);
	printf("# %" PRIu64 " conversations of %" PRIu64 " slots closed in %" PRIu64 " sweeps\n",
	       conversations, stats->closed, stats->sweeps);
	FM_TEST(error == 0 && sent.packets >= FLOODED, "all sent: %d", error);
	FM_TEST(out_of_room > 0, "sinks were out of room %u times", out_of_room);
	FM_TEST(lost.packets == 0 && harness_count(&h, FM_COUNTER_no_table).packets == 0,
		"nothing lost");
	FM_TEST(aggregated.packets > 0 &&
			aggregated.packets + h.events.packets ==
				harness_count(&h, FM_COUNTER_coarse).packets +
					harness_count(&h, FM_COUNTER_overflow).packets,
		"what had no place is in aggregates or came one by one");
	FM_TEST(sent.packets == exported.packets + aggregated.packets + h.events.packets &&
			sent.octets == exported.octets + aggregated.octets + h.events.octets,
		"sent = flows + aggregates + one by one");
	FM_TEST(wrong == 0, "%u directions of %d long conversations differ", wrong, 2 * TALKS);
	FM_TEST(stats->closed > (uint64_t)h.generation->n_slots,
		"the flood's slots were used again");
	FM_TEST(afterwards == AFTERWARDS, "a record for each flow after the flood: %" PRIu64,
		afterwards);
}

static int test_all_cpus(void)
{
	static const struct fm_sweep_ops ops = {.room = room, .conversation = take};
	struct fm_kernel_options options = {.max_flows = 20000, .tcp = true};
	_fm_cleanup_(fm_sweep_freep) struct fm_sweep *sweep = NULL;
	struct fm_timebase timebase;
	uint64_t begun;
	int r;

	r = harness_init(&h, &options);
	if (r == 0)
		r = fm_sweep_new(&sweep, &ops, NULL);
	if (r < 0)
		return r;
	fm_kernel_set_live(h.kernel, NEVER, NEVER);
	fm_kernel_set_brief(h.kernel, 1);
	fm_timebase_init(&timebase, h.kernel);
	begun = fm_clock_monotonic_ns();
	r = start();
	if (r < 0)
		return r;
	while (__atomic_load_n(&n_running, __ATOMIC_ACQUIRE) > 0)
		one_sweep(sweep, &timebase);
	for (unsigned int i = 0; i < n_senders; i++)
		pthread_join(senders[i].thread, NULL);
	begun = fm_clock_monotonic_ns() - begun;
	pin(h.cpu);
	test_afterwards(sweep, &timebase, &senders[0]);
	fm_kernel_fence(h.kernel);
	harness_drain(&h);
	fm_timebase_sync(&timebase, h.kernel);
	fm_sweep_begin_drain(sweep, h.generation, timebase.now_tick, FM_END_REASON_FORCED);
	run_sweep(sweep);
	check(fm_sweep_get_stats(sweep), begun);
	harness_done(&h);
	return 0;
}

int main(void)
{
	struct fm_kernel_options options = {.max_flows = 64, .tcp = true};
	int r;

	if (!harness_allowed())
		return fm_test_skip_all("needs root");
	r = harness_init(&h, &options);
	if (r < 0)
		return fm_test_bail("harness", r);
	test_syn_flood();
	test_victims();
	test_scan();
	test_ports();
	test_everything();
	test_greedy();
	test_alike();
	harness_done(&h);
	r = test_all_cpus();
	if (r < 0)
		return fm_test_bail("all CPUs", r);
	return fm_test_done();
}
