#!/usr/bin/python3
# SPDX-License-Identifier: Apache-2.0
"""Nothing is missing, and each can prove it: a mixed scene through a router; the audit records, as
tshark decodes them, equal the interfaces' own counters and the sums of the flows at nfcapd. The same
for people and for Prometheus, read by a parser that knows only the format."""
import datetime
import json
import os
import re
import signal
import subprocess
import time

from lib import tap
from lib.collect import Nfacctd, Nfcapd, malformed
from lib.daemon import Flowmond
from lib.ipfix import files_in, number_of, read_file
from lib.lives import Lives, bpffs
from lib.load import exact
from lib.net import Lab, address, couple, wait_until
from lib.packets import Account, ethernet, ip4, udp, UDP
from lib.tap import case, check, equal
from lib.traffic import Injector, crafted_mix, exchange_tcp, ping, send_udp
from lib.truth import Capture

SEED = int(os.environ.get('FLOWMOND_TEST_SEED', '1'))
TIMES = int(os.environ.get('FLOWMOND_TEST_TIMES', '10'))
PORT, STANDARD, V9, PMACCT = 9995, 9994, 9993, 9996
INTERFACES = ('m0', 'm1')
DIRECTIONS = {'rx': 0, 'tx': 1}
# tshark's names of the elements of an audit record; own ones by number.
NAMES = {'Ingress Physical Interface': 'ifindex', 'Direction': 'direction',
         'Monitoring Interval Start MilliSeconds': 'start',
         'Monitoring Interval End MilliSeconds': 'end', 'Layer2_Frame_Delta_Count': 'frames',
         'Layer2 Octet Delta Count': 'frame_octets', 'Packets': 'packets', 'Octets': 'octets',
         200: 'interface_frames', 201: 'interface_octets', 202: 'seen', 203: 'seen_octets',
         204: 'again', 205: 'again_octets', 206: 'ignored', 207: 'ignored_octets', 208: 'lost',
         209: 'lost_octets', 210: 'aggregated', 211: 'aggregated_octets',
         212: 'filtered', 213: 'filtered_octets'}
# Frames of the crafted mix that come with a tag, which the kernel takes off before the hook.
TAGGED, TAG = 6, 4
CLASSES = ('again', 'ignored', 'lost', 'aggregated', 'filtered')


def value_of(text):
    text = text.strip()
    if re.search(r' UTC$', text):
        moment = datetime.datetime.strptime(text[:-7], '%b %d, %Y %H:%M:%S.%f')
        return round(moment.replace(tzinfo=datetime.timezone.utc).timestamp() * 1000)
    number = re.search(r'\((\d+)\)$', text)
    return int(number.group(1) if number else text)


def audits_in(capture, port, template):
    """Records of the audit's template in a capture, by tshark."""
    text = subprocess.run(['tshark', '-r', capture, '-n', '-o', 'cflow.max_template_fields:0', '-d',
                           'udp.port==%d,cflow' % port, '-Y', 'udp.port==%d' % port, '-V'],
                          stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True,
                          timeout=120, check=True).stdout
    records, inside = [], False
    for line in text.splitlines():
        found = re.match(r'\s*FlowSet Id: \(Data\) \((\d+)\)', line)
        if found:
            inside = int(found.group(1)) == template
        elif re.match(r'\s*Set \d+ ', line) or not line:
            inside = False
        elif inside and re.match(r'\s+Flow \d+$', line):
            records.append({})
        elif inside and records:
            own = re.match(r'.*Enterprise Private entry.* Type (\d+): Value \(hex bytes\): (.*)', line)
            plain = re.match(r'\s+([^:]+): (.*)', line)
            if own:
                records[-1][NAMES[int(own.group(1))]] = int(own.group(2).replace(' ', ''), 16)
            elif plain and plain.group(1) in NAMES:
                records[-1][NAMES[plain.group(1)]] = value_of(plain.group(2))
    return records


