#!/usr/bin/python3
# SPDX-License-Identifier: Apache-2.0
"""Collectors that are away longer than memory lasts: what they get in the end is what was sent, to
the packet, once and in order, or it was dropped by name and the collector was told."""
import os
import signal

from lib import tap
from lib.collect import Nfcapd, TcpListener, account
from lib.daemon import Flowmond, merge
from lib.instant import CALLS, impossible, kill_at
from lib.ipfix import dissected, dumped, files_in, read_file
from lib.lives import bpffs
from lib.net import PATIENCE, Lab, couple, wait_until
from lib.packets import UDP, Account, ip4, udp
from lib.tap import case, check, equal
from lib.traffic import Injector
from lib.truth import Capture, tshark

SENT = 'sent'
QUICK = {'idle_timeout': '200ms', 'sweep_interval': '50ms', 'max': '65536'}


class Site:
    """A sender, the daemon's namespace and what was sent, packets of many flows one after another."""

    def __init__(self, lab, **collector):
        self.lab, self.sent, self.flows, self.daemons = lab, Account(), [], 0
        self.a, self.m = lab.ns('a'), lab.ns('m')
        couple(lab, self.a, 'a0', self.m, 'm0', 1)
        self.directory = lab.path('spool')
        self.settings = {'flows': QUICK, 'spool': {'directory': self.directory},
                         'collector main': dict({'address': '127.0.0.1:4739', 'transport': 'tcp',
                                                 'reconnect_interval': '200ms', 'rate': '0'},
                                                **collector)}

    def start(self, *settings):
        self.daemons += 1
        name = 'flowmond%d' % self.daemons
        self.given = 0
        self.daemon = Flowmond(self.m, merge(self.settings, {'json': {
            'file': self.lab.path(name + '.json')}}, *settings), name=name)
        return self.daemon

    def send(self, flows):
        """One packet each of so many flows that were not there before, exported one sweep after
        the other."""
        inject = Injector(self.a, 'a0', 'm0', self.sent)
        for number in range(len(self.flows), len(self.flows) + flows):
            src = '10.%d.%d.%d' % (8 + (number >> 16), number >> 8 & 255, number & 255)
            flow = (src, '10.7.0.1', 1000, 9, UDP)
            inject.send(ip4(src, '10.7.0.1', UDP, udp(1000, 9, bytes(number % 100))), flow)
            self.flows.append(flow)
        inject.close()
        self.given += flows
        wait_until(lambda: self.exported() == self.given, 30, 'flows')

    def exported(self):
        """Whole lines of JSON of flows: one a record."""
        with open(self.daemon.json_path, 'rb') as file:
            return sum(line.endswith(b'\n') and b'"flowEndReason":' in line for line in file)

    def sink(self):
        return [one for one in self.daemon.status()['sinks'] if 'main' in one['name']][0]

    def files(self):
        path = os.path.join(self.directory, 'main')
        return files_in(path) if os.path.isdir(path) else []

    def empty(self):
        wait_until(lambda: self.sink()['spool_waiting_octets'] == 0, 60, 'the spool to be empty')
        equal('files that are left', self.files(), [])


def options_of(listener, field):
    return [line for line in listener.lines() if line.get('options') and field in line]


def numbers(records):
    """The numbers of the flows in the order in which their records came."""
    parts = [[int(part) for part in record['flow'][0].split('.')] for record in records]
    return [(part[1] - 8 << 16) + (part[2] << 8) + part[3] for part in parts]


