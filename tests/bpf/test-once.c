/* SPDX-License-Identifier: Apache-2.0 */
/* A packet is counted at the first monitored hook it passes, and its flow learns the egress. */
#include <errno.h>
#include <netinet/in.h>
#include <unistd.h>

#include <bpf/bpf.h>

#include "harness.h"
#include "test.h"

#define MONITORED   2
#define UNMONITORED 3
#define OUT	    4

static struct harness h;
static struct packet p;

static void tcp(uint16_t port)
{
	packet_new(&p);
	packet_eth(&p);
	packet_ip4(&p, .src = 0x0a000001, .dst = 0x0a000002, .protocol = IPPROTO_TCP);
	packet_tcp(&p, port, 443, 0x18, 0);
	packet_payload(&p, 60);
	packet_end(&p);
}

static struct fm_half *only_half(void)
{
	struct fm_slot *slot;

	if (harness_slots(&h, &slot) != 1)
		return NULL;
	return &slot->half[slot->half[1].packets != 0];
}

static void test_forwarded(void)
{
	struct fm_half *half;

	harness_reset(&h);
	tcp(1);
	harness_packet(&h, &p, .ifindex = MONITORED);
	harness_packet(&h, &p, .ifindex = OUT, .hook = FM_HOOK_EGRESS,
		       .ingress_ifindex = MONITORED);
	half = only_half();
	FM_TEST(half && half->packets == 1 && half->octets == 100, "forwarded: counted once");
	FM_TEST(half && half->ingress_if == MONITORED && half->egress_if == OUT &&
			half->hook == FM_HOOK_INGRESS,
		"forwarded: both interfaces known");
	FM_TEST(harness_count(&h, FM_COUNTER_seen).packets == 2 &&
			harness_count(&h, FM_COUNTER_again).packets == 1 &&
			harness_count(&h, FM_COUNTER_again).octets == 100 &&
			harness_count(&h, FM_COUNTER_egress_unknown).packets == 0 &&
			harness_identity(&h),
		"forwarded: seen twice, again once");
}

static void test_unmonitored(void)
{
	struct fm_half *half;

	harness_reset(&h);
	harness_packet(&h, &p, .ifindex = OUT, .hook = FM_HOOK_EGRESS,
		       .ingress_ifindex = UNMONITORED);
	half = only_half();
	FM_TEST(half && half->packets == 1 && half->ingress_if == UNMONITORED &&
			half->egress_if == OUT && half->hook == FM_HOOK_EGRESS &&
			harness_count(&h, FM_COUNTER_again).packets == 0 && harness_identity(&h),
		"from an unmonitored interface: counted at egress");
	harness_reset(&h);
	harness_packet(&h, &p, .ifindex = OUT, .hook = FM_HOOK_EGRESS);
	half = only_half();
	FM_TEST(half && half->packets == 1 && half->ingress_if == 0 && half->egress_if == OUT &&
			harness_identity(&h),
		"sent by this host: counted at egress");
}

static void test_unknown(void)
{
	struct fm_slot *slot;

	harness_reset(&h);
	harness_packet(&h, &p, .ifindex = OUT, .hook = FM_HOOK_EGRESS,
		       .ingress_ifindex = MONITORED);
	FM_TEST(harness_slots(&h, &slot) == 0 && harness_count(&h, FM_COUNTER_again).packets == 1 &&
			harness_count(&h, FM_COUNTER_egress_unknown).packets == 1 &&
			harness_identity(&h),
		"the flow is not in this CPU's region: counted before, noted");
	packet_put16(&p, 12, 0x0806);
	harness_reset(&h);
	harness_packet(&h, &p, .ifindex = OUT, .hook = FM_HOOK_EGRESS,
		       .ingress_ifindex = MONITORED);
	FM_TEST(harness_count(&h, FM_COUNTER_again).packets == 1 &&
			harness_count(&h, FM_COUNTER_not_ip).packets == 0 && harness_identity(&h),
		"what is not IP is not counted twice either");
}

/* The interface table follows as devices come and go. */
static void test_table(void)
{
	struct fm_slot *slot;
	int r;

	tcp(2);
	r = fm_kernel_set_seen(h.kernel, MONITORED, false);
	FM_TEST(r == 0 && fm_kernel_set_seen(h.kernel, MONITORED, false) == 0,
		"taking an interface out twice");
	harness_reset(&h);
	harness_packet(&h, &p, .ifindex = OUT, .hook = FM_HOOK_EGRESS,
		       .ingress_ifindex = MONITORED);
	FM_TEST(harness_slots(&h, &slot) == 1 && harness_identity(&h),
		"an interface that is not monitored any more");
	fm_kernel_set_seen(h.kernel, MONITORED, true);
	harness_reset(&h);
	harness_packet(&h, &p, .ifindex = MONITORED, .hook = FM_HOOK_EGRESS,
		       .ingress_ifindex = MONITORED);
	FM_TEST(harness_slots(&h, &slot) == 0 && harness_count(&h, FM_COUNTER_again).packets == 1,
		"out by the interface it came in on");
}

