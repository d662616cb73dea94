/* SPDX-License-Identifier: Apache-2.0 */
/* Filters and packets made at random: see some-filters.h. */
#include "some-filters.h"

#include <arpa/inet.h>
#include <fnmatch.h>
#include <netinet/in.h>
#include <stdio.h>
#include <string.h>

#include "base/macro.h"

#define DEPTH 3

const struct fm_filter_interface some_interfaces[] = {
	{2, "eth0", NULL},
	{3, "eth1", NULL},
	{4, "wan0", NULL},
	{0x01000002, "eth0", "blue"},
};
const size_t some_n_interfaces = FM_ARRAY_SIZE(some_interfaces);

static const char *const patterns[] = {"eth0",	   "eth*",   "wan0",	 "*",
				       "eth[1-9]", "*@blue", "eth1@blue"};

static const struct {
	const char *word, *pcap;
	int number; /* -1: all */
	bool ip4, ip6, ports;
} words[] = {
	{"ip", "ip", -1, true, false, false},
	{"ip6", "ip6", -1, false, true, false},
	{"tcp", "tcp", 6, true, true, true},
	{"udp", "udp", 17, true, true, true},
	{"sctp", "sctp", 132, true, true, true},
	{"icmp", "icmp", 1, true, false, false},
	{"icmp6", "icmp6", 58, false, true, false},
	{"gre", "proto 47", 47, true, true, false},
	{"esp", "proto 50", 50, true, true, false},
	{"dccp", "proto 33", 33, true, true, true},
	{"udplite", "proto 136", 136, true, true, true},
};
#define N_PCAP_WORDS 9 /* libpcap finds no ports in the others */

static const uint8_t protocols[] = {6, 6, 6, 17, 17, 17, 132, 1, 58, 47, 50, 200, 33, 136};
#define N_PCAP_PROTOCOLS 12
static const uint16_t ports[] = {0, 22, 53, 80, 443, 6000, 6005, 40000, 65534, 65535};
static const uint16_t tags[] = {0, 5, 6, 100, 4095};
static const char *const flag_words[] = {"fin", "syn", "rst", "psh", "ack", "urg", "ece", "cwr"};

uint32_t some_number(uint64_t *random, uint32_t below)
{
	*random = *random * 6364136223846793005ULL + 1442695040888963407ULL;
	return (uint32_t)((*random >> 32) * below >> 32);
}

/* --- the world --- */

/* Addresses that share beginnings, so that prefixes lie in each other. */
static void make_address(uint64_t *random, int family, uint8_t ret[16])
{
	static const uint8_t nets[][4] = {
		{10, 0, 0, 0}, {10, 0, 1, 0}, {10, 128, 0, 0}, {192, 0, 2, 0}, {192, 0, 3, 0}};
	static const uint8_t hosts[] = {0, 1, 2, 127, 128, 255};
	const uint8_t *net = nets[some_number(random, FM_ARRAY_SIZE(nets))];

	memset(ret, 0, 16);
	if (family == 4) {
		memcpy(ret, net, 4);
	} else {
		memcpy(ret, (uint8_t[]){0x20, 0x01, 0x0d, 0xb8}, 4);
		memcpy(ret + 4 * some_number(random, 3), net, 4);
	}
	ret[family == 4 ? 3 : 15] = hosts[some_number(random, FM_ARRAY_SIZE(hosts))];
	if (!some_number(random, 10))
		ret[some_number(random, family == 4 ? 4 : 16)] = (uint8_t)some_number(random, 256);
}

static struct some_prefix make_prefix(uint64_t *random, int family)
{
	unsigned int bits = family == 4 ? 32 : 128;
	struct some_prefix prefix = {.family = family};

	make_address(random, family, prefix.addr);
	prefix.length = some_number(random, 2)	  ? bits - some_number(random, bits / 2)
			: some_number(random, 20) ? some_number(random, bits + 1)
						  : 0;
	for (unsigned int i = prefix.length; i < bits; i++)
		prefix.addr[i / 8] &= (uint8_t) ~(0x80 >> i % 8);
	return prefix;
}

