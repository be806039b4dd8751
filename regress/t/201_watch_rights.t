#!/usr/bin/python3
"""Watches end with the right to watch.

While a writer writes all the time, rights are taken away in every way there is.
The refused watch must end with etcd's text, and no event may have a revision
after the one at which the right went (the revision in the answer to the call
that took it); the watches of others go on.
"""
import os
import sys
import threading
import time

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), '..', 'lib'))
import claviger
import grpc
import watching
from watching import AU, E, KV, P

TAP = claviger.Tap()
DENIED = 'rpc error: code = PermissionDenied desc = etcdserver: permission denied'
INVALID = 'rpc error: code = Unauthenticated desc = etcdserver: invalid auth token'
NOBODY = 'rpc error: code = InvalidArgument desc = etcdserver: user name is empty'
# of tokens where they are to expire
TTL = int(5 * claviger.SLOW)
T = P['authpb'].Permission


class Writer:
    """Puts all the time; end() gives the revisions written."""

    def __init__(self, client):
        self.client = client
        self.revisions = []
        self.error = None
        self.stop = threading.Event()
        self.thread = threading.Thread(target=self._run, daemon=True)
        self.thread.start()

    def _run(self):
        try:
            while not self.stop.is_set():
                self.revisions.append(self.client.call(KV + 'Put', E.PutRequest(key=b'a/k', value=b'v'),
                                                       E.PutResponse).header.revision)
        except grpc.RpcError as error:
            self.error = (error.code(), error.details())

    def wait(self, n):
        have = len(self.revisions)
        end = time.time() + 20 * claviger.SLOW
        while len(self.revisions) < have + n and time.time() < end and self.thread.is_alive():
            time.sleep(0.005)

    def end(self):
        self.stop.set()
        self.thread.join()
        return self.revisions


class World:
    def __init__(self, server):
        self.server = server
        self.root = claviger.Client(server)
        c = self.root
        for name in ('root', 'r', 'other'):
            c.call(AU + 'RoleAdd', E.AuthRoleAddRequest(name=name), E.AuthRoleAddResponse)
        c.call(AU + 'UserAdd', E.AuthUserAddRequest(name='root', password='root'), E.AuthUserAddResponse)
        c.call(AU + 'UserGrantRole', E.AuthUserGrantRoleRequest(user='root', role='root'), E.AuthUserGrantRoleResponse)
        self.grant('r')
        self.grant('other')
        self.user('bystander', 'other')
        self.enable()

    def call(self, method, request, answer):
        """As root, with a fresh token when the old one is no good."""
        for again in (True, False):
            try:
                return self.root.call(AU + method, request, answer)
            except grpc.RpcError as error:
                if not again or error.code() != grpc.StatusCode.UNAUTHENTICATED:
                    raise
                self.root = self.log_in('root')

    def enable(self):
        answer = self.root.call(AU + 'AuthEnable', E.AuthEnableRequest(), E.AuthEnableResponse)
        self.root = self.log_in('root')
        return answer

    def grant(self, role):
        return self.call('RoleGrantPermission', E.AuthRoleGrantPermissionRequest(
            name=role, perm=T(permType=T.READWRITE, key=b'a/', range_end=b'a0')), E.AuthRoleGrantPermissionResponse)

    def user(self, name, role):
        self.call('UserAdd', E.AuthUserAddRequest(name=name, password=name), E.AuthUserAddResponse)
        self.call('UserGrantRole', E.AuthUserGrantRoleRequest(user=name, role=role), E.AuthUserGrantRoleResponse)

    def log_in(self, name, password=None):
        client = claviger.Client(self.server)
        client.token = client.call(AU + 'Authenticate', E.AuthenticateRequest(name=name, password=password or name),
                                   E.AuthenticateResponse).token
        return client


def is_told(stream):
    """Waits for events: a watch that had no time to tell any before its end tells none."""
    return claviger.wait_until(lambda: stream.answers.qsize() > 5, 20)


