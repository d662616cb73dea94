#!/usr/bin/python3
# SPDX-License-Identifier: Apache-2.0
"""Samplers with the whole daemon: collectors are told before the first record what it is a sample of,
what they make of it matches what was sent within the statistical error, and nothing of it is silent."""
import math
import os
import random
import signal

from lib import tap
from lib.collect import Nfacctd, Nfcapd, TcpListener, account, json_flow, malformed
from lib.daemon import Flowmond, merge
from lib.lives import bpffs
from lib.mixture import pair
from lib.net import Lab, wait_until
from lib.packets import ACK, TCP, UDP, Account, ip4, ip6, tcp, udp
from lib.tap import case, check, equal, note
from lib.traffic import Injector
from lib.truth import Capture

# Of a sum of many independent numbers: so far off is one in 15,000 by chance.
SIGMAS = 4


class Runs:
    """Packets of many flows in random order; a run is a flow, or flows, with a port of its own."""

    def __init__(self, namespace, seed):
        self.random = random.Random(seed)
        self.total = Account()
        self.inject = Injector(namespace, 'a0', 'm0', self.total)

    def packet(self, run, host=1, back=False, protocol=UDP):
        six = run % 2
        ends = ['fd08::%x' % host if six else '10.8.%d.%d' % divmod(host, 250),
                'fd09::2' if six else '192.0.2.2']
        ports = [1024 + host % 50000, 2000 + run]
        if back:
            ends.reverse()
            ports.reverse()
        payload = bytes(self.random.randrange(400))
        packet = (ip6 if six else ip4)(*ends, protocol, udp(*ports, payload) if protocol == UDP
                                       else tcp(*ports, ACK, payload))
        return packet, (*ends, *ports, protocol)

    def send(self, packets):
        """In random order."""
        packets = list(packets)
        self.random.shuffle(packets)
        for packet, flow in packets:
            self.inject.send(packet, flow)

    def close(self):
        self.inject.close()


def scaled(lines):
    """Flows of the daemon's JSON, each multiplied by the interval of its sampler."""
    sums = Account()
    for line in lines:
        record, times = json_flow(line), line.get('samplingInterval', 1)
        sums.add(*record['flow'], record['octets'] * times, record['packets'] * times)
    return sums


def deviation(interval, sizes):
    """Of the sum of interval * size of those that are taken, each with probability 1 / interval."""
    return math.sqrt((interval - 1) * sum(size * size for size in sizes))


def runs_are_fair(found, sent, interval, sizes_of):
    """Estimates by run, which each are off by chance: together they are as far off as chance has it."""
    ratios = []
    for run, sizes in sizes_of.items():
        error = found.get(run, 0) - sent[run]
        ratios.append(error / deviation(interval, sizes))
    n = len(ratios)
    mean = sum(ratios) / n
    spread = math.sqrt(sum(ratio * ratio for ratio in ratios) / n)
    note('%d runs of 1 in %d: mean error %.3f, spread %.3f standard deviations' % (
        n, interval, mean, spread))
    check('mean', abs(mean) < SIGMAS / math.sqrt(n), mean)
    # The spread of n numbers has itself a standard deviation of 1 / sqrt(2 n).
    check('spread', abs(spread - 1) < SIGMAS / math.sqrt(2 * n), spread)


def by_port(flows, kind):
    """Packets (0) or octets (1) of accounts by the port of the run."""
    sums = {}
    for flow, figures in flows.items():
        run = max(flow[2:4]) if min(flow[2:4]) >= 1024 else flow[3]
        sums[run] = sums.get(run, 0) + figures[kind]
    return sums


def told_first(listener):
    """In the order of the stream: no record of a sampler before what it is, and they agree."""
    known, connection = {}, None
    for line in listener.lines():
        if line.get('connection') != connection:
            known, connection = {}, line.get('connection')
        if 'selectorId' in line and 'samplingPacketInterval' in line:
            known[line['selectorId']] = (
                line['samplingPacketInterval'] + line['samplingPacketSpace'],
                line['selectorAlgorithm'])
        elif 'selectorId' in line:
            equal('sampler of a record', known.get(line['selectorId']),
                  (line['samplingInterval'], line['selectorAlgorithm']))


