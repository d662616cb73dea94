#!/usr/bin/python3
# SPDX-License-Identifier: Apache-2.0
"""The built tree on other kernels: virtual machines (vm.py) that boot the distribution's kernels run
tests that exist already. One case is one command there. What is skipped there fails here: those
kernels have every device that the tests ask for.

kernels.py briefly: a few of them. kernels.py TEXT: those whose title has it."""
import collections
import os
import re
import shlex
import sys

HERE = os.path.dirname(os.path.realpath(__file__))
sys.path.insert(0, os.path.join(HERE, '..', 'e2e'))

from lib import tap  # noqa: E402
from lib.daemon import BUILD, FLOWMOND  # noqa: E402
from lib.net import Lab  # noqa: E402
from lib.tap import Failure, add_case, check, equal, note  # noqa: E402

import vm  # noqa: E402

# Of each series the newest that there is, and whether it has TCX.
SERIES = {'6.12': True, '6.1': False}
CACHE = os.environ.get('FLOWMOND_LAB_CACHE') or os.path.join(BUILD, 'lab-cache')
E2E = os.path.realpath(os.path.join(HERE, '..', 'e2e'))
PCAPS = os.path.join(E2E, '..', '..', '..', 'shared', 'pcaps')
BPF = ('coarse', 'fields', 'filter', 'table', 'once', 'segments', 'fragments', 'tunnels', 'quic',
       'nonlinear', 'gates', 'wire', 'tcp', 'tcp-open', 'tcp-cells', 'tcp-figures', 'attach',
       'interfaces', 'sweep', 'flood', 'survival', 'transactions', 'random', 'stress')
BRIEFLY = 'fields', 'once', 'attach'
# Tests, and which of the cases. Of tcp those that compare no times: an emulated processor is slow,
# and other things wait for it as well.
E2E_TESTS = (('once', ''), ('stop', ''), ('reload', ''), ('survive', 'killed at random moments'),
             ('survive', 'killed, clsact'), ('switching', ''), ('spool', 'TCP collector away'),
             ('spool', 'daemon ended by'), ('collectors', 'down at start'), ('collectors', 'comes'),
             ('devices', ''), ('purge', ''), ('hotplug', ''), ('mix', ''), ('full', ''),
             ('offload', ''), ('tcp', 'connection refused'), ('tcp', 'first SYN'), ('tunnels', ''),
             ('names', 'VRFs'), ('pcaps', ''), ('filter', 'each packet'),
             ('sampling', 'rates that'), ('coarse', 'prefixes and numbers'))
# What an emulated processor can do: all that is waited for may take so many times as long; so many
# packets a second; so often.
SETTINGS = {'FLOWMOND_TEST_PATIENCE': '10', 'FLOWMOND_TEST_RATE': '500',
            'FLOWMOND_TEST_TIMES': '2', 'FLOWMOND_BUILD': BUILD}
MODEL = '--sequences', '300', '--configs', '6'
# What a kernel may lack, and what is skipped for that.
LACKS = {'6.1': ('this kernel has no TCX', 'this kernel renames no interface that is up')}
OPTIONS = 'bpf-options-all'

Job = collections.namedtuple('Job', 'title command seconds')  # several times what it needs


def python(*path_and_arguments):
    return [sys.executable, os.path.join(HERE, '..', *path_and_arguments[:2]),
            *path_and_arguments[2:]]


def program(name, *arguments):
    return [os.path.join(BUILD, 'tests', 'bpf', 'test-bpf-' + name), *arguments]


def looks():
    return Job('flowmond --check', [FLOWMOND, '--check'], 300)


def of_programs():
    """For machines of two CPUs: packets of one flow on several."""
    yield looks()
    for name in BPF:
        yield Job('bpf-' + name, program(name), 1800)
    yield Job('model', python('model', 'run.py', *MODEL), 1800)
    yield Job(OPTIONS, program('options', '--all'), 3600)


def of_daemon():
    """For machines of one CPU, which do the same work in half the time."""
    yield Job('devices there are', ['sh', os.path.join(HERE, 'guest', 'devices')], 300)
    for name, title in E2E_TESTS:
        if name == 'pcaps' and not os.path.isdir(PCAPS):
            continue  # captures are not part of the project
        arguments = [title] if title else []
        yield Job(name + ': ' + title if title else name, python('e2e', name + '.py', *arguments),
                  2400)
    yield Job('systemd', python('lab', 'systemd.py'), 1200)


def of_both():
    yield looks()
    for name in BRIEFLY:
        yield Job('bpf-' + name, program(name), 600)


