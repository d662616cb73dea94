/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * Data below what was sent before: sent again and why, late, or a copy. Part of tcp.bpf.h.
 */
#ifndef FM_TCP_LOSS_BPF_H
#define FM_TCP_LOSS_BPF_H

#include "tcp-cell.bpf.h"
#include "tcp-options.bpf.h"

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

#endif