class Site:
    """A daemon with a collector of each kind; all of them scale."""

    def __init__(self, lab, rules):
        self.a, self.m = pair(lab)
        self.dumps = [Nfcapd(self.m, 9995), Nfcapd(self.m, 9994)]
        self.accts = [Nfacctd(self.m, 9996, scales=True), Nfacctd(self.m, 9997, scales=True)]
        self.tcp = TcpListener(self.m)
        self.settings = {
            'capture': {'interfaces': 'm0'}, 'filter': {'rule': rules},
            'json': {'file': lab.path('flowmond.json')},
            'bpf': {'pin': bpffs(lab) + '/flowmond'},
            'collector tcp': {'address': self.tcp.address(), 'transport': 'tcp', 'profile': 'full'}}
        for name, collector, protocol in (
                ('ipfix', self.dumps[0], 'ipfix'), ('v9', self.dumps[1], 'v9'),
                ('acct', self.accts[0], 'ipfix'), ('acct9', self.accts[1], 'v9')):
            self.settings['collector ' + name] = {
                'address': collector.address(), 'protocol': protocol, 'rate': '0'}
        self.daemon = Flowmond(self.m, self.settings)
        self.left = [0, 0]

    def stop(self):
        """Ends all; checks what is true whatever the rules: collectors say what the JSON says."""
        status = self.daemon.status()
        self.left = [status['counters']['not_sampled'][what] for what in ('packets', 'octets')]
        self.daemon.stop()
        lines = self.daemon.json_records()
        self.raw = account(map(json_flow, lines))
        self.scaled = scaled(lines)
        self.lines = lines
        for collector in self.accts:
            equal('nfacctd', account(collector.stop()).flows, self.scaled.flows)
        listened = self.tcp.stop()
        equal('listener', account(listened).flows, self.raw.flows)
        self.told()
        return status

    def told(self):
        told_first(self.tcp)


@case('every N-th packet: nfdump and nfacctd scale to what was sent, IPFIX and NetFlow v9')
def count():
    with Lab('sampling') as lab:
        site = Site(lab, ['sample 1 in 10 packets'])
        runs = Runs(site.a, 1)
        runs.send(runs.packet(run) for run in range(60) for _ in range(300))
        runs.close()
        status = site.stop()
        sent = runs.total
        equal('packets in flows and not sampled', site.raw.packets() + site.left[0],
              sent.packets())
        equal('octets in flows and not sampled', site.raw.octets() + site.left[1], sent.octets())
        equal('by rule', [status['rules'][0][key] for key in (
            'matched_packets', 'matched_octets', 'counted_packets', 'counted_octets')],
              [sent.packets(), sent.octets(), site.raw.packets(), site.raw.octets()])
        # Each CPU counts for itself: of its last N packets it took one or none.
        off = abs(site.scaled.packets() - sent.packets())
        check('off by less than N a CPU', off < 10 * os.cpu_count(), off)
        for collector, name in zip(site.dumps, ('IPFIX', 'v9')):
            equal('nfdump, ' + name, account(collector.stop()).flows, site.scaled.flows)
        equal('algorithms', {(line['selectorAlgorithm'], line['samplingInterval'])
                             for line in site.tcp.lines() if 'protocolIdentifier' in line}, {(1, 10)})


@case('packets at random, over many runs: estimates are as far off as chance has it')
def at_random():
    with Lab('sampling2') as lab:
        site = Site(lab, ['sample 1 in 8 random udp'])
        runs = Runs(site.a, 2)
        packets = [(run, *runs.packet(run)) for run in range(200) for _ in range(200)]
        runs.send(one[1:] for one in packets)
        runs.close()
        site.stop()
        for collector in site.dumps:
            equal('nfdump', account(collector.stop()).flows, site.scaled.flows)
        for kind in (0, 1):
            sizes = {}
            for run, packet, _ in packets:
                sizes.setdefault(2000 + run, []).append(len(packet) if kind else 1)
            runs_are_fair(by_port(site.scaled.flows, kind), by_port(runs.total.flows, kind), 8,
                          sizes)


@case('flows: conversations as a whole, both directions; estimates as far off as chance has it')
def flows():
    with Lab('sampling3') as lab:
        site = Site(lab, ['sample 1 in 5 flows'])
        runs = Runs(site.a, 3)
        packets = [(run, host, *runs.packet(run, host, back))
                   for run in range(100) for host in range(1, 41) for back in (0, 1, 1)]
        runs.send(one[2:] for one in packets)
        runs.close()
        site.stop()
        for collector in site.dumps:
            equal('nfdump', account(collector.stop()).flows, site.scaled.flows)
        equal('flows that were taken are whole', site.raw.flows,
              {flow: runs.total.flows.get(flow) for flow in site.raw.flows})
        ends = {frozenset(((flow[0], flow[2]), (flow[1], flow[3]))) for flow in site.raw.flows}
        equal('both directions', len(site.raw.flows), 2 * len(ends))
        for kind in (0, 1):
            sizes = {}
            for run, host, packet, _ in packets:
                sums = sizes.setdefault(2000 + run, {})
                sums[host] = sums.get(host, 0) + (len(packet) if kind else 1)
            runs_are_fair(by_port(site.scaled.flows, kind), by_port(runs.total.flows, kind), 5,
                          {run: list(sums.values()) for run, sums in sizes.items()})


MIX = ['exclude dst port 2000', 'sample 1 in 4 random interface m* and in and udp and ip6',
       'sample 1 in 10 packets udp']


