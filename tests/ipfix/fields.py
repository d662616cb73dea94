#!/usr/bin/python3
# SPDX-License-Identifier: Apache-2.0
"""Every profile, and lists of fields at random over profiles and protocols: templates have what the table of fields
says, and every value of every record is the sender's, octet by octet and as tshark, libfixbuf,
nfdump and nfacctd read them."""
import collections
import datetime
import ipaddress
import os
import random
import re
import struct
import subprocess

import told
from decoders import (Listener, Sniffer, address_of, check_nfacctd, check_nfcapd, from_wire, need,
                      send, source, without_about)
from lib.tap import add_case, case, check, equal, main, note, once

SEED = int(os.environ.get('FLOWMOND_TEST_SEED', '1'))
LISTS, LISTS_TCP, RECORDS, PLAIN = 200, 100, 24, 150
MSEC = ('flowStartMilliseconds', 'flowEndMilliseconds')
UPTIME = {22: MSEC[0], 21: MSEC[1]}

Row = collections.namedtuple('Row', 'name kind pen ie v9 wire profiles needed')
Run = collections.namedtuple('Run', 'domain v9 uptime options sent')


def table():
    """Rows of fields.def by name, in its order."""
    rows = {}
    for name, profile in re.findall(r'^FM_FIELD\([^"]*"(\w+)".*?, (FM_P_[^,]*),', source('fields.def'),
                                    re.M):
        words = profile.split(' | ')
        rows[name] = Row(name, *told.FIELDS[name], {
            word for word in ('STANDARD', 'NTOP', 'FULL')
            if 'FM_P_' + word in words or 'FM_P_ALL' in words},
            'FM_P_SUM' in words or 'FM_P_KEY' in words)
    return rows


ROWS = table()


def expected(record, run):
    """What of a record is sent: from what the sender prints, which is everything."""
    words = {word[1:]: word[0] for word in run.options if word[1:] in ROWS}
    profile = 'FULL' if '-f' in run.options else 'NTOP' if '-p' in run.options else 'STANDARD'

    def has(row):
        if run.v9 and not row.v9:
            return False
        return words.get(row.name) == '+' or (profile in row.profiles and words.get(row.name) != '-')
    return {name: record[name] for name, row in ROWS.items() if name in record and has(row)}


def random_options(rng):
    options = [rng.choice(('-f', '-p', ''))]
    options += [option for option in ('-b', '-S') if rng.random() < 0.5]
    often = rng.choice((0.02, 0.1, 0.3, 0.6))
    for row in ROWS.values():
        if rng.random() < often:
            sign = rng.choice('+-')
            options += ['-l', sign + row.name] if sign == '+' or not row.needed else []
    return [option for option in options if option]


def all_options(lists, protocols):
    """(records, options): each profile as it is, then so many lists."""
    rng = random.Random(SEED)
    for protocol in protocols:
        for profile in [], ['-p'], ['-f']:
            for biflow in [], ['-b']:
                yield PLAIN, [*protocol, *profile, *biflow]
    for _ in range(lists):
        yield RECORDS, [*rng.choice(protocols), *random_options(rng)]


def all_runs(lists, protocols, port):
    """Sends records to port with each."""
    for number, (count, options) in enumerate(all_options(lists, protocols), 1):
        sent, _ = send(4, port, ['-a', '-d', str(number), '-s', str(SEED * 1000 + number), *options],
                       count)
        yield Run(number, '-9' in options, '-u' in options, options, sent)


@once
def datagrams():
    """Runs over UDP, and everything that arrived, as it is and in a capture."""
    sniffer = Sniffer(more=True)
    runs = list(all_runs(LISTS, ([], ['-9'], ['-9', '-u']), sniffer.port))
    path = sniffer.capture()
    note('seed %d, %d lists of up to %d fields' % (SEED, len(runs), max(
        run.options.count('-l') for run in runs)))
    return runs, sniffer.messages, path, sniffer.port


# --- octet by octet ---


def fields_of(data, at, n, v9):
    fields = []
    for _ in range(n):
        number, length = struct.unpack_from('>HH', data, at)
        at += 4
        pen = 0
        if number & 0x8000 and not v9:
            pen = struct.unpack_from('>I', data, at)[0]
            number &= 0x7fff
            at += 4
        fields.append((pen, number, length))
    return tuple(fields), at


