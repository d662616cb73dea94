/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * What the daemon tells the programs: constants set before loading, which the verifier uses to
 * remove what is off, and settings that change while programs run. Part of flowmond.bpf.c.
 */
#ifndef FM_RODATA_BPF_H
#define FM_RODATA_BPF_H

#include "abi.h"

const volatile struct fm_rodata fm_ro = {.homes = 1, .tcp_cells = 1};
struct fm_live fm_live = {};

#endif
