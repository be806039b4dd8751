#!/usr/bin/python3
"""Simple tokens and credentials: lifetime, renewal, what makes them void and
what does not, on every backend."""
import os
import signal
import sys
import threading
import time

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
S = grpc.StatusCode
BAD_TOKEN = (S.UNAUTHENTICATED, 'etcdserver: invalid auth token')
BAD_LOGIN = (S.INVALID_ARGUMENT, 'etcdserver: authentication failed, invalid user ID or password')
DENIED = (S.PERMISSION_DENIED, 'etcdserver: permission denied')


def auth(client, method, **fields):
    name = method if method.startswith('Auth') else 'Auth' + method
    return client.call(AU + method, getattr(E, name + 'Request')(**fields), getattr(E, name + 'Response'))


def get(client, key=b'k', metadata=()):
    return client.call(KV + 'Range', E.RangeRequest(key=key), E.RangeResponse, metadata=metadata)


def put(client, key=b'k', value=b'v'):
    return client.call(KV + 'Put', E.PutRequest(key=key, value=value), E.PutResponse)


def token_of(server, name, password):
    return auth(claviger.Client(server), 'Authenticate', name=name, password=password).token


def with_token(server, token):
    return claviger.Client(server, token=token)


def set_up(server):
    client = claviger.Client(server)
    for name in ('root', 'alice', 'bob'):
        auth(client, 'UserAdd', name=name, password=name)
    auth(client, 'UserAdd', name='nopass', options=A.UserAddOptions(no_password=True))
    auth(client, 'UserAdd', name='empty', password='')
    for name in ('root', 'r'):
        auth(client, 'RoleAdd', name=name)
    auth(client, 'RoleGrantPermission', name='r', perm=A.Permission(permType=2, key=b'k'))
    for user, role in (('root', 'root'), ('alice', 'r'), ('bob', 'r'), ('empty', 'r')):
        auth(client, 'UserGrantRole', user=user, role=role)
    auth(client, 'AuthEnable')


def check_form(server):
    token = token_of(server, 'alice', 'alice')
    random, index = token.split('.')
    TAP.ok(len(random) >= 16 and random.isalnum() and index.isdigit(), 'a token is <random>.<index>', token)
    TAP.ok(token_of(server, 'alice', 'alice') != token, 'and another one each time')
    alice = with_token(server, token)
    TAP.equal(error_of(lambda: [get(with_token(server, token)) for _ in range(5)]), None, 'valid on every backend')
    nobody = claviger.Client(server)
    for name, metadata in (('authorization', [('authorization', token)]),
                           ('authorization with Bearer', [('authorization', 'Bearer ' + token)]),
                           ('token with Bearer', [('token', 'Bearer ' + token)])):
        TAP.equal(error_of(lambda: get(nobody, metadata=metadata)), None, 'token in metadata: ' + name)
    for name, bad in (('empty', ''), ('without index', random), ('other index', random + '.1'),
                      ('negative index', random + '.-1'), ('huge index', random + '.99999999999999999999999'),
                      ('altered', token[:5] + ('A' if token[5] != 'A' else 'B') + token[6:]),
                      ('two points', token + '.1'), ('Basic', 'Basic ' + token), ('bearer', 'bearer ' + token)):
        TAP.equal(error_of(lambda: get(nobody, metadata=[('token', bad)])), BAD_TOKEN, 'bad token: ' + name)
    return alice


def check_logins(server):
    for name, user, password in (('wrong password', 'alice', 'x'), ('no such user', 'nobody', 'x'),
                                 ('no-password user', 'nopass', 'x'), ('no-password user, empty', 'nopass', ''),
                                 ('empty name', '', 'x'), ('empty password of one who has one', 'alice', '')):
        TAP.equal(error_of(lambda: token_of(server, user, password)), BAD_LOGIN, 'login refused: ' + name)
    TAP.equal(error_of(lambda: get(with_token(server, token_of(server, 'empty', '')))), None, 'an empty password is one')
    with_old = claviger.Client(server, token='oldAndBad.1')
    TAP.equal(error_of(lambda: auth(with_old, 'Authenticate', name='alice', password='alice')), None,
              'an old token beside a login is not looked at')


