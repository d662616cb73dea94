/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * Packets that found no slot and no room on the overflow ring: a flood of addresses or ports that
 * never come again. They are counted in slots of their own, under a key that leaves out what is
 * random; see enum fm_aggregate. Part of flowmond.bpf.c, which has what counts a packet.
 *
 * What is not random is found by votes: of the end points a packet has, those that came again and
 * again get an aggregate. A flood's random ends never gather votes, so they take no places from the
 * one they are sent to, or from the one who sends them.
 */
#ifndef FM_AGGREGATE_BPF_H
#define FM_AGGREGATE_BPF_H

/*
 * A packet's candidates, finest first. Each kind has cells of its own: two candidates of one packet
 * in one cell would take each other's votes with every packet.
 */
enum {
	FM_CANDIDATE_SERVER,
	FM_CANDIDATE_CLIENT,
	FM_CANDIDATE_RECEIVER,
	FM_CANDIDATE_SENDER,
	FM_CANDIDATES, /* a power of two */
};

/* End points whose votes are counted at one time, and so many that make one worth an aggregate. */
#define FM_VOTES_CELLS 128
#define FM_VOTES_LAST  (FM_CANDIDATES * FM_VOTES_CELLS - 1) /* of all cells */
#define FM_VOTES_MANY  8
#define FM_VOTES_MAX   64

/* The aggregate that is looked for, and the votes. */
struct fm_aggregate_work {
	struct fm_key key;
	__u32 direction;
	__u64 hash;
	/* A cell is its candidate's until others have taken away all its votes (Boyer, Moore). */
	struct {
		__u32 candidate;
		__u32 votes;
	} cell[FM_CANDIDATES * FM_VOTES_CELLS];
};

struct {
	__uint(type, BPF_MAP_TYPE_PERCPU_ARRAY);
	__uint(max_entries, 1);
	__type(key, __u32);
	__type(value, struct fm_aggregate_work);
} fm_votes SEC(".maps");

static __always_inline int fm_vote(struct fm_aggregate_work *work, __u32 kind)
{
	__u64 i = kind * FM_VOTES_CELLS + (work->hash >> 32 & (FM_VOTES_CELLS - 1));
	__u32 candidate = work->hash;

	/* In one piece for the compiler: Linux 6.1 loses the bounds of the parts. */
	asm volatile("%[i] &= %[last]" : [i] "+r"(i) : [last] "i"(FM_VOTES_LAST));
	if (work->cell[i].candidate == candidate) {
		if (work->cell[i].votes < FM_VOTES_MAX)
			work->cell[i].votes++;
		return work->cell[i].votes >= FM_VOTES_MANY;
	}
	if (work->cell[i].votes) {
		work->cell[i].votes--;
	} else {
		work->cell[i].candidate = candidate;
		work->cell[i].votes = 1;
	}
	return 0;
}

static __always_inline __u32 fm_aggregate_interface(const struct fm_packet *packet,
						    struct __sk_buff *skb)
{
	return packet->key.ifindex ? packet->key.ifindex : fm_ifindex(skb->ifindex);
}

/* Of the key, the sampler alone. */
static __always_inline __u8 fm_sampler_of(const struct fm_packet *packet)
{
	return packet->key.tunnel_type & ~((1 << FM_KEY_SAMPLER_SHIFT) - 1);
}

/*
 * Which endpoint is asked: what the handshake says, else who has the smaller port, else who is sent
 * to.
 */
static __always_inline __u32 fm_aggregate_server(const struct fm_packet *packet)
{
	__u16 a = bpf_ntohs(packet->key.port[0]), b = bpf_ntohs(packet->key.port[1]);
	__u32 sender = packet->direction & 1;

	if (packet->tcp_flags & FM_TCP_SYN)
		return packet->tcp_flags & FM_TCP_ACK ? sender : !sender;
	if (a != b)
		return a > b;
	return !sender;
}

/*
 * Makes the candidate of this kind, which keeps an end point, and votes for it. Returns whether it
 * has many votes.
 */
FM_GLOBAL int fm_aggregate_candidate(struct __sk_buff *skb, struct fm_parser *parser, __u32 kind)
{
	const struct fm_packet *packet = parser ? &parser->packet : NULL;
	__u32 zero = 0, sender, server, kept, port;
	struct fm_aggregate_work *work = bpf_map_lookup_elem(&fm_votes, &zero);

	if (!packet || !work)
		return 0;
	sender = packet->direction & 1;
	server = fm_aggregate_server(packet);
	port = server ? packet->key.port[1] : packet->key.port[0];
	if (packet->key.protocol == (packet->key.family == 4 ? IPPROTO_ICMP : IPPROTO_ICMPV6))
		port = 0;
	/* Without ports the first two are what the others are. */
	if (kind <= FM_CANDIDATE_CLIENT && !port)
		return 0;
	kept = kind == FM_CANDIDATE_SERVER     ? server
	       : kind == FM_CANDIDATE_CLIENT   ? !server
	       : kind == FM_CANDIDATE_RECEIVER ? !sender
					       : sender;
	__builtin_memset(&work->key, 0, sizeof(work->key));
	if (kept)
		__builtin_memcpy(work->key.addr[1], packet->key.addr[1], sizeof(work->key.addr[1]));
	else
		__builtin_memcpy(work->key.addr[1], packet->key.addr[0], sizeof(work->key.addr[1]));
	if (kind == FM_CANDIDATE_SERVER)
		work->key.port[1] = port;
	if (kind == FM_CANDIDATE_CLIENT)
		work->key.port[0] = port;
	work->key.protocol = packet->key.protocol;
	work->key.family = packet->key.family |
			   FM_KEY_AGGREGATE(kind == FM_CANDIDATE_SERVER	  ? FM_AGGREGATE_SERVER
					    : kind == FM_CANDIDATE_CLIENT ? FM_AGGREGATE_CLIENT
									  : FM_AGGREGATE_ADDRESS);
	work->key.ifindex = fm_aggregate_interface(packet, skb);
	work->key.tunnel_type = fm_sampler_of(packet);
	work->direction = kept == sender;
	work->hash = fm_hash(&work->key, fm_ro.seed);
	return fm_vote(work, kind);
}

