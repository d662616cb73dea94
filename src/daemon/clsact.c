/* SPDX-License-Identifier: Apache-2.0 */
/* Filters on clsact qdiscs: see clsact.h. */
#include "daemon/clsact.h"

#include <errno.h>
#include <libmnl/libmnl.h>
#include <linux/if_ether.h>
#include <linux/pkt_cls.h>
#include <linux/pkt_sched.h>
#include <linux/rtnetlink.h>
#include <netinet/in.h>
#include <string.h>

#include "base/cleanup.h"
#include "base/macro.h"
#include "daemon/netlink.h"

/* Ours on a qdisc that was there before, and ours on one that came with it. */
#define HANDLE_GUEST 0xf10e
#define HANDLE_OWNER 0xf10f
/*
 * As early as possible: any filter before us that says "accept" (TC_ACT_OK, the usual answer) ends
 * the walk, and what it let pass would not be counted. A priority that holds filters of another
 * kind or protocol cannot be shared; then the next one.
 */
#define PRIORITY_FIRST 1
#define PRIORITY_LAST  16

#define OURS_MAX 32

static const char *const names[_FM_HOOK_MAX] = {"fm_ingress", "fm_egress"};

/* A filter of ours that was found. */
struct place {
	enum fm_hook hook;
	uint16_t priority;
	uint32_t handle;
};

/* What is on a device's clsact qdisc. */
struct survey {
	enum fm_hook hook; /* being read */
	struct place ours[OURS_MAX];
	size_t n_ours;
	size_t n_all; /* with other people's, and the heads of priorities */
};

static uint32_t parent_of(enum fm_hook hook)
{
	return TC_H_MAKE(TC_H_CLSACT, hook == FM_HOOK_INGRESS ? TC_H_MIN_INGRESS : TC_H_MIN_EGRESS);
}

static struct nlmsghdr *put_request(char *buffer, uint16_t type, uint16_t flags, uint32_t ifindex,
				    uint32_t parent)
{
	struct tcmsg *message;
	struct nlmsghdr *header = fm_netlink_put(buffer, type, flags, sizeof(*message), &message);

	message->tcm_ifindex = (int)ifindex;
	message->tcm_parent = parent;
	return header;
}

/* --- the qdisc --- */

enum qdisc {
	QDISC_NONE,
	QDISC_CLSACT,
	QDISC_OTHER, /* "ingress": only one of both fits */
};

static int on_qdisc_attribute(const struct nlattr *attribute, void *userdata)
{
	enum qdisc *ret = userdata;

	if (mnl_attr_get_type(attribute) == TCA_KIND &&
	    mnl_attr_validate(attribute, MNL_TYPE_NUL_STRING) >= 0)
		*ret = strcmp(mnl_attr_get_str(attribute), "clsact") ? QDISC_OTHER : QDISC_CLSACT;
	return MNL_CB_OK;
}

static void on_qdisc(const struct nlmsghdr *header, void *userdata)
{
	if (header->nlmsg_type == RTM_NEWQDISC)
		mnl_attr_parse(header, sizeof(struct tcmsg), on_qdisc_attribute, userdata);
}

static int find_qdisc(int fd, uint32_t ifindex, enum qdisc *ret)
{
	char buffer[MNL_NLMSG_HDRLEN + 256];
	enum qdisc found = QDISC_NONE;
	int r;

	/* Without "echo" the answer goes to those only that listen to changes. */
	put_request(buffer, RTM_GETQDISC, NLM_F_ACK | NLM_F_ECHO, ifindex, TC_H_INGRESS);
	r = fm_netlink_talk(fd, (struct nlmsghdr *)buffer, on_qdisc, &found);
	/* Where one was removed the kernel says EINVAL, where none ever was ENOENT. */
	if (r < 0 && r != -ENOENT && r != -EINVAL)
		return r;
	*ret = found;
	return 0;
}

