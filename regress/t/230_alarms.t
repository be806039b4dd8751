#!/usr/bin/python3
"""Quota and alarms: reached, told, kept over a crash, cleared; and what goes on
meanwhile."""
import os
import subprocess
import sys
import time

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), '..', 'lib'))
import claviger
import grpc
from claviger import error_of

E = claviger.load_protos()['etcdserverpb']
TAP = claviger.Tap()
KV, MA = 'etcdserverpb.KV/', 'etcdserverpb.Maintenance/'
NO_SPACE = (grpc.StatusCode.RESOURCE_EXHAUSTED, 'etcdserver: mvcc: database space exceeded')
CORRUPT = (grpc.StatusCode.DATA_LOSS, 'etcdserver: corrupt cluster')
QUOTA = 1024 * 1024
A = E.AlarmRequest


class World:
    def __init__(self):
        self.server = claviger.Server(args=['--quota-backend-bytes', str(QUOTA)]).start()
        self.client = claviger.Client(self.server)

    def restart(self):
        self.client.close()
        self.server.kill9()
        self.server.start()
        self.client = claviger.Client(self.server)

    def put(self, key, size=1):
        return self.client.call(KV + 'Put', E.PutRequest(key=key, value=b'v' * size), E.PutResponse)

    def delete(self, key, end=b''):
        return self.client.call(KV + 'DeleteRange', E.DeleteRangeRequest(key=key, range_end=end),
                                E.DeleteRangeResponse)

    def txn(self, *ops, failure=()):
        return self.client.call(KV + 'Txn', E.TxnRequest(success=ops, failure=failure), E.TxnResponse)

    def status(self):
        return self.client.call(MA + 'Status', E.StatusRequest(), E.StatusResponse)

    def alarm(self, action=A.GET, alarm=E.NONE, member=0):
        answer = self.client.call(MA + 'Alarm', A(action=action, alarm=alarm, memberID=member), E.AlarmResponse)
        return [(a.memberID, a.alarm) for a in answer.alarms]

    def compact_all(self):
        revision = self.status().header.revision
        self.client.call(KV + 'Compact', E.CompactionRequest(revision=revision, physical=True), E.CompactionResponse)

    def etcdctl(self, *args):
        done = subprocess.run(['etcdctl', '--endpoints', self.server.endpoint] + list(args),
                              env=claviger.etcdctl_environment(), timeout=60 * claviger.SLOW,
                              stdout=subprocess.PIPE, stderr=subprocess.STDOUT, universal_newlines=True)
        return done.stdout.strip()


def fill(world):
    """Until the quota says no; returns how it said so."""
    for i in range(100):
        error = error_of(lambda: world.put(b'fill%d' % i, 32 * 1024))
        if error is not None:
            return error
    return None


