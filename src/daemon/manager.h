/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The manager owns everything the daemon has: configuration, kernel half, tables, interfaces,
 * sinks, control socket. Called by main.
 */
#ifndef FM_MANAGER_H
#define FM_MANAGER_H

#include <stdbool.h>

#include <systemd/sd-event.h>

#include "base/cleanup.h"
#include "daemon/config.h"

struct fm_manager;

/*
 * Starts counting and exporting; takes config. path: where config came from, read again on reload
 * (NULL: the embedded default). 0 or -errno, logged.
 */
int fm_manager_new(struct fm_manager **ret, sd_event *event, struct fm_config *config,
		   const char *path);
struct fm_manager *fm_manager_free(struct fm_manager *manager);
FM_DEFINE_CLEANUP(struct fm_manager *, fm_manager_free)

/* Tells systemd that it is ready; again after the next sweep where it could not be told. */
void fm_manager_ready(struct fm_manager *manager);

/* Reads the configuration again; with an error in it the old one stays. */
void fm_manager_reload(struct fm_manager *manager);

/* Detaches, exports what is open and closes the sinks; runs the event loop meanwhile. */
void fm_manager_stop(struct fm_manager *manager);

/*
 * Leaves tables and attachments to the next process: packets are counted on. False: nothing keeps
 * them, so stop instead.
 */
bool fm_manager_leave(struct fm_manager *manager);

#endif
