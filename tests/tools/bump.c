/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A bump in the wire for tests: carries frames between two interfaces with a fixed delay and a
 * script of impairments, and knows exactly what it did. Started by the end-to-end tests.
 *
 *   bump [options] INTERFACE_A INTERFACE_B
 *     --delay WAY:US        each frame of this way is held so long
 *     --drop WAY:WHICH      these TCP segments with data are thrown away
 *     --reorder WAY:WHICH   these are held longer, by --extra US (3000)
 *     --duplicate WAY:WHICH these are sent twice
 *     --mark WAY:WHICH      CE is set in these of the packets that are ECT(0) or ECT(1)
 *     --tail WAY:OCTET      the first segment that carries this octet of its stream is thrown away
 *     --drop-syn, --drop-synack   the first one is thrown away
 *     --log FILE            each TCP packet as a line of CSV when it comes and when it goes
 *
 * WAY is ab or ba; WHICH is /N for every Nth or numbers with commas, counted from 1 in that way:
 * segments with data, repeated ones included, and for --mark packets that are ECT. Prints "ready",
 * and with SIGTERM or SIGINT one line of JSON. Offloads must be off at both ends of both links:
 * frames that are longer than 2048 octets are only counted.
 */
#include <arpa/inet.h>
#include <errno.h>
#include <getopt.h>
#include <inttypes.h>
#include <linux/if_ether.h>
#include <linux/if_packet.h>
#include <net/if.h>
#include <poll.h>
#include <sched.h>
#include <signal.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/signalfd.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

#define FRAME_MAX   2048
#define QUEUE_MAX   65536
#define STREAMS_MAX 256
#define NUMBERS_MAX 64
#define BURST	    64
#define LATE_US	    1000
#define TCP_FIN	    1
#define TCP_SYN	    2
#define TCP_ACK	    16

enum way { AB, BA, WAYS };

struct rule {
	uint64_t every;
	uint64_t numbers[NUMBERS_MAX];
	size_t n;
};

struct counts {
	uint64_t packets, forwarded, data, octets, repeated, dropped, delayed, reordered;
	uint64_t duplicated, ect, ce, marked, syn_dropped;
};

/* What one end of a connection sends: seen tells repeated octets, gone tells who was overtaken. */
struct stream {
	uint16_t sport, dport;
	enum way way;
	uint32_t first, end;
	bool known;
	uint64_t arrived, gone;
};

/* A frame under way. number: which segment with data of its stream it is, 0: none. */
struct frame {
	uint64_t due_us, order, number;
	struct stream *stream;
	enum way way;
	bool copy;
	size_t size;
	uint8_t data[FRAME_MAX];
};

/* The parts of a TCP packet that matter here. */
struct segment {
	uint8_t *ip;
	bool ip6;
	uint16_t sport, dport;
	uint32_t seq, ack;
	uint8_t flags;
	unsigned int length;
};

static struct {
	int socket[WAYS], signals;
	uint64_t delay_us[WAYS], extra_us, tail[WAYS];
	struct rule drop[WAYS], reorder[WAYS], duplicate[WAYS], mark[WAYS];
	bool drop_syn, drop_synack;
	FILE *log;
	struct frame *queue[QUEUE_MAX];
	size_t n_queue;
	uint64_t order, too_long, late, unsent;
	struct counts counts[WAYS];
	struct stream streams[STREAMS_MAX];
	size_t n_streams;
} all = {.extra_us = 3000};

static uint64_t now_us(void)
{
	struct timespec now;

	clock_gettime(CLOCK_MONOTONIC, &now);
	return (uint64_t)now.tv_sec * 1000000 + (uint64_t)now.tv_nsec / 1000;
}

static _Noreturn void die(const char *what)
{
	fprintf(stderr, "bump: %s: %s\n", what, strerror(errno));
	exit(1);
}

static uint32_t get32(const uint8_t *at)
{
	return (uint32_t)at[0] << 24 | (uint32_t)at[1] << 16 | (uint32_t)at[2] << 8 | at[3];
}

static bool rule_holds(const struct rule *rule, uint64_t number)
{
	if (rule->every && number % rule->every == 0)
		return true;
	for (size_t i = 0; i < rule->n; i++)
		if (rule->numbers[i] == number)
			return true;
	return false;
}

