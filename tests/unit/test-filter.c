/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Rules of the filter: what each word means for a packet, what is refused and where, limits, and
 * random rules: what the tables say is what the rules were made to mean.
 */
#include <arpa/inet.h>
#include <errno.h>
#include <netinet/in.h>
#include <string.h>

#include "base/macro.h"
#include "some-filters.h"
#include "test.h"

#define TREES	      1500
#define PACKETS	      200
#define MANY_PREFIXES 50000
#define FIN	      0x01
#define SYN	      0x02
#define ACK	      0x10

static char folder[] = "/tmp/flowmond-filter-XXXXXX";

/* A file of the test's folder; its path is the answer, until the next. */
static const char *write_file(const char *name, const char *text)
{
	static char path[256];
	FILE *file;

	snprintf(path, sizeof(path), "%s/%s", folder, name);
	file = fopen(path, "we");
	if (!file || fputs(text, file) < 0 || fclose(file))
		exit(fm_test_bail(path, errno));
	return path;
}

/* --- words --- */

static void address(const char *text, uint8_t ret[16])
{
	memset(ret, 0, 16);
	if (inet_pton(AF_INET6, text, ret) == 1)
		return;
	ret[10] = ret[11] = 0xff;
	inet_pton(AF_INET, text, ret + 12);
}

/* A packet such as "10.0.0.1 192.0.2.1 tcp 40000 80 syn", with "vlan 5", "eth1", "out" if so. */
static struct fm_filter_packet packet_of(const char *text)
{
	static const struct {
		const char *word;
		uint8_t number;
		bool ports;
	} protocols[] = {
		{"tcp", IPPROTO_TCP, true},
		{"udp", IPPROTO_UDP, true},
		{"sctp", IPPROTO_SCTP, true},
		{"dccp", IPPROTO_DCCP, true},
		{"udplite", IPPROTO_UDPLITE, true},
		{"icmp", IPPROTO_ICMP, false},
		{"icmp6", IPPROTO_ICMPV6, false},
		{"gre", IPPROTO_GRE, false},
		{"esp", IPPROTO_ESP, false},
		{"ah", IPPROTO_AH, false},
		{"ospf", 89, false},
	};
	struct fm_filter_packet packet = {.ifindex = 2};
	char words[128], *word, *rest = NULL;
	unsigned int n = 0;

	snprintf(words, sizeof(words), "%s", text);
	for (word = strtok_r(words, " ", &rest); word; word = strtok_r(NULL, " ", &rest), n++) {
		if (n < 2)
			address(word, packet.addr[n]);
		for (size_t i = 0; i < FM_ARRAY_SIZE(protocols); i++)
			if (!strcmp(word, protocols[i].word)) {
				packet.protocol = protocols[i].number;
				packet.has_ports = protocols[i].ports;
			}
		if (packet.has_ports && (n == 3 || n == 4))
			packet.port[n - 3] = (uint16_t)atoi(word);
		packet.flags |= (uint8_t)(!strcmp(word, "syn")	 ? SYN
					  : !strcmp(word, "ack") ? ACK
								 : 0);
		if (!strcmp(word, "vlan"))
			packet.vlan = (uint16_t)atoi(rest);
		if (!strcmp(word, "eth1"))
			packet.ifindex = 3;
		if (!strcmp(word, "blue"))
			packet.ifindex = 0x01000002;
		if (!strcmp(word, "out"))
			packet.hook = FM_HOOK_EGRESS;
	}
	packet.family = strchr(text, ':') ? 6 : 4;
	packet.has_flags = packet.protocol == IPPROTO_TCP;
	return packet;
}

static struct fm_filter_rules *rules_of(const char *text, struct fm_buf *complaint)
{
	struct fm_filter_rules *rules = NULL;

	if (fm_filter_rules_new(&rules) < 0)
		exit(fm_test_bail("memory", ENOMEM));
	if (fm_filter_rules_add(rules, text, complaint) < 0)
		rules = fm_filter_rules_free(rules);
	return rules;
}

/* Whether a rule holds for a packet; -1: it is none. */
static int holds(const char *expression, const char *packet_text)
{
	_fm_cleanup_(fm_filter_rules_freep) struct fm_filter_rules *rules = NULL;
	_fm_cleanup_filter_ struct fm_filter_tables tables = {};
	_fm_cleanup_buf_ struct fm_buf text = {}, complaint = {};
	struct fm_filter_packet packet = packet_of(packet_text);

	fm_buf_printf(&text, "exclude %s", expression);
	rules = rules_of(text.data, &complaint);
	if (!rules || fm_filter_compile(rules, FM_FILTER_INCLUDE, NULL, some_interfaces,
					some_n_interfaces, &tables, &complaint) < 0) {
		FM_TEST_NOTE("%s", complaint.data);
		return -1;
	}
	return fm_filter_look(&tables, &packet) == 0;
}

