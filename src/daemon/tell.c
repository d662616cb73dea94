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

/* In the order in which they are told. */
enum kind {
	KIND_NAME,
	KIND_DEVICE,
	KIND_VRF,
	KIND_APPLICATION,
	KIND_STATISTICS,
	KIND_CAUSE,
	KIND_TYPE,
	_KIND_MAX,
};

_Static_assert(_KIND_MAX <= FM_TELL_KINDS, "kinds");

struct fm_tell_entry {
	enum kind kind;
	union {
		struct fm_device_record device; /* of names as well */
		struct fm_vrf_record vrf;
		struct fm_application_record application;
		struct fm_cause_record cause;
		size_t type;
	};
};

struct kind_row {
	/* Puts all there is to tell of the kind at the end of the queue. */
	void (*queue)(struct fm_tell *tell, const struct fm_sink_stats *sink);
	void (*hand_on)(struct fm_tell *tell, const struct fm_tell_entry *entry,
			const struct fm_sink_stats *sink);
	bool is_name; /* told when it changes, and in files */
	bool is_type; /* told with the templates, not with the others */
};

static const struct kind_row kinds[_KIND_MAX];

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
	memset(entry, 0, sizeof(*entry)); /* with what lies between members: it is digested */
	entry->kind = kind;
	return entry;
}

/* Takes the entries of a kind out that wait before position end. */
static void forget(struct fm_tell *tell, enum kind kind, size_t end)
{
	size_t kept = tell->first;

	for (size_t i = tell->first; i < tell->n; i++)
		if (i >= end || tell->entries[i].kind != kind)
			tell->entries[kept++] = tell->entries[i];
	tell->n = kept;
}

void fm_tell_begun(struct fm_tell *tell, uint64_t now_ns)
{
	tell->n = tell->first;
	memset(tell->told, 0, sizeof(tell->told));
	tell->due_ns = now_ns + DELAY_NS;
	tell->names_due_ns = UINT64_MAX;
}

void fm_tell_changed(struct fm_tell *tell, uint64_t now_ns)
{
	tell->names_due_ns = FM_MIN(tell->names_due_ns, now_ns + DELAY_NS);
}

/*
 * Queues all of a kind in place of what waits of it; unless it was told, or waits, just so and only
 * a change is suspected.
 */
static void queue_kind(struct fm_tell *tell, enum kind kind, bool suspected,
		       const struct fm_sink_stats *sink)
{
	size_t before = tell->n - tell->first, end; /* the queue may move while it grows */
	uint64_t now = FM_FNV_BEGIN;

	kinds[kind].queue(tell, sink);
	end = tell->first + before;
	for (size_t i = end; i < tell->n; i++)
		now = fm_fnv(now, &tell->entries[i], sizeof(tell->entries[i]));
	if (suspected && now == tell->told[kind])
		tell->n = end;
	else
		forget(tell, kind, end);
	tell->told[kind] = now;
}

static void copy_text(char *ret, size_t size, const char *text)
{
	memcpy(ret, text, strnlen(text, size - 1));
}

static void set_device(struct fm_device_record *ret, const struct fm_interface_name *name)
{
	ret->ifindex = name->ifindex;
	ret->vrf = name->vrf;
	ret->speed = name->speed ? name->speed : UINT64_MAX;
	copy_text(ret->name, sizeof(ret->name), name->name);
	copy_text(ret->alias, sizeof(ret->alias), name->description ? name->description : "");
	copy_text(ret->namespace, sizeof(ret->namespace), name->namespace ? name->namespace : "");
}

static void push_device(const struct fm_interface_name *name, void *userdata)
{
	struct fm_tell_entry *entry = push(userdata, KIND_DEVICE);

	if (entry)
		set_device(&entry->device, name);
}

static void queue_devices(struct fm_tell *tell, const struct fm_sink_stats *sink)
{
	tell->env->for_each_interface(tell->env->userdata, push_device, tell);
}

/* Only what is told in that form: a speed that changes is not told twice. */
static void push_name(const struct fm_interface_name *name, void *userdata)
{
	const struct fm_interface_name less = {
		.ifindex = name->ifindex,
		.name = name->name,
		.description = name->description,
	};
	struct fm_tell_entry *entry = push(userdata, KIND_NAME);

	if (entry)
		set_device(&entry->device, &less);
}

static void queue_names(struct fm_tell *tell, const struct fm_sink_stats *sink)
{
	tell->env->for_each_interface(tell->env->userdata, push_name, tell);
}

static void queue_vrfs(struct fm_tell *tell, const struct fm_sink_stats *sink)
{
	const struct fm_vrf_record *vrfs;
	size_t n = fm_naming_vrfs(tell->env->naming, &vrfs);

	for (size_t i = 0; i < n; i++) {
		struct fm_tell_entry *entry = push(tell, KIND_VRF);

		if (entry)
			entry->vrf = vrfs[i];
	}
}

