/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What outlives a process, without a kernel: maps are files in memory, and the store is a list.
 * keep.c stands in for libbpf's calls and for daemon/store.c.
 */
#ifndef FM_FUZZ_KEEP_H
#define FM_FUZZ_KEEP_H

#include <stddef.h>
#include <stdint.h>

#include "daemon/store.h"

/* The one store; its address says nothing. */
struct fm_store *keep_store(void);

/* The memory of what the store has under a name, to be garbled; NULL: nothing. */
void *keep_memory(const char *name, size_t *ret_octets);

/* Maps a ring buffer of so many octets (pages, a power of two) can be read from. Descriptor. */
int keep_ring(size_t octets);

#endif
