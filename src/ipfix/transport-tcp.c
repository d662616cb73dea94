/* SPDX-License-Identifier: Apache-2.0 */
/* TCP: a stream of whole messages (RFC 7011 10.4), as they are. See stream.h. */
#include <errno.h>
#include <stdlib.h>

#include "ipfix/stream.h"

/* Messages a system call. */
#define BATCH 16

/* Octets of several messages in one call; the first may be half written. */
static ssize_t tcp_write(struct fm_stream *stream)
{
	struct fm_slip *slip = stream->transport.slip;
	struct iovec parts[BATCH];
	struct fm_message *message = stream->transport.first;
	size_t n = 0, octets = 0;

	fm_slip_clear(slip);
	for (; message && n < BATCH; message = message->next) {
		parts[n++] = (struct iovec){
			.iov_base = message->data + message->done,
			.iov_len = message->size - message->done,
		};
		octets += message->size - message->done;
		fm_slip_add(slip, &message->info, 0, octets);
	}
	return fm_slip_write(slip, stream->transport.fd, parts, n);
}

/* A collector has nothing to say: what it sends is thrown away, an end is the session's end. */
static int tcp_read(struct fm_stream *stream)
{
	char buffer[4096];
	ssize_t n = recv(stream->transport.fd, buffer, sizeof(buffer), 0);

	if (n == 0)
		return -EPIPE;
	if (n < 0 && errno != EAGAIN && errno != EINTR)
		return -errno;
	return 0;
}

static const struct fm_stream_layer layer = {
	.write = tcp_write,
	.read = tcp_read,
};

static struct fm_transport *tcp_new(const struct fm_transport_options *options)
{
	struct fm_stream *stream = calloc(1, sizeof(*stream));

	if (!stream)
		return NULL;
	stream->layer = &layer;
	return &stream->transport;
}

static void tcp_free(struct fm_transport *transport)
{
	free(transport);
}

const struct fm_transport_ops fm_transport_tcp = {
	.name = "tcp",
	.new = tcp_new,
	.free = tcp_free,
	FM_STREAM_OPS,
};
