# SPDX-License-Identifier: Apache-2.0
"""Senders whose flows, packets and octets are known to the last one."""
import contextlib
import socket
import threading

from lib import packets
from lib.net import PATIENCE, mac
from lib.packets import (ACK, FIN, ICMP, ICMP6, PSH, SYN, TCP, UDP, Account, ethernet, icmp, ip4,
                         ip6, tcp, udp)

IP_HEADER = {socket.AF_INET: 20, socket.AF_INET6: 40}


def family_of(address):
    return socket.AF_INET6 if ':' in address else socket.AF_INET


def fragment_octets(family, payload, mtu=1500):
    """IP octets and number of packets of one IP payload of this size, as the sender cuts it."""
    header = IP_HEADER[family]
    if header + payload <= mtu:
        return header + payload, 1
    if family == socket.AF_INET6:
        header += 8
    room = (mtu - header) // 8 * 8
    pieces = -(-payload // room)
    return payload + pieces * header, pieces


@contextlib.contextmanager
def udp_receiver(namespace, address, port):
    """Keeps a port open so that nobody answers "unreachable"."""
    with namespace.socket(family_of(address), socket.SOCK_DGRAM) as receiver:
        receiver.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 1 << 22)
        receiver.bind((address, port))
        yield receiver


def send_udp(account, sender, src, sport, receiver, dst, dport, count, size):
    """count datagrams of size octets payload between two namespaces, by real sockets."""
    family = family_of(dst)
    octets, pieces = fragment_octets(family, 8 + size)
    with udp_receiver(receiver, dst, dport) as inbox, \
            sender.socket(family, socket.SOCK_DGRAM) as out:
        out.bind((src, sport))
        inbox.settimeout(5 * PATIENCE)
        for _ in range(count):
            out.sendto(bytes(size), (dst, dport))
            inbox.recv(65535)
    account.add(src, dst, sport, dport, UDP, octets * count, pieces * count)


def exchange_tcp(client, src, sport, server, dst, dport, request, answer):
    """One TCP connection with request and answer of so many octets, closed by both sides."""
    family = family_of(dst)
    listener = server.socket(family, socket.SOCK_STREAM)
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    listener.bind((dst, dport))
    listener.listen(1)

    def receive(connection, octets):
        while octets > 0:
            got = connection.recv(min(octets, 65536))
            if not got:
                raise ConnectionError('closed early')
            octets -= len(got)

    def serve():
        connection = listener.accept()[0]
        with connection:
            connection.settimeout(20 * PATIENCE)
            receive(connection, request)
            connection.sendall(bytes(answer))
            connection.recv(1)

    thread = threading.Thread(target=serve)
    thread.start()
    with client.socket(family, socket.SOCK_STREAM) as out:
        out.settimeout(20 * PATIENCE)
        out.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        out.bind((src, sport))
        out.connect((dst, dport))
        out.sendall(bytes(request))
        receive(out, answer)
        out.shutdown(socket.SHUT_WR)
        out.recv(1)
    thread.join(20 * PATIENCE)
    listener.close()


def ping(account, sender, src, dst, count, size=56):
    """Echo requests and the answers to them; size of the data behind the ICMP header."""
    family = family_of(dst)
    sender.run('ping', '-n', '-q', '-c', count, '-i', '0.01', '-s', size, '-I', src, dst)
    octets, pieces = fragment_octets(family, 8 + size)
    protocol, request, answer = (ICMP, 0x0800, 0) if family == socket.AF_INET else (
        ICMP6, 0x8000, 0x8100)
    account.add(src, dst, 0, request, protocol, octets * count, pieces * count)
    account.add(dst, src, 0, answer, protocol, octets * count, pieces * count)


class Injector:
    """Puts built frames on an interface and keeps the account."""

    def __init__(self, namespace, interface, target, account):
        self.raw = namespace.raw_socket(interface)
        self.src, self.dst = mac(interface), mac(target)
        self.account = account

    def send(self, packet, flow, octets=None, **options):
        self.raw.send(ethernet(packet, self.src, self.dst, **options))
        self.account.add(*flow, len(packet) if octets is None else octets)

    def close(self):
        self.raw.close()


