/* SPDX-License-Identifier: Apache-2.0 */
/* Names: applications from a file of services, VRFs from devices, and which a record belongs to. */
#include <errno.h>
#include <string.h>
#include <unistd.h>

#include "base/macro.h"
#include "daemon/naming.h"
#include "daemon/services.h"
#include "test.h"

#define L4(port)     (3U << 24 | (port))
#define L3(protocol) (1U << 24 | (protocol))

/* In the form of /etc/services; lines of no such form among them. */
static const char services_text[] = "# comment 1/tcp\n"
				    "domain\t53/tcp\t\t\t# Domain Name Server\n"
				    "domain\t53/udp\n"
				    "https 443/tcp www # 444/tcp\n"
				    "http3  443/udp\n"
				    "shell 514/tcp cmd\n"
				    "syslog 514/udp\n"
				    "ftp-data 20/tcp\n"
				    "a-name-that-is-longer-than-any-record 7000/tcp\n"
				    "and-its-other-name 7000/udp\n"
				    "zero 0/tcp\n"
				    "far 65536/tcp\n"
				    "last 65535/sctp\n"
				    "none\n"
				    "half 80\n"
				    "half 80/\n"
				    "sign +81/tcp\n"
				    "\n"
				    " indented 82/tcp\n"
				    "esc\x1b[2J\xc3\xa9 83/tcp\n"
				    "end 84/tcp";

static const struct fm_application_record *find(const struct fm_services *services, uint32_t id)
{
	for (size_t i = 0; i < services->n; i++)
		if (services->v[i].id == id)
			return &services->v[i];
	return NULL;
}

static void check_name(const struct fm_services *services, uint16_t port, const char *name,
		       const char *description)
{
	const struct fm_application_record *found = find(services, L4(port));

	FM_TEST(found && !strcmp(found->name, name) && !strcmp(found->description, description),
		"port %u: %s (%s)", port, found ? found->name : "none",
		found ? found->description : "none");
}

static void test_parse(void)
{
	_fm_cleanup_(fm_services_freep) struct fm_services *services = NULL;

	if (!FM_TEST(fm_services_parse(services_text, sizeof(services_text) - 1, &services) == 0,
		     "a file of services"))
		return;
	check_name(services, 53, "domain", "53/tcp domain, 53/udp domain");
	check_name(services, 443, "https/http3", "443/tcp https, 443/udp http3");
	check_name(services, 514, "shell/syslog", "514/tcp shell, 514/udp syslog");
	check_name(services, 7000, "a-name-that-is-longer-t",
		   "7000/tcp a-name-that-is-longer-than-any-record");
	check_name(services, 65535, "last", "65535/sctp last");
	check_name(services, 82, "indented", "82/tcp indented");
	check_name(services, 83, "esc?[2J??", "83/tcp esc?[2J??");
	check_name(services, 84, "end", "84/tcp end");
	FM_TEST(services->n == 9, "no others: %zu", services->n);
}

/* Every port there is, twice. */
static void test_many(void)
{
	_fm_cleanup_(fm_services_freep) struct fm_services *services = NULL;
	_fm_cleanup_free_ char *text = malloc(4 << 20);
	size_t size = 0;
	bool right = true;

	for (unsigned int i = 0; i < 2 * 65535; i++)
		size += (size_t)sprintf(text + size, "p%u %u/udp\n", i % 65535, i % 65535 + 1);
	if (!FM_TEST(fm_services_parse(text, size, &services) == 0 && services->n == 65535,
		     "65535 ports"))
		return;
	for (unsigned int i = 0; i < 65535; i++) {
		char name[8];

		sprintf(name, "p%u", i);
		right &= services->v[i].id == L4(i + 1) && !strcmp(services->v[i].name, name);
	}
	FM_TEST(right, "each has its name");
}

static void test_load(void)
{
	struct fm_services *services = NULL;
	char path[] = "/tmp/flowmond-services-XXXXXX";
	int fd = mkstemp(path);

	FM_TEST(fm_services_load("/nonexistent", &services) == -ENOENT &&
			fm_services_load("/dev/zero", &services) == -EINVAL &&
			fm_services_load("/", &services) == -EINVAL && !services,
		"what is no file");
	FM_TEST(ftruncate(fd, (4 << 20) + 1) == 0 && fm_services_load(path, &services) == -EFBIG &&
			!services,
		"a file that is too long");
	FM_TEST(ftruncate(fd, 0) == 0 && write(fd, "one 1/tcp\n", 10) == 10 &&
			fm_services_load(path, &services) == 0 && services->n == 1,
		"a file");
	fm_services_free(services);
	close(fd);
	unlink(path);
}

