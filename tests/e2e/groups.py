#!/usr/bin/python3
# SPDX-License-Identifier: Apache-2.0
"""Groups of collectors: a member dies in the middle and comes back, groups change by reload. What the
members have, and what the status says was not sent, is what went out, in packets and octets; both
directions of a conversation are at one member."""
import json
import signal
import threading
import time

from lib import tap
from lib.collect import Nfcapd, TcpListener, account, json_flow
from lib.daemon import Flowmond
from lib.net import Lab, couple, wait_until
from lib.packets import UDP, Account, ip4, ip6, udp
from lib.tap import case, check, equal, note
from lib.traffic import Injector
from lib.truth import Capture, tshark

FLOWS = {'idle_timeout': '200ms', 'sweep_interval': '50ms', 'max': '16384'}
PORTS = {'one': 4741, 'two': 4742, 'three': 4743}


class Talk:
    """Conversations with packets both ways, under numbers; the account says what went out."""

    def __init__(self, namespace):
        self.account = Account()
        self.inject = Injector(namespace, 'a0', 'm0', self.account)

    def send(self, numbers):
        for number in numbers:
            if number % 3:
                build, ends = ip4, ['10.8.%d.%d' % (number >> 8, number & 255), '10.9.0.1']
            else:
                build, ends = ip6, ['fd08::%x' % number, 'fd09::1']
            ports = [1000 + number % 5, 53]
            for turn in range(3):
                source = turn % 2
                payload = udp(ports[source], ports[1 - source], bytes(number % 90 + turn))
                self.inject.send(build(ends[source], ends[1 - source], UDP, payload),
                                 (ends[source], ends[1 - source], ports[source],
                                  ports[1 - source], UDP))


def conversation(record):
    src, dst, sport, dport, _ = record['flow']
    return tuple(sorted([(src, sport), (dst, dport)]))


class Rig:
    """The daemon with collectors one, two, three in a group, and their processes."""

    def __init__(self, lab, transport, policy, members=('one', 'two', 'three'), far=None,
                 spool='', small=False, **group):
        self.a, self.m = lab.ns('a'), lab.ns('m')
        couple(lab, self.a, 'a0', self.m, 'm0', 1)
        if small:
            self.m.small_buffers()
        if far:  # where the first member is
            couple(lab, far, 'c0', self.m, 'mc', 2)
            self.capture = Capture(far, 'c0')
        self.far = {members[0]: (far, '10.2.0.1')} if far else {}
        self.transport = transport
        self.processes = {}
        self.ended = {name: [] for name in members}  # records of those that were killed
        self.members = members
        for name in members:
            self.begin(name)
        self.settings = {'flows': FLOWS, 'spool': {'directory': spool},
                         'capture': {'interfaces': 'm0'}}
        for name in members:
            self.settings['collector ' + name] = {
                'address': self.processes[name].address(), 'transport': transport,
                'reconnect_interval': '100ms', 'template_interval': '1s'}
        self.settings['group g'] = dict({'members': ', '.join(members), 'policy': policy}, **group)
        self.talk = Talk(self.a)
        self.daemon = Flowmond(self.m, self.settings)
        wait_until(lambda: all(self.member(name)['up'] for name in members), 10, 'all to be up')

    def begin(self, name):
        kind = Nfcapd if self.transport == 'udp' else TcpListener
        namespace, host = self.far.get(name, (self.m, '127.0.0.1'))
        self.processes[name] = kind(namespace, PORTS[name], host)

    def regroup(self, **group):
        """Other settings of the group, by reload."""
        self.settings['group g'].update(group)
        self.daemon.reload(self.settings)

    def member(self, name):
        group = self.daemon.status()['groups'][0]
        return next(entry for entry in group['members'] if entry['collector'] == name)

    def sink(self, name):
        return next(entry for entry in self.daemon.status()['sinks']
                    if entry['name'].startswith('collector %s ' % name))

    def exported(self):
        """Waits until nothing of what went out is in the tables."""
        wait_until(lambda: self.daemon.status()['exported_packets'] ==
                   self.talk.account.packets(), 20, 'everything to be exported')
        equal('octets exported', self.daemon.status()['exported_octets'],
              self.talk.account.octets())

    def given(self):
        return {name: self.member(name)['packets'] for name in self.members}

    def settled(self, *names):
        """Waits until of what these were given nothing waits."""
        for name in names:
            wait_until(lambda name=name: self.member(name)['packets'] == sum(
                self.sink(name)[key] for key in ('packets', 'not_sent_packets')), 20,
                       'what %s was given to be sent: %s' % (name, self.sink(name)))

    def phase(self, numbers, *settled):
        """Sends, and gives back what each member was given of it."""
        before = self.given()
        self.talk.send(numbers)
        self.exported()
        self.settled(*(settled or self.members))
        return {name: packets - before[name] for name, packets in self.given().items()}

    def kill(self, name):
        """Ends a member that has all that it was sent; what it has is kept."""
        process = self.processes[name]
        if self.transport == 'tcp':
            self.read(name)
            process.process.stop(signal.SIGKILL)
            self.ended[name] += self.listened(name)
        else:
            self.ended[name] += process.stop()
        self.processes[name] = None

    def listened(self, name):
        """What a listener has so far; its last line may not be written to the end."""
        text = self.processes[name].process.log()
        lines = map(json.loads, text[:text.rfind('\n') + 1].splitlines())
        return [json_flow(line) for line in lines if 'event' not in line and 'options' not in line]

    def read(self, *names):
        """Waits until listeners have read all that was sent to them."""
        for name in names:
            sent = self.sink(name)['packets'] - packets(self.ended[name])
            wait_until(lambda name=name, sent=sent: packets(self.listened(name)) == sent, 10,
                       name + ' to read')

    def revive(self, name):
        self.begin(name)
        wait_until(lambda: self.member(name)['up'], 30, '%s to be up' % name)

    def finish(self):
        """Ends everything. Records by member, and the status before the end."""
        self.exported()
        self.settled(*self.members)
        status = self.daemon.status()
        self.daemon.stop()
        records = {name: self.ended[name] + (self.processes[name].stop()
                                             if self.processes[name] else [])
                   for name in self.members}
        return records, status


