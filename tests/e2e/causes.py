#!/usr/bin/python3
# SPDX-License-Identifier: Apache-2.0
"""Every cause by which records are not sent, provoked: records, packets and octets stand under that
cause and no other, all of them, in JSON, for people, for Prometheus, in the log's last word and, where
it comes back, at the collector."""
import os
import re
import shutil
import socket

from lib import tap
from lib.daemon import Flowmond
from lib.faults import Fault
from lib.ipfix import Messages, number_of
from lib.net import Lab, couple, wait_until
from lib.packets import UDP, Account, ip4, udp
from lib.tap import case, check, equal
from lib.traffic import Injector

QUICK = {'idle_timeout': '200ms', 'sweep_interval': '50ms', 'max': '65536'}
UNITS = ('records', 'packets', 'octets')
PORT = 9995
PEN = 32473
CAUSE, CLASS, PACKETS, OCTETS, RECORDS = 220, 221, 222, 223, 224


class Site:
    """A sender and a daemon whose one sink of a name is looked at."""

    def __init__(self, lab, sink, settings, before=None):
        self.lab, self.sink, self.account = lab, sink, Account()
        self.a, self.m = lab.ns('a'), lab.ns('m')
        couple(lab, self.a, 'a0', self.m, 'm0', 1)
        if before:
            before(self)
        self.daemon = Flowmond(self.m, {'flows': QUICK, **settings})
        self.inject = Injector(self.a, 'a0', 'm0', self.account)
        self.sent = 0

    def send(self, flows=300):
        for number in range(self.sent, self.sent + flows):
            src = '10.8.%d.%d' % (number >> 8 & 255, number & 255)
            self.inject.send(ip4(src, '10.7.0.1', UDP, udp(1000, 9, bytes(20 + number % 50))),
                             (src, '10.7.0.1', 1000, 9, UDP))
        self.sent += flows
        wait_until(lambda: self.daemon.status()['records'] >= self.sent, 30, 'records')

    def stats(self):
        return [sink for sink in self.daemon.status()['sinks'] if self.sink in sink['name']][0]

    def settled(self, waiting=0):
        """The figures, when the sink has nothing left to say of what it was given."""
        def over():
            stats = self.stats()
            return stats['waiting_messages'] <= waiting and (
                stats['records'] + stats['not_sent_records'] == self.sent) and stats
        return wait_until(over, 30, 'the end of all records: %s' % self.stats())

    def given(self):
        return [self.sent, self.account.packets(), self.account.octets()]


def rows(stats):
    """{cause: figures} of those that are not 0."""
    return {cause: [row[unit] for unit in UNITS] for cause, row in stats['not_sent'].items()
            if row['records']}


def everywhere(site, stats, causes):
    """The figures under these causes add up, and are the same in all forms."""
    seen = rows(stats)
    equal('causes', sorted(seen), sorted(causes))
    equal('sum over causes', [sum(column) for column in zip(*seen.values())],
          [stats['not_sent_' + unit] for unit in UNITS])
    equal('sent and not sent', [stats[unit] + stats['not_sent_' + unit] for unit in UNITS],
          site.given())
    text, metrics = (site.daemon.ctl(what).stdout for what in ('status', 'metrics'))
    for cause, figures in seen.items():
        line = re.search(r'^    %s +(\d+) +(\d+) +(\d+)  \S' % cause, text, re.M)
        equal('status: ' + cause, line and [int(word) for word in line.groups()], figures)
    for unit, column in zip(UNITS, range(3)):
        found = re.findall(r'^flowmond_collector_not_sent_by_cause_%s_total\{collector="([^"]*)",'
                           r'cause="(\w+)"\} (\d+)$' % unit, metrics, re.M)
        equal('metrics: ' + unit, {cause: int(value) for name, cause, value in found
                                   if site.sink in name and int(value)},
              {cause: figures[column] for cause, figures in seen.items()})


