/* SPDX-License-Identifier: Apache-2.0 */
/* Lists of fields: see field-list.h. */
#include "ipfix/field-list.h"

#include <ctype.h>
#include <errno.h>
#include <string.h>

#include "base/macro.h"
#include "ipfix/layout.h"

/* Longer than any name. */
#define NAME_SIZE 64

bool fm_field_list_changes(const struct fm_field_list *list, unsigned int profile)
{
	for (size_t i = 0; i < fm_n_fields; i++) {
		bool in_profile = fm_fields[i].profile & profile;

		if (fm_field_list_has(list, i, in_profile) != in_profile)
			return true;
	}
	return false;
}

static size_t find(const char *name, size_t length)
{
	size_t i = 0;

	while (i < fm_n_fields && (strlen(fm_fields[i].ie_name) != length ||
				   memcmp(fm_fields[i].ie_name, name, length)))
		i++;
	return i;
}

int fm_field_list_add(struct fm_field_list *list, const char *word, size_t length)
{
	bool adds = length && *word == '+';
	size_t row;

	if (length < 2 || (!adds && *word != '-'))
		return -EINVAL;
	row = find(word + 1, length - 1);
	if (row == fm_n_fields)
		return -ENOENT;
	if (fm_field_list_adds(list, row) || fm_field_list_leaves_out(list, row))
		return -EEXIST;
	if (!adds && (fm_fields[row].profile & (FM_P_SUM | FM_P_KEY)))
		return -EPERM;
	(adds ? list->added : list->left_out)[row / 64] |= 1ULL << row % 64;
	return 0;
}

/* Letters that both have in the same order, whatever their case. */
static size_t common(const char *a, size_t a_length, const char *b)
{
	size_t longest[NAME_SIZE + 1] = {};

	for (size_t i = 0; i < a_length; i++) {
		size_t before = 0; /* longest[k] of the line above */

		for (size_t k = 0; k < NAME_SIZE && b[k]; k++) {
			size_t above = longest[k + 1];

			if (tolower((unsigned char)a[i]) == tolower((unsigned char)b[k]))
				longest[k + 1] = before + 1;
			else
				longest[k + 1] = FM_MAX(above, longest[k]);
			before = above;
		}
	}
	return longest[FM_MIN(strlen(b), (size_t)NAME_SIZE)];
}

size_t fm_field_list_nearest(const char *name, size_t length)
{
	size_t best = 0, best_likeness = 0;

	length = FM_MIN(length, (size_t)NAME_SIZE);
	for (size_t i = 0; i < fm_n_fields; i++) {
		const char *other = fm_fields[i].ie_name;
		size_t likeness = 2000 * common(name, length, other) / (length + strlen(other));

		if (likeness > best_likeness) {
			best_likeness = likeness;
			best = i;
		}
	}
	return best;
}
