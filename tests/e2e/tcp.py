#!/usr/bin/python3
# SPDX-License-Identifier: Apache-2.0
"""TCP metrics against truth that is not ours: what the end points' kernels say of their sockets,
what a bump in the wire did to the packets, and what tshark finds in captures.

What is counted must be equal. Times, and what is told by times, are compared with the same packets'
times in a capture at the same point, or with the socket's; a stall between the two points is in the
one and not in the other, so they must agree in one of some runs. What the machine disturbed in all
of them is only told of.

--table prints every comparison as a table when the cases are done.
"""
import collections
import concurrent.futures
import contextlib
import functools
import os
import socket
import statistics
import sys
import threading
import time

from lib import bump, socketinfo, tap
from lib.daemon import Flowmond
from lib.machine import RUNS, STOLEN, Disturbed, Watch
from lib.net import PATIENCE, Lab, wait_until
from lib.packets import ACK, FIN, RST, SYN
from lib.tap import Failure, equal
from lib.traffic import family_of
from lib.truth import Capture, tshark

CLIENT, SERVER = 40001, 5201
# 20 Mbit/s; bump keeps its times at this rate even where the processors are shared. The octets are
# an even number of segments, by IPv4 and by IPv6: the last one's acknowledgement is not delayed.
RATE, OCTETS = 2500000, 3000240
DELAY = {'delay': ('ab:5000', 'ba:5000')}
RTT = 10000
SO_MAX_PACING_RATE = 47
DEVICES = {'a': 'a0', 'r': 'r1', 'b': 'b0'}

STAMP, ECHO = 'tcp.options.timestamp.tsval', 'tcp.options.timestamp.tsecr'
BLOCK = 'tcp.options.sack_le'
PACKET = ['frame.time_epoch', 'tcp.srcport', 'tcp.len', 'tcp.flags', 'tcp.window_size', 'tcp.seq',
          'tcp.ack', 'ipv6.src', STAMP, ECHO, BLOCK]
ANALYSIS = ['retransmission', 'window_full', 'ack_rtt']
# Retransmissions by a timer that ran out, by the state it found, and those of slow start behind it.
TIMEOUTS = ['TCPTimeouts', 'TCPSackRecoveryFail', 'TCPRenoRecoveryFail', 'TCPSackFailures',
            'TCPRenoFailures', 'TCPLossFailures', 'TCPSlowStartRetrans']

MOST_RUNS = 3 * RUNS

# So many packets of a direction are timed for the jitter; then none until the 257th.
PACED = 8

table = []


# What can make a comparison wrong though the record is right: nothing; a stall between two points;
# a busy machine that reads the socket too seldom.
COUNTED, TIMED, SAMPLED = range(3)


class Row(collections.namedtuple('Row', 'where way field truth source seen good kind')):
    """A comparison."""

    def key(self):
        return self.where, self.way, self.field, self.source

    def __str__(self):
        return '%s %s %s: %s, but %s by %s' % (self.where, self.way, self.field, self.seen,
                                               self.truth, self.source)


class Checks:
    """The comparisons of one run of a case."""

    def __init__(self):
        self.rows = []

    def add(self, where, way, field, truth, source, seen, good, kind=COUNTED):
        self.rows.append(Row(where, way, field, truth, source, seen, good, kind))

    def equal(self, where, way, record, field, truth, source, kind=COUNTED):
        seen = record.get(field)
        self.add(where, way, field, truth, source, seen, seen == truth, kind)

    def near(self, where, way, record, field, truth, source, percent=5, slack=0, kind=TIMED):
        """slack: what is allowed in any case, in the field's unit."""
        seen = record.get(field)
        good = seen is not None and abs(seen - truth) <= max(truth * percent / 100, slack)
        self.add(where, way, field, truth, source, seen, good, kind)

    def least(self, where, way, record, field, truth, source):
        seen = record.get(field)
        self.add(where, way, field, '>= %s' % truth, source, seen,
                 seen is not None and seen >= truth)

    def wrong_counts(self):
        return [row for row in self.rows if not row.good and row.kind == COUNTED]


