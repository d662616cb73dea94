/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Sessions: sizes of messages, sequence numbers, templates, what a restart and a flush do; and
 * NetFlow v9 decoded with the templates that were sent. Messages are read here by RFC 7011 and
 * RFC 3954, not with the library's own tables.
 */
#include <errno.h>
#include <string.h>

#include "base/macro.h"
#include "oracle.h"
#include "test.h"

#define NOW_NS	1700000000123456789ULL
#define BOOT_NS 1699990000777000000ULL

static const struct fm_session_options base_options = {
	.profile = FM_P_STANDARD,
	.domain = 77,
	.enterprise_number = 32473,
	.message_size = 1400,
	.boot_ns = BOOT_NS,
};

static const char *protocol_name(const struct fm_session_options *options)
{
	return options->protocol == FM_SESSION_V9 ? "v9" : "IPFIX";
}

/* A message's header, of either protocol. */
struct header {
	uint32_t version, length, count, uptime, seconds, sequence, domain;
	uint32_t set_id, set_length;
	const uint8_t *content; /* of the only set */
};

static bool parse_header(const struct kept *kept, struct header *ret)
{
	const uint8_t *at = kept->message;

	*ret = (struct header){.version = get_u16(at)};
	if (ret->version == 10) {
		ret->length = get_u16(at + 2);
		ret->seconds = get_u32(at + 4);
		at += 8;
	} else {
		ret->length = (uint32_t)kept->size;
		ret->count = get_u16(at + 2);
		ret->uptime = get_u32(at + 4);
		ret->seconds = get_u32(at + 8);
		at += 12;
	}
	ret->sequence = get_u32(at);
	ret->domain = get_u32(at + 4);
	ret->set_id = get_u16(at + 8);
	ret->set_length = get_u16(at + 10);
	ret->content = at + 12;
	return ret->length == kept->size &&
	       ret->set_length + (size_t)(at + 8 - kept->message) == kept->size;
}

static int fill(struct fm_session *session, unsigned int n, bool biflow,
		struct fm_message_info *ret_sum)
{
	uint64_t state = 1;
	int r = 0;

	for (unsigned int i = 0; i < n && r == 0; i++) {
		struct fm_record record;

		random_record(&record, &state, biflow);
		record.selector = 0; /* what goes before those: test-samplers.c */
		r = fm_session_record(session, &record, NOW_NS + i * FM_NS_PER_MS);
		ret_sum->records++;
		ret_sum->packets += record.packets + record.rev_packets;
		ret_sum->octets += record.octets + record.rev_octets;
	}
	return r;
}

static struct fm_message_info sum(const struct keeper *kept)
{
	struct fm_message_info result = {};

	for (size_t i = 0; i < kept->n; i++) {
		result.records += kept->kept[i].info.records;
		result.packets += kept->kept[i].info.packets;
		result.octets += kept->kept[i].info.octets;
	}
	return result;
}

/* No message too large, none emptier than it must be, headers that tell the truth. */
static void test_sizes(const struct fm_session_options *options)
{
	_fm_cleanup_(fm_session_freep) struct fm_session *session = NULL;
	struct fm_message_info given = {}, sent;
	struct keeper kept = {};
	bool headers = true;
	size_t largest = 0, templates = 0;
	int r = fm_session_new(&session, options, keep, &kept);

	r = r ?: fm_session_templates(session, NOW_NS);
	r = r ?: fill(session, 5000, options->biflow, &given);
	r = r ?: fm_session_flush(session, NOW_NS);
	for (size_t i = 0; i < kept.n; i++) {
		struct header header;

		headers = headers && parse_header(&kept.kept[i], &header) &&
			  header.version == (options->protocol == FM_SESSION_V9 ? 9 : 10);
		if (kept.kept[i].info.is_template)
			templates = FM_MAX(templates, kept.kept[i].size);
		else
			largest = FM_MAX(largest, kept.kept[i].size);
	}
	sent = sum(&kept);
	FM_TEST(r == 0 && headers, "%s %zu: headers and lengths are right", protocol_name(options),
		options->message_size);
	FM_TEST(largest <= options->message_size &&
			templates <=
				FM_MAX(options->message_size, (size_t)FM_SESSION_TEMPLATE_MAX) &&
			(options->message_size > 20000 || largest > options->message_size - 200),
		"%s %zu: messages are full and not more than that (%zu)", protocol_name(options),
		options->message_size, largest);
	FM_TEST(sent.records == given.records && sent.packets == given.packets &&
			sent.octets == given.octets,
		"%s %zu: after a flush every record is in a message", protocol_name(options),
		options->message_size);
	keeper_done(&kept);
}

