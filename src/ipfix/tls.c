/* SPDX-License-Identifier: Apache-2.0 */
/* What TLS and DTLS transports share: see tls.h. */
#include "ipfix/tls.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>

#include <arpa/inet.h>
#include <openssl/err.h>
#include <openssl/pem.h>
#include <openssl/x509v3.h>

/* A file beyond this holds no certificates that anybody checks. */
#define FILE_MAX (1 << 20)
/* Reads in a row of what a peer says, so that one that talks on and on holds up nothing. */
#define READS_MAX 8

FM_DEFINE_CLEANUP(BIO *, BIO_free)
FM_DEFINE_CLEANUP(X509 *, X509_free)
FM_DEFINE_CLEANUP(EVP_PKEY *, EVP_PKEY_free)

/* OpenSSL's words of its first error; they are gone then. */
static const char *reason(void)
{
	const char *text = ERR_reason_error_string(ERR_peek_error());

	ERR_clear_error();
	return text ? text : "no reason given";
}

__attribute__((format(printf, 4, 5))) static int
complain(struct fm_buf *complaint, const char *path, int error, const char *format, ...)
{
	va_list arguments;
	char text[256];

	va_start(arguments, format);
	vsnprintf(text, sizeof(text), format, arguments);
	va_end(arguments);
	fm_buf_printf(complaint, "%s: %s", path, text);
	return error;
}

/* A file in memory, whole; secret: nobody but its owner and group may have access. */
static int read_file(const char *path, bool secret, BIO **ret, struct fm_buf *complaint)
{
	_fm_cleanup_(BIO_freep) BIO *bio = BIO_new(BIO_s_mem());
	_fm_cleanup_close_ int fd = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK | O_NOCTTY);
	char part[4096];
	struct stat status;
	ssize_t n;

	if (fd < 0 || fstat(fd, &status) < 0)
		return complain(complaint, path, -errno, "%s", strerror(errno));
	if (!bio)
		return complain(complaint, path, -ENOMEM, "no memory");
	if (!S_ISREG(status.st_mode) || status.st_size > FILE_MAX)
		return complain(complaint, path, -EINVAL, "expected a file of PEM blocks");
	if (secret && status.st_mode & (S_IROTH | S_IWOTH))
		return complain(complaint, path, -EPERM,
				"everybody may read it: a key must be its owner's (chmod o= FILE)");
	while ((n = read(fd, part, sizeof(part))) > 0)
		if (BIO_write(bio, part, (int)n) != n)
			return complain(complaint, path, -ENOMEM, "no memory");
	OPENSSL_cleanse(part, sizeof(part));
	if (n < 0)
		return complain(complaint, path, -errno, "%s", strerror(errno));
	*ret = FM_TAKE_PTR(bio);
	return 0;
}

/* Nobody is there to ask. */
static int no_password(char *buffer, int size, int writing, void *userdata)
{
	return -1;
}

static int check_times(const char *path, const X509 *certificate, struct fm_buf *complaint)
{
	_fm_cleanup_(BIO_freep) BIO *text = BIO_new(BIO_s_mem());
	const ASN1_TIME *before = X509_get0_notBefore(certificate);
	const ASN1_TIME *after = X509_get0_notAfter(certificate);
	char *date = NULL;
	int size;

	if (X509_cmp_time(after, NULL) > 0 && X509_cmp_time(before, NULL) < 0)
		return 0;
	if (!text || !ASN1_TIME_print(text, X509_cmp_time(after, NULL) > 0 ? before : after))
		return complain(complaint, path, -EKEYEXPIRED, "not valid now");
	size = (int)BIO_get_mem_data(text, &date);
	return complain(complaint, path, -EKEYEXPIRED,
			X509_cmp_time(after, NULL) > 0 ? "valid from %.*s on only"
						       : "expired on %.*s",
			size, date);
}

