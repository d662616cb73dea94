/* SPDX-License-Identifier: Apache-2.0 */
/* Transports in the event loop: see courier.h. */
#include "daemon/courier.h"

#include <errno.h>
#include <poll.h>
#include <stdio.h>
#include <string.h>

#include "base/clock.h"
#include "base/fnv.h"
#include "base/log.h"
#include "base/macro.h"
#include "daemon/account.h"
#include "daemon/status.h"

/* A transport that takes nothing is waited for this long, then what comes is given up. */
#define FULL_NS FM_NS_PER_S
/* A peer that takes nothing for so long of what waits for it stalls. */
#define STALL_NS (5 * FM_NS_PER_S)
#define CHECK_NS (100 * FM_NS_PER_MS)
/* Of one peer at a time. */
#define OUTBOXES_MAX 4
/* What a transport holds of what is in the outbox. */
#define GIVEN_OCTETS (256 << 10)
/* Room that one transaction may need beyond what was asked for. */
#define RESERVE_OCTETS (160 << 10)
/* So many changes of state are logged within a minute of the last. */
#define LOG_FLAPS    4
#define LOG_AGAIN_NS (60 * FM_NS_PER_S)
/* How long one look lasts when the end waits for the network. */
#define WAIT_MS 10

static void done(struct fm_courier *courier, const struct fm_message_info *info)
{
	if (!info->outbox_id)
		return;
	fm_outbox_done(courier->outbox, info->outbox_id);
	courier->full_since_ns = 0;
}

static void on_sent(void *userdata, const struct fm_message_info *info, size_t size)
{
	struct fm_courier *courier = userdata;

	fm_sink_stats_sent(courier->stats, info, size);
	done(courier, info);
	if (courier->hooks && courier->hooks->sent)
		courier->hooks->sent(courier->userdata, info);
}

static bool on_unsent(void *userdata, const uint8_t *message, size_t size,
		      const struct fm_message_info *info)
{
	struct fm_courier *courier = userdata;

	return courier->hooks && courier->hooks->unsent &&
	       courier->hooks->unsent(courier->userdata, message, size, info);
}

static void on_lost(void *userdata, const struct fm_message_info *info, size_t size,
		    enum fm_not_sent cause)
{
	const struct fm_not_sent_sum sum = {info->records, info->packets, info->octets};
	struct fm_courier *courier = userdata;

	fm_sink_stats_lose(courier->stats, cause, &sum);
	courier->stats->not_sent_audits += info->audits;
	courier->template_lost |= info->is_template;
	done(courier, info);
}

void fm_courier_lose_record(struct fm_courier *courier, const struct fm_record *record)
{
	const struct fm_not_sent_sum sum = {1, record->packets + record->rev_packets,
					    record->octets + record->rev_octets};

	fm_sink_stats_lose(courier->stats, FM_NOT_SENT_not_encoded, &sum);
}

void fm_courier_lose_audit(struct fm_courier *courier)
{
	courier->stats->not_sent_audits++;
}

/* Logged when it changes. */
static void tell_state(struct fm_courier *courier, int level, const char *state)
{
	const struct fm_log_field field = {"FLOWMOND_SINK", courier->name};
	uint64_t now = fm_clock_monotonic_ns();
	bool known = *courier->state;

	if (!strcmp(courier->state, state))
		return;
	snprintf(courier->state, sizeof(courier->state), "%s", state);
	/* A state that flaps is not worth a line each time. */
	if (known && now - courier->logged_ns < LOG_AGAIN_NS && courier->flaps++ > LOG_FLAPS)
		return;
	if (now - courier->logged_ns >= LOG_AGAIN_NS)
		courier->flaps = 0;
	courier->logged_ns = now;
	fm_log_with(level, &field, 1, "%s: %s", courier->name, state);
}

static bool set_hindrance(struct fm_courier *courier, enum fm_hindrance hindrance)
{
	if (courier->hindrance == hindrance)
		return false;
	courier->hindrance = hindrance;
	courier->hindered_ns = fm_clock_monotonic_ns();
	return true;
}

