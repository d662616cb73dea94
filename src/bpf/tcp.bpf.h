/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * TCP measured: round trips, losses, windows, handshakes, ECN. Called by flowmond.bpf.c for each
 * TCP packet that went into a slot, if fm_ro.tcp.
 *
 * Both directions of a connection are needed to measure it, and may pass on different CPUs: their
 * state lies in a cell that all CPUs share. A cell is claimed by compare-and-swap of its tag, is
 * soft (nobody frees it: who is silent too long loses it) and holds state only; what is counted
 * goes into this CPU's region beside the slot, and is exact whatever races in the cell. Of a
 * direction's state one part is written by its own packets, one (acked, ack_state) by those of the
 * other.
 *
 * Most packets change nothing but sequence numbers: fm_tcp_quiet() sees to them with one line of
 * memory. The rest goes to fm_tcp_event().
 */
#ifndef FM_TCP_BPF_H
#define FM_TCP_BPF_H

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

#define FM_OPTIONS_ROOM 64

/* What is read of a segment's options. */
struct fm_tcp_options {
	__u32 stamp; /* TSval, 0: none */
	__u32 echo;  /* TSecr */
	__u32 sack;  /* left edge of the first block */
	__u16 mss;
	__u8 scale; /* plus 1 */
	__u8 seen;  /* FM_TCP_OPTION_* */
	__u8 sacks; /* there are blocks */
	__u8 pad[3];
	__u32 at; /* of the option that is read next */
	__u32 end;
	__u8 octets[FM_OPTIONS_ROOM];
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

static __always_inline __u8 fm_option_octet(const struct fm_tcp_options *options, __u32 at)
{
	return options->octets[at & (FM_OPTIONS_ROOM - 1)];
}

static __always_inline __u32 fm_option_word(const struct fm_tcp_options *options, __u32 at)
{
	return (__u32)fm_option_octet(options, at) << 24 |
	       (__u32)fm_option_octet(options, at + 1) << 16 |
	       (__u32)fm_option_octet(options, at + 2) << 8 | fm_option_octet(options, at + 3);
}

/*
 * Reads the option at options->at, RFC 9293 3.1 and those named, and goes on to the next; 0: that
 * was all. A function of its own, or the verifier would follow every sequence of options.
 */
FM_GLOBAL int fm_tcp_option(struct fm_tcp_options *options)
{
	__u32 at, length;
	__u8 kind;

	if (!options || options->at >= options->end)
		return 0;
	at = options->at;
	kind = fm_option_octet(options, at);
	if (kind == 1) {
		options->at = at + 1;
		return 1;
	}
	length = fm_option_octet(options, at + 1);
	if (kind == 0 || length < 2 || at + length > options->end)
		return 0;
	options->at = at + length;
	if (kind == 2 && length == 4) {
		options->mss = fm_option_word(options, at);
		options->seen |= FM_TCP_OPTION_MSS;
	} else if (kind == 3 && length == 3) { /* RFC 7323 2.3: 14 at most */
		__u8 scale = fm_option_octet(options, at + 2);

		options->scale = (scale > 14 ? 14 : scale) + 1;
		options->seen |= FM_TCP_OPTION_SCALE;
	} else if (kind == 4 && length == 2) { /* RFC 2018 */
		options->seen |= FM_TCP_OPTION_SACK;
	} else if (kind == 5 && length >= 10) {
		options->sack = fm_option_word(options, at + 2);
		options->sacks = 1;
	} else if (kind == 8 && length == 10) { /* RFC 7323 3.2 */
		options->stamp = fm_option_word(options, at + 2);
		options->echo = fm_option_word(options, at + 6);
		options->seen |= FM_TCP_OPTION_TIMESTAMPS;
	} else if (kind == 30) {
		options->seen |= FM_TCP_OPTION_MULTIPATH;
	} else if (kind == 34) {
		options->seen |= FM_TCP_OPTION_FAST_OPEN;
	} else if (kind == 172 || kind == 174) {
		options->seen |= FM_TCP_OPTION_ACCECN;
	}
	return 1;
}

static __always_inline void fm_tcp_options_read(struct __sk_buff *skb, __u32 at, __u32 length,
						struct fm_tcp_options *ret)
{
	if (length == 0 || length > 40 || bpf_skb_load_bytes(skb, at, ret->octets, length))
		return;
	ret->end = length;
	for (int n = 0; n < 40; n++)
		if (!fm_tcp_option(ret))
			break;
}

/* Times the way of what ends before end, until it is acknowledged. */
static __always_inline void fm_tcp_time(struct fm_tcp_hot *me, struct fm_tcp_cold *cold,
					struct fm_segment *segment, __u32 end, __u32 stamp,
					__u8 notes)
{
	cold->timed_at = fm_segment_now(segment);
	cold->timed_stamp = stamp;
	cold->notes = (cold->notes & FM_COLD_SETTLED) | notes;
	*(volatile __u32 *)&me->timed_end = end;
}

static __always_inline void fm_tcp_ecn_of_syn(struct fm_tcp_cell *cell, struct fm_tcp_half *half,
					      const struct fm_segment *segment)
{
	__u8 bits = (segment->ae ? 4 : 0) | (segment->flags & FM_TCP_CWR ? 2 : 0) |
		    (segment->flags & FM_TCP_ECE ? 1 : 0);

	if (!(segment->flags & FM_TCP_ACK)) {
		if (bits == 7) /* RFC 9768 3.1.1 */
			half->ecn |= FM_TCP_ACCECN_ASKED;
		if (bits & 3)
			half->ecn |= (bits & 3) == 3 ? FM_TCP_ECN_ASKED : 0;
		cell->accecn = bits == 7 ? 1 : 0;
		return;
	}
	if (bits == 1) /* RFC 3168 6.1.1 */
		half->ecn |= FM_TCP_ECN_AGREED;
	/* All but those of classic ECN and of none: RFC 9768 3.1.2 and 3.1.3. */
	if (cell->accecn && bits != 0 && bits != 1 && bits != 7) {
		half->ecn |= FM_TCP_ACCECN_AGREED;
		cell->accecn = 2;
		cell->cold[0].ace = FM_ACE_KNOWN | FM_ACE_INITIAL;
		cell->cold[1].ace = FM_ACE_KNOWN | FM_ACE_INITIAL;
	}
}

/* A SYN or SYN-ACK: begins a connection, or is sent again. */
FM_GLOBAL int fm_tcp_syn(struct fm_tcp_cell *cell, struct fm_tcp_half *half,
			 struct fm_segment *segment, struct fm_tcp_options *options)
{
	struct fm_tcp_hot *me, *peer;
	struct fm_tcp_cold *mine;
	__u8 answer;

