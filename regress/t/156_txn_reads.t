#!/usr/bin/python3
"""A transaction that writes is carried out while everybody waits: what it may
read there, so that a small request neither stops nor fills the server."""
import os
import sys

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), '..', 'lib'))
import claviger
import grpc
from claviger import error_of

E = claviger.load_protos()['etcdserverpb']
TAP = claviger.Tap()
KEYS, VALUE = 5000, b'x' * 1000
REFUSED = (grpc.StatusCode.INVALID_ARGUMENT, 'claviger: a transaction that writes may not read that much')


def op_put(key, value=b''):
    return E.RequestOp(request_put=E.PutRequest(key=key, value=value))


def op_range(**f):
    return E.RequestOp(request_range=E.RangeRequest(key=b'k', range_end=b'l', **f))


def compare():
    return E.Compare(key=b'k', range_end=b'l', target=E.Compare.MOD, result=E.Compare.GREATER, mod_revision=0)


def main():
    # the answer to the first of these was 600 MB, and the end of the raft worker
    server = claviger.Server(args=['--quota-backend-bytes', '100000000', '--shared-memory-size', '500000000']).start()
    client = claviger.Client(server)

    def txn(**f):
        return client.call('etcdserverpb.KV/Txn', E.TxnRequest(**f), E.TxnResponse)

    def get(key):
        return client.call('etcdserverpb.KV/Range', E.RangeRequest(key=key), E.RangeResponse)

    for first in range(0, KEYS, 100):
        txn(success=[op_put(b'k%05d' % i, VALUE) for i in range(first, first + 100)])
    worker = claviger.children(server)[0]
    revision = get(b'new').header.revision
    # what is not compared and not run is not read
    nested = E.RequestOp(request_txn=E.TxnRequest(success=[op_range()] * 60))
    for name, fields in (('ranges', {'success': [op_put(b'new')] + [op_range()] * 127}),
                         ('counts', {'success': [op_put(b'new')] + [op_range(count_only=True)] * 127}),
                         ('sorts', {'success': [op_put(b'new')] + [op_range(limit=1, sort_target=E.RangeRequest.VALUE)] * 127}),
                         ('compares', {'compare': [compare()] * 127, 'success': [op_put(b'new')]}),
                         ('nested ranges', {'success': [op_put(b'new')] + [nested] * 20})):
        TAP.equal(error_of(lambda: txn(**fields)), REFUSED, name + ' are refused')
        answer = get(b'new')
        TAP.equal((answer.count, answer.header.revision), (0, revision), name + ': nothing was written')
    TAP.equal(error_of(lambda: txn(failure=[op_put(b'new')] + [op_range()] * 127)), None, 'the branch that does not run')
    answer = txn(compare=[compare()] * 10, success=[op_put(b'new'), op_range(), op_range(limit=1, sort_target=E.RangeRequest.CREATE)])
    TAP.equal((answer.succeeded, answer.responses[1].response_range.count, len(answer.responses[2].response_range.kvs)),
              (True, KEYS, 1), 'what is within the bounds runs')
    answer = txn(success=[op_range(count_only=True)] * 127)
    TAP.equal(answer.responses[126].response_range.count, KEYS, 'one that only reads may read more')
    TAP.equal(claviger.children(server)[0], worker, 'still the same raft worker')
    client.close()
    TAP.equal(server.stop(), 0, 'stops in order')
    TAP.done()


main()