def provoke(sink, settings, *causes, before=None, flows=300):
    with Lab('causes') as lab:
        site = Site(lab, sink, settings, before)
        site.send(flows)
        everywhere(site, site.settled(), causes)
        site.daemon.stop()


def collector(**more):
    return {'collector main': dict({'address': '127.0.0.1:%d' % PORT}, **more)}


tap.add_case('not_written: the file takes nothing', provoke, 'json',
             {'json': {'file': '/dev/full'}}, 'not_written')


@case('not_written: IPFIX files, on a disk that is full')
def not_written():
    with Lab('causes') as lab:
        directory = lab.path('files')
        os.mkdir(directory)

        def small(site):
            site.m.run('mount', '-t', 'tmpfs', '-o', 'size=16k', 'tmpfs', directory)
            lab.closing.append(lambda: site.m.run('umount', directory))
        site = Site(lab, 'ipfix_file', {'ipfix_file': {'directory': directory}}, small)
        site.send(3000)
        everywhere(site, site.settled(), ['not_written'])
        site.daemon.stop()


@case('unreachable: there is no route, as the socket is opened')
def unreachable():
    provoke('main', collector(address='203.0.113.1:%d' % PORT), 'unreachable')


@case('refused: the system does not let them out')
def refused():
    def forbid(site):
        site.m.run('nft', 'add table ip t; add chain ip t o { type filter hook output priority 0; }; '
                   'add rule ip t o udp dport %d drop' % PORT)
    provoke('main', collector(), 'refused', before=forbid)


@case('queue_full: a reader that does not read')
def queue_full():
    with Lab('causes') as lab:
        path = lab.path('pipe')
        os.mkfifo(path)
        reader = os.open(path, os.O_RDONLY | os.O_NONBLOCK)
        site = Site(lab, 'json', {'json': {'file': path}})
        wait_until(lambda: site.send(1000) or site.stats()['not_sent_records'], 60, 'a full queue')
        stats = site.stats()
        equal('cause', sorted(rows(stats)), ['queue_full'])
        # What waits is sent when it reads.
        os.set_blocking(reader, True)
        taken = 0

        def drained():
            nonlocal taken
            taken += os.read(reader, 1 << 20).count(b'\n')
            return site.stats()['waiting_messages'] == 0
        wait_until(drained, 30, 'an empty queue')
        everywhere(site, site.settled(), ['queue_full'])
        site.daemon.stop()
        os.close(reader)
        check('some were read', taken > 1000, taken)


@case('too_long: EMSGSIZE; those that are short enough go')
def too_long():
    with Lab('causes') as lab:
        receivers = []

        def receive(site):
            receivers.append(site.m.socket(socket.AF_INET, socket.SOCK_DGRAM))
            receivers[0].bind(('127.0.0.1', PORT))
        site = Site(lab, 'main', collector(), receive)
        # After the templates: what follows templates that did not go is given up with them.
        wait_until(lambda: site.stats()['messages'] >= 5, 20, 'templates')
        with Fault(site.daemon, 'sendmmsg:error=EMSGSIZE:when=1..2') as fault:
            site.send()
            fault.wait(2)
        site.send()
        # The last datagram may still be answered.
        stats = wait_until(lambda: site.stats()['waiting_messages'] <= 1 and site.stats(), 20, 'all')
        check('some did not go', list(rows(stats)) == ['too_long'], rows(stats))
        log = site.daemon.stop()
        equal('log', re.findall(r'(\d+) records .* not sent in all: (.*)', log),
              [(str(stats['not_sent_records']), 'too_long %d' % stats['not_sent_records'])])
        receivers[0].close()


@case('stopped: what still waits at the end; the log has the causes')
def stopped():
    with Lab('causes') as lab:
        site = Site(lab, 'main', collector(transport='tcp'))
        site.send()
        equal('nothing is given up before', rows(site.stats()), {})
        log = site.daemon.stop()
        equal('log', re.findall(r'(\d+) records \((\d+) packets, (\d+) octets\) not sent in all: '
                                r'(.*)', log), [tuple(map(str, site.given())) + ('stopped 300',)])


