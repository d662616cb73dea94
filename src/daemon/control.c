/* SPDX-License-Identifier: Apache-2.0 */
/* The control socket: see control.h. */
#include "daemon/control.h"

#include <errno.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

#include "base/log.h"

#define CLIENTS_MAX	  16
#define REQUEST_MAX	  256
#define CLIENT_TIMEOUT_US 5000000
#define AGAIN_US	  1000000

struct client {
	struct fm_control *control;
	int fd;
	sd_event_source *io;
	sd_event_source *timeout;
	char request[REQUEST_MAX];
	size_t n_request;
	struct fm_buf reply;
	size_t sent;
};

struct fm_control {
	sd_event *event;
	fm_control_fn answer;
	void *userdata;
	char *path;
	int fd;
	sd_event_source *io;
	sd_event_source *again; /* listens again after connections could not be taken */
	bool deaf;
	struct client *clients[CLIENTS_MAX];
};

static void client_free(struct client *client)
{
	struct fm_control *control = client->control;

	for (size_t i = 0; i < CLIENTS_MAX; i++)
		if (control->clients[i] == client)
			control->clients[i] = NULL;
	sd_event_source_disable_unref(client->io);
	sd_event_source_disable_unref(client->timeout);
	fm_buf_done(&client->reply);
	close(client->fd);
	free(client);
}

static int on_timeout(sd_event_source *source, uint64_t usec, void *userdata)
{
	client_free(userdata);
	return 0;
}

/* Returns whether the client goes on. */
static bool client_write(struct client *client)
{
	while (client->sent < client->reply.size) {
		ssize_t n = send(client->fd, client->reply.data + client->sent,
				 client->reply.size - client->sent, MSG_NOSIGNAL);

		if (n < 0)
			return errno == EAGAIN || errno == EINTR;
		client->sent += n;
	}
	return false;
}

/* A whole line is answered; a request without a newline in REQUEST_MAX octets is not one. */
static bool client_read(struct client *client)
{
	ssize_t n = recv(client->fd, client->request + client->n_request,
			 sizeof(client->request) - client->n_request, 0);
	char *end;

	if (n < 0)
		return errno == EAGAIN || errno == EINTR;
	client->n_request += n;
	end = memchr(client->request, '\n', client->n_request);
	if (!end)
		return n > 0 && client->n_request < sizeof(client->request);
	*end = '\0';
	if (client->control->answer(client->control->userdata, client->request, &client->reply) < 0)
		return false;
	sd_event_source_set_io_events(client->io, EPOLLOUT);
	return client_write(client);
}

static int on_client(sd_event_source *source, int fd, uint32_t revents, void *userdata)
{
	struct client *client = userdata;
	bool on;

	if (client->reply.size)
		on = client_write(client);
	else
		on = client_read(client);
	if (!on)
		client_free(client);
	return 0;
}

static int client_new(struct fm_control *control, int fd, struct client **slot)
{
	struct client *client = calloc(1, sizeof(*client));
	int r;

	if (!client)
		return -ENOMEM;
	client->control = control;
	client->fd = fd;
	r = sd_event_add_io(control->event, &client->io, fd, EPOLLIN, on_client, client);
	if (r >= 0)
		r = sd_event_add_time_relative(control->event, &client->timeout, CLOCK_MONOTONIC,
					       CLIENT_TIMEOUT_US, 0, on_timeout, client);
	if (r < 0) {
		sd_event_source_disable_unref(client->io);
		free(client);
		return r;
	}
	*slot = client;
	return 0;
}

static int on_again(sd_event_source *source, uint64_t usec, void *userdata)
{
	struct fm_control *control = userdata;

	sd_event_source_set_enabled(control->io, SD_EVENT_ON);
	return 0;
}

