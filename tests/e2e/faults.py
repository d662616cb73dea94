#!/usr/bin/python3
# SPDX-License-Identifier: Apache-2.0
"""Errors put into a running daemon's system calls (strace) and its clock: what cannot be done is
named, nothing crashes or spins, it recovers, and the books balance: packets sent are in records, and
records are handed on or counted as not sent."""
import os
import re
import resource
import signal
import subprocess

from lib import tap
from lib.collect import Nfcapd, TcpListener, account, json_flow
from lib.daemon import BUILD, Flowmond, attached, merge
from lib.faults import Fault
from lib.lives import bpffs
from lib.net import Lab, couple, wait_until
from lib.packets import UDP, Account, ip4, udp
from lib.tap import case, check, equal
from lib.traffic import Injector

CLOCK = os.path.join(BUILD, 'tests', 'tools', 'libclockstep.so')
QUICK = {'idle_timeout': '200ms', 'sweep_interval': '50ms'}
FLOWS = 500


class Flows:
    """Flows of one packet each, every one another; the account says what went out."""

    def __init__(self, namespace):
        self.inject = Injector(namespace, 'a0', 'm0', Account())
        self.account, self.sent = self.inject.account, 0

    def send(self, flows=FLOWS):
        for number in range(self.sent, self.sent + flows):
            src = '10.8.%d.%d' % (number >> 8 & 255, number & 255)
            self.inject.send(ip4(src, '10.7.0.1', UDP, udp(1000, 9, bytes(20))),
                             (src, '10.7.0.1', 1000, 9, UDP))
        self.sent += flows


def start(lab, settings, *collectors):
    """The namespaces, the daemon and the collectors, which are there before it."""
    a, m = lab.ns('a'), lab.ns('m')
    couple(lab, a, 'a0', m, 'm0', 1)
    there = [collector(m) for collector in collectors]
    daemon = Flowmond(m, {'flows': QUICK, 'json': {'file': lab.path('flowmond.json')}, **settings})
    return a, m, daemon, *there


# The last datagram counts as sent when another follows it: templates do.
MAIN = {'collector main': {'address': '127.0.0.1:9995', 'template_interval': '1s'}}


def sink_of(daemon, name):
    for sink in daemon.status()['sinks']:
        if name in sink['name']:
            return sink
    raise KeyError(name)


def records(daemon):
    """Lines of the json file that are whole."""
    if not os.path.exists(daemon.json_path):
        return 0
    with open(daemon.json_path, 'rb') as file:
        return file.read().count(b'\n')


def balanced(daemon, name, given):
    """Waits until every record that the sink was given is handed on or named as not sent."""
    def balance():
        sink = sink_of(daemon, name)
        return sink['records'] + sink['not_sent_records'] == given and sink
    return wait_until(balance, 20, 'records + not sent = %d: %s' % (given, sink_of(daemon, name)))


def udp_error(error, named):
    with Lab('udp') as lab:
        a, _, daemon, collector = start(lab, MAIN, Nfcapd)
        flows = Flows(a)
        with Fault(daemon, 'sendmmsg:error=%s:when=1..6' % error) as fault:
            flows.send()
            fault.wait(6)
            wait_until(lambda: records(daemon) == FLOWS, 20, 'records')
        flows.send()
        wait_until(lambda: records(daemon) == 2 * FLOWS, 20, 'records')
        sink = balanced(daemon, 'main', 2 * FLOWS)
        if named:
            wait_until(lambda: daemon.log().count(': sending') > 1, 20, 'recovery in the log')
        log = daemon.stop()
        equal('json', account(map(json_flow, daemon.json_records())).flows, flows.account.flows)
        got = collector.stop()
        equal('received = handed on', [len(got), sum(r['packets'] for r in got)],
              [sink['records'], sink['packets']])
        if not named:
            equal('not sent', sink['not_sent_records'], 0)
            equal('collector', account(got).flows, flows.account.flows)
        else:
            check('not sent is counted', sink['not_sent_records'] > 0, sink)
            check('the log names it', named in log, log)


for code, text in (('ENOBUFS', None), ('EAGAIN', None), ('ENOMEM', None), ('EINTR', None),
                   ('EPERM', 'Operation not permitted')):
    tap.add_case('sendmmsg fails with %s: %s' % (code, 'named, and over' if text else
                                                 'every record arrives'), udp_error, code, text)


@case('disk full for the json file: named and counted, whole lines only; the collector has all')
def disk_full():
    with Lab('full') as lab:
        a, _, daemon, collector = start(lab, MAIN, Nfcapd)
        flows = Flows(a)
        with Fault(daemon, 'write:error=ENOSPC', path=daemon.json_path) as fault:
            flows.send()
            fault.wait(1)
            lost = wait_until(lambda: sink_of(daemon, 'json')['not_sent_records'] == FLOWS and
                              sink_of(daemon, 'json'), 20, 'all to be counted')
            equal('packets not sent', lost['not_sent_packets'], FLOWS)
        flows.send()
        wait_until(lambda: records(daemon) == FLOWS, 20, 'records after it')
        balanced(daemon, 'json', 2 * FLOWS)
        log = daemon.stop()
        check('the log names it', 'No space left on device' in log, log)
        equal('collector', account(collector.stop()).flows, flows.account.flows)


