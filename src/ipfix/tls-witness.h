/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Between OpenSSL and a socket: writes records that hold messages by way of the slip, so that a
 * next process knows whether a record is out whole. A peer cannot read part of one. Owned by the
 * transports over TLS and DTLS.
 */
#ifndef FM_TLS_WITNESS_H
#define FM_TLS_WITNESS_H

#include <openssl/bio.h>
#include <openssl/ssl.h>

#include "ipfix/slip.h"

struct fm_tls_witness {
	BIO_METHOD *method;
	struct fm_slip *slip;
	size_t least; /* a record of messages is longer than this */
	bool open;    /* what is written now may be one */
	bool begun;   /* it is, since the last begin */
};

/* Once; done after the last connection. 0 or -ENOMEM. */
int fm_tls_witness_init(struct fm_tls_witness *witness);
void fm_tls_witness_done(struct fm_tls_witness *witness);

/* In front of a socket's BIO, which it takes. NULL: no memory, or there was none. */
BIO *fm_tls_witness_push(struct fm_tls_witness *witness, struct fm_slip *slip, BIO *socket);

/* The slip is filled with the messages that end in the next record, which holds so many octets. */
void fm_tls_witness_begin(struct fm_tls_witness *witness, size_t octets);

/* The same record is written, or its rest. As SSL_write. */
int fm_tls_witness_write(struct fm_tls_witness *witness, SSL *connection, const void *data,
			 size_t size);

#endif
