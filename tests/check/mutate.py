#!/usr/bin/python3
# SPDX-License-Identifier: Apache-2.0
"""Breaks one promise at a time and sees a test fail for it: the rows of mutations.py, each put into a
copy of the source of which only what a test needs is built.

  mutate.py [part of a name]...   all rows, or those; as TAP. A quarter of an hour of two processors.
  mutate.py --check               that every row is still about this source, and in docs/reliability.md
  mutate.py --table               the rows as that table

FLOWMOND_BUILD: the copies and their builds lie in there, in mutate; what each test said is in
mutate/said."""
import filecmp
import itertools
import json
import os
import queue
import re
import shutil
import signal
import subprocess
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor

from mutations import MUTATIONS

ROOT = os.path.realpath(os.path.join(os.path.dirname(__file__), '..', '..'))
HOME = os.path.join(os.environ.get('FLOWMOND_BUILD') or os.path.join(ROOT, 'build'), 'mutate')
# Tests wait a good part of their time: another row is built and tried meanwhile.
COPIES = 2
PARTS = ('bench', 'docs', 'etc', 'LICENSES', 'scripts', 'src', 'systemd', 'tests', 'meson.build',
         'meson_options.txt', 'meson.options')
SAID = os.path.join(HOME, 'said')
# Tests, each with a group of processes of its own.
RUNNING = set()
TABLE = os.path.join(ROOT, 'docs', 'reliability.md')


def read(path):
    with open(path, encoding='utf-8') as file:
        return file.read()


def write(path, text):
    with open(path, 'w', encoding='utf-8') as file:
        file.write(text)


def table():
    """The rows as docs/reliability.md has them."""
    return '| broken | a test that fails |\n|---|---|\n' + ''.join(
        '| %s | `%s` |\n' % (row.what, '`, `'.join(row.killers)) for row in MUTATIONS)


def complaints():
    """What is wrong with the table itself."""
    names = {test['name'] for test in introspect(os.path.dirname(HOME))}
    for row in MUTATIONS:
        times = read(os.path.join(ROOT, row.file)).count(row.old)
        if times != 1:
            yield '%s: its text is %d times in %s' % (row.what, times, row.file)
        if row.old == row.new:
            yield '%s: changes nothing' % row.what
        for killer in row.killers:
            if killer.split(': ')[0] not in names:
                yield '%s: there is no test %s' % (row.what, killer)
    whats = [row.what for row in MUTATIONS]
    yield from ('%s: twice' % what for what in set(whats) if whats.count(what) > 1)
    if table() not in read(TABLE):
        yield 'docs/reliability.md has another table; mutate.py --table prints it'


def introspect(where, what='--tests'):
    return json.loads(subprocess.run(['meson', 'introspect', where, what], check=True,
                                     stdout=subprocess.PIPE).stdout)


class Copy:
    """One copy of the source, and its build."""

    def __init__(self, number):
        self.source, self.build = (os.path.join(HOME, '%s-%d' % (what, number))
                                   for what in ('source', 'build'))
        self.update()
        self.targets = introspect(self.build, '--targets')
        self.tests = {test['name']: test for test in introspect(self.build)}

    def update(self):
        """Brings it up to date: what is the same keeps its age."""
        found = set()
        for part in PARTS:
            for folder, _, names in os.walk(os.path.join(ROOT, part)):
                found |= {os.path.relpath(os.path.join(folder, name), ROOT) for name in names
                          if '__pycache__' not in folder}
            if os.path.isfile(os.path.join(ROOT, part)):
                found.add(part)
        for name in found:
            source, target = os.path.join(ROOT, name), os.path.join(self.source, name)
            os.makedirs(os.path.dirname(target), exist_ok=True)
            if not os.path.exists(target) or not filecmp.cmp(source, target, shallow=False):
                shutil.copyfile(source, target)
                shutil.copymode(source, target)
        for folder, _, names in os.walk(self.source):
            for name in names:
                path = os.path.join(folder, name)
                if os.path.relpath(path, self.source) not in found and '__pycache__' not in folder:
                    os.unlink(path)
        if not os.path.exists(os.path.join(self.build, 'build.ninja')):
            # A mutation leaves things unused. Nobody looks at it with a debugger.
            subprocess.run(['meson', 'setup', self.build, self.source, '-Dwerror=false',
                            '-Doptimization=1', '-Ddebug=false'], check=True,
                           stdout=subprocess.DEVNULL)
        subprocess.run(['ninja', '-C', self.build, 'build.ninja'], check=True,
                       stdout=subprocess.DEVNULL)

    def make(self, test):
        """Builds what a test runs; its words where that fails, else nothing."""
        program = test['cmd'][0]
        if program.startswith(self.build):
            wanted = [os.path.relpath(program, self.build)]
        else:
            wanted = [os.path.relpath(target['filename'][0], self.build) for target in self.targets
                      if target['id'] in test['depends'] or
                      re.search('/(tools|daemon|ctl)$', os.path.dirname(target['defined_in']))]
        done = subprocess.run(['ninja', '-j2', '-C', self.build, *wanted], stdout=subprocess.PIPE,
                              stderr=subprocess.STDOUT, text=True, check=False)
        return done.stdout[-3000:] if done.returncode else ''

    def run(self, killer):
        """(why it failed or '', all it said)"""
        name, _, title = killer.partition(': ')
        test = self.tests[name]
        said = self.make(test)
        if said:
            return 'does not compile', said
        status, said = execute(test, title, self.build)
        if re.search(r'^1\.\.0', said, re.M):
            return 'skipped', said
        if re.search(r'^Bail out!', said, re.M):
            return 'did not run', said
        failed = re.search(r'^not ok \d+ -? ?(.*)', said, re.M)
        if failed:
            return failed.group(1), said
        return status, said

    def attempt(self, row):
        """(whether each of its tests fails with the row's mutation, what is to be told)"""
        path = os.path.join(self.source, row.file)
        text, told = read(path), ''
        write(path, text.replace(row.old, row.new))
        try:
            for killer in row.killers:
                begun = time.monotonic()
                why, said = self.run(killer)
                os.makedirs(SAID, exist_ok=True)
                write(os.path.join(SAID, '%s: %s' % (row.what, killer.split(': ')[0])), said)
                if why in ('', 'skipped', 'does not compile', 'did not run'):
                    return False, told + '# %s: %s\n%s' % (killer, why or 'passes', quoted(said))
                told += '# killed by %s: %s (%.0f s)\n' % (killer, why, time.monotonic() - begun)
        finally:
            write(path, text)
        return True, told


