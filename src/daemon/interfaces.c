/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Following network devices: see interfaces.h; what to do with each is decided in
 * interfaces-plan.c, this file does it and keeps account of what is done.
 *
 * The order of deeds, since packets pass between any two of them:
 *
 *  1. ingress hooks, each followed at once by its "seen": until a device is seen, what came in by
 *     it is counted where it leaves. The other way round a packet between both would be counted
 *     nowhere, and until a failed attach is taken back, many.
 *  2. "seen" of covered devices, then egress hooks: at the start everything is seen before the
 *     first egress hook counts, so that nothing is counted twice.
 *  3. what is no more: "seen" goes before its ingress hook, for the same reason.
 *
 * New hooks come before old ones go, so that nothing is missed when a device takes over from
 * another (a bridge gets its first port): for some microseconds both count. At the end it is the
 * other way round, for nothing is missed by stopping: egress, ingress, seen.
 */
#include "daemon/interfaces.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/inotify.h>

#include "base/log.h"
#include "base/macro.h"
#include "daemon/links.h"
#include "daemon/netlink.h"
#include "daemon/netns.h"
#include "daemon/pattern.h"

/* A namespace that is not there is looked for this often; soon after something has happened. */
#define LOOK_AGAIN_US	   (1 * 1000 * 1000)
#define LOOK_AGAIN_SOON_US (20 * 1000)
/* Devices that change while they are listed: so often, then the list is taken as it is. */
#define LIST_TRIES 16

/* A device as it is known, and what of its plan is done. */
struct known {
	struct fm_link link;
	struct fm_plan plan;
	struct fm_plan done;
	bool failed;  /* a hook that is planned could not be attached */
	bool told;    /* and that is in the log */
	bool noted;   /* so is that it is mixed or foreign */
	bool present; /* in the list that is being read */
};

/* A network namespace: the daemon's own is the first. */
struct space {
	struct fm_interfaces *interfaces;
	unsigned int index;
	char *name;	/* NULL: the daemon's own */
	bool wanted;	/* patterns speak of it */
	bool told;	/* that it cannot be entered */
	int fd;		/* namespace; -1: not open (the own one: as long as no other is named) */
	int notices_fd; /* -1: not open */
	int questions_fd;
	sd_event_source *source;
	struct known *known; /* sorted by index */
	size_t n_known;
};

struct fm_interfaces {
	sd_event *event;
	sd_event_source *timer;
	sd_event_source *watch; /* on the directory of namespaces; NULL: there is none */
	uint64_t look_again_us;
	const struct fm_names *patterns; /* borrowed */
	enum fm_observe observe;
	struct fm_interfaces_ops ops;
	void *userdata;
	struct space *spaces[FM_INTERFACES_NAMESPACES];
	size_t n_spaces;
	struct space *inside; /* where the thread is; NULL: at home */
	bool changed;	      /* the owner must be told */
	bool dirty;	      /* a new plan is needed */
};

static bool is_open(const struct space *space)
{
	return space->notices_fd >= 0;
}

/* --- where the thread is --- */

static void go_home(struct fm_interfaces *interfaces)
{
	int r;

	if (!interfaces->inside)
		return;
	interfaces->inside = NULL;
	r = fm_netns_enter(interfaces->spaces[0]->fd);
	if (r == 0)
		return;
	/* Nothing after this would be about the right devices or collectors. */
	fm_log_error("cannot return to the own network namespace: %s", strerror(-r));
	abort();
}

static int go_to(struct space *space)
{
	struct fm_interfaces *interfaces = space->interfaces;
	int r;

	if (!space->name) {
		go_home(interfaces);
		return 0;
	}
	if (interfaces->inside == space)
		return 0;
	r = fm_netns_enter(space->fd);
	if (r == 0)
		interfaces->inside = space;
	return r;
}

/* --- one deed --- */

static bool *done_of(struct known *known, enum fm_hook hook)
{
	return hook == FM_HOOK_INGRESS ? &known->done.ingress : &known->done.egress;
}

static bool planned(const struct known *known, enum fm_hook hook)
{
	return hook == FM_HOOK_INGRESS ? known->plan.ingress : known->plan.egress;
}

