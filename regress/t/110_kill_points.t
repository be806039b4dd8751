#!/usr/bin/python3
"""kill -9 at named points of everything that changes memory or disk, under
load: after the restart every acknowledged put is there with its revision,
also those through the JSON gateway, revisions have no gap, users and rights are
as acknowledged, tokens are void, leases and what hangs on them are as
acknowledged; a watcher has seen every revision once and in order.

KILL_POINT_SEEDS: how often each point (default 1).
KILL_POINT_MODES: all (everything dies) and worker (the raft worker alone);
by default each point takes one of them in turn."""
import http.client
import itertools
import os
import random
import signal
import sys
import threading
import time

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), '..', 'fault'))
import faults
from faults import A, E, KV, auth, children, claviger, error_of, get, grpc, put, raft_worker, wait_for
from follower import Follower
from jsonclient import JsonClient
import leasework

TAP = claviger.Tap()
MA = 'etcdserverpb.Maintenance/'
SEEDS = int(os.environ.get('KILL_POINT_SEEDS', '1'))
MODES = os.environ.get('KILL_POINT_MODES', '').split()
ONLY = os.environ.get('KILL_POINT_ONLY', '').split()

# passed by the raft worker at work
RUNNING = '''log-before-write log-after-write log-before-sync log-after-sync log-before-rename log-renamed
    log-after-rename log-before-recycle log-after-recycle log-before-unlink log-before-dir-sync log-spare-step log-spare-before-write
    log-spare-before-sync logthread-before-append logthread-persisted consensus-proposed consensus-committed consensus-before-compact
    consensus-compacted apply-before-batch apply-entry-done apply-before-publish store-root-replaced
    apply-after-publish apply-answered apply-after-flush apply-after-submit apply-idle compact-step
    persist-in-transaction persist-before-commit persist-after-commit persist-before-checkpoint bdb-checkpointed
    persist-after-checkpoint persist-before-durable persist-defragment-step consensus-lease-renewed
    apply-watch-taken apply-watchers-told'''.split()
# passed when a directory with something to replay is started
STARTING = '''postmaster-memory-made bdb-recovered load-before-keys load-after-keys log-segment-read log-before-sync
    vote-before-store vote-before-sync vote-after-store log-before-write log-after-sync apply-entry-done
    apply-before-publish persist-before-commit consensus-before-ready postmaster-worker-ready'''.split()
# passed by the postmaster when one of its children has ended: a backend, the lessor
REAPING = ['postmaster-slot-reaped', 'postmaster-auxiliary-reaped']
# passed while an empty directory is initialised
INITIALISING = '''init-begin init-announced init-dirs-made init-records-written init-records-committed
    init-tables-made log-before-write log-before-sync log-before-rename log-renamed init-log-made vote-before-store
    vote-before-sync vote-after-store init-before-marker init-file-opened init-file-opened@2 init-before-rename
    init-after-marker'''.split()

ARGS = ['--argon2-memory=64', '--argon2-iterations=1', '--worker-restart-pause=0', '--raft-log-segment-bytes=1048576',
        '--snapshot-catchup-entries=20', '--checkpoint-interval=150ms', '--lease-checkpoint-interval=1000']


class Admin(threading.Thread):
    """Changes users and rights one after the other; what was acknowledged
    must be there afterwards, and at most the last besides."""

    def __init__(self, server, token, expected):
        super().__init__()
        self.client = claviger.Client(server, token=token)
        self.expected = expected        # set of users and of keys granted to r
        self.pending = None             # (set, element, added)
        self.stop = threading.Event()

    def run(self):
        for i in itertools.count():
            for add in (True, False) if i % 3 == 0 else (True,):
                if self.stop.is_set():
                    return
                name = 'u%d' % len(self.expected['all'])
                try:
                    self.change(name, add, i % 2 == 0)
                except grpc.RpcError:
                    return

    def change(self, name, add, is_user):
        which = self.expected['users'] if is_user else self.expected['keys']
        if not add:
            name = next(iter(which), None)
            if name is None:
                return
        else:
            self.expected['all'].append(name)
        self.pending = (which, name, add)
        if is_user and add:
            auth(self.client, 'UserAdd', name=name, password='p')
        elif is_user:
            auth(self.client, 'UserDelete', name=name)
        elif add:
            auth(self.client, 'RoleGrantPermission', name='r', perm=A.Permission(permType=2, key=name.encode()))
        else:
            auth(self.client, 'RoleRevokePermission', role='r', key=name.encode())
        (which.add if add else which.discard)(name)
        self.pending = None

    def end(self):
        self.stop.set()
        self.join()
        self.client.close()

    def differences(self, client):
        found = {
            'users': {u for u in auth(client, 'UserList').users if u not in ('root', 'alice')},
            'keys': {p.key.decode() for p in auth(client, 'RoleGet', role='r').perm if not p.range_end},
        }
        wrong = []
        for kind in ('users', 'keys'):
            which = self.expected[kind]
            doubtful = {self.pending[1]} if self.pending and self.pending[0] is which else set()
            wrong += sorted((found[kind] ^ which) - doubtful)
            self.expected[kind] ^= (found[kind] ^ which) & doubtful
        self.pending = None
        return wrong


