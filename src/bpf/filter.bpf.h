/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * Which packets are counted, as the rules of filter.h say: filters, and samplers, which count some
 * of the packets. Called by flowmond.bpf.c, once for each packet at its first hook.
 */
#ifndef FM_FILTER_BPF_H
#define FM_FILTER_BPF_H

#include "hash.h"
#include "parse.bpf.h"
#include "table.bpf.h"

/* As fm_slot_described in table.bpf.h. */
const struct fm_filter *fm_filter_described __attribute__((unused));
const struct fm_filter_net *fm_filter_net_described __attribute__((unused));
const struct fm_filter_net_rows *fm_filter_net_rows_described __attribute__((unused));

struct fm_filter_map {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(map_flags, BPF_F_MMAPABLE);
	__uint(max_entries, 1);
	__type(key, __u32);
	__type(value, struct fm_filter);
};

struct fm_filter_nets_map {
	__uint(type, BPF_MAP_TYPE_LPM_TRIE);
	__uint(map_flags, BPF_F_NO_PREALLOC);
	__uint(max_entries, FM_FILTER_NETS);
	__type(key, struct fm_filter_net);
	__type(value, struct fm_filter_net_rows);
};

/* By bank: fm_live.filter says which one holds. */
struct {
	__uint(type, BPF_MAP_TYPE_ARRAY_OF_MAPS);
	__uint(max_entries, FM_FILTER_BANKS);
	__type(key, __u32);
	__array(values, struct fm_filter_map);
} fm_filters SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_ARRAY_OF_MAPS);
	__uint(max_entries, FM_FILTER_BANKS);
	__type(key, __u32);
	__array(values, struct fm_filter_nets_map);
} fm_filter_nets SEC(".maps");

/* FM_RULE_ELEMENT; sized before loading, by possible CPUs. */
struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(map_flags, BPF_F_MMAPABLE);
	__uint(max_entries, 1);
	__type(key, __u32);
	__type(value, struct fm_rule_count);
} fm_rules SEC(".maps");

/* The packet that this CPU asks about, and the answer. */
struct fm_filter_work {
	struct fm_key key; /* addresses, ports, protocol, family */
	__u32 direction;
	__u32 packets; /* of the packet, then those that are counted */
	__u32 octets;
	__u32 asked_octets; /* of the packet, whatever is counted */
	__u16 min_length;
	__u16 max_length;
	__u16 vlan;
	__u8 tcp_flags;
	__u8 has_flags;
	__u32 row[_FM_BY_MAX];
	struct fm_filter_net net;
	__u32 action;  /* enum fm_filter_action */
	__u32 sampler; /* number, 0: none */
	__u32 some;    /* it is one of those of which a sampler takes some packets */
};

struct {
	__uint(type, BPF_MAP_TYPE_PERCPU_ARRAY);
	__uint(max_entries, 1);
	__type(key, __u32);
	__type(value, struct fm_filter_work);
} fm_asked SEC(".maps");

static __always_inline struct fm_filter_work *fm_filter_work_here(void)
{
	__u32 zero = 0;

	return bpf_map_lookup_elem(&fm_asked, &zero);
}

/* Before the key is extended. */
static __always_inline void fm_filter_set(struct fm_filter_work *work,
					  const struct fm_packet *packet, int has_flags)
{
	__builtin_memcpy(&work->key, &packet->key, sizeof(work->key));
	work->direction = packet->direction;
	work->packets = packet->packets;
	work->octets = packet->octets;
	work->asked_octets = packet->octets;
	work->min_length = packet->min_length;
	work->max_length = packet->max_length;
	work->vlan = packet->vlan;
	work->tcp_flags = packet->tcp_flags;
	work->has_flags = has_flags && packet->key.protocol == IPPROTO_TCP;
	work->action = FM_FILTER_INCLUDE;
	work->sampler = 0;
	work->some = 0;
}

static __always_inline int fm_has_ports(__u8 protocol)
{
	return protocol == IPPROTO_TCP || protocol == IPPROTO_UDP || protocol == IPPROTO_SCTP ||
	       protocol == IPPROTO_UDPLITE || protocol == IPPROTO_DCCP;
}

