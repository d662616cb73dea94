/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Sinks that write a line a record to a file: what sink-json.c and sink-text.c share. They give the
 * line's form, this the file, the account and the ops.
 */
#ifndef FM_SINK_LINES_H
#define FM_SINK_LINES_H

#include "base/buf.h"
#include "daemon/sink.h"

struct fm_sink_lines_kind {
	const struct fm_sink_ops *ops;
	const char *(*path)(const struct fm_config *config);
	/* Which fields lines have; NULL: they have a form of their own. */
	void (*fields)(const struct fm_config *config, struct fm_session_options *ret);
	/* Appends a line for a record. env: for names; fields: as said. */
	void (*line)(const struct fm_sink_env *env, const struct fm_session_options *fields,
		     const struct fm_record *record, struct fm_buf *ret);
	/* Appends a line for an audit; NULL: none. */
	void (*audit)(const struct fm_audit_row *row, struct fm_buf *ret);
	/* A line that explains those that follow; NULL: none. Repeated every header_lines records.
	 */
	const char *header;
	unsigned int header_lines;
};

int fm_sink_lines_open(struct fm_sink **ret, const struct fm_sink_env *env,
		       const struct fm_sink_lines_kind *kind);

/* For the ops table. */
size_t fm_sink_lines_room(struct fm_sink *sink);
void fm_sink_lines_kept(struct fm_sink *sink);
void fm_sink_lines_record(struct fm_sink *sink, const struct fm_record *record);
void fm_sink_lines_prepare(struct fm_sink *sink, uint64_t serial);
void fm_sink_lines_flush(struct fm_sink *sink);
void fm_sink_lines_interfaces_changed(struct fm_sink *sink);
void fm_sink_lines_audit(struct fm_sink *sink, const struct fm_audit_row *row);
void fm_sink_lines_close(struct fm_sink *sink, uint64_t deadline_ns,
			 struct fm_sink_stats *ret_stats);
void fm_sink_lines_stats(struct fm_sink *sink, struct fm_sink_stats *ret);
const char *fm_sink_lines_describe(struct fm_sink *sink);

#define FM_SINK_LINES_OPS                                                                          \
	.room = fm_sink_lines_room, .kept = fm_sink_lines_kept, .record = fm_sink_lines_record,    \
	.prepare = fm_sink_lines_prepare, .flush = fm_sink_lines_flush,                            \
	.interfaces_changed = fm_sink_lines_interfaces_changed, .audit = fm_sink_lines_audit,      \
	.close = fm_sink_lines_close, .stats = fm_sink_lines_stats,                                \
	.describe = fm_sink_lines_describe

#endif
