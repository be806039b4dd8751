#!/usr/bin/python3
"""The clock of the day jumps under a running server, by seconds and by decades,
forward and back, and all processes are stopped for a while, as when a machine
is suspended: no request fails, no token ends before its time, rights stay as
they are, and a start under a wrong clock finds all that was acknowledged."""
import datetime
import os
import signal
import struct
import sys
import time

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), '..', 'fault'))
import faults
from faults import claviger, error_of, get, grpc, put, raft_worker, wait_for

TAP = claviger.Tap()
SHIM = os.path.join(claviger.BUILDDIR, 'fault', 'clockjump.so')
ARGS = ['--argon2-memory=64', '--argon2-iterations=1', '--raft-log-segment-bytes=1048576', '--checkpoint-interval=200ms',
        '--snapshot-catchup-entries=20']
DENIED = (grpc.StatusCode.PERMISSION_DENIED, 'etcdserver: permission denied')
DAY, YEAR = 86400, 31557600
NOW = int(time.time())
# where the clock stands, in seconds from where it should
JUMPS = (('a second back', -1), ('an hour ahead', 3600), ('an hour back', -3600), ('ten years ahead', 10 * YEAR),
         ('a day behind that', 10 * YEAR - DAY), ('ten years back', -10 * YEAR), ('the first day of 1970', DAY - NOW),
         ('beyond 2106', (1 << 32) + DAY - NOW), ('as it should', 0))


class Clock:
    def __init__(self):
        self.path = os.path.join(claviger._tmp, 'clock')
        with open(self.path, 'wb') as file:
            file.write(bytes(8))

    def env(self):
        return {'LD_PRELOAD': SHIM, 'CLOCKJUMP_CONTROL': self.path}

    def set(self, seconds):
        with open(self.path, 'r+b', buffering=0) as file:
            file.write(struct.pack('=q', seconds))


def year_at(seconds):
    return '%04d-' % (datetime.datetime(1970, 1, 1) + datetime.timedelta(seconds=seconds)).year


def check_running(server, clock, token, acknowledged):
    """Jumps under load."""
    worker = raft_worker(server)
    writers = faults.Writers(server, 4, token=token)
    for name, seconds in JUMPS:
        began = time.time()
        clock.set(seconds)
        position = os.path.getsize(server.log)
        before = writers.count()
        went_on = wait_for(lambda: writers.errors or writers.count() >= before + 100, 60)
        root = claviger.Client(server, token=token)
        # it logs a line that bears the time
        wrong = error_of(lambda: faults.token_of(server, 'root', 'wrong'))
        alice = claviger.Client(server, token=faults.token_of(server, 'alice', 'alice'))
        problems = [p for p in (
            writers.errors, not went_on and 'the writers stand still', error_of(lambda: get(root, b'k')),
            error_of(lambda: put(alice, b'a', b'x')), error_of(lambda: put(alice, b'b', b'x')) != DENIED and 'not denied',
            wrong is None and 'a wrong password was taken', raft_worker(server) != worker and 'the raft worker died') if p]
        root.close()
        alice.close()
        text = faults.log_since(server, position)
        if not any(year_at(when + seconds) in text for when in (began, time.time())):
            problems.append('the server has not seen the jump: ' + text)
        TAP.ok(not problems, 'the clock jumps, to: %s' % name, repr(problems))
    acknowledged += writers.end()


def check_suspended(server, token, acknowledged):
    """Stopped for longer than an election takes."""
    writers = faults.Writers(server, 4, b'v/', token=token)
    wait_for(lambda: writers.errors or writers.count() > 50)
    os.killpg(server.process.pid, signal.SIGSTOP)
    time.sleep(3)
    os.killpg(server.process.pid, signal.SIGCONT)
    before = writers.count()
    went_on = wait_for(lambda: writers.errors or writers.count() >= before + 100, 60)
    acknowledged += writers.end()
    TAP.ok(went_on and not writers.errors, 'all processes stopped for 3 s: requests wait, and go on', writers.errors)


def check_starting(server, clock, acknowledged):
    """A clock that is wrong when the server starts."""
    for name, seconds in (('ten years ahead', 10 * YEAR), ('ten years back', -10 * YEAR)):
        server.kill9()
        clock.set(seconds)
        server.start()
        token = faults.token_of(server, 'root', 'root')
        client = claviger.Client(server, token=token)
        missing = faults.missing_of(client, [pair for pair in acknowledged if pair[0].startswith(b'w/')])[0]
        missing += faults.missing_of(client, [pair for pair in acknowledged if pair[0].startswith(b'v/')], b'v/')[0]
        clock.set(0)
        TAP.ok(not missing and error_of(lambda: put(client, b'k', b'x')) is None,
               'killed, and started with the clock %s: all of %d acknowledged puts are there, and the token lives on '
               'when the clock is put right' % (name, len(acknowledged)), missing[:3])
        client.close()


def main():
    if claviger.SANITIZER:
        print('1..0 # SKIP sanitizers want to be loaded first')
        return
    clock = Clock()
    server = claviger.Server(args=ARGS, env=clock.env()).start()
    faults.set_up_auth(server)
    token = faults.token_of(server, 'root', 'root')
    acknowledged = []
    check_running(server, clock, token, acknowledged)
    check_suspended(server, token, acknowledged)
    check_starting(server, clock, acknowledged)
    TAP.equal(server.stop(), 0, 'stops in order')
    TAP.done()


main()
