#!/usr/bin/python3
"""The raft worker ends again and again soon after a start: the pauses before the
next one grow, and begin anew when one has served well.  A server that waits can
be stopped, and a client's connection waits.

"Soon" is twice worker_restart_pause, so that is long here: a starved machine may
take seconds from one death to the next.  (That pauses grow no further: t_restartpause.)"""
import os
import re
import signal
import sys
import time

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), '..', 'fault'))
import faults
from faults import claviger, get, put, raft_worker, wait_for

TAP = claviger.Tap()


def kill_worker(server):
    """The pause that the postmaster says, when it is ready again."""
    position = os.path.getsize(server.log)
    died = time.time()
    os.kill(raft_worker(server), signal.SIGKILL)
    if not faults.wait_restart(server, position):
        return None
    took = time.time() - died
    said = re.search(r'start over from disk(?: in (\d+) ms)?', faults.log_since(server, position))
    pause = int(said.group(1) or 0)
    return pause if took >= pause / 1000 else 'ready %.3f s after the end, not in %d ms' % (took, pause)


def set_longest(server, text):
    with open(os.path.join(server.data, 'claviger.conf'), 'w') as file:
        file.write('worker_restart_pause = "%s"\n' % text)
    if server.process is not None:
        position = os.path.getsize(server.log)
        os.kill(server.process.pid, signal.SIGHUP)
        wait_for(lambda: 'settings reloaded' in faults.log_since(server, position))


def end_soon():
    """Each write ends the worker, as with a full disk."""
    points = faults.Points([('log-before-write', 'error:28')])
    server = claviger.Server(args=['--worker-restart-pause=30s'], env=points.env()).start()
    pauses = []
    for _ in range(4):
        position = os.path.getsize(server.log)
        points.arm('log-before-write', 'error:28')
        client = claviger.Client(server)
        faults.error_of(lambda: put(client, b'a', b'b'))
        client.close()
        if not faults.wait_restart(server, position):
            break
        pauses += [int(ms or 0) for ms in re.findall(r'start over from disk(?: in (\d+) ms)?',
                                                     faults.log_since(server, position))]
    TAP.equal(pauses, [0, 100, 200, 400], 'a log that cannot be written: so do they')
    TAP.equal(server.stop(), 0, 'stops in order')


def main():
    server = claviger.Server()
    os.mkdir(server.data, 0o700)
    set_longest(server, '30s')
    server.start()
    client = claviger.Client(server)
    revision = put(client, b'k', b'v')
    client.close()
    TAP.equal([kill_worker(server) for _ in range(6)], [0, 100, 200, 400, 800, 1600], 'the pauses grow')
    set_longest(server, '100ms')
    time.sleep(0.3)
    TAP.equal(kill_worker(server), 0, 'and begin anew after one that has served well')
    set_longest(server, '30s')
    client = claviger.Client(server)
    TAP.equal(get(client, b'k').kvs[0].mod_revision, revision, 'and what was acknowledged is there')
    client.close()

    for _ in range(2):
        kill_worker(server)
    position = os.path.getsize(server.log)
    os.kill(raft_worker(server), signal.SIGKILL)
    wait_for(lambda: 'start over from disk in' in faults.log_since(server, position))
    client = claviger.Client(server)
    TAP.equal(get(client, b'k').kvs[0].mod_revision, revision, 'a request made in the pause is answered behind it')
    client.close()

    position = os.path.getsize(server.log)
    os.kill(raft_worker(server), signal.SIGKILL)
    wait_for(lambda: 'start over from disk in' in faults.log_since(server, position))
    TAP.equal(server.stop(), 0, 'a server that waits can be stopped')
    TAP.ok('not starting over' in faults.log_since(server, position), 'and says that there is no checkpoint',
           faults.log_since(server, position))
    server.start()
    client = claviger.Client(server)
    TAP.equal(get(client, b'k').kvs[0].mod_revision, revision, 'the next start has everything')
    client.close()
    TAP.equal(server.stop(), 0, 'stops in order')
    end_soon()
    TAP.done()


main()
