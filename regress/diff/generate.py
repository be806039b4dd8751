"""Random histories.

What comes next depends on the seed and on what etcd has answered so far (its
revision, which leases and watches there are), so that most requests mean
something; a history once made is a list of steps and needs neither.
"""
import random

from sides import A, ANONYMOUS, CHOSEN, E, WRONG_TOKEN
from steps import Step

KEYS = [b'a', b'b', b'c', b'd', b'e', b'ab', b'abc', b'p/', b'p/1', b'p/2', b'p/3', b'p0', b'q/1',
        b'q/2', b'\x00', b'\x01', b'a\x00', b'\xff', b'\xff\xff', b'\xff\x01', b'long/' + b'k' * 300]
USERS = ['root', 'ann', 'bob', 'eve']
ROLES = ['root', 'reader', 'writer', 'both']
PASSWORDS = ['', 'one', 'two']
NAMED_LEASES = [7, 8, 9, 1000, -3]

# what share each kind of request has, by the kind of history
MIXES = {
    'kv': {'read': 40, 'write': 35, 'txn': 20, 'compact': 2, 'misc': 1},
    'txn': {'read': 15, 'write': 20, 'txn': 60, 'compact': 2},
    'auth': {'read': 25, 'write': 20, 'txn': 12, 'auth': 30, 'login': 10, 'compact': 1, 'misc': 1},
    'watch': {'read': 5, 'write': 50, 'txn': 12, 'watch': 25, 'compact': 3},
    'lease': {'read': 12, 'write': 35, 'txn': 10, 'lease': 35, 'compact': 1},
    'all': {'read': 18, 'write': 25, 'txn': 15, 'auth': 10, 'login': 6, 'watch': 12, 'lease': 12, 'compact': 2},
}


def successor(prefix):
    """The end of the range of all keys with this prefix."""
    for i in range(len(prefix) - 1, -1, -1):
        if prefix[i] < 0xff:
            return prefix[:i] + bytes([prefix[i] + 1])
    return b'\x00'


