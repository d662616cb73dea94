/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Transports against peers of all manners: that refuse, come late, reset, stall, read. Of every
 * record given it must be known whether it was sent, and what was sent whole must be decodable.
 */
#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <netinet/in.h>
#include <poll.h>
#include <signal.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/macro.h"
#include "ipfix/transport.h"
#include "reader.h"
#include "records.h"
#include "test.h"

#define MESSAGE_SIZE 1400
#define RECONNECT_NS (50 * FM_NS_PER_MS)
#define TIMEOUT_NS   (10 * FM_NS_PER_S)

/* A session, a transport, and their account. */
struct rig {
	struct fm_session_options session_options;
	struct fm_session *session;
	struct fm_transport_options options;
	struct fm_transport *transport;
	struct sums given, sent, lost;
	unsigned int begun, errors, ups;
	int last_error;
	uint64_t slowest_ns; /* call of a transport */
};

static void on_begun(void *userdata)
{
	struct rig *rig = userdata;

	rig->begun++;
	if (rig->transport->ops != &fm_transport_udp)
		fm_session_restart(rig->session);
	fm_session_templates(rig->session, fm_clock_realtime_ns());
}

static void add(struct sums *sums, const struct fm_message_info *info)
{
	sums->records += info->records;
	sums->packets += info->packets;
	sums->octets += info->octets;
}

static void on_sent(void *userdata, const struct fm_message_info *info, size_t size)
{
	add(&((struct rig *)userdata)->sent, info);
}

static void on_lost(void *userdata, const struct fm_message_info *info, size_t size)
{
	add(&((struct rig *)userdata)->lost, info);
}

static void on_state(void *userdata, int error)
{
	struct rig *rig = userdata;

	if (error < 0) {
		rig->errors++;
		rig->last_error = error;
	} else {
		rig->ups++;
	}
}

static void took_since(struct rig *rig, uint64_t begin)
{
	rig->slowest_ns = FM_MAX(rig->slowest_ns, fm_clock_monotonic_ns() - begin);
}

static void on_message(void *userdata, const uint8_t *message, size_t size,
		       const struct fm_message_info *info)
{
	struct rig *rig = userdata;
	uint64_t begin = fm_clock_monotonic_ns();

	rig->transport->ops->send(rig->transport, message, size, info, begin);
	took_since(rig, begin);
}

static void rig_init(struct rig *rig, const struct fm_transport_ops *ops,
		     const struct sockaddr_in6 *address, const char *path)
{
	*rig = (struct rig){
		.session_options = {.profile = FM_P_STANDARD,
				    .domain = 7,
				    .enterprise_number = 32473,
				    .message_size = MESSAGE_SIZE},
		.options = {.path = path,
			    .queue_octets = 1 << 20,
			    .reconnect_ns = RECONNECT_NS,
			    .begun = on_begun,
			    .sent = on_sent,
			    .lost = on_lost,
			    .state = on_state,
			    .userdata = rig},
	};
	if (address) {
		memcpy(&rig->options.address, address, sizeof(*address));
		rig->options.address_size = address->sin6_family == AF_INET
						    ? sizeof(struct sockaddr_in)
						    : sizeof(*address);
	}
	if (fm_session_new(&rig->session, &rig->session_options, on_message, rig) < 0 ||
	    fm_transport_new(&rig->transport, ops, &rig->options) < 0)
		abort();
}

static void rig_start(struct rig *rig)
{
	rig->transport->ops->start(rig->transport, fm_clock_monotonic_ns());
}

/* What is given becomes messages that wait. */
static void give_waiting(struct rig *rig, unsigned int n)
{
	for (unsigned int i = 0; i < n; i++) {
		struct fm_record record;

		records_make(&record, 1, rig->given.records, false, fm_clock_realtime_ns());
		rig->given.records++;
		rig->given.packets += record.packets;
		rig->given.octets += record.octets;
		if (fm_session_record(rig->session, &record, fm_clock_realtime_ns()) < 0)
			abort();
	}
	fm_session_flush(rig->session, fm_clock_realtime_ns());
}

