/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What transports over TCP share: one connection after the other, each a transport session. What
 * waits when one breaks, the half-written message included, is sent in the next: a collector that
 * never got the end of a message does not have it. Used by transport-tcp.c and transport-tls.c.
 */
#ifndef FM_STREAM_H
#define FM_STREAM_H

#include <sys/types.h>

#include "ipfix/transport.h"

struct fm_stream;

/* What lies between the messages and the socket. */
struct fm_stream_layer {
	/*
	 * The connection stands: what has to be agreed on with the peer. 0: nothing any more,
	 * -EAGAIN (transport's deadline is set), -errno. Called again when something came or the
	 * deadline passed. NULL: nothing.
	 */
	int (*shake)(struct fm_stream *stream, uint64_t now_ns);
	/* Writes of what waits: so many octets of messages, -EAGAIN, -errno. */
	ssize_t (*write)(struct fm_stream *stream);
	/* Throws away what the peer says. 0, -EPIPE (it has ended), -errno. */
	int (*read)(struct fm_stream *stream);
	/* The connection is over, or will not be used; NULL: nothing to do. */
	void (*close)(struct fm_stream *stream);
};

enum fm_stream_state {
	FM_STREAM_DOWN,
	FM_STREAM_CONNECTING,
	FM_STREAM_SHAKING,
	FM_STREAM_UP,
};

struct fm_stream {
	struct fm_transport transport;
	const struct fm_stream_layer *layer; /* set by new */
	enum fm_stream_state state;
	struct fm_numbers numbers;
};

static inline struct fm_stream *fm_stream_of(struct fm_transport *transport)
{
	return (struct fm_stream *)transport;
}

/* fm_transport_ops of every kind. */
void fm_stream_start(struct fm_transport *transport, uint64_t now_ns);
void fm_stream_send(struct fm_transport *transport, const uint8_t *message, size_t size,
		    const struct fm_message_info *info, uint64_t now_ns);
void fm_stream_flush(struct fm_transport *transport, uint64_t now_ns);
void fm_stream_dispatch(struct fm_transport *transport, uint64_t now_ns);
void fm_stream_move(struct fm_transport *transport, uint64_t now_ns);
struct fm_message *fm_stream_recall(struct fm_transport *transport);
uint64_t fm_stream_taken(const struct fm_transport *transport, bool *ret_owes);
void fm_stream_stop(struct fm_transport *transport);

#define FM_STREAM_OPS                                                                              \
	.start = fm_stream_start, .send = fm_stream_send, .flush = fm_stream_flush,                \
	.dispatch = fm_stream_dispatch, .move = fm_stream_move, .recall = fm_stream_recall,        \
	.taken = fm_stream_taken, .stop = fm_stream_stop

#endif