static void set_seen(struct space *space, struct known *known, bool seen)
{
	if (known->done.seen == seen)
		return;
	space->interfaces->ops.set_seen(space->interfaces->userdata, space->index,
					known->link.device.ifindex, seen);
	known->done.seen = seen;
}

static void detach(struct space *space, struct known *known, enum fm_hook hook)
{
	if (!*done_of(known, hook))
		return;
	space->interfaces->ops.detach(space->interfaces->userdata, space->index,
				      known->link.device.ifindex, hook);
	*done_of(known, hook) = false;
	space->interfaces->changed = true;
}

static void attach(struct space *space, struct known *known, enum fm_hook hook)
{
	int r;

	/* A device may change its type: other programs then. */
	if (*done_of(known, hook) && known->done.layer3 != known->plan.layer3)
		detach(space, known, hook);
	if (*done_of(known, hook))
		return;
	r = go_to(space);
	if (r == 0)
		r = space->interfaces->ops.attach(space->interfaces->userdata, &known->link.device,
						  hook, known->plan.layer3);
	if (r == 0) {
		*done_of(known, hook) = true;
		space->interfaces->changed = true;
		return;
	}
	known->failed = true;
	/* A device that is gone already is no news; another failure is, once. */
	if (r == -ENODEV || known->told)
		return;
	fm_log_warning("%s: cannot attach: %s; tried again when it changes",
		       known->link.device.name, strerror(-r));
	known->told = true;
}

/* Counted is what comes in only if the hook is really there. */
static bool may_be_seen(const struct known *known)
{
	return known->plan.seen && (!known->plan.ingress || known->done.ingress);
}

/* --- all deeds, in order --- */

typedef void deed_fn(struct space *space, struct known *known);

static void do_ingress(struct space *space, struct known *known)
{
	known->failed = false;
	if (!known->plan.ingress)
		return;
	attach(space, known, FM_HOOK_INGRESS);
	if (may_be_seen(known))
		set_seen(space, known, true);
}

static void do_seen(struct space *space, struct known *known)
{
	if (may_be_seen(known))
		set_seen(space, known, true);
}

static void do_egress(struct space *space, struct known *known)
{
	if (known->plan.egress)
		attach(space, known, FM_HOOK_EGRESS);
}

static void do_away(struct space *space, struct known *known)
{
	if (!may_be_seen(known))
		set_seen(space, known, false);
	for (int hook = 0; hook < _FM_HOOK_MAX; hook++)
		if (!planned(known, (enum fm_hook)hook))
			detach(space, known, (enum fm_hook)hook);
	known->done.layer3 = known->plan.layer3;
	known->done.covered = known->plan.covered;
	known->done.mixed = known->plan.mixed;
	known->done.foreign = known->plan.foreign;
	if (!known->failed)
		known->told = false;
}

static void do_notes(struct space *space, struct known *known)
{
	const struct fm_device *device = &known->link.device;
	bool noted = known->plan.mixed || known->plan.foreign;

	if (known->plan.mixed && !known->noted)
		fm_log_notice(
			"%s: not all of its ports are monitored; packets that come in by another one and are routed out of a monitored interface are not counted",
			device->name);
	if (known->plan.foreign && !known->noted)
		fm_log_notice("%s: not counted, its packets have an unknown header (type %u)",
			      device->name, device->arphrd);
	known->noted = noted;
}

static void do_end_egress(struct space *space, struct known *known)
{
	detach(space, known, FM_HOOK_EGRESS);
}

static void do_end(struct space *space, struct known *known)
{
	detach(space, known, FM_HOOK_INGRESS);
	set_seen(space, known, false);
}

static void do_everywhere(struct fm_interfaces *interfaces, deed_fn *deed)
{
	for (size_t s = 0; s < interfaces->n_spaces; s++)
		for (size_t i = 0; i < interfaces->spaces[s]->n_known; i++)
			deed(interfaces->spaces[s], &interfaces->spaces[s]->known[i]);
	go_home(interfaces);
}

