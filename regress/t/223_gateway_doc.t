#!/usr/bin/python3
"""The examples of doc/gateway.md do what the page says."""
import os
import re
import subprocess
import sys

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), '..', 'lib'))
import claviger

TAP = claviger.Tap()


def examples(path):
    """(command, what it should print)"""
    found = []
    for block in re.findall(r'```console\n(.*?)```', open(path).read(), re.S):
        for line in block.splitlines():
            if line.startswith('$ '):
                found.append([line[2:], ''])
            else:
                found[-1][1] += line + '\n'
    return found


def pattern(text):
    return '.*'.join(re.escape(part) for part in text.rstrip('\n').split('...'))


server = claviger.Server().start()
commands = examples(os.path.join(claviger.TOP, 'doc', 'gateway.md'))
assert commands[0][0].startswith('E='), commands[0]
commands[0][0] = 'E=' + server.url
# who reads the page ends a watch after a second; a machine that is busy needs longer to begin it
ended = re.compile(r'^timeout 1 ')
script = ''.join('%s\nprintf "\\n@@%d\\n"\n' % (ended.sub('timeout %d ' % (5 * claviger.SLOW), command), i) for i, (command, _) in enumerate(commands))
done = subprocess.run(['bash', '-c', script], capture_output=True, text=True, timeout=60 * claviger.SLOW)
printed = re.split(r'\n@@\d+\n', done.stdout)
TAP.equal(len(printed), len(commands) + 1, 'every example was run')
TAP.ok(len(commands) > 20, '%d examples' % len(commands))
for (command, want), got in zip(commands, printed):
    got = got.rstrip('\n')
    TAP.ok(re.fullmatch(pattern(want), got, re.S), '$ ' + command.replace('#', ' '), 'got:  %s\nwant: %s' % (got, want))
TAP.equal(server.stop(), 0, 'stops in order')
TAP.done()
