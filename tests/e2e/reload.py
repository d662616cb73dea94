#!/usr/bin/python3
# SPDX-License-Identifier: Apache-2.0
"""SIGHUP under traffic: no packet is lost, new settings hold, a wrong file changes nothing."""
import signal
import threading
import time

from lib import tap
from lib.collect import Nfcapd, account, json_flow
from lib.daemon import Flowmond, attached, merge
from lib.net import Lab, couple, wait_until
from lib.packets import ICMP, TCP, UDP, Account, ip4, ip6, udp
from lib.tap import case, check, equal
from lib.traffic import Injector, exchange_tcp, ping


class Load:
    """Sends packets of many flows until left; the account says what went out."""

    def __init__(self, namespace, interface, target):
        self.account = Account()
        self.inject = Injector(namespace, interface, target, self.account)
        self.ends = threading.Event()
        self.thread = threading.Thread(target=self._send)

    def _send(self):
        number = 0
        while not self.ends.is_set():
            number += 1
            port = number % 97 + 1
            payload = udp(port, 9, bytes(number % 200))
            if number % 2:
                self.inject.send(ip4('10.8.0.1', '10.8.0.2', UDP, payload),
                                 ('10.8.0.1', '10.8.0.2', port, 9, UDP))
            else:
                self.inject.send(ip6('fd08::1', 'fd08::2', UDP, payload),
                                 ('fd08::1', 'fd08::2', port, 9, UDP))

    def __enter__(self):
        self.thread.start()
        return self

    def __exit__(self, *error):
        self.ends.set()
        self.thread.join()
        self.inject.close()

    def more(self, packets):
        """Waits until so many more packets went out."""
        aim = self.account.packets() + packets
        wait_until(lambda: self.account.packets() >= aim, 30, 'traffic')


def pair(lab):
    a, m = lab.ns('a'), lab.ns('m')
    couple(lab, a, 'a0', m, 'm0', 1)
    return a, m


# Each is reloaded in turn under load, over what every step has.
STEPS = [
    {},
    {'flows': {'idle_timeout': '200ms', 'active_timeout': '1s', 'sweep_interval': '20ms'}},
    {'flows': {'max': '32768'}},
    {'flows': {'max': '2048'}},
    {'flows': {'biflow': 'yes'}},
    {'flows': {'end_linger': '0s', 'key': 'vlan, interface'}},
    {'flows': {'key': 'tos'}},
    {'capture': {'interfaces': 'm0'}},
    {'capture': {'interfaces': '!lo, !nothing'}},
    {'capture': {'attach': 'clsact'}},
    {'log': {'level': 'debug'}},
    {},
]


@case('reloads under load, each setting in turn: every packet is exported once')
def under_load():
    with Lab('reload') as lab:
        a, m = pair(lab)
        collector = Nfcapd(m)
        base = {'json': {'file': lab.path('flowmond.json')},
                'collector main': {'address': collector.address(), 'rate': '0'}}
        daemon = Flowmond(m, base)
        with Load(a, 'a0', 'm0') as load:
            for step in STEPS:
                load.more(1500)
                daemon.reload(merge(base, step))
            load.more(1500)
        status = daemon.status()
        daemon.stop()
        check('status', status)
        equal('json', account(map(json_flow, daemon.json_records())).flows, load.account.flows)
        records = collector.stop()
        equal('collector', account(records).flows, load.account.flows)


@case('a wrong file on reload: the old settings stay, the fault is named, nothing is lost')
def wrong_file():
    with Lab('badload') as lab:
        a, m = pair(lab)
        good = {'json': {'file': lab.path('flowmond.json')}}
        daemon = Flowmond(m, good)
        with Load(a, 'a0', 'm0') as load:
            for text, line in (('[flows]\nidle_timeout = never\n', 2), ('[what]\na = b\n', 2),
                               ('[capture]\nobserve = once\n[collector x]\naddress = here\n', 4)):
                load.more(500)
                daemon.reload(text)
                wait_until(lambda: '%s:%d:' % (daemon.config_path, line) in daemon.log(), 5,
                           'the fault to be named')
                check('still runs', daemon.process.running())
        daemon.reload(good)
        sent = Account()
        ping(sent, a, '10.1.0.1', '10.1.0.2', 3)
        daemon.stop()
        sent.join(load.account.flows)
        equal('json', account(map(json_flow, daemon.json_records())).flows, sent.flows)


