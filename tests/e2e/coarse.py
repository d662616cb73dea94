#!/usr/bin/python3
# SPDX-License-Identifier: Apache-2.0
"""Flows that are added up with the whole daemon: by addresses, pairs of hosts, prefixes, numbers of a
file; every packet in one of them, at every collector, while the key changes and processes come and go."""
import ipaddress
import json
import os
import signal
import subprocess

from lib import tap
from lib.collect import Nfacctd, Nfcapd, json_flow
from lib.daemon import Flowmond, merge, refusal
from lib.lives import bpffs
from lib.mixture import Sender, Traffic, pair
from lib.net import Lab
from lib.packets import ICMP
from lib.tap import case, check, equal, note

NUMBERS = (('10.0.0.0/8', None), ('10.2.0.0/15', 64512), ('192.0.2.0/30', None), ('fd08::/16', 64513),
           ('fd08::4/127', None))


def side(address, settings, numbers):
    """(address, length, number) that stand for an address."""
    address = ipaddress.ip_address(address)
    within = [(ipaddress.ip_network(prefix), number) for prefix, number in numbers
              if address in ipaddress.ip_network(prefix)]
    if within:
        network, number = max(within, key=lambda one: one[0].prefixlen)
    else:
        length = settings.get('prefix%d' % address.version, address.max_prefixlen)
        network, number = ipaddress.ip_network('%s/%s' % (address, length), strict=False), None
    if number:
        return str(ipaddress.ip_address('::' if address.version == 6 else '0.0.0.0')), 0, number
    return str(network.network_address), network.prefixlen, 0


def coarse(flow, settings, numbers=()):
    """What a flow is added up by: source, destination, ports and protocol."""
    source, target = (side(address, settings, numbers) for address in flow[:2])
    what = settings.get('aggregate', 'no')
    ports = flow[2:4] if what == 'no' else (0, 0)
    return source, target, *ports, 255 if what == 'hosts' else flow[4]


def expected(traffic, settings, numbers=()):
    sums = {}
    for flow, (packets, octets) in traffic.total.flows.items():
        one = sums.setdefault(coarse(flow, settings, numbers), [0, 0])
        one[0] += packets
        one[1] += octets
    return sums


def from_json(lines):
    sums = {}
    for line in lines:
        record = json_flow(line)
        version = '6' if 'sourceIPv6Address' in line else '4'
        ends = [(record['flow'][i], line['%sIPv%sPrefixLength' % (end, version)],
                 line.get('bgp%sAsNumber' % end.capitalize(), 0))
                for i, end in enumerate(('source', 'destination'))]
        one = sums.setdefault((*ends, *record['flow'][2:]), [0, 0])
        one[0] += record['packets']
        one[1] += record['octets']
    return sums


def from_nfdump(collector):
    """What nfdump shows of prefixes and numbers."""
    collector.stop()
    sums = {}
    for name in sorted(os.listdir(collector.dir)):
        if 'current' in name:
            continue
        text = subprocess.run(['nfdump', '-r', os.path.join(collector.dir, name), '-o', 'json'],
                              stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True,
                              timeout=120, check=False).stdout
        # nfcapd begins a file every hour: one may hold nothing.
        for entry in json.loads(text[text.find('['):] if '{' in text else '[]'):
            record = Nfcapd._record(entry)  # pylint: disable=protected-access
            ends = [(record['flow'][i], entry.get(end + '_mask', 0), entry.get(end + '_as', 0))
                    for i, end in enumerate(('src', 'dst'))]
            one = sums.setdefault((*ends, *record['flow'][2:]), [0, 0])
            one[0] += record['packets']
            one[1] += record['octets']
    return sums


def plain(sums):
    """Without what nfacctd is not asked for: lengths, numbers, types of ICMP."""
    result = {}
    for key, (packets, octets) in sums.items():
        ports = (0, 0) if key[4] == ICMP else key[2:4]
        one = result.setdefault((*((end[0], 0, 0) for end in key[:2]), *ports, key[4]), [0, 0])
        one[0] += packets
        one[1] += octets
    return result


