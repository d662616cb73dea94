/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Exporting sessions: see session.h. Records wait in one batch a layout, already in the form of
 * its template; a full batch is a message. So a message has one set, and its size is known before
 * it is made. A layout is made when its first record comes.
 */
#include "ipfix/session.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/macro.h"
#include "ipfix/encode.h"
#include "ipfix/samplers.h"

#define MESSAGE_SIZE_MIN 512
#define MESSAGE_SIZE_MAX 65535

/* applicationId */
#define ELEMENT_APPLICATION 95

struct batch {
	struct fm_layout layout;
	bool described; /* its template was sent in this transport session */
	size_t n;
	size_t capacity;
	uint64_t packets, octets;
	uint8_t data[];
};

struct fm_session {
	struct fm_session_options options;
	fm_session_emit_fn emit;
	void *userdata;
	const struct fm_encoder_ops *ops;
	struct fm_encoder *encoder;
	size_t limit;		      /* octets of a message; 0: message_size */
	bool has_applications;	      /* flow records do */
	struct fm_type_option *types; /* of own elements, one each */
	size_t n_types;
	struct fm_samplers samplers;	       /* of the records there were */
	bool first_told;		       /* options are, and not again soon */
	struct batch *batches[FM_LAYOUTS_MAX]; /* NULL: not used yet */
};

struct fm_session *fm_session_free(struct fm_session *session)
{
	if (!session)
		return NULL;
	if (session->encoder)
		session->ops->free(session->encoder);
	for (size_t i = 0; i < FM_LAYOUTS_MAX; i++)
		free(session->batches[i]);
	free(session->types);
	free(session);
	return NULL;
}

/* NULL: there is no such protocol. */
static const struct fm_encoder_ops *encoder_of(const struct fm_session_options *options)
{
	static const struct fm_encoder_ops *const encoders[] = {
		[FM_SESSION_IPFIX] = &fm_encoder_ipfix,
		[FM_SESSION_V9] = &fm_encoder_v9,
	};

	return (unsigned int)options->protocol < FM_ARRAY_SIZE(encoders)
		       ? encoders[options->protocol]
		       : NULL;
}

static unsigned int index_of(enum fm_options_kind kind)
{
	return FM_LAYOUTS_RECORDS + kind;
}

static void make_layout(const struct fm_session *session, unsigned int index, struct fm_layout *ret)
{
	if (index < FM_LAYOUTS_RECORDS)
		fm_layout_records(ret, &session->options, index);
	else
		fm_layout_options(ret, &session->options,
				  (enum fm_options_kind)(index - FM_LAYOUTS_RECORDS));
}

static int add_type(struct fm_session *session, const struct fm_field *field)
{
	struct fm_type_option *grown;

	for (size_t i = 0; i < session->n_types; i++)
		if (session->types[i].ie == field->ie)
			return 0;
	grown = reallocarray(session->types, session->n_types + 1, sizeof(*grown));
	if (!grown)
		return -ENOMEM;
	session->types = grown;
	fm_layout_type_of(&grown[session->n_types++], field);
	return 0;
}

/* Records of every layout fit into a message; and which elements there may be. */
static int check_layouts(struct fm_session *session)
{
	for (unsigned int i = 0; i < FM_LAYOUTS_MAX; i++) {
		struct fm_layout layout;

		make_layout(session, i, &layout);
		if (!session->ops->capacity(&session->options, &layout))
			return -EINVAL;
		for (unsigned int k = 0; k < layout.n; k++) {
			const struct fm_field *field = &layout.fields[k];

			session->has_applications |= i < FM_LAYOUTS_RECORDS && field->pen == 0 &&
						     field->ie == ELEMENT_APPLICATION;
			if (field->own && add_type(session, field) < 0)
				return -ENOMEM;
		}
	}
	return 0;
}

size_t fm_session_message_min(const struct fm_session_options *options)
{
	const struct fm_encoder_ops *ops = encoder_of(options);
	struct fm_session_options tried = *options;

	tried.message_size = MESSAGE_SIZE_MIN;
	for (unsigned int i = 0; i < FM_LAYOUTS_RECORDS; i++) {
		struct fm_layout layout;

		fm_layout_records(&layout, options, i);
		while (!ops->capacity(&tried, &layout))
			tried.message_size++;
	}
	return tried.message_size;
}

/* Records of a layout that a message may hold now. */
static size_t capacity_of(const struct fm_session *session, const struct fm_layout *layout)
{
	struct fm_session_options options = session->options;
	size_t whole = session->ops->capacity(&options, layout), part;

	if (!session->limit || session->limit >= options.message_size)
		return whole;
	options.message_size = session->limit;
	part = session->limit < MESSAGE_SIZE_MIN ? 0 : session->ops->capacity(&options, layout);
	return part ? part : whole;
}

