/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Questions to the kernel over rtnetlink, answered before the call returns. Used by clsact.c,
 * links.c and netns.c; messages are built and read with libmnl.
 */
#ifndef FM_NETLINK_H
#define FM_NETLINK_H

#include <linux/netlink.h>
#include <stddef.h>
#include <stdint.h>

/* A socket in the current network namespace. 0 or -errno. */
int fm_netlink_open(int *ret_fd);

/*
 * Begins a request in a buffer: its header, and a message of size octets behind that, all zero; the
 * family is AF_UNSPEC. flags: beside NLM_F_REQUEST.
 */
struct nlmsghdr *fm_netlink_put(char *buffer, uint16_t type, uint16_t flags, size_t size,
				void *ret_message);

/*
 * Sends the request and reads its answer to the end: to the end of a dump
 * (NLM_F_DUMP) or to the acknowledgement; request must have one of NLM_F_DUMP and NLM_F_ACK. fn
 * (may be NULL) sees each message. 0, the kernel's -errno, or -EINTR: things changed while a dump
 * was written, ask again.
 */
int fm_netlink_talk(int fd, const struct nlmsghdr *request,
		    void (*fn)(const struct nlmsghdr *header, void *userdata), void *userdata);

#endif
