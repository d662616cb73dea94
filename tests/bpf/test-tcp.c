/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What the TCP metrics make of losses and repetitions: each case is a conversation whose figures
 * follow from the RFC that it names.
 */
#include "base/macro.h"
#include "talk.h"
#include "test.h"

static struct harness h;

/* What is sent in order and acknowledged is none of it. */
static void plain(void)
{
	shake();
	say(A, .payload = 1000, .more = PSH);
	say(B, .payload = 100, .more = PSH);
	say(A);
	for (unsigned int i = 0; i < 100; i++) {
		say(B, .payload = 1448);
		say(B, .payload = 1448);
		say(A);
	}
	say(A, .more = FIN);
	say(B);
	say(B, .more = FIN);
	say(A);
	expect(A, "nothing to tell of A");
	expect(B, "nothing to tell of B");
}

/* RFC 9293 3.8.4: an octet that was acknowledged, or none, below the next one. */
static void keep_alive(void)
{
	shake();
	say(A, .payload = 1000);
	say(B, .payload = 100);
	say(A);
	for (unsigned int i = 0; i < 3; i++) {
		say(A, .seq = 1000);
		say(B);
		say(B, .seq = 100, .payload = 1);
		say(A);
		talk_pause(i == 1 ? 260 : 20);
	}
	expect(A, "keep-alives without data are no repetition");
	expect(B, "keep-alives of one octet are none either");
	say(A, .payload = 10);
	talk_pause(20);
	say(A, .seq = 1001, .payload = 10);
	expect(A, "data after them are", .retransmitted_packets = 1, .retransmitted_octets = 10);
}

/* One octet that was not acknowledged is no keep-alive. */
static void one_octet(void)
{
	shake();
	say(A, .payload = 1);
	talk_pause(20);
	say(A, .seq = 1, .payload = 1);
	expect(A, "one octet again", .retransmitted_packets = 1, .retransmitted_octets = 1);
}

/* RFC 6675 5: the second of five segments was lost behind this point. */
static void sack(void)
{
	shake();
	for (unsigned int i = 0; i < 5; i++)
		say(A, .payload = 1000);
	say(B, .ack = 1001);
	for (unsigned int i = 1; i <= 3; i++)
		say(B, .ack = 1001, .sack = {{2001, 2001 + i * 1000}});
	say(A, .seq = 1001, .payload = 1000);
	say(B, .ack = 5001);
	expect(A, "one fast retransmission", .retransmitted_packets = 1,
	       .retransmitted_octets = 1000, .fast_packets = 1);
	expect(B, "three duplicate acknowledgements", .dup_acks = 3);
}

/* RFC 6298 5: nothing comes back; then all of it again, the first acknowledgements in between. */
static void timeout(void)
{
	shake();
	for (unsigned int i = 0; i < 4; i++)
		say(A, .payload = 1000);
	talk_pause(260);
	say(A, .seq = 1, .payload = 1000);
	say(B, .ack = 1001);
	say(A, .seq = 1001, .payload = 1000);
	say(A, .seq = 2001, .payload = 1000);
	say(B, .ack = 2001);
	say(B, .ack = 3001);
	say(A, .seq = 3001, .payload = 1000);
	say(B, .ack = 4001);
	expect(A, "all up to the recovery point", .retransmitted_packets = 4,
	       .retransmitted_octets = 4000, .timeout_packets = 4);
	for (unsigned int i = 0; i < 4; i++)
		say(A, .payload = 1000);
	for (unsigned int i = 0; i < 3; i++)
		say(B, .ack = 4001);
	say(A, .seq = 4001, .payload = 1000);
	say(B, .ack = 8001);
	expect(A, "what comes after is another matter", .retransmitted_packets = 5,
	       .retransmitted_octets = 5000, .timeout_packets = 4, .fast_packets = 1);
	expect(B, "with its duplicate acknowledgements", .dup_acks = 3);
}

static const struct talk_case cases[] = {
	TALK_CASE("plain", plain),	   TALK_CASE("keep-alive", keep_alive),
	TALK_CASE("one octet", one_octet), TALK_CASE("SACK recovery", sack),
	TALK_CASE("timeout", timeout),
};

static void report(bool ok, const char *name)
{
	fm_test_ok(ok, "%s", name);
}

int main(void)
{
	struct fm_kernel_options options = {.max_flows = 4096, .tcp = true};
	int r;

	if (!harness_allowed())
		return fm_test_skip_all("needs root");
	r = harness_init(&h, &options);
	if (r < 0)
		return fm_test_bail("harness", r);
	talk_run(&h, report, cases, FM_ARRAY_SIZE(cases));
	harness_done(&h);
	return fm_test_done();
}
