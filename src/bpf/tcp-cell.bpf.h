/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * The state of a connection and the packets that only move it on; see tcp.bpf.h, which this is part
 * of.
 */
#ifndef FM_TCP_CELL_BPF_H
#define FM_TCP_CELL_BPF_H

#include "parse.bpf.h"
#include "rodata.bpf.h"
#include "table.bpf.h"

#define FM_TCP_FIN 0x01
#define FM_TCP_SYN 0x02
#define FM_TCP_RST 0x04
#define FM_TCP_PSH 0x08
#define FM_TCP_ACK 0x10
#define FM_TCP_ECE 0x40
#define FM_TCP_CWR 0x80

#define FM_HOLES 2
/* A gap this large is no loss but another connection, or nonsense. */
#define FM_GAP_MAX (1 << 30)
/* The first so many of each 256 packets of a direction are timed for the jitter: phase wraps. */
#define FM_JITTER_TIMED 8
/* Reordered packets come this soon where the round trip is not known: 3 ms. */
#define FM_REORDER_SPAN 2930

/* fm_tcp_hot.state: written by the direction's own packets. */
#define FM_STATE_KNOWN	  0x01 /* next is */
#define FM_STATE_SYN	  0x02
#define FM_STATE_SYN_ACK  0x04
#define FM_STATE_FIN	  0x08
#define FM_STATE_RST	  0x10
#define FM_STATE_RTO	  0x20 /* repeats what was sent before recover, after a timeout */
#define FM_STATE_FAST	  0x40 /* likewise, after duplicate acknowledgements */
#define FM_STATE_REPEATS  (FM_STATE_RTO | FM_STATE_FAST)
#define FM_STATE_UNSCALED 0x80 /* window is a SYN's, RFC 7323 2.2 */

/* fm_tcp_hot.ack_state: written by the other direction's packets. */
#define FM_ACKED_KNOWN	 0x01
#define FM_ACKED_SACK	 0x02 /* selective acknowledgement since the last advance */
#define FM_ACKED_RUN	 0x04 /* one duplicate acknowledgement since; counts up to the top */
#define FM_ACKED_RUN_MAX 0xf8

/* fm_tcp_cold.notes */
#define FM_COLD_AMBIGUOUS 0x01 /* the timed packet was sent again */
#define FM_COLD_SETTLED	  0x02 /* the jitter's first differences are averaged */

/* fm_tcp_cold.ace, RFC 9768 3.2. */
#define FM_ACE_COUNTER 0x07
#define FM_ACE_KNOWN   0x08
#define FM_ACE_BEGUN   0x10 /* the acknowledgement that ends the handshake has passed */
#define FM_ACE_INITIAL 5

/* What each packet of a direction reads. */
struct fm_tcp_hot {
	__u32 next;	 /* behind the highest sequence number sent */
	__u32 acked;	 /* acknowledged by the other side */
	__u32 timed_end; /* the acknowledgement that ends the round trip being timed; 0: none */
	__u32 last_tick;
	__u16 window; /* as in the header */
	__u16 mark;   /* of the last packet: fm_segment_mark() */
	__u8 scale;   /* offered, plus 1 */
	__u8 state;
	__u8 ack_state;
	__u8 asks; /* cold.asked_at is set: the other side's next data answer it */
};

/* A range of sequence numbers that was not seen when later ones were. */
struct fm_tcp_hole {
	__u32 from;
	__u32 to; /* from: no hole */
	__u32 at; /* fm_now() when it was found */
};

/* What only some packets need. */
struct fm_tcp_cold {
	struct fm_tcp_hole hole[FM_HOLES];
	__u16 hole_stamp[FM_HOLES]; /* low half of TSval of the packet that showed it, 0: none */
	__u32 timed_at;
	__u32 timed_stamp; /* TSval of the timed packet, 0: none */
	__u32 rtt_min;	   /* of this direction's data; 0: unknown */
	__u32 recover;	   /* next when the repetitions began */
	__u32 asked_at;	   /* last octet of data that were pushed */
	__u32 arrival;
	__u32 interval;
	__u32 jitter_16ths;
	__u16 isn;  /* low half of the initial sequence number */
	__u8 notes; /* FM_COLD_AMBIGUOUS, FM_COLD_SETTLED */
	__u8 ace;   /* FM_ACE_*, and the last ACE counter */
};

struct fm_tcp_cell {
	__u64 tag;     /* hash of the key, odd; 0: free */
	__u8 phase[2]; /* packets by direction */
	__u8 accecn;   /* 1: asked for, 2: agreed on */
	__u8 unused;
	__u8 gap[2]; /* longest silence by direction, ticks, 255 at most */
	__u8 cpu[2]; /* low bits of where the last packet of a direction passed */
	struct fm_tcp_hot hot[2];
	struct fm_tcp_cold cold[2];
} __attribute__((aligned(64)));

_Static_assert(sizeof(struct fm_tcp_cell) == FM_CELL_OCTETS, "size of a cell");

struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(max_entries, 1);
	__type(key, __u32);
	__type(value, struct fm_tcp_cell);
} fm_cells SEC(".maps");

/* What the rows need of a packet. */
struct fm_segment {
	__u64 tag;
	__u32 position; /* of the flow's slot in this CPU's region */
	__u32 tick;
	__u32 seq;
	__u32 end; /* behind its last sequence number, SYN and FIN included */
	__u32 ack;
	__u32 payload; /* octets */
	__u32 size;    /* payload of one wire packet */
	__u32 packets;
	__u32 now; /* fm_segment_now(); 0: not read yet */
	__u16 window;
	__u16 ip_id; /* 0: none */
	__u16 options_at;
	__u8 options_length;
	__u8 flags;
	__u8 ae;  /* the accurate ECN bit */
	__u8 ecn; /* of the IP header */
	__u8 direction;
	__u8 local; /* sent by this host, seen as it leaves */
	__u8 cpu;
};

/* Time in units of 1024 ns: wraps after 73 minutes. */
static __always_inline __u32 fm_now(void)
{
	return bpf_ktime_get_ns() >> 10;
}

/* The clock is read once a packet, if at all. */
static __always_inline __u32 fm_segment_now(struct fm_segment *segment)
{
	if (!segment->now)
		segment->now = fm_now() | 1;
	return segment->now;
}

static __always_inline __u32 fm_span_us(__u32 span)
{
	return ((__u64)span * 67109) >> 16;
}

static __always_inline int fm_before(__u32 a, __u32 b)
{
	return (__s32)(a - b) < 0;
}

/* Octets a window of one side stands for; -1: unknown, the handshake was not seen. */
static __always_inline __s64 fm_tcp_window_octets(const struct fm_tcp_cell *cell,
						  const struct fm_tcp_hot *side, __u16 window)
{
	if (!(cell->hot[0].state & cell->hot[1].state & FM_STATE_SYN))
		return -1;
	if (!cell->hot[0].scale || !cell->hot[1].scale || (side->state & FM_STATE_UNSCALED))
		return window;
	return (__u64)window << ((side->scale - 1) & 15);
}

/*
 * What tells a packet from the one before: the IPv4 identification of its last segment; without,
 * where it ends.
 */
static __always_inline __u16 fm_segment_mark(const struct fm_segment *segment)
{
	return segment->ip_id ? segment->ip_id + segment->packets - 1 : segment->end;
}

/* Whether data end where the window of the other side ends. */
static __always_inline int fm_tcp_fills(const struct fm_tcp_cell *cell,
					const struct fm_segment *segment)
{
	const struct fm_tcp_hot *me = &cell->hot[segment->direction & 1];
	const struct fm_tcp_hot *peer = &cell->hot[!(segment->direction & 1)];
	__s64 octets = fm_tcp_window_octets(cell, peer, peer->window);

	return octets > 0 && (me->ack_state & FM_ACKED_KNOWN) &&
	       !fm_before(segment->end, me->acked + (__u32)octets);
}

/*
 * A packet that goes on where the last one ended, and of which nothing is to be told but that:
 * sees to it and returns 1.
 */
static __always_inline int fm_tcp_quiet(struct fm_tcp_cell *cell, const struct fm_segment *segment)
{
	struct fm_tcp_hot *me = &cell->hot[segment->direction & 1];
	struct fm_tcp_hot *peer = &cell->hot[!(segment->direction & 1)];
	__u32 advance = segment->ack - peer->acked;

	if (segment->ecn || cell->accecn == 2 ||
	    cell->cpu[segment->direction & 1] != segment->cpu ||
	    (segment->flags & ~FM_TCP_PSH) != FM_TCP_ACK || !(me->state & FM_STATE_KNOWN) ||
	    (me->state & (FM_STATE_REPEATS | FM_STATE_UNSCALED)) ||
	    peer->ack_state != FM_ACKED_KNOWN || me->window != segment->window ||
	    segment->tick - me->last_tick > cell->gap[segment->direction & 1] ||
	    segment->seq != me->next || cell->phase[segment->direction & 1] < FM_JITTER_TIMED)
		return 0;
	if (segment->payload) {
		if (!me->timed_end || (segment->flags & FM_TCP_PSH) || peer->asks ||
		    fm_tcp_fills(cell, segment))
			return 0;
	} else if (!advance) {
		return 0;
	}
	if (advance) {
		if ((__s32)advance < 0 ||
		    (peer->timed_end && !fm_before(segment->ack, peer->timed_end)))
			return 0;
		peer->acked = segment->ack;
	}
	me->next = segment->end;
	me->last_tick = segment->tick;
	me->mark = fm_segment_mark(segment);
	cell->phase[segment->direction & 1]++;
	return 1;
}

