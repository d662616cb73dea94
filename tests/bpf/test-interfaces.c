/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Devices that come, go, are renamed, moved and stacked while they are followed: what is attached,
 * detached and marked as seen, in which order, in which namespace. In network namespaces of the
 * test's own and with a /run of its own; needs root and iproute2. Nothing is really attached.
 */
#include <fcntl.h>
#include <linux/capability.h>
#include <linux/if_tun.h>
#include <net/if_arp.h>
#include <pthread.h>
#include <sys/ioctl.h>
#include <sys/mount.h>
#include <sys/prctl.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/wait.h>

#include "base/log.h"
#include "base/macro.h"
#include "base/parse.h"
#include "daemon/interfaces.h"
#include "netlab.h"
#include "test.h"

#define DEVICES_MAX 4096
#define LOG_OCTETS  16384

/* A device as the ops have been told of it. */
struct device {
	unsigned int ns;
	uint32_t ifindex;
	char name[IFNAMSIZ];
	bool hooked[_FM_HOOK_MAX];
	bool marks;
	enum fm_seen seen;
};

/* One run of the module with what it did. */
struct run {
	sd_event *event;
	struct fm_interfaces *interfaces;
	struct fm_names patterns;
	struct device devices[DEVICES_MAX];
	size_t n;
	/* "+i:NAME " attached at ingress, "-e:", "+m:" marks, "~s:" marked, "+s:" seen, "|" waits
	 */
	char log[LOG_OCTETS];
	const char *refused; /* a device that nothing can be attached to */
	unsigned int refusals;
	unsigned int changes;
	bool asked; /* for packets to pass */
	bool left;  /* what the run before left is there still */
	bool wrong; /* attached in the wrong namespace, twice, or detached what was not there */
};

static struct run run;

/* --- ops --- */

static struct device *device_of(struct run *of, unsigned int ns, uint32_t ifindex)
{
	struct device *device;

	for (size_t i = 0; i < of->n; i++)
		if (of->devices[i].ns == ns && of->devices[i].ifindex == ifindex)
			return &of->devices[i];
	if (of->n == DEVICES_MAX)
		abort();
	device = &of->devices[of->n++];
	*device = (struct device){.ns = ns, .ifindex = ifindex};
	if (ns || !if_indextoname(ifindex, device->name))
		snprintf(device->name, sizeof(device->name), "#%u", ifindex);
	return device;
}

static void note(struct run *of, const char *what, const struct device *device)
{
	size_t size = strlen(of->log);

	snprintf(of->log + size, sizeof(of->log) - size, "%s%s:%s", size ? " " : "", what,
		 device->name);
}

static int on_attach(void *userdata, const struct fm_device *device, enum fm_hook hook, bool layer3)
{
	struct run *of = userdata;
	struct device *told = device_of(of, device->ns, device->ifindex);
	char now[IF_NAMESIZE];

	memcpy(told->name, device->name, sizeof(told->name));
	if (of->refused && !strcmp(of->refused, device->name)) {
		of->refusals++;
		return -E2BIG;
	}
	/* Gone before it could be told is no fault, even if another has its name by now; another
	 * one with its index is. */
	if (!if_indextoname(device->ifindex, now))
		return -ENODEV;
	of->wrong |= strcmp(now, device->name) != 0;
	of->wrong |= told->hooked[hook];
	told->hooked[hook] = true;
	told->marks = true;
	note(of, hook == FM_HOOK_INGRESS ? "+i" : "+e", told);
	return 0;
}

static void on_detach(void *userdata, unsigned int ns, uint32_t ifindex, enum fm_hook hook)
{
	struct run *of = userdata;
	struct device *told = device_of(of, ns, ifindex);

	of->wrong |= !told->hooked[hook];
	told->hooked[hook] = false;
	note(of, hook == FM_HOOK_INGRESS ? "-i" : "-e", told);
}

static void on_set_marks(void *userdata, unsigned int ns, uint32_t ifindex, bool marks)
{
	struct run *of = userdata;
	struct device *told = device_of(of, ns, ifindex);

	of->wrong |= told->marks == marks;
	told->marks = marks;
	note(of, marks ? "+m" : "-m", told);
}

static void on_set_seen(void *userdata, unsigned int ns, uint32_t ifindex, enum fm_seen seen)
{
	static const char *const names[] = {"-s", "+s", "~s"};
	struct run *of = userdata;
	struct device *told = device_of(of, ns, ifindex);

	of->wrong |= told->seen == seen;
	told->seen = seen;
	note(of, names[seen], told);
}

