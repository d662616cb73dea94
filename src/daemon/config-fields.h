/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The settings profile and fields: what sessions make of them, and what of the other settings they
 * must agree with. Used by the reader of the configuration, by sinks and the manager.
 */
#ifndef FM_CONFIG_FIELDS_H
#define FM_CONFIG_FIELDS_H

#include "daemon/config.h"
#include "ipfix/session.h"

/* What records of a sink are; the size of messages is left to the caller. */
void fm_config_collector_records(const struct fm_config *config,
				 const struct fm_collector_config *collector,
				 struct fm_session_options *ret);
void fm_config_file_records(const struct fm_config *config, struct fm_session_options *ret);
void fm_config_json_records(const struct fm_config *config, struct fm_session_options *ret);

/* Whether any sink has rows that only measured TCP or QUIC fills. */
/* Bits of enum fm_coarse; 0: keys are whole. */
uint8_t fm_config_coarse(const struct fm_config *config);

bool fm_config_takes_measures(const struct fm_config *config);

/* Why records cannot be so; empty: they can. */
void fm_config_check_records(const struct fm_config *config,
			     const struct fm_session_options *records, struct fm_buf *ret);

#endif
