/* SPDX-License-Identifier: Apache-2.0 */
/* Attachments: see hooks.h. */
#include "daemon/hooks.h"

#include <errno.h>
#include <stdlib.h>

int fm_hooks_add(struct fm_hooks *hooks, unsigned int ns, uint32_t ifindex, enum fm_hook hook,
		 bool layer3)
{
	struct fm_attachment *grown;
	int program, r;

	program = fm_generation_program(hooks->generation, ns, hook, layer3);
	if (program < 0)
		return program;
	grown = reallocarray(hooks->attachments, hooks->n + 1, sizeof(*grown));
	if (!grown)
		return -ENOMEM;
	hooks->attachments = grown;
	r = fm_attach(&grown[hooks->n], ifindex, hook, program, hooks->mode);
	if (r < 0)
		return r;
	grown[hooks->n].ns = ns;
	grown[hooks->n].layer3 = layer3;
	hooks->n++;
	return 0;
}

void fm_hooks_remove(struct fm_hooks *hooks, unsigned int ns, uint32_t ifindex, enum fm_hook hook)
{
	for (size_t i = 0; i < hooks->n; i++) {
		struct fm_attachment *attachment = &hooks->attachments[i];

		if (attachment->ns != ns || attachment->ifindex != ifindex ||
		    attachment->hook != hook)
			continue;
		fm_detach(attachment);
		*attachment = hooks->attachments[--hooks->n];
		return;
	}
}

static int replace_one(struct fm_attachment *attachment, struct fm_generation *generation)
{
	int program = fm_generation_program(generation, attachment->ns, attachment->hook,
					    attachment->layer3);

	if (program < 0)
		return program;
	return fm_attach_replace(attachment, program);
}

int fm_hooks_replace(struct fm_hooks *hooks, struct fm_generation *generation)
{
	for (size_t i = 0; i < hooks->n; i++) {
		int r = replace_one(&hooks->attachments[i], generation);

		/* A device that has just gone has nothing to replace; its notice is on the way. */
		if (r == 0 || r == -ENODEV || r == -ENOLINK)
			continue;
		while (i > 0)
			replace_one(&hooks->attachments[--i], hooks->generation);
		return r;
	}
	hooks->generation = generation;
	return 0;
}

const char *fm_hooks_describe(const struct fm_hooks *hooks)
{
	if (hooks->n == 0)
		return "nothing";
	return hooks->attachments[0].tcx ? "tcx" : "clsact";
}

void fm_hooks_done(struct fm_hooks *hooks)
{
	for (size_t i = 0; i < hooks->n; i++)
		fm_detach(&hooks->attachments[i]);
	free(hooks->attachments);
	*hooks = (struct fm_hooks){};
}
