/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What a sweep owes to grace periods, step by step: a packet that is on its way to a slot while it
 * is closed, tombstones that may still be looked at, and the thread that waits.
 */
#include <netinet/in.h>
#include <pthread.h>
#include <sched.h>
#include <string.h>

#include <bpf/bpf.h>
#include <bpf/libbpf.h>
#include <systemd/sd-event.h>

#include "base/clock.h"
#include "base/macro.h"
#include "daemon/fence.h"
#include "daemon/sweep.h"
#include "harness.h"
#include "test.h"
#include "wrap.skel.h"

#define IDLE   100
#define ACTIVE 1000
#define FLOWS  20

static struct harness h;
static struct packet p;
static struct fm_sweep *sweep;
static uint64_t exported; /* packets */
static unsigned int n_exported;
static unsigned int full_after; /* conversations until there is no room, once; 0: there always is */

static bool room(void *userdata)
{
	return full_after == 0 || --full_after > 0;
}

static void take(void *userdata, const struct fm_conversation *conversation,
		 enum fm_end_reason reason)
{
	exported += conversation->half[0].packets + conversation->half[1].packets;
	n_exported++;
}

static struct fm_slot *at(unsigned int cpu, uint32_t position)
{
	return &h.generation->regions[cpu].slots[position];
}

/* One packet of a flow; its slot. */
static struct fm_slot *send_one(uint16_t port)
{
	struct fm_slot *slot = NULL;

	packet_new(&p);
	packet_eth(&p);
	packet_ip4(&p, .src = 0x0a000001, .dst = 0x0a000002, .protocol = IPPROTO_UDP, .ttl = 9);
	packet_udp(&p, port, 53);
	packet_end(&p);
	harness_packet(&h, &p);
	harness_slots(&h, &slot);
	return slot;
}

static const struct fm_sweep_timeouts timeouts = {.idle = IDLE, .active = ACTIVE, .linger = IDLE};

static void begin(const struct fm_slot *slot, uint32_t later)
{
	fm_sweep_begin(sweep, h.generation, &timeouts, slot->due_tick + later, false);
}

/* Steps up to a state other than MORE. */
static enum fm_sweep_state go_on(void)
{
	enum fm_sweep_state state = fm_sweep_current(sweep);

	while (state == FM_SWEEP_MORE)
		state = fm_sweep_step(sweep);
	return state;
}

static enum fm_sweep_state fenced(void)
{
	fm_kernel_fence(h.kernel);
	fm_sweep_fenced(sweep);
	return go_on();
}

/* Before anything else: nothing of an earlier case, and a sweep of a table that it knows. */
static void prepare(void)
{
	static const struct fm_slot nothing;

	for (unsigned int cpu = 0; cpu < h.generation->n_cpus; cpu++) {
		const struct fm_region *region = &h.generation->regions[cpu];

		if (!region->slots)
			continue;
		memset(region->slots, 0, h.generation->n_slots * sizeof(*region->slots));
		memset(region->exported, 0, h.generation->n_slots * sizeof(*region->exported));
	}
	harness_reset(&h);
	full_after = 0;
	begin(&nothing, 0);
	while (go_on() == FM_SWEEP_FENCE)
		fenced();
	exported = n_exported = 0;
}

static void test_late(void)
{
	struct fm_slot *slot, *other;
	enum fm_sweep_state state;

	prepare();
	slot = send_one(1000);
	begin(slot, 0);
	state = go_on();
	FM_TEST(state == FM_SWEEP_FENCE && slot->tag == FM_TAG_CLOSING && n_exported == 0,
		"what is closed is not read before a grace period");
	/* A program that found the slot before. */
	slot->half[slot->half[1].packets > 0].packets++;
	send_one(1000);
	FM_TEST(harness_slots(&h, &other) == 2, "one that comes later is of another flow");
	FM_TEST(fenced() == FM_SWEEP_IDLE && exported == 2 && n_exported == 1 &&
			slot->tag == FM_TAG_TOMBSTONE,
		"a packet on its way to a slot that is closed is exported with it");
}