static void apply(struct fm_interfaces *interfaces)
{
	static deed_fn *const deeds[] = {do_ingress, do_seen, do_egress, do_away, do_notes};

	for (size_t i = 0; i < FM_ARRAY_SIZE(deeds); i++)
		do_everywhere(interfaces, deeds[i]);
}

/* --- the plan --- */

/* By which numbers a space calls the others. */
static void learn_ids(const struct space *space, int32_t *ret_ids)
{
	for (size_t i = 0; i < space->interfaces->n_spaces; i++) {
		const struct space *other = space->interfaces->spaces[i];

		ret_ids[i] = -1;
		if (other != space && other->fd >= 0 && is_open(other))
			fm_netns_id(space->questions_fd, other->fd, &ret_ids[i]);
	}
}

/* Into which of the namespaces that are followed a link leads. */
static int link_space(const struct space *space, const struct fm_link *link, const int32_t *ids)
{
	if (link->link_netnsid < 0)
		return FM_LINK_SAME;
	for (size_t i = 0; i < space->interfaces->n_spaces; i++)
		if (ids[i] == link->link_netnsid)
			return FM_LINK_IN((int)i);
	return FM_LINK_AWAY;
}

static void gather(const struct space *space, struct fm_device *ret)
{
	int32_t ids[FM_INTERFACES_NAMESPACES];

	learn_ids(space, ids);
	for (size_t i = 0; i < space->n_known; i++) {
		const struct fm_link *link = &space->known[i].link;

		ret[i] = link->device;
		ret[i].link_ns = link_space(space, link, ids);
	}
}

static int make_plan(struct fm_interfaces *interfaces)
{
	_fm_cleanup_free_ struct fm_device *devices = NULL;
	_fm_cleanup_free_ struct fm_plan *plans = NULL;
	const char *names[FM_INTERFACES_NAMESPACES];
	size_t n = 0, at = 0;
	int r;

	for (size_t s = 0; s < interfaces->n_spaces; s++) {
		n += interfaces->spaces[s]->n_known;
		names[s] = interfaces->spaces[s]->name;
	}
	devices = calloc(n + 1, sizeof(*devices));
	plans = calloc(n + 1, sizeof(*plans));
	if (!devices || !plans)
		return -ENOMEM;
	for (size_t s = 0; s < interfaces->n_spaces; s++) {
		gather(interfaces->spaces[s], &devices[at]);
		at += interfaces->spaces[s]->n_known;
	}
	r = fm_interfaces_plan(devices, n, interfaces->patterns, names, interfaces->observe, plans);
	if (r < 0)
		return r;
	at = 0;
	for (size_t s = 0; s < interfaces->n_spaces; s++)
		for (size_t i = 0; i < interfaces->spaces[s]->n_known; i++)
			interfaces->spaces[s]->known[i].plan = plans[at++];
	return 0;
}

/* Brings everything to where it should be and tells the owner. 0 or -errno. */
static int update(struct fm_interfaces *interfaces)
{
	int r = 0;

	if (interfaces->dirty) {
		r = make_plan(interfaces);
		/* Without memory what is done stays; the next change tries again. */
		if (r == 0) {
			interfaces->dirty = false;
			apply(interfaces);
		}
	}
	if (interfaces->changed)
		interfaces->ops.changed(interfaces->userdata);
	interfaces->changed = false;
	return r;
}

/* --- devices --- */

/* Position of a device, or where it would be. */
static size_t position_of(const struct space *space, uint32_t ifindex)
{
	size_t low = 0, high = space->n_known;

	while (low < high) {
		size_t middle = low + (high - low) / 2;

		if (space->known[middle].link.device.ifindex < ifindex)
			low = middle + 1;
		else
			high = middle;
	}
	return low;
}

static struct known *find(struct space *space, uint32_t ifindex)
{
	size_t position = position_of(space, ifindex);

	if (position == space->n_known || space->known[position].link.device.ifindex != ifindex)
		return NULL;
	return &space->known[position];
}

static int add(struct space *space, const struct fm_link *link)
{
	size_t position = position_of(space, link->device.ifindex);
	struct known *grown = reallocarray(space->known, space->n_known + 1, sizeof(*grown));

	if (!grown)
		return -ENOMEM;
	space->known = grown;
	memmove(&grown[position + 1], &grown[position],
		(space->n_known - position) * sizeof(*grown));
	grown[position] = (struct known){.link = *link, .present = true};
	space->n_known++;
	return 0;
}

