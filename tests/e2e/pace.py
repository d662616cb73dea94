#!/usr/bin/python3
# SPDX-License-Identifier: Apache-2.0
"""Pacing: a table full of flows that all end at once reaches collectors whose socket buffers are what
the system gives, and options records come once an interval, not in a burst of their own."""
import socket
import time

from lib import tap
from lib.collect import Nfcapd
from lib.daemon import Flowmond
from lib.ipfix import Messages, number_of
from lib.machine import again
from lib.net import Lab, couple, wait_until
from lib.tap import case, check, equal

FLOWS = 60000
SIZE = 40
PAIRS, RATE = 40, 40
BURST = 16  # BURST_MIN of sink-collector.c
QUIET_SECONDS = 4


def flood(sender):
    """A datagram for each flow; nobody answers."""
    with sender.socket(socket.AF_INET, socket.SOCK_DGRAM) as out:
        out.bind(('10.1.0.1', 7))
        for flow in range(FLOWS):
            out.sendto(bytes(SIZE), ('10.1.0.2', 1024 + flow))


@case('60,000 flows end at once: nothing overruns nfcapd with its default buffer, IPFIX and v9')
@again
def all_at_once():
    with Lab('pace') as lab:
        a, m = lab.ns('a'), lab.ns('m')
        couple(lab, a, 'a0', m, 'm0', 1)
        m.run('nft', 'table inet mute { chain out { type filter hook output priority 0; policy '
                     'accept; icmp type destination-unreachable drop; }\n}')
        collectors = {'ipfix': Nfcapd(m, 9995, buffer=None), 'v9': Nfcapd(m, 9996, buffer=None)}
        daemon = Flowmond(m, {
            'capture': {'interfaces': 'm0'}, 'flows': {'max': '262144'},
            'collector one': {'address': '127.0.0.1:9995', 'options_interval': '1s'},
            'collector two': {'address': '127.0.0.1:9996', 'protocol': 'v9',
                              'options_interval': '1s'}})
        flood(a)
        wait_until(lambda: daemon.status()['counters']['seen']['packets'] >= FLOWS, 20,
                   'the packets to be counted')
        daemon.stop()
        for name, collector in collectors.items():
            # Raises where the socket dropped a datagram.
            records = [one for one in collector.stop() if one['flow'][2] == 7]
            equal(name + ': flows', len({one['flow'] for one in records}), FLOWS)
            equal(name + ': packets', sum(one['packets'] for one in records), FLOWS)
            equal(name + ': octets', sum(one['octets'] for one in records), FLOWS * (28 + SIZE))
            equal(name + ': sequence errors', sum(collector.sequence_errors()), 0)


@case('names of 80 interfaces, 40 a second: each comes once, one after the other')
def names():
    with Lab('names') as lab:
        m = lab.ns('m')
        for number in range(PAIRS):
            m.ip('link add va%d type veth peer name vb%d' % (number, number))
            m.ip('link set va%d up' % number)
            m.ip('link set vb%d up' % number)
        reader = m.socket(socket.AF_INET, socket.SOCK_DGRAM)
        reader.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 1 << 22)
        reader.bind(('127.0.0.1', 9995))
        reader.settimeout(QUIET_SECONDS)
        daemon = Flowmond(m, {
            'capture': {'interfaces': 'v*'},
            'collector one': {'address': '127.0.0.1:9995', 'rate': str(RATE),
                              'options_interval': '1h'}})
        messages, began, last = Messages(), None, None
        try:
            while True:
                messages.read(reader.recv(65536))
                last = time.monotonic()
                began = began or last
        except TimeoutError:
            pass
        told = [number_of(record, 10) for record in messages.options if (0, 83) in record]
        wanted = [m.ifindex('v%s%d' % (end, number)) for end in 'ab' for number in range(PAIRS)]
        wanted.append(m.ifindex('lo'))
        equal('each interface once', sorted(told), sorted(wanted))
        # Slower is no error; a burst is: so much may come at once, the rest at the rate.
        check('at the rate', last - began >= (2 * PAIRS - BURST) / RATE, last - began)
        daemon.stop()


if __name__ == '__main__':
    tap.require_root()
    tap.main()