class Runs:
    """The runs of a case: until all is right, at most RUNS; MOST_RUNS if all were disturbed."""

    def __init__(self, title):
        self.title, self.shown, self.left = title, {}, {}
        self.rows, self.counts, self.finished = [], [], 0
        self.fit = {TIMED: 0, SAMPLED: 0}  # runs that can show it

    def add(self, case):
        """Takes in what a run has shown; whether nothing is left to show."""
        disturbed = case.disturbed()
        self.finished += 1
        self.rows, self.counts = case.checks.rows, case.checks.wrong_counts()
        if self.counts and not disturbed:
            self.fail('')
        for row in self.rows:
            if row.kind != COUNTED:
                (self.shown if row.good else self.left)[row.key()] = row
        self.left = {key: row for key, row in self.left.items() if key not in self.shown}
        self.fit[TIMED] += not disturbed
        self.fit[SAMPLED] += case.machine.calm() and not disturbed
        if not self.counts and not self.left:
            return True
        tap.note('not shown yet (%s%s):' % (case.machine, ''.join(', ' + why for why in disturbed)))
        for row in [*self.counts, *self.left.values()]:
            tap.note('  %s' % (row,))
        return False

    def fail(self, why):
        raise Failure('\n'.join([*why.splitlines(), *map(str, self.counts or self.left.values())]))

    def is_open(self):
        """Whether nothing can be said of what is counted."""
        return not self.finished or self.counts

    def end(self):
        if self.is_open():
            self.fail('the machine disturbed all %d runs' % MOST_RUNS)
        if any(self.fit[row.kind] > 1 for row in self.left.values()):
            self.fail('in none of %d runs:' % RUNS)
        for row in self.left.values():
            tap.note('the machine disturbed it, not compared: %s' % (row,))

    def report(self):
        for row in self.rows:
            if row.key() not in self.left:
                table.append((self.title, *self.shown.get(row.key(), row)[:-1]))


def run(name, compare, script=None, family=4, router=False, **more):
    """A case: traffic through a scene, then compare(case)."""
    runs = Runs('%s, IPv%d%s' % (name, family, ', routed' if router else ''))
    try:
        for number in range(MOST_RUNS):
            if number >= RUNS and not runs.is_open():
                break
            try:
                case = Case(script or {}, family, router, **more)
            except Disturbed as why:
                tap.note(why)
                continue
            compare(case)
            if runs.add(case):
                return
        runs.end()
    finally:
        runs.report()


class Scene:
    """One case: the network, bump, a flowmond and a capture at each point of observation."""

    def __init__(self, lab, script, family=4, router=False, sysctls=()):
        self.lab, self.family = lab, family
        self.spaces = bump.routed(lab) if router else bump.straight(lab)
        self.points = ('a', 'r', 'b') if router else ('a', 'b')
        for name, value in sysctls:
            for end in 'ab':
                self.spaces[end].sysctl(name, value)
        self.address = {end: self.spaces[end].address[family] for end in 'ab'}
        self.bump = bump.Bump(self.spaces['x'], 'x0', 'x1', {**DELAY, **script})
        self.captures = {point: Capture(self.spaces[point], DEVICES[point], 'tcp')
                         for point in self.points}
        self.daemons = {point: self._flowmond(point) for point in self.points}
        for daemon in self.daemons.values():
            daemon.wait_ready()

    def _flowmond(self, point):
        return Flowmond(self.spaces[point], {
            'capture': {'interfaces': '!lo'}, 'metrics': {'tcp': 'yes'},
            'json': {'file': self.lab.path('flowmond-%s.json' % point)}}, 'flowmond-' + point,
                        ready=False)

    def socket(self, end):
        made = self.spaces[end].socket(family_of(self.address[end]), socket.SOCK_STREAM)
        made.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        made.settimeout(30 * PATIENCE)
        return made

    def client(self):
        made = self.socket('a')
        made.setsockopt(socket.SOL_SOCKET, SO_MAX_PACING_RATE, RATE)
        made.bind((self.address['a'], CLIENT))
        return made

    @contextlib.contextmanager
    def connection(self, buffer=None):
        """A client in A and what a server in B accepted; both closed and gone at the end."""
        with self.socket('b') as listener, self.client() as client:
            if buffer:
                listener.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, buffer)
            listener.bind((self.address['b'], SERVER))
            listener.listen(1)
            client.connect((self.address['b'], SERVER))
            server = listener.accept()[0]
            server.settimeout(30 * PATIENCE)
            with server:
                yield client, server
                client.shutdown(socket.SHUT_WR)
                while server.recv(65536):
                    pass
        wait_until(self._closed, 30, 'the connection to end')

    def _closed(self):
        kind = 'tcp' if self.family == 4 else 'tcp6'
        return all(words[3] in ('06', '0A') for end in 'ab'
                   for words in self.spaces[end].sockets(kind, SERVER))

    def finish(self):
        return Result(self)


class Result:
    """What everybody says when a scene is over."""

    def __init__(self, scene):
        self.scene = scene
        with concurrent.futures.ThreadPoolExecutor() as pool:
            files = list(pool.map(Capture.stop, scene.captures.values()))
            stopped = pool.map(Flowmond.stop, scene.daemons.values())
            self.captures = dict(zip(scene.captures, pool.map(Analysis, files)))
            list(stopped)
        self.bump = scene.bump.stop()
        self.events = scene.bump.events()
        self.nstat = {end: socketinfo.nstat(scene.spaces[end]) for end in 'ab'}

    def record(self, point, way):
        """The record of what A (way 'ab') or B (way 'ba') sent."""
        source = CLIENT if way == 'ab' else SERVER
        found = [record for record in self.scene.daemons[point].json_records()
                 if record.get('sourceTransportPort') == source]
        equal('records of %s at %s' % (way, point), len(found), 1)
        return found[0]


