#!/usr/bin/python3
# SPDX-License-Identifier: Apache-2.0
"""IPFIX over TLS and DTLS to openssl's own server, its output read by libfixbuf: what was sent arrives,
and goes to nobody else; certificates that are wrong are named and hold up nobody; names that move."""
import json
import os
import re
import shutil
import signal
import socket
import struct
import subprocess

from lib import tap
from lib.collect import TcpListener, account, json_flow
from lib.daemon import Flowmond, merge
from lib.net import Lab, couple, wait_until
from lib.packets import UDP, Account, ip4, udp
from lib.peers import NAME, PORT, Server, certificates
from lib.tap import case, check, equal
from lib.traffic import Injector

QUICK = {'idle_timeout': '200ms', 'sweep_interval': '50ms'}


def pair(lab):
    a, m = lab.ns('a'), lab.ns('m')
    couple(lab, a, 'a0', m, 'm0', 1)
    return a, m


def collector(pki, **more):
    keys = {'address': '127.0.0.1:%d' % PORT, 'transport': 'tls', 'peer_name': NAME,
            'certificate_file': os.path.join(pki, 'client.pem'),
            'key_file': os.path.join(pki, 'client.key'), 'ca_file': os.path.join(pki, 'ca.pem'),
            'reconnect_interval': '200ms'}
    keys.update(more)
    return {'collector main': keys}


def settings(lab, *more):
    return merge({'flows': QUICK, 'json': {'file': lab.path('flowmond.json')}}, *more)


def flood(namespace, sent, flows, base=0):
    """Packets of so many flows, of different lengths."""
    inject = Injector(namespace, 'a0', 'm0', sent)
    for number in range(base, base + flows):
        src = '10.8.%d.%d' % (number >> 8 & 255, number & 255)
        for size in (20, number % 900)[:1 + number % 2]:
            inject.send(ip4(src, '10.7.0.1', UDP, udp(1000, 9, bytes(size))),
                        (src, '10.7.0.1', 1000, 9, UDP))
    inject.close()


def swept(daemon, flows):
    wait_until(lambda: len(daemon.json_records()) == flows, 20, '%d flows' % flows)


def sink_of(daemon, name='main'):
    return next(sink for sink in daemon.status()['sinks'] if name in sink['name'])


def handed_on(daemon, flows, seconds=20):
    """DTLS knows only with the next datagram what became of the last one: statistics at the end."""
    wait_until(lambda: sink_of(daemon)['records'] >= flows, seconds, '%d records' % flows)


def not_sent(log):
    """Packets and octets that the end says were not sent."""
    found = re.findall(r'(\d+) records \((\d+) packets, (\d+) octets\) not sent in all', log)
    return tuple(map(int, found[-1][1:])) if found else (0, 0)


def totals(rows):
    return (sum(row['packets'] for row in rows), sum(row['octets'] for row in rows))


def carried(version, **more):
    with Lab('carry') as lab:
        a, m = pair(lab)
        pki = certificates(lab)
        server = Server(m, pki, version)
        daemon = Flowmond(m, settings(lab, collector(pki, **more)))
        sent = Account()
        for turn in range(3):
            flood(a, sent, 300, 300 * turn)
            swept(daemon, 300 * (turn + 1))
        wait_until(lambda: 'sending' in daemon.log(), 10, 'the session')
        log = daemon.stop()
        equal('status of the server', server.process.wait(10), 0)
        rows = server.records()
        equal('flows, packets and octets', account(rows).flows, sent.flows)
        equal('sums', totals(rows), (sent.packets(), sent.octets()))
        equal('not sent', not_sent(log), (0, 0))


@case('TLS 1.2, a client certificate demanded: what was sent arrives')
def tls12():
    carried('-tls1_2')


@case('TLS 1.3, a client certificate demanded: what was sent arrives')
def tls13():
    carried('-tls1_3')


@case('DTLS 1.2, a client certificate demanded: what was sent arrives')
def dtls():
    version = subprocess.run(['nfacctd', '-V'], stdout=subprocess.PIPE, text=True,
                             check=False).stdout
    tap.note('nfacctd is built %s DTLS' % ('with' if 'GnuTLS' in version or
                                           'gnutls' in version else 'without'))
    carried('-dtls1_2', transport='dtls')


