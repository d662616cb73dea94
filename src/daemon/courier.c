/* SPDX-License-Identifier: Apache-2.0 */
/* Transports in the event loop: see courier.h. */
#include "daemon/courier.h"

#include <errno.h>
#include <poll.h>
#include <stdio.h>
#include <string.h>

#include "base/clock.h"
#include "base/log.h"
#include "base/macro.h"

/* A transport that takes nothing is waited for this long, then what comes is given up. */
#define PATIENCE_NS FM_NS_PER_S
/* So many changes of state are logged within a minute of the last. */
#define LOG_FLAPS    4
#define LOG_AGAIN_NS (60 * FM_NS_PER_S)
/* How long one look lasts when the end waits for the network. */
#define WAIT_MS 10

static void on_sent(void *userdata, const struct fm_message_info *info, size_t size)
{
	struct fm_courier *courier = userdata;
	struct fm_sink_stats *stats = &courier->stats;

	stats->messages++;
	stats->message_octets += size;
	stats->records += info->records;
	stats->packets += info->packets;
	stats->octets += info->octets;
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

static void on_lost(void *userdata, const struct fm_message_info *info, size_t size)
{
	struct fm_sink_stats *stats = &((struct fm_courier *)userdata)->stats;

	stats->not_sent_records += info->records;
	stats->not_sent_packets += info->packets;
	stats->not_sent_octets += info->octets;
	((struct fm_courier *)userdata)->template_lost |= info->is_template;
}

void fm_courier_lose_record(struct fm_courier *courier, const struct fm_record *record)
{
	courier->stats.not_sent_records++;
	courier->stats.not_sent_packets += record->packets + record->rev_packets;
	courier->stats.not_sent_octets += record->octets + record->rev_octets;
}

/* Logged when it changes. */
static void on_state(void *userdata, int error)
{
	struct fm_courier *courier = userdata;
	const struct fm_log_field field = {"FLOWMOND_SINK", courier->name};
	uint64_t now = fm_clock_monotonic_ns();
	const char *trouble = courier->transport->trouble;
	bool known = *courier->state;
	char state[sizeof(courier->state)] = "sending";

	if (courier->hooks && courier->hooks->state)
		courier->hooks->state(courier->userdata, error);
	if (error)
		snprintf(state, sizeof(state), "cannot send: %s%s%s", strerror(-error),
			 *trouble ? ": " : "", trouble);
	if (!strcmp(courier->state, state))
		return;
	strcpy(courier->state, state);
	if (courier->up != !error)
		courier->changed_ns = now;
	courier->up = !error;
	/* A state that flaps is not worth a line each time. */
	if (known && now - courier->logged_ns < LOG_AGAIN_NS && courier->flaps++ > LOG_FLAPS)
		return;
	if (now - courier->logged_ns >= LOG_AGAIN_NS)
		courier->flaps = 0;
	courier->logged_ns = now;
	fm_log_with(error ? LOG_WARNING : LOG_INFO, &field, 1, "%s: %s", courier->name, state);
}

static void on_begun(void *userdata)
{
	struct fm_courier *courier = userdata;

	if (courier->hooks && courier->hooks->begun)
		courier->hooks->begun(courier->userdata);
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
		    sd_event_add_io(courier->event, &courier->io, transport->fd, transport->events,
				    on_io, courier) < 0)
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
	watch(courier);
	return 0;
}

static int on_timer(sd_event_source *source, uint64_t usec, void *userdata)
{
	struct fm_courier *courier = userdata;

	courier->transport->ops->dispatch(courier->transport, fm_clock_monotonic_ns());
	watch(courier);
	return 0;
}

int fm_courier_init(struct fm_courier *courier, sd_event *event, const char *name,
		    const struct fm_transport_ops *ops, struct fm_transport_options *options,
		    const struct fm_courier_hooks *hooks, void *userdata)
{
	int r;

	*courier = (struct fm_courier){
		.event = event,
		.name = name,
		.io_fd = -1,
		.hooks = hooks,
		.userdata = userdata,
		.changed_ns = fm_clock_monotonic_ns(),
	};
	options->begun = on_begun;
	options->sent = on_sent;
	options->lost = on_lost;
	options->unsent = on_unsent;
	options->state = on_state;
	options->userdata = courier;
	r = sd_event_add_time(event, &courier->timer, CLOCK_MONOTONIC, UINT64_MAX, 0, on_timer,
			      courier);
	if (r < 0)
		return r;
	r = fm_transport_new(&courier->transport, ops, options);
	if (r < 0) {
		courier->timer = sd_event_source_disable_unref(courier->timer);
		return r;
	}
	ops->start(courier->transport, fm_clock_monotonic_ns());
	watch(courier);
	return 0;
}

void fm_courier_send(struct fm_courier *courier, const uint8_t *message, size_t size,
		     const struct fm_message_info *info)
{
	if (!courier->transport) { /* no address yet */
		if (!on_unsent(courier, message, size, info))
			on_lost(courier, info, size);
		return;
	}
	courier->transport->ops->send(courier->transport, message, size, info,
				      fm_clock_monotonic_ns());
	watch(courier);
}

void fm_courier_flush(struct fm_courier *courier)
{
	if (!courier->transport)
		return;
	courier->transport->ops->flush(courier->transport, fm_clock_monotonic_ns());
	watch(courier);
}

void fm_courier_move(struct fm_courier *courier, const struct sockaddr_storage *address,
		     socklen_t size)
{
	fm_transport_move(courier->transport, address, size, fm_clock_monotonic_ns());
	watch(courier);
}

size_t fm_courier_room(const struct fm_courier *courier)
{
	const struct fm_transport *transport = courier->transport;

	if (!transport || !transport->stalled_since_ns ||
	    transport->waiting_octets < transport->options.queue_octets / 2)
		return SIZE_MAX;
	return fm_clock_monotonic_ns() - transport->stalled_since_ns < PATIENCE_NS ? 0 : SIZE_MAX;
}

bool fm_courier_up(const struct fm_courier *courier, uint64_t *ret_since_ns)
{
	*ret_since_ns = courier->changed_ns;
	return courier->up;
}

void fm_courier_stats(const struct fm_courier *courier, struct fm_sink_stats *ret)
{
	*ret = courier->stats;
	ret->waiting_messages = courier->transport ? courier->transport->waiting : 0;
}

void fm_courier_done(struct fm_courier *courier, uint64_t deadline_ns)
{
	struct fm_transport *transport = courier->transport;
	uint64_t now = fm_clock_monotonic_ns();

	if (transport)
		transport->ops->flush(transport, now);
	while (transport && transport->first && transport->fd >= 0 && now < deadline_ns) {
		struct pollfd poll_fd = {.fd = transport->fd, .events = (short)transport->events};

		/* Also the end of a connection that is being made, and answers of the network. */
		if (poll(&poll_fd, 1, WAIT_MS) > 0 || now >= transport->deadline_ns)
			transport->ops->dispatch(transport, now);
		now = fm_clock_monotonic_ns();
	}
	courier->io = sd_event_source_disable_unref(courier->io);
	courier->timer = sd_event_source_disable_unref(courier->timer);
	courier->transport = fm_transport_free(courier->transport);
}