class Sequence:
    """Octets of a stream that were seen, whatever pieces they came in."""

    def __init__(self, first):
        self.first, self.seen, self.end = first, bytearray(), 0

    def add(self, seq, length):
        """Octets of this segment that were there before, and whether it lies below the highest."""
        at = (seq - self.first) % 2**32
        if at + length > len(self.seen):
            self.seen.extend(bytes(at + length - len(self.seen)))
        before, below = sum(self.seen[at:at + length]), at < self.end
        self.seen[at:at + length] = b'\1' * length
        self.end = max(self.end, at + length)
        return before, below


class Analysis:
    """tshark's view of a capture: packets by way, with what its analysis says of each."""

    def __init__(self, path):
        fields = PACKET + ['tcp.analysis.' + name for name in ANALYSIS]
        self.packets, self.in_order = {'ab': [], 'ba': []}, []
        self.ip6 = False
        for row in tshark(path, fields):
            packet = {field: values[0] for field, values in row.items() if values}
            self.ip6 = 'ipv6.src' in packet
            self.packets[self.way(packet)].append(packet)
            self.in_order.append(packet)

    @staticmethod
    def way(packet):
        return 'ba' if packet['tcp.srcport'] == str(SERVER) else 'ab'

    def duplicate_acks(self, way):
        """RFC 5681 and, with SACK blocks above it, RFC 6675: no data, nothing new acknowledged
        though there are data outstanding, and the same window or such blocks."""
        found, end, acked, window = 0, None, None, None
        for packet in self.in_order:
            flags, ack = int(packet['tcp.flags'], 0), int(packet.get('tcp.ack', 0))
            if self.way(packet) != way:
                end = max(end or 0, int(packet['tcp.seq']) + int(packet['tcp.len']) + (
                    flags & (SYN | FIN) != 0))
                continue
            found += (ack == acked and ack < end and packet['tcp.len'] == '0'
                      and not flags & (SYN | FIN | RST)
                      and (int(packet.get(BLOCK, 0)) > ack or packet['tcp.window_size'] == window))
            acked, window = ack, packet['tcp.window_size']
        return found

    def flags(self, way, mask, value):
        return sum(int(packet['tcp.flags'], 0) & mask == value for packet in self.packets[way])

    def windows(self, way):
        """Windows in octets, of all packets but SYN and RST: those are not scaled."""
        return [int(packet['tcp.window_size']) for packet in self.packets[way]
                if int(packet['tcp.flags'], 0) & 6 == 0]

    def window_fulls(self, way):
        return sum('tcp.analysis.window_full' in packet
                   and 'tcp.analysis.retransmission' not in packet for packet in self.packets[way])

    def timed(self, way):
        """Round trips in us by the rule of the documentation: one segment at a time, handshake and
        end included; of what was sent again only if the timestamp that comes back says which."""
        timing, again, samples, sequence = None, False, [], Sequence(0)
        for packet in self.in_order:
            flags, seq = int(packet['tcp.flags'], 0), int(packet['tcp.seq'])
            now = 1e6 * float(packet['frame.time_epoch'])
            last = seq + int(packet['tcp.len']) + (flags & (SYN | FIN) != 0)
            if self.way(packet) != way:
                if timing and flags & ACK and int(packet['tcp.ack']) >= timing[0]:
                    if not again or packet.get(ECHO) == timing[2]:
                        samples.append(now - timing[1])
                    timing = None
                continue
            if last == seq:
                continue
            repeated, below = sequence.add(seq, last - seq)
            if not timing and not below:
                timing, again = (last, now, packet.get(STAMP)), False
            elif flags & SYN and timing:
                timing, again = (last, now, packet.get(STAMP)), True
            elif repeated and timing and seq < timing[0]:
                again = True
        return samples

    def rtt(self, way):
        """Round trips of this way's data in us; the analysis stands at the acknowledgements."""
        back = 'ba' if way == 'ab' else 'ab'
        return [1e6 * float(packet['tcp.analysis.ack_rtt']) for packet in self.packets[back]
                if 'tcp.analysis.ack_rtt' in packet and int(packet['tcp.flags'], 0) & 2 == 0]


def drain(server, octets):
    left = octets
    while left:
        data = server.recv(min(left, 65536))
        if not data:
            return
        left -= len(data)


def idle(client):
    info = socketinfo.tcp_info(client)
    return not info['unacked'] and not info['notsent_bytes']


