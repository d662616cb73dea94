#!/usr/bin/python3
# SPDX-License-Identifier: Apache-2.0
"""The built tree on other kernels: virtual machines (vm.py) that boot the distribution's kernels run
tests that exist already. One case is one command there. What is skipped there fails here: those
kernels have every device that the tests ask for."""
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
BPF = ('fields', 'table', 'once', 'segments', 'options', 'fragments', 'tunnels', 'quic', 'nonlinear',
       'wire', 'tcp', 'tcp-open', 'tcp-cells', 'tcp-figures', 'attach', 'interfaces', 'random', 'stress')
# Tests, and which of the cases. Of tcp those that compare no times: an emulated processor is slow,
# and other things wait for it as well.
E2E_TESTS = (('once', ''), ('mix', ''), ('stop', ''), ('tunnels', ''), ('pcaps', ''),
             ('tcp', 'connection refused'), ('tcp', 'first SYN'))
# What a kernel may lack, and what is skipped for that.
LACKS = {'6.1': 'this kernel has no TCX'}


def of_programs():
    """(title, command, seconds it may take, several times what it needs) for a machine of two CPUs."""
    yield 'flowmond --check', [FLOWMOND, '--check'], 120
    for name in BPF:
        yield 'bpf-' + name, [os.path.join(BUILD, 'tests', 'bpf', 'test-bpf-' + name)], 600


def of_daemon():
    """The same for a machine of one CPU, which does the same work in half the time."""
    yield 'devices', ['sh', os.path.join(HERE, 'guest', 'devices')], 120
    for name, title in E2E_TESTS:
        if name == 'pcaps' and not os.path.isdir(PCAPS):
            continue  # captures are not part of the project
        yield (name + ': ' + title if title else name,
               [sys.executable, os.path.join(E2E, name + '.py'), *([title] if title else [])], 900)


def command_line(command, seconds):
    return 'FLOWMOND_BUILD=%s exec timeout -k 5 %d %s' % (
        shlex.quote(BUILD), seconds, shlex.join(command))


def boots(machines, number):
    """One machine at a time: each is as slow as the processors that are left for it."""
    machine = machines[number]
    machine.start()
    equal('kernel', machine.wait(), machine.kernel.release)
    note(machine.kernel.release)


def without_passes(output, lines=100):
    """The end of the output, without the tests in it that went well."""
    kept = [line for line in output.splitlines() if not re.match(r'ok\b(?!.*# SKIP)', line)]
    return '\n'.join(kept[-lines:])


def runs(machine, number, title, seconds):
    if not machine.up:
        raise Failure('the machine is not up')
    status, output, took = machine.result(number, seconds + 60)  # the guest's own limit comes first
    if status is None:
        raise Failure('it did not come to an end\n%s\n--- console\n%s' % (
            without_passes(output), machine.console()))
    note('%.1f s' % took)
    check('status %d' % status, status == 0, '\n' + without_passes(output))
    check('it has tests', title == 'flowmond --check' or re.search('^ok ', output, re.M), output)
    lacks = LACKS.get(machine.kernel.series)
    skipped = [line for line in re.findall(r'^(?:ok|1\.\.0).*# SKIP.*$', output, re.M | re.I)
               if not lacks or not line.endswith(lacks)]
    check('nothing is skipped', not skipped, '\n' + '\n'.join(skipped))
    if title == 'flowmond --check':
        tcx = re.search(r'^(yes|no) +tcx\b', output, re.M)
        equal('TCX', tcx and tcx.group(1), 'yes' if SERIES[machine.kernel.series] else 'no')


def main():
    tap.require_root()
    try:
        vm.possible()
        os.makedirs(CACHE, exist_ok=True)
        kernels = [vm.Kernel(series, CACHE) for series in SERIES]
    except vm.Unavailable as why:
        print('1..0 # SKIP %s' % str(why).replace('\n', ' '))
        return
    with Lab('kernels') as lab:
        machines = []
        for name, cpus, jobs in (('programs', 2, of_programs), ('daemon', 1, of_daemon)):
            for kernel in kernels:
                work = list(jobs())
                machine = vm.Machine(lab, kernel, '%s-%s' % (kernel.series, name),
                                     [command_line(*job[1:]) for job in work], cpus)
                add_case('%s: boots for %s' % (kernel.series, name), boots, machines,
                         len(machines))
                machines.append(machine)
                for number, (title, _, seconds) in enumerate(work):
                    add_case('%s: %s' % (kernel.series, title), runs, machine, number, title,
                             seconds)
        tap.main()


main()
