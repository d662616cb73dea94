/* SPDX-License-Identifier: Apache-2.0 */
/* The sweep in the event loop: see sweeper.h. */
#include "daemon/sweeper.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "base/clock.h"
#include "base/log.h"
#include "base/macro.h"
#include "daemon/fence.h"

#define NS_PER_US 1000ULL
/* A slice of the event loop's time. */
#define SLICE_NS (2 * FM_NS_PER_MS)
/* Sinks without room are asked again after this. */
#define ROOM_RETRY_US  1000
#define MAX_REPLACED   16
#define FENCE_RETRY_US 1000000
/* So long without a packet that found no place: a flood is over. */
#define CALM_NS (10 * FM_NS_PER_S)

struct fm_sweeper {
	struct fm_sweeper_env env;
	struct fm_sweeper_settings settings;
	struct fm_sweep_timeouts timeouts;
	struct fm_sweep *sweep;
	struct fm_fence *fence;
	struct fm_overflow_reader *overflow;
	struct fm_generation *generation;
	struct fm_generation
		*replaced[MAX_REPLACED]; /* oldest first, fenced and waiting to be emptied */
	size_t n_replaced;
	struct fm_generation *draining; /* being emptied now */
	sd_event_source *timer;
	sd_event_source *slice;
	sd_event_source *retry;
	bool recheck;
	bool finishing;
	bool flooded;
	uint64_t placeless_ns; /* when a packet was last seen to have found no place */
};

static bool room(void *userdata)
{
	struct fm_sweeper *sweeper = userdata;

	return fm_export_room(sweeper->env.exporter);
}

static void conversation(void *userdata, const struct fm_conversation *found,
			 enum fm_end_reason reason)
{
	struct fm_sweeper *sweeper = userdata;

	fm_export_conversation(sweeper->env.exporter, found, reason);
}

/* --- the ledger's --- */

static void prepare(void *userdata, uint64_t serial)
{
	struct fm_sweeper *sweeper = userdata;

	fm_export_prepare(sweeper->env.exporter, serial);
}

static void publish(void *userdata)
{
	struct fm_sweeper *sweeper = userdata;

	fm_export_flush(sweeper->env.exporter);
}

static struct fm_generation *find_generation(const struct fm_sweeper *sweeper, uint32_t number)
{
	if (sweeper->generation && sweeper->generation->number == number)
		return sweeper->generation;
	if (sweeper->draining && sweeper->draining->number == number)
		return sweeper->draining;
	for (size_t i = 0; i < sweeper->n_replaced; i++)
		if (sweeper->replaced[i]->number == number)
			return sweeper->replaced[i];
	return NULL;
}

static void apply(void *userdata, const struct fm_ledger_entry *entry)
{
	struct fm_sweeper *sweeper = userdata;
	struct fm_generation *generation;

	if (entry->op == FM_LEDGER_CONSUMED) {
		fm_overflow_consumed(sweeper->overflow, entry->value);
		return;
	}
	generation = find_generation(sweeper, entry->generation);
	if (generation)
		fm_sweep_apply(generation, entry);
}

static const struct fm_ledger_ops ledger_ops = {
	.prepare = prepare,
	.publish = publish,
	.apply = apply,
};

/* What the tables cannot hold ends sooner, here and in the programs. */
static void set_flooded(struct fm_sweeper *sweeper, bool flooded)
{
	uint32_t ticks = fm_timebase_ticks(sweeper->env.timebase, sweeper->settings.flood_ns);

	sweeper->flooded = flooded;
	sweeper->timeouts.brief = flooded ? FM_MAX(ticks, 1U) : 0;
	fm_kernel_set_brief(sweeper->env.kernel, sweeper->timeouts.brief);
}

