#!/usr/bin/python3
"""clav_restore and clav_dump: what was saved comes back, what was altered does
not, and nothing half restored is ever served."""
import json
import os
import random
import signal
import subprocess
import sys

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), '..', 'lib'))
import claviger
import grpc
from claviger import error_of, wait_until

P = claviger.load_protos()
E = P['etcdserverpb']
TAP = claviger.Tap()
KV, MA, AU, LE = ('etcdserverpb.%s/' % s for s in ('KV', 'Maintenance', 'Auth', 'Lease'))
RESTORE, DUMP = (os.path.join(claviger.BINDIR, name) for name in ('clav_restore', 'clav_dump'))
COMPACTED = (grpc.StatusCode.OUT_OF_RANGE, 'etcdserver: mvcc: required revision has been compacted')


def run(*args, env=None):
    done = subprocess.run(args, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, universal_newlines=True,
                          env=env, timeout=60 * claviger.SLOW)
    return done.returncode, done.stdout


class Side:
    """A server and what there is to compare of it."""

    def __init__(self, server):
        self.server = server
        self.client = claviger.Client(server)

    def log_in(self):
        answer = self.client.call(AU + 'Authenticate', E.AuthenticateRequest(name='root', password='pw'),
                                  E.AuthenticateResponse)
        self.client.token = answer.token

    def call(self, method, request, response):
        return self.client.call(method, request, response)

    def state(self):
        keys = self.call(KV + 'Range', E.RangeRequest(key=b'\0', range_end=b'\0'), E.RangeResponse)
        old = self.call(KV + 'Range', E.RangeRequest(key=b'\0', range_end=b'\0', revision=keys.header.revision - 5),
                        E.RangeResponse)
        users = self.call(AU + 'UserList', E.AuthUserListRequest(), E.AuthUserListResponse).users
        roles = {u: list(self.call(AU + 'UserGet', E.AuthUserGetRequest(name=u), E.AuthUserGetResponse).roles)
                 for u in users}
        role = self.call(AU + 'RoleGet', E.AuthRoleGetRequest(role='r'), E.AuthRoleGetResponse).perm
        status = self.call(AU + 'AuthStatus', E.AuthStatusRequest(), E.AuthStatusResponse)
        leases = self.call(LE + 'LeaseLeases', E.LeaseLeasesRequest(), E.LeaseLeasesResponse).leases
        attached = [list(self.call(LE + 'LeaseTimeToLive', E.LeaseTimeToLiveRequest(ID=lease.ID, keys=True),
                                   E.LeaseTimeToLiveResponse).keys) for lease in leases]
        return (keys.header.revision, [k.SerializeToString() for k in keys.kvs],
                [k.SerializeToString() for k in old.kvs], sorted(roles.items()), str(role),
                (status.enabled, status.authRevision), [lease.ID for lease in leases], attached)

    def hashes(self):
        return (self.call(MA + 'HashKV', E.HashKVRequest(), E.HashKVResponse).hash,
                self.call(MA + 'Hash', E.HashRequest(), E.HashResponse).hash)


def make_source():
    # root logs in once
    side = Side(claviger.Server(args=['--auth-token-ttl', '36000']).start())
    put = lambda key, value, lease=0: side.call(KV + 'Put', E.PutRequest(key=key, value=value, lease=lease),
                                                E.PutResponse)
    for i in range(200):
        put(b'key%d' % (i % 50), b'value %d' % i)
    side.call(LE + 'LeaseGrant', E.LeaseGrantRequest(ID=4711, TTL=3000), E.LeaseGrantResponse)
    put(b'leased', b'x', 4711)
    put(b'\xff\0binary', b'\xfe\n"\\')
    side.call(KV + 'Compact', E.CompactionRequest(revision=100), E.CompactionResponse)
    for name in ('root', 'bob'):
        side.call(AU + 'UserAdd', E.AuthUserAddRequest(name=name, password='pw'), E.AuthUserAddResponse)
    for name in ('root', 'r'):
        side.call(AU + 'RoleAdd', E.AuthRoleAddRequest(name=name), E.AuthRoleAddResponse)
    side.call(AU + 'RoleGrantPermission', E.AuthRoleGrantPermissionRequest(
        name='r', perm=P['authpb'].Permission(permType=2, key=b'key', range_end=b'kez')),
        E.AuthRoleGrantPermissionResponse)
    for user, role in (('root', 'root'), ('bob', 'r')):
        side.call(AU + 'UserGrantRole', E.AuthUserGrantRoleRequest(user=user, role=role), E.AuthUserGrantRoleResponse)
    side.call(AU + 'AuthEnable', E.AuthEnableRequest(), E.AuthEnableResponse)
    side.log_in()
    for i in range(5):
        put(b'key%d' % i, b'late')
    side.call(KV + 'DeleteRange', E.DeleteRangeRequest(key=b'key7'), E.DeleteRangeResponse)
    return side


def save(side, path):
    code, text = run('etcdctl', '--endpoints', side.server.endpoint, '--user', 'root:pw', 'snapshot', 'save', path,
                     env=claviger.etcdctl_environment())
    assert code == 0, text


