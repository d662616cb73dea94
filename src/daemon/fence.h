/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Grace periods without waiting: a thread of its own waits, the event loop gets a callback. Owned
 * by the sweeper.
 */
#ifndef FM_FENCE_H
#define FM_FENCE_H

#include <systemd/sd-event.h>

#include "base/cleanup.h"
#include "daemon/loader.h"

struct fm_fence;

/* done is called in the event loop, once for each request; error: 0 or -errno of the wait. */
int fm_fence_new(struct fm_fence **ret, sd_event *event, struct fm_kernel *kernel,
		 void (*done)(void *userdata, int error), void *userdata);
struct fm_fence *fm_fence_free(struct fm_fence *fence);
FM_DEFINE_CLEANUP(struct fm_fence *, fm_fence_free)

/* Asks for a grace period that begins after this call. */
void fm_fence_request(struct fm_fence *fence);

#endif