class Trial:
    """One server through all points."""

    defragments = watches = False

    def __init__(self):
        self.points = faults.Points([(p, 'kill') for p in dict.fromkeys(RUNNING + STARTING +
                                                                         REAPING + ['postmaster-before-restart'])])
        self.server = claviger.Server(args=ARGS, env=self.points.env()).start()
        faults.set_up_auth(self.server)
        self.expected = {'users': set(), 'keys': set(), 'all': []}
        self.kept = []
        self.rounds = 0
        self.acknowledged = 0
        self.leases = 0
        self.renewals = 0
        self.follower = Follower(self.server, lambda: faults.token_of(self.server, 'root', 'root')).begin()

    def round(self, name, strike):
        """Load, strike(), and a look at what is left."""
        self.rounds += 1
        random.seed('%s %d' % (name, self.rounds))
        prefix = b'w%d/' % self.rounds
        token = faults.token_of(self.server, 'root', 'root')
        client = claviger.Client(self.server, token=token)
        self.kept.append((b'keep/%d' % self.rounds, put(client, b'keep/%d' % self.rounds, b'k')))
        admin = Admin(self.server, token, self.expected)
        writers = faults.Writers(self.server, 3, prefix, token, os.urandom(8000))
        large = faults.Writers(self.server, 1, prefix + b'l', token, os.urandom(1200000), 0.04)
        gateway = faults.Writers(self.server, 1, prefix + b'j', token, b'j' * 100, 0.005, JsonClient)
        user = leasework.User(self.server, self.rounds, token)
        user.start()
        admin.start()
        stop = threading.Event()
        churn = []
        compactor = threading.Thread(target=self.compact, args=(client, stop, churn))
        compactor.start()
        time.sleep(random.uniform(0.05, 0.4))
        if self.server.process.poll() is not None or not children(self.server):
            TAP.ok(False, '%s: the raft worker ended before it was struck' % name, open(self.server.log).read()[-4000:])
        self.restarted = time.time()    # no earlier than this
        fired = strike()
        self.died = time.time()
        stop.set()
        admin.end()
        compactor.join()
        client.close()
        acknowledged = writers.end() + large.end() + gateway.end()
        user.end()
        self.leases += len(user.leases)
        self.renewals += user.renewals
        self.errors = writers.errors
        self.acknowledged += len(acknowledged)
        if self.server.process is None or self.server.process.poll() is not None:
            self.server.kill9()
            self.server.start()
        self.check(name, fired, token, (acknowledged, churn, user), prefix, admin)

    def compact(self, client, stop, churn):
        """Something to remove, all the time, but nothing that the watcher has not
        seen; notes its revisions."""
        while not stop.wait(0.02):
            try:
                churn.append(put(client, b'churn', b'x', 5))
                client.call(KV + 'Compact', E.CompactionRequest(revision=self.follower.last), E.CompactionResponse, 5)
                if self.watches:
                    JsonClient(self.server, token=client.token).first(
                        'etcdserverpb.Watch/Watch', E.WatchRequest(create_request=E.WatchCreateRequest(key=b'no')),
                        E.WatchResponse, True)
                if self.defragments:
                    client.call(MA + 'Defragment', E.DefragmentRequest(), E.DefragmentResponse, 5)
            except grpc.RpcError as error:
                if error.code() != grpc.StatusCode.OUT_OF_RANGE:
                    return
            except (OSError, ValueError, http.client.HTTPException):
                return          # the gateway was cut off

    def check(self, name, fired, token, puts, prefix, admin):
        acknowledged, churn, user = puts
        old = claviger.Client(self.server, token=token)
        client = claviger.Client(self.server, token=faults.token_of(self.server, 'root', 'root'))
        void = error_of(lambda: get(old, b'k'))
        leases, keys, seen = leasework.state_of(client)
        wrong_leases = leasework.check([user], self.restarted, self.died, leases, keys, seen)
        missing, _, _ = faults.missing_of(client, acknowledged, prefix)
        gateway = JsonClient(self.server, token=client.token)
        kept = {kv.key: kv.mod_revision for kv in get(gateway, b'keep/', range_end=b'keep0').kvs}
        not_followed = self.follower.check(acknowledged + user.puts, get(client, b'k').header.revision)
        lost = [pair for pair in self.kept if kept.get(pair[0]) != pair[1]]
        wrong = admin.differences(client)
        alice = claviger.Client(self.server, token=faults.token_of(self.server, 'alice', 'alice'))
        denied = error_of(lambda: put(alice, b'b', b'x'))
        allowed = error_of(lambda: put(alice, b'a', b'x'))
        client.call(KV + 'DeleteRange', E.DeleteRangeRequest(key=prefix, range_end=prefix[:-1] + b'0'),
                    E.DeleteRangeResponse)
        leasework.revoke_long(client, leases)
        for one in (old, client, alice, gateway):
            one.close()
        problems = [text for text, value in (
            ('the point did not fire, or nothing came back: %r\n%s' % (
                self.errors, open(self.server.log).read()[-3000:]), not fired),
            ('missing: %r' % missing[:3], missing or lost),
            ('the watcher: %r' % not_followed[:3], not_followed),
            ('leases: %r' % wrong_leases[:3], wrong_leases),
            ('users or rights differ: %r' % wrong[:3], wrong),
            ('the old token: %r' % (void,), void != faults.UNAUTHENTICATED),
            ('alice beyond her rights: %r' % (denied,),
             denied != (grpc.StatusCode.PERMISSION_DENIED, 'etcdserver: permission denied')),
            ('alice within her rights: %r' % (allowed,), allowed),
        ) if value]
        TAP.ok(not problems, '%s: %d acknowledged, all there' % (name, len(acknowledged)), '\n'.join(problems))

    # ---- what strikes ----

    def all_at(self, point):
        armed = self.points.arm(point, 'kill')
        fired = wait_for(lambda: not os.path.exists(armed), 90, 0.001)
        self.server.kill9()
        self.points.disarm(armed)
        return fired

    def worker_at(self, point):
        position = os.path.getsize(self.server.log)
        armed = self.points.arm(point, 'kill')
        fired = wait_for(lambda: not os.path.exists(armed), 90, 0.001)
        self.points.disarm(armed)
        return fired and faults.wait_restart(self.server, position)

    def end_at(self, point):
        """One of its children dies, and the postmaster when it has noticed."""
        armed = self.points.arm(point, 'kill')
        victim = claviger.auxiliary(self.server, 'lessor') if 'auxiliary' in point else children(self.server)[-1]
        os.kill(victim, signal.SIGKILL)
        ended = wait_for(lambda: self.server.process.poll() is not None)
        self.server.kill9()
        return ended and not self.points.disarm(armed)

    def start_at(self, point):
        """Everything dies, the start dies at the point, the next start is good."""
        self.server.kill9()
        armed = self.points.arm(point, 'kill')
        try:
            self.server.start()
        except RuntimeError:
            pass
        # what is behind may come after the server is ready
        fired = wait_for(lambda: not os.path.exists(armed))
        self.server.kill9()
        self.points.disarm(armed)
        return fired

    def restart_at(self, point):
        """The worker dies, and the postmaster while it starts over."""
        armed = self.points.arm(point, 'kill')
        os.kill(raft_worker(self.server), signal.SIGKILL)
        ended = wait_for(lambda: self.server.process.poll() is not None)
        self.server.kill9()
        return ended and not self.points.disarm(armed)


