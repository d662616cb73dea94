/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The packet path under the clock: each run gives the packet the next address of a prepared
 * sequence and goes as far as the mode says, so that one BPF_PROG_TEST_RUN walks over many flows.
 */
#include "bpf/flowmond.bpf.c"

enum bench_mode {
	BENCH_REWRITE, /* the floor: only the address is changed */
	BENCH_PARSE,
	BENCH_COUNT,
};

#define BENCH_SEQUENCE (1 << 20)

const volatile __u32 bench_mode = BENCH_REWRITE;

/* Flow numbers, in the order in which their packets come. */
struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(map_flags, BPF_F_MMAPABLE);
	__uint(max_entries, BENCH_SEQUENCE);
	__type(key, __u32);
	__type(value, __u32);
} bench_sequence SEC(".maps");

__u32 bench_next[64];
__u64 bench_parsed[64]; /* makes the parser's work visible, so that it is done */

SEC("tc")
int fm_bench(struct __sk_buff *skb)
{
	void *data = (void *)(long)skb->data;
	void *data_end = (void *)(long)skb->data_end;
	__u32 cpu = bpf_get_smp_processor_id() & 63;
	__u32 position = bench_next[cpu]++ & (BENCH_SEQUENCE - 1);
	__u32 *flow = bpf_map_lookup_elem(&bench_sequence, &position);
	struct iphdr *ip = data + sizeof(struct ethhdr);

	if (!flow || (void *)(ip + 1) > data_end)
		return TC_ACT_UNSPEC;
	ip->saddr = bpf_htonl(0x0a000000 + *flow);
	if (bench_mode == BENCH_REWRITE)
		return TC_ACT_UNSPEC;
	if (bench_mode == BENCH_PARSE) {
		struct fm_packet packet = {};

		if (fm_fast_parse(skb, &packet, 0))
			bench_parsed[cpu] += packet.octets + packet.key.port[0] + packet.direction;
		return TC_ACT_UNSPEC;
	}
	return fm_hook_packet(skb, FM_HOOK_INGRESS, 0);
}

SEC("tc")
int fm_empty(struct __sk_buff *skb)
{
	return TC_ACT_UNSPEC;
}