def packets(records):
    return sum(record['packets'] for record in records)


def octets(records):
    return sum(record['octets'] for record in records)


def together(records, numbers):
    """Both directions of each of these conversations are at one member, which is given back."""
    homes = {}
    for name, mine in records.items():
        for record in mine:
            homes.setdefault(conversation(record), {}).setdefault(name, set()).add(record['flow'])
    for key, where in homes.items():
        check('%s is at one member' % (key,), len(where) == 1, where)
        check('%s has both directions' % (key,), len(list(where.values())[0]) == 2, where)
    equal('conversations', len(homes), len(numbers))
    return {key: next(iter(where)) for key, where in homes.items()}


def sums(records, status, sent):
    """What the members have and what was not sent are what went out. What was not sent."""
    missing = {'packets': 0, 'octets': 0}
    for name, mine in records.items():
        sink = next(entry for entry in status['sinks'] if 'collector %s ' % name in entry['name'])
        equal(name + ': packets it has', packets(mine), sink['packets'])
        equal(name + ': octets it has', octets(mine), sink['octets'])
        for key in missing:
            missing[key] += sink['not_sent_' + key]
    everything = [record for mine in records.values() for record in mine]
    equal('packets', packets(everything) + missing['packets'], sent.packets())
    equal('octets', octets(everything) + missing['octets'], sent.octets())
    return missing


@case('copy over TCP: a member dies and comes back: each has everything')
def copy_tcp():
    with Lab('copy') as lab:
        rig = Rig(lab, 'tcp', 'copy', ('one', 'two'))
        first = rig.phase(range(400))
        equal('given to each', first, {'one': 1200, 'two': 1200})
        rig.kill('two')
        wait_until(lambda: not rig.member('two')['up'], 10, 'its end to be noticed')
        rig.phase(range(400, 800), 'one')
        rig.revive('two')
        rig.phase(range(800, 1200))
        sent = rig.talk.account.flows
        records, _ = rig.finish()
        equal('the one that lived', account(records['one']).flows, sent)
        equal('the one that was away', account(records['two']).flows, sent)


