#!/usr/bin/python3
# SPDX-License-Identifier: Apache-2.0
"""The daemon is killed between two chosen instructions: some steps into a function of what keeps its
books, or at a system call that hands something on. What the next one makes of it is compared as in
survive.py; a collector of the test's own sees that no message comes again.

FLOWMOND_TEST_SEED chooses the instants of the long case, FLOWMOND_TEST_INSTANTS how many,
FLOWMOND_TEST_AT only those whose names hold it."""
import os
import random
import socket
import threading

from lib import tap
from lib.daemon import FLOWMOND
from lib.instant import CALLS, HELD, functions, impossible, is_held, kill_at
from lib.ipfix import Messages
from lib.lives import Lives
from lib.load import exact
from lib.net import wait_until
from lib.tap import case, check, equal, note

SEED = int(os.environ.get('FLOWMOND_TEST_SEED', '1'))
COUNT = int(os.environ.get('FLOWMOND_TEST_INSTANTS', '80'))
ONLY = os.environ.get('FLOWMOND_TEST_AT', '')
# Where state moves from one keeper to another: while it takes over, and always.
TAKING = ('fm_courier_open', 'fm_courier_start', 'fm_ledger_finish', 'fm_ledger_new', 'fm_outbox_new',
          'fm_store_put', 'fm_store_take', 'fm_sweep_new')
KEEPING = ('fm_courier_deliver', 'fm_courier_flush', 'fm_courier_hold', 'fm_courier_prepare',
           'fm_courier_send', 'fm_ledger_add', 'fm_ledger_commit', 'fm_outbox_append', 'fm_outbox_done',
           'fm_outbox_give', 'fm_outbox_peek', 'fm_outbox_prepare',
           'fm_outbox_publish', 'fm_session_flush', 'fm_session_record', 'fm_slip_add',
           'fm_slip_arm', 'fm_slip_before', 'fm_slip_clear', 'fm_slip_send', 'fm_sweep_apply',
           'fm_sweep_begin', 'fm_sweep_fenced', 'fm_sweep_step', 'fm_transport_append',
           'fm_transport_pop_sent', 'file_flush', 'file_send', 'tcp_write', 'udp_flush', 'udp_send')
# The load is small: a life is short.
LIGHT = {'rate': 3000, 'flows': 150, 'tcp': False}
# (taking over or running, where, name, how many times it is reached, steps from there)
CHOSEN = (
    ('runs', 'at', 'tcp_write', 7, 173),     # TCP: the next session begins with its templates
    ('starts', 'at', 'tcp_write', 2, 300),   # and so it does after a take-over
    ('runs', 'before', 'sendmmsg', 5, 0),    # all is ready to be sent
    ('runs', 'after', 'sendmmsg', 3, 0),     # sent and not noted
    ('runs', 'after', 'sendmmsg', 8, 200),   # and noted in part
    ('starts', 'after', 'sendmmsg', 2, 0),
    ('runs', 'at', 'fm_slip_before', 3, 12),
    ('runs', 'before', 'write', 4, 0),       # lines are part of the transaction
    ('runs', 'after', 'write', 4, 0),        # and what of them was not noted is taken back
    ('runs', 'at', 'fm_transport_pop_sent', 5, 0),  # or is noted as written, and not as done
    ('runs', 'at', 'fm_transport_pop_sent', 9, 3),
    ('runs', 'at', 'fm_ledger_commit', 5, 20),
    ('runs', 'at', 'fm_outbox_publish', 3, 8),
    ('runs', 'at', 'fm_sweep_apply', 9, 30),
    ('runs', 'at', 'fm_sweep_fenced', 4, 0),  # slots are closed, nothing is read of them
    ('starts', 'at', 'fm_ledger_finish', 1, 40),
    ('starts', 'at', 'fm_outbox_new', 2, 400),
    ('starts', 'at', 'fm_store_take', 5, 10),
)


class Careful(threading.Thread):
    """A collector over UDP that looks for sequence numbers that come again."""

    def __init__(self, namespace, port):
        super().__init__(daemon=True)
        self.messages, self.taken, self.again, self.ports = Messages(), set(), 0, set()
        self.socket = namespace.socket(socket.AF_INET, socket.SOCK_DGRAM)
        self.socket.setsockopt(socket.SOL_SOCKET, 33, 8 << 20)  # SO_RCVBUFFORCE
        self.socket.bind(('127.0.0.1', port))
        self.settings = {'collector careful': {'address': '127.0.0.1:%d' % port}}
        self.start()

    def run(self):
        while True:
            data, (_, port) = self.socket.recvfrom(65536)
            if not data:
                return
            self.ports.add(port)
            # Templates alone have the number of what follows.
            number, flows = data[8:16], data[16:18] not in (b'\0\2', b'\0\3')
            self.again += flows and number in self.taken
            self.messages.read(data)
            if flows:
                self.taken.add(number)

    def account(self):
        """The sums of all that came, once nothing more does: an empty datagram is the last."""
        self.socket.connect(self.socket.getsockname())
        self.socket.send(b'')
        self.join(20)
        equal('the careful collector read all', self.is_alive(), False)
        return self.messages.account()


def at_random(rng):
    """Instants without end."""
    while True:
        when, steps = rng.choice(('runs', 'starts')), int(2 ** (rng.random() * 11)) - 1
        if rng.random() < 0.7:
            names = [name for name in (KEEPING if when == 'runs' else TAKING + KEEPING) if ONLY in name]
            yield when, 'at', rng.choice(names), rng.choice((1, 1, 2, 5)), steps
        else:
            yield (when, rng.choice(('before', 'after')), rng.choice(sorted(CALLS)),
                   rng.choice((1, 2, 3, 7, 15)), rng.choice((0, 0, steps)))


def lives(network, instants):
    """One life is ended at each of the instants; returns how many were reached."""
    careful = Careful(network.r, 9993)
    life = Lives(network, careful.settings, SEED, **LIGHT)
    life.end('kill')
    reached, names = 0, functions(FLOWMOND, (*TAKING, *KEEPING))
    for when, how, name, times, steps in instants:
        life.daemon.wrapper = HELD if when == 'starts' else ()
        life.start()
        if when == 'starts':
            wait_until(lambda: is_held(life.daemon.process.pid), 10, 'it to stop')
        else:
            life.ready()
        there = kill_at(life.daemon, how, names[name] if how == 'at' else CALLS[name], times, steps)
        note('%-6s %-6s %-26s %2d times, %4d steps%s' % (
            when, how, name, times, steps, '' if there else ': not reached'))
        reached += there
        life.ended('kill')
        life.some(1000)
    life.daemon.wrapper = ()
    life.start()
    life.ready()
    truth = life.finish()
    note('%d instants reached' % reached)
    equal('careful', careful.account().flows, truth.flows)
    equal('messages that came again', careful.again, 0)
    equal('ports that they came from', len(careful.ports), 1)
    return reached


@case('killed at %d instants where it matters: nothing lost, nothing twice' % len(CHOSEN), impossible)
def chosen():
    rows = [row for row in CHOSEN if ONLY in row[2]]
    exact(lambda network: equal('reached', lives(network, rows), len(rows)))


@case('killed at %d instants by chance: nothing lost, nothing twice' % COUNT, impossible)
def by_chance():
    def run(network):
        instants = at_random(random.Random(SEED))
        reached = lives(network, (next(instants) for _ in range(COUNT)))
        check('most of the instants were reached', reached * 4 >= COUNT * 3, reached)
    exact(run)


if __name__ == '__main__':
    tap.require_root()
    tap.main()
