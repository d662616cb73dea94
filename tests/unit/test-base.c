/* SPDX-License-Identifier: Apache-2.0 */
/* The base room: parsing and the buffer. */
#include <errno.h>
#include <string.h>

#include "base/buf.h"
#include "base/cleanup.h"
#include "base/fnv.h"
#include "base/macro.h"
#include "base/parse.h"
#include "base/siphash.h"
#include "base/text.h"
#include "test.h"

static void test_numbers(void)
{
	uint64_t value = 7;

	FM_TEST(fm_parse_u64("0", 0, 9, &value) == 0 && value == 0, "zero");
	FM_TEST(fm_parse_u64("18446744073709551615", 0, UINT64_MAX, &value) == 0 &&
			value == UINT64_MAX,
		"the largest");
	value = 7;
	FM_TEST(fm_parse_u64("18446744073709551616", 0, UINT64_MAX, &value) == -ERANGE &&
			value == 7,
		"one more: out of range, nothing written");
	FM_TEST(fm_parse_u64("10", 0, 9, &value) == -ERANGE, "above the bound");
	FM_TEST(fm_parse_u64("1", 2, 9, &value) == -ERANGE, "below the bound");
	FM_TEST(fm_parse_u64("", 0, 9, &value) == -EINVAL, "nothing");
	FM_TEST(fm_parse_u64("-1", 0, 9, &value) == -EINVAL, "a sign");
	FM_TEST(fm_parse_u64("1 ", 0, 9, &value) == -EINVAL, "something behind it");
	FM_TEST(fm_parse_u64("1K", 0, 9999, &value) == -EINVAL, "a unit where none belongs");
	FM_TEST(fm_parse_size("3M", 0, UINT64_MAX, &value) == 0 && value == 3 << 20, "3M");
	FM_TEST(fm_parse_size("17179869184G", 0, UINT64_MAX, &value) == -ERANGE, "too many G");
	FM_TEST(fm_parse_size("3m", 0, UINT64_MAX, &value) == -EINVAL, "a small m is no size");
}

static void test_durations(void)
{
	uint64_t value = 0;

	FM_TEST(fm_parse_duration_ns("15s", 0, UINT64_MAX, &value) == 0 &&
			value == 15 * FM_NS_PER_S,
		"15s");
	FM_TEST(fm_parse_duration_ns("250ms", 0, UINT64_MAX, &value) == 0 &&
			value == 250 * FM_NS_PER_MS,
		"250ms");
	FM_TEST(fm_parse_duration_ns("2h", 0, UINT64_MAX, &value) == 0 &&
			value == 2 * FM_NS_PER_HOUR,
		"2h");
	FM_TEST(fm_parse_duration_ns("15", 0, UINT64_MAX, &value) == -EINVAL, "a unit is needed");
	FM_TEST(fm_parse_duration_ns("9999999999h", 0, UINT64_MAX, &value) == -ERANGE,
		"longer than nanoseconds hold");
}

static void test_lists(void)
{
	char **list = NULL;
	size_t n = 9;

	FM_TEST(fm_parse_list("", &list, &n) == 0 && n == 0, "an empty list");
	fm_parse_list_free(list, n);
	FM_TEST(fm_parse_list(" a ,b,  c d ", &list, &n) == 0 && n == 3 && !strcmp(list[0], "a") &&
			!strcmp(list[1], "b") && !strcmp(list[2], "c d") && !list[3],
		"three parts, trimmed");
	fm_parse_list_free(list, n);
	FM_TEST(fm_parse_list("a,,b", &list, &n) == -EINVAL, "an empty part");
	FM_TEST(fm_parse_list("a,", &list, &n) == -EINVAL, "an empty part at the end");
	FM_TEST(fm_parse_list(",", &list, &n) == -EINVAL, "nothing but a comma");
	FM_TEST(fm_parse_list(" ", &list, &n) == -EINVAL, "nothing but a space");
}

static void check_address(const char *text, const char *host, const char *port)
{
	_fm_cleanup_free_ char *got_host = NULL, *got_port = NULL;
	int r = fm_parse_host_port(text, &got_host, &got_port);

	if (!host)
		FM_TEST(r == -EINVAL, "'%s' is no address", text);
	else
		FM_TEST(r == 0 && !strcmp(got_host, host) && !strcmp(got_port, port), "'%s'", text);
}

static void test_addresses(void)
{
	check_address("192.0.2.10:4739", "192.0.2.10", "4739");
	check_address("[2001:db8::1]:2055", "2001:db8::1", "2055");
	check_address("collector.example.net:1", "collector.example.net", "1");
	check_address("192.0.2.10", NULL, NULL);
	check_address("192.0.2.10:", NULL, NULL);
	check_address("192.0.2.10:0", NULL, NULL);
	check_address("192.0.2.10:65536", NULL, NULL);
	check_address(":4739", NULL, NULL);
	check_address("2001:db8::1:4739", NULL, NULL);
	check_address("[]:4739", NULL, NULL);
	check_address("[:4739", NULL, NULL);
	check_address("[2001:db8::1:4739", NULL, NULL);
	check_address("a b:1", NULL, NULL);
	check_address("", NULL, NULL);
}

