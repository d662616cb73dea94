/* SPDX-License-Identifier: Apache-2.0 */
/* Status: see status.h. */
#include "daemon/status.h"

#include <inttypes.h>
#include <string.h>

#include "base/macro.h"

/* One figure of the status: a name of JSON's kind, and where its value comes from. */
struct figure {
	const char *name;
	uint64_t value;
};

static const char *const counter_names[] = {
#define FM_COUNTER(name, class, help) #name,
#include "bpf/counters.def"
#undef FM_COUNTER
};

static const char *const counter_classes[] = {
#define FM_COUNTER(name, class, help) #class,
#include "bpf/counters.def"
#undef FM_COUNTER
};

static const char *const reason_names[] = {
	[FM_END_REASON_IDLE] = "idle",
	[FM_END_REASON_ACTIVE] = "active",
	[FM_END_REASON_END] = "end",
	[FM_END_REASON_FORCED] = "forced",
	[FM_END_REASON_RESOURCES] = "resources",
};

#define FIGURES_MAX 16

/* The daemon's own figures, in the order in which they are shown. */
static size_t daemon_figures(const struct fm_status *status, struct figure ret[FIGURES_MAX])
{
	const struct figure figures[] = {
		{"uptime_ms", status->uptime_ns / FM_NS_PER_MS},
		{"interfaces", status->interfaces},
		{"hooks", status->hooks},
		{"max_flows", status->max_flows},
		{"table_octets", status->table_octets},
		{"live_slots", status->sweep->live_slots},
		{"tombstones", status->sweep->tombstones},
		{"sweeps", status->sweep->sweeps},
		{"closed_conversations", status->sweep->closed},
		{"overflow_conversations", status->overflow_conversations},
		{"records", status->exporter->records},
		{"exported_packets", status->exporter->packets},
		{"exported_octets", status->exporter->octets},
	};

	_Static_assert(FM_ARRAY_SIZE(figures) <= FIGURES_MAX, "a row too many");
	memcpy(ret, figures, sizeof(figures));
	return FM_ARRAY_SIZE(figures);
}

#define SINK_FIGURES 17

static void sink_figures(const struct fm_sink_stats *stats, struct figure ret[SINK_FIGURES])
{
	const struct figure figures[SINK_FIGURES] = {
		{"records", stats->records},
		{"packets", stats->packets},
		{"octets", stats->octets},
		{"not_sent_records", stats->not_sent_records},
		{"not_sent_packets", stats->not_sent_packets},
		{"not_sent_octets", stats->not_sent_octets},
		{"messages", stats->messages},
		{"message_octets", stats->message_octets},
		{"waiting_messages", stats->waiting_messages},
		{"spooled_records", stats->spooled_records},
		{"spooled_packets", stats->spooled_packets},
		{"spooled_octets", stats->spooled_octets},
		{"spool_dropped_records", stats->spool_dropped_records},
		{"spool_dropped_packets", stats->spool_dropped_packets},
		{"spool_dropped_octets", stats->spool_dropped_octets},
		{"spool_torn_octets", stats->spool_torn_octets},
		{"spool_waiting_octets", stats->spool_waiting_octets},
	};

	memcpy(ret, figures, sizeof(figures));
}

const char *fm_status_counter_class(enum fm_counter counter)
{
	return counter_classes[counter];
}

struct fm_count fm_status_class_sum(const struct fm_counters *counters, const char *class)
{
	struct fm_count sum = {};

	for (unsigned int i = 0; i < _FM_COUNTER_MAX; i++) {
		if (strcmp(counter_classes[i], class))
			continue;
		sum.packets += counters->count[i].packets;
		sum.octets += counters->count[i].octets;
	}
	return sum;
}

static void text_sinks(const struct fm_export *exporter, struct fm_buf *ret)
{
	struct figure figures[SINK_FIGURES];
	struct fm_sink_stats stats;

	for (size_t i = 0; i < exporter->n_sinks; i++) {
		struct fm_sink *sink = exporter->sinks[i];

		sink->ops->stats(sink, &stats);
		sink_figures(&stats, figures);
		fm_buf_printf(ret, "\n%s\n", sink->ops->describe(sink));
		for (size_t f = 0; f < SINK_FIGURES; f++)
			fm_buf_printf(ret, "  %-24s %20" PRIu64 "\n", figures[f].name,
				      figures[f].value);
	}
}

static const char *const policy_names[] = {
	[FM_POLICY_COPY] = "copy",
	[FM_POLICY_BALANCE] = "balance",
	[FM_POLICY_FAILOVER] = "failover",
};

/* A line a member: the figures are what it was given, whatever became of it. */
static void text_groups(const struct fm_routes *routes, struct fm_buf *ret)
{
	for (size_t i = 0; i < routes->n; i++) {
		const struct fm_route *route = &routes->routes[i];
		uint64_t since;

		if (!route->group)
			continue;
		fm_buf_printf(
			ret, "\ngroup %s (%s)%*s %20s %20s %20s\n", route->group,
			policy_names[route->policy],
			(int)(30 - strlen(route->group) - strlen(policy_names[route->policy])), "",
			"records given", "packets", "octets");
		for (size_t m = 0; m < route->n; m++) {
			const struct fm_route_member *member = &route->members[m];

			fm_buf_printf(
				ret,
				"  %-24s %-4s %-8s %20" PRIu64 " %20" PRIu64 " %20" PRIu64 "\n",
				member->name, fm_route_member_up(member, &since) ? "up" : "down",
				fm_route_chosen(route, m) ? "chosen" : "", member->records,
				member->packets, member->octets);
		}
	}
}

