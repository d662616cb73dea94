/* SPDX-License-Identifier: Apache-2.0 */
/* When messages wait on disk, and when they are sent: see catch-up.h. */
#include "daemon/catch-up.h"

#include <errno.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#include "base/clock.h"
#include "base/fnv.h"
#include "base/log.h"
#include "base/macro.h"

#define TURN_US	     20000
#define RETRY_NS     (5 * FM_NS_PER_S)
#define PROBE_NS     (2 * FM_NS_PER_S)
#define LOG_AGAIN_NS (60 * FM_NS_PER_S)
/* The first templates over UDP are answered within this, or the collector is there. */
#define FIRST_WAIT_NS FM_NS_PER_S
/* As many records at once as live ones: what a collector's socket buffer holds. */
#define BURST_RECORDS 512.0
/* What may be under way in the transport's queue. */
#define AHEAD_OCTETS (256 << 10)
/* Templates whose form at the collector is remembered; of more it is not. */
#define TEMPLATES_MAX 256
/* Longer ones are not of a session. */
#define TEMPLATE_MAX	FM_SESSION_TEMPLATE_MAX
#define PLACES_MAX	4
#define HEADER_SIZE	16
#define TEMPLATE_SIZE	24 /* header, set header, id and number of fields, at least */
#define SET_OFFSET	16
#define ID_OFFSET	20
#define DOMAIN_OFFSET	12
#define SEQUENCE_OFFSET 8
#define WITHDRAWAL_SIZE 24

/* A template as the collector has it. */
struct known {
	uint32_t domain;
	uint16_t id;
	uint64_t hash;
};

/*
 * Where a domain's sequence is at the collector, over UDP: messages keep the numbers they were made
 * with, so templates that are made while others wait have to take theirs.
 */
struct place {
	uint32_t domain;
	uint32_t waits; /* number of the first message that waits, */
	uint32_t next;	/* and of the one behind what is under way */
};

struct fm_catch_up {
	struct fm_catch_up_options options;
	struct fm_spool *spool; /* NULL: none now */
	sd_event_source *timer;
	bool told;    /* the transport has said how it is: */
	int state;    /* 0: up, -errno */
	bool rewind;  /* something under way was not sent */
	bool foreign; /* the collector has templates that are not the live ones */
	bool stopping;
	uint64_t first_up_ns, retry_ns, drop_logged_ns;
	int error; /* of the spool, as it was logged */
	uint64_t error_ns;
	double tokens, credit; /* records that may go: paced, and as many as came */
	uint64_t tokens_ns;
	struct known known[TEMPLATES_MAX];
	size_t n_known;
	struct place places[PLACES_MAX];
	size_t n_places;
	bool found; /* what waits was found: where most domains are shows when it is read */
	struct fm_spool_sum logged; /* dropped messages, when they were logged last */
};

/* --- the log --- */

/* Once a minute. */
static void report(struct fm_catch_up *catch_up, int error)
{
	const struct fm_log_field field = {"FLOWMOND_SINK", catch_up->options.name};
	uint64_t now = fm_clock_monotonic_ns();

	if (error == 0 || (catch_up->error == error && now - catch_up->error_ns < LOG_AGAIN_NS))
		return;
	catch_up->error = error;
	catch_up->error_ns = now;
	/* Where nobody asked for a spool and there is no directory for it, there is none. */
	if (catch_up->options.required || error != -ENOENT)
		fm_log_with(LOG_WARNING, &field, 1,
			    "%s: cannot use the spool in %s: %s; what waits is kept in memory",
			    catch_up->options.name, catch_up->options.spool.directory,
			    strerror(-error));
}

static void get_stats(const struct fm_catch_up *catch_up, struct fm_spool_stats *ret)
{
	*ret = (struct fm_spool_stats){};
	if (catch_up->spool)
		fm_spool_stats(catch_up->spool, ret);
}

