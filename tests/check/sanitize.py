#!/usr/bin/python3
# SPDX-License-Identifier: Apache-2.0
"""The project built by clang with AddressSanitizer, LeakSanitizer and UndefinedBehaviorSanitizer, and
tests in that build, as TAP.

sanitize.py          unit tests, and the daemon through a reload, an error and its end
sanitize.py --long   unit tests and all end-to-end tests that are not long themselves
sanitize.py --build  nothing but the build; prints where it is

A test passes if it says so and no sanitizer has said anything, in whatever process it started. The
build lies in the build tree (FLOWMOND_BUILD) under "sanitized"; tests/fuzz/run uses it as well.
"""
import fcntl
import glob
import json
import os
import re
import shutil
import subprocess
import sys
import tempfile

ROOT = os.path.realpath(os.path.join(os.path.dirname(__file__), '..', '..'))

SANITIZERS = 'address,undefined'
SETUP = ['-Db_sanitize=' + SANITIZERS, '-Db_lundef=false', '-Doptimization=1', '-Ddebug=true',
         # What clang warns of is not the matter here.
         '-Dwerror=false',
         '-Dc_args=-fsanitize=fuzzer-no-link -fno-sanitize-recover=all -fno-omit-frame-pointer']

# For every program of the build; memory that cannot be had is for the program to handle.
OPTIONS = {
    'ASAN_OPTIONS': 'detect_leaks=1:allocator_may_return_null=1:detect_stack_use_after_return=1',
    'UBSAN_OPTIONS': 'print_stacktrace=1',
}

# The daemon goes through these in every run of the suite: name, cases whose names have the word.
BRIEFLY = [('reload', ''), ('badstart', ''), ('control', '')]
# Builds by itself, as scripts/run does.
NOT_HERE = {'run'}


def folder():
    """Where the build, reports and what fuzzers learned lie."""
    path = os.path.join(os.environ.get('FLOWMOND_BUILD') or os.path.join(ROOT, 'build'),
                        'sanitized')
    os.makedirs(path, exist_ok=True)
    return os.path.realpath(path)


def why_not():
    """None where clang has the sanitizers and libFuzzer, else what is missing."""
    if not shutil.which('clang'):
        return 'no clang'
    with tempfile.TemporaryDirectory(prefix='sanitize-') as scratch:
        source = os.path.join(scratch, 'try.c')
        with open(source, 'w', encoding='utf-8') as file:
            file.write('int LLVMFuzzerTestOneInput(void *d, long n) { return 0; }\n')
        tried = subprocess.run(['clang', '-fsanitize=fuzzer,' + SANITIZERS, source, '-o',
                                os.path.join(scratch, 'try')], capture_output=True, check=False)
    return None if tried.returncode == 0 else 'no sanitizers of clang (libclang-rt-*-dev)'


def run_quietly(command, **options):
    done = subprocess.run(command, text=True, stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
                          check=False, **options)
    if done.returncode:
        print(re.sub('^', '# ', done.stdout[-8000:], flags=re.M))
        raise SystemExit('sanitize: failed: ' + ' '.join(command))
    return done.stdout


def targets(path):
    """All but what stands for the kernel's view: those tests have programs, not memory, to fail."""
    listed = json.loads(run_quietly(['meson', 'introspect', '--targets', path]))
    names = [os.path.relpath(target['filename'][0], path) for target in listed
             if target['type'] in ('executable', 'shared library')]
    return [name for name in names if not name.startswith(('tests/bpf/', 'bench/'))]


def build():
    """Configures and compiles, where others leave time; one process at a time."""
    path = os.path.join(folder(), 'build')
    with open(os.path.join(folder(), 'lock'), 'w', encoding='utf-8') as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not os.path.exists(os.path.join(path, 'build.ninja')):
            run_quietly(['meson', 'setup', path, ROOT, *SETUP], env=dict(os.environ, CC='clang'))
        run_quietly(['nice', 'ninja', '-C', path, *targets(path)])
    return path


class Run:
    """Tests, one after the other, and what sanitizers said meanwhile."""

    def __init__(self):
        self.build = build()
        self.number = self.failed = 0
        self.reports = tempfile.mkdtemp(prefix='sanitize-')
        # Also of processes that gave up their privileges.
        os.chmod(self.reports, 0o1777)
        log = ':log_path=%s/report' % self.reports
        # Everything takes some times as long here.
        self.environment = dict(os.environ, FLOWMOND_BUILD=self.build, FLOWMOND_TEST_PATIENCE='5',
                                **{name: value + log for name, value in OPTIONS.items()})

    def take_reports(self):
        text = ''
        for name in sorted(glob.glob(os.path.join(self.reports, 'report*'))):
            with open(name, encoding='utf-8', errors='replace') as file:
                text += file.read()
            os.unlink(name)
        return text

    def test(self, name, command, extra=None):
        done = subprocess.run(command, text=True, env=dict(self.environment, **(extra or {})),
                              cwd=self.build, stdout=subprocess.PIPE,
                              stderr=subprocess.STDOUT, check=False, errors='replace')
        reports = self.take_reports()
        bad = [line for line in done.stdout.split('\n') if line.startswith('not ok')]
        passed = done.returncode == 0 and not bad and not reports
        self.number += 1
        self.failed += not passed
        if not passed:
            said = [line for line in done.stdout.split('\n') if not line.startswith('ok ')]
            text = '\n'.join(said)[-6000:] + '\n' + reports[:12000]
            print(re.sub('^', '# ', text, flags=re.M))
        skip = re.match(r'1\.\.0 # SKIP (.*)', done.stdout)
        print('%s %d - %s%s' % ('ok' if passed else 'not ok', self.number, name,
                                ' # SKIP ' + skip.group(1) if passed and skip else ''), flush=True)

    def suite(self, suite, but=()):
        """The build's own tests of a suite, by meson's list."""
        listed = json.loads(run_quietly(['meson', 'introspect', '--tests', self.build]))
        for test in listed:
            names = {name.split(':')[-1] for name in test['suite']}
            if suite in names and not names & set(but) and test['name'] not in NOT_HERE:
                self.test('%s: %s' % (suite, test['name']), test['cmd'], test['env'])

    def end_to_end(self, name, cases):
        script = os.path.join(ROOT, 'tests', 'e2e', name + '.py')
        self.test('e2e: ' + name, [sys.executable, script, *([cases] if cases else [])])

    def done(self):
        shutil.rmtree(self.reports)
        print('1..%d' % self.number)
        return 1 if self.failed else 0


def main(arguments):
    why = why_not()
    if arguments == ['--build']:
        if why:
            print('sanitize: ' + why)
            return 77
        print(build())
        return 0
    if why:
        print('1..0 # SKIP ' + why)
        return 0
    run = Run()
    run.suite('unit')
    if arguments == ['--long']:
        run.suite('ipfix')
        run.suite('e2e', but=['long'])
    else:
        for name, cases in BRIEFLY:
            run.end_to_end(name, cases)
    return run.done()


if __name__ == '__main__':
    sys.exit(main(sys.argv[1:]))
