#!/usr/bin/python3
"""Automatic compaction in both modes; physical compaction; the compactor's
death."""
import os
import re
import signal
import subprocess
import sys
import time

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), '..', 'fault'))
import faults
from faults import claviger
import grpc
from claviger import error_of

E = claviger.load_protos()['etcdserverpb']
TAP = claviger.Tap()
KV, MA = 'etcdserverpb.KV/', 'etcdserverpb.Maintenance/'
COMPACTED = (grpc.StatusCode.OUT_OF_RANGE, 'etcdserver: mvcc: required revision has been compacted')


class World:
    def __init__(self, *args, env=None):
        self.server = claviger.Server(args=args, env=env).start()
        self.client = claviger.Client(self.server)

    def put(self, key=b'k', value=b'v'):
        return self.client.call(KV + 'Put', E.PutRequest(key=key, value=value), E.PutResponse).header.revision

    def compacted(self):
        return self.client.call(MA + 'HashKV', E.HashKVRequest(), E.HashKVResponse).compact_revision

    def wait_compacted(self, revision, seconds):
        end = time.time() + seconds * claviger.SLOW
        while time.time() < end and self.compacted() < revision:
            time.sleep(0.05)
        return self.compacted()

    def stop(self):
        self.client.close()
        TAP.equal(self.server.stop(), 0, 'stops in order')


def test_revision():
    world = World('--auto-compaction-mode=revision', '--auto-compaction-retention=10',
                  '--auto-compaction-interval=300ms')
    for _ in range(30):
        last = world.put()
    TAP.equal(world.wait_compacted(last - 10, 30), last - 10, 'mode revision leaves ten revisions')
    time.sleep(0.7)
    TAP.equal(world.compacted(), last - 10, 'and compacts no further while nothing changes')
    TAP.equal(error_of(lambda: world.client.call(KV + 'Range', E.RangeRequest(key=b'k', revision=last - 11),
                                                 E.RangeResponse)), COMPACTED, 'what is older cannot be read')

    killed = claviger.auxiliary(world.server, 'compactor')
    TAP.ok(killed, 'the compactor is a process of its own')
    os.kill(killed, signal.SIGKILL)
    for _ in range(30):
        last = world.put()
    TAP.equal(world.wait_compacted(last - 10, 30), last - 10, 'it is started again when it dies')
    TAP.ok(claviger.auxiliary(world.server, 'compactor') not in (None, killed), 'as another process')

    world.client.close()
    world.server.kill9()
    world.server.start()
    world.client = claviger.Client(world.server)
    for _ in range(30):
        last = world.put()
    TAP.equal(world.wait_compacted(last - 10, 30), last - 10, 'and goes on after a crash of all')
    world.stop()


def test_killed():
    """Dead before it has asked, and after: the next one compacts as far."""
    names = ['compactor-before-compact', 'compactor-proposed']
    points = faults.Points([(name, 'kill') for name in names])
    world = World('--auto-compaction-mode=revision', '--auto-compaction-retention=10',
                  '--auto-compaction-interval=200ms', env=points.env())
    for name in names:
        killed = claviger.auxiliary(world.server, 'compactor')
        armed = points.arm(name, 'kill')
        for _ in range(30):
            last = world.put()
        TAP.ok(faults.wait_for(lambda: not os.path.exists(armed), 10 * claviger.SLOW), 'it dies at %s' % name)
        TAP.equal(world.wait_compacted(last - 10, 15), last - 10, 'and the next one compacts as far')
        # what the first had asked for may have been compacted without another
        TAP.ok(faults.wait_for(lambda: claviger.auxiliary(world.server, 'compactor') not in (None, killed),
                               15 * claviger.SLOW), 'as another process')
    world.stop()


