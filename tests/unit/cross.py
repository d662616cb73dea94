#!/usr/bin/python3
# SPDX-License-Identifier: Apache-2.0
"""The same octets on the wire from every processor: the encoders and sessions, compiled for a
big-endian and for a 32-bit one and run under qemu, print the messages that are printed here, where
libfixbuf agrees with them.

cross.py SOURCE_ROOT SOURCE..., with FLOWMOND_BUILD.
"""
import os
import shutil
import subprocess
import sys
import tempfile

ROOT = os.path.realpath(sys.argv[1])
NATIVE = os.path.join(os.environ.get('FLOWMOND_BUILD', 'build'), 'tests', 'unit', 'wire-octets')
SOURCES = sys.argv[2:]
# Compiler, emulator.
PROCESSORS = {'s390x, big-endian': ('s390x-linux-gnu-gcc', 'qemu-s390x'),
              'i686, 32 bits': ('i686-linux-gnu-gcc', 'qemu-i386')}
FLAGS = ('-std=gnu17', '-O2', '-D_GNU_SOURCE', '-Wall', '-Wextra', '-Werror', '-Wno-unused-parameter',
         '-fno-strict-aliasing', '-static', '-I' + os.path.join(ROOT, 'src'))
results = []


def result(good, title, note=''):
    results.append(good)
    print('%sok %d - %s' % ('' if good else 'not ', len(results), title))
    for line in [] if good else str(note).splitlines()[:20]:
        print('# ' + line[:300])


def output(*command):
    run = subprocess.run(command, capture_output=True, text=True, check=False, timeout=300)
    return run.returncode, run.stdout, run.stderr


def first_difference(one, other):
    for number, (a, b) in enumerate(zip(one.split('\n'), other.split('\n')), 1):
        if a != b:
            at = next((i for i, pair in enumerate(zip(a, b)) if pair[0] != pair[1]), 0)
            return 'message %d from octet %d on:\n%s\n%s' % (
                number, at // 2, a[:40] + '...' + a[at:at + 80], b[:40] + '...' + b[at:at + 80])
    return 'one has more messages'


def cross(title, compiler, emulator, wanted, folder):
    program = os.path.join(folder, 'wire-octets')
    missing = [name for name in (compiler, emulator) if not shutil.which(name)]
    empty = os.path.join(folder, 'empty.c')
    with open(empty, 'w', encoding='ascii') as file:
        file.write('#include <stdio.h>\nint main(void)\n{\n\treturn puts("") < 0;\n}\n')
    if not missing and output(compiler, '-static', '-o', program, empty)[0]:
        missing = ['a C library for ' + compiler]
    if missing:
        results.append(True)
        print('ok %d - %s # SKIP needs %s' % (len(results), title, ', '.join(missing)))
        return
    status, _, errors = output(compiler, *FLAGS, '-o', program, *SOURCES)
    if status:
        result(False, title + ': compiles', errors)
        return
    status, seen, errors = output(emulator, program)
    result(status == 0 and seen == wanted, title, errors or first_difference(wanted, seen))


def main():
    status, wanted, errors = output(NATIVE)
    result(status == 0 and wanted.count('\n') > 1000, 'here: %d messages, %d octets' % (
        wanted.count('\n'), sum(len(line.split()[-1]) // 2 for line in wanted.splitlines())), errors)
    status, fixbuf, errors = output(NATIVE, 'libfixbuf')
    result(status == 0 and fixbuf == wanted, 'here: libfixbuf encodes the same',
           errors or first_difference(wanted, fixbuf))
    with tempfile.TemporaryDirectory(prefix='cross-') as folder:
        for title, (compiler, emulator) in PROCESSORS.items():
            cross(title, compiler, emulator, wanted, folder)
    print('1..%d' % len(results))
    return 0 if all(results) else 1


sys.exit(main())