static void on_state(void *userdata, int error)
{
	struct fm_courier *courier = userdata;
	const char *trouble = courier->transport->trouble;
	char state[sizeof(courier->state)] = "sending";

	if (courier->up != !error)
		courier->changed_ns = fm_clock_monotonic_ns();
	courier->up = !error;
	/* What another session did says nothing of this one. */
	set_hindrance(courier, FM_HINDRANCE_NONE);
	courier->taken_ns = fm_clock_monotonic_ns();
	if (courier->hooks && courier->hooks->state)
		courier->hooks->state(courier->userdata, error);
	if (error)
		snprintf(state, sizeof(state), "cannot send: %s%s%s", strerror(-error),
			 *trouble ? ": " : "", trouble);
	tell_state(courier, error ? LOG_WARNING : LOG_INFO, state);
}

/* Since when the peer took nothing, though it was to. */
static uint64_t idle_ns(struct fm_courier *courier, uint64_t now)
{
	const struct fm_transport *transport = courier->transport;
	bool owes = transport->stalled_since_ns;
	uint64_t taken = 0;

	if (transport->ops->taken)
		taken = transport->ops->taken(transport, &owes);
	if (!owes || taken != courier->taken || transport->attempts != courier->taken_attempts)
		courier->taken_ns = now;
	courier->taken = taken;
	courier->taken_attempts = transport->attempts;
	return now - courier->taken_ns;
}

/* One whose queue is full is found sooner: what comes next would be given up. */
static bool is_stalled(struct fm_courier *courier, uint64_t now)
{
	bool is_full = courier->full_since_ns && now - courier->full_since_ns >= FULL_NS;

	return idle_ns(courier, now) >= (is_full ? FULL_NS : STALL_NS);
}

void fm_courier_check(struct fm_courier *courier)
{
	static const char *const states[] = {
		[FM_HINDRANCE_NONE] = "sending",
		[FM_HINDRANCE_STALLED] = "stalled: takes nothing of what is sent",
		[FM_HINDRANCE_SLOW] = "slow: takes less than there is; others do not wait for it",
	};
	enum fm_hindrance hindrance = FM_HINDRANCE_NONE;
	uint64_t now = fm_clock_monotonic_ns();

	if (!courier->transport || !courier->up || now - courier->checked_ns < CHECK_NS)
		return;
	courier->checked_ns = now;
	if (fm_outbox_is_half_empty(courier->outbox))
		fm_patience_restore(&courier->patience);
	else if (courier->patience.is_spent)
		hindrance = FM_HINDRANCE_SLOW;
	if (is_stalled(courier, now))
		hindrance = FM_HINDRANCE_STALLED;
	if (set_hindrance(courier, hindrance))
		tell_state(courier, hindrance ? LOG_WARNING : LOG_INFO, states[hindrance]);
}

static void on_begun(void *userdata)
{
	struct fm_courier *courier = userdata;

	if (!courier->hooks || !courier->hooks->begun)
		return;
	courier->beginning = true;
	courier->hooks->begun(courier->userdata);
	courier->beginning = false;
}

/* A message on its way out, by way of whoever has a say in that. */
static void pass_on(struct fm_courier *courier, const uint8_t *message, size_t size,
		    const struct fm_message_info *info)
{
	if (courier->hooks && courier->hooks->deliver)
		courier->hooks->deliver(courier->userdata, message, size, info);
	else
		fm_courier_deliver(courier, message, size, info);
}

/* Whether somebody else takes what the transport has no room for. */
static bool is_absorbed(const struct fm_courier *courier)
{
	return courier->hooks && courier->hooks->absorbs &&
	       courier->hooks->absorbs(courier->userdata, courier->full_since_ns);
}

/* As much of what is published as is taken. */
static void pump(struct fm_courier *courier)
{
	const struct fm_transport *transport = courier->transport;
	struct fm_message_info info;
	const uint8_t *message;
	size_t size;

	while (fm_outbox_peek(courier->outbox, &message, &size, &info)) {
		if ((!transport ||
		     transport->waiting_octets + size > transport->options.queue_octets) &&
		    !is_absorbed(courier))
			return;
		fm_outbox_give(courier->outbox);
		pass_on(courier, message, size, &info);
	}
}

