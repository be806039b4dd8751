#!/usr/bin/python3
"""Stop, restart, kill -9: users, roles, keys and revisions are as acknowledged,
tokens are gone, and a dead child costs what the design says it costs."""
import os
import signal
import sys
import threading

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), '..', 'fault'))
import faults
import claviger
import grpc
from claviger import error_of

P = claviger.load_protos()
E = P['etcdserverpb']
A = P['authpb']
TAP = claviger.Tap()
KV, AU = 'etcdserverpb.KV/', 'etcdserverpb.Auth/'
ROUNDS = int(os.environ.get('RESTART_ROUNDS', '5'))


def log_in(server, name, password):
    answer = claviger.Client(server).call(AU + 'Authenticate', E.AuthenticateRequest(name=name, password=password),
                                          E.AuthenticateResponse)
    return claviger.Client(server, token=answer.token)


def auth(client, method, request):
    name = method if method.startswith('Auth') else 'Auth' + method
    return client.call(AU + method, request, getattr(E, name + 'Response'))


def put(client, key, value):
    return client.call(KV + 'Put', E.PutRequest(key=key, value=value), E.PutResponse).header.revision


def everything(client):
    """All that a client can see of the state, revisions included."""
    kvs = client.call(KV + 'Range', E.RangeRequest(key=b'\0', range_end=b'\0'), E.RangeResponse)
    users = auth(client, 'UserList', E.AuthUserListRequest()).users
    roles = auth(client, 'RoleList', E.AuthRoleListRequest()).roles
    return {
        'revision': kvs.header.revision,
        'kvs': [kv.SerializeToString() for kv in kvs.kvs],
        'users': {u: list(auth(client, 'UserGet', E.AuthUserGetRequest(name=u)).roles) for u in users},
        'roles': {r: [p.SerializeToString() for p in auth(client, 'RoleGet', E.AuthRoleGetRequest(role=r)).perm]
                  for r in roles},
        'auth_revision': auth(client, 'AuthStatus', E.AuthStatusRequest()).authRevision,
        'enabled': auth(client, 'AuthStatus', E.AuthStatusRequest()).enabled,
    }


def set_up(client):
    for name in ('root', 'alice', 'gone'):
        auth(client, 'UserAdd', E.AuthUserAddRequest(name=name, password=name))
    auth(client, 'UserAdd', E.AuthUserAddRequest(name='cert', options=A.UserAddOptions(no_password=True)))
    for name in ('root', 'r', 'r2'):
        auth(client, 'RoleAdd', E.AuthRoleAddRequest(name=name))
    for key, end, kind in ((b'a', b'b', 2), (b'k', b'', 0), (b'x', b'\0', 1), (b'\xff\x00', b'\xff\x01', 2)):
        auth(client, 'RoleGrantPermission', E.AuthRoleGrantPermissionRequest(
            name='r', perm=A.Permission(permType=kind, key=key, range_end=end)))
    auth(client, 'RoleRevokePermission', E.AuthRoleRevokePermissionRequest(role='r', key=b'k'))
    for user, role in (('root', 'root'), ('alice', 'r'), ('alice', 'r2')):
        auth(client, 'UserGrantRole', E.AuthUserGrantRoleRequest(user=user, role=role))
    auth(client, 'UserDelete', E.AuthUserDeleteRequest(name='gone'))
    auth(client, 'RoleDelete', E.AuthRoleDeleteRequest(role='r2'))
    for i in range(300):
        put(client, b'key%03d' % (i % 100), b'v%d' % i)
    put(client, b'big', os.urandom(1000000))
    put(client, b'\0\xff', b'')
    client.call(KV + 'DeleteRange', E.DeleteRangeRequest(key=b'key05', range_end=b'key06'), E.DeleteRangeResponse)
    client.call(KV + 'Txn', E.TxnRequest(success=[
        E.RequestOp(request_put=E.PutRequest(key=b't%d' % i, value=b'x')) for i in range(5)]), E.TxnResponse)
    auth(client, 'AuthEnable', E.AuthEnableRequest())


def check_same(server, before, old_token, how):
    client = log_in(server, 'root', 'root')
    TAP.equal(everything(client), before, '%s: keys, users, roles and revisions are as before' % how)
    TAP.equal(error_of(lambda: put(old_token, b'a', b'b')),
              (grpc.StatusCode.UNAUTHENTICATED, 'etcdserver: invalid auth token'), '%s: old tokens are void' % how)
    old = client.call(KV + 'Range', E.RangeRequest(key=b'key000', revision=5), E.RangeResponse)
    TAP.equal([kv.value for kv in old.kvs], [b'v0'], '%s: history can be read' % how)
    return client


