/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What a collector answers, by each transport: any octets at any moment, in the handshake, behind
 * it, or as data of a peer that is in order but for that; and ends. Every record that was given is
 * sent or lost, and nothing waits.
 */
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <unistd.h>

#include <openssl/err.h>
#include <openssl/pem.h>
#include <openssl/x509v3.h>

#include "fuzz.h"
#include "ipfix/tls.h"
#include "rig.h"

#define TURNS_MAX 60
#define AGREE_MAX 20

static const struct fm_transport_ops *const kinds[] = {&fm_transport_udp, &fm_transport_tcp,
						       &fm_transport_tls, &fm_transport_dtls};

static SSL_CTX *client_context[2], *server_context[2]; /* of streams, of datagrams */

struct peer {
	bool stream, secure;
	int listener; /* datagrams: the socket */
	int fd;	      /* of the connection, -1: none */
	SSL *connection;
	struct sockaddr_in6 address, client;
	socklen_t client_size;
};

/* A certificate that signs itself, and is trusted for it. */
static X509 *make_certificate(EVP_PKEY *key)
{
	X509 *certificate = X509_new();
	X509_NAME *name = X509_get_subject_name(certificate);
	X509_EXTENSION *extension;
	X509V3_CTX context;

	X509_set_version(certificate, 2);
	ASN1_INTEGER_set(X509_get_serialNumber(certificate), 1);
	X509_gmtime_adj(X509_getm_notBefore(certificate), -1000);
	X509_gmtime_adj(X509_getm_notAfter(certificate), 1000000);
	X509_set_pubkey(certificate, key);
	X509_NAME_add_entry_by_txt(name, "CN", MBSTRING_ASC, (const uint8_t *)"fuzz", -1, -1, 0);
	X509_set_issuer_name(certificate, name);
	X509V3_set_ctx_nodb(&context);
	extension = X509V3_EXT_conf_nid(NULL, &context, NID_subject_alt_name, "IP:::1");
	FUZZ_CHECK(extension && X509_add_ext(certificate, extension, -1) == 1);
	X509_EXTENSION_free(extension);
	FUZZ_CHECK(X509_sign(certificate, key, EVP_sha256()));
	return certificate;
}

int LLVMFuzzerInitialize(int *argc, char ***argv)
{
	EVP_PKEY *key = EVP_EC_gen("P-256");
	X509 *certificate = make_certificate(key);
	char path[] = "/tmp/fuzz-collector-XXXXXX";
	FILE *file = fdopen(mkstemp(path), "w");
	const struct fm_tls_files files = {.ca = path};
	struct fm_buf complaint = {};
	const char *const *part;

	signal(SIGPIPE, SIG_IGN); /* as the daemon does */
	FUZZ_CHECK(file && PEM_write_X509(file, certificate) == 1);
	fclose(file);
	for (int i = 0; i < 2; i++) {
		server_context[i] = SSL_CTX_new(i ? DTLS_server_method() : TLS_server_method());
		FUZZ_CHECK(SSL_CTX_use_certificate(server_context[i], certificate) == 1);
		FUZZ_CHECK(SSL_CTX_use_PrivateKey(server_context[i], key) == 1);
		FUZZ_CHECK(fm_tls_context_new(&client_context[i], &files, i, &part, &complaint) ==
			   0);
	}
	unlink(path);
	X509_free(certificate);
	EVP_PKEY_free(key);
	return 0;
}

static void peer_open(struct peer *peer, const struct fm_transport_ops *ops)
{
	*peer = (struct peer){
		.stream = ops == &fm_transport_tcp || ops == &fm_transport_tls,
		.secure = ops == &fm_transport_tls || ops == &fm_transport_dtls,
		.fd = -1,
	};
	peer->listener = peer->stream ? rig_listen(AF_INET6, false, &peer->address)
				      : rig_socket(AF_INET6, SOCK_DGRAM, &peer->address);
	fcntl(peer->listener, F_SETFL, O_NONBLOCK);
}