static bool earlier(const struct frame *a, const struct frame *b)
{
	return a->due_us < b->due_us || (a->due_us == b->due_us && a->order < b->order);
}

static void exchange(size_t i, size_t j)
{
	struct frame *frame = all.queue[i];

	all.queue[i] = all.queue[j];
	all.queue[j] = frame;
}

static void queue_add(struct frame *frame)
{
	size_t i = all.n_queue;

	if (i == QUEUE_MAX) {
		all.unsent++;
		free(frame);
		return;
	}
	frame->order = all.order++;
	all.queue[all.n_queue++] = frame;
	for (; i && earlier(all.queue[i], all.queue[(i - 1) / 2]); i = (i - 1) / 2)
		exchange(i, (i - 1) / 2);
}

static struct frame *queue_take(void)
{
	struct frame *first = all.queue[0];
	size_t i = 0, child;

	all.queue[0] = all.queue[--all.n_queue];
	while ((child = 2 * i + 1) < all.n_queue) {
		if (child + 1 < all.n_queue && earlier(all.queue[child + 1], all.queue[child]))
			child++;
		if (!earlier(all.queue[child], all.queue[i]))
			break;
		exchange(child, i);
		i = child;
	}
	return first;
}

/* Reads a frame's TCP header; false if it has none. Extension headers do not occur in the lab. */
static bool parse(struct frame *frame, struct segment *ret)
{
	uint8_t *ip = frame->data + ETH_HLEN, *tcp;
	uint16_t type = (uint16_t)(frame->data[12] << 8 | frame->data[13]);
	size_t header, length;

	if (type == ETH_P_IP && frame->size >= ETH_HLEN + 40 && ip[9] == IPPROTO_TCP) {
		header = (ip[0] & 15) * 4u;
		length = (size_t)(ip[2] << 8 | ip[3]);
	} else if (type == ETH_P_IPV6 && frame->size >= ETH_HLEN + 60 && ip[6] == IPPROTO_TCP) {
		header = 40;
		length = 40 + (size_t)(ip[4] << 8 | ip[5]);
	} else {
		return false;
	}
	if (ETH_HLEN + length > frame->size || length < header + 20)
		return false;
	tcp = ip + header;
	header += (tcp[12] >> 4) * 4u;
	if (length < header)
		return false;
	*ret = (struct segment){.ip = ip, .ip6 = type == ETH_P_IPV6};
	ret->sport = (uint16_t)(tcp[0] << 8 | tcp[1]);
	ret->dport = (uint16_t)(tcp[2] << 8 | tcp[3]);
	ret->seq = get32(tcp + 4);
	ret->ack = get32(tcp + 8);
	ret->flags = tcp[13];
	ret->length = (unsigned int)(length - header);
	return true;
}

static unsigned int ecn_of(const struct segment *segment)
{
	return segment->ip6 ? segment->ip[1] >> 4 & 3u : segment->ip[1] & 3u;
}

/* Sets CE, and the header checksum of IPv4 with it. */
static void set_ce(struct segment *segment)
{
	uint8_t *ip = segment->ip;
	uint32_t sum = 0;

	if (segment->ip6) {
		ip[1] |= 0x30;
		return;
	}
	ip[1] |= 3;
	ip[10] = ip[11] = 0;
	for (unsigned int i = 0; i < (ip[0] & 15u) * 4; i += 2)
		sum += (uint32_t)(ip[i] << 8 | ip[i + 1]);
	sum = (sum & 0xffff) + (sum >> 16);
	sum = ~(sum + (sum >> 16)) & 0xffff;
	ip[10] = (uint8_t)(sum >> 8);
	ip[11] = (uint8_t)sum;
}

static struct stream *stream_of(const struct segment *segment, enum way way)
{
	struct stream *stream;

	for (stream = all.streams; stream < all.streams + all.n_streams; stream++)
		if (stream->way == way && stream->sport == segment->sport &&
		    stream->dport == segment->dport)
			return stream;
	if (all.n_streams == STREAMS_MAX) {
		errno = ENOBUFS;
		die("connections");
	}
	all.n_streams++;
	*stream = (struct stream){.way = way, .sport = segment->sport, .dport = segment->dport};
	return stream;
}

