/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Attaching beside other people's programs, filters and qdiscs: none of theirs is touched, nothing
 * of ours is left behind, no packet slips through a replacement. On a veth pair in a network
 * namespace of its own; what is there is read with tc.
 */
#include <fcntl.h>
#include <linux/capability.h>
#include <pthread.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <sys/wait.h>

#include "base/macro.h"
#include "daemon/attach.h"
#include "netlab.h"
#include "test.h"

#define FRAMES 50

/* Frames leave by va and come in at vb. */
#define OUT "va"
#define IN  "vb"

/* Other people's filter: a program of one instruction that never matches. */
#define PASSES "bpf bytecode '1,6 0 0 0'"

static const char *const mode_names[] = {"auto", "tcx", "clsact"};

static void raise_pair(void)
{
	/* The sender last: whose peer is not up yet drops until the kernel has looked again. */
	netlab_run("ip link set " IN " up && ip link set " OUT " up");
}

static void make_pair(void)
{
	netlab_run("ip link add " OUT " type veth peer name " IN);
	raise_pair();
}

static void drop_pair(void)
{
	netlab_run("ip link del " OUT);
}

static const char *device_of(enum fm_hook hook)
{
	return hook == FM_HOOK_INGRESS ? IN : OUT;
}

static uint32_t index_of(enum fm_hook hook)
{
	return if_nametoindex(device_of(hook));
}

static int qdiscs(enum fm_hook hook)
{
	return netlab_lines("tc qdisc show dev %s | grep -E 'clsact|ingress'", device_of(hook));
}

/* Filters with our name, and all filters. */
static int ours(enum fm_hook hook)
{
	const char *side = hook == FM_HOOK_INGRESS ? "ingress" : "egress";

	return netlab_lines("tc filter show dev %s %s | grep fm_%s", device_of(hook), side, side);
}

static int handles(enum fm_hook hook)
{
	return netlab_lines("tc filter show dev %s %s | grep handle", device_of(hook),
			    hook == FM_HOOK_INGRESS ? "ingress" : "egress");
}

/* What both maps have; waits for frames on their way: the receiving side runs when it can. */
static uint64_t settled_count(int map, int other_map, uint64_t expected)
{
	for (int tries = 0; tries < 1000; tries++) {
		if (netlab_count(map) + netlab_count(other_map) >= expected)
			break;
		usleep(10000);
	}
	usleep(10000);
	return netlab_count(map) + netlab_count(other_map);
}

/* Whether of FRAMES frames the map's programs see so many. */
static bool sees(int map, unsigned int frames)
{
	uint64_t before = netlab_count(map), seen;
	int sent = netlab_send(OUT, FRAMES);

	seen = settled_count(map, -1, before + frames) - before;
	if (sent != FRAMES || seen != frames)
		FM_TEST_NOTE("%d frames sent, %llu seen", sent, (unsigned long long)seen);
	return sent == FRAMES && seen == frames;
}

static void test_life(enum fm_attach_mode mode, enum fm_hook hook)
{
	struct fm_attachment attachment;
	int map = netlab_map(), other_map = netlab_map();
	int program = netlab_program(map, NETLAB_NEXT);
	int other = netlab_program(other_map, NETLAB_NEXT);
	const char *where = hook == FM_HOOK_INGRESS ? "ingress" : "egress";
	int r;

	make_pair();
	r = fm_attach(&attachment, index_of(hook), hook, program, mode);
	FM_TEST(r == 0, "%s, %s: attached", mode_names[mode], where);
	FM_TEST(sees(map, FRAMES), "%s, %s: every frame seen once", mode_names[mode], where);
	FM_TEST(attachment.tcx == (mode != FM_ATTACH_CLSACT), "%s, %s: in that way",
		mode_names[mode], where);
	r = fm_attach_replace(&attachment, other);
	FM_TEST(r == 0 && sees(map, 0) && sees(other_map, FRAMES),
		"%s, %s: replaced by another program", mode_names[mode], where);
	fm_detach(&attachment);
	FM_TEST(sees(map, 0) && sees(other_map, 0), "%s, %s: detached", mode_names[mode], where);
	FM_TEST(qdiscs(hook) == 0, "%s, %s: no qdisc left", mode_names[mode], where);
	drop_pair();
	close(program);
	close(other);
	close(map);
	close(other_map);
}