static enum fm_seen on_get_seen(void *userdata, unsigned int ns, uint32_t ifindex)
{
	struct run *of = userdata;

	/* As if an earlier process had got as far as that. */
	if (ns || !of->left || of->n == 0)
		return FM_SEEN_NO;
	return device_of(of, ns, ifindex)->seen;
}

static void on_pass(void *userdata)
{
	struct run *of = userdata;
	size_t size = strlen(of->log);

	of->wrong |= of->asked;
	of->asked = true;
	snprintf(of->log + size, sizeof(of->log) - size, " |");
}

static void on_changed(void *userdata)
{
	struct run *of = userdata;

	of->changes++;
}

static const struct fm_interfaces_ops ops = {
	.attach = on_attach,
	.detach = on_detach,
	.set_marks = on_set_marks,
	.set_seen = on_set_seen,
	.get_seen = on_get_seen,
	.pass = on_pass,
	.changed = on_changed,
};

/* --- driving it --- */

static int start(struct run *of, const char *patterns, enum fm_observe observe)
{
	int r;

	*of = (struct run){};
	r = fm_parse_list(patterns, &of->patterns.v, &of->patterns.n);
	if (r == 0)
		r = sd_event_new(&of->event);
	if (r >= 0)
		r = fm_interfaces_new(&of->interfaces, of->event, &of->patterns, observe, &ops, of);
	return r;
}

static void stop(struct run *of)
{
	of->log[0] = '\0';
	of->interfaces = fm_interfaces_free(of->interfaces);
	of->event = sd_event_unref(of->event);
	fm_parse_list_free(of->patterns.v, of->patterns.n);
}

/* What was asked for has come about. False: nothing was. */
static bool pass(struct run *of)
{
	if (!of->asked)
		return false;
	of->asked = false;
	fm_interfaces_passed(of->interfaces);
	return true;
}

/* Until nothing has happened for a while. */
static void settle(struct run *of)
{
	while (sd_event_run(of->event, 60000) > 0 || pass(of))
		;
}

/* Runs a command, then the loop; what was done by it is in the log. */
__attribute__((format(printf, 1, 2))) static void after(const char *format, ...)
{
	char command[512];
	va_list args;

	va_start(args, format);
	vsnprintf(command, sizeof(command), format, args);
	va_end(args);
	run.log[0] = '\0';
	if (netlab_run("%s", command) != 0)
		FM_TEST_NOTE("failed: %s", command);
	settle(&run);
}

__attribute__((format(printf, 2, 3))) static void expect(const char *log, const char *format, ...)
{
	char what[128];
	va_list args;

	va_start(args, format);
	vsnprintf(what, sizeof(what), format, args);
	va_end(args);
	if (!fm_test_ok(!strcmp(run.log, log) && !run.wrong, "%s", what))
		printf("# was: %s\n# not: %s\n", run.log, log);
}

/* Waits for one more deed, for what timers do. */
static bool wait_for(const char *deed, unsigned int tenths)
{
	while (tenths-- && !strstr(run.log, deed))
		if (!pass(&run))
			sd_event_run(run.event, 100000);
	return strstr(run.log, deed);
}

static bool is_home(const struct stat *home)
{
	struct stat here;

	return stat("/proc/self/ns/net", &here) == 0 && here.st_ino == home->st_ino;
}

/* --- tests --- */

/* Hooked at egress only, since the other end is hooked too. */
static bool is_end(const char *name)
{
	const struct device *device = NULL;

	for (size_t i = 0; i < run.n; i++)
		if (!strcmp(run.devices[i].name, name))
			device = &run.devices[i];
	return device && device->hooked[FM_HOOK_EGRESS] && !device->hooked[FM_HOOK_INGRESS] &&
	       device->seen;
}

static void test_order(void)
{
	netlab_run("ip link add br0 type bridge");
	netlab_run("ip link add p1 type veth peer name x1");
	netlab_run("ip link add p2 type veth peer name x2");
	netlab_run("ip link set p1 master br0; ip link set p2 master br0");
	FM_TEST(start(&run, "br*, p*", FM_OBSERVE_ONCE) == 0, "started");
	settle(&run);
	expect("~s:br0 ~s:p1 +i:p1 +e:p1 ~s:p2 +i:p2 +e:p2 | +s:br0 +s:p1 +s:p2 -m:p1 -m:p2",
	       "at the start: hooks that mark, then seen");
	FM_TEST(run.changes == 1, "the owner is told once");
	stop(&run);
	expect("-e:p1 -e:p2 -s:br0 -i:p1 -s:p1 -i:p2 -s:p2",
	       "at the end: egress, then ingress with seen");
	netlab_run("ip link del p1; ip link del p2; ip link del br0");
}

