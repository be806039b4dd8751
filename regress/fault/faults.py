"""What the tests of crashes and faults share: aiming an injection point at one
process of a running server, looking at its processes, load that must not
fail, and a record of what has been acknowledged."""
import atexit
import http.client
import json
import os
import resource
import signal
import socket
import struct
import subprocess
import sys
import tempfile
import threading

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), '..', 'lib'))
import claviger
import grpc
from claviger import error_of, log_since, raft_worker, wait_restart, wait_until

P = claviger.load_protos()
E = P['etcdserverpb']
A = P['authpb']
KV, AU = 'etcdserverpb.KV/', 'etcdserverpb.Auth/'
UNAUTHENTICATED = (grpc.StatusCode.UNAUTHENTICATED, 'etcdserver: invalid auth token')

# aborts would fill the disk with core files
resource.setrlimit(resource.RLIMIT_CORE, (0, 0))


class Points:
    """CLAVIGER_INJECT with a trigger file for each of ('point', 'action')."""

    def __init__(self, pairs):
        self.dir = tempfile.mkdtemp(prefix='points-', dir=claviger._tmp)
        self.pairs = list(pairs)

    def path(self, point, action):
        return os.path.join(self.dir, point + '-' + action.replace(':', '-'))

    def env(self):
        return {'CLAVIGER_INJECT': ','.join('%s?%s=%s' % (p, self.path(p, a), a) for p, a in self.pairs)}

    def arm(self, point, action, pid=None):
        path = self.path(point, action) + ('.%d' % pid if pid else '')
        with open(path + '.new', 'w'):
            pass
        os.rename(path + '.new', path)
        return path

    def disarm(self, path):
        """True if it was still armed."""
        try:
            os.unlink(path)
            return True
        except FileNotFoundError:
            return False


def wait_for(condition, seconds=30, step=0.01):
    """wait_until(); a short step for who must not come late."""
    return wait_until(condition, seconds, step)


def children(server):
    """The postmaster's children that live, oldest first: the raft worker, then
    backends, and no auxiliary processes."""
    return [p.pid for p in claviger.processes(server) if p.lives and p.comm not in claviger.AUXILIARIES]


def only_worker_left(server):
    """Waits until the postmaster has reaped every backend: their slots are free."""
    return wait_until(lambda: len(claviger.children(server)) == 1, 60)


def is_stopped(pid):
    with open('/proc/%d/stat' % pid) as file:
        return file.read().rsplit(')', 1)[1].split()[0] == 'T'


def count_fds(pid):
    return len(os.listdir('/proc/%d/fd' % pid))


def private_kb(pid):
    """Memory that is the process's own."""
    for line in open('/proc/%d/status' % pid):
        if line.startswith('RssAnon:'):
            return int(line.split()[1])
    return 0


def put(client, key, value, timeout=60):
    return client.call(KV + 'Put', E.PutRequest(key=key, value=value), E.PutResponse, timeout).header.revision


def get(client, key, timeout=60, **more):
    return client.call(KV + 'Range', E.RangeRequest(key=key, **more), E.RangeResponse, timeout)


def auth(client, method, timeout=60, **fields):
    name = method if method.startswith('Auth') else 'Auth' + method
    return client.call(AU + method, getattr(E, name + 'Request')(**fields), getattr(E, name + 'Response'), timeout)


def token_of(server, name, password, timeout=60, **tls):
    client = claviger.Client(server, **tls)
    try:
        return auth(client, 'Authenticate', timeout, name=name, password=password).token
    finally:
        client.close()


def set_up_auth(server):
    """root, and alice who may write [a, b) and nothing else."""
    client = claviger.Client(server)
    for name in ('root', 'alice'):
        auth(client, 'UserAdd', name=name, password=name)
    for name in ('root', 'r'):
        auth(client, 'RoleAdd', name=name)
    auth(client, 'RoleGrantPermission', name='r', perm=A.Permission(permType=2, key=b'a', range_end=b'b'))
    auth(client, 'UserGrantRole', user='root', role='root')
    auth(client, 'UserGrantRole', user='alice', role='r')
    auth(client, 'AuthEnable')
    client.close()


