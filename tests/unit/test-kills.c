/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A process that sends is killed: before the system call that gives messages to the network, behind
 * it, between the notes of what it did, and at random. Each next process goes on by what lies in
 * memory that outlives it. Over every transport each message must arrive, once.
 */
#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include "peer.h"
#include "test.h"

#define MESSAGES   300
#define QUEUE	   (64 << 10)
#define HEADER	   16
#define LIVES	   60
#define MAX_STREAM 5000
#define MAX_UDP	   1400
#define SMALL	   8192

enum place {
	PLACE_NONE,
	PLACE_BEFORE_CALL,
	PLACE_AFTER_CALL,
	PLACE_BEFORE_NOTE,
	PLACE_AFTER_NOTE,
	PLACE_RANDOM,
	_PLACE_MAX,
};

static const char *const place_names[] = {"nowhere",	   "before the call", "after the call",
					  "before a note", "after a note",    "at random"};

/* Outlives the processes that send. */
struct shared {
	struct fm_transport_mark mark;
	uint8_t done[MESSAGES + 1]; /* noted; by id */
	bool complete;
};

struct way {
	const struct fm_transport_ops *ops;
	bool stream, secure;
	size_t max; /* octets of a message */
};

static const struct way ways[] = {
	{&fm_transport_udp, false, false, MAX_UDP},
	{&fm_transport_tcp, true, false, MAX_STREAM},
	{&fm_transport_tls, true, true, MAX_STREAM},
	{&fm_transport_dtls, false, true, MAX_UDP},
};

/* Where this process ends itself. */
static struct {
	enum place place;
	unsigned int times;
} plan;

static struct shared *shared;

static void come_to(enum place place)
{
	if (plan.place == place && --plan.times == 0)
		raise(SIGKILL);
}

/* Writes to a stream as if the kernel had room for a part only. */
static int call_in_part(int fd, struct mmsghdr *header, int flags)
{
	struct msghdr *message = &header->msg_hdr;
	const size_t n_parts = message->msg_iovlen;
	size_t whole = 0, most, i;
	struct iovec *cut, was;
	int r;

	for (i = 0; i < n_parts; i++)
		whole += message->msg_iov[i].iov_len;
	most = 1 + (size_t)random() % whole;
	for (i = 0; most > message->msg_iov[i].iov_len; i++)
		most -= message->msg_iov[i].iov_len;
	cut = &message->msg_iov[i];
	was = *cut;
	cut->iov_len = most;
	message->msg_iovlen = i + 1;
	r = (int)syscall(SYS_sendmmsg, fd, header, 1, flags);
	message->msg_iovlen = n_parts;
	*cut = was;
	return r;
}

/* In the place of the C library's. */
int sendmmsg(int fd, struct mmsghdr *headers, unsigned int n, int flags)
{
	int small = SMALL, type = 0, r;
	socklen_t size = sizeof(type);

	setsockopt(fd, SOL_SOCKET, SO_SNDBUF, &small, sizeof(small));
	getsockopt(fd, SOL_SOCKET, SO_TYPE, &type, &size);
	come_to(PLACE_BEFORE_CALL);
	if (type == SOCK_STREAM && random() % 2)
		r = call_in_part(fd, headers, flags);
	else
		r = (int)syscall(SYS_sendmmsg, fd, headers, n, flags);
	come_to(PLACE_AFTER_CALL);
	return r;
}

/* --- the process that sends --- */

static size_t make(unsigned int id, const struct way *way, uint8_t message[MAX_STREAM])
{
	size_t size = 40 + id * 131 % (way->max - 40);

	memset(message, (int)id, size);
	message[0] = 0;
	message[1] = 10;
	message[2] = (uint8_t)(size >> 8);
	message[3] = (uint8_t)size;
	memset(message + 4, 0, 12);
	message[16] = (uint8_t)(id >> 8);
	message[17] = (uint8_t)id;
	return size;
}

