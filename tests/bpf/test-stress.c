/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Every CPU sends while the sweep closes conversations under the senders: nothing may be lost or
 * counted twice. Arguments: --long for 2 * 10^8 packets; --no-fence leaves out the grace
 * period, the negative control: with few flows packets are lost then.
 */
#include <errno.h>
#include <inttypes.h>
#include <netinet/in.h>
#include <pthread.h>
#include <sched.h>
#include <string.h>

#include <bpf/bpf.h>
#include <bpf/libbpf.h>

#include "base/clock.h"
#include "daemon/sweep.h"
#include "daemon/timebase.h"
#include "harness.h"
#include "test.h"

#define BURST	     16
#define CPUS_MAX     256
#define SENT_DEFAULT 10000000ULL
#define SENT_LONG    200000000ULL

#define FLOWS	  20000
#define FLOWS_FEW 20

/*
 * Timeouts of a tick, none after an end: conversations are closed in the middle of their packets.
 */
static const struct fm_sweep_timeouts timeouts = {.idle = 1, .active = 2, .linger = 0};
static unsigned int n_flows = FLOWS;

struct sender {
	pthread_t thread;
	unsigned int cpu;
	int program;
	uint64_t wanted;
	int error;
	struct fm_count sent;
};

static struct fm_kernel *kernel;
static struct fm_generation *generation;
static struct sender senders[CPUS_MAX];
static unsigned int n_senders, n_running;
static struct fm_count exported;
static uint64_t conversations;

static bool room(void *userdata)
{
	return true;
}

static void take(void *userdata, const struct fm_conversation *conversation,
		 enum fm_end_reason reason)
{
	conversations++;
	for (unsigned int d = 0; d < 2; d++) {
		exported.packets += conversation->half[d].packets;
		exported.octets += conversation->half[d].octets;
	}
}

/* Flow number f, there or back; every second one ends with each of its packets. */
static void flow(struct packet *p, unsigned int f, bool back)
{
	bool reset = f % 4 < 2;
	uint8_t protocol = reset ? IPPROTO_TCP : IPPROTO_UDP;

	packet_new(p);
	packet_eth(p);
	if (f & 1)
		packet_ip6(p, .src = back ? 2 : 1, .dst = back ? 1 : 2, .next = protocol);
	else
		packet_ip4(p, .src = back ? 2 : 1, .dst = back ? 1 : 2, .protocol = protocol);
	if (reset)
		packet_tcp(p, back ? 53 : f, back ? f : 53, 0x04, 0);
	else
		packet_udp(p, back ? 53 : f, back ? f : 53);
	packet_payload(p, f % 50);
	packet_end(p);
}

static void *send_all(void *argument)
{
	struct sender *sender = argument;
	struct packet p;
	cpu_set_t set;

	CPU_ZERO(&set);
	CPU_SET(sender->cpu, &set);
	sender->error = sched_setaffinity(0, sizeof(set), &set) < 0 ? -errno : 0;
	for (uint64_t i = 0; !sender->error && sender->sent.packets < sender->wanted; i++) {
		LIBBPF_OPTS(bpf_test_run_opts, opts, .data_in = p.data, .repeat = BURST);

		flow(&p, (i * 7919) % n_flows, (i + sender->cpu) & 1);
		opts.data_size_in = p.length;
		if (bpf_prog_test_run_opts(sender->program, &opts) < 0)
			sender->error = -errno;
		sender->sent.packets += BURST;
		sender->sent.octets += BURST * (p.length - 14);
	}
	__atomic_sub_fetch(&n_running, 1, __ATOMIC_RELEASE);
	return NULL;
}

static int start(uint64_t wanted)
{
	cpu_set_t allowed;

	if (sched_getaffinity(0, sizeof(allowed), &allowed) < 0)
		return -errno;
	n_senders = 0;
	for (unsigned int cpu = 0; cpu < CPUS_MAX; cpu++) {
		if (!CPU_ISSET(cpu, &allowed) || cpu >= generation->n_cpus ||
		    !generation->regions[cpu].slots)
			continue;
		senders[n_senders++] = (struct sender){
			.cpu = cpu,
			.program = fm_generation_program(generation, 0, FM_HOOK_INGRESS, false),
		};
	}
	n_running = n_senders;
	for (unsigned int i = 0; i < n_senders; i++) {
		senders[i].wanted = wanted / n_senders;
		if (pthread_create(&senders[i].thread, NULL, send_all, &senders[i]) != 0)
			return -EAGAIN;
	}
	return 0;
}

/* Runs the sweep's steps until it is done. */
static void run_sweep(struct fm_sweep *sweep, bool fence)
{
	enum fm_sweep_state state = fm_sweep_current(sweep);

	while (state != FM_SWEEP_IDLE) {
		if (state == FM_SWEEP_FENCE) {
			if (fence)
				fm_kernel_fence(kernel);
			fm_sweep_fenced(sweep);
		}
		state = fm_sweep_step(sweep);
	}
}

