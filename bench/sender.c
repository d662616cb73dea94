/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Sends UDP packets of so many flows out of a device, as fast as one CPU sends them:
 *
 *   sender DEVICE DESTINATION_MAC PACKETS FLOWS OCTETS
 *
 * 10.9.0.1 port 1024 + i to 10.9.0.2 port 9, IP packets of OCTETS. Output: nanoseconds that it
 * took, packets and octets that were sent. Called by bench/peers.
 */
#include <arpa/inet.h>
#include <errno.h>
#include <linux/if_ether.h>
#include <linux/if_packet.h>
#include <net/if.h>
#include <netinet/ip.h>
#include <netinet/udp.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>

#include "base/clock.h"

#define BATCH	   64
#define FRAME_MAX  1514
#define HEADERS	   (sizeof(struct iphdr) + sizeof(struct udphdr))
#define OCTETS_MAX (FRAME_MAX - ETH_HLEN)

struct frame {
	struct ethhdr eth;
	struct iphdr ip;
	struct udphdr udp;
	uint8_t payload[OCTETS_MAX - HEADERS];
} __attribute__((packed));

static struct frame frames[BATCH];
static struct iovec parts[BATCH];
static struct mmsghdr messages[BATCH];

static uint16_t ip_checksum(const void *header)
{
	uint16_t words[sizeof(struct iphdr) / 2];
	uint32_t sum = 0;

	memcpy(words, header, sizeof(words));
	for (size_t i = 0; i < sizeof(words) / sizeof(words[0]); i++)
		sum += words[i];
	sum = (sum & 0xffff) + (sum >> 16);
	return (uint16_t) ~((sum & 0xffff) + (sum >> 16));
}

static int make_frames(const char *mac, size_t octets)
{
	struct ethhdr eth = {.h_source = {2, 9, 0, 0, 0, 1}, .h_proto = htons(ETH_P_IP)};
	unsigned char *to = eth.h_dest;

	if (sscanf(mac, "%hhx:%hhx:%hhx:%hhx:%hhx:%hhx", &to[0], &to[1], &to[2], &to[3], &to[4],
		   &to[5]) != 6)
		return -EINVAL;
	for (unsigned int i = 0; i < BATCH; i++) {
		struct frame *frame = &frames[i];

		frame->eth = eth;
		frame->ip = (struct iphdr){.version = 4,
					   .ihl = 5,
					   .tot_len = htons((uint16_t)octets),
					   .ttl = 64,
					   .protocol = IPPROTO_UDP,
					   .saddr = htonl(0x0a090001),
					   .daddr = htonl(0x0a090002)};
		frame->ip.check = ip_checksum((uint8_t *)frame + ETH_HLEN);
		frame->udp.dest = htons(9);
		frame->udp.len = htons((uint16_t)(octets - sizeof(struct iphdr)));
		parts[i] = (struct iovec){frame, ETH_HLEN + octets};
		messages[i].msg_hdr = (struct msghdr){.msg_iov = &parts[i], .msg_iovlen = 1};
	}
	return 0;
}

static int open_device(const char *name)
{
	struct sockaddr_ll address = {.sll_family = AF_PACKET,
				      .sll_ifindex = (int)if_nametoindex(name)};
	int fd = socket(AF_PACKET, SOCK_RAW, 0);

	if (fd < 0 || bind(fd, (struct sockaddr *)&address, sizeof(address)) < 0)
		return -errno;
	return fd;
}

/* Returns how many were sent, or -errno. */
static int64_t send_all(int fd, uint64_t packets, unsigned int flows)
{
	uint64_t sent = 0;

	while (sent < packets) {
		unsigned int n = packets - sent < BATCH ? (unsigned int)(packets - sent) : BATCH;
		int r;

		for (unsigned int i = 0; i < n; i++)
			frames[i].udp.source = htons((uint16_t)(1024 + (sent + i) % flows));
		r = sendmmsg(fd, messages, n, 0);
		if (r < 0 && errno != ENOBUFS && errno != EINTR)
			return -errno;
		sent += r > 0 ? (unsigned int)r : 0;
	}
	return (int64_t)sent;
}

int main(int argc, char **argv)
{
	size_t octets = argc > 5 ? strtoul(argv[5], NULL, 10) : 0;
	unsigned int flows = argc > 4 ? (unsigned int)strtoul(argv[4], NULL, 10) : 0;
	uint64_t begun;
	int64_t sent;
	int fd;

	if (octets < HEADERS || octets > OCTETS_MAX || flows == 0 || flows > 64000 ||
	    make_frames(argv[2], octets) < 0) {
		fprintf(stderr, "usage: sender DEVICE DESTINATION_MAC PACKETS FLOWS OCTETS\n");
		return 2;
	}
	fd = open_device(argv[1]);
	begun = fm_clock_monotonic_ns();
	sent = fd < 0 ? fd : send_all(fd, strtoull(argv[3], NULL, 10), flows);
	if (sent < 0) {
		fprintf(stderr, "sender: %s: %s\n", argv[1], strerror((int)-sent));
		return 1;
	}
	printf("%llu %lld %lld\n", (unsigned long long)(fm_clock_monotonic_ns() - begun),
	       (long long)sent, (long long)sent * (long long)octets);
	return 0;
}
