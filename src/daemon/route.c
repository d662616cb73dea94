/* SPDX-License-Identifier: Apache-2.0 */
/* Who gets what: see route.h. */
#include "daemon/route.h"

#include <errno.h>
#include <netinet/in.h>
#include <stdlib.h>
#include <string.h>
#include <sys/random.h>

#include <systemd/sd-id128.h>

#include "base/cleanup.h"
#include "base/log.h"
#include "base/macro.h"
#include "base/siphash.h"

/* Makes a key of our own of the machine's id, which it does not give away. */
#define APPLICATION SD_ID128_MAKE(5e, 4c, 0f, 8d, 73, 1b, 4a, 96, b2, 60, 9d, 1e, c8, 37, a5, 0b)

bool fm_routes_machine_key(uint8_t ret[FM_ROUTE_KEY_OCTETS])
{
	sd_id128_t id;

	if (sd_id128_get_machine_app_specific(APPLICATION, &id) == 0) {
		memcpy(ret, id.bytes, FM_ROUTE_KEY_OCTETS);
		return true;
	}
	if (getrandom(ret, FM_ROUTE_KEY_OCTETS, GRND_NONBLOCK) < 0)
		memset(ret, 0, FM_ROUTE_KEY_OCTETS);
	return false;
}

/* --- who is up --- */

bool fm_route_member_up(const struct fm_route_member *member, uint64_t *ret_since_ns)
{
	if (member->sink->ops->up)
		return member->sink->ops->up(member->sink, ret_since_ns);
	*ret_since_ns = 0;
	return true;
}

/* Whether it is up (or down), and has been for so long. */
static bool has_been(const struct fm_route_member *member, bool up, uint64_t now_ns,
		     uint64_t for_ns)
{
	uint64_t since;

	return fm_route_member_up(member, &since) == up && now_ns >= since &&
	       now_ns - since >= for_ns;
}

static void set_in(struct fm_route *route, struct fm_route_member *member, bool in)
{
	member->in = in;
	route->n_in += in ? 1 : -1;
	fm_log_notice("group %s: collector %s %s", route->group, member->name,
		      in ? "is up and gets its part" : "is down, others get its part");
}

/*
 * A member leaves when it was down for long enough and joins when it was up for long enough, but
 * if there is nobody left, whoever is up joins at once.
 */
static void update_balance(struct fm_route *route, uint64_t now_ns)
{
	for (size_t i = 0; i < route->n; i++) {
		struct fm_route_member *member = &route->members[i];
		uint64_t limit = member->in ? route->failover_after_ns : route->failback_ns;

		if (has_been(member, !member->in, now_ns, limit))
			set_in(route, member, !member->in);
	}
	if (route->n_in > 0)
		return;
	for (size_t i = 0; i < route->n; i++)
		if (has_been(&route->members[i], true, now_ns, 0))
			set_in(route, &route->members[i], true);
}

/*
 * Where to from a member that is down: the first that is up. One that is preferred to the present
 * one must have been up for long enough, unless there is no other. Nobody is up: the first of all.
 */
static size_t refuge(const struct fm_route *route, uint64_t now_ns)
{
	size_t fresh = route->n;

	for (size_t i = 0; i < route->n; i++) {
		uint64_t limit = i > route->chosen ? 0 : route->failback_ns;

		if (has_been(&route->members[i], true, now_ns, limit))
			return i;
		if (fresh == route->n && has_been(&route->members[i], true, now_ns, 0))
			fresh = i;
	}
	return fresh < route->n ? fresh : 0;
}

static void update_failover(struct fm_route *route, uint64_t now_ns)
{
	const struct fm_route_member *members = route->members;
	size_t before = route->chosen;

	if (has_been(&members[before], false, now_ns, route->failover_after_ns))
		route->chosen = refuge(route, now_ns);
	for (size_t i = 0; i < route->chosen; i++)
		if (has_been(&members[i], true, now_ns, route->failback_ns))
			route->chosen = i;
	if (route->chosen != before)
		fm_log_notice("group %s: records go to collector %s, no longer to %s", route->group,
			      members[route->chosen].name, members[before].name);
}

void fm_routes_update(struct fm_routes *routes, uint64_t now_ns)
{
	for (size_t i = 0; i < routes->n; i++) {
		struct fm_route *route = &routes->routes[i];

		if (route->policy == FM_POLICY_BALANCE)
			update_balance(route, now_ns);
		else if (route->policy == FM_POLICY_FAILOVER)
			update_failover(route, now_ns);
	}
}