static const struct {
	const char *expression, *yes[4], *no[4];
} terms[] = {
	{"", {"10.0.0.1 10.0.0.2 tcp 1 2", "::1 ::2 icmp6"}, {}},
	{"any", {"10.0.0.1 10.0.0.2 tcp 1 2", "::1 ::2 icmp6"}, {}},
	{"not any", {}, {"10.0.0.1 10.0.0.2 tcp 1 2"}},
	{"host 10.0.0.1",
	 {"10.0.0.1 10.0.0.2 tcp 1 2", "10.0.0.2 10.0.0.1 icmp"},
	 {"10.0.0.3 10.0.0.2 tcp 1 2", "::a00:1 ::2 tcp 1 2"}},
	{"src host 10.0.0.1", {"10.0.0.1 10.0.0.2 udp 1 2"}, {"10.0.0.2 10.0.0.1 udp 1 2"}},
	{"dst host 10.0.0.1", {"10.0.0.2 10.0.0.1 udp 1 2"}, {"10.0.0.1 10.0.0.2 udp 1 2"}},
	{"dst 10.0.0.1", {"10.0.0.2 10.0.0.1 udp 1 2"}, {"10.0.0.1 10.0.0.2 udp 1 2"}},
	{"src 10.0.0.0/8", {"10.9.0.1 1.0.0.2 udp 1 2"}, {"1.0.0.1 10.0.0.2 udp 1 2"}},
	{"src or dst host 10.0.0.1", {"10.0.0.2 10.0.0.1 udp 1 2"}, {"10.0.0.2 10.0.0.3 udp 1 2"}},
	{"dst or src host 10.0.0.1", {"10.0.0.2 10.0.0.1 udp 1 2"}, {"10.0.0.2 10.0.0.3 udp 1 2"}},
	{"src and dst net 10.0.0.0/8",
	 {"10.0.0.2 10.0.0.1 udp 1 2"},
	 {"10.0.0.2 11.0.0.3 udp 1 2", "11.0.0.2 10.0.0.3 udp 1 2"}},
	{"net 192.0.2.128/25",
	 {"192.0.2.128 1.1.1.1 gre", "1.1.1.1 192.0.2.255 gre"},
	 {"192.0.2.127 1.1.1.1 gre", "192.0.3.0 1.1.1.1 gre"}},
	{"net 2001:db8::/32",
	 {"2001:db8::1 ::1 udp 1 2", "::1 2001:db8:ffff:ffff:ffff:ffff:ffff:ffff udp 1 2"},
	 {"2001:db9::1 ::1 udp 1 2", "10.0.0.1 10.0.0.2 udp 1 2"}},
	{"net 0.0.0.0/0", {"1.0.0.0 255.255.255.255 icmp"}, {"::1 ::2 icmp6"}},
	{"net ::/0", {"::1 ffff:: icmp6"}, {"1.0.0.0 255.255.255.255 icmp"}},
	{"net ::/64", {"::1 ffff:: icmp6"}, {"1.0.0.0 255.255.255.255 icmp", "1:: 1::2 icmp6"}},
	{"not net ::/0", {"1.0.0.0 255.255.255.255 icmp"}, {"::1 ffff:: icmp6"}},
	{"host ::ffff:10.0.0.1", {"10.0.0.1 10.0.0.2 tcp 1 2"}, {"10.0.0.3 10.0.0.2 tcp 1 2"}},
	{"net 255.255.255.255/32",
	 {"1.1.1.1 255.255.255.255 udp 1 2"},
	 {"1.1.1.1 1.1.1.2 udp 1 2"}},
	{"host ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff",
	 {"::1 ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff udp 1 2"},
	 {"::1 ffff:ffff:ffff:ffff:ffff:ffff:ffff:fffe udp 1 2"}},
	{"port 53",
	 {"10.0.0.1 10.0.0.2 udp 53 1", "::1 ::2 tcp 1 53", "::1 ::2 sctp 1 53",
	  "10.0.0.1 10.0.0.2 dccp 53 1"},
	 {"10.0.0.1 10.0.0.2 udp 54 1", "::1 ::2 icmp6"}},
	{"not port 53",
	 {"10.0.0.1 10.0.0.2 udp 54 1", "::1 ::2 icmp6"},
	 {"10.0.0.1 10.0.0.2 udplite 1 53"}},
	{"port 0", {"10.0.0.1 10.0.0.2 udp 0 1"}, {"10.0.0.1 10.0.0.2 gre"}},
	{"port 65535", {"10.0.0.1 10.0.0.2 udp 1 65535"}, {"10.0.0.1 10.0.0.2 icmp"}},
	{"src port 53", {"10.0.0.1 10.0.0.2 udp 53 1"}, {"10.0.0.1 10.0.0.2 udp 1 53"}},
	{"dst port 53", {"10.0.0.1 10.0.0.2 udp 1 53"}, {"10.0.0.1 10.0.0.2 udp 53 1"}},
	{"port domain", {"10.0.0.1 10.0.0.2 udp 1 53"}, {"10.0.0.1 10.0.0.2 udp 1 54"}},
	{"tcp port https", {"10.0.0.1 10.0.0.2 tcp 1 443"}, {"10.0.0.1 10.0.0.2 udp 1 443"}},
	{"tcp port 53", {"10.0.0.1 10.0.0.2 tcp 1 53"}, {"10.0.0.1 10.0.0.2 udp 1 53"}},
	{"not tcp port 53",
	 {"10.0.0.1 10.0.0.2 udp 1 53", "::1 ::2 tcp 1 54"},
	 {"10.0.0.1 10.0.0.2 tcp 1 53"}},
	{"tcp dst port 53 or 54",
	 {"10.0.0.1 10.0.0.2 tcp 1 53", "::1 ::2 tcp 1 54"},
	 {"10.0.0.1 10.0.0.2 tcp 53 1", "::1 ::2 udp 1 54"}},
	{"portrange 6000-6010",
	 {"10.0.0.1 10.0.0.2 udp 6000 1", "::1 ::2 tcp 1 6010"},
	 {"10.0.0.1 10.0.0.2 udp 5999 1", "::1 ::2 tcp 1 6011"}},
	{"portrange 0-65535", {"10.0.0.1 10.0.0.2 udp 6000 1"}, {"10.0.0.1 10.0.0.2 icmp"}},
	{"port 80 or 443",
	 {"10.0.0.1 10.0.0.2 tcp 80 1", "::1 ::2 tcp 1 443"},
	 {"10.0.0.1 10.0.0.2 udp 81 1"}},
	{"port 80 and 443", {"10.0.0.1 10.0.0.2 tcp 80 443"}, {"10.0.0.1 10.0.0.2 udp 80 1"}},
	{"not port (80 or 443)",
	 {"10.0.0.1 10.0.0.2 tcp 1 2"},
	 {"10.0.0.1 10.0.0.2 tcp 80 1", "::1 ::2 tcp 1 443"}},
	{"host 10.0.0.1 or 10.0.0.2 or port 53",
	 {"10.0.0.2 1.1.1.1 icmp", "1.1.1.1 10.0.0.1 icmp", "1.1.1.1 1.1.1.2 udp 1 53"},
	 {"1.1.1.1 1.1.1.2 udp 1 54"}},
	{"ip", {"10.0.0.1 10.0.0.2 tcp 1 2"}, {"::1 ::2 tcp 1 2"}},
	{"ip6", {"::1 ::2 tcp 1 2"}, {"10.0.0.1 10.0.0.2 tcp 1 2"}},
	{"ip6 host ::1", {"::1 ::2 tcp 1 2"}, {"::3 ::2 tcp 1 2"}},
	{"ip proto 17", {"10.0.0.1 10.0.0.2 udp 1 2"}, {"::1 ::2 udp 1 2"}},
	{"proto 17", {"10.0.0.1 10.0.0.2 udp 1 2", "::1 ::2 udp 1 2"}, {"::1 ::2 tcp 1 2"}},
	{"proto 89 or 47", {"1.1.1.1 1.1.1.2 ospf", "::1 ::2 gre"}, {"::1 ::2 tcp 1 2"}},
	{"tcp", {"::1 ::2 tcp 1 2"}, {"::1 ::2 udp 1 2"}},
	{"udp", {"::1 ::2 udp 1 2"}, {"::1 ::2 tcp 1 2"}},
	{"sctp", {"::1 ::2 sctp 1 2"}, {"::1 ::2 tcp 1 2"}},
	{"dccp", {"::1 ::2 dccp 1 2"}, {"::1 ::2 tcp 1 2"}},
	{"udplite", {"::1 ::2 udplite 1 2"}, {"::1 ::2 udp 1 2"}},
	{"icmp", {"1.1.1.1 1.1.1.2 icmp"}, {"::1 ::2 icmp", "::1 ::2 icmp6"}},
	{"icmp6", {"::1 ::2 icmp6"}, {"1.1.1.1 1.1.1.2 icmp"}},
	{"gre", {"::1 ::2 gre"}, {"::1 ::2 esp"}},
	{"esp", {"::1 ::2 esp"}, {"::1 ::2 ah"}},
	{"ah", {"::1 ::2 ah"}, {"::1 ::2 gre"}},
	{"vlan", {"::1 ::2 gre vlan 1", "::1 ::2 gre vlan 4095"}, {"::1 ::2 gre"}},
	{"vlan 5", {"::1 ::2 gre vlan 5"}, {"::1 ::2 gre", "::1 ::2 gre vlan 6"}},
	{"vlan 5 or 6", {"::1 ::2 gre vlan 6"}, {"::1 ::2 gre vlan 7"}},
	{"vlan (5 or 6)", {"::1 ::2 gre vlan 6"}, {"::1 ::2 gre vlan 7"}},
	{"not vlan", {"::1 ::2 gre"}, {"::1 ::2 gre vlan 7"}},
	{"flags syn",
	 {"::1 ::2 tcp 1 2 syn", "::1 ::2 tcp 1 2 syn ack"},
	 {"::1 ::2 tcp 1 2 ack", "::1 ::2 udp 1 2"}},
	{"flags syn,!ack",
	 {"::1 ::2 tcp 1 2 syn"},
	 {"::1 ::2 tcp 1 2 syn ack", "::1 ::2 tcp 1 2", "::1 ::2 udp 1 2"}},
	{"not flags syn,!ack",
	 {"::1 ::2 tcp 1 2 syn ack", "::1 ::2 udp 1 2"},
	 {"::1 ::2 tcp 1 2 syn"}},
	{"flags (!syn or ack)",
	 {"::1 ::2 tcp 1 2", "::1 ::2 tcp 1 2 syn ack"},
	 {"::1 ::2 tcp 1 2 syn"}},
	{"interface eth0", {"::1 ::2 gre"}, {"::1 ::2 gre eth1", "::1 ::2 gre blue"}},
	{"interface eth*", {"::1 ::2 gre", "::1 ::2 gre eth1"}, {"::1 ::2 gre blue"}},
	{"interface eth*@blue", {"::1 ::2 gre blue"}, {"::1 ::2 gre"}},
	{"interface wan0 or eth1", {"::1 ::2 gre eth1"}, {"::1 ::2 gre"}},
	{"not interface eth0", {"::1 ::2 gre eth1"}, {"::1 ::2 gre"}},
	{"in", {"::1 ::2 gre"}, {"::1 ::2 gre out"}},
	{"outbound", {"::1 ::2 gre out"}, {"::1 ::2 gre"}},
	{"not in", {"::1 ::2 gre out"}, {"::1 ::2 gre"}},
	{"in or out", {"::1 ::2 gre out", "::1 ::2 gre"}, {}},
	{"interface eth0 and in", {"::1 ::2 gre"}, {"::1 ::2 gre out", "::1 ::2 gre eth1"}},
	/* 'not' binds first, the rest is said by parentheses */
	{"not tcp and port 53", {"::1 ::2 udp 1 53"}, {"::1 ::2 tcp 1 53", "::1 ::2 icmp6"}},
	{"not (tcp and port 53)", {"::1 ::2 udp 1 53", "::1 ::2 icmp6"}, {"::1 ::2 tcp 1 53"}},
	{"(tcp and port 53) or icmp6", {"::1 ::2 icmp6", "::1 ::2 tcp 1 53"}, {"::1 ::2 tcp 1 5"}},
	{"tcp and (port 53 or vlan)", {"::1 ::2 tcp 1 53"}, {"::1 ::2 udp 1 53 vlan 5"}},
	{"!tcp&&(udp||!(icmp6))", {"::1 ::2 udp 1 2", "::1 ::2 gre"}, {"::1 ::2 icmp6"}},
	{"not not tcp", {"::1 ::2 tcp 1 2"}, {"::1 ::2 udp 1 2"}},
	{"tcp and udp", {}, {"::1 ::2 tcp 1 2", "::1 ::2 udp 1 2"}},
	{"tcp or not tcp", {"::1 ::2 tcp 1 2", "::1 ::2 udp 1 2"}, {}},
};

