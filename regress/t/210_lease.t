#!/usr/bin/python3
"""Leases: granting, what hangs on them, expiry, keepalives, restarts, and who
may do what while a stream is open."""
import os
import queue
import signal
import sys
import threading
import time

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), '..', 'lib'))
import claviger
import grpc
from claviger import wait_until
from claviger import error_of

P = claviger.load_protos()
E = P['etcdserverpb']
TAP = claviger.Tap()
S = grpc.StatusCode
KV, LE, AU, MA = ('etcdserverpb.%s/' % name for name in ('KV', 'Lease', 'Auth', 'Maintenance'))
NOT_FOUND = (S.NOT_FOUND, 'etcdserver: requested lease not found')


def grant(client, ttl, lease=0):
    return client.call(LE + 'LeaseGrant', E.LeaseGrantRequest(TTL=ttl, ID=lease), E.LeaseGrantResponse)


def revoke(client, lease):
    return client.call(LE + 'LeaseRevoke', E.LeaseRevokeRequest(ID=lease), E.LeaseRevokeResponse)


def time_to_live(client, lease, keys=False):
    return client.call(LE + 'LeaseTimeToLive', E.LeaseTimeToLiveRequest(ID=lease, keys=keys),
                       E.LeaseTimeToLiveResponse)


def leases(client):
    return [s.ID for s in client.call(LE + 'LeaseLeases', E.LeaseLeasesRequest(), E.LeaseLeasesResponse).leases]


def keep_alive(client, lease):
    return client.stream(LE + 'LeaseKeepAlive', E.LeaseKeepAliveRequest(ID=lease), E.LeaseKeepAliveResponse)[0].TTL


def put(client, key, lease=0, **more):
    return client.call(KV + 'Put', E.PutRequest(key=key, value=b'v', lease=lease, **more), E.PutResponse)


def get(client, key, end=b''):
    return client.call(KV + 'Range', E.RangeRequest(key=key, range_end=end), E.RangeResponse)


def delete(client, key, end=b''):
    return client.call(KV + 'DeleteRange', E.DeleteRangeRequest(key=key, range_end=end), E.DeleteRangeResponse)


class KeepAlives:
    """A stream that stays open."""

    def __init__(self, client):
        self.asks = queue.Queue()
        metadata = [('token', client.token)] if client.token else []
        stub = client.channel.stream_stream(
            '/' + LE + 'LeaseKeepAlive', request_serializer=lambda m: m.SerializeToString(),
            response_deserializer=E.LeaseKeepAliveResponse.FromString)
        self.answers = stub(iter(self.asks.get, None), metadata=metadata, timeout=60 * claviger.SLOW)

    def ask(self, lease):
        self.asks.put(E.LeaseKeepAliveRequest(ID=lease))
        return next(self.answers)

    def close(self):
        self.asks.put(None)


def test_grant(c):
    g = grant(c, 100)
    TAP.ok(0 < g.ID < 2 ** 63 and g.TTL == 100 and g.error == '', 'a positive id, and the time asked for')
    TAP.ok(g.header.revision == 1 and g.header.member_id != 0 and g.header.raft_term != 0, 'header is filled in')
    TAP.equal(grant(c, 0).TTL, 2, 'no time is raised to the minimum')
    TAP.equal(grant(c, -5).TTL, 2, 'a negative time, too')
    TAP.equal(grant(c, 9000000000).TTL, 9000000000, 'the greatest time')
    TAP.equal(error_of(lambda: grant(c, 9000000001)), (S.OUT_OF_RANGE, 'etcdserver: too large lease TTL'),
              'more than the greatest time')
    TAP.equal(grant(c, 50, lease=-7).ID, -7, 'a negative id, if the client wants it')
    TAP.equal(error_of(lambda: grant(c, 50, lease=-7)), (S.FAILED_PRECONDITION, 'etcdserver: lease already exists'),
              'an id in use')
    TAP.equal(error_of(lambda: revoke(c, 12345)), NOT_FOUND, 'revoke of nothing')
    t = time_to_live(c, 12345, keys=True)
    TAP.equal((t.ID, t.TTL, t.grantedTTL, list(t.keys)), (12345, -1, 0, []), 'time to live of nothing')
    TAP.equal(keep_alive(c, 12345), 0, 'keepalive of nothing')
    order = [grant(c, ttl).ID for ttl in (500, 300, 400)]
    TAP.equal([x for x in leases(c) if x in order], [order[1], order[2], order[0]],
              'leases are listed by the time that they have left')
    for lease in leases(c):
        revoke(c, lease)
    TAP.equal(leases(c), [], 'all are revoked')


