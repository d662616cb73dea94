#!/usr/bin/python3
# SPDX-License-Identifier: Apache-2.0
"""Tunnels made of the kernel's own devices, watched where they begin: by their outer headers, by the
inner flow, by both, and beside the tunnel's own device; with super-packets and without.

	A (flowmond) a0 === r1 R r2 --- b0 B

A's carrier has offloads on and off; from R on nothing is larger than a packet of the wire, so B's
devices tell what the wire had: packets and IP octets of the carrier, and of the tunnel's inside."""
import collections
import functools
import socket

from lib import tap
from lib.collect import json_flow, json_tunnel
from lib.daemon import Flowmond
from lib.machine import again
from lib.net import Lab, address, mac, neighbour, wait_until
from lib.packets import UDP, Account
from lib.tap import Failure, case, check, equal
from lib.traffic import exchange_tcp, family_of, send_udp
from lib.wire import Wire

A, A2, R1 = ('10.1.0.1', 'fd00:1::1'), ('10.1.0.3', 'fd00:1::3'), ('10.1.0.2', 'fd00:1::2')
B, B2, R2 = ('10.2.0.1', 'fd00:2::1'), ('10.2.0.3', 'fd00:2::3'), ('10.2.0.2', 'fd00:2::2')
NEAR, FAR = ('10.9.0.1', 'fd00:9::1'), ('10.9.0.2', 'fd00:9::2')
MTU = 2000
VXLAN, GENEVE, GRE, NVGRE, IPIP, IP6IP = range(1, 7)



class Tunnel(collections.namedtuple('Tunnel', 'link outer inner layer2 type id segmented')):
    """link: what follows "type"; outer: IP version of the carrier; inner: versions that pass;
    layer2: it carries frames; type, id: what flowmond calls it; segmented: super-packets enter it."""


VXLAN_LINK = 'vxlan id 42 local {here} remote {there} dstport {port} srcport 40000 40001 nolearning'
BOTH, ENDS = (4, 6), ' local {here} remote {there}'
TUNNELS = {
    'vxlan': Tunnel(VXLAN_LINK, 4, BOTH, True, VXLAN, 42, True),
    'vxlan over IPv6': Tunnel(VXLAN_LINK, 6, BOTH, True, VXLAN, 42, True),
    'vxlan over vlan': Tunnel(VXLAN_LINK + ' dev av', 4, BOTH, True, VXLAN, 42, True),
    'geneve': Tunnel('geneve id 16777214 remote {there}', 4, BOTH, True, GENEVE, 16777214, True),
    'geneve over IPv6': Tunnel('geneve id 43 remote {there}', 6, BOTH, True, GENEVE, 43, True),
    'gre': Tunnel('gre' + ENDS, 4, BOTH, False, GRE, None, True),
    'gre with all options': Tunnel('gre' + ENDS + ' key 4294967294 seq csum', 4, BOTH, False, GRE,
                                   4294967294, False),
    'gretap': Tunnel('gretap' + ENDS + ' key 45', 4, BOTH, True, GRE, 45, True),
    'gretap with an NVGRE key': Tunnel('gretap' + ENDS + ' key %d' % 0xabcdef01, 4, BOTH, True,
                                       NVGRE, 0xabcdef, True),
    'ip6gre': Tunnel('ip6gre' + ENDS + ' key 46', 6, BOTH, False, GRE, 46, True),
    'ip6gretap': Tunnel('ip6gretap' + ENDS + ' key 47 encaplimit none', 6, BOTH, True, GRE, 47,
                        True),
    'ipip': Tunnel('ipip' + ENDS, 4, (4,), False, IPIP, None, True),
    'sit': Tunnel('sit' + ENDS, 4, (6,), False, IP6IP, None, True),
    'ip6tnl': Tunnel('ip6tnl mode any' + ENDS, 6, BOTH, False, None, None, True),
}
# Of these only the inner flows: all else is as with their kind.
VARIANTS = {'vxlan over IPv6', 'geneve over IPv6', 'gre with all options', 'gretap with an NVGRE key',
            'ip6gretap'}


