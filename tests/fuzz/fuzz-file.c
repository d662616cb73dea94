/* SPDX-License-Identifier: Apache-2.0 */
/*
 * IPFIX files: any octets. What is given lies in the file, one message behind the other, and is
 * the same when it is read again from anywhere.
 */
#include <fcntl.h>
#include <unistd.h>

#include "fuzz.h"
#include "ipfix/file-reader.h"

#define NAME "file"

static char directory[] = "/dev/shm/fuzz-file-XXXXXX";
static int directory_fd, file_fd;

static void clean(void)
{
	unlinkat(directory_fd, NAME, 0);
	rmdir(directory);
}

int LLVMFuzzerInitialize(int *argc, char ***argv)
{
	FUZZ_CHECK(mkdtemp(directory));
	directory_fd = open(directory, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	file_fd = openat(directory_fd, NAME, O_RDWR | O_CREAT | O_CLOEXEC, 0600);
	FUZZ_CHECK(directory_fd >= 0 && file_fd >= 0);
	atexit(clean);
	return 0;
}

struct sum {
	uint64_t messages, templates, records, sequenced, packets, octets, end;
};

/* All from offset on. */
static struct sum read_all(struct fm_file_reader *reader, const uint8_t *data, size_t size,
			   uint64_t offset, uint64_t limit)
{
	struct fm_message_info info;
	const uint8_t *message;
	struct sum sum = {};
	size_t octets;

	fm_file_reader_rewind(reader, offset);
	while (fm_file_reader_next(reader, limit, &message, &octets, &info) > 0) {
		uint64_t end = fm_file_reader_offset(reader);

		FUZZ_CHECK(octets >= 16 && octets <= 65535 && end <= size && end <= limit);
		FUZZ_CHECK(end >= sum.end + octets);
		FUZZ_CHECK(!memcmp(message, data + end - octets, octets));
		FUZZ_CHECK(fm_file_reader_rest(reader) == size - end);
		sum.end = end;
		if (info.is_template) {
			FUZZ_CHECK(!info.records && !info.sequenced);
			sum.templates++;
			continue;
		}
		FUZZ_CHECK(end > offset && info.records <= info.sequenced);
		FUZZ_CHECK(info.sequenced <= octets);
		sum.messages++;
		sum.records += info.records;
		sum.sequenced += info.sequenced;
		sum.packets += info.packets;
		sum.octets += info.octets;
	}
	return sum;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct fm_file_reader *reader;
	struct fm_message_info info;
	struct sum all, again, part;
	uint64_t middle;

	if (size < 2)
		return 0;
	middle = data[0] * (uint64_t)size / 256;
	data++;
	size--;
	FUZZ_CHECK(ftruncate(file_fd, 0) == 0 && pwrite(file_fd, data, size, 0) == (ssize_t)size);
	FUZZ_CHECK(fm_file_reader_new(&reader, directory_fd, NAME) == 0);
	all = read_all(reader, data, size, 0, UINT64_MAX);
	fm_file_reader_free(reader);
	FUZZ_CHECK(fm_file_reader_new(&reader, directory_fd, NAME) == 0);
	part = read_all(reader, data, size, 0, middle);
	FUZZ_CHECK(part.messages <= all.messages && part.end <= middle);
	fm_file_reader_free(reader);
	FUZZ_CHECK(fm_file_reader_new(&reader, directory_fd, NAME) == 0);
	again = read_all(reader, data, size, part.end, UINT64_MAX);
	/* What is done and what is not are all. */
	FUZZ_CHECK(part.messages + again.messages == all.messages);
	FUZZ_CHECK(part.records + again.records == all.records);
	FUZZ_CHECK(part.octets + again.octets == all.octets);
	fm_file_reader_inspect(reader, data, size, &info);
	fm_file_reader_free(reader);
	return 0;
}
