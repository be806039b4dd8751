#!/usr/bin/python3
"""Codes and texts of refused requests, limits, and answers of the key-value
calls, as the wire reference has them, from a running server."""
import os
import sys

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), '..', 'lib'))
import claviger
import grpc
from claviger import error_of

P = claviger.load_protos()
E = P['etcdserverpb']
A = P['authpb']
TAP = claviger.Tap()
KV, AU = 'etcdserverpb.KV/', 'etcdserverpb.Auth/'
S = grpc.StatusCode
LIMIT = 1572864


def raw(client, path, data, **options):
    """Bytes for a message, as they are."""
    stub = client.channel.unary_unary(path, request_serializer=None, response_deserializer=None)
    return stub(data, timeout=60 * claviger.SLOW, **options)


def rng(**f):
    return (KV + 'Range', E.RangeRequest(**f), E.RangeResponse)


def put(**f):
    return (KV + 'Put', E.PutRequest(**f), E.PutResponse)


def delete(**f):
    return (KV + 'DeleteRange', E.DeleteRangeRequest(**f), E.DeleteRangeResponse)


def txn(**f):
    return (KV + 'Txn', E.TxnRequest(**f), E.TxnResponse)


def compact(revision):
    return (KV + 'Compact', E.CompactionRequest(revision=revision), E.CompactionResponse)


def auth(method, **f):
    name = method if method.startswith('Auth') else 'Auth' + method
    return (AU + method, getattr(E, name + 'Request')(**f), getattr(E, name + 'Response'))


def op(**f):
    return E.RequestOp(**f)


def op_put(key, **f):
    return op(request_put=E.PutRequest(key=key, **f))


def op_del(key, end=b''):
    return op(request_delete_range=E.DeleteRangeRequest(key=key, range_end=end))


def op_txn(**f):
    return op(request_txn=E.TxnRequest(**f))


EMPTY_KEY = (S.INVALID_ARGUMENT, 'etcdserver: key is not provided')
DUPLICATE = (S.INVALID_ARGUMENT, 'etcdserver: duplicate key given in txn request')
TOO_MANY = (S.INVALID_ARGUMENT, 'etcdserver: too many operations in txn request')
MANAGEMENT = (S.INVALID_ARGUMENT, 'etcdserver: invalid auth management')

