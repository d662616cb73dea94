/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What a session tells of samplers, and when: each message as a word, in the order of the stream.
 * Messages are read here by RFC 7011, RFC 3954 and the numbers of options.def.
 */
#include <stdio.h>
#include <string.h>

#include "base/macro.h"
#include "ipfix/samplers.h"
#include "oracle.h"
#include "test.h"

#define NOW_NS 1700000000123456789ULL
#define WORDS  512

static const struct fm_session_options base_options = {
	.profile = FM_P_STANDARD,
	.domain = 77,
	.enterprise_number = 32473,
	.message_size = 1400,
	.boot_ns = NOW_NS - FM_NS_PER_S,
};

struct stream {
	struct keeper kept;
	struct fm_session *session;
	size_t read;
	bool v9;
};

static void begin(struct stream *stream, const struct fm_session_options *options)
{
	*stream = (struct stream){.v9 = options->protocol == FM_SESSION_V9};
	if (fm_session_new(&stream->session, options, keep, &stream->kept) < 0)
		fm_test_bail("session", -1);
}

static void end(struct stream *stream)
{
	fm_session_free(stream->session);
	keeper_done(&stream->kept);
}

/* A message: T a template, S a sampler=1/(all), R an interval, D records. */
static void word(const struct stream *stream, const struct kept *kept, char *ret, size_t size)
{
	const uint8_t *set = kept->message + (stream->v9 ? 20 : 16), *record = set + 4;
	uint32_t id = get_u16(set), domain = get_u32(set - 4);
	const char *kept_mark = kept->info.is_kept ? "!" : "", *home = domain == 77 ? "" : "?";

	if (id < 256)
		snprintf(ret, size, " T%u", get_u16(record));
	else if (id == 1034)
		snprintf(ret, size, " S%llu=%u/%u,%u%s%s%s",
			 (unsigned long long)get_u64(record + 4), get_u32(record + 14),
			 get_u32(record + 14) + get_u32(record + 18), get_u16(record + 12),
			 kept_mark, home, get_u16(set + 2) >= 2 * 54 ? "+" : "");
	else if (id == 1035)
		snprintf(ret, size, " R%u%s%s", get_u32(record + 4), kept_mark, home);
	else if (id == 1036)
		snprintf(ret, size, " R%u,%u%s%s", get_u32(record + 4), record[8], kept_mark, home);
	else
		snprintf(ret, size, " D%u:%u", id, kept->info.records);
}

/* What was emitted since the last time is as expected; templates of options that do not matter here
 * are left out. */
static bool emitted(struct stream *stream, const char *expected)
{
	char text[WORDS] = "";

	for (; stream->read < stream->kept.n; stream->read++) {
		size_t used = strlen(text);

		word(stream, &stream->kept.kept[stream->read], text + used, sizeof(text) - used);
		if (text[used + 1] == 'T' &&
		    (text[used + 2] != '1' || strncmp(text + used, " T103", 5) ||
		     text[used + 5] == '1') &&
		    strncmp(text + used, " T64", 4) != 0)
			text[used] = '\0';
	}
	if (strcmp(text, expected) != 0)
		FM_TEST_NOTE("emitted%s", text);
	return !strcmp(text, expected);
}

static void give(struct stream *stream, uint32_t selector, uint32_t interval, unsigned int seconds)
{
	struct fm_record record = {
		.selector = selector,
		.sampling_interval = interval,
		.selector_algorithm = selector ? FM_SELECTOR_RANDOM : 0,
		.packets = 1,
	};

	if (fm_session_record(stream->session, &record, NOW_NS + seconds * FM_NS_PER_S) < 0)
		fm_test_bail("record", -1);
}

static void flush(struct stream *stream)
{
	fm_session_flush(stream->session, NOW_NS);
}

static void test_order(void)
{
	struct stream s;

	begin(&s, &base_options);
	give(&s, 3, 10, 0);
	FM_TEST(emitted(&s, " T1034 S3=1/10,3! T1035 R10!"), "a sampler before its first record");
	give(&s, 3, 10, 1);
	flush(&s);
	FM_TEST(emitted(&s, " T640 D640:2"), "and not before the next");
	give(&s, 4, 10, 2);
	FM_TEST(emitted(&s, " S4=1/10,3!"), "another one; the interval is the same");
	give(&s, 4, 7, 2);
	FM_TEST(emitted(&s, " D640:1 S4=1/7,3! R1!"),
		"one that is another now: what waits goes before, there is no interval of all");
	fm_session_templates(s.session, NOW_NS);
	FM_TEST(emitted(&s, " T640 T1034 T1035 S3=1/10,3+ R1"), "with the templates, again");
	fm_session_restart(s.session);
	fm_session_begin(s.session, NOW_NS);
	FM_TEST(emitted(&s, " T640 T1034 T1035 S3=1/10,3+ R1"),
		"in a new transport session, again");
	flush(&s);
	FM_TEST(emitted(&s, " D640:1"), "what waited goes behind");
	end(&s);
}

