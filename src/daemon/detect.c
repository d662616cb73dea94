/* SPDX-License-Identifier: Apache-2.0 */
/* What the kernel allows: see detect.h. */
#include "daemon/detect.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/membarrier.h>
#include <net/if.h>
#include <sched.h>
#include <stdbool.h>
#include <string.h>
#include <sys/syscall.h>
#include <sys/utsname.h>
#include <unistd.h>

#include <bpf/bpf.h>
#include <bpf/libbpf.h>

#include "base/cleanup.h"
#include "daemon/generation.h"

/* enum bpf_attach_type of kernel 6.6, BPF_TCX_EGRESS. */
#define TCX_EGRESS  47
#define PROBE_FLOWS 1024

/* What the probes share. */
struct probe {
	struct fm_kernel *kernel;
	struct fm_generation *generation;
};

enum need {
	NEED_REQUIRED,
	NEED_ONE_OF,
	NEED_GAIN,
};

static int probe_programs(struct probe *probe)
{
	const struct fm_kernel_options options = {.max_flows = PROBE_FLOWS};
	int r = fm_kernel_new(&probe->kernel, NULL);

	if (r < 0)
		return r;
	return fm_generation_new(&probe->generation, probe->kernel, &options);
}

static int probe_clock(struct probe *probe)
{
	struct fm_clock clock;

	return probe->generation ? fm_kernel_clock(probe->kernel, &clock) : -ENODATA;
}

static int ignore_event(void *userdata, void *data, size_t size)
{
	return 0;
}

static int probe_overflow(struct probe *probe)
{
	struct ring_buffer *ring;

	if (!probe->generation)
		return -ENODATA;
	ring = ring_buffer__new(fm_kernel_overflow_fd(probe->kernel), ignore_event, NULL, NULL);
	if (!ring)
		return -errno;
	ring_buffer__free(ring);
	return 0;
}

static int probe_grace_period(struct probe *probe)
{
	return probe->generation ? fm_kernel_fence(probe->kernel) : -ENODATA;
}

/* Loopback for a moment: what passes meanwhile is counted in the probe's own tables. */
static int probe_tcx(struct probe *probe)
{
	int program, link;

	if (!probe->generation)
		return -ENODATA;
	program = fm_generation_program(probe->generation, 0, FM_HOOK_EGRESS, false);
	if (program < 0)
		return program;
	link = bpf_link_create(program, (int)if_nametoindex("lo"), TCX_EGRESS, NULL);
	if (link < 0)
		return link;
	close(link);
	return 0;
}

static int probe_clsact(struct probe *probe)
{
	LIBBPF_OPTS(bpf_tc_hook, hook, .ifindex = (int)if_nametoindex("lo"),
		    .attach_point = BPF_TC_INGRESS | BPF_TC_EGRESS);
	int r = bpf_tc_hook_create(&hook);

	if (r == -EEXIST)
		return 0;
	if (r < 0)
		return r;
	bpf_tc_hook_destroy(&hook);
	return 0;
}

/* Whether programs with these options load as well. */
static int probe_options(struct probe *probe, const struct fm_kernel_options *options)
{
	_fm_cleanup_(fm_generation_freep) struct fm_generation *generation = NULL;

	return probe->generation ? fm_generation_new(&generation, probe->kernel, options)
				 : -ENODATA;
}

static int probe_tcp(struct probe *probe)
{
	return probe_options(probe,
			     &(struct fm_kernel_options){.max_flows = PROBE_FLOWS, .tcp = true});
}

static int probe_tunnels(struct probe *probe)
{
	return probe_options(probe, &(struct fm_kernel_options){.max_flows = PROBE_FLOWS,
								.tunnel = FM_TUNNEL_KEY_BOTH});
}

static int probe_membarrier(struct probe *probe)
{
	long commands = syscall(SYS_membarrier, MEMBARRIER_CMD_QUERY, 0, 0);

	if (commands < 0)
		return -errno;
	return commands & MEMBARRIER_CMD_GLOBAL ? 0 : -EOPNOTSUPP;
}

/* Entering the namespace one is in already asks for the same privileges as entering another. */
static int probe_namespaces(struct probe *probe)
{
	_fm_cleanup_close_ int fd = open("/proc/self/ns/net", O_RDONLY | O_CLOEXEC);

	if (fd < 0)
		return -errno;
	return setns(fd, CLONE_NEWNET) < 0 ? -errno : 0;
}

static const struct {
	const char *name;
	enum need need;
	const char *help;
	int (*probe)(struct probe *probe);
} features[] = {
#define FM_FEATURE(name, need, help) {#name, NEED_##need, help, probe_##name},
#include "bpf/features.def"
#undef FM_FEATURE
};

static const char *in_words(int error)
{
	switch (-error) {
	case EPERM:
	case EACCES:
		return "not permitted";
	case ENODATA:
		return "not tried: programs do not load";
	case EINVAL:
	case EOPNOTSUPP:
	case ENOSYS:
		return "this kernel does not have it";
	default:
		return strerror(-error);
	}
}

int fm_detect_print(FILE *out)
{
	struct probe probe = {};
	unsigned int ways = 0, missing = 0;
	struct utsname system;

	if (uname(&system) < 0)
		return -errno;
	fprintf(out, "kernel %s on %s\n", system.release, system.machine);
	for (size_t i = 0; i < sizeof(features) / sizeof(features[0]); i++) {
		int r = features[i].probe(&probe);
		const char *answer = "yes";

		if (r < 0)
			answer = features[i].need == NEED_REQUIRED ? "NO" : "no";
		fprintf(out, "%-3s  %-12s  %s%s%s\n", answer, features[i].name, features[i].help,
			r < 0 ? ": " : "", r < 0 ? in_words(r) : "");
		if (features[i].need == NEED_ONE_OF)
			ways += r == 0;
		else
			missing += r < 0 && features[i].need == NEED_REQUIRED;
	}
	fm_generation_free(probe.generation);
	fm_kernel_free(probe.kernel);
	if (!ways)
		fprintf(out, "There is no way to attach programs: neither tcx nor clsact works.\n");
	if (missing || !ways) {
		fprintf(out,
			"flowmond cannot run here. Root, or the capabilities CAP_BPF, CAP_NET_ADMIN and CAP_PERFMON, and kernel 5.15 or later are needed.\n");
		return 1;
	}
	fprintf(out, "flowmond can run here.\n");
	return 0;
}
