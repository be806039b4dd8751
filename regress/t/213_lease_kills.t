#!/usr/bin/python3
"""kill -9 at named points while leases are granted, used, renewed, revoked and end: of
everything, of the raft worker, of the lessor.  Afterwards no acknowledged lease
is lost, a key is there if and only if its lease is, what hangs on a lease is
what says so, and everything ends in time."""
import os
import sys
import time

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), '..', 'fault'))
import faults
from faults import claviger, wait_for
from leasework import SHORT, User, check, revoke_long, state_of

TAP = claviger.Tap()
# what dies -> where
POINTS = {
    'all': ['apply-entry-done', 'apply-before-publish', 'apply-after-publish', 'persist-before-commit',
            'persist-after-commit', 'logthread-persisted', 'consensus-lease-renewed'],
    'worker': ['apply-entry-done', 'apply-before-publish', 'apply-answered', 'consensus-proposed', 'consensus-lease-renewed'],
    'lessor': ['lessor-before-revoke', 'lessor-proposed', 'lessor-checkpointed', 'auxiliary-attached', 'auxiliary-loop'],
}
ROUNDS = [(who, point) for who in POINTS for point in POINTS[who]]
ARGS = ['--worker-restart-pause=0', '--lease-checkpoint-interval=1000', '--checkpoint-interval=200ms']


def strike(server, points, who, point):
    armed = points.arm(point, 'kill')
    if point == 'auxiliary-attached':
        os.kill(wait_for(lambda: claviger.auxiliary(server, 'lessor')), 9)
    position = os.path.getsize(server.log)
    fired = wait_for(lambda: not os.path.exists(armed), 20 * claviger.SLOW, 0.001)
    points.disarm(armed)
    if who == 'all':
        server.kill9()
        server.start()
    elif who == 'worker':
        fired = fired and faults.wait_restart(server, position)
    else:
        wait_for(lambda: claviger.auxiliary(server, 'lessor') is not None)
    return fired


def main():
    names = sorted({point for _, point in ROUNDS})
    points = faults.Points([(p, 'kill') for p in names])
    server = claviger.Server(args=ARGS, env=points.env()).start()
    total = renewed = 0
    for n, (who, point) in enumerate(ROUNDS):
        users = [User(server, n * 10 + i) for i in range(3)]
        for user in users:
            user.start()
        # some have ended by then, some are ending
        time.sleep(0.3 if who != 'lessor' else 1.5)
        restarted = time.time() if who != 'lessor' else 0       # no earlier than this
        fired = strike(server, points, who, point)
        died = time.time() if who != 'lessor' else 0
        for user in users:
            user.stopping.set()
        for user in users:
            user.end()
        client = claviger.Client(server)
        leases, keys, seen = state_of(client)
        problems = check(users, restarted, died, leases, keys, seen)
        if not fired:
            problems.append('the point did not fire\n' + open(server.log).read()[-2000:])
        granted = sum(len(u.leases) for u in users)
        total += granted
        renewed += sum(u.renewals for u in users)
        # what is left goes
        revoke_long(client, leases)
        TAP.ok(not problems, '%s dies at %s: %d leases' % (who, point, granted), '\n'.join(problems[:5]))
        client.close()
    client = claviger.Client(server)
    TAP.ok(wait_for(lambda: state_of(client)[:2] == ({}, {}), (SHORT + 30) * claviger.SLOW, 0.2),
           'at last all leases and keys are gone', repr(state_of(client)[:2])[:2000])
    TAP.ok(total > 100 and renewed > 10, '%d leases altogether, %d times renewed' % (total, renewed))
    TAP.equal(server.stop(), 0, 'stops in order')
    TAP.done()


main()
