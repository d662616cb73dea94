/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Reads IPFIX files message by message and tells what each holds. Used by the spool.
 *
 * A file is input: it ends at the first message whose header or sets do not hold; what lies behind
 * is told as rest. Templates are learned from the file itself, so many at most; records of a
 * template that is not known count for nothing, but their message is given.
 */
#ifndef FM_FILE_READER_H
#define FM_FILE_READER_H

#include <stddef.h>
#include <stdint.h>

#include "base/cleanup.h"
#include "ipfix/session.h"

struct fm_file_reader;

/* 0 or -errno. */
int fm_file_reader_new(struct fm_file_reader **ret, int directory_fd, const char *name);
struct fm_file_reader *fm_file_reader_free(struct fm_file_reader *reader);
FM_DEFINE_CLEANUP(struct fm_file_reader *, fm_file_reader_free)

/* From the beginning again; of what ends at offset or before it only templates are given. */
void fm_file_reader_rewind(struct fm_file_reader *reader, uint64_t offset);

/*
 * The next message of the first limit octets (UINT64_MAX: of all), valid until the next call. 1; 0:
 * there is none; -errno.
 */
int fm_file_reader_next(struct fm_file_reader *reader, uint64_t limit, const uint8_t **ret_message,
			size_t *ret_size, struct fm_message_info *ret_info);

/* Where the message given last ends. */
uint64_t fm_file_reader_offset(const struct fm_file_reader *reader);

/* Octets of the file behind that. */
uint64_t fm_file_reader_rest(const struct fm_file_reader *reader);

/*
 * What is in a message, by the templates that are known: learns those it brings. 0; -EBADMSG: it
 * does not hold together. Others see it for tests.
 */
int fm_file_reader_inspect(struct fm_file_reader *reader, const uint8_t *message, size_t size,
			   struct fm_message_info *ret_info);

/* Seconds since 1970 in the header of a message. */
uint32_t fm_file_export_time(const uint8_t *message);

#endif
