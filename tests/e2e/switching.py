#!/usr/bin/python3
# SPDX-License-Identifier: Apache-2.0
"""Interfaces join and leave what is monitored while packets are forwarded: each packet is counted once,
by a hook that comes or by one that goes. Every step of a case counts what every other step counts, so
the sum is what the far ends received, flow by flow.

FLOWMOND_TEST_TIMES: how often each interface is taken off and on; FLOWMOND_TEST_RATE: crafted packets a
second."""
import os
import random

from lib import tap
from lib.collect import json_flow
from lib.daemon import Flowmond, attached, merge
from lib.load import Load, Network, halves
from lib.net import Lab, address, mac, neighbour, wait_until
from lib.tap import case, check, equal, note

TIMES = int(os.environ.get('FLOWMOND_TEST_TIMES', '20'))
RATE = int(os.environ.get('FLOWMOND_TEST_RATE', '40000'))


class Watch:
    """flowmond under a load of crafted packets; finish() compares."""

    def __init__(self, network, interfaces, **capture):
        self.network, self.capture = network, capture
        self.json = {'json': {'file': network.lab.path('flowmond.json')},
                     'flows': {'max': '65536'}}
        self.daemon = Flowmond(network.r, self.settings(interfaces))
        self.load = Load(network, 7, RATE, tcp=False)
        self.random = random.Random(7)
        self.load.more(1000)

    def settings(self, interfaces):
        return merge(self.json, {'capture': dict(self.capture, interfaces=interfaces)})

    def reload(self, interfaces):
        self.daemon.reload(self.settings(interfaces))

    def some(self):
        """Lets some packets pass: as many as take part of a grace period, or all of a few."""
        self.load.more(self.random.choice((50, 500, 5000)))

    def finish(self, senders=False):
        """senders: interfaces of theirs were hooked, too."""
        truth, crafted = self.load.stop()
        status = self.daemon.status()
        self.daemon.stop()
        note('%d packets, %d flows; again %d' % (truth.packets(), len(truth.flows),
                                                 status['counters']['again']['packets']))
        check('packets passed', truth.packets() > 1000 * TIMES, truth.packets())
        seen = halves(map(json_flow, self.daemon.json_records()))
        sent = {flow: sums[:2] for flow, sums in crafted.items()}
        lost = sum(sums[0] for sums in sent.values()) - truth.packets()
        # A device whose clsact qdisc comes or goes drops what leaves at that moment, behind the hook.
        # Linux 6.1 does not count that: the senders do.
        note('lost on the way: %d' % lost)
        check('no packet came from elsewhere', lost >= 0, lost)
        if status['attach'] != 'clsact' or not lost:
            equal('flows', seen.flows, truth.flows)
        elif senders or any(end.counter(name, 'tx', 'dropped') for end, name in (
                (self.network.a, 'a0'), (self.network.b, 'b0'))):
            # They drop as well, where no hook has seen it.
            figures = {flow: [part.get(flow, (0, 0)) for part in (truth.flows, seen.flows, sent)]
                       for flow in {*sent, *seen.flows}}
            equal('not between what arrived and what was sent', {
                flow: parts for flow, parts in figures.items()
                if not all(a <= b <= c for a, b, c in zip(*parts))}, {})
        else:
            equal('flows', seen.flows, sent)


def by_reload(network, one, other, senders=False, **capture):
    watch = Watch(network, one, **capture)
    for _ in range(TIMES):
        watch.reload(other)
        watch.some()
        watch.reload(one)
        watch.some()
    watch.finish(senders)


def no_renaming():
    """Why an interface that is up cannot get another name here, or None: Linux before 6.2."""
    with Lab('try') as lab:
        namespace = lab.ns('n')
        namespace.ip('link add d0 type veth peer name d1')
        namespace.ip('link set d0 up')
        if namespace.run(*'ip link set d0 name d2'.split(), ok=False):
            return 'this kernel renames no interface that is up'
    return None


def network_case(title, skip=None):
    """A case that gets a network of its own."""
    def register(function):
        def run():
            with Lab('switch') as lab:
                function(Network(lab))
        return case(title, skip)(run)
    return register


def bridge(network):
    """Puts r1 under a bridge that has its addresses."""
    r = network.r
    r.ip('addr flush dev r1')
    r.ip('link add br0 address %s type bridge mcast_snooping 0' % mac('r1'))
    r.sysctl('net/ipv6/conf/br0/addr_gen_mode', 1)
    r.ip('link set r1 master br0')
    r.ip('link set br0 up')
    address(r, 'br0', '10.1.0.2/24', 'fd00:1::2/64')
    neighbour(r, 'br0', mac('a0'), '10.1.0.1', 'fd00:1::1')


@network_case('an interface is taken off and on by reload')
def one_of_two(network):
    by_reload(network, 'r1, r2', 'r2')


@network_case('the same with clsact')
def clsact(network):
    by_reload(network, 'r1, r2', 'r1', attach='clsact')


@network_case('one takes over from the other')
def in_turns(network):
    by_reload(network, 'r1', 'r2')


@network_case('a bridge takes over from its port')
def port_and_bridge(network):
    bridge(network)
    by_reload(network, 'br0, r2', 'r1, r2')


@network_case('the other end of a veth pair, in its namespace')
def other_end(network):
    by_reload(network, 'r1', 'r1, a0@' + network.a.name, senders=True)


@network_case('an interface leaves and comes back by its name, others come and go', no_renaming)
def by_name(network):
    r = network.r
    watch = Watch(network, 'r*')
    for _ in range(TIMES):
        r.ip('link set r1 name x1')
        watch.some()
        r.ip('link add r3 type veth peer name r4')
        r.ip('link set x1 name r1')
        watch.some()
        r.ip('link del r3')
    wait_until(lambda: attached(r, 'r1')[0] == 2, 5, 'r1 to be back')
    watch.finish()


if __name__ == '__main__':
    tap.require_root()
    tap.main()
