# SPDX-License-Identifier: Apache-2.0
"""Random records by record-sender over loopback to nfcapd, nfacctd, tshark's dissector and the
libfixbuf listener. Every field a collector keeps is compared, record by record. Options are
record-sender's."""
import concurrent.futures
import csv
import datetime
import io
import ipaddress
import json
import os
import re
import shutil
import socket
import struct
import subprocess
import sys
import tempfile
import threading
import time

sys.path.insert(0, os.path.join(os.path.dirname(os.path.realpath(__file__)), '..', 'e2e'))
import told  # noqa: E402 pylint: disable=wrong-import-position
from lib.tap import Skip, check, equal, note  # noqa: E402 pylint: disable=wrong-import-position

TOOLS = os.path.join(os.environ.get('FLOWMOND_BUILD', 'build'), 'tests', 'tools')
FOLDER = tempfile.TemporaryDirectory(prefix='collectors-')
RECORDS = 1500
SAMPLERS = 3  # of records.h
# What nfdump tells of a record that is the exporter's or its own, and times, which are the sender's.
OF_THE_EXPORT = ('type', 'export_sysid', 'received', 'label', 'first', 'last')
ICMP, ICMP6 = 1, 58
# Elements that stand for kinds of records; all are among so many.
KINDS = ('sourceIPv4Address', 'sourceIPv6Address', 'icmpTypeCodeIPv4', 'icmpTypeCodeIPv6',
         'layer2SegmentId', 'mplsTopLabelStackSection')
SAMPLE = 200
HOSTS = {4: '127.0.0.1', 6: '::1'}
FAMILIES = {4: socket.AF_INET, 6: socket.AF_INET6}
# nfdump writes local time.
ENVIRONMENT = dict(os.environ, TZ='UTC', LC_ALL='C')


def need(*programs):
    for program in programs:
        if not shutil.which(program, path=os.environ['PATH'] + ':/usr/sbin'):
            raise Skip('needs ' + program)


def read(path):
    with open(path, encoding='ascii') as file:
        return file.read()


def free_port(version, kind):
    with socket.socket(FAMILIES[version], kind) as probe:
        probe.bind((HOSTS[version], 0))
        return probe.getsockname()[1]


def wait_until(condition, seconds, what):
    end = time.monotonic() + seconds
    while not condition():
        check('%s within %d s' % (what, seconds), time.monotonic() < end)
        time.sleep(0.02)


def queue_of(version, port):
    """Octets that wait in the UDP socket bound to port; None if there is none."""
    with open('/proc/net/udp' + ('6' if version == 6 else ''), encoding='ascii') as file:
        for line in file.readlines()[1:]:
            words = line.split()
            if words[1].endswith(':%04X' % port):
                return int(words[4].split(':')[1], 16)
    return None


def start(*command):
    return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
                            env=ENVIRONMENT)


def end(process):
    """nfcapd misses a signal that comes between its look and its wait: it is sent again."""
    for _ in range(30):
        process.terminate()
        try:
            return process.communicate(timeout=1)[0]
        except subprocess.TimeoutExpired:
            continue
    return process.communicate(timeout=30)[0]


def send(version, port, options, count=RECORDS):
    """Runs the sender: (records as dictionaries, its sums)."""
    run = subprocess.run([os.path.join(TOOLS, 'record-sender'), '-v', '-n', str(count), *options,
                          HOSTS[version], str(port)], stdout=subprocess.PIPE, text=True,
                         timeout=120, check=True)
    lines = [json.loads(line) for line in run.stdout.splitlines()]
    sums = lines.pop()
    check('all records were given', len(lines) == count == sums['given']['records'], len(lines))
    equal('records sent', sums['sent'], dict(sums['given'], messages=sums['sent']['messages']))
    return lines, sums


def address_of(record, side):
    return str(ipaddress.ip_address(record.get(side + 'IPv4Address') or
                                    record[side + 'IPv6Address']))