class Network:
    """The namespaces and what tunnels between A and B run over, by IP of one version."""

    def __init__(self, lab, version, vlan):
        self.lab = lab
        self.a, self.r, self.b = (lab.ns(name) for name in 'arb')
        lab.veth(self.a, 'a0', self.r, 'r1', mtu=MTU, offloads='on')
        lab.veth(self.b, 'b0', self.r, 'r2', mtu=MTU)
        # Else R hands over what it has received as it is, and A merges nothing.
        self.r.run('ethtool', '-K', 'r1', 'tso', 'off')
        self.near, self.router, self.port = 'a0', 'r1', 5000
        if vlan:
            for namespace, lower, name in ((self.a, 'a0', 'av'), (self.r, 'r1', 'rv')):
                namespace.ip('link add link %s name %s type vlan id 5' % (lower, name))
                namespace.ip('link set %s up' % name)
            self.near, self.router = 'av', 'rv'
        a, a2, r1, b, b2, r2 = ([pair[version == 6]] for pair in (A, A2, R1, B, B2, R2))
        for namespace, name, ours, peer, theirs in (
                (self.a, self.near, a + a2, 'r1', r1), (self.r, self.router, r1, 'a0', a + a2),
                (self.b, 'b0', b + b2, 'r2', r2), (self.r, 'r2', r2, 'b0', b + b2)):
            address(namespace, name, *(one + ('/64' if ':' in one else '/24') for one in ours))
            neighbour(namespace, name, mac(peer), *theirs)
        for namespace, via, src, dst in ((self.a, r1, a, b), (self.a, r1, a2, b2),
                                         (self.b, r2, b, a), (self.b, r2, b2, a2)):
            namespace.ip('route add %s via %s src %s' % (*dst, *via, *src))
        self.r.sysctl('net/ipv4/ip_forward', 1)
        self.r.sysctl('net/ipv6/conf/all/forwarding', 1)

    def offloads(self, state, *devices):
        """On or off at A; not every device knows every one of them, and all without is exact."""
        for namespace, device in devices:
            namespace.run('ethtool', '-K', device, *sum(([name, state] for name in (
                'tx', 'tso', 'gso', 'gro')), []), ok=False)

    def tunnel(self, kind, near='ta', far='tb', second=False):
        """A tunnel from A to B. The second of a kind has end points, devices and namespaces of its
        own. Returns the namespaces of the two devices."""
        ends = [ours[kind.outer == 6] for ours in ((A2, B2) if second else (A, B))]
        inside = []
        for namespace, device, other, here, there, own, theirs in (
                (self.a, near, far, *ends, NEAR, FAR), (self.b, far, near, *ends[::-1], FAR, NEAR)):
            line = kind.link.format(here=here, there=there, port=8472 if second else 4789)
            if namespace is self.b:
                line = line.replace(' dev av', ' dev b0')
            namespace.ip('link add %s mtu 1500%s type %s' % (
                device, ' address ' + mac(device) if kind.layer2 else '', line))
            if second:
                home, namespace = namespace, self.lab.ns(device)
                home.ip('link set %s netns %s' % (device, namespace.name))
            namespace.sysctl('net/ipv6/conf/%s/addr_gen_mode' % device, 1)
            namespace.ip('link set %s up' % device)
            for version, prefix, mine, yours in zip(BOTH, ('/24', '/64'), own, theirs):
                if version in kind.inner:
                    address(namespace, device, mine + prefix)
                    if kind.layer2:
                        neighbour(namespace, device, mac(other), yours)
            inside.append(namespace)
        self.offloads('off', (inside[1], far))
        return inside


def speak(account, near, far, kind, base, octets):
    """Datagrams both ways, whole and in pieces, and a connection, between the tunnel's ends."""
    for version, here, there in zip(BOTH, NEAR, FAR):
        if version not in kind.inner:
            continue
        send_udp(account, near, here, base, far, there, base + 1, 20, 100)
        send_udp(account, far, there, base + 1, near, here, base, 10, 900)
        send_udp(account, near, here, base + 2, far, there, base + 3, 3, 4000)
        exchange_tcp(near, here, base + 4, far, there, base + 5, octets, octets)
        table = 'tcp6' if family_of(here) == socket.AF_INET6 else 'tcp'
        # Its last acknowledgement has come when the far end has forgotten the connection.
        wait_until(lambda: not far.sockets(table, base + 5), 10, 'the end of the connection')


