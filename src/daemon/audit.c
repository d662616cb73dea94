/* SPDX-License-Identifier: Apache-2.0 */
/* The audit: see audit.h. */
#include "daemon/audit.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "base/macro.h"
#include "daemon/kept.h"
#include "daemon/status.h"

/* An interface that could not be read; also the value that says absent in a record. */
#define UNKNOWN UINT64_MAX
/* What passes between two readings makes them differ: so often it is tried to have none. */
#define TRIES 3

/* Intervals of a transaction, at most. */
#define NOTES_MAX 32

/* A mark that becomes the account's when the transaction is committed. */
struct note {
	uint32_t ifindex; /* whose gate it is; 0: of those without one */
	uint32_t hook;
	struct fm_gate_mark mark;
};

/* In shared memory. */
struct notes {
	struct fm_kept_head head;
	uint32_t note_size;
	uint64_t serial; /* of the transaction; 0: there is none */
	uint32_t n, unused;
	struct note v[NOTES_MAX];
};

static const struct fm_kept_form kept_form = {
	.map = "fm_audit",
	.magic = "fmaudit",
	.version = 1,
	.value_size = FM_KEPT_PAGE,
};

struct fm_audit {
	struct fm_audit_env env;
	struct fm_kept kept;
	struct notes *notes;
	unsigned int next; /* gate and hook that fm_audit_step goes on with */
};

/* Gates and their hooks one after the other. */
#define N_PLACES    (FM_GATES * _FM_HOOK_MAX)
#define GATE(place) ((place) / _FM_HOOK_MAX)
#define HOOK(place) ((enum fm_hook)((place) % _FM_HOOK_MAX))

/* --- notes --- */

static struct fm_gate_mark *mark_of(const struct fm_audit *audit, unsigned int gate,
				    enum fm_hook hook)
{
	return &fm_gates_account(audit->env.gates, gate)->audited[hook];
}

/* Doing this twice is the same as once. */
static void carry_out(struct fm_audit *audit)
{
	struct notes *notes = audit->notes;

	for (uint32_t i = 0; i < notes->n && i < NOTES_MAX; i++) {
		const struct note *note = &notes->v[i];
		unsigned int gate = note->ifindex ? fm_gates_find(audit->env.gates, note->ifindex)
						  : FM_GATE_OTHERS;

		if (!note->ifindex == (gate == FM_GATE_OTHERS) && note->hook < _FM_HOOK_MAX)
			*mark_of(audit, gate, (enum fm_hook)note->hook) = note->mark;
	}
	__atomic_store_n(&notes->serial, 0, __ATOMIC_RELEASE);
	notes->n = 0;
}

/* What was told and what is noted of it happen together. */
static void commit(struct fm_audit *audit)
{
	struct notes *notes = audit->notes;

	if (!notes->n)
		return;
	__atomic_store_n(&notes->serial, fm_ledger_committed(audit->env.ledger) + 1,
			 __ATOMIC_RELEASE);
	fm_ledger_commit(audit->env.ledger);
	carry_out(audit);
}

static void add_note(struct fm_audit *audit, unsigned int gate, enum fm_hook hook,
		     const struct fm_gate_mark *mark)
{
	struct notes *notes = audit->notes;

	notes->v[notes->n++] = (struct note){
		.ifindex = fm_gates_account(audit->env.gates, gate)->ifindex,
		.hook = hook,
		.mark = *mark,
	};
	if (notes->n == NOTES_MAX)
		commit(audit);
}

static int take(struct fm_audit *audit)
{
	int r = fm_kept_take(&audit->kept);

	if (r < 0)
		return r;
	audit->notes = audit->kept.memory;
	return audit->notes->note_size == sizeof(struct note) ? 0 : fm_kept_refuse(&audit->kept);
}

static int make(struct fm_audit *audit)
{
	int r = fm_kept_make(&audit->kept);

	if (r < 0)
		return r;
	audit->notes = audit->kept.memory;
	audit->notes->note_size = sizeof(struct note);
	return fm_kept_put(&audit->kept);
}

int fm_audit_new(struct fm_audit **ret, const struct fm_audit_env *env)
{
	_fm_cleanup_(fm_audit_freep) struct fm_audit *audit = calloc(1, sizeof(*audit));
	int r;

	if (!audit)
		return -ENOMEM;
	audit->env = *env;
	r = fm_kept_init(&audit->kept, &kept_form, env->store, "audit",
			 fm_kept_pages(sizeof(struct notes)));
	if (r < 0)
		return r;
	r = take(audit);
	if (r < 0)
		r = make(audit);
	if (r < 0)
		return r;
	/* Committed by an earlier process; or not, and then it never happened. */
	if (!audit->notes->serial || audit->notes->serial > fm_ledger_committed(env->ledger))
		audit->notes->n = 0;
	carry_out(audit);
	*ret = FM_TAKE_PTR(audit);
	return 0;
}

struct fm_audit *fm_audit_free(struct fm_audit *audit)
{
	if (!audit)
		return NULL;
	fm_kept_done(&audit->kept);
	free(audit);
	return NULL;
}

