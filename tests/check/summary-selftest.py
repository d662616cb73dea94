#!/usr/bin/python3
# SPDX-License-Identifier: Apache-2.0
"""scripts/summary over a small meson project with every kind of result: what fails is counted as
failed, however it fails."""
import os
import subprocess
import sys
import tempfile

SUMMARY = os.path.join(os.path.dirname(os.path.realpath(__file__)), '..', '..', 'scripts', 'summary')
PROJECT = r'''
project('flowmond', version: '0')
sh = find_program('sh')
foreach name, script : {
    'good': 'echo 1..2; echo ok 1 - a; echo ok 2 - b',
    'one skipped': 'echo 1..2; echo ok 1 - a; echo "ok 2 - b: c # SKIP no kernel"',
    'all skipped': 'echo "1..0 # SKIP no captures"',
    'crash': 'echo 1..2; echo ok 1 - a; exit 3',
    'hang': 'echo 1..2; echo ok 1 - a; sleep 9',
    'counted': 'echo 1..1; echo "ok 1 - z: 1234 inputs from 5 files, 100 a second"',
    'says why': 'echo "# not this"; echo ok 1 - a; echo "not ok 2 - b"; echo "# why"; echo 1..2',
    'not xml': 'printf "1..1\n# \033[1m\001\nnot ok 1 - z\n"',
  }
  test(name, sh, args: ['-c', script], protocol: 'tap', suite: ['x', 'y'], timeout: 1)
endforeach
test('slow', sh, args: ['-c', 'exit 0'], suite: ['x', 'long'])
test('slower', sh, args: ['-c', 'exit 0'], suite: 'long')
test('plain good', sh, args: ['-c', 'exit 0'])
test('plain fail', sh, args: ['-c', 'exit 1'])
test('plain skip', sh, args: ['-c', 'exit 77'])
test('plain hang', sh, args: ['-c', 'sleep 9'], timeout: 1)
'''
EXPECTED = ['skipped: one skipped: b: c (no kernel)', 'skipped: all skipped (no captures)',
            'FAILED: crash (ended with ERROR)', 'FAILED: hang (ended with TIMEOUT)',
            'FAILED: not xml: z', '# ?[1m?', 'FAILED: says why: b', '# why',
            'FAILED: plain fail', 'skipped: plain skip',
            'FAILED: plain hang (ended with TIMEOUT)', 'left to scripts/test --full: slow, slower']


def run(*command, **environment):
    return subprocess.run(command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, text=True,
                          stderr=subprocess.STDOUT, env={**os.environ, **environment}, check=False)


def main():
    results = []
    with tempfile.TemporaryDirectory() as root:
        build, allowed = os.path.join(root, 'build'), os.path.join(root, 'allowed')
        with open(os.path.join(root, 'meson.build'), 'w', encoding='utf-8') as file:
            file.write(PROJECT)
        with open(allowed, 'w', encoding='utf-8') as file:
            file.write('# a comment\none skipped: b: c = no such kernel\nplain skip =\n')

        def summary(ci, status):
            done = run(sys.executable, SUMMARY, os.path.join(build, 'meson-logs'), allowed,
                       str(status), CI=ci)
            lines = done.stdout.splitlines()
            return done.returncode, lines[-1], set(lines[:-1])

        run('meson', 'setup', build, root)
        status = run('meson', 'test', '-C', build, '--no-suite', 'long').returncode
        results.append(('every kind of result', summary('', status),
                        (1, '8 passed, 6 failed, 3 skipped', set(EXPECTED))))
        ci = summary('true', status)
        results.append(('in CI a skip without a reason fails', ci[:2],
                        (1, '8 passed, 8 failed, 1 skipped')))
        status = run('meson', 'test', '-C', build, 'good', 'one skipped', 'plain good').returncode
        results.append(('nothing failed', summary('true', status)[:2],
                        (0, '4 passed, 0 failed, 1 skipped')))
        results.append(('meson itself failed', summary('', 1)[:2],
                        (1, '4 passed, 1 failed, 1 skipped')))
        status = run('meson', 'test', '-C', build, 'slower', 'plain good').returncode
        results.append(('what ran is not left', summary('', status),
                        (0, '2 passed, 0 failed, 0 skipped',
                         {'left to scripts/test --full: slow'})))
        run('meson', 'test', '-C', build, 'good', 'all skipped', 'one skipped', 'counted',
            'plain good')
        suites = run(sys.executable, SUMMARY, '--suites', os.path.join(build, 'meson-logs')).stdout
        results.append(('programs, cases and what they count by suite',
                        suites.splitlines()[2:],
                        ['|  | 1 | 1 |  |', '| x+y | 4 | 4 | 1234 inputs |',
                         '| together | 5 | 5 | 1234 inputs |']))
        os.unlink(os.path.join(build, 'meson-logs', 'testlog.json'))
        results.append(('no log', summary('', 0)[:2], (1, '0 passed, 1 failed, 0 skipped')))
    print('1..%d' % len(results))
    for number, (title, seen, expected) in enumerate(results, 1):
        print('%s %d - %s' % ('ok' if seen == expected else 'not ok', number, title))
        if seen != expected:
            print('# expected %s\n# seen     %s' % (expected, seen))
    return any(seen != expected for _, seen, expected in results)


sys.exit(main())
