/* SPDX-License-Identifier: Apache-2.0 */
/* Messages of rtnetlink: what is taken from them, and that nothing harmful is believed. */
#include <libmnl/libmnl.h>
#include <linux/rtnetlink.h>
#include <net/if.h>
#include <net/if_arp.h>
#include <string.h>

#include "daemon/links.h"
#include "test.h"

#define BUFFER_OCTETS 4096

static union {
	struct nlmsghdr header;
	char octets[BUFFER_OCTETS];
} message;

static struct nlmsghdr *start(uint16_t type, unsigned char family, int index)
{
	struct nlmsghdr *header;
	struct ifinfomsg *info;

	memset(&message, 0, sizeof(message));
	header = mnl_nlmsg_put_header(&message);
	header->nlmsg_type = type;
	info = mnl_nlmsg_put_extra_header(header, sizeof(*info));
	info->ifi_family = family;
	info->ifi_index = index;
	info->ifi_type = ARPHRD_ETHER;
	info->ifi_flags = IFF_UP;
	return header;
}

static void test_whole(void)
{
	struct nlmsghdr *header = start(RTM_NEWLINK, AF_UNSPEC, 7);
	struct nlattr *nest;
	struct fm_link link;

	mnl_attr_put_strz(header, IFLA_IFNAME, "eth0.5");
	mnl_attr_put_strz(header, IFLA_IFALIAS, "uplink");
	mnl_attr_put_u32(header, IFLA_MASTER, 3);
	mnl_attr_put_u32(header, IFLA_LINK, 2);
	mnl_attr_put_u32(header, IFLA_LINK_NETNSID, 5);
	nest = mnl_attr_nest_start(header, IFLA_LINKINFO);
	mnl_attr_put_strz(header, IFLA_INFO_KIND, "vlan");
	mnl_attr_nest_end(header, nest);
	FM_TEST(fm_links_parse(header, &link) == FM_LINKS_IS, "a device is told");
	FM_TEST(link.device.ifindex == 7 && link.device.arphrd == ARPHRD_ETHER && link.device.up &&
			!strcmp(link.device.name, "eth0.5") && !strcmp(link.device.alias, "uplink"),
		"index, type, state, name, alias");
	FM_TEST(!strcmp(link.device.kind, "vlan") && link.device.master == 3 &&
			link.device.link == 2 && link.link_netnsid == 5,
		"kind, master, link and where it is");
}

/* What belongs to a kind is only read of that kind. */
static void test_kinds(void)
{
	static const struct {
		const char *kind;
		bool is_short; /* the attribute, by the same number */
		uint32_t table;
		uint16_t vlan;
	} rows[] = {
		{"vrf", false, 4711, 0}, {"vrf", true, 0, 0},	  {"vlan", true, 0, 5},
		{"vlan", false, 0, 0},	 {"bridge", false, 0, 0}, {"bridge", true, 0, 0},
	};

	for (size_t i = 0; i < FM_ARRAY_SIZE(rows); i++) {
		struct nlmsghdr *header = start(RTM_NEWLINK, AF_UNSPEC, 7);
		struct nlattr *info, *data;
		struct fm_link link;

		mnl_attr_put_strz(header, IFLA_IFNAME, "x0");
		info = mnl_attr_nest_start(header, IFLA_LINKINFO);
		mnl_attr_put_strz(header, IFLA_INFO_KIND, rows[i].kind);
		data = mnl_attr_nest_start(header, IFLA_INFO_DATA);
		if (rows[i].is_short)
			mnl_attr_put_u16(header, IFLA_VLAN_ID, 5);
		else
			mnl_attr_put_u32(header, IFLA_VRF_TABLE, 4711);
		mnl_attr_nest_end(header, data);
		mnl_attr_nest_end(header, info);
		FM_TEST(fm_links_parse(header, &link) == FM_LINKS_IS &&
				link.device.table == rows[i].table &&
				link.device.vlan == rows[i].vlan,
			"%s: table %u, VLAN %u", rows[i].kind, rows[i].table, rows[i].vlan);
	}
}

