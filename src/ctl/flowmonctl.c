/* SPDX-License-Identifier: Apache-2.0 */
/*
 * flowmonctl: asks a running flowmond. Sends one line to its control socket and prints what comes
 * back. Every wait ends at one deadline and the answer's size is bounded, so that whatever sits on
 * the other end of the socket cannot hang it or fill a terminal with control sequences.
 */
#include <errno.h>
#include <getopt.h>
#include <poll.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include "base/cleanup.h"
#include "base/clock.h"
#include "base/macro.h"

#define CONTROL_SOCKET "/run/flowmond/control"
#define DEADLINE_NS    (5 * FM_NS_PER_S)
#define ANSWER_MAX     (16u << 20)

static const char usage[] =
	"usage: flowmonctl [--socket PATH] status [--json]\n"
	"       flowmonctl [--socket PATH] metrics\n"
	"\n"
	"Shows what the running flowmond does.\n"
	"\n"
	"  status          where packets went, in all, by interface and by cause; collectors\n"
	"  --json          as JSON\n"
	"  metrics         the same in Prometheus' text format\n"
	"  --socket PATH   flowmond's control socket (default " CONTROL_SOCKET ")\n"
	"  --version       print the version\n"
	"  --help          print this\n";

static const struct option options[] = {
	{"json", no_argument, NULL, 'j'},
	{"socket", required_argument, NULL, 's'},
	{"version", no_argument, NULL, 'v'},
	{"help", no_argument, NULL, 'h'},
	{},
};

/* Waits for events on fd until deadline_ns (CLOCK_MONOTONIC). 0, -ETIMEDOUT or -errno. */
static int wait_for(int fd, short events, uint64_t deadline_ns)
{
	for (;;) {
		struct pollfd pollfd = {.fd = fd, .events = events};
		uint64_t now_ns = fm_clock_monotonic_ns();
		int n;

		if (now_ns >= deadline_ns)
			return -ETIMEDOUT;
		n = poll(&pollfd, 1, (int)((deadline_ns - now_ns) / FM_NS_PER_MS) + 1);
		if (n > 0)
			return 0;
		if (n < 0 && errno != EINTR)
			return -errno;
	}
}

/* Connects to the socket at path. 0 or -errno; -EAGAIN: the daemon does not accept. */
static int open_socket(const char *path, int *ret_fd)
{
	struct sockaddr_un address = {.sun_family = AF_UNIX};
	_fm_cleanup_close_ int fd = -1;
	size_t length = strlen(path);

	if (length == 0 || length >= sizeof(address.sun_path))
		return -ENAMETOOLONG;
	memcpy(address.sun_path, path, length);
	fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
	if (fd < 0)
		return -errno;
	if (connect(fd, (struct sockaddr *)&address, sizeof(address)) < 0)
		return -errno;
	*ret_fd = FM_TAKE_FD(fd);
	return 0;
}

static int send_line(int fd, const char *line, uint64_t deadline_ns)
{
	size_t left = strlen(line);

	while (left > 0) {
		ssize_t n = send(fd, line, left, MSG_NOSIGNAL);

		if (n >= 0) {
			line += n;
			left -= (size_t)n;
		} else if (errno == EAGAIN) {
			int r = wait_for(fd, POLLOUT, deadline_ns);

			if (r < 0)
				return r;
		} else if (errno != EINTR) {
			return -errno;
		}
	}
	return 0;
}

/* Where in UTF-8 a text is. */
struct place {
	unsigned char last;
	unsigned int follow; /* octets of a character that are to come */
};

/* Whether an octet of 0x80 to 0xbf has no place there, or makes a character longer than it is. */
static bool is_astray(const struct place *at, unsigned char c)
{
	return !at->follow || (at->last == 0xe0 && c < 0xa0) || (at->last == 0xf0 && c < 0x90);
}

/*
 * What a terminal would obey becomes a question mark: control characters, those of 0x80 to 0x9f
 * (C1) as such and in UTF-8. The octets go on with those before.
 */
