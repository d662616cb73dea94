/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Lists of fields: which words are taken; random lists over all profiles, protocols and kinds of
 * records, against the table read anew; the ids of their templates; and what no message holds.
 */
#include <errno.h>
#include <string.h>

#include "base/macro.h"
#include "oracle.h"
#include "test.h"

#define LISTS  2000
#define NOW_NS 1700000000123456789ULL

/* The columns that decide, with nothing of field-list.c or layout.c between. */
static const struct {
	const char *name;
	unsigned int pen, ie, v9, wire;
	uint32_t families, profile;
} rows[] = {
#define FM_FIELD(name, type, dim, kind, ie_name, pen, ie, v9, wire, families, profile, ...)        \
	{ie_name, pen, ie, v9, wire, families, profile},
#include "ipfix/fields.def"
#undef FM_FIELD
};

#define ROWS FM_ARRAY_SIZE(rows)

static uint64_t next(uint64_t *state)
{
	uint64_t z = *state += 0x9e3779b97f4a7c15;

	z = (z ^ z >> 30) * 0xbf58476d1ce4e5b9;
	z = (z ^ z >> 27) * 0x94d049bb133111eb;
	return z ^ z >> 31;
}

static bool is_needed(size_t row)
{
	return rows[row].profile & (FM_P_SUM | FM_P_KEY);
}

static int add(struct fm_field_list *list, char sign, const char *name)
{
	char word[80];

	snprintf(word, sizeof(word), "%c%s", sign, name);
	return fm_field_list_add(list, word, strlen(word));
}

/* signs: what became of each row. */
static void random_list(struct fm_field_list *ret, char signs[ROWS], uint64_t *state)
{
	unsigned int one_in = 1 + (unsigned int)(next(state) % 40);

	*ret = (struct fm_field_list){};
	for (size_t i = 0; i < ROWS; i++) {
		signs[i] = next(state) % one_in ? ' ' : next(state) % 2 ? '+' : '-';
		if (signs[i] == '-' && is_needed(i))
			signs[i] = ' ';
		if (signs[i] != ' ' && add(ret, signs[i], rows[i].name) != 0)
			abort();
	}
}

static void test_words(void)
{
	struct fm_field_list list = {}, none = {};
	unsigned int wrong = 0;

	for (size_t i = 0; i < ROWS; i++) {
		struct fm_field_list one = {}, other = {};

		wrong += add(&one, '+', rows[i].name) != 0 || !fm_field_list_adds(&one, i);
		wrong += add(&one, '+', rows[i].name) != -EEXIST;
		wrong += add(&one, '-', rows[i].name) != (-EEXIST);
		wrong += add(&other, '-', rows[i].name) != (is_needed(i) ? -EPERM : 0);
		wrong += fm_field_list_leaves_out(&other, i) == is_needed(i);
		wrong += fm_field_list_nearest(rows[i].name, strlen(rows[i].name)) != i;
	}
	FM_TEST(!wrong, "each of %zu fields is added, and left out unless it is needed", ROWS);
	FM_TEST(fm_field_list_add(&list, "rttMean", 7) == -EINVAL &&
			fm_field_list_add(&list, "+", 1) == -EINVAL &&
			fm_field_list_add(&list, "-", 1) == -EINVAL &&
			fm_field_list_add(&list, "", 0) == -EINVAL,
		"no sign, or nothing behind it");
	FM_TEST(fm_field_list_add(&list, "+rttMea", 7) == -ENOENT &&
			fm_field_list_add(&list, "+rttMean", 7) == -ENOENT &&
			fm_field_list_add(&list, "+rttMeans", 9) == -ENOENT &&
			fm_field_list_add(&list, "+rttmean", 8) == -ENOENT,
		"parts of names, and names in other letters, are none");
	FM_TEST(!memcmp(&list, &none, sizeof(list)), "what is refused changes nothing");
	FM_TEST(!strcmp(rows[fm_field_list_nearest("minTtl", 6)].name, "minimumTTL") &&
			!strcmp(rows[fm_field_list_nearest("tcpRttMean", 10)].name, "rttMean") &&
			!strcmp(rows[fm_field_list_nearest("client_nw_latency", 17)].name,
				"CLIENT_NW_LATENCY_MS") &&
			fm_field_list_nearest("", 0) < ROWS,
		"the name that is most like it");
}

static bool is_there(const struct fm_session_options *options, const char signs[ROWS], size_t row,
		     const struct fm_shape *shape)
{
	if (options->protocol == FM_SESSION_V9 && !rows[row].v9)
		return false;
	if (signs[row] == '-' || (signs[row] == ' ' && !(rows[row].profile & options->profile)))
		return false;
	return fm_shape_has(shape, rows[row].families);
}

