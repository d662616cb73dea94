# SPDX-License-Identifier: Apache-2.0
"""Runs the built flowmond inside a namespace: configuration, readiness, reload, status, end."""
import ctypes
import errno
import json
import os
import re
import signal
import socket
import struct
import subprocess
import threading

from lib.net import PATIENCE, wait_until
from lib.tap import Failure

BUILD = os.environ.get('FLOWMOND_BUILD') or os.path.realpath(
    os.path.join(os.path.dirname(__file__), '..', '..', '..', 'build'))
FLOWMOND = os.path.join(BUILD, 'src', 'daemon', 'flowmond')
FLOWMONCTL = os.path.join(BUILD, 'src', 'ctl', 'flowmonctl')

BPF_PROG_QUERY = 16
TCX = (46, 47)  # BPF_TCX_INGRESS, BPF_TCX_EGRESS

# Timeouts that no test runs into by accident: flows end when the test ends the daemon.
PATIENT = {'flows': {'idle_timeout': '1h', 'active_timeout': '1h', 'end_linger': '60s',
                     'sweep_interval': '100ms', 'max': '8192'}}
# Nothing waits on the machine's disk for the next test.
NO_SPOOL = {'spool': {'directory': ''}}


def settings_text(settings):
    """{'flows': {'max': 1024}} as a configuration file; a value None leaves the key out, a list is a
    line each."""
    text = ''
    for section, keys in settings.items():
        text += '[%s]\n' % section
        for key, value in keys.items():
            for one in value if isinstance(value, list) else [value]:
                if one is not None:
                    text += '%s = %s\n' % (key, one)
    return text


def merge(*parts):
    merged = {}
    for part in parts:
        for section, keys in part.items():
            merged.setdefault(section, {}).update(keys)
    return merged


def refusal(lab, settings):
    """What --check-config says of settings, and their file; None if nothing is wrong with them."""
    path = lab.path('refused.conf')
    with open(path, 'w', encoding='ascii') as file:
        file.write(settings_text(settings))
    done = subprocess.run([FLOWMOND, '--check-config', '--config', path], stdout=subprocess.PIPE,
                          stderr=subprocess.STDOUT, text=True, timeout=PATIENCE * 30, check=False)
    return (done.stdout, path) if done.returncode else None


class Notify:
    """systemd's end of sd_notify: what the daemon said so far. Read by a thread, as systemd reads at
    once, too: the daemon would wait for a full socket."""

    def __init__(self, path):
        self.path = path
        self.socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self.socket.bind(path)
        os.chmod(path, 0o777)
        self.said = []
        threading.Thread(target=self._read, daemon=True).start()

    def _read(self):
        while True:
            self.said += self.socket.recv(65536).decode('utf-8', 'replace').split('\n')

    def count(self, line):
        return self.said.count(line)