static void give(struct rig *rig, unsigned int n)
{
	uint64_t begin;

	give_waiting(rig, n);
	begin = fm_clock_monotonic_ns();
	rig->transport->ops->flush(rig->transport, begin);
	took_since(rig, begin);
}

/* As an event loop would. */
static void step(struct rig *rig)
{
	struct pollfd poll_fd = {.fd = rig->transport->fd, .events = (short)rig->transport->events};
	uint64_t begin;

	poll(&poll_fd, 1, 1);
	begin = fm_clock_monotonic_ns();
	if ((poll_fd.fd >= 0 && poll_fd.revents) || begin >= rig->transport->deadline_ns)
		rig->transport->ops->dispatch(rig->transport, begin);
	took_since(rig, begin);
}

/* Steps until condition, 10 s at most. */
#define STEP_UNTIL(rig, condition)                                                                 \
	({                                                                                         \
		uint64_t end_ = fm_clock_monotonic_ns() + TIMEOUT_NS;                              \
		while (!(condition) && fm_clock_monotonic_ns() < end_)                             \
			step(rig);                                                                 \
		(condition);                                                                       \
	})

static void rig_done(struct rig *rig)
{
	rig->transport = fm_transport_free(rig->transport);
	rig->session = fm_session_free(rig->session);
}

static bool adds_up(const struct rig *rig)
{
	const struct sums sum = {
		rig->sent.records + rig->lost.records,
		rig->sent.packets + rig->lost.packets,
		rig->sent.octets + rig->lost.octets,
	};

	return same(&sum, &rig->given);
}

static int open_socket(int family, int type, struct sockaddr_in6 *ret)
{
	struct sockaddr_in ip4 = {.sin_family = AF_INET, .sin_addr = {htonl(INADDR_LOOPBACK)}};
	socklen_t size = family == AF_INET ? sizeof(ip4) : sizeof(*ret);
	int fd = socket(family, type | SOCK_CLOEXEC, 0), octets = 1 << 20;

	if (type == SOCK_DGRAM)
		setsockopt(fd, SOL_SOCKET, SO_RCVBUF, &octets, sizeof(octets));
	*ret = (struct sockaddr_in6){.sin6_family = AF_INET6, .sin6_addr = in6addr_loopback};
	if (family == AF_INET)
		memcpy(ret, &ip4, sizeof(ip4));
	if (bind(fd, (struct sockaddr *)ret, size) < 0 ||
	    getsockname(fd, (struct sockaddr *)ret, &size) < 0)
		abort();
	return fd;
}

/* A stream socket with small buffers, if small. */
static int listening(int family, bool small, struct sockaddr_in6 *ret)
{
	int fd = open_socket(family, SOCK_STREAM, ret), octets = 4096;

	if (small)
		setsockopt(fd, SOL_SOCKET, SO_RCVBUF, &octets, sizeof(octets));
	if (listen(fd, 4) < 0)
		abort();
	return fd;
}

/* The address stays free for whoever binds it again. */
static int listen_again(const struct sockaddr_in6 *address)
{
	int fd = socket(AF_INET6, SOCK_STREAM | SOCK_CLOEXEC, 0), on = 1;

	setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &on, sizeof(on));
	if (bind(fd, (const struct sockaddr *)address, sizeof(*address)) < 0 || listen(fd, 4) < 0)
		abort();
	return fd;
}

static int accepted(struct rig *rig, int listener)
{
	struct pollfd poll_fd = {.fd = listener, .events = POLLIN};

	return STEP_UNTIL(rig, poll(&poll_fd, 1, 0) > 0) ? accept(listener, NULL, NULL) : -1;
}