static bool has_bits(const uint8_t *addr, const uint8_t *prefix, unsigned int length)
{
	for (unsigned int i = 0; i < length; i++)
		if ((addr[i / 8] ^ prefix[i / 8]) & 0x80 >> i % 8)
			return false;
	return true;
}

/* addr: IPv4 mapped. */
static bool prefix_has(const struct some_prefix *prefix, const uint8_t addr[16])
{
	static const uint8_t mapped[12] = {[10] = 0xff, [11] = 0xff};
	bool ip4 = !memcmp(addr, mapped, sizeof(mapped));

	if (ip4 != (prefix->family == 4))
		return false;
	return has_bits(ip4 ? addr + 12 : addr, prefix->addr, prefix->length);
}

static void print_address(const struct some_prefix *prefix, struct fm_buf *ret)
{
	char text[INET6_ADDRSTRLEN];

	inet_ntop(prefix->family == 4 ? AF_INET : AF_INET6, prefix->addr, text, sizeof(text));
	fm_buf_printf(ret, "%s", text);
}

static void print_prefix(const struct some_prefix *prefix, struct fm_buf *ret)
{
	print_address(prefix, ret);
	fm_buf_printf(ret, "/%u", prefix->length);
}

/* --- filters --- */

static struct some_node *new_node(struct some_filter *filter, enum some_kind kind)
{
	struct some_node *node = &filter->node[filter->n_nodes++];

	*node = (struct some_node){
		.kind = kind,
		.word = -1,
		.style = some_number(&filter->random, 1 << 16),
	};
	return node;
}

static bool takes_side(enum some_kind kind)
{
	return kind >= SOME_HOST && kind <= SOME_RANGE;
}

static void make_value(struct some_filter *filter, enum some_kind kind, int family,
		       struct some_value *ret)
{
	uint64_t *random = &filter->random;

	switch (kind) {
	case SOME_HOST:
		ret->prefix =
			(struct some_prefix){.family = family, .length = family == 4 ? 32 : 128};
		make_address(random, family, ret->prefix.addr);
		break;
	case SOME_NET:
		ret->prefix = make_prefix(random, family);
		break;
	case SOME_PORT:
		ret->first = ret->last = ports[some_number(random, FM_ARRAY_SIZE(ports))];
		break;
	case SOME_RANGE:
		ret->first = ports[some_number(random, FM_ARRAY_SIZE(ports))];
		ret->last = ret->first + some_number(random, 65536 - ret->first);
		break;
	case SOME_PROTOCOL:
		ret->first = protocols[some_number(random, filter->pcap ? N_PCAP_PROTOCOLS
									: sizeof(protocols))];
		break;
	case SOME_VLAN:
		ret->first = tags[1 + some_number(random, FM_ARRAY_SIZE(tags) - 1)];
		break;
	case SOME_FLAGS:
		ret->first = 1 + some_number(random, 255); /* few flags in most cases */
		ret->first &= some_number(random, 3) ? 0x12 : 0xff;
		ret->first |= !ret->first;
		ret->last = ret->first & some_number(random, 256);
		break;
	case SOME_INTERFACE:
		ret->name = patterns[some_number(random, FM_ARRAY_SIZE(patterns))];
		break;
	case SOME_HOOK:
		ret->first = some_number(random, 2);
		break;
	default:
		break;
	}
}

static const struct some_node *make_term(struct some_filter *filter)
{
	uint64_t *random = &filter->random;
	enum some_kind kind = some_number(random, 40)
				      ? SOME_HOST + some_number(random, SOME_AND - SOME_HOST)
				      : SOME_ANY;
	struct some_node *node = new_node(filter, kind);
	int family = some_number(random, 2) ? 4 : 6;
	size_t i = some_number(random, filter->pcap ? N_PCAP_WORDS : FM_ARRAY_SIZE(words));

	if (takes_side(kind))
		node->side = (enum some_side)some_number(random, 5);
	if (kind == SOME_WORD)
		node->word = (int)i;
	/* tcp port, ip6 host */
	if ((kind == SOME_PORT || kind == SOME_RANGE) && words[i].ports && some_number(random, 2))
		node->word = (int)i;
	if (kind == SOME_HOST || kind == SOME_NET || kind == SOME_PROTOCOL)
		node->word = some_number(random, 3) ? -1 : family == 6;
	node->n_values = 1;
	while (kind != SOME_WORD && kind != SOME_ANY && kind != SOME_HOOK && kind != SOME_VLANS &&
	       kind != SOME_FILE && node->n_values < SOME_VALUES && !some_number(random, 3))
		node->n_values++;
	node->all = !some_number(random, 4);
	for (size_t v = 0; v < node->n_values; v++)
		make_value(filter, kind, family, &node->value[v]);
	return node;
}

