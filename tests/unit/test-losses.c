/* SPDX-License-Identifier: Apache-2.0 */
/* Losses are said when they begin and when they have ended, and no more often. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <syslog.h>

#include "base/log.h"
#include "base/macro.h"
#include "daemon/losses.h"
#include "test.h"

static struct fm_losses losses;
static struct fm_counters counters;
static char *log_path;

/* Looks once a second; n more packets were lost each time. */
static void seconds(uint64_t *now, unsigned int n, unsigned int lost)
{
	for (unsigned int i = 0; i < n; i++) {
		counters.count[FM_COUNTER_no_table].packets += lost;
		counters.count[FM_COUNTER_no_table].octets += lost * 100;
		counters.count[FM_COUNTER_not_ip].packets++; /* is no loss */
		*now += FM_NS_PER_S;
		fm_losses_look(&losses, &counters, *now);
	}
}

/* Lines of the log that have this in them. */
static unsigned int lines(const char *text)
{
	FILE *file = fopen(log_path, "re");
	char line[512];
	unsigned int n = 0;

	fflush(stderr);
	while (file && fgets(line, sizeof(line), file))
		n += strstr(line, text) != NULL;
	if (file)
		fclose(file);
	return n;
}

int main(void)
{
	char path[] = "/tmp/test-losses-XXXXXX";
	uint64_t now = FM_NS_PER_S;

	if (mkstemp(path) < 0 || !freopen(path, "w", stderr))
		return fm_test_bail("log", 1);
	log_path = path;
	fm_log_init(LOG_INFO, false);
	counters.count[FM_COUNTER_no_table].packets = 5;
	seconds(&now, 20, 0);
	FM_TEST(lines("") == 0, "what was lost before the start is no news");
	seconds(&now, 30, 3);
	FM_TEST(lines("no_table has begun to grow") == 1 && lines("") == 1,
		"a loss that goes on is said once");
	seconds(&now, 9, 0);
	seconds(&now, 1, 4);
	seconds(&now, 9, 0);
	FM_TEST(lines("") == 1, "a pause is no end");
	seconds(&now, 20, 0);
	FM_TEST(lines("no_table has ended: 94 packets, 9400 octets in 39 s") == 1 && lines("") == 2,
		"its end is said once, with all of it");
	seconds(&now, 1, 1);
	FM_TEST(lines("no_table has begun to grow") == 2, "the next is said again");
	remove(path);
	return fm_test_done();
}
