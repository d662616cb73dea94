/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A collector: a session that makes messages and a courier that carries them. Keeps templates and
 * options records fresh, and the pace that a collector's socket buffer can take.
 */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/clock.h"
#include "base/log.h"
#include "base/macro.h"
#include "daemon/catch-up.h"
#include "daemon/config-fields.h"
#include "daemon/courier.h"
#include "daemon/identity.h"
#include "daemon/resolve.h"
#include "daemon/sampler.h"
#include "daemon/sink.h"
#include "daemon/tell.h"
#include "ipfix/layout.h"
#include "ipfix/session.h"

#define TICK_US 1000000
/* The next tick while there is more to tell than the pace allows. */
#define TICK_SOON_US 10000
/* A name that cannot be resolved, or a certificate that cannot be used, is tried again after this.
 */
#define RESOLVE_AGAIN_NS (10 * FM_NS_PER_S)
/*
 * Records that may go at once: a collector with the default receive buffer (208 KiB) holds about 90
 * datagrams of 1400 octets; this is half of that.
 */
#define BURST_RECORDS 512.0
#define BURST_MIN     16.0

/* Where sequence numbers are: RFC 7011 3.1, RFC 3954 5.1. */
#define SEQUENCE_IPFIX 8
#define SEQUENCE_V9    12

/* How messages of a transport go; a row each. */
struct way {
	const struct fm_transport_ops *ops;
	bool datagrams;	     /* that may get lost: templates again and again */
	bool connects;	     /* each connection is a transport session */
	bool secure;	     /* has certificates */
	size_t queue_octets; /* that may wait */
	size_t message_max;  /* octets */
};

static const struct way ways[] = {
	[FM_TRANSPORT_UDP] = {&fm_transport_udp, true, false, false, 1 << 20, 65507},
	[FM_TRANSPORT_TCP] = {&fm_transport_tcp, false, true, false, 4 << 20, 65535},
	[FM_TRANSPORT_TLS] = {&fm_transport_tls, false, true, true, 4 << 20, 65535},
	[FM_TRANSPORT_DTLS] = {&fm_transport_dtls, true, true, true, 4 << 20, 16384},
};

struct collector {
	struct fm_sink sink;
	struct fm_sink_env env;
	const struct fm_collector_config *config;
	const struct way *way;
	struct fm_session *session;
	struct fm_courier courier;
	SSL_CTX *tls; /* outlives the courier */
	struct fm_catch_up *catch_up;
	struct fm_resolve *resolve;
	unsigned int asked_attempts; /* of the transport, when the name was asked for last */
	bool is_number;		     /* the address */
	sd_event_source *tick;
	struct fm_tell tell;
	bool started;			   /* the courier is */
	bool begun;			   /* there was a transport session */
	bool learning;			   /* templates are for the spool alone */
	uint64_t resolve_ns, templates_ns; /* when due, CLOCK_MONOTONIC */
	uint64_t messages;		   /* since templates */
	double tokens, burst;
	uint64_t tokens_ns;
	char name[320];
};

static struct collector *of(struct fm_sink *sink)
{
	return (struct collector *)sink;
}

static void on_message(void *userdata, const uint8_t *message, size_t size,
		       const struct fm_message_info *info)
{
	struct collector *collector = userdata;

	if (collector->learning) {
		if (info->is_template)
			fm_catch_up_learn(collector->catch_up, message, size);
		return;
	}
	collector->messages++;
	fm_courier_send(&collector->courier, message, size, info);
}

static void send_templates_by(struct collector *collector,
			      int (*fn)(struct fm_session *session, uint64_t now_ns))
{
	int r;

	collector->courier.template_lost = false;
	r = fn(collector->session, fm_clock_realtime_ns());
	if (r < 0)
		fm_log_error("%s: cannot make templates: %s", collector->name, strerror(-r));
	collector->messages = 0;
	collector->templates_ns = fm_clock_monotonic_ns() + collector->config->template_ns;
}

static void send_templates(struct collector *collector)
{
	send_templates_by(collector, fm_session_templates);
}

static void get_stats(const struct collector *collector, struct fm_sink_stats *ret)
{
	fm_courier_stats(&collector->courier, ret);
	fm_catch_up_stats(collector->catch_up, ret);
	ret->untold_options = collector->tell.dropped;
}

