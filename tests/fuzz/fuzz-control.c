/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The control socket: clients that send any octets in any pieces, do not read, or go away. An
 * answer is to a whole line, and as many octets as it has.
 */
#include <errno.h>
#include <poll.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include "base/log.h"
#include "daemon/control.h"
#include "fuzz.h"

#define CLIENTS 20

static struct sockaddr_un address = {.sun_family = AF_UNIX};
static sd_event *event;
static struct fm_control *control;
static size_t answers, answer_octets;

static int answer(void *userdata, const char *request, struct fm_buf *reply)
{
	answers++;
	FUZZ_CHECK(strlen(request) < 256 && !strchr(request, '\n'));
	if (*request == '-')
		return -EINVAL;
	for (size_t i = 0; i <= strlen(request) * 100; i++)
		fm_buf_printf(reply, "%s, ", request);
	fm_buf_printf(reply, ".");
	answer_octets = reply->size;
	return 0;
}

/* Everything that can be done now. */
static void turn(void)
{
	while (sd_event_run(event, 0) > 0)
		;
}

static void clean(void)
{
	unlink(address.sun_path);
}

int LLVMFuzzerInitialize(int *argc, char ***argv)
{
	snprintf(address.sun_path, sizeof(address.sun_path), "/tmp/fuzz-control-%d", getpid());
	fm_log_init(LOG_EMERG, false);
	FUZZ_CHECK(sd_event_new(&event) >= 0);
	FUZZ_CHECK(fm_control_new(&control, event, address.sun_path, answer, NULL) == 0);
	atexit(clean);
	return 0;
}

static int dial(void)
{
	int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
	socklen_t size = sizeof(address);
	struct sockaddr_un there = address;

	FUZZ_CHECK(fd >= 0);
	if (connect(fd, (struct sockaddr *)&there, size) == 0)
		return fd;
	close(fd);
	return -1;
}

/* Reads what is there; whether the other side has ended. */
static bool drain(int fd, size_t *octets)
{
	char text[4096];
	ssize_t n;

	while ((n = recv(fd, text, sizeof(text), 0)) > 0)
		*octets += (size_t)n;
	return n == 0 || (errno != EAGAIN && errno != EINTR);
}

/* A request in order is answered whatever happened before. */
static void ask(void)
{
	size_t octets = 0;
	int fd = dial();

	turn();
	answer_octets = 0;
	FUZZ_CHECK(fd >= 0 && send(fd, "status\n", 7, MSG_NOSIGNAL) == 7);
	do
		turn();
	while (!drain(fd, &octets));
	FUZZ_CHECK(octets && octets == answer_octets);
	close(fd);
	turn();
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct input input = {data, size};
	int fd[CLIENTS];
	size_t octets = 0, ignored = 0;

	memset(fd, 0xff, sizeof(fd));
	while (input.left) {
		uint8_t what = input_u8(&input);
		int *client = &fd[input_u8(&input) % CLIENTS];
		const uint8_t *text;

		if (*client < 0) {
			*client = dial();
			turn();
		}
		if (what & 1) {
			text = input_take(&input, what >> 1, &octets);
			ignored += send(*client, text, octets, MSG_NOSIGNAL) < 0;
		} else if (what & 2) {
			shutdown(*client, SHUT_WR);
		} else if (what & 4) {
			drain(*client, &ignored);
		} else {
			close(*client);
			*client = -1;
		}
		if (!(what & 8))
			turn();
	}
	for (size_t i = 0; i < CLIENTS; i++)
		if (fd[i] >= 0)
			close(fd[i]);
	turn();
	ask();
	return 0;
}
