# SPDX-License-Identifier: Apache-2.0
"""A daemon that is killed at a chosen instruction: in front of a function or system call, or so many
steps behind (tests/tools/kill-at.c)."""
import os
import platform
import re
import signal
import subprocess

from lib.daemon import BUILD
from lib.tap import Failure, equal

KILL_AT = os.path.join(BUILD, 'tests', 'tools', 'kill-at')
# System calls of x86-64 that hand something on or change the kernel's side.
CALLS = {'write': 1, 'sendmmsg': 307, 'bpf': 321, 'epoll_wait': 232}
# Waits to be let go by the tool before it becomes the daemon.
HELD = ('sh', '-c', 'kill -STOP $$; exec "$@"', 'sh')


def functions(binary, names):
    """{name: address in the file}; all of them are there."""
    text = subprocess.run(['nm', '--defined-only', binary], stdout=subprocess.PIPE, text=True,
                          check=True).stdout
    found = {name: int(address, 16) for address, name in re.findall(r'^([0-9a-f]+) [tT] (\w+)$', text,
                                                                    re.M)}
    equal('functions that are no more', set(names) - set(found), set())
    return {name: found[name] for name in names}


def kill_at(daemon, how, where, times, steps):
    """Kills the daemon at a function ("at") or system call ("before", "after"); whether it got there
    before the tool gave up (it is killed then, too)."""
    done = subprocess.run([KILL_AT, str(daemon.process.pid), how, hex(where), str(times),
                           str(steps)], stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
                          timeout=30, check=False)
    seen = daemon.process.wait(10)
    if seen != -signal.SIGKILL:
        raise Failure('killed at %s %#x: ended with %s\n%s\n%s' % (how, where, seen, done.stdout,
                                                                   daemon.log()[-3000:]))
    return done.returncode == 0


def is_held(pid):
    with open('/proc/%d/stat' % pid, encoding='ascii') as file:
        return file.read().rpartition(')')[2].split()[0] == 'T'


def impossible():
    return None if platform.machine() == 'x86_64' else 'x86-64 only'
