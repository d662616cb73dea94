#!/usr/bin/python3
# SPDX-License-Identifier: Apache-2.0
"""Interfaces that come, go, come back and are renamed while the daemon runs."""
import fcntl
import os
import signal
import struct
import threading
import time

from lib import tap
from lib.collect import account, json_flow
from lib.daemon import Flowmond, attached, merge
from lib.lives import bpffs
from lib.net import Lab, couple, wait_until
from lib.packets import ICMP6, TCP, UDP, Account, icmp, ip4, ip6, tcp, udp
from lib.tap import case, check, equal
from lib.traffic import Injector, ping, send_udp

TUNSETIFF, IFF_TUN, IFF_TAP, IFF_NO_PI = 0x400454ca, 1, 2, 0x1000


def attached_both(namespace, interface):
    return attached(namespace, interface)[0] == 2


def wait_attached(namespace, interface):
    wait_until(lambda: attached_both(namespace, interface), 5, interface + ' to be attached')


def watch(lab, namespace, interfaces='!lo', **flows):
    return Flowmond(namespace, {'capture': {'interfaces': interfaces}, 'flows': flows,
                                'json': {'file': lab.path('flowmond.json')}})


def result(daemon):
    return account(map(json_flow, daemon.json_records())).flows


@case('an interface that appears later is counted, one that is excluded is not')
def appears():
    with Lab('plug') as lab:
        a, m = lab.ns('a'), lab.ns('m')
        daemon = watch(lab, m, 'm*, !m1')
        couple(lab, a, 'a0', m, 'm0', 1)
        couple(lab, a, 'a1', m, 'm1', 2)
        couple(lab, a, 'a2', m, 'x2', 3)
        wait_attached(m, 'm0')
        sent = Account()
        for number, counted in ((1, sent), (2, Account()), (3, Account())):
            ping(counted, a, '10.%d.0.1' % number, '10.%d.0.2' % number, 3)
        daemon.stop()
        equal('flows', result(daemon), sent.flows)


@case('an interface vanishes under load and comes back: nothing counted is lost')
def vanishes():
    with Lab('vanish') as lab:
        a, m = lab.ns('a'), lab.ns('m')
        couple(lab, a, 'a0', m, 'm0', 1)
        couple(lab, a, 'k0', m, 'keep', 2)
        daemon = watch(lab, m)
        ends = threading.Event()
        load = Account()
        inject = Injector(a, 'a0', 'm0', load)

        def send():
            port = 0
            while not ends.is_set():
                port = port % 500 + 1
                try:
                    inject.send(ip4('10.8.0.1', '10.8.0.2', UDP, udp(port, 9, bytes(100))),
                                ('10.8.0.1', '10.8.0.2', port, 9, UDP))
                except OSError:
                    return

        thread = threading.Thread(target=send)
        thread.start()
        wait_until(lambda: load.packets() > 3000, 20, 'load')
        before = dict(load.flows)
        m.ip('link del m0')
        ends.set()
        thread.join()
        check('load was running', before)
        couple(lab, a, 'a0', m, 'm0', 1)
        wait_attached(m, 'm0')
        sent = Account()
        ping(sent, a, '10.1.0.1', '10.1.0.2', 4)
        send_udp(sent, a, '10.2.0.1', 5, m, '10.2.0.2', 6, 10, 10)
        daemon.stop()
        seen = result(daemon)
        equal('flows of the new interface and of the one that stayed',
              {flow: counts for flow, counts in seen.items() if flow[0] != '10.8.0.1'}, sent.flows)
        counted = sum(counts[0] for flow, counts in seen.items() if flow[0] == '10.8.0.1')
        # What is still in the queue between the two ends goes with the device.
        check('packets before it vanished: %d of %d' % (counted, load.packets()),
              load.packets() - 2000 <= counted <= load.packets())


@case('ten interfaces that come and go quickly, again and again')
def churn():
    with Lab('churn') as lab:
        a, m = lab.ns('a'), lab.ns('m')
        couple(lab, a, 'k0', m, 'keep', 2)
        daemon = watch(lab, m)
        for _ in range(5):
            for number in range(10):
                m.ip('link add c%d type veth peer name d%d' % (number, number))
            for number in range(10):
                m.ip('link del c%d' % number)
        sent = Account()
        ping(sent, a, '10.2.0.1', '10.2.0.2', 4)
        check('still answers', daemon.status())
        daemon.stop()
        equal('flows', result(daemon), sent.flows)


