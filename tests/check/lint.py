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
# By which of its arguments a row of a table is known, apart from those of its help.
ROW_NAMES = {'counters': (0,), 'features': (0,), 'metrics': (1,), 'tcp': (1,), 'fields': (0, 4),
             'statistics': (1, 4), 'audit': (0, 3), 'config': (1,), 'config-words': (2,),
             'not-sent': (0,), 'options': (1,)}
# And as an enumerator.
ROW_ENUMERATORS = {'counters': 'FM_COUNTER_', 'not-sent': 'FM_NOT_SENT_', 'options': 'FM_OPTIONS_'}
# Tables that a test reads, so that it covers what will be in them.
ROWS_READ_BY = {'config-words': 'tests/golden/golden.py'}
# Lines that say the same in two places of a room.
SAME_LINES = 8
SAME_TEST_LINES = 12
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
    names = sources('.c', '.h')
    run = names and subprocess.run([tool, '--dry-run', '--Werror', '--style=file', *names], cwd=ROOT,
                                   capture_output=True, text=True, check=False)
    if run and run.returncode:
        found = [line for line in run.stderr.split('\n') if re.match(r'\S+:\d+:\d+: ', line)]
        yield from found or [run.stderr.strip()[-300:]]


def shell_syntax():
    """shell scripts parse"""
    for name in FILES:
        first = read(name).split('\n', 1)[0]
        if re.match(r'^#!/bin/(ba|da)?sh', first):
            run = subprocess.run([first[2:].split()[0], '-n', name], cwd=ROOT, capture_output=True,
                                 text=True, check=False)
            if run.returncode:
                yield run.stderr.strip()


def shell_check():
    """shellcheck has nothing to say"""
    if not shutil.which('shellcheck'):
        raise Skip('shellcheck is not installed')
    names = [name for name in FILES if re.match(r'^#!/bin/(ba|da)?sh', read(name).split('\n', 1)[0])]
    run = names and subprocess.run(['shellcheck', '--format=gcc', *names], cwd=ROOT, text=True,
                                   capture_output=True, check=False)
    if run:
        yield from (run.stdout + run.stderr).splitlines()


def prototypes(text):
    """(name, comment before it) of the functions that a header declares; those of a paragraph share
    its comment."""
    comment = ''
    for part in re.split(r'(/\*.*?\*/)', text, flags=re.S):
        if part.startswith('/*'):
            comment = part
            continue
        for found in re.finditer(r'^(?!static|typedef|#|\s|FM_)[\w *]*?\b(\w+)\([^;{}]*\)'
                                 r'(?:\s*__attribute__\(\(.*\)\))?;', part, flags=re.M):
            yield found.group(1), comment


def used_functions():
    """what a header declares is used outside its file, or is there for tests and says so"""
    texts = {name: without_comments(read(name)) for name in sources('.c', '.h', under='src/')}
    words = {name: set(re.findall(r'\w+', text)) for name, text in texts.items()}
    made = {name: set(re.findall(r'^[^\s#].*?\b(\w+)\([^;{}]*\)\n\{', text, re.M))
            for name, text in texts.items()}
    tests = ' '.join(read(name) for name in FILES if name.startswith(('tests/', 'bench/')))
    tested = set(re.findall(r'\w+', tests))
    for name in sources('.h', under='src/'):
        for function, comment in prototypes(read(name)):
            users = [other for other in texts if other != name and function in words[other] and
                     function not in made[other]]
            if users or re.search(r'^[\s.][^;]*[=,( ]%s\b(?!\()' % function, texts[name], re.M):
                continue
            if function not in tested:
                yield '%s: nobody uses %s' % (name, function)
            elif not re.search(r'\btests?\b', comment):
                yield '%s: only tests use %s, and its comment does not say so' % (name, function)


def code_names():
    """files are named like-this.c, functions that others see fm_like_this, types struct like_this"""
    for name in sources('.c', '.h', '.def', under='src/'):
        if not re.match(r'^[a-z0-9]+(-[a-z0-9]+)*(\.bpf)?\.(c|h|def)$', os.path.basename(name)):
            yield '%s: not like-this.c' % name
        text = without_comments(read(name))
        for number, line in enumerate(text.split('\n'), 1):
            if re.match(r'typedef\b[^(]*$', line):
                yield '%s:%d: typedef' % (name, number)
        if not name.endswith('.c') or name.startswith('src/bpf/'):
            continue
        for found in re.finditer(r'^(?!static\b|typedef\b|struct \w+ \{)[a-z][\w *]*?\b(\w+)'
                                 r'\([^;{}]*\)\n\{', text, re.M):
            if found.group(1) != 'main' and not found.group(1).startswith('fm_'):
                yield '%s: %s is seen by others and not called fm_' % (name, found.group(1))


def rows(text):
    """Arguments of each row of a table."""
    for found in re.finditer(r'^FM_\w+\((.*)\)$', re.sub(r'/\*.*?\*/', '', text, flags=re.S), re.M):
        yield [argument.strip().strip('"') for argument in
               re.findall(r'"(?:[^"\\]|\\.)*"|[^,]+|(?<=,)(?=,)', found.group(1))]


def words_of_tests():
    """Every word in a test, and those that its macros put together: rev_##name, used with mss."""
    words = set()
    for name in FILES:
        if not name.startswith('tests/') or name.startswith('tests/check/'):
            continue
        text = read(name)
        words.update(re.findall(r'\w+', text))
        for macro, argument, body in re.findall(r'^#define (\w+)\((\w+)\)((?:.*\\\n)*.*)', text,
                                                re.M):
            for prefix in re.findall(r'\b(\w+)##%s\b' % argument, body):
                words.update(prefix + used for used in re.findall(r'\b%s\((\w+)\)' % macro, text))
    return words


def tested_rows():
    """every row of a table is named by a test"""
    known = words_of_tests()
    for name in sources('.def', under='src/'):
        table = os.path.basename(name)[:-4]
        places = ROW_NAMES.get(table)
        if not places:
            yield '%s: by which arguments are its rows known?' % name
            continue
        reader = ROWS_READ_BY.get(table)
        if reader in FILES and os.path.basename(name) in read(reader):
            continue
        for row in rows(read(name)):
            found = {row[place] for place in places if place < len(row)}
            enumerator = ROW_ENUMERATORS.get(table, '') + row[0]
            if not found & known and enumerator not in known:
                yield '%s: no test names %s' % (name, ' or '.join(sorted(found - {''})))


def telling_lines(name):
    """(number, text) of the lines that say something."""
    text = read(name)
    text = without_comments(text) if name.endswith(('.c', '.h')) else text
    for number, line in enumerate(text.split('\n'), 1):
        line = ' '.join(line.split())
        if re.search(r'\w{2}', line) and not re.match(r'#|import |from |return 0;|break;', line):
            yield number, line


def same_lines():
    """nothing is written twice"""
    for under, length in (('src/', SAME_LINES), ('tests/', SAME_TEST_LINES)):
        seen = {}
        for name in sources('.c', '.h', '.py', under=under):
            lines, told = list(telling_lines(name)), -1
            for at in range(len(lines) - length + 1):
                run = tuple(line for _, line in lines[at:at + length])
                first = seen.setdefault(run, (name, lines[at][0]))
                if first != (name, lines[at][0]) and at > told:
                    yield '%s:%d: as %s:%d' % (name, lines[at][0], *first)
                    told = at + length


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
         commit_subjects, machine_paths, text_hygiene, formatting, shell_syntax,
         shell_check, used_functions, code_names, tested_rows, same_lines, python_syntax]


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
