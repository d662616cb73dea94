/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Figures of the packet path, the sweep and the export, each beside a floor that is measured in the
 * same run. Called by bench/run, which puts them into one table.
 *
 * Prints lines "name<TAB>value<TAB>unit".
 */
#include <arpa/inet.h>
#include <errno.h>
#include <math.h>
#include <sched.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

#include <bpf/bpf.h>
#include <bpf/libbpf.h>

#include "base/clock.h"
#include "base/macro.h"
#include "daemon/export.h"
#include "daemon/filter-compile.h"
#include "daemon/prefix-map.h"
#include "daemon/sweep.h"
#include "ipfix/session.h"
#include "ipfix/transport.h"

#include "bench.skel.h" /* needs bpf/abi.h */

#define SEQUENCE (1 << 20)
#define ROUNDS	 9
#define REPEAT	 1000000
#define FRAME	 64
/* Bits that coarse keys keep of an IPv4 address: flows stay about as many as they are. */
#define COARSE_LENGTH 31

#define LINES	   (1 << 22) /* 256 MiB */
#define LINE	   64
#define LINE_WORDS (LINE / sizeof(uint32_t))

enum mode {
	MODE_REWRITE,
	MODE_PARSE,
	MODE_COUNT,
	MODE_TCP, /* counted and measured */
	_MODE_MAX,
};

enum traffic {
	TRAFFIC_STREAM,
	TRAFFIC_TALK,
};

/* As in bench.bpf.c. */
struct packet {
	uint32_t flow, number, total, unused;
};

struct bench {
	struct bench_bpf *skeleton[_MODE_MAX];
	struct fm_generation generation; /* of MODE_COUNT */
	struct fm_region *regions;
	enum traffic traffic;
	uint8_t coarse; /* bits of enum fm_coarse */
	int prefixes;	/* descriptor of a trie, 0: none */
	struct packet *sequence[_MODE_MAX];
};

static void die(const char *what, int error)
{
	fprintf(stderr, "bench: %s: %s\n", what, strerror(error < 0 ? -error : error));
	exit(1);
}

static void result(const char *name, double value, const char *unit)
{
	printf("%s\t%.4g\t%s\n", name, value, unit);
	fflush(stdout);
}

static uint64_t cpu_ns(void)
{
	struct timespec time;

	clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &time);
	return (uint64_t)time.tv_sec * FM_NS_PER_S + (uint64_t)time.tv_nsec;
}

static int compare(const void *a, const void *b)
{
	double x = *(const double *)a, y = *(const double *)b;

	return x < y ? -1 : x > y;
}

static double median(double *values, size_t n)
{
	qsort(values, n, sizeof(*values), compare);
	return values[n / 2];
}

/* --- loading --- */

static int new_region_map(uint32_t n_elements, size_t size)
{
	LIBBPF_OPTS(bpf_map_create_opts, opts, .map_flags = BPF_F_MMAPABLE);
	int fd = bpf_map_create(BPF_MAP_TYPE_ARRAY, "fm_region", 4, (uint32_t)size, n_elements,
				&opts);

	if (fd < 0)
		die("map", errno);
	return fd;
}

static void *map_memory(int fd, size_t size)
{
	void *memory = mmap(NULL, (size + 4095) & ~(size_t)4095, PROT_READ | PROT_WRITE, MAP_SHARED,
			    fd, 0);

	if (memory == MAP_FAILED)
		die("mmap", errno);
	return memory;
}

/* A table for the CPU this runs on; others have none and are not used. */
static int add_table(struct bpf_map *table, uint32_t n_elements, size_t size)
{
	uint32_t cpu = (uint32_t)sched_getcpu();
	int fd = new_region_map(n_elements, size);

	if (bpf_map_update_elem(bpf_map__fd(table), &cpu, &fd, BPF_ANY))
		die("table", errno);
	return fd;
}

static void add_region(struct bench *bench, struct bench_bpf *skeleton)
{
	struct fm_region *region = &bench->regions[sched_getcpu()];
	uint32_t n_slots = bench->generation.n_slots;

	fm_region_init(region);
	region->fd[FM_REGION_SLOTS] = add_table(
		skeleton->maps.fm_table, fm_region_elements(n_slots), sizeof(struct fm_slot));
	region->slots = map_memory(region->fd[FM_REGION_SLOTS],
				   (size_t)fm_region_elements(n_slots) * sizeof(struct fm_slot));
	region->fd[FM_REGION_EXPORTED] = new_region_map(n_slots, sizeof(struct fm_exported));
	region->looks = calloc(fm_region_blocks(n_slots), sizeof(*region->looks));
	region->exported =
		map_memory(region->fd[FM_REGION_EXPORTED], n_slots * sizeof(struct fm_exported));
}

