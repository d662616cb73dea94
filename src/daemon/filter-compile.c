/* SPDX-License-Identifier: Apache-2.0 */
/*
 * From rules to tables: see filter-compile.h. For each dimension, the values are taken in order; a
 * row is made where any clause's set begins or ends. Equal rows of all dimensions are one.
 */
#include "daemon/filter-compile.h"

#include <errno.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>

#include "base/macro.h"
#include "daemon/pattern.h"

#define ROW_HOMES 8192 /* twice as many as rows */
/* Rows that interfaces may need: so whether rules fit does not depend on interfaces. */
#define INTERFACE_ROWS (2 * (FM_FILTER_INTERFACES / 2 + 1))
#define LENGTHS	       129

_Static_assert(ROW_HOMES == 2 * FM_FILTER_ROWS, "rows are found quickly");
_Static_assert(FM_FILTER_RULES_MAX < 256, "places have one octet's numbers");

struct compiler {
	const struct fm_filter_rules *rules;
	struct fm_filter *filter;
	size_t n_rows, most_rows;
	struct fm_filter_row used;		 /* the bits of all clauses */
	uint16_t row_home[ROW_HOMES];		 /* number + 1; 0: free */
	uint16_t number[FM_FILTER_PORT_TOP + 1]; /* of the rows of a dimension's values */
	bool changes[FM_FILTER_PORT_TOP + 1];
};

/* What the clauses say of one dimension. */
struct sayings {
	struct fm_filter_row always; /* those that say nothing */
	size_t n;
	struct {
		const struct fm_filter_set *set;
		struct fm_filter_row clauses;
	} v[FM_FILTER_CLAUSES];
};

static void set_bit(struct fm_filter_row *row, size_t clause)
{
	row->word[clause / 64] |= (uint64_t)1 << clause % 64;
}

static void join_row(struct fm_filter_row *row, const struct fm_filter_row *other)
{
	for (size_t i = 0; i < FM_FILTER_WORDS; i++)
		row->word[i] |= other->word[i];
}

/* The number of a row, which may be a new one, or -E2BIG. */
static int find_row(struct compiler *compiler, const struct fm_filter_row *row)
{
	uint64_t hash = 0;
	size_t home;

	if (!memcmp(row, &compiler->used, sizeof(*row)))
		return 0; /* row 0 has the bits that nobody uses as well */
	for (size_t i = 0; i < FM_FILTER_WORDS; i++)
		hash = (hash ^ hash >> 32 ^ row->word[i]) * 0x9e3779b97f4a7c15;
	home = (hash >> 32) % ROW_HOMES;
	for (; compiler->row_home[home]; home = (home + 1) % ROW_HOMES) {
		size_t number = compiler->row_home[home] - 1u;

		if (!memcmp(&compiler->filter->row[number], row, sizeof(*row)))
			return (int)number;
	}
	if (compiler->n_rows == compiler->most_rows)
		return -E2BIG;
	compiler->filter->row[compiler->n_rows++] = *row;
	compiler->row_home[home] = (uint16_t)compiler->n_rows;
	return (int)compiler->n_rows - 1;
}

static void collect(const struct compiler *compiler, enum fm_filter_dimension dimension,
		    struct sayings *ret)
{
	const struct fm_clauses *clauses = &compiler->rules->clauses;

	memset(&ret->always, 0, sizeof(ret->always));
	ret->n = 0;
	for (size_t c = 0; c < clauses->n; c++) {
		const struct fm_filter_set *set = clauses->v[c].set[dimension];
		size_t i = 0;

		if (!set) {
			set_bit(&ret->always, c);
			continue;
		}
		while (i < ret->n && ret->v[i].set != set)
			i++;
		if (i == ret->n) {
			ret->v[i].set = set;
			memset(&ret->v[i].clauses, 0, sizeof(ret->v[i].clauses));
			ret->n++;
		}
		set_bit(&ret->v[i].clauses, c);
	}
	if (ret->n)
		compiler->filter->dimensions |= 1u << dimension;
}

