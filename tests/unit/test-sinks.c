/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Sinks in an event loop: what they write is what they were given, or it is counted; none of them
 * holds up the others.
 */
#include <arpa/inet.h>
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <netdb.h>
#include <netinet/in.h>
#include <poll.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/log.h"
#include "base/macro.h"
#include "daemon/sink.h"
#include "reader.h"
#include "records.h"
#include "test.h"

/* FLOWMOND_TEST_PATIENCE times as long where everything takes longer. */
#define TIMEOUT_NS (10 * FM_NS_PER_S * patience())

struct rig {
	struct fm_config *config;
	struct fm_sink_env env;
	struct fm_sink *sink;
	struct sums given;
	uint64_t turns; /* of the loop, that a full sink cost */
};

static const char *third_name = "docker0";

static void for_each_interface(void *userdata,
			       void (*fn)(const struct fm_interface_name *name, void *arg),
			       void *arg)
{
	const struct fm_interface_name names[] = {
		{.ifindex = 1, .name = "lo"},
		{.ifindex = 2, .name = "eth0", .description = "uplink"},
		{.ifindex = 3, .name = third_name, .description = ""},
	};

	for (size_t i = 0; i < FM_ARRAY_SIZE(names); i++)
		fn(&names[i], arg);
}

static void exporter_stats(void *userdata, struct fm_exporter_stats *ret)
{
	*ret = (struct fm_exporter_stats){.observed_flows = 17, .start_ns = 5 * FM_NS_PER_S};
}

/* Opens the first sink of ops under the settings of a file with this text. */
static int rig_init(struct rig *rig, const struct fm_sink_ops *ops, const char *text)
{
	FILE *file = fmemopen((void *)text, strlen(text), "r");
	struct fm_buf errors = {};
	int r;

	*rig = (struct rig){};
	if (!file || fm_config_parse(file, "test", &rig->config, &errors) < 0) {
		fprintf(stderr, "%s\n", errors.data ? errors.data : "no memory");
		abort();
	}
	fclose(file);
	fm_buf_done(&errors);
	rig->env = (struct fm_sink_env){
		.config = rig->config,
		.for_each_interface = for_each_interface,
		.exporter_stats = exporter_stats,
	};
	if (sd_event_new(&rig->env.event) < 0)
		abort();
	r = ops->open(&rig->sink, &rig->env, 0);
	if (r == 0 && ops->start)
		ops->start(rig->sink);
	return r;
}

static struct fm_sink_stats rig_done(struct rig *rig, uint64_t wait_ns)
{
	struct fm_sink_stats stats;

	rig->sink->ops->close(rig->sink, fm_clock_monotonic_ns() + wait_ns, &stats);
	rig->env.event = sd_event_unref(rig->env.event);
	rig->config = fm_config_free(rig->config);
	return stats;
}

static uint64_t patience(void)
{
	const char *text = getenv("FLOWMOND_TEST_PATIENCE");

	return text ? strtoull(text, NULL, 10) : 1;
}

static void turn(struct rig *rig, uint64_t usec)
{
	if (sd_event_run(rig->env.event, usec) < 0)
		abort();
}

#define TURN_UNTIL(rig, condition)                                                                 \
	({                                                                                         \
		uint64_t end_ = fm_clock_monotonic_ns() + TIMEOUT_NS;                              \
		while (!(condition) && fm_clock_monotonic_ns() < end_)                             \
			turn(rig, 1000);                                                           \
		(condition);                                                                       \
	})

static void give_one(struct rig *rig, bool biflow, FILE *expected, const struct fm_layout *layouts)
{
	struct fm_record record;

	records_make(&record, 3, rig->given.records, biflow, fm_clock_realtime_ns());
	rig->given.records++;
	rig->given.packets += record.packets + record.rev_packets;
	rig->given.octets += record.octets + record.rev_octets;
	if (expected)
		records_print(expected, &record, &layouts[fm_layout_index(&record)]);
	rig->sink->ops->record(rig->sink, &record);
}

static bool is_up(const struct rig *rig, uint64_t *ret_since)
{
	return rig->sink->ops->up(rig->sink, ret_since);
}

/* As the sweep does: no more than there is room, then the loop goes on. */
static void give(struct rig *rig, unsigned int n)
{
	for (unsigned int i = 0; i < n; i++) {
		for (; rig->sink->ops->room(rig->sink) < 2; rig->turns++) {
			rig->sink->ops->flush(rig->sink);
			turn(rig, 1000);
		}
		give_one(rig, false, NULL, NULL);
	}
	rig->sink->ops->flush(rig->sink);
}

static bool adds_up(const struct rig *rig, const struct fm_sink_stats *stats)
{
	const struct sums sum = {
		stats->records + stats->not_sent_records,
		stats->packets + stats->not_sent_packets,
		stats->octets + stats->not_sent_octets,
	};

	struct fm_not_sent_sum causes = {};

	for (unsigned int i = 0; i < _FM_NOT_SENT_MAX; i++) {
		causes.records += stats->not_sent[i].records;
		causes.packets += stats->not_sent[i].packets;
		causes.octets += stats->not_sent[i].octets;
	}
	return same(&sum, &rig->given) && causes.records == stats->not_sent_records &&
	       causes.packets == stats->not_sent_packets && causes.octets == stats->not_sent_octets;
}

