# SPDX-License-Identifier: Apache-2.0
"""What a device has seen, by a socket of the test's own."""
import ipaddress
import socket
import struct

from lib.machine import Disturbed
from lib.packets import TCP, UDP, Account
from lib.tap import check, equal

ETH_P_ALL, ETH_P_IP, ETH_P_VLAN, ETH_P_IPV6 = 3, 0x0800, 0x8100, 0x86dd
SOL_PACKET, PACKET_STATISTICS = 263, 6


class Wire:
    """Every packet of a device, both ways, summed up by flow as its headers say, without flowmond's
    or tshark's help: these runs also pass in slow virtual machines."""

    def __init__(self, namespace, interface):
        with namespace.inside():
            self.socket = socket.socket(socket.AF_PACKET, socket.SOCK_DGRAM, 0)
        self.socket.setsockopt(socket.SOL_SOCKET, getattr(socket, 'SO_RCVBUFFORCE', 33), 1 << 26)
        self.socket.bind((interface, ETH_P_ALL))
        self.socket.setblocking(False)
        self.first_fragments = {}
        self.account, self.packets = Account(), 0

    def read(self):
        """Takes in what has come; the largest packet that arrived here and the largest sent here."""
        largest = [0, 0]
        while True:
            try:
                packet, sender = self.socket.recvfrom(1 << 17)
            except BlockingIOError:
                return largest
            self.packets += 1
            self.add(packet, sender[1])
            sent = sender[2] == socket.PACKET_OUTGOING
            largest[sent] = max(largest[sent], len(packet))

    def stop(self):
        self.read()
        seen, dropped = struct.unpack('II', self.socket.getsockopt(SOL_PACKET, PACKET_STATISTICS,
                                                                   8))
        self.socket.close()
        if dropped:
            raise Disturbed('a socket of the test dropped %d packets' % dropped)
        equal('packets that the socket has seen', seen, self.packets)
        return self.account

    def add(self, packet, kind):
        if kind == ETH_P_VLAN:
            kind, packet = struct.unpack('!H', packet[2:4])[0], packet[4:]
        if kind == ETH_P_IP:
            octets, ident, fragment, protocol = struct.unpack('!2xHHHxB', packet[:10])
            ends, at = (packet[12:16], packet[16:20]), (packet[0] & 15) * 4
        else:
            check('only IP on the wire', kind == ETH_P_IPV6, hex(kind))
            octets = 40 + struct.unpack('!H', packet[4:6])[0]
            protocol, ident, fragment, at = self.extensions(packet)
            ends = packet[8:24], packet[24:40]
        ports = 0, 0
        if fragment & 0x1fff:
            ports = self.first_fragments[ends, ident]
        elif protocol in (TCP, UDP):
            ports = struct.unpack('!HH', packet[at:at + 4])
        if fragment & 0x2000:
            self.first_fragments[ends, ident] = ports
        self.account.add(*(str(ipaddress.ip_address(end)) for end in ends), *ports, protocol,
                         octets)

    @staticmethod
    def extensions(packet):
        """Protocol, fragment's identification, its offset and flag as IPv4 has them, offset."""
        protocol, at, ident, fragment = packet[6], 40, 0, 0
        while protocol in (0, 43, 44, 60):
            size = 8 + packet[at + 1] * 8
            if protocol == 44:
                place, ident, size = *struct.unpack('!2xHI', packet[at:at + 8]), 8
                fragment = place >> 3 | (place & 1) << 13
            protocol, at = packet[at], at + size
        return protocol, ident, fragment, at
