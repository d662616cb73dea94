/* SPDX-License-Identifier: Apache-2.0 */
/* Small macros used everywhere. */
#ifndef FM_MACRO_H
#define FM_MACRO_H

#include <stddef.h>
#include <stdint.h>

#define FM_ARRAY_SIZE(array) (sizeof(array) / sizeof((array)[0]))

#define FM_MIN(a, b)                                                                               \
	({                                                                                         \
		typeof(a) min_a_ = (a);                                                            \
		typeof(b) min_b_ = (b);                                                            \
		min_a_ < min_b_ ? min_a_ : min_b_;                                                 \
	})

#define FM_MAX(a, b)                                                                               \
	({                                                                                         \
		typeof(a) max_a_ = (a);                                                            \
		typeof(b) max_b_ = (b);                                                            \
		max_a_ > max_b_ ? max_a_ : max_b_;                                                 \
	})

#define FM_CONTAINER_OF(pointer, type, member) ((type *)((char *)(pointer)-offsetof(type, member)))

#define FM_NS_PER_US   ((uint64_t)1000)
#define FM_NS_PER_MS   ((uint64_t)1000000)
#define FM_NS_PER_S    ((uint64_t)1000000000)
#define FM_NS_PER_MIN  (60 * FM_NS_PER_S)
#define FM_NS_PER_HOUR (60 * FM_NS_PER_MIN)

#endif