/* All that was not sent is so by one cause. */
static bool is_cause(const struct fm_sink_stats *stats, enum fm_not_sent cause)
{
	return stats->not_sent_records && stats->not_sent[cause].records == stats->not_sent_records;
}

static char *read_file(const char *path, size_t *ret_size)
{
	FILE *file = fopen(path, "r");
	char *text = calloc(1, 1 << 20);

	if (!file || !text)
		abort();
	*ret_size = fread(text, 1, (1 << 20) - 1, file);
	fclose(file);
	return text;
}

static void test_json(const char *dir, bool biflow)
{
	const struct fm_session_options options = {
		.profile = FM_P_FULL, .biflow = biflow, .enterprise_number = 32473};
	static struct fm_layout layouts[FM_LAYOUTS_RECORDS];
	_fm_cleanup_free_ char *expected = NULL, *seen = NULL;
	size_t expected_size, seen_size;
	FILE *file = open_memstream(&expected, &expected_size);
	char text[512], path[256];
	struct fm_sink_stats stats;
	struct rig rig;

	for (unsigned int i = 0; i < FM_LAYOUTS_RECORDS; i++)
		fm_layout_records(&layouts[i], &options, i);
	snprintf(path, sizeof(path), "%s/json", dir);
	snprintf(text, sizeof(text), "[json]\nfile = %s\n", path);
	rig_init(&rig, &fm_sink_json, text);
	for (unsigned int i = 0; i < 500; i++)
		give_one(&rig, biflow, file, layouts);
	rig.sink->ops->flush(rig.sink);
	stats = rig_done(&rig, 0);
	fclose(file);
	seen = read_file(path, &seen_size);
	FM_TEST(seen_size == expected_size && !memcmp(seen, expected, seen_size),
		"json: every field of every record (%s)", biflow ? "biflows" : "uniflows");
	FM_TEST(adds_up(&rig, &stats) && stats.records == 500, "json: counted as written");
	unlink(path);
}

static void test_json_full(void)
{
	struct fm_sink_stats stats;
	struct rig rig;

	rig_init(&rig, &fm_sink_json, "[json]\nfile = /dev/full\n");
	give(&rig, 1000);
	stats = rig_done(&rig, 0);
	FM_TEST(stats.not_sent_records == 1000 && adds_up(&rig, &stats) &&
			is_cause(&stats, FM_NOT_SENT_not_written),
		"json: no space: counted as not written");
}

/* Standard output is a pipe that nobody reads. */
static void test_json_stalled(void)
{
	struct fm_sink_stats stats;
	struct rig rig;
	int pipe_fds[2], saved;
	uint64_t begin;

	fflush(stdout);
	saved = dup(STDOUT_FILENO);
	if (saved < 0 || pipe(pipe_fds) < 0)
		abort();
	dup2(pipe_fds[1], STDOUT_FILENO);
	rig_init(&rig, &fm_sink_json, "[json]\nfile = -\n");
	dup2(saved, STDOUT_FILENO);
	begin = fm_clock_monotonic_ns();
	give(&rig, 20000);
	FM_TEST(fm_clock_monotonic_ns() - begin < TIMEOUT_NS && rig.turns > 0,
		"json: a pipe that nobody reads is waited for a little, then no more");
	stats = rig_done(&rig, 50 * FM_NS_PER_MS);
	FM_TEST(stats.records > 0 && stats.not_sent_records > 0 && adds_up(&rig, &stats),
		"json: what the pipe did not take is counted");
	close(saved);
	close(pipe_fds[0]);
	close(pipe_fds[1]);
}

static void test_text(const char *dir)
{
	static const char header[] =
		"start          duration proto   source                 destination              "
		"packets       octets flags      rtt/ms  again in>out end\n";
#define TEXT_LINE                                                                                  \
	"06:07:08.009     1.500 tcp     10.1.2.3:443           192.0.2.255:65535             12"   \
	"         3456 SPA      "
	static const char line[] = TEXT_LINE "       -      - eth0>host idle\n";
	static const char measured[] = TEXT_LINE "  12.345      3 eth0>host idle\n";
	static const char no_sample[] = TEXT_LINE "       -      0 eth0>host idle\n";
	struct fm_record record = {
		.start_ns =
			6 * FM_NS_PER_HOUR + 7 * FM_NS_PER_MIN + 8 * FM_NS_PER_S + 9 * FM_NS_PER_MS,
		.packets = 12,
		.octets = 3456,
		.src_ip4 = {10, 1, 2, 3},
		.dst_ip4 = {192, 0, 2, 255},
		.src_port = 443,
		.dst_port = 65535,
		.ingress_if = 2,
		.protocol = IPPROTO_TCP,
		.tcp_flags = 0x1a,
		.end_reason = FM_END_REASON_IDLE,
		.family = FM_FAMILY_IP4,
	};
	_fm_cleanup_free_ char *seen = NULL;
	char text[512], path[256];
	unsigned int headers = 0;
	struct rig rig;
	size_t size;

	record.end_ns = record.start_ns + 1500 * FM_NS_PER_MS;
	record.src_prefix4 = record.dst_prefix4 = 32;
	snprintf(path, sizeof(path), "%s/text", dir);
	snprintf(text, sizeof(text), "[text]\nfile = %s\n", path);
	rig_init(&rig, &fm_sink_text, text);
	for (unsigned int i = 0; i < 98; i++)
		rig.sink->ops->record(rig.sink, &record);
	record.family = FM_FAMILY_TCP4;
	record.rtt_mean = 12345;
	record.retransmitted_packets = 3;
	rig.sink->ops->record(rig.sink, &record);
	record.rtt_mean = FM_ABSENT;
	record.retransmitted_packets = 0;
	rig.sink->ops->record(rig.sink, &record);
	record.src_prefix4 = 24;
	record.dst_as = 64500;
	record.selector = 1;
	record.sampling_interval = 100;
	rig.sink->ops->record(rig.sink, &record);
	rig_done(&rig, 0);
	seen = read_file(path, &size);
	FM_TEST(!strncmp(seen, header, strlen(header)), "text: a header");
	if (!FM_TEST(!strncmp(seen + strlen(header), line, strlen(line)), "text: a line"))
		FM_TEST_NOTE("%.*s", (int)(size < 400 ? size : 400), seen);
	FM_TEST(strstr(seen, measured) && strstr(seen, no_sample),
		"text: what was measured, a dash for what was not");
	for (const char *at = seen; (at = strstr(at, "start ")); at++)
		headers++;
	FM_TEST(strstr(seen, " 10.1.2.3/24:443        AS64500 ") && strstr(seen, " idle 1/100\n"),
		"text: prefixes, numbers, samplers");
	FM_TEST(headers == 3 && size > 3 * strlen(header) + 100 * strlen(line),
		"text: the header again after 40 lines");
	unlink(path);
}

