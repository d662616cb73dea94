/* SPDX-License-Identifier: Apache-2.0 */
/* Owner of everything: see manager.h. */
#include "daemon/manager.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <systemd/sd-daemon.h>

#include "base/clock.h"
#include "base/log.h"
#include "base/macro.h"
#include "daemon/audit.h"
#include "daemon/config-fields.h"
#include "daemon/control.h"
#include "daemon/fence.h"
#include "daemon/filters.h"
#include "daemon/found.h"
#include "daemon/hooks.h"
#include "daemon/identity.h"
#include "daemon/interfaces.h"
#include "daemon/ledger.h"
#include "daemon/links.h"
#include "daemon/losses.h"
#include "daemon/naming.h"
#include "daemon/numbering.h"
#include "daemon/sinks.h"
#include "daemon/status.h"
#include "daemon/sweeper.h"

/* What stopping may take: exporting what is open, then sending it. Less than TimeoutStopSec=. */
#define STOP_EXPORT_NS (20 * FM_NS_PER_S)
#define STOP_SEND_NS   (5 * FM_NS_PER_S)
/* The status line is told again after this. */
#define STATUS_INTERVAL_NS (10 * FM_NS_PER_S)

/* An audit that the sinks have no room for goes on after this. */
#define AUDIT_SOON_US 10000

struct fm_manager {
	sd_event *event;
	char *path;
	struct fm_config_ref *ref;
	struct fm_store *store;
	struct fm_numbering *numbering;
	struct fm_naming *naming;
	struct fm_kernel *kernel;
	struct fm_timebase timebase;
	struct fm_filters *filters;
	struct fm_hooks hooks;
	struct fm_interfaces *interfaces;
	struct fm_fence *fence; /* of their changes */
	struct fm_export exporter;
	struct fm_ledger *ledger;
	struct fm_sweeper *sweeper;
	struct fm_sinks *sinks;
	struct fm_control *control;
	uint64_t start_ns;	     /* since 1970 */
	uint64_t start_monotonic_ns; /* for uptime */
	uint64_t status_ns;	     /* when the status was told last */
	struct fm_losses losses;     /* as they were logged last */
	struct fm_audit *audit;
	sd_event_source *audit_timer;
	bool resumed;	/* with the tables of an earlier process */
	bool ready_due; /* systemd is to be told */
};

static const struct fm_config *config_of(const struct fm_manager *manager)
{
	return fm_config_ref_get(manager->ref);
}

/* --- what others ask --- */

struct interface_visit {
	struct fm_manager *manager;
	void (*fn)(const struct fm_interface_name *name, void *argument);
	void *argument;
};

static void visit_interface(void *argument, const struct fm_device *device,
			    const struct fm_plan *plan)
{
	struct interface_visit *visit = argument;
	uint32_t ifindex = FM_INTERFACES_BASE(device->ns) + device->ifindex;
	const struct fm_interface_name name = {
		.ifindex = ifindex,
		.name = device->name,
		.description = device->alias,
		.namespace = fm_interfaces_namespace(visit->manager->interfaces, device->ns),
		.speed = device->speed,
		.vrf = fm_naming_vrf(visit->manager->naming, ifindex, 0),
	};

	visit->fn(&name, visit->argument);
}

static void for_each_interface(void *userdata,
			       void (*fn)(const struct fm_interface_name *name, void *argument),
			       void *argument)
{
	struct fm_manager *manager = userdata;
	struct interface_visit visit = {manager, fn, argument};

	if (manager->interfaces)
		fm_interfaces_for_each(manager->interfaces, visit_interface, &visit);
}

static void count_hooks(void *argument, const struct fm_device *device, const struct fm_plan *plan)
{
	*(uint64_t *)argument += plan->ingress || plan->egress;
}

