/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Carries out what flows.py writes: packets before the hooks of chosen CPUs, a clock that it sets,
 * sweeps, the overflow ring. What the exporter hands to its sinks goes out as JSON, a line a
 * record.
 *
 * The programs read the kernel's clock. Behind each packet what they stored of it is checked and
 * replaced by the script's time, so that a script says exactly what is due when: durations that the
 * programs added (due_tick) are kept.
 *
 * Arguments: max_flows and the options of struct fm_kernel_options, each a number. A script is
 * lines of a letter and numbers; struct command has them.
 */
#include <errno.h>
#include <inttypes.h>
#include <sched.h>
#include <string.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/macro.h"
#include "bpf/hash.h"
#include "daemon/export.h"
#include "daemon/overflow.h"
#include "daemon/sweep.h"
#include "daemon/timebase.h"
#include "harness.h"
#include "test.h"

#define DEVICES	       3
#define ARGUMENTS      7
#define NUMBERS_MAX    10
#define PACKET_NUMBERS 9

struct packets_of_slot {
	uint64_t packets[2];
};

static struct harness h;
static struct fm_sweep *sweep;
static struct fm_ledger *ledger;
static struct fm_overflow_reader *overflow;
static struct fm_sweep_timeouts timeouts;
static struct fm_timebase script_time, real_time, time_now;
static uint64_t now_ns;			    /* of the script */
static struct packets_of_slot *known[1024]; /* by CPU: what the slots held at the last look */
static uint64_t room_every, room_asked;
static unsigned long line_number;

__attribute__((noreturn, format(printf, 1, 2))) static void give_up(const char *format, ...)
{
	va_list args;

	va_start(args, format);
	printf("{\"error\":\"line %lu: ", line_number);
	vprintf(format, args);
	printf("\"}\n");
	fflush(stdout);
	va_end(args);
	exit(EXIT_FAILURE);
}

static uint32_t now_tick(void)
{
	return now_ns / script_time.tick_ns;
}

/* --- what comes out --- */

static void print_octets(const uint8_t *octets, size_t n)
{
	putchar('"');
	for (size_t i = 0; i < n; i++)
		printf("%02x", octets[i]);
	putchar('"');
}

#define PRINT_U(member)	    printf("%" PRIu64, (uint64_t)record->member)
#define PRINT_OPT(member)   PRINT_U(member)
#define PRINT_LABEL(member) PRINT_U(member)
#define PRINT_APP(member)   PRINT_U(member)
#define PRINT_MSEC(member)  PRINT_U(member)
#define PRINT_NTP(member)   PRINT_U(member)
#define PRINT_IP4(member)   print_octets(record->member, 4)
#define PRINT_IP6(member)   print_octets(record->member, 16)

