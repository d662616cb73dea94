#!/usr/bin/python3
# SPDX-License-Identifier: Apache-2.0
"""Devices and queueing disciplines of the kernel that change what passes: wireguard, whose packets are
others outside and inside, and netem, which loses, doubles and delays. Counts only, by other people's
counters: the senders, sockets that see each packet of a device, nftables, tc, nstat and TCP_INFO."""
import functools
import json
import shutil
import socket
import struct
import subprocess
import threading

from lib import socketinfo, tap
from lib.bump import HOST
from lib.collect import json_flow
from lib.daemon import Flowmond
from lib.load import Oracle, receive
from lib.machine import again
from lib.net import PATIENCE, Lab, address, couple, wait_until
from lib.packets import UDP, Account
from lib.tap import check, equal, note
from lib.traffic import exchange_tcp, family_of, send_udp, udp_receiver
from lib.wire import Wire

A, M, R2, B = (('10.1.0.1', 'fd00:1::1'), ('10.1.0.2', 'fd00:1::2'), ('10.2.0.2', 'fd00:2::2'),
               ('10.2.0.1', 'fd00:2::1'))
INSIDE_A, INSIDE_M = ('10.9.0.1', 'fd00:9::1'), ('10.9.0.2', 'fd00:9::2')
WIREGUARD_PORT = 51820
# netem's own chance is another in each run: enough packets that all of it happens.
DATAGRAMS, OCTETS = 2000, 600000
CLIENT, SERVER = 4001, 5201
SO_RCVBUFFORCE = 33


def refused(*command):
    """Why a device or a queueing discipline cannot be made here, or None."""
    def reason():
        if command[0] == 'wireguard' and not shutil.which('wg'):
            return 'wg is not installed'
        with Lab('try') as lab:
            namespace = lab.ns('n')
            namespace.ip('link add d0 type veth peer name d1')
            line = ('tc qdisc add dev d0 root ' if command[0] == 'netem' else
                    'ip link add u type ') + ' '.join(command)
            said = namespace.run(*line.split(), ok=False).strip()
            return '%s: %s' % (line, said) if said else None
    return reason


def forwarding(namespace):
    namespace.sysctl('net/ipv4/ip_forward', 1)
    namespace.sysctl('net/ipv6/conf/all/forwarding', 1)


def flows(daemon):
    """Of the json file: {flow: (in, out, packets, octets)}, one record a flow."""
    records = list(map(json_flow, daemon.json_records()))
    rows = {record['flow']: (record['in'], record['out'], record['packets'], record['octets'])
            for record in records}
    equal('one record a flow', len(records), len(rows))
    return rows


def keys():
    """A private and a public key."""
    private = subprocess.run(['wg', 'genkey'], stdout=subprocess.PIPE, text=True, check=True).stdout
    public = subprocess.run(['wg', 'pubkey'], stdout=subprocess.PIPE, text=True, check=True,
                            input=private).stdout
    return private, public.strip()


class Wireguard:
    """A (wg0) a0 --- m0 M (wg0) r2 --- b0 B: A and M are peers, B lies behind M."""

    def __init__(self, lab, version):
        self.a, self.m, self.b = (lab.ns(name) for name in 'amb')
        couple(lab, self.a, 'a0', self.m, 'm0', 1)
        couple(lab, self.b, 'b0', self.m, 'r2', 2)
        forwarding(self.m)
        pairs = keys(), keys()
        ends = [(self.a, *pairs[0], A, INSIDE_A), (self.m, *pairs[1], M, INSIDE_M)]
        for (namespace, private, _, _, inside), (_, _, public, there, _) in (ends, ends[::-1]):
            namespace.ip('link add wg0 mtu 1400 type wireguard')
            path = lab.path(namespace.name + '.key')
            with open(path, 'w', encoding='ascii') as file:
                file.write(private)
            end = there[version == 6]
            namespace.run('wg', 'set', 'wg0', 'private-key', path, 'listen-port', WIREGUARD_PORT,
                          'peer', public, 'allowed-ips', '0.0.0.0/0,::/0', 'endpoint',
                          ('[%s]:%d' if version == 6 else '%s:%d') % (end, WIREGUARD_PORT))
            namespace.sysctl('net/ipv6/conf/wg0/addr_gen_mode', 1)
            namespace.ip('link set wg0 up')
            address(namespace, 'wg0', inside[0] + '/24', inside[1] + '/64')
        # At A each packet inside is one of the wire; M's side cuts what is larger.
        for name in ('tx', 'tso', 'gso', 'gro'):
            self.a.run('ethtool', '-K', 'wg0', name, 'off', ok=False)
        for route in ('10.2.0.0/24', 'fd00:2::/64'):
            self.a.ip('route add %s dev wg0' % route)
        for route, via in zip(('10.9.0.0/24', 'fd00:9::/64'), R2):
            self.b.ip('route add %s via %s' % (route, via))


