/* SPDX-License-Identifier: Apache-2.0 */
/* Checked parsing: see parse.h. */
#include "base/parse.h"

#include <ctype.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "base/cleanup.h"
#include "base/macro.h"

struct unit {
	const char *name;
	uint64_t factor;
};

static const struct unit size_units[] = {
	{"", 1},
	{"K", 1024},
	{"M", 1024ULL * 1024},
	{"G", 1024ULL * 1024 * 1024},
};

static const struct unit duration_units[] = {
	{"ms", FM_NS_PER_MS},
	{"s", FM_NS_PER_S},
	{"m", FM_NS_PER_MIN},
	{"h", FM_NS_PER_HOUR},
};

/* Digits; *ret_end points behind them. */
static int digits(const char *text, uint64_t *ret, const char **ret_end)
{
	uint64_t value = 0;
	const char *p = text;

	for (; isdigit((unsigned char)*p); p++) {
		if (__builtin_mul_overflow(value, (uint64_t)10, &value) ||
		    __builtin_add_overflow(value, (uint64_t)(*p - '0'), &value))
			return -ERANGE;
	}
	if (p == text)
		return -EINVAL;
	*ret = value;
	*ret_end = p;
	return 0;
}

static int number_with_unit(const char *text, const struct unit *units, size_t n_units,
			    uint64_t min, uint64_t max, uint64_t *ret)
{
	const char *end;
	uint64_t value;
	int r = digits(text, &value, &end);

	if (r < 0)
		return r;
	for (size_t i = 0; i < n_units; i++) {
		if (strcmp(end, units[i].name))
			continue;
		if (__builtin_mul_overflow(value, units[i].factor, &value))
			return -ERANGE;
		if (value < min || value > max)
			return -ERANGE;
		*ret = value;
		return 0;
	}
	return -EINVAL;
}

int fm_parse_u64(const char *text, uint64_t min, uint64_t max, uint64_t *ret)
{
	return number_with_unit(text, size_units, 1, min, max, ret);
}

int fm_parse_size(const char *text, uint64_t min, uint64_t max, uint64_t *ret)
{
	return number_with_unit(text, size_units, FM_ARRAY_SIZE(size_units), min, max, ret);
}

int fm_parse_duration_ns(const char *text, uint64_t min_ns, uint64_t max_ns, uint64_t *ret)
{
	return number_with_unit(text, duration_units, FM_ARRAY_SIZE(duration_units), min_ns, max_ns,
				ret);
}

int fm_parse_bool(const char *text, bool *ret)
{
	static const char *const words[] = {"no", "yes", "false", "true", "off", "on", "0", "1"};

	for (size_t i = 0; i < FM_ARRAY_SIZE(words); i++)
		if (!strcmp(text, words[i])) {
			*ret = i & 1;
			return 0;
		}
	return -EINVAL;
}

void fm_parse_list_free(char **list, size_t n)
{
	for (size_t i = 0; i < n; i++)
		free(list[i]);
	free(list);
}

/* The part up to a comma or the end, trimmed; NULL where it is empty. */
static char *list_part(const char *text, size_t length)
{
	while (length && isspace((unsigned char)*text)) {
		text++;
		length--;
	}
	while (length && isspace((unsigned char)text[length - 1]))
		length--;
	return length ? strndup(text, length) : NULL;
}

int fm_parse_list(const char *text, char ***ret, size_t *ret_n)
{
	size_t most = 1, n = 0;
	char **list;

	for (const char *p = text; *p; p++)
		most += *p == ',';
	list = calloc(most + 1, sizeof(*list));
	if (!list)
		return -ENOMEM;
	while (*text) {
		size_t length = strcspn(text, ",");

		list[n] = list_part(text, length);
		if (!list[n] || (text[length] == ',' && !text[length + 1])) {
			fm_parse_list_free(list, n + !!list[n]);
			return -EINVAL;
		}
		n++;
		text += length + (text[length] == ',');
	}
	*ret = list;
	*ret_n = n;
	return 0;
}

int fm_parse_host_port(const char *text, char **ret_host, char **ret_port)
{
	_fm_cleanup_free_ char *host = NULL;
	const char *colon = strrchr(text, ':'), *end = colon;
	uint64_t number;
	char *port;

	if (!colon || fm_parse_u64(colon + 1, 1, 65535, &number) < 0)
		return -EINVAL;
	if (*text == '[') {
		if (end == text || *--end != ']')
			return -EINVAL;
		text++;
	} else if (memchr(text, ':', (size_t)(colon - text))) {
		return -EINVAL; /* an IPv6 address without brackets: which colon? */
	}
	if (end <= text)
		return -EINVAL;
	for (const char *p = text; p < end; p++)
		if (isspace((unsigned char)*p) || !isprint((unsigned char)*p))
			return -EINVAL;
	host = strndup(text, (size_t)(end - text));
	if (!host)
		return -ENOMEM;
	port = strdup(colon + 1);
	if (!port)
		return -ENOMEM;
	*ret_host = FM_TAKE_PTR(host);
	*ret_port = port;
	return 0;
}