static void test_tombstone(void)
{
	struct fm_slot *slot;

	prepare();
	slot = send_one(1000);
	begin(slot, 0);
	go_on();
	fenced();
	begin(slot, 1);
	FM_TEST(go_on() == FM_SWEEP_FENCE && slot->tag == FM_TAG_TOMBSTONE,
		"a tombstone is not freed before another grace period");
	FM_TEST(fenced() == FM_SWEEP_IDLE && slot->tag == FM_TAG_FREE, "then it is");
	begin(slot, 2);
	FM_TEST(go_on() == FM_SWEEP_IDLE, "where nothing was closed no grace period is asked for");
}

static void test_active(void)
{
	struct fm_slot *slot;

	prepare();
	slot = send_one(1000);
	for (unsigned int i = 1; i <= 3; i++) {
		/* Of the age of the active timeout, and packets all the time. */
		slot->mark_tick = slot->due_tick - IDLE - ACTIVE;
		fm_sweep_begin(sweep, h.generation, &timeouts, slot->due_tick - IDLE, true);
		FM_TEST(go_on() == FM_SWEEP_IDLE && exported == i && n_exported == i &&
				slot->tag >= FM_TAG_LIVE,
			"a flow that goes on is exported at the active timeout: what is new (%u)",
			i);
		send_one(1000);
	}
}

/* Another CPU's region; -1: there is none. */
static int other_cpu(void)
{
	for (unsigned int cpu = 0; cpu < h.generation->n_cpus; cpu++)
		if (cpu != h.cpu && h.generation->regions[cpu].slots)
			return (int)cpu;
	return -1;
}

/* The same conversation on another CPU, whose packets came so much later. */
static struct fm_slot *copy_to(unsigned int cpu, const struct fm_slot *slot, uint32_t later)
{
	uint32_t position = (uint32_t)(slot - at(h.cpu, 0));
	struct fm_slot *copy = at(cpu, position);

	*copy = *slot;
	copy->due_tick += later;
	for (unsigned int d = 0; d < 2; d++)
		copy->half[d].last_tick += later;
	*fm_region_mark(at(cpu, 0), h.generation->n_slots, position >> FM_BLOCK_SHIFT) = 1;
	return copy;
}

static void test_cpus(int cpu)
{
	struct fm_slot *slot, *copy;

	prepare();
	slot = send_one(1000);
	copy = copy_to((unsigned int)cpu, slot, 50);
	begin(slot, 0);
	FM_TEST(go_on() == FM_SWEEP_IDLE && slot->tag >= FM_TAG_LIVE && copy->tag >= FM_TAG_LIVE,
		"a flow that is idle on one CPU only goes on");
	begin(copy, 0);
	go_on();
	fenced();
	FM_TEST(exported == 2 && n_exported == 1 && slot->tag == FM_TAG_TOMBSTONE &&
			copy->tag == FM_TAG_TOMBSTONE,
		"idle on both it is one record of both");
}

/* A sweep that was held up comes behind tombstones that it made itself. */
static void test_held_up(int cpu)
{
	struct fm_slot *first = NULL, *copy;
	enum fm_sweep_state state;

	prepare();
	for (uint16_t port = 1000; port < 1000 + FLOWS; port++)
		first = send_one(port);
	/* Closed with it, but scanned after all others. */
	copy = copy_to((unsigned int)cpu, first, 0);
	full_after = 2;
	begin(first, 10);
	state = go_on();
	FM_TEST(state == FM_SWEEP_FENCE && n_exported == 0, "no room: what is closed goes first");
	state = fenced();
	FM_TEST(state == FM_SWEEP_FENCE && n_exported == 1 && copy->tag == FM_TAG_TOMBSTONE,
		"its tombstones are not freed by the rest of that sweep");
	while (state == FM_SWEEP_FENCE)
		state = fenced();
	FM_TEST(state == FM_SWEEP_IDLE && n_exported == FLOWS, "all are exported once");
}