class Flowmond:
    """A running flowmond. settings: sections over PATIENT. Waits until it says it is ready. binary: of
    another build."""

    def __init__(self, namespace, settings, name='flowmond', ready=True, wrapper=(),
                 arguments=(), patient=True, binary=FLOWMOND):
        self.namespace, lab = namespace, namespace.lab
        self.json_path = lab.path(name + '.json')
        self.config_path = lab.path(name + '.conf')
        self.control = lab.path(name + '.control')
        self.base = merge(PATIENT if patient else {}, NO_SPOOL, {'control': {'socket': self.control}})
        self.write(settings)
        self.notify = Notify(lab.path(name + '.notify'))
        self.name, self.wrapper, self.arguments, self.binary = name, wrapper, arguments, binary
        self.start()
        if ready:
            self.wait_ready()

    def start(self, binary=None):
        """Starts it, also once more after it ended, then by another binary if one is given."""
        self.binary = binary or self.binary
        environment = dict(os.environ, NOTIFY_SOCKET=self.notify.path)
        environment.pop('JOURNAL_STREAM', None)
        self.ready_before = self.notify.count('READY=1')
        self.process = self.namespace.start(*self.wrapper, self.binary, '--foreground', '--config',
                                            self.config_path, *self.arguments, log=self.name,
                                            env=environment)

    def write(self, settings):
        with open(self.config_path, 'w', encoding='utf-8') as file:
            file.write(settings if isinstance(settings, str)
                       else settings_text(merge(self.base, settings)))

    def wait_ready(self, times=1):
        def said():
            if not self.process.running():
                raise Failure('flowmond ended with status %s before it was ready:\n%s' % (
                    self.process.popen.returncode, self.log()[-2000:]))
            return self.notify.count('READY=1') - self.ready_before >= times
        wait_until(said, 60, 'flowmond to be ready')  # emulated, verifying takes long

    def reload(self, settings=None):
        """SIGHUP, after writing new settings if given; waits until it is done."""
        if settings is not None:
            self.write(settings)
        times = self.notify.count('READY=1') - self.ready_before
        self.process.popen.send_signal(signal.SIGHUP)
        self.wait_ready(times + 1)

    def log(self):
        return self.process.log()

    def ctl(self, *arguments):
        return subprocess.run([FLOWMONCTL, '--socket', self.control, *arguments],
                              stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
                              timeout=20 * PATIENCE, check=False)

    def status(self):
        for _ in range(PATIENCE):
            done = self.ctl('status', '--json')
            if 'no complete answer' not in done.stdout:
                break
        if done.returncode:
            raise Failure('flowmonctl: %s' % done.stdout)
        return json.loads(done.stdout)

    def stop(self, number=signal.SIGTERM, status=0):
        """Ends it; its exit status must be as expected."""
        seen = self.process.stop(number, 20)
        if seen != status:
            raise Failure('flowmond ended with status %s, expected %s:\n%s' % (
                seen, status, self.log()[-3000:]))
        return self.log()

    def json_lines(self):
        """While it runs, the last line may be half written to the eyes of a reader."""
        runs = self.process.popen.poll() is None
        with open(self.json_path, encoding='utf-8') as file:
            return [json.loads(line) for line in file if not runs or line.endswith('\n')]

    def json_records(self):
        """Flow records; other lines have a type."""
        return [line for line in self.json_lines() if 'type' not in line]

    def json_audits(self):
        return [line for line in self.json_lines() if line.get('type') == 'audit']


def _query(interface, hook):
    """Number of TCX programs at a hook, 0 on kernels without TCX (bpf(2), BPF_PROG_QUERY)."""
    number = {'x86_64': 321, 'aarch64': 280, 'riscv64': 280, 's390x': 351, 'ppc64le': 361}
    ids = (ctypes.c_uint32 * 64)()
    attr = ctypes.create_string_buffer(struct.pack(
        '=IIIIQIIQQQQ', interface, hook, 0, 0, ctypes.addressof(ids), 64, 0, 0, 0, 0, 0))
    if ctypes.CDLL(None, use_errno=True).syscall(number[os.uname().machine], BPF_PROG_QUERY, attr,
                                                 len(attr) - 1) < 0:
        if ctypes.get_errno() in (errno.EINVAL, errno.ENOENT):
            return 0
        raise OSError(ctypes.get_errno(), 'BPF_PROG_QUERY')
    return struct.unpack_from('=I', attr, 24)[0]


def attached(namespace, interface):
    """What hangs on an interface: number of BPF programs (TCX and clsact), lines of qdiscs."""
    index = namespace.ifindex(interface)
    with namespace.inside():
        programs = sum(_query(index, hook) for hook in TCX)
    qdiscs = [line for line in namespace.run('tc', 'qdisc', 'show', 'dev', interface).splitlines()
              if 'clsact' in line or 'ingress' in line]
    if qdiscs:
        for hook in ('ingress', 'egress'):
            shown = namespace.run('tc', 'filter', 'show', 'dev', interface, hook)
            programs += len(re.findall(r' bpf .*\bhandle ', shown))
    return programs, qdiscs
