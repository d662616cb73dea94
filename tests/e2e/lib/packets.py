# SPDX-License-Identifier: Apache-2.0
"""Builds frames octet by octet, and keeps the sender's own account of what it sent.

A flow is (source, destination, source port, destination port, protocol); for ICMP the ports are 0
and type * 256 + code, as in nfdump. An account maps flows to [packets, IP octets].
"""
import ipaddress
import struct

TCP, UDP, ICMP, ICMP6, SCTP, UDPLITE, DCCP, GRE = 6, 17, 1, 58, 132, 136, 33, 47
FIN, SYN, RST, PSH, ACK = 1, 2, 4, 8, 16


def checksum(data):
    if len(data) % 2:
        data += b'\0'
    total = sum(struct.unpack('!%dH' % (len(data) // 2), data))
    while total >> 16:
        total = (total & 0xffff) + (total >> 16)
    return ~total & 0xffff


def packed(address):
    return ipaddress.ip_address(address).packed


def tcp(sport, dport, flags, payload=b'', seq=0, ack=0):
    return struct.pack('!HHIIBBHHH', sport, dport, seq, ack, 5 << 4, flags, 65535, 0, 0) + payload


def udp(sport, dport, payload=b''):
    return struct.pack('!HHHH', sport, dport, 8 + len(payload), 0) + payload


def sctp(sport, dport, chunks=b''):
    return struct.pack('!HHII', sport, dport, 1, 0) + chunks


def icmp(kind, code=0, payload=b''):
    head = struct.pack('!BBHHH', kind, code, 0, 7, 1)
    return head[:2] + struct.pack('!H', checksum(head + payload)) + head[4:] + payload


def ip4(src, dst, protocol, payload, ttl=64, tos=0, ident=0, more=False, offset=0, options=b''):
    """offset: of the fragment, in octets."""
    ihl = 5 + len(options) // 4
    head = struct.pack('!BBHHHBBH4s4s', 4 << 4 | ihl, tos, ihl * 4 + len(payload), ident,
                       (0x2000 if more else 0) | offset // 8, ttl, protocol, 0, packed(src),
                       packed(dst)) + options
    return head[:10] + struct.pack('!H', checksum(head)) + head[12:] + payload


def ip6(src, dst, protocol, payload, hop_limit=64, traffic_class=0, extensions=b''):
    """protocol: of the first extension header if there are any."""
    return struct.pack('!IHBB16s16s', 6 << 28 | traffic_class << 20,
                       len(extensions) + len(payload), protocol, hop_limit, packed(src),
                       packed(dst)) + extensions + payload


def extension(following, length=8):
    """A hop-by-hop or destination options header of padding."""
    return struct.pack('!BBBB', following, length // 8 - 1, 1, length - 4) + bytes(length - 4)


def fragment6(following, offset, more, ident):
    return struct.pack('!BBHI', following, 0, offset | (1 if more else 0), ident)


def ethernet(packet, src, dst, tags=(), kind=None, pad=0):
    """tags: (TPID, VLAN) from the outside in. pad: octets of padding to this frame size."""
    def hardware(text):
        return bytes.fromhex(text.replace(':', ''))
    if kind is None:
        kind = 0x0800 if packet[0] >> 4 == 4 else 0x86dd
    frame = hardware(dst) + hardware(src)
    for tpid, vlan in tags:
        frame += struct.pack('!HH', tpid, vlan)
    frame += struct.pack('!H', kind) + packet
    return frame + bytes(max(0, pad - len(frame)))


class Account:
    """What was sent, flow by flow."""

    def __init__(self):
        self.flows = {}

    def add(self, src, dst, sport, dport, protocol, octets, packets=1):
        flow = (str(ipaddress.ip_address(src)), str(ipaddress.ip_address(dst)), sport, dport,
                protocol)
        entry = self.flows.setdefault(flow, [0, 0])
        entry[0] += packets
        entry[1] += octets

    def join(self, other):
        for flow, (packets, octets) in other.items():
            entry = self.flows.setdefault(flow, [0, 0])
            entry[0] += packets
            entry[1] += octets

    def packets(self):
        # At once: another thread may be sending.
        return sum(entry[0] for entry in list(self.flows.values()))

    def octets(self):
        return sum(entry[1] for entry in list(self.flows.values()))
