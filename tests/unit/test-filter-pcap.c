/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Random filters: which rule decides about random packets as libpcap sees it and as our tables do.
 * test-filter-pcap [filters [first seed]]
 */
#include <dlfcn.h>
#include <errno.h>
#include <string.h>
#include <sys/time.h>

#include "base/macro.h"
#include "some-filters.h"
#include "test.h"

#define FILTERS 1000
#define PACKETS 300

/*
 * libpcap without its headers, as it comes with tcpdump: only who runs this needs it. See
 * pcap_compile(3PCAP), pcap_offline_filter(3PCAP).
 */
#define DLT_EN10MB 1
struct pcap_program {
	unsigned int length;
	void *instructions;
};
struct pcap_header {
	struct timeval time;
	uint32_t captured, length;
};
static void *(*open_dead)(int linktype, int snaplen);
static int (*compile)(void *pcap, struct pcap_program *program, const char *text, int optimize,
		      uint32_t netmask);
static int (*offline_filter)(const struct pcap_program *program, const struct pcap_header *header,
			     const uint8_t *packet);
static void (*free_program)(struct pcap_program *program);
static char *(*get_error)(void *pcap);
static void *pcap;

static bool open_pcap(void)
{
	static const char *const names[] = {"libpcap.so.0.8", "libpcap.so.1"};
	static const struct {
		const char *name;
		void *pointer;
	} functions[] = {
		{"pcap_open_dead", &open_dead},
		{"pcap_compile", &compile},
		{"pcap_offline_filter", &offline_filter},
		{"pcap_freecode", &free_program},
		{"pcap_geterr", &get_error},
	};
	void *library = NULL;

	for (size_t i = 0; i < FM_ARRAY_SIZE(names) && !library; i++)
		library = dlopen(names[i], RTLD_NOW);
	for (size_t i = 0; i < FM_ARRAY_SIZE(functions) && library; i++) {
		void *function = dlsym(library, functions[i].name);

		if (!function)
			return false;
		memcpy(functions[i].pointer, &function, sizeof(function));
	}
	pcap = library ? open_dead(DLT_EN10MB, 65535) : NULL;
	return pcap;
}

struct trial {
	struct some_filter filter;
	struct fm_filter_rules *rules;
	struct fm_filter_tables tables;
	/* By rule, interface, hook. */
	struct pcap_program program[SOME_RULES][8][_FM_HOOK_MAX];
	unsigned int decided[SOME_RULES + 1];
};

static bool make_tables(struct trial *trial)
{
	_fm_cleanup_buf_ struct fm_buf complaint = {};
	int r = fm_filter_rules_new(&trial->rules);

	if (r == 0)
		for (size_t i = 0; i < trial->filter.n_rules && r == 0; i++) {
			_fm_cleanup_buf_ struct fm_buf text = {};

			some_rule_print(&trial->filter, i, &text);
			r = fm_filter_rules_add(trial->rules, text.data, &complaint);
			if (r < 0)
				FM_TEST_NOTE("%s", text.data);
		}
	if (r == 0)
		r = fm_filter_compile(trial->rules, FM_FILTER_INCLUDE, NULL, some_interfaces,
				      some_n_interfaces, &trial->tables, &complaint);
	if (r < 0)
		FM_TEST_NOTE("%s", complaint.data ? complaint.data : strerror(-r));
	return r == 0;
}

static bool make_program(struct trial *trial, size_t rule, size_t interface, enum fm_hook hook)
{
	_fm_cleanup_buf_ struct fm_buf text = {};

	some_rule_print_pcap(&trial->filter, rule, interface, hook, &text);
	/* Optimised, what holds for nothing is an error. */
	if (!compile(pcap, &trial->program[rule][interface][hook], text.data ? text.data : "", 0,
		     UINT32_MAX))
		return true;
	FM_TEST_NOTE("libpcap: %s: %s", get_error(pcap), text.data);
	return false;
}

static bool make_programs(struct trial *trial)
{
	for (size_t rule = 0; rule < trial->filter.n_rules; rule++)
		for (size_t interface = 0; interface < some_n_interfaces; interface++)
			for (unsigned int hook = 0; hook < _FM_HOOK_MAX; hook++)
				if (!make_program(trial, rule, interface, hook))
					return false;
	return true;
}

