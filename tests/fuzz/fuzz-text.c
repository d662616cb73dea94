/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Values and patterns of interface names: lines of text, any octets but NUL; files of services and
 * texts of others: any octets.
 */
#include <net/if.h>

#include "base/parse.h"
#include "base/text.h"
#include "daemon/config.h"
#include "daemon/pattern.h"
#include "daemon/services.h"
#include "fuzz.h"

#define PATTERNS_MAX 16

/* A line as a string of its own, so that what is read behind its end is found. */
static char *take_line(struct input *input)
{
	const uint8_t *end = memchr(input->at, '\n', input->left);
	size_t length = end ? (size_t)(end - input->at) : input->left;
	char *line = malloc(length + 1);

	memcpy(line, input->at, length);
	line[length] = '\0';
	input->at += length + (end != NULL);
	input->left -= length + (end != NULL);
	return line;
}

static void values(const char *text)
{
	char *host = NULL, *port = NULL, **list = NULL;
	uint64_t value;
	size_t n = 0;
	bool truth;

	if (fm_parse_u64(text, 5, 1000, &value) == 0)
		FUZZ_CHECK(value >= 5 && value <= 1000);
	if (fm_parse_size(text, 1, 1 << 20, &value) == 0)
		FUZZ_CHECK(value >= 1 && value <= 1 << 20);
	if (fm_parse_duration_ns(text, 0, UINT64_MAX, &value) == 0)
		FUZZ_CHECK(value % 1000000 == 0);
	fm_parse_bool(text, &truth);
	if (fm_parse_host_port(text, &host, &port) == 0)
		FUZZ_CHECK(*host && *port);
	free(host);
	free(port);
	if (fm_parse_list(text, &list, &n) == 0)
		for (size_t i = 0; i < n; i++)
			FUZZ_CHECK(*list[i] && !strchr(list[i], ','));
	fm_parse_list_free(list, n);
}

/* An interface's name and namespace, then patterns. */
static void match(struct input *input)
{
	char *name = take_line(input), *ns = take_line(input);
	struct fm_names patterns = {.v = calloc(PATTERNS_MAX, sizeof(char *))};

	if (strlen(name) >= IFNAMSIZ)
		name[IFNAMSIZ - 1] = '\0';
	while (patterns.n < PATTERNS_MAX && input->left) {
		patterns.v[patterns.n] = take_line(input);
		if (fm_pattern_check(patterns.v[patterns.n]) == 0)
			patterns.n++;
		else
			free(patterns.v[patterns.n]);
	}
	fm_pattern_match(&patterns, *ns ? ns : NULL, name, true);
	fm_pattern_match(&patterns, *ns ? ns : NULL, name, false);
	for (size_t i = 0; i < patterns.n; i++)
		free(patterns.v[i]);
	free(patterns.v);
	free(name);
	free(ns);
}

/* What comes out is for terminals and files of others. */
static void check_clean(const char *text, size_t size)
{
	FUZZ_CHECK(strnlen(text, size) < size);
	for (const unsigned char *at = (const unsigned char *)text; *at;) {
		size_t n = fm_text_utf8_length(at);

		FUZZ_CHECK(n && *at >= 0x20 && *at != 0x7f && !(at[0] == 0xc2 && at[1] < 0xa0));
		at += n;
	}
}

static void names(const uint8_t *data, size_t size)
{
	struct fm_services *services = NULL;
	char *whole = malloc(size + 1), text[32];

	memcpy(whole, data, size);
	whole[size] = 'x'; /* no NUL: what is looked at ends with max */
	fm_text_copy(text, sizeof(text), whole, size);
	check_clean(text, sizeof(text));
	if (fm_services_parse(whole, size, &services) == 0)
		for (size_t i = 0; i < services->n; i++) {
			const struct fm_application_record *one = &services->v[i];

			FUZZ_CHECK(services->at[one->id & 0xffff] == i + 1 && *one->name);
			check_clean(one->name, sizeof(one->name));
			check_clean(one->description, sizeof(one->description));
		}
	fm_services_free(services);
	free(whole);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct input input = {data, size};
	char *line = take_line(&input);

	names(data, size);
	values(line);
	free(line);
	match(&input);
	return 0;
}
