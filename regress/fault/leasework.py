"""Work with leases that can be checked after a crash: somebody who grants them,
hangs keys on them, renews and revokes, and notes what was acknowledged."""
import collections
import random
import threading
import time

import faults
from faults import E, KV, claviger, grpc

LE = 'etcdserverpb.Lease/'
SHORT, LONG = 4, 100


class User(threading.Thread):
    def __init__(self, server, number, token=None):
        super().__init__()
        self.client = claviger.Client(server, token=token)
        self.number = number
        self.leases = {}        # id -> [ttl, when asked for or renewed, keys]
        self.revoked = set()
        self.doubtful = set()   # begun to revoke, no answer
        self.puts = []          # (key, revision)
        self.renewals = 0
        self.problems = []
        self.stopping = threading.Event()

    def call(self, method, request, response):
        return self.client.call(method, request, response, timeout=5)

    def run(self):
        rnd = random.Random(self.number)
        try:
            while not self.stopping.is_set():
                self.one_lease(rnd)
                time.sleep(0.005)
        except grpc.RpcError:
            pass                # the server has died, or the lease has ended

    def one_lease(self, rnd):
        ttl = SHORT if rnd.random() < 0.5 else LONG
        asked = time.time()
        lease = self.call(LE + 'LeaseGrant', E.LeaseGrantRequest(TTL=ttl), E.LeaseGrantResponse).ID
        self.leases[lease] = [ttl, asked, set()]
        for n in range(rnd.randrange(4)):
            key = b'k/%d/%x/%d' % (self.number, lease, n)
            self.puts.append((key, self.call(KV + 'Put', E.PutRequest(key=key, value=b'v', lease=lease),
                                             E.PutResponse).header.revision))
            self.leases[lease][2].add(key)
        if rnd.random() < 0.3:
            self.renew(lease, ttl)
        if rnd.random() < 0.2:
            self.doubtful.add(lease)
            self.call(LE + 'LeaseRevoke', E.LeaseRevokeRequest(ID=lease), E.LeaseRevokeResponse)
            self.revoked.add(lease)

    def renew(self, lease, ttl):
        asked = time.time()
        answers = self.client.stream(LE + 'LeaseKeepAlive', E.LeaseKeepAliveRequest(ID=lease),
                                     E.LeaseKeepAliveResponse, 5)
        # a short one may have ended on a machine that is starved
        if [a.TTL for a in answers] != [ttl] and time.time() < self.leases[lease][1] + ttl:
            self.problems.append('lease %x of %d s was renewed with %r' % (lease, ttl, [a.TTL for a in answers]))
        elif answers and answers[0].TTL == ttl:
            self.leases[lease][1] = asked
            self.renewals += 1

    def end(self):
        self.stopping.set()
        self.join()
        self.client.close()


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


def check(users, restarted, died, leases, keys, seen):
    """What is wrong.  restarted: a moment before the server started again; died:
    when it was dead for certain; both 0 if it went on."""
    problems = [p for user in users for p in user.problems]
    for user in users:
        for lease, (ttl, when, own) in user.leases.items():
            if lease in user.revoked:
                if lease in leases:
                    problems.append('lease %x was revoked and is there' % lease)
                continue
            # its time starts again when the server does, if it had not ended before
            if lease not in leases and lease not in user.doubtful and died < when + ttl and \
                    seen[lease] < max(when, restarted) + ttl:
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


def revoke_long(client, leases):
    """So that what is left of a round ends soon."""
    for lease, (_, length, _) in leases.items():
        if length == LONG:
            error = faults.error_of(lambda: client.call(LE + 'LeaseRevoke', E.LeaseRevokeRequest(ID=lease),
                                                        E.LeaseRevokeResponse))
            assert error is None or error[0] == grpc.StatusCode.NOT_FOUND, error
