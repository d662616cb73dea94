# SPDX-License-Identifier: Apache-2.0
"""What soak.py repeats: a daemon with collectors of every kind, and a cycle in which all that can come
and go does so under load; in the end what each collector has is compared with what was sent."""
import collections
import os
import re
import shutil
import signal
import socket
import subprocess
import sys

sys.path.insert(0, os.path.join(os.path.dirname(os.path.realpath(__file__)), '..', 'e2e'))

from lib import gauge  # noqa: E402
from lib.collect import Nfcapd, TcpListener, json_flow  # noqa: E402
from lib.daemon import Flowmond, attached, merge  # noqa: E402
from lib.ipfix import file_records, files_in  # noqa: E402
from lib.lives import BUSY, bpffs  # noqa: E402
from lib.load import Load, Network, halves  # noqa: E402
from lib.machine import Disturbed  # noqa: E402
from lib.net import couple, wait_until  # noqa: E402
from lib.packets import UDP, Account, ip4, ip6, udp  # noqa: E402
from lib.peers import NAME, TlsServer, certificates, decoded  # noqa: E402
from lib.tap import Failure, difference, equal, note  # noqa: E402
from lib.traffic import Injector  # noqa: E402

# Packets (super-packets as one) between two steps.
BETWEEN = 800
# Wake-ups of a daemon that has nothing to do, over which its sweeps are counted.
WAKE_UPS = 20
# A machine that others load as well takes its time.
SECONDS = 180
# Over UDP a port that is closed answers, and the last datagram before the answer is not lost. What went
# out between is, unseen; on a busy machine some datagrams do. So many packets of a cycle may be missing.
BEFORE_ANSWER = 1000
# Away in each cycle; without a spool, records of the last are given up, and counted by that process.
SPOOLED, UNSPOOLED = ('udp', 'tcp', 'tls', 'left'), 'v9'


class Nfcapds:
    """One nfcapd after the other at a port, and what they had."""

    def __init__(self, namespace, port):
        self.namespace, self.port, self.running, self.records = namespace, port, None, []
        self.faults = []

    def address(self):
        return '127.0.0.1:%d' % self.port

    def come(self):
        if not self.running:
            self.running = Nfcapd(self.namespace, self.port)

    def leave(self):
        running, self.running = self.running, None
        self.records += running.stop()
        if running.sequence_errors() != [0, 0]:
            self.faults.append('sequence errors, bad packets: %s' % running.sequence_errors())
        shutil.rmtree(running.dir)
        os.truncate(running.process.log_path, 0)

    def take(self):
        """All records of the cycle."""
        if self.running:
            self.leave()
        records, self.records = self.records, []
        return records


class Listeners(Nfcapds):
    """The same over TCP, decoded by libfixbuf."""

    def come(self):
        if not self.running:
            self.running = TcpListener(self.namespace, self.port)

    def leave(self):
        running, self.running = self.running, None
        try:
            self.records += running.stop()
        except Failure as why:
            self.faults.append(str(why))
        os.truncate(running.process.log_path, 0)


class TlsServers(Nfcapds):
    """The same over TLS."""

    def __init__(self, namespace, port, pki):
        super().__init__(namespace, port)
        self.pki = pki

    def come(self):
        if not self.running:
            self.running = TlsServer(self.namespace, self.pki, self.port)

    def leave(self):
        running, self.running = self.running, None
        self.records += running.stop()

    def take(self):
        try:
            return decoded(self.namespace, super().take())
        except Failure as why:
            self.faults.append(str(why))
            return []


