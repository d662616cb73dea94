/* SPDX-License-Identifier: Apache-2.0 */
/*
 * An exporter for tests: random flow records through a session and a transport to a collector. What
 * was given, sent and lost is printed as JSON at the end. Started by the tests of collectors.
 *
 *   record-sender [options] HOST PORT
 *     -9           NetFlow v9 instead of IPFIX     -u         v9 times by sysUptime
 *     -t           TCP instead of UDP              -b         biflows
 *     -f           profile full                    -m OCTETS  message size, 1400
 *     -n RECORDS   how many, 1000                  -s SEED    which, 1
 *     -r RATE      records a second, 20000         -d DOMAIN  1
 *     -o           interface and statistics options records after the templates
 *     -i MS        templates again after this time, and options with them, never
 *     -v           prints the records as JSON lines, with the fields that are sent; -a: with all
 *     -l WORD      a word of a list of fields, such as -rttMean; once for each
 *     -w SECONDS   waits so long for the collector to take everything, 5
 */
#include <inttypes.h>
#include <netdb.h>
#include <poll.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/macro.h"
#include "ipfix/transport.h"
#include "records.h"

#define BURST	256
#define TICK_MS 1

struct sums {
	uint64_t records, packets, octets, messages;
};

struct sender {
	struct fm_session_options options;
	struct fm_session *session;
	struct fm_transport *transport;
	struct fm_layout layouts[FM_LAYOUTS_RECORDS];
	bool tcp, with_options, samples, verbose, whole;
	uint64_t n, seed, rate, wait_s, interval_ms, now_ns, templates_ns;
	struct sums given, sent, lost;
	unsigned int sessions, errors;
};

static void add(struct sums *sums, const struct fm_message_info *info)
{
	sums->records += info->records;
	sums->packets += info->packets;
	sums->octets += info->octets;
	sums->messages++;
}

static void on_sent(void *userdata, const struct fm_message_info *info, size_t size)
{
	add(&((struct sender *)userdata)->sent, info);
}

static void on_lost(void *userdata, const struct fm_message_info *info, size_t size,
		    enum fm_not_sent cause)
{
	add(&((struct sender *)userdata)->lost, info);
}

static void on_state(void *userdata, int error)
{
	if (error < 0)
		((struct sender *)userdata)->errors++;
}

static void on_message(void *userdata, const uint8_t *message, size_t size,
		       const struct fm_message_info *info)
{
	struct sender *sender = userdata;

	if (size > sender->options.message_size &&
	    (!info->is_template || size > FM_SESSION_TEMPLATE_MAX)) {
		fprintf(stderr, "message of %zu octets\n", size);
		abort();
	}
	sender->transport->ops->send(sender->transport, message, size, info,
				     fm_clock_monotonic_ns());
}

static void check(int r, const char *what)
{
	if (r >= 0)
		return;
	fprintf(stderr, "%s: %s\n", what, strerror(-r));
	exit(EXIT_FAILURE);
}

/* Beside those of interfaces. */
static void send_names(struct sender *sender)
{
	const struct fm_device_record device = {
		.ifindex = 2,
		.vrf = 10,
		.speed = 25000000000,
		.name = "eth0",
		.alias = "a uplink",
		.namespace = "outside",
	};
	const struct fm_vrf_record vrf = {.id = 10, .name = "red"};
	const struct fm_application_record application = {
		.id = 3 << 24 | 443,
		.name = "https",
		.description = "443/tcp https",
	};

	check(fm_session_device(sender->session, &device, sender->now_ns), "device");
	check(fm_session_vrf(sender->session, &vrf, sender->now_ns), "VRF");
	if (fm_session_has_applications(sender->session))
		check(fm_session_application(sender->session, &application, sender->now_ns),
		      "application");
}

