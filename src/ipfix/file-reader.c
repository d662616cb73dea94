/* SPDX-License-Identifier: Apache-2.0 */
/* Reading IPFIX files: see file-reader.h. */
#include "ipfix/file-reader.h"

#include <errno.h>
#include <fcntl.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include "base/macro.h"
#include "ipfix/record.h"

#define HEADER_SIZE	16
#define SET_HEADER_SIZE 4
#define VERSION		10
#define SET_TEMPLATE	2
#define SET_OPTIONS	3
#define SET_DATA	256
#define ENTERPRISE_BIT	0x8000
#define VARIABLE	65535
#define BUFFER_OCTETS	(2 << 16)
/* More than any session of ours has; a file that brings more is not taken at its word. */
#define TEMPLATES_MAX 512
#define FIELDS_MAX    1024

enum role {
	ROLE_NONE,
	ROLE_OCTETS,
	ROLE_PACKETS,
};

struct field {
	uint16_t length;
	uint8_t role;
};

struct template
{
	uint32_t domain;
	uint16_t id;
	uint16_t n;
	bool is_options;
	struct field *fields;
};

struct fm_file_reader {
	int fd;
	uint64_t offset; /* behind the message given last */
	uint64_t skip;	 /* of what ends here only templates are given */
	struct template *templates;
	size_t n_templates;
	uint64_t at; /* in the file, of what is in buffer */
	size_t size;
	uint8_t buffer[BUFFER_OCTETS];
};

static uint16_t get16(const uint8_t *at)
{
	return (uint16_t)(at[0] << 8 | at[1]);
}

static uint32_t get32(const uint8_t *at)
{
	return (uint32_t)get16(at) << 16 | get16(at + 2);
}

uint32_t fm_file_export_time(const uint8_t *message)
{
	return get32(message + 4);
}

int fm_file_reader_new(struct fm_file_reader **ret, int directory_fd, const char *name)
{
	_fm_cleanup_(fm_file_reader_freep) struct fm_file_reader *reader = NULL;
	struct stat status;

	reader = malloc(sizeof(*reader));
	if (!reader)
		return -ENOMEM;
	memset(reader, 0, offsetof(struct fm_file_reader, buffer));
	/* What is no file must not hold the caller. */
	reader->fd = openat(directory_fd, name, O_RDONLY | O_CLOEXEC | O_NOFOLLOW | O_NONBLOCK);
	if (reader->fd < 0 || fstat(reader->fd, &status) < 0)
		return -errno;
	if (!S_ISREG(status.st_mode))
		return -EBADF;
	*ret = FM_TAKE_PTR(reader);
	return 0;
}

struct fm_file_reader *fm_file_reader_free(struct fm_file_reader *reader)
{
	if (!reader)
		return NULL;
	for (size_t i = 0; i < reader->n_templates; i++)
		free(reader->templates[i].fields);
	free(reader->templates);
	if (reader->fd >= 0)
		close(reader->fd);
	free(reader);
	return NULL;
}

void fm_file_reader_rewind(struct fm_file_reader *reader, uint64_t offset)
{
	reader->offset = 0;
	reader->skip = offset;
	/* What was read of a file that grows may be less than what is there now. */
	reader->at = reader->size = 0;
}

uint64_t fm_file_reader_offset(const struct fm_file_reader *reader)
{
	return reader->offset;
}

uint64_t fm_file_reader_rest(const struct fm_file_reader *reader)
{
	struct stat status;

	if (fstat(reader->fd, &status) < 0 || (uint64_t)status.st_size < reader->offset)
		return 0;
	return (uint64_t)status.st_size - reader->offset;
}

/* --- templates --- */

static struct template *find_template(const struct fm_file_reader *reader, uint32_t domain,
				      uint16_t id)
{
	for (size_t i = 0; i < reader->n_templates; i++)
		if (reader->templates[i].id == id && reader->templates[i].domain == domain)
			return &reader->templates[i];
	return NULL;
}