def type_code(record):
    return record.get('icmpTypeCodeIPv4', record.get('icmpTypeCodeIPv6'))


MPLS = ('mplsTopLabelStackSection', 'mplsLabelStackSection2', 'mplsLabelStackSection3')


def source(name):
    return read(os.path.join(os.path.dirname(os.path.realpath(__file__)), '..', '..', 'src',
                             'ipfix', name))


def elements(enterprise, table='fields.def'):
    """Numbers and names of the elements of an enterprise, from a table."""
    found = re.findall(r'"(\w+)", %s, (\d+),' % enterprise, source(table))
    return {int(number): name for name, number in found}


def own_elements(biflow):
    """Of flow records, with what only biflows have or without, of the audit and other options."""
    fields = re.findall(r'"(\w+)", FM_PEN_OWN, .*?(FM_F_\w+)', source('fields.def'))
    options = re.findall(r'OWN\(\w+, record\.\w+, "(\w+)"', source('layout-options.c'))
    return sorted([*(name for name, families in fields
                     if biflow or not re.search('BIFLOW|REVERSE', families)),
                   *elements('FM_PEN_OWN', 'audit.def').values(), *options])


def flags_text(bits):
    return ''.join(letter if bits & 1 << 7 - at else '.' for at, letter in enumerate('CEUAPRSF'))


def milliseconds(text):
    moment = datetime.datetime.strptime(text, '%Y-%m-%dT%H:%M:%S.%f')
    since = moment - datetime.datetime(1970, 1, 1)
    return (since.days * 86400 + since.seconds) * 1000 + since.microseconds // 1000


def as_nfdump(record):
    """A sent record in the words of nfdump's JSON; what was not sent is 0 there."""
    code = type_code(record)
    ports = ({'icmp_type': code >> 8, 'icmp_code': code & 255} if code is not None else
             {'src_port': record['sourceTransportPort'],
              'dst_port': record['destinationTransportPort']})
    return {'src': address_of(record, 'source'), 'dst': address_of(record, 'destination'), **ports,
            'proto': record['protocolIdentifier'],
            'first': record['flowStartMilliseconds'], 'last': record['flowEndMilliseconds'],
            'in_packets': record['packetDeltaCount'], 'in_bytes': record['octetDeltaCount'],
            'out_packets': record.get('reversePacketDeltaCount', 0),
            'out_bytes': record.get('reverseOctetDeltaCount', 0),
            'tcp_flags': flags_text(record.get('tcpControlBits', 0)),
            'src_tos': record.get('ipClassOfService', 0),
            'input_snmp': record.get('ingressInterface', 0),
            'output_snmp': record.get('egressInterface', 0),
            'direction': record.get('flowDirection', 0), 'src_vlan': record.get('vlanId', 0),
            'mpls': [record.get(key) or 0 for key in MPLS]}


def from_nfdump(entry):
    record = {key: entry.get(key, 0) for key in (
        'proto', 'in_packets', 'in_bytes', 'out_packets', 'out_bytes', 'src_tos', 'input_snmp',
        'output_snmp', 'direction', 'src_vlan')}
    record['tcp_flags'] = entry.get('tcp_flags', '........')
    record['mpls'] = [int(entry.get('mpls_%d' % at, '0').split('-')[0]) for at in (1, 2, 3)]
    for side in ('src', 'dst'):
        text = entry.get(side + '4_addr') or entry[side + '6_addr']
        record[side] = str(ipaddress.ip_address(text))
    keys = ('icmp_type', 'icmp_code') if 'icmp_type' in entry else ('src_port', 'dst_port')
    record.update({key: entry.get(key, 0) for key in keys})
    record.update({key: milliseconds(entry[key]) for key in ('first', 'last')})
    return record


def by_source(records):
    """Every sent record has a source of its own."""
    keyed = {record['src']: record for record in records}
    check('one record a source', len(keyed) == len(records), (len(keyed), len(records)))
    return keyed


