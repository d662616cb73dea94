/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * Where slots lie in a region and what becomes of them. Part of abi.h.
 */
#ifndef FM_PLACES_H
#define FM_PLACES_H

/* A conversation's slot lies at most this far behind its home. */
#define FM_PROBES 32

/*
 * Behind the slots of conversations, FM_PROBES - 1 more than there are homes, a region has those of
 * aggregates: packets that found no slot, counted under a coarser key (enum fm_aggregate). Their
 * homes come in three parts, so that what is finer never takes the place of what is coarser: all of
 * a family, which always finds a place; a protocol on an interface; an end point. A family has two
 * slots at most at one time, one that is counted in and one that is being taken out.
 */
#define FM_AGGREGATE_PROBES  8
#define FM_FAMILY_HOMES	     (2 * FM_AGGREGATE_PROBES)
#define FM_PROTOCOL_HOMES    48
#define FM_ENDPOINT_HOMES    64
#define FM_AGGREGATES(homes) ((homes) + FM_PROBES - 1) /* where they begin */
#define FM_ALL_HOMES(homes)                                                                        \
	(FM_AGGREGATES(homes) + FM_FAMILY_HOMES + FM_PROTOCOL_HOMES + FM_ENDPOINT_HOMES)
#define FM_ALL_SLOTS(homes) (FM_ALL_HOMES(homes) + FM_PROBES - 1)

/*
 * A region's slots are followed by a mark for each block of slots, FM_MARKS_PER_SLOT octets in
 * every further element of its map: the program sets it when it creates a slot in the block or
 * makes one due sooner, the daemon clears it when it looks at the block, and passes over blocks
 * without one until something in them is due. Small ones: a due slot costs a look at its block.
 */
#define FM_BLOCK_SHIFT	  4
#define FM_BLOCK_SLOTS	  (1U << FM_BLOCK_SHIFT)
#define FM_MARKS_PER_SLOT 128

/*
 * Slot tags. FREE and TOMBSTONE slots are claimed by the program of the region's CPU; every other
 * transition (LIVE -> CLOSING -> TOMBSTONE -> FREE) is the daemon's. Everything from FM_TAG_LIVE
 * up is a live slot, the value taken from the key's hash.
 */
enum {
	FM_TAG_FREE = 0,
	FM_TAG_TOMBSTONE = 1,
	FM_TAG_CLOSING = 2,
	FM_TAG_LIVE = 16,
};

/*
 * What the packets of an aggregate have in common beside family and, but for the last, interface
 * and protocol. What is kept of an end point is endpoint 1 of the key, the many others are endpoint
 * 0, whose address is zero. No packet's own key has such a family.
 */
enum fm_aggregate {
	FM_AGGREGATE_NONE = 0,	   /* a flow of its own */
	FM_AGGREGATE_SERVER = 1,   /* address and port of the server */
	FM_AGGREGATE_CLIENT = 2,   /* address of the client, port of the servers */
	FM_AGGREGATE_ADDRESS = 3,  /* address of one side */
	FM_AGGREGATE_PROTOCOL = 4, /* no end point; direction is the hook */
	FM_AGGREGATE_FAMILY = 5,   /* likewise, and neither interface nor protocol */
};

#define FM_KEY_AGGREGATE(kind)	 ((kind) << 4)
#define FM_KEY_AGGREGATE_OF(key) ((key)->family & 0x80 ? FM_AGGREGATE_NONE : (key)->family >> 4)
#define FM_KEY_FAMILY_OF(key)	 ((key)->family & 0x0f)
#define FM_PROTOCOL_ANY		 255 /* reserved by IANA */

/*
 * Keys that are coarser by configuration have these bits in place of the kind of an aggregate.
 * Without ports, the ports hold the length of each side's prefix, 0 to 32 or 128, or
 * FM_SIDE_NUMBER: the last four octets of the address are a number. With ports, octet
 * FM_LENGTH_AT(family) of each address holds the length.
 */
enum fm_coarse {
	FM_COARSE = 8,
	FM_COARSE_PORTS = 1,	/* without ports */
	FM_COARSE_PROTOCOL = 2, /* nor protocol, which is FM_PROTOCOL_ANY */
	FM_COARSE_LENGTHS = 4,	/* with ports: addresses are cut */
};

#define FM_KEY_COARSE(bits)   ((bits) << 4)
#define FM_KEY_COARSE_OF(key) ((key)->family & 0x80 ? (key)->family >> 4 : 0)
#define FM_SIDE_NUMBER	      0x8000
#define FM_LENGTH_AT(family)  ((family) == 4 ? 0 : 15)
#define FM_LENGTHS_MAX	      120 /* of IPv6 beside ports: the last octet is not used */

#endif
