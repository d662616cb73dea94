#!/usr/bin/python3
# SPDX-License-Identifier: Apache-2.0
"""Floods of flows that never come again: long conversations stay exact, what has no place ends in
aggregates, the sum of everything is what was sent, and the daemon's memory stays as it is."""
import collections
import json
import os
import signal

from lib import tap
from lib.collect import Nfcapd, json_flow
from lib.daemon import BUILD, Flowmond
from lib.machine import KEEPS_FREED
from lib.net import Lab, wait_until
from lib.tap import case, check, equal, note

FLOOD = os.path.join(BUILD, 'tests', 'tools', 'flood')
PACKETS = 1000000
TALKS = 100
# The tables are small, and the collector takes less than the flood has flows.
SMALL = {'flows': {'max': '2048', 'flood_timeout': '100ms', 'sweep_interval': '100ms'},
         'capture': {'interfaces': 'd0'}}
LOSSES = ('overflow_lost', 'no_table')


def host(lab):
    """A namespace with a device that takes whatever is sent: it is counted on its way out."""
    h = lab.ns('h')
    lab.veth(h, 'd0', lab.ns('p'), 'p0')
    return h


def flood(namespace, kind, packets=PACKETS, talks=TALKS, moves=0):
    return json.loads(namespace.run(FLOOD, 'd0', packets, kind, talks, moves, seconds=120))


def total(told):
    """Packets and octets of everything that was sent."""
    packets = sum(told['flooded'] + sum(map(sum, told['talks'])) for told in told)
    return [packets, sum(part['octets'] * (part['flooded'] + sum(map(sum, part['talks'])))
                         for part in told)]


def talks(records):
    """{(client's port, back): packets} of the conversations."""
    sums = collections.Counter()
    for record in records:
        src, dst, sport, dport, _ = record['flow']
        if {src, dst} == {'10.0.0.1', '10.0.0.2'}:
            sums[(dport if sport == 443 else sport) - 2000, sport == 443] += record['packets']
    return sums


def told_talks(told):
    sums = collections.Counter()
    for part in told:
        for number, (there, back) in enumerate(part['talks']):
            sums[number, False] += there
            sums[number, True] += back
    return sums


def process(pid):
    """The daemon's memory in KiB and its CPU time in seconds."""
    with open('/proc/%d/status' % pid, encoding='ascii') as file:
        memory = next(int(line.split()[1]) for line in file if line.startswith('RssAnon'))
    with open('/proc/%d/stat' % pid, encoding='ascii') as file:
        fields = file.read().rsplit(')', 1)[1].split()
    return memory, (int(fields[11]) + int(fields[12])) / os.sysconf('SC_CLK_TCK')


def daemon_pid(daemon):
    """Of the daemon itself, below nsenter if that stays."""
    return daemon.process.pid


def lost(status):
    return {name: status['counters'][name]['packets'] for name in LOSSES}


def compare(name, records, told):
    equal(name + ': long conversations', talks(records), told_talks(told))
    equal(name + ': everything, in packets and octets',
          [sum(record[key] for record in records) for key in ('packets', 'octets')], total(told))


@case('a flood beside 100 conversations: those exact, the sum exact, nothing lost, memory flat')
def beside():
    with Lab('flood') as lab:
        h = host(lab)
        collector = Nfcapd(h)
        daemon = Flowmond(h, {**SMALL, 'json': {'file': lab.path('flowmond.json')},
                              'collector main': {'address': collector.address(),
                                                 'rate': '20K'}})
        told = [flood(h, 'mix', 200000)]
        before = process(daemon_pid(daemon))
        told.append(flood(h, 'mix'))
        after = process(daemon_pid(daemon))
        status = daemon.status()
        equal('lost', lost(status), dict.fromkeys(LOSSES, 0))
        check('packets in aggregates', status['counters']['coarse']['packets'] > 0)
        check('memory is flat: KiB', KEEPS_FREED or abs(after[0] - before[0]) <= 512,
              (before[0], after[0]))
        seconds = told[-1]['seconds']
        note('%d new flows a second; the daemon: %d KiB, %d %% of a CPU, %d records' % (
            told[-1]['flooded'] / seconds, after[0], 100 * (after[1] - before[1]) / seconds,
            status['records']))
        log = daemon.stop()
        check('the log says so', 'more flows than the tables have places for' in log, log)
        lines = daemon.json_records()
        compare('json', list(map(json_flow, lines)), told)
        compare('collector', collector.stop(), told)
        aggregated(lines, status['counters']['coarse']['packets'])