static int on_io(sd_event_source *source, int fd, uint32_t revents, void *userdata);
static int on_timer(sd_event_source *source, uint64_t usec, void *userdata);

/* Makes the event sources what the transport asks for now. */
static void watch(struct fm_courier *courier)
{
	struct fm_transport *transport = courier->transport;

	if (!transport)
		return;
	/* Another socket may have the number of one that was closed. */
	if (courier->io_fd != transport->fd || courier->io_attempts != transport->attempts) {
		courier->io = sd_event_source_disable_unref(courier->io);
		courier->io_fd = transport->fd;
		courier->io_attempts = transport->attempts;
		/* EPERM: a regular file, always writable */
		if (transport->fd >= 0 &&
		    sd_event_add_io(courier->env->event, &courier->io, transport->fd,
				    transport->events, on_io, courier) < 0)
			courier->io = NULL;
	} else if (courier->io) {
		sd_event_source_set_io_events(courier->io, transport->events);
	}
	if (transport->deadline_ns == UINT64_MAX) {
		sd_event_source_set_enabled(courier->timer, SD_EVENT_OFF);
		return;
	}
	sd_event_source_set_time(courier->timer, transport->deadline_ns / FM_NS_PER_US + 1);
	sd_event_source_set_enabled(courier->timer, SD_EVENT_ONESHOT);
}

static int on_io(sd_event_source *source, int fd, uint32_t revents, void *userdata)
{
	struct fm_courier *courier = userdata;

	courier->transport->ops->dispatch(courier->transport, fm_clock_monotonic_ns());
	fm_courier_flush(courier);
	return 0;
}

static int on_timer(sd_event_source *source, uint64_t usec, void *userdata)
{
	struct fm_courier *courier = userdata;

	courier->transport->ops->dispatch(courier->transport, fm_clock_monotonic_ns());
	fm_courier_flush(courier);
	return 0;
}

/* A message went out, and a killed process could not note it. */
static void settle_old(struct fm_courier *courier, uint64_t id)
{
	struct fm_message_info info;
	size_t size;

	if (fm_outbox_settle(courier->outbox, id, &size, &info))
		fm_sink_stats_sent(courier->stats, &info, size);
}

/*
 * What the system call that a killed process was in, or came from, gave to the network or wrote.
 * Returns of how many messages nobody knows.
 */
static unsigned int read_mark(struct fm_courier *courier, const struct fm_transport_mark *mark)
{
	const struct fm_slip *slip = &mark->slip;
	unsigned int unsure = 0;

	settle_old(courier, mark->written[mark->which & 1].outbox_id);
	for (unsigned int i = 0; i < fm_slip_rows(slip); i++) {
		struct fm_slip_row row;
		enum fm_slip_state state = fm_slip_row(slip, i, &row);

		unsure += state == FM_SLIP_STATE_UNSURE &&
			  fm_outbox_was_given(courier->outbox, row.outbox_id);
		if (state != FM_SLIP_STATE_OUT)
			continue;
		settle_old(courier, row.outbox_id);
		if (row.spool_place.file)
			courier->spooled[courier->n_spooled++] = row.spool_place;
	}
	return unsure;
}

static void find_account(struct fm_courier *courier, const struct fm_outbox_found *found)
{
	struct fm_account *account = fm_outbox_account(courier->outbox);
	unsigned int unsure;

	courier->stats = fm_account_open(account);
	courier->intent = &account->intent;
	unsure = read_mark(courier, &account->mark);
	courier->stats->unsure_messages += unsure;
	courier->has_old = fm_outbox_waiting(courier->outbox);
	if (found->unsound)
		fm_log_warning("%s: what an earlier process left to be sent cannot be used",
			       courier->name);
	if (courier->has_old)
		fm_log_info("%s: %zu messages of an earlier process are sent now%s", courier->name,
			    fm_outbox_waiting(courier->outbox),
			    unsure ? ", one of them perhaps again" : "");
}

struct stream_search {
	char prefix[FM_STORE_NAME_MAX];
	char *ret;
};