def send(client, server, octets=OCTETS):
    """Sends so many octets and waits until all are acknowledged; the sender's view of its RTT."""
    smoothed = []
    threads = [threading.Thread(target=client.sendall, args=(bytes(octets),)),
               threading.Thread(target=drain, args=(server, octets))]
    for thread in threads:
        thread.start()
    while any(thread.is_alive() for thread in threads):
        smoothed.append(socketinfo.tcp_info(client)['rtt'])
        time.sleep(0.01)
    wait_until(lambda: idle(client), 30, 'acknowledgements')
    return smoothed


class Wire:
    """What bump's log says of A's data in front of bump and behind it.

    again: octets A sent before, as bump saw them come. An observer behind a loss sees what is left
    of them, and knows it for what it is if it fills a gap or was seen there, too: told. Where later
    ones came before it and A sent it once, it is reordered (RFC 4737).
    """

    def __init__(self, events):
        self.again = self.again_octets = self.told = self.told_octets = 0
        self.reordered = {'in': 0, 'out': 0}
        first = next(event.seq for event in events if event.way == 'ab' and event.flags & SYN) + 1
        front, behind, repeated = Sequence(first), Sequence(first), {}
        for event in events:
            if event.way != 'ab' or event.flags & SYN or not event.length:
                continue
            if event.event in ('in', 'drop'):
                repeated[event.number], below = front.add(event.seq, event.length)
                self.again += repeated[event.number] > 0
                self.again_octets += repeated[event.number]
                self.reordered['in'] += below and not repeated[event.number]
            elif event.event == 'out':
                _, below = behind.add(event.seq, event.length)
                if below and repeated[event.number]:
                    self.told += 1
                    self.told_octets += repeated[event.number]
                self.reordered['out'] += below and not repeated[event.number]


def bulk(case, scene):
    """A sends OCTETS to B."""
    with scene.connection() as (client, server):
        case.smoothed = send(client, server)[1:]
        case.client, case.server = map(socketinfo.tcp_info, (client, server))
    case.smoothed.append(case.client['rtt'])


