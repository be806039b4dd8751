#!/usr/bin/python3
"""The services Lock and Election: contenders that wait, give up, go away, lose
their lease or their right; observers."""
import os
import sys
import threading
import time

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), '..', 'lib'))
import claviger
import grpc
import jsonclient
from claviger import wait_until
from claviger import error_of

P = claviger.load_protos()
E, L, C = P['etcdserverpb'], P['v3lockpb'], P['v3electionpb']
TAP = claviger.Tap()
S = grpc.StatusCode
KV, LE, AU, LO, EL = ('etcdserverpb.KV/', 'etcdserverpb.Lease/', 'etcdserverpb.Auth/', 'v3lockpb.Lock/',
                      'v3electionpb.Election/')
DENIED = (S.PERMISSION_DENIED, 'etcdserver: permission denied')


def grant(c, ttl=100):
    return c.call(LE + 'LeaseGrant', E.LeaseGrantRequest(TTL=ttl), E.LeaseGrantResponse).ID


def revoke(c, lease):
    return c.call(LE + 'LeaseRevoke', E.LeaseRevokeRequest(ID=lease), E.LeaseRevokeResponse)


def get(c, prefix):
    return c.call(KV + 'Range', E.RangeRequest(key=prefix, range_end=prefix[:-1] + bytes([prefix[-1] + 1]),
                                               sort_target=E.RangeRequest.CREATE), E.RangeResponse).kvs


def lock(c, name, lease=0, **more):
    return c.call(LO + 'Lock', L.LockRequest(name=name, lease=lease), L.LockResponse, **more)


def unlock(c, key):
    return c.call(LO + 'Unlock', L.UnlockRequest(key=key), L.UnlockResponse)


def campaign(c, name, value, lease=0, **more):
    return c.call(EL + 'Campaign', C.CampaignRequest(name=name, value=value, lease=lease), C.CampaignResponse,
                  **more).leader


def proclaim(c, leader, value):
    return c.call(EL + 'Proclaim', C.ProclaimRequest(leader=leader, value=value), C.ProclaimResponse)


def resign(c, leader):
    return c.call(EL + 'Resign', C.ResignRequest(leader=leader), C.ResignResponse)


def gets_in_line(c, prefix, n, name):
    """What follows needs n contenders."""
    return TAP.ok(wait_until(lambda: len(get(c, prefix)) == n, 20), name)


def watched_ranges(server):
    return claviger.metric(server, 'claviger_watch_ranges')


def leader_of(c, name):
    return c.call(EL + 'Leader', C.LeaderRequest(name=name), C.LeaderResponse).kv


class Call:
    """A call that waits, on a connection of its own."""

    def __init__(self, server, method, request, response, token=None):
        self.client = claviger.Client(server, token=token)
        stub = self.client.channel.unary_unary('/' + method, request_serializer=lambda m: m.SerializeToString(),
                                               response_deserializer=response.FromString)
        self.future = stub.future(request, timeout=60 * claviger.SLOW,
                                  metadata=[('token', token)] if token else None)

    def waits(self):
        return not self.future.done()

    def result(self):
        try:
            return self.future.result(30 * claviger.SLOW)
        except grpc.FutureTimeoutError:
            return 'still waits'
        except grpc.RpcError as error:
            return (error.code(), error.details())


