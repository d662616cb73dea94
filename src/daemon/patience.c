/* SPDX-License-Identifier: Apache-2.0 */
/* Waiting for one, within bounds: see patience.h. */
#include "daemon/patience.h"

#include "base/clock.h"
#include "base/macro.h"

#define MOST_NS FM_NS_PER_S
#define PARTS	10

uint64_t fm_patience_settle(struct fm_patience *patience, uint64_t now_ns)
{
	uint64_t paid = (now_ns - patience->paid_ns) / PARTS, waited = 0, told;

	if (patience->since_ns)
		waited = now_ns - patience->since_ns;
	patience->debt_ns -= FM_MIN(patience->debt_ns, paid);
	patience->debt_ns += waited;
	patience->paid_ns = now_ns;
	patience->since_ns = 0;
	patience->waited_ns += waited;
	told = patience->waited_ns / FM_NS_PER_MS;
	patience->waited_ns %= FM_NS_PER_MS;
	return told;
}

bool fm_patience_ask(struct fm_patience *patience, uint64_t now_ns)
{
	patience->looked_ns = now_ns;
	patience->is_spent |= patience->debt_ns >= MOST_NS;
	return !patience->is_spent;
}

void fm_patience_keep(struct fm_patience *patience)
{
	if (!patience->is_spent)
		patience->since_ns = patience->looked_ns;
}

void fm_patience_restore(struct fm_patience *patience)
{
	patience->is_spent = false;
}
