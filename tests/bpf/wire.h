/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Sends packets of the tests through real devices of a network namespace of the test's own, as
 * the kernel builds them: headers in linear memory or not, with segmentation offload. Included by
 * the tests that need more than BPF_PROG_TEST_RUN gives, once each.
 */
#ifndef FM_TESTS_WIRE_H
#define FM_TESTS_WIRE_H

#include <errno.h>
#include <linux/if_packet.h>
#include <linux/virtio_net.h>
#include <net/if.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/socket.h>
#include <sys/uio.h>
#include <time.h>
#include <unistd.h>

#include "packet.h"

#ifndef VIRTIO_NET_HDR_GSO_UDP_L4 /* Linux 6.2 */
#define VIRTIO_NET_HDR_GSO_UDP_L4 5
#endif

/* What the sender of a packet tells the kernel beside it. */
struct wire_hint {
	uint16_t linear;   /* octets in linear memory at least */
	uint8_t gso_type;  /* VIRTIO_NET_HDR_GSO_* */
	uint16_t gso_size; /* payload of a segment */
	uint16_t checksum; /* offset of the transport header whose checksum is left to the device */
	uint16_t checksum_at; /* offset of the field in it */
};

/* A socket that sends on any device. Descriptor or -errno. */
static inline int wire_open(void)
{
	int fd = socket(AF_PACKET, SOCK_RAW | SOCK_CLOEXEC, 0), one = 1;

	if (fd < 0)
		return -errno;
	if (setsockopt(fd, SOL_PACKET, PACKET_VNET_HDR, &one, sizeof(one)) < 0) {
		int r = -errno;

		close(fd);
		return r;
	}
	return fd;
}

/* 0 or -errno. */
static inline int wire_send(int fd, int ifindex, const void *data, size_t length,
			    const struct wire_hint *hint)
{
	struct virtio_net_hdr header = {
		.hdr_len = hint->linear, .gso_type = hint->gso_type, .gso_size = hint->gso_size};
	struct sockaddr_ll to = {.sll_family = AF_PACKET, .sll_ifindex = ifindex, .sll_halen = 6};
	struct iovec parts[2] = {{.iov_base = &header, .iov_len = sizeof(header)},
				 {.iov_base = (void *)data, .iov_len = length}};
	struct msghdr message = {
		.msg_name = &to, .msg_namelen = sizeof(to), .msg_iov = parts, .msg_iovlen = 2};

	if (hint->checksum) {
		header.flags = VIRTIO_NET_HDR_F_NEEDS_CSUM;
		header.csum_start = hint->checksum;
		header.csum_offset = hint->checksum_at;
	}
	memcpy(to.sll_addr, data, 6);
	to.sll_protocol = htons(((const uint8_t *)data)[12] << 8 | ((const uint8_t *)data)[13]);
	return sendmsg(fd, &message, 0) < 0 ? -errno : 0;
}

/*
 * Waits until the counter has n packets: the receiving side of a device runs when the kernel finds
 * the time. False: it has not after a second.
 */
static inline bool wire_settle(const struct harness *h, enum fm_counter which, uint64_t n)
{
	for (int tries = 0; tries < 10000; tries++) {
		if (harness_count(h, which).packets >= n)
			return true;
		nanosleep(&(struct timespec){.tv_nsec = 100000}, NULL);
	}
	return false;
}

#endif
