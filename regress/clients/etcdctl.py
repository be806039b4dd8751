"""What `etcdctl` of Debian can do, one row for each command and option: how it is
tried, and what the table in doc/etcdctl.md says of it.

A row is tried on etcd and on Claviger in the same way; exit status, output and
error must be equal once ids, addresses and times are masked.  Used by
010_etcdctl.t.
"""
import os
import re
import signal
import subprocess
import tempfile
import time

from claviger import SLOW, etcdctl_environment, wait_until

PROGRAM = '/usr/bin/etcdctl'
ROWS = []


class Row:
    def __init__(self, name, works, remark, trial, where, todo):
        self.name, self.works, self.remark = name, works, remark
        self.trial, self.where, self.todo = trial, where, todo


def row(name, *lines, works='yes', remark='', where='plain', todo=None):
    """A row tried by command lines; "!" before one that etcd refuses."""
    trial = (lambda c: [c.line(line) for line in lines]) if lines else None
    ROWS.append(Row(name, works, remark, trial, where, todo))


def trial(name, works='yes', remark='', where='plain', todo=None):
    """A row tried by a function."""
    def keep(function):
        ROWS.append(Row(name, works, remark, function, where, todo))
        return function
    return keep


def mask(text, endpoint):
    text = text.replace(endpoint, 'ENDPOINT')
    text = re.sub(r'"(cluster_id|member_id|raft_term|ID|leader|memberID|lease)":\d+', r'"\1":N', text)
    text = re.sub(r'"(ClusterID|MemberID|RaftTerm|ID|Leader|RaftIndex)" : \d+', r'"\1" : N', text)
    text = re.sub(r'\b(memberID:)\d+', r'\1N', text)
    text = re.sub(r'\b[0-9a-f]{10,16}\b', 'ID', text)
    text = re.sub(r'\b[0-9.]+(ns|µs|ms|s)\b', 'TIME', text)
    return text


def errors_of(stderr):
    """The lines of stderr that are for the user, not the client's log."""
    return '\n'.join(line for line in stderr.split('\n') if line and not line.startswith(('{', 'WARNING:', 'INFO:')))


class Ctl:
    """Runs etcdctl against one server and keeps what it said."""

    def __init__(self, server, flags=(), other=None):
        self.server, self.flags, self.other = server, list(flags), other
        self.said = []
        self.running = []
        self.dir = tempfile.mkdtemp(prefix='etcdctl-')

    def command(self, arguments):
        endpoint = [] if '--endpoints' in arguments else ['--endpoints', self.server.url]
        return [PROGRAM] + endpoint + self.flags + list(arguments)

    def environment(self, arguments):
        own = dict({k: v for k, v in os.environ.items() if not k.startswith('ETCDCTL_')}, ETCDCTL_API='3')
        if any(a.startswith(('--endpoints', '--command-timeout', '--dial-timeout')) for a in arguments):
            return own              # who asks for it, or asks nobody
        return dict(own, **{k: v for k, v in etcdctl_environment().items() if k.endswith('_TIMEOUT')})

    def raw(self, *arguments, stdin='', seconds=60):
        """(exit status, stdout, stderr)"""
        done = subprocess.run(self.command(arguments), input=stdin.encode(), capture_output=True,
                              timeout=seconds * 2 * SLOW, env=self.environment(arguments), cwd=self.dir)
        return done.returncode, done.stdout, done.stderr.decode(errors='replace')

    def run(self, *arguments, stdin='', refused=False, seconds=60):
        """Run, keep the masked result, and return stdout."""
        status, out, err = self.raw(*arguments, stdin=stdin, seconds=seconds)
        text = out.decode(errors='backslashreplace')
        self.said.append('$ etcdctl %s\n%s%sstatus %d' % (
            mask(' '.join(arguments), self.server.endpoint), mask(text, self.server.endpoint), mask(errors_of(err), self.server.endpoint), status))
        if (status != 0) != refused:
            raise AssertionError('etcdctl %s: status %d\n%s%s' % (' '.join(arguments), status, text, err))
        return text

    def line(self, line):
        refused = line.startswith('!')
        return self.run(*line.lstrip('!').split(' '), refused=refused)

    def note(self, text):
        self.said.append(mask(text, self.server.endpoint))

    def start(self, *arguments, stdin=None):
        process = Background(self.command(arguments), self.environment(arguments), self.dir, stdin)
        self.running.append(process)
        return process

    def stop(self):
        for process in self.running:
            process.stop()
        self.running = []


