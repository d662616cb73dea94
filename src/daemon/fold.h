/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A conversation: what several CPUs' slots hold of one flow key, folded row by row as metrics.def
 * says. Called by the sweep (slots) and by the overflow reader (single packets).
 */
#ifndef FM_FOLD_H
#define FM_FOLD_H

#include <stdbool.h>
#include <stdint.h>

#include "bpf/abi.h"
#include "daemon/generation.h"

struct fm_conversation {
	struct fm_key key;
	struct fm_half half[2];	   /* SUM rows: since the last export */
	bool seen[2];		   /* the half counted a packet, ever */
	bool exported[2];	   /* part of the half was exported before */
	uint32_t mark_tick;	   /* when, if so */
	struct fm_tcp_half tcp[2]; /* SUM rows: since the last export; by who sent the packets */
	bool measured;		   /* there is something in tcp */
	struct fm_tunnel tunnel;   /* addr and id by endpoint of the key; type NONE: none */
};

/* Starts an empty conversation. */
void fm_fold_init(struct fm_conversation *conversation, const struct fm_key *key);

/*
 * Adds a slot; before: what of it was exported. *ret_now: its sums as they were read, to be kept
 * as exported when they are (a second reading could already be further).
 */
void fm_fold_slot(struct fm_conversation *conversation, const struct fm_slot *slot,
		  const struct fm_exported *before, struct fm_exported *ret_now);

/*
 * Adds what lies beside a slot that fm_fold_slot() added: its rows of tcp.def. before and ret_now
 * as there.
 */
void fm_fold_tcp(struct fm_conversation *conversation, const struct fm_slot *slot,
		 const struct fm_tcp_slot *tcp, const struct fm_tcp_exported *before,
		 struct fm_tcp_exported *ret_now);

/* Adds the tunnel of a slot; each direction may know its own id alone. */
void fm_fold_tunnel(struct fm_conversation *conversation, const struct fm_tunnel *tunnel);

/* Adds one half that was never exported. */
void fm_fold_half(struct fm_conversation *conversation, unsigned int direction,
		  const struct fm_half *half);

/* Adds one half to another by the rules of metrics.def. */
void fm_fold_merge(struct fm_half *into, const struct fm_half *from);

/* The same by the rules of tcp.def; the halves beside them as they are before they are merged. */
void fm_fold_tcp_merge(struct fm_tcp_half *into, const struct fm_tcp_half *from,
		       const struct fm_half *into_half, const struct fm_half *from_half);

/*
 * Ended by what its packets said: FIN both ways, RST, SCTP shutdown or abort. An aggregate does not
 * end with the flows in it.
 */
bool fm_fold_ended(const struct fm_conversation *conversation);

/* Had a packet a direction at most, and nothing of it was exported; an aggregate never is. */
bool fm_fold_brief(const struct fm_conversation *conversation);

/* Tick of the last packet in either direction. */
uint32_t fm_fold_last_tick(const struct fm_conversation *conversation);

/* Whether there is anything that was not exported. */
bool fm_fold_pending(const struct fm_conversation *conversation);

#endif
