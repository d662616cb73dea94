# SPDX-License-Identifier: Apache-2.0
"""What tshark says of a capture, summed up by flow: the account flowmond is compared with.

Reads one line of fields a packet and applies the rules of the flow key: the outermost IP header
counts, or the one in the innermost tunnel; octets are the IP length or what was captured of it; later
fragments join the first one if that came before, else their ports are 0; ICMP is told apart by type
and code.
"""
import os
import re
import subprocess
import time

from lib import packets
from lib.machine import Disturbed
from lib.net import wait_until

FIELDS = ['frame.cap_len', 'frame.protocols', 'ip.src', 'ip.dst', 'ip.proto', 'ip.len',
          'ip.hdr_len', 'ip.version', 'ip.frag_offset', 'ip.flags.mf', 'ip.id', 'ipv6.src',
          'ipv6.dst', 'ipv6.nxt', 'ipv6.plen', 'ipv6.version', 'ipv6.hopopts.nxt',
          'ipv6.routing.nxt', 'ipv6.dstopts.nxt', 'ipv6.fraghdr.nxt', 'ipv6.fraghdr.offset',
          'ipv6.fraghdr.more', 'ipv6.fraghdr.ident', 'ah.next_header', 'tcp.srcport',
          'tcp.dstport', 'udp.srcport', 'udp.dstport', 'sctp.srcport', 'sctp.dstport',
          'dccp.srcport', 'dccp.dstport', 'icmp.type', 'icmp.code', 'icmpv6.type',
          'icmpv6.code', 'vlan.id', 'ieee8021ad.id', 'mpls.label']
TAGS = {'vlan': 'vlan.id', 'ieee8021ad': 'ieee8021ad.id'}
# What else may lie below IP: link layers and what is gone through, PPPoE sessions and labels.
BELOW_IP = {'eth', 'ethertype', 'sll', 'raw', 'pppoes', 'ppp', 'mpls'}
# What lies between two IP headers, without link layers: the tunnel's type and the field of its id.
TUNNELS = {('udp', 'vxlan'): (1, 'vxlan.vni'), ('udp', 'geneve'): (2, 'geneve.vni'),
           ('gre',): (3, 'gre.key'), ('udp', 'gtp'): (7, 'gtp.teid'), ('udp', 'mpls'): (8, None)}
IN_IP = {'ip': 5, 'ipv6': 6}
PORTS = {packets.TCP: 'tcp', packets.UDP: 'udp', packets.UDPLITE: 'udp', packets.SCTP: 'sctp',
         packets.DCCP: 'dccp'}
EXTENSIONS = {0: 'ipv6.hopopts.nxt', 43: 'ipv6.routing.nxt', 60: 'ipv6.dstopts.nxt',
              44: 'ipv6.fraghdr.nxt', 51: 'ah.next_header'}


def tshark(path, fields, *options):
    """Rows of the file: for each field the list of its values in the packet, outermost first."""
    command = ['tshark', '-r', path, '-n', '-T', 'fields', '-E', 'separator=/t', '-E',
               'occurrence=a', '-E', 'aggregator=|', '-o', 'ip.defragment:FALSE', '-o',
               'ipv6.defragment:FALSE', '-o', 'tcp.desegment_tcp_streams:FALSE', *options]
    for field in fields:
        command += ['-e', field]
    run = subprocess.run(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
                         timeout=120, check=False)
    if run.returncode and 'cut short' not in run.stderr:
        raise RuntimeError('tshark %s: %s' % (path, run.stderr))
    for line in run.stdout.splitlines():
        yield {field: value.split('|') if value else []
               for field, value in zip(fields, line.split('\t'))}


def first(row, field, default=None):
    return row[field][0] if row.get(field) else default


def number(row, field, default=0):
    value = first(row, field)
    return default if value is None else int(value, 0)


def boolean(row, field):
    return first(row, field) in ('1', 'True')