static void on_begun(void *userdata)
{
}

static void on_state(void *userdata, int error)
{
}

static void on_sent(void *userdata, const struct fm_message_info *info, size_t size)
{
	come_to(PLACE_BEFORE_NOTE);
	shared->done[info->outbox_id] = 1;
	come_to(PLACE_AFTER_NOTE);
}

static void on_lost(void *userdata, const struct fm_message_info *info, size_t size,
		    enum fm_not_sent cause)
{
	abort();
}

/* What the one before it gave to the network, and did not note. */
static void read_slip(void)
{
	for (unsigned int i = 0; i < fm_slip_rows(&shared->mark.slip); i++) {
		struct fm_slip_row row;

		if (fm_slip_row(&shared->mark.slip, i, &row) == FM_SLIP_STATE_OUT)
			shared->done[row.outbox_id] = 1;
	}
}

static void give(struct fm_transport *transport, const struct way *way, unsigned int *next)
{
	unsigned int n = 1 + (unsigned int)random() % 40;
	uint8_t message[MAX_STREAM];

	for (; *next <= MESSAGES && transport->waiting_octets + MAX_STREAM <= QUEUE && n > 0;
	     (*next)++, n--) {
		const struct fm_message_info info = {
			.records = 1, .sequenced = 1, .domain = 7, .outbox_id = *next};

		if (shared->done[*next])
			continue;
		transport->ops->send(transport, message, make(*next, way, message), &info,
				     fm_clock_monotonic_ns());
	}
	transport->ops->flush(transport, fm_clock_monotonic_ns());
}

static void live(const struct way *way, const struct sockaddr_in6 *address, SSL_CTX *context)
{
	struct fm_transport_options options = {
		.address_size = sizeof(*address),
		.mark = &shared->mark,
		.queue_octets = QUEUE,
		.reconnect_ns = RECONNECT_NS,
		.tls = context,
		.peer_name = PEER_NAME,
		.renew_ns = FM_NS_PER_HOUR,
		.begun = on_begun,
		.sent = on_sent,
		.lost = on_lost,
		.state = on_state,
	};
	struct fm_transport *transport;
	unsigned int next = 1;

	memcpy(&options.address, address, sizeof(*address));
	read_slip();
	if (fm_transport_new(&transport, way->ops, &options) < 0)
		abort();
	transport->ops->start(transport, fm_clock_monotonic_ns());
	while (next <= MESSAGES || transport->first) {
		struct pollfd poll_fd = {.fd = transport->fd, .events = (short)transport->events};
		uint64_t now;

		give(transport, way, &next);
		poll(&poll_fd, 1, 1);
		now = fm_clock_monotonic_ns();
		if (poll_fd.revents || now >= transport->deadline_ns)
			transport->ops->dispatch(transport, now);
	}
	fm_transport_free(transport);
	shared->complete = true;
	_exit(0);
}

/* --- the collector --- */

struct collector {
	const struct way *way;
	struct peer peer; /* secure */
	int socket, connection;
	struct sockaddr_in6 address;
	uint8_t data[1 << 17];
	size_t size;
	unsigned int got[MESSAGES + 1];
	unsigned int faults, parts; /* parts: sessions that ended within a message */
};

static void take(struct collector *collector, const uint8_t *message, size_t size)
{
	uint8_t expected[MAX_STREAM];
	unsigned int id = size < 18 ? 0 : (unsigned int)(message[16] << 8 | message[17]);

	if (id == 0 || id > MESSAGES || make(id, collector->way, expected) != size ||
	    memcmp(message + HEADER, expected + HEADER, size - HEADER))
		collector->faults++;
	else
		collector->got[id]++;
}

