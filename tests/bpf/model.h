/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What the kernel half must make of a packet, written from the RFCs in plain C without a line of
 * its code. Called by the tests that compare the two on mutated packets.
 */
#ifndef FM_TESTS_MODEL_H
#define FM_TESTS_MODEL_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "bpf/abi.h"

enum model_verdict {
	MODEL_FLOW,
	MODEL_NOT_IP,
	MODEL_MALFORMED,
};

struct model {
	enum model_verdict verdict;
	uint64_t octets; /* also where no flow: of the buffer behind the link layer */
	struct fm_key key;
	unsigned int direction;
	uint8_t ttl, tos, tcp_flags, fragment_flags, ends;
	uint16_t vlan, cvlan;
	bool cut_transport, cut_payload, deep_headers, orphan;
	uint32_t flow_label;
	uint64_t mpls; /* as struct fm_half has it */
	/* Tunnels, where they are looked into: what is left out of octets, and the innermost. */
	uint32_t headers;
	bool undecoded, deep_tunnel;
	struct fm_tunnel tunnel; /* as the packet travels */
};

/* What the device says beside the data. */
struct model_link {
	bool layer3;   /* no Ethernet header */
	uint16_t type; /* layer3: EtherType of the data */
	bool tagged;   /* a VLAN tag that is not in the data */
	uint16_t tci;
	bool inner; /* the innermost packet is asked for */
};

/* A packet with an Ethernet header of 14 octets at least, where the device has one. */
void model_packet(struct model *ret, const uint8_t *data, size_t length,
		  const struct model_link *link);

/*
 * Forgets the fragments that were seen; how many there are. The kernel half remembers some thousand
 * only, so that a long comparison has to make both forget.
 */
void model_forget(void);
size_t model_fragments(void);

#endif
