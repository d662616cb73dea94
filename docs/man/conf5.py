#!/usr/bin/python3
# SPDX-License-Identifier: Apache-2.0
"""flowmond.conf.5 from what flowmond --list-settings=markdown prints: conf5.py FLOWMOND"""
import subprocess
import sys

HEAD = r'''.\" SPDX-License-Identifier: Apache-2.0
.Dd November 21, 2026
.Dt FLOWMOND.CONF 5
.Os
.Sh NAME
.Nm flowmond.conf
.Nd configuration of flowmond
.Sh DESCRIPTION
The file has sections in brackets and lines
.Ql name = value .
A line that begins with
.Ql #
or
.Ql \&;
is a comment.
Durations are numbers with ms, s, m or h, sizes and counts may have K, M or G, lists have commas,
lists of fields blanks, with + or - before each,
a collector's address is host:port or [v6]:port.
A section
.Bq Cm collector Ar NAME
describes a collector; there may be any number.
A section
.Bq Cm group Ar NAME
makes several of them share the records; one that is in no group gets every record.
Lines have 4096 octets at most.
.Sh SETTINGS'''

# The rows of what a rule can ask for.
TERMS = (
    ('[src | dst | src or dst | src and dst] host ADDRESS',
     'An IPv4 or IPv6 address; without src and dst either of the two.'),
    ('[src | ...] net PREFIX',
     'A prefix such as 192.0.2.0/24 or 2001:db8::/32.'),
    ('[src | ...] net file PATH',
     'Any of the prefixes in a file, one a line, # begins a comment; there may be a million. It is '
     'read with the configuration.'),
    ('[tcp | udp | ...] [src | ...] port PORT',
     'A number or a name of /etc/services, of TCP, UDP, UDP-Lite, SCTP and DCCP.'),
    ('[tcp | udp | ...] [src | ...] portrange FIRST-LAST', 'Ports from one to the other.'),
    ('tcp, udp, sctp, dccp, udplite, gre, esp, ah, [ip | ip6] proto NUMBER', 'The protocol.'),
    ('ip, ip6, icmp, icmp6', 'IPv4, IPv6, ICMP over the one and the other.'),
    ('vlan [NUMBER]', 'The outermost VLAN tag; without a number any but 0.'),
    ('flags LIST',
     'Flags of TCP: all that are named are set, those with ! are not, such as syn,!ack. fin, syn, '
     'rst, psh, ack, urg, ece and cwr.'),
    ('interface PATTERN',
     'The interface where the packet is counted, as in [capture] interfaces, such as eth* or '
     'veth0@NAMESPACE.'),
    ('in, out', 'Whether it came in there or goes out; also inbound, outbound.'),
    ('any', 'Every packet.'),
)

FILTERS = r'''.Sh FILTERS
Each
.Cm rule
of
.Bq filter
is an action and what it holds for; without the latter it holds for every packet.
The first rule that holds for a packet decides:
.Bl -tag -width Ds
.It Cm include
The packet is counted.
.It Cm exclude
It is not; the counter filtered tells of it, and the counts of the rule.
.It Cm sample 1 in Ar N Cm packets
Every
.Ar N Ns th
packet that the rule decides about on a processor is counted; the counter not_sampled tells of the others.
.It Cm sample 1 in Ar N Cm random
One at random of each
.Ar N
packets.
.It Cm sample 1 in Ar N Cm flows
All packets of one conversation in
.Ar N ,
chosen by a hash of its addresses, ports and protocol.
.El
.Pp
Packets and octets of a record are those that were taken; its selectorId and samplingInterval say what to
multiply them by, and options records that come before it say how they were chosen.
There may be 15 samplers that differ.
.Pp
What a rule holds for is said with the words of
.Xr pcap-filter 7 :'''

EXPRESSIONS = r'''.Pp
These are joined by
.Cm and , or
and
.Cm not
(also &&, || and !) and parentheses;
.Cm not
binds first.
Where
.Cm and
meets
.Cm or
without parentheses, or a list follows
.Cm not ,
.Xr pcap-filter 7
has a meaning that few expect: such a rule is refused.
A list takes the words before its first value for all of them:
.Ql port 53 or 80 ,
.Ql not port (53 or 80) .
An IPv6 address ::ffff:a.b.c.d is the IPv4 address.
There may be 255 rules; a rule becomes a clause for each of its
alternatives, of which all rules have 511 at most.
Addresses of a file, and of one list, are no alternatives of each other.
.Bd -literal
[filter]
rule = exclude net 10.0.0.0/8 and port 53
rule = exclude net file /etc/flowmond/prefixes
rule = include src host 192.0.2.1 or dst portrange 6000-6010
rule = exclude udp and interface eth0 and in
rule = sample 1 in 100 packets interface eth1
default = include
.Ed'''

TAIL = r'''.Sh FILES
.Pa /etc/flowmond/flowmond.conf
.Sh EXAMPLES
.Bd -literal
[capture]
interfaces = eth*, !docker0

[collector main]
address = 192.0.2.10:4739
.Ed
.Sh SEE ALSO
.Xr flowmond 8 ,
.Xr pcap-filter 7'''


def escape(text):
    text = text.strip().replace('\\|', '|').replace('\\', '\\e')
    return '\\&' + text if text[:1] in ".'" else text


def main():
    table = subprocess.run([sys.argv[1], '--list-settings=markdown'], check=True, text=True,
                           stdout=subprocess.PIPE).stdout
    rows = [line.strip('| \n').split(' | ') for line in table.splitlines() if line.startswith('|')]
    print(HEAD)
    section = None
    for row in rows[2:]:
        name, key, value, default, text = (escape(cell) for cell in row)
        if name != section:
            if section:
                print('.El')
            section = name
            print('.Ss [%s]' % (name + ' NAME' if name in ('collector', 'group') else name))
            print('.Bl -tag -width Ds')
        print('.It Cm %s' % key)
        print('%s' % text)
        print('Value: %s.' % value)
        if default != '-':
            print('Default: %s.' % default)
    print('.El')
    print(FILTERS)
    print('.Bl -tag -width Ds')
    for words, text in TERMS:
        print('.It Ic %s' % words)
        print(text)
    print('.El')
    print(EXPRESSIONS)
    print(TAIL)


main()