def auth_state(client):
    """All that can be seen of users, roles and rights."""
    users = auth(client, 'UserList').users
    roles = auth(client, 'RoleList').roles
    status = auth(client, 'AuthStatus')
    return {
        'users': {u: list(auth(client, 'UserGet', name=u).roles) for u in users},
        'roles': {r: [p.SerializeToString() for p in auth(client, 'RoleGet', role=r).perm] for r in roles},
        'revision': status.authRevision,
        'enabled': status.enabled,
    }


class Raw:
    """One HTTP/2 connection that never connects again by itself, as grpc's
    does, and does not decode its answers."""

    def __init__(self, server, token=None, timeout=60):
        self.server = server
        self.token = token
        self.stream = -1
        self.rest = b''
        self.socket = socket.create_connection(('127.0.0.1', server.port), timeout * claviger.SLOW)
        self.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        # a window that takes all answers of a short life
        self._send(b'PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n' + self._frame(4, 0, 0, b'\0\x04\x7f\xff\xff\xff') +
                   self._frame(8, 0, 0, b'\x7f\0\0\0'))

    def _send(self, data):
        try:
            self.socket.sendall(data)
        except OSError:
            pass                # the other end is dead already: wait() tells

    @staticmethod
    def _frame(kind, flags, stream, payload):
        return struct.pack('>BHBBI', len(payload) >> 16, len(payload) & 0xffff, kind, flags, stream) + payload

    @staticmethod
    def _text(text):
        text = text.encode()
        if len(text) < 127:
            return bytes([len(text)]) + text
        rest = len(text) - 127
        return bytes([127]) + (bytes([rest % 128 + 128, rest // 128]) if rest >= 128 else bytes([rest])) + text

    def send(self, method, request, ends=True):
        """Begin a request; returns its stream.  ends: no more messages follow."""
        self.stream += 2
        headers = [(':method', 'POST'), (':scheme', 'http'), (':path', '/' + method), (':authority', 'x'),
                   ('te', 'trailers'), ('content-type', 'application/grpc')]
        if self.token:
            headers.append(('token', self.token))
        block = b''.join(b'\0' + self._text(n) + self._text(v) for n, v in headers)
        data = request.SerializeToString()
        data = b'\0' + struct.pack('>I', len(data)) + data
        out = self._frame(1, 4, self.stream, block)
        for i in range(0, len(data), 16384):
            out += self._frame(0, 1 if ends and i + 16384 >= len(data) else 0, self.stream, data[i:i + 16384])
        self._send(out)
        return self.stream

    def _exactly(self, n):
        while len(self.rest) < n:
            more = self.socket.recv(65536)
            if not more:
                raise ConnectionError('closed')
            self.rest += more
        data, self.rest = self.rest[:n], self.rest[n:]
        return data

    def wait(self, stream):
        """True when the stream has ended, False if the connection did first."""
        try:
            while True:
                high, low, kind, flags, number = struct.unpack('>BHBBI', self._exactly(9))
                self._exactly(high << 16 | low)
                if kind == 4 and not flags & 1:
                    self.socket.sendall(self._frame(4, 1, 0, b''))
                if number == stream and (kind in (0, 1) and flags & 1 or kind == 3):
                    return True
        except TimeoutError:
            raise RuntimeError('neither an answer nor an end of the connection; the server says:\n' +
                               open(self.server.log).read()[-5000:])
        except OSError:
            return False

    def close(self):
        self.socket.close()


class Load:
    """clav_bench until end(); it exits with 1 if one request failed."""

    def __init__(self, server, connections, op='mixed', user='root:root', streams=2):
        self.server = server
        self.connections = connections
        self.pids = set()
        self.process = subprocess.Popen(
            [os.path.join(claviger.BINDIR, 'clav_bench'), '-e', server.url, '-o', op, '-r', '50', '-j', '-q',
             '-c', str(connections), '-s', str(streams), '-t', '100000', '-k', '500', '-u', user],
            stdout=subprocess.PIPE, stderr=subprocess.STDOUT)
        # a test that ends by an exception must not leave it: prove would wait
        atexit.register(self.process.kill)
        if not wait_for(lambda: self.process.poll() is not None or self.is_connected(), 60):
            raise RuntimeError('the load does not begin')

    def is_connected(self):
        """It closes the connection of its login before it opens the others."""
        self.pids = set(claviger.backends_of(self.server, claviger.ports_of(self.server, self.process.pid)).values())
        return len(self.pids) == self.connections > 1

    def wait_served(self, points, point, action):
        """Each of its backends has passed the point: it is beyond its start."""
        armed = [points.arm(point, action, pid) for pid in self.pids]
        if not wait_for(lambda: not self.runs() or not any(map(os.path.exists, armed)), 60):
            raise RuntimeError('the load is not served')

    def runs(self):
        return self.process.poll() is None

    def end(self):
        """(exit status, requests, text)."""
        if self.runs():
            self.process.send_signal(signal.SIGINT)
        out = self.process.communicate(timeout=120 * claviger.SLOW)[0].decode()
        try:
            answer = json.loads(out.strip().split('\n')[-1])
        except ValueError:
            answer = {}
        return self.process.returncode, answer.get('requests', answer.get('count', 0)), out


class Writers:
    """Threads that write one key after the other and note what was
    acknowledged, with its revision.  make: JsonClient for the gateway."""

    def __init__(self, server, n, prefix=b'w/', token=None, value=b'x', pause=0, make=claviger.Client):
        self.make = make
        self.acknowledged = [[] for _ in range(n)]
        self.attempted = [0] * n
        self.errors = []
        self.stop = threading.Event()
        self.prefix = prefix
        self.pause = pause
        self.threads = [threading.Thread(target=self._run, args=(server, i, token, value)) for i in range(n)]
        for thread in self.threads:
            thread.start()

    def _run(self, server, i, token, value):
        client = self.make(server, token=token)
        try:
            while not self.stop.is_set():
                key = b'%s%d/%d' % (self.prefix, i, self.attempted[i])
                self.attempted[i] += 1
                self.acknowledged[i].append((key, put(client, key, value)))
                self.stop.wait(self.pause)
        except grpc.RpcError as error:
            self.errors.append((error.code(), error.details()))
        except (OSError, http.client.HTTPException) as error:
            self.errors.append(repr(error))
        finally:
            client.close()

    def end(self):
        self.stop.set()
        for thread in self.threads:
            thread.join()
        return [pair for one in self.acknowledged for pair in one]

    def count(self):
        return sum(len(one) for one in self.acknowledged)


def missing_of(client, acknowledged, prefix=b'w/', others=()):
    """Acknowledged puts that are not there with their revision, and revisions
    between those of what is there that belong neither to it nor to others."""
    end = prefix[:-1] + bytes([prefix[-1] + 1])
    found = {kv.key: kv.mod_revision for kv in get(client, prefix, range_end=end, keys_only=True).kvs}
    missing = [pair for pair in acknowledged if found.get(pair[0]) != pair[1]]
    known = set(found.values()) | set(others)
    gaps = sorted(set(range(min(known), max(known))) - known) if known else []
    return missing, gaps, found


def self_signed(directory):
    """(certificate, key) for 127.0.0.1."""
    cert, key = os.path.join(directory, 'own.crt'), os.path.join(directory, 'own.key')
    subprocess.run(['openssl', 'req', '-x509', '-newkey', 'ec', '-pkeyopt', 'ec_paramgen_curve:P-256', '-nodes',
                    '-keyout', key, '-out', cert, '-days', '2', '-subj', '/CN=localhost',
                    '-addext', 'subjectAltName=IP:127.0.0.1'],
                   check=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    return cert, key