/* One qdisc, two filters: it goes with the last, in whatever order. */
static void test_shared_qdisc(bool ingress_first)
{
	enum fm_hook first = ingress_first ? FM_HOOK_INGRESS : FM_HOOK_EGRESS;
	struct fm_attachment attachments[_FM_HOOK_MAX];
	int map = netlab_map(), program = netlab_program(map, NETLAB_NEXT);
	uint32_t ifindex;
	int r = 0;

	make_pair();
	ifindex = if_nametoindex(OUT);
	for (int hook = 0; hook < _FM_HOOK_MAX && r == 0; hook++)
		r = fm_attach(&attachments[hook], ifindex, (enum fm_hook)hook, program,
			      FM_ATTACH_CLSACT);
	FM_TEST(r == 0, "clsact: both hooks of one device");
	fm_detach(&attachments[first]);
	FM_TEST(qdiscs(FM_HOOK_EGRESS) == 1, "clsact: qdisc stays for the other hook");
	FM_TEST(sees(map, ingress_first ? FRAMES : 0), "clsact: the other hook goes on");
	fm_detach(&attachments[!first]);
	FM_TEST(qdiscs(FM_HOOK_EGRESS) == 0, "clsact: qdisc goes with the last hook");
	drop_pair();
	close(program);
	close(map);
}

/* Theirs accepts every packet, which ends the walk: ours must be before it, at egress as well. */
static void test_tcx_beside(enum fm_hook hook)
{
	const char *where = hook == FM_HOOK_INGRESS ? "ingress" : "egress";
	int map = netlab_map(), their_map = netlab_map();
	int program = netlab_program(map, NETLAB_NEXT);
	int theirs = netlab_program(their_map, NETLAB_OK);
	struct fm_attachment attachment;
	int link, r;

	make_pair();
	link = bpf_link_create(theirs, (int)index_of(hook), (enum bpf_attach_type)(46 + hook),
			       NULL);
	r = fm_attach(&attachment, index_of(hook), hook, program, FM_ATTACH_TCX);
	FM_TEST(link >= 0 && r == 0, "tcx, %s: attached beside another program", where);
	FM_TEST(sees(map, FRAMES), "tcx, %s: an accepting program does not hide packets", where);
	FM_TEST(sees(their_map, FRAMES), "tcx, %s: the other program sees all", where);
	fm_detach(&attachment);
	FM_TEST(sees(their_map, FRAMES), "tcx, %s: the other program stays", where);
	close(link);
	drop_pair();
	close(program);
	close(theirs);
	close(map);
	close(their_map);
}

/* Other people's filter, with our program's kind, before us and with the same priority. */
static void test_clsact_beside(enum fm_hook hook)
{
	const char *where = hook == FM_HOOK_INGRESS ? "ingress" : "egress";
	int map = netlab_map(), their_map = netlab_map();
	int program = netlab_program(map, NETLAB_NEXT);
	int theirs = netlab_program(their_map, NETLAB_OK);
	LIBBPF_OPTS(bpf_tc_opts, opts, .handle = 1, .priority = 1, .prog_fd = theirs);
	struct bpf_tc_hook place = {.sz = sizeof(place)};
	struct fm_attachment attachment;
	int r;

	make_pair();
	place.ifindex = (int)index_of(hook);
	place.attach_point = hook == FM_HOOK_INGRESS ? BPF_TC_INGRESS : BPF_TC_EGRESS;
	r = bpf_tc_hook_create(&place);
	FM_TEST(r == 0 && bpf_tc_attach(&place, &opts) == 0, "clsact, %s: theirs is there", where);
	r = fm_attach(&attachment, index_of(hook), hook, program, FM_ATTACH_CLSACT);
	FM_TEST(r == 0, "clsact, %s: attached beside a filter of priority 1", where);
	FM_TEST(sees(map, FRAMES), "clsact, %s: an accepting filter does not hide packets", where);
	FM_TEST(sees(their_map, FRAMES), "clsact, %s: their filter sees all", where);
	fm_detach(&attachment);
	FM_TEST(ours(hook) == 0 && sees(their_map, FRAMES), "clsact, %s: theirs stays", where);
	fm_attach(&attachment, index_of(hook), hook, program, FM_ATTACH_CLSACT);
	opts.prog_fd = opts.prog_id = opts.flags = 0;
	bpf_tc_detach(&place, &opts);
	fm_detach(&attachment);
	FM_TEST(handles(hook) == 0 && qdiscs(hook) == 1,
		"clsact, %s: a qdisc that was there stays, empty as well", where);
	drop_pair();
	close(program);
	close(theirs);
	close(map);
	close(their_map);
}