/* Templates first, then what there is to say of interfaces. */
static void on_begun(void *userdata)
{
	struct collector *collector = userdata;

	fm_catch_up_begun(collector->catch_up);
	if (collector->way->connects)
		fm_session_restart(collector->session);
	fm_session_limit(collector->session, collector->courier.transport->message_max);
	send_templates_by(collector, fm_session_begin);
	collector->begun = true;
	fm_tell_begun(&collector->tell, fm_clock_monotonic_ns());
}

/* Certificates are read; those that are wrong hold up nobody else. */
static bool has_identity(struct collector *collector)
{
	_fm_cleanup_buf_ struct fm_buf complaint = {};

	if (!collector->way->secure || collector->tls)
		return true;
	if (fm_identity_load(collector->config, &collector->tls, &complaint) == 0) {
		collector->resolve_ns = 0;
		return true;
	}
	if (collector->resolve_ns == 0)
		fm_log_error("%s: %s; read again every 10 s, nothing is sent until then",
			     collector->name, complaint.data ? complaint.data : "no memory");
	collector->resolve_ns = fm_clock_monotonic_ns() + RESOLVE_AGAIN_NS;
	return false;
}

static void on_sent(void *userdata, const struct fm_message_info *info)
{
	fm_catch_up_sent(((struct collector *)userdata)->catch_up, info);
}

static bool on_unsent(void *userdata, const uint8_t *message, size_t size,
		      const struct fm_message_info *info)
{
	return fm_catch_up_unsent(((struct collector *)userdata)->catch_up, message, size, info);
}

static void on_state(void *userdata, int error)
{
	fm_catch_up_state(((struct collector *)userdata)->catch_up, error);
}

static void on_deliver(void *userdata, const uint8_t *message, size_t size,
		       const struct fm_message_info *info)
{
	fm_catch_up_send(((struct collector *)userdata)->catch_up, message, size, info);
}

static bool on_absorbs(void *userdata, bool pressed)
{
	return fm_catch_up_absorbs(((struct collector *)userdata)->catch_up, pressed);
}

static const struct fm_courier_hooks hooks = {
	.begun = on_begun,
	.deliver = on_deliver,
	.absorbs = on_absorbs,
	.sent = on_sent,
	.unsent = on_unsent,
	.state = on_state,
};

static int start_courier(struct collector *collector, const struct fm_addresses *addresses)
{
	struct fm_transport_options options = {
		.address = addresses->v[0].address,
		.address_size = addresses->v[0].size,
		.reconnect_ns = collector->config->reconnect_ns,
		.tls = collector->tls,
		.peer_name = *collector->config->peer_name ? collector->config->peer_name
							   : collector->config->address.host,
		.renew_ns = collector->config->association_ns,
	};
	int r = fm_courier_start(&collector->courier, collector->way->ops, &options);

	if (r == 0)
		collector->started = true;
	return r;
}

/* The name stands for other addresses than the one in use: what waits goes there as well. */
static void follow(struct collector *collector, const struct fm_addresses *addresses)
{
	const struct fm_transport_options *options = &collector->courier.transport->options;

	if (fm_resolve_holds(addresses, &options->address, options->address_size))
		return;
	fm_log_notice("%s: the name has another address now", collector->name);
	fm_courier_move(&collector->courier, &addresses->v[0].address, addresses->v[0].size);
}

static void on_resolved(void *userdata, int error, const struct fm_addresses *addresses)
{
	struct collector *collector = userdata;
	uint64_t now = fm_clock_monotonic_ns();

	if (collector->started) {
		if (error == 0)
			follow(collector, addresses);
		collector->resolve_ns = now + collector->config->resolve_ns;
	} else {
		if (error == 0)
			error = start_courier(collector, addresses);
		if (error && collector->resolve_ns == 0)
			fm_log_warning("%s: cannot resolve the name: %s; asked again",
				       collector->name, strerror(-error));
		collector->resolve_ns =
			now + (error ? RESOLVE_AGAIN_NS : collector->config->resolve_ns);
	}
	collector->resolve = fm_resolve_free(collector->resolve); /* with addresses */
}

static int resolve(struct collector *collector)
{
	const struct fm_address *address = &collector->config->address;
	struct fm_addresses number;

	if (!has_identity(collector))
		return 0;
	if (fm_resolve_number(address->host, address->port, &number) == 0) {
		collector->is_number = true;
		return start_courier(collector, &number);
	}
	return fm_resolve_new(&collector->resolve, collector->env.event, address->host,
			      address->port, on_resolved, collector);
}

