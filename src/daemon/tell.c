/* SPDX-License-Identifier: Apache-2.0 */
/* What a collector is told beside flows: see tell.h. */
#include "daemon/tell.h"

#include <errno.h>
#include <net/if.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/clock.h"
#include "base/fnv.h"
#include "base/macro.h"
#include "daemon/status.h"

/* After a beginning and after changes, more of the same is waited for. */
#define DELAY_NS (1 * FM_NS_PER_S)
/* A collector that takes nothing may let so many records wait. */
#define ENTRIES_MAX 65536

enum kind {
	KIND_NAME,
	KIND_STATISTICS,
	KIND_CAUSE,
};

struct fm_tell_entry {
	enum kind kind;
	union {
		struct {
			uint32_t ifindex;
			char name[IFNAMSIZ];
			char description[64];
		} interface;
		struct fm_cause_record cause;
	};
};

void fm_tell_init(struct fm_tell *tell, const struct fm_sink_env *env, struct fm_session *session,
		  uint64_t interval_ns)
{
	*tell = (struct fm_tell){
		.env = env,
		.session = session,
		.interval_ns = interval_ns,
		.due_ns = UINT64_MAX,
		.names_due_ns = UINT64_MAX,
	};
}

void fm_tell_done(struct fm_tell *tell)
{
	free(tell->entries);
	*tell = (struct fm_tell){};
}

/* Makes room for one more at the end of the queue. */
static struct fm_tell_entry *push(struct fm_tell *tell, enum kind kind)
{
	struct fm_tell_entry *entry;

	if (tell->n - tell->first >= ENTRIES_MAX) {
		tell->dropped++;
		return NULL;
	}
	if (tell->n == tell->capacity && tell->first) {
		tell->n -= tell->first;
		memmove(tell->entries, tell->entries + tell->first,
			tell->n * sizeof(*tell->entries));
		tell->first = 0;
	}
	if (tell->n == tell->capacity) {
		size_t capacity = FM_MAX(2 * tell->capacity, (size_t)16);

		entry = reallocarray(tell->entries, capacity, sizeof(*entry));
		if (!entry) {
			tell->dropped++;
			return NULL;
		}
		tell->entries = entry;
		tell->capacity = capacity;
	}
	entry = &tell->entries[tell->n++];
	*entry = (struct fm_tell_entry){.kind = kind};
	return entry;
}

/* Takes out what is made anew when it is due: all of it, or names. */
static void forget(struct fm_tell *tell, bool names_only)
{
	size_t kept = tell->first;

	for (size_t i = tell->first; names_only && i < tell->n; i++)
		if (tell->entries[i].kind != KIND_NAME)
			tell->entries[kept++] = tell->entries[i];
	tell->n = kept;
}

void fm_tell_begun(struct fm_tell *tell, uint64_t now_ns)
{
	forget(tell, false);
	tell->told_names = 0;
	tell->due_ns = now_ns + DELAY_NS;
	tell->names_due_ns = UINT64_MAX;
}

void fm_tell_changed(struct fm_tell *tell, uint64_t now_ns)
{
	tell->names_due_ns = FM_MIN(tell->names_due_ns, now_ns + DELAY_NS);
}

static void push_name(const struct fm_interface_name *name, void *userdata)
{
	struct fm_tell_entry *entry = push(userdata, KIND_NAME);

	if (!entry)
		return;
	entry->interface.ifindex = name->ifindex;
	snprintf(entry->interface.name, sizeof(entry->interface.name), "%s", name->name);
	snprintf(entry->interface.description, sizeof(entry->interface.description), "%s",
		 name->description ? name->description : "");
}

/* Queues the names, unless they are those that were told and only a change was suspected. */
static void queue_names(struct fm_tell *tell, bool suspected)
{
	uint64_t now = FM_FNV_BEGIN;

	forget(tell, true);
	tell->env->for_each_interface(tell->env->userdata, push_name, tell);
	for (size_t i = tell->first; i < tell->n; i++)
		if (tell->entries[i].kind == KIND_NAME)
			now = fm_fnv(now, &tell->entries[i].interface,
				     sizeof(tell->entries[i].interface));
	if (suspected && now == tell->told_names)
		forget(tell, true);
	tell->told_names = now;
}

static void not_sent_cause(struct fm_cause_record *record, enum fm_not_sent cause,
			   const struct fm_sink_stats *sink)
{
	record->packets = sink->not_sent[cause].packets;
	record->octets = sink->not_sent[cause].octets;
	record->records = sink->not_sent[cause].records;
	snprintf(record->cause, sizeof(record->cause), "%s", fm_status_not_sent_name(cause));
	snprintf(record->class, sizeof(record->class), FM_CAUSE_NOT_SENT);
}

static void set_cause(struct fm_cause_record *record, enum fm_counter counter,
		      const struct fm_count *count)
{
	record->packets = count->packets;
	record->octets = count->octets;
	snprintf(record->cause, sizeof(record->cause), "%s", fm_status_counter_name(counter));
	snprintf(record->class, sizeof(record->class), "%s", fm_status_counter_class(counter));
}

static void push_cause(struct fm_tell *tell, const struct fm_cause_record *cause)
{
	struct fm_tell_entry *entry = push(tell, KIND_CAUSE);

	if (entry)
		entry->cause = *cause;
}