static void sweep_all(struct fm_sweep *sweep, bool fence)
{
	struct fm_timebase timebase;

	fm_timebase_init(&timebase, kernel);
	while (__atomic_load_n(&n_running, __ATOMIC_ACQUIRE) > 0) {
		fm_timebase_sync(&timebase, kernel);
		fm_sweep_begin(sweep, generation, &timeouts, timebase.now_tick, false);
		run_sweep(sweep, fence);
	}
	for (unsigned int i = 0; i < n_senders; i++)
		pthread_join(senders[i].thread, NULL);
	fm_kernel_fence(kernel);
	fm_timebase_sync(&timebase, kernel);
	fm_sweep_begin_drain(sweep, generation, timebase.now_tick, FM_END_REASON_FORCED);
	run_sweep(sweep, fence);
}

/* What no slot held: exported from the ring, or lost with a name. */
static struct fm_count not_in_slots(void)
{
	static const enum fm_counter others[] = {FM_COUNTER_overflow, FM_COUNTER_overflow_lost,
						 FM_COUNTER_no_table};
	struct fm_counters counters;
	struct fm_count sum = {};

	fm_kernel_counters(kernel, &counters);
	for (size_t i = 0; i < sizeof(others) / sizeof(others[0]); i++) {
		sum.packets += counters.count[others[i]].packets;
		sum.octets += counters.count[others[i]].octets;
	}
	return sum;
}

static void check(const char *name, const struct fm_sweep_stats *stats, uint64_t wanted)
{
	struct fm_count others = not_in_slots(), sent = {};
	int error = 0;

	for (unsigned int i = 0; i < n_senders; i++) {
		sent.packets += senders[i].sent.packets;
		sent.octets += senders[i].sent.octets;
		error = error ? error : senders[i].error;
	}
	printf("# sent %llu/%llu, exported %llu/%llu, named %llu/%llu\n", sent.packets, sent.octets,
	       exported.packets, exported.octets, others.packets, others.octets);
	printf("# %" PRIu64 " conversations, %" PRIu64 " sweeps, %" PRIu64 " closed, %" PRIu64
	       " active, %" PRIu64 " fences\n",
	       conversations, stats->sweeps, stats->closed, stats->active, stats->fences);
	FM_TEST(error == 0 && sent.packets >= wanted - n_senders * BURST, "%s: all sent", name);
	FM_TEST(stats->closed > n_flows && stats->fences > 2, "%s: closed under the senders", name);
	FM_TEST(sent.packets == exported.packets + others.packets &&
			sent.octets == exported.octets + others.octets,
		"%s: sent = exported + named losses", name);
}

static int run(const char *name, uint64_t wanted, bool by_map, bool fence)
{
	struct fm_kernel_options options = {.max_flows = 2 * n_flows};
	_fm_cleanup_(fm_kernel_freep) struct fm_kernel *owned_kernel = NULL;
	_fm_cleanup_(fm_generation_freep) struct fm_generation *owned_generation = NULL;
	_fm_cleanup_(fm_sweep_freep) struct fm_sweep *sweep = NULL;
	static const struct fm_sweep_ops ops = {.room = room, .conversation = take};
	int r;

	r = fm_kernel_new(&owned_kernel, NULL);
	if (r < 0)
		return r;
	r = fm_generation_new(&owned_generation, owned_kernel, &options);
	if (r < 0)
		return r;
	r = fm_sweep_new(&sweep, &ops, NULL);
	if (r < 0)
		return r;
	if (by_map)
		fm_kernel_fence_by_map(owned_kernel);
	fm_kernel_set_live(owned_kernel, timeouts.idle, timeouts.linger);
	kernel = owned_kernel;
	generation = owned_generation;
	exported = (struct fm_count){};
	conversations = 0;
	r = start(wanted);
	if (r < 0)
		return r;
	sweep_all(sweep, fence);
	check(name, fm_sweep_get_stats(sweep), wanted);
	return 0;
}

int main(int argc, char **argv)
{
	uint64_t wanted = SENT_DEFAULT;
	bool fence = true;
	int r;

	for (int i = 1; i < argc; i++) {
		if (strcmp(argv[i], "--long") == 0)
			wanted = SENT_LONG;
		else if (strcmp(argv[i], "--no-fence") == 0)
			fence = false;
	}
	if (!harness_allowed())
		return fm_test_skip_all("needs root");
	r = run("membarrier", wanted, false, fence);
	if (r == 0)
		r = run("map in map", wanted / 4, true, fence);
	/* So few that the sweep is back at a slot while a packet is on its way to it. */
	n_flows = FLOWS_FEW;
	if (r == 0)
		r = run("few flows", wanted / 4, false, fence);
	if (r == 0)
		r = run("few flows, map in map", wanted / 4, true, fence);
	if (r < 0)
		return fm_test_bail("stress", r);
	return fm_test_done();
}
