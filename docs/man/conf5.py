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
.Sh SETTINGS'''

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
.Xr flowmond 8'''


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
    print(TAIL)


main()
