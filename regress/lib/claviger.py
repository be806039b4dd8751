"""A server of its own, and a gRPC client, for tests in Python.

The client is made from the project's .proto files with protoc when a test
starts; methods are called by their path, so no generated service code is
needed.  Run with Debian's python3 (python3-grpcio, python3-protobuf).
"""
import atexit
import base64
import fcntl
import importlib
import os
import random
import re
import shutil
import signal
import socket
import stat
import subprocess
import sys
import tempfile
import threading
import time
import urllib.request

import grpc

TOP = os.path.abspath(os.path.join(os.path.dirname(__file__), '..', '..'))
BUILDDIR = os.environ.get('BUILDDIR', os.path.join(TOP, 'build'))
BINDIR = os.environ.get('CLAVIGER_BINDIR', os.path.join(BUILDDIR, 'bin'))
SANITIZER = next((s for s in ('asan', 'tsan') if os.path.basename(BUILDDIR) == 'build-' + s), None)
# how much more time everything is given; what is demanded stays the same
SLOW = float(os.environ.get('CLAVIGER_SLOW') or {'asan': 4, 'tsan': 8}.get(SANITIZER, 1))
_SUPPRESSIONS = os.path.join(TOP, 'regress', 'sanitizers')
SANITIZER_ENV = {
    'asan': {'ASAN_OPTIONS': 'detect_stack_use_after_return=1:quarantine_size_mb=64',
             'UBSAN_OPTIONS': 'print_stacktrace=1:suppressions=' + _SUPPRESSIONS + '/ubsan.supp',
             'LSAN_OPTIONS': 'suppressions=' + _SUPPRESSIONS + '/lsan.supp'},
    'tsan': {'TSAN_OPTIONS': 'second_deadlock_stack=1:suppressions=' + _SUPPRESSIONS + '/tsan.supp'},
}.get(SANITIZER, {})
# a hash that takes more than 5 s on a starved machine makes a login time out
CHEAP_LOGINS = ['--argon2-memory=64', '--argon2-iterations=1']
SANITIZER_REPORT = re.compile(r'ERROR: AddressSanitizer|ERROR: LeakSanitizer|WARNING: ThreadSanitizer|runtime error:|'
                              r'Sanitizer CHECK failed|Sanitizer:DEADLYSIGNAL')

_tmp = tempfile.mkdtemp(prefix='claviger-py-')
_servers = []


@atexit.register
def _clean_up():
    for server in _servers:
        server.kill9()
    reports = [r for r in map(sanitizer_report, _servers) if r]
    shutil.rmtree(_tmp, ignore_errors=True)
    if reports:
        # too late for a TAP line: the exit status fails the test
        print('# a sanitizer has reported:\n' + reports[0], flush=True)
        os._exit(1)


def sanitizer_report(server):
    """What a sanitizer wrote into the server's log, or None."""
    try:
        text = open(server.log, errors='replace').read()
    except OSError:
        return None
    found = SANITIZER_REPORT.search(text)
    return found and '# ' + text[max(0, found.start() - 200):found.start() + 8000].replace('\n', '\n# ')


def load_protos():
    """The generated modules by package name."""
    proto = os.path.join(TOP, 'src', 'common', 'proto')
    names = sorted(n for n in os.listdir(proto) if n.endswith('.proto'))
    subprocess.run(['protoc', '--proto_path=' + proto, '--python_out=' + _tmp] + names,
                   check=True, cwd=proto)
    sys.path.insert(0, _tmp)
    return {n[:-6]: importlib.import_module(n[:-6] + '_pb2') for n in names}


def _first_ephemeral_port():
    with open('/proc/sys/net/ipv4/ip_local_port_range') as file:
        return int(file.read().split()[0])


_ports = []


def free_port():
    """A loopback port for a server, this process's own until it ends.

    It is none of those that the kernel gives to clients: one of these could be
    anybody's in the moment before the server binds it, or while it restarts.
    The lock on a file keeps other tests away; lib/Claviger/Server.pm uses the
    same ones.
    """
    directory = os.path.join(tempfile.gettempdir(), 'claviger-ports')
    os.makedirs(directory, exist_ok=True)
    first, beyond = 10000, _first_ephemeral_port()
    for _ in range(1000):
        port = random.randrange(first, beyond)
        lock = open(os.path.join(directory, str(port)), 'w')
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            with socket.socket() as s:
                s.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
                s.bind(('127.0.0.1', port))
        except OSError:
            lock.close()
            continue
        _ports.append(lock)
        return port
    raise RuntimeError('no free port from %d to %d' % (first, beyond - 1))