static void test_tcp(int family, const char *name)
{
	struct sockaddr_in6 address;
	int listener = listening(family, false, &address), fd;
	struct reader reader;
	struct rig rig;

	rig_init(&rig, &fm_transport_tcp, &address, NULL);
	reader_init(&reader, &rig.session_options);
	rig_start(&rig);
	fd = accepted(&rig, listener);
	STEP_UNTIL(&rig, rig.begun > 0);
	for (unsigned int i = 0; i < 20; i++) {
		give(&rig, 150);
		reader_drain(&reader, fd, true);
	}
	STEP_UNTIL(&rig,
		   reader_drain(&reader, fd, true) || reader.got.records == rig.given.records);
	FM_TEST(same(&reader.got, &rig.given), "tcp %s: what was given arrives", name);
	FM_TEST(same(&rig.sent, &rig.given) && !rig.lost.records, "tcp %s: counted as sent", name);
	FM_TEST(!reader.faults && reader.rounds == 1, "tcp %s: templates first, sequence right",
		name);
	close(fd);
	FM_TEST(STEP_UNTIL(&rig, rig.errors == 1 && rig.transport->fd < 0),
		"tcp %s: an idle connection that ends is noticed", name);
	rig_done(&rig);
	close(listener);
}

static void test_tcp_late(void)
{
	struct sockaddr_in6 address;
	struct reader reader;
	struct rig rig;
	uint64_t now;
	int listener, fd;

	close(listening(AF_INET6, false, &address));
	rig_init(&rig, &fm_transport_tcp, &address, NULL);
	reader_init(&reader, &rig.session_options);
	rig_start(&rig);
	FM_TEST(STEP_UNTIL(&rig, rig.errors > 0) && rig.last_error == -ECONNREFUSED,
		"tcp late: refused at first");
	now = fm_clock_monotonic_ns();
	FM_TEST(rig.transport->fd < 0 && rig.transport->deadline_ns <= now + RECONNECT_NS * 5 / 4,
		"tcp late: tried again within the interval and a quarter");
	give(&rig, 500);
	FM_TEST(STEP_UNTIL(&rig, rig.errors >= 3) && !rig.sent.records && !rig.lost.records,
		"tcp late: what comes meanwhile waits");
	listener = listen_again(&address);
	fd = accepted(&rig, listener);
	give(&rig, 300);
	STEP_UNTIL(&rig,
		   reader_drain(&reader, fd, true) || reader.got.records == rig.given.records);
	FM_TEST(same(&reader.got, &rig.given) && same(&rig.sent, &rig.given),
		"tcp late: everything arrives when the collector comes");
	FM_TEST(!reader.faults, "tcp late: templates first, sequence right");
	rig_done(&rig);
	close(fd);
	close(listener);
}

static void test_tcp_never(void)
{
	struct sockaddr_in6 address;
	struct rig rig;

	close(listening(AF_INET6, false, &address));
	rig_init(&rig, &fm_transport_tcp, &address, NULL);
	rig.transport->options.queue_octets = 20 * MESSAGE_SIZE;
	rig_start(&rig);
	STEP_UNTIL(&rig, rig.errors > 1);
	give(&rig, 5000);
	FM_TEST(rig.lost.records > 0 && rig.transport->waiting_octets <= 20 * MESSAGE_SIZE,
		"tcp refused: the queue is bounded");
	rig_done(&rig);
	FM_TEST(!rig.sent.records && same(&rig.lost, &rig.given),
		"tcp refused: everything is counted as lost at the end");
}

static void test_tcp_stalled(void)
{
	struct sockaddr_in6 address;
	int listener = listening(AF_INET6, true, &address), fd;
	struct reader reader;
	struct rig rig;

	rig_init(&rig, &fm_transport_tcp, &address, NULL);
	reader_init(&reader, &rig.session_options);
	rig_start(&rig);
	fd = accepted(&rig, listener);
	for (unsigned int i = 0; i < 1000; i++) {
		give(&rig, 100);
		step(&rig);
	}
	FM_TEST(rig.lost.records > 0 && rig.transport->waiting_octets <= 1 << 20,
		"tcp stalled: the queue is bounded, the rest counted");
	FM_TEST(rig.transport->stalled_since_ns != 0, "tcp stalled: known as stalled");
	FM_TEST(rig.slowest_ns < 500 * FM_NS_PER_MS, "tcp stalled: no call waits (%" PRIu64 " us)",
		rig.slowest_ns / 1000);
	STEP_UNTIL(&rig, reader_drain(&reader, fd, true) ||
				 (!rig.transport->first && reader.got.records == rig.sent.records));
	FM_TEST(!rig.transport->stalled_since_ns && !rig.transport->first,
		"tcp stalled: goes on when the collector reads");
	FM_TEST(same(&reader.got, &rig.sent), "tcp stalled: what counts as sent arrived");
	FM_TEST(reader.faults == 0, "tcp stalled: whole messages in order");
	rig_done(&rig);
	FM_TEST(adds_up(&rig), "tcp stalled: sent and lost are all that was given");
	close(fd);
	close(listener);
}

