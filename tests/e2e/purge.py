#!/usr/bin/python3
# SPDX-License-Identifier: Apache-2.0
"""flowmond --purge: takes off what a killed daemon left, says what, and leaves what is not ours."""
import contextlib
import os
import signal
import subprocess

from lib import bpfsys, tap
from lib.daemon import FLOWMOND, Flowmond, attached
from lib.lives import bpffs, leftovers
from lib.net import PATIENCE, Lab, couple
from lib.tap import case, check, equal


def purge(daemon):
    done = subprocess.run(daemon.namespace.command(FLOWMOND, '--config', daemon.config_path,
                                                   '--purge'), stdout=subprocess.PIPE,
                          stderr=subprocess.STDOUT, text=True, timeout=30 * PATIENCE, check=False)
    return done.returncode, done.stdout


def stage(lab, attach, pinned=True):
    a, m = lab.ns('a'), lab.ns('m')
    couple(lab, a, 'a0', m, 'm0', 1)
    pin = os.path.join(bpffs(lab), 'flowmond') if pinned else ''
    return m, pin, Flowmond(m, {'capture': {'interfaces': 'm0', 'attach': attach},
                                'bpf': {'pin': pin}})


def ids(daemon):
    """Ids of the maps, programs and links that the process has."""
    folder = '/proc/%d/fdinfo' % daemon.process.pid
    text = ''
    for name in os.listdir(folder):
        with contextlib.suppress(FileNotFoundError):  # it was closed meanwhile
            with open(os.path.join(folder, name), encoding='ascii') as file:
                text += file.read()
    return bpfsys.objects(text)


def after_kill(attach, pinned):
    with Lab('purge') as lab:
        m, pin, daemon = stage(lab, attach, pinned)
        ours = ids(daemon)
        check('objects', {kind for kind, _ in ours} >= {'map', 'prog'}, ours)
        daemon.stop(signal.SIGKILL, -signal.SIGKILL)
        if pinned or attach == 'clsact':
            equal('programs before', attached(m, 'm0')[0], 2)
        status, said = purge(daemon)
        equal('status', (status, said if status else ''), (0, ''))
        check('says what it removed', said.strip(), said)
        equal('left on m0', attached(m, 'm0'), (0, []))
        equal('left pinned', leftovers(pin) if pinned else [], [])
        bpfsys.wait_freed(ours)
        again, words = purge(daemon)
        equal('a second time', again, 0)
        check('says that there was nothing', words.strip() and words != said, words)


for way in ('auto', 'clsact'):
    tap.add_case('a killed daemon\'s pins and programs, attach = %s' % way, after_kill, way, True)
tap.add_case('a killed daemon\'s filters without pins', after_kill, 'clsact', False)


@case('refuses while a daemon is running, which counts on')
def running():
    for pinned in (True, False):
        with Lab('runs') as lab:
            m, pin, daemon = stage(lab, 'auto', pinned)
            before = attached(m, 'm0'), leftovers(pin) if pinned else []
            status, said = purge(daemon)
            check('status', status > 0, status)
            check('says why', 'running' in said, said)
            equal('as before', (attached(m, 'm0'), leftovers(pin) if pinned else []), before)
            daemon.stop()


@case('what is not ours stays: another one\'s qdisc, filter, program and pin')
def others():
    with Lab('theirs') as lab:
        m, pin, daemon = stage(lab, 'clsact')
        daemon.stop(signal.SIGKILL, -signal.SIGKILL)
        for hook in ('ingress', 'egress'):
            m.run('tc', 'filter', 'add', 'dev', 'm0', hook, 'protocol', 'all', 'prio', '7', 'u32',
                  'match', 'u32', '0', '0', 'flowid', '1:1')
        shown = m.run('tc', 'filter', 'show', 'dev', 'm0', 'ingress', 'prio', '7')
        beside = os.path.join(os.path.dirname(pin), 'theirs')
        one = bpfsys.create(bpfsys.HASH, 4, 4, 1)
        bpfsys.pin(one, beside)
        os.close(one)
        equal('status', purge(daemon)[0], 0)
        equal('programs of ours', attached(m, 'm0')[0], 0)
        equal('their filter', m.run('tc', 'filter', 'show', 'dev', 'm0', 'ingress', 'prio', '7'),
              shown)
        check('their pin', os.path.exists(beside))


if __name__ == '__main__':
    tap.require_root()
    tap.main()