static void test_terms(void)
{
	for (size_t i = 0; i < FM_ARRAY_SIZE(terms); i++) {
		bool good = true;

		for (size_t p = 0; p < 4; p++) {
			const char *yes = terms[i].yes[p], *no = terms[i].no[p];

			if (yes && holds(terms[i].expression, yes) != 1) {
				FM_TEST_NOTE("does not hold for %s", yes);
				good = false;
			}
			if (no && holds(terms[i].expression, no) != 0) {
				FM_TEST_NOTE("holds for %s", no);
				good = false;
			}
		}
		FM_TEST(good, "'%s'", terms[i].expression);
	}
}

/* --- what is refused --- */

static bool is_refused(const char *text, const char *reason)
{
	_fm_cleanup_buf_ struct fm_buf complaint = {};
	struct fm_filter_rules *rules = rules_of(text, &complaint);

	if (!rules && complaint.data && strstr(complaint.data, reason))
		return true;
	FM_TEST_NOTE("%.300s: %s", text, complaint.data ? complaint.data : "taken");
	fm_filter_rules_free(rules);
	return false;
}

/* Beside those of golden/config/filter-errors.conf. */
static void test_errors(void)
{
	static const struct {
		const char *text, *reason;
	} errors[] = {
		{"", "at the end: expected include"},
		{"includes", "'includes' (character 1): expected include"},
		{"exclude\tudp and", "at the end: expected host"},
		{"sample 1 in 4294967296 packets", "'4294967296' (character 13)"},
		{"sample 1 in 99999999999999999999 packets", "expected a number"},
		{"sample 1 of 10 packets", "'of' (character 10): expected in N"},
		{"exclude )", "')' (character 9)"},
		{"exclude ()", "')' (character 10)"},
		{"exclude port (53", "at the end: expected 'and', 'or' or ')'"},
		{"exclude port (53 or tcp)", "'tcp' (character 21): expected a port"},
		{"exclude port ()", "')' (character 15): expected a port"},
		{"exclude port (53 or 54 and 55)", "expected parentheses"},
		{"exclude port -1", "expected a port"},
		{"exclude port 53x", "expected a port"},
		{"exclude port nonesuch", "'nonesuch' (character 14): expected a port"},
		{"exclude portrange 1-", "expected ports such as"},
		{"exclude portrange -1", "expected ports such as"},
		{"exclude portrange 1-65536", "expected ports such as"},
		{"exclude host 10.0.0", "expected an IPv4 or IPv6 address"},
		{"exclude host 10.0.0.0/8", "expected an IPv4 or IPv6 address"},
		{"exclude host example.net", "expected an IPv4 or IPv6 address"},
		{"exclude net 10.0.0.0/33", "expected a prefix"},
		{"exclude net 10.0.0.0/", "expected a prefix"},
		{"exclude net /8", "expected a prefix"},
		{"exclude net 2001:db8::/129", "expected a prefix"},
		{"exclude net 10.0.0.128/24", "expected 10.0.0.0/24"},
		{"exclude net 2001:db8:8000::/32", "expected 2001:db8::/32"},
		{"exclude proto 256", "from 0 to 255"},
		{"exclude proto tcp", "'tcp' (character 15): expected a number"},
		{"exclude vlan 0", "from 1 to 4095"},
		{"exclude flags", "expected flags such as"},
		{"exclude flags syn,", "expected flags such as"},
		{"exclude flags ,syn", "expected flags such as"},
		{"exclude flags SYN", "expected flags such as"},
		{"exclude interface a/b", "expected an interface"},
		{"exclude interface wlp0s20f3u1u4i2x", "expected an interface"},
		{"exclude icmp port 53", "expected 'and' or 'or' behind icmp"},
		{"exclude ip port 53", "expected host, net or proto behind ip"},
		{"exclude src vlan 5", "expected host, net, port or portrange"},
		{"exclude src or tcp", "expected host, net, port or portrange"},
		{"exclude not port 53 or 80", "expected parentheses behind 'not'"},
		{"exclude (tcp or udp) and in or out", "'or' (character 29): expected parentheses"},
		{"exclude tcp | udp", "'|' (character 13)"},
		{"exclude net file /dev/null", "/dev/null: expected a regular file"},
		{"exclude net file /tmp", "/tmp: Is a directory"},
	};

	for (size_t i = 0; i < FM_ARRAY_SIZE(errors); i++)
		FM_TEST(is_refused(errors[i].text, errors[i].reason), "refused: '%s'",
			errors[i].text);
}

