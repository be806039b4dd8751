#!/usr/bin/python3
"""Many leases that end at one time, and floods of keepalives: others go on, and
memory does not grow.

LEASES: how many end at one time (default 10000)."""
import os
import signal
import subprocess
import sys
import threading
import time

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), '..', 'lib'))
import claviger
import grpc
from claviger import wait_until

P = claviger.load_protos()
E = P['etcdserverpb']
TAP = claviger.Tap()
KV, LE = 'etcdserverpb.KV/', 'etcdserverpb.Lease/'
LEASES = int(os.environ.get('LEASES', '10000'))
RATE = 1000


def put(client, key, lease=0):
    return client.call(KV + 'Put', E.PutRequest(key=key, value=b'v', lease=lease), E.PutResponse)


def count(client):
    return len(client.call(LE + 'LeaseLeases', E.LeaseLeasesRequest(), E.LeaseLeasesResponse).leases)


def keys(client):
    return client.call(KV + 'Range', E.RangeRequest(key=b'm/', range_end=b'm0', count_only=True),
                       E.RangeResponse).count


def in_flight(client, method, requests, response, window=200):
    """All of these, many at one time."""
    stub = client.channel.unary_unary('/' + method, request_serializer=lambda m: m.SerializeToString(),
                                      response_deserializer=response.FromString)
    waiting = []
    for request in requests:
        waiting.append(stub.future(request, timeout=30 * claviger.SLOW))
        if len(waiting) >= window:
            waiting.pop(0).result()
    for future in waiting:
        future.result()


def memory_kb(server):
    """Memory of their own, of the raft worker and the backends."""
    total = 0
    for pid in claviger.children(server):
        try:
            with open('/proc/%d/smaps_rollup' % pid) as file:
                total += sum(int(line.split()[1]) for line in file
                             if line.startswith(('Private_Dirty:', 'Private_Clean:')))
        except OSError:
            pass
    return total


class Putter(threading.Thread):
    """One put after the other; how long the slowest took."""

    def __init__(self, server):
        super().__init__()
        self.client = claviger.Client(server)
        self.n, self.slowest = 0, 0.0
        self.stopping = threading.Event()

    def run(self):
        while not self.stopping.is_set():
            start = time.time()
            put(self.client, b'putter')
            self.slowest = max(self.slowest, time.time() - start)
            self.n += 1

    def __enter__(self):
        self.start()
        return self

    def __exit__(self, *_):
        self.stopping.set()
        self.join()


