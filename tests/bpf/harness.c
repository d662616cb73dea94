/* SPDX-License-Identifier: Apache-2.0 */
/* Programs run on crafted packets: see harness.h. */
#include "harness.h"

#include <errno.h>
#include <linux/bpf.h>
#include <net/if.h>
#include <sched.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include <bpf/bpf.h>
#include <bpf/libbpf.h>

#include "base/macro.h"
#include "flowmond.skel.h"
#include "wrap.skel.h"

#define TC_NEXT (-1)

/* Class of a counter, for the sum that always holds. */
enum class {
	SEEN,
	AGAIN,
	AGGREGATED,
	IGNORED,
	FILTERED,
	LOST,
	NOTE,
};

static const struct {
	enum class class;
	const char *name;
} counters[_FM_COUNTER_MAX] = {
#define FM_COUNTER(name, class, help) [FM_COUNTER_##name] = {class, #name},
#include "bpf/counters.def"
#undef FM_COUNTER
};

bool harness_allowed(void)
{
	return geteuid() == 0;
}

static int on_event(void *userdata, void *data, size_t size)
{
	struct harness *h = userdata;

	if (size != sizeof(h->event))
		return -EINVAL;
	memcpy(&h->event, data, size);
	h->events.packets += h->event.half.packets;
	h->events.octets += h->event.half.octets;
	return 0;
}

static int pin(unsigned int cpu)
{
	cpu_set_t set;

	CPU_ZERO(&set);
	CPU_SET(cpu, &set);
	return sched_setaffinity(0, sizeof(set), &set) < 0 ? -errno : 0;
}

int harness_devices(unsigned int n)
{
	char command[100], name[16];

	if (unshare(CLONE_NEWNET) < 0)
		return -errno;
	/* No device speaks by itself. */
	if (system("test ! -e /proc/sys/net/ipv6 || "
		   "echo 1 > /proc/sys/net/ipv6/conf/default/disable_ipv6") != 0)
		return -EACCES;
	for (unsigned int i = 2; i < n + 2; i++) {
		snprintf(name, sizeof(name), "fmt%u", i);
		snprintf(command, sizeof(command),
			 "ip link add %s index %u type veth peer name fmp%u index %u", name, i, i,
			 i + 100);
		if (system(command) != 0 || if_nametoindex(name) != i)
			return -ENODEV;
	}
	return 0;
}

static uint32_t place(enum fm_hook hook, bool layer3)
{
	return hook * 2 + layer3;
}

/* Tells the wrapper all programs. */
static int wrap(struct harness *h)
{
	int map = bpf_map__fd(h->wrap->maps.fm_wrapped);

	for (uint32_t i = 0; i < 2 * _FM_HOOK_MAX; i++) {
		int program = fm_generation_program(h->generation, 0, i / 2, i % 2);

		if (program < 0)
			return program;
		if (bpf_map_update_elem(map, &i, &program, BPF_ANY))
			return -errno;
	}
	return 0;
}

int harness_init(struct harness *h, const struct fm_kernel_options *options)
{
	return harness_init_prefixes(h, options, NULL);
}

int harness_init_prefixes(struct harness *h, const struct fm_kernel_options *options,
			  const struct fm_prefix_map *map)
{
	int r;

	*h = (struct harness){};
	r = fm_kernel_new(&h->kernel, NULL);
	if (r < 0)
		return r;
	fm_kernel_set_prefixes(h->kernel, map);
	r = fm_generation_new(&h->generation, h->kernel, options);
	if (r < 0)
		return r;
	fm_kernel_set_live(h->kernel, 1000, 100);
	h->wrap = wrap_bpf__open_and_load();
	if (!h->wrap)
		return -errno;
	r = wrap(h);
	if (r < 0)
		return r;
	h->ring = ring_buffer__new(fm_kernel_overflow_fd(h->kernel), on_event, h, NULL);
	if (!h->ring)
		return -errno;
	r = pin(h->cpu);
	if (r < 0)
		return r;
	harness_reset(h);
	return 0;
}

void harness_done(struct harness *h)
{
	ring_buffer__free(h->ring);
	wrap_bpf__destroy(h->wrap);
	fm_generation_free(h->generation);
	fm_kernel_free(h->kernel);
	*h = (struct harness){};
}

void harness_drain(struct harness *h)
{
	ring_buffer__consume(h->ring);
}

void harness_reset(struct harness *h)
{
	struct fm_region *region = &h->generation->regions[h->cpu];

	harness_drain(h);
	h->events = (struct fm_count){};
	h->event = (struct fm_overflow){};
	if (region->slots) {
		memset(region->slots, 0, h->generation->n_slots * sizeof(*region->slots));
		memset(region->looks, 0,
		       fm_region_blocks(h->generation->n_slots) * sizeof(*region->looks));
	}
	fm_kernel_counters(h->kernel, &h->before);
}

