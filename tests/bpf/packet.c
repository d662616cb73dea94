/* SPDX-License-Identifier: Apache-2.0 */
/* Packets built octet by octet: see packet.h. */
#include "packet.h"

#include <string.h>

void packet_put16(struct packet *p, size_t at, uint16_t value)
{
	p->data[at] = value >> 8;
	p->data[at + 1] = value;
}

void packet_put32(struct packet *p, size_t at, uint32_t value)
{
	packet_put16(p, at, value >> 16);
	packet_put16(p, at + 2, value);
}

uint8_t *packet_append(struct packet *p, size_t length)
{
	uint8_t *at = p->data + p->length;

	memset(at, 0, length);
	p->length += length;
	return at;
}

void packet_octets(struct packet *p, const void *octets, size_t length)
{
	memcpy(packet_append(p, length), octets, length);
}

static void packet_fixup(struct packet *p, size_t field, size_t from)
{
	p->fixup[p->n_fixups].field = field;
	p->fixup[p->n_fixups++].from = from;
}

/* Sets the EtherType that announces the next header; remembers the outermost layer 3. */
static void packet_type(struct packet *p, uint16_t type)
{
	if (p->type_at)
		packet_put16(p, p->type_at, type);
	p->type_at = 0;
	if (!p->l3)
		p->l3 = p->length;
}

void packet_new(struct packet *p)
{
	memset(p, 0, offsetof(struct packet, data));
}

void packet_eth(struct packet *p)
{
	static const uint8_t addresses[12] = {2, 0, 0, 0, 0, 1, 2, 0, 0, 0, 0, 2};

	if (p->type_at)
		packet_put16(p, p->type_at, 0x6558);
	packet_octets(p, addresses, sizeof(addresses));
	p->type_at = p->length;
	packet_append(p, 2);
}

void packet_vlan(struct packet *p, uint16_t tpid, uint16_t tci)
{
	packet_put16(p, p->type_at, tpid);
	packet_append(p, 4);
	packet_put16(p, p->length - 4, tci);
	p->type_at = p->length - 2;
}

void packet_mpls(struct packet *p, uint32_t label, bool bottom)
{
	uint8_t *at;

	if (p->type_at)
		packet_put16(p, p->type_at, 0x8847);
	p->type_at = 0;
	at = packet_append(p, 4);
	at[0] = label >> 12;
	at[1] = label >> 4;
	at[2] = label << 4 | bottom;
	at[3] = 64;
}

void packet_pppoe(struct packet *p, uint16_t session, int version)
{
	size_t at = p->length;
	uint8_t *header = packet_append(p, 8);

	packet_put16(p, p->type_at, 0x8864);
	p->type_at = 0;
	header[0] = 0x11;
	packet_put16(p, at + 2, session);
	packet_put16(p, at + 6, version == 4 ? 0x0021 : 0x0057);
	packet_fixup(p, at + 4, at + 6);
}

void packet_vxlan(struct packet *p, uint32_t vni)
{
	size_t at = p->length;

	packet_append(p, 8);
	p->data[at] = 0x08;
	packet_put32(p, at + 4, vni << 8);
}

void packet_geneve(struct packet *p, uint32_t vni, uint8_t options)
{
	size_t at = p->length;

	packet_append(p, 8 + options);
	p->data[at] = options / 4;
	p->type_at = at + 2;
	packet_put32(p, at + 4, vni << 8);
	if (options) /* one option, of the rest */
		p->data[at + 11] = options / 4 - 1;
}

void packet_gre(struct packet *p, uint8_t flags, uint32_t key)
{
	size_t at = p->length;

	packet_append(p, 4);
	p->data[at] = flags;
	p->type_at = at + 2;
	if (flags & 0x80)
		packet_append(p, 4);
	if (flags & 0x20) {
		packet_append(p, 4);
		packet_put32(p, p->length - 4, key);
	}
	if (flags & 0x10)
		packet_append(p, 4);
}

void packet_gtpu(struct packet *p, uint32_t teid, unsigned int extensions)
{
	size_t at = p->length;
	uint8_t *next;

	packet_append(p, 8);
	p->data[at] = 0x30;
	p->data[at + 1] = 255;
	packet_put32(p, at + 4, teid);
	packet_fixup(p, at + 2, at + 8);
	if (!extensions)
		return;
	p->data[at] = 0x36;
	next = packet_append(p, 4) + 3;
	for (unsigned int i = 0; i < extensions; i++) {
		*next = 0x85; /* PDU session container */
		next = packet_append(p, 8);
		next[0] = 2;
		next += 7;
	}
}

