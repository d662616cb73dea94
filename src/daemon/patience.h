/* SPDX-License-Identifier: Apache-2.0 */
/*
 * How long others wait for a sink without room: a second, and no more than a tenth of the time.
 * Kept by the courier of each sink. Times are CLOCK_MONOTONIC.
 */
#ifndef FM_PATIENCE_H
#define FM_PATIENCE_H

#include <stdbool.h>
#include <stdint.h>

/* What a transport that is up may lack. */
enum fm_hindrance {
	FM_HINDRANCE_NONE,
	FM_HINDRANCE_STALLED, /* nothing is taken */
	FM_HINDRANCE_SLOW,    /* less is taken than there is, and others no longer wait for it */
};

struct fm_patience {
	uint64_t looked_ns; /* when there was no room */
	uint64_t since_ns;  /* others wait since then; 0: nobody does */
	uint64_t waited_ns; /* not told yet */
	uint64_t debt_ns;   /* waited lately, */
	uint64_t paid_ns;   /* which gets less with time; did until now */
	bool is_spent;	    /* nobody waits for it, until fm_patience_restore() */
};

/* Whoever waited has waited till now. Returns whole milliseconds that are to be told. */
uint64_t fm_patience_settle(struct fm_patience *patience, uint64_t now_ns);

/* There is no room. Returns whether to wait for it. */
bool fm_patience_ask(struct fm_patience *patience, uint64_t now_ns);

/* Others, who have room, do wait since it was asked. */
void fm_patience_keep(struct fm_patience *patience);

/* There is much room again. */
void fm_patience_restore(struct fm_patience *patience);

#endif
