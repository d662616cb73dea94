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
#include "base/macro.h"
#include "daemon/config.h"
#include "daemon/detect.h"
#include "daemon/manager.h"
#include "daemon/purge.h"
#include "daemon/tables.h"

#define DEFAULT_CONFIG FM_SYSCONFDIR "/flowmond/flowmond.conf"

enum action {
	ACTION_RUN,
	ACTION_CHECK_CONFIG,
	ACTION_PRINT_CONFIG,
	ACTION_PRINT_EXAMPLE,
	ACTION_LIST_FIELDS,
	ACTION_LIST_SETTINGS,
	ACTION_LIST_COUNTERS,
	ACTION_CHECK,
	ACTION_PURGE,
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
	"  --print-example       print a configuration file that explains every setting\n"
	"  --check               say what this kernel and these privileges allow\n"
	"  --list-fields         fields of flow records (=markdown: as Markdown)\n"
	"  --list-settings       settings of the configuration (=markdown)\n"
	"  --list-counters       counters, causes and figures of flowmonctl status (=markdown)\n"
	"  --purge               remove what a killed flowmond left in the kernel\n"
	"  --version             print the version\n"
	"  --help                print this\n";

static const struct option options[] = {
	{"config", required_argument, NULL, 'c'},
	{"foreground", no_argument, NULL, 'f'},
	{"check-config", no_argument, NULL, ACTION_CHECK_CONFIG},
	{"print-config", no_argument, NULL, ACTION_PRINT_CONFIG},
	{"print-example", no_argument, NULL, ACTION_PRINT_EXAMPLE},
	{"check", no_argument, NULL, ACTION_CHECK},
	{"list-fields", optional_argument, NULL, ACTION_LIST_FIELDS},
	{"list-settings", optional_argument, NULL, ACTION_LIST_SETTINGS},
	{"list-counters", optional_argument, NULL, ACTION_LIST_COUNTERS},
	{"purge", no_argument, NULL, ACTION_PURGE},
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

/* The file that was named, else the default one if it is there, else the embedded default. */
static int load_config(const struct arguments *arguments, struct fm_config **ret,
		       const char **ret_path)
{
	_fm_cleanup_buf_ struct fm_buf errors = {};
	const char *path = arguments->config_path ? arguments->config_path : DEFAULT_CONFIG;
	int r = fm_config_load(path, ret, &errors);

	if (r == -ENOENT && !arguments->config_path) {
		*ret_path = NULL;
		return fm_config_new_embedded(ret);
	}
	*ret_path = path;
	if (r < 0 && errors.size)
		fprintf(stderr, "%s", errors.data);
	else if (r < 0)
		fprintf(stderr, "flowmond: %s: %s\n", path, strerror(-r));
	return r;
}

/* Which signal ends the process, 0: none yet. */
static int on_end(sd_event_source *source, const struct signalfd_siginfo *info, void *userdata)
{
	*(int *)userdata = (int)info->ssi_signo;
	return 0;
}

static int on_reload(sd_event_source *source, const struct signalfd_siginfo *info, void *userdata)
{
	fm_manager_reload(userdata);
	return 0;
}

/* Before any thread starts, so that signals are the loop's alone. */
static void block_signals(void)
{
	sigset_t set;

	sigemptyset(&set);
	sigaddset(&set, SIGTERM);
	sigaddset(&set, SIGINT);
	sigaddset(&set, SIGHUP);
	sigaddset(&set, SIGUSR2);
	sigprocmask(SIG_BLOCK, &set, NULL);
	signal(SIGPIPE, SIG_IGN);
	signal(SIGXFSZ, SIG_IGN);
}

/*
 * Until a signal says to stop: SIGTERM and SIGINT, or SIGUSR2 where a next process takes over.
 * Returns it, or -errno. Stopping runs the loop on, so sd_event_exit() is not for this, and signals
 * are no longer listened to then.
 */
static int run_loop(sd_event *event, struct fm_manager *manager)
{
	static const int ends[] = {SIGTERM, SIGINT, SIGUSR2};
	sd_event_source *sources[FM_ARRAY_SIZE(ends) + 1] = {};
	int end = 0, r = 0;

	for (size_t i = 0; i < FM_ARRAY_SIZE(ends) && r >= 0; i++)
		r = sd_event_add_signal(event, &sources[i], ends[i], on_end, &end);
	if (r >= 0)
		r = sd_event_add_signal(event, &sources[FM_ARRAY_SIZE(ends)], SIGHUP, on_reload,
					manager);
	if (r >= 0)
		r = sd_event_set_watchdog(event, true);
	if (r >= 0) {
		fm_manager_ready(manager);
		fm_log_info("ready");
	}
	while (!end && r >= 0)
		r = sd_event_run(event, UINT64_MAX);
	for (size_t i = 0; i < FM_ARRAY_SIZE(sources); i++)
		sd_event_source_disable_unref(sources[i]);
	return r < 0 ? r : end;
}

/* What is left to the next process must not be closed. */
#define LEFT (-1)

/* An exit status, or LEFT. */
static int run(const struct arguments *arguments)
{
	struct fm_config *config = NULL;
	sd_event *event = NULL;
	struct fm_manager *manager = NULL;
	const char *path;
	int r = load_config(arguments, &config, &path);

	if (r < 0)
		return EXIT_FAILURE;
	fm_log_init((int)config->log_level, !arguments->foreground && fm_log_is_journal());
	block_signals();
	r = sd_event_new(&event);
	if (r >= 0)
		r = fm_manager_new(&manager, event, config, path);
	else
		fm_config_free(config);
	if (r >= 0)
		r = run_loop(event, manager);
	if (manager && r == SIGUSR2 && fm_manager_leave(manager))
		return LEFT;
	if (manager)
		fm_manager_stop(manager);
	fm_manager_free(manager);
	sd_event_unref(event);
	if (r < 0)
		fm_log_error("stopped: %s", strerror(-r));
	return r < 0 ? EXIT_FAILURE : EXIT_SUCCESS;
}

static int check_config(const struct arguments *arguments, bool print)
{
	_fm_cleanup_(fm_config_freep) struct fm_config *config = NULL;
	_fm_cleanup_buf_ struct fm_buf text = {};
	const char *path;

	if (load_config(arguments, &config, &path) < 0)
		return EXIT_FAILURE;
	if (!print)
		return EXIT_SUCCESS;
	if (fm_config_print(config, &text) < 0)
		return EXIT_FAILURE;
	fputs(text.data, stdout);
	return EXIT_SUCCESS;
}

static int purge(const struct arguments *arguments)
{
	_fm_cleanup_(fm_config_freep) struct fm_config *config = NULL;
	const char *path;

	if (load_config(arguments, &config, &path) < 0)
		return EXIT_FAILURE;
	return fm_purge(config, stdout) < 0 ? EXIT_FAILURE : EXIT_SUCCESS;
}

static int print_example(void)
{
	_fm_cleanup_buf_ struct fm_buf text = {};

	if (fm_config_print_example(&text) < 0)
		return EXIT_FAILURE;
	fputs(text.data, stdout);
	return EXIT_SUCCESS;
}

static int print_table(int (*table)(enum fm_table_format format, struct fm_buf *ret),
		       enum fm_table_format format)
{
	_fm_cleanup_buf_ struct fm_buf text = {};

	if (table(format, &text) < 0)
		return EXIT_FAILURE;
	fputs(text.data, stdout);
	return EXIT_SUCCESS;
}

int main(int argc, char **argv)
{
	struct arguments arguments = {};
	int status;

	if (parse_arguments(argc, argv, &arguments) < 0) {
		fprintf(stderr, "Try flowmond --help.\n");
		return EXIT_FAILURE;
	}
	switch (arguments.action) {
	case ACTION_RUN:
		status = run(&arguments);
		if (status == LEFT)
			_exit(EXIT_SUCCESS);
		return status;
	case ACTION_CHECK_CONFIG:
		return check_config(&arguments, false);
	case ACTION_PRINT_CONFIG:
		return check_config(&arguments, true);
	case ACTION_PRINT_EXAMPLE:
		return print_example();
	case ACTION_LIST_FIELDS:
		return print_table(fm_tables_fields, arguments.format);
	case ACTION_LIST_SETTINGS:
		return print_table(fm_tables_settings, arguments.format);
	case ACTION_LIST_COUNTERS:
		return print_table(fm_tables_counters, arguments.format);
	case ACTION_CHECK:
		return fm_detect_print(stdout) == 0 ? EXIT_SUCCESS : EXIT_FAILURE;
	case ACTION_PURGE:
		return purge(&arguments);
	case ACTION_VERSION:
		printf("flowmond " FM_VERSION "\n");
		return EXIT_SUCCESS;
	case ACTION_HELP:
		fputs(help, stdout);
		return EXIT_SUCCESS;
	}
	return EXIT_FAILURE;
}