class Background:
    """etcdctl that goes on: watch, lock, elect ..."""

    def __init__(self, command, env, directory, stdin):
        self.path = tempfile.mktemp(prefix='out-', dir=directory)
        with open(self.path, 'wb') as out:
            self.process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=out, stderr=subprocess.STDOUT, env=env,
                                            cwd=directory, start_new_session=True)
        if stdin is not None:
            self.process.stdin.write(stdin.encode())
            self.process.stdin.flush()

    def text(self):
        with open(self.path, errors='backslashreplace') as file:
            return file.read()

    def lines(self):
        return [line for line in self.text().split('\n') if not line.startswith('{')]

    def wait_for(self, wanted, seconds=30):
        """Wait until the output has it; returns the output."""
        end = time.time() + seconds * SLOW
        while time.time() < end:
            if wanted in self.text():
                return self.text()
            if self.process.poll() is not None and wanted not in self.text():
                break
            time.sleep(0.02)
        raise AssertionError('no %r in the output:\n%s' % (wanted, self.text()))

    def wait_end(self, seconds=30):
        return self.process.wait(seconds * SLOW)

    def interrupt(self):
        self.process.send_signal(signal.SIGINT)
        return self.wait_end()

    def stop(self):
        if self.process.poll() is None:
            os.killpg(self.process.pid, signal.SIGKILL)
        self.process.wait()


# ---- put, get, del, txn, compaction ----

row('put', 'put put/a one', 'get put/a', '!put', '!put  x')
row('put --prev-kv', 'put --prev-kv ppk one', 'put --prev-kv ppk two')
row('put --ignore-value', '!put --ignore-value piv', 'put piv one', 'put --ignore-value piv', 'get -w json piv')
row('put --ignore-lease', '!put --ignore-lease pil x', 'put pil one', 'put --ignore-lease pil two', 'get -w json pil')


@trial('put --lease')
def _(c):
    c.run('put', '--lease=1234', 'pl', 'x', refused=True)
    lease = c.run('lease', 'grant', '600').split()[1]
    c.run('put', '--lease=' + lease, 'pl', 'x')
    c.run('get', '-w', 'json', 'pl')
    c.run('lease', 'revoke', lease)
    c.run('get', 'pl')


row('get', 'put get/a 1', 'put get/b 2', 'put get/c 3', 'get get/a', 'get get/a get/c', 'get get/none', '!get')
row('get --prefix', 'put gp/1 x', 'put gp/2 y', 'get --prefix gp/', 'get --prefix none/')
row('get --from-key', 'put zz/1 x', 'put zz/2 y', 'get --from-key zz/1')
row('get --limit', 'get --prefix --limit=1 get/')
row('get --keys-only', 'get --prefix --keys-only get/')
row('get --print-value-only', 'get --prefix --print-value-only get/')
row('get --consistency', 'get --consistency=s get/a', 'get --consistency=l get/a', '!get --consistency=x get/a')
row('get --sort-by', 'get --prefix --sort-by=VALUE get/', 'get --prefix --sort-by=MODIFY get/',
    'get --prefix --sort-by=CREATE get/', 'get --prefix --sort-by=VERSION get/', '!get --sort-by=x get/a')
row('get --order', 'get --prefix --order=DESCEND get/', 'get --prefix --order=ASCEND get/', '!get --order=x a')


@trial('get --rev')
def _(c):
    c.run('put', 'grev', 'one')
    revision = re.search(r'"revision":(\d+)', c.run('put', '-w', 'json', 'grev', 'two')).group(1)
    c.run('get', '--rev=%d' % (int(revision) - 1), 'grev')
    c.run('get', '--rev=%s' % revision, 'grev')
    c.run('get', '--rev=1000000', 'grev', refused=True)


