/* SPDX-License-Identifier: Apache-2.0 */
/* An independent reading of packets: see model.h. */
#include "model.h"

#include <string.h>

struct reader {
	const uint8_t *at;
	size_t left; /* octets of the packet that are there */
};

/* Fragments seen so far: RFC 791 3.2 and RFC 8200 4.5 name what tells packets apart. */
#define KNOWN_MAX 8192
static struct known {
	uint8_t family, src[16], dst[16], match_protocol;
	struct fm_tunnel tunnel; /* networks can use the same addresses */
	uint32_t id;
	uint8_t protocol;
	uint16_t ports[2];
} known[KNOWN_MAX];
static size_t n_known;

static uint16_t get16(const uint8_t *at)
{
	return at[0] << 8 | at[1];
}

static uint32_t get32(const uint8_t *at)
{
	return (uint32_t)get16(at) << 16 | get16(at + 2);
}

static void skip(struct reader *r, size_t n)
{
	n = n < r->left ? n : r->left;
	r->at += n;
	r->left -= n;
}

struct packet_view {
	uint8_t family;
	uint8_t src[16], dst[16];
	uint8_t protocol;
	uint16_t ports[2]; /* as they stand in the packet */
	bool fragmented, more;
	uint16_t offset;
	uint32_t id;
	struct reader rest;
};

/* What answers an ICMP type: RFC 792, 950, 4443, 8335. */
static int icmp_answer(uint8_t family, uint8_t type)
{
	static const struct {
		uint8_t family, a, b;
	} pairs[] = {{4, 0, 8},	  {4, 13, 14},	 {4, 15, 16},  {4, 17, 18},
		     {4, 42, 43}, {6, 128, 129}, {6, 160, 161}};

	for (size_t i = 0; i < sizeof(pairs) / sizeof(pairs[0]); i++) {
		if (pairs[i].family != family)
			continue;
		if (pairs[i].a == type)
			return pairs[i].b;
		if (pairs[i].b == type)
			return pairs[i].a;
	}
	return -1;
}

static void sctp_ends(struct model *m, struct reader r)
{
	skip(&r, 12);
	for (int i = 0; i < 4 && r.left >= 4; i++) {
		if (r.at[0] == 6)
			m->ends |= 0x02;
		if (r.at[0] == 14)
			m->ends |= 0x01;
		skip(&r, (get16(r.at + 2) + 3) / 4 * 4);
	}
}

static void transport(struct model *m, struct packet_view *v)
{
	const struct reader *r = &v->rest;
	uint8_t wire[2];
	int answer;

	switch (v->protocol) {
	case 6: /* TCP, RFC 9293 */
	case 17:
	case 33: /* DCCP, RFC 4340 */
	case 132:
	case 136: /* UDP-Lite, RFC 3828 */
		if (r->left < 4) {
			m->cut_transport = true;
			return;
		}
		memcpy(v->ports, r->at, 4);
		if (v->protocol == 6 && r->left < 20)
			m->cut_transport = true;
		else if (v->protocol == 6)
			m->tcp_flags = r->at[13];
		if (v->protocol == 132)
			sctp_ends(m, *r);
		return;
	case 1:
	case 58:
		if ((v->protocol == 1) != (v->family == 4))
			return;
		if (r->left < 2) {
			m->cut_transport = true;
			return;
		}
		memcpy(&v->ports[0], r->at, 2);
		answer = icmp_answer(v->family, r->at[0]);
		wire[0] = answer < 0 ? 0xff : answer;
		wire[1] = answer < 0 ? 0xff : 0;
		memcpy(&v->ports[1], wire, 2);
		return;
	}
}

static struct known *find_first(const struct model *m, const struct packet_view *v, uint8_t match)
{
	for (size_t i = 0; i < n_known; i++)
		if (known[i].family == v->family && known[i].id == v->id &&
		    known[i].match_protocol == match && !memcmp(known[i].src, v->src, 16) &&
		    !memcmp(known[i].dst, v->dst, 16) && known[i].tunnel.type == m->tunnel.type &&
		    known[i].tunnel.id[0] == m->tunnel.id[0])
			return &known[i];
	return NULL;
}

