/* SPDX-License-Identifier: Apache-2.0 */
/* TCP, QUIC and tunnels in flow records: see measures.h. */
#include "daemon/measures.h"

#include <netinet/in.h>
#include <string.h>

#include "base/macro.h"

/* tcpMeasurement */
#define MEASUREMENT_MIDSTREAM 0x01
#define MEASUREMENT_MISSED    0x02

/* quicFlags */
#define QUIC_SOURCE	 0x01
#define QUIC_SPIN	 0x02
#define QUIC_DESTINATION 0x04

/* tcpRetransmissionSource */
#define SOURCE_PACKETS 1
#define SOURCE_SOCKET  2

/* A spin bit turns once a round trip: one that turns more often than every 4 packets is noise. */
#define SPIN_PACKETS 4

#define MPLS_LABEL_BITS 20
#define MPLS_LABELS	3
#define MPLS_BOTTOM	1

/* The rows that exist for both directions, as NAME and rev_NAME. */
/* clang-format off */
#define SIDE_ROWS(row) \
	row(syn_retransmissions) row(rtt_min) row(rtt_max) row(rtt_mean) row(rtt_samples) \
	row(rtt_smoothed) row(retransmitted_packets) row(retransmitted_octets) \
	row(fast_retransmissions) row(timeout_retransmissions) row(retransmission_source) \
	row(out_of_order) row(duplicates) row(duplicate_acks) row(zero_windows) \
	row(window_fulls) row(window_min) row(window_max) row(window_last) row(mss) \
	row(window_scale) row(tcp_options) row(ecn_capable) row(ecn_congested) row(ecn_echoes) \
	row(window_reduced) row(accurate_ecn) row(jitter) row(idle_gap) row(application_mean) \
	row(application_max) row(application_samples)
/* clang-format on */

/* One direction's; FM_ABSENT: not measured. */
struct side {
#define ROW(name) uint32_t name;
	SIDE_ROWS(ROW)
#undef ROW
};

static uint32_t or_absent(uint32_t value)
{
	return value ? value : FM_ABSENT;
}

static bool is_quic(const struct fm_conversation *conversation)
{
	return (conversation->tcp[0].notes | conversation->tcp[1].notes) & FM_TCP_NOTE_QUIC;
}

/*
 * The endpoint that opened the conversation, by SYN and SYN-ACK; first: the direction seen first,
 * which decides where both sent a SYN. -1: not known.
 */
static int find_initiator(const struct fm_conversation *conversation, unsigned int first)
{
	const struct fm_tcp_half *tcp = conversation->tcp;

	if (!conversation->measured)
		return -1;
	if (tcp[first].notes & FM_TCP_NOTE_SYN)
		return (int)first;
	if (tcp[!first].notes & FM_TCP_NOTE_SYN)
		return !first;
	/* An answer to a SYN that was not seen. */
	if ((tcp[0].notes ^ tcp[1].notes) & FM_TCP_NOTE_SYN_ACK)
		return tcp[0].notes & FM_TCP_NOTE_SYN_ACK ? 1 : 0;
	return -1;
}

/* TCP4 for IP4 and so on, where there are figures; else base. */
static enum fm_family family_of(const struct fm_conversation *conversation, enum fm_family base)
{
	uint8_t notes = conversation->tcp[0].notes | conversation->tcp[1].notes;

	if (!conversation->measured || !(base == FM_FAMILY_IP4 || base == FM_FAMILY_IP6))
		return base;
	if (notes & FM_TCP_NOTE_QUIC)
		return base == FM_FAMILY_IP4 ? FM_FAMILY_QUIC4 : FM_FAMILY_QUIC6;
	if (conversation->key.protocol == IPPROTO_TCP && (notes & FM_TCP_NOTE_MEASURED))
		return base == FM_FAMILY_IP4 ? FM_FAMILY_TCP4 : FM_FAMILY_TCP6;
	return base;
}

