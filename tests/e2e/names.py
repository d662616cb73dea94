#!/usr/bin/python3
# SPDX-License-Identifier: Apache-2.0
"""Names: what collectors are told of interfaces, applications, VRFs and our own elements, when, and what
nfdump shows of it."""
import os
import re
import socket
import subprocess
import threading
import time

from lib import tap
from lib.collect import Nfcapd, TcpListener
from lib.daemon import Flowmond
from lib.ipfix import Messages, files_in, number_of
from lib.net import Lab, address, couple, wait_until
from lib.tap import case, check, equal

OWN = 32473
INTERFACE, NAME, DESCRIPTION, PHYSICAL = 10, 82, 83, 252
APPLICATION, APPLICATION_NAME, APPLICATION_TEXT = 95, 96, 94
VRF, VRF_NAME = 234, 236
ALIAS, NAMESPACE, SPEED, INTERFACE_VRF = ((OWN, number) for number in (240, 241, 242, 243))
INTERVAL = 359
UNKNOWN = 2 ** 64 - 1
SERVICES = ('domain 53/tcp\ndomain 53/udp\nmine 7777/udp\nshell 514/tcp\nsyslog 514/udp\n'
            'b\033[2Jad 9\xe9/udp\nb\033[2Jad 8888/udp\n')
QUIET_SECONDS = 2.5


def text_of(record, key):
    octets = record[key if isinstance(key, tuple) else (0, key)]
    return octets.rstrip(b'\0').decode()


class Reader:
    """A UDP collector that keeps what it gets; each datagram of IPFIX must follow the last."""

    def __init__(self, namespace, port=9995):
        self.socket = namespace.socket(socket.AF_INET, socket.SOCK_DGRAM)
        self.socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 1 << 22)
        self.socket.bind(('127.0.0.1', port))
        self.messages, self.times, self.lock = Messages(), [], threading.Lock()
        threading.Thread(target=self._read, daemon=True).start()

    def _read(self):
        while True:
            data = self.socket.recv(65536)
            with self.lock:
                before = len(self.messages.options)
                self.messages.read(data)
                self.times += [time.monotonic()] * (len(self.messages.options) - before)

    def options(self, *having, start=0):
        """Options records from the start-th on that have these elements."""
        keys = [key if isinstance(key, tuple) else (0, key) for key in having]
        with self.lock:
            return [record for record in self.messages.options[start:]
                    if all(key in record for key in keys)]

    def count(self):
        with self.lock:
            return len(self.messages.options)

    def records(self):
        with self.lock:
            return list(self.messages.records)

    def settled(self):
        """Number of options records, once none has come for a while."""
        while True:
            before = self.count()
            time.sleep(QUIET_SECONDS)
            if self.count() == before:
                return before

    def check_sequence(self):
        expected = {}
        with self.lock:
            for header in self.messages.headers:
                domain = header['domain']
                equal('sequence of domain %d' % domain, header['sequence'],
                      expected.get(domain, 0))
                expected[domain] = header['sequence'] + header['records']


def devices(records):
    """{(namespace, name): (alias, speed)}, each interface once."""
    seen = {(text_of(record, NAMESPACE), text_of(record, NAME)):
            (text_of(record, ALIAS), number_of(record, SPEED[1], OWN)) for record in records}
    equal('each once', len(seen), len(records))
    return seen


def shown(collector, form):
    """Lines of nfdump in this format, of a collector that has ended; words apart by one blank."""
    lines = []
    for name in sorted(os.listdir(collector.dir)):
        run = subprocess.run(['nfdump', '-q', '-r', os.path.join(collector.dir, name), '-o',
                              'fmt:' + form], stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
                             timeout=60, check=True)
        lines += run.stdout.decode('utf-8', 'replace').splitlines()
    # nfcapd begins a file every hour: one may hold nothing.
    return [re.sub(' +', ' ', line).strip() for line in lines
            if line.strip() and line != 'No matching flows']


