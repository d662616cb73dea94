#!/usr/bin/python3
# SPDX-License-Identifier: Apache-2.0
"""Starts that must fail with clear words, and some that must not fail."""
import os
import re
import signal
import subprocess

from lib import tap
from lib.collect import account, json_flow
from lib.daemon import FLOWMOND, FLOWMONCTL, Flowmond, attached
from lib.net import Lab, couple
from lib.packets import Account
from lib.tap import case, check, equal
from lib.traffic import ping


def flowmond(*arguments, wrapper=()):
    done = subprocess.run([*wrapper, FLOWMOND, *arguments], stdin=subprocess.DEVNULL, timeout=20,
                          stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, check=False)
    return done.returncode, done.stdout


def config(lab, text):
    path = lab.path('bad.conf')
    with open(path, 'w', encoding='utf-8') as file:
        file.write(text)
    os.chmod(lab.dir, 0o755)
    return path


# text, line of the fault, a word the message must hold
BROKEN = [
    ('[flows]\nidle_timeout = soon\n', 2, 'idle_timeout'),
    ('[flows]\nmax = -1\n', 2, 'max'),
    ('[flows]\nmax = 1\n', 2, '1024'),
    ('[flows]\nmax = 99999999999999999999999\n', 2, 'max'),
    ('[flows]\nunheard_of = 1\n', 2, 'unheard_of'),
    ('\n[nowhere]\na = 1\n', 2, 'nowhere'),
    ('[capture]\nobserve = twice\n', 2, 'once'),
    ('[collector main]\naddress = 192.0.2.10\n', 2, 'address'),
    ('[collector main]\naddress = 192.0.2.10:99999\n', 2, 'address'),
    ('[collector main]\naddress = 192.0.2.10:4739\nprotocol = v5\n', 3, 'ipfix'),
    ('[collector main]\naddress = 192.0.2.10:4739\ndomain = 0\n', 3, 'domain'),
    ('[flows]\nbiflow = perhaps\n', 2, 'biflow'),
    ('[log]\nlevel = loud\n', 2, 'level'),
    ('[flows]\nmax\n', 2, ''),
]


@case('a wrong setting: file, line, what was expected; the daemon does not start')
def wrong_settings():
    with Lab('bad') as lab:
        for text, line, word in BROKEN:
            path = config(lab, text)
            for arguments in (('--check-config', '--config', path),
                              ('--foreground', '--config', path)):
                status, seen = flowmond(*arguments)
                check('%r %s: status %d' % (text, arguments[0], status), status > 0, seen)
                check('%r %s names %s:%d' % (text, arguments[0], path, line),
                      '%s:%d:' % (path, line) in seen, seen)
                check('%r %s says %r' % (text, arguments[0], word), word in seen, seen)


@case('a collector without address, v9 over TCP, an unknown option: refused')
def wrong_combinations():
    with Lab('bad') as lab:
        for text in ('[collector main]\nprotocol = ipfix\n',
                     '[collector main]\naddress = 192.0.2.10:2055\nprotocol = v9\n'
                     'transport = tcp\n'):
            status, seen = flowmond('--check-config', '--config', config(lab, text))
            check('%r: status %d' % (text, status), status > 0 and 'collector' in seen, seen)
    status, seen = flowmond('--no-such-option')
    check('unknown option: status %d' % status, status > 0 and '--no-such-option' in seen, seen)
    status, seen = flowmond('--config', '/nonexistent/flowmond.conf', '--foreground')
    check('file that is not there: status %d' % status,
          status > 0 and '/nonexistent/flowmond.conf' in seen, seen)


@case('--check-config accepts the shipped file and --print-config\'s own output')
def shipped():
    root = os.path.realpath(os.path.join(os.path.dirname(__file__), '..', '..'))
    status, seen = flowmond('--check-config', '--config', os.path.join(root, 'etc/flowmond.conf'))
    equal('etc/flowmond.conf: ' + seen, status, 0)
    with Lab('print') as lab:
        path = config(lab, '[collector a]\naddress = [2001:db8::1]:4739\ntransport = tcp\n')
        status, printed = flowmond('--print-config', '--config', path)
        equal('--print-config: ' + printed, status, 0)
        again = config(lab, printed)
        equal('printed again', flowmond('--print-config', '--config', again), (0, printed))


@case('--help, --version and the tables end with 0; so does flowmonctl')
def tables():
    for option in ('--help', '--version', '--list-fields', '--list-settings', '--list-counters'):
        status, seen = flowmond(option)
        check('%s: status %d' % (option, status), status == 0 and len(seen) > 8, seen)
    for option in ('--help', '--version'):
        done = subprocess.run([FLOWMONCTL, option], stdout=subprocess.PIPE, check=False)
        check('flowmonctl ' + option, done.returncode == 0 and done.stdout)
    done = subprocess.run([FLOWMONCTL, '--socket', '/nonexistent/socket', 'status'], text=True,
                          stdout=subprocess.PIPE, stderr=subprocess.STDOUT, check=False)
    check('flowmonctl without a daemon', done.returncode == 1 and 'not running' in done.stdout,
          done.stdout)


