#!/usr/bin/python3
# SPDX-License-Identifier: Apache-2.0
"""More flows than the table has room for: what finds no slot is exported with reason 5 or counted
by name, never dropped in silence, and what is in the table stays exact."""
import mmap
import os
import socket
import time

from lib import tap
from lib.collect import Nfcapd, TcpListener, json_flow
from lib.daemon import Flowmond
from lib.net import Lab, couple, wait_until
from lib.packets import Account
from lib.tap import case, check, equal
from lib.traffic import send_udp

FLOWS = 30000
SIZE = 32
MMAPABLE = 1 << 10  # BPF_F_MMAPABLE


def flood(sender, source, target, count):
    """A datagram for each of count flows; returns packets and octets. The other end is silent."""
    with sender.socket(socket.AF_INET, socket.SOCK_DGRAM) as out:
        out.bind((source, 7))
        for flow in range(count):
            out.sendto(bytes(SIZE), (target, 20000 + flow))
    return count, count * (28 + SIZE)


def alone(daemon):
    """Records of packets that travelled by the ring, and packets; one direction is all there is."""
    found = [record['packetDeltaCount'] for record in daemon.json_records()
             if record['flowEndReason'] == 5 and not record['flowmondFlowAggregation']]
    return len(found), sum(found)


def map_octets(daemon):
    """Of all maps that the daemon holds, each once; those that can be mapped have whole pages."""
    maps, folder = {}, '/proc/%d/fdinfo' % daemon.process.popen.pid
    for name in os.listdir(folder):
        with open(os.path.join(folder, name), encoding='ascii') as file:
            info = dict(line.split(':', 1) for line in file if ':' in line)
        if 'map_id' in info:
            octets = int(info['max_entries']) * int(info['value_size'])
            if int(info['map_flags'], 0) & MMAPABLE:
                octets = -(-octets // mmap.PAGESIZE) * mmap.PAGESIZE
            maps[int(info['map_id'])] = octets
    return sum(maps.values())


@case('the status: observed, closed, waiting, the time, the memory of the tables')
def figures():
    with Lab('figures') as lab:
        a, m = lab.ns('a'), lab.ns('m')
        couple(lab, a, 'a0', m, 'm0', 1)
        began = time.monotonic()
        settings = {'collector main': {'address': '127.0.0.1:4739', 'transport': 'tcp',
                                       'spool': 'no', 'reconnect_interval': '200ms'},
                    'json': {'file': lab.path('flowmond.json')},
                    'flows': {'max': 4096, 'idle_timeout': '1s', 'sweep_interval': '100ms'}}
        daemon = Flowmond(m, settings)
        memory = daemon.status()['table_octets'], map_octets(daemon)
        sent = Account()
        for port in range(5):
            send_udp(sent, a, '10.1.0.1', 10 + port, m, '10.1.0.2', 4, 20, 100)
        wait_until(lambda: daemon.status()['closed_conversations'] >= 5, 20, 'the ends')
        status = daemon.status()
        seen, again = (status['counters'][name] for name in ('seen', 'again'))
        equal('observed', (status['observed_packets'], status['observed_octets']),
              (seen['packets'] - again['packets'], seen['octets'] - again['octets']))
        equal('made, and closed', status['exported_packets'], sent.packets())
        elapsed = (time.monotonic() - began) * 1000
        check('uptime', 1000 <= status['uptime_ms'] <= elapsed, (status['uptime_ms'], elapsed))
        check('messages wait for the collector', status['sinks'][0]['waiting_messages'] > 0, status)
        listener = TcpListener(m)
        wait_until(lambda: daemon.status()['sinks'][0]['waiting_messages'] == 0, 10, 'none to wait')
        settings['flows']['max'] = 8192
        daemon.reload(settings)
        wait_until(lambda: daemon.status()['max_flows'] == 8192, 10, 'the reload')
        wait_until(lambda: map_octets(daemon) - memory[1] ==
                   daemon.status()['table_octets'] - memory[0] > 0, 10,
                   'tables to be as large as their maps')
        daemon.stop()
        equal('received', sum(record['packets'] for record in listener.stop()), sent.packets())


@case('a full table: exported with reason 5 or counted as lost, sum exact')
def full_table():
    with Lab('full') as lab:
        a, m = lab.ns('a'), lab.ns('m')
        couple(lab, a, 'a0', m, 'm0', 1)
        # Nobody answers a datagram to a closed port: the flood is all there is.
        m.run('nft', 'add table ip quiet')
        m.run('nft', 'add chain ip quiet out { type filter hook output priority 0 ; }')
        m.run('nft', 'add rule ip quiet out icmp type destination-unreachable drop')
        collector = Nfcapd(m)
        daemon = Flowmond(m, {'collector main': {'address': collector.address()},
                              'json': {'file': lab.path('flowmond.json')},
                              'flows': {'max': 1024, 'idle_timeout': '1h', 'active_timeout': '1h',
                                        'sweep_interval': '100ms'}})
        kept = Account()
        send_udp(kept, a, '10.1.0.1', 3, m, '10.1.0.2', 4, 20, 100)
        packets, octets = flood(a, '10.1.0.1', '10.1.0.2', FLOWS)
        send_udp(kept, a, '10.1.0.1', 3, m, '10.1.0.2', 4, 20, 100)
        wait_until(lambda: daemon.status()['reasons']['resources'] > 0, 5, 'records of reason 5')
        counters = daemon.status()['counters']
        wait_until(lambda: alone(daemon)[1] == daemon.status()['counters']['overflow']['packets'], 10,
                   'all of the ring')
        equal('conversations from the ring', daemon.status()['overflow_conversations'],
              alone(daemon)[0])
        daemon.stop()
        records = [r for r in map(json_flow, daemon.json_records()) if r['flow'][4] == 17]
        lost = counters['overflow_lost']
        # The flow that was there first too: on a CPU whose table is full it has no slot either.
        equal('packets', sum(r['packets'] for r in records) + lost['packets'],
              packets + kept.packets())
        equal('octets', sum(r['octets'] for r in records) + lost['octets'],
              octets + kept.octets())
        by_reason = [sum(r['packets'] for r in records if r['reason'] == reason)
                     for reason in (4, 5)]
        equal('reason 5 is what the ring and aggregates took', by_reason[1],
              counters['overflow']['packets'] + counters['coarse']['packets'])
        check('the table was filled and overran', by_reason[0] > 1000 and by_reason[1] > 1000,
              by_reason)
        collector.stop()
        seen = [r for r in collector.records() if r['flow'][4] == 17]
        equal('nfdump: packets', sum(r['packets'] for r in seen), sum(r['packets'] for r in records))


if __name__ == '__main__':
    tap.require_root()
    tap.main()