/* Said when it happens, and then once a minute. */
static void log_dropped(struct fm_catch_up *catch_up, bool now)
{
	const struct fm_log_field field = {"FLOWMOND_SINK", catch_up->options.name};
	struct fm_spool_stats stats;

	get_stats(catch_up, &stats);
	if (stats.dropped.messages == catch_up->logged.messages ||
	    (!now && catch_up->drop_logged_ns &&
	     fm_clock_monotonic_ns() - catch_up->drop_logged_ns < LOG_AGAIN_NS))
		return;
	fm_log_with(LOG_WARNING, &field, 1,
		    "%s: %" PRIu64 " records (%" PRIu64 " packets, %" PRIu64
		    " octets) dropped from the spool: no room",
		    catch_up->options.name, stats.dropped.records - catch_up->logged.records,
		    stats.dropped.packets - catch_up->logged.packets,
		    stats.dropped.octets - catch_up->logged.octets);
	catch_up->logged = stats.dropped;
	catch_up->drop_logged_ns = fm_clock_monotonic_ns();
}

/* --- templates --- */

/* Of what is in a message, behind its header. */
static uint64_t hash_of(const uint8_t *message, size_t size)
{
	return fm_fnv(FM_FNV_BEGIN, message + HEADER_SIZE, size - HEADER_SIZE);
}

static uint16_t get16(const uint8_t *at)
{
	return (uint16_t)(at[0] << 8 | at[1]);
}

static uint32_t get32(const uint8_t *at)
{
	return (uint32_t)get16(at) << 16 | get16(at + 2);
}

static struct known *find_known(struct fm_catch_up *catch_up, const uint8_t *message)
{
	for (size_t i = 0; i < catch_up->n_known; i++)
		if (catch_up->known[i].id == get16(message + ID_OFFSET) &&
		    catch_up->known[i].domain == get32(message + DOMAIN_OFFSET))
			return &catch_up->known[i];
	return NULL;
}

/* Whether the collector has this very template. */
static bool is_known(struct fm_catch_up *catch_up, const uint8_t *message, size_t size)
{
	const struct known *known = size < TEMPLATE_SIZE ? NULL : find_known(catch_up, message);

	return known && known->hash == hash_of(message, size);
}

/*
 * The collector is about to get a template. Where it has another one of the same id, that is
 * withdrawn first over a connection (RFC 7011 8.1); over UDP the new one stands for it.
 */
static void announce(struct fm_catch_up *catch_up, const uint8_t *message, size_t size)
{
	struct known *known;
	uint8_t withdrawal[WITHDRAWAL_SIZE];
	struct fm_message_info info = {.is_template = true};

	if (size < TEMPLATE_SIZE)
		return;
	known = find_known(catch_up, message);
	if (known && !catch_up->options.datagrams && !is_known(catch_up, message, size)) {
		memcpy(withdrawal, message, WITHDRAWAL_SIZE);
		withdrawal[2] = 0;
		withdrawal[3] = WITHDRAWAL_SIZE;
		withdrawal[SET_OFFSET + 2] = 0;
		withdrawal[SET_OFFSET + 3] = WITHDRAWAL_SIZE - HEADER_SIZE;
		withdrawal[ID_OFFSET + 2] = withdrawal[ID_OFFSET + 3] = 0;
		info.domain = known->domain;
		fm_courier_deliver(catch_up->options.courier, withdrawal, sizeof(withdrawal),
				   &info);
	}
	if (!known && catch_up->n_known < TEMPLATES_MAX)
		known = &catch_up->known[catch_up->n_known++];
	if (known)
		*known = (struct known){
			.domain = get32(message + DOMAIN_OFFSET),
			.id = get16(message + ID_OFFSET),
			.hash = hash_of(message, size),
		};
}

/* --- numbers --- */

/* NULL: none of the domain was seen. */
static struct place *find_place(struct fm_catch_up *catch_up, uint32_t domain)
{
	for (size_t i = 0; i < catch_up->n_places; i++)
		if (catch_up->places[i].domain == domain)
			return &catch_up->places[i];
	return NULL;
}

