/* SPDX-License-Identifier: Apache-2.0 */
/* Which sinks there are: see sinks.h. */
#include "daemon/sinks.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "base/clock.h"
#include "base/log.h"
#include "base/macro.h"
#include "daemon/courier.h"

/* What a replaced sink gets for sending what it holds. */
#define REPLACED_NS (100 * FM_NS_PER_MS)

struct fm_config_ref {
	struct fm_config *config;
	unsigned int n;
};

struct fm_config_ref *fm_config_ref_new(struct fm_config *config)
{
	struct fm_config_ref *ref = calloc(1, sizeof(*ref));

	if (!ref)
		return NULL;
	ref->config = config;
	ref->n = 1;
	return ref;
}

static struct fm_config_ref *take_ref(struct fm_config_ref *ref)
{
	ref->n++;
	return ref;
}

struct fm_config_ref *fm_config_ref_unref(struct fm_config_ref *ref)
{
	if (!ref || --ref->n > 0)
		return NULL;
	fm_config_free(ref->config);
	free(ref);
	return NULL;
}

const struct fm_config *fm_config_ref_get(const struct fm_config_ref *ref)
{
	return ref->config;
}

/* One kind of sink: how many a configuration asks for, and which of them are the same in two. */
struct kind {
	const struct fm_sink_ops *ops;
	size_t (*count)(const struct fm_config *config);
	bool (*same)(const struct fm_config *a, size_t a_index, const struct fm_config *b,
		     size_t b_index);
};

static size_t count_collectors(const struct fm_config *config)
{
	return config->n_collectors;
}

static bool same_spool(const struct fm_config *a, const struct fm_config *b)
{
	return !strcmp(a->spool_directory, b->spool_directory) &&
	       a->spool_max_octets == b->spool_max_octets &&
	       a->spool_file_octets == b->spool_file_octets &&
	       a->spool_sync_ns == b->spool_sync_ns && a->spool_rate == b->spool_rate;
}

static bool same_collector(const struct fm_config *a, size_t a_index, const struct fm_config *b,
			   size_t b_index)
{
	return a->biflow == b->biflow && same_spool(a, b) &&
	       a->collectors[a_index].identity == b->collectors[b_index].identity &&
	       fm_config_collector_equal(&a->collectors[a_index], &b->collectors[b_index]);
}

static size_t count_ipfix_file(const struct fm_config *config)
{
	return config->file_directory[0] != '\0';
}

static size_t count_json(const struct fm_config *config)
{
	return config->json_file[0] != '\0';
}

static size_t count_text(const struct fm_config *config)
{
	return config->text_file[0] != '\0';
}

/* A file is opened again by every reload: it may have been moved away (logrotate). */
static bool never_same(const struct fm_config *a, size_t a_index, const struct fm_config *b,
		       size_t b_index)
{
	return false;
}

static const struct kind kinds[] = {
	{&fm_sink_collector, count_collectors, same_collector},
	{&fm_sink_ipfix_file, count_ipfix_file, never_same},
	{&fm_sink_json, count_json, never_same},
	{&fm_sink_text, count_text, never_same},
};

/* A sink and the configuration it was opened with. */
struct entry {
	struct fm_sink *sink;
	const struct kind *kind;
	struct fm_config_ref *ref;
	size_t index;
	bool kept;
};

struct fm_sinks {
	struct fm_sink_env env;
	struct fm_legacies legacies;
	struct fm_export *exporter;
	struct entry *entries;
	size_t n;
	uint8_t route_key[FM_ROUTE_KEY_OCTETS];
	bool stable_routes; /* the key is the same after the next start */
};

int fm_sinks_new(struct fm_sinks **ret, const struct fm_sink_env *env, struct fm_export *exporter)
{
	struct fm_sinks *sinks = calloc(1, sizeof(*sinks));

	if (!sinks)
		return -ENOMEM;
	sinks->env = *env;
	sinks->env.legacies = &sinks->legacies;
	sinks->exporter = exporter;
	sinks->stable_routes = fm_routes_machine_key(sinks->route_key);
	*ret = sinks;
	return 0;
}

static void close_entry(struct entry *entry, uint64_t deadline_ns)
{
	struct fm_sink_stats stats;

	entry->sink->ops->close(entry->sink, deadline_ns, &stats);
	entry->ref = fm_config_ref_unref(entry->ref);
	entry->sink = NULL;
}

/* The sink that goes on as the index-th of kind, if there is one. */
static struct entry *find_same(struct fm_sinks *sinks, const struct kind *kind,
			       const struct fm_config *config, size_t index)
{
	for (size_t i = 0; i < sinks->n; i++) {
		struct entry *entry = &sinks->entries[i];

		if (entry->kind == kind && !entry->kept &&
		    kind->same(fm_config_ref_get(entry->ref), entry->index, config, index))
			return entry;
	}
	return NULL;
}

static int open_entry(struct fm_sinks *sinks, const struct kind *kind, struct fm_config_ref *ref,
		      size_t index, struct entry *ret)
{
	struct fm_sink_env env = sinks->env;
	int r;

	env.config = fm_config_ref_get(ref);
	r = kind->ops->open(&ret->sink, &env, index);
	if (r < 0)
		return r;
	ret->kind = kind;
	ret->index = index;
	ret->ref = take_ref(ref);
	return 0;
}

