/* SPDX-License-Identifier: Apache-2.0 */
/*
 * UDP: one message a datagram, several datagrams a system call. That nobody listens is told by
 * ICMP, on the next send: the datagram before is counted as lost then (RFC 7011 10.3; what a
 * network loses on the way nobody tells).
 */
#include <arpa/inet.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>

#include "base/macro.h"
#include "ipfix/transport.h"

/* Datagrams a system call. */
#define BATCH FM_SLIP_CALL
/* A socket that cannot be opened is tried again after this. */
#define OPEN_RETRY_NS	   (5 * FM_NS_PER_S)
#define SEND_BUFFER_OCTETS (1 << 20)
#define DEVICE_RETRY_NS	   (5 * FM_NS_PER_MS)
/*
 * One that refused is back when datagrams go to it for so long without an answer. Less would be
 * taken for back between two answers: many systems send one a second at most.
 */
#define QUIET_NS (3 * FM_NS_PER_S)

struct udp {
	struct fm_transport transport;
	bool begun;
	bool refused;
	enum fm_not_sent no_socket; /* why there is none */
	uint64_t asked_ns; /* when the first datagram since the last answer was sent; 0: none was */
	/* The datagram sent last, which the next answer is about. */
	struct fm_message *before;
};

static struct fm_transport *udp_new(const struct fm_transport_options *options)
{
	struct udp *udp = calloc(1, sizeof(*udp));

	return udp ? &udp->transport : NULL;
}

static void udp_free(struct fm_transport *transport)
{
	struct udp *udp = FM_CONTAINER_OF(transport, struct udp, transport);

	free(udp->before);
	free(udp);
}

/*
 * To whom sessions are told apart by the exporter's port, the next process is the same exporter. A
 * port that somebody else has by now is no error.
 */
static void bind_again(int fd, const struct fm_transport_options *options)
{
	struct sockaddr_in ip4 = {.sin_family = AF_INET};
	struct sockaddr_in6 ip6 = {.sin6_family = AF_INET6};

	if (!options->mark || !options->mark->port || options->mark->port > UINT16_MAX)
		return;
	ip4.sin_port = ip6.sin6_port = htons((uint16_t)options->mark->port);
	if (options->address.ss_family == AF_INET)
		(void)bind(fd, (const struct sockaddr *)&ip4, sizeof(ip4));
	else
		(void)bind(fd, (const struct sockaddr *)&ip6, sizeof(ip6));
}

static void note_port(int fd, const struct fm_transport_options *options)
{
	struct sockaddr_in6 own; /* the port lies there in either family */
	socklen_t size = sizeof(own);

	if (options->mark && getsockname(fd, (struct sockaddr *)&own, &size) == 0)
		options->mark->port = ntohs(own.sin6_port);
}

static int open_socket(const struct fm_transport_options *options)
{
	int size = SEND_BUFFER_OCTETS;
	_fm_cleanup_close_ int fd =
		socket(options->address.ss_family, SOCK_DGRAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);

	if (fd < 0)
		return -errno;
	/* As far as the system lets; less is no error. */
	setsockopt(fd, SOL_SOCKET, SO_SNDBUF, &size, sizeof(size));
	bind_again(fd, options);
	if (connect(fd, (const struct sockaddr *)&options->address, options->address_size) < 0)
		return -errno;
	note_port(fd, options);
	return FM_TAKE_FD(fd);
}

static enum fm_not_sent cause_of(int error)
{
	switch (error) {
	case EMSGSIZE:
		return FM_NOT_SENT_too_long;
	case ENETUNREACH:
	case EHOSTUNREACH:
	case ENETDOWN:
	case EHOSTDOWN:
		return FM_NOT_SENT_unreachable;
	default:
		return FM_NOT_SENT_refused;
	}
}

