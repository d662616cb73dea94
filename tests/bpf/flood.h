/* SPDX-License-Identifier: Apache-2.0 */
/* What a flood makes random: of wrap.bpf.c's fm_flood and of the tests that run it. */
#ifndef FM_TESTS_FLOOD_H
#define FM_TESTS_FLOOD_H

#define FM_FLOOD_SOURCE		  0x01
#define FM_FLOOD_DESTINATION	  0x02
#define FM_FLOOD_SOURCE_PORT	  0x04
#define FM_FLOOD_DESTINATION_PORT 0x08
#define FM_FLOOD_PROTOCOL	  0x10

#endif
