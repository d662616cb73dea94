/* SPDX-License-Identifier: Apache-2.0 */
/* What messages of an exporting session (session.h) are like; given when it is made. */
#ifndef FM_SESSION_OPTIONS_H
#define FM_SESSION_OPTIONS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "ipfix/field-list.h"

/* A template goes out whole, however small messages are to be. */
#define FM_SESSION_TEMPLATE_MAX 1180

enum fm_session_protocol {
	FM_SESSION_IPFIX,
	FM_SESSION_V9,
};

struct fm_session_options {
	enum fm_session_protocol protocol;
	unsigned int profile;	     /* one of FM_P_STANDARD, FM_P_FULL, FM_P_NTOP */
	struct fm_field_list fields; /* what records have else than it gives them */
	bool biflow;
	uint32_t domain;	    /* observation domain (IPFIX), source id (v9) */
	uint32_t enterprise_number; /* of FM_PEN_OWN rows */
	size_t message_size;	    /* octets at most, 512..65535; of templates at least 1180 */
	bool v9_sysuptime;	    /* times as elements 21 and 22 */
	uint64_t boot_ns;	    /* v9: when sysUptime was 0, nanoseconds since 1970 */
};

#endif