/* The rows of all values of a dimension of numbers; copied in pieces to where they belong. */
static int fill(struct compiler *compiler, enum fm_filter_dimension dimension, size_t top,
		struct sayings *sayings)
{
	int number = 0;

	collect(compiler, dimension, sayings);
	memset(compiler->number, 0, (top + 1) * sizeof(*compiler->number));
	if (!sayings->n)
		return 0;
	memset(compiler->changes, 0, top + 1);
	compiler->changes[0] = true;
	for (size_t i = 0; i < sayings->n; i++)
		for (size_t j = 0; j < sayings->v[i].set->n; j++)
			compiler->changes[sayings->v[i].set->point[j].low] = true;
	for (size_t value = 0; value <= top; value++) {
		if (compiler->changes[value]) {
			struct fm_filter_row row = sayings->always;

			for (size_t i = 0; i < sayings->n; i++)
				if (fm_filter_set_has(sayings->v[i].set,
						      (struct fm_filter_point){0, value}))
					join_row(&row, &sayings->v[i].clauses);
			number = find_row(compiler, &row);
			if (number < 0)
				return number;
		}
		compiler->number[value] = (uint16_t)number;
	}
	return 0;
}

static int fill_numbers(struct compiler *compiler, struct sayings *sayings)
{
	struct fm_filter *filter = compiler->filter;
	const uint16_t *number = compiler->number;
	int r;

	for (unsigned int side = 0; side < 2; side++) {
		r = fill(compiler, FM_BY_SOURCE_PORT + side, FM_FILTER_PORT_TOP, sayings);
		if (r < 0)
			return r;
		memcpy(filter->port[side], number, sizeof(filter->port[side]));
		filter->no_port[side] = number[FM_FILTER_NO_PORT];
	}
	r = fill(compiler, FM_BY_PROTOCOL, FM_FILTER_PROTOCOL_TOP, sayings);
	if (r < 0)
		return r;
	memcpy(filter->protocol[0], number, sizeof(filter->protocol[0]));
	memcpy(filter->protocol[1], number + FM_FILTER_IP6, sizeof(filter->protocol[1]));
	r = fill(compiler, FM_BY_VLAN, FM_FILTER_VLAN_TOP, sayings);
	if (r < 0)
		return r;
	memcpy(filter->vlan, number, sizeof(filter->vlan));
	r = fill(compiler, FM_BY_FLAGS, FM_FILTER_FLAGS_TOP, sayings);
	if (r < 0)
		return r;
	memcpy(filter->flags, number, sizeof(filter->flags));
	filter->no_flags = number[FM_FILTER_NO_FLAGS];
	return 0;
}

/* --- addresses --- */

/* A prefix on its way into the trie. */
struct node {
	struct fm_prefix prefix;
	struct fm_filter_point sample; /* an address that has no longer match, if there is one */
	bool sampled;
	uint16_t row[2];
};

/* The nodes around the one that is looked at, from the widest. */
struct path {
	struct node *node[LENGTHS];
	size_t n;
};

/* Leaves on the path what is around an address; NULL: nothing. */
static struct node *leave(struct path *path, struct fm_filter_point address)
{
	while (path->n) {
		struct node *node = path->node[path->n - 1];

		if (fm_filter_point_compare(address, fm_prefix_last(node->prefix)) <= 0)
			return node;
		path->n--;
	}
	return NULL;
}

/*
 * Any address that is in the prefix and in none of those inside of it speaks for all of them: the
 * rules speak of prefixes that are here only. The sample goes behind each inner prefix until there
 * is a gap.
 */