static void udp_start(struct fm_transport *transport, uint64_t now_ns)
{
	struct udp *udp = FM_CONTAINER_OF(transport, struct udp, transport);
	int fd = open_socket(&transport->options);

	transport->attempts++;
	if (fd < 0) {
		udp->no_socket = cause_of(-fd);
		transport->deadline_ns = now_ns + OPEN_RETRY_NS;
		transport->options.state(transport->options.userdata, fd);
		return;
	}
	transport->fd = fd;
	transport->deadline_ns = UINT64_MAX;
	transport->options.state(transport->options.userdata, 0);
	if (!udp->begun) {
		udp->begun = true;
		fm_transport_begin(transport, NULL);
	}
}

/* An ICMP answer to the datagram before. */
static void refused(struct udp *udp)
{
	const struct fm_transport_options *options = &udp->transport.options;
	_fm_cleanup_free_ struct fm_message *before = FM_TAKE_PTR(udp->before);

	if (!udp->refused)
		options->state(options->userdata, -ECONNREFUSED);
	udp->refused = true;
	udp->asked_ns = 0;
	if (!before)
		return;
	fm_slip_before(udp->transport.slip, NULL);
	fm_transport_lose(&udp->transport, before->data, before->size, &before->info,
			  FM_NOT_SENT_unreachable);
}

/* The datagram before is past any answer. */
static void settle(struct udp *udp)
{
	const struct fm_transport_options *options = &udp->transport.options;
	_fm_cleanup_free_ struct fm_message *before = FM_TAKE_PTR(udp->before);

	if (!before)
		return;
	options->sent(options->userdata, &before->info, before->size);
}

/* A pending answer, if there is one. */
static int pending_error(int fd)
{
	socklen_t size = sizeof(int);
	int error = 0;

	getsockopt(fd, SOL_SOCKET, SO_ERROR, &error, &size);
	return error;
}

/* It is back when nothing answered for long enough. */
static void listen_for_answers(struct udp *udp, uint64_t now_ns)
{
	const struct fm_transport_options *options = &udp->transport.options;

	if (!udp->refused)
		return;
	if (pending_error(udp->transport.fd) == ECONNREFUSED)
		refused(udp);
	if (!udp->asked_ns || now_ns - udp->asked_ns < QUIET_NS)
		return;
	udp->refused = false;
	options->state(options->userdata, 0);
}

static int send_batch(struct udp *udp, unsigned int *ret_asked)
{
	struct fm_transport *transport = &udp->transport;
	struct iovec parts[BATCH];
	struct fm_message *message = transport->first;
	unsigned int n = 0;

	fm_slip_clear(transport->slip);
	for (; message && n < BATCH; message = message->next, n++) {
		parts[n] = (struct iovec){.iov_base = message->data, .iov_len = message->size};
		fm_slip_header(transport->slip, n, &parts[n], 1);
		fm_slip_add(transport->slip, &message->info, n, message->size);
	}
	*ret_asked = n;
	return fm_slip_send(transport->slip, transport->fd, n);
}

/* Moves what was sent from the queue; only the last may still be answered. */
static void took(struct udp *udp, int n, uint64_t now_ns)
{
	struct fm_transport *transport = &udp->transport;

	if (!udp->asked_ns)
		udp->asked_ns = now_ns;
	for (int i = 0; i < n; i++) {
		struct fm_message *message = fm_transport_take(transport);

		settle(udp);
		udp->before = message;
	}
	fm_slip_before(transport->slip, &udp->before->info);
}

/* Nothing goes for now; a full device queue tells nobody when it has room, so that is tried. */
static void stalled(struct fm_transport *transport, uint64_t now_ns, int error)
{
	if (error == EAGAIN)
		transport->events = EPOLLOUT;
	else
		transport->deadline_ns = now_ns + DEVICE_RETRY_NS;
	if (!transport->stalled_since_ns)
		transport->stalled_since_ns = now_ns;
}

/* EMSGSIZE, ENETUNREACH, EPERM...: this datagram does not go, and no later attempt will help. */
static void give_up(struct udp *udp, int error)
{
	const struct fm_transport_options *options = &udp->transport.options;

	if (!udp->refused)
		options->state(options->userdata, -error);
	udp->refused = true;
	udp->asked_ns = 0;
	/* Nobody could read what follows templates that did not go. */
	if (udp->transport.first->info.is_template)
		fm_transport_lose_all(&udp->transport, cause_of(error));
	else
		fm_transport_pop_lost(&udp->transport, cause_of(error));
}