static void test_bad_files(void)
{
	static const struct {
		const char *text, *reason;
	} files[] = {
		{"10.0.0.0/8\n\n# fine\nnonsense\n", "bad:4: 'nonsense': expected a prefix"},
		{"10.0.0.0/8 10.0.0.0/9\n", "bad:1: '10.0.0.0/8 10.0.0.0/9': expected one prefix"},
		{"10.0.0.1/8 # host\n", "bad:1: '10.0.0.1/8': expected 10.0.0.0/8"},
		{"10.0.0.0/8,\n", "bad:1: "},
		{"\n2001:db8::/32/1", "bad:2: "},
	};
	_fm_cleanup_buf_ struct fm_buf text = {}, longer = {};

	for (size_t i = 0; i < FM_ARRAY_SIZE(files); i++) {
		text.size = 0;
		fm_buf_printf(&text, "exclude net file %s", write_file("bad", files[i].text));
		FM_TEST(is_refused(text.data, files[i].reason), "a file is refused: %s",
			files[i].reason);
	}
	for (unsigned int i = 0; i < 1000; i++)
		fm_buf_printf(&longer, "x");
	write_file("bad", longer.data);
	FM_TEST(is_refused(text.data, "bad:1: expected a line of text"), "a file of one line");
	unlink(write_file("bad", ""));
	FM_TEST(is_refused(text.data, "bad: No such file"), "a file that is not there");
}

