/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Programs that go before a program under test. fm_wrap gives the packet what BPF_PROG_TEST_RUN
 * cannot: a length below the smallest it takes, and a VLAN tag beside the data as a device hands it
 * over. Called by harness.c: cb[0] length or 0, cb[1] protocol << 16 | TCI or 0, cb[2] which
 * program. fm_spy sits at a device's hook and tells how much of the packet is linear.
 */
#include <linux/bpf.h>
#include <linux/pkt_cls.h>
#include <bpf/bpf_endian.h>
#include <bpf/bpf_helpers.h>

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

__u32 fm_spied_program, fm_spied_linear;

SEC("tc")
int fm_spy(struct __sk_buff *skb)
{
	fm_spied_linear = (__u32)((long)skb->data_end - (long)skb->data);
	bpf_tail_call(skb, &fm_wrapped, fm_spied_program);
	return 102;
}