/*
 * Asks for the name again: every while, and over connections when one ended or was not made, so
 * that the answer is there before the next.
 */
static void resolve_again(struct collector *collector, uint64_t now)
{
	const struct fm_transport *transport = collector->courier.transport;
	bool due = collector->way->datagrams && now >= collector->resolve_ns;

	if (collector->is_number || collector->resolve)
		return;
	if (collector->way->connects && transport->fd < 0 &&
	    collector->asked_attempts != transport->attempts) {
		collector->asked_attempts = transport->attempts;
		due = true;
	}
	if (due)
		resolve(collector);
}

static void refill(struct collector *collector)
{
	uint64_t now = fm_clock_monotonic_ns();
	double more = (double)(now - collector->tokens_ns) / (double)FM_NS_PER_S;

	collector->tokens += more * (double)collector->config->rate;
	collector->tokens = FM_MIN(collector->tokens, collector->burst);
	collector->tokens_ns = now;
}

/* Whether there is somebody to tell. A stream that is not there is told later. */
static bool is_up(const struct collector *collector)
{
	return collector->begun && (!collector->way->connects || collector->courier.up);
}

/* Options records, at the pace of flow records. */
static void tell(struct collector *collector)
{
	size_t room = SIZE_MAX, told;
	struct fm_sink_stats stats;

	if (!is_up(collector) || fm_courier_room(&collector->courier) == 0)
		return;
	if (collector->config->rate) {
		refill(collector);
		room = collector->tokens < 1 ? 0 : (size_t)collector->tokens;
	}
	get_stats(collector, &stats);
	told = fm_tell_some(&collector->tell, fm_clock_monotonic_ns(), room, &stats);
	collector->tokens -= (double)told;
}

static int on_tick(sd_event_source *source, uint64_t usec, void *userdata)
{
	struct collector *collector = userdata;
	uint64_t now = fm_clock_monotonic_ns();

	sd_event_source_set_time_relative(source, TICK_US);
	sd_event_source_set_enabled(source, SD_EVENT_ONESHOT);
	fm_courier_check(&collector->courier);
	fm_catch_up_tick(collector->catch_up);
	if (!collector->started) {
		if (!collector->resolve && now >= collector->resolve_ns)
			resolve(collector);
		return 0;
	}
	resolve_again(collector, now);
	if (collector->way->datagrams && now >= collector->templates_ns)
		fm_tell_types(&collector->tell);
	/* Where nobody listens, templates ask whether somebody does now, who needs them then. */
	if (collector->way->datagrams &&
	    (now >= collector->templates_ns || collector->courier.template_lost ||
	     (!collector->way->connects && !collector->courier.up)))
		send_templates(collector);
	tell(collector);
	fm_courier_flush(&collector->courier);
	if (is_up(collector) && fm_tell_waits(&collector->tell))
		sd_event_source_set_time_relative(source, TICK_SOON_US);
	return 0;
}

static void on_templates(void *userdata)
{
	send_templates(userdata);
}

static void on_filled(void *userdata, const struct fm_spool_gap *gap)
{
	struct collector *collector = userdata;
	const struct fm_session_gap filled = {
		.from = gap->from,
		.to = gap->to,
		.messages = gap->sum.messages,
		.records = gap->sum.records,
		.packets = gap->sum.packets,
		.octets = gap->sum.octets,
	};

	fm_session_gap(collector->session, &filled, fm_clock_realtime_ns());
}

static int open_catch_up(struct collector *collector)
{
	const struct fm_config *config = collector->env.config;
	const struct fm_catch_up_options options = {
		.event = collector->env.event,
		.courier = &collector->courier,
		.name = collector->name,
		.spool.directory = config->spool_directory,
		.spool.name = collector->config->name,
		.spool.max_octets = config->spool_max_octets,
		.spool.file_octets = config->spool_file_octets,
		.spool.sync_ns = config->spool_sync_ns,
		.enabled = collector->config->spool != FM_SPOOL_NO && *config->spool_directory &&
			   collector->config->protocol == FM_PROTOCOL_IPFIX,
		.required = collector->config->spool == FM_SPOOL_YES,
		.datagrams = collector->way->datagrams,
		.connects = collector->way->connects,
		.rate = config->spool_rate,
		.message_max = collector->way->message_max,
		.templates = on_templates,
		.filled = on_filled,
		.userdata = collector,
	};

	return fm_catch_up_new(&collector->catch_up, &options);
}

