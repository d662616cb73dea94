/* SPDX-License-Identifier: Apache-2.0 */
/*
 * IPFIX (RFC 7011) by libfixbuf as an encoder into memory, in its manual mode: it starts no message
 * and sends none by itself. Domain and layout of a message are set before its first octet.
 *
 * The internal templates are the external ones: records come in the size they have on the wire, in
 * host order.
 */
#include "ipfix/encode.h"

#include <errno.h>
#include <stdbool.h>
#include <stdlib.h>

#include <fixbuf/public.h>

#include "base/macro.h"

#define HEADER_SIZE	16
#define SET_HEADER_SIZE 4
#define FIELD_SIZE	8

_Static_assert(FM_SESSION_TEMPLATE_MAX >=
		       HEADER_SIZE + SET_HEADER_SIZE + 6 + FM_LAYOUT_FIELDS_MAX * FIELD_SIZE,
	       "a template of all fields");

_Static_assert(sizeof(struct fm_varfield) == sizeof(fbVarfield_t) &&
		       offsetof(struct fm_varfield, octets) == offsetof(fbVarfield_t, buf),
	       "texts of variable length");

struct ipfix {
	struct fm_encoder encoder;
	const struct fm_layout *layouts[FM_LAYOUTS_MAX];
	size_t n_layouts;
	uint32_t enterprise_number;
	uint16_t size; /* of message */
	fbInfoModel_t *model;
	fbSession_t *session;	/* owned by buffer */
	fbExporter_t *exporter; /* owned by buffer */
	fBuf_t *buffer;
	uint8_t message[];
};

static size_t ipfix_capacity(const struct fm_session_options *options,
			     const struct fm_layout *layout)
{
	return (options->message_size - HEADER_SIZE - SET_HEADER_SIZE) / layout->record_size;
}

/* What libfixbuf says becomes an errno here, and only here. */
static int take_error(GError **error)
{
	int r = -EIO;

	if (g_error_matches(*error, FB_ERROR_DOMAIN, FB_ERROR_NOELEMENT) ||
	    g_error_matches(*error, FB_ERROR_DOMAIN, FB_ERROR_TMPL))
		r = -EINVAL;
	g_clear_error(error);
	return r;
}

static uint8_t element_type(const struct fm_field *field)
{
	if (field->kind == FM_KIND_IP4)
		return FB_IP4_ADDR;
	if (field->kind == FM_KIND_IP6)
		return FB_IP6_ADDR;
	if (field->kind == FM_KIND_TEXT)
		return FB_STRING;
	return field->wire == 8	  ? FB_UINT_64
	       : field->wire == 4 ? FB_UINT_32
	       : field->wire == 2 ? FB_UINT_16
				  : FB_UINT_8;
}

/* Elements that IANA does not know. Without them libfixbuf would take numbers for octets. */
static void add_elements(struct ipfix *ipfix, const struct fm_field *fields, size_t n)
{
	for (size_t i = 0; i < n; i++) {
		const struct fm_field *field = &fields[i];
		fbInfoElement_t element = {
			.ref.name = field->ie_name,
			.ent = field->pen == FM_PEN_OWN ? ipfix->enterprise_number : field->pen,
			.num = field->ie,
			.len = field->wire,
			.flags = field->kind == FM_KIND_IP6 || field->kind == FM_KIND_TEXT
					 ? 0
					 : FB_IE_F_ENDIAN,
			.type = element_type(field),
		};

		if (field->pen && field->pen != FM_PEN_REVERSE)
			fbInfoModelAddElement(ipfix->model, &element);
	}
}

