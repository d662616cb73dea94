/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Segmentation offload undone as the kernel does it: the same super-packet is counted at the egress
 * of a device without offloads, and at the ingress of its peer, where the kernel's segments arrive.
 * Both counts must be equal. Tunnels as well: the kernel's own encapsulation of super-packets.
 */
#include <linux/bpf.h>
#include <netinet/in.h>
#include <string.h>

#include "base/macro.h"
#include "daemon/attach.h"
#include "harness.h"
#include "test.h"
#include "wire.h"
#include "wrap.skel.h"

#define OUT 2 /* veth, by harness_devices() */
#define IN  102

#define PAYLOAD 2345
#define SEGMENT 600

static struct harness h;
static struct packet p;
static int wire;

/* What is sent, and what it is put into. */
struct super {
	int version; /* of IP */
	bool udp;
	bool tagged;
	bool extended; /* IPv4 options, IPv6 extension headers */
};

enum tunnel { NONE, IPIP, GRE, GRE_KEY, GRETAP, VXLAN, GENEVE, GENEVE_OPTIONS, _TUNNEL_MAX };

static const char *const tunnel_names[] = {
	"no tunnel", "ip in ip", "gre",	   "gre key",
	"gretap",    "vxlan",	 "geneve", "geneve with options"};

static void add_ip(const struct super *what, uint8_t protocol)
{
	if (what->version == 4) {
		packet_ip4(&p, .src = 0xc0a80001, .dst = 0xc0a80002, .protocol = protocol,
			   .options = what->extended ? 12 : 0, .fragment = 0x4000);
		return;
	}
	packet_ip6(&p, .src = 3, .dst = 4, .next = what->extended ? 60 : protocol);
	if (what->extended)
		packet_ext(&p, protocol, 1);
}

/* Builds the super-packet in p; what the kernel has to know of it. */
static struct wire_hint build(const struct super *what, size_t payload)
{
	struct wire_hint hint = {.gso_size = SEGMENT};

	packet_new(&p);
	packet_eth(&p);
	if (what->tagged)
		packet_vlan(&p, 0x8100, 77);
	add_ip(what, what->udp ? IPPROTO_UDP : IPPROTO_TCP);
	hint.checksum = p.length;
	if (what->udp) {
		hint.checksum_at = 6;
		hint.gso_type = VIRTIO_NET_HDR_GSO_UDP_L4;
		packet_udp(&p, 5, 6);
	} else {
		hint.checksum_at = 16;
		hint.gso_type =
			what->version == 4 ? VIRTIO_NET_HDR_GSO_TCPV4 : VIRTIO_NET_HDR_GSO_TCPV6;
		packet_tcp(&p, 5, 6, 0x18, 12);
	}
	hint.linear = p.length;
	packet_payload(&p, payload);
	packet_end(&p);
	return hint;
}

