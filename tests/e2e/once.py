#!/usr/bin/python3
# SPDX-License-Identifier: Apache-2.0
"""Every packet is counted once however many monitored interfaces it crosses, in a record that knows
the interface it came in on and the one it left by."""
import json

from lib import tap
from lib.collect import Nfcapd
from lib.daemon import Flowmond, merge
from lib.net import Lab, address, couple, mac, neighbour
from lib.packets import Account
from lib.tap import case, equal
from lib.traffic import exchange_tcp, ping, send_udp


class Watch:
    """flowmond with nfcapd in a namespace; finish() gives {flow: (in, out, direction, packets,
    octets)} with interface names, and insists on one record a flow."""

    def __init__(self, namespace, settings=None):
        self.namespace = namespace
        self.collector = Nfcapd(namespace)
        self.daemon = Flowmond(namespace, merge(
            {'collector main': {'address': self.collector.address()}}, settings or {}))

    def names(self):
        names = {0: '-'}
        for line in self.namespace.run('ip', '-o', 'link').splitlines():
            number, name = line.split(': ')[:2]
            if number != 'Error':  # ip asks for the namespace of a peer, which may be gone
                names[int(number)] = name.split('@')[0]
        return names

    def finish(self):
        names = self.names()
        self.daemon.stop()
        return [(record['flow'], (names.get(record['in'], record['in']),
                                  names.get(record['out'], record['out']),
                                  'out' if record['direction'] else 'in',
                                  record['packets'], record['octets']))
                for record in self.collector.stop()]


class Expected:
    """What should be seen: the sender's account with the way each direction takes."""

    def __init__(self):
        self.rows = {}

    def add(self, account, ways):
        """ways: source address -> (in, out, 'in' | 'out' as counted)."""
        for flow, (packets, octets) in account.flows.items():
            self.rows[flow] = (*ways[flow[0]], packets, octets)


def exactly(records, expected):
    equal('records', dict(records), expected.rows)
    equal('one record a flow', len(records), len(expected.rows))


def talk(one, one_addresses, other, other_addresses, base):
    """UDP both ways, pings and a fragmented datagram between two hosts, v4 and v6: the account."""
    account = Account()
    for src, dst in zip(one_addresses, other_addresses):
        send_udp(account, one, src, base, other, dst, base + 1, 20, 100)
        send_udp(account, other, dst, base + 1, one, src, base, 10, 900)
        send_udp(account, one, src, base + 2, other, dst, base + 3, 2, 4000)
        ping(account, one, src, dst, 3)
    return account


def ways(there, back, one_addresses, other_addresses):
    return {**{a: there for a in one_addresses}, **{a: back for a in other_addresses}}


def route(namespace, *routes):
    for line in routes:
        namespace.ip('route add ' + line)


def forwarding(namespace):
    namespace.sysctl('net/ipv4/ip_forward', 1)
    namespace.sysctl('net/ipv6/conf/all/forwarding', 1)


def routed(lab, **options):
    """A - R - B with routes; returns the three namespaces."""
    a, r, b = lab.ns('a'), lab.ns('r'), lab.ns('b')
    couple(lab, a, 'a0', r, 'r1', 1, **options)
    couple(lab, b, 'b0', r, 'r2', 2, **options)
    forwarding(r)
    route(a, '10.2.0.0/24 via 10.1.0.2', 'fd00:2::/64 via fd00:1::2')
    route(b, '10.1.0.0/24 via 10.2.0.2', 'fd00:1::/64 via fd00:2::2')
    return a, r, b


A = ('10.1.0.1', 'fd00:1::1')
R1 = ('10.1.0.2', 'fd00:1::2')
B = ('10.2.0.1', 'fd00:2::1')


@case('router watched on both sides: through it and to it')
def router():
    with Lab('router') as lab:
        a, r, b = routed(lab)
        watch, expected = Watch(r), Expected()
        expected.add(talk(a, A, b, B, 4000),
                     ways(('r1', 'r2', 'in'), ('r2', 'r1', 'in'), A, B))
        expected.add(talk(a, A, r, R1, 4100), ways(('r1', '-', 'in'), ('-', 'r1', 'out'), A, R1))
        exactly(watch.finish(), expected)