int fm_status_text(const struct fm_status *status, struct fm_buf *ret)
{
	struct figure figures[FIGURES_MAX];
	size_t n = daemon_figures(status, figures);

	fm_buf_printf(ret, "flowmond " FM_VERSION ", programs attached by %s%s\n", status->attach,
		      status->resumed ? ", went on with an earlier process' tables" : "");
	for (size_t i = 0; i < n; i++)
		fm_buf_printf(ret, "  %-24s %20" PRIu64 "\n", figures[i].name, figures[i].value);
	fm_buf_printf(ret, "\nrecords by flowEndReason\n");
	for (unsigned int i = FM_END_REASON_IDLE; i <= FM_END_REASON_RESOURCES; i++)
		fm_buf_printf(ret, "  %-24s %20" PRIu64 "\n", reason_names[i],
			      status->exporter->reasons[i]);
	fm_buf_printf(ret, "\n%-26s %20s %20s  class\n", "counters", "packets", "octets");
	for (unsigned int i = 0; i < _FM_COUNTER_MAX; i++)
		fm_buf_printf(ret, "  %-24s %20llu %20llu  %s\n", counter_names[i],
			      status->counters.count[i].packets, status->counters.count[i].octets,
			      counter_classes[i]);
	text_groups(&status->exporter->routes, ret);
	text_sinks(status->exporter, ret);
	return fm_buf_error(ret);
}

static void json_figures(const struct figure *figures, size_t n, struct fm_buf *ret)
{
	for (size_t i = 0; i < n; i++)
		fm_buf_printf(ret, "%s\"%s\":%" PRIu64, i ? "," : "", figures[i].name,
			      figures[i].value);
}

static void json_sinks(const struct fm_export *exporter, struct fm_buf *ret)
{
	struct figure figures[SINK_FIGURES];
	struct fm_sink_stats stats;

	for (size_t i = 0; i < exporter->n_sinks; i++) {
		struct fm_sink *sink = exporter->sinks[i];

		sink->ops->stats(sink, &stats);
		sink_figures(&stats, figures);
		fm_buf_printf(ret, "%s{\"name\":", i ? "," : "");
		fm_buf_json_string(ret, sink->ops->describe(sink));
		fm_buf_printf(ret, ",");
		json_figures(figures, SINK_FIGURES, ret);
		fm_buf_printf(ret, "}");
	}
}

static void json_group(const struct fm_route *route, struct fm_buf *ret)
{
	uint64_t since;

	fm_buf_printf(ret, "{\"name\":\"%s\",\"policy\":\"%s\",\"members\":[", route->group,
		      policy_names[route->policy]);
	for (size_t m = 0; m < route->n; m++) {
		const struct fm_route_member *member = &route->members[m];

		fm_buf_printf(ret,
			      "%s{\"collector\":\"%s\",\"up\":%s,\"chosen\":%s,\"records\":%" PRIu64
			      ",\"packets\":%" PRIu64 ",\"octets\":%" PRIu64 "}",
			      m ? "," : "", member->name,
			      fm_route_member_up(member, &since) ? "true" : "false",
			      fm_route_chosen(route, m) ? "true" : "false", member->records,
			      member->packets, member->octets);
	}
	fm_buf_printf(ret, "]}");
}

static void json_groups(const struct fm_routes *routes, struct fm_buf *ret)
{
	const char *separator = "";

	for (size_t i = 0; i < routes->n; i++) {
		if (!routes->routes[i].group)
			continue;
		fm_buf_printf(ret, "%s", separator);
		json_group(&routes->routes[i], ret);
		separator = ",";
	}
}

int fm_status_json(const struct fm_status *status, struct fm_buf *ret)
{
	struct figure figures[FIGURES_MAX];
	size_t n = daemon_figures(status, figures);

	fm_buf_printf(ret, "{\"version\":\"" FM_VERSION "\",\"attach\":\"%s\",\"resumed\":%s,",
		      status->attach, status->resumed ? "true" : "false");
	json_figures(figures, n, ret);
	fm_buf_printf(ret, ",\"reasons\":{");
	for (unsigned int i = FM_END_REASON_IDLE; i <= FM_END_REASON_RESOURCES; i++)
		fm_buf_printf(ret, "%s\"%s\":%" PRIu64, i > FM_END_REASON_IDLE ? "," : "",
			      reason_names[i], status->exporter->reasons[i]);
	fm_buf_printf(ret, "},\"counters\":{");
	for (unsigned int i = 0; i < _FM_COUNTER_MAX; i++)
		fm_buf_printf(ret, "%s\"%s\":{\"class\":\"%s\",\"packets\":%llu,\"octets\":%llu}",
			      i ? "," : "", counter_names[i], counter_classes[i],
			      status->counters.count[i].packets, status->counters.count[i].octets);
	fm_buf_printf(ret, "},\"groups\":[");
	json_groups(&status->exporter->routes, ret);
	fm_buf_printf(ret, "],\"sinks\":[");
	json_sinks(status->exporter, ret);
	fm_buf_printf(ret, "]}\n");
	return fm_buf_error(ret);
}

int fm_status_line(const struct fm_status *status, struct fm_buf *ret)
{
	struct fm_count lost = fm_status_class_sum(&status->counters, "LOST");

	fm_buf_printf(ret,
		      "%" PRIu64 " interfaces, %" PRIu64 " flows in %" PRIu64
		      " places, %llu packets seen, %" PRIu64 " records, %llu packets lost",
		      status->interfaces, status->sweep->live_slots, status->max_flows,
		      status->counters.count[FM_COUNTER_seen].packets, status->exporter->records,
		      lost.packets);
	return fm_buf_error(ret);
}