# What is wrong, the settings or the server that make it so, words of the log.
WRONG = (
    ('name', {'peer_name': 'else.where'}, {}, 'hostname mismatch'),
    ('name in the certificate', {}, {'identity': 'other'}, 'hostname mismatch'),
    ('date', {}, {'identity': 'expired'}, 'certificate has expired'),
    ('authority', {'ca_file': 'strange.pem'}, {}, 'certificate of the collector'),
    ('lack of a certificate', {'certificate_file': None, 'key_file': None}, {}, 'alert'),
)


def refused(transport, version):
    with Lab('refuse') as lab:
        a, m = pair(lab)
        pki = certificates(lab)
        for number, (what, keys, server_keys, words) in enumerate(WRONG):
            server = Server(m, pki, version, **server_keys)
            keys = dict(keys, transport=transport)
            if keys.get('ca_file'):
                keys['ca_file'] = os.path.join(pki, keys['ca_file'])
            daemon = Flowmond(m, settings(lab, collector(pki, **keys)), name='d%d' % number)
            sent = Account()
            flood(a, sent, 50)
            wait_until(lambda: words in daemon.log(), 20, 'words of a wrong %s' % what)
            wait_until(lambda: len(account(map(json_flow, daemon_json(lab))).flows) == 50, 20,
                       'the sweep to go on')
            equal('%s: handed on' % what, sink_of(daemon)['records'], 0)
            log = daemon.stop()
            equal('%s: not sent' % what, not_sent(log), (sent.packets(), sent.octets()))
            server.process.stop(signal.SIGKILL)
            equal('%s: what the server got' % what, server.octets(), 0)
            os.unlink(lab.path('flowmond.json'))


def daemon_json(lab):
    """Whole lines: the last one may just be written."""
    with open(lab.path('flowmond.json'), encoding='utf-8') as file:
        return [json.loads(line) for line in file if line.endswith('\n')]


@case('TLS: wrong name, date, authority, no certificate of ours: nothing is sent, all is counted')
def tls_refused():
    refused('tls', '-tls1_3')


@case('DTLS: wrong name, date, authority, no certificate of ours: nothing is sent, all is counted')
def dtls_refused():
    refused('dtls', '-dtls1_2')


@case('a server that says nothing, and one that says something else: told, nobody waits')
def no_handshake():
    for answer, words in ((None, 'in the TLS handshake'), (b'SSH-2.0-x\r\n' * 9, 'cannot send')):
        with Lab('mute') as lab:
            a, m = pair(lab)
            pki = certificates(lab)
            with m.socket(socket.AF_INET, socket.SOCK_STREAM) as listener:
                listener.bind(('127.0.0.1', PORT))
                listener.listen(5)
                daemon = Flowmond(m, settings(lab, collector(pki)))
                connection = listener.accept()[0]
                if answer:
                    connection.sendall(answer)
                sent = Account()
                flood(a, sent, 100)
                swept(daemon, 100)
                daemon.status()
                wait_until(lambda: words in daemon.log(), 20, words)
                equal('handed on', sink_of(daemon)['records'], 0)
                connection.close()
                log = daemon.stop()
            equal('not sent', not_sent(log), (sent.packets(), sent.octets()))


def comes_back(transport, version, disk=False):
    """disk: what waits goes there, and is read from there."""
    with Lab('back') as lab:
        a, m = pair(lab)
        pki = certificates(lab)
        first = Server(m, pki, version)
        daemon = Flowmond(m, settings(lab, collector(pki, transport=transport), {
            'spool': {'directory': lab.path('spool') if disk else ''}}))
        wait_until(lambda: 'sending' in daemon.log(), 10, 'the session')
        sent = Account()
        flood(a, sent, 100)
        swept(daemon, 100)
        # Read by the server and written: a kill loses nothing of it.
        wait_until(lambda: len(account(first.records()).flows) == 100, 20, 'records there')
        first.process.popen.send_signal(signal.SIGKILL)
        first.process.wait()
        flood(a, sent, 100, 1000)
        swept(daemon, 200)
        if disk:
            wait_until(lambda: sink_of(daemon)['spooled_records'] == 100, 20, 'records on disk')
        second = Server(m, pki, version)
        wait_until(lambda: second.octets() > 3000, 20, 'what waited')
        if disk:
            wait_until(lambda: not sink_of(daemon)['spool_waiting_octets'], 20, 'an empty spool')
        flood(a, sent, 100, 2000)
        swept(daemon, 300)
        log = daemon.stop()
        second.process.wait(10)
        rows = first.records() + second.records()
        equal('both sessions', account(rows).flows, sent.flows)
        equal('not sent', not_sent(log), (0, 0))


