/* SPDX-License-Identifier: Apache-2.0 */
/* Packets of every kind, to be cut and mutated. Used by the tests that compare with the model. */
#ifndef FM_TESTS_CORPUS_H
#define FM_TESTS_CORPUS_H

#include "packet.h"

#define CORPUS_SIZE    62
#define CORPUS_TUNNELS 42 /* the first of those */

/* Packet number n of CORPUS_SIZE. */
void corpus_make(struct packet *p, unsigned int n);

#endif
