/* SPDX-License-Identifier: Apache-2.0 */
/* Flow records from conversations: see export.h. */
#include "daemon/export.h"

#include <arpa/inet.h>
#include <netinet/in.h>
#include <string.h>

#include "base/clock.h"
#include "base/macro.h"
#include "daemon/measures.h"
#include "daemon/sampler.h"

/* Records a conversation can make. */
#define RECORDS_MAX 2

bool fm_export_room(struct fm_export *exporter)
{
	if (exporter->routes.decides)
		fm_routes_update(&exporter->routes, fm_clock_monotonic_ns());
	return fm_routes_room(&exporter->routes, RECORDS_MAX);
}

static bool is_icmp(const struct fm_key *key)
{
	/* Of many types. */
	if (FM_KEY_AGGREGATE_OF(key) || (FM_KEY_COARSE_OF(key) & FM_COARSE_PORTS))
		return false;
	return key->protocol == (FM_KEY_FAMILY_OF(key) == 4 ? IPPROTO_ICMP : IPPROTO_ICMPV6);
}

/* What stands for an address in a coarse key; returns the length of the prefix. */
static uint8_t take_side(struct fm_key *key, unsigned int side, uint32_t *ret_number)
{
	unsigned int coarse = FM_KEY_COARSE_OF(key), family = FM_KEY_FAMILY_OF(key), length;

	length = coarse & FM_COARSE_PORTS     ? ntohs(key->port[side])
		 : coarse & FM_COARSE_LENGTHS ? key->addr[side][FM_LENGTH_AT(family)]
		 : family == 4		      ? 32
					      : 128;
	if (coarse & FM_COARSE_LENGTHS)
		key->addr[side][FM_LENGTH_AT(family)] = 0;
	if (!(coarse & FM_COARSE_PORTS))
		return (uint8_t)length;
	key->port[side] = 0;
	if (length != FM_SIDE_NUMBER)
		return (uint8_t)length;
	memcpy(ret_number, key->addr[side] + 12, sizeof(*ret_number));
	*ret_number = ntohl(*ret_number);
	memset(key->addr[side] + 12, 0, 4);
	return 0;
}

/* Addresses and ports, seen from the endpoint that sends. */
static void set_key(struct fm_record *record, const struct fm_key *key, unsigned int sender)
{
	unsigned int receiver = !sender;
	uint8_t from = FM_KEY_FAMILY_OF(key) == 4 ? 32 : 128, to = from;
	struct fm_key taken;
	uint16_t type_code;

	if (FM_KEY_COARSE_OF(key)) {
		taken = *key;
		from = take_side(&taken, sender, &record->src_as);
		to = take_side(&taken, receiver, &record->dst_as);
		key = &taken;
	}

	record->protocol = key->protocol;
	record->aggregation = FM_KEY_AGGREGATE_OF(key);
	if (FM_KEY_FAMILY_OF(key) == 4) {
		memcpy(record->src_ip4, key->addr[sender] + 12, sizeof(record->src_ip4));
		memcpy(record->dst_ip4, key->addr[receiver] + 12, sizeof(record->dst_ip4));
		record->src_prefix4 = from;
		record->dst_prefix4 = to;
		record->family = is_icmp(key) ? FM_FAMILY_ICMP4 : FM_FAMILY_IP4;
	} else {
		memcpy(record->src_ip6, key->addr[sender], sizeof(record->src_ip6));
		memcpy(record->dst_ip6, key->addr[receiver], sizeof(record->dst_ip6));
		record->src_prefix6 = from;
		record->dst_prefix6 = to;
		record->family = is_icmp(key) ? FM_FAMILY_ICMP6 : FM_FAMILY_IP6;
	}
	if (!is_icmp(key)) {
		record->src_port = ntohs(key->port[sender]);
		record->dst_port = ntohs(key->port[receiver]);
		return;
	}
	type_code = ntohs(key->port[sender]);
	if (FM_KEY_FAMILY_OF(key) == 4)
		record->icmp4 = type_code;
	else
		record->icmp6 = type_code;
}

/*
 * When the record's packets passed: from the flow's first packet, or from the last export on, since
 * all that is new came after it. A single packet's time is the precise one.
 */
static void set_time(const struct fm_export *exporter, struct fm_record *record,
		     const struct fm_conversation *conversation, unsigned int d)
{
	const struct fm_half *half = &conversation->half[d];
	const struct fm_timebase *base = exporter->timebase;
	uint64_t start = fm_timebase_of_monotonic(base, half->first_ns);
	uint64_t end = fm_timebase_of_tick(base, half->last_tick);

	if (conversation->exported[d]) {
		start = FM_MAX(start, fm_timebase_of_tick(base, conversation->mark_tick));
		end = FM_MAX(end, start);
	} else if (half->packets == 1 || end < start) {
		end = start;
	}
	record->start_ns = start;
	record->start_precise_ns = start;
	record->end_ns = end;
}