@case('TLS: a server that is killed and comes back: nothing is missing, nothing twice')
def tls_back():
    comes_back('tls', '-tls1_3')


@case('DTLS: a server that is killed and comes back: nothing is missing, nothing twice')
def dtls_back():
    comes_back('dtls', '-dtls1_2')


@case('TLS and DTLS: what waits on disk for a server that was killed is sent to the next')
def from_disk():
    comes_back('tls', '-tls1_3', True)
    comes_back('dtls', '-dtls1_2', True)


@case('DTLS: a fresh association every interval: templates each time, records once')
def dtls_fresh():
    with Lab('fresh') as lab:
        a, m = pair(lab)
        pki = certificates(lab)
        servers = [Server(m, pki, '-dtls1_2')]
        daemon = Flowmond(m, settings(lab, collector(pki, transport='dtls',
                                                     association_interval='2s')))
        sent = Account()
        for turn in range(2):
            wait_until(lambda: servers[turn].octets() > 0, 20, 'templates')
            flood(a, sent, 100, 1000 * turn)
            swept(daemon, 100 * (turn + 1))
            servers[turn].process.wait(20)  # it was told that the association is over
            servers.append(Server(m, pki, '-dtls1_2'))
        wait_until(lambda: servers[2].octets() > 0, 20, 'templates')
        log = daemon.stop()
        rows = sum((server.records() for server in servers), [])
        equal('all associations', account(rows).flows, sent.flows)
        equal('not sent', not_sent(log), (0, 0))


@case('DTLS over a path that takes less than message_size: shorter messages, nothing lost')
def dtls_path():
    with Lab('path') as lab:
        a, m = pair(lab)
        m.ip('link set lo mtu 900')
        pki = certificates(lab)
        server = Server(m, pki, '-dtls1_2')
        daemon = Flowmond(m, settings(lab, collector(pki, transport='dtls', message_size='1400')))
        wait_until(lambda: server.octets() > 0, 20, 'templates')
        sent = Account()
        flood(a, sent, 500)
        swept(daemon, 500)
        log = daemon.stop()
        server.process.wait(10)
        equal('flows', account(server.records()).flows, sent.flows)
        equal('not sent', not_sent(log), (0, 0))
        with open(server.output, 'rb') as file:
            octets, sizes, at = file.read(), [], 0
        while at < len(octets):
            sizes.append(struct.unpack_from('>H', octets, at + 2)[0])
            at += sizes[-1]
        # 900 less the headers of IP, UDP and DTLS.
        check('messages use the path and no more', 700 < max(sizes) <= 900 - 20 - 8 - 13, max(sizes))


@case('credentials of the service; a wrong one at the start is named and holds up nobody')
def credentials():
    with Lab('creds') as lab:
        a, m = pair(lab)
        pki = certificates(lab)
        for name in ('client.pem', 'client.key', 'ca.pem'):
            shutil.copy(os.path.join(pki, name), os.path.join(pki, name.replace('.', '-')))
        os.chmod(os.path.join(pki, 'client-key'), 0o604)
        listener = TcpListener(m, 4738, '127.0.0.1')
        server = Server(m, pki)
        daemon = Flowmond(m, settings(
            lab, {'collector plain': {'address': listener.address(), 'transport': 'tcp'}},
            collector(pki, certificate_file='client-pem', key_file='client-key',
                      ca_file='ca-pem')), wrapper=('env', 'CREDENTIALS_DIRECTORY=' + pki))
        check('the log names setting and file', 'key_file = %s/client-key: everybody' % pki in
              daemon.log(), daemon.log())
        one, two = Account(), Account()
        flood(a, one, 50)
        swept(daemon, 50)
        os.chmod(os.path.join(pki, 'client-key'), 0o600)
        wait_until(lambda: server.octets() > 0, 30, 'templates, once the file is right')
        flood(a, two, 50, 1000)
        swept(daemon, 100)
        log = daemon.stop()
        server.process.wait(10)
        equal('given up', not_sent(log), (0, 0))
        two.join(one.flows)
        equal('what came while it was wrong, and later', account(server.records()).flows, two.flows)
        equal('the other collector', account(listener.stop()).flows, two.flows)


