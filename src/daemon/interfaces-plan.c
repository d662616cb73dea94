/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Which devices to hook: the once-rule. Called by interfaces.c; pure.
 *
 * A packet is counted at the first hook that it passes. At egress skb->ingress_ifindex says where
 * it came in, and a device that is "seen" means: counted already. The kernel rewrites that index on
 * every receive round: above a bridge, bond, VLAN or macvlan it names the upper device. So only the
 * lowest devices are hooked, and what is stacked on them is covered: not hooked, but seen.
 *
 * Lower of            is
 *  bridge, bond, team, VRF, Open vSwitch   each port
 *  VLAN, macvlan, ipvlan                   IFLA_LINK
 *  tunnel in the clear                     IFLA_LINK; without: whatever may carry it, see below
 *  port of a master that is hardware       that master: it receives by itself, too (a virtual
 *                                          function behind a netvsc or failover device)
 * Everything else stands for itself: macsec, IPsec, wireguard, tun, DSA ports; what passes below
 * them are other packets, or none that can be read.
 *
 * A device is covered as soon as one of its lowers is counted. Where only some are (some ports of a
 * bridge are monitored), there is no exact answer: hooking the bridge as well would count packets
 * of the monitored ports twice. It is covered and seen then, and "mixed": what comes in by another
 * port and is routed out of a hooked device is not counted; interfaces.c says so in the log.
 *
 * A tunnel without IFLA_LINK is covered if every device that may carry it is counted, for routing
 * may choose any: all devices in that namespace that are up and lowest, except loopback, tunnels
 * and devices that lead nowhere.
 *
 * What enters one end of a veth pair has left by the other: with both ends hooked, no ingress.
 */
#include <errno.h>
#include <net/if_arp.h>
#include <string.h>

#include "base/macro.h"
#include "daemon/interfaces.h"
#include "daemon/pattern.h"

/* Missing in the C library's header. */
#ifndef ARPHRD_IP6GRE
#define ARPHRD_IP6GRE 823
#endif
#ifndef ARPHRD_RAWIP
#define ARPHRD_RAWIP 519
#endif
#ifndef ARPHRD_NONE
#define ARPHRD_NONE 0xFFFE
#endif

/* Deeper than any stack that the kernel allows; ends circles in hostile or half-told data. */
#define DEPTH_MAX 32

/* How a kind of device stands to others. */
enum relation {
	ITSELF,
	PORTS,	 /* lowers: whose IFLA_MASTER it is */
	SWITCH,	 /* lowers: the ports of all Open vSwitch datapaths of the namespace */
	STACKED, /* lower: IFLA_LINK */
	TUNNEL,	 /* lower: IFLA_LINK or any carrier */
	PAIR,	 /* IFLA_LINK is the peer */
	COPIES,	 /* shows other devices' packets again */
	NOWHERE, /* carries nothing for others */
};

static const struct {
	const char *kind;
	enum relation relation;
} kinds[] = {
	{"bridge", PORTS},	 {"bond", PORTS},	{"team", PORTS},      {"vrf", PORTS},
	{"openvswitch", SWITCH}, {"vlan", STACKED},	{"macvlan", STACKED}, {"macvtap", STACKED},
	{"ipvlan", STACKED},	 {"ipvtap", STACKED},	{"vxlan", TUNNEL},    {"geneve", TUNNEL},
	{"gre", TUNNEL},	 {"gretap", TUNNEL},	{"erspan", TUNNEL},   {"ip6gre", TUNNEL},
	{"ip6gretap", TUNNEL},	 {"ip6erspan", TUNNEL}, {"ipip", TUNNEL},     {"sit", TUNNEL},
	{"ip6tnl", TUNNEL},	 {"gtp", TUNNEL},	{"bareudp", TUNNEL},  {"amt", TUNNEL},
	{"veth", PAIR},		 {"netkit", PAIR},	{"ifb", COPIES},      {"nlmon", COPIES},
	{"vsockmon", COPIES},	 {"dummy", NOWHERE},
};

static enum relation relation_of(const struct fm_device *device)
{
	for (size_t i = 0; i < FM_ARRAY_SIZE(kinds); i++)
		if (!strcmp(kinds[i].kind, device->kind))
			return kinds[i].relation;
	return ITSELF;
}

enum header {
	ETHERNET,
	NO_HEADER,
	OTHER_HEADER,
};

/* What TC programs find before the network header. */
static enum header header_of(const struct fm_device *device)
{
	switch (device->arphrd) {
	case ARPHRD_ETHER:
	case ARPHRD_LOOPBACK:
		return ETHERNET;
	case ARPHRD_NONE:
	case ARPHRD_RAWIP:
	case ARPHRD_PPP:
	case ARPHRD_TUNNEL:
	case ARPHRD_TUNNEL6:
	case ARPHRD_SIT:
	case ARPHRD_IPGRE:
	case ARPHRD_IP6GRE:
	case ARPHRD_SLIP:
	case ARPHRD_CSLIP:
	case ARPHRD_SLIP6:
	case ARPHRD_CSLIP6:
		return NO_HEADER;
	}
	return OTHER_HEADER;
}

