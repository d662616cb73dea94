/* SPDX-License-Identifier: Apache-2.0 */
/* See records.h. */
#include "records.h"

#include <arpa/inet.h>
#include <inttypes.h>
#include <netinet/in.h>
#include <string.h>

#include "base/macro.h"

/* splitmix64 */
static uint64_t records_random(uint64_t *state)
{
	uint64_t z = *state += 0x9e3779b97f4a7c15;

	z = (z ^ z >> 30) * 0xbf58476d1ce4e5b9;
	z = (z ^ z >> 27) * 0x94d049bb133111eb;
	return z ^ z >> 31;
}

/* Numbers of all sizes: as many small ones as large ones. */
static uint64_t records_counter(uint64_t *state, unsigned int bits)
{
	return records_random(state) >> (64 - 1 - records_random(state) % bits);
}

/* Any value that the member's place on the wire has room for, or none. */
static void records_figure(struct fm_record *record, const struct fm_field *field, uint64_t *state)
{
	uint8_t *member = (uint8_t *)record + field->offset;
	uint64_t value = records_random(state) >> (64 - 8 * FM_MIN(field->wire, 8));

	switch (field->kind) {
	case FM_KIND_OPT:
		value >>= value % 2 ? 0 : 4 * field->wire; /* small ones as well */
		if (value % 3 == 0 || value >> (8 * field->wire - 1))
			value = UINT64_MAX;
		break;
	case FM_KIND_LABEL:
		if (field->ie != 70 && value % 2)
			value = FM_ABSENT;
		break;
	case FM_KIND_IP6:
		memcpy(member, "\x20\x01\x0d\xb8", 4);
		member += 12;
		break;
	default:
		break;
	}
	memcpy(member, &value, FM_MIN(field->size, (uint8_t)(field->kind == FM_KIND_IP6 ? 4 : 8)));
}

/* What comes from beside the slots. */
static void records_figures(struct fm_record *record, uint64_t *state)
{
	const struct fm_shape shape = fm_record_shape(record);
	bool behind = false; /* rows from dscp on */

	for (size_t i = 0; i < fm_n_fields; i++) {
		behind |= fm_fields[i].ie == 195;
		if (behind && fm_shape_has(&shape, fm_fields[i].families) &&
		    !(fm_fields[i].pen == FM_PEN_OWN && fm_fields[i].ie < 10))
			records_figure(record, &fm_fields[i], state);
	}
	record->dscp = record->tos >> 2;
	record->flow_label &= 0xfffff;
	record->biflow_direction = records_random(state) % 3;
}

static void records_addresses(struct fm_record *record, uint64_t index, uint64_t *state)
{
	uint32_t number = htonl((uint32_t)index);

	if (FM_F_IP4 & (1U << record->family)) {
		memcpy(record->src_ip4, &number, 4);
		record->src_ip4[0] = 10;
		number = htonl((uint32_t)records_random(state));
		memcpy(record->dst_ip4, &number, 4);
		record->dst_ip4[0] = 172;
		return;
	}
	memcpy(record->src_ip6, "\x20\x01\x0d\xb8", 4);
	memcpy(record->src_ip6 + 12, &number, 4);
	memcpy(record->dst_ip6, "\x20\x01\x0d\xb8\xff", 5);
	number = htonl((uint32_t)records_random(state));
	memcpy(record->dst_ip6 + 12, &number, 4);
}

static void records_transport(struct fm_record *record, uint64_t *state)
{
	static const uint8_t protocols[] = {IPPROTO_TCP, IPPROTO_UDP, IPPROTO_TCP, IPPROTO_SCTP,
					    IPPROTO_GRE};
	uint64_t r = records_random(state);

	if (record->family == FM_FAMILY_ICMP4) {
		record->protocol = IPPROTO_ICMP;
		record->icmp4 = (uint16_t)r;
		return;
	}
	if (record->family == FM_FAMILY_ICMP6) {
		record->protocol = IPPROTO_ICMPV6;
		record->icmp6 = (uint16_t)r;
		return;
	}
	record->protocol = FM_F_TCP & (1U << record->family)	? IPPROTO_TCP
			   : FM_F_QUIC & (1U << record->family) ? IPPROTO_UDP
								: protocols[r % sizeof(protocols)];
	if (record->protocol == IPPROTO_GRE)
		return;
	record->src_port = (uint16_t)(r >> 16);
	record->dst_port = (uint16_t)(r >> 32);
	if (record->protocol == IPPROTO_TCP) {
		record->tcp_flags = (uint8_t)(r >> 48);
		record->rev_tcp_flags = (uint8_t)(r >> 56);
	}
}

