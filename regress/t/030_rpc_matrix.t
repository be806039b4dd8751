#!/usr/bin/python3
"""Every RPC x {auth off, anonymous, bad token, user without role, user with
role, root, CN} against the table rpc_matrix.tsv.

With --json the same is asked through the JSON gateway (220_gateway_matrix.t),
but for what has no path there."""
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
    'mf': (grpc.StatusCode.NOT_FOUND, 'etcdserver: member not found'),
    'ns': (grpc.StatusCode.UNKNOWN, 'etcdserver: re-configuration failed due to not enough started members'),
    'bl': (grpc.StatusCode.FAILED_PRECONDITION, 'etcdserver: bad leader transferee'),
    # a stream that goes on until the caller's own deadline
    'on': (grpc.StatusCode.DEADLINE_EXCEEDED, 'Deadline Exceeded'),
    'nd': (grpc.StatusCode.FAILED_PRECONDITION, 'etcdserver: no inflight downgrade job'),
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
LO, EL = 'v3lockpb.Lock/', 'v3electionpb.Election/'
H = P['health']
L = P['v3lockpb']
C = P['v3electionpb']


def simple(service, method, request, response):
    return lambda client, env: client.call(service + method, request, response)


def rng(**fields):
    return simple(KV, 'Range', E.RangeRequest(**fields), E.RangeResponse)


def put(**fields):
    return simple(KV, 'Put', E.PutRequest(value=b'v', **fields), E.PutResponse)


class Refused(grpc.RpcError):
    """What a watch is refused with, from the text that says it."""

    def __init__(self, reason):
        name, self.text = reason[len('rpc error: code = '):].split(' desc = ')
        self.status = {'PermissionDenied': grpc.StatusCode.PERMISSION_DENIED,
                       'Unauthenticated': grpc.StatusCode.UNAUTHENTICATED,
                       'InvalidArgument': grpc.StatusCode.INVALID_ARGUMENT}[name]

    def code(self):
        return self.status

    def details(self):
        return self.text


def watch(**fields):
    def run(client, env):
        answer = client.first('etcdserverpb.Watch/Watch', E.WatchRequest(
            create_request=E.WatchCreateRequest(**fields)), E.WatchResponse, True)
        if answer.canceled:
            assert answer.created and answer.watch_id == -1, answer
            raise Refused(answer.cancel_reason)
    return run


def range_stream(**fields):
    return lambda client, env: client.stream(KV + 'RangeStream', E.RangeRequest(**fields), E.RangeStreamResponse)


def health_watch(client, env):
    stub = client.channel.unary_stream('/grpc.health.v1.Health/Watch',
                                       request_serializer=lambda m: m.SerializeToString(),
                                       response_deserializer=H.HealthCheckResponse.FromString)
    metadata = [('token', client.token)] if client.token is not None else []
    for service, want in (('', H.HealthCheckResponse.SERVING), ('x', H.HealthCheckResponse.SERVICE_UNKNOWN)):
        call = stub(H.HealthCheckRequest(service=service), timeout=60 * claviger.SLOW, metadata=metadata)
        answer = next(call)
        call.cancel()
        assert answer.status == want, answer


def delete(**fields):
    return simple(KV, 'DeleteRange', E.DeleteRangeRequest(**fields), E.DeleteRangeResponse)


def transaction(**fields):
    return simple(KV, 'Txn', txn(**fields), E.TxnResponse)


def compact(client, env):
    return client.call(KV + 'Compact', E.CompactionRequest(revision=env.bump_revision()), E.CompactionResponse)


def auth(method, request):
    name = method if method.startswith('Auth') else 'Auth' + method
    return simple(AU, method, request, getattr(E, name + 'Response'))


# leases by what hangs on them: the role may read and write a5, only write w1, only read q1
EMPTY, OWN, OTHERS, WRITE_ONLY, READ_ONLY = 10, 11, 12, 13, 14
LEASED = {OWN: b'a5', OTHERS: b'z5', WRITE_ONLY: b'w1', READ_ONLY: b'q1'}


def lease_case(ids, call):
    def run(client, env):
        env.leases(ids)
        return call(client, env)
    return run


