/* SPDX-License-Identifier: Apache-2.0 */
/* Losses in the log: see losses.h. */
#include "daemon/losses.h"

#include <inttypes.h>
#include <stdio.h>
#include <string.h>

#include "base/log.h"
#include "base/macro.h"
#include "daemon/status.h"

/* A cause that has not grown for so long has ended. */
#define QUIET_NS (10 * FM_NS_PER_S)

/* Fields for those who search the journal. */
static void say(enum fm_counter cause, int priority, const char *state,
		const struct fm_count *count, uint64_t duration_ns)
{
	const char *name = fm_status_counter_name(cause);
	char packets[24], octets[24];
	const struct fm_log_field fields[] = {
		{"FLOWMOND_CAUSE", name},
		{"FLOWMOND_STATE", state},
		{"FLOWMOND_PACKETS", packets},
		{"FLOWMOND_OCTETS", octets},
	};

	snprintf(packets, sizeof(packets), "%llu", count->packets);
	snprintf(octets, sizeof(octets), "%llu", count->octets);
	if (!strcmp(state, "begun"))
		fm_log_with(priority, fields, FM_ARRAY_SIZE(fields), "%s has begun to grow: %s",
			    name, fm_status_counter_help(cause));
	else
		fm_log_with(priority, fields, FM_ARRAY_SIZE(fields),
			    "%s has ended: %s packets, %s octets in %" PRIu64 " s", name, packets,
			    octets, duration_ns / FM_NS_PER_S);
}

static void look(struct fm_losses *losses, enum fm_counter cause, const struct fm_count *now,
		 uint64_t now_ns, int priority)
{
	struct fm_count *last = &losses->cause[cause].count;
	struct fm_count *before = &losses->cause[cause].before;
	bool grows = losses->known && now->packets != last->packets;
	bool *growing = &losses->cause[cause].growing;

	if (grows) {
		losses->cause[cause].grew_ns = now_ns;
		if (!*growing) {
			struct fm_count first = {now->packets - last->packets,
						 now->octets - last->octets};

			*before = *last;
			losses->cause[cause].began_ns = now_ns;
			say(cause, priority, "begun", &first, 0);
		}
		*growing = true;
	} else if (*growing && now_ns - losses->cause[cause].grew_ns >= QUIET_NS) {
		struct fm_count all = {now->packets - before->packets,
				       now->octets - before->octets};

		*growing = false;
		say(cause, LOG_NOTICE, "ended", &all,
		    losses->cause[cause].grew_ns - losses->cause[cause].began_ns);
	}
	*last = *now;
}

void fm_losses_look(struct fm_losses *losses, const struct fm_counters *counters, uint64_t now_ns)
{
	for (unsigned int i = 0; i < _FM_COUNTER_MAX; i++) {
		const char *class = fm_status_counter_class((enum fm_counter)i);

		if (!strcmp(class, "LOST"))
			look(losses, (enum fm_counter)i, &counters->count[i], now_ns, LOG_WARNING);
		else if (!strcmp(class, "AGGREGATED"))
			look(losses, (enum fm_counter)i, &counters->count[i], now_ns, LOG_NOTICE);
	}
	losses->known = true;
}