/* Filters of another protocol (classic BPF: "next") hold the priorities that ours would take. */
static void test_clsact_crowded(void)
{
	int map = netlab_map(), program = netlab_program(map, NETLAB_NEXT);
	struct fm_attachment attachment;
	int r;

	make_pair();
	netlab_run("tc qdisc add dev " OUT " clsact");
	netlab_run("tc filter add dev " OUT " egress pref 1 protocol ip " PASSES);
	netlab_run("tc filter add dev " OUT " egress pref 2 protocol arp " PASSES);
	r = fm_attach(&attachment, index_of(FM_HOOK_EGRESS), FM_HOOK_EGRESS, program,
		      FM_ATTACH_CLSACT);
	FM_TEST(r == 0 && sees(map, FRAMES), "clsact: behind filters of another protocol");
	fm_detach(&attachment);
	FM_TEST(handles(FM_HOOK_EGRESS) == 2, "clsact: filters of another protocol stay");
	drop_pair();
	close(program);
	close(map);
}

/* Others use the qdisc that came with us, even with our handle: it stays for them. */
static void test_clsact_guests(void)
{
	int map = netlab_map(), program = netlab_program(map, NETLAB_NEXT);
	struct fm_attachment attachment;
	int r;

	make_pair();
	r = fm_attach(&attachment, index_of(FM_HOOK_EGRESS), FM_HOOK_EGRESS, program,
		      FM_ATTACH_CLSACT);
	netlab_run("tc filter add dev " OUT " egress pref 7 handle 0xf10f protocol all " PASSES);
	netlab_run("tc filter add dev " OUT " ingress pref 7 handle 0xf10e protocol all " PASSES);
	FM_TEST(r == 0 && handles(FM_HOOK_EGRESS) == 2, "clsact: another's filter on our qdisc");
	fm_detach(&attachment);
	FM_TEST(handles(FM_HOOK_EGRESS) == 1 && sees(map, 0), "clsact: the qdisc stays for it");
	FM_TEST(fm_attach_purge(index_of(FM_HOOK_EGRESS)) == 0 && handles(FM_HOOK_EGRESS) == 1,
		"clsact: our handle without our name is not ours");
	netlab_run("tc filter del dev " OUT " egress pref 7");
	r = fm_attach(&attachment, index_of(FM_HOOK_EGRESS), FM_HOOK_EGRESS, program,
		      FM_ATTACH_CLSACT);
	fm_detach(&attachment);
	FM_TEST(r == 0 && netlab_lines("tc filter show dev " OUT " ingress | grep handle") == 1,
		"clsact: nor on the other hook");
	drop_pair();
	close(program);
	close(map);
}

static void test_ingress_qdisc(void)
{
	int map = netlab_map(), program = netlab_program(map, NETLAB_NEXT);
	struct fm_attachment attachment;
	int r;

	make_pair();
	netlab_run("tc qdisc add dev " IN " ingress");
	r = fm_attach(&attachment, index_of(FM_HOOK_INGRESS), FM_HOOK_EGRESS, program,
		      FM_ATTACH_CLSACT);
	FM_TEST(r == -EBUSY, "clsact: no egress where an ingress qdisc is");
	r = fm_attach(&attachment, index_of(FM_HOOK_INGRESS), FM_HOOK_INGRESS, program,
		      FM_ATTACH_CLSACT);
	FM_TEST(r == 0 && sees(map, FRAMES), "clsact: ingress where an ingress qdisc is");
	fm_detach(&attachment);
	FM_TEST(sees(map, 0) && qdiscs(FM_HOOK_INGRESS) == 1, "clsact: the ingress qdisc stays");
	drop_pair();
	close(program);
	close(map);
}

/*
 * Somebody else removes what we are on; the next replacement puts us back. A qdisc that may be
 * theirs is left to them.
 */
