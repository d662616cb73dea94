/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The packet path under the clock: each run gives the packet the next address of a prepared
 * sequence and goes as far as the mode says, so that one BPF_PROG_TEST_RUN walks over many flows.
 */
#include "bpf/flowmond.bpf.c"

enum bench_mode {
	BENCH_REWRITE, /* the floor: only the address is changed */
	BENCH_PARSE,
	BENCH_COUNT, /* with fm_ro.tcp: measured as well */
};

/* What the packets of a flow are. */
enum bench_traffic {
	BENCH_STREAM, /* data one way, each packet where the last one ended */
	BENCH_TALK,   /* a request and its answer in turns, each pushed and acknowledging */
};

#define BENCH_SEQUENCE (1 << 20)

#define BENCH_PAYLOAD 10

const volatile __u32 bench_mode = BENCH_REWRITE;
const volatile __u32 bench_traffic = BENCH_STREAM;

struct bench_packet {
	__u32 flow;
	__u32 number; /* packets of the flow before it in the sequence */
	__u32 total;  /* packets of the flow in the sequence */
	__u32 unused;
};

/* The order in which packets come. */
struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(map_flags, BPF_F_MMAPABLE);
	__uint(max_entries, BENCH_SEQUENCE);
	__type(key, __u32);
	__type(value, struct bench_packet);
} bench_sequence SEC(".maps");

__u32 bench_next[64];
__u64 bench_parsed[64]; /* makes the parser's work visible, so that it is done */

/* The packet becomes the next one of the flow. */
static __always_inline void bench_rewrite(struct iphdr *ip, struct tcphdr *tcp,
					  const struct bench_packet *packet, __u32 round)
{
	__u32 number = packet->number + round * packet->total;
	__u32 client = bpf_htonl(0x0a000000 + packet->flow), server = bpf_htonl(0xc0000201);

	if (bench_traffic == BENCH_STREAM) {
		ip->saddr = client;
		tcp->seq = bpf_htonl(number * BENCH_PAYLOAD);
		return;
	}
	ip->saddr = number & 1 ? server : client;
	ip->daddr = number & 1 ? client : server;
	tcp->source = bpf_htons(number & 1 ? 80 : 4660);
	tcp->dest = bpf_htons(number & 1 ? 4660 : 80);
	tcp->seq = bpf_htonl((number >> 1) * BENCH_PAYLOAD);
	tcp->ack_seq = bpf_htonl(((number + 1) >> 1) * BENCH_PAYLOAD);
	tcp->psh = 1;
}

SEC("tc")
int fm_bench(struct __sk_buff *skb)
{
	void *data = (void *)(long)skb->data;
	void *data_end = (void *)(long)skb->data_end;
	__u32 cpu = bpf_get_smp_processor_id() & 63;
	__u32 count = bench_next[cpu]++, position = count & (BENCH_SEQUENCE - 1);
	struct bench_packet *packet = bpf_map_lookup_elem(&bench_sequence, &position);
	struct iphdr *ip = data + sizeof(struct ethhdr);
	struct tcphdr *tcp = (void *)(ip + 1);

	if (!packet || (void *)(tcp + 1) > data_end)
		return TC_ACT_UNSPEC;
	bench_rewrite(ip, tcp, packet, count / BENCH_SEQUENCE);
	if (bench_mode == BENCH_REWRITE)
		return TC_ACT_UNSPEC;
	if (bench_mode == BENCH_PARSE) {
		struct fm_packet parsed = {};

		if (fm_fast_parse(skb, &parsed, 0))
			bench_parsed[cpu] += parsed.octets + parsed.key.port[0] + parsed.direction;
		return TC_ACT_UNSPEC;
	}
	return fm_hook_packet(skb, FM_HOOK_INGRESS, 0);
}

SEC("tc")
int fm_empty(struct __sk_buff *skb)
{
	return TC_ACT_UNSPEC;
}
