/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Exporting sessions: see session.h. Records wait in one batch a family, already in the form of
 * their template; a full batch is a message. So a message has one set, and its size is known
 * before it is made.
 */
#include "ipfix/session.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/macro.h"
#include "ipfix/encode.h"

#define MESSAGE_SIZE_MIN 512
#define MESSAGE_SIZE_MAX 65535

enum {
	LAYOUT_INTERFACE = _FM_FAMILY_MAX,
	LAYOUT_STATISTICS,
	LAYOUT_TYPE, /* last: only where there are own elements */
	_LAYOUT_MAX,
};

struct batch {
	uint8_t *data;
	size_t n;
	size_t capacity;
	uint64_t packets, octets;
};

struct fm_session {
	struct fm_session_options options;
	fm_session_emit_fn emit;
	void *userdata;
	const struct fm_encoder_ops *ops;
	struct fm_encoder *encoder;
	size_t n_layouts;
	struct fm_layout layouts[_LAYOUT_MAX];
	struct batch batches[_LAYOUT_MAX];
};

struct fm_session *fm_session_free(struct fm_session *session)
{
	if (!session)
		return NULL;
	if (session->encoder)
		session->ops->free(session->encoder);
	for (size_t i = 0; i < _LAYOUT_MAX; i++)
		free(session->batches[i].data);
	free(session);
	return NULL;
}

/* True if a template has an element of the configured enterprise. */
static bool has_own_elements(const struct fm_session *session)
{
	for (size_t i = 0; i < _FM_FAMILY_MAX; i++)
		for (unsigned int k = 0; k < session->layouts[i].n; k++)
			if (session->layouts[i].fields[k].own)
				return true;
	return false;
}

/*
 * Options records concern the whole process and go under domain 0 in IPFIX (RFC 7011 3.1): so
 * collectors that count only flow records in a sequence see no gap. NetFlow v9 has no such rule,
 * and counts packets of all kinds in one sequence.
 */
static void make_layouts(struct fm_session *session)
{
	struct fm_layout *layouts = session->layouts;
	bool ipfix = session->options.protocol == FM_SESSION_IPFIX;

	for (unsigned int family = 0; family < _FM_FAMILY_MAX; family++)
		fm_layout_records(&layouts[family], &session->options, family);
	fm_layout_interface(&layouts[LAYOUT_INTERFACE]);
	fm_layout_statistics(&layouts[LAYOUT_STATISTICS]);
	fm_layout_type(&layouts[LAYOUT_TYPE]);
	for (unsigned int i = LAYOUT_INTERFACE; i < _LAYOUT_MAX; i++)
		layouts[i].domain = ipfix ? 0 : session->options.domain;
	session->n_layouts = ipfix && has_own_elements(session) ? _LAYOUT_MAX : LAYOUT_TYPE;
}

static int make_batches(struct fm_session *session)
{
	for (size_t i = 0; i < session->n_layouts; i++) {
		struct batch *batch = &session->batches[i];

		batch->capacity = session->ops->capacity(&session->options, &session->layouts[i]);
		if (!batch->capacity)
			return -EINVAL;
		batch->data = malloc(batch->capacity * session->layouts[i].record_size);
		if (!batch->data)
			return -ENOMEM;
	}
	return 0;
}

int fm_session_new_encoder(struct fm_session **ret, const struct fm_session_options *options,
			   const struct fm_encoder_ops *ops, fm_session_emit_fn emit,
			   void *userdata)
{
	_fm_cleanup_(fm_session_freep) struct fm_session *session = NULL;
	int r;

	if (options->message_size < MESSAGE_SIZE_MIN || options->message_size > MESSAGE_SIZE_MAX)
		return -EINVAL;
	session = calloc(1, sizeof(*session));
	if (!session)
		return -ENOMEM;
	session->options = *options;
	session->ops = ops;
	session->emit = emit;
	session->userdata = userdata;
	make_layouts(session);
	r = make_batches(session);
	if (r < 0)
		return r;
	r = ops->new (&session->encoder, options, session->layouts, session->n_layouts);
	if (r < 0)
		return r;
	*ret = FM_TAKE_PTR(session);
	return 0;
}

int fm_session_new(struct fm_session **ret, const struct fm_session_options *options,
		   fm_session_emit_fn emit, void *userdata)
{
	static const struct fm_encoder_ops *const encoders[] = {
		[FM_SESSION_IPFIX] = &fm_encoder_ipfix,
		[FM_SESSION_V9] = &fm_encoder_v9,
	};

	if ((unsigned int)options->protocol >= FM_ARRAY_SIZE(encoders))
		return -EINVAL;
	return fm_session_new_encoder(ret, options, encoders[options->protocol], emit, userdata);
}

