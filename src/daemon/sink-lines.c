/* SPDX-License-Identifier: Apache-2.0 */
/* A line a record: see sink-lines.h. */
#include "daemon/sink-lines.h"

#include <errno.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "daemon/courier.h"

/* Lines wait in portions that a pipe takes at once. */
#define PORTION_OCTETS PIPE_BUF
#define QUEUE_OCTETS   (1 << 20)

struct lines {
	struct fm_sink sink;
	struct fm_sink_env env;
	const struct fm_sink_lines_kind *kind;
	struct fm_session_options fields;
	struct fm_courier courier;
	struct fm_buf portion;
	struct fm_message_info info; /* what is in the portion */
	unsigned int until_header;
	char name[256];
};

static struct lines *of(struct fm_sink *sink)
{
	return (struct lines *)sink;
}

static void send_portion(struct lines *lines)
{
	if (!lines->portion.size)
		return;
	fm_courier_send(&lines->courier, (const uint8_t *)lines->portion.data, lines->portion.size,
			&lines->info);
	lines->portion.size = 0;
	lines->info = (struct fm_message_info){};
}

/* False: there is no memory for it. */
static bool add_line(struct lines *lines, const struct fm_buf *line)
{
	if (fm_buf_error(line))
		return false;
	if (lines->portion.size + line->size > PORTION_OCTETS)
		send_portion(lines);
	fm_buf_append(&lines->portion, line->data, line->size);
	if (!fm_buf_error(&lines->portion))
		return true;
	/* For this line only: what is there stays, and the next may find some. */
	lines->portion.error = 0;
	return false;
}

int fm_sink_lines_open(struct fm_sink **ret, const struct fm_sink_env *env,
		       const struct fm_sink_lines_kind *kind)
{
	const char *path = kind->path(env->config);
	struct fm_transport_options options = {.path = path};
	struct fm_courier_options courier = {.octets = QUEUE_OCTETS};
	struct lines *lines = calloc(1, sizeof(*lines));
	int r;

	if (!lines)
		return -ENOMEM;
	lines->sink.ops = kind->ops;
	lines->env = *env;
	lines->kind = kind;
	if (kind->fields)
		kind->fields(env->config, &lines->fields);
	snprintf(lines->name, sizeof(lines->name), "%s (%s)", kind->ops->kind,
		 strcmp(path, "-") ? path : "standard output");
	courier.env = &lines->env;
	courier.name = courier.peer = lines->name;
	r = fm_courier_open(&lines->courier, &courier);
	if (r == 0)
		r = fm_courier_start(&lines->courier, &fm_transport_file, &options);
	if (r < 0) {
		fm_courier_close(&lines->courier);
		free(lines);
		return r;
	}
	fm_courier_begin(&lines->courier);
	*ret = &lines->sink;
	return 0;
}

size_t fm_sink_lines_room(struct fm_sink *sink)
{
	return fm_courier_room(&of(sink)->courier);
}

void fm_sink_lines_kept(struct fm_sink *sink)
{
	fm_courier_kept(&of(sink)->courier);
}

void fm_sink_lines_record(struct fm_sink *sink, const struct fm_record *record)
{
	struct lines *lines = of(sink);
	struct fm_buf line = {};

	fm_courier_hold(&lines->courier);
	if (lines->kind->header && lines->until_header == 0) {
		fm_buf_printf(&line, "%s\n", lines->kind->header);
		lines->until_header = lines->kind->header_lines;
	}
	lines->until_header--;
	lines->kind->line(&lines->env, &lines->fields, record, &line);
	if (!add_line(lines, &line)) {
		fm_courier_lose_record(&lines->courier, record);
		fm_buf_done(&line);
		return;
	}
	fm_buf_done(&line);
	lines->info.records++;
	lines->info.packets += record->packets + record->rev_packets;
	lines->info.octets += record->octets + record->rev_octets;
}

void fm_sink_lines_prepare(struct fm_sink *sink, uint64_t serial)
{
	struct lines *lines = of(sink);

	send_portion(lines);
	fm_courier_prepare(&lines->courier, serial);
}

void fm_sink_lines_flush(struct fm_sink *sink)
{
	struct lines *lines = of(sink);

	send_portion(lines);
	fm_courier_flush(&lines->courier);
}

void fm_sink_lines_interfaces_changed(struct fm_sink *sink)
{
}

void fm_sink_lines_audit(struct fm_sink *sink, const struct fm_audit_row *row)
{
	struct lines *lines = of(sink);
	_fm_cleanup_buf_ struct fm_buf line = {};

	if (!lines->kind->audit)
		return;
	fm_courier_hold(&lines->courier);
	lines->kind->audit(row, &line);
	if (!add_line(lines, &line)) {
		fm_courier_lose_audit(&lines->courier);
		return;
	}
	lines->info.audits++;
}

void fm_sink_lines_close(struct fm_sink *sink, uint64_t deadline_ns,
			 struct fm_sink_stats *ret_stats)
{
	struct lines *lines = of(sink);

	send_portion(lines);
	fm_courier_done(&lines->courier, deadline_ns);
	fm_courier_stats(&lines->courier, ret_stats);
	fm_courier_log_not_sent(lines->name, ret_stats);
	fm_courier_close(&lines->courier);
	fm_buf_done(&lines->portion);
	free(lines);
}

void fm_sink_lines_stats(struct fm_sink *sink, struct fm_sink_stats *ret)
{
	fm_courier_stats(&of(sink)->courier, ret);
}

const char *fm_sink_lines_describe(struct fm_sink *sink)
{
	return of(sink)->name;
}
