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

#include "bpf/abi.h"
#include "daemon/config.h"
#include "daemon/ledger.h"
#include "daemon/naming.h"
#include "daemon/outbox.h"
#include "daemon/store.h"
#include "ipfix/options.h"
#include "ipfix/record.h"
#include "ipfix/session.h"

struct fm_sink;

/* Names an interface for options records; valid during the call. */
struct fm_interface_name {
	uint32_t ifindex;
	const char *name;
	const char *description;
	const char *namespace; /* NULL: the daemon's own */
	uint64_t speed;	       /* bits a second; 0: not known */
	uint32_t vrf;	       /* naming.h; 0: none */
};

/* The audit of one interface and direction over an interval, and its packets by cause. */
struct fm_audit_row {
	struct fm_audit_record record;
	struct fm_count causes[_FM_COUNTER_MAX];
};

/* The numbers with which streams of messages go on whose sinks were closed. */
struct fm_legacies {
	uint64_t written;
	struct fm_legacy {
		uint64_t stream; /* 0: none */
		uint64_t written;
		struct fm_outbox_numbers numbers;
		char outbox[FM_STORE_NAME_MAX]; /* stays until another goes on; empty: none */
	} v[64];
};

/* What every sink is opened with; the pointers outlive it. */
struct fm_sink_env {
	sd_event *event;
	const struct fm_config *config;
	struct fm_store *store;		/* NULL: nothing outlives the process */
	const struct fm_ledger *ledger; /* NULL: likewise */
	struct fm_legacies *legacies;	/* NULL: none */
	/* Calls fn once for each monitored interface. */
	void (*for_each_interface)(void *userdata,
				   void (*fn)(const struct fm_interface_name *name, void *arg),
				   void *arg);
	void (*exporter_stats)(void *userdata, struct fm_exporter_stats *ret);
	const struct fm_naming *naming; /* applications and VRFs; NULL: none */
	/* What samplers are or were, by number: fm_kernel_rules(). NULL: there are none. */
	const struct fm_rule_count *samplers;
	/* Packets by cause; NULL: not known. */
	void (*counters)(void *userdata, struct fm_counters *ret);
	void *userdata;
};

struct fm_sink_ops {
	const char *kind;
	/* Index: which of the configured ones (collectors); 0 else. 0 or -errno; logs its own
	 * failure. */
	int (*open)(struct fm_sink **ret, const struct fm_sink_env *env, size_t index);
	/* May send from now on: what it replaces is closed. NULL: it does since it was opened. */
	void (*start)(struct fm_sink *sink);
	/* Records it can take now without waiting or giving up; SIZE_MAX: no limit. */
	size_t (*room)(struct fm_sink *sink);
	/* It had no room, and others that have wait for it now. NULL: nothing to do. */
	void (*kept)(struct fm_sink *sink);
	/* Whether what it is given gets there now, and since when (CLOCK_MONOTONIC). NULL: always.
	 */
	bool (*up)(const struct fm_sink *sink, uint64_t *ret_since_ns);
	/*
	 * Takes one record, in a transaction: nothing of it goes out before flush. Never fails:
	 * what cannot go out is counted in stats.
	 */
	void (*record)(struct fm_sink *sink, const struct fm_record *record);
	/* What was taken is part of transaction serial of the ledger. NULL: it is not. */
	void (*prepare)(struct fm_sink *sink, uint64_t serial);
	/* That is committed: sends it. */
	void (*flush)(struct fm_sink *sink);
	/* Names changed, of interfaces or others: options records are due. */
	void (*interfaces_changed)(struct fm_sink *sink);
	/* Takes an audit, in a transaction as a record. NULL: none wanted. */
	void (*audit)(struct fm_sink *sink, const struct fm_audit_row *row);
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

/* A message is with the network, or in its file. */
static inline void fm_sink_stats_sent(struct fm_sink_stats *stats,
				      const struct fm_message_info *info, size_t size)
{
	stats->messages++;
	stats->message_octets += size;
	stats->records += info->records;
	stats->audits += info->audits;
	stats->packets += info->packets;
	stats->octets += info->octets;
}

#endif
