/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/* Reading TCP options. Part of tcp.bpf.h. */
#ifndef FM_TCP_OPTIONS_BPF_H
#define FM_TCP_OPTIONS_BPF_H

#include "tcp-cell.bpf.h"

#define FM_OPTIONS_ROOM 64

/* What is read of a segment's options. */
struct fm_tcp_options {
	__u32 stamp; /* TSval, 0: none */
	__u32 echo;  /* TSecr */
	__u32 sack;  /* left edge of the first block */
	__u16 mss;
	__u8 scale; /* plus 1 */
	__u8 seen;  /* FM_TCP_OPTION_* */
	__u8 sacks; /* there are blocks */
	__u8 pad[3];
	__u32 at; /* of the option that is read next */
	__u32 end;
	__u8 octets[FM_OPTIONS_ROOM];
};

static __always_inline __u8 fm_option_octet(const struct fm_tcp_options *options, __u32 at)
{
	return options->octets[at & (FM_OPTIONS_ROOM - 1)];
}

static __always_inline __u32 fm_option_word(const struct fm_tcp_options *options, __u32 at)
{
	return (__u32)fm_option_octet(options, at) << 24 |
	       (__u32)fm_option_octet(options, at + 1) << 16 |
	       (__u32)fm_option_octet(options, at + 2) << 8 | fm_option_octet(options, at + 3);
}

/*
 * Reads the option at options->at, RFC 9293 3.1 and those named, and goes on to the next; 0: that
 * was all. A function of its own, or the verifier would follow every sequence of options.
 */
FM_GLOBAL int fm_tcp_option(struct fm_tcp_options *options)
{
	__u32 at, length;
	__u8 kind;

	if (!options || options->at >= options->end)
		return 0;
	at = options->at;
	kind = fm_option_octet(options, at);
	if (kind == 1) {
		options->at = at + 1;
		return 1;
	}
	length = fm_option_octet(options, at + 1);
	if (kind == 0 || length < 2 || at + length > options->end)
		return 0;
	options->at = at + length;
	if (kind == 2 && length == 4) {
		options->mss = fm_option_word(options, at);
		options->seen |= FM_TCP_OPTION_MSS;
	} else if (kind == 3 && length == 3) { /* RFC 7323 2.3: 14 at most */
		__u8 scale = fm_option_octet(options, at + 2);

		options->scale = (scale > 14 ? 14 : scale) + 1;
		options->seen |= FM_TCP_OPTION_SCALE;
	} else if (kind == 4 && length == 2) { /* RFC 2018 */
		options->seen |= FM_TCP_OPTION_SACK;
	} else if (kind == 5 && length >= 10) {
		options->sack = fm_option_word(options, at + 2);
		options->sacks = 1;
	} else if (kind == 8 && length == 10) { /* RFC 7323 3.2 */
		options->stamp = fm_option_word(options, at + 2);
		options->echo = fm_option_word(options, at + 6);
		options->seen |= FM_TCP_OPTION_TIMESTAMPS;
	} else if (kind == 30) {
		options->seen |= FM_TCP_OPTION_MULTIPATH;
	} else if (kind == 34) {
		options->seen |= FM_TCP_OPTION_FAST_OPEN;
	} else if (kind == 172 || kind == 174) {
		options->seen |= FM_TCP_OPTION_ACCECN;
	}
	return 1;
}

static __always_inline void fm_tcp_options_read(struct __sk_buff *skb, __u32 at, __u64 length,
						struct fm_tcp_options *ret)
{
	if (length == 0 || length > 40)
		return;
	/*
	 * Linux 6.1 loses the bounds of a length that was spilled before the comparison: say them
	 * once more, in the register that is used. What is from 1 to FM_OPTIONS_ROOM stays so.
	 */
	asm volatile("%[l] += -1\n"
		     "%[l] &= %[mask]\n"
		     "%[l] += 1"
		     : [l] "+r"(length)
		     : [mask] "i"(FM_OPTIONS_ROOM - 1));
	if (bpf_skb_load_bytes(skb, at, ret->octets, length))
		return;
	ret->end = length;
	for (int n = 0; n < 40; n++)
		if (!fm_tcp_option(ret))
			break;
}

#endif
