# SPDX-License-Identifier: Apache-2.0
"""A real systemd for the tests of this folder: a container over an overlay of this host's root, into
which `meson install` put flowmond."""
import contextlib
import os
import subprocess
import sys

sys.path.insert(0, os.path.join(os.path.dirname(os.path.realpath(__file__)), '..', 'e2e'))

from lib import tap  # noqa: E402
from lib.daemon import BUILD  # noqa: E402
from lib.net import PATIENCE, Lab, Namespace, wait_until  # noqa: E402
from lib.tap import Failure, Skip, case, check  # noqa: E402

UNIT = 'flowmond.service'


class Container:
    """A booted systemd; run() runs a command inside."""

    def __init__(self, lab):
        self.lab = lab
        self.root = lab.path('root')
        upper = lab.path('upper')
        os.mkdir(self.root)
        os.mkdir(upper)
        lab.closing.append(lambda: subprocess.run(['umount', '-l', upper], check=False))
        subprocess.run(['mount', '-t', 'tmpfs', '-o', 'size=512m,mode=755', 'tmpfs', upper],
                       check=True)
        for name in ('up', 'work'):
            os.mkdir(os.path.join(upper, name))
        lab.closing.append(lambda: subprocess.run(['umount', '-l', self.root], check=False))
        subprocess.run(['mount', '-t', 'overlay', 'overlay', '-o', 'lowerdir=/,upperdir=%s/up,'
                        'workdir=%s/work' % (upper, upper), self.root], check=True)
        self.install()

    def install(self):
        done = subprocess.run(['meson', 'install', '-C', BUILD, '--no-rebuild', '--destdir',
                               self.root], stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
                              text=True, check=False)
        check('meson install', done.returncode == 0, done.stdout[-2000:])

    def write(self, path, text):
        path = self.root + path
        os.makedirs(os.path.dirname(path), exist_ok=True)
        with open(path, 'w', encoding='utf-8') as file:
            file.write(text)

    def boot(self):
        # basic.target: no service of this host's is started.
        self.process = self.lab.start([
            'systemd-nspawn', '-q', '-M', self.lab.prefix[:40], '-D', self.root, '--boot',
            '--private-network', '--capability=all', '--system-call-filter=bpf perf_event_open',
            '--register=no', '--keep-unit', '--console=pipe', 'systemd.unit=basic.target'],
            'nspawn')
        self.pid = wait_until(self._first, 20, 'the container to start')
        self.lab.closing.append(self.halt)
        wait_until(lambda: self.run('systemctl', 'is-system-running', ok=False).strip() in (
            'running', 'degraded'), 60, 'the container to boot')
        # By this name ip(8) finds it.
        namespace = Namespace(self.lab, str(self.pid))
        namespace.path = '/proc/%d/ns/net' % self.pid
        return namespace

    def _first(self):
        if not self.process.running():
            raise RuntimeError('systemd-nspawn ended:\n' + self.process.log())
        with open('/proc/%d/task/%d/children' % (self.process.pid, self.process.pid),
                  encoding='ascii') as file:
            children = file.read().split()
        # One child after the other until the one that has become systemd.
        for child in children:
            with contextlib.suppress(OSError), open('/proc/%s/comm' % child,
                                                    encoding='ascii') as file:
                if file.read().strip() == 'systemd':
                    return int(child)
        return None

    def run(self, *command, ok=True, seconds=40):
        done = subprocess.run(['nsenter', '-t', str(self.pid), '-m', '-u', '-i', '-n', '-p', '-C',
                               '--root', '--wd=/', '--', *command], stdin=subprocess.DEVNULL,
                              stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
                              timeout=PATIENCE * seconds, check=False)
        if ok and done.returncode:
            raise RuntimeError('%s: status %d\n%s\n%s' % (
                ' '.join(command), done.returncode, done.stdout,
                self.run('journalctl', '-u', UNIT, '-n', '40', '--no-pager', ok=False)
                if command[0] == 'systemctl' else ''))
        return done.stdout

    def show(self, *properties):
        text = self.run('systemctl', 'show', UNIT, '-p', ','.join(properties))
        return dict(line.split('=', 1) for line in text.splitlines())

    def halt(self):
        if self.process.running():
            self.run('systemctl', 'poweroff', '--force', '--force', ok=False)
            self.process.wait(20)


def possible():
    for tool in ('systemd-nspawn', 'meson'):
        if subprocess.run(['sh', '-c', 'command -v ' + tool], stdout=subprocess.DEVNULL,
                          check=False).returncode:
            raise Skip(tool + ' is not installed')


def steps(begun):
    """Like @case, of what makes sense only after a first step: once begun() is true."""
    def step(title):
        def register(function):
            def run():
                if not begun():
                    raise Failure('the first step failed')
                function()
            case(title)(run)
            return function
        return register
    return step


def main(name, life):
    """Runs the cases of a file in one lab, which life.lab is."""
    tap.require_root()
    try:
        possible()
    except Skip as why:
        print('1..0 # SKIP %s' % why)
        return
    with Lab(name) as lab:
        life.lab = lab
        tap.main()