def drain(stream):
    """All answers up to the first that cancels, and that one."""
    got = []
    end = time.time() + 20 * claviger.SLOW
    while time.time() < end:
        answer = stream.get(1)
        if answer is None:
            continue
        got.append(answer)
        if answer.canceled:
            break
    return got


def revisions(answers):
    return [e.kv.mod_revision for a in answers for e in a.events]


def trial(world, name, take_away, want, put_back=None):
    """alice watches; take_away() returns the revision at which her right went."""
    alice = world.log_in('alice')
    bystander = world.log_in('bystander')
    writer_client = world.log_in('root')
    writer = Writer(writer_client)
    streams = [watching.Stream(alice), watching.Stream(bystander)]
    for stream in streams:
        created = stream.create(key=b'a/', range_end=b'a0')
        assert created.created and not created.canceled, created
    writer.wait(20)
    TAP.ok(all(map(is_told, streams)), '%s: both are told what is written' % name)
    gone = take_away()
    writer.wait(30)
    written = writer.end()
    TAP.equal(writer.error, None, '%s: the writer has written all the time' % name)
    got = drain(streams[0])
    told = revisions(got)
    TAP.ok(got and got[-1].canceled and got[-1].cancel_reason == want, '%s: the watch is cancelled, and why' % name,
           str(got[-1:]))
    TAP.ok(told and max(told) <= gone, '%s: no event after revision %d' % (name, gone),
           'gone %d, told up to %d' % (gone, max(told or [0])))
    TAP.equal(told, list(range(told[0], told[0] + len(told))) if told else [], '%s: and none missing before' % name)
    TAP.ok(streams[0].ended(0.05) is None, '%s: the stream stays' % name)
    refused = streams[0].create(key=b'a/', range_end=b'a0', start_revision=told[0] if told else 1)
    TAP.ok(refused.canceled and refused.watch_id == -1, '%s: and cannot be watched again' % name, str(refused))
    # somebody else is not disturbed
    seen = []
    end = time.time() + 20 * claviger.SLOW
    while (not seen or seen[-1] < written[-1]) and time.time() < end:
        answer = streams[1].get(1)
        if answer is not None and answer.canceled:
            break
        if answer is not None:
            seen += revisions([answer])
    TAP.ok(seen and seen[-1] >= written[-1] and seen == list(range(seen[0], seen[0] + len(seen))),
           '%s: others are told on' % name, str(seen[-3:]))
    for client in (writer_client, alice, bystander):
        client.close()
    for stream in streams:
        stream.close()
    if put_back is not None:
        put_back()


def test_taken_away(world):
    call = world.call
    grant_role = lambda: call('UserGrantRole', E.AuthUserGrantRoleRequest(user='alice', role='r'),
                              E.AuthUserGrantRoleResponse)
    world.user('alice', 'r')
    trial(world, 'revoke role', lambda: call('UserRevokeRole', E.AuthUserRevokeRoleRequest(name='alice', role='r'),
                                             E.AuthUserRevokeRoleResponse).header.revision, DENIED, grant_role)
    trial(world, 'revoke permission',
          lambda: call('RoleRevokePermission', E.AuthRoleRevokePermissionRequest(role='r', key=b'a/', range_end=b'a0'),
                       E.AuthRoleRevokePermissionResponse).header.revision, DENIED, lambda: world.grant('r'))

    def role_back():
        call('RoleAdd', E.AuthRoleAddRequest(name='r'), E.AuthRoleAddResponse)
        world.grant('r')
        grant_role()
    trial(world, 'delete role', lambda: call('RoleDelete', E.AuthRoleDeleteRequest(role='r'),
                                             E.AuthRoleDeleteResponse).header.revision, DENIED, role_back)
    trial(world, 'change password',
          lambda: call('UserChangePassword', E.AuthUserChangePasswordRequest(name='alice', password='new'),
                       E.AuthUserChangePasswordResponse).header.revision, INVALID,
          lambda: call('UserChangePassword', E.AuthUserChangePasswordRequest(name='alice', password='alice'),
                       E.AuthUserChangePasswordResponse))
    trial(world, 'delete user', lambda: call('UserDelete', E.AuthUserDeleteRequest(name='alice'),
                                             E.AuthUserDeleteResponse).header.revision, INVALID,
          lambda: world.user('alice', 'r'))


