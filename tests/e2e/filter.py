#!/usr/bin/python3
# SPDX-License-Identifier: Apache-2.0
"""Rules of the filter with the whole daemon: what they include is at the collectors, the rest is
counted as filtered, each packet under one rule; nothing is lost when they change."""
import random
import re
import signal

from lib import tap
from lib.collect import Nfcapd, account, json_flow
from lib.daemon import Flowmond, merge, refusal
from lib.lives import bpffs
from lib.mixture import Sender, Traffic, pair
from lib.net import Lab, couple, wait_until
from lib.packets import ICMP, SYN, TCP, UDP, Account, ip4, udp
from lib.tap import case, check, equal, note
from lib.traffic import Injector


def ends(flow):
    return flow[:2]


RULES = [
    ('exclude net 10.3.0.0/16 and port 53',
     lambda flow, flags: any(end.startswith('10.3.') for end in ends(flow)) and 53 in flow[2:4] and
     flow[4] != ICMP, False),
    ('include src host 10.2.0.1 or dst portrange 5000-6000',
     lambda flow, flags: flow[0] == '10.2.0.1' or (5000 <= flow[3] <= 6000 and flow[4] != ICMP), True),
    ('exclude flags syn,!ack', lambda flow, flags: flags == SYN, False),
    ('exclude ip6 and not (udp or dst host fd09::7)',
     lambda flow, flags: ':' in flow[0] and flow[4] != UDP, False),
    ('exclude icmp', lambda flow, flags: flow[4] == ICMP, False),
    ('exclude interface m* and out', lambda flow, flags: False, False),
]
OTHERS = ('default = include', lambda flow, flags: True, True)


def counted(status):
    return [[rule[kind] for kind in ('matched_packets', 'matched_octets')]
            for rule in status['rules']]


@case('each packet is where its rule says: collectors, JSON, status, metrics, audit')
def each_packet():
    with Lab('filter') as lab:
        a, m = pair(lab)
        collectors = [Nfcapd(m, 9995), Nfcapd(m, 9994)]
        daemon = Flowmond(m, {
            'capture': {'interfaces': 'm0'},
            'filter': {'rule': [rule[0] for rule in RULES]},
            'json': {'file': lab.path('flowmond.json')},
            'audit': {'interval': '1s'},
            'collector main': {'address': collectors[0].address()},
            'collector v9': {'address': collectors[1].address(), 'protocol': 'v9'}})
        traffic = Traffic(a)
        traffic.send(6000)
        traffic.close()
        kept, counts, left = traffic.split([rule[1:] for rule in RULES + [OTHERS]])
        status = daemon.status()
        metrics = daemon.ctl('metrics').stdout
        text = daemon.ctl('status').stdout
        daemon.stop()
        note('%d of %d packets are in flows' % (kept.packets(), traffic.total.packets()))
        check('every rule but the one for egress decided',
              all(count[0] for count, rule in zip(counts, RULES + [OTHERS])
                  if 'out' not in rule[0]), counts)
        equal('json', account(map(json_flow, daemon.json_records())).flows, kept.flows)
        for collector in collectors:
            equal('nfcapd', account(collector.stop()).flows, kept.flows)
        equal('filtered', [status['counters']['filtered'][what] for what in ('packets', 'octets')],
              left)
        equal('by rule', counted(status), counts)
        equal('in flows by rule',
              [[rule['counted_packets'], rule['counted_octets']] for rule in status['rules']],
              [count if rule[2] else [0, 0] for count, rule in zip(counts, RULES + [OTHERS])])
        equal('rules', [rule['rule'] for rule in status['rules']],
              [rule[0] for rule in RULES + [OTHERS]])
        for kind, number in (('packets', 0), ('octets', 1)):
            found = re.findall(r'^flowmond_rule_matched_%s_total\{number="(\d+)",rule="([^"]*)"\} (\d+)$'
                               % kind, metrics, re.M)
            equal('metrics', [(text, int(value)) for _, text, value in found],
                  [(rule[0], count[number]) for rule, count in zip(RULES + [OTHERS], counts)])
        for rule, count in zip(RULES + [OTHERS], counts):
            check('status', re.search(r'^ *%d +%d .* %s$' % (*count, re.escape(rule[0])), text, re.M),
                  text)
        audits = daemon.json_audits()
        equal('audit', [sum(audit.get(key, 0) for audit in audits)
                        for key in ('filteredPackets', 'filteredOctets')], left)


