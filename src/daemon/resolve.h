/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Names to addresses off the event loop: a resolver may take seconds and knows no file descriptor
 * to wait on, so each query gets a thread. Numbers are answered at once. Used by the collector
 * sink.
 */
#ifndef FM_RESOLVE_H
#define FM_RESOLVE_H

#include <stdbool.h>
#include <stddef.h>
#include <sys/socket.h>

#include <systemd/sd-event.h>

#include "base/cleanup.h"

/* What a name stands for, the address to take first; more are left out. */
#define FM_RESOLVE_MAX 16
struct fm_addresses {
	struct {
		struct sockaddr_storage address;
		socklen_t size;
	} v[FM_RESOLVE_MAX];
	size_t n;
};

struct fm_resolve;

/* error: 0 or -errno (-ENOENT: no such name, -EAGAIN: ask again later). */
typedef void (*fm_resolve_fn)(void *userdata, int error, const struct fm_addresses *addresses);

/* An address as a number. 0 or -EINVAL. */
int fm_resolve_number(const char *host, const char *port, struct fm_addresses *ret);

bool fm_resolve_holds(const struct fm_addresses *addresses, const struct sockaddr_storage *address,
		      socklen_t size);

/* Asks; done is called in the event loop, once. 0 or -errno. */
int fm_resolve_new(struct fm_resolve **ret, sd_event *event, const char *host, const char *port,
		   fm_resolve_fn done, void *userdata);

/* Also while the answer is still out: it is thrown away then. */
struct fm_resolve *fm_resolve_free(struct fm_resolve *resolve);

#endif
