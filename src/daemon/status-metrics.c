/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Prometheus' text exposition format: each metric once, with its help and type before its samples.
 * Names: flowmond_NAME of the daemon's rows of statistics.def, flowmond_collector_NAME of a sink's,
 * packets and octets by cause with a label each, what was not sent by cause likewise; what only
 * grows ends in _total.
 */
#include <inttypes.h>
#include <string.h>

#include "base/macro.h"
#include "daemon/status.h"

#define ENDING_TOTAL "_total"
#define ENDING_GAUGE ""
#define TYPE_TOTAL   "counter"
#define TYPE_GAUGE   "gauge"

static void head(const char *name, const char *type, const char *help, struct fm_buf *ret)
{
	fm_buf_printf(ret, "# HELP flowmond_%s ", name);
	for (const char *p = help; *p; p++) {
		if (*p == '\\')
			fm_buf_printf(ret, "\\\\");
		else if (*p == '\n')
			fm_buf_printf(ret, "\\n");
		else
			fm_buf_append(ret, p, 1);
	}
	fm_buf_printf(ret, "\n# TYPE flowmond_%s %s\n", name, type);
}

/* name="value", escaped. */
static void label(const char *separator, const char *name, const char *value, struct fm_buf *ret)
{
	fm_buf_printf(ret, "%s%s=\"", separator, name);
	for (const char *p = value; *p; p++) {
		if (*p == '\\' || *p == '"')
			fm_buf_printf(ret, "\\%c", *p);
		else if (*p == '\n')
			fm_buf_printf(ret, "\\n");
		else
			fm_buf_append(ret, p, 1);
	}
	fm_buf_printf(ret, "\"");
}

