/* SPDX-License-Identifier: Apache-2.0 */
/* Descriptors that outlive the process: see store.h. */
#include "daemon/store.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <linux/magic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <sys/statfs.h>

#include <bpf/bpf.h>
#include <systemd/sd-daemon.h>

#include "base/macro.h"

/* Something that is kept. */
struct kept {
	char name[FM_STORE_NAME_MAX];
	int fd;	     /* from systemd; -1 else */
	bool pinned; /* in the directory, else in systemd's store */
	bool ours;   /* put or taken by this process */
};

struct fm_store {
	char *directory; /* NULL: none */
	int directory_fd;
	bool notify; /* systemd listens */
	struct kept *kept;
	size_t n;
};

static struct kept *find(struct fm_store *store, const char *name)
{
	for (size_t i = 0; i < store->n; i++)
		if (!strcmp(store->kept[i].name, name))
			return &store->kept[i];
	return NULL;
}

static int add(struct fm_store *store, const char *name, int fd, bool pinned, bool ours)
{
	struct kept *grown = reallocarray(store->kept, store->n + 1, sizeof(*grown));

	if (!grown)
		return -ENOMEM;
	store->kept = grown;
	grown[store->n] = (struct kept){.fd = fd, .pinned = pinned, .ours = ours};
	strcpy(grown[store->n++].name, name);
	return 0;
}

static bool is_name(const char *name)
{
	size_t n = strspn(name, "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789-_");

	return n > 0 && n < FM_STORE_NAME_MAX && !name[n];
}

/* Names that this program gives; others' things in the directory are theirs. */
static bool is_ours(const char *name)
{
	static const char *const prefixes[] = {"shared-", "link-",	"outbox-", "memo-",
					       "ledger",  "namespaces", "audit"};
	unsigned int number;
	int end = 0;

	if (sscanf(name, "g%u-%n", &number, &end) == 1 && end)
		return true;
	for (size_t i = 0; i < FM_ARRAY_SIZE(prefixes); i++)
		if (!strncmp(name, prefixes[i], strlen(prefixes[i])))
			return true;
	return false;
}

static void make_path(const struct fm_store *store, const char *name, char ret[PATH_MAX])
{
	snprintf(ret, PATH_MAX, "%s/%s", store->directory, name);
}

/* --- systemd's store --- */

static int notify_put(const char *name, int fd)
{
	char message[FM_STORE_NAME_MAX + 64];
	int r;

	/* Without FDPOLL=0 descriptors of BPF objects are dropped at once: they poll as errors. */
	snprintf(message, sizeof(message), "FDSTORE=1\nFDPOLL=0\nFDNAME=%s", name);
	r = sd_pid_notify_with_fds(0, false, message, &fd, 1);
	return r < 0 ? r : 0;
}

static void notify_remove(const char *name)
{
	sd_notifyf(false, "FDSTOREREMOVE=1\nFDNAME=%s", name);
}

/* What systemd handed over; names that are not of ours are let go. */
static int take_listed(struct fm_store *store)
{
	char **names = NULL;
	int n = sd_listen_fds_with_names(true, &names);
	int r = 0;

	for (int i = 0; i < n; i++) {
		int fd = SD_LISTEN_FDS_START + i;

		if (r < 0 || !is_name(names[i]) || find(store, names[i]))
			close(fd);
		else
			r = add(store, names[i], fd, false, false);
		free(names[i]);
	}
	free(names);
	return n < 0 ? n : r;
}

/* --- the directory --- */

static int list_directory(struct fm_store *store)
{
	DIR *directory = opendir(store->directory);
	struct dirent *entry;
	int r = 0;

	if (!directory)
		return -errno;
	while (r == 0 && (entry = readdir(directory)))
		if (is_name(entry->d_name) && is_ours(entry->d_name) && !find(store, entry->d_name))
			r = add(store, entry->d_name, -1, true, false);
	closedir(directory);
	return r;
}

