/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Prints the messages that sessions make of random records, in hexadecimal: a line a message. The
 * values are the same whatever the processor, so what is printed must be, too. Needs neither
 * libfixbuf nor libbpf, so that a cross compiler makes it; compiled here with FM_TEST_FIXBUF it can
 * print what libfixbuf encodes as well, given any argument. Called by cross.py.
 */
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "ipfix/samplers.h"
#include "oracle.h"

#define NOW_NS	1700000000123456789ULL
#define BOOT_NS 1699990000000000000ULL
#define RECORDS 300

#ifndef FM_TEST_FIXBUF
/* Sessions name it; nobody asks for it here. */
const struct fm_encoder_ops fm_encoder_ipfix;
#endif

/* splitmix64 */
static uint64_t next(uint64_t *state)
{
	uint64_t z = *state += 0x9e3779b97f4a7c15;

	z = (z ^ z >> 30) * 0xbf58476d1ce4e5b9;
	z = (z ^ z >> 27) * 0x94d049bb133111eb;
	return z ^ z >> 31;
}

/* A value for a member, as its type has it. */
static void set_member(void *source, const struct fm_field *field, uint64_t *state)
{
	uint8_t *member = (uint8_t *)source + field->offset;
	uint64_t value = next(state) >> next(state) % 64;

	switch (field->kind) {
	case FM_KIND_IP4:
	case FM_KIND_IP6:
		for (unsigned int i = 0; i < field->size; i++)
			member[i] = (uint8_t)next(state);
		return;
	case FM_KIND_MSEC:
	case FM_KIND_NTP:
		value = NOW_NS - value % (NOW_NS - BOOT_NS);
		break;
	case FM_KIND_OPT:
	case FM_KIND_LABEL:
		if (next(state) % 4 == 0)
			value = UINT64_MAX;
		break;
	default:
		value &= UINT64_MAX >> 8; /* sums of them fit */
	}
	if (field->size == 8)
		*(uint64_t *)member = value;
	else if (field->size == 4)
		*(uint32_t *)member = (uint32_t)value;
	else if (field->size == 2)
		*(uint16_t *)member = (uint16_t)value;
	else
		*member = (uint8_t)value;
}

static void set_record(struct fm_record *ret, bool biflow, uint64_t *state)
{
	*ret = (struct fm_record){};
	for (size_t i = 0; i < fm_n_fields; i++)
		set_member(ret, &fm_fields[i], state);
	ret->family = next(state) % _FM_FAMILY_MAX;
	ret->encapsulation = next(state) % _FM_ENCAPSULATION_MAX;
	ret->biflow = biflow;
	ret->selector = next(state) % 2 ? next(state) % FM_SAMPLERS_MAX : 0;
	ret->packets &= UINT32_MAX;
	ret->octets &= UINT32_MAX;
	ret->rev_packets = biflow ? ret->rev_packets & UINT32_MAX : 0;
	ret->rev_octets = biflow ? ret->rev_octets & UINT32_MAX : 0;
}

/* Members that all are 64-bit numbers. */
static void set_figures(void *figures, size_t size, uint64_t *state)
{
	uint64_t *figure = figures;

	for (size_t i = 0; i < size / sizeof(*figure); i++)
		figure[i] = i % 2 ? next(state) : NOW_NS - i;
}

/* Texts stay as they are. */
static void set_members(void *option, enum fm_options_kind kind, uint64_t *state)
{
	const struct fm_field *fields;
	size_t n = fm_layout_options_fields(kind, &fields);

	for (size_t i = 0; i < n; i++)
		if (fields[i].kind != FM_KIND_TEXT)
			set_member(option, &fields[i], state);
}

static int send_options(struct fm_session *session, uint64_t *state)
{
	struct fm_exporter_stats exporter;
	struct fm_sink_stats sink;
	struct fm_audit_option audit = {};
	struct fm_cause_option cause = {};
	struct fm_device_option device = {.record.name = "eth7", .record.alias = "up"};
	struct fm_vrf_option vrf = {.record.name = "red"};
	struct fm_application_option application = {.record.name = "https"};
	int r = fm_session_interface(session, 7, "eth7", "up to something", NOW_NS);

	set_figures(&exporter, sizeof(exporter), state);
	set_figures(&sink, sizeof(sink), state);
	set_members(&audit, FM_OPTIONS_AUDIT, state);
	set_members(&cause, FM_OPTIONS_CAUSE, state);
	set_members(&device, FM_OPTIONS_DEVICE, state);
	set_members(&vrf, FM_OPTIONS_VRF, state);
	set_members(&application, FM_OPTIONS_APPLICATION, state);
	r = r ?: fm_session_statistics(session, &exporter, &sink, NOW_NS);
	r = r ?: fm_session_audit(session, &audit.record, NOW_NS);
	r = r ?: fm_session_cause(session, &cause.record, NOW_NS);
	r = r ?: fm_session_device(session, &device.record, NOW_NS);
	r = r ?: fm_session_vrf(session, &vrf.record, NOW_NS);
	r = r ?: fm_session_application(session, &application.record, NOW_NS);
	return r
		       ?: fm_session_gap(session,
					 &(struct fm_session_gap){.from = 1, .to = 2, .records = 3},
					 NOW_NS);
}

static void emit(void *userdata, const uint8_t *message, size_t size,
		 const struct fm_message_info *info)
{
	printf("%s %u %llu %llu ", (const char *)userdata, info->records,
	       (unsigned long long)info->packets, (unsigned long long)info->octets);
	for (size_t i = 0; i < size; i++)
		printf("%02x", message[i]);
	putchar('\n');
}

static int run(const struct fm_session_options *options, const struct fm_encoder_ops *ops)
{
	_fm_cleanup_(fm_session_freep) struct fm_session *session = NULL;
	char name[64];
	uint64_t state = options->message_size + options->profile;
	int r;

	snprintf(name, sizeof(name), "%s %u%s%s", ops == &fm_encoder_v9 ? "v9" : "ipfix",
		 options->profile, options->biflow ? " biflow" : "",
		 options->v9_sysuptime ? " uptime" : "");
	r = fm_session_new_encoder(&session, options, ops, emit, name);
	r = r ?: fm_session_begin(session, NOW_NS);
	r = r ?: send_options(session, &state);
	for (unsigned int i = 0; r == 0 && i < RECORDS; i++) {
		struct fm_record record;

		set_record(&record, options->biflow, &state);
		r = fm_session_record(session, &record, NOW_NS + i);
	}
	return r ?: fm_session_flush(session, NOW_NS + RECORDS);
}

int main(int argc, char **argv)
{
	const struct fm_encoder_ops *ipfix = argc > 1 ? &fm_encoder_ipfix : &fm_encoder_oracle;
	int r = 0;

	for (unsigned int k = 0; r == 0 && k < 24; k++) {
		struct fm_session_options options = {
			.protocol = k & 1 ? FM_SESSION_V9 : FM_SESSION_IPFIX,
			.biflow = k & 2,
			.v9_sysuptime = k & 4,
			.profile = 1U << k / 8,
			.domain = 0x01020304,
			.enterprise_number = 32473,
			.message_size = k & 4 ? 1400 : 700,
			.boot_ns = BOOT_NS,
		};

		r = run(&options, k & 1 ? &fm_encoder_v9 : ipfix);
	}
	if (r < 0)
		fprintf(stderr, "%s\n", strerror(-r));
	return r < 0 ? EXIT_FAILURE : EXIT_SUCCESS;
}