static void exporter_stats(void *userdata, struct fm_exporter_stats *ret)
{
	struct fm_manager *manager = userdata;
	const struct fm_sweep_stats *sweep = fm_sweeper_stats(manager->sweeper);
	uint64_t overflow = fm_sweeper_overflow_conversations(manager->sweeper);
	struct fm_audit_record all = {};
	struct fm_counters counters;

	fm_kernel_counters(manager->kernel, &counters);
	fm_audit_classes(&all, &counters);
	*ret = (struct fm_exporter_stats){
		.observed_packets = all.seen_packets - all.again_packets,
		.observed_octets = all.seen_octets - all.again_octets,
		.observed_flows = sweep->closed + sweep->live_slots + overflow,
		.ignored_packets = all.ignored_packets + all.lost_packets,
		.ignored_octets = all.ignored_octets + all.lost_octets,
		.start_ns = manager->start_ns,
		.uptime_ms = (fm_clock_monotonic_ns() - manager->start_monotonic_ns) / FM_NS_PER_MS,
		.hooks = manager->hooks.n,
		.max_flows = config_of(manager)->max_flows,
		.live_slots = sweep->live_slots,
		.tombstones = sweep->tombstones,
		.sweeps = sweep->sweeps,
		.closed_conversations = sweep->closed,
		.overflow_conversations = overflow,
		.records = manager->exporter.records,
		.exported_packets = manager->exporter.packets,
		.exported_octets = manager->exporter.octets,
	};
	/* Both are gone when the last figures are told. */
	if (manager->hooks.generation)
		ret->table_octets = fm_generation_memory(manager->hooks.generation);
	if (manager->interfaces)
		fm_interfaces_for_each(manager->interfaces, count_hooks, &ret->interfaces);
}

static void all_counters(void *userdata, struct fm_counters *ret)
{
	fm_kernel_counters(((struct fm_manager *)userdata)->kernel, ret);
}

struct status_visit {
	struct fm_manager *manager;
	struct fm_status *status;
	size_t room;
};

static void visit_status(void *argument, const struct fm_device *device, const struct fm_plan *plan)
{
	struct status_visit *visit = argument;
	const struct fm_gates *gates = fm_kernel_gates(visit->manager->kernel);
	uint32_t ifindex = FM_INTERFACES_BASE(device->ns) + device->ifindex;
	unsigned int gate = fm_gates_find(gates, ifindex);
	struct fm_status_interface *interface;

	if (!plan->ingress && !plan->egress)
		return;
	if (gate == FM_GATE_OTHERS || visit->status->n_interfaces == visit->room)
		return;
	interface = &visit->status->interfaces[visit->status->n_interfaces++];
	*interface = (struct fm_status_interface){.ifindex = ifindex};
	memcpy(interface->name, device->name, sizeof(interface->name));
	for (int hook = 0; hook < _FM_HOOK_MAX; hook++) {
		interface->hooked[hook] = fm_gates_is_open(gates, gate, (enum fm_hook)hook);
		fm_gates_sum(gates, gate, (enum fm_hook)hook, &interface->counters[hook]);
	}
}

/* What interfaces count that have no gate. */
static void status_others(struct fm_manager *manager, struct fm_status *ret)
{
	struct fm_status_interface others = {.name = "others"};

	for (int hook = 0; hook < _FM_HOOK_MAX; hook++)
		fm_gates_sum(fm_kernel_gates(manager->kernel), FM_GATE_OTHERS, (enum fm_hook)hook,
			     &others.counters[hook]);
	if (others.counters[FM_HOOK_INGRESS].frames || others.counters[FM_HOOK_EGRESS].frames)
		ret->interfaces[ret->n_interfaces++] = others;
}

/* by_interface: that part as well. */
static void get_status(struct fm_manager *manager, bool by_interface, struct fm_status *ret)
{
	struct status_visit visit = {manager, ret, FM_GATES - 1};

	fm_routes_update(&manager->exporter.routes, fm_clock_monotonic_ns());
	*ret = (struct fm_status){
		.attach = fm_hooks_describe(&manager->hooks),
		.resumed = manager->resumed,
		.exporter = &manager->exporter,
		.filters = manager->filters,
	};
	exporter_stats(manager, &ret->figures);
	fm_kernel_counters(manager->kernel, &ret->counters);
	if (!by_interface || !manager->interfaces)
		return;
	ret->interfaces = calloc(FM_GATES, sizeof(*ret->interfaces));
	if (!ret->interfaces)
		return;
	fm_interfaces_for_each(manager->interfaces, visit_status, &visit);
	status_others(manager, ret);
}

static int answer(void *userdata, const char *request, struct fm_buf *reply)
{
	static const struct {
		const char *request;
		int (*answer)(const struct fm_status *status, struct fm_buf *ret);
	} answers[] = {
		{"status", fm_status_text},
		{"status json", fm_status_json},
		{"metrics", fm_status_metrics},
	};

	for (size_t i = 0; i < FM_ARRAY_SIZE(answers); i++) {
		_fm_cleanup_(fm_status_done) struct fm_status status = {};

		if (strcmp(request, answers[i].request))
			continue;
		get_status(userdata, true, &status);
		return answers[i].answer(&status, reply);
	}
	fm_buf_printf(reply, "error: expected 'status', 'status json' or 'metrics'\n");
	return fm_buf_error(reply);
}

