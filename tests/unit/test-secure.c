/* SPDX-License-Identifier: Apache-2.0 */
/*
 * TLS and DTLS against peers of all manners: whom to trust, whom not, what is sent before that is
 * known (nothing), what becomes of messages when a session ends.
 */
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <poll.h>
#include <signal.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include <openssl/err.h>

#include "peer.h"
#include "test.h"

#define NAME PEER_NAME

/* Both sides go on until the condition holds. */
#define BOTH_UNTIL(rig, peer, condition) STEP_UNTIL(rig, (peer_step(peer), (condition)))

struct given {
	const char *ca, *certificate, *key, *name;
};

static const struct given usual = {"ca.pem", "client.pem", "client.key", NAME};

static void secure_rig(struct rig *rig, struct peer *peer, const struct given *given)
{
	const struct fm_transport_ops *ops =
		peer->datagrams ? &fm_transport_dtls : &fm_transport_tls;
	const struct fm_tls_files files = {
		.certificate = given->certificate ? path_of(given->certificate) : NULL,
		.key = given->key ? path_of(given->key) : NULL,
		.ca = path_of(given->ca),
	};
	struct fm_buf complaint = {};
	const char *const *part;

	rig_init(rig, ops, &peer->address, NULL);
	if (fm_tls_context_new(&rig->transport->options.tls, &files, peer->datagrams, &part,
			       &complaint) < 0) {
		fprintf(stderr, "%s\n", complaint.data);
		abort();
	}
	rig->transport->options.peer_name = given->name;
	rig->transport->options.renew_ns = FM_NS_PER_HOUR;
	reader_init(&peer->reader, &rig->session_options);
	rig_start(rig);
}

static void secure_done(struct rig *rig)
{
	SSL_CTX *context = rig->transport->options.tls;

	rig_done(rig);
	fm_tls_context_free(context);
}

static const char *kind(const struct peer *peer)
{
	return peer->datagrams ? "dtls" : "tls";
}

static void test_carries(bool datagrams, int version, const char *name)
{
	static struct peer peer;
	static struct rig rig;

	peer_init(&peer, datagrams, "server.pem");
	if (version)
		SSL_CTX_set_max_proto_version(peer.context, version);
	secure_rig(&rig, &peer, &usual);
	rig_give(&rig, 100);
	FM_TEST(!rig.begun && !rig.sent.records, "%s: nothing is sent before the handshake", name);
	BOTH_UNTIL(&rig, &peer, rig.begun > 0);
	for (unsigned int i = 0; i < 20; i++) {
		rig_give(&rig, 150);
		peer_step(&peer);
	}
	BOTH_UNTIL(&rig, &peer, peer.reader.got.records == rig.given.records);
	FM_TEST(same(&peer.reader.got, &rig.given), "%s: what was given arrives", name);
	FM_TEST(!peer.reader.faults && peer.reader.rounds == 1,
		"%s: templates first, sequence right", name);
	FM_TEST(peer.known, "%s: our certificate was asked for and taken", name);
	secure_done(&rig);
	FM_TEST(same(&rig.sent, &rig.given) && !rig.lost.records, "%s: counted as sent", name);
	peer_step(&peer);
	FM_TEST(peer.ended && SSL_get_shutdown(peer.connection) & SSL_RECEIVED_SHUTDOWN,
		"%s: the end is told in order", name);
	peer_done(&peer);
}

/* Nothing goes to a peer that is not the one meant, or that does not take us. */
static void test_refuses(bool datagrams, const char *identity, const struct given *given,
			 int version, int error, const char *words)
{
	static struct peer peer;
	static struct rig rig;

	peer_init(&peer, datagrams, identity);
	if (version)
		SSL_CTX_set_max_proto_version(peer.context, version);
	secure_rig(&rig, &peer, given);
	rig_give(&rig, 50);
	BOTH_UNTIL(&rig, &peer, rig.errors > 0 || rig.begun);
	if (!FM_TEST(rig.last_error == error && strstr(rig.trouble, words), "%s: %s: told as '%s'",
		     kind(&peer), identity, words))
		FM_TEST_NOTE("%s, %s", strerror(-rig.last_error), rig.trouble);
	FM_TEST(!rig.begun && !rig.sent.records && !rig.lost.records && !peer.reader.messages,
		"%s: %s: nothing is sent, everything waits", kind(&peer), identity);
	secure_done(&rig);
	FM_TEST(same(&rig.lost, &rig.given), "%s: %s: counted as not sent at the end", kind(&peer),
		identity);
	peer_done(&peer);
}