static const struct some_node *make_node(struct some_filter *filter, unsigned int depth)
{
	uint32_t choice = some_number(&filter->random, 10);
	struct some_node *node;

	if (!depth || choice < 3)
		return make_term(filter);
	node = new_node(filter, choice < 6 ? SOME_AND : choice < 8 ? SOME_OR : SOME_NOT);
	node->n_operands = node->kind == SOME_NOT ? 1 : 2 + some_number(&filter->random, 2);
	for (size_t i = 0; i < node->n_operands; i++)
		node->operand[i] = make_node(filter, depth - 1);
	return node;
}

static bool write_prefixes(struct some_filter *filter)
{
	_fm_cleanup_fclose_ FILE *file = fopen(filter->path, "we");
	_fm_cleanup_buf_ struct fm_buf text = {};

	filter->n_prefixes = some_number(&filter->random, filter->pcap ? 8 : SOME_PREFIXES);
	fm_buf_printf(&text, "# prefixes\n\n");
	for (size_t i = 0; i < filter->n_prefixes; i++) {
		filter->prefix[i] =
			make_prefix(&filter->random, some_number(&filter->random, 2) ? 4 : 6);
		print_prefix(&filter->prefix[i], &text);
		fm_buf_printf(&text, "%s", i % 3 ? "\n" : " # a comment\n");
	}
	return file && fm_buf_error(&text) == 0 &&
	       fwrite(text.data, 1, text.size, file) == text.size && fflush(file) == 0;
}

bool some_filter_make(struct some_filter *filter, uint64_t random, const char *path, bool pcap)
{
	static const char *const actions[] = {"include", "exclude", "sample 1 in 10 packets",
					      "sample 1 in 10 random", "sample 1 in 3 flows"};

	*filter = (struct some_filter){.random = random, .path = path, .pcap = pcap};
	for (unsigned int i = 0; i < 3; i++) /* seeds that are near to each other */
		some_number(&filter->random, 2);
	if (!write_prefixes(filter))
		return false;
	filter->n_rules = 1 + some_number(&filter->random, SOME_RULES);
	for (size_t i = 0; i < filter->n_rules; i++) {
		bool everything = !some_number(&filter->random, 40);

		filter->rule[i].action =
			actions[some_number(&filter->random, FM_ARRAY_SIZE(actions))];
		if (!everything)
			filter->rule[i].holds_for =
				make_node(filter, some_number(&filter->random, DEPTH + 1));
	}
	return true;
}

/* --- what a filter means --- */

static bool name_matches(const char *pattern, uint32_t ifindex)
{
	const char *at = strchr(pattern, '@');
	char name[32];

	snprintf(name, sizeof(name), "%.*s", (int)strcspn(pattern, "@"), pattern);
	for (size_t i = 0; i < some_n_interfaces; i++)
		if (some_interfaces[i].ifindex == ifindex)
			return !fnmatch(name, some_interfaces[i].name, 0) &&
			       !at == !some_interfaces[i].ns &&
			       (!at || !strcmp(at + 1, some_interfaces[i].ns));
	return false;
}

static bool is_word(int word, const struct fm_filter_packet *packet)
{
	return (packet->family == 4 ? words[word].ip4 : words[word].ip6) &&
	       (words[word].number < 0 || words[word].number == packet->protocol);
}

/* Whether one end of the packet is as a value says. */
static bool side_holds(const struct some_filter *filter, const struct some_node *node,
		       const struct some_value *value, const struct fm_filter_packet *packet,
		       unsigned int side)
{
	if (node->kind == SOME_PORT || node->kind == SOME_RANGE)
		return packet->has_ports && packet->port[side] >= value->first &&
		       packet->port[side] <= value->last;
	if (node->kind != SOME_FILE)
		return prefix_has(&value->prefix, packet->addr[side]);
	for (size_t i = 0; i < filter->n_prefixes; i++)
		if (prefix_has(&filter->prefix[i], packet->addr[side]))
			return true;
	return false;
}

