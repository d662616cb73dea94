/* SPDX-License-Identifier: Apache-2.0 */
/* Layouts and the writing of records: see layout.h. */
#include "ipfix/layout.h"

#include <assert.h>
#include <endian.h>
#include <string.h>

#include "base/macro.h"
#include "base/text.h"

/* Seconds between 1900 (NTP) and 1970. */
#define NTP_EPOCH 2208988800ULL

#define RECORDS_ID	     256
#define RECORDS_ID_BIFLOW    32
#define RECORDS_ID_SYSUPTIME 64
#define RECORDS_ID_FULL	     128
#define RECORDS_ID_NTOP	     256
#define RECORDS_ID_SAMPLED   384
#define RECORDS_ID_LISTS     2048

/* Lists of fields that can have ids of their own. */
#define LISTS ((65536 - RECORDS_ID_LISTS) / FM_LAYOUTS_RECORDS)

_Static_assert(FM_LAYOUTS_UNSAMPLED <= RECORDS_ID_BIFLOW, "ids overlap");

const struct fm_field fm_fields[] = {
#define FM_FIELD(name, type, dim, kind, ie_name, pen, ie, v9, wire, families, profile, unit,       \
		 semantics, help)                                                                  \
	{ie_name,                                                                                  \
	 help,                                                                                     \
	 pen,                                                                                      \
	 ie,                                                                                       \
	 v9,                                                                                       \
	 wire,                                                                                     \
	 sizeof(((struct fm_record *)0)->name),                                                    \
	 FM_KIND_##kind,                                                                           \
	 false,                                                                                    \
	 offsetof(struct fm_record, name),                                                         \
	 families,                                                                                 \
	 profile,                                                                                  \
	 unit,                                                                                     \
	 FM_SEMANTICS_##semantics},
#include "ipfix/fields.def"
#undef FM_FIELD
};

const size_t fm_n_fields = FM_ARRAY_SIZE(fm_fields);

