#!/usr/bin/python3
"""What a disk can do: torn and damaged log records, damaged table pages, no
space left, writes and syncs that fail.  The server cuts what nobody was told
of, or refuses to start and names file and place; it never starts with less
than was acknowledged, and never with wider rights."""
import os
import re
import shutil
import struct
import subprocess
import sys

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), '..', 'fault'))
import faults
from faults import E, KV, auth, claviger, error_of, get, grpc, log_since, put, wait_for

TAP = claviger.Tap()
ARGS = ['--argon2-memory=64', '--argon2-iterations=1', '--worker-restart-pause=0', '--raft-log-segment-bytes=1048576']


def start_refused(server, name, *patterns):
    """It must end by itself, with a message that matches."""
    position = os.path.getsize(server.log)
    try:
        server.start()
        started = True
    except RuntimeError:
        started = False
    status = server.process.poll() if server.process else None
    server.kill9()
    text = log_since(server, position)
    ok = not started and status not in (None, 0) and all(re.search(p, text) for p in patterns)
    TAP.ok(ok, name, 'started: %s, status: %s, wanted: %r\n%s' % (started, status, patterns, text))
    return text


def sound(server, token_user='root'):
    """The state of the server, read by root."""
    client = claviger.Client(server, token=faults.token_of(server, token_user, token_user))
    kvs = get(client, b'\0', range_end=b'\0')
    state = ([(kv.key, kv.value, kv.mod_revision) for kv in kvs.kvs], faults.auth_state(client))
    client.close()
    return state


def write_at(path, offset, data):
    with open(path, 'r+b') as file:
        file.seek(offset)
        file.write(data)


def flip_at(path, offset):
    with open(path, 'r+b') as file:
        file.seek(offset)
        byte = file.read(1)
        file.seek(offset)
        file.write(bytes([byte[0] ^ 0x40]))


def records(path):
    """(offset, size, index, batch) of each record of a segment."""
    data = open(path, 'rb').read()
    offset, out, last = 64, [], 0
    while offset + 40 <= len(data):
        crc, length, index, term, batch = struct.unpack_from('<IIQQI', data, offset)
        if index == 0 or last and index != last + 1:
            break
        size = (40 + length + 7) // 8 * 8
        out.append((offset, size, index, batch))
        last = index
        offset += size
    return out


class Copy:
    """A data directory to go back to."""

    def __init__(self, server):
        self.server = server
        self.path = server.data + '.copy'
        shutil.copytree(server.data, self.path)

    def restore(self):
        shutil.rmtree(self.server.data)
        shutil.copytree(self.path, self.server.data)
        os.chmod(self.server.data, 0o700)


# ---- the log ----