/* Takes a layout into use. */
static int open_batch(struct fm_session *session, unsigned int index)
{
	struct fm_layout layout;
	_fm_cleanup_free_ struct batch *batch = NULL;
	size_t capacity;
	int r;

	make_layout(session, index, &layout);
	capacity = session->ops->capacity(&session->options, &layout);
	batch = malloc(sizeof(*batch) + capacity * layout.record_size);
	if (!batch)
		return -ENOMEM;
	*batch = (struct batch){.layout = layout, .capacity = capacity_of(session, &layout)};
	r = session->ops->add(session->encoder, &batch->layout);
	if (r < 0)
		return r;
	session->batches[index] = FM_TAKE_PTR(batch);
	return 0;
}

/* The layouts whose templates every session begins with. */
static int open_first(struct fm_session *session)
{
	static const unsigned int first[] = {FM_FAMILY_IP4, FM_FAMILY_IP6, FM_FAMILY_ICMP4,
					     FM_FAMILY_ICMP6};
	int r = 0;

	for (size_t i = 0; i < FM_ARRAY_SIZE(first) && r == 0; i++)
		r = open_batch(session, first[i]);
	for (unsigned int kind = 0; kind < _FM_OPTIONS_MAX && r == 0; kind++)
		if (fm_layout_options_first((enum fm_options_kind)kind, &session->options,
					    session->n_types > 0))
			r = open_batch(session, index_of((enum fm_options_kind)kind));
	return r;
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
	r = check_layouts(session);
	if (r < 0)
		return r;
	r = ops->new (&session->encoder, options);
	if (r < 0)
		return r;
	r = open_first(session);
	if (r < 0)
		return r;
	*ret = FM_TAKE_PTR(session);
	return 0;
}

int fm_session_new(struct fm_session **ret, const struct fm_session_options *options,
		   fm_session_emit_fn emit, void *userdata)
{
	const struct fm_encoder_ops *ops = encoder_of(options);

	return ops ? fm_session_new_encoder(ret, options, ops, emit, userdata) : -EINVAL;
}

int fm_session_restart(struct fm_session *session)
{
	for (size_t i = 0; i < FM_LAYOUTS_MAX; i++)
		if (session->batches[i])
			session->batches[i]->described = false;
	return session->ops->restart(session->encoder);
}

void fm_session_limit(struct fm_session *session, size_t octets)
{
	session->limit = octets;
	for (size_t i = 0; i < FM_LAYOUTS_MAX; i++)
		if (session->batches[i])
			session->batches[i]->capacity =
				capacity_of(session, &session->batches[i]->layout);
}

static int describe(struct fm_session *session, struct batch *batch, uint64_t now_ns)
{
	struct fm_message_info info = {.is_template = true, .domain = batch->layout.domain};
	struct fm_encoded encoded;
	int r = session->ops->describe(session->encoder, &batch->layout, now_ns, &encoded);

	if (r < 0)
		return r;
	batch->described = true;
	info.sequenced = encoded.sequenced;
	session->emit(session->userdata, encoded.message, encoded.size, &info);
	return 0;
}

/* Makes a message of a batch, its template before the first. On failure the batch stays. */
static int send_batch(struct fm_session *session, unsigned int index, uint64_t now_ns)
{
	struct batch *batch = session->batches[index];
	struct fm_message_info info = {};
	struct fm_encoded encoded;
	int r;

	if (!batch || !batch->n)
		return 0;
	if (!batch->described) {
		r = describe(session, batch, now_ns);
		if (r < 0)
			return r;
	}
	r = session->ops->encode(session->encoder, &batch->layout, batch->data, batch->n, now_ns,
				 &encoded);
	if (r < 0)
		return r;
	info = (struct fm_message_info){
		.records = index < FM_LAYOUTS_RECORDS ? (uint32_t)batch->n : 0,
		.packets = batch->packets,
		.octets = batch->octets,
		.domain = batch->layout.domain,
		.sequenced = encoded.sequenced,
		.is_kept = session->first_told || index == index_of(FM_OPTIONS_AUDIT) ||
			   index == index_of(FM_OPTIONS_CAUSE),
		.audits = index == index_of(FM_OPTIONS_AUDIT) ? (uint32_t)batch->n : 0,
	};
	batch->n = 0;
	batch->packets = batch->octets = 0;
	session->emit(session->userdata, encoded.message, encoded.size, &info);
	return 0;
}

