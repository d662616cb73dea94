# SPDX-License-Identifier: Apache-2.0
"""Test cases as TAP: @case registers one, main() runs them, equal() compares with a readable diff."""
import os
import signal
import sys
import traceback

_cases = []


class Skip(Exception):
    """The case cannot run here; the text says why."""


class Failure(Exception):
    """What was seen is not what was expected; the text shows the difference."""


def case(title, when=None):
    """Registers a test case. when: called first, returns why not to run it here, or None."""
    def register(function):
        _cases.append((title, function, when))
        return function
    return register


def add_case(title, function, *args):
    _cases.append((title, lambda: function(*args), None))


def once(function):
    """Runs it at its first call only; a failure is the same failure at every call."""
    kept = []

    def call():
        if not kept:
            try:
                kept.append((function(), None))
            except Exception as error:  # pylint: disable=broad-except
                kept.append((None, error))
        if kept[0][1] is not None:
            raise kept[0][1]
        return kept[0][0]
    return call


def note(text):
    """A diagnostic line in the test log."""
    for line in str(text).split('\n'):
        print('# ' + line, flush=True)


def _rows(value):
    if isinstance(value, dict):
        return {str(key): value[key] for key in value}
    return None


def difference(seen, expected, limit=30):
    """Lines that show how two values differ: row by row for dictionaries."""
    left, right = _rows(expected), _rows(seen)
    if left is None or right is None:
        return ['expected %r' % (expected,), 'seen     %r' % (seen,)]
    lines = []
    for key in sorted(set(left) | set(right)):
        if key not in right:
            lines.append('missing  %s  %s' % (key, left[key]))
        elif key not in left:
            lines.append('too much %s  %s' % (key, right[key]))
        elif left[key] != right[key]:
            lines.append('differs  %s  expected %s seen %s' % (key, left[key], right[key]))
    if len(lines) > limit:
        lines[limit:] = ['... and %d more' % (len(lines) - limit)]
    return lines


def equal(what, seen, expected):
    if seen != expected:
        raise Failure('%s:\n%s' % (what, '\n'.join(difference(seen, expected))))


def check(what, truth, seen=''):
    if not truth:
        raise Failure('%s%s' % (what, ': %s' % (seen,) if seen != '' else ''))


def require_root():
    if os.geteuid() != 0:
        print('1..0 # SKIP needs root')
        sys.exit(0)


def _interrupted(number, frame):
    raise SystemExit(128 + number)


def main():
    """Runs the registered cases (or those whose title holds argv[1]) and exits."""
    signal.signal(signal.SIGTERM, _interrupted)
    signal.signal(signal.SIGINT, _interrupted)
    chosen = [entry for entry in _cases if len(sys.argv) < 2 or sys.argv[1] in entry[0]]
    print('1..%d' % len(chosen), flush=True)
    failed = 0
    for number, (title, function, when) in enumerate(chosen, 1):
        result, tail = 'ok', ''
        try:
            why = when() if when else None
            if why:
                raise Skip(why)
            function()
        except Skip as why:
            tail = ' # SKIP %s' % why
        except Failure as failure:
            result = 'not ok'
            note(failure)
        except Exception:  # pylint: disable=broad-except
            result = 'not ok'
            note(traceback.format_exc())
        failed += result != 'ok'
        print('%s %d - %s%s' % (result, number, title, tail), flush=True)
    sys.exit(1 if failed else 0)
