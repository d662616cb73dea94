/* SPDX-License-Identifier: Apache-2.0 */
/* Status for people and as JSON: see status.h. */
#include "daemon/status.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/macro.h"
#include "daemon/audit.h"

static const struct {
	const char *name, *class, *help;
} counter_rows[] = {
#define FM_COUNTER(name, class, help) {#name, #class, help},
#include "bpf/counters.def"
#undef FM_COUNTER
};

static const struct {
	const char *name, *help;
} not_sent_rows[] = {
#define FM_NOT_SENT(name, help) {#name, help},
#include "ipfix/not-sent.def"
#undef FM_NOT_SENT
};

static const char *const reason_names[] = {
	[FM_END_REASON_IDLE] = "idle",
	[FM_END_REASON_ACTIVE] = "active",
	[FM_END_REASON_END] = "end",
	[FM_END_REASON_FORCED] = "forced",
	[FM_END_REASON_RESOURCES] = "resources",
};

static const char *const directions[] = {
	[FM_HOOK_INGRESS] = "ingress",
	[FM_HOOK_EGRESS] = "egress",
};

/* One figure: a row of statistics.def and its value. */
struct figure {
	const char *name;
	uint64_t value;
};

#define FIGURES_MAX 64

#define FIGURE_DAEMON_DAEMON(name) {#name, stats->name},
#define FIGURE_DAEMON_SINK(name)
#define FIGURE_SINK_DAEMON(name)
#define FIGURE_SINK_SINK(name) {#name, stats->name},

static size_t daemon_figures(const struct fm_exporter_stats *stats, struct figure ret[FIGURES_MAX])
{
	const struct figure figures[] = {
#define FM_STATISTIC(owner, name, ...) FIGURE_DAEMON_##owner(name)
#include "ipfix/statistics.def"
#undef FM_STATISTIC
	};

	_Static_assert(FM_ARRAY_SIZE(figures) <= FIGURES_MAX, "a row too many");
	memcpy(ret, figures, sizeof(figures));
	return FM_ARRAY_SIZE(figures);
}

static size_t sink_figures(const struct fm_sink_stats *stats, struct figure ret[FIGURES_MAX])
{
	const struct figure figures[] = {
#define FM_STATISTIC(owner, name, ...) FIGURE_SINK_##owner(name)
#include "ipfix/statistics.def"
#undef FM_STATISTIC
	};

	_Static_assert(FM_ARRAY_SIZE(figures) <= FIGURES_MAX, "a row too many");
	memcpy(ret, figures, sizeof(figures));
	return FM_ARRAY_SIZE(figures);
}

void fm_status_done(struct fm_status *status)
{
	free(status->interfaces);
	*status = (struct fm_status){};
}

const char *fm_status_counter_name(enum fm_counter counter)
{
	return counter_rows[counter].name;
}

const char *fm_status_counter_class(enum fm_counter counter)
{
	return counter_rows[counter].class;
}

const char *fm_status_counter_help(enum fm_counter counter)
{
	return counter_rows[counter].help;
}

const char *fm_status_not_sent_name(enum fm_not_sent cause)
{
	return not_sent_rows[cause].name;
}

const char *fm_status_reason_name(enum fm_end_reason reason)
{
	return reason_names[reason];
}

struct fm_count fm_status_class_sum(const struct fm_counters *counters, const char *class)
{
	struct fm_count sum = {};

	for (unsigned int i = 0; i < _FM_COUNTER_MAX; i++) {
		if (strcmp(counter_rows[i].class, class))
			continue;
		sum.packets += counters->count[i].packets;
		sum.octets += counters->count[i].octets;
	}
	return sum;
}

/* --- text --- */

static void text_count(const char *name, uint64_t packets, uint64_t octets, const char *remark,
		       struct fm_buf *ret)
{
	fm_buf_printf(ret, "  %-22s %20" PRIu64 " %20" PRIu64 "%s%s\n", name, packets, octets,
		      *remark ? "  " : "", remark);
}