/* Ends a connection with a reset while a message is half read. */
static void reset(int fd)
{
	struct linger linger = {.l_onoff = 1};
	char part[MESSAGE_SIZE + 700];

	recv(fd, part, sizeof(part), MSG_WAITALL);
	setsockopt(fd, SOL_SOCKET, SO_LINGER, &linger, sizeof(linger));
	close(fd);
}

static void test_tcp_reset(void)
{
	struct sockaddr_in6 address;
	int listener = listening(AF_INET6, true, &address), fd;
	struct sums before;
	struct reader reader;
	struct rig rig;

	rig_init(&rig, &fm_transport_tcp, &address, NULL);
	reader_init(&reader, &rig.session_options);
	rig_start(&rig);
	fd = accepted(&rig, listener);
	STEP_UNTIL(&rig, rig.begun > 0);
	/* More than the kernel takes: a message is half written. */
	for (unsigned int i = 0; i < 200 && !rig.transport->stalled_since_ns; i++)
		give(&rig, 500);
	FM_TEST(rig.transport->stalled_since_ns && rig.transport->first,
		"tcp reset: messages wait when it comes");
	reset(fd);
	FM_TEST(STEP_UNTIL(&rig, rig.errors == 1), "tcp reset: noticed");
	before = rig.sent;
	fd = accepted(&rig, listener);
	give(&rig, 100);
	STEP_UNTIL(&rig, reader_drain(&reader, fd, true) || !rig.transport->first);
	STEP_UNTIL(&rig, reader_drain(&reader, fd, true) ||
				 reader.got.records + before.records == rig.sent.records);
	FM_TEST(rig.begun == 2 && reader.rounds == 1 && !reader.faults,
		"tcp reset: a new session, templates first, sequence from 0");
	reader.got.records += before.records;
	reader.got.packets += before.packets;
	reader.got.octets += before.octets;
	FM_TEST(same(&reader.got, &rig.sent), "tcp reset: what waited arrives in the new session");
	rig_done(&rig);
	FM_TEST(adds_up(&rig), "tcp reset: sent and lost are all that was given");
	close(fd);
	close(listener);
}

static void test_udp(int family, const char *name)
{
	struct sockaddr_in6 address;
	int fd = open_socket(family, SOCK_DGRAM, &address);
	struct reader reader;
	struct rig rig;

	rig_init(&rig, &fm_transport_udp, &address, NULL);
	reader_init(&reader, &rig.session_options);
	rig_start(&rig);
	for (unsigned int i = 0; i < 50; i++) {
		give(&rig, 60);
		step(&rig);
		reader_drain(&reader, fd, false);
	}
	FM_TEST(same(&reader.got, &rig.given), "udp %s: what was given arrives", name);
	FM_TEST(!reader.faults && reader.rounds == 1,
		"udp %s: a message a datagram, templates first, sequence right", name);
	rig_done(&rig);
	FM_TEST(same(&rig.sent, &rig.given) && !rig.lost.records, "udp %s: counted as sent", name);
	close(fd);
}