def decode(messages):
    """(domain, template, list of values) of each flow record; a template is (PEN, number, length)s."""
    templates = {}
    for data in messages:
        v9 = data[:2] == b'\0\x09'
        domain = struct.unpack_from('>I', data, 16 if v9 else 12)[0]
        at = 20 if v9 else 16
        while at < len(data):
            kind, length = struct.unpack_from('>HH', data, at)
            body, at = data[at + 4:at + length], at + length
            if kind == (0 if v9 else 2):
                number, n = struct.unpack_from('>HH', body)
                fields, end = fields_of(body, 4, n, v9)
                equal('octets of a template', end, len(body))
                templates[domain, number] = fields
            if (domain, kind) not in templates:
                continue
            fields = templates[domain, kind]
            size, start = sum(field[2] for field in fields), 0
            while len(body) - start >= size:
                values = []
                for field in fields:
                    values.append(body[start:start + field[2]])
                    start += field[2]
                yield domain, fields, values
            check('less than 4 octets behind the last record', len(body) - start < (4 if v9 else 1))


def template_of(wanted, run):
    """The fields that its template is to have."""
    fields = []
    for row in (ROWS[name] for name in wanted):
        if not run.v9:
            fields.append((row.pen, row.ie, row.wire))
        elif run.uptime and row.name in MSEC:
            fields.append((0, next(k for k, v in UPTIME.items() if v == row.name), 4))
        else:
            fields.append((0, row.v9, row.wire))
    return tuple(fields)


