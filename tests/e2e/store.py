#!/usr/bin/python3
# SPDX-License-Identifier: Apache-2.0
"""What an earlier process left is input like any other: missing, of another kind, garbage, a lie, or
somebody else's. The daemon says what it found, is ready in time, counts what comes after exactly,
ends with 0 and leaves nothing.

FLOWMOND_TEST_SEED: of the garbage. FLOWMOND_TEST_ROUNDS: how many maps are garbled at random."""
import itertools
import json
import os
import random
import signal
import socket
import struct

from lib import bpfsys, tap
from lib.collect import account, json_flow
from lib.daemon import BUILD, FLOWMOND, Flowmond, attached, merge
from lib.lives import bpffs, leftovers
from lib.net import Lab, couple, wait_until
from lib.packets import UDP, Account, ip4, udp
from lib.tap import case, check, equal, note
from lib.traffic import Injector

SEED = int(os.environ.get('FLOWMOND_TEST_SEED', '1'))
ROUNDS = int(os.environ.get('FLOWMOND_TEST_ROUNDS', '30'))
OTHER = os.path.join(BUILD, 'tests', 'other', 'flowmond-other')
# Lines that a start without any fault has.
USUAL = (': sending', ': ready', 'went on with what')


class Stage:
    """A daemon with a store in a BPF file system, killed and started again."""

    def __init__(self, lab, attach='auto', binaries=(FLOWMOND,)):
        self.lab, self.binaries = lab, itertools.cycle(binaries)
        self.a, self.m = lab.ns('a'), lab.ns('m')
        couple(lab, self.a, 'a0', self.m, 'm0', 1)
        self.pin = os.path.join(bpffs(lab), 'flowmond')
        self.sink = self.m.socket(socket.AF_INET, socket.SOCK_DGRAM)
        self.sink.bind(('127.0.0.1', 9995))
        self.json, self.port, self.before = lab.path('flows.json'), 1000, 0
        self.settings = {
            'bpf': {'pin': self.pin}, 'capture': {'interfaces': 'm*, n*', 'attach': attach},
            'flows': {'max': '1024', 'sweep_interval': '20ms', 'idle_timeout': '300ms'},
            'json': {'file': self.json}, 'collector main': {'address': '127.0.0.1:9995'}}
        self.daemon = Flowmond(self.m, self.settings)

    def send(self, packets=20):
        """Packets of a flow that was never there; returns its account."""
        self.port += 1
        sent = Account()
        inject = Injector(self.a, 'a0', 'm0', sent)
        for number in range(packets):
            inject.send(ip4('10.8.0.1', '10.8.0.2', UDP, udp(self.port, 9, bytes(number))),
                        ('10.8.0.1', '10.8.0.2', self.port, 9, UDP))
        inject.close()
        return sent

    def leave(self):
        """A process that is killed while flows are open."""
        if not self.daemon.process.running():
            self.daemon.start()
            self.daemon.wait_ready()
        self.send()
        self.daemon.stop(signal.SIGKILL, -signal.SIGKILL)

    def pins(self):
        return sorted(os.listdir(self.pin))

    def path(self, name):
        return os.path.join(self.pin, name)

    def go_on(self, what, faulty=True):
        """The next process: what it said beyond the usual."""
        self.daemon.start(next(self.binaries))
        try:
            self.daemon.wait_ready()
            sent = self.send()
            wait_until(lambda: self._seen(sent) == sent.flows, 10, 'the flow that came after')
            self.daemon.stop()
        except (tap.Failure, TimeoutError, OSError) as error:
            raise tap.Failure('%s: %s: %s' % (what, type(error).__name__, error)) from None
        said = [line for line in self.daemon.log().splitlines()
                if not any(text in line for text in USUAL)]
        equal(what + ': left on m0', attached(self.m, 'm0'), (0, []))
        equal(what + ': left pinned', leftovers(self.pin), [])
        if faulty:
            check(what + ': says what it found', said, self.daemon.log())
        return said

    def _seen(self, sent):
        """What of the flow is in the json file, which has lines of garbage, too."""
        if not os.path.exists(self.json):
            return {}
        lines = []
        with open(self.json, encoding='utf-8') as file:
            file.seek(self.before)
            for line in file:
                if '"sourceTransportPort":%d,' % self.port in line and line.endswith('\n'):
                    lines.append(line)
        sums = account(json_flow(json.loads(line)) for line in lines).flows
        return {flow: sums[flow] for flow in sent.flows if flow in sums}


def is_table(name):
    """Of what flows are lost; anything else is made anew without a word."""
    return name.startswith(('g', 'shared-')) and not name.endswith('-cells')


