/* SPDX-License-Identifier: Apache-2.0 */
/* A sink's account goes on in a version that has other figures, in another order. */
#include <stdbool.h>
#include <string.h>

#include "daemon/account.h"
#include "test.h"

static struct fm_account account;

/* As a version would leave it that has the figures backwards, one more and one less. */
static void make_other(void)
{
	struct fm_account_bank own = account.banks[account.which];
	struct fm_account_bank *bank = &account.banks[account.which];

	for (uint32_t i = 0; i < own.n; i++) {
		bank->names[own.n - 1 - i] = own.names[i];
		bank->figures[own.n - 1 - i] = own.figures[i];
	}
	bank->names[own.n - 1] = 0x12345678; /* where the first one was */
}

static void test_other(void)
{
	struct fm_sink_stats *stats, *again;

	memset(&account, 0, sizeof(account));
	stats = fm_account_open(&account);
	stats->message_octets = 1;
	stats->records = 4711;
	stats->unsure_messages = 3;
	stats->not_sent[_FM_NOT_SENT_MAX - 1].octets = 99;
	account.mark.inode = 12345;
	make_other();
	again = fm_account_open(&account);
	FM_TEST(again != stats && again->records == 4711 && again->unsure_messages == 3 &&
			again->not_sent[_FM_NOT_SENT_MAX - 1].octets == 99,
		"figures are found by their names");
	FM_TEST(again->message_octets == 0, "one that the other had not begins at 0");
	FM_TEST(account.mark.inode == 12345, "how far a file was written stays");
	account.mark_size--;
	fm_account_open(&account);
	FM_TEST(account.mark.inode == 0 && again->records == 4711, "one of another size is none");
	FM_TEST(fm_account_open(&account) == again && again->records == 4711,
		"the same version goes on with its own");
}

static void test_garbage(void)
{
	struct fm_sink_stats *stats;

	memset(&account, 0xff, sizeof(account));
	stats = fm_account_open(&account);
	FM_TEST(stats->records == 0 && account.mark.inode == 0, "another magic: begins at 0");
	account.which = UINT32_MAX;
	account.banks[1].n = UINT32_MAX;
	stats = fm_account_open(&account);
	FM_TEST(stats == &account.banks[0].stats, "numbers that cannot be do no harm");
}

int main(void)
{
	test_other();
	test_garbage();
	return fm_test_done();
}
