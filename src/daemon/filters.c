/* SPDX-License-Identifier: Apache-2.0 */
/* Rules in the kernel: see filters.h. Called by the manager. */
#include "daemon/filters.h"

#include <errno.h>
#include <net/if.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <bpf/bpf.h>

#include "base/log.h"
#include "base/macro.h"
#include "base/siphash.h"
#include "daemon/region.h"

static const char *const otherwise_texts[] = {
	[FM_FILTER_INCLUDE] = "default = include",
	[FM_FILTER_EXCLUDE] = "default = exclude",
};

struct interface {
	uint32_t ifindex;
	char *name, *ns; /* ns NULL: the daemon's own */
};

struct names {
	struct interface *v;
	size_t n;
};

struct fm_filters {
	struct fm_kernel *kernel;
	const struct fm_filter_rules *rules; /* NULL: none hold */
	enum fm_filter_action otherwise;
	uint16_t place[FM_FILTER_RULES]; /* of each rule, then of the others */
	struct fm_filter *tables;	 /* shared with the programs; NULL: none hold */
	struct names names;
};

static void interface_done(struct interface *interface)
{
	free(interface->name);
	free(interface->ns);
}

static void names_done(struct names *names)
{
	for (size_t i = 0; i < names->n; i++)
		interface_done(&names->v[i]);
	free(names->v);
	*names = (struct names){};
}

int fm_filters_new(struct fm_filters **ret, struct fm_kernel *kernel)
{
	struct fm_filters *filters = calloc(1, sizeof(*filters));

	if (!filters)
		return -ENOMEM;
	filters->kernel = kernel;
	*ret = filters;
	return 0;
}

static void unmap_tables(struct fm_filter *tables)
{
	fm_region_unmap(tables, 1, sizeof(*tables));
}

struct fm_filters *fm_filters_free(struct fm_filters *filters)
{
	if (!filters)
		return NULL;
	unmap_tables(filters->tables);
	names_done(&filters->names);
	free(filters);
	return NULL;
}

/* --- where rules are counted, and numbers of samplers --- */

static const char *rule_text(const struct fm_filter_rules *rules, enum fm_filter_action otherwise,
			     size_t number)
{
	return number < rules->n_rules ? rules->rules[number].text : otherwise_texts[otherwise];
}

static uint64_t identity_of(const char *text)
{
	static const uint8_t key[16]; /* nobody gains by two rules that count at one place */
	uint64_t identity = fm_siphash(key, text, strlen(text));

	return identity ? identity : 1;
}

static bool is_among(const uint16_t *places, size_t n, uint16_t place)
{
	for (size_t i = 0; i < n; i++)
		if (places[i] == place)
			return true;
	return false;
}

/* Whether rules that hold are counted at a place. */
static bool is_in_use(const struct fm_filters *filters, uint16_t place)
{
	return filters->rules && is_among(filters->place, filters->rules->n_rules + 1, place);
}

static void begin_place(const struct fm_filters *filters, uint16_t place, uint64_t identity)
{
	struct fm_rule_count *counts = fm_kernel_rules(filters->kernel);

	for (unsigned int cpu = 0; cpu < fm_kernel_cpus(filters->kernel); cpu++) {
		struct fm_rule_count *count = &counts[FM_RULE_ELEMENT(cpu, place)];
		struct fm_sampler sampler = count->sampler;

		*count = (struct fm_rule_count){.sampler = sampler};
	}
	counts[place].identity = identity;
}

/*
 * A rule that was there before goes on where it was counted; another takes a place that nobody
 * counts at: never used, else of a rule that is gone.
 */
static int find_place(const struct fm_filters *filters, uint16_t *places, size_t number,
		      uint64_t identity)
{
	const struct fm_rule_count *counts = fm_kernel_rules(filters->kernel);

	for (uint16_t place = 0; place < FM_FILTER_PLACES; place++)
		if (counts[place].identity == identity && !is_among(places, number, place)) {
			places[number] = place;
			return 0;
		}
	for (unsigned int used = 0; used < 2; used++)
		for (uint16_t place = 0; place < FM_FILTER_PLACES; place++)
			if ((used || !counts[place].identity) && !is_in_use(filters, place) &&
			    !is_among(places, number, place)) {
				begin_place(filters, place, identity);
				places[number] = place;
				return 0;
			}
	return -E2BIG;
}