REFUSED = [
    ('range without key', rng(), EMPTY_KEY),
    ('put without key', put(value=b'x'), EMPTY_KEY),
    ('delete without key', delete(), EMPTY_KEY),
    ('txn put without key', txn(success=[op_put(b'')]), EMPTY_KEY),
    ('txn compare without key', txn(compare=[E.Compare()]), EMPTY_KEY),
    ('nested put without key', txn(success=[op_txn(success=[op_put(b'')])]), EMPTY_KEY),
    ('unknown sort order', rng(key=b'a', sort_order=9), (S.INVALID_ARGUMENT, 'etcdserver: invalid sort option')),
    ('unknown sort target', rng(key=b'a', sort_target=9), (S.INVALID_ARGUMENT, 'etcdserver: invalid sort option')),
    ('future revision', rng(key=b'a', revision=1 << 40),
     (S.OUT_OF_RANGE, 'etcdserver: mvcc: required revision is a future revision')),
    ('ignore_value with value', put(key=b'a', value=b'x', ignore_value=True),
     (S.INVALID_ARGUMENT, 'etcdserver: value is provided')),
    ('ignore_lease with lease', put(key=b'a', lease=5, ignore_lease=True),
     (S.INVALID_ARGUMENT, 'etcdserver: lease is provided')),
    ('ignore_value of no key', put(key=b'none', ignore_value=True), (S.INVALID_ARGUMENT, 'etcdserver: key not found')),
    ('unknown lease', put(key=b'a', lease=77), (S.NOT_FOUND, 'etcdserver: requested lease not found')),
    ('put twice', txn(success=[op_put(b'a'), op_put(b'a')]), DUPLICATE),
    ('put and delete', txn(success=[op_put(b'b'), op_del(b'a', b'c')]), DUPLICATE),
    ('put and delete from key', txn(success=[op_put(b'b'), op_del(b'a', b'\0')]), DUPLICATE),
    ('put twice, once nested', txn(success=[op_put(b'a'), op_txn(success=[op_put(b'a')])]), DUPLICATE),
    ('129 operations', txn(success=[op_put(b'%d' % i) for i in range(129)]), TOO_MANY),
    ('129 compares', txn(compare=[E.Compare(key=b'a')] * 129), TOO_MANY),
    ('nested gets the rest', txn(success=[op_txn(success=[op_put(b'n%d' % i) for i in range(128)])]), TOO_MANY),
    ('operation without content', txn(success=[op()]), (S.INVALID_ARGUMENT, 'etcdserver: key not found')),
    ('compact the future', compact(1 << 40),
     (S.OUT_OF_RANGE, 'etcdserver: mvcc: required revision is a future revision')),
    ('auth enable without root', auth('AuthEnable'), (S.FAILED_PRECONDITION, 'etcdserver: root user does not exist')),
    ('authenticate with auth off', auth('Authenticate', name='x', password='y'),
     (S.FAILED_PRECONDITION, 'etcdserver: authentication is not enabled')),
    ('user without name', auth('UserAdd'), (S.INVALID_ARGUMENT, 'etcdserver: user name is empty')),
    ('role without name', auth('RoleAdd'), (S.INVALID_ARGUMENT, 'etcdserver: role name is empty')),
    ('get of no user', auth('UserGet', name='x'), (S.FAILED_PRECONDITION, 'etcdserver: user name not found')),
    ('delete of no user', auth('UserDelete', name='x'), (S.FAILED_PRECONDITION, 'etcdserver: user name not found')),
    ('get of no role', auth('RoleGet', role='x'), (S.FAILED_PRECONDITION, 'etcdserver: role name not found')),
    ('delete of no role', auth('RoleDelete', role='x'), (S.FAILED_PRECONDITION, 'etcdserver: role name not found')),
    ('grant without permission', auth('RoleGrantPermission', name='x'),
     (S.INVALID_ARGUMENT, 'etcdserver: permission not given')),
    ('grant of an inverted range', auth('RoleGrantPermission', name='x', perm=A.Permission(key=b'b', range_end=b'a')),
     MANAGEMENT),
    ('grant without key', auth('RoleGrantPermission', name='x', perm=A.Permission(range_end=b'a')), MANAGEMENT),
    ('grant to no role', auth('RoleGrantPermission', name='x', perm=A.Permission(key=b'a')),
     (S.FAILED_PRECONDITION, 'etcdserver: role name not found')),
    ('password too long', auth('UserAdd', name='long', password='x' * 2000),
     (S.INVALID_ARGUMENT, 'claviger: the password is longer than 1024 bytes')),
    ('value over the limit', put(key=b'a', value=b'x' * LIMIT), (S.INVALID_ARGUMENT, 'etcdserver: request is too large')),
    ('message over the limit', put(key=b'a', value=b'x' * (LIMIT + 600000)),
     (S.RESOURCE_EXHAUSTED, 'grpc: received message larger than max (%d vs. %d)' % (LIMIT + 600000 + 8, LIMIT + 524288))),
]


def check_refused(client):
    for name, (method, request, response), want in REFUSED:
        TAP.equal(error_of(lambda: client.call(method, request, response)), want, name)


