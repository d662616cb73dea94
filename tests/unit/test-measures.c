/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Flow records of conversations that were measured or came in tunnels: which family they are, whose
 * figures go into which record, and what is absent.
 */
#include <arpa/inet.h>
#include <netinet/in.h>
#include <string.h>

#include "base/macro.h"
#include "daemon/export.h"
#include "test.h"

#define A 0 /* endpoint 0 */
#define B 1

static const struct fm_timebase timebase = {.tick_ns = 4 * FM_NS_PER_MS};

/* Two packets each way, A's first. */
static struct fm_conversation conversation_of(uint8_t protocol, uint8_t family)
{
	struct fm_conversation result = {
		.key = {.protocol = protocol, .family = family, .port = {htons(1000), htons(80)}},
		.seen = {true, true},
	};

	for (unsigned int d = 0; d < 2; d++) {
		result.key.addr[d][15] = (uint8_t)(1 + d);
		result.half[d].packets = 100 + d;
		result.half[d].octets = 10000;
		result.half[d].first_ns = 1000 + d;
		result.half[d].tcp_flags = d == A ? 0x02 : 0x12;
	}
	return result;
}

/* A opened it; figures of A are small numbers, those of B have a thousand more. */
static struct fm_conversation measured(void)
{
	struct fm_conversation result = conversation_of(IPPROTO_TCP, 4);

	result.measured = true;
	for (unsigned int d = 0; d < 2; d++) {
		uint32_t more = d == A ? 0 : 1000;

		result.tcp[d] = (struct fm_tcp_half){
			.rtt_sum_us = 3 * (200 + more),
			.app_sum_us = 2 * (700 + more),
			.rtt_samples = 3,
			.rtt_low = ~(100 + more),
			.rtt_max_us = 300 + more,
			.handshake_us = 5000 + more,
			.srtt_us = 210 + more,
			.app_samples = 2,
			.app_max_us = 900 + more,
			.jitter_16ths = 16 * (11 + more) + 8,
			.gap_ticks = 12 + more,
			.retransmitted_packets = 13 + more,
			.retransmitted_octets = 14 + more,
			.fast_packets = 15 + more,
			.timeout_packets = 16 + more,
			.out_of_order = 17 + more,
			.duplicates = 18 + more,
			.dup_acks = 19 + more,
			.ect = 20 + more,
			.ce = 21 + more,
			.ece = 22 + more,
			.cwr = 23 + more,
			.window_low = ~(24 + more),
			.window_max = 25 + more,
			.window_last = ~(26 + more),
			.zero_windows = (uint16_t)(27 + more),
			.window_fulls = (uint16_t)(28 + more),
			.syn_again = (uint16_t)(29 + more),
			.refused = (uint16_t)(30 + more),
			.mss = (uint16_t)(1460 + more),
			.scale = (uint8_t)(8 + d),
			.options = (uint8_t)(0x03 + d),
			.ecn = (uint8_t)(0x05 + d),
			.notes = FM_TCP_NOTE_MEASURED |
				 (d == A ? FM_TCP_NOTE_SYN : FM_TCP_NOTE_SYN_ACK),
		};
	}
	return result;
}

static size_t export(const struct fm_conversation *conversation, bool biflow,
		     struct fm_record ret[2])
{
	const struct fm_export exporter = {.timebase = &timebase, .biflow = biflow};

	memset(ret, 0xaa, 2 * sizeof(*ret));
	return fm_export_records(&exporter, conversation, FM_END_REASON_IDLE, ret);
}