static void fragment(struct model *m, struct packet_view *v)
{
	uint8_t match = v->family == 4 ? v->protocol : 0;
	struct known *k = find_first(m, v, match);

	if (v->offset) {
		if (!k) {
			m->orphan = true;
			return;
		}
		v->protocol = k->protocol;
		memcpy(v->ports, k->ports, sizeof(v->ports));
		return;
	}
	if (!m->cut_transport)
		transport(m, v);
	if (!v->more)
		return;
	if (!k)
		k = &known[n_known < KNOWN_MAX ? n_known++ : 0];
	*k = (struct known){
		.family = v->family, .match_protocol = match, .id = v->id, .protocol = v->protocol};
	memcpy(k->src, v->src, 16);
	memcpy(k->dst, v->dst, 16);
	k->tunnel = m->tunnel;
	memcpy(k->ports, v->ports, sizeof(k->ports));
}

/* Length of an extension header by its own words; 0: not one. */
static size_t ext_length(uint8_t type, uint8_t field)
{
	switch (type) {
	case 0:
	case 43:
	case 60:
	case 135:
	case 139:
	case 140:
		return 8 + 8 * field;
	case 44:
		return 8;
	case 51:
		return 8 + 4 * field;
	}
	return 0;
}

static void extensions(struct model *m, struct packet_view *v)
{
	for (int i = 0; i < 8; i++) {
		const uint8_t *at = v->rest.at;
		uint8_t type = v->protocol;

		if (!ext_length(type, 0))
			return;
		if (v->rest.left < 8) {
			m->cut_transport = true;
			return;
		}
		v->protocol = at[0];
		if (type == 44) {
			v->fragmented = true;
			v->more = at[3] & 1;
			v->offset = get16(at + 2) >> 3;
			memcpy(&v->id, at + 4, 4);
			if (v->more)
				m->fragment_flags |= 0x20;
		}
		skip(&v->rest, ext_length(type, at[1]));
		if (v->offset)
			return;
	}
	m->deep_headers = ext_length(v->protocol, 0) != 0;
}

/* Octets that the packet states, no more than are there. */
static void state_octets(struct model *m, struct packet_view *v, size_t stated)
{
	m->cut_payload = stated > v->rest.left;
	m->octets = m->cut_payload ? v->rest.left : stated;
	v->rest.left = m->octets;
}

static bool ip4(struct model *m, struct packet_view *v)
{
	const uint8_t *h = v->rest.at;
	size_t header, length;
	uint16_t field;

	if (v->rest.left < 20 || h[0] >> 4 != 4)
		return false;
	header = (h[0] & 15) * 4;
	length = get16(h + 2);
	if (!length) /* as Wireshark reads it: segmentation offload, all that is there */
		length = v->rest.left;
	if (header < 20 || header > v->rest.left || length < header)
		return false;
	state_octets(m, v, length);
	m->tos = h[1];
	m->ttl = h[8];
	v->protocol = h[9];
	v->src[10] = v->src[11] = v->dst[10] = v->dst[11] = 0xff;
	memcpy(v->src + 12, h + 12, 4);
	memcpy(v->dst + 12, h + 16, 4);
	field = get16(h + 6);
	m->fragment_flags = (field >> 8) & 0x60;
	v->more = field & 0x2000;
	v->offset = field & 0x1fff;
	v->fragmented = v->more || v->offset;
	v->id = get16(h + 4);
	skip(&v->rest, header);
	return true;
}