def send(sender, packets, port=53, source=4000):
    with sender.socket(socket.AF_INET, socket.SOCK_DGRAM) as out:
        out.bind(('10.1.0.1', source))
        for _ in range(packets):
            out.sendto(bytes(8), ('10.1.0.2', port))


def mute(namespace):
    """Nobody answers."""
    namespace.run('nft', 'table inet mute { chain out { type filter hook output priority 0; policy '
                         'accept; icmp type destination-unreachable drop; }\n}')


def services(lab, text=SERVICES):
    path = lab.path('services')
    with open(path, 'w', encoding='latin-1') as file:
        file.write(text)
    return path


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
            # The answer came from here.
            equal(name, sorted(shown(collector, '%pkt %in %inam')), ['5 0', '5 %d m0' % number])
            equal(name + ': sequence errors', sum(collector.sequence_errors()), 0)


def settings(lab, profile='full', **more):
    """Told at the start, and again only where something changes."""
    return {'names': {'services': services(lab)}, 'audit': {'interval': '1h'},
            'collector one': {'address': '127.0.0.1:9995', 'profile': profile,
                              'options_interval': '1h', 'template_interval': '1h', **more}}


def begun(reader):
    """Waits for all that is told at the start: figures come behind names, then causes."""
    wait_until(lambda: reader.options(40), 20, 'the figures of the exporter')
    return reader.settled()


@case('interfaces: name, alias, speed, namespace; each change is told, and nothing else with it')
def interfaces():
    with Lab('names') as lab:
        m, other = lab.ns('m'), lab.ns('o')
        m.ip('tuntap add t0 mode tap')
        m.ip('link set t0 up')
        other.ip('link add o0 type veth peer name o1')
        reader = Reader(m)
        daemon = Flowmond(m, {'capture': {'interfaces': 't*, o0@' + other.name}, **settings(lab)})
        at = begun(reader)
        known = {('', 't0'): ('', 10 ** 10), ('', 'lo'): ('', UNKNOWN),
                 (other.name, 'o0'): ('', 10 ** 10), (other.name, 'o1'): ('', 10 ** 10),
                 (other.name, 'lo'): ('', UNKNOWN)}
        equal('at the start', devices(reader.options(NAME)), known)
        names = {text_of(record, DESCRIPTION) for record in reader.options(DESCRIPTION)}
        equal('in the form for nfdump', names, {'t0', 'lo', 'o0', 'o1'})

        def told(what, forms):
            nonlocal at
            wait_until(lambda: reader.count() > at, 20, what)
            end = reader.settled()
            # An interface that goes is audited.
            new = [record for record in reader.options(start=at) if (0, INTERVAL) not in record]
            equal(what + ': told', len(new), forms * len(known))
            equal(what + ': of interfaces', devices(reader.options(NAME, start=at)), known)
            at = end

        # What a terminal would obey, and what is cut within a character.
        alias = 'gr\xfcn\033[2J' + 60 * '\xfc'
        m.run('ip', 'link', 'set', 't0', 'alias', alias)
        clean = 'gr\xfcn?[2J' + 27 * '\xfc'
        known['', 't0'] = (clean, 10 ** 10)
        told('an alias', 2)
        equal('its short form', [text_of(record, DESCRIPTION)
                                 for record in reader.options(DESCRIPTION)[-5:]
                                 if number_of(record, INTERFACE) == m.ifindex('t0')],
              ['t0 (gr\xfcn?[2J' + 9 * '\xfc'])
        m.run('ethtool', '-s', 't0', 'speed', '100')
        m.ip('link set t0 down')
        m.ip('link set t0 up')
        known['', 't0'] = (clean, 10 ** 8)
        told('a speed', 1)
        m.ip('link set t0 mtu 1400')
        equal('of what is not told nothing', reader.settled(), at)
        other.ip('link set o0 name o9')
        known[other.name, 'o9'] = known.pop((other.name, 'o0'))
        told('a name', 2)
        other.ip('link del o9')
        del known[other.name, 'o9'], known[other.name, 'o1']
        told('two interfaces that went', 2)
        daemon.stop()
        reader.check_sequence()


