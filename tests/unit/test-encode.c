/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Encoders: random records of all families through libfixbuf and through an encoder of our own must
 * give the same octets; NetFlow v9 must carry the same records; and one record by hand.
 */
#include <string.h>

#include "base/macro.h"
#include "oracle.h"
#include "test.h"

#define RECORDS 3000
#define NOW_NS	1700000000123456789ULL
#define BOOT_NS 1699990000777000000ULL

static const struct fm_session_options base_options = {
	.profile = FM_P_STANDARD,
	.domain = 77,
	.enterprise_number = 32473,
	.message_size = 1400,
	.boot_ns = BOOT_NS,
};

/* A session's whole life; the clock goes on by 10 ms a record. */
static int play(struct fm_session *session, bool biflow, uint64_t seed)
{
	const struct fm_exporter_stats exporter = {.observed_flows = UINT64_MAX,
						   .start_ns = BOOT_NS};
	const struct fm_sink_stats sink = {.message_octets = 1};
	const struct fm_audit_record audit = {
		.ifindex = 3, .direction = 1, .frames = 7, .interface_frames = UINT64_MAX};
	const struct fm_cause_record cause = {.packets = 5, .cause = "not_ip", .class = "IGNORED"};
	uint64_t state = seed, now = NOW_NS;
	int r = fm_session_begin(session, now);

	r = r ?: fm_session_interface(session, 3, "eth0", NULL, now);
	r = r ?: fm_session_interface(session, 4, "a-name", "and a description that is long", now);
	for (unsigned int i = 0; i < RECORDS && !r; i++, now += 10 * FM_NS_PER_MS) {
		struct fm_record record;

		random_record(&record, &state, biflow);
		r = fm_session_record(session, &record, now);
		if (i % 1000 == 999)
			r = r ?: fm_session_statistics(session, &exporter, &sink, now);
		if (i % 1000 == 777) {
			r = r ?: fm_session_audit(session, &audit, now);
			r = r ?: fm_session_cause(session, &cause, now);
		}
		if (i % 1000 == 500)
			r = r ?: fm_session_flush(session, now);
		if (i % 1000 == 600)
			r = r ?: fm_session_templates(session, now);
		if (i == 2000)
			r = r ?: fm_session_restart(session) ?: fm_session_templates(session, now);
	}
	return r ?: fm_session_flush(session, now);
}

static bool same(const struct keeper *a, const struct keeper *b)
{
	if (a->n != b->n) {
		FM_TEST_NOTE("%zu messages, %zu expected", a->n, b->n);
		return false;
	}
	for (size_t i = 0; i < a->n; i++) {
		const struct kept *x = &a->kept[i], *y = &b->kept[i];
		size_t at = 0;

		if (x->size != y->size)
			FM_TEST_NOTE("message %zu: %zu octets, %zu expected", i, x->size, y->size);
		while (at < FM_MIN(x->size, y->size) && x->message[at] == y->message[at])
			at++;
		if (at < x->size || x->size != y->size) {
			FM_TEST_NOTE("message %zu (set %u) differs at octet %zu", i,
				     get_u16(y->message + 16), at);
			return false;
		}
		if (x->info.records != y->info.records || x->info.packets != y->info.packets ||
		    x->info.octets != y->info.octets || x->info.sequenced != y->info.sequenced ||
		    x->info.domain != y->info.domain || x->info.is_template != y->info.is_template)
			return false;
	}
	return true;
}

static void test_oracle(const struct fm_session_options *options)
{
	_fm_cleanup_(fm_session_freep) struct fm_session *real = NULL, *expected = NULL;
	struct keeper kept = {}, kept_expected = {};
	int r;

	r = fm_session_new(&real, options, keep, &kept);
	r = r
		    ?: fm_session_new_encoder(&expected, options, &fm_encoder_oracle, keep,
					      &kept_expected);
	r = r ?: play(real, options->biflow, options->message_size);
	r = r ?: play(expected, options->biflow, options->message_size);
	FM_TEST(r == 0 && kept.n > 20 && same(&kept, &kept_expected),
		"same octets as RFC 7011 read anew: profile %u%s, biflow %d, %zu octets a message",
		options->profile,
		fm_field_list_changes(&options->fields, options->profile) ? " and a list" : "",
		options->biflow, options->message_size);
	keeper_done(&kept);
	keeper_done(&kept_expected);
}

