/* SPDX-License-Identifier: Apache-2.0 */
/* Writing IPFIX files: see file-writer.h. */
#include "ipfix/file-writer.h"

#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdlib.h>

/* A thread that only waits for the disk. */
#define SYNC_STACK_OCTETS (128 << 10)

/* What a thread works on; freed by the last who lets go of it. */
struct target {
	int fd;
	int directory_fd; /* the file's name is new in it; -1: it is known to be there */
	atomic_uint owners;
	atomic_bool busy;
	atomic_int error; /* of the last time */
};

struct fm_file_writer {
	struct target *target;
	uint64_t size;	 /* of whole messages */
	uint64_t synced; /* size when a thread began last */
};

static void let_go(struct target *target)
{
	if (atomic_fetch_sub(&target->owners, 1) > 1)
		return;
	close(target->fd);
	if (target->directory_fd >= 0)
		close(target->directory_fd);
	free(target);
}

static void *sync_target(void *argument)
{
	struct target *target = argument;
	int error = fdatasync(target->fd) < 0 ? -errno : 0;

	if (error == 0 && target->directory_fd >= 0) {
		if (fsync(target->directory_fd) < 0)
			error = -errno;
		close(target->directory_fd);
		target->directory_fd = -1;
	}
	atomic_store(&target->error, error);
	atomic_store(&target->busy, false);
	let_go(target);
	return NULL;
}

/* Signals are the event loop's. */
static int start_thread(struct target *target)
{
	sigset_t all, before;
	pthread_attr_t attributes;
	pthread_t thread;
	int r;

	pthread_attr_init(&attributes);
	pthread_attr_setdetachstate(&attributes, PTHREAD_CREATE_DETACHED);
	pthread_attr_setstacksize(&attributes, SYNC_STACK_OCTETS);
	sigfillset(&all);
	pthread_sigmask(SIG_SETMASK, &all, &before);
	r = pthread_create(&thread, &attributes, sync_target, target);
	pthread_sigmask(SIG_SETMASK, &before, NULL);
	pthread_attr_destroy(&attributes);
	return -r;
}

int fm_file_writer_new(struct fm_file_writer **ret, int directory_fd, const char *name)
{
	_fm_cleanup_free_ struct fm_file_writer *writer = calloc(1, sizeof(*writer));
	_fm_cleanup_free_ struct target *target = calloc(1, sizeof(*target));
	_fm_cleanup_close_ int own_fd = -1;
	int fd;

	if (!writer || !target)
		return -ENOMEM;
	/* Not a duplicate: the thread would hold the caller's lock of the directory. */
	own_fd = openat(directory_fd, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	if (own_fd < 0)
		return -errno;
	fd = openat(directory_fd, name, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC | O_NOFOLLOW, 0640);
	if (fd < 0)
		return -errno;
	target->fd = fd;
	target->directory_fd = FM_TAKE_FD(own_fd);
	atomic_init(&target->owners, 1);
	writer->target = FM_TAKE_PTR(target);
	*ret = FM_TAKE_PTR(writer);
	return 0;
}

struct fm_file_writer *fm_file_writer_abandon(struct fm_file_writer *writer)
{
	if (!writer)
		return NULL;
	let_go(writer->target);
	free(writer);
	return NULL;
}

struct fm_file_writer *fm_file_writer_free(struct fm_file_writer *writer)
{
	if (!writer)
		return NULL;
	fm_file_writer_sync(writer);
	return fm_file_writer_abandon(writer);
}

int fm_file_writer_append(struct fm_file_writer *writer, const uint8_t *message, size_t size)
{
	size_t done = 0;

	/* A second write only where the first was cut short: it says why. */
	while (done < size) {
		ssize_t n = pwrite(writer->target->fd, message + done, size - done,
				   (off_t)(writer->size + done));

		if (n < 0 && errno == EINTR)
			continue;
		if (n <= 0) {
			int error = n < 0 ? -errno : -EIO;

			/* Where this fails, the next message goes over what is there. */
			if (done && ftruncate(writer->target->fd, (off_t)writer->size) < 0)
				return error;
			return error;
		}
		done += (size_t)n;
	}
	writer->size += size;
	return 0;
}

uint64_t fm_file_writer_size(const struct fm_file_writer *writer)
{
	return writer->size;
}

int fm_file_writer_sync(struct fm_file_writer *writer)
{
	struct target *target = writer->target;
	int r;

	if (atomic_load(&target->busy))
		return 0; /* what came since is for the next time */
	r = atomic_load(&target->error);
	if (writer->synced == writer->size)
		return r;
	atomic_store(&target->busy, true);
	atomic_fetch_add(&target->owners, 1);
	writer->synced = writer->size;
	if (start_thread(target) < 0) { /* tried again next time; the system writes back as well */
		writer->synced = 0;
		atomic_store(&target->busy, false);
		let_go(target);
	}
	return r;
}