def run_nfcapd(version, options, count):
    folder = tempfile.mkdtemp(dir=FOLDER.name)
    port = free_port(version, socket.SOCK_DGRAM)
    collector = start('nfcapd', '-%d' % version, '-b', HOSTS[version], '-p', str(port), '-w',
                      folder, '-t', '3600', '-B', '4000000')
    try:
        wait_until(lambda: queue_of(version, port) is not None, 10, 'nfcapd')
        sent = send(version, port, options, count)[0]
        wait_until(lambda: queue_of(version, port) == 0, 10, 'nfcapd to read its socket')
    finally:
        log = end(collector)
    name = os.path.join(folder, next(n for n in os.listdir(folder) if n.startswith('nfcapd.2')))
    return sent, log, name


def check_nfcapd(version, options, count=RECORDS):
    need('nfcapd', 'nfdump')
    sent, log, name = run_nfcapd(version, options, count)
    dump = subprocess.run(['nfdump', '-r', name, '-o', 'json'], stdout=subprocess.PIPE, text=True,
                          env=ENVIRONMENT, timeout=60, check=True).stdout
    seen = [from_nfdump(entry) for entry in json.loads(dump)]
    equal('records', by_source(seen), by_source([as_nfdump(record) for record in sent]))
    exporters = subprocess.run(['nfdump', '-E', name], stdout=subprocess.PIPE, text=True,
                               env=ENVIRONMENT, timeout=60, check=True).stdout
    found = sum(int(n) for n in re.findall(r'Sequence failures: (\d+)', exporters))
    # In IPFIX it does not count options in the domain of the records, those of samplers: here of two
    # between others.
    equal('sequence failures', found, SAMPLERS - 1 if '-S' in options and '-9' not in options else 0)
    sums = re.search(r'Flows: (\d+), Packets: (\d+), Bytes: (\d+), Sequence Errors: (\d+), '
                     r'Bad Packets: (\d+)', log)
    equal('sums of nfcapd', [int(sums[1]), int(sums[5])], [len(sent), 0])
    check('nfcapd minds nothing', not re.search(r'(?i)error[^s]|skip|unknown|corrupt', log), log)


def whole_entries(options):
    """All that nfdump tells of records made from one seed, by what tells them apart."""
    _, _, name = run_nfcapd(4, [*options, '-s', '12345'], RECORDS)
    dump = subprocess.run(['nfdump', '-r', name, '-o', 'json'], stdout=subprocess.PIPE, text=True,
                          env=ENVIRONMENT, timeout=60, check=True).stdout
    result = {}
    for entry in json.loads(dump):
        for key in OF_THE_EXPORT:
            entry.pop(key, None)
        result[entry.get('src4_addr') or entry['src6_addr']] = entry
    return result


def check_nfcapd_twice(options):
    """Of the same records nfdump tells the same by both protocols, whatever the field."""
    need('nfcapd', 'nfdump')
    ipfix, old = whole_entries(options), whole_entries([*options, '-9'])
    equal('records', len(ipfix), RECORDS)
    equal('v9 and IPFIX', old, ipfix)


