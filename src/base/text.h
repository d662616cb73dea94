/* SPDX-License-Identifier: Apache-2.0 */
/* Texts of others (names of devices, aliases...), made fit to be handed on. */
#ifndef FM_TEXT_H
#define FM_TEXT_H

#include <stddef.h>

/* Octets of the UTF-8 sequence at a text, 0: not one (RFC 3629 4). */
size_t fm_text_utf8_length(const unsigned char *text);

/*
 * Copies a text of at most max octets (256 are looked at) into size octets, the rest 0, the last
 * always: UTF-8 without control characters. Each of those, and each octet that is no UTF-8, becomes
 * a question mark; what does not fit is cut between characters, and so is one that the end of the
 * text cut.
 */
void fm_text_copy(char *ret, size_t size, const char *text, size_t max);

#endif
