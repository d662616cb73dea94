#!/usr/bin/python3
# SPDX-License-Identifier: Apache-2.0
"""One call for memory, a descriptor or a BPF object after the other fails, at start, reload and stop:
nothing crashes, what is in the way is named, a reload that fails changes nothing, no hook, program
or descriptor stays behind, and every packet is in a record or counted as not sent. `scarce.py all`
takes every place that calls come from; otherwise some of them, other ones each day."""
import json
import mmap
import os
import re
import signal
import struct
import sys
import time

from lib import tap
from lib.collect import json_flow
from lib.daemon import BUILD, Flowmond, attached
from lib.net import Lab, couple, wait_until
from lib.packets import UDP, Account, ip4, udp
from lib.tap import Failure, case, check, equal, note
from lib.traffic import Injector

LIBRARY = os.path.join(BUILD, 'tests', 'tools', 'libfailcall.so')
MEMORY, MAP, FILE, BPF, OBJECT, INFO = 1, 2, 4, 8, 16, 32
ALL = MEMORY | MAP | FILE | BPF
HEAD = struct.Struct('=IIQQQQQ')  # kinds, record, from, to, calls, failed, bad closes
SITES = 1 << 17
FOREVER = 1 << 62
EVERY = 'all' in sys.argv
SOME = 16


class Calls:
    """The daemon's calls, as tests/tools/failcall.c counts and fails them."""

    def __init__(self, lab):
        self.path = lab.path('failcall')
        with open(self.path, 'w+b') as file:
            file.truncate(HEAD.size + 8 * SITES)
            self.memory = mmap.mmap(file.fileno(), 0)
        self.wrapper = ('env', 'LD_PRELOAD=' + LIBRARY, 'FAILCALL=' + self.path,
                        'MALLOC_PERTURB_=165')

    def arm(self, first, last=None, kinds=ALL):
        """The first-th call from now on fails, or all of them up to the last."""
        self.memory[:HEAD.size] = HEAD.pack(kinds, 0, first, last or first, 0, 0, 0)

    def record(self, kinds=ALL):
        self.memory[:HEAD.size] = HEAD.pack(kinds, 1, 0, 0, 0, 0, 0)

    def rest(self):
        """No more; whether any failed."""
        failed, bad_closes = HEAD.unpack_from(self.memory)[5:]
        self.memory[:HEAD.size] = HEAD.pack(0, 0, 0, 0, 0, 0, 0)
        equal('closed what was not open', bad_closes, 0)
        return failed

    def places(self):
        """The first call of each place that calls came from, since record()."""
        count = min(HEAD.unpack_from(self.memory)[4], SITES)
        self.rest()
        first = {}
        for number, site in enumerate(struct.unpack_from('=%dQ' % count, self.memory, HEAD.size)):
            first.setdefault(site, number + 1)
        places = sorted(first.values())
        if EVERY or len(places) <= SOME:
            return count, len(places), places
        step = len(places) / SOME
        shift = int(time.time() / 86400) % max(1, int(step))
        return count, len(places), [places[int(i * step) + shift] for i in range(SOME)]


