/* SPDX-License-Identifier: Apache-2.0 */
/*
 * TCP: a stream of whole messages (RFC 7011 10.4). A connection is a transport session; what
 * arrives while there is none is given up at once, what was queued or half written when it breaks
 * as well: a collector that never got the end of a message does not have it.
 */
#include <errno.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/random.h>
#include <sys/uio.h>

#include "base/macro.h"
#include "ipfix/transport.h"

#define BATCH		     16
#define KEEPALIVE_IDLE_S     30
#define KEEPALIVE_INTERVAL_S 10
#define KEEPALIVE_PROBES     3

struct tcp {
	struct fm_transport transport;
	bool connecting;
};

static struct fm_transport *tcp_new(const struct fm_transport_options *options)
{
	struct tcp *tcp = calloc(1, sizeof(*tcp));

	return tcp ? &tcp->transport : NULL;
}

static void tcp_free(struct fm_transport *transport)
{
	free(transport);
}

/* Up to a quarter more, so that many exporters do not come back at the same moment. */
static uint64_t with_jitter(uint64_t ns)
{
	uint32_t random = 0;

	if (getrandom(&random, sizeof(random), GRND_NONBLOCK) < 0)
		return ns;
	return ns + ns / 4 * random / UINT32_MAX;
}

static void down(struct tcp *tcp, uint64_t now_ns, int error)
{
	struct fm_transport *transport = &tcp->transport;

	if (transport->fd >= 0)
		close(transport->fd);
	transport->fd = -1;
	transport->events = 0;
	transport->stalled_since_ns = 0;
	tcp->connecting = false;
	transport->deadline_ns = now_ns + with_jitter(transport->options.reconnect_ns);
	fm_transport_lose_all(transport);
	transport->options.state(transport->options.userdata, error);
}

static void up(struct tcp *tcp, uint64_t now_ns)
{
	struct fm_transport *transport = &tcp->transport;

	tcp->connecting = false;
	transport->events = EPOLLIN;
	transport->deadline_ns = UINT64_MAX;
	transport->options.state(transport->options.userdata, 0);
	transport->options.begun(transport->options.userdata);
	transport->ops->flush(transport, now_ns);
}

static int open_socket(const struct fm_transport_options *options)
{
	const int on = 1, idle = KEEPALIVE_IDLE_S, interval = KEEPALIVE_INTERVAL_S,
		  probes = KEEPALIVE_PROBES;
	int fd = socket(options->address.ss_family, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);

	if (fd < 0)
		return -errno;
	/* A dead peer is noticed even when there is nothing to send; refusing one is no error. */
	setsockopt(fd, SOL_SOCKET, SO_KEEPALIVE, &on, sizeof(on));
	setsockopt(fd, IPPROTO_TCP, TCP_KEEPIDLE, &idle, sizeof(idle));
	setsockopt(fd, IPPROTO_TCP, TCP_KEEPINTVL, &interval, sizeof(interval));
	setsockopt(fd, IPPROTO_TCP, TCP_KEEPCNT, &probes, sizeof(probes));
	setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof(on));
	return fd;
}

static void tcp_start(struct fm_transport *transport, uint64_t now_ns)
{
	struct tcp *tcp = FM_CONTAINER_OF(transport, struct tcp, transport);
	int fd = open_socket(&transport->options);

	if (fd < 0) {
		down(tcp, now_ns, fd);
		return;
	}
	transport->fd = fd;
	transport->deadline_ns = UINT64_MAX;
	if (connect(fd, (const struct sockaddr *)&transport->options.address,
		    transport->options.address_size) == 0) {
		up(tcp, now_ns);
	} else if (errno == EINPROGRESS) {
		tcp->connecting = true;
		transport->events = EPOLLOUT;
	} else {
		down(tcp, now_ns, -errno);
	}
}

/* Octets of several messages in one call; the first may be half written. */
static ssize_t write_batch(struct fm_transport *transport)
{
	struct iovec parts[BATCH];
	struct msghdr header = {.msg_iov = parts};
	struct fm_message *message = transport->first;

	for (; message && header.msg_iovlen < BATCH; message = message->next)
		parts[header.msg_iovlen++] = (struct iovec){
			.iov_base = message->data + message->done,
			.iov_len = message->size - message->done,
		};
	return sendmsg(transport->fd, &header, MSG_NOSIGNAL);
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

static void tcp_flush(struct fm_transport *transport, uint64_t now_ns)
{
	struct tcp *tcp = FM_CONTAINER_OF(transport, struct tcp, transport);

	if (transport->fd < 0 || tcp->connecting)
		return;
	while (transport->first) {
		ssize_t n = write_batch(transport);

		if (n > 0) {
			transport->stalled_since_ns = 0;
			wrote(transport, (size_t)n);
		} else if (errno == EAGAIN) {
			if (!transport->stalled_since_ns)
				transport->stalled_since_ns = now_ns;
			transport->events = EPOLLIN | EPOLLOUT;
			return;
		} else if (errno != EINTR) {
			down(tcp, now_ns, -errno);
			return;
		}
	}
	transport->events = EPOLLIN;
}

static void tcp_send(struct fm_transport *transport, const uint8_t *message, size_t size,
		     const struct fm_message_info *info, uint64_t now_ns)
{
	struct tcp *tcp = FM_CONTAINER_OF(transport, struct tcp, transport);

	if (transport->fd < 0 || tcp->connecting) {
		transport->options.lost(transport->options.userdata, info, size);
		return;
	}
	fm_transport_push(transport, message, size, info);
	if (transport->waiting >= BATCH && !transport->stalled_since_ns)
		tcp_flush(transport, now_ns);
}

/* A collector has nothing to say: what it sends is thrown away, an end is the session's end. */
static int read_away(int fd)
{
	char buffer[4096];
	ssize_t n = recv(fd, buffer, sizeof(buffer), 0);

	if (n == 0)
		return -EPIPE;
	if (n < 0 && errno != EAGAIN && errno != EINTR)
		return -errno;
	return 0;
}

static void finish_connect(struct tcp *tcp, uint64_t now_ns)
{
	socklen_t size = sizeof(int);
	int error = 0;

	getsockopt(tcp->transport.fd, SOL_SOCKET, SO_ERROR, &error, &size);
	if (error)
		down(tcp, now_ns, -error);
	else
		up(tcp, now_ns);
}

static void tcp_dispatch(struct fm_transport *transport, uint64_t now_ns)
{
	struct tcp *tcp = FM_CONTAINER_OF(transport, struct tcp, transport);
	int r;

	if (transport->fd < 0) {
		if (now_ns >= transport->deadline_ns)
			tcp_start(transport, now_ns);
		return;
	}
	if (tcp->connecting) {
		finish_connect(tcp, now_ns);
		return;
	}
	r = read_away(transport->fd);
	if (r < 0)
		down(tcp, now_ns, r);
	else
		tcp_flush(transport, now_ns);
}

static void tcp_stop(struct fm_transport *transport)
{
	fm_transport_lose_all(transport);
}

const struct fm_transport_ops fm_transport_tcp = {
	.name = "tcp",
	.new = tcp_new,
	.free = tcp_free,
	.start = tcp_start,
	.send = tcp_send,
	.flush = tcp_flush,
	.dispatch = tcp_dispatch,
	.stop = tcp_stop,
};
