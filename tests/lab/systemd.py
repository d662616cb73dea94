#!/usr/bin/python3
# SPDX-License-Identifier: Apache-2.0
"""flowmond as installed, under a real systemd: a container over an overlay of this host's root, into
which `meson install` put it. The cases are steps of one life and run in this order."""
import contextlib
import json
import os
import re
import subprocess
import sys
import time

HERE = os.path.dirname(os.path.realpath(__file__))
sys.path.insert(0, os.path.join(HERE, '..', 'e2e'))

from lib import tap  # noqa: E402
from lib.collect import Nfcapd, account  # noqa: E402
from lib.daemon import BUILD, attached, settings_text  # noqa: E402
from lib.net import Lab, Namespace, address, mac, neighbour, wait_until  # noqa: E402
from lib.packets import Account  # noqa: E402
from lib.tap import Failure, Skip, case, check, equal, note  # noqa: E402
from lib.traffic import ping  # noqa: E402

UNIT = 'flowmond.service'
# The worst figure of systemd-analyze security that the unit may have.
EXPOSURE = 1.7


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
        namespace = Namespace(self.lab, 'systemd')
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
                              timeout=seconds, check=False)
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


class Life:
    """What the steps share."""
    lab = container = host = far = collector = None
    sent = Account()


def settings(**flows):
    return settings_text({
        'flows': dict({'idle_timeout': '1h', 'max': '8192', 'sweep_interval': '100ms'}, **flows),
        'collector main': {'address': '127.0.0.1:9995'}})


def step(title):
    """A case that makes sense only once the container has booted."""
    def register(function):
        def run():
            if Life.host is None:
                raise Failure('the container did not boot')
            function()
        case(title)(run)
        return function
    return register


@case('meson install into a tree of which systemd boots')
def boot():
    Life.container = Container(Life.lab)
    Life.host = Life.container.boot()
    Life.host.quiet()
    Life.container.run('systemd-sysusers')
    Life.container.run('systemctl', 'daemon-reload')


@step('everything is in its place; the unit and the shipped configuration have no fault')
def installed():
    said = Life.container.run('systemd-analyze', 'verify', '--man=no',
                             '/usr/lib/systemd/system/' + UNIT)
    equal('systemd-analyze verify', [line for line in said.splitlines() if 'flowmond' in line], [])
    missing = [path for path in (
        '/usr/sbin/flowmond', '/usr/bin/flowmonctl', '/etc/flowmond/flowmond.conf',
        '/usr/lib/systemd/system/' + UNIT, '/usr/lib/sysusers.d/flowmond.conf',
        '/usr/share/man/man8/flowmond.8', '/usr/share/man/man5/flowmond.conf.5',
        '/usr/share/man/man8/flowmonctl.8') if not os.path.exists(Life.container.root + path)]
    equal('missing', missing, [])
    Life.container.run('flowmond', '--check-config')


@step('systemctl start: active, as its own user, with a status text')
def start():
    Life.container.write('/etc/flowmond/flowmond.conf', settings())
    far = Life.far = Life.lab.ns('far')
    far.ip('link add f0 address %s type veth peer name m0 address %s' % (mac('f0'), mac('m0')))
    for namespace, name, own, other in ((far, 'f0', 1, 'm0'), (Life.host, 'm0', 2, 'f0')):
        if namespace is Life.host:
            far.ip('link set m0 netns %d' % Life.container.pid)
        namespace.ip('link set %s up' % name)
        address(namespace, name, '10.1.0.%d/24' % own, 'fd00:1::%d/64' % own)
        neighbour(namespace, name, mac(other), '10.1.0.%d' % (3 - own), 'fd00:1::%d' % (3 - own))
    Life.collector = Nfcapd(Life.host, rotate=2)
    Life.container.run('systemctl', 'start', UNIT)
    shown = Life.container.show('ActiveState', 'SubState', 'MainPID', 'StatusText', 'NRestarts')
    equal('state', (shown['ActiveState'], shown['SubState'], shown['NRestarts']),
          ('active', 'running', '0'))
    wait_until(lambda: 'packets seen' in Life.container.show('StatusText')['StatusText'], 10,
               'the status text')
    status = Life.container.run('cat', '/proc/%s/status' % shown['MainPID'])
    user = Life.container.run('id', '-u', 'flowmond').strip()
    equal('user', re.search(r'^Uid:\s+(\d+)\s+(\d+)', status, re.M).groups(), (user, user))
    check('not root', user != '0')
    allowed = int(re.search(r'^CapBnd:\s+(\w+)', status, re.M).group(1), 16)
    equal('capabilities that it could ever have', sorted(
        number for number in range(64) if allowed >> number & 1), [12, 38, 39])
    check('programs are attached', attached(Life.host, 'm0')[0] == 2)


@step('flowmonctl asks it')
def control():
    answer = json.loads(Life.container.run('flowmonctl', 'status', '--json'))
    check('interfaces', answer['interfaces'] >= 1, answer)
    check('text', 'flowmond' in Life.container.run('flowmonctl', 'status'))


@step('systemctl reload: same process, new settings, nothing lost')
def reload():
    ping(Life.sent, Life.far, '10.1.0.1', '10.1.0.2', 5)
    before = Life.container.show('MainPID')
    Life.container.write('/etc/flowmond/flowmond.conf', settings(idle_timeout='500ms'))
    Life.container.run('systemctl', 'reload', UNIT)
    equal('state', Life.container.show('ActiveState')['ActiveState'], 'active')
    equal('process', Life.container.show('MainPID'), before)
    wait_until(lambda: len(Life.collector.records()) == 2, 10, 'the idle flows at the collector')


