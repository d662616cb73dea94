/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * The programs at the TC hooks and the clock program. Loaded by the daemon's loader; the tests run
 * them with BPF_PROG_TEST_RUN. Whatever happens, the packet goes on to the next program untouched.
 */
#include <linux/bpf.h>
#include <linux/pkt_cls.h>
#include <bpf/bpf_helpers.h>

#include "abi.h"
#include "rodata.bpf.h"
#include "coarse.bpf.h"
#include "fast.bpf.h"
#include "filter.bpf.h"
#include "hash.h"
#include "parse.bpf.h"
#include "quic.bpf.h"
#include "table.bpf.h"
#include "tcp.bpf.h"

char LICENSE[] SEC("license") = "Dual BSD/GPL";

#define FM_OVERFLOW_OCTETS (1 << 20)
/* For TCP connections that are under way: a flood's first packets do not get it. */
#define FM_OVERFLOW_KEPT (FM_OVERFLOW_OCTETS / 4)

/* How far a way through the programs came. */
enum fm_done {
	FM_NOT_DONE,
	FM_NOT_DONE_ASKED, /* but the rules were asked */
	FM_NOT_DONE_SOME,  /* they take some of such packets */
	FM_DONE,
	FM_DONE_NOT_YET, /* but for fm_measure() */
	FM_NO_PLACE,	 /* was found: left to fm_aggregate() */
};

#define FM_DONE_BITS 4

/* FM_GATE_ELEMENT; sized before loading, by possible CPUs. */
struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(map_flags, BPF_F_MMAPABLE);
	__uint(max_entries, 1);
	__type(key, __u32);
	__type(value, struct fm_counters);
} fm_counters SEC(".maps");

/* The daemon's: lives as long as the counters do. */
struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(map_flags, BPF_F_MMAPABLE);
	__uint(max_entries, FM_GATES *FM_GATE_BANKS);
	__type(key, __u32);
	__type(value, struct fm_gate);
} fm_gates SEC(".maps");

/* Interface -> enum fm_seen. */
struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(map_flags, BPF_F_NO_PREALLOC);
	__uint(max_entries, 65536);
	__type(key, __u32);
	__type(value, __u32);
} fm_ifaces SEC(".maps");

/* The packet that this CPU parses: too much for the stack. */
struct {
	__uint(type, BPF_MAP_TYPE_PERCPU_ARRAY);
	__uint(max_entries, 1);
	__type(key, __u32);
	__type(value, struct fm_parser);
} fm_scratch SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_RINGBUF);
	__uint(max_entries, FM_OVERFLOW_OCTETS);
} fm_overflow SEC(".maps");

static __always_inline __u32 fm_ifindex(__u32 ifindex)
{
	return ifindex ? ifindex + fm_ro.ifindex_base : 0;
}

/* The gate that a packet passes, and FM_GATE_MARKS. */
static __always_inline __u32 fm_gate_of(struct __sk_buff *skb)
{
	__u32 index = skb->ifindex + fm_ro.ifindex_base, home = FM_GATE_HOME(index);

	for (int i = 0; i < FM_GATE_PROBES; i++) {
		__u64 entry = FM_READ_ONCE(fm_live.gates[(home + i) & (FM_GATE_HOMES - 1)]);

		if (entry >> 32 == index)
			return entry;
	}
	return FM_GATE_OTHERS | FM_READ_ONCE(fm_live.others);
}

/* This CPU's counters of a hook. NULL: its gate is one that marks. */
static __always_inline struct fm_counters *fm_counters_near(__u32 gate, enum fm_hook hook)
{
	__u32 cpu = bpf_get_smp_processor_id(), element = FM_GATE_ELEMENT(cpu, gate, hook);

	return bpf_map_lookup_elem(&fm_counters, &element);
}

/* Of one that does, too. */
static __always_inline struct fm_counters *fm_counters_of(__u32 gate, enum fm_hook hook)
{
	return fm_counters_near(FM_GATE_OF(gate), hook);
}