/* Of a process that was killed between closing a slot and freeing it, and of one after. */
static void test_repair(void)
{
	struct fm_ledger_entry entry = {.op = FM_LEDGER_FREE};
	struct fm_slot *slot, *other;

	prepare();
	slot = send_one(1000);
	entry.region = h.cpu;
	entry.position = (uint32_t)(slot - at(h.cpu, 0));
	begin(slot, 0);
	go_on();
	fm_generation_repair(h.generation);
	send_one(1000);
	FM_TEST(harness_slots(&h, &other) == 1 && other == slot &&
			slot->half[0].packets + slot->half[1].packets == 2,
		"a slot that was being closed is live for the next process");
	slot->tag = FM_TAG_CLOSING;
	fm_sweep_apply(h.generation, &entry);
	FM_TEST(slot->tag == FM_TAG_TOMBSTONE, "what was committed is carried out");
	send_one(1000);
	fm_sweep_apply(h.generation, &entry);
	FM_TEST(slot->tag >= FM_TAG_LIVE && harness_slots(&h, &other) == 1,
		"once more it is of no consequence for who has the slot then");
}

/* --- the thread that waits --- */

static void *run_slow(void *argument)
{
	LIBBPF_OPTS(bpf_test_run_opts, opts, .data_in = p.data, .data_size_in = p.length);

	bpf_prog_test_run_opts(bpf_program__fd(h.wrap->progs.fm_slow), &opts);
	return NULL;
}

static void on_done(void *userdata, int error)
{
	*(int *)userdata = error;
}

static void test_fence(void)
{
	_fm_cleanup_(fm_fence_freep) struct fm_fence *fence = NULL;
	struct wrap_bpf__bss *bss = h.wrap->bss;
	sd_event *event = NULL;
	cpu_set_t any;
	pthread_t thread;
	int done = 1, r = sd_event_new(&event);
	bool early;

	/* Not where this thread was pinned to. */
	memset(&any, 0xff, sizeof(any));
	sched_setaffinity(0, sizeof(any), &any);
	/* The thread would have its turn at once, whatever else the machine does. */
	sched_setscheduler(0, SCHED_RR, &(struct sched_param){.sched_priority = 1});
	r = r < 0 ? r : fm_fence_new(&fence, event, h.kernel, on_done, &done);
	if (r < 0 || pthread_create(&thread, NULL, run_slow, NULL) != 0) {
		FM_TEST(false, "fence: %d", r);
		return;
	}
	while (!__atomic_load_n(&bss->fm_slow_begun, __ATOMIC_ACQUIRE))
		;
	fm_fence_request(fence);
	/* Long enough for a fence that would not wait. */
	for (uint64_t end = fm_clock_monotonic_ns() + FM_NS_PER_S / 2;
	     done == 1 && fm_clock_monotonic_ns() < end;)
		sd_event_run(event, 10000);
	early = done != 1;
	__atomic_store_n(&bss->fm_slow_ends, 1, __ATOMIC_RELEASE);
	while (done == 1)
		sd_event_run(event, UINT64_MAX);
	FM_TEST(done == 0 && !early, "a fence is over when the programs that ran before it are");
	pthread_join(thread, NULL);
	fence = fm_fence_free(fence);
	sd_event_unref(event);
}

int main(void)
{
	static const struct fm_sweep_ops ops = {.room = room, .conversation = take};
	const struct fm_kernel_options options = {.max_flows = 256};
	int r, cpu;

	if (!harness_allowed())
		return fm_test_skip_all("needs root");
	r = harness_init(&h, &options);
	if (r == 0)
		r = fm_sweep_new(&sweep, &ops, NULL);
	if (r < 0)
		return fm_test_bail("harness", r);
	fm_kernel_set_live(h.kernel, IDLE, IDLE);
	test_late();
	test_tombstone();
	test_active();
	cpu = other_cpu();
	if (cpu >= 0) {
		test_cpus(cpu);
		test_held_up(cpu);
	}
	test_repair();
	test_fence();
	fm_sweep_free(sweep);
	harness_done(&h);
	return fm_test_done();
}
