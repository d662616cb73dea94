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
#include "rig.h"
#include "test.h"

static void test_tcp(int family, const char *name)
{
	struct sockaddr_in6 address;
	int listener = rig_listen(family, false, &address), fd;
	static struct reader reader;
	struct rig rig;

	rig_init(&rig, &fm_transport_tcp, &address, NULL);
	reader_init(&reader, &rig.session_options);
	rig_start(&rig);
	fd = rig_accepted(&rig, listener);
	STEP_UNTIL(&rig, rig.begun > 0);
	for (unsigned int i = 0; i < 20; i++) {
		rig_give(&rig, 150);
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
	static struct reader reader;
	struct rig rig;
	uint64_t now;
	int listener, fd;

	close(rig_listen(AF_INET6, false, &address));
	rig_init(&rig, &fm_transport_tcp, &address, NULL);
	reader_init(&reader, &rig.session_options);
	rig_start(&rig);
	FM_TEST(STEP_UNTIL(&rig, rig.errors > 0) && rig.last_error == -ECONNREFUSED,
		"tcp late: refused at first");
	now = fm_clock_monotonic_ns();
	FM_TEST(rig.transport->fd < 0 && rig.transport->deadline_ns <= now + RECONNECT_NS * 5 / 4,
		"tcp late: tried again within the interval and a quarter");
	rig_give(&rig, 500);
	FM_TEST(STEP_UNTIL(&rig, rig.errors >= 3) && !rig.sent.records && !rig.lost.records,
		"tcp late: what comes meanwhile waits");
	listener = rig_listen_again(&address);
	fd = rig_accepted(&rig, listener);
	rig_give(&rig, 300);
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

	close(rig_listen(AF_INET6, false, &address));
	rig_init(&rig, &fm_transport_tcp, &address, NULL);
	rig.transport->options.queue_octets = 20 * MESSAGE_SIZE;
	rig_start(&rig);
	STEP_UNTIL(&rig, rig.errors > 1);
	rig_give(&rig, 5000);
	FM_TEST(rig.lost.records > 0 && rig.transport->waiting_octets <= 20 * MESSAGE_SIZE,
		"tcp refused: the queue is bounded");
	rig_done(&rig);
	FM_TEST(!rig.sent.records && same(&rig.lost, &rig.given),
		"tcp refused: everything is counted as lost at the end");
}

static void test_tcp_stalled(void)
{
	struct sockaddr_in6 address;
	int listener = rig_listen(AF_INET6, true, &address), fd;
	static struct reader reader;
	struct rig rig;

	rig_init(&rig, &fm_transport_tcp, &address, NULL);
	reader_init(&reader, &rig.session_options);
	rig_start(&rig);
	fd = rig_accepted(&rig, listener);
	for (unsigned int i = 0; i < 1000; i++) {
		rig_give(&rig, 100);
		rig_step(&rig);
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
	FM_TEST(rig_adds_up(&rig), "tcp stalled: sent and lost are all that was given");
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
	int listener = rig_listen(AF_INET6, true, &address), fd;
	struct sums before;
	static struct reader reader;
	struct rig rig;

	rig_init(&rig, &fm_transport_tcp, &address, NULL);
	reader_init(&reader, &rig.session_options);
	rig_start(&rig);
	fd = rig_accepted(&rig, listener);
	STEP_UNTIL(&rig, rig.begun > 0);
	/* More than the kernel takes: a message is half written. */
	for (unsigned int i = 0; i < 200 && !rig.transport->stalled_since_ns; i++)
		rig_give(&rig, 500);
	FM_TEST(rig.transport->stalled_since_ns && rig.transport->first,
		"tcp reset: messages wait when it comes");
	reset(fd);
	FM_TEST(STEP_UNTIL(&rig, rig.errors == 1), "tcp reset: noticed");
	before = rig.sent;
	fd = rig_accepted(&rig, listener);
	rig_give(&rig, 100);
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
	FM_TEST(rig_adds_up(&rig), "tcp reset: sent and lost are all that was given");
	close(fd);
	close(listener);
}

static void test_udp(int family, const char *name)
{
	struct sockaddr_in6 address;
	int fd = rig_socket(family, SOCK_DGRAM, &address);
	static struct reader reader;
	struct rig rig;

	rig_init(&rig, &fm_transport_udp, &address, NULL);
	reader_init(&reader, &rig.session_options);
	rig_start(&rig);
	for (unsigned int i = 0; i < 50; i++) {
		rig_give(&rig, 60);
		rig_step(&rig);
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
	static struct reader reader;
	struct rig rig;
	struct sums before;
	uint64_t now;
	int fd;

	close(rig_socket(AF_INET6, SOCK_DGRAM, &address));
	rig_init(&rig, &fm_transport_udp, &address, NULL);
	rig_start(&rig);
	for (unsigned int i = 0; i < 20; i++) {
		rig_give(&rig, 100);
		rig_step(&rig);
	}
	FM_TEST(rig.errors > 0 && rig.last_error == -ECONNREFUSED, "udp refused: noticed");
	FM_TEST(rig.lost.records > rig.given.records / 2,
		"udp refused: counted as lost (%" PRIu64 " of %" PRIu64 ")", rig.lost.records,
		rig.given.records);
	now = fm_clock_monotonic_ns();
	for (unsigned int i = 1; i <= 20; i++) {
		rig_give_waiting(&rig, 1);
		rig.transport->ops->flush(rig.transport, now + i * FM_NS_PER_S);
	}
	FM_TEST(rig.ups == 1, "udp refused: not taken for back while every datagram is answered");
	fd = socket(AF_INET6, SOCK_DGRAM | SOCK_CLOEXEC, 0);
	if (bind(fd, (struct sockaddr *)&address, sizeof(address)) < 0)
		abort();
	/* The answer to the last datagram before is still to come. */
	rig_step(&rig);
	rig.transport->ops->dispatch(rig.transport, fm_clock_monotonic_ns());
	before = rig.given;
	reader_init(&reader, &rig.session_options);
	reader_know_all(&reader);
	reader.expected[1] = (uint32_t)rig.given.records;
	now = fm_clock_monotonic_ns();
	rig_give(&rig, 100);
	rig_give(&rig, 1);
	reader_drain(&reader, fd, false);
	FM_TEST(reader.got.records == rig.given.records - before.records && !reader.faults,
		"udp refused: goes on when somebody listens, nothing is left out");
	rig.transport->ops->flush(rig.transport, now + 2 * FM_NS_PER_S);
	FM_TEST(rig.ups == 1, "udp refused: two seconds without an answer may be between two");
	rig.transport->ops->flush(rig.transport, fm_clock_monotonic_ns() + 3 * FM_NS_PER_S);
	FM_TEST(rig.ups == 2, "udp refused: after three it is told that it goes on");
	rig_done(&rig);
	FM_TEST(rig_adds_up(&rig), "udp refused: sent and lost are all that was given");
	FM_TEST(rig.sent.records >= reader.got.records, "udp refused: what arrived counts as sent");
	close(fd);
}

/* The name stands for another address: what waits goes there, behind templates. */
static void test_udp_move(void)
{
	struct sockaddr_in6 addresses[2];
	int fds[2] = {rig_socket(AF_INET6, SOCK_DGRAM, &addresses[0]),
		      rig_socket(AF_INET6, SOCK_DGRAM, &addresses[1])};
	static struct reader readers[2];
	struct sums got;
	struct rig rig;

	rig_init(&rig, &fm_transport_udp, &addresses[0], NULL);
	reader_init(&readers[0], &rig.session_options);
	reader_init(&readers[1], &rig.session_options);
	rig_start(&rig);
	rig_give(&rig, 300);
	readers[1].expected[1] = (uint32_t)rig.given.records; /* numbers go on */
	rig_give_waiting(&rig, 10);
	FM_TEST(rig.transport->first, "udp move: messages wait");
	rig_move(&rig, &addresses[1]);
	rig_give(&rig, 100);
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
	static struct reader reader;
	struct rig rig;
	int listener, fd;

	close(rig_listen(AF_INET6, false, &nobody));
	listener = rig_listen(AF_INET6, false, &address);
	rig_init(&rig, &fm_transport_tcp, &nobody, NULL);
	reader_init(&reader, &rig.session_options);
	rig_start(&rig);
	STEP_UNTIL(&rig, rig.errors > 0);
	rig_give(&rig, 300);
	rig_move(&rig, &address);
	fd = rig_accepted(&rig, listener);
	rig_give(&rig, 100);
	STEP_UNTIL(&rig,
		   reader_drain(&reader, fd, true) || reader.got.records == rig.given.records);
	FM_TEST(same(&reader.got, &rig.given) && same(&rig.sent, &rig.given) && !reader.faults,
		"tcp move: what waited arrives at the new address, behind templates");
	close(fd);
	close(listener);
	listener = rig_listen(AF_INET6, false, &address);
	rig_give_waiting(&rig, 10);
	rig_move(&rig, &address);
	reader_init(&reader, &rig.session_options);
	fd = rig_accepted(&rig, listener);
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
	int fd = rig_socket(AF_INET, SOCK_DGRAM, &address);
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
		rig_took_since(rig, begin);
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
	FM_TEST(rig_adds_up(&rig), "file: at its limit: sent and lost are all that was given");
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
	for (ssize_t n = 1; n > 0 || rig.transport->first; rig_step(&rig)) {
		n = read(fd, text, sizeof(text));
		got += n > 0 ? (uint64_t)n : 0;
	}
	FM_TEST(got == rig.sent.records * 1000 && rig_adds_up(&rig),
		"fifo: what counts as sent was there to read");
	close(fd);
	send_text(&rig, 3);
	FM_TEST(rig.last_error == -EPIPE, "fifo: a reader that is gone is told");
	rig_done(&rig);
	FM_TEST(rig_adds_up(&rig), "fifo: sent and lost are all that was given");
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
	FM_TEST(rig_adds_up(&rig), "standard output: sent and lost are all that was given");
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