@case('balance over TCP: only the conversations of the dead move, and come back; sums are equal')
def balance_tcp():
    with Lab('bal') as lab:
        rig = Rig(lab, 'tcp', 'balance', failover_after='0s', failback='100ms')
        # On a busy machine one connects a moment after the others, and has its part then.
        wait_until(lambda: all(rig.member(name)['chosen'] for name in rig.members), 10,
                   'all to get their parts')
        rig.regroup(failback='1h')
        numbers = range(900)
        seen = {name: 0 for name in rig.members}

        def homes(*alive):
            """Where a phase's conversations are."""
            rig.read(*alive)
            new = {}
            for name in alive:
                mine = rig.listened(name)
                new[name], seen[name] = mine[seen[name]:], len(mine)
            return together(new, numbers)

        rig.phase(numbers)
        first = homes(*rig.members)
        shares = [list(first.values()).count(name) for name in rig.members]
        check('in parts: %s' % shares, min(shares) > 200)
        rig.kill('two')
        wait_until(lambda: not rig.member('two')['chosen'], 10, 'two to lose its part')
        given = rig.phase(numbers, 'one', 'three')
        equal('given to the dead', given['two'], 0)
        second = homes('one', 'three')
        equal('those of the others stay',
              {key: home for key, home in second.items() if first[key] != 'two'},
              {key: home for key, home in first.items() if home != 'two'})
        taken = [second[key] for key in first if first[key] == 'two']
        check('both take over', {'one', 'three'} == set(taken), taken)
        seen['two'] = 0
        rig.revive('two')
        rig.phase(numbers)
        check('not back before failback', not rig.member('two')['chosen'])
        equal('nothing moved', homes(*rig.members), second)
        rig.regroup(failback='100ms')
        wait_until(lambda: rig.member('two')['chosen'], 10, 'two to get its part again')
        rig.phase(numbers)
        equal('all is as it was', homes(*rig.members), first)
        # At once into its death: what it was given waits for it.
        rig.regroup(failover_after='1h')
        rig.kill('two')
        wait_until(lambda: not rig.member('two')['up'], 10, 'its end to be noticed')
        given = rig.phase(numbers, 'one', 'three')
        check('the dead is given its part for an hour', given['two'] > 600, given)
        rig.revive('two')
        sent = rig.talk.account
        records, status = rig.finish()
        equal('not sent', sums(records, status, sent), {'packets': 0, 'octets': 0})
        everything = [record for mine in records.values() for record in mine]
        equal('flows', account(everything).flows, sent.flows)


@case('failover over TCP: away after failover_after, back after failback; sums are equal')
def failover_tcp():
    with Lab('over') as lab:
        rig = Rig(lab, 'tcp', 'failover', failover_after='1h', failback='1h')
        equal('first', rig.phase(range(300)), {'one': 900, 'two': 0, 'three': 0})
        rig.kill('one')
        wait_until(lambda: not rig.member('one')['up'], 10, 'its end to be noticed')
        equal('down for less than an hour', rig.phase(range(300, 600), 'two'),
              {'one': 900, 'two': 0, 'three': 0})
        rig.regroup(failover_after='0s')
        equal('down for long enough', rig.phase(range(600, 900), 'two'),
              {'one': 0, 'two': 900, 'three': 0})
        rig.revive('one')
        equal('up for less than an hour', rig.phase(range(900, 1200)),
              {'one': 0, 'two': 900, 'three': 0})
        rig.kill('two')
        wait_until(lambda: not rig.member('two')['up'], 10, 'its end to be noticed')
        equal('three is preferred to one that was up for a moment only',
              rig.phase(range(1200, 1500), 'one', 'three'), {'one': 0, 'two': 0, 'three': 900})
        rig.regroup(failback='100ms')
        wait_until(lambda: rig.member('one')['chosen'], 10, 'the first to be back')
        equal('back', rig.phase(range(1500, 1800), 'one', 'three'),
              {'one': 900, 'two': 0, 'three': 0})
        rig.revive('two')
        sent = rig.talk.account
        records, status = rig.finish()
        equal('not sent', sums(records, status, sent), {'packets': 0, 'octets': 0})
        everything = [record for mine in records.values() for record in mine]
        equal('flows', account(everything).flows, sent.flows)
        together(records, range(1800))


def over_udp(policy):
    with Lab('udp') as lab:
        rig = Rig(lab, 'udp', policy, failover_after='0s', failback='100ms')
        rig.phase(range(600))
        rig.kill('one')
        # Into its death: what is on its way until the answer is not sent.
        rig.phase(range(600, 1200))
        check('found to be down', not rig.member('one')['up'])
        given = rig.phase(range(1200, 1800))
        equal('given to the dead', given['one'], 0)
        rig.begin('one')
        wait_until(lambda: rig.member('one')['chosen'], 30, 'the first to get its part again')
        given = rig.phase(range(1800, 2400))
        check('it gets its part', given['one'] > 0, given)
        sent = rig.talk.account
        records, status = rig.finish()
        missing = sums(records, status, sent)
        note('%s: %d packets in %d conversations of the dead were not sent' % (
            policy, missing['packets'], missing['packets'] / 3))
        have = account([record for mine in records.values() for record in mine]).flows
        lost = Account()
        for flow, (count, octets_sent) in sent.flows.items():
            if flow not in have:
                lost.flows[flow] = [count, octets_sent]
        equal('what no member has is what was not sent', [lost.packets(), lost.octets()],
              [missing['packets'], missing['octets']])
        whole = {name: [r for r in mine if r['flow'] in have] for name, mine in records.items()}
        homes = {}
        for name, mine in whole.items():
            for record in mine:
                homes.setdefault(conversation(record), set()).add(name)
        equal('conversations at two members', [key for key in homes if len(homes[key]) > 1], [])
        return missing['packets'] > 0