class Site:
    """A daemon that can be short of everything, and traffic that it counts."""

    def __init__(self, lab):
        self.lab = lab
        self.a, self.m = lab.ns('a'), lab.ns('m')
        couple(lab, self.a, 'a0', self.m, 'm0', 1)
        couple(lab, self.a, 'a1', self.m, 'm1', 2)
        self.account = Account()
        self.inject = Injector(self.a, 'a0', 'm0', self.account)
        self.sent = 0
        self.calls = Calls(lab)
        self.daemons = 0
        self.lines = []
        common = {'json': {'file': lab.path('flowmond.json')},
                  'flows': {'idle_timeout': '200ms', 'sweep_interval': '50ms', 'max': '2048'}}
        self.one = dict(common, **{
            'capture': {'interfaces': 'm0'},
            'collector one': {'address': '127.0.0.1:9995', 'template_interval': '1s'},
            'collector both': {'address': '127.0.0.1:4739', 'transport': 'tcp'}})
        self.other = dict(common, **{
            'flows': {**common['flows'], 'max': '4096', 'key': 'vlan'},
            'capture': {'interfaces': 'm0, m1'},
            'collector two': {'address': '127.0.0.1:9996', 'protocol': 'v9', 'profile': 'full'},
            'collector both': {'address': '127.0.0.1:4739', 'transport': 'tcp'},
            'group g': {'members': 'two, both', 'policy': 'failover'}})

    def measure_tcp(self):
        for settings in self.one, self.other:
            settings['metrics'] = {'tcp': 'yes'}

    def start(self, ready=True):
        self.daemons += 1
        return Flowmond(self.m, self.one, name='flowmond-%d' % self.daemons,
                        wrapper=self.calls.wrapper, ready=ready)

    def send(self, packets=20):
        for number in range(self.sent, self.sent + packets):
            src = '10.8.%d.%d' % (number >> 8 & 255, number & 255)
            self.inject.send(ip4(src, '10.7.0.1', UDP, udp(1000, 9, bytes(20))),
                             (src, '10.7.0.1', 1000, 9, UDP))
        self.sent += packets

    def records(self):
        with open(self.lab.path('flowmond.json'), encoding='utf-8') as file:
            lines = [json.loads(line) for line in file]
        return [json_flow(line) for line in lines if 'type' not in line]

    def clean(self):
        for interface in ('m0', 'm1'):
            equal('nothing at ' + interface, attached(self.m, interface), (0, []))


def described(daemon):
    """What shows which settings are in use."""
    status = daemon.status()
    return status['max_flows'], sorted(sink['name'].split()[1] for sink in status['sinks']
                                       if sink['name'].startswith('collector'))


OLD, NEW = (2048, ['both', 'one']), (4096, ['both', 'two'])


def not_sent(log):
    """Records that the json file did not get, as its sinks said in the end."""
    return sum(map(int, re.findall(r'json .*: (\d+) records .* not sent', log)))


def ended_well(daemon):
    status = daemon.process.popen.returncode
    check('ended by itself, status %s' % status, status is not None and status >= 0,
          daemon.log()[-3000:])
    return status


def ready_or_ended(daemon):
    def told():
        return not daemon.process.running() or daemon.notify.count('READY=1') > daemon.ready_before
    wait_until(told, 60, 'the daemon to be ready or to end')
    return daemon.process.running()


@case('start: whatever fails, it runs or says why not, and leaves nothing')
def starts():
    with Lab('short') as lab:
        site = Site(lab)
        site.calls.record()
        site.start().stop()
        calls, known, places = site.calls.places()
        ran = 0
        for number in places:
            site.calls.arm(number)
            daemon = site.start(ready=False)
            running = ready_or_ended(daemon)
            site.calls.rest()
            if running:
                ran += 1
                site.send(5)
                wait_until(lambda: daemon.status()['observed_packets'] >= 5, 20, 'packets')
                daemon.stop()
            else:
                check('start without call %d: a status' % number, ended_well(daemon) > 0)
                check('start without call %d: it says why' % number,
                      daemon.log().strip(), daemon.log())
            site.clean()
        note('%d calls from %d places, %d of them failed; it ran %d times' % (
            calls, known, len(places), ran))
        check('some were fatal, some were not', 0 < ran < len(places), ran)