static void set_half(struct fm_record *record, const struct fm_half *half)
{
	record->packets = half->packets;
	record->octets = half->octets;
	record->ingress_if = half->ingress_if;
	record->egress_if = half->egress_if;
	record->tcp_flags = half->tcp_flags;
	record->tos = half->tos;
	record->dscp = half->tos >> 2;
	record->flow_label = half->flow_label;
	record->direction = half->hook;
	record->min_ttl = half->min_ttl;
	record->max_ttl = half->max_ttl;
	record->fragment_flags = half->fragment_flags;
	record->min_length = half->min_length;
	record->max_length = half->max_length;
	record->vlan = half->vlan;
	record->cvlan = half->cvlan;
}

/* Without the number of a sampler, or where it is not known: all was counted. */
static void set_sampler(const struct fm_export *exporter, struct fm_record *record,
			const struct fm_key *key)
{
	unsigned int number = key->tunnel_type >> FM_KEY_SAMPLER_SHIFT;

	if (number && fm_sampler_of(exporter->samplers, number, &record->sampling_interval,
				    &record->selector_algorithm))
		record->selector = number;
}

static void set_record(const struct fm_export *exporter, struct fm_record *record,
		       const struct fm_conversation *conversation, unsigned int d,
		       unsigned int first, enum fm_end_reason reason)
{
	memset(record, 0, sizeof(*record));
	record->biflow = exporter->biflow;
	/* Initiator, RFC 5103 6.3: the side that was seen first, unless there is a SYN. */
	record->biflow_direction = exporter->biflow;
	set_key(record, &conversation->key, d);
	set_sampler(exporter, record, &conversation->key);
	set_half(record, &conversation->half[d]);
	set_time(exporter, record, conversation, d);
	record->end_reason = reason;
	fm_measures_set(record, conversation, d, first, exporter->timebase);
	fm_naming_set(exporter->naming, record);
}

static void set_reverse(const struct fm_export *exporter, struct fm_record *record,
			const struct fm_conversation *conversation, unsigned int d)
{
	const struct fm_half *half = &conversation->half[d];
	struct fm_record reverse = {};

	if (!half->packets && !half->octets)
		return;
	set_time(exporter, &reverse, conversation, d);
	if (!record->packets || reverse.start_ns < record->start_ns) {
		record->start_ns = reverse.start_ns;
		record->start_precise_ns = reverse.start_ns;
	}
	if (!record->packets || reverse.end_ns > record->end_ns)
		record->end_ns = reverse.end_ns;
	record->rev_packets = half->packets;
	record->rev_octets = half->octets;
	record->nt_out_packets = half->packets;
	record->nt_out_octets = half->octets;
	record->rev_tcp_flags = half->tcp_flags;
	record->rev_min_ttl = half->min_ttl;
	record->rev_max_ttl = half->max_ttl;
}

size_t fm_export_records(const struct fm_export *exporter,
			 const struct fm_conversation *conversation, enum fm_end_reason reason,
			 struct fm_record ret[2])
{
	const struct fm_half *half = conversation->half;
	unsigned int first = !conversation->seen[0];
	size_t n = 0;

	if (conversation->seen[0] && conversation->seen[1])
		first = half[1].first_ns < half[0].first_ns;
	if (exporter->biflow) {
		set_record(exporter, &ret[0], conversation, first, first, reason);
		if (conversation->seen[!first])
			set_reverse(exporter, &ret[0], conversation, !first);
		return 1;
	}
	for (unsigned int i = 0; i < 2; i++) {
		unsigned int d = i ? !first : first;

		if (half[d].packets || half[d].octets)
			set_record(exporter, &ret[n++], conversation, d, first, reason);
	}
	return n;
}

void fm_export_conversation(struct fm_export *exporter, const struct fm_conversation *conversation,
			    enum fm_end_reason reason)
{
	struct fm_record records[RECORDS_MAX];
	size_t n;

	if (FM_KEY_AGGREGATE_OF(&conversation->key))
		reason = FM_END_REASON_RESOURCES;
	n = fm_export_records(exporter, conversation, reason, records);
	for (size_t i = 0; i < n; i++) {
		exporter->records++;
		exporter->reasons[reason]++;
		exporter->packets += records[i].packets + records[i].rev_packets;
		exporter->octets += records[i].octets + records[i].rev_octets;
	}
	fm_routes_give(&exporter->routes, &conversation->key, records, n);
}

void fm_export_prepare(struct fm_export *exporter, uint64_t serial)
{
	for (size_t i = 0; i < exporter->n_sinks; i++)
		if (exporter->sinks[i]->ops->prepare)
			exporter->sinks[i]->ops->prepare(exporter->sinks[i], serial);
}

void fm_export_flush(struct fm_export *exporter)
{
	for (size_t i = 0; i < exporter->n_sinks; i++)
		exporter->sinks[i]->ops->flush(exporter->sinks[i]);
}
