/* SPDX-License-Identifier: Apache-2.0 */
/* Texts of others: see text.h. */
#include "base/text.h"

#include <stdbool.h>
#include <string.h>

#include "base/macro.h"

#define TEXT_MAX 256

size_t fm_text_utf8_length(const unsigned char *text)
{
	size_t n;

	if (text[0] < 0x80)
		return 1;
	if (text[0] >= 0xc2 && text[0] <= 0xdf)
		n = 2;
	else if ((text[0] & 0xf0) == 0xe0)
		n = 3;
	else if (text[0] >= 0xf0 && text[0] <= 0xf4)
		n = 4;
	else
		return 0;
	for (size_t i = 1; i < n; i++)
		if ((text[i] & 0xc0) != 0x80)
			return 0;
	if ((text[0] == 0xe0 && text[1] < 0xa0) || (text[0] == 0xed && text[1] > 0x9f) ||
	    (text[0] == 0xf0 && text[1] < 0x90) || (text[0] == 0xf4 && text[1] > 0x8f))
		return 0;
	return n;
}

/* C0, DEL and, in two octets, C1. */
static bool is_control(const unsigned char *text)
{
	return text[0] < 0x20 || text[0] == 0x7f || (text[0] == 0xc2 && text[1] < 0xa0);
}

/* Whether the text ends within a sequence that begins here. */
static bool is_cut(const unsigned char *text)
{
	size_t wanted = text[0] >= 0xf0 ? 4 : text[0] >= 0xe0 ? 3 : 2;
	size_t n = 1;

	if (text[0] < 0xc2 || text[0] > 0xf4)
		return false;
	while (n < wanted && (text[n] & 0xc0) == 0x80)
		n++;
	return n < wanted && !text[n];
}

void fm_text_copy(char *ret, size_t size, const char *text, size_t max)
{
	char whole[TEXT_MAX + 1] = {};
	const unsigned char *at = (const unsigned char *)whole;
	size_t used = 0;

	memcpy(whole, text, strnlen(text, FM_MIN(max, (size_t)TEXT_MAX)));
	memset(ret, 0, size);
	while (*at && !is_cut(at)) {
		size_t n = fm_text_utf8_length(at);
		bool bad = n == 0 || is_control(at);

		if (used + (bad ? 1 : n) >= size)
			break;
		if (bad)
			ret[used++] = '?';
		else
			memcpy(ret + used, at, n);
		used += bad ? 0 : n;
		at += n ? n : 1;
	}
}