def into_death(policy):
    """Something was on its way to the dead, unless its templates were answered first."""
    check('the answers were noticed', any(over_udp(policy) for _ in range(4)))


@case('balance over UDP: what the dead refused is not sent, to the packet; the rest is at one member')
def balance_udp():
    into_death('balance')


@case('failover over UDP: what the dead refused is not sent, to the packet; the rest is at one member')
def failover_udp():
    into_death('failover')


def spooled(transport):
    with Lab('disk') as lab:
        rig = Rig(lab, transport, 'balance', failover_after='1h', spool=lab.path('spool'))
        rig.phase(range(600))
        rig.kill('one')
        given = rig.phase(range(600, 1200), 'two', 'three')
        check('the dead is given its part', given['one'] > 300, given)
        wait_until(lambda: rig.sink('one')['spooled_packets'] == given['one'], 10,
                   'its part to be on disk')
        rig.regroup(failover_after='0s', failback='100ms')
        wait_until(lambda: not rig.member('one')['chosen'], 10, 'it to lose its part')
        given = rig.phase(range(1200, 1800), 'two', 'three')
        equal('given to the dead', given['one'], 0)
        rig.begin('one')
        wait_until(lambda: rig.member('one')['chosen'], 30, 'it to get its part again')
        rig.phase(range(1800, 2400))
        sent = rig.talk.account
        records, status = rig.finish()
        equal('not sent', sums(records, status, sent), {'packets': 0, 'octets': 0})
        together(records, range(2400))
        everything = [record for mine in records.values() for record in mine]
        equal('flows', account(everything).flows, sent.flows)


@case('balance with a spool, TCP: the part of the dead waits on disk, everything arrives once')
def spooled_tcp():
    spooled('tcp')


@case('balance with a spool, UDP: what the dead refused waits on disk, everything arrives once')
def spooled_udp():
    spooled('udp')


def to_the_dead(path, since):
    """Packets of the records in datagrams that went to one's port after that time."""
    rows = tshark(path, ['frame.time_epoch', 'cflow.od_id', 'cflow.packets'],
                  '-d', 'udp.port==%d,cflow' % PORTS['one'],
                  # answers quote what they are about
                  '-Y', 'udp.dstport==%d && !icmp' % PORTS['one'])
    # Options records have domain 0, and some count packets as well.
    return sum(int(value) for row in rows
               if float(row['frame.time_epoch'][0]) > since and row['cflow.od_id'][:1] == ['1']
               for value in row['cflow.packets'])


def dies_far_away(lab, answers):
    """The first of two dies in another namespace: what the status says, and what the wire shows."""
    far = lab.ns('c')
    rig = Rig(lab, 'udp', 'failover', ('one', 'two'), failover_after='0s', far=far)
    rig.phase(range(300))
    if answers == 'none':
        far.run('nft', 'table inet silent { chain out { type filter hook output priority 0;'
                       ' icmp type destination-unreachable drop; }; }')
    else:
        far.sysctl('net/ipv4/icmp_ratelimit', answers)
    rig.kill('one')
    since = time.time()
    rig.phase(range(300, 1500))
    sent = rig.talk.account
    member, sink = rig.member('one'), rig.sink('one')
    records, _ = rig.finish()
    dead = to_the_dead(rig.capture.stop(), since)
    equal('one and two were given all', member['packets'] + packets(records['two']),
          sent.packets())
    equal('of one: sent and not sent', sink['packets'] + sink['not_sent_packets'],
          member['packets'])
    unknown = sink['packets'] - packets(records['one'])
    equal('on the wire to the dead: not sent, and what nobody told of', dead,
          sink['not_sent_packets'] + unknown)
    note('of %d packets to the dead %d are not sent, of %d nobody told' % (
        dead, sink['not_sent_packets'], unknown))
    return member, sink, unknown