/* Adds to a batch. */
static int add(struct fm_session *session, unsigned int index, const void *source, uint64_t now_ns)
{
	struct batch *batch;
	int r = 0;

	if (!session->batches[index])
		r = open_batch(session, index);
	else if (session->batches[index]->n >= session->batches[index]->capacity)
		r = send_batch(session, index, now_ns); /* could not be sent before */
	if (r < 0)
		return r;
	batch = session->batches[index];
	fm_layout_write(&batch->layout, source, session->ops->host_order, session->options.boot_ns,
			batch->data + batch->n * batch->layout.record_size);
	batch->n++;
	return 0;
}

/* Waits for a flush. */
static int tell_sampler(struct fm_session *session, uint32_t selector, uint64_t now_ns)
{
	struct fm_sampler_option option = {.domain = session->options.domain};

	return fm_samplers_get(&session->samplers, selector, &option.record)
		       ? add(session, index_of(FM_OPTIONS_SAMPLER), &option, now_ns)
		       : 0;
}

static int tell_rate(struct fm_session *session, uint64_t now_ns)
{
	const struct fm_rate_option option = {
		.domain = session->options.domain,
		.interval = session->samplers.rate,
		.kind = session->samplers.rate_algorithm == FM_SELECTOR_COUNT ? 1 : 2,
	};
	int r = 0;

	if (!option.interval)
		return 0;
	r = add(session, index_of(FM_OPTIONS_RATE), &option, now_ns);
	if (r == 0 && session->options.protocol == FM_SESSION_V9)
		r = add(session, index_of(FM_OPTIONS_RATE_KIND), &option, now_ns);
	return r;
}

static int send_samplers(struct fm_session *session, uint64_t now_ns)
{
	int r = send_batch(session, index_of(FM_OPTIONS_SAMPLER), now_ns);

	r = r ?: send_batch(session, index_of(FM_OPTIONS_RATE), now_ns);
	return r ?: send_batch(session, index_of(FM_OPTIONS_RATE_KIND), now_ns);
}

/* What the collector must know to read the record. */
static int tell_before(struct fm_session *session, const struct fm_record *record, uint64_t now_ns)
{
	unsigned int what = fm_samplers_note(&session->samplers, record, now_ns);
	int r = 0;

	if (!what)
		return 0;
	/* Of the records before it may not be true. */
	r = fm_session_flush(session, now_ns);
	if (what & FM_SAMPLERS_TELL_ONE)
		r = r ?: tell_sampler(session, record->selector, now_ns);
	if (what & FM_SAMPLERS_TELL_RATE)
		r = r ?: tell_rate(session, now_ns);
	session->first_told = true;
	r = r ?: send_samplers(session, now_ns);
	session->first_told = false;
	if (r < 0) /* all of it is told with the next record */
		session->samplers = (struct fm_samplers){.active = true, .unsure = true};
	return r;
}

/* All that was told so far. */
static int tell_samplers(struct fm_session *session, uint64_t now_ns)
{
	int r = 0;

	for (uint32_t selector = 1; selector < FM_SAMPLERS_MAX && r == 0; selector++)
		r = tell_sampler(session, selector, now_ns);
	r = r ?: tell_rate(session, now_ns);
	return r ?: send_samplers(session, now_ns);
}

int fm_session_record(struct fm_session *session, const struct fm_record *record, uint64_t now_ns)
{
	unsigned int index = fm_layout_index(record);
	struct batch *batch;
	int r;

	if (record->family >= _FM_FAMILY_MAX || record->encapsulation >= _FM_ENCAPSULATION_MAX ||
	    record->selector >= FM_SAMPLERS_MAX)
		return -EINVAL;
	r = fm_samplers_pass(&session->samplers, record, now_ns)
		    ? 0
		    : tell_before(session, record, now_ns);
	r = r ?: add(session, index, record, now_ns);
	if (r < 0)
		return r;
	batch = session->batches[index];
	batch->packets += record->packets + record->rev_packets;
	batch->octets += record->octets + record->rev_octets;
	if (batch->n >= batch->capacity)
		send_batch(session, index, now_ns); /* else tried again with the next */
	return 0;
}

void fm_session_sampler(struct fm_session *session, uint32_t selector, uint32_t interval,
			uint16_t algorithm)
{
	fm_samplers_know(&session->samplers, selector, interval, algorithm);
}

int fm_session_end(struct fm_session *session, uint64_t now_ns)
{
	int r;

	if (session->samplers.rate <= 1)
		return 0;
	session->samplers.rate = 1;
	r = tell_rate(session, now_ns);
	return r ?: send_samplers(session, now_ns);
}

