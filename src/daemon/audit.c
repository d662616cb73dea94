/* SPDX-License-Identifier: Apache-2.0 */
/* The audit: see audit.h. */
#include "daemon/audit.h"

#include <string.h>

#include "base/macro.h"
#include "daemon/status.h"

/* An interface that could not be read; also the value that says absent in a record. */
#define UNKNOWN UINT64_MAX
/* What passes between two readings makes them differ: so often it is tried to have none. */
#define TRIES 3

/* The interface's counters and the program's at one moment, as far as that is possible. */
static void look(const struct fm_audit *audit, unsigned int gate, enum fm_hook hook,
		 uint64_t now_ns, struct fm_gate_mark *ret)
{
	uint32_t ifindex = fm_gates_account(audit->gates, gate)->ifindex;
	struct fm_gate_mark mark = {.time_ns = now_ns};
	struct fm_counters before;

	for (unsigned int i = 0; i < TRIES; i++) {
		mark.frames = mark.frame_octets = UNKNOWN;
		fm_gates_sum(audit->gates, gate, hook, &before);
		if (gate != FM_GATE_OTHERS) {
			uint64_t frames, octets;

			if (audit->read(audit->userdata, ifindex, hook, &frames, &octets) == 0) {
				mark.frames = frames;
				mark.frame_octets = octets;
			}
		}
		fm_gates_sum(audit->gates, gate, hook, &mark.counters);
		if (mark.counters.frames == before.frames)
			break;
	}
	*ret = mark;
}

static struct fm_count class_sum(const struct fm_counters *counters, const char *class)
{
	return fm_status_class_sum(counters, class);
}

void fm_audit_classes(struct fm_audit_record *record, const struct fm_counters *counters)
{
	struct fm_count seen = class_sum(counters, "SEEN"), again = class_sum(counters, "AGAIN");
	struct fm_count ignored = class_sum(counters, "IGNORED");
	struct fm_count lost = class_sum(counters, "LOST");
	struct fm_count aggregated = class_sum(counters, "AGGREGATED");

	record->frames = counters->frames;
	record->frame_octets = counters->frame_octets;
	record->seen_packets = seen.packets;
	record->seen_octets = seen.octets;
	record->again_packets = again.packets;
	record->again_octets = again.octets;
	record->ignored_packets = ignored.packets;
	record->ignored_octets = ignored.octets;
	record->lost_packets = lost.packets;
	record->lost_octets = lost.octets;
	record->aggregated_packets = aggregated.packets;
	record->aggregated_octets = aggregated.octets;
	record->packets =
		seen.packets - again.packets - ignored.packets - lost.packets - aggregated.packets;
	record->octets =
		seen.octets - again.octets - ignored.octets - lost.octets - aggregated.octets;
}

/* What a counter went on by; a counter that began anew says nothing. */
static uint64_t went_on(uint64_t from, uint64_t to)
{
	return from == UNKNOWN || to == UNKNOWN || to < from ? UNKNOWN : to - from;
}

static void tell(const struct fm_audit *audit, uint32_t ifindex, enum fm_hook hook,
		 const struct fm_gate_mark *from, const struct fm_gate_mark *to)
{
	struct fm_counters counters = to->counters;
	struct fm_audit_row row = {};

	fm_counters_subtract(&counters, &from->counters);
	row.record.ifindex = ifindex;
	row.record.direction = (uint8_t)hook;
	row.record.start_ns = from->time_ns;
	row.record.end_ns = to->time_ns;
	row.record.interface_frames = went_on(from->frames, to->frames);
	row.record.interface_octets = went_on(from->frame_octets, to->frame_octets);
	fm_audit_classes(&row.record, &counters);
	memcpy(row.causes, counters.count, sizeof(row.causes));
	audit->tell(audit->userdata, &row);
}

/* Ends an interval and begins the next. */
static void turn(const struct fm_audit *audit, unsigned int gate, enum fm_hook hook,
		 uint64_t now_ns)
{
	struct fm_gate *account = fm_gates_account(audit->gates, gate);
	struct fm_gate_mark *mark = &account->audited[hook], now;

	look(audit, gate, hook, now_ns, &now);
	/* Of those without a gate only what came is news. */
	if (gate != FM_GATE_OTHERS || now.counters.frames != mark->counters.frames)
		tell(audit, account->ifindex, hook, mark, &now);
	*mark = now;
}

static bool is_followed(const struct fm_audit *audit, unsigned int gate, enum fm_hook hook)
{
	return gate == FM_GATE_OTHERS || fm_gates_is_open(audit->gates, gate, hook);
}

void fm_audit_follow(const struct fm_audit *audit, uint64_t now_ns)
{
	for (unsigned int gate = 0; gate < FM_GATES; gate++)
		for (int hook = 0; hook < _FM_HOOK_MAX; hook++) {
			struct fm_gate_mark *mark =
				&fm_gates_account(audit->gates, gate)->audited[hook];

			if (is_followed(audit, gate, (enum fm_hook)hook) && !mark->time_ns)
				look(audit, gate, (enum fm_hook)hook, now_ns, mark);
		}
}

void fm_audit_run(const struct fm_audit *audit, uint64_t now_ns)
{
	fm_audit_follow(audit, now_ns);
	for (unsigned int gate = 0; gate < FM_GATES; gate++)
		for (int hook = 0; hook < _FM_HOOK_MAX; hook++) {
			struct fm_gate_mark *mark =
				&fm_gates_account(audit->gates, gate)->audited[hook];

			/* Begun now, or nothing to end. */
			if (!mark->time_ns || mark->time_ns == now_ns)
				continue;
			turn(audit, gate, (enum fm_hook)hook, now_ns);
			/* An interface that went while nobody looked. */
			if (!is_followed(audit, gate, (enum fm_hook)hook))
				*mark = (struct fm_gate_mark){};
		}
}

void fm_audit_end(const struct fm_audit *audit, uint32_t ifindex, enum fm_hook hook,
		  uint64_t now_ns)
{
	unsigned int gate = fm_gates_find(audit->gates, ifindex);
	struct fm_gate_mark *mark = &fm_gates_account(audit->gates, gate)->audited[hook];

	if (gate == FM_GATE_OTHERS || !mark->time_ns)
		return;
	turn(audit, gate, hook, now_ns);
	*mark = (struct fm_gate_mark){};
}
