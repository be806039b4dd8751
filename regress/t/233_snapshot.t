#!/usr/bin/python3
"""Snapshots of a running server: whole while others write, flat in memory, not
held for ever by a client who stops reading, and worthless when cut off."""
import hashlib
import json
import os
import re
import signal
import socket
import subprocess
import sys
import threading
import time

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), '..', 'lib'))
import claviger
import grpc

E = claviger.load_protos()['etcdserverpb']
TAP = claviger.Tap()
KV, MA = 'etcdserverpb.KV/', 'etcdserverpb.Maintenance/'
RESTORE, DUMP = (os.path.join(claviger.BINDIR, name) for name in ('clav_restore', 'clav_dump'))
MB = 1024 * 1024


class World:
    def __init__(self, *args):
        self.server = claviger.Server(args=args).start()
        self.client = claviger.Client(self.server)

    def open(self):
        """A stream of its own connection, not yet read."""
        client = claviger.Client(self.server)
        stub = client.channel.unary_stream('/' + MA + 'Snapshot', request_serializer=lambda m: m.SerializeToString(),
                                           response_deserializer=E.SnapshotResponse.FromString)
        return client, stub(E.SnapshotRequest(), timeout=120 * claviger.SLOW)

    def snapshot(self):
        client, stream = self.open()
        messages = list(stream)
        client.close()
        return messages

    def path(self, name):
        return os.path.join(self.server.dir, name)

    def save(self, name, data):
        with open(self.path(name), 'wb') as file:
            file.write(data)
        return self.path(name)

    def fill(self, megabytes):
        for i in range(megabytes * 10):
            self.client.call(KV + 'Put', E.PutRequest(key=b'fill%04d' % i, value=os.urandom(100 * 1024)),
                             E.PutResponse)

    def stop(self):
        self.client.close()
        TAP.equal(self.server.stop(), 0, 'stops in order')