def writer(client, number, acknowledged, stop):
    """One key after the other, each acknowledged before the next; no other
    writer has these keys."""
    i = 0
    while not stop.is_set():
        key = b'w/%d/%d' % (number, i)
        try:
            acknowledged.append((key, put(client, key, b'%d' % i)))
            i += 1
        except grpc.RpcError:
            return


def kill_under_load(server, kill):
    lists = [[] for _ in range(4)]
    stop = threading.Event()
    threads = [threading.Thread(target=writer, args=(log_in(server, 'root', 'root'), i, one, stop))
               for i, one in enumerate(lists)]
    for thread in threads:
        thread.start()
    # a loaded machine takes its time: the kill has to come amid the load
    claviger.wait_until(lambda: sum(map(len, lists)) >= 400 or not any(t.is_alive() for t in threads), 120)
    kill()
    stop.set()
    for thread in threads:
        thread.join()
    return [pair for one in lists for pair in one]


def check_acknowledged(server, acknowledged, how):
    client = log_in(server, 'root', 'root')
    answer = client.call(KV + 'Range', E.RangeRequest(key=b'w/', range_end=b'w0'), E.RangeResponse)
    found = {kv.key: kv.mod_revision for kv in answer.kvs}
    missing = [pair for pair in acknowledged if found.get(pair[0]) != pair[1]]
    TAP.ok(len(acknowledged) > 100 and not missing,
           '%s: all of %d acknowledged puts are there' % (how, len(acknowledged)), missing[:5])
    revisions = sorted(found.values())
    TAP.equal(revisions, list(range(revisions[0], revisions[0] + len(revisions))), '%s: revisions have no gap' % how)
    client.call(KV + 'DeleteRange', E.DeleteRangeRequest(key=b'w/', range_end=b'w0'), E.DeleteRangeResponse)
    return client


def main():
    server = claviger.Server(args=['--checkpoint-interval', '300ms', '--argon2-memory=64', '--argon2-iterations=1']).start()
    set_up(claviger.Client(server))
    token = log_in(server, 'root', 'root')
    before = everything(token)
    TAP.ok(before['enabled'] and before['users']['alice'] == ['r'], 'the state to be kept is made')

    TAP.equal(server.stop(), 0, 'stops in order')
    token = check_same(server.start(), before, token, 'stop and start')
    server.kill9()
    token = check_same(server.start(), before, token, 'kill -9 of everything')
    server.stop(signal.SIGQUIT)
    token = check_same(server.start(), before, token, 'immediate stop')
    server.stop(signal.SIGINT)
    token = check_same(server.start(), before, token, 'fast stop')

    for i in range(ROUNDS):
        acknowledged = kill_under_load(server, server.kill9)
        server.start()
        check_acknowledged(server, acknowledged, 'kill -9 under load, round %d' % (i + 1))

    # the raft worker alone: everything starts over, in the same postmaster
    worker = claviger.raft_worker(server)
    position = os.path.getsize(server.log)
    acknowledged = kill_under_load(server, lambda: os.kill(worker, signal.SIGKILL))
    TAP.ok(claviger.wait_restart(server, position), 'the raft worker dies: ready again', open(server.log).read()[position:])
    TAP.equal(server.process.poll(), None, 'the postmaster outlives its raft worker')
    check_acknowledged(server, acknowledged, 'kill -9 of the raft worker')

    # a backend: its own connection and nothing else
    one, other = log_in(server, 'root', 'root'), log_in(server, 'root', 'root')
    put(other, b'a', b'1')
    mine = faults.Raw(server, one.token)
    TAP.ok(mine.wait(mine.send(KV + 'Put', E.PutRequest(key=b'a', value=b'2'))), 'a connection of its own')
    backend = claviger.backend_of(server, mine.socket)
    os.kill(backend, signal.SIGKILL)
    TAP.ok(all(put(other, b'a', b'%d' % i) for i in range(50)), 'another connection goes on')
    TAP.ok(not mine.wait(0), 'the dead one has ended')
    TAP.ok(claviger.wait_until(lambda: backend not in claviger.children(server)), 'the dead backend is reaped')
    TAP.ok(error_of(lambda: put(claviger.Client(server, token=one.token), b'a', b'3')) is None,
           'and the same token works on a new connection')

    TAP.equal(server.stop(), 0, 'stops in order')
    TAP.done()


main()