static void test_families(void)
{
	struct fm_conversation c = conversation_of(IPPROTO_TCP, 4);
	struct fm_record records[2];

	export(&c, false, records);
	FM_TEST(records[0].family == FM_FAMILY_IP4 && records[0].biflow_direction == 0,
		"TCP that is not measured is IPv4");
	c.measured = true;
	export(&c, false, records);
	FM_TEST(records[0].family == FM_FAMILY_IP4, "nor is what found no cell");
	c.tcp[B].notes = FM_TCP_NOTE_MEASURED;
	export(&c, false, records);
	FM_TEST(records[0].family == FM_FAMILY_TCP4 && records[1].family == FM_FAMILY_TCP4,
		"one measured half makes both TCP");
	c.key.family = 6;
	export(&c, false, records);
	FM_TEST(records[0].family == FM_FAMILY_TCP6, "over IPv6");
	c.key.protocol = IPPROTO_UDP;
	export(&c, false, records);
	FM_TEST(records[0].family == FM_FAMILY_IP6, "UDP is not TCP");
	c.tcp[A].notes = FM_TCP_NOTE_QUIC;
	export(&c, false, records);
	FM_TEST(records[0].family == FM_FAMILY_QUIC6, "QUIC");
	c.key.family = 4;
	export(&c, true, records);
	FM_TEST(records[0].family == FM_FAMILY_QUIC4, "over IPv4");
	c.key.protocol = IPPROTO_ICMP;
	export(&c, true, records);
	FM_TEST(records[0].family == FM_FAMILY_ICMP4, "ICMP is ICMP");
}

static bool same(const char *name, uint64_t seen, uint64_t expected)
{
	if (seen != expected)
		FM_TEST_NOTE("%s is %llu, not %llu", name, (unsigned long long)seen,
			     (unsigned long long)expected);
	return seen == expected;
}

#define SAME(record, member, value) same(#member, (record)->member, value)

/* own and peer: what was added to the figures of the sides. */
static bool figures_right(const struct fm_record *r, uint32_t own, uint32_t peer)
{
	unsigned int d = own ? B : A;

	return SAME(r, syn_retransmissions, 29 + own) & SAME(r, rtt_min, 100 + peer) &
	       SAME(r, rtt_max, 300 + peer) & SAME(r, rtt_mean, 200 + peer) &
	       SAME(r, rtt_samples, 3) & SAME(r, rtt_smoothed, 210 + own) &
	       SAME(r, retransmitted_packets, 13 + own) & SAME(r, retransmitted_octets, 14 + own) &
	       SAME(r, fast_retransmissions, 15 + own) &
	       SAME(r, timeout_retransmissions, 16 + own) & SAME(r, retransmission_source, 1) &
	       SAME(r, out_of_order, 17 + own) & SAME(r, duplicates, 18 + own) &
	       SAME(r, duplicate_acks, 19 + own) & SAME(r, ecn_capable, 20 + own) &
	       SAME(r, ecn_congested, 21 + own) & SAME(r, ecn_echoes, 22 + own) &
	       SAME(r, window_reduced, 23 + own) & SAME(r, window_min, 24 + own) &
	       SAME(r, window_max, 25 + own) & SAME(r, window_last, 26 + own) &
	       SAME(r, zero_windows, 27 + own) & SAME(r, window_fulls, 28 + own) &
	       SAME(r, mss, 1460 + own) & SAME(r, window_scale, 7 + d) &
	       SAME(r, tcp_options, 3 + d) & SAME(r, accurate_ecn, 5 + d) &
	       SAME(r, jitter, 12 + own) & SAME(r, idle_gap, 4 * (12 + own)) &
	       SAME(r, application_mean, 700 + own) & SAME(r, application_max, 900 + own) &
	       SAME(r, application_samples, 2);
}

static bool handshake_right(const struct fm_record *r)
{
	return SAME(r, handshake_time, 11000) & SAME(r, server_network_time, 6000) &
	       SAME(r, client_network_time, 5000) & SAME(r, refused_connections, 1060) &
	       SAME(r, measurement, 0);
}

static void test_sides(void)
{
	struct fm_conversation c = measured();
	struct fm_record records[2];
	size_t n = export(&c, false, records);

	FM_TEST(n == 2 && records[0].src_port == 1000, "two records, the client's first");
	FM_TEST(figures_right(&records[0], 0, 1000), "the client's figures; round trips end at B");
	FM_TEST(figures_right(&records[1], 1000, 0), "the server's figures; round trips end at A");
	FM_TEST(handshake_right(&records[0]) & handshake_right(&records[1]),
		"the handshake is the same in both");
	FM_TEST(records[0].biflow_direction == 1 && records[1].biflow_direction == 2,
		"who began is told in both");
	c.tcp[A].notes |= FM_TCP_NOTE_SOCKET | FM_TCP_NOTE_MISSED;
	c.tcp[B].notes |= FM_TCP_NOTE_MIDSTREAM;
	export(&c, false, records);
	FM_TEST(records[0].retransmission_source == 2 && records[1].retransmission_source == 1,
		"what knows the kinds of retransmissions");
	FM_TEST(records[0].measurement == 3 && records[1].measurement == 3,
		"what was missed concerns both");
}

