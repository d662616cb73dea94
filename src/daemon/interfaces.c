/* SPDX-License-Identifier: Apache-2.0 */
/* Following network devices by rtnetlink: see interfaces.h. */
#include "daemon/interfaces.h"

#include <errno.h>
#include <fcntl.h>
#include <libmnl/libmnl.h>
#include <linux/rtnetlink.h>
#include <sched.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/log.h"
#include "base/macro.h"
#include "daemon/pattern.h"

#define NETNS_DIRECTORY "/run/netns/"
#define SPACES_MAX	64
/* A namespace that is not there yet is looked for again after this. */
#define LOOK_AGAIN_US	      2000000
#define BUFFER_OCTETS	      32768
#define RECEIVE_BUFFER_OCTETS (1 << 20)

/* A device as it is known, what was planned for it and what of that is done. */
struct known {
	struct fm_device device;
	struct fm_plan plan;
	struct fm_plan done;
	bool complained;
	bool present; /* in the dump that is being read */
};

/* A network namespace: the daemon's own is the first. */
struct space {
	struct fm_interfaces *interfaces;
	unsigned int index;
	char *name; /* NULL: the daemon's own */
	int fd;	    /* namespace, -1: not open */
	struct mnl_socket *socket;
	sd_event_source *source;
	struct known *known;
	size_t n_known;
	bool complained;
};

struct fm_interfaces {
	sd_event *event;
	sd_event_source *timer;
	struct fm_names patterns; /* borrowed */
	enum fm_observe observe;
	struct fm_interfaces_ops ops;
	void *userdata;
	int own_fd; /* the daemon's own namespace */
	struct space *spaces[SPACES_MAX];
	size_t n_spaces;
	bool changed;
};

/* --- namespaces --- */

static int enter(const struct space *space)
{
	if (!space->name)
		return 0;
	return setns(space->fd, CLONE_NEWNET) < 0 ? -errno : 0;
}

static void leave(const struct space *space)
{
	if (space->name && setns(space->interfaces->own_fd, CLONE_NEWNET) < 0) {
		/* Nothing after this would be about the right devices. */
		fm_log_error("cannot return to the own network namespace: %s", strerror(errno));
		abort();
	}
}

/* --- doing what is planned --- */

static void set_seen(struct space *space, struct known *known, bool seen)
{
	if (known->done.seen == seen)
		return;
	space->interfaces->ops.set_seen(space->interfaces->userdata, space->index,
					known->device.ifindex, seen);
	known->done.seen = seen;
}

static void detach(struct space *space, struct known *known, enum fm_hook hook)
{
	bool *done = hook == FM_HOOK_INGRESS ? &known->done.ingress : &known->done.egress;

	if (!*done)
		return;
	space->interfaces->ops.detach(space->interfaces->userdata, space->index,
				      known->device.ifindex, hook);
	*done = false;
	space->interfaces->changed = true;
}

static void attach(struct space *space, struct known *known, enum fm_hook hook)
{
	bool *done = hook == FM_HOOK_INGRESS ? &known->done.ingress : &known->done.egress;
	int r;

	if (*done)
		return;
	r = space->interfaces->ops.attach(space->interfaces->userdata, &known->device, hook,
					  known->plan.layer3);
	if (r == 0) {
		*done = true;
		known->complained = false;
		space->interfaces->changed = true;
		return;
	}
	/* A device that is already gone again is no news; another failure is said once. */
	if (r != -ENODEV && !known->complained)
		fm_log_warning("%s: cannot attach: %s; tried again when it changes",
			       known->device.name, strerror(-r));
	known->complained = true;
}

/*
 * First what is no longer wanted goes. Then ingress before "seen" before egress: a packet in
 * between is counted where it came in, and not again where it leaves once that is known; the other
 * way round it would be counted nowhere.
 */
