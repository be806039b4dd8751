#!/usr/bin/python3
"""The power goes while a server is initialised and under load: with what the
disk holds then, the server starts, and all that was acknowledged is there.

kill -9 leaves the kernel's cache as it was; here the disk is made again from a
journal of all changes, with what had been synced and a random part of the rest
(regress/fault/powercut.py).  The log, Berkeley DB's files and the names of all
files are in it.

POWER_CUTS: how many (default 24).  SEED: of moments and losses."""
import os
import random
import re
import shutil
import subprocess
import sys
import threading
import time

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), '..', 'fault'))
import faults
import powercut
from faults import A, E, auth, claviger, get, grpc, put

TAP = claviger.Tap()
CUTS = int(os.environ.get('POWER_CUTS', '24'))
SEED = int(os.environ.get('SEED', '1'))
LOAD_SECONDS = float(os.environ.get('POWER_LOAD_SECONDS', '4'))
# small, so that rotation, recycling and checkpoints are met as well
ARGS = ['--argon2-memory=64', '--argon2-iterations=1', '--raft-log-segment-bytes=1048576', '--checkpoint-interval=150ms',
        '--snapshot-catchup-entries=20']
# of Berkeley DB, but the first
NEXT_LOG = r'log\.(?!0000000001)'
LEASE = 'etcdserverpb.Lease/LeaseGrant'
COMPACT = 'etcdserverpb.KV/Compact'


class Writer(threading.Thread):
    """One kind of change after the other, each with a mark when it is acknowledged."""

    def __init__(self, server, mark, stop, number):
        super().__init__()
        self.client = claviger.Client(server, token=faults.token_of(server, 'root', 'root'))
        self.mark = mark
        self.stopped = stop
        self.number = number
        self.revision = 0
        self.errors = []

    def run(self):
        changes = [self.put] * 24 + 2 * [self.large, self.lease, self.user, self.permission, self.compact] + [self.defragment]
        rng = random.Random(self.number)
        i = 0
        while not self.stopped.is_set():
            i += 1
            name = '%d-%d' % (self.number, i)
            try:
                rng.choice(changes)(name)
            except grpc.RpcError as error:
                self.errors.append((error.code(), error.details()))
                return

    def put(self, name, size=300):
        self.revision = put(self.client, b'k/' + name.encode(), os.urandom(size))
        self.mark(key='k/' + name, revision=self.revision)

    def large(self, name):
        self.put(name, 400000)

    def lease(self, name):
        lease = self.client.call(LEASE, E.LeaseGrantRequest(TTL=3600), E.LeaseGrantResponse).ID
        self.mark(lease=lease)

    def user(self, name):
        auth(self.client, 'UserAdd', name='u' + name, password='p')
        self.mark(user='u' + name)

    def permission(self, name):
        auth(self.client, 'RoleGrantPermission', name='r', perm=A.Permission(permType=2, key=name.encode()))
        self.mark(permission=name)

    def compact(self, name):
        revision = self.revision - 20
        if revision < 1:
            return
        try:
            self.client.call(COMPACT, E.CompactionRequest(revision=revision), E.CompactionResponse)
        except grpc.RpcError as error:
            if error.code() != grpc.StatusCode.OUT_OF_RANGE:
                raise
        self.mark(compacted=revision)

    def defragment(self, name):
        self.client.call('etcdserverpb.Maintenance/Defragment', E.DefragmentRequest(), E.DefragmentResponse)


def journalled(journal, data):
    """Environment of a program whose changes of the directory are written down."""
    return {'LD_PRELOAD': os.path.join(claviger.BUILDDIR, 'fault', 'diskjournal.so'),
            'DISKJOURNAL_FILE': journal, 'DISKJOURNAL_DIR': data}