static void find_samples(struct node *nodes, size_t n)
{
	struct path path = {};

	for (size_t i = 0; i < n; i++) {
		struct node *node = &nodes[i], *around = leave(&path, node->prefix.first);

		if (around && around->sampled &&
		    !fm_filter_point_compare(around->sample, node->prefix.first)) {
			around->sample = fm_prefix_last(node->prefix);
			around->sampled = fm_filter_point_next(&around->sample);
		}
		node->sample = node->prefix.first;
		node->sampled = true;
		path.node[path.n++] = node;
	}
	for (size_t i = 0; i < n; i++)
		if (fm_filter_point_compare(nodes[i].sample, fm_prefix_last(nodes[i].prefix)) > 0)
			nodes[i].sampled = false;
}

static int compare_samples(const void *a, const void *b)
{
	const struct node *const *x = a, *const *y = b;

	return fm_filter_point_compare((*x)->sample, (*y)->sample);
}

/* The rows of all nodes on one side; order: those that have samples, in the order of these. */
static int fill_nodes(struct compiler *compiler, unsigned int side, struct node *const *order,
		      size_t n, struct sayings *sayings)
{
	_fm_cleanup_free_ struct fm_filter_row *rows = calloc(n + 1, sizeof(*rows));

	if (!rows)
		return -ENOMEM;
	collect(compiler, FM_BY_SOURCE + side, sayings);
	for (size_t i = 0; i < n; i++)
		rows[i] = sayings->always;
	for (size_t s = 0; s < sayings->n; s++) {
		const struct fm_filter_set *set = sayings->v[s].set;
		size_t at = 0; /* points that are not behind the sample */

		for (size_t i = 0; i < n; i++) {
			while (at < set->n &&
			       fm_filter_point_compare(set->point[at], order[i]->sample) <= 0)
				at++;
			if (at & 1)
				join_row(&rows[i], &sayings->v[s].clauses);
		}
	}
	for (size_t i = 0; i < n; i++) {
		int number = find_row(compiler, &rows[i]);

		if (number < 0)
			return number;
		order[i]->row[side] = (uint16_t)number;
	}
	return 0;
}

/* Those that say something else than what is around them. */
static int keep_nodes(struct node *nodes, size_t n, struct fm_filter_tables *ret)
{
	struct fm_prefix ip4 = fm_prefix_ip4();
	struct path path = {};

	ret->prefixes = calloc(n, sizeof(*ret->prefixes));
	if (!ret->prefixes)
		return -ENOMEM;
	for (size_t i = 0; i < n; i++) {
		struct node *node = &nodes[i], *around = leave(&path, node->prefix.first);
		bool always = !node->prefix.length ||
			      (node->prefix.length == ip4.length &&
			       !fm_filter_point_compare(node->prefix.first, ip4.first));
		struct fm_filter_prefix *prefix;

		if (!always &&
		    (!node->sampled || !memcmp(node->row, around->row, sizeof(node->row))))
			continue;
		path.node[path.n++] = node;
		prefix = &ret->prefixes[ret->n_prefixes++];
		prefix->net.length = node->prefix.length;
		fm_filter_point_write(node->prefix.first, prefix->net.addr);
		memcpy(prefix->rows.row, node->row, sizeof(prefix->rows.row));
	}
	return ret->n_prefixes > FM_FILTER_NETS ? -E2BIG : 0;
}

/* With those of all addresses of a family, which are always there. */
static int make_nodes(const struct fm_prefixes *prefixes, struct node **ret, size_t *ret_n)
{
	_fm_cleanup_(fm_prefixes_done) struct fm_prefixes all = {};
	struct node *nodes;
	int r = fm_prefixes_add(&all, (struct fm_prefix){});

	if (r == 0)
		r = fm_prefixes_add(&all, fm_prefix_ip4());
	for (size_t i = 0; i < prefixes->n && r == 0; i++)
		r = fm_prefixes_add(&all, prefixes->v[i]);
	if (r < 0)
		return r;
	fm_prefixes_sort(&all);
	nodes = calloc(all.n, sizeof(*nodes));
	if (!nodes)
		return -ENOMEM;
	for (size_t i = 0; i < all.n; i++)
		nodes[i].prefix = all.v[i];
	*ret = nodes;
	*ret_n = all.n;
	return 0;
}

