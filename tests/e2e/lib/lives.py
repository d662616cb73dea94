# SPDX-License-Identifier: Apache-2.0
"""A daemon that is killed, handed over and replaced under load, and what all its collectors have in
the end against what the oracles of lib/load.py counted."""
import collections
import os
import random
import signal
import subprocess

from lib.collect import Nfcapd, TcpListener, json_flow
from lib.daemon import FLOWMOND, Flowmond, attached, merge
from lib.ipfix import dumped, file_records, files_in
from lib.load import Load, halves
from lib.packets import ACK, FIN, PSH, RST, SYN, TCP
from lib.tap import Failure, equal, note

# Flows end all the time, by every cause.
BUSY = {'flows': {'idle_timeout': '500ms', 'active_timeout': '1s', 'end_linger': '200ms',
                  'sweep_interval': '50ms', 'max': '65536'}}
FLAGS = {'F': FIN, 'S': SYN, 'R': RST, 'P': PSH, 'A': ACK, 'U': 32}


def bpffs(lab):
    """A BPF file system of the test's own; gone with all that is pinned in it."""
    path = lab.path('bpffs')
    os.mkdir(path)
    subprocess.run(['mount', '-t', 'bpf', '-o', 'mode=700', 'bpf', path], check=True)
    lab.closing.append(lambda: subprocess.run(['umount', '-l', path], check=False))
    return path


class Collectors:
    """nfcapd for IPFIX and v9, the libfixbuf listener over TCP, the json file, and in a directory
    IPFIX files that are rotated every other moment."""

    def __init__(self, namespace, json_path, directory=None):
        self.udp, self.v9 = Nfcapd(namespace, 9995), Nfcapd(namespace, 9994)
        self.tcp = TcpListener(namespace, 4739)
        self.json_path, self.directory = json_path, directory
        self.settings = {
            'json': {'file': json_path},
            'collector udp': {'address': self.udp.address()},
            'collector v9': {'address': self.v9.address(), 'protocol': 'v9'},
            'collector tcp': {'address': self.tcp.address(), 'transport': 'tcp',
                              'reconnect_interval': '100ms'}}
        if directory:
            self.settings['ipfix_file'] = {'directory': directory, 'rotate_octets': '128K'}

    def compare(self, lines, truth, crafted, status):
        """All collectors against the oracle; lines: of the json file; status: the last."""
        equal('json', halves(map(json_flow, lines)).flows, truth.flows)
        same_flags('json', ((json_flow(line)['flow'], line.get('tcpControlBits', 0),
                             line.get('flowmondReverseTcpControlBits', 0)) for line in lines), crafted)
        for name, collector in (('udp', self.udp), ('v9', self.v9)):
            records = collector.stop()
            equal(name, halves(records).flows, truth.flows)
            if not any(record['rev_packets'] for record in records):
                same_flags(name, ((record['flow'], sum(
                    FLAGS[letter] for letter in record['tcp_flags'] if letter in FLAGS), 0)
                    for record in records), crafted)
            equal('%s: sequence errors, bad packets' % name, collector.sequence_errors(), [0, 0])
        equal('tcp', halves(self.tcp.stop()).flows, truth.flows)
        equal('in doubt', {sink['name']: sink['unsure_messages'] for sink in status['sinks']
                           if sink['unsure_messages']}, {})
        equal('not sent', {sink['name']: sink['not_sent_records'] for sink in status['sinks']
                           if sink['not_sent_records']}, {})
        if self.directory:
            self.compare_files(truth)

    def compare_files(self, truth):
        """All files together, octet by octet and as ipfixDump reads each."""
        equal('files that are not complete', [name for name in os.listdir(self.directory)
                                              if not name.endswith('.ipfix')], [])
        files = files_in(self.directory)
        records = [record for path in files for record in file_records(path)]
        equal('ipfix_file', halves(records).flows, truth.flows)
        note('%d files, %d records' % (len(files), len(records)))
        equal('ipfixDump', tuple(map(sum, zip(*map(dumped, files)))), (
            len(records), sum(record['packets'] for record in records),
            sum(record['octets'] for record in records)))


def same_flags(what, rows, crafted):
    """rows: (flow, flags, flags of the reverse half); gathered, those of the crafted TCP flows."""
    seen = collections.defaultdict(int)
    for (src, dst, sport, dport, protocol), flags, reverse in rows:
        seen[src, dst, sport, dport, protocol] |= flags
        seen[dst, src, dport, sport, protocol] |= reverse
    equal(what + ': TCP flags', {flow: seen[flow] for flow in crafted if flow[4] == TCP},
          {flow: value[2] for flow, value in crafted.items() if flow[4] == TCP})


