/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Filters and packets made at random from a small world of addresses, ports and interfaces, so that
 * rules and packets meet: a filter as rules of ours and as expressions of libpcap, what it means
 * said once more by itself (the tree that it was made as), and packets as frames and as what the
 * tables see of them. Used by the tests of rules, in user space and in the kernel.
 */
#ifndef FM_TESTS_SOME_FILTERS_H
#define FM_TESTS_SOME_FILTERS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/buf.h"
#include "daemon/filter-compile.h"

#define SOME_RULES    8
#define SOME_NODES    256
#define SOME_VALUES   4 /* of a list */
#define SOME_PREFIXES 64
#define SOME_FRAME    160

enum some_kind {
	SOME_ANY,
	SOME_HOST,
	SOME_NET,
	SOME_FILE, /* net file */
	SOME_PORT,
	SOME_RANGE,
	SOME_PROTOCOL, /* proto N */
	SOME_WORD,     /* tcp, ip6... */
	SOME_VLAN,
	SOME_VLANS, /* any tag */
	SOME_FLAGS,
	SOME_INTERFACE,
	SOME_HOOK,
	SOME_AND,
	SOME_OR,
	SOME_NOT,
};

enum some_side {
	SOME_SIDE_NONE, /* either */
	SOME_SIDE_SOURCE,
	SOME_SIDE_DESTINATION,
	SOME_SIDE_EITHER,
	SOME_SIDE_BOTH,
};

struct some_prefix {
	int family; /* 4, 6 */
	uint8_t addr[16];
	unsigned int length;
};

struct some_value {
	struct some_prefix prefix;
	unsigned int first, last; /* number or range; flags: mask and those that are set */
	const char *name;	  /* of an interface: a pattern */
};

struct some_node {
	enum some_kind kind;
	/* SOME_AND, SOME_OR, SOME_NOT */
	const struct some_node *operand[3];
	size_t n_operands;
	/* terms */
	int word; /* protocol of a term, or before it; -1: none */
	enum some_side side;
	struct some_value value[SOME_VALUES];
	size_t n_values;
	bool all; /* of them, not any */
	unsigned int style;
};

struct some_rule {
	const char *action;
	const struct some_node *holds_for; /* NULL: everything */
};

struct some_filter {
	uint64_t random;
	bool pcap; /* what libpcap knows as well */
	struct some_rule rule[SOME_RULES];
	size_t n_rules;
	const char *path; /* of its file of prefixes */
	struct some_prefix prefix[SOME_PREFIXES];
	size_t n_prefixes;
	struct some_node node[SOME_NODES];
	size_t n_nodes;
};

struct some_packet {
	struct fm_filter_packet seen;
	size_t length;
	uint8_t frame[SOME_FRAME]; /* Ethernet */
};

/* The interfaces that packets pass. */
extern const struct fm_filter_interface some_interfaces[];
extern const size_t some_n_interfaces;

uint32_t some_number(uint64_t *random, uint32_t below);

/*
 * Another filter; its prefixes are written to the file at path. pcap: such that libpcap can be
 * asked as well. False: the file could not be written.
 */
bool some_filter_make(struct some_filter *filter, uint64_t random, const char *path, bool pcap);
/* A rule as we read it. */
void some_rule_print(const struct some_filter *filter, size_t rule, struct fm_buf *ret);
/*
 * What a rule holds for as libpcap reads it, of frames that pass a hook of some_interfaces: libpcap
 * cannot be told of them.
 */
void some_rule_print_pcap(const struct some_filter *filter, size_t rule, size_t interface,
			  enum fm_hook hook, struct fm_buf *ret);
/* The rule that decides, as the tree says; n_rules: none does. */
size_t some_filter_verdict(const struct some_filter *filter, const struct fm_filter_packet *packet);

/* A packet at any hook; pcap: one that libpcap and we look at in the same way. */
void some_packet_make(struct some_packet *packet, uint64_t *random, bool pcap);
void some_packet_print(const struct some_packet *packet, struct fm_buf *ret);

#endif
