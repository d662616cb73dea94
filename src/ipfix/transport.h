/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Transports: finished messages on their way to a collector. Never blocks, keeps a bounded queue,
 * sends whole messages only, and says of every message what became of it. Knows no event loop: the
 * owner polls fd for events and calls dispatch, also when the deadline has passed. One file a kind.
 */
#ifndef FM_TRANSPORT_H
#define FM_TRANSPORT_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/socket.h>

#include "base/cleanup.h"
#include "ipfix/numbers.h"
#include "ipfix/session.h"
#include "ipfix/slip.h"

struct fm_transport;

struct fm_transport_options {
	struct sockaddr_storage address; /* see fm_transport_move */
	socklen_t address_size;
	const char *path;		/* files: where to, - is standard output */
	struct fm_transport_mark *mark; /* NULL: none */
	size_t queue_octets;		/* octets that may wait */
	uint64_t reconnect_ns;		/* between attempts to connect, at least */
	/* tls, dtls: both outlive the transport; see tls.h. Dtls: a new association after renew. */
	struct ssl_ctx_st *tls;
	const char *peer_name;
	uint64_t renew_ns;
	/*
	 * A transport session begins: templates come first (RFC 7011 8.1). Those that keep what
	 * waits number each session's messages. From start, dispatch and move; may call send.
	 */
	void (*begun)(void *userdata);
	/* A message was handed to the network whole. */
	void (*sent)(void *userdata, const struct fm_message_info *info, size_t size);
	/* A message was given up. */
	void (*lost)(void *userdata, const struct fm_message_info *info, size_t size,
		     enum fm_not_sent cause);
	/* Asked before: whether the owner keeps the message, so that it is not. NULL: never. */
	bool (*unsent)(void *userdata, const uint8_t *message, size_t size,
		       const struct fm_message_info *info);
	/* The state changed, for the log: error is 0 (up) or -errno (down; see trouble). */
	void (*state)(void *userdata, int error);
	void *userdata;
};

struct fm_transport_ops {
	const char *name;
	struct fm_transport *(*new)(const struct fm_transport_options *options);
	void (*free)(struct fm_transport *transport);
	void (*start)(struct fm_transport *transport, uint64_t now_ns);
	void (*send)(struct fm_transport *transport, const uint8_t *message, size_t size,
		     const struct fm_message_info *info, uint64_t now_ns);
	/* Writes what it can. */
	void (*flush)(struct fm_transport *transport, uint64_t now_ns);
	void (*dispatch)(struct fm_transport *transport, uint64_t now_ns);
	/* The address in options changed: a session to it, with what waits. NULL: there is none. */
	void (*move)(struct fm_transport *transport, uint64_t now_ns);
	/* Takes back what waits and is not half written, as a list. NULL: it cannot be. */
	struct fm_message *(*recall)(struct fm_transport *transport);
	/* Octets the peer has acknowledged; ret_owes: not all. NULL: it cannot be told. */
	uint64_t (*taken)(const struct fm_transport *transport, bool *ret_owes);
	/* Gives up what waits; every message gets its sent or lost. */
	void (*stop)(struct fm_transport *transport);
};

/* A message that waits. */
struct fm_message {
	struct fm_message *next;
	struct fm_message_info info;
	size_t size;
	size_t done; /* octets written */
	uint8_t data[];
};

/* Every transport starts with this. */
struct fm_transport {
	const struct fm_transport_ops *ops;
	struct fm_transport_options options;
	int fd;		      /* -1: none now */
	uint32_t events;      /* EPOLLIN | EPOLLOUT to wait for */
	uint64_t deadline_ns; /* CLOCK_MONOTONIC, UINT64_MAX: none */
	struct fm_message *first, *last;
	size_t waiting, waiting_octets;
	uint64_t stalled_since_ns; /* the network takes nothing since; 0: it does */
	unsigned int attempts;	   /* sockets opened */
	size_t message_max;   /* octets that the path takes, from begun on; 0: no limit known */
	struct fm_slip *slip; /* of the mark, or its own */
	char trouble[160];    /* what the last error was about; "": the error says it all */
};

extern const struct fm_transport_ops fm_transport_udp, fm_transport_tcp, fm_transport_tls,
	fm_transport_dtls, fm_transport_file;

/*
 * 0 or -ENOMEM. ops->start then connects or opens, once the owner is ready for callbacks. now:
 * CLOCK_MONOTONIC nanoseconds everywhere.
 */
int fm_transport_new(struct fm_transport **ret, const struct fm_transport_ops *ops,
		     const struct fm_transport_options *options);
struct fm_transport *fm_transport_free(struct fm_transport *transport);
FM_DEFINE_CLEANUP(struct fm_transport *, fm_transport_free)

/* The peer has another address now. */
void fm_transport_move(struct fm_transport *transport, const struct sockaddr_storage *address,
		       socklen_t size, uint64_t now_ns);

/* For the kinds: the queue. False: it is full, the message given up. Templates have twice of it. */
bool fm_transport_push(struct fm_transport *transport, const uint8_t *message, size_t size,
		       const struct fm_message_info *info);
/* A message is given up: it is the owner's again, or lost. */
void fm_transport_lose(struct fm_transport *transport, const uint8_t *message, size_t size,
		       const struct fm_message_info *info, enum fm_not_sent cause);
/* Takes a message over, whatever the queue's limit; others see it for tests to stop there. */
void fm_transport_append(struct fm_transport *transport, struct fm_message *message);
void fm_transport_prepend(struct fm_transport *transport, struct fm_message *message);
/* The first message, or the list of all, becomes the caller's. */
struct fm_message *fm_transport_take(struct fm_transport *transport);
struct fm_message *fm_transport_take_all(struct fm_transport *transport);
void fm_transport_pop_sent(struct fm_transport *transport);
void fm_transport_pop_lost(struct fm_transport *transport, enum fm_not_sent cause);
void fm_transport_lose_all(struct fm_transport *transport, enum fm_not_sent cause);
/* Flow records wait for the next transport session; all else is made anew or comes again. */
void fm_transport_keep_records(struct fm_transport *transport);

/*
 * For the kinds: transport sessions. Numbers are NULL where messages keep those they came with.
 *
 * Takes what waits, as a list. In a session that has given numbers, at least so many octets stay,
 * and the numbers of the others are given again.
 */
struct fm_message *fm_transport_recall(struct fm_transport *transport, struct fm_numbers *numbers,
				       size_t octets);
/* A session begins: what begun sends goes before what waits. */
void fm_transport_begin(struct fm_transport *transport, struct fm_numbers *numbers);
/* When to try again: up to a quarter later, so that not all exporters come at one moment. */
uint64_t fm_transport_retry_ns(const struct fm_transport *transport, uint64_t now_ns);

#endif