def own_counters(namespace):
    """What the interfaces say of themselves: {(interface, direction): (frames, octets)}."""
    return {(name, number): tuple(namespace.counter(name, way, what)
                                  for what in ('packets', 'bytes'))
            for name in INTERFACES for way, number in DIRECTIONS.items()}


def quiet(namespace):
    """The counters, once they stand still."""
    before = [own_counters(namespace), time.monotonic()]

    def still():
        now = own_counters(namespace)
        if now != before[0]:
            before[:] = now, time.monotonic()
        return time.monotonic() - before[1] > 0.5
    wait_until(still, 20, 'the interfaces to be quiet')
    return before[0]


def drive(a, m, b):
    """The mixed scene: to the router and through it, both ways, of every kind."""
    account = Account()
    for src, via, dst in (('10.1.0.1', '10.1.0.2', '10.2.0.1'),
                          ('fd00:1::1', 'fd00:1::2', 'fd00:2::1')):
        send_udp(account, a, src, 4000, m, via, 4001, 50, 300)
        send_udp(account, a, src, 4002, b, dst, 4003, 50, 300)
        send_udp(account, a, src, 4004, b, dst, 4005, 20, 4000)  # fragments
        send_udp(account, b, dst, 4006, a, src, 4007, 30, 900)
        exchange_tcp(a, src, 5000, m, via, 5001, 2000000, 300000)
        exchange_tcp(a, src, 5002, b, dst, 5003, 3000000, 3000000)
        ping(account, a, src, dst, 20)
        ping(account, b, dst, src, 10, 3000)
        ping(account, a, src, via, 20)
    inject = Injector(a, 'a0', 'm0', account)
    crafted_mix(inject)
    for number in range(200):
        inject.send(ip4('10.9.0.%d' % number, '10.2.0.1', UDP, udp(7, 7, bytes(number))),
                    ('10.9.0.%d' % number, '10.2.0.1', 7, 7, UDP))
    for kind in (0x0806, 0x88cc, 0x8035):
        for _ in range(7):
            inject.raw.send(ethernet(bytes(46), inject.src, inject.dst, kind=kind))
    inject.raw.send(ethernet(b'\x45' + bytes(9), inject.src, inject.dst, kind=0x0800))
    inject.close()


class Run:
    """The scene once, under audits of a second each."""

    def __init__(self):
        with Lab('audit') as lab:
            a, m, b = lab.ns('a'), lab.ns('m'), lab.ns('b')
            couple(lab, a, 'a0', m, 'm0', 1, offloads='on')
            couple(lab, b, 'b0', m, 'm1', 2, offloads='on')
            for namespace, own, other in ((a, 1, 2), (b, 2, 1)):
                namespace.ip('route add 10.%d.0.0/24 via 10.%d.0.2' % (other, own))
                namespace.ip('-6 route add fd00:%d::/64 via fd00:%d::2' % (other, own))
            m.sysctl('net/ipv4/ip_forward', 1)
            m.sysctl('net/ipv6/conf/all/forwarding', 1)
            self.ifindex = {name: m.ifindex(name) for name in INTERFACES}
            collectors = [Nfcapd(m, PORT), Nfcapd(m, STANDARD), Nfcapd(m, V9)]
            pmacct = Nfacctd(m, PMACCT)
            exported = Capture(m, 'lo')
            quiet(m)
            daemon = Flowmond(m, {
                'capture': {'interfaces': ', '.join(INTERFACES)}, 'audit': {'interval': '1s'},
                'json': {'file': lab.path('flowmond.json')},
                'collector full': {'address': '127.0.0.1:%d' % PORT, 'profile': 'full'},
                'collector plain': {'address': '127.0.0.1:%d' % STANDARD},
                'collector old': {'address': '127.0.0.1:%d' % V9, 'protocol': 'v9'},
                'collector pmacct': {'address': '127.0.0.1:%d' % PMACCT}})
            before = quiet(m)
            drive(a, m, b)
            after = quiet(m)
            self.own = {key: tuple(x - y for x, y in zip(after[key], before[key]))
                        for key in after}
            self.status, self.text = daemon.status(), daemon.ctl('status').stdout
            self.metrics = daemon.ctl('metrics').stdout
            daemon.stop()
            self.json = daemon.json_audits()
            self.flows = [collector.stop() for collector in collectors]
            self.sequence = [collector.sequence_errors() for collector in collectors]
            path = exported.stop()
            self.pmacct = sum(record['packets'] for record in pmacct.stop())
            self.full = audits_in(path, PORT, 1156)
            self.plain = audits_in(path, STANDARD, 1028)
            self.old = audits_in(path, V9, 1028)
            self.malformed = [malformed(path, port)[0] for port in (PORT, STANDARD, V9, PMACCT)]