/* Row numbers of the two addresses. */
static __always_inline void fm_filter_nets_find(struct fm_filter_work *work, __u32 bank)
{
	void *nets = bpf_map_lookup_elem(&fm_filter_nets, &bank);

	if (!nets)
		return;
	for (__u32 side = 0; side < 2; side++) {
		const struct fm_filter_net_rows *rows;

		work->net.length = 128;
		__builtin_memcpy(work->net.addr, work->key.addr[(work->direction ^ side) & 1],
				 sizeof(work->net.addr));
		rows = bpf_map_lookup_elem(nets, &work->net);
		if (rows)
			work->row[FM_BY_SOURCE + side] = rows->row[side];
	}
}

static __always_inline __u32 fm_filter_interface(const struct fm_filter *filter, __u32 interface,
						 int hook)
{
	__u32 home = FM_FILTER_HOME(interface);

	for (__u32 i = 0; i < FM_FILTER_PROBES; i++) {
		__u32 at = (home + i) & (FM_FILTER_INTERFACES - 1);

		if (filter->interface[at].ifindex == interface)
			return filter->interface[at].row[hook & 1];
	}
	return filter->interface_row[hook & 1];
}

/* The rows of all that the rules ask for; the others are row 0. */
static __always_inline void fm_filter_rows(const struct fm_filter *filter,
					   struct fm_filter_work *work, __u32 interface, int hook,
					   __u32 bank)
{
	__u32 asked = filter->dimensions, from = work->direction & 1;

	for (__u32 i = 0; i < _FM_BY_MAX; i++)
		work->row[i] = 0;
	if (asked & (1 << FM_BY_SOURCE | 1 << FM_BY_DESTINATION))
		fm_filter_nets_find(work, bank);
	if (asked & (1 << FM_BY_SOURCE_PORT | 1 << FM_BY_DESTINATION_PORT)) {
		int ports = fm_has_ports(work->key.protocol);

		work->row[FM_BY_SOURCE_PORT] =
			ports ? filter->port[0][bpf_ntohs(work->key.port[from])]
			      : filter->no_port[0];
		work->row[FM_BY_DESTINATION_PORT] =
			ports ? filter->port[1][bpf_ntohs(work->key.port[!from])]
			      : filter->no_port[1];
	}
	if (asked & 1 << FM_BY_PROTOCOL)
		work->row[FM_BY_PROTOCOL] =
			filter->protocol[work->key.family == 6][work->key.protocol];
	if (asked & 1 << FM_BY_VLAN)
		work->row[FM_BY_VLAN] = filter->vlan[work->vlan & 0xfff];
	if (asked & 1 << FM_BY_FLAGS)
		work->row[FM_BY_FLAGS] =
			work->has_flags ? filter->flags[work->tcp_flags] : filter->no_flags;
	if (asked & 1 << FM_BY_INTERFACE)
		work->row[FM_BY_INTERFACE] = fm_filter_interface(filter, interface, hook);
}

/* Which of the N packets that begin now a sampler of packets takes. */
static __always_inline __u32 fm_sample_choose(__u32 interval, __u32 method)
{
	if (method == FM_SAMPLE_COUNT)
		return interval - 1;
	return (__u64)bpf_get_prandom_u32() * interval >> 32;
}

/*
 * Takes one of each N packets that a rule decides about on this CPU. A super-packet stands for
 * several, all as long as the longest but the last, which is as long as the shortest.
 */
static __always_inline void fm_sample_packets(struct fm_filter_work *work,
					      struct fm_rule_count *count, __u32 interval,
					      __u32 method)
{
	__u32 first = count->position, end, whole, taken, octets;
	int last;

	if (!first || first >= interval || count->chosen >= interval) {
		first = 0;
		count->chosen = fm_sample_choose(interval, method);
	}
	end = first + work->packets - 1; /* the last packet */
	whole = end / interval;
	end -= whole * interval;
	taken = count->chosen >= first;
	if (whole) {
		count->chosen = fm_sample_choose(interval, method);
		taken += whole - 1 + (count->chosen <= end);
	} else {
		taken = taken && count->chosen <= end;
	}
	last = taken && count->chosen == end;
	count->position = end + 1 < interval ? end + 1 : 0;
	work->some = 1;
	octets = taken * work->max_length;
	if (work->packets == 1)
		octets = taken ? work->octets : 0;
	else if (last)
		octets -= work->max_length - work->min_length;
	work->packets = taken;
	work->octets = octets;
	if (!last)
		work->min_length = work->max_length;
	else if (taken == 1)
		work->max_length = work->min_length;
}

