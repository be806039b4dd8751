"""Which differences are known: one function for each name in `differences`.

A function is given the step, both answers and what the runner knows, and says
whether this known difference explains them.  It asks for as much as it can:
not only that the answers differ, but that they differ in this way.
"""
import os

from sides import A, E

DENIED = ('PERMISSION_DENIED', 'etcdserver: permission denied')
EMPTY_USER = ('INVALID_ARGUMENT', 'etcdserver: user name is empty')
BAD_TOKEN = ('UNAUTHENTICATED', 'etcdserver: invalid auth token')
REFUSALS = (DENIED, EMPTY_USER, BAD_TOKEN)


READ_ONLY = {'Range', 'LeaseTimeToLive', 'LeaseLeases', 'LeaseKeepAlive', 'MemberList', 'UserGet', 'UserList', 'RoleGet',
             'RoleList'}


class Known:
    def __init__(self, name, reason, ends):
        self.name, self.reason, self.ends = name, reason, ends
        self.seen = 0

    def ends_history(self, step):
        """Do the servers hold different data after this step?"""
        return self.ends and step.method not in READ_ONLY


def load():
    """{name: Known}, or an error if file and functions do not agree."""
    known = {}
    with open(os.path.join(os.path.dirname(os.path.abspath(__file__)), 'differences')) as file:
        for line in file:
            if line.strip() and not line.startswith('#'):
                fields = [f for f in line.rstrip('\n').split('\t') if f]
                if fields[2:] != ['not sent']:
                    known[fields[0]] = Known(fields[0], fields[1], fields[2:] == ['ends'])
    missing = (set(ANSWER_RULES) | SMOOTHED) ^ set(known)
    if missing:
        raise SystemExit('differences and rules.py do not agree about: ' + ', '.join(sorted(missing)))
    return known


def refused(answer):
    return (answer.code, answer.text) in REFUSALS


# ---- Range ----

def limit_unsorted(step, etcd, claviger, run):
    if not (etcd.ok and claviger.ok) or step.method not in ('Range', 'Txn'):
        return False
    if step.method == 'Range':
        return _cut_before_sort(step.message, etcd.message, claviger.message)
    return _txn_cut_before_sort(step.message, etcd.message, claviger.message)


def _cut_before_sort(request, a, b):
    if not (request.limit > 0 and request.sort_order == E.RangeRequest.NONE and request.sort_target != 0):
        return False
    x, y = E.RangeResponse(), E.RangeResponse()
    x.CopyFrom(a)
    y.CopyFrom(b)
    del x.kvs[:]
    del y.kvs[:]
    return x == y


def _txn_cut_before_sort(request, a, b):
    if a.succeeded != b.succeeded or len(a.responses) != len(b.responses):
        return False
    explained = False
    for op, x, y in zip(request.success if a.succeeded else request.failure, a.responses, b.responses):
        if x == y:
            continue
        kind = op.WhichOneof('request')
        if kind == 'request_range':
            same = _cut_before_sort(op.request_range, x.response_range, y.response_range)
        else:
            same = kind == 'request_txn' and _txn_cut_before_sort(op.request_txn, x.response_txn, y.response_txn)
        if not same:
            return False
        explained = True
    return explained and a.header == b.header


# ---- rights ----

def no_password(step, etcd, claviger, run):
    return (step.method == 'Authenticate'
            and (etcd.code, etcd.text) == ('UNKNOWN', 'auth: authentication failed, password was given for no password user')
            and (claviger.code, claviger.text)
            == ('INVALID_ARGUMENT', 'etcdserver: authentication failed, invalid user ID or password'))


def token_auth_off(step, etcd, claviger, run):
    return not run.auth and step.identity != '' and (etcd.code, etcd.text) == BAD_TOKEN and not refused(claviger)


def login_token(step, etcd, claviger, run):
    return (step.method == 'Authenticate' and step.identity != '' and (etcd.code, etcd.text) == BAD_TOKEN
            and not refused(claviger))


def guarded_later(step, etcd, claviger, run):
    """Refused here, and the one who asks is nobody, or has no right to it."""
    if not run.auth or not refused(claviger) or refused(etcd):
        return False
    if step.method == 'Compact':
        return not run.is_admin(step.identity)
    return (step.method in ('MemberList', 'LeaseGrant', 'LeaseRevoke', 'LeaseTimeToLive', 'LeaseLeases', 'LeaseKeepAlive')
            and (claviger.code, claviger.text) in (EMPTY_USER, BAD_TOKEN) and run.is_nobody(step.identity))


def lease_keys(step, etcd, claviger, run):
    if step.method not in ('LeaseTimeToLive', 'LeaseLeases', 'LeaseKeepAlive'):
        return False
    return (run.auth and etcd.ok and (claviger.code, claviger.text) == DENIED and not run.is_admin(step.identity))


def _operations(txn, depth=0):
    """(operation, is in a nested txn) of all branches."""
    for op in list(txn.success) + list(txn.failure):
        kind = op.WhichOneof('request')
        if kind == 'request_txn':
            yield op.request_txn, depth, 'txn'
            yield from _operations(op.request_txn, depth + 1)
        else:
            yield kind and getattr(op, kind), depth, kind


