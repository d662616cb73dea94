# SPDX-License-Identifier: Apache-2.0
"""Certificates, and collectors over TLS and DTLS that are openssl's own server."""
import os
import socket
import ssl
import struct
import subprocess
import threading

from lib.collect import Collector, TcpListener
from lib.net import wait_until

PORT = 4740
NAME = 'collector.test'
# Two authorities; what the first vouches for: file, subjectAltName, days.
SIGNED = (('server', 'DNS:%s,IP:127.0.0.1,IP:127.0.0.2' % NAME, 2), ('expired', 'DNS:' + NAME, -1),
          ('other', 'DNS:else.where', 2), ('client', 'DNS:exporter.test', 2),
          ('renewed', 'DNS:exporter.test', 2))
NEW = ('-newkey', 'ec', '-pkeyopt', 'ec_paramgen_curve:P-256', '-nodes')


def openssl(*arguments):
    subprocess.run(['openssl', *arguments], check=True, stdin=subprocess.DEVNULL,
                   stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)


def certificates(lab):
    """Makes them all; their directory, which everybody may enter."""
    home = lab.path('pki')
    os.mkdir(home)

    def path(name):
        return os.path.join(home, name)

    for name in ('ca', 'strange'):
        openssl('req', '-x509', *NEW, '-days', '2', '-subj', '/CN=' + name, '-keyout',
                path(name + '.key'), '-out', path(name + '.pem'))
    for name, names, days in SIGNED:
        openssl('req', *NEW, '-subj', '/CN=' + name, '-keyout', path(name + '.key'), '-out',
                path(name + '.csr'))
        with open(path('extensions'), 'w', encoding='ascii') as file:
            file.write('subjectAltName=' + names)
        openssl('x509', '-req', '-in', path(name + '.csr'), '-CA', path('ca.pem'), '-CAkey',
                path('ca.key'), '-days', str(days), '-extfile', path('extensions'), '-out',
                path(name + '.pem'))
    return home


class Server(Collector):
    """openssl s_server, one connection: what it decrypts goes to a file, and from there, as one
    connection, to the listener that decodes IPFIX by libfixbuf."""

    def __init__(self, namespace, pki, version='-tls1_3', identity='server', host='127.0.0.1'):
        self.namespace, self.host, self.port = namespace, host, PORT
        self.datagrams = 'dtls' in version
        self.output = namespace.lab.path('server-%d' % len(namespace.lab.children))
        self.process = namespace.start(
            'sh', '-c', 'exec 3>"$0"; exec <"$1"; shift; exec "$@" >&3', self.output,
            self._silence(), 'openssl', 's_server', version, '-accept',
            '%s:%d' % (host, PORT), '-cert', os.path.join(pki, identity + '.pem'), '-key',
            os.path.join(pki, identity + '.key'), '-CAfile', os.path.join(pki, 'ca.pem'),
            '-Verify', 2, '-verify_return_error', '-quiet', '-naccept', 1, log='server')
        wait_until(self._listens, 10, 'the server')

    def _listens(self):
        there = '%08X:%04X' % (*struct.unpack('=I', socket.inet_aton(self.host)), PORT)
        return any(words[1] == there and words[3] in ('0A', '07') for words in
                   self.namespace.sockets('udp' if self.datagrams else 'tcp', PORT))

    def _silence(self):
        """A standard input that neither says anything nor ends."""
        path = self.output + '.silence'
        os.mkfifo(path)
        self.kept = os.open(path, os.O_RDWR)
        self.namespace.lab.closing.append(lambda: os.close(self.kept))
        return path

    def octets(self):
        return os.path.getsize(self.output)

    def records(self):
        """What it got, decoded; anything a careful collector minds is a failure."""
        with open(self.output, 'rb') as file:
            return decoded(self.namespace, [file.read()])


def decoded(namespace, connections):
    """What the listener that decodes by libfixbuf makes of the octets of some connections."""
    listener = TcpListener(namespace, 4739, '127.0.0.1')
    for octets in connections:
        with namespace.socket(socket.AF_INET, socket.SOCK_STREAM) as feed:
            feed.connect(('127.0.0.1', 4739))
            feed.sendall(octets)
    records = listener.stop()
    os.truncate(listener.process.log_path, 0)
    return records


class TlsServer(Collector):
    """Takes one connection after the other and keeps what it decrypts."""

    def __init__(self, namespace, pki, port=PORT, host='127.0.0.1'):
        self.namespace, self.port, self.host = namespace, port, host
        self.context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        self.context.load_cert_chain(os.path.join(pki, 'server.pem'), os.path.join(pki, 'server.key'))
        self.context.load_verify_locations(os.path.join(pki, 'ca.pem'))
        self.context.verify_mode = ssl.CERT_REQUIRED
        self.listener = namespace.socket(socket.AF_INET, socket.SOCK_STREAM)
        self.listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        self.listener.bind((host, port))
        self.listener.listen(16)
        self.got, self.ends = [], threading.Event()
        self.thread = threading.Thread(target=self._serve, daemon=True)
        self.thread.start()

    def _serve(self):
        self.listener.settimeout(0.1)
        while True:
            try:
                self._read(self.listener.accept()[0])
            except socket.timeout:
                if self.ends.is_set():
                    return

    def _read(self, plain):
        """Until it is closed, or silent after the end."""
        octets = bytearray()
        self.got.append(octets)
        plain.settimeout(5)
        try:
            with self.context.wrap_socket(plain, server_side=True) as connection:
                connection.settimeout(0.1)
                while True:
                    try:
                        piece = connection.recv(65536)
                    except socket.timeout:
                        if self.ends.is_set():
                            return
                        continue
                    if not piece:
                        return
                    octets += piece
        except (ssl.SSLError, ConnectionError, socket.timeout):
            plain.close()

    def stop(self):
        """What has arrived is read first; the octets of each connection."""
        self.ends.set()
        self.thread.join()
        self.listener.close()
        return list(map(bytes, self.got))