/* --- limits --- */

static void test_depth(void)
{
	_fm_cleanup_buf_ struct fm_buf deep = {}, deeper = {}, flat = {};
	_fm_cleanup_(fm_filter_rules_freep) struct fm_filter_rules *rules = NULL;
	_fm_cleanup_buf_ struct fm_buf complaint = {};

	fm_buf_printf(&deep, "include ");
	fm_buf_printf(&deeper, "include ");
	for (unsigned int i = 0; i < 100000; i++)
		fm_buf_printf(&deeper, i & 1 ? "(" : "not ");
	for (unsigned int i = 0; i < 32; i++)
		fm_buf_printf(&deep, "(");
	fm_buf_printf(&deep, "tcp");
	for (unsigned int i = 0; i < 32; i++)
		fm_buf_printf(&deep, ")");
	rules = rules_of(deep.data, &complaint);
	FM_TEST(rules, "32 parentheses in each other");
	FM_TEST(is_refused(deeper.data, "expected at most 32"), "a hundred thousand are refused");
	fm_buf_printf(&flat, "include tcp");
	for (unsigned int i = 0; i < 1000; i++)
		fm_buf_printf(&flat, " or (port %u)", i);
	rules = fm_filter_rules_free(rules);
	rules = rules_of(flat.data, &complaint);
	FM_TEST(rules && rules->clauses.n == 3, "a thousand beside each other are three clauses");
}

static void test_clauses(void)
{
	_fm_cleanup_buf_ struct fm_buf text = {}, complaint = {};
	_fm_cleanup_(fm_filter_rules_freep) struct fm_filter_rules *rules = NULL;
	unsigned int n = 0;

	/* Each is an address with a port of its own: no two are one clause. */
	fm_buf_printf(&text, "include (src host 10.0.0.0 and dst port 0)");
	for (unsigned int i = 1; i < FM_FILTER_CLAUSES_MAX; i++)
		fm_buf_printf(&text, " or (src host 10.0.%u.%u and dst port %u)", i / 256, i % 256,
			      i);
	rules = rules_of(text.data, &complaint);
	FM_TEST(rules && rules->clauses.n == FM_FILTER_CLAUSES_MAX,
		"as many clauses as there can be");
	FM_TEST(rules && fm_filter_check(rules, &complaint) == 0, "the tables have room for them");
	FM_TEST(rules && fm_filter_rules_add(rules, "exclude in", &complaint) == -E2BIG &&
			strstr(complaint.data, "this one 1, those before 511"),
		"one more is refused");
	fm_buf_printf(&text, " or (src host 10.9.9.9 and dst port 999)");
	FM_TEST(is_refused(text.data, "more than 511 clauses"), "one more in a rule is refused");
	rules = fm_filter_rules_free(rules);
	rules = rules_of("include tcp", &complaint);
	while (rules && n < 1000 && fm_filter_rules_add(rules, "include tcp", &complaint) == 0)
		n++;
	FM_TEST(n == FM_FILTER_RULES_MAX - 1 && strstr(complaint.data, "at most 255 rules"),
		"as many rules as there can be");
}