int fm_session_flush(struct fm_session *session, uint64_t now_ns)
{
	int result = 0;

	for (unsigned int i = 0; i < FM_LAYOUTS_MAX; i++) {
		int r = send_batch(session, i, now_ns);

		if (r < 0)
			result = r;
	}
	return result;
}

size_t fm_session_types(const struct fm_session *session)
{
	return session->n_types;
}

int fm_session_type(struct fm_session *session, size_t index, uint64_t now_ns)
{
	if (index >= session->n_types)
		return -EINVAL;
	return add(session, index_of(FM_OPTIONS_TYPE), &session->types[index], now_ns);
}

int fm_session_begin(struct fm_session *session, uint64_t now_ns)
{
	int r = 0;

	for (size_t i = 0; i < FM_LAYOUTS_MAX; i++)
		if (session->batches[i])
			session->batches[i]->described = false;
	for (size_t i = 0; i < session->n_types && r == 0; i++)
		r = fm_session_type(session, i, now_ns);
	r = r ?: send_batch(session, index_of(FM_OPTIONS_TYPE), now_ns);
	for (size_t i = 0; i < FM_LAYOUTS_MAX && r == 0; i++)
		if (session->batches[i] && !session->batches[i]->described)
			r = describe(session, session->batches[i], now_ns);
	return r ?: tell_samplers(session, now_ns);
}

int fm_session_use_all(struct fm_session *session)
{
	int r = 0;

	for (unsigned int i = 0; i < FM_LAYOUTS_RECORDS && r == 0; i++)
		if (!session->batches[i])
			r = open_batch(session, i);
	return r;
}

int fm_session_templates(struct fm_session *session, uint64_t now_ns)
{
	for (size_t i = 0; i < FM_LAYOUTS_MAX; i++) {
		int r = session->batches[i] ? describe(session, session->batches[i], now_ns) : 0;

		if (r < 0)
			return r;
	}
	return tell_samplers(session, now_ns);
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
	return add(session, index_of(FM_OPTIONS_INTERFACE), &option, now_ns);
}

int fm_session_statistics(struct fm_session *session, const struct fm_exporter_stats *exporter,
			  const struct fm_sink_stats *sink, uint64_t now_ns)
{
	struct fm_statistics_option option = {
		.domain = session->options.domain,
		.exporter = *exporter,
		.sink = *sink,
	};
	int r = add(session, index_of(FM_OPTIONS_STATISTICS), &option, now_ns);

	return r < 0 ? r : send_batch(session, index_of(FM_OPTIONS_STATISTICS), now_ns);
}

int fm_session_gap(struct fm_session *session, const struct fm_session_gap *gap, uint64_t now_ns)
{
	struct fm_gap_option option = {.domain = session->options.domain, .gap = *gap};
	int r = add(session, index_of(FM_OPTIONS_GAP), &option, now_ns);

	return r < 0 ? r : send_batch(session, index_of(FM_OPTIONS_GAP), now_ns);
}

int fm_session_audit(struct fm_session *session, const struct fm_audit_record *record,
		     uint64_t now_ns)
{
	struct fm_audit_option option = {
		.domain = session->options.domain,
		.record = *record,
	};

	return add(session, index_of(FM_OPTIONS_AUDIT), &option, now_ns);
}

int fm_session_cause(struct fm_session *session, const struct fm_cause_record *record,
		     uint64_t now_ns)
{
	struct fm_cause_option option = {
		.domain = session->options.domain,
		.record = *record,
	};

	return session->batches[index_of(FM_OPTIONS_CAUSE)]
		       ? add(session, index_of(FM_OPTIONS_CAUSE), &option, now_ns)
		       : 0;
}

int fm_session_device(struct fm_session *session, const struct fm_device_record *record,
		      uint64_t now_ns)
{
	struct fm_device_option option = {
		.domain = session->options.domain,
		.record = *record,
	};

	return add(session, index_of(FM_OPTIONS_DEVICE), &option, now_ns);
}

int fm_session_vrf(struct fm_session *session, const struct fm_vrf_record *record, uint64_t now_ns)
{
	struct fm_vrf_option option = {.domain = session->options.domain, .record = *record};

	return add(session, index_of(FM_OPTIONS_VRF), &option, now_ns);
}

bool fm_session_has_applications(const struct fm_session *session)
{
	return session->has_applications;
}

int fm_session_application(struct fm_session *session, const struct fm_application_record *record,
			   uint64_t now_ns)
{
	struct fm_application_option option = {
		.domain = session->options.domain,
		.record = *record,
	};

	return add(session, index_of(FM_OPTIONS_APPLICATION), &option, now_ns);
}