/* A device that is gone: the kernel took off what was on it, here the account is cleared. */
static void forget(struct space *space, struct known *known)
{
	size_t position = (size_t)(known - space->known);

	set_seen(space, known, false);
	detach(space, known, FM_HOOK_INGRESS);
	detach(space, known, FM_HOOK_EGRESS);
	memmove(known, known + 1, (space->n_known - position - 1) * sizeof(*known));
	space->n_known--;
	space->interfaces->changed = true;
	space->interfaces->dirty = true;
}

static bool same_name(const struct fm_device *a, const struct fm_device *b)
{
	return !strcmp(a->name, b->name) && !strcmp(a->alias, b->alias);
}

static bool same_place(const struct fm_link *a, const struct fm_link *b)
{
	return a->device.arphrd == b->device.arphrd && a->device.up == b->device.up &&
	       a->device.master == b->device.master && a->device.link == b->device.link &&
	       a->link_netnsid == b->link_netnsid && !strcmp(a->device.kind, b->device.kind);
}

static void on_link(enum fm_links_event event, const struct fm_link *link, void *userdata)
{
	struct space *space = userdata;
	struct known *known = find(space, link->device.ifindex);
	struct fm_link now = *link;

	now.device.ns = space->index;
	if (event == FM_LINKS_GONE) {
		if (known)
			forget(space, known);
		return;
	}
	if (!known) {
		space->interfaces->changed = true;
		space->interfaces->dirty = true;
		if (add(space, &now) < 0)
			fm_log_error("%s: no memory to follow it", now.device.name);
		return;
	}
	known->present = true;
	space->interfaces->changed |= !same_name(&known->link.device, &now.device);
	/* Most notices tell of what is of no matter here (carrier, queues, addresses). */
	space->interfaces->dirty |= known->failed || !same_name(&known->link.device, &now.device) ||
				    !same_place(&known->link, &now);
	known->link = now;
}

/* Lists all devices; those that are not there any more are forgotten. 0 or -errno. */
static int list_devices(struct space *space)
{
	int r = -EINTR;

	for (int try = 0; try < LIST_TRIES && r == -EINTR; try++) {
		for (size_t i = 0; i < space->n_known; i++)
			space->known[i].present = false;
		r = fm_links_list(space->questions_fd, on_link, space);
	}
	/* Cut short by changes all the time: nothing is missing that was there all the while, and
	 * the notices tell the rest. */
	if (r == -EINTR)
		return 0;
	for (size_t i = space->n_known; r == 0 && i > 0; i--)
		if (!space->known[i - 1].present)
			forget(space, &space->known[i - 1]);
	return r;
}

static int on_notices(sd_event_source *source, int fd, uint32_t revents, void *userdata)
{
	struct space *space = userdata;
	int r = fm_links_read(fd, on_link, space);

	if (r == -ENOBUFS)
		r = list_devices(space);
	if (r < 0)
		fm_log_warning("cannot follow network devices: %s", strerror(-r));
	r = update(space->interfaces);
	if (r < 0)
		fm_log_warning("cannot plan what to attach: %s", strerror(-r));
	return 0;
}

/* --- spaces --- */

static void close_fd(int *fd)
{
	fm_cleanup_close(fd);
	*fd = -1;
}

static void space_close(struct space *space)
{
	space->source = sd_event_source_disable_unref(space->source);
	while (space->n_known)
		forget(space, &space->known[space->n_known - 1]);
	close_fd(&space->notices_fd);
	close_fd(&space->questions_fd);
	if (space->name)
		close_fd(&space->fd);
}

static int open_sockets(struct space *space)
{
	int r = go_to(space);

	if (r < 0)
		return r;
	r = fm_netlink_open(&space->questions_fd);
	if (r == 0)
		r = fm_links_follow(&space->notices_fd);
	go_home(space->interfaces);
	if (r < 0)
		return r;
	/* Following before listing: what happens between is told twice, not missed. */
	r = list_devices(space);
	if (r < 0)
		return r;
	return sd_event_add_io(space->interfaces->event, &space->source, space->notices_fd, EPOLLIN,
			       on_notices, space);
}

