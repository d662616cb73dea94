/* SPDX-License-Identifier: Apache-2.0 */
/* The tables of rows, printed: for people, and as Markdown for the docs. Called by main. */
#ifndef FM_TABLES_H
#define FM_TABLES_H

#include "base/buf.h"

enum fm_table_format {
	FM_TABLE_TEXT,
	FM_TABLE_MARKDOWN,
};

int fm_tables_fields(enum fm_table_format format, struct fm_buf *ret);
int fm_tables_settings(enum fm_table_format format, struct fm_buf *ret);
int fm_tables_counters(enum fm_table_format format, struct fm_buf *ret);

#endif