def queue_case(name, call, leader=None):
    """Nobody stands in the queue; or one does."""
    def run(client, env):
        env.root.call(KV + 'DeleteRange', E.DeleteRangeRequest(key=name + b'/', range_end=name + b'0'),
                      E.DeleteRangeResponse)
        if leader is not None:
            env.root.call(KV + 'Put', E.PutRequest(key=name + b'/1', value=leader), E.PutResponse)
        return call()(client, env)
    return run


def proclaim(name):
    def run(client, env):
        revision = env.root.call(KV + 'Put', E.PutRequest(key=name + b'/1'), E.PutResponse).header.revision
        kvs = env.root.call(KV + 'Range', E.RangeRequest(key=name + b'/1'), E.RangeResponse).kvs
        assert kvs[0].mod_revision == revision
        return client.call(EL + 'Proclaim', C.ProclaimRequest(
            leader=C.LeaderKey(key=name + b'/1', rev=kvs[0].create_revision)), C.ProclaimResponse)
    return run


def observe(name):
    """The first answer; the stream goes on for ever."""
    def run(client, env):
        env.root.call(KV + 'Put', E.PutRequest(key=name + b'/1'), E.PutResponse)
        client.first(EL + 'Observe', C.LeaderRequest(name=name), C.LeaderResponse, False)
    return run