static void send_templates(struct sender *sender)
{
	const struct fm_exporter_stats exporter = {
		.observed_flows = 4,
		.ignored_packets = 5,
		.ignored_octets = 6,
		.start_ns = sender->now_ns,
	};
	const struct fm_sink_stats sink = {
		.message_octets = 1,
		.messages = 2,
		.records = 3,
		.not_sent_records = 7,
		.not_sent_packets = 8,
		.not_sent_octets = 9,
	};

	sender->templates_ns = fm_clock_monotonic_ns();
	check(fm_session_begin(sender->session, sender->now_ns), "templates");
	if (!sender->with_options)
		return;
	check(fm_session_interface(sender->session, 1, "lo", NULL, sender->now_ns), "interface");
	check(fm_session_interface(sender->session, 2, "eth0", "a uplink", sender->now_ns),
	      "interface");
	send_names(sender);
	check(fm_session_flush(sender->session, sender->now_ns), "flush");
	check(fm_session_statistics(sender->session, &exporter, &sink, sender->now_ns),
	      "statistics");
}

static void on_begun(void *userdata)
{
	struct sender *sender = userdata;

	sender->sessions++;
	check(fm_session_restart(sender->session), "restart");
	send_templates(sender);
}

static void give(struct sender *sender)
{
	struct fm_record record;

	records_make(&record, sender->seed, sender->given.records, sender->options.biflow,
		     sender->now_ns);
	if (sender->samples)
		records_sample(&record, sender->given.records);
	sender->given.records++;
	sender->given.packets += record.packets + record.rev_packets;
	sender->given.octets += record.octets + record.rev_octets;
	if (sender->verbose)
		records_print(stdout, &record, &sender->layouts[fm_layout_index(&record)]);
	check(fm_session_record(sender->session, &record, sender->now_ns), "record");
}

/* Waits a tick for the transport. */
static void step(struct sender *sender, int timeout_ms)
{
	struct fm_transport *transport = sender->transport;
	struct pollfd poll_fd = {.fd = transport->fd, .events = (short)transport->events};
	uint64_t now;

	poll(&poll_fd, 1, timeout_ms);
	now = fm_clock_monotonic_ns();
	if ((poll_fd.fd >= 0 && poll_fd.revents) || now >= transport->deadline_ns)
		transport->ops->dispatch(transport, now);
}

static void run(struct sender *sender)
{
	uint64_t begin = fm_clock_monotonic_ns(), end;

	sender->transport->ops->start(sender->transport, begin);
	while (sender->given.records < sender->n) {
		uint64_t now = fm_clock_monotonic_ns();
		uint64_t due = (now - begin) * sender->rate / FM_NS_PER_S + 1;

		sender->now_ns = fm_clock_realtime_ns();
		if (sender->interval_ms &&
		    now - sender->templates_ns > sender->interval_ms * FM_NS_PER_MS)
			send_templates(sender);
		for (unsigned int i = 0;
		     i < BURST && sender->given.records < FM_MIN(due, sender->n); i++)
			give(sender);
		sender->transport->ops->flush(sender->transport, now);
		step(sender, TICK_MS);
	}
	check(fm_session_flush(sender->session, sender->now_ns), "flush");
	sender->transport->ops->flush(sender->transport, fm_clock_monotonic_ns());
	end = fm_clock_monotonic_ns() + sender->wait_s * FM_NS_PER_S;
	while (sender->transport->first && fm_clock_monotonic_ns() < end)
		step(sender, 10);
	if (!sender->tcp) /* an answer to the last datagram */
		usleep(20000);
	sender->transport = fm_transport_free(sender->transport);
}

static void print_sums(const char *name, const struct sums *sums)
{
	printf("\"%s\":{\"records\":%" PRIu64 ",\"packets\":%" PRIu64 ",\"octets\":%" PRIu64
	       ",\"messages\":%" PRIu64 "}",
	       name, sums->records, sums->packets, sums->octets, sums->messages);
}

static void resolve(const char *host, const char *port, struct fm_transport_options *ret)
{
	const struct addrinfo hints = {.ai_flags = AI_NUMERICHOST | AI_NUMERICSERV};
	struct addrinfo *address;

	if (getaddrinfo(host, port, &hints, &address) != 0)
		check(-1, "address");
	memcpy(&ret->address, address->ai_addr, address->ai_addrlen);
	ret->address_size = address->ai_addrlen;
	freeaddrinfo(address);
}

