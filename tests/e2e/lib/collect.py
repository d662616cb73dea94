# SPDX-License-Identifier: Apache-2.0
"""Collectors as they are in the field (nfcapd, nfacctd, tshark) and our TCP listener, each giving
back flows as accounts: {(source, destination, sport, dport, protocol): [packets, octets]}."""
import csv
import io
import ipaddress
import json
import os
import re
import signal
import subprocess
import time

from lib import packets
from lib.daemon import BUILD
from lib.machine import Disturbed
from lib.net import wait_until
from lib.tap import Failure

LISTENER = os.path.join(BUILD, 'tests', 'tools', 'ipfix-tcp-listener')


def account(records):
    """Sums records (each with 'flow', 'packets', 'octets') by flow."""
    sums = packets.Account()
    for record in records:
        sums.add(*record['flow'], record['octets'], record['packets'])
    return sums


class Collector:
    """What all have: where they listen."""
    host, port = '127.0.0.1', 0

    def address(self):
        return ('[%s]:%d' if ':' in self.host else '%s:%d') % (self.host, self.port)


class Nfcapd(Collector):
    """Debian's nfcapd. stop() gives its records by nfdump, in the order they arrived. buffer: octets of
    its socket; None: as the system has it."""

    def __init__(self, namespace, port=9995, host='127.0.0.1', rotate=3600, buffer=4000000):
        self.namespace, self.port, self.host = namespace, port, host
        self.dir = namespace.lab.path('nfcapd-%d-%d' % (port, len(namespace.lab.children)))
        os.mkdir(self.dir)
        family = '-6' if ':' in host else '-4'
        self.process = namespace.start('nfcapd', family, '-b', host, '-p', port, '-w', self.dir,
                                       '-t', rotate, *(['-B', buffer] if buffer else []),
                                       log='nfcapd')
        table = 'udp6' if ':' in host else 'udp'
        wait_until(lambda: namespace.sockets(table, port), 10, 'nfcapd')

    def stop(self):
        self._drain()
        dropped = sum(int(words[-1]) for table in ('udp', 'udp6')
                      for words in self.namespace.sockets(table, self.port))
        self.process.stop()
        if dropped:
            raise Disturbed('nfcapd was too slow for %d datagrams' % dropped)
        return self.records()

    def _drain(self):
        """Waits until the socket's queue is empty: nothing that arrived is thrown away."""
        def empty():
            return all(words[4].endswith(':00000000') for table in ('udp', 'udp6')
                       for words in self.namespace.sockets(table, self.port))
        wait_until(empty, 10, 'nfcapd to read its socket')

    def sequence_errors(self):
        """Sequence errors and bad packets, as nfcapd reports them when it ends."""
        found = re.findall(r'Sequence Errors: (\d+), Bad Packets: (\d+)', self.process.log())
        return [sum(int(value) for value in column) for column in zip(*found)] or [0, 0]

    def records(self):
        """What is in the files that are complete; with rotate = 2, also while it runs."""
        records = []
        for name in sorted(os.listdir(self.dir)):
            if 'current' in name:
                continue
            run = subprocess.run(['nfdump', '-r', os.path.join(self.dir, name), '-o', 'json'],
                                 stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
                                 timeout=120, check=False)
            if '{' in run.stdout:
                records += json.loads(run.stdout[run.stdout.find('['):])
        return [self._record(entry) for entry in records]

    @staticmethod
    def _record(entry):
        src = entry.get('src4_addr') or entry.get('src6_addr')
        dst = entry.get('dst4_addr') or entry.get('dst6_addr')
        protocol = entry['proto']
        if 'icmp_type' in entry:
            ports = 0, entry['icmp_type'] * 256 + entry['icmp_code']
        else:
            ports = entry.get('src_port', 0), entry.get('dst_port', 0)
        return {'flow': (str(ipaddress.ip_address(src)), str(ipaddress.ip_address(dst)), *ports,
                         protocol),
                'packets': entry.get('in_packets', 0), 'octets': entry.get('in_bytes', 0),
                'rev_packets': entry.get('out_packets', 0),
                'rev_octets': entry.get('out_bytes', 0),
                'in': entry.get('input_snmp', 0), 'out': entry.get('output_snmp', 0),
                'direction': entry.get('direction', 0), 'vlan': entry.get('src_vlan', 0),
                'tcp_flags': entry.get('tcp_flags', '........'), 'tos': entry.get('src_tos', 0),
                'first': entry['first'], 'last': entry['last']}


