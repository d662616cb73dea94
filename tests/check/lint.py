#!/usr/bin/python3
# SPDX-License-Identifier: Apache-2.0
"""Rules of the house that no compiler checks, as TAP tests.

Run by meson (suite check) from anywhere; looks at the files git knows, or at all files where this
is no clone. Each rule is a function that yields complaints; no complaint is a pass.
"""
import os
import re
import shutil
import subprocess
import sys

ROOT = os.path.realpath(os.path.join(os.path.dirname(__file__), '..', '..'))

# Which room may include headers of which others.
ARROWS = {
    'base': {'base'},
    'bpf': {'bpf'},
    'ipfix': {'ipfix', 'base'},
    'daemon': {'daemon', 'ipfix', 'bpf', 'base'},
    'ctl': {'ctl', 'base'},
}
# What the other rooms may see of the kernel half.
BPF_PUBLIC = re.compile(r'^(abi\.h|hash\.h|\w+\.def)$')
MAX_LINES = {'.c': 1000, '.h': 150, '.py': 1000}
MAX_LINES_OF = {'src/bpf/abi.h': 250}
MAX_FUNCTION = 100
MAX_BPF_NAME = 15
MAX_SUBJECT = 72
LICENCES = {'src/bpf/': 'GPL-2.0-only OR BSD-2-Clause', '': 'Apache-2.0'}
# Texts and data that cannot carry a comment.
NO_COMMENT = re.compile(r'^LICENSE$|^LICENSES/.*\.txt$|\.(json|pcap|bin)$|^tests/golden/.*\.(out|err|expected|ok|bad)$|^tests/fuzz/corpus/')
# Paths of one machine, written so that this line does not find itself.
MACHINE_PATHS = re.compile('|'.join('/' + word + '/' for word in
                                    ('wor[k]', 'far[m]', 'hom[e]/[a-z]+', 'roo[t]', 'tmp/[w]')))


def git(*args):
    return subprocess.run(['git', '-c', 'safe.directory=*', '-C', ROOT, *args],
                          capture_output=True, text=True, check=True).stdout


def list_files():
    try:
        names = git('ls-files', '-z').split('\0')
    except (OSError, subprocess.CalledProcessError):
        names = [os.path.relpath(os.path.join(folder, name), ROOT)
                 for folder, _, files in os.walk(ROOT) if '/build' not in folder
                 and '/.git' not in folder for name in files]
    return sorted(name for name in names if name and os.path.isfile(os.path.join(ROOT, name)))


FILES = list_files()


def read(name):
    with open(os.path.join(ROOT, name), encoding='utf-8', errors='replace') as file:
        return file.read()


def sources(*endings, under=''):
    return [name for name in FILES if name.startswith(under) and name.endswith(endings)]


def without_comments(text):
    """C text with comments and string contents blanked, line numbers kept."""
    def blank(match):
        found = match.group(0)
        if found[0] in '"\'':
            return found[0] * 2
        return '\n' * found.count('\n') or ' '
    return re.sub(r'/\*.*?\*/|//[^\n]*|"(?:\\.|[^"\\\n])*"|\'(?:\\.|[^\'\\\n])*\'', blank, text,
                  flags=re.S)


def licence_lines():
    """every file names its licence"""
    for name in FILES:
        if NO_COMMENT.search(name):
            continue
        licence = next(value for key, value in LICENCES.items() if name.startswith(key))
        if name.endswith('meson.build'):
            licence = 'Apache-2.0'
        head = '\n'.join(read(name).split('\n')[:5])
        found = re.search(r'SPDX-License-Identifier: ([\w.\- ]*\w)', head)
        if not found:
            yield '%s: no SPDX-License-Identifier in the first lines' % name
        elif found.group(1) != licence:
            yield '%s: %s, expected %s' % (name, found.group(1), licence)


def arrows():
    """rooms include only what lies below them"""
    for name in sources('.c', '.h', under='src/'):
        room = name.split('/')[1]
        for number, line in enumerate(read(name).split('\n'), 1):
            found = re.match(r'\s*#\s*include\s+"([^"]+)"', line)
            if not found:
                continue
            path = found.group(1).split('/')
            target = path[0] if len(path) > 1 else room
            if target not in ARROWS.get(room, ()):
                yield '%s:%d: %s includes %s' % (name, number, room, found.group(1))
            elif target == 'bpf' and room != 'bpf' and not BPF_PUBLIC.match(path[-1]):
                yield '%s:%d: %s is private to the kernel half' % (name, number, path[-1])


def file_lengths():
    """files stay readable in one sitting"""
    for name in FILES:
        limit = MAX_LINES_OF.get(name, MAX_LINES.get(os.path.splitext(name)[1]))
        if name.endswith('.bpf.h'):
            limit = MAX_LINES['.c']
        lines = read(name).count('\n')
        if limit and lines > limit:
            yield '%s: %d lines, at most %d' % (name, lines, limit)


def functions(text):
    """(name, first line, lines) of every function of kernel-style C: braces in column 0."""
    lines = text.split('\n')
    start = None
    for number, line in enumerate(lines, 1):
        if line == '{':
            start = number
        elif line.startswith('}') and start is not None:
            head = ' '.join(lines[max(0, start - 8):start - 1])
            names = re.findall(r'(\w+)\s*\((?!\()', head)
            yield (names[-1] if names else '?', start, number - start + 1)
            start = None


