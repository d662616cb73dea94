/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A load for tests whose every packet is known: crafted UDP conversations that last and short TCP
 * flows that begin and end all the time, at a steady rate. At the end (SIGTERM, or after SECONDS)
 * writes the account to FILE, a JSON object a flow. Started by the end-to-end tests.
 *
 *   load [options] SRC DST FILE
 *     -r RATE     packets a second, 5000
 *     -n FLOWS    conversations that last, 500: ports 10000 and up of SRC to PORT of DST
 *     -p PORT     9
 *     -k ONE_IN   one packet in so many belongs to a short flow, 8; 0: none
 *     -w          the answers: from PORT of SRC to the ports 10000 and up of DST
 *     -o          each packet within another IPv4 header (protocol 4); the account is the inner's
 *     -s SEED     which random numbers, 1
 *     -t SECONDS  at most, 300
 */
#include <arpa/inet.h>
#include <errno.h>
#include <inttypes.h>
#include <netinet/in.h>
#include <netinet/ip.h>
#include <netinet/ip6.h>
#include <netinet/tcp.h>
#include <netinet/udp.h>
#include <poll.h>
#include <signal.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/signalfd.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

#define FIRST_PORT  10000
#define SHORT_PORT  20000
#define SHORT_OPEN  64 /* short flows at a time */
#define SHORT_MAX   (1 << 21)
#define PAYLOAD_MAX 1000
#define PACKET_MAX  1200
#define BURST	    64
#define TICK_NS	    2000000

/* What is known of one direction of a conversation. */
struct flow {
	uint16_t sport, dport;
	uint8_t protocol, flags;
	uint8_t left; /* packets that a short flow still has */
	uint64_t packets, octets;
};

static struct {
	unsigned long rate, n_flows, port, one_in, seed, seconds;
	bool answers, outer;
	const char *source, *target;
	FILE *file;
	uint8_t addresses[2][16];
	int family, socket, signals;
	struct sockaddr_storage to;
	socklen_t to_size;
	struct flow *flows; /* that last, then short ones */
	size_t size, room, open[SHORT_OPEN];
	uint8_t packets[BURST][PACKET_MAX];
	struct iovec iov[BURST];
	struct mmsghdr messages[BURST];
	size_t of[BURST];
} all = {.rate = 5000, .n_flows = 500, .port = 9, .one_in = 8, .seed = 1, .seconds = 300};

static void die(const char *what)
{
	perror(what);
	exit(1);
}

static uint64_t random_number(void)
{
	all.seed ^= all.seed << 13;
	all.seed ^= all.seed >> 7;
	all.seed ^= all.seed << 17;
	return all.seed;
}

static size_t add_flow(uint8_t protocol, uint16_t here, uint16_t there)
{
	struct flow *flow;

	if (all.size == all.room) {
		all.room = all.room ? all.room * 2 : 4096;
		all.flows = reallocarray(all.flows, all.room, sizeof(*all.flows));
		if (!all.flows)
			die("memory");
	}
	flow = &all.flows[all.size];
	*flow = (struct flow){
		.sport = all.answers ? there : here,
		.dport = all.answers ? here : there,
		.protocol = protocol,
	};
	return all.size++;
}

/* Every short flow has ports of its own. */
static size_t open_short(void)
{
	size_t number = all.size - all.n_flows;
	size_t at = add_flow(IPPROTO_TCP, (uint16_t)(SHORT_PORT + number % 40000),
			     (uint16_t)(SHORT_PORT + number / 40000));

	all.flows[at].left = (uint8_t)(2 + random_number() % 6);
	return at;
}

/* The flow of the next packet and, for TCP, its flags. */
static size_t choose(uint8_t *ret_flags)
{
	struct flow *flow;
	size_t which;
	size_t at;

	*ret_flags = 0;
	if (!all.one_in || random_number() % all.one_in || all.size >= SHORT_MAX)
		return random_number() % all.n_flows;
	which = random_number() % SHORT_OPEN;
	at = all.open[which];
	flow = &all.flows[at];
	if (!flow->packets)
		*ret_flags = TH_SYN | (all.answers ? TH_ACK : 0);
	else
		*ret_flags = TH_ACK | (random_number() % 2 ? TH_PUSH : 0) |
			     (random_number() % 16 ? 0 : TH_URG);
	if (flow->left == 1) {
		*ret_flags |= random_number() % 4 ? TH_FIN : TH_RST;
		all.open[which] = open_short();
		flow = &all.flows[at];
	}
	flow->left--;
	return at;
}