# What machines are for, how many CPUs they have, and what they run: all kernels at once, one errand
# after the other.
ERRANDS = (('programs', 2, of_programs), ('daemon', 1, of_daemon))
BRIEF = (('briefly', 1, of_both),)


class Report:
    """What a kernel has shown."""

    def __init__(self, release):
        self.release, self.commands, self.tests, self.limit = release, 0, 0, None
        self.combinations, self.largest = [0, 0], (0, '', 0)

    def options(self, output):
        """Takes in what bpf-options-all printed of what the verifier has looked at."""
        for loaded, wanted in re.findall(r'(\d+) of (\d+) combinations load', output):
            self.combinations[0] += int(loaded)
            self.combinations[1] += int(wanted)
        found = [(int(number), options, int(limit)) for options, number, limit in re.findall(
            r'^ok \d+ - (.*): (\d+) instructions verified, limit (\d+)', output, re.M)]
        self.largest = max(found, default=self.largest)


def command_line(job):
    settings = ' '.join('%s=%s' % (name, shlex.quote(value)) for name, value in SETTINGS.items())
    return '%s exec timeout -k 5 %d %s' % (settings, job.seconds, shlex.join(job.command))


def boots(machine, errand):
    for one in errand:
        if not one.process:
            one.start()
    equal('kernel', machine.wait(), machine.kernel.release)
    note(machine.kernel.release)


def without_passes(output, lines=100):
    """The end of the output, without the tests in it that went well."""
    kept = [line for line in output.splitlines() if not re.match(r'ok\b(?!.*# SKIP)', line)]
    return '\n'.join(kept[-lines:])


def runs(machine, report, number, job):
    if not machine.up:
        raise Failure('the machine is not up')
    # The guest's own limit comes first.
    status, output, took = machine.result(number, job.seconds + 60)
    if status is None:
        raise Failure('it did not come to an end\n%s\n--- console\n%s' % (
            without_passes(output), machine.console()))
    tests = len(re.findall('^ok ', output, re.M))
    note('%.1f s, %d tests' % (took, tests))
    check('status %d' % status, status == 0, '\n' + without_passes(output))
    check('it has tests', job.title == 'flowmond --check' or tests, output)
    lacks = LACKS.get(machine.kernel.series)
    skipped = [line for line in re.findall(r'^(?:ok|1\.\.0).*# SKIP.*$', output, re.M | re.I)
               if not lacks or not line.endswith(lacks)]
    check('nothing is skipped', not skipped, '\n' + '\n'.join(skipped))
    if job.title == 'flowmond --check':
        tcx = re.search(r'^(yes|no) +tcx\b', output, re.M)
        equal('TCX', tcx and tcx.group(1), 'yes' if SERIES[machine.kernel.series] else 'no')
    if job.title == OPTIONS:
        report.options(output)
    report.commands += 1
    report.tests += tests


def budget(report):
    """Every combination of options loads, and how near the costliest comes to its limit."""
    number, what, limit = report.largest
    note('%s: %d tests of %d commands; %d combinations of options; at most %d instructions '
         'verified (%s), limit %d' % (report.release, report.tests, report.commands,
                                      report.combinations[0], number, what, limit))
    equal('combinations that load', *report.combinations)
    check('verified, within the limit', 0 < number <= limit, (number, limit))


def plan(lab, kernels, brief, wanted):
    """Adds the cases; those whose title has what is wanted."""
    reports = {kernel: Report(kernel.release) for kernel in kernels}
    for name, cpus, jobs in BRIEF if brief else ERRANDS:
        machines = []
        for kernel in kernels:
            label = '%s %s: ' % (kernel.series, name)
            work = [job for job in jobs() if wanted in label + job.title]
            if not work:
                continue
            machine = vm.Machine(lab, kernel, '%s-%s' % (kernel.series, name),
                                 [command_line(job) for job in work], cpus)
            machines.append(machine)
            add_case(label + 'boots', boots, machine, machines)
            for number, job in enumerate(work):
                add_case(label + job.title, runs, machine, reports[kernel], number, job)
    for kernel in kernels:
        if not brief and wanted in OPTIONS:
            add_case('%s: the budget of the verifier' % kernel.series, budget, reports[kernel])


def main():
    tap.require_root()
    wanted = ' '.join(sys.argv[1:])
    del sys.argv[1:]
    try:
        vm.possible()
        os.makedirs(CACHE, exist_ok=True)
        kernels = [vm.Kernel(series, CACHE) for series in SERIES]
    except vm.Unavailable as why:
        print('1..0 # SKIP %s' % str(why).replace('\n', ' '))
        return
    brief = wanted == 'briefly'
    with Lab('kernels') as lab:
        plan(lab, kernels, brief, '' if brief else wanted)
        tap.main()


main()
