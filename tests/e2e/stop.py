#!/usr/bin/python3
# SPDX-License-Identifier: Apache-2.0
"""The end of the daemon: what is open is exported, the status is 0, nothing of it is left on the
interfaces, and what belongs to others stays."""
import os
import signal
import time

from lib import tap
from lib.collect import Nfcapd, account, json_flow
from lib.daemon import Flowmond, attached
from lib.net import Lab, couple, wait_until
from lib.packets import Account
from lib.tap import case, check, equal
from lib.traffic import ping, send_udp


def pair(lab):
    a, m = lab.ns('a'), lab.ns('m')
    couple(lab, a, 'a0', m, 'm0', 1)
    return a, m


def stopped_by(number):
    with Lab('stop') as lab:
        a, m = pair(lab)
        collector = Nfcapd(m)
        daemon = Flowmond(m, {'collector main': {'address': collector.address()},
                              'json': {'file': lab.path('flowmond.json')}})
        sent = Account()
        send_udp(sent, a, '10.1.0.1', 1, m, '10.1.0.2', 2, 10, 10)
        ping(sent, m, 'fd00:1::2', 'fd00:1::1', 3)
        started = time.monotonic()
        daemon.stop(number)
        check('stops within 5 s', time.monotonic() - started < 5)
        lines = [json_flow(line) for line in daemon.json_records()]
        equal('collector', account(collector.stop()).flows, sent.flows)
        equal('json', account(lines).flows, sent.flows)
        equal('flowEndReason of open flows', {line['reason'] for line in lines}, {4})
        programs, qdiscs = attached(m, 'm0')
        equal('programs left', programs, 0)
        equal('qdiscs left', qdiscs, [])
        check('control socket is gone', not os.path.exists(daemon.control))


for end in (signal.SIGTERM, signal.SIGINT):
    tap.add_case('%s exports what is open, exits with 0, leaves nothing' % end.name, stopped_by,
                 end)


def beside_others(attach):
    """Another one's clsact qdisc and filter work on and are still there afterwards."""
    with Lab('others') as lab:
        a, m = pair(lab)
        m.run('tc', 'qdisc', 'add', 'dev', 'm0', 'clsact')
        for hook in ('ingress', 'egress'):
            m.run('tc', 'filter', 'add', 'dev', 'm0', hook, 'protocol', 'all', 'prio', '7',
                  'u32', 'match', 'u32', '0', '0', 'flowid', '1:1')
        before = m.run('tc', 'filter', 'show', 'dev', 'm0', 'ingress')
        daemon = Flowmond(m, {'capture': {'attach': attach},
                              'json': {'file': lab.path('flowmond.json')}})
        check('programs are attached', attached(m, 'm0')[0] == 2, attached(m, 'm0'))
        sent = Account()
        ping(sent, a, '10.1.0.1', '10.1.0.2', 3)
        daemon.stop()
        equal('counted beside the other filter',
              account(map(json_flow, daemon.json_records())).flows, sent.flows)
        equal('their filter', m.run('tc', 'filter', 'show', 'dev', 'm0', 'ingress'), before)
        equal('their qdisc', len(attached(m, 'm0')[1]), 1)
        equal('programs left', attached(m, 'm0')[0], 0)


for way in ('auto', 'clsact'):
    tap.add_case('attach = %s beside other people\'s clsact' % way, beside_others, way)


@case('attach = clsact counts the same and removes its own qdisc')
def clsact():
    with Lab('clsact') as lab:
        a, m = pair(lab)
        daemon = Flowmond(m, {'capture': {'attach': 'clsact'},
                              'json': {'file': lab.path('flowmond.json')}})
        equal('qdisc', len(attached(m, 'm0')[1]), 1)
        sent = Account()
        send_udp(sent, a, 'fd00:1::1', 1, m, 'fd00:1::2', 2, 10, 10)
        daemon.stop()
        equal('json', account(map(json_flow, daemon.json_records())).flows, sent.flows)
        equal('left', attached(m, 'm0'), (0, []))


@case('killed with SIGKILL, started again: counts, and stops cleanly')
def killed():
    with Lab('kill') as lab:
        a, m = pair(lab)
        first = Flowmond(m, {'json': {'file': lab.path('first.json')}}, name='first')
        links = first.status()['attach'] == 'tcx'
        first.stop(signal.SIGKILL, -signal.SIGKILL)
        # Links go with their owner; filters stay, and are the next one's.
        wait_until(lambda: attached(m, 'm0')[0] == (0 if links else 2), 5,
                   'programs of the killed one')
        second = Flowmond(m, {'json': {'file': lab.path('flowmond.json')},
                              'control': {'socket': first.control}})
        sent = Account()
        ping(sent, a, '10.1.0.1', '10.1.0.2', 3)
        check('control socket of the killed one is taken over', os.path.exists(first.control))
        second.stop()
        equal('json', account(map(json_flow, second.json_records())).flows, sent.flows)
        equal('left', attached(m, 'm0'), (0, []))


@case('idle and ended flows come out by themselves, with their reason')
def reasons():
    from lib.traffic import exchange_tcp
    with Lab('reasons') as lab:
        a, m = pair(lab)
        daemon = Flowmond(m, {'json': {'file': lab.path('flowmond.json')}, 'flows': {
            'idle_timeout': '1s', 'end_linger': '300ms', 'active_timeout': '2s',
            'sweep_interval': '50ms'}})
        exchange_tcp(a, '10.1.0.1', 3, m, '10.1.0.2', 4, 100, 100)
        sent = Account()
        send_udp(sent, a, '10.1.0.1', 1, m, '10.1.0.2', 2, 1, 10)
        for _ in range(9):
            send_udp(sent, a, '10.1.0.1', 5, m, '10.1.0.2', 6, 1, 10)
            time.sleep(0.3)

        def reasons_of(port):
            return [r['reason'] for r in map(json_flow, daemon.json_records())
                    if port in r['flow'][2:4]]
        wait_until(lambda: reasons_of(3) == [3, 3], 5, 'both halves of the TCP flow')
        equal('idle', reasons_of(1), [1])
        check('active timeout first', reasons_of(5)[:1] == [2], reasons_of(5))
        wait_until(lambda: reasons_of(5)[-1] == 1, 5, 'idle end')
        daemon.stop()
        udp = {flow: value for flow, value in
               account(map(json_flow, daemon.json_records())).flows.items() if flow[4] == 17}
        equal('sums over all records', udp, sent.flows)


if __name__ == '__main__':
    tap.require_root()
    tap.main()