void harness_forget_fragments(struct harness *h)
{
	int fd = bpf_map__fd(h->generation->programs[0]->maps.fm_fragments);
	uint8_t key[64];

	while (bpf_map_get_next_key(fd, NULL, key) == 0)
		bpf_map_delete_elem(fd, key);
}

int harness_spy(struct harness *h, enum fm_hook hook, bool encap)
{
	h->wrap->bss->fm_spied_program = place(hook, false);
	h->wrap->bss->fm_spied_runs = 0;
	return bpf_program__fd(encap ? h->wrap->progs.fm_encap : h->wrap->progs.fm_spy);
}

int harness_run(struct harness *h, const void *data, size_t length, const struct harness_run *run)
{
	struct __sk_buff context = {
		.ingress_ifindex = run->ingress_ifindex,
		.ifindex = run->ifindex,
		.cb = {run->cut, run->vlan_tag, place(run->hook, run->layer3), run->flood},
		.gso_size = run->gso_size,
		.gso_segs = run->gso_segs,
	};
	LIBBPF_OPTS(bpf_test_run_opts, opts, .data_in = data, .data_size_in = length,
		    .ctx_in = &context, .ctx_size_in = sizeof(context),
		    .repeat = FM_MAX(run->repeat, 1u));
	int program = fm_generation_program(h->generation, 0, run->hook, run->layer3);

	if (program < 0)
		return program;
	/* The wrapper goes before where the run wants what the kernel's test run has not. */
	if (run->cut || run->vlan_tag)
		program = bpf_program__fd(h->wrap->progs.fm_wrap);
	else if (run->flood)
		program = bpf_program__fd(h->wrap->progs.fm_flood);
	if (bpf_prog_test_run_opts(program, &opts) < 0)
		return -errno;
	if ((int)opts.retval != TC_NEXT) {
		printf("# answer %d\n", (int)opts.retval);
		return -EPROTO;
	}
	return 0;
}

size_t harness_slots(const struct harness *h, struct fm_slot **ret_first)
{
	const struct fm_region *region = &h->generation->regions[h->cpu];
	size_t n = 0;

	*ret_first = NULL;
	for (uint32_t i = 0; region->slots && i < h->generation->n_slots; i++) {
		if (region->slots[i].tag < FM_TAG_CLOSING)
			continue;
		if (n++ == 0)
			*ret_first = &region->slots[i];
	}
	return n;
}

const struct fm_tcp_slot *harness_tcp(const struct harness *h, const struct fm_slot *slot)
{
	const struct fm_region *region = &h->generation->regions[h->cpu];

	return region->tcp ? &region->tcp[slot - region->slots] : NULL;
}

const struct fm_tunnel *harness_tunnel(const struct harness *h, const struct fm_slot *slot)
{
	const struct fm_region *region = &h->generation->regions[h->cpu];

	return region->tunnels ? &region->tunnels[slot - region->slots] : NULL;
}

struct fm_count harness_count(const struct harness *h, enum fm_counter which)
{
	struct fm_counters now;

	fm_kernel_counters(h->kernel, &now);
	return (struct fm_count){
		.packets = now.count[which].packets - h->before.count[which].packets,
		.octets = now.count[which].octets - h->before.count[which].octets,
	};
}

bool harness_identity(const struct harness *h)
{
	const struct fm_region *region = &h->generation->regions[h->cpu];
	struct fm_count seen = {}, named = {}, held = {};
	struct fm_counters now;

	fm_kernel_counters(h->kernel, &now);
	for (unsigned int i = 0; i < _FM_COUNTER_MAX; i++) {
		struct fm_count *sum = counters[i].class == SEEN ? &seen : &named;

		if (counters[i].class == NOTE)
			continue;
		sum->packets += now.count[i].packets - h->before.count[i].packets;
		sum->octets += now.count[i].octets - h->before.count[i].octets;
	}
	for (uint32_t i = 0; region->slots && i < h->generation->n_slots; i++) {
		if (region->slots[i].tag < FM_TAG_CLOSING)
			continue;
		for (unsigned int d = 0; d < 2; d++) {
			held.packets += region->slots[i].half[d].packets;
			held.octets += region->slots[i].half[d].octets;
		}
	}
	if (seen.packets == held.packets + named.packets &&
	    seen.octets == held.octets + named.octets)
		return true;
	printf("# seen %llu/%llu, held %llu/%llu, named %llu/%llu\n", seen.packets, seen.octets,
	       held.packets, held.octets, named.packets, named.octets);
	for (unsigned int i = 0; i < _FM_COUNTER_MAX; i++)
		printf("# %s %llu/%llu\n", counters[i].name,
		       now.count[i].packets - h->before.count[i].packets,
		       now.count[i].octets - h->before.count[i].octets);
	return false;
}
