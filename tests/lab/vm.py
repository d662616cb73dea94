# SPDX-License-Identifier: Apache-2.0
"""Kernels of the distribution in a virtual machine whose root is this host's: fetched by apt, booted
by qemu without KVM, which is slow but runs everywhere. Used by kernels.py."""
import ctypes
import gzip
import io
import lzma
import mmap
import os
import re
import shutil
import subprocess
import time

from lib.tap import note

HERE = os.path.dirname(os.path.realpath(__file__))
# What must be there before the root is: the rest is loaded from it.
EARLY = ('virtio_pci', '9pnet_virtio', '9p', 'overlay')
BOOT_SECONDS = 300


class Unavailable(Exception):
    """What is needed cannot be had here; the text says why."""


def run(*command, **options):
    done = subprocess.run(command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
                          stderr=subprocess.STDOUT, text=True, check=False, **options)
    if done.returncode:
        raise Unavailable('%s: %s' % (' '.join(command[:3]), done.stdout.strip()[-300:]))
    return done.stdout


def possible():
    """Raises Unavailable where no machine can be made."""
    if os.uname().machine != 'x86_64':
        raise Unavailable('only x86-64 machines are known here')
    for tool in ('qemu-system-x86_64', 'depmod', 'apt-get', 'dpkg-deb'):
        if not shutil.which(tool):
            raise Unavailable(tool + ' is not installed')


def newest(series):
    """The distribution's newest kernel of a series ('6.1'): the name of its package."""
    found = []
    for name in run('apt-cache', 'pkgnames', 'linux-image-' + series).split():
        match = re.fullmatch(r'linux-image-(%s\.\d[\d.]*(?:-\d+|\+deb\d+[\d.u]*)?)-amd64'
                             % re.escape(series), name)
        if match:
            found.append(([int(number) for number in re.findall(r'\d+', match.group(1))], name))
    for _, name in sorted(found, reverse=True):
        if 'Candidate: (none)' not in run('apt-cache', 'policy', name):
            return name
    raise Unavailable('apt knows no kernel ' + series)


def fetch(package, place, prepare=None):
    """Unpacks a package at that place, if it is not there yet; nothing is installed."""
    if os.path.exists(place):
        return
    new = '%s.new-%d' % (place, os.getpid())
    os.makedirs(new)
    try:
        try:
            run('apt-get', 'download', '-q', package, cwd=new)
        except Unavailable:
            run('apt-get', 'update', '-q')
            run('apt-get', 'download', '-q', package, cwd=new)
        archive = os.path.join(new, os.listdir(new)[0])
        run('dpkg-deb', '-x', archive, new)
        os.unlink(archive)
        if prepare:
            run(*prepare(new))
        os.rename(new, place)
    finally:
        shutil.rmtree(new, ignore_errors=True)


class Kernel:
    """A kernel of a series, unpacked in the cache."""

    def __init__(self, series, cache):
        self.series = series
        package = newest(series)
        self.release = package[len('linux-image-'):]
        self.dir = os.path.join(cache, self.release)
        fetch(package, self.dir, lambda place: ('depmod', '-b', place, self.release))
        # Any other needs libraries, which an initramfs has not.
        fetch('busybox-static', os.path.join(cache, 'busybox-static'))
        self.busybox = os.path.join(cache, 'busybox-static', 'bin', 'busybox')
        self.image = os.path.join(self.dir, 'boot', 'vmlinuz-' + self.release)
        self.modules = os.path.join(self.dir, 'lib', 'modules', self.release)

    def early(self):
        """The files of EARLY and of what they need, in the order of loading."""
        needs, paths, order = {}, {}, []
        with open(os.path.join(self.modules, 'modules.dep'), encoding='ascii') as file:
            for line in file:
                path, _, others = line.partition(':')
                needs[path] = others.split()
                paths[re.sub(r'\.ko.*', '', os.path.basename(path)).replace('-', '_')] = path
        for name in EARLY:
            if name in paths:
                for path in [*reversed(needs[paths[name]]), paths[name]]:
                    if path not in order:
                        order.append(path)
        return order

    def initramfs(self, path):
        archive = Cpio()
        for name in ('bin', 'modules'):
            archive.add(name, b'', 0o040755)
        for name, source in (('bin/busybox', self.busybox),
                             ('init', os.path.join(HERE, 'guest', 'init'))):
            with open(source, 'rb') as file:
                archive.add(name, file.read(), 0o100755)
        names = []
        for module in self.early():
            with open(os.path.join(self.modules, module), 'rb') as file:
                data = file.read()
            names.append(os.path.basename(module).partition('.')[0] + '.ko')
            archive.add('modules/' + names[-1], plain(module, data), 0o100644)
        archive.add('modules/order', ''.join(name + '\n' for name in names).encode(), 0o100644)
        archive.write(path)


def plain(name, data):
    if name.endswith('.xz'):
        return lzma.decompress(data)
    if name.endswith('.gz'):
        return gzip.decompress(data)
    return data