static void test_trust(bool datagrams)
{
	const struct given wrong_ca = {"other.pem", "client.pem", "client.key", NAME};
	const struct given wrong_name = {"ca.pem", "client.pem", "client.key", "other.test"};
	const struct given wrong_address = {"ca.pem", "client.pem", "client.key", "::2"};
	const struct given nameless = {"ca.pem", NULL, NULL, NAME};
	const struct given unknown = {"ca.pem", "other.pem", "other.key", NAME};

	test_refuses(datagrams, "server.pem", &wrong_ca, 0, -EKEYREJECTED, "self-signed");
	test_refuses(datagrams, "server.pem", &wrong_name, 0, -EKEYREJECTED, "hostname mismatch");
	test_refuses(datagrams, "server.pem", &wrong_address, 0, -EKEYREJECTED,
		     "IP address mismatch");
	test_refuses(datagrams, NAME ".pem", &usual, 0, -EKEYREJECTED, "hostname mismatch");
	test_refuses(datagrams, "expired.pem", &usual, 0, -EKEYREJECTED, "expired");
	test_refuses(datagrams, "server.pem", &nameless, 0, -EPROTO, "alert");
	test_refuses(datagrams, "server.pem", &unknown, 0, -EPROTO, "alert");
	if (!datagrams)
		test_refuses(false, "server.pem", &nameless, TLS1_2_VERSION, -EPROTO, "alert");
}

static void test_too_old(bool datagrams)
{
	static struct peer peer;
	static struct rig rig;

	peer_init(&peer, datagrams, "server.pem");
	SSL_CTX_set_security_level(peer.context, 0);
	SSL_CTX_set_min_proto_version(peer.context, datagrams ? DTLS1_VERSION : TLS1_VERSION);
	SSL_CTX_set_max_proto_version(peer.context, datagrams ? DTLS1_VERSION : TLS1_1_VERSION);
	secure_rig(&rig, &peer, &usual);
	BOTH_UNTIL(&rig, &peer, rig.errors > 0 || rig.begun);
	FM_TEST(rig.last_error == -EPROTO && !rig.begun, "%s: a version too old is refused (%s)",
		kind(&peer), rig.trouble);
	secure_done(&rig);
	peer_done(&peer);
}

static void test_by_address(bool datagrams)
{
	const struct given by_address = {"ca.pem", "client.pem", "client.key", "::1"};
	static struct peer peer;
	static struct rig rig;

	peer_init(&peer, datagrams, "server.pem");
	secure_rig(&rig, &peer, &by_address);
	FM_TEST(BOTH_UNTIL(&rig, &peer, rig.begun), "%s: a certificate may be for an address",
		kind(&peer));
	secure_done(&rig);
	peer_done(&peer);
}

/* One that says nothing, and one that says something else. */
static void test_no_handshake(bool datagrams)
{
	static const char garbage[] = "HTTP/1.1 400 Bad Request\r\n\r\n";
	static struct peer peer;
	static struct rig rig;
	int fd;

	peer_init(&peer, datagrams, "server.pem");
	secure_rig(&rig, &peer, &usual);
	for (unsigned int i = 0; i < 20; i++)
		rig_step(&rig);
	FM_TEST(!rig.errors, "%s: a peer that says nothing is waited for", kind(&peer));
	rig.ahead_ns = FM_TLS_HANDSHAKE_NS;
	rig_step(&rig);
	FM_TEST(rig.last_error == -ETIMEDOUT && rig.transport->fd < 0 &&
			strstr(rig.trouble, "handshake"),
		"%s: but not for ever", kind(&peer));
	if (!datagrams) {
		close(accept(peer.listener, NULL, NULL));
		fd = rig_accepted(&rig, peer.listener);
		if (send(fd, garbage, sizeof(garbage), MSG_NOSIGNAL) < 0)
			abort();
		FM_TEST(STEP_UNTIL(&rig, rig.last_error == -EPROTO),
			"tls: garbage instead of a handshake is told (%s)", rig.trouble);
		close(fd);
	}
	FM_TEST(!rig.begun && rig.slowest_ns < 500 * FM_NS_PER_MS, "%s: no call waits",
		kind(&peer));
	secure_done(&rig);
	peer_done(&peer);
}

/* A peer of TLS 1.3 without tickets: whether it is content shows only in that it does not object.
 */
