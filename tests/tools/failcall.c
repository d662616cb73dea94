/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A program short of memory and descriptors: preloaded (LD_PRELOAD) into it, counts its calls that
 * ask for some, and fails one of them, or one and all behind it. Told by the file that FAILCALL
 * names, which holds a struct plan; the test writes it, also while the program runs.
 *
 * GLib's calls, and so libfixbuf's, do not fail: GLib ends a process that is out of memory.
 */
#undef _FILE_OFFSET_BITS /* which makes one symbol of open() and open64() */
#include <dlfcn.h>
#include <errno.h>
#include <execinfo.h>
#include <fcntl.h>
#include <link.h>
#include <linux/bpf.h>
#include <signal.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/timerfd.h>
#include <unistd.h>

#define FRAMES	  8
#define SITES_MAX (1 << 17)

enum kind {
	KIND_MEMORY = 1, /* malloc and what is like it */
	KIND_MAP = 2,	 /* mmap */
	KIND_FILE = 4,	 /* open, socket, epoll, timerfd */
	KIND_BPF = 8,	 /* bpf() */
	/* Of those: */
	KIND_OBJECT = 16, /* what gives a descriptor, for want of descriptors */
	KIND_INFO = 32,	  /* questions about an object */
};

struct plan {
	_Atomic uint32_t kinds; /* that are counted; 0: none */
	uint32_t record;	/* where each came from goes to sites */
	uint64_t from, to;	/* calls that fail, from 1 */
	_Atomic uint64_t calls, failed;
	_Atomic uint64_t bad_closes;
	uint64_t sites[SITES_MAX]; /* hashes of who called */
};

static struct plan *plan;
static _Thread_local bool inside;

extern void *__libc_malloc(size_t size);
extern void *__libc_calloc(size_t n, size_t size);
extern void *__libc_realloc(void *memory, size_t size);
extern void *__libc_memalign(size_t alignment, size_t size);

static long (*real_syscall)(long number, ...);
static uintptr_t glib_begin, glib_end;

static int find_glib(struct dl_phdr_info *info, size_t size, void *userdata)
{
	if (!strstr(info->dlpi_name, "libglib-"))
		return 0;
	for (unsigned int i = 0; i < info->dlpi_phnum; i++) {
		const ElfW(Phdr) *part = &info->dlpi_phdr[i];

		if (part->p_type != PT_LOAD || !(part->p_flags & PF_X))
			continue;
		glib_begin = info->dlpi_addr + part->p_vaddr;
		glib_end = glib_begin + part->p_memsz;
	}
	return 1;
}

static bool is_glib(const void *caller)
{
	return (uintptr_t)caller >= glib_begin && (uintptr_t)caller < glib_end;
}

static void show(const char *words)
{
	void *frames[4 * FRAMES];
	bool before = inside;

	inside = true;
	if (write(STDERR_FILENO, words, strlen(words)) > 0)
		backtrace_symbols_fd(frames, backtrace(frames, 4 * FRAMES), STDERR_FILENO);
	inside = before;
}

/* It goes on to crash: SA_RESETHAND. */
static void on_crash(int number)
{
	show("crashed:\n");
}

__attribute__((constructor)) static void begin(void)
{
	const struct sigaction crash = {.sa_handler = on_crash, .sa_flags = (int)SA_RESETHAND};
	const char *path = getenv("FAILCALL");
	void *frames[FRAMES], *memory;
	int fd;

	sigaction(SIGSEGV, &crash, NULL);
	sigaction(SIGBUS, &crash, NULL);

	real_syscall = (long (*)(long, ...))dlsym(RTLD_NEXT, "syscall");
	backtrace(frames, FRAMES); /* loads what it needs */
	dl_iterate_phdr(find_glib, NULL);
	fd = path ? (int)real_syscall(SYS_openat, AT_FDCWD, path, O_RDWR | O_CLOEXEC) : -1;
	if (fd < 0)
		return;
	memory = (void *)real_syscall(SYS_mmap, NULL, sizeof(struct plan), PROT_READ | PROT_WRITE,
				      MAP_SHARED, fd, 0L);
	close(fd);
	if (memory != MAP_FAILED)
		plan = memory;
}

static uint64_t site(void)
{
	void *frames[FRAMES];
	int n = backtrace(frames, FRAMES);
	uint64_t hash = 0xcbf29ce484222325;

	for (int i = 2; i < n; i++)
		hash = (hash ^ (uintptr_t)frames[i]) * 0x100000001b3;
	return hash;
}

/* Also by way of the C library: vasprintf(). */
static bool is_for_glib(void)
{
	void *frames[FRAMES];
	int n;
	bool found = false;

	inside = true;
	n = backtrace(frames, FRAMES);
	inside = false;
	for (int i = 0; i < n; i++)
		found |= is_glib(frames[i]);
	return found;
}

/* Whether this call fails. */
static bool fails(enum kind kind)
{
	uint64_t number;

	if (!plan || inside || !(plan->kinds & kind))
		return false;
	inside = true;
	number = ++plan->calls;
	if (plan->record && number <= SITES_MAX)
		plan->sites[number - 1] = site();
	inside = false;
	if (number < plan->from || number > plan->to || is_for_glib())
		return false;
	plan->failed++;
	errno = kind == KIND_FILE || kind == KIND_OBJECT ? EMFILE : ENOMEM;
	return true;
}

