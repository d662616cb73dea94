# SPDX-License-Identifier: Apache-2.0
"""Whether the machine had time for what a test measures, by the kernel's own account of it."""
import functools
import os

from lib.tap import Failure, note

RUNS = 3

# AddressSanitizer keeps what is freed for a while: how much memory a process has says nothing there.
KEEPS_FREED = 'ASAN_OPTIONS' in os.environ

# Below this share of idle time some packet waits for its turn again and again.
IDLE = 0.4
STOLEN = 0.02


class Disturbed(Exception):
    """The machine lost what the test needs; nothing can be said of this run."""


def _processors():
    """Ticks of all processors: all, idle, stolen by others on the same hardware."""
    with open('/proc/stat', encoding='ascii') as file:
        ticks = [int(word) for word in file.readline().split()[1:9]]
    return sum(ticks), ticks[3] + ticks[4], ticks[7]


def _dropped():
    """Packets that found the queue of a processor full."""
    with open('/proc/net/softnet_stat', encoding='ascii') as file:
        return sum(int(line.split()[1], 16) for line in file)


class Watch:
    """What happened since this was made, when stop() is called."""

    def __init__(self):
        self.before, self.drops = _processors(), _dropped()
        self.idle = self.stolen = 0.0

    def stop(self):
        total, idle, stolen = (now - then for now, then in zip(_processors(), self.before))
        self.idle, self.stolen = idle / max(total, 1), stolen / max(total, 1)
        self.drops = _dropped() - self.drops
        return self

    def calm(self):
        return self.idle >= IDLE and self.stolen <= STOLEN and not self.drops

    def __str__(self):
        return '%d %% idle, %d %% stolen, %d packets dropped' % (
            100 * self.idle, 100 * self.stolen, self.drops)


def again(function):
    """A test case that runs once more, at most RUNS times, if packets were lost on this machine."""
    @functools.wraps(function)
    def call(*args):
        for left in reversed(range(RUNS)):
            watch = Watch()
            try:
                return function(*args)
            except (Disturbed, Failure) as why:
                if not left or not (isinstance(why, Disturbed) or watch.stop().drops):
                    raise
                note('once more: %s' % why)
        return None
    return call