def test_periodic():
    world = World('--auto-compaction-retention=1s')
    for _ in range(9):
        world.put()
    began = time.time()
    early = world.put()
    while world.compacted() < early and time.time() < began + 30 * claviger.SLOW:
        world.put()
        time.sleep(0.02)
    took = time.time() - began
    TAP.ok(world.compacted() >= early, 'mode periodic compacts what is old')
    TAP.ok(took > 0.7, 'not before the retention has passed', took)
    for _ in range(20):
        began = time.time()
        recent = world.put()
        is_left = world.compacted() < recent
        if time.time() - began < 0.7:       # else it has a right to be gone
            break
    TAP.ok(is_left, 'and leaves what is young')
    TAP.equal(world.wait_compacted(recent, 30), recent, 'until that is old')
    world.stop()


def test_off():
    world = World()
    for _ in range(20):
        last = world.put()
    time.sleep(0.5)
    TAP.equal(world.compacted(), -1, 'without the setting nothing is compacted')

    # what physical waits for
    values = 2000
    for i in range(values):
        last = world.put(b'big', b'x' * 1000)
    status = lambda: world.client.call(MA + 'Status', E.StatusRequest(), E.StatusResponse)
    before = status().dbSizeInUse
    world.client.call(KV + 'Compact', E.CompactionRequest(revision=last, physical=True), E.CompactionResponse)
    after = status().dbSizeInUse
    TAP.ok(before > values * 1000 and after < 100000, 'physical compaction has freed it when it answers',
           (before, after))
    done = subprocess.run(['etcdctl', '--endpoints', world.server.endpoint, 'compaction', '--physical',
                           str(world.put())], env=claviger.etcdctl_environment(), stdout=subprocess.PIPE,
                          timeout=60 * claviger.SLOW, universal_newlines=True)
    TAP.ok(done.stdout.startswith('compacted revision'), 'etcdctl compaction --physical', done.stdout)
    world.stop()


def test_stop():
    """An order to stop while the tables are far behind: what they have not got
    in a few seconds is left to the log, and the removal to the next start."""
    # 2048 changes each time
    world = World(env={'CLAVIGER_INJECT': 'persist-in-transaction=sleep:400'})
    for n in range(400):
        last = world.client.call(KV + 'Txn', E.TxnRequest(success=[E.RequestOp(request_put=E.PutRequest(
            key=b'k%d' % i, value=b'%d' % n)) for i in range(128)]), E.TxnResponse).header.revision
    world.client.call(KV + 'Compact', E.CompactionRequest(revision=last, physical=True), E.CompactionResponse)
    begin = time.time()
    world.client.close()
    TAP.equal(world.server.stop(seconds=60), 0, 'stops in order right after a large compaction')
    took = time.time() - begin
    TAP.ok(took < 8 * claviger.SLOW, 'in a few seconds', took)
    log = open(world.server.log).read()
    TAP.ok('are left to the next start' in log, 'and says what it has left', log[-1000:])

    del world.server.env['CLAVIGER_INJECT']
    for turn in ('the next start', 'another, after an orderly stop'):
        position = os.path.getsize(world.server.log)
        world.server.start()
        world.client = claviger.Client(world.server)
        answer = world.client.call(KV + 'Range', E.RangeRequest(key=b'k', range_end=b'l'), E.RangeResponse)
        TAP.equal((answer.header.revision, {kv.value for kv in answer.kvs}, len(answer.kvs), world.compacted()),
                  (last, {b'399'}, 128, last), '%s has all keys, and history up to where it was compacted' % turn)
        status = lambda: world.client.call(MA + 'Status', E.StatusRequest(), E.StatusResponse)
        TAP.ok(claviger.wait_until(lambda: status().dbSizeInUse < 40000), 'and removes the rest', status().dbSizeInUse)
        # so that the tables have it too
        world.client.call(MA + 'Defragment', E.DefragmentRequest(), E.DefragmentResponse)
        world.stop()
    loaded = re.findall(r'tables loaded in \d+ ms: (\d+) versions', faults.log_since(world.server, position))
    TAP.equal(loaded, ['128'], 'whose tables have nothing else then')


def main():
    test_revision()
    test_killed()
    test_periodic()
    test_off()
    test_stop()
    TAP.done()


main()