def each_pin(deed, binaries=(FLOWMOND,)):
    """Does something to one pin after the other, each in a store of its own."""
    with Lab('hostile') as lab:
        stage = Stage(lab, binaries=binaries)
        stage.leave()
        names = stage.pins()
        for name in names:
            said = None
            if name in stage.pins():
                said = deed(stage, name)
            note('%s: %s' % (name, said[0] if said else said))
            stage.leave()
        stage.go_on('untouched', faulty=False)


@case('each pin missing')
def missing():
    def deed(stage, name):
        os.unlink(stage.path(name))
        return stage.go_on(name + ' missing', faulty=False)
    each_pin(deed)


@case('each pin another kind of map, of another size')
def wrong_map():
    def deed(stage, name):
        os.unlink(stage.path(name))
        one = bpfsys.create(bpfsys.HASH, 8, 24, 10)
        bpfsys.pin(one, stage.path(name))
        os.close(one)
        return stage.go_on(name + ' a hash map', is_table(name))
    each_pin(deed)


@case('each map too small by an element, too large by one')
def wrong_size():
    for more in (-1, 1):
        def deed(stage, name, more=more):
            if bpfsys.kind_of(stage.path(name)) != 'map':
                return []
            was = bpfsys.open_map(stage.path(name))
            os.close(was.fd)
            if was.kind != bpfsys.ARRAY:
                return []
            os.unlink(stage.path(name))
            one = bpfsys.create(bpfsys.ARRAY, 4, was.value_size, max(was.entries + more, 1) + (
                2 if was.entries == 1 else 0), bpfsys.MMAPABLE)
            bpfsys.pin(one, stage.path(name))
            os.close(one)
            return stage.go_on('%s with %+d elements' % (name, more), is_table(name))
        each_pin(deed)


@case('each pin the next one')
def exchanged():
    def deed(stage, name):
        names = stage.pins()
        other = bpfsys.get(stage.path(names[(names.index(name) + 1) % len(names)]))
        os.unlink(stage.path(name))
        bpfsys.pin(other, stage.path(name))
        os.close(other)
        return stage.go_on(name + ' is another', faulty=False)
    each_pin(deed)


