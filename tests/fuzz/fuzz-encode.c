/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Sessions of both protocols with any fields, records and options: no message is longer than it may
 * be, an IPFIX reader finds in each what was said to be in it, and a v9 message is sets to its end.
 */
#include <errno.h>

#include "base/macro.h"
#include "fuzz.h"
#include "ipfix/encode.h"
#include "ipfix/file-reader.h"
#include "ipfix/samplers.h"

#define RECORDS_MAX 40
#define NOW_NS	    1700000000000000000ULL

struct state {
	struct fm_session_options options;
	struct fm_file_reader *reader;
	size_t limit;
	uint64_t records, packets, octets;
};

/* Sets with lengths, one behind the other, to the end. */
static void check_v9(const uint8_t *message, size_t size)
{
	size_t at = 20;

	FUZZ_CHECK(size >= 24 && message[0] == 0 && message[1] == 9);
	while (at < size) {
		size_t length;

		FUZZ_CHECK(size - at >= 4);
		length = (size_t)message[at + 2] << 8 | message[at + 3];
		FUZZ_CHECK(length >= 4 && length <= size - at);
		at += length;
	}
}

static void on_message(void *userdata, const uint8_t *message, size_t size,
		       const struct fm_message_info *info)
{
	struct state *state = userdata;
	struct fm_message_info found;

	FUZZ_CHECK(size <= state->limit);
	state->records += info->records;
	state->packets += info->packets;
	state->octets += info->octets;
	if (state->options.protocol == FM_SESSION_V9) {
		check_v9(message, size);
		return;
	}
	FUZZ_CHECK(fm_file_reader_inspect(state->reader, message, size, &found) == 0);
	FUZZ_CHECK(found.records == info->records && found.packets == info->packets);
	FUZZ_CHECK(found.octets == info->octets && found.sequenced == info->sequenced);
	FUZZ_CHECK(found.is_template == info->is_template && found.domain == info->domain);
}

static void add_records(struct fm_session *session, struct input *input, const struct state *state,
			struct state *sum, unsigned int copies)
{
	struct fm_record record;
	size_t octets = input_u8(input);
	const uint8_t *from = input_take(input, octets, &octets);

	/* A few octets make a whole record, and none of it is regular. */
	for (size_t i = 0; i < sizeof(record); i++)
		((uint8_t *)&record)[i] = octets ? from[(i * 7 + i / octets) % octets] : 0;
	record.family %= _FM_FAMILY_MAX;
	record.encapsulation %= _FM_ENCAPSULATION_MAX;
	record.biflow = state->options.biflow;
	record.selector %= FM_SAMPLERS_MAX;
	if (!record.biflow) /* record.h: what is not of its templates is 0 */
		record.rev_packets = record.rev_octets = 0;
	for (; copies > 0; copies--) {
		FUZZ_CHECK(fm_session_record(session, &record, NOW_NS) == 0);
		sum->records++;
		sum->packets += record.packets + record.rev_packets;
		sum->octets += record.octets + record.rev_octets;
	}
}

static void add_name(struct fm_session *session, struct input *input)
{
	char name[64], description[256];
	size_t octets;

	octets = input_copy(input, name, input_u8(input) % (sizeof(name) - 1));
	name[octets] = '\0';
	octets = input_copy(input, description, input_u8(input) % (sizeof(description) - 1));
	description[octets] = '\0';
	FUZZ_CHECK(fm_session_interface(session, input_u8(input), name, description, NOW_NS) == 0);
}

static void add_option(struct fm_session *session, struct input *input, uint8_t which)
{
	union {
		struct {
			struct fm_exporter_stats exporter;
			struct fm_sink_stats sink;
		};
		struct fm_audit_record audit;
		struct fm_cause_record cause;
		struct fm_session_gap gap;
	} any;

	input_copy(input, &any, sizeof(any));
	switch (which % 4) {
	case 0:
		FUZZ_CHECK(fm_session_statistics(session, &any.exporter, &any.sink, NOW_NS) == 0);
		break;
	case 1:
		FUZZ_CHECK(fm_session_audit(session, &any.audit, NOW_NS) == 0);
		break;
	case 2:
		FUZZ_CHECK(fm_session_cause(session, &any.cause, NOW_NS) == 0);
		break;
	case 3:
		FUZZ_CHECK(fm_session_gap(session, &any.gap, NOW_NS) == 0);
		break;
	}
}

static void play(struct fm_session *session, struct input *input, const struct state *state,
		 struct state *sum)
{
	for (unsigned int i = 0; i < RECORDS_MAX && input->left; i++) {
		uint8_t what = input_u8(input);

		switch (what & 7) {
		case 0:
			add_name(session, input);
			break;
		case 1:
			add_option(session, input, what >> 3);
			break;
		case 2:
			FUZZ_CHECK(fm_session_flush(session, NOW_NS) == 0);
			break;
		case 3:
			FUZZ_CHECK(fm_session_templates(session, NOW_NS) == 0);
			break;
		default:
			add_records(session, input, state, sum, 1 + (what >> 3));
			break;
		}
	}
}

/* Any fields that a list may add and leave out, each named as in the configuration. */
static void take_fields(struct fm_session_options *options, struct input *input)
{
	uint8_t how = input_u8(input);

	for (size_t i = 0; i < fm_n_fields; i++) {
		char word[80];
		int r, n;

		if (i % 8 == 0)
			how = input_u8(input);
		if (!(how >> i % 8 & 1))
			continue;
		n = snprintf(word, sizeof(word), "%c%s", how & 1 << (i + 3) % 8 ? '+' : '-',
			     fm_fields[i].ie_name);
		r = fm_field_list_add(&options->fields, word, (size_t)n);
		FUZZ_CHECK(r == 0 || (r == -EPERM && *word == '-'));
	}
	options->message_size = FM_MAX(options->message_size, fm_session_message_min(options));
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	static const unsigned int profiles[] = {FM_P_STANDARD, FM_P_FULL, FM_P_NTOP, FM_P_FULL};
	struct input input = {data, size};
	uint8_t how = input_u8(&input);
	struct state state = {
		.options = {.protocol = how & 1 ? FM_SESSION_V9 : FM_SESSION_IPFIX,
			    .profile = profiles[how >> 1 & 3],
			    .biflow = how & 8,
			    .domain = 1 + input_u8(&input),
			    .enterprise_number = 32473,
			    .message_size = 512 + input_u16(&input) % 9000,
			    .v9_sysuptime = how & 16},
	};
	struct fm_session *session;
	struct state sum = {};

	if (how & 64)
		take_fields(&state.options, &input);
	state.limit = state.options.message_size > FM_SESSION_TEMPLATE_MAX
			      ? state.options.message_size
			      : FM_SESSION_TEMPLATE_MAX;
	FUZZ_CHECK(fm_file_reader_new(&state.reader, -1, "/proc/self/status") == 0);
	FUZZ_CHECK(fm_session_new(&session, &state.options, on_message, &state) == 0);
	FUZZ_CHECK(fm_session_templates(session, NOW_NS) == 0);
	play(session, &input, &state, &sum);
	if (how & 32)
		fm_session_limit(session, input_u16(&input));
	play(session, &input, &state, &sum);
	FUZZ_CHECK(fm_session_flush(session, NOW_NS) == 0);
	FUZZ_CHECK(state.records == sum.records && state.packets == sum.packets);
	FUZZ_CHECK(state.octets == sum.octets);
	fm_session_free(session);
	fm_file_reader_free(state.reader);
	return 0;
}