class Site:
    """The daemon, its network and its collectors."""

    def __init__(self, lab):
        self.lab, self.network = lab, Network(lab)
        self.r = self.network.r
        for namespace in (self.network.a, self.network.b):
            # Connections of one cycle have the ports of those of the last.
            namespace.sysctl('net/ipv4/tcp_tw_reuse', 1)
        self.pin = os.path.join(bpffs(lab), 'flowmond')
        self.spool, self.files = lab.path('spool'), lab.path('files')
        self.pki = certificates(lab)
        self.collectors = {
            'udp': Nfcapds(self.r, 9995), 'v9': Nfcapds(self.r, 9994),
            'left': Nfcapds(self.r, 9993), 'right': Nfcapds(self.r, 9992),
            'tcp': Listeners(self.r, 4738), 'tls': TlsServers(self.r, 4740, self.pki)}
        self.guest = lab.prefix + '-guest'
        self.json = self.daemon = self.programs = self.waiting = None
        self.heap, self.kernel = gauge.Heap(lab), gauge.Kernel(self.pin)
        self.logged = 0

    def settings(self, *more):
        """What every cycle has. What is done once in a long while is not: cycles are alike."""
        settings = merge(BUSY, {
            'capture': {'interfaces': 'r*, n*, q*@' + self.guest},
            'flows': {'max': '16384', 'tunnel': 'inner'},
            'bpf': {'pin': self.pin}, 'spool': {'directory': self.spool, 'sync_interval': '0s'},
            'audit': {'interval': '2s'}, 'json': {'file': self.json},
            'ipfix_file': {'directory': self.files, 'rotate_interval': '1s', 'sync_interval': '0s'},
            'group both': {'members': 'left, right', 'policy': 'balance', 'failover_after': '0s',
                           'failback': '1s'}})
        for name, collector in self.collectors.items():
            settings['collector ' + name] = {
                'address': collector.address(), 'options_interval': '1h', 'template_interval': '1h',
                'reconnect_interval': '100ms'}
        return merge(settings, {
            'collector v9': {'protocol': 'v9'}, 'collector tcp': {'transport': 'tcp'},
            'collector tls': {'transport': 'tls', 'peer_name': NAME,
                              'certificate_file': os.path.join(self.pki, 'client.pem'),
                              'key_file': os.path.join(self.pki, 'client.key'),
                              'ca_file': os.path.join(self.pki, 'ca.pem')}}, *more)

    def missed(self):
        """Whether the daemon knows of all collectors that went: over UDP by what it sends them, audits
        if nothing else. It has templates for those that come then."""
        return not any(self.sink(name)['up'] for name in self.collectors)

    def begin(self, number):
        """All collectors are there; the cycle has a JSON file of its own."""
        if self.daemon:
            wait_until(self.missed, SECONDS, 'collectors that went to be missed')
        for collector in self.collectors.values():
            collector.come()
        before, self.json = self.json, self.lab.path('flows-%d.json' % number)
        if self.daemon:
            self.daemon.reload(self.settings())
            os.unlink(before)
        else:
            self.daemon = Flowmond(self.r, self.settings(), wrapper=self.heap.wrapper)
            self.programs = attached(self.r, 'r1')
            # Which system call that is; nothing happens yet.
            wait_until(lambda: self.proc('stat').rsplit(') ')[1][0] == 'S', SECONDS, 'it to sleep')
            self.waiting = self.proc('syscall').split()[0]
        self.daemon.json_path = self.json

    def pid(self):
        return self.daemon.process.pid

    def while_stopped(self, deed):
        """What the daemon sent is taken, what it sends next is not: stopped where it waits for events.
        Between a look at a connection and what it writes there nobody could tell."""
        def waits():
            os.kill(self.pid(), signal.SIGSTOP)
            wait_until(lambda: self.proc('stat').rsplit(') ')[1][0] == 'T', SECONDS, 'it to stop')
            if self.proc('syscall').split()[0] == self.waiting:
                return True
            os.kill(self.pid(), signal.SIGCONT)
            return False

        wait_until(waits, SECONDS, 'the daemon to wait')
        try:
            deed()
        finally:
            os.kill(self.pid(), signal.SIGCONT)

    def proc(self, name):
        with open('/proc/%d/%s' % (self.pid(), name), encoding='ascii') as file:
            return file.read()

    def sink(self, name):
        return next(sink for sink in self.daemon.status()['sinks']
                    if sink['name'].startswith('collector %s ' % name))

    def frames(self, interface):
        return sum(one['frames'] for one in self.daemon.status()['by_interface']
                   if one['name'].split('@')[0] == interface and one['direction'] == 'ingress')

    def exported(self):
        """Whether nothing is in the tables any more, nor on its way to a collector; the last datagram
        waits for what a port may answer."""
        status = self.daemon.status()
        return not (status['live_slots'] or status['tombstones'] or any(
            sink['waiting_messages'] > (' udp ' in sink['name']) or sink['spool_waiting_octets']
            for sink in status['sinks']))

    def end(self, how):
        """Ends the process; the programs stay."""
        self.daemon.stop(how, 0 if how == signal.SIGUSR2 else -how)
        equal('programs without a daemon', attached(self.r, 'r1'), self.programs)

    def start(self):
        self.daemon.start()
        self.daemon.wait_ready()
        self.logged = 0
        equal('resumed', self.daemon.status()['resumed'], True)