/* Adds and leaves out some fields. */
static void random_fields(struct fm_field_list *ret, uint64_t seed)
{
	for (size_t i = 0; i < fm_n_fields; i++) {
		char word[80];

		seed = seed * 6364136223846793005 + 1442695040888963407;
		snprintf(word, sizeof(word), "%c%s", seed >> 40 & 1 ? '+' : '-',
			 fm_fields[i].ie_name);
		if (seed >> 50 & 3 && (seed >> 40 & 1 ? fm_fields[i].wire < 4 : 1))
			fm_field_list_add(ret, word, strlen(word));
	}
}

/* A negative control: the comparison sees one bit. */
static void test_comparison(void)
{
	uint8_t octets[24] = {};
	struct kept a = {.message = octets, .size = 24};
	uint8_t changed[24] = {[23] = 1};
	struct kept b = {.message = changed, .size = 24};
	const struct keeper x = {.kept = &a, .n = 1}, y = {.kept = &b, .n = 1};

	FM_TEST(same(&x, &x), "comparison: equal");
	printf("# the next line tells of a difference: it must\n");
	FM_TEST(!same(&x, &y), "comparison: one bit");
}

/* A record whose every octet on the wire was worked out by hand. */
static const struct fm_record golden = {
	.rev_octets = 0x1122334455,
	.rev_packets = 0x66,
	.nt_out_octets = 0x1122334455,
	.nt_out_packets = 0x66,
	.start_ns = 1700000000123456789ULL,
	.end_ns = 1700000001999999999ULL,
	.octets = 0x0102030405060708,
	.packets = 9,
	.src_ip4 = {192, 0, 2, 1},
	.dst_ip4 = {198, 51, 100, 2},
	.src_port = 0x1234,
	.dst_port = 53,
	.ingress_if = 2,
	.egress_if = 0x01000003,
	.protocol = 17,
	.tcp_flags = 0x1b,
	.tos = 0xb8,
	.dscp = 0x2e,
	.application = 3 << 24 | 53,
	.ingress_vrf = 10,
	.egress_vrf = 0x0100000b,
	.direction = 1,
	.biflow_direction = 1,
	.end_reason = 2,
	.min_ttl = 63,
	.max_ttl = 64,
	.fragment_flags = 0x40,
	.min_length = 60,
	.max_length = 1500,
	.vlan = 100,
	.cvlan = 200,
	.start_precise_ns = 1700000000500000000ULL,
	.aggregation = 3,
	.rev_tcp_flags = 0x12,
	.rev_min_ttl = 1,
	.rev_max_ttl = 2,
	.family = FM_FAMILY_IP4,
	.biflow = 1,
};

/* 1700000000123 = 0x18bcfe5687b, 1700000001999 = 0x18bcfe56fcf */
#define GOLDEN_REVERSE                                                                             \
	"\0\0\0\x11\x22\x33\x44\x55"                                                               \
	"\0\0\0\0\0\0\0\x66"
#define GOLDEN_TIMES                                                                               \
	"\0\0\x01\x8b\xcf\xe5\x68\x7b"                                                             \
	"\0\0\x01\x8b\xcf\xe5\x6f\xcf"
#define GOLDEN_COUNTS                                                                              \
	"\x01\x02\x03\x04\x05\x06\x07\x08"                                                         \
	"\0\0\0\0\0\0\0\x09"
#define GOLDEN_KEY                                                                                 \
	"\xc0\0\x02\x01"                                                                           \
	"\xc6\x33\x64\x02"                                                                         \
	"\x12\x34"                                                                                 \
	"\0\x35"                                                                                   \
	"\0\0\0\x02"                                                                               \
	"\x01\0\0\x03"                                                                             \
	"\x11"                                                                                     \
	"\x1b"                                                                                     \
	"\xb8"                                                                                     \
	"\x01"

/* Application and both VRFs. */
#define GOLDEN_NAMES                                                                               \
	"\x03\0\0\x35"                                                                             \
	"\0\0\0\x0a"                                                                               \
	"\x01\0\0\x0b"

static void test_golden(const struct fm_session_options *options, const struct fm_record *record,
			const void *wire, size_t size, size_t header, const char *name)
{
	_fm_cleanup_(fm_session_freep) struct fm_session *session = NULL;
	struct keeper kept = {};
	int r;

	r = fm_session_new(&session, options, keep, &kept);
	r = r ?: fm_session_record(session, record, NOW_NS);
	r = r ?: fm_session_flush(session, NOW_NS);
	if (FM_TEST(r == 0 && kept.n == 2 && kept.kept[0].info.is_template,
		    "%s: a template and a message", name)) {
		const uint8_t *data = kept.kept[1].message + header;

		if (!FM_TEST(kept.kept[1].size >= header + size && !memcmp(data, wire, size),
			     "%s: as worked out by hand", name))
			for (size_t i = 0; i < size; i++)
				if (data[i] != ((const uint8_t *)wire)[i])
					FM_TEST_NOTE("octet %zu: %02x", i, data[i]);
		FM_TEST(kept.kept[1].size - header - size < 4, "%s: nothing behind", name);
	}
	keeper_done(&kept);
}