/* Whether a cell's connection is over, or was silent so long that its slots are gone. */
static __always_inline int fm_tcp_cell_stale(const struct fm_tcp_cell *cell, __u32 tick)
{
	__u8 states = cell->hot[0].state | cell->hot[1].state;
	__u8 both = cell->hot[0].state & cell->hot[1].state;
	__u32 limit = fm_live.idle_ticks;

	if ((states & FM_STATE_RST) || (both & FM_STATE_FIN))
		limit = fm_live.linger_ticks;
	return tick - cell->hot[0].last_tick > limit && tick - cell->hot[1].last_tick > limit;
}

/* The cell of a tag, claimed if need be; NULL: all within reach are in use. */
static __always_inline struct fm_tcp_cell *fm_tcp_cell_find(__u64 tag, __u32 tick)
{
	__u32 position = fm_hash_home(tag, fm_ro.tcp_cells);
	struct fm_tcp_cell *free = NULL;
	__u64 free_tag = 0;

	for (int i = 0; i < FM_CELL_PROBES; i++, position++) {
		struct fm_tcp_cell *cell = bpf_map_lookup_elem(&fm_cells, &position);
		__u64 seen;

		if (!cell)
			break;
		seen = FM_READ_ONCE(cell->tag);
		if (seen == tag)
			return cell;
		if (!free && (!seen || fm_tcp_cell_stale(cell, tick))) {
			free = cell;
			free_tag = seen;
		}
	}
	if (!free || __sync_val_compare_and_swap(&free->tag, free_tag, tag) != free_tag)
		return NULL;
	__builtin_memset(free->phase, 0, sizeof(*free) - offsetof(struct fm_tcp_cell, phase));
	free->hot[0].last_tick = tick;
	free->hot[1].last_tick = tick;
	return free;
}

static __always_inline struct fm_tcp_half *fm_tcp_half_at(__u32 position, __u32 direction)
{
	struct fm_tcp_slot *slot = fm_beside(&fm_tcp_table, position);

	return slot ? &slot->half[direction & 1] : NULL;
}

/* A new slot has nothing measured. */
static __always_inline void fm_tcp_slot_clear(__u32 position)
{
	struct fm_tcp_slot *slot = fm_beside(&fm_tcp_table, position);

	if (slot)
		__builtin_memset(slot, 0, sizeof(*slot));
}

/* Bits of how. */
#define FM_HOW_DIRECTION 0x1
#define FM_HOW_ECN_SHIFT 1
#define FM_HOW_LOCAL	 0x8

/*
 * The segment of a packet that was counted, of a flow with this hash, from its TCP header. where:
 * position of its slot, tick; what: octets from the TCP header on, IPv4 identification, offset of
 * the TCP header. Scalars, so that callers keep their registers. 0: the header contradicts itself.
 */
static __always_inline int fm_segment_set(struct fm_segment *ret, const struct tcphdr *tcp,
					  __u64 hash, __u64 where, __u64 what, __u32 how)
{
	__u32 octets = what >> 32, header = tcp->doff * 4;

	if (header < sizeof(*tcp) || header > octets)
		return 0;
	ret->tag = hash | 1;
	ret->position = where >> 32;
	ret->tick = where;
	ret->seq = bpf_ntohl(tcp->seq);
	ret->ack = bpf_ntohl(tcp->ack_seq);
	ret->payload = octets - header;
	ret->flags = ((const __u8 *)tcp)[13];
	ret->ae = ((const __u8 *)tcp)[12] & 1;
	ret->end = ret->seq + ret->payload + (ret->flags & FM_TCP_FIN) +
		   ((ret->flags & FM_TCP_SYN) >> 1);
	ret->window = bpf_ntohs(tcp->window);
	ret->ip_id = what >> 16;
	ret->options_at = what + sizeof(*tcp);
	ret->options_length = header - sizeof(*tcp);
	ret->direction = how & FM_HOW_DIRECTION;
	ret->ecn = how >> FM_HOW_ECN_SHIFT & 3;
	ret->local = !!(how & FM_HOW_LOCAL);
	ret->cpu = bpf_get_smp_processor_id();
	ret->now = 0;
	ret->packets = 1;
	ret->size = ret->payload;
	return 1;
}

/* Most packets, of those that are linear and no super-packets. 0: one for fm_tcp_event(). */
FM_GLOBAL int fm_tcp_near(struct __sk_buff *skb, __u64 hash, __u64 where, __u64 what, __u32 how)
{
	void *tcp = FM_SKB_LOAD(skb, data, void *) + (what & 0xfff);
	__u32 position = fm_hash_home(hash, fm_ro.tcp_cells);
	struct fm_segment segment;

	if (tcp + sizeof(struct tcphdr) > FM_SKB_LOAD(skb, data_end, void *) ||
	    !fm_segment_set(&segment, tcp, hash, where, what, how))
		return 0;
	for (int i = 0; i < FM_CELL_PROBES; i++, position++) {
		struct fm_tcp_cell *cell = bpf_map_lookup_elem(&fm_cells, &position);

		if (!cell)
			return 0;
		if (cell->tag == segment.tag)
			return fm_tcp_quiet(cell, &segment);
	}
	return 0;
}

#endif