/* --- what the sweep tells --- */

static void after_sweep(void *userdata)
{
	struct fm_manager *manager = userdata;
	_fm_cleanup_buf_ struct fm_buf line = {};
	uint64_t now = fm_clock_monotonic_ns();
	_fm_cleanup_(fm_status_done) struct fm_status status = {};
	struct fm_counters counters;

	if (manager->ready_due)
		fm_manager_ready(manager);
	fm_kernel_counters(manager->kernel, &counters);
	fm_losses_look(&manager->losses, &counters, now);
	if (now - manager->status_ns < STATUS_INTERVAL_NS || !manager->interfaces)
		return;
	manager->status_ns = now;
	get_status(manager, false, &status);
	if (fm_status_line(&status, &line) == 0)
		sd_notifyf(0, "STATUS=%s", line.data);
}

/* --- the audit --- */

static int audit_read(void *userdata, uint32_t ifindex, enum fm_hook hook, uint64_t *ret_frames,
		      uint64_t *ret_octets)
{
	struct fm_manager *manager = userdata;
	unsigned int ns = ifindex / FM_INTERFACES_BASE(1);
	struct fm_link_counters counters;
	int r = manager->interfaces
			? fm_interfaces_counters(manager->interfaces, ns,
						 ifindex - FM_INTERFACES_BASE(ns), &counters)
			: -ENODEV;

	if (r < 0)
		return r;
	*ret_frames = counters.frames[hook];
	*ret_octets = counters.octets[hook];
	return 0;
}

static bool audit_room(void *userdata)
{
	struct fm_manager *manager = userdata;

	return !manager->sinks || fm_sinks_audit_room(manager->sinks);
}

static void audit_tell(void *userdata, const struct fm_audit_row *row)
{
	struct fm_manager *manager = userdata;

	if (manager->sinks)
		fm_sinks_audit(manager->sinks, row);
}

static void arm_audit(struct fm_manager *manager)
{
	sd_event_source_set_time_relative(manager->audit_timer,
					  config_of(manager)->audit_ns / FM_NS_PER_US);
	sd_event_source_set_enabled(manager->audit_timer, SD_EVENT_ONESHOT);
}

static int on_audit(sd_event_source *source, uint64_t usec, void *userdata)
{
	struct fm_manager *manager = userdata;

	if (fm_audit_step(manager->audit, fm_clock_realtime_ns())) {
		sd_event_source_set_time_relative(source, AUDIT_SOON_US);
		sd_event_source_set_enabled(source, SD_EVENT_ONESHOT);
	} else {
		arm_audit(manager);
	}
	return 0;
}

static int start_audit(struct fm_manager *manager)
{
	const struct fm_audit_env env = {
		.gates = fm_kernel_gates(manager->kernel),
		.ledger = manager->ledger,
		.store = manager->store,
		.read = audit_read,
		.room = audit_room,
		.tell = audit_tell,
		.userdata = manager,
	};
	uint64_t due;
	int r;

	r = fm_audit_new(&manager->audit, &env);
	if (r < 0)
		return r;
	due = fm_audit_due(manager->audit, fm_clock_realtime_ns(), config_of(manager)->audit_ns);
	r = sd_event_add_time_relative(manager->event, &manager->audit_timer, CLOCK_MONOTONIC,
				       due / FM_NS_PER_US, 0, on_audit, manager);
	return r < 0 ? r : 0;
}

/* --- interfaces --- */

static void mark(struct fm_manager *manager, uint32_t ifindex, bool marks)
{
	if (!fm_gates_mark(fm_kernel_gates(manager->kernel), ifindex, marks))
		fm_kernel_mark_others(manager->kernel, marks);
}

static int on_attach(void *userdata, const struct fm_device *device, enum fm_hook hook, bool layer3)
{
	struct fm_manager *manager = userdata;
	uint32_t ifindex = FM_INTERFACES_BASE(device->ns) + device->ifindex;
	const struct fm_filter_interface interface = {
		ifindex, device->name, fm_numbering_name(manager->numbering, device->ns)};
	int r = fm_filters_add(manager->filters, &interface);

	if (r < 0)
		return r;
	fm_gates_open(fm_kernel_gates(manager->kernel), ifindex, hook);
	mark(manager, ifindex, true);
	r = fm_hooks_add(&manager->hooks, device->ns, device->ifindex, hook, layer3);
	if (r < 0)
		fm_gates_close(fm_kernel_gates(manager->kernel), ifindex, hook);
	return r;
}

