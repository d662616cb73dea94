/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What flowmonctl makes of an answer: any octets in any pieces. All of it is printed, as it is but
 * for what a terminal would obey.
 */
#define main flowmonctl_main
#include "ctl/flowmonctl.c"
#undef main

#include <sys/socket.h>

#include "fuzz.h"

/* Octets of 0x80 to 0x9f that are no part of a character beyond those, ever so leniently read. */
static bool obeys(const unsigned char *text, size_t length)
{
	for (size_t i = 0; i < length; i++) {
		size_t lead = i;

		if ((text[i] < 0x20 && text[i] != '\n' && text[i] != '\t') || text[i] == 0x7f)
			return true;
		if (text[i] < 0x80 || text[i] >= 0xa0)
			continue;
		while (lead > 0 && text[lead] >= 0x80 && text[lead] < 0xc0)
			lead--;
		switch (i - lead) {
		case 0:
			return true;
		case 1:
			if (text[lead] < 0xc3 || text[lead] == 0xe0)
				return true;
			break;
		case 2:
			if (text[lead] < 0xe0)
				return true;
			break;
		default:
			if (i - lead > 3 || text[lead] < 0xf0)
				return true;
		}
	}
	return false;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct input input = {data, size};
	FILE *before = stdout;
	char *text = NULL;
	size_t length = 0;
	int pair[2], r;

	FUZZ_CHECK(socketpair(AF_UNIX, SOCK_SEQPACKET, 0, pair) == 0);
	while (input.left) {
		size_t octets, wanted = 1u + input_u8(&input);
		const uint8_t *part = input_take(&input, wanted, &octets);

		if (octets && send(pair[1], part, octets, MSG_DONTWAIT) < 0)
			break;
	}
	shutdown(pair[1], SHUT_WR);
	stdout = open_memstream(&text, &length);
	r = print_answer(pair[0], fm_clock_monotonic_ns() + DEADLINE_NS);
	fclose(stdout);
	stdout = before;
	FUZZ_CHECK(r == (length ? 0 : -ENODATA));
	FUZZ_CHECK(!obeys((unsigned char *)text, length));
	free(text);
	close(pair[0]);
	close(pair[1]);
	return 0;
}