static size_t put_ip(uint8_t *packet, uint8_t protocol, size_t payload)
{
	if (all.family == AF_INET) {
		struct iphdr ip = {
			.version = 4,
			.ihl = 5,
			.ttl = 64,
			.protocol = protocol,
			.tot_len = htons((uint16_t)(sizeof(ip) + payload)),
		};

		memcpy(&ip.saddr, all.addresses[0], 4);
		memcpy(&ip.daddr, all.addresses[1], 4);
		memcpy(packet, &ip, sizeof(ip));
		return sizeof(ip);
	}
	struct ip6_hdr ip6 = {
		.ip6_ctlun.ip6_un1 = {.ip6_un1_flow = htonl(6U << 28),
				      .ip6_un1_plen = htons((uint16_t)payload),
				      .ip6_un1_nxt = protocol,
				      .ip6_un1_hlim = 64},
	};

	memcpy(&ip6.ip6_src, all.addresses[0], 16);
	memcpy(&ip6.ip6_dst, all.addresses[1], 16);
	memcpy(packet, &ip6, sizeof(ip6));
	return sizeof(ip6);
}

static size_t put_transport(uint8_t *packet, const struct flow *flow, uint8_t flags, size_t payload)
{
	struct tcphdr tcp = {.doff = 5, .window = htons(1000)};
	struct udphdr udp = {.len = htons((uint16_t)(sizeof(udp) + payload))};

	if (flow->protocol == IPPROTO_TCP) {
		tcp.th_sport = htons(flow->sport);
		tcp.th_dport = htons(flow->dport);
		tcp.th_flags = flags;
		memcpy(packet, &tcp, sizeof(tcp));
		return sizeof(tcp);
	}
	udp.uh_sport = htons(flow->sport);
	udp.uh_dport = htons(flow->dport);
	memcpy(packet, &udp, sizeof(udp));
	return sizeof(udp);
}

static void craft(size_t slot)
{
	uint8_t *packet = all.packets[slot], flags;
	size_t at = choose(&flags), size = 0;
	const struct flow *flow = &all.flows[at];
	size_t payload = flags & (TH_SYN | TH_FIN | TH_RST) ? 0 : random_number() % PAYLOAD_MAX;
	size_t inner =
		(flow->protocol == IPPROTO_TCP ? sizeof(struct tcphdr) : sizeof(struct udphdr)) +
		payload;

	if (all.outer)
		size = put_ip(packet, IPPROTO_IPIP, sizeof(struct iphdr) + inner);
	size += put_ip(packet + size, flow->protocol, inner);
	size += put_transport(packet + size, flow, flags, payload);
	all.iov[slot].iov_len = size + payload;
	all.of[slot] = at;
	all.flows[at].packets++;
	all.flows[at].octets += size + payload - (all.outer ? sizeof(struct iphdr) : 0);
	all.flows[at].flags |= flags;
}

static void send_burst(unsigned int n)
{
	unsigned int done = 0;

	for (unsigned int i = 0; i < n; i++)
		craft(i);
	while (done < n) {
		int r = sendmmsg(all.socket, all.messages + done, n - done, 0);

		/* A full queue on the way is waited for: what is in the account is sent. */
		if (r < 0 && errno != ENOBUFS && errno != EAGAIN && errno != EINTR)
			die("send");
		if (r < 0)
			poll(NULL, 0, 1);
		else
			done += (unsigned int)r;
	}
}

static uint64_t now_ns(void)
{
	struct timespec now;

	clock_gettime(CLOCK_MONOTONIC, &now);
	return (uint64_t)now.tv_sec * 1000000000 + (uint64_t)now.tv_nsec;
}

/* What a stalled machine missed is not made up for: no burst is longer than BURST. */
static void send_all(void)
{
	const struct timespec tick = {.tv_nsec = TICK_NS};
	struct pollfd end = {.fd = all.signals, .events = POLLIN};
	uint64_t start = now_ns(), last = start, owed = 0;

	while (poll(&end, 1, 0) == 0 && last - start < all.seconds * 1000000000) {
		uint64_t now = now_ns();
		unsigned int n;

		owed += (now - last) * all.rate;
		last = now;
		n = owed / 1000000000 > BURST ? BURST : (unsigned int)(owed / 1000000000);
		owed %= 1000000000;
		send_burst(n);
		nanosleep(&tick, NULL);
	}
}

