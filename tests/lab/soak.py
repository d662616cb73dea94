#!/usr/bin/python3
# SPDX-License-Identifier: Apache-2.0
"""An hour of churn, in cycles that are all alike (churn.py): flows of both families and in tunnels, TCP
connections, interfaces and a network namespace that come and go, collectors that go and come while
the spool is on, reloads, one of them refused. First one process lives through all of it; then each
cycle also has a kill, a handover and a kill while the next process starts. At the end of a cycle, when
nothing is under way any more, every figure that could grow is read, and every collector is compared
with what was sent.

Nothing here is a matter of time: a figure is compared with itself at the same point of other cycles.
Its growth a cycle is the median of that between any two measured cycles, and must be below a bound that
a leak of one descriptor or of 1 kB a cycle exceeds.

FLOWMOND_SOAK_MINUTES: how long, 60. FLOWMOND_SOAK_CYCLES: so many measured cycles of each part instead.
FLOWMOND_SOAK_PART: one or ends, that part alone. FLOWMOND_SOAK_FIGURES: a file that gets all figures, a
line of JSON a cycle."""
import collections
import json
import os
import time

from churn import Cycle, Site
from lib import bpfsys, gauge, tap
from lib.daemon import attached
from lib.lives import leftovers
from lib.net import Lab
from lib.tap import case, check, equal, note

MINUTES = float(os.environ.get('FLOWMOND_SOAK_MINUTES', '60'))
CYCLES = int(os.environ.get('FLOWMOND_SOAK_CYCLES', '0'))
PART = os.environ.get('FLOWMOND_SOAK_PART')
FIGURES = os.environ.get('FLOWMOND_SOAK_FIGURES')
# Not measured: what is made at first use, and buffers that grow to the size they need.
WARM_UP = 1 if CYCLES else 4
# Of the time, that of the first part.
ONE_PROCESS = 0.6

# How much a figure may grow a cycle. Most are whole numbers that do not move: one in fifty cycles is a
# leak. Of the heap, 1 kB in four cycles is none any more.
BOUNDS = collections.defaultdict(lambda: 0.02, {
    'heap, octets': 256, 'heap, blocks': 0.5, 'RssAnon, kB': 0.5, 'log lines': 0.2,
    'wake-ups a sweep, at rest': 0.01})
# And by how much it may differ between any two, as the moment has it: of a few cycles that would look
# like growth. RssAnon moves by pages, as malloc finds room in between.
WAVERS = {'heap, octets': 48000, 'heap, blocks': 60, 'RssAnon, kB': 1000, 'log lines': 20,
          'wake-ups a sweep, at rest': 0.5}
# Told, not judged: the load and the machine decide them.
TOLD = ('slots in use, under load', 'CPU a record, us')


class Life:
    """What the cases share."""
    site, came = None, False
    number = faults = 0
    sums = collections.Counter()


def part(seconds, ends):
    """Figures of each cycle until the time is over."""
    rows, end = [], time.monotonic() + seconds
    Life.came = False
    while len(rows) < WARM_UP + CYCLES if CYCLES else time.monotonic() < end:
        figures, sums, faults = Cycle(Life.site, Life.number, ends).run()
        for fault in faults:
            note(fault)
        Life.number += 1
        Life.faults += bool(faults)
        Life.sums.update(sums)
        rows.append(figures)
        if FIGURES:
            with open(FIGURES, 'a', encoding='ascii') as file:
                file.write(json.dumps(dict(figures, ends=ends)) + '\n')
    Life.came = True
    return rows[WARM_UP:]


def part_case(name, title):
    """Like @case, if the part is to run."""
    return case(title) if PART in (None, name) else lambda function: function


def begin():
    """The parts go on with one daemon."""
    if not Life.site:
        Life.site = Site(Life.lab)
        Life.came = True
    check('the part before came to its end', Life.came)


def judge(rows):
    """Every figure is flat."""
    check('measured cycles', len(rows) > 1, len(rows))
    note('%d cycles; first, last, least, most, growth a cycle' % len(rows))
    grown = {}
    for name in rows[0]:
        values = [row[name] for row in rows]
        growth = gauge.slope(values)
        note('%-26s %10.6g %10.6g %10.6g %10.6g %+9.3g' % (
            name, values[0], values[-1], min(values), max(values), growth))
        bound = BOUNDS[name] + WAVERS.get(name, 0) / (len(rows) - 1)
        if name not in TOLD and growth > bound:
            grown[name] = '%+.3g a cycle, at most %.3g' % (growth, bound)
    equal('what grows', grown, {})
    equal('cycles with a fault, so far', Life.faults, 0)
    for name in 'slots in use', 'slots being closed', 'tombstones', 'blocks marked':
        equal(name + ', at rest', {row[name] for row in rows}, {0})


@part_case('one', 'one process through all of it: everything is with every collector, every figure is flat')
def one_process():
    begin()
    judge(part(60 * MINUTES * ONE_PROCESS, False))


@part_case('ends', 'killed, handed over and killed while it starts in each cycle: the same')
def ends():
    begin()
    judge(part(60 * MINUTES * (1 - ONE_PROCESS), True))


@case('all that was sent is in records or counted as not sent; nothing is left')
def all_of_it():
    check('the last part came to its end', Life.came)
    site = Life.site
    site.daemon.stop()
    note('%d cycles, packets: %s' % (Life.number, dict(Life.sums)))
    check('packets', Life.sums['sent'] > 0)
    for name in 'json', 'files', 'udp', 'tcp', 'tls', 'both':
        equal(name, Life.sums[name], Life.sums['sent'])
    equal('v9 and not sent', Life.sums['v9'] + Life.sums['v9, not sent'], Life.sums['sent'])
    equal('left on r1', attached(site.r, 'r1'), (0, []))
    equal('left pinned', leftovers(site.pin), [])
    bpfsys.wait_freed(site.kernel.ever)
    note('%d maps, programs and links there were, all freed' % len(site.kernel.ever))


if __name__ == '__main__':
    tap.require_root()
    with Lab('soak') as Life.lab:
        tap.main()
