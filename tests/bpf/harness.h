/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Runs the programs of the kernel half on crafted packets and shows what they made of them. Called
 * by the tests in this folder; pins the calling thread to one CPU, whose region it reads.
 */
#ifndef FM_TESTS_HARNESS_H
#define FM_TESTS_HARNESS_H

#include "daemon/generation.h"
#include "packet.h"

struct wrap_bpf;
struct ring_buffer;

struct harness {
	struct fm_kernel *kernel;
	struct fm_generation *generation;
	struct wrap_bpf *wrap;
	struct ring_buffer *ring;
	unsigned int cpu;
	struct fm_counters before; /* at the last reset */
	struct fm_overflow event;  /* the last one that was taken from the ring */
	struct fm_count events;	   /* taken from the ring since the last reset */
};

/* How a packet comes to the hook. */
struct harness_run {
	enum fm_hook hook;
	bool layer3;
	uint32_t ifindex;	  /* 0: loopback */
	uint32_t ingress_ifindex; /* 0: sent by this host */
	uint32_t gso_size;
	uint32_t gso_segs;
	uint32_t cut;	   /* length the hook sees, 0: all */
	uint32_t vlan_tag; /* protocol << 16 | TCI beside the data, 0: none */
	uint32_t repeat;
	uint32_t flood; /* FM_FLOOD_*: what each of the runs makes random */
};

/* Whether this process may load programs. */
bool harness_allowed(void);

/*
 * Moves the process into a network namespace of its own with veth devices of the indices 2 to
 * n + 1; their peers have 100 more. 0 or -errno.
 */
int harness_devices(unsigned int n);

/* 0 or -errno. */
int harness_init(struct harness *h, const struct fm_kernel_options *options);
int harness_init_prefixes(struct harness *h, const struct fm_kernel_options *options,
			  const struct fm_prefix_map *map);
void harness_done(struct harness *h);

/* Empties the CPU's region and the ring, and starts counting anew. */
void harness_reset(struct harness *h);

/* Forgets the fragments that were seen. */
void harness_forget_fragments(struct harness *h);

/*
 * A program for a device's hook, before the one that counts there: wrap->bss->fm_spied_runs is then
 * how many buffers came by, fm_spied_linear how much of the last one was linear. With encap the
 * program puts them into a tunnel first: wrap->bss->fm_encap_*. Descriptor.
 */
int harness_spy(struct harness *h, enum fm_hook hook, bool encap);

/* Runs the program of a hook. 0 or -errno; -EPROTO where it did not answer "next". */
int harness_run(struct harness *h, const void *data, size_t length, const struct harness_run *run);
#define harness_packet(h, p, ...)                                                                  \
	harness_run(h, (p)->data, (p)->length, &(struct harness_run){__VA_ARGS__})

/* Live slots of the CPU's region: how many, and the first. */
size_t harness_slots(const struct harness *h, struct fm_slot **ret_first);

/* What lies beside a slot of the CPU's region: the TCP figures, the tunnel; NULL where that is off.
 */
const struct fm_tcp_slot *harness_tcp(const struct harness *h, const struct fm_slot *slot);
const struct fm_tunnel *harness_tunnel(const struct harness *h, const struct fm_slot *slot);

/* A counter since the last reset. */
struct fm_count harness_count(const struct harness *h, enum fm_counter which);

/* Takes everything from the overflow ring. */
void harness_drain(struct harness *h);

/*
 * SEEN = slots + AGAIN + AGGREGATED + IGNORED + FILTERED + LOST, since the last reset, in packets
 * and octets. Prints what differs.
 */
bool harness_identity(const struct harness *h);

#endif