/* A socket that receives on loopback, of both families. */
static int receiver(int type, uint16_t *ret_port)
{
	struct sockaddr_in6 address = {.sin6_family = AF_INET6};
	socklen_t size = sizeof(address);
	int fd = socket(AF_INET6, type | SOCK_CLOEXEC, 0), off = 0;
	int octets = type == SOCK_DGRAM ? 1 << 20 : 4096;

	setsockopt(fd, IPPROTO_IPV6, IPV6_V6ONLY, &off, sizeof(off));
	setsockopt(fd, SOL_SOCKET, SO_RCVBUF, &octets, sizeof(octets));
	if (bind(fd, (struct sockaddr *)&address, size) < 0 ||
	    getsockname(fd, (struct sockaddr *)&address, &size) < 0 ||
	    (type == SOCK_STREAM && listen(fd, 4) < 0))
		abort();
	*ret_port = ntohs(address.sin6_port);
	return fd;
}

/* Where messages wait; "": nowhere. */
static char spool_directory[64];

static void collector_rig(struct rig *rig, struct reader *reader, const char *host, uint16_t port,
			  const char *more)
{
	const struct fm_session_options options = {
		.profile = FM_P_STANDARD, .domain = 1, .message_size = 1400};
	char text[512];

	snprintf(text, sizeof(text),
		 "[spool]\ndirectory = %s\ncatch_up_rate = 0\n"
		 "[collector test]\naddress = %s:%u\n%s",
		 spool_directory, host, port, more);
	reader_init(reader, &options);
	if (rig_init(rig, &fm_sink_collector, text) < 0)
		abort();
}

/* Longer than options wait for more of the same. */
static void pass(struct rig *rig, struct reader *reader, int fd, bool stream)
{
	uint64_t end = fm_clock_monotonic_ns() + 2500 * FM_NS_PER_MS;

	while (fm_clock_monotonic_ns() < end) {
		turn(rig, 10000);
		reader_drain(reader, fd, stream);
	}
}

static void test_udp(void)
{
	struct fm_sink_stats stats;
	static struct reader reader;
	struct rig rig;
	uint16_t port;
	int fd = receiver(SOCK_DGRAM, &port);
	unsigned int before;

	collector_rig(&rig, &reader, "127.0.0.1", port, "template_messages = 20\n");
	FM_TEST(!strncmp(rig.sink->ops->describe(rig.sink),
			 "collector test (ipfix udp 127.0.0.1:", 36),
		"collector: says what it is");
	for (unsigned int i = 0; i < 20; i++) {
		give(&rig, 100);
		reader_drain(&reader, fd, false);
	}
	FM_TEST(same(&reader.got, &rig.given) && !reader.faults,
		"collector udp: what was given arrives, in sequence, after templates");
	FM_TEST(reader.rounds > 1, "collector udp: templates again after some messages (%u)",
		reader.rounds);
	FM_TEST(TURN_UNTIL(&rig, (reader_drain(&reader, fd, false),
				  reader.options[FM_OPTIONS_STATISTICS])) &&
			reader.options[FM_OPTIONS_INTERFACE] == 3 && !reader.faults,
		"collector udp: interfaces and statistics soon after the start");
	before = reader.options[FM_OPTIONS_INTERFACE];
	third_name = "docker1";
	rig.sink->ops->interfaces_changed(rig.sink);
	rig.sink->ops->interfaces_changed(rig.sink);
	FM_TEST(TURN_UNTIL(&rig, (reader_drain(&reader, fd, false),
				  reader.options[FM_OPTIONS_INTERFACE] != before)) &&
			reader.options[FM_OPTIONS_INTERFACE] == before + 3,
		"collector udp: interfaces again when they change, once");
	before = reader.options[FM_OPTIONS_INTERFACE];
	rig.sink->ops->interfaces_changed(rig.sink);
	pass(&rig, &reader, fd, false);
	FM_TEST(reader.options[FM_OPTIONS_INTERFACE] == before,
		"collector udp: not again when nothing changed");
	before = reader.options[FM_OPTIONS_STATISTICS];
	stats = rig_done(&rig, FM_NS_PER_S);
	reader_drain(&reader, fd, false);
	FM_TEST(reader.options[FM_OPTIONS_STATISTICS] == before + 1,
		"collector udp: statistics at the end");
	FM_TEST(adds_up(&rig, &stats) && !stats.not_sent_records &&
			stats.messages == reader.messages,
		"collector udp: counted as sent");
	close(fd);
}

