/* SPDX-License-Identifier: Apache-2.0 */
/* Patterns of interface names: see pattern.h. */
#include "daemon/pattern.h"

#include <errno.h>
#include <fnmatch.h>
#include <limits.h>
#include <net/if.h>
#include <string.h>

/* Longer ones fit no name (IFNAMSIZ) unless they are mostly brackets. */
#define PATTERN_SIZE 128

const char *fm_pattern_namespace(const char *pattern)
{
	const char *at = strchr(pattern, '@');

	return at ? at + 1 : NULL;
}

/* Whether a pattern without its ! speaks of the namespace. */
static bool speaks_of(const char *pattern, const char *ns)
{
	const char *its = fm_pattern_namespace(pattern);

	if (!ns || !its)
		return !ns && !its;
	return !strcmp(ns, its);
}

static bool fits(const char *pattern, const char *name, bool literally)
{
	size_t length = strcspn(pattern, "@");
	char text[PATTERN_SIZE];

	if (length >= sizeof(text))
		return false;
	memcpy(text, pattern, length);
	text[length] = '\0';
	return literally ? !strcmp(text, name) : fnmatch(text, name, 0) == 0;
}

bool fm_pattern_match(const struct fm_names *patterns, const char *ns, const char *name,
		      bool special)
{
	bool spoken_of = patterns->n == 0 && !ns, named = false, any_named = false;

	for (size_t i = 0; i < patterns->n; i++) {
		const char *pattern = patterns->v[i];
		bool exclusion = *pattern == '!';

		pattern += exclusion;
		if (!speaks_of(pattern, ns))
			continue;
		spoken_of = true;
		if (exclusion && fits(pattern, name, false))
			return false;
		any_named |= !exclusion;
		named |= !exclusion && fits(pattern, name, special);
	}
	return named || (spoken_of && !any_named && !special);
}

int fm_pattern_check(const char *pattern)
{
	const char *text = pattern + (*pattern == '!'), *ns = fm_pattern_namespace(text);
	size_t length = strcspn(text, "@");

	if (length == 0 || length >= PATTERN_SIZE || memchr(text, '/', length) ||
	    memchr(text, ':', length))
		return -EINVAL;
	if (length >= IFNAMSIZ && strcspn(text, "*?[\\") >= length)
		return -EINVAL;
	if (ns && (!*ns || strpbrk(ns, "/@") || !strcmp(ns, ".") || !strcmp(ns, "..") ||
		   strlen(ns) > NAME_MAX))
		return -EINVAL;
	return 0;
}