enum progress {
	UNTOUCHED,
	BUSY,
	SETTLED,
};

/* What is known of a device while the plan is made. */
struct node {
	enum relation relation;
	enum progress progress;
	bool loopback;
	bool matches;
	bool hooked;
	bool covered;
	bool mixed;
	size_t first_port, next_port; /* position + 1; 0: no more */
	size_t peer;		      /* likewise */
};

struct planner {
	const struct fm_device *devices;
	size_t n;
	struct node *nodes;
	size_t *by_index; /* positions, sorted by namespace and ifindex */
};

/* Lowers of one device. */
struct below {
	size_t counted;
	size_t others;
};

static int compare(unsigned int ns_a, uint32_t a, unsigned int ns_b, uint32_t b)
{
	if (ns_a != ns_b)
		return ns_a < ns_b ? -1 : 1;
	return a == b ? 0 : a < b ? -1 : 1;
}

static int compare_positions(const void *a, const void *b, void *userdata)
{
	const struct fm_device *devices = userdata;
	const struct fm_device *x = &devices[*(const size_t *)a], *y = &devices[*(const size_t *)b];

	return compare(x->ns, x->ifindex, y->ns, y->ifindex);
}

/* Position of a device; n: there is none. */
static size_t find(const struct planner *planner, unsigned int ns, uint32_t ifindex)
{
	size_t low = 0, high = planner->n;

	while (low < high) {
		size_t middle = low + (high - low) / 2;
		const struct fm_device *device = &planner->devices[planner->by_index[middle]];
		int order = compare(device->ns, device->ifindex, ns, ifindex);

		if (order == 0)
			return planner->by_index[middle];
		if (order < 0)
			low = middle + 1;
		else
			high = middle;
	}
	return planner->n;
}

/* Namespace that IFLA_LINK speaks of; false: not one that is followed. */
static bool link_namespace(const struct fm_device *device, unsigned int *ret)
{
	if (device->link_ns == FM_LINK_AWAY)
		return false;
	*ret = device->link_ns == FM_LINK_SAME ? device->ns : (unsigned int)device->link_ns - 1;
	return true;
}

static size_t find_link(const struct planner *planner, const struct fm_device *device)
{
	unsigned int ns;

	if (!device->link || !link_namespace(device, &ns))
		return planner->n;
	return find(planner, ns, device->link);
}

static bool counted(const struct node *node)
{
	return node->hooked || node->covered;
}

/* --- what lies below a device --- */

static void settle(struct planner *planner, size_t position, unsigned int depth);

static void tally(struct planner *planner, size_t position, unsigned int depth, struct below *below)
{
	if (position == planner->n) {
		below->others++;
		return;
	}
	settle(planner, position, depth);
	if (counted(&planner->nodes[position]))
		below->counted++;
	else
		below->others++;
}

static void tally_ports(struct planner *planner, const struct node *node, unsigned int depth,
			struct below *below)
{
	for (size_t port = node->first_port; port; port = planner->nodes[port - 1].next_port)
		tally(planner, port - 1, depth, below);
}

static void tally_switch(struct planner *planner, unsigned int ns, unsigned int depth,
			 struct below *below)
{
	for (size_t i = 0; i < planner->n; i++)
		if (planner->nodes[i].relation == SWITCH && planner->devices[i].ns == ns)
			tally_ports(planner, &planner->nodes[i], depth, below);
}

/* Whether routing may send a tunnel's packets there, and no device below has them anyway. */
static bool may_carry(const struct planner *planner, size_t position)
{
	const struct node *node = &planner->nodes[position];
	const struct fm_device *device = &planner->devices[position];

	if (node->loopback || !device->up)
		return false;
	/* IP runs over InfiniBand, not over CAN or a radio monitor. */
	if (header_of(device) == OTHER_HEADER && device->arphrd != ARPHRD_INFINIBAND)
		return false;
	switch (node->relation) {
	case TUNNEL:
	case COPIES:
	case NOWHERE:
	case STACKED:
	case SWITCH:
		return false;
	case PORTS:
		return !node->first_port;
	case ITSELF:
	case PAIR:
		break;
	}
	return true;
}

static void tally_carriers(struct planner *planner, const struct fm_device *tunnel,
			   unsigned int depth, struct below *below)
{
	unsigned int ns;

	if (!link_namespace(tunnel, &ns))
		return;
	for (size_t i = 0; i < planner->n; i++)
		if (planner->devices[i].ns == ns && may_carry(planner, i))
			tally(planner, i, depth, below);
	if (below->others)
		below->counted = 0;
}

/* A master without a kind is hardware, which has packets of its own; its ports add nothing. */
static size_t find_hardware_master(const struct planner *planner, const struct fm_device *device)
{
	size_t master = device->master ? find(planner, device->ns, device->master) : planner->n;

	if (master < planner->n && planner->devices[master].kind[0])
		return planner->n;
	return master;
}

