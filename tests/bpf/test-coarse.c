/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Coarse keys: random packets by both ways through the programs, the records of their slots against
 * what this file adds up by itself, looking for the longest prefix one after the other.
 */
#include <arpa/inet.h>
#include <netinet/in.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "daemon/export.h"
#include "daemon/prefix-map.h"
#include "harness.h"
#include "test.h"

#define PACKETS 6000
#define SUMS	8192

/* What a record is about; what is not part of the key is 0. */
struct sum {
	int family; /* 0: free */
	uint8_t addr[2][16];
	uint8_t length[2];
	uint32_t number[2];
	uint16_t port[2];
	uint16_t icmp;
	uint8_t protocol;
	uint64_t packets, octets;
};

struct entry {
	const char *text;
	uint32_t number;
};

static const struct entry entries[] = {
	{"10.0.0.0/8", 0},	{"10.1.0.0/16", 0},	   {"10.1.2.0/24", 64500},
	{"10.1.2.128/25", 0},	{"10.1.2.3/32", 64501},	   {"172.16.0.0/12", 4200000000},
	{"::/0", 64502},	{"2001:db8::/32", 64503},  {"2001:db8:1::/48", 0},
	{"2001:db8:1::/64", 0}, {"2001:db8:1::7/128", 65}, {"2001:db8:2::/121", 0},
};
#define ENTRIES (sizeof(entries) / sizeof(*entries))

struct plan {
	const char *name;
	struct fm_kernel_options options;
	bool mapped;
};

#define PLAN(text, bits, four, six, file)                                                          \
	{                                                                                          \
		.name = text,                                                                      \
		.options = {.coarse = FM_COARSE | (bits), .prefix4 = four, .prefix6 = six},        \
		.mapped = file                                                                     \
	}

static const struct plan plans[] = {
	PLAN("without ports", FM_COARSE_PORTS, 32, 128, false),
	PLAN("pairs of hosts", FM_COARSE_PORTS | FM_COARSE_PROTOCOL, 32, 128, false),
	PLAN("prefixes beside ports", FM_COARSE_LENGTHS, 20, 44, false),
	PLAN("prefixes of IPv6 beside ports", FM_COARSE_LENGTHS, 32, 120, false),
	PLAN("nothing of an address", FM_COARSE_LENGTHS, 0, 0, false),
	PLAN("prefixes without ports", FM_COARSE_PORTS, 15, 127, false),
	PLAN("prefixes and numbers of a file", FM_COARSE_PORTS, 32, 128, true),
	PLAN("the same of pairs, others cut", FM_COARSE_PORTS | FM_COARSE_PROTOCOL, 9, 33, true),
};

static struct harness h;
static struct packet p;
static struct sum expected[SUMS], seen[SUMS];
static uint64_t state;

static uint32_t draw(uint32_t below)
{
	state = state * 6364136223846793005ULL + 1442695040888963407ULL;
	return (uint32_t)((state >> 33) % below);
}

/* The sum of a key in a table. */
static struct sum *find(struct sum *table, const struct sum *key)
{
	size_t keyed = offsetof(struct sum, packets);
	uint64_t at = 0;

	for (size_t i = 0; i < keyed; i++)
		at = at * 31 + ((const uint8_t *)key)[i];
	for (at %= SUMS; table[at].family; at = (at + 1) % SUMS)
		if (!memcmp(&table[at], key, keyed))
			return &table[at];
	table[at] = *key;
	table[at].packets = table[at].octets = 0;
	return &table[at];
}

static bool is_in(const uint8_t *address, const uint8_t *prefix, unsigned int length)
{
	for (unsigned int bit = 0; bit < length; bit++)
		if ((address[bit / 8] ^ prefix[bit / 8]) >> (7 - bit % 8) & 1)
			return false;
	return true;
}

static void cut(uint8_t *address, unsigned int length, unsigned int bits)
{
	for (unsigned int bit = length; bit < bits; bit++)
		address[bit / 8] &= (uint8_t) ~(0x80 >> bit % 8);
}

