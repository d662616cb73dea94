#!/usr/bin/python3
# SPDX-License-Identifier: Apache-2.0
"""Nothing is lost over the ends of the daemon: killed or handed over under load, on a BPF file system
without systemd. All collectors show what was sent, flow by flow, to the packet and the octet; nfcapd
sees no sequence error.

Seeds come from FLOWMOND_TEST_SEED, or are 1: random moments differ all the same."""
import os

from lib import tap
from lib.lives import Lives
from lib.load import exact

SEED = int(os.environ.get('FLOWMOND_TEST_SEED', '1'))
TIMES = int(os.environ.get('FLOWMOND_TEST_TIMES', '10'))


def lives(ends, settings, load):
    def run(network):
        life = Lives(network, settings, SEED, **load)
        for number in range(TIMES):
            life.next(ends[number % len(ends)])
        life.finish()
    exact(run)


BIFLOW = {'flows': {'biflow': 'yes'}}
UNMEASURED = {'metrics': {'tcp': 'no'}}
CASES = [
    ('killed at random moments', ['kill'], {}, {}),
    ('handed over', ['handover'], {}, {}),
    ('killed while it takes over', ['starting', 'handover'], {}, {}),
    ('killed while it replaces sinks', ['reload'], {}, {}),
    ('killed, biflow', ['kill', 'handover'], BIFLOW, {}),
    ('killed, TCP not measured', ['kill', 'handover'], UNMEASURED, {}),
    ('killed, flows of tunnels', ['kill', 'handover'], {'flows': {'tunnel': 'inner'}},
     {'outer': True, 'tcp': False}),
    ('killed, clsact', ['kill', 'handover'], {'capture': {'attach': 'clsact'}}, {}),
]
for title, *what in CASES:
    tap.add_case('%s, %d times' % (title, TIMES), lives, *what)


if __name__ == '__main__':
    tap.require_root()
    tap.main()
