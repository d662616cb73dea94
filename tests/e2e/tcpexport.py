#!/usr/bin/python3
# SPDX-License-Identifier: Apache-2.0
"""A long connection exported many times: counts of its records add up to the kernel's, extremes and
last values stay those of the whole flow; a collector's records say the same."""
import json
import socket
import threading
import time

from lib import bump, socketinfo, tap
from lib.daemon import Flowmond
from lib.machine import again
from lib.net import Lab, wait_until
from lib.tap import case, check, equal, note

SERVER, CLIENT = 5001, 40001
SECONDS = 5
RATE = 2500000  # octets a second
SO_MAX_PACING_RATE = 47


def drain(listener, done):
    with listener.accept()[0] as connection:
        while connection.recv(65536):
            pass
        done.append(socketinfo.tcp_info(connection))


def transfer(spaces):
    """Data from A to B for some seconds; TCP_INFO of both ends at the end."""
    received = []
    with spaces['b'].socket(socket.AF_INET, socket.SOCK_STREAM) as listener, \
            spaces['a'].socket(socket.AF_INET, socket.SOCK_STREAM) as client:
        listener.bind((spaces['b'].address[4], SERVER))
        listener.listen(1)
        thread = threading.Thread(target=drain, args=(listener, received))
        thread.start()
        client.setsockopt(socket.SOL_SOCKET, SO_MAX_PACING_RATE, RATE)
        client.bind((spaces['a'].address[4], CLIENT))
        client.connect((spaces['b'].address[4], SERVER))
        end = time.monotonic() + SECONDS
        while time.monotonic() < end:
            client.sendall(bytes(65536))
        wait_until(lambda: not socketinfo.tcp_info(client)['unacked'] and
                   not socketinfo.tcp_info(client)['notsent_bytes'], 30, 'acknowledgements')
        sent = socketinfo.tcp_info(client)
        client.shutdown(socket.SHUT_WR)
        thread.join(30)
    return sent, received[0]


def records(path):
    with open(path, encoding='utf-8') as file:
        rows = [json.loads(line) for line in file]
    return sorted((row for row in rows if row.get('destinationTransportPort') == SERVER),
                  key=lambda row: row['flowStartMilliseconds'])


def total(rows, field):
    return sum(row[field] for row in rows)


@case('counts of all records are the kernel\'s')
@again
def test_sums():
    with Lab('tcpx') as lab:
        spaces = bump.straight(lab)
        wire = bump.Bump(spaces['x'], 'x0', 'x1',
                         {'delay': ('ab:5000', 'ba:5000'), 'drop': 'ab:/40'})
        path = lab.path('flows.json')
        flowmond = Flowmond(spaces['a'], {
            'flows': {'active_timeout': '1s', 'sweep_interval': '50ms'},
            'metrics': {'tcp': 'auto'}, 'json': {'file': path}})
        sent, _ = transfer(spaces)
        time.sleep(0.2)
        flowmond.stop()
        wire.stop()
        repeated = socketinfo.nstat(spaces['a'])['TcpRetransSegs']
        rows = records(path)
        check('the flow was exported more than thrice', len(rows) > 3, len(rows))
        check('there were retransmissions', sent['total_retrans'] > 20, sent['total_retrans'])
        # The end of the connection, which carries no octets, may have been sent again as well.
        equal('retransmitted packets', total(rows, 'tcpRetransmittedPackets'), repeated)
        equal('retransmitted octets', total(rows, 'tcpRetransmittedOctets'),
              sent['bytes_retrans'])
        check('more than one record has some',
              sum(row['tcpRetransmittedPackets'] > 0 for row in rows) > 2)
        equal('kinds', {row['tcpRetransmissionSource'] for row in rows
                        if row['tcpRetransmittedPackets']}, {2})
        check('samples in each second', all(row['rttSamples'] for row in rows[:3]),
              [row['rttSamples'] for row in rows])
        lows = [row['rttMin'] for row in rows]
        check('rttMin of the whole flow never grows', lows == sorted(lows, reverse=True), lows)
        check('rttMin is no less than the way', lows[-1] >= 10000, lows)
        if lows[-1] > 1.05 * sent['min_rtt']:
            note('a busy machine: rttMin %d, tcpi_min_rtt %d' % (lows[-1], sent['min_rtt']))
        check('rttMean of each record lies between',
              all(row['rttMin'] <= row['rttMean'] <= row['rttMax'] for row in rows
                  if row['rttSamples']))
        equal('handshake in every record', len({row['tcpHandshakeTime'] for row in rows}), 1)


if __name__ == '__main__':
    tap.main()