	if (!cell || !half || !segment || !options)
		return 0;
	me = &cell->hot[segment->direction & 1];
	peer = &cell->hot[!(segment->direction & 1)];
	mine = &cell->cold[segment->direction & 1];
	answer = segment->flags & FM_TCP_ACK ? FM_STATE_SYN_ACK : 0;
	half->notes |= answer ? FM_TCP_NOTE_SYN_ACK : FM_TCP_NOTE_SYN;
	half->options |= options->seen;
	if (options->mss)
		half->mss = options->mss;
	if (options->scale)
		half->scale = options->scale;
	if ((me->state & FM_STATE_SYN) && mine->isn == (__u16)segment->seq &&
	    segment->seq - me->next > FM_GAP_MAX) {
		/* In a simultaneous open the SYN comes again as SYN-ACK: that is an answer. */
		if (!answer || (me->state & FM_STATE_SYN_ACK)) {
			half->syn_again++;
			half->retransmitted_packets += segment->packets;
			half->retransmitted_octets += segment->payload;
			half->timeout_packets += segment->packets;
			if (me->timed_end)
				fm_tcp_time(me, mine, segment, segment->seq + 1, options->stamp,
					    FM_COLD_AMBIGUOUS);
		}
		if (answer && !(me->state & FM_STATE_SYN_ACK))
			fm_tcp_ecn_of_syn(cell, half, segment);
		me->state |= answer;
		return 0;
	}
	/* Of a connection whose ports are used again; but not of one that both sides open. */
	if (!answer && !((peer->state & FM_STATE_SYN) && peer->timed_end)) {
		__builtin_memset(&cell->hot, 0, sizeof(cell->hot) + sizeof(cell->cold));
		peer->last_tick = segment->tick;
	}
	me->next = segment->end;
	me->acked = segment->seq;
	me->ack_state = FM_ACKED_KNOWN;
	me->scale = options->scale;
	me->window = segment->window;
	me->last_tick = segment->tick;
	me->state = FM_STATE_KNOWN | FM_STATE_SYN | FM_STATE_UNSCALED | answer;
	me->asks = 0;
	mine->isn = segment->seq;
	fm_tcp_time(me, mine, segment, segment->seq + 1, options->stamp, 0);
	fm_tcp_ecn_of_syn(cell, half, segment);
	return 0;
}

/* Which kind of repetition the socket is at: RFC 6298 timeout, recovery, or neither. */
enum fm_tcp_kind {
	FM_KIND_OTHER,
	FM_KIND_FAST,
	FM_KIND_TIMEOUT,
};

static __always_inline struct bpf_tcp_sock *fm_tcp_socket(struct __sk_buff *skb)
{
	struct bpf_sock *sk = skb->sk;

	if (!sk)
		return NULL;
	sk = bpf_sk_fullsock(sk);
	return sk ? bpf_tcp_sock(sk) : NULL;
}

/* Kind of a repetition by this host's own socket; -1: it does not say. */
static __always_inline int fm_tcp_kind_local(struct __sk_buff *skb)
{
	struct bpf_tcp_sock *socket = fm_tcp_socket(skb);

	if (!socket)
		return -1;
	if (socket->icsk_retransmits)
		return FM_KIND_TIMEOUT;
	return socket->lost_out ? FM_KIND_FAST : FM_KIND_OTHER;
}

/*
 * By what passed before it: silence of both sides, or duplicate acknowledgements, which a fast
 * retransmission follows at once.
 */
static __always_inline int fm_tcp_kind_wire(const struct fm_tcp_hot *me,
					    const struct fm_tcp_hot *peer, __u32 tick)
{
	int sender = tick - me->last_tick >= fm_ro.timeout_ticks;

	if (sender && tick - peer->last_tick >= fm_ro.timeout_ticks)
		return FM_KIND_TIMEOUT;
	if (me->ack_state & (FM_ACKED_SACK | FM_ACKED_RUN_MAX))
		return FM_KIND_FAST;
	return sender ? FM_KIND_TIMEOUT : FM_KIND_OTHER;
}

/* All that is repeated below the point where repeating began is of the kind it began with. */
static __always_inline int fm_tcp_episode(struct fm_tcp_hot *me, struct fm_tcp_cold *mine,
					  __u32 seq, int kind)
{
	int below = fm_before(seq, mine->recover);

	if (!fm_before(me->acked, mine->recover))
		me->state &= ~FM_STATE_REPEATS;
	if ((me->state & FM_STATE_RTO) && below)
		return FM_KIND_TIMEOUT;
	if (kind != FM_KIND_TIMEOUT && (me->state & FM_STATE_FAST) && below)
		return FM_KIND_FAST;
	if (kind == FM_KIND_OTHER)
		return kind;
	me->state &= ~FM_STATE_REPEATS;
	me->state |= kind == FM_KIND_TIMEOUT ? FM_STATE_RTO : FM_STATE_FAST;
	mine->recover = me->next;
	return kind;
}

static __always_inline void fm_tcp_again(struct __sk_buff *skb, struct fm_tcp_hot *me,
					 const struct fm_tcp_hot *peer, struct fm_tcp_cold *mine,
					 struct fm_tcp_half *half, const struct fm_segment *segment,
					 __u32 overlap)
{
	__u32 packets = segment->packets, octets = overlap;
	int kind = -1;

	if (overlap < segment->payload && segment->size)
		packets = (overlap + segment->size - 1) / segment->size;
	if (octets > segment->payload)
		octets = segment->payload;
	half->retransmitted_packets += packets;
	half->retransmitted_octets += octets;
	if (segment->local) {
		kind = fm_tcp_kind_local(skb);
		if (kind >= 0)
			half->notes |= FM_TCP_NOTE_SOCKET;
	}
	if (kind < 0)
		kind = fm_tcp_kind_wire(me, peer, segment->tick);
	kind = fm_tcp_episode(me, mine, segment->seq, kind);
	if (kind == FM_KIND_TIMEOUT)
		half->timeout_packets += packets;
	else if (kind == FM_KIND_FAST)
		half->fast_packets += packets;
	/* Karn: whose acknowledgement it will be, only timestamps can tell. */
	if (me->timed_end && fm_before(segment->seq, me->timed_end)) {
		if (mine->timed_stamp)
			mine->notes |= FM_COLD_AMBIGUOUS;
		else
			me->timed_end = 0;
	}
}

/* Takes [from, to) out of a hole that it begins in; what remains behind goes into a free hole. */
static __always_inline void fm_tcp_fill(struct fm_tcp_cold *mine, int which, __u32 from, __u32 to)
{
	struct fm_tcp_hole *hole = &mine->hole[which & 1], *other = &mine->hole[!(which & 1)];

	if (fm_before(to, hole->to)) {
		if (from == hole->from) {
			hole->from = to;
			return;
		}
		if (other->from == other->to) {
			*other = *hole;
			other->from = to;
			mine->hole_stamp[!(which & 1)] = mine->hole_stamp[which & 1];
		}
	}
	hole->to = from;
}

/* Whether what fills a hole was only late, not sent again: RFC 4737 3.3 sees the same. */
static __always_inline int fm_tcp_late(const struct fm_tcp_cell *cell, struct fm_segment *segment,
				       const struct fm_tcp_hole *hole, __u16 hole_stamp,
				       __u16 stamp)
{
	__u32 span = cell->cold[0].rtt_min + cell->cold[1].rtt_min;

	if (stamp && hole_stamp && stamp != hole_stamp)
		return (__s16)(stamp - hole_stamp) < 0;
	if (!cell->cold[0].rtt_min || !cell->cold[1].rtt_min)
		span = FM_REORDER_SPAN;
	return fm_segment_now(segment) - hole->at < span - span / 8;
}

static __always_inline void fm_tcp_hole_open(struct fm_tcp_cold *mine, __u32 from, __u32 to,
					     __u32 now, __u32 stamp)
{
	int which = 0;

	if (mine->hole[0].from != mine->hole[0].to &&
	    (mine->hole[1].from == mine->hole[1].to ||
	     fm_before(mine->hole[1].at, mine->hole[0].at)))
		which = 1;
	mine->hole[which].from = from;
	mine->hole[which].to = to;
	mine->hole[which].at = now;
	mine->hole_stamp[which] = stamp;
}

/* The network's copy of the packet before; without identification it must come at once. */
static __always_inline int fm_tcp_copy(const struct fm_tcp_hot *me,
				       const struct fm_segment *segment)
{
	return !segment->local && fm_segment_mark(segment) == me->mark &&
	       (segment->ip_id || segment->tick - me->last_tick <= 1);
}

/* Data below what was sent: a keep-alive, late, a copy, or sent again. */
static __always_inline void fm_tcp_old(struct __sk_buff *skb, struct fm_tcp_cell *cell,
				       struct fm_tcp_half *half, struct fm_segment *segment,
				       const struct fm_tcp_options *options)
{
	struct fm_tcp_hot *me = &cell->hot[segment->direction & 1];
	struct fm_tcp_hot *peer = &cell->hot[!(segment->direction & 1)];
	struct fm_tcp_cold *mine = &cell->cold[segment->direction & 1];
	__u32 overlap = segment->end - segment->seq;
	int late;

	if (fm_before(me->next, segment->end)) {
		overlap = me->next - segment->seq;
		me->next = segment->end;
	} else if (segment->payload <= 1 && !(segment->flags & FM_TCP_FIN) &&
		   segment->end == me->next && !fm_before(me->acked, me->next)) {
		return; /* RFC 9293 3.8.4 */
	}
	if (segment->payload == 1 && !peer->window)
		return; /* RFC 9293 3.8.6.1 */
	for (int i = 0; i < FM_HOLES && !segment->local; i++) {
		struct fm_tcp_hole *hole = &mine->hole[i];

		if (fm_before(segment->seq, hole->from) || !fm_before(segment->seq, hole->to))
			continue;
		late = fm_tcp_late(cell, segment, hole, mine->hole_stamp[i], options->stamp);
		fm_tcp_fill(mine, i, segment->seq, segment->end);
		if (late) {
			half->out_of_order += segment->packets;
			return;
		}
		fm_tcp_again(skb, me, peer, mine, half, segment, overlap);
		return;
	}
	if ((segment->ip_id || segment->end == me->next) && fm_tcp_copy(me, segment))
		half->duplicates += segment->packets;
	else
		fm_tcp_again(skb, me, peer, mine, half, segment, overlap);
}

/* What the sequence numbers say. */
FM_GLOBAL int fm_tcp_data(struct __sk_buff *skb, struct fm_tcp_cell *cell, struct fm_tcp_half *half,
			  struct fm_segment *segment, struct fm_tcp_options *options)
{
	struct fm_tcp_hot *me;
	struct fm_tcp_cold *mine;
	__s32 gap;