def reload(site, daemon, settings):
    """Whether it was taken, as the log says, and all it said. Calls that are armed rest then, and only
    then systemd has to be told."""
    before, ready = len(daemon.log()), daemon.notify.count('READY=1')
    daemon.write(settings)
    daemon.process.popen.send_signal(signal.SIGHUP)

    def told():
        check('it runs', daemon.process.running(), daemon.log()[-3000:])
        words = re.findall('configuration (read again|not changed)', daemon.log()[before:])
        return words
    words = wait_until(told, 60, 'the end of the reload')
    equal('one or the other', len(words), 1)
    failed = site.calls.rest()
    wait_until(lambda: daemon.notify.count('READY=1') > ready, 20, 'systemd to be told')
    return words[0] == 'read again', daemon.log()[before:], failed


def settled(site, daemon):
    """All that was sent has left the tables."""
    wait_until(lambda: daemon.status()['exported_packets'] >= site.sent, 30,
               'everything to be exported')


def descriptors(daemon):
    return len(os.listdir('/proc/%d/fd' % daemon.process.pid))


def reloaded(places, kinds=ALL, last=None):
    with Lab('short') as lab:
        site = Site(lab)
        if kinds in (OBJECT, INFO):
            site.measure_tcp()
        daemon = site.start()
        if not places:
            site.calls.record(kinds)
            daemon.reload(site.other)
            calls, known, places = site.calls.places()
            note('%d calls from %d places, %d of them fail' % (calls, known, len(places)))
        reload(site, daemon, site.one)
        site.send()
        settled(site, daemon)
        held, failures = descriptors(daemon), 0
        for number in places:
            site.calls.arm(number, last, kinds)
            site.send(10)
            taken, said, failed = reload(site, daemon, site.other)
            equal('call %d: in use after %s' % (number, said), described(daemon),
                  NEW if taken else OLD)
            check('call %d: TCP is measured' % number, 'TCP is not measured' not in said, said)
            if not taken:
                failures += 1
                check('call %d: something failed' % number, failed)
                check('call %d: it says why' % number, 'not changed: ' in said, said)
            site.send(10)
            equal('call %d: then without a fault' % number, reload(site, daemon, site.one)[0],
                  True)
            equal('call %d: in use then' % number, described(daemon), OLD)
            wait_until(lambda: (attached(site.m, 'm0')[0], attached(site.m, 'm1')) ==
                       (2, (0, [])), 20, 'call %d: programs at m0 only' % number)
        settled(site, daemon)
        equal('counters', daemon.status()['observed_packets'], site.sent)
        wait_until(lambda: descriptors(daemon) <= held, 20, 'descriptors: %d, %d before' % (
            descriptors(daemon), held))
        log = daemon.stop()
        note('%d of %d reloads failed' % (failures, len(places)))
        site.clean()
        records = site.records()
        equal('packets in records and not sent', sum(r['packets'] for r in records) +
              not_sent(log), site.sent)
        return failures


tap.add_case('reload: whatever fails, it is as before or as it should be', reloaded, None)
for name_, kinds_ in (('memory', MEMORY), ('map', MAP), ('descriptor', FILE), ('BPF call', BPF)):
    tap.add_case('reload: from one %s on, all fail, until it is over' % name_, reloaded,
                 [1, 2, 3, 5, 8, 13, 21, 34, 55], kinds_, FOREVER)

tap.add_case('reload: no descriptor for a BPF object: TCP goes on being measured', reloaded, None,
             OBJECT)
tap.add_case('reload: a BPF object cannot be asked about: all goes on', reloaded, None, INFO)


@case('stop: whatever fails, it ends, and leaves nothing')
def stops():
    with Lab('short') as lab:
        site = Site(lab)
        daemon = site.start()
        site.send()
        site.calls.record()
        daemon.stop()
        calls, known, places = site.calls.places()
        for number in places:
            daemon = site.start()
            site.send(5)
            site.calls.arm(number)
            daemon.process.stop()
            site.calls.rest()
            ended_well(daemon)
            site.clean()
        note('%d calls from %d places, %d of them failed' % (calls, known, len(places)))


if __name__ == '__main__':
    tap.require_root()
    if EVERY:
        sys.argv.remove('all')
    tap.main()