@tap.once
def run():
    return Run()


def total(records, name, direction):
    """Sums of an interface's records in one direction."""
    sums = {}
    for record in records:
        if (record['ifindex'], record['direction']) != (run().ifindex[name], direction):
            continue
        for key, value in record.items():
            sums[key] = sums.get(key, 0) + value
    return sums


def each():
    for name in INTERFACES:
        for direction in DIRECTIONS.values():
            yield name, direction, '%s %s' % (name, ('ingress', 'egress')[direction])


@case('audit records equal the interfaces\' own counters, frames and octets, every direction')
def equals_interface():
    for name, direction, what in each():
        frames, octets = run().own[name, direction]
        sums = total(run().full, name, direction)
        check(what + ': there was traffic', frames > 100, frames)
        tags = TAGGED * TAG if (name, direction) == ('m0', 0) else 0
        equal(what + ': frames, octets seen', (sums['frames'], sums['frame_octets'] + tags),
              (frames, octets))
        equal(what + ': as the record has them of the interface',
              (sums['interface_frames'], sums['interface_octets']), (frames, octets))


@case('seen = in flows + again + ignored + filtered + lost + aggregated; each class where it belongs')
def classes():
    for name, direction, what in each():
        sums = total(run().full, name, direction)
        for unit in ('', '_octets'):
            equal(what + unit, sums['seen' + unit], sums['octets' if unit else 'packets'] +
                  sum(sums[kind + unit] for kind in CLASSES))
        equal(what + ': lost, aggregated', (sums['lost'], sums['aggregated']), (0, 0))
    equal('ignored', [total(run().full, name, direction)['ignored']
                      for name, direction, _ in each()], [22, 0, 0, 0])
    check('forwarded packets are seen again', total(run().full, 'm1', 1)['again'] > 4000)
    equal('again where they come in', [total(run().full, name, 0)['again']
                                       for name in INTERFACES], [0, 0])


@case('the flows at nfcapd add up to what the audit says is in flows')
def equals_flows():
    for flows, protocol in zip(run().flows, ('ipfix full', 'ipfix', 'v9')):
        for name, direction, what in each():
            side = ('in', 'out')[direction]
            of_it = [flow for flow in flows if flow['direction'] == direction and
                     flow[side] == run().ifindex[name]]
            sums = total(run().full, name, direction)
            equal('%s: %s' % (protocol, what), (sum(flow['packets'] for flow in of_it),
                                                sum(flow['octets'] for flow in of_it)),
                  (sums['packets'], sums['octets']))
    equal('nfacctd', run().pmacct, sum(flow['packets'] for flow in run().flows[0]))


@case('intervals follow each other, none overlaps, none is missing')
def intervals():
    for name, direction, what in each():
        records = sorted((record['start'], record['end']) for record in run().full
                         if (record['ifindex'], record['direction']) ==
                         (run().ifindex[name], direction))
        check(what + ': several', len(records) > 2, records)
        equal(what, [start for start, _ in records[1:]], [end for _, end in records[:-1]])


