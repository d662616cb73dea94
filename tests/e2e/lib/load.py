# SPDX-License-Identifier: Apache-2.0
"""A continuous load whose packets are known to the last one, flow by flow, by an oracle that is not
its sender: nftables counts at the far ends, in sets that hold a counter for each flow.

    A == r1 R r2 -- B       A's link has offloads (super-packets pass R), B's has none

What A sends is counted where B receives it, and the other way round; a device between the hook and
an oracle that drops something spoils the comparison and is told.
"""
import contextlib
import ipaddress
import json
import os
import random
import socket
import struct
import threading

from lib.daemon import BUILD
from lib.net import PATIENCE, Lab, address, mac, neighbour, wait_until
from lib.packets import Account
from lib.tap import Failure, check, note

LOAD = os.path.join(BUILD, 'tests', 'tools', 'load')
# Crafted packets a second.
RATE = int(os.environ.get('FLOWMOND_TEST_RATE', '12000'))

# Crafted packets end in a drop: nobody answers them. Real connections have ports between.
ORACLE = '''
table inet oracle {
	set four {
		type ipv4_addr . ipv4_addr . inet_proto . inet_service . inet_service
		size 1000000; flags dynamic; counter
	}
	set six {
		type ipv6_addr . ipv6_addr . inet_proto . inet_service . inet_service
		size 1000000; flags dynamic; counter
	}
	chain arrived {
		type filter hook prerouting priority -400; policy accept;
		meta l4proto 4 drop
		iifname lo accept
		meta l4proto != {tcp, udp} accept
		add @four { ip saddr . ip daddr . meta l4proto . th sport . th dport }
		add @six { ip6 saddr . ip6 daddr . meta l4proto . th sport . th dport }
		th dport 9 drop
		th dport >= 10000 drop
	}
}
'''
PROTOCOLS = {'tcp': 6, 'udp': 17}


class Oracle:
    """Counts every TCP and UDP packet that arrives in a namespace."""

    def __init__(self, namespace):
        self.namespace = namespace
        path = namespace.lab.path(namespace.name + '.nft')
        with open(path, 'w', encoding='ascii') as file:
            file.write(ORACLE)
        namespace.run('nft', '-f', path)

    def account(self):
        account = Account()
        for name in ('four', 'six'):
            text = self.namespace.run('nft', '-j', '-n', 'list', 'set', 'inet', 'oracle', name,
                                      seconds=60)
            for part in json.loads(text)['nftables']:
                for element in part.get('set', {}).get('elem', ()):
                    src, dst, protocol, sport, dport = element['elem']['val']['concat']
                    counter = element['elem']['counter']
                    account.add(src, dst, sport, dport, PROTOCOLS.get(protocol, protocol),
                                counter['bytes'], counter['packets'])
        return account

    def forget(self):
        """Counts from 0 again; the network must be silent."""
        for name in ('four', 'six'):
            self.namespace.run('nft', 'flush', 'set', 'inet', 'oracle', name)


def receive(connection, octets):
    while octets > 0:
        got = connection.recv(min(octets, 65536))
        if not got:
            raise ConnectionError('closed early')
        octets -= len(got)


class Server(threading.Thread):
    """Answers each request (its size, the answer's size, data) on connections to one port."""

    def __init__(self, namespace, family, port):
        super().__init__(daemon=True)
        self.listener = namespace.socket(family, socket.SOCK_STREAM)
        self.listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        self.listener.bind(('', port))
        self.listener.listen(64)
        self.start()

    def run(self):
        while True:
            try:
                connection = self.listener.accept()[0]
            except OSError:
                return
            threading.Thread(target=self.serve, args=(connection,), daemon=True).start()

    @staticmethod
    def serve(connection):
        with connection:
            while True:
                head = b''
                while len(head) < 8:
                    got = connection.recv(8 - len(head))
                    if not got:
                        return
                    head += got
                request, answer = struct.unpack('!II', head)
                receive(connection, request)
                connection.sendall(bytes(answer))