static void test_least(void)
{
	struct nlmsghdr *header = start(RTM_NEWLINK, AF_UNSPEC, 1);
	struct fm_link link;

	FM_TEST(fm_links_parse(header, &link) == FM_LINKS_NOTHING,
		"without a name it is no device");
	mnl_attr_put_strz(header, IFLA_IFNAME, "lo");
	FM_TEST(fm_links_parse(header, &link) == FM_LINKS_IS && !link.device.kind[0] &&
			!link.device.master && !link.device.link && link.link_netnsid == -1,
		"nothing but a name");
	FM_TEST(fm_links_parse(start(RTM_DELLINK, AF_UNSPEC, 9), &link) == FM_LINKS_GONE &&
			link.device.ifindex == 9,
		"a device that is gone");
}

static void test_ignored(void)
{
	struct nlmsghdr *header = start(RTM_DELLINK, AF_BRIDGE, 7);
	struct fm_link link;

	mnl_attr_put_strz(header, IFLA_IFNAME, "eth0");
	FM_TEST(fm_links_parse(header, &link) == FM_LINKS_NOTHING,
		"a port that leaves its bridge is not gone");
	header = start(RTM_NEWLINK, AF_UNSPEC, 7);
	mnl_attr_put_strz(header, IFLA_IFNAME, "wlan0");
	mnl_attr_put_strz(header, IFLA_WIRELESS, "scan");
	FM_TEST(fm_links_parse(header, &link) == FM_LINKS_NOTHING,
		"a radio's event does not say that it has no master");
	header = start(RTM_NEWLINK, AF_UNSPEC, -3);
	mnl_attr_put_strz(header, IFLA_IFNAME, "eth0");
	FM_TEST(fm_links_parse(header, &link) == FM_LINKS_NOTHING, "no index is negative");
	FM_TEST(fm_links_parse(start(RTM_NEWADDR, AF_UNSPEC, 7), &link) == FM_LINKS_NOTHING,
		"an address is no device");
	header = start(RTM_NEWLINK, AF_UNSPEC, 7);
	header->nlmsg_len = MNL_NLMSG_HDRLEN + 4;
	FM_TEST(fm_links_parse(header, &link) == FM_LINKS_NOTHING, "cut in its head");
}

static void test_odd(void)
{
	struct nlmsghdr *header = start(RTM_NEWLINK, AF_UNSPEC, 7);
	struct fm_link link;
	char longest[300];

	memset(longest, 'x', sizeof(longest));
	mnl_attr_put(header, IFLA_IFNAME, sizeof(longest), longest);
	mnl_attr_put(header, IFLA_IFALIAS, sizeof(longest), longest);
	mnl_attr_put_u8(header, IFLA_MASTER, 3);
	mnl_attr_put_u64(header, IFLA_LINK, 3);
	FM_TEST(fm_links_parse(header, &link) == FM_LINKS_IS &&
			strlen(link.device.name) == sizeof(link.device.name) - 1 &&
			strlen(link.device.alias) == sizeof(link.device.alias) - 1,
		"texts too long and without an end are cut");
	FM_TEST(!link.device.master && !link.device.link, "numbers of a wrong size are not taken");
}

/* Whatever is in the attributes, what comes out is in bounds. */
static void test_noise(void)
{
	unsigned int bad = 0;

	srand(1);
	for (int i = 0; i < 200000; i++) {
		struct nlmsghdr *header = start(RTM_NEWLINK, AF_UNSPEC, 7);
		struct fm_link link;
		size_t size = (size_t)rand() % 200;

		mnl_attr_put_strz(header, IFLA_IFNAME, "eth0");
		for (size_t at = header->nlmsg_len; at < header->nlmsg_len + size; at++)
			message.octets[at] = (char)(rand() % (i % 2 ? 256 : 24));
		header->nlmsg_len += (uint32_t)size;
		if (fm_links_parse(header, &link) == FM_LINKS_IS)
			bad += strnlen(link.device.name, sizeof(link.device.name)) ==
				       sizeof(link.device.name) ||
			       strnlen(link.device.kind, sizeof(link.device.kind)) ==
				       sizeof(link.device.kind) ||
			       link.device.ifindex != 7;
	}
	FM_TEST(!bad, "noise stays within bounds");
}

int main(void)
{
	test_whole();
	test_kinds();
	test_least();
	test_ignored();
	test_odd();
	test_noise();
	return fm_test_done();
}