# worker/auxlist.h; the names by which top shows them
AUXILIARIES = ('clav lessor', 'clav compactor')
RAFT_WORKER = 'clav consensus'


class Process:
    """A child of a server's postmaster, as it was when we looked."""

    def __init__(self, pid, comm, state, start):
        self.pid = pid
        self.comm = comm
        self.lives = state not in 'ZX'
        self.is_stopped = state == 'T'
        self.start = start


def processes(server):
    """The postmaster's children until it has reaped them, oldest first.  (What
    /proc/PID/task/PID/children says leaves out some while others end.)"""
    found = []
    parent = str(server.process.pid)
    for name in os.listdir('/proc'):
        if not name.isdigit():
            continue
        try:
            with open('/proc/%s/stat' % name) as file:
                comm, fields = file.read().split('(', 1)[1].rsplit(')', 1)
        except (OSError, IndexError):
            continue
        fields = fields.split()
        if fields[1] == parent:
            found.append(Process(int(name), comm, fields[0], int(fields[19])))
    return sorted(found, key=lambda p: (p.start, p.pid))


def children(server):
    """Process ids of the raft worker and the backends, oldest first.  One that
    is dead is among them until the postmaster has reaped it: so long it has
    its slot."""
    return [p.pid for p in processes(server) if p.comm not in AUXILIARIES]


def auxiliary(server, name):
    """Process id of the auxiliary process of this name, or None."""
    return next((p.pid for p in processes(server) if p.lives and p.comm == 'clav ' + name), None)


def raft_worker(server):
    """Process id of the raft worker, waited for."""
    found = wait_until(lambda: [p.pid for p in processes(server) if p.lives and p.comm == RAFT_WORKER], 30)
    if not found:
        raise RuntimeError('no raft worker:\n' + open(server.log).read()[-3000:])
    return found[-1]


def _connections():
    """(local port, remote port, inode) of the IPv4 loopback."""
    with open('/proc/net/tcp') as file:
        rows = [line.split() for line in file][1:]
    return [(int(row[1].split(':')[1], 16), int(row[2].split(':')[1], 16), row[9]) for row in rows
            if row[1].startswith('0100007F:')]


def sockets_of(pid):
    """Inodes of its sockets."""
    found = set()
    try:
        for fd in os.listdir('/proc/%d/fd' % pid):
            name = os.readlink('/proc/%d/fd/%s' % (pid, fd))
            if name.startswith('socket:['):
                found.add(name[8:-1])
    except OSError:             # it ends, or has closed what was listed
        pass
    return found


def backends_of(server, ports):
    """{port of a client: process id of the backend that serves it}.  Who holds
    the other end of a connection is certain, whatever else begins and ends."""
    inodes = {inode: remote for local, remote, inode in _connections() if local == server.port and remote in ports}
    # the postmaster has a socket as well, until the fork is done
    return {inodes[inode]: p.pid for p in processes(server) if p.comm not in AUXILIARIES
            for inode in sockets_of(p.pid) if inode in inodes}


def backend_of(server, sock, seconds=30):
    """Process id of the backend at the other end of this socket, waited for."""
    port = sock.getsockname()[1]
    found = wait_until(lambda: backends_of(server, [port]), seconds)
    if not found:
        raise RuntimeError('no backend for this connection')
    return found[port]


def ports_of(server, pid):
    """Ports from which a process has connected to the server."""
    own = sockets_of(pid)
    return [local for local, remote, inode in _connections() if remote == server.port and inode in own]


def log_since(server, position):
    with open(server.log, errors='replace') as log:
        log.seek(position)
        return log.read()


def wait_restart(server, position, seconds=60):
    """True when the postmaster has noticed the death of the raft worker and is
    ready again; what the log says since `position` tells, because until the
    postmaster gets to run the pid file says what was true before."""
    begun_again = re.compile(r'raft worker (was )?ended .*ready to serve', re.DOTALL)
    wait_until(lambda: server.process.poll() is not None or begun_again.search(log_since(server, position)), seconds)
    return server.process.poll() is None and server.state() == 'ready'


