#!/usr/bin/python3
"""Every RPC x {auth off, anonymous, bad token, user without role, user with
role, root, CN} against the table rpc_matrix.tsv."""
import os
import subprocess
import sys

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), '..', 'lib'))
import claviger
import grpc

P = claviger.load_protos()
E = P['etcdserverpb']
TAP = claviger.Tap()

ANSWERS = {
    'ue': (grpc.StatusCode.INVALID_ARGUMENT, 'etcdserver: user name is empty'),
    'it': (grpc.StatusCode.UNAUTHENTICATED, 'etcdserver: invalid auth token'),
    'pd': (grpc.StatusCode.PERMISSION_DENIED, 'etcdserver: permission denied'),
    'ne': (grpc.StatusCode.FAILED_PRECONDITION, 'etcdserver: authentication is not enabled'),
}


def make_certificates(directory):
    """A CA, the server's certificate, and clients' by the name of their CN."""
    subprocess.run(['perl', '-I' + os.path.join(claviger.TOP, 'regress', 'lib'), '-e', '''
        use Claviger::Certs; use File::Copy;
        my $ca = Claviger::Certs->new; my $to = shift;
        $ca->issue($_) for qw(server role nobody-known);
        copy("$ca->{dir}/$_", "$to/$_") for
          qw(ca.crt server.crt server.key role.crt role.key nobody-known.crt nobody-known.key);
        ''', directory], check=True)


def txn(compare=(), success=(), failure=()):
    return E.TxnRequest(compare=compare, success=success, failure=failure)


def op_put(key, **more):
    return E.RequestOp(request_put=E.PutRequest(key=key, value=b'v', **more))


def op_range(key, end=b''):
    return E.RequestOp(request_range=E.RangeRequest(key=key, range_end=end))


def exists(key, end=b''):
    return E.Compare(result=E.Compare.GREATER, target=E.Compare.VERSION, key=key, version=0, range_end=end)


KV, CL, MA, AU = 'etcdserverpb.KV/', 'etcdserverpb.Cluster/', 'etcdserverpb.Maintenance/', 'etcdserverpb.Auth/'
LE = 'etcdserverpb.Lease/'
H = P['health']
L = P['v3lockpb']
C = P['v3electionpb']


def simple(service, method, request, response):
    return lambda client, env: client.call(service + method, request, response)


def rng(**fields):
    return simple(KV, 'Range', E.RangeRequest(**fields), E.RangeResponse)


def put(**fields):
    return simple(KV, 'Put', E.PutRequest(value=b'v', **fields), E.PutResponse)


def delete(**fields):
    return simple(KV, 'DeleteRange', E.DeleteRangeRequest(**fields), E.DeleteRangeResponse)


def transaction(**fields):
    return simple(KV, 'Txn', txn(**fields), E.TxnResponse)


def compact(client, env):
    return client.call(KV + 'Compact', E.CompactionRequest(revision=env.bump_revision()), E.CompactionResponse)


def auth(method, request):
    name = method if method.startswith('Auth') else 'Auth' + method
    return simple(AU, method, request, getattr(E, name + 'Response'))


NESTED_PUT = E.RequestOp(request_txn=txn(success=[op_put(b'z1')]))
NESTED_COMPARE = E.RequestOp(request_txn=txn(compare=[exists(b'z1')], success=[op_put(b'a1')]))
PERMISSION = P['authpb'].Permission(permType=P['authpb'].Permission.READ, key=b'x', range_end=b'y')

