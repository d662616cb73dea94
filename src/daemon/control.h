/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The control socket: a client sends one line, gets one answer, and is closed. A Unix stream
 * socket; clients are bounded in number, time and octets. Owned by the manager, used by flowmonctl.
 */
#ifndef FM_CONTROL_H
#define FM_CONTROL_H

#include <stdbool.h>

#include <systemd/sd-event.h>

#include "base/buf.h"
#include "base/cleanup.h"

struct fm_control;

/* Appends the answer to a request line (without its newline) to reply. 0 or -errno. */
typedef int (*fm_control_fn)(void *userdata, const char *request, struct fm_buf *reply);

/*
 * Listens at path; a socket that a dead daemon left there is replaced, one that answers is not
 * (-EADDRINUSE). 0 or -errno.
 */
int fm_control_new(struct fm_control **ret, sd_event *event, const char *path, fm_control_fn answer,
		   void *userdata);
struct fm_control *fm_control_free(struct fm_control *control);
FM_DEFINE_CLEANUP(struct fm_control *, fm_control_free)

/* Whether somebody answers at path. */
bool fm_control_is_alive(const char *path);

#endif