static int fill_addresses(struct compiler *compiler, struct sayings *sayings,
			  struct fm_filter_tables *ret)
{
	_fm_cleanup_free_ struct node *nodes = NULL;
	_fm_cleanup_free_ struct node **order = NULL;
	size_t n, n_order = 0;
	int r = make_nodes(&compiler->rules->prefixes, &nodes, &n);

	if (r < 0)
		return r;
	order = calloc(n, sizeof(*order));
	if (!order)
		return -ENOMEM;
	find_samples(nodes, n);
	for (size_t i = 0; i < n; i++)
		if (nodes[i].sampled)
			order[n_order++] = &nodes[i];
	qsort(order, n_order, sizeof(*order), compare_samples);
	for (unsigned int side = 0; side < 2 && r == 0; side++)
		r = fill_nodes(compiler, side, order, n_order, sayings);
	return r < 0 ? r : keep_nodes(nodes, n, ret);
}

/* --- interfaces --- */

/* Which patterns an interface matches. */
static void match_patterns(const struct fm_filter_rules *rules,
			   const struct fm_filter_interface *interface,
			   uint64_t ret[FM_FILTER_PATTERNS / 64])
{
	memset(ret, 0, FM_FILTER_PATTERNS / 8);
	for (size_t i = 0; interface && i < rules->n_patterns; i++) {
		struct fm_names one = {&rules->patterns[i], 1};

		if (fm_pattern_match(&one, interface->ns, interface->name, false))
			ret[i / 64] |= (uint64_t)1 << i % 64;
	}
}

static bool where_has(const struct fm_filter_where *where, const uint64_t *matched,
		      unsigned int hook)
{
	for (unsigned int i = 0; i < FM_FILTER_PATTERNS / 64; i++)
		if ((where->all[i] & ~matched[i]) || (where->none[i] & matched[i]))
			return false;
	return where->hooks & 1u << hook;
}

/* interface: NULL: one that no rule names. */
static int interface_rows(struct compiler *compiler, const struct fm_filter_interface *interface,
			  uint16_t ret[_FM_HOOK_MAX])
{
	const struct fm_clauses *clauses = &compiler->rules->clauses;
	uint64_t matched[FM_FILTER_PATTERNS / 64];

	match_patterns(compiler->rules, interface, matched);
	for (unsigned int hook = 0; hook < _FM_HOOK_MAX; hook++) {
		struct fm_filter_row row = {};
		int number;

		for (size_t c = 0; c < clauses->n; c++)
			if (where_has(&clauses->v[c].where, matched, hook))
				set_bit(&row, c);
		number = find_row(compiler, &row);
		if (number < 0)
			return number;
		ret[hook] = (uint16_t)number;
	}
	return 0;
}

static int place_interface(struct fm_filter *filter, uint32_t ifindex,
			   const uint16_t row[_FM_HOOK_MAX])
{
	uint32_t home = FM_FILTER_HOME(ifindex);

	for (uint32_t i = 0; i < FM_FILTER_PROBES; i++) {
		uint32_t at = (home + i) & (FM_FILTER_INTERFACES - 1);

		if (filter->interface[at].ifindex && filter->interface[at].ifindex != ifindex)
			continue;
		filter->interface[at].ifindex = ifindex;
		memcpy(filter->interface[at].row, row, sizeof(filter->interface[at].row));
		return 0;
	}
	return -E2BIG;
}

static bool asks_for_interface(const struct fm_filter_where *where)
{
	for (unsigned int i = 0; i < FM_FILTER_PATTERNS / 64; i++)
		if (where->all[i] || where->none[i])
			return true;
	return where->hooks != FM_FILTER_HOOKS;
}