@case('without own elements, in v9 and in JSON the records say the same')
def elsewhere():
    keys = ('ifindex', 'direction', 'start', 'end', 'frames', 'frame_octets', 'packets', 'octets')

    def short(records):
        return sorted(tuple(record[key] for key in keys) for record in records)
    wanted = short(run().full)
    equal('standard', short(run().plain), wanted)
    equal('v9', short(run().old), wanted)
    names = ('ingressPhysicalInterface', 'flowDirection', 'monitoringIntervalStartMilliSeconds',
             'monitoringIntervalEndMilliSeconds', 'layer2FrameDeltaCount',
             'layer2OctetDeltaCount', 'packetDeltaCount', 'octetDeltaCount')
    equal('json', sorted(tuple(record[name] for name in names) for record in run().json), wanted)
    own = {'seenPackets': 'seen', 'againPackets': 'again', 'ignoredPackets': 'ignored',
           'lostPackets': 'lost', 'aggregatedPackets': 'aggregated', 'interfaceFrames':
           'interface_frames'}
    equal('json, own elements', sorted(tuple(record[name] for name in own) for record in run().json),
          sorted(tuple(record[name] for name in own.values()) for record in run().full))
    causes = {}
    for record in run().json:
        for cause, count in record['causes'].items():
            causes[cause] = causes.get(cause, 0) + count['packets']
    equal('causes', causes, {name: count['packets'] for name, count in
                             run().status['counters'].items()
                             if count['packets'] and name != 'seen'})


@case('collectors stay whole: no sequence error, nothing malformed')
def collectors_whole():
    equal('sequence errors, bad packets', run().sequence, [[0, 0]] * 3)
    equal('malformed', run().malformed, [[]] * 4)


NAME = r'[a-zA-Z_:][a-zA-Z0-9_:]*'
LABEL = r'([a-zA-Z_][a-zA-Z0-9_]*)="((?:[^"\\\n]|\\\\|\\"|\\n)*)"'


def parse_metrics(text):
    """{(name, labels): value} of Prometheus' text format; whatever it forbids is a failure."""
    check('ends with a newline', text.endswith('\n'))
    helped, types, samples, finished, last = set(), {}, {}, set(), None
    for line in text[:-1].split('\n'):
        comment = re.fullmatch('# (HELP|TYPE) (%s) (.*)' % NAME, line)
        sample = re.fullmatch(r'(%s)(?:\{(.*)\})? (\d+)' % NAME, line)
        check('a line of the format', comment or sample, line)
        name = (comment or sample).group(2 if comment else 1)
        if name != last:
            check('lines of a metric stand together', name not in finished, line)
            finished.add(last)
            last = name
        if comment and comment.group(1) == 'HELP':
            check('one help, first', name not in helped and name not in types, line)
            check('escaped', not re.search(r'\\(?![\\n])', comment.group(3)), line)
            helped.add(name)
        elif comment:
            check('one type, after the help', name in helped and name not in types, line)
            types[name] = comment.group(3)
            equal('counters end in _total', types[name] == 'counter', name.endswith('_total'))
            check('type', types[name] in ('counter', 'gauge'), line)
        else:
            check('type before samples', name in types, line)
            labels = sample.group(2) or ''
            check('labels', re.fullmatch('(?:%s(?:,%s)*)?' % (LABEL, LABEL), labels), line)
            key = name, tuple(sorted((one.group(1), one.group(2))
                                     for one in re.finditer(LABEL, labels)))
            check('no series twice', key not in samples, line)
            check('no label twice', len(dict(key[1])) == len(key[1]), line)
            samples[key] = int(sample.group(3))
    check('every metric has samples', {name for name, _ in samples} == set(types), types)
    return samples


