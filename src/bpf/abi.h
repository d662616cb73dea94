/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * The contract between the programs in the kernel and the daemon: flow key, slot, counters,
 * events, read-only configuration, limits and names. Compiled by both sides; the only header of
 * this folder, with gate.h and filter.h, beside hash.h and the *.def tables, that the daemon
 * includes.
 */
#ifndef FM_ABI_H
#define FM_ABI_H

#include <linux/types.h>

#include "places.h"

/* Changes with every change of a layout below; a table of another layout is drained, not reused. */
#define FM_LAYOUT 3

#define FM_SEEDS	   16
#define FM_MAX_VLAN_TAGS   3
#define FM_MAX_EXT_HEADERS 8

enum fm_hook {
	FM_HOOK_INGRESS = 0,
	FM_HOOK_EGRESS = 1,
	_FM_HOOK_MAX,
};

/* Ends that no TCP flag tells. */
#define FM_END_SCTP_SHUTDOWN 0x01
#define FM_END_SCTP_ABORT    0x02

/* Bit of fm_key.ifindex: under observe = every, the hook is part of the key. */
#define FM_KEY_EGRESS 0x80000000u

/*
 * The flow key: both directions of a conversation have the same one. Endpoint 0 is the smaller by
 * (address, port) in memory order; a packet's direction is the endpoint that sent it. IPv4
 * addresses are mapped (::ffff:a.b.c.d). Ports in network order. ICMP: the port of the sender is
 * type * 256 + code, that of the receiver the answer's, or 0xffff where there is none. Members that
 * are not part of the configured key are 0.
 */
#define FM_ICMP_NO_ANSWER    0xffff
#define FM_KEY_SAMPLER_SHIFT 4
struct fm_key {
	__u8 addr[2][16];
	__u16 port[2];
	__u8 protocol;
	__u8 family; /* 4 or 6; of an aggregate + FM_KEY_AGGREGATE(its kind), else + FM_KEY_COARSE
		      */
	__u8 tos;
	__u8 tunnel_type; /* enum fm_tunnel_type, and the sampler << FM_KEY_SAMPLER_SHIFT */
	__u16 vlan;
	__u16 cvlan;
	__u32 tunnel_id;
	__u32 ifindex;
};

/* One direction of a conversation. Written only by programs on the region's CPU. */
struct fm_half {
#define FM_METRIC(type, name, fold, help) type name;
#include "metrics.def"
#undef FM_METRIC
} __attribute__((aligned(64)));

struct fm_slot {
	struct fm_key key;
	__u32 tag;
	__u32 due_tick;	 /* program: when the daemon should next look at the slot */
	__u32 mark_tick; /* program at insert, then daemon: start or last active-timeout export */
	struct fm_half half[2];
} __attribute__((aligned(64)));

/* FM_TCP_METRIC options: seen in this side's segments. */
#define FM_TCP_OPTION_MSS	 0x01
#define FM_TCP_OPTION_SCALE	 0x02
#define FM_TCP_OPTION_SACK	 0x04 /* permitted */
#define FM_TCP_OPTION_TIMESTAMPS 0x08
#define FM_TCP_OPTION_MULTIPATH	 0x10 /* RFC 8684 */
#define FM_TCP_OPTION_FAST_OPEN	 0x20 /* RFC 7413 */
#define FM_TCP_OPTION_ACCECN	 0x40 /* RFC 9768 */

/* The same row where it is QUIC. */
#define FM_QUIC_DESTINATION 0x01 /* long headers have a destination connection id */

#define FM_TCP_ECN_ASKED     0x01 /* SYN that asks for classic ECN */
#define FM_TCP_ECN_AGREED    0x02 /* SYN-ACK that agrees */
#define FM_TCP_ACCECN_ASKED  0x04
#define FM_TCP_ACCECN_AGREED 0x08

#define FM_TCP_NOTE_MEASURED	0x01 /* there was a cell for at least one packet */
#define FM_TCP_NOTE_MISSED	0x02 /* a packet found no cell: the figures are too low */
#define FM_TCP_NOTE_MIDSTREAM	0x04 /* picked up without its handshake */
#define FM_TCP_NOTE_SYN		0x08 /* this side sent a SYN without ACK */
#define FM_TCP_NOTE_SYN_ACK	0x10
#define FM_TCP_NOTE_SOCKET	0x20 /* kinds of retransmission as the local socket says */
#define FM_TCP_NOTE_QUIC	0x40 /* QUIC, not TCP */
#define FM_TCP_NOTE_QUIC_SOURCE 0x80 /* its long headers have a source connection id */

/* One direction's part of what is measured beyond packets; beside the slot in a region of its own.
 */
struct fm_tcp_half {
#define FM_TCP_METRIC(type, name, fold, help) type name;
#include "tcp.def"
#undef FM_TCP_METRIC
} __attribute__((aligned(64)));

struct fm_tcp_slot {
	struct fm_tcp_half half[2];
};

/* A connection's state while it is measured, shared by all CPUs: the programs' own. */
#define FM_CELL_OCTETS 192
#define FM_CELL_PROBES 8

