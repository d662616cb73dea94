/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What a rule holds for, in the words of pcap-filter(7), to clauses. Read from left to right; 'not'
 * is carried down to the terms, so that every part is a list of clauses from the beginning. Where
 * pcap-filter knows a reading of 'and' beside 'or' that few expect, parentheses are asked for.
 */
#include <errno.h>
#include <netdb.h>
#include <netinet/in.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>

#include "base/macro.h"
#include "base/parse.h"
#include "daemon/filter-prefix.h"
#include "daemon/filter-rules.h"
#include "daemon/pattern.h"

#define DEPTH_MAX     32 /* of parentheses and 'not' */
#define SPACE	      " \t"
#define PREFIXES_ROOM FM_FILTER_NETS
#ifndef IPPROTO_UDPLITE
#define IPPROTO_UDPLITE 136
#endif

enum joint {
	JOINT_NONE,
	JOINT_AND,
	JOINT_OR,
};

enum kind {
	KIND_NONE, /* no value behind it */
	KIND_HOST,
	KIND_NET,
	KIND_FILE,
	KIND_PORT,
	KIND_RANGE,
	KIND_PROTOCOL,
	KIND_VLAN,
	KIND_FLAGS,
	KIND_INTERFACE,
};

enum side {
	SIDE_EITHER,
	SIDE_SOURCE,
	SIDE_DESTINATION,
	SIDE_BOTH,
};

/* What stands before a value, and holds for those that follow in a list. */
struct qualifiers {
	enum kind kind;
	enum side side;
	const struct fm_filter_set *protocol; /* NULL: any */
	const char *service; /* where names of ports are looked up; NULL: anywhere */
	bool negated;
	bool after_not; /* 'not' stands before it */
};

struct reader {
	struct fm_filter_rules *rules;
	const char *text; /* the whole rule */
	const char *word; /* of it, the one that is next */
	size_t length;	  /* 0: the end */
	unsigned int depth;
	struct fm_buf *complaint;
};

static const struct protocol {
	const char *word;
	int number; /* -1: all */
	bool ip4, ip6;
	bool ports;
} protocols[] = {
	{"ip", -1, true, false, false},
	{"ip6", -1, false, true, false},
	{"tcp", IPPROTO_TCP, true, true, true},
	{"udp", IPPROTO_UDP, true, true, true},
	{"sctp", IPPROTO_SCTP, true, true, true},
	{"dccp", IPPROTO_DCCP, true, true, true},
	{"udplite", IPPROTO_UDPLITE, true, true, true},
	{"icmp", IPPROTO_ICMP, true, false, false},
	{"icmp6", IPPROTO_ICMPV6, false, true, false},
	{"gre", IPPROTO_GRE, true, true, false},
	{"esp", IPPROTO_ESP, true, true, false},
	{"ah", IPPROTO_AH, true, true, false},
};

static const struct {
	const char *word;
	enum kind kind;
	bool sided;	 /* takes src and dst */
	bool of_network; /* may stand behind ip and ip6 */
	bool of_ports;	 /* behind protocols with ports */
	const char *expected;
} kinds[] = {
	{"host", KIND_HOST, true, true, false, "an IPv4 or IPv6 address"},
	{"net", KIND_NET, true, true, false, "a prefix, or file and a path"},
	{"port", KIND_PORT, true, false, true, "a port"},
	{"portrange", KIND_RANGE, true, false, true, "ports such as 6000-6010"},
	{"proto", KIND_PROTOCOL, false, true, false, "the number of a protocol"},
	{"vlan", KIND_VLAN, false, false, false, "the number of a VLAN"},
	{"flags", KIND_FLAGS, false, false, false, "flags such as syn,!ack"},
	{"interface", KIND_INTERFACE, false, false, false, "the name of an interface"},
};

#define EXPECTED_PATH "a path that begins with /"
#define EXPECTED_TERM                                                                              \
	"host, net, port, portrange, proto, a protocol such as tcp, vlan, flags, interface, in, out, any, not or ("

static const char *const flag_words[] = {"fin", "syn", "rst", "psh", "ack", "urg", "ece", "cwr"};

static const char *const words[] = {"and", "or",  "not", "&&",	    "||",  "src",
				    "dst", "any", "in",	 "inbound", "out", "outbound"};

/* --- words --- */

