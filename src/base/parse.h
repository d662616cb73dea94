/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Checked parsing of what people write. All return 0, -EINVAL (not of that form) or -ERANGE (out
 * of bounds); outputs are untouched on failure. Whitespace around the text is not skipped.
 */
#ifndef FM_PARSE_H
#define FM_PARSE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* Decimal digits only. */
int fm_parse_u64(const char *text, uint64_t min, uint64_t max, uint64_t *ret);

/* A number with K, M or G (1024s), or without. */
int fm_parse_size(const char *text, uint64_t min, uint64_t max, uint64_t *ret);

/* A number with ms, s, m or h; result in nanoseconds, as are min and max. */
int fm_parse_duration_ns(const char *text, uint64_t min_ns, uint64_t max_ns, uint64_t *ret);

/* yes, no, true, false, on, off, 1, 0. */
int fm_parse_bool(const char *text, bool *ret);

/* Parts between commas, trimmed, none empty; NULL terminated. -ENOMEM too. An empty text: no parts.
 */
int fm_parse_list(const char *text, char ***ret, size_t *ret_n);
void fm_parse_list_free(char **list, size_t n);

/* host:port or [v6]:port, port 1..65535 as digits. -ENOMEM too. */
int fm_parse_host_port(const char *text, char **ret_host, char **ret_port);

#endif