/* --- intervals --- */

/* The interface's counters and the program's at one moment, as far as that is possible. */
static void look(const struct fm_audit *audit, unsigned int gate, enum fm_hook hook,
		 uint64_t now_ns, struct fm_gate_mark *ret)
{
	uint32_t ifindex = fm_gates_account(audit->env.gates, gate)->ifindex;
	struct fm_gate_mark mark = {.time_ns = now_ns};
	struct fm_counters before;

	for (unsigned int i = 0; i < TRIES; i++) {
		mark.frames = mark.frame_octets = UNKNOWN;
		fm_gates_sum(audit->env.gates, gate, hook, &before);
		if (gate != FM_GATE_OTHERS) {
			uint64_t frames, octets;

			if (audit->env.read(audit->env.userdata, ifindex, hook, &frames, &octets) ==
			    0) {
				mark.frames = frames;
				mark.frame_octets = octets;
			}
		}
		fm_gates_sum(audit->env.gates, gate, hook, &mark.counters);
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
	struct fm_count filtered = class_sum(counters, "FILTERED");

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
	record->filtered_packets = filtered.packets;
	record->filtered_octets = filtered.octets;
	record->packets = seen.packets - again.packets - ignored.packets - lost.packets -
			  aggregated.packets - filtered.packets;
	record->octets = seen.octets - again.octets - ignored.octets - lost.octets -
			 aggregated.octets - filtered.octets;
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
	audit->env.tell(audit->env.userdata, &row);
}

/* Ends an interval; where goes_on, begins the next. */
static void turn(struct fm_audit *audit, unsigned int gate, enum fm_hook hook, uint64_t now_ns,
		 bool goes_on)
{
	const struct fm_gate_mark *mark = mark_of(audit, gate, hook);
	struct fm_gate_mark now;

	look(audit, gate, hook, now_ns, &now);
	/* Of those without a gate only what came is news. */
	if (gate != FM_GATE_OTHERS || now.counters.frames != mark->counters.frames)
		tell(audit, fm_gates_account(audit->env.gates, gate)->ifindex, hook, mark, &now);
	if (!goes_on)
		now = (struct fm_gate_mark){};
	add_note(audit, gate, hook, &now);
}

static bool is_followed(const struct fm_audit *audit, unsigned int gate, enum fm_hook hook)
{
	return gate == FM_GATE_OTHERS || fm_gates_is_open(audit->env.gates, gate, hook);
}

void fm_audit_follow(struct fm_audit *audit, uint64_t now_ns)
{
	for (unsigned int place = 0; place < N_PLACES; place++) {
		struct fm_gate_mark mark;

		if (!is_followed(audit, GATE(place), HOOK(place)) ||
		    mark_of(audit, GATE(place), HOOK(place))->time_ns)
			continue;
		look(audit, GATE(place), HOOK(place), now_ns, &mark);
		add_note(audit, GATE(place), HOOK(place), &mark);
	}
	commit(audit);
}

static bool step(struct fm_audit *audit, uint64_t now_ns, bool paced)
{
	if (audit->next == 0)
		fm_audit_follow(audit, now_ns);
	for (; audit->next < N_PLACES; audit->next++) {
		unsigned int gate = GATE(audit->next);
		enum fm_hook hook = HOOK(audit->next);
		const struct fm_gate_mark *mark = mark_of(audit, gate, hook);

		/* Begun now, or nothing to end. */
		if (!mark->time_ns || mark->time_ns == now_ns)
			continue;
		if (paced && !audit->env.room(audit->env.userdata)) {
			commit(audit);
			return true;
		}
		/* Some went while nobody looked. */
		turn(audit, gate, hook, now_ns, is_followed(audit, gate, hook));
	}
	commit(audit);
	audit->next = 0;
	return false;
}

uint64_t fm_audit_due(const struct fm_audit *audit, uint64_t now_ns, uint64_t interval_ns)
{
	uint64_t oldest = now_ns;

	for (unsigned int place = 0; place < N_PLACES; place++) {
		uint64_t begun = mark_of(audit, GATE(place), HOOK(place))->time_ns;

		if (begun && begun < oldest)
			oldest = begun;
	}
	return now_ns - oldest < interval_ns ? interval_ns - (now_ns - oldest) : 0;
}

bool fm_audit_step(struct fm_audit *audit, uint64_t now_ns)
{
	return step(audit, now_ns, true);
}

void fm_audit_run(struct fm_audit *audit, uint64_t now_ns)
{
	audit->next = 0;
	step(audit, now_ns, false);
}

void fm_audit_end(struct fm_audit *audit, uint32_t ifindex, enum fm_hook hook, uint64_t now_ns)
{
	unsigned int gate = fm_gates_find(audit->env.gates, ifindex);

	if (gate == FM_GATE_OTHERS || !mark_of(audit, gate, hook)->time_ns)
		return;
	turn(audit, gate, hook, now_ns, false);
	commit(audit);
}
