#!/usr/bin/python3
# SPDX-License-Identifier: Apache-2.0
"""Lists of fields and profiles that change under load, by reload and from one process to the next:
every collector has the wire's sums, sequences go on, and each connection brings the fields that its
list asks for.

FLOWMOND_TEST_SEED: of the lists. FLOWMOND_TEST_ROUNDS: how often they change."""
import os
import random

from lib import tap
from lib.daemon import merge
from lib.lives import Lives
from lib.load import exact
from lib.net import wait_until
from lib.tap import case, check, equal, note

SEED = int(os.environ.get('FLOWMOND_TEST_SEED', '1'))
ROUNDS = int(os.environ.get('FLOWMOND_TEST_ROUNDS', '8'))
# Packets (super-packets as one) between two changes.
BETWEEN = 2000
# Those that all records can have, those that few have, and those of both that v9 has.
EVERY = ('flowStartNanoseconds', 'ipDiffServCodePoint', 'flowmondFlowAggregation')
SOME = ('rttMean', 'rttMin', 'tcpHandshakeTime', 'CLIENT_NW_LATENCY_MS', 'TCP_WIN_MAX_IN',
        'tunnelType', 'reverseRttMean')
NINE = ('ipDiffServCodePoint', 'CLIENT_NW_LATENCY_MS', 'TCP_WIN_MAX_IN')
OUT = ('minimumTTL', 'maximumTTL', 'vlanId', 'dot1qCustomerVlanId', 'fragmentFlags',
       'minimumIpTotalLength', 'maximumIpTotalLength', 'ipClassOfService')


class Lists:
    """Profiles and lists at random, no two after each other the same."""

    def __init__(self, rng):
        self.random, self.last = rng, {}

    def one(self, sink, added):
        while True:
            words = ['+' + name for name in added if self.random.random() < 0.4]
            words += ['-' + name for name in OUT if self.random.random() < 0.4]
            self.random.shuffle(words)
            if set(words) != set(self.last.get(sink, ())):
                break
        self.last[sink] = words
        # In lines of some each.
        lines = [' '.join(words[at:at + 5]) for at in range(0, len(words), 5)]
        return {'profile': self.random.choice(('standard', 'ntop', 'full')),
                'fields': '\nfields = '.join(lines)}

    def next(self, *more):
        sinks = {name: self.one(name, EVERY + SOME) for name in (
            'json', 'ipfix_file', 'collector udp', *more)}
        return {**sinks, 'collector v9': self.one('collector v9', NINE)}


@case('%d lists for each sink by reload under load: nothing lost, sequences go on' % ROUNDS)
def by_reload():
    exact(reloads)


def reloads(network):
    lives, lists = Lives(network, {}, SEED), Lists(random.Random(SEED))
    wait_until(lambda: sent_records(lives, 'collector tcp'), 20, 'first records')
    asked = [[]]
    for _ in range(ROUNDS):
        lives.daemon.reload(merge(lives.settings, lists.next('collector tcp')))
        asked.append(lists.last['collector tcp'])
        lives.load.more(BETWEEN)
        wait_until(lambda: sent_records(lives, 'collector tcp'), 20, 'records of the list')
    lives.finish()
    of_connection(lives, asked)
    of_json(lives)


def sent_records(lives, name):
    return sum(sink['records'] for sink in lives.status()['sinks'] if name in sink['name'])


def of_connection(lives, asked):
    """What the libfixbuf listener found in records of each connection."""
    lines = [line for line in lives.collectors.tcp.lines() if 'packetDeltaCount' in line
             and 'options' not in line]
    equal('connections', {line['connection'] for line in lines}, set(range(1, len(asked) + 1)))
    for number, words in enumerate(asked, 1):
        records = [line for line in lines if line['connection'] == number]
        check('records of connection %d' % number, records)
        for word in words:
            having = sum(word[1:] in record for record in records)
            if word[0] == '-':
                equal('records with %s under %s' % (word, words), having, 0)
            elif word[1:] in EVERY:
                equal('records with %s under %s' % (word, words), having, len(records))
    note('%d records over %d connections' % (len(lines), len(asked)))


def of_json(lives):
    """The json file has records of many forms, each with the fields in the order of the table."""
    records = lives.daemon.json_records()
    forms = {tuple(record) for record in records}
    check('forms of records', len(forms) > ROUNDS, len(forms))
    places = {}
    for form in forms:
        for before, behind in zip(form, form[1:]):
            places.setdefault(before, set()).add(behind)
    turned = [(a, b) for a, following in places.items() for b in following
              if a in places.get(b, ())]
    equal('fields in two orders', turned, [])


@case('killed and followed by a process with other lists, %d times: nothing lost' % ROUNDS)
def by_kill():
    exact(kills)


def kills(network):
    # What waits for a connection under another list is counted: that has its own test (store.py).
    lives, lists = Lives(network, {}, SEED), Lists(random.Random(SEED + 1))
    for _ in range(ROUNDS):
        lives.some(BETWEEN)
        lives.end('kill')
        lives.daemon.write(merge(lives.settings, lists.next()))
        lives.start()
        lives.ready()
    lives.some(BETWEEN)
    lives.finish()


if __name__ == '__main__':
    tap.require_root()
    tap.main()