/* What stands for an address: the longest of the entries, else it is cut. */
static void stand_for(const struct plan *plan, struct sum *key, unsigned int side)
{
	unsigned int bits = key->family == 4 ? 32 : 128;
	unsigned int length = key->family == 4 ? plan->options.prefix4 : plan->options.prefix6;
	int longest = -1;
	uint32_t number = 0;

	for (size_t i = 0; plan->mapped && i < ENTRIES; i++) {
		int six = strchr(entries[i].text, ':') != NULL, slash;
		uint8_t prefix[16];
		char text[64];

		snprintf(text, sizeof(text), "%s", entries[i].text);
		slash = atoi(strchr(text, '/') + 1);
		*strchr(text, '/') = '\0';
		inet_pton(six ? AF_INET6 : AF_INET, text, prefix);
		if (six == (key->family == 6) && slash > longest &&
		    is_in(key->addr[side], prefix, (unsigned int)slash)) {
			longest = slash;
			number = entries[i].number;
		}
	}
	if (longest >= 0)
		length = (unsigned int)longest;
	key->number[side] = number;
	key->length[side] = (uint8_t)(number ? 0 : length);
	cut(key->addr[side], number ? 0 : length, bits);
}

static void random_address(int family, uint8_t ret[16])
{
	memset(ret, 0, 16);
	if (family == 4) {
		static const uint8_t first[] = {10, 10, 10, 172, 192};

		ret[0] = first[draw(5)];
		ret[1] = (uint8_t)(ret[0] == 172 ? 15 + draw(2) : draw(2));
		ret[2] = (uint8_t)(1 + draw(2));
		ret[3] = (uint8_t)(draw(2) ? 2 + draw(2) : 127 + draw(2));
		return;
	}
	inet_pton(AF_INET6, draw(8) ? "2001:db8::" : "3fff::", ret);
	ret[5] = (uint8_t)draw(3);
	ret[7] = (uint8_t)draw(2);
	ret[15] = (uint8_t)(draw(2) ? 6 + draw(2) : 127 + draw(2));
}

/* Sends one, and adds it to what is expected. */
static void send_one(const struct plan *plan)
{
	static const uint8_t protocols[] = {IPPROTO_TCP, IPPROTO_UDP, IPPROTO_ICMP, 47};
	struct sum key = {.family = draw(2) ? 4 : 6, .protocol = protocols[draw(4)]};
	bool icmp = key.protocol == IPPROTO_ICMP, long_way = draw(4) == 0;
	uint16_t ports[2] = {(uint16_t)(1 + draw(3)), (uint16_t)(1 + draw(3))};
	size_t octets;

	for (unsigned int side = 0; side < 2; side++)
		random_address(key.family, key.addr[side]);
	if (icmp && key.family == 6)
		key.protocol = IPPROTO_ICMPV6;
	packet_new(&p);
	packet_eth(&p);
	if (key.family == 4) {
		packet_ip4(&p, .protocol = key.protocol, .options = long_way ? 8 : 0);
		memcpy(p.data + p.l3 + 12, key.addr[0], 4);
		memcpy(p.data + p.l3 + 16, key.addr[1], 4);
	} else {
		packet_ip6(&p, .next = long_way ? 60 : key.protocol);
		memcpy(p.data + p.l3 + 8, key.addr[0], 16);
		memcpy(p.data + p.l3 + 24, key.addr[1], 16);
		if (long_way)
			packet_ext(&p, key.protocol, 0);
	}
	if (key.protocol == IPPROTO_TCP) {
		packet_tcp(&p, ports[0], ports[1], 0x11, 0); /* FIN, ACK: it ends nothing */
	} else if (key.protocol == IPPROTO_UDP) {
		packet_udp(&p, ports[0], ports[1]);
	} else {
		ports[0] = ports[1] = 0;
		if (icmp)
			*packet_append(&p, 8) = key.family == 4 ? 8 : 128;
	}
	packet_payload(&p, draw(900));
	packet_end(&p);
	octets = p.length - p.l3;
	if (harness_packet(&h, &p, .ifindex = 2, .hook = FM_HOOK_INGRESS) < 0)
		fm_test_bail("packet", -1);
	stand_for(plan, &key, 0);
	stand_for(plan, &key, 1);
	if (plan->options.coarse & FM_COARSE_PROTOCOL)
		key.protocol = 255;
	if (!(plan->options.coarse & FM_COARSE_PORTS)) {
		memcpy(key.port, ports, sizeof(ports));
		key.icmp = icmp ? (key.family == 4 ? 8 : 128) * 256 : 0;
	}
	find(expected, &key)->packets++;
	find(expected, &key)->octets += octets;
}