static __always_inline void fm_count(struct fm_counters *counters, enum fm_counter which,
				     const struct fm_packet *packet)
{
	counters->count[which].packets += packet->packets;
	counters->count[which].octets += packet->octets;
}

/* Every packet, once. */
static __always_inline void fm_count_seen(struct fm_counters *counters, struct __sk_buff *skb,
					  const struct fm_packet *packet)
{
	counters->frames++;
	counters->frame_octets += skb->len;
	fm_count(counters, FM_COUNTER_seen, packet);
}

static __always_inline void fm_count_notes(struct fm_counters *counters,
					   const struct fm_packet *packet)
{
	if (packet->notes & FM_NOTE_CUT_TRANSPORT)
		fm_count(counters, FM_COUNTER_cut_transport, packet);
	if (packet->notes & FM_NOTE_CUT_PAYLOAD)
		fm_count(counters, FM_COUNTER_cut_payload, packet);
	if (packet->notes & FM_NOTE_DEEP_HEADERS)
		fm_count(counters, FM_COUNTER_deep_headers, packet);
	if (packet->notes & FM_NOTE_ORPHAN)
		fm_count(counters, FM_COUNTER_fragment_orphan, packet);
	if (packet->notes & FM_NOTE_UNSURE)
		fm_count(counters, FM_COUNTER_segments_unsure, packet);
	if (packet->notes & FM_NOTE_UNDECODED)
		fm_count(counters, FM_COUNTER_tunnel_undecoded, packet);
	if (packet->notes & FM_NOTE_DEEP_TUNNEL)
		fm_count(counters, FM_COUNTER_tunnel_deep, packet);
}

static __always_inline int fm_is_marked(struct __sk_buff *skb)
{
	return (FM_SKB_LOAD(skb, tc_index, __u32) & FM_MARK_BITS) == fm_live.mark;
}

/* Whether a packet at egress was counted when it came in. */
static __always_inline int fm_counted_before(struct __sk_buff *skb, __u32 ingress_ifindex)
{
	__u32 index = fm_ifindex(ingress_ifindex), cell, *seen;

	if (!index || fm_ro.observe_every)
		return 0;
	cell = FM_READ_ONCE(fm_live.seen[FM_SEEN_CELL(index)]);
	if (cell != FM_SEEN_SHARED)
		return cell == index;
	seen = bpf_map_lookup_elem(&fm_ifaces, &index);
	if (!seen)
		return 0;
	return *seen == FM_SEEN_MARKED ? fm_is_marked(skb) : *seen == FM_SEEN_YES;
}

/*
 * Whether an earlier hook counted a packet. At a gate that marks, it is marked from now on.
 * Verified by itself, so that the ways through it do not multiply those through fm_conclude().
 */
FM_GLOBAL int fm_is_again(struct __sk_buff *skb, int hook)
{
	int again = 0;

	if (hook == FM_HOOK_EGRESS)
		again = fm_counted_before(skb, FM_SKB_LOAD(skb, ingress_ifindex, __u32));
	if (fm_ro.observe_every || !(fm_gate_of(skb) & FM_GATE_MARKS))
		return again;
	if (fm_is_marked(skb))
		return 1;
	skb->tc_index = (FM_SKB_LOAD(skb, tc_index, __u32) & ~FM_MARK_BITS) | fm_live.mark;
	return again;
}

/* The parts of the key that are only there if configured. */
static __always_inline void fm_key_extend(struct fm_packet *packet, __u32 interface,
					  enum fm_hook hook)
{
	if (fm_ro.key_vlan) {
		packet->key.vlan = packet->vlan;
		packet->key.cvlan = packet->cvlan;
	}
	if (fm_ro.key_tos)
		packet->key.tos = packet->tos;
	if (fm_ro.key_interface || fm_ro.observe_every)
		packet->key.ifindex = interface;
	if (fm_ro.observe_every && hook == FM_HOOK_EGRESS)
		packet->key.ifindex |= FM_KEY_EGRESS;
}

