/* SPDX-License-Identifier: Apache-2.0 */
/* Which CPUs are there. Called by generations, which gives each a table. */
#ifndef FM_CPUS_H
#define FM_CPUS_H

#include <stdbool.h>

/* Says of CPUs 0 to n - 1 whether they are online, from /sys; every CPU if that cannot be read. */
void fm_cpus_online(bool *online, unsigned int n);

#endif