def check_log():
    # what is cut off the log must not be in the tables already
    server = claviger.Server(args=ARGS + ['--checkpoint-interval=1h']).start()
    faults.set_up_auth(server)
    client = claviger.Client(server, token=faults.token_of(server, 'root', 'root'))
    for i in range(120):
        put(client, b'k%03d' % i, b'v' * 20000)
    client.close()
    server.kill9()
    copy = Copy(server)
    segments = sorted(n for n in os.listdir(server.data + '/log') if n.endswith('.log'))
    TAP.ok(len(segments) >= 2, 'the log has several segments')
    last, first = (server.data + '/log/' + segments[i] for i in (-1, 0))

    server.start()
    before = sound(server)
    server.kill9()

    copy.restore()
    entries = records(last)
    offset, size, index, _ = entries[-1]
    write_at(last, offset + size // 2, b'\xa5' * (size - size // 2))
    position = os.path.getsize(server.log)
    server.start()
    text = log_since(server, position)
    TAP.ok(re.search(r'WARNING: the last write to log segment ".*%s" was not finished: cut at offset %d, the log ends '
                     r'at index %d' % (segments[-1], offset, index - 1), text),
           'a torn last write is cut, with a warning', text)
    after = sound(server)
    TAP.equal((after[0], after[1]['users'], after[1]['roles']),
              (before[0][:-1], before[1]['users'], before[1]['roles']), 'everything before it is there')
    server.kill9()
    server.start()
    TAP.equal(sound(server)[0], after[0], 'and after one more kill -9')
    server.kill9()

    restore = 'restore the log from a backup, or remove the data directory'
    for where, path in (('the last segment', last), ('an earlier segment', first)):
        copy.restore()
        entries = records(path)
        offset, size, index, _ = entries[len(entries) // 2]
        flip_at(path, offset + size - 9)
        start_refused(server, 'damage in the middle of %s: refused, with file, offset and index' % where,
                      r'FATAL: log segment "%s" is damaged at offset %d, index %d' % (path, offset, index), restore)
    copy.restore()
    flip_at(last, 20)
    start_refused(server, 'damaged header: refused', r'log segment "%s" is damaged: the checksum of its header' % last,
                  restore)
    copy.restore()
    os.truncate(last, 500000)
    start_refused(server, 'a segment cut short: refused', r'log segment "%s" is damaged: it is shorter' % last, restore)
    copy.restore()
    os.unlink(first)
    try:
        server.start()
        state = sound(server)
        TAP.equal((state[0], state[1]), before, 'the first segment gone: the tables have all that it held')
        server.kill9()
    except RuntimeError:
        server.kill9()
        TAP.ok(re.search('begins at index .* but the tables end at', open(server.log).read()),
               'the first segment gone: refused')
    if len(segments) > 2:
        copy.restore()
        os.unlink(server.data + '/log/' + segments[1])
        start_refused(server, 'a segment between gone: refused', r'log segment ".*%s" is missing' % segments[1], restore)

    vote = server.data + '/log/vote'
    copy.restore()
    flip_at(vote, 20)
    position = os.path.getsize(server.log)
    server.start()
    TAP.ok('one of the two copies in vote file' in log_since(server, position), 'one bad copy of the vote: a warning')
    TAP.equal(sound(server)[0], before[0], 'and everything is there')
    server.kill9()
    copy.restore()
    flip_at(vote, 20)
    flip_at(vote, 512 + 20)
    start_refused(server, 'two bad copies of the vote: refused', r'vote file "%s" is damaged' % vote, 'must not forget')
    copy.restore()
    server.start()
    TAP.equal(sound(server), before, 'with the bytes put back all is as it was')
    TAP.equal(server.stop(), 0, 'stops in order')
    return server, before


# ---- tables ----

def check_tables(server, before):
    """One flipped bit in each page of each table."""
    copy = Copy(server) if not os.path.exists(server.data + '.copy') else None
    if copy is None:
        shutil.rmtree(server.data + '.copy')
        copy = Copy(server)
    page = 16384
    harmless = 0
    for name in sorted(n for n in os.listdir(server.data + '/tables') if n.endswith('.db')):
        npages = os.path.getsize(server.data + '/tables/' + name) // page
        pages = sorted({0, 1, npages // 2, npages - 1}) if name == 'key.db' else range(npages)
        for number in pages:
            copy.restore()
            path = server.data + '/tables/' + name
            flip_at(path, number * page + (300 if number == 0 else page - 30))
            position = os.path.getsize(server.log)
            try:
                server.start()
            except RuntimeError:
                server.kill9()
                text = log_since(server, position)
                TAP.ok(re.search(r'(table "%s"|tables/%s)' % (name[:-3], name), text) and 'HINT' in text,
                       'a flipped bit in page %d of %s: refused, and named' % (number, name), text)
                continue
            # a page that nothing refers to
            same = sound(server) == before
            server.kill9()
            harmless += 1
            TAP.ok(same, 'a flipped bit in page %d of %s: nothing reads it, all is as it was' % (number, name),
                   log_since(server, position))
    copy.restore()
    os.unlink(server.data + '/tables/authRoles.db')
    start_refused(server, 'a table gone: refused', r'could not open table "authRoles": No such file')
    copy.restore()
    server.start()
    TAP.equal(sound(server), before, 'with the bytes put back all is as it was')
    TAP.equal(server.stop(), 0, 'stops in order')
    print('# %d pages that nothing reads' % harmless, flush=True)


# ---- errors of write and sync ----

FAILING = (
    ('log-before-write', 28, r'PANIC: could not write \d+ entries from index \d+ to the log: No space left'),
    ('log-before-sync', 5, r'PANIC: could not write \d+ entries from index \d+ to the log: Input/output error'),
    ('log-spare-before-write', 5, r'PANIC: could not prepare a segment of the log: Input/output error'),
    ('log-spare-before-sync', 5, r'PANIC: could not prepare a segment of the log: Input/output error'),
    ('log-renamed', 5, r'PANIC: could not (write \d+ entries|prepare a segment).*Input/output error'),
    ('log-before-recycle', 5, r'PANIC: could not recycle segments of the log: Input/output error'),
    ('log-before-dir-sync', 5, r'PANIC: could not recycle segments of the log: Input/output error'),
    ('persist-in-transaction', 28, r'PANIC: could not write to the tables in ".*": No space left'),
    ('persist-before-commit', 5, r'PANIC: could not commit to the tables in ".*": Input/output error'),
    ('persist-before-checkpoint', 28, r'PANIC: could not checkpoint the tables in ".*": No space left'),
    ('bdb-checkpointed', 5, r'PANIC: could not checkpoint the tables in ".*": Input/output error'),
)


def check_errors():
    points = faults.Points([(p, 'error:%d' % n) for p, n, _ in FAILING])
    server = claviger.Server(args=ARGS + ['--checkpoint-interval=200ms', '--snapshot-catchup-entries=20'],
                             env=points.env()).start()
    kept = []
    for i, (point, number, pattern) in enumerate(FAILING):
        position = os.path.getsize(server.log)
        writers = faults.Writers(server, 4, b'e%d/' % i, value=b'v' * 10000)
        wait_for(lambda: writers.errors or writers.count() > 0)
        armed = points.arm(point, 'error:%d' % number)
        fired = wait_for(lambda: not os.path.exists(armed), 60)
        ready = faults.wait_restart(server, position)
        acknowledged = writers.end()
        kept += acknowledged
        text = log_since(server, position)
        client = claviger.Client(server)
        missing, gaps, found = faults.missing_of(client, kept, b'e')
        client.close()
        TAP.ok(fired and ready and re.search(pattern, text) and len(re.findall('PANIC', text)) == 1,
               '%s fails with errno %d: PANIC with its reason, no second try, and a restart' % (point, number), text)
        TAP.equal((missing[:3], gaps[:3]), ([], []), '  all of %d acknowledged puts are there' % len(kept))
    TAP.equal(server.stop(), 0, 'stops in order')


# ---- full disks ----

class SmallDisk:
    """A tmpfs in the place of a directory of the server."""

    def __init__(self, path, megabytes):
        self.path = path
        keep = path + '.moved'
        os.rename(path, keep)
        os.mkdir(path, 0o700)
        subprocess.run(['mount', '-t', 'tmpfs', '-o', 'size=%dm,mode=700' % megabytes, 'claviger-test', path], check=True)
        subprocess.run(['cp', '-a', keep + '/.', path + '/'], check=True)
        shutil.rmtree(keep)

    def grow(self, megabytes):
        subprocess.run(['mount', '-o', 'remount,size=%dm' % megabytes, self.path], check=True)

    def close(self):
        subprocess.run(['umount', '-l', self.path], check=False)


def may_mount():
    return os.geteuid() == 0 and subprocess.run(['unshare', '-m', 'true']).returncode == 0


def check_full_disk(part, megabytes, pattern):
    server = claviger.Server(args=ARGS + ['--checkpoint-interval=300ms', '--snapshot-catchup-entries=1000000'])
    server.start()
    server.stop()
    disk = SmallDisk(server.data + '/' + part, megabytes)
    try:
        position = os.path.getsize(server.log)
        server.start()
        writers = faults.Writers(server, 4, b'f/', value=os.urandom(20000))
        full = wait_for(lambda: re.search(pattern, log_since(server, position)), 120)
        acknowledged = writers.end()
        TAP.ok(full, 'no space left for the %s: PANIC, and it says so' % part, log_since(server, position)[-3000:])
        # with room for the little that a start writes it serves; else it ends
        client = claviger.Client(server)
        read = lambda: error_of(lambda: get(client, b'f/', range_end=b'f0', count_only=True)) is None
        served = wait_for(lambda: server.process.poll() is not None or read(), 60)
        TAP.ok(served and 'No space left' in log_since(server, position),
               '  then what is there can be read, or it ends for the same reason', log_since(server, position)[-3000:])
        client.close()
        server.kill9()
        disk.grow(512)
        server.start()
        client = claviger.Client(server)
        missing, gaps, found = faults.missing_of(client, acknowledged, b'f/')
        TAP.ok(len(acknowledged) > 50 and not missing and not gaps,
               '  with space again all of %d acknowledged puts are there' % len(acknowledged), (missing[:3], gaps[:3]))
        TAP.ok(put(client, b'g', b'h') > 1, '  and it goes on')
        client.close()
        TAP.equal(server.stop(), 0, '  stops in order')
    finally:
        server.kill9()
        disk.close()


# ---- the clock ----

CLOCK_USERS = {
    'src/backend/utils/error/elog.c',           # log lines
    'src/backend/postmaster/postmaster.c',      # when the server began, in the pid file
    'src/backend/storage/ipc/control.c',        # when a connection began, for the activity view
    'src/include/storage/ipc/control.h',        # the comment on that
    'src/include/utils/clock.h',
    'src/backend/gateway/httptext.c',           # the Date of an HTTP answer
    'src/backend/gateway/metricsproc.c',        # when the process began, for /metrics
    'src/backend/command/snapshot.c',           # when a snapshot was made, for who restores it
    'src/backend/comm/tls.c',                   # whether a certificate has expired
}


def check_clock():
    """Nothing that decides anything looks at a clock that can jump."""
    out = subprocess.run(['grep', '-rlE', r'CLOCK_REALTIME|clock_realtime|\<time\((NULL|&)|gettimeofday|X509_cmp_current',
                          'src/backend', 'src/include', 'src/common'], cwd=claviger.TOP, stdout=subprocess.PIPE)
    users = set(out.stdout.decode().split())
    TAP.equal(sorted(users - CLOCK_USERS), [], 'only log lines, views and certificates use the clock of the day')


def main():
    server, before = check_log()
    check_tables(server, before)
    check_errors()
    if may_mount():
        check_full_disk('log', 6, r'PANIC: could not (write \d+ entries|prepare a segment).*No space left')
        check_full_disk('tables', 40, r'PANIC: could not .* the tables in ".*": No space left')
    else:
        TAP.ok(True, 'full disks # SKIP needs root, to mount a small tmpfs')
    check_clock()
    TAP.done()


main()