/* Round trips, of the half that ended them. */
static void set_round_trips(struct side *ret, const struct fm_tcp_half *half)
{
	if (!half->rtt_low)
		return;
	ret->rtt_min = ~half->rtt_low;
	ret->rtt_max = half->rtt_max_us;
	ret->rtt_samples = half->rtt_samples;
	if (half->rtt_samples)
		ret->rtt_mean = (uint32_t)(half->rtt_sum_us / half->rtt_samples);
}

static void set_losses(struct side *ret, const struct fm_tcp_half *own)
{
	ret->syn_retransmissions = own->syn_again;
	ret->retransmitted_packets = own->retransmitted_packets;
	ret->retransmitted_octets = own->retransmitted_octets;
	ret->fast_retransmissions = own->fast_packets;
	ret->timeout_retransmissions = own->timeout_packets;
	if (own->retransmitted_packets)
		ret->retransmission_source =
			own->notes & FM_TCP_NOTE_SOCKET ? SOURCE_SOCKET : SOURCE_PACKETS;
	ret->out_of_order = own->out_of_order;
	ret->duplicates = own->duplicates;
	ret->duplicate_acks = own->dup_acks;
}

static void set_windows(struct side *ret, const struct fm_tcp_half *own,
			const struct fm_tcp_half *peer)
{
	ret->zero_windows = own->zero_windows;
	if (peer->window_low)
		ret->window_fulls = own->window_fulls;
	if (own->window_low) {
		ret->window_min = ~own->window_low;
		ret->window_max = own->window_max;
		ret->window_last = ~own->window_last;
	}
	ret->mss = or_absent(own->mss);
	if (own->scale)
		ret->window_scale = own->scale - 1U;
	ret->tcp_options = own->options;
}

static void set_side(struct side *ret, const struct fm_conversation *conversation, unsigned int d,
		     const struct fm_timebase *timebase)
{
	const struct fm_tcp_half *own = &conversation->tcp[d], *peer = &conversation->tcp[!d];

	memset(ret, 0xff, sizeof(*ret));
	if (!is_quic(conversation))
		set_round_trips(ret, peer);
	else if ((uint64_t)own->rtt_samples * SPIN_PACKETS <= conversation->half[d].packets)
		set_round_trips(ret, own);
	if (!(own->notes & FM_TCP_NOTE_MEASURED))
		return;
	ret->rtt_smoothed = or_absent(own->srtt_us);
	set_losses(ret, own);
	set_windows(ret, own, peer);
	ret->ecn_capable = own->ect;
	ret->ecn_congested = own->ce;
	ret->ecn_echoes = own->ece;
	ret->window_reduced = own->cwr;
	ret->accurate_ecn = own->ecn;
	if (own->jitter_16ths)
		ret->jitter = (own->jitter_16ths + 8) / 16;
	ret->idle_gap = (uint32_t)(own->gap_ticks * timebase->tick_ns / FM_NS_PER_MS);
	ret->application_max = or_absent(own->app_max_us);
	if (own->app_samples) {
		ret->application_mean = (uint32_t)(own->app_sum_us / own->app_samples);
		ret->application_max = own->app_max_us;
		ret->application_samples = own->app_samples;
	}
}

static void give_side(struct fm_record *record, const struct side *side)
{
#define ROW(name) record->name = side->name;
	SIDE_ROWS(ROW)
#undef ROW
}

static void give_reverse(struct fm_record *record, const struct side *side)
{
#define ROW(name) record->rev_##name = side->name;
	SIDE_ROWS(ROW)
#undef ROW
}

/* What concerns both directions alike. */
static void set_handshake(struct fm_record *record, const struct fm_conversation *conversation,
			  int initiator)
{
	const struct fm_tcp_half *tcp = conversation->tcp;

	record->handshake_time = record->server_network_time = record->client_network_time =
		FM_ABSENT;
	record->refused_connections = (uint32_t)tcp[0].refused + tcp[1].refused;
	if (initiator < 0)
		return;
	record->server_network_time = or_absent(tcp[!initiator].handshake_us);
	record->client_network_time = or_absent(tcp[initiator].handshake_us);
	if (tcp[0].handshake_us && tcp[1].handshake_us)
		record->handshake_time = tcp[0].handshake_us + tcp[1].handshake_us;
}