/* A message that waits: the first of its domain says where that is. */
static struct place *note_place(struct fm_catch_up *catch_up, const uint8_t *message)
{
	uint32_t domain = get32(message + DOMAIN_OFFSET), number = get32(message + SEQUENCE_OFFSET);
	struct place *place = find_place(catch_up, domain);

	if (place || catch_up->n_places == PLACES_MAX)
		return place;
	place = &catch_up->places[catch_up->n_places++];
	*place = (struct place){.domain = domain, .waits = number, .next = number};
	return place;
}

/* What was under way is not, and comes again. */
static void step_back(struct fm_catch_up *catch_up)
{
	for (size_t i = 0; i < catch_up->n_places; i++)
		catch_up->places[i].next = catch_up->places[i].waits;
}

/* --- into the spool --- */

static bool is_away(const struct fm_catch_up *catch_up)
{
	return !catch_up->options.courier->transport || (catch_up->told && catch_up->state != 0) ||
	       fm_courier_stalled(catch_up->options.courier);
}

static bool is_up(const struct fm_catch_up *catch_up)
{
	return catch_up->told && catch_up->state == 0 &&
	       !fm_courier_stalled(catch_up->options.courier) &&
	       (catch_up->options.connects ||
		fm_clock_monotonic_ns() - catch_up->first_up_ns >= FIRST_WAIT_NS);
}

/*
 * What is worth waiting: options are made anew for each connection, but over UDP every record has
 * its place in a sequence.
 */
static bool is_kept(const struct fm_catch_up *catch_up, const struct fm_message_info *info)
{
	return !info->is_template &&
	       (info->records || info->is_kept || (!catch_up->options.connects && info->sequenced));
}

static bool put(struct fm_catch_up *catch_up, const uint8_t *message, size_t size,
		const struct fm_message_info *info)
{
	const struct fm_log_field field = {"FLOWMOND_SINK", catch_up->options.name};
	uint64_t now = fm_clock_monotonic_ns();
	bool first;
	int r;

	if (!catch_up->spool || now < catch_up->retry_ns)
		return false;
	first = fm_spool_is_empty(catch_up->spool);
	r = fm_spool_put(catch_up->spool, message, size, info);
	report(catch_up, r);
	if (r < 0) {
		catch_up->retry_ns = now + RETRY_NS;
		return false;
	}
	fm_courier_settle(catch_up->options.courier, info);
	if (first) {
		catch_up->n_places = 0;
		catch_up->found = false;
	}
	if (!catch_up->found)
		note_place(catch_up, message);
	if (first) {
		fm_log_with(LOG_NOTICE, &field, 1, "%s: messages wait in %s/%s",
			    catch_up->options.name, catch_up->options.spool.directory,
			    catch_up->options.spool.name);
		catch_up->credit = 0;
	}
	/* What comes while the old is caught up goes as fast as it comes. */
	if (is_up(catch_up))
		catch_up->credit += info->records;
	log_dropped(catch_up, false);
	sd_event_source_set_enabled(catch_up->timer, SD_EVENT_ONESHOT);
	return true;
}

/*
 * What stays at the head of a connection's queue, since it may be half written, becomes what was
 * taken from the spool.
 */
static void adopt(struct fm_catch_up *catch_up, struct fm_message *head)
{
	struct fm_message_info info;
	const uint8_t *message;
	size_t size;

	if (!fm_spool_is_empty(catch_up->spool)) /* something is older */
		return;
	for (; head; head = head->next) {
		if (!is_kept(catch_up, &head->info) || head->info.spool_id)
			continue;
		if (!put(catch_up, head->data, head->size, &head->info))
			return;
		while (fm_spool_next(catch_up->spool, &message, &size, &info) > 0) {
			if (!info.is_template) {
				head->info.spool_id = info.spool_id;
				head->info.spool_place = info.spool_place;
				break;
			}
			/* The collector has it: the message was sent in this session. */
			fm_spool_done(catch_up->spool, info.spool_id, true);
		}
	}
}

