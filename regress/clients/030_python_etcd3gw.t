#!/usr/bin/python3
"""Debian's python3-etcd3gw (JSON over HTTP/1.1): plain, with TLS and a token, with
TLS and the name in the certificate."""
import os
import subprocess
import sys

HERE = os.path.dirname(os.path.abspath(__file__))
sys.path[:0] = [HERE, os.path.join(HERE, '..', 'lib')]
import claviger
import setups
from etcd3gw.client import Etcd3Client

TAP = claviger.Tap()


def connect(setup):
    c = Etcd3Client(host=setup.host, port=setup.port, protocol='https' if setup.tls else 'http', ca_cert=setup.ca,
                    cert_cert=setup.cert, cert_key=setup.key, timeout=30 * claviger.SLOW, api_path='/v3/')
    c.session.trust_env = False                 # no other CA or proxy
    if setup.user:
        # it has no login of its own
        token = c.post(c.get_url('/auth/authenticate'), json={'name': setup.user, 'password': setup.password})['token']
        c.session.headers['Authorization'] = token
    return c


def keys_and_values(c, s):
    c.put('app/a', 'one')
    TAP.equal(c.get('app/a'), [b'one'], s + 'put and get')
    TAP.equal(c.get('app/none'), [], s + 'get of nothing')
    c.put('app/b', 'two')
    value, meta = c.get('app/b', metadata=True)[0]
    TAP.equal((value, meta['key'], meta['version']), (b'two', b'app/b', '1'), s + 'get with metadata')
    TAP.equal([v for v, _ in c.get_prefix('app/', sort_order='descend', sort_target='key')], [b'two', b'one'],
              s + 'get_prefix, sorted')
    TAP.equal((c.create('app/a', 'x'), c.create('app/c', 'x')), (False, True), s + 'create')
    TAP.equal((c.replace('app/a', 'wrong', 'x'), c.replace('app/a', 'one', 'four')), (False, True), s + 'replace')
    TAP.equal((c.delete('app/a'), c.delete('app/a'), c.delete_prefix('app/')), (True, False, True), s + 'delete, delete_prefix')


def transactions(c, s):
    from etcd3gw.utils import _encode
    c.put('app/t', '1')
    key = _encode('app/t')
    done = c.transaction({
        'compare': [{'key': key, 'result': 'EQUAL', 'target': 'VALUE', 'value': _encode('1')}],
        'success': [{'request_put': {'key': key, 'value': _encode('2')}}],
        'failure': [{'request_range': {'key': key}}]})
    TAP.equal((done.get('succeeded'), c.get('app/t')), (True, [b'2']), s + 'transaction')


def watches(c, s):
    events, cancel = c.watch_prefix('app/w/')
    c.put('app/w/1', 'x')
    c.put('app/w/1', 'y')
    c.delete('app/w/1')
    got = [next(events) for _ in range(3)]
    TAP.equal([(e.get('type', 'PUT'), e['kv'].get('value')) for e in got], [('PUT', b'x'), ('PUT', b'y'), ('DELETE', None)],
              s + 'watch_prefix')
    cancel()
    other = connect_again(c)
    with setups.Repeated(lambda: other.put('app/w/3', 'late')):
        TAP.equal(c.watch_once('app/w/3', timeout=30 * claviger.SLOW)['kv']['value'], b'late', s + 'watch_once')


def connect_again(c):
    """A client for another thread, as the same user."""
    other = Etcd3Client(host=c.host, port=c.port, protocol=c.protocol, api_path=c.api_path)
    other.session.trust_env = False
    other.session.verify, other.session.cert = c.session.verify, c.session.cert
    other.session.headers = c.session.headers
    return other


def leases(c, s):
    lease = c.lease(6000)
    c.put('app/l', 'x', lease=lease)
    TAP.ok(lease.ttl() > 5900 and lease.keys() == [b'app/l'], s + 'lease, its time and keys')
    TAP.equal(lease.refresh(), 6000, s + 'lease refreshed')
    lease.revoke()
    TAP.equal(c.get('app/l'), [], s + 'lease revoked with its key')


def locks(c, s):
    with c.lock('app/lock', ttl=60) as lock:
        TAP.ok(lock.is_acquired(), s + 'lock')
        TAP.ok(not c.lock('app/lock', ttl=60).acquire(), s + 'the lock is held')
    TAP.ok(c.lock('app/lock', ttl=60).acquire(), s + 'the lock is free again')


def cluster(c, s, setup):
    TAP.equal([m['clientURLs'] for m in c.members()], [[setup.url]], s + 'members')
    TAP.ok(c.status()['version'].startswith('3.'), s + 'status')


def rights(c, s):
    for name, call in (('get', lambda: c.get('other')), ('put', lambda: c.put('other', 'x'))):
        try:
            call()
            said = 'nothing'
        except Exception as error:
            said = getattr(error, 'detail_text', None) or str(error)
        TAP.ok('permission denied' in said, s + 'no right to %s another key' % name, said)


def main():
    version = subprocess.run(['dpkg-query', '-W', '-f', '${Package} ${Version}', 'python3-etcd3gw'],
                             capture_output=True, text=True).stdout
    print('# ' + version)
    for name in setups.SETUPS:
        setup = setups.Setup(name)
        s = name + ': '
        c = connect(setup)
        part = lambda function, *arguments: setups.section(TAP, name, function, *arguments)
        part(keys_and_values, c, s)
        part(transactions, c, s)
        part(cluster, c, s, setup)
        part(watches, c, s)
        part(leases, c, s)
        part(locks, c, s)
        if name != 'plain':
            part(rights, c, s)
        setup.server.kill9()
    TAP.done()


main()
