/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Sends a flood out of a device as fast as it goes, beside long conversations, and tells what it
 * sent:
 *
 *   flood DEVICE PACKETS KIND [CONVERSATIONS [MOVES]]
 *
 * KIND is syn (random clients, one server), scan (one client, random servers) or any (all random);
 * mix: the three in turns. Conversations are 10.0.0.1 port 2000 + i with 10.0.0.2 port 443, three
 * packets on each CPU before the flood and one after each BATCH of it, in turns, both directions.
 * With MOVES they begin on one CPU only, and all is sent by another one so often, at even
 * distances. Output: a line of JSON. The device needs no peer: what counts at its egress counts it.
 */
#include <arpa/inet.h>
#include <errno.h>
#include <linux/if_ether.h>
#include <linux/if_packet.h>
#include <net/if.h>
#include <netinet/ip.h>
#include <netinet/tcp.h>
#include <sched.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <time.h>

#define BATCH		  64
#define CONVERSATIONS_MAX 1000

struct frame {
	struct ethhdr eth;
	struct iphdr ip;
	struct tcphdr tcp;
} __attribute__((packed));

#define OCTETS (sizeof(struct frame) - sizeof(struct ethhdr))

static struct frame frames[BATCH];
static struct mmsghdr messages[BATCH];
static struct iovec parts[BATCH];
static uint64_t state = 0x9e3779b97f4a7c15ULL;
static uint64_t talked[CONVERSATIONS_MAX][2];

static uint32_t random32(void)
{
	state ^= state << 13;
	state ^= state >> 7;
	state ^= state << 17;
	return state >> 32;
}

static void make(struct frame *frame, uint32_t src, uint16_t sport, uint32_t dst, uint16_t dport,
		 bool syn)
{
	*frame = (struct frame){
		.eth = {.h_dest = {2, 0, 0, 0, 0, 1},
			.h_source = {2, 0, 0, 0, 0, 2},
			.h_proto = htons(ETH_P_IP)},
		.ip = {.version = 4,
		       .ihl = 5,
		       .tot_len = htons(OCTETS),
		       .ttl = 64,
		       .protocol = IPPROTO_TCP,
		       .saddr = htonl(src),
		       .daddr = htonl(dst)},
		.tcp = {.source = htons(sport),
			.dest = htons(dport),
			.doff = 5,
			.syn = syn,
			.ack = !syn},
	};
}

/* Never one of the conversations' addresses. */
static uint32_t random_address(void)
{
	return random32() | 0x40000000;
}

static void make_random(struct frame *frame, char kind)
{
	uint32_t client = kind == 's' ? 0xcb007107 : random_address(); /* 203.0.113.7 */
	uint32_t server = kind == 'd' ? 0xc0000205 : random_address(); /* 192.0.2.5 */
	uint16_t port = random32() | 1024, service = kind == 'd' ? 80 : 22;

	make(frame, client, port, server, kind == 'a' ? random32() | 1024 : service, true);
}

static void talk(struct frame *frame, unsigned int i, bool back)
{
	if (back)
		make(frame, 0x0a000002, 443, 0x0a000001, 2000 + i, false);
	else
		make(frame, 0x0a000001, 2000 + i, 0x0a000002, 443, false);
	talked[i][back]++;
}

/* All of them, whatever the kernel is short of now. */
static int send_all(int fd, unsigned int n)
{
	for (unsigned int sent = 0; sent < n;) {
		int r = sendmmsg(fd, &messages[sent], n - sent, 0);

		if (r < 0 && errno != ENOBUFS && errno != EAGAIN && errno != EINTR)
			return -errno;
		if (r > 0)
			sent += r;
	}
	return 0;
}

static int open_device(const char *name)
{
	struct sockaddr_ll address = {.sll_family = AF_PACKET, .sll_ifindex = if_nametoindex(name)};
	int fd = socket(AF_PACKET, SOCK_RAW, 0);

	if (fd < 0 || !address.sll_ifindex ||
	    bind(fd, (struct sockaddr *)&address, sizeof(address)) < 0)
		return -errno;
	return fd;
}

static void print_sent(uint64_t flooded, unsigned int n_talks, double seconds)
{
	printf("{\"flooded\":%llu,\"octets\":%zu,\"seconds\":%.3f,\"talks\":[",
	       (unsigned long long)flooded, OCTETS, seconds);
	for (unsigned int i = 0; i < n_talks; i++)
		printf("%s[%llu,%llu]", i ? "," : "", (unsigned long long)talked[i][0],
		       (unsigned long long)talked[i][1]);
	printf("]}\n");
}