@case('disconnected: no address yet, and no room on disk to wait')
def disconnected():
    with Lab('causes') as lab:
        directory = lab.path('spool')
        os.mkdir(directory)

        def small(site):
            site.m.run('mount', '-t', 'tmpfs', '-o', 'size=4k', 'tmpfs', directory)
            lab.closing.append(lambda: site.m.run('umount', directory))
        site = Site(lab, 'main', {'spool': {'directory': directory}, **collector(
            address='no-such-name.invalid:%d' % PORT, transport='tcp')}, small)
        wait_until(lambda: site.send(300) or site.stats()['not_sent_records'], 60, 'no room')
        equal('cause', sorted(rows(site.stats())), ['disconnected'])
        site.daemon.stop()


@case('spool_full and spool_lost: dropped from disk; taken away from it')
def spool():
    with Lab('causes') as lab:
        directory = lab.path('spool')
        site = Site(lab, 'main', {'spool': {'directory': directory, 'max_octets': '256K',
                                            'file_octets': '64K'}, **collector(transport='tcp')})

        def dropped(cause):
            site.send(1000)
            return rows(site.stats()).get(cause)
        wait_until(lambda: dropped('spool_full'), 60, 'drops')
        equal('causes', sorted(rows(site.stats())), ['spool_full'])
        shutil.rmtree(os.path.join(directory, 'main'))
        wait_until(lambda: dropped('spool_lost'), 60, 'the loss to be seen')
        stats = site.stats()
        seen = rows(stats)
        equal('causes', sorted(seen), ['spool_full', 'spool_lost'])
        equal('dropped in all', [sum(column) for column in zip(*seen.values())],
              [stats['spool_dropped_' + unit] for unit in UNITS])
        equal('not sent', [stats['not_sent_' + unit] for unit in UNITS],
              [stats['spool_dropped_' + unit] for unit in UNITS])
        site.daemon.stop()


@case('unreachable: nobody listens; the collector is told when it does')
def told():
    with Lab('causes') as lab:
        site = Site(lab, 'main', {'audit': {'interval': '1s'},
                                  **collector(profile='full', options_interval='1s')})
        # The last datagram counts as sent until its answer: templates are what is asked with.
        site.send()
        stats = site.settled(waiting=1)
        check('all but what went before an answer', stats['not_sent_records'] > 0, stats)
        everywhere(site, stats, ['unreachable'])
        wait_until(lambda: site.stats()['not_sent_audits'], 20, 'audits that nobody gets')
        messages = Messages()
        with site.m.socket(socket.AF_INET, socket.SOCK_DGRAM) as receiver:
            receiver.bind(('127.0.0.1', PORT))
            receiver.settimeout(20)

            def causes():
                messages.read(receiver.recv(65535))
                return {record[PEN, CAUSE].rstrip(b'\0').decode(): [
                    number_of(record, element, PEN) for element in (RECORDS, PACKETS, OCTETS)]
                    for record in messages.options if (PEN, CAUSE) in record and
                    record[PEN, CLASS].rstrip(b'\0') in (b'NOT_SENT', b'NOT_TOLD')}
            wait_until(lambda: len(causes()) == len(stats['not_sent']) + 2, 30, 'all causes')
            stats = site.stats()
            wanted = {cause: [row[unit] for unit in UNITS]
                      for cause, row in stats['not_sent'].items()}
            wanted['audits'] = [stats['not_sent_audits'], 0, 0]
            wanted['options'] = [stats['untold_options'], 0, 0]
            # Until the next of its kind comes.
            wait_until(lambda: causes() == wanted, 10, 'the figures of now: %s' % wanted)
        site.daemon.stop()


if __name__ == '__main__':
    tap.require_root()
    tap.main()