def prefix_file(lab, numbers):
    path = lab.path('prefixes')
    with open(path, 'w', encoding='ascii') as file:
        for prefix, number in numbers:
            file.write(prefix + (' %d\n' % number if number else '\n'))
    return path


WAYS = (({'aggregate': 'ports'}, ()), ({'aggregate': 'hosts'}, ()),
        ({'prefix4': '20', 'prefix6': '64'}, ()),
        ({'aggregate': 'ports', 'prefix4': '16', 'prefix6': '0'}, ()),
        ({'aggregate': 'hosts', 'prefix4': '24'}, NUMBERS))


def each_way(settings, numbers):
    with Lab('coarse') as lab:
        a, m = pair(lab)
        if numbers:
            settings = dict(settings, prefix_file=prefix_file(lab, numbers))
        dumps = [Nfcapd(m, 9995), Nfcapd(m, 9994)]
        acct = Nfacctd(m, 9996)
        daemon = Flowmond(m, {
            'capture': {'interfaces': 'm0'}, 'flows': settings,
            'json': {'file': lab.path('flowmond.json')},
            'collector ipfix': {'address': dumps[0].address(), 'rate': '0'},
            'collector v9': {'address': dumps[1].address(), 'protocol': 'v9', 'rate': '0'},
            'collector acct': {'address': acct.address(), 'rate': '0'}})
        traffic = Traffic(a)
        traffic.send(3000)
        traffic.close()
        daemon.stop()
        wanted = expected(traffic, settings, numbers)
        lines = daemon.json_records()
        note('%d flows added up to %d, in %d records' % (len(traffic.total.flows), len(wanted),
                                                         len(lines)))
        check('fewer', len(wanted) < len(traffic.total.flows) or 'aggregate' not in settings)
        equal('json', from_json(lines), wanted)
        for collector in dumps:
            equal('nfdump', from_nfdump(collector), wanted)
        equal('nfacctd', {(*((end, 0, 0) for end in record['flow'][:2]), *record['flow'][2:]):
                          [record['packets'], record['octets']] for record in acct.stop()},
              plain(wanted))
        check('no flow is measured or has ended', not any(
            'rttMean' in line or line['flowEndReason'] == 3 for line in lines))


for way in WAYS:
    case('%s%s: JSON, nfdump, nfacctd' % (' '.join('%s = %s,' % item for item in way[0].items()).rstrip(','),
                                          ', prefixes and numbers of a file' if way[1] else ''))(
        lambda settings=way[0], numbers=way[1]: each_way(settings, numbers))


def totals(daemon, traffic):
    status = daemon.status()
    daemon.stop()
    lines = daemon.json_records()
    equal('packets', sum(line['packetDeltaCount'] for line in lines), traffic.total.packets())
    equal('octets', sum(line['octetDeltaCount'] for line in lines), traffic.total.octets())
    equal('lost', {name: count['packets'] for name, count in status['counters'].items()
                   if count['class'] == 'LOST' and count['packets']}, {})
    return lines


@case('the key changes ten times under load: every packet is in a record')
def changes_under_load():
    with Lab('coarse2') as lab:
        a, m = pair(lab)
        collector = Nfcapd(m)
        path = prefix_file(lab, NUMBERS)
        base = {'capture': {'interfaces': 'm0'}, 'json': {'file': lab.path('flowmond.json')},
                'collector main': {'address': collector.address(), 'rate': '0'}}
        daemon = Flowmond(m, base)
        sender = Sender(a)
        for number in range(10):
            sender.more(300)
            settings, numbers = (({}, ()), *WAYS)[number % 6]
            if numbers:
                settings = dict(settings, prefix_file=path)
            daemon.reload(merge(base, {'flows': settings}))
        sender.more(300)
        traffic = sender.stop()
        totals(daemon, traffic)
        records = collector.stop()
        equal('nfcapd', [sum(record[what] for record in records) for what in ('packets', 'octets')],
              [traffic.total.packets(), traffic.total.octets()])