@case('some sampled, some not: who is told a sampler a record is exact, nobody scales what is whole')
def mixed():
    with Lab('sampling4') as lab:
        site = Site(lab, MIX)
        runs = Runs(site.a, 4)
        runs.send(runs.packet(run, protocol=TCP if run % 3 == 0 else UDP)
                  for run in range(60) for _ in range(150))
        runs.close()
        status = site.stop()
        whole = {flow: sums for flow, sums in runs.total.flows.items()
                 if flow[4] == TCP and flow[3] != 2000}
        equal('not sampled, whole', {flow: site.scaled.flows.get(flow) for flow in whole}, whole)
        equal('filtered', status['counters']['filtered']['packets'],
              by_port(runs.total.flows, 0)[2000])
        by_flow = {tuple(json_flow(line)['flow']): line for line in site.lines}
        for collector in site.dumps:
            for flow, sums in account(collector.stop()).flows.items():
                # nfdump 1.7.1 knows one interval: it takes it for this record, or none.
                check('nfdump', sums in (site.raw.flows[flow], site.scaled.flows[flow]),
                      (flow, sums, site.raw.flows[flow], by_flow[flow].get('samplingInterval')))
                if flow in whole:
                    equal('nfdump, whole', sums, whole[flow])


@case('rates that change by reload, a kill and a handover: records say what they are samples of')
def lives():
    with Lab('sampling5') as lab:
        site = Site(lab, ['sample 1 in 10 packets'])
        runs = Runs(site.a, 5)

        def send():
            runs.send(runs.packet(run) for run in range(40) for _ in range(50))
        send()
        for rules in (['sample 1 in 4 packets udp'], ['sample 1 in 4 packets udp', 'exclude tcp'],
                      ['sample 1 in 3 flows ip6', 'sample 1 in 10 packets'], []):
            site.daemon.reload(merge(site.settings, {'filter': {'rule': rules}}))
            send()
            for end, status in ((signal.SIGKILL, -9), (signal.SIGUSR2, 0)):
                site.daemon.stop(end, status)
                send()  # nobody is there: the programs are
                site.daemon.start()
                site.daemon.wait_ready()
            send()
        runs.close()
        site.stop()
        equal('packets in flows and not sampled', site.raw.packets() + site.left[0],
              runs.total.packets())
        equal('octets in flows and not sampled', site.raw.octets() + site.left[1],
              runs.total.octets())
        equal('intervals', {line.get('samplingInterval') for line in site.lines}, {10, 4, 3, None})


@case('a collector that was away over a kill: what waited on disk comes behind what it is a sample of')
def away():
    with Lab('sampling7') as lab:
        a, m = pair(lab)
        daemon = Flowmond(m, {
            'capture': {'interfaces': 'm0'},
            'flows': {'idle_timeout': '200ms', 'sweep_interval': '50ms'},
            'filter': {'rule': ['sample 1 in 5 packets ip6', 'sample 1 in 3 random']},
            'json': {'file': lab.path('flowmond.json')}, 'bpf': {'pin': bpffs(lab) + '/flowmond'},
            'spool': {'directory': lab.path('spool')},
            'collector main': {'address': '127.0.0.1:4739', 'transport': 'tcp', 'profile': 'full',
                               'reconnect_interval': '100ms'}})

        def waiting():
            return daemon.status()['sinks'][0]['spool_waiting_octets']
        runs, first = Runs(a, 7), TcpListener(m)
        runs.send(runs.packet(run) for run in range(20) for _ in range(40))
        wait_until(lambda: sum('packetDeltaCount' in line for line in first.lines()) >= 20, 20,
                   'records')
        known = first.stop()
        runs.send(runs.packet(run) for run in range(20) for _ in range(40))
        wait_until(lambda: waiting() > 0 and daemon.status()['live_slots'] == 0, 20, 'the spool')
        daemon.stop(signal.SIGKILL, -9)
        daemon.start()
        daemon.wait_ready()
        # One of the samplers has no records any more, but on disk.
        runs.send(runs.packet(run) for run in range(0, 20, 2) for _ in range(40))
        listener = TcpListener(m)
        runs.close()
        wait_until(lambda: not waiting(), 60, 'the spool to be empty')
        status = daemon.status()
        daemon.stop()
        records = account(known + listener.stop())
        told_first(first)
        told_first(listener)
        equal('packets and not sampled', records.packets() +
              status['counters']['not_sampled']['packets'], runs.total.packets())
        equal('as in JSON', records.flows, account(map(json_flow, daemon.json_records())).flows)


@case('messages with samplers have no fault for tshark, and come before what they are about')
def dissected():
    with Lab('sampling6') as lab:
        a, m = pair(lab)
        collectors = [Nfcapd(m, 9995), Nfcapd(m, 9994)]
        capture = Capture(m, 'lo', 'udp')
        daemon = Flowmond(m, {
            'capture': {'interfaces': 'm0'}, 'filter': {'rule': ['sample 1 in 10 random']},
            'collector ipfix': {'address': collectors[0].address(), 'profile': 'full'},
            'collector v9': {'address': collectors[1].address(), 'protocol': 'v9'}})
        runs = Runs(a, 6)
        runs.send(runs.packet(run, protocol=(TCP, UDP)[run % 2]) for run in range(20)
                  for _ in range(50))
        runs.close()
        daemon.stop()
        for collector in collectors:
            collector.stop()
            equal('bad packets', collector.sequence_errors()[1], 0)
        path = capture.stop()
        for port in (9995, 9994):
            bad, found = malformed(path, port)
            equal('what tshark minds', bad, [])
            check('records', found)


if __name__ == '__main__':
    tap.require_root()
    tap.main()
