/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What of a record comes from beside the slots: TCP, QUIC and tunnels. Also decides the record's
 * family and encapsulation. Called by export.c.
 */
#ifndef FM_MEASURES_H
#define FM_MEASURES_H

#include <stdbool.h>

#include "daemon/fold.h"
#include "daemon/timebase.h"
#include "ipfix/record.h"

/*
 * Fills the members of the record's family and encapsulation, which it sets: direction d, and with
 * record->biflow the other as reverse. The rest of the record is there already.
 */
void fm_measures_set(struct fm_record *record, const struct fm_conversation *conversation,
		     unsigned int d, unsigned int first, const struct fm_timebase *timebase);

#endif