static int space_open(struct space *space)
{
	struct space *own = space->interfaces->spaces[0];
	int r = 0;

	/* The way back. */
	if (space->name && own->fd < 0)
		r = fm_netns_open_own(&own->fd);
	if (r == 0 && space->name)
		r = fm_netns_open(space->name, &space->fd);
	if (r == 0)
		r = open_sockets(space);
	if (r < 0)
		space_close(space);
	space->interfaces->dirty = true;
	return r;
}

static struct space *space_free(struct space *space)
{
	if (!space)
		return NULL;
	space_close(space);
	close_fd(&space->fd);
	free(space->known);
	free(space->name);
	free(space);
	return NULL;
}

static int space_add(struct fm_interfaces *interfaces, const char *name)
{
	struct space *space;

	if (interfaces->n_spaces == FM_INTERFACES_NAMESPACES)
		return -ENOSPC;
	space = calloc(1, sizeof(*space));
	if (!space)
		return -ENOMEM;
	*space = (struct space){
		.interfaces = interfaces,
		.index = (unsigned int)interfaces->n_spaces,
		.name = name ? strdup(name) : NULL,
		.wanted = true,
		.fd = -1,
		.notices_fd = -1,
		.questions_fd = -1,
	};
	if (name && !space->name) {
		space_free(space);
		return -ENOMEM;
	}
	interfaces->spaces[interfaces->n_spaces++] = space;
	return 0;
}

/* Spaces for all namespaces that the patterns name; an index is never given to another name. */
static int name_spaces(struct fm_interfaces *interfaces)
{
	int r = 0;

	for (size_t s = 1; s < interfaces->n_spaces; s++)
		interfaces->spaces[s]->wanted = false;
	for (size_t i = 0; i < interfaces->patterns->n && r == 0; i++) {
		const char *name = fm_pattern_namespace(interfaces->patterns->v[i]);
		bool found = false;

		for (size_t s = 1; name && s < interfaces->n_spaces; s++) {
			if (strcmp(interfaces->spaces[s]->name, name))
				continue;
			interfaces->spaces[s]->wanted = true;
			found = true;
		}
		if (name && !found)
			r = space_add(interfaces, name);
	}
	return r;
}

/* A namespace without its name is let go: held on to, it would live on with all its devices. */
static void close_spaces(struct fm_interfaces *interfaces)
{
	for (size_t s = 1; s < interfaces->n_spaces; s++) {
		struct space *space = interfaces->spaces[s];

		if (!is_open(space) || (space->wanted && fm_netns_is(space->name, space->fd)))
			continue;
		fm_log_info("network namespace %s: %s", space->name,
			    space->wanted ? "gone" : "not monitored any more");
		space_close(space);
	}
}

static int on_directory(sd_event_source *source, const struct inotify_event *event, void *userdata);

/* Whether a namespace that is wanted is missing still. */
static bool open_spaces(struct fm_interfaces *interfaces)
{
	bool missing = false;

	for (size_t s = 1; s < interfaces->n_spaces; s++) {
		struct space *space = interfaces->spaces[s];
		int r;

		if (!space->wanted || is_open(space))
			continue;
		r = space_open(space);
		if (r == 0) {
			fm_log_info("network namespace %s: entered", space->name);
			space->told = false;
			continue;
		}
		missing = true;
		if (!space->told && r == -EPERM)
			fm_log_warning(
				"network namespace %s: its interfaces are not counted, to enter it CAP_SYS_ADMIN is needed",
				space->name);
		else if (!space->told)
			fm_log_notice("network namespace %s: %s; looked for again", space->name,
				      r == -ENOENT ? "is not there" : strerror(-r));
		space->told = true;
	}
	return missing;
}

