/* SPDX-License-Identifier: Apache-2.0 */
/* Takes off what a killed daemon left in the kernel: links, filters, pinned maps. Called by main.
 */
#ifndef FM_PURGE_H
#define FM_PURGE_H

#include <stdio.h>

#include "daemon/config.h"

/*
 * In this network namespace and in all that are named, and in the directory of the configuration.
 * Says what was removed. 0; -EBUSY, said: a daemon is running; or -errno, said.
 */
int fm_purge(const struct fm_config *config, FILE *out);

#endif
