/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Certificates and keys of collectors over TLS and DTLS: where their files lie, and what is wrong
 * with them, named by setting and file. Used by the collector sink, and by the manager before it
 * changes anything.
 */
#ifndef FM_IDENTITY_H
#define FM_IDENTITY_H

#include "base/buf.h"
#include "daemon/config.h"
#include "ipfix/tls.h"

/*
 * Reads the files of a collector. A relative name is that of a credential: a file in
 * $CREDENTIALS_DIRECTORY (systemd.exec(5)). 0 or -errno: complaint says why.
 */
int fm_identity_load(const struct fm_collector_config *collector, SSL_CTX **ret,
		     struct fm_buf *complaint);

/* Notes which files the collectors have (identity), so that a reload takes up those that changed.
 */
void fm_identity_note(struct fm_config *config);

/* Notes and reads those of all collectors. 0 or -EINVAL: complaints, a line each. */
int fm_identity_check(struct fm_config *config, struct fm_buf *complaints);

#endif