/* The layout has the rows that it is to have, in the order of the table, and no others. */
static bool is_right(const struct fm_layout *layout, const struct fm_session_options *options,
		     const char signs[ROWS], unsigned int index)
{
	unsigned int unsampled = index % (_FM_FAMILY_MAX * _FM_ENCAPSULATION_MAX);
	const struct fm_shape shape = {unsampled % _FM_FAMILY_MAX, unsampled / _FM_FAMILY_MAX,
				       options->biflow, index != unsampled};
	unsigned int n = 0, size = 0;

	for (size_t i = 0; i < ROWS; i++) {
		const struct fm_field *field = &layout->fields[n];

		if (!is_there(options, signs, i, &shape))
			continue;
		if (n == layout->n || strcmp(field->ie_name, rows[i].name) ||
		    field->ie != rows[i].ie || field->wire != rows[i].wire ||
		    field->pen !=
			    (rows[i].pen == FM_PEN_OWN ? options->enterprise_number : rows[i].pen))
			return false;
		size += rows[i].wire;
		n++;
	}
	return n == layout->n && size == layout->record_size;
}

static struct fm_session_options random_options(uint64_t *state)
{
	uint64_t r = next(state);

	return (struct fm_session_options){
		.protocol = r & 1 ? FM_SESSION_V9 : FM_SESSION_IPFIX,
		.profile = 1U << (r >> 1) % 3,
		.biflow = r >> 8 & 1,
		.domain = 7,
		.enterprise_number = 32473,
		.message_size = 65535,
	};
}

static void test_random(void)
{
	unsigned int wrong = 0, others = 0, changed = 0, same_ids = 0;
	static uint8_t block[65536 / FM_LAYOUTS_RECORDS];
	uint64_t state = 1;

	for (unsigned int k = 0; k < LISTS; k++) {
		struct fm_session_options options = random_options(&state), plain = options;
		char signs[ROWS];
		uint16_t first = 0;

		random_list(&options.fields, signs, &state);
		for (unsigned int i = 0; i < FM_LAYOUTS_RECORDS; i++) {
			struct fm_layout layout, of_profile;

			fm_layout_records(&layout, &options, i);
			fm_layout_records(&of_profile, &plain, i);
			wrong += !is_right(&layout, &options, signs, i);
			first = i ? first : layout.id;
			if (fm_field_list_changes(&options.fields, options.profile))
				others += layout.id != first + i || layout.id < 2048;
			else
				others += layout.id != of_profile.id || layout.id >= 1024;
		}
		if (first < 2048)
			continue;
		changed++;
		same_ids += block[first / FM_LAYOUTS_RECORDS]++ > 0;
	}
	FM_TEST(!wrong, "%u random lists: %u layouts as the table says", LISTS,
		LISTS * FM_LAYOUTS_RECORDS);
	FM_TEST(!others && changed > LISTS / 2 && changed < LISTS,
		"%u of them are other than the profile and have ids of their own", changed);
	/* 2000 things in 992 places: about 860 places are taken. */
	FM_TEST(same_ids < changed * 3 / 4, "%u of those have the ids of another by chance",
		same_ids);
}

/* An id depends on what is in the template and on nothing else. */
static void test_ids(void)
{
	struct fm_session_options options = {.profile = FM_P_STANDARD, .enterprise_number = 32473};
	struct fm_layout one, two;

	add(&options.fields, '+', "rttMean");
	add(&options.fields, '-', "quicFlags"); /* it is not there anyway */
	fm_layout_records(&one, &options, 0);
	options.fields = (struct fm_field_list){};
	add(&options.fields, '+', "octetDeltaCount");
	add(&options.fields, '+', "rttMean");
	fm_layout_records(&two, &options, 0);
	FM_TEST(one.id == two.id && one.id >= 2048, "two lists that mean the same: the same ids");
	options.enterprise_number = 4242;
	fm_layout_records(&two, &options, 0);
	FM_TEST(one.id != two.id, "another enterprise: other ids");
	options.enterprise_number = 32473;
	options.biflow = true;
	fm_layout_records(&two, &options, 0);
	FM_TEST(one.id != two.id, "biflows: other ids");
	options.fields = (struct fm_field_list){};
	add(&options.fields, '+', "octetDeltaCount");
	add(&options.fields, '-', "rttMean");
	fm_layout_records(&two, &options, 0);
	FM_TEST(two.id == 256 + 32, "a list that changes nothing: the profile's ids");
}

