/* SPDX-License-Identifier: Apache-2.0 */
/*
 * DTLS over UDP (RFC 7011 10.3, 11): a message a record, a record a datagram, never in fragments.
 * An association is a transport session. What waits when one ends is sent in the next.
 *
 * A collector that restarted has forgotten the association and says nothing to what it cannot
 * decrypt; OpenSSL 3 has no heartbeat to ask it. It is noticed in three ways: ICMP, while nobody
 * listens there; close_notify, if it ended in order; and because the association is replaced by a
 * fresh one every renew_ns, which a dead peer does not answer. Replaced, not renegotiated: that
 * would need the very keys that are forgotten. Each association has a port of its own, as a peer
 * that remembers the old one takes a new hello at the same port for noise. While it is made,
 * messages wait.
 *
 * That a datagram was refused is told on the next call: the message before is sent again.
 */
#include <errno.h>
#include <netinet/in.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/time.h>

#include <openssl/err.h>

#include "base/macro.h"
#include "ipfix/tls-witness.h"
#include "ipfix/tls.h"
#include "ipfix/transport.h"

/* Messages that are sent before the caller says flush. */
#define BATCH		   16
#define SEND_BUFFER_OCTETS (1 << 20)
#define UDP_HEADER	   8
#define IP4_HEADER	   20
#define IP6_HEADER	   40
/* A path that says nothing of itself is one that every IPv6 link is. */
#define PATH_OCTETS 1280

struct dtls {
	struct fm_transport transport;
	SSL *connection;
	struct fm_tls_witness witness;
	bool up;
	bool complained;   /* of a message, though up */
	uint64_t limit_ns; /* of the handshake */
	uint64_t renew_ns; /* the association ends */
	size_t path;	   /* octets of a datagram that the path took when it began */
	struct fm_numbers numbers;
	struct fm_message *before; /* sent last, which the next answer is about */
};

static struct dtls *of(struct fm_transport *transport)
{
	return (struct dtls *)transport;
}

static struct fm_transport *dtls_new(const struct fm_transport_options *options)
{
	struct dtls *dtls = calloc(1, sizeof(*dtls));

	if (!dtls)
		return NULL;
	if (fm_tls_witness_init(&dtls->witness) < 0) {
		free(dtls);
		return NULL;
	}
	return &dtls->transport;
}

static void dtls_free(struct fm_transport *transport)
{
	struct dtls *dtls = of(transport);

	fm_tls_witness_done(&dtls->witness);
	free(dtls);
}

static int error_of(struct dtls *dtls, int result)
{
	return fm_tls_error(dtls->connection, result, dtls->transport.trouble,
			    sizeof(dtls->transport.trouble));
}

static void tell(struct dtls *dtls, int error)
{
	const struct fm_transport_options *options = &dtls->transport.options;

	options->state(options->userdata, error);
	dtls->transport.trouble[0] = '\0';
}

/* The message before is past any answer. */
static void settle(struct dtls *dtls)
{
	_fm_cleanup_free_ struct fm_message *message = FM_TAKE_PTR(dtls->before);
	const struct fm_transport_options *options = &dtls->transport.options;

	if (message)
		options->sent(options->userdata, &message->info, message->size);
}

/* The association is over; refused: the message before did not arrive. */
static void hang_up(struct dtls *dtls, bool refused)
{
	struct fm_transport *transport = &dtls->transport;

	if (refused && dtls->before) {
		fm_slip_before(transport->slip, NULL);
		fm_transport_prepend(transport, FM_TAKE_PTR(dtls->before));
	}
	settle(dtls);
	if (dtls->up && !refused) {
		ERR_clear_error();
		SSL_shutdown(dtls->connection); /* one datagram */
		ERR_clear_error();
	}
	dtls->connection = fm_tls_connection_free(dtls->connection);
	if (transport->fd >= 0)
		close(transport->fd);
	transport->fd = -1;
	transport->events = 0;
	transport->stalled_since_ns = 0;
	transport->message_max = 0;
	dtls->up = false;
	fm_transport_keep_records(transport);
}

static void down(struct dtls *dtls, uint64_t now_ns, int error)
{
	hang_up(dtls, error == -ECONNREFUSED);
	dtls->transport.deadline_ns = fm_transport_retry_ns(&dtls->transport, now_ns);
	tell(dtls, error);
}

/* Octets of a datagram that the path takes without fragments. */
static size_t path_octets(const struct fm_transport *transport)
{
	bool ip6 = transport->options.address.ss_family == AF_INET6;
	socklen_t size = sizeof(int);
	int mtu;

	if (getsockopt(transport->fd, ip6 ? IPPROTO_IPV6 : IPPROTO_IP, ip6 ? IPV6_MTU : IP_MTU,
		       &mtu, &size) < 0)
		mtu = PATH_OCTETS;
	return (size_t)mtu - UDP_HEADER - (ip6 ? IP6_HEADER : IP4_HEADER);
}