static void load(struct bench *bench, enum mode mode)
{
	struct bench_bpf *skeleton = bench_bpf__open();
	uint32_t n_slots = bench->generation.n_slots, cells = bench->generation.homes / 2 / 4 * 5;
	int inner = new_region_map(fm_region_elements(n_slots), sizeof(struct fm_slot));
	int inner_tcp = new_region_map(n_slots, sizeof(struct fm_tcp_slot));
	int inner_tunnel = new_region_map(1, sizeof(struct fm_tunnel));
	struct fm_rodata *rodata;

	if (!skeleton)
		die("open", errno);
	skeleton->rodata->bench_traffic = bench->traffic;
	skeleton->rodata->bench_mode = mode == MODE_TCP ? MODE_COUNT : mode;
	rodata = (struct fm_rodata *)&skeleton->rodata->fm_ro;
	rodata->homes = bench->generation.homes;
	memcpy(rodata->seed, bench->generation.seed, sizeof(rodata->seed));
	rodata->tcp = mode == MODE_TCP && !bench->coarse;
	rodata->coarse = bench->coarse;
	rodata->has_prefixes = bench->prefixes > 0;
	rodata->prefix_length[0] = COARSE_LENGTH;
	fm_prefix_mask(96 + COARSE_LENGTH, rodata->prefix_mask[0]);
	if (bench->prefixes)
		bpf_map__reuse_fd(skeleton->maps.fm_prefixes, bench->prefixes);
	rodata->tcp_cells = cells;
	rodata->timeout_ticks = 49;
	bpf_map__set_inner_map_fd(skeleton->maps.fm_table, inner);
	bpf_map__set_inner_map_fd(skeleton->maps.fm_tcp_table, inner_tcp);
	bpf_map__set_inner_map_fd(skeleton->maps.fm_tunnel_table, inner_tunnel);
	bpf_map__set_max_entries(skeleton->maps.fm_table, bench->generation.n_cpus);
	bpf_map__set_max_entries(skeleton->maps.fm_tcp_table, bench->generation.n_cpus);
	if (mode == MODE_TCP)
		bpf_map__set_max_entries(skeleton->maps.fm_cells, cells + FM_CELL_PROBES - 1);
	bpf_map__set_max_entries(skeleton->maps.fm_counters,
				 FM_GATE_ELEMENT(bench->generation.n_cpus, 0, 0));
	bpf_map__set_max_entries(skeleton->maps.fm_rules,
				 FM_RULE_ELEMENT(bench->generation.n_cpus, 0));
	if (bench_bpf__load(skeleton))
		die("load", errno);
	close(inner);
	close(inner_tcp);
	close(inner_tunnel);
	skeleton->bss->fm_live = (struct fm_live){.idle_ticks = 1 << 30, .linger_ticks = 1};
	/* Test runs come by the loopback device. */
	skeleton->bss->fm_live.gates[FM_GATE_HOME(1)] = FM_GATE_ENTRY(1, 1);
	bench->sequence[mode] = map_memory(bpf_map__fd(skeleton->maps.bench_sequence),
					   SEQUENCE * sizeof(struct packet));
	bench->skeleton[mode] = skeleton;
	if (mode == MODE_COUNT)
		add_region(bench, skeleton);
	if (mode != MODE_TCP)
		return;
	close(add_table(skeleton->maps.fm_table, fm_region_elements(n_slots),
			sizeof(struct fm_slot)));
	close(add_table(skeleton->maps.fm_tcp_table, n_slots, sizeof(struct fm_tcp_slot)));
}

