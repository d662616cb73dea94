# SPDX-License-Identifier: Apache-2.0
"""bpf(2) as far as tests need it: maps that are pinned, looked at, overwritten and made."""
import collections
import contextlib
import ctypes
import json
import mmap
import os
import re
import struct
import subprocess

from lib.net import wait_until

_NUMBER = {'x86_64': 321, 'aarch64': 280, 'riscv64': 280, 's390x': 351, 'ppc64le': 361}
_libc = ctypes.CDLL(None, use_errno=True)
MAP_CREATE, LOOKUP, UPDATE, NEXT_KEY, PIN, GET, INFO = 0, 1, 2, 4, 6, 7, 15
HASH, ARRAY, RINGBUF = 1, 2, 27
MMAPABLE = 1 << 10

Map = collections.namedtuple('Map', 'fd kind id key_size value_size entries')


def bpf(command, attributes):
    """attributes: octets. Returns what the call returns; raises OSError."""
    buffer = ctypes.create_string_buffer(attributes, max(len(attributes), 128))
    result = _libc.syscall(_NUMBER[os.uname().machine], command, buffer, len(buffer))
    if result < 0:
        raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()))
    return result


def get(path):
    """A descriptor of what is pinned there; the caller closes it."""
    name = ctypes.create_string_buffer(path.encode())
    return bpf(GET, struct.pack('=QII', ctypes.addressof(name), 0, 0))


def pin(descriptor, path):
    name = ctypes.create_string_buffer(path.encode())
    bpf(PIN, struct.pack('=QII', ctypes.addressof(name), descriptor, 0))


def create(kind, key_size, value_size, entries, flags=0):
    return bpf(MAP_CREATE, struct.pack('=IIIII', kind, key_size, value_size, entries, flags))


def kind_of(path):
    """map, prog or link, as the kernel names its descriptors."""
    descriptor = get(path)
    try:
        return os.readlink('/proc/self/fd/%d' % descriptor).rsplit('bpf', 1)[-1].strip('-_]')
    finally:
        os.close(descriptor)


def open_map(path):
    descriptor = get(path)
    info = ctypes.create_string_buffer(88)
    bpf(INFO, struct.pack('=IIQ', descriptor, len(info), ctypes.addressof(info)))
    kind, number, key, value, entries = struct.unpack_from('=IIIII', info)
    return Map(descriptor, kind, number, key, value, entries)


def is_array(path):
    one = open_map(path)
    os.close(one.fd)
    return one.kind == ARRAY


def read(one, index):
    key = ctypes.create_string_buffer(struct.pack('=I', index))
    value = ctypes.create_string_buffer((one.value_size + 7) // 8 * 8)
    bpf(LOOKUP, struct.pack('=IIQQQ', one.fd, 0, ctypes.addressof(key), ctypes.addressof(value), 0))
    return value.raw[:one.value_size]


def write(one, index, data):
    key = ctypes.create_string_buffer(struct.pack('=I', index))
    value = ctypes.create_string_buffer(data, len(data))
    bpf(UPDATE, struct.pack('=IIQQQ', one.fd, 0, ctypes.addressof(key), ctypes.addressof(value), 0))


@contextlib.contextmanager
def mapped(one):
    """The memory of an array that can be mapped, to read."""
    memory = mmap.mmap(one.fd, (one.value_size + 7) // 8 * 8 * one.entries, mmap.MAP_SHARED,
                       mmap.PROT_READ)
    try:
        yield memory
    finally:
        memory.close()


def keys(one):
    """Of a map that nobody changes meanwhile."""
    key = following = None
    while True:
        following = ctypes.create_string_buffer(one.key_size)
        try:
            bpf(NEXT_KEY, struct.pack('=IIQQ', one.fd, 0, ctypes.addressof(key) if key else 0,
                                      ctypes.addressof(following)))
        except FileNotFoundError:
            return
        yield following.raw
        key = following


def objects(fdinfo):
    """{(kind, id)} of the maps, programs and links of which the text speaks, that of /proc/PID/fdinfo."""
    return {(kind, int(number)) for kind, number in re.findall(r'^(map|prog|link)_id:\s+(\d+)', fdinfo,
                                                               re.M)}


def wait_freed(found):
    """The kernel frees after a grace period."""
    def left():
        there = set()
        for kind in ('map', 'prog', 'link'):
            text = subprocess.run(['bpftool', '-j', kind, 'show'], stdout=subprocess.PIPE, text=True,
                                  check=True).stdout
            there |= {(kind, entry['id']) for entry in json.loads(text)}
        return found & there
    wait_until(lambda: not left(), 10, 'the kernel to free %s' % left())
