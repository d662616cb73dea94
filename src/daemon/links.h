/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Network devices as rtnetlink tells of them: all at once and as they change. Used by interfaces.c.
 */
#ifndef FM_LINKS_H
#define FM_LINKS_H

#include <linux/netlink.h>
#include <stdbool.h>
#include <stdint.h>

#include "daemon/interfaces.h"

enum fm_links_event {
	FM_LINKS_NOTHING, /* speaks of no device, or of a part of one only */
	FM_LINKS_IS,	  /* is there, and such */
	FM_LINKS_GONE,
};

struct fm_link {
	struct fm_device device; /* ns and link_ns are left 0 */
	int32_t link_netnsid;	 /* namespace of device.link; -1: the device's own */
};

/* For tests: reads one message. Of a device that is gone only the index is told. */
enum fm_links_event fm_links_parse(const struct nlmsghdr *header, struct fm_link *ret);

/* A non-blocking socket on which the current namespace tells of its devices. 0 or -errno. */
int fm_links_follow(int *ret_fd);

/* Tells all that has come. 0, -ENOBUFS: some was lost, list the devices anew; or -errno. */
int fm_links_read(int fd,
		  void (*fn)(enum fm_links_event event, const struct fm_link *link, void *userdata),
		  void *userdata);

/*
 * Tells of all devices of the namespace in which the blocking socket was made. 0 or -errno;
 * -EINTR: they changed meanwhile, ask again.
 */
int fm_links_list(int fd,
		  void (*fn)(enum fm_links_event event, const struct fm_link *link, void *userdata),
		  void *userdata);

/* Asks for the speed of a device of the socket's namespace; 0 where there is none now. */
void fm_links_speed(int fd, struct fm_device *device);

/* What a device itself counted since it is there, by direction. */
struct fm_link_counters {
	bool known;
	uint64_t frames[_FM_HOOK_MAX], octets[_FM_HOOK_MAX];
};

/* fd: of the device's namespace. 0 or -errno. */
int fm_links_counters(int fd, uint32_t ifindex, struct fm_link_counters *ret);

#endif