row('del', 'put del/a 1', 'del del/a', 'del del/a', '!del', 'put del/b 1', 'put del/c 1', 'del del/a del/z')
row('del --prefix', 'put dp/1 x', 'put dp/2 x', 'del --prefix dp/')
row('del --prev-kv', 'put dpk x', 'del --prev-kv dpk')
row('del --from-key', 'put zzz/1 x', 'put zzz/2 x', 'del --from-key zzz/1')


@trial('txn')
def _(c):
    c.run('put', 'txn/a', 'one')
    c.run('txn', stdin='value("txn/a") = "one"\n\nput txn/b two\nget txn/a\n\nput txn/b three\n\n')
    c.run('txn', stdin='mod("txn/a") > "1000000"\n\nput txn/b two\n\nget txn/b\ndel txn/b\n\n')
    c.run('txn', stdin='create("txn/none") = "0"\nversion("txn/a") = "1"\n\nget txn/a\n\n\n')
    c.run('txn', stdin='\nput txn/c 1\nput txn/c 2\n\n\n', refused=True)


@trial('txn --interactive')
def _(c):
    c.run('txn', '-i', stdin='version("txn/i") = "0"\n\nput txn/i yes\n\nput txn/i no\n\n')
    c.run('get', 'txn/i')


@trial('compaction')
def _(c):
    c.run('put', 'compact', 'one')
    revision = int(re.search(r'"revision":(\d+)', c.run('put', '-w', 'json', 'compact', 'two')).group(1))
    c.run('compaction', str(revision))
    c.run('compaction', str(revision), refused=True)
    c.run('get', '--rev=%d' % (revision - 1), 'compact', refused=True)
    c.run('compaction', str(revision + 1000), refused=True)


@trial('compaction --physical')
def _(c):
    revision = int(re.search(r'"revision":(\d+)', c.run('put', '-w', 'json', 'compact', 'x')).group(1))
    c.run('compaction', '--physical', str(revision))


# ---- watch ----

def revision_of(c):
    return int(re.search(r'"revision":(\d+)', c.run('get', '-w', 'json', 'none')).group(1))


def watched(c, process, wanted):
    """The output of a watch once `wanted`, its last lines, has come."""
    process.wait_for(wanted + '\n')
    c.note('\n'.join(process.lines()))


TOKEN = 'with --user it waits no longer than `auth_token_ttl`, 300 s: clients.md'


@trial('watch', remark=TOKEN)
def _(c):
    process = c.start('watch', 'watch/a')
    for _ in range(15):                         # until the watch is there, and as often on both
        c.raw('put', 'watch/a', 'first')
        wait_until(lambda: 'first' in process.text(), 2)
    c.run('put', 'watch/a', 'last')
    c.run('del', 'watch/a')
    process.wait_for('DELETE\nwatch/a\n\n')
    c.note('\n'.join(process.lines()).split('first')[-1])
    c.run('watch', refused=True)


@trial('watch --rev')
def _(c):
    start = revision_of(c) + 1
    c.run('put', 'watch/r', '1')
    c.run('put', 'watch/r', '2')
    c.run('del', 'watch/r')
    watched(c, c.start('watch', '--rev=%d' % start, 'watch/r'), 'DELETE\nwatch/r\n')
    watched(c, c.start('watch', '--rev=%d' % start, 'watch/a', 'watch/z'), 'DELETE\nwatch/r\n')
    c.run('compaction', str(start))
    watched(c, c.start('watch', '--rev=%d' % (start - 1), 'watch/r'), 'has been compacted)')


@trial('watch --prefix')
def _(c):
    start = revision_of(c) + 1
    c.run('put', 'watch/p/1', 'x')
    c.run('put', 'watch/p/2', 'last')
    watched(c, c.start('watch', '--prefix', '--rev=%d' % start, 'watch/p/'), 'last')


@trial('watch --prev-kv')
def _(c):
    start = revision_of(c) + 1
    c.run('put', 'watch/k', 'before')
    c.run('put', 'watch/k', 'after')
    c.run('del', 'watch/k')
    watched(c, c.start('watch', '--prev-kv', '--rev=%d' % start, 'watch/k'), 'DELETE\nwatch/k\nafter\nwatch/k\n')


