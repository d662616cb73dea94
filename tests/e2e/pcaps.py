#!/usr/bin/python3
# SPDX-License-Identifier: Apache-2.0
"""Real captures replayed: flows, packets and octets as tshark reads them from the file, at ingress
(VLAN tags taken out by the kernel) and at egress (tags in the packet); by outer headers and, where
there are tunnels, by inner ones."""
import glob
import os
import re
import struct
import sys

from lib import tap
from lib.collect import Nfcapd, account, json_flow, json_tunnel
from lib.daemon import Flowmond
from lib.net import Lab
from lib.tap import Skip, equal
from lib.truth import read_capture

FOLDER = os.environ.get('FLOWMOND_PCAPS') or os.path.join(
    os.path.dirname(os.path.realpath(__file__)), '..', '..', '..', 'shared', 'pcaps')
ETHERNET, RAW, SLL = 1, 101, 113
# Captures with tunnels, and their types; some only look like it.
TUNNELS = {'4in6tunnel': [5], '6in4tunnel': [6], 'geneve': [2], 'icmp-tunnel': [], 'ipv6_in_gtp': [7],
           'mpls-over-udp': [8], 'pppoe': [], 'vxlan': [1]}


def read_pcap(path):
    """Link type and frames of a pcap or pcapng file."""
    with open(path, 'rb') as file:
        data = file.read()
    order = {b'\xd4\xc3\xb2\xa1': '<', b'\x4d\x3c\xb2\xa1': '<', b'\xa1\xb2\xc3\xd4': '>',
             b'\xa1\xb2\x3c\x4d': '>'}.get(data[:4])
    if data[:4] == b'\x0a\x0d\x0d\x0a':
        return read_pcapng(data)
    if order is None:
        raise Skip('not a capture file')
    link = struct.unpack(order + 'I', data[20:24])[0] & 0xffff
    frames, at = [], 24
    while at + 16 <= len(data):
        size = struct.unpack(order + 'I', data[at + 8:at + 12])[0]
        frames.append(data[at + 16:at + 16 + size])
        at += 16 + size
    return link, frames


def read_pcapng(data):
    """Blocks 1 (interface), 6 (enhanced packet), 3 (simple packet); one link type only."""
    order = '<' if data[8:12] == b'\x4d\x3c\x2b\x1a' else '>'
    links, frames, at = set(), [], 0
    while at + 12 <= len(data):
        kind, length = struct.unpack(order + 'II', data[at:at + 8])
        body = data[at + 8:at + length - 4]
        if kind == 1:
            links.add(struct.unpack(order + 'H', body[:2])[0])
        elif kind == 6:
            frames.append(body[20:20 + struct.unpack(order + 'I', body[12:16])[0]])
        elif kind == 3:
            frames.append(body[4:4 + struct.unpack(order + 'I', body[:4])[0]])
        at += max(12, length)
    if len(links) != 1:
        raise Skip('link types %s in one file' % sorted(links))
    return links.pop(), frames


def counted(daemon):
    """Named counters of the daemon as {name: packets}."""
    return {name: value['packets'] for name, value in daemon.status()['counters'].items()}


def replay_ethernet(path, frames):
    """tcpreplay into a veth pair, flowmond on both ends."""
    with Lab('pcap') as lab:
        a, m = lab.ns('a'), lab.ns('m')
        for namespace in (a, m):
            namespace.sysctl('net/ipv6/conf/default/disable_ipv6', 1)
        lab.veth(a, 'a0', m, 'm0', mtu=65535)
        collector = Nfcapd(m)
        ingress = Flowmond(m, {'collector main': {'address': collector.address(), 'rate': '0'},
                               'json': {'file': lab.path('in.json')}}, name='in')
        egress = Flowmond(a, {'json': {'file': lab.path('out.json')}}, name='out')
        said = a.run('tcpreplay', '-q', '--topspeed', '-i', 'a0', path, seconds=120)
        done = re.search(r'Successful packets:\s+(\d+)', said)
        equal('packets tcpreplay sent', done and int(done.group(1)), len(frames))
        counters = {'in': counted(ingress), 'out': counted(egress)}
        ingress.stop()
        egress.stop()
        records = collector.stop()
        truth = read_capture(path)
        compare('ingress, nfdump', records, truth)
        compare('ingress, json', list(map(json_flow, ingress.json_records())), truth)
        compare('egress, json', list(map(json_flow, egress.json_records())), truth)
        for name, values in counters.items():
            equal('%s: ignored' % name, {what: values[what] for what in truth.other},
                  {what: count[0] for what, count in truth.other.items()})
        vlans = {record['flow']: record['vlan'] for record in records}
        equal('VLANs', vlans, truth.vlans)