static void see(const struct fm_record *record)
{
	struct sum key = {.protocol = record->protocol,
			  .number = {record->src_as, record->dst_as},
			  .port = {record->src_port, record->dst_port},
			  .icmp = record->icmp4 | record->icmp6};

	key.family = FM_F_IP4 & (1U << record->family) ? 4 : 6;
	if (key.family == 4) {
		memcpy(key.addr[0], record->src_ip4, 4);
		memcpy(key.addr[1], record->dst_ip4, 4);
		key.length[0] = record->src_prefix4;
		key.length[1] = record->dst_prefix4;
	} else {
		memcpy(key.addr[0], record->src_ip6, 16);
		memcpy(key.addr[1], record->dst_ip6, 16);
		key.length[0] = record->src_prefix6;
		key.length[1] = record->dst_prefix6;
	}
	find(seen, &key)->packets += record->packets;
	find(seen, &key)->octets += record->octets;
}

#define IDLE_TICKS   1000
#define LINGER_TICKS 100
#define TCP_FIN	     0x01

/* Whether the daemon is to look at a slot when its flow can have ended. */
static bool is_due(const struct fm_slot *slot)
{
	for (unsigned int side = 0; side < 2; side++) {
		const struct fm_half *half = &slot->half[side], *other = &slot->half[!side];
		bool ends = half->tcp_flags & TCP_FIN && !FM_KEY_COARSE_OF(&slot->key);

		if (!half->packets ||
		    (other->packets && (int32_t)(half->last_tick - other->last_tick) < 0))
			continue;
		if (slot->due_tick == half->last_tick + (ends ? LINGER_TICKS : IDLE_TICKS))
			return true;
	}
	return false;
}

/* What the slots hold besides records. */
struct held {
	unsigned int slots, whole;	 /* with keys that are not coarse */
	unsigned int ended, ended_whole; /* would end without waiting */
	unsigned int not_due;
};

/* Records of all slots. */
static void see_all(struct held *ret)
{
	static const struct fm_timebase timebase;
	const struct fm_export exporter = {.timebase = &timebase};
	const struct fm_region *region = &h.generation->regions[h.cpu];

	*ret = (struct held){};
	for (uint32_t i = 0; i < h.generation->n_slots; i++) {
		const struct fm_exported before = {};
		struct fm_conversation found;
		struct fm_record records[2];
		struct fm_exported now;
		bool whole;
		size_t n;

		if (region->slots[i].tag < FM_TAG_LIVE)
			continue;
		fm_fold_init(&found, &region->slots[i].key);
		fm_fold_slot(&found, &region->slots[i], &before, &now);
		whole = !FM_KEY_COARSE_OF(&region->slots[i].key);
		ret->slots++;
		ret->whole += whole;
		ret->ended += fm_fold_ended(&found);
		ret->ended_whole += whole && fm_fold_ended(&found);
		ret->not_due += !is_due(&region->slots[i]);
		n = fm_export_records(&exporter, &found, FM_END_REASON_IDLE, records);
		for (size_t k = 0; k < n; k++)
			see(&records[k]);
	}
}