class Case:
    """One run of a case: traffic through a scene, and what came of it. timers: timeouts are to be
    expected."""

    def __init__(self, script, family, router, sysctls=(), traffic=bulk, timers=False):
        self.client = self.server = None
        self.script, self.timers = script, timers
        with Lab('tcp') as lab:
            scene = Scene(lab, script, family, router, sysctls)
            self.machine = Watch()
            traffic(self, scene)
            self.machine.stop()
            self.result = result = scene.finish()
            self.bump, self.nstat = result.bump, result.nstat
            self.wire = Wire(result.events)
            self.captures, self.points = result.captures, scene.points
            self.records = {(point, way): result.record(point, way) for point in scene.points
                            for way in ('ab', 'ba')}
        self.before = [point for point in self.points if point != 'b']
        self.checks = Checks()

    def disturbed(self):
        """What the machine did to the packets of this run."""
        timeouts = sum(self.nstat[end]['TcpExt' + name] for end in 'ab' for name in TIMEOUTS)
        return [text for text, true in (
            ('bump was late with %d packets' % self.bump['late'], self.bump['late']),
            ('packets were dropped', self.machine.drops),
            ('the processors were elsewhere', self.machine.stolen > STOLEN),
            ('a stall was taken for a loss', timeouts and not self.timers)) if true]

    def everywhere(self, way, field, truth, source):
        for point in self.points:
            self.equal(point, way, field, truth, source)

    def equal(self, point, way, field, truth, source, kind=COUNTED):
        self.checks.equal(point.upper(), way, self.records[point, way], field, truth, source,
                          kind)

    def near(self, point, way, field, truth, source, percent=5, slack=0, kind=TIMED):
        self.checks.near(point.upper(), way, self.records[point, way], field, truth, source,
                         percent, slack, kind)

    def least(self, point, way, field, truth, source):
        self.checks.least(point.upper(), way, self.records[point, way], field, truth, source)

    def packets(self):
        for point in self.points:
            for way in ('ab', 'ba'):
                self.equal(point, way, 'packetDeltaCount', len(self.captures[point].packets[way]),
                           'capture')

    def tell(self, what, truth, source, seen):
        """What bump itself must have seen."""
        self.checks.add('X', 'ab', what, truth, source, seen, seen == truth)

    def impaired(self):
        return TIMED if 'reorder' in self.script or 'duplicate' in self.script else COUNTED

    def retransmissions(self):
        """Before the loss all observers must say what the sender's kernel says; behind it what came
        through is all that can be told of."""
        nstat, client = self.nstat['a'], self.client
        for point in self.before:
            self.equal(point, 'ab', 'tcpRetransmittedPackets', nstat['TcpRetransSegs'],
                       'TcpRetransSegs')
            self.equal(point, 'ab', 'tcpRetransmittedOctets', client['bytes_retrans'],
                       'tcpi_bytes_retrans')
        self.tell('sent again', (nstat['TcpRetransSegs'], client['bytes_retrans']),
                  'TcpRetransSegs, tcpi_bytes_retrans', (self.wire.again, self.wire.again_octets))
        # Behind the network a repetition is told from what was late by the time it took.
        self.equal('b', 'ab', 'tcpRetransmittedPackets', self.wire.told,
                   'bump: repeated, came below others', self.impaired())
        self.equal('b', 'ab', 'tcpRetransmittedOctets', self.wire.told_octets,
                   'bump: repeated, came below others', self.impaired())
        self.everywhere('ba', 'tcpRetransmittedPackets', self.nstat['b']['TcpRetransSegs'],
                        'TcpRetransSegs of B')

    def kinds(self):
        """Kinds as the sender's kernel counts them; the router must infer them, by times."""
        nstat = self.nstat['a']
        timeouts = sum(nstat['TcpExt' + name] for name in TIMEOUTS)
        for point in self.before:
            self.equal(point, 'ab', 'tcpFastRetransmissions', nstat['TcpExtTCPFastRetrans'],
                       'TCPFastRetrans', TIMED if point == 'r' else COUNTED)
            if nstat['TcpRetransSegs']:
                self.equal(point, 'ab', 'tcpRetransmissionSource', 2 if point == 'a' else 1,
                           'where it is')
            probes = nstat['TcpExtTCPLossProbes']
            if point == 'a' or not probes:
                self.equal(point, 'ab', 'tcpTimeoutRetransmissions', timeouts,
                           'TCPTimeouts and such, TCPSlowStartRetrans',
                           TIMED if point == 'r' else COUNTED)
                continue
            # A probe that had to wait as long as a timeout looks like one from outside.
            seen = self.records[point, 'ab']['tcpTimeoutRetransmissions']
            self.checks.add('R', 'ab', 'tcpTimeoutRetransmissions',
                            '%d, %d probes more at most' % (timeouts, probes), 'TCPTimeouts', seen,
                            timeouts <= seen <= timeouts + probes, TIMED)

    def order(self):
        """Reordered and doubled by the network: only behind it can that be seen."""
        for point, order, doubled in (('a', 0, 0), ('r', self.wire.reordered['in'], 0),
                                      ('b', self.wire.reordered['out'],
                                       self.bump['ab']['duplicated'])):
            if point in self.points:
                self.equal(point, 'ab', 'tcpOutOfOrderPackets', order,
                           'bump: came behind later ones', self.impaired())
                self.equal(point, 'ab', 'duplicatePackets', doubled, 'bump: duplicated',
                           self.impaired())

    def acknowledgements(self):
        for point in self.points:
            self.equal(point, 'ba', 'tcpDuplicateAcks', self.captures[point].duplicate_acks('ba'),
                       'capture: RFC 5681, 6675')

    def steady(self):
        """No stall in the round trips: one would be in one sample of a hundred that are taken once
        a round trip, but in many of a thousand that are taken at each acknowledgement."""
        few, many = (statistics.mean(samples) for samples in (
            self.captures['a'].timed('ab'), self.captures['a'].rtt('ab')))
        return (not self.bump['late'] and max(self.smoothed) < 1.3 * RTT
                and (self.script or abs(few - many) * 50 < many))

    def round_trips(self):
        for point in self.points:
            # Behind a loss it is a matter of taste which segments were sent again while timed.
            for way in ('ab', 'ba') if point != 'b' or not self.bump['ab']['dropped'] else ('ba',):
                seen = self.captures[point].timed(way)
                self.near(point, way, 'rttSamples', len(seen), 'capture', slack=1)
                self.near(point, way, 'rttMean', round(statistics.mean(seen)), 'capture',
                          slack=200)
                self.near(point, way, 'rttMin', round(min(seen)), 'capture', slack=100)
        for point in self.before:
            self.least(point, 'ab', 'rttMin', RTT, 'bump: delay both ways')
        seen, low, high = self.records['a', 'ab']['rttSmoothed'], min(self.smoothed), max(
            self.smoothed)
        self.checks.add('A', 'ab', 'rttSmoothed', '%d to %d' % (low, high), 'tcpi_rtt', seen,
                        low * 0.95 <= seen <= high * 1.05, SAMPLED)
        if self.steady():
            self.near('a', 'ab', 'rttMean', round(statistics.mean(self.smoothed)),
                      'mean of tcpi_rtt', 10 if self.script else 5, kind=SAMPLED)
        elif not self.script:
            self.checks.add('A', 'ab', 'rttMean', None, 'mean of tcpi_rtt', 'unsteady', False,
                            SAMPLED)

    def handshake(self):
        """The SYN-ACK's and the ACK's own distance to what they answer, as the capture has it."""
        for point in self.points:
            # Absent if a stall made one of them sent again.
            answers = [self.captures[point].packets[way][n].get('tcp.analysis.ack_rtt', 0)
                       for way, n in (('ba', 0), ('ab', 1))]
            server, client = (round(1e6 * float(value)) for value in answers)
            for way in ('ab', 'ba'):
                record = self.records[point, way]
                self.near(point, way, 'tcpServerNetworkTime', server, 'capture', slack=200)
                self.near(point, way, 'tcpClientNetworkTime', client, 'capture', slack=200)
                self.equal(point, way, 'tcpHandshakeTime',
                           (record.get('tcpServerNetworkTime') or 0) + (
                               record.get('tcpClientNetworkTime') or 0), 'their sum')
        for point in self.before:
            self.least(point, 'ab', 'tcpServerNetworkTime', RTT, 'bump: delay both ways')
        self.least('b', 'ab', 'tcpClientNetworkTime', RTT, 'bump: delay both ways')
        self.everywhere('ab', 'biflowDirection', 1, 'A connects')
        self.everywhere('ba', 'biflowDirection', 2, 'A connects')

    def offers(self):
        mss = (1460, 1440)[self.captures['a'].ip6]
        for way, info in (('ab', self.client), ('ba', self.server)):
            self.everywhere(way, 'tcpMaximumSegmentSize', mss, 'MTU')
            self.everywhere(way, 'tcpWindowScale', info['rcv_wscale'], 'tcpi_rcv_wscale')

    def windows(self):
        for point in self.points:
            for way in ('ab', 'ba'):
                seen = self.captures[point].windows(way)
                for field, value in (('Min', min(seen)), ('Max', max(seen)), ('Last', seen[-1])):
                    self.equal(point, way, 'tcpWindow' + field, value, 'capture')
            self.equal(point, 'ab', 'tcpWindowFulls', self.captures[point].window_fulls('ab'),
                       'tshark window_full, new data')
            self.equal(point, 'ba', 'tcpZeroWindows', self.nstat['b']['TcpExtTCPToZeroWindowAdv'],
                       'TCPToZeroWindowAdv of B')

    def congestion(self):
        prefix = 'IpExt' if not self.captures['a'].ip6 else 'Ip6'
        for point in self.points:
            capture = self.captures[point]
            self.equal(point, 'ab', 'ecnCapablePackets', self.bump['ab']['ect'], 'bump: ECT')
            self.equal(point, 'ab', 'ecnCongestedPackets',
                       self.nstat['b'][prefix + 'InCEPkts'] if point == 'b' else 0,
                       'InCEPkts of B' if point == 'b' else 'nothing marked yet')
            self.equal(point, 'ba', 'tcpEcnEchoPackets', capture.flags('ba', 0x42, 0x40),
                       'capture: ECE')
            self.equal(point, 'ab', 'tcpWindowReducedPackets', capture.flags('ab', 0x82, 0x80),
                       'capture: CWR')
        self.tell('marked', self.nstat['b'][prefix + 'InCEPkts'], 'InCEPkts of B',
                  self.bump['ab']['marked'])

    def everything(self):
        self.packets()
        self.retransmissions()
        self.kinds()
        self.order()
        self.acknowledgements()
        self.handshake()
        self.offers()
        self.windows()
        self.congestion()