static void test_no_tickets(void)
{
	static struct peer peer;
	static struct rig rig;

	peer_init(&peer, false, "server.pem");
	SSL_CTX_set_num_tickets(peer.context, 0);
	secure_rig(&rig, &peer, &usual);
	BOTH_UNTIL(&rig, &peer, peer.known);
	for (unsigned int i = 0; i < 20; i++)
		rig_step(&rig);
	FM_TEST(!rig.begun && !rig.errors, "tls: without a ticket nothing is sent at first");
	rig.ahead_ns = FM_NS_PER_S;
	rig_step(&rig);
	FM_TEST(rig.begun == 1, "tls: a peer that does not object is content");
	secure_done(&rig);
	peer_done(&peer);
}

static void test_stalled(void)
{
	static struct peer peer;
	static struct rig rig;

	peer_init(&peer, false, "server.pem");
	secure_rig(&rig, &peer, &usual);
	BOTH_UNTIL(&rig, &peer, rig.begun);
	for (unsigned int i = 0; i < 1500 && !rig.lost.records; i++)
		rig_give(&rig, 500);
	FM_TEST(rig.lost.records > 0 && rig.transport->waiting_octets <= 1 << 20,
		"tls stalled: the queue is bounded, the rest counted");
	FM_TEST(rig.transport->stalled_since_ns && rig.slowest_ns < 500 * FM_NS_PER_MS,
		"tls stalled: no call waits");
	BOTH_UNTIL(&rig, &peer,
		   !rig.transport->first && peer.reader.got.records == rig.sent.records);
	FM_TEST(same(&peer.reader.got, &rig.sent) && !peer.reader.faults,
		"tls stalled: what counts as sent arrived, whole and in order");
	secure_done(&rig);
	FM_TEST(rig_adds_up(&rig), "tls stalled: sent and lost are all that was given");
	peer_done(&peer);
}

/* A reset while a message is half written; what waits goes into the next connection, once. */
static void test_reset(void)
{
	struct linger linger = {.l_onoff = 1};
	struct sums before;
	static struct peer peer;
	static struct rig rig;

	peer_init(&peer, false, "server.pem");
	secure_rig(&rig, &peer, &usual);
	BOTH_UNTIL(&rig, &peer, rig.begun);
	for (unsigned int i = 0; i < 1500 && !rig.transport->stalled_since_ns; i++)
		rig_give(&rig, 500);
	FM_TEST(rig.transport->stalled_since_ns && rig.transport->first,
		"tls reset: messages wait when it comes");
	setsockopt(SSL_get_fd(peer.connection), SOL_SOCKET, SO_LINGER, &linger, sizeof(linger));
	peer_forget(&peer);
	FM_TEST(STEP_UNTIL(&rig, rig.errors == 1), "tls reset: noticed");
	before = rig.sent;
	reader_init(&peer.reader, &rig.session_options);
	BOTH_UNTIL(&rig, &peer, rig.begun == 2);
	rig_give(&rig, 100);
	BOTH_UNTIL(&rig, &peer,
		   rig.sent.records == rig.given.records - rig.lost.records &&
			   peer.reader.got.records + before.records == rig.sent.records);
	FM_TEST(peer.reader.rounds == 1 && !peer.reader.faults,
		"tls reset: a new session, templates first, sequence from 0");
	peer.reader.got.records += before.records;
	peer.reader.got.packets += before.packets;
	peer.reader.got.octets += before.octets;
	FM_TEST(same(&peer.reader.got, &rig.sent) && rig.sent.records > before.records + 100,
		"tls reset: what waited arrives in the new session");
	secure_done(&rig);
	FM_TEST(rig_adds_up(&rig) && !rig.lost.records, "tls reset: all that was given is sent");
	peer_done(&peer);
}

