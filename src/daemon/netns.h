/* SPDX-License-Identifier: Apache-2.0 */
/* Network namespaces by name (ip-netns(8)). Used by interfaces.c. */
#ifndef FM_NETNS_H
#define FM_NETNS_H

#include <stdbool.h>
#include <stdint.h>

#define FM_NETNS_DIRECTORY "/run/netns"

/* The namespace of the calling thread. 0 or -errno. */
int fm_netns_open_own(int *ret_fd);

/* 0 or -errno; -ENOENT also for a file that is not, or not yet, a namespace. */
int fm_netns_open(const char *name, int *ret_fd);

/* Whether the name still stands for the namespace that fd is. */
bool fm_netns_is(const char *name, int fd);

/* The calling thread goes there. 0 or -errno: EPERM without CAP_SYS_ADMIN. */
int fm_netns_enter(int fd);

/*
 * By which number (IFLA_LINK_NETNSID) the namespace of a netlink socket calls the namespace fd.
 * 0 or -errno, -ENOENT: by none yet.
 */
int fm_netns_id(int netlink_fd, int fd, int32_t *ret);

#endif
