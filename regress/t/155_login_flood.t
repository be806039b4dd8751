#!/usr/bin/python3
"""What a client who is nobody can make a server with auth do.

A login costs a hash, on purpose.  One connection full of them must not shut out
the others; what is not a login must cost an anonymous client no hash at all.
"""
import os
import sys
import time

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), '..', 'lib'))
import claviger
import grpc
from rawhttp2 import END_STREAM, HEADERS, Wire, setting, unary

P = claviger.load_protos()
E = P['etcdserverpb']
TAP = claviger.Tap()
SLOW = claviger.SLOW
MB = 1024 * 1024
AU = 'etcdserverpb.Auth/'
QUEUE = 40
# about 50 ms a hash without sanitizers
COST = ['--argon2-memory', '8192', '--argon2-iterations', '12']
SERVER = claviger.Server(['--auth-hash-queue', str(QUEUE)] + COST).start()


def types_of(method):
    name = method if method.startswith('Auth') else 'Auth' + method
    return getattr(E, name + 'Request'), getattr(E, name + 'Response')


def auth(client, method, **fields):
    request, response = types_of(method)
    return client.call(AU + method, request(**fields), response)


def auth_message(method, **fields):
    return types_of(method)[0](**fields).SerializeToString()


def login(client, name='alice', password='right'):
    return auth(client, 'Authenticate', name=name, password=password)


def prepare(server):
    client = claviger.Client(server)
    for user in ('root', 'alice'):
        auth(client, 'UserAdd', name=user, password='right')
    auth(client, 'RoleAdd', name='root')
    auth(client, 'UserGrantRole', user='root', role='root')
    auth(client, 'AuthEnable')
    client.close()


class Flood:
    """Keeps one connection full of requests."""

    def __init__(self, method, data, server=SERVER):
        self.wire = Wire(server, settings=setting(4, 65535))
        self.path = b'/' + (AU + method).encode()
        self.data = data
        self.stream = 1
        self.sent = 0

    def fill(self, n=500):
        outstanding = self.sent - self.answered()
        for _ in range(max(0, n - outstanding)):
            if self.wire.unsent:
                break
            self.wire.send(unary(self.stream, self.path, self.data), seconds=1.0)
            self.stream += 2
            self.sent += 1
        # what was kept goes first, in the next call or in none
        self.wire.send(b'', seconds=1.0)
        self.wire.receive(0)

    def answered(self):
        return sum(1 for f in self.wire.frames if f[0] == HEADERS and f[1] & END_STREAM)


def failed_logins(server=SERVER):
    """So many have cost a hash and were wrong: those of the flood, here."""
    return claviger.metric(server, 'claviger_logins_failed_total')


def run_fairness():
    client = claviger.Client(SERVER)
    login(client)
    at_first = failed_logins()
    flood = Flood('Authenticate', auth_message('Authenticate', name='alice', password='wrong'))
    # its place is full when one is answered that has cost no hash
    full = flood.wire.sees(lambda: flood.fill() or flood.answered() > failed_logins() - at_first + 1)
    TAP.ok(full, 'a flood of logins fills its place')
    errors, behind = [], []
    for _ in range(10):
        flood.fill()
        before = failed_logins()
        try:
            login(client)
        except grpc.RpcError as error:
            errors.append((error.code(), error.details()))
        behind.append(failed_logins() - before)
    TAP.equal(errors, [], 'logins beside a flood of them on another connection succeed')
    # some run at the same time; who stood behind all of it would wait for 40
    TAP.ok(max(behind) < QUEUE / 2, 'and are not held up', 'so many of the flood came before: %r' % behind)
    enough = flood.wire.sees(lambda: flood.fill() or flood.answered() > 20 * QUEUE, 60)
    hashed = failed_logins() - at_first
    TAP.ok(enough and hashed < flood.answered() / 4,
           'what the flood has no place for is answered at once (%d of %d, %d hashed)' %
           (flood.answered(), flood.sent, hashed))
    flood.wire.memory()
    TAP.ok(flood.wire.peak < (40 if not claviger.SANITIZER else 400) * MB,
           'and its backend stays small (%.0f MB)' % (flood.wire.peak / MB))

    # its text as a client sees it
    second = claviger.Client(SERVER)
    stub = second.channel.unary_unary('/' + AU + 'Authenticate',
                                      request_serializer=lambda m: m.SerializeToString(),
                                      response_deserializer=E.AuthenticateResponse.FromString)
    calls = [stub.future(E.AuthenticateRequest(name='alice', password='right'), timeout=60 * SLOW)
             for _ in range(QUEUE * 2)]
    results = [(c.code(), c.details()) for c in calls]
    full = (grpc.StatusCode.RESOURCE_EXHAUSTED, 'claviger: too many logins are waiting to be checked')
    TAP.ok(full in results, 'a connection with too many logins is told so', results[:5])
    TAP.ok(any(r[0] == grpc.StatusCode.OK for r in results), 'and those that had a place are answered')
    flood.fill()
    before = failed_logins()
    flood.wire.close()
    login(client)
    behind = failed_logins() - before
    TAP.ok(behind < QUEUE / 2, 'what the flood has left behind is soon gone', '%d came before' % behind)
    client.close()
    second.close()


