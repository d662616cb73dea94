#!/usr/bin/python3
# SPDX-License-Identifier: Apache-2.0
"""bench/baseline.py: a machine that is twice as fast shows no difference, a row that costs more does."""
import os
import sys
import tempfile

HERE = os.path.dirname(os.path.realpath(__file__))
sys.path[:0] = [os.path.join(HERE, '..', '..', 'bench'), os.path.join(HERE, '..', 'e2e')]
from baseline import Baseline, against, floor_of  # noqa: E402
from lib.tap import case, check, equal, main  # noqa: E402

FLOORS = (('packet: floor', '', 0.0), ('packet.*1M', 'floor of memory', 0.5),
          ('packet|export', 'packet: floor', 0.1), ('octets', '', 0.0))
ROWS = [('packet: floor', '30', 'ns'), ('floor of memory', '80', 'ns'),
        ('packet, counted', '24', 'ns over the floor'), ('packet, 1M flows', '300', 'ns over the floor'),
        ('export', '2.5', 'M records/s'), ('octets of a slot', '192', 'octets')]
# By how much each changes on a machine that does everything in half the time.
SPEED = {'ns': 0.5, 'ns over the floor': 0.5, 'M records/s': 2, 'octets': 1}


def compared(rows, before=None):
    kept = before or Baseline.of(ROWS, FLOORS, 'here')
    now = Baseline.of(rows, FLOORS, 'there')
    return {name: against(now.rows[name], kept.rows.get(name), floor_of(name, FLOORS)[1])
            for name, _, _ in rows}


def changed(name, factor):
    return [(row, float(value) * (factor if row == name else 1), unit) for row, value, unit in ROWS]


@case('the same run: no row differs')
def same():
    equal('column', set(compared(ROWS).values()), {'+0 %'})


@case('twice as fast: only the floors differ')
def faster():
    seen = compared([(name, float(value) * SPEED[unit], unit) for name, value, unit in ROWS])
    floors = {name: seen.pop(name) for name in ('packet: floor', 'floor of memory')}
    equal('rows', set(seen.values()), {'+0 %'})
    equal('floors', set(floors.values()), {'-50 % better'})


@case('what costs more than the noise is worse, of rates what is less')
def worse():
    equal('within', compared(changed('packet, counted', 1.09))['packet, counted'], '+9 %')
    equal('beyond', compared(changed('packet, counted', 1.2))['packet, counted'], '+20 % **worse**')
    equal('cheaper', compared(changed('packet, counted', 0.5))['packet, counted'], '-50 % better')
    equal('rate', compared(changed('export', 0.5))['export'], '-50 % **worse**')
    equal('more of it', compared(changed('export', 1.5))['export'], '+50 % better')
    equal('noisy', compared(changed('packet, 1M flows', 1.4))['packet, 1M flows'], '+40 %')
    equal('exact', compared(changed('octets of a slot', 193 / 192))['octets of a slot'],
          '+1 % **worse**')


@case('new rows, other units and floors that are gone are not compared')
def not_compared():
    kept = Baseline.of(ROWS, FLOORS, 'here')
    equal('new', compared([('new', '1', 'ns')], kept), {'new': ''})
    equal('unit', compared([('export', '5', 'records')], kept), {'export': ''})
    equal('no floor', compared([('packet, counted', '24', 'ns over the floor')], kept),
          {'packet, counted': ''})
    zero = Baseline.of([('packet: floor', '30', 'ns'), ('packet, counted', '0', 'ns over the floor')],
                       FLOORS, 'here')
    equal('nothing before', compared(ROWS, zero)['packet, counted'], '')


@case('what was saved is read again')
def saved():
    with tempfile.TemporaryDirectory() as directory:
        path = os.path.join(directory, 'baseline.json')
        kept = Baseline.of(ROWS, FLOORS, 'here')
        kept.save(path)
        again = Baseline.load(path)
    equal('rows', again.rows, kept.rows)
    check('machine', again.machine == 'here', again.machine)


if __name__ == '__main__':
    main()
