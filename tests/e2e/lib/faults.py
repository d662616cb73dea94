# SPDX-License-Identifier: Apache-2.0
"""System calls of a running daemon that fail as they are told to (strace)."""
import signal

from lib.net import wait_until


class Fault:
    """with Fault(daemon, 'write:error=ENOSPC'): the calls fail as strace is told, as long as it
    lasts. path: only calls on this file. count(): calls that failed so far."""
    number = 0

    def __init__(self, daemon, *injections, path=None):
        Fault.number += 1
        lab = daemon.namespace.lab
        self.output = lab.path('strace-%d' % Fault.number)
        names = ','.join(injection.split(':')[0] for injection in injections)
        command = ['strace', '-f', '-p', str(daemon.process.pid), '-o', self.output,
                   '-e', 'trace=' + names]
        for injection in injections:
            command += ['-e', 'inject=' + injection]
        if path:
            command += ['-P', path]
        self.process = lab.start(command, 'strace')

    def __enter__(self):
        wait_until(lambda: 'attached' in self.process.log(), 10, 'strace')
        return self

    def __exit__(self, *error):
        self.process.stop(signal.SIGINT)

    def count(self):
        with open(self.output, encoding='utf-8', errors='replace') as file:
            return file.read().count('(INJECTED)')

    def wait(self, times):
        wait_until(lambda: self.count() >= times, 20, '%d failed calls' % times)