class Client(threading.Thread):
    """Connections one after the other, each with some requests, until told to end."""

    def __init__(self, namespace, target, port, ports, requests, sizes, seed):
        super().__init__(daemon=True)
        self.namespace, self.target, self.port = namespace, target, port
        self.family = socket.AF_INET6 if ':' in target else socket.AF_INET
        self.first_port, self.ports = ports
        self.requests, self.sizes = requests, sizes
        self.random = random.Random(seed)
        self.ends, self.error, self.connections = threading.Event(), None, 0
        self.start()

    def run(self):
        try:
            while not self.ends.is_set():
                self.connection()
                self.connections += 1
        except OSError as error:
            self.error = error

    def connection(self):
        with self.namespace.socket(self.family, socket.SOCK_STREAM) as out:
            out.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            out.settimeout(30 * PATIENCE)
            # A port of its own for each: no connection ends in another's flow.
            out.bind(('', self.first_port + self.connections % self.ports))
            out.connect((self.target, self.port))
            for _ in range(self.requests):
                request, answer = (self.random.randrange(size) for size in self.sizes)
                out.sendall(struct.pack('!II', request, answer) + bytes(request))
                receive(out, answer)
                if self.ends.wait(self.random.random() * 0.03):
                    break


class Network:
    """The three namespaces, quiet, with oracles at both ends."""
    ADDRESSES = {'a': ('10.1.0.1', 'fd00:1::1'), 'b': ('10.2.0.1', 'fd00:2::1')}

    def __init__(self, lab, router=None):
        self.lab = lab
        self.a, self.r, self.b = lab.ns('a'), router or lab.ns('r'), lab.ns('b')
        self._link(self.a, 'a0', 'r1', 1, 'on')
        self._link(self.b, 'b0', 'r2', 2, 'off')
        # What arrives at A is not put together again before it is counted.
        self.a.run('ethtool', '-K', 'a0', 'gro', 'off')
        self.r.sysctl('net/ipv4/ip_forward', 1)
        self.r.sysctl('net/ipv6/conf/all/forwarding', 1)
        for line in ('10.2.0.0/24 via 10.1.0.2', 'fd00:2::/64 via fd00:1::2'):
            self.a.ip('route add ' + line)
        for line in ('10.1.0.0/24 via 10.2.0.2', 'fd00:1::/64 via fd00:2::2'):
            self.b.ip('route add ' + line)
        self.oracles = Oracle(self.a), Oracle(self.b)

    def _link(self, end, name, peer, number, offloads):
        self.lab.veth(end, name, self.r, peer, offloads=offloads)
        v4, v6 = '10.%d.0.' % number, 'fd00:%d::' % number
        address(end, name, v4 + '1/24', v6 + '1/64')
        address(self.r, peer, v4 + '2/24', v6 + '2/64')
        neighbour(end, name, mac(peer), v4 + '2', v6 + '2')
        neighbour(self.r, peer, mac(name), v4 + '1', v6 + '1')

    def packets(self):
        return self.a.counter('a0', 'tx', 'packets') + self.b.counter('b0', 'tx', 'packets')

    def dropped(self):
        """Packets that were lost on a link: before a hook, or between it and the oracle."""
        return sum(namespace.counter(name, 'tx', 'dropped') for namespace, name in (
            (self.a, 'a0'), (self.b, 'b0'), (self.r, 'r1'), (self.r, 'r2')))

    def account(self):
        """What was sent, by flow; the network must be silent."""
        account = Account()
        for oracle in self.oracles:
            account.join(oracle.account().flows)
        return account