/* Our certificate, and behind it what leads to the authority. */
static int use_certificate(SSL_CTX *context, const char *path, struct fm_buf *complaint)
{
	_fm_cleanup_(BIO_freep) BIO *file = NULL;
	_fm_cleanup_(X509_freep) X509 *own = NULL;
	X509 *next;
	int r = read_file(path, false, &file, complaint);

	if (r < 0)
		return r;
	own = PEM_read_bio_X509_AUX(file, NULL, no_password, NULL);
	if (!own)
		return complain(complaint, path, -EINVAL, "no certificate in it (%s)", reason());
	r = check_times(path, own, complaint);
	if (r < 0)
		return r;
	if (SSL_CTX_use_certificate(context, own) != 1)
		return complain(complaint, path, -EINVAL, "cannot be used: %s", reason());
	while ((next = PEM_read_bio_X509(file, NULL, no_password, NULL)))
		if (SSL_CTX_add0_chain_cert(context, next) != 1) {
			X509_free(next);
			return complain(complaint, path, -EINVAL, "cannot be used: %s", reason());
		}
	ERR_clear_error(); /* the end of the file */
	return 0;
}

static int use_key(SSL_CTX *context, const char *path, struct fm_buf *complaint)
{
	_fm_cleanup_(BIO_freep) BIO *file = NULL;
	_fm_cleanup_(EVP_PKEY_freep) EVP_PKEY *key = NULL;
	int r = read_file(path, true, &file, complaint);

	if (r < 0)
		return r;
	key = PEM_read_bio_PrivateKey(file, NULL, no_password, NULL);
	if (!key)
		return complain(complaint, path, -EINVAL, "no key without a password in it (%s)",
				reason());
	if (X509_check_private_key(SSL_CTX_get0_certificate(context), key) != 1) {
		ERR_clear_error();
		return complain(complaint, path, -EINVAL,
				"not the key of the certificate in certificate_file");
	}
	if (SSL_CTX_use_PrivateKey(context, key) != 1)
		return complain(complaint, path, -EINVAL, "cannot be used: %s", reason());
	return 0;
}

static int use_authorities(SSL_CTX *context, const char *path, struct fm_buf *complaint)
{
	_fm_cleanup_(BIO_freep) BIO *file = NULL;
	unsigned int n = 0;
	X509 *next;
	int r = read_file(path, false, &file, complaint);

	if (r < 0)
		return r;
	while ((next = PEM_read_bio_X509(file, NULL, no_password, NULL))) {
		n += X509_STORE_add_cert(SSL_CTX_get_cert_store(context), next) == 1;
		X509_free(next);
	}
	return n ? (ERR_clear_error(), 0)
		 : complain(complaint, path, -EINVAL, "no certificate in it (%s)", reason());
}

/* A ticket says that the peer is content; nothing is resumed by it. */
static int on_ticket(SSL *connection, SSL_SESSION *session)
{
	SSL_set_app_data(connection, connection);
	return 0;
}

/* The system's own choice of ciphers, none below 112 bits of strength. */
static int set_up(SSL_CTX *context, bool datagrams)
{
	SSL_CTX_set_options(context, SSL_OP_NO_COMPRESSION | SSL_OP_NO_RENEGOTIATION |
					     SSL_OP_NO_TICKET | SSL_OP_NO_QUERY_MTU);
	SSL_CTX_set_session_cache_mode(context, SSL_SESS_CACHE_CLIENT | SSL_SESS_CACHE_NO_INTERNAL);
	SSL_CTX_sess_set_new_cb(context, on_ticket);
	SSL_CTX_set_verify(context, SSL_VERIFY_PEER, NULL);
	SSL_CTX_set_mode(context, SSL_MODE_RELEASE_BUFFERS);
	if (SSL_CTX_get_security_level(context) < 2)
		SSL_CTX_set_security_level(context, 2);
	return SSL_CTX_set_min_proto_version(context,
					     datagrams ? DTLS1_2_VERSION : TLS1_2_VERSION) == 1
		       ? 0
		       : -ENOMEM;
}