/* A collector of datagrams at the same address. */
static void peer_come_back(struct peer *peer)
{
	peer->listener = socket(AF_INET6, SOCK_DGRAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
	if (bind(peer->listener, (struct sockaddr *)&peer->address, sizeof(peer->address)) < 0) {
		close(peer->listener);
		peer->listener = -1;
	}
}

/* Without a trace, so that ports are free again; or in order. */
static void peer_hang_up(struct peer *peer, bool in_order)
{
	const struct linger none = {.l_onoff = 1};

	SSL_free(peer->connection);
	peer->connection = NULL;
	if (!peer->stream && peer->listener >= 0) {
		close(peer->listener);
		peer->listener = -1;
		return;
	}
	if (!peer->stream)
		peer_come_back(peer);
	if (peer->fd < 0)
		return;
	if (in_order) {
		shutdown(peer->fd, SHUT_WR);
		return;
	}
	setsockopt(peer->fd, SOL_SOCKET, SO_LINGER, &none, sizeof(none));
	close(peer->fd);
	peer->fd = -1;
}

static void peer_close(struct peer *peer)
{
	int fd;

	peer_hang_up(peer, false);
	/* Those that were never taken. */
	while (peer->stream && (fd = accept(peer->listener, NULL, NULL)) >= 0) {
		peer->fd = fd;
		peer_hang_up(peer, false);
	}
	if (peer->listener >= 0)
		close(peer->listener);
}

/* Who is there to be talked to. */
static int peer_find(struct peer *peer)
{
	uint8_t data[2048];

	if (peer->stream) {
		if (peer->fd < 0)
			peer->fd = accept4(peer->listener, NULL, NULL, SOCK_NONBLOCK);
		return peer->fd;
	}
	if (!peer->connection) {
		peer->client_size = sizeof(peer->client);
		while (recvfrom(peer->listener, data, sizeof(data), 0,
				(struct sockaddr *)&peer->client, &peer->client_size) > 0)
			;
	}
	return peer->client.sin6_port ? peer->listener : -1; /* -1: gone for now */
}

static void peer_say(struct peer *peer, const uint8_t *data, size_t size)
{
	int fd = peer_find(peer);

	if (fd >= 0 && size)
		sendto(fd, data, size, MSG_NOSIGNAL | MSG_DONTWAIT,
		       peer->stream ? NULL : (struct sockaddr *)&peer->client,
		       peer->stream ? 0 : peer->client_size);
}

/* Goes on as a collector that is in order would. */
static void peer_agree(struct peer *peer)
{
	uint8_t data[4096];
	BIO *bio;

	if (!peer->secure || (peer->stream ? peer_find(peer) : peer->listener) < 0)
		return;
	if (!peer->connection) {
		bio = peer->stream ? BIO_new_socket(peer->fd, BIO_NOCLOSE)
				   : BIO_new_dgram(peer->listener, BIO_NOCLOSE);
		peer->connection = SSL_new(server_context[!peer->stream]);
		SSL_set_bio(peer->connection, bio, bio);
		SSL_set_accept_state(peer->connection);
		if (!peer->stream) {
			SSL_set_options(peer->connection, SSL_OP_NO_QUERY_MTU);
			SSL_set_mtu(peer->connection, 1400);
		}
	}
	ERR_clear_error();
	while (SSL_read(peer->connection, data, sizeof(data)) > 0)
		;
	ERR_clear_error();
}

static void peer_read(struct peer *peer)
{
	uint8_t data[4096];

	if (peer->stream && peer->fd >= 0)
		while (recv(peer->fd, data, sizeof(data), MSG_DONTWAIT) > 0)
			;
}

/* As an event loop would, without a wait. */
static void step(struct rig *rig)
{
	struct pollfd poll_fd = {.fd = rig->transport->fd, .events = (short)rig->transport->events};
	uint64_t now = fm_clock_monotonic_ns() + rig->ahead_ns;

	poll(&poll_fd, 1, 0);
	if ((poll_fd.fd >= 0 && poll_fd.revents) || now >= rig->transport->deadline_ns)
		rig->transport->ops->dispatch(rig->transport, now);
}

static void act(struct rig *rig, struct peer *peer, struct input *input, uint8_t what)
{
	const uint8_t *data;
	size_t size;

	switch (what & 7) {
	case 0:
		rig_give(rig, what >> 3);
		break;
	case 1:
	case 2:
		data = input_take(input, (what >> 3) * 8, &size);
		if ((what & 7) == 2 && peer->connection && size) {
			ERR_clear_error();
			SSL_write(peer->connection, data, (int)size);
			ERR_clear_error();
		} else {
			peer_say(peer, data, size);
		}
		break;
	case 3:
		peer_hang_up(peer, what & 8);
		break;
	case 4:
		rig->ahead_ns += (what >> 3) * FM_NS_PER_S;
		break;
	case 5:
		peer_read(peer);
		break;
	case 6:
		for (unsigned int i = 0; i < AGREE_MAX; i++) {
			peer_agree(peer);
			step(rig);
		}
		break;
	case 7:
		if (what >> 3 == 0 && peer->connection)
			SSL_shutdown(peer->connection);
		else if (what >> 3 == 1)
			rig_move(rig, &peer->address);
		break;
	}
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct input input = {data, size};
	const struct fm_transport_ops *ops = kinds[input_u8(&input) & 3];
	struct peer peer;
	struct rig rig;

	peer_open(&peer, ops);
	rig_init(&rig, ops, &peer.address, NULL);
	rig.transport->options.tls = client_context[ops == &fm_transport_dtls];
	rig.transport->options.peer_name = "::1";
	rig.transport->options.renew_ns = 100 * FM_NS_PER_S;
	rig_start(&rig);
	for (unsigned int i = 0; i < TURNS_MAX && input.left; i++) {
		act(&rig, &peer, &input, input_u8(&input));
		step(&rig);
		FUZZ_CHECK(memchr(rig.transport->trouble, '\0', sizeof(rig.transport->trouble)));
	}
	peer_close(&peer);
	step(&rig);
	rig.transport->ops->stop(rig.transport);
	FUZZ_CHECK(!rig.transport->first && !rig.transport->waiting_octets);
	FUZZ_CHECK(rig_adds_up(&rig));
	rig_done(&rig);
	return 0;
}