static void init(struct bench *bench, uint32_t max_flows)
{
	int cpus = libbpf_num_possible_cpus();

	bench->regions = calloc((size_t)cpus, sizeof(*bench->regions));
	bench->generation = (struct fm_generation){
		.n_cpus = (unsigned int)cpus,
		.homes = 2 * max_flows,
		.all_homes = FM_ALL_HOMES(2 * max_flows),
		.n_slots = FM_ALL_SLOTS(2 * max_flows),
		.regions = bench->regions,
	};
	for (unsigned int i = 0; i < FM_SEEDS; i++)
		bench->generation.seed[i] =
			(__u64)random() << 33 ^ (__u64)random() << 11 ^ (__u64)random();
	for (unsigned int i = 0; i < _MODE_MAX; i++)
		load(bench, i);
}

static void done(struct bench *bench)
{
	const struct fm_region_shape shape = {.n_slots = bench->generation.n_slots};

	for (unsigned int cpu = 0; cpu < bench->generation.n_cpus; cpu++) {
		struct fm_region *region = &bench->regions[cpu];

		if (!region->slots)
			continue;
		fm_region_done(region, &shape);
	}
	for (unsigned int i = 0; i < _MODE_MAX; i++) {
		munmap(bench->sequence[i], SEQUENCE * sizeof(struct packet));
		bench_bpf__destroy(bench->skeleton[i]);
	}
	free(bench->regions);
}

/* --- the packet path --- */

static void set_sequence(struct bench *bench, const uint32_t *flows)
{
	struct packet *sequence = bench->sequence[0];
	uint32_t n_flows = 0, *totals;

	for (size_t i = 0; i < SEQUENCE; i++)
		n_flows = FM_MAX(n_flows, flows[i] + 1);
	totals = calloc(n_flows, sizeof(*totals));
	for (size_t i = 0; i < SEQUENCE; i++)
		sequence[i] = (struct packet){.flow = flows[i], .number = totals[flows[i]]++};
	for (size_t i = 0; i < SEQUENCE; i++)
		sequence[i].total = totals[flows[i]];
	for (unsigned int mode = 1; mode < _MODE_MAX; mode++)
		memcpy(bench->sequence[mode], sequence, SEQUENCE * sizeof(*sequence));
	free(totals);
}

static uint32_t random_below(uint32_t n)
{
	return (uint32_t)(((uint64_t)random() << 31 | (uint64_t)random()) % n);
}

static void uniform(uint32_t *ret, uint32_t n)
{
	for (size_t i = 0; i < SEQUENCE; i++)
		ret[i] = random_below(n);
}

/* Zipf with exponent 1: flow k is k times as rare as the first. */
static void zipf(uint32_t *ret, uint32_t n)
{
	for (size_t i = 0; i < SEQUENCE; i++) {
		double u = (double)random() / ((double)RAND_MAX + 1);

		ret[i] = (uint32_t)(exp(u * log((double)n + 1)) - 1);
	}
}

static double run(int fd, int repeat, const uint8_t *frame)
{
	LIBBPF_OPTS(bpf_test_run_opts, opts, .data_in = frame, .data_size_in = FRAME,
		    .repeat = repeat);

	if (bpf_prog_test_run_opts(fd, &opts) < 0)
		die("run", errno);
	return opts.duration;
}

/* Medians of runs that take turns: what the machine does meanwhile hits all of them. */
static void measure(struct bench *bench, const uint8_t *frame, const char *name)
{
	static const char *const goes[] = {
		[MODE_PARSE] = "parse only",
		[MODE_COUNT] = "counted",
		[MODE_TCP] = "TCP measured",
	};
	double ns[_MODE_MAX][ROUNDS], floor;
	char text[96];

	for (unsigned int mode = 0; mode < _MODE_MAX; mode++)
		run(bpf_program__fd(bench->skeleton[mode]->progs.fm_bench), SEQUENCE, frame);
	for (unsigned int round = 0; round < ROUNDS; round++)
		for (unsigned int mode = 0; mode < _MODE_MAX; mode++)
			ns[mode][round] =
				run(bpf_program__fd(bench->skeleton[mode]->progs.fm_bench), REPEAT,
				    frame);
	floor = median(ns[MODE_REWRITE], ROUNDS);
	for (unsigned int mode = MODE_PARSE; mode < _MODE_MAX; mode++) {
		snprintf(text, sizeof(text), "packet, %s: %s", name, goes[mode]);
		result(text, median(ns[mode], ROUNDS) - floor, "ns over the floor");
	}
}

