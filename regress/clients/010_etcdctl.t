#!/usr/bin/python3
"""Debian's etcdctl, command by command and option by option, on etcd and on
Claviger: exit status, output and error must be equal.

The rows are in etcdctl.py; all commands and options that etcdctl's help names
must have one.  doc/etcdctl.md is made from them:

    regress/clients/010_etcdctl.t --write
"""
import os
import re
import subprocess
import sys
import tempfile
import threading

HERE = os.path.dirname(os.path.abspath(__file__))
sys.path[:0] = [HERE, os.path.join(HERE, '..', 'lib')]
import claviger
import etcd
import etcdctl

MANUAL = os.path.join(claviger.TOP, 'doc', 'etcdctl.md')
TAP = claviger.Tap()
WORKS = {'yes': 'yes', 'part': 'in part', 'no': 'no', 'client': 'yes'}


def manual():
    """The text of doc/etcdctl.md."""
    version = subprocess.run([etcdctl.PROGRAM, 'version'], capture_output=True, text=True).stdout.split('\n')[0]
    lines = ['# What etcdctl can do here', '',
             "Every command and option of Debian's etcdctl (%s). `regress/clients/010_etcdctl.t` tries each on" % version,
             'etcd-server and on Claviger and compares exit status, output and error; this table is made from its rows',
             '(`regress/clients/010_etcdctl.t --write`).', '',
             '| command, option | works | remark |', '|---|---|---|']
    for r in etcdctl.ROWS:
        remark = '; '.join(filter(None, [r.remark, r.todo and 'not yet: ' + r.todo]))
        lines.append('| `%s` | %s | %s |' % (r.name, 'not yet' if r.todo else WORKS[r.works], remark))
    return '\n'.join(lines) + '\n'


def help_text(*command):
    return subprocess.run([etcdctl.PROGRAM, *command, '--help'], capture_output=True, text=True,
                          env=dict(os.environ, ETCDCTL_API='3')).stdout


def options_of(text):
    return set(re.findall(r'^ +(?:-\w, )?(--[a-z][a-z-]*)', text, re.M)) - {'--help'}


def what_help_names():
    """Every command, and every command with each of its options."""
    text = help_text()
    commands = re.findall(r'^\t(\w[\w -]*?)\t', text.split('COMMANDS:')[1].split('OPTIONS:')[0], re.M)
    names = [option for option in options_of(text.split('OPTIONS:')[1])]
    of_all = set(names)
    for command in commands:
        names.append(command)
        if not command.startswith(('completion', 'help')):
            names += [command + ' ' + option for option in sorted(options_of(help_text(*command.split())) - of_all)]
    return names


def check_rows():
    named = [r.name for r in etcdctl.ROWS]
    TAP.equal(sorted(set(n for n in named if named.count(n) > 1)), [], 'no row twice')
    missing = [name for name in what_help_names() if name not in named]
    TAP.equal(missing, [], 'every command and option of etcdctl has a row')
    with open(MANUAL) as file:
        TAP.ok(file.read() == manual(), 'doc/etcdctl.md is up to date', 'run regress/clients/010_etcdctl.t --write')


class Place:
    """An etcd and a Claviger, set up in the same way."""

    def __init__(self, name, certificates):
        tls = name == 'tls'
        args = {'quota': ['--quota-backend-bytes', '4000000']}.get(name, [])
        flags = []
        if tls:
            file = lambda n: os.path.join(certificates, n)
            args = ['--cert-file', file('server.crt'), '--key-file', file('server.key'),
                    '--trusted-ca-file', file('ca.crt'), '--client-cert-auth']
            flags = ['--cacert', file('ca.crt'), '--cert', file('root.crt'), '--key', file('root.key')]
        self.servers = [etcd.EtcdServer(args, tls=tls), claviger.Server(args, tls=tls)]
        self.servers[0].launch()
        self.servers[1].start()
        self.servers[0].wait_ready()
        self.ctls = [etcdctl.Ctl(server, flags) for server in self.servers]
        if tls:
            for ctl in self.ctls:
                for line in ('user add root --no-password', 'user grant-role root root', 'auth enable'):
                    ctl.run(*line.split())
        if name in ('plain', 'tls'):
            # where mirrors go: another server of the same kind
            others = [etcd.EtcdServer(args, tls=tls).start(), claviger.Server(args, tls=tls).start()]
            for ctl, other in zip(self.ctls, others):
                ctl.other = etcdctl.Ctl(other, flags)


def tried(row, ctl):
    """(what was said, problem)"""
    ctl.said = []
    try:
        row.trial(ctl)
        return '\n'.join(ctl.said), None
    except (AssertionError, subprocess.TimeoutExpired, IndexError, AttributeError, ValueError) as error:
        return '\n'.join(ctl.said), '%s: %s' % (type(error).__name__, error)
    finally:
        ctl.stop()


def try_row(row, place):
    etcd_said, etcd_problem = tried(row, place.ctls[0])
    own_said, own_problem = tried(row, place.ctls[1])
    name = row.name + (' # TODO ' + row.todo if row.todo else '')
    if etcd_problem:
        return TAP.ok(False, name, 'etcd itself: ' + etcd_problem)
    if own_problem:
        return TAP.ok(False, name, own_problem)
    return TAP.equal(own_said, etcd_said, name)


class Alone(threading.Thread):
    """The rows that load a server for a minute: on one of their own, meanwhile."""

    def __init__(self, rows):
        super().__init__(daemon=True)
        self.rows = rows
        self.server = claviger.Server().start()
        self.results = []
        self.start()

    def run(self):
        ctl = etcdctl.Ctl(self.server)
        for row in self.rows:
            self.results.append((row, tried(row, ctl)[1]))

    def report(self):
        self.join(600 * claviger.SLOW)
        done = {row.name: problem for row, problem in self.results}
        for row in self.rows:
            problem = done.get(row.name, 'not ended')
            name = row.name + (' # TODO ' + row.todo if row.todo else '')
            TAP.ok(problem is None, name, problem)


def main():
    if '--write' in sys.argv:
        with open(MANUAL, 'w') as file:
            file.write(manual())
        return
    only = [a for a in sys.argv[1:] if not a.startswith('-')]
    version = subprocess.run([etcdctl.PROGRAM, 'version'], capture_output=True, text=True)
    print('# ' + version.stdout.strip().replace('\n', ', ') + '; ' + etcd.version())
    check_rows()
    rows = [r for r in etcdctl.ROWS if r.trial and (not only or any(o in r.name for o in only))]
    alone = Alone([r for r in rows if r.where == 'alone'])
    with tempfile.TemporaryDirectory() as certificates:
        claviger.make_certificates(certificates, 'root')
        for where in ('plain', 'auth', 'quota', 'tls'):
            here = [r for r in rows if r.where == where]
            if here:
                place = Place(where, certificates)
                for r in here:
                    try_row(r, place)
    alone.report()
    TAP.done()


if __name__ == '__main__':
    main()