static void test_removed(const char *what, const char *command, int qdiscs_after)
{
	enum fm_hook hook = FM_HOOK_EGRESS;
	int map = netlab_map(), other_map = netlab_map();
	int program = netlab_program(map, NETLAB_NEXT);
	int other = netlab_program(other_map, NETLAB_NEXT);
	struct fm_attachment attachment;
	int r;

	make_pair();
	r = fm_attach(&attachment, index_of(hook), hook, program, FM_ATTACH_CLSACT);
	FM_TEST(r == 0 && netlab_run("%s", command) == 0 && sees(map, 0) && ours(hook) == 0,
		"removed: %s", what);
	r = fm_attach_replace(&attachment, other);
	FM_TEST(r == 0 && sees(other_map, FRAMES) && ours(hook) == 1,
		"removed: %s, replaced all the same", what);
	r = fm_attach_replace(&attachment, program);
	FM_TEST(r == 0 && sees(map, FRAMES) && ours(hook) == 1, "removed: %s, and again", what);
	fm_detach(&attachment);
	FM_TEST(sees(map, 0) && ours(hook) == 0 && qdiscs(hook) == qdiscs_after,
		"removed: %s, then nothing of ours is left", what);
	drop_pair();
	close(program);
	close(other);
	close(map);
	close(other_map);
}

/* A run that was killed left its filters: its successor takes their place. */
static void test_killed(void)
{
	enum fm_hook hook = FM_HOOK_EGRESS;
	int map = netlab_map(), program = netlab_program(map, NETLAB_NEXT);
	struct fm_attachment dead, attachment;
	int r;

	make_pair();
	r = fm_attach(&dead, index_of(hook), hook, program, FM_ATTACH_CLSACT);
	close(dead.clsact.netlink_fd);
	FM_TEST(r == 0 && sees(map, FRAMES), "killed: its filter is left");
	r = fm_attach(&attachment, index_of(hook), hook, program, FM_ATTACH_CLSACT);
	FM_TEST(r == 0 && sees(map, FRAMES) && ours(hook) == 1, "killed: replaced, not doubled");
	fm_detach(&attachment);
	FM_TEST(qdiscs(hook) == 0, "killed: the successor still knows whose the qdisc is");

	for (int i = 0; i < _FM_HOOK_MAX; i++)
		if (fm_attach(&dead, index_of(hook), (enum fm_hook)i, program, FM_ATTACH_CLSACT) ==
		    0)
			close(dead.clsact.netlink_fd);
	FM_TEST(fm_attach_purge(index_of(hook)) >= 0 && qdiscs(hook) == 0,
		"killed: purged with the qdisc");

	netlab_run("tc qdisc add dev " OUT " clsact");
	netlab_run("tc filter add dev " OUT " egress pref 7 protocol all " PASSES);
	r = fm_attach(&dead, index_of(hook), hook, program, FM_ATTACH_CLSACT);
	close(dead.clsact.netlink_fd);
	FM_TEST(r == 0 && fm_attach_purge(index_of(hook)) >= 0 && ours(hook) == 0,
		"killed: purged beside others");
	FM_TEST(handles(hook) == 1, "killed: the others' filter stays");
	FM_TEST(fm_attach_purge(index_of(hook)) >= 0 && fm_attach_purge(0x7ffff) == 0,
		"nothing to purge is no error");
	drop_pair();
	close(program);
	close(map);
}

struct sender {
	int frames;
	int sent;
};

static void *send_frames(void *argument)
{
	struct sender *sender = argument;

	sender->sent = netlab_send(OUT, sender->frames);
	return NULL;
}

/* Frames that have come in by a device: under load the receiver's queue may refuse some. */
static uint64_t received(const char *device)
{
	char line[512], name[IFNAMSIZ];
	unsigned long long frames = 0, found;
	FILE *file = fopen("/proc/thread-self/net/dev", "re");

	while (file && fgets(line, sizeof(line), file))
		if (sscanf(line, " %15[^: ]: %*u %llu", name, &found) == 2 && !strcmp(name, device))
			frames = found;
	if (file)
		fclose(file);
	return frames;
}