def test_keys(c):
    a, b = grant(c, 100).ID, grant(c, 100).ID
    for key in (b'k1', b'k2', b'k3'):
        put(c, key, a)
    TAP.equal(sorted(time_to_live(c, a, True).keys), [b'k1', b'k2', b'k3'], 'what was put hangs on the lease')
    TAP.equal(list(time_to_live(c, a).keys), [], 'keys only when asked for')
    put(c, b'k1', b)
    put(c, b'k2')
    put(c, b'k3', ignore_lease=True)
    TAP.equal((sorted(time_to_live(c, a, True).keys), sorted(time_to_live(c, b, True).keys)), ([b'k3'], [b'k1']),
              'a put moves, takes off, or leaves it')
    delete(c, b'k3')
    put(c, b'k3')
    TAP.equal(list(time_to_live(c, a, True).keys), [], 'a delete takes off')
    TAP.equal(error_of(lambda: put(c, b'k4', 99)), NOT_FOUND, 'put on a lease that is not there')
    op = lambda key, lease: E.RequestOp(request_put=E.PutRequest(key=key, value=b'v', lease=lease))
    c.call(KV + 'Txn', E.TxnRequest(success=[op(b't1', a), op(b't2', a), op(b't3', b)]), E.TxnResponse)
    TAP.equal(sorted(time_to_live(c, a, True).keys), [b't1', b't2'], 'puts of a transaction')
    TAP.equal(get(c, b't1').kvs[0].lease, a, 'the key names its lease')
    before = get(c, b'k', b'z')
    answer = revoke(c, a)
    after = get(c, b'k', b'z')
    TAP.equal(answer.header.revision, before.header.revision + 1, 'revoke takes one revision')
    TAP.equal([kv.key for kv in after.kvs], [b'k1', b'k2', b'k3', b't3'], 'its keys are gone, others are not')
    TAP.equal(revoke(c, grant(c, 9).ID).header.revision, after.header.revision, 'revoke without keys takes none')
    revoke(c, b)


def test_expiry(c):
    start = time.time()
    lease = grant(c, 4).ID
    stays = grant(c, 100).ID
    for n in range(5):
        put(c, b'e%d' % n, lease)
    put(c, b'e5', stays)
    before = get(c, b'e', b'f').header.revision
    TAP.ok(wait_until(lambda: get(c, b'e', b'f').count < 6, 20), 'keys go when the time is over')
    took = time.time() - start
    TAP.ok(4 <= took < 4 + 10 * claviger.SLOW, 'not before, and soon after (%.2f s)' % took)
    after = get(c, b'e', b'f')
    TAP.equal((after.header.revision, [kv.key for kv in after.kvs]), (before + 1, [b'e5']),
              'all at once, in one revision, and nobody else\'s')
    TAP.equal(keep_alive(c, lease), 0, 'keepalive after the end')
    TAP.equal(time_to_live(c, lease).TTL, -1, 'it is gone')

    lease = grant(c, 4).ID
    put(c, b'f', lease)
    stream = KeepAlives(c)
    end = time.time() + 7
    ttls = set()
    while time.time() < end:
        ttls.add(stream.ask(lease).TTL)
        time.sleep(0.4)
    TAP.equal((ttls, get(c, b'f').count), ({4}, 1), 'a lease that is kept alive stays')
    TAP.equal(stream.ask(777).TTL, 0, 'an unknown one does not end the stream')
    TAP.equal(stream.ask(lease).TTL, 4, 'which goes on')
    stream.close()
    TAP.ok(wait_until(lambda: get(c, b'f').count == 0, 20), 'and ends when nobody keeps it')
    revoke(c, stays)


def left_at_least(ttl, since):
    """Of a lease that began then: whole seconds, and no more gone than have passed."""
    return ttl - (time.time() - since) - 1


def test_restart(server, c):
    granted = time.time()
    lease = grant(c, 60).ID
    short = grant(c, 9).ID
    put(c, b'r', lease)
    put(c, b's', short)
    time.sleep(2.5)
    restarted = time.time()
    server.stop()
    server.start()
    c = claviger.Client(server)
    t = time_to_live(c, lease, True)
    TAP.ok(left_at_least(60, granted) <= t.TTL <= 58 and t.grantedTTL == 60, 'a clean stop keeps what is left (%d)' % t.TTL)
    TAP.equal(list(t.keys), [b'r'], 'its key hangs on it again')
    left = time_to_live(c, short).TTL
    TAP.ok(left >= left_at_least(9, restarted), 'a short one begins again', str(left))
    kept = time.time()
    TAP.equal(keep_alive(c, lease), 60, 'a keepalive gives it all again')
    left = time_to_live(c, lease).TTL
    TAP.ok(left >= left_at_least(60, kept), 'at once', str(left))
    server.kill9()
    server.start()
    c = claviger.Client(server)
    t = time_to_live(c, lease, True)
    TAP.ok(left_at_least(60, kept) <= t.TTL <= 60, 'also after a crash: the rest noted before is void (%d)' % t.TTL)
    TAP.equal((t.grantedTTL, list(t.keys)), (60, [b'r']), 'with its key')
    TAP.ok(wait_until(lambda: get(c, b's').count == 0, 30), 'the short one ends after the restart')

    # checkpoints are taken each second by this server
    time.sleep(4)
    index = lambda: c.call(MA + 'Status', E.StatusRequest(), E.StatusResponse).raftIndex
    begin = index()
    TAP.ok(wait_until(lambda: index() >= begin + 2, 20), 'checkpoints are taken')
    server.kill9()
    server.start()
    c = claviger.Client(server)
    t = time_to_live(c, lease, True)
    TAP.ok(left_at_least(60, kept) <= t.TTL <= 58, 'after a crash a lease that nobody renewed has what the last checkpoint says (%d)' % t.TTL)
    revoke(c, lease)
    server.kill9()
    server.start()
    c = claviger.Client(server)
    TAP.equal((leases(c), get(c, b'r').count), ([], 0), 'a revoke is as durable as a put')
    return c