def restored(path, *args):
    """A server over what clav_restore makes of the file."""
    server = claviger.Server()
    code, text = run(RESTORE, path, '--data-dir', server.data, *args)
    TAP.ok(code == 0 and text.startswith('restored revision'), 'clav_restore %s' % ' '.join(args), text)
    side = Side(server.start())
    side.log_in()
    return side


def test_comes_back(source, path):
    want, hashes = source.state(), source.hashes()
    side = restored(path)
    TAP.equal(side.state(), want, 'keys, history, leases, users, roles and rights are what they were')
    TAP.equal(side.hashes(), hashes, 'and so are the hashes')
    bob = claviger.Client(side.server)
    bob.token = bob.call(AU + 'Authenticate', E.AuthenticateRequest(name='bob', password='pw'),
                         E.AuthenticateResponse).token
    TAP.equal(error_of(lambda: bob.call(KV + 'Put', E.PutRequest(key=b'other'), E.PutResponse)),
              (grpc.StatusCode.PERMISSION_DENIED, 'etcdserver: permission denied'), 'who may not may not')
    revision = bob.call(KV + 'Put', E.PutRequest(key=b'key1'), E.PutResponse).header.revision
    TAP.equal(revision, want[0] + 1, 'and it goes on with the next revision')
    side.server.kill9()
    side.server.start()
    again = claviger.Client(side.server)
    again.token = again.call(AU + 'Authenticate', E.AuthenticateRequest(name='bob', password='pw'),
                             E.AuthenticateResponse).token
    TAP.equal(again.call(KV + 'Range', E.RangeRequest(key=b'key1'), E.RangeResponse).kvs[0].mod_revision, revision,
              'also after kill -9')
    TAP.equal(side.server.stop(), 0, 'stops in order')


def test_bump(source, path):
    revision = source.state()[0]
    side = restored(path, '--bump-revision', '1000000', '--mark-compacted', '--name', 'other',
                    '--initial-cluster-token', 'another')
    now = side.call(KV + 'Range', E.RangeRequest(key=b'leased'), E.RangeResponse)
    TAP.equal(now.header.revision, revision + 1000000, 'revisions go on far beyond')
    TAP.equal(now.kvs[0].value, b'x', 'with the same keys')
    TAP.equal(error_of(lambda: side.call(KV + 'Range', E.RangeRequest(key=b'leased', revision=revision),
                                         E.RangeResponse)), COMPACTED, 'and nothing of before can be read')
    TAP.ok(now.header.cluster_id != source.call(MA + 'Status', E.StatusRequest(), E.StatusResponse).header.cluster_id,
           'another token makes another cluster')
    side.server.stop()


def test_altered(path, directory):
    data = open(path, 'rb').read()
    numbers = random.Random(1)
    target = os.path.join(directory, 'target')
    wrong = os.path.join(directory, 'wrong')
    accepted, unclear, left = [], [], []

    def attempt(name, content):
        with open(wrong, 'wb') as file:
            file.write(content)
        code, text = run(RESTORE, wrong, '--data-dir', target)
        if code == 0:
            accepted.append(name)
        if 'snapshot "' not in text:
            unclear.append((name, text))
        if os.path.exists(target):
            left.append(name)

    for cut in [0, 1, 8, 12, 20, len(data) - 1, len(data) - 32, len(data) - 33, len(data) - 512] + \
            [numbers.randrange(len(data)) for _ in range(25)]:
        attempt('cut at %d' % cut, data[:cut])
    for _ in range(40):
        at, bit = numbers.randrange(len(data)), 1 << numbers.randrange(8)
        attempt('bit %d at %d' % (bit, at), data[:at] + bytes([data[at] ^ bit]) + data[at + 1:])
    attempt('more', data + data[:512])
    TAP.equal(accepted, [], 'no file that was cut or altered is restored')
    TAP.equal(unclear, [], 'each refusal says what is wrong')
    TAP.equal(left, [], 'and leaves nothing behind')

    other_hash = data[:-1] + bytes([data[-1] ^ 1])
    with open(wrong, 'wb') as file:
        file.write(other_hash)
    code, text = run(RESTORE, wrong, '--data-dir', target, '--skip-hash-check')
    TAP.equal(code, 0, 'the hash alone can be passed over, by who asks for it')
    code, text = run(RESTORE, path, '--data-dir', target)
    TAP.ok(code == 1 and 'is not empty' in text, 'nothing is restored over what is there', text)