def keep_alive(lease):
    return lambda client, env: client.stream(LE + 'LeaseKeepAlive', E.LeaseKeepAliveRequest(ID=lease),
                                             E.LeaseKeepAliveResponse)


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
    'range-stream': range_stream(key=b'a1'),
    'range-stream-outside': range_stream(key=b'a', range_end=b'c'),
    'watch-nothing': lambda c, env: c.stream('etcdserverpb.Watch/Watch', E.WatchRequest(), E.WatchResponse, 0.3),
    'watch-inside': watch(key=b'a1'),
    'watch-span-inside': watch(key=b'a', range_end=b'b', prev_kv=True),
    'watch-outside': watch(key=b'c'),
    'watch-wider': watch(key=b'a', range_end=b'c'),
    'watch-read-only-key': watch(key=b'q1'),
    'watch-read-only-key-and-on': watch(key=b'q1', range_end=b'\0'),
    'watch-write-only-key': watch(key=b'w1'),
    'watch-whole': watch(key=b'\0', range_end=b'\0'),
    'watch-empty-key': watch(key=b''),
    'lease-grant': simple(LE, 'LeaseGrant', E.LeaseGrantRequest(TTL=10), E.LeaseGrantResponse),
    'lease-revoke-without-keys': lease_case((EMPTY,), simple(
        LE, 'LeaseRevoke', E.LeaseRevokeRequest(ID=EMPTY), E.LeaseRevokeResponse)),
    'lease-revoke-own': lease_case((OWN,), simple(
        LE, 'LeaseRevoke', E.LeaseRevokeRequest(ID=OWN), E.LeaseRevokeResponse)),
    'lease-revoke-others': lease_case((OTHERS,), simple(
        LE, 'LeaseRevoke', E.LeaseRevokeRequest(ID=OTHERS), E.LeaseRevokeResponse)),
    'lease-revoke-read-only-key': lease_case((READ_ONLY,), simple(
        LE, 'LeaseRevoke', E.LeaseRevokeRequest(ID=READ_ONLY), E.LeaseRevokeResponse)),
    'lease-keep-alive-unknown': keep_alive(1),
    'lease-keep-alive-without-keys': lease_case((EMPTY,), keep_alive(EMPTY)),
    'lease-keep-alive-own': lease_case((OWN,), keep_alive(OWN)),
    'lease-keep-alive-others': lease_case((OTHERS,), keep_alive(OTHERS)),
    'lease-keep-alive-read-only-key': lease_case((READ_ONLY,), keep_alive(READ_ONLY)),
    'lease-time-to-live': lease_case((OTHERS,), simple(
        LE, 'LeaseTimeToLive', E.LeaseTimeToLiveRequest(ID=OTHERS), E.LeaseTimeToLiveResponse)),
    'lease-time-to-live-keys-own': lease_case((OWN,), simple(
        LE, 'LeaseTimeToLive', E.LeaseTimeToLiveRequest(ID=OWN, keys=True), E.LeaseTimeToLiveResponse)),
    'lease-time-to-live-keys-others': lease_case((OTHERS,), simple(
        LE, 'LeaseTimeToLive', E.LeaseTimeToLiveRequest(ID=OTHERS, keys=True), E.LeaseTimeToLiveResponse)),
    'lease-time-to-live-keys-write-only-key': lease_case((WRITE_ONLY,), simple(
        LE, 'LeaseTimeToLive', E.LeaseTimeToLiveRequest(ID=WRITE_ONLY, keys=True), E.LeaseTimeToLiveResponse)),
    'lease-leases-own': lease_case((EMPTY, OWN, READ_ONLY), simple(
        LE, 'LeaseLeases', E.LeaseLeasesRequest(), E.LeaseLeasesResponse)),
    'lease-leases-others': lease_case((EMPTY, OWN, OTHERS), simple(
        LE, 'LeaseLeases', E.LeaseLeasesRequest(), E.LeaseLeasesResponse)),
    'put-with-own-lease': lease_case((OWN,), put(key=b'a1', lease=OWN)),
    'put-with-others-lease': lease_case((OTHERS,), put(key=b'a1', lease=OTHERS)),
    'txn-put-with-others-lease': lease_case((OTHERS,), transaction(success=[op_put(b'a1', lease=OTHERS)])),
    'member-add': simple(CL, 'MemberAdd', E.MemberAddRequest(peerURLs=['http://127.0.0.1:1']), E.MemberAddResponse),
    'member-remove': simple(CL, 'MemberRemove', E.MemberRemoveRequest(ID=1), E.MemberRemoveResponse),
    'member-update': simple(CL, 'MemberUpdate', E.MemberUpdateRequest(ID=1), E.MemberUpdateResponse),
    'member-promote': simple(CL, 'MemberPromote', E.MemberPromoteRequest(ID=1), E.MemberPromoteResponse),
    'alarm': simple(MA, 'Alarm', E.AlarmRequest(), E.AlarmResponse),
    'alarm-deactivate': simple(MA, 'Alarm', E.AlarmRequest(action=E.AlarmRequest.DEACTIVATE, alarm=E.NOSPACE),
                               E.AlarmResponse),
    'defragment': simple(MA, 'Defragment', E.DefragmentRequest(), E.DefragmentResponse),
    'hash': simple(MA, 'Hash', E.HashRequest(), E.HashResponse),
    'hash-kv': simple(MA, 'HashKV', E.HashKVRequest(), E.HashKVResponse),
    'snapshot': lambda c, env: c.stream(MA + 'Snapshot', E.SnapshotRequest(), E.SnapshotResponse),
    'move-leader': simple(MA, 'MoveLeader', E.MoveLeaderRequest(targetID=1), E.MoveLeaderResponse),
    'downgrade': simple(MA, 'Downgrade', E.DowngradeRequest(action=E.DowngradeRequest.CANCEL), E.DowngradeResponse),
    'lock': queue_case(b'a-lock', lambda: simple(LO, 'Lock', L.LockRequest(name=b'a-lock'), L.LockResponse)),
    'lock-others': queue_case(b'z-lock', lambda: simple(LO, 'Lock', L.LockRequest(name=b'z-lock'), L.LockResponse)),
    'lock-with-own-lease': lease_case((OWN,), queue_case(b'a-lock', lambda: simple(
        LO, 'Lock', L.LockRequest(name=b'a-lock', lease=OWN), L.LockResponse))),
    'lock-with-others-lease': lease_case((OTHERS,), queue_case(b'a-lock', lambda: simple(
        LO, 'Lock', L.LockRequest(name=b'a-lock', lease=OTHERS), L.LockResponse))),
    'unlock': simple(LO, 'Unlock', L.UnlockRequest(key=b'a-lock/1'), L.UnlockResponse),
    'unlock-others': simple(LO, 'Unlock', L.UnlockRequest(key=b'z-lock/1'), L.UnlockResponse),
    'campaign': queue_case(b'a-vote', lambda: simple(EL, 'Campaign', C.CampaignRequest(name=b'a-vote', value=b'v'),
                                                     C.CampaignResponse)),
    'campaign-others': queue_case(b'z-vote', lambda: simple(
        EL, 'Campaign', C.CampaignRequest(name=b'z-vote', value=b'v'), C.CampaignResponse)),
    'proclaim': proclaim(b'a-vote'),
    'proclaim-others': proclaim(b'z-vote'),
    'leader': queue_case(b'a-vote', lambda: simple(EL, 'Leader', C.LeaderRequest(name=b'a-vote'), C.LeaderResponse),
                         b'leader'),
    'leader-others': queue_case(b'z-vote', lambda: simple(
        EL, 'Leader', C.LeaderRequest(name=b'z-vote'), C.LeaderResponse), b'leader'),
    'resign': simple(EL, 'Resign', C.ResignRequest(leader=C.LeaderKey(key=b'a-vote/1', rev=1)), C.ResignResponse),
    'resign-others': simple(EL, 'Resign', C.ResignRequest(leader=C.LeaderKey(key=b'z-vote/1', rev=1)),
                            C.ResignResponse),
    'observe': observe(b'a-vote'),
    'observe-others': observe(b'z-vote'),
    'health-watch': health_watch,
}