static void test_coming_and_going(void)
{
	start(&run, "!x*", FM_OBSERVE_ONCE);
	expect("", "nothing there, nothing done");
	after("ip link add p1 type veth peer name x1");
	expect("~s:p1 +i:p1 +e:p1 | +s:p1 -m:p1", "a device comes");
	run.changes = 0;
	after("ip link set p1 up; ip link set p1 mtu 1400; ip link set p1 promisc on");
	expect("", "changes that do not matter do nothing");
	FM_TEST(run.changes == 0, "nor is the owner told");
	after("ip link set p1 down; ip link set p1 name p9");
	expect("", "renamed, it matches still");
	FM_TEST(run.changes == 1, "the owner is told of its new name");
	/* The kernel tells of an alias only if the device is up. */
	after("ip link set p9 up; ip link set p9 alias 'to the moon'");
	FM_TEST(run.changes == 2, "the owner is told of its alias");
	/* Before Linux 6.2 a device must be down for that. */
	after("ip link set p9 down; ip link set p9 name x9");
	expect("+m:p1 | ~s:p1 -i:p1 -e:p1 | -s:p1 -m:p1", "renamed, it is excluded");
	after("ip link set x9 name p1");
	expect("~s:p1 +i:p1 +e:p1 | +s:p1 -m:p1", "renamed back");
	after("ip link del p1");
	expect("-s:p1 -i:p1 -e:p1", "a device goes");
	after("ip link add p1 type veth peer name x1 && ip link del p1");
	FM_TEST(!run.wrong && !device_of(&run, 0, run.devices[run.n - 1].ifindex)->seen,
		"a device comes and goes before it is looked at");
	stop(&run);
	expect("", "at the end there is nothing to do");
}

static void test_stacking(void)
{
	netlab_run("ip link add br0 type bridge");
	start(&run, "!x*", FM_OBSERVE_ONCE);
	settle(&run);
	expect("~s:br0 +i:br0 +e:br0 | +s:br0 -m:br0", "a bridge without ports is hooked itself");
	after("ip link add p1 type veth peer name x1");
	expect("~s:p1 +i:p1 +e:p1 | +s:p1 -m:p1", "a device beside it");
	after("ip link set p1 master br0");
	expect("+m:br0 | -i:br0 -e:br0 | -m:br0",
	       "becomes its port: the bridge is covered, but seen as before");
	after("ip link add p2 type veth peer name x2; ip link set p2 master br0");
	expect("~s:p2 +i:p2 +e:p2 | +s:p2 -m:p2", "another port");
	after("ip link set p1 nomaster; ip link del p2");
	FM_TEST(strstr(run.log, "+i:br0") && strstr(run.log, "+e:br0") &&
			!strstr(run.log, "s:br0") && !strstr(run.log, "p1"),
		"without ports the bridge is hooked again");
	after("ip link set p1 master br0");
	after("ip link del br0");
	expect("-s:br0", "the bridge goes, its port stays");
	after("ip link del p1");
	stop(&run);
}

/* A new hook is there before the old one goes: nothing is missed. */
static void test_takeover(void)
{
	struct fm_names ports = {(char *[]){"p*"}, 1};

	netlab_run("ip link add br0 type bridge; ip link add p1 type veth peer name x1");
	netlab_run("ip link set p1 master br0");
	start(&run, "br0", FM_OBSERVE_ONCE);
	settle(&run);
	expect("~s:br0 +i:br0 +e:br0 | +s:br0 -m:br0", "a bridge by name");
	run.log[0] = '\0';
	fm_interfaces_reconfigure(run.interfaces, &ports, FM_OBSERVE_ONCE);
	settle(&run);
	expect("+m:br0 | ~s:p1 +i:p1 +e:p1 | -i:br0 -e:br0 +s:p1 | -m:br0 -m:p1",
	       "its ports instead: new hooks before old ones go");
	run.log[0] = '\0';
	fm_interfaces_reconfigure(run.interfaces, &ports, FM_OBSERVE_ONCE);
	expect("", "the same again does nothing");
	fm_interfaces_reconfigure(run.interfaces, &ports, FM_OBSERVE_EVERY);
	settle(&run);
	expect("+m:p1 | ~s:br0 ~s:p1 -s:br0 -s:p1 -m:p1", "every: nothing is seen");
	stop(&run);
	netlab_run("ip link del p1; ip link del br0");
}