static void test_reverse(void)
{
	struct fm_conversation c = measured();
	struct fm_record records[2], other[2];
	bool all = true;

	FM_TEST(export(&c, true, records) == 1 && figures_right(&records[0], 0, 1000) &&
			handshake_right(&records[0]),
		"biflow: the source's figures");
	export(&c, false, other);
#define BOTH(name) all = SAME(&records[0], rev_##name, other[1].name) && all;
	BOTH(syn_retransmissions)
	BOTH(rtt_min)
	BOTH(rtt_max)
	BOTH(rtt_mean)
	BOTH(rtt_samples)
	BOTH(rtt_smoothed)
	BOTH(retransmitted_packets)
	BOTH(retransmitted_octets)
	BOTH(fast_retransmissions)
	BOTH(timeout_retransmissions)
	BOTH(retransmission_source)
	BOTH(out_of_order)
	BOTH(duplicates)
	BOTH(duplicate_acks)
	BOTH(zero_windows)
	BOTH(window_fulls)
	BOTH(window_min)
	BOTH(window_max)
	BOTH(window_last)
	BOTH(mss)
	BOTH(window_scale)
	BOTH(tcp_options)
	BOTH(ecn_capable)
	BOTH(ecn_congested)
	BOTH(ecn_echoes)
	BOTH(window_reduced)
	BOTH(accurate_ecn)
	BOTH(jitter)
	BOTH(idle_gap)
	BOTH(application_mean)
	BOTH(application_max)
	BOTH(application_samples)
#undef BOTH
	FM_TEST(all, "biflow: the other side's figures as its reverse");
}

static void test_initiator(void)
{
	static const struct {
		uint8_t notes[2];
		uint8_t uniflow, biflow; /* direction as A, seen first, tells */
		const char *name;
	} cases[] = {
		{{FM_TCP_NOTE_SYN, FM_TCP_NOTE_SYN_ACK}, 1, 1, "A, by its SYN"},
		{{FM_TCP_NOTE_SYN_ACK, FM_TCP_NOTE_SYN}, 2, 2, "B, though seen later"},
		{{FM_TCP_NOTE_SYN, FM_TCP_NOTE_SYN}, 1, 1, "both: who was seen first"},
		{{0, FM_TCP_NOTE_SYN_ACK}, 1, 1, "A, whose SYN was answered"},
		{{FM_TCP_NOTE_SYN_ACK, 0}, 2, 2, "B, whose SYN was answered"},
		{{0, 0}, 0, 1, "not known: in biflows who was seen first"},
	};

	for (size_t i = 0; i < FM_ARRAY_SIZE(cases); i++) {
		struct fm_conversation c = measured();
		struct fm_record uniflow[2], biflow[2];

		for (unsigned int d = 0; d < 2; d++)
			c.tcp[d].notes = cases[i].notes[d] | FM_TCP_NOTE_MEASURED;
		export(&c, false, uniflow);
		export(&c, true, biflow);
		FM_TEST(SAME(&uniflow[0], biflow_direction, cases[i].uniflow) &
				SAME(&biflow[0], biflow_direction, cases[i].biflow) &
				((uniflow[0].handshake_time == FM_ABSENT) ==
				 (cases[i].uniflow == 0)),
			"initiator: %s", cases[i].name);
	}
}

