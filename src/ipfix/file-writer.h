/* SPDX-License-Identifier: Apache-2.0 */
/*
 * IPFIX files (RFC 5655): whole messages one after the other. Used by the spool and the file sink,
 * which put templates first, so that any reader understands any file alone.
 *
 * A message is in the file whole or not at all, as far as the daemon and the disk can help it: one
 * write a message, at the end of the last whole one, so that what is left of a failed write is
 * written over by the next. What a power cut may take is what was not synchronised yet; see
 * file-reader.h for what is made of a torn end.
 */
#ifndef FM_FILE_WRITER_H
#define FM_FILE_WRITER_H

#include <stddef.h>
#include <stdint.h>

#include "base/cleanup.h"

struct fm_file_writer;

/* Begins a file of this name in a directory, where there is none. 0 or -errno. */
int fm_file_writer_new(struct fm_file_writer **ret, int directory_fd, const char *name);

/*
 * Closes. What is not on the disk yet is brought there by a thread that nobody waits for: the disk
 * may take longer than an event loop has.
 */
struct fm_file_writer *fm_file_writer_free(struct fm_file_writer *writer);
FM_DEFINE_CLEANUP(struct fm_file_writer *, fm_file_writer_free)

/* 0, or -errno: nothing of it is in the file. */
int fm_file_writer_append(struct fm_file_writer *writer, const uint8_t *message, size_t size);

/* Octets of whole messages. */
uint64_t fm_file_writer_size(const struct fm_file_writer *writer);

/* Has a thread bring to the disk what is not there; 0 or -errno of the last time. */
int fm_file_writer_sync(struct fm_file_writer *writer);

/* Closes without that: the file is about to be removed. */
struct fm_file_writer *fm_file_writer_abandon(struct fm_file_writer *writer);

#endif