class Nfacctd:
    """nfacctd with what it aggregates by itself, and elements as primitives under their names."""

    def __init__(self, names, v9):
        folder = tempfile.mkdtemp(dir=FOLDER.name)
        self.names, self.port = names, free_port(4, socket.SOCK_DGRAM)
        self.output, config, self.log, elements_of = (
            os.path.join(folder, name) for name in ('out.csv', 'conf', 'log', 'primitives'))
        with open(elements_of, 'w', encoding='ascii') as file:
            file.write(told.primitives(names, v9))
        keys = ['src_host', 'dst_host', 'src_port', 'dst_port', 'proto', 'tcpflags', 'tos',
                'in_iface', 'out_iface', *map(str.lower, names)]
        with open(config, 'w', encoding='ascii') as file:
            file.write('daemonize: false\nnfacctd_ip: 127.0.0.1\nnfacctd_port: %d\n'
                       'plugins: print\naggregate_primitives: %s\naggregate: %s\n'
                       'print_output: csv\nprint_output_file: %s\nprint_refresh_time: 1\n'
                       'print_output_file_append: true\nprint_num_protos: true\n'
                       'print_cache_entries: 65537\nnfacctd_pipe_size: 4000000\n'
                       'logfile: %s\n' % (self.port, elements_of, ','.join(keys), self.output,
                                          self.log))
        self.process = start('nfacctd', '-f', config)

    def ready(self):
        wait_until(lambda: os.path.exists(self.log) and 'Purging' in read(self.log), 20,
                   'its plugin')
        wait_until(lambda: queue_of(4, self.port) is not None, 10, 'nfacctd')

    def rows(self, count):
        wait_until(lambda: len(rows_of(self.output)) >= count, 30, 'all rows of nfacctd')
        return rows_of(self.output)

    def stop(self):
        self.process.send_signal(2)
        self.process.communicate(timeout=30)


def in_nfacctd(names, options):
    """What it got and what it shows, of these elements beside its own, by source. Of records that come
    while it writes its table it counts some twice, those that share a place in its cache: then once
    more."""
    for _ in range(5):
        collector = Nfacctd(names, '-9' in options)
        try:
            collector.ready()
            sent = send(4, collector.port, options)[0]
            rows = collector.rows(len(sent))
        finally:
            collector.stop()
        seen = by_source([from_nfacctd(row) for row in rows])
        wanted = by_source([as_nfacctd(record) for record in sent])
        if all(seen.get(key) in (one, dict(one, packets=2 * one['packets'],
                                           octets=2 * one['octets']))
               for key, one in wanted.items()) and seen != wanted:
            note('once more: nfacctd counted records twice while it wrote')
            continue
        equal('records', seen, wanted)
        break
    check('once without records that it counts twice', seen == wanted)
    return sent, {str(ipaddress.ip_address(row['SRC_IP'])): row for row in rows}


def check_nfacctd(options):
    """Every element of each record, as many at once as nfacctd takes; what it told, by source."""
    need('nfacctd')
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as nobody:
        nobody.bind(('127.0.0.1', 0))
        sample = send(4, nobody.getsockname()[1], options, SAMPLE)[0]
    names = {name for record in sample for name in record}
    names = sorted(names - told.not_in_nfacctd(names, '-9' in options))
    seen = {}
    for at in range(0, len(names), told.PRIMITIVES):
        part = names[at:at + told.PRIMITIVES]
        sent, rows = in_nfacctd(part, options)
        for record in map(told.as_carried, sent):
            wanted = {name: record[name] for name in part if name in record}
            shown = told.from_primitives(rows[told.source_of(record)], wanted)
            equal('elements', shown, wanted)
            seen.setdefault(told.source_of(record), {}).update(shown)
    return seen


def check_nfacctd_twice(options):
    with concurrent.futures.ThreadPoolExecutor(2) as both:
        tell_the_same(*both.map(check_nfacctd, (options, [*options, '-9'])))


def tell_the_same(ipfix, old):
    """The same flows, as far as both protocols have elements for them; times are the sender's."""
    equal('flows', sorted(ipfix), sorted(old))
    for name in KINDS:
        there = dict(ipfix=0, old=0)
        for kind, flows in ('ipfix', ipfix), ('old', old):
            there[kind] = sum(name in record for record in flows.values())
        check(name + ' is there', there['ipfix'] == there['old'] > 0, there)
    for source, record in ipfix.items():
        common = (record.keys() & old[source].keys()) - set(told.TIMES)
        check('common elements', len(common) > 15, common)
        equal('v9 and IPFIX', {name: old[source][name] for name in common},
              {name: record[name] for name in common})


