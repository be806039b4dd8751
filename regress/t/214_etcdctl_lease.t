#!/usr/bin/python3
"""etcdctl's lease commands, word for word as etcd 3.4 answers them."""
import os
import re
import subprocess
import sys

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), '..', 'lib'))
import claviger

TAP = claviger.Tap()
ERROR = re.compile(r'^Error: .*$', re.MULTILINE)


def main():
    server = claviger.Server().start()

    def ctl(*args):
        done = subprocess.run(['etcdctl', '--endpoints', server.endpoint, *args], capture_output=True, text=True,
                              env=claviger.etcdctl_environment(), timeout=60 * claviger.SLOW)
        found = ERROR.search(done.stderr)
        return done.returncode, done.stdout + (found[0] + '\n' if found else '')

    code, text = ctl('lease', 'grant', '1000')
    match = re.fullmatch(r'lease ([0-9a-f]{16}) granted with TTL\(1000s\)\n', text)
    TAP.ok(code == 0 and match, 'lease grant', repr(text))
    lease = match[1]
    TAP.equal(ctl('put', 'foo1', 'bar', '--lease=' + lease), (0, 'OK\n'), 'put --lease')
    TAP.equal(ctl('put', 'foo2', 'bar', '--lease=' + lease), (0, 'OK\n'), 'again')
    code, text = ctl('lease', 'timetolive', lease)
    TAP.ok(code == 0 and re.fullmatch(r'lease %s granted with TTL\(1000s\), remaining\((9\d\d|1000)s\)\n' % lease, text),
           'lease timetolive', repr(text))
    code, text = ctl('lease', 'timetolive', '--keys', lease)
    TAP.ok(code == 0 and re.fullmatch(r'lease %s granted with TTL\(1000s\), remaining\((9\d\d|1000)s\), '
                                      r'attached keys\(\[foo1 foo2\]\)\n' % lease, text), 'lease timetolive --keys', repr(text))
    code, text = ctl('lease', 'timetolive', '--keys', '-w', 'fields', lease)
    fields = dict(re.findall(r'^"(\w+)" : (.*)$', text, re.MULTILINE))
    TAP.equal((code, fields.get('ID'), fields.get('GrantedTTL')), (0, str(int(lease, 16)), '1000'), 'with -w fields')
    TAP.equal(ctl('lease', 'list'), (0, 'found 1 leases\n%s\n' % lease), 'lease list')
    TAP.equal(ctl('lease', 'keep-alive', '--once', lease), (0, 'lease %s keepalived with TTL(1000)\n' % lease),
              'lease keep-alive --once')
    TAP.equal(ctl('lease', 'revoke', lease), (0, 'lease %s revoked\n' % lease), 'lease revoke')
    TAP.equal(ctl('get', '--prefix', 'foo'), (0, ''), 'its keys are gone')
    TAP.equal(ctl('lease', 'revoke', lease),
              (1, 'Error: failed to revoke lease (etcdserver: requested lease not found)\n'), 'revoke again')
    TAP.equal(ctl('lease', 'timetolive', lease), (0, 'lease %s already expired\n' % lease), 'timetolive of nothing')
    code, text = ctl('lease', 'keep-alive', lease)
    TAP.equal((code, text), (0, 'lease %s expired or revoked.\n' % lease), 'keep-alive of nothing')
    TAP.equal(ctl('put', 'foo', 'bar', '--lease=' + lease), (1, 'Error: etcdserver: requested lease not found\n'),
              'put on nothing')
    TAP.equal(ctl('lease', 'list'), (0, 'found 0 leases\n'), 'an empty list')
    code, text = ctl('lease', 'grant', '9000000001')
    TAP.equal((code, text), (1, 'Error: failed to grant lease (etcdserver: too large lease TTL)\n'),
              'a time that is too long')
    code, text = ctl('lease', 'grant', '1')
    TAP.ok(text.endswith(' granted with TTL(2s)\n'), 'a time that is too short', repr(text))
    TAP.equal(server.stop(), 0, 'stops in order')
    TAP.done()


main()