static void test_samplers(void)
{
	_fm_cleanup_buf_ struct fm_buf complaint = {};
	_fm_cleanup_(fm_filter_rules_freep) struct fm_filter_rules *rules =
		rules_of("sample 1 in 2 packets", &complaint);
	static const char *const methods[] = {"packets", "random", "flows"};
	int r = 0;

	for (unsigned int i = 1; i < 45 && r == 0; i++) { /* each three times */
		char text[64];

		snprintf(text, sizeof(text), "sample 1 in %u %s udp", 2 + i % 15 / 3,
			 methods[i % 3]);
		r = fm_filter_rules_add(rules, text, &complaint);
	}
	FM_TEST(r == 0 && rules->n_samplers == 16 && rules->rules[0].sampler == 1 &&
			rules->rules[44].sampler == 15 && rules->rules[30].sampler == 1 &&
			rules->samplers[15].interval == 6 &&
			rules->samplers[15].method == FM_SAMPLE_FLOWS,
		"fifteen samplers, each with one number");
	FM_TEST(fm_filter_rules_add(rules, "sample 1 in 7 flows", &complaint) == -E2BIG &&
			strstr(complaint.data, "at most 15"),
		"a sixteenth is refused");
}

/* Long lists leave nothing behind but what they come to. */
static void test_lists(void)
{
	_fm_cleanup_buf_ struct fm_buf text = {}, complaint = {};
	_fm_cleanup_(fm_filter_rules_freep) struct fm_filter_rules *rules =
		rules_of("include tcp", &complaint);
	int r = 0;

	for (unsigned int i = 0; i < 200 && r == 0; i++) {
		text.size = 0;
		fm_buf_printf(&text, "include port %u", i);
		for (unsigned int port = 1; port < 400; port++)
			fm_buf_printf(&text, " or %u", 100 * port + i % 90);
		r = fm_filter_rules_add(rules, text.data, &complaint);
	}
	FM_TEST(r == 0 && rules->n_rules == 201, "two hundred lists of four hundred ports");
}

/* Rows of addresses, ports and flags that are all different. */
static void test_rows(void)
{
	_fm_cleanup_buf_ struct fm_buf complaint = {};
	_fm_cleanup_(fm_filter_rules_freep) struct fm_filter_rules *rules =
		rules_of("include tcp", &complaint);
	uint64_t random = 1;
	int r = 0;

	for (unsigned int i = 0; i < 200 && r == 0; i++) {
		_fm_cleanup_buf_ struct fm_buf text = {};

		fm_buf_printf(&text, "include port %u", i);
		for (unsigned int port = 0; port < 200; port++)
			fm_buf_printf(&text, " or %u", some_number(&random, 65536));
		r = fm_filter_rules_add(rules, text.data, &complaint);
	}
	FM_TEST(r == 0 && fm_filter_check(rules, &complaint) == -E2BIG &&
			strstr(complaint.data, "expected fewer rules"),
		"rules that tell too many ports apart are refused");
}

static void test_interfaces(void)
{
	static char names[FM_FILTER_INTERFACES][16];
	static struct fm_filter_interface many[FM_FILTER_INTERFACES];
	_fm_cleanup_buf_ struct fm_buf complaint = {};
	_fm_cleanup_(fm_filter_rules_freep) struct fm_filter_rules *rules =
		rules_of("include interface (tap*7 or *1) and in", &complaint);
	struct fm_filter_tables tables = {};
	bool right = true;
	int r;

	for (unsigned int i = 0; i < FM_FILTER_INTERFACES; i++) {
		snprintf(names[i], sizeof(names[i]), "tap%u", i);
		many[i] = (struct fm_filter_interface){i + 2, names[i], NULL};
	}
	r = fm_filter_compile(rules, FM_FILTER_INCLUDE, NULL, many, FM_FILTER_INTERFACES, &tables,
			      &complaint);
	for (unsigned int i = 0; i < FM_FILTER_INTERFACES && r == 0; i++) {
		struct fm_filter_packet packet = packet_of("::1 ::2 gre");
		bool named = i % 10 == 7 || i % 10 == 1;

		packet.ifindex = i + 2;
		right &= fm_filter_look(&tables, &packet) == (named ? 0 : 1);
		packet.hook = FM_HOOK_EGRESS;
		right &= fm_filter_look(&tables, &packet) == 1;
	}
	FM_TEST(r == 0 && right, "1024 interfaces, a fifth of which is named");
	fm_filter_tables_done(&tables);
	rules = fm_filter_rules_free(rules);
	rules = rules_of("include interface *[1-9]", &complaint);
	FM_TEST(fm_filter_compile(rules, FM_FILTER_INCLUDE, NULL, many, FM_FILTER_INTERFACES,
				  &tables, &complaint) == -E2BIG &&
			strstr(complaint.data, "at most 512"),
		"more than 512 that are named are refused");
	FM_TEST(fm_filter_compile(rules, FM_FILTER_INCLUDE, NULL, many, 560, &tables, &complaint) ==
			0,
		"512 are not");
	fm_filter_tables_done(&tables);
}

/* --- prefixes --- */