@again
def wireguard(version):
    """Counted outside as what it is on the wire, UDP of WireGuard's port, and inside once: M's own
    packets at wg0, what it forwards where it comes in."""
    with Lab('wg') as lab:
        network = Wireguard(lab, version)
        a, m, b = network.a, network.m, network.b
        outside, inside = Wire(a, 'a0'), Wire(a, 'wg0')
        daemon = Flowmond(m, {'capture': {'interfaces': 'm0, wg0, r2'},
                              'json': {'file': lab.path('flowmond.json')}})
        sent = Account()
        for number, (far, there) in enumerate(((m, INSIDE_M), (b, B))):
            for here, other in zip(INSIDE_A, there):
                base = 4000 + 20 * number
                send_udp(sent, a, here, base, far, other, base + 1, 20, 100)
                send_udp(sent, far, other, base + 1, a, here, base, 10, 900)
                exchange_tcp(a, here, base + 2, far, other, base + 3, 200000, 200000)
                table = 'tcp6' if ':' in here else 'tcp'
                for namespace in (a, far):
                    wait_until(lambda: all(words[3] == '06' for words in namespace.sockets(
                        table, base + 3)), 10, 'the end of the connection')
        numbers = {name: m.ifindex(name) for name in ('m0', 'wg0', 'r2')}
        daemon.stop()
        outside, inside = outside.stop(), inside.stop()
        equal('datagrams', {flow: counts for flow, counts in inside.flows.items()
                            if flow[4] == UDP}, sent.flows)
        carrier = {(ours[version == 6], theirs[version == 6], WIREGUARD_PORT, WIREGUARD_PORT, UDP)
                   for ours, theirs in ((A, M), (M, A))}
        equal('on the wire', set(outside.flows), carrier)
        ways = {A[version == 6]: (numbers['m0'], 0), M[version == 6]: (0, numbers['m0'])}
        expected = {flow: (*ways[flow[0]], *counts) for flow, counts in outside.flows.items()}
        for flow, counts in inside.flows.items():
            near, far = numbers['wg0'], numbers['r2'] if set(flow[:2]) & set(B) else 0
            expected[flow] = (*((near, far) if flow[0] in INSIDE_A else (far, near)), *counts)
        equal('flows', flows(daemon), expected)
        # Handshakes are all that is more outside.
        more = outside.packets() - inside.packets()
        note('%d packets inside, %d more outside' % (inside.packets(), more))
        check('a packet outside for each inside', more > 0, more)


class Scene:
    """A a0 --- r1 R r2 --- b0 B: netem at R towards B, a delay alone towards A; a flowmond in each."""

    def __init__(self, lab, netem, back):
        self.lab = lab
        self.a, self.r, self.b = (lab.ns(name) for name in 'arb')
        for namespace in (self.a, self.b):
            for name, value in HOST.items():
                namespace.sysctl(name, value)
        couple(lab, self.a, 'a0', self.r, 'r1', 1)
        couple(lab, self.b, 'b0', self.r, 'r2', 2)
        forwarding(self.r)
        for namespace, routes in (
                (self.a, ('10.2.0.0/24 via 10.1.0.2', 'fd00:2::/64 via fd00:1::2')),
                (self.b, ('10.1.0.0/24 via 10.2.0.2', 'fd00:1::/64 via fd00:2::2'))):
            for route in routes:
                namespace.ip('route add ' + route)
        for device, what in (('r2', netem), ('r1', back)):
            self.r.run('tc', *('qdisc add dev %s root netem limit 100000 %s' % (
                device, what)).split())
        self.oracles = {'a': Oracle(self.a), 'b': Oracle(self.b)}
        self.daemons = {point: Flowmond(namespace, {
            'capture': {'interfaces': '!lo'}, 'metrics': {'tcp': 'yes'},
            'json': {'file': lab.path('flowmond-%s.json' % point)}}, 'flowmond-' + point)
            for point, namespace in (('a', self.a), ('r', self.r), ('b', self.b))}

    def queue(self, device):
        """What tc says of netem: packets that left, packets it dropped."""
        said = json.loads(self.r.run('tc', '-s', '-j', 'qdisc', 'show', 'dev', device))
        netem = next(one for one in said if one['kind'] == 'netem')
        equal('%s: waiting' % device, netem['qlen'], 0)
        return netem['packets'], netem['drops']

    def arrived(self, end, flow):
        """[packets, octets] of a flow at an end, as nftables counts."""
        return self.oracles[end].account().flows.get(flow, [0, 0])

    def stop(self):
        """Records by point and source port."""
        for daemon in self.daemons.values():
            daemon.stop()
        found = {}
        for point, daemon in self.daemons.items():
            for record in daemon.json_records():
                key = point, record['sourceTransportPort']
                check('one record of a flow', key not in found, key)
                found[key] = record
        return found