CASES = {
    'range-inside': rng(key=b'a1'),
    'range-inside-serializable': rng(key=b'a1', serializable=True),
    'range-outside': rng(key=b'z1'),
    'range-write-only-key': rng(key=b'w1'),
    'range-read-only-key': rng(key=b'q1'),
    'range-wider': rng(key=b'a', range_end=b'c'),
    'range-from-key': rng(key=b'a', range_end=b'\0'),
    'range-whole': rng(key=b'\0', range_end=b'\0'),
    'range-count-only-outside': rng(key=b'z1', count_only=True),
    'put-inside': put(key=b'a1'),
    'put-outside': put(key=b'z1'),
    'put-read-only-key': put(key=b'q1'),
    'put-write-only-key': put(key=b'w1'),
    'put-prev-kv-write-only-key': put(key=b'w1', prev_kv=True),
    'delete-inside': delete(key=b'a2'),
    'delete-wider': delete(key=b'a2', range_end=b'c'),
    'delete-write-only-key': delete(key=b'w1'),
    'delete-prev-kv-write-only-key': delete(key=b'w1', prev_kv=True),
    'txn-inside': transaction(compare=[exists(b'a1')], success=[op_put(b'a3')], failure=[op_range(b'a1')]),
    'txn-read-only-inside': transaction(success=[op_range(b'a', b'b')]),
    'txn-read-only-outside': transaction(success=[op_range(b'z1')]),
    'txn-compare-outside': transaction(compare=[exists(b'z1')], success=[op_put(b'a3')]),
    'txn-compare-range-wider': transaction(compare=[exists(b'a', b'c')], success=[op_put(b'a3')]),
    'txn-branch-not-taken-outside': transaction(compare=[exists(b'a1')], success=[op_put(b'a3')],
                                                failure=[op_put(b'z1')]),
    'txn-nested-put-outside': transaction(success=[NESTED_PUT]),
    'txn-nested-compare-outside': transaction(success=[NESTED_COMPARE]),
    'txn-put-prev-kv-write-only-key': transaction(success=[op_put(b'w1', prev_kv=True)]),
    'compact': compact,
    'member-list': simple(CL, 'MemberList', E.MemberListRequest(), E.MemberListResponse),
    'status': simple(MA, 'Status', E.StatusRequest(), E.StatusResponse),
    'health-check': simple('grpc.health.v1.Health/', 'Check', H.HealthCheckRequest(), H.HealthCheckResponse),
    'health-list': simple('grpc.health.v1.Health/', 'List', H.HealthListRequest(), H.HealthListResponse),
    'auth-status': auth('AuthStatus', E.AuthStatusRequest()),
    'authenticate': simple(AU, 'Authenticate', E.AuthenticateRequest(name='role', password='role'),
                           E.AuthenticateResponse),
    'user-add': auth('UserAdd', E.AuthUserAddRequest(name='new', password='new')),
    'user-get-role': auth('UserGet', E.AuthUserGetRequest(name='role')),
    'user-get-norole': auth('UserGet', E.AuthUserGetRequest(name='norole')),
    'user-list': auth('UserList', E.AuthUserListRequest()),
    'user-change-password': auth('UserChangePassword', E.AuthUserChangePasswordRequest(name='victim', password='x')),
    'user-grant-role': auth('UserGrantRole', E.AuthUserGrantRoleRequest(user='victim', role='spare')),
    'user-revoke-role': auth('UserRevokeRole', E.AuthUserRevokeRoleRequest(name='victim', role='kept')),
    'user-delete': auth('UserDelete', E.AuthUserDeleteRequest(name='victim')),
    'role-add': auth('RoleAdd', E.AuthRoleAddRequest(name='newrole')),
    'role-get': auth('RoleGet', E.AuthRoleGetRequest(role='r')),
    'role-list': auth('RoleList', E.AuthRoleListRequest()),
    'role-grant-permission': auth('RoleGrantPermission',
                                  E.AuthRoleGrantPermissionRequest(name='spare', perm=PERMISSION)),
    'role-revoke-permission': auth('RoleRevokePermission',
                                   E.AuthRoleRevokePermissionRequest(role='kept', key=b'k')),
    'role-delete': auth('RoleDelete', E.AuthRoleDeleteRequest(role='spare')),
    'auth-enable': auth('AuthEnable', E.AuthEnableRequest()),
    'auth-disable': auth('AuthDisable', E.AuthDisableRequest()),
    'range-stream': simple(KV, 'RangeStream', E.RangeRequest(key=b'a1'), E.RangeStreamResponse),
    'watch': lambda c, env: c.stream('etcdserverpb.Watch/Watch', E.WatchRequest(), E.WatchResponse),
    'lease-grant': simple(LE, 'LeaseGrant', E.LeaseGrantRequest(TTL=10), E.LeaseGrantResponse),
    'lease-revoke': simple(LE, 'LeaseRevoke', E.LeaseRevokeRequest(ID=1), E.LeaseRevokeResponse),
    'lease-keep-alive': lambda c, env: c.stream(LE + 'LeaseKeepAlive', E.LeaseKeepAliveRequest(ID=1),
                                                E.LeaseKeepAliveResponse),
    'lease-time-to-live': simple(LE, 'LeaseTimeToLive', E.LeaseTimeToLiveRequest(ID=1), E.LeaseTimeToLiveResponse),
    'lease-leases': simple(LE, 'LeaseLeases', E.LeaseLeasesRequest(), E.LeaseLeasesResponse),
    'member-add': simple(CL, 'MemberAdd', E.MemberAddRequest(peerURLs=['http://127.0.0.1:1']), E.MemberAddResponse),
    'member-remove': simple(CL, 'MemberRemove', E.MemberRemoveRequest(ID=1), E.MemberRemoveResponse),
    'member-update': simple(CL, 'MemberUpdate', E.MemberUpdateRequest(ID=1), E.MemberUpdateResponse),
    'member-promote': simple(CL, 'MemberPromote', E.MemberPromoteRequest(ID=1), E.MemberPromoteResponse),
    'alarm': simple(MA, 'Alarm', E.AlarmRequest(), E.AlarmResponse),
    'defragment': simple(MA, 'Defragment', E.DefragmentRequest(), E.DefragmentResponse),
    'hash': simple(MA, 'Hash', E.HashRequest(), E.HashResponse),
    'hash-kv': simple(MA, 'HashKV', E.HashKVRequest(), E.HashKVResponse),
    'snapshot': simple(MA, 'Snapshot', E.SnapshotRequest(), E.SnapshotResponse),
    'move-leader': simple(MA, 'MoveLeader', E.MoveLeaderRequest(targetID=1), E.MoveLeaderResponse),
    'downgrade': simple(MA, 'Downgrade', E.DowngradeRequest(), E.DowngradeResponse),
    'lock': simple('v3lockpb.Lock/', 'Lock', L.LockRequest(name=b'a'), L.LockResponse),
    'unlock': simple('v3lockpb.Lock/', 'Unlock', L.UnlockRequest(key=b'a'), L.UnlockResponse),
    'campaign': simple('v3electionpb.Election/', 'Campaign', C.CampaignRequest(name=b'a'), C.CampaignResponse),
    'proclaim': simple('v3electionpb.Election/', 'Proclaim', C.ProclaimRequest(), C.ProclaimResponse),
    'leader': simple('v3electionpb.Election/', 'Leader', C.LeaderRequest(name=b'a'), C.LeaderResponse),
    'resign': simple('v3electionpb.Election/', 'Resign', C.ResignRequest(), C.ResignResponse),
    'observe': simple('v3electionpb.Election/', 'Observe', C.LeaderRequest(name=b'a'), C.LeaderResponse),
    'health-watch': simple('grpc.health.v1.Health/', 'Watch', H.HealthCheckRequest(), H.HealthCheckResponse),
}