static void note_stream(void *userdata, const char *name)
{
	struct stream_search *search = userdata;

	if (!strncmp(name, search->prefix, strlen(search->prefix)))
		snprintf(search->ret, FM_STORE_NAME_MAX, "%s", name);
}

/*
 * The outbox for a peer that an earlier process left, else one of the same stream (true), else a
 * name that is not in use: a sink that is being replaced still has its own.
 */
static bool outbox_name(struct fm_store *store, const struct fm_courier_options *options,
			char ret[FM_STORE_NAME_MAX])
{
	struct stream_search search = {.ret = ret};
	char free_name[FM_STORE_NAME_MAX] = "";
	bool ours = false;

	snprintf(
		search.prefix, sizeof(search.prefix), "outbox-%016llx-",
		(unsigned long long)fm_fnv_text(options->stream ? options->stream : options->peer));
	for (unsigned int i = 0; i < OUTBOXES_MAX; i++) {
		snprintf(ret, FM_STORE_NAME_MAX, "%.24s%016llx-%u", search.prefix,
			 (unsigned long long)fm_fnv_text(options->peer), i);
		if (!store)
			return false;
		if (fm_store_has(store, ret, &ours) && !ours)
			return false;
		if (!ours && !*free_name)
			strcpy(free_name, ret);
	}
	*ret = '\0';
	if (options->stream)
		fm_store_each(store, note_stream, &search);
	if (*ret)
		return true;
	strcpy(ret, free_name);
	return false;
}

/* What nobody will send. */
static void give_up(struct fm_courier *courier)
{
	struct fm_message_info info;
	const uint8_t *message;
	size_t size;

	while (fm_outbox_peek(courier->outbox, &message, &size, &info)) {
		fm_outbox_give(courier->outbox);
		on_lost(courier, &info, size, FM_NOT_SENT_stopped);
	}
}

int fm_courier_open(struct fm_courier *courier, const struct fm_courier_options *options)
{
	char name[FM_STORE_NAME_MAX];
	const struct fm_sink_env *env = options->env;
	const struct fm_outbox_options outbox = {
		.store = env->store,
		.name = name,
		.octets = options->octets,
		.committed = env->ledger ? fm_ledger_committed(env->ledger) : 0,
		.sequence_offset = options->sequence_offset,
		.account_octets = sizeof(struct fm_account),
	};
	struct fm_outbox_found found;
	bool other;
	int r;

	*courier = (struct fm_courier){
		.env = env,
		.name = options->name,
		.io_fd = -1,
		.direct = options->direct,
		.hooks = options->hooks,
		.userdata = options->userdata,
		.changed_ns = fm_clock_monotonic_ns(),
	};
	if (options->stream)
		courier->stream = fm_fnv_text(options->stream);
	other = outbox_name(env->store, options, name);
	r = fm_outbox_new(&courier->outbox, &outbox, &found);
	if (r < 0)
		return r;
	find_account(courier, &found);
	/* A connection begins with templates, and those of these messages are no more. */
	if (other && options->direct && found.messages) {
		fm_log_warning("%s: these cannot be read with the settings of now: given up",
			       courier->name);
		give_up(courier);
		courier->has_old = false;
	}
	return 0;
}

/* The row of a stream, or the one that was written longest ago. */
static struct fm_legacy *find_legacy(struct fm_legacies *legacies, uint64_t stream)
{
	struct fm_legacy *oldest = &legacies->v[0];

	for (size_t i = 0; i < FM_ARRAY_SIZE(legacies->v); i++) {
		if (legacies->v[i].stream == stream)
			return &legacies->v[i];
		if (legacies->v[i].written < oldest->written)
			oldest = &legacies->v[i];
	}
	return oldest;
}

static void remove_outbox(struct fm_legacy *legacy, struct fm_store *store)
{
	if (*legacy->outbox)
		fm_store_remove(store, legacy->outbox);
	*legacy->outbox = '\0';
}