/* First packet of a direction. */
static __always_inline void fm_half_start(struct fm_half *half, const struct fm_packet *packet,
					  struct __sk_buff *skb, enum fm_hook hook)
{
	half->first_ns = bpf_ktime_get_ns();
	half->min_length = packet->min_length;
	half->max_length = packet->max_length;
	half->vlan = packet->vlan;
	half->cvlan = packet->cvlan;
	half->flow_label = packet->flow_label;
	half->mpls = packet->mpls;
	half->min_ttl = packet->ttl;
	half->max_ttl = packet->ttl;
	half->tos = packet->tos;
	half->hook = hook;
	if (hook == FM_HOOK_INGRESS) {
		half->ingress_if = fm_ifindex(skb->ifindex);
	} else {
		half->ingress_if = fm_ifindex(skb->ingress_ifindex);
		half->egress_if = fm_ifindex(skb->ifindex);
	}
}

/* What every packet adds. */
static __always_inline void fm_half_add(struct fm_half *half, const struct fm_packet *packet,
					__u32 now_tick)
{
	half->last_tick = now_tick;
	half->tcp_flags |= packet->tcp_flags;
	half->fragment_flags |= packet->fragment_flags;
	half->ends |= packet->ends;
	half->octets += packet->octets;
	half->packets += packet->packets;
}

/* A further packet of a direction. */
static __always_inline void fm_half_go_on(struct fm_half *half, const struct fm_packet *packet,
					  __u32 now_tick)
{
	if (packet->min_length < half->min_length)
		half->min_length = packet->min_length;
	if (packet->max_length > half->max_length)
		half->max_length = packet->max_length;
	if (packet->ttl < half->min_ttl)
		half->min_ttl = packet->ttl;
	if (packet->ttl > half->max_ttl)
		half->max_ttl = packet->ttl;
	fm_half_add(half, packet, now_tick);
}

static __always_inline void fm_half_count(struct fm_half *half, const struct fm_packet *packet,
					  struct __sk_buff *skb, enum fm_hook hook, __u32 now_tick)
{
	if (half->packets) {
		fm_half_go_on(half, packet, now_tick);
		return;
	}
	fm_half_start(half, packet, skb, hook);
	fm_half_add(half, packet, now_tick);
}

/* Ticks until the daemon should look at a slot; one of a coarse key ends with no connection. */
static __always_inline __u32 fm_half_patience(const struct fm_half *half, const struct fm_key *key)
{
	if (((half->tcp_flags & (FM_TCP_FIN | FM_TCP_RST)) || half->ends) &&
	    !(fm_ro.coarse && FM_KEY_COARSE_OF(key)))
		return fm_live.linger_ticks;
	return fm_live.idle_ticks;
}

/* The same after a direction's first packet: fewer while the tables are too full. */
static __always_inline __u32 fm_half_patience_first(const struct fm_half *half,
						    const struct fm_key *key)
{
	__u32 brief = fm_live.brief_ticks, patience = fm_half_patience(half, key);

	return brief && brief < patience ? brief : patience;
}

/*
 * The packet travels alone. The daemon reads the ring once a sweep and is not woken for it: a ring
 * is what it has to do at most. Returns whether there was room.
 */
static __always_inline int fm_overflow_send(struct fm_counters *counters,
					    const struct fm_packet *packet, struct __sk_buff *skb,
					    enum fm_hook hook, __u32 now_tick)
{
	__u32 most = FM_OVERFLOW_OCTETS - sizeof(struct fm_overflow) - BPF_RINGBUF_HDR_SZ;
	struct fm_overflow *event;