static void test_by_hand(void)
{
	/* 1700000000 + 2208988800 = 0xe8fe6f80; half a second is 0x80000000 */
	static const char full[] = GOLDEN_REVERSE GOLDEN_TIMES GOLDEN_COUNTS GOLDEN_KEY
		"\x01"
		"\x02"
		"\x3f\x40"
		"\x40"
		"\0\x3c"
		"\x05\xdc"
		"\0\x64"
		"\0\xc8"
		"\xe8\xfe\x6f\x80\x80\0\0\0"
		"\x2e" GOLDEN_NAMES "\x12\x01\x02\x03";
	static const char v9[] =
		GOLDEN_REVERSE GOLDEN_TIMES GOLDEN_COUNTS GOLDEN_KEY "\x02"
								     "\x3f\x40"
								     "\0\x3c"
								     "\x05\xdc"
								     "\0\x64"
								     "\x2e" GOLDEN_NAMES;
	/* 123 ms and 1999 ms past 1700000000, which is 9999223 ms after boot */
	static const char uptime[] = GOLDEN_REVERSE "\0\x98\x93\xf2"
						    "\0\x98\x9b\x46" GOLDEN_COUNTS GOLDEN_KEY "\x02"
						    "\x3f\x40"
						    "\0\x3c"
						    "\x05\xdc"
						    "\0\x64"
						    "\x2e" GOLDEN_NAMES;
	struct fm_session_options options = base_options;

	options.biflow = true;
	options.profile = FM_P_FULL;
	test_golden(&options, &golden, full, sizeof(full) - 1, 20, "IPFIX, full");
	options.protocol = FM_SESSION_V9;
	test_golden(&options, &golden, v9, sizeof(v9) - 1, 24, "v9");
	options.v9_sysuptime = true;
	test_golden(&options, &golden, uptime, sizeof(uptime) - 1, 24, "v9 by sysUptime");
}

/* The v9 template of what is worked out by hand: type and length of each field (RFC 3954 5.2, 8).
 */
static void test_v9_template(void)
{
	static const struct {
		uint8_t type, octets;
	} fields[] = {
		{23, 8}, {24, 8},  {152, 8}, {153, 8}, {1, 8},	 {2, 8},  {8, 4},
		{12, 4}, {7, 2},   {11, 2},  {10, 4},  {14, 4},	 {4, 1},  {6, 1},
		{5, 1},	 {61, 1},  {136, 1}, {52, 1},  {53, 1},	 {25, 2}, {26, 2},
		{58, 2}, {195, 1}, {95, 4},  {234, 4}, {235, 4},
	};
	_fm_cleanup_(fm_session_freep) struct fm_session *session = NULL;
	struct fm_session_options options = base_options;
	struct keeper kept = {};
	unsigned int wrong = 0;
	int r;

	options.biflow = true;
	options.profile = FM_P_FULL;
	options.protocol = FM_SESSION_V9;
	r = fm_session_new(&session, &options, keep, &kept);
	r = r ?: fm_session_record(session, &golden, NOW_NS);
	r = r ?: fm_session_flush(session, NOW_NS);
	if (FM_TEST(r == 0 && kept.n == 2 && kept.kept[0].size == 28 + sizeof(fields) * 2,
		    "v9: a template of %zu fields", FM_ARRAY_SIZE(fields))) {
		const uint8_t *set = kept.kept[0].message + 20;

		wrong += set[1] != 0 || set[3] != 8 + sizeof(fields) * 2;
		wrong += set[7] != FM_ARRAY_SIZE(fields);
		for (size_t i = 0; i < FM_ARRAY_SIZE(fields); i++)
			wrong += set[8 + 4 * i] != 0 || set[9 + 4 * i] != fields[i].type ||
				 set[10 + 4 * i] != 0 || set[11 + 4 * i] != fields[i].octets;
		FM_TEST(wrong == 0, "v9: its template as worked out by hand");
		FM_TEST(kept.kept[1].size % 4 == 0 &&
				kept.kept[1].message[23] == kept.kept[1].size - 20,
			"v9: a set ends at a multiple of four octets");
	}
	keeper_done(&kept);
}