/* As in a transaction of the ledger: nothing goes out before its end. */
static void test_transaction(void)
{
	const struct fm_sink_ops *const all[] = {&fm_sink_collector, &fm_sink_ipfix_file,
						 &fm_sink_json, &fm_sink_text};
	struct fm_sink_stats stats;
	static struct reader reader;
	struct rig rig;
	uint16_t port;
	int fd = receiver(SOCK_DGRAM, &port);
	unsigned int n = 0;

	for (size_t i = 0; i < FM_ARRAY_SIZE(all); i++)
		n += all[i]->prepare != NULL;
	FM_TEST(n == FM_ARRAY_SIZE(all), "every sink takes part in transactions");
	collector_rig(&rig, &reader, "127.0.0.1", port, "");
	give(&rig, 100);
	reader_drain(&reader, fd, false);
	for (unsigned int i = 0; i < 500; i++)
		give_one(&rig, false, NULL, NULL);
	rig.sink->ops->prepare(rig.sink, 1);
	reader_drain(&reader, fd, false);
	FM_TEST(reader.got.records == 100,
		"collector udp: nothing of an open transaction goes out");
	rig.sink->ops->flush(rig.sink);
	reader_drain(&reader, fd, false);
	FM_TEST(same(&reader.got, &rig.given) && !reader.faults,
		"collector udp: all of it at its end");
	stats = rig_done(&rig, FM_NS_PER_S);
	FM_TEST(adds_up(&rig, &stats) && !stats.not_sent_records,
		"collector udp: counted as sent then");
	close(fd);
}

static void test_template_interval(void)
{
	static struct reader reader;
	struct rig rig;
	uint16_t port;
	int fd = receiver(SOCK_DGRAM, &port);

	collector_rig(&rig, &reader, "127.0.0.1", port, "template_interval = 1s\n");
	FM_TEST(TURN_UNTIL(&rig, (reader_drain(&reader, fd, false), reader.templates >= 16)) &&
			reader.templates == 16,
		"collector udp: templates again after some time");
	rig_done(&rig, 0);
	close(fd);
}

static void test_name(void)
{
	struct fm_sink_stats stats;
	static struct reader reader;
	struct rig rig;
	uint16_t port;
	int fd = receiver(SOCK_DGRAM, &port);
	bool begun;

	collector_rig(&rig, &reader, "localhost", port, "");
	begun = TURN_UNTIL(&rig, (reader_drain(&reader, fd, false), reader.templates == 8));
	give(&rig, 50);
	reader_drain(&reader, fd, false);
	FM_TEST(begun && same(&reader.got, &rig.given), "collector: found by its name");
	rig_done(&rig, 0);
	close(fd);
	collector_rig(&rig, &reader, "no-such-name.invalid", port, "");
	give(&rig, 50);
	stats = rig_done(&rig, 0);
	FM_TEST(stats.not_sent_records == 50 && adds_up(&rig, &stats) &&
			is_cause(&stats, FM_NOT_SENT_stopped),
		"collector: without an address everything counts as not sent");
}

/* A name that moves: what it stands for now, and how often it was asked for. */
static struct {
	const char *addresses[2];
	unsigned int asked; /* atomic */
} moving;

int getaddrinfo(const char *host, const char *port, const struct addrinfo *hints,
		struct addrinfo **ret)
{
	int (*real)(const char *, const char *, const struct addrinfo *, struct addrinfo **) =
		dlsym(RTLD_NEXT, "getaddrinfo");
	int r;

	if (hints->ai_flags & AI_NUMERICHOST || strcmp(host, "moving.example.net"))
		return real(host, port, hints, ret);
	r = real(moving.addresses[0], port, hints, ret);
	if (r == 0 && moving.addresses[1])
		r = real(moving.addresses[1], port, hints, &(*ret)->ai_next);
	__atomic_add_fetch(&moving.asked, 1, __ATOMIC_RELEASE);
	return r;
}

static unsigned int asked(void)
{
	return __atomic_load_n(&moving.asked, __ATOMIC_ACQUIRE);
}