	/* One that comes to this CPU for the first time has a slot on another. */
	if ((packet->tcp_flags & (FM_TCP_SYN | FM_TCP_RST | FM_TCP_ACK)) != FM_TCP_ACK)
		most -= FM_OVERFLOW_KEPT;
	/* Without the ring's lock, for which all CPUs would queue in a flood. */
	if (bpf_ringbuf_query(&fm_overflow, BPF_RB_AVAIL_DATA) > most)
		return 0;
	event = bpf_ringbuf_reserve(&fm_overflow, sizeof(*event), 0);
	if (!event)
		return 0;
	__builtin_memset(event, 0, sizeof(*event));
	__builtin_memcpy(&event->key, &packet->key, sizeof(event->key));
	event->direction = packet->direction;
	fm_half_count(&event->half, packet, skb, hook, now_tick);
	bpf_ringbuf_submit(event, BPF_RB_NO_WAKEUP);
	fm_count(counters, FM_COUNTER_overflow, packet);
	return 1;
}

static __always_inline void fm_half_leave(struct fm_half *half, __u32 ifindex)
{
	if (half->egress_if != ifindex)
		half->egress_if = ifindex;
}

/* A packet counted at its ingress leaves: its flow learns where. */
static __always_inline void fm_learn_egress(struct fm_counters *counters, void *region,
					    const struct fm_parser *parser, __u64 hash,
					    __u32 ifindex)
{
	const struct fm_packet *packet = &parser->packet;
	struct fm_slot *slot = NULL;
	__u32 position;

	if (region)
		slot = fm_table_find(region, &packet->key, hash, fm_ro.homes, &position);
	if (!slot) {
		if (!parser->some)
			fm_count(counters, FM_COUNTER_egress_unknown, packet);
		return;
	}
	fm_half_leave(&slot->half[packet->direction & 1], ifindex);
}

/* The tunnel of a new slot. The ids of its two directions can differ. */
static __always_inline void fm_tunnel_store(__u32 position, const struct fm_parser *parser)
{
	struct fm_tunnel *tunnel = fm_beside(&fm_tunnel_table, position);
	__u32 d = parser->packet.direction & 1;

	if (!tunnel)
		return;
	__builtin_memcpy(tunnel->addr[d], parser->tunnel.addr[0], sizeof(tunnel->addr[d]));
	__builtin_memcpy(tunnel->addr[!d], parser->tunnel.addr[1], sizeof(tunnel->addr[d]));
	tunnel->id[d] = parser->tunnel.id[0];
	tunnel->id[!d] = FM_TUNNEL_NO_ID;
	tunnel->type = parser->tunnel.type;
	tunnel->family = parser->tunnel.family;
}

static __always_inline void fm_tunnel_store_id(__u32 position, const struct fm_parser *parser)
{
	struct fm_tunnel *tunnel = fm_beside(&fm_tunnel_table, position);

	if (tunnel)
		tunnel->id[parser->packet.direction & 1] = parser->tunnel.id[0];
}

/*
 * A TCP or UDP packet that was counted in the slot at position: measured here, or left to
 * fm_measure(), which is then to be called: FM_DONE_NOT_YET.
 */
static __always_inline int fm_measure_near(struct __sk_buff *skb, const struct fm_packet *packet,
					   __u64 hash, __u32 position, __u32 now_tick,
					   enum fm_hook hook, int near)
{
	__u64 where = (__u64)position << 32 | now_tick;
	__u64 what = (__u64)packet->l4_octets << 32 | (__u32)packet->ip_id << 16 | packet->l4;
	__u32 how = packet->direction & 1, zero = 0;
	struct fm_tcp_work *work;

	how |= (packet->tos & 3) << FM_HOW_ECN_SHIFT;
	if (hook == FM_HOOK_EGRESS && !FM_SKB_LOAD(skb, ingress_ifindex, __u32))
		how |= FM_HOW_LOCAL;
	if (near && packet->key.protocol == IPPROTO_TCP && fm_tcp_near(skb, hash, where, what, how))
		return FM_DONE;
	work = bpf_map_lookup_elem(&fm_tcp_scratch, &zero);
	if (!work)
		return FM_DONE;
	work->packet.hash = hash;
	work->packet.where = where;
	work->packet.what = what;
	work->packet.how = how;
	work->packet.udp = packet->key.protocol == IPPROTO_UDP;
	work->packet.packets = packet->packets;
	work->packet.octets = packet->octets;
	return FM_DONE_NOT_YET;
}