def test_granted_again_in_between(world):
    """A right that is gone and back at once: whatever is told, nothing is out of order or twice."""
    alice = world.log_in('alice')
    writer_client = world.log_in('root')
    writer = Writer(writer_client)
    stream = watching.Stream(alice)
    stream.create(key=b'a/', range_end=b'a0')
    for i in range(20):
        world.call('UserAdd', E.AuthUserAddRequest(name='u%d' % i, password='u'), E.AuthUserAddResponse)
    written = writer.end()
    TAP.equal(writer.error, None, 'the writer has written all the time')
    seen = []
    end = time.time() + 20 * claviger.SLOW
    while (not seen or seen[-1] < written[-1]) and time.time() < end:
        answer = stream.get(1)
        if answer is not None:
            seen += revisions([answer])
    TAP.ok(seen and seen == list(range(seen[0], written[-1] + 1)), 'other changes of auth do not end a watch')
    for client in (alice, writer_client):
        client.close()
    stream.close()


def test_token_expires(world):
    writer_client = world.log_in('root')
    writer = Writer(writer_client)
    begun = time.time()
    alice = world.log_in('alice')
    stream = watching.Stream(alice)
    stream.create(key=b'a/', range_end=b'a0')
    got = []
    while time.time() < begun + TTL + 30 * claviger.SLOW:
        answer = stream.get(1)
        if answer is not None:
            got.append(answer)
            if answer.canceled:
                break
    took = time.time() - begun
    writer.end()
    TAP.ok(got and got[-1].canceled and got[-1].cancel_reason == INVALID, 'token expiry: the watch is cancelled, and why',
           str(got[-1:]))
    TAP.ok(TTL - 1.5 < took < TTL + 10 * claviger.SLOW, 'token expiry: when the token ends', '%.2f s' % took)
    TAP.ok(len(revisions(got)) > 20, 'token expiry: with events before')
    # without any event, too
    alice.close()
    alice = world.log_in('alice')
    stream = watching.Stream(alice)
    stream.create(key=b'a/', range_end=b'a0')
    answer = stream.get(TTL + 20)
    TAP.ok(answer is not None and answer.canceled and answer.cancel_reason == INVALID,
           'token expiry: also of a watch that nothing happens to', str(answer))
    for client in (alice, writer_client):
        client.close()
    stream.close()


def test_enable(world):
    world.call('AuthDisable', E.AuthDisableRequest(), E.AuthDisableResponse)
    client = claviger.Client(world.server)
    writer = Writer(claviger.Client(world.server))
    stream = watching.Stream(client)
    created = stream.create(key=b'a/', range_end=b'a0')
    writer.wait(20)
    TAP.ok(is_told(stream), 'auth enable: nobody watches')
    try:
        gone = world.enable().header.revision
        writer.thread.join(20 * claviger.SLOW)              # it is refused from now on
    finally:
        writer.stop.set()
    got = drain(stream)
    told = revisions(got)
    TAP.ok(created.created and got and got[-1].canceled and got[-1].cancel_reason == NOBODY,
           'auth enable: the watch of nobody is cancelled', str(got[-1:]))
    TAP.ok(told and max(told) <= gone, 'auth enable: no event after revision %d' % gone, 'told up to %d' % max(told or [0]))
    stream.close()
    client.close()


def main():
    server = claviger.Server().start()
    world = World(server)
    test_taken_away(world)
    test_granted_again_in_between(world)
    test_enable(world)
    world.root.close()
    TAP.equal(server.stop(), 0, 'the server stops')

    server = claviger.Server(args=['--auth-token-ttl', str(TTL)]).start()
    world = World(server)
    world.user('alice', 'r')
    test_token_expires(world)
    world.root.close()
    TAP.equal(server.stop(), 0, 'the server stops')
    TAP.done()


main()
