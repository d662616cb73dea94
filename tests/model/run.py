#!/usr/bin/python3
# SPDX-License-Identifier: Apache-2.0
"""Random sequences of packets, times and sweeps: the programs and the sweep must make the flow
records that the model expects, and count what it counts. A sequence that fails is made as small as
it can be and printed.

run.py [--sequences N] [--seed N]: the seed of a failure gives the same sequences again.
"""
import argparse
import json
import os
import random
import subprocess
import sys
import time

sys.path.insert(0, os.path.join(os.path.dirname(os.path.realpath(__file__)), '..', 'e2e'))
import flows  # noqa: E402 pylint: disable=wrong-import-position
from lib import packets as wire  # noqa: E402 pylint: disable=wrong-import-position

DRIVER = os.path.join(os.environ.get('FLOWMOND_BUILD', 'build'), 'tests', 'model', 'model-driver')
OPTIONS = ('max_flows', 'key_vlan', 'key_interface', 'key_tos', 'observe_every', 'tcp', 'tunnel')
# The table: one home and 32 places a CPU; one window of the sweep; several.
SIZES = (1, 1, 64, 64, 6000)
SHRINK_RUNS = 500
SHRINK_SECONDS = 20
FAILURES_MAX = 3
CLOCKS_NS = 1_000_000  # two readings of a clock differ by less
# Of a record that nobody expected.
SHOWN = ('record', 'biflow', 'src_ip4', 'src_ip6', 'dst_ip4', 'dst_ip6', 'src_port', 'dst_port',
         'protocol', 'packets', 'octets', 'end_reason', 'start_ns', 'end_ns')
FAILED, PASSED = 1, 0


class Died(Exception):
    """The driver gave up."""