/* Headers of a tunnel around p, for the program that puts them there. */
static void set_tunnel(enum tunnel which, int outer, int version)
{
	static const uint8_t protocols[] = {
		[GRE] = IPPROTO_GRE,   [GRE_KEY] = IPPROTO_GRE, [GRETAP] = IPPROTO_GRE,
		[VXLAN] = IPPROTO_UDP, [GENEVE] = IPPROTO_UDP,	[GENEVE_OPTIONS] = IPPROTO_UDP,
	};
	struct wrap_bpf__bss *bss = h.wrap->bss;
	uint16_t type = version == 4 ? 0x0800 : 0x86dd;
	uint8_t protocol = protocols[which];
	bool ethernet = which >= GRETAP;
	struct packet t;
	size_t at;

	if (which == IPIP)
		protocol = version == 4 ? IPPROTO_IPIP : IPPROTO_IPV6;
	packet_new(&t);
	packet_eth(&t);
	if (outer == 4)
		packet_ip4(&t, .src = 0x0a000001, .dst = 0x0a000002, .protocol = protocol);
	else
		packet_ip6(&t, .src = 1, .dst = 2, .next = protocol);
	bss->fm_encap_flags =
		outer == 4 ? BPF_F_ADJ_ROOM_ENCAP_L3_IPV4 : BPF_F_ADJ_ROOM_ENCAP_L3_IPV6;
	at = t.length;
	if (protocol == IPPROTO_GRE) {
		packet_append(&t, which == GRE_KEY ? 8 : 4);
		t.data[at] = which == GRE_KEY ? 0x20 : 0;
		packet_put16(&t, at + 2, ethernet ? 0x6558 : type);
		bss->fm_encap_flags |= BPF_F_ADJ_ROOM_ENCAP_L4_GRE;
	} else if (protocol == IPPROTO_UDP) {
		packet_udp(&t, 30000, which == VXLAN ? 4789 : 6081);
		bss->fm_encap_flags |= BPF_F_ADJ_ROOM_ENCAP_L4_UDP;
	}
	at = t.length;
	if (protocol == IPPROTO_UDP) {
		packet_append(&t, which == GENEVE_OPTIONS ? 8 + 12 : 8);
		t.data[at] = which == VXLAN ? 8 : which == GENEVE_OPTIONS ? 3 : 0;
		if (which != VXLAN)
			packet_put16(&t, at + 2, 0x6558);
	}
	if (ethernet) {
		packet_append(&t, 14);
		packet_put16(&t, t.length - 2, type);
		bss->fm_encap_flags |= BPF_F_ADJ_ROOM_ENCAP_L2(14) | BPF_F_ADJ_ROOM_ENCAP_L2_ETH;
	}
	bss->fm_encap_length = t.length - 14;
	packet_octets(&t, p.data + 14, p.length - 14);
	packet_end(&t);
	memcpy(bss->fm_encap_headers, t.data + 14, bss->fm_encap_length);
	bss->fm_encap_type = htons(outer == 4 ? 0x0800 : 0x86dd);
}

/* Sends p with a hook watched. 0 or -errno; *ret_slot what it counted. */
static int watch(enum fm_hook hook, bool tunnel, const struct wire_hint *hint, uint64_t wanted,
		 struct fm_slot *ret_slot)
{
	struct fm_attachment counting, encap = {};
	struct fm_slot *slot;
	int r;

	harness_reset(&h);
	r = fm_attach(&counting, hook == FM_HOOK_EGRESS ? OUT : IN, hook,
		      harness_spy(&h, hook, tunnel && hook == FM_HOOK_EGRESS), FM_ATTACH_AUTO);
	if (r < 0)
		return r;
	if (tunnel && hook == FM_HOOK_INGRESS)
		r = fm_attach(&encap, OUT, FM_HOOK_EGRESS,
			      bpf_program__fd(h.wrap->progs.fm_encap_only), FM_ATTACH_AUTO);
	if (r == 0)
		r = wire_send(wire, OUT, p.data, p.length, hint);
	if (r == 0 && !wire_settle(&h, FM_COUNTER_seen, wanted))
		r = -ETIMEDOUT;
	if (tunnel && hook == FM_HOOK_INGRESS && encap.ifindex)
		fm_detach(&encap);
	fm_detach(&counting);
	if (r < 0)
		return r;
	if (harness_slots(&h, &slot) != 1 || !harness_identity(&h))
		return -EPROTO;
	*ret_slot = *slot;
	return h.wrap->bss->fm_encap_error;
}

/* What a hook counted, as a line to look at. */
static void show(const char *name, const struct fm_half *half)
{
	printf("# %s: %llu packets, %llu octets, %u to %u, flags 0x%x, %u buffers\n", name,
	       half->packets, half->octets, half->min_length, half->max_length, half->tcp_flags,
	       h.wrap->bss->fm_spied_runs);
}

/* What two hooks must agree in. */
static bool equal(const struct fm_half *a, const struct fm_half *b)
{
	return a->packets == b->packets && a->octets == b->octets &&
	       a->min_length == b->min_length && a->max_length == b->max_length &&
	       a->min_ttl == b->min_ttl && a->max_ttl == b->max_ttl && a->tos == b->tos &&
	       a->tcp_flags == b->tcp_flags && a->fragment_flags == b->fragment_flags &&
	       a->vlan == b->vlan;
}