@case('no descriptors for control clients: no spinning, answers when there are')
def no_descriptors():
    with Lab('emfile') as lab:
        a, _, daemon = start(lab, {})
        flows = Flows(a)
        with Fault(daemon, 'accept4:error=EMFILE') as fault:
            client = subprocess.Popen([os.path.join(BUILD, 'src', 'ctl', 'flowmonctl'), '--socket',
                                       daemon.control, 'status'], stdout=subprocess.PIPE, text=True)
            fault.wait(1)
            # At least so many sweeps go by: a flow is out some sweeps after its packet.
            for number in range(5):
                flows.send(1)
                wait_until(lambda n=number: records(daemon) > n, 20, 'flow')
            check('tried again now and then, not all the time', fault.count() < 20, fault.count())
        text = client.communicate(timeout=20)[0]
        equal('answered', [client.returncode, 'flowmond' in text], [0, True])
        log = daemon.stop()
        check('the log names it', 'Too many open files' in log, log)
        equal('flows', account(map(json_flow, daemon.json_records())).flows, flows.account.flows)


@case('no sockets for a TCP collector: named, connected later, everything arrives')
def no_sockets():
    with Lab('socket') as lab:
        a, m, daemon = start(lab, {'collector main': {
            'address': '127.0.0.1:4739', 'transport': 'tcp', 'reconnect_interval': '100ms'}})
        flows = Flows(a)
        with Fault(daemon, 'socket:error=EMFILE') as fault:
            flows.send()
            fault.wait(2)
            wait_until(lambda: records(daemon) == FLOWS, 20, 'records')
        listener = TcpListener(m, 4739)
        flows.send()
        wait_until(lambda: records(daemon) == 2 * FLOWS, 20, 'records')
        wait_until(lambda: sink_of(daemon, 'main')['records'], 20, 'the connection')
        sink = balanced(daemon, 'main', 2 * FLOWS)
        log = daemon.stop()
        check('the log names it', 'Too many open files' in log, log)
        equal('received = handed on', len(listener.stop()), sink['records'])
        equal('json', account(map(json_flow, daemon.json_records())).flows, flows.account.flows)


@case('no memory for other tables: named, the old ones go on; a later reload takes them')
def no_memory():
    with Lab('enomem') as lab:
        a, _, daemon = start(lab, {})
        flows = Flows(a)
        other = {'flows': {**QUICK, 'max': '65536'}, 'json': {'file': lab.path('flowmond.json')}}
        flows.send()
        with open('/proc/%d/statm' % daemon.process.pid, encoding='ascii') as file:
            size = int(file.read().split()[0]) * resource.getpagesize()
        # No octet more than it has; what malloc() keeps free does for all but tables.
        resource.prlimit(daemon.process.pid, resource.RLIMIT_AS, (size, resource.RLIM_INFINITY))
        daemon.reload(other)
        flows.send()
        wait_until(lambda: records(daemon) == 2 * FLOWS, 20, 'records')
        resource.prlimit(daemon.process.pid, resource.RLIMIT_AS,
                         (resource.RLIM_INFINITY, resource.RLIM_INFINITY))
        log = daemon.log()
        check('the log names it', 'no memory for tables' in log, log)
        equal('the old table', daemon.status()['max_flows'], 8192)
        daemon.reload(other)
        equal('the new table', daemon.status()['max_flows'], 65536)
        flows.send()
        wait_until(lambda: records(daemon) == 3 * FLOWS, 20, 'records')
        daemon.stop()
        equal('flows', account(map(json_flow, daemon.json_records())).flows, flows.account.flows)


@case('every third system call is interrupted: nothing happens')
def interrupted():
    calls = ('epoll_wait', 'sendmmsg', 'recvmsg', 'recvfrom', 'read', 'write', 'accept4', 'poll',
             'membarrier', 'sendto', 'connect', 'bpf')
    with Lab('eintr') as lab:
        a, m, daemon, collector, listener = start(
            lab, {**MAIN, 'collector tcp': {'address': '127.0.0.1:4739', 'transport': 'tcp'}},
            Nfcapd, TcpListener)
        wait_until(lambda: any(words[3] == '01' for words in m.sockets('tcp', 4739)), 20, 'tcp')
        flows = Flows(a)
        with Fault(daemon, *['%s:error=EINTR:when=1+3' % name for name in calls]) as fault:
            for number in range(1, 4):
                flows.send()
                wait_until(lambda n=number: records(daemon) == n * FLOWS, 30, 'records')
            equal('answers', daemon.ctl('status').returncode, 0)
            fault.wait(20)
        for name in ('main', 'tcp'):
            equal('not sent to ' + name,
                  balanced(daemon, name, 3 * FLOWS)['not_sent_records'], 0)
        daemon.stop()
        equal('udp', account(collector.stop()).flows, flows.account.flows)
        equal('tcp', account(listener.stop()).flows, flows.account.flows)
        equal('json', account(map(json_flow, daemon.json_records())).flows, flows.account.flows)


