/* SPDX-License-Identifier: Apache-2.0 */
/* Command line, configuration file, and the event loop's life. Everything else is the manager's. */
#include <errno.h>
#include <getopt.h>
#include <signal.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <systemd/sd-daemon.h>
#include <systemd/sd-event.h>

#include "base/cleanup.h"
#include "base/log.h"
#include "daemon/config.h"
#include "daemon/detect.h"
#include "daemon/manager.h"
#include "daemon/tables.h"

#define DEFAULT_CONFIG FM_SYSCONFDIR "/flowmond/flowmond.conf"

enum action {
	ACTION_RUN,
	ACTION_CHECK_CONFIG,
	ACTION_PRINT_CONFIG,
	ACTION_LIST_FIELDS,
	ACTION_LIST_SETTINGS,
	ACTION_LIST_COUNTERS,
	ACTION_CHECK,
	ACTION_VERSION,
	ACTION_HELP,
};

struct arguments {
	enum action action;
	const char *config_path; /* NULL: the default one, or the embedded default */
	bool foreground;
	enum fm_table_format format;
};

static const char help[] =
	"flowmond [OPTION]...\n"
	"\n"
	"Counts every packet on this host's interfaces and exports flows as IPFIX or\n"
	"NetFlow v9.\n"
	"\n"
	"  --config FILE         configuration, instead of " DEFAULT_CONFIG "\n"
	"  --foreground          log to standard error and stay on the terminal\n"
	"  --check-config        read the configuration, say what is wrong, do nothing else\n"
	"  --print-config        print the configuration as it would be used\n"
	"  --check               say what this kernel and these privileges allow\n"
	"  --list-fields         fields of flow records (=markdown: as Markdown)\n"
	"  --list-settings       settings of the configuration (=markdown)\n"
	"  --list-counters       counters of packets that are in no flow (=markdown)\n"
	"  --version             print the version\n"
	"  --help                print this\n";

static const struct option options[] = {
	{"config", required_argument, NULL, 'c'},
	{"foreground", no_argument, NULL, 'f'},
	{"check-config", no_argument, NULL, ACTION_CHECK_CONFIG},
	{"print-config", no_argument, NULL, ACTION_PRINT_CONFIG},
	{"check", no_argument, NULL, ACTION_CHECK},
	{"list-fields", optional_argument, NULL, ACTION_LIST_FIELDS},
	{"list-settings", optional_argument, NULL, ACTION_LIST_SETTINGS},
	{"list-counters", optional_argument, NULL, ACTION_LIST_COUNTERS},
	{"version", no_argument, NULL, ACTION_VERSION},
	{"help", no_argument, NULL, ACTION_HELP},
	{},
};

static int parse_arguments(int argc, char **argv, struct arguments *ret)
{
	int c;

	while ((c = getopt_long(argc, argv, "", options, NULL)) >= 0) {
		switch (c) {
		case '?':
			return -EINVAL;
		case 'c':
			ret->config_path = optarg;
			continue;
		case 'f':
			ret->foreground = true;
			continue;
		}
		ret->action = c;
		if (!optarg)
			continue;
		if (strcmp(optarg, "markdown")) {
			fprintf(stderr, "flowmond: '%s' is no format: markdown is\n", optarg);
			return -EINVAL;
		}
		ret->format = FM_TABLE_MARKDOWN;
	}
	if (optind < argc) {
		fprintf(stderr, "flowmond: '%s' is not an option\n", argv[optind]);
		return -EINVAL;
	}
	return 0;
}