/* What waits in memory goes into the spool: it is older than what comes. */
static void recall(struct fm_catch_up *catch_up)
{
	struct fm_courier *courier = catch_up->options.courier;
	struct fm_message *list;

	if (!courier->transport || !catch_up->spool || !courier->transport->ops->recall ||
	    fm_clock_monotonic_ns() < catch_up->retry_ns)
		return;
	list = courier->transport->ops->recall(courier->transport);
	adopt(catch_up, courier->transport->first);
	while (list) {
		_fm_cleanup_free_ struct fm_message *message = list;

		list = message->next;
		if (message->info.spool_id)
			catch_up->rewind = true;
		else if (!is_kept(catch_up, &message->info) ||
			 !put(catch_up, message->data, message->size, &message->info))
			fm_courier_deliver(courier, message->data, message->size, &message->info);
	}
}

static bool has_room(const struct fm_catch_up *catch_up, size_t size)
{
	const struct fm_transport *transport = catch_up->options.courier->transport;

	return transport->waiting_octets + size <= transport->options.queue_octets;
}

/* The message with the number that the collector comes to next. */
static void send_in_place(struct fm_catch_up *catch_up, const struct place *place,
			  const uint8_t *message, size_t size, const struct fm_message_info *info)
{
	uint8_t copy[TEMPLATE_MAX];

	memcpy(copy, message, size);
	for (unsigned int i = 0; i < 4; i++)
		copy[SEQUENCE_OFFSET + i] = (uint8_t)(place->next >> (24 - 8 * i));
	fm_courier_deliver(catch_up->options.courier, copy, size, info);
}

/*
 * Templates are sent at once, unless old messages need others of the same ids, or nobody knows
 * their number yet. What waits has them with it.
 */
static void send_template(struct fm_catch_up *catch_up, const uint8_t *message, size_t size,
			  const struct fm_message_info *info)
{
	const struct place *place = NULL;
	bool later = false;

	if (catch_up->spool) {
		fm_spool_template(catch_up->spool, message, size);
		/* One of an id that the collector has not is in nobody's way. */
		later = catch_up->foreign && size >= TEMPLATE_SIZE && find_known(catch_up, message);
	}
	if (catch_up->spool && !catch_up->options.connects && !fm_spool_is_empty(catch_up->spool) &&
	    size >= HEADER_SIZE && size <= TEMPLATE_MAX) {
		place = find_place(catch_up, info->domain);
		/* Behind the last one that waits the number is what it is. */
		later |= !place && catch_up->found && !fm_spool_at_end(catch_up->spool);
	}
	if (later) {
		fm_courier_settle(catch_up->options.courier, info);
		return;
	}
	announce(catch_up, message, size);
	if (place)
		send_in_place(catch_up, place, message, size, info);
	else
		fm_courier_deliver(catch_up->options.courier, message, size, info);
}

void fm_catch_up_send(struct fm_catch_up *catch_up, const uint8_t *message, size_t size,
		      const struct fm_message_info *info)
{
	struct fm_courier *courier = catch_up->options.courier;
	bool away = is_away(catch_up);

	if (info->is_template) {
		send_template(catch_up, message, size, info);
		return;
	}
	if (catch_up->spool && is_kept(catch_up, info)) {
		if (away || !has_room(catch_up, size))
			recall(catch_up);
		if ((away || !fm_spool_is_empty(catch_up->spool) || !has_room(catch_up, size)) &&
		    put(catch_up, message, size, info))
			return;
	}
	fm_courier_deliver(courier, message, size, info);
}