def rows_of(path):
    """Whole lines of what nfacctd wrote so far; every refresh repeats the heading."""
    if not os.path.exists(path):
        return []
    text = read(path)
    rows = csv.DictReader(io.StringIO(text[:text.rfind('\n') + 1]))
    return [row for row in rows if row.get('SRC_IP', 'SRC_IP') != 'SRC_IP']


def as_nfacctd(record):
    # nfacctd takes no ports or codes of ICMP.
    ports = ([0, 0] if type_code(record) is not None else
             [record['sourceTransportPort'], record['destinationTransportPort']])
    return {'src': address_of(record, 'source'), 'dst': address_of(record, 'destination'),
            'ports': ports, 'proto': record['protocolIdentifier'],
            'packets': record['packetDeltaCount'], 'octets': record['octetDeltaCount'],
            'flags': record.get('tcpControlBits', 0), 'tos': record.get('ipClassOfService', 0),
            'in': record.get('ingressInterface', 0), 'out': record.get('egressInterface', 0)}


def from_nfacctd(row):
    icmp = int(row['PROTOCOL']) in (ICMP, ICMP6)
    return {'src': str(ipaddress.ip_address(row['SRC_IP'])),
            'dst': str(ipaddress.ip_address(row['DST_IP'])),
            'ports': [0, 0] if icmp else [int(row['SRC_PORT']), int(row['DST_PORT'])],
            'proto': int(row['PROTOCOL']), 'packets': int(row['PACKETS']),
            'octets': int(row['BYTES']), 'flags': int(row['TCP_FLAGS']), 'tos': int(row['TOS']),
            'in': int(row['IN_IFACE']), 'out': int(row['OUT_IFACE'])}


class Sniffer(threading.Thread):
    """Receives datagrams and keeps them as a capture. more: there are senders to come."""

    def __init__(self, more=False):
        super().__init__(daemon=True)
        self.more = more
        self.socket = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        self.socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4 << 20)
        self.socket.bind(('127.0.0.1', 0))
        self.socket.settimeout(1)
        self.port = self.socket.getsockname()[1]
        self.messages = []
        self.start()

    def run(self):
        while True:
            try:
                self.messages.append(self.socket.recv(65536))
            except socket.timeout:
                if self.messages and not self.more:
                    return

    def capture(self):
        """The messages in a file of raw IP packets."""
        self.more = False
        self.join(30)
        self.socket.close()
        path = os.path.join(FOLDER.name, 'capture-%d' % self.port)
        with open(path, 'wb') as file:
            file.write(struct.pack('<IHHIIII', 0xa1b2c3d4, 2, 4, 0, 0, 1 << 18, 101))
            for message in self.messages:
                udp = struct.pack('>HHHH', 1, self.port, 8 + len(message), 0) + message
                packet = struct.pack('>BBHHHBBH4s4s', 0x45, 0, 20 + len(udp), 0, 0, 64, 17, 0,
                                     bytes(4), bytes(4)) + udp
                file.write(struct.pack('<IIII', int(time.time()), 0, len(packet), len(packet)))
                file.write(packet)
        return path