/* Template ids and what is known of them, as a collector keeps them. */
#define IDS 2048

/* Octets of a record by the template in a message; its id. */
static uint32_t template_size(const struct header *header, uint32_t *ret_id)
{
	const uint8_t *at = header->content;
	bool options = header->set_id == (header->version == 9 ? 1 : 3);
	uint32_t n = get_u16(at + 2), size = 0;

	*ret_id = get_u16(at) % IDS;
	if (options && header->version == 9)
		n = (n + get_u16(at + 4)) / 4;
	at += options ? 6 : 4;
	for (uint32_t i = 0; i < n; i++, at += 4) {
		size += get_u16(at + 2);
		if (header->version == 10 && get_u16(at) & 0x8000)
			at += 4;
	}
	return size;
}

/* The sequence that a collector computes from what it got. IPFIX: data records of each domain. */
static bool sequence_right(const struct keeper *kept, size_t from)
{
	uint32_t expected[2] = {}, sizes[IDS] = {};

	for (size_t i = from; i < kept->n; i++) {
		struct header header;
		uint32_t *next, id, size;

		if (!parse_header(&kept->kept[i], &header))
			return false;
		next = &expected[header.domain == 0];
		if (header.sequence != *next || header.domain != kept->kept[i].info.domain) {
			FM_TEST_NOTE("message %zu: sequence %u, expected %u", i, header.sequence,
				     *next);
			return false;
		}
		if (header.set_id < 256) {
			size = template_size(&header, &id);
			sizes[id] = size;
		}
		size = sizes[header.set_id % IDS];
		if (header.version == 9)
			*next += 1;
		else if (header.set_id >= 256)
			*next += size ? (header.set_length - 4) / size : 0;
		if (header.version == 9 && kept->kept[i].info.sequenced != 1)
			return false;
	}
	return true;
}

static int some_of_all(struct fm_session *session, bool biflow)
{
	const struct fm_exporter_stats exporter = {.start_ns = BOOT_NS};
	const struct fm_sink_stats sink = {};
	struct fm_message_info given = {};
	int r = fm_session_templates(session, NOW_NS);

	r = r ?: fm_session_interface(session, 1, "lo", NULL, NOW_NS);
	r = r ?: fm_session_interface(session, 2, "eth0", "up", NOW_NS);
	r = r ?: fill(session, 400, biflow, &given);
	r = r ?: fm_session_statistics(session, &exporter, &sink, NOW_NS);
	r = r ?: fill(session, 400, biflow, &given);
	return r ?: fm_session_flush(session, NOW_NS);
}