static void apply(struct space *space)
{
	if (enter(space) < 0)
		return;
	for (size_t i = 0; i < space->n_known; i++) {
		struct known *known = &space->known[i];

		if (!known->plan.egress)
			detach(space, known, FM_HOOK_EGRESS);
		if (!known->plan.seen)
			set_seen(space, known, false);
		if (!known->plan.ingress)
			detach(space, known, FM_HOOK_INGRESS);
	}
	for (size_t i = 0; i < space->n_known; i++) {
		struct known *known = &space->known[i];

		if (known->plan.ingress)
			attach(space, known, FM_HOOK_INGRESS);
		if (known->plan.seen)
			set_seen(space, known, true);
	}
	for (size_t i = 0; i < space->n_known; i++)
		if (space->known[i].plan.egress)
			attach(space, &space->known[i], FM_HOOK_EGRESS);
	leave(space);
}

static void plan(struct space *space)
{
	_fm_cleanup_free_ struct fm_device *devices = NULL;
	_fm_cleanup_free_ struct fm_plan *plans = NULL;

	devices = calloc(space->n_known + 1, sizeof(*devices));
	plans = calloc(space->n_known + 1, sizeof(*plans));
	if (!devices || !plans)
		return; /* what is done stays; the next change tries again */
	for (size_t i = 0; i < space->n_known; i++)
		devices[i] = space->known[i].device;
	fm_interfaces_plan(devices, space->n_known, &space->interfaces->patterns, space->name,
			   space->interfaces->observe, plans);
	for (size_t i = 0; i < space->n_known; i++)
		space->known[i].plan = plans[i];
	apply(space);
	if (space->interfaces->changed)
		space->interfaces->ops.changed(space->interfaces->userdata);
	space->interfaces->changed = false;
}

/* --- reading rtnetlink --- */

static struct known *find(struct space *space, uint32_t ifindex)
{
	for (size_t i = 0; i < space->n_known; i++)
		if (space->known[i].device.ifindex == ifindex)
			return &space->known[i];
	return NULL;
}

/* The kernel took everything off a device that is gone; only our own account is cleared. */
static void forget(struct space *space, struct known *known)
{
	detach(space, known, FM_HOOK_EGRESS);
	set_seen(space, known, false);
	detach(space, known, FM_HOOK_INGRESS);
	*known = space->known[--space->n_known];
}

static int on_info(const struct nlattr *attribute, void *userdata)
{
	struct fm_device *device = userdata;

	if (mnl_attr_get_type(attribute) == IFLA_INFO_KIND &&
	    mnl_attr_validate(attribute, MNL_TYPE_STRING) >= 0)
		snprintf(device->kind, sizeof(device->kind), "%s", mnl_attr_get_str(attribute));
	return MNL_CB_OK;
}

static int on_attribute(const struct nlattr *attribute, void *userdata)
{
	struct fm_device *device = userdata;
	bool is_string = mnl_attr_validate(attribute, MNL_TYPE_STRING) >= 0;
	bool is_u32 = mnl_attr_get_payload_len(attribute) == sizeof(uint32_t);

	switch (mnl_attr_get_type(attribute)) {
	case IFLA_IFNAME:
		if (is_string)
			snprintf(device->name, sizeof(device->name), "%s",
				 mnl_attr_get_str(attribute));
		break;
	case IFLA_IFALIAS:
		if (is_string)
			snprintf(device->alias, sizeof(device->alias), "%.63s",
				 mnl_attr_get_str(attribute));
		break;
	case IFLA_MASTER:
		if (is_u32)
			device->master = mnl_attr_get_u32(attribute);
		break;
	case IFLA_LINK:
		if (is_u32)
			device->link = mnl_attr_get_u32(attribute);
		break;
	case IFLA_LINKINFO:
		mnl_attr_parse_nested(attribute, on_info, device);
		break;
	}
	return MNL_CB_OK;
}