/* Options records have no packets. */
static void push_untold(struct fm_tell *tell, const struct fm_cause_record *base, const char *name,
			uint64_t records)
{
	struct fm_cause_record cause = *base;

	cause.records = records;
	snprintf(cause.cause, sizeof(cause.cause), "%s", name);
	snprintf(cause.class, sizeof(cause.class), FM_CAUSE_NOT_TOLD);
	push_cause(tell, &cause);
}

/* All causes since the start; also those at 0, which is news as well. */
static void queue_causes(struct fm_tell *tell, const struct fm_sink_stats *sink)
{
	struct fm_exporter_stats exporter = {};
	struct fm_counters counters = {};
	struct fm_cause_record base = {.direction = FM_CAUSE_ALL, .end_ns = fm_clock_realtime_ns()};

	if (!tell->env->counters)
		return;
	tell->env->exporter_stats(tell->env->userdata, &exporter);
	tell->env->counters(tell->env->userdata, &counters);
	base.start_ns = exporter.start_ns;
	for (unsigned int i = 0; i < _FM_COUNTER_MAX; i++) {
		struct fm_cause_record cause = base;

		set_cause(&cause, (enum fm_counter)i, &counters.count[i]);
		push_cause(tell, &cause);
	}
	for (unsigned int i = 0; i < _FM_NOT_SENT_MAX; i++) {
		struct fm_cause_record cause = base;

		not_sent_cause(&cause, (enum fm_not_sent)i, sink);
		push_cause(tell, &cause);
	}
	push_untold(tell, &base, "audits", sink->not_sent_audits);
	push_untold(tell, &base, "options", sink->untold_options);
}

static void cause_of_row(struct fm_cause_record *record, const struct fm_audit_row *row,
			 enum fm_counter counter)
{
	*record = (struct fm_cause_record){
		.ifindex = row->record.ifindex,
		.direction = row->record.direction,
		.start_ns = row->record.start_ns,
		.end_ns = row->record.end_ns,
	};
	set_cause(record, counter, &row->causes[counter]);
}

static bool has_cause(const struct fm_audit_row *row, unsigned int counter)
{
	return counter != FM_COUNTER_seen && row->causes[counter].packets;
}

size_t fm_tell_audit(struct fm_session *session, const struct fm_audit_row *row)
{
	uint64_t now = fm_clock_realtime_ns();
	size_t n = 1;

	if (fm_session_audit(session, &row->record, now) < 0)
		return 0;
	for (unsigned int i = 0; i < _FM_COUNTER_MAX; i++) {
		struct fm_cause_record record;

		if (!has_cause(row, i))
			continue;
		cause_of_row(&record, row, (enum fm_counter)i);
		n += fm_session_cause(session, &record, now) == 0;
	}
	return n;
}

static void queue_due(struct fm_tell *tell, uint64_t now_ns, const struct fm_sink_stats *sink)
{
	if (now_ns >= tell->due_ns) {
		tell->due_ns = now_ns + tell->interval_ns;
		tell->names_due_ns = UINT64_MAX;
		forget(tell, false);
		queue_names(tell, false);
		push(tell, KIND_STATISTICS);
		queue_causes(tell, sink);
	} else if (now_ns >= tell->names_due_ns) {
		tell->names_due_ns = UINT64_MAX;
		queue_names(tell, true);
	}
}

static void statistics(struct fm_tell *tell, const struct fm_sink_stats *sink)
{
	struct fm_exporter_stats exporter = {};

	tell->env->exporter_stats(tell->env->userdata, &exporter);
	fm_session_statistics(tell->session, &exporter, sink, fm_clock_realtime_ns());
}

static void hand_on(struct fm_tell *tell, const struct fm_tell_entry *entry,
		    const struct fm_sink_stats *sink)
{
	uint64_t now = fm_clock_realtime_ns();

	switch (entry->kind) {
	case KIND_NAME:
		fm_session_interface(tell->session, entry->interface.ifindex, entry->interface.name,
				     entry->interface.description, now);
		break;
	case KIND_STATISTICS:
		statistics(tell, sink);
		break;
	case KIND_CAUSE:
		fm_session_cause(tell->session, &entry->cause, now);
		break;
	}
}

bool fm_tell_waits(const struct fm_tell *tell)
{
	return tell->first < tell->n;
}

size_t fm_tell_some(struct fm_tell *tell, uint64_t now_ns, size_t room,
		    const struct fm_sink_stats *sink)
{
	size_t told = 0;

	queue_due(tell, now_ns, sink);
	for (; told < room && fm_tell_waits(tell); told++)
		hand_on(tell, &tell->entries[tell->first++], sink);
	if (told)
		fm_session_flush(tell->session, fm_clock_realtime_ns());
	if (!fm_tell_waits(tell))
		tell->first = tell->n = 0;
	return told;
}

void fm_tell_end(struct fm_tell *tell, const struct fm_sink_stats *sink)
{
	while (fm_tell_waits(tell))
		hand_on(tell, &tell->entries[tell->first++], sink);
	fm_session_flush(tell->session, fm_clock_realtime_ns());
	statistics(tell, sink);
}