static void records_measures(struct fm_record *record, uint64_t *state)
{
	uint64_t r = records_random(state), s = records_random(state);

	record->packets = records_counter(state, 40) + 1;
	record->octets = record->packets * 40 + records_counter(state, 48);
	record->tos = (uint8_t)r;
	record->direction = r >> 8 & 1;
	record->end_reason = (uint8_t)(1 + (r >> 9) % 5);
	record->min_ttl = (uint8_t)(r >> 16);
	record->max_ttl = (uint8_t)(r >> 24);
	record->fragment_flags = (uint8_t)(r >> 32 & 0x60);
	/* Often one that the sender names. */
	record->ingress_if = (uint32_t)(r >> 40 & (r >> 60 ? 0xffff : 3));
	record->egress_if = (uint32_t)s;
	record->min_length = (uint16_t)(s >> 16);
	record->max_length = (uint16_t)(s >> 32);
	record->vlan = (uint16_t)(s >> 48 & 0xfff);
	record->cvlan = (uint16_t)(s >> 52);
	if (!record->biflow)
		return;
	record->rev_packets = records_counter(state, 40);
	record->rev_octets = record->rev_packets * 40;
	record->nt_out_packets = record->rev_packets;
	record->nt_out_octets = record->rev_octets;
	record->rev_min_ttl = (uint8_t)s;
	record->rev_max_ttl = (uint8_t)(s >> 8);
}

void records_make(struct fm_record *ret, uint64_t seed, uint64_t index, bool biflow,
		  uint64_t now_ns)
{
	uint64_t state = seed ^ index * 0xd1342543de82ef95;
	uint64_t r = records_random(&state), length;

	memset(ret, 0, sizeof(*ret));
	/* As on a real network: most are not ICMP, nor in a tunnel. */
	ret->family = r % 20 < 8    ? FM_FAMILY_IP4
		      : r % 20 < 10 ? FM_FAMILY_IP6
		      : r % 20 < 16 ? (enum fm_family)(FM_FAMILY_TCP4 + r / 20 % 4)
		      : r % 20 < 18 ? FM_FAMILY_ICMP4
				    : FM_FAMILY_ICMP6;
	ret->encapsulation = r >> 32 & 3 ? FM_ENCAPSULATION_NONE : r >> 34 & 3;
	ret->biflow = biflow;
	records_addresses(ret, index, &state);
	records_transport(ret, &state);
	records_measures(ret, &state);
	records_figures(ret, &state);
	length = records_counter(&state, 36);
	ret->end_ns = now_ns - (records_random(&state) >> 34);
	ret->start_ns = ret->end_ns - length;
	ret->start_precise_ns = ret->start_ns;
	if (!biflow)
		ret->rev_tcp_flags = 0;
}

void records_sample(struct fm_record *record, uint64_t index)
{
	if (index % 2)
		return;
	record->selector = 1 + index / 2 % RECORDS_SAMPLERS;
	record->sampling_interval = 1;
	record->selector_algorithm = FM_SELECTOR_COUNT;
}

void records_print(FILE *file, const struct fm_record *record, const struct fm_layout *layout)
{
	char text[INET6_ADDRSTRLEN];

	for (unsigned int i = 0; i < layout->n; i++) {
		const struct fm_field *field = &layout->fields[i];
		const void *member = (const char *)record + field->offset;
		uint64_t value = 0;

		fprintf(file, "%s\"%s\":", i ? "," : "{", field->ie_name);
		if (field->kind == FM_KIND_IP4 || field->kind == FM_KIND_IP6) {
			fprintf(file, "\"%s\"",
				inet_ntop(field->kind == FM_KIND_IP4 ? AF_INET : AF_INET6, member,
					  text, sizeof(text)));
			continue;
		}
		memcpy(&value, member, field->size);
		if ((field->kind == FM_KIND_OPT || field->kind == FM_KIND_LABEL) &&
		    value == UINT64_MAX >> (64 - 8 * field->size)) {
			fprintf(file, "null");
			continue;
		}
		if (field->kind == FM_KIND_APP) {
			fprintf(file, "\"%" PRIu64 ":%" PRIu64 "\"", value >> 24, value & 0xffffff);
			continue;
		}
		if (field->kind == FM_KIND_MSEC)
			value /= FM_NS_PER_MS;
		if (field->kind == FM_KIND_LABEL)
			value >>= 4;
		fprintf(file, "%" PRIu64, value);
	}
	fprintf(file, "}\n");
}