static int find_link_netns(const struct nlattr *attribute, void *userdata)
{
	if (mnl_attr_get_type(attribute) == IFLA_LINK_NETNSID)
		*(bool *)userdata = true;
	return MNL_CB_OK;
}

static struct known *add(struct space *space, const struct fm_device *device)
{
	struct known *grown = reallocarray(space->known, space->n_known + 1, sizeof(*grown));

	if (!grown)
		return NULL;
	space->known = grown;
	grown[space->n_known] = (struct known){.device = *device};
	return &grown[space->n_known++];
}

static int on_link(const struct nlmsghdr *header, void *userdata)
{
	const struct ifinfomsg *message = mnl_nlmsg_get_payload(header);
	struct space *space = userdata;
	struct fm_device device = {.ns = space->index};
	struct known *known;
	bool elsewhere = false;

	if (mnl_nlmsg_get_payload_len(header) < sizeof(*message) || message->ifi_index <= 0)
		return MNL_CB_OK;
	if (message->ifi_family != AF_UNSPEC) /* a bridge's own word on its port */
		return MNL_CB_OK;
	known = find(space, (uint32_t)message->ifi_index);
	if (header->nlmsg_type == RTM_DELLINK) {
		if (known)
			forget(space, known);
		return MNL_CB_OK;
	}
	if (header->nlmsg_type != RTM_NEWLINK)
		return MNL_CB_OK;
	device.ifindex = (uint32_t)message->ifi_index;
	device.arphrd = message->ifi_type;
	mnl_attr_parse(header, sizeof(*message), on_attribute, &device);
	mnl_attr_parse(header, sizeof(*message), find_link_netns, &elsewhere);
	if (elsewhere || device.link == device.ifindex)
		device.link = 0;
	if (!known)
		known = add(space, &device);
	if (!known)
		return MNL_CB_OK;
	if (strcmp(known->device.name, device.name))
		space->interfaces->changed = true;
	known->device = device;
	known->present = true;
	return MNL_CB_OK;
}

/* All devices as they are now; those that are known but not there any more are forgotten. */
static int dump(struct space *space)
{
	char buffer[BUFFER_OCTETS];
	struct nlmsghdr *header = mnl_nlmsg_put_header(buffer);
	struct ifinfomsg *message;
	struct mnl_socket *socket;
	ssize_t size;
	int r;

	header->nlmsg_type = RTM_GETLINK;
	header->nlmsg_flags = NLM_F_REQUEST | NLM_F_DUMP;
	header->nlmsg_seq = 1;
	message = mnl_nlmsg_put_extra_header(header, sizeof(*message));
	message->ifi_family = AF_UNSPEC;
	/* A socket of its own: notices between two parts of the dump would be taken for answers. */
	socket = mnl_socket_open2(NETLINK_ROUTE, SOCK_CLOEXEC);
	if (!socket)
		return -errno;
	r = mnl_socket_bind(socket, 0, MNL_SOCKET_AUTOPID);
	if (r >= 0)
		r = (int)mnl_socket_sendto(socket, header, header->nlmsg_len);
	for (size_t i = 0; i < space->n_known; i++)
		space->known[i].present = false;
	while (r > 0) {
		size = mnl_socket_recvfrom(socket, buffer, sizeof(buffer));
		r = size < 0 ? -1
			     : mnl_cb_run(buffer, (size_t)size, 1, mnl_socket_get_portid(socket),
					  on_link, space);
	}
	r = r < 0 ? -errno : 0;
	mnl_socket_close(socket);
	for (size_t i = space->n_known; r == 0 && i > 0; i--)
		if (!space->known[i - 1].present)
			forget(space, &space->known[i - 1]);
	return r;
}

static int dump_inside(struct space *space)
{
	int r = enter(space);

	if (r < 0)
		return r;
	r = dump(space);
	leave(space);
	return r;
}

