#!/usr/bin/python3
# SPDX-License-Identifier: Apache-2.0
"""What a flow costs, in figures that no load of the machine changes: instructions of the export of a
record (counted by callgrind), octets of memory and on the wire. None may grow by more than 2 %
unnoticed: whoever has a reason writes the new figure here.
"""
import os
import re
import shutil
import subprocess
import sys

PROGRAM = os.path.join(os.environ.get('FLOWMOND_BUILD', 'build'), 'tests', 'unit', 'cost')
ROOM = 1.02
FEW, MANY = 1000, 3000
# Instructions a record, as gcc 12 compiles with -O2 and libfixbuf 2.4.1 was compiled.
COMPILER = '12.'
INSTRUCTIONS = {'ipfix': 4026, 'v9': 1380}
# Octets of a flow's memory, by CPUs and without or with TCP measured; of a record in messages.
OCTETS = {'memory-1-plain': 448.2, 'memory-1-tcp': 1520.3, 'memory-8-plain': 448.6,
          'memory-8-tcp': 1521.2, 'memory-64-plain': 451.1, 'memory-64-tcp': 1528.4,
          'wire-ipfix': 76.1, 'wire-v9': 73.4}
results = []


def result(good, title, skip=None):
    results.append(good)
    print('%sok %d - %s%s' % ('' if good else 'not ', len(results), title,
                              ' # SKIP ' + skip if skip else ''), flush=True)


def hold(name, seen, known, unit):
    result(0 < seen <= known * ROOM, '%s: %.1f %s, known %.1f' % (name, seen, unit, known))
    if seen < known / ROOM:
        print('# less than known: write it down')


def instructions(protocol, conversations):
    run = subprocess.run(['valgrind', '--tool=callgrind', '--callgrind-out-file=/dev/null', PROGRAM,
                          protocol, str(conversations)], capture_output=True, text=True, check=False)
    found = re.search(r'Collected : (\d+)', run.stderr)
    if run.returncode or not found:
        raise RuntimeError(run.stderr[-2000:])
    return int(found.group(1))


def compiled_by():
    """The compiler's name for itself, as it is in the program."""
    with open(PROGRAM, 'rb') as file:
        found = re.search(rb'GCC: \([^)]*\) ([0-9.]+)', file.read())
    return found.group(1).decode() if found else 'another compiler'


def main():
    sizes = subprocess.run([PROGRAM], capture_output=True, text=True, check=True).stdout
    for name, value in (line.split() for line in sizes.splitlines()):
        hold(name, float(value), OCTETS[name], 'octets')
    skip = None
    if not shutil.which('valgrind'):
        skip = 'needs valgrind'
    elif not compiled_by().startswith(COMPILER):
        skip = 'the figures are of gcc %s, here %s' % (COMPILER.rstrip('.'), compiled_by())
    for protocol, known in INSTRUCTIONS.items():
        if skip:
            result(True, protocol, skip)
            continue
        both = [instructions(protocol, n) for n in (FEW, MANY)]
        hold(protocol, (both[1] - both[0]) / (2 * (MANY - FEW)), known, 'instructions a record')
    print('1..%d' % len(results))
    return 0 if all(results) else 1


sys.exit(main())
