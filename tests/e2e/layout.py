#!/usr/bin/python3
# SPDX-License-Identifier: Apache-2.0
"""Nothing is lost when a daemon is replaced by one whose tables, counters and ring are laid out
otherwise (tests/other): killed or handed over under load, there and back again. All collectors show
what was sent, to the packet and the octet; counters go on.

Seeds come from FLOWMOND_TEST_SEED, or are 1: random moments differ all the same."""
import os
import re

from lib import tap
from lib.collect import json_flow
from lib.daemon import BUILD, FLOWMOND, merge
from lib.instant import HELD, functions, impossible, is_held, kill_at
from lib.lives import Lives
from lib.load import exact
from lib.net import wait_until
from lib.tap import Failure, case, check, equal, note

SEED = int(os.environ.get('FLOWMOND_TEST_SEED', '1'))
TIMES = int(os.environ.get('FLOWMOND_TEST_TIMES', '10'))
OTHER = os.path.join(BUILD, 'tests', 'other', 'flowmond-other')
# Accounts of what was exported are written all the time.
LIVELY = {'flows': {'active_timeout': '1s', 'idle_timeout': '300ms', 'end_linger': '50ms',
                    'sweep_interval': '20ms'}}


class Replaced(Lives):
    """Lives of two daemons by turns."""

    def __init__(self, network, settings, **load):
        self.counted, self.took = None, [0, 0]
        super().__init__(network, merge(LIVELY, settings), SEED, (FLOWMOND, OTHER), **load)

    def next(self, how):
        # New tables: long enough that flows of theirs were exported in part, and that some end.
        self.load.more(20000)
        if how == 'draining':
            # One that was killed when it had just taken over: what it took is not emptied yet.
            super().next('kill')
            self.lab_sleep(self.random.random() * 0.05)
            self.end('draining')
            self.start()
            self.ready()
        else:
            super().next(how)

    def ready(self):
        super().ready()
        # One that was killed early left nothing of its own.
        if self.number and self.ends[-1] != 'starting':
            told = re.search(r'took over (\d+) flows, (\d+) packets of rings', self.daemon.log())
            check('it says that it took over', told, self.daemon.log()[-2000:])
            self.took = [self.took[0] + int(told[1]), self.took[1] + int(told[2])]

    def status(self):
        """And what its counters say: packets and octets in flows, over all lives."""
        status = super().status()
        self.counted = [sum(
            count[what] * {'SEEN': 1, 'AGAIN': -1, 'IGNORED': -1}.get(count['class'], 0)
            for count in status['counters'].values()) for what in ('packets', 'octets')]
        return status


def replaced(ends, settings, load):
    def run(network):
        life = Replaced(network, settings, **load)
        for number in range(TIMES):
            life.next(ends[number % len(ends)])
        life.load.more(2000)
        truth = life.finish()
        note('took over %d flows' % life.took[0])
        check('it took over flows', life.took[0])
        equal('counters', life.counted, [truth.packets(), truth.octets()])
    exact(run)


def whole(life):
    """What went into aggregates has no flow: the sums."""
    truth, _ = life.load.stop()
    counters = life.status()['counters']
    life.daemon.stop()
    note('%d packets, %d by way of rings, %d of them taken over, %d in aggregates' % (
        truth.packets(), counters['overflow']['packets'], life.took[1],
        counters['coarse']['packets']))
    equal('lost', {name: count['packets'] for name, count in counters.items()
                   if count['class'] == 'LOST' and count['packets']}, {})
    equal('counters', life.counted, [truth.packets(), truth.octets()])
    rows = [json_flow(line) for line in life.daemon.json_records()]
    rows = {'json': rows, 'udp': life.collectors.udp.stop(), 'v9': life.collectors.v9.stop(),
            'tcp': life.collectors.tcp.stop()}
    equal('packets and octets', {name: (sum(row['packets'] + row['rev_packets'] for row in rows),
                                        sum(row['octets'] + row['rev_octets'] for row in rows))
                                 for name, rows in rows.items()},
          {name: (truth.packets(), truth.octets()) for name in rows})