@case('router: TCP through it, counted once')
def router_tcp():
    with Lab('router') as lab:
        a, r, b = routed(lab)
        watch = Watch(r)
        before = b.counter('b0', 'rx', 'packets'), b.counter('b0', 'tx', 'packets')
        exchange_tcp(a, A[0], 5000, b, B[0], 80, 100000, 300000)
        after = b.counter('b0', 'rx', 'packets'), b.counter('b0', 'tx', 'packets')
        seen = {row[0][0]: row[1][:4] for row in watch.finish()}
        equal('records', seen, {A[0]: ('r1', 'r2', 'in', after[0] - before[0]),
                                B[0]: ('r2', 'r1', 'in', after[1] - before[1])})


@case('router watched on one side only: the other interface is still known')
def router_one_side():
    with Lab('router') as lab:
        a, r, b = routed(lab)
        watch, expected = Watch(r, {'capture': {'interfaces': 'r2'}}), Expected()
        expected.add(talk(a, A, b, B, 4000),
                     ways(('r1', 'r2', 'out'), ('r2', '-', 'in'), A, B))
        talk(a, A, r, R1, 4100)
        exactly(watch.finish(), expected)


@case('packets that leave by the interface they came in on')
def hairpin():
    with Lab('hairpin') as lab:
        a, r = lab.ns('a'), lab.ns('r')
        couple(lab, a, 'a0', r, 'r1', 1)
        forwarding(r)
        for name in ('all', 'r1'):
            r.sysctl('net/ipv4/conf/%s/send_redirects' % name, 0)
        # 10.9.0.1 lies behind A as well: R sends it back where it came from, A takes it.
        address(a, 'lo', '10.9.0.1/32')
        route(a, '10.9.1.0/24 via 10.1.0.2')
        route(r, '10.9.0.0/24 via 10.1.0.1', '10.9.1.0/24 via 10.1.0.1')
        watch, expected = Watch(r), Expected()
        from lib.traffic import Injector
        from lib.packets import UDP, ip4, udp
        account = Account()
        inject = Injector(a, 'a0', 'r1', account)
        for _ in range(7):
            inject.send(ip4('10.9.0.1', '10.9.1.1', UDP, udp(1, 2, bytes(50))),
                        ('10.9.0.1', '10.9.1.1', 1, 2, UDP))
        inject.close()
        expected.add(account, {'10.9.0.1': ('r1', 'r1', 'in')})
        exactly(watch.finish(), expected)


def bridged(lab):
    """A host with a bridge of two containers and an uplink: h, c1, c2, x."""
    h, c1, c2, x = lab.ns('h'), lab.ns('c1'), lab.ns('c2'), lab.ns('x')
    h.ip('link add br0 address %s type bridge mcast_snooping 0' % mac('br0'))
    h.sysctl('net/ipv6/conf/br0/addr_gen_mode', 1)
    for number, (container, port) in enumerate(((c1, 'v1'), (c2, 'v2')), 1):
        lab.veth(container, 'e0', h, port)
        # Both containers call their end e0: give each its own hardware address.
        container.ip('link set e0 address %s' % mac('e0%d' % number))
        h.ip('link set %s master br0' % port)
        address(container, 'e0', '10.5.0.%d/24' % number, 'fd00:5::%d/64' % number)
        neighbour(container, 'e0', mac('br0'), '10.5.0.254', 'fd00:5::fe')
        neighbour(h, 'br0', mac('e0%d' % number), '10.5.0.%d' % number, 'fd00:5::%d' % number)
        route(container, 'default via 10.5.0.254', 'default via fd00:5::fe')
    neighbour(c1, 'e0', mac('e02'), '10.5.0.2', 'fd00:5::2')
    neighbour(c2, 'e0', mac('e01'), '10.5.0.1', 'fd00:5::1')
    h.ip('link set br0 up')
    address(h, 'br0', '10.5.0.254/24', 'fd00:5::fe/64')
    couple(lab, h, 'u0', x, 'x0', 6)
    forwarding(h)
    route(x, '10.5.0.0/24 via 10.6.0.1', 'fd00:5::/64 via fd00:6::1')
    return h, c1, c2, x


C1, C2 = ('10.5.0.1', 'fd00:5::1'), ('10.5.0.2', 'fd00:5::2')
HOST, X = ('10.5.0.254', 'fd00:5::fe'), ('10.6.0.2', 'fd00:6::2')