def _own_ports(server):
    """Ports from which this process has connected to the server."""
    ports = []
    for fd in os.listdir('/proc/self/fd'):
        try:
            # what is no socket would not be closed again
            if not stat.S_ISSOCK(os.stat('/proc/self/fd/' + fd).st_mode):
                continue
            with socket.socket(fileno=os.dup(int(fd))) as own:
                # gRPC has 127.0.0.1 as an IPv6 address
                if own.getpeername()[1] == server.port:
                    ports.append(own.getsockname()[1])
        except OSError:             # no socket, not connected, or closed meanwhile
            pass
    return ports


def backends(server):
    """Process ids of the backends that serve the connections of this process.

    Other than among children(), none is missing because it is not yet forked, and
    none is there that still goes away.
    """
    ports = _own_ports(server)
    wait_until(lambda: len(backends_of(server, ports)) == len(ports))
    return set(backends_of(server, ports).values())


def open_connection(server, receive_buffer=None):
    connection = socket.socket()
    if receive_buffer:
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, receive_buffer)
    connection.settimeout(30 * SLOW)
    connection.connect(('127.0.0.1', server.port))
    return connection


def connect(server, receive_buffer=None):
    """A new connection and the process id of the backend that serves it."""
    connection = open_connection(server, receive_buffer)
    return connection, backend_of(server, connection)


def are_gone(server, pids, seconds=30):
    """Whether the postmaster has reaped these, at the latest after so long (times SLOW)."""
    return wait_until(lambda: not set(pids) & {p.pid for p in processes(server)}, seconds)


def make_certificates(directory, *clients):
    """A CA, the server's certificate and clients' by their CN; returns the CA's file."""
    subprocess.run(['perl', '-I' + os.path.join(TOP, 'regress', 'lib'), '-e', '''
        use Claviger::Certs; use File::Copy;
        my $ca = Claviger::Certs->new; my $to = shift;
        $ca->issue($_) for "server", @ARGV;
        copy("$ca->{dir}/$_", "$to/$_") for "ca.crt", map { ("$_.crt", "$_.key") } "server", @ARGV;
        ''', directory, *clients], check=True)
    return os.path.join(directory, 'ca.crt')


def _be_as_nice(pid):
    """A session of its own is scheduled by itself where the kernel groups
    sessions: what nice gave this process has to be said again."""
    if os.nice(0) > 0:
        try:
            with open('/proc/%d/autogroup' % pid, 'w') as file:
                file.write(str(os.nice(0)))
        except OSError:
            pass


def _group_lives(group, data):
    """Orphans that are dead do not count (init may take its time with them),
    threads that still end do: what matters is that the lock is free."""
    try:
        os.killpg(group, 0)
        with open(os.path.join(data, 'claviger.lock')) as lock:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        return False
    except ProcessLookupError:
        return False
    except OSError:
        return True


class Server:
    def __init__(self, args=(), tls=False, env=None):
        self.dir = tempfile.mkdtemp(prefix='server-', dir=_tmp)
        self.data = os.path.join(self.dir, 'data')
        self.log = os.path.join(self.dir, 'server.log')
        self.port = free_port()
        self.url = '%s://127.0.0.1:%d' % ('https' if tls else 'http', self.port)
        self.endpoint = '127.0.0.1:%d' % self.port
        self.args = list(args)
        self.env = dict(SANITIZER_ENV, **os.environ)
        self.env.update(env or {})
        self.process = None
        _servers.append(self)

    def start(self, seconds=60):
        with open(self.log, 'ab') as log:
            self.process = subprocess.Popen(
                [os.path.join(BINDIR, 'claviger'), '--data-dir', self.data,
                 '--listen-client-urls', self.url, '--advertise-client-urls', self.url] + self.args,
                stdin=subprocess.DEVNULL, stdout=log, stderr=log, env=self.env,
                start_new_session=True)
        _be_as_nice(self.process.pid)
        end = time.monotonic() + seconds * SLOW
        while time.monotonic() < end and self.process.poll() is None:
            if self.state() == 'ready':
                return self
            time.sleep(0.02)
        raise RuntimeError('server did not start:\n' + open(self.log).read())

    def state(self):
        try:
            lines = open(os.path.join(self.data, 'claviger.pid')).read().split('\n')
        except OSError:
            return None
        if len(lines) < 3 or lines[0] != str(self.process.pid):
            return None
        return lines[2]

    def stop(self, signo=signal.SIGTERM, seconds=60):
        self.process.send_signal(signo)
        status = self.process.wait(seconds * SLOW)
        self.process = None
        return status

    def kill9(self):
        if self.process is not None:
            try:
                os.killpg(self.process.pid, signal.SIGKILL)
            except ProcessLookupError:
                pass
            pid = self.process.pid
            self.process.wait()
            self.process = None
            # the lock on the data directory goes with the last of its children
            wait_until(lambda: not _group_lives(pid, self.data), 60)