static void forget_template(struct fm_file_reader *reader, struct template *template)
{
	free(template->fields);
	*template = reader->templates[--reader->n_templates];
}

/* Takes fields over, if there is room for one more. */
static void keep_template(struct fm_file_reader *reader, const struct template *template)
{
	struct template *known = find_template(reader, template->domain, template->id), *grown;

	if (known)
		forget_template(reader, known);
	grown = reader->n_templates < TEMPLATES_MAX
			? reallocarray(reader->templates, reader->n_templates + 1, sizeof(*grown))
			: NULL;
	if (!grown) {
		free(template->fields);
		return;
	}
	reader->templates = grown;
	reader->templates[reader->n_templates++] = *template;
}

static uint8_t role_of(uint32_t pen, uint16_t ie)
{
	if (pen != 0 && pen != FM_PEN_REVERSE)
		return ROLE_NONE;
	return ie == 1 ? ROLE_OCTETS : ie == 2 ? ROLE_PACKETS : ROLE_NONE;
}

/* One template record. Octets it has, 0: it does not hold. */
static size_t learn_template(struct fm_file_reader *reader, uint32_t domain, bool is_options,
			     const uint8_t *at, size_t size)
{
	struct template template = {.domain = domain, .is_options = is_options};
	size_t used = 4;
	uint16_t n;

	if (size < used)
		return 0;
	template.id = get16(at);
	n = get16(at + 2);
	if (n == 0) { /* withdrawn */
		struct template *known = find_template(reader, domain, template.id);

		if (known)
			forget_template(reader, known);
		return used;
	}
	used += is_options ? 2 : 0;
	if (template.id < SET_DATA || n > FIELDS_MAX || size < used)
		return 0;
	template.fields = calloc(n, sizeof(*template.fields));
	for (; template.fields && template.n < n; template.n++) {
		uint16_t ie = size - used < 4 ? 0 : get16(at + used);
		size_t octets = ie & ENTERPRISE_BIT ? 8 : 4;

		if (size - used < octets) {
			free(template.fields);
			return 0;
		}
		template.fields[template.n] = (struct field){
			.length = get16(at + used + 2),
			.role = role_of(octets == 8 ? get32(at + used + 4) : 0,
					ie & (ENTERPRISE_BIT - 1)),
		};
		used += octets;
	}
	if (template.fields)
		keep_template(reader, &template);
	return template.fields ? used : 0;
}

static int learn_templates(struct fm_file_reader *reader, uint32_t domain, bool is_options,
			   const uint8_t *at, size_t size)
{
	while (size >= 4) { /* less is padding */
		size_t used = learn_template(reader, domain, is_options, at, size);

		if (!used)
			return -EBADMSG;
		at += used;
		size -= used;
	}
	return 0;
}

/* --- records --- */

static uint64_t get_number(const uint8_t *at, size_t size)
{
	uint64_t value = 0;

	for (size_t i = 0; i < size && size <= 8; i++)
		value = value << 8 | at[i];
	return value;
}

/* One record. Octets it has, 0: there is none. */
static size_t count_record(const struct template *template, const uint8_t *at, size_t size,
			   struct fm_message_info *info)
{
	struct fm_message_info sum = *info;
	size_t used = 0;

	for (unsigned int i = 0; i < template->n; i++) {
		const struct field *field = &template->fields[i];
		size_t length = field->length;

		if (length == VARIABLE) {
			if (size - used < 1)
				return 0;
			length = at[used++];
			if (length == 255) {
				if (size - used < 2)
					return 0;
				length = get16(at + used);
				used += 2;
			}
		}
		if (size - used < length)
			return 0;
		if (field->role == ROLE_OCTETS)
			sum.octets += get_number(at + used, length);
		else if (field->role == ROLE_PACKETS)
			sum.packets += get_number(at + used, length);
		used += length;
	}
	if (!used)
		return 0;
	sum.sequenced++;
	if (template->is_options) { /* no flow */
		info->sequenced = sum.sequenced;
		info->audits +=
			template->id == FM_SESSION_AUDIT || template->id == FM_SESSION_AUDIT_FULL;
		info->is_kept = info->audits > 0;
		return used;
	}
	sum.records++;
	*info = sum;
	return used;
}