class Environment:
    """What the cases find: made anew by root before each call."""

    def __init__(self, root):
        self.root = root

    def quietly(self, method, request, response):
        try:
            self.root.call(method, request, response)
        except grpc.RpcError as error:
            assert error.code() == grpc.StatusCode.FAILED_PRECONDITION, error

    def prepare(self):
        q = self.quietly
        for key in (b'a1', b'a2', b'q1', b'w1', b'z1'):
            self.root.call(KV + 'Put', E.PutRequest(key=key, value=b'1'), E.PutResponse)
        for name in ('new', 'victim'):
            q(AU + 'UserDelete', E.AuthUserDeleteRequest(name=name), E.AuthUserDeleteResponse)
        for name in ('newrole', 'spare', 'kept'):
            q(AU + 'RoleDelete', E.AuthRoleDeleteRequest(role=name), E.AuthRoleDeleteResponse)
        q(AU + 'UserAdd', E.AuthUserAddRequest(name='victim', options=P['authpb'].UserAddOptions(no_password=True)),
          E.AuthUserAddResponse)
        q(AU + 'RoleAdd', E.AuthRoleAddRequest(name='spare'), E.AuthRoleAddResponse)
        q(AU + 'RoleAdd', E.AuthRoleAddRequest(name='kept'), E.AuthRoleAddResponse)
        q(AU + 'RoleGrantPermission', E.AuthRoleGrantPermissionRequest(
            name='kept', perm=P['authpb'].Permission(key=b'k')), E.AuthRoleGrantPermissionResponse)
        q(AU + 'UserGrantRole', E.AuthUserGrantRoleRequest(user='victim', role='kept'), E.AuthUserGrantRoleResponse)

    def bump_revision(self):
        answer = self.root.call(KV + 'Put', E.PutRequest(key=b'bump', value=b'1'), E.PutResponse)
        return answer.header.revision


