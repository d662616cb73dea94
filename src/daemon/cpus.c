/* SPDX-License-Identifier: Apache-2.0 */
/* CPUs: see cpus.h. */
#include "daemon/cpus.h"

#include <stdio.h>
#include <string.h>

#include "base/cleanup.h"

void fm_cpus_online(bool *online, unsigned int n)
{
	_fm_cleanup_fclose_ FILE *file = fopen("/sys/devices/system/cpu/online", "re");
	unsigned int first, last;
	int separator;

	if (!file) {
		memset(online, true, n);
		return;
	}
	memset(online, false, n);
	while (fscanf(file, "%u", &first) == 1) {
		last = first;
		separator = fgetc(file);
		if (separator == '-') {
			if (fscanf(file, "%u", &last) != 1)
				return;
			separator = fgetc(file);
		}
		for (unsigned int cpu = first; cpu <= last && cpu < n; cpu++)
			online[cpu] = true;
		if (separator != ',')
			return;
	}
}