def check_what_voids(server):
    root = with_token(server, token_of(server, 'root', 'root'))
    alice = with_token(server, token_of(server, 'alice', 'alice'))
    bob = with_token(server, token_of(server, 'bob', 'bob'))
    auth(root, 'UserAdd', name='carol', password='carol')
    auth(root, 'RoleAdd', name='other')
    TAP.equal((error_of(lambda: get(alice)), error_of(lambda: get(root))), (None, None),
              'another user or role voids nobody')
    auth(root, 'UserRevokeRole', name='alice', role='r')
    TAP.equal(error_of(lambda: get(alice)), DENIED, 'a revoked role is gone with the next request')
    auth(root, 'UserGrantRole', user='alice', role='r')
    TAP.equal(error_of(lambda: get(alice)), None, 'a granted one is there, with the same token')
    auth(root, 'RoleRevokePermission', role='r', key=b'k')
    TAP.equal((error_of(lambda: get(alice)), error_of(lambda: put(bob))), (DENIED, DENIED), 'so for permissions')
    auth(root, 'RoleGrantPermission', name='r', perm=A.Permission(permType=0, key=b'k'))
    TAP.equal((error_of(lambda: get(alice)), error_of(lambda: put(bob))), (None, DENIED), 'READ is not WRITE')
    auth(root, 'UserChangePassword', name='alice', password='new')
    TAP.equal((error_of(lambda: get(alice)), error_of(lambda: get(bob))), (BAD_TOKEN, None),
              "a changed password voids the user's tokens and nobody else's")
    TAP.equal(error_of(lambda: token_of(server, 'alice', 'alice')), BAD_LOGIN, 'the old password is gone')
    alice = with_token(server, token_of(server, 'alice', 'new'))
    auth(root, 'UserDelete', name='alice')
    TAP.equal(error_of(lambda: get(alice)), BAD_TOKEN, "a deleted user's token is void")
    auth(root, 'UserAdd', name='alice', password='new')
    auth(root, 'UserGrantRole', user='alice', role='r')
    TAP.equal(error_of(lambda: get(alice)), BAD_TOKEN, 'and stays void when one of the name comes back')
    auth(root, 'AuthDisable')
    auth(root, 'AuthEnable')
    TAP.equal(error_of(lambda: get(bob)), BAD_TOKEN, 'switching auth off voids all tokens')


def check_lifetime():
    server = claviger.Server(args=['--auth-token-ttl=2'] + claviger.CHEAP_LOGINS).start()
    set_up(server)
    for _ in range(10):
        last = time.monotonic()
        used = with_token(server, token_of(server, 'alice', 'alice'))
        idle = with_token(server, token_of(server, 'bob', 'bob'))
        outcomes, longest = [], 0
        for _ in range(5):
            time.sleep(0.8)
            begun = time.monotonic()
            outcomes.append(error_of(lambda: get(used)))
            longest, last = max(longest, time.monotonic() - last), begun
        # was it in use, or did the machine let it lie for too long?
        if longest < 1.9:
            break
    TAP.equal(outcomes, [None] * 5, 'a token in use outlives its lifetime')
    TAP.equal(error_of(lambda: get(idle)), BAD_TOKEN, 'an idle one does not')
    time.sleep(2.5)
    TAP.equal(error_of(lambda: get(used)), BAD_TOKEN, 'and the other neither, once idle')
    server.stop()


def check_login_queue():
    """More logins than may wait: an error for some, no harm for the others."""
    points = faults.Points([('hashslot-held', 'stop')])
    server = claviger.Server(args=['--auth-hash-slots=1', '--auth-hash-queue=4', '--argon2-memory=64',
                                   '--argon2-iterations=1'], env=points.env()).start()
    set_up(server)
    reader = with_token(server, token_of(server, 'alice', 'alice'))
    refused = (S.RESOURCE_EXHAUSTED, 'claviger: too many logins are waiting to be checked')
    # on a machine that is busy, one who waits may wait too long
    late = (S.UNAVAILABLE, 'etcdserver: request timed out')

    def log_in():
        outcomes.append(error_of(lambda: token_of(server, 'bob', 'bob')))

    def stopped():
        return [p.pid for p in claviger.processes(server) if p.is_stopped]

    for _ in range(5):
        outcomes = []
        # the first one has the slot and is stopped, so that the others have to wait
        points.arm('hashslot-held', 'stop')
        threads = [threading.Thread(target=log_in) for _ in range(24)]
        for thread in threads:
            thread.start()
        was_full = claviger.wait_until(lambda: stopped() and refused in outcomes)
        reads = [error_of(lambda: get(reader)) for _ in range(50)]
        for pid in stopped():
            os.kill(pid, signal.SIGCONT)
        for thread in threads:
            thread.join()
        if None in outcomes or not set(outcomes) <= {refused, late}:
            break
    TAP.ok(was_full and None in outcomes and set(outcomes) <= {None, refused, late},
           'logins beyond the queue are refused, the others succeed', outcomes)
    TAP.equal(set(reads), {None}, 'reads go on meanwhile')
    TAP.equal(error_of(lambda: token_of(server, 'bob', 'bob')), None, 'and afterwards a login works')
    server.stop()


def check_log(server):
    """What is made up in a login must not tell the log where it came from."""
    before = open(server.log).read().count('login of user ')
    for name in ('x" from 10.0.0.9:1 failed', 'y\n2026-01-01 z', 'back\\'):
        error_of(lambda: token_of(server, name, 'wrong'))
    find = lambda: [line.split('login of user ')[1] for line in open(server.log) if 'login of user ' in line][before:]
    claviger.wait_until(lambda: len(find()) >= 3)
    lines = find()
    TAP.equal([line.rsplit(' from 127.0.0.1:', 1)[0] for line in lines],
              ['"x\\" from 10.0.0.9:1 failed"', '"y\\x0a2026-01-01 z"', '"back\\\\"'], 'names of failed logins are quoted')


def main():
    server = claviger.Server(args=claviger.CHEAP_LOGINS).start()
    set_up(server)
    check_form(server)
    check_logins(server)
    check_log(server)
    check_what_voids(server)
    TAP.equal(server.stop(), 0, 'stops in order')
    check_lifetime()
    check_login_queue()
    TAP.done()


main()