def test_reached_and_cleared(world):
    member = world.status().header.member_id
    put = E.RequestOp(request_put=E.PutRequest(key=b'k', value=b'v'))
    delete = E.RequestOp(request_delete_range=E.DeleteRangeRequest(key=b'fill1'))
    read = E.RequestOp(request_range=E.RangeRequest(key=b'fill0'))

    TAP.equal(world.alarm(), [], 'no alarm at the beginning')
    TAP.equal(fill(world), NO_SPACE, 'the quota refuses a put')
    TAP.equal(world.alarm(), [(member, E.NOSPACE)], 'and has raised the alarm')
    TAP.equal(world.alarm(alarm=E.CORRUPT), [], 'which is not one of another type')
    TAP.equal(list(world.status().errors), ['memberID:%d alarm:NOSPACE ' % member], 'Status tells of it')
    status = world.status()
    TAP.ok(QUOTA / 2 < status.dbSizeInUse <= QUOTA, 'bytes in use are those of the quota', status.dbSizeInUse)
    TAP.equal(status.dbSizeQuota, QUOTA, 'and so is the quota')
    TAP.equal(error_of(lambda: world.put(b'tiny')), NO_SPACE, 'the smallest put is refused now')
    TAP.equal(error_of(lambda: world.txn(read, failure=[put])), NO_SPACE, 'so is a put in a branch not taken')
    lease = lambda: world.client.call('etcdserverpb.Lease/LeaseGrant', E.LeaseGrantRequest(TTL=60), E.LeaseGrantResponse)
    TAP.equal(error_of(lease), NO_SPACE, 'so is a lease')
    TAP.equal(len(world.txn(read).responses), 1, 'reading goes on')
    TAP.ok(world.txn(delete).responses[0].response_delete_range.deleted == 1, 'and deleting in a transaction')

    world.restart()
    TAP.equal(world.alarm(), [(member, E.NOSPACE)], 'the alarm survives kill -9')
    TAP.equal(error_of(lambda: world.put(b'tiny')), NO_SPACE, 'and still forbids')

    TAP.equal(world.alarm(A.DEACTIVATE, E.NOSPACE, member + 1), [], 'another member\'s is not this one')
    TAP.equal(world.alarm(A.DEACTIVATE, E.NOSPACE, member), [(member, E.NOSPACE)], 'it can be cleared')
    TAP.equal(world.alarm(A.DEACTIVATE, E.NOSPACE, member), [], 'once')
    TAP.equal(fill(world), NO_SPACE, 'and comes back while there is no room')

    TAP.ok(world.delete(b'fill', b'film').deleted > 10, 'deleting frees nothing yet')
    world.compact_all()
    TAP.ok(world.status().dbSizeInUse < QUOTA / 10, 'compacting does', world.status().dbSizeInUse)
    TAP.equal(error_of(lambda: world.put(b'tiny')), NO_SPACE, 'the alarm does not go by itself')
    TAP.equal(world.etcdctl('alarm', 'list'), 'memberID:%d alarm:NOSPACE' % member, 'etcdctl alarm list')
    TAP.equal(world.etcdctl('alarm', 'disarm'), 'memberID:%d alarm:NOSPACE' % member, 'etcdctl alarm disarm')
    TAP.equal(world.etcdctl('alarm', 'list'), '', 'it is gone')
    TAP.ok(world.put(b'tiny', 1000).header.revision > 1, 'and writing works again')
    world.restart()
    TAP.equal(world.alarm(), [], 'it stays gone after a crash')


def test_corrupt(world):
    TAP.equal(world.alarm(A.ACTIVATE, E.CORRUPT, 7), [(7, E.CORRUPT)], 'CORRUPT can be raised by hand')
    TAP.equal(world.alarm(A.ACTIVATE, E.CORRUPT, 7), [(7, E.CORRUPT)], 'twice, with the same answer')
    TAP.equal(error_of(lambda: world.put(b'a')), CORRUPT, 'a put is refused')
    TAP.equal(error_of(lambda: world.delete(b'a')), CORRUPT, 'a delete is refused')
    TAP.equal(error_of(world.compact_all), CORRUPT, 'a compaction is refused')
    TAP.equal(list(world.status().errors), ['memberID:7 alarm:CORRUPT '], 'Status tells')
    world.restart()
    TAP.equal(error_of(lambda: world.put(b'a')), CORRUPT, 'also after a crash')
    TAP.equal(world.alarm(A.ACTIVATE, E.NONE), [], 'raising none raises none')
    TAP.equal(world.alarm(A.ACTIVATE, 99, 1), [], 'nor does a type that nobody knows')
    TAP.equal(world.alarm(A.DEACTIVATE, E.CORRUPT, 7), [(7, E.CORRUPT)], 'it can be cleared')
    TAP.equal(error_of(lambda: world.put(b'a')), None, 'and writing works again')


def main():
    world = World()
    test_reached_and_cleared(world)
    test_corrupt(world)
    TAP.equal(world.server.stop(), 0, 'stops in order')
    TAP.done()


main()
