/* SPDX-License-Identifier: Apache-2.0 */
/* In place of libbpf's, for user space. */
#ifndef FM_FUZZ_BPF_ENDIAN_H
#define FM_FUZZ_BPF_ENDIAN_H

#include <endian.h>

#define bpf_htons(x)	   htobe16(x)
#define bpf_ntohs(x)	   be16toh(x)
#define bpf_htonl(x)	   htobe32(x)
#define bpf_ntohl(x)	   be32toh(x)
#define bpf_be64_to_cpu(x) be64toh(x)

#endif
