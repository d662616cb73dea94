#!/usr/bin/python3
# SPDX-License-Identifier: Apache-2.0
"""What clang-tidy (.clang-tidy) and cppcheck find in src, as TAP tests: nothing.

analysis.py [ROOT], with FLOWMOND_BUILD, whose compile_commands.json says how files are compiled.
"""
import concurrent.futures
import json
import os
import re
import shutil
import subprocess
import sys
import tempfile

ROOT = os.path.realpath(sys.argv[1] if len(sys.argv) > 1 else
                        os.path.join(os.path.dirname(__file__), '..', '..'))
BUILD = os.path.realpath(os.environ.get('FLOWMOND_BUILD', os.path.join(ROOT, 'build')))
# It does not know cleanup attributes: whatever has one is a leak to it. Where it cannot follow our
# macros (internalAstError) it leaves the rest of a function out.
CPPCHECK = ('--enable=warning,performance,portability', '--std=c17', '--quiet', '--error-exitcode=1',
            '--suppress=memleak', '--suppress=resourceLeak', '--suppress=internalAstError',
            '--inline-suppr', '-D__x86_64__', '-DLIBBPF_OPTS(type,name,...)=struct type name',
            '--template={file}:{line}: {id}: {message}')
SHOWN = 40
failed = []


def result(number, title, complaints, skip=None):
    print('%sok %d - %s%s' % ('not ' if complaints else '', number, title,
                              ' # SKIP ' + skip if skip else ''))
    for line in complaints[:SHOWN]:
        print('# ' + line)
    failed.extend(complaints)


def sources():
    """C files of src and how they are compiled: what tests make of them in their own way left out."""
    with open(os.path.join(BUILD, 'compile_commands.json'), encoding='utf-8') as file:
        commands = json.load(file)
    found = {}
    for one in commands:
        name = os.path.relpath(os.path.realpath(os.path.join(one['directory'], one['file'])), ROOT)
        if name.startswith('src/') and one.get('output', 'src/').startswith('src/'):
            found[name] = one
    return found


def tidy(tool, database, name):
    run = subprocess.run([tool, '-p', database, '--quiet', name], cwd=ROOT, capture_output=True,
                         text=True, check=False)
    found = [line for line in run.stdout.splitlines() if re.search(r': (warning|error): ', line)]
    found = [re.sub(r'^\S*?/(?=src/)', '', line) for line in found]
    return found or (['%s: %s' % (name, run.stderr.strip()[-300:])] if run.returncode else [])


def clang_tidy(number):
    title = 'clang-tidy finds nothing in src'
    tool = shutil.which('clang-tidy-14') or shutil.which('clang-tidy')
    if not tool:
        result(number, title, [], 'clang-tidy is not installed')
        return
    version = subprocess.run([tool, '--version'], capture_output=True, text=True, check=True).stdout
    if not re.search(r'version 14\.', version):
        result(number, title, [], 'needs clang-tidy 14')
        return
    names = sources()
    with tempfile.TemporaryDirectory() as folder, \
            concurrent.futures.ThreadPoolExecutor(os.cpu_count()) as pool:
        with open(os.path.join(folder, 'compile_commands.json'), 'w', encoding='utf-8') as file:
            json.dump(list(names.values()), file)
        found = list(pool.map(lambda name: tidy(tool, folder, name), sorted(names)))
    complaints = sorted({line for lines in found for line in lines})
    result(number, title, complaints or ([] if names else ['no files']))


def cppcheck(number):
    title = 'cppcheck finds nothing in src'
    if not shutil.which('cppcheck'):
        result(number, title, [], 'cppcheck is not installed')
        return
    rooms = [room for room in ('base', 'ipfix', 'daemon', 'ctl')
             if os.path.isdir(os.path.join(ROOT, 'src', room))]
    run = subprocess.run(['cppcheck', *CPPCHECK, '-j', str(os.cpu_count()), '-I', 'src',
                          *('src/' + room for room in rooms)], cwd=ROOT, capture_output=True,
                         text=True, check=False)
    complaints = (run.stdout + run.stderr).splitlines()
    result(number, title, complaints or (['status %d' % run.returncode] if run.returncode else []))


clang_tidy(1)
cppcheck(2)
print('1..2')
sys.exit(bool(failed))
