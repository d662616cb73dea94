/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Routes: which sinks get the records of a conversation. A sink in no group is a route of its own;
 * a group is one for all its members. Decided once a conversation and export, here and nowhere
 * else, so that no record goes to none or two of a group that shares. Owned by the exporter, made
 * by sinks.c.
 */
#ifndef FM_ROUTE_H
#define FM_ROUTE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "bpf/abi.h"
#include "daemon/config.h"
#include "daemon/sink.h"
#include "ipfix/record.h"

#define FM_ROUTE_KEY_OCTETS 16

struct fm_route_member {
	struct fm_sink *sink;		   /* not owned */
	char *name;			   /* of the collector; NULL: of a route without group */
	uint64_t hash;			   /* of the name */
	bool in;			   /* balance: takes part */
	uint64_t records, packets, octets; /* given to it */
};

struct fm_route {
	char *group; /* NULL: one sink that is in none */
	enum fm_policy policy;
	uint64_t failover_after_ns, failback_ns;
	struct fm_route_member *members;
	size_t n;
	size_t n_in;   /* balance: members that take part; 0: none is up, all do */
	size_t chosen; /* failover: who gets the records */
};

struct fm_routes {
	struct fm_route *routes;
	size_t n;
	bool decides; /* there is a group that balances or fails over */
	uint8_t key[FM_ROUTE_KEY_OCTETS];
};

/*
 * The key of the hash that balances: a secret of this machine, the same after every start. false:
 * there is none, and the key is random.
 */
bool fm_routes_machine_key(uint8_t ret[FM_ROUTE_KEY_OCTETS]);

/*
 * Routes to sinks, the collectors of config first and in its order. before: what groups and members
 * that stay go on with. 0 or -ENOMEM.
 */
int fm_routes_init(struct fm_routes *ret, const uint8_t key[FM_ROUTE_KEY_OCTETS],
		   const struct fm_config *config, struct fm_sink *const *sinks, size_t n,
		   const struct fm_routes *before);
void fm_routes_done(struct fm_routes *routes);

/* Looks who is up, and for how long (CLOCK_MONOTONIC). */
void fm_routes_update(struct fm_routes *routes, uint64_t now_ns);

/* Whether each sink that the next conversation may go to can take so many records. */
bool fm_routes_room(const struct fm_routes *routes, size_t n);

/* Gives the records of one conversation; key: as in the tables, the same for both directions. */
void fm_routes_give(struct fm_routes *routes, const struct fm_key *key,
		    const struct fm_record *records, size_t n);

/* Whether the member gets records now: all, its part, or none. */
bool fm_route_chosen(const struct fm_route *route, size_t member);

/* What its transport says. */
bool fm_route_member_up(const struct fm_route_member *member, uint64_t *ret_since_ns);

#endif