static bool sides_hold(const struct some_filter *filter, const struct some_node *node,
		       const struct some_value *value, const struct fm_filter_packet *packet)
{
	bool source = side_holds(filter, node, value, packet, 0);
	bool destination = side_holds(filter, node, value, packet, 1);

	switch (node->side) {
	case SOME_SIDE_SOURCE:
		return source;
	case SOME_SIDE_DESTINATION:
		return destination;
	case SOME_SIDE_BOTH:
		return source && destination;
	case SOME_SIDE_NONE:
	case SOME_SIDE_EITHER:
		break;
	}
	return source || destination;
}

static bool value_holds(const struct some_filter *filter, const struct some_node *node,
			const struct some_value *value, const struct fm_filter_packet *packet)
{
	if (node->word >= 0 && !is_word(node->word, packet))
		return false;
	switch (node->kind) {
	case SOME_PROTOCOL:
		return packet->protocol == value->first;
	case SOME_VLAN:
		return packet->vlan == value->first;
	case SOME_VLANS:
		return packet->vlan != 0;
	case SOME_FLAGS:
		return packet->has_flags && (packet->flags & value->first) == value->last;
	case SOME_INTERFACE:
		return name_matches(value->name, packet->ifindex);
	case SOME_HOOK:
		return packet->hook == (value->first ? FM_HOOK_EGRESS : FM_HOOK_INGRESS);
	case SOME_ANY:
	case SOME_WORD:
		return true;
	default:
		return sides_hold(filter, node, value, packet);
	}
}

static bool holds(const struct some_filter *filter, const struct some_node *node,
		  const struct fm_filter_packet *packet)
{
	bool all = node->all;

	if (node->kind < SOME_AND) {
		for (size_t i = 0; i < node->n_values; i++)
			if (value_holds(filter, node, &node->value[i], packet) != all)
				return !all;
		return all;
	}
	if (node->kind == SOME_NOT)
		return !holds(filter, node->operand[0], packet);
	all = node->kind == SOME_AND;
	for (size_t i = 0; i < node->n_operands; i++)
		if (holds(filter, node->operand[i], packet) != all)
			return !all;
	return all;
}

size_t some_filter_verdict(const struct some_filter *filter, const struct fm_filter_packet *packet)
{
	size_t i = 0;

	while (i < filter->n_rules && filter->rule[i].holds_for &&
	       !holds(filter, filter->rule[i].holds_for, packet))
		i++;
	return i;
}

/* --- as text --- */

/* Whom an expression is for. */
struct reader {
	const struct some_filter *filter;
	bool pcap;
	struct fm_filter_packet at; /* libpcap: the hook */
};

static const char *and_word(const struct reader *reader, unsigned int style, bool all)
{
	if (reader->pcap || style & 1)
		return all ? " and " : " or ";
	return all ? " && " : "||";
}

static const char *side_word(enum some_side side)
{
	static const char *const texts[] = {"", "src ", "dst ", "src or dst ", "src and dst "};

	return texts[side];
}

static void print_flags(const struct some_value *value, struct fm_buf *ret)
{
	const char *separator = "";

	for (unsigned int i = 0; i < 8; i++) {
		if (!(value->first & 1u << i))
			continue;
		fm_buf_printf(ret, "%s%s%s", separator, value->last & 1u << i ? "" : "!",
			      flag_words[i]);
		separator = ",";
	}
}

static void print_value(const struct some_node *node, const struct some_value *value,
			struct fm_buf *ret)
{
	switch (node->kind) {
	case SOME_HOST:
		print_address(&value->prefix, ret);
		break;
	case SOME_NET:
		print_prefix(&value->prefix, ret);
		break;
	case SOME_RANGE:
		fm_buf_printf(ret, "%u-%u", value->first, value->last);
		break;
	case SOME_FLAGS:
		print_flags(value, ret);
		break;
	case SOME_INTERFACE:
		fm_buf_printf(ret, "%s", value->name);
		break;
	default:
		fm_buf_printf(ret, "%u", value->first);
		break;
	}
}