void fm_courier_begin(struct fm_courier *courier)
{
	struct fm_legacy *legacy = NULL;
	int r;

	if (courier->stream && courier->env->legacies) {
		legacy = find_legacy(courier->env->legacies, courier->stream);
		if (legacy->stream != courier->stream)
			legacy = NULL;
		courier->begun = true;
	}
	if (legacy)
		fm_outbox_set_numbers(courier->outbox, &legacy->numbers);
	r = fm_outbox_keep(courier->outbox);
	if (r < 0)
		fm_log_warning("%s: what waits to be sent is lost if the process is killed: %s",
			       courier->name, strerror(-r));
	/* A process that is killed before this leaves an outbox that says the same. */
	if (legacy)
		remove_outbox(legacy, courier->env->store);
}

void fm_courier_all_begun(const struct fm_sink_env *env)
{
	for (size_t i = 0; i < FM_ARRAY_SIZE(env->legacies->v); i++)
		remove_outbox(&env->legacies->v[i], env->store);
}

/* Nothing waits in the outbox any more. */
static void bequeath(struct fm_courier *courier)
{
	struct fm_legacies *legacies = courier->env->legacies;
	struct fm_legacy *legacy;

	if (!courier->begun) {
		fm_outbox_forget(courier->outbox);
		return;
	}
	legacy = find_legacy(legacies, courier->stream);
	remove_outbox(legacy, courier->env->store);
	legacy->stream = courier->stream;
	legacy->written = ++legacies->written;
	fm_outbox_get_numbers(courier->outbox, &legacy->numbers);
	fm_outbox_leave(courier->outbox, legacy->outbox);
}

int fm_courier_start(struct fm_courier *courier, const struct fm_transport_ops *ops,
		     struct fm_transport_options *options)
{
	int r;

	options->queue_octets = GIVEN_OCTETS;
	options->mark = &((struct fm_account *)fm_outbox_account(courier->outbox))->mark;
	options->begun = on_begun;
	options->sent = on_sent;
	options->lost = on_lost;
	options->unsent = on_unsent;
	options->state = on_state;
	options->userdata = courier;
	r = sd_event_add_time(courier->env->event, &courier->timer, CLOCK_MONOTONIC, UINT64_MAX, 0,
			      on_timer, courier);
	if (r < 0)
		return r;
	r = fm_transport_new(&courier->transport, ops, options);
	if (r < 0) {
		courier->timer = sd_event_source_disable_unref(courier->timer);
		return r;
	}
	ops->start(courier->transport, fm_clock_monotonic_ns());
	fm_courier_flush(courier);
	return 0;
}

void fm_courier_hold(struct fm_courier *courier)
{
	courier->held = true;
}

void fm_courier_prepare(struct fm_courier *courier, uint64_t serial)
{
	fm_outbox_prepare(courier->outbox, serial);
}

void fm_courier_send(struct fm_courier *courier, const uint8_t *message, size_t size,
		     const struct fm_message_info *info)
{
	if (courier->beginning && courier->direct) {
		pass_on(courier, message, size, info);
		return;
	}
	if (!fm_outbox_append(courier->outbox, message, size, info)) {
		on_lost(courier, info, size, FM_NOT_SENT_queue_full);
		return;
	}
	if (courier->held)
		return;
	fm_outbox_publish(courier->outbox);
	pump(courier);
	watch(courier);
}

void fm_courier_deliver(struct fm_courier *courier, const uint8_t *message, size_t size,
			const struct fm_message_info *info)
{
	if (!courier->transport) { /* no address yet */
		if (!on_unsent(courier, message, size, info))
			on_lost(courier, info, size, FM_NOT_SENT_disconnected);
		return;
	}
	courier->transport->ops->send(courier->transport, message, size, info,
				      fm_clock_monotonic_ns());
	watch(courier);
}

void fm_courier_settle(struct fm_courier *courier, const struct fm_message_info *info)
{
	done(courier, info);
}

void fm_courier_settle_old(struct fm_courier *courier, uint64_t outbox_id)
{
	struct fm_message_info info;
	size_t size;

	fm_outbox_settle(courier->outbox, outbox_id, &size, &info);
}