static int try_size(const struct fm_session_options *options, size_t size)
{
	_fm_cleanup_(fm_session_freep) struct fm_session *session = NULL;
	struct fm_session_options tried = *options;
	struct keeper kept = {};

	tried.message_size = size;
	return fm_session_new(&session, &tried, keep, &kept);
}

/* What records of all fields need, and their templates. */
static void test_largest(void)
{
	for (unsigned int k = 0; k < 4; k++) {
		_fm_cleanup_(fm_session_freep) struct fm_session *session = NULL;
		struct fm_session_options options = {.protocol = k & 1 ? FM_SESSION_V9
								       : FM_SESSION_IPFIX,
						     .profile = FM_P_STANDARD,
						     .biflow = k & 2,
						     .domain = 7,
						     .enterprise_number = 32473,
						     .message_size = 1400};
		size_t least, longest = 0;
		struct keeper kept = {};
		int r;

		for (size_t i = 0; i < ROWS; i++)
			add(&options.fields, '+', rows[i].name);
		least = fm_session_message_min(&options);
		FM_TEST(try_size(&options, least) == 0 &&
				(least == 512 || try_size(&options, least - 1) == -EINVAL),
			"all fields, v9 %u, biflow %u: a message of %zu octets, and no less", k & 1,
			k >> 1, least);
		r = fm_session_new(&session, &options, keep, &kept) ?: fm_session_use_all(session);
		r = r ?: fm_session_templates(session, NOW_NS);
		for (size_t i = 0; i < kept.n; i++)
			longest = FM_MAX(longest,
					 kept.kept[i].info.is_template ? kept.kept[i].size : 0);
		FM_TEST(r == 0 && longest > 180 && longest <= FM_SESSION_TEMPLATE_MAX,
			"the longest template has %zu octets", longest);
		keeper_done(&kept);
	}
}

/* Names of the types that a session sends (RFC 5610), in the order they come. */
static unsigned int count_types(const struct fm_session_options *options, const char *name)
{
	_fm_cleanup_(fm_session_freep) struct fm_session *session = NULL;
	struct keeper kept = {};
	unsigned int n = 0;
	int r = fm_session_new(&session, options, keep, &kept);

	r = r ?: fm_session_begin(session, NOW_NS);
	for (size_t i = 0; r == 0 && i < kept.n; i++) {
		const uint8_t *set = kept.kept[i].message + 16;

		/* Before the name there are 26 octets, behind it is what it means; both begin with
		 * their length. */
		for (size_t at = 4; get_u16(set) == 1026 && at + 28 <= get_u16(set + 2);) {
			const uint8_t *text = set + at + 26;

			n += !name || (strlen(name) == *text && !memcmp(text + 1, name, *text));
			at += 26 + 1 + *text;
			at += 1 + set[at];
		}
	}
	keeper_done(&kept);
	return r < 0 ? 1000 : n;
}

static void test_types(void)
{
	struct fm_session_options options = {.profile = FM_P_STANDARD,
					     .biflow = true,
					     .domain = 7,
					     .enterprise_number = 32473,
					     .message_size = 1400};
	unsigned int all, own = 0;

	for (size_t i = 0; i < ROWS; i++)
		own += rows[i].pen == FM_PEN_OWN;
	for (unsigned int kind = 0; kind < _FM_OPTIONS_MAX; kind++) {
		const struct fm_field *fields;
		size_t n = fm_layout_options_fields((enum fm_options_kind)kind, &fields);

		for (size_t i = 0; i < n; i++)
			own += fields[i].pen == FM_PEN_OWN;
	}
	FM_TEST(count_types(&options, NULL) == 0, "profile standard: no types");
	add(&options.fields, '+', "rttMean");
	add(&options.fields, '+', "CLIENT_NW_LATENCY_MS");
	FM_TEST(count_types(&options, NULL) == 1 && count_types(&options, "rttMean") == 1,
		"with one own element: its type and no other");
	options.fields = (struct fm_field_list){};
	options.profile = FM_P_FULL;
	all = count_types(&options, NULL);
	FM_TEST(all == own && count_types(&options, "rttMean") == 1, "profile full: %u types", all);
	add(&options.fields, '-', "rttMean");
	FM_TEST(count_types(&options, NULL) == all - 1 && !count_types(&options, "rttMean"),
		"without one element: all but its type");
}

int main(void)
{
	test_words();
	test_random();
	test_ids();
	test_largest();
	test_types();
	return fm_test_done();
}