class Generator:
    def __init__(self, seed, kind):
        self.rnd = random.Random(seed)
        self.kind = kind
        self.mix = MIXES[kind]
        self.queue = []
        self.revision = 1           # as of etcd's latest answer
        self.compacted = 0
        self.auth = False
        self.roles_of = {}          # what the history has asked for, done or not
        self.permissions = {}       # role: {(key, range_end)}
        self.logged_in = []
        self.leases = []
        self.chosen = 0
        self.watches = []           # (stream, id) that should be open
        self.steady = []
        self.named_watch = 100
        if kind in ('auth', 'all'):
            self.queue += self.auth_setup()

    # ---- the next step, and what it did ----

    def next(self):
        if self.queue:
            return self.queue.pop(0)
        kinds = list(self.mix)
        kind = self.rnd.choices(kinds, [self.mix[k] for k in kinds])[0]
        made = getattr(self, 'make_' + kind)()
        if isinstance(made, Step):
            return made
        self.queue += made[1:]
        return made[0]

    def learn(self, step, answer):
        """What etcd answered."""
        if not answer.ok or answer.message is None:
            return
        header = getattr(answer.message, 'header', None)
        if header is not None and header.revision:
            self.revision = header.revision
        message = step.message
        if step.method == 'Compact':
            self.compacted = message.revision
        elif step.method == 'AuthEnable':
            self.auth = True
        elif step.method == 'AuthDisable':
            self.auth = False
            self.logged_in = []
        elif step.method == 'Authenticate' and message.name not in self.logged_in:
            self.logged_in.append(message.name)
        elif step.method == 'LeaseGrant':
            if message.ID == 0:
                self.leases.append(CHOSEN + self.chosen)
                self.chosen += 1
            else:
                self.leases.append(message.ID)
        elif step.method == 'LeaseRevoke' and message.ID in self.leases:
            self.leases.remove(message.ID)
        elif step.method == 'RoleGrantPermission':
            self.permissions.setdefault(message.name, set()).add((message.perm.key, message.perm.range_end))
        elif step.method == 'RoleRevokePermission':
            self.permissions.get(message.role, set()).discard((message.key, message.range_end))
        elif step.method == 'RoleDelete':
            self.permissions.pop(message.role, None)

    # ---- parts of requests ----

    def chance(self, percent):
        return self.rnd.random() * 100 < percent

    def key(self):
        if self.chance(0.5):
            return b''
        return self.rnd.choice(KEYS)

    def range(self):
        """(key, range_end)"""
        kind = self.rnd.choices(['point', 'range', 'prefix', 'from', 'all', 'nul'], [45, 22, 15, 8, 8, 2])[0]
        key = self.key()
        if kind == 'point':
            return key, b''
        if kind == 'prefix':
            return key, successor(key)
        if kind == 'from':
            return key, b'\x00'
        if kind == 'all':
            return b'\x00', b'\x00'
        if kind == 'nul':
            return b'', b'\x00'
        end = self.key()
        if end < key and not self.chance(10):
            key, end = end, key
        return key, end

    def value(self):
        rnd = self.rnd
        return rnd.choice([
            lambda: b'', lambda: b'x', lambda: b'v%d' % rnd.randrange(20),
            lambda: bytes(rnd.randrange(256) for _ in range(rnd.randrange(8))),
            lambda: b'w' * rnd.choice([10, 100, 1000, 5000])])()

    def a_revision(self):
        """Mostly 0; else something near what there is."""
        if self.chance(75):
            return 0
        return self.rnd.choice([
            self.rnd.randint(max(1, self.compacted), max(1, self.revision)),
            self.rnd.randint(max(1, self.compacted), max(1, self.revision)),
            self.rnd.randint(1, self.revision + 1), self.compacted, self.compacted - 1,
            self.revision, self.revision + 1, self.revision + 1000, -1, -5])

    def lease(self):
        if self.leases and not self.chance(10):
            return self.rnd.choice(self.leases)
        return self.rnd.choice(NAMED_LEASES)

    def identity(self, root=40):
        if not self.auth:
            # a token while auth is off is looked at by 3.4.23: see differences
            return WRONG_TOKEN if self.chance(0.2) else ANONYMOUS
        pick = self.rnd.random() * 100
        if pick < root:
            return 'root'
        if pick < 96:
            return self.rnd.choice(self.logged_in or ['root'])
        return self.rnd.choice([ANONYMOUS, WRONG_TOKEN])

    def range_request(self):
        rnd = self.rnd
        key, end = self.range()
        request = E.RangeRequest(key=key, range_end=end, revision=self.a_revision())
        if self.chance(25):
            request.limit = rnd.choice([1, 1, 2, 3, 5, 100, -1])
        if self.chance(30):
            request.sort_order = rnd.randrange(3)
            request.sort_target = rnd.randrange(5)
        for name, percent in (('serializable', 25), ('keys_only', 12), ('count_only', 10)):
            if self.chance(percent):
                setattr(request, name, True)
        if self.chance(15):
            for name in ('min_mod_revision', 'max_mod_revision', 'min_create_revision', 'max_create_revision'):
                if self.chance(40):
                    setattr(request, name, rnd.randint(0, self.revision + 1))
        return request

    def put_request(self):
        request = E.PutRequest(key=self.key(), value=self.value(), prev_kv=self.chance(25))
        if self.chance(40 if self.kind == 'lease' else 4):
            request.lease = self.lease()
        if self.chance(5):
            request.ignore_value = True
            if self.chance(90):
                request.value = b''
        if self.chance(5):
            request.ignore_lease = True
            if self.chance(90):
                request.lease = 0
        return request

    def delete_request(self):
        key, end = self.range() if self.chance(60) else (self.key(), b'')
        if end == b'\x00' and self.chance(80):
            end = b''               # leave something there
        return E.DeleteRangeRequest(key=key, range_end=end, prev_kv=self.chance(35))

    def compare(self):
        rnd = self.rnd
        key, end = self.range() if self.chance(25) else (self.key(), b'')
        compare = E.Compare(result=rnd.randrange(4), target=rnd.randrange(5), key=key, range_end=end)
        arm = compare.target
        if self.chance(3):
            arm = rnd.randrange(5)          # an arm that is not the target's
        if self.chance(4):
            return compare                  # no arm at all
        if arm == E.Compare.VERSION:
            compare.version = rnd.randrange(4)
        elif arm == E.Compare.CREATE:
            compare.create_revision = rnd.choice([0, 0, rnd.randint(0, self.revision + 1)])
        elif arm == E.Compare.MOD:
            compare.mod_revision = rnd.choice([0, rnd.randint(0, self.revision + 1)])
        elif arm == E.Compare.VALUE:
            compare.value = self.value()
        else:
            compare.lease = rnd.choice([0, 0, self.lease()])
        return compare

    def operation(self, depth):
        pick = self.rnd.random() * 100
        if pick < 35:
            return E.RequestOp(request_range=self.range_request())
        if pick < 70:
            return E.RequestOp(request_put=self.put_request())
        if pick < 85:
            return E.RequestOp(request_delete_range=self.delete_request())
        if pick < 99.5 and depth < 3:
            return E.RequestOp(request_txn=self.txn_request(depth + 1))
        return E.RequestOp() if self.chance(3) else E.RequestOp(request_range=self.range_request())

    def txn_request(self, depth=0):
        rnd = self.rnd
        sizes = [rnd.choice([0, 1, 1, 2, 3]), rnd.choice([0, 1, 1, 2, 3]), rnd.choice([0, 0, 1, 2])]
        if depth == 0 and self.chance(0.7):
            sizes[rnd.randrange(3)] = rnd.choice([127, 128, 129])
        request = E.TxnRequest()
        request.compare.extend(self.compare() for _ in range(sizes[0]))
        if sizes[1] > 3 or sizes[2] > 3:
            # otherwise the same key twice is all that ever happens
            request.success.extend(E.RequestOp(request_put=E.PutRequest(key=b'many/%d' % i)) for i in range(sizes[1]))
            request.failure.extend(E.RequestOp(request_range=E.RangeRequest(key=b'many/%d' % i))
                                   for i in range(sizes[2]))
            return request
        request.success.extend(self.operation(depth) for _ in range(sizes[1]))
        request.failure.extend(self.operation(depth) for _ in range(sizes[2]))
        return request

    # ---- kinds of steps ----

    def make_read(self):
        return Step('Range', self.identity(), self.range_request())

    def make_write(self):
        if self.chance(70):
            return Step('Put', self.identity(), self.put_request())
        return Step('DeleteRange', self.identity(), self.delete_request())

    def make_txn(self):
        if self.chance(12):
            request = E.TxnRequest(success=[E.RequestOp(request_range=self.range_request())
                                            for _ in range(self.rnd.randrange(1, 4))])
            request.compare.extend(self.compare() for _ in range(self.rnd.randrange(2)))
            return Step('Txn', self.identity(), request)
        return Step('Txn', self.identity(), self.txn_request())

    def make_compact(self):
        revision = self.rnd.choice([self.revision, self.revision - 1, self.revision // 2, self.compacted,
                                    self.compacted + 1, self.revision + 5, 0, -1])
        # somebody without the right may do it in etcd 3.4.23: see differences
        identity = self.identity(root=100) if self.chance(97) else self.identity()
        return Step('Compact', identity, E.CompactionRequest(revision=revision, physical=self.chance(30)))

    def make_misc(self):
        return Step('MemberList', self.identity(root=100))

    def make_login(self):
        # with a bad token 3.4.23 refuses the login: see differences
        return Step('Authenticate', WRONG_TOKEN if self.chance(0.5) else ANONYMOUS, E.AuthenticateRequest(
            name=self.rnd.choice(USERS + ['nobody', '']), password=self.rnd.choice(PASSWORDS)))

    def permission(self):
        key, end = self.range()
        return A.Permission(permType=self.rnd.randrange(3), key=key, range_end=end)

    def make_auth(self):
        """A change of users, roles or permissions, or a look at them."""
        rnd = self.rnd
        user, role = rnd.choice(USERS + ['none']), rnd.choice(ROLES + ['none'])
        name = rnd.choices(
            ['UserAdd', 'UserGet', 'UserList', 'UserDelete', 'UserChangePassword', 'UserGrantRole',
             'UserRevokeRole', 'RoleAdd', 'RoleGet', 'RoleList', 'RoleDelete', 'RoleGrantPermission',
             'RoleRevokePermission', 'AuthEnable', 'AuthDisable'],
            [9, 8, 4, 3, 6, 12, 6, 6, 8, 3, 2, 20, 9, 3, 1])[0]
        make = {
            'UserAdd': lambda: E.AuthUserAddRequest(
                name='' if self.chance(2) else user, password=rnd.choice(PASSWORDS),
                options=A.UserAddOptions(no_password=True) if self.chance(10) else None),
            'UserGet': lambda: E.AuthUserGetRequest(name=user),
            'UserList': E.AuthUserListRequest,
            'UserDelete': lambda: E.AuthUserDeleteRequest(name=user),
            'UserChangePassword': lambda: E.AuthUserChangePasswordRequest(
                name=user, password=rnd.choice(PASSWORDS[1:])),
            'UserGrantRole': lambda: E.AuthUserGrantRoleRequest(user=user, role=role),
            'UserRevokeRole': lambda: E.AuthUserRevokeRoleRequest(name=user, role=role),
            'RoleAdd': lambda: E.AuthRoleAddRequest(name='' if self.chance(2) else role),
            'RoleGet': lambda: E.AuthRoleGetRequest(role=role),
            'RoleList': E.AuthRoleListRequest,
            'RoleDelete': lambda: E.AuthRoleDeleteRequest(role=role),
            'RoleGrantPermission': lambda: self.grant_request(role),
            'RoleRevokePermission': lambda: self.revoke_request(role),
            'AuthEnable': E.AuthEnableRequest,
            'AuthDisable': E.AuthDisableRequest,
        }
        step = Step(name, self.identity(root=75), make[name]())
        if name == 'UserAdd' and step.message.options.no_password is False and self.chance(50):
            return [step, Step('Authenticate', ANONYMOUS, E.AuthenticateRequest(
                name=step.message.name, password=step.message.password))]
        if name == 'AuthDisable':
            return [step] + self.auth_setup()[-2:]
        return step

    def grant_request(self, role):
        permission = self.permission()
        key, end = permission.key, permission.range_end
        if not self.chance(1) and (key == b'' or (end and end != b'\x00' and key >= end)):
            permission.key, permission.range_end = b'a', b'c'
        # one range for each key of a role: see differences, grant-again
        given = self.permissions.get(role, set())
        if any(k == permission.key for k, e in given):
            permission.range_end = next(e for k, e in given if k == permission.key)
        return E.AuthRoleGrantPermissionRequest(name=role, perm=permission)

    def revoke_request(self, role):
        given = sorted(self.permissions.get(role, set()))
        key, end = self.rnd.choice(given) if given and not self.chance(15) else self.range()
        return E.AuthRoleRevokePermissionRequest(role=role, key=key, range_end=end)

    def auth_setup(self):
        """Users, roles and rights with which the rest makes sense."""
        steps = [
            Step('UserAdd', '', E.AuthUserAddRequest(name='root', password='one')),
            Step('UserAdd', '', E.AuthUserAddRequest(name='ann', password='one')),
            Step('UserAdd', '', E.AuthUserAddRequest(name='bob', password='two')),
            Step('RoleAdd', '', E.AuthRoleAddRequest(name='reader')),
            Step('RoleAdd', '', E.AuthRoleAddRequest(name='both')),
            Step('RoleGrantPermission', '', E.AuthRoleGrantPermissionRequest(
                name='reader', perm=A.Permission(permType=A.Permission.READ, key=b'p/', range_end=b'p0'))),
            Step('RoleGrantPermission', '', E.AuthRoleGrantPermissionRequest(
                name='both', perm=A.Permission(permType=A.Permission.READWRITE, key=b'a', range_end=b'd'))),
            Step('UserGrantRole', '', E.AuthUserGrantRoleRequest(user='ann', role='reader')),
            Step('UserGrantRole', '', E.AuthUserGrantRoleRequest(user='ann', role='both')),
            Step('UserGrantRole', '', E.AuthUserGrantRoleRequest(user='bob', role='both')),
            Step('UserGrantRole', '', E.AuthUserGrantRoleRequest(user='root', role='root')),
        ]
        if self.chance(20):
            # without the role it is refused
            steps.insert(-1, Step('AuthEnable'))
        steps += [Step('Authenticate', '', E.AuthenticateRequest(name='ann', password='one')),
                  Step('AuthEnable'),
                  Step('Authenticate', '', E.AuthenticateRequest(name='ann', password='one')),
                  Step('Authenticate', '', E.AuthenticateRequest(name='bob', password='two')),
                  Step('AuthEnable'),
                  Step('Authenticate', '', E.AuthenticateRequest(name='root', password='one'))]
        for step in steps:
            if step.method == 'RoleGrantPermission':
                perm = step.message.perm
                self.permissions.setdefault(step.message.name, set()).add((perm.key, perm.range_end))
        return steps

    def make_lease(self):
        rnd = self.rnd
        name = rnd.choices(['LeaseGrant', 'LeaseRevoke', 'LeaseTimeToLive', 'LeaseLeases', 'LeaseKeepAlive', 'expire'],
                           [30, 15, 25, 8, 20, 0.7])[0]
        if name == 'expire':
            return self.expiry()
        if name == 'LeaseGrant':
            request = E.LeaseGrantRequest(TTL=rnd.choice([1000, 2000, 5000, 9000000000, 9000000001]))
            if self.chance(60):
                request.ID = rnd.choice(NAMED_LEASES)
        elif name == 'LeaseRevoke':
            request = E.LeaseRevokeRequest(ID=self.lease())
        elif name == 'LeaseTimeToLive':
            request = E.LeaseTimeToLiveRequest(ID=self.lease(), keys=self.chance(60))
        elif name == 'LeaseLeases':
            request = E.LeaseLeasesRequest()
        else:
            request = E.LeaseKeepAliveRequest(ID=self.lease())
        return Step(name, self.identity(root=80), request)

    def expiry(self):
        """A lease that runs out, with keys."""
        who = self.identity(root=100)
        keys = self.rnd.sample(KEYS, 3)
        return ([Step('LeaseRevoke', who, E.LeaseRevokeRequest(ID=77)),
                 # raised to the minimum, in which a slow machine might not come to an end with the rest
                 Step('LeaseGrant', who, E.LeaseGrantRequest(ID=77, TTL=self.rnd.choice([-1, 0, 1, 2]))),
                 Step('LeaseRevoke', who, E.LeaseRevokeRequest(ID=77)),
                 Step('LeaseGrant', who, E.LeaseGrantRequest(ID=77, TTL=5))]
                + [Step('Put', who, E.PutRequest(key=key, lease=77)) for key in keys]
                + [Step('Expired', who, E.LeaseTimeToLiveRequest(ID=77)),
                   Step('Range', who, E.RangeRequest(key=b'\x00', range_end=b'\x00'))])

    def make_watch(self):
        rnd = self.rnd
        pick = rnd.random() * 100
        if pick < 30:
            return Step('Settle')
        if pick < 45 and self.watches:
            stream, watch = rnd.choice(self.watches)
            self.watches.remove((stream, watch))
            return Step('Watch', '', E.WatchRequest(cancel_request=E.WatchCancelRequest(watch_id=watch)), stream)
        if pick < 55 and self.watches:
            return [Step('Settle'), Step('Watch', '', E.WatchRequest(progress_request=E.WatchProgressRequest()),
                                         rnd.choice(self.watches)[0])]
        key, end = self.range()
        request = E.WatchCreateRequest(key=key, range_end=end, prev_kv=self.chance(40), fragment=self.chance(10))
        if self.chance(50):
            request.start_revision = rnd.choice([
                rnd.randint(1, self.revision), self.compacted, max(0, self.compacted - 1), self.revision,
                self.revision + 1, self.revision + 3])
        if self.chance(20):
            request.filters.extend(rnd.sample([0, 1], rnd.choice([1, 1, 2])))
        stream = rnd.randrange(3)
        if self.chance(15):
            self.named_watch += 1
            request.watch_id = self.named_watch
            if not self.auth and self.chance(20) and self.steady:
                stream, request.watch_id = rnd.choice(self.steady)
        return Step('Watch', self.identity(), E.WatchRequest(create_request=request), stream)
