/* SPDX-License-Identifier: Apache-2.0 */
/* QUIC: recognised by long headers (RFC 8999, RFC 9000 17.2), timed by the spin bit (RFC
 * 9000 17.4). */
#include <netinet/in.h>
#include <string.h>
#include <unistd.h>

#include "harness.h"
#include "test.h"

#define CLIENT 0
#define SERVER 1
#define V1     0x00000001u

static struct harness h;
static struct packet p;
static uint16_t port = 1000; /* of the client: another for each case, as cells are not cleared */

/* A UDP packet from one side up to its payload. */
static void udp(int from, bool ip6)
{
	packet_new(&p);
	packet_eth(&p);
	if (ip6)
		packet_ip6(&p, .src = 1 + from, .dst = 2 - from, .next = IPPROTO_UDP);
	else
		packet_ip4(&p, .src = 0x0a000001 + from, .dst = 0x0a000002 - from,
			   .protocol = IPPROTO_UDP);
	packet_udp(&p, from == CLIENT ? port : 443, from == CLIENT ? 443 : port);
}

static void send_packet(void)
{
	packet_end(&p);
	harness_packet(&h, &p, .ifindex = 2);
}

/* destination, source: lengths of the connection ids. */
static void long_header(int from, uint32_t version, uint8_t destination, uint8_t source)
{
	uint8_t octets[7 + 40] = {0xc3,		version >> 24, version >> 16,
				  version >> 8, version,       destination};

	udp(from, false);
	octets[6 + (destination <= 40 ? destination : 0)] = source;
	packet_octets(&p, octets, sizeof(octets));
	packet_payload(&p, 1100);
	send_packet();
}

static void short_header(int from, bool spin)
{
	uint8_t octets[20] = {0x40 | (spin ? 0x20 : 0)};

	udp(from, false);
	packet_octets(&p, octets, sizeof(octets));
	packet_payload(&p, 100);
	send_packet();
}

/* The figures of one side, all zero where there is no slot. */
static struct fm_tcp_half figures(int from)
{
	struct fm_slot *slot;

	if (harness_slots(&h, &slot) != 1)
		return (struct fm_tcp_half){};
	/* Endpoint 0 is the smaller address: the client's. */
	return harness_tcp(&h, slot)->half[from];
}

static void begin(void)
{
	harness_reset(&h);
	port++;
}

static void test_recognised(void)
{
	static const uint32_t versions[] = {V1,		0x6b3343cf, 0xff00001d, 0x51303436,
					    0x54303531, 0xfaceb002, 0x1a2a3a4a};

	for (size_t i = 0; i < sizeof(versions) / sizeof(versions[0]); i++) {
		struct fm_tcp_half half;

		begin();
		long_header(CLIENT, versions[i], 8, 0);
		half = figures(CLIENT);
		FM_TEST(half.quic_version == versions[i] && (half.notes & FM_TCP_NOTE_QUIC),
			"version %08x", versions[i]);
	}
}

static void test_not_recognised(void)
{
	static const struct {
		uint32_t version;
		uint8_t destination, source;
		const char *why;
	} cases[] = {
		{0x00000002, 8, 8, "unknown version"},
		{0xc0ffee00, 8, 8, "random octets"},
		{V1, 21, 8, "destination id too long"},
		{V1, 8, 21, "source id too long"},
	};

	for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
		struct fm_tcp_half half;

		begin();
		long_header(CLIENT, cases[i].version, cases[i].destination, cases[i].source);
		short_header(CLIENT, true);
		short_header(CLIENT, false);
		half = figures(CLIENT);
		FM_TEST(!half.notes && !half.quic_version && !half.rtt_samples, "%s", cases[i].why);
	}
}

static void test_ids(void)
{
	struct fm_tcp_half client, server;

	begin();
	long_header(CLIENT, V1, 8, 0);
	long_header(SERVER, V1, 0, 8);
	client = figures(CLIENT);
	server = figures(SERVER);
	FM_TEST((client.options & FM_QUIC_DESTINATION) && !(client.notes & FM_TCP_NOTE_QUIC_SOURCE),
		"destination id only");
	FM_TEST(!(server.options & FM_QUIC_DESTINATION) && (server.notes & FM_TCP_NOTE_QUIC_SOURCE),
		"source id only");
}

/* A client that turns the bit each round of some milliseconds. */
static void test_spin(void)
{
	struct fm_tcp_half client, server;

	begin();
	long_header(CLIENT, V1, 8, 8);
	long_header(SERVER, V1, 8, 8);
	for (unsigned int round = 0; round < 6; round++) {
		for (unsigned int i = 0; i < 5; i++)
			short_header(CLIENT, round & 1);
		for (unsigned int i = 0; i < 5; i++)
			short_header(SERVER, false);
		usleep(20000);
	}
	client = figures(CLIENT);
	server = figures(SERVER);
	/* The bit is known with the first packet and changes five times: four whole rounds. */
	FM_TEST(client.rtt_samples == 4, "spin: four rounds, %u", client.rtt_samples);
	FM_TEST(~client.rtt_low >= 20000 && client.rtt_sum_us >= 80000 &&
			client.rtt_max_us >= ~client.rtt_low,
		"spin: no shorter than the pause, %u us", ~client.rtt_low);
	FM_TEST(server.rtt_samples == 0, "spin: a bit that stands still tells nothing");
	FM_TEST(harness_identity(&h), "spin: all counted");
}

/* Headers cut at every octet; never more than there is. */
static void test_cut(void)
{
	size_t good = 0;

	for (size_t cut = 0; cut < 40; cut++) {
		static const uint8_t octets[] = {0xc3, 0, 0, 0, 1, 8, 1, 2, 3, 4,
						 5,    6, 7, 8, 0, 9, 9, 9, 9, 9};

		begin();
		udp(CLIENT, cut & 1);
		packet_octets(&p, octets, cut < sizeof(octets) ? cut : sizeof(octets));
		packet_end(&p);
		if (cut >= sizeof(octets)) /* behind what the length field says */
			packet_payload(&p, 100);
		harness_packet(&h, &p, .ifindex = 2);
		good += figures(CLIENT).quic_version == V1;
		if (!harness_identity(&h))
			fm_test_ok(false, "cut at %zu", cut);
	}
	/* Whole from the source id's length on, which is the 15th octet. */
	FM_TEST(good == 40 - 15, "recognised from 15 octets on: %zu of 40", good);
}

int main(void)
{
	struct fm_kernel_options options = {.max_flows = 64, .tcp = true};
	int r;

	if (!harness_allowed())
		return fm_test_skip_all("needs root");
	r = harness_devices(3);
	if (r == 0)
		r = harness_init(&h, &options);
	if (r < 0)
		return fm_test_bail("harness", r);
	test_recognised();
	test_not_recognised();
	test_ids();
	test_spin();
	test_cut();
	harness_done(&h);
	return fm_test_done();
}