def last(count):
    """The numbers of the last segments of a transfer, full ones and the rest."""
    segments = -(-OCTETS // 1448)
    return ','.join(str(segments - i) for i in reversed(range(count)))


ECN_ON = (('net/ipv4/tcp_ecn', 1),)
NO_PROBES = (('net/ipv4/tcp_early_retrans', 0),)
# Copies of what is late or sent again: without an identification (IPv6) they look like that, too.
MIXED = {'drop': 'ab:/50', 'reorder': 'ab:/33', 'duplicate': 'ab:/41'}
TRANSFERS = [
    ('clean', {}, 4, False, {}),
    ('clean', {}, 6, True, {}),
    ('loss of every 50th', {'drop': 'ab:/50'}, 4, False, {}),
    ('loss of every 50th', {'drop': 'ab:/50'}, 6, True, {}),
    ('every 50th 3 ms late', {'reorder': 'ab:/50'}, 4, True, {}),
    ('every 50th 3 ms late', {'reorder': 'ab:/50'}, 6, False, {}),
    ('every 50th twice', {'duplicate': 'ab:/50'}, 4, True, {}),
    ('every 50th twice', {'duplicate': 'ab:/50'}, 6, False, {}),
    ('some lost, late and twice', MIXED, 4, True, {}),
    ('last segment lost', {'tail': 'ab:%d' % OCTETS}, 4, True, {'timers': True}),
    ('last 2 segments lost', {'drop': 'ab:' + last(2)}, 4, True, {'timers': True}),
    ('last 10 lost, no probes', {'drop': 'ab:' + last(10)}, 4, True,
     {'timers': True, 'sysctls': NO_PROBES}),
    ('every 50th marked CE', {'mark': 'ab:/50'}, 4, True, {'sysctls': ECN_ON}),
    ('every 50th marked CE', {'mark': 'ab:/50'}, 6, False, {'sysctls': ECN_ON}),
]


def transfer(case):
    case.round_trips()
    case.everything()


for one in TRANSFERS:
    tap.add_case('%s, IPv%d%s' % (one[0], one[2], ', routed' if one[3] else ''),
                 functools.partial(run, one[0], transfer, *one[1:4], **one[4]),
                 alone=one[0] == 'clean') # its round trips are compared with the socket's


def short(case, scene):
    """A sends a little."""
    with scene.connection() as (client, server):
        send(client, server, 1000)
        case.client, case.server = map(socketinfo.tcp_info, (client, server))


def handshake_lost(option, case):
    """The first SYN or SYN-ACK is lost: who sees which of the others."""
    equal('SYN and SYN-ACK lost', case.bump['ab']['syn_dropped'] + case.bump['ba']['syn_dropped'],
          1)
    for point in case.points:
        capture = case.captures[point]
        for way, flags in (('ab', 2), ('ba', 0x12)):
            case.equal(point, way, 'tcpSynRetransmissions',
                       capture.flags(way, 0x12, flags) - 1, 'capture: SYN or SYN-ACK after one')
    for point in case.before:
        case.equal(point, 'ab', 'tcpSynRetransmissions', case.nstat['a']['TcpExtTCPSynRetrans'],
                   'TCPSynRetrans of A')
        case.equal(point, 'ab', 'tcpRetransmittedPackets', case.nstat['a']['TcpRetransSegs'],
                   'TcpRetransSegs of A')
        if option == 'drop_syn':
            case.least(point, 'ab', 'tcpServerNetworkTime', RTT, 'bump: delay both ways')
        else:
            # B answers the second SYN with the first one's timestamp: nobody can tell them apart.
            case.equal(point, 'ab', 'tcpServerNetworkTime', None, 'Karn')
    for field in ('tcpSynRetransmissions', 'tcpRetransmittedPackets'):
        case.equal('b', 'ba', field, case.nstat['b']['TcpRetransSegs'], 'TcpRetransSegs of B')


def knock(_case, scene):
    with scene.client() as client:
        try:
            client.connect((scene.address['b'], SERVER))
        except ConnectionRefusedError:
            return
    raise Failure('the connection was not refused')


def refused(case):
    for way in ('ab', 'ba'):
        case.everywhere(way, 'tcpRefusedConnections', case.nstat['b']['TcpOutRsts'],
                        'TcpOutRsts of B')
        case.everywhere(way, 'tcpRefusedConnections', case.nstat['a']['TcpAttemptFails'],
                        'TcpAttemptFails of A')


def unread(case, scene):
    """B reads nothing until A was told often enough that its window is closed."""
    with scene.connection(16384) as (client, server):
        sender = threading.Thread(target=client.sendall, args=(bytes(200000),))
        sender.start()
        wait_until(lambda: socketinfo.nstat(scene.spaces['a'])['TcpExtTCPWinProbe'] >= 2, 30,
                   'probes of the window')
        drain(server, 200000)
        sender.join()
        wait_until(lambda: idle(client), 30, 'acknowledgements')
        case.client, case.server = map(socketinfo.tcp_info, (client, server))


def window_closed(case):
    tap.check('the window was closed', case.nstat['b']['TcpExtTCPToZeroWindowAdv'] > 0)
    case.everything()


def dialogue(case, scene):
    """A asks five times; B answers each after 30, 40, ... ms, and measures how long it took."""
    case.took = []
    with scene.connection() as (client, server):
        for i in range(5):
            client.sendall(bytes(300))
            drain(server, 300)
            start = time.monotonic()
            time.sleep(0.03 + i / 100)
            case.took.append(1e6 * (time.monotonic() - start))
            server.sendall(bytes(500))
            drain(client, 500)
        wait_until(lambda: idle(server), 30, 'acknowledgements')


def application(case):
    """From question to answer: on the server its own time, elsewhere the way there and back too."""
    for point in case.points:
        seen, asked = [], None
        for packet in case.captures[point].in_order:
            if packet['tcp.len'] == '0':
                continue
            now = 1e6 * float(packet['frame.time_epoch'])
            if Analysis.way(packet) == 'ba':
                seen.append(now - asked)
            asked = now
        case.equal(point, 'ba', 'applicationLatencySamples', len(case.took), 'answers of B')
        case.near(point, 'ba', 'applicationLatencyMean', round(statistics.mean(seen)), 'capture')
        case.near(point, 'ba', 'applicationLatencyMax', round(max(seen)), 'capture')
        way = 0 if point == 'b' else RTT
        case.least(point, 'ba', 'applicationLatencyMean', int(statistics.mean(case.took)) + way,
                   'clock of B' + (', bump: delay both ways' if way else ''))


def uneven(case, scene):
    """Small segments 10 and 20 ms apart in turn, the handshake's included: whichever are timed, it
    is the same figure. And half a second of silence."""
    count = 150
    with scene.connection() as (client, server):
        client.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        # B accepts 5 ms after A's last acknowledgement of the handshake.
        time.sleep(0.005)
        for i in range(count):
            time.sleep(0.01 if i % 2 or not i else 0.02)
            client.sendall(bytes(100))
        time.sleep(0.5)
        client.sendall(bytes(100))
        drain(server, 100 * count + 100)
        wait_until(lambda: idle(client), 30, 'acknowledgements')


def intervals(case):
    """The jitter is that of the first packets: all of a flow as short as this that are timed."""
    for point in case.points:
        times = [1e6 * float(packet['frame.time_epoch']) for packet in
                 case.captures[point].packets['ab'][1:]]
        gaps = [b - a for a, b in zip(times, times[1:])]
        steps = [abs(b - a) for a, b in zip(gaps, gaps[1:])]
        case.near(point, 'ab', 'interArrivalJitter', round(statistics.mean(steps[:PACED - 2])),
                  'capture: the same packets', slack=200)
        case.near(point, 'ab', 'longestIdleGap', round(max(gaps) / 1000), 'capture', slack=10)


SYN_LOST, SYN_ACK_LOST = ({option: True} for option in ('drop_syn', 'drop_synack'))
SHORT = {'traffic': short, 'timers': True}
OTHERS = [
    ('first SYN lost', handshake_lost, SYN_LOST, (4, 6), SHORT),
    ('first SYN-ACK lost', handshake_lost, SYN_ACK_LOST, (4,), SHORT),
    ('connection refused', refused, {}, (4, 6), {'traffic': knock}),
    # What is larger than the window may have to wait for a timeout.
    ('receiver does not read', window_closed, {}, (4, 6), {'traffic': unread, 'timers': True}),
    ('questions and answers', application, {}, (4, 6), {'traffic': dialogue}),
    ('uneven intervals', intervals, {}, (4,), {'traffic': uneven}),
]
for title, compare_, script_, families, more_ in OTHERS:
    if compare_ is handshake_lost:
        compare_ = functools.partial(handshake_lost, *script_)
    for number in families:
        tap.add_case('%s, IPv%d' % (title, number),
                     functools.partial(run, title, compare_, script_, number, True, **more_))


# The same in every case: printed for the first one.
ONCE = {'packetDeltaCount', 'tcpMaximumSegmentSize', 'tcpWindowScale', 'biflowDirection',
        'tcpServerNetworkTime', 'tcpClientNetworkTime', 'tcpHandshakeTime', 'tcpWindowMin',
        'tcpWindowMax', 'tcpWindowLast', 'tcpRetransmissionSource', 'rttSamples', 'rttMin'}
TIMES = {'rttMean', 'rttMin', 'tcpServerNetworkTime', 'tcpClientNetworkTime'}


def telling(field, truth):
    """Whether a comparison is one for the table: nothing that is 0, no bound, no time that is only
    that between two hooks of one host."""
    return truth and not isinstance(truth, str) and not (field in TIMES and truth < 1000)


def print_table():
    """Observers that agree share a row; of IPv4 and IPv6 the one that came first is printed, unless
    the other is wrong."""
    rows, first_case, first_family = {}, {}, {}
    for case, where, way, field, truth, source, seen, good in table:
        name = case.split(', IPv')[0]
        first = first_case.setdefault((field, source), case)
        again = first_family.setdefault((name, way, field, source), case) != case
        if good and (again or where == 'X' or not telling(field, truth) or (
                case != first and {field, source} & (ONCE | {'capture'}))):
            continue
        error = '0' if seen == truth else 'wrong' if not (seen and isinstance(truth, int)) else (
            '%.1f %%' % (100 * abs(seen - truth) / max(truth, 1)) + ('' if good else ', wrong'))
        rows.setdefault((case, way, field, truth, source, seen, error), []).append(where)
    print('| case | of | field | truth | by | at | flowmond | error |')
    print('|---|---|---|---|---|---|---|---|')
    for (case, way, field, truth, source, seen, error), points in rows.items():
        print('| %s |' % ' | '.join(map(str, (case, way[0].upper(), field, truth, source,
                                              ', '.join(points), seen, error))))
    print('\n%d comparisons, %d of them with a truth of 0 or absent; %d wrong.' % (
        len(table), sum(row[4] in (0, None) for row in table),
        sum(not row[-1] for row in table)))


def main():
    wanted = '--table' in sys.argv
    if wanted:
        sys.argv.remove('--table')
    tap.require_root()
    try:
        # A case leaves four fifths of two processors idle; an emulated one is slow enough.
        tap.main(beside=1 if wanted or PATIENCE > 1 else min(2, os.cpu_count()))
    finally:
        if wanted:
            print_table()


if __name__ == '__main__':
    main()
