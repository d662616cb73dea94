/* SPDX-License-Identifier: Apache-2.0 */
/* Folding partial flows: see fold.h. */
#include "daemon/fold.h"

#include <string.h>

#define FM_TCP_FIN 0x01
#define FM_TCP_RST 0x04

/* One read a member: the program of another CPU may be writing. */
#define READ(member) __atomic_load_n(&(member), __ATOMIC_RELAXED)

void fm_fold_init(struct fm_conversation *conversation, const struct fm_key *key)
{
	memset(conversation, 0, sizeof(*conversation));
	conversation->key = *key;
}

/* The fold rules; earlier and later compare from with into as they were before this fold. */
#define FOLD_SUM(name) into->name += from->name;
#define FOLD_MIN(name)                                                                             \
	if (from->name < into->name)                                                               \
		into->name = from->name;
#define FOLD_MAX(name)                                                                             \
	if (from->name > into->name)                                                               \
		into->name = from->name;
#define FOLD_OR(name) into->name |= from->name;
#define FOLD_LATEST(name)                                                                          \
	if (later)                                                                                 \
		into->name = from->name;
#define FOLD_FIRST(name)                                                                           \
	if (earlier)                                                                               \
		into->name = from->name;
#define FOLD_LAST(name)                                                                            \
	if (from->name && (later || !into->name))                                                  \
		into->name = from->name;

static void fold(struct fm_half *into, const struct fm_half *from)
{
	bool earlier = from->first_ns < into->first_ns;
	bool later = (int32_t)(from->last_tick - into->last_tick) > 0;

#define FM_METRIC(type, name, rule, help) FOLD_##rule(name)
#include "bpf/metrics.def"
#undef FM_METRIC
}

void fm_fold_merge(struct fm_half *into, const struct fm_half *from)
{
	if (into->packets)
		fold(into, from);
	else
		*into = *from;
}

void fm_fold_half(struct fm_conversation *conversation, unsigned int direction,
		  const struct fm_half *half)
{
	if (!conversation->seen[direction]) {
		conversation->half[direction] = *half;
		conversation->seen[direction] = true;
	} else {
		fold(&conversation->half[direction], half);
	}
}

#define SUBTRACT_SUM(name) half.name -= before->half[d].name;
#define SUBTRACT_MIN(name)
#define SUBTRACT_MAX(name)
#define SUBTRACT_OR(name)
#define SUBTRACT_LATEST(name)
#define SUBTRACT_FIRST(name)
#define SUBTRACT_LAST(name)

#define KEEP_SUM(name) ret_now->half[d].name = half.name;
#define KEEP_MIN(name)
#define KEEP_MAX(name)
#define KEEP_OR(name)
#define KEEP_LATEST(name)
#define KEEP_FIRST(name)
#define KEEP_LAST(name)

void fm_fold_slot(struct fm_conversation *conversation, const struct fm_slot *slot,
		  const struct fm_exported *before, struct fm_exported *ret_now)
{
	*ret_now = *before;
	for (unsigned int d = 0; d < 2; d++) {
		struct fm_half half;

		if (!READ(slot->half[d].packets))
			continue;
#define FM_METRIC(type, name, rule, help) half.name = READ(slot->half[d].name);
#include "bpf/metrics.def"
#undef FM_METRIC
#define FM_METRIC(type, name, rule, help) KEEP_##rule(name)
#include "bpf/metrics.def"
#undef FM_METRIC
		if (before->half[d].packets) {
			conversation->exported[d] = true;
			conversation->mark_tick = READ(slot->mark_tick);
		}
#define FM_METRIC(type, name, rule, help) SUBTRACT_##rule(name)
#include "bpf/metrics.def"
#undef FM_METRIC
		fm_fold_half(conversation, d, &half);
	}
}