@case('reload: a wrong pair changes nothing and is named; a renewed one is taken up')
def reloads():
    with Lab('renew') as lab:
        a, m = pair(lab)
        pki = certificates(lab)
        good = settings(lab, collector(pki))
        first = Server(m, pki)
        daemon = Flowmond(m, good)
        wait_until(lambda: first.octets() > 0, 20, 'templates')
        wrong = os.path.join(pki, 'expired')
        for keys, words in (
                ({'key_file': wrong + '.key'}, 'key_file = %s.key: not the key' % wrong),
                ({'certificate_file': wrong + '.pem', 'key_file': wrong + '.key'},
                 'certificate_file = %s.pem: expired on' % wrong),
                ({'ca_file': '/nonexistent'}, 'ca_file = /nonexistent: No such file'),
                ({'ca_file': 'credential'}, 'ca_file = credential: there are no credentials')):
            daemon.reload(merge(good, {'flows': {'max': '32768'}}, collector(pki, **keys)))
            wait_until(lambda: words in daemon.log(), 10, words)
        sent, later = Account(), Account()
        flood(a, sent, 100)
        swept(daemon, 100)
        handed_on(daemon, 100)
        check('the session is the one of before', first.process.running())
        equal('and so are the tables', daemon.log().count('configuration read again'), 0)
        daemon.reload(good)
        check('same files: same session', first.process.running())
        for kind in ('.pem', '.key'):
            os.replace(os.path.join(pki, 'renewed' + kind), os.path.join(pki, 'client' + kind))
        daemon.reload(good)
        equal('renewed files: the session ends', first.process.wait(10), 0)
        second = Server(m, pki)
        wait_until(lambda: second.octets() > 0, 20, 'templates')
        flood(a, later, 100, 1000)
        swept(daemon, 200)
        daemon.stop()
        second.process.wait(10)
        check('the renewed certificate was shown', 'CN = renewed' in second.process.log() and
              'CN = client' in first.process.log(), second.process.log())
        equal('first session', account(first.records()).flows, sent.flows)
        equal('second session', account(second.records()).flows, later.flows)


@case('a name that moves: records follow it to the new address, over TLS')
def moves():
    with Lab('moves') as lab:
        a, m = pair(lab)
        pki = certificates(lab)
        hosts = lab.path('hosts')

        def stands_for(address):
            with open(hosts, 'w', encoding='ascii') as file:
                file.write('127.0.0.1 localhost\n%s %s\n' % (address, NAME))

        stands_for('127.0.0.1')
        first = Server(m, pki)
        daemon = Flowmond(m, settings(lab, collector(
            pki, address='%s:%d' % (NAME, PORT), peer_name=None)), wrapper=(
                'unshare', '-m', 'sh', '-c', 'mount --bind %s /etc/hosts; exec "$@"' % hosts,
                'sh'))
        wait_until(lambda: first.octets() > 0, 20, 'templates')
        sent = Account()
        flood(a, sent, 100)
        swept(daemon, 100)
        wait_until(lambda: len(account(first.records()).flows) == 100, 20, 'records there')
        stands_for('127.0.0.2')
        second = Server(m, pki, host='127.0.0.2')
        first.process.popen.send_signal(signal.SIGKILL)
        wait_until(lambda: second.octets() > 0, 20, 'templates at the new address')
        flood(a, sent, 100, 1000)
        swept(daemon, 200)
        log = daemon.stop()
        second.process.wait(10)
        equal('both', account(first.records() + second.records()).flows, sent.flows)
        equal('not sent', not_sent(log), (0, 0))


if __name__ == '__main__':
    tap.require_root()
    tap.main()