def in_tunnel(account, kind, ends=(A, B)):
    """The rows of inner flows that went through a tunnel between these ends."""
    ours, theirs = (pair[kind.outer == 6] for pair in ends)
    rows = {}
    for flow, counts in account.flows.items():
        outer = (ours, theirs) if flow[0] in NEAR else (theirs, ours)
        number = kind.type or (IP6IP if ':' in flow[0] else IPIP)
        rows[flow, number, kind.id, *outer] = counts
    return rows


def bare(account):
    return {(flow, None, None, None, None): counts for flow, counts in account.flows.items()}


class Watch:
    """flowmond at A and what B's devices tell of the same packets."""

    def __init__(self, network, headers, interfaces, *inside, biflow='no'):
        name = 'flowmond%d' % len(network.lab.children)
        self.daemon = Flowmond(network.a, {
            'capture': {'interfaces': interfaces},
            'flows': {'tunnel': headers, 'biflow': biflow},
            'json': {'file': network.lab.path(name + '.json')}}, name=name)
        self.carrier = Wire(network.a, 'a0')
        self.outer, self.inner = Wire(network.b, 'b0'), [Wire(*where) for where in inside]

    def stop(self):
        """Records by row; the accounts of the wire and of each tunnel."""
        counters = {name: (value['packets'], value['octets'])
                    for name, value in self.daemon.status()['counters'].items()}
        self.daemon.stop()
        self.records = self.daemon.json_records()
        rows = {}
        for record in self.records:
            rows[(json_flow(record)['flow'], *json_tunnel(record))] = [record['packetDeltaCount'], record['octetDeltaCount']]
        equal('one record a flow', len(self.records), len(rows))
        equal('packets not understood', {name: counters[name][0] for name in (
            'tunnel_undecoded', 'tunnel_deep', 'segments_unsure', 'malformed', 'cut_payload')
            if counters[name][0]}, {})
        self.carrier.stop()
        return rows, self.outer.stop(), [wire.stop() for wire in self.inner], counters


def sent_datagrams(sent, wires):
    """That the wire told the truth: the senders' own accounts of their datagrams."""
    for account, wire in zip(sent, wires):
        equal('datagrams', {flow: counts for flow, counts in wire.flows.items()
                            if flow[4] == UDP}, account.flows)


def converse(network, kind, watch, pairs, octets):
    """The same conversations through every tunnel, with offloads and without: senders' accounts."""
    accounts = []
    network.port += 20
    for near, far, device in pairs:
        accounts.append(Account())
        devices = (network.a, 'a0'), (near, device)
        network.offloads('on', *devices)
        speak(accounts[-1], near, far, kind, network.port, octets)
        large = watch.carrier.read()
        network.offloads('off', *devices)
        speak(accounts[-1], near, far, kind, network.port + 10, octets)
        small = watch.carrier.read()
        check('no super-packets without offloads', max(small) <= MTU, small)
        if kind.segmented:
            check('super-packets came and went', min(large) > MTU, large)
    return accounts


def outer(network, kind, near, far):
    """Flows of the tunnel's own packets, nothing of what is in them."""
    watch = Watch(network, 'outer', 'a0', (far, 'tb'))
    sent = converse(network, kind, watch, [(near, far, 'ta')], 300000)
    rows, outside, inside, _ = watch.stop()
    sent_datagrams(sent, inside)
    equal('flows', rows, bare(outside))
    vlan = 5 if network.near == 'av' else 0
    equal('VLANs', {record['vlanId'] for record in watch.records}, {vlan})