class Cycle:
    """One cycle. ends: also of kills and handovers; what a port was about to answer to a process
    that was killed nobody knows, so that a collector without a spool stays."""

    def __init__(self, site, number, ends):
        self.site, self.number, self.ends = site, number, ends
        self.sent, self.most, self.whole = Account(), 0, False
        self.leaving = SPOOLED if ends else (*SPOOLED, UNSPOOLED)

    def run(self):
        """Returns the figures of its end, the sums of packets by collector, and what was wrong."""
        site = self.site
        site.begin(self.number)
        self.dropped = site.network.dropped()
        self.log = site.daemon.process, len(site.daemon.log()), len(site.lab.children)
        self.given_up = self.unspooled()
        self.first_records = site.daemon.status()['records']
        self.load = Load(site.network, 1 + self.number, rate=2500, flows=60)
        self.tunnel = Load(site.network, 100000 + self.number, rate=400, flows=30, tcp=False,
                           outer=True)
        self.cpu = gauge.cpu_ns(site.pid())
        for step in (self.plugged, self.collectors_leave, self.killed, self.reloads,
                     self.collectors_back, self.handed_over, self.guest, self.renamed,
                     self.killed_while_it_starts, self.asked):
            self.load.more(BETWEEN)
            step()
            self.most = max(self.most, site.daemon.status()['live_slots'])
        self.load.more(BETWEEN)
        self.settle()
        return (self.figures(), *self.compare())

    def inject(self, namespace, interface, target):
        # Until then a new device drops what is sent.
        wait_until(lambda: ' state UP ' in namespace.ip('link show dev ' + interface), SECONDS,
                   interface + ' to be up')
        inject = Injector(namespace, interface, target, self.sent)
        for port in range(1000, 1020):
            for build, src, dst in (ip4, '10.8.0.1', '10.8.0.2'), (ip6, 'fd08::1', 'fd08::2'):
                inject.send(build(src, dst, UDP, udp(port, 9, bytes(port % 100))),
                            (src, dst, port, 9, UDP))
        inject.close()
        wait_until(lambda: self.site.frames(target) >= 40, SECONDS, 'packets at ' + target)

    def plugged(self):
        """Interfaces come by names that were never there, are counted on, join a bridge, and go."""
        site, a = self.site, self.site.network.a
        near, far, bridge = (name + str(self.number) for name in ('n', 'p', 'nb'))
        site.lab.veth(a, far, site.r, near)
        wait_until(lambda: attached(site.r, near)[0] == 2, SECONDS, near)
        self.inject(a, far, near)
        site.r.ip('link add %s type bridge mcast_snooping 0' % bridge)
        site.r.ip('link set %s up' % bridge)
        site.r.ip('link set %s master %s' % (near, bridge))
        self.load.more(BETWEEN)
        site.r.ip('link del ' + near)
        site.r.ip('link del ' + bridge)

    def guest(self):
        """A network namespace comes, with an interface, and goes."""
        lab, a = self.site.lab, self.site.network.a
        guest = lab.ns('guest')
        couple(lab, a, 'qa', guest, 'q0', 9)
        wait_until(lambda: attached(guest, 'q0')[0] == 2, SECONDS, 'q0')
        self.inject(a, 'qa', 'q0')
        a.ip('link del qa')
        subprocess.run(['ip', 'netns', 'del', guest.name], check=True)
        lab.namespaces.remove(guest)

    def renamed(self):
        """An interface is monitored no more, and again, by its name, under load."""
        self.site.r.ip('link set r1 name x1')
        self.load.more(BETWEEN)
        self.site.r.ip('link set x1 name r1')
        wait_until(lambda: attached(self.site.r, 'r1') == self.site.programs, SECONDS, 'r1')

    def unspooled(self):
        """Packets and octets that were given up in this cycle: by sinks that were replaced, as they
        said when they ended, and by the one that is there, whose figures outlive the process."""
        process, start, first = self.log
        text = process.log()[start:] + ''.join(
            child.log() for child in self.site.lab.children[first:]
            if child.log_path.endswith('-flowmond.log'))
        sums = [0, 0]
        for found in re.findall(r'collector %s .*: \d+ records \((\d+) packets, (\d+) octets\) not sent '
                                r'in all' % UNSPOOLED, text):
            sums = [total + int(more) for total, more in zip(sums, found)]
        sink = self.site.sink(UNSPOOLED)
        return [sums[0] + sink['not_sent_packets'], sums[1] + sink['not_sent_octets']]

    def collectors_leave(self):
        def leave():
            for name in self.leaving:
                self.site.collectors[name].leave()

        self.site.while_stopped(leave)
        for name in ('udp', 'tcp', 'tls'):
            wait_until(lambda name=name: self.site.sink(name)['spool_waiting_octets'], SECONDS,
                       'the spool of ' + name)
        if UNSPOOLED in self.leaving:
            wait_until(lambda: self.unspooled() > self.given_up, SECONDS, 'some to be given up')

    def collectors_back(self):
        for collector in self.site.collectors.values():
            collector.come()

    def reloads(self):
        """Other tables, keys, records, templates, groups and hooks, and a file that is refused."""
        site = self.site
        for more in ({'flows': {'max': '8192'}}, {'flows': {'key': 'vlan, interface, tos'}},
                     {'flows': {'biflow': 'yes'}, 'metrics': {'tcp': 'no'}},
                     {'collector udp': {'profile': 'full', 'message_size': '1200'},
                      'group both': {'policy': 'failover'}},
                     {'capture': {'interfaces': 'r2'}}):
            site.daemon.reload(site.settings(more))
            self.load.more(BETWEEN)
        refused = site.daemon.log().count('configuration not changed')
        site.daemon.reload('[flows]\nmax = never\n')
        equal('refused', site.daemon.log().count('configuration not changed'), refused + 1)
        site.daemon.reload(site.settings())

    def killed(self):
        if self.ends:
            self.site.end(signal.SIGKILL)
            self.load.more(BETWEEN)
            self.site.start()

    def handed_over(self):
        if self.ends:
            self.site.end(signal.SIGUSR2)
            self.load.more(BETWEEN)
            self.site.start()

    def killed_while_it_starts(self):
        """Each time at another place: when it has so many descriptors."""
        if not self.ends:
            return
        self.site.end(signal.SIGKILL)
        daemon, aim = self.site.daemon, 8 + 7 * self.number % 60
        daemon.start()
        there = '/proc/%d/fd' % self.site.pid()
        wait_until(lambda: len(os.listdir(there)) >= aim or
                   daemon.notify.count('READY=1') > daemon.ready_before, SECONDS, 'it to start')
        self.site.end(signal.SIGKILL)
        self.site.start()

    def asked(self):
        """Every question, and connections that ask none or nonsense."""
        daemon = self.site.daemon
        for words in ('status',), ('metrics',), ('status', '--json'):
            equal('flowmonctl %s' % (words,), daemon.ctl(*words).returncode, 0)
        for text in b'', b'status', b'\0\xff' * 500 + b'\n':
            with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as one:
                one.connect(daemon.control)
                one.sendall(text)

    def settle(self):
        """Nothing more is sent, and all that was is with the collectors."""
        site = self.site
        self.tunnel.end()
        truth, _ = self.load.stop()
        self.sent.join(truth.flows)
        self.sent.join({flow: value[:2] for flow, value in self.tunnel.sent().items()})
        for oracle in site.network.oracles:
            oracle.forget()
        wait_until(site.exported, SECONDS, 'all to be exported')
        wait_until(lambda: not [name for name in os.listdir(site.files) if name.endswith('.part')],
                   SECONDS, 'the last file to be complete')
        self.whole = site.network.dropped() == self.dropped

    def figures(self):
        site, status = self.site, self.site.daemon.status()
        seen = gauge.process(site.pid(), site.heap, site.files)
        seen.update(gauge.store(site.pin, site.spool, site.kernel, site.pid()))
        seen.update({name: status[name] for name in ('interfaces', 'hooks')})
        seen['wake-ups a sweep, at rest'] = self.rest()
        lines = site.daemon.log().count('\n')
        seen['log lines'], site.logged = lines - site.logged, lines
        seen['slots in use, under load'] = self.most
        if not self.ends:
            seen['CPU a record, us'] = (gauge.cpu_ns(site.pid()) - self.cpu) / 1e3 / (
                status['records'] - self.first_records)
        return seen

    def rest(self):
        """How often it wakes up for each sweep of empty tables."""
        pid, daemon = self.site.pid(), self.site.daemon
        first = daemon.status()['sweeps']
        before = gauge.switches(pid)
        wait_until(lambda: gauge.switches(pid) >= before + WAKE_UPS, SECONDS, 'wake-ups')
        woken = gauge.switches(pid) - before
        return woken / max(daemon.status()['sweeps'] - first, 1)

    def compare(self):
        """Every collector against what was sent, where the network itself lost nothing; else against
        the JSON file. Sums of packets by collector, and what was found wrong."""
        site, status = self.site, self.site.daemon.status()
        seen = {'json': halves(map(json_flow, site.daemon.json_records())),
                'files': halves(self.file_records())}
        records = {}
        for name, collector in site.collectors.items():
            try:
                records[name] = collector.take()
            except Disturbed as why:
                note('cycle %d: %s: %s' % (self.number, name, why))
                self.whole = False
        if 'left' in records and 'right' in records:
            records['both'] = records['left'] + records['right']
        for name in {'udp', 'tcp', 'tls', 'both', 'v9'} & set(records):
            seen[name] = halves(records[name])
        truth = self.sent if self.whole else seen['json']
        given_up = [now - then for now, then in zip(self.unspooled(), self.given_up)]
        sums = collections.Counter({name: account.packets() for name, account in seen.items()},
                                   sent=truth.packets())
        faults = []
        for name in sorted(set(seen) - {UNSPOOLED}):
            if name in ('udp', 'both') and self.lacks_little(seen[name], truth):
                note('cycle %d: %s: %d packets went out before the answer' % (
                    self.number, name, truth.packets() - seen[name].packets()))
                sums[name] = truth.packets()
            elif seen[name].flows != truth.flows:
                faults.append('%s: %s' % (name, ' '.join(difference(seen[name].flows, truth.flows, 5))))
        if UNSPOOLED in seen:
            sums['v9, not sent'] = given_up[0]
            both = seen[UNSPOOLED].packets() + given_up[0], seen[UNSPOOLED].octets() + given_up[1]
            lacking = truth.packets() - both[0]
            if 0 < lacking < BEFORE_ANSWER and both[1] < truth.octets():
                note('cycle %d: %s: %d packets went out before the answer' % (
                    self.number, UNSPOOLED, lacking))
                sums['v9, not sent'] += lacking
            elif both != (truth.packets(), truth.octets()):
                faults.append('v9 and not sent: %s, sent: %s' % (
                    both, (truth.packets(), truth.octets())))
        for name, collector in site.collectors.items():
            faults += ['%s: %s' % (name, fault[:500]) for fault in collector.faults]
            collector.faults = []
        faults += self.faults(status)
        return sums, ['cycle %d: %s' % (self.number, fault) for fault in faults]

    @staticmethod
    def lacks_little(seen, truth):
        """Whether the difference is some datagrams, and nothing is there twice."""
        return 0 < truth.packets() - seen.packets() < BEFORE_ANSWER and all(
            flow in truth.flows and all(n <= most for n, most in zip(sums, truth.flows[flow]))
            for flow, sums in seen.flows.items())

    def file_records(self):
        for path in files_in(self.site.files):
            yield from file_records(path)
            os.unlink(path)

    @staticmethod
    def faults(status):
        """What no cycle may have."""
        for name, count in status['counters'].items():
            if count['class'] == 'LOST' and count['packets']:
                yield 'lost, %s: %d packets' % (name, count['packets'])
        for sink in status['sinks']:
            if sink['unsure_messages']:
                yield '%s: in doubt: %d messages' % (sink['name'], sink['unsure_messages'])
            if sink['not_sent_packets'] and 'collector %s ' % UNSPOOLED not in sink['name']:
                yield '%s: not sent: %d packets' % (sink['name'], sink['not_sent_packets'])
