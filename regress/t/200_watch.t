#!/usr/bin/python3
"""Watch: what a stream answers and tells, with the Python client and etcdctl."""
import os
import subprocess
import sys
import time

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), '..', 'lib'))
import claviger
import watching
from watching import E, KV

TAP = claviger.Tap()
NOPUT, NODELETE = E.WatchCreateRequest.NOPUT, E.WatchCreateRequest.NODELETE


def put(client, key, value=b'v'):
    return client.call(KV + 'Put', E.PutRequest(key=key, value=value), E.PutResponse).header.revision


def delete(client, key, end=b''):
    return client.call(KV + 'DeleteRange', E.DeleteRangeRequest(key=key, range_end=end),
                       E.DeleteRangeResponse).header.revision


def compact(client, revision):
    client.call(KV + 'Compact', E.CompactionRequest(revision=revision, physical=True), E.CompactionResponse)


def events(answer):
    return [(e.type, e.kv.key, e.kv.mod_revision, e.kv.value) for e in answer.events]


def test_follow(server, client):
    stream = watching.Stream(client)
    created = stream.create(key=b'foo')
    TAP.ok(created.created and created.watch_id == 0 and not created.canceled, 'a watch is created, with id 0')
    TAP.ok(created.header.revision >= 1 and created.header.cluster_id != 0, 'and a header')
    rev = put(client, b'foo', b'bar')
    answer = stream.get()
    TAP.equal(events(answer), [(0, b'foo', rev, b'bar')], 'a put is told')
    TAP.ok(answer.header.revision >= rev and answer.watch_id == 0, 'with the revision in the header')
    put(client, b'fop')
    rev = delete(client, b'foo')
    answer = stream.get()
    TAP.equal(events(answer), [(1, b'foo', rev, b'')], 'a deletion is told, and no other key')
    kv = answer.events[0].kv
    TAP.ok(kv.create_revision == 0 and kv.version == 0, 'with key and mod_revision alone')
    stream.send(cancel_request=E.WatchCancelRequest(watch_id=77))
    stream.send(cancel_request=E.WatchCancelRequest(watch_id=0))
    answer = stream.get()
    TAP.ok(answer.canceled and answer.watch_id == 0 and answer.cancel_reason == '' and not answer.created,
           'a cancel is answered; one of an unknown id is not')
    put(client, b'foo')
    TAP.ok(stream.get(0.2) is None, 'nothing is told afterwards')
    stream.close()


def test_many_on_a_stream(server, client):
    stream = watching.Stream(client)
    TAP.equal([stream.create(key=b'm').watch_id, stream.create(key=b'm', range_end=b'n', watch_id=1).watch_id,
               stream.create(key=b'm1', watch_id=7).watch_id, stream.create(key=b'm2').watch_id],
              [0, 1, 7, 2], 'ids are given in order, passing over those in use')
    refused = stream.create(key=b'm', watch_id=7)
    TAP.ok(refused.created and refused.canceled and refused.watch_id == -1 and
           refused.cancel_reason == 'mvcc: duplicate watch ID provided on the WatchStream', 'an id is used once',
           str(refused))
    refused = stream.create(key=b'n', range_end=b'm')
    TAP.ok(refused.created and refused.canceled and refused.watch_id == -1 and
           refused.cancel_reason == 'mvcc: watcher range is empty', 'an empty range is refused', str(refused))
    refused = stream.create(key=b'n', start_revision=-1)
    TAP.ok(refused.canceled and
           refused.cancel_reason == 'etcdserver: mvcc: required revision has been compacted',
           'a negative revision is refused', str(refused))
    rev = put(client, b'm1')
    got = sorted((a.watch_id, a.events[0].kv.mod_revision) for a in (stream.get(), stream.get()))
    TAP.equal(got, [(1, rev), (7, rev)], 'each watch is told for itself')
    rev = client.call(KV + 'Txn', E.TxnRequest(success=[
        E.RequestOp(request_put=E.PutRequest(key=k, value=b'x')) for k in (b'm3', b'm4', b'm5')]),
        E.TxnResponse).header.revision
    answer = stream.get()
    TAP.equal(events(answer), [(0, k, rev, b'x') for k in (b'm3', b'm4', b'm5')],
              'the events of a transaction come together, in order')
    stream.send()
    stream.half_close()
    rev = put(client, b'm')
    TAP.equal(sorted(stream.get().watch_id for _ in range(2)), [0, 1], 'a half-closed stream is told on')
    stream.close()