/* Whether a packet from an interface is taken for counted before. */
static bool counted_before(uint32_t ingress_ifindex)
{
	harness_reset(&h);
	harness_packet(&h, &p, .ifindex = OUT, .hook = FM_HOOK_EGRESS,
		       .ingress_ifindex = ingress_ifindex);
	return harness_count(&h, FM_COUNTER_again).packets == 1;
}

/* Interfaces that share a cell of the short table. */
static void test_cells(void)
{
	uint32_t others[2] = {};
	const uint32_t cell = FM_SEEN_CELL(MONITORED);
	bool before, together, after;

	for (uint32_t i = OUT + 1, n = 0; n < 2; i++)
		if (FM_SEEN_CELL(i) == cell)
			others[n++] = i;
	before = counted_before(MONITORED) && !counted_before(others[0]);
	fm_kernel_set_seen(h.kernel, others[0], true);
	together = counted_before(MONITORED) && counted_before(others[0]) &&
		   !counted_before(others[1]);
	fm_kernel_set_seen(h.kernel, MONITORED, false);
	after = !counted_before(MONITORED) && counted_before(others[0]) &&
		!counted_before(others[1]);
	fm_kernel_set_seen(h.kernel, others[0], false);
	FM_TEST(before && together && after && !counted_before(others[0]),
		"interfaces that share a cell are told apart");
	fm_kernel_set_seen(h.kernel, MONITORED, true);
	FM_TEST(counted_before(MONITORED), "and come back");
	fm_kernel_set_seen(h.kernel, MONITORED, FM_SEEN_MARKED);
	FM_TEST(fm_kernel_seen(h.kernel, MONITORED) == FM_SEEN_MARKED &&
			!counted_before(MONITORED) && !counted_before(others[0]),
		"one whose packets are counted if they are marked");
	fm_kernel_set_seen(h.kernel, MONITORED, FM_SEEN_YES);
}

/* The last known egress stays, a later one replaces it. */
static void test_moves(void)
{
	struct fm_half *half;

	harness_reset(&h);
	harness_packet(&h, &p, .ifindex = MONITORED);
	for (uint32_t out = UNMONITORED; out <= OUT; out++)
		harness_packet(&h, &p, .ifindex = out, .hook = FM_HOOK_EGRESS,
			       .ingress_ifindex = MONITORED);
	harness_packet(&h, &p, .ifindex = MONITORED);
	half = only_half();
	FM_TEST(half && half->packets == 2 && half->egress_if == OUT && harness_identity(&h),
		"the egress interface is the last one");
}

/* What programs of another layout counted at ingress counts as seen, nothing else. */
static void test_inherited(void)
{
	int fd = bpf_map_create(BPF_MAP_TYPE_HASH, "fm_others", 4, 4, 8, NULL);
	int wrong = bpf_map_create(BPF_MAP_TYPE_HASH, "fm_others", 4, 8, 8, NULL);
	const struct {
		uint32_t ifindex, seen;
	} rows[] = {{50, FM_SEEN_YES}, {51, FM_SEEN_NO}, {52, FM_SEEN_MARKED}, {53, 7}};

	for (size_t i = 0; i < 4; i++)
		bpf_map_update_elem(fd, &rows[i].ifindex, &rows[i].seen, BPF_ANY);
	FM_TEST(fm_kernel_inherit_seen(h.kernel, fd) == 0 &&
			fm_kernel_seen(h.kernel, 50) == FM_SEEN_YES &&
			fm_kernel_seen(h.kernel, 51) == FM_SEEN_NO &&
			fm_kernel_seen(h.kernel, 52) == FM_SEEN_NO &&
			fm_kernel_seen(h.kernel, 53) == FM_SEEN_NO,
		"interfaces of another layout are seen");
	FM_TEST(fm_kernel_inherit_seen(h.kernel, wrong) == -EINVAL,
		"what is no table of interfaces is refused");
	close(fd);
	close(wrong);
	fm_kernel_set_seen(h.kernel, 50, FM_SEEN_NO);
}

int main(void)
{
	struct fm_kernel_options options = {.max_flows = 64};
	int r;

	if (!harness_allowed())
		return fm_test_skip_all("needs root");
	r = harness_devices(3);
	if (r == 0)
		r = harness_init(&h, &options);
	if (r < 0)
		return fm_test_bail("harness", r);
	fm_kernel_set_seen(h.kernel, MONITORED, true);
	test_forwarded();
	test_unmonitored();
	test_unknown();
	test_table();
	test_cells();
	test_moves();
	test_inherited();
	harness_done(&h);
	return fm_test_done();
}