/* Counts the packet in the slot of the aggregate that was found; 0: there is no place for it. */
FM_GLOBAL int fm_aggregate_count(struct __sk_buff *skb, struct fm_parser *parser, int hook)
{
	__u32 zero = 0, cpu = bpf_get_smp_processor_id(), position = FM_NO_POSITION;
	struct fm_aggregate_work *work = bpf_map_lookup_elem(&fm_votes, &zero);
	void *region = bpf_map_lookup_elem(&fm_table, &cpu);
	__u32 now_tick = bpf_jiffies64(), home;
	struct fm_slot *slot;
	struct fm_half *half;

	if (!parser || !work || !region)
		return 0;
	home = fm_key_home(&work->key, work->hash, fm_ro.homes);
	slot = fm_table_probe(region, &work->key, work->hash, home, FM_AGGREGATE_PROBES, &position);
	if (!slot && position != FM_NO_POSITION)
		slot = fm_table_create(region, position, &work->key, work->hash, fm_ro.homes,
				       now_tick);
	if (!slot)
		return 0;
	half = &slot->half[work->direction & 1];
	fm_half_count(half, &parser->packet, skb, hook, now_tick);
	if (FM_KEY_AGGREGATE_OF(&work->key) == FM_AGGREGATE_FAMILY) {
		/* Of any interface. */
		half->ingress_if = 0;
		half->egress_if = 0;
	}
	fm_table_set_due(region, slot, position, fm_ro.homes, now_tick + fm_live.idle_ticks);
	return 1;
}

/* Makes one of the two aggregates that keep no end point; the last one is of any protocol. */
FM_GLOBAL int fm_aggregate_rest(struct __sk_buff *skb, struct fm_parser *parser, int hook, int any)
{
	const struct fm_packet *packet = parser ? &parser->packet : NULL;
	__u32 zero = 0;
	struct fm_aggregate_work *work = bpf_map_lookup_elem(&fm_votes, &zero);

	if (!packet || !work)
		return 0;
	__builtin_memset(&work->key, 0, sizeof(work->key));
	if (any) {
		work->key.protocol = FM_PROTOCOL_ANY;
		work->key.family =
			FM_KEY_FAMILY_OF(&packet->key) | FM_KEY_AGGREGATE(FM_AGGREGATE_FAMILY);
	} else {
		work->key.protocol = packet->key.protocol;
		work->key.family =
			FM_KEY_FAMILY_OF(&packet->key) | FM_KEY_AGGREGATE(FM_AGGREGATE_PROTOCOL);
		work->key.ifindex = fm_aggregate_interface(packet, skb);
		work->key.tunnel_type = fm_sampler_of(packet);
	}
	work->direction = hook;
	work->hash = fm_hash(&work->key, fm_ro.seed);
	return 1;
}

/*
 * A packet that found no slot: three places at most are looked for, and the last one is there.
 */
FM_GLOBAL int fm_aggregate(struct __sk_buff *skb, struct fm_parser *parser, int hook)
{
	struct fm_counters *counters = fm_counters_of(fm_gate_of(skb), hook & 1);
	int counted;

	if (!parser || !counters)
		return 0;
	/* All CPUs read what lies beside: written once. */
	if (!FM_READ_ONCE(fm_live.placeless))
		fm_live.placeless = 1;
	/* Of a coarse key there is no end point to keep. */
	counted = !fm_ro.coarse &&
		  (fm_aggregate_candidate(skb, parser, FM_CANDIDATE_SERVER) ||
		   fm_aggregate_candidate(skb, parser, FM_CANDIDATE_CLIENT) ||
		   fm_aggregate_candidate(skb, parser, FM_CANDIDATE_RECEIVER) ||
		   fm_aggregate_candidate(skb, parser, FM_CANDIDATE_SENDER)) &&
		  fm_aggregate_count(skb, parser, hook);
	if (!counted && fm_aggregate_rest(skb, parser, hook, 0))
		counted = fm_aggregate_count(skb, parser, hook);
	if (!counted && fm_aggregate_rest(skb, parser, hook, 1))
		counted = fm_aggregate_count(skb, parser, hook);
	fm_count(counters, counted ? FM_COUNTER_coarse : FM_COUNTER_overflow_lost, &parser->packet);
	return 0;
}

#endif
