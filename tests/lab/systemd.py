#!/usr/bin/python3
# SPDX-License-Identifier: Apache-2.0
"""flowmond as installed, under a real systemd: a container over an overlay of this host's root, into
which `meson install` put it. The cases are steps of one life and run in this order."""
import json
import os
import re
import shutil
import threading
import time

from container import UNIT, Container, main, steps
from lib.collect import Nfcapd, account
from lib.daemon import attached, settings_text
from lib.net import address, mac, neighbour, wait_until
from lib.packets import Account
from lib.peers import NAME, Server, certificates
from lib.tap import case, check, equal, note
from lib.traffic import ping

HERE = os.path.dirname(os.path.realpath(__file__))
# The worst figure of systemd-analyze security that the unit may have.
EXPOSURE = 1.7


class Life:
    """What the steps share."""
    lab = container = host = far = collector = None
    sent = Account()


def settings(**flows):
    return settings_text({
        'flows': dict({'idle_timeout': '1h', 'max': '8192', 'sweep_interval': '100ms'}, **flows),
        'collector main': {'address': '127.0.0.1:9995'}})


step = steps(lambda: Life.host is not None)


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


def goes_on(what, deed):
    """Packets pass all the while that one process takes over from another."""
    before = Life.container.show('MainPID')
    thread = threading.Thread(target=ping, args=(Life.sent, Life.far, '10.1.0.1', '10.1.0.2', 150))
    thread.start()
    deed()
    wait_until(lambda: Life.container.show('ActiveState')['ActiveState'] == 'active' and
               Life.container.show('MainPID') != before, 10, what)
    thread.join()
    equal('another process went on after ' + what, json.loads(Life.container.run(
        'flowmonctl', 'status', '--json'))['resumed'], True)
    equal('programs after ' + what, attached(Life.host, 'm0')[0], 2)


@step('restart and kill -9 while packets pass: the next process goes on with the tables')
def survives():
    kept = None
    for _ in range(3):
        goes_on('restart', lambda: Life.container.run('systemctl', 'restart', UNIT))
        goes_on('kill', lambda: Life.container.run(
            'systemctl', 'kill', '--kill-who=main', '-s', 'KILL', UNIT))
        stored = Life.container.show('NFileDescriptorStore')['NFileDescriptorStore']
        equal('descriptors in the store', stored, kept or stored)
        kept = stored


@step('stop exports what is open and leaves nothing attached')
def stop():
    ping(Life.sent, Life.far, '10.1.0.1', '10.1.0.2', 4, 3000)
    Life.container.run('systemctl', 'stop', UNIT)
    shown = Life.container.show('ActiveState', 'Result', 'ExecMainStatus')
    equal('state', shown, {'ActiveState': 'inactive', 'Result': 'success', 'ExecMainStatus': '0'})
    equal('left on the interface', attached(Life.host, 'm0'), (0, []))
    equal('all flows', account(Life.collector.stop()).flows, Life.sent.flows)


def drop_in(key):
    """Puts the drop-in with that key beside the unit that docs/operation.md tells; '': takes it away."""
    path = '/etc/systemd/system/%s.d/told.conf' % UNIT
    if key:
        with open(os.path.join(HERE, '..', '..', 'docs', 'operation.md'), encoding='utf-8') as file:
            told = re.findall(r'```ini\n(\[Service\]\n.*?)```', file.read(), re.S)
        Life.container.write(path, next(text for text in told if '\n%s=' % key in text))
    else:
        os.unlink(Life.container.root + path)
    Life.container.run('systemctl', 'daemon-reload')


@step('interfaces of another namespace, with the drop-in that docs/operation.md tells')
def other_namespace():
    Life.container.run('ip', 'netns', 'add', 'guest')
    Life.container.run('ip', '-n', 'guest', 'link', 'add', 'g0', 'type', 'veth', 'peer', 'name', 'g1')
    Life.container.write('/etc/flowmond/flowmond.conf',
                         settings() + '[capture]\ninterfaces = m0, g0@guest\n')
    Life.container.run('systemctl', 'start', UNIT)
    equal('without it', json.loads(Life.container.run('flowmonctl', 'status', '--json'))[
        'interfaces'], 1)
    drop_in('RestrictNamespaces')
    Life.container.run('systemctl', 'restart', UNIT)
    equal('with it', json.loads(Life.container.run('flowmonctl', 'status', '--json'))[
        'interfaces'], 2)
    Life.container.run('systemctl', 'stop', UNIT)
    drop_in('')


@step('TLS with its key as a credential, with the drop-in that docs/operation.md tells')
def credentials():
    pki, home, sent = certificates(Life.lab), Life.container.root + '/etc/flowmond/', Account()
    for name, made in (('exporter.pem', 'client.pem'), ('exporter.key', 'client.key'),
                       ('ca.pem', 'ca.pem')):
        shutil.copy(os.path.join(pki, made), home + name)
        # Nobody but root.
        os.chmod(home + name, 0o644 if name == 'ca.pem' else 0o600)
    server = Server(Life.host, pki)
    Life.container.write('/etc/flowmond/flowmond.conf', settings_text({'collector main': {
        'address': server.address(), 'transport': 'tls', 'peer_name': NAME,
        'certificate_file': 'exporter.pem', 'key_file': 'exporter.key',
        'ca_file': '/etc/flowmond/ca.pem'}}))
    drop_in('LoadCredential')
    Life.container.run('systemctl', 'start', UNIT)
    wait_until(lambda: server.octets() > 0, 20, 'templates')
    ping(sent, Life.far, '10.1.0.1', '10.1.0.2', 20)
    Life.container.run('systemctl', 'stop', UNIT)
    server.process.wait(10)
    equal('at the server', account(server.records()).flows, sent.flows)
    drop_in('')
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


main('systemd', Life)