__attribute__((format(printf, 2, 3))) static int complain(struct reader *reader, const char *format,
							  ...)
{
	va_list arguments;
	char text[512];

	va_start(arguments, format);
	vsnprintf(text, sizeof(text), format, arguments);
	va_end(arguments);
	if (reader->length)
		fm_buf_printf(reader->complaint, "'%.*s' (character %zu): %s",
			      (int)FM_MIN(reader->length, (size_t)60), reader->word,
			      (size_t)(reader->word - reader->text) + 1, text);
	else
		fm_buf_printf(reader->complaint, "at the end: %s", text);
	return -EINVAL;
}

/* What the sets and clauses return. */
static int complain_error(struct reader *reader, int error)
{
	if (error == -E2BIG)
		fm_buf_printf(
			reader->complaint,
			"the rule needs more than %d clauses or too many prefixes: expected several rules, or fewer 'or' of different kinds",
			FM_FILTER_CLAUSES_MAX);
	else if (error < 0)
		fm_buf_printf(reader->complaint, "no memory");
	return error;
}

static bool is(const struct reader *reader, const char *word)
{
	return reader->length == strlen(word) && !memcmp(reader->word, word, reader->length);
}

static bool ends_word(const char *at)
{
	return !*at || strchr(SPACE "()", *at) || !strncmp(at, "&&", 2) || !strncmp(at, "||", 2);
}

static void measure_word(struct reader *reader)
{
	reader->length = 0;
	while (!ends_word(reader->word + reader->length))
		reader->length++;
}

static void next(struct reader *reader)
{
	reader->word += reader->length;
	reader->word += strspn(reader->word, SPACE);
	if (*reader->word && strchr("()!", *reader->word))
		reader->length = 1;
	else if (!strncmp(reader->word, "&&", 2) || !strncmp(reader->word, "||", 2))
		reader->length = 2;
	else
		measure_word(reader);
}

static enum joint joint_of(const struct reader *reader)
{
	if (is(reader, "and") || is(reader, "&&"))
		return JOINT_AND;
	return is(reader, "or") || is(reader, "||") ? JOINT_OR : JOINT_NONE;
}

static bool is_not(const struct reader *reader)
{
	return is(reader, "not") || is(reader, "!");
}

static const struct protocol *protocol_of(const struct reader *reader)
{
	for (size_t i = 0; i < FM_ARRAY_SIZE(protocols); i++)
		if (is(reader, protocols[i].word))
			return &protocols[i];
	return NULL;
}

/* Its place in kinds; beyond them: it is none. */
static size_t kind_of(const struct reader *reader)
{
	size_t i = 0;

	while (i < FM_ARRAY_SIZE(kinds) && !is(reader, kinds[i].word))
		i++;
	return i;
}

static const char *expected_of(enum kind kind)
{
	for (size_t i = 0; i < FM_ARRAY_SIZE(kinds); i++)
		if (kinds[i].kind == kind)
			return kinds[i].expected;
	return EXPECTED_PATH;
}

static bool is_value(const struct reader *reader)
{
	if (!reader->length || strchr("()!", *reader->word) || protocol_of(reader) ||
	    kind_of(reader) < FM_ARRAY_SIZE(kinds))
		return false;
	for (size_t i = 0; i < FM_ARRAY_SIZE(words); i++)
		if (is(reader, words[i]))
			return false;
	return true;
}

/* --- terms --- */

static int add_literal(struct reader *reader, enum fm_filter_dimension dimension,
		       const struct fm_filter_set *set, struct fm_clauses *ret)
{
	struct fm_filter_clause clause = fm_clause_any();

	clause.set[dimension] = set;
	return fm_clauses_add(reader->rules->pool, ret, &clause);
}

/* Of two dimensions that both have a source and a destination. */
static int add_sides(struct reader *reader, const struct qualifiers *q,
		     enum fm_filter_dimension source, const struct fm_filter_set *set,
		     struct fm_clauses *ret)
{
	struct fm_filter_clause both = fm_clause_any();
	int r;

	if (q->side == SIDE_SOURCE)
		return add_literal(reader, source, set, ret);
	if (q->side == SIDE_DESTINATION)
		return add_literal(reader, source + 1, set, ret);
	if ((q->side == SIDE_BOTH) == q->negated) { /* not both: either not */
		r = add_literal(reader, source, set, ret);
		return r < 0 ? r : add_literal(reader, source + 1, set, ret);
	}
	both.set[source] = both.set[source + 1] = set;
	return fm_clauses_add(reader->rules->pool, ret, &both);
}

