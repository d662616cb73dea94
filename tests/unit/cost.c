/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What is exported in cost.py's measurements: so many conversations become records and messages.
 * Without a protocol, prints what does not have to be measured: octets of a conversation's memory
 * and of a record on the wire.
 * Arguments: [ipfix|v9 CONVERSATIONS]
 */
#include <netinet/in.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/macro.h"
#include "daemon/export.h"
#include "daemon/region.h"
#include "ipfix/session.h"

#define NOW_NS	  1700000000000000000ULL
#define MAX_FLOWS 1000000u
#define KINDS	  64

static const struct fm_timebase timebase = {.tick_ns = 4000000, .realtime_ns = NOW_NS - 1000};
static struct fm_conversation conversations[KINDS];
static uint64_t octets, records;

static void emit(void *userdata, const uint8_t *message, size_t size,
		 const struct fm_message_info *info)
{
	if (info->is_template || !info->records)
		return;
	octets += size;
	records += info->records;
}

/* Every fourth is IPv6, in rows as a sweep finds them; both directions had packets. */
static void make(unsigned int i)
{
	struct fm_conversation *c = &conversations[i];

	*c = (struct fm_conversation){
		.key = {.protocol = IPPROTO_TCP, .family = i % 4 == 3 ? 6 : 4, .port = {i, 443}},
		.seen = {true, true},
	};
	for (unsigned int d = 0; d < 2; d++) {
		memset(c->key.addr[d], (int)(1 + d), sizeof(c->key.addr[d]));
		c->half[d] = (struct fm_half){
			.packets = 10 + i,
			.octets = 1000 * i,
			.first_ns = 1000 + d,
			.min_length = 40,
			.max_length = 1500,
			.tcp_flags = 0x1b,
		};
	}
}

static int export(enum fm_session_protocol protocol, unsigned long n)
{
	_fm_cleanup_(fm_session_freep) struct fm_session *session = NULL;
	const struct fm_export exporter = {.timebase = &timebase};
	const struct fm_session_options options = {
		.protocol = protocol,
		.profile = FM_P_STANDARD,
		.domain = 1,
		.message_size = 1400,
		.enterprise_number = 32473,
	};
	int r = fm_session_new(&session, &options, emit, NULL);

	for (unsigned long i = 0; r == 0 && i < n; i++) {
		struct fm_record made[2];
		size_t n_made = fm_export_records(&exporter, &conversations[i % KINDS],
						  FM_END_REASON_IDLE, made);

		for (size_t k = 0; r == 0 && k < n_made; k++)
			r = fm_session_record(session, &made[k], NOW_NS);
	}
	return r ?: fm_session_flush(session, NOW_NS);
}

/* Of a table on as many CPUs, all told but for what does not grow with it. */
static double octets_per_flow(unsigned int cpus, bool tcp)
{
	uint32_t homes = MAX_FLOWS * 2 / cpus;
	struct fm_region_shape shape = {.n_slots = FM_ALL_SLOTS(homes), .tcp = tcp};
	double cells = tcp ? 1.25 * FM_CELL_OCTETS : 0;

	return (double)fm_region_octets(&shape) * cpus / MAX_FLOWS + cells;
}

static int print_sizes(void)
{
	static const char *const names[] = {[FM_SESSION_IPFIX] = "ipfix", [FM_SESSION_V9] = "v9"};

	for (unsigned int cpus = 1; cpus <= 64; cpus *= 8)
		for (unsigned int tcp = 0; tcp < 2; tcp++)
			printf("memory-%u-%s %.1f\n", cpus, tcp ? "tcp" : "plain",
			       octets_per_flow(cpus, tcp));
	for (size_t i = 0; i < FM_ARRAY_SIZE(names); i++) {
		octets = records = 0;
		if (export(i, 10000) < 0)
			return EXIT_FAILURE;
		printf("wire-%s %.2f\n", names[i], (double)octets / (double)records);
	}
	return EXIT_SUCCESS;
}

int main(int argc, char **argv)
{
	for (unsigned int i = 0; i < KINDS; i++)
		make(i);
	if (argc < 3)
		return print_sizes();
	if (export(strcmp(argv[1], "v9") ? FM_SESSION_IPFIX : FM_SESSION_V9,
		   strtoul(argv[2], NULL, 10)) < 0)
		return EXIT_FAILURE;
	return records == 2 * strtoul(argv[2], NULL, 10) ? EXIT_SUCCESS : EXIT_FAILURE;
}