def test_lessor_dies(server, c):
    lessor = claviger.auxiliary(server, 'lessor')
    TAP.ok(lessor, 'there is a lessor')
    lease = grant(c, 4).ID
    put(c, b'l', lease)
    os.kill(lessor, signal.SIGKILL)
    TAP.ok(wait_until(lambda: get(c, b'l').count == 0, 30), 'a lease ends though the lessor was killed')
    TAP.ok(wait_until(lambda: claviger.auxiliary(server, 'lessor') not in (None, lessor), 20), 'by another one')


def test_auth(server, c):
    A, T = P['authpb'], P['authpb'].Permission
    for name in ('root', 'user'):
        c.call(AU + 'UserAdd', E.AuthUserAddRequest(name=name, password=name), E.AuthUserAddResponse)
        c.call(AU + 'RoleAdd', E.AuthRoleAddRequest(name=name), E.AuthRoleAddResponse)
        c.call(AU + 'UserGrantRole', E.AuthUserGrantRoleRequest(user=name, role=name), E.AuthUserGrantRoleResponse)
    c.call(AU + 'RoleGrantPermission', E.AuthRoleGrantPermissionRequest(
        name='user', perm=T(permType=T.READWRITE, key=b'a', range_end=b'b')), E.AuthRoleGrantPermissionResponse)
    c.call(AU + 'AuthEnable', E.AuthEnableRequest(), E.AuthEnableResponse)

    def log_in(name):
        answer = claviger.Client(server).call(AU + 'Authenticate', E.AuthenticateRequest(name=name, password=name),
                                              E.AuthenticateResponse)
        return claviger.Client(server, token=answer.token)

    root, user = log_in('root'), log_in('user')
    denied = (S.PERMISSION_DENIED, 'etcdserver: permission denied')
    lease = grant(user, 100).ID
    put(user, b'a1', lease)
    stream = KeepAlives(user)
    TAP.equal(stream.ask(lease).TTL, 100, 'one may keep one\'s own lease')
    put(root, b'z1', lease)
    TAP.equal(error_of(lambda: stream.ask(lease)), denied, 'not any more when another\'s key hangs on it')
    TAP.equal(error_of(lambda: stream.ask(lease)), denied, 'and that has ended the stream')
    delete(root, b'z1')
    stream = KeepAlives(user)
    TAP.equal(stream.ask(lease).TTL, 100, 'again when the key is gone')
    put(user, b'a2', lease)
    TAP.equal(stream.ask(lease).TTL, 100, 'a key of one\'s own does no harm')
    root.call(AU + 'UserRevokeRole', E.AuthUserRevokeRoleRequest(name='user', role='user'),
              E.AuthUserRevokeRoleResponse)
    TAP.equal(error_of(lambda: stream.ask(lease)), denied, 'a right that is taken away counts on an open stream')
    stream = KeepAlives(user)
    empty = grant(user, 100).ID
    TAP.equal(stream.ask(empty).TTL, 100, 'a lease without keys is anybody\'s')
    root.call(AU + 'UserChangePassword', E.AuthUserChangePasswordRequest(name='user', password='x'),
              E.AuthUserChangePasswordResponse)
    TAP.equal(error_of(lambda: stream.ask(empty)), (S.UNAUTHENTICATED, 'etcdserver: invalid auth token'),
              'a token that is void ends the stream')
    stream = KeepAlives(claviger.Client(server))
    TAP.equal(error_of(lambda: stream.ask(empty)), (S.INVALID_ARGUMENT, 'etcdserver: user name is empty'),
              'nobody keeps nothing')
    stream = KeepAlives(root)
    TAP.equal(stream.ask(lease).TTL, 100, 'an admin may')
    lease = grant(root, 4).ID
    put(root, b'x1', lease)
    TAP.ok(wait_until(lambda: get(root, b'x1').count == 0, 20), 'leases end with authentication on')
    root.call(AU + 'AuthDisable', E.AuthDisableRequest(), E.AuthDisableResponse)


def main():
    server = claviger.Server(args=['--lease-checkpoint-interval', '1000']).start()
    c = claviger.Client(server)
    test_grant(c)
    test_keys(c)
    test_expiry(c)
    c = test_restart(server, c)
    test_lessor_dies(server, c)
    test_auth(server, c)
    TAP.equal(server.stop(), 0, 'stops in order')
    TAP.done()


main()