/* What a term says of one dimension, or of a pair of them, with its protocol. */
static int add_term(struct reader *reader, const struct qualifiers *q,
		    enum fm_filter_dimension dimension, const struct fm_filter_set *set,
		    struct fm_clauses *ret)
{
	struct fm_filter_pool *pool = reader->rules->pool;
	const struct fm_filter_set *protocol = q->protocol;
	_fm_cleanup_clauses_ struct fm_clauses of_protocol = {};
	int r = 0;

	if (q->negated) {
		r = fm_filter_set_invert(pool, set, &set);
		if (r == 0)
			r = fm_filter_set_invert(pool, protocol, &protocol);
	}
	if (r == 0)
		r = dimension <= FM_BY_DESTINATION_PORT ? add_sides(reader, q, dimension, set, ret)
							: add_literal(reader, dimension, set, ret);
	if (r == 0)
		r = add_literal(reader, FM_BY_PROTOCOL, protocol, &of_protocol);
	if (r == 0)
		r = q->negated ? fm_clauses_join(pool, ret, &of_protocol)
			       : fm_clauses_meet(pool, ret, &of_protocol);
	return complain_error(reader, r);
}

static int numbers(struct reader *reader, uint64_t first, uint64_t last, unsigned int top,
		   const struct fm_filter_set **ret)
{
	return complain_error(reader,
			      fm_filter_set_numbers(reader->rules->pool, (unsigned int)first,
						    (unsigned int)last, top, ret));
}

/* Of the families that have it; -1: all protocols. */
static int protocol_set(struct reader *reader, int number, bool ip4, bool ip6,
			const struct fm_filter_set **ret)
{
	unsigned int first = number < 0 ? 0 : (unsigned int)number;
	unsigned int last = number < 0 ? 255 : (unsigned int)number;
	const struct fm_filter_set *of_ip6;
	int r = 0;

	if (ip4)
		r = numbers(reader, first, last, FM_FILTER_PROTOCOL_TOP, ret);
	if (r < 0 || !ip6)
		return r;
	r = numbers(reader, FM_FILTER_IP6 + first, FM_FILTER_IP6 + last, FM_FILTER_PROTOCOL_TOP,
		    &of_ip6);
	if (r < 0)
		return r;
	if (!ip4)
		*ret = of_ip6;
	else
		r = fm_filter_set_join(reader->rules->pool, *ret, of_ip6, ret);
	return complain_error(reader, r);
}

static int add_prefix(struct reader *reader, const char *value, bool host,
		      const struct fm_filter_set **ret)
{
	_fm_cleanup_buf_ struct fm_buf expected = {};
	struct fm_filter_rules *rules = reader->rules;
	struct fm_prefix prefix;
	struct fm_prefixes one = {&prefix, 1, 1};
	int r = fm_prefix_parse(value, host, &prefix, &expected);

	if (r < 0)
		return complain(reader, "expected %s", expected.data ? expected.data : "memory");
	r = fm_prefixes_add(&rules->prefixes, prefix);
	if (r == 0)
		r = fm_filter_set_prefixes(rules->pool, &one, ret);
	return complain_error(reader, r);
}

/* Keeps what a file held: each is read once, whatever becomes of it meanwhile. */
static int keep_file(struct fm_filter_rules *rules, const char *path,
		     const struct fm_prefixes *prefixes, const struct fm_filter_set *set)
{
	struct fm_filter_file *grown =
		reallocarray(rules->files, rules->n_files + 1, sizeof(*grown));
	int r = 0;

	if (!grown)
		return -ENOMEM;
	rules->files = grown;
	for (size_t i = 0; i < prefixes->n && r == 0; i++)
		r = fm_prefixes_add(&rules->prefixes, prefixes->v[i]);
	if (r < 0)
		return r;
	grown[rules->n_files].path = strdup(path);
	grown[rules->n_files].set = set;
	fm_filter_set_keep(set);
	if (!grown[rules->n_files].path)
		return -ENOMEM;
	rules->n_files++;
	return 0;
}