static void print_account(void)
{
	for (size_t i = 0; i < all.size; i++) {
		const struct flow *flow = &all.flows[i];

		if (flow->packets)
			fprintf(all.file,
				"{\"flow\": [\"%s\", \"%s\", %u, %u, %u], \"packets\": %" PRIu64
				", \"octets\": %" PRIu64 ", \"flags\": %u}\n",
				all.source, all.target, flow->sport, flow->dport, flow->protocol,
				flow->packets, flow->octets, flow->flags);
	}
}

static unsigned long number_of(const char *text, unsigned long least, unsigned long most)
{
	char *end;
	unsigned long value = strtoul(text, &end, 10);

	if (*end || end == text || value < least || value > most) {
		fprintf(stderr, "'%s' is not from %lu to %lu\n", text, least, most);
		exit(2);
	}
	return value;
}

static void read_options(int argc, char **argv)
{
	int option;

	while ((option = getopt(argc, argv, "r:n:p:k:s:t:wo")) >= 0) {
		if (option == 'w')
			all.answers = true;
		else if (option == 'o')
			all.outer = true;
		else if (option == 'r')
			all.rate = number_of(optarg, 1, BURST * 1000000000UL / TICK_NS);
		else if (option == 'n')
			all.n_flows = number_of(optarg, 1, 10000);
		else if (option == 'p')
			all.port = number_of(optarg, 1, FIRST_PORT - 1);
		else if (option == 'k')
			all.one_in = number_of(optarg, 0, 1000000);
		else if (option == 's')
			all.seed = number_of(optarg, 1, UINT32_MAX);
		else if (option == 't')
			all.seconds = number_of(optarg, 1, 3600);
		else
			exit(2);
	}
	if (argc - optind != 3) {
		fprintf(stderr, "usage: load [options] SRC DST FILE\n");
		exit(2);
	}
	all.source = argv[optind];
	all.target = argv[optind + 1];
	all.file = fopen(argv[optind + 2], "we");
	if (!all.file)
		die(argv[optind + 2]);
}

static void open_socket(void)
{
	struct sockaddr_in to4 = {.sin_family = AF_INET};
	struct sockaddr_in6 to6 = {.sin6_family = AF_INET6};

	all.family = strchr(all.source, ':') ? AF_INET6 : AF_INET;
	if (inet_pton(all.family, all.source, all.addresses[0]) != 1 ||
	    inet_pton(all.family, all.target, all.addresses[1]) != 1 ||
	    (all.outer && all.family == AF_INET6)) {
		fprintf(stderr, "addresses\n");
		exit(2);
	}
	memcpy(&to4.sin_addr, all.addresses[1], 4);
	memcpy(&to6.sin6_addr, all.addresses[1], 16);
	all.to_size = all.family == AF_INET ? sizeof(to4) : sizeof(to6);
	memcpy(&all.to, all.family == AF_INET ? (void *)&to4 : (void *)&to6, all.to_size);
	/* IPPROTO_RAW: the header is ours. */
	all.socket = socket(all.family, SOCK_RAW | SOCK_CLOEXEC, IPPROTO_RAW);
	if (all.socket < 0)
		die("socket");
	for (unsigned int i = 0; i < BURST; i++) {
		all.iov[i].iov_base = all.packets[i];
		all.messages[i].msg_hdr = (struct msghdr){
			.msg_name = &all.to,
			.msg_namelen = all.to_size,
			.msg_iov = &all.iov[i],
			.msg_iovlen = 1,
		};
	}
}

int main(int argc, char **argv)
{
	sigset_t signals;

	read_options(argc, argv);
	for (int i = 0; i < 8; i++)
		random_number();
	open_socket();
	for (unsigned long i = 0; i < all.n_flows; i++)
		add_flow(IPPROTO_UDP, (uint16_t)(FIRST_PORT + i), (uint16_t)all.port);
	for (unsigned int i = 0; i < SHORT_OPEN; i++)
		all.open[i] = open_short();
	sigemptyset(&signals);
	sigaddset(&signals, SIGTERM);
	sigaddset(&signals, SIGINT);
	sigprocmask(SIG_BLOCK, &signals, NULL);
	all.signals = signalfd(-1, &signals, SFD_CLOEXEC);
	if (all.signals < 0)
		die("signals");
	send_all();
	print_account();
	return fclose(all.file) ? 1 : 0;
}
