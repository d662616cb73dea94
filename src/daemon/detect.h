/* SPDX-License-Identifier: Apache-2.0 */
/* flowmond --check: what this kernel and these privileges allow, in words. Called by main. */
#ifndef FM_DETECT_H
#define FM_DETECT_H

#include <stdio.h>

/*
 * Tries every row of features.def and prints a line each. Returns 0 where flowmond can run, 1 where
 * something it needs is missing, -errno where that could not be found out.
 */
int fm_detect_print(FILE *out);

#endif