def give_up(number, frame):
    for process in list(RUNNING):
        os.killpg(process.pid, signal.SIGKILL)
    os._exit(128 + number)


def execute(test, title, folder):
    """(how it failed or '', all it said); a program of ours is not waited for once a case failed: scripts
    have things to put away."""
    ours = test['cmd'][0].startswith(folder)
    process = subprocess.Popen(test['cmd'] + ([title] if title else []), cwd=folder, text=True,
                               env=dict(os.environ, **test['env']), stdout=subprocess.PIPE,
                               stderr=subprocess.STDOUT, errors='replace', start_new_session=True)
    RUNNING.add(process)
    late = threading.Event()

    def end():
        late.set()
        os.killpg(process.pid, signal.SIGKILL)
    timer = threading.Timer(test['timeout'], end)
    timer.start()
    lines = []
    for line in process.stdout:
        lines.append(line)
        if ours and line.startswith('not ok'):
            os.killpg(process.pid, signal.SIGKILL)
            break
    process.stdout.close()
    status = process.wait()
    timer.cancel()
    RUNNING.discard(process)
    if late.is_set():
        return 'timed out', ''.join(lines)
    return 'status %d' % status if status else '', ''.join(lines)


def quoted(said):
    return ''.join('# %s\n' % line for line in said[-2000:].splitlines())


def main():
    if '--table' in sys.argv:
        print(table(), end='')
        return 0
    if '--check' in sys.argv:
        found = list(complaints())
        print('1..1\n%s 1 - mutations are about this source' % ('not ok' if found else 'ok'))
        print(''.join('# %s\n' % complaint for complaint in found), end='')
        return bool(found)
    if os.geteuid() != 0:
        print('1..0 # SKIP needs root')
        return 0
    rows = [row for row in MUTATIONS
            if len(sys.argv) < 2 or any(part in row.what for part in sys.argv[1:])]
    killers = sorted({killer for row in rows for killer in row.killers})
    print('1..%d' % (len(rows) + len(killers)), flush=True)
    for number in signal.SIGTERM, signal.SIGINT:
        signal.signal(number, give_up)
    copies, failed = queue.Queue(), 0
    for number in range(min(COPIES, len(rows))):
        copies.put(Copy(number))

    def with_copy(function, *arguments):
        copy = copies.get()
        try:
            return function(copy, *arguments)
        finally:
            copies.put(copy)

    def passes(killer):
        why, said = with_copy(Copy.run, killer)
        return not why, '%s passes' % killer, quoted(said) if why else ''

    def is_killed(row):
        ok, told = with_copy(Copy.attempt, row)
        return ok, row.what, told
    with ThreadPoolExecutor(copies.qsize() or 1) as pool:
        results = itertools.chain(pool.map(passes, killers), pool.map(is_killed, rows))
        for number, (ok, what, told) in enumerate(results, 1):
            print('%s%s %d - %s' % (told, 'ok' if ok else 'not ok', number, what), flush=True)
            failed += not ok
    return bool(failed)


sys.exit(main())