/* Both at one port, so that only the address tells them apart. */
static int receiver_at(int type, const char *address, uint16_t *port)
{
	struct sockaddr_in ip4 = {.sin_family = AF_INET, .sin_port = htons(*port)};
	socklen_t size = sizeof(ip4);
	int fd = socket(AF_INET, type | SOCK_CLOEXEC, 0), octets = 1 << 20;

	inet_pton(AF_INET, address, &ip4.sin_addr);
	setsockopt(fd, SOL_SOCKET, SO_RCVBUF, &octets, sizeof(octets));
	if (bind(fd, (struct sockaddr *)&ip4, size) < 0 ||
	    getsockname(fd, (struct sockaddr *)&ip4, &size) < 0 ||
	    (type == SOCK_STREAM && listen(fd, 4) < 0))
		abort();
	*port = ntohs(ip4.sin_port);
	return fd;
}

static void test_udp_moves(void)
{
	struct fm_sink_stats stats;
	static struct reader first, second;
	uint16_t port = 0;
	int fds[2] = {receiver_at(SOCK_DGRAM, "127.0.0.1", &port),
		      receiver_at(SOCK_DGRAM, "127.0.0.2", &port)};
	unsigned int before;
	struct rig rig;

	moving.addresses[0] = "127.0.0.1";
	collector_rig(&rig, &first, "moving.example.net", port, "resolve_interval = 1s\n");
	second = first; /* as initialised */
	TURN_UNTIL(&rig, (reader_drain(&first, fds[0], false), first.templates == 6));
	give(&rig, 100);
	moving.addresses[0] = "127.0.0.2";
	moving.addresses[1] = "127.0.0.1"; /* the one in use is still among them */
	before = asked();
	FM_TEST(TURN_UNTIL(&rig, asked() >= before + 2), "collector udp: a name is asked again");
	give(&rig, 50);
	reader_drain(&first, fds[0], false);
	reader_drain(&second, fds[1], false);
	FM_TEST(first.got.records == 150 && !second.messages,
		"collector udp: stays where it is while the name has its address");
	moving.addresses[1] = NULL;
	memcpy(second.expected, first.expected, sizeof(first.expected));
	FM_TEST(TURN_UNTIL(&rig, (reader_drain(&second, fds[1], false), second.templates >= 6)) &&
			second.rounds == 1,
		"collector udp: templates at the new address when the name moves");
	give(&rig, 70);
	stats = rig_done(&rig, FM_NS_PER_S);
	reader_drain(&first, fds[0], false);
	reader_drain(&second, fds[1], false);
	FM_TEST(first.got.records == 150 && second.got.records == 70 && !second.faults &&
			adds_up(&rig, &stats) && !stats.not_sent_records,
		"collector udp: records follow the name, none lost, none twice");
	close(fds[0]);
	close(fds[1]);
}

static void test_tcp_moves(void)
{
	struct fm_sink_stats stats;
	static struct reader reader;
	uint16_t port = 0;
	int listeners[2] = {receiver_at(SOCK_STREAM, "127.0.0.1", &port),
			    receiver_at(SOCK_STREAM, "127.0.0.2", &port)};
	struct rig rig;
	int fd;

	moving.addresses[0] = "127.0.0.1";
	collector_rig(&rig, &reader, "moving.example.net", port,
		      "transport = tcp\nreconnect_interval = 1h\n");
	TURN_UNTIL(&rig, (rig.sink->ops->stats(rig.sink, &stats), stats.messages >= 6));
	fd = accept(listeners[0], NULL, NULL);
	moving.addresses[0] = "127.0.0.2";
	close(listeners[0]);
	close(fd); /* resets: nothing of it was read */
	fcntl(listeners[1], F_SETFL, O_NONBLOCK);
	fd = -1;
	TURN_UNTIL(&rig, fd >= 0 || (fd = accept(listeners[1], NULL, NULL)) >= 0);
	FM_TEST(fd >= 0, "collector tcp: a name is asked again when the connection ends");
	give(&rig, 200);
	TURN_UNTIL(&rig, (reader_drain(&reader, fd, true), reader.got.records == 200));
	FM_TEST(same(&reader.got, &rig.given) && !reader.faults && reader.rounds == 1,
		"collector tcp: goes on where the name moved, behind templates");
	stats = rig_done(&rig, FM_NS_PER_S);
	FM_TEST(adds_up(&rig, &stats) && !stats.not_sent_records, "collector tcp: all sent there");
	close(fd);
	close(listeners[1]);
}

static void test_rate(void)
{
	struct fm_sink_stats stats;
	static struct reader reader;
	struct rig rig;
	uint16_t port;
	int fd = receiver(SOCK_DGRAM, &port);
	uint64_t begin, took;
	size_t burst;

	begin = fm_clock_monotonic_ns(); /* the rate counts from the start */
	collector_rig(&rig, &reader, "127.0.0.1", port, "rate = 10000\n");
	burst = rig.sink->ops->room(rig.sink);
	FM_TEST(burst >= 2 && burst <= 512,
		"collector: at once no more than a socket buffer holds");
	give(&rig, 5000);
	took = fm_clock_monotonic_ns() - begin;
	/* However busy the machine: never faster than the rate. */
	FM_TEST(took >= (5000 - burst - 2) * FM_NS_PER_S / 10000 && rig.turns > 0,
		"collector: not faster than the rate (%" PRIu64 " ms)", took / FM_NS_PER_MS);
	stats = rig_done(&rig, 0);
	FM_TEST(stats.records == 5000, "collector: paced records are sent");
	close(fd);
	collector_rig(&rig, &reader, "127.0.0.1", port, "rate = 0\n");
	FM_TEST(rig.sink->ops->room(rig.sink) == SIZE_MAX, "collector: rate 0 is no limit");
	rig_done(&rig, 0);
}