	if (!cell || !half || !segment || !options)
		return 0;
	me = &cell->hot[segment->direction & 1];
	mine = &cell->cold[segment->direction & 1];
	gap = segment->seq - me->next;
	if (!(me->state & FM_STATE_KNOWN) || gap > FM_GAP_MAX || gap < -FM_GAP_MAX) {
		me->state |= FM_STATE_KNOWN;
		half->notes |= FM_TCP_NOTE_MIDSTREAM;
		me->next = segment->end;
		me->timed_end = 0;
		gap = 0;
	}
	if (segment->end == segment->seq)
		return 0;
	if (gap < 0) {
		fm_tcp_old(skb, cell, half, segment, options);
		return 0;
	}
	if (gap > 0)
		fm_tcp_hole_open(mine, me->next, segment->seq, fm_segment_now(segment),
				 options->stamp);
	me->next = segment->end;
	if (segment->payload && fm_tcp_fills(cell, segment))
		half->window_fulls++;
	if ((me->state & FM_STATE_REPEATS) && !fm_before(me->acked, mine->recover))
		me->state &= ~FM_STATE_REPEATS;
	if (!me->timed_end) {
		__u32 end = segment->seq + segment->size;

		if (segment->local) {
			struct bpf_tcp_sock *socket = fm_tcp_socket(skb);

			if (socket && socket->srtt_us)
				half->srtt_us = socket->srtt_us >> 3;
		}
		fm_tcp_time(me, mine, segment, segment->payload ? end : segment->end,
			    options->stamp, 0);
	}
	return 0;
}

/* A round trip has ended. */
static __always_inline void fm_tcp_sample(struct fm_tcp_cell *cell, struct fm_tcp_half *half,
					  struct fm_segment *segment,
					  const struct fm_tcp_options *options, __u32 end)
{
	struct fm_tcp_hot *peer = &cell->hot[!(segment->direction & 1)];
	struct fm_tcp_cold *theirs = &cell->cold[!(segment->direction & 1)];
	__u32 span = fm_segment_now(segment) - theirs->timed_at, us = fm_span_us(span);
	__u32 stamp = theirs->timed_stamp;
	int echoes = options->seen & FM_TCP_OPTION_TIMESTAMPS;
	int ambiguous = theirs->notes & FM_COLD_AMBIGUOUS;

	if (__sync_val_compare_and_swap(&peer->timed_end, end, 0) != end)
		return;
	/* Sent twice: valid if the acknowledgement names the one that was timed. */
	if (ambiguous && !(echoes && stamp && options->echo == stamp))
		return;
	half->rtt_sum_us += us;
	half->rtt_samples++;
	if (~us > half->rtt_low)
		half->rtt_low = ~us;
	if (us > half->rtt_max_us)
		half->rtt_max_us = us;
	if (!theirs->rtt_min || span < theirs->rtt_min)
		theirs->rtt_min = span ? span : 1;
	if ((peer->state & FM_STATE_SYN) && theirs->isn == (__u16)(end - 1) && !half->handshake_us)
		half->handshake_us = us ? us : 1;
}

/* What the acknowledgement says. */
FM_GLOBAL int fm_tcp_ack(struct fm_tcp_cell *cell, struct fm_tcp_half *half,
			 struct fm_segment *segment, struct fm_tcp_options *options)
{
	struct fm_tcp_hot *me, *peer;
	__u32 advance, end;
	int selective;

