/* SPDX-License-Identifier: Apache-2.0 */
/*
 * An exporting session: flow records in, finished IPFIX or NetFlow v9 messages out. Owns templates,
 * sequence numbers and what is buffered. Knows no network: messages go to a callback. Used by the
 * collector sink.
 *
 * Templates (both protocols): 256 + family (enum fm_family) + 8 * encapsulation (enum
 * fm_encapsulation) + 32 for biflows + 64 for v9 with times by sysUptime + 128 for profile full or
 * 256 for ntop + 384 for records of a sampler; with a list of fields 2048 + family + 8 *
 * encapsulation + 32 for records of a sampler + 64 * a hash of what it gives records. Options as
 * options.def has them. An id stands for one layout, always; two lists can have the same one by
 * chance (1 in 992). A template is sent before its first record and, once
 * used, with every fm_session_templates; those of the first four families and of most options
 * always. In IPFIX options records go under observation domain 0: they concern the whole process
 * (RFC 7011 3.1), and collectors that count only flow records in a sequence stay in step; those of
 * samplers go under that of the records, before the first that they are about.
 */
#ifndef FM_SESSION_H
#define FM_SESSION_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/cleanup.h"
#include "ipfix/message.h"
#include "ipfix/options.h"
#include "ipfix/record.h"
#include "ipfix/session-options.h"

/* Templates of the audit, without and with own elements. */
#define FM_SESSION_AUDIT      1028
#define FM_SESSION_AUDIT_FULL 1156

/* Messages that were sent later than they were made. */
struct fm_session_gap {
	uint32_t from, to; /* export times, seconds since 1970 */
	uint64_t messages, records, packets, octets;
};

struct fm_session;

/* The smallest message_size that holds a record of each kind. */
size_t fm_session_message_min(const struct fm_session_options *options);

/* 0, -ENOMEM, -EINVAL (message_size cannot hold a record). */
int fm_session_new(struct fm_session **ret, const struct fm_session_options *options,
		   fm_session_emit_fn emit, void *userdata);
struct fm_session *fm_session_free(struct fm_session *session);
FM_DEFINE_CLEANUP(struct fm_session *, fm_session_free)

/*
 * A new transport session: sequence numbers start at 0 again (RFC 7011 3.1). Templates must be sent
 * next; what is buffered stays. Returns 0.
 */
int fm_session_restart(struct fm_session *session);

/*
 * Messages are no longer than so many octets from now on, nor than message_size; 0: than that only.
 * A limit that no record fits is ignored; what is buffered already goes as it is.
 */
void fm_session_limit(struct fm_session *session, size_t octets);

/* All below: now_ns is nanoseconds since 1970; 0 or -errno; messages go to emit. */

/* Takes every template into use: for messages that are not of this session and may need any. */
int fm_session_use_all(struct fm_session *session);

/* All templates in use. */
int fm_session_templates(struct fm_session *session, uint64_t now_ns);

/* What a transport session begins with: types of own elements (RFC 5610), then all templates. */
int fm_session_begin(struct fm_session *session, uint64_t now_ns);

/* So many types there are; again one of them. Waits for a flush. */
size_t fm_session_types(const struct fm_session *session);
int fm_session_type(struct fm_session *session, size_t index, uint64_t now_ns);

int fm_session_record(struct fm_session *session, const struct fm_record *record, uint64_t now_ns);

/*
 * Names an interface: options record with ingressInterface and interfaceDescription, the only
 * element that collectors take a name from. It reads "name" or "name (description)"; description
 * may be NULL or empty. Waits for a flush.
 */
int fm_session_interface(struct fm_session *session, uint32_t ifindex, const char *name,
			 const char *description, uint64_t now_ns);

/* More about an interface. This and what follows waits for a flush. */
int fm_session_device(struct fm_session *session, const struct fm_device_record *record,
		      uint64_t now_ns);
int fm_session_vrf(struct fm_session *session, const struct fm_vrf_record *record, uint64_t now_ns);

/* Names an application; of use where flow records have applicationId. */
bool fm_session_has_applications(const struct fm_session *session);
int fm_session_application(struct fm_session *session, const struct fm_application_record *record,
			   uint64_t now_ns);

/* The exporter's figures and those of this session's sink. */
int fm_session_statistics(struct fm_session *session, const struct fm_exporter_stats *exporter,
			  const struct fm_sink_stats *sink, uint64_t now_ns);

/* The audit of an interface; packets by cause, where own elements are sent. */
int fm_session_audit(struct fm_session *session, const struct fm_audit_record *record,
		     uint64_t now_ns);
int fm_session_cause(struct fm_session *session, const struct fm_cause_record *record,
		     uint64_t now_ns);

/* A gap was filled. */
int fm_session_gap(struct fm_session *session, const struct fm_session_gap *gap, uint64_t now_ns);

/*
 * Before it begins: earlier sessions may have told of a sampler, and records of it may come that
 * are not this one's. It is told at the beginning.
 */
void fm_session_sampler(struct fm_session *session, uint32_t selector, uint32_t interval,
			uint16_t algorithm);

/*
 * The last records are flushed, and others may come from another session: collectors that know one
 * interval of sampling are told that it holds no longer.
 */
int fm_session_end(struct fm_session *session, uint64_t now_ns);

/* What is buffered becomes messages. */
int fm_session_flush(struct fm_session *session, uint64_t now_ns);

#endif
