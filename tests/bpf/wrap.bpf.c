/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Programs that go before a program under test. fm_wrap gives the packet what BPF_PROG_TEST_RUN
 * cannot: a length below the smallest it takes, and a VLAN tag beside the data as a device hands it
 * over. Called by harness.c: cb[0] length or 0, cb[1] protocol << 16 | TCI or 0, cb[2] which
 * program. fm_flood makes each run another flow. fm_spy sits at a device's hook and tells what
 * comes by; fm_encap as well, and puts the packet into a tunnel before, as a tunnel device does
 * with a super-packet. fm_slow takes its time.
 */
#include <linux/bpf.h>
#include <linux/if_ether.h>
#include <linux/ip.h>
#include <linux/pkt_cls.h>
#include <bpf/bpf_endian.h>
#include <bpf/bpf_helpers.h>

#include "flood.h"

char LICENSE[] SEC("license") = "Apache-2.0";

struct {
	__uint(type, BPF_MAP_TYPE_PROG_ARRAY);
	__uint(max_entries, 4);
	__type(key, __u32);
	__type(value, __u32);
} fm_wrapped SEC(".maps");

SEC("tc")
int fm_wrap(struct __sk_buff *skb)
{
	__u32 tag = skb->cb[1];

	if (skb->cb[0] && bpf_skb_change_tail(skb, skb->cb[0], 0))
		return 100;
	if (tag && bpf_skb_vlan_push(skb, bpf_htons(tag >> 16), tag))
		return 101;
	skb->cb[0] = 0;
	skb->cb[1] = 0;
	bpf_tail_call(skb, &fm_wrapped, skb->cb[2]);
	return 102;
}

/*
 * A flood: whenever it runs, it puts random numbers into the TCP or UDP packet where cb[3] says
 * (FM_FLOOD_*), so that every repetition of a test run is another flow. cb[2] as above.
 */
SEC("tc")
int fm_flood(struct __sk_buff *skb)
{
	void *data = (void *)(long)skb->data, *data_end = (void *)(long)skb->data_end;
	struct iphdr *ip = data + sizeof(struct ethhdr);
	__be16 *ports = (void *)(ip + 1);
	__u32 what = skb->cb[3];

	if ((void *)(ports + 2) > data_end)
		return 103;
	if (what & FM_FLOOD_SOURCE)
		ip->saddr = bpf_get_prandom_u32();
	if (what & FM_FLOOD_DESTINATION)
		ip->daddr = bpf_get_prandom_u32();
	if (what & FM_FLOOD_SOURCE_PORT)
		ports[0] = bpf_get_prandom_u32() | bpf_htons(1024);
	if (what & FM_FLOOD_DESTINATION_PORT)
		ports[1] = bpf_get_prandom_u32() | bpf_htons(1024);
	if (what & FM_FLOOD_PROTOCOL)
		ip->protocol = bpf_get_prandom_u32();
	bpf_tail_call(skb, &fm_wrapped, skb->cb[2]);
	return 102;
}

__u32 fm_spied_program, fm_spied_linear, fm_spied_runs;

static __always_inline int go_on(struct __sk_buff *skb)
{
	fm_spied_linear = (__u32)((long)skb->data_end - (long)skb->data);
	fm_spied_runs++;
	bpf_tail_call(skb, &fm_wrapped, fm_spied_program);
	return 102;
}

SEC("tc")
int fm_spy(struct __sk_buff *skb)
{
	return go_on(skb);
}

/* Everything between the outer Ethernet header and the inner IP header. */
__u8 fm_encap_headers[128];
__u32 fm_encap_length;
__u64 fm_encap_flags; /* of bpf_skb_adjust_room */
__u16 fm_encap_type;  /* EtherType outside, network order */
__s32 fm_encap_error;

static __always_inline int encap(struct __sk_buff *skb)
{
	/* From 1 to 128: Linux 6.1 does not learn from a comparison that it is not 0. */
	__u32 length = ((fm_encap_length - 1) & 127) + 1;

	if (!fm_encap_length)
		return TC_ACT_SHOT;
	fm_encap_error = bpf_skb_adjust_room(skb, length, BPF_ADJ_ROOM_MAC,
					     fm_encap_flags | BPF_F_ADJ_ROOM_FIXED_GSO);
	if (!fm_encap_error)
		fm_encap_error = bpf_skb_store_bytes(skb, 12, &fm_encap_type, 2, 0);
	if (!fm_encap_error)
		fm_encap_error = bpf_skb_store_bytes(skb, 14, fm_encap_headers, length, 0);
	return fm_encap_error ? TC_ACT_SHOT : TC_ACT_UNSPEC;
}

SEC("tc")
int fm_encap(struct __sk_buff *skb)
{
	int answer = encap(skb);

	return answer == TC_ACT_UNSPEC ? go_on(skb) : answer;
}

/* Into the tunnel, and nobody counts. */
SEC("tc")
int fm_encap_only(struct __sk_buff *skb)
{
	return encap(skb);
}

__u32 fm_slow_begun, fm_slow_ends;

static int is_over(__u32 turn, __u64 *end_ns)
{
	return *(volatile __u32 *)&fm_slow_ends || bpf_ktime_get_ns() >= *end_ns;
}

/* Runs until it is told to end, for some seconds at most: within one grace period. */
SEC("tc")
int fm_slow(struct __sk_buff *skb)
{
	__u64 end_ns = bpf_ktime_get_ns() + 5000000000;

	fm_slow_begun = 1;
	for (int i = 0; i < 20 && !is_over(0, &end_ns); i++)
		bpf_loop(1 << 23, is_over, &end_ns, 0);
	return TC_ACT_UNSPEC;
}
