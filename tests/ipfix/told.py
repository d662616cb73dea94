# SPDX-License-Identifier: Apache-2.0
"""Every element of a record as nfacctd and tshark decode it, in the words of the sender."""
import collections
import datetime
import ipaddress
import os
import re
import xml.etree.ElementTree

Field = collections.namedtuple('Field', 'kind pen number v9 wire')

SOURCE = os.path.join(os.path.dirname(os.path.realpath(__file__)), '..', '..', 'src', 'ipfix')
REVERSE = 29305
# The sender's own enterprise number.
OWN = 32473
NTP_EPOCH = 2208988800
TIMES = ('flowStartMilliseconds', 'flowEndMilliseconds', 'flowStartNanoseconds')
# As many elements does nfacctd 1.7.7 take as primitives; with more it does not start.
PRIMITIVES = 60

# What tshark calls the elements of fields.def that it knows.
TSHARK = {
    'octetDeltaCount': 'octets',
    'packetDeltaCount': 'packets',
    'postOctetDeltaCount': 'post_octets',
    'postPacketDeltaCount': 'post_packets',
    'flowStartMilliseconds': 'abstimestart',
    'flowEndMilliseconds': 'abstimeend',
    'flowStartNanoseconds': 'abstimestart',
    'sourceIPv4Address': 'srcaddr',
    'destinationIPv4Address': 'dstaddr',
    'sourceIPv6Address': 'srcaddrv6',
    'destinationIPv6Address': 'dstaddrv6',
    'sourceTransportPort': 'srcport',
    'destinationTransportPort': 'dstport',
    'icmpTypeCodeIPv4': 'icmp_type_code_ipv4',
    'ingressInterface': 'inputint',
    'egressInterface': 'outputint',
    'protocolIdentifier': 'protocol',
    'tcpControlBits': 'tcpflags',
    'ipClassOfService': 'tos',
    'flowDirection': 'direction',
    'biflowDirection': 'biflow_direction',
    'flowEndReason': 'flow_end_reason',
    'minimumTTL': 'ttl_min',
    'maximumTTL': 'ttl_max',
    'fragmentFlags': 'ip_fragment_flags',
    'minimumIpTotalLength': 'length_min',
    'maximumIpTotalLength': 'length_max',
    'vlanId': 'vlanid',
    'dot1qCustomerVlanId': 'dot1q_customer_vlan_id',
    'ipDiffServCodePoint': 'ip_dscp',
    'flowLabelIPv6': 'ipv6flowlabel',
    'mplsTopLabelStackSection': 'MPLS-Label1',
    'mplsLabelStackSection2': 'MPLS-Label2',
    'mplsLabelStackSection3': 'MPLS-Label3',
    'layer2SegmentId': 'layer2_segment_id',
    'selectorId': 'selector_id', 'samplingInterval': 'sampling_interval',
    'selectorAlgorithm': 'selector_algorithm',
    'applicationId': 'appl_id',
    'ingressVRFID': 'ingress_vrfid',
    'egressVRFID': 'egress_vrfid',
}
# Where the protocols have other elements for one.
TSHARK_V9 = {
    'icmpTypeCodeIPv6': 'icmp_type_code_ipv4',
    'reverseOctetDeltaCount': 'post_octets',
    'reversePacketDeltaCount': 'post_packets',
}
TSHARK_IPFIX = {
    'icmpTypeCodeIPv6': 'icmp_ipv6',
    'reverseOctetDeltaCount': 'octets reverse',
    'reversePacketDeltaCount': 'packets reverse',
}
TUNNEL = '%s tunnel identifier (e.g. GTP TEID, VXLAN VNI) or 0 if unknown'
# ntop's elements in the words of nProbe's manual, in which the directions of OOORDER are not those that
# nProbe and ntopng count by.
NTOP = {
    'RETRANSMITTED_IN_PKTS': 'Number of retransmitted TCP flow packets (src->dst)',
    'RETRANSMITTED_OUT_PKTS': 'Number of retransmitted TCP flow packets (dst->src)',
    'RETRANSMITTED_IN_BYTES': 'Number of retransmitted TCP flow (src->dst)',
    'RETRANSMITTED_OUT_BYTES': 'Number of retransmitted TCP flow (dst->src)',
    'OOORDER_IN_PKTS': 'Number of out of order TCP flow packets (dst->src)',
    'OOORDER_OUT_PKTS': 'Number of out of order TCP flow packets (src->dst)',
    'CLIENT_NW_LATENCY_MS': 'Network RTT/2 client <-> nprobe',
    'SERVER_NW_LATENCY_MS': 'Network RTT/2 nprobe <-> server',
    'APPL_LATENCY_MS': 'Application latency',
    'TCP_WIN_MIN_IN': 'Min TCP Window (src->dst)',
    'TCP_WIN_MAX_IN': 'Max TCP Window (src->dst)',
    'TCP_WIN_MSS_IN': 'TCP Max Segment Size (src->dst)',
    'TCP_WIN_SCALE_IN': 'TCP Window Scale (src->dst)',
    'TCP_WIN_MIN_OUT': 'Min TCP Window (dst->src)',
    'TCP_WIN_MAX_OUT': 'Max TCP Window (dst->src)',
    'TCP_WIN_MSS_OUT': 'TCP Max Segment Size (dst->src)',
    'TCP_WIN_SCALE_OUT': 'TCP Window Scale (dst->src)',
    'UPSTREAM_TUNNEL_ID': TUNNEL % 'Upstream',
    'DOWNSTREAM_TUNNEL_ID': TUNNEL % 'Downstream',
    'UNTUNNELED_PROTOCOL': 'Untunneled IP protocol byte',
    'UNTUNNELED_IPV4_SRC_ADDR': 'Untunneled IPv4 source address',
    'UNTUNNELED_IPV4_DST_ADDR': 'Untunneled IPv4 destination address',
    'UNTUNNELED_IPV6_SRC_ADDR': 'Untunneled IPv6 source address',
    'UNTUNNELED_IPV6_DST_ADDR': 'Untunneled IPv6 destination address',
}


