#!/usr/bin/python3
"""A backend that is killed, or crashes inside any critical section, costs its
own connection and nothing else: others do not notice, a watcher beside it sees
every change once and in order, and its slot, pin, rings, hash slot, token
partition and watched ranges can be used again.

ISOLATION_KILLS: how many backends die at random (default 200); as many again
die at named points."""
import hashlib
import os
import random
import signal
import socket
import ssl
import sys
import threading
import time

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), '..', 'fault'))
import faults
from faults import E, KV, claviger, error_of, get, put, raft_worker, wait_for
from follower import Follower

TAP = claviger.Tap()
KILLS = int(os.environ.get('ISOLATION_KILLS', '200'))
CONNECTIONS = 48
LOAD = 8
VALUE = b'v' * 300

# where a point is passed: while a connection begins, or in one of its requests
AT_START = ['slot-before-attach', 'slot-after-attach', 'ring-before-attach', 'ring-after-attach']
IN_PUT = ['ring-half-record', 'ring-before-head', 'ring-after-head', 'ring-before-wake', 'ring-completion-taken',
          'ring-completion-done', 'store-pinned', 'backend-loop']
IN_LOGIN = ['hashpool-entered', 'hashslot-held', 'hashslot-released']
IN_TOKEN = ['token-partition-locked']
AT_END = ['backend-before-exit']
LOAD_IS_SERVED = ('ring-before-wake', 'sleep:1')
IN_STREAMS = ['watch-submitted', 'watch-registered', 'watch-pinned', 'watch-told', 'lease-renewed', 'snapshot-chunk']
IN_GATEWAY = ['gateway-request-made', 'gateway-before-answer', 'gateway-stream-told']
ALL = AT_START + IN_PUT + IN_LOGIN + IN_STREAMS + IN_GATEWAY + AT_END
CRASHES = ('kill', 'abort')
random.seed(int(os.environ.get('SEED', '1')))


PUT, RANGE, LOGIN = KV + 'Put', KV + 'Range', faults.AU + 'Authenticate'
LEASE, WATCH = 'etcdserverpb.Lease/', 'etcdserverpb.Watch/Watch'
LOGIN_REQUEST = E.AuthenticateRequest(name='root', password='root')


class Victim(faults.Raw):
    """A connection of its own, and the process behind it."""

    def __init__(self, server, token):
        super().__init__(server, token)
        if not self.wait(self.send(RANGE, E.RangeRequest(key=b'k'))):
            raise RuntimeError('a new connection was not served')
        self.pid = claviger.backend_of(server, self.socket)

    def send_all(self):
        """Requests of all kinds at one time; nobody waits for their answers."""
        self.send(PUT, E.PutRequest(key=b'victim', value=VALUE))
        self.send(RANGE, E.RangeRequest(key=b'\0', range_end=b'\0', limit=50))
        self.send(PUT, E.PutRequest(key=b'victim2', value=VALUE * 100))
        self.send(LOGIN, LOGIN_REQUEST)

    def send_streams(self):
        """A watch that the load's puts wake, a lease and its renewal, a snapshot."""
        self.send(WATCH, E.WatchRequest(create_request=E.WatchCreateRequest(key=b'\0', range_end=b'\0')), False)
        self.send(LEASE + 'LeaseGrant', E.LeaseGrantRequest(TTL=2))
        self.send(LEASE + 'LeaseKeepAlive', E.LeaseKeepAliveRequest(ID=1), False)
        self.send('etcdserverpb.Maintenance/Snapshot', E.SnapshotRequest())

    def is_gone(self):
        """The client sees the end of its connection."""
        return not self.wait(0)