static int find_places(const struct fm_filters *filters, const struct fm_filter_rules *rules,
		       enum fm_filter_action otherwise, uint16_t *ret)
{
	int r = 0;

	for (size_t i = 0; i <= rules->n_rules && r == 0; i++)
		r = find_place(filters, ret, i, identity_of(rule_text(rules, otherwise, i)));
	return r;
}

static bool is_sampler(const struct fm_sampler *a, const struct fm_sampler *b)
{
	return a->interval == b->interval && a->method == b->method;
}

/* Whether the rules that hold have a sampler of this number. */
static bool is_sampling(const struct fm_filters *filters, uint8_t number)
{
	return filters->tables && filters->tables->sampler[number].interval;
}

/* Records bear the number of their sampler: one that was given means the same for good. */
static uint8_t find_sampler(const struct fm_filters *filters, const struct fm_sampler *sampler,
			    const uint8_t *given, size_t n_given)
{
	struct fm_rule_count *counts = fm_kernel_rules(filters->kernel);

	for (uint8_t i = 1; i < FM_FILTER_SAMPLERS; i++)
		if (is_sampler(&counts[i].sampler, sampler))
			return i;
	for (unsigned int used = 0; used < 2; used++)
		for (uint8_t i = 1; i < FM_FILTER_SAMPLERS; i++) {
			if ((!used && counts[i].sampler.interval) || is_sampling(filters, i) ||
			    memchr(given, i, n_given))
				continue;
			if (used)
				fm_log_warning(
					"sampler %u is another from now on: flows of the one before that are still open are said to be its own",
					i);
			counts[i].sampler = *sampler;
			return i;
		}
	return 0;
}

static int find_samplers(const struct fm_filters *filters, const struct fm_filter_rules *rules,
			 uint8_t ret[FM_FILTER_SAMPLERS])
{
	ret[0] = 0;
	for (size_t i = 1; i < rules->n_samplers; i++) {
		ret[i] = find_sampler(filters, &rules->samplers[i], ret + 1, i - 1);
		if (!ret[i])
			return -E2BIG;
	}
	return 0;
}

/* --- tables --- */

static int make_nets(const struct fm_filter_tables *tables, int *ret)
{
	int r = 0, fd = fm_region_trie_new("fm_nets", sizeof(struct fm_filter_net_rows));

	if (fd < 0)
		return fd;
	for (size_t i = 0; i < tables->n_prefixes && r == 0; i++)
		if (bpf_map_update_elem(fd, &tables->prefixes[i].net, &tables->prefixes[i].rows,
					BPF_ANY) < 0)
			r = -errno;
	if (r < 0)
		close(fd);
	else
		*ret = fd;
	return r;
}

static int put(const struct fm_filters *filters, bool nets, uint32_t bank, int fd)
{
	int outer = fm_kernel_filter_fd(filters->kernel, nets);

	return bpf_map_update_elem(outer, &bank, &fd, BPF_ANY) < 0 ? -errno : 0;
}

/* Waits until no program uses them. */
static void drop(const struct fm_filters *filters, uint32_t bank)
{
	for (unsigned int nets = 0; nets < 2; nets++)
		bpf_map_delete_elem(fm_kernel_filter_fd(filters->kernel, nets), &bank);
}

static uint32_t bank_in_use(const struct fm_filters *filters)
{
	return (fm_kernel_filter(filters->kernel) - 1) % FM_FILTER_BANKS;
}

