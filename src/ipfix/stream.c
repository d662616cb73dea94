/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Transports over TCP: see stream.h. Sequence numbers count from 0 in each session, so they are put
 * in here, in the order of sending.
 */
#include "ipfix/stream.h"

#include <errno.h>
#include <linux/tcp.h>
#include <netinet/in.h>
#include <sys/epoll.h>

#include "base/macro.h"

#define BATCH 16
/* What is written in part, or may be encrypted already: a record of TLS. */
#define BEGUN_OCTETS	     16384
#define KEEPALIVE_IDLE_S     30
#define KEEPALIVE_INTERVAL_S 10
#define KEEPALIVE_PROBES     3
/* Data that nobody acknowledges ends the connection after this, not after the system's 15 min. */
#define USER_TIMEOUT_MS 120000

static void hang_up(struct fm_stream *stream)
{
	struct fm_transport *transport = &stream->transport;

	if (stream->state != FM_STREAM_DOWN && stream->layer->close)
		stream->layer->close(stream);
	if (transport->fd >= 0)
		close(transport->fd);
	transport->fd = -1;
	transport->events = 0;
	transport->stalled_since_ns = 0;
	stream->state = FM_STREAM_DOWN;
}

static void down(struct fm_stream *stream, uint64_t now_ns, int error)
{
	struct fm_transport *transport = &stream->transport;

	hang_up(stream);
	transport->deadline_ns = fm_transport_retry_ns(transport, now_ns);
	fm_transport_keep_records(transport);
	transport->options.state(transport->options.userdata, error);
	transport->trouble[0] = '\0';
}

static void up(struct fm_stream *stream, uint64_t now_ns)
{
	struct fm_transport *transport = &stream->transport;

	stream->state = FM_STREAM_UP;
	transport->events = EPOLLIN;
	transport->deadline_ns = UINT64_MAX;
	transport->options.state(transport->options.userdata, 0);
	fm_transport_begin(transport, &stream->numbers);
	transport->ops->flush(transport, now_ns);
}

/* The connection stands. */
static void shake(struct fm_stream *stream, uint64_t now_ns)
{
	struct fm_transport *transport = &stream->transport;
	int r = 0;

	stream->state = FM_STREAM_SHAKING;
	transport->events = EPOLLIN;
	transport->deadline_ns = UINT64_MAX;
	if (stream->layer->shake)
		r = stream->layer->shake(stream, now_ns);
	if (r == 0)
		up(stream, now_ns);
	else if (r != -EAGAIN)
		down(stream, now_ns, r);
}

static int open_socket(const struct fm_transport_options *options)
{
	const int on = 1, idle = KEEPALIVE_IDLE_S, interval = KEEPALIVE_INTERVAL_S,
		  probes = KEEPALIVE_PROBES, user_timeout = USER_TIMEOUT_MS;
	int fd = socket(options->address.ss_family, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);

	if (fd < 0)
		return -errno;
	/* A dead peer is noticed even when there is nothing to send; refusing one is no error. */
	setsockopt(fd, SOL_SOCKET, SO_KEEPALIVE, &on, sizeof(on));
	setsockopt(fd, IPPROTO_TCP, TCP_KEEPIDLE, &idle, sizeof(idle));
	setsockopt(fd, IPPROTO_TCP, TCP_KEEPINTVL, &interval, sizeof(interval));
	setsockopt(fd, IPPROTO_TCP, TCP_KEEPCNT, &probes, sizeof(probes));
	setsockopt(fd, IPPROTO_TCP, TCP_USER_TIMEOUT, &user_timeout, sizeof(user_timeout));
	setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof(on));
	return fd;
}

void fm_stream_start(struct fm_transport *transport, uint64_t now_ns)
{
	struct fm_stream *stream = fm_stream_of(transport);
	int fd = open_socket(&transport->options);

	transport->attempts++;
	if (fd < 0) {
		down(stream, now_ns, fd);
		return;
	}
	transport->fd = fd;
	transport->deadline_ns = UINT64_MAX;
	if (connect(fd, (const struct sockaddr *)&transport->options.address,
		    transport->options.address_size) == 0) {
		shake(stream, now_ns);
	} else if (errno == EINPROGRESS) {
		stream->state = FM_STREAM_CONNECTING;
		transport->events = EPOLLOUT;
	} else {
		down(stream, now_ns, -errno);
	}
}