static bool ip6(struct model *m, struct packet_view *v)
{
	const uint8_t *h = v->rest.at;

	if (v->rest.left < 40 || h[0] >> 4 != 6)
		return false;
	/* RFC 2675: length 0 and a hop-by-hop header: a jumbogram. */
	if (get16(h + 4) == 0 && h[6] == 0)
		state_octets(m, v, v->rest.left);
	else
		state_octets(m, v, 40 + get16(h + 4));
	m->tos = h[0] << 4 | h[1] >> 4;
	m->ttl = h[7];
	m->flow_label = (h[1] & 15) << 16 | get16(h + 2);
	v->protocol = h[6];
	memcpy(v->src, h + 8, 16);
	memcpy(v->dst, h + 24, 16);
	skip(&v->rest, 40);
	extensions(m, v);
	v->fragmented = v->more || v->offset;
	return true;
}

static uint64_t native64(const uint8_t *at)
{
	uint64_t value;

	memcpy(&value, at, 8);
	return value;
}

/* abi.h: the smaller endpoint first, addresses and ports as numbers in memory order. */
static void order(struct model *m, const struct packet_view *v)
{
	bool second = v->ports[0] > v->ports[1];

	if (native64(v->src + 8) != native64(v->dst + 8))
		second = native64(v->src + 8) > native64(v->dst + 8);
	if (v->family == 6 && native64(v->src) != native64(v->dst))
		second = native64(v->src) > native64(v->dst);
	m->direction = second;
	memcpy(m->key.addr[second], v->src, 16);
	memcpy(m->key.addr[!second], v->dst, 16);
	m->key.port[second] = v->ports[0];
	m->key.port[!second] = v->ports[1];
	m->key.protocol = v->protocol;
	m->key.family = v->family;
}

void model_forget(void)
{
	n_known = 0;
}

size_t model_fragments(void)
{
	return n_known;
}

static void add_tag(struct model *m, unsigned int depth, uint16_t tci)
{
	if (depth == 0)
		m->vlan = tci & 0xfff;
	else if (depth == 1)
		m->cvlan = tci & 0xfff;
}

/*
 * Ethernet header and VLAN tags (IEEE 802.1Q), room for so many; returns the EtherType behind them.
 * depth: tags before these; m: who is told of them.
 */
static uint16_t ethernet(struct model *m, struct reader *r, unsigned int depth, int room)
{
	uint16_t type;

	if (r->left < 14)
		return 0;
	type = get16(r->at + 12);
	skip(r, 14);
	while (room-- > 0 && (type == 0x8100 || type == 0x88a8)) {
		if (r->left < 4)
			return 0;
		if (m)
			add_tag(m, depth++, get16(r->at));
		type = get16(r->at + 2);
		skip(r, 4);
	}
	return type;
}

/* IP by its version. */
static uint16_t ip_type(const struct reader *r)
{
	if (!r->left || (r->at[0] >> 4 != 4 && r->at[0] >> 4 != 6))
		return 0;
	return r->at[0] >> 4 == 4 ? 0x0800 : 0x86dd;
}

/* A label stack (RFC 3032), at most 8 deep, of which three are told. */
static uint16_t labels(struct reader *r, uint64_t *ret_labels)
{
	uint64_t value = 1;

	for (int i = 0; i < 8 && r->left >= 4; i++) {
		bool bottom = r->at[2] & 1;

		if (i < 3)
			value = value * 0x100000 + (get16(r->at) * 16 + r->at[2] / 16);
		skip(r, 4);
		if (!bottom)
			continue;
		*ret_labels = value;
		return ip_type(r);
	}
	return 0;
}

/* A PPPoE session's packet (RFC 2516). */
static uint16_t session(struct reader *r)
{
	uint16_t protocol;

	if (r->left < 8 || r->at[0] != 0x11 || r->at[1])
		return 0;
	protocol = get16(r->at + 6);
	skip(r, 8);
	if (protocol == 0x21)
		return 0x0800;
	return protocol == 0x57 ? 0x86dd : 0;
}

/* A header that a tunnel puts before what it carries. */
struct shell {
	uint8_t type;
	uint32_t id;
	uint64_t mpls;
	uint16_t inside;      /* EtherType */
	struct reader reader; /* there */
};

