#!/usr/bin/python3
# SPDX-License-Identifier: Apache-2.0
"""Rotated IPFIX files: every file can be read alone, by ipfixDump and tshark; together they hold what
was sent, to the packet; what a kill left is completed, what is too much is removed."""
import itertools
import os
import re
import signal

from lib import tap
from lib.collect import account, json_flow
from lib.daemon import Flowmond, merge
from lib.ipfix import dissected, dumped, files_in, read_file
from lib.net import Lab, couple, wait_until
from lib.packets import UDP, Account, ip4, ip6, udp
from lib.tap import case, check, equal
from lib.traffic import Injector, ping

QUICK = {'idle_timeout': '200ms', 'sweep_interval': '50ms', 'max': '65536'}
NAME = re.compile(r'flowmond-\d{8}T\d{6}Z-\d{6}\.ipfix')


def pair(lab):
    a, m = lab.ns('a'), lab.ns('m')
    couple(lab, a, 'a0', m, 'm0', 1)
    return a, m


def flood(namespace, sent, flows, base=0):
    """Packets of so many flows, of both families."""
    inject = Injector(namespace, 'a0', 'm0', sent)
    for number in range(base, base + flows):
        payload = udp(1000, 9, bytes(number % 100))
        if number % 3:
            src = '10.8.%d.%d' % (number >> 8 & 255, number & 255)
            inject.send(ip4(src, '10.7.0.1', UDP, payload), (src, '10.7.0.1', 1000, 9, UDP))
        else:
            src = 'fd08::%x' % number
            inject.send(ip6(src, 'fd07::1', UDP, payload), (src, 'fd07::1', 1000, 9, UDP))
    inject.close()


def together(directory):
    """The sums by flow over all complete files, read one by one."""
    sums = Account()
    for path in files_in(directory):
        messages, rest = read_file(path)
        equal('octets behind the last message of ' + os.path.basename(path), rest, 0)
        check('templates first', messages.headers[0]['records'] == 0, messages.headers[0])
        equal('sequence at the beginning', messages.headers[0]['sequence'], 0)
        sums.join(messages.account().flows)
    return sums


def parts(directory):
    return [name for name in os.listdir(directory) if name.endswith('.part')]


def rotated(profile, biflow):
    with Lab('files') as lab:
        a, m = pair(lab)
        directory = lab.path('files')
        daemon = Flowmond(m, {'flows': dict(QUICK, biflow=biflow),
                              'json': {'file': lab.path('flowmond.json')},
                              'ipfix_file': {'directory': directory, 'rotate_octets': '64K',
                                             'profile': profile}})
        sent = Account()
        for turn in range(5):
            flood(a, sent, 1000, 1000 * turn)
            wait_until(lambda: len(daemon.json_records()) == 1000 * (turn + 1), 20, 'flows')
        daemon.stop()
        files = files_in(directory)
        check('several files', len(files) >= 4, files)
        check('their names', all(NAME.fullmatch(os.path.basename(path)) for path in files), files)
        equal('files that are not complete', parts(directory), [])
        equal('flows', together(directory).flows, sent.flows)
        sums = len(sent.flows), sent.packets(), sent.octets()
        for reader in (dumped, dissected):
            seen = [reader(path) for path in files]
            equal(reader.__name__, tuple(map(sum, zip(*seen))), sums)
            # What is told at the end may begin a file that no flow follows in.
            check('records in every file', all(row[0] for row in seen[:-1]), seen)
        for path in files:
            messages, _ = read_file(path)
            names = [option[0, 83].rstrip(b'\0') for option in messages.options
                     if (0, 83) in option]
            check('interface names in every file', b'm0' in names, names)
            check('statistics in every file',
                  any((0, 167) in option for option in messages.options))


for chosen, way in (('standard', 'no'), ('full', 'no'), ('full', 'yes')):
    tap.add_case('profile %s, biflow %s: each file alone by ipfixDump and tshark, sums equal' % (
        chosen, way), rotated, chosen, way)


