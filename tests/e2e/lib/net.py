# SPDX-License-Identifier: Apache-2.0
"""Network namespaces, links and child processes of one test; all gone when the Lab is left."""
import contextlib
import ctypes
import json
import os
import shutil
import signal
import socket
import subprocess
import tempfile
import time

_libc = ctypes.CDLL(None, use_errno=True)
_CLONE_NEWNET = 0x40000000
_PR_SET_PDEATHSIG = 1
_count = 0
# Times as long may everything take that is waited for: an emulated processor is slow.
PATIENCE = int(os.environ.get('FLOWMOND_TEST_PATIENCE', '1'))

# Nothing speaks IPv6 by itself: no addresses, no duplicate detection, no router solicitations.
QUIET = {
    'net/ipv6/conf/default/accept_dad': 0,
    'net/ipv6/conf/default/dad_transmits': 0,
    'net/ipv6/conf/default/accept_ra': 0,
    'net/ipv6/conf/default/router_solicitations': 0,
    'net/ipv6/conf/default/addr_gen_mode': 1,
    'net/ipv6/conf/all/addr_gen_mode': 1,
    'net/ipv6/icmp/ratelimit': 0,
    'net/ipv4/icmp_ratelimit': 0,
    'net/ipv4/conf/all/rp_filter': 0,
    'net/ipv4/conf/default/rp_filter': 0,
}
# Joining a solicited-node group sends reports at random times; addresses here are static.
QUIET_RULES = '''
table inet quiet {
	chain out {
		type filter hook output priority 0; policy accept;
		icmpv6 type { mld-listener-report, mld2-listener-report, nd-router-solicit } drop
	}
}
'''


def _die_with_parent():
    _libc.prctl(_PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)


def wait_until(condition, seconds, what):
    """Polls until condition() is true and returns what it returned; raises after that time. What takes
    long to ask is asked less often: others run beside this."""
    deadline = time.monotonic() + PATIENCE * seconds
    while True:
        asked = time.monotonic()
        value = condition()
        if value:
            return value
        now = time.monotonic()
        if now > deadline:
            raise TimeoutError('%s: not within %s s' % (what, seconds))
        time.sleep(max(0.01, now - asked))


class Process:
    """A child process whose output goes to a file."""

    def __init__(self, command, log, **options):
        self.command = command
        self.log_path = log
        with open(log, 'ab') as file:
            self.popen = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=file,
                                          stderr=subprocess.STDOUT, preexec_fn=_die_with_parent,
                                          **options)
        self.pid = self.popen.pid

    def log(self):
        with open(self.log_path, encoding='utf-8', errors='replace') as file:
            return file.read()

    def running(self):
        return self.popen.poll() is None

    def wait(self, seconds=10):
        try:
            return self.popen.wait(PATIENCE * seconds)
        except subprocess.TimeoutExpired:
            self.popen.kill()
            self.popen.wait()
            raise TimeoutError('%s did not end within %s s\n%s' % (
                self.command[0], seconds, self.log()[-2000:])) from None

    def stop(self, number=signal.SIGTERM, seconds=10):
        """Signals, waits, and returns the exit status (negative: killed by that signal)."""
        if self.running():
            self.popen.send_signal(number)
        return self.wait(seconds)


class Namespace:
    """A network namespace. with ns.inside(): sockets and /proc/sys/net are the namespace's."""

    def __init__(self, lab, name):
        self.lab, self.name = lab, name
        self.path = '/run/netns/' + name

    @contextlib.contextmanager
    def inside(self):
        home = os.open('/proc/self/ns/net', os.O_RDONLY)
        there = os.open(self.path, os.O_RDONLY)
        try:
            if _libc.setns(there, _CLONE_NEWNET):
                raise OSError(ctypes.get_errno(), 'setns')
            yield self
        finally:
            _libc.setns(home, _CLONE_NEWNET)
            os.close(home)
            os.close(there)

    def sysctl(self, name, value):
        with self.inside(), open('/proc/sys/' + name, 'w', encoding='ascii') as file:
            file.write(str(value))

    def small_buffers(self):
        """Connections made from now on hold little of what is under way."""
        self.sysctl('net/ipv4/tcp_wmem', '4096 16384 32768')
        self.sysctl('net/ipv4/tcp_rmem', '4096 16384 32768')

    def command(self, *args):
        """The command line that runs args inside. Not "ip netns exec": that hides bpffs."""
        return ['nsenter', '--net=' + self.path, *[str(arg) for arg in args]]

    def run(self, *args, seconds=20, ok=True, **options):
        """Runs to the end and returns the output; raises if it fails, unless ok is False."""
        done = subprocess.run(self.command(*args), stdout=subprocess.PIPE,
                              stderr=subprocess.STDOUT, text=True,
                              timeout=PATIENCE * seconds,
                              stdin=options.pop('stdin', subprocess.DEVNULL), check=False,
                              **options)
        if ok and done.returncode:
            raise RuntimeError('%s: status %d\n%s' % (' '.join(map(str, args)), done.returncode,
                                                       done.stdout))
        return done.stdout

    def start(self, *args, log=None, **options):
        return self.lab.start(self.command(*args), log or os.path.basename(str(args[0])),
                              **options)

    def ip(self, line):
        return self.run('ip', *line.split())

    def quiet(self):
        for name, value in QUIET.items():
            self.sysctl(name, value)
        self.run('nft', QUIET_RULES)
        self.ip('link set lo up')

    def ifindex(self, name):
        with self.inside():
            return socket.if_nametoindex(name)

    def raw_socket(self, interface, protocol=0):
        with self.inside():
            raw = socket.socket(socket.AF_PACKET, socket.SOCK_RAW, socket.htons(protocol))
        raw.bind((interface, protocol))
        return raw

    def socket(self, family, kind, protocol=0):
        with self.inside():
            return socket.socket(family, kind, protocol)

    def sockets(self, table, port):
        """Lines of /proc/net/TABLE whose local or remote port this is."""
        with self.inside(), open('/proc/self/net/' + table, encoding='ascii') as file:
            return [line.split() for line in file if ':%04X ' % port in line]

    def counter(self, interface, direction, name):
        """One of the interface's statistics: counter('a0', 'rx', 'packets')."""
        text = self.run('ip', '-s', '-j', 'link', 'show', 'dev', interface)
        return json.loads(text)[0]['stats64'][direction][name]

    def offloads(self, interface, state):
        self.run('ethtool', '-K', interface, *sum(([name, state] for name in (
            'tx', 'tso', 'gso', 'gro')), []))