static void test_sequence(const struct fm_session_options *options)
{
	_fm_cleanup_(fm_session_freep) struct fm_session *session = NULL;
	struct keeper kept = {};
	struct header first = {};
	size_t before;
	int r = fm_session_new(&session, options, keep, &kept);

	r = r ?: some_of_all(session, options->biflow);
	FM_TEST(r == 0 && sequence_right(&kept, 0), "%s: sequence goes on as a collector counts",
		protocol_name(options));
	before = kept.n;
	r = fm_session_restart(session);
	r = r ?: some_of_all(session, options->biflow);
	if (FM_TEST(r == 0 && kept.n > before, "%s: goes on after a restart",
		    protocol_name(options)))
		parse_header(&kept.kept[before], &first);
	FM_TEST(kept.n > before && sequence_right(&kept, before) && first.sequence == 0 &&
			kept.kept[before].info.is_template,
		"%s: after a restart from 0 on, templates first", protocol_name(options));
	if (kept.n > 1) { /* negative control: a lost message is seen */
		printf("# the next line tells of a gap: it must\n");
		FM_TEST(!sequence_right(&kept, before + 9 < kept.n ? kept.n - 1 : 1),
			"%s: the check sees a gap", protocol_name(options));
	}
	keeper_done(&kept);
}

/* What waits survives a restart. */
static void test_restart_keeps(const struct fm_session_options *options)
{
	_fm_cleanup_(fm_session_freep) struct fm_session *session = NULL;
	struct fm_message_info given = {};
	struct keeper kept = {};
	int r = fm_session_new(&session, options, keep, &kept);

	r = r ?: fill(session, 7, options->biflow, &given);
	FM_TEST(r == 0 && kept.n == 0, "%s: few records wait", protocol_name(options));
	r = fm_session_restart(session);
	r = r ?: fm_session_templates(session, NOW_NS);
	FM_TEST(r == 0 && sum(&kept).records == 0 && kept.n > 0, "%s: templates go out alone",
		protocol_name(options));
	r = fm_session_flush(session, NOW_NS);
	FM_TEST(r == 0 && sum(&kept).records == 7 && sequence_right(&kept, 0),
		"%s: what waited goes out after a restart", protocol_name(options));
	keeper_done(&kept);
}

/* Whether a template comes with every session: base families, options. */
static bool is_first(uint32_t id, const struct fm_session_options *options)
{
	bool full = options->protocol == FM_SESSION_IPFIX && options->profile == FM_P_FULL;

	if (id >= 1024)
		return id == 1024 || id == 1027 ||
		       (full ? id == 1026 || id == 1156 || id == 1157 || id == 1159
			     : id == 1028 || id == 1031);
	return (id & 31) < 4;
}

/* Templates of these messages; -1: one twice, or data without its template or with another id. */
static int count_templates(const struct keeper *kept, size_t from,
			   const struct fm_session_options *options)
{
	bool described[2][IDS] = {}, used[IDS] = {};
	int templates = 0;

	for (size_t i = from; i < kept->n; i++) {
		struct header header;
		uint32_t id;

		if (!parse_header(&kept->kept[i], &header))
			return -1;
		if (header.set_id >= 256) {
			used[header.set_id % IDS] = true;
			if (!described[header.domain == 0][header.set_id % IDS])
				return -1;
			continue;
		}
		id = get_u16(header.content);
		templates++;
		if (!kept->kept[i].info.is_template || id >= IDS ||
		    described[header.domain == 0][id])
			return -1;
		described[header.domain == 0][id] = true;
	}
	for (uint32_t id = 0; id < IDS; id++)
		if ((described[0][id] || described[1][id]) && !used[id] && !is_first(id, options))
			return -1;
	return templates;
}

/* Type records of a message: 26 octets, then two texts that begin with their length. */
static uint32_t count_types(const struct header *header)
{
	const uint8_t *at = header->content, *end = at + header->set_length - 4;
	uint32_t n = 0;

	for (; at + 28 <= end; n++) {
		at += 26;
		at += 1 + *at;
		at += 1 + *at;
	}
	return at == end ? n : 0;
}

