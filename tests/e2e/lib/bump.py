# SPDX-License-Identifier: Apache-2.0
"""The bump in the wire (tests/tools/bump.c) between two interfaces of a namespace, its counts and
its log, and the networks it stands in: A - X - B, and A - R - X - B with a router."""
import collections
import csv
import json
import os

from lib.daemon import BUILD
from lib.machine import Disturbed
from lib.net import address, mac, neighbour, wait_until
from lib.tap import equal

BUMP = os.path.join(BUILD, 'tests', 'tools', 'bump')

Event = collections.namedtuple('Event', 'us event way sport dport seq ack flags length ecn number')


class Bump:
    """script: {'delay': ('ab:5000', 'ba:5000'), 'drop': 'ab:/50', 'drop_syn': True}"""

    def __init__(self, namespace, one, other, script):
        self.log_path = namespace.lab.path('bump.csv')
        options = ['--log', self.log_path]
        for name, values in script.items():
            name = '--' + name.replace('_', '-')
            if values is True:
                options.append(name)
                continue
            for value in values if isinstance(values, (list, tuple)) else (values,):
                options += [name, value]
        self.process = namespace.start(BUMP, *options, one, other, log='bump')
        wait_until(lambda: 'ready' in self.process.log(), 10, 'bump')

    def stop(self):
        """Its counts, once everything that was under way has arrived."""
        equal('status of bump', self.process.stop(), 0)
        counts = json.loads(self.process.log().splitlines()[-1])
        equal('frames too long for bump', counts['too_long'], 0)
        if counts['unsent'] or counts['missed']:
            raise Disturbed('bump did not carry %d frames and missed %d' % (
                counts['unsent'], counts['missed']))
        return counts

    def events(self):
        """Each TCP packet when it came ('in', 'drop') and when it went ('out', 'copy')."""
        with open(self.log_path, encoding='ascii') as file:
            rows = csv.reader(file)
            next(rows)
            return [Event(int(row[0]), row[1], row[2], *map(int, row[3:])) for row in rows]


# One way of congestion control on every machine; nothing is remembered from case to case.
HOST = {'net/ipv4/tcp_ecn': 0, 'net/ipv4/tcp_no_metrics_save': 1,
        'net/ipv4/tcp_congestion_control': 'reno'}


def host(lab, label, net, number):
    """A namespace whose addresses are 10.NET.0.NUMBER and fd00:NET::NUMBER."""
    namespace = lab.ns(label)
    for name, value in HOST.items():
        namespace.sysctl(name, value)
    namespace.address = {4: '10.%d.0.%d' % (net, number), 6: 'fd00:%d::%d' % (net, number)}
    return namespace


def meet(one, name, other, peer):
    """Gives both their addresses; they know each other."""
    for here, device, there, remote in ((one, name, other, peer), (other, peer, one, name)):
        address(here, device, here.address[4] + '/24', here.address[6] + '/64')
        neighbour(here, device, mac(remote), there.address[4], there.address[6])


def straight(lab):
    """A - X - B: A and B share a subnet; bump carries between x0 and x1."""
    a, x, b = host(lab, 'a', 1, 1), lab.ns('x'), host(lab, 'b', 1, 2)
    lab.veth(a, 'a0', x, 'x0')
    lab.veth(b, 'b0', x, 'x1')
    meet(a, 'a0', b, 'b0')
    return {'a': a, 'x': x, 'b': b}


def routed(lab):
    """A - R - X - B: R forwards between r0 and r1, and bump is behind it."""
    a, r, x, b = host(lab, 'a', 1, 1), lab.ns('r'), lab.ns('x'), host(lab, 'b', 2, 1)
    lab.veth(a, 'a0', r, 'r0')
    lab.veth(r, 'r1', x, 'x0')
    lab.veth(b, 'b0', x, 'x1')
    r.sysctl('net/ipv4/ip_forward', 1)
    r.sysctl('net/ipv6/conf/all/forwarding', 1)
    for end, name, net, far in ((a, 'a0', 1, 2), (b, 'b0', 2, 1)):
        peer = 'r%d' % (net - 1)
        r.address = {4: '10.%d.0.9' % net, 6: 'fd00:%d::9' % net}
        meet(end, name, r, peer)
        end.ip('route add 10.%d.0.0/24 via %s' % (far, r.address[4]))
        end.ip('route add fd00:%d::/64 via %s' % (far, r.address[6]))
    return {'a': a, 'r': r, 'x': x, 'b': b}
