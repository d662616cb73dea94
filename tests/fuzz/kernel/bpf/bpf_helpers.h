/* SPDX-License-Identifier: Apache-2.0 */
/* In place of libbpf's, for user space: kernel.c has the helpers. */
#ifndef FM_FUZZ_BPF_HELPERS_H
#define FM_FUZZ_BPF_HELPERS_H

#include <linux/bpf.h>

#define SEC(name)
#define __always_inline	     inline __attribute__((always_inline))
#define __uint(name, value)  int(*name)[value]
#define __type(name, value)  typeof(value) *name
#define __array(name, value) typeof(value) *name[]

void *bpf_map_lookup_elem(void *map, const void *key);
long bpf_map_update_elem(void *map, const void *key, const void *value, __u64 flags);
long bpf_skb_load_bytes(const struct __sk_buff *skb, __u32 offset, void *to, __u32 length);
__u64 bpf_ktime_get_ns(void);
__u64 bpf_jiffies64(void);
__u32 bpf_get_smp_processor_id(void);
__u32 bpf_get_prandom_u32(void);
__u64 bpf_ringbuf_query(void *ring, __u64 flags);
void *bpf_ringbuf_reserve(void *ring, __u64 size, __u64 flags);
void bpf_ringbuf_submit(void *data, __u64 flags);
struct bpf_sock *bpf_sk_fullsock(struct bpf_sock *sk);
struct bpf_tcp_sock *bpf_tcp_sock(struct bpf_sock *sk);

#endif