/* Types of own elements come before the templates that have them, each type and template once. */
static void test_begin(const struct fm_session_options *options)
{
	_fm_cleanup_(fm_session_freep) struct fm_session *session = NULL;
	bool own = options->protocol == FM_SESSION_IPFIX && options->profile == FM_P_FULL;
	uint32_t id, types = 0;
	struct keeper kept = {};
	bool first = true;
	int r = fm_session_new(&session, options, keep, &kept);

	/* What was sent before does not matter. */
	r = r ?: fm_session_templates(session, NOW_NS);
	keeper_done(&kept);
	r = r ?: fm_session_begin(session, NOW_NS);
	for (size_t i = 0; i < kept.n; i++) {
		struct header header;

		if (!parse_header(&kept.kept[i], &header))
			break;
		if (header.set_id >= 256) {
			types += count_types(&header);
			continue;
		}
		template_size(&header, &id);
		first &= id == 1026 || types == fm_session_types(session);
	}
	FM_TEST(r == 0 && first && types == fm_session_types(session) && own == (types > 50),
		"%s profile %u: begins with %u types", protocol_name(options), options->profile,
		types);
	FM_TEST(count_templates(&kept, 0, options) == 8 + 2 * own, "%s profile %u: then templates",
		protocol_name(options), options->profile);
	keeper_done(&kept);
}

/* Every set that is sent was described before, in the same domain, one template a message. */
static void test_templates(const struct fm_session_options *options)
{
	_fm_cleanup_(fm_session_freep) struct fm_session *session = NULL;
	bool types = options->protocol == FM_SESSION_IPFIX && options->profile == FM_P_FULL;
	struct fm_record record = {.packets = 1};
	struct keeper kept = {};
	size_t before;
	/* With own elements also causes, and types. */
	int r = fm_session_new(&session, options, keep, &kept), first = 8 + 2 * types;

	r = r ?: fm_session_templates(session, NOW_NS);
	FM_TEST(r == 0 && count_templates(&kept, 0, options) == first,
		"%s profile %u: %d templates at the start", protocol_name(options),
		options->profile, first);
	r = some_of_all(session, options->biflow);
	before = kept.n;
	r = r ?: fm_session_restart(session) ?: some_of_all(session, options->biflow);
	FM_TEST(r == 0 && count_templates(&kept, before, options) == first + 28,
		"%s profile %u: after a restart each template once, before its data",
		protocol_name(options), options->profile);
	before = kept.n;
	r = fm_session_templates(session, NOW_NS);
	FM_TEST(r == 0 && kept.n - before >= (size_t)first + 28, "%s profile %u: again all in use",
		protocol_name(options), options->profile);
	session = fm_session_free(session);
	keeper_done(&kept);
	r = fm_session_new(&session, options, keep, &kept);
	record.family = FM_FAMILY_TCP6;
	record.encapsulation = FM_ENCAPSULATION_TUNNEL4;
	record.biflow = options->biflow;
	for (unsigned int i = 0; i < 2; i++)
		r = r ?: fm_session_record(session, &record, NOW_NS)
				 ?: fm_session_flush(session, NOW_NS);
	FM_TEST(r == 0 && kept.n == 3 && kept.kept[0].info.is_template &&
			count_templates(&kept, 0, options) == 1,
		"%s profile %u: a template before the first record only", protocol_name(options),
		options->profile);
	before = kept.n;
	r = fm_session_restart(session) ?: fm_session_templates(session, NOW_NS);
	r = r ?: fm_session_record(session, &record, NOW_NS) ?: fm_session_flush(session, NOW_NS);
	FM_TEST(r == 0 && count_templates(&kept, before, options) == first + 1,
		"%s profile %u: and at the start of the next session", protocol_name(options),
		options->profile);
	before = kept.n;
	r = fm_session_restart(session);
	r = r ?: fm_session_record(session, &record, NOW_NS) ?: fm_session_flush(session, NOW_NS);
	FM_TEST(r == 0 && kept.n == before + 2 && count_templates(&kept, before, options) == 1,
		"%s profile %u: also where nobody asked for templates", protocol_name(options),
		options->profile);
	keeper_done(&kept);
}