/* event: in, out, drop or copy. */
static void log_segment(const char *event, enum way way, const struct segment *segment,
			uint64_t number)
{
	if (all.log)
		fprintf(all.log, "%" PRIu64 ",%s,%s,%u,%u,%u,%u,%u,%u,%u,%" PRIu64 "\n", now_us(),
			event, way == AB ? "ab" : "ba", segment->sport, segment->dport,
			segment->seq, segment->ack, segment->flags, segment->length,
			ecn_of(segment), number);
}

/* The first SYN and SYN-ACK of all; each is thrown away once. */
static bool drop_handshake(const struct segment *segment)
{
	bool *which = segment->flags & TCP_ACK ? &all.drop_synack : &all.drop_syn, drop = *which;

	*which = false;
	return drop;
}

static void mark(struct segment *segment, struct counts *counts, const struct rule *rule)
{
	switch (ecn_of(segment)) {
	case 0:
		return;
	case 3:
		counts->ce++;
		return;
	}
	counts->ect++;
	if (rule_holds(rule, counts->ect)) {
		set_ce(segment);
		counts->marked++;
	}
}

/* True if this segment carries the octet that is to be lost; it is lost only once. */
static bool drop_tail(const struct stream *stream, const struct segment *segment, uint64_t *tail)
{
	uint32_t octet = stream->first + (uint32_t)(*tail - 1);

	if (!*tail || octet - segment->seq >= segment->length)
		return false;
	*tail = 0;
	return true;
}

/* A segment with data: counts and numbers it, delays or copies it. False: it is thrown away. */
static bool impair_data(struct frame *frame, const struct segment *segment, struct counts *counts)
{
	struct stream *stream = frame->stream;
	enum way way = frame->way;
	uint32_t end = segment->seq + segment->length;

	counts->octets += segment->length;
	counts->data++;
	frame->number = ++stream->arrived;
	if (!stream->known || (int32_t)(segment->seq - stream->end) >= 0)
		stream->known = true;
	else
		counts->repeated++;
	if ((int32_t)(end - stream->end) > 0 || stream->arrived == 1)
		stream->end = end;
	if (rule_holds(&all.drop[way], counts->data) ||
	    drop_tail(stream, segment, &all.tail[way])) {
		counts->dropped++;
		return false;
	}
	if (rule_holds(&all.reorder[way], counts->data)) {
		counts->delayed++;
		frame->due_us += all.extra_us;
	}
	return true;
}

static void copy_frame(const struct frame *frame, struct counts *counts)
{
	struct frame *copy = malloc(sizeof(*copy));

	if (!copy)
		die("memory");
	*copy = *frame;
	copy->copy = true;
	counts->duplicated++;
	queue_add(copy);
}

static void arrive(struct frame *frame)
{
	struct counts *counts = &all.counts[frame->way];
	struct segment segment;
	bool keep = true;

	counts->packets++;
	if (!parse(frame, &segment)) {
		queue_add(frame);
		return;
	}
	frame->stream = stream_of(&segment, frame->way);
	if (segment.flags & TCP_SYN) {
		*frame->stream = (struct stream){
			.way = frame->way,
			.sport = segment.sport,
			.dport = segment.dport,
			.first = segment.seq + 1,
			.end = segment.seq + 1,
			.known = true,
		};
		keep = !drop_handshake(&segment);
		counts->syn_dropped += !keep;
	} else if (segment.length) {
		keep = impair_data(frame, &segment, counts);
	}
	mark(&segment, counts, &all.mark[frame->way]);
	log_segment(keep ? "in" : "drop", frame->way, &segment, frame->number);
	if (!keep) {
		free(frame);
		return;
	}
	bool twice = frame->number && rule_holds(&all.duplicate[frame->way], counts->data);

	queue_add(frame);
	if (twice)
		copy_frame(frame, counts);
}

/* RFC 4737: reordered is what goes after something that came later. */
static void depart(struct frame *frame)
{
	struct counts *counts = &all.counts[frame->way];
	struct segment segment;

	all.late += now_us() > frame->due_us + LATE_US;
	if (send(all.socket[!frame->way], frame->data, frame->size, 0) < 0)
		all.unsent++;
	else
		counts->forwarded++;
	if (frame->number && !frame->copy) {
		if (frame->number < frame->stream->gone)
			counts->reordered++;
		else
			frame->stream->gone = frame->number;
	}
	if (all.log && parse(frame, &segment))
		log_segment(frame->copy ? "copy" : "out", frame->way, &segment, frame->number);
	free(frame);
}