/* Puts tables into the bank that is not in use, then they hold. */
static int publish(struct fm_filters *filters, const struct fm_filter_tables *tables)
{
	uint32_t before = bank_in_use(filters), bank = !before;
	_fm_cleanup_close_ int fd = -1, nets_fd = -1;
	void *memory = NULL;
	int r = make_nets(tables, &nets_fd);

	if (r == 0)
		r = fm_region_map_new("fm_filter", 1, sizeof(*tables->filter), &fd, &memory);
	if (r < 0)
		return r;
	memcpy(memory, tables->filter, sizeof(*tables->filter));
	r = put(filters, true, bank, nets_fd);
	if (r == 0)
		r = put(filters, false, bank, fd);
	if (r < 0) {
		unmap_tables(memory);
		drop(filters, bank);
		return r;
	}
	fm_kernel_set_filter(filters->kernel, bank + 1);
	drop(filters, before);
	unmap_tables(filters->tables);
	filters->tables = memory;
	return 0;
}

static int compile(const struct fm_filters *filters, const struct fm_filter_rules *rules,
		   enum fm_filter_action otherwise, const uint16_t *place,
		   struct fm_filter_tables *ret)
{
	_fm_cleanup_free_ struct fm_filter_interface *interfaces =
		calloc(filters->names.n + 1, sizeof(*interfaces));
	_fm_cleanup_buf_ struct fm_buf complaint = {};
	uint8_t sampler[FM_FILTER_SAMPLERS];
	const struct fm_filter_numbers numbers = {place, sampler};
	int r;

	if (!interfaces)
		return -ENOMEM;
	for (size_t i = 0; i < filters->names.n; i++)
		interfaces[i] = (struct fm_filter_interface){
			.ifindex = filters->names.v[i].ifindex,
			.name = filters->names.v[i].name,
			.ns = filters->names.v[i].ns,
		};
	r = find_samplers(filters, rules, sampler);
	if (r == 0)
		r = fm_filter_compile(rules, otherwise, &numbers, interfaces, filters->names.n, ret,
				      &complaint);
	if (r < 0 && complaint.size)
		fm_log_error("filter: %s", complaint.data);
	return r;
}

/* Programs count everything. */
static void hold_none(struct fm_filters *filters)
{
	fm_kernel_set_filter(filters->kernel, 0);
	for (uint32_t bank = 0; bank < FM_FILTER_BANKS; bank++)
		drop(filters, bank);
	unmap_tables(filters->tables);
	filters->tables = NULL;
	filters->rules = NULL;
}

int fm_filters_set(struct fm_filters *filters, const struct fm_filter_rules *rules,
		   enum fm_filter_action otherwise)
{
	_fm_cleanup_filter_ struct fm_filter_tables tables = {};
	uint16_t place[FM_FILTER_RULES];
	int r;

	if (!rules->n_rules && otherwise == FM_FILTER_INCLUDE) {
		hold_none(filters);
		return 0;
	}
	r = find_places(filters, rules, otherwise, place);
	if (r == 0)
		r = compile(filters, rules, otherwise, place, &tables);
	if (r == 0)
		r = publish(filters, &tables);
	if (r < 0)
		return r;
	memcpy(filters->place, place, (rules->n_rules + 1) * sizeof(*place));
	filters->rules = rules;
	filters->otherwise = otherwise;
	return 0;
}

/* --- interfaces --- */

static int names_add(struct names *names, const struct fm_filter_interface *interface)
{
	struct interface *grown = reallocarray(names->v, names->n + 1, sizeof(*grown));
	struct interface new = {.ifindex = interface->ifindex};

	if (!grown)
		return -ENOMEM;
	names->v = grown;
	new.name = strdup(interface->name);
	new.ns = interface->ns ? strdup(interface->ns) : NULL;
	if (!new.name || (interface->ns && !new.ns)) {
		interface_done(&new);
		return -ENOMEM;
	}
	names->v[names->n++] = new;
	return 0;
}

static struct interface *names_find(const struct names *names, uint32_t ifindex)
{
	for (size_t i = 0; i < names->n; i++)
		if (names->v[i].ifindex == ifindex)
			return &names->v[i];
	return NULL;
}

static bool is_named(const struct interface *known, const char *name, const char *ns)
{
	return known && !strcmp(known->name, name) &&
	       !strcmp(known->ns ? known->ns : "", ns ? ns : "");
}

