#!/usr/bin/python3
"""Defragment gives memory and space on disk back, and stops nobody."""
import os
import re
import subprocess
import sys
import threading

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), '..', 'fault'))
import faults
from faults import claviger
from claviger import wait_until

E = claviger.load_protos()['etcdserverpb']
TAP = claviger.Tap()
KV, MA = 'etcdserverpb.KV/', 'etcdserverpb.Maintenance/'
MB = 1024 * 1024
# where one may have to wait for it, and for how long
POINT, HOLD, FOR_EVER = 'persist-defragment-step', 'sleep:5000', 'sleep:600000'


def directory_bytes(path):
    return sum(os.path.getsize(os.path.join(path, name)) for name in os.listdir(path) if name.endswith('.db'))


def shared_bytes(server):
    """What the worker has of the store in memory."""
    worker = claviger.raft_worker(server) if hasattr(claviger, 'raft_worker') else claviger.children(server)[0]
    text = open('/proc/%d/status' % worker).read()
    return int(re.search(r'RssShmem:\s+(\d+)', text).group(1)) * 1024


def main():
    points = faults.Points([(POINT, HOLD), (POINT, FOR_EVER)])
    server = claviger.Server(env=points.env()).start()
    client = claviger.Client(server)
    put = lambda key, value=b'': client.call(KV + 'Put', E.PutRequest(key=key, value=value), E.PutResponse)
    defragment = lambda c: c.call(MA + 'Defragment', E.DefragmentRequest(), E.DefragmentResponse, timeout=60)
    defragment(client)
    TAP.ok(True, 'there is nothing to do at the beginning')

    for i in range(1500):
        last = put(b'key%05d' % i, b'x' * 100 * 1024).header.revision
    client.call(KV + 'DeleteRange', E.DeleteRangeRequest(key=b'key00000', range_end=b'key01490'),
                E.DeleteRangeResponse)
    client.call(KV + 'Compact', E.CompactionRequest(revision=last + 1, physical=True), E.CompactionResponse)
    want = client.call(MA + 'HashKV', E.HashKVRequest(), E.HashKVResponse).hash
    # the tables are written behind
    TAP.ok(wait_until(lambda: directory_bytes(server.data + '/tables') > 100 * MB, 30),
           'compaction alone leaves the files as long as they were', directory_bytes(server.data + '/tables'))
    full, held = directory_bytes(server.data + '/tables'), shared_bytes(server)
    defragment(client)
    tables, memory = directory_bytes(server.data + '/tables'), shared_bytes(server)
    TAP.ok(tables < 20 * MB, 'of 150 MB in the tables most is given back', tables)
    print('# tables %d -> %d MB, memory %d -> %d MB' % tuple(n // MB for n in (full, tables, held, memory)))
    TAP.ok(memory < held - 20 * MB, 'and what compaction kept of the memory', (held, memory))
    status = client.call(MA + 'Status', E.StatusRequest(), E.StatusResponse)
    TAP.ok(status.dbSize < 100 * MB, 'Status knows it', status.dbSize)
    TAP.equal(client.call(MA + 'HashKV', E.HashKVRequest(), E.HashKVResponse).hash, want, 'nothing has changed')

    # others go on meanwhile, and several at once are one
    for i in range(20000 // 128):
        client.call(KV + 'Txn', E.TxnRequest(success=[
            E.RequestOp(request_put=E.PutRequest(key=b'small%05d' % (i * 128 + j), value=b'y' * 200))
            for j in range(128)]), E.TxnResponse)
    others = [claviger.Client(server) for _ in range(4)]
    # connected, so that nothing but the defragmentation takes time
    TAP.ok(all(wait_until(lambda: claviger.error_of(lambda: c.call(MA + 'Status', E.StatusRequest(), E.StatusResponse)) is None)
               for c in others), 'four clients')
    threads = [threading.Thread(target=defragment, args=(c,)) for c in others]
    armed = points.arm(POINT, HOLD)
    for t in threads:
        t.start()
    TAP.ok(wait_until(lambda: not os.path.exists(armed), 30), 'four ask for it')
    puts = 0
    while all(t.is_alive() for t in threads):
        put(b'meanwhile')
        puts += 1
    for t in threads:
        t.join()
    TAP.ok(puts > 10, 'puts go on in the middle of it', puts)

    done = subprocess.run(['etcdctl', '--endpoints', server.endpoint, 'defrag'], env=claviger.etcdctl_environment(),
                          stdout=subprocess.PIPE, stderr=subprocess.STDOUT, universal_newlines=True,
                          timeout=60 * claviger.SLOW)
    TAP.ok('Finished defragmenting etcd member' in done.stdout, 'etcdctl defrag', done.stdout)

    want = client.call(MA + 'HashKV', E.HashKVRequest(), E.HashKVResponse).hash
    armed = points.arm(POINT, FOR_EVER)
    asked = claviger.Client(server).channel.unary_unary(
        '/' + MA + 'Defragment', request_serializer=lambda m: m.SerializeToString(),
        response_deserializer=E.DefragmentResponse.FromString).future(E.DefragmentRequest())
    TAP.ok(wait_until(lambda: not os.path.exists(armed), 30), 'once more')
    server.kill9()
    server.start()
    client = claviger.Client(server)
    TAP.equal(client.call(MA + 'HashKV', E.HashKVRequest(), E.HashKVResponse).hash, want, 'killed in the middle')
    asked.cancel()
    TAP.equal(server.stop(), 0, 'stops in order')
    TAP.done()


main()