static int add_file(struct reader *reader, const char *path, const struct fm_filter_set **ret)
{
	_fm_cleanup_(fm_prefixes_done) struct fm_prefixes prefixes = {};
	struct fm_filter_rules *rules = reader->rules;
	int r;

	if (*path != '/')
		return complain(reader, "expected " EXPECTED_PATH);
	for (size_t i = 0; i < rules->n_files; i++)
		if (!strcmp(rules->files[i].path, path)) {
			*ret = rules->files[i].set;
			return 0;
		}
	r = fm_prefixes_load(path, &prefixes, reader->complaint);
	if (r < 0)
		return r;
	if (prefixes.n > PREFIXES_ROOM || rules->prefixes.n > PREFIXES_ROOM - prefixes.n)
		return complain(reader, "expected at most %u prefixes in all rules", PREFIXES_ROOM);
	r = fm_filter_set_prefixes(rules->pool, &prefixes, ret);
	if (r == 0)
		r = keep_file(rules, path, &prefixes, *ret);
	return complain_error(reader, r);
}

static int read_number(struct reader *reader, const char *value, unsigned int first,
		       unsigned int last, uint64_t *ret)
{
	if (fm_parse_u64(value, first, last, ret) < 0)
		return complain(reader, "expected a number from %u to %u", first, last);
	return 0;
}

static int port_by_name(struct reader *reader, const char *name, const char *service, uint64_t *ret)
{
	static const char *const anywhere[] = {"tcp", "udp", "sctp", "dccp"};
	int port = -1;

	for (size_t i = 0; i < FM_ARRAY_SIZE(anywhere); i++) {
		const struct servent *entry;

		if (service && strcmp(service, anywhere[i]))
			continue;
		entry = getservbyname(name, anywhere[i]);
		if (!entry)
			continue;
		if (port >= 0 && port != ntohs((uint16_t)entry->s_port))
			return complain(reader, "not one port of all protocols: expected a number");
		port = ntohs((uint16_t)entry->s_port);
	}
	if (port < 0)
		return complain(reader,
				"expected a port from 0 to 65535, or a name of /etc/services");
	*ret = (uint64_t)port;
	return 0;
}

static int add_port(struct reader *reader, const char *value, const char *service,
		    const struct fm_filter_set **ret)
{
	uint64_t port;
	int r = 0;

	if (strspn(value, "0123456789") != strlen(value))
		r = port_by_name(reader, value, service, &port);
	else
		r = read_number(reader, value, 0, 65535, &port);
	return r < 0 ? r : numbers(reader, port, port, FM_FILTER_PORT_TOP, ret);
}

static int add_range(struct reader *reader, char *value, const struct fm_filter_set **ret)
{
	char *dash = strchr(value, '-');
	uint64_t first, last;

	if (dash)
		*dash = '\0';
	if (!dash || fm_parse_u64(value, 0, 65535, &first) < 0 ||
	    fm_parse_u64(dash + 1, first, 65535, &last) < 0)
		return complain(reader, "expected ports such as 6000-6010, the smaller first");
	return numbers(reader, first, last, FM_FILTER_PORT_TOP, ret);
}

/* Of a list of flags, each with ! or without. */
static int parse_flags(const char *value, unsigned int *ret_mask, unsigned int *ret_set)
{
	unsigned int mask = 0, set = 0;

	for (;;) {
		bool unset = *value == '!';
		size_t length = strcspn(value += unset, ","), i = 0;

		while (i < FM_ARRAY_SIZE(flag_words) &&
		       (strlen(flag_words[i]) != length || memcmp(flag_words[i], value, length)))
			i++;
		if (i == FM_ARRAY_SIZE(flag_words) || (mask & 1u << i))
			return -EINVAL;
		mask |= 1u << i;
		set |= unset ? 0 : 1u << i;
		if (!value[length])
			break;
		value += length + 1;
	}
	*ret_mask = mask;
	*ret_set = set;
	return 0;
}

static int add_flags(struct reader *reader, const char *value, const struct fm_filter_set **ret)
{
	struct fm_filter_pool *pool = reader->rules->pool;
	unsigned int mask, set;
	int r;

	if (parse_flags(value, &mask, &set) < 0)
		return complain(
			reader,
			"expected flags such as syn,!ack: each of fin, syn, rst, psh, ack, urg, ece, cwr once at most");
	r = fm_filter_set_invert(pool, NULL, ret); /* nothing yet */
	for (unsigned int i = 0; i < FM_FILTER_NO_FLAGS && r == 0; i++) {
		const struct fm_filter_set *one;

		if ((i & mask) != set)
			continue;
		r = fm_filter_set_numbers(pool, i, i, FM_FILTER_FLAGS_TOP, &one);
		if (r == 0)
			r = fm_filter_set_join(pool, *ret, one, ret);
	}
	return complain_error(reader, r);
}