/* Whether of the rows that may be absent all are but those. */
static bool all_absent(const struct fm_record *record, const char *const *but, size_t n_but)
{
	const struct fm_shape shape = fm_record_shape(record);
	bool result = true;

/* Of other kinds nothing is absent. */
#define PRESENT_U(value)     -1
#define PRESENT_MSEC(value)  -1
#define PRESENT_NTP(value)   -1
#define PRESENT_IP4(value)   -1
#define PRESENT_IP6(value)   -1
#define PRESENT_LABEL(value) -1
#define PRESENT_APP(value)   -1
#define PRESENT_OPT(value)   ((value) == FM_ABSENT ? 0 : 1)
#define FM_FIELD(name, type, dim, kind, ie_name, pen, ie, v9, wire, families, profile, unit,       \
		 semantics, help)                                                                  \
	if (PRESENT_##kind(record->name) >= 0 && ((profile)&FM_P_FULL) &&                          \
	    fm_shape_has(&shape, families)) {                                                      \
		bool expected = false;                                                             \
		for (size_t i = 0; i < n_but; i++)                                                 \
			expected = expected || !strcmp(but[i], ie_name);                           \
		result = same(ie_name, PRESENT_##kind(record->name), expected) && result;          \
	}
#include "ipfix/fields.def"
#undef FM_FIELD
	return result;
}

static void test_absent(void)
{
	static const char *const counts[] = {"tcpSynRetransmissions",
					     "tcpRefusedConnections",
					     "tcpRetransmittedPackets",
					     "tcpRetransmittedOctets",
					     "tcpFastRetransmissions",
					     "tcpTimeoutRetransmissions",
					     "tcpOutOfOrderPackets",
					     "duplicatePackets",
					     "tcpDuplicateAcks",
					     "tcpZeroWindows",
					     "tcpOptions",
					     "ecnCapablePackets",
					     "ecnCongestedPackets",
					     "tcpEcnEchoPackets",
					     "tcpWindowReducedPackets",
					     "tcpAccurateEcn",
					     "longestIdleGap"};
	struct fm_conversation c = conversation_of(IPPROTO_TCP, 4);
	struct fm_record records[2];

	c.measured = true;
	c.tcp[A].notes = FM_TCP_NOTE_MEASURED;
	export(&c, false, records);
	FM_TEST(all_absent(&records[0], counts, FM_ARRAY_SIZE(counts)),
		"nothing happened: counts are 0, times and sizes absent");
	FM_TEST(all_absent(&records[1], (const char *const[]){"tcpRefusedConnections"}, 1),
		"a side without a cell: its counts are absent as well");
	c = measured();
	c.tcp[B].window_low = 0;
	c.tcp[B].rtt_samples = 0;
	c.tcp[A].scale = 1;
	c.tcp[A].app_samples = 0;
	export(&c, false, records);
	FM_TEST(SAME(&records[0], window_fulls, FM_ABSENT) & SAME(&records[0], window_min, 24) &
			SAME(&records[1], window_min, FM_ABSENT) &
			SAME(&records[1], window_fulls, 1028),
		"a window whose scale is not known is never full");
	FM_TEST(SAME(&records[0], rtt_mean, FM_ABSENT) & SAME(&records[0], rtt_samples, 0) &
			SAME(&records[0], rtt_min, 1100),
		"no round trip since the last record: the shortest stays");
	FM_TEST(SAME(&records[0], application_mean, FM_ABSENT) &
			SAME(&records[0], application_samples, FM_ABSENT) &
			SAME(&records[0], application_max, 900),
		"no answer since the last record: the longest stays");
	FM_TEST(SAME(&records[0], window_scale, 0), "a scale of 0 is one");
}

