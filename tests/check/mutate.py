#!/usr/bin/python3
# SPDX-License-Identifier: Apache-2.0
"""Breaks one promise at a time and sees a test fail for it: the rows of mutations.py, each put into a
copy of the source of which only what a test needs is built.

  mutate.py [part of a name]...   all rows, or those; as TAP. Two hours of one processor at most.
  mutate.py --check               that every row is still about this source, and in docs/reliability.md
  mutate.py --table               the rows as that table

FLOWMOND_BUILD: the copy and its build lie in there."""
import json
import os
import re
import shutil
import subprocess
import sys

from mutations import MUTATIONS

ROOT = os.path.realpath(os.path.join(os.path.dirname(__file__), '..', '..'))
HOME = os.path.join(os.environ.get('FLOWMOND_BUILD') or os.path.join(ROOT, 'build'), 'mutate')
SOURCE, BUILD = os.path.join(HOME, 'source'), os.path.join(HOME, 'build')
PARTS = ('bench', 'docs', 'etc', 'LICENSES', 'scripts', 'src', 'systemd', 'tests', 'meson.build',
         'meson_options.txt', 'meson.options')
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


def copy():
    """Brings the copy up to date: what is the same keeps its age."""
    found = set()
    for part in PARTS:
        for folder, _, names in os.walk(os.path.join(ROOT, part)):
            found |= {os.path.relpath(os.path.join(folder, name), ROOT) for name in names
                      if '__pycache__' not in folder}
        if os.path.isfile(os.path.join(ROOT, part)):
            found.add(part)
    for name in found:
        source, target = os.path.join(ROOT, name), os.path.join(SOURCE, name)
        os.makedirs(os.path.dirname(target), exist_ok=True)
        with open(source, 'rb') as file:
            data = file.read()
        if os.path.exists(target):
            with open(target, 'rb') as file:
                if file.read() == data:
                    continue
        shutil.copyfile(source, target)
        shutil.copymode(source, target)
    for folder, _, names in os.walk(SOURCE):
        for name in names:
            path = os.path.join(folder, name)
            if os.path.relpath(path, SOURCE) not in found and '__pycache__' not in folder:
                os.unlink(path)
    if not os.path.exists(os.path.join(BUILD, 'build.ninja')):
        # A mutation leaves things unused.
        subprocess.run(['meson', 'setup', BUILD, SOURCE, '-Dwerror=false', '-Doptimization=1'],
                       check=True, stdout=subprocess.DEVNULL)
    subprocess.run(['ninja', '-C', BUILD, 'build.ninja'], check=True, stdout=subprocess.DEVNULL)


def build(test):
    """Builds what a test runs; its words where that fails, else nothing."""
    program = test['cmd'][0]
    if program.startswith(BUILD):
        wanted = [os.path.relpath(program, BUILD)]
    else:
        wanted = [os.path.relpath(target['filename'][0], BUILD)
                  for target in introspect(BUILD, '--targets')
                  if target['id'] in test['depends'] or
                  re.search('/(tools|daemon|ctl)$', target['defined_in'].rpartition('/')[0])]
    done = subprocess.run(['ninja', '-C', BUILD, *wanted], stdout=subprocess.PIPE,
                          stderr=subprocess.STDOUT, text=True, check=False)
    return done.stdout[-3000:] if done.returncode else ''


def run(killer, tests):
    """(why it failed or '', all it said)"""
    name, _, title = killer.partition(': ')
    test = tests[name]
    said = build(test)
    if said:
        return 'does not compile', said
    try:
        done = subprocess.run(test['cmd'] + ([title] if title else []), timeout=test['timeout'],
                              env=dict(os.environ, **test['env']), stdout=subprocess.PIPE,
                              stderr=subprocess.STDOUT, text=True, check=False, cwd=BUILD,
                              errors='replace')
    except subprocess.TimeoutExpired:
        return 'timed out', ''
    if re.search(r'^1\.\.0', done.stdout, re.M):
        return 'skipped', done.stdout
    failed = re.search(r'^not ok \d+ -? ?(.*)', done.stdout, re.M)
    if done.returncode:
        return (failed.group(1) if failed else 'status %d' % done.returncode), done.stdout
    return '', done.stdout


def quoted(said):
    return ''.join('# %s\n' % line for line in said[-2000:].splitlines())


def attempt(row, tests):
    """Whether each of its tests fails with the row's mutation."""
    path = os.path.join(SOURCE, row.file)
    text = read(path)
    write(path, text.replace(row.old, row.new))
    try:
        for killer in row.killers:
            why, said = run(killer, tests)
            if why in ('', 'skipped', 'does not compile'):
                print('# %s: %s\n%s' % (killer, why or 'passes', quoted(said)), end='')
                return False
            print('# killed by %s: %s' % (killer, why))
    finally:
        write(path, text)
    return True


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
    copy()
    tests = {test['name']: test for test in introspect(BUILD)}
    print('1..%d' % (len(rows) + len(killers)), flush=True)
    failed = 0
    for number, killer in enumerate(killers, 1):
        why, said = run(killer, tests)
        print('%s%s %d - %s passes' % (quoted(said) if why else '', 'not ok' if why else 'ok', number,
                                       killer), flush=True)
        failed += bool(why)
    for number, row in enumerate(rows, len(killers) + 1):
        ok = attempt(row, tests)
        print('%s %d - %s' % ('ok' if ok else 'not ok', number, row.what), flush=True)
        failed += not ok
    return bool(failed)


sys.exit(main())
