/* SPDX-License-Identifier: Apache-2.0 */
/*
 * TCP: a stream of whole messages (RFC 7011 10.4). A connection is a transport session. What waits
 * when it breaks, the half-written message included, is sent in the next one: a collector that
 * never got the end of a message does not have it. Only messages with flow records are kept, since
 * all others are made anew for each session.
 *
 * Sequence numbers count from 0 in each session, so they are put in here, in the order of sending.
 */
#include <arpa/inet.h>
#include <assert.h>
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
/* Data that nobody acknowledges ends the connection after this, not after the system's 15 min. */
#define USER_TIMEOUT_MS 120000
#define DOMAINS_MAX	4
#define SEQUENCE_OFFSET 8

struct tcp {
	struct fm_transport transport;
	bool connecting;
	struct {
		uint32_t domain;
		uint32_t next; /* data records since the session began */
	} sequences[DOMAINS_MAX];
	unsigned int n_sequences;
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
	return ns + (ns / 4 >> 16) * (random >> 16);
}

static bool is_up(const struct tcp *tcp)
{
	return tcp->transport.fd >= 0 && !tcp->connecting;
}

/* Numbers a message as the next of its domain. */
static void put_sequence(struct tcp *tcp, struct fm_message *message)
{
	unsigned int i = 0;
	uint32_t sequence;

	while (i < tcp->n_sequences && tcp->sequences[i].domain != message->info.domain)
		i++;
	if (i == tcp->n_sequences) {
		assert(i < DOMAINS_MAX); /* a session has its own and 0 */
		tcp->sequences[i].domain = message->info.domain;
		tcp->sequences[i].next = 0;
		tcp->n_sequences++;
	}
	sequence = htonl(tcp->sequences[i].next);
	memcpy(message->data + SEQUENCE_OFFSET, &sequence, sizeof(sequence));
	tcp->sequences[i].next += message->info.sequenced;
}

static void down(struct tcp *tcp, uint64_t now_ns, int error)
{
	struct fm_transport *transport = &tcp->transport;
	size_t n = transport->waiting;

	if (transport->fd >= 0)
		close(transport->fd);
	transport->fd = -1;
	transport->events = 0;
	transport->stalled_since_ns = 0;
	tcp->connecting = false;
	transport->deadline_ns = now_ns + with_jitter(transport->options.reconnect_ns);
	while (n-- > 0) {
		transport->first->done = 0;
		if (transport->first->info.records)
			fm_transport_append(transport, fm_transport_take(transport));
		else
			fm_transport_pop_lost(transport);
	}
	transport->options.state(transport->options.userdata, error);
}

static void up(struct tcp *tcp, uint64_t now_ns)
{
	struct fm_transport *transport = &tcp->transport;
	struct fm_message *waiting;

	tcp->connecting = false;
	transport->events = EPOLLIN;
	transport->deadline_ns = UINT64_MAX;
	tcp->n_sequences = 0;
	transport->options.state(transport->options.userdata, 0);
	/* What begun sends goes before what waits. */
	waiting = fm_transport_take_all(transport);
	transport->options.begun(transport->options.userdata);
	while (waiting) {
		struct fm_message *message = waiting;

		waiting = message->next;
		put_sequence(tcp, message);
		fm_transport_append(transport, message);
	}
	transport->ops->flush(transport, now_ns);
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

	if (!is_up(tcp))
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

	if (!is_up(tcp) && !info->records) {
		transport->options.lost(transport->options.userdata, info, size);
		return;
	}
	if (!fm_transport_push(transport, message, size, info) || !is_up(tcp))
		return;
	put_sequence(tcp, transport->last);
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