static void on_detach(void *userdata, unsigned int ns, uint32_t ifindex, enum fm_hook hook)
{
	struct fm_manager *manager = userdata;

	fm_hooks_remove(&manager->hooks, ns, ifindex, hook);
	fm_gates_close(fm_kernel_gates(manager->kernel), FM_INTERFACES_BASE(ns) + ifindex, hook);
	fm_audit_end(manager->audit, FM_INTERFACES_BASE(ns) + ifindex, hook,
		     fm_clock_realtime_ns());
}

static void on_set_marks(void *userdata, unsigned int ns, uint32_t ifindex, bool marks)
{
	mark(userdata, FM_INTERFACES_BASE(ns) + ifindex, marks);
}

static enum fm_seen on_get_seen(void *userdata, unsigned int ns, uint32_t ifindex)
{
	struct fm_manager *manager = userdata;

	return fm_kernel_seen(manager->kernel, FM_INTERFACES_BASE(ns) + ifindex);
}

static void on_pass(void *userdata)
{
	fm_fence_request(((struct fm_manager *)userdata)->fence);
}

/* Also without the wait, if that failed: some packets may be counted at two hooks then. */
static void on_passed(void *userdata, int error)
{
	struct fm_manager *manager = userdata;

	if (manager->interfaces)
		fm_interfaces_passed(manager->interfaces);
}

static void on_set_seen(void *userdata, unsigned int ns, uint32_t ifindex, enum fm_seen seen)
{
	struct fm_manager *manager = userdata;
	int r = fm_kernel_set_seen(manager->kernel, FM_INTERFACES_BASE(ns) + ifindex, seen);

	if (r < 0)
		fm_log_error("cannot note interface %u: %s", ifindex, strerror(-r));
}

static const char *on_name(void *userdata, unsigned int ns)
{
	return fm_numbering_name(((struct fm_manager *)userdata)->numbering, ns);
}

static void on_named(void *userdata, unsigned int ns, const char *name)
{
	fm_numbering_add(((struct fm_manager *)userdata)->numbering, ns, name);
}

static void follow_vrfs(struct fm_manager *manager)
{
	if (fm_naming_follow(manager->naming, manager->interfaces) < 0)
		fm_log_error("no memory to see which VRFs there are; they stay as they were");
}

static void read_services(struct fm_manager *manager)
{
	const char *path = config_of(manager)->services;
	int r = fm_naming_read(manager->naming, path);

	if (r < 0)
		fm_log_notice("%s: %s; names of applications stay as they were", path,
			      strerror(-r));
}

/* Rules ask for interfaces by name. */
static void follow_names(struct fm_manager *manager)
{
	int r = fm_filters_follow(manager->filters, manager->interfaces, manager->numbering);

	if (r < 0)
		fm_log_error("rules of the filter do not follow the interfaces: %s", strerror(-r));
}

static void on_changed(void *userdata)
{
	struct fm_manager *manager = userdata;

	if (manager->interfaces) {
		follow_names(manager);
		fm_audit_follow(manager->audit, fm_clock_realtime_ns());
		follow_vrfs(manager);
	}
	if (manager->sinks)
		fm_sinks_interfaces_changed(manager->sinks);
}

static const struct fm_interfaces_ops interfaces_ops = {
	.attach = on_attach,
	.detach = on_detach,
	.set_marks = on_set_marks,
	.set_seen = on_set_seen,
	.get_seen = on_get_seen,
	.pass = on_pass,
	.name = on_name,
	.named = on_named,
	.changed = on_changed,
};

/* --- starting --- */

static bool measures_tcp(const struct fm_config *config)
{
	if (config->measure_tcp != FM_MEASURE_AUTO)
		return config->measure_tcp == FM_MEASURE_YES;
	return fm_config_takes_measures(config);
}

/* Member by member into zeros: reload compares the whole struct. */
static void kernel_options(const struct fm_config *config, struct fm_kernel_options *ret)
{
	memset(ret, 0, sizeof(*ret));
	ret->max_flows = config->max_flows;
	ret->observe_every = config->observe == FM_OBSERVE_EVERY;
	ret->key_vlan = config->key_extra & FM_KEY_VLAN;
	ret->key_interface = config->key_extra & FM_KEY_INTERFACE;
	ret->key_tos = config->key_extra & FM_KEY_TOS;
	ret->tunnel = config->tunnel;
	ret->coarse = fm_config_coarse(config);
	/* Of a flow of many connections there is nothing to measure. */
	ret->tcp = !ret->coarse && measures_tcp(config);
	if (!ret->coarse)
		return;
	ret->prefix4 = (uint8_t)config->prefix4;
	ret->prefix6 = (uint8_t)config->prefix6;
	ret->prefixes = config->prefix_map ? config->prefix_map->digest : 0;
}