class Lives:
    """One daemon's lives on one store. binaries: one after the other."""

    def __init__(self, network, settings, seed, binaries=(FLOWMOND,), **load):
        self.network, self.lab, self.random = network, network.lab, random.Random(seed)
        self.binaries, self.number, self.with_load, self.seed = binaries, 0, load, seed
        self.pin = os.path.join(bpffs(self.lab), 'flowmond')
        self.collectors = Collectors(network.r, self.lab.path('flowmond.json'), self.lab.path('files'))
        self.settings = merge(BUSY, {'bpf': {'pin': self.pin}, 'spool': {
            'directory': self.lab.path('spool')}}, self.collectors.settings, settings)
        self.daemon = Flowmond(network.r, self.settings)
        self.programs = attached(network.r, 'r1')
        self.load, self.ends = Load(network, seed, **load), []
        note('seed %d' % seed)
        self.ready()

    def some(self, most):
        """Lets some of the load pass."""
        self.load.more(self.random.randrange(most))

    def status(self):
        return self.daemon.status()

    def end(self, how):
        """Ends the running process; the programs stay."""
        if how == 'handover':
            self.daemon.stop(signal.SIGUSR2, 0)
        else:
            self.daemon.stop(signal.SIGKILL, -signal.SIGKILL)
        self.ended(how)

    def ended(self, how):
        """It is no more; what it attached is still there."""
        self.ends.append(how)
        equal('programs and qdiscs on r1 without daemon', attached(self.network.r, 'r1'),
              self.programs)

    def start(self):
        self.number += 1
        self.daemon.start(self.binaries[self.number % len(self.binaries)])

    def next(self, how):
        """Ends it at a random moment under load and starts the next."""
        self.some(6000)
        if how == 'starting':
            # One that was killed while it took over: never ready.
            self.end('kill')
            self.start()
            self.lab_sleep(self.random.random() * 0.5)
            self.end('starting')
        elif how == 'reload':
            # One that was killed while it replaced sinks; the next has what it was to have.
            self.daemon.write(merge(self.settings, {
                'collector udp': {'profile': self.random.choice(('standard', 'ntop', 'full')),
                                  'fields': self.random.choice(('', '+rttMean -minimumTTL'))},
                'collector v9': {'message_size': str(self.random.randrange(1100, 1400))}}))
            self.daemon.process.popen.send_signal(signal.SIGHUP)
            self.lab_sleep(self.random.random() * 0.02)
            self.end('kill')
        else:
            self.end(how)
        self.some(4000)
        self.start()
        self.ready()

    def ready(self):
        self.daemon.wait_ready()
        equal('resumed', self.status()['resumed'], self.number > 0)

    def lab_sleep(self, seconds):
        try:
            self.daemon.process.popen.wait(seconds)
        except subprocess.TimeoutExpired:
            return
        raise Failure('ended by itself while it started:\n' + self.daemon.log()[-2000:])

    def finish(self):
        """The last stop, and all comparisons; returns what was sent."""
        truth, crafted = self.load.stop()
        status = self.status()
        self.daemon.stop()
        if not self.network.dropped() and not self.with_load.get('outer'):
            equal('the oracle and the senders', {flow: truth.flows[flow] for flow in crafted},
                  {flow: value[:2] for flow, value in crafted.items()})
        if self.with_load.get('outer'):
            # Within a tunnel the oracles see nothing: the senders' own account.
            truth.flows = {flow: value[:2] for flow, value in crafted.items()}
        note('%s; %d packets, %d octets, %d flows' % (
            ', '.join('%d %s' % (n, how) for how, n in collections.Counter(self.ends).items()),
            truth.packets(), truth.octets(), len(truth.flows)))
        self.collectors.compare(self.daemon.json_records(), truth, crafted, status)
        equal('lost', {name: count['packets'] for name, count in status['counters'].items()
                       if count['class'] == 'LOST' and count['packets']}, {})
        equal('left on r1', attached(self.network.r, 'r1'), (0, []))
        equal('left pinned', leftovers(self.pin), [])
        return truth


def leftovers(path):
    return sorted(os.path.join(folder, name) for folder, _, files in os.walk(path)
                  for name in files)
