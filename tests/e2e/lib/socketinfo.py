# SPDX-License-Identifier: Apache-2.0
"""What the kernel itself says of a connection and of a namespace: TCP_INFO, nstat."""
import json
import socket
import struct

# struct tcp_info of linux/tcp.h; options, wscale and the flags behind them are taken apart below.
_LAYOUT = (
    ('B', 'state ca_state retransmits probes backoff options wscale flags'),
    ('I', 'rto ato snd_mss rcv_mss unacked sacked lost retrans fackets last_data_sent last_ack_sent'
          ' last_data_recv last_ack_recv pmtu rcv_ssthresh rtt rttvar snd_ssthresh snd_cwnd advmss'
          ' reordering rcv_rtt rcv_space total_retrans'),
    ('Q', 'pacing_rate max_pacing_rate bytes_acked bytes_received'),
    ('I', 'segs_out segs_in notsent_bytes min_rtt data_segs_in data_segs_out'),
    ('Q', 'delivery_rate busy_time rwnd_limited sndbuf_limited'),
    ('I', 'delivered delivered_ce'),
    ('Q', 'bytes_sent bytes_retrans'),
    ('I', 'dsack_dups reord_seen rcv_ooopack snd_wnd'),
)
_NAMES = [name for _, names in _LAYOUT for name in names.split()]
_FORMAT = '=' + ''.join('%d%s' % (len(names.split()), code) for code, names in _LAYOUT)
_SIZE = struct.calcsize(_FORMAT)


def tcp_info(connection):
    """TCP_INFO of a socket: {'rtt': us, 'min_rtt': us, 'total_retrans': packets, ...}"""
    data = connection.getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, 512)
    if len(data) < _SIZE:
        raise RuntimeError('TCP_INFO has only %d octets' % len(data))
    info = dict(zip(_NAMES, struct.unpack_from(_FORMAT, data)))
    info['snd_wscale'], info['rcv_wscale'] = info['wscale'] & 15, info['wscale'] >> 4
    return info


def nstat(namespace):
    """Counters of the namespace since it exists."""
    return json.loads(namespace.run('nstat', '-asz', '--json'))['kernel']