/* Plans that change before the last one is carried out. */
static void test_restart(void)
{
	struct fm_names both = {(char *[]){"p*"}, 1}, first = {(char *[]){"p1"}, 1},
			none = {(char *[]){"y*"}, 1};

	netlab_run("ip link add p1 type veth peer name x1; ip link add p2 type veth peer name x2");
	start(&run, "p1", FM_OBSERVE_ONCE);
	fm_interfaces_reconfigure(run.interfaces, &both, FM_OBSERVE_ONCE);
	settle(&run);
	expect("~s:p1 +i:p1 +e:p1 | ~s:p2 +i:p2 +e:p2 | +s:p1 +s:p2 -m:p1 -m:p2",
	       "another device comes meanwhile: hooked at once, both wait again");
	run.log[0] = '\0';
	fm_interfaces_reconfigure(run.interfaces, &first, FM_OBSERVE_ONCE);
	fm_interfaces_reconfigure(run.interfaces, &none, FM_OBSERVE_ONCE);
	fm_interfaces_reconfigure(run.interfaces, &first, FM_OBSERVE_ONCE);
	settle(&run);
	expect("+m:p2 | +m:p1 | ~s:p2 -i:p2 -e:p2 | -m:p1 -s:p2 -m:p2",
	       "what is to go and is not: nothing is attached before all have marked");
	run.log[0] = '\0';
	fm_interfaces_reconfigure(run.interfaces, &none, FM_OBSERVE_ONCE);
	pass(&run);
	fm_interfaces_reconfigure(run.interfaces, &first, FM_OBSERVE_ONCE);
	settle(&run);
	expect("+m:p1 | ~s:p1 -i:p1 -e:p1 | +i:p1 +e:p1 | +s:p1 -m:p1",
	       "one that has gone comes back: the mark decides all the time");
	run.log[0] = '\0';
	for (int i = 0; i < 100; i++)
		fm_interfaces_reconfigure(run.interfaces, i % 2 ? &none : &both, FM_OBSERVE_ONCE);
	FM_TEST(strlen(run.log) < 200 && !run.wrong, "a hundred plans do not put off the first");
	settle(&run);
	FM_TEST(!device_of(&run, 0, if_nametoindex("p1"))->seen &&
			!device_of(&run, 0, if_nametoindex("p2"))->hooked[FM_HOOK_EGRESS],
		"and the last one holds in the end");
	stop(&run);
	netlab_run("ip link del p1; ip link del p2");
}

static void test_pairs(void)
{
	netlab_run("ip netns add far; ip netns add blue; ip -n blue link add q0 type bridge");
	start(&run, "v*, v*@blue", FM_OBSERVE_ONCE);
	after("ip link add va type veth peer name vb");
	FM_TEST(is_end("va") && is_end("vb") && !run.wrong,
		"veth pair: both ends at egress only, and seen");
	after("ip link set vb netns far");
	FM_TEST(strstr(run.log, "+i:va") && strstr(run.log, "-e:vb") && !run.wrong,
		"one end moves away: the other is hooked at ingress as well");
	after("ip -n far link set vb netns blue");
	FM_TEST(is_end("va") && is_end("vb") && !strstr(run.log, "s:va") && !run.wrong,
		"it comes into a namespace that is followed: egress only again");
	after("ip -n blue link set vb name x0");
	expect("+m:va +m:vb | +i:va ~s:vb | -e:vb | -m:va -s:vb -m:vb",
	       "it is excluded by its name: ingress again");
	after("ip link del va; ip netns del far; ip netns del blue");
	stop(&run);
	FM_TEST(!run.wrong, "pairs: nothing was done twice");
}

static void test_moving(void)
{
	netlab_run("ip netns add far; ip link add p1 type veth peer name x1");
	start(&run, "p1", FM_OBSERVE_ONCE);
	settle(&run);
	expect("~s:p1 +i:p1 +e:p1 | +s:p1 -m:p1", "a device here");
	after("ip link set p1 netns far");
	expect("-s:p1 -i:p1 -e:p1", "moved away");
	after("ip -n far link set p1 netns %d", getpid());
	expect("~s:p1 +i:p1 +e:p1 | +s:p1 -m:p1", "moved back");
	stop(&run);
	netlab_run("ip link del p1; ip netns del far");
}