static void test_quic(void)
{
	struct fm_conversation c = conversation_of(IPPROTO_UDP, 4);
	struct fm_record records[2];

	c.measured = true;
	for (unsigned int d = 0; d < 2; d++)
		c.tcp[d] = (struct fm_tcp_half){
			.rtt_sum_us = 25000 + d,
			.rtt_samples = 25 + d,
			.rtt_low = ~900U,
			.rtt_max_us = 1100,
			.quic_version = d == A ? 1 : 0,
			.options = d == A ? FM_QUIC_DESTINATION : 0,
			.notes = FM_TCP_NOTE_MEASURED | FM_TCP_NOTE_QUIC |
				 (d == B ? FM_TCP_NOTE_QUIC_SOURCE : 0),
		};
	export(&c, false, records);
	FM_TEST(SAME(&records[0], rtt_mean, 1000) & SAME(&records[0], rtt_min, 900) &
			SAME(&records[0], rtt_max, 1100) & SAME(&records[0], rtt_samples, 25),
		"quic: round trips of its own spin bit, 25 in 100 packets");
	FM_TEST(SAME(&records[1], rtt_mean, FM_ABSENT) & SAME(&records[1], rtt_min, FM_ABSENT) &
			SAME(&records[1], rtt_max, FM_ABSENT) &
			SAME(&records[1], rtt_samples, FM_ABSENT),
		"quic: 26 in 101 packets are noise");
	FM_TEST(SAME(&records[0], quic_version, 1) & SAME(&records[0], quic_flags, 6) &
			SAME(&records[1], quic_version, FM_ABSENT) &
			SAME(&records[1], quic_flags, 1),
		"quic: version and flags are each side's");
}

static void test_ntop(void)
{
	struct fm_conversation c = measured();
	struct fm_record records[2];
	const struct fm_record *r = &records[0];

	export(&c, true, records);
	FM_TEST(SAME(r, nt_client_flags, 0x02) & SAME(r, nt_server_flags, 0x12) &
			SAME(r, nt_retransmitted_in, 13) & SAME(r, nt_retransmitted_out, 1013) &
			SAME(r, nt_retransmitted_octets_in, 14) &
			SAME(r, nt_retransmitted_octets_out, 1014) &
			SAME(r, nt_out_of_order_in, 17) & SAME(r, nt_out_of_order_out, 1017) &
			SAME(r, nt_window_min_in, 24) & SAME(r, nt_window_min_out, 1024) &
			SAME(r, nt_window_max_in, 25) & SAME(r, nt_window_max_out, 1025) &
			SAME(r, nt_mss_in, 1460) & SAME(r, nt_mss_out, 2460) &
			SAME(r, nt_scale_in, 7) & SAME(r, nt_scale_out, 8),
		"ntop: in is the source, out the destination");
	FM_TEST(SAME(r, nt_client_latency, 3) & SAME(r, nt_server_latency, 3) &
			SAME(r, nt_application_latency, 2),
		"ntop: halves of 5000 and 6000 us and a mean of 1700 us in ms");
	export(&c, false, records);
	FM_TEST(SAME(&records[1], nt_client_flags, 0x02) & SAME(&records[1], nt_mss_in, 2460) &
			SAME(&records[1], nt_application_latency, 2),
		"ntop: the client is the client in the server's record too");
	c.tcp[A].notes &= ~FM_TCP_NOTE_SYN & 0xff;
	c.tcp[B].notes &= ~FM_TCP_NOTE_SYN_ACK & 0xff;
	c.tcp[A].mss = c.tcp[A].scale = 0;
	c.tcp[A].window_low = 0;
	export(&c, false, records);
	FM_TEST(SAME(r, nt_client_latency, 0) & SAME(r, nt_server_latency, 0) &
			SAME(r, nt_mss_in, 0) & SAME(r, nt_scale_in, 0) &
			SAME(r, nt_window_min_in, FM_ABSENT),
		"ntop: 0 where it has no other word");
}

