/* SPDX-License-Identifier: Apache-2.0 */
/* Addresses and prefixes: see filter-prefix.h. */
#include "daemon/filter-prefix.h"

#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <stdint.h>
#include <string.h>
#include <sys/stat.h>

#include "base/parse.h"
#include "bpf/abi.h"

#define LINE_SIZE 512 /* of a file */
#define LINES_MAX 10000000

/* An address, IPv4 mapped. Returns its bits, or 0. */
static unsigned int parse_address(const char *text, uint8_t ret[16])
{
	if (inet_pton(AF_INET6, text, ret) == 1)
		return 128;
	memset(ret, 0, 10);
	ret[10] = ret[11] = 0xff;
	return inet_pton(AF_INET, text, ret + 12) == 1 ? 32 : 0;
}

/* Says which prefix one with bits behind its length was meant to be. */
static void expect_clean(struct fm_filter_point clean, uint64_t length, unsigned int bits,
			 struct fm_buf *expected)
{
	char text[INET6_ADDRSTRLEN];
	uint8_t octets[16];

	fm_filter_point_write(clean, octets);
	inet_ntop(bits == 32 ? AF_INET : AF_INET6, octets + (bits == 32 ? 12 : 0), text,
		  sizeof(text));
	fm_buf_printf(expected, "%s/%u: no bits behind the prefix", text, (unsigned int)length);
}

int fm_prefix_parse(const char *text, bool host, struct fm_prefix *ret, struct fm_buf *expected)
{
	const char *slash = host ? NULL : strchr(text, '/');
	size_t size = slash ? (size_t)(slash - text) : strlen(text);
	char address[INET6_ADDRSTRLEN];
	struct fm_filter_point first, behind;
	unsigned int bits = 0;
	uint8_t octets[16];
	uint64_t length;

	if (size < sizeof(address)) {
		memcpy(address, text, size);
		address[size] = '\0';
		bits = parse_address(address, octets);
	}
	length = bits;
	if (!bits || (slash && fm_parse_u64(slash + 1, 0, bits, &length) < 0)) {
		fm_buf_printf(expected, "%s",
			      host ? "an IPv4 or IPv6 address"
				   : "a prefix such as 192.0.2.0/24 or 2001:db8::/32");
		return -EINVAL;
	}
	first = fm_filter_point_of(octets);
	length += 128 - bits;
	behind = fm_prefix_last((struct fm_prefix){.length = (unsigned int)length});
	if ((first.high & behind.high) || (first.low & behind.low)) {
		first.high &= ~behind.high;
		first.low &= ~behind.low;
		expect_clean(first, length + bits - 128, bits, expected);
		return -EINVAL;
	}
	*ret = (struct fm_prefix){first, (unsigned int)length};
	return 0;
}

static int open_file(const char *path, FILE **ret)
{
	/* What is no file is not waited for. */
	_fm_cleanup_close_ int fd = open(path, O_RDONLY | O_CLOEXEC | O_NOCTTY | O_NONBLOCK);
	struct stat status;
	FILE *file;

	if (fd < 0 || fstat(fd, &status) < 0)
		return -errno;
	if (!S_ISREG(status.st_mode))
		return S_ISDIR(status.st_mode) ? -EISDIR : -ENODEV;
	file = fdopen(fd, "r");
	if (!file)
		return -errno;
	(void)FM_TAKE_FD(fd);
	*ret = file;
	return 0;
}

/* Who takes the prefixes of a file. */
struct taker {
	bool numbers; /* may follow them */
	fm_prefix_fn take;
	void *userdata;
	size_t n;
};

static int take(struct taker *taker, struct fm_prefix prefix, uint32_t number,
		struct fm_buf *complaint)
{
	if (taker->n++ >= FM_FILTER_NETS) {
		fm_buf_printf(complaint, "expected at most %u prefixes", FM_FILTER_NETS);
		return -E2BIG;
	}
	if (taker->take(taker->userdata, prefix, number) < 0) {
		fm_buf_printf(complaint, "no memory");
		return -ENOMEM;
	}
	return 0;
}