def _read_fields():
    with open(os.path.join(SOURCE, 'fields.def'), encoding='utf-8') as file:
        rows = re.findall(r'^FM_FIELD\([^"]* (\w+), "(\w+)", (\w+), (\d+), (\d+), (\d+),',
                          file.read(), re.M)
    return {name: Field(kind, int(pen.replace('FM_PEN_OWN', str(OWN))), int(number), int(v9),
                        int(wire))
            for kind, name, pen, number, v9, wire in rows}


FIELDS = _read_fields()


def source_of(record):
    """What tells records apart: every sent one has a source of its own."""
    return str(ipaddress.ip_address(record.get('sourceIPv4Address') or
                                    record['sourceIPv6Address']))


def as_carried(record):
    """A sent record as far as the wire has it: the fraction of a second in 2^-32."""
    record = dict(record)
    if 'flowStartNanoseconds' in record:
        seconds, rest = divmod(record['flowStartNanoseconds'], 10**9)
        record['flowStartNanoseconds'] = seconds * 10**9 + (((rest << 32) // 10**9 * 10**9) >> 32)
    return record


def _value(field, number):
    """A number that a collector shows: absent is all ones, of a label 0; an application is two."""
    if field.kind == 'APP':
        return '%d:%d' % (number >> 24, number & 0xffffff)
    if field.kind == 'OPT' and number == (1 << 8 * field.wire) - 1:
        return None
    if field.kind == 'LABEL' and number == 0:
        return None
    return number


# nfacctd

def not_in_nfacctd(names, v9):
    """Own elements whose number another enterprise has in the same template: it finds elements by their
    number, and of several the first."""
    reverse = {FIELDS[name].number for name in names if FIELDS[name].pen == REVERSE}
    return {name for name in names
            if not v9 and FIELDS[name].pen == OWN and FIELDS[name].number in reverse}


def primitives(names, v9):
    """nfacctd's words for these elements, each under its own name in small letters."""
    text = ''
    for name in names:
        field = FIELDS[name]
        number = field.v9 if v9 else field.number
        enterprise = '%d:' % field.pen if field.pen and not v9 else ''
        semantics = {'IP4': 'ip', 'IP6': 'ip', 'LABEL': 'raw'}.get(field.kind, 'u_int')
        text += 'name=%s field_type=%s%d len=%d semantics=%s\n' % (
            name.lower(), enterprise, number, field.wire, semantics)
    return text


def from_primitives(row, names):
    """These elements of a row of nfacctd's table."""
    record = {}
    for name in names:
        field, text = FIELDS[name], row[name.lower()]
        if field.kind in ('IP4', 'IP6'):
            record[name] = str(ipaddress.ip_address(text))
        elif field.kind == 'LABEL':
            section = int(text.replace('-', ''), 16)
            record[name] = section >> 4 if section else None
        elif field.kind == 'NTP':
            seconds, rest = divmod(int(text), 1 << 32)
            record[name] = (seconds - NTP_EPOCH) * 10**9 + ((rest * 10**9) >> 32)
        else:
            record[name] = _value(field, int(text))
    return record


# tshark

def _nanoseconds(text):
    """'Nov 21, 2026 18:05:45.884403353 UTC'"""
    moment, rest = re.match(r'(.*)\.(\d{9}) UTC$', text).groups()
    since = datetime.datetime.strptime(moment, '%b %d, %Y %H:%M:%S') - datetime.datetime(1970, 1, 1)
    return (since.days * 86400 + since.seconds) * 10**9 + int(rest)


def _told(node):
    """What tshark tells in the place of one element or two: (its name, value) of each."""
    name, said, show = (node.get(key, '') for key in ('name', 'showname', 'show'))
    name = name[6:] if name.startswith('cflow.') else name
    if name == 'timedelta':
        return [pair for child in node for pair in _told(child)]
    if name in ('abstimestart', 'abstimeend'):
        return [(name, _nanoseconds(show))]
    if name in ('timestart', 'timeend'):  # by sysUptime
        return [('abs' + name, int(show.replace('.', '')))]
    if show.startswith('MPLS-Label'):
        label = node.find("field[@name='cflow.mpls_label']")
        return [(show.partition(':')[0], int(label.get('show')))]
    if name in ('enterprise_private_entry', 'unknown_field_type'):
        return [(re.search(r'Type (\d+)', said)[1], int(node.get('value'), 16))]
    if name.startswith('pie.'):
        name = said.partition(': ')[0]
    if '(Reverse' in said:
        name += ' reverse'
    if name == 'appl_id.classification_engine_id':
        return [('appl_id', int(show) << 24)]
    if name == 'icmp_ipv6_type':
        return [('icmp_ipv6', int(show) << 8)]
    address = re.match(r'[0-9]+\.|[0-9a-f]*:', show)
    return [(name, str(ipaddress.ip_address(show)) if address else int(show, 0))]


def _flow(node):
    pairs = []
    for child in node:
        if child.get('hide') == 'yes':
            continue
        # The second half of an element.
        if child.get('name') in ('cflow.icmp_ipv6_code', 'cflow.appl_id.selector_id'):
            pairs[-1] = (pairs[-1][0], pairs[-1][1] | int(child.get('value'), 16))
        else:
            pairs += _told(child)
    return pairs


def flows_of(pdml):
    """(name, value) pairs of each data record in the order of its template, by the record's source."""
    flows = {}
    for node in xml.etree.ElementTree.fromstring(pdml).iter('field'):
        if re.match(r'Flow \d+$', node.get('show', '')):
            source = [child for child in node
                      if child.get('name') in ('cflow.srcaddr', 'cflow.srcaddrv6')]
            if source:
                flows[str(ipaddress.ip_address(source[0].get('show')))] = _flow(node)
    return flows


def _name_in_tshark(name, v9):
    field = FIELDS[name]
    if name in NTOP:
        return NTOP[name]
    named = dict(TSHARK, **(TSHARK_V9 if v9 else TSHARK_IPFIX)).get(name)
    return named or str(field.v9 if v9 else field.number)


def from_tshark(pairs, record, v9):
    """The pairs as a record with the elements of a sent one; what has another name is left under it."""
    pairs, result = list(pairs), {}
    if 'flowStartNanoseconds' in record:  # it waits for an end to show a duration, and comes last
        pairs.insert(list(record).index('flowStartNanoseconds'), pairs.pop())
    for name, (said, value) in zip(record, pairs):
        field = FIELDS[name]
        if said != _name_in_tshark(name, v9):
            result[said] = value
            continue
        if field.kind == 'MSEC':
            value //= 10**6
        if field.kind in ('IP4', 'IP6'):  # a number where it does not know the element
            value = str(ipaddress.ip_address(value))
        result[name] = _value(field, value) if isinstance(value, int) else value
    for said, value in pairs[len(record):]:
        result[said] = value
    return result
