/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Test Anything Protocol for tests in C: one line a check, the plan at the end. Included by every
 * test program, once each.
 */
#ifndef FM_TEST_H
#define FM_TEST_H

#include <stdarg.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>

/* AddressSanitizer keeps its shadow in addresses that a limit of memory does not leave. */
#ifdef __has_feature
#define FM_TEST_SANITIZED __has_feature(address_sanitizer)
#else
#define FM_TEST_SANITIZED 0
#endif

static unsigned int fm_test_count, fm_test_failed;

/* Times as long may everything take: an emulated processor is slow. */
static inline unsigned int fm_test_patience(void)
{
	const char *patience = getenv("FLOWMOND_TEST_PATIENCE");

	return patience ? (unsigned int)strtoul(patience, NULL, 10) : 1;
}

/* One result. Returns ok, so that the caller can print more. */
__attribute__((format(printf, 2, 3))) static inline bool fm_test_ok(bool ok, const char *format,
								    ...)
{
	va_list args;

	printf("%sok %u - ", ok ? "" : "not ", ++fm_test_count);
	va_start(args, format);
	vprintf(format, args);
	va_end(args);
	putchar('\n');
	fflush(stdout);
	if (!ok)
		fm_test_failed++;
	return ok;
}

/* What did not hold, as a comment line before the result. */
#define FM_TEST_NOTE(...)                                                                          \
	do {                                                                                       \
		printf("# %s:%d: ", __FILE__, __LINE__);                                           \
		printf(__VA_ARGS__);                                                               \
		putchar('\n');                                                                     \
	} while (0)

/* One result from one condition. */
#define FM_TEST(condition, ...)                                                                    \
	({                                                                                         \
		bool ok_ = !!(condition);                                                          \
		if (!ok_)                                                                          \
			FM_TEST_NOTE("%s", #condition);                                            \
		fm_test_ok(ok_, __VA_ARGS__);                                                      \
	})

/* The whole program is not for this machine. */
static inline int fm_test_skip_all(const char *reason)
{
	printf("1..0 # SKIP %s\n", reason);
	return 0;
}

/* Cannot go on. */
static inline int fm_test_bail(const char *reason, int error)
{
	printf("Bail out! %s: %d\n", reason, error);
	return 99;
}

/* The plan; the value to return from main. */
static inline int fm_test_done(void)
{
	printf("1..%u\n", fm_test_count);
	return fm_test_failed ? EXIT_FAILURE : EXIT_SUCCESS;
}

#endif
