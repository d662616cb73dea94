/* SPDX-License-Identifier: Apache-2.0 */
/* Accounts of sinks: see account.h. */
#include "daemon/account.h"

#include <stddef.h>
#include <string.h>

#include "base/fnv.h"
#include "base/macro.h"

#define MAGIC 0x666d6163 /* of this struct */

/* Members of struct fm_sink_stats in their order. */
#define NAME_SINK(name) #name,
#define NAME_DAEMON(name)
static const char *const names[] = {
#define FM_STATISTIC(owner, name, ...) NAME_##owner(name)
#include "ipfix/statistics.def"
#undef FM_STATISTIC
#define FM_NOT_SENT(name, help)                                                                    \
	"not_sent." #name ".records", "not_sent." #name ".packets", "not_sent." #name ".octets",
#include "ipfix/not-sent.def"
#undef FM_NOT_SENT
};

_Static_assert(sizeof(struct fm_sink_stats) == FM_ARRAY_SIZE(names) * sizeof(uint64_t), "numbers");
_Static_assert(FM_ARRAY_SIZE(names) <= FM_ACCOUNT_FIGURES, "room");

static bool is_own(const struct fm_account_bank *bank)
{
	if (bank->n != FM_ARRAY_SIZE(names))
		return false;
	for (size_t i = 0; i < FM_ARRAY_SIZE(names); i++)
		if (bank->names[i] != fm_fnv32_text(names[i]))
			return false;
	return true;
}

static uint64_t find(const struct fm_account_bank *bank, uint32_t name)
{
	for (uint32_t i = 0; i < FM_MIN(bank->n, (uint32_t)FM_ACCOUNT_FIGURES); i++)
		if (bank->names[i] == name)
			return bank->figures[i];
	return 0;
}

static void translate(struct fm_account_bank *to, const struct fm_account_bank *from)
{
	*to = (struct fm_account_bank){.n = FM_ARRAY_SIZE(names)};
	for (size_t i = 0; i < FM_ARRAY_SIZE(names); i++) {
		to->names[i] = fm_fnv32_text(names[i]);
		to->figures[i] = find(from, to->names[i]);
	}
}

struct fm_sink_stats *fm_account_open(struct fm_account *account)
{
	uint32_t which;

	if (account->magic != MAGIC)
		*account = (struct fm_account){.magic = MAGIC};
	if (account->mark_size != sizeof(account->mark) ||
	    account->intent_size != sizeof(account->intent)) {
		memset(&account->mark, 0, sizeof(account->mark));
		memset(&account->intent, 0, sizeof(account->intent));
		account->mark_size = sizeof(account->mark);
		account->intent_size = sizeof(account->intent);
	}
	which = account->which & 1;
	if (!is_own(&account->banks[which])) {
		translate(&account->banks[!which], &account->banks[which]);
		which = !which;
		__atomic_store_n(&account->which, which, __ATOMIC_RELEASE);
	}
	return &account->banks[which].stats;
}