def dump(path):
    done = subprocess.run([DUMP, path], stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    if done.returncode != 0:
        return None
    return [json.loads(line) for line in done.stdout.decode().splitlines()]


def anonymous_kb(pid):
    return int(re.search(r'RssAnon:\s+(\d+)', open('/proc/%d/status' % pid).read()).group(1))


def test_form(world):
    world.client.call(KV + 'Put', E.PutRequest(key=b'k', value=b'v'), E.PutResponse)
    messages = world.snapshot()
    data = b''.join(m.blob for m in messages[:-1])
    left = len(data)
    good = True
    for m in messages[:-1]:
        left -= len(m.blob)
        good = good and m.remaining_bytes == left and 0 < len(m.blob) <= 32 * 1024 and not m.HasField('header')
    TAP.ok(good and left == 0, 'chunks say how much remains')
    TAP.equal(messages[-1].blob, hashlib.sha256(data).digest(), 'the SHA-256 of all is last')
    TAP.equal(messages[-1].remaining_bytes, 0, 'with nothing behind it')
    TAP.equal((len(data) % 512, {m.version for m in messages}), (0, {'3.5.0'}),
              'of a length by which etcd\'s clients find the hash')


def test_whole_while_written(world):
    """Each transaction writes two keys; a snapshot has both or none, and all up to
    its revision."""
    stop, errors, written = threading.Event(), [], [0] * 16

    def write(n):
        client = claviger.Client(world.server)
        i = 0
        try:
            while not stop.is_set():
                i += 1
                client.call(KV + 'Txn', E.TxnRequest(success=[
                    E.RequestOp(request_put=E.PutRequest(key=b'%s%d' % (side, n), value=b'%d' % i))
                    for side in (b'left', b'right')]), E.TxnResponse)
                written[n] = i
        except grpc.RpcError as error:
            errors.append(error)
        client.close()

    threads = [threading.Thread(target=write, args=(n,)) for n in range(16)]
    for t in threads:
        t.start()
    torn = missing = taken = versions = 0
    for i in range(6):
        claviger.wait_until(lambda: sum(written) >= 40 * (i + 1), 30)
        records = dump(world.save('busy%d' % i, b''.join(m.blob for m in world.snapshot())))
        by_revision = {}
        for r in records[1:]:
            if r['table'] == 'key':
                by_revision.setdefault(r['mod_revision'], []).append(r)
        for found in by_revision.values():
            if found[0]['key'] != 'k':
                names = sorted(r['key'] for r in found)
                torn += len(found) != 2 or names[0][4:] != names[1][5:] or found[0]['value'] != found[1]['value']
        missing += sorted(by_revision) != list(range(2, records[0]['snapshot']['revision'] + 1))
        taken += 1
        versions = max(versions, len(records))
    stop.set()
    for t in threads:
        t.join()
    TAP.equal((torn, missing, errors), (0, 0, []), 'six snapshots while 16 connections write: transactions are whole')
    TAP.ok(taken == 6 and versions > 200, 'and there was something to see', versions)


def test_flat(world):
    before = claviger.backends(world.server)
    client, stream = world.open()
    next(stream)
    backends = claviger.backends(world.server) - before
    TAP.equal(len(backends), 1, 'a connection of its own')
    pid = backends.pop()
    grown = anonymous_kb(pid)
    total = sum(len(m.blob) for m in stream)
    TAP.ok(total > 30 * MB, 'all of it came', total)
    TAP.ok(anonymous_kb(pid) < 16 * 1024 * (8 if claviger.SANITIZER else 1), 'the backend stays small',
           (grown, anonymous_kb(pid)))
    client.close()


def test_stalled():
    """Who takes too little; the others of these tests are given all the time that they want."""
    world = World('--snapshot-max-age', '1s')
    world.fill(32)
    client, stream = world.open()
    next(stream)

    def is_ended():
        world.client.call(KV + 'Put', E.PutRequest(key=b'meanwhile'), E.PutResponse)
        return 'ended: the client took' in open(world.server.log).read()

    TAP.ok(claviger.wait_until(is_ended, 30), 'who stops reading loses the stream')
    try:
        for _ in stream:
            pass
        error = None
    except grpc.RpcError as e:
        error = (e.code(), e.details())
    TAP.equal(error, (grpc.StatusCode.RESOURCE_EXHAUSTED,
                      'claviger: the request held its snapshot for too long'), 'and is told why')
    client.close()
    # somebody slow who does read gets all of it
    client, stream = world.open()
    total = 0
    for m in stream:
        total += len(m.blob)
        if total % (2 * MB) < 32 * 1024:
            time.sleep(0.05)
    TAP.ok(total > 30 * MB, 'who reads slowly does not', total)
    client.close()
    world.stop()


def test_history_goes_meanwhile(world):
    """What is being sent stays as it was, though it is deleted and compacted."""
    hash_kv = lambda client: client.call(MA + 'HashKV', E.HashKVRequest(), E.HashKVResponse)
    want = hash_kv(world.client)
    client, stream = world.open()
    got = [next(stream).blob]
    last = world.client.call(KV + 'DeleteRange', E.DeleteRangeRequest(key=b'fill', range_end=b'film'),
                             E.DeleteRangeResponse).header.revision
    world.client.call(KV + 'Compact', E.CompactionRequest(revision=last), E.CompactionResponse)
    for i in range(200):
        world.client.call(KV + 'Put', E.PutRequest(key=b'after%d' % i, value=b'x' * 10000), E.PutResponse)
    got += [m.blob for m in stream]
    client.close()
    TAP.ok(len(got) > 900, 'the stream went on', len(got))
    path = world.save('history', b''.join(got))
    server = claviger.Server()
    done = subprocess.run([RESTORE, path, '--data-dir', server.data], stdout=subprocess.PIPE, stderr=subprocess.STDOUT)
    TAP.equal(done.returncode, 0, 'a snapshot during which all was deleted and compacted is sound')
    other = claviger.Client(server.start())
    back = hash_kv(other)
    TAP.equal((back.hash, back.header.revision), (want.hash, want.header.revision), 'and holds what was there')
    other.close()
    server.stop()
    world.fill(32)


def test_backend_killed(world):
    """Its hold goes with it, or the removal would wait for ever."""
    before = claviger.backends(world.server)
    client, stream = world.open()
    next(stream)
    backend, = claviger.backends(world.server) - before
    os.kill(backend, signal.SIGKILL)
    last = world.client.call(KV + 'Put', E.PutRequest(key=b'last'), E.PutResponse).header.revision
    world.client.call(KV + 'Compact', E.CompactionRequest(revision=last, physical=True), E.CompactionResponse)
    TAP.ok(True, 'a backend that is killed while it sends holds nothing')
    client.close()


def test_cut_off(world):
    client, stream = world.open()
    got = [next(stream).blob for _ in range(100)]
    world.server.kill9()
    try:
        for m in stream:
            got.append(m.blob)
        error = None
    except grpc.RpcError as e:
        error = e.code()
    TAP.equal(error, grpc.StatusCode.UNAVAILABLE, 'kill -9 of the server ends the stream')
    client.close()
    partial = world.save('partial', b''.join(got))
    target = world.path('from-partial')
    done = subprocess.run([RESTORE, partial, '--data-dir', target], stdout=subprocess.PIPE, stderr=subprocess.STDOUT)
    TAP.ok(done.returncode == 1 and b'cannot be used' in done.stdout, 'what came cannot be restored', done.stdout)
    TAP.ok(not os.path.exists(target), 'and leaves nothing behind')
    world.server.start()
    world.client = claviger.Client(world.server)
    TAP.ok(len(world.snapshot()) > 100, 'the next one is whole again')


def test_etcdctl(world):
    path = world.path('saved')
    done = subprocess.run(['etcdctl', '--endpoints', world.server.endpoint, 'snapshot', 'save', path],
                          env=claviger.etcdctl_environment(), timeout=120 * claviger.SLOW, stdout=subprocess.PIPE,
                          stderr=subprocess.STDOUT, universal_newlines=True)
    TAP.ok(done.returncode == 0 and os.path.getsize(path) % 512 == 32, 'etcdctl snapshot save', done.stdout)
    TAP.ok(dump(path), 'saves what can be read')
    world.server.kill9()
    done = subprocess.run(['etcdctl', '--endpoints', world.server.endpoint, '--command-timeout=2s', 'snapshot',
                           'save', world.path('none')], env=dict(os.environ, ETCDCTL_API='3'), timeout=60 * claviger.SLOW,
                          stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    TAP.ok(done.returncode != 0 and not os.path.exists(world.path('none')), 'and nothing from a dead server')
    world.server.start()
    world.client = claviger.Client(world.server)


def test_password_is_not_shown():
    """What stands on the command line can be read by everybody on the machine."""
    for tool in ([DUMP, '--endpoint', '%s'], [os.path.join(claviger.BINDIR, 'clav_bench'), '-e', '%s', '-o', 'put']):
        with socket.create_server(('127.0.0.1', 0)) as listener:
            url = 'http://127.0.0.1:%d' % listener.getsockname()[1]
            process = subprocess.Popen([word.replace('%s', url) for word in tool] + ['--user', 'root:pass:word'],
                                       stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
            listener.settimeout(60 * claviger.SLOW)
            connection = listener.accept()[0]
            shown = open('/proc/%d/cmdline' % process.pid, 'rb').read()
            process.kill()
            process.wait()
            connection.close()
        TAP.ok(b'root:' in shown and b'pass' not in shown and b'word' not in shown,
               os.path.basename(tool[0]) + ' does not show the password', shown)


def main():
    test_password_is_not_shown()
    test_stalled()
    world = World('--snapshot-max-age', '10m')
    test_form(world)
    test_whole_while_written(world)
    world.fill(32)
    test_flat(world)
    test_history_goes_meanwhile(world)
    test_backend_killed(world)
    test_cut_off(world)
    test_etcdctl(world)
    world.stop()
    TAP.done()


main()