static bool shell_skip(struct shell *s, size_t n)
{
	if (s->reader.left < n)
		return false;
	skip(&s->reader, n);
	return true;
}

/* RFC 2784, RFC 2890; with Ethernet, a key and nothing else RFC 7637. */
static bool gre(struct shell *s)
{
	const uint8_t *h = s->reader.at;
	bool checksum, key, sequence;
	size_t length = 4;

	if (s->reader.left < 4 || h[1] % 8 != 0 || h[0] & 0x40)
		return false;
	checksum = h[0] & 0x80;
	key = h[0] & 0x20;
	sequence = h[0] & 0x10;
	s->type = FM_TUNNEL_GRE;
	s->inside = get16(h + 2);
	length += 4 * (checksum + key + sequence);
	if (s->reader.left < length)
		return false;
	if (key)
		s->id = get32(h + 4 + 4 * checksum);
	if (h[0] == 0x20 && s->inside == 0x6558 && s->id >= 0x100000) {
		s->type = FM_TUNNEL_NVGRE;
		s->id /= 256;
	}
	return shell_skip(s, length);
}

/* 3GPP TS 29.281 5: G-PDUs; extension headers as long as they say, four at most. */
static bool gtpu(struct shell *s)
{
	const uint8_t *h = s->reader.at;
	uint8_t next = 0;

	if (s->reader.left < 8 || (h[0] & 0xf0) != 0x30 || h[1] != 255)
		return false;
	s->type = FM_TUNNEL_GTPU;
	s->id = get32(h + 4);
	if (h[0] & 7) {
		if (s->reader.left < 12)
			return false;
		if (h[0] & 4)
			next = h[11];
		skip(&s->reader, 4);
	}
	skip(&s->reader, 8);
	for (int i = 0; next; i++) {
		size_t length = s->reader.left ? s->reader.at[0] * 4 : 0;

		if (i == 4 || length == 0 || s->reader.left < length)
			return false;
		next = s->reader.at[length - 1];
		skip(&s->reader, length);
	}
	s->inside = ip_type(&s->reader);
	return true;
}

static bool in_udp(struct shell *s, uint16_t port)
{
	const uint8_t *h;

	if (!shell_skip(s, 8))
		return false;
	h = s->reader.at;
	switch (port) {
	case 4789: /* RFC 7348 */
	case 8472:
		if (s->reader.left < 8 || !(h[0] & 8))
			return false;
		s->type = FM_TUNNEL_VXLAN;
		s->id = get32(h + 4) / 256;
		s->inside = 0x6558;
		return shell_skip(s, 8);
	case 6081: /* RFC 8926 */
		if (s->reader.left < 8 || h[0] & 0xc0)
			return false;
		s->type = FM_TUNNEL_GENEVE;
		s->id = get32(h + 4) / 256;
		s->inside = get16(h + 2);
		return shell_skip(s, 8 + h[0] * 4);
	case 2152:
		return gtpu(s);
	}
	s->type = FM_TUNNEL_MPLS_UDP; /* RFC 7510 */
	s->inside = labels(&s->reader, &s->mpls);
	return true;
}

static bool announces_tunnel(const struct packet_view *v)
{
	uint16_t port = get16((const uint8_t *)&v->ports[1]);

	if (v->protocol == 17)
		return port == 4789 || port == 8472 || port == 6081 || port == 2152 || port == 6635;
	return v->protocol == 4 || v->protocol == 41 || v->protocol == 47;
}

/* Whether an IP packet of the version can begin there: all of its header, lengths that allow it. */
static bool has_ip(const struct shell *s)
{
	const uint8_t *h = s->reader.at;
	size_t header, length;

	if (s->inside == 0x86dd)
		return s->reader.left >= 40 && h[0] >> 4 == 6;
	if (s->inside != 0x0800 || s->reader.left < 20 || h[0] >> 4 != 4)
		return false;
	header = (h[0] & 15) * 4;
	length = get16(h + 2);
	return header >= 20 && header <= s->reader.left && (length == 0 || length >= header);
}

