/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What TLS and DTLS transports share: our certificate and whom we trust, connections to a peer that
 * must prove its name, and OpenSSL's errors in our words. There is no way to connect to a peer that
 * is not verified. The daemon reads the files, transport-tls.c and transport-dtls.c connect.
 */
#ifndef FM_TLS_H
#define FM_TLS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

#include <openssl/ssl.h>

#include "base/buf.h"
#include "base/cleanup.h"
#include "base/macro.h"

/* A peer that has not agreed after this never will. */
#define FM_TLS_HANDSHAKE_NS (10 * FM_NS_PER_S)

/* PEM files; NULL: none. Certificate and key come together. */
struct fm_tls_files {
	const char *certificate; /* ours, those between it and the authority behind it */
	const char *key;
	const char *ca; /* whom to trust; NULL: whom the system trusts */
};

/*
 * Reads the files. 0 or -errno; then complaint says what is wrong with which file, and part is the
 * member of fm_tls_files that named it (NULL: none). Blocks on nothing but a disk.
 */
int fm_tls_context_new(SSL_CTX **ret, const struct fm_tls_files *files, bool datagrams,
		       const char *const **ret_part, struct fm_buf *complaint);
SSL_CTX *fm_tls_context_free(SSL_CTX *context);
FM_DEFINE_CLEANUP(SSL_CTX *, fm_tls_context_free)

/*
 * A connection over a socket, by bio (which it takes, also on failure), to a peer whose certificate
 * must be for peer_name: a DNS name (DNS-ID; the common name does not count) or an address. 0 or
 * -errno.
 */
int fm_tls_connection_new(SSL **ret, SSL_CTX *context, BIO *bio, const char *peer_name);
SSL *fm_tls_connection_free(SSL *connection);

/* Whether the peer sent a session ticket: then it has accepted our certificate (TLS 1.3). */
bool fm_tls_has_ticket(const SSL *connection);

/*
 * The error of a call on a connection that returned result: -EAGAIN (wants the network), -EPIPE
 * (the peer has ended it), -EKEYREJECTED (its certificate), -EPROTO, or the socket's; trouble gets
 * words where -errno does not say it all.
 */
int fm_tls_error(const SSL *connection, int result, char *trouble, size_t size);

/* Throws away what the peer says. 0 or as fm_tls_error. */
int fm_tls_read(SSL *connection, char *trouble, size_t size);

#endif
