/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What a program has on its heap, to the octet: preloaded (LD_PRELOAD) into it, keeps the sums in
 * the file that HEAP names, which holds a struct heap, for a test to read while the program runs. A
 * new process begins at 0.
 */
#include <errno.h>
#include <fcntl.h>
#include <malloc.h>
#include <stdatomic.h>
#include <stdint.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <unistd.h>

struct heap {
	_Atomic uint64_t octets, blocks;
};

/* Until the file is there. */
static struct heap first;
static struct heap *_Atomic heap = &first;

extern void *__libc_malloc(size_t size);
extern void *__libc_calloc(size_t n, size_t size);
extern void *__libc_realloc(void *memory, size_t size);
extern void *__libc_memalign(size_t alignment, size_t size);
extern void __libc_free(void *memory);

__attribute__((constructor)) static void begin(void)
{
	const char *path = getenv("HEAP");
	int fd = path ? open(path, O_RDWR | O_CLOEXEC) : -1;
	struct heap *shared;

	if (fd < 0)
		return;
	shared = mmap(NULL, sizeof(*shared), PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
	close(fd);
	if (shared == MAP_FAILED)
		return;
	shared->octets = first.octets;
	shared->blocks = first.blocks;
	heap = shared;
}

static void *came(void *memory)
{
	if (memory) {
		heap->octets += malloc_usable_size(memory);
		heap->blocks++;
	}
	return memory;
}

static void went(size_t octets)
{
	heap->octets -= octets;
	heap->blocks--;
}

static void *resized(void *memory, size_t size)
{
	size_t before = memory ? malloc_usable_size(memory) : 0;
	void *now = __libc_realloc(memory, size);

	/* Of size 0 it is free(). */
	if (memory && (now || !size))
		went(before);
	return came(now);
}

#define PUBLIC __attribute__((visibility("default")))

PUBLIC void *malloc(size_t size)
{
	return came(__libc_malloc(size));
}

PUBLIC void *calloc(size_t n, size_t size)
{
	return came(__libc_calloc(n, size));
}

PUBLIC void *realloc(void *memory, size_t size)
{
	return resized(memory, size);
}

PUBLIC void *reallocarray(void *memory, size_t n, size_t size)
{
	size_t all;

	if (!__builtin_mul_overflow(n, size, &all))
		return resized(memory, all);
	errno = ENOMEM;
	return NULL;
}

PUBLIC void *aligned_alloc(size_t alignment, size_t size)
{
	return came(__libc_memalign(alignment, size));
}

PUBLIC int posix_memalign(void **ret, size_t alignment, size_t size)
{
	void *memory = came(__libc_memalign(alignment, size));

	if (!memory)
		return ENOMEM;
	*ret = memory;
	return 0;
}

PUBLIC void free(void *memory)
{
	if (memory)
		went(malloc_usable_size(memory));
	__libc_free(memory);
}