static int make_template(struct ipfix *ipfix, const struct fm_layout *layout, fbTemplate_t **ret)
{
	fbTemplate_t *template = fbTemplateAlloc(ipfix->model);
	GError *error = NULL;

	for (unsigned int i = 0; i < layout->n; i++) {
		fbInfoElement_t element = {
			.ent = layout->fields[i].pen,
			.num = layout->fields[i].ie,
			.len = layout->fields[i].kind == FM_KIND_VAR ? FB_IE_VARLEN
								     : layout->fields[i].wire,
		};

		if (!fbTemplateAppend(template, &element, &error)) {
			fbTemplateFreeUnused(template);
			return take_error(&error);
		}
	}
	if (layout->is_options)
		fbTemplateSetOptionsScope(template, layout->n_scope);
	*ret = template;
	return 0;
}

/*
 * Templates and data share no message: where the one follows the other, libfixbuf says once that
 * the message ends, even one of nothing. True if that was it, and the call is to be repeated.
 */
static bool turned(struct ipfix *ipfix, GError **error)
{
	if (!g_error_matches(*error, FB_ERROR_DOMAIN, FB_ERROR_EOM))
		return false;
	g_clear_error(error);
	return fBufEmit(ipfix->buffer, error);
}

static int add_one(struct ipfix *ipfix, const struct fm_layout *layout, gboolean internal)
{
	fbTemplate_t *template = NULL;
	GError *error = NULL;
	int r = make_template(ipfix, layout, &template);

	if (r < 0)
		return r;
	if (!fbSessionAddTemplate(ipfix->session, internal, layout->id, template, &error) &&
	    (!turned(ipfix, &error) ||
	     !fbSessionAddTemplate(ipfix->session, internal, layout->id, template, &error))) {
		fbTemplateFreeUnused(template);
		return take_error(&error);
	}
	return 0;
}

/* Once internal, once external; an external template belongs to the domain set at that moment. */
static int add_template(struct ipfix *ipfix, const struct fm_layout *layout)
{
	GError *error = NULL;
	int r;

	fbSessionSetDomain(ipfix->session, layout->domain);
	r = add_one(ipfix, layout, TRUE);
	if (r < 0)
		return r;
	r = add_one(ipfix, layout, FALSE);
	if (r < 0 || !ipfix->buffer)
		return r;
	/* A running session writes the template at once; it is sent when it is asked for. */
	return fBufEmit(ipfix->buffer, &error) ? 0 : take_error(&error);
}

static void close_session(struct ipfix *ipfix)
{
	if (ipfix->buffer)
		fBufFree(ipfix->buffer);
	else if (ipfix->session)
		fbSessionFree(ipfix->session);
	ipfix->buffer = NULL;
	ipfix->session = NULL;
}

static int open_session(struct ipfix *ipfix)
{
	ipfix->session = fbSessionAlloc(ipfix->model);
	for (size_t i = 0; i < ipfix->n_layouts; i++) {
		int r = add_template(ipfix, ipfix->layouts[i]);

		if (r < 0)
			return r;
	}
	ipfix->exporter = fbExporterAllocBuffer(ipfix->message, ipfix->size);
	ipfix->buffer = fBufAllocForExport(ipfix->session, ipfix->exporter);
	fBufSetAutomaticMode(ipfix->buffer, FALSE);
	return 0;
}

static int ipfix_add(struct fm_encoder *encoder, const struct fm_layout *layout)
{
	struct ipfix *ipfix = (struct ipfix *)encoder;

	if (ipfix->n_layouts == FM_LAYOUTS_MAX)
		return -EINVAL;
	ipfix->layouts[ipfix->n_layouts++] = layout;
	return add_template(ipfix, layout);
}

static void ipfix_free(struct fm_encoder *encoder)
{
	struct ipfix *ipfix = (struct ipfix *)encoder;

	close_session(ipfix);
	fbInfoModelFree(ipfix->model);
	free(ipfix);
}