static void make_frame(uint8_t frame[FRAME])
{
	static const uint8_t tcp_in_ip4[] = {
		0,    0,    0,	 0,  0, 0, 0,	 0, 0,	0, 0, 0, 8,    0, /* Ethernet */
		0x45, 0,    0,	 50, 0, 0, 0x40, 0, 64, 6, 0, 0, 10,   0,
		0,    1,    192, 0,  2, 1, /* IPv4 */
		0x12, 0x34, 0,	 80, 0, 0, 0,	 1, 0,	0, 0, 1, 0x50, 0x10,
		1,    0,    0,	 0,  0, 0, /* TCP */
	};

	memset(frame, 0, FRAME);
	memcpy(frame, tcp_in_ip4, sizeof(tcp_in_ip4));
}

static void bench_floor(const uint8_t *frame)
{
	double empty[ROUNDS], rewrite[ROUNDS];
	struct bench bench = {};

	init(&bench, 1024);
	for (unsigned int round = 0; round < ROUNDS; round++) {
		empty[round] =
			run(bpf_program__fd(bench.skeleton[0]->progs.fm_empty), REPEAT, frame);
		rewrite[round] =
			run(bpf_program__fd(bench.skeleton[0]->progs.fm_bench), REPEAT, frame);
	}
	result("packet: empty program", median(empty, ROUNDS), "ns");
	result("packet: floor (packet rewritten)", median(rewrite, ROUNDS), "ns");
	done(&bench);
}

/* Lines one after the other, each named by the one before, in memory that no cache holds. */
static void bench_memory(void)
{
	uint32_t *next = malloc((size_t)LINES * LINE), at = 0;
	double ns[ROUNDS];

	if (!next)
		die("memory", ENOMEM);
	/* One cycle through all lines (Sattolo). */
	for (uint32_t i = 0; i < LINES; i++)
		next[(size_t)i * LINE_WORDS] = i;
	for (uint32_t i = LINES - 1; i > 0; i--) {
		uint32_t other = (uint32_t)((uint64_t)lrand48() % i);
		uint32_t was = next[(size_t)i * LINE_WORDS];

		next[(size_t)i * LINE_WORDS] = next[(size_t)other * LINE_WORDS];
		next[(size_t)other * LINE_WORDS] = was;
	}
	for (unsigned int round = 0; round < ROUNDS; round++) {
		uint64_t before = cpu_ns();

		for (unsigned int i = 0; i < REPEAT; i++)
			at = next[(size_t)at * LINE_WORDS];
		ns[round] = (double)(cpu_ns() - before) / REPEAT;
	}
	if (at == LINES) /* never: the walk is not left out */
		die("memory", EINVAL);
	result("floor of memory: a line that is in no cache", median(ns, ROUNDS), "ns");
	free(next);
}

/* Tables of their own for each: sequence numbers begin anew. */
static void bench_traffic(enum traffic traffic, uint32_t n, const uint32_t *flows,
			  const uint8_t *frame, const char *name)
{
	struct bench bench = {.traffic = traffic};

	init(&bench, FM_MAX(n, 65536u));
	set_sequence(&bench, flows);
	measure(&bench, frame, name);
	done(&bench);
}

static void bench_packet(void)
{
	static const struct {
		uint32_t flows;
		const char *uniform, *zipf;
	} cases[] = {
		{1000, "1k flows uniform", "1k flows Zipf"},
		{65536, "64k flows uniform", "64k flows Zipf"},
		{1000000, "1M flows uniform", "1M flows Zipf"},
	};
	uint32_t *flows = calloc(SEQUENCE, sizeof(*flows));
	uint8_t frame[FRAME];

	make_frame(frame);
	bench_floor(frame);
	bench_memory();
	for (size_t i = 0; i < FM_ARRAY_SIZE(cases); i++) {
		uniform(flows, cases[i].flows);
		bench_traffic(TRAFFIC_STREAM, cases[i].flows, flows, frame, cases[i].uniform);
		zipf(flows, cases[i].flows);
		bench_traffic(TRAFFIC_STREAM, cases[i].flows, flows, frame, cases[i].zipf);
	}
	uniform(flows, 1000);
	bench_traffic(TRAFFIC_TALK, 1000, flows, frame, "1k flows of requests and answers");
	free(flows);
}

/* --- rules --- */

enum rules {
	RULES_PORTS,
	RULES_SAMPLED_PORTS,
	RULES_NETS,
	RULES_FILE, /* as many prefixes in one rule */
};