class Load:
    """Crafted flows of both families, both ways, and TCP connections of several sizes. rate: crafted
    packets a second, all together. outer: crafted flows in an IPv4 header more, nothing else."""

    def __init__(self, network, seed, rate=RATE, flows=400, tcp=True, outer=False):
        self.network = network
        self.crafted, self.clients, self.servers = [], [], []
        # (source's index in ADDRESSES, options); unlike rates, so that neither way is the other.
        ways = [(network.a, 'a', 'b', ()), (network.b, 'b', 'a', ('-w',))]
        families = (0,) if outer else (0, 1)
        for number, (namespace, here, there, options) in enumerate(ways):
            for family in families:
                path = network.lab.path('load-%d' % len(network.lab.children))
                self.crafted.append((path, namespace.start(
                    LOAD, '-r', str(rate // (2 * len(families)) + 500 * number), '-n', str(flows),
                    '-s', str(seed + 10 * number + family), *options, *(('-o',) if outer else ()),
                    network.ADDRESSES[here][family], network.ADDRESSES[there][family], path,
                    log='load')))
        if tcp:
            self._connect(seed)

    def _connect(self, seed):
        a, b = self.network.a, self.network.b
        for number, (client, server, target, port, ports, requests, sizes) in enumerate((
                (a, b, 'b', 8001, (1000, 500), 200, (300000, 1000)),
                (b, a, 'a', 8002, (1500, 500), 100, (100000, 100000)),
                (a, b, 'b', 8003, (2000, 3000), 1, (500, 5000)),
                (b, a, 'a', 8004, (5000, 3000), 3, (2000, 2000)))):
            family = number % 2
            self.servers.append(Server(server, (socket.AF_INET, socket.AF_INET6)[family], port))
            self.clients.append(Client(client, self.network.ADDRESSES[target][family], port, ports,
                                       requests, sizes, seed + number))

    def more(self, packets):
        """Waits until so many more packets (super-packets as one) came to the router."""
        aim = self.network.packets() + packets
        wait_until(lambda: self.network.packets() >= aim, 60, 'traffic')

    def end(self):
        """Nothing more is sent by itself; answers may be under way."""
        for client in self.clients:
            client.ends.set()
        for _, process in self.crafted:
            if process.stop() != 0:
                raise Failure('load ended early: ' + process.log()[-500:])
        for client in self.clients:
            client.join(40 * PATIENCE)
            check('connections are as they should be', client.error is None, client.error)
        for server in self.servers:
            # Wakes up who waits for another connection: the port is free then.
            with contextlib.suppress(OSError):
                server.listener.shutdown(socket.SHUT_RDWR)
            server.listener.close()

    def sent(self):
        """The senders' own account of crafted flows, after the end; the third figure is the TCP
        flags."""
        crafted = {}
        for path, _ in self.crafted:
            with open(path, encoding='ascii') as file:
                for row in map(json.loads, file):
                    src, dst = (str(ipaddress.ip_address(end)) for end in row['flow'][:2])
                    crafted[(src, dst, *row['flow'][2:])] = [row['packets'], row['octets'],
                                                             row['flags']]
        return crafted

    def stop(self):
        """Ends everything; returns the account of the oracles and that of the crafted flows."""
        self.end()
        self._silence()
        return self.network.account(), self.sent()

    def _silence(self):
        """Until nothing moves: acknowledgements of the last ends are under way."""
        still = [0, -1]

        def silent():
            now = self.network.packets()
            still[0] = still[0] + 1 if now == still[1] else 0
            still[1] = now
            return still[0] >= 10
        wait_until(silent, 30, 'silence')


def halves(records):
    """Sums records by flow as account() does, the reverse halves of biflows as flows of their own."""
    sums = Account()
    for record in records:
        src, dst, sport, dport, protocol = record['flow']
        if record['packets'] or not record['rev_packets']:
            sums.add(*record['flow'], record['octets'], record['packets'])
        if record['rev_packets']:
            sums.add(dst, src, dport, sport, protocol, record['rev_octets'],
                     record['rev_packets'])
    return sums


def exact(function):
    """Runs a case again where the network itself lost packets between hook and oracle, which a busy
    machine's backlog does: what the case compares is not the same then. A failure without that
    stands. function(network) gets a new Network each time."""
    for turn in range(3):
        with Lab('load') as lab:
            network = Network(lab)
            try:
                return function(network)
            except Failure:
                if not network.dropped() or turn == 2:
                    raise
                note('again: the network lost %d packets' % network.dropped())
    return None