/* What fm_measure_near() left. */
static __always_inline void fm_measure(struct __sk_buff *skb, enum fm_hook hook)
{
	__u32 zero = 0;
	struct fm_tcp_work *work = bpf_map_lookup_elem(&fm_tcp_scratch, &zero);
	struct fm_counters *counters;

	if (!work || (work->packet.udp ? fm_quic_packet(skb, &work->packet) : fm_tcp_event(skb)))
		return;
	counters = fm_counters_of(fm_gate_of(skb), hook);
	if (!counters)
		return;
	counters->count[FM_COUNTER_not_measured].packets += work->packet.packets;
	counters->count[FM_COUNTER_not_measured].octets += work->packet.octets;
}

/* Whether a packet of a known flow has to be looked at. */
static __always_inline int fm_is_measured(const struct fm_packet *packet,
					  const struct fm_half *half)
{
	if (packet->key.protocol == IPPROTO_TCP)
		return 1;
	return packet->key.protocol == IPPROTO_UDP &&
	       (half->quic ||
		(packet->first & (FM_QUIC_LONG | FM_QUIC_FIXED)) == (FM_QUIC_LONG | FM_QUIC_FIXED));
}

/* What lies beside a slot begins empty as well. */
static __always_inline struct fm_slot *fm_slot_create(void *region, __u32 position,
						      const struct fm_parser *parser, __u64 hash,
						      __u32 now_tick)
{
	if (fm_ro.tcp)
		fm_tcp_slot_clear(position);
	if (fm_ro.tunnel != FM_TUNNEL_KEY_OUTER)
		fm_tunnel_store(position, parser);
	return fm_table_create(region, position, &parser->packet.key, hash, fm_ro.homes, now_tick);
}

static __always_inline void fm_account(struct fm_counters *counters, void *region,
				       struct fm_parser *parser, __u64 hash, struct __sk_buff *skb,
				       enum fm_hook hook)
{
	const struct fm_packet *packet = &parser->packet;
	__u32 now_tick = bpf_jiffies64(), position = FM_NO_POSITION, patience;
	struct fm_slot *slot;
	struct fm_half *half;

	if (!region) {
		if (!fm_overflow_send(counters, packet, skb, hook, now_tick))
			fm_count(counters, FM_COUNTER_no_table, packet);
		return;
	}
	slot = fm_table_find(region, &packet->key, hash, fm_ro.homes, &position);
	if (!slot && position != FM_NO_POSITION)
		slot = fm_slot_create(region, position, parser, hash, now_tick);
	if (!slot) {
		parser->placeless = !fm_overflow_send(counters, packet, skb, hook, now_tick);
		return;
	}
	half = &slot->half[packet->direction & 1];
	if (fm_ro.tunnel != FM_TUNNEL_KEY_OUTER && !half->packets)
		fm_tunnel_store_id(position, parser);
	if (half->packets) {
		fm_half_go_on(half, packet, now_tick);
		patience = fm_half_patience(half, &packet->key);
	} else {
		fm_half_start(half, packet, skb, hook);
		fm_half_add(half, packet, now_tick);
		patience = fm_half_patience_first(half, &packet->key);
	}
	fm_table_set_due(region, slot, position, fm_ro.homes, now_tick + patience);
	parser->hash = hash;
	parser->position = position;
	parser->tick = now_tick;
}

/* What the rules keep out of flows. */
static __always_inline void fm_count_left(struct fm_counters *counters,
					  const struct fm_parser *parser)
{
	struct fm_count *left = fm_filter_left(counters, parser->action);

	counters->count[FM_COUNTER_seen].packets += parser->left;
	counters->count[FM_COUNTER_seen].octets += parser->left_octets;
	left->packets += parser->left;
	left->octets += parser->left_octets;
}