static void test_udp_refused(void)
{
	struct sockaddr_in6 address;
	struct reader reader;
	struct rig rig;
	struct sums before;
	uint64_t now;
	int fd;

	close(open_socket(AF_INET6, SOCK_DGRAM, &address));
	rig_init(&rig, &fm_transport_udp, &address, NULL);
	rig_start(&rig);
	for (unsigned int i = 0; i < 20; i++) {
		give(&rig, 100);
		step(&rig);
	}
	FM_TEST(rig.errors > 0 && rig.last_error == -ECONNREFUSED, "udp refused: noticed");
	FM_TEST(rig.lost.records > rig.given.records / 2,
		"udp refused: counted as lost (%" PRIu64 " of %" PRIu64 ")", rig.lost.records,
		rig.given.records);
	now = fm_clock_monotonic_ns();
	for (unsigned int i = 1; i <= 20; i++) {
		give_waiting(&rig, 1);
		rig.transport->ops->flush(rig.transport, now + i * FM_NS_PER_S);
	}
	FM_TEST(rig.ups == 1, "udp refused: not taken for back while every datagram is answered");
	fd = socket(AF_INET6, SOCK_DGRAM | SOCK_CLOEXEC, 0);
	if (bind(fd, (struct sockaddr *)&address, sizeof(address)) < 0)
		abort();
	/* The answer to the last datagram before is still to come. */
	step(&rig);
	rig.transport->ops->dispatch(rig.transport, fm_clock_monotonic_ns());
	before = rig.given;
	reader_init(&reader, &rig.session_options);
	reader_know_all(&reader);
	reader.expected[1] = (uint32_t)rig.given.records;
	now = fm_clock_monotonic_ns();
	give(&rig, 100);
	give(&rig, 1);
	reader_drain(&reader, fd, false);
	FM_TEST(reader.got.records == rig.given.records - before.records && !reader.faults,
		"udp refused: goes on when somebody listens, nothing is left out");
	rig.transport->ops->flush(rig.transport, now + 2 * FM_NS_PER_S);
	FM_TEST(rig.ups == 1, "udp refused: two seconds without an answer may be between two");
	rig.transport->ops->flush(rig.transport, fm_clock_monotonic_ns() + 3 * FM_NS_PER_S);
	FM_TEST(rig.ups == 2, "udp refused: after three it is told that it goes on");
	rig_done(&rig);
	FM_TEST(adds_up(&rig), "udp refused: sent and lost are all that was given");
	FM_TEST(rig.sent.records >= reader.got.records, "udp refused: what arrived counts as sent");
	close(fd);
}

static void move(struct rig *rig, const struct sockaddr_in6 *address)
{
	struct sockaddr_storage storage = {};

	memcpy(&storage, address, sizeof(*address));
	fm_transport_move(rig->transport, &storage, sizeof(*address), fm_clock_monotonic_ns());
}

/* The name stands for another address: what waits goes there, behind templates. */
static void test_udp_move(void)
{
	struct sockaddr_in6 addresses[2];
	int fds[2] = {open_socket(AF_INET6, SOCK_DGRAM, &addresses[0]),
		      open_socket(AF_INET6, SOCK_DGRAM, &addresses[1])};
	struct reader readers[2];
	struct sums got;
	struct rig rig;

	rig_init(&rig, &fm_transport_udp, &addresses[0], NULL);
	reader_init(&readers[0], &rig.session_options);
	reader_init(&readers[1], &rig.session_options);
	rig_start(&rig);
	give(&rig, 300);
	readers[1].expected[1] = (uint32_t)rig.given.records; /* numbers go on */
	give_waiting(&rig, 10);
	FM_TEST(rig.transport->first, "udp move: messages wait");
	move(&rig, &addresses[1]);
	give(&rig, 100);
	reader_drain(&readers[0], fds[0], false);
	reader_drain(&readers[1], fds[1], false);
	FM_TEST(readers[0].got.records == 300 && readers[1].got.records == 110,
		"udp move: what waited arrives at the new address");
	FM_TEST(!readers[0].faults && !readers[1].faults && readers[1].rounds == 1,
		"udp move: templates first, sequence goes on");
	got = (struct sums){readers[0].got.records + readers[1].got.records,
			    readers[0].got.packets + readers[1].got.packets,
			    readers[0].got.octets + readers[1].got.octets};
	rig_done(&rig);
	FM_TEST(same(&got, &rig.given) && same(&rig.sent, &rig.given),
		"udp move: everything arrives once and counts as sent");
	close(fds[0]);
	close(fds[1]);
}

