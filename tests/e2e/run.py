#!/usr/bin/python3
# SPDX-License-Identifier: Apache-2.0
"""scripts/run, the first of the README's two commands: shows flows as readable lines, exports what
is open at its end, leaves nothing behind. Here in a namespace, with the build that is there."""
import os
import signal

from lib import tap
from lib.daemon import BUILD, FLOWMOND, attached
from lib.net import Lab, couple, wait_until
from lib.packets import Account
from lib.tap import case, check, equal
from lib.traffic import ping

ROOT = os.path.realpath(os.path.join(os.path.dirname(__file__), '..', '..'))


def ends_by(number):
    with Lab('run') as lab:
        a, m = lab.ns('a'), lab.ns('m')
        couple(lab, a, 'a0', m, 'm0', 1)
        before = set(os.listdir('/run'))
        run = m.start(os.path.join(ROOT, 'scripts', 'run'), log='run',
                      env=dict(os.environ, FLOWMOND_BUILD=BUILD))
        wait_until(lambda: 'flowmond: ready' in run.log(), 60, 'flowmond to be ready')
        check('says how to point it at a collector', '[collector main]' in run.log(), run.log())
        equal('programs', attached(m, 'm0')[0], 2)
        ping(Account(), a, '10.1.0.1', '10.1.0.2', 3)
        ping(Account(), a, 'fd00:1::1', 'fd00:1::2', 4)
        equal('status', run.stop(number), 0)
        rows = [line.split() for line in run.log().splitlines() if ' icmp' in line]
        seen = {(row[3], row[4]): (row[5], row[6]) for row in rows}
        equal('flows shown', seen, {('10.1.0.1', '10.1.0.2'): ('3', '252'),
                                    ('10.1.0.2', '10.1.0.1'): ('3', '252'),
                                    ('fd00:1::1', 'fd00:1::2'): ('4', '416'),
                                    ('fd00:1::2', 'fd00:1::1'): ('4', '416')})
        equal('left on the interface', attached(m, 'm0'), (0, []))
        equal('left in /run', set(os.listdir('/run')) - before, set())


for end in (signal.SIGINT, signal.SIGTERM):
    tap.add_case('shows flows, ends by %s with 0, leaves nothing' % end.name, ends_by, end)


@case('a collector configuration is taken')
def with_config():
    with Lab('runconf') as lab:
        a, m = lab.ns('a'), lab.ns('m')
        couple(lab, a, 'a0', m, 'm0', 1)
        path = lab.path('my.conf')
        with open(path, 'w', encoding='ascii') as file:
            file.write('[collector main]\naddress = 127.0.0.1:9\n[control]\nsocket =\n')
        run = m.start(os.path.join(ROOT, 'scripts', 'run'), '--config', path, log='run',
                      env=dict(os.environ, FLOWMOND_BUILD=BUILD))
        wait_until(lambda: 'flowmond: ready' in run.log(), 60, 'flowmond to be ready')
        check('collector', 'collector main' in run.log(), run.log())
        equal('status', run.stop(), 0)


if __name__ == '__main__':
    tap.require_root()
    check('flowmond is built', os.path.exists(FLOWMOND))
    tap.main()