def crafted_mix(inject):
    """Frames of every kind the key knows, to addresses nobody has: nothing answers."""
    a4, b4, a6, b6 = '10.77.0.1', '10.77.0.2', 'fd77::1', 'fd77::2'
    for n in range(1, 6):
        inject.send(ip4(a4, b4, UDP, udp(100, n, bytes(n))), (a4, b4, 100, n, UDP), pad=60)
        inject.send(ip6(a6, b6, UDP, udp(100, n, bytes(n))), (a6, b6, 100, n, UDP), pad=80)
    for kind, vlan in ((0x8100, 100), (0x88a8, 200)):
        inject.send(ip4(a4, b4, UDP, udp(vlan, 1, bytes(64))), (a4, b4, vlan, 1, UDP),
                    tags=[(kind, vlan)])
        inject.send(ip6(a6, b6, UDP, udp(vlan, 1, bytes(64))), (a6, b6, vlan, 1, UDP),
                    tags=[(kind, vlan)])
    for packet, flow in ((ip4(a4, b4, TCP, tcp(300, 80, SYN)), (a4, b4, 300, 80, TCP)),
                         (ip6(a6, b6, TCP, tcp(300, 80, SYN)), (a6, b6, 300, 80, TCP))):
        inject.send(packet, flow, tags=[(0x88a8, 300), (0x8100, 301)])
    for flags in (SYN, ACK, PSH | ACK, FIN | ACK):
        inject.send(ip4(a4, b4, TCP, tcp(401, 80, flags, b'xy'), tos=0xb8),
                    (a4, b4, 401, 80, TCP), pad=64)
    options = bytes([7, 7, 4, 0, 0, 0, 0, 0])
    inject.send(ip4(a4, b4, UDP, udp(500, 1, b'abc'), options=options), (a4, b4, 500, 1, UDP))
    hop = packets.extension(60) + packets.extension(UDP, 16)
    inject.send(ip6(a6, b6, 0, udp(501, 1, b'abc'), extensions=hop), (a6, b6, 501, 1, UDP))
    for protocol, payload, ports in ((packets.SCTP, packets.sctp(600, 601, bytes(16)), (600, 601)),
                                     (packets.UDPLITE, udp(610, 611, bytes(9)), (610, 611)),
                                     (packets.DCCP, udp(620, 621, bytes(9)), (620, 621)),
                                     (packets.GRE, bytes([0, 0, 8, 0]) + bytes(40), (0, 0)),
                                     (50, bytes(64), (0, 0)), (253, b'', (0, 0))):
        inject.send(ip4(a4, b4, protocol, payload), (a4, b4, *ports, protocol))
        inject.send(ip6(a6, b6, protocol, payload), (a6, b6, *ports, protocol))
    for kind, code in ((0, 0), (3, 1), (3, 13), (8, 0), (11, 0), (13, 0), (255, 255)):
        inject.send(ip4(a4, b4, ICMP, icmp(kind, code, bytes(28))),
                    (a4, b4, 0, kind * 256 + code, ICMP))
    for kind, code in ((1, 4), (2, 0), (3, 1), (128, 0), (129, 0), (255, 255)):
        inject.send(ip6(a6, b6, ICMP6, icmp(kind, code, bytes(40))),
                    (a6, b6, 0, kind * 256 + code, ICMP6))
    crafted_fragments(inject, a4, b4, a6, b6)
    for address, other in (('0.0.0.0', '255.255.255.255'), ('255.255.255.254', '0.0.0.1')):
        inject.send(ip4(address, other, UDP, udp(0, 65535)), (address, other, 0, 65535, UDP))
    top = 'ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff'
    inject.send(ip6(top, '::', UDP, udp(65535, 0)), (top, '::', 65535, 0, UDP))
    # The same port and address on both sides.
    inject.send(ip4(a4, a4, UDP, udp(7, 7, b'!')), (a4, a4, 7, 7, UDP))


def crafted_fragments(inject, a4, b4, a6, b6):
    """In order, without the first, and out of order (the part before the first has no ports)."""
    whole = udp(700, 701, bytes(1000))
    for offset in (0, 504, 1000):
        inject.send(ip4(a4, b4, UDP, whole[offset:offset + 504], ident=1, more=offset < 1000,
                        offset=offset), (a4, b4, 700, 701, UDP))
        part = whole[offset:offset + 504]
        inject.send(ip6(a6, b6, 44, part, extensions=packets.fragment6(UDP, offset, offset < 1000,
                                                                       1)),
                    (a6, b6, 700, 701, UDP))
    inject.send(ip4(a4, b4, UDP, bytes(100), ident=2, offset=504), (a4, b4, 0, 0, UDP))
    inject.send(ip6(a6, b6, 44, bytes(100), extensions=packets.fragment6(UDP, 504, False, 2)),
                (a6, b6, 0, 0, UDP))
    # Headers behind the fragment header: later fragments name the header, not the transport.
    behind = packets.extension(UDP) + udp(710, 711, bytes(592))
    for offset in (0, 304):
        inject.send(ip6(a6, b6, 44, behind[offset:offset + 304],
                        extensions=packets.fragment6(60, offset, offset == 0, 9)),
                    (a6, b6, 710, 711, UDP))
    inject.send(ip4(a4, b4, TCP, bytes(64), ident=3, offset=1480), (a4, b4, 0, 0, TCP))
    inject.send(ip4(a4, b4, TCP, tcp(702, 703, ACK, bytes(60)), ident=3, more=True),
                (a4, b4, 702, 703, TCP))
    inject.send(ip4(a4, b4, TCP, bytes(64), ident=3, offset=80, more=True),
                (a4, b4, 702, 703, TCP))