/* Fills wanted, opening what is new; kept ones are only marked. */
static int open_wanted(struct fm_sinks *sinks, struct fm_config_ref *ref, struct entry *wanted,
		       bool *opened)
{
	const struct fm_config *config = fm_config_ref_get(ref);
	size_t n = 0;

	for (size_t k = 0; k < FM_ARRAY_SIZE(kinds); k++)
		for (size_t i = 0; i < kinds[k].count(config); i++, n++) {
			struct entry *same = find_same(sinks, &kinds[k], config, i);
			int r;

			if (same) {
				same->kept = true;
				wanted[n] = *same;
				wanted[n].kept = false;
				continue;
			}
			r = open_entry(sinks, &kinds[k], ref, i, &wanted[n]);
			if (r < 0)
				return r;
			opened[n] = true;
		}
	return 0;
}

static size_t count_wanted(const struct fm_config *config)
{
	size_t n = 0;

	for (size_t k = 0; k < FM_ARRAY_SIZE(kinds); k++)
		n += kinds[k].count(config);
	return n;
}

/* The list for the exporter, and the routes to what is in it: collectors are the first kind. */
static int make_routes(struct fm_sinks *sinks, const struct fm_config *config,
		       const struct entry *wanted, size_t n, struct fm_sink **list,
		       struct fm_routes *ret)
{
	for (size_t i = 0; i < n; i++)
		list[i] = wanted[i].sink;
	return fm_routes_init(ret, sinks->route_key, config, list, n, &sinks->exporter->routes);
}

/* Gives the exporter both; they were made before anything was changed. */
static void publish(struct fm_sinks *sinks, struct fm_sink **list, const struct fm_routes *routes)
{
	free(sinks->exporter->sinks);
	fm_routes_done(&sinks->exporter->routes);
	sinks->exporter->sinks = list;
	sinks->exporter->n_sinks = sinks->n;
	sinks->exporter->routes = *routes;
}

int fm_sinks_apply(struct fm_sinks *sinks, struct fm_config_ref *ref)
{
	size_t n = count_wanted(fm_config_ref_get(ref));
	_fm_cleanup_free_ struct entry *wanted = calloc(n + 1, sizeof(*wanted));
	_fm_cleanup_free_ struct fm_sink **list = calloc(n + 1, sizeof(*list));
	_fm_cleanup_free_ bool *opened = calloc(n + 1, sizeof(*opened));
	uint64_t deadline = fm_clock_monotonic_ns() + REPLACED_NS;
	struct fm_routes routes;
	int r;

	if (!wanted || !list || !opened)
		return -ENOMEM;
	r = open_wanted(sinks, ref, wanted, opened);
	if (r == 0)
		r = make_routes(sinks, fm_config_ref_get(ref), wanted, n, list, &routes);
	if (r < 0) {
		for (size_t i = 0; i < n; i++)
			if (opened[i])
				close_entry(&wanted[i], deadline);
		for (size_t i = 0; i < sinks->n; i++)
			sinks->entries[i].kept = false;
		return r;
	}
	for (size_t i = 0; i < sinks->n; i++)
		if (!sinks->entries[i].kept)
			close_entry(&sinks->entries[i], deadline);
	for (size_t i = 0; i < n; i++)
		if (opened[i] && wanted[i].sink->ops->start)
			wanted[i].sink->ops->start(wanted[i].sink);
	fm_courier_all_begun(&sinks->env);
	free(sinks->entries);
	sinks->entries = FM_TAKE_PTR(wanted);
	sinks->n = n;
	publish(sinks, FM_TAKE_PTR(list), &routes);
	if (routes.decides && !sinks->stable_routes) {
		fm_log_notice(
			"this system has no machine id: conversations may change their collectors at the next start");
		sinks->stable_routes = true; /* said */
	}
	return 0;
}

void fm_sinks_interfaces_changed(struct fm_sinks *sinks)
{
	for (size_t i = 0; i < sinks->n; i++)
		sinks->entries[i].sink->ops->interfaces_changed(sinks->entries[i].sink);
}

bool fm_sinks_audit_room(struct fm_sinks *sinks)
{
	bool room = true;

	for (size_t i = 0; i < sinks->n; i++) {
		struct fm_sink *sink = sinks->entries[i].sink;

		if (!sink->ops->audit || sink->ops->room(sink) > 0)
			continue;
		room = false;
		if (sink->ops->kept)
			sink->ops->kept(sink);
	}
	return room;
}

void fm_sinks_audit(struct fm_sinks *sinks, const struct fm_audit_row *row)
{
	for (size_t i = 0; i < sinks->n; i++) {
		struct fm_sink *sink = sinks->entries[i].sink;

		if (sink->ops->audit)
			sink->ops->audit(sink, row);
	}
}

struct fm_sinks *fm_sinks_free(struct fm_sinks *sinks, uint64_t deadline_ns)
{
	if (!sinks)
		return NULL;
	for (size_t i = 0; i < sinks->n; i++)
		close_entry(&sinks->entries[i], deadline_ns);
	fm_courier_all_begun(&sinks->env);
	free(sinks->entries);
	free(sinks->exporter->sinks);
	fm_routes_done(&sinks->exporter->routes);
	sinks->exporter->sinks = NULL;
	sinks->exporter->n_sinks = 0;
	free(sinks);
	return NULL;
}
