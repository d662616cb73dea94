/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The overflow ring with any positions and any content: reading it ends, and stays inside.
 */
#include <sys/mman.h>
#include <unistd.h>

#include <linux/bpf.h>

#include "daemon/ring.h"
#include "fuzz.h"
#include "keep.h"

#define RING  8192u
#define EVENT 200u /* octets that a reader looks at */

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct input input = {data, size};
	size_t page = (size_t)sysconf(_SC_PAGESIZE), n = 0, octets;
	int fd = keep_ring(RING);
	uint8_t *memory =
		mmap(NULL, 2 * page + 2 * RING, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
	uint64_t *consumer = (uint64_t *)memory, *producer = (uint64_t *)(memory + page);
	uint32_t at = 0;
	struct fm_ring *ring;
	const uint8_t *event;

	FUZZ_CHECK(memory != MAP_FAILED);
	/* Events as the kernel would leave them, then what garbles them. */
	for (unsigned int i = input_u8(&input) % 32; i > 0 && at + 512 < RING; i--) {
		uint32_t length = input_u8(&input);

		*(uint32_t *)(memory + 2 * page + at) =
			length | (length & 1 ? BPF_RINGBUF_DISCARD_BIT : 0);
		at += (length + 8 + 7) / 8 * 8;
	}
	*producer = at;
	input_patch(&input, consumer, 8, input_u8(&input) & 3);
	input_patch(&input, producer, 8, input_u8(&input) & 3);
	input_patch(&input, memory + 2 * page, RING, input_u8(&input) & 15);
	memcpy(memory + 2 * page + RING, memory + 2 * page, RING);
	FUZZ_CHECK(fm_ring_new(&ring, fd) == 0);
	/* No ring holds more events than this. */
	while ((event = fm_ring_read(ring, &octets))) {
		FUZZ_CHECK(n++ <= RING / 8 && octets <= RING);
		if (octets >= EVENT)
			fuzz_touch(event, EVENT);
	}
	fm_ring_consume(ring, fm_ring_position(ring));
	FUZZ_CHECK(*consumer == fm_ring_position(ring) && *consumer <= *producer);
	fm_ring_consume(ring, input_u64(&input));
	fm_ring_free(ring);
	munmap(memory, 2 * page + 2 * RING);
	close(fd);
	return 0;
}
