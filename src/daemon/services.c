/* SPDX-License-Identifier: Apache-2.0 */
/* Applications by port: see services.h. */
#include "daemon/services.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/macro.h"
#include "base/parse.h"

#define FILE_OCTETS_MAX (4 << 20)
#define WORD_MAX	64
#define ENGINE_L3	(1u << 24)
#define ENGINE_L4	(3u << 24)
#define BLANKS		" \t\r\v\f"

/* What is no printable ASCII becomes a question mark: names go to terminals and files of others. */
static void copy_word(char *ret, size_t size, const char *word, size_t length)
{
	length = FM_MIN(length, size - 1);
	for (size_t i = 0; i < length; i++)
		ret[i] = (char)(word[i] > ' ' && word[i] <= '~' ? word[i] : '?');
	ret[length] = '\0';
}

/* The next word of a line; false: there is none. */
static bool next_word(const char **at, const char *end, char ret[WORD_MAX])
{
	const char *begin = *at;

	while (begin < end && *begin && strchr(BLANKS, *begin))
		begin++;
	for (*at = begin; *at < end && !(**at && strchr(BLANKS, **at));)
		(*at)++;
	copy_word(ret, WORD_MAX, begin, (size_t)(*at - begin));
	return *at > begin;
}

static bool is_named(const struct fm_services *services, uint16_t port)
{
	return services && services->at[port];
}

/* Whether a word is one of the parts of a text. */
static bool has_part(const char *text, char separator, const char *word)
{
	size_t length = strlen(word);

	for (const char *at = text; at;
	     at = strchr(at, separator) ? strchr(at, separator) + 1 : NULL)
		if (!strncmp(at, word, length) && (!at[length] || at[length] == separator))
			return true;
	return false;
}

/* Adds to a text, as a whole or not at all. */
static void join(char *text, size_t size, const char *separator, const char *more)
{
	size_t length = strlen(text);

	if (length + strlen(separator) + strlen(more) < size)
		snprintf(text + length, size - length, "%s%s", *text ? separator : "", more);
}

static struct fm_application_record *find_or_add(struct fm_services *services, uint16_t port)
{
	struct fm_application_record *grown;

	if (services->at[port])
		return &services->v[services->at[port] - 1];
	if (!(services->n & (services->n - 1))) { /* 0, 1, 2, 4...: full */
		grown = reallocarray(services->v, FM_MAX(2 * services->n, (size_t)1),
				     sizeof(*grown));
		if (!grown)
			return NULL;
		services->v = grown;
	}
	services->v[services->n] = (struct fm_application_record){.id = ENGINE_L4 | port};
	services->at[port] = (uint16_t)++services->n;
	return &services->v[services->n - 1];
}

/* number: "443/tcp". A line that is none is passed over. */
static int add(struct fm_services *services, const char *name, char *number)
{
	char text[2 * WORD_MAX + 2], *protocol = strchr(number, '/');
	struct fm_application_record *service;
	uint64_t port;

	if (!protocol)
		return 0;
	*protocol = '\0';
	if (!protocol[1] || fm_parse_u64(number, 1, UINT16_MAX, &port) < 0)
		return 0;
	service = find_or_add(services, (uint16_t)port);
	if (!service)
		return -ENOMEM;
	*protocol = '/';
	snprintf(text, sizeof(text), "%s %s", number, name);
	/* The first is there in any case. */
	if (!*service->name)
		copy_word(service->name, sizeof(service->name), name, strlen(name));
	else if (!has_part(service->name, '/', name))
		join(service->name, sizeof(service->name), "/", name);
	if (!*service->description)
		memcpy(service->description, text, strnlen(text, sizeof(service->description) - 1));
	else
		join(service->description, sizeof(service->description), ", ", text);
	return 0;
}

static int parse_line(struct fm_services *services, const char *at, const char *end)
{
	const char *comment = memchr(at, '#', (size_t)(end - at));
	char name[WORD_MAX], number[WORD_MAX];

	if (comment)
		end = comment;
	if (!next_word(&at, end, name) || !next_word(&at, end, number))
		return 0;
	return add(services, name, number);
}

int fm_services_parse(const char *text, size_t size, struct fm_services **ret)
{
	_fm_cleanup_(fm_services_freep) struct fm_services *services = calloc(1, sizeof(*services));
	const char *end = text + size, *line_end;
	int r = services ? 0 : -ENOMEM;

	for (const char *at = text; r == 0 && at < end; at = line_end + 1) {
		line_end = memchr(at, '\n', (size_t)(end - at));
		line_end = line_end ? line_end : end;
		r = parse_line(services, at, line_end);
	}
	if (r < 0)
		return r;
	*ret = FM_TAKE_PTR(services);
	return 0;
}

/* Octets of a file, whole. */
static int read_file(int fd, char *ret, size_t size)
{
	for (size_t done = 0; done < size;) {
		ssize_t n = read(fd, ret + done, size - done);

		if (n < 0 && errno == EINTR)
			continue;
		if (n <= 0)
			return n < 0 ? -errno : -EIO;
		done += (size_t)n;
	}
	return 0;
}

int fm_services_load(const char *path, struct fm_services **ret)
{
	/* A pipe must not hold up anybody. */
	_fm_cleanup_close_ int fd = open(path, O_RDONLY | O_CLOEXEC | O_NOCTTY | O_NONBLOCK);
	_fm_cleanup_free_ char *text = NULL;
	struct stat status;
	int r;

	if (fd < 0 || fstat(fd, &status) < 0)
		return -errno;
	if (!S_ISREG(status.st_mode))
		return -EINVAL;
	if (status.st_size > FILE_OCTETS_MAX)
		return -EFBIG;
	text = malloc((size_t)status.st_size + 1);
	if (!text)
		return -ENOMEM;
	r = read_file(fd, text, (size_t)status.st_size);
	return r < 0 ? r : fm_services_parse(text, (size_t)status.st_size, ret);
}

struct fm_services *fm_services_free(struct fm_services *services)
{
	if (!services)
		return NULL;
	free(services->v);
	free(services);
	return NULL;
}

/* Initiator, as biflowDirection tells it. */
enum { INITIATOR_SOURCE = 1, INITIATOR_DESTINATION = 2 };

static uint16_t server_port(const struct fm_services *services, const struct fm_record *record)
{
	uint16_t source = record->src_port, destination = record->dst_port;

	if (!source || !destination)
		return source | destination;
	if (is_named(services, source) != is_named(services, destination))
		return is_named(services, source) ? source : destination;
	if (record->biflow_direction == INITIATOR_SOURCE)
		return destination;
	if (record->biflow_direction == INITIATOR_DESTINATION)
		return source;
	return FM_MIN(source, destination);
}

uint32_t fm_services_application(const struct fm_services *services, const struct fm_record *record)
{
	uint16_t port = server_port(services, record);

	return port ? ENGINE_L4 | port : ENGINE_L3 | record->protocol;
}