/* Counts a packet that was parsed, at its first hook: any flow, any slot. Verified by itself. */
FM_GLOBAL int fm_conclude(struct __sk_buff *skb, struct fm_parser *parser, int hook)
{
	struct fm_packet *packet = parser ? &parser->packet : NULL;
	struct fm_counters *counters = fm_counters_of(fm_gate_of(skb), hook & 1);
	__u32 cpu = bpf_get_smp_processor_id();
	void *region;
	__u64 hash;

	if (!counters || !packet)
		return 0;
	fm_count_seen(counters, skb, packet);
	if (packet->verdict != FM_PARSED) {
		fm_count(counters,
			 packet->verdict == FM_NOT_IP ? FM_COUNTER_not_ip : FM_COUNTER_malformed,
			 packet);
		return 0;
	}
	if (parser->left) {
		fm_count_left(counters, parser);
		if (!packet->packets)
			return 0;
	}
	fm_key_extend(packet, fm_ifindex(skb->ifindex), hook);
	hash = fm_hash(&packet->key, fm_ro.seed);
	region = bpf_map_lookup_elem(&fm_table, &cpu);
	if (packet->notes)
		fm_count_notes(counters, packet);
	if (fm_ro.tunnel != FM_TUNNEL_KEY_OUTER && packet->headers) {
		counters->count[FM_COUNTER_tunnel_headers].packets += packet->packets;
		counters->count[FM_COUNTER_tunnel_headers].octets +=
			(__u64)packet->headers * packet->packets;
	}
	fm_account(counters, region, parser, hash, skb, hook);
	return 0;
}

/* The same of one that an earlier hook counted. */
FM_GLOBAL int fm_conclude_again(struct __sk_buff *skb, struct fm_parser *parser, int hook)
{
	struct fm_packet *packet = parser ? &parser->packet : NULL;
	struct fm_counters *counters = fm_counters_of(fm_gate_of(skb), hook & 1);
	__u32 cpu = bpf_get_smp_processor_id();
	void *region;
	__u64 hash;

	if (!counters || !packet)
		return 0;
	fm_count_seen(counters, skb, packet);
	fm_count(counters, FM_COUNTER_again, packet);
	if (packet->verdict != FM_PARSED || hook == FM_HOOK_INGRESS)
		return 0;
	/* Rules kept all of it out of flows. */
	if (parser->left && parser->left == packet->packets)
		return 0;
	fm_key_extend(packet, fm_ifindex(FM_SKB_LOAD(skb, ingress_ifindex, __u32)), hook);
	hash = fm_hash(&packet->key, fm_ro.seed);
	region = bpf_map_lookup_elem(&fm_table, &cpu);
	fm_learn_egress(counters, region, parser, hash, fm_ifindex(skb->ifindex));
	return 0;
}

#include "aggregate.bpf.h"

/* Counts a packet that was parsed. */
FM_GLOBAL int fm_count_any(struct __sk_buff *skb, struct fm_parser *parser, int hook)
{
	const struct fm_packet *packet = parser ? &parser->packet : NULL;

	if (!packet)
		return FM_DONE;
	if (parser->again) {
		fm_conclude_again(skb, parser, hook);
		return FM_DONE;
	}
	fm_conclude(skb, parser, hook);
	if (parser->placeless)
		return FM_NO_PLACE;
	if (fm_ro.tcp && parser->position != FM_NO_POSITION && !parser->some &&
	    (packet->key.protocol == IPPROTO_TCP || packet->key.protocol == IPPROTO_UDP) &&
	    packet->transport && !(packet->fragment_flags & FM_FRAGMENT_MF))
		return fm_measure_near(skb, packet, parser->hash, parser->position, parser->tick,
				       hook, 0);
	return FM_DONE;
}

/*
 * Asks the rules about a packet of the short way, which fm_filter_set() was given: enum fm_done,
 * FM_DONE where nothing of it is counted; and behind FM_DONE_BITS what it adds to the key. Verified
 * by itself.
 */