class GatewayVictim:
    """The same on a connection of HTTP/1.1."""
    WORD = claviger.b64(b'victim')

    def __init__(self, server, token):
        self.token = token
        self.socket, self.pid = claviger.connect(server)
        self.socket.sendall(b'GET /version HTTP/1.1\r\nHost: localhost\r\n\r\n')
        answer = b''
        while b'etcdserver' not in answer:
            more = self.socket.recv(65536)
            assert more, 'the gateway closes the connection'
            answer += more

    def post(self, path, body):
        try:
            self.socket.sendall(('POST %s HTTP/1.1\r\nHost: localhost\r\nAuthorization: %s\r\nContent-Length: %d\r\n\r\n%s'
                                 % (path, self.token, len(body), body)).encode())
        except OSError:
            pass                # is_gone() tells

    def send_all(self):
        self.post('/v3/kv/put', '{"key": "%s", "value": "%s"}' % (self.WORD, self.WORD * 100))
        self.post('/v3/kv/range', '{"key": "AA==", "range_end": "AA==", "limit": 50}')

    def send_streams(self):
        self.post('/v3/watch', '{"create_request": {"key": "AA==", "range_end": "AA=="}}')

    def is_gone(self):
        try:
            while self.socket.recv(65536):
                pass
        except ConnectionError:
            pass
        except OSError:
            return False
        return True

    def close(self):
        self.socket.close()


class Login:
    """root's token.  Who dies while he changes a partition of the token cache may
    take it along; then there is a new one."""

    def __init__(self, server):
        self.server = server
        self.token = faults.token_of(server, 'root', 'root')

    def good(self):
        client = claviger.Client(self.server, token=self.token)
        if error_of(lambda: get(client, b'k')) is not None:
            self.token = faults.token_of(self.server, 'root', 'root')
        client.close()
        return self.token


def kill_at_random(server, token):
    victim = random.choice((Victim, Victim, GatewayVictim))(server, token)
    if random.random() < 0.5:
        victim.send_all()
    if random.random() < 0.5:
        victim.send_streams()
    time.sleep(random.random() * random.choice((0.0005, 0.003, 0.02)))
    os.kill(victim.pid, signal.SIGKILL)
    gone = victim.is_gone()
    victim.close()
    return gone


def crash_at(server, points, point, token):
    """True if the point fired and ended the process it was meant for."""
    action = random.choice(CRASHES)
    if point in AT_START:
        armed = points.arm(point, action)
        victim = faults.Raw(server, token)
        gone = not victim.wait(0)
    else:
        victim = (GatewayVictim if point in IN_GATEWAY else Victim)(server, token)
        armed = points.arm(point, action, victim.pid)
        if point in IN_STREAMS or point == 'gateway-stream-told':
            victim.send_streams()
        elif point in IN_PUT or point in IN_GATEWAY:
            victim.send_all()
        elif point in AT_END:
            victim.socket.shutdown(socket.SHUT_WR)
        else:
            victim.send(LOGIN, LOGIN_REQUEST)
        gone = victim.is_gone()
    victim.close()
    # a process that ends by itself passes its last point after the connection
    fired = wait_for(lambda: not os.path.exists(armed)) and not points.disarm(armed)
    return fired and gone


def use_all_slots(server, token, name):
    """Each of max_connections can be had at one time, and works."""
    TAP.ok(faults.only_worker_left(server), '%s: no backend is left' % name)
    clients = [claviger.Client(server, token=token) for _ in range(CONNECTIONS)]
    errors = [e for e in (error_of(lambda: put(c, b'slots', b'x')) for c in clients) if e]
    more = claviger.Client(server, token=token)
    refused = error_of(lambda: put(more, b'slots', b'x', timeout=3))
    more.close()
    for client in clients:
        client.close()
    TAP.equal(errors, [], '%s: all %d connections can be had at one time' % (name, CONNECTIONS))
    TAP.ok(refused is not None, '%s: and not one more' % name)
    TAP.ok(faults.only_worker_left(server), '%s: and all end' % name)


def put_one(server, token):
    client = claviger.Client(server, token=token)
    revision = put(client, b'one', b'x')
    client.close()
    return revision


def fill_cache(server, token):
    """Berkeley DB fills its cache of 64 MB once; what grows later is a leak."""
    clients = [claviger.Client(server, token=token) for _ in range(4)]
    threads = [threading.Thread(target=lambda c=c: [put(c, b'cache', os.urandom(200000)) for _ in range(100)])
               for c in clients]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    for client in clients:
        client.close()