/* The peer leaves in order: told, and after the interval there is a new session. */
static void test_leaves(bool datagrams)
{
	static struct peer peer;
	static struct rig rig;

	peer_init(&peer, datagrams, "server.pem");
	secure_rig(&rig, &peer, &usual);
	BOTH_UNTIL(&rig, &peer, rig.begun);
	rig_give(&rig, 200);
	BOTH_UNTIL(&rig, &peer, peer.reader.got.records == 200);
	SSL_shutdown(peer.connection);
	peer_forget(&peer);
	FM_TEST(STEP_UNTIL(&rig, rig.errors == 1) && rig.last_error == -EPIPE,
		"%s: a peer that takes its leave is noticed", kind(&peer));
	rig_give(&rig, 100);
	memset(peer.reader.expected, 0, sizeof(peer.reader.expected));
	memset(peer.reader.described, 0, sizeof(peer.reader.described));
	BOTH_UNTIL(&rig, &peer, peer.reader.got.records == rig.given.records);
	FM_TEST(same(&peer.reader.got, &rig.given) && rig.begun == 2 && peer.reader.rounds == 2 &&
			!peer.reader.faults,
		"%s: what came meanwhile arrives in the next session, behind templates",
		kind(&peer));
	secure_done(&rig);
	FM_TEST(same(&rig.sent, &rig.given), "%s: all of it counts as sent", kind(&peer));
	peer_done(&peer);
}

/* Nobody listens for a while: the datagram that was refused is sent again. */
static void test_dtls_refused(void)
{
	static struct peer peer;
	static struct rig rig;

	peer_init(&peer, true, "server.pem");
	secure_rig(&rig, &peer, &usual);
	BOTH_UNTIL(&rig, &peer, rig.begun);
	rig_give(&rig, 200);
	BOTH_UNTIL(&rig, &peer, peer.reader.got.records == 200);
	peer_forget(&peer);
	close(peer.listener);
	rig_give(&rig, 100);
	FM_TEST(STEP_UNTIL(&rig, rig.errors > 0) && rig.last_error == -ECONNREFUSED,
		"dtls refused: noticed");
	rig_give(&rig, 50);
	peer.listener = socket(AF_INET6, SOCK_DGRAM | SOCK_CLOEXEC, 0);
	if (bind(peer.listener, (struct sockaddr *)&peer.address, sizeof(peer.address)) < 0)
		abort();
	memset(peer.reader.expected, 0, sizeof(peer.reader.expected));
	memset(peer.reader.described, 0, sizeof(peer.reader.described));
	BOTH_UNTIL(&rig, &peer, peer.reader.got.records == rig.given.records);
	FM_TEST(same(&peer.reader.got, &rig.given) && !peer.reader.faults,
		"dtls refused: nothing is missing when somebody listens again, nothing there twice");
	secure_done(&rig);
	FM_TEST(same(&rig.sent, &rig.given), "dtls refused: all of it counts as sent");
	peer_done(&peer);
}

/* A peer that forgot the association, and says nothing to what it cannot decrypt. */
static void test_dtls_forgotten(void)
{
	char noise[20000];
	static struct peer peer;
	static struct rig rig;

	peer_init(&peer, true, "server.pem");
	secure_rig(&rig, &peer, &usual);
	BOTH_UNTIL(&rig, &peer, rig.begun);
	peer_forget(&peer);
	rig_give(&rig, 100);
	for (unsigned int i = 0; i < 20; i++)
		rig_step(&rig);
	FM_TEST(!rig.errors && rig.begun == 1, "dtls forgotten: nobody tells");
	while (recv(peer.listener, noise, sizeof(noise), MSG_DONTWAIT) > 0)
		;
	rig.ahead_ns = FM_NS_PER_HOUR;
	rig_step(&rig);
	while (recv(peer.listener, noise, 1, MSG_PEEK | MSG_DONTWAIT) == 1 && noise[0] == 21)
		recv(peer.listener, noise, sizeof(noise), MSG_DONTWAIT); /* our leave */
	rig_give(&rig, 100);
	reader_init(&peer.reader, &rig.session_options);
	BOTH_UNTIL(&rig, &peer, peer.reader.got.records == 100);
	FM_TEST(rig.begun == 2 && peer.reader.got.records == 100 && !peer.reader.faults,
		"dtls forgotten: a fresh association after the interval, templates first");
	FM_TEST(!rig.errors, "dtls forgotten: which is nothing to complain of");
	peer_forget(&peer);
	rig.ahead_ns = 2 * FM_NS_PER_HOUR;
	rig_step(&rig);
	rig_give(&rig, 100);
	rig.ahead_ns += FM_TLS_HANDSHAKE_NS;
	rig_step(&rig);
	FM_TEST(rig.last_error == -ETIMEDOUT && rig.transport->first,
		"dtls forgotten: a dead peer is noticed then, what comes waits");
	secure_done(&rig);
	FM_TEST(rig_adds_up(&rig) && rig.lost.records == 100,
		"dtls forgotten: sent and lost are all that was given");
	peer_done(&peer);
}

