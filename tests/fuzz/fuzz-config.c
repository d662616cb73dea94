/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The configuration file: any text. What is refused is refused with a reason for each line that
 * is wrong; what is taken prints to a file that is taken and prints the same.
 */
#include <errno.h>

#include "daemon/config.h"
#include "daemon/pattern.h"
#include "fuzz.h"

static int parse(const char *text, size_t size, struct fm_config **ret, struct fm_buf *errors)
{
	_fm_cleanup_fclose_ FILE *file = fmemopen((void *)(uintptr_t)text, size, "r");

	FUZZ_CHECK(file);
	return fm_config_parse(file, "fuzz.conf", ret, errors);
}

/* What is said reaches terminals and journals. */
static bool is_plain(const struct fm_buf *text)
{
	for (size_t i = 0; i < text->size; i++)
		if (((unsigned char)text->data[i] < 0x20 && text->data[i] != '\n') ||
		    text->data[i] == 0x7f)
			return false;
	return true;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	_fm_cleanup_(fm_config_freep) struct fm_config *config = NULL, *again = NULL;
	_fm_cleanup_buf_ struct fm_buf errors = {}, printed = {}, printed_again = {};
	int r;

	if (!size)
		return 0;
	r = parse((const char *)data, size, &config, &errors);
	FUZZ_CHECK(is_plain(&errors));
	if (r < 0) {
		FUZZ_CHECK(r == -EINVAL && errors.size && !config);
		return 0;
	}
	FUZZ_CHECK(!errors.size && fm_config_print(config, &printed) == 0);
	r = parse(printed.data, printed.size, &again, &errors);
	if (r < 0 || errors.size)
		fprintf(stderr, "%s\n%s\n", printed.data, errors.data);
	FUZZ_CHECK(r == 0 && fm_config_print(again, &printed_again) == 0);
	FUZZ_CHECK(!strcmp(printed.data, printed_again.data));
	FUZZ_CHECK(config->n_collectors == again->n_collectors);
	for (size_t i = 0; i < config->n_collectors; i++)
		FUZZ_CHECK(
			fm_config_collector_equal(&config->collectors[i], &again->collectors[i]));
	return 0;
}
