/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Following network devices: see interfaces.h; what to do with each is decided in
 * interfaces-plan.c, this file does it and keeps account of what is done.
 *
 * Packets are between two hooks at any time, so hooks change in stages, and from one to the next
 * all packets have gone on that were at a hook (a grace period, in which the event loop goes on):
 *
 *  1. the hooks of every device that changes begin to mark what they count, and pass over what is
 *     marked;
 *  2. devices that will be seen, or will be no more, are "marked": where their packets leave, the
 *     mark decides. Hooks that come are attached. Now the old and the new ones are there, and each
 *     packet is counted by the first that it passes;
 *  3. hooks that go are detached; what their device let in since has no mark and is counted where
 * it leaves. Devices that came are seen;
 *  4. devices that went are not, and nobody marks any more.
 *
 * A stage that has nothing to do is not waited for. A plan that changes meanwhile begins at the
 * first stage again, with what is done so far; a process that was killed left what the next finds.
 * At the end nothing is missed by stopping: egress, ingress, seen.
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
/* So often a change may begin again before its end. */
#define RESTARTS_MAX 8

/* A device as it is known, and what of its plan is done. */
struct known {
	struct fm_link link;
	struct fm_plan plan;
	struct fm_plan done;
	enum fm_seen seen;
	bool marks;   /* its hooks do */
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

enum stage {
	STAGE_MARK,
	STAGE_JOIN,
	STAGE_PART,
	STAGE_REST,
	_STAGE_MAX,
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
	enum stage stage;     /* the next */
	bool waiting;	      /* for packets, before it; */
	bool wait_again;      /* for those that have come since then as well */
	bool in_between;      /* something was done that must be waited for */
	bool rehooks;	      /* hooks come or go */
	unsigned int restarts;
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

static void close_spaces(struct fm_interfaces *interfaces, bool settled);

/* --- one deed --- */

static bool *done_of(struct known *known, enum fm_hook hook)
{
	return hook == FM_HOOK_INGRESS ? &known->done.ingress : &known->done.egress;
}

static bool planned(const struct known *known, enum fm_hook hook)
{
	return hook == FM_HOOK_INGRESS ? known->plan.ingress : known->plan.egress;
}

static void set_seen(struct space *space, struct known *known, enum fm_seen seen)
{
	if (known->seen == seen)
		return;
	space->interfaces->ops.set_seen(space->interfaces->userdata, space->index,
					known->link.device.ifindex, seen);
	known->seen = seen;
	known->done.seen = seen != FM_SEEN_NO;
}

static void set_marks(struct space *space, struct known *known, bool marks)
{
	if (known->marks == marks)
		return;
	space->interfaces->ops.set_marks(space->interfaces->userdata, space->index,
					 known->link.device.ifindex, marks);
	known->marks = marks;
	space->interfaces->in_between = true;
}

static void detach(struct space *space, struct known *known, enum fm_hook hook)
{
	if (!*done_of(known, hook))
		return;
	space->interfaces->ops.detach(space->interfaces->userdata, space->index,
				      known->link.device.ifindex, hook);
	*done_of(known, hook) = false;
	space->interfaces->changed = true;
	space->interfaces->in_between = true;
}

static void detach_both(struct space *space, struct known *known)
{
	detach(space, known, FM_HOOK_INGRESS);
	detach(space, known, FM_HOOK_EGRESS);
}

static void attach(struct space *space, struct known *known, enum fm_hook hook)
{
	int r;

	if (*done_of(known, hook))
		return;
	r = go_to(space);
	if (r == 0)
		r = space->interfaces->ops.attach(space->interfaces->userdata, &known->link.device,
						  hook, known->plan.layer3);
	if (r == 0) {
		*done_of(known, hook) = true;
		known->marks = true;
		space->interfaces->changed = true;
		space->interfaces->in_between = true;
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

/* --- all deeds, by stages --- */

typedef void deed_fn(struct space *space, struct known *known);

static bool is_hooked(const struct known *known)
{
	return known->done.ingress || known->done.egress;
}

static bool rehooks(const struct known *known)
{
	return known->done.ingress != known->plan.ingress ||
	       known->done.egress != known->plan.egress;
}

static bool changes(const struct known *known)
{
	return rehooks(known) || known->seen != (known->plan.seen ? FM_SEEN_YES : FM_SEEN_NO);
}

static void do_mark(struct space *space, struct known *known)
{
	space->interfaces->rehooks |= rehooks(known);
	if (is_hooked(known) && changes(known))
		set_marks(space, known, true);
}

static void do_join(struct space *space, struct known *known)
{
	known->failed = false;
	/* What is stacked on hooks that stay was counted there all the time. */
	if (known->plan.seen && known->seen == FM_SEEN_NO)
		set_seen(space, known,
			 known->plan.covered && !space->interfaces->rehooks ? FM_SEEN_YES
									    : FM_SEEN_MARKED);
	/* A device may change its type: other programs then. */
	if (known->done.layer3 != known->plan.layer3)
		detach_both(space, known);
	known->done.layer3 = known->plan.layer3;
	for (int hook = 0; hook < _FM_HOOK_MAX; hook++)
		if (planned(known, (enum fm_hook)hook))
			attach(space, known, (enum fm_hook)hook);
	if (!may_be_seen(known) && known->seen == FM_SEEN_YES)
		set_seen(space, known, FM_SEEN_MARKED);
}

static void do_part(struct space *space, struct known *known)
{
	for (int hook = 0; hook < _FM_HOOK_MAX; hook++)
		if (!planned(known, (enum fm_hook)hook))
			detach(space, known, (enum fm_hook)hook);
	if (may_be_seen(known))
		set_seen(space, known, FM_SEEN_YES);
	known->done.covered = known->plan.covered;
	known->done.mixed = known->plan.mixed;
	known->done.foreign = known->plan.foreign;
	if (!known->failed)
		known->told = false;
}

static void do_rest(struct space *space, struct known *known)
{
	if (!may_be_seen(known))
		set_seen(space, known, FM_SEEN_NO);
	set_marks(space, known, false);
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
	set_seen(space, known, FM_SEEN_NO);
	set_marks(space, known, false);
}

/* Whether something was done that the next stage has to wait for. */
static bool do_everywhere(struct fm_interfaces *interfaces, deed_fn *deed)
{
	interfaces->in_between = false;
	for (size_t s = 0; s < interfaces->n_spaces; s++)
		for (size_t i = 0; i < interfaces->spaces[s]->n_known; i++)
			deed(interfaces->spaces[s], &interfaces->spaces[s]->known[i]);
	go_home(interfaces);
	return interfaces->in_between;
}

static void wait_for_packets(struct fm_interfaces *interfaces)
{
	interfaces->waiting = true;
	interfaces->wait_again = false;
	interfaces->ops.pass(interfaces->userdata);
}

/* As far as it goes without waiting. */
static void go_on(struct fm_interfaces *interfaces)
{
	static deed_fn *const deeds[_STAGE_MAX] = {
		[STAGE_MARK] = do_mark,
		[STAGE_JOIN] = do_join,
		[STAGE_PART] = do_part,
		[STAGE_REST] = do_rest,
	};

	while (interfaces->stage < _STAGE_MAX) {
		bool wait = do_everywhere(interfaces, deeds[interfaces->stage]);

		if (++interfaces->stage < _STAGE_MAX && wait && interfaces->ops.pass) {
			wait_for_packets(interfaces);
			return;
		}
	}
	interfaces->stage = STAGE_MARK;
	interfaces->restarts = 0;
	interfaces->rehooks = false;
	close_spaces(interfaces, true);
}

/* Another plan while packets are waited for: what was done so far is where it begins. */
static void begin_again(struct fm_interfaces *interfaces)
{
	bool marked = do_everywhere(interfaces, do_mark);

	interfaces->wait_again = true;
	interfaces->restarts++;
	if (interfaces->stage == STAGE_JOIN || marked) {
		interfaces->stage = STAGE_JOIN;
		return;
	}
	do_everywhere(interfaces, do_join);
	interfaces->stage = STAGE_PART;
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

	/* One that is put off too often is brought to its end first. */
	while (interfaces->dirty && interfaces->restarts < RESTARTS_MAX && r == 0) {
		r = make_plan(interfaces);
		/* Without memory what is done stays; the next change tries again. */
		if (r < 0)
			break;
		interfaces->dirty = false;
		do_everywhere(interfaces, do_notes);
		if (interfaces->waiting)
			begin_again(interfaces);
		else
			go_on(interfaces);
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

/* A device whose packets an earlier process counted. */
static void find_left(struct space *space, struct known *known)
{
	const struct fm_interfaces *interfaces = space->interfaces;

	if (interfaces->ops.get_seen)
		known->seen = interfaces->ops.get_seen(interfaces->userdata, space->index,
						       known->link.device.ifindex);
	known->done.seen = known->seen != FM_SEEN_NO;
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
	find_left(space, &grown[position]);
	return 0;
}

/* A device that is gone: the kernel took off what was on it, here the account is cleared. */
static void forget(struct space *space, struct known *known)
{
	size_t position = (size_t)(known - space->known);

	set_seen(space, known, FM_SEEN_NO);
	detach_both(space, known);
	set_marks(space, known, false);
	memmove(known, known + 1, (space->n_known - position - 1) * sizeof(*known));
	space->n_known--;
	space->interfaces->changed = true;
	space->interfaces->dirty = true;
}

static bool same_name(const struct fm_device *a, const struct fm_device *b)
{
	return !strcmp(a->name, b->name) && !strcmp(a->alias, b->alias);
}

/* What else is told of a device, or says which VRF it belongs to. */
static bool same_tale(const struct fm_device *a, const struct fm_device *b)
{
	return a->speed == b->speed && a->table == b->table && a->vlan == b->vlan &&
	       a->master == b->master && a->link == b->link;
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
	now.device.link_ns = link->link_netnsid < 0 ? FM_LINK_SAME : FM_LINK_AWAY;
	if (event == FM_LINKS_IS)
		fm_links_speed(space->questions_fd, &now.device);
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
	space->interfaces->changed |= !same_name(&known->link.device, &now.device) ||
				      !same_tale(&known->link.device, &now.device);
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
		if (!name || found)
			continue;
		r = space_add(interfaces, name);
		if (r == 0 && interfaces->ops.named)
			interfaces->ops.named(interfaces->userdata,
					      (unsigned int)interfaces->n_spaces - 1, name);
	}
	return r;
}

/* Spaces that an earlier process had keep their index. */
static int kept_spaces(struct fm_interfaces *interfaces)
{
	const char *name;
	int r = 0;

	while (r == 0 && interfaces->ops.name &&
	       (name = interfaces->ops.name(interfaces->userdata,
					    (unsigned int)interfaces->n_spaces)))
		r = space_add(interfaces, name);
	return r;
}

/*
 * A namespace without its name is let go: held on to, it would live on with all its devices. One
 * that is not wanted any more, when nothing is attached in it any more.
 */
static void close_spaces(struct fm_interfaces *interfaces, bool settled)
{
	for (size_t s = 1; s < interfaces->n_spaces; s++) {
		struct space *space = interfaces->spaces[s];

		if (!is_open(space) ||
		    ((space->wanted || !settled) && fm_netns_is(space->name, space->fd)))
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
	close_spaces(interfaces, false);
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
		r = kept_spaces(interfaces);
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

void fm_interfaces_passed(struct fm_interfaces *interfaces)
{
	int r;

	if (interfaces->wait_again) {
		wait_for_packets(interfaces);
		return;
	}
	interfaces->waiting = false;
	go_on(interfaces);
	r = update(interfaces);
	if (r < 0)
		fm_log_warning("cannot plan what to attach: %s", strerror(-r));
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

const char *fm_interfaces_namespace(const struct fm_interfaces *interfaces, unsigned int ns)
{
	return ns < interfaces->n_spaces ? interfaces->spaces[ns]->name : NULL;
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
