#!/usr/bin/python3
# SPDX-License-Identifier: Apache-2.0
"""Every setting of --list-settings changed alone by SIGHUP, and back, under load: whatever a reload
replaces, the sums stay those of the wire. A new setting is tried by itself if its values are words;
else this page must say which values to try."""
import os
import subprocess

from lib import tap
from lib.collect import Nfcapd, TcpListener, json_flow
from lib.daemon import FLOWMOND, Flowmond, merge
from lib.load import Load, Network, exact, halves
from lib.tap import Failure, case, check, equal, note

# What to try where the table of settings names no words. {NAME}: see places().
VALUES = {
    'capture interfaces': ['r1*', '!r2, !lo'],
    'flows max': ['16384', '131072'],
    'flows key': ['vlan', 'interface', 'tos', 'vlan, interface, tos'],
    'flows idle_timeout': ['100ms', '10s'],
    'flows active_timeout': ['3s'],
    'flows end_linger': ['0s', '5s'],
    'flows flood_timeout': ['100ms', '5s'],
    'flows sweep_interval': ['20ms', '1s'],
    # All packets are to be counted.
    'filter rule': ['include tcp port (22 or 80) and net 0.0.0.0/0', 'exclude vlan 4001'],
    'filter default': ['include'],
    'collector address': ['{spare}'],
    'collector transport': ['tcp'],
    'collector fields': ['+rttMean +CLIENT_NW_LATENCY_MS -minimumTTL', '-tcpControlBits -vlanId'],
    'collector domain': ['7'],
    'collector message_size': ['512', '9000'],
    'collector template_interval': ['1s'],
    'collector template_messages': ['3', '0'],
    'collector options_interval': ['1s'],
    'collector rate': ['20K', '0'],
    'collector reconnect_interval': ['100ms'],
    'collector enterprise_number': ['4242'],
    'collector resolve_interval': ['1s'],
    'collector association_interval': ['1s'],
    'group members': ['v9, main'],
    'group failover_after': ['0s'],
    'group failback': ['0s'],
    'spool directory': ['{spool}', ''],
    'spool max_octets': ['1M'],
    'spool file_octets': ['64K'],
    'spool sync_interval': ['0s'],
    'spool catch_up_rate': ['1K'],
    'names services': [''],
    'ipfix_file directory': ['{files}'],
    'ipfix_file rotate_interval': ['1s'],
    'ipfix_file rotate_octets': ['64K'],
    'ipfix_file keep_files': ['2'],
    'ipfix_file keep_octets': ['128K'],
    'ipfix_file sync_interval': ['0s'],
    'ipfix_file fields': ['+rttMean -minimumTTL'],
    'ipfix_file domain': ['7'],
    'ipfix_file enterprise_number': ['4242'],
    'audit interval': ['1s'],
    'json file': ['{json}'],
    'json fields': ['+CLIENT_NW_LATENCY_MS -rttMean -vlanId'],
    'text file': ['{text}'],
    'control socket': ['{control}'],
}
# What a reload does not change, what is refused without transport = tls (its own tests have it), and
# what flows are added up by: they are others then (coarse.py).
NOT_HERE = {'bpf pin'} | {'flows ' + name for name in (
    'aggregate', 'prefix4', 'prefix6', 'prefix_file')} | {'collector ' + name for name in (
    'certificate_file', 'key_file', 'ca_file', 'peer_name')}
# One interface at first: "every" counts then what "once" does, so that the sums can be compared.
BASE = {'capture': {'interfaces': 'r1'},
        'flows': {'idle_timeout': '400ms', 'active_timeout': '1s', 'end_linger': '100ms',
                  'sweep_interval': '50ms', 'max': '65536'}}
# Packets (super-packets as one) that come before each reload.
BETWEEN = 1000


def rows():
    """(section, setting, words of its value) of every setting."""
    text = subprocess.run([FLOWMOND, '--list-settings=markdown'], stdout=subprocess.PIPE, text=True,
                          check=True).stdout
    for line in text.splitlines():
        cells = [cell.strip() for cell in line.split('|')[1:-1]]
        if len(cells) == 5 and cells[0] not in ('section', '---'):
            yield cells[0], cells[1], cells[2].replace(' or ', ', ').split(', ')


def plan(only=None):
    """(section, setting, value) of each step."""
    missing = []
    for section, setting, words in rows():
        if section + ' ' + setting in NOT_HERE:
            continue
        values = VALUES.get(section + ' ' + setting)
        if values is None and len(words) > 1:
            values = words
        if values is None:
            missing.append(section + ' ' + setting)
        for value in values or ():
            if not only or only in section + ' ' + setting:
                yield section, setting, value
    if missing:
        raise Failure('tests/e2e/settings.py: no value to try of: ' + '; '.join(missing))


@case('every setting has a value to try')
def complete():
    check('steps', len(list(plan())) > 20, list(plan()))


def each_setting(network):
    lab, r = network.lab, network.r
    main, spare, listener = Nfcapd(r, 9995), Nfcapd(r, 9994), TcpListener(r, 9995)
    v9, tcp = Nfcapd(r, 9993), TcpListener(r, 4739)
    places = {name: lab.path('other.' + name) for name in (
        'json', 'text', 'control', 'spool', 'files')}
    places['spare'] = spare.address()
    base = merge(BASE, {
        'json': {'file': lab.path('flowmond.json')},
        'spool': {'directory': lab.path('spool')},
        'ipfix_file': {'directory': lab.path('files')},
        'collector main': {'address': main.address()},
        'collector v9': {'address': v9.address(), 'protocol': 'v9'},
        # Of one member: it has everything under every policy.
        'group one': {'members': 'v9'},
        'collector tcp': {'address': tcp.address(), 'transport': 'tcp',
                          'reconnect_interval': '100ms'}})
    daemon = Flowmond(r, base)
    load = Load(network, 4)
    steps = list(plan(os.environ.get('FLOWMOND_TEST_SETTING')))
    for section, setting, value in steps:
        place = {'collector': 'collector main', 'group': 'group one'}.get(section, section)
        load.more(BETWEEN)
        daemon.reload(merge(base, {place: {setting: value.format(**places)}}))
        load.more(BETWEEN)
        daemon.reload(base)
    load.more(BETWEEN)
    truth, crafted = load.stop()
    counters = daemon.status()['counters']
    log = daemon.stop()
    note('%d steps, %d packets, %d octets, %d flows' % (
        len(steps), truth.packets(), truth.octets(), len(truth.flows)))
    equal('reloads that were refused', log.count('configuration not changed'), 0)
    check('crafted flows are among them', crafted and all(flow in truth.flows for flow in crafted))
    equal('lost', {name: count['packets'] for name, count in counters.items()
                   if count['class'] == 'LOST' and count['packets']}, {})
    lines = daemon.json_records()
    if os.path.exists(places['json']):
        daemon.json_path = places['json']
        lines += daemon.json_records()
    equal('json', halves(map(json_flow, lines)).flows, truth.flows)
    equal('main collector', halves(main.stop() + spare.stop() + listener.stop()).flows, truth.flows)
    equal('v9', halves(v9.stop()).flows, truth.flows)
    equal('tcp', halves(tcp.stop()).flows, truth.flows)
    for name, collector in (('main', main), ('spare', spare), ('v9', v9)):
        equal('%s: sequence errors, bad packets' % name, collector.sequence_errors(), [0, 0])


@case('each setting changed alone and back under load: sums are the wire\'s at every collector')
def changed_alone():
    exact(each_setting)


if __name__ == '__main__':
    tap.require_root()
    tap.main()
