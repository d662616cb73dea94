/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The once-rule: which devices are hooked, covered, seen. Each case is a list of devices with what
 * is expected of each: I ingress hooked, E egress hooked, S seen, C covered, M mixed, 3 no
 * link-layer header, F a header that nobody reads; - nothing.
 */
#include <net/if_arp.h>
#include <string.h>

#include "base/macro.h"
#include "base/parse.h"
#include "daemon/interfaces.h"
#include "test.h"

#define DEVICES_MAX 10
#define AWAY	    "away"
/* Link in the other one of the first two namespaces. */
#define OTHER "other:"

/* Rows say only what matters. */
#pragma GCC diagnostic ignored "-Wmissing-field-initializers"

struct row {
	const char *name;
	const char *kind;
	const char *expected;
	const char *master;
	const char *link;
	unsigned short arphrd; /* 0: Ethernet */
	unsigned int ns;
	bool down;
};

static const struct {
	const char *what;
	const char *patterns;
	enum fm_observe observe;
	struct row rows[DEVICES_MAX];
} cases[] = {
	{"a host",
	 "!lo",
	 FM_OBSERVE_ONCE,
	 {{"lo", "", "-", .arphrd = ARPHRD_LOOPBACK}, {"eth0", "", "IES"}, {"eth1", "", "IES"}}},
	{"one of two interfaces",
	 "eth0",
	 FM_OBSERVE_ONCE,
	 {{"lo", "", "-", .arphrd = ARPHRD_LOOPBACK}, {"eth0", "", "IES"}, {"eth1", "", "-"}}},
	{"loopback, named: egress only",
	 "lo",
	 FM_OBSERVE_ONCE,
	 {{"lo", "", "ES", .arphrd = ARPHRD_LOOPBACK}, {"eth0", "", "-"}}},
	{"bridge with ports",
	 "!lo",
	 FM_OBSERVE_ONCE,
	 {{"br0", "bridge", "SC"},
	  {"eth0", "", "IES", .master = "br0"},
	  {"veth1", "veth", "IES", .master = "br0", .link = AWAY}}},
	{"bridge without ports",
	 "!lo",
	 FM_OBSERVE_ONCE,
	 {{"docker0", "bridge", "IES"}, {"eth0", "", "IES"}}},
	{"bridge named, ports not",
	 "br0",
	 FM_OBSERVE_ONCE,
	 {{"br0", "bridge", "IES"}, {"eth0", "", "-", .master = "br0"}}},
	{"bridge excluded, ports not: covered all the same",
	 "!br0",
	 FM_OBSERVE_ONCE,
	 {{"br0", "bridge", "SC"}, {"eth0", "", "IES", .master = "br0"}}},
	{"some ports of a bridge: covered, mixed",
	 "eth*, br0",
	 FM_OBSERVE_ONCE,
	 {{"br0", "bridge", "SCM"},
	  {"eth0", "", "IES", .master = "br0"},
	  {"tap0", "tun", "-", .master = "br0"},
	  {"eth1", "", "IES"}}},
	{"containers excluded: their bridge is not covered",
	 "!veth*, !docker0",
	 FM_OBSERVE_ONCE,
	 {{"eth0", "", "IES"},
	  {"docker0", "bridge", "-"},
	  {"veth1", "veth", "-", .master = "docker0", .link = AWAY}}},
	{"bond",
	 "!lo",
	 FM_OBSERVE_ONCE,
	 {{"bond0", "bond", "SC"},
	  {"eth0", "", "IES", .master = "bond0"},
	  {"eth1", "", "IES", .master = "bond0"}}},
	{"bond named, ports not",
	 "bond0",
	 FM_OBSERVE_ONCE,
	 {{"bond0", "bond", "IES"},
	  {"eth0", "", "-", .master = "bond0"},
	  {"eth1", "", "-", .master = "bond0"}}},
	{"team",
	 "!lo",
	 FM_OBSERVE_ONCE,
	 {{"team0", "team", "SC"}, {"eth0", "", "IES", .master = "team0"}}},
	{"VLAN on bond, bridge on that",
	 "!lo",
	 FM_OBSERVE_ONCE,
	 {{"br5", "bridge", "SC"},
	  {"bond0.5", "vlan", "SC", .master = "br5", .link = "bond0"},
	  {"bond0", "bond", "SC"},
	  {"eth0", "", "IES", .master = "bond0"},
	  {"eth1", "", "IES", .master = "bond0"}}},
	{"VLAN named, bond not",
	 "bond0.5",
	 FM_OBSERVE_ONCE,
	 {{"bond0.5", "vlan", "IES", .link = "bond0"},
	  {"bond0", "bond", "-"},
	  {"eth0", "", "-", .master = "bond0"}}},
	{"VLAN in VLAN, the middle one named",
	 "eth0.5",
	 FM_OBSERVE_ONCE,
	 {{"eth0", "", "-"},
	  {"eth0.5", "vlan", "IES", .link = "eth0"},
	  {"eth0.5.6", "vlan", "SC", .link = "eth0.5"}}},
	{"macvlan and ipvlan",
	 "!lo",
	 FM_OBSERVE_ONCE,
	 {{"mv0", "macvlan", "SC", .link = "eth0"},
	  {"mvt0", "macvtap", "SC", .link = "eth0"},
	  {"ipv0", "ipvlan", "SC", .link = "eth0"},
	  {"eth0", "", "IES"}}},
	{"macvlan whose lower is in a namespace that is not followed",
	 "!lo",
	 FM_OBSERVE_ONCE,
	 {{"mv0", "macvlan", "IES", .link = AWAY}, {"eth0", "", "IES"}}},
	{"macvlan whose lower is in another namespace that is followed",
	 "eth0, mv0@one",
	 FM_OBSERVE_ONCE,
	 {{"eth0", "", "IES"},
	  {"mv0", "macvlan", "SC", .link = OTHER "eth0", .ns = 1},
	  {"eth0", "", "-", .ns = 1}}},
	{"veth pair, both ends here: the peer's egress counts",
	 "!lo",
	 FM_OBSERVE_ONCE,
	 {{"va", "veth", "ES", .link = "vb"}, {"vb", "veth", "ES", .link = "va"}}},
	{"veth pair, one end was told before it had a peer",
	 "!lo",
	 FM_OBSERVE_ONCE,
	 {{"va", "veth", "ES", .link = "vb"}, {"vb", "veth", "ES"}}},
	{"veth pair, one end was told before its peer moved to another namespace",
	 "va, vb@one",
	 FM_OBSERVE_ONCE,
	 {{"va", "veth", "ES", .link = "gone"}, {"vb", "veth", "ES", .link = OTHER "va", .ns = 1}}},
	{"veth whose peer says that it has another one",
	 "!lo",
	 FM_OBSERVE_ONCE,
	 {{"va", "veth", "IES", .link = "vb"},
	  {"vb", "veth", "ES", .link = "vc"},
	  {"vc", "veth", "ES", .link = "vb"}}},
	{"veth pair, one end monitored",
	 "va",
	 FM_OBSERVE_ONCE,
	 {{"va", "veth", "IES", .link = "vb"}, {"vb", "veth", "-", .link = "va"}}},
	{"veth pair, peer in a namespace that is not followed",
	 "!lo",
	 FM_OBSERVE_ONCE,
	 {{"va", "veth", "IES", .link = AWAY}, {"vb", "", "IES"}}},
	{"veth pair over two namespaces that are followed",
	 "va, vb@one",
	 FM_OBSERVE_ONCE,
	 {{"va", "veth", "ES", .link = OTHER "vb"},
	  {"x", "", "-", .ns = 1},
	  {"vb", "veth", "ES", .link = OTHER "va", .ns = 1}}},
	{"veth pair over two namespaces, one end monitored",
	 "va, x@one",
	 FM_OBSERVE_ONCE,
	 {{"va", "veth", "IES", .link = OTHER "vb"},
	  {"x", "", "IES", .ns = 1},
	  {"vb", "veth", "-", .link = OTHER "va", .ns = 1}}},
	{"the same index in another namespace is another device",
	 "eth0, br0@one",
	 FM_OBSERVE_ONCE,
	 {{"eth0", "", "IES", .master = "br0"},
	  {"br0", "bridge", "SC"},
	  {"x", "", "-", .ns = 1},
	  {"br0", "bridge", "IES", .ns = 1}}},
	{"vxlan with a monitored carrier",
	 "!lo",
	 FM_OBSERVE_ONCE,
	 {{"vxlan0", "vxlan", "SC", .link = "eth0"}, {"eth0", "", "IES"}, {"eth1", "", "IES"}}},
	{"vxlan with another carrier than the monitored",
	 "eth0, vxlan0",
	 FM_OBSERVE_ONCE,
	 {{"vxlan0", "vxlan", "IES", .link = "eth1"}, {"eth0", "", "IES"}, {"eth1", "", "-"}}},
	{"geneve over a covered VLAN",
	 "!lo",
	 FM_OBSERVE_ONCE,
	 {{"gnv0", "geneve", "SC", .link = "eth0.5"},
	  {"eth0.5", "vlan", "SC", .link = "eth0"},
	  {"eth0", "", "IES"}}},
	{"tunnels of every kind, no carrier named, all carriers monitored",
	 "!lo",
	 FM_OBSERVE_ONCE,
	 {{"lo", "", "-", .arphrd = ARPHRD_LOOPBACK},
	  {"gre1", "gre", "SC3", .arphrd = ARPHRD_IPGRE},
	  {"gretap1", "gretap", "SC"},
	  {"tunl1", "ipip", "SC3", .arphrd = ARPHRD_TUNNEL},
	  {"sit1", "sit", "SC3", .arphrd = ARPHRD_SIT},
	  {"ip6tnl1", "ip6tnl", "SC3", .arphrd = ARPHRD_TUNNEL6},
	  {"ip6gre1", "ip6gre", "SC3", .arphrd = 823},
	  {"dummy0", "dummy", "IES"},
	  {"eth0", "", "IES"}}},
	{"a tunnel without a carrier named, not all carriers monitored",
	 "!eth1",
	 FM_OBSERVE_ONCE,
	 {{"vxlan0", "vxlan", "IES"}, {"eth0", "", "IES"}, {"eth1", "", "-"}}},
	{"a carrier that is down carries nothing",
	 "!eth1",
	 FM_OBSERVE_ONCE,
	 {{"vxlan0", "vxlan", "SC"}, {"eth0", "", "IES"}, {"eth1", "", "-", .down = true}}},
	{"a carrier's bridge and bond add nothing",
	 "!lo",
	 FM_OBSERVE_ONCE,
	 {{"vxlan0", "vxlan", "SC", .master = "br0"},
	  {"br0", "bridge", "SC"},
	  {"bond0", "bond", "SC"},
	  {"eth0", "", "IES", .master = "bond0"},
	  {"can0", "can", "F", .arphrd = 280}}},
	{"a tunnel and nothing that could carry it",
	 "!lo",
	 FM_OBSERVE_ONCE,
	 {{"lo", "", "-", .arphrd = ARPHRD_LOOPBACK}, {"vxlan0", "vxlan", "IES"}}},
	{"a tunnel whose carriers are in another namespace",
	 "eth0, vxlan0@one",
	 FM_OBSERVE_ONCE,
	 {{"eth0", "", "IES"}, {"vxlan0", "vxlan", "IES", .link = AWAY, .ns = 1}}},
	{"what other packets pass below: wireguard, tun, ppp, IPsec, macsec",
	 "!lo",
	 FM_OBSERVE_ONCE,
	 {{"wg0", "wireguard", "IES3", .arphrd = 0xFFFE},
	  {"tun0", "tun", "IES3", .arphrd = 0xFFFE},
	  {"ppp0", "ppp", "IES3", .arphrd = ARPHRD_PPP},
	  {"xfrm0", "xfrm", "IES3", .link = "eth0", .arphrd = 0xFFFE},
	  {"vti0", "vti", "IES3", .link = "eth0", .arphrd = ARPHRD_TUNNEL},
	  {"macsec0", "macsec", "IES", .link = "eth0"},
	  {"lan1", "dsa", "IES", .link = "eth0"},
	  {"wwan0", "", "IES3", .arphrd = 519},
	  {"eth0", "", "IES"}}},
	{"VRF",
	 "!lo",
	 FM_OBSERVE_ONCE,
	 {{"red", "vrf", "SC"}, {"eth0", "", "IES", .master = "red"}, {"eth1", "", "IES"}}},
	{"ifb and nlmon only by name",
	 "!lo",
	 FM_OBSERVE_ONCE,
	 {{"ifb0", "ifb", "-"}, {"nlmon0", "nlmon", "-", .arphrd = 824}, {"eth0", "", "IES"}}},
	{"ifb named", "ifb0", FM_OBSERVE_ONCE, {{"ifb0", "ifb", "IES"}, {"eth0", "", "-"}}},
	{"headers that nobody reads",
	 "!lo",
	 FM_OBSERVE_ONCE,
	 {{"mon0", "", "F", .arphrd = 803}, {"ib0", "ipoib", "F", .arphrd = 32}}},
	{"virtual function behind a master that is hardware",
	 "!lo",
	 FM_OBSERVE_ONCE,
	 {{"eth0", "", "IES"}, {"enP1", "", "SC", .master = "eth0"}}},
	{"virtual function named, its master not",
	 "enP1",
	 FM_OBSERVE_ONCE,
	 {{"eth0", "", "-"}, {"enP1", "", "IES", .master = "eth0"}}},
	{"Open vSwitch",
	 "!lo",
	 FM_OBSERVE_ONCE,
	 {{"ovs-system", "openvswitch", "SC"},
	  {"br-int", "openvswitch", "SC"},
	  {"eth0", "", "IES", .master = "ovs-system"},
	  {"tap1", "tun", "IES", .master = "ovs-system"}}},
	{"a master of an unknown kind covers nothing",
	 "!lo",
	 FM_OBSERVE_ONCE,
	 {{"bat0", "batadv", "IES"}, {"eth0", "", "IES", .master = "bat0"}}},
	{"a circle ends",
	 "!lo",
	 FM_OBSERVE_ONCE,
	 {{"vxlan0", "vxlan", "IES", .link = "vxlan0"}, {"eth0", "", "IES"}}},
	{"a lower that is not there (yet)",
	 "!lo",
	 FM_OBSERVE_ONCE,
	 {{"eth0.5", "vlan", "IES", .link = AWAY}, {"x", "", "IES", .master = "gone"}}},
	{"observe = every: all that matches, both ways, nothing seen",
	 "!lo, !eth1",
	 FM_OBSERVE_EVERY,
	 {{"lo", "", "-", .arphrd = ARPHRD_LOOPBACK},
	  {"br0", "bridge", "IE"},
	  {"eth0", "", "IE", .master = "br0"},
	  {"va", "veth", "IE", .link = "vb"},
	  {"vb", "veth", "IE", .link = "va"},
	  {"eth0.5", "vlan", "IE", .link = "eth0"},
	  {"tun0", "tun", "IE3", .arphrd = 0xFFFE},
	  {"mon0", "", "F", .arphrd = 803},
	  {"eth1", "", "-"}}},
	{"nothing at all", "!lo", FM_OBSERVE_ONCE, {{NULL}}},
};

