#!/usr/bin/python3
# SPDX-License-Identifier: Apache-2.0
"""Collectors that are down, refuse, reset, never read or come back: the daemon goes on, answers and
stops in time; what was not sent is counted, and handed over + not sent = exported."""
import socket
import struct
import threading
import time

from lib import tap
from lib.collect import Nfcapd, TcpListener, account, json_flow
from lib.daemon import Flowmond
from lib.machine import KEEPS_FREED, again
from lib.net import Lab, couple, wait_until
from lib.packets import UDP, Account, ip4, udp
from lib.tap import case, check, equal
from lib.traffic import Injector, ping

QUICK = {'idle_timeout': '200ms', 'sweep_interval': '50ms'}


def pair(lab):
    a, m = lab.ns('a'), lab.ns('m')
    couple(lab, a, 'a0', m, 'm0', 1)
    return a, m


def flood(namespace, account, flows, base=0):
    """One packet each of so many flows."""
    inject = Injector(namespace, 'a0', 'm0', account)
    for number in range(base, base + flows):
        src = '10.8.%d.%d' % (number >> 8 & 255, number & 255)
        inject.send(ip4(src, '10.7.0.1', UDP, udp(1000, 9, bytes(20))),
                    (src, '10.7.0.1', 1000, 9, UDP))
    inject.close()


def sink_of(daemon, name='main'):
    """The status entry of a collector."""
    for sink in daemon.status()['sinks']:
        if name in sink['name']:
            return sink
    raise KeyError(name)


def connected(namespace, port):
    """Whether a TCP connection to this port stands."""
    return any(words[2].endswith(':%04X' % port) and words[3] == '01'
               for words in namespace.sockets('tcp', port))


def books_balance(daemon, given):
    """Records handed on, waiting and given up are all that were given to the collector."""
    def balanced():
        sink = sink_of(daemon)
        return sink['records'] + sink['not_sent_records'] == given
    wait_until(balanced, 10, 'records + not sent records = %d: %s' % (given, sink_of(daemon)))
    return sink_of(daemon)


def prompt(daemon):
    """The daemon answers, whatever its collectors do: what blocks it does so for minutes."""
    started = time.monotonic()
    daemon.status()
    check('answers within 10 s', time.monotonic() - started < 10, time.monotonic() - started)


@case('UDP collector down at start: no error for the daemon; up later it gets templates and data')
def udp_down():
    with Lab('udpdown') as lab:
        a, m = pair(lab)
        daemon = Flowmond(m, {'flows': QUICK, 'json': {'file': lab.path('flowmond.json')},
                              'collector main': {'address': '127.0.0.1:9995',
                                                 'template_interval': '1s'}})
        before, later = Account(), Account()
        ping(before, a, '10.1.0.1', '10.1.0.2', 3)
        wait_until(lambda: len(daemon.json_records()) == 2, 10, 'flows')
        prompt(daemon)
        collector = Nfcapd(m, 9995)
        time.sleep(1.2)
        ping(later, a, 'fd00:1::1', 'fd00:1::2', 3)
        wait_until(lambda: len(daemon.json_records()) == 4, 10, 'flows')
        daemon.stop()
        equal('what came after the collector was up', account(collector.stop()).flows, later.flows)


@case('TCP collector down at start and refusing: not sent is counted, all of it')
def tcp_refused():
    with Lab('refused') as lab:
        a, m = pair(lab)
        daemon = Flowmond(m, {'flows': QUICK, 'json': {'file': lab.path('flowmond.json')},
                              'collector main': {'address': '127.0.0.1:4739',
                                                 'transport': 'tcp'}})
        sent = Account()
        flood(a, sent, 2000)
        wait_until(lambda: len(daemon.json_records()) == 2000, 20, 'flows')
        prompt(daemon)
        sink = sink_of(daemon)
        check('nothing counts as sent', sink['records'] == 0, sink)
        started = time.monotonic()
        log = daemon.stop()
        check('stops within 10 s', time.monotonic() - started < 10)
        check('the end names what was not sent: 2000 records', '2000' in log, log[-1500:])


@case('TCP collector comes up late: templates first, then data')
def tcp_late():
    with Lab('late') as lab:
        a, m = pair(lab)
        daemon = Flowmond(m, {'flows': QUICK, 'json': {'file': lab.path('flowmond.json')},
                              'collector main': {'address': '127.0.0.1:4739',
                                                 'transport': 'tcp',
                                                 'reconnect_interval': '500ms'}})
        time.sleep(0.5)
        listener = TcpListener(m, 4739, '127.0.0.1')
        wait_until(lambda: connected(m, 4739), 100, 'the connection')
        sent = Account()
        flood(a, sent, 300)
        wait_until(lambda: len(daemon.json_records()) == 300, 20, 'flows')
        daemon.stop()
        equal('flows', account(listener.stop()).flows, sent.flows)


class Peer(threading.Thread):
    """A TCP server that misbehaves: what it does with a connection is given as a function."""

    def __init__(self, namespace, port, behave):
        super().__init__(daemon=True)
        self.listener = namespace.socket(socket.AF_INET, socket.SOCK_STREAM)
        self.listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        self.listener.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        self.listener.bind(('127.0.0.1', port))
        self.listener.listen(5)
        self.behave, self.accepted, self.held = behave, 0, []
        self.start()

    def run(self):
        while True:
            try:
                connection = self.listener.accept()[0]
            except OSError:
                return
            self.accepted += 1
            self.held.append(connection)
            self.behave(connection)

    def close(self):
        self.listener.close()
        for connection in self.held:
            connection.close()


def reset(connection):
    connection.recv(100)
    connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack('ii', 1, 0))
    connection.close()