static void check(const char *name, const struct super *what, enum tunnel tunnel, int outer,
		  size_t payload)
{
	struct wire_hint hint = build(what, payload);
	uint64_t segments = (payload + SEGMENT - 1) / SEGMENT;
	struct fm_slot super = {}, wired = {};
	unsigned int buffers = 0, d;
	int r;

	if (tunnel != NONE)
		set_tunnel(tunnel, outer, what->version);
	r = watch(FM_HOOK_EGRESS, tunnel != NONE, &hint, segments, &super);
	if (r == 0) {
		buffers = h.wrap->bss->fm_spied_runs;
		r = watch(FM_HOOK_INGRESS, tunnel != NONE, &hint, segments, &wired);
	}
	if (!FM_TEST(r == 0, "%s: passed: %d, %d", name, r, h.wrap->bss->fm_encap_error))
		return;
	d = super.half[1].packets != 0;
	if (!equal(&super.half[d], &wired.half[d])) {
		show("super-packet", &super.half[d]);
		show("wire", &wired.half[d]);
	}
	FM_TEST(buffers == 1 && h.wrap->bss->fm_spied_runs == segments, "%s: one buffer became %u",
		name, h.wrap->bss->fm_spied_runs);
	FM_TEST(!memcmp(&super.key, &wired.key, sizeof(super.key)) &&
			equal(&super.half[d], &wired.half[d]) && wired.half[d].packets == segments,
		"%s: as on the wire", name);
}

/* Linux before 6.2 takes no super-packets of UDP from a packet socket. */
static bool takes_udp(void)
{
	struct super what = {.version = 4, .udp = true};
	struct wire_hint hint = build(&what, PAYLOAD);

	return wire_send(wire, OUT, p.data, p.length, &hint) != -EINVAL;
}

static void test_plain(bool udp)
{
	/* A last segment of the full size, of one octet, of all but one; short ones. */
	static const size_t payloads[] = {1200, 1201, 1799, 601, PAYLOAD};
	char name[100];

	for (unsigned int bits = 0; bits < 16; bits++)
		for (size_t i = 0; i < FM_ARRAY_SIZE(payloads); i++) {
			struct super what = {.version = bits & 1 ? 6 : 4,
					     .udp = bits & 2,
					     .tagged = bits & 4,
					     .extended = bits & 8};

			if (what.udp && !udp)
				continue;
			snprintf(name, sizeof(name), "%s v%d%s%s, %zu by %d",
				 what.udp ? "udp" : "tcp", what.version, what.tagged ? ", tag" : "",
				 what.extended ? ", more headers" : "", payloads[i], SEGMENT);
			check(name, &what, NONE, 0, payloads[i]);
		}
}

static void test_tunnels(bool udp)
{
	char name[100];

	for (int outer = 4; outer <= 6; outer += 2)
		for (unsigned int bits = 0; bits < 4; bits++)
			for (int tunnel = IPIP; tunnel < _TUNNEL_MAX; tunnel++) {
				struct super what = {.version = bits & 1 ? 6 : 4, .udp = bits & 2};

				if (what.udp && !udp)
					continue;
				snprintf(name, sizeof(name), "%s v%d, %s v%d inside",
					 tunnel_names[tunnel], outer, what.udp ? "udp" : "tcp",
					 what.version);
				check(name, &what, tunnel, outer, PAYLOAD);
			}
}

/* The device cuts nothing itself, so that the kernel does before it sends. */
static int devices(void)
{
	return system("ethtool -K fmt2 tso off gso off tx-udp-segmentation off "
		      "tx-gre-segmentation off tx-gre-csum-segmentation off "
		      "tx-ipxip4-segmentation off tx-ipxip6-segmentation off "
		      "tx-udp_tnl-segmentation off tx-udp_tnl-csum-segmentation off && "
		      "ip link set fmp2 up && ip link set fmt2 up")
		       ? -ENODEV
		       : 0;
}

int main(void)
{
	struct fm_kernel_options options = {.max_flows = 64};
	bool udp;
	int r;

	if (!harness_allowed())
		return fm_test_skip_all("needs root");
	r = harness_devices(1);
	if (r == 0)
		r = harness_init(&h, &options);
	if (r == 0)
		r = wire = wire_open();
	if (r >= 0)
		r = devices();
	if (r < 0)
		return fm_test_bail("harness", r);
	udp = takes_udp();
	if (!udp)
		printf("# this kernel takes no super-packets of UDP from a socket\n");
	test_plain(udp);
	test_tunnels(udp);
	close(wire);
	harness_done(&h);
	return fm_test_done();
}