def test_lock(server, c):
    waiting = lambda name, lease: Call(server, LO + 'Lock', L.LockRequest(name=name, lease=lease), L.LockResponse)
    a, b, d = grant(c), grant(c), grant(c)
    held = lock(c, b'l', a)
    TAP.equal(held.key, b'l/%x' % a, 'the key is name and lease')
    TAP.ok(held.header.revision > 0 and held.header.member_id != 0, 'the header is filled in')
    kv = get(c, b'l/')[0]
    TAP.equal((kv.key, kv.value, kv.lease), (held.key, b'', a), 'and lies in the store')
    TAP.equal(lock(c, b'l', a).key, held.key, 'the same lease has it again')
    second = waiting(b'l', b)
    gets_in_line(c, b'l/', 2, 'a second one gets in line')
    third = waiting(b'l', d)
    gets_in_line(c, b'l/', 3, 'and a third')
    time.sleep(0.2)
    TAP.ok(second.waits() and third.waits(), 'they wait')
    unlock(c, held.key)
    TAP.equal(second.result().key, b'l/%x' % b, 'who came first is next')
    time.sleep(0.1)
    TAP.ok(third.waits(), 'the other one goes on waiting')
    third.future.cancel()
    TAP.ok(wait_until(lambda: [kv.lease for kv in get(c, b'l/')] == [b]), 'who gives up leaves the line')
    third = waiting(b'l', d)
    gets_in_line(c, b'l/', 2, 'another one')
    third.client.close()
    TAP.ok(wait_until(lambda: [kv.lease for kv in get(c, b'l/')] == [b]), 'whose connection ends, too')
    # the text is the client's or the server's, whoever looks at the clock first
    TAP.equal(error_of(lambda: lock(c, b'l', d, timeout=0.5))[0], S.DEADLINE_EXCEEDED, 'and who has waited long enough')
    TAP.ok(wait_until(lambda: [kv.lease for kv in get(c, b'l/')] == [b]), 'he leaves the line as well')

    third = waiting(b'l', d)
    gets_in_line(c, b'l/', 2, 'and again')
    revoke(c, b)
    TAP.equal(third.result().key, b'l/%x' % d, 'a lease that ends gives the lock away')
    second = waiting(b'l', a)
    gets_in_line(c, b'l/', 2, 'the first one as well')
    revoke(c, a)
    TAP.equal(second.result(), (S.UNKNOWN, 'mutex: session is expired'), 'who loses his lease waits no longer')
    own = Call(server, LO + 'Lock', L.LockRequest(name=b'l'), L.LockResponse)
    gets_in_line(c, b'l/', 2, 'and one without a lease')
    unlock(c, b'l/%x' % d)
    key = own.result().key
    kv = get(c, b'l/')[0]
    ttl = c.call(LE + 'LeaseTimeToLive', E.LeaseTimeToLiveRequest(ID=kv.lease), E.LeaseTimeToLiveResponse)
    TAP.equal((key, ttl.grantedTTL), (b'l/%x' % kv.lease, 60), 'without a lease one of 60 s is made')
    unlock(c, key)
    TAP.equal(unlock(c, key).header.revision, unlock(c, key).header.revision, 'unlock of nothing changes nothing')
    TAP.equal(error_of(lambda: unlock(c, b'')), (S.INVALID_ARGUMENT, 'etcdserver: key is not provided'),
              'unlock without a key')
    TAP.equal(error_of(lambda: lock(c, b'l', 4711)), (S.NOT_FOUND, 'etcdserver: requested lease not found'),
              'lock with a lease that is not there')

    c.call(LE + 'LeaseGrant', E.LeaseGrantRequest(TTL=100, ID=-26), E.LeaseGrantResponse)
    TAP.equal(lock(c, b'n', -26).key, b'n/-1a', 'a lease with a negative number')
    revoke(c, -26)

    # many at once: never two, and all get it
    inside, most, done = [], [], []

    def contend():
        client = claviger.Client(server)
        for _ in range(5):
            key = lock(client, b'many', grant(client), timeout=60).key
            inside.append(key)
            most.append(len(inside))
            time.sleep(0.002)
            inside.remove(key)
            unlock(client, key)
            done.append(key)

    threads = [threading.Thread(target=contend) for _ in range(8)]
    for t in threads:
        t.start()
    for t in threads:
        t.join()
    TAP.equal((len(done), max(most), len(get(c, b'many/'))), (40, 1, 0),
              'eight clients, five times each: one at a time')