/* Both directions of a pair are one conversation, whoever sent first. */
static unsigned int conversations(void)
{
	unsigned int n = 0;

	for (size_t i = 0; i < SUMS; i++) {
		struct sum reverse = expected[i];

		if (!expected[i].family)
			continue;
		for (unsigned int side = 0; side < 2; side++) {
			memcpy(reverse.addr[side], expected[i].addr[!side], 16);
			reverse.length[side] = expected[i].length[!side];
			reverse.number[side] = expected[i].number[!side];
		}
		n += !find(seen, &reverse)->packets ||
		     memcmp(&expected[i], &reverse, offsetof(struct sum, packets)) <= 0;
	}
	return n;
}

static bool same(void)
{
	unsigned int wrong = 0, n = 0;

	for (size_t i = 0; i < SUMS; i++) {
		const struct sum *other;

		if (!expected[i].family)
			continue;
		n++;
		other = find(seen, &expected[i]);
		wrong += other->packets != expected[i].packets ||
			 other->octets != expected[i].octets;
	}
	for (size_t i = 0; i < SUMS; i++)
		wrong += seen[i].family && !find(expected, &seen[i])->packets;
	if (wrong || !n)
		FM_TEST_NOTE("%u of %u are wrong", wrong, n);
	return n && !wrong;
}

static void test_plan(const struct plan *plan, const struct fm_prefix_map *map)
{
	struct fm_kernel_options options = plan->options;
	bool has_whole = options.coarse == (FM_COARSE | FM_COARSE_LENGTHS) && options.prefix4 == 32;
	struct held held;
	int r;

	options.max_flows = 16384;
	if (plan->mapped)
		options.prefixes = map->digest;
	r = harness_init_prefixes(&h, &options, plan->mapped ? map : NULL);
	if (r < 0)
		fm_test_bail("programs", r);
	memset(expected, 0, sizeof(expected));
	memset(seen, 0, sizeof(seen));
	for (unsigned int i = 0; i < PACKETS; i++)
		send_one(plan);
	see_all(&held);
	FM_TEST(same() && harness_identity(&h), "%s: %d packets in %u flows, each in its own",
		plan->name, PACKETS, held.slots);
	if (plan->options.coarse & FM_COARSE_PORTS)
		FM_TEST(held.slots == conversations(), "%s: both directions together", plan->name);
	FM_TEST(held.ended == held.ended_whole && !held.not_due && !held.whole == !has_whole &&
			!held.ended == !has_whole,
		"%s: %u flows end, the others wait", plan->name, held.ended);
	harness_done(&h);
}

static struct fm_prefix_map *make_map(void)
{
	char path[] = "/tmp/flowmond-coarse-XXXXXX";
	_fm_cleanup_buf_ struct fm_buf complaint = {};
	struct fm_prefix_map *map = NULL;
	int fd = mkstemp(path);

	if (fd < 0)
		fm_test_bail("file", -1);
	dprintf(fd, "# the last of equal ones\n10.0.0.0/8 7\n");
	for (size_t i = 0; i < ENTRIES; i++)
		if (entries[i].number)
			dprintf(fd, "%s\t%u # a number\n", entries[i].text, entries[i].number);
		else
			dprintf(fd, "%s\n", entries[i].text);
	close(fd);
	if (fm_prefix_map_load(path, &map, &complaint) < 0)
		printf("# %s\n", complaint.size ? complaint.data : "no memory");
	unlink(path);
	return map;
}

int main(void)
{
	_fm_cleanup_(fm_prefix_map_freep) struct fm_prefix_map *map = NULL;

	if (!harness_allowed())
		return fm_test_skip_all("needs root");
	if (harness_devices(1) < 0)
		return fm_test_bail("devices", -1);
	map = make_map();
	FM_TEST(map && map->n == ENTRIES && map->has_numbers && map->digest, "a file of prefixes");
	for (size_t i = 0; map && i < sizeof(plans) / sizeof(*plans); i++)
		test_plan(&plans[i], map);
	return fm_test_done();
}