static int change_qdisc(int fd, uint32_t ifindex, uint16_t type, uint16_t flags)
{
	char buffer[MNL_NLMSG_HDRLEN + 256];
	struct nlmsghdr *header =
		put_request(buffer, type, NLM_F_ACK | flags, ifindex, TC_H_CLSACT);
	struct tcmsg *message = mnl_nlmsg_get_payload(header);

	message->tcm_handle = TC_H_MAKE(TC_H_CLSACT, 0);
	mnl_attr_put_strz(header, TCA_KIND, "clsact");
	return fm_netlink_talk(fd, header, NULL, NULL);
}

/* There is a qdisc with room for the hook then. */
static int need_qdisc(int fd, uint32_t ifindex, enum fm_hook hook, bool *ret_made)
{
	enum qdisc qdisc;
	int r = change_qdisc(fd, ifindex, RTM_NEWQDISC, NLM_F_CREATE | NLM_F_EXCL);

	*ret_made = r == 0;
	if (r != -EEXIST)
		return r;
	r = find_qdisc(fd, ifindex, &qdisc);
	if (r < 0)
		return r;
	/* An ingress qdisc would take a filter for egress, and run it at ingress. */
	return qdisc == QDISC_CLSACT || hook == FM_HOOK_INGRESS ? 0 : -EBUSY;
}

/* --- filters --- */

struct filter_info {
	bool is_bpf;
	const char *name;
};

static int on_option(const struct nlattr *attribute, void *userdata)
{
	struct filter_info *info = userdata;

	if (mnl_attr_get_type(attribute) == TCA_BPF_NAME &&
	    mnl_attr_validate(attribute, MNL_TYPE_NUL_STRING) >= 0)
		info->name = mnl_attr_get_str(attribute);
	return MNL_CB_OK;
}

static int on_filter_attribute(const struct nlattr *attribute, void *userdata)
{
	struct filter_info *info = userdata;

	if (mnl_attr_get_type(attribute) == TCA_KIND &&
	    mnl_attr_validate(attribute, MNL_TYPE_NUL_STRING) >= 0)
		info->is_bpf = !strcmp(mnl_attr_get_str(attribute), "bpf");
	/* The kind comes first: options of other kinds are not looked into. */
	if (mnl_attr_get_type(attribute) == TCA_OPTIONS && info->is_bpf)
		mnl_attr_parse_nested(attribute, on_option, info);
	return MNL_CB_OK;
}

static void on_filter(const struct nlmsghdr *header, void *userdata)
{
	const struct tcmsg *message = mnl_nlmsg_get_payload(header);
	struct survey *survey = userdata;
	struct filter_info info = {};

	if (header->nlmsg_type != RTM_NEWTFILTER)
		return;
	survey->n_all++;
	mnl_attr_parse(header, sizeof(*message), on_filter_attribute, &info);
	if ((message->tcm_handle != HANDLE_GUEST && message->tcm_handle != HANDLE_OWNER) ||
	    !info.name || strcmp(info.name, names[survey->hook]) || survey->n_ours == OURS_MAX)
		return;
	survey->ours[survey->n_ours++] = (struct place){
		.hook = survey->hook,
		.priority = (uint16_t)(message->tcm_info >> 16),
		.handle = message->tcm_handle,
	};
}

static int look_once(int fd, uint32_t ifindex, struct survey *ret)
{
	enum qdisc qdisc;
	int r = find_qdisc(fd, ifindex, &qdisc);

	*ret = (struct survey){};
	for (int hook = 0; r == 0 && qdisc != QDISC_NONE && hook < _FM_HOOK_MAX; hook++) {
		char buffer[MNL_NLMSG_HDRLEN + 256];

		/* An ingress qdisc shows the same filters under both names. */
		if (qdisc == QDISC_OTHER && hook == FM_HOOK_EGRESS)
			break;
		ret->hook = (enum fm_hook)hook;
		put_request(buffer, RTM_GETTFILTER, NLM_F_DUMP, ifindex,
			    parent_of((enum fm_hook)hook));
		r = fm_netlink_talk(fd, (struct nlmsghdr *)buffer, on_filter, ret);
	}
	return r;
}

