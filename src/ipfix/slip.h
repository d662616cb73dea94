/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What one system call gives to the network, noted in memory that outlives the process. The call is
 * sendmmsg(2), whose headers lie here: the kernel itself writes beside each datagram, or what it
 * took of a stream, how many octets that were (msg_len), and no signal ends a process in between.
 * So a next process knows of every message whether it went out, wherever this one was killed.
 *
 * A transport clears the slip, fills it, calls, tells its owner what became of each message, and
 * only then clears it again. A datagram that may still be answered stays in it as the one before.
 */
#ifndef FM_SLIP_H
#define FM_SLIP_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/socket.h>
#include <sys/types.h>
#include <sys/uio.h>

#include "ipfix/session.h"

/* Messages of a call. */
#define FM_SLIP_CALL 32U

/* Octets of a row that are none. */
#define FM_SLIP_IS_OUT	0		 /* whatever its header says */
#define FM_SLIP_NOT_OUT UINT32_MAX	 /* so far */
#define FM_SLIP_UNSURE	(UINT32_MAX - 1) /* it is written to what gives no evidence */

/* A message, and when it is out: when its header has taken so many octets. */
struct fm_slip_row {
	uint64_t outbox_id; /* see struct fm_message_info */
	struct fm_spool_place spool_place;
	uint32_t header, octets;
};

/* In shared memory. */
struct fm_slip {
	uint32_t armed;		   /* rows that count */
	uint32_t filled;	   /* that will, once armed */
	struct fm_slip_row before; /* counts always */
	struct fm_slip_row rows[FM_SLIP_CALL];
	struct mmsghdr headers[FM_SLIP_CALL];
};

/* All that a transport keeps in memory that outlives the process. */
struct fm_transport_mark {
	uint64_t device, inode; /* a file, */
	/* whose first octets end with the message written last; in turns, which says what counts */
	struct fm_transport_written {
		uint64_t octets, outbox_id;
	} written[2];
	uint64_t which;
	uint32_t port;	     /* datagrams: which they come from; 0: none yet */
	struct fm_slip slip; /* what a call gave to a network */
};

enum fm_slip_state {
	FM_SLIP_STATE_NOT,
	FM_SLIP_STATE_OUT,
	FM_SLIP_STATE_UNSURE,
};

/* Nothing of an earlier process counts any more. */
void fm_slip_init(struct fm_slip *slip);

/* No row counts but the one before. */
void fm_slip_clear(struct fm_slip *slip);

/* One more message; there is room. */
void fm_slip_add(struct fm_slip *slip, const struct fm_message_info *info, unsigned int header,
		 size_t octets);

/* What header number n sends: the parts are the caller's until the call is over. */
void fm_slip_header(struct fm_slip *slip, unsigned int n, struct iovec *parts, size_t n_parts);

/* The rows count from now on. */
void fm_slip_arm(struct fm_slip *slip);

/* Arms it and sends the first n headers: as sendmmsg(2). */
int fm_slip_send(struct fm_slip *slip, int fd, unsigned int n);

/* Arms it and writes to a stream, by header 0: octets that were taken, or -errno. */
ssize_t fm_slip_write(struct fm_slip *slip, int fd, struct iovec *parts, size_t n_parts);

/* Not armed yet: all rows are out when so many octets are. */
void fm_slip_expect(struct fm_slip *slip, size_t octets);

/* A datagram that is out, and can be answered; NULL: there is none, or it was refused. */
void fm_slip_before(struct fm_slip *slip, const struct fm_message_info *info);

/* What an earlier process left: row n of how many, the one before among them, and its state. */
unsigned int fm_slip_rows(const struct fm_slip *slip);
enum fm_slip_state fm_slip_row(const struct fm_slip *slip, unsigned int n, struct fm_slip_row *ret);

#endif
