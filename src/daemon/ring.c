/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Ring buffers: see ring.h. Layout of the memory as include/uapi/linux/bpf.h and the kernel's
 * Documentation/bpf/ringbuf.rst have it: a page with the consumer's position, a page with the
 * producer's, then the data twice, so that an event lies in one piece.
 */
#include "daemon/ring.h"

#include <errno.h>
#include <linux/bpf.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <unistd.h>

#include <bpf/bpf.h>

#include "base/macro.h"

struct fm_ring {
	size_t page, size;
	unsigned long *consumer;
	const unsigned long *producer;
	const uint8_t *data;
	unsigned long read;
};

/* The consumer's position is memory like any: where none can be, nobody knows what lies between. */
static void begin(struct fm_ring *ring)
{
	unsigned long producer = __atomic_load_n(ring->producer, __ATOMIC_ACQUIRE);

	ring->read = *ring->consumer;
	if (ring->read % 8 == 0 && ring->read <= producer && producer - ring->read <= ring->size)
		return;
	ring->read = producer;
	__atomic_store_n(ring->consumer, producer, __ATOMIC_RELEASE);
}

int fm_ring_new(struct fm_ring **ret, int fd)
{
	_fm_cleanup_(fm_ring_freep) struct fm_ring *ring = calloc(1, sizeof(*ring));
	struct bpf_map_info info = {};
	__u32 size = sizeof(info);
	void *memory;

	if (!ring)
		return -ENOMEM;
	if (bpf_obj_get_info_by_fd(fd, &info, &size) < 0)
		return -errno;
	if (info.type != BPF_MAP_TYPE_RINGBUF)
		return -EINVAL;
	ring->page = (size_t)sysconf(_SC_PAGESIZE);
	ring->size = info.max_entries;
	memory = mmap(NULL, ring->page, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
	if (memory == MAP_FAILED)
		return -errno;
	ring->consumer = memory;
	memory = mmap(NULL, ring->page + 2 * ring->size, PROT_READ, MAP_SHARED, fd,
		      (off_t)ring->page);
	if (memory == MAP_FAILED)
		return -errno;
	ring->producer = memory;
	ring->data = (const uint8_t *)memory + ring->page;
	begin(ring);
	*ret = FM_TAKE_PTR(ring);
	return 0;
}

struct fm_ring *fm_ring_free(struct fm_ring *ring)
{
	if (!ring)
		return NULL;
	if (ring->consumer)
		munmap(ring->consumer, ring->page);
	if (ring->producer)
		munmap((void *)ring->producer, ring->page + 2 * ring->size);
	free(ring);
	return NULL;
}

/* Octets of an event with its header, which hold two flags as well. */
static size_t length_of(uint32_t header)
{
	return ((header & ~(BPF_RINGBUF_BUSY_BIT | BPF_RINGBUF_DISCARD_BIT)) + BPF_RINGBUF_HDR_SZ +
		7) /
	       8 * 8;
}

size_t fm_ring_waiting(const struct fm_ring *ring)
{
	return __atomic_load_n(ring->producer, __ATOMIC_ACQUIRE) - ring->read;
}

const void *fm_ring_read(struct fm_ring *ring, size_t *ret_size)
{
	for (;;) {
		unsigned long producer = __atomic_load_n(ring->producer, __ATOMIC_ACQUIRE);
		const uint8_t *event = ring->data + (ring->read & (ring->size - 1));
		uint32_t header;

		if (ring->read == producer)
			return NULL;
		header = __atomic_load_n((const uint32_t *)event, __ATOMIC_ACQUIRE);
		if (header & BPF_RINGBUF_BUSY_BIT)
			return NULL;
		if (length_of(header) > producer - ring->read) { /* no event: nor what follows */
			ring->read = producer;
			return NULL;
		}
		ring->read += length_of(header);
		if (header & BPF_RINGBUF_DISCARD_BIT)
			continue;
		*ret_size = header;
		return event + BPF_RINGBUF_HDR_SZ;
	}
}

uint64_t fm_ring_position(const struct fm_ring *ring)
{
	return ring->read;
}

void fm_ring_consume(struct fm_ring *ring, uint64_t position)
{
	unsigned long producer = __atomic_load_n(ring->producer, __ATOMIC_ACQUIRE);
	unsigned long consumer = *ring->consumer;

	/* Positions count octets and do not wrap in a machine's life. */
	if (position < consumer || position > producer)
		return;
	__atomic_store_n(ring->consumer, (unsigned long)position, __ATOMIC_RELEASE);
	ring->read = FM_MAX(ring->read, (unsigned long)position);
}
