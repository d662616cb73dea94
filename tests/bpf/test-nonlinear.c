/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Packets whose headers end in linear memory anywhere: the rest is in pages beside, as from
 * devices that split packets, from sockets that send files, from packet rings. They pass real
 * devices, since the kernel's test run makes linear packets only. Packets longer than 16 bits say.
 */
#include <netinet/in.h>
#include <string.h>

#include "base/macro.h"
#include "compare.h"
#include "corpus.h"
#include "daemon/attach.h"
#include "test.h"
#include "wire.h"
#include "wrap.skel.h"

#define OUT    2 /* veth, by harness_devices() */
#define IN     102
#define LINEAR 16 /* the socket makes this linear at least */
/* Below a page the socket makes everything linear. */
#define LENGTH	     4200
#define REPEAT	     2
#define FAILURES_MAX 10

static struct harness h;
static struct packet p;
static int wire;
static bool inner; /* tunnels are looked into */

/* Puts the spy, which then runs the program, at a hook. */
static int put(struct fm_attachment *ret, uint32_t ifindex, enum fm_hook hook)
{
	int program = harness_spy(&h, hook, false);

	return program < 0 ? program : fm_attach(ret, ifindex, hook, program, FM_ATTACH_AUTO);
}

static const char *compare(const struct compare_way *way, uint16_t linear)
{
	const struct model_link link = {.inner = inner};
	struct model m;

	compare_forget(&h);
	harness_reset(&h);
	for (unsigned int i = 0; i < REPEAT; i++)
		if (wire_send(wire, OUT, p.data, p.length, &(struct wire_hint){.linear = linear}) <
		    0)
			return "send";
	if (!wire_settle(&h, FM_COUNTER_seen, REPEAT))
		return "not seen";
	model_packet(&m, p.data, p.length, &link);
	return compare_differs(&h, &m, way);
}

/* How many packets a hook saw whose linear memory ended within n octets. */
static void test_hook(enum fm_hook hook, uint32_t ifindex, const char *name)
{
	const struct compare_way way = {.repeat = REPEAT, .hook = hook, .ifindex = ifindex};
	unsigned int failures = 0, n = 0, split = 0;
	struct fm_attachment attachment;
	int r = put(&attachment, ifindex, hook);

	if (!FM_TEST(r == 0, "%s: attached: %d", name, r))
		return;
	for (unsigned int i = inner ? CORPUS_TUNNELS : 0;
	     i < CORPUS_SIZE && failures < FAILURES_MAX; i++) {
		size_t headers;

		corpus_make(&p, i);
		headers = p.length;
		packet_payload(&p, LENGTH - p.length); /* padding */
		for (uint16_t linear = LINEAR; linear <= headers; linear++, n++) {
			const char *why = compare(&way, linear);

			split += h.wrap->bss->fm_spied_linear < headers;
			if (!why)
				continue;
			failures++;
			printf("# corpus %u, %u octets linear, %u at the hook\n", i, linear,
			       h.wrap->bss->fm_spied_linear);
			compare_dump(why, p.data, headers);
		}
	}
	fm_detach(&attachment);
	FM_TEST(failures == 0, "%s: %u packets as the model says", name, n);
	FM_TEST(split > n * 3 / 4, "%s: %u of them with headers split", name, split);
}

/* The longest packets: 16 bits do not hold every length of IPv6. */
static void test_long(size_t octets)
{
	const int loopback = 1;
	const struct compare_way way = {.repeat = 1, .hook = FM_HOOK_EGRESS, .ifindex = loopback};
	const char *why = "send";
	struct fm_attachment attachment;
	struct model m;

	if (!FM_TEST(put(&attachment, loopback, FM_HOOK_EGRESS) == 0, "loopback: attached"))
		return;
	harness_reset(&h);
	packet_new(&p);
	packet_eth(&p);
	packet_ip6(&p, .src = 1, .dst = 2, .next = IPPROTO_UDP);
	packet_udp(&p, 1, 2);
	packet_payload(&p, octets - 48);
	packet_end(&p);
	model_packet(&m, p.data, p.length, &(struct model_link){});
	if (wire_send(wire, loopback, p.data, p.length, &(struct wire_hint){.linear = 100}) == 0)
		why = compare_differs(&h, &m, &way);
	fm_detach(&attachment);
	if (why)
		FM_TEST_NOTE("%s", why);
	FM_TEST(!why && m.octets == octets, "IPv6 packet of %zu octets", octets);
}

int main(void)
{
	struct fm_kernel_options options = {.max_flows = 64};
	int r;

	if (!harness_allowed())
		return fm_test_skip_all("needs root");
	r = harness_devices(1);
	if (r == 0)
		r = harness_init(&h, &options);
	if (r == 0)
		r = wire = wire_open();
	if (r < 0)
		return fm_test_bail("harness", r);
	if (system("ip link set lo up; ip link set fmp2 mtu 9000 up; ip link set fmt2 mtu 9000 up"))
		return fm_test_bail("devices", -ENODEV);
	test_hook(FM_HOOK_EGRESS, OUT, "egress");
	test_hook(FM_HOOK_INGRESS, IN, "ingress");
	test_long(65535);
	test_long(65536);
	harness_done(&h);
	inner = true;
	options.tunnel = FM_TUNNEL_KEY_INNER;
	r = harness_init(&h, &options);
	if (r < 0)
		return fm_test_bail("harness", r);
	test_hook(FM_HOOK_EGRESS, OUT, "egress, inner");
	test_hook(FM_HOOK_INGRESS, IN, "ingress, inner");
	close(wire);
	harness_done(&h);
	return fm_test_done();
}