static void test_tcp_move(void)
{
	struct sockaddr_in6 nobody, address;
	struct reader reader;
	struct rig rig;
	int listener, fd;

	close(listening(AF_INET6, false, &nobody));
	listener = listening(AF_INET6, false, &address);
	rig_init(&rig, &fm_transport_tcp, &nobody, NULL);
	reader_init(&reader, &rig.session_options);
	rig_start(&rig);
	STEP_UNTIL(&rig, rig.errors > 0);
	give(&rig, 300);
	move(&rig, &address);
	fd = accepted(&rig, listener);
	give(&rig, 100);
	STEP_UNTIL(&rig,
		   reader_drain(&reader, fd, true) || reader.got.records == rig.given.records);
	FM_TEST(same(&reader.got, &rig.given) && same(&rig.sent, &rig.given) && !reader.faults,
		"tcp move: what waited arrives at the new address, behind templates");
	close(fd);
	close(listener);
	listener = listening(AF_INET6, false, &address);
	give_waiting(&rig, 10);
	move(&rig, &address);
	reader_init(&reader, &rig.session_options);
	fd = accepted(&rig, listener);
	STEP_UNTIL(&rig, reader_drain(&reader, fd, true) || reader.got.records == 10);
	FM_TEST(reader.got.records == 10 && same(&rig.sent, &rig.given) && !reader.faults,
		"tcp move: out of a connection that stands, too");
	rig_done(&rig);
	close(fd);
	close(listener);
}

static void test_udp_too_long(void)
{
	static uint8_t message[65535];
	const struct fm_message_info info = {.records = 3, .packets = 5, .octets = 7};
	struct sockaddr_in6 address;
	int fd = open_socket(AF_INET, SOCK_DGRAM, &address);
	struct rig rig;
	uint64_t now = fm_clock_monotonic_ns();

	rig_init(&rig, &fm_transport_udp, &address, NULL);
	rig_start(&rig);
	rig.transport->ops->send(rig.transport, message, sizeof(message), &info, now);
	rig.transport->ops->send(rig.transport, message, 100, &info, now);
	rig.transport->ops->flush(rig.transport, now);
	FM_TEST(rig.lost.records == 3 && rig.last_error == -EMSGSIZE,
		"udp: a message that is too long is counted as lost");
	rig_done(&rig);
	FM_TEST(rig.sent.records == 3 && rig.lost.records == 3, "udp: the next one goes");
	close(fd);
}

static void send_text(struct rig *rig, unsigned int n)
{
	static const uint8_t text[1000];
	const struct fm_message_info info = {.records = 1, .packets = 2, .octets = 3};

	for (unsigned int i = 0; i < n; i++) {
		uint64_t begin = fm_clock_monotonic_ns();

		rig->given.records += 1;
		rig->given.packets += 2;
		rig->given.octets += 3;
		rig->transport->ops->send(rig->transport, text, sizeof(text), &info, begin);
		rig->transport->ops->flush(rig->transport, begin);
		took_since(rig, begin);
	}
}

static void on_begun_nothing(void *userdata)
{
}

static void file_rig(struct rig *rig, const char *path)
{
	rig_init(rig, &fm_transport_file, NULL, path);
	rig->transport->options.begun = on_begun_nothing;
	rig->transport->options.queue_octets = 100000;
	rig_start(rig);
}

static void test_file(const char *dir)
{
	struct stat status;
	struct rig rig;
	char path[256];

	snprintf(path, sizeof(path), "%s/file", dir);
	file_rig(&rig, path);
	send_text(&rig, 500);
	rig_done(&rig);
	FM_TEST(same(&rig.sent, &rig.given) && stat(path, &status) == 0 && status.st_size == 500000,
		"file: everything is written");
	unlink(path);
	file_rig(&rig, "/dev/full");
	send_text(&rig, 10);
	FM_TEST(rig.last_error == -ENOSPC, "file: no space is told");
	rig_done(&rig);
	FM_TEST(same(&rig.lost, &rig.given), "file: no space: counted as lost");
}

