# SPDX-License-Identifier: Apache-2.0
"""Packets of all kinds between two namespaces, each of them known, once or until they are stopped."""
import random
import threading

from lib.net import couple, wait_until
from lib.packets import ACK, ICMP, SYN, TCP, UDP, Account, icmp, ip4, ip6, tcp, udp
from lib.traffic import Injector


def pair(lab):
    """Namespaces a and m, joined by a0 and m0."""
    a, m = lab.ns('a'), lab.ns('m')
    couple(lab, a, 'a0', m, 'm0', 1)
    return a, m


class Traffic:
    """Packets of all kinds into m0, each of them known: (source, destination, ports, protocol, flags,
    octets)."""

    def __init__(self, namespace, seed=1):
        self.random = random.Random(seed)
        self.total = Account()
        self.inject = Injector(namespace, 'a0', 'm0', self.total)
        self.packets = []

    def send(self, count):
        for _ in range(count):
            number = self.random.randrange(60)
            six = number % 3 == 0
            source = ('fd08::%x' if six else '10.%d.0.1') % (number % 7 + 1)
            target = 'fd09::2' if six else '192.0.2.%d' % (number % 5 + 1)
            ports = 1024 + number, (53, 80, 443, 5060)[number % 4]
            size = self.random.randrange(200)
            flags = SYN if number % 8 == 1 else ACK
            protocol = TCP if number % 4 in (1, 2) else UDP
            if not six and number % 10 == 5:
                protocol, ports, flags = ICMP, (0, 8 * 256), None
                payload = icmp(8, 0, bytes(size))
            elif protocol == TCP:
                payload = tcp(*ports, flags, bytes(size))
            else:
                flags, payload = None, udp(*ports, bytes(size))
            packet = (ip6 if six else ip4)(source, target, protocol, payload)
            flow = source, target, *ports, protocol
            self.inject.send(packet, flow)
            self.packets.append((flow, flags, len(packet)))

    def send_from(self, source, target):
        packet = ip4(source, target, UDP, udp(1024, 53, b'x'))
        self.inject.send(packet, (source, target, 1024, 53, UDP))

    def close(self):
        self.inject.close()

    def split(self, rules):
        """What these rules, given as functions of (flow, flags) with what becomes of it, make of the
        packets: account of what is in flows, [packets, octets] of each rule, and of what is not."""
        kept, counts, left = Account(), [[0, 0] for _ in rules], [0, 0]
        for flow, flags, octets in self.packets:
            number, include = next((i, include) for i, (holds, include) in enumerate(rules)
                                   if holds(flow, flags))
            counts[number][0] += 1
            counts[number][1] += octets
            if include:
                kept.add(*flow, octets)
            else:
                left[0] += 1
                left[1] += octets
        return kept, counts, left


class Sender(threading.Thread):
    """Traffic until stop()."""

    def __init__(self, namespace):
        super().__init__()
        self.traffic = Traffic(namespace, 2)
        self.ends = threading.Event()
        self.start()

    def run(self):
        while not self.ends.is_set():
            self.traffic.send(20)

    def more(self, count):
        aim = len(self.traffic.packets) + count
        wait_until(lambda: len(self.traffic.packets) >= aim, 60, 'traffic')

    def stop(self):
        self.ends.set()
        self.join()
        self.traffic.close()
        return self.traffic