def octets_of(row, value):
    """On the wire; of a label without the lower four bits, which are not printed."""
    if row.kind in ('IP4', 'IP6'):
        return ipaddress.ip_address(value).packed
    if row.kind == 'APP':
        engine, number = map(int, value.split(':'))
        value = engine << 24 | number
    if value is None:
        value = 0 if row.kind == 'LABEL' else (1 << 8 * row.wire) - 1
    if row.kind == 'NTP':
        value = (value // 10**9 + 2208988800 << 32) + ((value % 10**9 << 32) // 10**9)
    return value.to_bytes(row.wire, 'big')


def as_printed(row, octets):
    return (int.from_bytes(octets, 'big') >> 4).to_bytes(3, 'big') if row.kind == 'LABEL' else octets


@case('templates have the fields of the table in its order, and records what was sent')
def by_hand():
    runs, messages, _, _ = datagrams()
    seen = collections.defaultdict(dict)
    for domain, fields, values in decode(messages):
        at = next(i for i, field in enumerate(fields) if field[:2] in ((0, 8), (0, 27)))
        seen[domain][values[at]] = (fields, values)
    values_compared = 0
    for run in runs:
        equal('records of list %s' % run.options, len(seen[run.domain]), len(run.sent))
        for record in run.sent:
            wanted = expected(record, run)
            fields, values = seen[run.domain][ipaddress.ip_address(
                address_of(record, 'source')).packed]
            equal('template of %s' % run.options, fields, template_of(wanted, run))
            if run.uptime:
                times = [int.from_bytes(values.pop(list(wanted).index(MSEC[0])), 'big')
                         for _ in range(2)]
                start, end = wanted.pop(MSEC[0]), wanted.pop(MSEC[1])
                equal('duration', times[1] - times[0], end - start)
            equal('values of %s' % run.options,
                  [as_printed(ROWS[name], octets) for name, octets in zip(wanted, values)],
                  [octets_of(ROWS[name], value) for name, value in wanted.items()])
            values_compared += len(values)
    note('%d values' % values_compared)


# --- tshark ---

# What it calls elements of IANA.
LABELS = {
    'reverseOctetDeltaCount': 'Octets', 'reversePacketDeltaCount': 'Packets',
    'octetDeltaCount': 'Octets', 'packetDeltaCount': 'Packets', 'sourceIPv4Address': 'SrcAddr',
    'destinationIPv4Address': 'DstAddr', 'sourceIPv6Address': 'SrcAddr',
    'destinationIPv6Address': 'DstAddr', 'sourceTransportPort': 'SrcPort',
    'destinationTransportPort': 'DstPort', 'ingressInterface': 'InputInt',
    'egressInterface': 'OutputInt', 'protocolIdentifier': 'Protocol', 'tcpControlBits': 'TCP Flags',
    'ipClassOfService': 'IP ToS', 'flowDirection': 'Direction',
    'biflowDirection': 'Biflow Direction', 'flowEndReason': 'Flow End Reason',
    'minimumTTL': 'MinTTL', 'maximumTTL': 'MaxTTL', 'fragmentFlags': 'IP Fragment Flags',
    'minimumIpTotalLength': 'MinLength', 'maximumIpTotalLength': 'MaxLength', 'vlanId': 'Vlan Id',
    'selectorId': 'Selector Id', 'samplingInterval': 'Sampling interval',
    'selectorAlgorithm': 'Selector Algorithm',
    'dot1qCustomerVlanId': 'Dot1q Customer Vlan Id', 'postOctetDeltaCount': 'Post Octets',
    'postPacketDeltaCount': 'Post Packets', 'ipDiffServCodePoint': 'DSCP',
    'flowLabelIPv6': 'ipv6FlowLabel', 'layer2SegmentId': 'Layer2 Segment Id',
    'mplsTopLabelStackSection': 'MPLS-Label1', 'mplsLabelStackSection2': 'MPLS-Label2',
    'mplsLabelStackSection3': 'MPLS-Label3', 'ingressVRFID': 'Ingress VRFID',
    'sourceIPv4PrefixLength': 'SrcMask', 'destinationIPv4PrefixLength': 'DstMask',
    'sourceIPv6PrefixLength': 'SrcMask', 'destinationIPv6PrefixLength': 'DstMask',
    'bgpSourceAsNumber': 'SrcAS', 'bgpDestinationAsNumber': 'DstAS',
    'egressVRFID': 'Egress VRFID', 'flowStartMilliseconds': 'StartTime',
    'flowEndMilliseconds': 'EndTime', 'flowStartNanoseconds': 'StartTime', **told.NTOP}
# It has no name for these of ntop's.
NAMELESS = ('CLIENT_TCP_FLAGS', 'SERVER_TCP_FLAGS')
# It adds words to the value, or says it in hexadecimal.
NUMBER = re.compile(r'^(?:[^(]*\((\d+)\)$|(0x[0-9a-f]+)|(\d+))')


def moment(text):
    """Nanoseconds since 1970 of 'Nov 21, 2026 18:41:07.568137154 UTC'."""
    seconds, fraction = text.replace(' UTC', '').split('.')
    when = datetime.datetime.strptime(seconds, '%b %d, %Y %H:%M:%S')
    since = when - datetime.datetime(1970, 1, 1)
    return (since.days * 86400 + since.seconds) * 10**9 + int(fraction)


def from_tshark(label, text):
    """A line as (label, value) that compares."""
    if label in ('StartTime', 'EndTime'):
        return label, moment(text)
    if label in ('SrcAddr', 'DstAddr') or 'address' in label:
        return label, str(ipaddress.ip_address(text))
    hexadecimal = re.search(r'Type (\d+): Value \(hex bytes\): ([0-9a-f ]+)', text)
    if hexadecimal:
        return hexadecimal[1], hexadecimal[2].replace(' ', '')
    if label == 'Selector ID':
        return label, int(text, 16)
    number = NUMBER.match(text)
    check('%s: a number' % label, number, text)
    return label, int(number[2], 16) if number[2] else int(number[1] or number[3])


def as_tshark(row, value, run):
    octets = octets_of(row, value)
    if row.pen == told.OWN or row.name in NAMELESS:
        return str(row.v9 if run.v9 else row.ie), octets.hex()
    label = ('Post ' if run.v9 and row.pen == told.REVERSE else '') + LABELS[row.name]
    if row.kind in ('IP4', 'IP6'):
        return label, str(ipaddress.ip_address(value))
    if row.kind == 'MSEC':
        return label, value * 10**6
    if row.kind == 'NTP': # in units of 2^-32 s
        return label, value // 10**9 * 10**9 + ((value % 10**9 << 32) // 10**9 * 10**9 >> 32)
    return label, int.from_bytes(octets, 'big')


def flows_of_tshark(lines):
    """(domain, sorted values) of each flow."""
    domain, flow = None, None
    for line in lines:
        found = re.match(r'^    (?:Observation Domain Id|SourceId): (\d+)', line)
        if found:
            domain = int(found[1])
        if re.match(r'^        Flow \d+$', line):
            flow = []
            yield domain, flow
        elif flow is not None:
            found = re.match(r'^            (?:    )?([^:]+): ?(.*)$', line)
            if not found:
                flow = None
            elif ' = ' not in found[1] and not found[1].startswith('['):
                flow.append((found[1], found[2]))


@case('tshark reads every value of every record')
def by_tshark():
    need('tshark')
    runs, messages, path, port = datagrams()
    run = subprocess.run(['tshark', '-n', '-r', path, '-d', 'udp.port==%d,cflow' % port, '-o',
                          'cflow.max_template_fields:0', '-V'], stdout=subprocess.PIPE,
                         stderr=subprocess.DEVNULL, text=True, timeout=300, check=True,
                         env=dict(os.environ, TZ='UTC', LC_ALL='C'))
    text = run.stdout
    equal('faults', re.findall(
        r'.*(?:Malformed|No template found|Expert Info \((?:Error|Warning)).*', text)[:5], [])
    seen = collections.defaultdict(dict)
    for domain, flow in list(flows_of_tshark(text.splitlines())):
        values = dict(flow)
        if 'SrcAddr' in values: # no options record
            seen[domain][str(ipaddress.ip_address(values['SrcAddr']))] = flow
    equal('messages', text.count('Cisco NetFlow/IPFIX'), len(messages))
    for run in runs:
        equal('records of list %s' % run.options, len(seen[run.domain]), len(run.sent))
        for record in run.sent:
            wanted = expected(record, run)
            flow = [from_tshark(*line) for line in in_words(seen[run.domain][address_of(
                record, 'source')], run)]
            if run.uptime:
                wanted = {name: value for name, value in wanted.items() if name not in MSEC}
            equal('record of list %s' % run.options, sorted(flow), sorted(
                code for name, value in wanted.items() for code in codes_of(name, value, run)))


def in_words(flow, run):
    """Lines of a flow without what is told elsewhere, and without times since the start."""
    for label, text in flow:
        if label.startswith('MPLS-Label'):
            text = text.split()[0]
        if not run.uptime or not label.endswith('Time'):
            yield label, text


def codes_of(name, value, run):
    """Most values are a line; ICMPv6 and applications have two."""
    row = ROWS[name]
    if row.kind == 'APP':
        return list(zip(('Classification Engine ID', 'Selector ID'), map(int, value.split(':'))))
    if row.kind == 'LABEL':
        return [(LABELS[name], value or 0)]
    if name == 'icmpTypeCodeIPv6' and not run.v9:
        return [('IPv6 ICMP Type', value >> 8), ('IPv6 ICMP Code', value & 255)]
    if name in ('icmpTypeCodeIPv4', 'icmpTypeCodeIPv6'):
        return [('ICMP Type', value)]
    return [as_tshark(row, value, run)]


# --- the others ---


@case('libfixbuf reads every value of every record')
def by_libfixbuf():
    listener = Listener(4)
    runs = list(all_runs(LISTS_TCP, (['-t', '-r', '200000'],), listener.port))
    records, options, sums = listener.stop()
    equal('connections', sums['connections'], len(runs))
    seen = collections.defaultdict(dict)
    for record in records:
        seen[record['domain']][address_of(record, 'source')] = record
    types = collections.defaultdict(set)
    for option in options:
        if 'informationElementName' in option:
            types[option['connection']].add(option['informationElementName'])
    for number, run in enumerate(runs, 1):
        equal('records of list %s' % run.options, len(seen[run.domain]), len(run.sent))
        for record in run.sent:
            wanted = expected(record, run)
            equal('record of list %s' % run.options, from_wire(without_about(
                seen[run.domain][address_of(record, 'source')]), wanted), wanted)
            missing = {name for name in wanted if ROWS[name].pen == told.OWN} - types[number]
            equal('own elements that are not described', missing, set())


WITHOUT = [word for name in ('tcpControlBits', 'ipClassOfService', 'vlanId', 'flowDirection',
                             'egressInterface', 'mplsTopLabelStackSection', 'minimumTTL')
           for word in ('-l', '-' + name)]
WITH = [word for name in ('rttMean', 'tunnelType', 'CLIENT_NW_LATENCY_MS', 'UNTUNNELED_PROTOCOL',
                          'flowStartNanoseconds', 'flowmondFlowAggregation')
        for word in ('-l', '+' + name)]
NINE = [word for name in ('CLIENT_NW_LATENCY_MS', 'UNTUNNELED_PROTOCOL', 'ipDiffServCodePoint')
        for word in ('-l', '+' + name)]
for title_, version_, options_ in (
        ('without some', 4, WITHOUT), ('without some, biflows', 6, ['-b', *WITHOUT]),
        ('with some', 6, WITH), ('with some, biflows', 4, ['-b', *WITH]),
        ('with and without', 4, ['-p', '-b', *WITH[:4], *WITHOUT]),
        ('v9 without some', 4, ['-9', *WITHOUT]), ('v9 with some', 6, ['-9', '-b', *NINE]),
        ('v9 by sysUptime, with and without', 4, ['-9', '-u', *NINE, *WITHOUT])):
    add_case('nfcapd, IPv%d, %s' % (version_, title_), check_nfcapd, version_, options_)
for title_, options_ in (('without some', WITHOUT), ('with some', WITH),
                         ('ntop, biflows, without some', ['-p', '-b', *WITHOUT]),
                         ('v9 with and without', ['-9', *NINE, *WITHOUT])):
    add_case('nfacctd, ' + title_, check_nfacctd, options_)

if __name__ == '__main__':
    main()
