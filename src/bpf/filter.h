/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * Which packets are counted: ordered rules as tables. Part of abi.h.
 *
 * A rule is one clause or several; a clause says something, or nothing, about each dimension of a
 * packet. Each value a dimension can have leads to a row of bits, one a clause: whether the clause
 * can hold for it. The first clause whose bit is set in the rows of all dimensions holds, however
 * many there are (Lakshman and Stiliadis, SIGCOMM 1998). The last clause holds for every packet.
 */
#ifndef FM_FILTER_H
#define FM_FILTER_H

#include "abi.h"

#ifndef __always_inline
#define __always_inline inline __attribute__((always_inline))
#endif

#define FM_FILTER_BANKS	  2
#define FM_FILTER_WORDS	  8
#define FM_FILTER_CLAUSES (FM_FILTER_WORDS * 64)
#define FM_FILTER_RULES	  256
/* Where rules are counted: those that hold, and those that will. */
#define FM_FILTER_PLACES     (2 * FM_FILTER_RULES)
#define FM_FILTER_SAMPLERS   16
#define FM_FILTER_ROWS	     4096
#define FM_FILTER_NETS	     (1u << 20)
#define FM_FILTER_INTERFACES 1024 /* places; half of them are used at most */
#define FM_FILTER_PROBES     16
/* Where an interface's place is, or little behind it. */
#define FM_FILTER_HOME(ifindex) (((ifindex) ^ (ifindex) >> 16) & (FM_FILTER_INTERFACES - 1))

/* In this order in the array that fm_filter_clause() gets. */
enum fm_filter_dimension {
	FM_BY_SOURCE,
	FM_BY_DESTINATION,
	FM_BY_SOURCE_PORT,
	FM_BY_DESTINATION_PORT,
	FM_BY_PROTOCOL, /* and family */
	FM_BY_VLAN,
	FM_BY_FLAGS, /* of TCP */
	FM_BY_INTERFACE,
	_FM_BY_MAX,
};

enum fm_filter_action {
	FM_FILTER_INCLUDE,
	FM_FILTER_EXCLUDE,
	FM_FILTER_SAMPLE,
};

/* How a sampler chooses one of so many (RFC 5475, RFC 7014). */
enum fm_sampler_method {
	FM_SAMPLE_COUNT,  /* every N-th packet of a CPU */
	FM_SAMPLE_RANDOM, /* one at random of each N packets of a CPU */
	FM_SAMPLE_FLOWS,  /* conversations by a hash of their key, all packets */
};

struct fm_sampler {
	__u32 interval; /* N */
	__u32 method;	/* enum fm_sampler_method */
};

struct fm_filter_rule {
	__u8 action;  /* enum fm_filter_action */
	__u8 sampler; /* of FM_FILTER_SAMPLE; 0: none */
	__u16 place;  /* where it is counted */
};

struct fm_filter_row {
	__u64 word[FM_FILTER_WORDS];
};

/* Numbers of rows, by dimension: FM_FILTER_ROWS - 1 at most. Row 0 has all bits. */
struct fm_filter {
	__u32 dimensions;	/* bits 1 << enum fm_filter_dimension: those that a rule asks for */
	__u32 n_words;		/* of a row, that are used */
	__u16 port[2][65536];	/* source, destination; by port in host order */
	__u16 no_port[2];	/* protocols without ports */
	__u16 protocol[2][256]; /* IPv4, IPv6 */
	__u16 vlan[4096];	/* outer tag; 0: none */
	__u16 flags[256];
	__u16 no_flags;			   /* no TCP header */
	__u16 interface_row[_FM_HOOK_MAX]; /* of interfaces that have no place */
	struct {
		__u32 ifindex; /* with its namespace's base; 0: free */
		__u16 row[_FM_HOOK_MAX];
	} interface[FM_FILTER_INTERFACES];
	__u16 rule_of[FM_FILTER_CLAUSES];
	struct fm_filter_rule rule[FM_FILTER_RULES];
	struct fm_sampler sampler[FM_FILTER_SAMPLERS];
	struct fm_filter_row row[FM_FILTER_ROWS];
};

/* Of the trie of addresses, IPv4 mapped (::ffff:a.b.c.d); ::/0 and ::ffff:0:0/96 are in it. */
struct fm_filter_net {
	__u32 length; /* of the prefix, bits */
	__u8 addr[16];
};

/* Its value: of packets from there, to there. */
struct fm_filter_net_rows {
	__u16 row[2];
};

/* What is counted of a rule on a CPU. */
struct fm_rule_count {
	struct fm_count matched; /* packets that it decided about */
	struct fm_count counted; /* those of them that are in flows */
	__u32 position;		 /* of the next packet in the N of its sampler */
	__u32 chosen;		 /* which of them FM_SAMPLE_RANDOM takes */
	/* Of CPU 0, the daemon's: */
	__u64 identity;		   /* of the rule that is counted here; 0: none */
	struct fm_sampler sampler; /* what the sampler with the number of this place is */
} __attribute__((aligned(64)));

/* Counts lie in one array, by CPU and place. */
#define FM_RULE_ELEMENT(cpu, place) ((cpu)*FM_FILTER_PLACES + (place))

/* By the upper six bits of a bit times a de Bruijn sequence: which bit it is. */
#define FM_BIT_SEQUENCE 0x03f79d71b4cb0a89ULL
static const __u8 fm_bit_numbers[64] = {
	0,  1,	48, 2,	57, 49, 28, 3,	61, 58, 50, 42, 38, 29, 17, 4,	62, 55, 59, 36, 53, 51,
	43, 22, 45, 39, 33, 30, 24, 18, 12, 5,	63, 47, 56, 27, 60, 41, 37, 16, 54, 35, 52, 21,
	44, 32, 23, 11, 46, 26, 40, 15, 34, 20, 31, 10, 25, 14, 19, 9,	13, 8,	7,  6,
};

/* The lowest bit that is set in a word that is not 0; without a branch. */
static __always_inline __u32 fm_first_bit(__u64 word)
{
	return fm_bit_numbers[(word & -word) * FM_BIT_SEQUENCE >> 58];
}

/* The number of the first clause that holds; row: numbers of rows, by dimension. */
static __always_inline __u32 fm_filter_clause(const struct fm_filter *filter, const __u32 *row)
{
	for (__u32 i = 0; i < FM_FILTER_WORDS && i < filter->n_words; i++) {
		__u64 word = ~0ULL;

		for (__u32 j = 0; j < _FM_BY_MAX; j++)
			word &= filter->row[row[j] & (FM_FILTER_ROWS - 1)].word[i];
		if (word)
			return i * 64 + fm_first_bit(word);
	}
	return FM_FILTER_CLAUSES - 1;
}

#endif