/* 'port 53 or 80' and its like, in parentheses of one kind or the other. */
static void print_list(const struct reader *reader, const struct some_node *node,
		       struct fm_buf *ret)
{
	static const char *const kinds[] = {
		[SOME_HOST] = "host",	   [SOME_NET] = "net",
		[SOME_PORT] = "port",	   [SOME_RANGE] = "portrange",
		[SOME_PROTOCOL] = "proto", [SOME_VLAN] = "vlan",
		[SOME_FLAGS] = "flags",	   [SOME_INTERFACE] = "interface",
	};
	/* 'flags syn or !ack' would be 'not'. */
	bool inside = node->n_values > 1 && !reader->pcap &&
		      (node->style & 2 || node->kind == SOME_FLAGS);
	bool around = node->n_values > 1 && !inside;

	fm_buf_printf(ret, "%s%s%s%s%s%s", around ? "(" : "",
		      node->word < 0 ? "" : words[node->word].word, node->word < 0 ? "" : " ",
		      side_word(node->side), kinds[node->kind], inside ? " (" : " ");
	for (size_t i = 0; i < node->n_values; i++) {
		if (i)
			fm_buf_printf(ret, "%s", and_word(reader, node->style >> 2, node->all));
		print_value(node, &node->value[i], ret);
	}
	fm_buf_printf(ret, "%s", inside || around ? ")" : "");
}

static void print_term(const struct reader *reader, const struct some_node *node,
		       struct fm_buf *ret)
{
	switch (node->kind) {
	case SOME_ANY:
		fm_buf_printf(ret, "any");
		break;
	case SOME_WORD:
		fm_buf_printf(ret, "%s", words[node->word].word);
		break;
	case SOME_VLANS:
		fm_buf_printf(ret, "vlan");
		break;
	case SOME_HOOK:
		fm_buf_printf(ret, "%s%s", node->value[0].first ? "out" : "in",
			      node->style & 2 ? "bound" : "");
		break;
	case SOME_FILE:
		fm_buf_printf(ret, "%snet file %s", side_word(node->side), reader->filter->path);
		break;
	default:
		print_list(reader, node, ret);
		break;
	}
}

/* One end of the packet is in a prefix of the file. */
static void print_pcap_prefixes(const struct some_filter *filter, const char *side,
				struct fm_buf *ret)
{
	fm_buf_printf(ret, "(len < 0");
	for (size_t i = 0; i < filter->n_prefixes; i++) {
		fm_buf_printf(ret, " or %s net ", side);
		print_prefix(&filter->prefix[i], ret);
	}
	fm_buf_printf(ret, ")");
}

static void print_pcap_file(const struct some_filter *filter, enum some_side side,
			    struct fm_buf *ret)
{
	if (side == SOME_SIDE_SOURCE || side == SOME_SIDE_DESTINATION) {
		print_pcap_prefixes(filter, side == SOME_SIDE_SOURCE ? "src" : "dst", ret);
		return;
	}
	fm_buf_printf(ret, "(");
	print_pcap_prefixes(filter, "src", ret);
	fm_buf_printf(ret, side == SOME_SIDE_BOTH ? " and " : " or ");
	print_pcap_prefixes(filter, "dst", ret);
	fm_buf_printf(ret, ")");
}

/* A value that libpcap has no word for. */
static void print_pcap_value(const struct reader *reader, const struct some_node *node,
			     const struct some_value *value, struct fm_buf *ret)
{
	switch (node->kind) {
	case SOME_VLAN:
		fm_buf_printf(ret, "(ether[12:2] = 0x8100 and ether[14:2] & 0xfff = %u)",
			      value->first);
		break;
	case SOME_VLANS:
		fm_buf_printf(ret, "(ether[12:2] = 0x8100 and ether[14:2] & 0xfff != 0)");
		break;
	case SOME_FLAGS:
		fm_buf_printf(ret, "(tcp[13] & %u = %u or (ip6 proto 6 and ip6[53] & %u = %u))",
			      value->first, value->last, value->first, value->last);
		break;
	default: /* it knows nothing of hooks */
		fm_buf_printf(ret, value_holds(reader->filter, node, value, &reader->at)
					   ? "len >= 0"
					   : "len < 0");
		break;
	}
}