/* Looks whether there are more than slots and ring take. Calm for some time ends a flood. */
static void watch_flood(struct fm_sweeper *sweeper)
{
	bool placeless = fm_kernel_take_placeless(sweeper->env.kernel);
	uint64_t now = fm_clock_monotonic_ns();

	if (placeless)
		sweeper->placeless_ns = now;
	if (placeless && !sweeper->flooded) {
		set_flooded(sweeper, true);
		/* Slots that were taken before tell the time of a flow that goes on. */
		sweeper->recheck = true;
		fm_log_warning(
			"more flows than the tables have places for: flows of one packet end sooner, what finds no place is counted in aggregates; see [flows] max");
	} else if (sweeper->flooded && now - sweeper->placeless_ns > CALM_NS) {
		set_flooded(sweeper, false);
		fm_log_notice("the tables have places for all flows again");
	}
}

/* Takes the next table: replaced ones first, they only wait to be emptied. */
static void begin(struct fm_sweeper *sweeper)
{
	uint32_t now;
	int r = fm_timebase_sync(sweeper->env.timebase, sweeper->env.kernel);

	if (r < 0)
		fm_log_warning("cannot read the clock of the programs: %s", strerror(-r));
	now = sweeper->env.timebase->now_tick;
	if (sweeper->n_replaced) {
		sweeper->draining = sweeper->replaced[0];
		sweeper->n_replaced--;
		for (size_t i = 0; i < sweeper->n_replaced; i++)
			sweeper->replaced[i] = sweeper->replaced[i + 1];
		fm_sweep_begin_drain(sweeper->sweep, sweeper->draining, now, FM_END_REASON_FORCED);
		return;
	}
	r = fm_generation_follow_cpus(sweeper->generation);
	if (r < 0)
		fm_log_warning("no table for a CPU that came online: %s", strerror(-r));
	fm_sweep_begin(sweeper->sweep, sweeper->generation, &sweeper->timeouts, now,
		       sweeper->recheck);
	sweeper->recheck = false;
}

static void after_sweep(struct fm_sweeper *sweeper)
{
	fm_generation_forget(sweeper->draining);
	sweeper->draining = fm_generation_free(sweeper->draining);
	if (sweeper->n_replaced) {
		begin(sweeper);
		sd_event_source_set_enabled(sweeper->slice, SD_EVENT_ON);
	}
	sweeper->env.after_sweep(sweeper->env.userdata);
}

static void retry_later(struct fm_sweeper *sweeper)
{
	sd_event_source_set_time_relative(sweeper->retry, ROOM_RETRY_US);
	sd_event_source_set_enabled(sweeper->retry, SD_EVENT_ONESHOT);
}

/* As many steps as fit into a slice; then other sources get their turn. */
static int on_slice(sd_event_source *source, void *userdata)
{
	struct fm_sweeper *sweeper = userdata;
	uint64_t end = fm_clock_monotonic_ns() + SLICE_NS;
	enum fm_sweep_state state;

	do {
		state = fm_sweep_step(sweeper->sweep);
	} while (state == FM_SWEEP_MORE && fm_clock_monotonic_ns() < end);
	if (state == FM_SWEEP_MORE) {
		/* No transaction is open while others have their turn. */
		fm_ledger_commit(sweeper->env.ledger);
		return 0;
	}
	sd_event_source_set_enabled(source, SD_EVENT_OFF);
	if (state == FM_SWEEP_FENCE)
		fm_fence_request(sweeper->fence);
	else if (state == FM_SWEEP_NO_ROOM)
		retry_later(sweeper);
	else
		after_sweep(sweeper);
	return 0;
}

static int on_retry(sd_event_source *source, uint64_t usec, void *userdata)
{
	struct fm_sweeper *sweeper = userdata;

	sd_event_source_set_enabled(sweeper->slice, SD_EVENT_ON);
	return 0;
}