@trial('watch --interactive')
def _(c):
    start = revision_of(c) + 1
    c.run('put', 'watch/i', 'one')
    c.run('put', 'watch/j', 'two')
    process = c.start('watch', '-i', stdin='watch --rev=%d watch/i\n' % start)
    process.wait_for('one')
    process.process.stdin.write(('watch --rev=%d watch/j\n' % start).encode())
    process.process.stdin.flush()
    watched(c, process, 'two')
    process.process.stdin.write(b'progress\n')
    process.process.stdin.flush()
    process.wait_for('progress notify')


@trial('watch KEY -- COMMAND')
def _(c):
    start = revision_of(c) + 1
    c.run('put', 'watch/x', 'value')
    watched(c, c.start('watch', '--rev=%d' % start, 'watch/x', '--', 'sh', '-c',
                       'echo got $ETCD_WATCH_EVENT_TYPE $ETCD_WATCH_KEY $ETCD_WATCH_VALUE'), 'got "PUT" "watch/x" "value"')


# ---- lease ----

def grant(c, ttl=600):
    return c.run('lease', 'grant', str(ttl)).split()[1]


@trial('lease grant')
def _(c):
    grant(c)
    c.run('lease', 'grant', 'x', refused=True)
    c.run('lease', 'grant', '9000000001', refused=True)


@trial('lease revoke')
def _(c):
    lease = grant(c)
    c.run('put', '--lease=' + lease, 'lease/r', 'x')
    c.run('lease', 'revoke', lease)
    c.run('get', 'lease/r')
    c.run('lease', 'revoke', lease, refused=True)


@trial('lease timetolive')
def _(c):
    lease = grant(c, 6000)
    said = c.run('lease', 'timetolive', lease)
    assert re.search(r'granted with TTL\(6000s\), remaining\((6000|59\d\d)s\)', said), said
    c.run('lease', 'timetolive', '1234')


@trial('lease timetolive --keys')
def _(c):
    lease = grant(c)
    c.run('put', '--lease=' + lease, 'lease/k', 'x')
    assert 'attached keys([lease/k])' in c.run('lease', 'timetolive', '--keys', lease)


@trial('lease list')
def _(c):
    before = c.raw('lease', 'list')[1].decode().split()
    lease = grant(c)
    after = c.raw('lease', 'list')[1].decode().split()
    assert lease in after and lease not in before, (before, after)
    c.note('%d more' % len(set(after) - set(before)))


@trial('lease keep-alive --once')
def _(c):
    c.run('lease', 'keep-alive', '--once', grant(c))
    c.run('lease', 'keep-alive', '--once', '1234', refused=True)


@trial('lease keep-alive')
def _(c):
    lease = grant(c, 6)
    process = c.start('lease', 'keep-alive', lease)
    # one each two seconds, so longer than it lives by itself
    assert wait_until(lambda: process.text().count('keepalived with TTL(6)') >= 5, 60), process.text()
    assert 'remaining' in c.raw('lease', 'timetolive', lease)[1].decode()
    c.run('lease', 'revoke', lease)
    process.wait_for('expired or revoked')
    c.note(process.lines()[0])


# ---- endpoint, alarm, defrag, snapshot, members ----

row('endpoint health', 'endpoint health', '!endpoint health --endpoints 127.0.0.1:1')
row('endpoint health --cluster', 'endpoint health --cluster')


@trial('endpoint status')
def _(c):
    fields = c.raw('endpoint', 'status')[1].decode().strip(', \n').split(', ')
    assert fields[0].endswith(c.server.endpoint) and re.match('[0-9a-f]+$', fields[1]), fields
    assert fields[4] == 'true' and fields[5] == 'false' and int(fields[7]) >= int(fields[8]), fields
    c.note('%d fields' % len(fields))
    c.raw('endpoint', 'status', '-w', 'table')


@trial('endpoint status --cluster')
def _(c):
    c.note('%d lines' % len(c.raw('endpoint', 'status', '--cluster')[1].decode().strip().split('\n')))


@trial('endpoint hashkv')
def _(c):
    status, out, err = c.raw('endpoint', 'hashkv')
    assert status == 0 and re.search(r', \d+$', out.decode().strip()), (out, err)
    c.note('status 0')