	if (!cell || !half || !segment || !options)
		return 0;
	me = &cell->hot[segment->direction & 1];
	peer = &cell->hot[!(segment->direction & 1)];
	selective = options->sacks && fm_before(segment->ack, options->sack);
	if (!(peer->ack_state & FM_ACKED_KNOWN)) {
		peer->acked = segment->ack;
		peer->ack_state = FM_ACKED_KNOWN;
		return 0;
	}
	advance = segment->ack - peer->acked;
	if ((__s32)advance < 0)
		return 0;
	end = FM_READ_ONCE(peer->timed_end);
	if (advance) {
		peer->acked = segment->ack;
		peer->ack_state = FM_ACKED_KNOWN | (selective ? FM_ACKED_SACK : 0);
		if (end && !fm_before(segment->ack, end))
			fm_tcp_sample(cell, half, segment, options, end);
		return 0;
	}
	/* RFC 5681 2; with SACK, new blocks count instead of an unchanged window (RFC 6675 2). */
	if (segment->end != segment->seq || !(peer->state & FM_STATE_KNOWN) ||
	    !fm_before(segment->ack, peer->next) || fm_before(segment->seq, me->next) ||
	    (me->window != segment->window && !selective))
		return 0;
	half->dup_acks += segment->packets;
	if (peer->ack_state < FM_ACKED_RUN_MAX)
		peer->ack_state += FM_ACKED_RUN;
	if (selective)
		peer->ack_state |= FM_ACKED_SACK;
	return 0;
}

static __always_inline void fm_tcp_window(struct fm_tcp_cell *cell, struct fm_tcp_half *half,
					  const struct fm_segment *segment)
{
	struct fm_tcp_hot *me = &cell->hot[segment->direction & 1];
	__s64 octets;

	me->state &= ~FM_STATE_UNSCALED;
	octets = fm_tcp_window_octets(cell, me, segment->window);
	if (!segment->window && me->window && (me->state & FM_STATE_KNOWN))
		half->zero_windows++;
	me->window = segment->window;
	if (octets < 0)
		return;
	if (~(__u32)octets > half->window_low)
		half->window_low = ~(__u32)octets;
	if (octets > half->window_max)
		half->window_max = octets;
	half->window_last = ~(__u32)octets;
}

/* The counter of marks that came back, modulo 8; RFC 9768 3.2.1, 3.2.2.1 and 3.2.2.2. */
static __always_inline void fm_tcp_ace(struct fm_tcp_cell *cell, struct fm_tcp_half *half,
				       const struct fm_segment *segment, __u8 ace)
{
	const struct fm_tcp_hot *me = &cell->hot[segment->direction & 1];
	const struct fm_tcp_hot *peer = &cell->hot[!(segment->direction & 1)];
	struct fm_tcp_cold *mine = &cell->cold[segment->direction & 1];
	int begun = (mine->ace & FM_ACE_BEGUN) || (me->state & FM_STATE_SYN_ACK);

	if ((peer->ack_state & FM_ACKED_KNOWN) && fm_before(segment->ack, peer->acked))
		return; /* overtaken */
	/* The client's acknowledgement of the SYN-ACK tells of that with these bits: 6 is a mark.
	 */
	if (!begun && !segment->payload && ace != 6)
		ace = mine->ace & FM_ACE_COUNTER;
	if (mine->ace & FM_ACE_KNOWN)
		half->ece += (ace - mine->ace) & FM_ACE_COUNTER;
	mine->ace = FM_ACE_KNOWN | FM_ACE_BEGUN | ace;
}

/* ECN in the IP header; echoes of it, RFC 3168 and 9768 3.2. */
static __always_inline void fm_tcp_ecn(struct fm_tcp_cell *cell, struct fm_tcp_half *half,
				       const struct fm_segment *segment)
{
	__u8 ace = (segment->ae ? 4 : 0) | (segment->flags & FM_TCP_CWR ? 2 : 0) |
		   (segment->flags & FM_TCP_ECE ? 1 : 0);

	if (segment->ecn) {
		half->ect += segment->packets;
		if (segment->ecn == 3)
			half->ce += segment->packets;
	}
	if (segment->flags & FM_TCP_SYN)
		return;
	if (cell->accecn == 2) {
		fm_tcp_ace(cell, half, segment, ace);
		return;
	}
	if (ace & 1)
		half->ece += segment->packets;
	if (ace & 2) /* of a super-packet's segments only the first has it */
		half->cwr++;
}

/*
 * RFC 3550 A.8 without the sender's clock: how much one interval differs from the one before. The
 * first differences are averaged, so that a short flow's figure is not that of its beginning.
 */
static __always_inline void fm_tcp_jitter(struct fm_tcp_cold *mine, struct fm_tcp_half *half,
					  __u32 now, __u32 step)
{
	__u32 interval, difference, us;

	interval = now - mine->arrival;
	mine->arrival = now;
	difference =
		interval > mine->interval ? interval - mine->interval : mine->interval - interval;
	mine->interval = interval;
	if (step < 2)
		return;
	us = fm_span_us(difference);
	if (mine->notes & FM_COLD_SETTLED)
		mine->jitter_16ths += us - ((mine->jitter_16ths + 8) >> 4);
	else
		mine->jitter_16ths = (mine->jitter_16ths * (step - 2) + (us << 4)) / (step - 1);
	if (step == FM_JITTER_TIMED - 1)
		mine->notes |= FM_COLD_SETTLED;
	half->jitter_16ths = mine->jitter_16ths ? mine->jitter_16ths : 1;
}

/* From the last octet that the other side pushed to the first of the answer. */
static __always_inline void fm_tcp_answer(struct fm_tcp_cell *cell, struct fm_tcp_half *half,
					  struct fm_segment *segment)
{
	struct fm_tcp_hot *me = &cell->hot[segment->direction & 1];
	struct fm_tcp_hot *peer = &cell->hot[!(segment->direction & 1)];
	struct fm_tcp_cold *mine = &cell->cold[segment->direction & 1];
	struct fm_tcp_cold *theirs = &cell->cold[!(segment->direction & 1)];
	__u32 now;