static void sweeper_settings(const struct fm_config *config, struct fm_sweeper_settings *ret)
{
	*ret = (struct fm_sweeper_settings){
		.interval_ns = config->sweep_ns,
		.idle_ns = config->idle_ns,
		.active_ns = config->active_ns,
		.linger_ns = config->linger_ns,
		.flood_ns = config->flood_ns,
	};
}

static int log_load_failure(int error, const struct fm_config *config)
{
	if (error == -EPERM || error == -EACCES)
		fm_log_error(
			"no permission to load programs: root, or the capabilities CAP_BPF, CAP_NET_ADMIN and CAP_PERFMON are needed; flowmond --check tells more");
	else if (error == -ENOMEM || error == -E2BIG)
		fm_log_error("no memory for tables of %llu flows: make [flows] max smaller",
			     (unsigned long long)config->max_flows);
	else
		fm_log_error("cannot load programs: %s; flowmond --check tells more",
			     strerror(-error));
	return error;
}

/* Programs and tables; without measuring where only that does not load. */
static int new_generation(struct fm_manager *manager, const struct fm_config *config,
			  const struct fm_kernel_options *wanted, struct fm_generation **ret)
{
	struct fm_kernel_options options = *wanted;
	int r = fm_generation_new(ret, manager->kernel, &options);

	if (r < 0 && r != -ENOMEM && r != -EMFILE && r != -ENFILE && options.tcp) {
		options.tcp = false;
		if (fm_generation_new(ret, manager->kernel, &options) == 0) {
			fm_log_warning(
				"TCP is not measured: this kernel does not load the programs for it (%s)",
				strerror(-r));
			memcpy(&(*ret)->wanted, wanted, sizeof(*wanted));
			return 0;
		}
	}
	return r < 0 ? log_load_failure(r, config) : 0;
}

/* New tables and programs where the key, the size or the once-rule changed. */
static int reload_kernel(struct fm_manager *manager, const struct fm_config *config)
{
	_fm_cleanup_(fm_generation_freep) struct fm_generation *generation = NULL;
	struct fm_generation *before = manager->hooks.generation;
	struct fm_kernel_options options;
	int r;

	fm_kernel_set_prefixes(manager->kernel, config->prefix_map);
	kernel_options(config, &options);
	if (!memcmp(&options, &before->wanted, sizeof(options)))
		return 0;
	r = new_generation(manager, config, &options, &generation);
	if (r < 0)
		return r;
	r = fm_hooks_replace(&manager->hooks, generation);
	if (r < 0) {
		fm_log_error("cannot replace programs: %s", strerror(-r));
		return r;
	}
	r = fm_sweeper_set_generation(manager->sweeper, generation);
	if (r < 0) {
		fm_log_error("cannot replace tables: %s", strerror(-r));
		fm_hooks_replace(&manager->hooks, before);
		return r;
	}
	FM_TAKE_PTR(generation);
	return 0;
}

/* --- what an earlier process left --- */

static void finish_entry(void *userdata, const struct fm_ledger_found *entry)
{
	fm_found_finish(userdata, entry);
}

/* Carries out what was committed, then sets right what was under way and not committed. */
static int finish_ledger(struct fm_manager *manager, struct fm_found *found)
{
	const struct fm_ledger_ops ops = {.finish = finish_entry};
	int r = fm_ledger_new(&manager->ledger, manager->store, fm_kernel_cpus(manager->kernel));

	if (r < 0)
		return r;
	fm_ledger_set_ops(manager->ledger, &ops, found);
	fm_ledger_finish(manager->ledger);
	fm_found_repair(found);
	return 0;
}

/* Programs for the tables that were found; without them they are emptied like the others. */
static void resume(struct fm_manager *manager, struct fm_found *found)
{
	int r;

	manager->resumed = fm_found_waits(found);
	if (!found->current)
		return;
	r = fm_generation_resume(found->current);
	if (r >= 0) {
		manager->resumed = true;
		return;
	}
	fm_log_warning("no programs for the tables of the earlier process: %s", strerror(-r));
	found->replaced[found->n_replaced++] = FM_TAKE_PTR(found->current);
}