bool fm_catch_up_absorbs(const struct fm_catch_up *catch_up, bool pressed)
{
	return catch_up->spool && fm_clock_monotonic_ns() >= catch_up->retry_ns &&
	       (pressed || is_away(catch_up) || !fm_spool_is_empty(catch_up->spool));
}

bool fm_catch_up_unsent(struct fm_catch_up *catch_up, const uint8_t *message, size_t size,
			const struct fm_message_info *info)
{
	if (info->spool_id) {
		catch_up->rewind = true;
		step_back(catch_up);
		sd_event_source_set_enabled(catch_up->timer, SD_EVENT_ONESHOT);
		return true;
	}
	return is_kept(catch_up, info) && put(catch_up, message, size, info);
}

/* --- out of the spool --- */

void fm_catch_up_sent(struct fm_catch_up *catch_up, const struct fm_message_info *info)
{
	struct place *place = info->spool_id ? find_place(catch_up, info->domain) : NULL;

	if (place)
		place->waits += info->sequenced;
	if (info->spool_id && catch_up->spool)
		fm_spool_done(catch_up->spool, info->spool_id, true);
}

/* What templates the collector has is not known. */
void fm_catch_up_begun(struct fm_catch_up *catch_up)
{
	catch_up->n_known = 0;
	catch_up->foreign = false;
}

void fm_catch_up_state(struct fm_catch_up *catch_up, int error)
{
	if (error == 0 && !catch_up->first_up_ns)
		catch_up->first_up_ns = fm_clock_monotonic_ns();
	if (error < 0) {
		fm_catch_up_begun(catch_up);
		step_back(catch_up);
	}
	catch_up->told = true;
	catch_up->state = error;
	if (catch_up->timer && catch_up->spool)
		sd_event_source_set_enabled(catch_up->timer, SD_EVENT_ONESHOT);
}

static void refill(struct fm_catch_up *catch_up)
{
	uint64_t now = fm_clock_monotonic_ns();
	double more = (double)(now - catch_up->tokens_ns) / (double)FM_NS_PER_S;

	catch_up->tokens_ns = now;
	catch_up->tokens += more * (double)catch_up->options.rate;
	catch_up->tokens = FM_MIN(catch_up->tokens, BURST_RECORDS);
}

static void pay(struct fm_catch_up *catch_up, uint32_t records)
{
	double price = FM_MAX(records, 1U), by_credit = FM_MIN(price, catch_up->credit);

	catch_up->credit -= by_credit;
	catch_up->tokens -= price - by_credit;
}

/* A message of the spool. */
static void send_spooled(struct fm_catch_up *catch_up, const uint8_t *message, size_t size,
			 const struct fm_message_info *info)
{
	size_t path = catch_up->options.courier->transport->message_max;
	size_t most = path ? path : catch_up->options.message_max;
	const struct place *place = NULL;

	if (info->is_template && is_known(catch_up, message, size)) {
		fm_spool_done(catch_up->spool, info->spool_id, true);
		return;
	}
	if (size > most) { /* left by another configuration, or for another path */
		fm_spool_done(catch_up->spool, info->spool_id, false);
		return;
	}
	if (info->is_template) {
		catch_up->foreign |= size >= TEMPLATE_SIZE && find_known(catch_up, message);
		announce(catch_up, message, size);
		/* It may have been read again, from before the position. */
		if (!catch_up->options.connects && size <= TEMPLATE_MAX)
			place = find_place(catch_up, info->domain);
	} else {
		struct place *first = note_place(catch_up, message);

		if (first)
			first->next = get32(message + SEQUENCE_OFFSET) + info->sequenced;
	}
	if (place)
		send_in_place(catch_up, place, message, size, info);
	else
		fm_courier_deliver(catch_up->options.courier, message, size, info);
	pay(catch_up, info->records);
}