static void read_frames(enum way way)
{
	for (unsigned int i = 0; i < BURST; i++) {
		struct frame *frame = malloc(sizeof(*frame));
		ssize_t size;

		if (!frame)
			die("memory");
		size = recv(all.socket[way], frame->data, FRAME_MAX, MSG_DONTWAIT | MSG_TRUNC);
		if (size < ETH_HLEN || size > FRAME_MAX) {
			all.too_long += size > FRAME_MAX;
			free(frame);
			if (size < 0)
				return;
			continue;
		}
		frame->size = (size_t)size;
		frame->way = way;
		frame->number = 0;
		frame->stream = NULL;
		frame->copy = false;
		frame->due_us = now_us() + all.delay_us[way];
		arrive(frame);
	}
}

/* Carries frames until a signal comes and all that arrived before it is gone. */
static void carry(void)
{
	struct pollfd polls[] = {{.fd = all.socket[AB], .events = POLLIN},
				 {.fd = all.socket[BA], .events = POLLIN},
				 {.fd = all.signals, .events = POLLIN}};
	bool ending = false;

	while (!ending || all.n_queue) {
		struct timespec wait = {.tv_sec = 1};

		while (all.n_queue && all.queue[0]->due_us <= now_us())
			depart(queue_take());
		if (all.n_queue) {
			int64_t left = (int64_t)(all.queue[0]->due_us - now_us());

			if (left < 0)
				left = 0;
			wait.tv_sec = left / 1000000;
			wait.tv_nsec = left % 1000000 * 1000;
		} else if (ending) {
			break;
		}
		if (ppoll(polls, ending ? 2 : 3, &wait, NULL) < 0 && errno != EINTR)
			die("poll");
		for (enum way way = AB; way < WAYS; way++)
			if (polls[way].revents & POLLIN)
				read_frames(way);
		ending = ending || polls[2].revents & POLLIN;
	}
}

/* What the kernel had to throw away before it was read. */
static unsigned int missed(int packet_socket)
{
	struct tpacket_stats stats = {0};
	socklen_t size = sizeof(stats);

	getsockopt(packet_socket, SOL_PACKET, PACKET_STATISTICS, &stats, &size);
	return stats.tp_drops;
}

static void print_counts(void)
{
	printf("{");
	for (enum way way = AB; way < WAYS; way++) {
		const struct counts *counts = &all.counts[way];
		const struct {
			const char *name;
			uint64_t value;
		} rows[] = {
			{"packets", counts->packets},
			{"forwarded", counts->forwarded},
			{"data", counts->data},
			{"octets", counts->octets},
			{"repeated", counts->repeated},
			{"dropped", counts->dropped},
			{"delayed", counts->delayed},
			{"reordered", counts->reordered},
			{"duplicated", counts->duplicated},
			{"ect", counts->ect},
			{"ce", counts->ce},
			{"marked", counts->marked},
			{"syn_dropped", counts->syn_dropped},
		};

		printf("\"%s\": {", way == AB ? "ab" : "ba");
		for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++)
			printf("%s\"%s\": %" PRIu64, i ? ", " : "", rows[i].name, rows[i].value);
		printf("}, ");
	}
	printf("\"too_long\": %" PRIu64 ", \"unsent\": %" PRIu64
	       ", \"missed\": %u, \"late\": %" PRIu64 "}\n",
	       all.too_long, all.unsent, missed(all.socket[AB]) + missed(all.socket[BA]), all.late);
}

static int packet_socket(const char *interface)
{
	struct sockaddr_ll address = {.sll_family = AF_PACKET, .sll_protocol = htons(ETH_P_ALL)};
	int fd = socket(AF_PACKET, SOCK_RAW | SOCK_CLOEXEC, 0), one = 1, size = 16 << 20;

	if (fd < 0)
		die("socket");
	address.sll_ifindex = (int)if_nametoindex(interface);
	if (setsockopt(fd, SOL_PACKET, PACKET_IGNORE_OUTGOING, &one, sizeof(one)) < 0 ||
	    setsockopt(fd, SOL_SOCKET, SO_RCVBUFFORCE, &size, sizeof(size)) < 0 ||
	    !address.sll_ifindex || bind(fd, (struct sockaddr *)&address, sizeof(address)) < 0)
		die(interface);
	return fd;
}