def cpu_of(flood, n, at_once):
    """CPU seconds of the backend for n requests answered."""
    before = flood.wire.cpu()
    end = time.monotonic() + 120 * SLOW
    while flood.answered() < n and time.monotonic() < end and not flood.wire.closed:
        flood.fill(at_once)
        flood.wire.receive(0.02)
    return flood.wire.cpu() - before, flood.answered()


def run_costs_nothing():
    flood = Flood('Authenticate', auth_message('Authenticate', name='nobody', password='x'))
    cpu, n = cpu_of(flood, 10, 2)
    flood.wire.close()
    hash_cpu = cpu / max(n, 1)
    TAP.ok(hash_cpu > 0.002, 'a login of nobody costs a hash as any other (%.1f ms CPU)' % (hash_cpu * 1000))
    for method, fields in (('UserAdd', dict(name='x', password='y' * 100)),
                           ('UserChangePassword', dict(name='alice', password='y' * 100)),
                           ('UserDelete', dict(name='alice')),
                           ('RoleGrantPermission', dict(name='x'))):
        flood = Flood(method, auth_message(method, **fields))
        cpu, n = cpu_of(flood, 300, 50)
        TAP.ok(n >= 300 and cpu < n * hash_cpu / 5,
               '%d anonymous %s cost no hash (%.2f ms CPU each)' % (n, method, cpu / max(n, 1) * 1000))
        flood.wire.close()


def run_bloated():
    """Logins that wait, each with 60 kB of fields nobody knows, or of the same field."""
    server = claviger.Server(COST).start()      # with the queue as it is by default
    prepare(server)
    good = auth_message('Authenticate', name='alice', password='wrong')
    for name, data in (('unknown fields', good + b'\xf8\x01\x00' * 20000),
                       ('a field given 20 000 times', good + b'\x0a\x01x' * 20000),
                       ('one large unknown field', good + b'\xfa\x01' + b'\xe0\xd4\x03' + b'z' * 60000)):
        flood = Flood('Authenticate', data, server)
        for _ in range(20):
            flood.fill(500)
            flood.wire.receive(0.05)
        TAP.ok(not flood.wire.closed and 0 < flood.wire.peak < (64 if not claviger.SANITIZER else 400) * MB,
               '%d logins with %s: %.0f MB' % (flood.sent, name, flood.wire.peak / MB))
        flood.wire.close()
    TAP.equal(server.stop(), 0, 'that server stops cleanly')


prepare(SERVER)
run_fairness()
run_costs_nothing()
run_bloated()
client = claviger.Client(SERVER)
TAP.ok(login(client).token, 'a login after all that')
client.close()
TAP.equal(SERVER.stop(), 0, 'the server stops cleanly')
TAP.done()