FM_GLOBAL int fm_filter_near(struct __sk_buff *skb, int hook)
{
	struct fm_filter_work *work = fm_filter_work_here();
	struct fm_counters *counters;
	struct fm_count *left;

	if (!work)
		return FM_NOT_DONE;
	if (fm_filter_ask(fm_ifindex(skb->ifindex), hook, 1))
		return (work->some ? FM_NOT_DONE_SOME : FM_NOT_DONE_ASKED) |
		       (work->sampler & (FM_FILTER_SAMPLERS - 1))
			       << (FM_DONE_BITS + FM_KEY_SAMPLER_SHIFT);
	counters = fm_counters_near(fm_gate_of(skb), hook & 1);
	if (!counters)
		return FM_NOT_DONE_ASKED;
	left = fm_filter_left(counters, work->action);
	counters->frames++;
	counters->frame_octets += skb->len;
	counters->count[FM_COUNTER_seen].packets++;
	counters->count[FM_COUNTER_seen].octets += work->asked_octets;
	left->packets++;
	left->octets += work->asked_octets;
	return FM_DONE;
}

/*
 * A further packet of a flow near its home, at a hook that stays: most packets. FM_NOT_DONE: not
 * one, and nothing was counted but by the filter.
 */
static __always_inline enum fm_done fm_count_near(struct __sk_buff *skb, struct fm_packet *packet,
						  enum fm_hook hook)
{
	__u32 cpu = bpf_get_smp_processor_id(), now_tick, interface = skb->ifindex;
	struct fm_counters *counters;
	struct fm_slot *slot;
	struct fm_half *half;
	__u32 position = 0;
	void *region;
	__u64 hash;
	enum fm_done not_done = FM_NOT_DONE;
	int again = 0;

	if (hook == FM_HOOK_EGRESS) {
		__u32 ingress_ifindex = FM_SKB_LOAD(skb, ingress_ifindex, __u32);

		again = fm_counted_before(skb, ingress_ifindex);
		if (again)
			interface = ingress_ifindex;
	}
	if (!again && FM_READ_ONCE(fm_live.filter)) {
		struct fm_filter_work *work = fm_filter_work_here();
		int answer;

		if (!work)
			return FM_NOT_DONE;
		fm_filter_set(work, packet, 1);
		answer = fm_filter_near(skb, hook);
		not_done = answer & ((1 << FM_DONE_BITS) - 1);
		if (not_done == FM_DONE)
			return FM_DONE;
		packet->key.tunnel_type = answer >> FM_DONE_BITS;
	}
	fm_key_extend(packet, fm_ifindex(interface), hook);
	hash = fm_hash(&packet->key, fm_ro.seed);
	counters = fm_counters_near(fm_gate_of(skb), hook);
	region = bpf_map_lookup_elem(&fm_table, &cpu);
	if (!counters || !region)
		return not_done;
	slot = fm_table_near(region, &packet->key, hash, fm_ro.homes, &position);
	if (!slot)
		return not_done;
	half = &slot->half[packet->direction & 1];
	if (!half->packets)
		return not_done;
	fm_count_seen(counters, skb, packet);
	if (again) {
		fm_count(counters, FM_COUNTER_again, packet);
		fm_half_leave(half, fm_ifindex(skb->ifindex));
		return FM_DONE;
	}
	now_tick = bpf_jiffies64();
	fm_half_go_on(half, packet, now_tick);
	fm_table_set_due(region, slot, position, fm_ro.homes,
			 now_tick + fm_half_patience(half, &packet->key));
	if (fm_ro.tcp && not_done != FM_NOT_DONE_SOME && fm_is_measured(packet, half))
		return fm_measure_near(skb, packet, hash, position, now_tick, hook, 1);
	return FM_DONE;
}

/*
 * A packet that was parsed becomes what the rules say is counted of it. asked: the short way did
 * that. Verified by itself.
 */
