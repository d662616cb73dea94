/* SPDX-License-Identifier: Apache-2.0 */
/* Name resolution off the loop: see resolve.h. */
#include "daemon/resolve.h"

#include <errno.h>
#include <netdb.h>
#include <pthread.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>

/* Shared by the thread and the loop; freed by the last of the two. */
struct query {
	char *host, *port;
	int done_fd;
	unsigned int users; /* atomic */
	int error;
	struct fm_addresses addresses;
};

struct fm_resolve {
	struct query *query;
	sd_event_source *source;
	fm_resolve_fn done;
	void *userdata;
};

static void query_unref(struct query *query)
{
	if (__atomic_sub_fetch(&query->users, 1, __ATOMIC_ACQ_REL) > 0)
		return;
	if (query->done_fd >= 0)
		close(query->done_fd);
	free(query->host);
	free(query->port);
	free(query);
}

static int ask(const char *host, const char *port, int flags, struct fm_addresses *ret)
{
	const struct addrinfo hints = {
		.ai_family = AF_UNSPEC,
		.ai_socktype = SOCK_DGRAM,
		.ai_flags = flags | AI_NUMERICSERV,
	};
	struct addrinfo *answers;
	int r = getaddrinfo(host, port, &hints, &answers);

	switch (r) {
	case 0:
		break;
	case EAI_AGAIN:
		return -EAGAIN;
	case EAI_MEMORY:
		return -ENOMEM;
	default:
		return -ENOENT;
	}
	*ret = (struct fm_addresses){};
	for (const struct addrinfo *at = answers; at && ret->n < FM_RESOLVE_MAX; at = at->ai_next) {
		memcpy(&ret->v[ret->n].address, at->ai_addr, at->ai_addrlen);
		ret->v[ret->n++].size = at->ai_addrlen;
	}
	freeaddrinfo(answers);
	return 0;
}

int fm_resolve_number(const char *host, const char *port, struct fm_addresses *ret)
{
	return ask(host, port, AI_NUMERICHOST, ret) < 0 ? -EINVAL : 0;
}

bool fm_resolve_holds(const struct fm_addresses *addresses, const struct sockaddr_storage *address,
		      socklen_t size)
{
	for (size_t i = 0; i < addresses->n; i++)
		if (addresses->v[i].size == size &&
		    !memcmp(&addresses->v[i].address, address, size))
			return true;
	return false;
}

static void *resolve_thread(void *argument)
{
	struct query *query = argument;
	uint64_t one = 1;
	ssize_t n;

	query->error = ask(query->host, query->port, AI_ADDRCONFIG, &query->addresses);
	n = write(query->done_fd, &one, sizeof(one)); /* an empty eventfd takes it */
	(void)n;
	query_unref(query);
	return NULL;
}

static int on_done(sd_event_source *source, int fd, uint32_t revents, void *userdata)
{
	struct fm_resolve *resolve = userdata;
	const struct query *query = resolve->query;
	uint64_t count;

	if (read(fd, &count, sizeof(count)) != (ssize_t)sizeof(count))
		return 0;
	sd_event_source_set_enabled(source, SD_EVENT_OFF);
	resolve->done(resolve->userdata, query->error, &query->addresses);
	return 0;
}

static struct query *query_new(const char *host, const char *port)
{
	struct query *query = calloc(1, sizeof(*query));

	if (!query)
		return NULL;
	query->users = 1;
	query->host = strdup(host);
	query->port = strdup(port);
	query->done_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
	if (!query->host || !query->port || query->done_fd < 0) {
		query_unref(query);
		return NULL;
	}
	return query;
}

static int start_thread(struct query *query)
{
	pthread_attr_t attributes;
	sigset_t all, before;
	pthread_t thread;
	int r;

	pthread_attr_init(&attributes);
	pthread_attr_setdetachstate(&attributes, PTHREAD_CREATE_DETACHED);
	sigfillset(&all);
	pthread_sigmask(SIG_SETMASK, &all, &before);
	__atomic_add_fetch(&query->users, 1, __ATOMIC_ACQ_REL);
	r = pthread_create(&thread, &attributes, resolve_thread, query);
	if (r != 0)
		query_unref(query);
	pthread_sigmask(SIG_SETMASK, &before, NULL);
	pthread_attr_destroy(&attributes);
	return -r;
}

int fm_resolve_new(struct fm_resolve **ret, sd_event *event, const char *host, const char *port,
		   fm_resolve_fn done, void *userdata)
{
	struct fm_resolve *resolve = calloc(1, sizeof(*resolve));
	int r;

	if (!resolve)
		return -ENOMEM;
	resolve->done = done;
	resolve->userdata = userdata;
	resolve->query = query_new(host, port);
	if (!resolve->query) {
		free(resolve);
		return -ENOMEM;
	}
	r = sd_event_add_io(event, &resolve->source, resolve->query->done_fd, EPOLLIN, on_done,
			    resolve);
	if (r >= 0)
		r = start_thread(resolve->query);
	if (r < 0) {
		fm_resolve_free(resolve);
		return r;
	}
	*ret = resolve;
	return 0;
}

struct fm_resolve *fm_resolve_free(struct fm_resolve *resolve)
{
	if (!resolve)
		return NULL;
	sd_event_source_disable_unref(resolve->source);
	query_unref(resolve->query);
	free(resolve);
	return NULL;
}