static void on_fenced(void *userdata, int error)
{
	struct fm_sweeper *sweeper = userdata;

	if (error < 0) {
		/* Without a grace period nothing may be collected: the slots stay marked. */
		fm_log_error("waiting for a grace period failed: %s", strerror(-error));
		sd_event_source_set_time_relative(sweeper->retry, FENCE_RETRY_US);
		sd_event_source_set_enabled(sweeper->retry, SD_EVENT_ONESHOT);
		return;
	}
	fm_sweep_fenced(sweeper->sweep);
	sd_event_source_set_enabled(sweeper->slice, SD_EVENT_ON);
}

static void start_sweep(struct fm_sweeper *sweeper)
{
	begin(sweeper);
	sd_event_source_set_enabled(sweeper->slice, SD_EVENT_ON);
}

static int on_timer(sd_event_source *source, uint64_t usec, void *userdata)
{
	struct fm_sweeper *sweeper = userdata;

	sd_event_source_set_time_relative(source, sweeper->settings.interval_ns / NS_PER_US);
	sd_event_source_set_enabled(source, SD_EVENT_ONESHOT);
	watch_flood(sweeper);
	fm_overflow_read(sweeper->overflow);
	if (fm_sweep_current(sweeper->sweep) == FM_SWEEP_IDLE && sweeper->generation)
		start_sweep(sweeper);
	return 0;
}

static int add_sources(struct fm_sweeper *sweeper)
{
	sd_event *event = sweeper->env.event;
	int r = sd_event_add_time_relative(event, &sweeper->timer, CLOCK_MONOTONIC,
					   sweeper->settings.interval_ns / NS_PER_US, 0, on_timer,
					   sweeper);

	if (r < 0)
		return r;
	r = sd_event_add_time_relative(event, &sweeper->retry, CLOCK_MONOTONIC, ROOM_RETRY_US, 1,
				       on_retry, sweeper);
	if (r < 0)
		return r;
	sd_event_source_set_enabled(sweeper->retry, SD_EVENT_OFF);
	r = sd_event_add_defer(event, &sweeper->slice, on_slice, sweeper);
	if (r < 0)
		return r;
	return sd_event_source_set_enabled(sweeper->slice, SD_EVENT_OFF);
}

int fm_sweeper_configure(struct fm_sweeper *sweeper, const struct fm_sweeper_settings *settings)
{
	const struct fm_timebase *timebase = sweeper->env.timebase;

	sweeper->settings = *settings;
	sweeper->timeouts = (struct fm_sweep_timeouts){
		.idle = FM_MAX(fm_timebase_ticks(timebase, settings->idle_ns), 1u),
		.active = FM_MAX(fm_timebase_ticks(timebase, settings->active_ns), 1u),
		.linger = fm_timebase_ticks(timebase, settings->linger_ns),
	};
	fm_kernel_set_live(sweeper->env.kernel, sweeper->timeouts.idle, sweeper->timeouts.linger);
	set_flooded(sweeper, sweeper->flooded);
	sweeper->recheck = true;
	if (!sweeper->timer)
		return 0;
	return sd_event_source_set_time_relative(sweeper->timer, settings->interval_ns / NS_PER_US);
}

int fm_sweeper_new(struct fm_sweeper **ret, const struct fm_sweeper_env *env,
		   const struct fm_sweeper_settings *settings)
{
	_fm_cleanup_(fm_sweeper_freep) struct fm_sweeper *sweeper = calloc(1, sizeof(*sweeper));
	const struct fm_sweep_ops sweep_ops = {
		.ledger = env->ledger,
		.room = room,
		.conversation = conversation,
	};
	int r;

	if (!sweeper)
		return -ENOMEM;
	sweeper->env = *env;
	r = fm_sweep_new(&sweeper->sweep, &sweep_ops, sweeper);
	if (r == 0)
		fm_ledger_set_ops(env->ledger, &ledger_ops, sweeper);
	if (r < 0)
		return r;
	r = fm_fence_new(&sweeper->fence, env->event, env->kernel, on_fenced, sweeper);
	if (r < 0)
		return r;
	r = fm_overflow_new(&sweeper->overflow, env->kernel, env->exporter, env->ledger);
	if (r < 0)
		return r;
	fm_sweeper_configure(sweeper, settings);
	r = add_sources(sweeper);
	if (r < 0)
		return r;
	*ret = FM_TAKE_PTR(sweeper);
	return 0;
}

