/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Lists of fields: what records have beside the fields of their profile, and what they have not. A
 * bit each row of fields.def; zeros leave the profile as it is. Part of a session's options.
 */
#ifndef FM_FIELD_LIST_H
#define FM_FIELD_LIST_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* Numbers of the rows. */
enum fm_row {
#define FM_FIELD(name, ...) FM_ROW_##name,
#include "ipfix/fields.def"
#undef FM_FIELD
	_FM_ROW_MAX,
};

#define FM_FIELD_LIST_WORDS ((_FM_ROW_MAX + 63) / 64)

struct fm_field_list {
	uint64_t added[FM_FIELD_LIST_WORDS];
	uint64_t left_out[FM_FIELD_LIST_WORDS];
};

static inline bool fm_field_list_adds(const struct fm_field_list *list, size_t row)
{
	return list->added[row / 64] >> row % 64 & 1;
}

static inline bool fm_field_list_leaves_out(const struct fm_field_list *list, size_t row)
{
	return list->left_out[row / 64] >> row % 64 & 1;
}

/* Whether records have a row, which is in their profile or is not. */
static inline bool fm_field_list_has(const struct fm_field_list *list, size_t row, bool in_profile)
{
	return (in_profile || fm_field_list_adds(list, row)) &&
	       !fm_field_list_leaves_out(list, row);
}

/* Whether records have other rows than those of the profile. */
bool fm_field_list_changes(const struct fm_field_list *list, unsigned int profile);

/*
 * Takes up "+name" or "-name", length octets. 0; -EINVAL: it is neither; -ENOENT: no element has
 * that name; -EEXIST: the list has it; -EPERM: it cannot be left out.
 */
int fm_field_list_add(struct fm_field_list *list, const char *word, size_t length);

/* The row whose element's name is most like this one. */
size_t fm_field_list_nearest(const char *name, size_t length);

#endif
