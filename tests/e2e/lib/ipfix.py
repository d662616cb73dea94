# SPDX-License-Identifier: Apache-2.0
"""IPFIX read octet by octet, and IPFIX files as ipfixDump and tshark read them."""
import ipaddress
import os
import re
import struct
import subprocess

from lib.packets import Account
from lib.tap import Failure

REVERSE = 29305
VARIABLE = 65535  # in place of a length: it stands before each value


class Messages:
    """Messages one after the other, of a file or of datagrams. records: flow records as
    {(pen, element): octets}; options: the same with their template id and domain."""

    def __init__(self):
        self.templates, self.records, self.options, self.headers = {}, [], [], []

    def read(self, data):
        """Takes whole messages; returns what is left."""
        at = 0
        while len(data) - at >= 16:
            version, length, time, sequence, domain = struct.unpack_from('!HHIII', data, at)
            if version != 10 or length < 16 or at + length > len(data):
                break
            sequenced = self._sets(data[at + 16:at + length], domain)
            self.headers.append({'time': time, 'sequence': sequence, 'domain': domain,
                                 'records': sequenced, 'size': length})
            at += length
        return data[at:]

    def _sets(self, data, domain):
        at = sequenced = 0
        while at < len(data):
            number, length = struct.unpack_from('!HH', data, at)
            body = data[at + 4:at + length]
            if number in (2, 3):
                self._template(body, domain, number == 3)
            else:
                sequenced += self._records(body, domain, number)
            at += length
        return sequenced

    def _template(self, body, domain, options):
        number, n = struct.unpack_from('!HH', body)
        at, fields = (6 if options else 4), []
        for _ in range(n):
            element, length = struct.unpack_from('!HH', body, at)
            at, pen = at + 4, 0
            if element & 0x8000:
                pen = struct.unpack_from('!I', body, at)[0]
                at += 4
            fields.append((pen, element & 0x7fff, length))
        self.templates[domain, number] = fields, options

    def _records(self, body, domain, number):
        if (domain, number) not in self.templates:
            raise Failure('no template %d in domain %d' % (number, domain))
        fields, options = self.templates[domain, number]
        size = sum(length if length != VARIABLE else 1 for _, _, length in fields)
        at, n = 0, 0
        while len(body) - at >= size:
            record = {'template': number, 'domain': domain}
            for pen, element, length in fields:
                if length == VARIABLE:
                    length, at = body[at], at + 1
                    if length == 255:
                        raise Failure('a field of 255 octets or more')
                record[pen, element] = body[at:at + length]
                at += length
            (self.options if options else self.records).append(record)
            n += 1
        return n

    def account(self):
        """The sums by flow, of IPFIX flow records."""
        sums = Account()
        for record in self.records:
            sums.add(*flow_of(record), number_of(record, 1), number_of(record, 2))
        return sums


def number_of(record, element, pen=0):
    return int.from_bytes(record[pen, element], 'big')


def flow_of(record):
    ends = [ipaddress.ip_address(record.get((0, four)) or record[0, six])
            for four, six in ((8, 27), (12, 28))]
    code = record.get((0, 32)) or record.get((0, 139))
    ports = (0, int.from_bytes(code, 'big')) if code else (number_of(record, 7),
                                                           number_of(record, 11))
    return (*map(str, ends), *ports, number_of(record, 4))


def read_file(path):
    """(messages, octets behind the last whole one)"""
    messages = Messages()
    with open(path, 'rb') as file:
        rest = messages.read(file.read())
    return messages, len(rest)


def file_records(path):
    """Flow records of a file that is whole, in the form that lib.load.halves takes."""
    messages, rest = read_file(path)
    if rest:
        raise Failure('%d octets behind the last message of %s' % (rest, path))
    for record in messages.records:
        one = {'flow': flow_of(record), 'packets': number_of(record, 2),
               'octets': number_of(record, 1)}
        for name, element in (('rev_packets', 2), ('rev_octets', 1)):
            one[name] = number_of(record, element, REVERSE) if (REVERSE, element) in record else 0
        yield one


def dumped(path):
    """(flow records, packets, octets) of a file, as ipfixDump reads it; it finds no fault."""
    run = subprocess.run(['ipfixDump', '--rfc5610', '--data', '--in', path], timeout=60, text=True,
                         stdout=subprocess.PIPE, stderr=subprocess.PIPE, check=False)
    if run.returncode or run.stderr:
        raise Failure('ipfixDump %s: status %d\n%s' % (path, run.returncode, run.stderr[:2000]))
    # What has a scope is an options record.
    flows = '\n'.join(record for record in run.stdout.split('--- data record ')[1:]
                      if ') (S) ' not in record)
    packets = [int(value) for value in re.findall(r'(?i) packetDeltaCount[^:]*: (\d+)', flows)]
    octets = [int(value) for value in re.findall(r'(?i) octetDeltaCount[^:]*: (\d+)', flows)]
    return len(packets), sum(packets), sum(octets)


def dissected(path):
    """The same, as tshark reads it."""
    run = subprocess.run(['tshark', '-n', '-r', path, '-o', 'cflow.max_template_fields:0', '-T',
                          'fields', '-E', 'occurrence=a', '-E', 'aggregator= ', '-Y',
                          'cflow.od_id != 0', '-e',
                          'cflow.packets', '-e', 'cflow.octets', '-e', 'cflow.protocol'], timeout=120, text=True,
                         stdout=subprocess.PIPE, stderr=subprocess.PIPE, check=False)
    if run.returncode:
        raise Failure('tshark %s: %s' % (path, run.stderr))
    columns = [line.split('\t') for line in run.stdout.splitlines()]
    packets, octets, protocols = ([int(value) for column in columns for value in column[i].split()]
                                  for i in range(3))
    return len(protocols), sum(packets), sum(octets)


def files_in(directory):
    return sorted(os.path.join(directory, name) for name in os.listdir(directory)
                  if name.endswith('.ipfix'))