#define AUDITS 400

/* Options records keep the pace of flow records, and none gets lost. */
static void test_audit(void)
{
	struct fm_sink_stats stats;
	static struct reader reader;
	struct rig rig;
	uint16_t port;
	int fd = receiver(SOCK_DGRAM, &port);
	uint64_t begin, took, frames = 0;

	collector_rig(&rig, &reader, "127.0.0.1", port, "rate = 500\n");
	begin = fm_clock_monotonic_ns();
	for (unsigned int i = 0; i < AUDITS; i++) {
		struct fm_audit_row row = {.record = {.ifindex = i, .frames = i * i}};

		while (rig.sink->ops->room(rig.sink) == 0) {
			rig.sink->ops->flush(rig.sink);
			reader_drain(&reader, fd, false);
			turn(&rig, 1000);
		}
		frames += row.record.frames;
		rig.sink->ops->audit(rig.sink, &row);
	}
	rig.sink->ops->flush(rig.sink);
	TURN_UNTIL(&rig, (reader_drain(&reader, fd, false), reader.audits >= AUDITS));
	took = fm_clock_monotonic_ns() - begin;
	FM_TEST(reader.audits == AUDITS && reader.audit_frames == frames,
		"collector: every audit arrives, once");
	FM_TEST(took >= (AUDITS - 16 - 2) * FM_NS_PER_S / 500,
		"collector: not faster than the rate (%" PRIu64 " ms)", took / FM_NS_PER_MS);
	stats = rig_done(&rig, 0);
	FM_TEST(!stats.records && !stats.not_sent_records, "collector: audits are no flow records");
	FM_TEST(stats.audits == AUDITS && !stats.not_sent_audits,
		"collector: audits have a count of their own (%" PRIu64 ")", stats.audits);
	close(fd);
}

static void test_tcp(void)
{
	struct fm_sink_stats stats;
	static struct reader reader;
	struct rig rig;
	uint16_t port;
	int listener = receiver(SOCK_STREAM, &port), fd;

	collector_rig(&rig, &reader, "[::1]", port, "transport = tcp\nrate = 0\n");
	give(&rig, 500);
	fd = accept(listener, NULL, NULL);
	TURN_UNTIL(&rig, (reader_drain(&reader, fd, true),
			  reader.got.records == rig.given.records &&
				  reader.options[FM_OPTIONS_STATISTICS]));
	FM_TEST(same(&reader.got, &rig.given) && !reader.faults && reader.rounds == 1,
		"collector tcp: also what came before the connection arrives");
	stats = rig_done(&rig, FM_NS_PER_S);
	FM_TEST(reader_drain(&reader, fd, true) && reader.options[FM_OPTIONS_STATISTICS] == 2,
		"collector tcp: statistics at the end, then the end");
	FM_TEST(adds_up(&rig, &stats) && !stats.not_sent_records, "collector tcp: counted as sent");
	close(fd);
	close(listener);
}

/* What is of the moment waits until there is a connection, and is told once in each. */
static void test_tcp_again(void)
{
	struct fm_audit_row row = {.record = {.ifindex = 2, .frames = 3}};
	static struct reader reader;
	struct rig rig;
	uint16_t port;
	int listener = receiver(SOCK_STREAM, &port), fd = -1;
	struct sockaddr_in6 address;
	socklen_t size = sizeof(address);

	getsockname(listener, (struct sockaddr *)&address, &size);
	close(listener);
	collector_rig(&rig, &reader, "[::1]", port,
		      "transport = tcp\nreconnect_interval = 3s\noptions_interval = 1s\n");
	for (unsigned int i = 0; i < 250; i++) /* longer than the interval of the options */
		turn(&rig, 10000);
	rig.sink->ops->audit(rig.sink, &row);
	rig.sink->ops->flush(rig.sink);
	listener = socket(AF_INET6, SOCK_STREAM, 0);
	if (bind(listener, (struct sockaddr *)&address, size) < 0 || listen(listener, 1) < 0)
		abort();
	fcntl(listener, F_SETFL, O_NONBLOCK);
	FM_TEST(TURN_UNTIL(&rig, fd >= 0 || (fd = accept(listener, NULL, NULL)) >= 0),
		"collector tcp: connects when there is a listener");
	TURN_UNTIL(&rig, (reader_drain(&reader, fd, true), reader.options[FM_OPTIONS_STATISTICS]));
	FM_TEST(reader.options[FM_OPTIONS_INTERFACE] == 3 &&
			reader.options[FM_OPTIONS_STATISTICS] == 1 && reader.rounds == 1,
		"collector tcp: after the time without, names and figures once");
	FM_TEST(reader.audits == 1 && reader.audit_frames == 3,
		"collector tcp: audits of that time are told");
	rig_done(&rig, 0);
	close(fd);
	close(listener);
}

/*
 * Gives records for as long as the sink is up, as to a member of a group. The collector reads less
 * than there is, and nothing once it was waited for. Returns whether the sink took records only
 * while it was up, to the end.
 */