def check_wire(client):
    path = '/' + KV + 'Range'
    TAP.equal(error_of(lambda: raw(client, '/no.Such/Thing', b'')), (S.UNIMPLEMENTED, 'unknown service no.Such'),
              'unknown service')
    TAP.equal(error_of(lambda: raw(client, '/etcdserverpb.KV/Thing', b'')),
              (S.UNIMPLEMENTED, 'unknown method Thing for service etcdserverpb.KV'), 'unknown method')
    TAP.equal(error_of(lambda: raw(client, '/nothing', b''))[0], S.UNIMPLEMENTED, 'path without service')
    for name, data in (('truncated', b'\x0a\x05a'), ('wrong wire type', b'\x0b'), ('endless varint', b'\x08' + b'\xff' * 20)):
        code, text = error_of(lambda: raw(client, path, data)) or (None, '')
        TAP.ok(code == S.INTERNAL and text.startswith('grpc: error unmarshalling request'), 'message %s' % name,
               (code, text))
    code, text = error_of(lambda: raw(client, '/' + AU + 'UserGet', b'\x0a\x02\xff\xfe'))
    TAP.ok(code == S.INTERNAL and text.startswith('grpc: error unmarshalling request'), 'invalid UTF-8 in a name')
    code, text = error_of(lambda: raw(client, '/' + AU + 'UserGet', b'\x0a\x03a\0b'))
    TAP.equal(code, S.INTERNAL, 'a zero byte in a name')
    deep = b''
    for _ in range(3000):                       # transactions in transactions
        inner = b'\x22' + varint(len(deep)) + deep
        deep = b'\x12' + varint(len(inner)) + inner
    TAP.equal(error_of(lambda: raw(client, '/' + KV + 'Txn', deep)), TOO_MANY, '3000 nested transactions')
    TAP.equal(error_of(lambda: raw(client, path, b'\x0a\x01a', compression=grpc.Compression.Gzip)),
              (S.UNIMPLEMENTED, 'grpc: Decompressor is not installed for grpc-encoding "gzip"'), 'gzip')
    TAP.equal(error_of(lambda: raw(client, path, b'\x0a\x01a', metadata=[('client-api-version', 'x')])), None,
              'client-api-version')


def varint(n):
    out = b''
    while n >= 128:
        out += bytes([n & 127 | 128])
        n >>= 7
    return out + bytes([n])


def check_answers(client):
    call = lambda what: client.call(*what)
    first = call(put(key=b'k1', value=b'v1')).header.revision
    second = call(put(key=b'k1', value=b'v2', prev_kv=True))
    TAP.equal((second.header.revision, second.prev_kv.value, second.prev_kv.version), (first + 1, b'v1', 1), 'prev_kv of a put')
    kv = call(rng(key=b'k1')).kvs[0]
    TAP.equal((kv.create_revision, kv.mod_revision, kv.version, kv.value), (first, first + 1, 2, b'v2'), 'revisions of a key')
    TAP.equal(call(rng(key=b'k1', revision=first)).kvs[0].value, b'v1', 'an old revision')
    TAP.ok(call(put(key=b'k1', ignore_value=True)).header.revision == first + 2 and
           call(rng(key=b'k1')).kvs[0].value == b'v2', 'ignore_value')
    for i in range(10):
        call(put(key=b'r%d' % i, value=b'%d' % (9 - i)))
    page = call(rng(key=b'r', range_end=b's', limit=3))
    TAP.equal(([kv.key for kv in page.kvs], page.more, page.count), ([b'r0', b'r1', b'r2'], True, 10), 'limit, more, count')
    TAP.equal([kv.key for kv in call(rng(key=b'r', range_end=b's', limit=2, sort_order=2)).kvs], [b'r9', b'r8'], 'descending')
    TAP.equal([kv.key for kv in call(rng(key=b'r', range_end=b's', limit=2, sort_target=4, sort_order=1)).kvs],
              [b'r9', b'r8'], 'sorted by value')
    only = call(rng(key=b'r', range_end=b's', keys_only=True, limit=1))
    TAP.equal((only.kvs[0].key, only.kvs[0].value), (b'r0', b''), 'keys_only')
    count = call(rng(key=b'r5', range_end=b'\0', count_only=True))
    TAP.equal((len(count.kvs), count.count), (0, 5), 'count_only from a key')
    TAP.equal(call(rng(key=b'r', range_end=b'r')).count, 0, 'an empty range')
    gone = call(delete(key=b'r5', range_end=b's', prev_kv=True))
    TAP.equal((gone.deleted, [kv.key for kv in gone.prev_kvs]), (5, [b'r5', b'r6', b'r7', b'r8', b'r9']), 'delete with prev_kv')
    TAP.equal(call(delete(key=b'none')).header.revision, gone.header.revision, 'a delete of nothing is no revision')
    answer = call(txn(
        compare=[E.Compare(result=E.Compare.EQUAL, target=E.Compare.VALUE, key=b'k1', value=b'v2')],
        success=[op_put(b't1', value=b'1'), op(request_range=E.RangeRequest(key=b't1')), op_del(b't3'),
                 op_txn(success=[op_put(b't2', value=b'2')])],
        failure=[op_put(b'no')]))
    TAP.equal((answer.succeeded, [r.WhichOneof('response') for r in answer.responses]),
              (True, ['response_put', 'response_range', 'response_delete_range', 'response_txn']), 'a transaction')
    TAP.equal([kv.value for kv in answer.responses[1].response_range.kvs], [b'1'], 'sees its own writes')
    TAP.equal(call(rng(key=b't1')).kvs[0].mod_revision, call(rng(key=b't2')).kvs[0].mod_revision, 'in one revision')


