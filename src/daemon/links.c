/* SPDX-License-Identifier: Apache-2.0 */
/* Devices from rtnetlink: see links.h. */
#include "daemon/links.h"

#include <errno.h>
#include <libmnl/libmnl.h>
#include <linux/ethtool.h>
#include <linux/rtnetlink.h>
#include <linux/sockios.h>
#include <stdio.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/socket.h>

#include "base/cleanup.h"
#include "base/macro.h"
#include "daemon/netlink.h"

#define BUFFER_OCTETS 32768
/* Room for the notices of some thousand devices that come at once. */
#define RECEIVE_BUFFER_OCTETS (1 << 20)

/* From linux/rtnetlink.h of newer systems. */
#ifndef RTEXT_FILTER_SKIP_STATS
#define RTEXT_FILTER_SKIP_STATS (1 << 3)
#endif

struct parsing {
	struct fm_link *link;
	bool partial;
};

/* Copies a string; what does not fit is cut. */
static void copy_text(const struct nlattr *attribute, char *ret, size_t size)
{
	size_t length =
		strnlen(mnl_attr_get_payload(attribute), mnl_attr_get_payload_len(attribute));

	if (length >= size)
		length = size - 1;
	memcpy(ret, mnl_attr_get_payload(attribute), length);
	ret[length] = '\0';
}

static void copy_u32(const struct nlattr *attribute, void *ret)
{
	if (mnl_attr_get_payload_len(attribute) == sizeof(uint32_t))
		memcpy(ret, mnl_attr_get_payload(attribute), sizeof(uint32_t));
}

/* The numbers of attributes depend on the kind, which stands before them. */
static int on_data(const struct nlattr *attribute, void *userdata)
{
	struct fm_device *device = userdata;
	uint16_t type = mnl_attr_get_type(attribute);

	if (type == IFLA_VRF_TABLE && !strcmp(device->kind, "vrf"))
		copy_u32(attribute, &device->table);
	if (type == IFLA_VLAN_ID && !strcmp(device->kind, "vlan") &&
	    mnl_attr_get_payload_len(attribute) == sizeof(device->vlan))
		memcpy(&device->vlan, mnl_attr_get_payload(attribute), sizeof(device->vlan));
	return MNL_CB_OK;
}

static int on_info(const struct nlattr *attribute, void *userdata)
{
	struct fm_device *device = userdata;

	if (mnl_attr_get_type(attribute) == IFLA_INFO_KIND)
		copy_text(attribute, device->kind, sizeof(device->kind));
	else if (mnl_attr_get_type(attribute) == IFLA_INFO_DATA)
		mnl_attr_parse_nested(attribute, on_data, device);
	return MNL_CB_OK;
}

static int on_attribute(const struct nlattr *attribute, void *userdata)
{
	struct parsing *parsing = userdata;
	struct fm_device *device = &parsing->link->device;

	switch (mnl_attr_get_type(attribute)) {
	case IFLA_IFNAME:
		copy_text(attribute, device->name, sizeof(device->name));
		break;
	case IFLA_IFALIAS:
		copy_text(attribute, device->alias, sizeof(device->alias));
		break;
	case IFLA_MASTER:
		copy_u32(attribute, &device->master);
		break;
	case IFLA_LINK:
		copy_u32(attribute, &device->link);
		break;
	case IFLA_LINK_NETNSID:
		copy_u32(attribute, &parsing->link->link_netnsid);
		break;
	case IFLA_LINKINFO:
		mnl_attr_parse_nested(attribute, on_info, device);
		break;
	case IFLA_WIRELESS: /* a radio's event has no more than the name beside it */
		parsing->partial = true;
		break;
	}
	return MNL_CB_OK;
}

enum fm_links_event fm_links_parse(const struct nlmsghdr *header, struct fm_link *ret)
{
	const struct ifinfomsg *message = mnl_nlmsg_get_payload(header);
	struct fm_link link = {.link_netnsid = -1};
	struct parsing parsing = {&link, false};

	if (header->nlmsg_type != RTM_NEWLINK && header->nlmsg_type != RTM_DELLINK)
		return FM_LINKS_NOTHING;
	/* A bridge tells in its own family of its ports, also when one leaves it. */
	if (mnl_nlmsg_get_payload_len(header) < sizeof(*message) || message->ifi_index <= 0 ||
	    message->ifi_family != AF_UNSPEC)
		return FM_LINKS_NOTHING;
	link.device.ifindex = (uint32_t)message->ifi_index;
	link.device.arphrd = message->ifi_type;
	link.device.up = message->ifi_flags & IFF_UP;
	mnl_attr_parse(header, sizeof(*message), on_attribute, &parsing);
	if (parsing.partial || (header->nlmsg_type == RTM_NEWLINK && !link.device.name[0]))
		return FM_LINKS_NOTHING;
	*ret = link;
	return header->nlmsg_type == RTM_NEWLINK ? FM_LINKS_IS : FM_LINKS_GONE;
}

int fm_links_follow(int *ret_fd)
{
	const struct sockaddr_nl address = {.nl_family = AF_NETLINK, .nl_groups = RTMGRP_LINK};
	const int size = RECEIVE_BUFFER_OCTETS;
	_fm_cleanup_close_ int fd =
		socket(AF_NETLINK, SOCK_RAW | SOCK_CLOEXEC | SOCK_NONBLOCK, NETLINK_ROUTE);

	if (fd < 0)
		return -errno;
	/* Less room only means that the devices are listed anew more often. */
	if (setsockopt(fd, SOL_SOCKET, SO_RCVBUFFORCE, &size, sizeof(size)) < 0)
		setsockopt(fd, SOL_SOCKET, SO_RCVBUF, &size, sizeof(size));
	if (bind(fd, (const struct sockaddr *)&address, sizeof(address)) < 0)
		return -errno;
	*ret_fd = FM_TAKE_FD(fd);
	return 0;
}

