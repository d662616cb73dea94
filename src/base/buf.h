/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A growing text buffer. An error (no memory) sticks: write everything, ask once at the end.
 */
#ifndef FM_BUF_H
#define FM_BUF_H

#include <stddef.h>

struct fm_buf {
	char *data;  /* NUL terminated once anything was added */
	size_t size; /* without the NUL */
	size_t capacity;
	int error;
};

void fm_buf_done(struct fm_buf *buf);
void fm_buf_append(struct fm_buf *buf, const void *data, size_t size);
__attribute__((format(printf, 2, 3))) void fm_buf_printf(struct fm_buf *buf, const char *format,
							 ...);
/* In quotes, escaped (RFC 8259 7); octets that are not UTF-8 become U+FFFD. */
void fm_buf_json_string(struct fm_buf *buf, const char *text);

/* 0 or -ENOMEM. */
int fm_buf_error(const struct fm_buf *buf);

#define _fm_cleanup_buf_ _fm_cleanup_(fm_buf_done)

#endif