/* Rows of tcp.def come with the half of their direction: its times say what is first and last. */
static void fold_tcp(struct fm_tcp_half *into, const struct fm_tcp_half *from, bool earlier,
		     bool later)
{
#define FM_TCP_METRIC(type, name, rule, help) FOLD_##rule(name)
#include "bpf/tcp.def"
#undef FM_TCP_METRIC
}

void fm_fold_tcp_merge(struct fm_tcp_half *into, const struct fm_tcp_half *from,
		       const struct fm_half *into_half, const struct fm_half *from_half)
{
	bool earlier = !into_half->packets || from_half->first_ns < into_half->first_ns;
	bool later =
		!into_half->packets || (int32_t)(from_half->last_tick - into_half->last_tick) > 0;

	fold_tcp(into, from, earlier, later);
}

void fm_fold_tcp(struct fm_conversation *conversation, const struct fm_slot *slot,
		 const struct fm_tcp_slot *tcp, const struct fm_tcp_exported *before,
		 struct fm_tcp_exported *ret_now)
{
	*ret_now = *before;
	if (FM_KEY_AGGREGATE_OF(&conversation->key))
		return;
	conversation->measured = true;
	for (unsigned int d = 0; d < 2; d++) {
		/* The slot was folded before: this one is the latest if its last packet is. */
		bool later = READ(slot->half[d].last_tick) == conversation->half[d].last_tick;
		bool earlier = READ(slot->half[d].first_ns) == conversation->half[d].first_ns;
		struct fm_tcp_half half = {};

		if (!READ(slot->half[d].packets))
			continue;
#define FM_TCP_METRIC(type, name, rule, help) half.name = READ(tcp->half[d].name);
#include "bpf/tcp.def"
#undef FM_TCP_METRIC
#define FM_TCP_METRIC(type, name, rule, help) KEEP_##rule(name)
#include "bpf/tcp.def"
#undef FM_TCP_METRIC
#define FM_TCP_METRIC(type, name, rule, help) SUBTRACT_##rule(name)
#include "bpf/tcp.def"
#undef FM_TCP_METRIC
		fold_tcp(&conversation->tcp[d], &half, earlier, later);
	}
}

void fm_fold_tunnel(struct fm_conversation *conversation, const struct fm_tunnel *tunnel)
{
	struct fm_tunnel *into = &conversation->tunnel;

	if (tunnel->type == FM_TUNNEL_NONE || FM_KEY_AGGREGATE_OF(&conversation->key))
		return;
	if (into->type == FM_TUNNEL_NONE) {
		*into = *tunnel;
		return;
	}
	for (unsigned int d = 0; d < 2; d++)
		if (into->id[d] == FM_TUNNEL_NO_ID)
			into->id[d] = READ(tunnel->id[d]);
}

bool fm_fold_ended(const struct fm_conversation *conversation)
{
	const struct fm_half *a = &conversation->half[0], *b = &conversation->half[1];

	if (FM_KEY_AGGREGATE_OF(&conversation->key) || FM_KEY_COARSE_OF(&conversation->key))
		return false;
	return ((a->tcp_flags | b->tcp_flags) & FM_TCP_RST) ||
	       (a->tcp_flags & b->tcp_flags & FM_TCP_FIN) || a->ends || b->ends;
}

bool fm_fold_brief(const struct fm_conversation *conversation)
{
	return !FM_KEY_AGGREGATE_OF(&conversation->key) && !conversation->exported[0] &&
	       !conversation->exported[1] && conversation->half[0].packets <= 1 &&
	       conversation->half[1].packets <= 1;
}

uint32_t fm_fold_last_tick(const struct fm_conversation *conversation)
{
	const struct fm_half *a = &conversation->half[0], *b = &conversation->half[1];

	if (!conversation->seen[1])
		return a->last_tick;
	if (!conversation->seen[0])
		return b->last_tick;
	return (int32_t)(a->last_tick - b->last_tick) > 0 ? a->last_tick : b->last_tick;
}

bool fm_fold_pending(const struct fm_conversation *conversation)
{
	return conversation->half[0].packets || conversation->half[1].packets;
}