def test_options(server, client):
    stream = watching.Stream(client)
    base = put(client, b'o', b'1')
    put(client, b'o', b'2')
    delete(client, b'o')
    last = put(client, b'o', b'3')
    stream.create(key=b'o', start_revision=base, prev_kv=True)
    answer = stream.get()
    TAP.equal([(e.type, e.kv.value, e.prev_kv.value) for e in answer.events],
              [(0, b'1', b''), (0, b'2', b'1'), (1, b'', b'2'), (0, b'3', b'')],
              'history from a revision on, with what was there before')
    stream.create(key=b'o', start_revision=base, filters=[NOPUT])
    TAP.equal(events(stream.get()), [(1, b'o', base + 2, b'')], 'filter NOPUT')
    stream.create(key=b'o', start_revision=base, filters=[NODELETE])
    TAP.equal([e[2] for e in events(stream.get())], [base, base + 1, last], 'filter NODELETE')
    stream.create(key=b'o', start_revision=base, filters=[NODELETE, NOPUT])
    stream.create(key=b'o', start_revision=last + 3)
    for i in range(4):
        put(client, b'o', b'f')
    told = {}
    got = []
    while sum(told.values()) < 10:
        got.append(stream.get())
        told[got[-1].watch_id] = told.get(got[-1].watch_id, 0) + len(got[-1].events)
    TAP.equal(told, {0: 4, 2: 4, 4: 2}, 'each is told what it asked for')
    TAP.equal([e[2] for a in got if a.watch_id == 4 for e in events(a)], [last + 3, last + 4],
              'a start in the future is waited for')
    TAP.ok(not any(a.events for a in got if a.watch_id == 3), 'what filters leave nothing of is not told')
    stream.close()
    # the empty key means the lowest one; all keys
    stream = watching.Stream(client)
    stream.create(key=b'', range_end=b'\0')
    rev = put(client, b'\0', b'low')
    TAP.equal(events(stream.get()), [(0, b'\0', rev, b'low')], 'all keys')
    stream.create(key=b'')
    rev = put(client, b'\0', b'low')
    TAP.equal(sorted(stream.get().watch_id for _ in range(2)), [0, 1], 'the empty key is 0x00')
    stream.close()


def test_compaction(server, client):
    first = put(client, b'c', b'1')
    for i in range(5):
        last = put(client, b'c', b'x')
    stream = watching.Stream(client)
    stream.create(key=b'c')
    compact(client, last - 1)
    stream.create(key=b'c', start_revision=first)
    answer = stream.get()
    TAP.ok(answer.canceled and answer.compact_revision == last - 1 and answer.watch_id == 1 and
           answer.header.revision == 0 and answer.cancel_reason == '' and not answer.events,
           'a compacted start is cancelled, with the revision to begin with', str(answer))
    stream.create(key=b'c', start_revision=last - 1, prev_kv=True)
    answer = stream.get()
    TAP.equal([(e.kv.mod_revision, e.prev_kv.mod_revision) for e in answer.events], [(last - 1, 0), (last, last - 1)],
              'the compacted revision itself can be watched, what was before it is gone')
    last = put(client, b'c', b'y')
    TAP.equal(sorted(stream.get().watch_id for _ in range(2)), [0, 2], 'watches that are up to date do not mind')
    stream.close()