/* The number of a pattern, which may be a new one. */
static int find_pattern(struct reader *reader, const char *value, size_t *ret)
{
	struct fm_filter_rules *rules = reader->rules;
	char **grown;
	size_t i = 0;

	if (*value == '!' || fm_pattern_check(value) < 0)
		return complain(reader, "expected an interface such as eth0, eth* or veth0@blue");
	while (i < rules->n_patterns && strcmp(rules->patterns[i], value))
		i++;
	*ret = i;
	if (i < rules->n_patterns)
		return 0;
	if (i == FM_FILTER_PATTERNS)
		return complain(reader, "expected at most %d different interfaces in all rules",
				FM_FILTER_PATTERNS);
	grown = reallocarray(rules->patterns, i + 1, sizeof(*grown));
	if (!grown)
		return complain_error(reader, -ENOMEM);
	rules->patterns = grown;
	grown[i] = strdup(value);
	if (!grown[i])
		return complain_error(reader, -ENOMEM);
	rules->n_patterns++;
	return 0;
}

static int add_interface(struct reader *reader, const char *value, bool negated,
			 struct fm_clauses *ret)
{
	struct fm_filter_clause clause = fm_clause_any();
	size_t i = 0;
	int r = find_pattern(reader, value, &i);

	if (r < 0)
		return r;
	(negated ? clause.where.none : clause.where.all)[i / 64] = (uint64_t)1 << i % 64;
	return complain_error(reader, fm_clauses_add(reader->rules->pool, ret, &clause));
}

static int add_hooks(struct reader *reader, unsigned int hooks, bool negated,
		     struct fm_clauses *ret)
{
	struct fm_filter_clause clause = fm_clause_any();

	clause.where.hooks = negated ? FM_FILTER_HOOKS & ~hooks : hooks;
	return complain_error(reader, fm_clauses_add(reader->rules->pool, ret, &clause));
}

/* The word is the value of a kind. */
static int add_value(struct reader *reader, const struct qualifiers *q, char *value,
		     struct fm_clauses *ret)
{
	static const enum fm_filter_dimension dimensions[] = {
		[KIND_HOST] = FM_BY_SOURCE,	    [KIND_NET] = FM_BY_SOURCE,
		[KIND_FILE] = FM_BY_SOURCE,	    [KIND_PORT] = FM_BY_SOURCE_PORT,
		[KIND_RANGE] = FM_BY_SOURCE_PORT,   [KIND_PROTOCOL] = FM_BY_PROTOCOL,
		[KIND_VLAN] = FM_BY_VLAN,	    [KIND_FLAGS] = FM_BY_FLAGS,
		[KIND_INTERFACE] = FM_BY_INTERFACE,
	};
	const struct fm_filter_set *set = NULL;
	uint64_t number;
	int r = -EINVAL;

	switch (q->kind) {
	case KIND_NONE:
		break;
	case KIND_HOST:
	case KIND_NET:
		r = add_prefix(reader, value, q->kind == KIND_HOST, &set);
		break;
	case KIND_FILE:
		r = add_file(reader, value, &set);
		break;
	case KIND_PORT:
		r = add_port(reader, value, q->service, &set);
		break;
	case KIND_RANGE:
		r = add_range(reader, value, &set);
		break;
	case KIND_PROTOCOL:
		r = read_number(reader, value, 0, 255, &number);
		if (r == 0)
			r = protocol_set(reader, (int)number, true, true, &set);
		break;
	case KIND_VLAN:
		r = read_number(reader, value, 1, FM_FILTER_VLAN_TOP, &number);
		if (r == 0)
			r = numbers(reader, number, number, FM_FILTER_VLAN_TOP, &set);
		break;
	case KIND_FLAGS:
		r = add_flags(reader, value, &set);
		break;
	case KIND_INTERFACE:
		return add_interface(reader, value, q->negated, ret);
	}
	return r < 0 ? r : add_term(reader, q, dimensions[q->kind], set, ret);
}

/* --- grammar --- */

static int read_value(struct reader *reader, const struct qualifiers *q, struct fm_clauses *ret)
{
	_fm_cleanup_free_ char *value = NULL;
	int r;

	if (*reader->word == '!')
		measure_word(reader);
	if (!reader->length || strchr("()", *reader->word) || joint_of(reader) || is_not(reader))
		return complain(reader, "expected %s", expected_of(q->kind));
	value = strndup(reader->word, reader->length);
	if (!value)
		return complain_error(reader, -ENOMEM);
	r = add_value(reader, q, value, ret);
	if (r == 0)
		next(reader);
	return r;
}

