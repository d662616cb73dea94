/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What the messages of a collector go through on their way to its courier: on to the courier while
 * the collector is there, into the spool while it is away and as long as anything waits before
 * them; and out of the spool, paced, when it is back. Owned by the collector sink.
 *
 * Away is a connection that does not stand, a UDP port that answers "unreachable", or a network
 * that takes nothing for so long that the queue is full. Whether a UDP collector is back nobody
 * tells: templates are sent every now and then, and when they are not answered it is.
 */
#ifndef FM_CATCH_UP_H
#define FM_CATCH_UP_H

#include "daemon/courier.h"
#include "daemon/spool.h"

struct fm_catch_up_options {
	sd_event *event;
	struct fm_courier *courier;
	const char *name; /* for the log */
	struct fm_spool_options spool;
	bool enabled;	    /* else there is no spool */
	bool required;	    /* its absence is worth a line in the log */
	bool datagrams;	    /* the last message counts as sent when another follows */
	bool connects;	    /* messages get new sequence numbers in each session */
	uint64_t rate;	    /* records a second beside the live ones; 0: no limit */
	size_t message_max; /* octets that the transport takes */
	/* Sends the templates of the live session, through fm_catch_up_send. */
	void (*templates)(void *userdata);
	/* A gap was filled: tells the collector. */
	void (*filled)(void *userdata, const struct fm_spool_gap *gap);
	void *userdata;
};

struct fm_catch_up;

/* 0 or -ENOMEM. */
int fm_catch_up_new(struct fm_catch_up **ret, const struct fm_catch_up_options *options);
struct fm_catch_up *fm_catch_up_free(struct fm_catch_up *catch_up);

/*
 * Before the first message, and when the sink that this one replaces is closed, which had the spool
 * until then. One that cannot be opened is tried again later.
 */
void fm_catch_up_begin(struct fm_catch_up *catch_up);

/* The spool has the template; nobody else gets it. */
void fm_catch_up_learn(struct fm_catch_up *catch_up, const uint8_t *message, size_t size);

/* A message of the live session. */
void fm_catch_up_send(struct fm_catch_up *catch_up, const uint8_t *message, size_t size,
		      const struct fm_message_info *info);

/* Whether a message that the transport has no room for finds some here. */
bool fm_catch_up_absorbs(const struct fm_catch_up *catch_up, bool pressed);

/* What the courier tells; see struct fm_courier_hooks. */
void fm_catch_up_begun(struct fm_catch_up *catch_up);
void fm_catch_up_sent(struct fm_catch_up *catch_up, const struct fm_message_info *info);
bool fm_catch_up_unsent(struct fm_catch_up *catch_up, const uint8_t *message, size_t size,
			const struct fm_message_info *info);
void fm_catch_up_state(struct fm_catch_up *catch_up, int error);

/* Once a second, about. */
void fm_catch_up_tick(struct fm_catch_up *catch_up);

/* Nothing more is sent from the spool: what the courier has not sent yet is put there. */
void fm_catch_up_stop(struct fm_catch_up *catch_up);

/* Adds what became of messages in the spool. */
void fm_catch_up_stats(const struct fm_catch_up *catch_up, struct fm_sink_stats *stats);

#endif