/* What carries a conversation, if it is told apart by its inner headers; beside its slot. */
enum fm_tunnel_type {
	FM_TUNNEL_NONE = 0,
	FM_TUNNEL_VXLAN = 1,
	FM_TUNNEL_GENEVE = 2,
	FM_TUNNEL_GRE = 3,
	FM_TUNNEL_NVGRE = 4,
	FM_TUNNEL_IPIP = 5,  /* IPv4 in IPv4 or IPv6 */
	FM_TUNNEL_IP6IP = 6, /* IPv6 in IPv4 (6in4) or IPv6 */
	FM_TUNNEL_GTPU = 7,
	FM_TUNNEL_MPLS_UDP = 8, /* RFC 7510 */
};

/* UDP ports behind which a tunnel is looked for. */
#define FM_PORT_VXLAN	  4789
#define FM_PORT_VXLAN_OLD 8472
#define FM_PORT_GENEVE	  6081
#define FM_PORT_GTPU	  2152
#define FM_PORT_MPLS_UDP  6635

#define FM_TUNNEL_NO_ID 0xffffffffu

struct fm_tunnel {
	__u8 addr[2][16]; /* outer source and destination of one packet; of a slot, by endpoint */
	__u32 id[2];	  /* VNI, key, TEID by direction; FM_TUNNEL_NO_ID: none */
	__u8 type;	  /* enum fm_tunnel_type */
	__u8 family;	  /* of the outer addresses: 4 or 6 */
	__u16 unused;
	__u32 unused2;
} __attribute__((aligned(16)));

/* A packet that found no slot, as it travels on the overflow ring. */
struct fm_overflow {
	struct fm_key key;
	__u32 direction;
	struct fm_half half;
};

struct fm_count {
	__u64 packets;
	__u64 octets;
};

enum fm_counter {
#define FM_COUNTER(name, class, help) FM_COUNTER_##name,
#include "counters.def"
#undef FM_COUNTER
	_FM_COUNTER_MAX,
};

#include "gate.h"

#include "filter.h"

/* Value of the interface table: whether a packet that came in there was counted then. */
enum fm_seen {
	FM_SEEN_NO = 0,	    /* nor is it in the table */
	FM_SEEN_YES = 1,    /* hooked at ingress, or stacked on what is */
	FM_SEEN_MARKED = 2, /* on its way to that or from it: if the packet bears the mark */
};

/*
 * While hooks come and go, those concerned mark the packets that they count, so that the next one
 * on the way knows: in tc_index, which the kernel keeps with a packet for what is at TC hooks. Half
 * of it is left to others.
 */
#define FM_MARK_BITS  0xff00u
#define FM_MARK_SHIFT 8

/* Read-only configuration: constants to the verifier. */
struct fm_rodata {
	__u64 seed[FM_SEEDS];
	__u32 homes;	    /* homes a region, > 0 */
	__u32 ifindex_base; /* added to every ifindex: tells network namespaces apart */
	__u8 observe_every; /* each hook counts for itself */
	__u8 key_vlan;
	__u8 key_interface;
	__u8 key_tos;
	__u8 tunnel;		 /* enum fm_tunnel_key */
	__u8 tcp;		 /* measure TCP and QUIC */
	__u8 coarse;		 /* bits of enum fm_coarse; 0: keys are whole */
	__u8 has_prefixes;	 /* addresses are looked for in fm_prefixes first */
	__u8 prefix_length[2];	 /* of IPv4 and IPv6 */
	__u64 prefix_mask[2][2]; /* the same of mapped addresses, in network order */
	__u32 tcp_cells;
	__u32 timeout_ticks; /* a sender that was silent this long had a timeout (RFC 6298: 200 ms)
			      */
};

/* Value of the trie of prefixes, whose keys are struct fm_filter_net. */
struct fm_prefix_value {
	__u64 mask[2]; /* network order */
	__u32 number;  /* in place of the address; 0: its prefix is */
	__u8 length;   /* as the family counts */
	__u8 unused[3];
};

/* Which headers a flow is keyed by. */
enum fm_tunnel_key {
	FM_TUNNEL_KEY_OUTER,
	FM_TUNNEL_KEY_INNER,
	FM_TUNNEL_KEY_BOTH,
};

/* A cell of fm_live.seen that more than one interface falls into: the interface table tells. */
#define FM_SEEN_SHARED	      0xffffffffu
#define FM_SEEN_CELLS	      1024
#define FM_SEEN_CELL(ifindex) ((__u32)((ifindex)*0x9e3779b1u) >> 22)

/* Settings that change while programs run; times in ticks. */
struct fm_live {
	__u32 idle_ticks;
	__u32 linger_ticks;
	__u32 brief_ticks; /* in place of idle_ticks for a direction's first packet; 0: not */
	__u32 placeless;   /* set by the programs: a packet found no slot, nor room on the ring */
	__u32 mark;	   /* of FM_MARK_BITS, never 0 */
	__u32 filter;	   /* 1 + the bank of the rules that hold (filter.h); 0: none */
	__u32 others;	   /* FM_GATE_MARKS or 0: of the interfaces without a gate */
	/* The interface table in short: the only index of a cell that is there, 0: none is. */
	__u32 seen[FM_SEEN_CELLS];
	/* FM_GATE_ENTRY of the hooked interfaces, 0: none. */
	__u64 gates[FM_GATE_HOMES];
};

/* What the clock program answers: the two clocks of the slots at one moment. */
struct fm_clock {
	__u64 tick;
	__u64 monotonic_ns;
};

#endif
