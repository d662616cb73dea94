/* SPDX-License-Identifier: Apache-2.0 */
/* What went out with one system call: see slip.h. */
#include "ipfix/slip.h"

#include <errno.h>

#include "base/macro.h"

void fm_slip_init(struct fm_slip *slip)
{
	fm_slip_clear(slip);
	fm_slip_before(slip, NULL);
}

void fm_slip_clear(struct fm_slip *slip)
{
	__atomic_store_n(&slip->armed, 0, __ATOMIC_SEQ_CST);
	slip->filled = 0;
}

static struct fm_slip_row row_of(const struct fm_message_info *info, unsigned int header,
				 size_t octets)
{
	return (struct fm_slip_row){
		.outbox_id = info->outbox_id,
		.spool_place = info->spool_place,
		.header = header,
		.octets = (uint32_t)octets,
	};
}

void fm_slip_add(struct fm_slip *slip, const struct fm_message_info *info, unsigned int header,
		 size_t octets)
{
	slip->rows[slip->filled++] = row_of(info, header, octets);
}

void fm_slip_header(struct fm_slip *slip, unsigned int n, struct iovec *parts, size_t n_parts)
{
	slip->headers[n] = (struct mmsghdr){.msg_hdr = {.msg_iov = parts, .msg_iovlen = n_parts}};
}

void fm_slip_arm(struct fm_slip *slip)
{
	__atomic_store_n(&slip->armed, slip->filled, __ATOMIC_SEQ_CST);
}

int fm_slip_send(struct fm_slip *slip, int fd, unsigned int n)
{
	fm_slip_arm(slip);
	return sendmmsg(fd, slip->headers, n, MSG_NOSIGNAL);
}

ssize_t fm_slip_write(struct fm_slip *slip, int fd, struct iovec *parts, size_t n_parts)
{
	fm_slip_header(slip, 0, parts, n_parts);
	return fm_slip_send(slip, fd, 1) < 0 ? -errno : (ssize_t)slip->headers[0].msg_len;
}

void fm_slip_expect(struct fm_slip *slip, size_t octets)
{
	__atomic_store_n(&slip->armed, 0, __ATOMIC_SEQ_CST);
	for (unsigned int i = 0; i < slip->filled; i++)
		slip->rows[i].octets = (uint32_t)octets;
}

void fm_slip_before(struct fm_slip *slip, const struct fm_message_info *info)
{
	struct fm_slip_row *before = &slip->before;

	/* It counts while it is changed: never with half of its names. */
	__atomic_store_n(&before->octets, FM_SLIP_NOT_OUT, __ATOMIC_SEQ_CST);
	if (!info)
		return;
	*before = row_of(info, 0, FM_SLIP_NOT_OUT);
	__atomic_store_n(&before->octets, FM_SLIP_IS_OUT, __ATOMIC_SEQ_CST);
}

unsigned int fm_slip_rows(const struct fm_slip *slip)
{
	return 1 + FM_MIN(slip->armed, FM_SLIP_CALL);
}

enum fm_slip_state fm_slip_row(const struct fm_slip *slip, unsigned int n, struct fm_slip_row *ret)
{
	const struct fm_slip_row *row = n ? &slip->rows[n - 1] : &slip->before;

	*ret = *row;
	if (row->octets == FM_SLIP_UNSURE)
		return FM_SLIP_STATE_UNSURE;
	if (row->octets == FM_SLIP_IS_OUT)
		return FM_SLIP_STATE_OUT;
	return row->octets != FM_SLIP_NOT_OUT && row->header < FM_SLIP_CALL &&
			       slip->headers[row->header].msg_len >= row->octets
		       ? FM_SLIP_STATE_OUT
		       : FM_SLIP_STATE_NOT;
}