void packet_add_ip4(struct packet *p, struct packet_ip4 ip)
{
	size_t at = p->length;
	uint8_t *h;

	packet_type(p, 0x0800);
	h = packet_append(p, 20 + ip.options);
	h[0] = 0x40 | (5 + ip.options / 4);
	h[1] = ip.tos;
	packet_put16(p, at + 4, ip.id);
	packet_put16(p, at + 6, ip.fragment);
	h[8] = ip.ttl ? ip.ttl : 64;
	h[9] = ip.protocol;
	packet_put16(p, at + 12, ip.src >> 16);
	packet_put16(p, at + 14, ip.src);
	packet_put16(p, at + 16, ip.dst >> 16);
	packet_put16(p, at + 18, ip.dst);
	memset(h + 20, 1, ip.options); /* no operation */
	packet_fixup(p, at + 2, at);
}

void packet_add_ip6(struct packet *p, struct packet_ip6 ip)
{
	static const uint8_t prefix[4] = {0x20, 0x01, 0x0d, 0xb8};
	size_t at = p->length;
	uint8_t *h;

	packet_type(p, 0x86dd);
	h = packet_append(p, 40);
	h[0] = 0x60 | ip.traffic_class >> 4;
	h[1] = ip.traffic_class << 4;
	h[6] = ip.next;
	h[7] = ip.hops ? ip.hops : 64;
	memcpy(h + 8, prefix, 4);
	h[23] = ip.src;
	memcpy(h + 24, prefix, 4);
	h[39] = ip.dst;
	packet_fixup(p, at + 4, at + 40);
}

void packet_ext(struct packet *p, uint8_t next, uint8_t more)
{
	uint8_t *h = packet_append(p, 8 * (1 + more));

	h[0] = next;
	h[1] = more;
	h[2] = 1; /* PadN over all of it */
	h[3] = 4 + 8 * more;
}

void packet_ext_auth(struct packet *p, uint8_t next, uint8_t words)
{
	uint8_t *h = packet_append(p, (words + 2) * 4);

	h[0] = next;
	h[1] = words;
}

void packet_ext_fragment(struct packet *p, uint8_t next, uint16_t field, uint32_t id)
{
	size_t at = p->length;
	uint8_t *h = packet_append(p, 8);

	h[0] = next;
	packet_put16(p, at + 2, field);
	packet_put16(p, at + 4, id >> 16);
	packet_put16(p, at + 6, id);
}

void packet_ports(struct packet *p, size_t length, uint16_t src, uint16_t dst)
{
	size_t at = p->length;

	packet_append(p, length);
	packet_put16(p, at, src);
	packet_put16(p, at + 2, dst);
}

void packet_tcp(struct packet *p, uint16_t src, uint16_t dst, uint8_t flags, uint8_t options)
{
	size_t at = p->length;

	packet_ports(p, 20 + options, src, dst);
	p->data[at + 12] = (5 + options / 4) << 4;
	p->data[at + 13] = flags;
	memset(p->data + at + 20, 1, options);
}

void packet_add_segment(struct packet *p, struct packet_segment segment)
{
	size_t at = p->length;
	uint8_t filled = (segment.n_options + 3) & ~3;

	packet_tcp(p, segment.src, segment.dst, segment.flags, filled);
	packet_put32(p, at + 4, segment.seq);
	packet_put32(p, at + 8, segment.ack);
	p->data[at + 12] |= segment.flags >> 8 & 1;
	packet_put16(p, at + 14, segment.window);
	if (segment.n_options)
		memcpy(p->data + at + 20, segment.options, segment.n_options);
}

void packet_udp(struct packet *p, uint16_t src, uint16_t dst)
{
	size_t at = p->length;

	packet_ports(p, 8, src, dst);
	packet_fixup(p, at + 4, at);
}

void packet_udplite(struct packet *p, uint16_t src, uint16_t dst)
{
	packet_ports(p, 8, src, dst);
}

void packet_dccp(struct packet *p, uint16_t src, uint16_t dst)
{
	packet_ports(p, 16, src, dst);
}

void packet_sctp(struct packet *p, uint16_t src, uint16_t dst)
{
	packet_ports(p, 12, src, dst);
}

void packet_sctp_chunk(struct packet *p, uint8_t type, uint16_t length)
{
	size_t at = p->length;

	packet_append(p, (length + 3) & ~3);
	p->data[at] = type;
	packet_put16(p, at + 2, length);
}

void packet_icmp(struct packet *p, uint8_t type, uint8_t code)
{
	uint8_t *h = packet_append(p, 8);

	h[0] = type;
	h[1] = code;
}

void packet_payload(struct packet *p, size_t length)
{
	memset(packet_append(p, length), 0xa5, length);
}

void packet_end(struct packet *p)
{
	for (size_t i = 0; i < p->n_fixups; i++)
		packet_put16(p, p->fixup[i].field, p->length - p->fixup[i].from);
	p->n_fixups = 0;
}
