/* SPDX-License-Identifier: Apache-2.0 */
/*
 * SipHash-2-4: a hash of 64 bits that nobody can aim at without its key. Used where what is hashed
 * comes from the network.
 */
#ifndef FM_SIPHASH_H
#define FM_SIPHASH_H

#include <stddef.h>
#include <stdint.h>

uint64_t fm_siphash(const uint8_t key[16], const void *data, size_t size);

#endif
