/* SPDX-License-Identifier: Apache-2.0 */
/* Certificates, and a collector over TLS or DTLS: for tests of transports. */
#ifndef FM_TEST_PEER_H
#define FM_TEST_PEER_H

#include "ipfix/tls.h"
#include "rig.h"

#define PEER_NAME "collector.test"

/* Makes them in a directory of their own; 0 or -errno. Removes it. */
int peer_certificates_new(void);
int peer_certificates_done(void);

/* A file in it; the last four asked for are valid. */
const char *path_of(const char *name);

/* A collector over TLS or DTLS: its socket, and one association at a time. */
struct peer {
	SSL_CTX *context;
	SSL *connection;
	int listener; /* DTLS: the socket */
	struct sockaddr_in6 address;
	bool datagrams;
	struct reader reader;
	/* Gets what came; NULL: the reader does. */
	void (*feed)(void *userdata, const uint8_t *data, size_t size);
	void *userdata;
	bool ended; /* by the other side, or never agreed */
	bool known; /* the other side's certificate */
};

/* Asks every client for a certificate. */
void peer_init(struct peer *peer, bool datagrams, const char *identity);
void peer_forget(struct peer *peer);
void peer_done(struct peer *peer);

/* Takes a connection, or for datagrams whatever comes; reads what there is. */
void peer_accept(struct peer *peer);
void peer_step(struct peer *peer);

#endif
