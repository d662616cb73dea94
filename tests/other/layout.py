#!/usr/bin/python3
# SPDX-License-Identifier: Apache-2.0
"""Writes the kernel half of another version: src/bpf with rows added and in another order, and other
sizes, so that tests have two daemons whose tables differ as those of two releases do.

layout.py SOURCE-FOLDER TARGET-FOLDER FILE..."""
import os
import re
import sys

ROW = re.compile(r'^FM_\w+\((?:(__u\d+), )?\w+, \w+, ".*"\)$')
# By file: a row to add behind the named one.
ADDED = {
    'metrics.def': {
        'first_ns': 'FM_METRIC(__u64, other_sum, SUM, "nothing")',
        'egress_if': 'FM_METRIC(__u32, other_last, LAST, "nothing")',
        'tcp_flags': 'FM_METRIC(__u8, other_bits, OR, "nothing")',
    },
    'tcp.def': {
        'rtt_sum_us': 'FM_TCP_METRIC(__u64, other_tcp_sum, SUM, "nothing")',
        'duplicates': 'FM_TCP_METRIC(__u32, other_tcp_last, LAST, "nothing")',
    },
    'counters.def': {
        'not_ip': 'FM_COUNTER(other_note, NOTE, "nothing")',
    },
}
# By file: what is replaced, once each.
CHANGED = {
    'abi.h': [(r'#define FM_LAYOUT (\d+)', '#define FM_LAYOUT 99'),
              (r'(struct fm_overflow \{\n)(\tstruct fm_key key;\n)(\t__u32 direction;\n)',
               r'\1\3\2')],
    'places.h': [(r'#define FM_PROBES 32\b', '#define FM_PROBES 24'),
                 (r'(#define FM_PROTOCOL_HOMES\s+)48\b', r'\g<1>40')],
    'gate.h': [(r'(#define FM_GATES\s+)256\b', r'\g<1>128')],
}


def reordered(rows, added):
    """Rows backwards, but the largest types first still, and those that are added."""
    rows = [row for old in rows for row in
            (old, *(text for name, text in added.items() if '%s, ' % name in old))]
    sizes = sorted({int((ROW.match(row)[1] or '__u0')[3:]) for row in rows}, reverse=True)
    return [row for size in sizes for row in reversed(rows)
            if int((ROW.match(row)[1] or '__u0')[3:]) == size]


def other(name, text):
    for pattern, new in CHANGED.get(name, ()):
        text, n = re.subn(pattern, new, text)
        if n != 1:
            raise SystemExit('layout.py: %s: %d times in %s' % (pattern, n, name))
    if name not in ADDED:
        return text
    lines = text.split('\n')
    rows = [line for line in lines if ROW.match(line)]
    new = reordered(rows, ADDED[name])
    if len(new) != len(rows) + len(ADDED[name]):
        raise SystemExit('layout.py: rows to add behind are not in ' + name)
    first = lines.index(rows[0])
    return '\n'.join([*lines[:first], *new, ''])


def main(source, target, *names):
    for name in names:
        with open(os.path.join(source, name), encoding='utf-8') as file:
            text = file.read()
        with open(os.path.join(target, name), 'w', encoding='utf-8') as file:
            file.write(other(name, text))


if __name__ == '__main__':
    main(*sys.argv[1:])