/* Whoever waits would be heard of again at once: not before there may be descriptors again. */
static void listen_later(struct fm_control *control, int error)
{
	if (!control->deaf)
		fm_log_warning("cannot take control connections: %s", strerror(error));
	control->deaf = true;
	sd_event_source_set_enabled(control->io, SD_EVENT_OFF);
	sd_event_source_set_time_relative(control->again, AGAIN_US);
	sd_event_source_set_enabled(control->again, SD_EVENT_ONESHOT);
}

static int on_connection(sd_event_source *source, int fd, uint32_t revents, void *userdata)
{
	struct fm_control *control = userdata;
	int client_fd = accept4(fd, NULL, NULL, SOCK_CLOEXEC | SOCK_NONBLOCK);

	if (client_fd < 0) {
		if (errno != EAGAIN && errno != EINTR && errno != ECONNABORTED)
			listen_later(control, errno);
		return 0;
	}
	control->deaf = false;
	for (size_t i = 0; i < CLIENTS_MAX; i++)
		if (!control->clients[i]) {
			if (client_new(control, client_fd, &control->clients[i]) == 0)
				return 0;
			break;
		}
	close(client_fd);
	return 0;
}

/* Whether somebody answers at the address. */
static bool is_alive(const struct sockaddr_un *address)
{
	_fm_cleanup_close_ int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);

	if (fd < 0)
		return false;
	return connect(fd, (const struct sockaddr *)address, sizeof(*address)) == 0 ||
	       errno == EAGAIN;
}

static int listen_at(const char *path)
{
	struct sockaddr_un address = {.sun_family = AF_UNIX};
	_fm_cleanup_close_ int fd = -1;
	struct stat status;
	mode_t before;
	int r;

	if (strlen(path) >= sizeof(address.sun_path))
		return -ENAMETOOLONG;
	strcpy(address.sun_path, path);
	if (is_alive(&address))
		return -EADDRINUSE;
	fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
	if (fd < 0)
		return -errno;
	/* What a dead daemon left; nothing else is removed. */
	if (lstat(path, &status) == 0 && S_ISSOCK(status.st_mode) && unlink(path) < 0)
		return -errno;
	before = umask(0117); /* owner and group */
	r = bind(fd, (struct sockaddr *)&address, sizeof(address));
	umask(before);
	if (r < 0 || listen(fd, CLIENTS_MAX) < 0)
		return -errno;
	return FM_TAKE_FD(fd);
}

bool fm_control_is_alive(const char *path)
{
	struct sockaddr_un address = {.sun_family = AF_UNIX};

	if (!*path || strlen(path) >= sizeof(address.sun_path))
		return false;
	strcpy(address.sun_path, path);
	return is_alive(&address);
}

int fm_control_new(struct fm_control **ret, sd_event *event, const char *path, fm_control_fn answer,
		   void *userdata)
{
	_fm_cleanup_(fm_control_freep) struct fm_control *control = calloc(1, sizeof(*control));
	int r;

	if (!control)
		return -ENOMEM;
	control->event = event;
	control->answer = answer;
	control->userdata = userdata;
	control->fd = listen_at(path);
	if (control->fd < 0)
		return control->fd;
	control->path = strdup(path);
	if (!control->path)
		return -ENOMEM;
	r = sd_event_add_io(event, &control->io, control->fd, EPOLLIN, on_connection, control);
	if (r >= 0)
		r = sd_event_add_time_relative(event, &control->again, CLOCK_MONOTONIC, AGAIN_US, 0,
					       on_again, control);
	if (r < 0)
		return r;
	sd_event_source_set_enabled(control->again, SD_EVENT_OFF);
	*ret = FM_TAKE_PTR(control);
	return 0;
}

struct fm_control *fm_control_free(struct fm_control *control)
{
	if (!control)
		return NULL;
	for (size_t i = 0; i < CLIENTS_MAX; i++)
		if (control->clients[i])
			client_free(control->clients[i]);
	sd_event_source_disable_unref(control->io);
	sd_event_source_disable_unref(control->again);
	if (control->fd >= 0)
		close(control->fd);
	if (control->path)
		unlink(control->path);
	free(control->path);
	free(control);
	return NULL;
}