static void look_for_spaces(struct fm_interfaces *interfaces)
{
	close_spaces(interfaces);
	if (interfaces->n_spaces > 1 && !interfaces->watch)
		sd_event_add_inotify(interfaces->event, &interfaces->watch, FM_NETNS_DIRECTORY,
				     IN_CREATE | IN_DELETE | IN_MOVE | IN_ONLYDIR, on_directory,
				     interfaces);
	if (!open_spaces(interfaces))
		return;
	sd_event_source_set_time_relative(interfaces->timer, interfaces->look_again_us);
	sd_event_source_set_enabled(interfaces->timer, SD_EVENT_ONESHOT);
	interfaces->look_again_us = FM_MIN(2 * interfaces->look_again_us, (uint64_t)LOOK_AGAIN_US);
}

static int on_timer(sd_event_source *source, uint64_t usec, void *userdata)
{
	look_for_spaces(userdata);
	update(userdata);
	return 0;
}

static int on_directory(sd_event_source *source, const struct inotify_event *event, void *userdata)
{
	struct fm_interfaces *interfaces = userdata;

	/* The directory itself is gone. */
	if (event->mask & IN_IGNORED)
		interfaces->watch = sd_event_source_disable_unref(interfaces->watch);
	/* A name comes before what it stands for. */
	interfaces->look_again_us = LOOK_AGAIN_SOON_US;
	look_for_spaces(interfaces);
	update(interfaces);
	return 0;
}

/* --- outside --- */

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
		.patterns = patterns,
		.observe = observe,
		.ops = *ops,
		.userdata = userdata,
		.look_again_us = LOOK_AGAIN_SOON_US,
	};
	r = sd_event_add_time_relative(event, &interfaces->timer, CLOCK_MONOTONIC, LOOK_AGAIN_US, 0,
				       on_timer, interfaces);
	if (r < 0)
		return r;
	sd_event_source_set_enabled(interfaces->timer, SD_EVENT_OFF);
	r = space_add(interfaces, NULL);
	if (r == 0)
		r = space_open(interfaces->spaces[0]);
	if (r == 0)
		r = name_spaces(interfaces);
	if (r < 0)
		return r;
	look_for_spaces(interfaces);
	r = update(interfaces);
	if (r < 0)
		return r;
	*ret = FM_TAKE_PTR(interfaces);
	return 0;
}

int fm_interfaces_reconfigure(struct fm_interfaces *interfaces, const struct fm_names *patterns,
			      enum fm_observe observe)
{
	int r, result;

	interfaces->patterns = patterns;
	interfaces->observe = observe;
	interfaces->dirty = true;
	interfaces->look_again_us = LOOK_AGAIN_SOON_US;
	result = name_spaces(interfaces);
	look_for_spaces(interfaces);
	r = update(interfaces);
	return result < 0 ? result : r;
}

struct fm_interfaces *fm_interfaces_free(struct fm_interfaces *interfaces)
{
	if (!interfaces)
		return NULL;
	do_everywhere(interfaces, do_end_egress);
	do_everywhere(interfaces, do_end);
	return fm_interfaces_leave(interfaces);
}

struct fm_interfaces *fm_interfaces_leave(struct fm_interfaces *interfaces)
{
	if (!interfaces)
		return NULL;
	sd_event_source_disable_unref(interfaces->watch);
	sd_event_source_disable_unref(interfaces->timer);
	while (interfaces->n_spaces) {
		struct space *space = interfaces->spaces[--interfaces->n_spaces];

		/* Forgetting would take off what is to stay. */
		space->n_known = 0;
		space_free(space);
	}
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

			fn(argument, &known->link.device, &known->done);
		}
}

int fm_interfaces_counters(struct fm_interfaces *interfaces, unsigned int ns, uint32_t ifindex,
			   struct fm_link_counters *ret)
{
	if (ns >= interfaces->n_spaces || !is_open(interfaces->spaces[ns]))
		return -ENODEV;
	return fm_links_counters(interfaces->spaces[ns]->questions_fd, ifindex, ret);
}

size_t fm_interfaces_failed(const struct fm_interfaces *interfaces)
{
	size_t failed = 0;

	for (size_t s = 0; s < interfaces->n_spaces; s++)
		for (size_t i = 0; i < interfaces->spaces[s]->n_known; i++)
			failed += interfaces->spaces[s]->known[i].failed;
	return failed;
}