/* No enterprise's elements but the profile's own and the reverse ones of biflows. */
static void test_enterprises(unsigned int profile, bool biflow, uint32_t allowed)
{
	_fm_cleanup_(fm_session_freep) struct fm_session *session = NULL;
	struct fm_session_options options = base_options;
	unsigned int reverse = 0, own = 0, other = 0;
	struct fm_message_info given = {};
	struct keeper kept = {};
	int r;

	options.biflow = biflow;
	options.profile = profile;
	r = fm_session_new(&session, &options, keep, &kept);
	r = r ?: fill(session, 5000, biflow, &given) ?: fm_session_templates(session, NOW_NS);
	for (size_t i = 0; i < kept.n; i++) {
		struct header header;
		const uint8_t *at;
		uint32_t n;

		if (!parse_header(&kept.kept[i], &header)) {
			r = -EINVAL;
			break;
		}
		if (header.set_id >= 256)
			continue;
		n = get_u16(header.content + 2);
		at = header.content + (header.set_id == 3 ? 6 : 4);
		for (uint32_t k = 0; k < n; k++, at += 4) {
			uint32_t number = get_u16(at) & 0x8000 ? get_u32(at + 4) : 0;

			reverse += number == 29305;
			own += number && number == allowed;
			other += number && number != 29305 && number != allowed;
			at += number ? 4 : 0;
		}
	}
	/* Templates of 32 layouts, each before its data and once more. */
	FM_TEST(r == 0 && other == 0 && reverse == (biflow ? 2 * 2 * 32 : 0) &&
			(own > 0) == (allowed > 0),
		"profile %u, biflow %d: %u reverse elements, %u of %u, %u of other enterprises",
		profile, biflow, reverse, own, allowed, other);
	keeper_done(&kept);
}

/* A field of the first v9 data message of family ip4, found by the template. */
static bool v9_field(const struct keeper *kept, uint32_t type, uint64_t *ret)
{
	struct header header, template = {};

	for (size_t i = 0; i < kept->n; i++) {
		const uint8_t *at, *field;
		uint32_t n;

		parse_header(&kept->kept[i], &header);
		if (header.set_id == 0 && !template.content)
			template = header;
		if (!template.content || header.set_id != get_u16(template.content))
			continue;
		n = get_u16(template.content + 2);
		at = header.content;
		field = template.content + 4;
		for (uint32_t k = 0; k < n; at += get_u16(field + 2), field += 4, k++) {
			if (get_u16(field) != type)
				continue;
			*ret = 0;
			for (uint32_t o = 0; o < get_u16(field + 2); o++)
				*ret = *ret << 8 | at[o];
			return true;
		}
	}
	return false;
}

/* Times by sysUptime, as a collector computes them: unix seconds - sysUptime + field. */
static void test_sysuptime(void)
{
	_fm_cleanup_(fm_session_freep) struct fm_session *session = NULL;
	const struct fm_record record = {.start_ns = NOW_NS - 5 * FM_NS_PER_S,
					 .end_ns = NOW_NS - FM_NS_PER_MS,
					 .packets = 3,
					 .family = FM_FAMILY_IP4};
	struct fm_session_options options = base_options;
	uint64_t first = 0, last = 0, packets = 0, boot;
	struct header header = {};
	struct keeper kept = {};
	int r;

	options.protocol = FM_SESSION_V9;
	options.v9_sysuptime = true;
	r = fm_session_new(&session, &options, keep, &kept);
	r = r ?: fm_session_templates(session, NOW_NS);
	r = r ?: fm_session_record(session, &record, NOW_NS);
	r = r ?: fm_session_flush(session, NOW_NS);
	if (kept.n)
		parse_header(&kept.kept[kept.n - 1], &header);
	boot = header.seconds * 1000ULL - header.uptime;
	FM_TEST(r == 0 && boot == BOOT_NS / FM_NS_PER_MS, "sysUptime: the header gives the boot");
	FM_TEST(v9_field(&kept, 22, &first) && v9_field(&kept, 21, &last) &&
			boot + first == record.start_ns / FM_NS_PER_MS &&
			boot + last == record.end_ns / FM_NS_PER_MS,
		"sysUptime: first and last to the millisecond");
	FM_TEST(v9_field(&kept, 2, &packets) && packets == 3 && !v9_field(&kept, 152, &first),
		"sysUptime: the rest as always");
	FM_TEST(header.count == 1, "v9: count is that of records");
	keeper_done(&kept);
}

