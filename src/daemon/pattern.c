/* SPDX-License-Identifier: Apache-2.0 */
/* Patterns of interface names: see pattern.h. */
#include "daemon/pattern.h"

#include <fnmatch.h>
#include <string.h>

#define NAME_SIZE 64

const char *fm_pattern_namespace(const char *pattern)
{
	const char *at = strchr(pattern, '@');

	return at ? at + 1 : NULL;
}

/* Whether a pattern without its ! speaks of the namespace and names the interface. */
static bool match_one(const char *pattern, const char *ns, const char *name, bool literally)
{
	const char *pattern_ns = fm_pattern_namespace(pattern);
	size_t length = strcspn(pattern, "@");
	char text[NAME_SIZE];

	if (length >= sizeof(text) || !ns != !pattern_ns || (ns && strcmp(ns, pattern_ns)))
		return false;
	memcpy(text, pattern, length);
	text[length] = '\0';
	if (literally)
		return !strcmp(text, name);
	return fnmatch(text, name, 0) == 0;
}

bool fm_pattern_match(const struct fm_names *patterns, const char *ns, const char *name,
		      bool special)
{
	bool named = false, any_positive = false;

	for (size_t i = 0; i < patterns->n; i++) {
		const char *pattern = patterns->v[i];

		if (*pattern == '!') {
			if (match_one(pattern + 1, ns, name, false))
				return false;
			continue;
		}
		any_positive |= !fm_pattern_namespace(pattern);
		named |= match_one(pattern, ns, name, special);
	}
	return named || (!any_positive && !ns && !special);
}