@case('a file of prefixes that changes by reload, while processes are killed and follow each other')
def lives():
    with Lab('coarse3') as lab:
        a, m = pair(lab)
        path = prefix_file(lab, NUMBERS)
        settings = {'capture': {'interfaces': 'm0'}, 'json': {'file': lab.path('flowmond.json')},
                    'bpf': {'pin': bpffs(lab) + '/flowmond'},
                    'flows': {'aggregate': 'ports', 'prefix_file': path}}
        daemon = Flowmond(m, settings)
        sender = Sender(a)
        for number, (end, status) in enumerate(((signal.SIGKILL, -9), (signal.SIGUSR2, 0)) * 2):
            sender.more(300)
            prefix_file(lab, NUMBERS[:number + 1])
            if number % 2:
                daemon.reload()
                sender.more(300)
            daemon.stop(end, status)
            sender.more(300)  # nobody is there: the programs are
            daemon.start()
            daemon.wait_ready()
        sender.more(300)
        traffic = sender.stop()
        lines = totals(daemon, traffic)
        check('numbers', {line.get('bgpSourceAsNumber') for line in lines} >= {64512, 0})
        check('prefixes', {line.get('sourceIPv4PrefixLength') for line in lines} >= {8, 0, None})


@case('a table that is much too small: every packet is in a record')
def too_small():
    with Lab('coarse4') as lab:
        a, m = pair(lab)
        daemon = Flowmond(m, {'capture': {'interfaces': 'm0'},
                              'json': {'file': lab.path('flowmond.json')},
                              'flows': {'aggregate': 'ports', 'max': '1024'}})
        traffic = Traffic(a)
        for number in range(4000):
            traffic.send_from('10.%d.%d.1' % divmod(number, 250), '192.0.2.9')
        traffic.close()
        elsewhere = daemon.status()['counters']
        lines = totals(daemon, traffic)
        check('some found no place', elsewhere['overflow']['packets'] +
              elsewhere['coarse']['packets'] > 100, elsewhere)
        note('%d records of %d pairs' % (len(lines), len(traffic.total.flows)))


# The line is that of a value, or of its section where values do not agree.
WRONG = (({'prefix_file': '/dev/null', 'aggregate': 'ports'}, 1, 'expected a regular file'),
         ({'prefix_file': '/nowhere', 'aggregate': 'no'}, 1, 'aggregate = ports or hosts'),
         ({'prefix_file': '/nowhere', 'aggregate': 'hosts'}, 1, 'No such file'),
         ({'prefix6': '127'}, 1, 'at most 120, or 128'), ({'prefix4': '33'}, 2, 'prefix4'),
         ({'aggregate': 'addresses'}, 2, 'no, ports or hosts'))


@case('settings and files that are wrong are named with file and line')
def wrong():
    with Lab('coarse5') as lab:
        for settings, line, named in WRONG:
            text, path = refusal(lab, {'flows': settings}) or ('', '')
            check(named, '%s:%d: ' % (path, line) in text and named in text, text)
        for line, named in (('10.0.0.0/8 0', "'0'"), ('10.0.0.1/8', '10.0.0.0/8'), ('host', 'host'),
                            ('10.0.0.0/8 1 2', 'one number'), ('10.0.0.0/8 AS1', 'AS1')):
            with open(lab.path('prefixes'), 'w', encoding='ascii') as file:
                file.write('# one\n\n%s\n' % line)
            text, _ = refusal(lab, {'flows': {'aggregate': 'ports',
                                              'prefix_file': lab.path('prefixes')}}) or ('', '')
            check(line, 'prefixes:3: ' in text and named in text, text)
        text, _ = refusal(lab, {'flows': {'aggregate': 'ports'}, 'metrics': {'tcp': 'yes'}}) or ('', '')
        check('TCP', '[metrics] tcp = yes' in text, text)


if __name__ == '__main__':
    tap.require_root()
    tap.main()