def books(daemon, records, traffic):
    """Flows that no rule ever speaks of are as they were sent; the others are there or filtered."""
    status = daemon
    kept = account(records)
    filtered = status['counters']['filtered']
    equal('packets in flows and filtered', kept.packets() + filtered['packets'],
          traffic.total.packets())
    equal('octets in flows and filtered', kept.octets() + filtered['octets'],
          traffic.total.octets())
    equal('lost', {name: count['packets'] for name, count in status['counters'].items()
                   if count['class'] == 'LOST' and count['packets']}, {})
    untouched = {flow: sums for flow, sums in traffic.total.flows.items()
                 if flow[3] == 443 and flow[4] == TCP}
    check('some are untouched', untouched)
    equal('untouched', {flow: kept.flows.get(flow) for flow in untouched}, untouched)


CHANGES = [
    {'rule': ['exclude port 53']},
    {'rule': ['exclude udp', 'include port 80']},
    {},
    {'rule': ['include tcp and port 443'], 'default': 'exclude'},
    {'rule': ['include tcp port 443', 'exclude interface m0 and in']},
    {'rule': ['exclude net 10.0.0.0/8 and not (tcp and port 443)', 'exclude icmp']},
]


@case('rules that change twenty times under load: nothing is lost, other flows are exact')
def changes_under_load():
    with Lab('filter2') as lab:
        a, m = pair(lab)
        collector = Nfcapd(m)
        base = {'capture': {'interfaces': 'm0'}, 'json': {'file': lab.path('flowmond.json')},
                'collector main': {'address': collector.address(), 'rate': '0'}}
        daemon = Flowmond(m, base)
        sender = Sender(a)
        for number in range(20):
            sender.more(300)
            daemon.reload(merge(base, {'filter': CHANGES[number % len(CHANGES)]}))
        sender.more(300)
        traffic = sender.stop()
        status = daemon.status()
        daemon.stop()
        note('%d packets, %d filtered' % (traffic.total.packets(),
                                          status['counters']['filtered']['packets']))
        check('some are filtered', status['counters']['filtered']['packets'] > 100)
        books(status, map(json_flow, daemon.json_records()), traffic)
        books(status, collector.stop(), traffic)
        equal('sequence errors, bad packets', collector.sequence_errors(), [0, 0])


@case('a daemon that is killed, handed over, restarted: rules hold and count on')
def lives():
    with Lab('filter3') as lab:
        a, m = pair(lab)
        settings = {'capture': {'interfaces': 'm0'}, 'json': {'file': lab.path('flowmond.json')},
                    'bpf': {'pin': bpffs(lab) + '/flowmond'},
                    'filter': {'rule': [rule[0] for rule in RULES]}}
        daemon = Flowmond(m, settings)
        sender = Sender(a)
        for end, status in ((signal.SIGKILL, -9), (signal.SIGUSR2, 0), (signal.SIGKILL, -9)):
            sender.more(500)
            daemon.stop(end, status)
            sender.more(500)  # nobody is there: the programs are
            daemon.start()
            daemon.wait_ready()
        sender.more(500)
        traffic = sender.stop()
        kept, counts, left = traffic.split([rule[1:] for rule in RULES + [OTHERS]])
        status = daemon.status()
        daemon.stop()
        note('%d packets' % traffic.total.packets())
        equal('by rule', counted(status), counts)
        equal('filtered', [status['counters']['filtered'][what] for what in ('packets', 'octets')],
              left)
        equal('json', account(map(json_flow, daemon.json_records())).flows, kept.flows)


@case('fifty thousand prefixes from a file, changed by reload')
def prefixes():
    with Lab('filter4') as lab:
        a, m = pair(lab)
        path = lab.path('prefixes')
        draw = random.Random(3)

        def write(more):
            with open(path, 'w', encoding='ascii') as file:
                file.write('# what we do not look at\n')
                for _ in range(50000):
                    file.write('172.%d.%d.%d/%d\n' % (16 + draw.randrange(16), draw.randrange(256),
                                                      draw.randrange(64) * 4, draw.choice((30, 32))))
                file.write('\n'.join(more) + '\n')
        write(['10.1.0.0/16', '10.3.0.0/30', 'fd08::2/127'])
        daemon = Flowmond(m, {'capture': {'interfaces': 'm0'},
                              'json': {'file': lab.path('flowmond.json')},
                              'filter': {'rule': ['exclude net file ' + path]}})
        traffic = Traffic(a)
        first = ('10.1.0.1', '10.3.0.1', 'fd08::2', 'fd08::3')
        traffic.send(2000)
        status = daemon.status()
        kept, counts, left = traffic.split([
            (lambda flow, flags: flow[0] in first, False), OTHERS[1:]])
        equal('filtered', status['counters']['filtered']['packets'], left[0])
        equal('by rule', counted(status), counts)
        write(['10.2.0.1'])
        daemon.reload()
        done = len(traffic.packets)
        traffic.send(2000)
        status = daemon.status()
        traffic.close()
        daemon.stop()
        before = left[0]
        later, traffic.packets = traffic.packets[done:], traffic.packets[done:]
        more, _, left = traffic.split([(lambda flow, flags: flow[0] == '10.2.0.1', False),
                                       OTHERS[1:]])
        check('traffic', later and left[0])
        equal('filtered after the reload', status['counters']['filtered']['packets'],
              before + left[0])
        kept.join(more.flows)
        equal('json', account(map(json_flow, daemon.json_records())).flows, kept.flows)


