# SPDX-License-Identifier: Apache-2.0
"""What a running daemon has of everything that can grow: memory, descriptors, objects of the kernel,
slots, files; and whether a row of such figures is flat."""
import array
import itertools
import os
import re
import statistics
import struct
import time

from lib import bpfsys
from lib.daemon import BUILD
from lib.tap import Failure

HEAP = os.path.join(BUILD, 'tests', 'tools', 'libheap.so')
# Of struct fm_about, whose rows have names: size of a slot, number of slots, tags; a row's offset.
ABOUT_VALUE_SIZE, ABOUT_SLOTS, ABOUT_TAGS = 36, 72, 76
TAG_FREE = 0
BLOCK_SLOTS = 16


class Heap:
    """Octets and blocks on the heap of a process that was started with wrapper."""

    def __init__(self, lab):
        self.path = lab.path('heap')
        with open(self.path, 'wb') as file:
            file.write(bytes(16))
        self.wrapper = 'env', 'LD_PRELOAD=' + HEAP, 'HEAP=' + self.path

    def read(self):
        with open(self.path, 'rb') as file:
            return struct.unpack('=QQ', file.read())


class Kernel:
    """Objects that the process and its store had at any time. now() waits until the kernel has freed
    all but those that it has still, so that nothing else keeps any."""

    def __init__(self, pin):
        self.pin, self.ever = pin, set()

    def now(self, pid):
        held = bpfsys.objects(''.join(_texts('/proc/%d/fdinfo' % pid)))
        for name in os.listdir(self.pin):
            descriptor = bpfsys.get(os.path.join(self.pin, name))
            with open('/proc/self/fdinfo/%d' % descriptor, encoding='ascii') as file:
                held |= bpfsys.objects(file.read())
            os.close(descriptor)
        self.ever |= held
        bpfsys.wait_freed(self.ever - held)
        return held


def _texts(directory):
    """Of all files that are still there."""
    for name in os.listdir(directory):
        try:
            with open(os.path.join(directory, name), encoding='utf-8', errors='replace') as file:
                yield file.read()
        except OSError:
            pass


def _contents(path):
    """All of a pinned array: its elements lie at multiples of 8."""
    one = bpfsys.open_map(path)
    with bpfsys.mapped(one) as memory:
        data = bytes(memory)
    os.close(one.fd)
    return data


def tables(pin):
    """Slots of all tables in the store by state, and blocks that have a mark."""
    seen = {'slots in use': 0, 'slots being closed': 0, 'tombstones': 0, 'blocks marked': 0}
    for name in os.listdir(pin):
        found = re.match(r'(g\d+)-\d+-slots$', name)
        if not found:
            continue
        about = _contents(os.path.join(pin, found.group(1) + '-about'))
        size = struct.unpack_from('=I', about, ABOUT_VALUE_SIZE)[0]
        n = struct.unpack_from('=I', about, ABOUT_SLOTS)[0]
        live, closing, tombstone = struct.unpack_from('=III', about, ABOUT_TAGS)
        at = about.find(b'tag'.ljust(40, b'\0'))
        if at < 0:
            raise Failure('%s: no row of the tag' % name)
        offset = struct.unpack_from('=I', about, at + 44)[0]
        data = _contents(os.path.join(pin, name))
        tags = array.array('I', data[:n * size])[offset // 4::size // 4]
        seen['slots in use'] += sum(tag >= live for tag in tags)
        seen['slots being closed'] += tags.count(closing)
        seen['tombstones'] += tags.count(tombstone)
        marks = data[n * size:n * size + -(-n // BLOCK_SLOTS)]
        seen['blocks marked'] += len(marks) - marks.count(0)
    return seen


def known_interfaces(pin):
    """Entries of the programs' interface table."""
    path = next(os.path.join(pin, name) for name in os.listdir(pin)
                if re.match(r'shared-\d+-ifaces$', name))
    one = bpfsys.open_map(path)
    entries = sum(1 for _ in bpfsys.keys(one))
    os.close(one.fd)
    return entries


def _files(directory):
    return [os.path.join(folder, name) for folder, _, names in os.walk(directory)
            for name in names]


def _status(pid, *names):
    with open('/proc/%d/status' % pid, encoding='ascii') as file:
        text = file.read()
    return [int(re.search(r'^%s:\s+(\d+)' % name, text, re.M).group(1)) for name in names]


def switches(pid):
    """How often its threads went to sleep: a wake-up each."""
    return sum(int(number) for text in _texts_of_tasks(pid)
               for number in re.findall(r'^voluntary_ctxt_switches:\s+(\d+)', text, re.M))


def _texts_of_tasks(pid):
    for task in os.listdir('/proc/%d/task' % pid):
        try:
            with open('/proc/%d/task/%s/status' % (pid, task), encoding='ascii') as file:
                yield file.read()
        except OSError:
            pass


def cpu_ns(pid):
    used = 0
    for task in os.listdir('/proc/%d/task' % pid):
        try:
            with open('/proc/%d/task/%s/schedstat' % (pid, task), encoding='ascii') as file:
                used += int(file.read().split()[0])
        except OSError:
            pass
    return used


def process(pid, heap, files):
    """Memory, descriptors and timers; when a thread that asks for a name, or waits for the kernel, has
    ended: of some readings the one with the fewest threads and descriptors."""
    readings = []
    for _ in range(10):
        readings.append(_process(pid, heap, files))
        time.sleep(0.1)
    return min(readings, key=lambda one: (one['threads'], one['descriptors']))


def _process(pid, heap, files):
    """One reading. Whether a file is open in the directory files, the clock decides."""
    anonymous, threads = _status(pid, 'RssAnon', 'Threads')
    links = []
    for name in os.listdir('/proc/%d/fd' % pid):
        try:
            links.append(os.readlink('/proc/%d/fd/%s' % (pid, name)))
        except OSError:
            pass
    octets, blocks = heap.read()
    infos = ''.join(_texts('/proc/%d/fdinfo' % pid))
    return {'RssAnon, kB': anonymous, 'heap, octets': octets, 'heap, blocks': blocks,
            'threads': threads,
            'descriptors': sum(not link.startswith(files + '/') for link in links),
            'sockets': sum(link.startswith('socket:') for link in links),
            'timers': sum('[timerfd]' in link for link in links),
            'event sources': len(re.findall(r'^tfd:', infos, re.M)),
            'memory of maps, kB': sum(map(int, re.findall(r'^memlock:\s+(\d+)', infos, re.M))) // 1024}


def store(pin, spool, kernel, pid):
    """What is kept for the next process, and the kernel's objects."""
    held = kernel.now(pid)
    seen = {kind + 's': sum(one == kind for one, _ in held) for kind in ('map', 'prog', 'link')}
    seen['pins'] = len(os.listdir(pin))
    waiting = _files(spool)
    seen['files in the spool'] = len(waiting)
    seen['octets in the spool'] = sum(map(os.path.getsize, waiting))
    seen['interfaces known'] = known_interfaces(pin)
    return dict(seen, **tables(pin))


def slope(values):
    """How much a figure grows from one to the next: the median of all pairs' (Theil and Sen), which a
    few strange values do not move."""
    pairs = [(b - a) / (j - i) for (i, a), (j, b) in itertools.combinations(enumerate(values), 2)]
    return statistics.median(pairs) if pairs else 0.0