/* A measured conversation in a tunnel: the rows of TCP and of the tunnel, some of them absent. */
static void make_measured(struct fm_record *ret)
{
	static const uint8_t source[] = {10, 0, 0, 1}, destination[] = {10, 0, 0, 2};

	*ret = golden;
	ret->biflow = 0;
	ret->family = FM_FAMILY_TCP4;
	ret->encapsulation = FM_ENCAPSULATION_TUNNEL4;
	ret->biflow_direction = 2;
	ret->layer2_segment = 1ULL << 56 | 1234;
	ret->handshake_time = 10;
	ret->server_network_time = FM_ABSENT;
	ret->client_network_time = 12;
	ret->syn_retransmissions = 13;
	ret->refused_connections = 14;
	ret->rtt_min = FM_ABSENT;
	ret->rtt_max = 16;
	ret->rtt_mean = 17;
	ret->rtt_samples = 18;
	ret->rtt_smoothed = 19;
	ret->retransmitted_packets = 20;
	ret->retransmitted_octets = 21;
	ret->fast_retransmissions = 22;
	ret->timeout_retransmissions = 23;
	ret->retransmission_source = FM_ABSENT;
	ret->out_of_order = 25;
	ret->duplicates = 26;
	ret->duplicate_acks = 27;
	ret->zero_windows = 70000;
	ret->window_fulls = FM_ABSENT;
	ret->window_min = 0xfffffffe;
	ret->window_max = 31;
	ret->window_last = 32;
	ret->mss = 1460;
	ret->window_scale = 7;
	ret->tcp_options = 15;
	ret->ecn_capable = 36;
	ret->ecn_congested = 37;
	ret->ecn_echoes = 38;
	ret->window_reduced = 39;
	ret->accurate_ecn = 5;
	ret->jitter = 41;
	ret->idle_gap = 42;
	ret->application_mean = 43;
	ret->application_max = 44;
	ret->application_samples = FM_ABSENT;
	ret->measurement = 3;
	ret->tunnel_type = 1;
	ret->tunnel_id = 1234;
	ret->nt_client_flags = 2;
	ret->nt_server_flags = 0x12;
	ret->nt_retransmitted_in = 20;
	ret->nt_out_of_order_in = 25;
	ret->nt_client_latency = 3;
	ret->nt_application_latency = 5;
	ret->nt_retransmitted_octets_in = 21;
	ret->nt_window_min_in = 65535;
	ret->nt_window_max_in = FM_ABSENT;
	ret->nt_mss_in = 1460;
	ret->nt_scale_in = 7;
	ret->nt_upstream_tunnel = 1234;
	ret->nt_downstream_tunnel = 7;
	ret->nt_outer_protocol = 17;
	memcpy(ret->outer_src_ip4, source, 4);
	memcpy(ret->outer_dst_ip4, destination, 4);
	memcpy(ret->nt_outer_src_ip4, source, 4);
	memcpy(ret->nt_outer_dst_ip4, destination, 4);
}

static void test_measured(void)
{
	static const char wire[] = GOLDEN_TIMES GOLDEN_COUNTS GOLDEN_KEY
		"\x02\x02\x3f\x40\x40\0\x3c\x05\xdc\0\x64\0\xc8" /* biflowDirection to cvlan */
		"\xe8\xfe\x6f\x80\x80\0\0\0"
		"\x2e" GOLDEN_NAMES "\x01\0\0\0\0\0\x04\xd2" /* VXLAN 1234 */
		"\x03"					     /* flowAggregation */
		"\0\0\0\x0a\xff\xff\xff\xff\0\0\0\x0c"	     /* handshake, server absent, client */
		"\0\x0d\0\x0e"
		"\xff\xff\xff\xff\0\0\0\x10\0\0\0\x11\0\0\0\x12\0\0\0\x13" /* round trips */
		"\0\0\0\x14\0\0\0\x15\0\0\0\x16\0\0\0\x17\xff"
		"\0\0\0\x19\0\0\0\x1a\0\0\0\x1b"
		"\xff\xfe\xff\xff" /* more than there is room for, absent */
		"\xff\xff\xff\xfe\0\0\0\x1f\0\0\0\x20"
		"\x05\xb4\x07\x0f"
		"\0\0\0\x24\0\0\0\x25\0\0\0\x26\0\0\0\x27\x05"
		"\0\0\0\x29\0\0\0\x2a\0\0\0\x2b\0\0\0\x2c\xff\xff\xff\xff"
		"\x03"
		"\x01\0\0\x04\xd2\x0a\0\0\x01\x0a\0\0\x02"; /* tunnel */
	static const char ntop[] = GOLDEN_TIMES GOLDEN_COUNTS GOLDEN_KEY
		"\x02\x02\x3f\x40\x40\0\x3c\x05\xdc\0\x64\0\xc8"
		"\x2e"
		"\x01\0\0\0\0\0\x04\xd2"
		"\x02\x12"				 /* flags */
		"\0\0\0\x14\0\0\0\x19"			 /* again, out of order */
		"\0\0\0\x03\0\0\0\0\0\0\0\x05\0\0\0\x15" /* latencies; octets again */
		"\xff\xfe\xff\xff\x05\xb4\x07"
		"\0\0\x04\xd2\0\0\0\x07\x11\x0a\0\0\x01\x0a\0\0\x02";
	struct fm_session_options options = base_options;
	struct fm_record record;

	make_measured(&record);
	options.profile = FM_P_FULL;
	test_golden(&options, &record, wire, sizeof(wire) - 1, 20, "IPFIX, TCP in VXLAN");
	options.profile = FM_P_NTOP;
	test_golden(&options, &record, ntop, sizeof(ntop) - 1, 20, "IPFIX, the same for ntop");
}

