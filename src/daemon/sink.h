/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Sinks: where flow records go. One ops struct, one file and one row of fm_sinks a kind. The sweep
 * calls them, the manager owns them. A sink never blocks: what it cannot hand on it counts.
 */
#ifndef FM_SINK_H
#define FM_SINK_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include <systemd/sd-event.h>

#include "daemon/config.h"
#include "ipfix/record.h"

struct fm_sink;

/* What the exporter knows of itself; options records and status are made of it. */
struct fm_exporter_stats {
	uint64_t observed_packets, observed_octets; /* at all hooks, once */
	uint64_t observed_flows; /* conversations that left the tables or are open */
	uint64_t ignored_packets, ignored_octets; /* class IGNORED */
	uint64_t lost_packets, lost_octets;	  /* class LOST */
	uint64_t start_ns;			  /* daemon start, nanoseconds since 1970 */
};

/* What became of the records that a sink was given. */
struct fm_sink_stats {
	uint64_t records, packets, octets; /* handed to the network or file */
	uint64_t not_sent_records, not_sent_packets, not_sent_octets; /* given up, by any cause */
	uint64_t messages, message_octets;
	uint64_t waiting_messages; /* queued now */
	/* Put on disk, to be sent later; and of it dropped, which not_sent holds as well. */
	uint64_t spooled_records, spooled_packets, spooled_octets;
	uint64_t spool_dropped_records, spool_dropped_packets, spool_dropped_octets;
	uint64_t spool_torn_octets;    /* found behind the last whole message of files */
	uint64_t spool_waiting_octets; /* in files now */
};

/* Names an interface for options records; valid during the call. */
struct fm_interface_name {
	uint32_t ifindex;
	const char *name;
	const char *description;
};

/* What every sink is opened with; the pointers outlive it. */
struct fm_sink_env {
	sd_event *event;
	const struct fm_config *config;
	/* Calls fn once for each monitored interface. */
	void (*for_each_interface)(void *userdata,
				   void (*fn)(const struct fm_interface_name *name, void *arg),
				   void *arg);
	void (*exporter_stats)(void *userdata, struct fm_exporter_stats *ret);
	void *userdata;
};

struct fm_sink_ops {
	const char *kind;
	/* Index: which of the configured ones (collectors); 0 else. 0 or -errno; logs its own
	 * failure. */
	int (*open)(struct fm_sink **ret, const struct fm_sink_env *env, size_t index);
	/* Records it can take now without waiting or giving up; SIZE_MAX: no limit. */
	size_t (*room)(struct fm_sink *sink);
	/* Whether what it is given gets there now, and since when (CLOCK_MONOTONIC). NULL: always.
	 */
	bool (*up)(const struct fm_sink *sink, uint64_t *ret_since_ns);
	/* Takes one record. Never fails: what cannot go out is counted in stats. */
	void (*record)(struct fm_sink *sink, const struct fm_record *record);
	/* Sends what is buffered (end of a sweep). */
	void (*flush)(struct fm_sink *sink);
	/* Interfaces came, went or were renamed: options records are due. */
	void (*interfaces_changed)(struct fm_sink *sink);
	/* Sends what can be sent until deadline_ns (CLOCK_MONOTONIC), then closes; may block until
	 * then. */
	void (*close)(struct fm_sink *sink, uint64_t deadline_ns, struct fm_sink_stats *ret_stats);
	void (*stats)(struct fm_sink *sink, struct fm_sink_stats *ret);
	/* Name for status lines, such as "collector main (ipfix udp 192.0.2.10:4739)". */
	const char *(*describe)(struct fm_sink *sink);
};

/* Every sink starts with this. */
struct fm_sink {
	const struct fm_sink_ops *ops;
};

extern const struct fm_sink_ops fm_sink_collector, fm_sink_ipfix_file, fm_sink_json, fm_sink_text;

#endif