void fm_courier_flush(struct fm_courier *courier)
{
	struct fm_transport *transport = courier->transport;

	courier->held = false;
	fm_outbox_publish(courier->outbox);
	pump(courier);
	if (!transport)
		return;
	transport->ops->flush(transport, fm_clock_monotonic_ns());
	/* What that made room for. */
	pump(courier);
	watch(courier);
}

void fm_courier_move(struct fm_courier *courier, const struct sockaddr_storage *address,
		     socklen_t size)
{
	fm_transport_move(courier->transport, address, size, fm_clock_monotonic_ns());
	watch(courier);
}

static bool has_room(const struct fm_courier *courier)
{
	return fm_outbox_room(courier->outbox) >= RESERVE_OCTETS;
}

size_t fm_courier_room(struct fm_courier *courier)
{
	struct fm_patience *patience = &courier->patience;
	enum fm_hindrance before = courier->hindrance;
	uint64_t now;

	if (has_room(courier) && !patience->since_ns && !courier->hindrance)
		return SIZE_MAX;
	now = fm_clock_monotonic_ns();
	courier->stats->kept_waiting_ms += fm_patience_settle(patience, now);
	fm_courier_check(courier);
	if (!has_room(courier)) {
		if (!courier->full_since_ns) {
			courier->full_since_ns = now;
			idle_ns(courier, now); /* what was taken until now */
		}
		pump(courier);
	}
	if (has_room(courier))
		return SIZE_MAX;
	if (fm_patience_ask(patience, now) &&
	    (!courier->full_since_ns || now - courier->full_since_ns < FULL_NS))
		return 0;
	/* Others in its group get what it would have to give up, once it counts as down. */
	courier->checked_ns = 0;
	fm_courier_check(courier);
	return courier->hindrance == before ? SIZE_MAX : 0;
}

void fm_courier_kept(struct fm_courier *courier)
{
	if (!has_room(courier))
		fm_patience_keep(&courier->patience);
}

bool fm_courier_up(const struct fm_courier *courier, uint64_t *ret_since_ns)
{
	*ret_since_ns = FM_MAX(courier->changed_ns, courier->hindered_ns);
	return courier->up && !courier->hindrance;
}

void fm_courier_stats(const struct fm_courier *courier, struct fm_sink_stats *ret)
{
	*ret = *courier->stats;
	ret->waiting_messages = fm_outbox_waiting(courier->outbox);
	ret->stalled = courier->up && courier->hindrance;
}

void fm_courier_log_not_sent(const char *name, const struct fm_sink_stats *stats)
{
	_fm_cleanup_buf_ struct fm_buf causes = {};

	if (stats->not_sent_audits)
		fm_log_warning("%s: %llu audit records not sent in all", name,
			       (unsigned long long)stats->not_sent_audits);
	if (!stats->not_sent_records)
		return;
	fm_status_not_sent_line(stats, &causes);
	fm_log_warning("%s: %llu records (%llu packets, %llu octets) not sent in all: %s", name,
		       (unsigned long long)stats->not_sent_records,
		       (unsigned long long)stats->not_sent_packets,
		       (unsigned long long)stats->not_sent_octets, causes.data ? causes.data : "");
}

void fm_courier_done(struct fm_courier *courier, uint64_t deadline_ns)
{
	struct fm_transport *transport = courier->transport;
	uint64_t now = fm_clock_monotonic_ns();

	fm_courier_flush(courier);
	while (transport && transport->first && transport->fd >= 0 && now < deadline_ns) {
		struct pollfd poll_fd = {.fd = transport->fd, .events = (short)transport->events};

		/* Also the end of a connection that is being made, and answers of the network. */
		if (poll(&poll_fd, 1, WAIT_MS) > 0 || now >= transport->deadline_ns)
			transport->ops->dispatch(transport, now);
		pump(courier);
		now = fm_clock_monotonic_ns();
	}
	courier->io = sd_event_source_disable_unref(courier->io);
	courier->timer = sd_event_source_disable_unref(courier->timer);
	courier->transport = fm_transport_free(courier->transport);
	give_up(courier);
	bequeath(courier);
}

void fm_courier_close(struct fm_courier *courier)
{
	courier->stats = NULL;
	courier->outbox = fm_outbox_free(courier->outbox);
}