/* What is on both hooks of a device. 0 or -errno. */
static int look(int fd, uint32_t ifindex, struct survey *ret)
{
	int r;

	do
		r = look_once(fd, ifindex, ret);
	while (r == -EINTR);
	return r;
}

static struct nlmsghdr *put_filter(char *buffer, uint16_t type, uint16_t flags, uint32_t ifindex,
				   const struct place *place)
{
	struct nlmsghdr *header =
		put_request(buffer, type, NLM_F_ACK | flags, ifindex, parent_of(place->hook));
	struct tcmsg *message = mnl_nlmsg_get_payload(header);

	message->tcm_handle = place->handle;
	message->tcm_info = TC_H_MAKE((uint32_t)place->priority << 16, htons(ETH_P_ALL));
	mnl_attr_put_strz(header, TCA_KIND, "bpf");
	return header;
}

static int put_program(int fd, uint16_t flags, uint32_t ifindex, const struct place *place,
		       int program_fd)
{
	char buffer[MNL_NLMSG_HDRLEN + 512];
	struct nlmsghdr *header = put_filter(buffer, RTM_NEWTFILTER, flags, ifindex, place);
	struct nlattr *options = mnl_attr_nest_start(header, TCA_OPTIONS);

	mnl_attr_put_u32(header, TCA_BPF_FD, (uint32_t)program_fd);
	mnl_attr_put_strz(header, TCA_BPF_NAME, names[place->hook]);
	mnl_attr_put_u32(header, TCA_BPF_FLAGS, TCA_BPF_FLAG_ACT_DIRECT);
	mnl_attr_nest_end(header, options);
	return fm_netlink_talk(fd, header, NULL, NULL);
}

static int del_filter(int fd, uint32_t ifindex, const struct place *place)
{
	char buffer[MNL_NLMSG_HDRLEN + 256];

	return fm_netlink_talk(fd, put_filter(buffer, RTM_DELTFILTER, 0, ifindex, place), NULL,
			       NULL);
}

/* Whether there was nothing to do: device, qdisc or filter are gone. */
static bool is_gone(int r)
{
	return r == -ENODEV || r == -ENOENT || r == -EINVAL;
}

/*
 * Takes the qdisc away if nothing is on it any more. Something may be put there between look and
 * deed: the kernel has no "only if empty".
 */
static int drop_qdisc(int fd, uint32_t ifindex)
{
	struct survey survey;
	int r = look(fd, ifindex, &survey);

	if (r == 0 && !survey.n_all)
		r = change_qdisc(fd, ifindex, RTM_DELQDISC, 0);
	return is_gone(r) ? 0 : r;
}

/* Puts the filter where there is room. *place: hook and handle; its priority is chosen. */
static int find_room(int fd, uint32_t ifindex, struct place *place, int program_fd)
{
	int r = -EINVAL;

	for (uint16_t i = PRIORITY_FIRST; i <= PRIORITY_LAST; i++) {
		place->priority = i;
		r = put_program(fd, NLM_F_CREATE | NLM_F_EXCL, ifindex, place, program_fd);
		if (r != -EINVAL && r != -EEXIST)
			return r;
	}
	return r;
}

/* Replaces the first of ours on the hook and removes further ones. 0, -ENOENT: none, -errno. */
static int take_over(int fd, uint32_t ifindex, const struct survey *survey, int program_fd,
		     struct place *place)
{
	bool found = false;
	int r;

	for (size_t i = 0; i < survey->n_ours; i++) {
		if (survey->ours[i].hook != place->hook)
			continue;
		if (found) {
			del_filter(fd, ifindex, &survey->ours[i]);
			continue;
		}
		r = put_program(fd, NLM_F_REPLACE, ifindex, &survey->ours[i], program_fd);
		if (r < 0)
			return r;
		*place = survey->ours[i];
		found = true;
	}
	return found ? 0 : -ENOENT;
}