@case('profile standard and NetFlow v9: names only')
def plain():
    with Lab('names') as lab:
        m = lab.ns('m')
        reader = Reader(m)
        daemon = Flowmond(m, {'capture': {'interfaces': 'lo'}, **settings(lab, 'standard')})
        at = begun(reader)
        equal('interfaces', [(text_of(one, NAME), number_of(one, PHYSICAL))
                             for one in reader.options(NAME)], [('lo', 1)])
        equal('own elements', [key for one in reader.options() for key in one
                               if isinstance(key, tuple) and key[0]], [])
        equal('applications', reader.options(APPLICATION), [])
        daemon.reload({'capture': {'interfaces': 'lo'}, **settings(lab, 'standard', fields=
                                                                   '+applicationId')})
        wait_until(lambda: reader.count() > at and reader.options(40, start=at), 20, 'figures')
        reader.settled()
        equal('applications of records that have them', len(reader.options(APPLICATION, start=at)),
              4)
        daemon.stop()


FLOWS = {(4000, 53): '3:53', (40000, 7777): '3:7777', (9000, 514): '3:514', (8, 9): '3:8',
         (50000, 8888): '3:8888'}
# applicationName and applicationDescription.
APPLICATIONS = {
    '3:53': ('domain', '53/tcp domain, 53/udp domain'), '3:7777': ('mine', '7777/udp mine'),
    '3:514': ('shell/syslog', '514/tcp shell, 514/udp syslog'),
    '3:8888': ('b?[2Jad', '8888/udp b?[2Jad')}


def application_of(octets):
    return '%d:%d' % (octets[0], int.from_bytes(octets[1:], 'big'))


def named(records):
    return {application_of(one[0, APPLICATION]): (text_of(one, APPLICATION_NAME),
                                                  text_of(one, APPLICATION_TEXT))
            for one in records}


@case('applications by port: numbers in records, names beside them; by a reload too')
def applications():
    with Lab('names') as lab:
        a, m = lab.ns('a'), lab.ns('m')
        couple(lab, a, 'a0', m, 'm0', 1)
        mute(m)
        reader, listener = Reader(m), TcpListener(m)
        collectors = {'v9': Nfcapd(m, 9996), 'ipfix': Nfcapd(m, 9997)}
        more = {'profile': 'full', 'options_interval': '1s'}
        everything = {
            'capture': {'interfaces': 'm0'}, **settings(lab),
            'collector tcp': {'address': '127.0.0.1:4739', 'transport': 'tcp', **more},
            'collector v9': {'address': '127.0.0.1:9996', 'protocol': 'v9', **more},
            'collector ipfix': {'address': '127.0.0.1:9997', **more}}
        daemon = Flowmond(m, everything)
        at = begun(reader)
        equal('names', named(reader.options(APPLICATION)), APPLICATIONS)
        equal('each once', len(reader.options(APPLICATION)), len(APPLICATIONS))
        # The file is read again: other names of applications, and no others with them.
        services(lab, SERVICES.replace('mine', 'yours'))
        daemon.reload(everything)
        wait_until(lambda: reader.count() > at, 20, 'names to be told again')
        reader.settled()
        new = reader.options(start=at)
        now = dict(APPLICATIONS, **{'3:7777': ('yours', '7777/udp yours')})
        equal('names after a reload', named(reader.options(APPLICATION, start=at)), now)
        equal('and nothing else', len(new), len(now))
        at = reader.count()
        daemon.reload(everything)
        equal('a reload that changes nothing', reader.settled(), at)
        for number, (source, destination) in enumerate(FLOWS):
            send(a, number + 1, destination, source)
        a.run('ping', '-c', '7', '-i', '0.01', '10.1.0.2', ok=False)
        daemon.stop()
        wanted = {number + 1: application for number, application in enumerate(FLOWS.values())}
        wanted[7] = '1:1'
        wait_until(lambda: len(reader.records()) >= len(wanted), 10, 'records')
        equal('numbers', {number_of(record, 2): application_of(record[0, APPLICATION])
                          for record in reader.records()}, wanted)
        reader.check_sequence()
        listener.stop()
        lines = [line for line in listener.lines() if 'event' not in line]
        equal('numbers by libfixbuf', {line['packetDeltaCount']: application_of(
            line['applicationId'].to_bytes(4, 'big')) for line in lines if 'options' not in line},
              wanted)
        equal('names by libfixbuf', {(line['applicationName'], line['applicationDescription'])
                                     for line in lines if 'applicationName' in line},
              {*now.values(), *APPLICATIONS.values()})
        for name, collector in collectors.items():
            collector.stop()
            equal(name + ': sequence errors', sum(collector.sequence_errors()), 0)
        names = {'3:8': '<no info>', '1:1': '<no info>', **{key: '%s/%s' % value
                                                            for key, value in now.items()}}
        equal('nfdump, v9', sorted(set(shown(collectors['v9'], '%pkt|%nbid|%nbnam'))),
              sorted('%d| %s|%s' % (packets, application.replace(':', '..'), names[application])
                     for packets, application in wanted.items()))
        # nfdump 1.7 turns the octets of the number round in IPFIX: it finds no name, but no wrong one.
        check('nfdump, IPFIX', all('<no info>' in line
                                   for line in shown(collectors['ipfix'], '%pkt|%nbid|%nbnam')),
              shown(collectors['ipfix'], '%pkt|%nbid|%nbnam'))