@case('rotation by time, by reload, and what is kept')
def rotation():
    with Lab('rotate') as lab:
        a, m = pair(lab)
        directory = lab.path('files')
        base = {'flows': QUICK, 'json': {'file': lab.path('flowmond.json')},
                'ipfix_file': {'directory': directory, 'rotate_interval': '1s'}}
        daemon = Flowmond(m, base)
        sent = Account()
        for turn in range(3):
            ping(sent, a, '10.1.0.1', '10.1.0.2', 2 + turn)
            wait_until(lambda: len(files_in(directory)) == turn + 1, 10, 'a complete file')
        equal('an idle daemon leaves no files', parts(directory), [])
        daemon.reload(merge(base, {'ipfix_file': {'rotate_interval': '1h'}}))
        ping(sent, a, '10.1.0.1', '10.1.0.2', 7)
        wait_until(lambda: parts(directory), 10, 'a file')
        daemon.reload()
        equal('files after a reload', len(files_in(directory)), 4)
        equal('flows', together(directory).flows, sent.flows)
        daemon.reload(merge(base, {'ipfix_file': {'keep_files': '2'}}))
        newest = files_in(directory)[-1]
        ping(sent, a, '10.1.0.1', '10.1.0.2', 1)
        wait_until(lambda: len(files_in(directory)) == 2, 10, 'old files to be removed')
        check('the newest are kept', files_in(directory)[0] == newest, files_in(directory))
        daemon.reload(merge(base, {'ipfix_file': {'keep_octets': '1'}}))
        ping(sent, a, '10.1.0.1', '10.1.0.2', 1)
        wait_until(lambda: not files_in(directory), 10, 'all files to be removed')
        daemon.stop()


@case('killed with SIGKILL: what it left is completed by the next, torn or not')
def killed():
    with Lab('killed') as lab:
        a, m = pair(lab)
        directory = lab.path('files')
        settings = {'flows': QUICK, 'ipfix_file': {'directory': directory}}
        sent = Account()
        for turn, torn in enumerate((False, True)):
            name = 'flowmond%d' % turn
            daemon = Flowmond(m, merge(settings, {'json': {'file': lab.path(name + '.json')}}),
                              name=name)
            flood(a, sent, 500, 500 * turn)
            wait_until(lambda: len(daemon.json_records()) == 500, 20, 'flows')
            daemon.stop(signal.SIGKILL, -signal.SIGKILL)
            path = os.path.join(directory, parts(directory)[0])
            if torn:
                with open(path, 'ab') as file:
                    file.write(bytes([0, 10, 4, 0, 1]))
        last = Flowmond(m, settings, name='last')
        equal('files that are not complete', parts(directory), [])
        equal('files', len(files_in(directory)), 2)
        last.stop()
        equal('flows', together(directory).flows, sent.flows)


@case('a full disk: counted, named, tried again; nothing half written')
def full():
    with Lab('full') as lab:
        a, m = pair(lab)
        directory = lab.path('files')
        os.mkdir(directory)
        m.run('mount', '-t', 'tmpfs', '-o', 'size=64k', 'tmpfs', directory)
        lab.closing.append(lambda: m.run('umount', directory))
        daemon = Flowmond(m, {'flows': QUICK, 'json': {'file': lab.path('flowmond.json')},
                              'ipfix_file': {'directory': directory}})
        sent = Account()
        flood(a, sent, 3000)
        wait_until(lambda: len(daemon.json_records()) == 3000, 20, 'flows')

        def sink():
            return [one for one in daemon.status()['sinks'] if 'ipfix_file' in one['name']][0]
        wait_until(lambda: sink()['records'] + sink()['not_sent_records'] == 3000, 10, 'balance')
        check('some did not go', sink()['not_sent_records'] > 0, sink())
        check('named', 'No space left' in daemon.log(), daemon.log())
        written = together(directory)
        equal('what counts as written', (written.packets(), written.octets()),
              (sink()['packets'], sink()['octets']))
        for path in files_in(directory):
            os.unlink(path)
        before = sink()['records']

        turns = itertools.count(3000)

        def again():
            flood(a, sent, 1, next(turns))
            return sink()['records'] > before
        wait_until(again, 20, 'it to go on')
        daemon.stop()
        equal('json is whole', account(map(json_flow, daemon.json_records())).flows, sent.flows)


if __name__ == '__main__':
    tap.require_root()
    tap.main()