/* The same rules for the interfaces that there are now. */
static int renew(struct fm_filters *filters)
{
	_fm_cleanup_filter_ struct fm_filter_tables tables = {};
	int r;

	if (!filters->rules || !filters->rules->n_patterns)
		return 0;
	r = compile(filters, filters->rules, filters->otherwise, filters->place, &tables);
	/* Most interfaces are named by no rule. */
	if (r < 0 || !memcmp(tables.filter, filters->tables, sizeof(*tables.filter)))
		return r;
	return publish(filters, &tables);
}

int fm_filters_add(struct fm_filters *filters, const struct fm_filter_interface *interface)
{
	struct interface *known = names_find(&filters->names, interface->ifindex);
	int r;

	if (is_named(known, interface->name, interface->ns))
		return 0;
	if (known) { /* its number was another's, or it had another name */
		interface_done(known);
		*known = filters->names.v[--filters->names.n];
	}
	r = names_add(&filters->names, interface);
	return r < 0 ? r : renew(filters);
}

struct walk {
	struct names names;
	const struct fm_numbering *numbering;
	int error;
};

static void note(void *argument, const struct fm_device *device, const struct fm_plan *plan)
{
	struct walk *walk = argument;
	const struct fm_filter_interface interface = {
		FM_INTERFACES_BASE(device->ns) + device->ifindex, device->name,
		fm_numbering_name(walk->numbering, device->ns)};
	int r = names_add(&walk->names, &interface);

	if (r < 0)
		walk->error = r;
}

static bool is_same(const struct names *a, const struct names *b)
{
	bool same = a->n == b->n;

	for (size_t i = 0; i < a->n && same; i++)
		same = is_named(names_find(b, a->v[i].ifindex), a->v[i].name, a->v[i].ns);
	return same;
}

int fm_filters_follow(struct fm_filters *filters, struct fm_interfaces *interfaces,
		      const struct fm_numbering *numbering)
{
	struct walk walk = {.numbering = numbering};
	int r;

	fm_interfaces_for_each(interfaces, note, &walk);
	r = walk.error;
	if (r == 0 && !is_same(&walk.names, &filters->names)) {
		struct names before = filters->names;

		filters->names = walk.names;
		walk.names = before;
		r = renew(filters);
	}
	names_done(&walk.names);
	return r;
}

static void if_names_done(struct if_nameindex **names)
{
	if (*names)
		if_freenameindex(*names);
}

int fm_filters_start(struct fm_filters *filters, const struct fm_filter_rules *rules,
		     enum fm_filter_action otherwise)
{
	_fm_cleanup_(if_names_done) struct if_nameindex *names = if_nameindex();
	int r = 0;

	for (size_t i = 0; names && names[i].if_index && r == 0; i++) {
		const struct fm_filter_interface interface = {names[i].if_index, names[i].if_name,
							      NULL};

		r = fm_filters_add(filters, &interface);
	}
	return r < 0 ? r : fm_filters_set(filters, rules, otherwise);
}

/* --- what is told --- */

bool fm_filters_count(const struct fm_filters *filters, size_t number, struct fm_filters_count *ret)
{
	const struct fm_rule_count *counts;

	*ret = (struct fm_filters_count){};
	if (!filters || !filters->rules || number > filters->rules->n_rules)
		return false;
	counts = fm_kernel_rules(filters->kernel);
	ret->text = rule_text(filters->rules, filters->otherwise, number);
	for (unsigned int cpu = 0; cpu < fm_kernel_cpus(filters->kernel); cpu++) {
		const struct fm_rule_count *count =
			&counts[FM_RULE_ELEMENT(cpu, filters->place[number])];

		ret->matched.packets += count->matched.packets;
		ret->matched.octets += count->matched.octets;
		ret->counted.packets += count->counted.packets;
		ret->counted.octets += count->counted.octets;
	}
	return true;
}

struct fm_sampler fm_filters_sampler(const struct fm_filters *filters, unsigned int number)
{
	if (!number || number >= FM_FILTER_SAMPLERS)
		return (struct fm_sampler){};
	return fm_kernel_rules(filters->kernel)[number].sampler;
}