static void test_nested(void)
{
	_fm_cleanup_buf_ struct fm_buf text = {}, complaint = {};
	const char *path = write_file("nested", "10.0.0.0/8\n10.0.0.0/8\n10.1.0.0/16\n"
						"10.0.0.0/9\n10.128.0.0/9\n2001:db8::/32\n"
						"2001:db8::/127 # both\n2001:db8::1/128\n");
	_fm_cleanup_(fm_filter_rules_freep) struct fm_filter_rules *rules = NULL;
	_fm_cleanup_filter_ struct fm_filter_tables tables = {};
	static const struct {
		const char *packet;
		unsigned int rule;
	} expected[] = {
		{"10.1.2.3 1.1.1.1 gre", 0}, {"1.1.1.1 10.1.2.3 gre", 2},
		{"10.2.0.0 1.1.1.1 gre", 1}, {"10.255.255.255 1.1.1.1 gre", 1},
		{"11.0.0.0 1.1.1.1 gre", 3}, {"9.255.255.255 10.0.0.0 gre", 2},
		{"2001:db8::1 ::1 gre", 1},  {"::1 2001:db8::1 gre", 2},
		{"2001:db8:1:: ::1 gre", 1}, {"2001:db9:: ::1 gre", 3},
	};
	bool right = true;

	rules = rules_of("exclude src net 10.1.2.0/24", &complaint);
	fm_buf_printf(&text, "exclude src net file %s", path);
	fm_filter_rules_add(rules, text.data, &complaint);
	text.size = 0;
	fm_buf_printf(&text, "exclude dst net file %s and not src net 2001:db8::/33", path);
	fm_filter_rules_add(rules, text.data, &complaint);
	fm_filter_compile(rules, FM_FILTER_INCLUDE, NULL, NULL, 0, &tables, &complaint);
	for (size_t i = 0; i < FM_ARRAY_SIZE(expected) && tables.filter; i++) {
		struct fm_filter_packet packet = packet_of(expected[i].packet);
		unsigned int rule = fm_filter_look(&tables, &packet);

		if (rule != expected[i].rule)
			FM_TEST_NOTE("%s: rule %u", expected[i].packet, rule);
		right &= rule == expected[i].rule;
	}
	FM_TEST(right && rules->n_rules == 3, "prefixes in each other");
	/*
	 * ::/0, ::ffff:0:0/96, 10.1.2/24, 2001:db8::/32, 2001:db8::/33, and the halves of 10/8,
	 * which is no address's longest match.
	 */
	FM_TEST(tables.n_prefixes == 7, "those that change nothing are not in the trie");
}

/* Of so many prefixes each address is asked for in the file itself. */
static void test_many(void)
{
	_fm_cleanup_buf_ struct fm_buf lines = {}, text = {}, complaint = {};
	struct fm_prefix *prefixes = calloc(MANY_PREFIXES, sizeof(*prefixes));
	_fm_cleanup_(fm_filter_rules_freep) struct fm_filter_rules *rules = NULL;
	_fm_cleanup_filter_ struct fm_filter_tables tables = {};
	uint64_t random = 1;
	unsigned int wrong = 0, inside = 0;

	for (unsigned int i = 0; i < MANY_PREFIXES && prefixes; i++) {
		unsigned int length = 12 + some_number(&random, 21);
		uint32_t addr = some_number(&random, UINT32_MAX) & ~(uint32_t)0 << (32 - length);

		fm_buf_printf(&lines, "%u.%u.%u.%u/%u\n", addr >> 24, addr >> 16 & 255,
			      addr >> 8 & 255, addr & 255, length);
		prefixes[i] = (struct fm_prefix){{0, 0xffff00000000 | addr}, 96 + length};
	}
	fm_buf_printf(&text, "exclude src net file %s", write_file("many", lines.data));
	rules = rules_of(text.data, &complaint);
	if (rules)
		fm_filter_compile(rules, FM_FILTER_INCLUDE, NULL, NULL, 0, &tables, &complaint);
	for (unsigned int i = 0; i < 2000 && tables.filter; i++) {
		struct fm_filter_packet packet = packet_of("0.0.0.0 1.1.1.1 gre");
		struct fm_filter_point addr = {0,
					       0xffff00000000 | some_number(&random, UINT32_MAX)};
		bool is_in = false;

		fm_filter_point_write(addr, packet.addr[0]);
		for (unsigned int p = 0; p < MANY_PREFIXES && !is_in; p++)
			is_in = fm_filter_point_compare(addr, prefixes[p].first) >= 0 &&
				fm_filter_point_compare(addr, fm_prefix_last(prefixes[p])) <= 0;
		inside += is_in;
		wrong += fm_filter_look(&tables, &packet) != (is_in ? 0 : 1);
	}
	FM_TEST(tables.filter && !wrong && inside > 200 && inside < 1800,
		"%d prefixes of a file, %u of 2000 addresses are in one", MANY_PREFIXES, inside);
	printf("# %zu in the trie\n", tables.n_prefixes);
	free(prefixes);
}

static bool same(const char *a, const char *b)
{
	_fm_cleanup_buf_ struct fm_buf complaint = {};
	_fm_cleanup_(fm_filter_rules_freep) struct fm_filter_rules *first = rules_of(a, &complaint),
								   *second =
									   rules_of(b, &complaint);

	return fm_filter_rules_equal(first, second);
}

static void test_equal(void)
{
	_fm_cleanup_buf_ struct fm_buf text = {}, complaint = {};
	_fm_cleanup_(fm_filter_rules_freep) struct fm_filter_rules *before = NULL, *after = NULL;

	fm_buf_printf(&text, "exclude net file %s", write_file("changes", "10.0.0.0/8\n"));
	before = rules_of(text.data, &complaint);
	FM_TEST(same("exclude tcp", "exclude tcp") && same(text.data, text.data),
		"rules of the same text are equal");
	FM_TEST(!same("exclude tcp", "include tcp") && !same("exclude tcp", "exclude udp"),
		"others are not");
	write_file("changes", "10.0.0.0/8 # the same\n\n");
	after = rules_of(text.data, &complaint);
	FM_TEST(fm_filter_rules_equal(before, after), "a file that says the same");
	after = fm_filter_rules_free(after);
	write_file("changes", "10.0.0.0/9\n");
	after = rules_of(text.data, &complaint);
	FM_TEST(!fm_filter_rules_equal(before, after), "a file that says something else");
}