int fm_links_read(int fd,
		  void (*fn)(enum fm_links_event event, const struct fm_link *link, void *userdata),
		  void *userdata)
{
	char buffer[BUFFER_OCTETS] __attribute__((aligned(MNL_ALIGNTO)));
	bool lost = false;

	/* To the end also after a loss: what is left is older than any new list. */
	for (;;) {
		const struct nlmsghdr *header = (const struct nlmsghdr *)buffer;
		struct sockaddr_nl from = {};
		socklen_t from_size = sizeof(from);
		ssize_t size = recvfrom(fd, buffer, sizeof(buffer), 0, (struct sockaddr *)&from,
					&from_size);
		int left = (int)size;

		if (size < 0 && errno == EAGAIN)
			return lost ? -ENOBUFS : 0;
		if (size < 0 && errno != ENOBUFS && errno != EINTR)
			return -errno;
		lost |= size < 0 && errno == ENOBUFS;
		if (size < 0 || from.nl_pid != 0) /* only the kernel is believed */
			continue;
		for (; mnl_nlmsg_ok(header, left); header = mnl_nlmsg_next(header, &left)) {
			struct fm_link link;
			enum fm_links_event event = fm_links_parse(header, &link);

			if (event != FM_LINKS_NOTHING)
				fn(event, &link, userdata);
		}
	}
}

struct listing {
	void (*fn)(enum fm_links_event event, const struct fm_link *link, void *userdata);
	void *userdata;
};

static void on_listed(const struct nlmsghdr *header, void *userdata)
{
	const struct listing *listing = userdata;
	struct fm_link link;

	if (fm_links_parse(header, &link) == FM_LINKS_IS)
		listing->fn(FM_LINKS_IS, &link, listing->userdata);
}

int fm_links_list(int fd,
		  void (*fn)(enum fm_links_event event, const struct fm_link *link, void *userdata),
		  void *userdata)
{
	struct listing listing = {fn, userdata};
	char buffer[MNL_NLMSG_HDRLEN + 64];
	struct ifinfomsg *message;
	struct nlmsghdr *header =
		fm_netlink_put(buffer, RTM_GETLINK, NLM_F_DUMP, sizeof(*message), &message);

	mnl_attr_put_u32(header, IFLA_EXT_MASK, RTEXT_FILTER_SKIP_STATS);
	return fm_netlink_talk(fd, header, on_listed, &listing);
}

/* Words of link modes that a device may have, the kernel's own limit. */
#define MODE_WORDS 127

void fm_links_speed(int fd, struct fm_device *device)
{
	/* The settings, and the modes behind them. */
	uint32_t answer[sizeof(struct ethtool_link_settings) / sizeof(uint32_t) + 3 * MODE_WORDS] =
		{};
	struct ethtool_link_settings *settings = (void *)answer;
	struct ifreq request = {.ifr_data = (void *)answer};
	int8_t words;

	device->speed = 0;
	settings->cmd = ETHTOOL_GLINKSETTINGS;
	memcpy(request.ifr_name, device->name, sizeof(request.ifr_name));
	/* First it says how many words its modes have. */
	if (ioctl(fd, SIOCETHTOOL, &request) < 0)
		return;
	words = settings->link_mode_masks_nwords;
	if (words >= 0)
		return;
	memset(settings, 0, sizeof(*settings));
	settings->cmd = ETHTOOL_GLINKSETTINGS;
	settings->link_mode_masks_nwords = (int8_t)-words;
	if (ioctl(fd, SIOCETHTOOL, &request) < 0 || settings->speed == (uint32_t)SPEED_UNKNOWN)
		return;
	device->speed = settings->speed * 1000000ULL;
}

static int on_counters(const struct nlattr *attribute, void *userdata)
{
	struct fm_link_counters *counters = userdata;
	struct rtnl_link_stats64 stats = {};

	if (mnl_attr_get_type(attribute) != IFLA_STATS64)
		return MNL_CB_OK;
	/* Older kernels have fewer members, newer ones more. */
	memcpy(&stats, mnl_attr_get_payload(attribute),
	       FM_MIN(mnl_attr_get_payload_len(attribute), sizeof(stats)));
	counters->known = true;
	counters->frames[FM_HOOK_INGRESS] = stats.rx_packets;
	counters->frames[FM_HOOK_EGRESS] = stats.tx_packets;
	counters->octets[FM_HOOK_INGRESS] = stats.rx_bytes;
	counters->octets[FM_HOOK_EGRESS] = stats.tx_bytes;
	return MNL_CB_OK;
}

static void on_answer(const struct nlmsghdr *header, void *userdata)
{
	if (header->nlmsg_type == RTM_NEWLINK)
		mnl_attr_parse(header, sizeof(struct ifinfomsg), on_counters, userdata);
}

int fm_links_counters(int fd, uint32_t ifindex, struct fm_link_counters *ret)
{
	struct fm_link_counters counters = {};
	char buffer[MNL_NLMSG_HDRLEN + 64];
	struct ifinfomsg *message;
	struct nlmsghdr *header =
		fm_netlink_put(buffer, RTM_GETLINK, NLM_F_ACK, sizeof(*message), &message);
	int r;

	message->ifi_index = (int)ifindex;
	r = fm_netlink_talk(fd, header, on_answer, &counters);
	if (r < 0)
		return r;
	if (!counters.known)
		return -ENODATA;
	*ret = counters;
	return 0;
}
