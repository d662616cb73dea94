/* SPDX-License-Identifier: Apache-2.0 */
/* Numbers of namespaces: see numbering.h. An array of names by number; the first empty one ends it.
 */
#include "daemon/numbering.h"

#include <errno.h>
#include <limits.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/log.h"
#include "daemon/interfaces.h"
#include "daemon/region.h"

#define NAME "namespaces"
/* Beyond that, who is not named any more makes room: numbers begin anew. */
#define KEPT_MAX (FM_INTERFACES_NAMESPACES / 2)

struct name {
	char text[NAME_MAX + 1];
};

struct fm_numbering {
	struct fm_store *store;
	int fd;
	struct name *names; /* NULL: nothing is kept */
};

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

static void let_go(struct fm_numbering *numbering)
{
	fm_region_unmap(numbering->names, FM_INTERFACES_NAMESPACES, sizeof(struct name));
	numbering->names = NULL;
	if (numbering->fd >= 0)
		close(numbering->fd);
	numbering->fd = -1;
}

static void take(struct fm_numbering *numbering)
{
	void *memory = NULL;

	numbering->fd = fm_store_take(numbering->store, NAME);
	if (numbering->fd < 0)
		return;
	if (fm_region_map_adopt(numbering->fd, FM_INTERFACES_NAMESPACES, sizeof(struct name),
				&memory) == 0)
		numbering->names = memory;
	if (numbering->names && is_sound(numbering->names))
		return;
	fm_log_notice("numbers of network namespaces begin anew");
	let_go(numbering);
	fm_store_remove(numbering->store, NAME);
}

static void make(struct fm_numbering *numbering)
{
	void *memory;

	if (fm_region_map_new("fm_namespaces", FM_INTERFACES_NAMESPACES, sizeof(struct name),
			      &numbering->fd, &memory) < 0)
		return;
	numbering->names = memory;
	if (fm_store_put(numbering->store, NAME, numbering->fd) < 0)
		let_go(numbering);
}

int fm_numbering_new(struct fm_numbering **ret, struct fm_store *store)
{
	struct fm_numbering *numbering = calloc(1, sizeof(*numbering));

	if (!numbering)
		return -ENOMEM;
	numbering->store = store;
	numbering->fd = -1;
	if (store)
		take(numbering);
	*ret = numbering;
	return 0;
}

struct fm_numbering *fm_numbering_free(struct fm_numbering *numbering)
{
	if (numbering)
		let_go(numbering);
	free(numbering);
	return NULL;
}

const char *fm_numbering_name(const struct fm_numbering *numbering, unsigned int number)
{
	if (!numbering->names || number >= FM_INTERFACES_NAMESPACES)
		return NULL;
	return *numbering->names[number].text ? numbering->names[number].text : NULL;
}

void fm_numbering_add(struct fm_numbering *numbering, unsigned int number, const char *name)
{
	size_t size = strlen(name) + 1;
	char *text;

	if (numbering->store && !numbering->names)
		make(numbering);
	if (!numbering->names || number >= FM_INTERFACES_NAMESPACES || size > sizeof(struct name))
		return;
	/* It is there once its first octet is. */
	text = numbering->names[number].text;
	memcpy(text + 1, name + 1, size - 1);
	__atomic_store_n(text, *name, __ATOMIC_RELEASE);
}