@case('an interface that comes later, and one that is renamed, are known by name at once')
def by_name():
    with Lab('filter5') as lab:
        a, m = pair(lab)
        daemon = Flowmond(m, {'json': {'file': lab.path('flowmond.json')}, 'filter': {
            'rule': ['exclude interface late* and in']}})
        couple(lab, a, 'b0', m, 'later0', 2)
        wait_until(lambda: any(one['name'] == 'later0' and one['direction'] == 'ingress'
                               for one in daemon.status()['by_interface']), 10, 'the interface')
        sent, left = Account(), Account()
        inject = Injector(a, 'b0', 'later0', left)
        other = Injector(a, 'a0', 'm0', sent)
        for number in range(200):
            packet, flow = (ip4('10.9.0.1', '10.9.0.2', UDP, udp(number + 1, 9, b'x')),
                            ('10.9.0.1', '10.9.0.2', number + 1, 9, UDP))
            inject.send(packet, flow)
            other.send(packet, flow)
        equal('filtered', daemon.status()['counters']['filtered']['packets'], left.packets())
        inject.close()
        m.run('ip', 'link', 'set', 'later0', 'name', 'now0')
        wait_until(lambda: any(one['name'] == 'now0' for one in daemon.status()['by_interface']), 10,
                   'the new name')
        again = Injector(a, 'b0', 'now0', sent)
        again.send(ip4('10.9.0.1', '10.9.0.3', UDP, udp(1, 9, b'x')),
                   ('10.9.0.1', '10.9.0.3', 1, 9, UDP))
        again.close()
        other.close()
        daemon.stop()
        mine = [record for record in map(json_flow, daemon.json_records())
                if record['flow'][0] == '10.9.0.1']
        equal('json', account(mine).flows, sent.flows)


WRONG = (
    ('exclude prot 53', 'prot'), ('exclude net 10.0.0.0/33', '10.0.0.0/33'), ('drop tcp', 'drop'),
    ('exclude (tcp', ''), ('exclude port 70000', '70000'), ('include tcp and', ''),
    ('sample 1 in 10 tcp', 'tcp'), ('exclude net file /nowhere/at/all', '/nowhere/at/all'),
    ('exclude host 10.0.0', '10.0.0'), ('exclude flags syn,what', 'what'))


@case('a rule that is wrong is named with file and line; a reload with it changes nothing')
def wrong():
    with Lab('filter6') as lab:
        a, m = pair(lab)
        good = {'capture': {'interfaces': 'm0'}, 'json': {'file': lab.path('flowmond.json')},
                'filter': {'rule': ['exclude port 53']}}
        for rule, named in WRONG:
            text, path = refusal(lab, {'filter': {'rule': ['include tcp', rule]}}) or ('', '')
            check(rule, '%s:3:' % path in text and named in text, text)
        daemon = Flowmond(m, good)
        traffic = Traffic(a)
        traffic.send(500)
        daemon.reload(merge(good, {'filter': {'rule': ['exclude port 53', 'exclude prot 1']}}))
        wait_until(lambda: 'configuration not changed' in daemon.log(), 10, 'the fault to be named')
        traffic.send(500)
        traffic.close()
        kept, counts, _ = traffic.split([
            (lambda flow, flags: flow[3] == 53 and flow[4] != ICMP, False), OTHERS[1:]])
        equal('by rule', counted(daemon.status()), counts)
        daemon.stop()
        equal('json', account(map(json_flow, daemon.json_records())).flows, kept.flows)


if __name__ == '__main__':
    tap.require_root()
    tap.main()