class Driver:
    """The program under test, with one set of options."""

    def __init__(self, config):
        self.config, self.process = config, None
        self.start()

    def start(self):
        self.stop()
        self.process = subprocess.Popen([DRIVER, *(str(self.config[name]) for name in OPTIONS)],
                                        stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        self.ready = self.answer()

    def stop(self):
        if self.process:
            self.process.stdin.close()
            self.process.wait()
            self.process.stdout.close()
        self.process = None

    def answer(self):
        line = self.process.stdout.readline()
        answer = json.loads(line) if line else {'error': 'ended with %s' % self.process.wait()}
        if 'error' in answer:
            raise Died(answer['error'])
        return answer

    def run(self, lines):
        """What came of the lines: answers by line number, and the counters."""
        if not self.process:
            self.start()
        found = {}
        try:
            self.process.stdin.write('\n'.join(lines) + '\nE\n')
            self.process.stdin.flush()
            while True:
                answer = self.answer()
                if 'end' in answer:
                    return found, answer
                number = next(answer[what] for what in ('record', 'biflow', 'placeless')
                              if what in answer)
                found.setdefault(number, []).append(answer)
        except (Died, OSError):
            self.process.kill()
            self.process.wait()
            self.process = None
            raise


def lines_of(config, name, event):
    """An event as the driver reads it."""
    if name == 'begin':
        return ['B %d %d %d %d %d' % (*event['timeouts'], event['now_ns'])]
    if name == 'clock':
        return ['C %d' % event['ns']]
    if name == 'timeouts':
        return ['T %d %d %d %d' % event['timeouts']]
    if name == 'sweep':
        return ['S %d %d' % (event.get('room', 0), event.get('recheck', 0))]
    if name == 'drain':
        return ['D %d' % event.get('room', 0)]
    if name == 'packet':
        reading, packet = flows.Reading(config, event['packet']), event['packet']
        return ['C %d' % flows.STEP_NS, 'P %d %d %d %d %d 0 %d %d %d %s' % (
            event['cpu'], event['hook'], event['ifindex'], event['ingress'], packet.get('gso', 0),
            0x81000000 | packet['tag'] if packet.get('tag') else 0, event.get('times', 1),
            reading.padding, reading.frame.hex())]
    return {'finish': ['F'], 'ring_read': ['R']}[name]


def differs(expected, seen):
    """Names of what is otherwise than expected."""
    result = []
    for name, value in expected.items():
        got = seen.get(name)
        if name in ('start_ns', 'end_ns') and isinstance(value, dict):
            good = value['from'] - CLOCKS_NS <= got <= value['to'] + CLOCKS_NS
            if name == 'end_ns':
                good = good or value['from_tick'] - CLOCKS_NS <= got <= \
                    value['to_tick'] + CLOCKS_NS or got == seen['start_ns']
        elif isinstance(value, set):
            good = got in value
        else:
            good = got == value
        if not good:
            result.append('%s: expected %s, seen %s' % (name, value, got))
    return result


def compare_records(expected, answers):
    """Every expected record is there, and no other. Returns complaints."""
    left = list(answers)
    complaints = []
    for what, record in expected:
        same = [answer for answer in left if what in answer]
        found = next((answer for answer in same if not differs(record, answer)), None)
        if found:
            left.remove(found)
            continue
        nearest = min(same, key=lambda answer: len(differs(record, answer)), default=None)
        if nearest is None:
            complaints.append('missing: %s %s' % (what, record))
        else:
            left.remove(nearest)
            complaints.append('%s %s: %s' % (what, record, '; '.join(differs(record, nearest))))
    return complaints + ['too much: ' + ', '.join(
        '%s %s' % (name, value) for name, value in answer.items() if name in SHOWN)
                         for answer in left]


class Sums:
    """Of all sequences: what kind of things happened, so that a run shows what it covered."""

    def __init__(self):
        self.kinds = {}

    def count(self, kind, n=1):
        self.kinds[kind] = self.kinds.get(kind, 0) + n


def check(driver, events, sums=None, make=flows.Model):
    """Runs the events in program and model. Returns complaints."""
    config, ready = driver.config, driver.ready
    lines, at = [], []
    for name, event in events:
        lines += lines_of(config, name, event)
        at.append(len(lines))
    try:
        found, end = driver.run(lines)
    except Died as error:
        return [str(error)]
    model = make(config, ready['tick_ns'], ready['cpus'])
    complaints, coarse, of_sweep = [], [0, 0], ([], [])
    for (name, event), number in zip(events, at):
        answers = found.pop(number, [])
        if name == 'packet':
            placeless = next((answer for answer in answers if 'placeless' in answer), None)
            try:
                model.packet(event, placeless)
            except AssertionError as error:
                complaints.append('%s: %s' % (event, error))
            continue
        for answer in [answer for answer in answers if answer['aggregation']]:
            coarse[0] += answer['packets']
            coarse[1] += answer['octets']
            if answer['end_reason'] != flows.RESOURCES:
                complaints.append('an aggregate ends by %d' % answer['end_reason'])
            answers.remove(answer)
        expected = getattr(model, name)(event) or []
        if name == 'sweep':  # where it stops for a grace period is its own business
            of_sweep = expected, answers
            continue
        if name == 'finish':
            expected, answers = of_sweep[0] + expected, of_sweep[1] + answers
        complaints += ['%s: %s' % (name, text) for text in compare_records(expected, answers)]
        for what, record in expected if sums else ():
            sums.count('%s, reason %d' % (what, record['end_reason']))
    complaints += ['line %d: nothing expected: %s' % item for item in found.items()]
    for name, entry in end.items():
        if name not in ('end', 'live', 'not_measured') and \
                entry != model.counters.get(name, [0, 0]):
            complaints.append('counter %s: expected %s, seen %s' % (
                name, model.counters.get(name, [0, 0]), entry))
    if coarse != model.coarse:
        complaints.append('aggregates: expected %s, seen %s' % (model.coarse, coarse))
    if end['live']:
        complaints.append('%d slots are left' % end['live'])
    if sums:
        sums.count('sequences')
        for name, entry in model.counters.items():
            sums.count(name, entry[0])
    return complaints


# --- sequences ---

class Maker:
    """Makes one sequence."""

    def __init__(self, rng, config, ready):
        self.rng, self.config, self.ready = rng, config, ready
        self.tick_ns = ready['tick_ns']
        self.talks = [self.talk(number) for number in range(self.crowd())]
        self.idle, self.active, self.linger, self.brief = self.times()

    def chance(self, n):
        return self.rng.randrange(n) == 0

    def crowd(self):
        if self.config['max_flows'] == 1 and self.chance(2):
            return self.rng.randrange(30, 70)
        return self.rng.choice((1, 1, 2, 3, 5, 8))

    def times(self):
        idle = self.rng.choice((1, 2, 5, 30, 1000))
        active = self.rng.choice((1, 3, 20, 100, 100000))
        linger = self.rng.choice((0, 1, 2, 10))
        return idle, active, linger, self.rng.choice((0, 0, 0, 1, 3))

    def talk(self, number):
        """A conversation: what both directions have in common."""
        rng = self.rng
        family = rng.choice((4, 4, 6))
        protocol = rng.choice((wire.TCP, wire.TCP, wire.TCP, wire.UDP, wire.UDP, wire.SCTP,
                               wire.UDPLITE, 0, wire.ICMP if family == 4 else wire.ICMP6))
        ends = ['10.0.%d.%d' % (number % 3, 1 + rng.randrange(4)) for _ in 'ab'] if family == 4 \
            else ['2001:db8::%x:%x' % (number % 3, 1 + rng.randrange(4)) for _ in 'ab']
        talk = {'family': family, 'protocol': protocol or 99, 'ends': ends,
                'ports': [rng.choice((53, 443, 1000 + number)), 20000 + number],
                'ifindexes': rng.choice(((2, 0), (2, 3), (3, 2), (4, 2), (0, 4), (0, 2))),
                'tags': rng.choice(((), (), (), (100,), (100, 200))),
                'tag': rng.choice((0, 0, 0, 0x2000 | 300))}
        if self.chance(3):
            outer = rng.choice((('192.0.2.1', '192.0.2.2'), ('2001:db8:1::1', '2001:db8:1::2')))
            talk['tunnel'] = (rng.choice(('vxlan', 'gre', 'ip')), 1 + rng.randrange(3), outer)
        return talk

    def header(self, talk, back):
        rng, packet = self.rng, {'family': talk['family'], 'protocol': talk['protocol']}
        packet['src'], packet['dst'] = talk['ends'][::-1] if back else talk['ends']
        if talk['protocol'] in (wire.ICMP, wire.ICMP6):
            kinds = list(flows.ANSWERS[talk['family']]) + [3]
            asked = (8, 0) if talk['family'] == 4 else (128, 129)
            packet['kind'] = rng.choice(kinds) if self.chance(3) else asked[back]
            packet['code'] = rng.choice((0, 0, 0, 1))
        elif talk['protocol'] != 99:
            packet['sport'], packet['dport'] = talk['ports'][::-1] if back else talk['ports']
        for name in ('tags', 'tag'):
            if talk[name]:
                packet[name] = talk[name]
        return packet

    def transport(self, packet):
        rng = self.rng
        if packet['protocol'] == wire.TCP:
            packet['flags'] = rng.choice((wire.SYN, wire.SYN | wire.ACK, wire.ACK, wire.ACK,
                                          wire.PSH | wire.ACK, wire.FIN | wire.ACK,
                                          wire.FIN | wire.ACK, wire.RST))
        if packet['protocol'] == wire.SCTP and self.chance(4):
            packet['chunk'] = rng.choice((6, 14))

    def rare(self, packet, talk, back):
        """What most packets have not. One of these that exclude each other."""
        rng = self.rng
        what = rng.choice(('fragment', 'gso', 'options', 'lies', 'junk', 'pad', 'tunnel', 'tunnel',
                           'tags'))
        if what == 'fragment' and packet['protocol'] != 99:
            first = self.chance(2)
            packet['fragment'] = (rng.randrange(3), 0 if first else 1480, 1 if first else
                                  rng.randrange(2))
            packet['payload'] = rng.choice((8, 1000))
        elif what == 'gso' and packet['protocol'] in (wire.TCP, wire.UDP):
            packet['payload'] = rng.choice((100, 1000, 3000))
            packet['gso'] = rng.choice((1, 100, 1448))
        elif what == 'options':
            packet['options'] = rng.choice((1, 2, 10)) if packet['family'] == 4 else 1
        elif what == 'lies':
            packet['lies'] = rng.choice((1, 1000))
        elif what == 'junk':
            packet['junk'] = rng.choice(('not_ip', 'malformed'))
        elif what == 'pad':
            packet['pad'], packet['payload'] = 1, 0
        elif what == 'tags':
            packet['tags'] = rng.choice(((7,), (7, 8)))
        elif what == 'tunnel' and 'tunnel' in talk:
            kind, number, ends = talk['tunnel']
            packet['tunnel'] = (kind, number, *(ends[::-1] if back else ends))

    def packet(self, talk, back):
        rng, packet = self.rng, self.header(talk, back)
        self.transport(packet)
        packet['payload'] = rng.choice((0, 1, 100, 1400))
        for name, values, odds in (('ttl', (1, 63, 255), 3), ('tos', (4, 0xb8), 4), ('df', (1,), 3),
                                   ('label', (1, 0xfffff), 3)):
            if self.chance(odds):
                packet[name] = rng.choice(values)
        if self.chance(3):
            self.rare(packet, talk, back)
        return {name: value for name, value in packet.items() if value or name in (
            'kind', 'sport', 'dport')}

    def pass_hooks(self, talk):
        """A packet on its way through this host: at one hook or two."""
        rng = self.rng
        back = rng.randrange(2)
        packet = self.packet(talk, back)
        entry, leave = talk['ifindexes'][::-1] if back else talk['ifindexes']
        event = {'cpu': rng.choice(self.ready['cpus']), 'packet': packet}
        if self.chance(6):
            event['times'] = rng.choice((2, 3, 50))
        if entry:
            yield 'packet', dict(event, hook=0, ifindex=entry, ingress=0)
        if leave and not (entry and self.chance(8)):
            if self.chance(3):
                event['cpu'] = rng.choice(self.ready['cpus'])
            yield 'packet', dict(event, hook=1, ifindex=leave, ingress=entry)

    def clock(self):
        """Often the moment at which something is due, or the tick before."""
        rng = self.rng
        ticks = rng.choice((self.idle, self.active, self.linger, self.brief, rng.randrange(50)))
        ticks = max(0, ticks + rng.choice((-1, 0, 0, 1)))
        return 'clock', {'ns': ticks * self.tick_ns + rng.choice((0, 0, self.tick_ns // 3))}

    def sweep(self):
        rng = self.rng
        event = {'room': rng.choice((0, 0, 0, 2, 3))}
        if self.chance(8):
            self.idle, self.active, self.linger, self.brief = self.times()
            yield 'timeouts', {'timeouts': (self.idle, self.active, self.linger, self.brief)}
            event['recheck'] = 1
        yield 'sweep', event
        if not event['room']:
            for _ in range(rng.choice((0, 0, 1, 3))):
                yield from self.pass_hooks(rng.choice(self.talks))
        yield 'finish', {}

    def fill(self):
        """So many packets of a flow that has no place that the ring has none either."""
        event = next(self.pass_hooks(self.talks[-1]))[1]
        event['packet'].pop('gso', None)
        yield 'packet', dict(event, times=9000)

    def events(self):
        rng = self.rng
        wrap = rng.choice((0, 0, rng.randrange(1 << 32), -rng.randrange(60)))
        tick = (rng.randrange(1, 200) << 32) + wrap
        yield 'begin', {'timeouts': (self.idle, self.active, self.linger, self.brief),
                        'now_ns': tick * self.tick_ns + rng.randrange(self.tick_ns)}
        if len(self.talks) > 8:
            for talk in self.talks:
                yield from self.pass_hooks(talk)
        for _ in range(rng.choice((3, 10, 25, 40))):
            step = rng.randrange(10)
            if step < 5:
                yield from self.pass_hooks(rng.choice(self.talks))
            elif step < 7:
                yield self.clock()
            elif step < 9:
                yield from self.sweep()
            else:
                yield 'ring_read', {}
        if len(self.talks) > 40 and self.chance(4):
            yield from self.fill()
        yield from end_of(rng.choice((0, 2)))


def end_of(room):
    return [('ring_read', {}), ('drain', {'room': room})]


# --- failures ---

def simpler(event):
    """The same event with one thing less, each."""
    name, what = event
    if name == 'packet':
        packet = what['packet']
        for part in ('times',):
            if part in what:
                yield name, {key: value for key, value in what.items() if key != part}
        for part in ('tunnel', 'fragment', 'gso', 'options', 'lies', 'junk', 'pad', 'tags', 'tag',
                     'ttl', 'tos', 'df', 'label', 'chunk', 'flags', 'payload', 'code'):
            if part in packet:
                less = {key: value for key, value in packet.items() if key != part}
                yield name, dict(what, packet=less)
    if name == 'sweep':
        for part in ('room', 'recheck'):
            if what.get(part):
                yield name, {key: value for key, value in what.items() if key != part}


def sound(events):
    """Whether every sweep that begins ends, and nothing else goes on meanwhile."""
    open_sweep = False
    for name, _ in events:
        if open_sweep and name not in ('packet', 'finish'):
            return False
        if name == 'finish' and not open_sweep:
            return False
        open_sweep = name == 'sweep' or (open_sweep and name != 'finish')
    return not open_sweep


def sweeps(events):
    """Where each begins and ends."""
    at = [number for number, (name, _) in enumerate(events) if name in ('sweep', 'finish')]
    return zip(at[::2], at[1::2])


def shrink(driver, events, make=flows.Model):
    """A sequence that fails as well, from which nothing can be left out."""
    runs, last_moment = 0, time.monotonic() + SHRINK_SECONDS

    def fails(candidate):
        nonlocal runs
        runs = runs + 1 if time.monotonic() < last_moment else SHRINK_RUNS + 1
        return runs <= SHRINK_RUNS and sound(candidate) and \
            bool(check(driver, candidate, make=make))

    first, middle, last = events[:1], events[1:-2], events[-2:]
    size, before = max(1, len(middle) // 2), None
    while size and runs < SHRINK_RUNS:
        at = 0
        while at + size <= len(middle):
            less = middle[:at] + middle[at + size:]
            if fails(first + less + last):
                middle = less
            else:
                at += 1 if size < 3 else size
        size = size // 2 if size != 3 else 2
        for begin, end in sweeps(middle) if size == 1 else ():
            less = middle[:begin] + middle[begin + 1:end] + middle[end + 1:]
            if fails(first + less + last):
                middle = less
                break
        if not size and middle != before:  # what one lets go may let go others
            size, before = min(2, len(middle)), middle
    changed = True
    while changed and runs < SHRINK_RUNS:
        changed = False
        for at, event in enumerate(middle):
            for candidate in simpler(event):
                less = middle[:at] + [candidate] + middle[at + 1:]
                if fails(first + less + last):
                    middle, changed = less, True
                    break
    return first + middle + last


def report(driver, events, complaints, seed):
    print('# seed %d, options %s' % (seed, driver.config))
    less = shrink(driver, events)
    complaints = check(driver, less) or complaints
    print('# %d events, made smaller: %d' % (len(events), len(less)))
    for event in less:
        print('#   %s %s' % event)
    for complaint in complaints[:8]:
        print('# ' + complaint)


def configs(rng, n):
    """Options to run with; the first ones have each size."""
    for i in range(n):
        yield {'max_flows': SIZES[i % len(SIZES)], 'key_vlan': rng.randrange(2),
               'key_interface': rng.randrange(2), 'key_tos': rng.randrange(2),
               'observe_every': int(rng.randrange(4) == 0), 'tcp': rng.randrange(2),
               'tunnel': rng.randrange(3)}


def run_all(config, rng, n, sums):
    """n sequences with one set of options. Returns how many failed; stops when that is enough."""
    driver, failed = Driver(config), 0
    for _ in range(n):
        seed = rng.getrandbits(48)
        events = list(Maker(random.Random(seed), config, driver.ready).events())
        complaints = check(driver, events, sums)
        if complaints:
            failed += 1
            report(driver, events, complaints, seed)
        if failed == FAILURES_MAX:
            break
    driver.stop()
    return failed


class Late(flows.Model):
    """Expects idle conversations a tick later than they are due."""

    def timeouts(self, event):
        super().timeouts(event)
        self.idle += 1


def notices(rng):
    """Whether a model that is wrong is found out, and what shows it is small."""
    driver = Driver(dict.fromkeys(OPTIONS, 0) | {'max_flows': 64})
    for _ in range(500):
        events = list(Maker(random.Random(rng.getrandbits(48)), driver.config,
                            driver.ready).events())
        if check(driver, events, make=Late):
            break
    less = shrink(driver, events, Late)
    found = bool(check(driver, less, make=Late))
    driver.stop()
    # Begin, timeouts, a packet or two, the clock, a sweep and its end, the ring, the rest.
    small = len(less) <= 12
    if not found or not small:
        print('# %d events: %s' % (len(less), less))
    return found and small


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument('--sequences', type=int, default=2000)
    parser.add_argument('--configs', type=int, default=10)
    parser.add_argument('--seed', type=int, default=time.time_ns() & 0xffffffffffff)
    args = parser.parse_args()
    if os.geteuid() != 0:
        print('1..0 # SKIP needs root')
        return PASSED
    print('# seed %d' % args.seed, flush=True)
    rng, bad = random.Random(args.seed), 0
    for number, config in enumerate(configs(rng, args.configs), 1):
        if bad >= FAILURES_MAX:
            print('ok %d # SKIP enough has failed' % number)
            continue
        sums = Sums()
        failed = run_all(config, rng, args.sequences // args.configs, sums)
        bad += failed
        print('%sok %d - %s' % ('not ' if failed else '', number, ', '.join(
            '%s %d' % item for item in config.items())))
        print('# ' + ', '.join('%s: %d' % item for item in sorted(sums.kinds.items())), flush=True)
    good = notices(rng)
    print('%sok %d - a model that is wrong is found out by a few events' % (
        '' if good else 'not ', args.configs + 1))
    print('1..%d' % (args.configs + 1))
    return FAILED if bad or not good else PASSED


if __name__ == '__main__':
    sys.exit(main())