/* Nobody writes there any more once the programs of the earlier process are replaced. */
static int empty_found(struct fm_manager *manager, struct fm_found *found)
{
	int r = fm_found_waits(found) ? fm_kernel_fence(manager->kernel) : 0;

	if (r == 0)
		r = fm_found_take_over(found);
	while (r == 0 && found->n_replaced)
		r = fm_sweeper_add_replaced(manager->sweeper, found->replaced[--found->n_replaced]);
	return r;
}

/* Programs and tables; the sweeper owns the generation from here on. */
static int start_kernel(struct fm_manager *manager, struct fm_found *found)
{
	const struct fm_config *config = config_of(manager);
	_fm_cleanup_(fm_generation_freep) struct fm_generation *generation = NULL;
	struct fm_kernel_options options;
	struct fm_sweeper_settings settings;
	struct fm_sweeper_env env = {
		.event = manager->event,
		.timebase = &manager->timebase,
		.exporter = &manager->exporter,
		.after_sweep = after_sweep,
		.userdata = manager,
	};
	int r;

	r = fm_kernel_new(&manager->kernel, manager->store);
	if (r < 0)
		return r;
	fm_kernel_set_prefixes(manager->kernel, config->prefix_map);
	r = fm_found_open(found, manager->store, manager->kernel);
	if (r == 0)
		r = finish_ledger(manager, found);
	if (r < 0)
		return log_load_failure(r, config);
	resume(manager, found);
	generation = FM_TAKE_PTR(found->current);
	kernel_options(config, &options);
	if (!generation)
		r = new_generation(manager, config, &options, &generation);
	if (r < 0)
		return r;
	fm_found_inherit(found);
	r = fm_timebase_init(&manager->timebase, manager->kernel);
	if (r < 0)
		return r;
	env.kernel = manager->kernel;
	env.ledger = manager->ledger;
	sweeper_settings(config, &settings);
	r = fm_sweeper_new(&manager->sweeper, &env, &settings);
	if (r < 0)
		return r;
	manager->hooks.generation = generation;
	manager->hooks.mode = config->attach;
	manager->hooks.store = manager->store;
	return fm_sweeper_set_generation(manager->sweeper, FM_TAKE_PTR(generation));
}

static int start_filters(struct fm_manager *manager)
{
	const struct fm_config *config = config_of(manager);
	int r = fm_filters_new(&manager->filters, manager->kernel);

	if (r == 0)
		r = fm_filters_start(manager->filters, config->filter_rules,
				     config->filter_default);
	if (r < 0)
		fm_log_error("cannot use the rules of the filter: %s", strerror(-r));
	return r;
}

static int start_sinks(struct fm_manager *manager)
{
	const struct fm_sink_env env = {
		.event = manager->event,
		.store = manager->store,
		.ledger = manager->ledger,
		.for_each_interface = for_each_interface,
		.exporter_stats = exporter_stats,
		.counters = all_counters,
		.naming = manager->naming,
		.samplers = manager->exporter.samplers,
		.userdata = manager,
	};
	int r = fm_sinks_new(&manager->sinks, &env, &manager->exporter);

	if (r < 0)
		return r;
	r = fm_sinks_apply(manager->sinks, manager->ref);
	if (r < 0)
		return r;
	if (manager->exporter.n_sinks == 0)
		fm_log_notice(
			"no collector, no json and no text file is configured: flows are counted and dropped");
	return 0;
}

static int start_control(struct fm_manager *manager)
{
	const char *path = config_of(manager)->control_socket;
	int r;

	if (!*path)
		return 0;
	r = fm_control_new(&manager->control, manager->event, path, answer, manager);
	/* Without its directory (started by hand) there is no socket; counting goes on. */
	if (r < 0)
		fm_log_notice("no control socket at %s: %s", path, strerror(-r));
	return 0;
}

struct seen_question {
	uint32_t ifindex;
	bool seen;
};

static void compare_seen(void *argument, const struct fm_device *device, const struct fm_plan *plan)
{
	struct seen_question *question = argument;

	if (FM_INTERFACES_BASE(device->ns) + device->ifindex == question->ifindex)
		question->seen = plan->seen;
}

static bool is_seen(void *userdata, uint32_t ifindex)
{
	struct fm_manager *manager = userdata;
	struct seen_question question = {.ifindex = ifindex};

	fm_interfaces_for_each(manager->interfaces, compare_seen, &question);
	return question.seen;
}

