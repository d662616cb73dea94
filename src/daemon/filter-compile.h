/* SPDX-License-Identifier: Apache-2.0 */
/* From rules (filter-rules.h) to the tables that the programs in the kernel read (bpf/filter.h). */
#ifndef FM_FILTER_COMPILE_H
#define FM_FILTER_COMPILE_H

#include <stddef.h>
#include <stdint.h>

#include "base/buf.h"
#include "base/cleanup.h"
#include "bpf/abi.h"
#include "daemon/filter-rules.h"

/* An interface that has a hook. */
struct fm_filter_interface {
	uint32_t ifindex; /* as the programs know it, with its namespace's base */
	const char *name;
	const char *ns; /* NULL: the daemon's own */
};

/* An element of the trie of addresses, with the rows of those that it is the longest match of. */
struct fm_filter_prefix {
	struct fm_filter_net net;
	struct fm_filter_net_rows rows;
};

struct fm_filter_tables {
	struct fm_filter *filter;
	struct fm_filter_prefix *prefixes; /* by address, then by length; none twice */
	size_t n_prefixes;
};

/* What stands where in the tables; NULL: as the rules have them. */
struct fm_filter_numbers {
	const uint16_t *place;	/* of each rule, then of the packets that no rule speaks of */
	const uint8_t *sampler; /* of each of rules->sampler */
};

/*
 * otherwise: what becomes of packets that no rule speaks of. 0, -ENOMEM or -E2BIG: complaint says
 * of what there is too much; with rules that fm_filter_check() took, of interfaces only.
 */
int fm_filter_compile(const struct fm_filter_rules *rules, enum fm_filter_action otherwise,
		      const struct fm_filter_numbers *numbers,
		      const struct fm_filter_interface *interfaces, size_t n_interfaces,
		      struct fm_filter_tables *ret, struct fm_buf *complaint);
/* By hand in tests, else by the attribute. */
void fm_filter_tables_done(struct fm_filter_tables *tables);
#define _fm_cleanup_filter_ _fm_cleanup_(fm_filter_tables_done)

/* Whether the tables have room for the rules, whatever interfaces there will be. */
int fm_filter_check(const struct fm_filter_rules *rules, struct fm_buf *complaint);

/* A packet as the tables see it. */
struct fm_filter_packet {
	uint8_t addr[2][16]; /* source, destination; IPv4 mapped */
	uint8_t family;	     /* 4 or 6 */
	uint8_t protocol;
	bool has_ports;
	bool has_flags; /* it has a TCP header */
	uint8_t flags;
	uint16_t port[2]; /* source, destination, host order */
	uint16_t vlan;	  /* outer tag; 0: none */
	uint32_t ifindex;
	enum fm_hook hook;
};

/* For tests: the number of the rule that decides; behind the last: none speaks of the packet. */
unsigned int fm_filter_look(const struct fm_filter_tables *tables,
			    const struct fm_filter_packet *packet);

#endif
