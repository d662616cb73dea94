/* SPDX-License-Identifier: Apache-2.0 */
/* Attachments: see hooks.h. */
#include "daemon/hooks.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include <bpf/bpf.h>

/* A device is the same while namespace and index are. */
static int link_name(uint32_t ifindex, enum fm_hook hook, char ret[FM_STORE_NAME_MAX])
{
	struct stat status;

	if (stat("/proc/thread-self/ns/net", &status) < 0)
		return -errno;
	snprintf(ret, FM_STORE_NAME_MAX, "link-%llu-%u-%s", (unsigned long long)status.st_ino,
		 ifindex, hook == FM_HOOK_INGRESS ? "ingress" : "egress");
	return 0;
}

/* Goes on with the link of an earlier process, if there is one that can be. */
static int adopt(struct fm_hooks *hooks, struct fm_attachment *ret, const char *name,
		 uint32_t ifindex, enum fm_hook hook, int program)
{
	int r, fd = fm_store_take(hooks->store, name);

	if (fd < 0)
		return fd;
	/* Not by the way that is wanted now: taken off, and attached anew. */
	r = hooks->mode == FM_ATTACH_CLSACT ? -EINVAL
					    : fm_attach_adopt(ret, ifindex, hook, fd, program);
	if (r == 0) {
		strcpy(ret->kept, name);
		hooks->n_adopted++;
		return 0;
	}
	fm_store_remove(hooks->store, name);
	/* One that is not what its name says may be somebody's, or ours at another hook. */
	if (hooks->mode == FM_ATTACH_CLSACT)
		bpf_link_detach(fd);
	close(fd);
	return r;
}

/* A link that is not kept counts as well; only a next process does not find it. */
static void keep(struct fm_hooks *hooks, struct fm_attachment *attachment, const char *name)
{
	if (attachment->tcx && fm_store_put(hooks->store, name, attachment->link_fd) == 0)
		strcpy(attachment->kept, name);
}

static int attach(struct fm_hooks *hooks, struct fm_attachment *ret, uint32_t ifindex,
		  enum fm_hook hook, int program)
{
	char name[FM_STORE_NAME_MAX];
	int r;

	if (!hooks->store)
		return fm_attach(ret, ifindex, hook, program, hooks->mode);
	r = link_name(ifindex, hook, name);
	if (r < 0 || adopt(hooks, ret, name, ifindex, hook, program) == 0)
		return r;
	r = fm_attach(ret, ifindex, hook, program, hooks->mode);
	if (r == 0)
		keep(hooks, ret, name);
	return r;
}

static void detach(struct fm_hooks *hooks, struct fm_attachment *attachment)
{
	fm_detach(attachment);
	if (*attachment->kept)
		fm_store_remove(hooks->store, attachment->kept);
}

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
	r = attach(hooks, &grown[hooks->n], ifindex, hook, program);
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
		detach(hooks, attachment);
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
		detach(hooks, &hooks->attachments[i]);
	free(hooks->attachments);
	*hooks = (struct fm_hooks){};
}

void fm_hooks_leave(struct fm_hooks *hooks)
{
	for (size_t i = 0; i < hooks->n; i++)
		fm_attach_leave(&hooks->attachments[i]);
	free(hooks->attachments);
	*hooks = (struct fm_hooks){};
}