/* After the interfaces are attached: what an earlier process had and this one has not, goes. */
static int finish_resume(struct fm_manager *manager, struct fm_found *found)
{
	size_t rest;
	int r;

	fm_kernel_prune_seen(manager->kernel, is_seen, manager);
	rest = fm_store_remove_rest(manager->store);
	r = empty_found(manager, found);
	if (r == 0 && manager->resumed)
		r = reload_kernel(manager, config_of(manager));
	if (r == 0 && (manager->resumed || rest))
		fm_log_info("went on with what an earlier process left in %s: %zu hooks",
			    fm_store_describe(manager->store), manager->hooks.n_adopted);
	return r;
}

static int open_store(struct fm_manager *manager)
{
	const char *directory = config_of(manager)->pin_directory;
	int r = fm_store_new(&manager->store, directory);

	if (r == -EWOULDBLOCK)
		fm_log_error("%s: another flowmond uses it", directory);
	else if (r == -EMEDIUMTYPE)
		fm_log_error("%s: not in a BPF file system (mount -t bpf)", directory);
	else if (r < 0)
		fm_log_error("%s: %s", directory, strerror(-r));
	return r;
}

static int start_parts(struct fm_manager *manager, struct fm_found *found)
{
	const struct fm_config *config = config_of(manager);
	int r = open_store(manager);

	if (r == 0)
		r = fm_naming_new(&manager->naming);
	if (r == 0)
		r = fm_numbering_new(&manager->numbering, manager->store);
	if (r == 0)
		r = start_kernel(manager, found);
	if (r < 0)
		return r;
	manager->exporter.timebase = &manager->timebase;
	manager->exporter.biflow = config->biflow;
	manager->exporter.naming = manager->naming;
	manager->exporter.samplers = fm_kernel_rules(manager->kernel);
	read_services(manager);
	r = start_filters(manager);
	if (r == 0)
		r = start_sinks(manager);
	if (r == 0)
		r = start_audit(manager);
	if (r == 0)
		r = fm_fence_new(&manager->fence, manager->event, manager->kernel, on_passed,
				 manager);
	if (r < 0)
		return r;
	r = fm_interfaces_new(&manager->interfaces, manager->event, &config->interfaces,
			      config->observe, &interfaces_ops, manager);
	if (r < 0) {
		fm_log_error("cannot watch interfaces: %s", strerror(-r));
		return r;
	}
	follow_vrfs(manager);
	r = finish_resume(manager, found);
	if (r < 0)
		return r;
	on_changed(manager);
	return start_control(manager);
}

static int start(struct fm_manager *manager)
{
	struct fm_found found = {};
	int r = start_parts(manager, &found);

	fm_found_done(&found);
	return r;
}

int fm_manager_new(struct fm_manager **ret, sd_event *event, struct fm_config *config,
		   const char *path)
{
	_fm_cleanup_(fm_manager_freep) struct fm_manager *manager = calloc(1, sizeof(*manager));
	int r;

	if (!manager) {
		fm_config_free(config);
		return -ENOMEM;
	}
	fm_identity_note(config); /* one that is wrong holds up its collector only */
	manager->ref = fm_config_ref_new(config);
	if (!manager->ref) {
		fm_config_free(config);
		return -ENOMEM;
	}
	manager->event = sd_event_ref(event);
	manager->start_ns = fm_clock_realtime_ns();
	manager->start_monotonic_ns = fm_clock_monotonic_ns();
	if (path) {
		manager->path = strdup(path);
		if (!manager->path)
			return -ENOMEM;
	}
	r = start(manager);
	if (r < 0)
		return r;
	*ret = FM_TAKE_PTR(manager);
	return 0;
}

struct fm_manager *fm_manager_free(struct fm_manager *manager)
{
	if (!manager)
		return NULL;
	fm_control_free(manager->control);
	sd_event_source_disable_unref(manager->audit_timer);
	fm_interfaces_free(manager->interfaces);
	fm_fence_free(manager->fence);
	fm_hooks_done(&manager->hooks);
	fm_filters_free(manager->filters);
	fm_sweeper_free(manager->sweeper);
	fm_sinks_free(manager->sinks, fm_clock_monotonic_ns());
	fm_audit_free(manager->audit);
	fm_ledger_free(manager->ledger);
	fm_kernel_free(manager->kernel);
	fm_numbering_free(manager->numbering);
	fm_naming_free(manager->naming);
	fm_store_free(manager->store);
	fm_config_ref_unref(manager->ref);
	sd_event_unref(manager->event);
	free(manager->path);
	free(manager);
	return NULL;
}