static bool gives_way(struct rig *rig, int fd)
{
	char taken[2048];
	uint64_t since;
	bool good = fd >= 0;
	size_t room;

	while (good && is_up(rig, &since) && rig->given.records < 1000000) {
		room = rig->sink->ops->room(rig->sink);
		if (room < 2)
			rig->turns++;
		else if (is_up(rig, &since))
			give_one(rig, false, NULL, NULL);
		else
			good = false;
		rig->sink->ops->flush(rig->sink);
		if (!rig->turns && !(rig->given.records % 64)) {
			good &= recv(fd, taken, sizeof(taken), MSG_DONTWAIT) != 0;
			turn(rig, 0);
		}
	}
	return good && !is_up(rig, &since);
}

static void test_tcp_stalled(void)
{
	struct fm_sink_stats stats;
	static struct reader reader;
	struct rig rig;
	uint16_t port;
	int listener = receiver(SOCK_STREAM, &port), fd = -1;
	uint64_t begin = fm_clock_monotonic_ns();

	collector_rig(&rig, &reader, "127.0.0.1", port, "transport = tcp\nrate = 0\n");
	TURN_UNTIL(&rig, (rig.sink->ops->stats(rig.sink, &stats), stats.messages >= 6));
	TURN_UNTIL(&rig, fd >= 0 || (fd = accept(listener, NULL, NULL)) >= 0);
	FM_TEST(gives_way(&rig, fd),
		"collector tcp: one that reads no more is down before it refuses");
	rig.sink->ops->stats(rig.sink, &stats);
	FM_TEST(!stats.not_sent_records,
		"collector tcp: and before it gives up what others could take");
	give(&rig, 150000);
	FM_TEST(rig.turns > 0 && fm_clock_monotonic_ns() - begin < TIMEOUT_NS,
		"collector tcp: one that never reads is waited for a little, then no more");
	stats = rig_done(&rig, 50 * FM_NS_PER_MS);
	FM_TEST(stats.not_sent_records > 0 && adds_up(&rig, &stats),
		"collector tcp: what it did not take is counted");
	close(fd);
	close(listener);
}

/*
 * What does not fit into its queue waits on disk, and comes behind what was half written, with the
 * sequence numbers that follow.
 */
static void test_tcp_stalled_spool(const char *dir)
{
	struct fm_sink_stats stats;
	static struct reader reader;
	struct rig rig;
	uint16_t port;
	int listener = receiver(SOCK_STREAM, &port), fd;

	snprintf(spool_directory, sizeof(spool_directory), "%s/spool", dir);
	collector_rig(&rig, &reader, "127.0.0.1", port, "transport = tcp\nrate = 0\n");
	TURN_UNTIL(&rig, (rig.sink->ops->stats(rig.sink, &stats), stats.messages >= 6));
	give(&rig, 100000);
	rig.sink->ops->stats(rig.sink, &stats);
	FM_TEST(stats.spooled_records > 0 && !stats.not_sent_records,
		"collector tcp: one that never reads: %" PRIu64 " records wait on disk",
		stats.spooled_records);
	fd = accept(listener, NULL, NULL);
	TURN_UNTIL(&rig, (reader_drain(&reader, fd, true), reader.options[FM_OPTIONS_GAP]));
	give(&rig, 100);
	TURN_UNTIL(&rig,
		   (reader_drain(&reader, fd, true), reader.got.records == rig.given.records));
	FM_TEST(same(&reader.got, &rig.given) && !reader.faults &&
			reader.options[FM_OPTIONS_GAP] == 1,
		"collector tcp: when it reads it gets all of it, in sequence, and is told of the gap");
	stats = rig_done(&rig, FM_NS_PER_S);
	FM_TEST(adds_up(&rig, &stats) && !stats.not_sent_records && !stats.spool_waiting_octets,
		"collector tcp: counted as sent");
	close(fd);
	close(listener);
	spool_directory[0] = '\0';
}

static void remove_spool(const char *dir)
{
	char path[128];

	snprintf(path, sizeof(path), "%s/spool/test/position", dir);
	unlink(path);
	snprintf(path, sizeof(path), "%s/spool/test", dir);
	rmdir(path);
	snprintf(path, sizeof(path), "%s/spool", dir);
	rmdir(path);
}

/* Audits wait for a connection like records; at the end they are counted. */
static void test_audit_stopped(void)
{
	const struct fm_audit_row row = {.record = {.ifindex = 2, .frames = 3}};
	struct fm_sink_stats stats;
	static struct reader reader;
	struct rig rig;
	uint16_t port;

	close(receiver(SOCK_STREAM, &port));
	collector_rig(&rig, &reader, "127.0.0.1", port, "transport = tcp\n");
	for (unsigned int i = 0; i < 100; i++)
		rig.sink->ops->audit(rig.sink, &row);
	rig.sink->ops->flush(rig.sink);
	turn(&rig, 0);
	rig.sink->ops->stats(rig.sink, &stats);
	FM_TEST(!stats.audits && !stats.not_sent_audits, "collector tcp: audits wait");
	stats = rig_done(&rig, 0);
	FM_TEST(!stats.audits && stats.not_sent_audits == 100 && !stats.not_sent_records,
		"collector tcp: audits that nobody got are counted");
}

