/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Which devices to hook: the once-rule. A packet is counted at the first hook that it passes; at
 * egress skb->ingress_ifindex says where it came in, and the kernel rewrites that on every receive
 * round: above a bridge, bond, VLAN or macvlan it names the upper device. So only the lowest
 * devices are hooked, and what is stacked on them counts as seen.
 */
#include <net/if_arp.h>
#include <string.h>

#include "base/macro.h"
#include "daemon/interfaces.h"
#include "daemon/pattern.h"

/* How a kind of device stands to others. */
enum relation {
	PLAIN,	 /* its packets are its own: hardware, tun, wireguard, dummy */
	STACKED, /* its packets pass the device named by IFLA_LINK as well */
	TUNNEL,	 /* its packets pass some carrier, which IFLA_LINK may name */
	PAIR,	 /* what one end sends the other receives */
	COPIES,	 /* it shows other devices' packets again */
};

static const struct {
	const char *kind;
	enum relation relation;
} kinds[] = {
	{"vlan", STACKED},    {"macvlan", STACKED}, {"macvtap", STACKED},  {"ipvlan", STACKED},
	{"ipvtap", STACKED},  {"macsec", STACKED},  {"dsa", STACKED},	   {"ipoib", STACKED},
	{"vxlan", TUNNEL},    {"geneve", TUNNEL},   {"gre", TUNNEL},	   {"gretap", TUNNEL},
	{"erspan", TUNNEL},   {"ip6gre", TUNNEL},   {"ip6gretap", TUNNEL}, {"ip6erspan", TUNNEL},
	{"ipip", TUNNEL},     {"sit", TUNNEL},	    {"ip6tnl", TUNNEL},	   {"vti", TUNNEL},
	{"vti6", TUNNEL},     {"xfrm", TUNNEL},	    {"gtp", TUNNEL},	   {"bareudp", TUNNEL},
	{"veth", PAIR},	      {"netkit", PAIR},	    {"ifb", COPIES},	   {"nlmon", COPIES},
	{"vsockmon", COPIES}, {"vcan", COPIES},
};

static enum relation relation_of(const struct fm_device *device)
{
	for (size_t i = 0; i < FM_ARRAY_SIZE(kinds); i++)
		if (!strcmp(kinds[i].kind, device->kind))
			return kinds[i].relation;
	return PLAIN;
}

static bool is_loopback(const struct fm_device *device)
{
	return device->arphrd == ARPHRD_LOOPBACK;
}

static bool is_layer3(const struct fm_device *device)
{
	switch (device->arphrd) {
	case ARPHRD_ETHER:
	case ARPHRD_LOOPBACK:
		return false;
	}
	return true;
}

static const struct fm_device *find(const struct fm_device *devices, size_t n, uint32_t ifindex)
{
	for (size_t i = 0; ifindex && i < n; i++)
		if (devices[i].ifindex == ifindex)
			return &devices[i];
	return NULL;
}

/* What is known of a device while the plan is made. */
struct state {
	bool matches;
	bool hooked;
	bool covered;
};

struct planner {
	const struct fm_device *devices;
	size_t n;
	struct state *states;
};

static bool hooked_or_covered(const struct planner *planner, uint32_t ifindex)
{
	const struct fm_device *device = find(planner->devices, planner->n, ifindex);
	const struct state *state = device ? &planner->states[device - planner->devices] : NULL;

	return state && (state->hooked || state->covered);
}

/* A port of this device (bridge, bond, team, vrf) is hooked or covered. */
static bool has_counted_port(const struct planner *planner, const struct fm_device *device)
{
	for (size_t i = 0; i < planner->n; i++)
		if (planner->devices[i].master == device->ifindex &&
		    (planner->states[i].hooked || planner->states[i].covered))
			return true;
	return false;
}

/* Whatever carries a tunnel without a named carrier, it is hooked: everything lowest is. */
static bool all_carriers_hooked(const struct planner *planner)
{
	bool any = false;

	for (size_t i = 0; i < planner->n; i++) {
		const struct fm_device *device = &planner->devices[i];
		enum relation relation = relation_of(device);

		if (is_loopback(device) || relation == TUNNEL || relation == COPIES ||
		    planner->states[i].covered)
			continue;
		if (!planner->states[i].hooked)
			return false;
		any = true;
	}
	return any;
}

static bool is_covered(const struct planner *planner, const struct fm_device *device)
{
	if (has_counted_port(planner, device))
		return true;
	switch (relation_of(device)) {
	case STACKED:
		return hooked_or_covered(planner, device->link);
	case TUNNEL:
		if (device->link)
			return hooked_or_covered(planner, device->link);
		return all_carriers_hooked(planner);
	case PLAIN:
	case PAIR:
	case COPIES:
		break;
	}
	return false;
}

/*
 * Everything that matches is taken as hooked, then what is stacked on it is taken back, until
 * nothing changes: a stack is as deep as it has devices at most.
 */
static void settle(struct planner *planner)
{
	bool changed = true;

	for (size_t i = 0; i < planner->n; i++)
		planner->states[i].hooked = planner->states[i].matches;
	for (size_t round = 0; changed && round <= planner->n; round++) {
		changed = false;
		for (size_t i = 0; i < planner->n; i++) {
			struct state *state = &planner->states[i];
			bool covered = is_covered(planner, &planner->devices[i]);

			if (covered == state->covered)
				continue;
			state->covered = covered;
			state->hooked = state->matches && !covered;
			changed = true;
		}
	}
}

/* Both ends of a pair are hooked here: what enters one end was counted when it left by the other.
 */
static bool peer_is_hooked(const struct planner *planner, const struct fm_device *device)
{
	const struct fm_device *peer = find(planner->devices, planner->n, device->link);

	return relation_of(device) == PAIR && peer && relation_of(peer) == PAIR &&
	       planner->states[peer - planner->devices].hooked;
}

static void plan_once(struct planner *planner, struct fm_plan *ret)
{
	settle(planner);
	for (size_t i = 0; i < planner->n; i++) {
		const struct fm_device *device = &planner->devices[i];
		const struct state *state = &planner->states[i];

		ret[i].egress = state->hooked;
		ret[i].ingress =
			state->hooked && !is_loopback(device) && !peer_is_hooked(planner, device);
		ret[i].seen = state->hooked || state->covered;
	}
}

void fm_interfaces_plan(const struct fm_device *devices, size_t n, const struct fm_names *patterns,
			const char *ns, enum fm_observe observe, struct fm_plan *ret)
{
	_fm_cleanup_free_ struct state *states = calloc(n + 1, sizeof(*states));
	struct planner planner = {devices, n, states};

	memset(ret, 0, n * sizeof(*ret));
	if (!states)
		return;
	for (size_t i = 0; i < n; i++) {
		bool special = is_loopback(&devices[i]) || relation_of(&devices[i]) == COPIES;

		states[i].matches = fm_pattern_match(patterns, ns, devices[i].name, special);
		ret[i].layer3 = is_layer3(&devices[i]);
	}
	if (observe == FM_OBSERVE_ONCE) {
		plan_once(&planner, ret);
		return;
	}
	for (size_t i = 0; i < n; i++)
		ret[i].ingress = ret[i].egress = states[i].matches;
}