/* Indexes count in each namespace. */
static uint32_t index_of(const struct row *rows, const char *name, unsigned int ns)
{
	uint32_t index = 0;

	for (size_t i = 0; i < DEVICES_MAX && rows[i].name; i++) {
		index += rows[i].ns == ns;
		if (rows[i].ns == ns && !strcmp(rows[i].name, name))
			return index;
	}
	return 0xabcdef;
}

static void make_device(const struct row *rows, size_t i, struct fm_device *ret)
{
	const struct row *row = &rows[i];

	*ret = (struct fm_device){
		.ns = row->ns,
		.ifindex = index_of(rows, row->name, row->ns),
		.arphrd = row->arphrd ? row->arphrd : ARPHRD_ETHER,
		.up = !row->down,
		.master = row->master ? index_of(rows, row->master, row->ns) : 0,
	};
	snprintf(ret->name, sizeof(ret->name), "%s", row->name);
	snprintf(ret->kind, sizeof(ret->kind), "%s", row->kind);
	if (!row->link)
		return;
	if (!strcmp(row->link, AWAY)) {
		/* An index that is a device here: it must not be taken for it. */
		ret->link = index_of(rows, "eth0", row->ns);
		ret->link_ns = FM_LINK_AWAY;
	} else if (!strncmp(row->link, OTHER, strlen(OTHER))) {
		ret->link = index_of(rows, row->link + strlen(OTHER), !row->ns);
		ret->link_ns = FM_LINK_IN(!row->ns);
	} else {
		ret->link = index_of(rows, row->link, row->ns);
	}
}