static void count_records(const struct fm_file_reader *reader, uint16_t id, const uint8_t *at,
			  size_t size, struct fm_message_info *info)
{
	const struct template *template = find_template(reader, info->domain, id);
	size_t used;

	for (; template && size; at += used, size -= used) {
		used = count_record(template, at, size, info);
		if (!used)
			return;
	}
}

int fm_file_reader_inspect(struct fm_file_reader *reader, const uint8_t *message, size_t size,
			   struct fm_message_info *ret_info)
{
	struct fm_message_info info = {.is_template = true};

	if (size < HEADER_SIZE || get16(message) != VERSION || get16(message + 2) != size)
		return -EBADMSG;
	info.domain = get32(message + 12);
	for (size_t at = HEADER_SIZE; at < size;) {
		uint16_t id, length;

		if (size - at < SET_HEADER_SIZE)
			return -EBADMSG;
		id = get16(message + at);
		length = get16(message + at + 2);
		if (length < SET_HEADER_SIZE || length > size - at)
			return -EBADMSG;
		if (id == SET_TEMPLATE || id == SET_OPTIONS) {
			if (learn_templates(reader, info.domain, id == SET_OPTIONS,
					    message + at + SET_HEADER_SIZE,
					    length - SET_HEADER_SIZE) < 0)
				return -EBADMSG;
		} else if (id < SET_DATA) {
			return -EBADMSG;
		} else {
			info.is_template = false;
			count_records(reader, id, message + at + SET_HEADER_SIZE,
				      length - SET_HEADER_SIZE, &info);
		}
		at += length;
	}
	*ret_info = info;
	return 0;
}

/* --- the file --- */

/* Has so many octets from offset on in the buffer, at most a message. 1; 0: they are not there. */
static int load(struct fm_file_reader *reader, uint64_t limit, size_t octets)
{
	uint64_t end = reader->offset + octets;
	size_t room;
	ssize_t n;

	if (end > limit)
		return 0;
	if (reader->offset >= reader->at && end <= reader->at + reader->size)
		return 1;
	room = (size_t)FM_MIN(limit - reader->offset, (uint64_t)sizeof(reader->buffer));
	reader->at = reader->offset;
	reader->size = 0;
	while (reader->size < room) {
		n = pread(reader->fd, reader->buffer + reader->size, room - reader->size,
			  (off_t)(reader->at + reader->size));
		if (n < 0 && errno == EINTR)
			continue;
		if (n < 0)
			return -errno;
		if (n == 0)
			break;
		reader->size += (size_t)n;
	}
	return reader->size >= octets;
}

int fm_file_reader_next(struct fm_file_reader *reader, uint64_t limit, const uint8_t **ret_message,
			size_t *ret_size, struct fm_message_info *ret_info)
{
	for (;;) {
		struct fm_message_info info;
		const uint8_t *message;
		size_t size;
		int r = load(reader, limit, HEADER_SIZE);

		if (r <= 0)
			return r;
		message = reader->buffer + (reader->offset - reader->at);
		size = get16(message + 2);
		if (get16(message) != VERSION || size < HEADER_SIZE)
			return 0;
		r = load(reader, limit, size);
		if (r <= 0)
			return r;
		message = reader->buffer + (reader->offset - reader->at);
		if (fm_file_reader_inspect(reader, message, size, &info) < 0)
			return 0;
		reader->offset += size;
		if (reader->offset <= reader->skip && !info.is_template)
			continue;
		*ret_message = message;
		*ret_size = size;
		*ret_info = info;
		return 1;
	}
}