def test_many(server, c):
    # long enough for all of them to be kept alive before the first one ends
    ttl = int((15 + LEASES // 4000) * claviger.SLOW)
    start = time.time()
    in_flight(c, LE + 'LeaseGrant', (E.LeaseGrantRequest(ID=n + 1, TTL=ttl) for n in range(LEASES)),
              E.LeaseGrantResponse)
    granted = time.time()
    in_flight(c, KV + 'Put', (E.PutRequest(key=b'm/%d' % n, value=b'v', lease=n + 1) for n in range(0, LEASES, 10)),
              E.PutResponse)
    TAP.ok(granted - start < ttl, '%d leases granted in %.1f s' % (LEASES, granted - start))
    stub = c.channel.stream_stream('/' + LE + 'LeaseKeepAlive', request_serializer=lambda m: m.SerializeToString(),
                                   response_deserializer=E.LeaseKeepAliveResponse.FromString)
    # all of them end at about one moment
    kept = [a.TTL for a in stub(iter([E.LeaseKeepAliveRequest(ID=n + 1) for n in range(LEASES)]),
                                timeout=60 * claviger.SLOW)]
    now = time.time()
    alive = sum(1 for t in kept if t == ttl)
    TAP.equal(len(kept), LEASES, 'all are kept alive on one stream (%d in %.1f s)' % (LEASES, now - granted))
    TAP.ok(alive > LEASES * 0.9, 'as good as all in time (%d)' % alive)
    left = [0, 0]

    def begins():
        """Asked at left[0] at the earliest, there were left[1]."""
        left[:] = time.time(), count(c)
        return left[1] <= alive * 0.95

    with Putter(server) as putter:
        TAP.ok(wait_until(begins, ttl + 30), 'they begin to end')
        first, n = left
        TAP.ok(wait_until(lambda: count(c) == 0, LEASES / RATE + 60), 'all end')
        took = time.time() - first
    TAP.equal((count(c), keys(c)), (0, 0), 'with their keys')
    TAP.ok(took > n / RATE * 0.6, 'no faster than %d a second (%d in %.1f s)' % (RATE, n, took))
    TAP.ok(took < (LEASES / RATE * 2 + 30) * claviger.SLOW, 'and not much slower')
    # a machine that is busy otherwise delays both
    TAP.ok(putter.n > 20 and putter.slowest < max(2 * claviger.SLOW, took / 2),
           'puts go on meanwhile (%d, the slowest took %.3f s)' % (putter.n, putter.slowest))


def test_keys_first(server, c):
    """Anybody may be granted leases; nobody's keys outlive theirs because of that."""
    lessor = claviger.auxiliary(server, 'lessor')
    os.kill(lessor, signal.SIGSTOP)
    try:
        in_flight(c, LE + 'LeaseGrant', (E.LeaseGrantRequest(ID=n + 1, TTL=2) for n in range(LEASES)), E.LeaseGrantResponse)
        c.call(LE + 'LeaseGrant', E.LeaseGrantRequest(ID=LEASES + 1, TTL=2), E.LeaseGrantResponse)
        put(c, b'm/lock', LEASES + 1)
        time.sleep(3)
    finally:
        os.kill(lessor, signal.SIGCONT)
    wait_until(lambda: keys(c) == 0, 30)
    left = count(c)
    TAP.ok(left > LEASES / 10, 'a lease with a key ends before those without that ended earlier (%d left)' % left)
    TAP.ok(wait_until(lambda: count(c) == 0, LEASES / RATE + 60), 'which end as well')
    TAP.equal(keys(c), 0, 'and no key is left')


def test_flood(server, c):
    def flood(seconds):
        return subprocess.Popen([os.path.join(claviger.BINDIR, 'clav_bench'), '-e', server.url, '-o', 'keepalive', '-c', '6',
                                 '-s', '50', '-t', str(seconds), '-q'], stdout=subprocess.PIPE, text=True)

    flood(0.5).communicate()            # all buffers have been made
    before = memory_kb(server)
    began = time.time()
    load = flood(5)
    time.sleep(1)
    with Putter(server) as putter:
        peak = 0
        while load.poll() is None:
            peak = max(peak, memory_kb(server))
            time.sleep(0.1)
    took = time.time() - began
    text = load.communicate()[0].split('\n')[0]
    TAP.ok(load.returncode == 0, 'a flood of keepalives is answered (%s)' % text)
    TAP.ok(putter.n > 20 and putter.slowest < max(1.5 * claviger.SLOW, took / 2),
           'puts go on meanwhile (%d, the slowest took %.3f s)' % (putter.n, putter.slowest))
    TAP.ok(peak - before < 64 * 1024, 'memory does not grow (%d kB more, backends included)' % (peak - before))

    # one that sends and does not read
    lease = c.call(LE + 'LeaseGrant', E.LeaseGrantRequest(TTL=100), E.LeaseGrantResponse).ID
    deaf = claviger.Client(server)
    put(deaf, b'deaf')
    before = memory_kb(server)
    sent = [0]

    def endless():
        while not done.is_set():
            sent[0] += 1
            yield E.LeaseKeepAliveRequest(ID=lease)

    done = threading.Event()
    stub = deaf.channel.stream_stream('/' + LE + 'LeaseKeepAlive', request_serializer=lambda m: m.SerializeToString(),
                                      response_deserializer=E.LeaseKeepAliveResponse.FromString)
    answers = stub(endless(), timeout=60 * claviger.SLOW)
    time.sleep(4)
    after = memory_kb(server)
    with Putter(server) as putter:
        nobody_waits = wait_until(lambda: putter.n > 5, 20)
    done.set()
    answers.cancel()
    TAP.ok(after - before < 16 * 1024, 'nor for a client that does not read (%d sent, %d kB more)' %
           (sent[0], after - before))
    TAP.ok(nobody_waits, 'and nobody waits for him')


def test_quota():
    """Leases are stored, too: who grants without end meets their share of the quota, and nobody else does."""
    server = claviger.Server(args=['--quota-backend-bytes', '3200000']).start()
    c = claviger.Client(server)
    error, n = None, 0
    while error is None and n < 5000:
        error = claviger.error_of(
            lambda: c.call(LE + 'LeaseGrant', E.LeaseGrantRequest(ID=n + 1, TTL=1000), E.LeaseGrantResponse))
        n += error is None
    TAP.ok(1000 < n < 2000 and error == (grpc.StatusCode.RESOURCE_EXHAUSTED, 'claviger: too many leases'),
           'leases count for the quota (%d)' % n, repr(error))
    TAP.equal(claviger.error_of(lambda: put(c, b'a')), None, 'others may put')
    c.call(LE + 'LeaseRevoke', E.LeaseRevokeRequest(ID=1), E.LeaseRevokeResponse)
    TAP.equal(count(c), n - 1, 'revoke goes on')
    c.call(LE + 'LeaseGrant', E.LeaseGrantRequest(ID=1, TTL=1000), E.LeaseGrantResponse)
    TAP.equal(c.stream(LE + 'LeaseKeepAlive', E.LeaseKeepAliveRequest(ID=2), E.LeaseKeepAliveResponse)[0].TTL, 1000,
              'and so do keepalives')
    server.stop()


def main():
    test_quota()
    server = claviger.Server().start()
    c = claviger.Client(server)
    test_many(server, c)
    test_keys_first(server, c)
    test_flood(server, c)
    TAP.equal(server.stop(), 0, 'stops in order')
    TAP.done()


main()