/* What stands behind the prefix at rest. */
static int read_number(const struct taker *taker, char *word, char *rest, uint32_t *ret,
		       struct fm_buf *complaint)
{
	size_t length = strcspn(rest, " \t\r\n#");
	char *behind = rest + length + strspn(rest + length, " \t\r\n");
	uint64_t number;

	if (!*rest || *rest == '#')
		return 0;
	if (!taker->numbers || (*behind && *behind != '#')) {
		fm_buf_printf(complaint, "'%.*s': expected one prefix%s a line",
			      (int)strcspn(word, "\r\n"), word,
			      taker->numbers ? " and one number" : "");
		return -EINVAL;
	}
	rest[length] = '\0';
	if (fm_parse_u64(rest, 1, UINT32_MAX, &number) < 0) {
		fm_buf_printf(complaint, "'%.60s': expected a number from 1 to 4294967295", rest);
		return -EINVAL;
	}
	*ret = (uint32_t)number;
	return 0;
}

/* The prefix of a line, if there is one. */
static int read_line(char *line, bool whole, struct taker *taker, struct fm_buf *complaint)
{
	size_t begin = strspn(line, " \t\r\n"), length = strcspn(line + begin, " \t\r\n#");
	char *word = line + begin, *rest = word + length;
	_fm_cleanup_buf_ struct fm_buf expected = {};
	struct fm_prefix prefix;
	uint32_t number = 0;
	int r;

	if (!whole) {
		fm_buf_printf(complaint, "expected a line of text, at most %d octets long",
			      LINE_SIZE - 2);
		return -EINVAL;
	}
	rest += strspn(rest, " \t\r\n");
	if (!length && (!*rest || *rest == '#'))
		return 0;
	r = read_number(taker, word, rest, &number, complaint);
	if (r < 0)
		return r;
	word[length] = '\0';
	if (fm_prefix_parse(word, false, &prefix, &expected) < 0) {
		fm_buf_printf(complaint, "'%.60s': expected %s", word,
			      expected.data ? expected.data : "memory");
		return -EINVAL;
	}
	return take(taker, prefix, number, complaint);
}

static int read_file(const char *path, struct taker *taker, struct fm_buf *complaint)
{
	_fm_cleanup_fclose_ FILE *file = NULL;
	char line[LINE_SIZE];
	int r = open_file(path, &file);

	if (r < 0) {
		fm_buf_printf(complaint, "%s: %s", path,
			      r == -ENODEV ? "expected a regular file" : strerror(-r));
		return r;
	}
	for (unsigned int number = 1; fgets(line, sizeof(line), file); number++) {
		_fm_cleanup_buf_ struct fm_buf why = {};

		r = number > LINES_MAX
			    ? -E2BIG
			    : read_line(line, strchr(line, '\n') || feof(file), taker, &why);
		if (r == 0)
			continue;
		fm_buf_printf(complaint, "%s:%u: %s", path, number,
			      why.data ? why.data : "too many lines");
		return r;
	}
	if (ferror(file)) {
		fm_buf_printf(complaint, "%s: cannot be read", path);
		return -EIO;
	}
	return 0;
}

int fm_prefix_file_read(const char *path, bool numbers, fm_prefix_fn fn, void *userdata,
			struct fm_buf *complaint)
{
	struct taker taker = {.numbers = numbers, .take = fn, .userdata = userdata};

	return read_file(path, &taker, complaint);
}

static int add_prefix(void *userdata, struct fm_prefix prefix, uint32_t number)
{
	return fm_prefixes_add(userdata, prefix);
}

int fm_prefixes_load(const char *path, struct fm_prefixes *prefixes, struct fm_buf *complaint)
{
	struct taker taker = {.take = add_prefix, .userdata = prefixes, .n = prefixes->n};

	return read_file(path, &taker, complaint);
}
