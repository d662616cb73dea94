#!/usr/bin/python3
# SPDX-License-Identifier: Apache-2.0
"""Killed and restarted under a real systemd and load: what collectors have is what was sent, to the
packet. The cases are steps of one life and run in this order; the load goes on from the first to the
last. FLOWMOND_TEST_TIMES: how often each."""
import json
import os
import random

from container import UNIT, Container, main, steps
from lib import bpfsys
from lib.daemon import attached, merge, settings_text
from lib.lives import BUSY, Collectors
from lib.load import Load, Network
from lib.net import wait_until
from lib.tap import case, check, equal, note

SEED = int(os.environ.get('FLOWMOND_TEST_SEED', '1'))
TIMES = int(os.environ.get('FLOWMOND_TEST_TIMES', '10'))
WATCHDOG_SECONDS = 5
# No limit of starts; a watchdog that would bite.
DROP_IN = '''[Unit]
StartLimitIntervalSec=0
[Service]
WatchdogSec=%ds
''' % WATCHDOG_SECONDS
JSON = '/var/log/flowmond/flows.json'


class Life:
    """What the steps share."""
    lab = container = network = collectors = load = programs = None
    random = random.Random(SEED)
    kills = 0
    objects, stored = set(), []


step = steps(lambda: Life.load is not None)


def status():
    return json.loads(Life.container.run('flowmonctl', 'status', '--json'))


def look():
    """Gathers what the process has of the kernel's objects, and of descriptors in the store."""
    shown = Life.container.show('MainPID', 'NFileDescriptorStore')
    Life.objects |= bpfsys.objects(Life.container.run(
        'sh', '-c', 'cat /proc/%s/fdinfo/*' % shown['MainPID'], ok=False))
    Life.stored.append(int(shown['NFileDescriptorStore']))


def settled():
    """Waits for the next process to be ready, and looks at it."""
    def active():
        shown = Life.container.show('ActiveState', 'SubState', 'NRestarts')
        return (shown['ActiveState'], shown['SubState'], shown['NRestarts']) == (
            'active', 'running', str(Life.kills))
    wait_until(active, 20, 'the next process')
    equal('resumed', status()['resumed'], True)
    equal('programs and qdiscs on r1', attached(Life.network.r, 'r1'), Life.programs)
    look()


def kill():
    Life.container.run('systemctl', 'kill', '-s', 'KILL', '--kill-who=main', UNIT)
    Life.kills += 1
    settled()


def restart():
    before = Life.container.show('MainPID')
    Life.container.run('systemctl', 'restart', UNIT)
    check('another process', Life.container.show('MainPID') != before)
    # A restart that was asked for sets the count of the others back.
    Life.kills = 0
    settled()


@case('started, under load of crafted flows and TCP connections')
def start():
    note('seed %d' % SEED)
    Life.container = Container(Life.lab)
    host = Life.container.boot()
    host.quiet()
    Life.container.run('systemd-sysusers')
    Life.container.write('/etc/systemd/system/%s.d/test.conf' % UNIT, DROP_IN)
    Life.container.run('systemctl', 'daemon-reload')
    Life.network = Network(Life.lab, host)
    Life.collectors = Collectors(host, JSON)
    Life.container.write('/etc/flowmond/flowmond.conf', settings_text(merge(
        BUSY, Life.collectors.settings)))
    Life.container.run('systemctl', 'start', UNIT)
    equal('resumed', status()['resumed'], False)
    Life.programs = attached(host, 'r1')
    equal('programs', Life.programs[0], 2)
    look()
    Life.load = Load(Life.network, SEED)


@step('systemctl kill -s KILL, systemctl restart, both at once: each %d times' % TIMES)
def ends():
    for ending in (kill,), (restart,), (kill, restart):
        for _ in range(TIMES):
            Life.load.more(Life.random.randrange(500, 5000))
            for end in ending:
                end()


@step('the store of descriptors does not grow')
def store():
    check('something is in it', Life.stored[0] > 0)
    equal('numbers seen', set(Life.stored), {Life.stored[0]})


@step('the watchdog was fed all the time')
def watchdog():
    log = Life.container.run('journalctl', '-u', UNIT, '--no-pager')
    check('it did not bite', 'Watchdog timeout' not in log)
    equal('watchdog', Life.container.show('WatchdogUSec')['WatchdogUSec'], '%ds' % WATCHDOG_SECONDS)


@step('systemctl stop: all that was sent is at each collector, nothing is left in the kernel')
def stop():
    truth, crafted = Life.load.stop()
    equal('packets that the network lost', Life.network.dropped(), 0)
    last = status()
    look()
    Life.container.run('systemctl', 'stop', UNIT)
    equal('state', Life.container.show('ActiveState', 'Result', 'NFileDescriptorStore'), {
        'ActiveState': 'inactive', 'Result': 'success', 'NFileDescriptorStore': '0'})
    equal('left on r1', attached(Life.network.r, 'r1'), (0, []))
    equal('kinds of objects seen', {kind for kind, _ in Life.objects}, {'map', 'prog', 'link'})
    bpfsys.wait_freed(Life.objects)
    note('%d packets, %d octets, %d flows; %d objects, %d in the store' % (
        truth.packets(), truth.octets(), len(truth.flows),
        len(Life.objects), Life.stored[0]))
    with open(Life.container.root + JSON, encoding='utf-8') as file:
        lines = [line for line in map(json.loads, file) if 'type' not in line]
    Life.collectors.compare(lines, truth, crafted, last)


main('restart', Life)