@trial('endpoint hashkv --rev')
def _(c):
    revision = revision_of(c)
    first = c.raw('endpoint', 'hashkv', '--rev=%d' % revision)
    c.run('put', 'hash', 'x')
    assert first[0] == 0 and first == c.raw('endpoint', 'hashkv', '--rev=%d' % revision), first
    c.run('endpoint', 'hashkv', '--rev=1000000', refused=True)


@trial('endpoint hashkv --cluster')
def _(c):
    c.note('%d lines' % len(c.raw('endpoint', 'hashkv', '--cluster')[1].decode().strip().split('\n')))


row('alarm list', 'alarm list')


@trial('alarm disarm', where='quota')
def _(c):
    for _ in range(200):
        status, _, err = c.raw('put', 'big', 'x' * 100000)
        if status:
            break
    assert 'database space exceeded' in err, err
    c.run('put', 'more', 'x', refused=True)
    assert 'alarm:NOSPACE' in c.run('alarm', 'list')
    c.run('del', 'big')
    revision = re.search(rb'"revision":(\d+)', c.raw('get', '-w', 'json', 'none')[1]).group(1).decode()
    assert c.raw('compaction', '--physical', revision)[0] == 0
    c.run('defrag')
    assert 'alarm:NOSPACE' in c.run('alarm', 'disarm')
    c.run('alarm', 'list')
    c.run('put', 'more', 'x')


row('defrag', 'defrag')
row('defrag --cluster', 'defrag --cluster')
row('defrag --data-dir', works='no', remark="works on etcd's own files, not on a server; Claviger needs no defragmentation")


@trial('snapshot save')
def _(c):
    c.run('put', 'snapshot', 'x')
    path = os.path.join(c.dir, 'snapshot.db')
    said = c.run('snapshot', 'save', path)
    assert 'Snapshot saved' in said and os.path.getsize(path) > 1000, said
    c.said.clear()                              # the file's name


row('snapshot status', works='no', remark="reads etcd's own file format; `clav_restore` checks and shows our snapshots")
for _option in ('', ' --data-dir', ' --name', ' --initial-cluster', ' --initial-cluster-token',
                ' --initial-advertise-peer-urls', ' --skip-hash-check', ' --wal-dir'):
    row('snapshot restore' + _option, works='no', remark="writes etcd's own files; use `clav_restore`" if not _option else '')
for _option in ('', ' --data-dir', ' --wal-dir', ' --transformer', ' --no-ttl'):
    row('migrate' + _option, works='no', remark="turns etcd v2 files into etcd v3 files; there is no v2 store here"
        if not _option else '')

@trial('member list')
def _(c):
    members = c.run('member', 'list').strip().split('\n')
    assert len(members) == 1 and 'started' in members[0], members
    c.said.clear()                              # names and addresses of peers


def own_member(c):
    return c.raw('member', 'list')[1].decode().split(',')[0]


@trial('move-leader')
def _(c):
    c.run('move-leader', '1234', refused=True)
    c.run('move-leader', own_member(c))


CLUSTER = 'one member for now: the cluster comes with issue 5'
row('member add', works='no', remark=CLUSTER)
row('member add --peer-urls', works='no')
row('member add --learner', works='no')
row('member remove', '!member remove 1234', works='part', remark='refusals only: ' + CLUSTER)
row('member update', '!member update 1234 --peer-urls=http://127.0.0.1:1', works='part', remark='refusals only: ' + CLUSTER)
row('member update --peer-urls', works='no')
row('member promote', '!member promote 1234', works='part', remark='refusals only: ' + CLUSTER)

# ---- make-mirror, lock, elect ----


def mirror(c, keys, *options):
    for key in keys:
        c.run('put', key, 'before')
    process = c.start('make-mirror', *options, c.other.server.url)
    arrived = lambda value: wait_until(lambda: value in c.other.raw('get', '--from-key', '')[1].decode(), 30)
    assert arrived('before'), process.text()
    c.run('put', keys[0], 'after')
    arrived('after')
    process.stop()
    c.note(c.other.raw('get', '--from-key', '')[1].decode())
    c.other.raw('del', '--from-key', '')
    assert 'after' in c.said[-1], c.said[-1] + process.text()


@trial('make-mirror', remark=TOKEN)
def _(c):
    mirror(c, ['mirror/a', 'mirror/b'], '--prefix=mirror/')
    mirror(c, ['mirror/a'])


