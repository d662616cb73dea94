#!/usr/bin/python3
# SPDX-License-Identifier: Apache-2.0
"""Breaks each rule of lint.py and analysis.py once in a small tree and expects the complaint: a lint
that cannot fail guards nothing."""
import json
import os
import shutil
import subprocess
import sys
import tempfile

HERE = os.path.dirname(os.path.realpath(__file__))
APACHE = '/* SPDX-License-Identifier: Apache-2.0 */\n'
GPL = '/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */\n'
LONG = 'static int f(void)\n{\n' + '\tg();\n' * 100 + '}\n'

# rule, file, text (or files and their texts), what the complaint says
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
    ('shellcheck', 'scripts/a', '#!/bin/sh\n# SPDX-License-Identifier: Apache-2.0\nrm -f $1\n',
     'SC2086'),
    ('outside its file', 'src/base/a.h', APACHE + 'int fm_a(void);\n', 'nobody uses fm_a'),
    ('outside its file', 'src/base/a.h', {
        'src/base/a.h': APACHE + '/* Says a. */\nint fm_a(void);\n',
        'src/base/a.c': APACHE + 'int fm_a(void)\n{\n\treturn 0;\n}\n\nint fm_b(void)\n{\n'
                        '\treturn fm_a();\n}\n',
        'tests/unit/a.c': APACHE + 'int b(void)\n{\n\treturn fm_a();\n}\n'}, 'only tests use fm_a'),
    ('like-this.c', 'src/base/a_b.c', APACHE, 'src/base/a_b.c: not like-this.c'),
    ('like-this.c', 'src/base/a.c', APACHE + 'int a(void)\n{\n\treturn 0;\n}\n', 'a is seen by'),
    ('like-this.c', 'src/base/a.c', APACHE + 'typedef struct a a;\n', 'src/base/a.c:2: typedef'),
    ('named by a test', 'src/bpf/counters.def', GPL + 'FM_COUNTER(gone, LOST, "tested")\n',
     'no test names gone'),
    ('named by a test', 'src/ipfix/fields.def', {
        'src/ipfix/fields.def': APACHE + 'FM_FIELD(rev_a, int, , U, "reverseA", 1)\n'
                                'FM_FIELD(rev_b, int, , U, "reverseB", 1)\n',
        'tests/a.c': APACHE + '#define BOTH(name) f(rev_##name)\n\nBOTH(a)\n'},
     'no test names rev_b or reverseB'),
    ('named by a test', 'src/ipfix/new.def', APACHE, 'by which arguments'),
    ('written twice', 'src/base/b.c', {
        'src/base/a.c': APACHE + ''.join('int fm_number_%d;\n' % i for i in range(8)),
        'src/base/b.c': APACHE + ''.join('int fm_number_%d;\n' % i for i in range(8))},
     'src/base/b.c:2: as src/base/a.c:2'),
    ('python files', 'tests/a.py', '# SPDX-License-Identifier: Apache-2.0\ndef\n', 'a.py:2'),
]
# For analysis.py: rule, a function, what the complaint says.
FAULTS = [
    ('clang-tidy', 'int fm_a(int b)\n{\n\treturn b == b;\n}\n', 'redundant-expression'),
    ('clang-tidy', 'int fm_a(int b)\n{\n\tif (b);\n\t\treturn 1;\n\treturn 0;\n}\n',
     'suspicious-semicolon'),
    ('cppcheck', 'int fm_a(void)\n{\n\tint b[2] = {0};\n\n\treturn b[2];\n}\n',
     'arrayIndexOutOfBounds'),
]
GOOD = {
    'src/base/a.c': APACHE + '#include "base/b.h"\n\nint main(void)\n{\n\texit(fm_b());\n}\n',
    'src/base/b.h': APACHE + 'int fm_b(void);\n\n/* For tests. */\nint fm_c(void);\n',
    'src/base/b.c': APACHE + '#include "base/b.h"\n\nint fm_b(void)\n{\n\treturn fm_c();\n}\n\n'
                    'int fm_c(void)\n{\n\treturn 0;\n}\n',
    'src/bpf/counters.def': GPL + 'FM_COUNTER(lost, LOST, "of no use")\n',
    'tests/a.c': APACHE + 'int a = FM_COUNTER_lost;\nint b = fm_c();\n',
}


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


def analyse(text):
    """What analysis.py says of a tree with one source file."""
    with tempfile.TemporaryDirectory() as root:
        path = os.path.join(root, 'src', 'base', 'a.c')
        os.makedirs(os.path.dirname(path))
        shutil.copy(os.path.join(HERE, '..', '..', '.clang-tidy'), root)
        with open(path, 'w', encoding='utf-8') as file:
            file.write(APACHE + text)
        with open(os.path.join(root, 'compile_commands.json'), 'w', encoding='utf-8') as file:
            json.dump([{'directory': root, 'file': 'src/base/a.c',
                        'command': 'cc -Wall -c src/base/a.c'}], file)
        run = subprocess.run([sys.executable, os.path.join(HERE, 'analysis.py'), root], text=True,
                             env={**os.environ, 'FLOWMOND_BUILD': root}, capture_output=True,
                             check=False)
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
    outputs = [(rule, lambda name=name, text=text: lint(
        text if isinstance(text, dict) else {name: text}), expected)
               for rule, name, text, expected in CASES]
    outputs += [(rule, lambda text=text: analyse(text), expected) for rule, text, expected in FAULTS]
    print('1..%d' % (len(outputs) + 1))
    bad = 0
    for number, (rule, output, expected) in enumerate(outputs, 1):
        failed, comments = complaint_of(output(), rule)
        title = 'complains: %s: %s' % (rule, expected)
        if failed is None:
            print('ok %d - %s # SKIP %s' % (number, title, comments))
            continue
        fine = failed and expected in comments
        bad += not fine
        print('%s %d - %s' % ('ok' if fine else 'not ok', number, title))
        if not fine:
            print('# ' + comments.replace('\n', '\n# '))
    output = lint(GOOD)
    fine = 'not ok' not in output
    print('%s %d - says nothing of good files' % ('ok' if fine else 'not ok', len(outputs) + 1))
    if not fine:
        print('# ' + output.replace('\n', '\n# '))
    return 1 if bad or not fine else 0


sys.exit(main())