static int open_directory(struct fm_store *store)
{
	struct statfs system;

	if (mkdir(store->directory, 0700) < 0 && errno != EEXIST)
		return -errno;
	store->directory_fd = open(store->directory, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	if (store->directory_fd < 0 || fstatfs(store->directory_fd, &system) < 0)
		return -errno;
	if (system.f_type != BPF_FS_MAGIC)
		return -EMEDIUMTYPE;
	if (flock(store->directory_fd, LOCK_EX | LOCK_NB) < 0)
		return -errno;
	return list_directory(store);
}

static bool is_bpf(int fd)
{
	struct bpf_map_info info = {};
	__u32 size = sizeof(info);

	return bpf_obj_get_info_by_fd(fd, &info, &size) == 0;
}

/* --- what others call --- */

int fm_store_new(struct fm_store **ret, const char *directory)
{
	_fm_cleanup_(fm_store_freep) struct fm_store *store = calloc(1, sizeof(*store));
	int r;

	if (!store)
		return -ENOMEM;
	store->directory_fd = -1;
	store->notify = getenv("NOTIFY_SOCKET");
	if (directory && *directory) {
		store->directory = strdup(directory);
		if (!store->directory)
			return -ENOMEM;
		r = open_directory(store);
		if (r < 0)
			return r;
	}
	r = take_listed(store);
	if (r < 0)
		return r;
	*ret = FM_TAKE_PTR(store);
	return 0;
}

struct fm_store *fm_store_free(struct fm_store *store)
{
	if (!store)
		return NULL;
	for (size_t i = 0; i < store->n; i++)
		if (store->kept[i].fd >= 0)
			close(store->kept[i].fd);
	if (store->directory_fd >= 0)
		close(store->directory_fd);
	free(store->directory);
	free(store->kept);
	free(store);
	return NULL;
}

int fm_store_put(struct fm_store *store, const char *name, int fd)
{
	char path[PATH_MAX];
	bool pinned = store->directory && is_bpf(fd);
	int r;

	if (!is_name(name))
		return -EINVAL;
	if (find(store, name))
		return -EEXIST;
	if (!pinned && !store->notify)
		return 0;
	r = add(store, name, -1, pinned, true);
	if (r < 0)
		return r;
	if (pinned) {
		make_path(store, name, path);
		r = bpf_obj_pin(fd, path) < 0 ? -errno : 0;
	} else {
		r = notify_put(name, fd);
	}
	if (r < 0)
		store->n--;
	return r;
}

int fm_store_take(struct fm_store *store, const char *name)
{
	struct kept *kept = find(store, name);
	char path[PATH_MAX];
	int fd;

	if (!kept || (!kept->pinned && kept->fd < 0))
		return -ENOENT;
	if (kept->pinned) {
		make_path(store, name, path);
		fd = bpf_obj_get(path);
		if (fd < 0)
			return -errno;
	} else {
		fd = fcntl(kept->fd, F_DUPFD_CLOEXEC, 3);
		if (fd < 0)
			return -errno;
	}
	kept->ours = true;
	return fd;
}

bool fm_store_has(struct fm_store *store, const char *name, bool *ret_ours)
{
	const struct kept *kept = find(store, name);

	*ret_ours = kept && kept->ours;
	return kept;
}

/* Leaves a place of the list empty. */
static void drop(struct fm_store *store, struct kept *kept)
{
	char path[PATH_MAX];

	if (kept->pinned) {
		make_path(store, kept->name, path);
		unlink(path);
	} else {
		notify_remove(kept->name);
	}
	if (kept->fd >= 0)
		close(kept->fd);
	*kept = store->kept[--store->n];
}

void fm_store_remove(struct fm_store *store, const char *name)
{
	struct kept *kept = find(store, name);

	if (kept)
		drop(store, kept);
}

void fm_store_remove_all(struct fm_store *store, const char *prefix)
{
	for (size_t i = store->n; i-- > 0;)
		if (!strncmp(store->kept[i].name, prefix, strlen(prefix)))
			drop(store, &store->kept[i]);
}

void fm_store_each(struct fm_store *store, void (*fn)(void *userdata, const char *name),
		   void *userdata)
{
	/* Backwards and by copy: fn may take and remove. */
	for (size_t i = store->n; i-- > 0;) {
		char name[FM_STORE_NAME_MAX];

		if (i >= store->n || store->kept[i].ours)
			continue;
		strcpy(name, store->kept[i].name);
		fn(userdata, name);
	}
}

size_t fm_store_remove_rest(struct fm_store *store)
{
	size_t removed = 0;

	for (size_t i = store->n; i-- > 0;)
		if (!store->kept[i].ours) {
			drop(store, &store->kept[i]);
			removed++;
		}
	return removed;
}

void fm_store_clear(struct fm_store *store)
{
	while (store->n)
		drop(store, &store->kept[store->n - 1]);
	if (store->directory)
		rmdir(store->directory);
}

const char *fm_store_describe(const struct fm_store *store)
{
	if (store->directory)
		return store->directory;
	return store->notify ? "systemd" : NULL;
}