@case('300 applications, 100 a second: each once, one after the other')
def pace():
    with Lab('names') as lab:
        m = lab.ns('m')
        text = ''.join('s%d %d/tcp\n' % (port, port) for port in range(1, 301))
        everything = {'capture': {'interfaces': 'lo'}, **settings(lab, rate='100')}
        services(lab, text)
        reader = Reader(m)
        daemon = Flowmond(m, everything)
        wait_until(lambda: len(reader.options(APPLICATION)) >= 300, 30, 'all names')
        # While they wait, news that are none lose none of them.
        begun(reader)
        equal('each once', sorted(number_of(one, APPLICATION) & 0xffffff
                                  for one in reader.options(APPLICATION)), list(range(1, 301)))
        times = [when for one, when in zip(reader.messages.options, reader.times)
                 if (0, APPLICATION) in one]
        check('at the rate', times[-1] - times[0] >= (300 - 32) / 100, times[-1] - times[0])
        daemon.stop()


@case('a suspicion while names wait loses none of them')
def suspected():
    with Lab('names') as lab:
        m = lab.ns('m')
        m.ip('tuntap add t0 mode tap')
        text = ''.join('s%d %d/tcp\n' % (port, port) for port in range(1, 301))
        everything = {'capture': {'interfaces': 'lo'}, **settings(lab, rate='100')}
        services(lab, text)
        reader = Reader(m)
        daemon = Flowmond(m, everything)
        wait_until(lambda: reader.options(APPLICATION), 20, 'the first names')
        m.ip('link set t0 name t1')
        begun(reader)
        equal('each once', sorted(number_of(one, APPLICATION) & 0xffffff
                                  for one in reader.options(APPLICATION)), list(range(1, 301)))
        check('the change', 't1' in {text_of(one, NAME) for one in reader.options(NAME)})
        daemon.stop()