/* All of the spool is on its way: then as it was before. */
static void finish(struct fm_catch_up *catch_up)
{
	const struct fm_log_field field = {"FLOWMOND_SINK", catch_up->options.name};
	struct fm_courier *courier = catch_up->options.courier;
	bool again = catch_up->foreign || catch_up->options.datagrams;
	struct fm_spool_gap gap;

	if (courier->transport->waiting)
		return;
	/* Over UDP this also shows that the last datagram was not answered. */
	catch_up->foreign = false;
	if (again)
		catch_up->options.templates(catch_up->options.userdata);
	fm_courier_flush(courier);
	if (!fm_spool_is_empty(catch_up->spool))
		return;
	fm_spool_gap(catch_up->spool, &gap);
	if (!gap.sum.messages)
		return;
	catch_up->options.filled(catch_up->options.userdata, &gap);
	fm_spool_gap_told(catch_up->spool);
	fm_log_with(LOG_NOTICE, &field, 1,
		    "%s: caught up: %" PRIu64 " messages, %" PRIu64 " records, %" PRIu64
		    " packets, %" PRIu64 " octets",
		    catch_up->options.name, gap.sum.messages, gap.sum.records, gap.sum.packets,
		    gap.sum.octets);
}

static void pump(struct fm_catch_up *catch_up)
{
	struct fm_courier *courier = catch_up->options.courier;
	struct fm_transport *transport = courier->transport;

	refill(catch_up);
	while (is_up(catch_up) && !catch_up->rewind && !transport->stalled_since_ns &&
	       transport->waiting_octets < AHEAD_OCTETS &&
	       (!catch_up->options.rate || catch_up->tokens + catch_up->credit >= 1)) {
		struct fm_message_info info;
		const uint8_t *message;
		size_t size;
		int r = fm_spool_next(catch_up->spool, &message, &size, &info);

		report(catch_up, FM_MIN(r, 0));
		if (r <= 0)
			break;
		send_spooled(catch_up, message, size, &info);
	}
	fm_courier_flush(courier);
	if (is_up(catch_up) && !catch_up->rewind && fm_spool_at_end(catch_up->spool))
		finish(catch_up);
}

static void turn(struct fm_catch_up *catch_up)
{
	if (!catch_up->spool || catch_up->stopping)
		return;
	if (is_away(catch_up) || catch_up->rewind)
		recall(catch_up);
	if (catch_up->rewind)
		fm_spool_rewind(catch_up->spool);
	catch_up->rewind = false;
	if (is_up(catch_up) && !fm_spool_is_empty(catch_up->spool))
		pump(catch_up);
}

static int on_timer(sd_event_source *source, uint64_t usec, void *userdata)
{
	struct fm_catch_up *catch_up = userdata;

	sd_event_source_set_time_relative(source, TURN_US);
	turn(catch_up);
	/* While the collector is away a turn a second is enough. */
	if (catch_up->spool && !fm_spool_is_empty(catch_up->spool) && is_up(catch_up))
		sd_event_source_set_enabled(source, SD_EVENT_ONESHOT);
	return 0;
}

/* --- the whole --- */

/*
 * Where domains are in what was found, as far as the first messages tell: so many as may be under
 * way.
 */
static void find_places(struct fm_catch_up *catch_up)
{
	struct fm_message_info info;
	const uint8_t *message;
	size_t size;

	catch_up->n_places = 0;
	catch_up->found = !fm_spool_is_empty(catch_up->spool);
	while (catch_up->n_places < PLACES_MAX &&
	       fm_spool_next(catch_up->spool, &message, &size, &info) > 0)
		if (!info.is_template)
			note_place(catch_up, message);
	fm_spool_rewind(catch_up->spool);
}

static int new_spool(struct fm_catch_up *catch_up)
{
	struct fm_courier *courier = catch_up->options.courier;
	struct fm_spool_intent *intent = catch_up->options.spool.intent;
	int r = fm_spool_new(&catch_up->spool, &catch_up->options.spool);

	if (r < 0)
		return r;
	/* Killed between putting a message there and taking it out of the outbox. */
	if (!courier->transport && fm_spool_has(catch_up->spool, &intent->place))
		fm_courier_settle_old(courier, intent->outbox_id);
	*intent = (struct fm_spool_intent){};
	fm_spool_settle(catch_up->spool, courier->spooled, courier->n_spooled);
	courier->n_spooled = 0;
	find_places(catch_up);
	return 0;
}

