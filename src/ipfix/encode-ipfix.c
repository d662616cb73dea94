/* SPDX-License-Identifier: Apache-2.0 */
/*
 * IPFIX by libfixbuf, as an encoder into memory: its information model, templates and sets. Header
 * fields that belong to the session (time, sequence, domain) are put in afterwards.
 *
 * Records are given in host order and exactly as long as on the wire, so that internal and external
 * templates are the same.
 */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include <fixbuf/public.h>

#include "ipfix/encoder.h"

#define HEADER	   16
#define SET_HEADER 4

struct ipfix {
	struct fm_encoder encoder;
	fbInfoModel_t *model;
	fbSession_t *session; /* belongs to the buffer once that is made */
	fbExporter_t *exporter;
	fBuf_t *buffer;
};

static struct ipfix *of(struct fm_encoder *encoder)
{
	return (struct ipfix *)encoder;
}

/* Elements that the library's model does not have: our own. */
static void add_elements(struct ipfix *ipfix, const struct fm_layout *layout)
{
	for (unsigned int i = 0; i < layout->n; i++) {
		const struct fm_field *field = &layout->fields[i];
		fbInfoElement_t element = {
			.ent = field->pen,
			.num = field->ie,
			.len = field->wire,
			.flags = FB_IE_F_ENDIAN,
		};

		if (field->pen == 0 || fbInfoModelGetElementByName(ipfix->model, field->ie_name))
			continue;
		element.ref.name = field->ie_name;
		fbInfoModelAddElement(ipfix->model, &element);
	}
}

static fbTemplate_t *make_template(struct ipfix *ipfix, const struct fm_layout *layout)
{
	fbTemplate_t *template = fbTemplateAlloc(ipfix->model);

	for (unsigned int i = 0; i < layout->n; i++) {
		fbInfoElementSpec_t spec = {
			.name = (char *)layout->fields[i].ie_name,
			.len_override = layout->fields[i].wire,
		};

		if (!fbTemplateAppendSpec(template, &spec, 0, NULL)) {
			fbTemplateFreeUnused(template);
			return NULL;
		}
	}
	if (layout->is_options)
		fbTemplateSetOptionsScope(template, layout->n_scope);
	return template;
}

static int add_template(struct ipfix *ipfix, const struct fm_layout *layout, gboolean internal)
{
	fbTemplate_t *template = make_template(ipfix, layout);

	if (!template)
		return -EINVAL;
	if (fbSessionAddTemplate(ipfix->session, internal, layout->id, template, NULL))
		return 0;
	fbTemplateFreeUnused(template);
	return -EINVAL;
}

static void ipfix_free(struct fm_encoder *encoder)
{
	struct ipfix *ipfix = of(encoder);

	if (ipfix->buffer)
		fBufFree(ipfix->buffer); /* with session and exporter */
	else if (ipfix->session)
		fbSessionFree(ipfix->session);
	if (ipfix->model)
		fbInfoModelFree(ipfix->model);
	free(encoder->message);
	free(ipfix);
}

static int ipfix_new(struct fm_encoder **ret, const struct fm_session_options *options,
		     const struct fm_layout *layouts, size_t n)
{
	struct ipfix *ipfix = calloc(1, sizeof(*ipfix));
	int r = 0;

	if (!ipfix)
		return -ENOMEM;
	ipfix->encoder.message = malloc(options->message_size);
	if (!ipfix->encoder.message) {
		free(ipfix);
		return -ENOMEM;
	}
	ipfix->model = fbInfoModelAlloc();
	ipfix->session = fbSessionAlloc(ipfix->model);
	/* Before templates are added: they belong to the domain that is set then. */
	fbSessionSetDomain(ipfix->session, options->domain);
	for (size_t i = 0; i < n && r == 0; i++) {
		add_elements(ipfix, &layouts[i]);
		r = add_template(ipfix, &layouts[i], TRUE);
		if (r == 0)
			r = add_template(ipfix, &layouts[i], FALSE);
	}
	if (r < 0) {
		ipfix_free(&ipfix->encoder);
		return r;
	}
	ipfix->exporter =
		fbExporterAllocBuffer(ipfix->encoder.message, (uint16_t)options->message_size);
	ipfix->buffer = fBufAllocForExport(ipfix->session, ipfix->exporter);
	fBufSetAutomaticMode(ipfix->buffer, FALSE);
	*ret = &ipfix->encoder;
	return 0;
}

static size_t ipfix_fit(const struct fm_encoder *encoder, const struct fm_layout *layout)
{
	return (encoder->message_size - HEADER - SET_HEADER) / layout->record_size;
}

static int emit(struct ipfix *ipfix)
{
	if (!fBufEmit(ipfix->buffer, NULL))
		return -EIO;
	ipfix->encoder.size = fbExporterGetMsgLen(ipfix->exporter);
	return 0;
}

static int ipfix_describe(struct fm_encoder *encoder, const struct fm_layout *layout)
{
	struct ipfix *ipfix = of(encoder);

	/* Refused once where data was in the buffer before: the message must be a new one. */
	if (!fbSessionExportTemplate(ipfix->session, layout->id, NULL)) {
		if (!fBufEmit(ipfix->buffer, NULL) ||
		    !fbSessionExportTemplate(ipfix->session, layout->id, NULL))
			return -EMSGSIZE;
	}
	return emit(ipfix);
}

static int ipfix_data(struct fm_encoder *encoder, const struct fm_layout *layout,
		      const uint8_t *records, size_t n)
{
	struct ipfix *ipfix = of(encoder);

	if (!fBufSetInternalTemplate(ipfix->buffer, layout->id, NULL) ||
	    !fBufSetExportTemplate(ipfix->buffer, layout->id, NULL))
		return -EINVAL;
	for (size_t i = 0; i < n; i++)
		if (!fBufAppend(ipfix->buffer, (uint8_t *)records + i * layout->record_size,
				layout->record_size, NULL))
			return -EMSGSIZE;
	return emit(ipfix);
}

static void ipfix_stamp(struct fm_encoder *encoder, const struct fm_stamp *stamp)
{
	fm_put32(encoder->message + 4, (uint32_t)(stamp->now_ns / 1000000000));
	fm_put32(encoder->message + 8, stamp->sequence);
	fm_put32(encoder->message + 12, stamp->domain);
}

static uint32_t ipfix_sequenced(size_t n)
{
	return (uint32_t)n; /* counts data records */
}

const struct fm_encoder_ops fm_encoder_ipfix = {
	.host_order = true,
	.new = ipfix_new,
	.free = ipfix_free,
	.fit = ipfix_fit,
	.describe = ipfix_describe,
	.data = ipfix_data,
	.stamp = ipfix_stamp,
	.sequenced = ipfix_sequenced,
};