row('make-mirror --prefix', remark='with make-mirror')


@trial('make-mirror --dest-prefix')
def _(c):
    mirror(c, ['mirror/a'], '--prefix=mirror/', '--dest-prefix=copy/')


@trial('make-mirror --no-dest-prefix')
def _(c):
    mirror(c, ['mirror/a'], '--prefix=mirror/', '--no-dest-prefix')


@trial('make-mirror --dest-cacert', where='tls')
def _(c):
    certificates = dict(zip(*[iter(c.flags)] * 2))
    mirror(c, ['mirror/t'], '--prefix=mirror/', '--dest-cacert', certificates['--cacert'],
           '--dest-cert', certificates['--cert'], '--dest-key', certificates['--key'], '--dest-insecure-transport=false')


for _option in ('--dest-cert', '--dest-key', '--dest-insecure-transport'):
    row('make-mirror ' + _option, remark='with --dest-cacert', where='tls')


def in_line(c, prefix):
    """Waits until there are two that contend."""
    assert wait_until(lambda: len(c.raw('get', '--prefix', '--keys-only', prefix)[1].split()) == 2, 30), prefix


@trial('lock', remark=TOKEN)
def _(c):
    c.run('lock', 'locks/a', 'printenv', 'ETCD_LOCK_KEY')
    first = c.start('lock', 'locks/b')
    first.wait_for('locks/b/')
    second = c.start('lock', 'locks/b')
    in_line(c, 'locks/b')
    assert second.text() == '', second.text()
    first.interrupt()
    second.wait_for('locks/b/')
    second.interrupt()
    c.run('get', '--prefix', 'locks/')


@trial('lock --ttl')
def _(c):
    process = c.start('lock', '--ttl=6', 'locks/t')
    key = process.wait_for('locks/t/').strip()
    lease = key.rsplit('/', 1)[1]
    assert 'TTL(6s)' in c.raw('lease', 'timetolive', lease)[1].decode()
    process.stop()                              # killed: the lease runs out
    wait_until(lambda: not c.raw('get', key)[1], 40)
    c.run('get', '--prefix', 'locks/t')


@trial('elect', remark=TOKEN)
def _(c):
    first = c.start('elect', 'elections/a', 'one')
    first.wait_for('one')
    second = c.start('elect', 'elections/a', 'two')
    in_line(c, 'elections/a')
    first.interrupt()
    second.wait_for('two')
    second.interrupt()
    c.run('get', '--prefix', 'elections/')


@trial('elect --listen', remark=TOKEN)
def _(c):
    first = c.start('elect', 'elections/l', 'one')
    first.wait_for('one')
    listener = c.start('elect', '-l', 'elections/l')
    listener.wait_for('one')
    first.interrupt()
    second = c.start('elect', 'elections/l', 'two')
    second.wait_for('two')
    listener.wait_for('two')
    second.interrupt()


# ---- auth, user, role: on servers of their own ----

row('user add', 'user add alice:secret', '!user add alice:secret', where='auth')


@trial('user add --interactive', where='auth')
def _(c):
    c.run('user', 'add', 'pipe', '--interactive=false', stdin='secret\n')


row('user add --new-user-password', 'user add root --new-user-password=secret', where='auth')
row('user add --no-password', 'user add cert --no-password', where='auth')
row('user list', 'user list', where='auth')
row('role add', 'role add r', '!role add r', 'role add root', where='auth')
row('role list', 'role list', where='auth')
row('role grant-permission', 'role grant-permission r readwrite key', 'role grant-permission r read a c',
    'role get r', '!role grant-permission none read a', where='auth')
row('role grant-permission --prefix', 'role grant-permission r read --prefix dir/', 'role get r', where='auth')
row('role grant-permission --from-key', 'role grant-permission r write --from-key z', 'role get r', where='auth')
row('role get', 'role get r', '!role get none', where='auth')
row('role revoke-permission', 'role revoke-permission r a c', '!role revoke-permission r a c', 'role get r', where='auth')
row('role revoke-permission --prefix', 'role revoke-permission r --prefix dir/', 'role get r', where='auth')
row('role revoke-permission --from-key', 'role revoke-permission r --from-key z', 'role get r', where='auth')
row('user grant-role', 'user grant-role alice r', '!user grant-role alice none', 'user grant-role root root', where='auth')
row('user get', 'user get alice', '!user get none', where='auth')
row('user get --detail', 'user get alice --detail', where='auth')