static void test_not_encoded(void)
{
	const struct fm_record record = {.family = _FM_FAMILY_MAX, .packets = 3, .octets = 5};
	struct fm_sink_stats stats;
	static struct reader reader;
	struct rig rig;
	uint16_t port;
	int fd = receiver(SOCK_DGRAM, &port);

	collector_rig(&rig, &reader, "127.0.0.1", port, "");
	rig.sink->ops->record(rig.sink, &record);
	rig.given = (struct sums){.records = 1, .packets = 3, .octets = 5};
	rig.sink->ops->flush(rig.sink);
	stats = rig_done(&rig, 0);
	FM_TEST(adds_up(&rig, &stats) && is_cause(&stats, FM_NOT_SENT_not_encoded),
		"collector: a record that is none is counted");
	close(fd);
}

static void test_tcp_refused(void)
{
	struct fm_sink_stats stats;
	static struct reader reader;
	struct rig rig;
	uint16_t port;
	uint64_t begin;

	close(receiver(SOCK_STREAM, &port));
	collector_rig(&rig, &reader, "127.0.0.1", port, "transport = tcp\n");
	give(&rig, 100);
	turn(&rig, 0);
	begin = fm_clock_monotonic_ns();
	stats = rig_done(&rig, 5 * FM_NS_PER_S);
	FM_TEST(stats.not_sent_records == 100 && adds_up(&rig, &stats) &&
			is_cause(&stats, FM_NOT_SENT_stopped) &&
			fm_clock_monotonic_ns() - begin < FM_NS_PER_S,
		"collector tcp: one that refuses holds up nothing, also at the end");
}

/* Whether the sink is up, and since when. */
static void test_udp_up(void)
{
	uint64_t begin = fm_clock_monotonic_ns(), since[3];
	static struct reader reader;
	struct rig rig;
	uint16_t port = 0;
	int fd = receiver_at(SOCK_DGRAM, "127.0.0.1", &port);

	collector_rig(&rig, &reader, "127.0.0.1", port, "");
	FM_TEST(is_up(&rig, &since[0]) && since[0] >= begin, "collector udp: up from the start");
	/* From here on nothing goes by itself for a minute. */
	TURN_UNTIL(&rig, (reader_drain(&reader, fd, false), reader.options[FM_OPTIONS_STATISTICS]));
	close(fd);
	give(&rig, 50);
	FM_TEST(TURN_UNTIL(&rig, !is_up(&rig, &since[1])) && since[1] >= since[0],
		"collector udp: down when it is refused");
	fd = receiver_at(SOCK_DGRAM, "127.0.0.1", &port);
	FM_TEST(TURN_UNTIL(&rig, is_up(&rig, &since[2])) && since[2] - since[1] >= FM_NS_PER_S,
		"collector udp: asked whether it is back, up when nothing answers");
	reader_drain(&reader, fd, false);
	FM_TEST(reader.templates >= 7, "collector udp: and has templates by then");
	rig_done(&rig, 0);
	close(fd);
}

static void test_tcp_up(void)
{
	uint64_t begin = fm_clock_monotonic_ns(), since[4];
	static struct reader reader;
	struct rig rig;
	uint16_t port = 0;
	int listener = receiver_at(SOCK_STREAM, "127.0.0.1", &port), fd;

	collector_rig(&rig, &reader, "127.0.0.1", port,
		      "transport = tcp\nreconnect_interval = 100ms\n");
	FM_TEST(!is_up(&rig, &since[0]) && since[0] >= begin, "collector tcp: down from the start");
	FM_TEST(TURN_UNTIL(&rig, is_up(&rig, &since[1])) && since[1] >= since[0],
		"collector tcp: up with the connection");
	fd = accept(listener, NULL, NULL);
	close(listener);
	close(fd);
	FM_TEST(TURN_UNTIL(&rig, !is_up(&rig, &since[2])) && since[2] >= since[1],
		"collector tcp: down with its end");
	/* Refused again and again: still down since then. */
	TURN_UNTIL(&rig, fm_clock_monotonic_ns() - since[2] > 400 * FM_NS_PER_MS);
	FM_TEST(!is_up(&rig, &since[3]) && since[3] == since[2],
		"collector tcp: down since then, however often it is tried");
	rig_done(&rig, 0);

	collector_rig(&rig, &reader, "no-such-name.invalid", port, "");
	FM_TEST(!is_up(&rig, &since[0]) && since[0] > since[3],
		"collector: down while its name is not known");
	rig_done(&rig, 0);
}

int main(void)
{
	char dir[] = "/tmp/test-sinks-XXXXXX";

	if (!mkdtemp(dir))
		return fm_test_bail("mkdtemp", errno);
	signal(SIGPIPE, SIG_IGN); /* as the daemon does */
	setenv("TZ", "UTC", 1);
	fm_log_init(LOG_ERR, false);
	test_json(dir, false);
	test_json(dir, true);
	test_json_full();
	test_json_stalled();
	test_text(dir);
	test_udp();
	test_transaction();
	test_template_interval();
	test_name();
	test_rate();
	test_audit();
	test_tcp();
	test_tcp_again();
	test_tcp_stalled();
	test_tcp_stalled_spool(dir);
	test_audit_stopped();
	test_not_encoded();
	test_tcp_refused();
	test_udp_moves();
	test_tcp_moves();
	test_udp_up();
	test_tcp_up();
	remove_spool(dir);
	rmdir(dir);
	return fm_test_done();
}