def check_txn_atomic(client):
    call = lambda what: client.call(*what)
    before = call(rng(key=b'\0', range_end=b'\0', count_only=True))
    failed = error_of(lambda: call(txn(success=[op_put(b'atom1', value=b'x'), op_put(b'atom2', lease=99)])))
    after = call(rng(key=b'\0', range_end=b'\0', count_only=True))
    TAP.equal((failed, after.header.revision, after.count),
              ((S.NOT_FOUND, 'etcdserver: requested lease not found'), before.header.revision, before.count),
              'a transaction that fails changes nothing')


def check_compaction(client):
    call = lambda what: client.call(*what)
    for i in range(20):
        last = call(put(key=b'c', value=b'%d' % i)).header.revision
    call(compact(last - 5))
    TAP.equal(error_of(lambda: call(rng(key=b'c', revision=last - 6))),
              (S.OUT_OF_RANGE, 'etcdserver: mvcc: required revision has been compacted'), 'below the compacted revision')
    TAP.equal(call(rng(key=b'c', revision=last - 5)).kvs[0].value, b'14', 'at the compacted revision')
    TAP.equal(error_of(lambda: call(compact(last - 5))),
              (S.OUT_OF_RANGE, 'etcdserver: mvcc: required revision has been compacted'), 'compacted twice')


def check_large_answers(client):
    for i in range(30):
        client.call(*put(key=b'big%02d' % i, value=bytes([i]) * 1000000))
    answer = client.call(*rng(key=b'big', range_end=b'bih'))
    TAP.equal([len(kv.value) for kv in answer.kvs], [1000000] * 30, 'an answer of 30 MB')
    answer = client.call(*txn(success=[op_put(b'x', value=b'y'), op(request_range=E.RangeRequest(
        key=b'big', range_end=b'bih'))]))
    TAP.equal(len(answer.responses[1].response_range.kvs), 30, 'and one from a transaction that writes')
    too_large = (S.RESOURCE_EXHAUSTED,
                 'claviger: the answer is larger than 255 MB; ask for it in parts, or with RangeStream')
    all_big = op(request_range=E.RangeRequest(key=b'big', range_end=b'bih', sort_target=E.RangeRequest.VALUE))
    answer = client.call(*txn(success=[all_big] * 8))
    TAP.equal([len(r.response_range.kvs) for r in answer.responses], [30] * 8, 'an answer of 240 MB')
    TAP.equal(error_of(lambda: client.call(*txn(success=[all_big] * 100))), too_large, 'one of 3 GB')
    for i in range(30, 270):
        client.call(*put(key=b'big%03d' % i, value=bytes([i % 256]) * 1000000))
    for sort in ({}, {'sort_order': E.RangeRequest.DESCEND}):
        TAP.equal(error_of(lambda: client.call(*rng(key=b'big', range_end=b'bih', **sort))), too_large, 'a range of 270 MB')


def check_deadline(client):
    stub = client.channel.unary_unary('/' + KV + 'Range', request_serializer=None, response_deserializer=None)
    future = stub.future(b'\x0a\x01a', timeout=60 * claviger.SLOW)
    future.cancel()
    TAP.ok(client.call(*rng(key=b'k1')).count == 1, 'a cancelled request does not disturb the connection')


def main():
    server = claviger.Server().start()
    client = claviger.Client(server)
    check_refused(client)
    check_wire(client)
    check_answers(client)
    check_txn_atomic(client)
    check_compaction(client)
    check_large_answers(client)
    check_deadline(client)
    TAP.equal(server.stop(), 0, 'stops in order')
    TAP.done()


main()