static void make_plain(unsigned char *text, size_t length, struct place *at)
{
	for (size_t i = 0; i < length; i++) {
		unsigned char c = text[i];

		if ((c < 0x20 && c != '\n' && c != '\t') || c == 0x7f)
			text[i] = '?';
		if (c >= 0x80 && c < 0xc0) {
			bool astray = is_astray(at, c);

			if (c < 0xa0 && (astray || at->last == 0xc2))
				text[i] = '?';
			at->follow = astray ? 0 : at->follow - 1;
		} else {
			at->follow = c < 0xc2 ? 0 : c < 0xe0 ? 1 : c < 0xf0 ? 2 : c < 0xf5 ? 3 : 0;
		}
		at->last = c;
	}
}

/* Prints what the daemon sends until it closes. -ENODATA if that is nothing. */
static int print_answer(int fd, uint64_t deadline_ns)
{
	struct place at = {};
	size_t total = 0;

	for (;;) {
		unsigned char text[4096];
		ssize_t n;
		int r = wait_for(fd, POLLIN, deadline_ns);

		if (r < 0)
			return r;
		n = recv(fd, text, sizeof(text), 0);
		if (n < 0 && (errno == EINTR || errno == EAGAIN))
			continue;
		if (n < 0)
			return -errno;
		if (n == 0)
			return total > 0 ? 0 : -ENODATA;
		total += (size_t)n;
		if (total > ANSWER_MAX)
			return -EFBIG;
		make_plain(text, (size_t)n, &at);
		if (fwrite(text, 1, (size_t)n, stdout) != (size_t)n)
			return -EIO;
	}
}

static int ask(const char *path, const char *line)
{
	uint64_t deadline_ns = fm_clock_monotonic_ns() + DEADLINE_NS;
	_fm_cleanup_close_ int fd = -1;
	int r;

	r = open_socket(path, &fd);
	if (r == -ENOENT || r == -ECONNREFUSED) {
		fprintf(stderr, "flowmonctl: flowmond is not running: %s: %s\n", path,
			strerror(-r));
		return r;
	}
	if (r == -EACCES) {
		fprintf(stderr, "flowmonctl: %s: not permitted; root and group flowmond may ask\n",
			path);
		return r;
	}
	if (r >= 0)
		r = send_line(fd, line, deadline_ns);
	if (r >= 0)
		r = print_answer(fd, deadline_ns);
	if (fflush(stdout) != 0 && r >= 0)
		r = -errno;
	if (r == -ENODATA)
		fprintf(stderr, "flowmonctl: %s: closed without an answer\n", path);
	else if (r == -ETIMEDOUT || r == -EAGAIN)
		fprintf(stderr, "flowmonctl: %s: no complete answer within 5 s\n", path);
	else if (r < 0)
		fprintf(stderr, "flowmonctl: %s: %s\n", path, strerror(-r));
	return r;
}

int main(int argc, char **argv)
{
	const char *path = CONTROL_SOCKET, *request = NULL;
	bool json = false;
	int option;

	while ((option = getopt_long(argc, argv, "", options, NULL)) != -1) {
		switch (option) {
		case 'j':
			json = true;
			break;
		case 's':
			path = optarg;
			break;
		case 'v':
			puts("flowmonctl " FM_VERSION);
			return EXIT_SUCCESS;
		case 'h':
			fputs(usage, stdout);
			return EXIT_SUCCESS;
		default:
			fputs(usage, stderr);
			return EXIT_FAILURE;
		}
	}
	if (optind + 1 == argc && strcmp(argv[optind], "status") == 0)
		request = json ? "status json\n" : "status\n";
	else if (optind + 1 == argc && strcmp(argv[optind], "metrics") == 0 && !json)
		request = "metrics\n";
	if (!request) {
		fputs(usage, stderr);
		return EXIT_FAILURE;
	}
	return ask(path, request) < 0 ? EXIT_FAILURE : EXIT_SUCCESS;
}