def inner(network, kind, near, far):
    """The flows in the tunnel, and what its headers took; its device is monitored as well."""
    watch = Watch(network, 'inner', 'a0, ta', (far, 'tb'))
    sent = converse(network, kind, watch, [(near, far, 'ta')], 300000)
    rows, outside, inside, counters = watch.stop()
    sent_datagrams(sent, inside)
    equal('flows', rows, in_tunnel(inside[0], kind))
    equal('tunnel headers', counters['tunnel_headers'],
          (inside[0].packets(), outside.octets() - inside[0].octets()))


def alone(network, kind, near, far):
    """Only the tunnel's device is monitored: packets without tunnel."""
    watch = Watch(network, 'inner', 'ta', (far, 'tb'))
    sent = converse(network, kind, watch, [(near, far, 'ta')], 300000)
    rows, _, inside, _ = watch.stop()
    sent_datagrams(sent, inside)
    equal('flows', rows, bare(inside[0]))


def both(network, kind, near, far):
    """Two tunnels with the same inner flows and the same id between different ends."""
    pairs = [(near, far, 'ta'), (*network.tunnel(kind, 'ua', 'ub', True), 'ua')]
    watch = Watch(network, 'both', 'a0', (far, 'tb'), (pairs[1][1], 'ub'))
    sent = converse(network, kind, watch, pairs, 100000)
    rows, _, inside, _ = watch.stop()
    sent_datagrams(sent, inside)
    equal('flows', rows, {**in_tunnel(inside[0], kind), **in_tunnel(inside[1], kind, (A2, B2))})


def conversations(network, kind, near, far):
    """One record for both directions, with the ends as the first packet had them."""
    watch = Watch(network, 'inner', 'a0', (far, 'tb'), biflow='yes')
    sent = converse(network, kind, watch, [(near, far, 'ta')], 300000)
    _, _, inside, _ = watch.stop()
    sent_datagrams(sent, inside)
    one_way = in_tunnel(inside[0], kind)
    expected = {}
    for (flow, number, name, here, there), counts in one_way.items():
        if flow[0] in NEAR:
            turned = (flow[1], flow[0], flow[3], flow[2], flow[4]), number, name, there, here
            back = one_way.get(turned)
            expected[flow, number, name, here, there] = (
                *counts, *(back or [0, 0]), name if back else None)
    equal('conversations', {(json_flow(record)['flow'], *json_tunnel(record)): (
        *(record[name] for name in ('packetDeltaCount', 'octetDeltaCount',
                                    'reversePacketDeltaCount', 'reverseOctetDeltaCount')),
        record.get('reverseTunnelId')) for record in watch.records}, expected)


@again
def watched(kind, ways):
    with Lab('tunnel') as lab:
        network = Network(lab, kind.outer, ' dev av' in kind.link)
        near, far = network.tunnel(kind)
        for way in ways:
            try:
                way(network, kind, near, far)
            except Failure as failure:
                raise Failure('%s: %s' % (way.__name__, failure)) from None


def refused(kind):
    """What the kernel says of such a device, or None if it makes one."""
    links = [kind.link.format(here='fd00::1' if kind.outer == 6 else '10.0.0.1', port=4789,
                              there='fd00::2' if kind.outer == 6 else '10.0.0.2')]
    if ' dev av' in kind.link:
        links[0] = links[0].replace(' dev av', '')
        links.append('vlan id 5')

    def reason():
        with Lab('try') as lab:
            namespace = lab.ns('n')
            namespace.ip('link add a0 type veth peer name b0')
            for link in links:
                said = namespace.run('ip', *('link add link a0 name t type ' + link
                                             if link.startswith('vlan')
                                             else 'link add u type ' + link).split(), ok=False)
                if said.strip():
                    return 'ip link add type %s: %s' % (link.split()[0], said.strip())
        return None
    return reason


for title, tunnel in TUNNELS.items():
    case(title, when=refused(tunnel))(functools.partial(
        watched, tunnel, (inner,) if title in VARIANTS else (outer, inner, alone, both)))

case('vxlan, one record a conversation', when=refused(TUNNELS['vxlan']))(
    functools.partial(watched, TUNNELS['vxlan'], (conversations,)))


if __name__ == '__main__':
    tap.require_root()
    tap.main()