int fm_tls_context_new(SSL_CTX **ret, const struct fm_tls_files *files, bool datagrams,
		       const char *const **ret_part, struct fm_buf *complaint)
{
	_fm_cleanup_(fm_tls_context_freep) SSL_CTX *context =
		SSL_CTX_new(datagrams ? DTLS_client_method() : TLS_client_method());
	int r = context ? set_up(context, datagrams) : -ENOMEM;

	*ret_part = NULL;
	if (r == 0 && files->certificate) {
		*ret_part = &files->certificate;
		r = use_certificate(context, files->certificate, complaint);
	}
	if (r == 0 && files->key) {
		*ret_part = &files->key;
		r = use_key(context, files->key, complaint);
	}
	if (r == 0 && files->ca) {
		*ret_part = &files->ca;
		r = use_authorities(context, files->ca, complaint);
	} else if (r == 0 && SSL_CTX_set_default_verify_paths(context) != 1) {
		r = -ENOMEM;
	}
	if (r < 0 && !complaint->size)
		fm_buf_printf(complaint, "TLS cannot be set up: %s", reason());
	if (r < 0)
		return r;
	*ret = FM_TAKE_PTR(context);
	return 0;
}

SSL_CTX *fm_tls_context_free(SSL_CTX *context)
{
	SSL_CTX_free(context);
	return NULL;
}

SSL *fm_tls_connection_free(SSL *connection)
{
	SSL_free(connection);
	return NULL;
}

static int expect(SSL *connection, const char *peer_name)
{
	struct in6_addr address;

	SSL_set_hostflags(connection, X509_CHECK_FLAG_NEVER_CHECK_SUBJECT |
					      X509_CHECK_FLAG_NO_PARTIAL_WILDCARDS);
	if (inet_pton(AF_INET, peer_name, &address) == 1 ||
	    inet_pton(AF_INET6, peer_name, &address) == 1)
		return X509_VERIFY_PARAM_set1_ip_asc(SSL_get0_param(connection), peer_name);
	return SSL_set1_host(connection, peer_name) == 1 &&
	       SSL_set_tlsext_host_name(connection, peer_name) == 1;
}

int fm_tls_connection_new(SSL **ret, SSL_CTX *context, BIO *bio, const char *peer_name)
{
	SSL *connection = bio ? SSL_new(context) : NULL;

	ERR_clear_error();
	if (!connection) {
		BIO_free_all(bio);
		return -ENOMEM;
	}
	SSL_set_bio(connection, bio, bio);
	SSL_set_connect_state(connection);
	if (expect(connection, peer_name) != 1) {
		ERR_clear_error();
		SSL_free(connection);
		return -EINVAL;
	}
	*ret = connection;
	return 0;
}

bool fm_tls_has_ticket(const SSL *connection)
{
	return SSL_get_app_data(connection) != NULL;
}

static int protocol_error(const SSL *connection, char *trouble, size_t size)
{
	unsigned long code = ERR_peek_error();

	if (ERR_GET_REASON(code) == SSL_R_CERTIFICATE_VERIFY_FAILED) {
		snprintf(trouble, size, "certificate of the collector: %s",
			 X509_verify_cert_error_string(SSL_get_verify_result(connection)));
		ERR_clear_error();
		return -EKEYREJECTED;
	}
	if (ERR_GET_REASON(code) == SSL_R_UNEXPECTED_EOF_WHILE_READING) {
		ERR_clear_error();
		return -EPIPE;
	}
	snprintf(trouble, size, "%s", reason());
	return -EPROTO;
}

int fm_tls_error(const SSL *connection, int result, char *trouble, size_t size)
{
	int error = errno;

	switch (SSL_get_error(connection, result)) {
	case SSL_ERROR_WANT_READ:
	case SSL_ERROR_WANT_WRITE:
		return -EAGAIN;
	case SSL_ERROR_ZERO_RETURN:
		return -EPIPE;
	case SSL_ERROR_SSL:
		return protocol_error(connection, trouble, size);
	case SSL_ERROR_SYSCALL:
		ERR_clear_error();
		return error ? -error : -EPIPE;
	default:
		ERR_clear_error();
		return -EPROTO;
	}
}

int fm_tls_read(SSL *connection, char *trouble, size_t size)
{
	char buffer[4096];

	for (unsigned int i = 0; i < READS_MAX; i++) {
		int n, r;

		ERR_clear_error();
		errno = 0;
		n = SSL_read(connection, buffer, sizeof(buffer));
		if (n > 0)
			continue;
		r = fm_tls_error(connection, n, trouble, size);
		return r == -EAGAIN ? 0 : r;
	}
	return 0;
}
