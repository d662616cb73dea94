/* SPDX-License-Identifier: Apache-2.0 */
/* What goes with a message from the session that made it to the transport that sends it. */
#ifndef FM_MESSAGE_H
#define FM_MESSAGE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* Where a message ends on disk (daemon/spool.h): in which file, and at which octet; 0: nowhere. */
struct fm_spool_place {
	uint64_t file, end;
};

/* What a message holds. */
struct fm_message_info {
	uint32_t records;	  /* flow records */
	uint64_t packets, octets; /* of both directions */
	uint32_t sequenced;	  /* by how much the domain's sequence number goes on */
	uint32_t domain;
	bool is_template;
	bool is_kept;	   /* options that are not told again: waits like flow records */
	uint32_t audits;   /* audit records */
	uint64_t spool_id; /* comes from a spool (daemon/spool.h); 0: it does not */
	struct fm_spool_place spool_place;
	uint64_t outbox_id; /* comes from an outbox (daemon/outbox.h); 0: it does not */
};

typedef void (*fm_session_emit_fn)(void *userdata, const uint8_t *message, size_t size,
				   const struct fm_message_info *info);

#endif
