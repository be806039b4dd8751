#!/usr/bin/python3
"""Writers with 16 connections, two of them through the JSON gateway, and users of
leases; everything is killed with -9 at a random moment.  Every put that was
acknowledged, in this round or any before, is there with its revision; two
watchers, one of them through the gateway, have seen every revision from the
first to the last once and in order; leases and what hangs on them are as
acknowledged.

RANDOM_KILLS: how often (default 8).  SEED: of the moments."""
import os
import random
import sys
import time

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), '..', 'fault'))
import faults
from faults import claviger, get
from follower import Follower
from jsonclient import JsonClient
from leasework import User, check, revoke_long, state_of

TAP = claviger.Tap()
KILLS = int(os.environ.get('RANDOM_KILLS', '8'))
SEED = int(os.environ.get('SEED', '1'))
# small, so that rotation, recycling and checkpoints are met as well
ARGS = ['--raft-log-segment-bytes=1048576', '--checkpoint-interval=300ms', '--snapshot-catchup-entries=100',
        '--lease-checkpoint-interval=1000']


def main():
    random.seed(SEED)
    server = claviger.Server(args=ARGS).start()
    followers = [Follower(server).begin(), Follower(server, is_json=True).begin()]
    acknowledged = []
    bad = []
    bad_leases = []
    bad_watches = []
    slowest = leases = through_gateway = 0
    for i in range(KILLS):
        writers = faults.Writers(server, 14, b'w/%d/' % i, value=b'x' * 200)
        gateway = faults.Writers(server, 2, b'w/%d/j' % i, value=b'x' * 200, make=JsonClient)
        users = [User(server, i * 2 + n) for n in range(2)]
        for user in users:
            user.start()
        # the random moment is one of the load, however long that takes to begin
        faults.wait_for(lambda: writers.errors or writers.count() > 20 and gateway.count() > 1 and
                        all(user.leases for user in users), 60)
        time.sleep(random.uniform(0, 0.7))
        restarted = time.time()         # no earlier than this
        server.kill9()
        died = time.time()
        new = writers.end() + gateway.end()
        acknowledged += new
        through_gateway += gateway.count()
        for user in users:
            user.end()
        start = time.monotonic()
        server.start()
        slowest = max(slowest, time.monotonic() - start)
        client = claviger.Client(server)
        puts = [pair for user in users for pair in user.puts]
        found_leases, keys, seen = state_of(client)
        bad_leases += check(users, restarted, died, found_leases, keys, seen)
        leases += sum(len(user.leases) for user in users)
        revoke_long(client, found_leases)
        revision = get(client, b'w/').header.revision
        for follower in followers:
            bad_watches += follower.check(new + puts, revision)
        # all of it now and then, and at the end; else what is new
        whole = i % 20 == 0 or i == KILLS - 1
        missing, _, found = faults.missing_of(client, acknowledged if whole else new,
                                              b'w/' if whole else b'w/%d/' % i)
        client.close()
        if missing:
            bad.append((i, missing[:3]))
    for follower in followers:
        follower.end()
    TAP.equal(bad, [], '%d kills of everything, 16 writers: each of %d acknowledged puts is there'
              % (KILLS, len(acknowledged)))
    TAP.equal(bad_watches[:5], [], 'two watchers, with %d and %d streams, have each revision up to %d once and in order'
              % (followers[0].streams, followers[1].streams, revision))
    TAP.equal(bad_leases[:5], [], 'and each of %d leases is as acknowledged' % leases)
    TAP.ok(len(acknowledged) > KILLS * 20 and through_gateway > KILLS and leases > KILLS and
           min(f.streams for f in followers) >= KILLS, 'and there was load',
           (len(acknowledged), through_gateway, leases))
    print('# slowest start %.2f s, last revision %d' % (slowest, revision), flush=True)
    TAP.equal(server.stop(), 0, 'stops in order')
    TAP.done()


main()
