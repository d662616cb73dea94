#!/usr/bin/python3
# SPDX-License-Identifier: Apache-2.0
"""A known mix of traffic between two namespaces: what collectors show equals what was sent, flow by
flow, to the packet and the octet, over every protocol and transport."""
from lib import tap
from lib.collect import Nfacctd, Nfcapd, TcpListener, account, json_flow, malformed
from lib.daemon import Flowmond, merge
from lib.net import Lab, couple
from lib.packets import ICMP, ICMP6, TCP, Account
from lib.tap import case, check, equal
from lib.traffic import Injector, crafted_mix, exchange_tcp, ping, send_udp
from lib.truth import Capture, read_capture

A4, M4, A6, M6 = '10.1.0.1', '10.1.0.2', 'fd00:1::1', 'fd00:1::2'


def drive(a, m):
    """Sends the whole mix; the account holds everything but TCP, which only the wire knows."""
    account = Account()
    for src, dst in ((A4, M4), (A6, M6)):
        send_udp(account, a, src, 2000, m, dst, 53, 25, 100)
        send_udp(account, m, dst, 2001, a, src, 53, 5, 1)
        send_udp(account, a, src, 2002, m, dst, 5000, 4, 5000)
        ping(account, a, src, dst, 5)
        ping(account, m, dst, src, 2, 4000)
        exchange_tcp(a, src, 3000, m, dst, 80, 100, 200000)
        exchange_tcp(m, dst, 3001, a, src, 80, 50000, 0)
    inject = Injector(a, 'a0', 'm0', account)
    crafted_mix(inject)
    inject.close()
    return account


class Run:
    """The mix once through, with all that was collected."""

    def __init__(self, collectors, extra=None):
        with Lab('mix') as lab:
            a, m = lab.ns('a'), lab.ns('m')
            couple(lab, a, 'a0', m, 'm0', 1)
            self.ifindex = m.ifindex('m0')
            running = {name: kind(m, port, host) for name, (kind, port, host, _) in
                       collectors.items()}
            wire = Capture(m, 'm0')
            exported = Capture(m, 'lo')
            settings = merge({'json': {'file': lab.path('flowmond.json')}}, extra or {}, {
                'collector ' + name: dict(keys, address=running[name].address())
                for name, (_, _, _, keys) in collectors.items()})
            daemon = Flowmond(m, settings)
            self.sent = drive(a, m)
            self.status = daemon.status()
            self.log = daemon.stop()
            self.wire = read_capture(wire.stop())
            self.records = {name: collector.stop() for name, collector in running.items()}
            self.json = [json_flow(line) for line in daemon.json_records()]
            path = exported.stop()
            self.malformed = {name: malformed(path, port)
                              for name, (_, port, _, _) in collectors.items()}
            self.sequence = {name: collector.sequence_errors()
                             for name, collector in running.items() if isinstance(collector, Nfcapd)}
            for flow, counts in self.wire.flows.flows.items():
                if flow[4] == TCP and flow not in self.sent.flows:
                    self.sent.flows[flow] = counts


@tap.once
def plain():
    return Run({
        'ipfix4': (Nfcapd, 9995, '127.0.0.1', {'protocol': 'ipfix'}),
        'ipfix6': (Nfcapd, 9994, '::1', {'protocol': 'ipfix', 'profile': 'full'}),
        'v9four': (Nfcapd, 9993, '127.0.0.1', {'protocol': 'v9'}),
        'v9six': (Nfcapd, 9992, '::1', {'protocol': 'v9', 'profile': 'full'}),
        'tcp4': (TcpListener, 4739, '127.0.0.1', {'transport': 'tcp'}),
        'tcp6': (TcpListener, 4740, '::1', {'transport': 'tcp', 'profile': 'full'}),
        'pmacct': (Nfacctd, 9996, '127.0.0.1', {'protocol': 'ipfix'}),
    })


@tap.once
def biflow():
    return Run({
        'ipfix': (Nfcapd, 9995, '127.0.0.1', {'protocol': 'ipfix'}),
        'full': (TcpListener, 4739, '127.0.0.1', {'transport': 'tcp', 'profile': 'full'}),
    }, {'flows': {'biflow': 'yes'}})


def is_same_account(run, records, what):
    equal(what, account(records).flows, run.sent.flows)
    equal(what + ': one record a direction', len(records), len(run.sent.flows))


@case('the wire saw what the sender says it sent')
def wire_agrees():
    equal('account', plain().wire.flows.flows, plain().sent.flows)


@case('JSON: flows, packets and octets')
def json_lines():
    is_same_account(plain(), plain().json, 'json')


@case('IPFIX over UDP, IPv4 collector: nfdump shows the sender\'s flows, packets, octets')
def ipfix4():
    is_same_account(plain(), plain().records['ipfix4'], 'ipfix4')


