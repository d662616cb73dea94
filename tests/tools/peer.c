/* SPDX-License-Identifier: Apache-2.0 */
/* See peer.h. Certificates are made by openssl. */
#include "peer.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/socket.h>
#include <unistd.h>

#include <openssl/err.h>

static char directory[] = "/tmp/test-peer-XXXXXX";

/* Authorities ca and other; what they vouch for. */
static const char certificates[] =
	"exec >/dev/null 2>&1; set -e; cd %s\n"
	"new='-newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes'\n"
	"for ca in ca other; do openssl req -x509 $new -days 2 -subj /CN=$ca -keyout $ca.key -out $ca.pem; done\n"
	"sign() { openssl req $new -subj /CN=$1 -keyout $1.key -out $1.csr; echo subjectAltName=$2 >ext;"
	" openssl x509 -req -in $1.csr -CA ca.pem -CAkey ca.key -days $3 -extfile ext -out $1.pem; }\n"
	"sign server DNS:" PEER_NAME ",IP:::1 2\n"
	"sign expired DNS:" PEER_NAME " -1\n"
	"sign " PEER_NAME " DNS:else.where 2\n"
	"sign client DNS:exporter.test 2\n"
	"chmod 644 server.key; cp client.key open.key; chmod 604 open.key; echo rubbish >rubbish.pem";

int peer_certificates_new(void)
{
	char command[2048];

	if (!mkdtemp(directory))
		return -errno;
	snprintf(command, sizeof(command), certificates, directory);
	return system(command) == 0 ? 0 : -EIO;
}

int peer_certificates_done(void)
{
	char command[64];

	snprintf(command, sizeof(command), "rm -r %s", directory);
	return system(command) == 0 ? 0 : -EIO;
}

const char *path_of(const char *name)
{
	static char paths[4][300];
	static unsigned int next;
	char *path = paths[next++ % 4];

	snprintf(path, sizeof(paths[0]), "%s/%s", directory, name);
	return path;
}

void peer_init(struct peer *peer, bool datagrams, const char *identity)
{
	char key[256];

	*peer = (struct peer){.datagrams = datagrams};
	peer->context = SSL_CTX_new(datagrams ? DTLS_server_method() : TLS_server_method());
	snprintf(key, sizeof(key), "%.*s.key", (int)(strlen(identity) - 4), identity);
	if (SSL_CTX_use_certificate_chain_file(peer->context, path_of(identity)) != 1 ||
	    SSL_CTX_use_PrivateKey_file(peer->context, path_of(key), SSL_FILETYPE_PEM) != 1 ||
	    SSL_CTX_load_verify_file(peer->context, path_of("ca.pem")) != 1)
		abort();
	SSL_CTX_set_verify(peer->context, SSL_VERIFY_PEER | SSL_VERIFY_FAIL_IF_NO_PEER_CERT, NULL);
	peer->listener = datagrams ? rig_socket(AF_INET6, SOCK_DGRAM, &peer->address)
				   : rig_listen(AF_INET6, false, &peer->address);
}

void peer_forget(struct peer *peer)
{
	SSL_free(peer->connection);
	peer->connection = NULL;
}

void peer_done(struct peer *peer)
{
	peer_forget(peer);
	SSL_CTX_free(peer->context);
	if (peer->listener >= 0)
		close(peer->listener);
}

void peer_accept(struct peer *peer)
{
	struct pollfd poll_fd = {.fd = peer->listener, .events = POLLIN};
	BIO *bio;

	if (peer->listener < 0 || poll(&poll_fd, 1, 0) <= 0)
		return;
	if (peer->datagrams) {
		bio = BIO_new_dgram(peer->listener, BIO_NOCLOSE);
		fcntl(peer->listener, F_SETFL, O_NONBLOCK);
	} else {
		bio = BIO_new_socket(accept4(peer->listener, NULL, NULL, SOCK_NONBLOCK), BIO_CLOSE);
	}
	peer->connection = SSL_new(peer->context);
	SSL_set_bio(peer->connection, bio, bio);
	SSL_set_accept_state(peer->connection);
	if (peer->datagrams)
		SSL_set_options(peer->connection, SSL_OP_NO_QUERY_MTU),
			SSL_set_mtu(peer->connection, 1400);
	peer->ended = false;
}

void peer_step(struct peer *peer)
{
	uint8_t data[20000];
	int n;

	if (!peer->connection)
		peer_accept(peer);
	if (!peer->connection || peer->ended)
		return;
	ERR_clear_error();
	while ((n = SSL_read(peer->connection, data, sizeof(data))) > 0)
		if (peer->feed)
			peer->feed(peer->userdata, data, (size_t)n);
		else
			reader_feed(&peer->reader, data, (size_t)n, !peer->datagrams);
	peer->known |= SSL_is_init_finished(peer->connection) &&
		       SSL_get0_peer_certificate(peer->connection);
	switch (SSL_get_error(peer->connection, n)) {
	case SSL_ERROR_WANT_READ:
	case SSL_ERROR_WANT_WRITE:
		break;
	default:
		peer->ended = true;
	}
	ERR_clear_error();
}