static void done(struct trial *trial)
{
	for (size_t rule = 0; rule < SOME_RULES; rule++)
		for (size_t interface = 0; interface < some_n_interfaces; interface++)
			for (unsigned int hook = 0; hook < _FM_HOOK_MAX; hook++)
				if (trial->program[rule][interface][hook].instructions)
					free_program(&trial->program[rule][interface][hook]);
	fm_filter_tables_done(&trial->tables);
	fm_filter_rules_free(trial->rules);
}

/* The rule that decides, as libpcap says. */
static size_t pcap_verdict(const struct trial *trial, const struct some_packet *packet)
{
	struct pcap_header header = {.captured = (uint32_t)packet->length,
				     .length = (uint32_t)packet->length};
	size_t interface = 0, rule = 0;

	while (some_interfaces[interface].ifindex != packet->seen.ifindex)
		interface++;
	while (rule < trial->filter.n_rules &&
	       !offline_filter(&trial->program[rule][interface][packet->seen.hook], &header,
			       packet->frame))
		rule++;
	return rule;
}

static void tell(const struct trial *trial, const struct some_packet *packet, size_t by_pcap,
		 size_t by_tables)
{
	_fm_cleanup_buf_ struct fm_buf text = {};

	some_packet_print(packet, &text);
	fm_buf_printf(&text, "\n# libpcap %zu, tables %zu, tree %zu", by_pcap, by_tables,
		      some_filter_verdict(&trial->filter, &packet->seen));
	for (size_t i = 0; i < trial->filter.n_rules; i++) {
		fm_buf_printf(&text, "\n# %zu: ", i);
		some_rule_print(&trial->filter, i, &text);
		fm_buf_printf(&text, "\n#    ");
		some_rule_print_pcap(&trial->filter, i, 0, FM_HOOK_INGRESS, &text);
	}
	FM_TEST_NOTE("%s", text.data);
}

/* Returns how many packets are decided about differently; -1: it could not be asked. */
static int compare(struct trial *trial, uint64_t seed, const char *path)
{
	uint64_t random = seed * 31 + 7;
	int different = 0;

	if (!some_filter_make(&trial->filter, seed, path, true) || !make_tables(trial) ||
	    !make_programs(trial))
		return -1;
	for (unsigned int i = 0; i < PACKETS; i++) {
		struct some_packet packet;
		size_t by_pcap, by_tables;

		some_packet_make(&packet, &random, true);
		by_pcap = pcap_verdict(trial, &packet);
		by_tables = fm_filter_look(&trial->tables, &packet.seen);
		trial->decided[by_pcap]++;
		if (by_pcap == by_tables)
			continue;
		if (!different++)
			tell(trial, &packet, by_pcap, by_tables);
	}
	return different;
}

int main(int argc, char **argv)
{
	unsigned int n = argc > 1 ? (unsigned int)strtoul(argv[1], NULL, 10) : FILTERS;
	uint64_t first = argc > 2 ? strtoull(argv[2], NULL, 10) : 1;
	unsigned int failed = 0, different = 0, n_rules = 0, used = 0, otherwise = 0;
	char path[] = "/tmp/flowmond-filter-XXXXXX";
	int fd = mkstemp(path);

	if (fd < 0)
		return fm_test_bail("mkstemp", errno);
	close(fd);
	if (!open_pcap())
		return fm_test_bail("libpcap cannot be loaded", ENOENT);
	for (unsigned int i = 0; i < n; i++) {
		struct trial *trial = calloc(1, sizeof(*trial));
		int r = trial ? compare(trial, first + i, path) : -1;

		if (!trial)
			break;
		if (r)
			printf("# seed %llu\n", (unsigned long long)(first + i));
		failed += r < 0;
		different += r > 0 ? (unsigned int)r : 0;
		n_rules += (unsigned int)trial->filter.n_rules;
		for (size_t rule = 0; rule < trial->filter.n_rules; rule++)
			used += trial->decided[rule] > 0;
		otherwise += trial->decided[trial->filter.n_rules];
		done(trial);
		free(trial);
	}
	unlink(path);
	printf("# %u filters of %u rules, %u of them decide about a packet, %u packets of %u are left\n",
	       n, n_rules, used, otherwise, n * PACKETS);
	FM_TEST(failed == 0, "every filter is understood by both");
	FM_TEST(different == 0, "%u packets: libpcap and the tables have the same rule decide",
		n * PACKETS);
	FM_TEST(used * 3 > n_rules && otherwise * 20 > n * PACKETS,
		"rules and packets meet, and miss each other");
	return fm_test_done();
}
