/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Owners that let go by themselves: every variable that owns something carries a cleanup attribute,
 * every hand-over a take-macro.
 */
#ifndef FM_CLEANUP_H
#define FM_CLEANUP_H

#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#define _fm_cleanup_(fn) __attribute__((cleanup(fn)))

/* Defines fn##p for _fm_cleanup_: type is a pointer, fn lets go of it and takes NULL. */
#define FM_DEFINE_CLEANUP(type, fn)                                                                \
	static inline void fn##p(type *pointer)                                                    \
	{                                                                                          \
		fn(*pointer);                                                                      \
	}

static inline void fm_cleanup_free(void *pointer)
{
	free(*(void **)pointer);
}

static inline void fm_cleanup_close(int *fd)
{
	if (*fd >= 0)
		close(*fd);
}

static inline void fm_cleanup_fclose(FILE **file)
{
	if (*file)
		fclose(*file);
}

#define _fm_cleanup_free_   _fm_cleanup_(fm_cleanup_free)
#define _fm_cleanup_close_  _fm_cleanup_(fm_cleanup_close)
#define _fm_cleanup_fclose_ _fm_cleanup_(fm_cleanup_fclose)

#define FM_TAKE_PTR(pointer)                                                                       \
	({                                                                                         \
		typeof(pointer) taken_ = (pointer);                                                \
		(pointer) = NULL;                                                                  \
		taken_;                                                                            \
	})

#define FM_TAKE_FD(fd)                                                                             \
	({                                                                                         \
		int taken_ = (fd);                                                                 \
		(fd) = -1;                                                                         \
		taken_;                                                                            \
	})

#endif
