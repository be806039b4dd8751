#!/usr/bin/python3
"""Debian's python3-etcd3 (gRPC): plain, with TLS and a password, with TLS and the
name in the certificate."""
import os
import queue
import subprocess
import sys
import time

HERE = os.path.dirname(os.path.abspath(__file__))
sys.path[:0] = [HERE, os.path.join(HERE, '..', 'lib')]
import claviger
import etcd3
import setups

TAP = claviger.Tap()


def version(package):
    return subprocess.run(['dpkg-query', '-W', '-f', '${Package} ${Version}', package],
                          capture_output=True, text=True).stdout


def connect(setup, **changes):
    options = dict(host=setup.host, port=setup.port, ca_cert=setup.ca, cert_cert=setup.cert, cert_key=setup.key,
                   user=setup.user, password=setup.password, timeout=30 * claviger.SLOW)
    options.update(changes)
    return etcd3.client(**options)


def refused(call):
    """What the refusal says, or '' if there is none."""
    try:
        result = call()
        if hasattr(result, '__next__'):
            list(result)
        return ''
    except Exception as error:
        return repr(error)


def keys_and_values(c, s):
    c.put('app/a', 'one')
    value, meta = c.get('app/a')
    TAP.equal((value, meta.key, meta.version), (b'one', b'app/a', 1), s + 'put and get')
    TAP.equal(c.get('app/none')[0], None, s + 'get of nothing')
    c.put('app/b', 'two')
    TAP.equal([v for v, _ in c.get_prefix('app/', sort_order='descend', sort_target='key')], [b'two', b'one'],
              s + 'get_prefix, sorted')
    TAP.equal([m.key for _, m in c.get_range('app/a', 'app/b')], [b'app/a'], s + 'get_range')
    TAP.equal([(v, m.key) for v, m in c.get_prefix('app/', keys_only=True)], [(b'', b'app/a'), (b'', b'app/b')],
              s + 'keys_only')
    TAP.equal(c.put('app/a', 'three', prev_kv=True).prev_kv.value, b'one', s + 'put with prev_kv')
    TAP.equal((c.put_if_not_exists('app/a', 'x'), c.put_if_not_exists('app/c', 'x')), (False, True), s + 'put_if_not_exists')
    TAP.equal((c.replace('app/a', 'wrong', 'x'), c.replace('app/a', 'three', 'four')), (False, True), s + 'replace')
    TAP.equal((c.delete('app/a'), c.delete('app/a'), c.delete_prefix('app/').deleted), (True, False, 2), s + 'delete, delete_prefix')


def transactions(c, s):
    t = c.transactions
    c.put('app/t', '1')
    done, answers = c.transaction(
        compare=[t.value('app/t') == '1', t.version('app/t') > 0, t.create('app/none') == 0, t.mod('app/t') > 0],
        success=[t.put('app/t', '2'), t.get('app/t'), t.delete('app/none')], failure=[t.get('app/t')])
    TAP.equal((done, answers[1][0][0]), (True, b'2'), s + 'transaction that holds')
    done, answers = c.transaction(compare=[t.value('app/t') == '1'], success=[], failure=[t.get('app/t')])
    TAP.equal((done, answers[0][0][0]), (False, b'2'), s + 'transaction that does not hold')
    done, _ = c.transaction(compare=[], success=[t.txn(compare=[t.value('app/t') == '2'], success=[t.put('app/t', '3')],
                                                       failure=[])], failure=[])
    TAP.equal(c.get('app/t')[0], b'3', s + 'transaction in a transaction')


def watches(c, s):
    events, cancel = c.watch_prefix('app/w/')
    c.put('app/w/1', 'x')
    c.put('app/w/1', 'y')
    c.delete('app/w/1')
    kinds = [type(next(events)).__name__ for _ in range(3)]
    cancel()
    TAP.equal(kinds, ['PutEvent', 'PutEvent', 'DeleteEvent'], s + 'watch_prefix')
    got = queue.Queue()
    id = c.add_watch_callback('app/w/2', got.put, prev_kv=True)
    c.put('app/w/2', 'one')
    c.put('app/w/2', 'two')
    seen = []
    while len(seen) < 2:        # both in one answer, or one after the other
        seen += [e.value for e in getattr(got.get(timeout=30 * claviger.SLOW), 'events', [])]
    TAP.equal(seen, [b'one', b'two'], s + 'add_watch_callback')
    c.cancel_watch(id)
    with setups.Repeated(lambda: c.put('app/w/3', 'late')):
        TAP.equal(c.watch_once('app/w/3', timeout=30 * claviger.SLOW).value, b'late', s + 'watch_once')
    revision = c.put('app/w/4', 'a').header.revision
    c.put('app/w/4', 'b')
    events, cancel = c.watch('app/w/4', start_revision=revision)
    TAP.equal([next(events).value, next(events).value], [b'a', b'b'], s + 'watch from an earlier revision')
    cancel()


def leases(c, s):
    lease = c.lease(6000)
    c.put('app/l', 'x', lease=lease)
    info = c.get_lease_info(lease.id)
    TAP.ok(info.TTL > 5900 and list(info.keys) == [b'app/l'], s + 'lease, its time and keys', str(info))
    TAP.equal([r.TTL for r in lease.refresh()], [6000], s + 'lease refreshed')
    lease.revoke()
    TAP.equal(c.get('app/l')[0], None, s + 'lease revoked with its key')
    with c.lock('app/lock', ttl=60) as lock:
        # to wait for a lock that is held fails in this release of the client, with
        # etcd as well: its wait() does not fit Debian's tenacity
        TAP.ok(lock.is_acquired(), s + 'lock')
    with c.lock('app/lock', ttl=60) as lock:
        TAP.ok(lock.is_acquired(), s + 'the lock is free again')


def cluster(c, s, admin):
    TAP.equal([m.client_urls for m in c.members], [[admin.url]], s + 'members')
    status = c.status()
    TAP.ok(status.version.startswith('3.') and status.leader is not None, s + 'status', status.version)


def administration(c, s):
    """What root may do."""
    revision = c.put('app/x', '1').header.revision
    c.compact(revision)
    TAP.ok('compacted' in refused(lambda: c.compact(revision)), s + 'compact')
    c.defragment()
    TAP.equal(list(c.list_alarms()), [], s + 'defragment, list_alarms')
    if c.metadata is None:
        # this release of the client sends no token with hash()
        TAP.ok(isinstance(c.hash(), int), s + 'hash')
    path = os.path.join(claviger._tmp, 'snapshot')
    with open(path, 'wb') as file:
        c.snapshot(file)
    TAP.ok(os.path.getsize(path) > 100, s + 'snapshot')


def rights(c, setup, s):
    TAP.ok('permission denied' in refused(lambda: c.get('other')), s + 'no right to another key', refused(lambda: c.get('other')))
    TAP.ok('permission denied' in refused(lambda: c.put('other', 'x')), s + 'no right to write another key')
    wrong = refused(lambda: connect(setup, user='app', password='wrong'))
    TAP.ok('authentication failed' in wrong, s + 'a wrong password', wrong)


def main():
    print('# ' + version('python3-etcd3') + ', ' + version('python3-grpcio'))
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
        if name == 'plain':
            part(administration, c, s)
        else:
            part(rights, c, setup, s)
            part(administration, connect(setup, user='root', password=setups.ROOT_PASSWORD), s)
        time.sleep(0.2)         # its thread that watches is not stopped by close()
        c.close()
        setup.server.kill9()
    TAP.done()


main()