@case('UDP over a network: each datagram answered: what the dead did not get is not sent')
def far_answered():
    with Lab('far') as lab:
        member, sink, unknown = dies_far_away(lab, 0)
        check('found to be down', not member['up'] and not member['chosen'], member)
        check('not sent, or none was given to the dead', sink['not_sent_packets'] > 0 or
              unknown == 0, (sink, unknown))


@case('UDP over a network: answers once a second: one is enough to find out')
def far_limited():
    with Lab('limit') as lab:
        # The one answer may be about templates: then it tells of no record.
        member, _, _ = dies_far_away(lab, 1000)
        check('found to be down', not member['up'] and not member['chosen'], member)


@case('UDP over a network that drops ICMP: nobody can tell, all counts as sent')
def far_silent():
    with Lab('silent') as lab:
        member, sink, unknown = dies_far_away(lab, 'none')
        check('it stays up', member['up'] and member['chosen'], member)
        equal('not sent', sink['not_sent_packets'], 0)
        equal('nobody told', unknown, 3600)


class Load(threading.Thread):
    """Conversations all the time, until left."""

    def __init__(self, talk):
        super().__init__(daemon=True)
        self.talk, self.sent, self.ends = talk, 0, threading.Event()

    def run(self):
        while not self.ends.is_set():
            number = self.sent % 4000
            self.talk.send(range(number, number + 10))
            self.sent += 10
            self.ends.wait(0.001)

    def __enter__(self):
        self.start()
        return self

    def __exit__(self, *error):
        self.ends.set()
        self.join()

    def more(self, conversations):
        aim = self.sent + conversations
        wait_until(lambda: self.sent >= aim, 60, 'traffic')


STEPS = [
    {'policy': 'failover', 'members': 'one, two, three'},
    {'policy': 'balance', 'members': 'three, two, one'},
    {'policy': 'failover', 'members': 'three, one, two'},
    {'policy': 'failover', 'members': 'two, three, one', 'failback': '0s'},
    {'policy': 'balance', 'members': 'one, two, three', 'failover_after': '0s'},
]


@case('groups change by reload under load: nothing is lost or doubled')
def reloads():
    with Lab('regroup') as lab:
        rig = Rig(lab, 'tcp', 'balance')
        with Load(rig.talk) as load:
            for step in STEPS * 4:
                load.more(400)
                rig.regroup(**step)
            load.more(400)
        sent = rig.talk.account
        records, status = rig.finish()
        equal('not sent', sums(records, status, sent), {'packets': 0, 'octets': 0})
        everything = [record for mine in records.values() for record in mine]
        equal('flows', account(everything).flows, sent.flows)
        check('all had a part', all(packets(mine) > 500 for mine in records.values()))


def killed_under_load(policy):
    with Lab('load') as lab:
        rig = Rig(lab, 'tcp', policy, failover_after='50ms', failback='200ms')
        killed = 0
        with Load(rig.talk) as load:
            for _ in range(5):
                load.more(1000)
                rig.processes['one'].process.stop(signal.SIGKILL)
                rig.ended['one'] += rig.listened('one')
                killed += 1
                load.more(1000)
                rig.begin('one')
                wait_until(lambda: rig.member('one')['up'] and rig.member('one')['chosen'], 30,
                           'the first to be back')
        sent = rig.talk.account
        rig.exported()
        rig.settled(*rig.members)
        status = rig.daemon.status()
        given = rig.given()
        equal('given', sum(given.values()), sent.packets())
        records, status = rig.finish()
        sinks = {name: next(s for s in status['sinks'] if 'collector %s ' % name in s['name'])
                 for name in rig.members}
        for name in ('two', 'three'):
            equal(name + ' lived and has what it was sent', packets(records[name]),
                  sinks[name]['packets'])
        equal('not sent', sum(sink['not_sent_packets'] for sink in sinks.values()), 0)
        unread = sinks['one']['packets'] - packets(records['one'])
        note('%s: killed %d times; %d of %d packets were taken and not read' % (
            policy, killed, unread, sent.packets()))
        have = account([record for mine in records.values() for record in mine]).flows
        lost = over = 0
        for flow, (count, _) in sent.flows.items():
            lost += max(0, count - have.get(flow, [0, 0])[0])
            over += max(0, have.get(flow, [0, 0])[0] - count)
        equal('missing: just what the killed one had not read, none twice', [lost, over],
              [unread, 0])