def test_election(server, c):
    a, b = grant(c), grant(c)
    TAP.equal(error_of(lambda: leader_of(c, b'e')), (S.UNKNOWN, 'election: no leader'), 'nobody leads')
    TAP.ok(wait_until(lambda: watched_ranges(server) == 0, 20), 'and nobody waits')
    seen = []
    stub = claviger.Client(server).channel.unary_stream(
        '/' + EL + 'Observe', request_serializer=lambda m: m.SerializeToString(),
        response_deserializer=C.LeaderResponse.FromString)
    stream = stub(C.LeaderRequest(name=b'e'), timeout=60 * claviger.SLOW)

    def observe():
        try:
            for answer in stream:
                seen.append((answer.kv.value, answer.header.revision >= answer.kv.mod_revision))
        except grpc.RpcError:
            pass

    thread = threading.Thread(target=observe)
    thread.start()
    TAP.ok(wait_until(lambda: watched_ranges(server) == 1, 20), 'somebody observes')
    first = campaign(c, b'e', b'one', a)
    kv = leader_of(c, b'e')
    TAP.equal((first.name, first.key, first.rev, first.lease), (b'e', b'e/%x' % a, kv.create_revision, a),
              'the first one leads')
    TAP.equal(kv.value, b'one', 'with what he says')
    again = campaign(c, b'e', b'uno', a)
    TAP.equal((again.rev, leader_of(c, b'e').value), (first.rev, b'uno'), 'campaigning again proclaims')
    proclaim(c, first, b'eins')
    TAP.equal((leader_of(c, b'e').value, leader_of(c, b'e').lease), (b'eins', a), 'so does proclaim')
    second = Call(server, EL + 'Campaign', C.CampaignRequest(name=b'e', value=b'two', lease=b), C.CampaignResponse)
    gets_in_line(c, b'e/', 2, 'the second one gets in line')
    time.sleep(0.1)
    TAP.ok(second.waits(), 'and waits')
    third = Call(server, EL + 'Campaign', C.CampaignRequest(name=b'e', value=b'three'), C.CampaignResponse)
    gets_in_line(c, b'e/', 3, 'and the third')
    resign(c, first)
    led = second.result()
    TAP.equal((led.leader.key, leader_of(c, b'e').value), (b'e/%x' % b, b'two'), 'until the first one resigns')
    TAP.equal(error_of(lambda: proclaim(c, first, b'x')), (S.UNKNOWN, 'election: not leader'),
              'who has resigned proclaims nothing')
    before = leader_of(c, b'e').mod_revision
    resign(c, first)
    TAP.equal(leader_of(c, b'e').mod_revision, before, 'and can resign once more')
    for call in (lambda: proclaim(c, None, b'x'), lambda: resign(c, None)):
        TAP.equal(error_of(call), (S.UNKNOWN, '"leader" field must be provided'), 'the leader must be named')
    revoke(c, b)
    TAP.ok(not isinstance(third.result(), tuple), 'a lease that ends gives the lead away')
    TAP.equal(leader_of(c, b'e').value, b'three', 'to the next one')
    resign(c, third.result().leader)
    last = campaign(c, b'e', b'four')
    wait_until(lambda: len(seen) == 6, 20)
    stream.cancel()
    thread.join()
    TAP.equal(seen, [(v, True) for v in (b'one', b'uno', b'eins', b'two', b'three', b'four')],
              'who observes sees every leader and all that they say')
    late = stub(C.LeaderRequest(name=b'e'), timeout=10 * claviger.SLOW)
    TAP.equal(next(late).kv.value, b'four', 'who comes late sees the leader at once')
    late.cancel()
    resign(c, last)