/* What was read before takes up what was read now. */
static int combine(struct reader *reader, enum joint joint, bool negated,
		   struct fm_clauses *clauses, const struct fm_clauses *more)
{
	struct fm_filter_pool *pool = reader->rules->pool;

	return complain_error(reader, (joint == JOINT_AND) != negated
					      ? fm_clauses_meet(pool, clauses, more)
					      : fm_clauses_join(pool, clauses, more));
}

/* 'and' or 'or', the same throughout. */
static int read_joint(struct reader *reader, enum joint *joint)
{
	enum joint here = joint_of(reader);

	if (*joint && here != *joint)
		return complain(
			reader,
			"expected parentheses where 'and' meets 'or', such as (a and b) or c");
	*joint = here;
	next(reader);
	return 0;
}

/* '(' is read: values up to the ')'. */
static int read_values(struct reader *reader, const struct qualifiers *q, struct fm_clauses *ret)
{
	enum joint joint = JOINT_NONE;
	int r = read_value(reader, q, ret);

	while (r == 0 && joint_of(reader)) {
		_fm_cleanup_clauses_ struct fm_clauses more = {};

		r = read_joint(reader, &joint);
		if (r == 0)
			r = read_value(reader, q, &more);
		if (r == 0)
			r = combine(reader, joint, q->negated, ret, &more);
	}
	if (r < 0)
		return r;
	if (!is(reader, ")"))
		return complain(reader, "expected 'and', 'or' or ')'");
	next(reader);
	return 0;
}

/* 'src', 'dst', 'src or dst', 'src and dst'. */
static void read_side(struct reader *reader, struct qualifiers *q)
{
	bool source = is(reader, "src");
	struct reader before;
	enum joint joint;

	if (!source && !is(reader, "dst"))
		return;
	q->side = source ? SIDE_SOURCE : SIDE_DESTINATION;
	next(reader);
	before = *reader;
	joint = joint_of(reader);
	if (!joint)
		return;
	next(reader);
	if (is(reader, source ? "dst" : "src")) {
		q->side = joint == JOINT_AND ? SIDE_BOTH : SIDE_EITHER;
		next(reader);
	} else {
		*reader = before;
	}
}

/* 'host', 'src net' and so on, behind a protocol or none. */
static int read_kind(struct reader *reader, const struct protocol *protocol, struct qualifiers *q)
{
	bool sided = is(reader, "src") || is(reader, "dst");
	size_t i;

	read_side(reader, q);
	i = kind_of(reader);
	if (i == FM_ARRAY_SIZE(kinds) && sided && is_value(reader) &&
	    strcspn(reader->word, ".:") < reader->length) {
		q->kind = KIND_NET; /* of an address, as with pcap-filter */
		return 0;
	}
	if (i == FM_ARRAY_SIZE(kinds) || (sided && !kinds[i].sided))
		return complain(reader, "expected host, net, port or portrange");
	if (protocol && protocol->number < 0 && !kinds[i].of_network)
		return complain(reader, "expected host, net or proto behind %s", protocol->word);
	if (protocol && protocol->number >= 0 && !(protocol->ports && kinds[i].of_ports))
		return complain(reader,
				protocol->ports ? "expected port or portrange behind %s"
						: "expected 'and' or 'or' behind %s",
				protocol->word);
	q->kind = kinds[i].kind;
	next(reader);
	if (q->kind == KIND_NET && is(reader, "file")) {
		q->kind = KIND_FILE;
		next(reader);
	}
	return 0;
}

static bool begins_kind(const struct reader *reader)
{
	return is(reader, "src") || is(reader, "dst") || kind_of(reader) < FM_ARRAY_SIZE(kinds);
}

/* 'any', 'in' and 'out'. 1: it was none of them. */
static int read_word(struct reader *reader, bool negated, struct fm_clauses *ret)
{
	unsigned int hooks = FM_FILTER_HOOKS;

	if (is(reader, "in") || is(reader, "inbound"))
		hooks = 1u << FM_HOOK_INGRESS;
	else if (is(reader, "out") || is(reader, "outbound"))
		hooks = 1u << FM_HOOK_EGRESS;
	else if (!is(reader, "any"))
		return 1;
	next(reader);
	return add_hooks(reader, hooks, negated, ret);
}