/* Where rules are counted, and numbers of samplers, are the caller's. */
static void test_numbers(void)
{
	static const uint16_t places[] = {200, 7, 9, 300};
	static const uint8_t samplers[] = {0, 9, 3};
	const struct fm_filter_numbers numbers = {places, samplers};
	_fm_cleanup_buf_ struct fm_buf complaint = {};
	_fm_cleanup_(fm_filter_rules_freep) struct fm_filter_rules *rules =
		rules_of("sample 1 in 5 packets tcp", &complaint);
	_fm_cleanup_filter_ struct fm_filter_tables tables = {};
	const struct fm_filter *filter;

	fm_filter_rules_add(rules, "sample 1 in 6 flows udp", &complaint);
	fm_filter_rules_add(rules, "include", &complaint);
	if (fm_filter_compile(rules, FM_FILTER_EXCLUDE, &numbers, NULL, 0, &tables, &complaint) < 0)
		return;
	filter = tables.filter;
	FM_TEST(filter->rule[0].place == 200 && filter->rule[1].place == 7 &&
			filter->rule[2].place == 9 && filter->rule[3].place == 300 &&
			filter->rule[3].action == FM_FILTER_EXCLUDE,
		"places of rules");
	FM_TEST(filter->rule[0].sampler == 9 && filter->rule[1].sampler == 3 &&
			!filter->rule[2].sampler && filter->sampler[9].interval == 5 &&
			filter->sampler[3].interval == 6 &&
			filter->sampler[3].method == FM_SAMPLE_FLOWS &&
			!filter->sampler[1].interval,
		"numbers of samplers");
	FM_TEST(filter->dimensions == 1u << FM_BY_PROTOCOL && filter->n_words == 1,
		"the tables are asked for what rules speak of");
}

/* --- random rules --- */

/* Returns packets that are decided about differently; -1: a rule was refused. */
static int compare(const struct some_filter *filter, uint64_t random, unsigned int *used)
{
	_fm_cleanup_(fm_filter_rules_freep) struct fm_filter_rules *rules = NULL;
	_fm_cleanup_filter_ struct fm_filter_tables tables = {};
	_fm_cleanup_buf_ struct fm_buf complaint = {};
	int r = fm_filter_rules_new(&rules), different = 0;

	if (r == 0)
		for (size_t i = 0; i < filter->n_rules && r == 0; i++) {
			_fm_cleanup_buf_ struct fm_buf text = {};

			some_rule_print(filter, i, &text);
			r = fm_filter_rules_add(rules, text.data, &complaint);
			if (r < 0)
				FM_TEST_NOTE("%s: %s", text.data, complaint.data);
		}
	if (r < 0 || fm_filter_compile(rules, FM_FILTER_INCLUDE, NULL, some_interfaces,
				       some_n_interfaces, &tables, &complaint) < 0)
		return -1;
	for (unsigned int i = 0; i < PACKETS; i++) {
		struct some_packet packet;
		size_t expected, seen;

		some_packet_make(&packet, &random, false);
		expected = some_filter_verdict(filter, &packet.seen);
		seen = fm_filter_look(&tables, &packet.seen);
		*used += expected < filter->n_rules;
		if (expected != seen && !different++) {
			_fm_cleanup_buf_ struct fm_buf text = {};

			some_packet_print(&packet, &text);
			FM_TEST_NOTE("%s: expected rule %zu, seen %zu", text.data, expected, seen);
		}
	}
	return different;
}

static void test_random(void)
{
	struct some_filter *filter = calloc(1, sizeof(*filter));
	unsigned int refused = 0, different = 0, used = 0;
	const char *path = write_file("random", "");

	for (unsigned int i = 0; i < TREES && filter; i++) {
		int r = some_filter_make(filter, 1000000 + i, path, false)
				? compare(filter, i, &used)
				: -1;

		refused += r < 0;
		different += r > 0 ? (unsigned int)r : 0;
		if (r)
			printf("# filter %u\n", i);
	}
	printf("# rules decide about %u packets\n", used);
	FM_TEST(!refused, "random rules are taken");
	FM_TEST(!different && used > TREES * PACKETS / 4,
		"%d packets: the tables say what %d random filters mean", TREES * PACKETS, TREES);
	free(filter);
}

static void remove_files(void)
{
	static const char *const names[] = {"bad", "nested", "many", "changes", "random"};
	char path[256];

	for (size_t i = 0; i < FM_ARRAY_SIZE(names); i++) {
		snprintf(path, sizeof(path), "%s/%s", folder, names[i]);
		unlink(path);
	}
	rmdir(folder);
}

int main(void)
{
	if (!mkdtemp(folder))
		return fm_test_bail(folder, errno);
	test_terms();
	test_errors();
	test_bad_files();
	test_depth();
	test_clauses();
	test_samplers();
	test_lists();
	test_rows();
	test_interfaces();
	test_nested();
	test_many();
	test_equal();
	test_numbers();
	test_random();
	remove_files();
	return fm_test_done();
}
