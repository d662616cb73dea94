/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * QUIC recognised by its long headers (RFC 8999 5.1: version, connection ids), and round trips by
 * the spin bit of its short ones (RFC 9000 17.4, RFC 9312 3.8). Called by flowmond.bpf.c for UDP
 * packets that went into a slot, if fm_ro.tcp. State lies in the cells of tcp.bpf.h.
 */
#ifndef FM_QUIC_BPF_H
#define FM_QUIC_BPF_H

#include "tcp.bpf.h"

#define FM_QUIC_LONG  0x80
#define FM_QUIC_FIXED 0x40
#define FM_QUIC_SPIN  0x20
/* First octet, version, length of the destination connection id. */
#define FM_QUIC_HEADER	 6
#define FM_QUIC_ID_MAX	 20
#define FM_STATE_SPIN	 0x02 /* in place of FM_STATE_SYN: the last short header's bit */
#define FM_UDP_HEADER	 8
#define FM_QUIC_GREASE	 0x0a0a0a0a
#define FM_QUIC_GREASED	 0x0f0f0f0f
#define FM_QUIC_V1	 0x00000001
#define FM_QUIC_V2	 0x6b3343cf /* RFC 9369 */
#define FM_QUIC_DRAFTS	 0xff0000   /* draft-ietf-quic-transport-* */
#define FM_QUIC_GOOGLE	 0x5130	    /* Q0.. */
#define FM_QUIC_GOOGLE_T 0x5430	    /* T0.. */
#define FM_QUIC_MVFST	 0xfaceb0

static __always_inline int fm_quic_version_known(__u32 version)
{
	return version == FM_QUIC_V1 || version == FM_QUIC_V2 || version >> 8 == FM_QUIC_DRAFTS ||
	       version >> 16 == FM_QUIC_GOOGLE || version >> 16 == FM_QUIC_GOOGLE_T ||
	       version >> 8 == FM_QUIC_MVFST || (version & FM_QUIC_GREASED) == FM_QUIC_GREASE;
}

/* A long header at offset, with octets behind it: 0 if it is none of QUIC. */
static __always_inline int fm_quic_long(struct __sk_buff *skb, __u32 offset, __u32 octets,
					struct fm_tcp_half *half)
{
	__u8 header[FM_QUIC_HEADER], source = 0;
	__u32 version;

	if (octets < FM_QUIC_HEADER + 1 || bpf_skb_load_bytes(skb, offset, header, sizeof(header)))
		return 0;
	version =
		(__u32)header[1] << 24 | (__u32)header[2] << 16 | (__u32)header[3] << 8 | header[4];
	if (!fm_quic_version_known(version) || header[5] > FM_QUIC_ID_MAX ||
	    octets < FM_QUIC_HEADER + 1 + header[5] ||
	    bpf_skb_load_bytes(skb, offset + FM_QUIC_HEADER + header[5], &source, 1) ||
	    source > FM_QUIC_ID_MAX)
		return 0;
	half->quic_version = version;
	half->notes |= FM_TCP_NOTE_QUIC;
	if (source)
		half->notes |= FM_TCP_NOTE_QUIC_SOURCE;
	if (header[5])
		half->options |= FM_QUIC_DESTINATION;
	return 1;
}

/* The slot knows from now on that its packets are looked at. */
static __always_inline void fm_quic_mark(__u32 position, __u32 direction)
{
	struct fm_slot *slot = fm_beside(&fm_table, position);

	if (slot)
		slot->half[direction & 1].quic = 1;
}

/* FM_COLD_AMBIGUOUS here: a change was seen. The bit changed: one round trip after it changed
 * before. */
static __always_inline void fm_quic_spin(struct fm_tcp_hot *me, struct fm_tcp_cold *mine,
					 struct fm_tcp_half *half, __u8 spin)
{
	__u32 now = fm_now(), us = fm_span_us(now - mine->timed_at);

	if (mine->notes & FM_COLD_AMBIGUOUS) { /* there was a change before */
		half->rtt_sum_us += us;
		half->rtt_samples++;
		if (~us > half->rtt_low)
			half->rtt_low = ~us;
		if (us > half->rtt_max_us)
			half->rtt_max_us = us;
	}
	mine->timed_at = now;
	if (me->state & FM_STATE_KNOWN)
		mine->notes |= FM_COLD_AMBIGUOUS;
	me->state = FM_STATE_KNOWN | (spin ? FM_STATE_SPIN : 0);
}

/* A UDP packet. 0: it should have been measured, but there was no cell. */
FM_GLOBAL int fm_quic_packet(struct __sk_buff *skb, struct fm_tcp_packet *packet)
{
	__u32 position, tick, offset, octets, direction, gap, ecn, step, segments = 1;
	struct fm_tcp_half *half;
	struct fm_tcp_cell *cell;
	struct fm_tcp_hot *me;
	__u8 first, spin;

	if (!packet)
		return 1;
	position = packet->where >> 32;
	tick = packet->where;
	offset = (packet->what & 0xffff) + FM_UDP_HEADER;
	octets = packet->what >> 32;
	direction = packet->how & FM_HOW_DIRECTION;
	half = fm_tcp_half_at(position, direction);
	if (!half || octets <= FM_UDP_HEADER || bpf_skb_load_bytes(skb, offset, &first, 1))
		return 1;
	octets -= FM_UDP_HEADER;
	if (first & FM_QUIC_LONG) {
		if (!fm_quic_long(skb, offset, octets, half))
			return 1;
		fm_quic_mark(position, direction);
	} else if (!(half->notes & FM_TCP_NOTE_QUIC) || !(first & FM_QUIC_FIXED)) {
		return 1;
	}
	cell = fm_tcp_cell_find(packet->hash | 1, tick);
	if (!cell) {
		half->notes |= FM_TCP_NOTE_MISSED;
		return 0;
	}
	half->notes |= FM_TCP_NOTE_MEASURED;
	me = &cell->hot[direction];
	if (skb->gso_size && octets > skb->gso_size)
		segments = (octets + skb->gso_size - 1) / skb->gso_size;
	ecn = packet->how >> FM_HOW_ECN_SHIFT & 3;
	if (ecn)
		half->ect += segments;
	if (ecn == 3)
		half->ce += segments;
	spin = first & FM_QUIC_SPIN ? FM_STATE_SPIN : 0;
	if (!(first & FM_QUIC_LONG) &&
	    (!(me->state & FM_STATE_KNOWN) || (me->state & FM_STATE_SPIN) != spin))
		fm_quic_spin(me, &cell->cold[direction], half, spin);
	gap = tick - me->last_tick;
	if (gap > half->gap_ticks)
		half->gap_ticks = gap;
	step = cell->phase[direction]++;
	if (step < FM_JITTER_TIMED)
		fm_tcp_jitter(&cell->cold[direction], half, fm_now(), step);
	me->last_tick = tick;
	return 1;
}

#endif
