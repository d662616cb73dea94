/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The sinks that a configuration asks for: opened, kept over a reload where nothing changed,
 * closed. Owned by the manager.
 */
#ifndef FM_SINKS_H
#define FM_SINKS_H

#include "daemon/config.h"
#include "daemon/export.h"
#include "daemon/sink.h"

/* A configuration that sinks hold on to; freed with the last of them. */
struct fm_config_ref;

struct fm_config_ref *fm_config_ref_new(struct fm_config *config); /* takes it; NULL: no memory */
struct fm_config_ref *fm_config_ref_unref(struct fm_config_ref *ref);
const struct fm_config *fm_config_ref_get(const struct fm_config_ref *ref);

struct fm_sinks;

/* exporter: its sinks are set. env->config is ignored. 0 or -ENOMEM. */
int fm_sinks_new(struct fm_sinks **ret, const struct fm_sink_env *env, struct fm_export *exporter);

/*
 * Makes the sinks those of ref's configuration. Those whose settings are the same go on; the
 * others are opened before the ones they replace are closed, and send when they are. 0 or -errno:
 * nothing changed.
 */
int fm_sinks_apply(struct fm_sinks *sinks, struct fm_config_ref *ref);

void fm_sinks_interfaces_changed(struct fm_sinks *sinks);
/* Whether all that take audits have room for one; it may be more than one record. */
bool fm_sinks_audit_room(struct fm_sinks *sinks);
void fm_sinks_audit(struct fm_sinks *sinks, const struct fm_audit_row *row);

/* Closes all, giving each until deadline_ns (CLOCK_MONOTONIC), and frees. */
struct fm_sinks *fm_sinks_free(struct fm_sinks *sinks, uint64_t deadline_ns);

#endif