static void test_dtls_path(void)
{
	static uint8_t message[20000];
	const struct fm_message_info info = {.records = 3, .packets = 5, .octets = 7};
	uint64_t now = fm_clock_monotonic_ns();
	static struct peer peer;
	static struct rig rig;

	peer_init(&peer, true, "server.pem");
	secure_rig(&rig, &peer, &usual);
	BOTH_UNTIL(&rig, &peer, rig.begun);
	FM_TEST(rig.transport->message_max == 16384, "dtls: no message is longer than a record");
	rig.transport->ops->send(rig.transport, message, 16385, &info, now);
	rig.transport->ops->send(rig.transport, message, 100, &info, now);
	rig.transport->ops->flush(rig.transport, now);
	FM_TEST(rig.lost.records == 3 && rig.last_error == -EMSGSIZE && !rig.transport->first &&
			rig.ups == 2,
		"dtls: one that is too long is counted as lost, the next one goes");
	secure_done(&rig);
	FM_TEST(rig.sent.records == 3 && rig.lost.records == 3, "dtls: each is counted once");
	peer_done(&peer);
}

/* A handshake of which the first datagrams get lost: said again when its timer says so. */
static void test_dtls_again(void)
{
	char noise[4096];
	static struct peer peer;
	static struct rig rig;

	peer_init(&peer, true, "server.pem");
	secure_rig(&rig, &peer, &usual);
	FM_TEST(recv(peer.listener, noise, sizeof(noise), 0) > 0 &&
			rig.transport->deadline_ns <= fm_clock_monotonic_ns() + FM_NS_PER_S,
		"dtls: a hello is waited for no longer than its timer");
	FM_TEST(BOTH_UNTIL(&rig, &peer, rig.begun), "dtls: a hello that got lost is said again");
	secure_done(&rig);
	peer_done(&peer);
}

static void test_files(void)
{
	static const struct {
		struct fm_tls_files files;
		size_t part;
		const char *words;
	} wrong[] = {
		{{"none.pem", "client.key", NULL}, 0, "No such file"},
		{{"rubbish.pem", "client.key", NULL}, 0, "no certificate in it"},
		{{"expired.pem", "expired.key", NULL}, 0, "expired on"},
		{{"client.pem", "rubbish.pem", NULL}, 1, "everybody may read it"},
		{{"client.pem", "open.key", NULL}, 1, "everybody may read it"},
		{{"client.pem", "expired.key", NULL}, 1, "not the key of the certificate"},
		{{"client.pem", "client.key", "rubbish.pem"}, 2, "no certificate in it"},
		{{NULL, NULL, "."}, 2, "expected a file of PEM"},
	};

	for (size_t i = 0; i < FM_ARRAY_SIZE(wrong); i++) {
		const char *const *names = (const char *const *)&wrong[i].files;
		const char *paths[3] = {};
		char space[3][300];
		struct fm_buf complaint = {};
		const char *const *part = NULL;
		SSL_CTX *context = NULL;

		for (unsigned int k = 0; k < 3; k++)
			if (names[k]) {
				strcpy(space[k], path_of(names[k]));
				paths[k] = space[k];
			}
		FM_TEST(fm_tls_context_new(&context, (const struct fm_tls_files *)paths, false,
					   &part, &complaint) < 0 &&
				part == &paths[wrong[i].part] &&
				strstr(complaint.data, wrong[i].words) &&
				strstr(complaint.data, paths[wrong[i].part]),
			"files: %s", complaint.data ? complaint.data : "taken");
		fm_buf_done(&complaint);
		fm_tls_context_free(context);
	}
}

int main(void)
{
	int r = peer_certificates_new();

	if (r < 0)
		return fm_test_bail("certificates", -r);
	signal(SIGPIPE, SIG_IGN); /* as the daemon does */
	test_files();
	test_carries(false, TLS1_2_VERSION, "tls 1.2");
	test_carries(false, TLS1_3_VERSION, "tls 1.3");
	test_carries(true, 0, "dtls");
	for (int datagrams = 0; datagrams < 2; datagrams++) {
		test_trust(datagrams);
		test_too_old(datagrams);
		test_by_address(datagrams);
		test_no_handshake(datagrams);
		test_leaves(datagrams);
	}
	test_no_tickets();
	test_stalled();
	test_reset();
	test_dtls_refused();
	test_dtls_forgotten();
	test_dtls_path();
	test_dtls_again();
	if (peer_certificates_done() < 0)
		return fm_test_bail("rm", 0);
	return fm_test_done();
}
