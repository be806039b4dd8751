#!/usr/bin/python3
"""A writer with 16 connections, and everything killed with -9 at a random
moment: every put that was acknowledged, in this round or any before, is there
with its revision, and revisions have no gap from the first to the last.

RANDOM_KILLS: how often (default 8).  SEED: of the moments."""
import os
import random
import sys
import time

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), '..', 'fault'))
import faults
from faults import claviger, get

TAP = claviger.Tap()
KILLS = int(os.environ.get('RANDOM_KILLS', '8'))
SEED = int(os.environ.get('SEED', '1'))
# small, so that rotation, recycling and checkpoints are met as well
ARGS = ['--raft-log-segment-bytes=1048576', '--checkpoint-interval=300ms', '--snapshot-catchup-entries=100']


def main():
    random.seed(SEED)
    server = claviger.Server(args=ARGS).start()
    acknowledged = []
    bad = []
    slowest = 0
    for i in range(KILLS):
        writers = faults.Writers(server, 16, b'w/%d/' % i, value=b'x' * 200)
        # the random moment is one of the load, however long that takes to begin
        faults.wait_for(lambda: writers.errors or writers.count() > 20, 60)
        time.sleep(random.uniform(0, 0.7))
        server.kill9()
        new = writers.end()
        acknowledged += new
        start = time.monotonic()
        server.start()
        slowest = max(slowest, time.monotonic() - start)
        client = claviger.Client(server)
        # all of it now and then, and at the end; else what is new
        whole = i % 20 == 0 or i == KILLS - 1
        missing, gaps, found = faults.missing_of(client, acknowledged if whole else new,
                                                 b'w/' if whole else b'w/%d/' % i)
        client.close()
        if missing or gaps:
            bad.append((i, missing[:3], gaps[:3]))
        if i == 0:
            TAP.equal(min(found.values()), 2, 'the first put has the first revision')
    TAP.equal(bad, [], '%d kills of everything, 16 writers: each of %d acknowledged puts is there, '
              'and no revision is missing' % (KILLS, len(acknowledged)))
    TAP.ok(len(acknowledged) > KILLS * 20, 'and there was load')
    print('# slowest start %.2f s, last revision %d' % (slowest, max(found.values())), flush=True)
    TAP.equal(server.stop(), 0, 'stops in order')
    TAP.done()


main()