/* Numbers of these sizes are written; reduced sizes between them are not. */
#define FM_FIELD(name, type, dim, kind, ie_name, pen, ie, v9, wire, ...)                           \
	_Static_assert(FM_KIND_##kind == FM_KIND_IP6 ||                                            \
			       (FM_KIND_##kind == FM_KIND_LABEL                                    \
					? wire == 3                                                \
					: wire == 1 || wire == 2 || wire == 4 || wire == 8),       \
		       #name);
#include "ipfix/fields.def"
#undef FM_FIELD

void fm_layout_add(struct fm_layout *layout, const struct fm_field *field)
{
	assert(layout->n < FM_LAYOUT_FIELDS_MAX);
	layout->fields[layout->n++] = *field;
	layout->record_size += field->wire;
}

bool fm_layout_has_row(const struct fm_session_options *options, size_t row)
{
	return fm_field_list_has(&options->fields, row, fm_fields[row].profile & options->profile);
}

/* FNV-1a. */
static uint64_t mix(uint64_t hash, uint64_t value)
{
	for (unsigned int i = 0; i < 64; i += 8)
		hash = (hash ^ (value >> i & 0xff)) * 0x100000001b3;
	return hash;
}

uint64_t fm_layout_hash(const struct fm_session_options *options)
{
	uint64_t hash = 0xcbf29ce484222325;

	for (size_t i = 0; i < fm_n_fields; i++) {
		const struct fm_field *field = &fm_fields[i];

		if (!fm_layout_has_row(options, i))
			continue;
		hash = mix(hash,
			   field->pen == FM_PEN_OWN ? options->enterprise_number : field->pen);
		hash = mix(hash, (uint64_t)field->wire << 16 | field->ie);
	}
	return hash;
}

static uint16_t records_id(const struct fm_session_options *options, unsigned int index)
{
	bool sysuptime = options->protocol == FM_SESSION_V9 && options->v9_sysuptime;
	uint64_t kind = options->protocol | options->biflow << 1 | sysuptime << 2;

	if (fm_field_list_changes(&options->fields, options->profile))
		return (uint16_t)(RECORDS_ID_LISTS +
				  mix(fm_layout_hash(options), kind) % LISTS * FM_LAYOUTS_RECORDS +
				  index);
	return (uint16_t)(RECORDS_ID + index % FM_LAYOUTS_UNSAMPLED +
			  (index >= FM_LAYOUTS_UNSAMPLED ? RECORDS_ID_SAMPLED : 0) +
			  (options->biflow ? RECORDS_ID_BIFLOW : 0) +
			  (sysuptime ? RECORDS_ID_SYSUPTIME : 0) +
			  (options->profile == FM_P_FULL ? RECORDS_ID_FULL : 0) +
			  (options->profile == FM_P_NTOP ? RECORDS_ID_NTOP : 0));
}

void fm_layout_records(struct fm_layout *ret, const struct fm_session_options *options,
		       unsigned int index)
{
	bool v9 = options->protocol == FM_SESSION_V9;
	const struct fm_shape shape = fm_layout_shape(index, options->biflow);

	*ret = (struct fm_layout){.id = records_id(options, index),
				  .domain = options->domain,
				  .sysuptime = v9 && options->v9_sysuptime};
	for (size_t i = 0; i < fm_n_fields; i++) {
		struct fm_field field = fm_fields[i];

		if (!fm_shape_has(&shape, field.families) || !fm_layout_has_row(options, i) ||
		    (v9 && !field.v9))
			continue;
		if (field.pen == FM_PEN_OWN) {
			field.pen = options->enterprise_number;
			field.own = true;
		}
		if (ret->sysuptime && field.kind == FM_KIND_MSEC) {
			field.v9 = field.v9 == 152 ? 22 : 21; /* FIRST_SWITCHED, LAST_SWITCHED */
			field.wire = 4;
		}
		fm_layout_add(ret, &field);
	}
}

static uint64_t all_ones(uint8_t octets)
{
	return UINT64_MAX >> (64 - 8 * octets);
}

static uint64_t read_unsigned(const void *member, uint8_t size)
{
	switch (size) {
	case 1:
		return *(const uint8_t *)member;
	case 2: {
		uint16_t value;

		memcpy(&value, member, sizeof(value));
		return value;
	}
	case 4: {
		uint32_t value;

		memcpy(&value, member, sizeof(value));
		return value;
	}
	default: {
		uint64_t value;

		memcpy(&value, member, sizeof(value));
		return value;
	}
	}
}

/* The sizes that occur get their own moves: this is most of the cost of a record. */
static inline void write_number(uint64_t value, uint8_t wire, bool host_order, uint8_t *ret)
{
	switch (wire) {
	case 1:
		*ret = (uint8_t)value;
		break;
	case 2: {
		uint16_t number = host_order ? (uint16_t)value : htobe16((uint16_t)value);

		memcpy(ret, &number, sizeof(number));
		break;
	}
	case 4: {
		uint32_t number = host_order ? (uint32_t)value : htobe32((uint32_t)value);

		memcpy(ret, &number, sizeof(number));
		break;
	}
	default: {
		uint64_t number = host_order ? value : htobe64(value);

		memcpy(ret, &number, sizeof(number));
		break;
	}
	}
}

static uint64_t ntp_time(uint64_t ns)
{
	uint64_t seconds = ns / FM_NS_PER_S + NTP_EPOCH, rest = ns % FM_NS_PER_S;

	return seconds << 32 | (rest << 32) / FM_NS_PER_S;
}

/* The largest number says absent: a larger one is the largest below. */
static uint64_t on_wire(uint64_t value, uint8_t size, uint8_t wire)
{
	return value == all_ones(size) ? all_ones(wire) : FM_MIN(value, all_ones(wire) - 1);
}

static void write_label(uint64_t section, uint8_t *ret)
{
	if (section == FM_ABSENT)
		section = 0;
	ret[0] = (uint8_t)(section >> 16);
	ret[1] = (uint8_t)(section >> 8);
	ret[2] = (uint8_t)section;
}

static void write_address4(const void *member, bool host_order, uint8_t *ret)
{
	uint8_t octets[4];

	memcpy(octets, member, sizeof(octets));
	write_number((uint64_t)octets[0] << 24 | octets[1] << 16 | octets[2] << 8 | octets[3], 4,
		     host_order, ret);
}

/* Octets written. */
static size_t write_text(const char *text, bool host_order, uint8_t *ret)
{
	const struct fm_varfield field = {strlen(text), (const uint8_t *)text};

	if (host_order) {
		memcpy(ret, &field, sizeof(field));
		return sizeof(field);
	}
	ret[0] = (uint8_t)field.size;
	memcpy(ret + 1, text, field.size);
	return 1 + field.size;
}

void fm_layout_write(const struct fm_layout *layout, const void *source, bool host_order,
		     uint64_t boot_ns, uint8_t *ret)
{
	for (unsigned int i = 0; i < layout->n; i++) {
		const struct fm_field *field = &layout->fields[i];
		const void *member = (const char *)source + field->offset;
		size_t used = field->wire;
		uint64_t value;

		switch (field->kind) {
		case FM_KIND_U:
			write_number(read_unsigned(member, field->size), field->wire, host_order,
				     ret);
			break;
		case FM_KIND_APP:
			write_number(read_unsigned(member, field->size), field->wire, false, ret);
			break;
		case FM_KIND_OPT:
			value = read_unsigned(member, field->size);
			write_number(on_wire(value, field->size, field->wire), field->wire,
				     host_order, ret);
			break;
		case FM_KIND_LABEL:
			write_label(read_unsigned(member, field->size), ret);
			break;
		case FM_KIND_MSEC:
			value = read_unsigned(member, field->size);
			value = layout->sysuptime ? value / FM_NS_PER_MS - boot_ns / FM_NS_PER_MS
						  : value / FM_NS_PER_MS;
			write_number(value, field->wire, host_order, ret);
			break;
		case FM_KIND_NTP:
			write_number(ntp_time(read_unsigned(member, field->size)), field->wire,
				     host_order, ret);
			break;
		case FM_KIND_IP4:
			write_address4(member, host_order, ret);
			break;
		case FM_KIND_VAR:
			used = write_text(member, host_order, ret);
			break;
		case FM_KIND_TEXT:
			fm_text_copy((char *)ret, field->wire, member, field->size);
			break;
		default: /* octets as they are */
			memcpy(ret, member, field->wire);
			break;
		}
		ret += used;
	}
}