def learn(one, one_addresses, other_addresses):
    """Lets the bridge learn where everybody is, so that nothing is flooded later."""
    for src, dst in zip(one_addresses, other_addresses):
        one.run('ping', '-n', '-q', '-c', '1', '-I', src, dst)


@case('bridge: containers to each other, to the host, and through it to an uplink')
def bridge():
    with Lab('bridge') as lab:
        h, c1, c2, x = bridged(lab)
        learn(c1, C1, C2)
        learn(c2, C2, C1)
        watch, expected = Watch(h), Expected()
        expected.add(talk(c1, C1, c2, C2, 4000),
                     ways(('v1', 'v2', 'in'), ('v2', 'v1', 'in'), C1, C2))
        expected.add(talk(c1, C1, h, HOST, 4100),
                     ways(('v1', '-', 'in'), ('-', 'v1', 'out'), C1, HOST))
        expected.add(talk(c2, C2, x, X, 4200), ways(('v2', 'u0', 'in'), ('u0', 'v2', 'in'), C2, X))
        expected.add(talk(x, X, c1, C1, 4300), ways(('u0', 'v1', 'in'), ('v1', 'u0', 'in'), X, C1))
        exactly(watch.finish(), expected)


@case('the host behind its own bridge, with its uplink as a port')
def host_behind_bridge():
    with Lab('hostbr') as lab:
        h, x = lab.ns('h'), lab.ns('x')
        h.ip('link add br0 address %s type bridge mcast_snooping 0' % mac('br0'))
        lab.veth(h, 'u0', x, 'x0')
        h.ip('link set u0 master br0')
        h.ip('link set br0 up')
        address(h, 'br0', '10.6.0.1/24', 'fd00:6::1/64')
        address(x, 'x0', '10.6.0.2/24', 'fd00:6::2/64')
        neighbour(h, 'br0', mac('x0'), '10.6.0.2', 'fd00:6::2')
        neighbour(x, 'x0', mac('br0'), '10.6.0.1', 'fd00:6::1')
        watch, expected = Watch(h), Expected()
        here = ('10.6.0.1', 'fd00:6::1')
        expected.add(talk(x, X, h, here, 4000), ways(('u0', '-', 'in'), ('-', 'u0', 'out'), X, here))
        exactly(watch.finish(), expected)


def kind_missing(kind):
    """Why links of this kind cannot be made here, or None."""
    def reason():
        with Lab('try') as lab:
            n = lab.ns('n')
            n.ip('link add base0 type veth peer name base1')
            link = {'macvlan': 'link base0', 'vlan': 'link base0'}.get(kind, '')
            tail = ' id 5' if kind == 'vlan' else ''
            seen = n.run('ip', *('link add %s name try0 type %s%s' % (link, kind, tail)).split(),
                         ok=False)
            return 'this kernel has no %s devices' % kind if 'Unknown device type' in seen \
                or 'not supported' in seen else None
    return reason


@case('macvlan: on the carrier only, in the host and in a container', when=kind_missing('macvlan'))
def macvlan():
    with Lab('macvlan') as lab:
        h, c, x = lab.ns('h'), lab.ns('c'), lab.ns('x')
        lab.veth(h, 'p0', x, 'x0')
        address(x, 'x0', '10.6.0.2/24', 'fd00:6::2/64')
        for number, (namespace, name) in enumerate(((h, 'mv0'), (c, 'mv1')), 11):
            h.ip('link add link p0 name %s address %s type macvlan mode bridge' % (name, mac(name)))
            h.sysctl('net/ipv6/conf/%s/addr_gen_mode' % name, 1)
            if namespace is c:
                h.ip('link set mv1 netns ' + c.name)
                c.sysctl('net/ipv6/conf/mv1/addr_gen_mode', 1)
            namespace.ip('link set %s up' % name)
            v4, v6 = '10.6.0.%d' % number, 'fd00:6::%d' % number
            address(namespace, name, v4 + '/24', v6 + '/64')
            neighbour(namespace, name, mac('x0'), '10.6.0.2', 'fd00:6::2')
            neighbour(x, 'x0', mac(name), v4, v6)
        watch, expected = Watch(h), Expected()
        for namespace, number, base in ((h, 11, 4000), (c, 12, 4100)):
            here = ('10.6.0.%d' % number, 'fd00:6::%d' % number)
            account = talk(namespace, here, x, X, base)
            expected.rows.update({flow: (*(('-', 'p0', 'out') if flow[0] in here else
                                           ('p0', '-', 'in')), *counts)
                                  for flow, counts in account.flows.items()})
        exactly(watch.finish(), expected)