def test_usage(path, directory):
    for args, want in ((('--bump-revision', '5'), 'go together'), (('--mark-compacted',), 'go together'),
                       (('--bump-revision', 'x'), 'not a number'), (('--bump-revision', '-5'), 'not a number'),
                       (('more',), 'one snapshot file'), (('--initial-advertise-peer-urls', 'x'), 'URL')):
        code, text = run(RESTORE, path, '--data-dir', os.path.join(directory, 'none'), *args)
        TAP.ok(code == 2 and want in text, 'clav_restore %s: %s' % (' '.join(args), want), text)
    code, text = run(RESTORE, path)
    TAP.ok(code == 2 and '--data-dir' in text, 'clav_restore without a directory', text)
    code, text = run(RESTORE, path, '--data-dir', os.path.join(directory, 'none'), '--initial-cluster', 'x=http://a:1')
    TAP.ok(code == 1 and 'initial-cluster names' in text, 'several members', text)
    code, text = run(RESTORE, '/no/such/file', '--data-dir', os.path.join(directory, 'none'))
    TAP.ok(code == 1 and 'could not open' in text, 'no such file', text)
    TAP.ok(not os.path.exists(os.path.join(directory, 'none')), 'none of them leaves a directory')


def test_cut_short(path, directory):
    """Everything is killed in the middle: no server starts in what is there."""
    for point in ('init-announced', 'init-tables-made', 'init-before-marker'):
        server = claviger.Server()
        trigger = os.path.join(directory, point)
        open(trigger, 'w').close()
        process = subprocess.Popen([RESTORE, path, '--data-dir', server.data], start_new_session=True,
                                   env=dict(os.environ, CLAVIGER_INJECT='%s?%s=sleep:600000' % (point, trigger)),
                                   stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        TAP.ok(wait_until(lambda: not os.path.exists(trigger), 30), 'clav_restore comes to ' + point)
        os.killpg(process.pid, signal.SIGKILL)
        process.wait()
        # its child has the lock until it is gone, too
        wait_until(lambda: not claviger._group_lives(process.pid, server.data), 30)
        code, text = run(os.path.join(claviger.BINDIR, 'claviger'), '--data-dir', server.data,
                         '--listen-client-urls', server.url, '--advertise-client-urls', server.url)
        TAP.ok(code != 0 and 'left half restored' in text, 'killed at %s: no start' % point, text)


def test_dump(source, path):
    code, text = run(DUMP, path)
    lines = [json.loads(line) for line in text.splitlines()]
    TAP.equal(code, 0, 'clav_dump')
    TAP.equal(lines[0]['snapshot']['revision'], source.state()[0], 'tells the revision')
    TAP.ok('argon2' not in text and {l['name']: l['has_password'] for l in lines if l.get('table') == 'user'} ==
           {'root': True, 'bob': True}, 'users without the hashes of their passwords')
    keys = {l['key']: l for l in lines if l.get('table') == 'key' and 'key' in l and not l.get('deleted')}
    TAP.equal((keys['leased']['value'], keys['leased']['lease']), ('x', '%x' % 4711), 'keys')
    TAP.ok(any(l.get('key_base64') == '/wBiaW5hcnk=' for l in lines), 'bytes that are no text')
    TAP.ok('argon2' in run(DUMP, path, '--show-password-hashes')[1], 'hashes for who asks')
    code, text = run(DUMP, path, '--summary')
    TAP.equal(len(text.splitlines()), 1, 'a summary')
    data = open(path, 'rb').read()
    with open(path + '.wrong', 'wb') as file:
        file.write(data[:-1])
    TAP.equal(run(DUMP, path + '.wrong')[0], 1, 'nothing of a file that was cut')


def test_dump_of_a_server(source, directory):
    code, text = run(DUMP, '--endpoint', source.server.endpoint, '--user', 'root:pw')
    want = run(DUMP, os.path.join(directory, 'snapshot'))[1].splitlines()
    TAP.ok(code == 0 and text.splitlines()[1:] == want[1:], 'clav_dump --endpoint shows the same', text[:2000])
    code, text = run(DUMP, '--endpoint', source.server.endpoint, '--user', 'root:wrong')
    TAP.ok(code == 1 and 'authentication failed' in text, 'not with a wrong password', text)
    code, text = run(DUMP, '--endpoint', source.server.endpoint)
    TAP.ok(code == 1 and 'user name is empty' in text, 'nor without', text)
    code, text = run(DUMP, '--endpoint', '127.0.0.1:%d' % claviger.free_port())
    TAP.ok(code == 1 and 'could not connect' in text, 'nor from nobody', text)

    ca = claviger.make_certificates(directory)
    certificate = lambda name: os.path.join(directory, name)
    server = claviger.Server(tls=True, args=['--cert-file', certificate('server.crt'),
                                             '--key-file', certificate('server.key')]).start()
    code, text = run(DUMP, '--endpoint', server.url, '--cacert', ca)
    TAP.ok(code == 0 and '"revision":1,' in text, 'over TLS', text)
    code, text = run(DUMP, '--endpoint', server.url)
    TAP.ok(code == 1 and 'TLS handshake' in text, 'not with a certificate of an unknown CA', text)
    server.stop()


def main():
    source = make_source()
    directory = source.server.dir
    path = os.path.join(directory, 'snapshot')
    save(source, path)
    test_comes_back(source, path)
    test_bump(source, path)
    test_altered(path, directory)
    test_usage(path, directory)
    test_cut_short(path, directory)
    test_dump(source, path)
    test_dump_of_a_server(source, directory)
    TAP.equal(source.server.stop(), 0, 'stops in order')
    TAP.done()


main()