@case('IPFIX over UDP, IPv6 collector, profile full')
def ipfix6():
    is_same_account(plain(), plain().records['ipfix6'], 'ipfix6')


@case('NetFlow v9, IPv4 collector')
def netflow4():
    is_same_account(plain(), plain().records['v9four'], 'v9four')


@case('NetFlow v9, IPv6 collector, profile full')
def netflow6():
    is_same_account(plain(), plain().records['v9six'], 'v9six')


@case('IPFIX over TCP, IPv4: the libfixbuf listener decodes the same')
def tcp4():
    is_same_account(plain(), plain().records['tcp4'], 'tcp4')


@case('IPFIX over TCP, IPv6, profile full')
def tcp6():
    is_same_account(plain(), plain().records['tcp6'], 'tcp6')


@case('nfacctd sums up the same')
def pmacct():
    def without_icmp_code(flows):
        merged = Account()
        for (src, dst, sport, dport, protocol), (packets, octets) in flows.items():
            if protocol in (ICMP, ICMP6):
                sport = dport = 0
            merged.add(src, dst, sport, dport, protocol, octets, packets)
        return merged.flows
    equal('nfacctd', without_icmp_code(account(plain().records['pmacct']).flows),
          without_icmp_code(plain().sent.flows))


@case('tshark finds nothing malformed and decodes every message')
def nothing_malformed():
    for name, (bad, records) in plain().malformed.items():
        equal(name + ': faults', bad, [])
        check(name + ': flow records decoded', records >= len(plain().sent.flows), records)


@case('nfcapd counts no sequence error and no bad packet')
def sequences():
    equal('sequence errors, bad packets', plain().sequence,
          {name: [0, 0] for name in plain().sequence})


@case('direction and interface: in by the interface, out by it')
def interfaces():
    run = plain()
    for name in ('ipfix4', 'v9six'):
        for record in run.records[name]:
            ours = record['flow'][0] in (M4, M6)
            expected = (0, run.ifindex, 1) if ours else (run.ifindex, 0, 0)
            equal('%s: in, out, direction of %s' % (name, record['flow']),
                  (record['in'], record['out'], record['direction']), expected)


@case('outer VLAN of tagged flows')
def vlans():
    for name in ('ipfix4', 'v9four', 'ipfix6', 'v9six'):
        equal(name, {r['flow']: r['vlan'] for r in plain().records[name]}, plain().wire.vlans)


@case('TCP flags are gathered')
def flags():
    seen = {r['flow']: r['tcp_flags'] for r in plain().records['ipfix4']}
    equal('crafted', seen['10.77.0.1', '10.77.0.2', 401, 80, TCP], '...AP.SF')
    equal('connection', seen[A4, M4, 3000, 80, TCP], '...AP.SF')


@case('the books: every packet of the wire was seen, none lost, all handed on')
def books():
    run = plain()
    counters = run.status['counters']
    equal('packets seen that are IP', counters['seen']['packets'] - counters['not_ip']['packets'],
          run.sent.packets())
    equal('lost or told apart', {name: value['packets'] for name, value in counters.items()
                                 if value['class'] in ('LOST', 'AGAIN', 'AGGREGATED', 'FILTERED') or
                                 name == 'malformed'}, dict.fromkeys(
        ('again', 'overflow', 'malformed', 'filtered', 'not_sampled', 'overflow_lost', 'no_table'), 0))
    check('nothing was given up', 'not sent' not in run.log, run.log[-1500:])


@case('biflow: one record a conversation, both halves, IPFIX to nfdump')
def biflows():
    check_biflow(biflow(), biflow().records['ipfix'])


@case('biflow: profile full over TCP to the libfixbuf listener')
def biflows_tcp():
    check_biflow(biflow(), biflow().records['full'])


def check_biflow(run, records):
    both = Account()
    for record in records:
        src, dst, sport, dport, protocol = record['flow']
        both.add(*record['flow'], record['octets'], record['packets'])
        if record['rev_packets']:
            if protocol in (ICMP, ICMP6):
                answer = {0x0800: 0, 0: 0x0800, 0x8000: 0x8100, 0x8100: 0x8000}[dport]
                both.add(dst, src, 0, answer, protocol, record['rev_octets'],
                         record['rev_packets'])
            else:
                both.add(dst, src, dport, sport, protocol, record['rev_octets'],
                         record['rev_packets'])
    equal('both halves together', both.flows, run.sent.flows)
    two_way = sum(1 for r in records if r['rev_packets'])
    check('conversations are one record', len(records) + two_way == len(run.sent.flows),
          (len(records), two_way, len(run.sent.flows)))


if __name__ == '__main__':
    tap.require_root()
    tap.main()