@case('bond: on its ports only, both directions', when=kind_missing('bond'))
def bond():
    with Lab('bond') as lab:
        h, x = lab.ns('h'), lab.ns('x')
        h.ip('link add bond0 type bond mode active-backup miimon 50')
        for name, peer in (('s1', 'x1'), ('s2', 'x2')):
            lab.veth(h, name, x, peer)
            h.ip('link set %s down' % name)
            h.ip('link set %s master bond0' % name)
        h.ip('link set bond0 up')
        h.ip('link set bond0 type bond active_slave s1')
        address(h, 'bond0', '10.6.0.1/24', 'fd00:6::1/64')
        address(x, 'x1', '10.6.0.2/24', 'fd00:6::2/64')
        hardware = json.loads(h.run('ip', '-j', 'link', 'show', 'dev', 'bond0'))[0]['address']
        neighbour(h, 'bond0', mac('x1'), '10.6.0.2', 'fd00:6::2')
        neighbour(x, 'x1', hardware, '10.6.0.1', 'fd00:6::1')
        watch, expected = Watch(h), Expected()
        here = ('10.6.0.1', 'fd00:6::1')
        expected.add(talk(x, X, h, here, 4000), ways(('s1', '-', 'in'), ('-', 's1', 'out'), X, here))
        exactly(watch.finish(), expected)


@case('VLAN device: counted on its carrier, with the VLAN', when=kind_missing('vlan'))
def vlan():
    with Lab('vlan') as lab:
        h, x = lab.ns('h'), lab.ns('x')
        lab.veth(h, 'p0', x, 'x0')
        for namespace, lower, name, number in ((h, 'p0', 'hv', 1), (x, 'x0', 'xv', 2)):
            namespace.ip('link add link %s name %s type vlan id 5' % (lower, name))
            namespace.ip('link set %s up' % name)
            address(namespace, name, '10.6.0.%d/24' % number, 'fd00:6::%d/64' % number)
        neighbour(h, 'hv', mac('x0'), '10.6.0.2', 'fd00:6::2')
        neighbour(x, 'xv', mac('p0'), '10.6.0.1', 'fd00:6::1')
        watch, expected = Watch(h), Expected()
        here = ('10.6.0.1', 'fd00:6::1')
        expected.add(talk(x, X, h, here, 4000), ways(('p0', '-', 'in'), ('-', 'p0', 'out'), X, here))
        exactly(watch.finish(), expected)


@case('loopback, if monitored, counts a packet once')
def loopback():
    with Lab('lo') as lab:
        h, x = lab.ns('h'), lab.ns('x')
        couple(lab, h, 'h0', x, 'x0', 6)
        collector = Nfcapd(x, 9995, '10.6.0.2')
        daemon = Flowmond(h, {'capture': {'interfaces': 'lo'},
                              'collector main': {'address': collector.address()}})
        account = Account()
        send_udp(account, h, '127.0.0.1', 4000, h, '127.0.0.1', 4001, 9, 200)
        send_udp(account, h, '::1', 4000, h, '::1', 4001, 9, 200)
        ping(account, h, '127.0.0.1', '127.0.0.1', 2)
        daemon.stop()
        records = collector.stop()
        equal('flows', {r['flow']: [r['packets'], r['octets']] for r in records}, account.flows)
        equal('one record a flow', len(records), len(account.flows))


@case('observe = every: each hook its own record')
def every():
    with Lab('every') as lab:
        a, r, b = routed(lab)
        watch = Watch(r, {'capture': {'observe': 'every'}})
        account = talk(a, A, b, B, 4000)
        expected = []
        for flow, counts in account.flows.items():
            near, far = ('r1', 'r2') if flow[0] in A else ('r2', 'r1')
            expected.append((flow, (near, '-', 'in', *counts)))
            expected.append((flow, (near, far, 'out', *counts)))
        equal('records', {row: 1 for row in watch.finish()}, {row: 1 for row in expected})


if __name__ == '__main__':
    tap.require_root()
    tap.main()