def drained(scene):
    """Until everything that is under way has left R."""
    wait_until(lambda: all(json.loads(scene.r.run('tc', '-s', '-j', 'qdisc', 'show', 'dev', device))
                           [0]['qlen'] == 0 for device in ('r1', 'r2')), 30, 'netem to be empty')


@again
def datagrams(version):
    """Numbered datagrams, some lost, some doubled, some late: in front of netem what was sent, behind
    it what arrived, as the receiver, nftables and tc count."""
    with Lab('netem') as lab:
        scene = Scene(lab, 'delay 2ms loss 5% duplicate 5% reorder 80%', 'delay 2ms')
        here, there = A[version == 6], B[version == 6]
        seen, size = [], 100
        with udp_receiver(scene.b, there, SERVER) as inbox, \
                scene.a.socket(family_of(here), socket.SOCK_DGRAM) as out:
            inbox.setsockopt(socket.SOL_SOCKET, SO_RCVBUFFORCE, 1 << 24)
            out.bind((here, CLIENT))
            for number in range(DATAGRAMS):
                out.sendto(struct.pack('!I', number) + bytes(size - 4), (there, SERVER))
            drained(scene)
            left, lost = scene.queue('r2')
            inbox.settimeout(20 * PATIENCE)
            while len(seen) < left:
                seen.append(struct.unpack('!I', inbox.recv(size)[:4])[0])
        octets = size + (48 if version == 6 else 28)
        missing, late = DATAGRAMS - len(set(seen)), sum(
            one > other for one, other in zip(seen, seen[1:]))
        doubled = len(seen) - len(set(seen))
        note('%d missing, %d doubled, %d late' % (missing, doubled, late))
        # It may drop a copy of what arrives all the same.
        check('netem did all of it', 0 < missing <= lost and doubled and late, lost)
        flow = here, there, CLIENT, SERVER, UDP
        equal('nftables', scene.arrived('b', flow), [len(seen), len(seen) * octets])
        records = scene.stop()
        for point, count in (('a', DATAGRAMS), ('r', DATAGRAMS), ('b', len(seen))):
            record = records[point, CLIENT]
            equal('packets and octets at ' + point.upper(),
                  [record['packetDeltaCount'], record['octetDeltaCount']], [count, count * octets])


def transfer(scene, here, there):
    """A sends OCTETS to B; both sides' TCP_INFO before they close."""
    family = family_of(here)
    with scene.b.socket(family, socket.SOCK_STREAM) as listener, \
            scene.a.socket(family, socket.SOCK_STREAM) as client:
        for one in (listener, client):
            one.settimeout(120 * PATIENCE)
        listener.bind((there, SERVER))
        listener.listen(1)
        client.bind((here, CLIENT))
        client.connect((there, SERVER))
        server = listener.accept()[0]
        server.settimeout(120 * PATIENCE)
        thread = threading.Thread(target=client.sendall, args=(bytes(OCTETS),))
        thread.start()
        with server:
            receive(server, OCTETS)
            thread.join()

            def idle():
                info = socketinfo.tcp_info(client)
                return not info['unacked'] and not info['notsent_bytes']
            wait_until(idle, 60, 'acknowledgements')
            info = socketinfo.tcp_info(client), socketinfo.tcp_info(server)
            client.shutdown(socket.SHUT_WR)
            check('the end', server.recv(1) == b'')
    table = 'tcp6' if ':' in here else 'tcp'
    wait_until(lambda: all(words[3] in ('06', '0A') for namespace in (scene.a, scene.b)
                           for words in namespace.sockets(table, SERVER)), 60, 'the end')
    drained(scene)
    return info