static void feed(void *userdata, const uint8_t *data, size_t size)
{
	struct collector *collector = userdata;
	size_t at = 0, one;

	if (!collector->way->stream) {
		take(collector, data, size);
		return;
	}
	memcpy(collector->data + collector->size, data, size);
	collector->size += size;
	while (collector->size - at >= HEADER) {
		one = (size_t)(collector->data[at + 2] << 8 | collector->data[at + 3]);
		if (collector->size - at < one)
			break;
		take(collector, collector->data + at, one);
		at += one;
	}
	collector->size -= at;
	memmove(collector->data, collector->data + at, collector->size);
}

static void collector_init(struct collector *collector, const struct way *way)
{
	*collector = (struct collector){.way = way, .connection = -1};
	if (way->secure) {
		peer_init(&collector->peer, !way->stream, "server.pem");
		collector->peer.feed = feed;
		collector->peer.userdata = collector;
		collector->socket = collector->peer.listener;
		collector->address = collector->peer.address;
	} else {
		collector->socket = way->stream
					    ? rig_listen(AF_INET6, true, &collector->address)
					    : rig_socket(AF_INET6, SOCK_DGRAM, &collector->address);
	}
	fcntl(collector->socket, F_SETFL, O_NONBLOCK);
}

/* A little of what came; false: there is nothing now. */
static bool collect(struct collector *collector)
{
	uint8_t data[3000];
	ssize_t n;

	if (collector->way->secure) {
		peer_step(&collector->peer);
		return false;
	}
	if (collector->way->stream && collector->connection < 0)
		collector->connection = accept4(collector->socket, NULL, NULL, SOCK_NONBLOCK);
	n = recv(collector->way->stream ? collector->connection : collector->socket, data,
		 sizeof(data), 0);
	if (n > 0)
		feed(collector, data, (size_t)n);
	return n > 0;
}

/* The process is no more: all that it gave to the network, and the end. */
static void collect_rest(struct collector *collector)
{
	struct pollfd poll_fd = {.events = POLLIN};

	while (collect(collector))
		;
	if (collector->way->stream && collector->connection >= 0) {
		poll_fd.fd = collector->connection;
		while (poll(&poll_fd, 1, 1000) > 0 && collect(collector))
			;
		close(collector->connection);
		collector->connection = -1;
	}
	if (collector->way->secure) {
		poll_fd.fd = -1;
		if (collector->way->stream && collector->peer.connection)
			poll_fd.fd = SSL_get_fd(collector->peer.connection);
		while (poll_fd.fd >= 0 && !collector->peer.ended && poll(&poll_fd, 1, 1000) > 0)
			peer_step(&collector->peer);
		peer_forget(&collector->peer);
	}
	collector->parts += collector->size > 0;
	collector->size = 0;
}

static void collector_done(struct collector *collector)
{
	if (collector->way->secure)
		peer_done(&collector->peer);
	else
		close(collector->socket);
}

/* --- lives --- */

/* One process, to its end. */
static void one_life(struct collector *collector, SSL_CTX *context, enum place place)
{
	unsigned int times = 1 + (unsigned int)random() % (place <= PLACE_AFTER_CALL ? 4 : 12);
	uint64_t limit = (uint64_t)random() % (5 * FM_NS_PER_MS);
	int status;
	pid_t pid = fork();

	if (pid == 0) {
		plan.place = place;
		plan.times = times;
		live(collector->way, &collector->address, context);
	}
	if (collector->way->secure)
		limit += 6 * FM_NS_PER_MS; /* beyond the handshake */
	for (uint64_t begin = fm_clock_monotonic_ns(); waitpid(pid, &status, WNOHANG) == 0;) {
		collect(collector);
		if (place == PLACE_RANDOM && fm_clock_monotonic_ns() - begin > limit)
			kill(pid, SIGKILL);
	}
	if (!WIFSIGNALED(status) ? WEXITSTATUS(status) != 0 : WTERMSIG(status) != SIGKILL)
		collector->faults++;
	collect_rest(collector);
}