static void words(const struct fm_plan *plan, char *ret)
{
	sprintf(ret, "%s%s%s%s%s%s%s", plan->ingress ? "I" : "", plan->egress ? "E" : "",
		plan->seen ? "S" : "", plan->covered ? "C" : "", plan->mixed ? "M" : "",
		plan->foreign ? "F" : "", plan->layer3 ? "3" : "");
	if (!*ret)
		strcpy(ret, "-");
}

/* backwards: the order of devices must not matter. */
static bool check(size_t number, bool backwards)
{
	static const char *const names[] = {NULL, "one", "two"};
	const struct row *rows = cases[number].rows;
	struct fm_device devices[DEVICES_MAX];
	struct fm_plan plans[DEVICES_MAX];
	struct fm_names patterns = {};
	size_t n = 0;
	bool ok;

	while (n < DEVICES_MAX && rows[n].name)
		n++;
	for (size_t i = 0; i < n; i++)
		make_device(rows, i, &devices[backwards ? n - 1 - i : i]);
	ok = fm_parse_list(cases[number].patterns, &patterns.v, &patterns.n) == 0 &&
	     fm_interfaces_plan(devices, n, &patterns, names, cases[number].observe, plans) == 0;
	for (size_t i = 0; ok && i < n; i++) {
		const char *expected = rows[backwards ? n - 1 - i : i].expected;
		char found[16];

		words(&plans[i], found);
		if (!strcmp(found, expected))
			continue;
		FM_TEST_NOTE("%s: %s, expected %s", devices[i].name, found, expected);
		ok = false;
	}
	fm_parse_list_free(patterns.v, patterns.n);
	return ok;
}