static int ipfix_new(struct fm_encoder **ret, const struct fm_session_options *options)
{
	size_t size = FM_MAX(options->message_size, (size_t)FM_SESSION_TEMPLATE_MAX);
	struct ipfix *ipfix = malloc(sizeof(*ipfix) + size);
	int r;

	if (!ipfix)
		return -ENOMEM;
	*ipfix = (struct ipfix){
		.encoder.ops = &fm_encoder_ipfix,
		.enterprise_number = options->enterprise_number,
		.size = (uint16_t)size,
		.model = fbInfoModelAlloc(),
	};
	add_elements(ipfix, fm_fields, fm_n_fields);
	for (unsigned int i = 0; i < _FM_OPTIONS_MAX; i++) {
		const struct fm_field *fields;
		size_t n = fm_layout_options_fields((enum fm_options_kind)i, &fields);

		add_elements(ipfix, fields, n);
	}
	r = open_session(ipfix);
	if (r < 0) {
		ipfix_free(&ipfix->encoder);
		return r;
	}
	*ret = &ipfix->encoder;
	return 0;
}

/* A session of libfixbuf is a transport session: a new one counts from 0. */
static int ipfix_restart(struct fm_encoder *encoder)
{
	struct ipfix *ipfix = (struct ipfix *)encoder;

	close_session(ipfix);
	return open_session(ipfix);
}

static int finish(struct ipfix *ipfix, uint32_t sequenced, struct fm_encoded *ret)
{
	GError *error = NULL;

	if (!fBufEmit(ipfix->buffer, &error))
		return take_error(&error);
	*ret = (struct fm_encoded){
		.message = ipfix->message,
		.size = fbExporterGetMsgLen(ipfix->exporter),
		.sequenced = sequenced,
	};
	return 0;
}

static int ipfix_describe(struct fm_encoder *encoder, const struct fm_layout *layout,
			  uint64_t now_ns, struct fm_encoded *ret)
{
	struct ipfix *ipfix = (struct ipfix *)encoder;
	GError *error = NULL;

	fbSessionSetDomain(ipfix->session, layout->domain);
	fBufSetExportTime(ipfix->buffer, (uint32_t)(now_ns / FM_NS_PER_S));
	if (!fbSessionExportTemplate(ipfix->session, layout->id, &error) &&
	    (!turned(ipfix, &error) ||
	     !fbSessionExportTemplate(ipfix->session, layout->id, &error)))
		return take_error(&error);
	return finish(ipfix, 0, ret);
}

static int append(struct ipfix *ipfix, const struct fm_layout *layout, const uint8_t *records,
		  size_t n)
{
	uint8_t *record = (uint8_t *)records; /* is only read */
	size_t size = layout->record_size;
	GError *error = NULL;

	if (!fBufSetInternalTemplate(ipfix->buffer, layout->id, &error) ||
	    !fBufSetExportTemplate(ipfix->buffer, layout->id, &error))
		return take_error(&error);
	if (!fBufAppend(ipfix->buffer, record, size, &error) &&
	    (!turned(ipfix, &error) || !fBufAppend(ipfix->buffer, record, size, &error)))
		return take_error(&error);
	for (size_t i = 1; i < n; i++)
		if (!fBufAppend(ipfix->buffer, record + i * size, size, &error))
			return take_error(&error);
	return 0;
}

static int ipfix_encode(struct fm_encoder *encoder, const struct fm_layout *layout,
			const uint8_t *records, size_t n, uint64_t now_ns, struct fm_encoded *ret)
{
	struct ipfix *ipfix = (struct ipfix *)encoder;
	int r;

	fbSessionSetDomain(ipfix->session, layout->domain);
	fBufSetExportTime(ipfix->buffer, (uint32_t)(now_ns / FM_NS_PER_S));
	r = append(ipfix, layout, records, n);
	if (r < 0) { /* nothing of it may stay in the next message */
		fBufEmit(ipfix->buffer, NULL);
		return r;
	}
	return finish(ipfix, (uint32_t)n, ret);
}

const struct fm_encoder_ops fm_encoder_ipfix = {
	.host_order = true,
	.new = ipfix_new,
	.add = ipfix_add,
	.free = ipfix_free,
	.restart = ipfix_restart,
	.capacity = ipfix_capacity,
	.describe = ipfix_describe,
	.encode = ipfix_encode,
};
