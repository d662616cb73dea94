# SPDX-License-Identifier: Apache-2.0
"""Test cases as TAP: @case registers one, main() runs them, equal() compares with a readable diff."""
import os
import signal
import sys
import tempfile
import traceback

_cases = []


class Skip(Exception):
    """The case cannot run here; the text says why."""


class Failure(Exception):
    """What was seen is not what was expected; the text shows the difference."""


def case(title, when=None):
    """Registers a test case. when: called first, returns why not to run it here, or None."""
    def register(function):
        _cases.append((title, function, when, False))
        return function
    return register


def add_case(title, function, *args, alone=False):
    """Registers function(*args). alone: no other case runs beside it, where main() runs some so."""
    _cases.append((title, lambda: function(*args), None, alone))


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


def _run(title, function, when, _):
    """Runs a case, prints what it has to say, and returns the end of its line; its result first."""
    try:
        why = when() if when else None
        if why:
            raise Skip(why)
        function()
    except Skip as why:
        return 'ok', '%s # SKIP %s' % (title, why)
    except Failure as failure:
        note(failure)
    except Exception:  # pylint: disable=broad-except
        note(traceback.format_exc())
    else:
        return 'ok', title
    return 'not ok', title


def _one_by_one(chosen):
    for entry in chosen:
        yield _run(*entry)


def _child(entry, file):
    """A case in a process of its own, which ends here."""
    sys.stdout = file
    status = 1
    try:
        result, line = _run(*entry)
        print(result, line, sep='\n', flush=True)
        status = 0
    finally:
        os._exit(status)


def _beside(chosen, limit):
    """So many at once, each in a process; what they say comes in the order of the cases."""
    waiting, running, said, done = list(enumerate(chosen)), {}, {}, 0
    try:
        while done < len(chosen):
            while waiting and len(running) < limit and not (
                    running and (waiting[0][1][3] or any(chosen[number][3]
                                                         for number, _ in running.values()))):
                number, entry = waiting.pop(0)
                file = tempfile.TemporaryFile('w+', encoding='utf-8')
                pid = os.fork()
                if not pid:
                    _child(entry, file)
                running[pid] = number, file
            pid, status = os.wait()
            if pid not in running:
                continue
            number, file = running.pop(pid)
            file.seek(0)
            lines = file.read().splitlines()
            file.close()
            said[number] = (lines[:-2], *lines[-2:]) if status == 0 else (
                [*lines, '# ended with status %d' % status], 'not ok', chosen[number][0])
            while done in said:
                notes, result, line = said.pop(done)
                print(*notes, sep='\n', end='\n' if notes else '', flush=True)
                yield result, line
                done += 1
    finally:
        for pid in running:
            os.kill(pid, signal.SIGTERM)
        for pid in running:
            os.waitpid(pid, 0)


def main(beside=1):
    """Runs the registered cases (or those whose title holds argv[1]), so many at once, and exits."""
    signal.signal(signal.SIGTERM, _interrupted)
    signal.signal(signal.SIGINT, _interrupted)
    chosen = [entry for entry in _cases if len(sys.argv) < 2 or sys.argv[1] in entry[0]]
    print('1..%d' % len(chosen), flush=True)
    failed = 0
    results = _one_by_one(chosen) if beside == 1 else _beside(chosen, beside)
    for number, (result, line) in enumerate(results, 1):
        failed += result != 'ok'
        print('%s %d - %s' % (result, number, line), flush=True)
    sys.exit(1 if failed else 0)
