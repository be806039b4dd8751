#!/usr/bin/python3
"""Many watches on a connection; a client that does not read; a backend that is killed."""
import os
import signal
import sys
import time

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), '..', 'lib'))
import claviger
import rawhttp2
import watching
from claviger import wait_until
from watching import E, KV

TAP = claviger.Tap()
MANY = 10000


def put(client, key, value=b'v'):
    return client.call(KV + 'Put', E.PutRequest(key=key, value=value), E.PutResponse).header.revision


def rss_kb(pid):
    """Private memory: what it shares (the store) is everybody's."""
    total = 0
    for line in open('/proc/%d/smaps_rollup' % pid):
        if line.startswith(('Private_Dirty:', 'Private_Clean:')):
            total += int(line.split()[1])
    return total


def ranges(server):
    return claviger.metric(server, 'claviger_watch_ranges')


def test_many(server, client):
    before = claviger.backends(server)
    watcher = claviger.Client(server)
    stream = watching.Stream(watcher)
    start = time.time()
    for i in range(MANY):
        stream.send(create_request=E.WatchCreateRequest(key=b'many/%05d' % i))
    ids = [stream.get().watch_id for _ in range(MANY)]
    TAP.equal(ids, list(range(MANY)), '%d watches on one stream' % MANY)
    TAP.ok(wait_until(lambda: ranges(server) == MANY, 20), 'are registered', str(ranges(server)))
    backend, = claviger.backends(server) - before
    TAP.ok(rss_kb(backend) < 40000, 'and cost their backend little', '%d kB' % rss_kb(backend))
    for i in range(0, MANY, 1000):
        rev = put(client, b'many/%05d' % i)
        answer = stream.get()
        if not TAP.ok(answer.watch_id == i and answer.events[0].kv.mod_revision == rev, 'number %d is told' % i):
            break
    # all on one key, besides
    for i in range(1000):
        stream.send(create_request=E.WatchCreateRequest(key=b'hot'))
    for i in range(1000):
        stream.get()
    rev = put(client, b'hot')
    told = {stream.get().watch_id for _ in range(1000)}
    TAP.equal(len(told), 1000, 'a thousand on one key are all told')
    stream.send(progress_request=E.WatchProgressRequest())
    TAP.equal(stream.get().header.revision, rev, 'and the stream knows that it is through')
    stream.close()
    watcher.close()
    TAP.ok(wait_until(lambda: ranges(server) == 0, 20), 'nothing is left when they go', str(ranges(server)))


def answers_of(wire):
    """The whole messages that have come on stream 1."""
    data = b''.join(f[3] for f in wire.frames if f[0] == rawhttp2.DATA and f[2] == 1)
    answers = []
    while len(data) >= 5 and len(data) >= 5 + int.from_bytes(data[1:5], 'big'):
        size = 5 + int.from_bytes(data[1:5], 'big')
        answers.append(E.WatchResponse.FromString(data[5:size]))
        data = data[size:]
    return answers


def test_stalled(server, client):
    """One client that does not read its socket, one that reads and gives no window."""
    create = E.WatchRequest(create_request=E.WatchCreateRequest(key=b's/', range_end=b's0')).SerializeToString()
    stalled = [rawhttp2.Wire(server, receive_buffer=4096), rawhttp2.Wire(server)]
    for wire in stalled:
        wire.send(rawhttp2.frame(rawhttp2.HEADERS, rawhttp2.END_HEADERS, 1,
                                 rawhttp2.request_head(b'/etcdserverpb.Watch/Watch')) +
                  rawhttp2.frame(rawhttp2.DATA, 0, 1, rawhttp2.message(create)), read=False)
    good_client = claviger.Client(server)
    good = watching.Stream(good_client)
    good.create(key=b's/', range_end=b's0')
    TAP.ok(wait_until(lambda: ranges(server) == 3, 20), 'two stalled watchers and one that reads', str(ranges(server)))
    kilobyte = b'x' * 1024
    for i in range(1000):
        client.call(KV + 'Txn', E.TxnRequest(success=[
            E.RequestOp(request_put=E.PutRequest(key=b's/%d' % j, value=kilobyte)) for j in range(20)]), E.TxnResponse)
        if i % 100 == 0:
            stalled[1].receive(0.01)
    last = put(client, b's/end')
    seen = 0
    end = time.time() + 60 * claviger.SLOW
    while seen < last and time.time() < end:
        answer = good.get(1)
        if answer is not None and answer.events:
            seen = answer.events[-1].kv.mod_revision
    TAP.equal(seen, last, 'who reads is told everything meanwhile')
    # 20 MB have passed
    TAP.ok(all(rss_kb(wire.pid) < 8000 for wire in stalled), 'the stalled ones hold a bounded amount of memory',
           str([rss_kb(wire.pid) for wire in stalled]))
    start = time.time()
    client.call(KV + 'Compact', E.CompactionRequest(revision=last, physical=True), E.CompactionResponse)
    TAP.ok(time.time() - start < 20 * claviger.SLOW, 'a compaction does not wait for them', '%.1f s' % (time.time() - start))
    TAP.equal(put(client, b's/end'), last + 1, 'and the server serves on')
    # who comes back hears how far he got, and from where to go on
    window = (1 << 30).to_bytes(4, 'big')
    stalled[1].send(rawhttp2.frame(rawhttp2.WINDOW, 0, 0, window) + rawhttp2.frame(rawhttp2.WINDOW, 0, 1, window))
    wait_until(lambda: stalled[1].receive(0.1) and answers_of(stalled[1])[-1].canceled)
    answers = answers_of(stalled[1])
    told = [e.kv.mod_revision for a in answers for e in a.events]
    TAP.equal(told, [told[0] + i // 20 for i in range(len(told))], 'who reads again is told first what was waiting')
    TAP.ok(told[-1] < last and answers[-1].canceled and answers[-1].compact_revision == last and
           answers[-1].cancel_reason == '' and not answers[-1].events,
           'and then that his watch is cancelled, because the rest is compacted', str(answers[-1])[:500])
    for wire in stalled:
        wire.close()
    good.close()
    good_client.close()


def test_kill(server, client):
    before = claviger.backends(server)
    victim = claviger.Client(server)
    stream = watching.Stream(victim)
    for i in range(100):
        stream.create(key=b'kill/%d' % i, range_end=b'\0')
    TAP.ok(wait_until(lambda: ranges(server) == 100, 20), 'a hundred ranges are registered', str(ranges(server)))
    backend, = claviger.backends(server) - before
    os.kill(backend, signal.SIGKILL)
    TAP.ok(stream.ended() is not None, 'a backend is killed, its stream ends')
    TAP.ok(wait_until(lambda: ranges(server) == 0, 20), 'and leaves nothing registered', str(ranges(server)))
    TAP.ok(put(client, b'kill/5') > 0, 'the others go on')
    stream.close()
    victim.close()


def main():
    # what else would end their connections, or the hold of somebody on an old
    # version, is not to do so before the test has looked
    server = claviger.Server(args=['--client-send-timeout', '10m', '--snapshot-max-age', '10m']).start()
    client = claviger.Client(server)
    put(client, b'begin')
    for test in (test_many, test_stalled, test_kill):
        test(server, client)
    client.close()
    TAP.equal(server.stop(), 0, 'the server stops')
    TAP.done()


main()