@case('Prometheus: the format is kept, the figures are those of the audit')
def prometheus():
    samples = parse_metrics(run().metrics)

    def of_interface(metric, name, direction, **labels):
        wanted = {'interface': name, 'direction': ('ingress', 'egress')[direction], **labels}
        return sum(value for (found, having), value in samples.items()
                   if found == 'flowmond_interface_' + metric and
                   wanted.items() <= dict(having).items())
    for name, direction, what in each():
        sums = total(run().full, name, direction)
        for metric, key, labels in (
                ('frames_total', 'frames', {}), ('frame_octets_total', 'frame_octets', {}),
                ('packets_total', 'seen', {'class': 'SEEN'}),
                ('octets_total', 'seen_octets', {'class': 'SEEN'}),
                ('packets_total', 'again', {'class': 'AGAIN'}),
                ('packets_total', 'ignored', {'class': 'IGNORED'})):
            equal('%s: %s' % (what, metric), of_interface(metric, name, direction, **labels),
                  sums[key])
    for cause, count in run().status['counters'].items():
        equal(cause, samples['flowmond_packets_total', (('cause', cause),
                                                        ('class', count['class']))],
              count['packets'])
    collectors = {dict(labels)['collector'] for name, labels in samples
                  if name == 'flowmond_collector_records_total'}
    equal('collectors', collectors, {sink['name'] for sink in run().status['sinks']})


@case('Prometheus: names that need escaping')
def escaping():
    with Lab('escape') as lab:
        m = lab.ns('m')
        m.run('ip', 'link', 'add', 'a"b\\c', 'type', 'veth', 'peer', 'name', 'p0')
        m.ip('link set p0 up')
        m.run('ip', 'link', 'set', 'a"b\\c', 'up')
        address(m, 'p0', '10.3.0.1/24')
        daemon = Flowmond(m, {'capture': {'interfaces': '*'}})
        samples = parse_metrics(daemon.ctl('metrics').stdout)
        names = {dict(labels).get('interface') for _, labels in samples}
        check('the interface', 'a\\"b\\\\c' in names, names)
        check('in JSON', 'a"b\\c' in [entry['name'] for entry in
                                      json.loads(daemon.ctl('status', '--json').stdout)
                                      ['by_interface']])
        daemon.stop()


@case('killed and started again: intervals go on where they ended, with what came between')
def killed():
    with Lab('auditkill') as lab:
        a, m = lab.ns('a'), lab.ns('m')
        couple(lab, a, 'a0', m, 'm0', 1)
        daemon = Flowmond(m, {'capture': {'interfaces': 'm0'}, 'audit': {'interval': '1s'},
                              'json': {'file': lab.path('flowmond.json')},
                              'bpf': {'pin': os.path.join(bpffs(lab), 'flowmond')}})
        if daemon.status()['attach'] != 'tcx':
            daemon.stop()
            raise tap.Skip('filters of a qdisc do not outlive the daemon')
        ping(Account(), a, '10.1.0.1', '10.1.0.2', 5)
        wait_until(daemon.json_audits, 10, 'an audit')
        ping(Account(), a, '10.1.0.1', '10.1.0.2', 7)
        daemon.stop(signal.SIGKILL, -signal.SIGKILL)
        ping(Account(), a, '10.1.0.1', '10.1.0.2', 9)
        daemon.start()
        daemon.wait_ready()
        ping(Account(), a, '10.1.0.1', '10.1.0.2', 11)
        daemon.stop()
        for direction in (0, 1):
            audits = [line for line in daemon.json_audits() if line['flowDirection'] == direction]
            equal('frames', [sum(line[name] for line in audits) for name in (
                'layer2FrameDeltaCount', 'interfaceFrames', 'packetDeltaCount')], [32] * 3)
            equal('intervals', [line['monitoringIntervalStartMilliSeconds'] for line in audits[1:]],
                  [line['monitoringIntervalEndMilliSeconds'] for line in audits[:-1]])


