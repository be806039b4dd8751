#!/usr/bin/python3
"""The nth allocation, write, sync or send of a fixed scenario (keys, users, leases,
watches, over gRPC and the JSON gateway) fails, for many
n: each request ends with an answer or an error, what must be refused never
succeeds, what was acknowledged is there afterwards, nothing hangs, and no slot
or descriptor is lost.

SWEEP: how many n of each sweep in a running server (default 30, spread
evenly; a tenth of it in sweeps over starts), or "all".
SWEEP_ONLY: names of sweeps, with commas between them."""
import http.client
import os
import re
import signal
import struct
import sys
import time

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), '..', 'fault'))
import faults
from faults import A, E, KV, auth, children, claviger, error_of, get, grpc, put, raft_worker, wait_for
from jsonclient import JsonClient
from leasework import LE
import watching

TAP = claviger.Tap()
SWEEP = os.environ.get('SWEEP', '30')
ONLY = os.environ.get('SWEEP_ONLY', '').split(',') if os.environ.get('SWEEP_ONLY') else []
SHIM = os.path.join(claviger.BUILDDIR, 'fault', 'failnth.so')
ARGS = ['--argon2-memory=64', '--argon2-iterations=1', '--worker-restart-pause=0', '--raft-log-segment-bytes=1048576',
        '--checkpoint-interval=100ms', '--snapshot-catchup-entries=20', '--max-connections=12']
# kind, errno and how many calls fail.  (Berkeley DB tries a failed write once more, in another way.)
KINDS = {'allocation': (1, 12, 1), 'write': (2, 28, 1), 'half write': (2, 28, 1), 'writes from here on': (2, 28, 1 << 30),
         'sync': (3, 5, 1), 'send': (4, 104, 1)}
# what is answered is answered long before, unless the machine is starved
HANG_SECONDS = 60
DENIED = (grpc.StatusCode.PERMISSION_DENIED, 'etcdserver: permission denied')


class Control:
    """The shim's words; see failnth.c."""
    FIELDS = ('kind', 'pid', 'spared0', 'spared1', 'spared2', 'spared3', 'nth', 'times', 'error', 'is_half', 'count',
              'fired', 'fired_pid')

    def __init__(self, directory):
        self.path = os.path.join(directory, 'failnth')
        with open(self.path, 'wb') as file:
            file.write(bytes(4 * len(self.FIELDS)))

    def env(self):
        return {'LD_PRELOAD': SHIM, 'FAILNTH_CONTROL': self.path}

    def write(self, first, *words):
        with open(self.path, 'r+b', buffering=0) as file:
            file.seek(4 * self.FIELDS.index(first))
            file.write(struct.pack('<%dI' % len(words), *words))

    def read(self, name):
        with open(self.path, 'rb') as file:
            file.seek(4 * self.FIELDS.index(name))
            return struct.unpack('<I', file.read(4))[0]

    def arm(self, what, nth, pid=0, spared=()):
        kind, error, times = KINDS[what]
        spared = (list(spared) + [0] * 4)[:4]
        self.write('kind', 0)
        self.write('pid', pid, *spared, nth, times, error, what == 'half write', 0, 0, 0)
        self.write('kind', kind)

    def disarm(self):
        """(calls counted, whether one failed)."""
        self.write('kind', 0)
        return self.read('count'), self.read('fired') > 0


