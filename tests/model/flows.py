# SPDX-License-Identifier: Apache-2.0
"""What flow records come of packets: the promises in plain words, without a line of the program.

A sequence is a list of events, tuples of a name and a dictionary. Model.run(events) gives, by event,
the records that are expected of it; a value that is not told (which of two CPUs was later within a
tick) is a set of those that may be. Times are nanoseconds; a tick has tick_ns of them.
"""
import ipaddress

from lib import packets as wire

IDLE, ACTIVE, ENDED, FORCED, RESOURCES = 1, 2, 3, 4, 5
PLACES = 32
RING = 7700  # packets that it has room for at least; a quarter is for connections under way
STEP_NS = 1000  # the clock goes on by itself before each packet
# Devices whose packets count when they come in.
SEEN = (2, 3)
ANSWERS = {4: {0: 8, 8: 0, 13: 14, 14: 13, 15: 16, 16: 15, 17: 18, 18: 17, 42: 43, 43: 42},
           6: {128: 129, 129: 128, 160: 161, 161: 160}}
TUNNEL_TYPES = {'vxlan': 1, 'gre': 3, 'ip': 5}
IPIP, IP6IP = 5, 6


class Reading:
    """A packet as it is on the wire, and what is told of it: both from one description.

    family, src, dst, protocol; sport, dport, flags (TCP), kind, code (ICMP), chunk (SCTP); payload:
    octets; ttl, tos, label; df, fragment: (identification, offset, more); tags in the frame, tag
    beside it; gso: segment size; options: octets of IPv4 options or an IPv6 header of options;
    lies: octets that the IP header states beyond what is there; tunnel: (kind, id, outer source,
    outer destination); junk: 'not_ip' or 'malformed'.
    """

    def __init__(self, config, packet):
        self.packet, self.family = packet, packet['family']
        self.outer_family = self.family
        self.notes, self.headers, self.verdict = [], 0, packet.get('junk')
        self.protocol = packet['protocol']
        self.offset = packet.get('fragment', (0, 0, 0))[1]
        transport = b'' if self.offset else self.transport()
        payload = packet.get('payload', 0)
        options = self.options()
        header = (20 if self.family == 4 else 40) + len(options)
        self.octets = header + len(transport) + payload
        frame = self.internet(options, transport, payload)
        self.packets, self.shortest, self.longest = 1, self.octets, self.octets
        if packet.get('lies'):
            self.notes.append('cut_payload')
        if packet.get('tunnel') and not self.verdict:
            frame = self.encapsulate(config, frame, payload)
        tags = packet.get('tags', ())
        self.frame = wire.ethernet(frame, '02:00:00:00:00:01', '02:00:00:00:00:02',
                                   kind=0x0800 if self.outer_family == 4 else 0x86dd,
                                   tags=[(0x8100, tag) for tag in tags])
        if self.verdict == 'not_ip':
            self.frame = self.frame[:12 + 4 * len(tags)] + b'\x88\xb5' + frame
        if self.verdict:
            self.octets = len(frame) + payload
        self.padding = payload
        if packet.get('pad') and not self.verdict and not packet.get('lies'):
            self.padding = max(payload, 60 - len(self.frame))
        elif self.verdict is None and packet.get('gso', 0) and not packet.get('tunnel'):
            self.segment(header + len(transport), payload, packet['gso'])

    def transport(self):
        p = self.packet
        if self.protocol == wire.TCP:
            return wire.tcp(p['sport'], p['dport'], p.get('flags', wire.ACK))
        if self.protocol in (wire.UDP, wire.UDPLITE):
            return wire.udp(p['sport'], p['dport'])
        if self.protocol == wire.SCTP:
            chunk = p.get('chunk', 0)
            return wire.sctp(p['sport'], p['dport'], bytes([chunk, 0, 0, 4]))
        if self.protocol in (wire.ICMP, wire.ICMP6):
            return wire.icmp(p['kind'], p.get('code', 0))
        return bytes(8)

    def options(self):
        p, octets = self.packet, b''
        if self.family == 4:
            return b'\x01' * 4 * p.get('options', 0)
        following = self.protocol
        if 'fragment' in p:
            ident, offset, more = p['fragment']
            octets = wire.fragment6(following, offset, more, ident)
            following = 44
        if p.get('options'):
            octets = wire.extension(following, 8) + octets
        return octets

    def internet(self, options, transport, payload):
        """The IP packet but for the zeroes at its end."""
        p = self.packet
        ident, offset, more = p.get('fragment', (7, 0, 0))
        stated = len(transport) + payload + p.get('lies', 0)
        if self.family == 4:
            ip = wire.ip4(p['src'], p['dst'], self.protocol, transport, ttl=p.get('ttl', 64),
                          tos=p.get('tos', 0), ident=ident, more=bool(more), offset=offset,
                          options=options)
            total = 20 + len(options) + stated
            ip = ip[:2] + (0 if total > 65535 else total).to_bytes(2, 'big') + ip[4:]
            if p.get('df'):
                ip = ip[:6] + bytes([ip[6] | 0x40]) + ip[7:]
            return b'\x35' + ip[1:] if self.verdict == 'malformed' else ip
        following = 60 if p.get('options') else 44 if 'fragment' in p else self.protocol
        ip = wire.ip6(p['src'], p['dst'], following, transport, hop_limit=p.get('ttl', 64),
                      traffic_class=p.get('tos', 0), extensions=options)
        word = int.from_bytes(ip[:4], 'big') | p.get('label', 0)
        ip = word.to_bytes(4, 'big') + (len(options) + stated).to_bytes(2, 'big') + ip[6:]
        return b'\x50' + ip[1:] if self.verdict == 'malformed' else ip

    def encapsulate(self, config, frame, payload):
        """Inside a tunnel; where tunnels are not looked into, the outer packet is what counts."""
        kind, ident, src, dst = self.packet['tunnel']
        family, frames = ipaddress.ip_address(src).version, len(frame)
        self.outer_family = family
        if kind == 'vxlan':
            inside = wire.ethernet(frame, '02:00:00:00:00:03', '02:00:00:00:00:04')
            shell = b'\x08\0\0\0' + (ident << 8).to_bytes(4, 'big') + inside
            protocol, length = wire.UDP, 8 + len(shell) + payload
            shell = (40000).to_bytes(2, 'big') + (4789).to_bytes(2, 'big') + \
                length.to_bytes(2, 'big') + b'\0\0' + shell
        elif kind == 'gre':
            protocol = wire.GRE
            shell = b'\x20\0' + (b'\x08\0' if self.family == 4 else b'\x86\xdd') + \
                ident.to_bytes(4, 'big') + frame
        else:
            protocol, shell = (4 if self.family == 4 else 41), frame
        outer = wire.ip4 if family == 4 else wire.ip6
        result = outer(src, dst, protocol, shell)
        total = len(result) + payload
        field = (2, total) if family == 4 else (4, total - 40)
        result = result[:field[0]] + field[1].to_bytes(2, 'big') + result[field[0] + 2:]
        if config['tunnel']:
            self.headers = len(result) - frames
        else:
            self.octets = self.shortest = self.longest = total
            self.notes, self.family, self.protocol, self.offset = [], family, protocol, 0
            ports = {'sport': 40000, 'dport': 4789} if kind == 'vxlan' else {}
            self.packet = {'family': family, 'src': src, 'dst': dst, 'protocol': protocol, **ports,
                           'tags': self.packet.get('tags', ()), 'tag': self.packet.get('tag', 0)}
        return result

    def segment(self, headers, payload, size):
        """One super-packet stands for packets that repeat its headers."""
        n = -(-payload // size)
        if n < 2:
            return
        self.packets, self.octets = n, payload + n * headers
        self.longest = headers + size
        self.shortest = headers + payload - (n - 1) * size

    def ends(self, fragments):
        """(source, destination) as (address, port), and the protocol. fragments: first ones so far."""
        p, ports = self.packet, (0, 0)
        src, dst = (ipaddress.ip_address(p[name]).packed for name in ('src', 'dst'))
        key = (src, dst, p.get('fragment', (0,))[0], self.protocol if self.family == 4 else 0,
               self.tunnel_key())
        if self.offset:
            if key not in fragments:
                self.notes.append('fragment_orphan')
            ports, protocol = fragments.get(key, ((0, 0), self.protocol))
            return (src, ports[0]), (dst, ports[1]), protocol
        if self.protocol in (wire.ICMP, wire.ICMP6):
            answer = ANSWERS[self.family].get(p['kind'])
            ports = (p['kind'] * 256 + p.get('code', 0), 0xffff if answer is None else answer * 256)
        elif 'sport' in p:
            ports = (p['sport'], p['dport'])
        if p.get('fragment', (0, 0, 0))[2]:
            fragments[key] = (ports, self.protocol)
        return (src, ports[0]), (dst, ports[1]), self.protocol

    def tunnel_key(self):
        tunnel = self.packet.get('tunnel')
        return tunnel and (tunnel[0], tunnel[1])

    def tcp_flags(self):
        if self.protocol != wire.TCP or self.offset or 'sport' not in self.packet:
            return 0
        return self.packet.get('flags', wire.ACK)

    def fragment_flags(self):
        more = self.packet.get('fragment', (0, 0, 0))[2]
        return (0x20 if more else 0) | (0x40 if self.packet.get('df') and self.family == 4 else 0)

    def vlans(self):
        p = self.packet
        tags = ([p['tag'] & 0xfff] if p.get('tag') else []) + list(p.get('tags', ()))
        return (tags + [0, 0])[:2]

    def over(self):
        """SCTP says that the association is over."""
        return self.protocol == wire.SCTP and not self.offset and \
            self.packet.get('chunk', 0) in (6, 14)


class Half:
    """One direction, on one CPU or of all."""

    def __init__(self):
        self.packets = self.octets = self.flags = self.fragments = self.ingress = self.egress = 0
        self.over, self.exported = False, (0, 0)
        self.first_ns = self.last = None

    def add(self, reading, times, now_ns, tick, place):
        p = reading.packet
        if not self.packets:
            self.first_ns = now_ns
            self.vlan, self.cvlan = reading.vlans()
            self.label = p.get('label', 0) if reading.family == 6 else 0
            self.tos, self.hook, self.ingress = p.get('tos', 0), place['hook'], place['ifindex']
            if self.hook:
                self.ingress, self.egress = place['ingress'], place['ifindex']
            self.ttls = self.lengths = ()
            self.outer = p['tunnel'][2:] if p.get('tunnel') else None
        self.last = tick
        self.flags |= reading.tcp_flags()
        self.fragments |= reading.fragment_flags()
        self.over = self.over or reading.over()
        self.packets += reading.packets * times
        self.octets += reading.octets * times
        ttls, lengths = (*self.ttls, p.get('ttl', 64)), (*self.lengths, reading.shortest,
                                                        reading.longest)
        self.ttls = min(ttls), max(ttls)
        self.lengths = tuple(min(length, 65535) for length in (min(lengths), max(lengths)))


def fold(halves):
    """What the CPUs' halves of one direction are together; None: there was no packet."""
    halves = [half for half in halves if half and half.packets]
    if not halves:
        return None
    first = min(halves, key=lambda half: half.first_ns)
    result = Half()
    for name in ('first_ns', 'vlan', 'cvlan', 'label', 'tos', 'hook', 'ingress'):
        setattr(result, name, getattr(first, name))
    result.packets = sum(half.packets - half.exported[0] for half in halves)
    result.octets = sum(half.octets - half.exported[1] for half in halves)
    result.was_exported = any(half.exported[0] for half in halves)
    result.last = max(half.last for half in halves)
    for half in halves:
        result.flags |= half.flags
        result.fragments |= half.fragments
        result.over = result.over or half.over
    result.ttls = min(half.ttls[0] for half in halves), max(half.ttls[1] for half in halves)
    result.lengths = (min(half.lengths[0] for half in halves),
                      max(half.lengths[1] for half in halves))
    # Of one packet: they differ where a host talks to itself.
    result.outer = {half.outer for half in halves}
    leaving = [half for half in halves if half.egress]
    latest = max((half.last for half in leaving), default=None)
    result.egress = {half.egress for half in leaving if half.last == latest} or {0}
    return result


class Slot:
    """What a CPU knows of a conversation."""

    def __init__(self, tick):
        self.halves, self.due, self.mark, self.tunnel = {}, tick, tick, None


class Model:
    """Tables, counters and time of one sequence."""

    def __init__(self, config, tick_ns, cpus):
        self.config, self.tick_ns = config, tick_ns
        self.tables = {cpu: {} for cpu in cpus}
        self.closing, self.ring, self.coarse = [], [], [0, 0]
        self.fragments, self.counters, self.now_ns = {}, {}, 0
        self.idle = self.active = self.linger = self.brief = 0

    def count(self, name, packets, octets):
        entry = self.counters.setdefault(name, [0, 0])
        entry[0] += packets
        entry[1] += octets

    @property
    def tick(self):
        return self.now_ns // self.tick_ns

    def begin(self, event):
        self.now_ns = event['now_ns']
        self.timeouts(event)

    def timeouts(self, event):
        self.idle, self.active, self.linger, self.brief = event['timeouts']

    def clock(self, event):
        self.now_ns += event['ns']

    # --- packets ---

    def key(self, reading, ends, protocol, place, again):
        """What a conversation is told apart by; both directions have the same."""
        config, p = self.config, reading.packet
        key = [frozenset(ends), reading.family, protocol]
        key.append(reading.vlans() if config['key_vlan'] else None)
        key.append(p.get('tos', 0) if config['key_tos'] else None)
        if config['key_interface'] or config['observe_every']:
            key.append(place['ingress'] if again else place['ifindex'])
        if config['observe_every']:
            key.append(place['hook'])
        if config['tunnel']:
            key.append(reading.tunnel_key())
        if config['tunnel'] == 2 and p.get('tunnel'):
            key.append(frozenset(p['tunnel'][2:]))
        return tuple(tuple(part) if isinstance(part, list) else part for part in key)

    def packet(self, event, placeless=None):
        """placeless: what became of those that found no slot, as the program says."""
        place, times = event, event.get('times', 1)
        reading = Reading(self.config, event['packet'])
        n, octets = reading.packets * times, reading.octets * times
        self.now_ns += STEP_NS
        self.count('seen', n, octets)
        again = place['hook'] == 1 and place['ingress'] in SEEN and not self.config['observe_every']
        if again:
            self.count('again', n, octets)
        if reading.verdict:
            if not again:
                self.count(reading.verdict, n, octets)
            return
        source, destination, protocol = reading.ends(self.fragments)
        key = self.key(reading, (source, destination), protocol, place, again)
        table = self.tables[place['cpu']]
        if again:
            if key in table:
                table[key].halves.setdefault(source, Half()).egress = place['ifindex']
            else:
                self.count('egress_unknown', n, octets)
            return
        for note in reading.notes:
            self.count(note, n, octets)
        if reading.headers:
            self.count('tunnel_headers', n, n * reading.headers)
        taken = len(table) + sum(cpu == place['cpu'] for cpu, *_ in self.closing)
        if key not in table and self.config['max_flows'] == 1 and taken >= PLACES:
            self.no_place(reading, key, source, event, placeless, times)
            return
        if placeless:
            raise AssertionError('no slot, although there are places')
        slot = table.get(key) or table.setdefault(key, Slot(self.tick))
        slot.tunnel = slot.tunnel or event['packet'].get('tunnel')
        half = slot.halves.setdefault(source, Half())
        fresh = not half.packets
        half.add(reading, times, self.now_ns, self.tick, place)
        wait = self.linger if half.flags & (wire.FIN | wire.RST) or half.over else self.idle
        # Repetitions of a packet are further ones.
        if fresh and times == 1 and self.brief:
            wait = min(wait, self.brief)
        slot.due = self.tick + wait

    def no_place(self, reading, key, source, event, placeless, times):
        """Travels alone, or is counted under a coarser key when the ring is full."""
        if not placeless:
            raise AssertionError('a slot, although all places are taken')
        ring, coarse = (placeless[name] // reading.packets for name in ('ring', 'coarse'))
        if ring + coarse != times:
            raise AssertionError('%d of %d packets without a place are nowhere' % (
                times - ring - coarse, times))
        under_way = reading.tcp_flags() & (wire.SYN | wire.RST | wire.ACK) == wire.ACK
        if coarse and len(self.ring) + ring < (RING if under_way else RING * 3 // 4):
            raise AssertionError('the ring was not full')
        self.count('overflow', ring * reading.packets, ring * reading.octets)
        self.count('coarse', coarse * reading.packets, coarse * reading.octets)
        self.coarse[0] += coarse * reading.packets
        self.coarse[1] += coarse * reading.octets
        for _ in range(ring):
            half = Half()
            half.add(reading, 1, self.now_ns, self.tick, event)
            self.ring.append((key, source, half, placeless))

    def ring_read(self, event):
        """Everything that travelled alone is exported, merged by conversation."""
        found, ring, self.ring, records = {}, self.ring, [], []
        for key, source, half, placeless in ring:
            found.setdefault(key, {}).setdefault(source, []).append((half, placeless))
        for key, ends in found.items():
            halves = {}
            for end, alone in ends.items():
                halves[end] = fold([half for half, _ in alone])
                halves[end].egress = {half.egress for half, _ in alone}
                halves[end].when = alone[0][1], alone[-1][1]
            records += self.records(key, halves, RESOURCES, ())
        return records

    # --- what is due ---

    def partials(self, key):
        return [table[key] for table in self.tables.values() if key in table]

    def folded(self, key, partials):
        found = {}
        for end in key[0]:
            half = fold([slot.halves.get(end) for slot in partials])
            if half:
                found[end] = half
        return found

    def sweep(self, event):
        """Returns what is exported and left; what is closed waits for finish()."""
        records, tick = [], self.tick
        for key in {key: None for table in self.tables.values() for key in table}:
            partials = self.partials(key)
            if not (event.get('recheck') or any(
                    tick >= slot.due or tick - slot.mark >= self.active for slot in partials)):
                continue
            found = self.folded(key, partials)
            halves = list(found.values())
            quiet = tick - max(half.last for half in halves)
            ended = any(half.flags & wire.RST or half.over for half in halves) or (
                len(halves) == 2 and halves[0].flags & halves[1].flags & wire.FIN)
            short = self.brief and all(half.packets <= 1 and not half.was_exported
                                       for half in halves)
            idle = self.brief if short else self.idle
            if quiet >= idle or (ended and quiet >= self.linger):
                for cpu, table in self.tables.items():
                    if key in table:
                        self.closing.append((cpu, key, table.pop(key), ENDED if ended else IDLE))
                continue
            if tick - min(slot.mark for slot in partials) >= self.active:
                records += self.records(key, found, ACTIVE, partials)
                self.keep(partials)
            for slot in partials:
                if event.get('recheck') or (tick >= slot.due and not ended):
                    slot.due = tick - quiet + (self.linger if ended else idle)
        return records

    def keep(self, partials):
        for slot in partials:
            slot.mark = self.tick
            for half in slot.halves.values():
                half.exported = half.packets, half.octets

    def finish(self, event):
        """What was being closed is exported."""
        closed, closing, self.closing, records = {}, self.closing, [], []
        for _, key, slot, reason in closing:
            closed.setdefault(key, ([], reason))[0].append(slot)
        for key, (partials, reason) in closed.items():
            records += self.records(key, self.folded(key, partials), reason, partials)
        return records

    def drain(self, event):
        records = []
        for key in {key: None for table in self.tables.values() for key in table}:
            partials = self.partials(key)
            records += self.records(key, self.folded(key, partials), FORCED, partials)
        for table in self.tables.values():
            table.clear()
        return records

    # --- records ---

    def span(self, half, partials):
        """First and last packet of what is exported now."""
        if hasattr(half, 'when'):
            return half.when
        start, end = half.first_ns, half.last * self.tick_ns
        if half.was_exported:
            start = max([start] + [slot.mark * self.tick_ns for slot in partials
                                   if any(part.exported[0] for part in slot.halves.values())])
            return start, max(start, end)
        return start, start if half.packets == 1 else max(start, end)

    def record(self, key, end, half, reason, partials):
        family, protocol = key[1], key[2]
        other = next((each for each in key[0] if each != end), end)
        names = ('src_ip4', 'dst_ip4') if family == 4 else ('src_ip6', 'dst_ip6')
        icmp = protocol == (wire.ICMP if family == 4 else wire.ICMP6)
        record = {
            names[0]: end[0].hex(), names[1]: other[0].hex(), 'protocol': protocol,
            'src_port': 0 if icmp else end[1], 'dst_port': 0 if icmp else other[1],
            'packets': half.packets, 'octets': half.octets, 'end_reason': reason,
            'ingress_if': half.ingress, 'egress_if': half.egress, 'tcp_flags': half.flags,
            'tos': half.tos, 'dscp': half.tos >> 2, 'direction': half.hook,
            'min_ttl': half.ttls[0], 'max_ttl': half.ttls[1], 'fragment_flags': half.fragments,
            'min_length': half.lengths[0], 'max_length': half.lengths[1], 'vlan': half.vlan,
            'cvlan': half.cvlan, 'aggregation': 0}
        if icmp:
            record['icmp%d' % family] = end[1]
        if family == 6:
            record['flow_label'] = half.label
        record['start_ns'], record['end_ns'] = self.span(half, partials)
        tunnel = next((slot.tunnel for slot in partials if slot.tunnel), None)
        if tunnel and self.config['tunnel']:
            outer = set(half.outer)
            if end[0] == other[0]: # a host talks to itself: either direction's may be what is kept
                outer |= {part.outer[::-1] for slot in partials for part in slot.halves.values()
                          if part.packets}
            self.add_tunnel(record, tunnel, family, outer)
        return record

    @staticmethod
    def add_tunnel(record, tunnel, family, outer):
        kind = tunnel[0]
        version = ipaddress.ip_address(tunnel[2]).version
        record['tunnel_type'] = TUNNEL_TYPES[kind] + (kind == 'ip' and family == 6)
        if kind != 'ip':
            record['tunnel_id'] = tunnel[1]
        record['layer2_segment'] = 1 << 56 | tunnel[1] if kind == 'vxlan' else 0
        for at, side in enumerate(('src', 'dst')):
            record['outer_%s_ip%d' % (side, version)] = {
                ipaddress.ip_address(ends[at]).packed.hex() for ends in outer}

    def records(self, key, found, reason, partials):
        """(what, record) of each that is exported of a conversation: one a direction, and what the
        two are as one."""
        result = [('record', self.record(key, end, half, reason, partials))
                  for end, half in found.items() if half.packets]
        if not result or reason == RESOURCES:
            return result
        first = min(found, key=lambda end: found[end].first_ns)
        record = self.record(key, first, found[first], reason, partials)
        back = next((half for end, half in found.items() if end != first), None)
        record.update(rev_packets=0, rev_octets=0)
        if back and back.packets:
            start, end = self.span(back, partials)
            there = found[first].packets
            record.update(rev_packets=back.packets, rev_octets=back.octets,
                          start_ns=min(start, record['start_ns']) if there else start,
                          end_ns=max(end, record['end_ns']) if there else end)
        return result + [('biflow', record)]
