#!/usr/bin/python3
# SPDX-License-Identifier: Apache-2.0
"""Collectors that are dead, never read, swallow every packet or answer with garbage, all at once: the
sweep and the watchdog go on, the healthy ones get every record, and of the others every record is
handed on or counted. Nothing here measures time: a daemon that waits for one of them never ends a
round."""
import os
import random
import re
import socket
import threading

from lib import tap
from lib.collect import Nfcapd, TcpListener, account, json_flow
from lib.daemon import Flowmond
from lib.net import Lab, couple, wait_until
from lib.packets import UDP, Account, ip4, udp
from lib.tap import case, check, equal
from lib.traffic import Injector

ROUNDS, FLOWS = 8, 400
GARBAGE = 4096
# Nobody says that these packets went nowhere.
HOLE = '''
table inet hole {
	chain in {
		type filter hook input priority 0; policy accept;
		tcp dport 4801 drop
		udp dport 4802 drop
	}
}
'''
BAD = {
    'dead-udp': {'address': '127.0.0.1:4700'},
    'dead-tcp': {'address': '127.0.0.1:4701', 'transport': 'tcp'},
    'stalled': {'address': '127.0.0.1:4710', 'transport': 'tcp', 'message_size': '9000'},
    'hole-tcp': {'address': '127.0.0.1:4801', 'transport': 'tcp'},
    'hole-udp': {'address': '127.0.0.1:4802'},
    'garbage-tcp': {'address': '127.0.0.1:4720', 'transport': 'tcp'},
    'garbage-udp': {'address': '127.0.0.1:4721'},
    'closing': {'address': '127.0.0.1:4730', 'transport': 'tcp'},
}


class Bad(threading.Thread):
    """A peer at a port; behave() is given each TCP connection, or the UDP socket, for good."""

    def __init__(self, namespace, kind, port, behave):
        super().__init__(daemon=True)
        self.socket = namespace.socket(socket.AF_INET, kind)
        self.socket.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        self.socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        self.socket.bind(('127.0.0.1', port))
        self.kind, self.behave, self.times, self.held = kind, behave, 0, []
        if kind == socket.SOCK_STREAM:
            self.socket.listen(5)
        self.start()

    def run(self):
        while True:
            if self.kind == socket.SOCK_DGRAM:
                self.behave(self)
                continue
            connection = self.socket.accept()[0]
            self.times += 1
            self.held.append(connection)
            threading.Thread(target=self.behave, args=(connection,), daemon=True).start()


def never_read(connection):
    """Takes what the socket's buffer takes."""


def garbage(connection):
    """Reads and answers with what is no protocol at all."""
    numbers = random.Random(1)
    try:
        while connection.recv(65536):
            connection.sendall(numbers.randbytes(GARBAGE))
    except OSError:
        pass


def garbage_datagrams(peer):
    data, sender = peer.socket.recvfrom(65536)
    peer.times += 1
    for size in (0, 1, len(data), GARBAGE):
        peer.socket.sendto(os.urandom(size), sender)


def close_at_once(connection):
    connection.close()


def sinks(daemon):
    """{name: figures} of the collectors."""
    return {sink['name'].split()[1]: sink for sink in daemon.status()['sinks']
            if sink['name'].startswith('collector')}


def send(inject, first):
    for number in range(first, first + FLOWS):
        src = '10.8.%d.%d' % (number >> 8 & 255, number & 255)
        inject.send(ip4(src, '10.7.0.1', UDP, udp(1000, 9, bytes(20))),
                    (src, '10.7.0.1', 1000, 9, UDP))


@case('dead, stalled, black-holed and garbage-answering collectors beside two healthy ones')
def all_bad():
    with Lab('hostile') as lab:
        a, m = lab.ns('a'), lab.ns('m')
        couple(lab, a, 'a0', m, 'm0', 1)
        m.run('nft', HOLE)
        bad = {'stalled': Bad(m, socket.SOCK_STREAM, 4710, never_read),
               'garbage-tcp': Bad(m, socket.SOCK_STREAM, 4720, garbage),
               'garbage-udp': Bad(m, socket.SOCK_DGRAM, 4721, garbage_datagrams),
               'closing': Bad(m, socket.SOCK_STREAM, 4730, close_at_once)}
        healthy, listener = Nfcapd(m), TcpListener(m, 4739)
        settings = {'collector ' + name: {'reconnect_interval': '100ms', **keys}
                    for name, keys in BAD.items()}
        daemon = Flowmond(
            m, {'flows': {'idle_timeout': '200ms', 'sweep_interval': '50ms'},
                'json': {'file': lab.path('flowmond.json')},
                'collector zz-udp': {'address': healthy.address()},
                'collector zz-tcp': {'address': listener.address(), 'transport': 'tcp'},
                **settings}, wrapper=('env', 'WATCHDOG_USEC=400000'))
        wait_until(lambda: sinks(daemon)['zz-tcp']['messages'], 30, 'the healthy connection')
        sent = Account()
        inject = Injector(a, 'a0', 'm0', sent)
        for number in range(ROUNDS):
            before = daemon.status()['sweeps'], daemon.notify.count('WATCHDOG=1')
            send(inject, number * FLOWS)

            def everything(given=(number + 1) * FLOWS):
                return sinks(daemon)['zz-tcp']['records'] == given
            wait_until(everything, 60, 'round %d at the healthy collector' % number)
            wait_until(lambda b=before: daemon.status()['sweeps'] >= b[0] + 5, 60, 'sweeps')
            wait_until(lambda b=before: daemon.notify.count('WATCHDOG=1') > b[1], 60, 'watchdog')
        inject.close()
        for name in bad:
            check(name + ' was met', bad[name].times > 0)
        books(daemon, ROUNDS * FLOWS)
        log = daemon.stop()
        for name in ('dead-udp', 'dead-tcp'):
            check(name + ' is named in the log', 'collector %s' % name in log and
                  'Connection refused' in log, log)
        for name in ('dead-tcp', 'hole-tcp'):
            lost = re.findall(r'collector %s .*: (\d+) records .* not sent in all' % name, log)
            equal(name + ': records named as not sent', lost, [str(ROUNDS * FLOWS)])
        equal('tcp collector', account(listener.stop()).flows, sent.flows)
        equal('udp collector', account(healthy.stop()).flows, sent.flows)
        equal('json', account(map(json_flow, daemon.json_records())).flows, sent.flows)