/* "ab:..." or "ba:..."; returns what is behind the colon. */
static const char *way_of(const char *text, enum way *ret)
{
	if ((strncmp(text, "ab:", 3) && strncmp(text, "ba:", 3)) || !text[3]) {
		fprintf(stderr, "bump: neither ab: nor ba: '%s'\n", text);
		exit(2);
	}
	*ret = text[0] == 'a' ? AB : BA;
	return text + 3;
}

static uint64_t number_of(const char *text, char **end)
{
	uint64_t number = strtoull(text, end, 10);

	if (*end == text || (**end && **end != ',')) {
		fprintf(stderr, "bump: no number: '%s'\n", text);
		exit(2);
	}
	return number;
}

static void add_rule(const char *text, struct rule rules[WAYS])
{
	enum way way;
	const char *which = way_of(text, &way);
	struct rule *rule = &rules[way];
	char *end;

	if (which[0] == '/') {
		rule->every = number_of(which + 1, &end);
		return;
	}
	do {
		if (rule->n == NUMBERS_MAX) {
			fprintf(stderr, "bump: at most %d numbers\n", NUMBERS_MAX);
			exit(2);
		}
		rule->numbers[rule->n++] = number_of(which, &end);
		which = end + 1;
	} while (*end);
}

static void add_value(const char *text, uint64_t values[WAYS])
{
	enum way way;
	const char *value = way_of(text, &way);
	char *end;

	values[way] = number_of(value, &end);
}

static void read_options(int argc, char **argv)
{
	enum { DELAY, DROP, REORDER, DUPLICATE, MARK, TAIL, SYN, SYNACK, EXTRA, LOG };
	static const struct option options[] = {
		{"delay", required_argument, NULL, DELAY},
		{"drop", required_argument, NULL, DROP},
		{"reorder", required_argument, NULL, REORDER},
		{"duplicate", required_argument, NULL, DUPLICATE},
		{"mark", required_argument, NULL, MARK},
		{"tail", required_argument, NULL, TAIL},
		{"drop-syn", no_argument, NULL, SYN},
		{"drop-synack", no_argument, NULL, SYNACK},
		{"extra", required_argument, NULL, EXTRA},
		{"log", required_argument, NULL, LOG},
		{0},
	};
	struct rule *rules[] = {
		[DROP] = all.drop,
		[REORDER] = all.reorder,
		[DUPLICATE] = all.duplicate,
		[MARK] = all.mark,
	};
	char *end;

	for (int option; (option = getopt_long(argc, argv, "", options, NULL)) != -1;) {
		if (option == DELAY || option == TAIL)
			add_value(optarg, option == DELAY ? all.delay_us : all.tail);
		else if (option >= DROP && option <= MARK)
			add_rule(optarg, rules[option]);
		else if (option == SYN)
			all.drop_syn = true;
		else if (option == SYNACK)
			all.drop_synack = true;
		else if (option == EXTRA)
			all.extra_us = number_of(optarg, &end);
		else if (option != LOG)
			exit(2);
		else if (!(all.log = fopen(optarg, "we")))
			die(optarg);
	}
	if (argc - optind != 2) {
		fprintf(stderr, "usage: bump [options] INTERFACE_A INTERFACE_B\n");
		exit(2);
	}
}

int main(int argc, char **argv)
{
	struct sched_param priority = {.sched_priority = 10};
	sigset_t signals;

	read_options(argc, argv);
	all.socket[AB] = packet_socket(argv[optind]);
	all.socket[BA] = packet_socket(argv[optind + 1]);
	sigemptyset(&signals);
	sigaddset(&signals, SIGTERM);
	sigaddset(&signals, SIGINT);
	sigprocmask(SIG_BLOCK, &signals, NULL);
	all.signals = signalfd(-1, &signals, SFD_CLOEXEC);
	if (all.signals < 0)
		die("signals");
	if (all.log)
		fputs("us,event,way,sport,dport,seq,ack,flags,length,ecn,number\n", all.log);
	/* A wire does not wait for its turn; where this is refused, "late" tells. */
	prctl(PR_SET_TIMERSLACK, 1000UL);
	sched_setscheduler(0, SCHED_FIFO, &priority);
	printf("ready\n");
	fflush(stdout);
	carry();
	print_counts();
	return all.log && fclose(all.log) ? 1 : 0;
}