/* In the namespace of the socket. *ret_place: hook; the rest is chosen. 0 or -errno. */
static int attach(int fd, uint32_t ifindex, int program_fd, struct place *ret_place)
{
	struct place place = {.hook = ret_place->hook, .handle = HANDLE_GUEST};
	struct survey survey;
	bool made;
	int r = need_qdisc(fd, ifindex, place.hook, &made);

	if (r < 0)
		return r;
	r = look(fd, ifindex, &survey);
	for (size_t i = 0; i < survey.n_ours; i++)
		made |= survey.ours[i].handle == HANDLE_OWNER;
	if (made)
		place.handle = HANDLE_OWNER;
	if (r == 0)
		r = take_over(fd, ifindex, &survey, program_fd, &place);
	if (r == -ENOENT)
		r = find_room(fd, ifindex, &place, program_fd);
	if (r < 0) {
		if (made)
			drop_qdisc(fd, ifindex);
		return r;
	}
	*ret_place = place;
	return 0;
}

int fm_clsact_attach(struct fm_clsact *ret, int program_fd, uint32_t ifindex, enum fm_hook hook)
{
	struct place place = {.hook = hook};
	_fm_cleanup_close_ int fd = -1;
	int r = fm_netlink_open(&fd);

	if (r == 0)
		r = attach(fd, ifindex, program_fd, &place);
	if (r < 0)
		return r;
	*ret = (struct fm_clsact){
		.netlink_fd = FM_TAKE_FD(fd),
		.ifindex = ifindex,
		.hook = hook,
		.priority = place.priority,
		.handle = place.handle,
	};
	return 0;
}

int fm_clsact_replace(struct fm_clsact *clsact, int program_fd)
{
	struct place place = {clsact->hook, clsact->priority, clsact->handle};
	int r = put_program(clsact->netlink_fd, NLM_F_REPLACE, clsact->ifindex, &place, program_fd);

	/* Somebody removed it: nothing of ours is there that could count a packet as well. Not
	 * simply created again, the handle would claim a qdisc that may be theirs now. */
	if (r == -EINVAL || r == -ENOENT)
		r = attach(clsact->netlink_fd, clsact->ifindex, program_fd, &place);
	if (r < 0)
		return r;
	clsact->priority = place.priority;
	clsact->handle = place.handle;
	return 0;
}

/* Whether the filter is still there and still ours. */
static bool is_ours(int fd, const struct fm_clsact *clsact)
{
	struct survey survey;

	if (look(fd, clsact->ifindex, &survey) < 0)
		return false;
	for (size_t i = 0; i < survey.n_ours; i++)
		if (survey.ours[i].hook == clsact->hook &&
		    survey.ours[i].priority == clsact->priority &&
		    survey.ours[i].handle == clsact->handle)
			return true;
	return false;
}

int fm_clsact_detach(struct fm_clsact *clsact)
{
	const struct place place = {clsact->hook, clsact->priority, clsact->handle};
	_fm_cleanup_close_ int fd = FM_TAKE_FD(clsact->netlink_fd);
	int r;

	if (!is_ours(fd, clsact))
		return 0;
	r = del_filter(fd, clsact->ifindex, &place);
	if (r < 0)
		return is_gone(r) ? 0 : r;
	return clsact->handle == HANDLE_OWNER ? drop_qdisc(fd, clsact->ifindex) : 0;
}

void fm_clsact_leave(struct fm_clsact *clsact)
{
	if (clsact->netlink_fd >= 0)
		close(clsact->netlink_fd);
	clsact->netlink_fd = -1;
}

int fm_clsact_purge(uint32_t ifindex)
{
	_fm_cleanup_close_ int fd = -1;
	struct survey survey;
	bool made = false;
	int r = fm_netlink_open(&fd);

	if (r == 0)
		r = look(fd, ifindex, &survey);
	if (r < 0)
		return is_gone(r) ? 0 : r;
	for (size_t i = 0; i < survey.n_ours; i++) {
		r = del_filter(fd, ifindex, &survey.ours[i]);
		if (r < 0 && !is_gone(r))
			return r;
		made |= survey.ours[i].handle == HANDLE_OWNER;
	}
	if (made)
		r = drop_qdisc(fd, ifindex);
	return r < 0 ? r : (int)survey.n_ours;
}