static void look_below(struct planner *planner, size_t position, unsigned int depth,
		       struct below *below)
{
	const struct fm_device *device = &planner->devices[position];
	const struct node *node = &planner->nodes[position];
	size_t master = find_hardware_master(planner, device);

	if (master < planner->n)
		tally(planner, master, depth, below);
	switch (node->relation) {
	case PORTS:
		tally_ports(planner, node, depth, below);
		break;
	case SWITCH:
		tally_switch(planner, device->ns, depth, below);
		break;
	case STACKED:
		tally(planner, find_link(planner, device), depth, below);
		break;
	case TUNNEL:
		if (device->link)
			tally(planner, find_link(planner, device), depth, below);
		else
			tally_carriers(planner, device, depth, below);
		break;
	case ITSELF:
	case PAIR:
	case COPIES:
	case NOWHERE:
		break;
	}
}

static void settle(struct planner *planner, size_t position, unsigned int depth)
{
	struct node *node = &planner->nodes[position];
	struct below below = {};

	if (node->progress != UNTOUCHED)
		return;
	node->progress = BUSY;
	if (depth < DEPTH_MAX)
		look_below(planner, position, depth + 1, &below);
	node->covered = below.counted > 0;
	node->mixed = node->covered && below.others > 0;
	node->hooked = node->matches && !node->covered;
	node->progress = SETTLED;
}

/* --- the plan --- */

static void gather_ports(struct planner *planner)
{
	for (size_t i = planner->n; i > 0; i--) {
		const struct fm_device *device = &planner->devices[i - 1];
		size_t master =
			device->master ? find(planner, device->ns, device->master) : planner->n;

		if (master == planner->n)
			continue;
		planner->nodes[i - 1].next_port = planner->nodes[master].first_port;
		planner->nodes[master].first_port = i;
	}
}

static bool is_pair(const struct planner *planner, size_t position)
{
	return position < planner->n && planner->nodes[position].relation == PAIR;
}

/*
 * What one end says of its peer is not always true: the end that is made first is not told again
 * once it has one, nor is an end whose peer moves. So one that leads nowhere is no contradiction.
 */
static void join_pairs(struct planner *planner)
{
	for (size_t i = 0; i < planner->n; i++) {
		size_t peer = find_link(planner, &planner->devices[i]), back;

		if (!is_pair(planner, i) || !is_pair(planner, peer) || peer == i)
			continue;
		back = find_link(planner, &planner->devices[peer]);
		if (back != i && back != planner->n)
			continue;
		planner->nodes[i].peer = peer + 1;
		planner->nodes[peer].peer = i + 1;
	}
}

/* What enters this end was counted when it left by the other. */
static bool peer_counts(const struct planner *planner, size_t position)
{
	size_t peer = planner->nodes[position].peer;

	return peer && planner->nodes[peer - 1].hooked;
}

static void plan_once(struct planner *planner, struct fm_plan *ret)
{
	gather_ports(planner);
	join_pairs(planner);
	for (size_t i = 0; i < planner->n; i++)
		settle(planner, i, 0);
	for (size_t i = 0; i < planner->n; i++) {
		const struct node *node = &planner->nodes[i];

		ret[i].egress = node->hooked;
		/* On loopback everything that comes in has gone out. */
		ret[i].ingress = node->hooked && !node->loopback && !peer_counts(planner, i);
		ret[i].seen = counted(node);
		ret[i].covered = node->covered;
		ret[i].mixed = node->mixed;
	}
}

int fm_interfaces_plan(const struct fm_device *devices, size_t n, const struct fm_names *patterns,
		       const char *const *names, enum fm_observe observe, struct fm_plan *ret)
{
	_fm_cleanup_free_ struct node *nodes = calloc(n + 1, sizeof(*nodes));
	_fm_cleanup_free_ size_t *by_index = calloc(n + 1, sizeof(*by_index));
	struct planner planner = {devices, n, nodes, by_index};

	if (!nodes || !by_index)
		return -ENOMEM;
	for (size_t i = 0; i < n; i++) {
		enum header header = header_of(&devices[i]);
		bool special, matches;

		by_index[i] = i;
		nodes[i].relation = relation_of(&devices[i]);
		nodes[i].loopback = devices[i].arphrd == ARPHRD_LOOPBACK;
		special = nodes[i].loopback || nodes[i].relation == COPIES;
		matches =
			fm_pattern_match(patterns, names[devices[i].ns], devices[i].name, special);
		nodes[i].matches = matches && header != OTHER_HEADER;
		ret[i] = (struct fm_plan){
			.layer3 = header == NO_HEADER,
			.foreign = matches && header == OTHER_HEADER,
		};
	}
	qsort_r(by_index, n, sizeof(*by_index), compare_positions, (void *)devices);
	if (observe == FM_OBSERVE_ONCE)
		plan_once(&planner, ret);
	for (size_t i = 0; i < n && observe == FM_OBSERVE_EVERY; i++)
		ret[i].ingress = ret[i].egress = nodes[i].matches;
	return 0;
}