#define DAEMON_ROW_SINK(...)
#define DAEMON_ROW_DAEMON(name, type, help)                                                        \
	head(#name ENDING_##type, TYPE_##type, help, ret);                                         \
	fm_buf_printf(ret, "flowmond_" #name ENDING_##type " %" PRIu64 "\n", status->figures.name);

static void daemon_metrics(const struct fm_status *status, struct fm_buf *ret)
{
#define FM_STATISTIC(owner, name, type, kind, ie_name, ie, help)                                   \
	DAEMON_ROW_##owner(name, type, help)
#include "ipfix/statistics.def"
#undef FM_STATISTIC
	head("records_by_reason_total", "counter", "flow records made, by flowEndReason", ret);
	for (unsigned int i = FM_END_REASON_IDLE; i <= FM_END_REASON_RESOURCES; i++) {
		fm_buf_printf(ret, "flowmond_records_by_reason_total");
		label("{", "reason", fm_status_reason_name((enum fm_end_reason)i), ret);
		fm_buf_printf(ret, "} %" PRIu64 "\n", status->exporter->reasons[i]);
	}
}

static void sink_metric(const struct fm_export *exporter, const char *name, const char *type,
			const char *help, size_t offset, struct fm_buf *ret)
{
	if (!exporter->n_sinks)
		return;
	head(name, type, help, ret);
	for (size_t i = 0; i < exporter->n_sinks; i++) {
		struct fm_sink *sink = exporter->sinks[i];
		struct fm_sink_stats stats;

		sink->ops->stats(sink, &stats);
		fm_buf_printf(ret, "flowmond_%s", name);
		label("{", "collector", sink->ops->describe(sink), ret);
		fm_buf_printf(ret, "} %" PRIu64 "\n",
			      *(const uint64_t *)((const char *)&stats + offset));
	}
}

#define SINK_ROW_DAEMON(...)
#define SINK_ROW_SINK(name, type, help)                                                            \
	sink_metric(status->exporter, "collector_" #name ENDING_##type, TYPE_##type, help,         \
		    offsetof(struct fm_sink_stats, name), ret);

static void sink_metrics(const struct fm_status *status, struct fm_buf *ret)
{
#define FM_STATISTIC(owner, name, type, kind, ie_name, ie, help) SINK_ROW_##owner(name, type, help)
#include "ipfix/statistics.def"
#undef FM_STATISTIC
}

static void not_sent_metric(const struct fm_export *exporter, const char *name, const char *help,
			    size_t offset, struct fm_buf *ret)
{
	if (!exporter->n_sinks)
		return;
	head(name, "counter", help, ret);
	for (size_t i = 0; i < exporter->n_sinks; i++) {
		struct fm_sink *sink = exporter->sinks[i];
		struct fm_sink_stats stats;

		sink->ops->stats(sink, &stats);
		for (unsigned int cause = 0; cause < _FM_NOT_SENT_MAX; cause++) {
			const struct fm_not_sent_sum *sum = &stats.not_sent[cause];

			fm_buf_printf(ret, "flowmond_%s", name);
			label("{", "collector", sink->ops->describe(sink), ret);
			label(",", "cause", fm_status_not_sent_name((enum fm_not_sent)cause), ret);
			fm_buf_printf(ret, "} %" PRIu64 "\n",
				      *(const uint64_t *)((const char *)sum + offset));
		}
	}
}

static void not_sent_metrics(const struct fm_export *exporter, struct fm_buf *ret)
{
	not_sent_metric(exporter, "collector_not_sent_by_cause_records_total",
			"flow records that were given up, by cause",
			offsetof(struct fm_not_sent_sum, records), ret);
	not_sent_metric(exporter, "collector_not_sent_by_cause_packets_total",
			"packets in them, by cause", offsetof(struct fm_not_sent_sum, packets),
			ret);
	not_sent_metric(exporter, "collector_not_sent_by_cause_octets_total",
			"octets in them, by cause", offsetof(struct fm_not_sent_sum, octets), ret);
}

static uint64_t value_of(const struct fm_counters *counters, unsigned int counter, bool octets)
{
	return octets ? counters->count[counter].octets : counters->count[counter].packets;
}

static void cause_labels(const char *separator, unsigned int counter, struct fm_buf *ret)
{
	label(separator, "cause", fm_status_counter_name((enum fm_counter)counter), ret);
	label(",", "class", fm_status_counter_class((enum fm_counter)counter), ret);
}

static void cause_metrics(const struct fm_status *status, bool octets, struct fm_buf *ret)
{
	const char *name = octets ? "octets_total" : "packets_total";

	head(name, "counter",
	     octets ? "octets by cause; SEEN = in flows + AGAIN + AGGREGATED + IGNORED + FILTERED + LOST"
		    : "packets by cause; SEEN = in flows + AGAIN + AGGREGATED + IGNORED + FILTERED + LOST",
	     ret);
	for (unsigned int i = 0; i < _FM_COUNTER_MAX; i++) {
		fm_buf_printf(ret, "flowmond_%s", name);
		cause_labels("{", i, ret);
		fm_buf_printf(ret, "} %" PRIu64 "\n", value_of(&status->counters, i, octets));
	}
}

static void rule_metric(const struct fm_filters *filters, const char *name, const char *help,
			size_t offset, struct fm_buf *ret)
{
	struct fm_filters_count rule;

	for (size_t i = 0; fm_filters_count(filters, i, &rule); i++) {
		if (i == 0)
			head(name, "counter", help, ret);
		fm_buf_printf(ret, "flowmond_%s{number=\"%zu\"", name, i + 1);
		label(",", "rule", rule.text, ret);
		fm_buf_printf(ret, "} %llu\n",
			      *(const unsigned long long *)((const char *)&rule + offset));
	}
}

static void rule_metrics(const struct fm_filters *filters, struct fm_buf *ret)
{
	rule_metric(filters, "rule_matched_packets_total", "packets that a rule decided about",
		    offsetof(struct fm_filters_count, matched.packets), ret);
	rule_metric(filters, "rule_matched_octets_total", "their octets",
		    offsetof(struct fm_filters_count, matched.octets), ret);
	rule_metric(filters, "rule_counted_packets_total", "those of them that are in flows",
		    offsetof(struct fm_filters_count, counted.packets), ret);
	rule_metric(filters, "rule_counted_octets_total", "their octets",
		    offsetof(struct fm_filters_count, counted.octets), ret);
}

static void interface_labels(const struct fm_status_interface *interface, unsigned int hook,
			     struct fm_buf *ret)
{
	label("{", "interface", interface->name, ret);
	fm_buf_printf(ret, ",ifindex=\"%" PRIu32 "\"", interface->ifindex);
	label(",", "direction", hook == FM_HOOK_INGRESS ? "ingress" : "egress", ret);
}

static bool is_shown(const struct fm_status_interface *interface, unsigned int hook)
{
	return interface->hooked[hook] || interface->counters[hook].frames;
}

static void interface_metric(const struct fm_status *status, const char *name, const char *help,
			     size_t offset, struct fm_buf *ret)
{
	if (!status->n_interfaces)
		return;
	head(name, "counter", help, ret);
	for (size_t i = 0; i < status->n_interfaces; i++)
		for (unsigned int hook = 0; hook < _FM_HOOK_MAX; hook++) {
			const struct fm_status_interface *interface = &status->interfaces[i];

			if (!is_shown(interface, hook))
				continue;
			fm_buf_printf(ret, "flowmond_%s", name);
			interface_labels(interface, hook, ret);
			fm_buf_printf(ret, "} %" PRIu64 "\n",
				      *(const uint64_t *)((const char *)&interface->counters[hook] +
							  offset));
		}
}

/* What is no more than a remark is not told by interface. */
static void interface_causes(const struct fm_status *status, bool octets, struct fm_buf *ret)
{
	const char *name = octets ? "interface_octets_total" : "interface_packets_total";

	if (!status->n_interfaces)
		return;
	head(name, "counter",
	     octets ? "octets by interface and cause" : "packets by interface and cause", ret);
	for (size_t i = 0; i < status->n_interfaces; i++)
		for (unsigned int k = 0; k < _FM_HOOK_MAX * _FM_COUNTER_MAX; k++) {
			const struct fm_status_interface *interface = &status->interfaces[i];
			unsigned int hook = k / _FM_COUNTER_MAX, counter = k % _FM_COUNTER_MAX;

			if (!is_shown(interface, hook) ||
			    !strcmp(fm_status_counter_class((enum fm_counter)counter), "NOTE"))
				continue;
			fm_buf_printf(ret, "flowmond_%s", name);
			interface_labels(interface, hook, ret);
			cause_labels(",", counter, ret);
			fm_buf_printf(ret, "} %" PRIu64 "\n",
				      value_of(&interface->counters[hook], counter, octets));
		}
}

int fm_status_metrics(const struct fm_status *status, struct fm_buf *ret)
{
	head("info", "gauge", "always 1; what runs", ret);
	fm_buf_printf(ret, "flowmond_info");
	label("{", "version", FM_VERSION, ret);
	label(",", "attach", status->attach, ret);
	fm_buf_printf(ret, "} 1\n");
	daemon_metrics(status, ret);
	sink_metrics(status, ret);
	not_sent_metrics(status->exporter, ret);
	cause_metrics(status, false, ret);
	cause_metrics(status, true, ret);
	rule_metrics(status->filters, ret);
	interface_metric(status, "interface_frames_total",
			 "frames at the hook, as the interface's own counters count them",
			 offsetof(struct fm_counters, frames), ret);
	interface_metric(status, "interface_frame_octets_total",
			 "their octets with the link-layer header",
			 offsetof(struct fm_counters, frame_octets), ret);
	interface_causes(status, false, ret);
	interface_causes(status, true, ret);
	return fm_buf_error(ret);
}
