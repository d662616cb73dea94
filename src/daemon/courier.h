/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A transport in the event loop, with its account of what became of every message, and its word in
 * the log. Shared by all sinks; each sink owns one.
 */
#ifndef FM_COURIER_H
#define FM_COURIER_H

#include <systemd/sd-event.h>

#include "daemon/sink.h"
#include "ipfix/transport.h"

/* What the owner of a courier wants to know; each may be NULL. */
struct fm_courier_hooks {
	void (*begun)(void *userdata); /* see transport.h */
	void (*sent)(void *userdata, const struct fm_message_info *info);
	/* See transport.h. */
	bool (*unsent)(void *userdata, const uint8_t *message, size_t size,
		       const struct fm_message_info *info);
	void (*state)(void *userdata, int error);
};

struct fm_courier {
	sd_event *event;
	struct fm_transport *transport;
	sd_event_source *io;
	sd_event_source *timer;
	int io_fd;		  /* what io watches, */
	unsigned int io_attempts; /* opened at this attempt of the transport */
	struct fm_sink_stats stats;
	const char *name;		      /* for the log; outlives the courier */
	const struct fm_courier_hooks *hooks; /* NULL: none */
	void *userdata;
	uint64_t logged_ns; /* when a state was logged last */
	unsigned int flaps; /* changes since then */
	char state[256];    /* as it was told last; "": never */
	bool up;
	bool template_lost;  /* set here: what follows it cannot be read until it is sent again */
	uint64_t changed_ns; /* when it went up or down, or began */
};

/* Starts ops with options; its callbacks are the courier's. */
int fm_courier_init(struct fm_courier *courier, sd_event *event, const char *name,
		    const struct fm_transport_ops *ops, struct fm_transport_options *options,
		    const struct fm_courier_hooks *hooks, void *userdata);

void fm_courier_send(struct fm_courier *courier, const uint8_t *message, size_t size,
		     const struct fm_message_info *info);
void fm_courier_flush(struct fm_courier *courier);

/* The peer has another address now: a new transport session, which what waits goes to. */
void fm_courier_move(struct fm_courier *courier, const struct sockaddr_storage *address,
		     socklen_t size);

/*
 * Records it can take: 0 while the network is busy and may be waited for; everything when it takes
 * nothing for a second, since others wait behind it: what does not fit is counted then.
 */
size_t fm_courier_room(const struct fm_courier *courier);

/* Whether the transport sends, and since when it does or does not. */
bool fm_courier_up(const struct fm_courier *courier, uint64_t *ret_since_ns);

/* A record that never became part of a message. */
void fm_courier_lose_record(struct fm_courier *courier, const struct fm_record *record);

void fm_courier_stats(const struct fm_courier *courier, struct fm_sink_stats *ret);

/* Sends what waits until deadline_ns, gives up the rest. */
void fm_courier_done(struct fm_courier *courier, uint64_t deadline_ns);

#endif
