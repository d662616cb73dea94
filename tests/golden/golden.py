#!/usr/bin/python3
# SPDX-License-Identifier: Apache-2.0
"""What flowmond prints, compared with files: configurations, and docs made from the tables.

golden.py FLOWMOND SOURCE_ROOT [--update]

config/NAME.conf is read; config/NAME.ok is what --print-config prints of it, config/NAME.bad what
--check-config complains, with the file named as config/NAME.conf.
"""
import os
import subprocess
import sys
import tempfile

FLOWMOND, ROOT = map(os.path.realpath, sys.argv[1:3])
UPDATE = '--update' in sys.argv
results = []


def run(*arguments, cwd=None):
    done = subprocess.run([FLOWMOND, *arguments], stdin=subprocess.DEVNULL, timeout=20, cwd=cwd,
                          stdout=subprocess.PIPE, stderr=subprocess.STDOUT, check=False)
    return done.returncode, done.stdout


def result(good, title, note=''):
    results.append(good)
    for line in [] if good else str(note).splitlines():
        print('# ' + line)
    print('%sok %d - %s' % ('' if good else 'not ', len(results), title))


def compare(title, path, seen):
    if UPDATE:
        with open(path, 'wb') as file:
            file.write(seen)
    with open(path, 'rb') as file:
        wanted = file.read()
    result(seen == wanted, title, 'expected %r\nseen     %r' % (wanted, seen))


def configurations():
    directory = os.path.join(ROOT, 'tests', 'golden')
    names = sorted(name[:-5] for name in os.listdir(os.path.join(directory, 'config'))
                   if name.endswith('.conf'))
    for name in names:
        path = 'config/%s.conf' % name
        status, seen = run('--check-config', '--config', path, cwd=directory)
        if status == 0:
            status, printed = run('--print-config', '--config', path, cwd=directory)
            compare(name + ': printed as expected', os.path.join(directory, 'config', name + '.ok'),
                    printed)
            with tempfile.NamedTemporaryFile() as file:
                file.write(printed)
                file.flush()
                again = run('--print-config', '--config', file.name)
            result(again == (0, printed), name + ': what is printed is read as the same',
                   again[1].decode())
        else:
            compare(name + ': refused as expected', os.path.join(directory, 'config',
                                                                 name + '.bad'), seen)


HOSTILE = {
    'a NUL octet': (b'[flows]\nmax = 1\0000\n', ':2: a NUL octet'),
    'a line of a megabyte': (b'[flows]\nmax = ' + b'1' * 1000000 + b'\n', ':2: the line is too long'),
    'a section name of a kilobyte': (b'[' + b'x' * 1000 + b']\n', ':1: '),
    'random octets': (bytes(range(256)) * 64, ': '),
    'a heading that does not end': (b'[flows\nmax = 2048\n', ':1: expected a heading'),
    'two hundred thousand lines': (b'#\n' * 200000, 'not a configuration'),
    'a line with a continuation': (b'[capture]\ninterfaces = a,\n  b\n', ':3: the line begins with'),
    'a byte order mark': (b'\xef\xbb\xbf[flows] # x=1\nmax = junk\n', ':1: a byte order mark'),
    'no newline at the end': (b'[flows]\nmax = x', ':2: [flows] max = x: expected'),
    'a line of 4097 octets': (b'[filter]\nrule = exclude udp' + b' ' * 4079 + b'\n',
                             'at most 4096 octets'),
    'a thousand rules': (b'[filter]\n' + b'rule = exclude udp\n' * 1000,
                         ':257: [filter] rule: expected at most 255 rules'),
    'parentheses in parentheses': (b'[filter]\nrule = exclude ' + b'(' * 4000 + b'\n',
                                   'character 41): expected at most 32 times'),
    'a file of prefixes that never ends': (b'[filter]\nrule = exclude net file /dev/zero\n',
                                           ':2: [filter] rule: /dev/zero: expected a regular file'),
    'not UTF-8': (b'[capture]\nobserve = \xff\xfe\n', ':2: [capture] observe'),
}


def hostile():
    for title, (text, word) in HOSTILE.items():
        with tempfile.NamedTemporaryFile() as file:
            file.write(text)
            file.flush()
            status, seen = run('--check-config', '--config', file.name)
        result(status == 1 and word in seen.decode(errors='replace'), 'hostile: ' + title,
               '%d %r' % (status, seen[:300]))
    status, seen = run('--check-config', '--config', '/')
    result(status == 1 and b'directory' in seen, 'hostile: a directory', seen)
    status, seen = run('--check-config', '--config', '/nonexistent/file')
    result(status == 1 and b'/nonexistent/file' in seen, 'hostile: no such file', seen)


def tables():
    compare('etc/flowmond.conf is the example', os.path.join(ROOT, 'etc', 'flowmond.conf'),
            run('--print-example')[1])
    default = run('--print-config', '--config', os.path.join(ROOT, 'etc', 'flowmond.conf'))
    with tempfile.NamedTemporaryFile() as file:
        empty = run('--print-config', '--config', file.name)
    result(default == empty, 'etc/flowmond.conf says the defaults', default[1].decode())
    for table in ('fields', 'settings', 'counters'):
        compare('docs/%s.md is the table' % table, os.path.join(ROOT, 'docs', table + '.md'),
                run('--list-%s=markdown' % table)[1])


def rows(path):
    """Arguments of the rows of a table, without quotes."""
    with open(os.path.join(ROOT, path), encoding='utf-8') as file:
        for line in file:
            if line.startswith('FM_'):
                yield [part.strip(' ")\n') for part in line.split('(', 1)[1].split(',')]


# What a section must hold beside the setting.
NEEDED = {'collector': '[collector a]\naddress = 192.0.2.1:4739\n',
          'group': '[collector a]\naddress = 192.0.2.1:4739\n[group g]\nmembers = a\n',
          'ipfix_file': '[ipfix_file]\ndirectory = /var/lib/flowmond\n'}


def words():
    """Every word of config-words.def that a setting of config.def takes is read and printed."""
    kinds = {}
    for kind, _, word in rows('src/daemon/config-words.def'):
        kinds.setdefault('ENUM_' + kind, []).append(word)
    for section, key, kind, *_ in rows('src/daemon/config.def'):
        for word in kinds.get(kind, ()):
            text = NEEDED.get(section, '[%s]\n' % section) + '%s = %s\n' % (key, word)
            with tempfile.NamedTemporaryFile() as file:
                file.write(text.encode())
                file.flush()
                status, printed = run('--print-config', '--config', file.name)
            result(status == 0 and ('\n%s = %s\n' % (key, word)).encode() in printed,
                   '[%s] %s = %s' % (section, key, word), printed.decode(errors='replace'))


configurations()
words()
hostile()
tables()
print('1..%d' % len(results))
sys.exit(not all(results))