NOBODY = ('setpriv', '--reuid', '65534', '--regid', '65534', '--clear-groups')


@case('no privileges: says what is missing, status above 0, attaches nothing')
def unprivileged():
    with Lab('nobody') as lab:
        m = lab.ns('m')
        m.ip('link add m0 type veth peer name m1')
        path = config(lab, '[control]\nsocket =\n')
        run = subprocess.run(m.command(*NOBODY, FLOWMOND, '--foreground', '--config', path),
                             stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
                             timeout=20, check=False)
        check('status %d' % run.returncode, run.returncode > 0, run.stdout)
        check('names the capabilities', 'CAP_BPF' in run.stdout, run.stdout)
        equal('attached', attached(m, 'm0')[0], 0)


@case('--check tells what is there and what is missing, with and without privileges')
def check_option():
    status, seen = flowmond('--check')
    check('as root: status %d' % status, status == 0, seen)
    for name in ('programs', 'clock', 'overflow', 'grace_period', 'tcx', 'clsact', 'tcp', 'tunnels',
                 'membarrier', 'namespaces'):
        check('tells of %s, and why not' % name,
              re.search(r'^yes  %s  |^no   %s  .*: ' % (name, name), seen, re.M), seen)
    status, without = flowmond('--check', wrapper=NOBODY)
    check('as nobody: status %d' % status, status > 0 and 'CAP_BPF' in without, without)
    check('the two differ', seen != without)


CAPABILITIES = ('bpf', 'net_admin', 'perfmon')


def holding(*capabilities):
    """The command that gives the next one these capabilities and no privilege else."""
    some = ','.join(['-all', *('+' + name for name in capabilities)])
    return (*NOBODY, '--inh-caps', some, '--ambient-caps', some, '--bounding-set', some)


@case('the capabilities of the unit are enough')
def capabilities():
    with Lab('caps') as lab:
        a, m = lab.ns('a'), lab.ns('m')
        couple(lab, a, 'a0', m, 'm0', 1)
        os.chmod(lab.dir, 0o777)
        daemon = Flowmond(m, {'json': {'file': lab.path('flowmond.json')}},
                          wrapper=holding(*CAPABILITIES))
        sent = Account()
        ping(sent, a, '10.1.0.1', '10.1.0.2', 5)
        daemon.stop()
        equal('json', account(map(json_flow, daemon.json_records())).flows, sent.flows)


@case('none of them is too many: without any one it says which is missing')
def capabilities_needed():
    for missing in CAPABILITIES:
        wrapper = holding(*(name for name in CAPABILITIES if name != missing))
        status, seen = flowmond('--check', wrapper=wrapper)
        check('without %s: status %d' % (missing, status), status > 0, seen)
        check('names CAP_' + missing.upper(), 'CAP_' + missing.upper() in seen, seen)


@case('no BTF of the kernel: runs all the same')
def without_btf():
    with Lab('btf') as lab:
        a, m = lab.ns('a'), lab.ns('m')
        couple(lab, a, 'a0', m, 'm0', 1)
        os.mkdir(lab.path('empty'))
        daemon = Flowmond(m, {'json': {'file': lab.path('flowmond.json')}}, wrapper=(
            'unshare', '-m', 'sh', '-c', 'mount --bind %s /sys/kernel/btf; exec "$@"' %
            lab.path('empty'), 'sh'))
        sent = Account()
        ping(sent, a, '10.1.0.1', '10.1.0.2', 5)
        daemon.stop()
        equal('json', account(map(json_flow, daemon.json_records())).flows, sent.flows)


@case('no interface at all matches: starts, waits, stops')
def no_interface():
    with Lab('none') as lab:
        m = lab.ns('m')
        daemon = Flowmond(m, {'capture': {'interfaces': 'nothing*'}})
        check('status answers', daemon.status())
        daemon.stop(signal.SIGTERM)


@case('a second one on the same control socket is refused or takes over, never both broken')
def twice():
    with Lab('twice') as lab:
        a, m = lab.ns('a'), lab.ns('m')
        couple(lab, a, 'a0', m, 'm0', 1)
        first = Flowmond(m, {'json': {'file': lab.path('first.json')}}, name='first')
        second = Flowmond(m, {'json': {'file': lab.path('second.json')},
                              'control': {'socket': first.control}}, name='second', ready=False)
        status = second.process.wait(15) if not _ready(second) else 0
        check('the first still runs', first.process.running())
        if second.process.running():
            second.stop()
        else:
            check('the second says why: ' + second.log(), status > 0 and 'control' in second.log())
        first.stop()


def _ready(daemon):
    try:
        daemon.wait_ready()
        return True
    except tap.Failure:
        return False


if __name__ == '__main__':
    tap.require_root()
    tap.main()