def outcome(call, client, env):
    try:
        call(client, env)
        return 'ok'
    except grpc.RpcError as error:
        got = (error.code(), error.details())
    for name, answer in ANSWERS.items():
        if got == answer:
            return name
    if got[0] == grpc.StatusCode.UNIMPLEMENTED and got[1].startswith('unknown method '):
        return 'un'
    return '%s: %s' % got


def set_up(root):
    for name in ('root', 'norole', 'role'):
        root.call(AU + 'UserAdd', E.AuthUserAddRequest(name=name, password=name), E.AuthUserAddResponse)
    for name in ('root', 'r'):
        root.call(AU + 'RoleAdd', E.AuthRoleAddRequest(name=name), E.AuthRoleAddResponse)
    T = P['authpb'].Permission
    for perm in (T(permType=T.READWRITE, key=b'a', range_end=b'b'), T(permType=T.WRITE, key=b'w1'),
                 T(permType=T.READ, key=b'q1')):
        root.call(AU + 'RoleGrantPermission', E.AuthRoleGrantPermissionRequest(name='r', perm=perm),
                  E.AuthRoleGrantPermissionResponse)
    for user, role in (('root', 'root'), ('role', 'r')):
        root.call(AU + 'UserGrantRole', E.AuthUserGrantRoleRequest(user=user, role=role),
                  E.AuthUserGrantRoleResponse)


def main():
    table = [line.rstrip('\n').split('\t') for line in
             open(os.path.join(os.path.dirname(os.path.abspath(__file__)), 'rpc_matrix.tsv'))
             if not line.startswith('#')]
    columns, rows = table[0][1:], table[1:]
    TAP.equal(sorted(row[0] for row in rows), sorted(CASES), 'the table names every case, and only those')

    certs = os.path.join(claviger._tmp, 'certs')
    os.mkdir(certs)
    make_certificates(certs)
    path = lambda name: os.path.join(certs, name)
    server = claviger.Server(tls=True, args=[
        '--cert-file', path('server.crt'), '--key-file', path('server.key'),
        '--trusted-ca-file', path('ca.crt'), '--client-cert-auth']).start()

    def client(cn='nobody-known', token=None):
        return claviger.Client(server, path('ca.crt'), path(cn + '.crt'), path(cn + '.key'), token)

    def log_in(name):
        answer = client().call(AU + 'Authenticate', E.AuthenticateRequest(name=name, password=name),
                               E.AuthenticateResponse)
        return client(token=answer.token)

    root = client()
    set_up(root)
    env = Environment(root)

    def run(column, who):
        for row in rows:
            want = row[1 + columns.index(column)]
            if want == '-':
                continue
            if want in ('ok', 'pd'):
                env.prepare()
            TAP.equal(outcome(CASES[row[0]], who, env), want, '%s, %s' % (row[0], column))

    run('off', root)
    root.call(AU + 'AuthEnable', E.AuthEnableRequest(), E.AuthEnableResponse)
    env.root = log_in('root')
    run('anon', client())
    run('bad', client(token='notAToken.17'))
    run('norole', log_in('norole'))
    run('role', log_in('role'))
    run('cn', client('role'))
    run('root', log_in('root'))     # ends with auth disable

    TAP.equal(server.stop(), 0, 'stops in order')
    TAP.done()


main()