FM_GLOBAL int fm_filter_any(struct __sk_buff *skb, struct fm_parser *parser, int hook, int asked)
{
	__u32 ifindex = skb->ifindex;
	int at = hook;

	if (!parser || (parser->again && hook == FM_HOOK_INGRESS))
		return 0;
	/* One that was counted, or not, when it came in is asked about as it was then. */
	if (parser->again) {
		ifindex = FM_SKB_LOAD(skb, ingress_ifindex, __u32);
		at = FM_HOOK_INGRESS;
	}
	fm_filter_packet(parser, fm_ifindex(ifindex), at, asked);
	return 0;
}

/*
 * Most packets, into memory; 0: it is none of them, and nothing was written that fm_parse_any()
 * does not. Verified by itself.
 */
FM_GLOBAL int fm_parse_fast(struct __sk_buff *skb, struct fm_parser *parser, int layer3)
{
	if (!parser || !fm_fast_parse(skb, &parser->packet, layer3))
		return 0;
	parser->packet.verdict = FM_PARSED;
	parser->packet.transport = 1;
	return 1;
}

static __always_inline void fm_parse_any(struct __sk_buff *skb, struct fm_parser *parser,
					 int layer3)
{
	fm_parse_begin(skb, parser, layer3);
	parser->packet.verdict = fm_parse_ip(skb, parser);
	if (parser->packet.verdict == FM_PARSED)
		fm_parse_rest(skb, parser);
}

/* The long way. */
static __always_inline int fm_hook_any(struct __sk_buff *skb, enum fm_hook hook, int layer3,
				       int asked)
{
	__u32 zero = 0;
	struct fm_parser *parser = bpf_map_lookup_elem(&fm_scratch, &zero);
	int done;

	if (!parser)
		return FM_DONE;
	__builtin_memset(parser, 0, sizeof(*parser));
	parser->position = FM_NO_POSITION;
	parser->again = fm_is_again(skb, hook);
	if (!fm_ro.coarse || !fm_parse_fast(skb, parser, layer3))
		fm_parse_any(skb, parser, layer3);
	if (parser->packet.verdict == FM_PARSED) {
		if (asked || FM_READ_ONCE(fm_live.filter))
			fm_filter_any(skb, parser, hook, asked);
		if (fm_ro.coarse)
			fm_coarse_any(parser);
	}
	done = fm_count_any(skb, parser, hook);
	if (done == FM_NO_PLACE)
		fm_aggregate(skb, parser, hook);
	return done;
}

static __always_inline int fm_hook_packet(struct __sk_buff *skb, enum fm_hook hook, int layer3)
{
	struct fm_packet packet = {};
	int done = FM_NOT_DONE;

	/* Whole keys stay in registers; one that becomes coarser is made in memory. */
	if (!fm_ro.coarse && fm_fast_parse(skb, &packet, layer3))
		done = fm_count_near(skb, &packet, hook);
	if (done <= FM_NOT_DONE_SOME)
		done = fm_hook_any(skb, hook, layer3, done);
	if (fm_ro.tcp && done == FM_DONE_NOT_YET)
		fm_measure(skb, hook);
	return TC_ACT_UNSPEC;
}

SEC("tc")
int fm_in_l2(struct __sk_buff *skb)
{
	return fm_hook_packet(skb, FM_HOOK_INGRESS, 0);
}

SEC("tc")
int fm_out_l2(struct __sk_buff *skb)
{
	return fm_hook_packet(skb, FM_HOOK_EGRESS, 0);
}

SEC("tc")
int fm_in_l3(struct __sk_buff *skb)
{
	return fm_hook_packet(skb, FM_HOOK_INGRESS, 1);
}

SEC("tc")
int fm_out_l3(struct __sk_buff *skb)
{
	return fm_hook_packet(skb, FM_HOOK_EGRESS, 1);
}

/* Both clocks at one moment. */
SEC("syscall")
int fm_clock(struct fm_clock *clock)
{
	clock->tick = bpf_jiffies64();
	clock->monotonic_ns = bpf_ktime_get_ns();
	return 0;
}