	if (!segment->payload || (!peer->asks && !(segment->flags & FM_TCP_PSH)))
		return;
	now = fm_segment_now(segment);
	if (peer->asks) {
		__u32 us = fm_span_us(now - theirs->asked_at);

		peer->asks = 0;
		half->app_sum_us += us;
		half->app_samples++;
		if (us > half->app_max_us)
			half->app_max_us = us;
	}
	if (segment->flags & FM_TCP_PSH) {
		mine->asked_at = now;
		me->asks = 1;
	}
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

/* A packet to be measured, as its arguments to fm_tcp_near() are. */
struct fm_tcp_packet {
	__u64 hash;
	__u64 where;
	__u64 what;
	__u32 how;
	__u32 udp;
	__u32 packets;
	__u32 octets;
};

/*
 * What this CPU measures: too much for the stack, where it would also lie below what counted the
 * packet. So that leaves it here and returns, before fm_measure() is called.
 */
struct fm_tcp_work {
	struct fm_tcp_packet packet;
	struct fm_segment segment;
	struct fm_tcp_options options;
	struct tcphdr header;
};

struct {
	__uint(type, BPF_MAP_TYPE_PERCPU_ARRAY);
	__uint(max_entries, 1);
	__type(key, __u32);
	__type(value, struct fm_tcp_work);
} fm_tcp_scratch SEC(".maps");

/* The segment of the packet in work; 0: the header contradicts itself. */
static __always_inline int fm_segment_read(struct __sk_buff *skb, struct fm_tcp_work *work)
{
	const struct fm_tcp_packet *packet = &work->packet;
	struct fm_segment *segment = &work->segment;
	struct tcphdr *tcp =
		fm_header(skb, packet->what & 0xffff, &work->header, sizeof(work->header));

	if (!tcp ||
	    !fm_segment_set(segment, tcp, packet->hash, packet->where, packet->what, packet->how))
		return 0;
	if (skb->gso_size && segment->payload > skb->gso_size) {
		segment->size = skb->gso_size;
		segment->packets = (segment->payload + segment->size - 1) / segment->size;
	}
	return 1;
}

/* Whether a SYN or a mere acknowledgement is the network's copy of the packet before. */
static __always_inline int fm_tcp_copied(const struct fm_tcp_cell *cell,
					 const struct fm_segment *segment, __u32 stamp)
{
	const struct fm_tcp_cold *mine = &cell->cold[segment->direction & 1];
	const struct fm_tcp_hot *me = &cell->hot[segment->direction & 1];
	const struct fm_tcp_hot *peer = &cell->hot[!(segment->direction & 1)];

	if (!(me->state & FM_STATE_KNOWN) || segment->end != me->next || !fm_tcp_copy(me, segment))
		return 0;
	if (segment->flags & FM_TCP_SYN)
		return stamp == mine->timed_stamp;
	return segment->ip_id && segment->seq == segment->end && segment->ack == peer->acked &&
	       segment->window == me->window && !(segment->flags & FM_TCP_RST);
}

/* A packet that has more to tell than that it came. 0: there was no cell for it. */
FM_GLOBAL int fm_tcp_event(struct __sk_buff *skb)
{
	struct fm_tcp_options *options;
	struct fm_segment *segment;
	struct fm_tcp_work *work;
	struct fm_tcp_hot *me, *peer;
	struct fm_tcp_cell *cell;
	struct fm_tcp_half *half;
	__u32 gap, zero = 0;
	int known;

	work = bpf_map_lookup_elem(&fm_tcp_scratch, &zero);
	if (!work)
		return 0;
	segment = &work->segment;
	options = &work->options;
	if (!fm_segment_read(skb, work))
		return 1; /* counted as cut */
	half = fm_tcp_half_at(segment->position, segment->direction);
	if (!half)
		return 0;
	cell = fm_tcp_cell_find(segment->tag, segment->tick);
	if (!cell) {
		half->notes |= FM_TCP_NOTE_MISSED;
		return 0;
	}
	me = &cell->hot[segment->direction & 1];
	peer = &cell->hot[!(segment->direction & 1)];
	known = me->state & FM_STATE_KNOWN;
	half->notes |= FM_TCP_NOTE_MEASURED;
	__builtin_memset(options, 0, offsetof(struct fm_tcp_options, octets));
	if (segment->options_length)
		fm_tcp_options_read(skb, segment->options_at, segment->options_length, options);
	fm_tcp_ecn(cell, half, segment);
	if (fm_tcp_copied(cell, segment, options->stamp)) {
		half->duplicates += segment->packets;
		return 1;
	}
	if (segment->flags & FM_TCP_SYN) {
		fm_tcp_syn(cell, half, segment, options);
	} else if (segment->flags & FM_TCP_RST) {
		if ((peer->state & (FM_STATE_SYN | FM_STATE_SYN_ACK)) == FM_STATE_SYN &&
		    !(me->state & FM_STATE_SYN) && !((me->state | peer->state) & FM_STATE_RST))
			half->refused++;
		me->state |= FM_STATE_RST;
	} else {
		__u32 before = me->next;

		fm_tcp_data(skb, cell, half, segment, options);
		if (before != me->next)
			fm_tcp_answer(cell, half, segment);
		if (segment->flags & FM_TCP_FIN)
			me->state |= FM_STATE_FIN;
	}
	if ((segment->flags & (FM_TCP_ACK | FM_TCP_RST)) == FM_TCP_ACK)
		fm_tcp_ack(cell, half, segment, options);
	if (!(segment->flags & (FM_TCP_SYN | FM_TCP_RST)))
		fm_tcp_window(cell, half, segment);
	gap = known ? segment->tick - me->last_tick : 0;
	if (gap > half->gap_ticks)
		half->gap_ticks = gap;
	if (gap > cell->gap[segment->direction & 1])
		cell->gap[segment->direction & 1] = gap < 0xff ? gap : 0xff;
	if (!(segment->flags & FM_TCP_SYN)) { /* the handshake is no pace */
		__u32 step = cell->phase[segment->direction & 1]++;

		if (step < FM_JITTER_TIMED)
			fm_tcp_jitter(&cell->cold[segment->direction & 1], half,
				      fm_segment_now(segment), step);
	}
	me->last_tick = segment->tick;
	me->mark = fm_segment_mark(segment);
	cell->cpu[segment->direction & 1] = segment->cpu;
	return 1;
}

#endif