/* Where every packet went. */
static void text_totals(const struct fm_status *status, struct fm_buf *ret)
{
	const struct fm_exporter_stats *figures = &status->figures;
	struct fm_audit_record all = {};
	uint64_t held_packets, held_octets;

	fm_audit_classes(&all, &status->counters);
	held_packets = all.packets + all.aggregated_packets - figures->exported_packets;
	held_octets = all.octets + all.aggregated_octets - figures->exported_octets;
	fm_buf_printf(ret, "\n%-24s %20s %20s\n", "where packets went", "packets", "octets");
	text_count("seen", all.seen_packets, all.seen_octets, "", ret);
	text_count("  in flows", all.packets, all.octets, "", ret);
	text_count("  aggregated", all.aggregated_packets, all.aggregated_octets, "", ret);
	text_count("  again", all.again_packets, all.again_octets, "", ret);
	text_count("  ignored", all.ignored_packets, all.ignored_octets, "", ret);
	text_count("  filtered", all.filtered_packets, all.filtered_octets, "", ret);
	text_count("  lost", all.lost_packets, all.lost_octets, "", ret);
	if (status->resumed) /* what earlier processes exported is not known here */
		return;
	text_count("in flow records", figures->exported_packets, figures->exported_octets, "", ret);
	text_count("in open flows", held_packets, held_octets, "", ret);
}

static void text_interfaces(const struct fm_status *status, struct fm_buf *ret)
{
	fm_buf_printf(ret, "\n%-16s %-8s %14s %14s %14s %12s %9s %12s %9s\n", "interface", "",
		      "frames", "packets", "in flows", "again", "ignored", "filtered", "lost");
	for (size_t i = 0; i < status->n_interfaces; i++)
		for (unsigned int hook = 0; hook < _FM_HOOK_MAX; hook++) {
			const struct fm_status_interface *interface = &status->interfaces[i];
			struct fm_audit_record record = {};

			fm_audit_classes(&record, &interface->counters[hook]);
			if (!interface->hooked[hook] && !record.frames)
				continue;
			fm_buf_printf(ret,
				      "  %-14s %-8s %14" PRIu64 " %14" PRIu64 " %14" PRIu64
				      " %12" PRIu64 " %9" PRIu64 " %12" PRIu64 " %9" PRIu64 "\n",
				      interface->name, directions[hook], record.frames,
				      record.seen_packets,
				      record.packets + record.aggregated_packets,
				      record.again_packets, record.ignored_packets,
				      record.filtered_packets, record.lost_packets);
		}
}

/* Those that count anything; seen is said above. */
static void text_causes(const struct fm_status *status, struct fm_buf *ret)
{
	fm_buf_printf(ret, "\n%-24s %20s %20s\n", "by cause", "packets", "octets");
	for (unsigned int i = 0; i < _FM_COUNTER_MAX; i++) {
		const struct fm_count *count = &status->counters.count[i];
		char remark[160];

		if (i == FM_COUNTER_seen || !count->packets)
			continue;
		snprintf(remark, sizeof(remark), "%-10s %s", counter_rows[i].class,
			 counter_rows[i].help);
		text_count(counter_rows[i].name, count->packets, count->octets, remark, ret);
	}
}

/* As in counters.def: matched is what a rule decided about, counted what of it is in flows. */
static void text_rules(const struct fm_filters *filters, struct fm_buf *ret)
{
	struct fm_filters_count rule;

	for (size_t i = 0; fm_filters_count(filters, i, &rule); i++) {
		if (i == 0)
			fm_buf_printf(ret, "\n%20s %20s %20s %20s  %s\n", "matched packets",
				      "octets", "counted packets", "octets", "rule");
		fm_buf_printf(ret, "%20llu %20llu %20llu %20llu  %s\n", rule.matched.packets,
			      rule.matched.octets, rule.counted.packets, rule.counted.octets,
			      rule.text);
	}
}

/* Causes that kept anything. */
static void text_not_sent(const struct fm_sink_stats *stats, struct fm_buf *ret)
{
	if (!stats->not_sent_records)
		return;
	fm_buf_printf(ret, "  %-22s %20s %20s %20s\n", "not sent, by cause", "records", "packets",
		      "octets");
	for (unsigned int i = 0; i < _FM_NOT_SENT_MAX; i++) {
		const struct fm_not_sent_sum *sum = &stats->not_sent[i];

		if (sum->records)
			fm_buf_printf(ret,
				      "    %-20s %20" PRIu64 " %20" PRIu64 " %20" PRIu64 "  %s\n",
				      not_sent_rows[i].name, sum->records, sum->packets,
				      sum->octets, not_sent_rows[i].help);
	}
}