@case('netlink loses messages: the list is read anew, the new interface is counted on')
def netlink():
    with Lab('netlink') as lab:
        _, m, daemon = start(lab, {})
        with Fault(daemon, 'recvfrom:error=ENOBUFS:when=1') as fault:
            lab.veth(m, 'x0', lab.ns('x'), 'x1')
            fault.wait(1)
            wait_until(lambda: attached(m, 'x0')[0] == 2, 20, 'programs at the new interface')
        daemon.stop()


@case('membarrier is refused: the other grace period does')
def no_membarrier():
    with Lab('fence') as lab:
        a, _, daemon = start(lab, {})
        flows = Flows(a)
        with Fault(daemon, 'membarrier:error=EPERM') as fault:
            flows.send()
            wait_until(lambda: records(daemon) == FLOWS, 20, 'records')
            fault.wait(1)
        daemon.stop()
        equal('flows', account(map(json_flow, daemon.json_records())).flows, flows.account.flows)


@case('the wall clock steps an hour, back and forth: every flow once, none ends before it began')
def clock_steps():
    with Lab('clock') as lab:
        offset = lab.path('offset')
        a, m = lab.ns('a'), lab.ns('m')
        couple(lab, a, 'a0', m, 'm0', 1)
        with open(offset, 'wb') as file:
            file.write((0).to_bytes(8, 'little', signed=True))
        collector = Nfcapd(m)
        daemon = Flowmond(m, {'flows': QUICK, 'json': {'file': lab.path('flowmond.json')},
                              'collector main': {'address': collector.address()}},
                          wrapper=('env', 'LD_PRELOAD=' + CLOCK, 'CLOCKSTEP=' + offset))
        flows, begun = Flows(a), {}
        for number, seconds in enumerate((0, 3600, -3600, 0), 1):
            with open(offset, 'r+b') as file:
                file.write(seconds.to_bytes(8, 'little', signed=True))
            sweeps = daemon.status()['sweeps']
            # The offset is taken at the beginning of a sweep.
            wait_until(lambda s=sweeps: daemon.status()['sweeps'] >= s + 2, 20, 'sweeps')
            before = records(daemon)
            flows.send()
            wait_until(lambda n=number: records(daemon) == n * FLOWS, 20, 'records')
            begun[seconds] = daemon.json_records()[before]['flowStartMilliseconds']
        daemon.stop()
        lines = daemon.json_records()
        equal('json', account(map(json_flow, lines)).flows, flows.account.flows)
        equal('collector', account(collector.stop()).flows, flows.account.flows)
        equal('flows that end before they begin',
              [line for line in lines
               if line['flowEndMilliseconds'] < line['flowStartMilliseconds']], [])
        hours = {seconds: re.search(r'T(\d\d):', str(when)) for seconds, when in begun.items()}
        check('the times of records are the clock\'s', len({
            match.group(1) if match else begun[seconds] // 1800000
            for seconds, match in hours.items()}) == 3, begun)


@case('killed where the outbox of a sink that was replaced is let go: its sequence goes on')
def replaced():
    with Lab('faults') as lab:
        m, a = lab.ns('m'), lab.ns('a')
        couple(lab, a, 'a0', m, 'm0', 1)
        collectors = Nfcapd(m, 9994), Nfcapd(m, 9995)
        settings = {'capture': {'interfaces': 'm0'}, 'bpf': {'pin': bpffs(lab) + '/flowmond'},
                    'flows': {'idle_timeout': '100ms', 'sweep_interval': '50ms'},
                    'collector v9': {'address': collectors[0].address(), 'protocol': 'v9'},
                    'collector udp': {'address': collectors[1].address()}}
        daemon, sent = Flowmond(m, settings), Account()
        for size in 1200, 1300:
            inject = Injector(a, 'a0', 'm0', sent)
            for port in range(1000, 1300):
                inject.send(ip4('10.8.0.1', '10.8.0.2', UDP, udp(port, 9)),
                            ('10.8.0.1', '10.8.0.2', port, 9, UDP))
            inject.close()
            wait_until(lambda: daemon.status()['observed_packets'] == sent.packets() and
                       not daemon.status()['live_slots'], 20, 'records')
            if size == 1300:
                break
            daemon.write(merge(settings, {name: {'message_size': str(size)}
                                          for name in ('collector v9', 'collector udp')}))
            # The first is gone.
            with Fault(daemon, 'unlink:signal=SIGKILL:when=2'):
                daemon.process.popen.send_signal(signal.SIGHUP)
                equal('its end', daemon.process.wait(20), -signal.SIGKILL)
            daemon.start()
            daemon.wait_ready()
        daemon.stop()
        for collector in collectors:
            equal('flows', account(collector.stop()).flows, sent.flows)
            equal('sequence errors, bad packets', collector.sequence_errors(), [0, 0])


if __name__ == '__main__':
    tap.require_root()
    tap.main()