/* Prefixes of none of the packets, none in another. */
static void write_prefixes(char path[], unsigned int n)
{
	int fd = mkstemp(path);
	FILE *file = fd < 0 ? NULL : fdopen(fd, "w");

	if (!file)
		die(path, errno);
	for (unsigned int i = 0; i < n; i++)
		fprintf(file, "172.%u.%u.%u/30\n", 16 + (i >> 14), i >> 6 & 255, i << 2 & 255);
	fclose(file);
}

static void add_rules(struct fm_filter_rules *rules, enum rules kind, unsigned int n)
{
	_fm_cleanup_buf_ struct fm_buf complaint = {};
	char text[160], path[] = "/tmp/flowmond-bench-XXXXXX";

	if (kind == RULES_FILE)
		write_prefixes(path, n);
	for (unsigned int i = 0; i < (kind == RULES_FILE ? 1 : n); i++) {
		if (kind == RULES_PORTS)
			snprintf(text, sizeof(text), "exclude udp port %u", i + 1);
		else if (kind == RULES_SAMPLED_PORTS)
			snprintf(text, sizeof(text), "sample 1 in 100 packets udp port %u", i + 1);
		else if (kind == RULES_NETS)
			snprintf(text, sizeof(text), "exclude src net 172.16.%u.0/24", i);
		else
			snprintf(text, sizeof(text), "exclude net file %s", path);
		if (fm_filter_rules_add(rules, text, &complaint) < 0)
			die(complaint.size ? complaint.data : text, EINVAL);
	}
	if (kind == RULES_FILE)
		unlink(path);
}

/* The programs that count obey rules, of which none holds for the packets. */
static void hold_rules(struct bench *bench, enum rules kind, unsigned int n)
{
	LIBBPF_OPTS(bpf_map_create_opts, trie, .map_flags = BPF_F_NO_PREALLOC);
	struct bench_bpf *skeleton = bench->skeleton[MODE_COUNT];
	_fm_cleanup_(fm_filter_rules_freep) struct fm_filter_rules *rules = NULL;
	_fm_cleanup_filter_ struct fm_filter_tables tables = {};
	int fd = new_region_map(1, sizeof(struct fm_filter));
	int nets = bpf_map_create(BPF_MAP_TYPE_LPM_TRIE, "fm_nets", sizeof(struct fm_filter_net),
				  sizeof(struct fm_filter_net_rows), FM_FILTER_NETS, &trie);
	uint32_t zero = 0;
	void *memory = map_memory(fd, sizeof(struct fm_filter));

	if (nets < 0 || fm_filter_rules_new(&rules) < 0)
		die("rules", errno);
	add_rules(rules, kind, n);
	if (fm_filter_compile(rules, FM_FILTER_INCLUDE, NULL, NULL, 0, &tables, NULL) < 0)
		die("rules", ENOMEM);
	memcpy(memory, tables.filter, sizeof(*tables.filter));
	munmap(memory, sizeof(struct fm_filter));
	for (size_t i = 0; i < tables.n_prefixes; i++)
		if (bpf_map_update_elem(nets, &tables.prefixes[i].net, &tables.prefixes[i].rows,
					BPF_ANY))
			die("trie", errno);
	skeleton->bss->fm_live.filter = 0;
	if (bpf_map_update_elem(bpf_map__fd(skeleton->maps.fm_filters), &zero, &fd, BPF_ANY) ||
	    bpf_map_update_elem(bpf_map__fd(skeleton->maps.fm_filter_nets), &zero, &nets, BPF_ANY))
		die("filter", errno);
	skeleton->bss->fm_live.filter = 1;
	close(fd);
	close(nets);
}

/* What rules cost a packet of a flow that is counted, in turns with none. */
static void measure_rules(struct bench *bench, const uint8_t *frame, const char *name)
{
	int fd = bpf_program__fd(bench->skeleton[MODE_COUNT]->progs.fm_bench);
	double with[ROUNDS], without[ROUNDS];
	char text[96];

	for (unsigned int round = 0; round < ROUNDS; round++) {
		bench->skeleton[MODE_COUNT]->bss->fm_live.filter = 0;
		without[round] = run(fd, REPEAT, frame);
		bench->skeleton[MODE_COUNT]->bss->fm_live.filter = 1;
		with[round] = run(fd, REPEAT, frame);
	}
	snprintf(text, sizeof(text), "rules, %s", name);
	result(text, median(with, ROUNDS) - median(without, ROUNDS), "ns more than counted");
}