def test_auth(server, c):
    T = P['authpb'].Permission
    for name in ('root', 'user'):
        c.call(AU + 'UserAdd', E.AuthUserAddRequest(name=name, password=name), E.AuthUserAddResponse)
        c.call(AU + 'RoleAdd', E.AuthRoleAddRequest(name=name), E.AuthRoleAddResponse)
        c.call(AU + 'UserGrantRole', E.AuthUserGrantRoleRequest(user=name, role=name), E.AuthUserGrantRoleResponse)
    c.call(AU + 'RoleGrantPermission', E.AuthRoleGrantPermissionRequest(
        name='user', perm=T(permType=T.READWRITE, key=b'mine/', range_end=b'mine0')), E.AuthRoleGrantPermissionResponse)
    c.call(AU + 'RoleGrantPermission', E.AuthRoleGrantPermissionRequest(
        name='user', perm=T(permType=T.WRITE, key=b'blind/', range_end=b'blind0')), E.AuthRoleGrantPermissionResponse)
    c.call(AU + 'AuthEnable', E.AuthEnableRequest(), E.AuthEnableResponse)

    def log_in(name):
        return claviger.Client(server).call(AU + 'Authenticate', E.AuthenticateRequest(name=name, password=name),
                                            E.AuthenticateResponse).token

    token = log_in('user')
    root, user = claviger.Client(server, token=log_in('root')), claviger.Client(server, token=token)
    nobody = claviger.Client(server)
    empty = (S.INVALID_ARGUMENT, 'etcdserver: user name is empty')
    TAP.ok(lock(user, b'mine').key.startswith(b'mine/'), 'one may lock one\'s own')
    leases = lambda: {s.ID for s in root.call(LE + 'LeaseLeases', E.LeaseLeasesRequest(), E.LeaseLeasesResponse).leases}
    before = leases()
    for what, name in (('another\'s', b'theirs'), ('what one may not read', b'blind')):
        TAP.equal(error_of(lambda: lock(user, name)), DENIED, 'not ' + what)
        TAP.equal(error_of(lambda: campaign(user, name, b'v')), DENIED, 'nor be elected')
        TAP.equal(error_of(lambda: leader_of(user, name)), DENIED, 'nor see who is')
    TAP.equal(leases() - before, set(), 'and no lease is made for it')
    TAP.equal(error_of(lambda: lock(nobody, b'mine')), empty, 'nobody locks nothing')
    TAP.equal(error_of(lambda: unlock(nobody, get(root, b'mine/')[0].key)), empty, 'and unlocks nothing')
    waiting = Call(server, LO + 'Lock', L.LockRequest(name=b'mine'), L.LockResponse, token=token)
    gets_in_line(root, b'mine/', 2, 'one waits')
    stub = user.channel.unary_stream('/' + EL + 'Observe', request_serializer=lambda m: m.SerializeToString(),
                                     response_deserializer=C.LeaderResponse.FromString)
    stream = stub(C.LeaderRequest(name=b'mine'), timeout=60 * claviger.SLOW, metadata=[('token', token)])
    next(stream)
    root.call(AU + 'UserRevokeRole', E.AuthUserRevokeRoleRequest(name='user', role='user'),
              E.AuthUserRevokeRoleResponse)
    unlock(root, get(root, b'mine/')[0].key)
    TAP.equal(waiting.result(), DENIED, 'who loses the right while he waits does not get the lock')
    TAP.equal(error_of(lambda: next(stream)), DENIED, 'and who observes is told nothing more')
    root.call(AU + 'AuthDisable', E.AuthDisableRequest(), E.AuthDisableResponse)