static void print_pcap_term(const struct reader *reader, const struct some_node *node,
			    struct fm_buf *ret)
{
	switch (node->kind) {
	case SOME_HOST:
	case SOME_NET:
	case SOME_PORT:
	case SOME_RANGE:
	case SOME_PROTOCOL:
		print_list(reader, node, ret);
		break;
	case SOME_WORD:
		fm_buf_printf(ret, "%s", words[node->word].pcap);
		break;
	case SOME_FILE:
		print_pcap_file(reader->filter, node->side, ret);
		break;
	default:
		fm_buf_printf(ret, "(");
		for (size_t i = 0; i < node->n_values; i++) {
			if (i)
				fm_buf_printf(ret, node->all ? " and " : " or ");
			print_pcap_value(reader, node, &node->value[i], ret);
		}
		fm_buf_printf(ret, ")");
		break;
	}
}

static void print_node(const struct reader *reader, const struct some_node *node,
		       struct fm_buf *ret)
{
	if (node->kind < SOME_AND) {
		if (reader->pcap)
			print_pcap_term(reader, node, ret);
		else
			print_term(reader, node, ret);
		return;
	}
	if (node->kind == SOME_NOT)
		fm_buf_printf(ret, "%s", reader->pcap || node->style & 2 ? "not " : "!");
	for (size_t i = 0; i < node->n_operands; i++) {
		bool group =
			node->operand[i]->kind == SOME_AND || node->operand[i]->kind == SOME_OR;

		if (i)
			fm_buf_printf(ret, "%s",
				      and_word(reader, node->style >> 2, node->kind == SOME_AND));
		fm_buf_printf(ret, "%s", group ? "(" : "");
		print_node(reader, node->operand[i], ret);
		fm_buf_printf(ret, "%s", group ? ")" : "");
	}
}

void some_rule_print(const struct some_filter *filter, size_t rule, struct fm_buf *ret)
{
	const struct reader reader = {.filter = filter};

	fm_buf_printf(ret, "%s", filter->rule[rule].action);
	if (!filter->rule[rule].holds_for)
		return;
	fm_buf_printf(ret, " ");
	print_node(&reader, filter->rule[rule].holds_for, ret);
}

/* A tag moves all that libpcap looks at: it is asked about both, one behind the other. */
void some_rule_print_pcap(const struct some_filter *filter, size_t rule, size_t interface,
			  enum fm_hook hook, struct fm_buf *ret)
{
	const struct reader reader = {
		.filter = filter,
		.pcap = true,
		.at = {.ifindex = some_interfaces[interface].ifindex, .hook = hook},
	};
	const struct some_node *node = filter->rule[rule].holds_for;

	if (!node)
		return;
	fm_buf_printf(ret, "(ether[12:2] != 0x8100 and (");
	print_node(&reader, node, ret);
	fm_buf_printf(ret, ")) or (vlan and (");
	print_node(&reader, node, ret);
	fm_buf_printf(ret, "))");
}

/* --- packets --- */

static void put16(uint8_t *at, uint32_t value)
{
	at[0] = (uint8_t)(value >> 8);
	at[1] = (uint8_t)value;
}

/* Behind the IP header; returns its octets. */
static size_t make_transport(uint8_t *at, const struct fm_filter_packet *seen)
{
	size_t length = 24;

	memset(at, 0, length);
	if (seen->has_ports) {
		put16(at, seen->port[0]);
		put16(at + 2, seen->port[1]);
	}
	switch (seen->protocol) {
	case IPPROTO_TCP:
		at[12] = 0x50;
		at[13] = seen->flags;
		break;
	case IPPROTO_UDP:
		put16(at + 4, (uint32_t)length);
		break;
	case IPPROTO_SCTP:
		at[12] = 4; /* HEARTBEAT */
		put16(at + 14, 12);
		break;
	case IPPROTO_DCCP:
		at[4] = 4;
		break;
	case IPPROTO_ICMP:
	case IPPROTO_ICMPV6:
		at[0] = seen->protocol == IPPROTO_ICMP ? 8 : 128;
		break;
	default:
		break;
	}
	return length;
}