static void test_buffer(void)
{
	_fm_cleanup_buf_ struct fm_buf buf = {};
	_fm_cleanup_buf_ struct fm_buf json = {};

	for (int i = 0; i < 1000; i++)
		fm_buf_printf(&buf, "%d,", i % 10);
	FM_TEST(buf.size == 2000 && strlen(buf.data) == 2000 && fm_buf_error(&buf) == 0,
		"the buffer grows and stays terminated");
	fm_buf_json_string(&json, "a\"\\\n\x01\x7f\xc3\xa9\xff\xed\xa0\x80");
	FM_TEST(!strcmp(json.data,
			"\"a\\\"\\\\\\u000a\\u0001\\u007f\xc3\xa9\\ufffd\\ufffd\\ufffd\\ufffd\""),
		"what is not text in JSON is escaped, what is not UTF-8 replaced");
}

static void test_texts(void)
{
	static const struct {
		const char *text;
		size_t max, size;
		const char *expected, *what;
	} rows[] = {
		{"uplink", 64, 32, "uplink", "a text"},
		{"uplink", 3, 32, "upl", "no more than so much of it"},
		{"uplink", 64, 4, "upl", "what fits of it"},
		{"gr\xc3\xbc\xc3\x9f", 64, 32, "gr\xc3\xbc\xc3\x9f", "UTF-8"},
		{"gr\xc3\xbc\xc3\x9f", 64, 6, "gr\xc3\xbc", "is cut between characters"},
		{"gr\xc3\xbc\xc3\x9f", 5, 32, "gr\xc3\xbc", "also where its end was cut"},
		{"\x1b[2J\n\x7f", 64, 32, "?[2J??", "control characters"},
		{"a\xc2\x9b"
		 "b",
		 64, 32, "a?b", "those beyond 127 as well"},
		{"a\xff\xed\xa0\x80\xc0\xaf"
		 "b",
		 64, 32, "a??????b", "what is no UTF-8"},
		{"\xf0\x9f\x98\x80", 64, 5, "\xf0\x9f\x98\x80", "four octets that just fit"},
		{"\xf0\x9f\x98\x80", 64, 4, "", "or do not"},
		{"", 64, 32, "", "nothing"},
	};

	for (size_t i = 0; i < FM_ARRAY_SIZE(rows); i++) {
		char text[32], zeros[32] = {};

		memset(text, 'x', sizeof(text));
		fm_text_copy(text, rows[i].size, rows[i].text, rows[i].max);
		FM_TEST(!strcmp(text, rows[i].expected) &&
				!memcmp(text + strlen(text), zeros, rows[i].size - strlen(text)) &&
				(rows[i].size == 32 || text[rows[i].size] == 'x'),
			"texts: %s", rows[i].what);
	}
}

/* Of the authors' table: key 00 01 .. 0f, data 00 01 .. of so many octets. */
static void test_siphash(void)
{
	static const struct {
		size_t size;
		uint64_t hash;
	} rows[] = {
		{0, 0x726fdb47dd0e0e31}, {1, 0x74f839c593dc67fd},  {7, 0xab0200f58b01d137},
		{8, 0x93f5f5799a932462}, {15, 0xa129ca6149be45e5}, {63, 0x958a324ceb064572},
	};
	uint8_t key[16], data[64];
	unsigned int wrong = 0;

	for (unsigned int i = 0; i < sizeof(data); i++)
		data[i] = key[i % sizeof(key)] = (uint8_t)i;
	for (unsigned int i = 0; i < sizeof(key); i++)
		key[i] = (uint8_t)i;
	for (size_t i = 0; i < FM_ARRAY_SIZE(rows); i++)
		wrong += fm_siphash(key, data, rows[i].size) != rows[i].hash;
	FM_TEST(!wrong, "SipHash-2-4 is as its authors have it");
}

/* Values of its authors. */
static void test_fnv(void)
{
	FM_TEST(fm_fnv_text("") == 0xcbf29ce484222325 && fm_fnv32_text("") == 0x811c9dc5 &&
			fm_fnv_text("foobar") == 0x85944171f73967e8 &&
			fm_fnv32_text("foobar") == 0xbf9cf968,
		"FNV-1a of texts");
	FM_TEST(fm_fnv(fm_fnv(FM_FNV_BEGIN, "foo", 3), "bar", 3) == fm_fnv_text("foobar"),
		"FNV-1a goes on behind what is in front");
}

int main(void)
{
	test_numbers();
	test_durations();
	test_lists();
	test_addresses();
	test_buffer();
	test_texts();
	test_siphash();
	test_fnv();
	return fm_test_done();
}