#define MEMORY_FAILS (!is_glib(__builtin_return_address(0)) && fails(KIND_MEMORY))

#define PUBLIC __attribute__((visibility("default")))

PUBLIC void *malloc(size_t size)
{
	return MEMORY_FAILS ? NULL : __libc_malloc(size);
}

PUBLIC void *calloc(size_t n, size_t size)
{
	return MEMORY_FAILS ? NULL : __libc_calloc(n, size);
}

PUBLIC void *realloc(void *memory, size_t size)
{
	return MEMORY_FAILS ? NULL : __libc_realloc(memory, size);
}

PUBLIC void *reallocarray(void *memory, size_t n, size_t size)
{
	size_t all;

	if (__builtin_mul_overflow(n, size, &all)) {
		errno = ENOMEM;
		return NULL;
	}
	return MEMORY_FAILS ? NULL : __libc_realloc(memory, all);
}

PUBLIC void *aligned_alloc(size_t alignment, size_t size)
{
	return MEMORY_FAILS ? NULL : __libc_memalign(alignment, size);
}

PUBLIC int posix_memalign(void **ret, size_t alignment, size_t size)
{
	void *memory = MEMORY_FAILS ? NULL : __libc_memalign(alignment, size);

	if (memory)
		*ret = memory;
	return memory ? 0 : ENOMEM;
}

PUBLIC void *mmap(void *at, size_t size, int protection, int flags, int fd, off_t offset)
{
	if (fails(KIND_MAP))
		return MAP_FAILED;
	return (void *)real_syscall(SYS_mmap, at, size, protection, flags, fd, offset);
}

PUBLIC void *mmap64(void *at, size_t size, int protection, int flags, int fd, off_t offset)
{
	return mmap(at, size, protection, flags, fd, offset);
}

static int open_it(int directory, const char *path, int flags, va_list more)
{
	mode_t mode = flags & (O_CREAT | __O_TMPFILE) ? va_arg(more, mode_t) : 0;

	if (fails(KIND_FILE))
		return -1;
	return (int)real_syscall(SYS_openat, directory, path, flags, mode);
}

#define OPEN(name)                                                                                 \
	PUBLIC int name(const char *path, int flags, ...)                                          \
	{                                                                                          \
		va_list more;                                                                      \
		int fd;                                                                            \
                                                                                                   \
		va_start(more, flags);                                                             \
		fd = open_it(AT_FDCWD, path, flags, more);                                         \
		va_end(more);                                                                      \
		return fd;                                                                         \
	}

#define OPENAT(name)                                                                               \
	PUBLIC int name(int directory, const char *path, int flags, ...)                           \
	{                                                                                          \
		va_list more;                                                                      \
		int fd;                                                                            \
                                                                                                   \
		va_start(more, flags);                                                             \
		fd = open_it(directory, path, flags, more);                                        \
		va_end(more);                                                                      \
		return fd;                                                                         \
	}

OPEN(open)
OPEN(open64)
OPENAT(openat)
OPENAT(openat64)

PUBLIC int socket(int domain, int type, int protocol)
{
	return fails(KIND_FILE) ? -1 : (int)real_syscall(SYS_socket, domain, type, protocol);
}

PUBLIC int epoll_create1(int flags)
{
	return fails(KIND_FILE) ? -1 : (int)real_syscall(SYS_epoll_create1, flags);
}

PUBLIC int epoll_ctl(int epoll, int op, int fd, struct epoll_event *event)
{
	if (op != EPOLL_CTL_DEL && fails(KIND_FILE))
		return -1;
	return (int)real_syscall(SYS_epoll_ctl, epoll, op, fd, event);
}

PUBLIC int timerfd_create(clockid_t clock, int flags)
{
	return fails(KIND_FILE) ? -1 : (int)real_syscall(SYS_timerfd_create, clock, flags);
}

PUBLIC int eventfd(unsigned int value, int flags)
{
	return fails(KIND_FILE) ? -1 : (int)real_syscall(SYS_eventfd2, value, flags);
}

/* Who closes what is not open would close another's descriptor at another time. */
PUBLIC int close(int fd)
{
	int r = (int)real_syscall(SYS_close, fd);

	if (r == 0 || errno != EBADF || !plan)
		return r;
	plan->bad_closes++;
	show("closed what is not open:\n");
	errno = EBADF;
	return r;
}

static bool bpf_fails(long command)
{
	switch (command) {
	case BPF_MAP_CREATE:
	case BPF_PROG_LOAD:
	case BPF_OBJ_GET:
	case BPF_LINK_CREATE:
		if (fails(KIND_OBJECT))
			return true;
		break;
	case BPF_OBJ_GET_INFO_BY_FD:
		if (fails(KIND_INFO))
			return true;
		break;
	}
	return fails(KIND_BPF);
}

PUBLIC long syscall(long number, ...)
{
	long arguments[6];
	va_list more;

	va_start(more, number);
	for (unsigned int i = 0; i < 6; i++)
		arguments[i] = va_arg(more, long);
	va_end(more);
	if (number == SYS_bpf && bpf_fails(arguments[0]))
		return -1;
	return real_syscall(number, arguments[0], arguments[1], arguments[2], arguments[3],
			    arguments[4], arguments[5]);
}