/* The next CPU that is allowed, in turns. */
static int move(const cpu_set_t *allowed, unsigned int *cpu)
{
	cpu_set_t one;

	do
		*cpu = (*cpu + 1) % CPU_SETSIZE;
	while (!CPU_ISSET(*cpu, allowed));
	CPU_ZERO(&one);
	CPU_SET(*cpu, &one);
	return sched_setaffinity(0, sizeof(one), &one) < 0 ? -errno : 0;
}

/* The conversations begin on every CPU: each has a table of its own, where they are new else. */
static int open_talks(int fd, unsigned int n_talks, bool once)
{
	cpu_set_t allowed, one;
	int r = 0;

	if (sched_getaffinity(0, sizeof(allowed), &allowed) < 0)
		return -errno;
	for (unsigned int cpu = 0; cpu < CPU_SETSIZE; cpu++) {
		if (!CPU_ISSET(cpu, &allowed))
			continue;
		CPU_ZERO(&one);
		CPU_SET(cpu, &one);
		if (sched_setaffinity(0, sizeof(one), &one) < 0)
			return -errno;
		for (unsigned int i = 0; i < 3 * n_talks && r == 0; i++) {
			talk(&frames[0], i % n_talks, i & 1);
			r = send_all(fd, 1);
		}
		if (once)
			break;
	}
	return sched_setaffinity(0, sizeof(allowed), &allowed) < 0 ? -errno : r;
}

static int run(int fd, uint64_t wanted, const char *kind, unsigned int n_talks, unsigned int moves)
{
	uint64_t flooded = 0, batch = 0, part = moves ? wanted / (moves + 1) + 1 : 0;
	struct timespec begin, end;
	unsigned int cpu = CPU_SETSIZE - 1, moved = 0;
	cpu_set_t allowed;
	int r;

	r = sched_getaffinity(0, sizeof(allowed), &allowed) < 0 ? -errno : 0;
	if (r == 0)
		r = open_talks(fd, n_talks, moves);
	if (r == 0 && moves)
		r = move(&allowed, &cpu);
	clock_gettime(CLOCK_MONOTONIC, &begin);
	for (; flooded < wanted && r == 0; batch++) {
		char now = strcmp(kind, "mix") ? 0 : "dsa"[batch / 100 % 3];
		unsigned int n = 0;

		if (moves && flooded / part > moved) {
			moved++;
			r = move(&allowed, &cpu);
			if (r < 0)
				break;
		}
		if (!now)
			now = !strcmp(kind, "syn") ? 'd' : !strcmp(kind, "scan") ? 's' : 'a';
		for (; n < BATCH - 1 && flooded < wanted; n++, flooded++)
			make_random(&frames[n], now);
		if (n_talks)
			talk(&frames[n++], batch % n_talks, batch / n_talks & 1);
		r = send_all(fd, n);
	}
	clock_gettime(CLOCK_MONOTONIC, &end);
	print_sent(flooded, n_talks,
		   end.tv_sec - begin.tv_sec + (end.tv_nsec - begin.tv_nsec) / 1e9);
	return r;
}

int main(int argc, char **argv)
{
	unsigned int n_talks = argc > 4 ? strtoul(argv[4], NULL, 10) : 0;
	unsigned int moves = argc > 5 ? strtoul(argv[5], NULL, 10) : 0;
	int fd, r;

	if (argc < 4 || n_talks > CONVERSATIONS_MAX) {
		fprintf(stderr,
			"usage: flood DEVICE PACKETS syn|scan|any|mix [CONVERSATIONS [MOVES]]\n");
		return 2;
	}
	for (unsigned int i = 0; i < BATCH; i++) {
		parts[i] = (struct iovec){.iov_base = &frames[i], .iov_len = sizeof(frames[i])};
		messages[i].msg_hdr = (struct msghdr){.msg_iov = &parts[i], .msg_iovlen = 1};
	}
	fd = open_device(argv[1]);
	r = fd < 0 ? fd : run(fd, strtoull(argv[2], NULL, 10), argv[3], n_talks, moves);
	if (r < 0)
		fprintf(stderr, "flood: %s\n", strerror(-r));
	return r < 0;
}
