/* SPDX-License-Identifier: Apache-2.0 */
/* Waiting for grace periods in a thread: see fence.h. */
#include "daemon/fence.h"

#include <errno.h>
#include <pthread.h>
#include <signal.h>
#include <stdlib.h>
#include <sys/eventfd.h>
#include <unistd.h>

struct fm_fence {
	struct fm_kernel *kernel;
	void (*done)(void *userdata, int error);
	void *userdata;
	sd_event_source *source;
	int done_fd;
	pthread_t thread;
	bool running;
	pthread_mutex_t lock;
	pthread_cond_t wanted;
	/* under lock */
	bool request;
	bool quit;
	int error;
};

static void *wait_loop(void *argument)
{
	struct fm_fence *fence = argument;
	uint64_t one = 1;
	int r;

	pthread_mutex_lock(&fence->lock);
	for (;;) {
		while (!fence->request && !fence->quit)
			pthread_cond_wait(&fence->wanted, &fence->lock);
		if (fence->quit)
			break;
		fence->request = false;
		pthread_mutex_unlock(&fence->lock);
		r = fm_kernel_fence(fence->kernel);
		pthread_mutex_lock(&fence->lock);
		fence->error = r;
		/* An eventfd that is read after every write cannot be full. */
		do
			r = write(fence->done_fd, &one, sizeof(one)) < 0 ? -errno : 0;
		while (r == -EINTR);
	}
	pthread_mutex_unlock(&fence->lock);
	return NULL;
}

static int on_done(sd_event_source *source, int fd, uint32_t revents, void *userdata)
{
	struct fm_fence *fence = userdata;
	uint64_t count;
	int error;

	if (read(fd, &count, sizeof(count)) != (ssize_t)sizeof(count))
		return 0;
	pthread_mutex_lock(&fence->lock);
	error = fence->error;
	pthread_mutex_unlock(&fence->lock);
	fence->done(fence->userdata, error);
	return 0;
}

/* Signals are the event loop's. */
static int start_thread(struct fm_fence *fence)
{
	sigset_t all, before;
	int r;

	sigfillset(&all);
	pthread_sigmask(SIG_SETMASK, &all, &before);
	r = pthread_create(&fence->thread, NULL, wait_loop, fence);
	pthread_sigmask(SIG_SETMASK, &before, NULL);
	if (r == 0)
		fence->running = true;
	return -r;
}

int fm_fence_new(struct fm_fence **ret, sd_event *event, struct fm_kernel *kernel,
		 void (*done)(void *userdata, int error), void *userdata)
{
	_fm_cleanup_(fm_fence_freep) struct fm_fence *fence = calloc(1, sizeof(*fence));
	int r;

	if (!fence)
		return -ENOMEM;
	fence->kernel = kernel;
	fence->done = done;
	fence->userdata = userdata;
	pthread_mutex_init(&fence->lock, NULL);
	pthread_cond_init(&fence->wanted, NULL);
	fence->done_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
	if (fence->done_fd < 0)
		return -errno;
	r = sd_event_add_io(event, &fence->source, fence->done_fd, EPOLLIN, on_done, fence);
	if (r < 0)
		return r;
	r = start_thread(fence);
	if (r < 0)
		return r;
	*ret = FM_TAKE_PTR(fence);
	return 0;
}

struct fm_fence *fm_fence_free(struct fm_fence *fence)
{
	if (!fence)
		return NULL;
	if (fence->running) {
		pthread_mutex_lock(&fence->lock);
		fence->quit = true;
		pthread_cond_signal(&fence->wanted);
		pthread_mutex_unlock(&fence->lock);
		pthread_join(fence->thread, NULL);
	}
	sd_event_source_disable_unref(fence->source);
	if (fence->done_fd >= 0)
		close(fence->done_fd);
	pthread_mutex_destroy(&fence->lock);
	pthread_cond_destroy(&fence->wanted);
	free(fence);
	return NULL;
}

void fm_fence_request(struct fm_fence *fence)
{
	pthread_mutex_lock(&fence->lock);
	fence->request = true;
	pthread_cond_signal(&fence->wanted);
	pthread_mutex_unlock(&fence->lock);
}