/* Leaves in q what values that follow have before them. */
static int read_term(struct reader *reader, struct qualifiers *q, struct fm_clauses *ret)
{
	const struct protocol *protocol = protocol_of(reader);
	const struct fm_filter_set *set;
	int r;

	if (protocol) {
		r = protocol_set(reader, protocol->number, protocol->ip4, protocol->ip6, &set);
		if (r < 0)
			return r;
		next(reader);
		if (!begins_kind(reader))
			return add_term(reader, q, FM_BY_PROTOCOL, set, ret);
		q->protocol = set;
		q->service = protocol->ports ? protocol->word : NULL;
	} else if (!begins_kind(reader)) {
		r = read_word(reader, q->negated, ret);
		return r > 0 ? complain(reader, "expected %s", EXPECTED_TERM) : r;
	}
	r = read_kind(reader, protocol, q);
	if (r < 0)
		return r;
	if (q->kind == KIND_VLAN && !is(reader, "(") && !is_value(reader)) { /* any tag */
		q->kind = KIND_NONE;
		r = numbers(reader, 1, FM_FILTER_VLAN_TOP, FM_FILTER_VLAN_TOP, &set);
		return r < 0 ? r : add_term(reader, q, FM_BY_VLAN, set, ret);
	}
	if (!is(reader, "("))
		return read_value(reader, q, ret);
	next(reader);
	r = read_values(reader, q, ret);
	q->kind = KIND_NONE;
	return r;
}

static int read_group(struct reader *reader, bool negated, struct fm_clauses *ret);

/* A term, or what stands in parentheses, or the contrary of it. */
static int read_operand(struct reader *reader, bool negated, struct qualifiers *q,
			struct fm_clauses *ret)
{
	unsigned int before = reader->depth;
	bool after_not = is_not(reader);
	int r;

	while (is_not(reader)) {
		negated = !negated;
		next(reader);
		if (++reader->depth > DEPTH_MAX)
			return complain(reader,
					"expected at most %d times 'not' or '(' in each other",
					DEPTH_MAX);
	}
	*q = (struct qualifiers){.negated = negated};
	if (!is(reader, "(")) {
		r = read_term(reader, q, ret);
		q->after_not = after_not;
	} else {
		if (++reader->depth > DEPTH_MAX)
			return complain(reader,
					"expected at most %d times 'not' or '(' in each other",
					DEPTH_MAX);
		next(reader);
		r = read_group(reader, negated, ret);
		if (r == 0 && !is(reader, ")"))
			return complain(reader, "expected 'and', 'or' or ')'");
		next(reader);
	}
	reader->depth = before;
	return r;
}

/* One operand or several, joined by all 'and' or all 'or'. */
static int read_group(struct reader *reader, bool negated, struct fm_clauses *ret)
{
	enum joint joint = JOINT_NONE;
	struct qualifiers q;
	int r = read_operand(reader, negated, &q, ret);

	while (r == 0 && joint_of(reader)) {
		_fm_cleanup_clauses_ struct fm_clauses more = {};

		r = read_joint(reader, &joint);
		if (r < 0)
			return r;
		if (q.kind == KIND_NONE || !is_value(reader))
			r = read_operand(reader, negated, &q, &more);
		else if (q.after_not)
			r = complain(
				reader,
				"expected parentheses behind 'not', such as not port (53 or 80)");
		else
			r = read_value(reader, &q, &more);
		if (r == 0)
			r = combine(reader, joint, negated, ret, &more);
	}
	return r;
}

int fm_filter_expression(struct fm_filter_rules *rules, const char *rule, size_t begin,
			 struct fm_clauses *ret, struct fm_buf *complaint)
{
	struct reader reader = {
		.rules = rules, .text = rule, .word = rule + begin, .complaint = complaint};
	_fm_cleanup_clauses_ struct fm_clauses clauses = {};
	struct fm_filter_clause any = fm_clause_any();
	int r;

	next(&reader);
	if (!reader.length)
		r = complain_error(&reader, fm_clauses_add(rules->pool, &clauses, &any));
	else
		r = read_group(&reader, false, &clauses);
	if (r == 0 && reader.length)
		r = complain(&reader, "expected 'and', 'or' or the end");
	if (r < 0)
		return r;
	*ret = clauses;
	clauses = (struct fm_clauses){};
	return 0;
}