static bool open_shell(struct shell *s, const struct packet_view *v)
{
	*s = (struct shell){.id = FM_TUNNEL_NO_ID, .reader = v->rest};
	if (v->more || v->offset)
		return false;
	switch (v->protocol) {
	case 4: /* RFC 2003 */
		s->type = FM_TUNNEL_IPIP;
		s->inside = 0x0800;
		break;
	case 41: /* RFC 4213, RFC 2473 */
		s->type = FM_TUNNEL_IP6IP;
		s->inside = 0x86dd;
		break;
	case 47:
		if (!gre(s))
			return false;
		break;
	default:
		if (!in_udp(s, get16((const uint8_t *)&v->ports[1])))
			return false;
	}
	if (s->inside == 0x6558)
		s->inside = ethernet(NULL, &s->reader, 0, 2);
	return has_ip(s);
}

/* An IP packet and what it carries. */
static bool internet(struct model *m, struct packet_view *v, uint16_t type)
{
	v->family = type == 0x0800 ? 4 : 6;
	if (!(v->family == 4 ? ip4(m, v) : ip6(m, v)))
		return false;
	if (v->fragmented)
		fragment(m, v);
	else if (!m->cut_transport)
		transport(m, v);
	return true;
}

/* What the packet was, as the tunnel around the one that is inside; the view is then of that. */
static void enter(struct model *m, struct packet_view *v, const struct shell *s,
		  const uint8_t *start)
{
	struct model inner = {
		.verdict = MODEL_FLOW,
		.vlan = m->vlan,
		.cvlan = m->cvlan,
		.mpls = m->mpls ? m->mpls : s->mpls,
		.headers = m->headers + (s->reader.at - start),
		.tunnel = {.type = s->type, .family = v->family, .id = {s->id}},
	};

	memcpy(inner.tunnel.addr[0], v->src, 16);
	memcpy(inner.tunnel.addr[1], v->dst, 16);
	*m = inner;
	*v = (struct packet_view){.rest = s->reader};
	internet(m, v, s->inside);
}

static void tunnels(struct model *m, struct packet_view *v, const uint8_t *start)
{
	for (int i = 0; announces_tunnel(v); i++) {
		struct shell s;

		if (i == 3) {
			m->deep_tunnel = true;
			break;
		}
		if (!open_shell(&s, v)) {
			m->undecoded = true;
			break;
		}
		enter(m, v, &s, start);
		start = s.reader.at;
	}
	m->key.tunnel_type = m->tunnel.type;
	if (m->tunnel.type != FM_TUNNEL_GTPU && m->tunnel.id[0] != FM_TUNNEL_NO_ID)
		m->key.tunnel_id = m->tunnel.id[0];
}

void model_packet(struct model *ret, const uint8_t *data, size_t length,
		  const struct model_link *link)
{
	struct packet_view v = {.rest = {.at = data, .left = length}};
	struct model m = {};
	uint16_t type = link->type;
	const uint8_t *start;

	if (link->tagged)
		add_tag(&m, 0, link->tci);
	if (!link->layer3)
		type = ethernet(&m, &v.rest, link->tagged, 3);
	if (type == 0x8847 || type == 0x8848)
		type = labels(&v.rest, &m.mpls);
	else if (type == 0x8864)
		type = session(&v.rest);
	m.octets = v.rest.left;
	m.verdict = MODEL_NOT_IP;
	start = v.rest.at;
	if (type == 0x0800 || type == 0x86dd)
		m.verdict = internet(&m, &v, type) ? MODEL_FLOW : MODEL_MALFORMED;
	if (m.verdict == MODEL_FLOW && link->inner)
		tunnels(&m, &v, start);
	if (m.verdict == MODEL_FLOW)
		order(&m, &v);
	*ret = m;
}