class Slow:
    """Reads so many octets a second, and no more than a little at once."""
    OCTETS, PARTS = 10000, 20

    def __init__(self):
        self.ends = threading.Event()

    def __call__(self, connection):
        try:
            while not self.ends.wait(1 / self.PARTS):
                if not connection.recv(self.OCTETS // self.PARTS):
                    break
        except OSError:
            pass


@case('one that reads 10 kB/s: others wait for it a second and a tenth of the time, no more')
def slow():
    with Lab('slow') as lab:
        a, m = lab.ns('a'), lab.ns('m')
        couple(lab, a, 'a0', m, 'm0', 1)
        m.small_buffers()
        reader = Slow()
        Bad(m, socket.SOCK_STREAM, 4740, reader)
        healthy, listener = Nfcapd(m), TcpListener(m, 4739)
        # Long records, so that the slow one's outbox is full soon.
        daemon = Flowmond(
            m, {'flows': {'idle_timeout': '200ms', 'sweep_interval': '50ms', 'max': '65536'},
                'json': {'file': lab.path('flowmond.json')},
                'collector aa-slow': {'address': '127.0.0.1:4740', 'transport': 'tcp',
                                      'profile': 'full', 'reconnect_interval': '100ms'},
                'collector zz-udp': {'address': healthy.address()},
                'collector zz-tcp': {'address': listener.address(), 'transport': 'tcp'}},
            wrapper=('env', 'WATCHDOG_USEC=400000'))
        wait_until(lambda: sinks(daemon)['zz-tcp']['messages'], 30, 'the healthy connection')
        sent = Account()
        inject = Injector(a, 'a0', 'm0', sent)
        rounds = 0
        while not sinks(daemon)['aa-slow']['not_sent_records']:
            check('it falls behind at last', rounds < 200, sinks(daemon)['aa-slow'])
            before = daemon.status()['sweeps'], daemon.notify.count('WATCHDOG=1')
            send(inject, rounds * FLOWS)
            rounds += 1
            wait_until(lambda given=rounds * FLOWS: sinks(daemon)['zz-tcp']['records'] == given, 60,
                       'round %d at the healthy collector' % rounds)
            wait_until(lambda b=before: daemon.status()['sweeps'] >= b[0] + 2, 60, 'sweeps')
        wait_until(lambda: daemon.notify.count('WATCHDOG=1') > before[1], 60, 'watchdog')
        inject.close()
        status = daemon.status()
        sink = sinks(daemon)['aa-slow']
        check('others waited for it', sink['kept_waiting_ms'] > 0, sink)
        check('a second, and a tenth of the time', sink['kept_waiting_ms'] <=
              1050 + status['uptime_ms'] / 10, (sink, status['uptime_ms']))
        check('it takes some', 0 < sink['records'] < rounds * FLOWS, sink)
        equal('it is named', [sink['stalled'], ': slow: ' in daemon.log()], [1, True])
        reader.ends.set()
        log = daemon.stop()
        lost = re.search(r'collector aa-slow .*: (\d+) records .* not sent in all', log)
        check('and the rest at the end', lost and int(lost.group(1)) >= sink['not_sent_records'])
        tap.note('%d records, waited for %d of %d ms; the slow one took %d' % (
            rounds * FLOWS, sink['kept_waiting_ms'], status['uptime_ms'], sink['records']))
        equal('tcp collector', account(listener.stop()).flows, sent.flows)
        equal('udp collector', account(healthy.stop()).flows, sent.flows)
        equal('json', account(map(json_flow, daemon.json_records())).flows, sent.flows)


def books(daemon, given):
    """Nobody is told to have got more than there was, and nothing is forgotten that was given up."""
    for name, sink in sinks(daemon).items():
        check(name + ': handed on and given up are at most what was given',
              sink['records'] + sink['not_sent_records'] <= given, sink)
    for name in ('dead-tcp', 'hole-tcp'):
        equal(name + ' took nothing', sinks(daemon)[name]['records'], 0)


if __name__ == '__main__':
    tap.require_root()
    tap.main()
