/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Messages of one collector on disk, in the order they came, until they can be sent: IPFIX files in
 * a directory, each with its templates first. Bounded: the oldest file goes where there is no room.
 * Knows no network; catch-up.h decides what goes in and when it comes out.
 *
 * NUMBER.ipfix files are written one after the other and never again once they were closed;
 * "position" says how far the oldest was sent. It is written with one write whenever a message is
 * done; what a killed process could not note is in its slip (ipfix/slip.h).
 */
#ifndef FM_SPOOL_H
#define FM_SPOOL_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/cleanup.h"
#include "ipfix/session.h"

/* Messages that may be under way. */
#define FM_SPOOL_WINDOW 256

/*
 * In memory that outlives the process: which message of an outbox is being put where. It is in the
 * spool if that place is: what was killed in between asks fm_spool_has.
 */
struct fm_spool_intent {
	uint64_t outbox_id; /* 0: none */
	struct fm_spool_place place;
};

struct fm_spool_options {
	const char *directory; /* of all spools; made if only its last part is missing */
	const char *name;      /* of the collector, its directory in that */
	uint64_t max_octets;   /* of all files */
	uint64_t file_octets;  /* of a file, about; a quarter of max_octets at most */
	uint64_t sync_ns;      /* between synchronisations with the disk; 0: when a file is full */
	struct fm_spool_intent *intent; /* NULL: none */
};

struct fm_spool_sum {
	uint64_t messages, records, packets, octets;
};

struct fm_spool_stats {
	struct fm_spool_sum put, sent; /* by this process; of data messages */
	struct fm_spool_sum dropped, by_cause[_FM_NOT_SENT_MAX]; /* in all; why */
	uint64_t files, file_octets;				 /* there now */
	uint64_t torn_octets; /* behind the last whole message of a file */
};

/* What was sent since the spool was empty last, before a restart too. */
struct fm_spool_gap {
	struct fm_spool_sum sum;
	uint32_t from, to; /* export times of the first and last message, seconds since 1970 */
};

struct fm_spool;

/*
 * Opens, and finds what an earlier process left. 0 or -errno: -EWOULDBLOCK another has it, -ENOENT
 * there is no directory to make it in.
 */
int fm_spool_new(struct fm_spool **ret, const struct fm_spool_options *options);
struct fm_spool *fm_spool_free(struct fm_spool *spool);
FM_DEFINE_CLEANUP(struct fm_spool *, fm_spool_free)

/* Nothing waits and nothing is under way. */
bool fm_spool_is_empty(const struct fm_spool *spool);

/* Keeps a message with one template: each file has it before the first message of its domain. */
int fm_spool_template(struct fm_spool *spool, const uint8_t *message, size_t size);

/*
 * Adds a data message behind all others, whose template is known; where there is no room the oldest
 * file goes. 0 or -errno: it is not in the spool.
 */
int fm_spool_put(struct fm_spool *spool, const uint8_t *message, size_t size,
		 const struct fm_message_info *info);

/*
 * The next message to be sent, templates included; valid until the next call. info->spool_id is
 * what fm_spool_done knows it by. 1; 0: there is none, or the window is full; -errno.
 */
int fm_spool_next(struct fm_spool *spool, const uint8_t **ret_message, size_t *ret_size,
		  struct fm_message_info *ret_info);

/* All were read that are there now. */
bool fm_spool_at_end(const struct fm_spool *spool);

/*
 * What became of a message: it was sent, or dropped since it is too long to ever be. Unknown ids
 * are of no consequence.
 */
void fm_spool_done(struct fm_spool *spool, uint64_t id, bool sent);

/* What is under way was not sent: it comes again, with the templates it needs. */
void fm_spool_rewind(struct fm_spool *spool);

/* Whether a place was written to its end, be it that it was sent or dropped since. */
bool fm_spool_has(const struct fm_spool *spool, const struct fm_spool_place *place);

/* These an earlier process sent and could not note. Once, before the first message is asked for. */
void fm_spool_settle(struct fm_spool *spool, const struct fm_spool_place *sent, size_t n);

/* Synchronises with the disk where it is time to; 0 or -errno of the last time. */
int fm_spool_sync(struct fm_spool *spool, uint64_t now_ns);

void fm_spool_gap(const struct fm_spool *spool, struct fm_spool_gap *ret);
void fm_spool_gap_told(struct fm_spool *spool);

void fm_spool_stats(const struct fm_spool *spool, struct fm_spool_stats *ret);

#endif
