/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The kernel half compiled for user space, with maps that are memory. kernel.c also has what
 * compare.h asks of a harness, so that the model judges these programs as it does the real ones.
 */
#ifndef FM_FUZZ_KERNEL_H
#define FM_FUZZ_KERNEL_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "bpf/abi.h"

#define KERNEL_HOMES 64

struct kernel_packet {
	const uint8_t *data;
	size_t length;
	size_t linear; /* octets that programs read directly; the rest is only to be copied */
	enum fm_hook hook;
	bool layer3;
	uint16_t type; /* skb->protocol, host order */
	bool tagged;   /* a tag beside the data */
	uint16_t tci;
	uint32_t ifindex, ingress_ifindex;
	uint32_t gso_size, gso_segs;
};

/* Programs with this configuration, tables empty. */
void kernel_load(const struct fm_rodata *options);

/* Empties tables and counters. */
void kernel_reset(void);

/* Whether packets from the interface were counted at its ingress. */
void kernel_set_seen(uint32_t ifindex, bool seen);

/* Whether there is room on the overflow ring. */
void kernel_set_ring(bool room);

/* Runs the hook's program; what it read behind the packet's end is found by the sanitizer. */
void kernel_run(const struct kernel_packet *packet);

#endif