static int fill_interfaces(struct compiler *compiler, const struct fm_filter_interface *interfaces,
			   size_t n)
{
	const struct fm_clauses *clauses = &compiler->rules->clauses;
	struct fm_filter *filter = compiler->filter;
	size_t placed = 0;
	int r = interface_rows(compiler, NULL, filter->interface_row);

	for (size_t c = 0; c < clauses->n; c++)
		if (asks_for_interface(&clauses->v[c].where))
			filter->dimensions |= 1u << FM_BY_INTERFACE;
	for (size_t i = 0; i < n && r == 0; i++) {
		uint16_t row[_FM_HOOK_MAX];

		r = interface_rows(compiler, &interfaces[i], row);
		/* The others need no place. */
		if (r < 0 || !memcmp(row, filter->interface_row, sizeof(row)))
			continue;
		if (++placed > FM_FILTER_INTERFACES / 2)
			return -E2BIG;
		r = place_interface(filter, interfaces[i].ifindex, row);
	}
	return r;
}

/* --- the whole --- */

static void fill_rules(struct compiler *compiler, enum fm_filter_action otherwise,
		       const struct fm_filter_numbers *numbers)
{
	const struct fm_filter_rules *rules = compiler->rules;
	const uint16_t *place = numbers ? numbers->place : NULL;
	const uint8_t *sampler = numbers ? numbers->sampler : NULL;
	struct fm_filter *filter = compiler->filter;

	for (size_t i = 0; i < rules->n_rules; i++) {
		const struct fm_rule *rule = &rules->rules[i];

		filter->rule[i].action = (uint8_t)rule->action;
		filter->rule[i].place = place ? place[i] : (uint16_t)i;
		filter->rule[i].sampler = sampler ? sampler[rule->sampler] : (uint8_t)rule->sampler;
		for (size_t c = 0; c < rule->n_clauses; c++)
			filter->rule_of[rule->first_clause + c] = (uint16_t)i;
	}
	filter->rule[rules->n_rules].action = (uint8_t)otherwise;
	filter->rule[rules->n_rules].place =
		place ? place[rules->n_rules] : (uint16_t)rules->n_rules;
	/* Behind the clauses of rules none holds, and fm_filter_clause() says the last. */
	for (size_t c = rules->clauses.n; c < FM_FILTER_CLAUSES; c++)
		filter->rule_of[c] = (uint16_t)rules->n_rules;
	for (size_t i = 1; i < rules->n_samplers; i++)
		filter->sampler[sampler ? sampler[i] : i] = rules->samplers[i];
}

static int fill_all(struct compiler *compiler, const struct fm_filter_interface *interfaces,
		    size_t n_interfaces, struct fm_filter_tables *ret, struct fm_buf *complaint)
{
	_fm_cleanup_free_ struct sayings *sayings = malloc(sizeof(*sayings));
	int r = sayings ? 0 : -ENOMEM;

	for (size_t c = 0; c < compiler->rules->clauses.n; c++)
		set_bit(&compiler->used, c);
	memset(&compiler->filter->row[0], 0xff, sizeof(compiler->filter->row[0]));
	compiler->n_rows = 1;
	compiler->most_rows = FM_FILTER_ROWS - INTERFACE_ROWS;
	compiler->filter->n_words = (uint32_t)((compiler->rules->clauses.n + 63) / 64);
	if (r == 0)
		r = fill_numbers(compiler, sayings);
	if (r == 0)
		r = fill_addresses(compiler, sayings, ret);
	if (r == -E2BIG)
		fm_buf_printf(
			complaint,
			"the rules tell too many kinds of packets apart: expected fewer rules");
	if (r < 0)
		return r;
	compiler->most_rows = FM_FILTER_ROWS;
	r = fill_interfaces(compiler, interfaces, n_interfaces);
	if (r == -E2BIG)
		fm_buf_printf(
			complaint,
			"more interfaces than the rules can tell apart: expected at most %d that rules name",
			FM_FILTER_INTERFACES / 2);
	return r;
}