struct fm_sweeper *fm_sweeper_free(struct fm_sweeper *sweeper)
{
	if (!sweeper)
		return NULL;
	sd_event_source_disable_unref(sweeper->timer);
	sd_event_source_disable_unref(sweeper->retry);
	sd_event_source_disable_unref(sweeper->slice);
	fm_fence_free(sweeper->fence);
	fm_overflow_free(sweeper->overflow);
	fm_sweep_free(sweeper->sweep);
	for (size_t i = 0; i < sweeper->n_replaced; i++)
		fm_generation_free(sweeper->replaced[i]);
	fm_generation_free(sweeper->draining);
	fm_generation_free(sweeper->generation);
	free(sweeper);
	return NULL;
}

int fm_sweeper_set_generation(struct fm_sweeper *sweeper, struct fm_generation *generation)
{
	int r;

	if (sweeper->generation) {
		if (sweeper->n_replaced == MAX_REPLACED)
			return -EBUSY;
		/* Programs of the old one may still run: nobody may after this. */
		r = fm_kernel_fence(sweeper->env.kernel);
		if (r < 0)
			return r;
		fm_generation_retire(sweeper->generation);
		sweeper->replaced[sweeper->n_replaced++] = sweeper->generation;
	}
	sweeper->generation = generation;
	return 0;
}

int fm_sweeper_add_replaced(struct fm_sweeper *sweeper, struct fm_generation *generation)
{
	if (sweeper->n_replaced == MAX_REPLACED)
		return -EBUSY;
	sweeper->replaced[sweeper->n_replaced++] = generation;
	return 0;
}

/* Until something happened. 0 or -errno. */
static int wait_some(struct fm_sweeper *sweeper, uint64_t deadline_ns)
{
	int r;

	if (fm_clock_monotonic_ns() >= deadline_ns)
		return -ETIMEDOUT;
	r = sd_event_run(sweeper->env.event, ROOM_RETRY_US);
	return r < 0 ? r : 0;
}

static int64_t finish_one(struct fm_sweeper *sweeper, uint64_t deadline_ns)
{
	start_sweep(sweeper);
	while (fm_sweep_current(sweeper->sweep) != FM_SWEEP_IDLE) {
		int r = wait_some(sweeper, deadline_ns);

		if (r < 0)
			return r;
	}
	return 0;
}

int64_t fm_sweeper_finish(struct fm_sweeper *sweeper, uint64_t deadline_ns)
{
	int64_t r = 0;

	sd_event_source_set_enabled(sweeper->timer, SD_EVENT_OFF);
	/* What is marked now is collected by the sweep that marked it. */
	while (fm_sweep_current(sweeper->sweep) != FM_SWEEP_IDLE) {
		r = wait_some(sweeper, deadline_ns);
		if (r < 0)
			return r;
	}
	if (sweeper->generation) {
		r = fm_sweeper_set_generation(sweeper, NULL);
		if (r < 0)
			return r;
	}
	while (sweeper->n_replaced || sweeper->draining) {
		r = finish_one(sweeper, deadline_ns);
		if (r < 0)
			return r;
	}
	while (fm_overflow_read(sweeper->overflow)) {
		r = wait_some(sweeper, deadline_ns);
		if (r < 0)
			return r;
	}
	return 0;
}

const struct fm_sweep_stats *fm_sweeper_stats(const struct fm_sweeper *sweeper)
{
	return fm_sweep_get_stats(sweeper->sweep);
}

uint64_t fm_sweeper_overflow_conversations(const struct fm_sweeper *sweeper)
{
	return fm_overflow_conversations(sweeper->overflow);
}