static void queue_applications(struct fm_tell *tell, const struct fm_sink_stats *sink)
{
	const struct fm_application_record *applications;
	size_t n = fm_naming_applications(tell->env->naming, &applications);

	/* Of no use to who is told no numbers of them. */
	if (!fm_session_has_applications(tell->session))
		return;
	for (size_t i = 0; i < n; i++) {
		struct fm_tell_entry *entry = push(tell, KIND_APPLICATION);

		if (entry)
			entry->application = applications[i];
	}
}

static void queue_types(struct fm_tell *tell, const struct fm_sink_stats *sink)
{
	for (size_t i = 0; i < fm_session_types(tell->session); i++) {
		struct fm_tell_entry *entry = push(tell, KIND_TYPE);

		if (entry)
			entry->type = i;
	}
}

static void queue_statistics(struct fm_tell *tell, const struct fm_sink_stats *sink)
{
	push(tell, KIND_STATISTICS);
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

static void statistics(struct fm_tell *tell, const struct fm_sink_stats *sink)
{
	struct fm_exporter_stats exporter = {};

	tell->env->exporter_stats(tell->env->userdata, &exporter);
	fm_session_statistics(tell->session, &exporter, sink, fm_clock_realtime_ns());
}

static void tell_name(struct fm_tell *tell, const struct fm_tell_entry *entry,
		      const struct fm_sink_stats *sink)
{
	fm_session_interface(tell->session, entry->device.ifindex, entry->device.name,
			     entry->device.alias, fm_clock_realtime_ns());
}

static void tell_device(struct fm_tell *tell, const struct fm_tell_entry *entry,
			const struct fm_sink_stats *sink)
{
	fm_session_device(tell->session, &entry->device, fm_clock_realtime_ns());
}

static void tell_vrf(struct fm_tell *tell, const struct fm_tell_entry *entry,
		     const struct fm_sink_stats *sink)
{
	fm_session_vrf(tell->session, &entry->vrf, fm_clock_realtime_ns());
}

static void tell_application(struct fm_tell *tell, const struct fm_tell_entry *entry,
			     const struct fm_sink_stats *sink)
{
	fm_session_application(tell->session, &entry->application, fm_clock_realtime_ns());
}

static void tell_statistics(struct fm_tell *tell, const struct fm_tell_entry *entry,
			    const struct fm_sink_stats *sink)
{
	statistics(tell, sink);
}

static void tell_cause(struct fm_tell *tell, const struct fm_tell_entry *entry,
		       const struct fm_sink_stats *sink)
{
	fm_session_cause(tell->session, &entry->cause, fm_clock_realtime_ns());
}

static void tell_type(struct fm_tell *tell, const struct fm_tell_entry *entry,
		      const struct fm_sink_stats *sink)
{
	fm_session_type(tell->session, entry->type, fm_clock_realtime_ns());
}

static const struct kind_row kinds[_KIND_MAX] = {
	[KIND_NAME] = {queue_names, tell_name, .is_name = true},
	[KIND_DEVICE] = {queue_devices, tell_device, .is_name = true},
	[KIND_VRF] = {queue_vrfs, tell_vrf, .is_name = true},
	[KIND_APPLICATION] = {queue_applications, tell_application, .is_name = true},
	[KIND_STATISTICS] = {.queue = queue_statistics, .hand_on = tell_statistics},
	[KIND_CAUSE] = {.queue = queue_causes, .hand_on = tell_cause},
	[KIND_TYPE] = {queue_types, tell_type, .is_type = true},
};

static void hand_on(struct fm_tell *tell, const struct fm_tell_entry *entry,
		    const struct fm_sink_stats *sink)
{
	kinds[entry->kind].hand_on(tell, entry, sink);
}

static void queue_due(struct fm_tell *tell, uint64_t now_ns, const struct fm_sink_stats *sink)
{
	bool all = now_ns >= tell->due_ns, names = all || now_ns >= tell->names_due_ns;

	if (all)
		tell->due_ns = now_ns + tell->interval_ns;
	if (names)
		tell->names_due_ns = UINT64_MAX;
	for (unsigned int kind = 0; kind < _KIND_MAX; kind++)
		if (all ? !kinds[kind].is_type : names && kinds[kind].is_name)
			queue_kind(tell, (enum kind)kind, !all, sink);
}

void fm_tell_types(struct fm_tell *tell)
{
	queue_kind(tell, KIND_TYPE, false, NULL);
}

void fm_tell_names(const struct fm_sink_env *env, struct fm_session *session)
{
	struct fm_tell tell;

	fm_tell_init(&tell, env, session, 0);
	for (unsigned int kind = 0; kind < _KIND_MAX; kind++)
		if (kinds[kind].is_name)
			queue_kind(&tell, (enum kind)kind, false, NULL);
	while (fm_tell_waits(&tell))
		hand_on(&tell, &tell.entries[tell.first++], NULL);
	fm_tell_done(&tell);
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