# gRPC only, as in etcd; and a stream on which nothing comes back
NOT_IN_JSON = ('watch-nothing', 'health-check', 'health-list', 'health-watch', 'range-stream', 'range-stream-outside')


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

    def leases(self, ids):
        """These leases with their keys, and none of the others."""
        for lease in (EMPTY, *LEASED):
            try:
                self.root.call(LE + 'LeaseRevoke', E.LeaseRevokeRequest(ID=lease), E.LeaseRevokeResponse)
            except grpc.RpcError as error:
                assert error.code() == grpc.StatusCode.NOT_FOUND, error
        for lease in ids:
            self.root.call(LE + 'LeaseGrant', E.LeaseGrantRequest(ID=lease, TTL=100), E.LeaseGrantResponse)
            if lease in LEASED:
                self.root.call(KV + 'Put', E.PutRequest(key=LEASED[lease], lease=lease), E.PutResponse)

    def bump_revision(self):
        answer = self.root.call(KV + 'Put', E.PutRequest(key=b'bump', value=b'1'), E.PutResponse)
        return answer.header.revision


def outcome(call, client, env):
    try:
        call(client, env)
        return 'ok'
    except grpc.RpcError as error:
        got = (error.code(), error.details())
    # whose clock strikes first: the server's, or the client's
    if got == (grpc.StatusCode.DEADLINE_EXCEEDED, 'context deadline exceeded'):
        return 'on'
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
    client_class = claviger.Client
    if '--json' in sys.argv:
        import jsonclient
        client_class = jsonclient.JsonClient
        # no path, or nothing that comes back
        rows = [row for row in rows if row[0] not in NOT_IN_JSON]

    certs = os.path.join(claviger._tmp, 'certs')
    os.mkdir(certs)
    make_certificates(certs)
    path = lambda name: os.path.join(certs, name)
    server = claviger.Server(tls=True, args=[
        '--cert-file', path('server.crt'), '--key-file', path('server.key'),
        '--trusted-ca-file', path('ca.crt'), '--client-cert-auth'] + claviger.CHEAP_LOGINS).start()

    def client(cn='nobody-known', token=None, client_class=client_class):
        return client_class(server, path('ca.crt'), path(cn + '.crt'), path(cn + '.key'), token)

    def log_in(name, client_class=client_class):
        answer = client().call(AU + 'Authenticate', E.AuthenticateRequest(name=name, password=name),
                               E.AuthenticateResponse)
        return client(token=answer.token, client_class=client_class)

    root = client(client_class=claviger.Client)
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

    run('off', client())
    root.call(AU + 'AuthEnable', E.AuthEnableRequest(), E.AuthEnableResponse)
    env.root = log_in('root', claviger.Client)
    run('anon', client())
    run('bad', client(token='notAToken.17'))
    run('norole', log_in('norole'))
    run('role', log_in('role'))
    run('cn', client('role'))
    run('root', log_in('root'))     # ends with auth disable

    TAP.equal(server.stop(), 0, 'stops in order')
    TAP.done()


main()
