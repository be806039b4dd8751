#!/usr/bin/python3
"""kill -9 at named points while leases are granted, used, revoked and end: of
everything, of the raft worker, of the lessor.  Afterwards no acknowledged lease
is lost, a key is there if and only if its lease is, what hangs on a lease is
what says so, and everything ends in time."""
import collections
import os
import random
import sys
import threading
import time

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), '..', 'fault'))
import faults
from faults import E, KV, claviger, grpc, wait_for

TAP = claviger.Tap()
LE = 'etcdserverpb.Lease/'
# what dies -> where
POINTS = {
    'all': ['apply-entry-done', 'apply-before-publish', 'apply-after-publish', 'persist-before-commit',
            'persist-after-commit', 'logthread-persisted'],
    'worker': ['apply-entry-done', 'apply-before-publish', 'apply-answered', 'consensus-proposed'],
    'lessor': ['lessor-before-revoke', 'lessor-proposed', 'lessor-checkpointed', 'auxiliary-attached', 'auxiliary-loop'],
}
ROUNDS = [(who, point) for who in POINTS for point in POINTS[who]]
SHORT, LONG = 4, 100
ARGS = ['--lease-checkpoint-interval=1000', '--checkpoint-interval=200ms']


class User(threading.Thread):
    """Grants leases, hangs keys on them, revokes some; notes what was acknowledged."""

    def __init__(self, server, number):
        super().__init__()
        self.client = claviger.Client(server)
        self.number = number
        self.leases = {}        # id -> [ttl, when asked for, keys]
        self.revoked = set()
        self.doubtful = set()   # begun to revoke, no answer
        self.stopping = threading.Event()

    def call(self, method, request, response):
        return self.client.call(method, request, response, timeout=5)

    def run(self):
        rnd = random.Random(self.number)
        try:
            while not self.stopping.is_set():
                ttl = SHORT if rnd.random() < 0.5 else LONG
                asked = time.time()
                lease = self.call(LE + 'LeaseGrant', E.LeaseGrantRequest(TTL=ttl), E.LeaseGrantResponse).ID
                self.leases[lease] = [ttl, asked, set()]
                for n in range(rnd.randrange(4)):
                    key = b'k/%d/%x/%d' % (self.number, lease, n)
                    self.call(KV + 'Put', E.PutRequest(key=key, value=b'v', lease=lease), E.PutResponse)
                    self.leases[lease][2].add(key)
                if rnd.random() < 0.2:
                    self.doubtful.add(lease)
                    self.call(LE + 'LeaseRevoke', E.LeaseRevokeRequest(ID=lease), E.LeaseRevokeResponse)
                    self.revoked.add(lease)
                time.sleep(0.005)
        except grpc.RpcError:
            pass                # the server has died, or the lease has ended


def state_of(client):
    """Leases with what hangs on them, and keys with their leases, of about one moment;
    and for each lease the latest moment for which that holds."""
    ids = [s.ID for s in client.call(LE + 'LeaseLeases', E.LeaseLeasesRequest(), E.LeaseLeasesResponse).leases]
    leases, seen = {}, collections.defaultdict(lambda moment=time.time(): moment)
    for lease in ids:
        answer = client.call(LE + 'LeaseTimeToLive', E.LeaseTimeToLiveRequest(ID=lease, keys=True),
                             E.LeaseTimeToLiveResponse)
        seen[lease] = time.time()
        if answer.TTL >= 0:
            leases[lease] = (answer.TTL, answer.grantedTTL, set(answer.keys))
    kvs = client.call(KV + 'Range', E.RangeRequest(key=b'k/', range_end=b'k0'), E.RangeResponse).kvs
    return leases, {kv.key: kv.lease for kv in kvs}, seen


def check(users, restarted, leases, keys, seen):
    problems = []
    for user in users:
        for lease, (ttl, when, own) in user.leases.items():
            if lease in user.revoked:
                if lease in leases:
                    problems.append('lease %x was revoked and is there' % lease)
                continue
            # its time starts again when the server does
            if lease not in leases and lease not in user.doubtful and seen[lease] < max(when, restarted) + ttl:
                problems.append('lease %x of %d s is lost after %.1f s' % (lease, ttl, seen[lease] - when))
            if lease in leases and not own <= leases[lease][2]:
                problems.append('keys of lease %x are lost' % lease)
            if lease in leases and leases[lease][1] != ttl:
                problems.append('lease %x was granted %d s and has %d' % (lease, ttl, leases[lease][1]))
    # one may have ended between the two looks
    for key, lease in keys.items():
        if lease in leases and key not in leases[lease][2]:
            problems.append('key %r does not hang on its lease' % key)
        if lease not in leases:
            problems.append('key %r has outlived its lease %x' % (key, lease))
    for lease, (ttl, granted, hang) in leases.items():
        if ttl > granted:
            problems.append('lease %x has %d s left of %d' % (lease, ttl, granted))
        for key in hang - set(keys):
            if granted == LONG:
                problems.append('key %r hangs on lease %x and is not there' % (key, lease))
    return problems


def strike(server, points, who, point):
    armed = points.arm(point, 'kill')
    if point == 'auxiliary-attached':
        os.kill(wait_for(lambda: claviger.auxiliary(server, 'lessor')), 9)
    position = os.path.getsize(server.log)
    fired = wait_for(lambda: not os.path.exists(armed), 20 * claviger.SLOW, 0.001)
    points.disarm(armed)
    if who == 'all':
        server.kill9()
        server.start()
    elif who == 'worker':
        fired = fired and faults.wait_restart(server, position)
    else:
        wait_for(lambda: claviger.auxiliary(server, 'lessor') is not None)
    return fired


def main():
    names = sorted({point for _, point in ROUNDS})
    points = faults.Points([(p, 'kill') for p in names])
    server = claviger.Server(args=ARGS, env=points.env()).start()
    total = 0
    for n, (who, point) in enumerate(ROUNDS):
        users = [User(server, n * 10 + i) for i in range(3)]
        for user in users:
            user.start()
        # some have ended by then, some are ending
        time.sleep(0.3 if who != 'lessor' else 1.5)
        restarted = time.time() if who != 'lessor' else 0       # no earlier than this
        fired = strike(server, points, who, point)
        for user in users:
            user.stopping.set()
        for user in users:
            user.join()
        client = claviger.Client(server)
        leases, keys, seen = state_of(client)
        problems = check(users, restarted, leases, keys, seen)
        if not fired:
            problems.append('the point did not fire\n' + open(server.log).read()[-2000:])
        granted = sum(len(u.leases) for u in users)
        total += granted
        # what is left goes
        for lease, (_, length, _) in leases.items():
            if length == LONG:
                try:
                    client.call(LE + 'LeaseRevoke', E.LeaseRevokeRequest(ID=lease), E.LeaseRevokeResponse)
                except grpc.RpcError as error:
                    assert error.code() == grpc.StatusCode.NOT_FOUND, error
        TAP.ok(not problems, '%s dies at %s: %d leases' % (who, point, granted), '\n'.join(problems[:5]))
        client.close()
    client = claviger.Client(server)
    TAP.ok(wait_for(lambda: state_of(client)[:2] == ({}, {}), (SHORT + 30) * claviger.SLOW, 0.2),
           'at last all leases and keys are gone', repr(state_of(client)[:2])[:2000])
    TAP.ok(total > 100, '%d leases altogether' % total)
    TAP.equal(server.stop(), 0, 'stops in order')
    TAP.done()


main()