static void test_refusal(void)
{
	start(&run, "p*", FM_OBSERVE_ONCE);
	run.refused = "p1";
	after("ip link add p1 type veth peer name x1; ip link add p2 type veth peer name x2");
	expect("~s:p1 ~s:p2 +i:p2 +e:p2 | +s:p2 -s:p1 -m:p2",
	       "one that cannot be attached is not seen, others are attached");
	FM_TEST(fm_interfaces_failed(run.interfaces) == 1, "it is counted");
	run.refused = NULL;
	after("ip link set p1 mtu 1400");
	expect("~s:p1 +i:p1 +e:p1 | +s:p1 -m:p1", "tried again when it changes");
	FM_TEST(fm_interfaces_failed(run.interfaces) == 0, "no failure any more");
	after("ip link del p1; ip link del p2");
	stop(&run);
}

/* Opens a tun device; closed, it is gone. -1: the kernel has none. */
static int open_tun(const char *name)
{
	struct ifreq request = {.ifr_flags = IFF_TUN | IFF_NO_PI};
	int fd = open("/dev/net/tun", O_RDWR | O_CLOEXEC);

	strcpy(request.ifr_name, name);
	if (fd >= 0 && ioctl(fd, TUNSETIFF, &request) < 0) {
		close(fd);
		fd = -1;
	}
	return fd;
}

static void test_layer3(void)
{
	struct fm_names both = {(char *[]){"t*", "p*"}, 2};
	int tun;

	tun = open_tun("t0");
	if (tun < 0) {
		printf("ok %u - tun device # SKIP the kernel has none\n", ++fm_test_count);
		return;
	}
	start(&run, "t*", FM_OBSERVE_ONCE);
	settle(&run);
	expect("~s:t0 +i:t0 +e:t0 | +s:t0 -m:t0", "a tun device");
	run.log[0] = '\0';
	ioctl(tun, TUNSETLINK, ARPHRD_ETHER);
	settle(&run);
	expect("-i:t0 -e:t0 +i:t0 +e:t0 | -m:t0", "it changes its type: other programs");
	stop(&run);
	netlab_run("ip link add p1 type veth peer name x1");
	ioctl(tun, TUNSETLINK, ARPHRD_NONE);
	start(&run, "t*", FM_OBSERVE_ONCE);
	fm_interfaces_reconfigure(run.interfaces, &both, FM_OBSERVE_ONCE);
	settle(&run);
	expect("~s:t0 +i:t0 +e:t0 | ~s:p1 +i:p1 +e:p1 | +s:t0 +s:p1 -m:t0 -m:p1",
	       "another plan before its end: its hooks stay");
	stop(&run);
	netlab_run("ip link del p1");
	close(tun);
}

/* --- namespaces by name --- */

static void test_namespace(const struct stat *home)
{
	start(&run, "p*, q*@blue", FM_OBSERVE_ONCE);
	FM_TEST(is_home(home), "a namespace that is not there yet is no error");
	run.log[0] = '\0';
	netlab_run("ip netns add blue; ip -n blue link add q0 type veth peer name x0");
	FM_TEST(wait_for("+e:q0", 50) && !run.wrong, "it comes: its devices are attached, inside");
	settle(&run);
	FM_TEST(is_home(home), "and the thread is home again");
	after("ip -n blue link add q1 type veth peer name x1");
	expect("~s:#5 +i:q1 +e:q1 | +s:q1 -m:q1", "a device comes there");
	FM_TEST(device_of(&run, 1, 0)->ns == 1 && is_home(home), "under the second index");
	after("ip link add p0 type veth peer name q2 netns blue");
	FM_TEST(is_end("p0") && is_end("q2") && !run.wrong,
		"a veth pair between here and there: egress only at both ends");
	run.log[0] = '\0';
	netlab_run("ip netns del blue");
	FM_TEST(wait_for("-e:q0", 30) && wait_for("-e:q2", 1) && !run.wrong,
		"it goes: everything there is let go");
	FM_TEST(wait_for("-e:p0", 30) && !if_nametoindex("p0"),
		"and is not held on to: what led there is gone too");
	run.log[0] = '\0';
	netlab_run("ip netns add blue; ip -n blue link add q0 type veth peer name x0");
	FM_TEST(wait_for("+e:q0", 50) && !run.wrong, "another one of that name comes");
	run.log[0] = '\0';
	netlab_run("ip netns del blue; ip netns add blue; "
		   "ip -n blue link add q5 type veth peer name x5");
	FM_TEST(wait_for("-e:q0", 30) && wait_for("+e:q5", 50) && !run.wrong,
		"replaced by another at once");
	stop(&run);
	FM_TEST(!run.wrong && is_home(home), "stopped");
	netlab_run("ip netns del blue");
}