class Sweep:
    """One server under one kind of fault after the other."""

    def __init__(self):
        self.control = Control(claviger._tmp)
        self.server = claviger.Server(args=ARGS, env=self.control.env()).start()
        faults.set_up_auth(self.server)
        self.acknowledged = []
        self.gone = []          # keys whose lease was revoked
        self.users = {'root', 'alice'}
        self.doubtful = set()
        self.turn = 0
        self.problems = []
        self.restarts = 0

    # ---- the scenario: every request of it may fail, none may do what it must not ----

    def call(self, name, fn, want=None):
        """The answer, or None for an error."""
        try:
            answer = fn()
        except grpc.RpcError as error:
            if error.code() == grpc.StatusCode.DEADLINE_EXCEEDED:
                self.problems.append('%s hung' % name)
            return None
        except (OSError, http.client.HTTPException) as error:
            if isinstance(error, TimeoutError):
                self.problems.append('%s hung' % name)
            return None         # the gateway's connection was cut off
        if want is not None:
            self.problems.append('%s was allowed' % name)
        return answer

    def scenario(self):
        self.turn += 1
        t, n = HANG_SECONDS, self.turn
        login = lambda user, password: self.call('login of ' + user, lambda: faults.token_of(
            self.server, user, password, t))
        self.call('login with a wrong password', lambda: faults.token_of(self.server, 'root', 'wrong', t), DENIED)
        root = claviger.Client(self.server, token=login('root', 'root') or 'none.1')
        alice = claviger.Client(self.server, token=login('alice', 'alice') or 'none.1')
        nobody = claviger.Client(self.server)
        for key, value in ((b's/%d/a' % n, b'x'), (b's/%d/b' % n, b'y' * 70000)):
            revision = self.call('put', lambda: put(root, key, value, t))
            if revision:
                self.acknowledged.append((key, revision))
        txn = self.call('txn', lambda: root.call(KV + 'Txn', E.TxnRequest(success=[E.RequestOp(
            request_put=E.PutRequest(key=b's/%d/t' % n, value=b'z'))]), E.TxnResponse, t))
        if txn:
            self.acknowledged.append((b's/%d/t' % n, txn.header.revision))
        self.leases(root, alice, t)
        self.gateway(root, alice, t)
        self.watches(root, alice, self.acknowledged[-1][1] if self.acknowledged else 1)
        self.call('put without a token', lambda: put(nobody, b'a', b'x', t), DENIED)
        self.call('put beyond the rights', lambda: put(alice, b'b', b'x', t), DENIED)
        self.call('range beyond the rights', lambda: get(alice, b'\0', t, range_end=b'\0'), DENIED)
        self.call('user add without the right', lambda: auth(alice, 'UserAdd', t, name='evil', password='x'), DENIED)
        self.call('range', lambda: get(root, b's/', t, range_end=b's0', limit=100))
        name = 'u%d' % n
        self.doubtful.add(name)
        if self.call('user add', lambda: auth(root, 'UserAdd', t, name=name, password='p')):
            self.doubtful.discard(name)
            self.users.add(name)
        self.call('grant', lambda: auth(root, 'UserGrantRole', t, user=name, role='r'))
        self.call('compact', lambda: root.call(KV + 'Compact', E.CompactionRequest(
            revision=max([1] + [r for _, r in self.acknowledged[-1:]])), E.CompactionResponse, t))
        for client in (root, alice, nobody):
            client.close()

    def leases(self, root, alice, t):
        key = b's/%d/l' % self.turn
        lease = self.call('lease grant', lambda: root.call(LE + 'LeaseGrant', E.LeaseGrantRequest(TTL=100),
                                                           E.LeaseGrantResponse, t))
        if lease is None:
            return
        hangs = self.call('put with a lease', lambda: root.call(KV + 'Put', E.PutRequest(
            key=key, value=b'l', lease=lease.ID), E.PutResponse, t))
        renewed = self.call('keepalive', lambda: root.stream(LE + 'LeaseKeepAlive', E.LeaseKeepAliveRequest(ID=lease.ID),
                                                             E.LeaseKeepAliveResponse, t))
        if renewed and renewed[0].TTL != 100:
            self.problems.append('a lease of 100 s was renewed with %d' % renewed[0].TTL)
        rest = self.call('time to live', lambda: root.call(LE + 'LeaseTimeToLive', E.LeaseTimeToLiveRequest(
            ID=lease.ID, keys=True), E.LeaseTimeToLiveResponse, t))
        if rest and hangs and list(rest.keys) != [key]:
            self.problems.append('%r hang on the lease' % list(rest.keys))
        revoke = lambda client: client.call(LE + 'LeaseRevoke', E.LeaseRevokeRequest(ID=lease.ID),
                                            E.LeaseRevokeResponse, t)
        if hangs:
            self.call('revoke beyond the rights', lambda: revoke(alice), DENIED)
        if self.call('revoke', lambda: revoke(root)):
            self.gone.append(key)

    def gateway(self, root, alice, t):
        json_root, json_alice = [JsonClient(self.server, token=c.token) for c in (root, alice)]
        key = b's/%d/j' % self.turn
        revision = self.call('put in JSON', lambda: put(json_root, key, b'j', t))
        if revision:
            self.acknowledged.append((key, revision))
        self.call('range in JSON', lambda: get(json_root, b's/', t, range_end=b's0', limit=10))
        self.call('put in JSON beyond the rights', lambda: put(json_alice, b'b', b'x', t), DENIED)
        self.call('range in JSON beyond the rights', lambda: get(json_alice, b'\0', t, range_end=b'\0'), DENIED)
        for client in (json_root, json_alice):
            client.close()

    def watches(self, root, alice, revision):
        """One that has something to tell, and one beyond the rights."""
        for client, may in ((root, True), (alice, False)):
            stream = watching.Stream(client)
            stream.send(create_request=E.WatchCreateRequest(key=b's/', range_end=b's0', start_revision=revision))
            answers = []
            end = time.time() + HANG_SECONDS
            while time.time() < end and not any(a.events or a.canceled for a in answers):
                answer = stream.get(0.01)
                if answer is not None:
                    answers.append(answer)
                elif stream.is_over.is_set() and stream.answers.empty():
                    break
            else:
                if time.time() >= end:
                    self.problems.append('watch hung')
            told = [e for a in answers for e in a.events]
            if told and not may:
                self.problems.append('a watch beyond the rights was told %r' % told[0].kv.key)
            if told and told[0].kv.mod_revision < revision:
                self.problems.append('a watch from %d was told of %d' % (revision, told[0].kv.mod_revision))
            stream.close()

    # ---- what holds afterwards ----

    def come_back(self, worker, position, must_end=False):
        """Ready again, whoever had to start over.  worker: the one that was
        hit, None if somebody else was.  On a busy machine it may take its time
        from its last words in the log to its end, and the postmaster to notice."""
        last_words = lambda: re.search(r'raft worker (PANIC|FATAL):', faults.log_since(self.server, position))
        if worker:
            wait_for(lambda: last_words() or worker not in children(self.server), 0.03)
            if must_end or last_words():
                wait_for(lambda: worker not in children(self.server), 60)
            if worker not in children(self.server):
                self.restarts += 1
                faults.wait_restart(self.server, position)
        if self.server.process.poll() is not None:
            self.server.kill9()
            self.server.start()

    def check(self, whole=False):
        """A worker that was hit may still be on its way out."""
        end = time.monotonic() + 60 * claviger.SLOW
        while True:
            worker = (children(self.server) or [None])[0]
            try:
                return self.look(whole)
            except grpc.RpcError as error:
                # with the worker go the tokens
                began_again = error.code() == grpc.StatusCode.UNAUTHENTICATED and worker not in children(self.server)
                if time.monotonic() > end or not (began_again or error.code() == grpc.StatusCode.UNAVAILABLE):
                    raise
                time.sleep(0.2)
                wait_for(lambda: self.server.process.poll() is not None or self.server.state() == 'ready')
                self.come_back(None, 0)

    def look(self, whole):
        client = claviger.Client(self.server, token=faults.token_of(self.server, 'root', 'root'))
        missing, gaps, found = faults.missing_of(
            client, self.acknowledged if whole else self.acknowledged[-3:], b's/' if whole else b's/%d/' % self.turn)
        users = set(auth(client, 'UserList').users)
        alice = claviger.Client(self.server, token=faults.token_of(self.server, 'alice', 'alice'))
        if whole:
            mine = missing
        else:
            mine = [m for m in missing if m[0].startswith(b's/%d/' % self.turn)]
        if mine:
            self.problems.append('acknowledged and not there: %r' % mine[:3])
        back = [key for key in (self.gone if whole else self.gone[-1:]) if key in found]
        if back:
            self.problems.append('on a revoked lease and there: %r' % back[:3])
        if (users ^ self.users) - self.doubtful:
            self.problems.append('users: %r' % sorted((users ^ self.users) - self.doubtful)[:3])
        self.users |= users & self.doubtful
        self.doubtful.clear()
        denied = error_of(lambda: put(alice, b'b', b'x'))
        if denied != DENIED:
            self.problems.append('alice beyond her rights: %r' % (denied,))
        if error_of(lambda: put(alice, b'a', b'x')):
            self.problems.append('alice within her rights')
        client.close()
        alice.close()

    def targets(self, whom):
        worker = raft_worker(self.server)
        if whom == 'worker':
            return {'pid': worker}
        return {'spared': (self.server.process.pid, worker)}

    def numbers(self, total, share=1):
        if SWEEP == 'all' or total <= int(SWEEP) // share:
            return range(1, total + 1)
        n = max(1, int(SWEEP) // share)
        return sorted({1 + (2 * i + 1) * total // (2 * n) for i in range(n)})

    def report(self, name, numbers, fired, total):
        TAP.ok(not self.problems and fired > 0, '%s: %d of %d calls made to fail, %d restarts, each request answered '
               'or refused, nothing lost' % (name, fired, total, self.restarts), '\n'.join(self.problems[:10]) or 'no fault fired')
        self.problems = []
        self.restarts = 0

    def run(self, whom, what):
        """A fault in a running server."""
        self.control.arm(what, 0, **self.targets(whom))
        self.scenario()
        # what goes on behind, too
        time.sleep(0.15)
        total, _ = self.control.disarm()
        fired = 0
        for nth in self.numbers(total):
            worker = raft_worker(self.server)
            position = os.path.getsize(self.server.log)
            self.control.arm(what, nth, **self.targets(whom))
            self.scenario()
            wait_for(lambda: self.control.read('fired') > 0, 0.15)
            did = self.control.disarm()[1]
            fired += did
            self.come_back(worker if did and whom == 'worker' else None, position, what == 'sync')
            before = len(self.problems)
            if did and what == 'sync' and worker in children(self.server):
                self.problems.append('a sync failed and the raft worker went on')
            self.check()
            self.problems[before:] = ['n = %d: %s' % (nth, p) for p in self.problems[before:]]
            if self.problems and len(self.problems) > 5:
                break
        self.report('%s of %s' % (what, whom), None, fired, total)

    def run_start(self, what, is_empty):
        """A fault while a server starts: in an empty directory, or with
        something to replay."""
        server = self.server
        if is_empty:
            server = claviger.Server(args=ARGS, env=self.control.env())
        total = fired = 0
        numbers = [0]
        while numbers:
            nth = numbers.pop(0)
            if is_empty:
                server.kill9()
                server = claviger.Server(args=ARGS, env=self.control.env())
            else:
                self.scenario()
                server.kill9()
            position = os.path.getsize(server.log) if os.path.exists(server.log) else 0
            self.control.arm(what, nth)
            try:
                server.start(HANG_SECONDS)
                started = True
            except RuntimeError:
                started = False
            if not started and server.process.poll() is None:
                self.problems.append('n = %d: neither started nor ended' % nth)
            count, did = self.control.disarm()
            fired += did
            if nth == 0:
                total = count
                numbers = list(self.numbers(total, 10))
            if not started:
                self.restarts += 1
                text = open(server.log).read()[position:]
                if 'FATAL' not in text and 'PANIC' not in text and 'out of memory' not in text:
                    self.problems.append('n = %d: it ended and did not say why: %s' % (nth, text[-500:]))
                server.kill9()
                try:
                    server.start()
                except RuntimeError as error:
                    self.problems.append('n = %d: it does not start afterwards: %s' % (nth, open(server.log).read()[position:]))
                    break
            if is_empty:
                if self.revision_of_empty(server) != 1:
                    self.problems.append('n = %d: a new server with a past' % nth)
            else:
                self.check()
        if is_empty:
            server.kill9()
        self.report('%s while %s' % (what, 'an empty directory is initialised' if is_empty else
                                     'a server starts over'), None, fired, total)

    @staticmethod
    def revision_of_empty(server):
        """What was hit behind may only now begin again."""
        end = time.monotonic() + 60 * claviger.SLOW
        while True:
            client = claviger.Client(server)
            try:
                return get(client, b'a').header.revision
            except grpc.RpcError as error:
                if error.code() != grpc.StatusCode.UNAVAILABLE or time.monotonic() > end:
                    raise
                time.sleep(0.1)
            finally:
                client.close()

    def run_postmaster(self):
        """An allocation of the postmaster while it reloads settings and
        certificates, takes connections, starts the lessor again, and starts
        everything over."""
        cert, key = faults.self_signed(claviger._tmp)
        server = claviger.Server(tls=True, args=ARGS + ['--cert-file', cert, '--key-file', key],
                                 env=self.control.env()).start()
        acknowledged = []

        def write():
            client = claviger.Client(server, ca=cert)
            try:
                key = b'p/%d' % len(acknowledged)
                acknowledged.append((key, put(client, key, b'x', HANG_SECONDS)))
                return True
            except grpc.RpcError as error:
                if error.code() == grpc.StatusCode.DEADLINE_EXCEEDED:
                    self.problems.append('put hung')
                return False
            finally:
                client.close()

        def has_ended():
            return server.process.poll() is not None

        def find_lessor():
            try:
                return claviger.auxiliary(server, 'lessor')
            except OSError:
                return None     # the postmaster has ended

        def act(turn):
            """What the postmaster does, as far as it lives.  (A lessor that dies
            again and again is started after longer and longer pauses.)"""
            position = os.path.getsize(server.log)
            os.kill(server.process.pid, signal.SIGHUP)
            wait_for(lambda: has_ended() or re.search('reloaded', faults.log_since(server, position)), 5)
            write()
            lessor = find_lessor()
            if lessor and turn in (0, 4, 8) and not has_ended():
                os.kill(lessor, signal.SIGKILL)
                wait_for(lambda: has_ended() or find_lessor() not in (None, lessor), 5)
            worker = children(server)[:1]
            if worker and not has_ended():
                position = os.path.getsize(server.log)
                os.kill(worker[0], signal.SIGKILL)
                faults.wait_restart(server, position)

        self.control.arm('allocation', 0, pid=server.process.pid)
        act(0)
        total, _ = self.control.disarm()
        fired = 0
        for turn, nth in enumerate(self.numbers(total, 3)):
            position = os.path.getsize(server.log)
            before = len(self.problems)
            self.control.arm('allocation', nth, pid=server.process.pid)
            act(turn)
            fired += self.control.disarm()[1]
            if has_ended():
                self.restarts += 1
                text = faults.log_since(server, position)
                if 'FATAL' not in text:
                    self.problems.append('it ended and did not say why: %s' % text[-500:])
                if not wait_for(lambda: not claviger._group_lives(server.process.pid, server.data), 10):
                    self.problems.append('it ended and left children')
                server.kill9()
                server.start()
            # whether it has ended or gone on: everything is there and works
            if not wait_for(write, 10):
                self.problems.append('no put afterwards')
            if not wait_for(find_lessor, 10):
                self.problems.append('no lessor afterwards')
            self.problems[before:] = ['n = %d: %s' % (nth, p) for p in self.problems[before:]]
            if len(self.problems) > 5:
                break
        client = claviger.Client(server, ca=cert)
        missing = faults.missing_of(client, acknowledged, b'p/')[0]
        client.close()
        if missing:
            self.problems.append('acknowledged and not there: %r' % missing[:3])
        if server.stop() != 0:
            self.problems.append('did not stop in order')
        self.report('allocation of the postmaster', None, fired, total)

    def check_slots(self):
        token = faults.token_of(self.server, 'root', 'root')
        TAP.ok(faults.only_worker_left(self.server), 'no backend is left')
        clients = [claviger.Client(self.server, token=token) for _ in range(12)]
        errors = [e for e in (error_of(lambda: put(c, b'slots', b'x')) for c in clients) if e]
        TAP.equal(errors, [], 'all connections can be had at one time afterwards')
        for client in clients:
            client.close()


def main():
    if b'__asan_init' in open(os.path.join(claviger.BINDIR, 'claviger'), 'rb').read() or \
            b'__tsan_init' in open(os.path.join(claviger.BINDIR, 'claviger'), 'rb').read():
        print('1..0 # SKIP sanitizers have an allocator of their own')
        return
    if not os.path.exists(SHIM):
        print('1..0 # SKIP %s is not built' % SHIM)
        return
    sweep = Sweep()
    sweeps = [('%s of %s' % (what, whom), lambda whom=whom, what=what: sweep.run(whom, what)) for whom, what in (
        ('worker', 'allocation'), ('worker', 'write'), ('worker', 'half write'),
        ('worker', 'writes from here on'), ('worker', 'sync'),
        ('backends', 'allocation'), ('backends', 'send'))]
    sweeps += [('allocation of postmaster', sweep.run_postmaster)]
    sweeps += [('%s at start' % what, lambda what=what: sweep.run_start(what, False))
               for what in ('allocation', 'writes from here on', 'sync')]
    sweeps += [('%s at init' % what, lambda what=what: sweep.run_start(what, True))
               for what in ('allocation', 'writes from here on', 'half write', 'sync')]
    for name, run in sweeps:
        if not ONLY or any(o in name for o in ONLY):
            start = time.time()
            run()
            print('# %s: %.1f s' % (name, time.time() - start), flush=True)
    sweep.check(True)
    TAP.equal(sweep.problems, [], 'all of %d acknowledged puts are there at the end' % len(sweep.acknowledged))
    sweep.check_slots()
    TAP.equal(sweep.server.stop(), 0, 'stops in order')
    TAP.done()


main()