static void check_application(const struct fm_services *services, uint16_t source,
			      uint16_t destination, unsigned int initiator, uint32_t expected,
			      const char *what)
{
	const struct fm_record there = {.src_port = source,
					.dst_port = destination,
					.protocol = 17,
					.biflow_direction = (uint8_t)initiator};
	const struct fm_record back = {.src_port = destination,
				       .dst_port = source,
				       .protocol = 17,
				       .biflow_direction =
					       (uint8_t)(initiator ? 3 - initiator : 0)};
	uint32_t seen = fm_services_application(services, &there);

	FM_TEST(seen == expected && fm_services_application(services, &back) == expected,
		"%s: %u:%u, both ways", what, seen >> 24, seen & 0xffffff);
}

static void test_applications(void)
{
	_fm_cleanup_(fm_services_freep) struct fm_services *services = NULL;

	if (fm_services_parse(services_text, sizeof(services_text) - 1, &services) < 0)
		return;
	check_application(services, 50000, 443, 0, L4(443), "the port that has a name");
	check_application(services, 1000, 7000, 0, L4(7000), "also if it is the larger");
	check_application(services, 20, 50000, 1, L4(20), "also if its side began");
	check_application(services, 53, 443, 1, L4(443), "two names: the side that did not begin");
	check_application(services, 53, 443, 2, L4(53), "two names: the other began");
	check_application(services, 53, 443, 0, L4(53), "two names, nobody knows: the smaller");
	check_application(services, 2000, 9000, 1, L4(9000),
			  "no name: the side that did not begin");
	check_application(services, 2000, 9000, 0, L4(2000), "no name, nobody knows: the smaller");
	check_application(NULL, 2000, 443, 0, L4(443), "no names at all: the smaller");
	check_application(services, 0, 9000, 0, L4(9000), "an aggregate that has one port");
	check_application(services, 0, 0, 0, L3(17), "no ports: the protocol");
}

static const struct fm_device devices[] = {
	{.ns = 0, .ifindex = 1, .name = "lo"},
	{.ns = 0, .ifindex = 2, .name = "eth0", .master = 10},
	{.ns = 0, .ifindex = 3, .name = "eth1", .master = 4},
	{.ns = 0, .ifindex = 4, .name = "bond0", .kind = "bond", .master = 11},
	{.ns = 0, .ifindex = 5, .name = "eth2", .master = 6},
	{.ns = 0, .ifindex = 6, .name = "br0", .kind = "bridge"},
	{.ns = 0,
	 .ifindex = 7,
	 .name = "br0.5",
	 .kind = "vlan",
	 .link = 6,
	 .vlan = 5,
	 .master = 10},
	{.ns = 0,
	 .ifindex = 8,
	 .name = "br0.6",
	 .kind = "vlan",
	 .link = 6,
	 .vlan = 6,
	 .master = 11},
	{.ns = 0, .ifindex = 10, .name = "red", .kind = "vrf", .table = 10},
	{.ns = 0, .ifindex = 11, .name = "blue", .kind = "vrf", .table = 0x80000001},
	{.ns = 0, .ifindex = 12, .name = "a", .master = 13}, /* masters in a circle, one gone */
	{.ns = 0, .ifindex = 13, .name = "b", .master = 12},
	{.ns = 0, .ifindex = 14, .name = "c", .master = 99},
	{.ns = 0,
	 .ifindex = 15,
	 .name = "far.7",
	 .kind = "vlan",
	 .link = 2,
	 .vlan = 7,
	 .master = 10,
	 .link_ns = FM_LINK_AWAY},
	{.ns = 3, .ifindex = 2, .name = "eth0", .master = 10},
	{.ns = 3, .ifindex = 10, .name = "red", .kind = "vrf", .table = 10},
};