def empty_store(server, token):
    """Delete all keys, one of 20 MB of versions among them, and wait for the
    memory.  (Bytes that wait for readers, bytes used at all)"""
    client = claviger.Client(server, token=token)
    for _ in range(200):
        put(client, b'turnover', os.urandom(100000))
    revision = client.call(KV + 'DeleteRange', E.DeleteRangeRequest(key=b'\0', range_end=b'\0'),
                           E.DeleteRangeResponse).header.revision
    client.call(KV + 'Compact', E.CompactionRequest(revision=revision), E.CompactionResponse)
    client.close()
    wait_for(lambda: claviger.metric(server, 'claviger_store_keys') == 0 and
             claviger.metric(server, 'claviger_store_retired_bytes') < STORE_SLACK_BYTES, 60)
    return claviger.metric(server, 'claviger_store_retired_bytes'), claviger.metric(server, 'claviger_store_used_bytes')


def measure(server):
    worker = raft_worker(server)
    return {
        'worker fds': faults.count_fds(worker),
        'postmaster fds': faults.count_fds(server.process.pid),
        'worker kB': faults.private_kb(worker),
        'postmaster kB': faults.private_kb(server.process.pid),
    }


# what a death may cost besides its connection, and has to be told
TOKENS_LOST = 'a part of the token cache has been emptied'


def under_load(server, points, kills, one_kill):
    """So many die while the load runs; (not fired, requests, failures of the
    load).  Who dies while he changes a partition of the token cache takes the
    load's token along, half of the time; then it logs in again."""
    missed, requests, failures, died = [], 0, [], 0
    while died < kills and not failures:
        position = os.path.getsize(server.log)
        load = faults.Load(server, LOAD)
        # a point for whoever begins must not find one of these
        load.wait_served(points, *LOAD_IS_SERVED)
        while died < kills and load.runs():
            died += 1
            missed += [m for m in [one_kill()] if m]
        # ending by itself is a failure, too
        broke = not load.runs()
        status, n, text = load.end()
        requests += n
        lost = 'invalid auth token' in text and TOKENS_LOST in claviger.log_since(server, position)
        if (broke or status != 0) and not lost:
            failures.append(text)
    return missed, requests, failures


def check_backends():
    points = faults.Points([(p, a) for p in ALL + IN_TOKEN + ['hashslot-waiting'] for a in CRASHES] +
                           [('hashslot-waiting', 'sleep:1')] +
                           [('hashslot-held', 'stop'), ('token-partition-locked', 'stop'), LOAD_IS_SERVED])
    server = claviger.Server(args=['--max-connections=%d' % CONNECTIONS, '--auth-hash-slots=1', '--argon2-memory=64',
                                   '--argon2-iterations=1', '--checkpoint-interval=1s'],
                             env=points.env()).start()
    faults.set_up_auth(server)
    login = Login(server)
    token = login.token
    worker = raft_worker(server)
    use_all_slots(server, token, 'at first')
    fill_cache(server, token)
    # twice: files and heap grow with the first, too
    empty_store(server, token)
    store_before = empty_store(server, token)
    before = measure(server)

    follower = Follower(server, login.good)
    # its first stream begins where nothing is compacted
    follower.last = put_one(server, token) - 1
    follower.begin()
    # the load knows its own by what comes after it has begun
    wait_for(lambda: follower.streams)
    start = time.time()
    missed, requests, failures = under_load(server, points, KILLS, lambda: not kill_at_random(server, login.good()))
    TAP.equal(failures, [], 'kill -9 of %d backends at random: none of %d requests of other connections failed'
              % (KILLS, requests))
    print('# %.1f kills/s' % (KILLS / (time.time() - start)), flush=True)

    counts = {p: 0 for p in ALL}
    turn = [0]

    def crash_next():
        point = ALL[turn[0] % len(ALL)]
        turn[0] += 1
        if crash_at(server, points, point, login.good()):
            counts[point] += 1
            return None
        return point

    missed, requests, failures = under_load(server, points, KILLS, crash_next)
    TAP.equal(failures, [], 'crash of %d backends at %d points: none of %d requests of other connections failed'
              % (KILLS, len(ALL), requests))
    TAP.equal(missed, [], 'each point fired and ended its process')
    print('# ' + ', '.join('%s %d' % (p, counts[p]) for p in ALL), flush=True)
    revision = put_one(server, login.good())
    TAP.equal(follower.check([(b'one', revision)], revision), [],
              'a watcher beside them has seen each of %d changes once and in order' % follower.events)
    TAP.ok(follower.streams == 1 or TOKENS_LOST in claviger.log_since(server, 0),
           'in one stream, unless its token was lost', follower.streams)
    follower.end()

    check_waiting(server, points, login.good())
    token = check_partitions(server, points)
    check_after(server, points, token, worker, before, store_before)
    return server


