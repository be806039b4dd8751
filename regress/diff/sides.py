"""The two servers that get the same history, and how they are asked.

A side is one server with an empty data directory, what the history has got
from it that is the server's own choice (tokens, ids of leases), and its open
watch streams.  Everything else in a history is the same for both.
"""
import os
import queue
import shutil
import subprocess
import sys
import threading
import time

import grpc

HERE = os.path.dirname(os.path.abspath(__file__))
if os.access('/dev/shm', os.W_OK):
    os.environ.setdefault('TMPDIR', '/dev/shm')     # each history starts both servers anew
sys.path.insert(0, os.path.join(HERE, '..', 'lib'))
import claviger
import etcd

P = claviger.load_protos()
E = P['etcdserverpb']
A = P['authpb']

BAD_TOKEN = 'notAtokenNotAtok.1'
ANONYMOUS, WRONG_TOKEN = '', '!'
# a lease whose id the server has chosen: the n-th such of the history
CHOSEN = 0x4000000000000000
DEADLINE = 60


def _method(service, name, request=None, response=None):
    return ('/etcdserverpb.%s/%s' % (service, name),
            getattr(E, request or name + 'Request'), getattr(E, response or name + 'Response'))


METHODS = {
    'Range': _method('KV', 'Range'),
    'Put': _method('KV', 'Put'),
    'DeleteRange': _method('KV', 'DeleteRange'),
    'Txn': _method('KV', 'Txn'),
    'Compact': _method('KV', 'Compact', 'CompactionRequest', 'CompactionResponse'),
    'LeaseGrant': _method('Lease', 'LeaseGrant'),
    'LeaseRevoke': _method('Lease', 'LeaseRevoke'),
    'LeaseTimeToLive': _method('Lease', 'LeaseTimeToLive'),
    'LeaseLeases': _method('Lease', 'LeaseLeases'),
    'LeaseKeepAlive': _method('Lease', 'LeaseKeepAlive'),
    'MemberList': _method('Cluster', 'MemberList'),
    'Watch': _method('Watch', 'Watch'),
    'AuthEnable': _method('Auth', 'AuthEnable'),
    'AuthDisable': _method('Auth', 'AuthDisable'),
    'Authenticate': _method('Auth', 'Authenticate'),
}
for _name in ('UserAdd', 'UserGet', 'UserList', 'UserDelete', 'UserChangePassword', 'UserGrantRole',
              'UserRevokeRole', 'RoleAdd', 'RoleGet', 'RoleList', 'RoleDelete', 'RoleGrantPermission',
              'RoleRevokePermission'):
    METHODS[_name] = _method('Auth', _name, 'Auth%sRequest' % _name, 'Auth%sResponse' % _name)


def translate_leases(message, table):
    """Every id of a lease in the message, as table says; others stay."""
    of_lease = message.DESCRIPTOR.name.startswith('Lease')
    for field, value in message.ListFields():
        if field.message_type is not None:
            for each in value if field.label == field.LABEL_REPEATED else (value,):
                translate_leases(each, table)
        elif field.name == 'lease' or (of_lease and field.name == 'ID'):
            if value in table:
                setattr(message, field.name, table[value])


class Answer:
    """What came back: code, text, and the message if it is OK."""

    def __init__(self, code, text, message):
        self.code, self.text, self.message = code, text, message

    @property
    def ok(self):
        return self.code == 'OK'

    def __str__(self):
        if not self.ok:
            return '%s "%s"' % (self.code, self.text)
        return 'OK {%s}' % ' '.join(str(self.message).split())


class WatchStream:
    """One stream of watches: a thread collects what comes."""

    def __init__(self, side, identity):
        self.side = side
        # the token it was opened with, which a later login does not change
        self.metadata = side.metadata(identity)
        self.lock = threading.Lock()
        self.responses = []
        self.end = None
        self.requests = queue.Queue()
        path, request, response = METHODS['Watch']
        stub = side.channel.stream_stream(path, request_serializer=lambda m: m.SerializeToString(),
                                          response_deserializer=response.FromString)
        self.call = stub(iter(self.requests.get, None), metadata=self.metadata)
        self.thread = threading.Thread(target=self._collect, daemon=True)
        self.thread.start()

    def _collect(self):
        try:
            for response in self.call:
                response = self.side.common(response)
                with self.lock:
                    self.responses.append(response)
            end = ('OK', '')
        except grpc.RpcError as error:
            end = (error.code().name, error.details())
        with self.lock:
            self.end = end

    def send(self, message):
        self.requests.put(message)

    def snapshot(self):
        with self.lock:
            return list(self.responses), self.end

    def wait(self, wanted, seconds=30):
        """Wait until wanted(responses) is true; says whether it came."""
        end = time.time() + seconds
        while time.time() < end:
            responses, ended = self.snapshot()
            if wanted(responses):
                return True
            if ended:
                return False
            time.sleep(0.002)
        return False

    def close(self):
        self.requests.put(None)
        self.call.cancel()
        self.thread.join(5)


