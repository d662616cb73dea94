/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A BPF ring buffer, read without being consumed: what was read stays until it is said to be done
 * with, which libbpf's reader does not offer. Used by overflow.c.
 */
#ifndef FM_RING_H
#define FM_RING_H

#include <stddef.h>
#include <stdint.h>

#include "base/cleanup.h"

struct fm_ring;

/* fd: a map of type BPF_MAP_TYPE_RINGBUF, which stays the caller's. 0 or -errno. */
int fm_ring_new(struct fm_ring **ret, int fd);
struct fm_ring *fm_ring_free(struct fm_ring *ring);
FM_DEFINE_CLEANUP(struct fm_ring *, fm_ring_free)

/*
 * The next event that was not read; valid until it is consumed. NULL: there is none, or it is being
 * written.
 */
const void *fm_ring_read(struct fm_ring *ring, size_t *ret_size);

/* Octets of events, with their headers, that were not read. */
size_t fm_ring_waiting(const struct fm_ring *ring);

/* Behind what was read; all before it can be consumed. */
uint64_t fm_ring_position(const struct fm_ring *ring);

/* Gives everything before position back to the programs. A position that cannot be is ignored. */
void fm_ring_consume(struct fm_ring *ring, uint64_t position);

#endif