static int open_socket(const struct fm_transport_options *options)
{
	const int octets = SEND_BUFFER_OCTETS, ip4 = IP_PMTUDISC_DO, ip6 = IPV6_PMTUDISC_DO;
	_fm_cleanup_close_ int fd =
		socket(options->address.ss_family, SOCK_DGRAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);

	if (fd < 0)
		return -errno;
	/* As far as the system lets; less is no error. */
	setsockopt(fd, SOL_SOCKET, SO_SNDBUF, &octets, sizeof(octets));
	setsockopt(fd, IPPROTO_IP, IP_MTU_DISCOVER, &ip4, sizeof(ip4));
	if (options->address.ss_family == AF_INET6)
		setsockopt(fd, IPPROTO_IPV6, IPV6_MTU_DISCOVER, &ip6, sizeof(ip6));
	if (connect(fd, (const struct sockaddr *)&options->address, options->address_size) < 0)
		return -errno;
	return FM_TAKE_FD(fd);
}

static int open_connection(struct dtls *dtls)
{
	const struct fm_transport_options *options = &dtls->transport.options;
	BIO *bio = BIO_new_dgram(dtls->transport.fd, BIO_NOCLOSE);
	BIO_ADDR *peer = BIO_ADDR_new();
	bool ip6 = options->address.ss_family == AF_INET6;
	const struct sockaddr_in *in4 = (const struct sockaddr_in *)&options->address;
	const struct sockaddr_in6 *in6 = (const struct sockaddr_in6 *)&options->address;
	int r;

	r = bio && peer &&
	    BIO_ADDR_rawmake(peer, options->address.ss_family,
			     ip6 ? (const void *)&in6->sin6_addr : &in4->sin_addr,
			     ip6 ? sizeof(in6->sin6_addr) : sizeof(in4->sin_addr),
			     ip6 ? in6->sin6_port : in4->sin_port) == 1;
	if (r)
		BIO_ctrl_set_connected(bio, peer);
	BIO_ADDR_free(peer);
	if (!r) {
		BIO_free(bio);
		return -ENOMEM;
	}
	bio = fm_tls_witness_push(&dtls->witness, dtls->transport.slip, bio);
	r = fm_tls_connection_new(&dtls->connection, options->tls, bio, options->peer_name);
	if (r < 0)
		return r;
	dtls->path = path_octets(&dtls->transport);
	SSL_set_mtu(dtls->connection, (long)dtls->path);
	return 0;
}

static void up(struct dtls *dtls, uint64_t now_ns)
{
	struct fm_transport *transport = &dtls->transport;

	dtls->up = true;
	dtls->renew_ns = now_ns + transport->options.renew_ns;
	transport->events = EPOLLIN;
	transport->deadline_ns = dtls->renew_ns;
	transport->message_max =
		FM_MIN(DTLS_get_data_mtu(dtls->connection), (size_t)SSL3_RT_MAX_PLAIN_LENGTH);
	tell(dtls, 0);
	fm_transport_begin(transport, &dtls->numbers);
	transport->ops->flush(transport, now_ns);
}

/* Goes on with the handshake: what came, or what is to be said again. */
static void shake(struct dtls *dtls, uint64_t now_ns)
{
	struct fm_transport *transport = &dtls->transport;
	struct timeval left = {};
	int r, result;

	ERR_clear_error();
	errno = 0;
	result = DTLSv1_handle_timeout(dtls->connection);
	if (result >= 0)
		result = SSL_do_handshake(dtls->connection);
	if (result == 1) {
		up(dtls, now_ns);
		return;
	}
	r = error_of(dtls, result);
	if (r == -EAGAIN && now_ns >= dtls->limit_ns) {
		snprintf(transport->trouble, sizeof(transport->trouble), "in the DTLS handshake");
		r = -ETIMEDOUT;
	}
	if (r != -EAGAIN) {
		down(dtls, now_ns, r);
		return;
	}
	transport->events = EPOLLIN;
	transport->deadline_ns = dtls->limit_ns;
	if (DTLSv1_get_timeout(dtls->connection, &left) == 1)
		transport->deadline_ns =
			FM_MIN(dtls->limit_ns, now_ns + (uint64_t)left.tv_sec * FM_NS_PER_S +
						       (uint64_t)left.tv_usec * FM_NS_PER_US);
}

static void dtls_start(struct fm_transport *transport, uint64_t now_ns)
{
	struct dtls *dtls = of(transport);
	int r = open_socket(&transport->options);

	transport->attempts++;
	if (r >= 0) {
		transport->fd = r;
		r = open_connection(dtls);
	}
	if (r < 0) {
		down(dtls, now_ns, r);
		return;
	}
	dtls->limit_ns = now_ns + FM_TLS_HANDSHAKE_NS;
	shake(dtls, now_ns);
}

static void renew(struct dtls *dtls, uint64_t now_ns)
{
	hang_up(dtls, false);
	dtls_start(&dtls->transport, now_ns);
}