static void test_tunnels(void)
{
	struct fm_conversation c = conversation_of(IPPROTO_UDP, 6);
	struct fm_record records[2];
	static const struct {
		uint8_t type, protocol, segment;
	} types[] = {{FM_TUNNEL_VXLAN, 17, 1}, {FM_TUNNEL_GENEVE, 17, 0},  {FM_TUNNEL_GRE, 47, 0},
		     {FM_TUNNEL_NVGRE, 47, 2}, {FM_TUNNEL_IPIP, 4, 0},	   {FM_TUNNEL_IP6IP, 41, 0},
		     {FM_TUNNEL_GTPU, 17, 0},  {FM_TUNNEL_MPLS_UDP, 17, 0}};

	c.half[A].mpls = 1 << 20 | 5;
	for (size_t i = 0; i < FM_ARRAY_SIZE(types); i++) {
		uint64_t segment = (uint64_t)types[i].segment << 56 | (types[i].segment ? 77 : 0);

		c.tunnel = (struct fm_tunnel){
			.type = types[i].type, .family = 4, .id = {77, FM_TUNNEL_NO_ID}};
		c.tunnel.addr[A][12] = 10;
		c.tunnel.addr[B][12] = 20;
		export(&c, false, records);
		FM_TEST(SAME(&records[0], encapsulation, FM_ENCAPSULATION_TUNNEL4) &
				SAME(&records[0], tunnel_type, types[i].type) &
				SAME(&records[0], tunnel_id, 77) &
				SAME(&records[1], tunnel_id, FM_ABSENT) &
				SAME(&records[0], layer2_segment, segment) &
				SAME(&records[1], layer2_segment, 0) &
				SAME(&records[0], nt_outer_protocol, types[i].protocol) &
				SAME(&records[0], nt_upstream_tunnel, 77) &
				SAME(&records[0], nt_downstream_tunnel, 0) &
				SAME(&records[1], nt_downstream_tunnel, 77),
			"tunnel type %u", types[i].type);
	}
	FM_TEST(records[0].outer_src_ip4[0] == 10 && records[0].outer_dst_ip4[0] == 20 &&
			records[1].outer_src_ip4[0] == 20 && records[1].nt_outer_src_ip4[0] == 20 &&
			records[1].nt_outer_dst_ip4[0] == 10,
		"outer addresses of who sent the packets");
	c.tunnel.family = 6;
	export(&c, true, records);
	FM_TEST(records[0].encapsulation == FM_ENCAPSULATION_TUNNEL6 &&
			records[0].outer_src_ip6[12] == 10 && records[0].outer_dst_ip6[12] == 20 &&
			records[0].nt_outer_dst_ip6[12] == 20 && records[0].tunnel_id == 77 &&
			records[0].rev_tunnel_id == FM_ABSENT,
		"outer IPv6, and the reverse id");
}

static void test_labels(void)
{
	struct fm_conversation c = conversation_of(IPPROTO_UDP, 4);
	struct fm_record records[2];

	c.half[A].mpls = 1ULL << 20 | 0xabcde;
	export(&c, false, records);
	FM_TEST(SAME(&records[0], encapsulation, FM_ENCAPSULATION_MPLS) &
			SAME(&records[0], mpls_1, 0xabcde1) & SAME(&records[0], mpls_2, FM_ABSENT) &
			SAME(&records[0], mpls_3, FM_ABSENT) &
			SAME(&records[1], encapsulation, FM_ENCAPSULATION_NONE),
		"one label, one way");
	c.half[A].mpls = 1ULL << 40 | 0x00001ULL << 20;
	export(&c, false, records);
	FM_TEST(SAME(&records[0], mpls_1, 0x10) & SAME(&records[0], mpls_2, 1) &
			SAME(&records[0], mpls_3, FM_ABSENT),
		"two labels, the last is 0");
	c.half[A].mpls = 1ULL << 60 | 0x11111ULL << 40 | 0x22222ULL << 20 | 0x33333;
	export(&c, false, records);
	FM_TEST(SAME(&records[0], mpls_1, 0x111110) & SAME(&records[0], mpls_2, 0x222220) &
			SAME(&records[0], mpls_3, 0x333330),
		"three labels: there may be more below");
}

static void test_plain_fields(void)
{
	struct fm_conversation c = conversation_of(IPPROTO_UDP, 6);
	struct fm_record records[2];

	c.half[B].tos = 0xb9;
	c.half[B].flow_label = 0x12345;
	export(&c, false, records);
	FM_TEST(SAME(&records[1], dscp, 46) & SAME(&records[1], flow_label, 0x12345) &
			SAME(&records[0], flow_label, 0),
		"DSCP and flow label");
}

int main(void)
{
	test_families();
	test_sides();
	test_reverse();
	test_initiator();
	test_absent();
	test_quic();
	test_ntop();
	test_tunnels();
	test_labels();
	test_plain_fields();
	return fm_test_done();
}
