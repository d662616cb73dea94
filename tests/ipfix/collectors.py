#!/usr/bin/python3
# SPDX-License-Identifier: Apache-2.0
"""What real collectors make of our messages: each profile and protocol, options records."""
import re
import struct
import subprocess

from decoders import (ENVIRONMENT, Listener, RECORDS, Sniffer, check_listener,
                      check_nfacctd_twice, check_nfcapd, check_nfcapd_twice, check_tshark,
                      check_tshark_twice, need, own_elements, run_nfcapd, send,
                      without_about)
from lib.tap import add_case, case, check, equal, main


@case('nfdump knows the names of interfaces, from IPFIX and from v9')
def names_in_nfdump():
    need('nfcapd', 'nfdump')
    for options in ['-o'], ['-9', '-o']:
        sent, _, name = run_nfcapd(4, options, RECORDS)
        lines = subprocess.run(['nfdump', '-q', '-r', name, '-o', 'fmt:%in %inam'],
                               stdout=subprocess.PIPE, text=True, env=ENVIRONMENT, timeout=60,
                               check=True).stdout.split('\n')
        seen = {tuple(line.split(None, 1)) for line in lines if re.match(r'\s+[12]\s', line)}
        check('both are used', {1, 2} <= {record['ingressInterface'] for record in sent})
        equal('names', {(number, text.strip()) for number, text in seen},
              {('1', 'lo'), ('2', 'eth0 (a uplink)')})


@case('options records: names of interfaces, statistics, own elements')
def options_records():
    listener = Listener(4)
    send(4, listener.port, ['-t', '-b', '-f', '-o'], 10)
    _, options, _ = listener.stop()
    names = {o['ingressInterface']: o['interfaceDescription'] for o in options
             if 'interfaceDescription' in o}
    equal('names', names, {1: 'lo', 2: 'eth0 (a uplink)'})
    statistics = [o for o in options if 'exportedOctetTotalCount' in o]
    check('one statistics record, under domain 0', len(statistics) == 1 and
          statistics[0]['domain'] == 0 and statistics[0]['observationDomainId'] == 1, statistics)
    keys = ('exportedOctetTotalCount', 'exportedMessageTotalCount', 'exportedFlowRecordTotalCount',
            'observedFlowTotalCount', 'ignoredPacketTotalCount', 'ignoredOctetTotalCount',
            'notSentFlowTotalCount', 'notSentPacketTotalCount', 'notSentOctetTotalCount')
    equal('statistics', [statistics[0][key] for key in keys], list(range(1, 10)))
    equal('own elements', sorted(o['informationElementName'] for o in options
                                 if 'informationElementName' in o),
          own_elements(True))
    devices = [o for o in options if 'interfaceName' in o]
    equal('of an interface', [without_about(o) for o in devices], [{
        'options': True, 'observationDomainId': 1, 'ingressPhysicalInterface': 2,
        'interfaceName': 'eth0', 'interfaceAlias': 'a uplink', 'interfaceNamespace': 'outside',
        'interfaceSpeed': 25000000000, 'interfaceVRFID': 10}])
    equal('a VRF', [(o['ingressVRFID'], o['VRFname']) for o in options if 'VRFname' in o],
          [(10, 'red')])
    equal('an application', [(o['applicationId'], o['applicationName'],
                              o['applicationDescription']) for o in options
                             if 'applicationName' in o], [(3 << 24 | 443, 'https', '443/tcp https')])
    ranges = {o['informationElementName']: (o['informationElementRangeBegin'],
                                            o['informationElementRangeEnd'],
                                            o['informationElementUnits'],
                                            o['informationElementDataType'],
                                            o['informationElementSemantics'])
              for o in options if 'informationElementName' in o}
    # What is absent, all ones, is out of range; a flag octet has no absent.
    equal('types', [ranges[name] for name in ('rttMin', 'tcpZeroWindows', 'tcpMeasurement',
                                              'tunnelType', 'outerSourceIPv4Address',
                                              'outerSourceIPv6Address')],
          [(0, 0xfffffffe, 7, 3, 1), (0, 0xfffe, 0, 2, 3), (0, 0xff, 0, 1, 5),
           (0, 0xff, 0, 1, 4), (0, 0, 0, 18, 0), (0, 0, 0, 19, 0)])


@case('no enterprise element but those of RFC 5103 and, in profile ntop, ntop')
def standard_elements():
    for options, allowed in ([], set()), (['-b'], {29305}), (['-p'], {35632}):
        sniffer = Sniffer()
        send(4, sniffer.port, options, 300)
        sniffer.capture()
        seen = set()
        for message in sniffer.messages:
            if message[16:18] == b'\0\2':
                seen |= enterprises(message)
        equal('enterprises with %s' % options, seen, allowed)


def enterprises(message):
    """Enterprise numbers of the template in a message that holds one."""
    seen, at = set(), 24
    for _ in range(struct.unpack_from('>H', message, 22)[0]):
        element = struct.unpack_from('>H', message, at)[0]
        at += 4
        if element & 0x8000:
            seen.add(struct.unpack_from('>I', message, at)[0])
            at += 4
    equal('length of the template', at, len(message))
    return seen


for version_, options_ in ((4, []), (6, []), (4, ['-b']), (6, ['-f']), (4, ['-f', '-b']),
                           (6, ['-m', '512']), (4, ['-m', '9000']), (4, ['-9']), (6, ['-9']),
                           (4, ['-9', '-u']), (6, ['-9', '-b']), (4, ['-9', '-f']), (4, ['-p']),
                           (6, ['-9', '-p', '-b']), (4, ['-S']), (4, ['-S', '-f', '-b']),
                           (4, ['-9', '-S']),
                           (4, ['-9', '-m', '512']), (4, ['-i', '10', '-r', '10000']),
                           (4, ['-9', '-i', '10', '-o', '-r', '10000']), (4, ['-o']),
                           (6, ['-o', '-i', '10', '-r', '10000', '-f', '-b'])):
    add_case('nfcapd, IPv%d, %s' % (version_, ' '.join(options_) or 'plain'), check_nfcapd,
             version_, options_)
for options_ in [], ['-b'], ['-f'], ['-p', '-b']:
    add_case('nfcapd, IPFIX and v9 tell the same, %s' % (' '.join(options_) or 'plain'),
             check_nfcapd_twice, options_)
for options_ in [], ['-b'], ['-f', '-b'], ['-p', '-b'], ['-S', '-f']:
    add_case('nfacctd, IPFIX and v9 as sent and the same, %s' % (' '.join(options_) or 'plain'),
             check_nfacctd_twice, options_)
    add_case('tshark, IPFIX and v9 as sent and the same, %s' % (' '.join(options_) or 'plain'),
             check_tshark_twice, options_)
for options_ in ['-f'], ['-9', '-u'], ['-m', '512']:
    add_case('tshark, %s' % ' '.join(options_), check_tshark, options_)
for version_, options_ in ((4, []), (6, ['-b']), (4, ['-f']), (6, ['-f', '-b']),
                           (4, ['-m', '65535']), (4, ['-o', '-i', '5']), (4, ['-p']),
                           (4, ['-p', '-b']), (4, ['-f', '-b', '-m', '512']),
                           (4, ['-f', '-S'])):
    add_case('libfixbuf over TCP, IPv%d, %s' % (version_, ' '.join(options_) or 'plain'),
             check_listener, version_, options_)

if __name__ == '__main__':
    main()