@case('TCP collector resets every connection: the daemon goes on, nothing is unaccounted for')
def resets():
    with Lab('reset') as lab:
        a, m = pair(lab)
        peer = Peer(m, 4739, reset)
        daemon = Flowmond(m, {'flows': QUICK, 'json': {'file': lab.path('flowmond.json')},
                              'collector main': {'address': '127.0.0.1:4739',
                                                 'transport': 'tcp'}})
        sent = Account()
        for turn in range(5):
            flood(a, sent, 400, 400 * turn)
            wait_until(lambda: len(daemon.json_records()) == 400 * (turn + 1), 20, 'flows')
            prompt(daemon)
        check('it was tried', peer.accepted >= 1, peer.accepted)
        daemon.stop()
        peer.close()
        equal('json is whole', account(map(json_flow, daemon.json_records())).flows, sent.flows)


@case('TCP collector accepts and never reads: bounded, prompt, counted')
def never_reads():
    with Lab('stall') as lab:
        a, m = pair(lab)
        peer = Peer(m, 4739, lambda connection: None)
        daemon = Flowmond(m, {'flows': dict(QUICK, max='65536'),
                              'json': {'file': lab.path('flowmond.json')},
                              'collector main': {'address': '127.0.0.1:4739', 'rate': '0',
                                                 'transport': 'tcp'}})
        sent = Account()
        turn = 0
        while turn < 40 and not sink_of(daemon)['not_sent_records']:
            flood(a, sent, 5000, 5000 * turn)
            turn += 1
            wait_until(lambda: len(daemon.json_records()) == 5000 * turn, 30, 'flows')
            prompt(daemon)
        check('records that found no room are counted', sink_of(daemon)['not_sent_records'])
        with open('/proc/%d/status' % daemon.process.pid, encoding='ascii') as file:
            resident = int([line for line in file if line.startswith('VmRSS')][0].split()[1])
        check('memory is bounded: %d kB' % resident, KEEPS_FREED or resident < 300 * 1024)
        started = time.monotonic()
        log = daemon.stop()
        check('stops within 10 s', time.monotonic() - started < 10)
        peer.close()
        check('the end names what was not sent', 'not sent' in log.lower(), log[-1500:])


@case('TCP collector ends and comes back: templates again, flows of the new session are whole')
def comes_back():
    with Lab('back') as lab:
        a, m = pair(lab)
        first = TcpListener(m, 4739, '127.0.0.1')
        daemon = Flowmond(m, {'flows': QUICK, 'json': {'file': lab.path('flowmond.json')},
                              'collector main': {'address': '127.0.0.1:4739',
                                                 'transport': 'tcp',
                                                 'reconnect_interval': '500ms'}})
        one, two = Account(), Account()
        flood(a, one, 100)
        wait_until(lambda: len(daemon.json_records()) == 100, 10, 'flows')
        wait_until(lambda: sink_of(daemon)['records'] == 100, 100, 'flows to be sent')
        seen = account(first.stop()).flows
        equal('first session', seen, one.flows)
        second = TcpListener(m, 4739, '127.0.0.1')
        wait_until(lambda: connected(m, 4739), 100, 'the connection')
        time.sleep(0.2)
        flood(a, two, 100, 1000)
        wait_until(lambda: len(daemon.json_records()) == 200, 10, 'flows')
        daemon.stop()
        equal('second session', account(second.stop()).flows, two.flows)


@case('two collectors, one of them dead: the other misses nothing')
def one_dead():
    with Lab('onedead') as lab:
        a, m = pair(lab)
        collector = Nfcapd(m, 9995)
        daemon = Flowmond(m, {'json': {'file': lab.path('flowmond.json')},
                              'collector dead': {'address': '127.0.0.1:4739', 'transport': 'tcp'},
                              'collector main': {'address': collector.address()}})
        sent = Account()
        flood(a, sent, 3000)
        daemon.stop()
        records = collector.stop()
        equal('flows', account(records).flows, sent.flows)
        equal('sequence errors, bad packets', collector.sequence_errors(), [0, 0])


@case('handed over and not sent add up, and nfcapd has what counts as sent')
@again
def balance():
    with Lab('books') as lab:
        a, m = pair(lab)
        collector = Nfcapd(m, 9995)
        daemon = Flowmond(m, {'flows': QUICK, 'json': {'file': lab.path('flowmond.json')},
                              'collector main': {'address': collector.address(),
                                                 'template_interval': '1s'}})
        sent = Account()
        flood(a, sent, 5000)
        wait_until(lambda: len(daemon.json_records()) == 5000, 20, 'flows')
        sink = books_balance(daemon, 5000)
        equal('not sent', sink['not_sent_records'], 0)
        daemon.stop()
        equal('flows', account(collector.stop()).flows, sent.flows)


@case('options records: nfdump and tshark see interface names and exporter statistics')
def options_records():
    from lib.truth import Capture, tshark
    with Lab('options') as lab:
        a, m = pair(lab)
        collector = Nfcapd(m, 9995)
        capture = Capture(m, 'lo')
        daemon = Flowmond(m, {'collector main': {'address': collector.address()}})
        ping(Account(), a, '10.1.0.1', '10.1.0.2', 1)
        time.sleep(3)  # they wait until interfaces that come together have come
        daemon.stop()
        collector.stop()
        names, observed = set(), []
        for row in tshark(capture.stop(), ['cflow.if_name', 'cflow.if_descr', 'cflow.flows'], '-d',
                          'udp.port==9995,cflow'):
            names.update(row['cflow.if_name'] + row['cflow.if_descr'])
            observed += row['cflow.flows']
        check('interface names', 'm0' in names, names)
        check('observed flows', '2' in observed, observed)
        equal('sequence errors, bad packets', collector.sequence_errors(), [0, 0])


if __name__ == '__main__':
    tap.require_root()
    tap.main()