static void wrote(struct fm_transport *transport, size_t octets)
{
	while (octets) {
		struct fm_message *message = transport->first;
		size_t part = FM_MIN(octets, message->size - message->done);

		message->done += part;
		octets -= part;
		if (message->done == message->size)
			fm_transport_pop_sent(transport);
	}
}

void fm_stream_flush(struct fm_transport *transport, uint64_t now_ns)
{
	struct fm_stream *stream = fm_stream_of(transport);

	int r = 0;

	if (stream->state != FM_STREAM_UP)
		return;
	/* What goes to a peer that has closed already is taken by the system, and lost. */
	if (transport->first)
		r = stream->layer->read(stream);
	if (r < 0) {
		down(stream, now_ns, r);
		return;
	}
	while (transport->first) {
		ssize_t n = stream->layer->write(stream);

		if (n > 0) {
			transport->stalled_since_ns = 0;
			wrote(transport, (size_t)n);
		} else if (n == -EAGAIN) {
			if (!transport->stalled_since_ns)
				transport->stalled_since_ns = now_ns;
			transport->events = EPOLLIN | EPOLLOUT;
			return;
		} else if (n != -EINTR) {
			down(stream, now_ns, (int)n);
			return;
		}
	}
	transport->events = EPOLLIN;
}

void fm_stream_send(struct fm_transport *transport, const uint8_t *message, size_t size,
		    const struct fm_message_info *info, uint64_t now_ns)
{
	struct fm_stream *stream = fm_stream_of(transport);
	bool is_up = stream->state == FM_STREAM_UP;

	if (!is_up && !info->records && !info->is_kept) {
		fm_transport_lose(transport, message, size, info, FM_NOT_SENT_disconnected);
		return;
	}
	if (!fm_transport_push(transport, message, size, info) || !is_up)
		return;
	fm_numbers_put(&stream->numbers, transport->last);
	if (transport->waiting >= BATCH && !transport->stalled_since_ns)
		fm_stream_flush(transport, now_ns);
}

static void finish_connect(struct fm_stream *stream, uint64_t now_ns)
{
	socklen_t size = sizeof(int);
	int error = 0;

	getsockopt(stream->transport.fd, SOL_SOCKET, SO_ERROR, &error, &size);
	if (error)
		down(stream, now_ns, -error);
	else
		shake(stream, now_ns);
}

void fm_stream_dispatch(struct fm_transport *transport, uint64_t now_ns)
{
	struct fm_stream *stream = fm_stream_of(transport);
	int r;

	switch (stream->state) {
	case FM_STREAM_DOWN:
		if (now_ns >= transport->deadline_ns)
			fm_stream_start(transport, now_ns);
		return;
	case FM_STREAM_CONNECTING:
		finish_connect(stream, now_ns);
		return;
	case FM_STREAM_SHAKING:
		shake(stream, now_ns);
		return;
	case FM_STREAM_UP:
		break;
	}
	r = stream->layer->read(stream);
	if (r < 0)
		down(stream, now_ns, r);
	else
		fm_stream_flush(transport, now_ns);
}

void fm_stream_move(struct fm_transport *transport, uint64_t now_ns)
{
	hang_up(fm_stream_of(transport));
	fm_transport_keep_records(transport);
	fm_stream_start(transport, now_ns);
}

struct fm_message *fm_stream_recall(struct fm_transport *transport)
{
	struct fm_stream *stream = fm_stream_of(transport);

	return fm_transport_recall(
		transport, stream->state == FM_STREAM_UP ? &stream->numbers : NULL, BEGUN_OCTETS);
}

/* A window that stays closed says the same as a full queue here, and says it earlier. */
uint64_t fm_stream_taken(const struct fm_transport *transport, bool *ret_owes)
{
	struct tcp_info info = {};
	socklen_t size = sizeof(info);

	if (transport->fd < 0 ||
	    getsockopt(transport->fd, IPPROTO_TCP, TCP_INFO, &info, &size) < 0) {
		*ret_owes = false;
		return 0;
	}
	*ret_owes = transport->first || info.tcpi_unacked || info.tcpi_notsent_bytes;
	return info.tcpi_bytes_acked;
}

void fm_stream_stop(struct fm_transport *transport)
{
	hang_up(fm_stream_of(transport));
	fm_transport_lose_all(transport, FM_NOT_SENT_stopped);
}