static void bench_rules(void)
{
	static const struct {
		const char *name;
		enum rules kind;
		unsigned int n;
	} cases[] = {
		{"one of ports", RULES_PORTS, 1},   {"one that samples", RULES_SAMPLED_PORTS, 1},
		{"250 of ports", RULES_PORTS, 250}, {"one of a net", RULES_NETS, 1},
		{"250 of nets", RULES_NETS, 250},   {"one of 50,000 prefixes", RULES_FILE, 50000},
	};
	struct bench bench = {.traffic = TRAFFIC_STREAM};
	uint32_t *flows = calloc(SEQUENCE, sizeof(*flows));
	uint8_t frame[FRAME];

	make_frame(frame);
	init(&bench, 65536);
	uniform(flows, 1000);
	set_sequence(&bench, flows);
	run(bpf_program__fd(bench.skeleton[MODE_COUNT]->progs.fm_bench), SEQUENCE, frame);
	for (size_t i = 0; i < FM_ARRAY_SIZE(cases); i++) {
		hold_rules(&bench, cases[i].kind, cases[i].n);
		measure_rules(&bench, frame, cases[i].name);
	}
	free(flows);
	done(&bench);
}

/* --- coarse keys --- */

/* A trie of prefixes, none of them that of a packet. */
static int new_trie(unsigned int n)
{
	char path[] = "/tmp/flowmond-bench-XXXXXX";
	_fm_cleanup_(fm_prefix_map_freep) struct fm_prefix_map *map = NULL;
	_fm_cleanup_buf_ struct fm_buf complaint = {};
	int fd;

	write_prefixes(path, n);
	if (fm_prefix_map_load(path, &map, &complaint) < 0)
		die(complaint.size ? complaint.data : path, EINVAL);
	unlink(path);
	fd = fm_prefix_map_trie(map, COARSE_LENGTH);
	if (fd < 0)
		die("trie", fd);
	return fd;
}

/* What a coarser key costs a packet, in turns with whole ones. */
static void bench_coarse(void)
{
	static const struct {
		const char *name;
		uint8_t coarse;
		unsigned int n;
	} cases[] = {
		{"prefixes beside ports", FM_COARSE | FM_COARSE_LENGTHS, 0},
		{"without ports", FM_COARSE | FM_COARSE_PORTS, 0},
		{"50,000 prefixes of a file", FM_COARSE | FM_COARSE_PORTS, 50000},
	};
	uint32_t *flows = calloc(SEQUENCE, sizeof(*flows));
	uint8_t frame[FRAME];

	make_frame(frame);
	uniform(flows, 1000);
	for (size_t i = 0; i < FM_ARRAY_SIZE(cases); i++) {
		struct bench plain = {.traffic = TRAFFIC_STREAM};
		struct bench coarse = {.traffic = TRAFFIC_STREAM, .coarse = cases[i].coarse};
		double with[ROUNDS], without[ROUNDS];
		char text[96];

		if (cases[i].n)
			coarse.prefixes = new_trie(cases[i].n);
		init(&plain, 65536);
		init(&coarse, 65536);
		set_sequence(&plain, flows);
		set_sequence(&coarse, flows);
		for (unsigned int round = 0; round < ROUNDS; round++) {
			without[round] =
				run(bpf_program__fd(plain.skeleton[MODE_COUNT]->progs.fm_bench),
				    REPEAT, frame);
			with[round] =
				run(bpf_program__fd(coarse.skeleton[MODE_COUNT]->progs.fm_bench),
				    REPEAT, frame);
		}
		snprintf(text, sizeof(text), "keys, %s", cases[i].name);
		result(text, median(with, ROUNDS) - median(without, ROUNDS),
		       "ns more than counted");
		done(&plain);
		done(&coarse);
		if (coarse.prefixes)
			close(coarse.prefixes);
	}
	free(flows);
}

/* --- the sweep and the export --- */

struct sink {
	struct fm_export exporter;
	struct fm_timebase timebase;
	struct fm_session *session;
	struct fm_transport *transport; /* NULL: messages end here */
	uint64_t records, messages, lost;
};

static bool room(void *userdata)
{
	return true;
}

static void ignore(void *userdata, const struct fm_conversation *conversation,
		   enum fm_end_reason reason)
{
	(*(uint64_t *)userdata)++;
}

