/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A file, a pipe or the terminal as a transport. Never waits for a reader that does not read: a
 * pipe takes up to PIPE_BUF octets at once if it says that it is writable (pipe(7)), so messages
 * are kept that small by whoever makes them.
 */
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/stat.h>

#include "base/macro.h"
#include "ipfix/transport.h"

#define REOPEN_NS (5 * FM_NS_PER_S)
/* A message is written, and then noted: this is more than one has. */
#define UNNOTED_MAX 65536

struct file {
	struct fm_transport transport;
	char *path;
	bool regular;
	bool failed;
};

static struct fm_transport *file_new(const struct fm_transport_options *options)
{
	struct file *file = calloc(1, sizeof(*file));

	if (!file)
		return NULL;
	file->path = strdup(options->path);
	if (!file->path) {
		free(file);
		return NULL;
	}
	return &file->transport;
}

static void file_free(struct fm_transport *transport)
{
	struct file *file = FM_CONTAINER_OF(transport, struct file, transport);

	free(file->path);
	free(file);
}

static void set_state(struct file *file, int error)
{
	const struct fm_transport_options *options = &file->transport.options;

	if (file->failed != (error < 0))
		options->state(options->userdata, error);
	file->failed = error < 0;
}

static void note(struct fm_transport_mark *mark, uint64_t octets, uint64_t outbox_id)
{
	uint64_t other = !(mark->which & 1);

	mark->written[other] = (struct fm_transport_written){octets, outbox_id};
	__atomic_store_n(&mark->which, other, __ATOMIC_SEQ_CST);
}

/*
 * What a killed process wrote and could not note is taken back: the messages come again. A file
 * that is another, or was cut, begins where it ends.
 */
static void resume(struct file *file, const struct stat *status)
{
	struct fm_transport_mark *mark = file->transport.options.mark;
	uint64_t size = (uint64_t)status->st_size, octets;

	if (!mark || !file->regular)
		return;
	octets = mark->written[mark->which & 1].octets;
	if (mark->device == status->st_dev && mark->inode == status->st_ino && size > octets &&
	    size - octets <= UNNOTED_MAX && ftruncate(file->transport.fd, (off_t)octets) == 0)
		size = octets;
	/* In this order: nothing of one file is ever said of another. */
	__atomic_store_n(&mark->inode, 0, __ATOMIC_SEQ_CST);
	mark->device = status->st_dev;
	note(mark, size, 0);
	__atomic_store_n(&mark->inode, status->st_ino, __ATOMIC_SEQ_CST);
}

/* A message is in the file whole: one store says both where it ends and that it is there. */
static void note_written(struct file *file, const struct fm_message *message)
{
	struct fm_transport_mark *mark = file->transport.options.mark;

	if (mark && file->regular)
		note(mark, mark->written[mark->which & 1].octets + message->size,
		     message->info.outbox_id);
}

/* Of what is written to a pipe nothing can be taken back, and nothing says how far it came. */
static void doubt(struct file *file, const struct fm_message *message)
{
	struct fm_slip *slip = file->transport.slip;

	if (file->regular)
		return;
	fm_slip_clear(slip);
	fm_slip_add(slip, &message->info, 0, FM_SLIP_UNSURE);
	fm_slip_arm(slip);
}

static void file_start(struct fm_transport *transport, uint64_t now_ns)
{
	struct file *file = FM_CONTAINER_OF(transport, struct file, transport);
	struct stat status;
	int fd;

	/* A FIFO without a reader must not hold the daemon: non-blocking, tried again later. */
	if (!strcmp(file->path, "-"))
		fd = fcntl(STDOUT_FILENO, F_DUPFD_CLOEXEC, 3);
	else
		fd = open(file->path,
			  O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC | O_NOCTTY | O_NONBLOCK, 0640);
	if (fd < 0) {
		transport->deadline_ns = now_ns + REOPEN_NS;
		set_state(file, -errno);
		return;
	}
	file->regular = fstat(fd, &status) == 0 && S_ISREG(status.st_mode);
	transport->fd = fd;
	resume(file, &status);
	transport->deadline_ns = UINT64_MAX;
	set_state(file, 0);
	transport->options.begun(transport->options.userdata);
}

static bool is_writable(const struct file *file)
{
	struct pollfd poll_fd = {.fd = file->transport.fd, .events = POLLOUT};

	return file->regular || poll(&poll_fd, 1, 0) > 0;
}

static void stalled(struct fm_transport *transport, uint64_t now_ns)
{
	transport->events = EPOLLOUT;
	if (!transport->stalled_since_ns)
		transport->stalled_since_ns = now_ns;
}

/* Half a message would spoil the one after it. */
static void take_back(const struct file *file, const struct fm_message *message)
{
	struct stat status;

	if (!message->done || !file->regular || fstat(file->transport.fd, &status) < 0 ||
	    (size_t)status.st_size < message->done)
		return;
	/* Where even this fails, a broken line is all there is to be had. */
	if (ftruncate(file->transport.fd, status.st_size - (off_t)message->done) == 0)
		lseek(file->transport.fd, 0, SEEK_END);
}

static void file_flush(struct fm_transport *transport, uint64_t now_ns)
{
	struct file *file = FM_CONTAINER_OF(transport, struct file, transport);

	transport->events = 0;
	while (transport->first && transport->fd >= 0) {
		struct fm_message *message = transport->first;
		ssize_t n;

		if (!is_writable(file)) {
			stalled(transport, now_ns);
			return;
		}
		doubt(file, message);
		n = write(transport->fd, message->data + message->done,
			  message->size - message->done);
		if (n >= 0) {
			transport->stalled_since_ns = 0;
			message->done += (size_t)n;
			if (message->done == message->size) {
				set_state(file, 0);
				note_written(file, message);
				fm_transport_pop_sent(transport);
			}
		} else if (errno == EAGAIN) {
			stalled(transport, now_ns);
			return;
		} else if (errno != EINTR) { /* ENOSPC, EPIPE, EIO...: this one does not go */
			set_state(file, -errno);
			take_back(file, message);
			fm_transport_pop_lost(transport, FM_NOT_SENT_not_written);
		}
	}
}

static void file_send(struct fm_transport *transport, const uint8_t *message, size_t size,
		      const struct fm_message_info *info, uint64_t now_ns)
{
	if (transport->fd < 0) {
		fm_transport_lose(transport, message, size, info, FM_NOT_SENT_not_written);
		return;
	}
	fm_transport_push(transport, message, size, info);
	if (!transport->stalled_since_ns)
		file_flush(transport, now_ns);
}

static void file_dispatch(struct fm_transport *transport, uint64_t now_ns)
{
	if (transport->fd < 0)
		file_start(transport, now_ns);
	else
		file_flush(transport, now_ns);
}

static void file_stop(struct fm_transport *transport)
{
	fm_transport_lose_all(transport, FM_NOT_SENT_stopped);
}

const struct fm_transport_ops fm_transport_file = {
	.name = "file",
	.new = file_new,
	.free = file_free,
	.start = file_start,
	.send = file_send,
	.flush = file_flush,
	.dispatch = file_dispatch,
	.stop = file_stop,
};