/* ntop's biflows: OUT_BYTES and OUT_PKTS behind what all profiles have. */
static void test_ntop_biflow(void)
{
	static const char wire[] = GOLDEN_REVERSE GOLDEN_TIMES GOLDEN_COUNTS GOLDEN_KEY
		"\x01\x02\x3f\x40\x40\0\x3c\x05\xdc\0\x64\0\xc8" GOLDEN_REVERSE "\x2e";
	struct fm_session_options options = base_options;

	options.biflow = true;
	options.profile = FM_P_NTOP;
	test_golden(&options, &golden, wire, sizeof(wire) - 1, 20, "IPFIX, ntop's biflow");
}

/* A list of fields: what it adds and leaves out, in the order of the table. */
static void test_list(void)
{
	static const char wire[] =
		GOLDEN_TIMES GOLDEN_COUNTS "\xc0\0\x02\x01"
					   "\xc6\x33\x64\x02"
					   "\x12\x34"
					   "\0\x35"
					   "\0\0\0\x02"
					   "\x01\0\0\x03"
					   "\x11"
					   "\xb8\x01\x02"		    /* no flags */
					   "\x40\0\x3c\x05\xdc\0\x64\0\xc8" /* TTL: the largest */
					   "\x2e\x03";
	struct fm_session_options options = base_options;
	struct fm_record record = golden;

	record.biflow = 0;
	fm_field_list_add(&options.fields, "+flowmondFlowAggregation", 24);
	fm_field_list_add(&options.fields, "-tcpControlBits", 15);
	fm_field_list_add(&options.fields, "-minimumTTL", 11);
	fm_field_list_add(&options.fields, "-fragmentFlags", 14);
	fm_field_list_add(&options.fields, "+rttMean", 8);
	fm_field_list_add(&options.fields, "+ipDiffServCodePoint", 20);
	test_golden(&options, &record, wire, sizeof(wire) - 1, 20, "IPFIX, a list of fields");
}

/* Sections of a label stack: 3 octets, 0 where there is none. */
static void test_labels(void)
{
	static const char wire[] =
		GOLDEN_TIMES GOLDEN_COUNTS GOLDEN_KEY "\x02\x3f\x40\x40\0\x3c\x05\xdc\0\x64\0\xc8"
						      "\x12\x34\x50\xab\xcd\xe1\0\0\0";
	struct fm_session_options options = base_options;
	struct fm_record record = golden;

	record.biflow = 0;
	record.encapsulation = FM_ENCAPSULATION_MPLS;
	record.mpls_1 = 0x123450;
	record.mpls_2 = 0xabcde1;
	record.mpls_3 = FM_ABSENT;
	test_golden(&options, &record, wire, sizeof(wire) - 1, 20, "IPFIX, two labels");
}

int main(void)
{
	static const size_t sizes[] = {512, 1400, 8192, 65535};

	test_comparison();
	test_by_hand();
	test_v9_template();
	test_measured();
	test_labels();
	test_ntop_biflow();
	test_list();
	for (unsigned int i = 0; i < FM_ARRAY_SIZE(sizes); i++) {
		for (unsigned int k = 0; 1U << k / 2 <= FM_P_ALL; k++) {
			struct fm_session_options options = base_options;

			options.message_size = sizes[i];
			options.profile = 1U << k / 2;
			options.biflow = k & 1;
			test_oracle(&options);
			random_fields(&options.fields, i * 6 + k);
			test_oracle(&options);
		}
	}
	return fm_test_done();
}