static SSL_CTX *make_context(const struct way *way)
{
	const struct fm_tls_files files = {path_of("client.pem"), path_of("client.key"),
					   path_of("ca.pem")};
	struct fm_buf complaint = {};
	const char *const *part;
	SSL_CTX *context;

	if (!way->secure)
		return NULL;
	if (fm_tls_context_new(&context, &files, !way->stream, &part, &complaint) < 0)
		abort();
	return context;
}

static void test_killed(const struct way *way, enum place place)
{
	static struct collector collector;
	SSL_CTX *context = make_context(way);
	unsigned int once = 0, twice = 0, never = 0, killed = 0;

	memset(shared, 0, sizeof(*shared));
	collector_init(&collector, way);
	while (!shared->complete && killed < LIVES) {
		one_life(&collector, context, killed < LIVES - 1 ? place : PLACE_NONE);
		killed += !shared->complete;
	}
	for (unsigned int id = 1; id <= MESSAGES; id++) {
		once += collector.got[id] == 1;
		twice += collector.got[id] > 1;
		never += collector.got[id] == 0;
	}
	if (!FM_TEST(once == MESSAGES && killed > 2 && !collector.faults,
		     "%s killed %s %u times: each message once", way->ops->name, place_names[place],
		     killed))
		FM_TEST_NOTE("once %u, twice %u, never %u; faults %u", once, twice, never,
			     collector.faults);
	if (way->ops == &fm_transport_tcp && place != PLACE_RANDOM)
		FM_TEST(collector.parts > 0, "%s: %u of the times within a message", way->ops->name,
			collector.parts);
	fm_tls_context_free(context);
	collector_done(&collector);
}

/* What rows say at their edges. */
static void test_rows(void)
{
	const struct fm_message_info info = {.outbox_id = 5};
	struct fm_slip slip = {};
	struct fm_slip_row row;

	fm_slip_init(&slip);
	FM_TEST(fm_slip_rows(&slip) == 1 && fm_slip_row(&slip, 0, &row) == FM_SLIP_STATE_NOT,
		"slip: nothing is out at first");
	fm_slip_add(&slip, &info, 3, 100);
	slip.headers[3].msg_len = 100;
	FM_TEST(fm_slip_rows(&slip) == 1, "slip: what is not armed does not count");
	fm_slip_arm(&slip);
	FM_TEST(fm_slip_rows(&slip) == 2 && fm_slip_row(&slip, 1, &row) == FM_SLIP_STATE_OUT &&
			row.outbox_id == 5,
		"slip: out when the last octet is");
	slip.headers[3].msg_len = 99;
	FM_TEST(fm_slip_row(&slip, 1, &row) == FM_SLIP_STATE_NOT, "slip: not an octet before");
	fm_slip_before(&slip, &info);
	fm_slip_clear(&slip);
	FM_TEST(fm_slip_rows(&slip) == 1 && fm_slip_row(&slip, 0, &row) == FM_SLIP_STATE_OUT &&
			row.outbox_id == 5,
		"slip: the one before stays");
	memset(&slip, 0xff, sizeof(slip));
	FM_TEST(fm_slip_rows(&slip) == FM_SLIP_CALL + 1 &&
			fm_slip_row(&slip, FM_SLIP_CALL, &row) == FM_SLIP_STATE_NOT,
		"slip: garbage has bounds");
}

int main(void)
{
	int r = peer_certificates_new();

	if (r < 0)
		return fm_test_bail("certificates", -r);
	shared = mmap(NULL, sizeof(*shared), PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1,
		      0);
	if (shared == MAP_FAILED)
		return fm_test_bail("mmap", errno);
	signal(SIGPIPE, SIG_IGN);
	srandom(1);
	test_rows();
	for (unsigned int i = 0; i < FM_ARRAY_SIZE(ways); i++)
		for (enum place place = PLACE_BEFORE_CALL; place < _PLACE_MAX; place++)
			test_killed(&ways[i], place);
	if (peer_certificates_done() < 0)
		return fm_test_bail("rm", 0);
	return fm_test_done();
}
