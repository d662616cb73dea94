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

#include "tcp-cell.bpf.h"
#include "tcp-loss.bpf.h"
#include "tcp-options.bpf.h"

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
		return stamp == mine->timed_stamp && /* nor is a SYN-ACK the copy of a SYN */
		       !(segment->flags & FM_TCP_ACK) == !(me->state & FM_STATE_SYN_ACK);
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