static void test_interval_of_all(void)
{
	struct stream s;

	begin(&s, &base_options);
	give(&s, 0, 0, 0);
	give(&s, 3, 10, 1);
	flush(&s);
	FM_TEST(emitted(&s, " D256:1 T1034 S3=1/10,3! T640 D640:1"),
		"where some are sampled and others not, no interval is that of all");
	give(&s, 3, 10, 60);
	FM_TEST(emitted(&s, ""), "nor in the minute after that");
	give(&s, 3, 10, 119);
	flush(&s);
	FM_TEST(emitted(&s, " D640:2"), "to its end");
	give(&s, 3, 10, 120);
	FM_TEST(emitted(&s, " T1035 R10!"), "a minute of records that have the same: it is");
	give(&s, 3, 10, 121);
	give(&s, 0, 0, 122);
	FM_TEST(emitted(&s, " D640:2 R1!"), "not before a record that has another");
	flush(&s);
	FM_TEST(emitted(&s, " D256:1"), "which goes behind");
	give(&s, 0, 0, 600);
	give(&s, 0, 0, 700);
	flush(&s);
	FM_TEST(emitted(&s, " D256:2"), "and 1 is not told twice");
	end(&s);
	begin(&s, &base_options);
	give(&s, 0, 0, 0);
	give(&s, 0, 0, 100);
	fm_session_templates(s.session, NOW_NS);
	flush(&s);
	fm_session_end(s.session, NOW_NS);
	FM_TEST(emitted(&s, " D256:2"), "nobody is told of samplers that there are not");
	end(&s);
	begin(&s, &base_options);
	fm_session_sampler(s.session, 3, 10, FM_SELECTOR_RANDOM);
	fm_session_begin(s.session, NOW_NS);
	FM_TEST(emitted(&s, " T1034 S3=1/10,3"), "of an earlier session's at the beginning");
	give(&s, 0, 0, 0);
	FM_TEST(emitted(&s, " T1035 R1!"), "the interval of all before the first record");
	give(&s, 3, 10, 0);
	give(&s, 3, 10, 60);
	give(&s, 3, 10, 120);
	flush(&s);
	FM_TEST(emitted(&s, " D256:1 T640 D640:2 R10! D640:1"), "and later as always");
	fm_session_end(s.session, NOW_NS);
	fm_session_end(s.session, NOW_NS);
	FM_TEST(emitted(&s, " R1"), "at the end there is no interval of all");
	end(&s);
}

static void test_v9(void)
{
	struct fm_session_options options = base_options;
	struct stream s;

	options.protocol = FM_SESSION_V9;
	begin(&s, &options);
	give(&s, 15, 1000000, 0);
	flush(&s);
	FM_TEST(emitted(&s,
			" T1034 S15=1/1000000,3! T1035 R1000000! T1036 R1000000,2! T640 D640:1"),
		"NetFlow v9: in both forms that nfdump takes");
	end(&s);
}

/* Collectors look for them where records are. */
static void test_domain(void)
{
	static const enum fm_options_kind kinds[] = {FM_OPTIONS_SAMPLER, FM_OPTIONS_RATE,
						     FM_OPTIONS_RATE_KIND};
	bool right = true;

	for (unsigned int i = 0; i < 3; i++) {
		struct fm_layout layout;

		fm_layout_options(&layout, &base_options, kinds[i]);
		right &= layout.domain == base_options.domain && layout.id == 1034 + i;
	}
	FM_TEST(right, "options of samplers are in the domain of records");
}

static void test_names(void)
{
	static const uint16_t algorithms[] = {FM_SELECTOR_COUNT, FM_SELECTOR_RANDOM,
					      FM_SELECTOR_FLOWS};
	static const char *const names[] = {"1 in 4294967295 packets", "1 in 4294967295 at random",
					    "1 in 4294967295 flows"};
	struct fm_samplers samplers = {};
	bool right = true;

	for (unsigned int i = 0; i < 3; i++) {
		const struct fm_record record = {.selector = i + 1,
						 .sampling_interval = UINT32_MAX,
						 .selector_algorithm = algorithms[i]};
		struct fm_sampler_record told;

		right &= fm_samplers_note(&samplers, &record, 1) & FM_SAMPLERS_TELL_ONE &&
			 fm_samplers_get(&samplers, i + 1, &told) && !strcmp(told.name, names[i]) &&
			 told.interval == 1 && told.space == UINT32_MAX - 1;
	}
	FM_TEST(right, "names say how samplers choose");
}

int main(void)
{
	test_order();
	test_interval_of_all();
	test_v9();
	test_domain();
	test_names();
	return fm_test_done();
}