def tsc_khz(seconds=0.5):
    """How fast this host's time stamp counter is, which is a machine's as well. A kernel that measures
    it on a busy host may be wrong by an order of magnitude, and all its clocks with it."""
    code = mmap.mmap(-1, mmap.PAGESIZE, prot=mmap.PROT_READ | mmap.PROT_WRITE | mmap.PROT_EXEC)
    code.write(bytes.fromhex('0f31 48c1e220 4809d0 c3'))  # rdtsc; shl $32,%rdx; or %rdx,%rax; ret
    rdtsc = ctypes.CFUNCTYPE(ctypes.c_uint64)(ctypes.addressof(ctypes.c_char.from_buffer(code)))

    def reading():
        """Nanoseconds and ticks of one moment: the closest two of some."""
        pairs = ((time.monotonic_ns(), rdtsc()) for _ in range(100))
        return min((time.monotonic_ns() - ns, ns, ticks) for ns, ticks in pairs)[1:]
    (begin_ns, begin), _, (end_ns, end) = reading(), time.sleep(seconds), reading()
    return round((end - begin) * 1e6 / (end_ns - begin_ns))


class Cpio:
    """An archive as the kernel takes it for an initramfs ("newc")."""

    def __init__(self):
        self.file, self.number = io.BytesIO(), 0

    def add(self, name, data, mode):
        self.number += 1
        fields = (self.number, mode, 0, 0, 1, 0, len(data), 0, 0, 0, 0, len(name) + 1, 0)
        self.file.write(b'070701' + b''.join(b'%08X' % field for field in fields))
        for part in (name.encode() + b'\0', data):
            self.file.write(part)
            self.file.write(bytes(-self.file.tell() % 4))

    def write(self, path):
        self.add('TRAILER!!!', b'', 0)
        with open(path, 'wb') as file:
            file.write(gzip.compress(self.file.getvalue(), 1))


class Machine:
    """A kernel that boots, runs a list of shell commands and ends: start(), wait(), result(i)."""

    def __init__(self, lab, kernel, name, commands, cpus=1, memory=1536):
        self.lab, self.kernel = lab, kernel
        self.share = lab.path('vm-' + name)
        os.mkdir(self.share)
        self.name, self.process, self.up = name, None, False
        self.initramfs = lab.path('initramfs-' + name)
        kernel.initramfs(self.initramfs)
        shutil.copy(os.path.join(HERE, 'guest', 'agent'), self.share)
        self._write('settings', "MODULES='%s'\n" % kernel.modules)
        for number, command in enumerate(commands):
            self._write('%03d.command' % number, command + '\n')
        # Never KVM: on some hosts that offer it, a kernel hangs in it. A processor without AVX, which
        # takes a third longer to emulate.
        self.command = [
            'qemu-system-x86_64', '-accel', 'tcg', '-cpu', 'Westmere', '-M', 'pc', '-m', str(memory),
            '-smp', str(cpus), '-nic', 'none', '-nodefaults', '-display', 'none', '-serial',
            'stdio', '-no-reboot', '-kernel', kernel.image, '-initrd', self.initramfs, '-append',
            # The watchdog of clocks finds a slow machine's TSC at fault and takes a far slower clock;
            # that of stalls and the check of the timer find what is slow.
            'console=ttyS0 panic=-1 loglevel=4 mitigations=off tsc=reliable clocksource=tsc '
            'tsc_early_khz=%d no_timer_check nowatchdog rcupdate.rcu_cpu_stall_suppress=1' % (
                tsc_khz()),
            '-virtfs', 'local,path=/,mount_tag=root,security_model=none,readonly=on,'
            'multidevs=remap',
            '-virtfs', 'local,path=%s,mount_tag=lab,security_model=none' % self.share]

    def _write(self, name, text):
        with open(os.path.join(self.share, name), 'w', encoding='utf-8') as file:
            file.write(text)

    def _read(self, name):
        with open(os.path.join(self.share, name), encoding='utf-8', errors='replace') as file:
            return file.read()

    def _written(self, name):
        return os.stat(os.path.join(self.share, name)).st_mtime

    def _there(self, name):
        return os.path.exists(os.path.join(self.share, name))

    def start(self):
        self.process = self.lab.start(self.command, 'qemu-' + self.name)
        self.deadline = time.monotonic() + BOOT_SECONDS

    def wait(self):
        """Waits until it is up, starts it once more if it hangs before; the release it tells."""
        for last in (False, True):
            while not self._there('up') and self.process.running() \
                    and time.monotonic() < self.deadline:
                time.sleep(0.1)
            if self._there('up'):
                self.up = True
                return self._read('up').strip()
            self.end()
            if not last:
                note('%s does not come up: once more' % self.name)
                self.start()
        raise TimeoutError('not up within %d s\n%s' % (BOOT_SECONDS, self.console()))

    def console(self, lines=40):
        return '\n'.join(self.process.log().splitlines()[-lines:])

    def result(self, number, seconds):
        """(status, output, seconds) of a command; no status: the machine did not get so far."""
        name = '%03d' % number
        deadline = time.monotonic() + seconds
        while self.process.running() and not self._there(name + '.status') \
                and time.monotonic() < deadline:
            time.sleep(0.1)
        output = self._read(name + '.output') if self._there(name + '.output') else ''
        if not self._there(name + '.status'):
            self.end()
            return None, output, 0
        before = '%03d.status' % (number - 1) if number else 'up'
        took = self._written(name + '.status') - self._written(before)
        return int(self._read(name + '.status')), output, took

    def end(self):
        if self.process.running():
            self.process.popen.kill()
            self.process.popen.wait()