static void test_namespace_reload(const struct stat *home)
{
	struct fm_names both = {(char *[]){"p*", "q*@blue"}, 2}, one = {(char *[]){"p*"}, 1};

	netlab_run("ip netns add blue; ip -n blue link add q0 type veth peer name x0");
	netlab_run("ip link add p0 type veth peer name x0");
	start(&run, "p*", FM_OBSERVE_ONCE);
	settle(&run);
	run.log[0] = '\0';
	fm_interfaces_reconfigure(run.interfaces, &both, FM_OBSERVE_ONCE);
	settle(&run);
	expect("~s:#3 +i:q0 +e:q0 | +s:q0 -m:q0", "a namespace is named by a reload");
	run.log[0] = '\0';
	fm_interfaces_reconfigure(run.interfaces, &one, FM_OBSERVE_ONCE);
	settle(&run);
	expect("+m:q0 | ~s:q0 -i:q0 -e:q0 | -s:q0 -m:q0", "and not named any more");
	FM_TEST(is_home(home), "the thread is home");
	netlab_run("ip netns del blue");
	settle(&run);
	stop(&run);
	netlab_run("ip link del p0");
}

/* Without CAP_SYS_ADMIN other namespaces cannot be entered; the own one works. */
static void test_no_privilege(void)
{
	struct __user_cap_header_struct header = {.version = _LINUX_CAPABILITY_VERSION_3};
	struct __user_cap_data_struct data[2] = {
		{.effective = 1u << CAP_NET_ADMIN, .permitted = 1u << CAP_NET_ADMIN}};
	int status = -1;
	pid_t child;

	netlab_run("ip netns add blue; ip -n blue link add q0 type veth peer name x0");
	netlab_run("ip link add p0 type veth peer name x0");
	fflush(stdout);
	child = fork();
	if (child == 0) {
		bool ok = prctl(PR_SET_KEEPCAPS, 1) == 0 && setresuid(65534, 65534, 65534) == 0 &&
			  syscall(SYS_capset, &header, data) == 0 &&
			  start(&run, "p*, q*@blue", FM_OBSERVE_ONCE) == 0 &&
			  !strcmp(run.log, "~s:p0 +i:p0 +e:p0 |") && !run.wrong;

		if (ok) {
			settle(&run);
			stop(&run);
		}
		_exit(ok ? 0 : 1);
	}
	FM_TEST(child > 0 && waitpid(child, &status, 0) == child && status == 0,
		"without privilege for other namespaces the own one is followed");
	netlab_run("ip netns del blue; ip link del p0");
}

/* --- many and fast --- */

/* Notices that the kernel could not deliver to this namespace's sockets. */
static unsigned long long drops(void)
{
	unsigned long long sum = 0, drop;
	char line[256];
	FILE *file = fopen("/proc/net/netlink", "re");

	while (file && fgets(line, sizeof(line), file))
		if (sscanf(line, "%*s %*s %*s %*s %*s %*s %*s %*s %llu", &drop) == 1)
			sum += drop;
	if (file)
		fclose(file);
	return sum;
}

static void count_device(void *argument, const struct fm_device *device, const struct fm_plan *plan)
{
	(*(size_t *)argument)++;
}