int fm_filter_compile(const struct fm_filter_rules *rules, enum fm_filter_action otherwise,
		      const struct fm_filter_numbers *numbers,
		      const struct fm_filter_interface *interfaces, size_t n_interfaces,
		      struct fm_filter_tables *ret, struct fm_buf *complaint)
{
	_fm_cleanup_free_ struct compiler *compiler = calloc(1, sizeof(*compiler));
	_fm_cleanup_filter_ struct fm_filter_tables tables = {};
	int r;

	tables.filter = calloc(1, sizeof(*tables.filter));
	if (!compiler || !tables.filter)
		return -ENOMEM;
	compiler->rules = rules;
	compiler->filter = tables.filter;
	r = fill_all(compiler, interfaces, n_interfaces, &tables, complaint);
	if (r < 0)
		return r;
	fill_rules(compiler, otherwise, numbers);
	*ret = tables;
	tables = (struct fm_filter_tables){};
	return 0;
}

int fm_filter_check(const struct fm_filter_rules *rules, struct fm_buf *complaint)
{
	_fm_cleanup_filter_ struct fm_filter_tables tables = {};

	return fm_filter_compile(rules, FM_FILTER_INCLUDE, NULL, NULL, 0, &tables, complaint);
}

void fm_filter_tables_done(struct fm_filter_tables *tables)
{
	free(tables->filter);
	free(tables->prefixes);
	*tables = (struct fm_filter_tables){};
}

/* --- a packet --- */

static int compare_nets(const void *a, const void *b)
{
	const struct fm_filter_net *x = a;
	const struct fm_filter_prefix *y = b;
	int order = memcmp(x->addr, y->net.addr, sizeof(x->addr));

	return order ? order : (int)x->length - (int)y->net.length;
}

/* The rows of the longest prefix that has the address. */
static const struct fm_filter_net_rows *find_net(const struct fm_filter_tables *tables,
						 const uint8_t addr[16])
{
	struct fm_filter_point address = fm_filter_point_of(addr);

	for (unsigned int length = 128;; length--) {
		struct fm_filter_point behind =
			fm_prefix_last((struct fm_prefix){.length = length});
		struct fm_filter_net net = {.length = length};
		const struct fm_filter_prefix *found;

		fm_filter_point_write((struct fm_filter_point){address.high & ~behind.high,
							       address.low & ~behind.low},
				      net.addr);
		found = bsearch(&net, tables->prefixes, tables->n_prefixes,
				sizeof(*tables->prefixes), compare_nets);
		if (found)
			return &found->rows; /* that of all addresses at last */
	}
}

static uint16_t find_interface(const struct fm_filter *filter, uint32_t ifindex, enum fm_hook hook)
{
	for (uint32_t i = 0; i < FM_FILTER_PROBES; i++) {
		uint32_t at = (FM_FILTER_HOME(ifindex) + i) & (FM_FILTER_INTERFACES - 1);

		if (filter->interface[at].ifindex == ifindex)
			return filter->interface[at].row[hook];
	}
	return filter->interface_row[hook];
}

unsigned int fm_filter_look(const struct fm_filter_tables *tables,
			    const struct fm_filter_packet *packet)
{
	const struct fm_filter *filter = tables->filter;
	uint32_t row[_FM_BY_MAX];

	for (unsigned int side = 0; side < 2; side++) {
		row[FM_BY_SOURCE + side] = find_net(tables, packet->addr[side])->row[side];
		row[FM_BY_SOURCE_PORT + side] = packet->has_ports
							? filter->port[side][packet->port[side]]
							: filter->no_port[side];
	}
	row[FM_BY_PROTOCOL] = filter->protocol[packet->family == 6][packet->protocol];
	row[FM_BY_VLAN] = filter->vlan[packet->vlan & FM_FILTER_VLAN_TOP];
	row[FM_BY_FLAGS] = packet->has_flags ? filter->flags[packet->flags] : filter->no_flags;
	row[FM_BY_INTERFACE] = find_interface(filter, packet->ifindex, packet->hook);
	return filter->rule_of[fm_filter_clause(filter, row)];
}
