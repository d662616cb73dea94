/* SPDX-License-Identifier: Apache-2.0 */
/* Exporting sessions: see session.h. */
#include "ipfix/session.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/macro.h"
#include "ipfix/encoder.h"

enum {
	LAYOUT_INTERFACE = _FM_FAMILY_MAX,
	LAYOUT_STATISTICS,
	LAYOUT_TYPE,
	_LAYOUT_MAX,
};

/* Records of one family that wait for a message to be full. */
struct batch {
	uint8_t *records;
	size_t n, fit;
	struct fm_message_info info;
};

struct fm_session {
	struct fm_session_options options;
	fm_session_emit_fn emit;
	void *userdata;
	const struct fm_encoder_ops *ops;
	struct fm_encoder *encoder;
	struct fm_layout layouts[_LAYOUT_MAX];
	struct batch batches[_FM_FAMILY_MAX];
	uint32_t sequence;	   /* of the options' domain */
	uint32_t sequence_domain0; /* IPFIX: of statistics */
};

static int init_batch(struct fm_session *session, unsigned int family)
{
	struct batch *batch = &session->batches[family];
	const struct fm_layout *layout = &session->layouts[family];

	batch->fit = session->ops->fit(session->encoder, layout);
	if (batch->fit == 0)
		return -EINVAL;
	batch->records = malloc(batch->fit * layout->record_size);
	return batch->records ? 0 : -ENOMEM;
}

static int init(struct fm_session *session)
{
	int r;

	for (unsigned int i = 0; i < _FM_FAMILY_MAX; i++)
		fm_layout_records(&session->layouts[i], &session->options, i);
	fm_layout_interface(&session->layouts[LAYOUT_INTERFACE]);
	fm_layout_statistics(&session->layouts[LAYOUT_STATISTICS]);
	fm_layout_type(&session->layouts[LAYOUT_TYPE]);
	session->ops =
		session->options.protocol == FM_SESSION_V9 ? &fm_encoder_v9 : &fm_encoder_ipfix;
	r = session->ops->new (&session->encoder, &session->options, session->layouts, _LAYOUT_MAX);
	if (r < 0)
		return r;
	session->encoder->ops = session->ops;
	session->encoder->message_size = session->options.message_size;
	for (unsigned int i = 0; i < _FM_FAMILY_MAX; i++) {
		r = init_batch(session, i);
		if (r < 0)
			return r;
	}
	return 0;
}

int fm_session_new(struct fm_session **ret, const struct fm_session_options *options,
		   fm_session_emit_fn emit, void *userdata)
{
	_fm_cleanup_(fm_session_freep) struct fm_session *session = NULL;
	int r;

	if (options->message_size < 512 || options->message_size > UINT16_MAX)
		return -EINVAL;
	session = calloc(1, sizeof(*session));
	if (!session)
		return -ENOMEM;
	session->options = *options;
	session->emit = emit;
	session->userdata = userdata;
	r = init(session);
	if (r < 0)
		return r;
	*ret = FM_TAKE_PTR(session);
	return 0;
}

struct fm_session *fm_session_free(struct fm_session *session)
{
	if (!session)
		return NULL;
	for (unsigned int i = 0; i < _FM_FAMILY_MAX; i++)
		free(session->batches[i].records);
	if (session->encoder)
		session->ops->free(session->encoder);
	free(session);
	return NULL;
}

int fm_session_restart(struct fm_session *session)
{
	session->sequence = 0;
	session->sequence_domain0 = 0;
	return 0;
}

/* The message that was just made goes out. n: data records in it. */
static void send(struct fm_session *session, bool domain0, size_t n, uint64_t now_ns,
		 struct fm_message_info info)
{
	bool apart = domain0 && session->options.protocol == FM_SESSION_IPFIX;
	uint32_t *sequence = apart ? &session->sequence_domain0 : &session->sequence;
	const struct fm_stamp stamp = {
		.now_ns = now_ns,
		.boot_ns = session->options.boot_ns,
		.sequence = *sequence,
		.domain = apart ? 0 : session->options.domain,
	};

	session->ops->stamp(session->encoder, &stamp);
	info.sequenced = session->ops->sequenced(n);
	info.domain = stamp.domain;
	*sequence += info.sequenced;
	session->emit(session->userdata, session->encoder->message, session->encoder->size, &info);
}

static int describe(struct fm_session *session, unsigned int layout, uint64_t now_ns)
{
	const struct fm_message_info info = {.is_template = true};
	int r = session->ops->describe(session->encoder, &session->layouts[layout]);

	if (r == 0)
		send(session, layout == LAYOUT_STATISTICS, 0, now_ns, info);
	return r;
}