static int on_readable(sd_event_source *source, int fd, uint32_t revents, void *userdata)
{
	struct space *space = userdata;
	char buffer[BUFFER_OCTETS];
	ssize_t size;

	for (;;) {
		size = mnl_socket_recvfrom(space->socket, buffer, sizeof(buffer));
		if (size < 0)
			break;
		mnl_cb_run(buffer, (size_t)size, 0, 0, on_link, space);
	}
	if (errno == ENOBUFS && dump_inside(space) < 0) /* notices were lost */
		fm_log_warning("cannot list network devices: %s", strerror(errno));
	plan(space);
	return 0;
}

/* --- spaces --- */

static void space_close(struct space *space)
{
	space->source = sd_event_source_disable_unref(space->source);
	if (space->socket)
		mnl_socket_close(space->socket);
	space->socket = NULL;
	if (space->fd >= 0)
		close(space->fd);
	space->fd = -1;
}

static int open_socket(struct space *space)
{
	const int size = RECEIVE_BUFFER_OCTETS;
	int group = RTNLGRP_LINK, r;

	space->socket = mnl_socket_open2(NETLINK_ROUTE, SOCK_CLOEXEC | SOCK_NONBLOCK);
	if (!space->socket)
		return -errno;
	setsockopt(mnl_socket_get_fd(space->socket), SOL_SOCKET, SO_RCVBUFFORCE, &size,
		   sizeof(size));
	if (mnl_socket_bind(space->socket, 0, MNL_SOCKET_AUTOPID) < 0 ||
	    mnl_socket_setsockopt(space->socket, NETLINK_ADD_MEMBERSHIP, &group, sizeof(group)) < 0)
		return -errno;
	/* Follow first, then list: what happens between is told twice, not missed. */
	r = dump(space);
	if (r < 0)
		return r;
	return sd_event_add_io(space->interfaces->event, &space->source,
			       mnl_socket_get_fd(space->socket), EPOLLIN, on_readable, space);
}

static int space_open(struct space *space)
{
	char path[256];
	int r;

	if (space->name) {
		snprintf(path, sizeof(path), NETNS_DIRECTORY "%s", space->name);
		space->fd = open(path, O_RDONLY | O_CLOEXEC);
		if (space->fd < 0)
			return -errno;
	}
	r = enter(space);
	if (r == 0) {
		r = open_socket(space);
		leave(space);
	}
	if (r < 0) {
		space_close(space);
		return r;
	}
	plan(space);
	return 0;
}

static struct space *space_new(struct fm_interfaces *interfaces, const char *name)
{
	struct space *space;

	if (interfaces->n_spaces == SPACES_MAX)
		return NULL;
	space = calloc(1, sizeof(*space));
	if (!space)
		return NULL;
	space->interfaces = interfaces;
	space->index = (unsigned int)interfaces->n_spaces;
	space->fd = -1;
	if (name) {
		space->name = strdup(name);
		if (!space->name) {
			free(space);
			return NULL;
		}
	}
	interfaces->spaces[interfaces->n_spaces++] = space;
	return space;
}

static struct space *space_free(struct space *space)
{
	for (size_t i = 0; i < space->n_known; i++)
		space->known[i].plan = (struct fm_plan){};
	if (space->socket)
		apply(space);
	space_close(space);
	free(space->known);
	free(space->name);
	free(space);
	return NULL;
}

/* Spaces that patterns name and that are not open are tried; what fails is said once. */
static void open_spaces(struct fm_interfaces *interfaces)
{
	bool waiting = false;

	for (size_t i = 1; i < interfaces->n_spaces; i++) {
		struct space *space = interfaces->spaces[i];
		int r;

		if (space->socket)
			continue;
		r = space_open(space);
		if (r == 0) {
			space->complained = false;
			continue;
		}
		waiting = true;
		if (!space->complained)
			fm_log_warning("network namespace %s: %s%s", space->name, strerror(-r),
				       r == -EPERM ? " (CAP_SYS_ADMIN is needed)"
						   : "; looked for again");
		space->complained = true;
	}
	if (!waiting)
		return;
	sd_event_source_set_time_relative(interfaces->timer, LOOK_AGAIN_US);
	sd_event_source_set_enabled(interfaces->timer, SD_EVENT_ONESHOT);
}

