/* SPDX-License-Identifier: Apache-2.0 */
/* Attaching programs: see attach.h. */
#include "daemon/attach.h"

#include <errno.h>
#include <linux/bpf.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <bpf/bpf.h>

/* From the kernel's 6.6 headers; those of the oldest supported system do not have them yet. */
#define TCX_INGRESS	46
#define TCX_EGRESS	47
#define RELATIVE_BEFORE (1U << 3)
#define LINK_TYPE_TCX	11

/* struct bpf_link_info, as far as it concerns TCX. */
struct tcx_link_info {
	uint32_t type, id, prog_id, pad;
	uint32_t ifindex, attach_type;
};

/* bpf(2) BPF_LINK_CREATE with the part for TCX; relative to nothing: before all. */
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
		.flags = RELATIVE_BEFORE,
	};
	long fd = syscall(SYS_bpf, BPF_LINK_CREATE, &create, sizeof(create));

	return fd < 0 ? -errno : (int)fd;
}

/*
 * What kernels without TCX answer: before 6.6 the attach type is unknown (EINVAL), or the larger
 * attribute (E2BIG).
 */
static bool is_without_tcx(int r)
{
	return r == -EINVAL || r == -EOPNOTSUPP || r == -E2BIG;
}

int fm_attach(struct fm_attachment *ret, uint32_t ifindex, enum fm_hook hook, int program_fd,
	      enum fm_attach_mode mode)
{
	struct fm_attachment made = {
		.ifindex = ifindex,
		.hook = hook,
		.link_fd = -1,
		.clsact.netlink_fd = -1,
	};
	int r = -EOPNOTSUPP;

	if (mode != FM_ATTACH_CLSACT) {
		r = tcx_attach(ifindex, hook, program_fd);
		if (r >= 0) {
			made.tcx = true;
			made.link_fd = r;
			r = 0;
		}
	}
	if (mode == FM_ATTACH_CLSACT || (mode == FM_ATTACH_AUTO && is_without_tcx(r)))
		r = fm_clsact_attach(&made.clsact, program_fd, ifindex, hook);
	if (r < 0)
		return r;
	*ret = made;
	return 0;
}

int fm_attach_adopt(struct fm_attachment *ret, uint32_t ifindex, enum fm_hook hook, int link_fd,
		    int program_fd)
{
	union {
		struct bpf_link_info link;
		struct tcx_link_info tcx;
	} info = {};
	__u32 size = sizeof(info);

	if (bpf_obj_get_info_by_fd(link_fd, &info, &size) < 0)
		return -EINVAL;
	if (info.tcx.type != LINK_TYPE_TCX || info.tcx.ifindex != ifindex ||
	    info.tcx.attach_type != (hook == FM_HOOK_INGRESS ? TCX_INGRESS : TCX_EGRESS))
		return -EINVAL;
	if (bpf_link_update(link_fd, program_fd, NULL) < 0)
		return -errno;
	*ret = (struct fm_attachment){
		.ifindex = ifindex,
		.hook = hook,
		.tcx = true,
		.link_fd = link_fd,
		.clsact.netlink_fd = -1,
	};
	return 0;
}

int fm_attach_replace(struct fm_attachment *attachment, int program_fd)
{
	if (!attachment->tcx)
		return fm_clsact_replace(&attachment->clsact, program_fd);
	return bpf_link_update(attachment->link_fd, program_fd, NULL) < 0 ? -errno : 0;
}

void fm_detach(struct fm_attachment *attachment)
{
	if (!attachment->tcx) {
		fm_clsact_detach(&attachment->clsact);
		return;
	}
	if (attachment->link_fd < 0)
		return;
	/* At once, whoever else holds the link. */
	bpf_link_detach(attachment->link_fd);
	close(attachment->link_fd);
	attachment->link_fd = -1;
}

void fm_attach_leave(struct fm_attachment *attachment)
{
	if (!attachment->tcx) {
		fm_clsact_leave(&attachment->clsact);
		return;
	}
	if (attachment->link_fd >= 0)
		close(attachment->link_fd);
	attachment->link_fd = -1;
}

int fm_attach_purge(uint32_t ifindex)
{
	return fm_clsact_purge(ifindex);
}
