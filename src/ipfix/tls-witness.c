/* SPDX-License-Identifier: Apache-2.0 */
/* Records by way of the slip: see tls-witness.h. A filter BIO. */
#include "ipfix/tls-witness.h"

#include <errno.h>

#include <openssl/err.h>
#include <openssl/ssl.h>

/* Alerts and new keys may go before the record; they are shorter. */
static bool is_record(struct fm_tls_witness *witness, int size)
{
	if (!witness->open)
		return false;
	witness->begun = witness->begun || (size_t)size > witness->least;
	return witness->begun;
}

static int on_write(BIO *bio, const char *data, int size)
{
	struct fm_tls_witness *witness = BIO_get_data(bio);
	struct iovec part = {.iov_base = (void *)data, .iov_len = (size_t)size};
	ssize_t n;
	int fd, result;

	BIO_clear_retry_flags(bio);
	if (!is_record(witness, size)) {
		result = BIO_write(BIO_next(bio), data, size);
		BIO_copy_next_retry(bio);
		return result;
	}
	BIO_get_fd(BIO_next(bio), &fd);
	fm_slip_expect(witness->slip, (size_t)size);
	n = fm_slip_write(witness->slip, fd, &part, 1);
	if (n >= 0)
		return (int)n;
	if (n == -EAGAIN || n == -EINTR)
		BIO_set_retry_write(bio);
	errno = (int)-n;
	return -1;
}

static int on_read(BIO *bio, char *data, int size)
{
	int result = BIO_read(BIO_next(bio), data, size);

	BIO_clear_retry_flags(bio);
	BIO_copy_next_retry(bio);
	return result;
}

static long on_ctrl(BIO *bio, int command, long number, void *pointer)
{
	return BIO_ctrl(BIO_next(bio), command, number, pointer);
}

int fm_tls_witness_init(struct fm_tls_witness *witness)
{
	*witness = (struct fm_tls_witness){
		.method = BIO_meth_new(BIO_get_new_index() | BIO_TYPE_FILTER, "flowmond"),
	};
	if (witness->method && BIO_meth_set_write(witness->method, on_write) &&
	    BIO_meth_set_read(witness->method, on_read) &&
	    BIO_meth_set_ctrl(witness->method, on_ctrl))
		return 0;
	ERR_clear_error();
	fm_tls_witness_done(witness);
	return -ENOMEM;
}

void fm_tls_witness_done(struct fm_tls_witness *witness)
{
	BIO_meth_free(witness->method);
	witness->method = NULL;
}

BIO *fm_tls_witness_push(struct fm_tls_witness *witness, struct fm_slip *slip, BIO *socket)
{
	BIO *bio = socket ? BIO_new(witness->method) : NULL;

	if (!bio) {
		BIO_free(socket);
		return NULL;
	}
	witness->slip = slip;
	witness->open = witness->begun = false;
	BIO_set_data(bio, witness);
	BIO_set_init(bio, 1);
	return BIO_push(bio, socket);
}

void fm_tls_witness_begin(struct fm_tls_witness *witness, size_t octets)
{
	witness->least = octets;
	witness->begun = false;
}

int fm_tls_witness_write(struct fm_tls_witness *witness, SSL *connection, const void *data,
			 size_t size)
{
	int result;

	witness->open = true;
	result = SSL_write(connection, data, (int)size);
	witness->open = false;
	return result;
}