def function_lengths():
    """functions are at most 100 lines"""
    for name in sources('.c', '.h'):
        for function, line, length in functions(without_comments(read(name))):
            if length > MAX_FUNCTION:
                yield '%s:%d: %s has %d lines' % (name, line, function, length)


def no_goto():
    """no goto, and exit() only in main"""
    for name in sources('.c', '.h', under='src/'):
        text = without_comments(read(name))
        bodies = [(first, first + length, function) for function, first, length in functions(text)]
        for number, line in enumerate(text.split('\n'), 1):
            if re.search(r'\bgoto\b', line):
                yield '%s:%d: goto' % (name, number)
            inside = next((f for first, last, f in bodies if first <= number <= last), '')
            if re.search(r'(?<![\w>.])_?exit\s*\(', line) and inside != 'main':
                yield '%s:%d: exit() outside main' % (name, number)


def bpf_names():
    """BPF map and program names fit the kernel's 15 characters"""
    for name in sources('.bpf.c', '.bpf.h', under='src/bpf/'):
        text = re.sub(r'/\*.*?\*/', '', read(name), flags=re.S)
        names = re.findall(r'(\w+)(?:\[\w*\])?\s+SEC\("\.maps"\)', text)
        names += re.findall(r'SEC\("(?!\.maps|license)[^"]+"\)\s*\n?\s*(?:\w+[ *]+)+?(\w+)\s*\(', text)
        for found in names:
            if len(found) > MAX_BPF_NAME:
                yield '%s: %s has %d characters' % (name, found, len(found))


def commit_subjects():
    """commit subjects read 'area: what' in 72 characters"""
    try:
        log = git('log', '--no-merges', '--min-parents=1', '--format=%H%x00%s', '-n', '400')
    except (OSError, subprocess.CalledProcessError):
        raise Skip('no git history here') from None
    for line in log.splitlines():
        commit, subject = line.split('\0', 1)
        commit = commit[:7]
        if len(subject) > MAX_SUBJECT:
            yield '%s: subject has %d characters' % (commit, len(subject))
        if not re.match(r'^[\w./,+-]+( [\w./+-]+)?: \S', subject):
            yield '%s: subject is not "area: what": %s' % (commit, subject)


def machine_paths():
    """no path of one machine"""
    for name in FILES:
        if NO_COMMENT.search(name):
            continue
        for number, line in enumerate(read(name).split('\n'), 1):
            if MACHINE_PATHS.search(line):
                yield '%s:%d: %s' % (name, number, line.strip()[:80])


def text_hygiene():
    """text files end with one newline, without trailing blanks"""
    for name in FILES:
        if NO_COMMENT.search(name) or name.startswith('tests/golden/'):
            continue
        text = read(name)
        if text and not text.endswith('\n'):
            yield '%s: no newline at the end' % name
        for number, line in enumerate(text.split('\n'), 1):
            if line != line.rstrip():
                yield '%s:%d: blanks at the end of the line' % (name, number)


def formatting():
    """C files are as clang-format 14 leaves them"""
    tool = shutil.which('clang-format-14') or shutil.which('clang-format')
    if not tool:
        raise Skip('clang-format is not installed')
    version = subprocess.run([tool, '--version'], capture_output=True, text=True, check=True).stdout
    if not re.search(r'version 14\.', version):
        raise Skip('needs clang-format 14, here: ' + version.strip())
    for name in sources('.c', '.h'):
        run = subprocess.run([tool, '--dry-run', '--Werror', '--style=file', name], cwd=ROOT,
                             capture_output=True, text=True, check=False)
        if run.returncode:
            yield run.stderr.split('\n')[0]


def shell_syntax():
    """shell scripts parse"""
    for name in FILES:
        first = read(name).split('\n', 1)[0]
        if re.match(r'^#!/bin/(ba|da)?sh', first):
            run = subprocess.run([first[2:].split()[0], '-n', name], cwd=ROOT, capture_output=True,
                                 text=True, check=False)
            if run.returncode:
                yield run.stderr.strip()


def python_syntax():
    """python files compile"""
    for name in FILES:
        text = read(name)
        if name.endswith('.py') or re.match(r'^#!.*python3', text):
            try:
                compile(text, name, 'exec')
            except SyntaxError as error:
                yield '%s:%s: %s' % (name, error.lineno, error.msg)


class Skip(Exception):
    """A rule that cannot be checked here; the text says why."""


RULES = [licence_lines, arrows, file_lengths, function_lengths, no_goto, bpf_names,
         commit_subjects, machine_paths, text_hygiene, formatting, shell_syntax, python_syntax]


def main():
    print('1..%d' % len(RULES))
    failed = 0
    for number, rule in enumerate(RULES, 1):
        try:
            complaints = list(rule())
        except Skip as why:
            print('ok %d - %s # SKIP %s' % (number, rule.__doc__, why))
            continue
        print('%s %d - %s' % ('not ok' if complaints else 'ok', number, rule.__doc__))
        for complaint in complaints[:40]:
            print('# ' + complaint)
        failed += bool(complaints)
    return 1 if failed else 0


sys.exit(main())