@case('balance: a member is killed again and again under load: given once, none twice')
def balance_load():
    killed_under_load('balance')


@case('failover: a member is killed again and again under load: given once, none twice')
def failover_load():
    killed_under_load('failover')


def stalls(policy, spool):
    """The first member is connected and stops reading: it counts as down, and others take over."""
    with Lab('stall') as lab:
        rig = Rig(lab, 'tcp', policy, failover_after='1h' if spool else '0s', failback='1h',
                  spool=lab.path('spool') if spool else '', small=True)
        rig.phase(range(300))
        rig.read('one')
        one = rig.processes['one'].process
        one.popen.send_signal(signal.SIGSTOP)
        with Load(rig.talk):  # its window has to be full
            wait_until(lambda: rig.sink('one')['stalled'], 60, 'the stalled to be found')
            if spool:
                wait_until(lambda: rig.sink('one')['spool_waiting_octets'], 20, 'the spool')
                rig.regroup(failover_after='0s')
            wait_until(lambda: not rig.member('one')['chosen'], 20, 'the stalled to be left')
        rig.exported()
        member, sink = rig.member('one'), rig.sink('one')
        equal('up, and stalled', [member['up'], sink['stalled']], [False, 1])
        check('the log names it', 'collector one' in rig.daemon.log() and
              ': stalled: ' in rig.daemon.log(), rig.daemon.log())
        equal('given to the stalled', rig.phase(range(300), 'two', 'three')['one'], 0)
        one.popen.send_signal(signal.SIGCONT)
        wait_until(lambda: rig.member('one')['up'], 30, 'the first to read again')
        check('hysteresis: not chosen yet', not rig.member('one')['chosen'])
        equal('stalled no longer', rig.sink('one')['stalled'], 0)
        equal('given to it still', rig.phase(range(300))['one'], 0)
        rig.regroup(failback='100ms')
        wait_until(lambda: rig.member('one')['chosen'], 30, 'the first to get its part again')
        check('it gets its part', rig.phase(range(300))['one'] > 0)
        sent = rig.talk.account
        records, status = rig.finish()
        equal('not sent', sums(records, status, sent), {'packets': 0, 'octets': 0})
        everything = [record for mine in records.values() for record in mine]
        equal('flows', account(everything).flows, sent.flows)


for policy_ in ('failover', 'balance'):
    for spool_ in (False, True):
        tap.add_case('%s%s: a member that is connected and reads nothing is down, and loses '
                     'nothing' % (policy_, ' with a spool' if spool_ else ''), stalls, policy_,
                     spool_)


@case('a restart sends each conversation to the same member')
def restart():
    with Lab('again') as lab:
        rig = Rig(lab, 'tcp', 'balance')
        numbers = range(600)
        rig.phase(numbers)
        rig.daemon.stop()
        rig.daemon = Flowmond(rig.m, rig.settings, name='again')
        wait_until(lambda: all(rig.member(name)['up'] for name in rig.members), 10, 'all up')
        rig.talk.send(numbers)
        rig.daemon.stop()
        records = {name: rig.processes[name].stop() for name in rig.members}
        together(records, numbers)
        equal('flows', account(sum(records.values(), [])).flows, rig.talk.account.flows)


@case('status names groups, members, who is up and chosen, in text too')
def status_text():
    with Lab('status') as lab:
        rig = Rig(lab, 'tcp', 'failover', ('one', 'two'))
        rig.phase(range(10))
        rig.kill('two')
        wait_until(lambda: not rig.member('two')['up'], 10, 'its end to be noticed')
        group = rig.daemon.status()['groups']
        octets_sent = rig.talk.account.octets()
        equal('status', group, [{'name': 'g', 'policy': 'failover', 'members': [
            {'collector': 'one', 'up': True, 'chosen': True, 'records': 20, 'packets': 30,
             'octets': octets_sent},
            {'collector': 'two', 'up': False, 'chosen': False, 'records': 0, 'packets': 0,
             'octets': 0}]}])
        lines = [line.split() for line in rig.daemon.ctl('status').stdout.splitlines()]
        check('one', ['one', 'up', 'chosen', '20', '30', str(octets_sent)] in lines, lines)
        check('two', ['two', 'down', '0', '0', '0'] in lines, lines)
        check('group', any(line[:3] == ['group', 'g', '(failover)'] for line in lines), lines)
        rig.daemon.stop()


if __name__ == '__main__':
    tap.require_root()
    tap.main()
