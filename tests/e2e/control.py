#!/usr/bin/python3
# SPDX-License-Identifier: Apache-2.0
"""The control socket: flowmonctl against peers that misbehave, the daemon against such clients."""
import contextlib
import json
import os
import socket
import subprocess
import threading
import time

from lib import tap
from lib.daemon import FLOWMONCTL, Flowmond
from lib.net import Lab
from lib.tap import Skip, case, check, equal


def ask(behave, *arguments):
    """flowmonctl asks a server that behaves like this: status, output, seconds."""
    with Lab('ctl') as lab:
        path = lab.path('control')
        with socket.socket(socket.AF_UNIX) as server:
            server.bind(path)
            server.listen(1)

            def serve():
                with contextlib.suppress(OSError), server.accept()[0] as client:
                    behave(client)

            threading.Thread(target=serve, daemon=True).start()
            started = time.monotonic()
            done = subprocess.run([FLOWMONCTL, '--socket', path, *(arguments or ('status',))],
                                  stdout=subprocess.PIPE, stderr=subprocess.STDOUT, timeout=30,
                                  check=False)
            return done.returncode, done.stdout, time.monotonic() - started


@case('flowmonctl asks by one line and prints the answer')
def asks():
    asked = []

    def answer(client):
        asked.append(client.recv(100))
        client.sendall(b'fine\n')

    equal('text', ask(answer)[:2], (0, b'fine\n'))
    equal('json', ask(answer, 'status', '--json')[:2], (0, b'fine\n'))
    equal('asked', asked, [b'status\n', b'status json\n'])


@case('flowmonctl does not hand control sequences to the terminal')
def control_sequences():
    def answer(client):
        client.recv(100)
        client.sendall(b'a\x1b[2J\x07b\n')

    equal('shown', ask(answer)[:2], (0, b'a?[2J?b\n'))


def drip(client):
    while True:
        client.sendall(b'x')
        time.sleep(0.1)


def flood(client):
    while True:
        client.sendall(b'x' * 65536)


@case('flowmonctl gives up on silence, on drops and on a flood')
def gives_up():
    for behave in (lambda client: time.sleep(20), drip, flood):
        status, output, seconds = ask(behave)
        check('status', status == 1, status)
        check('in time', seconds < 7, seconds)
        check('bounded', len(output) < 17 << 20, len(output))
    status, output, _ = ask(lambda client: client.recv(100))
    check('no answer', status == 1 and b'without an answer' in output, output)


def started(lab):
    if os.geteuid() != 0:
        raise Skip('needs root')
    return Flowmond(lab.ns('m'), {})


def connect(daemon):
    client = socket.socket(socket.AF_UNIX)
    client.settimeout(10)
    client.connect(daemon.control)
    return client


@case('the daemon answers after whatever clients did')
def hostile_clients():
    with Lab('hostile') as lab:
        daemon = started(lab)
        for request in (b'', b'\n', b'status', b'nonsense\n', b'\0' * 300, b'x' * 100000,
                        b'status json' * 50, b'status\nstatus\n', bytes(range(256)) * 4):
            with connect(daemon) as client:
                with contextlib.suppress(OSError):
                    client.sendall(request)
            check('alive after %r' % request[:20], daemon.process.running())
        held = []
        for _ in range(40):
            with contextlib.suppress(OSError):
                held.append(connect(daemon))
        for client in held:
            client.close()
        time.sleep(0.3)
        check('answers', json.loads(daemon.ctl('status', '--json').stdout)['sinks'] == [])
        daemon.stop()


@case('clients that connect and say nothing are let go')
def silent_clients():
    with Lab('silent') as lab:
        daemon = started(lab)
        held = [connect(daemon) for _ in range(16)]
        deadline = time.monotonic() + 12
        while daemon.ctl('status').returncode and time.monotonic() < deadline:
            time.sleep(0.2)
        equal('answers again', daemon.ctl('status').returncode, 0)
        for client in held:
            client.close()
        daemon.stop()


@case('only owner and group may ask')
def permissions():
    with Lab('mode') as lab:
        daemon = started(lab)
        equal('mode', os.stat(daemon.control).st_mode & 0o777, 0o660)
        daemon.stop()


if __name__ == '__main__':
    tap.main()