@step('it exports to nfcapd while it runs')
def exports():
    ping(Life.sent, Life.host, 'fd00:1::2', 'fd00:1::1', 5)
    wait_until(lambda: len(Life.collector.records()) == 4, 10, 'the idle flows at the collector')


@step('a wrong file on reload: stays active with the old settings, says why')
def bad_reload():
    Life.container.write('/etc/flowmond/flowmond.conf', '[flows]\nmax = none\n')
    Life.container.run('systemctl', 'reload', UNIT, ok=False)
    equal('state', Life.container.show('ActiveState')['ActiveState'], 'active')
    log = Life.container.run('journalctl', '-u', UNIT, '--no-pager')
    check('names the fault', 'flowmond.conf:2' in log, log[-2000:])
    Life.container.write('/etc/flowmond/flowmond.conf', settings())
    Life.container.run('systemctl', 'reload', UNIT)


@step('journal entries carry fields of their own')
def journal():
    entries = [json.loads(line) for line in Life.container.run(
        'journalctl', '-u', UNIT, '-o', 'json', '--no-pager').splitlines()]
    fields = {name for entry in entries for name in entry if name.startswith('FLOWMOND_')}
    check('FLOWMOND_ fields', fields, entries[-1] if entries else '')
    note('journal fields: ' + ' '.join(sorted(fields)))
    check('priorities are set', {entry.get('PRIORITY') for entry in entries} - {None})


@step('stop exports what is open and leaves nothing attached')
def stop():
    ping(Life.sent, Life.far, '10.1.0.1', '10.1.0.2', 4, 3000)
    Life.container.run('systemctl', 'stop', UNIT)
    shown = Life.container.show('ActiveState', 'Result', 'ExecMainStatus')
    equal('state', shown, {'ActiveState': 'inactive', 'Result': 'success', 'ExecMainStatus': '0'})
    equal('left on the interface', attached(Life.host, 'm0'), (0, []))
    equal('all flows', account(Life.collector.stop()).flows, Life.sent.flows)


@step('interfaces of another namespace, with the drop-in that docs/operation.md tells')
def other_namespace():
    with open(os.path.join(HERE, '..', '..', 'docs', 'operation.md'), encoding='utf-8') as file:
        drop_in = re.search(r'```ini\n(\[Service\]\n.*?)```', file.read(), re.S).group(1)
    Life.container.run('ip', 'netns', 'add', 'guest')
    Life.container.run('ip', '-n', 'guest', 'link', 'add', 'g0', 'type', 'veth', 'peer', 'name', 'g1')
    Life.container.write('/etc/flowmond/flowmond.conf',
                         settings() + '[capture]\ninterfaces = m0, g0@guest\n')
    Life.container.run('systemctl', 'start', UNIT)
    equal('without it', json.loads(Life.container.run('flowmonctl', 'status', '--json'))[
        'interfaces'], 1)
    Life.container.write('/etc/systemd/system/%s.d/guest.conf' % UNIT, drop_in)
    Life.container.run('systemctl', 'daemon-reload')
    Life.container.run('systemctl', 'restart', UNIT)
    equal('with it', json.loads(Life.container.run('flowmonctl', 'status', '--json'))[
        'interfaces'], 2)
    Life.container.run('systemctl', 'stop', UNIT)
    os.unlink(Life.container.root + '/etc/systemd/system/%s.d/guest.conf' % UNIT)
    Life.container.run('systemctl', 'daemon-reload')
    Life.container.write('/etc/flowmond/flowmond.conf', settings())


@step('the watchdog: fed while it runs, a hung daemon is restarted')
def watchdog():
    Life.container.run('sh', '-c', 'mkdir -p /run/systemd/system/%s.d; printf '
                       '"[Service]\\nWatchdogSec=1s\\nTimeoutAbortSec=1s\\n" > '
                       '/run/systemd/system/%s.d/watchdog.conf' % (UNIT, UNIT))
    Life.container.run('systemctl', 'daemon-reload')
    Life.container.run('systemctl', 'start', UNIT)
    time.sleep(3)
    shown = Life.container.show('ActiveState', 'NRestarts', 'MainPID')
    equal('after 3 s', (shown['ActiveState'], shown['NRestarts']), ('active', '0'))
    Life.container.run('sh', '-c', 'kill -STOP ' + shown['MainPID'])
    wait_until(lambda: Life.container.show('NRestarts')['NRestarts'] != '0', 10, 'the restart')
    wait_until(lambda: Life.container.show('ActiveState')['ActiveState'] == 'active', 10, 'active')
    Life.container.run('systemctl', 'stop', UNIT)
    equal('left on the interface', attached(Life.host, 'm0'), (0, []))


@step('systemd-analyze security')
def security():
    said = Life.container.run('systemd-analyze', 'security', '--no-pager', UNIT)
    found = re.search(r'exposure level for \S+: ([\d.]+)', said)
    check('figure', found, said[-300:])
    note('systemd-analyze security: ' + found.group(1))
    check('at most %s' % EXPOSURE, float(found.group(1)) <= EXPOSURE, said)


def possible():
    for tool in ('systemd-nspawn', 'meson'):
        if subprocess.run(['sh', '-c', 'command -v ' + tool], stdout=subprocess.DEVNULL,
                          check=False).returncode:
            raise Skip(tool + ' is not installed')


def main():
    tap.require_root()
    try:
        possible()
    except Skip as why:
        print('1..0 # SKIP %s' % why)
        return
    with Lab('systemd') as lab:
        Life.lab = lab
        tap.main()


main()
