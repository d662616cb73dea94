/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Rules of the filter: any lines of text, and a file of prefixes behind the first NUL, which %
 * stands for in them. What is refused is refused with a reason; of what is taken, the tables say
 * the same as the clauses, and the same texts make equal rules.
 */
#include <errno.h>
#include <sys/mman.h>
#include <unistd.h>

#include "daemon/pattern.h"
#include "fuzz.h"
#include "some-filters.h"

#define RULES	16
#define PACKETS 20

/* The file of prefixes; its path. */
static const char *make_file(struct input *input)
{
	static char path[32];
	static int fd = -1;

	if (fd < 0)
		fd = memfd_create("prefixes", MFD_CLOEXEC);
	FUZZ_CHECK(fd >= 0 && ftruncate(fd, 0) == 0);
	FUZZ_CHECK(pwrite(fd, input->at, input->left, 0) == (ssize_t)input->left);
	snprintf(path, sizeof(path), "/proc/self/fd/%d", fd);
	return path;
}

/* One line, with the path in place of each %. */
static void next_line(struct input *input, const char *path, struct fm_buf *ret)
{
	for (; input->left && *input->at != '\n'; input->at++, input->left--) {
		if (*input->at == '%')
			fm_buf_printf(ret, "%s", path);
		else
			fm_buf_append(ret, input->at, 1);
	}
	if (input->left) {
		input->at++;
		input->left--;
	}
	FUZZ_CHECK(fm_buf_error(ret) == 0);
}

static struct fm_filter_point point(unsigned int number)
{
	return (struct fm_filter_point){0, number};
}

static bool where_has(const struct fm_filter_rules *rules, const struct fm_filter_where *where,
		      const struct fm_filter_packet *packet)
{
	const struct fm_filter_interface *interface = some_interfaces;

	while (interface->ifindex != packet->ifindex)
		interface++;
	for (size_t i = 0; i < rules->n_patterns; i++) {
		struct fm_names one = {&rules->patterns[i], 1};
		bool matches = fm_pattern_match(&one, interface->ns, interface->name, false);
		uint64_t bit = (uint64_t)1 << i % 64;

		if ((where->all[i / 64] & bit && !matches) ||
		    (where->none[i / 64] & bit && matches))
			return false;
	}
	return where->hooks & 1u << packet->hook;
}

static bool clause_has(const struct fm_filter_rules *rules, const struct fm_filter_clause *clause,
		       const struct fm_filter_packet *packet)
{
	const struct fm_filter_point values[FM_BY_INTERFACE] = {
		[FM_BY_SOURCE] = fm_filter_point_of(packet->addr[0]),
		[FM_BY_DESTINATION] = fm_filter_point_of(packet->addr[1]),
		[FM_BY_SOURCE_PORT] =
			point(packet->has_ports ? packet->port[0] : FM_FILTER_NO_PORT),
		[FM_BY_DESTINATION_PORT] =
			point(packet->has_ports ? packet->port[1] : FM_FILTER_NO_PORT),
		[FM_BY_PROTOCOL] =
			point(packet->protocol + (packet->family == 6 ? FM_FILTER_IP6 : 0u)),
		[FM_BY_VLAN] = point(packet->vlan),
		[FM_BY_FLAGS] = point(packet->has_flags ? packet->flags : FM_FILTER_NO_FLAGS),
	};

	for (unsigned int i = 0; i < FM_BY_INTERFACE; i++)
		if (!fm_filter_set_has(clause->set[i], values[i]))
			return false;
	return where_has(rules, &clause->where, packet);
}

static size_t verdict(const struct fm_filter_rules *rules, const struct fm_filter_packet *packet)
{
	for (size_t i = 0; i < rules->n_rules; i++)
		for (size_t c = 0; c < rules->rules[i].n_clauses; c++)
			if (clause_has(rules, &rules->clauses.v[rules->rules[i].first_clause + c],
				       packet))
				return i;
	return rules->n_rules;
}

static void look(const struct fm_filter_rules *rules, uint64_t random)
{
	_fm_cleanup_filter_ struct fm_filter_tables tables = {};
	_fm_cleanup_buf_ struct fm_buf complaint = {};
	int r = fm_filter_compile(rules, FM_FILTER_INCLUDE, NULL, some_interfaces,
				  some_n_interfaces, &tables, &complaint);

	FUZZ_CHECK(r == 0 || (r == -E2BIG && complaint.size));
	for (unsigned int i = 0; i < PACKETS && r == 0; i++) {
		struct some_packet packet;

		some_packet_make(&packet, &random, false);
		FUZZ_CHECK(fm_filter_look(&tables, &packet.seen) == verdict(rules, &packet.seen));
	}
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	_fm_cleanup_(fm_filter_rules_freep) struct fm_filter_rules *rules = NULL, *again = NULL;
	const uint8_t *nul = size ? memchr(data, '\0', size) : NULL;
	struct input text = {data, nul ? (size_t)(nul - data) : size};
	struct input file = {nul ? nul + 1 : data, nul ? size - text.left - 1 : 0};
	const char *path = make_file(&file);

	FUZZ_CHECK(fm_filter_rules_new(&rules) == 0 && fm_filter_rules_new(&again) == 0);
	for (unsigned int i = 0; i < RULES && text.left; i++) {
		_fm_cleanup_buf_ struct fm_buf line = {}, complaint = {};
		int r;

		next_line(&text, path, &line);
		if (!line.size)
			continue;
		r = fm_filter_rules_add(rules, line.data, &complaint);
		FUZZ_CHECK(r < 0 ? complaint.size : !complaint.size);
		if (r == 0)
			FUZZ_CHECK(fm_filter_rules_add(again, line.data, &complaint) == 0);
	}
	/* A refused rule may have left names of interfaces, but nothing that is asked. */
	if (rules->n_patterns == again->n_patterns)
		FUZZ_CHECK(fm_filter_rules_equal(rules, again));
	look(rules, size);
	return 0;
}
