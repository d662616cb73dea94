/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * What is counted of each interface: counters, the gates they belong to, the daemon's account of
 * them. Part of abi.h.
 */
#ifndef FM_GATE_H
#define FM_GATE_H

#include "abi.h"

/* What one CPU counted at one hook of one interface. */
struct fm_counters {
	__u64 frames;	    /* what came to the hook, as the interface's own counters count it */
	__u64 frame_octets; /* with the link-layer header, without a tag beside the data */
	struct fm_count count[_FM_COUNTER_MAX];
} __attribute__((aligned(64)));

/*
 * Gates: each hooked interface counts at one of its own, those that found none at gate 0. An
 * interface's gate stands in fm_live.gates at its home or little behind it. Counters lie in one
 * array, by CPU, gate and hook. Behind those of the CPUs are two more, what was taken over from
 * programs of another layout, and there are two banks of accounts: one of each counts.
 */
#define FM_GATES		     256
#define FM_GATE_BANKS		     2
#define FM_GATE_OTHERS		     0
#define FM_GATE_HOMES		     1024
#define FM_GATE_PROBES		     4
#define FM_GATE_HOME(ifindex)	     (((ifindex) ^ (ifindex) >> 16) & (FM_GATE_HOMES - 1))
#define FM_GATE_ENTRY(ifindex, gate) ((__u64)(ifindex) << 32 | (gate))
#define FM_GATE_OF(entry)	     ((entry) & (FM_GATES - 1))
/* In an entry: its hooks mark packets (abi.h). No element of an array of counters is as high. */
#define FM_GATE_MARKS			 (1u << 24)
#define FM_GATE_ELEMENT(cpu, gate, hook) (((cpu)*FM_GATES + (gate)) * _FM_HOOK_MAX + (hook))

/* What an interface's own counters and its gate said at one moment. */
struct fm_gate_mark {
	__u64 time_ns; /* since 1970; 0: never looked */
	__u64 frames, frame_octets;
	struct fm_counters counters;
};

/* The daemon's account of a gate. */
struct fm_gate {
	__u32 ifindex; /* whose it is or was last; 0: nobody's yet */
	__u32 unused;
	struct fm_counters before[_FM_HOOK_MAX]; /* what was counted here for others before */
	struct fm_gate_mark audited[_FM_HOOK_MAX];
};

#endif
