/* SPDX-License-Identifier: Apache-2.0 */
/* Readable lines for people: a flow a line, columns aligned as far as they go. */
#include <arpa/inet.h>
#include <inttypes.h>
#include <netinet/in.h>
#include <stdio.h>
#include <string.h>
#include <time.h>

#include "base/macro.h"
#include "daemon/sink-lines.h"

#define ENDPOINT_SIZE (INET6_ADDRSTRLEN + 14)
#define HEADER_EVERY  40

static const struct {
	uint8_t number;
	const char *name;
} protocols[] = {
	{IPPROTO_ICMP, "icmp"}, {IPPROTO_TCP, "tcp"},	{IPPROTO_UDP, "udp"},
	{IPPROTO_DCCP, "dccp"}, {IPPROTO_IPV6, "6in4"}, {IPPROTO_GRE, "gre"},
	{IPPROTO_ESP, "esp"},	{IPPROTO_AH, "ah"},	{IPPROTO_ICMPV6, "icmp6"},
	{IPPROTO_SCTP, "sctp"}, {IPPROTO_PIM, "pim"},	{IPPROTO_UDPLITE, "udplite"},
	{IPPROTO_IPIP, "ipip"}, {89, "ospf"},		{112, "vrrp"},
	{IPPROTO_IGMP, "igmp"},
};

static void protocol_name(const struct fm_record *record, char ret[8])
{
	for (size_t i = 0; i < FM_ARRAY_SIZE(protocols); i++)
		if (protocols[i].number == record->protocol) {
			snprintf(ret, 8, "%s", protocols[i].name);
			return;
		}
	snprintf(ret, 8, "%u", record->protocol);
}

static bool is_ip6(const struct fm_record *record)
{
	return FM_F_IP6 & (1u << record->family);
}

/* A prefix has its length behind it; for some there is a number instead. */
static void endpoint(const struct fm_record *record, bool source, char ret[ENDPOINT_SIZE])
{
	unsigned int length = is_ip6(record) ? (source ? record->src_prefix6 : record->dst_prefix6)
					     : (source ? record->src_prefix4 : record->dst_prefix4);
	unsigned int port = source ? record->src_port : record->dst_port;
	uint32_t number = source ? record->src_as : record->dst_as;
	char address[INET6_ADDRSTRLEN + 4];

	if (number) {
		snprintf(ret, ENDPOINT_SIZE, "AS%" PRIu32, number);
		return;
	}
	if (is_ip6(record))
		inet_ntop(AF_INET6, source ? record->src_ip6 : record->dst_ip6, address,
			  sizeof(address));
	else
		inet_ntop(AF_INET, source ? record->src_ip4 : record->dst_ip4, address,
			  sizeof(address));
	if (length != (is_ip6(record) ? 128 : 32))
		snprintf(address + strlen(address), 5, "/%u", length);
	if (!port)
		snprintf(ret, ENDPOINT_SIZE, "%s", address);
	else if (is_ip6(record))
		snprintf(ret, ENDPOINT_SIZE, "[%s]:%u", address, port);
	else
		snprintf(ret, ENDPOINT_SIZE, "%s:%u", address, port);
}

/* Flags in the order of tcpdump and ss: the letters that are set. */
static void flags_text(uint8_t flags, char ret[9])
{
	static const char letters[] = "FSRPAUEC";
	size_t n = 0;

	for (unsigned int i = 0; i < 8; i++)
		if (flags & (1u << i))
			ret[n++] = letters[i];
	if (!n)
		ret[n++] = '-';
	ret[n] = '\0';
}

struct name_query {
	uint32_t ifindex;
	char *ret;
	size_t size;
};

static void match_name(const struct fm_interface_name *name, void *argument)
{
	struct name_query *query = argument;

	if (name->ifindex == query->ifindex)
		snprintf(query->ret, query->size, "%s", name->name);
}

static void interface_text(const struct fm_sink_env *env, uint32_t ifindex, char *ret, size_t size)
{
	struct name_query query = {ifindex, ret, size};

	if (!ifindex) {
		snprintf(ret, size, "host");
		return;
	}
	snprintf(ret, size, "%" PRIu32, ifindex);
	env->for_each_interface(env->userdata, match_name, &query);
}

/* A count; a dash for what was not measured. */
static void count_text(const struct fm_record *record, uint32_t value, char ret[12])
{
	if (!(FM_F_TCP & (1u << record->family)) || value == FM_ABSENT)
		snprintf(ret, 12, "-");
	else
		snprintf(ret, 12, "%" PRIu32, value);
}

/* Milliseconds. */
static void time_text(const struct fm_record *record, uint32_t us, char ret[12])
{
	if (!(FM_F_MEASURED & (1u << record->family)) || us == FM_ABSENT)
		snprintf(ret, 12, "-");
	else
		snprintf(ret, 12, "%.3f", us / 1e3);
}

static const char *const reasons[] = {"-", "idle", "active", "end", "stop", "full"};

static void text_line(const struct fm_sink_env *env, const struct fm_session_options *fields,
		      const struct fm_record *record, struct fm_buf *ret)
{
	char source[ENDPOINT_SIZE], destination[ENDPOINT_SIZE], protocol[8], flags[9];
	char in[24], out[24], clock[16], rtt[12], again[12];
	time_t second = (time_t)(record->start_ns / FM_NS_PER_S);
	struct tm tm;

	localtime_r(&second, &tm);
	strftime(clock, sizeof(clock), "%H:%M:%S", &tm);
	protocol_name(record, protocol);
	endpoint(record, true, source);
	endpoint(record, false, destination);
	flags_text(record->tcp_flags, flags);
	time_text(record, record->rtt_mean, rtt);
	count_text(record, record->retransmitted_packets, again);
	interface_text(env, record->ingress_if, in, sizeof(in));
	interface_text(env, record->egress_if, out, sizeof(out));
	if (record->family == FM_FAMILY_ICMP4 || record->family == FM_FAMILY_ICMP6) {
		unsigned int type_code = record->icmp4 | record->icmp6;

		snprintf(flags, sizeof(flags), "%u/%u", type_code >> 8, type_code & 0xff);
	}
	fm_buf_printf(ret, "%s.%03u %9.3f %-7s %-22s %-22s %9" PRIu64 " %12" PRIu64, clock,
		      (unsigned int)(record->start_ns / FM_NS_PER_MS % 1000),
		      (double)(record->end_ns - record->start_ns) / 1e9, protocol, source,
		      destination, record->packets, record->octets);
	if (record->biflow)
		fm_buf_printf(ret, " %9" PRIu64 " %12" PRIu64, record->rev_packets,
			      record->rev_octets);
	fm_buf_printf(ret, " %-8s %8s %6s %s>%s %s", flags, rtt, again, in, out,
		      reasons[record->end_reason % 6]);
	if (record->selector)
		fm_buf_printf(ret, " 1/%" PRIu32, record->sampling_interval);
	fm_buf_printf(ret, "\n");
}

static const char *text_path(const struct fm_config *config)
{
	return config->text_file;
}

static const struct fm_sink_lines_kind text_kind = {
	.ops = &fm_sink_text,
	.path = text_path,
	.line = text_line,
	.header =
		"start          duration proto   source                 destination              packets       octets flags      rtt/ms  again in>out end",
	.header_lines = HEADER_EVERY,
};

static int text_open(struct fm_sink **ret, const struct fm_sink_env *env, size_t index)
{
	return fm_sink_lines_open(ret, env, &text_kind);
}

const struct fm_sink_ops fm_sink_text = {
	.kind = "text",
	.open = text_open,
	FM_SINK_LINES_OPS,
};
