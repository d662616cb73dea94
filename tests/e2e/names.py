#!/usr/bin/python3
# SPDX-License-Identifier: Apache-2.0
"""Names: what collectors are told of interfaces, applications, VRFs and our own elements, and what
nfdump shows of it."""
import os
import re
import socket
import subprocess

from lib import tap
from lib.collect import Nfcapd
from lib.daemon import Flowmond
from lib.net import Lab, couple, wait_until
from lib.tap import case, equal


def shown(collector, form):
    """Lines of nfdump in this format, of a collector that has ended; words apart by one blank."""
    lines = []
    for name in sorted(os.listdir(collector.dir)):
        run = subprocess.run(['nfdump', '-q', '-r', os.path.join(collector.dir, name), '-o',
                              'fmt:' + form], stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
                             timeout=60, check=True)
        lines += run.stdout.decode('utf-8', 'replace').splitlines()
    return [re.sub(' +', ' ', line).strip() for line in lines if line.strip()]


def send(sender, packets, port=53, source=4000):
    with sender.socket(socket.AF_INET, socket.SOCK_DGRAM) as out:
        out.bind(('10.1.0.1', source))
        for _ in range(packets):
            out.sendto(bytes(8), ('10.1.0.2', port))


def seen(daemon):
    return daemon.status()['counters']['seen']['packets']


@case('nfdump keeps the names of interfaces whatever else it is told, IPFIX and v9')
def audits_take_no_names():
    with Lab('names') as lab:
        a, m = lab.ns('a'), lab.ns('m')
        couple(lab, a, 'a0', m, 'm0', 1)
        collectors = {'standard': Nfcapd(m, 9995), 'full': Nfcapd(m, 9996), 'v9': Nfcapd(m, 9997)}
        daemon = Flowmond(m, {
            'capture': {'interfaces': 'm0'}, 'audit': {'interval': '1s'},
            'collector standard': {'address': '127.0.0.1:9995', 'options_interval': '1h'},
            'collector full': {'address': '127.0.0.1:9996', 'options_interval': '1h',
                               'profile': 'full'},
            'collector v9': {'address': '127.0.0.1:9997', 'options_interval': '1h',
                             'protocol': 'v9'}})
        send(a, 5)
        # The first comes after the names.
        wait_until(lambda: all(sink['audits'] >= 3 for sink in daemon.status()['sinks']), 20,
                   'audits to be sent')
        daemon.stop()
        number = m.ifindex('m0')
        for name, collector in collectors.items():
            collector.stop()
            lines = shown(collector, '%pkt %in %inam')
            # The answer came from here.
            equal(name, sorted(lines), ['5 0', '5 %d m0' % number])


if __name__ == '__main__':
    tap.require_root()
    tap.main()