def test_token_ends():
    """Observing goes on no longer than the token that nobody uses."""
    server = claviger.Server(args=['--auth-token-ttl', '1']).start()
    c = claviger.Client(server)
    c.call(AU + 'UserAdd', E.AuthUserAddRequest(name='root', password='root'), E.AuthUserAddResponse)
    c.call(AU + 'UserGrantRole', E.AuthUserGrantRoleRequest(user='root', role='root'), E.AuthUserGrantRoleResponse)
    c.call(KV + 'Put', E.PutRequest(key=b'e/1', value=b'1'), E.PutResponse)
    c.call(AU + 'AuthEnable', E.AuthEnableRequest(), E.AuthEnableResponse)
    c.token = c.call(AU + 'Authenticate', E.AuthenticateRequest(name='root', password='root'), E.AuthenticateResponse).token
    stub = c.channel.unary_stream('/' + EL + 'Observe', request_serializer=lambda m: m.SerializeToString(),
                                  response_deserializer=C.LeaderResponse.FromString)
    stream = stub(C.LeaderRequest(name=b'e'), timeout=60 * claviger.SLOW, metadata=[('token', c.token)])
    TAP.equal(error_of(lambda: list(stream)), (S.UNAUTHENTICATED, 'etcdserver: invalid auth token'),
              'observing ends with the token')
    c.close()
    TAP.equal(server.stop(), 0, 'stops in order')


def test_waits_first():
    """Who waits is no connection that has nothing to ask, though it has not got anything yet."""
    server = claviger.Server(args=['--first-request-timeout', '1s']).start()
    c = claviger.Client(server)
    lock(c, b'first', grant(c))
    began = time.time()
    waiting = [Call(server, LO + 'Lock', L.LockRequest(name=b'first'), L.LockResponse),
               Call(server, EL + 'Campaign', C.CampaignRequest(name=b'first', value=b'v'), C.CampaignResponse)]
    http = jsonclient.JsonClient(server)
    seen = []
    thread = threading.Thread(target=lambda: seen.append(http.call(LO + 'Lock', L.LockRequest(name=b'first'),
                                                                   L.LockResponse)))
    thread.start()
    observer = claviger.Client(server)
    stub = observer.channel.unary_stream('/' + EL + 'Observe', request_serializer=lambda m: m.SerializeToString(),
                                         response_deserializer=C.LeaderResponse.FromString)
    told = stub(C.LeaderRequest(name=b'nobody'), timeout=60 * claviger.SLOW)
    TAP.ok(wait_until(lambda: len(get(c, b'first/')) == 4), 'four wait, each first thing on its connection')
    time.sleep(max(0, began + 3 - time.time()))
    TAP.equal(len(get(c, b'first/')), 4, 'they wait on after first-request-timeout')
    c.call(EL + 'Campaign', C.CampaignRequest(name=b'nobody', value=b'somebody'), C.CampaignResponse)
    TAP.equal(next(told).kv.value, b'somebody', 'who observes is told')
    for i in range(3):
        unlock(c, get(c, b'first/')[0].key)
        wait_until(lambda: sum(not call.waits() for call in waiting) + len(seen) > i)
    TAP.ok(all(not isinstance(call.result(), tuple) for call in waiting), 'a lock and an election come to their turn',
           str([call.result() for call in waiting]))
    thread.join(20 * claviger.SLOW)
    TAP.ok(seen and seen[0].key.startswith(b'first/'), 'and a lock over HTTP')
    told.cancel()
    for client in (observer, c, http):
        client.close()
    TAP.equal(server.stop(), 0, 'stops in order')


def main():
    server = claviger.Server().start()
    c = claviger.Client(server)
    test_lock(server, c)
    test_election(server, c)
    test_auth(server, c)
    test_token_ends()
    test_waits_first()
    blocked = grant(c)
    lock(c, b'end', blocked)
    waiting = Call(server, LO + 'Lock', L.LockRequest(name=b'end', lease=grant(c)), L.LockResponse)
    gets_in_line(c, b'end/', 2, 'one waits when the server stops')
    start = time.time()
    c.close()
    TAP.equal(server.stop(), 0, 'stops in order')
    TAP.ok(time.time() - start < 20 * claviger.SLOW, 'without waiting for who waits for a lock')
    TAP.ok(isinstance(waiting.result(), tuple), 'who is told')
    server.start()
    TAP.equal([kv.lease for kv in get(claviger.Client(server), b'end/')], [blocked],
              'a lock outlives the server, a place in the line does not')
    server.stop()
    TAP.done()


main()