@case('conversations that go to other CPUs in a flood: theirs is what is kept of the ring')
def moved():
    with Lab('moved') as lab:
        h = host(lab)
        daemon = Flowmond(h, {**SMALL, 'json': {'file': lab.path('flowmond.json')}})
        told = [flood(h, 'mix', moves=9)]
        status = daemon.status()
        equal('lost', lost(status), dict.fromkeys(LOSSES, 0))
        daemon.stop()
        lines = daemon.json_records()
        records = list(map(json_flow, lines))
        equal('everything, in packets and octets',
              [sum(record[key] for record in records) for key in ('packets', 'octets')],
              total(told))
        own, sent = talks(records), told_talks(told)
        equal('conversations with more than was sent',
              [key for key in own if own[key] > sent[key]], [])
        missing = sum(sent.values()) - sum(own.values())
        note('%d conversations, 9 moves: %d of %d packets are in aggregates, %.1f a direction and '
             'move' % (TALKS, missing, sum(sent.values()), missing / (2 * TALKS * 9)))
        # All of them, unless the daemon does not get to read the ring for many of its intervals.
        check('their packets are in their own records', missing <= sum(sent.values()) / 20,
              (missing, sum(sent.values())))


def aggregated(lines, packets):
    """Records of aggregates say so, and hold exactly what was counted as coarse."""
    kinds = collections.Counter()
    for line in lines:
        kind = line['flowmondFlowAggregation']
        kinds[kind] += line['packetDeltaCount']
        src, dst = line['sourceIPv4Address'], line['destinationIPv4Address']
        if kind:
            equal('reason of an aggregate', line['flowEndReason'], 5)
            check('an aggregate has an address of zero', '0.0.0.0' in (src, dst), line)
        if kind == 1:
            equal('aggregate of the server', [dst, line['destinationTransportPort']],
                  ['192.0.2.5', 80])
        if kind == 2:
            equal('aggregate of the client', [src, line['destinationTransportPort']],
                  ['203.0.113.7', 22])
    equal('packets in aggregates', sum(kinds.values()) - kinds[0], packets)
    check('aggregates of server, client and protocol', kinds[1] and kinds[2] and kinds[4], kinds)


@case('after a flood: the log says it is over, and every new flow has a place')
def afterwards():
    with Lab('after') as lab:
        h = host(lab)
        daemon = Flowmond(h, {**SMALL, 'json': {'file': lab.path('flowmond.json')}})
        # The tables are full before anybody looks: what is in them came when nothing was brief yet.
        wait_until(lambda: daemon.status()['sweeps'] > 1, 20, 'a sweep')
        os.kill(daemon.process.pid, signal.SIGSTOP)
        told = [flood(h, 'syn', 100000)]
        os.kill(daemon.process.pid, signal.SIGCONT)

        # A sweep that began after the flood saw all of it.
        sweeps = daemon.status()['sweeps'] + 2

        def empty():
            status = daemon.status()
            return status['sweeps'] >= sweeps and status['live_slots'] < 4 * TALKS
        wait_until(empty, 20, 'the flood to leave the tables')
        before = daemon.status()['counters']
        told.append(flood(h, 'any', 1000, 0))
        after = daemon.status()['counters']
        for name in ('coarse', 'overflow'):
            equal(name + ' packets', after[name]['packets'], before[name]['packets'])
        wait_until(lambda: 'places for all flows again' in daemon.log(), 30, 'the log')
        daemon.stop()
        compare('json', list(map(json_flow, daemon.json_records())), told)


if __name__ == '__main__':
    tap.require_root()
    tap.main()