def garble(rng, one, most):
    """Overwrites octets of up to so many elements of an array."""
    for index in sorted(rng.sample(range(one.entries), min(most, one.entries))):
        data = bytearray(bpfsys.read(one, index))
        way = rng.randrange(4)
        if way == 0:
            data[:] = rng.randbytes(len(data))
        elif way == 1:
            data[:] = bytes([rng.choice((0, 0xff, 0x80, 1))]) * len(data)
        else:
            for _ in range(rng.randrange(1, 12)):
                at = rng.randrange(len(data) // 4) * 4
                data[at:at + 4] = rng.choice((
                    rng.randbytes(4), struct.pack('=I', rng.choice((
                        0, 1, 2, 3, 0x7fffffff, 0x80000000, 0xffffffff, 65535, 1 << 20)))))
        bpfsys.write(one, index, bytes(data))


def garbage(binaries):
    rng = random.Random(SEED)

    def deed(stage, name):
        # What an account says was exported is believed.
        if bpfsys.kind_of(stage.path(name)) != 'map' or name.endswith('exported'):
            return []
        one = bpfsys.open_map(stage.path(name))
        try:
            if one.kind != bpfsys.ARRAY:
                return []
            for index in range(min(one.entries, 4096)):
                bpfsys.write(one, index, rng.randbytes(one.value_size))
        finally:
            os.close(one.fd)
        return stage.go_on(name + ' is garbage', faulty=False)
    each_pin(deed, binaries)


def lies(binaries):
    rng = random.Random(SEED)
    with Lab('lies') as lab:
        stage = Stage(lab, binaries=binaries)
        for turn in range(ROUNDS):
            stage.leave()
            names = [name for name in stage.pins() if bpfsys.kind_of(stage.path(name)) == 'map' and
                     bpfsys.is_array(stage.path(name))]
            # The few that say how all others are to be read, more often.
            small = [name for name in names if any(word in name for word in (
                'about', 'ledger', 'outbox'))]
            name = rng.choice(small if small and turn % 3 else names)
            one = bpfsys.open_map(stage.path(name))
            garble(rng, one, rng.choice((1, 1, 2, 50)))
            os.close(one.fd)
            stage.go_on('round %d of seed %d, %s' % (turn, SEED, name), faulty=False)


for title, *what in (('', FLOWMOND), (', and the next is of another layout', OTHER, FLOWMOND)):
    tap.add_case('each array full of garbage' + title, garbage, what)
    tap.add_case('octets changed at random in what tables and books say of themselves, %d times%s' % (
        ROUNDS, title), lies, what)


def other_records(change, lost):
    with Lab('profile') as lab:
        stage = Stage(lab)
        away = {'address': '127.0.0.1:4739', 'transport': 'tcp'}
        settings = merge(stage.settings, {'collector away': away})

        def sink(daemon):
            return [row for row in daemon.status()['sinks'] if 'collector away' in row['name']][0]

        stage.daemon.json_path = stage.json
        stage.daemon.reload(settings)
        for _ in range(5):
            stage.send()
        wait_until(lambda: len(stage.daemon.json_records()) == 5, 10, 'idle flows')
        waits = sink(stage.daemon)
        check('messages wait', waits['waiting_messages'] and not waits['not_sent_records'], waits)
        stage.daemon.stop(signal.SIGKILL, -signal.SIGKILL)
        stage.daemon.write(merge(settings, change))
        stage.daemon.start()
        stage.daemon.wait_ready()
        equal('not sent', sink(stage.daemon)['not_sent_records'], lost)
        stage.daemon.stop()
        equal('left', leftovers(stage.pin), [])


for title, change, lost in (
        ('another profile: counted, not dropped in silence', {'profile': 'full'}, 5),
        ('another list of fields: counted as well', {'fields': '-minimumTTL'}, 5),
        ('a list that changes nothing: still waits', {'fields': '+minimumTTL -rttMean'}, 0)):
    tap.add_case('what waits for a connection, and ' + title, other_records,
                 {'collector away': change}, lost)
tap.add_case('what waits for a connection, and biflows: counted as well', other_records,
             {'flows': {'biflow': 'yes'}}, 5)


@case('the device is gone, another has its place')
def device_gone():
    for attach in ('auto', 'clsact'):
        with Lab('gone') as lab:
            stage = Stage(lab, attach)
            couple(lab, stage.a, 'a1', stage.m, 'n1', 2)
            wait_until(lambda stage=stage: attached(stage.m, 'n1')[0] == 2, 10, 'hooks of n1')
            stage.leave()
            stage.a.ip('link del a1')
            stage.m.ip('link add n2 type veth peer name n3')
            stage.m.ip('link set n2 up')
            stage.m.ip('link set n3 up')
            stage.go_on('%s: device gone' % attach, faulty=False)
            equal('left on n2', attached(stage.m, 'n2'), (0, []))


@case('pins that are not ours stay or go, and hurt nobody')
def others():
    with Lab('others') as lab:
        stage = Stage(lab)
        stage.leave()
        one = bpfsys.create(bpfsys.HASH, 4, 4, 1)
        for name in ('g99-about', 'g0-about-x', 'link-1-1-ingress', 'link-0-99999-egress', 'somebody',
                     'g0-7-slots', 'g-1-about', 'g4294967296-about', 'outbox-', 'ledger-x'):
            if name not in stage.pins():
                bpfsys.pin(one, stage.path(name))
        os.close(one)
        os.mkdir(stage.path('folder'))
        stage.daemon.start()
        stage.daemon.wait_ready()
        stage.daemon.stop()
        os.rmdir(stage.path('folder'))


@case('two daemons on one directory: the second refuses and says why; the first counts on')
def two():
    with Lab('two') as lab:
        stage = Stage(lab)
        before = stage.pins()
        second = Flowmond(stage.m, {'bpf': {'pin': stage.pin}, 'control': {'socket': ''}},
                          name='second', ready=False)
        check('it does not start', second.process.wait(15) not in (0, -signal.SIGSEGV))
        check('it names the directory', stage.pin in second.log(), second.log())
        equal('pins', stage.pins(), before)
        sent = stage.send()
        stage.daemon.stop()
        equal('json', stage._seen(sent), sent.flows)


@case('a directory that is in no BPF file system, or cannot be made')
def no_bpffs():
    with Lab('nobpffs') as lab:
        m = lab.ns('m')
        for path in (lab.path('plain'), lab.path('not/there'), '/proc/self'):
            daemon = Flowmond(m, {'bpf': {'pin': path}}, name='flowmond', ready=False)
            check('it does not start: ' + path, daemon.process.wait(15) > 0, daemon.process.pid)
            check('it says why', path in daemon.log(), daemon.log())
            daemon.notify.socket.close()
            os.unlink(daemon.notify.path)


if __name__ == '__main__':
    tap.require_root()
    tap.main()