/* What is known and attached now is what a fresh start finds and attaches. */
static bool as_if_new(struct run *of, const char *patterns)
{
	static struct run fresh;
	size_t hooks = 0, fresh_hooks = 0, known = 0, fresh_known = 0;
	bool same = start(&fresh, patterns, FM_OBSERVE_ONCE) == 0;

	settle(&fresh);
	for (size_t i = 0; i < of->n; i++)
		hooks += of->devices[i].hooked[0] + of->devices[i].hooked[1] + of->devices[i].seen +
			 of->devices[i].marks;
	for (size_t i = 0; i < fresh.n; i++) {
		const struct device *device = &fresh.devices[i];
		const struct device *old = device_of(of, device->ns, device->ifindex);

		fresh_hooks += device->hooked[0] + device->hooked[1] + device->seen;
		same &= old->seen == device->seen &&
			!memcmp(old->hooked, device->hooked, sizeof(device->hooked));
	}
	fm_interfaces_for_each(of->interfaces, count_device, &known);
	fm_interfaces_for_each(fresh.interfaces, count_device, &fresh_known);
	printf("# %zu devices, %zu hooks and marks; a fresh start: %zu, %zu\n", known, hooks,
	       fresh_known, fresh_hooks);
	stop(&fresh);
	return same && hooks == fresh_hooks && known == fresh_known && !of->wrong;
}

static void test_lost_notices(void)
{
	unsigned long long before;

	start(&run, "p*, br0", FM_OBSERVE_ONCE);
	netlab_run("ip link add br0 type bridge");
	netlab_run("for i in $(seq 40); do echo link add p$i type veth peer name x$i; "
		   "echo link set p$i master br0; done | ip -batch -");
	settle(&run);
	before = drops();
	/* The loop does not run meanwhile; what is told first fills the queue, the rest is lost. */
	netlab_run("(for r in $(seq 40); do for i in $(seq 41 60); do "
		   "echo link add p$i type veth peer name x$i; echo link set p$i master br0; done; "
		   "for i in $(seq 41 60); do echo link del p$i; done; done; "
		   "for i in $(seq 30); do echo link del p$i; done; "
		   "for i in $(seq 70 80); do echo link add p$i type veth peer name x$i; done) | "
		   "ip -batch -");
	FM_TEST(drops() > before, "notices were lost");
	run.log[0] = '\0';
	settle(&run);
	FM_TEST(as_if_new(&run, "p*, br0"), "and all is as it should be");
	stop(&run);
	FM_TEST(!run.wrong, "nothing was done twice");
	netlab_run("ip -br link | grep -oE '^(p|br)[0-9]+' | sed 's/^/link del /' | ip -batch -");
}

static void *churn(void *argument)
{
	netlab_run("for r in $(seq 30); do for i in $(seq 20); do "
		   "echo link add p$i type veth peer name x$i; echo link set p$i master br0; done; "
		   "for i in $(seq 20); do echo link del p$i; done; done | ip -batch -");
	return NULL;
}

/* Started, followed and stopped while devices come and go all the time. */
static void test_churn(void)
{
	unsigned int starts = 0;
	bool wrong = false, failed = false;
	pthread_t thread;

	netlab_run("ip link add br0 type bridge; ip link add p99 type veth peer name x99");
	netlab_run("ip link set p99 master br0");
	if (pthread_create(&thread, NULL, churn, NULL) != 0)
		return;
	do {
		failed |= start(&run, "p*, br0", FM_OBSERVE_ONCE) < 0;
		for (int i = 0; i < 40 && !failed; i++)
			sd_event_run(run.event, 10000);
		if (pthread_tryjoin_np(thread, NULL) == 0) {
			thread = 0;
			settle(&run);
			FM_TEST(as_if_new(&run, "p*, br0"),
				"after the churn all is as it should be");
		}
		stop(&run);
		wrong |= run.wrong;
		starts++;
	} while (thread);
	FM_TEST(!failed && !wrong, "devices come and go all the time");
	printf("# started %u times meanwhile\n", starts);
	netlab_run("ip link del p99; ip link del br0");
}

int main(void)
{
	struct stat home;
	int r;

	if (geteuid() != 0)
		return fm_test_skip_all("needs root");
	fm_log_init(LOG_EMERG, false);
	r = netlab_enter();
	if (r < 0 || unshare(CLONE_NEWNS) < 0 ||
	    mount("none", "/", "none", MS_REC | MS_PRIVATE, NULL) < 0 ||
	    mount("none", "/run", "tmpfs", 0, NULL) < 0 || stat("/proc/self/ns/net", &home) < 0)
		return fm_test_bail("cannot make namespaces", r < 0 ? r : -errno);
	test_order();
	test_coming_and_going();
	test_stacking();
	test_takeover();
	test_restart();
	test_namespace(&home);
	test_namespace_reload(&home);
	test_pairs();
	test_moving();
	test_refusal();
	test_layer3();
	test_no_privilege();
	test_lost_notices();
	test_churn();
	return fm_test_done();
}
