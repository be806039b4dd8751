#!/usr/bin/python3
"""More than the raft worker takes at one time: a connection's requests wait for
room, in order and without an error; while they do, nothing more is read from
it, so that it costs a bounded amount of memory, and others are served."""
import os
import signal
import sys

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), '..', 'fault'))
from faults import E, KV, claviger, error_of, private_kb
from claviger import wait_until

TAP = claviger.Tap()
# beside the ring, which is not its own: the line, what is being read, and what gRPC keeps
MEMORY_KB = 48 * 1024 * (4 if claviger.SANITIZER else 1)


def put_later(client, key, value, timeout=120):
    call = client.channel.unary_unary('/' + KV + 'Put', request_serializer=lambda m: m.SerializeToString(),
                                      response_deserializer=E.PutResponse.FromString)
    return call.future(E.PutRequest(key=key, value=value), timeout=timeout * claviger.SLOW)


def get(client, serializable=False, **fields):
    return client.call(KV + 'Range', E.RangeRequest(serializable=serializable, **fields), E.RangeResponse)


def put_at_once(server, name, n, size):
    """Each is done, once, and holds what was put."""
    client = claviger.Client(server)
    before = get(client, key=b'k').header.revision
    calls = [put_later(client, b'%s/%05d' % (name, i), b'%d.' % i * (size // 6)) for i in range(n)]
    errors = [error for error in (error_of(call.result) for call in calls) if error]
    TAP.equal(errors[:3], [], '%d puts of %d bytes at one time on one connection' % (n, size))
    if errors:
        return
    TAP.equal(sorted(call.result().header.revision for call in calls), list(range(before + 1, before + n + 1)),
              'a revision for each')
    bad = []
    for first in range(0, n, 50):
        for kv in get(client, key=b'%s/%05d' % (name, first), range_end=b'%s/%05d' % (name, first + 50)).kvs:
            i = int(kv.key[-5:])
            if kv.value != b'%d.' % i * (size // 6) or kv.version != 1:
                bad.append(i)
    TAP.equal(bad, [], 'and its own value')


def is_settled(pid):
    """Has the backend read all that it will read?  (Asked again and again.)"""
    now = private_kb(pid)
    is_same = is_settled.last == (pid, now)
    is_settled.last, is_settled.times = (pid, now), is_settled.times + 1 if is_same else 0
    return is_settled.times > 20


is_settled.last, is_settled.times = None, 0


def worker_stands(server, n, size):
    """It is stopped, and goes on."""
    other = claviger.Client(server)
    get(other, key=b'k')
    before = claviger.backends(server)
    client = claviger.Client(server)
    get(client, key=b'k')
    backend, = claviger.backends(server) - before
    worker = claviger.raft_worker(server)
    os.kill(worker, signal.SIGSTOP)
    calls = [put_later(client, b'stands/%05d' % i, b'x' * size) for i in range(n)]
    TAP.ok(wait_until(lambda: is_settled(backend), step=0.02) and private_kb(backend) < MEMORY_KB,
           '%d MB for a worker that stands: its backend stays small' % (n * size // 1000000), private_kb(backend))
    print('# memory %d kB' % private_kb(backend), flush=True)
    TAP.equal((error_of(lambda: get(other, serializable=True, key=b'k')), [call for call in calls if call.done()]),
              (None, []), 'others read meanwhile, and nobody has been refused')
    os.kill(worker, signal.SIGCONT)
    TAP.equal([error for error in (error_of(call.result) for call in calls) if error][:3], [],
              'when it goes on all is done')
    TAP.equal(get(other, key=b'stands/', range_end=b'stands0', count_only=True).count, n, 'and is there')


def worker_stands_too_long(server, n, size):
    client = claviger.Client(server)
    get(client, key=b'k')
    worker = claviger.raft_worker(server)
    os.kill(worker, signal.SIGSTOP)
    calls = [put_later(client, b'long/%05d' % i, b'x' * size, 2) for i in range(n)]
    codes = {error_of(call.result)[0].name for call in calls}
    TAP.equal(codes, {'DEADLINE_EXCEEDED'}, 'who does not wait so long is told that his time is over')
    os.kill(worker, signal.SIGCONT)
    TAP.equal(error_of(lambda: put_later(client, b'after', b'x').result()), None, 'the connection goes on')
    # what was read, or on its way, when it went on has been done as well, as in etcd; nothing twice
    TAP.equal([kv.key for kv in get(client, key=b'long/', range_end=b'long0', keys_only=True).kvs if kv.version != 1],
              [], 'nothing is done twice')


def main():
    # whoever waits has 5 s and two elections
    server = claviger.Server(args=['--max-concurrent-streams=4000', '--election-timeout=20000']).start()
    put_at_once(server, b'big', 16, 700000)
    put_at_once(server, b'middle', 100, 100000)
    # more than may be in the ring at one time
    put_at_once(server, b'small', 3000, 120)
    worker_stands(server, 300, 100000)
    worker_stands_too_long(server, 300, 100000)
    TAP.equal(server.stop(), 0, 'stops in order')
    TAP.done()


main()