static void to_wire(void *userdata, const uint8_t *message, size_t size,
		    const struct fm_message_info *info)
{
	struct sink *sink = userdata;

	sink->messages++;
	if (sink->transport)
		sink->transport->ops->send(sink->transport, message, size, info,
					   fm_clock_monotonic_ns());
}

static void on_begun(void *userdata)
{
}

static void on_sent(void *userdata, const struct fm_message_info *info, size_t size)
{
}

static void on_lost(void *userdata, const struct fm_message_info *info, size_t size,
		    enum fm_not_sent cause)
{
	((struct sink *)userdata)->lost++;
}

static void on_state(void *userdata, int error)
{
}

static void export_conversation(void *userdata, const struct fm_conversation *conversation,
				enum fm_end_reason reason)
{
	struct sink *sink = userdata;
	struct fm_record records[2];
	size_t n = fm_export_records(&sink->exporter, conversation, reason, records);

	for (size_t i = 0; i < n; i++) {
		sink->records++;
		if (fm_session_record(sink->session, &records[i], FM_NS_PER_S) < 0)
			die("record", EINVAL);
	}
}

static void to_the_end(struct fm_sweep *sweep)
{
	enum fm_sweep_state state;

	do {
		state = fm_sweep_step(sweep);
		if (state == FM_SWEEP_FENCE)
			fm_sweep_fenced(sweep); /* no program runs meanwhile: nothing to wait for */
	} while (state != FM_SWEEP_IDLE);
}

static void fill(struct bench *bench, uint32_t n)
{
	uint32_t *flows = calloc(SEQUENCE, sizeof(*flows));
	uint8_t frame[FRAME];

	make_frame(frame);
	for (uint32_t i = 0; i < SEQUENCE; i++)
		flows[i] = i % n;
	set_sequence(bench, flows);
	run(bpf_program__fd(bench->skeleton[MODE_COUNT]->progs.fm_bench), SEQUENCE, frame);
	free(flows);
}

/* Of the live slots, one in a hundred will be due at each of the ticks after now. */
static void spread(struct bench *bench, uint32_t now, uint32_t idle)
{
	struct fm_region *region = &bench->regions[sched_getcpu()];

	for (uint32_t i = 0; i < bench->generation.n_slots; i++) {
		struct fm_slot *slot = &region->slots[i];

		if (slot->tag < FM_TAG_LIVE)
			continue;
		slot->due_tick = now + 1 + (uint32_t)random() % 100;
		slot->half[0].last_tick = slot->half[1].last_tick = slot->due_tick - idle;
	}
}

/* When the last flow came. */
static uint32_t last_tick(const struct bench *bench)
{
	const struct fm_region *region = &bench->regions[sched_getcpu()];
	uint32_t last = 0;

	for (uint32_t i = 0; i < bench->generation.n_slots; i++)
		if (region->slots[i].tag >= FM_TAG_LIVE)
			last = FM_MAX(last, region->slots[i].mark_tick);
	return last;
}

static void bench_sweep(void)
{
	struct fm_sweep_ops ops = {.room = room, .conversation = ignore};
	struct fm_sweep_timeouts timeouts = {.idle = 500, .active = 1 << 28, .linger = 10};
	struct bench bench = {};
	struct fm_sweep *sweep;
	uint64_t found = 0, before;
	uint32_t now;
	double ms[ROUNDS];

	init(&bench, 1000000);
	fill(&bench, 1000000);
	if (fm_sweep_new(&sweep, &ops, &found) < 0)
		die("sweep", ENOMEM);
	now = last_tick(&bench) + timeouts.idle;
	spread(&bench, now, timeouts.idle);
	fm_sweep_begin(sweep, &bench.generation, &timeouts, now, false);
	to_the_end(sweep);
	for (unsigned int round = 0; round < ROUNDS; round++) {
		before = cpu_ns();
		fm_sweep_begin(sweep, &bench.generation, &timeouts, now, false);
		to_the_end(sweep);
		ms[round] = (double)(cpu_ns() - before) / 1e6;
	}
	result("sweep, 1M live flows, nothing due", median(ms, ROUNDS), "ms CPU");
	for (unsigned int round = 0; round < ROUNDS; round++) {
		found = 0;
		before = cpu_ns();
		fm_sweep_begin(sweep, &bench.generation, &timeouts, ++now, false);
		to_the_end(sweep);
		ms[round] = (double)(cpu_ns() - before) / 1e6;
		if (found < 8000 || found > 11000)
			die("sweep found another number of due conversations", ERANGE);
	}
	result("sweep, 1M live flows, 1 % due", median(ms, ROUNDS), "ms CPU");
	fm_sweep_free(sweep);
	done(&bench);
}