def check_waiting(server, points, token):
    """One holds the only hash slot, one that waits for it dies, one waits on.
    The holder is stopped meanwhile, so that nobody comes too late to wait."""
    for action in CRASHES:
        holder, waiter, last = [Victim(server, token) for _ in range(3)]
        held = points.arm('hashslot-held', 'stop', holder.pid)
        waits = [points.arm('hashslot-waiting', what, one.pid) for what, one in ((action, waiter), ('sleep:1', last))]
        first = holder.send(LOGIN, LOGIN_REQUEST)
        stopped = wait_for(lambda: not os.path.exists(held) and faults.is_stopped(holder.pid))
        waiter.send(LOGIN, LOGIN_REQUEST)
        third = last.send(LOGIN, LOGIN_REQUEST)
        waited = wait_for(lambda: not any(map(os.path.exists, waits)))
        gone = waiter.is_gone()
        os.kill(holder.pid, signal.SIGCONT)
        TAP.ok(stopped and waited and gone and holder.wait(first) and last.wait(third),
               'a login that waits for a hash slot dies (%s): those before and behind it are served' % action)
        for one in (holder, waiter, last):
            one.close()


def partition_bit(token):
    return hashlib.sha256(token.split('.')[0].encode()).digest()[31] & 1


def check_partitions(server, points):
    """A partition of the token cache whose owner dies is emptied; tokens of
    other partitions go on."""
    tokens = [faults.token_of(server, 'root', 'root') for _ in range(24)]
    kept = [t for t in tokens if partition_bit(t) == 0]
    lost = [t for t in tokens if partition_bit(t) == 1]
    writers = faults.Writers(server, 4, token=kept[0])
    n = max(10, KILLS // 20)
    fired = 0
    wait_for(lambda: writers.errors or min(len(one) for one in writers.acknowledged) > 0)
    for i in range(n):
        victim = Victim(server, lost[i % len(lost)])
        armed = points.arm('token-partition-locked', random.choice(CRASHES), victim.pid)
        victim.send(RANGE, E.RangeRequest(key=b'k'))
        fired += victim.is_gone() and not points.disarm(armed)
        victim.close()
    acknowledged = writers.end()
    TAP.equal((fired, writers.errors), (n, []), 'death with a partition of the token cache locked, %d times: '
              'writers with tokens elsewhere go on (%d puts)' % (n, len(acknowledged)))
    TAP.equal([error_of(lambda: get(claviger.Client(server, token=t), b'k')) for t in kept], [None] * len(kept),
              'tokens of other partitions are good')
    again = [faults.token_of(server, 'root', 'root') for _ in range(32)]
    TAP.equal([error_of(lambda: get(claviger.Client(server, token=t), b'k')) for t in again], [None] * 32,
              'and all partitions take tokens again')
    TAP.ok(wait_for(lambda: TOKENS_LOST in open(server.log).read()),
           'the log says what was lost')
    return again[0]


def check_stopped(server, points):
    """Not dead, but it does not go on either: who waits for it ends it.  (After
    all that looks at memory, because it holds a version until then.)"""
    token = faults.token_of(server, 'root', 'root')
    victim = Victim(server, token)
    armed = points.arm('token-partition-locked', 'stop', victim.pid)
    victim.send(RANGE, E.RangeRequest(key=b'k'))
    wait_for(lambda: not os.path.exists(armed) and faults.is_stopped(victim.pid))
    other = claviger.Client(server, token=token)
    refused = error_of(lambda: get(other, b'k'))
    TAP.equal((refused, victim.is_gone()), (faults.UNAUTHENTICATED, True),
              'a backend is stopped with a partition locked: who waits for it ends it')
    victim.close()
    other.close()


def check_after(server, points, token, worker, before, store_before):
    # first, as whoever comes into a slot takes its pin
    TAP.ok(faults.only_worker_left(server), 'the dead are gone')
    store_after = empty_store(server, token)
    TAP.ok(store_after[0] < STORE_SLACK_BYTES, 'no pin is left: the store gets its memory back',
           '%d bytes wait for readers' % store_after[0])
    TAP.ok(store_after[1] < store_before[1] + STORE_SLACK_BYTES, 'nothing is forgotten in the store',
           '%r before, %r after' % (store_before, store_after))
    print('# store: %r before, %r after' % (store_before, store_after), flush=True)
    use_all_slots(server, token, 'after all')
    TAP.ok(wait_for(lambda: claviger.metric(server, 'claviger_watch_ranges') == 0), 'what they watched is forgotten')
    TAP.equal(raft_worker(server), worker, 'the raft worker has run all the time')
    # it may just be writing a file: what leaks is there each time one looks
    fds = [name for name in before if name.endswith('fds')]
    after = measure(server)
    end = time.monotonic() + 30 * claviger.SLOW
    while time.monotonic() < end and any(after[name] > before[name] for name in fds):
        time.sleep(0.1)
        after = measure(server)
    print('# before %r\n# after  %r' % (before, after), flush=True)
    TAP.ok(all(after[name] <= before[name] for name in fds), 'no descriptor leaks', '%r\n%r' % (before, after))
    # a sanitizer keeps what is freed, and looks for leaks itself
    TAP.ok(claviger.SANITIZER or after['worker kB'] < before['worker kB'] + 8192 and after['postmaster kB'] < before['postmaster kB'] + 1024,
           'no memory leaks in raft worker and postmaster', '%r\n%r' % (before, after))
    # ThreadSanitizer's build does not look
    if claviger.SANITIZER != 'tsan':
        check_stopped(server, points)
    start = time.time()
    TAP.equal(server.stop(seconds=120), 0, 'stops in order')
    print('# stopped in %.1f s' % (time.time() - start), flush=True)


# what lies in a store without keys may differ by some pieces; a leaked pin would keep 20 MB
STORE_SLACK_BYTES = 256 * 1024


def check_tls():
    """Death in the middle of a TLS handshake."""
    # the first passage is after the server's answer to the hello, the second at the end
    names = ('tls-handshake', 'tls-handshake@2')
    points = faults.Points([(n, a) for n in names for a in CRASHES])
    directory = points.dir
    cert, key = faults.self_signed(directory)
    server = claviger.Server(tls=True, args=['--cert-file', cert, '--key-file', key, '--max-connections=8'],
                             env=points.env()).start()
    trust = ssl.create_default_context(cafile=cert)
    writers = [claviger.Client(server, ca=cert) for _ in range(3)]
    for client in writers:
        put(client, b'a', b'b')
    n = max(20, KILLS // 10)
    fired = tries = 0
    # both passages become one when the client is faster than the server's next look
    while fired < n and tries < 2 * n:
        tries += 1
        armed = points.arm(names[tries % 2], random.choice(CRASHES))
        with socket.create_connection(('127.0.0.1', server.port), 20) as victim:
            try:
                with trust.wrap_socket(victim, server_hostname='127.0.0.1') as secure:
                    # whoever lives answers it
                    secure.sendall(b'PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n' + bytes([0, 0, 0, 4, 0, 0, 0, 0, 0]))
                    gone = secure.recv(1) == b''
            except OSError:
                gone = True
        fired += not points.disarm(armed) and gone
        for other in writers:
            put(other, b'a', b'%d' % tries)
    TAP.equal(fired, n, 'death in %d TLS handshakes: other connections go on' % n)
    # the raft worker and the writers
    TAP.ok(wait_for(lambda: len(claviger.children(server)) == 4), 'the dead are gone')
    more = [claviger.Client(server, ca=cert) for _ in range(5)]
    TAP.equal([error_of(lambda: put(c, b'x', b'y')) for c in more], [None] * 5, 'and all slots can be used again')
    TAP.equal(server.stop(signal.SIGINT), 0, 'stops in order')


def main():
    check_backends()
    check_tls()
    TAP.done()


main()
