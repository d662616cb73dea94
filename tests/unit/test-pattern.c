/* SPDX-License-Identifier: Apache-2.0 */
/* Patterns of interface names. */
#include <errno.h>
#include <string.h>

#include "base/macro.h"
#include "base/parse.h"
#include "daemon/pattern.h"
#include "test.h"

static const struct {
	const char *patterns;
	const char *ns; /* NULL: the daemon's own */
	const char *name;
	bool special;
	bool expected;
} matches[] = {
	{"eth*", NULL, "eth0", false, true},
	{"eth*", NULL, "veth0", false, false},
	{"eth?", NULL, "eth10", false, false},
	{"eth[01]", NULL, "eth1", false, true},
	{"eth0", NULL, "eth0", false, true},
	{"eth0", NULL, "eth01", false, false},
	{"eth0, wlan0", NULL, "wlan0", false, true},
	/* exclusions win, wherever they stand */
	{"eth*, !eth1", NULL, "eth1", false, false},
	{"!eth1, eth*", NULL, "eth1", false, false},
	{"!eth*, eth1", NULL, "eth1", false, false},
	{"eth*, !eth1", NULL, "eth0", false, true},
	/* only exclusions: all but these */
	{"!docker0", NULL, "eth0", false, true},
	{"!docker0", NULL, "docker0", false, false},
	{"!docker0, !veth*", NULL, "veth12", false, false},
	{"!docker0, eth*", NULL, "wlan0", false, false},
	{"", NULL, "eth0", false, true},
	{"", "blue", "eth0", false, false},
	/* loopback, ifb, nlmon: by their full name only */
	{"*", NULL, "lo", true, false},
	{"!docker0", NULL, "lo", true, false},
	{"", NULL, "lo", true, false},
	{"lo", NULL, "lo", true, true},
	{"l*", NULL, "lo", true, false},
	{"eth*, lo", NULL, "lo", true, true},
	{"lo, !l*", NULL, "lo", true, false},
	{"!lo", NULL, "lo", true, false},
	{"!lo", NULL, "eth0", false, true},
	{"ifb*", NULL, "ifb0", true, false},
	{"ifb0", NULL, "ifb0", true, true},
	/* namespaces */
	{"veth0@blue", "blue", "veth0", false, true},
	{"veth0@blue", "red", "veth0", false, false},
	{"veth0@blue", NULL, "veth0", false, false},
	{"veth0@blue", NULL, "eth0", false, false},
	{"eth*", "blue", "eth0", false, false},
	{"*@blue", "blue", "eth0", false, true},
	{"*@blue", "blue", "lo", true, false},
	{"lo@blue", "blue", "lo", true, true},
	{"!lo, eth0@blue", NULL, "eth7", false, true},
	{"!lo, eth0@blue", "blue", "eth7", false, false},
	{"!eth1@blue", "blue", "eth0", false, true},
	{"!eth1@blue", "blue", "eth1", false, false},
	{"!eth1@blue", NULL, "eth0", false, false},
	{"eth*, !eth1@blue", NULL, "eth1", false, true},
	{"eth*@blue, !eth1", "blue", "eth1", false, true},
	{"eth0@bluer", "blue", "eth0", false, false},
};

static const struct {
	const char *pattern;
	int expected;
} checks[] = {
	{"eth0", 0},
	{"!eth0", 0},
	{"*", 0},
	{"wlp0s20f3u1u4i2", 0},
	{"wlp0s20f3u1u4i2x", -EINVAL},
	{"!wlp0s20f3u1u4i2x", -EINVAL},
	{"[abcdefghijklmnop]th0", 0},
	{"", -EINVAL},
	{"!", -EINVAL},
	{"@blue", -EINVAL},
	{"eth0@", -EINVAL},
	{"eth0@blue", 0},
	{"!eth0@blue", 0},
	{"eth0@a/b", -EINVAL},
	{"eth0@..", -EINVAL},
	{"eth0@.", -EINVAL},
	{"eth0@blue@red", -EINVAL},
	{"et/h0", -EINVAL},
	{"eth0:1", -EINVAL},
};

int main(void)
{
	char longest[200];

	for (size_t i = 0; i < FM_ARRAY_SIZE(matches); i++) {
		struct fm_names patterns = {};
		int r = fm_parse_list(matches[i].patterns, &patterns.v, &patterns.n);
		bool matched = r == 0 && fm_pattern_match(&patterns, matches[i].ns, matches[i].name,
							  matches[i].special);

		FM_TEST(r == 0 && matched == matches[i].expected, "'%s' %s %s%s%s",
			matches[i].patterns, matches[i].expected ? "names" : "does not name",
			matches[i].name, matches[i].ns ? "@" : "",
			matches[i].ns ? matches[i].ns : "");
		fm_parse_list_free(patterns.v, patterns.n);
	}
	for (size_t i = 0; i < FM_ARRAY_SIZE(checks); i++)
		FM_TEST(fm_pattern_check(checks[i].pattern) == checks[i].expected,
			"'%s' is %s pattern", checks[i].pattern, checks[i].expected ? "no" : "a");
	memset(longest, '*', sizeof(longest) - 1);
	longest[sizeof(longest) - 1] = '\0';
	FM_TEST(fm_pattern_check(longest) == -EINVAL, "an endless pattern is none");
	FM_TEST(fm_pattern_namespace("eth0") == NULL &&
			!strcmp(fm_pattern_namespace("!eth0@blue"), "blue"),
		"the namespace of a pattern");
	return fm_test_done();
}
