/* SPDX-License-Identifier: Apache-2.0 */
/* Numbers of namespaces: see numbering.h. An array of names by number; the first empty one ends it.
 */
#include "daemon/numbering.h"

#include <errno.h>
#include <limits.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>

#include "base/log.h"
#include "daemon/interfaces.h"
#include "daemon/kept.h"

/* Beyond that, who is not named any more makes room: numbers begin anew. */
#define KEPT_MAX (FM_INTERFACES_NAMESPACES / 2)

struct name {
	char text[NAME_MAX + 1];
};

static const struct fm_kept_form kept_form = {
	.map = "fm_namespaces",
	.value_size = sizeof(struct name),
};

struct fm_numbering {
	struct fm_kept kept;
};

/* NULL: nothing is kept. */
static struct name *names_of(const struct fm_numbering *numbering)
{
	return numbering->kept.memory;
}

static bool is_sound(const struct name *names)
{
	unsigned int n = 1;

	for (; n <= KEPT_MAX && *names[n].text; n++) {
		if (!memchr(names[n].text, 0, sizeof(names[n].text)) || strchr(names[n].text, '/'))
			return false;
		for (unsigned int i = 1; i < n; i++)
			if (!strcmp(names[i].text, names[n].text))
				return false;
	}
	return n > 1 && n <= KEPT_MAX;
}

static void make(struct fm_kept *kept)
{
	if (kept->store && !kept->memory && fm_kept_make(kept) == 0 && fm_kept_put(kept) < 0)
		fm_kept_done(kept);
}

int fm_numbering_new(struct fm_numbering **ret, struct fm_store *store)
{
	struct fm_numbering *numbering = calloc(1, sizeof(*numbering));
	int r;

	if (!numbering)
		return -ENOMEM;
	r = fm_kept_init(&numbering->kept, &kept_form, store, "namespaces",
			 FM_INTERFACES_NAMESPACES);
	if (r == 0)
		r = fm_kept_take(&numbering->kept);
	if (r == 0 && !is_sound(names_of(numbering)))
		r = fm_kept_refuse(&numbering->kept);
	if (r < 0 && r != -ENOENT)
		fm_log_notice("numbers of network namespaces begin anew");
	*ret = numbering;
	return 0;
}

struct fm_numbering *fm_numbering_free(struct fm_numbering *numbering)
{
	if (numbering)
		fm_kept_done(&numbering->kept);
	free(numbering);
	return NULL;
}

const char *fm_numbering_name(const struct fm_numbering *numbering, unsigned int number)
{
	const struct name *names = names_of(numbering);

	if (!names || number >= FM_INTERFACES_NAMESPACES)
		return NULL;
	return *names[number].text ? names[number].text : NULL;
}

void fm_numbering_add(struct fm_numbering *numbering, unsigned int number, const char *name)
{
	size_t size = strlen(name) + 1;
	char *text;

	make(&numbering->kept);
	if (!names_of(numbering) || number >= FM_INTERFACES_NAMESPACES ||
	    size > sizeof(struct name))
		return;
	/* It is there once its first octet is. */
	text = names_of(numbering)[number].text;
	memcpy(text + 1, name + 1, size - 1);
	__atomic_store_n(text, *name, __ATOMIC_RELEASE);
}