/* Each of 200,000 frames is seen by exactly one of two programs that replace each other. */
static void test_replace_under_load(enum fm_attach_mode mode, enum fm_hook hook)
{
	int maps[2] = {netlab_map(), netlab_map()};
	int programs[2] = {netlab_program(maps[0], NETLAB_NEXT),
			   netlab_program(maps[1], NETLAB_NEXT)};
	struct sender sender = {.frames = 200000};
	struct fm_attachment attachment;
	unsigned int replaced = 0;
	pthread_t thread;
	uint64_t counted, passed;
	int r;

	make_pair();
	r = fm_attach(&attachment, index_of(hook), hook, programs[0], mode);
	if (!FM_TEST(r == 0 && pthread_create(&thread, NULL, send_frames, &sender) == 0,
		     "%s: attached before the load", mode_names[mode]))
		return;
	while (pthread_tryjoin_np(thread, NULL) != 0 && r == 0) {
		r = fm_attach_replace(&attachment, programs[++replaced & 1]);
		usleep(200);
	}
	passed = hook == FM_HOOK_INGRESS ? received(IN) : (uint64_t)sender.sent;
	counted = settled_count(maps[0], maps[1], passed);
	FM_TEST(r == 0 && sender.sent == sender.frames && counted == passed &&
			passed > (uint64_t)sender.frames / 2,
		"%s, %s: no packet slips through a replacement or is seen twice", mode_names[mode],
		hook == FM_HOOK_INGRESS ? "ingress" : "egress");
	printf("# replaced %u times under %llu frames, %llu counted\n", replaced,
	       (unsigned long long)passed, (unsigned long long)counted);
	FM_TEST(netlab_count(maps[0]) && netlab_count(maps[1]), "%s: both programs had their share",
		mode_names[mode]);
	fm_detach(&attachment);
	drop_pair();
	for (int i = 0; i < 2; i++) {
		close(programs[i]);
		close(maps[i]);
	}
}

static void test_vanished(enum fm_attach_mode mode)
{
	int map = netlab_map(), program = netlab_program(map, NETLAB_NEXT);
	struct fm_attachment attachment;
	int r;

	make_pair();
	r = fm_attach(&attachment, 0x7ffff, FM_HOOK_INGRESS, program, mode);
	FM_TEST(r == -ENODEV, "%s: no such device", mode_names[mode]);
	r = fm_attach(&attachment, index_of(FM_HOOK_INGRESS), FM_HOOK_INGRESS, program, mode);
	drop_pair();
	FM_TEST(r == 0, "%s: attached to what will vanish", mode_names[mode]);
	r = fm_attach_replace(&attachment, program);
	FM_TEST(r == -ENODEV || r == -ENOLINK, "%s: a device that is gone is told",
		mode_names[mode]);
	fm_detach(&attachment);
	close(program);
	close(map);
}

/* Replaced and detached from elsewhere, where another device has the same index. */
static void test_other_namespace(enum fm_attach_mode mode)
{
	int maps[2] = {netlab_map(), netlab_map()};
	int programs[2] = {netlab_program(maps[0], NETLAB_NEXT),
			   netlab_program(maps[1], NETLAB_NEXT)};
	int home = open("/proc/self/ns/net", O_RDONLY | O_CLOEXEC), away;
	struct fm_attachment here, there;
	int r;

	netlab_enter();
	away = open("/proc/self/ns/net", O_RDONLY | O_CLOEXEC);
	make_pair();
	r = fm_attach(&there, index_of(FM_HOOK_EGRESS), FM_HOOK_EGRESS, programs[0], mode);
	setns(home, CLONE_NEWNET);
	make_pair();
	netlab_run("ip link del " OUT);
	netlab_run("ip link add " OUT " index %u type veth peer name " IN, there.ifindex);
	raise_pair();
	r |= fm_attach(&here, index_of(FM_HOOK_EGRESS), FM_HOOK_EGRESS, programs[0], mode);
	FM_TEST(r == 0 && here.ifindex == there.ifindex,
		"%s: devices with the same index in two namespaces", mode_names[mode]);
	r = fm_attach_replace(&there, programs[1]);
	FM_TEST(r == 0 && sees(maps[0], FRAMES) && sees(maps[1], 0), "%s: replaced there, not here",
		mode_names[mode]);
	setns(away, CLONE_NEWNET);
	FM_TEST(sees(maps[0], 0) && sees(maps[1], FRAMES), "%s: replaced there", mode_names[mode]);
	setns(home, CLONE_NEWNET);
	fm_detach(&there);
	FM_TEST(sees(maps[0], FRAMES), "%s: detached there, not here", mode_names[mode]);
	fm_detach(&here);
	setns(away, CLONE_NEWNET);
	FM_TEST(sees(maps[1], 0) && qdiscs(FM_HOOK_EGRESS) == 0, "%s: detached there",
		mode_names[mode]);
	setns(home, CLONE_NEWNET);
	drop_pair();
	close(home);
	close(away);
	for (int i = 0; i < 2; i++) {
		close(programs[i]);
		close(maps[i]);
	}
}

