#!/usr/bin/python3
# SPDX-License-Identifier: Apache-2.0
"""What the programs need of the stack, from the object file: the frames of the deepest chain of
calls. Linux allows 512 octets for all of them together; another compiler may need some more than
this one, so some are left. The verifier says no more than that it was too much."""
import struct
import sys

MOST = 512 - 64
OCTETS = 8  # of an instruction
FRAME_POINTER = 10
MOVE, ADD, CALL, LOAD_64 = 0xbf, 0x07, 0x85, 0x18
MEMORY = 1, 2, 3  # classes ldx, st, stx
TO_FUNCTION = 1  # source register of a call to another function
CALL_RELOCATION = 10
SYMBOLS, RELOCATIONS = 2, 9


class Object:
    """Functions of an ELF file: name -> (section, first octet, octets)."""

    def __init__(self, data):
        self.data = data
        self.order = '<' if data[5] == 1 else '>'
        at, = self.read('Q', 40)
        entry, count = self.read('HH', 58)
        self.sections = [self.read('IIQQQQIIQQ', at + i * entry) for i in range(count)]
        table = next(s for s in self.sections if s[1] == SYMBOLS)
        self.symbols = [self.read('IBBHQQ', table[4] + i) for i in range(0, table[5], 24)]
        names = self.sections[table[6]]
        self.functions = {}
        for name, info, _, section, value, size in self.symbols:
            if info & 15 == 2:  # a function
                end = data.index(b'\0', names[4] + name)
                self.functions[data[names[4] + name:end].decode()] = section, value, size
        self.places = {place[:2]: name for name, place in self.functions.items()}

    def read(self, form, at):
        return struct.unpack_from(self.order + form, self.data, at)

    def called(self, section):
        """{octet in the section: octet of .text or of another section's symbol} of relocated calls."""
        calls = {}
        for part in self.sections:
            if part[1] != RELOCATIONS or part[7] != section:
                continue
            for at in range(part[4], part[4] + part[5], 16):
                offset, info = self.read('QQ', at)
                if info & 0xffffffff == CALL_RELOCATION:
                    symbol = self.symbols[info >> 32]
                    calls[offset] = symbol[3], symbol[4]
        return calls

    def instructions(self, function):
        """(octet in the section, code, target, source, offset, immediate)"""
        section, value, size = self.functions[function]
        base, at = self.sections[section][4], value
        while at < value + size:
            code, registers, offset, immediate = self.read('BBhi', base + at)
            target, source = registers & 15, registers >> 4
            if self.order == '>':
                target, source = source, target
            yield at, code, target, source, offset, immediate
            at += OCTETS * (2 if code == LOAD_64 else 1)


def frame(program, function):
    """Octets of the stack that a function uses, and which it calls."""
    section = program.functions[function][0]
    relocated = program.called(section)
    depth, copies, calls = 0, set(), set()
    for at, code, target, source, offset, immediate in program.instructions(function):
        if code & 7 in MEMORY and code != LOAD_64:
            pointer = source if code & 7 == 1 else target
            if pointer == FRAME_POINTER:
                depth = max(depth, -offset)
        if code == ADD and target in copies:
            depth = max(depth, -immediate)
        if code == CALL and source == TO_FUNCTION:
            place = relocated.get(at, (section, 0))
            calls.add(program.places[place[0], place[1] + (immediate + 1) * OCTETS
                                     if at in relocated else at + (immediate + 1) * OCTETS])
        copies.discard(target)
        if code == MOVE and source == FRAME_POINTER:
            copies.add(target)
    return depth, calls


def deepest(program, function, frames):
    """(octets, [function, ...]) of the deepest chain that begins there; as the verifier rounds."""
    if function not in frames:
        frames[function] = frame(program, function)
    depth, calls = frames[function]
    below, chain = max((deepest(program, name, frames) for name in calls), default=(0, []))
    return (max(depth, 1) + 31) // 32 * 32 + below, [(function, depth), *chain]


def main():
    with open(sys.argv[1], 'rb') as file:
        program = Object(file.read())
    frames = {}
    octets, chain = max(deepest(program, name, frames) for name in program.functions)
    print('# %d octets: %s' % (octets, ' -> '.join('%s %d' % step for step in chain)))
    known = len(frames) > 5 and any(calls for _, calls in frames.values())
    print('1..2')
    print('%sok 1 - functions and calls are found: %d' % ('' if known else 'not ', len(frames)))
    print('%sok 2 - at most %d octets of stack' % ('' if octets <= MOST else 'not ', MOST))
    return 0 if known and octets <= MOST else 1


if __name__ == '__main__':
    sys.exit(main())