def nested_txn(step, etcd, claviger, run):
    return (step.method == 'Txn' and run.auth and not refused(etcd) and refused(claviger)
            and any(kind == 'txn' for _, _, kind in _operations(step.message))
            and not run.is_admin(step.identity))


def txn_empty(step, etcd, claviger, run):
    message = step.message
    return (step.method == 'Txn' and run.auth and etcd.ok and refused(claviger)
            and not message.compare and not message.success and not message.failure and run.is_nobody(step.identity))


def txn_prev_kv(step, etcd, claviger, run):
    return (step.method == 'Txn' and run.auth and not refused(etcd) and (claviger.code, claviger.text) == DENIED
            and any(kind == 'request_put' and (op.prev_kv or op.lease)
                    for op, _, kind in _operations(step.message))
            and not run.is_admin(step.identity))


def inverted_range(step, etcd, claviger, run):
    if not run.auth or (claviger.code, claviger.text) != DENIED or refused(etcd):
        return False
    message = step.message
    if step.method in ('Range', 'DeleteRange'):
        return _is_inverted(message) and etcd.ok and (step.method == 'DeleteRange' or not etcd.message.kvs)
    return step.method == 'Txn' and (any(_is_inverted(c) for c in message.compare)
                                     or any(hasattr(op, 'range_end') and _is_inverted(op)
                                            for op, _, kind in _operations(message)))


def _is_inverted(message):
    end = message.range_end
    return end not in (b'', b'\x00') and message.key >= end


def grant_range(step, etcd, claviger, run):
    if step.method != 'RoleGrantPermission':
        return False
    perm = step.message.perm
    inverted = perm.range_end and perm.range_end != b'\x00' and perm.key >= perm.range_end
    return ((perm.key == b'' or inverted) and (claviger.code, claviger.text)
            == ('INVALID_ARGUMENT', 'etcdserver: invalid auth management'))


def root_role(step, etcd, claviger, run):
    if step.method != 'RoleGet' or step.message.role != 'root' or not (etcd.ok and claviger.ok):
        return False
    return (etcd.message.header == claviger.message.header
            and list(claviger.message.perm) == [A.Permission(permType=A.Permission.READWRITE, range_end=b'\x00')])


# ---- Txn, Compact ----

def compact_zero(step, etcd, claviger, run):
    return (step.method == 'Compact' and step.message.revision == 1 and etcd.ok and run.compacted_zero
            and (claviger.code, claviger.text) == ('OUT_OF_RANGE', 'etcdserver: mvcc: required revision has been compacted'))


def put_and_delete(step, etcd, claviger, run):
    """Refused here for a key that one branch both puts and deletes."""
    duplicate = ('INVALID_ARGUMENT', 'etcdserver: duplicate key given in txn request')
    if step.method != 'Txn' or (claviger.code, claviger.text) != duplicate or (etcd.code, etcd.text) == duplicate:
        return False
    return any(_writes(branch)[2] for branch in (step.message.success, step.message.failure))


def _writes(operations):
    """(keys put, ranges deleted, is a key both) of all that may happen together."""
    puts, deletes, both = set(), [], False
    for op in operations:
        kind = op.WhichOneof('request')
        if kind == 'request_put':
            new = [({op.request_put.key}, [], False)]
        elif kind == 'request_delete_range':
            new = [(set(), [(op.request_delete_range.key, op.request_delete_range.range_end)], False)]
        elif kind == 'request_txn':
            # one branch or the other
            new = [_writes(op.request_txn.success), _writes(op.request_txn.failure)]
        else:
            continue
        for more_puts, more_deletes, more_both in new:
            both = (both or more_both or any(_in(k, d) for k in puts for d in more_deletes)
                    or any(_in(k, d) for k in more_puts for d in deletes))
        for more_puts, more_deletes, _ in new:
            puts |= more_puts
            deletes = deletes + more_deletes
    return puts, deletes, both


def _in(key, deleted):
    begin, end = deleted
    return key == begin if not end else key >= begin and (end == b'\x00' or key < end)


ANSWER_RULES = {
    'limit-unsorted': limit_unsorted,
    'no-password': no_password,
    'token-auth-off': token_auth_off,
    'login-token': login_token,
    'guarded-later': guarded_later,
    'lease-keys': lease_keys,
    'nested-txn': nested_txn,
    'txn-empty': txn_empty,
    'txn-prev-kv': txn_prev_kv,
    'inverted-range': inverted_range,
    'grant-range': grant_range,
    'root-role': root_role,
    'compact-zero': compact_zero,
    'put-and-delete': put_and_delete,
}
# by compare.py and by the comparison of watches
SMOOTHED = {'ids', 'time-to-live', 'order', 'unstable-sort', 'watch-refused', 'watch-revoked',
            'watch-cancel-again', 'watch-from-key'}


def explain(known, step, etcd, claviger, run):
    """The known difference that explains these answers, or None."""
    for name, rule in ANSWER_RULES.items():
        if rule(step, etcd, claviger, run):
            known[name].seen += 1
            return known[name]
    return None