bool fm_route_chosen(const struct fm_route *route, size_t member)
{
	switch (route->policy) {
	case FM_POLICY_COPY:
		break;
	case FM_POLICY_BALANCE:
		return route->members[member].in || route->n_in == 0;
	case FM_POLICY_FAILOVER:
		return member == route->chosen;
	}
	return true;
}

/* --- who gets a conversation --- */

/*
 * Of the end points and the protocol only: what a setting adds to the key (VLAN, interface, ToS,
 * tunnel) may differ between the directions, as ICMP's type and code do, which are its ports.
 */
static uint64_t hash_ends(const uint8_t hash_key[FM_ROUTE_KEY_OCTETS], const struct fm_key *key)
{
	struct {
		uint8_t addr[2][16];
		uint16_t port[2];
		uint8_t protocol, family;
		uint8_t padding[2];
	} ends = {.protocol = key->protocol, .family = FM_KEY_FAMILY_OF(key)};

	memcpy(ends.addr, key->addr, sizeof(ends.addr));
	if (key->protocol != IPPROTO_ICMP && key->protocol != IPPROTO_ICMPV6)
		memcpy(ends.port, key->port, sizeof(ends.port));
	return fm_siphash(hash_key, &ends, sizeof(ends));
}

/* A bijection without patterns, murmur's last step. */
static uint64_t mix(uint64_t h)
{
	h ^= h >> 33;
	h *= 0xff51afd7ed558ccd;
	h ^= h >> 33;
	h *= 0xc4ceb9fe1a85ec53;
	return h ^ h >> 33;
}

/*
 * Rendezvous hashing: every member has a weight for every conversation, the heaviest gets it. One
 * that leaves takes nothing along but its own conversations, and gets just these when it is back.
 */
static struct fm_route_member *heaviest(const struct fm_route *route, uint64_t hash)
{
	struct fm_route_member *best = NULL;
	uint64_t best_weight = 0;

	for (size_t i = 0; i < route->n; i++) {
		struct fm_route_member *member = &route->members[i];
		uint64_t weight = mix(hash ^ member->hash);

		if (!fm_route_chosen(route, i) || (best && weight <= best_weight))
			continue;
		best = member;
		best_weight = weight;
	}
	return best;
}

static void give_member(struct fm_route_member *member, const struct fm_record *records, size_t n)
{
	for (size_t i = 0; i < n; i++) {
		member->records++;
		member->packets += records[i].packets + records[i].rev_packets;
		member->octets += records[i].octets + records[i].rev_octets;
		member->sink->ops->record(member->sink, &records[i]);
	}
}

void fm_routes_give(struct fm_routes *routes, const struct fm_key *key,
		    const struct fm_record *records, size_t n)
{
	uint64_t hash = routes->decides ? hash_ends(routes->key, key) : 0;

	for (size_t i = 0; i < routes->n; i++) {
		struct fm_route *route = &routes->routes[i];

		switch (route->policy) {
		case FM_POLICY_COPY:
			for (size_t m = 0; m < route->n; m++)
				give_member(&route->members[m], records, n);
			break;
		case FM_POLICY_BALANCE:
			give_member(heaviest(route, hash), records, n);
			break;
		case FM_POLICY_FAILOVER:
			give_member(&route->members[route->chosen], records, n);
			break;
		}
	}
}

/* Those who had no room are told that others wait for them. */
static void tell_kept(const struct fm_routes *routes, size_t n)
{
	for (size_t i = 0; i < routes->n; i++) {
		const struct fm_route *route = &routes->routes[i];

		for (size_t m = 0; m < route->n; m++) {
			struct fm_sink *sink = route->members[m].sink;

			if (fm_route_chosen(route, m) && sink->ops->kept &&
			    sink->ops->room(sink) < n)
				sink->ops->kept(sink);
		}
	}
}

bool fm_routes_room(const struct fm_routes *routes, size_t n)
{
	size_t with = 0, without = 0;

	for (size_t i = 0; i < routes->n; i++) {
		const struct fm_route *route = &routes->routes[i];

		for (size_t m = 0; m < route->n; m++) {
			struct fm_sink *sink = route->members[m].sink;

			if (!fm_route_chosen(route, m))
				continue;
			if (sink->ops->room(sink) < n)
				without++;
			else
				with++;
		}
	}
	if (with && without)
		tell_kept(routes, n);
	return !without;
}

/* --- making them --- */

