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

static void records_addresses(struct fm_record *record, uint64_t index, uint64_t *state)
{
	uint32_t number = htonl((uint32_t)index);

	if (record->family == FM_FAMILY_IP4 || record->family == FM_FAMILY_ICMP4) {
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
	record->protocol = protocols[r % sizeof(protocols)];
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
	record->rev_min_ttl = (uint8_t)s;
	record->rev_max_ttl = (uint8_t)(s >> 8);
	record->biflow_direction = s >> 9 & 1;
}

void records_make(struct fm_record *ret, uint64_t seed, uint64_t index, bool biflow,
		  uint64_t now_ns)
{
	uint64_t state = seed ^ index * 0xd1342543de82ef95;
	uint64_t r = records_random(&state), length;

	memset(ret, 0, sizeof(*ret));
	/* As on a real network: most are not ICMP. */
	ret->family = r % 10 < 6   ? FM_FAMILY_IP4
		      : r % 10 < 8 ? FM_FAMILY_IP6
		      : r % 10 < 9 ? FM_FAMILY_ICMP4
				   : FM_FAMILY_ICMP6;
	ret->biflow = biflow;
	records_addresses(ret, index, &state);
	records_transport(ret, &state);
	records_measures(ret, &state);
	length = records_counter(&state, 36);
	ret->end_ns = now_ns - (records_random(&state) >> 34);
	ret->start_ns = ret->end_ns - length;
	ret->start_precise_ns = ret->start_ns;
	if (!biflow)
		ret->rev_tcp_flags = 0;
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
		if (field->kind == FM_KIND_MSEC)
			value /= FM_NS_PER_MS;
		fprintf(file, "%" PRIu64, value);
	}
	fprintf(file, "}\n");
}