/* A path that takes less than was asked for. */
static void test_limit(const struct fm_session_options *options)
{
	static const size_t limits[] = {0, 900, 1200, 100, 0};
	struct fm_message_info given = {}, total;
	struct fm_session *session;
	struct keeper kept = {};
	bool fits = true, used = true;
	size_t at = 0;

	if (fm_session_new(&session, options, keep, &kept) < 0)
		abort();
	for (size_t i = 0; i < FM_ARRAY_SIZE(limits); i++) {
		size_t limit = limits[i] > 512 ? limits[i] : options->message_size, largest = 0;

		fm_session_limit(session, limits[i]);
		fill(session, 500, options->biflow, &given);
		fm_session_flush(session, 1);
		for (; at < kept.n; at++)
			if (!kept.kept[at].info.is_template)
				largest = FM_MAX(largest, kept.kept[at].size);
		fits &= largest <= limit;
		used &= largest > limit - 200;
	}
	total = sum(&kept);
	FM_TEST(fits && used, "%s: messages keep to a limit and use it up", protocol_name(options));
	FM_TEST(total.records == given.records && total.packets == given.packets,
		"%s: and hold every record", protocol_name(options));
	fm_session_free(session);
	keeper_done(&kept);
}

static void test_refused(void)
{
	struct fm_session *session = NULL;
	struct fm_session_options options = base_options;
	struct fm_record record = {.family = _FM_FAMILY_MAX};
	struct keeper kept = {};

	options.message_size = 511;
	FM_TEST(fm_session_new(&session, &options, keep, &kept) == -EINVAL, "511 octets: refused");
	options.message_size = 65536;
	FM_TEST(fm_session_new(&session, &options, keep, &kept) == -EINVAL, "65536: refused");
	options.message_size = 1400;
	options.protocol = 7;
	FM_TEST(fm_session_new(&session, &options, keep, &kept) == -EINVAL, "protocol: refused");
	options.protocol = FM_SESSION_V9;
	if (FM_TEST(fm_session_new(&session, &options, keep, &kept) == 0, "v9: taken"))
		FM_TEST(fm_session_record(session, &record, NOW_NS) == -EINVAL &&
				fm_session_flush(session, NOW_NS) == 0 && kept.n == 0,
			"record of no family: refused");
	fm_session_free(session);
	keeper_done(&kept);
}

int main(void)
{
	static const size_t sizes[] = {512, 1333, 1400, 8192, 65535};

	for (unsigned int i = 0; i < 12; i++) {
		struct fm_session_options options = base_options;

		options.protocol = i & 1 ? FM_SESSION_V9 : FM_SESSION_IPFIX;
		options.biflow = i & 2;
		options.profile = 1U << i / 4;
		for (unsigned int k = 0; k < FM_ARRAY_SIZE(sizes); k++) {
			options.message_size = sizes[k];
			test_sizes(&options);
		}
		options.message_size = 1400;
		test_sequence(&options);
		test_restart_keeps(&options);
		test_begin(&options);
		test_templates(&options);
		test_limit(&options);
	}
	for (unsigned int biflow = 0; biflow < 2; biflow++) {
		test_enterprises(FM_P_STANDARD, biflow, 0);
		test_enterprises(FM_P_NTOP, biflow, 35632);
		test_enterprises(FM_P_FULL, biflow, 32473);
	}
	test_sysuptime();
	test_refused();
	return fm_test_done();
}