/* A socket that nobody reads, and the daemon's own transport to it. */
static int open_wire(struct sink *sink)
{
	struct sockaddr_in address = {.sin_family = AF_INET,
				      .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
	struct fm_transport_options options = {.address_size = sizeof(address),
					       .queue_octets = 1 << 20,
					       .begun = on_begun,
					       .sent = on_sent,
					       .lost = on_lost,
					       .state = on_state,
					       .userdata = sink};
	socklen_t size = sizeof(address);
	int receiver = socket(AF_INET, SOCK_DGRAM, 0);

	if (receiver < 0 || bind(receiver, (void *)&address, sizeof(address)) ||
	    getsockname(receiver, (void *)&address, &size))
		die("loopback", errno);
	memcpy(&options.address, &address, sizeof(address));
	if (fm_transport_new(&sink->transport, &fm_transport_udp, &options) < 0)
		die("transport", ENOMEM);
	sink->transport->ops->start(sink->transport, fm_clock_monotonic_ns());
	return receiver;
}

static void bench_export(enum fm_session_protocol protocol, bool wire, const char *name)
{
	struct fm_sweep_ops ops = {.room = room, .conversation = export_conversation};
	const struct fm_session_options options = {.protocol = protocol,
						   .profile = FM_P_STANDARD,
						   .domain = 1,
						   .enterprise_number = 32473,
						   .message_size = 1400};
	struct sink sink = {};
	struct bench bench = {};
	struct fm_sweep *sweep;
	int receiver = -1;
	uint64_t before;

	sink.timebase.tick_ns = 4 * FM_NS_PER_MS;
	sink.exporter.timebase = &sink.timebase;
	if (wire)
		receiver = open_wire(&sink);
	if (fm_session_new(&sink.session, &options, to_wire, &sink) < 0)
		die("session", ENOMEM);
	init(&bench, 1000000);
	fill(&bench, 1000000);
	if (fm_sweep_new(&sweep, &ops, &sink) < 0)
		die("sweep", ENOMEM);
	fm_sweep_begin_drain(sweep, &bench.generation, 0, FM_END_REASON_FORCED);
	before = cpu_ns();
	to_the_end(sweep);
	fm_session_flush(sink.session, FM_NS_PER_S);
	if (wire)
		sink.transport->ops->flush(sink.transport, fm_clock_monotonic_ns());
	result(name, (double)sink.records * 1e3 / (double)(cpu_ns() - before), "M records/s");
	fm_sweep_free(sweep);
	fm_session_free(sink.session);
	done(&bench);
	if (sink.lost)
		die("messages given up", ENOBUFS);
	fm_transport_free(sink.transport);
	if (wire)
		close(receiver);
}

int main(void)
{
	cpu_set_t one;

	CPU_ZERO(&one);
	CPU_SET(sched_getcpu(), &one);
	sched_setaffinity(0, sizeof(one), &one);
	srandom(1);
	bench_packet();
	bench_rules();
	bench_coarse();
	bench_sweep();
	bench_export(FM_SESSION_IPFIX, false, "export, table to IPFIX message");
	bench_export(FM_SESSION_V9, false, "export, table to v9 message");
	bench_export(FM_SESSION_IPFIX, true, "export, table to loopback, IPFIX");
	bench_export(FM_SESSION_V9, true, "export, table to loopback, v9");
	result("memory, a slot and its account",
	       (double)(sizeof(struct fm_slot) + sizeof(struct fm_exported)), "octets");
	result("memory, a configured conversation (two slots)",
	       2.0 * (sizeof(struct fm_slot) + sizeof(struct fm_exported)), "octets");
	result("memory, a configured conversation with TCP measured",
	       2.0 * (sizeof(struct fm_slot) + sizeof(struct fm_exported) +
		      sizeof(struct fm_tcp_slot)) +
		       1.25 * FM_CELL_OCTETS,
	       "octets");
	return 0;
}