static int on_timer(sd_event_source *source, uint64_t usec, void *userdata)
{
	open_spaces(userdata);
	return 0;
}

/* A space for every namespace that the patterns name. */
static int name_spaces(struct fm_interfaces *interfaces)
{
	for (size_t i = 0; i < interfaces->patterns.n; i++) {
		const char *name = fm_pattern_namespace(interfaces->patterns.v[i]);
		bool known = !name || !*name || strchr(name, '/');

		for (size_t s = 1; s < interfaces->n_spaces && !known; s++)
			known = !strcmp(interfaces->spaces[s]->name, name);
		if (!known && !space_new(interfaces, name))
			return -ENOMEM;
	}
	return 0;
}

int fm_interfaces_new(struct fm_interfaces **ret, sd_event *event, const struct fm_names *patterns,
		      enum fm_observe observe, const struct fm_interfaces_ops *ops, void *userdata)
{
	_fm_cleanup_(fm_interfaces_freep) struct fm_interfaces *interfaces = NULL;
	int r;

	interfaces = calloc(1, sizeof(*interfaces));
	if (!interfaces)
		return -ENOMEM;
	*interfaces = (struct fm_interfaces){
		.event = event,
		.patterns = *patterns,
		.observe = observe,
		.ops = *ops,
		.userdata = userdata,
	};
	interfaces->own_fd = open("/proc/self/ns/net", O_RDONLY | O_CLOEXEC);
	if (interfaces->own_fd < 0)
		return -errno;
	r = sd_event_add_time_relative(event, &interfaces->timer, CLOCK_MONOTONIC, LOOK_AGAIN_US, 0,
				       on_timer, interfaces);
	if (r < 0)
		return r;
	sd_event_source_set_enabled(interfaces->timer, SD_EVENT_OFF);
	if (!space_new(interfaces, NULL))
		return -ENOMEM;
	r = space_open(interfaces->spaces[0]);
	if (r < 0)
		return r;
	r = name_spaces(interfaces);
	if (r < 0)
		return r;
	open_spaces(interfaces);
	*ret = FM_TAKE_PTR(interfaces);
	return 0;
}

int fm_interfaces_reconfigure(struct fm_interfaces *interfaces, const struct fm_names *patterns,
			      enum fm_observe observe)
{
	int r;

	interfaces->patterns = *patterns;
	interfaces->observe = observe;
	r = name_spaces(interfaces);
	for (size_t i = 0; i < interfaces->n_spaces; i++)
		if (interfaces->spaces[i]->socket)
			plan(interfaces->spaces[i]);
	open_spaces(interfaces);
	return r;
}

struct fm_interfaces *fm_interfaces_free(struct fm_interfaces *interfaces)
{
	if (!interfaces)
		return NULL;
	for (size_t i = interfaces->n_spaces; i > 0; i--)
		space_free(interfaces->spaces[i - 1]);
	sd_event_source_disable_unref(interfaces->timer);
	if (interfaces->own_fd >= 0)
		close(interfaces->own_fd);
	free(interfaces);
	return NULL;
}

void fm_interfaces_for_each(struct fm_interfaces *interfaces,
			    void (*fn)(void *argument, const struct fm_device *device,
				       const struct fm_plan *plan),
			    void *argument)
{
	for (size_t s = 0; s < interfaces->n_spaces; s++)
		for (size_t i = 0; i < interfaces->spaces[s]->n_known; i++) {
			const struct known *known = &interfaces->spaces[s]->known[i];

			if (known->done.ingress || known->done.egress)
				fn(argument, &known->device, &known->done);
		}
}