@case('a renamed interface follows the patterns')
def renamed():
    with Lab('rename') as lab:
        a, m = lab.ns('a'), lab.ns('m')
        couple(lab, a, 'a0', m, 'x0', 1)
        daemon = watch(lab, m, 'm*')
        equal('attached before', attached(m, 'x0')[0], 0)
        m.ip('link set x0 down')
        m.ip('link set x0 name m0')
        m.ip('link set m0 up')
        wait_attached(m, 'm0')
        m.ip('link set m0 down')
        m.ip('link set m0 name x0')
        m.ip('link set x0 up')
        wait_until(lambda: attached(m, 'x0')[0] == 0, 5, 'x0 to be left alone')
        daemon.stop()
        check('address stayed', a.ifindex('a0'))


@case('interfaces = NAME@NAMESPACE: in another namespace, only if named')
def namespaces():
    with Lab('named') as lab:
        a, m, other = lab.ns('a'), lab.ns('m'), lab.ns('o')
        couple(lab, a, 'a0', m, 'm0', 1)
        couple(lab, a, 'a1', other, 'o0', 2)
        couple(lab, a, 'a2', other, 'o1', 3)
        daemon = watch(lab, m, 'm0, o0@' + other.name)
        wait_attached(other, 'o0')
        equal('the one not named', attached(other, 'o1')[0], 0)
        sent = Account()
        ping(sent, a, '10.1.0.1', '10.1.0.2', 3)
        ping(sent, a, '10.2.0.1', '10.2.0.2', 3)
        ping(Account(), a, '10.3.0.1', '10.3.0.2', 3)
        daemon.stop()
        equal('flows', result(daemon), sent.flows)
        equal('left', attached(other, 'o0'), (0, []))


@case('killed, and started with namespaces in another order, one less, one more: each once, by its number')
def namespaces_over_kills():
    with Lab('order') as lab:
        a, m, o, p = (lab.ns(name) for name in 'amop')
        devices = {'m0': 'm0', 'o0': 'o0@' + o.name, 'p0': 'p0@' + p.name}
        for number, (namespace, name) in enumerate(((m, 'm0'), (o, 'o0'), (p, 'p0')), 1):
            couple(lab, a, 'a%d' % number, namespace, name, number)
        sent, daemon, before = Account(), None, ()
        for life, order in enumerate((('m0', 'o0', 'p0'), ('p0', 'o0', 'm0'), ('p0', 'm0'),
                                      ('m0', 'o0', 'p0'))):
            settings = {'capture': {'interfaces': ', '.join(devices[name] for name in order)},
                        'json': {'file': lab.path('flowmond.json')}}
            if not daemon:
                daemon = Flowmond(m, merge(settings, {'bpf': {'pin': os.path.join(
                    bpffs(lab), 'flowmond')}}))
                pin = {'bpf': {'pin': os.path.join(lab.path('bpffs'), 'flowmond')}}
            else:
                daemon.stop(signal.SIGKILL, -signal.SIGKILL)
                send_on(a, sent, before, life)
                daemon.write(merge(settings, pin))
                daemon.start()
                daemon.wait_ready()
            send_on(a, sent, order, life)
            before = order
        daemon.stop()
        records = list(map(json_flow, daemon.json_records()))
        equal('flows', account(records).flows, sent.flows)
        numbers = {}
        for record in records:
            numbers.setdefault(record['flow'][0], set()).add(record['in'])
        equal('numbers of each interface', {src: len(seen) for src, seen in numbers.items()},
              {'10.8.%d.1' % number: 1 for number in (1, 2, 3)})
        equal('each its own', len(set.union(*numbers.values())), 3)


def send_on(a, sent, names, life):
    """A flow that goes on, and a new one, on each of the interfaces."""
    for name in names:
        number = 'mop'.index(name[0]) + 1
        src, dst = '10.8.%d.1' % number, '10.8.%d.2' % number
        inject = Injector(a, 'a%d' % number, name, sent)
        for port in (1000, 1001 + life):
            inject.send(ip4(src, dst, UDP, udp(port, 9, bytes(20))), (src, dst, port, 9, UDP))
        inject.close()