/* No association of this path will carry it. */
static void too_long(struct dtls *dtls)
{
	struct fm_transport *transport = &dtls->transport;

	snprintf(transport->trouble, sizeof(transport->trouble),
		 "a message of %zu octets, the path takes %zu: message_size is too large",
		 transport->first->size, transport->message_max);
	fm_transport_pop_lost(transport, FM_NOT_SENT_too_long);
	tell(dtls, -EMSGSIZE);
	dtls->complained = true;
}

/* The message is not sent; false: no more for now. */
static bool not_sent(struct dtls *dtls, uint64_t now_ns, int error)
{
	struct fm_transport *transport = &dtls->transport;

	if (error == -EAGAIN) {
		transport->events = EPOLLIN | EPOLLOUT;
		if (!transport->stalled_since_ns)
			transport->stalled_since_ns = now_ns;
		return false;
	}
	if (error != -EMSGSIZE) {
		down(dtls, now_ns, error);
		return false;
	}
	if (path_octets(transport) < dtls->path) {
		renew(dtls, now_ns); /* the path shrank; the session makes shorter ones then */
		return false;
	}
	too_long(dtls);
	return true;
}

/* As SSL_write. */
static int write_first(struct dtls *dtls)
{
	struct fm_transport *transport = &dtls->transport;
	const struct fm_message *message = transport->first;

	fm_slip_clear(transport->slip);
	fm_slip_add(transport->slip, &message->info, 0, FM_SLIP_NOT_OUT);
	fm_tls_witness_begin(&dtls->witness, message->size);
	ERR_clear_error();
	errno = 0;
	return fm_tls_witness_write(&dtls->witness, dtls->connection, message->data, message->size);
}

static void dtls_flush(struct fm_transport *transport, uint64_t now_ns)
{
	struct dtls *dtls = of(transport);

	while (dtls->up && transport->first) {
		int n;

		if (transport->first->size > transport->message_max) {
			too_long(dtls);
			continue;
		}
		n = write_first(dtls);
		if (n <= 0) {
			if (not_sent(dtls, now_ns, error_of(dtls, n)))
				continue;
			return;
		}
		transport->stalled_since_ns = 0;
		settle(dtls);
		dtls->before = fm_transport_take(transport);
		fm_slip_before(transport->slip, &dtls->before->info);
		if (dtls->complained)
			tell(dtls, 0);
		dtls->complained = false;
	}
	if (dtls->up)
		transport->events = EPOLLIN;
}

static void dtls_send(struct fm_transport *transport, const uint8_t *message, size_t size,
		      const struct fm_message_info *info, uint64_t now_ns)
{
	struct dtls *dtls = of(transport);

	if (!dtls->up && !info->records && !info->is_kept) {
		fm_transport_lose(transport, message, size, info, FM_NOT_SENT_disconnected);
		return;
	}
	if (!fm_transport_push(transport, message, size, info) || !dtls->up)
		return;
	fm_numbers_put(&dtls->numbers, transport->last);
	if (transport->waiting >= BATCH && !transport->stalled_since_ns)
		dtls_flush(transport, now_ns);
}

static void dtls_dispatch(struct fm_transport *transport, uint64_t now_ns)
{
	struct dtls *dtls = of(transport);
	int r;

	if (transport->fd < 0) {
		if (now_ns >= transport->deadline_ns)
			dtls_start(transport, now_ns);
		return;
	}
	if (!dtls->up) {
		shake(dtls, now_ns);
		return;
	}
	r = fm_tls_read(dtls->connection, transport->trouble, sizeof(transport->trouble));
	if (r < 0)
		down(dtls, now_ns, r);
	else if (now_ns >= dtls->renew_ns)
		renew(dtls, now_ns);
	else
		dtls_flush(transport, now_ns);
}

static void dtls_move(struct fm_transport *transport, uint64_t now_ns)
{
	renew(of(transport), now_ns);
}

/* The first may have been tried already: then it must be tried again as it is. */
static struct fm_message *dtls_recall(struct fm_transport *transport)
{
	struct dtls *dtls = of(transport);

	return fm_transport_recall(transport, dtls->up ? &dtls->numbers : NULL, 1);
}

static void dtls_stop(struct fm_transport *transport)
{
	struct dtls *dtls = of(transport);
	int r = 0;

	if (dtls->up)
		r = fm_tls_read(dtls->connection, transport->trouble, sizeof(transport->trouble));
	hang_up(dtls, r == -ECONNREFUSED);
	fm_transport_lose_all(transport, FM_NOT_SENT_stopped);
}

const struct fm_transport_ops fm_transport_dtls = {
	.name = "dtls",
	.new = dtls_new,
	.free = dtls_free,
	.start = dtls_start,
	.send = dtls_send,
	.flush = dtls_flush,
	.dispatch = dtls_dispatch,
	.move = dtls_move,
	.recall = dtls_recall,
	.stop = dtls_stop,
};