/* A message of one options record. */
static int send_option(struct fm_session *session, unsigned int which, const void *option,
		       uint64_t now_ns)
{
	const struct fm_layout *layout = &session->layouts[which];
	const struct fm_message_info info = {};
	uint8_t record[256];
	int r;

	if (layout->record_size > sizeof(record))
		return -EMSGSIZE;
	fm_layout_write(layout, option, session->ops->host_order, session->options.boot_ns, record);
	r = session->ops->data(session->encoder, layout, record, 1);
	if (r == 0)
		send(session, which == LAYOUT_STATISTICS, 1, now_ns, info);
	return r;
}

/* informationElementUnits, RFC 5610 3.6. */
static uint16_t unit_number(const char *unit)
{
	static const char *const units[] = {
		"",	    "bits",	    "octets",	    "packets",	   "flows",
		"seconds",  "milliseconds", "microseconds", "nanoseconds", "words",
		"messages", "hops",	    "entries",	    "frames"};

	for (uint16_t i = 0; i < FM_ARRAY_SIZE(units); i++)
		if (!strcmp(units[i], unit))
			return i;
	return 0;
}

/* informationElementDataType, RFC 5610 3.1: unsigned8..unsigned64. */
static uint8_t data_type(const struct fm_field *field)
{
	return field->wire == 1 ? 1 : field->wire == 2 ? 2 : field->wire == 4 ? 3 : 4;
}

/* Names and types of own elements, so that a collector can show them (RFC 5610). */
static int send_types(struct fm_session *session, uint64_t now_ns)
{
	const struct fm_layout *layout = &session->layouts[FM_FAMILY_IP4];
	bool described = false;
	int r = 0;

	for (unsigned int i = 0; i < layout->n && r == 0; i++) {
		const struct fm_field *field = &layout->fields[i];
		struct fm_type_option option = {
			.pen = field->pen,
			.ie = field->ie,
			.data_type = data_type(field),
			.units = unit_number(field->unit),
		};

		if (field->pen != session->options.enterprise_number || field->pen == 0)
			continue;
		strncpy(option.name, field->ie_name, sizeof(option.name) - 1);
		if (!described)
			r = describe(session, LAYOUT_TYPE, now_ns);
		described = true;
		if (r == 0)
			r = send_option(session, LAYOUT_TYPE, &option, now_ns);
	}
	return r;
}

int fm_session_templates(struct fm_session *session, uint64_t now_ns)
{
	for (unsigned int i = 0; i < LAYOUT_TYPE; i++) {
		int r = describe(session, i, now_ns);

		if (r < 0)
			return r;
	}
	return session->options.protocol == FM_SESSION_IPFIX ? send_types(session, now_ns) : 0;
}

static int send_batch(struct fm_session *session, unsigned int family, uint64_t now_ns)
{
	struct batch *batch = &session->batches[family];
	size_t n = batch->n;
	int r;

	if (n == 0)
		return 0;
	r = session->ops->data(session->encoder, &session->layouts[family], batch->records, n);
	if (r < 0)
		return r;
	batch->n = 0;
	send(session, false, n, now_ns, batch->info);
	batch->info = (struct fm_message_info){};
	return 0;
}

int fm_session_record(struct fm_session *session, const struct fm_record *record, uint64_t now_ns)
{
	struct batch *batch;
	const struct fm_layout *layout;

	if (record->family >= _FM_FAMILY_MAX)
		return -EINVAL;
	batch = &session->batches[record->family];
	layout = &session->layouts[record->family];
	fm_layout_write(layout, record, session->ops->host_order, session->options.boot_ns,
			batch->records + batch->n * layout->record_size);
	batch->n++;
	batch->info.records++;
	batch->info.packets += record->packets + record->rev_packets;
	batch->info.octets += record->octets + record->rev_octets;
	return batch->n == batch->fit ? send_batch(session, record->family, now_ns) : 0;
}

int fm_session_interface(struct fm_session *session, uint32_t ifindex, const char *name,
			 const char *description, uint64_t now_ns)
{
	struct fm_interface_option option = {
		.domain = session->options.domain,
		.ifindex = ifindex,
	};

	if (description && *description)
		snprintf(option.name, sizeof(option.name), "%s (%s)", name, description);
	else
		snprintf(option.name, sizeof(option.name), "%s", name);
	return send_option(session, LAYOUT_INTERFACE, &option, now_ns);
}

int fm_session_statistics(struct fm_session *session,
			  const struct fm_session_statistics *statistics, uint64_t now_ns)
{
	const struct fm_statistics_option option = {
		.domain = session->options.domain,
		.statistics = *statistics,
	};

	return send_option(session, LAYOUT_STATISTICS, &option, now_ns);
}

int fm_session_flush(struct fm_session *session, uint64_t now_ns)
{
	int r = 0;

	for (unsigned int i = 0; i < _FM_FAMILY_MAX; i++) {
		int one = send_batch(session, i, now_ns);

		r = r < 0 ? r : one;
	}
	return r;
}
