/* SPDX-License-Identifier: Apache-2.0 */
/* See rig.h. */
#include "rig.h"

#include <poll.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "records.h"

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

static void on_lost(void *userdata, const struct fm_message_info *info, size_t size,
		    enum fm_not_sent cause)
{
	add(&((struct rig *)userdata)->lost, info);
}

static void on_state(void *userdata, int error)
{
	struct rig *rig = userdata;

	if (error < 0) {
		rig->errors++;
		rig->last_error = error;
		strcpy(rig->trouble, rig->transport->trouble);
	} else {
		rig->ups++;
	}
}

void rig_took_since(struct rig *rig, uint64_t begin)
{
	rig->slowest_ns = FM_MAX(rig->slowest_ns, fm_clock_monotonic_ns() - begin);
}

static void on_message(void *userdata, const uint8_t *message, size_t size,
		       const struct fm_message_info *info)
{
	struct rig *rig = userdata;
	uint64_t begin = fm_clock_monotonic_ns();

	rig->transport->ops->send(rig->transport, message, size, info, begin);
	rig_took_since(rig, begin);
}

void rig_init(struct rig *rig, const struct fm_transport_ops *ops,
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

void rig_start(struct rig *rig)
{
	rig->transport->ops->start(rig->transport, fm_clock_monotonic_ns());
}

void rig_give_waiting(struct rig *rig, unsigned int n)
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

void rig_give(struct rig *rig, unsigned int n)
{
	uint64_t begin;

	rig_give_waiting(rig, n);
	begin = fm_clock_monotonic_ns();
	rig->transport->ops->flush(rig->transport, begin);
	rig_took_since(rig, begin);
}

void rig_step(struct rig *rig)
{
	struct pollfd poll_fd = {.fd = rig->transport->fd, .events = (short)rig->transport->events};
	uint64_t begin, now;

	poll(&poll_fd, 1, 1);
	begin = fm_clock_monotonic_ns();
	now = begin + rig->ahead_ns;
	if ((poll_fd.fd >= 0 && poll_fd.revents) || now >= rig->transport->deadline_ns)
		rig->transport->ops->dispatch(rig->transport, now);
	rig_took_since(rig, begin);
}

void rig_done(struct rig *rig)
{
	rig->transport = fm_transport_free(rig->transport);
	rig->session = fm_session_free(rig->session);
}

bool rig_adds_up(const struct rig *rig)
{
	const struct sums sum = {
		rig->sent.records + rig->lost.records,
		rig->sent.packets + rig->lost.packets,
		rig->sent.octets + rig->lost.octets,
	};

	return same(&sum, &rig->given);
}

int rig_socket(int family, int type, struct sockaddr_in6 *ret)
{
	struct sockaddr_in ip4 = {.sin_family = AF_INET, .sin_addr = {htonl(INADDR_LOOPBACK)}};
	socklen_t size = family == AF_INET ? sizeof(ip4) : sizeof(*ret);
	int fd = socket(family, type | SOCK_CLOEXEC, 0), octets = 1 << 20;

	/* A reader that has to wait for its turn must not lose what it counts. */
	if (type == SOCK_DGRAM &&
	    setsockopt(fd, SOL_SOCKET, SO_RCVBUFFORCE, &octets, sizeof(octets)) < 0)
		setsockopt(fd, SOL_SOCKET, SO_RCVBUF, &octets, sizeof(octets));
	*ret = (struct sockaddr_in6){.sin6_family = AF_INET6, .sin6_addr = in6addr_loopback};
	if (family == AF_INET)
		memcpy(ret, &ip4, sizeof(ip4));
	if (bind(fd, (struct sockaddr *)ret, size) < 0 ||
	    getsockname(fd, (struct sockaddr *)ret, &size) < 0)
		abort();
	return fd;
}

int rig_listen(int family, bool small, struct sockaddr_in6 *ret)
{
	int fd = rig_socket(family, SOCK_STREAM, ret), octets = 4096;

	if (small)
		setsockopt(fd, SOL_SOCKET, SO_RCVBUF, &octets, sizeof(octets));
	if (listen(fd, 4) < 0)
		abort();
	return fd;
}

int rig_listen_again(const struct sockaddr_in6 *address)
{
	int fd = socket(AF_INET6, SOCK_STREAM | SOCK_CLOEXEC, 0), on = 1;

	setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &on, sizeof(on));
	if (bind(fd, (const struct sockaddr *)address, sizeof(*address)) < 0 || listen(fd, 4) < 0)
		abort();
	return fd;
}

int rig_accepted(struct rig *rig, int listener)
{
	struct pollfd poll_fd = {.fd = listener, .events = POLLIN};

	return STEP_UNTIL(rig, poll(&poll_fd, 1, 0) > 0) ? accept(listener, NULL, NULL) : -1;
}

void rig_move(struct rig *rig, const struct sockaddr_in6 *address)
{
	struct sockaddr_storage storage = {};

	memcpy(&storage, address, sizeof(*address));
	fm_transport_move(rig->transport, &storage, sizeof(*address), fm_clock_monotonic_ns());
}