static void print_record(const char *what, const struct fm_record *record)
{
	const struct fm_shape shape = fm_record_shape(record);

	printf("{\"%s\":%lu", what, line_number);
#define FM_FIELD(name, type, dim, kind, ie_name, pen, ie, v9, wire, families, ...)                 \
	if (fm_shape_has(&shape, families)) {                                                      \
		printf(",\"" #name "\":");                                                         \
		PRINT_##kind(name);                                                                \
	}
#include "ipfix/fields.def"
#undef FM_FIELD
	printf("}\n");
}

static size_t sink_room(struct fm_sink *sink)
{
	return SIZE_MAX;
}

static void sink_record(struct fm_sink *sink, const struct fm_record *record)
{
	print_record("record", record);
}

static void sink_flush(struct fm_sink *sink)
{
}

static const struct fm_sink_ops sink_ops = {
	.kind = "model",
	.room = sink_room,
	.record = sink_record,
	.flush = sink_flush,
};
static struct fm_sink sink = {.ops = &sink_ops};
static struct fm_sink *sinks[] = {&sink};
static struct fm_route_member member = {.sink = &sink};
static struct fm_route route = {.members = &member, .n = 1};
static struct fm_export exporter = {
	.sinks = sinks,
	.n_sinks = 1,
	.routes = {.routes = &route, .n = 1},
	.timebase = &time_now,
};

/* --- the sweep --- */

static bool room(void *userdata)
{
	return !room_every || ++room_asked % room_every;
}

static void conversation(void *userdata, const struct fm_conversation *found,
			 enum fm_end_reason reason)
{
	const struct fm_export both = {.timebase = &time_now, .biflow = true};
	struct fm_record records[2];

	fm_export_conversation(&exporter, found, reason);
	if (FM_KEY_AGGREGATE_OF(&found->key))
		return;
	if (fm_export_records(&both, found, reason, records) == 1)
		print_record("biflow", &records[0]);
}

static void prepare(void *userdata, uint64_t serial)
{
	fm_export_prepare(&exporter, serial);
}

static void publish(void *userdata)
{
	fm_export_flush(&exporter);
}

static void apply(void *userdata, const struct fm_ledger_entry *entry)
{
	if (entry->op == FM_LEDGER_CONSUMED)
		fm_overflow_consumed(overflow, entry->value);
	else
		fm_sweep_apply(h.generation, entry);
}

/* The time of the script, or the kernel's for what was not replaced. */
static void tell_time(bool real)
{
	time_now = real ? real_time : script_time;
	if (!real)
		time_now.now_tick = now_ns / script_time.tick_ns;
}

/* Nothing else runs programs: a grace period is over at once. */
static void run_sweep(bool through)
{
	enum fm_sweep_state state = fm_sweep_current(sweep);

	tell_time(false);
	while (state != FM_SWEEP_IDLE) {
		if (state == FM_SWEEP_FENCE) {
			if (!through)
				return;
			fm_sweep_fenced(sweep);
		}
		state = fm_sweep_step(sweep);
	}
}

/* --- packets --- */

static void move_to(unsigned int cpu)
{
	static int at = -1;
	cpu_set_t set;

	if ((int)cpu == at)
		return;
	CPU_ZERO(&set);
	CPU_SET(cpu, &set);
	if (sched_setaffinity(0, sizeof(set), &set) < 0)
		give_up("no CPU %u", cpu);
	at = (int)cpu;
}

static bool between(uint32_t tick, const struct fm_clock *before, const struct fm_clock *after)
{
	return tick - (uint32_t)before->tick <= (uint32_t)(after->tick - before->tick);
}

/* A slot that took packets between two moments gets the script's time in their place. */
static void set_time(struct fm_slot *slot, uint8_t *mark, struct packets_of_slot *packets,
		     const struct fm_clock *before, const struct fm_clock *after)
{
	bool created = !packets->packets[0] && !packets->packets[1];

	for (unsigned int d = 0; d < 2; d++) {
		struct fm_half *half = &slot->half[d];

		if (half->packets == packets->packets[d])
			continue;
		if (!between(half->last_tick, before, after))
			give_up("last_tick is not the packet's");
		slot->due_tick += now_tick() - half->last_tick;
		half->last_tick = now_tick();
		if (!packets->packets[d]) {
			if (half->first_ns < before->monotonic_ns ||
			    half->first_ns > after->monotonic_ns)
				give_up("first_ns is not the packet's");
			half->first_ns = now_ns;
		}
		packets->packets[d] = half->packets;
	}
	/* Programs tell the sweep of what is due sooner; by their own time. */
	*mark = 1;
	if (!created)
		return;
	if (!between(slot->mark_tick, before, after))
		give_up("mark_tick is not the packet's");
	slot->mark_tick = now_tick();
}

/* Looks at all slots of a region; moments NULL: nothing was sent. */
static void look(unsigned int cpu, const struct fm_clock *before, const struct fm_clock *after)
{
	const struct fm_region *region = &h.generation->regions[cpu];
	struct fm_slot *slots = region->slots;
	uint32_t n = h.generation->n_slots;

	for (uint32_t i = 0; i < n; i++) {
		struct packets_of_slot *packets = &known[cpu][i];
		uint8_t *mark = fm_region_mark(slots, n, i >> FM_BLOCK_SHIFT);
		bool same;

		if (i % FM_BLOCK_SLOTS == 0 && !*mark && !region->looks[i >> FM_BLOCK_SHIFT].live) {
			memset(packets, 0, FM_MIN(FM_BLOCK_SLOTS, n - i) * sizeof(*packets));
			i += FM_BLOCK_SLOTS - 1;
			continue;
		}
		if (slots[i].tag < FM_TAG_LIVE) {
			*packets = (struct packets_of_slot){};
			continue;
		}
		same = slots[i].half[0].packets == packets->packets[0] &&
		       slots[i].half[1].packets == packets->packets[1];
		if (!same && before)
			set_time(&slots[i], mark, packets, before, after);
		else if (!same)
			give_up("a slot changed without a packet");
	}
}

static struct fm_count counted(const struct fm_counters *now, const struct fm_counters *before,
			       enum fm_counter which)
{
	return (struct fm_count){now->count[which].packets - before->count[which].packets,
				 now->count[which].octets - before->count[which].octets};
}

/* Where the packets went that found no slot, and when. */
static void tell_placeless(const struct fm_counters *before, const struct fm_clock *from,
			   const struct fm_clock *to)
{
	struct fm_counters now;
	struct fm_count ring, coarse;

	fm_kernel_counters(h.kernel, &now);
	ring = counted(&now, before, FM_COUNTER_overflow);
	coarse = counted(&now, before, FM_COUNTER_coarse);
	if (!ring.packets && !coarse.packets)
		return;
	printf("{\"placeless\":%lu,\"ring\":%llu,\"coarse\":%llu,\"from\":%" PRIu64
	       ",\"to\":%" PRIu64 ",\"from_tick\":%" PRIu64 ",\"to_tick\":%" PRIu64 "}\n",
	       line_number, ring.packets, coarse.packets,
	       fm_timebase_of_monotonic(&real_time, from->monotonic_ns),
	       fm_timebase_of_monotonic(&real_time, to->monotonic_ns),
	       fm_timebase_of_tick(&real_time, (uint32_t)from->tick),
	       fm_timebase_of_tick(&real_time, (uint32_t)to->tick));
}

static size_t read_octets(const char *text, uint8_t *ret, size_t size)
{
	size_t n = 0;
	unsigned int octet;

	while (*text == ' ')
		text++;
	for (; n < size && sscanf(text, "%2x", &octet) == 1; text += 2)
		ret[n++] = octet;
	return n;
}

/* P cpu hook ifindex ingress gso_size gso_segs tag times padding octets */
static void do_packet(const uint64_t *numbers, const char *text)
{
	static uint8_t data[PACKET_ROOM];
	struct harness_run run = {.hook = numbers[1],
				  .ifindex = numbers[2],
				  .ingress_ifindex = numbers[3],
				  .gso_size = numbers[4],
				  .gso_segs = numbers[5],
				  .vlan_tag = numbers[6],
				  .repeat = numbers[7]};
	size_t length = read_octets(text, data, sizeof(data) - numbers[8]);
	bool small = h.generation->homes == 1;
	struct fm_counters counters;
	struct fm_clock before, after;
	int r;

	memset(data + length, 0, numbers[8]);
	move_to(numbers[0]);
	if (small)
		fm_kernel_counters(h.kernel, &counters);
	fm_kernel_clock(h.kernel, &before);
	r = harness_run(&h, data, length + numbers[8], &run);
	fm_kernel_clock(h.kernel, &after);
	if (r < 0)
		give_up("the packet cannot be sent: %d", r);
	look(numbers[0], &before, &after);
	if (small)
		tell_placeless(&counters, &before, &after);
}

/* --- the other lines --- */

static void set_timeouts(const uint64_t *numbers)
{
	timeouts = (struct fm_sweep_timeouts){
		.idle = numbers[0],
		.active = numbers[1],
		.linger = numbers[2],
		.brief = numbers[3],
	};
	fm_kernel_set_live(h.kernel, timeouts.idle, timeouts.linger);
	fm_kernel_set_brief(h.kernel, timeouts.brief);
}

/* B idle active linger brief time: everything is empty, everything counted anew */
static void do_begin(const uint64_t *numbers, const char *text)
{
	const struct fm_generation *g = h.generation;

	tell_time(true);
	fm_overflow_read(overflow);
	now_ns = numbers[4];
	set_timeouts(numbers);
	for (unsigned int cpu = 0; cpu < g->n_cpus; cpu++) {
		struct fm_region *region = &g->regions[cpu];

		if (!region->slots)
			continue;
		memset(region->slots, 0, fm_region_elements(g->n_slots) * sizeof(*region->slots));
		memset(region->exported, 0, g->n_slots * sizeof(*region->exported));
		memset(known[cpu], 0, g->n_slots * sizeof(*known[cpu]));
	}
	harness_forget_fragments(&h);
	fm_kernel_counters(h.kernel, &h.before);
	/* Nothing that a sweep knows of another table. */
	fm_sweep_free(sweep);
	sweep = NULL;
	if (fm_sweep_new(&sweep,
			 &(struct fm_sweep_ops){
				 .ledger = ledger, .room = room, .conversation = conversation},
			 NULL) < 0)
		give_up("no memory");
}

/* C nanoseconds: so much later */
static void do_clock(const uint64_t *numbers, const char *text)
{
	now_ns += numbers[0];
}

/* T idle active linger brief */
static void do_timeouts(const uint64_t *numbers, const char *text)
{
	set_timeouts(numbers);
}

/* S room_every recheck: a sweep up to the grace period for what it closes */
static void do_sweep(const uint64_t *numbers, const char *text)
{
	room_every = numbers[0];
	fm_sweep_begin(sweep, h.generation, &timeouts, now_tick(), numbers[1]);
	/* Tombstones of the sweep before want one first. */
	if (fm_sweep_current(sweep) == FM_SWEEP_FENCE)
		fm_sweep_fenced(sweep);
	run_sweep(false);
}

static void look_everywhere(void)
{
	for (unsigned int cpu = 0; cpu < h.generation->n_cpus; cpu++)
		if (h.generation->regions[cpu].slots)
			look(cpu, NULL, NULL);
}

/* F: its end */
static void do_finish(const uint64_t *numbers, const char *text)
{
	run_sweep(true);
	look_everywhere();
}

/* R: the overflow ring is read */
static void do_ring(const uint64_t *numbers, const char *text)
{
	fm_timebase_sync(&real_time, h.kernel);
	tell_time(true);
	fm_overflow_read(overflow);
}

/* D room_every: the tables are emptied */
static void do_drain(const uint64_t *numbers, const char *text)
{
	room_every = numbers[0];
	fm_sweep_begin_drain(sweep, h.generation, now_tick(), FM_END_REASON_FORCED);
	run_sweep(true);
	look_everywhere();
}

static unsigned int live_slots(void)
{
	const struct fm_generation *g = h.generation;
	unsigned int n = 0;

	for (unsigned int cpu = 0; cpu < g->n_cpus; cpu++)
		for (uint32_t i = 0; g->regions[cpu].slots && i < g->n_slots; i++)
			n += g->regions[cpu].slots[i].tag >= FM_TAG_CLOSING;
	return n;
}

/* E: counters */
static void do_end(const uint64_t *numbers, const char *text)
{
	struct fm_counters now;

	fm_kernel_counters(h.kernel, &now);
	printf("{\"end\":%lu,\"live\":%u", line_number, live_slots());
#define FM_COUNTER(name, class, help)                                                              \
	printf(",\"" #name "\":[%llu,%llu]", counted(&now, &h.before, FM_COUNTER_##name).packets,  \
	       counted(&now, &h.before, FM_COUNTER_##name).octets);
#include "bpf/counters.def"
#undef FM_COUNTER
	printf("}\n");
	fflush(stdout);
	line_number = 0;
}

static const struct command {
	char letter;
	unsigned int n_numbers;
	void (*run)(const uint64_t *numbers, const char *text);
} commands[] = {
	{'B', 5, do_begin}, {'P', PACKET_NUMBERS, do_packet},
	{'C', 1, do_clock}, {'T', 4, do_timeouts},
	{'S', 2, do_sweep}, {'F', 0, do_finish},
	{'R', 0, do_ring},  {'D', 1, do_drain},
	{'E', 0, do_end},
};

static void run_line(const char *line)
{
	uint64_t numbers[NUMBERS_MAX] = {};
	const struct command *command = NULL;
	char *at = (char *)line + 1;

	for (size_t i = 0; i < FM_ARRAY_SIZE(commands); i++)
		if (commands[i].letter == line[0])
			command = &commands[i];
	if (!command)
		give_up("no such command");
	for (unsigned int i = 0; i < command->n_numbers; i++)
		numbers[i] = strtoull(at, &at, 10);
	command->run(numbers, at);
}

static int open_all(char **argv)
{
	static const struct fm_ledger_ops ledger_ops = {
		.prepare = prepare, .publish = publish, .apply = apply};
	const struct fm_kernel_options options = {
		.max_flows = strtoull(argv[1], NULL, 10),
		.key_vlan = atoi(argv[2]),
		.key_interface = atoi(argv[3]),
		.key_tos = atoi(argv[4]),
		.observe_every = atoi(argv[5]),
		.tcp = atoi(argv[6]),
		.tunnel = atoi(argv[7]),
	};
	int r = harness_devices(DEVICES);

	if (r == 0)
		r = harness_init(&h, &options);
	if (r == 0)
		r = fm_timebase_init(&real_time, h.kernel);
	if (r == 0)
		r = fm_ledger_new(&ledger, NULL, h.generation->n_cpus);
	if (r == 0)
		r = fm_overflow_new(&overflow, h.kernel, &exporter, ledger);
	if (r < 0)
		return r;
	fm_ledger_set_ops(ledger, &ledger_ops, NULL);
	script_time.tick_ns = real_time.tick_ns;
	for (unsigned int cpu = 0; cpu < FM_MIN(h.generation->n_cpus, 1024u); cpu++) {
		if (!h.generation->regions[cpu].slots)
			continue;
		known[cpu] = calloc(h.generation->n_slots, sizeof(*known[cpu]));
		if (!known[cpu])
			return -ENOMEM;
	}
	/* What comes in by the last device is not counted there. */
	for (uint32_t i = 2; i < DEVICES + 1 && r == 0; i++)
		r = fm_kernel_set_seen(h.kernel, i, true);
	return r;
}

/* The CPUs that there are tables for and this process may run on. */
static void tell_ready(const cpu_set_t *allowed)
{
	const char *separator = "";

	printf("{\"ready\":1,\"tick_ns\":%" PRIu64 ",\"homes\":%u,\"cpus\":[", real_time.tick_ns,
	       h.generation->homes);
	for (unsigned int cpu = 0; cpu < FM_MIN(h.generation->n_cpus, 1024u); cpu++) {
		if (!h.generation->regions[cpu].slots || !CPU_ISSET(cpu, allowed))
			continue;
		printf("%s%u", separator, cpu);
		separator = ",";
	}
	printf("]}\n");
	fflush(stdout);
}

int main(int argc, char **argv)
{
	cpu_set_t allowed;
	char *line = NULL;
	size_t size = 0;
	int r;

	if (argc != ARGUMENTS + 1 || sched_getaffinity(0, sizeof(allowed), &allowed) < 0)
		return EXIT_FAILURE;
	r = open_all(argv);
	if (r < 0)
		give_up("cannot load: %d", r);
	tell_ready(&allowed);
	while (getline(&line, &size, stdin) > 0) {
		line_number++;
		run_line(line);
	}
	free(line);
	fm_sweep_free(sweep);
	fm_overflow_free(overflow);
	fm_ledger_free(ledger);
	for (size_t i = 0; i < FM_ARRAY_SIZE(known); i++)
		free(known[i]);
	harness_done(&h);
	return EXIT_SUCCESS;
}