def crowded():
    """More flows than places: what is on the ring and in aggregates is taken over as well."""
    def run(network):
        life = Replaced(network, {'flows': {'max': '1024'}}, tcp=False, flows=3000)
        for number in range(TIMES):
            life.next(('kill', 'handover')[number % 2])
        whole(life)
        check('something was on rings', life.took[1])
    exact(run)


# The system call that waits for programs; others than this thread make it, too.
WAITS = {'membarrier': 324}
# (taking over or running, function, how many times it is reached, steps from there)
INSTANTS = (
    ('runs', 'fm_sweep_fenced', 4, 0),            # slots are closed, nothing is read of them
    ('runs', 'fm_sweep_apply', 9, 30),            # entries of the ledger are carried out in part
    ('runs', 'fm_overflow_consumed', 1, 0),       # and those of the ring are not
    ('starts', 'fm_ledger_finish', 1, 40),
    ('starts', 'fm_kernel_inherit_seen', 1, 200),
    ('starts', 'fm_hooks_add', 2, 0),             # a part of the programs is replaced
    ('starts', 'fm_translate_tables', 1, 0),      # all are
    ('starts', 'fm_generation_publish', 1, 0),    # read, and nobody knows
    ('starts', 'fm_translate_counters', 1, 0),    # the tables are published, their ring with them
    ('starts', 'fm_kernel_took', 1, 0),           # counters are read, and nobody knows
    ('starts', 'fm_sweeper_add_replaced', 1, 0),  # the old is forgotten
    ('runs', 'fm_sweep_apply', 1, 2000),
    ('starts', 'membarrier', 1, 0),               # old programs may be running still
)


def end_at(life, row, names):
    """A process is killed there, then one lives on; whether it got there."""
    when, name, times, steps = INSTANTS[row]
    life.daemon.wrapper = HELD if when == 'starts' else ()
    life.start()
    if when == 'starts':
        wait_until(lambda: is_held(life.daemon.process.pid), 10, 'it to stop')
    else:
        life.daemon.wait_ready()
        life.load.more(3000)
    if name in WAITS:
        reached = kill_at(life.daemon, 'before', WAITS[name], times, steps)
    else:
        reached = kill_at(life.daemon, 'at', names[life.daemon.binary][name], times, steps)
    life.ended('starting')
    # What is written still is not read.
    check('nothing is taken over before', name not in WAITS or
          'took over' not in life.daemon.log(), life.daemon.log()[-2000:])
    # The next is the other, or, of those that did not get far, the same again.
    life.number -= when == 'starts' and row % 2
    life.daemon.wrapper = ()
    life.start()
    life.ready()
    life.load.more(1000)
    return reached


def instants():
    def run(network):
        life = Replaced(network, {'flows': {'max': '1024'}}, rate=3000, flows=1500, tcp=False)
        names = {binary: functions(binary, {row[1] for row in INSTANTS} - set(WAITS))
                 for binary in life.binaries}
        life.load.more(3000)
        for row, (_, name, *_) in enumerate(INSTANTS):
            # The tool gives up where the machine is slow.
            for _ in range(3):
                life.end('kill')
                if end_at(life, row, names):
                    break
            else:
                raise Failure('never at ' + name)
        whole(life)
    exact(run)


CASES = [
    ('killed', ['kill'], {}, {}),
    ('handed over', ['handover'], {}, {}),
    ('killed while it takes over', ['starting', 'handover', 'starting', 'kill'], {}, {}),
    ('killed while it empties what it took', ['draining'], {}, {}),
    ('killed, biflow', ['kill', 'handover'], {'flows': {'biflow': 'yes'}}, {}),
    ('killed, TCP not measured', ['kill', 'handover'], {'metrics': {'tcp': 'no'}}, {}),
    ('killed, flows of tunnels', ['kill', 'handover'], {'flows': {'tunnel': 'inner'}},
     {'outer': True, 'tcp': False}),
    ('killed, clsact', ['kill', 'handover'], {'capture': {'attach': 'clsact'}}, {}),
]
for title, *what in CASES:
    tap.add_case('%s, %d times' % (title, TIMES), replaced, *what)
tap.add_case('killed, more flows than places, %d times' % TIMES, crowded)
case('killed at %d instants where it matters' % len(INSTANTS), impossible)(instants)


if __name__ == '__main__':
    tap.require_root()
    tap.main()