@case('the file is gone on reload: the old settings stay')
def file_gone():
    import os
    with Lab('gone') as lab:
        a, m = pair(lab)
        daemon = Flowmond(m, {'json': {'file': lab.path('flowmond.json')}})
        os.unlink(daemon.config_path)
        daemon.reload()
        sent = Account()
        ping(sent, a, '10.1.0.1', '10.1.0.2', 3)
        daemon.stop()
        equal('json', account(map(json_flow, daemon.json_records())).flows, sent.flows)


@case('a collector is added, changed, removed: each shows what was exported while it was there')
def collectors_change():
    with Lab('swap') as lab:
        a, m = pair(lab)
        first, second = Nfcapd(m, 9995), Nfcapd(m, 9994)
        base = {'json': {'file': lab.path('flowmond.json')},
                'flows': {'idle_timeout': '200ms', 'sweep_interval': '50ms'}}

        def one(collector, **more):
            return {'collector main': dict(address=collector.address(), **more)}

        daemon = Flowmond(m, merge(base, one(first)))
        phases = []
        for number, settings in enumerate((None, merge(base, one(second)),
                                           merge(base, one(second, protocol='v9')), base)):
            if settings:
                daemon.reload(settings)
            sent = Account()
            ping(sent, a, '10.1.0.1', '10.1.0.2', 3 + number)
            phases.append(sent)
            lines = len(sent.flows) * (number + 1)
            wait_until(lambda: len(daemon.json_records()) >= lines, 10, 'idle flows to come out')
        daemon.stop()
        everything = Account()
        for phase in phases:
            everything.join(phase.flows)
        both = Account()
        for phase in phases[1:3]:
            both.join(phase.flows)
        equal('json', account(map(json_flow, daemon.json_records())).flows, everything.flows)
        equal('first collector', account(first.stop()).flows, phases[0].flows)
        equal('second collector', account(second.stop()).flows, both.flows)


@case('interfaces are taken off and on by reload')
def interfaces_change():
    with Lab('ifload') as lab:
        a, m = pair(lab)
        couple(lab, a, 'a1', m, 'n1', 2)
        base = {'json': {'file': lab.path('flowmond.json')}}
        daemon = Flowmond(m, merge(base, {'capture': {'interfaces': 'm*'}}))
        sent, unseen = Account(), Account()
        ping(sent, a, '10.1.0.1', '10.1.0.2', 3)
        ping(unseen, a, '10.2.0.1', '10.2.0.2', 3)
        daemon.reload(merge(base, {'capture': {'interfaces': 'n*'}}))
        wait_until(lambda: attached(m, 'm0')[0] == 0, 5, 'm0 to be left')
        ping(unseen, a, '10.1.0.1', '10.1.0.2', 5)
        ping(sent, a, '10.2.0.1', '10.2.0.2', 7)
        daemon.stop()
        equal('json', account(map(json_flow, daemon.json_records())).flows, sent.flows)


@case('shorter timeouts hold for flows that are open')
def shorter():
    with Lab('shorter') as lab:
        a, m = pair(lab)
        base = {'json': {'file': lab.path('flowmond.json')}}
        daemon = Flowmond(m, base)
        sent = Account()
        ping(sent, a, '10.1.0.1', '10.1.0.2', 3)
        exchange_tcp(a, '10.1.0.1', 7, m, '10.1.0.2', 8, 1, 1)
        daemon.reload(merge(base, {'flows': {'idle_timeout': '1s', 'end_linger': '500ms'}}))

        def reasons(protocol):
            return [r['reason'] for r in map(json_flow, daemon.json_records())
                    if r['flow'][4] == protocol]
        wait_until(lambda: reasons(TCP) == [3, 3], 5, 'the TCP connection, by its end')
        wait_until(lambda: reasons(ICMP) == [1, 1], 5, 'the ping, idle')
        daemon.stop()


@case('a storm of SIGHUPs')
def storm():
    with Lab('storm') as lab:
        a, m = pair(lab)
        daemon = Flowmond(m, {'json': {'file': lab.path('flowmond.json')}})
        with Load(a, 'a0', 'm0') as load:
            for _ in range(50):
                daemon.process.popen.send_signal(signal.SIGHUP)
                time.sleep(0.01)
            load.more(500)
        wait_until(lambda: daemon.status(), 10, 'an answer')
        daemon.stop()
        equal('json', account(map(json_flow, daemon.json_records())).flows, load.account.flows)


if __name__ == '__main__':
    tap.require_root()
    tap.main()