/* Half of microseconds in whole milliseconds. */
static uint32_t half_ms(uint32_t us)
{
	return us == FM_ABSENT ? 0 : (uint32_t)(((uint64_t)us + 1000) / 2000);
}

/* 0 where ntop has no other word for what is not known. */
static uint32_t or_zero(uint32_t value)
{
	return value == FM_ABSENT ? 0 : value;
}

static void set_ntop(struct fm_record *record, const struct fm_conversation *conversation,
		     const struct side *sides, unsigned int d, unsigned int client)
{
	const struct side *in = &sides[d], *out = &sides[!d];
	uint32_t answer = sides[!client].application_mean;

	record->nt_client_flags = conversation->half[client].tcp_flags;
	record->nt_server_flags = conversation->half[!client].tcp_flags;
	record->nt_retransmitted_in = in->retransmitted_packets;
	record->nt_retransmitted_out = out->retransmitted_packets;
	record->nt_retransmitted_octets_in = in->retransmitted_octets;
	record->nt_retransmitted_octets_out = out->retransmitted_octets;
	record->nt_out_of_order_in = in->out_of_order;
	record->nt_out_of_order_out = out->out_of_order;
	record->nt_client_latency = half_ms(record->client_network_time);
	record->nt_server_latency = half_ms(record->server_network_time);
	if (answer != FM_ABSENT)
		record->nt_application_latency = (uint32_t)(((uint64_t)answer + 500) / 1000);
	record->nt_window_min_in = in->window_min;
	record->nt_window_min_out = out->window_min;
	record->nt_window_max_in = in->window_max;
	record->nt_window_max_out = out->window_max;
	record->nt_mss_in = (uint16_t)or_zero(in->mss);
	record->nt_mss_out = (uint16_t)or_zero(out->mss);
	record->nt_scale_in = (uint8_t)or_zero(in->window_scale);
	record->nt_scale_out = (uint8_t)or_zero(out->window_scale);
}

static void set_tcp(struct fm_record *record, const struct fm_conversation *conversation,
		    unsigned int d, unsigned int first, const struct fm_timebase *timebase)
{
	int initiator = find_initiator(conversation, first);
	unsigned int client = initiator < 0 ? first : (unsigned int)initiator;
	uint8_t notes = conversation->tcp[0].notes | conversation->tcp[1].notes;
	struct side sides[2];

	for (unsigned int i = 0; i < 2; i++)
		set_side(&sides[i], conversation, i, timebase);
	give_side(record, &sides[d]);
	give_reverse(record, &sides[!d]);
	record->measurement = (notes & FM_TCP_NOTE_MIDSTREAM ? MEASUREMENT_MIDSTREAM : 0) |
			      (notes & FM_TCP_NOTE_MISSED ? MEASUREMENT_MISSED : 0);
	if (notes & FM_TCP_NOTE_QUIC) {
		const struct fm_tcp_half *own = &conversation->tcp[d];

		record->quic_version = or_absent(own->quic_version);
		record->quic_flags = (own->notes & FM_TCP_NOTE_QUIC_SOURCE ? QUIC_SOURCE : 0) |
				     (sides[d].rtt_min != FM_ABSENT ? QUIC_SPIN : 0) |
				     (own->options & FM_QUIC_DESTINATION ? QUIC_DESTINATION : 0);
		return;
	}
	set_handshake(record, conversation, initiator);
	set_ntop(record, conversation, sides, d, client);
	if (initiator >= 0)
		record->biflow_direction = (unsigned int)initiator == d ? 1 : 2;
}