def sums(audits, ifindex, direction, *names):
    """Sums over an interface's audits, which must follow each other."""
    of_it = sorted((audit for audit in audits if (audit['ingressPhysicalInterface'],
                                                  audit['flowDirection']) == (ifindex, direction)),
                   key=lambda audit: audit['monitoringIntervalStartMilliSeconds'])
    check('several intervals', len(of_it) > 3, of_it)
    equal('intervals', [audit['monitoringIntervalStartMilliSeconds'] for audit in of_it[1:]],
          [audit['monitoringIntervalEndMilliSeconds'] for audit in of_it[:-1]])
    return [sum(audit[name] for audit in of_it) for name in names]


ELEMENTS = {'ingressPhysicalInterface': (0, 252), 'flowDirection': (0, 61),
            'monitoringIntervalStartMilliSeconds': (0, 359),
            'monitoringIntervalEndMilliSeconds': (0, 360), 'layer2FrameDeltaCount': (0, 430),
            'packetDeltaCount': (0, 2), 'octetDeltaCount': (0, 1)}


def audits_of_files(directory):
    """The audit records of all IPFIX files, with the names that they have in JSON."""
    for path in files_in(directory):
        for option in read_file(path)[0].options:
            if option['template'] in (1028, 1156):
                yield {name: number_of(option, element, pen)
                       for name, (pen, element) in ELEMENTS.items()}


def lives(network):
    """Ten ends at random moments; intervals are so short that some end in the middle."""
    r = network.r
    before = {(name, way): r.counter(name, way, 'packets') for name in ('r1', 'r2')
              for way in DIRECTIONS}
    life = Lives(network, {'audit': {'interval': '1s'}}, SEED)
    for number in range(TIMES):
        life.next(('kill', 'handover', 'starting')[number % 3])
    life.finish()
    written = list(audits_of_files(life.collectors.directory))
    told = life.daemon.json_audits()
    for (name, way), packets in before.items():
        what, direction, index = name + ' ' + way, DIRECTIONS[way], r.ifindex(name)
        own = r.counter(name, way, 'packets') - packets
        check(what + ': there was traffic', own > 1000, own)
        frames, interface, *packets = sums(told, index, direction, 'layer2FrameDeltaCount',
                                           'interfaceFrames', 'packetDeltaCount', 'octetDeltaCount')
        equal(what + ': frames of the interface', interface, own)
        # Behind the hook super-packets are cut for a device without offloads.
        if (name, way) != ('r2', 'tx'):
            equal(what + ': frames', frames, own)
        flows = [sum(line[name] for line in life.daemon.json_records()
                     if line['flowDirection'] == direction and
                     line[('ingressInterface', 'egressInterface')[direction]] == index)
                 for name in ('packetDeltaCount', 'octetDeltaCount')]
        equal(what + ': in flows', packets, flows)
        equal(what + ': in IPFIX files', sums(
            written, index, direction, 'layer2FrameDeltaCount', 'packetDeltaCount',
            'octetDeltaCount'), [frames, *flows])


@case('killed and handed over under load, %d times: every interval is told once' % TIMES)
def killed_under_load():
    exact(lives)


@case('flowmonctl status shows where packets went, as the audit has it')
def people():
    for name, direction, what in each():
        sums = total(run().full, name, direction)
        row = re.search(r'^  %s +%s +(.*)$' % (name, ('ingress', 'egress')[direction]),
                        run().text, re.M)
        equal(what, [int(word) for word in row.group(1).split()],
              [sums['frames'], sums['seen'], sums['packets'] + sums['aggregated'],
               sums['again'], sums['ignored'], sums['filtered'], sums['lost']])
    equal('sum', int(re.search(r'^  seen +(\d+)', run().text, re.M).group(1)),
          sum(total(run().full, name, direction)['seen'] for name, direction, _ in each()))


if __name__ == '__main__':
    tap.require_root()
    tap.main()