def wanted(names):
    return [n for n in names if not ONLY or n in ONLY]


def check_initialising():
    """Killed in the middle of initialising: the next start does it all."""
    points = faults.Points([(p, 'kill') for p in INITIALISING])
    for point in wanted(INITIALISING):
        server = claviger.Server(env=points.env(), args=ARGS)
        armed = points.arm(point, 'kill')
        try:
            server.start()
        except RuntimeError:
            pass
        fired = not points.disarm(armed)
        server.kill9()
        try:
            server.start()
            client = claviger.Client(server)
            ok = put(client, b'a', b'b') == 2
            client.close()
            status = server.stop()
        except Exception as error:
            ok, status = False, error
        TAP.ok(fired and ok and status == 0, 'initialisation killed at %s: the next start begins again' % point,
               'fired: %s, put: %s, stop: %s\n%s' % (fired, ok, status, open(server.log).read()[-2000:]))


def main():
    trial = Trial()
    turn = 0
    for seed in range(SEEDS):
        for point in wanted(RUNNING):
            for mode in MODES or [('all', 'worker')[turn % 2]]:
                strike = trial.all_at if mode == 'all' else trial.worker_at
                trial.defragments = point == 'persist-defragment-step'
                trial.watches = point == 'apply-watch-taken'
                trial.round('%s, %s' % (point, 'everything' if mode == 'all' else 'raft worker'),
                            lambda: strike(point))
            turn += 1
        trial.defragments = trial.watches = False
        for point in wanted(REAPING):
            trial.round(point, lambda: trial.end_at(point))
        for point in wanted(STARTING):
            trial.round('%s, at the start' % point, lambda: trial.start_at(point))
        if wanted(['postmaster-before-restart']):
            trial.round('postmaster-before-restart', lambda: trial.restart_at('postmaster-before-restart'))
        turn += len(RUNNING) + 1
    trial.follower.end()
    TAP.ok(ONLY or trial.leases > trial.rounds / 2 and trial.renewals > trial.rounds / 8 and
           trial.follower.streams > trial.rounds, '%d leases, %d times renewed; %d events in %d streams of the watcher'
           % (trial.leases, trial.renewals, trial.follower.events, trial.follower.streams))
    TAP.equal(trial.server.stop(), 0, 'stops in order')
    print('# %d rounds, %d puts acknowledged' % (trial.rounds, trial.acknowledged), flush=True)
    check_initialising()
    TAP.done()


main()
