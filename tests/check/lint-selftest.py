#!/usr/bin/python3
# SPDX-License-Identifier: Apache-2.0
"""Breaks each rule of lint.py once in a small tree and expects the complaint: a lint that cannot
fail guards nothing."""
import os
import shutil
import subprocess
import sys
import tempfile

HERE = os.path.dirname(os.path.realpath(__file__))
APACHE = '/* SPDX-License-Identifier: Apache-2.0 */\n'
GPL = '/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */\n'
LONG = 'static int f(void)\n{\n' + '\tg();\n' * 100 + '}\n'

# rule, file, text, what the complaint says
CASES = [
    ('names its licence', 'src/base/a.c', 'int a;\n', 'src/base/a.c: no SPDX'),
    ('names its licence', 'src/bpf/a.h', APACHE, 'expected GPL-2.0-only'),
    ('what lies below', 'src/base/a.c', APACHE + '#include "ipfix/record.h"\n', 'base includes'),
    ('what lies below', 'src/ctl/a.c', APACHE + '#include "daemon/config.h"\n', 'ctl includes'),
    ('what lies below', 'src/daemon/a.c', APACHE + '#include "bpf/parse.bpf.h"\n', 'private'),
    ('one sitting', 'src/base/a.c', APACHE + '\n' * 1000, '1001 lines'),
    ('at most 100', 'src/base/a.c', APACHE + LONG, 'f has 102 lines'),
    ('no goto', 'src/base/a.c', APACHE + 'int f(void)\n{\n\tgoto out;\n}\n', 'a.c:4: goto'),
    ('no goto', 'src/base/a.c', APACHE + 'int f(void)\n{\n\texit(1);\n}\n', 'exit() outside'),
    ('15 characters', 'src/bpf/a.bpf.c', GPL + 'struct {\n} fm_a_rather_long_one SEC(".maps");\n',
     'fm_a_rather_long_one'),
    ('15 characters', 'src/bpf/a.bpf.c', GPL + 'SEC("tc")\nint fm_a_rather_long_one(void *c)\n',
     'fm_a_rather_long_one'),
    ('one machine', 'src/base/a.c', APACHE + '/* see ' + '/roo' + 't/notes */\n', 'a.c:2'),
    ('trailing blanks', 'src/base/a.c', APACHE + 'int a; \n', 'a.c:2'),
    ('clang-format', 'src/base/a.c', APACHE + 'int f( void ) {return 0;}\n', 'a.c'),
    ('scripts parse', 'scripts/a', '#!/bin/sh\n# SPDX-License-Identifier: Apache-2.0\nif\n', 'a'),
    ('python files', 'tests/a.py', '# SPDX-License-Identifier: Apache-2.0\ndef\n', 'a.py:2'),
]
GOOD = APACHE + '#include "base/b.h"\n\nint main(void)\n{\n\texit(0);\n}\n'


def lint(files):
    with tempfile.TemporaryDirectory() as root:
        check = os.path.join(root, 'tests', 'check')
        os.makedirs(check)
        shutil.copy(os.path.join(HERE, 'lint.py'), check)
        shutil.copy(os.path.join(HERE, '..', '..', '.clang-format'), root)
        for name, text in files.items():
            path = os.path.join(root, name)
            os.makedirs(os.path.dirname(path), exist_ok=True)
            with open(path, 'w', encoding='utf-8') as file:
                file.write(text)
        run = subprocess.run([sys.executable, os.path.join(check, 'lint.py')], text=True,
                             env={**os.environ, 'GIT_CEILING_DIRECTORIES': os.path.dirname(root)},
                             capture_output=True, check=False)
        return run.stdout


def complaint_of(output, rule):
    """(failed, comments) of the rule whose description has these words."""
    lines = output.split('\n')
    for number, line in enumerate(lines):
        if line.startswith(('ok', 'not ok')) and rule in line:
            if '# SKIP' in line:
                return None, line.split('# SKIP', 1)[1].strip()
            comments = []
            for after in lines[number + 1:]:
                if not after.startswith('#'):
                    break
                comments.append(after)
            return line.startswith('not ok'), '\n'.join(comments)
    return False, 'no rule "%s" in:\n%s' % (rule, output)


def main():
    print('1..%d' % (len(CASES) + 1))
    bad = 0
    for number, (rule, name, text, expected) in enumerate(CASES, 1):
        failed, comments = complaint_of(lint({name: text}), rule)
        title = 'complains: %s: %s' % (rule, expected)
        if failed is None:
            print('ok %d - %s # SKIP %s' % (number, title, comments))
            continue
        fine = failed and expected in comments
        bad += not fine
        print('%s %d - %s' % ('ok' if fine else 'not ok', number, title))
        if not fine:
            print('# ' + comments.replace('\n', '\n# '))
    output = lint({'src/base/a.c': GOOD})
    fine = 'not ok' not in output
    print('%s %d - says nothing of good files' % ('ok' if fine else 'not ok', len(CASES) + 1))
    if not fine:
        print('# ' + output.replace('\n', '\n# '))
    return 1 if bad or not fine else 0


sys.exit(main())