@case('types of own elements: in files before what needs them, by libfixbuf; to UDP again and again')
def types():
    with Lab('names') as lab:
        m = lab.ns('m')
        directory = lab.path('files')
        os.mkdir(directory)
        reader = Reader(m)
        everything = {'capture': {'interfaces': 'lo'},
                      'ipfix_file': {'directory': directory, 'profile': 'full'},
                      **settings(lab, template_interval='1s')}
        daemon = Flowmond(m, everything)
        wait_until(lambda: len(reader.options(303)) > 2 * len({one[0, 303]
                                                              for one in reader.options(303)}),
                   20, 'types to come three times')
        seen = reader.options(303)
        once = {number_of(one, 303): one for one in seen}
        send_lo(m)
        daemon.stop()
        reader.check_sequence()
        # Each element that a template has is told, and no other.
        used = {element for fields, _ in reader.messages.templates.values()
                for pen, element, _ in fields if pen == OWN}
        check('all that are used', used <= set(once), used - set(once))
        types_of = {text_of(one, 341): one for one in once.values()}
        speed = types_of['interfaceSpeed']
        equal('a type', [number_of(speed, element) for element in (346, 303, 339, 344, 345, 342, 343)],
              [OWN, 242, 4, 1, 0, 0, UNKNOWN - 1])
        equal('what it means', text_of(speed, 340), 'bits a second; absent: not known')
        check('each says what it means', all(text_of(one, 340) for one in once.values()))
        path = files_in(directory)[0]
        text = subprocess.run(['ipfixDump', '--rfc5610', '--data', '--in', path], timeout=60,
                              stdout=subprocess.PIPE, text=True, check=True).stdout
        check('libfixbuf has their names', 'interfaceAlias' in text and 'tcpMeasurement' in text)
        check('and no unknown element', '_alienInformationElement' not in text)


def send_lo(namespace):
    with namespace.socket(socket.AF_INET, socket.SOCK_DGRAM) as out:
        out.sendto(b'x', ('127.0.0.1', 9))


def no_vrf():
    """Why there are no VRF devices here, or None."""
    with Lab('try') as lab:
        namespace = lab.ns('n')
        return namespace.run(*'ip link add v type vrf table 10'.split(), ok=False).strip() or None


@case('VRFs: numbers in records, names beside them', no_vrf)
def vrfs():
    with Lab('names') as lab:
        a, m = lab.ns('a'), lab.ns('m')
        m.ip('link add red type vrf table 10')
        m.ip('link set red up')
        couple(lab, a, 'a0', m, 'm0', 1)
        m.ip('link set m0 master red')
        address(m, 'm0', 'fd00:1::2/64')
        mute(m)
        reader, collectors = Reader(m), {'v9': Nfcapd(m, 9996), 'ipfix': Nfcapd(m, 9997)}
        daemon = Flowmond(m, {
            'capture': {'interfaces': 'm0'}, **settings(lab),
            'collector v9': {'address': '127.0.0.1:9996', 'protocol': 'v9', 'profile': 'full'},
            'collector ipfix': {'address': '127.0.0.1:9997', 'profile': 'full'}})
        at = begun(reader)
        equal('names', [(number_of(one, VRF), text_of(one, VRF_NAME))
                        for one in reader.options(VRF)], [(10, 'red')])
        of_interface = {text_of(one, NAME): number_of(one, INTERFACE_VRF[1], OWN)
                        for one in reader.options(NAME)}
        # Some kernels make gre0 and others in each namespace.
        equal('interfaces', {name: of_interface.get(name) for name in ('lo', 'm0', 'red')},
              {'lo': 0, 'm0': 10, 'red': 10})
        send(a, 5)
        m.ip('link set red down')
        m.ip('link set red name green')
        m.ip('link set green up')
        wait_until(lambda: reader.options(VRF, start=at), 20, 'the other name')
        equal('another name', [text_of(one, VRF_NAME) for one in reader.options(VRF, start=at)],
              ['green'])
        reader.settled()
        daemon.stop()
        equal('records', {(number_of(one, 2), number_of(one, VRF), number_of(one, 235))
                          for one in reader.records() if number_of(one, 4) == 17}, {(5, 10, 0)})
        reader.check_sequence()
        for name, collector in collectors.items():
            collector.stop()
            lines = shown(collector, '%pkt|%ivrf|%ivrfnam')
            check(name, '5| 10| green' in lines, lines)
            equal(name + ': sequence errors', sum(collector.sequence_errors()), 0)


if __name__ == '__main__':
    tap.require_root()
    tap.main()
