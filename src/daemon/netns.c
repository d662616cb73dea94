/* SPDX-License-Identifier: Apache-2.0 */
/* Network namespaces: see netns.h. */
#include "daemon/netns.h"

#include <errno.h>
#include <fcntl.h>
#include <libmnl/libmnl.h>
#include <limits.h>
#include <linux/magic.h>
#include <linux/net_namespace.h>
#include <linux/rtnetlink.h>
#include <sched.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/statfs.h>

#include "base/cleanup.h"
#include "daemon/netlink.h"

int fm_netns_open_own(int *ret_fd)
{
	int fd = open("/proc/thread-self/ns/net", O_RDONLY | O_CLOEXEC);

	if (fd < 0)
		return -errno;
	*ret_fd = fd;
	return 0;
}

static void make_path(const char *name, char *ret, size_t size)
{
	snprintf(ret, size, FM_NETNS_DIRECTORY "/%s", name);
}

int fm_netns_open(const char *name, int *ret_fd)
{
	char path[sizeof(FM_NETNS_DIRECTORY) + NAME_MAX + 1];
	_fm_cleanup_close_ int fd = -1;
	struct statfs system;

	make_path(name, path, sizeof(path));
	fd = open(path, O_RDONLY | O_CLOEXEC);
	if (fd < 0 || fstatfs(fd, &system) < 0)
		return -errno;
	/* First there is a plain file, then the namespace is mounted on it. */
	if (system.f_type != NSFS_MAGIC)
		return -ENOENT;
	*ret_fd = FM_TAKE_FD(fd);
	return 0;
}

bool fm_netns_is(const char *name, int fd)
{
	char path[sizeof(FM_NETNS_DIRECTORY) + NAME_MAX + 1];
	struct stat named, held;

	make_path(name, path, sizeof(path));
	return stat(path, &named) == 0 && fstat(fd, &held) == 0 && named.st_dev == held.st_dev &&
	       named.st_ino == held.st_ino;
}

int fm_netns_enter(int fd)
{
	return setns(fd, CLONE_NEWNET) < 0 ? -errno : 0;
}

static int on_id(const struct nlattr *attribute, void *userdata)
{
	int32_t *ret = userdata;

	if (mnl_attr_get_type(attribute) == NETNSA_NSID &&
	    mnl_attr_get_payload_len(attribute) == sizeof(*ret))
		memcpy(ret, mnl_attr_get_payload(attribute), sizeof(*ret));
	return MNL_CB_OK;
}

static void on_answer(const struct nlmsghdr *header, void *userdata)
{
	if (header->nlmsg_type == RTM_NEWNSID)
		mnl_attr_parse(header, sizeof(struct rtgenmsg), on_id, userdata);
}

int fm_netns_id(int netlink_fd, int fd, int32_t *ret)
{
	char buffer[MNL_NLMSG_HDRLEN + 64];
	struct rtgenmsg *message;
	struct nlmsghdr *header =
		fm_netlink_put(buffer, RTM_GETNSID, NLM_F_ACK, sizeof(*message), &message);
	int32_t id = NETNSA_NSID_NOT_ASSIGNED;
	int r;

	mnl_attr_put_u32(header, NETNSA_FD, (uint32_t)fd);
	r = fm_netlink_talk(netlink_fd, header, on_answer, &id);
	if (r < 0)
		return r;
	if (id < 0)
		return -ENOENT;
	*ret = id;
	return 0;
}
