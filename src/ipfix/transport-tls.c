/* SPDX-License-Identifier: Apache-2.0 */
/*
 * TLS over TCP (RFC 7011 10.4, 11): a stream of whole messages. See stream.h and tls.h.
 *
 * With TLS 1.3 our handshake is over before the peer has looked at our certificate. What is sent
 * then would count as sent, although the peer throws it away with its alert. So nothing is sent
 * before the peer shows that it is content, by a session ticket, or was silent for a while.
 */
#include <errno.h>
#include <stdlib.h>
#include <stdio.h>
#include <string.h>
#include <sys/epoll.h>

#include <openssl/err.h>

#include "ipfix/stream.h"
#include "ipfix/tls-witness.h"
#include "ipfix/tls.h"

/* What a record of TLS holds: so many octets of messages are encrypted at once. */
#define RECORD_OCTETS 16384
/* A peer that sends no tickets may object for this long. */
#define OBJECT_NS (1 * FM_NS_PER_S)

struct tls {
	struct fm_stream stream;
	SSL *connection;
	struct fm_tls_witness witness;
	uint64_t limit_ns;    /* of the handshake */
	uint64_t accepted_ns; /* the peer is taken to be content; 0: handshake */
	size_t filled;	      /* octets of record that are to be written */
	uint8_t record[RECORD_OCTETS];
};

static struct tls *of(struct fm_stream *stream)
{
	return (struct tls *)stream;
}

static int error_of(struct tls *tls, int result)
{
	struct fm_transport *transport = &tls->stream.transport;

	return fm_tls_error(tls->connection, result, transport->trouble,
			    sizeof(transport->trouble));
}

static int read_away(struct tls *tls)
{
	struct fm_transport *transport = &tls->stream.transport;

	return fm_tls_read(tls->connection, transport->trouble, sizeof(transport->trouble));
}

static int tls_read(struct fm_stream *stream)
{
	return read_away(of(stream));
}

static int open_connection(struct tls *tls, uint64_t now_ns)
{
	const struct fm_transport *transport = &tls->stream.transport;

	tls->limit_ns = now_ns + FM_TLS_HANDSHAKE_NS;
	tls->accepted_ns = 0;
	tls->filled = 0;
	return fm_tls_connection_new(
		&tls->connection, transport->options.tls,
		fm_tls_witness_push(&tls->witness, transport->slip,
				    BIO_new_socket(transport->fd, BIO_NOCLOSE)),
		transport->options.peer_name);
}

/* The handshake is over: whether the peer is content. */
static int await_acceptance(struct tls *tls, uint64_t now_ns)
{
	struct fm_transport *transport = &tls->stream.transport;
	int r;

	if (SSL_version(tls->connection) < TLS1_3_VERSION)
		return 0;
	if (!tls->accepted_ns)
		tls->accepted_ns = now_ns + OBJECT_NS;
	r = read_away(tls);
	if (r < 0)
		return r;
	if (fm_tls_has_ticket(tls->connection) || now_ns >= tls->accepted_ns)
		return 0;
	transport->deadline_ns = tls->accepted_ns;
	return -EAGAIN;
}

static int tls_shake(struct fm_stream *stream, uint64_t now_ns)
{
	struct tls *tls = of(stream);
	int r = 0, result;

	if (!tls->connection)
		r = open_connection(tls, now_ns);
	if (r < 0)
		return r;
	if (SSL_is_init_finished(tls->connection))
		return await_acceptance(tls, now_ns);
	ERR_clear_error();
	errno = 0;
	result = SSL_do_handshake(tls->connection);
	if (result == 1)
		return await_acceptance(tls, now_ns);
	r = error_of(tls, result);
	if (r != -EAGAIN)
		return r;
	if (now_ns >= tls->limit_ns) {
		snprintf(stream->transport.trouble, sizeof(stream->transport.trouble),
			 "in the TLS handshake");
		return -ETIMEDOUT;
	}
	stream->transport.deadline_ns = tls->limit_ns;
	if (SSL_want_write(tls->connection))
		stream->transport.events = EPOLLIN | EPOLLOUT;
	return -EAGAIN;
}

/* As many octets of what waits as a record holds; what ends in it is in the slip. */
static void fill(struct tls *tls)
{
	const struct fm_message *message = tls->stream.transport.first;
	struct fm_slip *slip = tls->stream.transport.slip;

	fm_slip_clear(slip);
	for (; message && tls->filled < RECORD_OCTETS && slip->filled < FM_SLIP_CALL;
	     message = message->next) {
		size_t left = message->size - message->done;
		size_t part = FM_MIN(left, RECORD_OCTETS - tls->filled);

		memcpy(tls->record + tls->filled, message->data + message->done, part);
		tls->filled += part;
		if (part == left)
			fm_slip_add(slip, &message->info, 0, FM_SLIP_NOT_OUT);
	}
	fm_tls_witness_begin(&tls->witness, tls->filled);
}

static ssize_t tls_write(struct fm_stream *stream)
{
	struct tls *tls = of(stream);
	size_t filled;
	int n;

	/* What could not be written must be tried again as it was. */
	if (!tls->filled)
		fill(tls);
	ERR_clear_error();
	errno = 0;
	n = fm_tls_witness_write(&tls->witness, tls->connection, tls->record, tls->filled);
	if (n <= 0)
		return error_of(tls, n);
	filled = tls->filled; /* all or nothing */
	tls->filled = 0;
	return (ssize_t)filled;
}

static void tls_close(struct fm_stream *stream)
{
	struct tls *tls = of(stream);

	if (!tls->connection)
		return;
	/*
	 * The end of what was sent is told. What the peer said is read away: closing a socket that
	 * holds unread octets resets the connection, and what is under way would be lost.
	 */
	if (stream->state == FM_STREAM_UP && read_away(tls) == 0)
		SSL_shutdown(tls->connection);
	ERR_clear_error();
	tls->connection = fm_tls_connection_free(tls->connection);
}

static const struct fm_stream_layer layer = {
	.shake = tls_shake,
	.write = tls_write,
	.read = tls_read,
	.close = tls_close,
};

static struct fm_transport *tls_new(const struct fm_transport_options *options)
{
	struct tls *tls = calloc(1, sizeof(*tls));

	if (!tls)
		return NULL;
	if (fm_tls_witness_init(&tls->witness) < 0) {
		free(tls);
		return NULL;
	}
	tls->stream.layer = &layer;
	return &tls->stream.transport;
}

static void tls_free(struct fm_transport *transport)
{
	struct tls *tls = of(fm_stream_of(transport));

	fm_tls_witness_done(&tls->witness);
	free(tls);
}

const struct fm_transport_ops fm_transport_tls = {
	.name = "tls",
	.new = tls_new,
	.free = tls_free,
	FM_STREAM_OPS,
};