/* Protocol that the outer header of a tunnel carries. */
static uint8_t outer_protocol(uint8_t type)
{
	switch (type) {
	case FM_TUNNEL_GRE:
	case FM_TUNNEL_NVGRE:
		return IPPROTO_GRE;
	case FM_TUNNEL_IPIP:
		return IPPROTO_IPIP;
	case FM_TUNNEL_IP6IP:
		return IPPROTO_IPV6;
	default:
		return IPPROTO_UDP;
	}
}

static void set_outer_addresses(struct fm_record *record, const struct fm_tunnel *tunnel,
				unsigned int d)
{
	if (tunnel->family == 4) {
		memcpy(record->outer_src_ip4, tunnel->addr[d] + 12, 4);
		memcpy(record->outer_dst_ip4, tunnel->addr[!d] + 12, 4);
		memcpy(record->nt_outer_src_ip4, record->outer_src_ip4, 4);
		memcpy(record->nt_outer_dst_ip4, record->outer_dst_ip4, 4);
	} else {
		memcpy(record->outer_src_ip6, tunnel->addr[d], 16);
		memcpy(record->outer_dst_ip6, tunnel->addr[!d], 16);
		memcpy(record->nt_outer_src_ip6, record->outer_src_ip6, 16);
		memcpy(record->nt_outer_dst_ip6, record->outer_dst_ip6, 16);
	}
}

static void set_tunnel(struct fm_record *record, const struct fm_tunnel *tunnel, unsigned int d)
{
	record->encapsulation =
		tunnel->family == 4 ? FM_ENCAPSULATION_TUNNEL4 : FM_ENCAPSULATION_TUNNEL6;
	record->tunnel_type = tunnel->type;
	record->tunnel_id = tunnel->id[d];
	record->rev_tunnel_id = tunnel->id[!d];
	set_outer_addresses(record, tunnel, d);
	/* Types of IANA's registry: 1 VXLAN, 2 NVGRE. */
	if (tunnel->id[d] != FM_TUNNEL_NO_ID &&
	    (tunnel->type == FM_TUNNEL_VXLAN || tunnel->type == FM_TUNNEL_NVGRE))
		record->layer2_segment =
			(tunnel->type == FM_TUNNEL_VXLAN ? 1ULL : 2ULL) << 56 | tunnel->id[d];
	record->nt_upstream_tunnel = or_zero(tunnel->id[d]);
	record->nt_downstream_tunnel = or_zero(tunnel->id[!d]);
	record->nt_outer_protocol = outer_protocol(tunnel->type);
}

/* Sections of the label stack from the labels behind a 1 bit. */
static void set_mpls(struct fm_record *record, uint64_t labels)
{
	unsigned int n = (unsigned int)(63 - __builtin_clzll(labels)) / MPLS_LABEL_BITS;
	uint32_t sections[MPLS_LABELS] = {FM_ABSENT, FM_ABSENT, FM_ABSENT};

	for (unsigned int i = 0; i < n && i < MPLS_LABELS; i++) {
		uint32_t label = labels >> (n - 1 - i) * MPLS_LABEL_BITS & 0xfffff;

		/* Behind the last that there is room for may be more. */
		sections[i] = label << 4 | (i + 1 == n && n < MPLS_LABELS ? MPLS_BOTTOM : 0);
	}
	record->encapsulation = FM_ENCAPSULATION_MPLS;
	record->mpls_1 = sections[0];
	record->mpls_2 = sections[1];
	record->mpls_3 = sections[2];
}

void fm_measures_set(struct fm_record *record, const struct fm_conversation *conversation,
		     unsigned int d, unsigned int first, const struct fm_timebase *timebase)
{
	record->family = (uint8_t)family_of(conversation, record->family);
	if (FM_F_MEASURED & (1U << record->family))
		set_tcp(record, conversation, d, first, timebase);
	if (conversation->tunnel.type != FM_TUNNEL_NONE)
		set_tunnel(record, &conversation->tunnel, d);
	else if (conversation->half[d].mpls)
		set_mpls(record, conversation->half[d].mpls);
}