class Side:
    def __init__(self, name):
        self.name = name
        self.tokens = {}
        self.leases = []
        self.streams = {}
        self.stubs = {}
        self.channel = None

    def connect(self, endpoint):
        self.channel = grpc.insecure_channel(endpoint, [
            ('grpc.max_receive_message_length', -1), ('grpc.max_send_message_length', -1),
            ('grpc.use_local_subchannel_pool', 1), ('grpc.enable_retries', 0)])
        end = time.time() + 60
        while True:
            try:
                # one that comes before there is a leader may get no answer
                self.ask('Range', ANONYMOUS, E.RangeRequest(key=b'a'), 1).result()
                return
            except grpc.RpcError:
                if time.time() > end:
                    raise RuntimeError('%s does not answer' % self.name)
                time.sleep(0.01)

    def metadata(self, identity):
        if identity == WRONG_TOKEN:
            return [('token', BAD_TOKEN)]
        token = self.tokens.get(identity)
        return [('token', token)] if token else []

    def own(self, message):
        """The message with this server's ids of leases."""
        mine = type(message)()
        mine.CopyFrom(message)
        translate_leases(mine, {CHOSEN + i: id for i, id in enumerate(self.leases)})
        return mine

    def common(self, message):
        """The answer with ids that both sides have."""
        translate_leases(message, {id: CHOSEN + i for i, id in enumerate(self.leases)})
        return message

    def ask(self, method, identity, message, timeout=DEADLINE, metadata=None):
        if metadata is None:
            metadata = self.metadata(identity)
        stub = self.stubs.get(method)
        if stub is None:
            path, _, response = METHODS[method]
            make = self.channel.stream_stream if method == 'LeaseKeepAlive' else self.channel.unary_unary
            stub = self.stubs[method] = make(path, request_serializer=lambda m: m.SerializeToString(),
                                             response_deserializer=response.FromString)
        if method == 'LeaseKeepAlive':
            return stub(iter([self.own(message)]), timeout=timeout, metadata=metadata)
        return stub.future(self.own(message), timeout=timeout, metadata=metadata)

    def answer(self, method, message, call):
        """Wait for the answer, and keep what is this server's own choice."""
        try:
            got = next(call) if method == 'LeaseKeepAlive' else call.result()
        except StopIteration:
            return Answer('OK', 'stream ended without an answer', None)
        except grpc.RpcError as error:
            return Answer(error.code().name, error.details(), None)
        if method == 'Authenticate':
            self.tokens[message.name] = got.token
        elif method == 'LeaseGrant' and message.ID == 0:
            self.leases.append(got.ID)
        return Answer('OK', '', self.common(got))

    def stop(self):
        for stream in self.streams.values():
            stream.close()
        self.streams.clear()
        if self.channel is not None:
            self.channel.close()
            self.channel = None
        self.stop_server()


class Etcd(Side):
    """Debian's etcd-server."""

    def __init__(self, top):
        super().__init__('etcd')
        self.server = etcd.EtcdServer(directory=top).launch()
        self.endpoint = self.server.endpoint

    def stop_server(self):
        self.server.kill9()


class Claviger(Side):
    def __init__(self, top):
        super().__init__('claviger')
        self.server = claviger.Server(['--argon2-memory', '8', '--argon2-iterations', '1'])
        self.endpoint = self.server.endpoint

    def start(self):
        self.server.start()
        return self

    def stop_server(self):
        self.server.kill9()
        shutil.rmtree(self.server.dir, ignore_errors=True)


class Pair:
    """Both sides, started from empty directories."""

    def __init__(self, top):
        self.etcd = Etcd(top)
        self.claviger = Claviger(top)
        try:
            self.claviger.start()
            self.etcd.connect(self.etcd.endpoint)
            self.claviger.connect(self.claviger.endpoint)
        except BaseException:
            self.stop()
            raise

    @property
    def sides(self):
        return (self.etcd, self.claviger)

    def stop(self):
        for side in self.sides:
            side.stop()


def versions():
    own = subprocess.run([os.path.join(claviger.BINDIR, 'claviger'), '--version'],
                         capture_output=True, text=True).stdout.split('\n')[0]
    return etcd.version(), own