def check_tshark(options, count=300):
    """Every element of each record; what tshark told, by source."""
    need('tshark')
    sniffer = Sniffer()
    sent, sums = send(4, sniffer.port, [*options, '-o'], count)
    path = sniffer.capture()
    equal('datagrams', len(sniffer.messages), sums['sent']['messages'])
    # Beyond 60 fields it asks to be told.
    command = ['tshark', '-n', '-r', path, '-d', 'udp.port==%d,cflow' % sniffer.port, '-o',
               'cflow.max_template_fields:0']
    text, pdml = (subprocess.run([*command, *how], stdout=subprocess.PIPE, env=ENVIRONMENT,
                                 stderr=subprocess.DEVNULL, text=True, timeout=120,
                                 check=True).stdout for how in (['-V'], ['-T', 'pdml']))
    bad = re.findall(r'.*(?:Malformed|No template found|Expert Info \((?:Error|Warning)).*', text)
    equal('faults', bad, [])
    # Options records: names of two interfaces, more of one, a VRF, the statistics; in profile full
    # an application, and own elements; samplers.
    full, samplers = '-f' in options, SAMPLERS if '-S' in options else 0
    own = own_elements('-b' in options) if full and '-9' not in options else []
    equal('records', len(re.findall(r'^\s+Flow \d+', text, re.M)), count + 5 + full + samplers + len(own))
    check('names of interfaces', 'eth0 (a uplink)' in text)
    check('a VRF', re.search(r'Ingress VRFID: 10$', text, re.M)) # it knows no field for its name
    equal('an application', 'ApplicationName: https' in text, full)
    equal('names of own elements', sorted(re.findall(r'Information Element Name: (\w+)', text)),
          own)
    flows, seen = told.flows_of(pdml), {}
    equal('flows', len(flows), count)
    # Of times by sysUptime it knows the second.
    but = told.TIMES if '-u' in options else ()
    for record in map(told.as_carried, sent):
        source = told.source_of(record)
        seen[source] = told.from_tshark(flows[source], record, '-9' in options)
        equal('elements', {name: value for name, value in seen[source].items() if name not in but},
              {name: value for name, value in record.items() if name not in but})
    return seen


def check_tshark_twice(options):
    tell_the_same(check_tshark(options), check_tshark([*options, '-9']))


class Listener:
    def __init__(self, version):
        self.port = free_port(version, socket.SOCK_STREAM)
        self.process = start(os.path.join(TOOLS, 'ipfix-tcp-listener'), HOSTS[version],
                             str(self.port))
        self.first = self.process.stdout.readline()
        self.lines = []
        self.reader = threading.Thread(target=self.read, daemon=True)
        self.reader.start()

    def read(self):
        self.lines.extend(self.process.stdout)

    def stop(self):
        """(flow records, options records, sums); every error is a failure."""
        self.process.terminate()
        status = self.process.wait(30)
        self.reader.join(30)
        lines = [json.loads(line) for line in self.lines]
        equal('errors', [line for line in lines if line.get('event') == 'error'], [])
        equal('status', status, 0)
        records = [line for line in lines if 'event' not in line]
        return ([line for line in records if 'options' not in line],
                [line for line in records if 'options' in line], lines[-1])


ABOUT = ('connection', 'domain', 'template')


def without_about(record):
    return {key: value for key, value in record.items() if key not in ABOUT}


def from_wire(seen, wanted):
    """As the sender prints it: what is absent is all ones, a label stack section has 20 bits, and
    addresses of elements that the listener has no type of are numbers."""
    record = {}
    names = elements('35632')
    for key, value in seen.items():
        key = names[int(key.split('/')[1])] if key.startswith('35632/') else key
        if key in MPLS:
            section = int(value, 16)
            value = section >> 4 if section else None
        elif key == 'applicationId':
            value = '%d:%d' % (value >> 24, value & 0xffffff)
        elif wanted.get(key, 0) is None and value in (0xff, 0xffff, 0xffffffff):
            value = None
        elif 'IPV4' in key.upper() and isinstance(value, int) and 'ADDR' in key.upper():
            value = str(ipaddress.IPv4Address(value))
        elif 'IPV6' in key.upper() and isinstance(value, str) and ':' not in value:
            value = str(ipaddress.IPv6Address(bytes.fromhex(value)))
        record[key] = value
    return record


def in_order(records):
    return sorted(records, key=lambda record: address_of(record, 'source'))


def check_listener(version, options, count=RECORDS):
    listener = Listener(version)
    sent = send(version, listener.port, ['-t', '-r', '200000', *options], count)[0]
    records, _, sums = listener.stop()
    equal('records', len(records), len(sent))
    for seen, wanted in zip(in_order(records), in_order(sent)):
        equal('record', from_wire(without_about(seen), wanted), wanted)
    equal('connections', sums['connections'], 1)
