/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The way of a sink's messages: through its outbox, which outlives the process, to a transport in
 * the event loop; with an account of what became of every message, and its word in the log. Shared
 * by all sinks; each sink owns one.
 */
#ifndef FM_COURIER_H
#define FM_COURIER_H

#include <systemd/sd-event.h>

#include "daemon/outbox.h"
#include "daemon/patience.h"
#include "daemon/sink.h"
#include "daemon/spool.h"
#include "ipfix/transport.h"

/* All may be NULL. */
struct fm_courier_hooks {
	void (*begun)(void *userdata); /* see transport.h */
	/* A message out of the outbox; NULL: it goes to the transport (fm_courier_deliver). */
	void (*deliver)(void *userdata, const uint8_t *message, size_t size,
			const struct fm_message_info *info);
	/* Whether deliver takes what the transport has no room for. pressed: nor has the outbox. */
	bool (*absorbs)(void *userdata, bool pressed);
	void (*sent)(void *userdata, const struct fm_message_info *info);
	/* See transport.h. */
	bool (*unsent)(void *userdata, const uint8_t *message, size_t size,
		       const struct fm_message_info *info);
	void (*state)(void *userdata, int error);
};

struct fm_courier {
	const struct fm_sink_env *env;
	uint64_t stream; /* 0: has none */
	bool begun;	 /* goes on with its numbers, and leaves them to others */
	struct fm_outbox *outbox;
	struct fm_transport *transport; /* NULL: not started */
	bool held;			/* a transaction is open: nothing goes out */
	bool beginning;			/* a transport session: what is sent goes first */
	bool direct;			/* it does, past the outbox */
	uint64_t full_since_ns; /* the outbox has no room and nothing leaves it; 0: not so */
	struct fm_patience patience;
	sd_event_source *io;
	sd_event_source *timer;
	int io_fd;			      /* what io watches, */
	unsigned int io_attempts;	      /* opened at this attempt of the transport */
	struct fm_sink_stats *stats;	      /* beside the outbox */
	const char *name;		      /* for the log; outlives the courier */
	const struct fm_courier_hooks *hooks; /* NULL: none */
	void *userdata;
	uint64_t logged_ns; /* when a state was logged last */
	unsigned int flaps; /* changes since then */
	char state[256];    /* as it was told last; "": never */
	bool up;
	bool has_old; /* messages of an earlier process were found */
	struct fm_spool_place spooled[FM_SLIP_CALL + 1]; /* sent from there, and not noted */
	size_t n_spooled;
	struct fm_spool_intent *intent; /* beside the outbox, for whoever puts messages on disk */
	bool template_lost;  /* set here: what follows it cannot be read until it is sent again */
	uint64_t changed_ns; /* when it went up or down, or began */
	enum fm_hindrance hindrance;
	uint64_t hindered_ns; /* when that changed */
	uint64_t taken;	      /* by the peer, of this attempt of the transport, */
	unsigned int taken_attempts;
	uint64_t taken_ns; /* and when that became more, or nothing was left to be taken */
	uint64_t checked_ns;
};

/* What there is before there is an address. */
struct fm_courier_options {
	const struct fm_sink_env *env; /* outlives the courier, as does */
	const char *name;	       /* of the sink, for the log */
	const char *peer;	       /* who gets the messages: another one finds another outbox */
	const char *stream;	       /* with whose numbers they go on; NULL: the peer's */
	size_t octets;		       /* that may wait */
	bool direct;		       /* what a session begins with goes past the outbox */
	unsigned int sequence_offset;  /* outbox.h */
	const struct fm_courier_hooks *hooks; /* NULL: none */
	void *userdata;
};

/* Opens the outbox; messages can be sent from now on, and wait. 0 or -errno. */
int fm_courier_open(struct fm_courier *courier, const struct fm_courier_options *options);

/* Before anything is sent: what waits outlives the process. A stream goes on as it ended before. */
void fm_courier_begin(struct fm_courier *courier);

/* All streams that go on have begun: the outboxes of others leave the store. */
void fm_courier_all_begun(const struct fm_sink_env *env);

/* Starts ops with options; its callbacks are the courier's. */
int fm_courier_start(struct fm_courier *courier, const struct fm_transport_ops *ops,
		     struct fm_transport_options *options);

/* A transaction is open: what is sent stays in the outbox. */
void fm_courier_hold(struct fm_courier *courier);
/* All that was sent is part of it. */
void fm_courier_prepare(struct fm_courier *courier, uint64_t serial);
/* It is committed, or there is none: everything goes. */
void fm_courier_flush(struct fm_courier *courier);

void fm_courier_send(struct fm_courier *courier, const uint8_t *message, size_t size,
		     const struct fm_message_info *info);

/* Past the outbox: to the transport. */
void fm_courier_deliver(struct fm_courier *courier, const uint8_t *message, size_t size,
			const struct fm_message_info *info);
/* Somebody else keeps a message of the outbox now, or since an earlier process: before start. */
void fm_courier_settle(struct fm_courier *courier, const struct fm_message_info *info);
void fm_courier_settle_old(struct fm_courier *courier, uint64_t outbox_id);

/* The peer has another address now: a new transport session, which what waits goes to. */
void fm_courier_move(struct fm_courier *courier, const struct sockaddr_storage *address,
		     socklen_t size);

/*
 * Records it can take: 0 while the outbox is full and may be waited for; everything when nothing
 * left it for a second, or others waited for it long enough: what does not fit is counted then.
 */
size_t fm_courier_room(struct fm_courier *courier);
/* Others had room, and wait: see sink.h. */
void fm_courier_kept(struct fm_courier *courier);

/* Looks whether the peer takes what it is given; to be called about once a second. */
void fm_courier_check(struct fm_courier *courier);
/* Whether what is given to it gets there, and since when it does or does not. */
bool fm_courier_up(const struct fm_courier *courier, uint64_t *ret_since_ns);

/* Whether the peer is there and takes nothing. */
static inline bool fm_courier_stalled(const struct fm_courier *courier)
{
	return courier->hindrance == FM_HINDRANCE_STALLED;
}

/* A record, or an audit, that never became part of a message. */
void fm_courier_lose_record(struct fm_courier *courier, const struct fm_record *record);
void fm_courier_lose_audit(struct fm_courier *courier);

void fm_courier_stats(const struct fm_courier *courier, struct fm_sink_stats *ret);
/* In the end, where there are any: records that were not sent, by cause. */
void fm_courier_log_not_sent(const char *name, const struct fm_sink_stats *stats);

/* Sends what waits until deadline_ns, gives up the rest, and the outbox. */
void fm_courier_done(struct fm_courier *courier, uint64_t deadline_ns);

/* Frees it; after done, or where it could not be started. */
void fm_courier_close(struct fm_courier *courier);

#endif