int fm_status_not_sent_line(const struct fm_sink_stats *stats, struct fm_buf *ret)
{
	const char *separator = "";

	for (unsigned int i = 0; i < _FM_NOT_SENT_MAX; i++) {
		if (!stats->not_sent[i].records)
			continue;
		fm_buf_printf(ret, "%s%s %" PRIu64, separator, not_sent_rows[i].name,
			      stats->not_sent[i].records);
		separator = ", ";
	}
	return fm_buf_error(ret);
}

/* Whether what it is given gets there. */
static bool is_up(const struct fm_sink *sink)
{
	uint64_t since;

	return !sink->ops->up || sink->ops->up(sink, &since);
}

static void text_sinks(const struct fm_export *exporter, struct fm_buf *ret)
{
	for (size_t i = 0; i < exporter->n_sinks; i++) {
		struct fm_sink *sink = exporter->sinks[i];
		struct figure figures[FIGURES_MAX];
		struct fm_sink_stats stats;
		size_t n;

		sink->ops->stats(sink, &stats);
		n = sink_figures(&stats, figures);
		fm_buf_printf(ret, "\n%s%s\n", sink->ops->describe(sink),
			      is_up(sink) ? "" : " is down");
		for (size_t f = 0; f < n; f++)
			fm_buf_printf(ret, "  %-22s %20" PRIu64 "\n", figures[f].name,
				      figures[f].value);
		text_not_sent(&stats, ret);
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

static void text_figures(const struct fm_status *status, struct fm_buf *ret)
{
	struct figure figures[FIGURES_MAX];
	size_t n = daemon_figures(&status->figures, figures);

	fm_buf_printf(ret, "\ndaemon\n");
	for (size_t i = 0; i < n; i++)
		fm_buf_printf(ret, "  %-22s %20" PRIu64 "\n", figures[i].name, figures[i].value);
	fm_buf_printf(ret, "\nrecords by flowEndReason\n");
	for (unsigned int i = FM_END_REASON_IDLE; i <= FM_END_REASON_RESOURCES; i++)
		fm_buf_printf(ret, "  %-22s %20" PRIu64 "\n", reason_names[i],
			      status->exporter->reasons[i]);
}

int fm_status_text(const struct fm_status *status, struct fm_buf *ret)
{
	uint64_t seconds = status->figures.uptime_ms / 1000;

	fm_buf_printf(ret, "flowmond " FM_VERSION ", programs attached by %s%s\n", status->attach,
		      status->resumed ? ", went on with an earlier process' tables" : "");
	fm_buf_printf(ret,
		      "up %" PRIu64 " d %02" PRIu64 ":%02" PRIu64 ":%02" PRIu64 ", %" PRIu64
		      " interfaces, %" PRIu64 " flows in %" PRIu64 " places\n",
		      seconds / 86400, seconds / 3600 % 24, seconds / 60 % 60, seconds % 60,
		      status->figures.interfaces, status->figures.live_slots,
		      status->figures.max_flows);
	text_totals(status, ret);
	text_interfaces(status, ret);
	text_causes(status, ret);
	text_rules(status->filters, ret);
	text_groups(&status->exporter->routes, ret);
	text_sinks(status->exporter, ret);
	text_figures(status, ret);
	return fm_buf_error(ret);
}

/* --- JSON --- */

static void json_figures(const struct figure *figures, size_t n, struct fm_buf *ret)
{
	for (size_t i = 0; i < n; i++)
		fm_buf_printf(ret, "%s\"%s\":%" PRIu64, i ? "," : "", figures[i].name,
			      figures[i].value);
}

static void json_not_sent(const struct fm_sink_stats *stats, struct fm_buf *ret)
{
	fm_buf_printf(ret, ",\"not_sent\":{");
	for (unsigned int i = 0; i < _FM_NOT_SENT_MAX; i++)
		fm_buf_printf(ret,
			      "%s\"%s\":{\"records\":%" PRIu64 ",\"packets\":%" PRIu64
			      ",\"octets\":%" PRIu64 "}",
			      i ? "," : "", not_sent_rows[i].name, stats->not_sent[i].records,
			      stats->not_sent[i].packets, stats->not_sent[i].octets);
	fm_buf_printf(ret, "}");
}

static void json_sinks(const struct fm_export *exporter, struct fm_buf *ret)
{
	for (size_t i = 0; i < exporter->n_sinks; i++) {
		struct fm_sink *sink = exporter->sinks[i];
		struct figure figures[FIGURES_MAX];
		struct fm_sink_stats stats;
		size_t n;

		sink->ops->stats(sink, &stats);
		n = sink_figures(&stats, figures);
		fm_buf_printf(ret, "%s{\"name\":", i ? "," : "");
		fm_buf_json_string(ret, sink->ops->describe(sink));
		fm_buf_printf(ret, ",\"up\":%s,", is_up(sink) ? "true" : "false");
		json_figures(figures, n, ret);
		json_not_sent(&stats, ret);
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

static void json_counters(const struct fm_counters *counters, struct fm_buf *ret)
{
	for (unsigned int i = 0; i < _FM_COUNTER_MAX; i++)
		fm_buf_printf(ret, "%s\"%s\":{\"class\":\"%s\",\"packets\":%llu,\"octets\":%llu}",
			      i ? "," : "", counter_rows[i].name, counter_rows[i].class,
			      counters->count[i].packets, counters->count[i].octets);
}

static void json_rules(const struct fm_filters *filters, struct fm_buf *ret)
{
	struct fm_filters_count rule;

	for (size_t i = 0; fm_filters_count(filters, i, &rule); i++) {
		fm_buf_printf(ret, "%s{\"rule\":", i ? "," : "");
		fm_buf_json_string(ret, rule.text);
		fm_buf_printf(ret,
			      ",\"matched_packets\":%llu,\"matched_octets\":%llu,"
			      "\"counted_packets\":%llu,\"counted_octets\":%llu}",
			      rule.matched.packets, rule.matched.octets, rule.counted.packets,
			      rule.counted.octets);
	}
}

static void json_interfaces(const struct fm_status *status, struct fm_buf *ret)
{
	const char *separator = "";

	for (size_t i = 0; i < status->n_interfaces; i++)
		for (unsigned int hook = 0; hook < _FM_HOOK_MAX; hook++) {
			const struct fm_status_interface *interface = &status->interfaces[i];
			const struct fm_counters *counters = &interface->counters[hook];

			if (!interface->hooked[hook] && !counters->frames)
				continue;
			fm_buf_printf(ret, "%s{\"name\":", separator);
			fm_buf_json_string(ret, interface->name);
			fm_buf_printf(ret,
				      ",\"ifindex\":%" PRIu32
				      ",\"direction\":\"%s\",\"frames\":%llu,\"frame_octets\":%llu,"
				      "\"counters\":{",
				      interface->ifindex, directions[hook], counters->frames,
				      counters->frame_octets);
			json_counters(counters, ret);
			fm_buf_printf(ret, "}}");
			separator = ",";
		}
}

int fm_status_json(const struct fm_status *status, struct fm_buf *ret)
{
	struct figure figures[FIGURES_MAX];
	size_t n = daemon_figures(&status->figures, figures);

	fm_buf_printf(ret, "{\"version\":\"" FM_VERSION "\",\"attach\":\"%s\",\"resumed\":%s,",
		      status->attach, status->resumed ? "true" : "false");
	json_figures(figures, n, ret);
	fm_buf_printf(ret, ",\"reasons\":{");
	for (unsigned int i = FM_END_REASON_IDLE; i <= FM_END_REASON_RESOURCES; i++)
		fm_buf_printf(ret, "%s\"%s\":%" PRIu64, i > FM_END_REASON_IDLE ? "," : "",
			      reason_names[i], status->exporter->reasons[i]);
	fm_buf_printf(ret, "},\"counters\":{");
	json_counters(&status->counters, ret);
	fm_buf_printf(ret, "},\"by_interface\":[");
	json_interfaces(status, ret);
	fm_buf_printf(ret, "],\"rules\":[");
	json_rules(status->filters, ret);
	fm_buf_printf(ret, "],\"groups\":[");
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
		      status->figures.interfaces, status->figures.live_slots,
		      status->figures.max_flows, status->counters.count[FM_COUNTER_seen].packets,
		      status->figures.records, lost.packets);
	return fm_buf_error(ret);
}
