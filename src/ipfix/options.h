/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What options records tell of the exporter itself: its figures (statistics.def), the audit of its
 * interfaces (audit.def), packets by cause, and records that were not sent by cause (not-sent.def).
 * Filled by the daemon, written by sessions.
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

/* Why records were not sent: rows of not-sent.def. */
enum fm_not_sent {
#define FM_NOT_SENT(name, help) FM_NOT_SENT_##name,
#include "ipfix/not-sent.def"
#undef FM_NOT_SENT
	_FM_NOT_SENT_MAX
};

/* What became of the records that a sink was given. */
struct fm_sink_stats {
#define FM_STATISTIC(owner, name, ...) FM_STATISTIC_SINK_##owner(name)
#include "ipfix/statistics.def"
#undef FM_STATISTIC
	struct fm_not_sent_sum {
		uint64_t records, packets, octets;
	} not_sent[_FM_NOT_SENT_MAX]; /* the rows not_sent_* are their sum */
};

static inline void fm_sink_stats_lose(struct fm_sink_stats *stats, enum fm_not_sent cause,
				      const struct fm_not_sent_sum *sum)
{
	stats->not_sent[cause].records += sum->records;
	stats->not_sent[cause].packets += sum->packets;
	stats->not_sent[cause].octets += sum->octets;
	stats->not_sent_records += sum->records;
	stats->not_sent_packets += sum->packets;
	stats->not_sent_octets += sum->octets;
}

/* Times are nanoseconds since 1970. */
struct fm_audit_record {
#define FM_AUDIT(name, type, ...) type name;
#include "ipfix/audit.def"
#undef FM_AUDIT
};

/* Of all interfaces together since the start. */
#define FM_CAUSE_ALL 0xff

/* Class of causes that kept a sink from sending; the others are those of bpf/counters.def. */
#define FM_CAUSE_NOT_SENT "NOT_SENT"
/* Class of audits that were given up, and of options that were not told when they were due. */
#define FM_CAUSE_NOT_TOLD "NOT_TOLD"

/*
 * Packets that one cause kept out of the flows, or with less detail in them, or kept this sink from
 * sending records of.
 */
struct fm_cause_record {
	uint32_t ifindex;
	uint8_t direction; /* FM_CAUSE_ALL: ifindex is 0 */
	uint64_t start_ns, end_ns;
	uint64_t packets, octets;
	uint64_t records; /* that were not sent */
	char cause[24];	  /* NUL padded: row of bpf/counters.def or not-sent.def, and its class */
	char class[12];
};

/* What there is to tell of an interface. */
struct fm_device_record {
	uint32_t ifindex;
	uint32_t vrf;	/* struct fm_vrf_record.id; 0: none */
	uint64_t speed; /* bits a second; UINT64_MAX: not known */
	char name[16];	/* this and all texts: NUL padded */
	char alias[64];
	char namespace[64]; /* empty: the daemon's own */
};

struct fm_vrf_record {
	uint32_t id;
	char name[32];
};

/* An application: id as in struct fm_record. */
struct fm_application_record {
	uint32_t id;
	char name[24];
	char description[56];
};

/* A sampler that takes interval of interval + space (RFC 5477 8.2). */
struct fm_sampler_record {
	uint64_t selector;
	uint16_t algorithm; /* enum fm_selector */
	uint32_t interval, space;
	char name[32];
};

#endif
