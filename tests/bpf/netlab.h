/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A network namespace of the test's own, frames to send in it and programs that count them.
 * Included by tests that attach programs to devices, once each; needs root.
 */
#ifndef FM_NETLAB_H
#define FM_NETLAB_H

#include <bpf/bpf.h>
#include <bpf/libbpf.h>
#include <errno.h>
#include <linux/bpf.h>
#include <linux/if_ether.h>
#include <linux/if_packet.h>
#include <net/if.h>
#include <netinet/in.h>
#include <sched.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#define NETLAB_OK   0  /* TC_ACT_OK: accept, nobody after me */
#define NETLAB_NEXT -1 /* TC_ACT_UNSPEC */
#define NETLAB_SHOT 2  /* TC_ACT_SHOT */

__attribute__((format(printf, 1, 2))) static inline int netlab_run(const char *format, ...)
{
	char command[512];
	va_list args;

	va_start(args, format);
	vsnprintf(command, sizeof(command), format, args);
	va_end(args);
	return system(command);
}

/* Lines that a command prints. */
__attribute__((format(printf, 1, 2))) static inline int netlab_lines(const char *format, ...)
{
	char command[512], line[512];
	va_list args;
	int lines = 0;
	FILE *pipe;

	va_start(args, format);
	vsnprintf(command, sizeof(command), format, args);
	va_end(args);
	pipe = popen(command, "re");
	if (!pipe)
		return -errno;
	while (fgets(line, sizeof(line), pipe))
		lines++;
	return pclose(pipe) < 0 ? -errno : lines;
}

/* A new namespace in which no device speaks by itself. 0 or -errno. */
static inline int netlab_enter(void)
{
	if (unshare(CLONE_NEWNET) < 0)
		return -errno;
	netlab_run("test ! -e /proc/sys/net/ipv6 || "
		   "echo 1 > /proc/sys/net/ipv6/conf/default/disable_ipv6");
	return 0;
}

static inline int netlab_map(void)
{
	return bpf_map_create(BPF_MAP_TYPE_ARRAY, "fm_test", sizeof(uint32_t), sizeof(uint64_t), 1,
			      NULL);
}

/* What the programs with this map have counted. */
static inline uint64_t netlab_count(int map)
{
	uint64_t count = 0;
	uint32_t zero = 0;

	bpf_map_lookup_elem(map, &zero, &count);
	return count;
}

/* A program that counts in the map and answers with the verdict. Descriptor or -errno. */
static inline int netlab_program(int map, int verdict)
{
	const struct bpf_insn code[] = {
		{.code = BPF_ST | BPF_MEM | BPF_W, .dst_reg = BPF_REG_10, .off = -4},
		{.code = BPF_ALU64 | BPF_MOV | BPF_X, .dst_reg = BPF_REG_2, .src_reg = BPF_REG_10},
		{.code = BPF_ALU64 | BPF_ADD | BPF_K, .dst_reg = BPF_REG_2, .imm = -4},
		{.code = BPF_LD | BPF_DW | BPF_IMM,
		 .dst_reg = BPF_REG_1,
		 .src_reg = BPF_PSEUDO_MAP_FD,
		 .imm = map},
		{},
		{.code = BPF_JMP | BPF_CALL, .imm = BPF_FUNC_map_lookup_elem},
		{.code = BPF_JMP | BPF_JEQ | BPF_K, .dst_reg = BPF_REG_0, .off = 2},
		{.code = BPF_ALU64 | BPF_MOV | BPF_K, .dst_reg = BPF_REG_1, .imm = 1},
		{.code = BPF_STX | BPF_ATOMIC | BPF_DW,
		 .dst_reg = BPF_REG_0,
		 .src_reg = BPF_REG_1,
		 .imm = BPF_ADD},
		{.code = BPF_ALU64 | BPF_MOV | BPF_K, .dst_reg = BPF_REG_0, .imm = verdict},
		{.code = BPF_JMP | BPF_EXIT},
	};

	return bpf_prog_load(BPF_PROG_TYPE_SCHED_CLS, "fm_test", "Dual BSD/GPL", code,
			     sizeof(code) / sizeof(code[0]), NULL);
}

/* Sends frames of a type that nothing answers, through the device's egress. How many, -errno. */
static inline int netlab_send(const char *device, int frames)
{
	unsigned char frame[64] = {0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 2, 0, 0, 0, 0, 1, 8, 0};
	struct sockaddr_ll to = {
		.sll_family = AF_PACKET,
		.sll_protocol = htons(ETH_P_IP),
		.sll_ifindex = (int)if_nametoindex(device),
		.sll_halen = ETH_ALEN,
	};
	int fd = socket(AF_PACKET, SOCK_RAW | SOCK_CLOEXEC, 0), sent = 0;

	if (fd < 0)
		return -errno;
	memset(to.sll_addr, 0xff, ETH_ALEN);
	while (sent < frames) {
		if (sendto(fd, frame, sizeof(frame), 0, (struct sockaddr *)&to, sizeof(to)) < 0) {
			if (errno == ENOBUFS || errno == EINTR)
				continue;
			sent = -errno;
			break;
		}
		sent++;
	}
	close(fd);
	return sent;
}

#endif
