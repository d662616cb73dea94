/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Messages of one sink between being made and being with the network, in memory that outlives the
 * process: a ring. Used by the courier.
 *
 * Appended messages are nobody's until they are published: at once, or, in a transaction of the
 * ledger, when it is committed. What was published is given to a transport, and leaves the ring
 * when nothing can come of it any more (done).
 */
#ifndef FM_OUTBOX_H
#define FM_OUTBOX_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/cleanup.h"
#include "daemon/store.h"
#include "ipfix/session.h"

struct fm_outbox;

/* With which numbers the domains of its messages go on. */
#define FM_OUTBOX_DOMAINS 4
struct fm_outbox_numbers {
	struct {
		uint32_t domain;
		uint32_t next;
	} v[FM_OUTBOX_DOMAINS];
};

struct fm_outbox_options {
	struct fm_store *store; /* NULL: nothing outlives the process */
	const char *name;	/* in the store; the same stands for the same receiver */
	size_t octets;		/* of the ring; rounded up to pages */
	uint64_t committed;	/* serial of the ledger's last transaction that was */
	/*
	 * Where in a message its sequence number is (32 bits, network order); 0: not put in here.
	 * It goes on from process to process, for each domain by what its messages are sequenced.
	 */
	unsigned int sequence_offset;
	size_t account_octets; /* the sink's own account, kept beside the ring */
};

/* What an earlier process left. */
struct fm_outbox_found {
	uint64_t messages; /* to be sent now */
	bool unsound;	   /* there was one that could not be used */
};

/*
 * Opens what is in the store under the name, or makes a new one where that is not sound or not of
 * this size, which is in the store from fm_outbox_keep() on. 0 or -errno.
 */
int fm_outbox_new(struct fm_outbox **ret, const struct fm_outbox_options *options,
		  struct fm_outbox_found *ret_found);

/* It stays in the store. */
struct fm_outbox *fm_outbox_free(struct fm_outbox *outbox);
FM_DEFINE_CLEANUP(struct fm_outbox *, fm_outbox_free)

/* 0 or -errno: it does not outlive the process. */
int fm_outbox_keep(struct fm_outbox *outbox);

/* Out of the store: it is empty, or what is in it was counted as not sent. */
void fm_outbox_forget(struct fm_outbox *outbox);

/*
 * The same, but its name stays in the store for the caller to remove: what finds it there goes on
 * with its numbers. Empty: it has none.
 */
void fm_outbox_leave(struct fm_outbox *outbox, char ret_name[FM_STORE_NAME_MAX]);

void fm_outbox_get_numbers(const struct fm_outbox *outbox, struct fm_outbox_numbers *ret);
/* Of one that nothing was appended to. */
void fm_outbox_set_numbers(struct fm_outbox *outbox, const struct fm_outbox_numbers *numbers);

/* Memory of account_octets beside the ring, zeroed when it was made. */
void *fm_outbox_account(struct fm_outbox *outbox);

/* Adds a message behind all others. False: there is no room. */
bool fm_outbox_append(struct fm_outbox *outbox, const uint8_t *message, size_t size,
		      const struct fm_message_info *info);

/* What was appended is part of the transaction serial: published if that is committed. */
void fm_outbox_prepare(struct fm_outbox *outbox, uint64_t serial);

/* All that was appended may be sent. */
void fm_outbox_publish(struct fm_outbox *outbox);

/*
 * Whether an earlier process gave a message to a transport and did not hear what became of it; and:
 * it went out, so it is done. Before the first peek, with any id.
 */
bool fm_outbox_was_given(const struct fm_outbox *outbox, uint64_t id);
bool fm_outbox_settle(struct fm_outbox *outbox, uint64_t id, size_t *ret_size,
		      struct fm_message_info *ret_info);

/*
 * The next message that was published and not given out; info->id is how it is known from then on.
 * Valid until it is done. False: there is none.
 */
bool fm_outbox_peek(struct fm_outbox *outbox, const uint8_t **ret_message, size_t *ret_size,
		    struct fm_message_info *ret_info);
/* Takes it. */
void fm_outbox_give(struct fm_outbox *outbox);

void fm_outbox_done(struct fm_outbox *outbox, uint64_t id);

/* Octets that can be appended, in the worst case. */
size_t fm_outbox_room(const struct fm_outbox *outbox);

/* Less than half of it is in use. */
bool fm_outbox_is_half_empty(const struct fm_outbox *outbox);

/* Messages that are published and not done. */
size_t fm_outbox_waiting(const struct fm_outbox *outbox);

#endif
