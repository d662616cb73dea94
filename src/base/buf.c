/* SPDX-License-Identifier: Apache-2.0 */
/* The growing buffer: see buf.h. */
#include "base/buf.h"

#include <errno.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/text.h"

void fm_buf_done(struct fm_buf *buf)
{
	free(buf->data);
	*buf = (struct fm_buf){};
}

static int reserve(struct fm_buf *buf, size_t more)
{
	size_t need = buf->size + more + 1, capacity = buf->capacity ? buf->capacity : 256;
	char *grown;

	if (buf->error)
		return buf->error;
	if (need <= buf->capacity)
		return 0;
	while (capacity < need)
		capacity *= 2;
	grown = realloc(buf->data, capacity);
	if (!grown)
		return buf->error = -ENOMEM;
	buf->data = grown;
	buf->capacity = capacity;
	return 0;
}

void fm_buf_append(struct fm_buf *buf, const void *data, size_t size)
{
	if (reserve(buf, size) < 0)
		return;
	memcpy(buf->data + buf->size, data, size);
	buf->size += size;
	buf->data[buf->size] = '\0';
}

void fm_buf_printf(struct fm_buf *buf, const char *format, ...)
{
	va_list arguments;
	int size;

	va_start(arguments, format);
	size = vsnprintf(NULL, 0, format, arguments);
	va_end(arguments);
	if (size < 0 || reserve(buf, (size_t)size) < 0)
		return;
	va_start(arguments, format);
	vsnprintf(buf->data + buf->size, (size_t)size + 1, format, arguments);
	va_end(arguments);
	buf->size += (size_t)size;
}

void fm_buf_json_string(struct fm_buf *buf, const char *text)
{
	const unsigned char *p = (const unsigned char *)text;

	fm_buf_append(buf, "\"", 1);
	while (*p) {
		size_t n = fm_text_utf8_length(p);

		if (*p == '"' || *p == '\\')
			fm_buf_printf(buf, "\\%c", *p);
		else if (*p < 0x20 || *p == 0x7f)
			fm_buf_printf(buf, "\\u%04x", *p);
		else if (n == 0)
			fm_buf_append(buf, "\\ufffd", 6);
		else
			fm_buf_append(buf, p, n);
		p += n ? n : 1;
	}
	fm_buf_append(buf, "\"", 1);
}

int fm_buf_error(const struct fm_buf *buf)
{
	return buf->error;
}
