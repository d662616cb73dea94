/* SPDX-License-Identifier: Apache-2.0 */
/* Attaching programs: see attach.h. */
#include "daemon/attach.h"

#include <errno.h>
#include <libmnl/libmnl.h>
#include <linux/pkt_sched.h>
#include <linux/rtnetlink.h>
#include <string.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <bpf/bpf.h>
#include <bpf/libbpf.h>

#include "base/cleanup.h"
#include "base/macro.h"

/* From the kernel's 6.6 headers; those of the oldest supported system do not have them yet. */
#define TCX_INGRESS	46
#define TCX_EGRESS	47
#define RELATIVE_BEFORE (1U << 3)
#define RELATIVE_AFTER	(1U << 4)

/* Our filters' handle, and their places: first at ingress if that is to be had, last at egress. */
#define CLSACT_HANDLE 0xf10e
#define CLSACT_FIRST  1
#define CLSACT_LAST   0xf10e

/* bpf(2) BPF_LINK_CREATE with the part for TCX. */
struct tcx_link_create {
	uint32_t prog_fd;
	uint32_t target_ifindex;
	uint32_t attach_type;
	uint32_t flags;
	uint32_t relative_fd;
	uint32_t pad;
	uint64_t expected_revision;
};

static int tcx_attach(uint32_t ifindex, enum fm_hook hook, int program_fd)
{
	struct tcx_link_create create = {
		.prog_fd = (uint32_t)program_fd,
		.target_ifindex = ifindex,
		.attach_type = hook == FM_HOOK_INGRESS ? TCX_INGRESS : TCX_EGRESS,
		.flags = hook == FM_HOOK_INGRESS ? RELATIVE_BEFORE : RELATIVE_AFTER,
	};
	long fd = syscall(SYS_bpf, BPF_LINK_CREATE, &create, sizeof(create));

	return fd < 0 ? -errno : (int)fd;
}

static void clsact_hook(const struct fm_attachment *attachment, struct bpf_tc_hook *ret)
{
	*ret = (struct bpf_tc_hook){
		.sz = sizeof(*ret),
		.ifindex = (int)attachment->ifindex,
		.attach_point =
			attachment->hook == FM_HOOK_INGRESS ? BPF_TC_INGRESS : BPF_TC_EGRESS,
	};
}

/* Takes the place of a filter of ours that is there already, also of a dead daemon's. */
static int clsact_attach(const struct fm_attachment *attachment, int program_fd)
{
	struct bpf_tc_hook hook;
	LIBBPF_OPTS(bpf_tc_opts, opts, .prog_fd = program_fd, .handle = CLSACT_HANDLE,
		    .priority = attachment->priority, .flags = BPF_TC_F_REPLACE);

	clsact_hook(attachment, &hook);
	return bpf_tc_attach(&hook, &opts);
}

static void clsact_detach(const struct fm_attachment *attachment)
{
	struct bpf_tc_hook hook;
	LIBBPF_OPTS(bpf_tc_opts, opts, .handle = CLSACT_HANDLE, .priority = attachment->priority);

	clsact_hook(attachment, &hook);
	bpf_tc_detach(&hook, &opts);
}

static int clsact_create(struct fm_attachment *attachment)
{
	struct bpf_tc_hook hook;
	int r;

	clsact_hook(attachment, &hook);
	r = bpf_tc_hook_create(&hook);
	if (r == -EEXIST)
		return 0;
	if (r < 0)
		return r;
	attachment->made_qdisc = true;
	return 0;
}

static int count_filter(const struct nlmsghdr *header, void *argument)
{
	unsigned int *n = argument;

	if (header->nlmsg_type == RTM_NEWTFILTER)
		(*n)++;
	return MNL_CB_OK;
}