static void route_done(struct fm_route *route)
{
	for (size_t m = 0; m < route->n; m++)
		free(route->members[m].name);
	free(route->members);
	free(route->group);
}

void fm_routes_done(struct fm_routes *routes)
{
	for (size_t i = 0; i < routes->n; i++)
		route_done(&routes->routes[i]);
	free(routes->routes);
	*routes = (struct fm_routes){};
}

static bool in_a_group(const struct fm_config *config, const char *name)
{
	for (size_t g = 0; g < config->n_groups; g++)
		for (size_t m = 0; m < config->groups[g].members.n; m++)
			if (!strcmp(config->groups[g].members.v[m], name))
				return true;
	return false;
}

static int init_alone(struct fm_route *route, struct fm_sink *sink)
{
	route->members = calloc(1, sizeof(*route->members));
	if (!route->members)
		return -ENOMEM;
	route->n = 1;
	route->members[0].sink = sink;
	return 0;
}

/* A member's sink; the configuration was checked: there is one. */
static struct fm_sink *sink_of(const struct fm_config *config, struct fm_sink *const *sinks,
			       const char *name)
{
	size_t i = 0;

	while (strcmp(config->collectors[i].name, name))
		i++;
	return sinks[i];
}

static int init_group(struct fm_route *route, const uint8_t key[FM_ROUTE_KEY_OCTETS],
		      const struct fm_config *config, const struct fm_group_config *group,
		      struct fm_sink *const *sinks)
{
	route->group = strdup(group->name);
	route->members = calloc(group->members.n, sizeof(*route->members));
	if (!route->group || !route->members)
		return -ENOMEM;
	route->policy = group->policy;
	route->failover_after_ns = group->failover_after_ns;
	route->failback_ns = group->failback_ns;
	/* Until something else is known, all are up: connections are about to be made. */
	route->n_in = group->members.n;
	while (route->n < group->members.n) {
		struct fm_route_member *member = &route->members[route->n];
		const char *name = group->members.v[route->n];

		member->name = strdup(name);
		if (!member->name)
			return -ENOMEM;
		member->sink = sink_of(config, sinks, name);
		member->hash = fm_siphash(key, name, strlen(name));
		member->in = true;
		route->n++;
	}
	return 0;
}

/* What a member that stays goes on with; its part in the group only under the same policy. */
static void inherit(struct fm_route *route, size_t m, const struct fm_route *before, size_t b)
{
	struct fm_route_member *member = &route->members[m];
	const struct fm_route_member *was = &before->members[b];

	member->records = was->records;
	member->packets = was->packets;
	member->octets = was->octets;
	if (!route->group || !before->group || strcmp(route->group, before->group) ||
	    route->policy != before->policy)
		return;
	route->n_in -= member->in && !was->in;
	member->in = was->in;
	if (before->chosen == b)
		route->chosen = m;
}

static void inherit_all(struct fm_routes *routes, const struct fm_routes *before)
{
	for (size_t i = 0; i < routes->n; i++)
		for (size_t m = 0; m < routes->routes[i].n; m++)
			for (size_t j = 0; j < before->n; j++)
				for (size_t b = 0; b < before->routes[j].n; b++)
					if (before->routes[j].members[b].sink ==
					    routes->routes[i].members[m].sink)
						inherit(&routes->routes[i], m, &before->routes[j],
							b);
}

int fm_routes_init(struct fm_routes *ret, const uint8_t key[FM_ROUTE_KEY_OCTETS],
		   const struct fm_config *config, struct fm_sink *const *sinks, size_t n,
		   const struct fm_routes *before)
{
	struct fm_routes routes = {};
	int r = 0;

	memcpy(routes.key, key, FM_ROUTE_KEY_OCTETS);
	routes.routes = calloc(n + config->n_groups + 1, sizeof(*routes.routes));
	if (!routes.routes)
		return -ENOMEM;
	for (size_t i = 0; i < n && r == 0; i++)
		if (i >= config->n_collectors || !in_a_group(config, config->collectors[i].name))
			r = init_alone(&routes.routes[routes.n++], sinks[i]);
	for (size_t g = 0; g < config->n_groups && r == 0; g++) {
		r = init_group(&routes.routes[routes.n++], key, config, &config->groups[g], sinks);
		routes.decides |= config->groups[g].policy != FM_POLICY_COPY;
	}
	if (r < 0) {
		fm_routes_done(&routes);
		return r;
	}
	inherit_all(&routes, before);
	*ret = routes;
	return 0;
}
