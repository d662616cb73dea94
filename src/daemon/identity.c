/* SPDX-License-Identifier: Apache-2.0 */
/* Certificates and keys of collectors: see identity.h. */
#include "daemon/identity.h"

#include <errno.h>
#include <limits.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

static bool is_secure(const struct fm_collector_config *collector)
{
	return collector->transport == FM_TRANSPORT_TLS ||
	       collector->transport == FM_TRANSPORT_DTLS;
}

/* The path that a setting names; "": none. */
static int find_file(const char *setting, char ret[PATH_MAX])
{
	const char *directory = getenv("CREDENTIALS_DIRECTORY");
	int size;

	if (!*setting || *setting == '/')
		size = snprintf(ret, PATH_MAX, "%s", setting);
	else if (directory)
		size = snprintf(ret, PATH_MAX, "%s/%s", directory, setting);
	else
		return -ENOENT;
	return size < PATH_MAX ? 0 : -ENAMETOOLONG;
}

/* The settings of the files, in the order of struct fm_tls_files. */
struct file_setting {
	const char *key, *value;
	char path[PATH_MAX];
};

static int find_files(struct file_setting settings[3], struct fm_buf *complaint)
{
	for (unsigned int i = 0; i < 3; i++) {
		int r = find_file(settings[i].value, settings[i].path);

		if (r == -ENOENT)
			fm_buf_printf(
				complaint,
				"%s = %s: there are no credentials: expected LoadCredential= in the unit, or a path that begins with /",
				settings[i].key, settings[i].value);
		else if (r < 0)
			fm_buf_printf(complaint, "%s = %s: %s", settings[i].key, settings[i].value,
				      strerror(-r));
		if (r < 0)
			return r;
	}
	return 0;
}

int fm_identity_load(const struct fm_collector_config *collector, SSL_CTX **ret,
		     struct fm_buf *complaint)
{
	struct file_setting settings[3] = {
		{.key = "certificate_file", .value = collector->certificate_file},
		{.key = "key_file", .value = collector->key_file},
		{.key = "ca_file", .value = collector->ca_file},
	};
	const char *members[3] = {};
	const struct fm_tls_files *files = (const struct fm_tls_files *)members;
	_fm_cleanup_buf_ struct fm_buf words = {};
	const char *const *part;
	int r = find_files(settings, complaint);

	_Static_assert(sizeof(members) == sizeof(*files), "one path a file");
	if (r < 0)
		return r;
	for (unsigned int i = 0; i < 3; i++)
		members[i] = *settings[i].path ? settings[i].path : NULL;
	r = fm_tls_context_new(ret, files, collector->transport == FM_TRANSPORT_DTLS, &part,
			       &words);
	if (r == 0)
		return 0;
	if (part)
		fm_buf_printf(complaint, "%s = ", settings[part - members].key);
	fm_buf_printf(complaint, "%s", words.data ? words.data : "no memory");
	return r;
}

/* What tells one state of a file from another. */
static uint64_t stamp(uint64_t before, const char *setting)
{
	char path[PATH_MAX];
	struct stat status;
	uint64_t parts[4] = {};

	if (find_file(setting, path) == 0 && stat(path, &status) == 0) {
		parts[0] = status.st_ino;
		parts[1] = (uint64_t)status.st_size;
		parts[2] = (uint64_t)status.st_mtim.tv_sec;
		parts[3] = (uint64_t)status.st_mtim.tv_nsec;
	}
	for (unsigned int i = 0; i < FM_ARRAY_SIZE(parts); i++)
		before = (before ^ parts[i]) * 0x100000001b3 + 1;
	return before;
}

void fm_identity_note(struct fm_config *config)
{
	for (size_t i = 0; i < config->n_collectors; i++) {
		struct fm_collector_config *collector = &config->collectors[i];

		collector->identity =
			stamp(stamp(stamp(0, collector->certificate_file), collector->key_file),
			      collector->ca_file);
	}
}

int fm_identity_check(struct fm_config *config, struct fm_buf *complaints)
{
	int result = 0;

	fm_identity_note(config);
	for (size_t i = 0; i < config->n_collectors; i++) {
		const struct fm_collector_config *collector = &config->collectors[i];
		_fm_cleanup_(fm_tls_context_freep) SSL_CTX *context = NULL;
		_fm_cleanup_buf_ struct fm_buf complaint = {};

		if (!is_secure(collector))
			continue;
		if (fm_identity_load(collector, &context, &complaint) == 0)
			continue;
		fm_buf_printf(complaints, "%s[collector %s] %s", complaints->size ? "\n" : "",
			      collector->name, complaint.data ? complaint.data : "no memory");
		result = -EINVAL;
	}
	return result;
}
