#!/usr/bin/python3
"""KV.RangeStream: parts of one version, the counts in the last message, a client that stops reading."""
import os
import sys
import time

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), '..', 'lib'))
import claviger
import grpc
import rawhttp2
from watching import E, KV

TAP = claviger.Tap()


def stream(client, **fields):
    return client.stream(KV + 'RangeStream', E.RangeRequest(**fields), E.RangeStreamResponse)


def check(client, name, **fields):
    """The parts together are what Range answers."""
    want = client.call(KV + 'Range', E.RangeRequest(**fields), E.RangeResponse)
    parts = [p.range_response for p in stream(client, **fields)]
    TAP.ok(len(parts) >= 1 and [kv for p in parts for kv in p.kvs] == list(want.kvs), '%s: the keys' % name)
    TAP.equal((parts[-1].count, parts[-1].more, parts[-1].header.revision), (want.count, want.more, want.header.revision),
              '%s: count, more and revision in the last part' % name)
    TAP.ok(not any(p.count or p.more or p.HasField('header') for p in parts[:-1]), '%s: and only there' % name)
    return parts


def main():
    server = claviger.Server().start()
    client = claviger.Client(server)
    for base in range(0, 3000, 100):
        client.call(KV + 'Txn', E.TxnRequest(success=[E.RequestOp(request_put=E.PutRequest(
            key=b'k%05d' % i, value=b'v' * 1000)) for i in range(base, base + 100)]), E.TxnResponse)
    middle = client.call(KV + 'DeleteRange', E.DeleteRangeRequest(key=b'k00100', range_end=b'k00200'),
                         E.DeleteRangeResponse).header.revision
    all_keys = dict(key=b'k', range_end=b'l')
    parts = check(client, 'all', **all_keys)
    TAP.ok(len(parts[0].kvs) == 10 and len(parts[1].kvs) == 20 and len(parts) > 5, 'parts begin small and grow')
    TAP.ok(max(p.ByteSize() for p in parts) < 3200000, 'up to about the size of a request')
    check(client, 'older revision', revision=middle - 1, **all_keys)
    check(client, 'limit', limit=17, **all_keys)
    check(client, 'limit at the end of a part', limit=10, **all_keys)
    check(client, 'limit beyond', limit=100000, **all_keys)
    check(client, 'limit that is just all', limit=2900, **all_keys)
    check(client, 'keys only', keys_only=True, serializable=True, **all_keys)
    check(client, 'from a key', key=b'k02990', range_end=b'\0')
    check(client, 'one key', key=b'k00001')
    check(client, 'no key', key=b'nothing')
    check(client, 'empty range', key=b'l', range_end=b'k')
    TAP.equal(len(check(client, 'count only', count_only=True, **all_keys)), 1, 'count only is one part')
    for name, fields, want in (
            ('sort order', dict(sort_order=E.RangeRequest.DESCEND, key=b'k'),
             (grpc.StatusCode.UNIMPLEMENTED, 'RangeStream does not support custom sort orders')),
            ('filter', dict(min_mod_revision=3, key=b'k'),
             (grpc.StatusCode.UNIMPLEMENTED, 'RangeStream does not support revision filters')),
            ('no key given', dict(), (grpc.StatusCode.INVALID_ARGUMENT, 'etcdserver: key is not provided')),
            ('future', dict(key=b'k', revision=99999),
             (grpc.StatusCode.OUT_OF_RANGE, 'etcdserver: mvcc: required revision is a future revision'))):
        TAP.equal(claviger.error_of(lambda: stream(client, **fields)), want, '%s is refused' % name)
    client.close()
    TAP.equal(server.stop(), 0, 'the server stops')

    # who does not take his parts loses the stream, not the server its memory
    server = claviger.Server(args=['--snapshot-max-age', '1s', '--snapshot-min-rate', '1000000']).start()
    client = claviger.Client(server)
    for i in range(40):
        client.call(KV + 'Put', E.PutRequest(key=b'k%05d' % i, value=b'v' * 1000000), E.PutResponse)
    wire = rawhttp2.Wire(server)
    message = E.RangeRequest(**all_keys).SerializeToString()
    wire.send(rawhttp2.unary(1, b'/etcdserverpb.KV/RangeStream', message), read=False)

    def holds(least, most):
        wire.receive(0.05)
        return least < wire.memory() < most

    # a sanitizer keeps what was freed
    slack = 112000000 if claviger.SANITIZER else 0
    TAP.ok(claviger.wait_until(lambda: holds(5000000, 10**9), 20), 'parts are made for a client that gives no window')
    TAP.ok(claviger.wait_until(lambda: holds(0, 16000000 + slack), 20), 'and cost little', str(wire.memory()))
    client.call(KV + 'Compact', E.CompactionRequest(revision=20, physical=True), E.CompactionResponse)
    TAP.ok(True, 'and holds up no compaction')
    wire.close()
    client.close()
    TAP.equal(server.stop(), 0, 'the server stops')
    TAP.done()


main()