/* Filters on one side of the device's clsact qdisc; -errno. */
static int count_filters(uint32_t ifindex, uint32_t parent)
{
	char buffer[MNL_SOCKET_BUFFER_SIZE];
	struct nlmsghdr *header = mnl_nlmsg_put_header(buffer);
	struct mnl_socket *socket = mnl_socket_open2(NETLINK_ROUTE, SOCK_CLOEXEC);
	struct tcmsg *message;
	unsigned int n = 0;
	ssize_t size;
	int r = -errno;

	if (!socket)
		return r;
	header->nlmsg_type = RTM_GETTFILTER;
	header->nlmsg_flags = NLM_F_REQUEST | NLM_F_DUMP;
	header->nlmsg_seq = 1;
	message = mnl_nlmsg_put_extra_header(header, sizeof(*message));
	message->tcm_family = AF_UNSPEC;
	message->tcm_ifindex = (int)ifindex;
	message->tcm_parent = parent;
	if (mnl_socket_bind(socket, 0, MNL_SOCKET_AUTOPID) < 0 ||
	    mnl_socket_sendto(socket, header, header->nlmsg_len) < 0) {
		r = -errno;
		mnl_socket_close(socket);
		return r;
	}
	do {
		size = mnl_socket_recvfrom(socket, buffer, sizeof(buffer));
		r = size < 0 ? -1
			     : mnl_cb_run(buffer, (size_t)size, 1, mnl_socket_get_portid(socket),
					  count_filter, &n);
	} while (r > 0);
	r = r < 0 ? -errno : (int)n;
	mnl_socket_close(socket);
	return r;
}

/* The qdisc goes only if it came with us and nobody uses it now. */
static void clsact_clean(const struct fm_attachment *attachment)
{
	LIBBPF_OPTS(bpf_tc_hook, hook, .ifindex = (int)attachment->ifindex,
		    .attach_point = BPF_TC_INGRESS | BPF_TC_EGRESS);

	if (count_filters(attachment->ifindex, TC_H_MAKE(TC_H_CLSACT, TC_H_MIN_INGRESS)) == 0 &&
	    count_filters(attachment->ifindex, TC_H_MAKE(TC_H_CLSACT, TC_H_MIN_EGRESS)) == 0)
		bpf_tc_hook_destroy(&hook);
}

static int attach_clsact(struct fm_attachment *attachment, int program_fd)
{
	int r = clsact_create(attachment);

	if (r < 0)
		return r;
	attachment->priority = attachment->hook == FM_HOOK_INGRESS ? CLSACT_FIRST : CLSACT_LAST;
	r = clsact_attach(attachment, program_fd);
	if (r < 0 && attachment->priority == CLSACT_FIRST) {
		/* The first place belongs to a filter of another kind. */
		attachment->priority = CLSACT_LAST;
		r = clsact_attach(attachment, program_fd);
	}
	if (r < 0 && attachment->made_qdisc)
		clsact_clean(attachment);
	return r;
}

int fm_attach(struct fm_attachment *ret, uint32_t ifindex, enum fm_hook hook, int program_fd,
	      enum fm_attach_mode mode)
{
	struct fm_attachment made = {.ifindex = ifindex, .hook = hook, .link_fd = -1};
	int r = -EOPNOTSUPP;

	if (mode != FM_ATTACH_CLSACT) {
		r = tcx_attach(ifindex, hook, program_fd);
		if (r >= 0) {
			made.tcx = true;
			made.link_fd = r;
			r = 0;
		}
	}
	/* What a kernel without TCX says to an attach type that it does not know. */
	if (mode != FM_ATTACH_TCX && (r == -EINVAL || r == -EOPNOTSUPP))
		r = attach_clsact(&made, program_fd);
	if (r < 0)
		return r;
	*ret = made;
	return 0;
}

int fm_attach_replace(struct fm_attachment *attachment, int program_fd)
{
	if (!attachment->tcx)
		return clsact_attach(attachment, program_fd);
	return bpf_link_update(attachment->link_fd, program_fd, NULL) < 0 ? -errno : 0;
}

void fm_detach(struct fm_attachment *attachment)
{
	if (attachment->tcx) {
		if (attachment->link_fd >= 0)
			close(attachment->link_fd);
		attachment->link_fd = -1;
		return;
	}
	clsact_detach(attachment);
	if (attachment->made_qdisc)
		clsact_clean(attachment);
}