class Lab:
    """Owns namespaces, children and a temporary directory; a context manager."""

    def __init__(self, title='t'):
        global _count
        _count += 1
        self.prefix = 'fm%d-%d-%s' % (os.getpid(), _count, title)
        self.dir = tempfile.mkdtemp(prefix='flowmond-test-')
        self.namespaces, self.children, self.closing = [], [], []

    def __enter__(self):
        return self

    def __exit__(self, kind, error, trace):
        if error is not None and not isinstance(error, SystemExit):
            self.show_logs()
        for child in reversed(self.children):
            if child.running():
                child.popen.kill()
                child.popen.wait()
        for action in reversed(self.closing):
            with contextlib.suppress(Exception):
                action()
        for namespace in self.namespaces:
            subprocess.run(['ip', 'netns', 'del', namespace.name], check=False,
                           stderr=subprocess.DEVNULL)
        if os.environ.get('FLOWMOND_TEST_KEEP'):
            print('# kept: ' + self.dir)
        else:
            shutil.rmtree(self.dir, ignore_errors=True)

    def show_logs(self):
        for child in self.children:
            lines = [line[:160] for line in child.log().strip().split('\n')[-12:]]
            if lines != ['']:
                print('# --- %s\n# %s' % (child.log_path, '\n# '.join(lines)))

    def path(self, name):
        return os.path.join(self.dir, name)

    def start(self, command, log, **options):
        process = Process(command, self.path('%d-%s.log' % (len(self.children), log)), **options)
        self.children.append(process)
        return process

    def ns(self, label):
        namespace = Namespace(self, '%s-%s' % (self.prefix, label))
        subprocess.run(['ip', 'netns', 'add', namespace.name], check=True)
        self.namespaces.append(namespace)
        namespace.quiet()
        return namespace

    def veth(self, one, name, other, peer, mtu=1500, offloads='off'):
        """A veth pair, both ends up, with fixed hardware addresses."""
        one.ip('link add %s mtu %d address %s type veth peer name %s mtu %d address %s netns %s' % (
            name, mtu, mac(name), peer, mtu, mac(peer), other.name))
        for namespace, interface in ((one, name), (other, peer)):
            if offloads == 'off':
                namespace.offloads(interface, 'off')
            namespace.ip('link set %s up' % interface)


def mac(name):
    """A local hardware address made of a name, the same every time."""
    octets = [0x02] + [sum(ord(c) * (7 * i + 3) ** j for j, c in enumerate(name)) & 0xff
                       for i in range(5)]
    return ':'.join('%02x' % octet for octet in octets)


def address(namespace, interface, *addresses):
    for one in addresses:
        namespace.ip('addr add %s dev %s%s' % (one, interface, ' nodad' if ':' in one else ''))


def neighbour(namespace, interface, hardware, *addresses):
    """Static neighbours: nothing is asked for, nothing arrives late."""
    for one in addresses:
        namespace.ip('neigh replace %s lladdr %s dev %s nud permanent' % (one, hardware, interface))


def couple(lab, a, name, b, peer, number, **options):
    """A veth pair with addresses 10.NUMBER.0.1/.2 and fd00:NUMBER::1/::2 that know each other."""
    lab.veth(a, name, b, peer, **options)
    v4, v6 = '10.%d.0.' % number, 'fd00:%d::' % number
    address(a, name, v4 + '1/24', v6 + '1/64')
    address(b, peer, v4 + '2/24', v6 + '2/64')
    neighbour(a, name, mac(peer), v4 + '2', v6 + '2')
    neighbour(b, peer, mac(name), v4 + '1', v6 + '1')