/* Messages for another address, of another domain or kind are not for this collector. */
static int open_courier(struct collector *collector, const struct fm_session_options *records)
{
	const struct fm_collector_config *config = collector->config;
	char peer[sizeof(collector->name) + 96], stream[sizeof(collector->name)];
	const struct fm_courier_options options = {
		.env = &collector->env,
		.name = collector->name,
		.peer = peer,
		.stream = stream,
		.hooks = &hooks,
		.userdata = collector,
		.octets = collector->way->queue_octets,
		.direct = collector->way->connects,
		.sequence_offset = collector->way->connects		? 0
				   : config->protocol == FM_PROTOCOL_V9 ? SEQUENCE_V9
									: SEQUENCE_IPFIX,
	};

	snprintf(peer, sizeof(peer), "%s %llu %llu %u%s", collector->name,
		 (unsigned long long)config->domain, (unsigned long long)config->enterprise_number,
		 (unsigned int)config->profile, records->biflow ? " biflow" : "");
	if (fm_field_list_changes(&records->fields, records->profile))
		snprintf(peer + strlen(peer), sizeof(peer) - strlen(peer), " %016llx",
			 (unsigned long long)fm_layout_hash(records));
	/* Collectors tell exporters apart by address, not by the port of a new socket. */
	snprintf(stream, sizeof(stream), "%s %s %.200s",
		 config->protocol == FM_PROTOCOL_V9 ? "v9" : "ipfix", collector->way->ops->name,
		 config->address.text);
	return fm_courier_open(&collector->courier, &options);
}

static int init(struct collector *collector)
{
	const struct fm_collector_config *config = collector->config;
	struct fm_session_options options;
	int r;

	fm_config_collector_records(collector->env.config, config, &options);
	options.message_size = FM_MIN(options.message_size, collector->way->message_max);
	options.boot_ns = fm_clock_realtime_ns() - fm_clock_monotonic_ns();
	r = open_courier(collector, &options);
	if (r == 0)
		r = fm_session_new(&collector->session, &options, on_message, collector);
	/* What waits from before must be readable in the first session. */
	if (r == 0 && collector->courier.has_old)
		r = fm_session_use_all(collector->session);
	if (r < 0)
		return r;
	fm_samplers_tell(collector->env.samplers, collector->session);
	fm_tell_init(&collector->tell, &collector->env, collector->session, config->options_ns);
	r = open_catch_up(collector);
	if (r < 0)
		return r;
	r = sd_event_add_time_relative(collector->env.event, &collector->tick, CLOCK_MONOTONIC,
				       TICK_US, 0, on_tick, collector);
	if (r < 0)
		return r;
	collector->burst = FM_MIN(BURST_RECORDS, FM_MAX(BURST_MIN, (double)config->rate / 100));
	collector->tokens = collector->burst;
	collector->tokens_ns = fm_clock_monotonic_ns();
	return 0;
}

static void collector_free(struct collector *collector)
{
	fm_resolve_free(collector->resolve);
	sd_event_source_disable_unref(collector->tick);
	fm_catch_up_free(collector->catch_up);
	fm_tell_done(&collector->tell);
	fm_session_free(collector->session);
	fm_courier_close(&collector->courier);
	fm_tls_context_free(collector->tls);
	free(collector);
}

static int collector_open(struct fm_sink **ret, const struct fm_sink_env *env, size_t index)
{
	struct collector *collector = calloc(1, sizeof(*collector));
	int r;

	if (!collector)
		return -ENOMEM;
	collector->sink.ops = &fm_sink_collector;
	collector->courier.changed_ns = fm_clock_monotonic_ns();
	collector->env = *env;
	collector->config = &env->config->collectors[index];
	collector->way = &ways[collector->config->transport];
	snprintf(collector->name, sizeof(collector->name), "collector %s (%s %s %.200s)",
		 collector->config->name,
		 collector->config->protocol == FM_PROTOCOL_V9 ? "v9" : "ipfix",
		 collector->way->ops->name, collector->config->address.text);
	r = init(collector);
	if (r < 0) {
		fm_log_error("%s: %s", collector->name, strerror(-r));
		collector_free(collector);
		return r;
	}
	*ret = &collector->sink;
	return 0;
}

/* What an earlier process left may go to the disk before there is anybody to send templates to. */
static void learn_templates(struct collector *collector)
{
	collector->learning = true;
	send_templates(collector);
	collector->learning = false;
	collector->templates_ns = 0;
}

