/* SPDX-License-Identifier: Apache-2.0 */
/* Removing every trace: see purge.h. */
#include "daemon/purge.h"

#include <dirent.h>
#include <errno.h>
#include <net/if.h>
#include <string.h>
#include <unistd.h>

#include <bpf/bpf.h>

#include "daemon/attach.h"
#include "daemon/control.h"
#include "daemon/netns.h"
#include "daemon/store.h"

struct purge {
	FILE *out;
	struct fm_store *store;
	unsigned int kept, links, filters;
};

static void purge_kept(void *userdata, const char *name)
{
	struct purge *purge = userdata;
	int fd;

	purge->kept++;
	if (strncmp(name, "link-", strlen("link-")))
		return;
	/* Only what is a link can be detached; anything else is just no longer pinned. */
	fd = fm_store_take(purge->store, name);
	if (fd < 0)
		return;
	purge->links += bpf_link_detach(fd) == 0;
	close(fd);
}

static int purge_directory(struct purge *purge, const char *directory)
{
	_fm_cleanup_(fm_store_freep) struct fm_store *store = NULL;
	int r;

	if (!*directory || access(directory, F_OK) < 0)
		return 0;
	r = fm_store_new(&store, directory);
	if (r == -EWOULDBLOCK) {
		fprintf(purge->out, "%s: a flowmond is running that uses it\n", directory);
		return -EBUSY;
	}
	if (r < 0) {
		fprintf(purge->out, "%s: %s\n", directory, strerror(-r));
		return r;
	}
	purge->store = store;
	fm_store_each(store, purge_kept, purge);
	fm_store_clear(store);
	return 0;
}

/* The devices of the namespace where the process is. */
static int purge_devices(struct purge *purge)
{
	struct if_nameindex *devices = if_nameindex();
	int result = 0;

	if (!devices)
		return -errno;
	for (const struct if_nameindex *device = devices; device->if_index; device++) {
		int r = fm_attach_purge(device->if_index);

		if (r < 0) {
			fprintf(purge->out, "%s: %s\n", device->if_name, strerror(-r));
			result = r;
			continue;
		}
		purge->filters += (unsigned int)r;
	}
	if_freenameindex(devices);
	return result;
}

static int purge_namespace(struct purge *purge, const char *name, int home_fd)
{
	_fm_cleanup_close_ int fd = -1;
	int r = fm_netns_open(name, &fd);

	if (r < 0)
		return 0; /* a file that is none */
	r = fm_netns_enter(fd);
	if (r < 0)
		return r;
	r = purge_devices(purge);
	if (fm_netns_enter(home_fd) < 0)
		return -EIO;
	return r;
}

/* Whoever may not enter other namespaces has put nothing there. */
static int purge_namespaces(struct purge *purge)
{
	_fm_cleanup_close_ int home_fd = -1;
	DIR *directory = opendir(FM_NETNS_DIRECTORY);
	struct dirent *entry;
	int r = 0;

	if (!directory)
		return 0;
	r = fm_netns_open_own(&home_fd);
	while (r == 0 && (entry = readdir(directory)))
		if (*entry->d_name != '.')
			r = purge_namespace(purge, entry->d_name, home_fd);
	closedir(directory);
	return r == -EPERM ? 0 : r;
}

int fm_purge(const struct fm_config *config, FILE *out)
{
	struct purge purge = {.out = out};
	int r;

	if (fm_control_is_alive(config->control_socket)) {
		fprintf(out, "a flowmond is running: it answers at %s\n", config->control_socket);
		return -EBUSY;
	}
	r = purge_directory(&purge, config->pin_directory);
	if (r < 0)
		return r;
	r = purge_devices(&purge);
	if (r == 0)
		r = purge_namespaces(&purge);
	if (purge.kept + purge.filters == 0)
		fprintf(out, "nothing of flowmond was there\n");
	else
		fprintf(out,
			"removed: %u objects that were kept, %u links and %u filters of them\n",
			purge.kept + purge.filters, purge.links, purge.filters);
	return r;
}