static void test_vrfs(void)
{
	static const struct {
		uint32_t ifindex;
		uint16_t vlan;
		uint32_t vrf;
		const char *what;
	} rows[] = {
		{1, 0, 0, "an interface of none"},
		{2, 0, 10, "a port of one"},
		{2, 5, 0, "and what is tagged there"},
		{3, 0, 0x80000001, "a port of a bond in one"},
		{4, 0, 0x80000001, "that bond"},
		{5, 0, 0, "a port of a bridge that is in none"},
		{5, 5, 10, "what is tagged there, by the VLAN device on the bridge"},
		{5, 6, 0x80000001, "and by another"},
		{6, 6, 0x80000001, "on the bridge itself"},
		{5, 7, 0, "and by none"},
		{7, 0, 10, "the VLAN device"},
		{10, 0, 10, "the VRF itself"},
		{12, 0, 0, "masters in a circle"},
		{14, 0, 0, "a master that is not there"},
		{2, 7, 0, "a VLAN device whose carrier is elsewhere"},
		{3U << 24 | 2, 0, 3U << 24 | 10, "the same in another namespace"},
	};
	_fm_cleanup_(fm_naming_freep) struct fm_naming *naming = NULL;
	struct fm_record record = {.ingress_if = 5, .egress_if = 2, .vlan = 6};
	const struct fm_vrf_record *vrfs;
	const struct fm_application_record *applications;

	if (fm_naming_new(&naming) < 0 ||
	    !FM_TEST(fm_naming_devices(naming, devices, FM_ARRAY_SIZE(devices)) == 0, "devices"))
		return;
	for (size_t i = 0; i < FM_ARRAY_SIZE(rows); i++)
		FM_TEST(fm_naming_vrf(naming, rows[i].ifindex, rows[i].vlan) == rows[i].vrf,
			"VRF of %s", rows[i].what);
	FM_TEST(fm_naming_vrfs(naming, &vrfs) == 3 && vrfs[0].id == 10 &&
			!strcmp(vrfs[0].name, "red") && vrfs[1].id == 0x80000001 &&
			!strcmp(vrfs[1].name, "blue") && vrfs[2].id == (3U << 24 | 10) &&
			!strcmp(vrfs[2].name, "red"),
		"names of VRFs");
	fm_naming_set(naming, &record);
	FM_TEST(record.ingress_vrf == 0x80000001 && record.egress_vrf == 10,
		"a record: the tag is that of its ingress");
	record = (struct fm_record){.egress_if = 5, .ingress_if = 2, .vlan = 5, .direction = 1};
	fm_naming_set(naming, &record);
	FM_TEST(record.ingress_vrf == 10 && record.egress_vrf == 10,
		"a record that was counted at egress: the tag is that of its egress");
	FM_TEST(fm_naming_devices(naming, NULL, 0) == 0 && fm_naming_vrfs(naming, &vrfs) == 0 &&
			fm_naming_vrf(naming, 2, 0) == 0,
		"no VRFs any more");
	FM_TEST(fm_naming_vrfs(NULL, &vrfs) == 0 &&
			fm_naming_applications(NULL, &applications) == 0 &&
			fm_naming_vrf(NULL, 2, 0) == 0,
		"nothing is known");
	record = (struct fm_record){.src_port = 9, .dst_port = 8};
	fm_naming_set(NULL, &record);
	FM_TEST(record.application == L4(8) && record.ingress_vrf == 0, "but ports are");
}

static void test_read(void)
{
	_fm_cleanup_(fm_naming_freep) struct fm_naming *naming = NULL;
	const struct fm_application_record *applications;
	char path[] = "/tmp/flowmond-services-XXXXXX";
	int fd = mkstemp(path);

	if (fm_naming_new(&naming) < 0 || write(fd, "one 1/tcp\n", 10) != 10)
		return;
	FM_TEST(fm_naming_read(naming, path) == 0 &&
			fm_naming_applications(naming, &applications) == 1,
		"names are read");
	FM_TEST(fm_naming_read(naming, "/nonexistent") == -ENOENT &&
			fm_naming_applications(naming, &applications) == 1,
		"and stay where they cannot be read again");
	FM_TEST(fm_naming_read(naming, "") == 0 &&
			fm_naming_applications(naming, &applications) == 0,
		"and go where none are wanted");
	close(fd);
	unlink(path);
}

int main(void)
{
	test_parse();
	test_many();
	test_load();
	test_applications();
	test_vrfs();
	test_read();
	return fm_test_done();
}