class Reader:
    """Packets of one capture, in order, as (flow, octets, vlan) or None with a reason counted."""

    def __init__(self):
        self.first_fragments = {}
        self.flows = packets.Account()
        self.other = {'not_ip': [0, 0], 'malformed': [0, 0]}
        self.vlans = {}

    def packet(self, row):
        protocols = first(row, 'frame.protocols', '').split(':')
        layer = next((i for i, name in enumerate(protocols) if name in ('ip', 'ipv6')), None)
        tags = [name for name in protocols[:layer] if name in TAGS]
        if layer is None or set(protocols[:layer]) - BELOW_IP - set(TAGS):
            self.other['not_ip'][0] += 1
            return
        there = number(row, 'frame.cap_len')
        if protocols[0] == 'eth':
            there -= 14 + 4 * len(tags) + 8 * protocols[:layer].count('pppoes')
        if 'mpls' in protocols[:layer]:
            there -= 4 * len(row['mpls.label'])
        parsed = self.ip4(row, there) if protocols[layer] == 'ip' else self.ip6(row, there)
        if parsed is None:
            self.other['malformed'][0] += 1
            return
        flow, octets = parsed
        self.flows.add(*flow, octets)
        self.vlans.setdefault(flow, number(row, TAGS[tags[0]]) if tags else 0)

    def ip4(self, row, there):
        if not row['ip.src'] or number(row, 'ip.version') != 4:
            return None
        length, header = number(row, 'ip.len'), number(row, 'ip.hdr_len')
        if length < header or there < header:
            return None
        protocol = number(row, 'ip.proto')
        # Wireshark 4 shows the fragment offset in octets.
        offset, more = number(row, 'ip.frag_offset'), boolean(row, 'ip.flags.mf')
        ends = first(row, 'ip.src'), first(row, 'ip.dst')
        transport = self.transport(row, (*ends, number(row, 'ip.id'), protocol), offset, more,
                                   protocol)
        return (*ends, *transport), min(length, there)

    def ip6(self, row, there):
        if not row['ipv6.src'] or number(row, 'ipv6.version') != 6 or there < 40:
            return None
        length = number(row, 'ipv6.plen') + 40
        protocol, seen, fragment = number(row, 'ipv6.nxt'), {}, False
        while protocol in EXTENSIONS:
            field = EXTENSIONS[protocol]
            values = row[field]
            if seen.get(field, 0) >= len(values):
                break
            fragment = fragment or protocol == 44
            was, protocol = protocol, int(values[seen.get(field, 0)], 0)
            seen[field] = seen.get(field, 0) + 1
            if was == 44 and number(row, 'ipv6.fraghdr.offset'):
                break
        ends = first(row, 'ipv6.src'), first(row, 'ipv6.dst')
        # The field holds units of 8 octets; only whether it is 0 matters here.
        offset = number(row, 'ipv6.fraghdr.offset') if fragment else 0
        more = fragment and boolean(row, 'ipv6.fraghdr.more')
        # Only the first fragment tells the transport where headers follow the fragment header.
        key = (*ends, first(row, 'ipv6.fraghdr.ident'))
        return (*ends, *self.transport(row, key, offset, more, protocol)), min(length, there)

    def transport(self, row, key, offset, more, protocol):
        """(source port, destination port, protocol) of a packet or of its first fragment."""
        if offset:
            return self.first_fragments.get(key, (0, 0, protocol))
        found = 0, 0
        if protocol in PORTS:
            name = PORTS[protocol]
            found = number(row, name + '.srcport'), number(row, name + '.dstport')
        elif protocol == packets.ICMP and ':' not in key[0]:
            found = 0, number(row, 'icmp.type') * 256 + number(row, 'icmp.code')
        elif protocol == packets.ICMP6 and ':' in key[0]:
            found = 0, number(row, 'icmpv6.type') * 256 + number(row, 'icmpv6.code')
        if more:
            self.first_fragments[key] = (*found, protocol)
        return (*found, protocol)


def below(row, names):
    """The row without the values of the layers before the last of these names (a packet's protocols
    up to one of its IP headers)."""
    def before(field):
        parts = field.split('.')
        layer = '.'.join(parts[:2]) if parts[0] == 'ipv6' and len(parts) == 3 else parts[0]
        # Every IPv6 header has an ip.version as well.
        layers = ('ip', 'ipv6') if field == 'ip.version' else (layer,)
        return sum(names[:-1].count(name) for name in layers)
    return {field: values[before(field):] for field, values in row.items()}


class InnerReader(Reader):
    """The same by the innermost IP header that tunnels lead to: what was in none of them counts as it
    is. tunnels: flow -> (type, id, outer source, outer destination) of its first packet."""

    def __init__(self):
        super().__init__()
        self.tunnels, self.tunnelled = {}, 0

    def packet(self, row):
        protocols = first(row, 'frame.protocols', '').split(':')
        layers = [i for i, name in enumerate(protocols) if name in IN_IP]
        tunnel = None
        for layer, inner in zip(layers, layers[1:]):
            between = tuple(name for name in protocols[layer + 1:inner]
                            if name not in ('eth', 'ethertype', *TAGS))
            kind, field = TUNNELS.get(between, (None, None)) if between else (
                IN_IP[protocols[inner]], None)
            if kind is None:
                break
            name = protocols[layer]
            outer = below(row, protocols[:layer + 1])
            tunnel = (kind, number(outer, field, None) if field else None,
                      first(outer, name + '.src'), first(outer, name + '.dst'), inner)
        if tunnel is None:
            super().packet(row)
            return
        inner, self.tunnelled = tunnel[-1], self.tunnelled + 1
        parse = self.ip4 if protocols[inner] == 'ip' else self.ip6
        parsed = parse(below(row, protocols[:inner + 1]), number(row, 'frame.cap_len'))
        flow, octets = parsed
        self.flows.add(*flow, octets)
        self.tunnels.setdefault(flow, tunnel[:-1])


def read_capture(path, inner=False):
    """A Reader that has read the whole file."""
    reader = InnerReader() if inner else Reader()
    ids = [field for _, field in TUNNELS.values() if field] if inner else []
    for row in tshark(path, FIELDS + ids):
        reader.packet(row)
    return reader


class Capture:
    """tcpdump on an interface, to a file; stop() returns the path once everything is in it."""

    def __init__(self, namespace, interface, what='', direction=None):
        self.path = namespace.lab.path('%s-%s.pcap' % (namespace.name[-8:], interface))
        command = ['tcpdump', '-n', '-i', interface, '-U', '--immediate-mode', '-s', '0', '-B', '65536', '-Z', 'root',
                   '-w', self.path]
        if direction:
            command += ['-Q', direction]
        self.process = namespace.start(*command, *what.split(), log='tcpdump')
        wait_until(lambda: 'listening on' in self.process.log(), 10, 'tcpdump')

    def stop(self):
        wait_until(self._settled, 10, 'capture to settle')
        self.process.stop()
        dropped = re.search(r'(\d+) packets? dropped by kernel', self.process.log())
        if not dropped or dropped.group(1) != '0':
            raise Disturbed('the capture is not whole:\n' + self.process.log())
        return self.path

    def _settled(self):
        size = os.path.getsize(self.path)
        time.sleep(0.15)
        return size == os.path.getsize(self.path)
