/* SPDX-License-Identifier: Apache-2.0 */
/* Programs against the model: see compare.h. */
#include "compare.h"

#include <stdio.h>
#include <string.h>

#include "base/clock.h"
#include "base/macro.h"

/* Well below what the kernel half remembers, in number and in time. */
#define FRAGMENTS_MAX	 2000
#define FRAGMENTS_MAX_NS (20 * 1000000000ULL)

static bool counted(const struct harness *h, enum fm_counter which, uint64_t packets,
		    uint64_t octets)
{
	struct fm_count count = harness_count(h, which);

	return count.packets == packets && count.octets == packets * octets;
}

static bool noted(const struct harness *h, enum fm_counter which, const struct model *m,
		  const struct compare_way *way, bool wanted)
{
	return counted(h, which, wanted && !way->again ? way->repeat : 0, m->octets);
}

static const char *half_differs(const struct fm_half *half, const struct model *m,
				const struct compare_way *way)
{
	uint64_t length = FM_MIN(m->octets, (uint64_t)UINT16_MAX);
	bool egress = way->hook == FM_HOOK_EGRESS;

	if (half->packets != way->repeat || half->octets != way->repeat * m->octets)
		return "packets or octets";
	if (half->min_length != length || half->max_length != length)
		return "lengths";
	if (half->min_ttl != m->ttl || half->max_ttl != m->ttl || half->tos != m->tos)
		return "ttl or tos";
	if (half->tcp_flags != m->tcp_flags || half->fragment_flags != m->fragment_flags ||
	    half->ends != m->ends)
		return "flags";
	if (half->vlan != m->vlan || half->cvlan != m->cvlan)
		return "vlan";
	if (half->flow_label != m->flow_label || half->mpls != m->mpls)
		return "labels";
	if (half->hook != way->hook || half->ingress_if != (egress ? 0 : way->ifindex) ||
	    half->egress_if != (egress ? way->ifindex : 0))
		return "hook or interfaces";
	return NULL;
}

/* Where tunnels are looked into. */
static const char *tunnel_differs(const struct fm_tunnel *tunnel, const struct model *m)
{
	if (tunnel->type != m->tunnel.type || tunnel->family != m->tunnel.family)
		return "tunnel's type";
	if (!m->tunnel.type)
		return NULL;
	if (tunnel->id[m->direction] != m->tunnel.id[0] ||
	    tunnel->id[!m->direction] != FM_TUNNEL_NO_ID)
		return "tunnel's id";
	if (memcmp(tunnel->addr[m->direction], m->tunnel.addr[0], 16) ||
	    memcmp(tunnel->addr[!m->direction], m->tunnel.addr[1], 16))
		return "tunnel's end points";
	return NULL;
}

/* Octets of tunnel headers that are not in those of the flow. */
static bool headers_counted(const struct harness *h, const struct model *m,
			    const struct compare_way *way)
{
	bool wanted = m->headers && !way->again;

	return counted(h, FM_COUNTER_tunnel_headers, wanted ? way->repeat : 0, m->headers);
}

const char *compare_differs(const struct harness *h, const struct model *m,
			    const struct compare_way *way)
{
	const struct fm_tunnel *tunnel;
	const char *why = NULL;
	struct fm_slot *slot;
	size_t n = harness_slots(h, &slot);
	bool flow = m->verdict == MODEL_FLOW && !way->again;

	if (!harness_identity(h))
		return "identity";
	if (!counted(h, FM_COUNTER_again, way->again ? way->repeat : 0, m->octets) ||
	    !noted(h, FM_COUNTER_not_ip, m, way, m->verdict == MODEL_NOT_IP) ||
	    !noted(h, FM_COUNTER_malformed, m, way, m->verdict == MODEL_MALFORMED))
		return "verdict";
	if (n != flow)
		return "number of flows";
	if (!noted(h, FM_COUNTER_cut_transport, m, way, m->cut_transport) ||
	    !noted(h, FM_COUNTER_cut_payload, m, way, m->cut_payload) ||
	    !noted(h, FM_COUNTER_deep_headers, m, way, m->deep_headers) ||
	    !noted(h, FM_COUNTER_fragment_orphan, m, way, m->orphan))
		return "notes";
	if (!noted(h, FM_COUNTER_tunnel_undecoded, m, way, m->undecoded) ||
	    !noted(h, FM_COUNTER_tunnel_deep, m, way, m->deep_tunnel) ||
	    !headers_counted(h, m, way))
		return "notes of tunnels";
	if (!flow)
		return NULL;
	if (memcmp(&slot->key, &m->key, sizeof(m->key)))
		return "key";
	if (slot->half[!m->direction].packets)
		return "direction";
	tunnel = harness_tunnel(h, slot);
	if (tunnel)
		why = tunnel_differs(tunnel, m);
	return why ? why : half_differs(&slot->half[m->direction], m, way);
}

void compare_dump(const char *why, const uint8_t *data, size_t length)
{
	printf("# %s, %zu octets:", why, length);
	for (size_t i = 0; i < length; i++)
		printf("%s%02x", i % 4 ? "" : " ", data[i]);
	putchar('\n');
}

void compare_forget(struct harness *h)
{
	static uint64_t begin_ns;
	uint64_t now_ns = fm_clock_monotonic_ns();

	if (model_fragments() <= FRAGMENTS_MAX && now_ns - begin_ns <= FRAGMENTS_MAX_NS)
		return;
	begin_ns = now_ns;
	model_forget();
	harness_forget_fragments(h);
}