/* One of N conversations, by a hash that is not the one that finds their place. */
static __always_inline void fm_sample_flows(struct fm_filter_work *work, __u32 interval)
{
	__u64 hash = fm_hash_mix(fm_hash(&work->key, fm_ro.seed) * 0x9e3779b97f4a7c15ULL);

	if ((hash >> 32) * interval >> 32) {
		work->packets = 0;
		work->octets = 0;
	}
}

static __always_inline void fm_filter_decide(const struct fm_filter *filter,
					     struct fm_filter_work *work,
					     const struct fm_filter_rule *rule,
					     struct fm_rule_count *count)
{
	__u32 number = rule->sampler & (FM_FILTER_SAMPLERS - 1), interval, method;

	work->action = rule->action;
	if (rule->action == FM_FILTER_EXCLUDE) {
		work->packets = 0;
		work->octets = 0;
		return;
	}
	interval = filter->sampler[number].interval;
	method = filter->sampler[number].method;
	if (rule->action != FM_FILTER_SAMPLE || !interval)
		return;
	work->sampler = number;
	if (method == FM_SAMPLE_FLOWS)
		fm_sample_flows(work, interval);
	else if (count)
		fm_sample_packets(work, count, interval, method);
	else
		work->some = 1;
}

/*
 * Asks the rules about the packet of fm_filter_set(): the answer stands in the work; 0: nothing of
 * it is counted. counts: not for a packet that an earlier hook counted, which was taken or not.
 * Verified by itself.
 */
FM_GLOBAL int fm_filter_ask(__u32 interface, int hook, int counts)
{
	__u32 zero = 0, element, bank = FM_READ_ONCE(fm_live.filter) - 1;
	struct fm_filter_work *work = fm_filter_work_here();
	void *map = bpf_map_lookup_elem(&fm_filters, &bank);
	const struct fm_filter_rule *rule;
	struct fm_rule_count *count = NULL;
	const struct fm_filter *filter;

	if (!work || !map)
		return 1;
	filter = bpf_map_lookup_elem(map, &zero);
	if (!filter)
		return 1;
	fm_filter_rows(filter, work, interface, hook, bank);
	element = filter->rule_of[fm_filter_clause(filter, work->row) & (FM_FILTER_CLAUSES - 1)];
	rule = &filter->rule[element & (FM_FILTER_RULES - 1)];
	if (counts) {
		element = FM_RULE_ELEMENT(bpf_get_smp_processor_id(),
					  rule->place & (FM_FILTER_PLACES - 1));
		count = bpf_map_lookup_elem(&fm_rules, &element);
	}
	if (count) {
		count->matched.packets += work->packets;
		count->matched.octets += work->octets;
	}
	fm_filter_decide(filter, work, rule, count);
	if (count) {
		count->counted.packets += work->packets;
		count->counted.octets += work->octets;
	}
	return !!work->packets;
}

/* Where what is in no flow is counted. */
static __always_inline struct fm_count *fm_filter_left(struct fm_counters *counters, __u32 action)
{
	return &counters->count[action == FM_FILTER_EXCLUDE ? FM_COUNTER_filtered
							    : FM_COUNTER_not_sampled];
}

/* A packet that was parsed becomes what is counted of it. */
static __always_inline void fm_filter_packet(struct fm_parser *parser, __u32 interface, int hook,
					     int asked)
{
	struct fm_filter_work *work = fm_filter_work_here();
	struct fm_packet *packet = &parser->packet;

	if (!work)
		return;
	if (!asked) {
		fm_filter_set(work, packet, packet->transport);
		fm_filter_ask(interface, hook, !parser->again);
	}
	packet->key.tunnel_type |= work->sampler << FM_KEY_SAMPLER_SHIFT;
	parser->some = work->some;
	parser->action = work->action;
	parser->left = packet->packets - work->packets;
	parser->left_octets = packet->octets - work->octets;
	if (parser->again)
		return;
	packet->packets = work->packets;
	packet->octets = work->octets;
	packet->min_length = work->min_length;
	packet->max_length = work->max_length;
}

#endif