def test_progress(server, client):
    stream = watching.Stream(client)
    stream.send(progress_request=E.WatchProgressRequest())
    TAP.ok(stream.get(0.2) is None, 'progress of a stream without watches is not answered')
    stream.create(key=b'p')
    stream.create(key=b'p1', progress_notify=True)
    bad = []
    for i in range(200):
        rev = put(client, b'p' if i % 2 else b'elsewhere')
        stream.send(progress_request=E.WatchProgressRequest())
        seen = 0
        while True:
            answer = stream.get()
            if answer.events:
                seen = answer.events[-1].kv.mod_revision
            elif answer.watch_id == -1:
                break
        if answer.header.revision < rev or (i % 2 and seen != rev):
            bad.append((i, rev, seen, answer))
    TAP.equal(bad, [], 'progress is exact: never ahead of an event, and not behind')
    answer = stream.get(30)
    TAP.ok(answer is not None and answer.watch_id == 1 and not answer.events and answer.header.revision == rev,
           'a quiet watch is told how far it is', str(answer))
    stream.close()


def test_fragments(server, client):
    stream = watching.Stream(client)
    for letter in (b'x', b'y'):
        rev = client.call(KV + 'Txn', E.TxnRequest(success=[
            E.RequestOp(request_put=E.PutRequest(key=b'frag%d' % i, value=letter * 300000)) for i in range(4)]),
            E.TxnResponse).header.revision
    base = rev
    for i in range(20):
        put(client, b'frag%d' % i, b'y' * 300000)
    stream.create(key=b'frag', range_end=b'frah', start_revision=base, fragment=True, prev_kv=True)
    got = []
    while sum(len(a.events) for a in got) < 24:
        got.append(stream.get())
    TAP.ok(all(a.ByteSize() < 1572864 + 524288 + 1000 for a in got), 'fragments have a bounded size')
    TAP.ok(any(a.fragment for a in got) and not got[-1].fragment, 'all but the last say that more comes')
    TAP.equal([e.kv.mod_revision for a in got for e in a.events], [base] * 4 + [base + 1 + i for i in range(20)],
              'none is missing')
    stream.close()


def test_etcdctl(server, client):
    out = os.path.join(server.dir, 'etcdctl.out')
    env = claviger.etcdctl_environment()

    def ctl(*args):
        subprocess.run(['etcdctl', '--endpoints', server.endpoint, *args], stdout=subprocess.DEVNULL, check=True, env=env)

    with open(out, 'wb') as f:
        process = subprocess.Popen(['etcdctl', '--endpoints', server.endpoint, 'watch', '--prefix', '--prev-kv', 'ctl/'],
                                   stdout=f, stderr=f, env=env)

    def listens():
        # it does not say when it does
        if open(out).read().startswith('PUT\n'):
            return True
        ctl('put', 'ctl/begin', 'x')
        time.sleep(0.2)
        return False

    TAP.ok(claviger.wait_until(listens, 30), 'etcdctl watch listens', open(out).read())
    for args in (('put', 'ctl/a', '1'), ('put', 'ctl/a', '2'), ('del', 'ctl/a')):
        ctl(*args)
    want = 'PUT\nctl/a\n1\nPUT\nctl/a\n1\nctl/a\n2\nDELETE\nctl/a\n2\nctl/a\n\n'
    claviger.wait_until(lambda: open(out).read().endswith(want), 30)
    process.terminate()
    process.wait()
    TAP.equal(open(out).read()[-len(want):], want, 'etcdctl watch shows what it shows with etcd')


def main():
    server = claviger.Server(args=['--watch-progress-notify-interval', '2s', '--max-request-bytes', '1572864']).start()
    client = claviger.Client(server)
    for test in (test_follow, test_many_on_a_stream, test_options, test_compaction, test_progress, test_fragments,
                 test_etcdctl):
        test(server, client)
    client.close()
    # a stop cuts streams and does not wait for them
    client = claviger.Client(server)
    stream = watching.Stream(client)
    stream.create(key=b'x')
    start = time.time()
    TAP.equal(server.stop(), 0, 'the server stops')
    TAP.ok(time.time() - start < 20 * claviger.SLOW, 'without waiting for the watch')
    TAP.ok(stream.ended() is not None, 'whose stream has ended')
    client.close()
    TAP.done()


main()