static void collector_start(struct fm_sink *sink)
{
	struct collector *collector = of(sink);
	int r;

	fm_catch_up_begin(collector->catch_up);
	fm_courier_begin(&collector->courier);
	if (collector->courier.has_old)
		learn_templates(collector);
	r = resolve(collector);
	if (r == 0)
		return;
	fm_log_error("%s: %s; tried again", collector->name, strerror(-r));
	collector->resolve_ns = fm_clock_monotonic_ns() + RESOLVE_AGAIN_NS;
}

static size_t collector_room(struct fm_sink *sink)
{
	struct collector *collector = of(sink);
	size_t room;

	room = fm_courier_room(&collector->courier);
	if (room == 0 || !collector->config->rate)
		return room;
	if (collector->tokens < 2)
		refill(collector);
	return collector->tokens < 2 ? 0 : (size_t)collector->tokens;
}

static void collector_kept(struct fm_sink *sink)
{
	fm_courier_kept(&of(sink)->courier);
}

static bool collector_up(const struct fm_sink *sink, uint64_t *ret_since_ns)
{
	return fm_courier_up(&((const struct collector *)sink)->courier, ret_since_ns);
}

static void collector_record(struct fm_sink *sink, const struct fm_record *record)
{
	struct collector *collector = of(sink);
	uint64_t most = collector->config->template_messages;

	collector->tokens--;
	fm_courier_hold(&collector->courier);
	if (fm_session_record(collector->session, record, fm_clock_realtime_ns()) < 0)
		fm_courier_lose_record(&collector->courier, record);
	if (collector->way->datagrams &&
	    ((most && collector->messages >= most) || collector->courier.template_lost))
		send_templates(collector);
}

static void collector_prepare(struct fm_sink *sink, uint64_t serial)
{
	struct collector *collector = of(sink);

	fm_session_flush(collector->session, fm_clock_realtime_ns());
	fm_courier_prepare(&collector->courier, serial);
}

static void collector_flush(struct fm_sink *sink)
{
	struct collector *collector = of(sink);

	if (collector->way->datagrams && collector->courier.template_lost)
		send_templates(collector);
	fm_session_flush(collector->session, fm_clock_realtime_ns());
	fm_courier_flush(&collector->courier);
}

static void collector_interfaces_changed(struct fm_sink *sink)
{
	fm_tell_changed(&of(sink)->tell, fm_clock_monotonic_ns());
}

static void collector_audit(struct fm_sink *sink, const struct fm_audit_row *row)
{
	struct collector *collector = of(sink);
	size_t told;

	fm_courier_hold(&collector->courier);
	told = fm_tell_audit(collector->session, row);
	collector->tokens -= (double)told;
	if (!told)
		fm_courier_lose_audit(&collector->courier);
}

static void collector_close(struct fm_sink *sink, uint64_t deadline_ns,
			    struct fm_sink_stats *ret_stats)
{
	struct collector *collector = of(sink);

	fm_session_flush(collector->session, fm_clock_realtime_ns());
	get_stats(collector, ret_stats);
	if (is_up(collector)) {
		fm_session_end(collector->session, fm_clock_realtime_ns());
		fm_tell_end(&collector->tell, ret_stats);
	}
	fm_catch_up_stop(collector->catch_up);
	fm_courier_done(&collector->courier, deadline_ns);
	get_stats(collector, ret_stats);
	fm_courier_log_not_sent(collector->name, ret_stats);
	if (ret_stats->spool_waiting_octets)
		fm_log_notice("%s: %llu octets of messages wait on disk", collector->name,
			      (unsigned long long)ret_stats->spool_waiting_octets);
	collector_free(collector);
}

static void collector_stats(struct fm_sink *sink, struct fm_sink_stats *ret)
{
	get_stats(of(sink), ret);
}

static const char *collector_describe(struct fm_sink *sink)
{
	return of(sink)->name;
}

const struct fm_sink_ops fm_sink_collector = {
	.kind = "collector",
	.open = collector_open,
	.start = collector_start,
	.room = collector_room,
	.kept = collector_kept,
	.up = collector_up,
	.record = collector_record,
	.prepare = collector_prepare,
	.flush = collector_flush,
	.interfaces_changed = collector_interfaces_changed,
	.audit = collector_audit,
	.close = collector_close,
	.stats = collector_stats,
	.describe = collector_describe,
};
