#!/usr/bin/python3
"""Hash and HashKV: equal for equal states, over restarts and removals, and they
hold up nobody."""
import os
import subprocess
import sys
import threading
import time

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), '..', 'lib'))
import claviger
import grpc
from claviger import error_of

E = claviger.load_protos()['etcdserverpb']
TAP = claviger.Tap()
KV, MA, AU = 'etcdserverpb.KV/', 'etcdserverpb.Maintenance/', 'etcdserverpb.Auth/'
COMPACTED = (grpc.StatusCode.OUT_OF_RANGE, 'etcdserver: mvcc: required revision has been compacted')
FUTURE = (grpc.StatusCode.OUT_OF_RANGE, 'etcdserver: mvcc: required revision is a future revision')
N = 20000
HASHES = 10                     # of each revision


class World:
    def __init__(self):
        self.server = claviger.Server().start()
        self.client = claviger.Client(self.server)

    def restart(self, how):
        self.client.close()
        how()
        self.server.start()
        self.client = claviger.Client(self.server)

    def put(self, key, value=b''):
        return self.client.call(KV + 'Put', E.PutRequest(key=key, value=value), E.PutResponse).header.revision

    def delete(self, key):
        self.client.call(KV + 'DeleteRange', E.DeleteRangeRequest(key=key), E.DeleteRangeResponse)

    def compact(self, revision, physical=False):
        self.client.call(KV + 'Compact', E.CompactionRequest(revision=revision, physical=physical),
                         E.CompactionResponse)

    def hash_kv(self, revision=0):
        return self.client.call(MA + 'HashKV', E.HashKVRequest(revision=revision), E.HashKVResponse, timeout=60)

    def hash(self):
        return self.client.call(MA + 'Hash', E.HashRequest(), E.HashResponse, timeout=60).hash


def test_equal_states(world):
    TAP.equal(world.hash_kv().compact_revision, -1, 'never compacted is -1')
    for i in range(50):
        last = world.put(b'k%d' % (i % 20), b'v%d' % i)
    world.delete(b'k3')
    old = world.hash_kv(last - 10)
    new = world.hash_kv()
    TAP.equal((new.header.revision, new.hash_revision), (last + 1, last + 1), 'the newest revision, if none is asked')
    TAP.ok(old.hash != new.hash and old.hash_revision == last - 10, 'another revision, another hash')
    TAP.equal(world.hash_kv(last + 1).hash, new.hash, 'asked for by its number it is the same')
    whole = world.hash()
    world.put(b'more')
    TAP.equal(world.hash_kv(last + 1).hash, new.hash, 'and later on, too')
    TAP.ok(world.hash() != whole, 'Hash is of the current state')
    TAP.equal(error_of(lambda: world.hash_kv(last + 100)), FUTURE, 'none of the future')

    whole = world.hash()
    world.restart(world.server.stop)
    TAP.equal((world.hash_kv(last + 1).hash, world.hash()), (new.hash, whole), 'the same after a restart')
    world.restart(world.server.kill9)
    TAP.equal((world.hash_kv(last + 1).hash, world.hash()), (new.hash, whole), 'and after kill -9')

    world.compact(last - 5)
    before = [world.hash_kv(r).hash for r in (last - 4, last, last + 1)]
    TAP.equal(world.hash_kv().compact_revision, last - 5, 'tells the compacted revision')
    TAP.equal(error_of(lambda: world.hash_kv(last - 5)), COMPACTED, 'which itself is gone')
    time.sleep(0.2)
    world.compact(last - 4, physical=True)
    TAP.equal([world.hash_kv(r).hash == h for r, h in zip((last, last + 1), before[1:])], [False, False],
              'another compacted revision is another hash')
    before = [world.hash_kv(r).hash for r in (last, last + 1, 0)]
    world.restart(world.server.kill9)
    TAP.equal([world.hash_kv(r).hash for r in (last, last + 1, 0)], before, 'removal or restart make no difference')

    whole, keys = world.hash(), world.hash_kv().hash
    world.client.call(AU + 'RoleAdd', E.AuthRoleAddRequest(name='r'), E.AuthRoleAddResponse)
    TAP.ok(world.hash() != whole, 'a role counts for Hash')
    TAP.equal(world.hash_kv().hash, keys, 'and not for HashKV')


def fill(world):
    ops = lambda i: [E.RequestOp(request_put=E.PutRequest(key=b'fill%06d' % j, value=b'v' * 500))
                     for j in range(i, i + 100)]
    for i in range(0, N, 100):
        world.client.call(KV + 'Txn', E.TxnRequest(success=ops(i)), E.TxnResponse)


def test_others_go_on(world):
    """Puts of the same connection, while hashes run one after the other; each
    must be seen by the next get, though the hashes hold old versions."""
    fill(world)
    hash_kv = world.client.channel.unary_unary(
        '/' + MA + 'HashKV', request_serializer=lambda m: m.SerializeToString(),
        response_deserializer=E.HashKVResponse.FromString)
    revisions = [world.put(b'x') for _ in range(20)]
    good = seen = True
    # a test that does not get to run may miss all of them, but not each time
    for _ in range(10):
        asked = [hash_kv.future(E.HashKVRequest(revision=r), timeout=120 * claviger.SLOW) for r in revisions * HASHES]
        n = 0
        while not any(f.done() for f in asked[-20:]):
            world.put(b'x', b'%d' % n)
            got = world.client.call(KV + 'Range', E.RangeRequest(key=b'x', serializable=True), E.RangeResponse)
            seen = seen and got.kvs[0].value == b'%d' % n
            n += 1
        hashes = [f.result().hash for f in asked]
        good = good and len(set(hashes)) == 20 and hashes == hashes[:20] * HASHES
        if n > 2:
            break
    TAP.ok(good, 'twenty hashes of twenty revisions')
    TAP.ok(seen, 'reads of the connection see its writes meanwhile')
    TAP.ok(n > 2, 'and do not wait for the hashes', n)


def test_etcdctl(world):
    done = subprocess.run(['etcdctl', '--endpoints', world.server.endpoint, 'endpoint', 'hashkv'],
                          env=claviger.etcdctl_environment(), timeout=60 * claviger.SLOW, stdout=subprocess.PIPE,
                          universal_newlines=True)
    TAP.equal(done.stdout.strip(), '%s, %d' % (world.server.endpoint, world.hash_kv().hash), 'etcdctl endpoint hashkv')


def main():
    world = World()
    test_equal_states(world)
    test_others_go_on(world)
    test_etcdctl(world)
    TAP.equal(world.server.stop(), 0, 'stops in order')
    TAP.done()


main()