/* Keeps only these capabilities, as nobody. */
static int become_nobody(uint64_t capabilities)
{
	struct __user_cap_header_struct header = {.version = _LINUX_CAPABILITY_VERSION_3};
	struct __user_cap_data_struct data[2] = {};

	for (int i = 0; i < 2; i++)
		data[i].permitted = data[i].effective = (uint32_t)(capabilities >> (32 * i));
	if (prctl(PR_SET_KEEPCAPS, 1) < 0 || setresgid(65534, 65534, 65534) < 0 ||
	    setresuid(65534, 65534, 65534) < 0 || syscall(SYS_capset, &header, data) < 0)
		return -errno;
	return 0;
}

/* What fm_attach answers to nobody with these capabilities. */
static int attach_as_nobody(uint64_t capabilities, enum fm_attach_mode mode, int program)
{
	struct fm_attachment attachment;
	uint32_t ifindex = index_of(FM_HOOK_EGRESS);
	int status = 0;
	pid_t child;

	fflush(stdout);
	child = fork();
	if (child == 0) {
		int r = become_nobody(capabilities);

		if (r == 0)
			r = fm_attach(&attachment, ifindex, FM_HOOK_EGRESS, program, mode);
		if (r == 0)
			fm_detach(&attachment);
		_exit(-r);
	}
	if (child < 0 || waitpid(child, &status, 0) != child || !WIFEXITED(status))
		return -ECHILD;
	return -WEXITSTATUS(status);
}

static void test_privileges(enum fm_attach_mode mode)
{
	const uint64_t enough = 1ull << CAP_NET_ADMIN | 1ull << CAP_BPF;
	int map = netlab_map(), program = netlab_program(map, NETLAB_NEXT);

	make_pair();
	FM_TEST(attach_as_nobody(enough, mode, program) == 0,
		"%s: CAP_NET_ADMIN and CAP_BPF are enough, no root", mode_names[mode]);
	/* For TCX the kernel asks for nothing but a loaded program. */
	if (mode == FM_ATTACH_CLSACT)
		FM_TEST(attach_as_nobody(1ull << CAP_BPF, mode, program) == -EPERM,
			"%s: not permitted without CAP_NET_ADMIN", mode_names[mode]);
	drop_pair();
	close(program);
	close(map);
}

static bool has_tcx(void)
{
	int map = netlab_map(), program = netlab_program(map, NETLAB_NEXT);
	struct fm_attachment attachment;
	int r = fm_attach(&attachment, 1, FM_HOOK_EGRESS, program, FM_ATTACH_TCX);

	if (r == 0)
		fm_detach(&attachment);
	close(program);
	close(map);
	return r == 0;
}

static void test_mode(enum fm_attach_mode mode)
{
	for (int hook = 0; hook < _FM_HOOK_MAX; hook++) {
		test_life(mode, (enum fm_hook)hook);
		test_replace_under_load(mode, (enum fm_hook)hook);
	}
	test_vanished(mode);
	test_other_namespace(mode);
	test_privileges(mode);
}

int main(void)
{
	int r;

	if (geteuid() != 0)
		return fm_test_skip_all("needs root");
	r = netlab_enter();
	if (r < 0)
		return fm_test_bail("cannot make a network namespace", r);
	test_mode(FM_ATTACH_CLSACT);
	test_shared_qdisc(true);
	test_shared_qdisc(false);
	for (int hook = 0; hook < _FM_HOOK_MAX; hook++)
		test_clsact_beside((enum fm_hook)hook);
	test_clsact_crowded();
	test_clsact_guests();
	test_ingress_qdisc();
	test_removed("the filter", "tc filter del dev " OUT " egress", 1);
	test_removed("the qdisc", "tc qdisc del dev " OUT " clsact", 0);
	test_removed("the qdisc, an empty one is there",
		     "tc qdisc del dev " OUT " clsact && tc qdisc add dev " OUT " clsact", 1);
	test_removed("the qdisc, one with a filter is there",
		     "tc qdisc del dev " OUT " clsact && tc qdisc add dev " OUT " clsact && "
		     "tc filter add dev " OUT " egress pref 1 protocol ip u32 match u32 0 0",
		     1);
	test_killed();
	if (has_tcx()) {
		test_mode(FM_ATTACH_TCX);
		for (int hook = 0; hook < _FM_HOOK_MAX; hook++) {
			test_life(FM_ATTACH_AUTO, (enum fm_hook)hook);
			test_tcx_beside((enum fm_hook)hook);
		}
	} else {
		printf("ok %u - TCX # SKIP this kernel has no TCX\n", ++fm_test_count);
	}
	return fm_test_done();
}