def in_order(records, step):
    """Flows were sent so many at a time, each lot exported before the next: lots stay in order."""
    lots = [number // step for number in numbers(records)]
    equal('records that came before earlier ones',
          [pair for pair in zip(lots, lots[1:]) if pair[0] > pair[1]], [])


def sums(account_):
    return account_.packets(), account_.octets()


@case('TCP collector away, and back: all of it, in order, and a record that says what was missing')
def tcp_back():
    with Lab('spooltcp') as lab:
        site = Site(lab)
        daemon = site.start({'spool': {'file_octets': '64K'}})
        for _ in range(6):
            site.send(500)
        wait_until(lambda: site.sink()['spooled_records'] == 3000, 10, 'the spool to have it')
        sink = site.sink()
        equal('not sent', sink['not_sent_records'], 0)
        equal('what is in it', (sink['spooled_packets'], sink['spooled_octets']), sums(site.sent))
        check('several files', len(site.files()) > 2, site.files())
        for reader in (dumped, dissected):
            seen = [reader(path) for path in site.files()]
            equal('the files by ' + reader.__name__, tuple(map(sum, zip(*seen))),
                  (3000, *sums(site.sent)))
        listener = TcpListener(site.m)
        site.empty()
        site.send(500)
        wait_until(lambda: site.sink()['records'] == 3500, 10, 'live records')
        gaps = options_of(listener, 'minExportSeconds')
        daemon.stop()
        records = listener.stop()
        equal('flows', account(records).flows, site.sent.flows)
        in_order(records, 500)
        before = Account()
        before.join({flow: site.sent.flows[flow] for flow in site.flows[:3000]})
        equal('gaps', len(gaps), 1)
        equal('what was filled', (gaps[0]['exportedFlowRecordTotalCount'],
                                  gaps[0]['packetTotalCount'], gaps[0]['octetTotalCount']),
              (3000, *sums(before)))
        check('its time', gaps[0]['minExportSeconds'] <= gaps[0]['maxExportSeconds'], gaps)


@case('TCP collector comes and goes under way: nothing missing, nothing twice')
def tcp_again():
    with Lab('spoolagain') as lab:
        site = Site(lab)
        daemon = site.start({'spool': {'catch_up_rate': '2000'}})
        got = []
        for turn in range(4):
            site.send(1500)
            wait_until(lambda: site.sink()['spool_waiting_octets'] > 0, 10, 'the spool')
            listener = TcpListener(site.m)
            seen = site.sink()['records']
            wait_until(lambda: site.sink()['records'] > seen + 200 * turn, 20, 'catching up')
            # Stopped, the peer takes what is in its socket; the connection ends behind a message.
            os.kill(daemon.process.pid, signal.SIGSTOP)
            wait_until(lambda: open('/proc/%d/stat' % daemon.process.pid).read().split()[2] == 'T',
                       5, 'the daemon to stop')
            records = listener.stop()
            os.kill(daemon.process.pid, signal.SIGCONT)
            got.append(records)
            wait_until(lambda: 'cannot send' in daemon.log(), 20, 'the end to be seen')
        listener = TcpListener(site.m)
        site.empty()
        daemon.stop()
        got.append(listener.stop())
        check('catching up was cut short', all(got), [len(records) for records in got])
        everything = sum(got, [])
        equal('flows', account(everything).flows, site.sent.flows)
        equal('records', len(everything), len(site.flows))
        in_order(everything, 1500)


@case('UDP collector killed and started again: what it got before and after is what was sent')
def udp_back():
    with Lab('spooludp') as lab:
        site = Site(lab, address='127.0.0.1:9995', transport='udp')
        first = Nfcapd(site.m)
        capture = Capture(site.m, 'lo', 'icmp or udp port 9995')
        daemon = site.start()
        site.send(400)
        wait_until(lambda: site.sink()['records'] >= 380, 10, 'the first to have it')
        seen = first.stop()
        os.rename(first.dir, first.dir + '-first')
        for _ in range(5):
            site.send(400)
        wait_until(lambda: site.sink()['spooled_records'] > 0, 10, 'the spool to have it')
        second = Nfcapd(site.m)
        site.empty()
        site.send(400)
        daemon.stop()
        later = second.stop()
        both = account(seen)
        both.join(account(later).flows)
        # Handed to the dead port: each was answered, so that none of them counts as sent.
        rows = list(tshark(capture.stop(), ['ip.proto', 'icmp.type', 'icmp.code']))
        answered = sum(row['icmp.type'] == ['3'] and row['icmp.code'] == ['3'] for row in rows)
        check('the port was found to be dead', answered > 0, answered)
        equal('flows', both.flows, site.sent.flows)
        equal('records', len(seen) + len(later), len(site.flows))
        in_order(later, 400)
        # Templates that ask whether it is back have the number of what comes next there.
        equal('sequence errors, bad packets', second.sequence_errors(), [0, 0])


@case('UDP: every message is sent, spooled, or was handed to the dead port unanswered')
def udp_messages():
    with Lab('spoolmsg') as lab:
        site = Site(lab, address='127.0.0.1:9995', transport='udp')
        capture = Capture(site.m, 'lo', 'icmp or udp port 9995')
        daemon = site.start()
        for _ in range(3):
            site.send(300)
        wait_until(lambda: site.sink()['spooled_records'] == 900, 10, 'the spool to have it')
        sink = site.sink()
        daemon.stop()
        rows = list(tshark(capture.stop(), ['icmp.type']))
        answered = sum(row['icmp.type'] == ['3'] for row in rows)
        equal('datagrams that nobody answered', len(rows) - 2 * answered, 0)
        equal('records that count as sent', sink['records'], 0)
        waiting = [read_file(path)[0] for path in site.files()]
        equal('records in the files', sum(len(one.records) for one in waiting), 900)


@case('more than the limit: the oldest is dropped, counted, and the collector is told')
def overflow():
    with Lab('spoolover') as lab:
        site = Site(lab, options_interval='1s')
        daemon = site.start({'spool': {'max_octets': '256K', 'file_octets': '64K'}})
        for _ in range(10):
            site.send(2000)
        wait_until(lambda: site.sink()['spooled_records'] == 20000, 20, 'the spool to have it')
        check('bounded', sum(map(os.path.getsize, site.files())) <= 256 << 10)
        listener = TcpListener(site.m)
        site.empty()
        sink = site.sink()
        dropped = {'records': sink['spool_dropped_records'],
                   'packets': sink['spool_dropped_packets'],
                   'octets': sink['spool_dropped_octets']}
        check('some was dropped', dropped['records'] > 5000, dropped)
        for name in dropped:
            equal('not sent ' + name, sink['not_sent_' + name], dropped[name])
        wait_until(lambda: [line for line in options_of(listener, 'notSentFlowTotalCount')
                            if line['notSentFlowTotalCount'] == dropped['records'] and
                            line['notSentPacketTotalCount'] == dropped['packets'] and
                            line['notSentOctetTotalCount'] == dropped['octets']], 10,
                   'the collector to be told')
        log = daemon.stop()
        records = listener.stop()
        equal('received and dropped', (len(records) + dropped['records'],
                                       account(records).packets() + dropped['packets'],
                                       account(records).octets() + dropped['octets']),
              (len(site.flows), *sums(site.sent)))
        lots = sorted(number // 2000 for number in numbers(records))
        check('the newest are there', lots[-1] == 9 and lots.count(9) == 2000 and
              lots[0] >= dropped['records'] // 2000, lots[0])
        in_order(records, 2000)
        check('the log says so', 'dropped from the spool' in log, log[-2000:])


@case('a full disk: the oldest is dropped and counted')
def full_disk():
    with Lab('spoolfull') as lab:
        site = Site(lab)
        os.mkdir(site.directory)
        site.m.run('mount', '-t', 'tmpfs', '-o', 'size=512k', 'tmpfs', site.directory)
        lab.closing.append(lambda: site.m.run('umount', site.directory))
        daemon = site.start({'spool': {'file_octets': '64K'}})
        for _ in range(10):
            site.send(2000)
        wait_until(lambda: site.sink()['spooled_records'] == 20000, 20, 'the spool to have it')
        listener = TcpListener(site.m)
        site.empty()
        dropped = site.sink()['spool_dropped_records']
        equal('not sent', site.sink()['not_sent_records'], dropped)
        daemon.stop()
        records = listener.stop()
        check('some was dropped', dropped > 5000, dropped)
        equal('received and dropped', len(records) + dropped, len(site.flows))


def cut_last(path):
    """Takes octets off the last message; how many records it had."""
    messages, _ = read_file(path)
    with open(path, 'r+b') as file:
        file.truncate(os.path.getsize(path) - 5)
    return len(messages.records) - len(read_file(path)[0].records)


def end(daemon, how):
    """By a signal, or when a call has just sent something and nobody noted it."""
    if how == SENT:
        check('it came there', kill_at(daemon, 'after', CALLS['sendmmsg'], 3, 0))
    else:
        daemon.stop(how, 0 if how == signal.SIGTERM else -how)


def restarted(how):
    with Lab('spoolend') as lab:
        site = Site(lab)
        site.settings['bpf'] = {'pin': os.path.join(bpffs(lab), 'flowmond')}
        daemon = site.start()
        for _ in range(4):
            site.send(1000)
        wait_until(lambda: site.sink()['spooled_records'] == 4000, 10, 'the spool to have it')
        listener = None
        for turn in range(4):
            # Away at first, then in the middle of catching up.
            end(daemon, signal.SIGKILL if how == SENT and turn == 0 else how)
            check('the spool is kept', site.files())
            listener = listener or TcpListener(site.m)
            before = len([line for line in listener.lines() if 'template' in line])
            # Slowly: something must be left to be sent.
            daemon = site.start({'spool': {'catch_up_rate': str(400 // PATIENCE)}})
            wait_until(lambda: len([line for line in listener.lines()
                                    if 'template' in line]) > before + 300, 20, 'catching up')
        end(daemon, signal.SIGKILL if how == SENT else how)
        daemon = site.start()
        site.empty()
        daemon.stop()
        got = listener.stop()
        equal('records', len(got), len(site.flows))
        equal('flows and packets', account(got).flows, site.sent.flows)


for signal_ in (signal.SIGTERM, signal.SIGKILL):
    tap.add_case('daemon ended by %s with a filled spool: the next one goes on, nothing lost or twice' %
                 signal_.name, restarted, signal_)


@case('daemon killed when it has just sent from the spool: nothing lost or twice', impossible)
def sent_and_killed():
    restarted(SENT)


@case('a torn file costs its last message')
def torn():
    with Lab('spooltorn') as lab:
        site = Site(lab)
        daemon = site.start()
        for _ in range(3):
            site.send(700)
        wait_until(lambda: site.sink()['spooled_records'] == 2100, 10, 'the spool to have it')
        daemon.stop(signal.SIGKILL, -signal.SIGKILL)
        missing = cut_last(site.files()[-1])
        with open(os.path.join(site.directory, 'main', '%020d.ipfix' % 0), 'wb') as file:
            file.write(b'this is no message')
        listener = TcpListener(site.m)
        daemon = site.start()
        site.empty()
        torn_octets = site.sink()['spool_torn_octets']
        daemon.stop()
        records = listener.stop()
        check('the last message had records', missing > 0, missing)
        equal('records', len(records), 2100 - missing)
        check('the octets of what was torn are told', torn_octets > 18, torn_octets)


@case('left by another configuration: templates of the same ids are told apart')
def foreign():
    with Lab('spoolforeign') as lab:
        site = Site(lab, profile='full', message_size='8K')
        daemon = site.start()
        site.send(1000)
        wait_until(lambda: site.sink()['spooled_records'] == 1000, 10, 'the spool to have it')
        daemon.stop()
        listener = TcpListener(site.m)
        daemon = site.start({'collector main': {'enterprise_number': '70000', 'domain': '1'},
                             'spool': {'catch_up_rate': '400'}})
        site.send(300)  # these wait behind it
        site.empty()
        site.send(300)
        wait_until(lambda: site.sink()['records'] == 1600, 10, 'live records')
        daemon.stop()
        records = listener.stop()
        equal('flows', account(records).flows, site.sent.flows)
        equal('what waited comes first', set(numbers(records)[:1000]), set(range(1000)))


@case('no directory for it: named, and memory serves as before')
def no_directory():
    with Lab('spoolno') as lab:
        site = Site(lab, spool='yes')
        daemon = site.start({'spool': {'directory': '/proc/nowhere/deep'}})
        site.send(500)
        wait_until(lambda: 'cannot use the spool' in daemon.log(), 10, 'it to be named')
        listener = TcpListener(site.m)
        wait_until(lambda: site.sink()['records'] == 500, 20, 'what was in memory')
        daemon.stop()
        equal('flows', account(listener.stop()).flows, site.sent.flows)


@case('reload with a filled spool: it goes on')
def reloaded():
    with Lab('spoolload') as lab:
        site = Site(lab)
        daemon = site.start()
        site.send(1000)
        wait_until(lambda: site.sink()['spooled_records'] == 1000, 10, 'the spool to have it')
        daemon.reload(merge(site.settings, {'json': {'file': lab.path('flowmond1.json')},
                                            'spool': {'max_octets': '2M'}}))
        site.send(500)
        listener = TcpListener(site.m)
        wait_until(lambda: len([line for line in listener.lines() if 'flowDirection' in line]) ==
                   1500, 20, 'all of it')
        daemon.stop()
        equal('flows', account(listener.stop()).flows, site.sent.flows)


def replaced(transport):
    """The sink is another one each time, and the spool the next one's as soon as the last is closed."""
    with Lab('spoolmore') as lab:
        kind, port = (Nfcapd, 9995) if transport == 'udp' else (TcpListener, 4739)
        site = Site(lab, address='127.0.0.1:%d' % port, transport=transport)
        daemon, json = site.start(), {'json': {'file': lab.path('flowmond1.json')}}
        site.send(300)
        wait_until(lambda: site.sink()['spooled_records'] == 300, 10, 'the spool to have it')
        for biflow in ('yes', 'no', 'yes', 'no'):
            daemon.reload(merge(site.settings, json, {'flows': {'biflow': biflow}}))
            site.send(300)
        check('nothing is given up', 'not sent in all' not in daemon.log(), daemon.log())
        collector = kind(site.m, port)
        site.empty()
        site.send(300)
        wait_until(lambda: site.sink()['records'] >= 1500 + 280, 20, 'live records')
        # Over UDP the last one waits for what the port may answer.
        wait_until(lambda: site.sink()['waiting_messages'] <= 1, 10, 'nothing to wait')
        daemon.stop()
        records = collector.stop()
        equal('flows', account(records).flows, site.sent.flows)
        in_order(records, 300)
        if transport == 'udp':
            equal('sequence errors, bad packets', collector.sequence_errors(), [0, 0])


for transport_ in ('tcp', 'udp'):
    tap.add_case('reloads that replace the sink of an absent collector over %s: all of it waits' %
                 transport_, replaced, transport_)


@case('killed while a UDP collector is away, again and again: no step in the sequence when it is back')
def udp_restarted():
    with Lab('spoolkill') as lab:
        site = Site(lab, address='127.0.0.1:9995', transport='udp')
        site.settings.update({'bpf': {'pin': os.path.join(bpffs(lab), 'flowmond')},
                              'audit': {'interval': '1s'}})
        for _ in range(3):
            daemon = site.start()
            site.send(400)
            daemon.stop(signal.SIGKILL, -signal.SIGKILL)
        daemon = site.start()
        wait_until(lambda: 'cannot send' in daemon.log(), 10, 'it to be known to be away')
        collector = Nfcapd(site.m)
        site.empty()
        site.send(400)
        daemon.stop()
        records = collector.stop()
        equal('flows', account(records).flows, site.sent.flows)
        in_order(records, 400)
        equal('sequence errors, bad packets', collector.sequence_errors(), [0, 0])


@case('killed while a UDP collector is caught up, again and again: no step in its sequence')
def udp_killed_under_way():
    with Lab('spoolstep') as lab:
        site = Site(lab, address='127.0.0.1:9995', transport='udp')
        site.settings['bpf'] = {'pin': os.path.join(bpffs(lab), 'flowmond')}
        # Templates that later processes do not have themselves: read again, with what comes behind.
        daemon = site.start({'flows': {'biflow': 'yes'}})
        for _ in range(4):
            site.send(1000)
        wait_until(lambda: site.sink()['spooled_records'] >= 3900, 10, 'the spool to have it')
        collector = Nfcapd(site.m)
        for _ in range(4):
            daemon.stop(signal.SIGKILL, -signal.SIGKILL)
            daemon = site.start({'spool': {'catch_up_rate': '300'}})
            had = site.sink()['records']
            wait_until(lambda: site.sink()['records'] > had + 200, 20, 'catching up')
        daemon.stop(signal.SIGKILL, -signal.SIGKILL)
        daemon = site.start()
        site.empty()
        daemon.stop()
        equal('flows', account(collector.stop()).flows, site.sent.flows)
        equal('sequence errors, bad packets', collector.sequence_errors(), [0, 0])


@case('killed before a TCP collector that is away got anything: the next one\'s files can be read')
def tcp_restarted():
    with Lab('spooltcpkill') as lab:
        site = Site(lab)
        site.settings['bpf'] = {'pin': os.path.join(bpffs(lab), 'flowmond')}
        daemon = site.start({'spool': {'directory': ''}})
        site.send(500)
        daemon.stop(signal.SIGKILL, -signal.SIGKILL)
        daemon = site.start()
        wait_until(lambda: site.sink()['spooled_records'] == 500, 20, 'the spool to have it')
        equal('records in the files', sum(dumped(path)[0] for path in site.files()), 500)
        listener = TcpListener(site.m)
        site.empty()
        daemon.stop()
        equal('flows', account(listener.stop()).flows, site.sent.flows)


if __name__ == '__main__':
    tap.require_root()
    tap.main()