static void parse(struct sender *sender, int argc, char **argv)
{
	int option;

	while ((option = getopt(argc, argv, "9utbfpoSm:n:s:r:d:i:val:w:")) != -1)
		switch (option) {
		case '9':
			sender->options.protocol = FM_SESSION_V9;
			break;
		case 'u':
			sender->options.v9_sysuptime = true;
			break;
		case 't':
			sender->tcp = true;
			break;
		case 'b':
			sender->options.biflow = true;
			break;
		case 'f':
			sender->options.profile = FM_P_FULL;
			break;
		case 'p':
			sender->options.profile = FM_P_NTOP;
			break;
		case 'o':
			sender->with_options = true;
			break;
		case 'S':
			sender->samples = true;
			break;
		case 'm':
			sender->options.message_size = strtoul(optarg, NULL, 10);
			break;
		case 'n':
			sender->n = strtoull(optarg, NULL, 10);
			break;
		case 's':
			sender->seed = strtoull(optarg, NULL, 10);
			break;
		case 'r':
			sender->rate = strtoull(optarg, NULL, 10);
			break;
		case 'd':
			sender->options.domain = (uint32_t)strtoul(optarg, NULL, 10);
			break;
		case 'i':
			sender->interval_ms = strtoull(optarg, NULL, 10);
			break;
		case 'v':
			sender->verbose = true;
			break;
		case 'a':
			sender->verbose = sender->whole = true;
			break;
		case 'l':
			check(fm_field_list_add(&sender->options.fields, optarg, strlen(optarg)),
			      optarg);
			break;
		case 'w':
			sender->wait_s = strtoull(optarg, NULL, 10);
			break;
		default:
			exit(EXIT_FAILURE);
		}
	if (argc - optind != 2)
		check(-1, "HOST PORT");
}

/* What is printed of each kind of record. */
static void make_layouts(struct sender *sender)
{
	struct fm_session_options printed = sender->options;

	if (sender->whole) {
		printed.protocol = FM_SESSION_IPFIX;
		memset(&printed.fields.added, 0xff, sizeof(printed.fields.added));
		memset(&printed.fields.left_out, 0, sizeof(printed.fields.left_out));
	}
	for (unsigned int i = 0; i < FM_LAYOUTS_RECORDS; i++)
		fm_layout_records(&sender->layouts[i], &printed, i);
}

int main(int argc, char **argv)
{
	struct sender sender = {
		.options = {.profile = FM_P_STANDARD,
			    .domain = 1,
			    .enterprise_number = 32473,
			    .message_size = 1400},
		.n = 1000,
		.seed = 1,
		.rate = 20000,
		.wait_s = 5,
	};
	struct fm_transport_options options = {
		.queue_octets = 4 << 20,
		.reconnect_ns = 200 * FM_NS_PER_MS,
		.begun = on_begun,
		.sent = on_sent,
		.lost = on_lost,
		.state = on_state,
		.userdata = &sender,
	};

	parse(&sender, argc, argv);
	sender.now_ns = fm_clock_realtime_ns();
	sender.options.boot_ns = sender.now_ns - fm_clock_monotonic_ns();
	resolve(argv[optind], argv[optind + 1], &options);
	make_layouts(&sender);
	check(fm_session_new(&sender.session, &sender.options, on_message, &sender), "session");
	check(fm_transport_new(&sender.transport,
			       sender.tcp ? &fm_transport_tcp : &fm_transport_udp, &options),
	      "transport");
	run(&sender);
	fm_session_free(sender.session);
	printf("{\"sessions\":%u,\"errors\":%u,", sender.sessions, sender.errors);
	print_sums("given", &sender.given);
	printf(",");
	print_sums("sent", &sender.sent);
	printf(",");
	print_sums("lost", &sender.lost);
	printf("}\n");
	return EXIT_SUCCESS;
}