def open_tun(namespace, name, kind, up=True):
    with namespace.inside():
        device = os.open('/dev/net/tun', os.O_RDWR)
        fcntl.ioctl(device, TUNSETIFF, struct.pack('16sH22x', name.encode(), kind | IFF_NO_PI))
    namespace.sysctl('net/ipv6/conf/%s/addr_gen_mode' % name, 1)
    if up:
        namespace.ip('link set %s up' % name)
    return device


@case('a tun device: packets without an Ethernet header, in and out')
def tun():
    with Lab('tun') as lab:
        m = lab.ns('m')
        daemon = watch(lab, m)
        device = open_tun(m, 'tun0', IFF_TUN)
        m.ip('addr add 10.8.0.1/24 dev tun0')
        m.ip('addr add fd08::1/64 dev tun0 nodad')
        wait_attached(m, 'tun0')
        sent = Account()
        for packet, flow in (
                (ip4('10.8.0.2', '10.8.0.99', UDP, udp(1, 2, bytes(100))),
                 ('10.8.0.2', '10.8.0.99', 1, 2, UDP)),
                (ip4('10.8.0.2', '10.8.0.99', TCP, tcp(3, 4, 2)),
                 ('10.8.0.2', '10.8.0.99', 3, 4, TCP)),
                (ip6('fd08::2', 'fd08::99', UDP, udp(5, 6, bytes(7))),
                 ('fd08::2', 'fd08::99', 5, 6, UDP)),
                (ip6('fd08::2', 'fd08::99', ICMP6, icmp(1, 4, bytes(60))),
                 ('fd08::2', 'fd08::99', 0, 0x0104, ICMP6))):
            for _ in range(5):
                os.write(device, packet)
                sent.add(*flow, len(packet))
        import socket
        for family, src, dst in ((socket.AF_INET, '10.8.0.1', '10.8.0.7'),
                                 (socket.AF_INET6, 'fd08::1', 'fd08::7')):
            with m.socket(family, socket.SOCK_DGRAM) as out:
                out.bind((src, 77))
                for _ in range(4):
                    out.sendto(bytes(50), (dst, 78))
                    sent.add(src, dst, 77, 78, UDP, 50 + (28 if family == socket.AF_INET else 48))
        daemon.stop()
        os.close(device)
        equal('flows', result(daemon), sent.flows)


@case('tun devices that come up just after they were attached: every packet')
def tun_comes_up():
    with Lab('tunup') as lab:
        m = lab.ns('m')
        daemon = watch(lab, m)
        sent, devices = Account(), []
        for number in range(10):
            name, src = 'tun%d' % number, '10.8.%d.2' % number
            devices.append(open_tun(m, name, IFF_TUN, up=False))
            wait_attached(m, name)
            m.ip('link set %s up' % name)
            packet = ip4(src, '10.9.0.1', UDP, udp(1, 2, bytes(100)))
            for _ in range(40):
                os.write(devices[-1], packet)
                sent.add(src, '10.9.0.1', 1, 2, UDP, len(packet))
                time.sleep(0.002)
        daemon.stop()
        for device in devices:
            os.close(device)
        equal('flows', result(daemon), sent.flows)


@case('a tun device vanishes while it is monitored')
def tun_vanishes():
    with Lab('tunvanish') as lab:
        m = lab.ns('m')
        device = open_tun(m, 'tun0', IFF_TUN)
        daemon = watch(lab, m)
        wait_attached(m, 'tun0')
        sent = Account()
        packet = ip4('10.8.0.2', '10.8.0.99', UDP, udp(1, 2, bytes(100)))
        for _ in range(9):
            os.write(device, packet)
            sent.add('10.8.0.2', '10.8.0.99', 1, 2, UDP, len(packet))
        os.close(device)
        check('answers', daemon.status())
        daemon.stop()
        equal('flows', result(daemon), sent.flows)


if __name__ == '__main__':
    tap.require_root()
    tap.main()