static void udp_flush(struct fm_transport *transport, uint64_t now_ns)
{
	struct udp *udp = FM_CONTAINER_OF(transport, struct udp, transport);
	bool cut = false;

	if (transport->fd < 0)
		return;
	transport->events = 0;
	transport->deadline_ns = UINT64_MAX;
	listen_for_answers(udp, now_ns);
	while (transport->first) {
		unsigned int asked;
		int n = send_batch(udp, &asked);

		if (n > 0) {
			/*
			 * sendmmsg keeps to itself what stopped it in the middle. If it did not
			 * stop the same datagram again, it was an answer to the one before.
			 */
			if (cut)
				refused(udp);
			transport->stalled_since_ns = 0;
			took(udp, n, now_ns);
			cut = (unsigned int)n < asked;
			continue;
		}
		cut = false;
		if (errno == ECONNREFUSED) {
			refused(udp); /* not this datagram: it is sent again */
		} else if (errno == EAGAIN || errno == ENOBUFS || errno == ENOMEM) {
			stalled(transport, now_ns, errno);
			return;
		} else if (errno != EINTR) {
			give_up(udp, errno);
		}
	}
}

static void udp_send(struct fm_transport *transport, const uint8_t *message, size_t size,
		     const struct fm_message_info *info, uint64_t now_ns)
{
	const struct udp *udp = FM_CONTAINER_OF(transport, struct udp, transport);

	if (transport->fd < 0) {
		fm_transport_lose(transport, message, size, info, udp->no_socket);
		return;
	}
	fm_transport_push(transport, message, size, info);
	if (transport->waiting >= BATCH && !transport->stalled_since_ns)
		udp_flush(transport, now_ns);
}

static void udp_dispatch(struct fm_transport *transport, uint64_t now_ns)
{
	struct udp *udp = FM_CONTAINER_OF(transport, struct udp, transport);

	if (transport->fd < 0) {
		udp_start(transport, now_ns);
		return;
	}
	if (pending_error(transport->fd) == ECONNREFUSED)
		refused(udp);
	udp_flush(transport, now_ns);
}

/*
 * Sequence numbers go on: what waits has its own already, and a collector that never saw any takes
 * the first as it is.
 */
static void udp_move(struct fm_transport *transport, uint64_t now_ns)
{
	struct udp *udp = FM_CONTAINER_OF(transport, struct udp, transport);

	settle(udp);
	if (transport->fd >= 0)
		close(transport->fd);
	transport->fd = -1;
	transport->events = 0;
	transport->stalled_since_ns = 0;
	udp->refused = udp->begun = false;
	udp->asked_ns = 0;
	udp_start(transport, now_ns);
	udp_flush(transport, now_ns);
}

/* An answer that is there already is about something older than what waits. */
static struct fm_message *udp_recall(struct fm_transport *transport)
{
	struct udp *udp = FM_CONTAINER_OF(transport, struct udp, transport);

	if (udp->before && transport->fd >= 0 && pending_error(transport->fd) == ECONNREFUSED)
		refused(udp);
	return fm_transport_take_all(transport);
}

static void udp_stop(struct fm_transport *transport)
{
	struct udp *udp = FM_CONTAINER_OF(transport, struct udp, transport);

	if (transport->fd >= 0 && pending_error(transport->fd) == ECONNREFUSED)
		refused(udp);
	settle(udp);
	fm_transport_lose_all(transport, FM_NOT_SENT_stopped);
}

const struct fm_transport_ops fm_transport_udp = {
	.name = "udp",
	.new = udp_new,
	.free = udp_free,
	.start = udp_start,
	.send = udp_send,
	.flush = udp_flush,
	.dispatch = udp_dispatch,
	.move = udp_move,
	.recall = udp_recall,
	.stop = udp_stop,
};
