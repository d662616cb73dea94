/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Names of applications by port, from a file like /etc/services; and which of a record's two ports
 * says what the application is. Owned by naming.c.
 */
#ifndef FM_SERVICES_H
#define FM_SERVICES_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/cleanup.h"
#include "ipfix/options.h"
#include "ipfix/record.h"

struct fm_services {
	struct fm_application_record *v; /* as in the file */
	size_t n;
	uint16_t at[65536]; /* position of a port in v, and 1; 0: it has no name */
};

/*
 * Lines of "name port/protocol ...", # begins a comment; others are passed over. The first name of
 * a port stands before the others, that of all protocols. 0 or -errno; -EFBIG beyond 4 MiB,
 * -EINVAL: not a file.
 */
int fm_services_load(const char *path, struct fm_services **ret);
/* The same of a text; for tests. */
int fm_services_parse(const char *text, size_t size, struct fm_services **ret);

struct fm_services *fm_services_free(struct fm_services *services);
FM_DEFINE_CLEANUP(struct fm_services *, fm_services_free)

/*
 * applicationId of a record (RFC 6759): engine 3 (IANA-L4) and the port of the server; engine 1
 * (IANA-L3) and the protocol where there are no ports. The server is the side
 *
 *  1. whose port has a name, if the other's has none;
 *  2. that is not the initiator, where that is known;
 *  3. whose port is the smaller.
 *
 * Both directions of a conversation get the same. services may be NULL.
 */
uint32_t fm_services_application(const struct fm_services *services,
				 const struct fm_record *record);

#endif