@trial('user passwd', where='auth')
def _(c):
    c.run('user', 'passwd', 'alice', '--interactive=false', stdin='changed\n')


row('user passwd --interactive', remark='with user passwd', where='auth')
row('auth enable', 'auth enable', '!put key x', '!--user alice:wrong put key x', where='auth')
row('--user', '--user alice:changed put key x', '!--user alice:changed put other x',
    '--user root:secret user list', where='auth')
row('--password', '--user alice --password changed get key', '!--user alice --password wrong get key', where='auth')
row('auth disable', '!--user alice:changed auth disable', '--user root:secret auth disable', 'put key x', where='auth')
row('user revoke-role', 'user revoke-role alice r', '!user revoke-role alice r', where='auth')
row('role delete', 'role delete r', '!role delete r', where='auth')
row('user delete', 'user delete alice', '!user delete alice', where='auth')

# ---- check ----


@trial('check perf', where='alone', remark='60 seconds of load; asks /metrics of nobody')
def _(c):
    status, out, err = c.raw('check', 'perf', '--load=s', '--auto-compact', '--auto-defrag', '--prefix=/check/', seconds=90)
    text = out.decode(errors='replace')
    assert 'Slowest request' in text and 'FAIL: too many' not in text, text[-400:] + err
    c.note('checked')


for _option in ('--load', '--prefix', '--auto-compact', '--auto-defrag'):
    row('check perf ' + _option, remark='with check perf', where='alone')


@trial('check datascale', where='alone')
def _(c):
    status, out, err = c.raw('check', 'datascale', '--load=s', '--auto-compact', '--auto-defrag', '--prefix=/scale/',
                             seconds=60)
    text = out.decode(errors='replace')
    assert 'PASS: Approximate system memory used' in text, text[-400:] + err
    c.note('checked')


for _option in ('--load', '--prefix', '--auto-compact', '--auto-defrag'):
    row('check datascale ' + _option, remark='with check datascale', where='alone')

# ---- options of all commands ----

row('--endpoints', remark='in every row')


@trial('--write-out')
def _(c):
    c.run('put', 'out/a', 'one')
    c.run('put', 'out/b', 'two')
    for form in ('simple', 'fields', 'json', 'table'):
        for command in (['get', '--prefix', 'out/'], ['put', 'out/a', 'one'], ['del', 'out/none']):
            if form != 'table':                 # which few commands have
                c.run('-w', form, *command)
    assert c.raw('-w', 'protobuf', 'get', 'out/a')[0] == 0
    c.raw('-w', 'table', 'member', 'list')


row('--hex', '--hex put 0a0b 0c', '--hex get 0a0b')
row('--debug', '--debug get none', remark='the client prints its settings and logs')
row('--command-timeout', '--command-timeout=30s get none')
row('--dial-timeout', '--dial-timeout=30s get none', '!--dial-timeout=500ms --endpoints 127.0.0.1:1 get none')
row('--keepalive-time', '--keepalive-time=5s get none')
row('--keepalive-timeout', '--keepalive-timeout=5s get none')
row('--cacert', 'put tls x', 'get tls', where='tls')
row('--cert', 'user list', remark="the certificate's CN is the user when the server has client-cert-auth", where='tls')
row('--key', remark='with --cert', where='tls')
row('--insecure-skip-tls-verify', '--insecure-skip-tls-verify=true get tls', where='tls')
row('--insecure-transport', '--insecure-transport=true get none')
for _option in ('--discovery-srv', '--discovery-srv-name', '--insecure-discovery'):
    row(_option, works='client', remark='asks the DNS for endpoints, nothing of the server')
row('version', 'version', remark='the server is not asked', works='client')
for _shell in ('bash', 'zsh', 'fish', 'powershell'):
    row('completion ' + _shell, 'completion ' + _shell, works='client', remark='the server is not asked')
row('help', 'help', works='client', remark='the server is not asked')
