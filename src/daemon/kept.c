/* SPDX-License-Identifier: Apache-2.0 */
/* Memory that outlives the process: see kept.h. */
#include "daemon/kept.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "daemon/region.h"

int fm_kept_init(struct fm_kept *kept, const struct fm_kept_form *form, struct fm_store *store,
		 const char *name, uint32_t n_elements)
{
	*kept = (struct fm_kept){.form = form, .store = store, .n_new = n_elements, .fd = -1};
	if (strlen(name) >= sizeof(kept->name))
		return -EINVAL;
	strcpy(kept->name, name);
	return 0;
}

static bool has_head(const struct fm_kept *kept)
{
	const struct fm_kept_form *form = kept->form;
	const struct fm_kept_head *head = kept->memory;

	return !form->magic || (!strncmp(head->magic, form->magic, sizeof(head->magic)) &&
				head->version == form->version);
}

static int take(struct fm_kept *kept, bool any)
{
	uint32_t value_size = kept->form->value_size;
	int r = -ENOENT;

	if (kept->store)
		r = fm_store_take(kept->store, kept->name);
	if (r < 0)
		return r;
	kept->fd = r;
	kept->in_store = true;
	kept->n_elements = kept->n_new;
	r = any ? fm_region_map_take(kept->fd, value_size, &kept->n_elements, &kept->memory)
		: fm_region_map_adopt(kept->fd, kept->n_elements, value_size, &kept->memory);
	if (r == 0 && has_head(kept))
		return 0;
	fm_kept_refuse(kept);
	return r < 0 ? r : -EINVAL;
}

int fm_kept_take(struct fm_kept *kept)
{
	return take(kept, false);
}

int fm_kept_take_any(struct fm_kept *kept)
{
	return take(kept, true);
}

int fm_kept_refuse(struct fm_kept *kept)
{
	fm_kept_done(kept);
	fm_kept_forget(kept);
	return -EINVAL;
}

int fm_kept_make(struct fm_kept *kept)
{
	const struct fm_kept_form *form = kept->form;
	struct fm_kept_head *head;
	int r = 0;

	if (kept->store)
		r = fm_region_map_new(form->map, kept->n_new, form->value_size, &kept->fd,
				      &kept->memory);
	else
		kept->memory = calloc(kept->n_new, form->value_size);
	if (r < 0 || !kept->memory)
		return r < 0 ? r : -ENOMEM;
	kept->n_elements = kept->n_new;
	if (form->magic) {
		head = kept->memory;
		memcpy(head->magic, form->magic, strnlen(form->magic, sizeof(head->magic)));
		head->version = form->version;
	}
	return 0;
}

int fm_kept_put(struct fm_kept *kept)
{
	int r;

	if (!kept->store || kept->in_store)
		return 0;
	r = fm_store_put(kept->store, kept->name, kept->fd);
	kept->in_store = r == 0;
	return r;
}

void fm_kept_forget(struct fm_kept *kept)
{
	if (kept->in_store)
		fm_store_remove(kept->store, kept->name);
	kept->in_store = false;
}

void fm_kept_done(struct fm_kept *kept)
{
	if (!kept->form)
		return;
	if (kept->store)
		fm_region_unmap(kept->memory, kept->n_elements, kept->form->value_size);
	else
		free(kept->memory);
	if (kept->fd >= 0)
		close(kept->fd);
	kept->memory = NULL;
	kept->fd = -1;
}
