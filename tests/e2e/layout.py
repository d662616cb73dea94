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
from lib.daemon import BUILD, FLOWMOND
from lib.lives import Lives
from lib.load import exact
from lib.tap import check, equal, note

SEED = int(os.environ.get('FLOWMOND_TEST_SEED', '1'))
TIMES = int(os.environ.get('FLOWMOND_TEST_TIMES', '10'))
OTHER = os.path.join(BUILD, 'tests', 'other', 'flowmond-other')


class Replaced(Lives):
    """Lives of two daemons by turns."""

    def __init__(self, network, settings, **load):
        self.counted = None
        super().__init__(network, settings, SEED, (FLOWMOND, OTHER), **load)

    def next(self, how):
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
            check('it says that it took over', 'of another layout' in self.daemon.log(),
                  self.daemon.log()[-2000:])

    def note_unsure(self):
        """And what its counters say: packets and octets in flows, over all lives."""
        status = super().note_unsure()
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
        equal('counters', life.counted, [truth.packets(), truth.octets()])
    exact(run)


def crowded():
    """More flows than places: what is on the ring and in aggregates is taken over as well."""
    def run(network):
        life = Replaced(network, {'flows': {'max': '1024'}}, tcp=False, flows=3000)
        rings = 0
        for number in range(TIMES):
            life.next(('kill', 'handover')[number % 2])
            rings += int(re.search(r'(\d+) packets of rings', life.daemon.log())[1])
        truth, _ = life.load.stop()
        counters = life.daemon.status()['counters']
        life.daemon.stop()
        note('%d packets, %d by way of rings, %d of them taken over, %d in aggregates' % (
            truth.packets(), counters['overflow']['packets'], rings,
            counters['coarse']['packets']))
        check('something was on rings', rings)
        equal('lost', {name: count['packets'] for name, count in counters.items()
                       if count['class'] == 'LOST' and count['packets']}, {})
        rows = [json_flow(line) for line in life.daemon.json_records()]
        rows = {'json': rows, 'udp': life.collectors.udp.stop(), 'v9': life.collectors.v9.stop(),
                'tcp': life.collectors.tcp.stop()}
        equal('packets and octets', {name: (sum(row['packets'] + row['rev_packets'] for row in rows),
                                            sum(row['octets'] + row['rev_octets'] for row in rows))
                                     for name, rows in rows.items()},
              {name: (truth.packets(), truth.octets()) for name in rows})
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


if __name__ == '__main__':
    tap.require_root()
    tap.main()
