/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A session on a transport, driven as an event loop would, with an account of every record: for
 * tests of transports.
 */
#ifndef FM_TEST_RIG_H
#define FM_TEST_RIG_H

#include <netinet/in.h>

#include "base/clock.h"
#include "base/macro.h"
#include "ipfix/transport.h"
#include "reader.h"

#define MESSAGE_SIZE 1400
#define RECONNECT_NS (50 * FM_NS_PER_MS)
#define TIMEOUT_NS   (10 * FM_NS_PER_S)

/* A session, a transport, and their account. */
struct rig {
	struct fm_session_options session_options;
	struct fm_session *session;
	struct fm_transport_options options;
	struct fm_transport *transport;
	struct sums given, sent, lost;
	unsigned int begun, errors, ups;
	int last_error;
	uint64_t slowest_ns; /* call of a transport */
	uint64_t ahead_ns;   /* of the clock, for the transport */
	char trouble[160];   /* that came with the last error */
};

/* path: files. Aborts on failure. */
void rig_init(struct rig *rig, const struct fm_transport_ops *ops,
	      const struct sockaddr_in6 *address, const char *path);
void rig_start(struct rig *rig);
void rig_done(struct rig *rig);

/* Records become messages that wait; and are sent. */
void rig_give_waiting(struct rig *rig, unsigned int n);
void rig_give(struct rig *rig, unsigned int n);

/* As an event loop would. */
void rig_step(struct rig *rig);

/* Steps until condition, 10 s at most. */
#define STEP_UNTIL(rig, condition)                                                                 \
	({                                                                                         \
		uint64_t end_ = fm_clock_monotonic_ns() + TIMEOUT_NS;                              \
		while (!(condition) && fm_clock_monotonic_ns() < end_)                             \
			rig_step(rig);                                                             \
		(condition);                                                                       \
	})

/* The peer has another address. */
void rig_move(struct rig *rig, const struct sockaddr_in6 *address);

/* A call of the transport began then. */
void rig_took_since(struct rig *rig, uint64_t begin);

/* Of every record given it is known what became of it. */
bool rig_adds_up(const struct rig *rig);

/* Sockets on loopback. */
int rig_socket(int family, int type, struct sockaddr_in6 *ret);
/* A stream socket with small buffers, if small. */
int rig_listen(int family, bool small, struct sockaddr_in6 *ret);
/* The address stays free for whoever binds it again. */
int rig_listen_again(const struct sockaddr_in6 *address);
int rig_accepted(struct rig *rig, int listener);

#endif