static size_t make_ip(uint8_t *at, const struct fm_filter_packet *seen, bool options)
{
	size_t header = seen->family == 6 ? 40 : options ? 24 : 20, length;

	memset(at, 0, header);
	length = make_transport(at + header, seen);
	if (seen->family == 6) {
		at[0] = 0x60;
		put16(at + 4, (uint32_t)length);
		at[6] = seen->protocol;
		at[7] = 64;
		memcpy(at + 8, seen->addr[0], 16);
		memcpy(at + 24, seen->addr[1], 16);
		return header + length;
	}
	at[0] = (uint8_t)(0x40 | header / 4);
	put16(at + 2, (uint32_t)(header + length));
	at[8] = 64;
	at[9] = seen->protocol;
	memcpy(at + 12, seen->addr[0] + 12, 4);
	memcpy(at + 16, seen->addr[1] + 12, 4);
	memset(at + 20, 1, header - 20); /* no operation */
	return header + length;
}

void some_packet_make(struct some_packet *packet, uint64_t *random, bool pcap)
{
	struct fm_filter_packet *seen = &packet->seen;
	size_t interface = some_number(random, (uint32_t)some_n_interfaces);
	bool tagged = !some_number(random, 3), options = !some_number(random, 8);
	size_t at = 12;

	memset(packet, 0, sizeof(*packet));
	seen->family = some_number(random, 2) ? 4 : 6;
	seen->protocol =
		protocols[some_number(random, pcap ? N_PCAP_PROTOCOLS : sizeof(protocols))];
	for (unsigned int side = 0; side < 2; side++) {
		uint8_t addr[16];

		make_address(random, seen->family, addr);
		if (seen->family == 6) {
			memcpy(seen->addr[side], addr, 16);
		} else {
			memset(seen->addr[side] + 10, 0xff, 2);
			memcpy(seen->addr[side] + 12, addr, 4);
		}
		seen->port[side] = some_number(random, 8)
					   ? ports[some_number(random, FM_ARRAY_SIZE(ports))]
					   : (uint16_t)some_number(random, 65536);
	}
	for (size_t i = 0; i < FM_ARRAY_SIZE(words); i++)
		seen->has_ports |= words[i].ports && words[i].number == seen->protocol;
	if (!seen->has_ports)
		seen->port[0] = seen->port[1] = 0;
	seen->has_flags = seen->protocol == IPPROTO_TCP;
	seen->flags = seen->has_flags ? (uint8_t)some_number(random, 256) : 0;
	seen->vlan = tagged ? tags[some_number(random, FM_ARRAY_SIZE(tags))] : 0;
	seen->ifindex = some_interfaces[interface].ifindex;
	seen->hook = some_number(random, 2) ? FM_HOOK_EGRESS : FM_HOOK_INGRESS;
	packet->frame[0] = packet->frame[6] = 2;
	packet->frame[11] = 1;
	if (tagged) {
		put16(packet->frame + at, 0x8100);
		put16(packet->frame + at + 2, 0x6000u | seen->vlan);
		at += 4;
	}
	put16(packet->frame + at, seen->family == 4 ? 0x0800 : 0x86dd);
	at += 2;
	packet->length = at + make_ip(packet->frame + at, seen, options);
}

void some_packet_print(const struct some_packet *packet, struct fm_buf *ret)
{
	const struct fm_filter_packet *seen = &packet->seen;
	char text[2][INET6_ADDRSTRLEN];

	for (unsigned int side = 0; side < 2; side++)
		inet_ntop(AF_INET6, seen->addr[side], text[side], sizeof(text[side]));
	fm_buf_printf(ret, "IPv%u %s:%u > %s:%u protocol %u flags 0x%02x vlan %u ifindex 0x%x %s",
		      seen->family, text[0], seen->port[0], text[1], seen->port[1], seen->protocol,
		      seen->flags, seen->vlan, seen->ifindex, seen->hook ? "out" : "in");
}