int fm_session_restart(struct fm_session *session)
{
	return session->ops->restart(session->encoder);
}

/* Makes a message of a batch. On failure the batch stays. */
static int send_batch(struct fm_session *session, unsigned int index, uint64_t now_ns)
{
	struct batch *batch = &session->batches[index];
	struct fm_message_info info = {
		.records = index < _FM_FAMILY_MAX ? (uint32_t)batch->n : 0,
		.packets = batch->packets,
		.octets = batch->octets,
		.domain = session->layouts[index].domain,
	};
	struct fm_encoded encoded;
	int r;

	if (!batch->n)
		return 0;
	r = session->ops->encode(session->encoder, &session->layouts[index], batch->data, batch->n,
				 now_ns, &encoded);
	if (r < 0)
		return r;
	batch->n = 0;
	batch->packets = batch->octets = 0;
	info.sequenced = encoded.sequenced;
	session->emit(session->userdata, encoded.message, encoded.size, &info);
	return 0;
}

/* Adds to a batch; the message goes out as soon as it is full. */
static int add(struct fm_session *session, unsigned int index, const void *source, uint64_t now_ns)
{
	struct batch *batch = &session->batches[index];
	const struct fm_layout *layout = &session->layouts[index];

	if (batch->n == batch->capacity) { /* could not be sent before */
		int r = send_batch(session, index, now_ns);

		if (r < 0)
			return r;
	}
	fm_layout_write(layout, source, session->ops->host_order, session->options.boot_ns,
			batch->data + batch->n * layout->record_size);
	batch->n++;
	return 0;
}

int fm_session_record(struct fm_session *session, const struct fm_record *record, uint64_t now_ns)
{
	struct batch *batch;
	int r;

	if (record->family >= _FM_FAMILY_MAX)
		return -EINVAL;
	r = add(session, record->family, record, now_ns);
	if (r < 0)
		return r;
	batch = &session->batches[record->family];
	batch->packets += record->packets + record->rev_packets;
	batch->octets += record->octets + record->rev_octets;
	if (batch->n == batch->capacity)
		send_batch(session, record->family, now_ns); /* else tried again with the next */
	return 0;
}

int fm_session_flush(struct fm_session *session, uint64_t now_ns)
{
	int result = 0;

	for (unsigned int i = 0; i < session->n_layouts; i++) {
		int r = send_batch(session, i, now_ns);

		if (r < 0)
			result = r;
	}
	return result;
}

/* RFC 5610: tells collectors what the own elements are. */
static int describe_elements(struct fm_session *session, uint64_t now_ns)
{
	for (size_t i = 0; i < fm_n_fields; i++) {
		struct fm_type_option option;
		int r;

		if (fm_fields[i].pen != FM_PEN_OWN)
			continue;
		fm_layout_type_of(&option, &fm_fields[i], session->options.enterprise_number);
		r = add(session, LAYOUT_TYPE, &option, now_ns);
		if (r < 0)
			return r;
	}
	return send_batch(session, LAYOUT_TYPE, now_ns);
}

int fm_session_templates(struct fm_session *session, uint64_t now_ns)
{
	for (size_t i = 0; i < session->n_layouts; i++) {
		const struct fm_layout *layout = &session->layouts[i];
		struct fm_message_info info = {.is_template = true, .domain = layout->domain};
		struct fm_encoded encoded;
		int r = session->ops->describe(session->encoder, layout, now_ns, &encoded);

		if (r < 0)
			return r;
		info.sequenced = encoded.sequenced;
		session->emit(session->userdata, encoded.message, encoded.size, &info);
	}
	return session->n_layouts > LAYOUT_TYPE ? describe_elements(session, now_ns) : 0;
}

int fm_session_interface(struct fm_session *session, uint32_t ifindex, const char *name,
			 const char *description, uint64_t now_ns)
{
	struct fm_interface_option option = {
		.domain = session->options.domain,
		.ifindex = ifindex,
	};
	char text[256];

	if (description && *description)
		snprintf(text, sizeof(text), "%s (%s)", name, description);
	else
		snprintf(text, sizeof(text), "%s", name);
	/* The rest of the field stays 0: collectors look for the end of the string there. */
	memcpy(option.name, text, strnlen(text, sizeof(option.name) - 1));
	return add(session, LAYOUT_INTERFACE, &option, now_ns);
}

int fm_session_statistics(struct fm_session *session,
			  const struct fm_session_statistics *statistics, uint64_t now_ns)
{
	struct fm_statistics_option option = {
		.domain = session->options.domain,
		.statistics = *statistics,
	};
	int r = add(session, LAYOUT_STATISTICS, &option, now_ns);

	return r < 0 ? r : send_batch(session, LAYOUT_STATISTICS, now_ns);
}