def run(directory):
    """A server under load; returns the path of the journal and its directory."""
    journal = os.path.join(directory, 'journal')
    server = claviger.Server(args=ARGS)
    server.env.update(journalled(journal, server.data))
    server.start()
    mark = powercut.Marker(journal)
    faults.set_up_auth(server)
    mark(auth=True)
    stop = threading.Event()
    writers = [Writer(server, mark, stop, i) for i in range(6)]
    for writer in writers:
        writer.start()
    time.sleep(LOAD_SECONDS)
    tables = os.path.join(server.data, 'tables')
    TAP.ok(claviger.wait_until(lambda: any(re.match(NEXT_LOG, name) for name in os.listdir(tables))),
           "the tables' log goes on in another file")
    stop.set()
    for writer in writers:
        writer.join()
    TAP.equal([e for w in writers for e in w.errors], [], 'no request fails while the journal is written')
    server.kill9()
    return journal, server.data


def moments(journal, rng):
    """Records after which the power goes: some in the initialisation, some
    anywhere, some right behind a change of names or in the middle of a sync,
    some when the tables' log has begun another file."""
    kinds, behind_log = [], set()
    for i, record in enumerate(powercut.records(journal)):
        if record[0] == powercut.CREATE and re.match(NEXT_LOG, os.path.basename(record[1][0])):
            behind_log.update(range(i + 1, i + 500))
        kinds.append(record[0])
    first_mark = kinds.index(powercut.MARK)
    special = [i for i, kind in enumerate(kinds) if i > first_mark and kind in (
        powercut.CREATE, powercut.RENAME, powercut.UNLINK, powercut.SYNC_BEGIN)]
    chosen = [rng.randrange(1, first_mark) for _ in range(CUTS // 6)]
    chosen += rng.sample(special, CUTS // 3)
    chosen += rng.sample(sorted(i for i in behind_log if i < len(kinds)), CUTS // 6)
    chosen += [rng.randrange(first_mark, len(kinds)) for _ in range(CUTS - len(chosen))]
    counts = {k: kinds.count(getattr(powercut, k)) for k in ('WRITE', 'SYNC_END', 'CREATE', 'RENAME', 'UNLINK', 'MARK')}
    print('# %d records: %s' % (len(kinds), counts), flush=True)
    return sorted(chosen)


def differences(server, marks):
    """What was acknowledged and is not there."""
    told = lambda kind: [m for m in marks if kind in m]
    if not told('auth'):
        return []
    client = claviger.Client(server, token=faults.token_of(server, 'root', 'root'))
    try:
        found = {kv.key.decode(): kv.mod_revision for kv in get(client, b'k/', range_end=b'k0', keys_only=True).kvs}
        missing = [m for m in told('key') if found.get(m['key']) != m['revision']]
        leases = {l.ID for l in client.call('etcdserverpb.Lease/LeaseLeases', E.LeaseLeasesRequest(), E.LeaseLeasesResponse).leases}
        missing += [m for m in told('lease') if m['lease'] not in leases]
        users = set(auth(client, 'UserList').users)
        missing += [m for m in told('user') if m['user'] not in users]
        granted = {p.key.decode() for p in auth(client, 'RoleGet', role='r').perm}
        missing += [m for m in told('permission') if m['permission'] not in granted]
        compacted = max((m['compacted'] for m in told('compacted')), default=1)
        if compacted > 1:
            error = faults.error_of(lambda: get(client, b'k/', revision=compacted - 1))
            if error is None or error[0] != grpc.StatusCode.OUT_OF_RANGE:
                missing.append({'compacted': compacted, 'answer': error})
        # and it goes on
        if put(client, b'after', b'x') <= max(found.values(), default=0):
            missing.append('a revision comes again')
    finally:
        client.close()
    if faults.error_of(lambda: get(claviger.Client(server), b'k/')) is None:
        missing.append('nobody may read')
    return missing


def cut(disk, to, rng, chance):
    """None, or what is wrong after the power went."""
    server = claviger.Server(args=ARGS)
    disk.survive(server.data, rng, chance)
    try:
        server.start()
        missing = differences(server, disk.marks)
        server.stop()
    except (RuntimeError, grpc.RpcError) as error:
        missing = [str(error)[-1500:]]
    finally:
        server.kill9()
        shutil.rmtree(server.dir, ignore_errors=True)
    return missing


def trial(journal, data, is_journalled, rng):
    wrong = []
    disk = powercut.Disk(data)
    disk.is_journalled = is_journalled
    when = moments(journal, rng)
    total = len(when)
    for number, record in enumerate(powercut.records(journal)):
        while when and when[0] == number:
            when.pop(0)
            chance = rng.choice((0, 0.5, rng.random(), 1))
            missing = cut(disk, data, rng, chance)
            if missing:
                wrong.append((number, chance, missing[:3]))
                print('# after record %d, chance %.2f: %r' % (number, chance, missing[:3]), flush=True)
        if not when:
            break
        disk.replay(record)
    TAP.equal(wrong, [], '%d power cuts, %s: the server starts, and all that was acknowledged is there (%d marks at the last)' %
              (total, 'names as a journalling file system keeps them' if is_journalled else
               'names only as their directory was synced', len(disk.marks)))
    TAP.ok(len(disk.marks) > 50, 'and there was load')


def restore_trial(rng):
    """The power goes while clav_restore works, or right behind it."""
    source = claviger.Server().start()
    client = claviger.Client(source)
    keys = {b'r/%d' % i for i in range(500)}
    for key in keys:
        put(client, key, b'v' * 500)
    client.close()
    file, journal = os.path.join(source.dir, 'snapshot'), os.path.join(source.dir, 'journal')
    subprocess.run(['etcdctl', '--endpoints', source.url, 'snapshot', 'save', file], check=True,
                   env=dict(os.environ, ETCDCTL_API='3'), stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    target = os.path.join(source.dir, 'restored')
    subprocess.run([os.path.join(claviger.BINDIR, 'clav_restore'), file, '--data-dir', target], check=True,
                   env=dict(os.environ, **journalled(journal, target)), stdout=subprocess.DEVNULL)
    whole = list(powercut.records(journal))
    disk = powercut.Disk(target)
    disk.is_journalled = False
    when = set(rng.sample(range(1, len(whole)), max(6, CUTS // 4)))
    wrong = []
    for number, record in enumerate(whole):
        if number in when:
            served = restored_keys(disk, rng, rng.choice((0, 0.5, 1)))
            if served not in ('refused', 'empty', keys):
                wrong.append((number, served if isinstance(served, str) else len(served)))
        disk.replay(record)
    TAP.equal(wrong, [], '%d power cuts in the middle of clav_restore: nothing half restored is served' % len(when))
    TAP.ok(restored_keys(disk, rng, 0) == keys, 'when it has ended all is durable')
    source.stop()


def restored_keys(disk, rng, chance):
    """The keys that are served, or 'refused'; 'empty' when nothing at all is left."""
    server = claviger.Server()
    disk.survive(server.data, rng, chance)
    # the lock's file says nothing
    is_empty = not set(os.listdir(server.data)) - {'claviger.lock'}
    try:
        server.start()
    except RuntimeError:
        return 'refused'
    client = claviger.Client(server)
    found = {kv.key for kv in get(client, b'r/', range_end=b'r0', keys_only=True).kvs}
    client.close()
    server.stop()
    return 'empty' if is_empty and not found else found


def main():
    if claviger.SANITIZER:
        print('1..0 # SKIP a sanitizer and a preloaded library do not go together')
        return
    rng = random.Random(SEED)
    directory = claviger.tempfile.mkdtemp(dir=claviger._tmp)
    journal, data = run(directory)
    print('# journal of %d bytes' % os.path.getsize(journal), flush=True)
    trial(journal, data, True, rng)
    trial(journal, data, False, rng)
    restore_trial(rng)
    TAP.done()


main()