static void open_spool(struct fm_catch_up *catch_up)
{
	uint64_t now = fm_clock_monotonic_ns();
	int r;

	if (!catch_up->options.enabled || catch_up->stopping || now < catch_up->retry_ns)
		return;
	r = new_spool(catch_up);
	report(catch_up, r);
	if (r < 0)
		catch_up->retry_ns = now + RETRY_NS;
	else /* it has to know them all */
		catch_up->options.templates(catch_up->options.userdata);
}

void fm_catch_up_tick(struct fm_catch_up *catch_up)
{
	uint64_t now = fm_clock_monotonic_ns();

	if (!catch_up->spool)
		open_spool(catch_up);
	if (!catch_up->spool)
		return;
	if (now >= catch_up->retry_ns)
		report(catch_up, fm_spool_sync(catch_up->spool, now));
	log_dropped(catch_up, false);
	sd_event_source_set_enabled(catch_up->timer, SD_EVENT_ONESHOT);
}

int fm_catch_up_new(struct fm_catch_up **ret, const struct fm_catch_up_options *options)
{
	struct fm_catch_up *catch_up = calloc(1, sizeof(*catch_up));
	int r;

	if (!catch_up)
		return -ENOMEM;
	catch_up->options = *options;
	catch_up->options.spool.intent = options->courier->intent;
	r = sd_event_add_time_relative(options->event, &catch_up->timer, CLOCK_MONOTONIC, TURN_US,
				       0, on_timer, catch_up);
	if (r < 0) {
		free(catch_up);
		return r;
	}
	sd_event_source_set_enabled(catch_up->timer, SD_EVENT_OFF);
	catch_up->tokens_ns = fm_clock_monotonic_ns();
	*ret = catch_up;
	return 0;
}

void fm_catch_up_begin(struct fm_catch_up *catch_up)
{
	if (catch_up->options.enabled)
		report(catch_up, new_spool(catch_up));
}

void fm_catch_up_learn(struct fm_catch_up *catch_up, const uint8_t *message, size_t size)
{
	if (catch_up->spool)
		fm_spool_template(catch_up->spool, message, size);
}

void fm_catch_up_stop(struct fm_catch_up *catch_up)
{
	catch_up->stopping = true;
}

struct fm_catch_up *fm_catch_up_free(struct fm_catch_up *catch_up)
{
	if (!catch_up)
		return NULL;
	log_dropped(catch_up, true);
	fm_spool_free(catch_up->spool);
	sd_event_source_disable_unref(catch_up->timer);
	free(catch_up);
	return NULL;
}

void fm_catch_up_stats(const struct fm_catch_up *catch_up, struct fm_sink_stats *stats)
{
	struct fm_spool_stats spool;

	get_stats(catch_up, &spool);
	stats->spooled_records = spool.put.records;
	stats->spooled_packets = spool.put.packets;
	stats->spooled_octets = spool.put.octets;
	stats->spool_dropped_records = spool.dropped.records;
	stats->spool_dropped_packets = spool.dropped.packets;
	stats->spool_dropped_octets = spool.dropped.octets;
	stats->spool_torn_octets = spool.torn_octets;
	stats->spool_waiting_octets = spool.file_octets;
	for (unsigned int i = 0; i < _FM_NOT_SENT_MAX; i++) {
		const struct fm_spool_sum *dropped = &spool.by_cause[i];
		const struct fm_not_sent_sum sum = {dropped->records, dropped->packets,
						    dropped->octets};

		fm_sink_stats_lose(stats, (enum fm_not_sent)i, &sum);
	}
}
