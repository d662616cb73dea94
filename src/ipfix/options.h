/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What options records tell of the exporter itself: its figures (statistics.def), the audit of its
 * interfaces (audit.def), and packets by cause. Filled by the daemon, written by sessions.
 */
#ifndef FM_OPTIONS_H
#define FM_OPTIONS_H

#include <stdint.h>

#define FM_STATISTIC_DAEMON_DAEMON(name) uint64_t name;
#define FM_STATISTIC_DAEMON_SINK(name)
#define FM_STATISTIC_SINK_DAEMON(name)
#define FM_STATISTIC_SINK_SINK(name) uint64_t name;

/* What the exporter knows of itself. */
struct fm_exporter_stats {
#define FM_STATISTIC(owner, name, ...) FM_STATISTIC_DAEMON_##owner(name)
#include "ipfix/statistics.def"
#undef FM_STATISTIC
};

/* What became of the records that a sink was given. */
struct fm_sink_stats {
#define FM_STATISTIC(owner, name, ...) FM_STATISTIC_SINK_##owner(name)
#include "ipfix/statistics.def"
#undef FM_STATISTIC
};

/* Times are nanoseconds since 1970. */
struct fm_audit_record {
#define FM_AUDIT(name, type, ...) type name;
#include "ipfix/audit.def"
#undef FM_AUDIT
};

/* Of all interfaces together since the start. */
#define FM_CAUSE_ALL 0xff

/* Packets that one cause kept out of the flows, or with less detail in them. */
struct fm_cause_record {
	uint32_t ifindex;
	uint8_t direction; /* FM_CAUSE_ALL: ifindex is 0 */
	uint64_t start_ns, end_ns;
	uint64_t packets, octets;
	char cause[24]; /* NUL padded: row of bpf/counters.def, and its class */
	char class[12];
};

#endif