class Nfacctd(Collector):
    """pmacct's nfacctd; stop() gives the sums it wrote. scales: it applies what it is told of samplers."""

    def __init__(self, namespace, port=9996, host='127.0.0.1', scales=False):
        self.port, self.host = port, host
        self.output = namespace.lab.path('nfacctd-%d.csv' % port)
        config = namespace.lab.path('nfacctd-%d.conf' % port)
        with open(config, 'w', encoding='ascii') as file:
            file.write('daemonize: false\nnfacctd_ip: %s\nnfacctd_port: %d\nplugins: print\n'
                       'aggregate: src_host,dst_host,src_port,dst_port,proto\n'
                       'print_output: csv\nprint_output_file: %s\nprint_refresh_time: 3600\n'
                       'print_num_protos: true\nprint_cache_entries: 65537\n'
                       'nfacctd_pipe_size: 4000000\nnfacctd_renormalize: %s\n'
                       'plugin_buffer_size: 10240\nplugin_pipe_size: 4096000\n' % (
                           host, port, self.output, 'true' if scales else 'false'))
        self.process = namespace.start('nfacctd', '-f', config, log='nfacctd')
        wait_until(lambda: namespace.sockets('udp', port), 10, 'nfacctd')

    def stop(self):
        time.sleep(0.5)
        self.process.popen.send_signal(signal.SIGINT)
        self.process.wait(15)
        wait_until(lambda: os.path.exists(self.output), 10, 'what nfacctd wrote')
        with open(self.output, encoding='ascii') as file:
            return [self._record(row) for row in csv.DictReader(io.StringIO(file.read()))
                    if row.get('SRC_IP')]

    @staticmethod
    def _record(row):
        return {'flow': (str(ipaddress.ip_address(row['SRC_IP'])),
                         str(ipaddress.ip_address(row['DST_IP'])), int(row['SRC_PORT']),
                         int(row['DST_PORT']), int(row['PROTOCOL'])),
                'packets': int(row['PACKETS']), 'octets': int(row['BYTES'])}


class TcpListener(Collector):
    """Our listener that decodes IPFIX over TCP by libfixbuf; stop() gives its records. Whatever a
    careful collector would mind makes it end with a status that is not 0."""

    def __init__(self, namespace, port=4739, host='127.0.0.1'):
        self.port, self.host = port, host
        self.process = namespace.start(LISTENER, host, port, log='listener')
        wait_until(lambda: 'listening' in self.process.log(), 10, 'the listener')

    def lines(self):
        """Whole ones: the last may be under way."""
        text = self.process.log()
        return [json.loads(line) for line in text[:text.rfind('\n') + 1].splitlines()]

    def stop(self):
        status = self.process.stop()
        lines = self.lines()
        if status:
            raise Failure('the listener ended with status %d:\n%s' % (status, '\n'.join(
                line['text'] for line in lines if line.get('event') == 'error')))
        return [json_flow(line) for line in lines if 'event' not in line and 'options' not in line]


def json_flow(record):
    """A line of flowmond's JSON as (flow, packets, octets)."""
    src = record.get('sourceIPv4Address') or record.get('sourceIPv6Address')
    dst = record.get('destinationIPv4Address') or record.get('destinationIPv6Address')
    code = record.get('icmpTypeCodeIPv4', record.get('icmpTypeCodeIPv6'))
    ports = (0, code) if code is not None else (record['sourceTransportPort'],
                                                record['destinationTransportPort'])
    return {'flow': (str(ipaddress.ip_address(src)), str(ipaddress.ip_address(dst)), *ports,
                     record['protocolIdentifier']),
            'packets': record['packetDeltaCount'], 'octets': record['octetDeltaCount'],
            'in': record['ingressInterface'], 'out': record['egressInterface'],
            'direction': record['flowDirection'], 'reason': record['flowEndReason'],
            'rev_packets': record.get('reversePacketDeltaCount', 0),
            'rev_octets': record.get('reverseOctetDeltaCount', 0),
            'vlan': record.get('vlanId', 0)}


def json_tunnel(record):
    """The tunnel of a line of JSON as (type, id, outer source, outer destination), None for absent."""
    ends = [record.get('outer%sIPv4Address' % end) or record.get('outer%sIPv6Address' % end)
            for end in ('Source', 'Destination')]
    return (record.get('tunnelType'), record.get('tunnelId'),
            *(str(ipaddress.ip_address(end)) if end else None for end in ends))


def malformed(capture, port, *options):
    """Packets of the capture in which tshark's cflow dissector finds a fault; its own words."""
    run = subprocess.run(['tshark', '-r', capture, '-n', '-o', 'cflow.max_template_fields:0', '-d',
                          'udp.port==%d,cflow' % port, '-d',
                          'tcp.port==%d,cflow' % port, *options, '-V'], stdout=subprocess.PIPE,
                         stderr=subprocess.DEVNULL, text=True, timeout=120, check=True)
    bad = [line.strip() for line in run.stdout.splitlines()
           if re.search(r'Malformed|No template found|Expert Info \((Error|Warning)/(Mal|Proto)',
                        line)]
    return bad, len(re.findall(r'^\s+Flow \d+', run.stdout, re.M))