class Client:
    """One channel; call('etcdserverpb.KV/Put', request, ResponseClass)."""

    def __init__(self, server, ca=None, cert=None, key=None, token=None):
        # a connection of its own, not one shared with earlier clients
        options = [('grpc.max_receive_message_length', -1), ('grpc.use_local_subchannel_pool', 1)]
        if ca:
            read = lambda path: open(path, 'rb').read()
            credentials = grpc.ssl_channel_credentials(
                read(ca), read(key) if key else None, read(cert) if cert else None)
            self.channel = grpc.secure_channel(server.endpoint, credentials, options)
        else:
            self.channel = grpc.insecure_channel(server.endpoint, options)
        self.token = token

    def call(self, method, request, response_class, timeout=60, metadata=()):
        metadata = list(metadata)
        if self.token is not None:
            metadata.append(('token', self.token))
        stub = self.channel.unary_unary(
            '/' + method, request_serializer=lambda m: m.SerializeToString(),
            response_deserializer=response_class.FromString)
        return stub(request, timeout=timeout * SLOW, metadata=metadata)

    def stream(self, method, request, response_class, timeout=60):
        metadata = [('token', self.token)] if self.token is not None else []
        stub = self.channel.stream_stream(
            '/' + method, request_serializer=lambda m: m.SerializeToString(),
            response_deserializer=response_class.FromString)
        return list(stub(iter([request]), timeout=timeout * SLOW, metadata=metadata))

    def first(self, method, request, response_class, is_bidi, timeout=60):
        """The first answer of a stream that goes on for ever."""
        metadata = [('token', self.token)] if self.token is not None else []
        make = self.channel.stream_stream if is_bidi else self.channel.unary_stream
        stub = make('/' + method, request_serializer=lambda m: m.SerializeToString(),
                    response_deserializer=response_class.FromString)
        done = threading.Event()

        def ask():
            yield request
            done.wait(timeout * SLOW)
        call = stub(ask() if is_bidi else request, timeout=timeout * SLOW, metadata=metadata)
        try:
            return next(call)
        finally:
            call.cancel()
            done.set()

    def close(self):
        self.channel.close()


def error_of(call):
    """(code, text) of the refusal, or None when the call succeeds."""
    try:
        call()
        return None
    except grpc.RpcError as error:
        return (error.code(), error.details())


def b64(text):
    """A text, or bytes, as the JSON API has them."""
    return base64.b64encode(text if isinstance(text, bytes) else text.encode()).decode()


def etcdctl_environment():
    """For etcdctl on a machine that is busy: its own limits are 2 s to log in and 5 s for a call.
    (Not together with the options of that name.)"""
    return dict(os.environ, ETCDCTL_API='3', ETCDCTL_DIAL_TIMEOUT='%ds' % (20 * SLOW),
                ETCDCTL_COMMAND_TIMEOUT='%ds' % (20 * SLOW))


def metric(server, name):
    """The value of one without labels, of a server without TLS."""
    with urllib.request.urlopen(server.url + '/metrics', timeout=60 * SLOW) as page:
        return int(float(re.search(r'^%s (\S+)$' % name, page.read().decode(), re.M).group(1)))


def wait_until(condition, seconds=30, step=0.01):
    """What it says, as soon as that is something, or after so long (times SLOW).
    The time is for machines that are starved; only a failure waits for it."""
    end = time.monotonic() + seconds * SLOW
    while time.monotonic() < end:
        result = condition()
        if result:
            return result
        time.sleep(step)
    return condition()


class Tap:
    """Counts and prints results the way prove reads them."""

    def __init__(self):
        self.n = 0
        self.failed = 0

    def ok(self, condition, name, note=''):
        self.n += 1
        if not condition:
            self.failed += 1
        print('%s %d - %s' % ('ok' if condition else 'not ok', self.n, name), flush=True)
        if not condition:
            # on standard error, which prove lets through: a failure that is rare has to say all at once
            print('\n'.join('# ' + line for line in ('failed: %s\n%s' % (name, note)).split('\n')),
                  file=sys.stderr, flush=True)
        return condition

    def equal(self, got, want, name):
        return self.ok(got == want, name, 'got:  %r\nwant: %r' % (got, want))

    def done(self):
        print('1..%d' % self.n, flush=True)
        sys.exit(1 if self.failed else 0)