/* A file that may not grow further takes a part of a message first. */
static void test_file_limit(const char *dir)
{
	struct rlimit before, limit;
	struct stat status;
	struct rig rig;
	char path[256];

	snprintf(path, sizeof(path), "%s/limited", dir);
	getrlimit(RLIMIT_FSIZE, &before);
	limit = before;
	limit.rlim_cur = 10500;
	signal(SIGXFSZ, SIG_IGN);
	file_rig(&rig, path);
	setrlimit(RLIMIT_FSIZE, &limit);
	send_text(&rig, 20);
	setrlimit(RLIMIT_FSIZE, &before);
	FM_TEST(rig.last_error == -EFBIG && rig.sent.records == 10,
		"file: at its limit: what does not fit is given up");
	send_text(&rig, 5);
	FM_TEST(stat(path, &status) == 0 && status.st_size == 15000 && rig.sent.records == 15,
		"file: at its limit: no half message stays in it");
	rig_done(&rig);
	FM_TEST(adds_up(&rig), "file: at its limit: sent and lost are all that was given");
	unlink(path);
}

static void test_fifo(const char *dir)
{
	char path[256], text[4096];
	uint64_t got = 0;
	struct rig rig;
	int fd;

	snprintf(path, sizeof(path), "%s/fifo", dir);
	if (mkfifo(path, 0600) < 0)
		abort();
	file_rig(&rig, path);
	FM_TEST(rig.last_error == -ENXIO && rig.transport->deadline_ns != UINT64_MAX,
		"fifo: nobody reads: tried again later");
	rig_done(&rig);
	fd = open(path, O_RDONLY | O_NONBLOCK | O_CLOEXEC);
	file_rig(&rig, path);
	send_text(&rig, 1000);
	FM_TEST(rig.lost.records > 0 && rig.slowest_ns < 500 * FM_NS_PER_MS,
		"fifo: full: does not wait, the rest is counted");
	for (ssize_t n = 1; n > 0 || rig.transport->first; step(&rig)) {
		n = read(fd, text, sizeof(text));
		got += n > 0 ? (uint64_t)n : 0;
	}
	FM_TEST(got == rig.sent.records * 1000 && adds_up(&rig),
		"fifo: what counts as sent was there to read");
	close(fd);
	send_text(&rig, 3);
	FM_TEST(rig.last_error == -EPIPE, "fifo: a reader that is gone is told");
	rig_done(&rig);
	FM_TEST(adds_up(&rig), "fifo: sent and lost are all that was given");
	unlink(path);
}

/* Standard output is somebody else's too: it stays blocking, and yet nothing waits. */
static void test_stdout(void)
{
	int pipe_fds[2], saved;
	struct rig rig;

	fflush(stdout);
	saved = dup(STDOUT_FILENO);
	if (saved < 0 || pipe(pipe_fds) < 0)
		abort();
	dup2(pipe_fds[1], STDOUT_FILENO);
	file_rig(&rig, "-");
	dup2(saved, STDOUT_FILENO);
	send_text(&rig, 1000);
	FM_TEST(rig.sent.records >= 50 && rig.lost.records > 0,
		"standard output is a full pipe: does not wait, the rest is counted");
	rig_done(&rig);
	FM_TEST(adds_up(&rig), "standard output: sent and lost are all that was given");
	close(saved);
	close(pipe_fds[0]);
	close(pipe_fds[1]);
}

int main(void)
{
	char dir[] = "/tmp/test-transport-XXXXXX";

	if (!mkdtemp(dir))
		return fm_test_bail("mkdtemp", errno);
	signal(SIGPIPE, SIG_IGN); /* as the daemon does: a pipe has no MSG_NOSIGNAL */
	test_tcp(AF_INET, "IPv4");
	test_tcp(AF_INET6, "IPv6");
	test_tcp_late();
	test_tcp_never();
	test_tcp_stalled();
	test_tcp_reset();
	test_udp(AF_INET, "IPv4");
	test_udp(AF_INET6, "IPv6");
	test_tcp_move();
	test_udp_move();
	test_udp_refused();
	test_udp_too_long();
	test_file(dir);
	test_file_limit(dir);
	test_fifo(dir);
	test_stdout();
	rmdir(dir);
	return fm_test_done();
}