/* The kernel nests a few levels; what is told here may be anything. */
static void test_depth(void)
{
	enum { N = 200000 };
	static const char *const names[] = {NULL};
	static struct fm_device devices[N];
	static struct fm_plan plans[N];
	const struct fm_names patterns = {};
	int r;

	for (uint32_t i = 0; i < N; i++) {
		devices[i] = (struct fm_device){
			.ifindex = i + 1,
			.arphrd = ARPHRD_ETHER,
			.link = i + 2 <= N ? i + 2 : 1,
			.master = (i * 7) % N + 1,
			.up = true,
		};
		snprintf(devices[i].name, sizeof(devices[i].name), "d%u", i);
		strcpy(devices[i].kind, "vlan");
	}
	r = fm_interfaces_plan(devices, N, &patterns, names, FM_OBSERVE_ONCE, plans);
	for (uint32_t i = 0; i < N; i++)
		strcpy(devices[i].kind, i % 3 ? "vlan" : i % 2 ? "bridge" : "vxlan");
	r |= fm_interfaces_plan(devices, N, &patterns, names, FM_OBSERVE_ONCE, plans);
	FM_TEST(r == 0, "very many devices in circles come to an end");
}

int main(void)
{
	for (size_t i = 0; i < FM_ARRAY_SIZE(cases); i++) {
		FM_TEST(check(i, false), "%s", cases[i].what);
		FM_TEST(check(i, true), "%s (told backwards)", cases[i].what);
	}
	test_depth();
	return fm_test_done();
}
