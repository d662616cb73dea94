# SPDX-License-Identifier: Apache-2.0
"""Figures of one run beside those of another, which another machine may have made: each by its ratio
to what the machine itself did in the same run, its floor. Used by bench/run; knows no row by name."""
import json
import os
import re


class Baseline:
    """Rows of a run that was kept: {name: {"value", "unit", "floor"}}, and on what machine."""

    def __init__(self, machine, rows):
        self.machine, self.rows = machine, rows

    @staticmethod
    def of(rows, floors, machine):
        """rows: (name, value, unit). floors: (pattern of names, name of the floor or '', noise) each;
        the first that fits counts."""
        values = {name: float(value) for name, value, _ in rows}
        kept = {}
        for name, value, unit in rows:
            floor, _ = floor_of(name, floors)
            kept[name] = {'value': float(value), 'unit': unit, 'floor': values.get(floor)}
        return Baseline(machine, kept)

    @staticmethod
    def load(path):
        with open(path, encoding='utf-8') as file:
            kept = json.load(file)
        return Baseline(kept['machine'], kept['rows'])

    def save(self, path):
        with open(path, 'w', encoding='utf-8') as file:
            json.dump({'machine': self.machine, 'rows': self.rows}, file, indent=1)
            file.write('\n')


def floor_of(name, floors):
    """(name of the floor, by which share a figure may differ without a cause)"""
    return next(((floor, noise) for pattern, floor, noise in floors if re.match(pattern, name)),
                ('', 0.0))


def is_rate(unit):
    """More of it is better, and a faster machine has more."""
    return unit.endswith('/s')


def by_floor(row):
    """A figure in units of its floor; of rates, how many pass while the floor passes once."""
    if not row['floor']:
        return row['value']
    return row['value'] * row['floor'] if is_rate(row['unit']) else row['value'] / row['floor']


def against(now, then, noise):
    """The column of a row: by how much its ratio to the floor differs. What is beyond the noise says in
    which way. '': there is nothing to compare with."""
    if not then or then['unit'] != now['unit'] or (now['floor'] is None) != (then['floor'] is None):
        return ''
    before = by_floor(then)
    if before <= 0:
        return ''
    change = by_floor(now) / before - 1
    text = '%+.0f %%' % (100 * change)
    if abs(change) <= noise:
        return text
    return text + (' better' if (change > 0) == is_rate(now['unit']) else ' **worse**')


def machine():
    """What kind of machine this is, in words."""
    with open('/proc/cpuinfo', encoding='utf-8', errors='replace') as file:
        info = file.read()
    kind = 'virtual machine' if re.search(r'^flags.*\bhypervisor\b', info, re.M) else 'machine'
    release = '.'.join(os.uname().release.split('.')[:2])
    return '%s, %s, %d processors, Linux %s' % (kind, os.uname().machine, os.cpu_count(), release)