def compare(what, records, truth):
    equal(what, account(records).flows, truth.flows.flows)
    equal(what + ': one record a flow', len(records), len(truth.flows.flows))


def replay_inner(path, types):
    """The same with tunnel = inner, by what tshark has as innermost IP header."""
    frames = read_pcap(path)[1]
    with Lab('pcapin') as lab:
        a, m = lab.ns('a'), lab.ns('m')
        for namespace in (a, m):
            namespace.sysctl('net/ipv6/conf/default/disable_ipv6', 1)
        lab.veth(a, 'a0', m, 'm0', mtu=65535)
        daemons = [Flowmond(namespace, {'flows': {'tunnel': 'inner'},
                                        'json': {'file': lab.path(name + '.json')}}, name=name)
                   for namespace, name in ((m, 'in'), (a, 'out'))]
        said = a.run('tcpreplay', '-q', '--topspeed', '-i', 'a0', path, seconds=120)
        done = re.search(r'Successful packets:\s+(\d+)', said)
        equal('packets tcpreplay sent', done and int(done.group(1)), len(frames))
        truth = read_capture(path, inner=True)
        equal('types of tunnels', sorted({entry[0] for entry in truth.tunnels.values()}), types)
        for daemon, what in zip(daemons, ('ingress', 'egress')):
            counters = counted(daemon)
            daemon.stop()
            records = daemon.json_records()
            compare(what, list(map(json_flow, records)), truth)
            equal(what + ': tunnels', {json_flow(record)['flow']: json_tunnel(record)
                                       for record in records if 'tunnelType' in record},
                  truth.tunnels)
            equal(what + ': packets in tunnels, not looked into, deeper',
                  [counters['tunnel_' + name] for name in ('headers', 'undecoded', 'deep')],
                  [truth.tunnelled, 0, 0])


def replay_layer3(path, frames, strip):
    """Packets without Ethernet header go into a tun device."""
    import hotplug
    with Lab('pcapl3') as lab:
        m = lab.ns('m')
        device = hotplug.open_tun(m, 'tun0', hotplug.IFF_TUN)
        m.ip('link set tun0 mtu 65535')
        daemon = Flowmond(m, {'json': {'file': lab.path('flowmond.json')}})
        hotplug.wait_attached(m, 'tun0')
        for frame in frames:
            os.write(device, frame[strip:])
        seen = counted(daemon)['seen']
        equal('packets seen', seen, len(frames))
        daemon.stop()
        os.close(device)
        compare('json', list(map(json_flow, daemon.json_records())), read_capture(path))


def replay(path):
    link, frames = read_pcap(path)
    if link == ETHERNET:
        replay_ethernet(path, frames)
    elif link == RAW:
        replay_layer3(path, frames, 0)
    elif link == SLL:
        replay_layer3(path, frames, 16)
    else:
        raise Skip('link type %d' % link)


if __name__ == '__main__':
    tap.require_root()
    captures = sorted(glob.glob(os.path.join(FOLDER, '*.pcap')))
    if not captures:
        print('1..0 # SKIP no captures in ../shared/pcaps or $FLOWMOND_PCAPS')
        sys.exit(0)
    for capture in captures:
        name = os.path.basename(capture)
        tap.add_case(name, replay, capture)
        types = TUNNELS.get(name.partition('.')[0])
        if types is not None:
            tap.add_case(name + ', inner flows', replay_inner, capture, types)
    tap.main()