@again
def connection(what, version, doubles):
    """A connection over a path with netem: each observer counts what passed it, and what was sent
    again is what the sender's kernel says."""
    with Lab('netem') as lab:
        scene = Scene(lab, 'delay 5ms ' + what, 'delay 5ms')
        here, there = A[version == 6], B[version == 6]
        client, server = transfer(scene, here, there)
        a, b = socketinfo.nstat(scene.a), socketinfo.nstat(scene.b)
        left, lost = scene.queue('r2')
        back, lost_back = scene.queue('r1')
        ways = {'ab': ('b', (here, there, CLIENT, SERVER, 6)),
                'ba': ('a', (there, here, SERVER, CLIENT, 6))}
        arrived = {way: scene.arrived(*where) for way, where in ways.items()}
        records = scene.stop()

        def seen(point, way, *fields):
            record = records[point, CLIENT if way == 'ab' else SERVER]
            return [record.get(field) for field in fields]
        counts = 'packetDeltaCount', 'octetDeltaCount'
        equal('netem and nftables', [left, back, lost_back], [arrived['ab'][0], arrived['ba'][0], 0])
        equal('B: what arrived', seen('b', 'ab', *counts), arrived['ab'])
        equal('A: what arrived', seen('a', 'ba', *counts), arrived['ba'])
        sent = a['TcpOutSegs'] + a['TcpRetransSegs']
        doubled = arrived['ab'][0] + lost - sent
        note('%d sent, %d again, %d lost, %d doubled; %d fast, %d timeouts' % (
            sent, a['TcpRetransSegs'], lost, doubled, a['TcpExtTCPFastRetrans'],
            a['TcpExtTCPTimeouts']))
        for point in 'ar':
            equal(point + ': what A sent', seen(point, 'ab', 'packetDeltaCount'), [sent])
            equal(point + ': what A sent again', seen(
                point, 'ab', 'tcpRetransmittedPackets', 'tcpRetransmittedOctets'),
                [a['TcpRetransSegs'], client['bytes_retrans']])
            equal(point + ': what B sent', seen(point, 'ba', 'packetDeltaCount'), [arrived['ba'][0]])
        equal('A: SYN sent again', seen('a', 'ab', 'tcpSynRetransmissions'),
              [a['TcpExtTCPSynRetrans']])
        for point in 'arb':
            equal(point + ': what B sent again', seen(point, 'ba', 'tcpRetransmittedPackets'),
                  [b['TcpRetransSegs']])
            equal(point + ': window scales', [seen(point, way, 'tcpWindowScale') for way in ways],
                  [[client['rcv_wscale']], [server['rcv_wscale']]])
        if doubles:
            equal('B: doubled by the network', seen('b', 'ab', 'duplicatePackets'), [doubled])
            check('some were doubled', doubled > 0, doubled)


for number in (4, 6):
    tap.case('wireguard over IPv%d: other packets outside, each once inside' % number,
             when=refused('wireguard'))(functools.partial(wireguard, number))
for number in (4, 6):
    tap.case('netem, IPv%d: datagrams lost, doubled and late' % number,
             when=refused('netem', 'delay', '1ms'))(functools.partial(datagrams, number))
for title, number, script, once in (
        ('loss', 4, 'loss 3%', False), ('loss', 6, 'loss 3%', False),
        ('duplicates', 4, 'duplicate 5%', True), ('reordering', 6, 'reorder 95%', False),
        ('loss, duplicates and reordering', 4, 'loss 2% duplicate 3% reorder 95%', False)):
    tap.case('netem, IPv%d: TCP with %s' % (number, title), when=refused('netem', 'delay', '1ms'))(
        functools.partial(connection, script, number, once))


if __name__ == '__main__':
    tap.require_root()
    tap.main()