void fm_manager_ready(struct fm_manager *manager)
{
	manager->ready_due = sd_notify(0, "READY=1") < 0;
}

/* --- reloading --- */

/* What can fail comes first; what cannot follows when all that is done. */
static int reload(struct fm_manager *manager, struct fm_config *config)
{
	const struct fm_config *before = config_of(manager);
	struct fm_sweeper_settings settings;
	struct fm_config_ref *ref;
	bool control_moved = strcmp(before->control_socket, config->control_socket);
	bool audit_changed = before->audit_ns != config->audit_ns;
	int r;

	r = reload_kernel(manager, config);
	if (r == 0) {
		r = fm_filters_set(manager->filters, config->filter_rules, config->filter_default);
		if (r < 0)
			reload_kernel(manager, before);
	}
	ref = r < 0 ? NULL : fm_config_ref_new(config);
	if (!ref) {
		fm_kernel_set_prefixes(manager->kernel, before->prefix_map);
		fm_config_free(config);
		return r < 0 ? r : -ENOMEM;
	}
	manager->exporter.biflow = config->biflow;
	r = fm_sinks_apply(manager->sinks, ref);
	if (r < 0) {
		manager->exporter.biflow = before->biflow;
		fm_filters_set(manager->filters, before->filter_rules, before->filter_default);
		reload_kernel(manager, before);
		fm_config_ref_unref(ref);
		return r;
	}
	manager->hooks.mode = config->attach;
	sweeper_settings(config, &settings);
	fm_sweeper_configure(manager->sweeper, &settings);
	fm_log_set_level((int)config->log_level);
	manager->ref = fm_config_ref_unref(manager->ref);
	manager->ref = ref;
	read_services(manager);
	fm_sinks_interfaces_changed(manager->sinks);
	r = fm_interfaces_reconfigure(manager->interfaces, &config->interfaces, config->observe);
	if (r < 0)
		fm_log_error("interfaces stay as they are: %s", strerror(-r));
	if (audit_changed)
		arm_audit(manager);
	if (control_moved) {
		manager->control = fm_control_free(manager->control);
		start_control(manager);
	}
	return 0;
}

void fm_manager_reload(struct fm_manager *manager)
{
	_fm_cleanup_buf_ struct fm_buf errors = {};
	struct fm_config *config = NULL;
	int r;

	sd_notifyf(0, "RELOADING=1\nMONOTONIC_USEC=%llu",
		   (unsigned long long)(fm_clock_monotonic_ns() / FM_NS_PER_US));
	if (manager->path)
		r = fm_config_load(manager->path, &config, &errors);
	else
		r = fm_config_new_embedded(&config);
	if (r == 0 && (r = fm_identity_check(config, &errors)) < 0)
		config = fm_config_free(config);
	if (r == 0)
		r = reload(manager, config);
	else
		fm_log_error("%s: %s", manager->path ? manager->path : "configuration",
			     errors.size ? errors.data : strerror(-r));
	if (r < 0)
		fm_log_error("configuration not changed: %s", strerror(-r));
	else
		fm_log_info("configuration read again");
	fm_manager_ready(manager);
}

/* --- stopping --- */

void fm_manager_stop(struct fm_manager *manager)
{
	int64_t r;

	sd_notify(0, "STOPPING=1\nSTATUS=exporting what is open");
	manager->interfaces = fm_interfaces_free(manager->interfaces);
	fm_hooks_done(&manager->hooks);
	fm_audit_run(manager->audit, fm_clock_realtime_ns());
	r = fm_sweeper_finish(manager->sweeper, fm_clock_monotonic_ns() + STOP_EXPORT_NS);
	if (r < 0)
		fm_log_error("not everything that was open could be exported: %s",
			     strerror((int)-r));
	manager->sinks = fm_sinks_free(manager->sinks, fm_clock_monotonic_ns() + STOP_SEND_NS);
	/* What could not be exported is still in tables that a next process finds. */
	if (r == 0)
		fm_store_clear(manager->store);
}

bool fm_manager_leave(struct fm_manager *manager)
{
	if (!fm_store_describe(manager->store))
		return false;
	sd_notify(0, "STOPPING=1\nSTATUS=leaving everything to the next process");
	manager->interfaces = fm_interfaces_leave(manager->interfaces);
	fm_hooks_leave(&manager->hooks);
	return true;
}
