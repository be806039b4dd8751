#!/usr/bin/python3
"""A signal that comes when a process has only just begun, or when everything
starts over, counts as at any other time: a reload ends nobody, and a stop stops.

Who is stopped when he begins has it certainly pending when he goes on."""
import os
import signal
import subprocess
import sys

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), '..', 'fault'))
import faults
from faults import E, KV, claviger, log_since, raft_worker, wait_for

TAP = claviger.Tap()
BEGINS = ('child-begins', 'stop')


def stopped(server):
    """The child that has stopped where it begins, waited for."""
    found = wait_for(lambda: [p.pid for p in claviger.processes(server) if p.is_stopped])
    if not found:
        raise RuntimeError('no child is stopped:\n' + open(server.log).read())
    return found[0]


def says(server, text, position=0):
    return wait_for(lambda: text in log_since(server, position))


def launch(server):
    """Start without waiting: it cannot get ready while its worker is stopped."""
    with open(server.log, 'ab') as log:
        server.process = subprocess.Popen(
            [os.path.join(claviger.BINDIR, 'claviger'), '--data-dir', server.data, '--listen-client-urls', server.url,
             '--advertise-client-urls', server.url], stdin=subprocess.DEVNULL, stdout=log, stderr=log, env=server.env,
            start_new_session=True)


def end_of(server):
    """Exit status, or None when it does not end."""
    try:
        return server.process.wait(60 * claviger.SLOW)
    except subprocess.TimeoutExpired:
        return None


def check_reload_of_backend(server, points):
    position = os.path.getsize(server.log)
    points.arm(*BEGINS)
    client = faults.Raw(server)
    child = stopped(server)
    server.process.send_signal(signal.SIGHUP)
    TAP.ok(says(server, 'settings reloaded', position), 'a reload while a backend begins')
    os.kill(child, signal.SIGCONT)
    TAP.ok(client.wait(client.send(KV + 'Range', E.RangeRequest(key=b'k'))), 'its client is served',
           log_since(server, position))
    client.close()


def check_stop_of_backend(server, points):
    position = os.path.getsize(server.log)
    points.arm(*BEGINS)
    client = faults.Raw(server)
    child = stopped(server)
    server.process.send_signal(signal.SIGTERM)
    TAP.ok(says(server, 'stop asked for', position), 'a stop while a backend begins')
    os.kill(child, signal.SIGCONT)
    TAP.equal(end_of(server), 0, 'the server stops in order')
    TAP.ok('ended by signal' not in log_since(server, position), 'and the backend by itself', log_since(server, position))
    client.close()


def check_reload_of_worker(server, points):
    position = os.path.getsize(server.log)
    points.arm(*BEGINS)
    launch(server)
    child = stopped(server)
    server.process.send_signal(signal.SIGHUP)
    TAP.ok(says(server, 'settings reloaded', position), 'a reload while the raft worker begins')
    os.kill(child, signal.SIGCONT)
    TAP.ok(wait_for(lambda: server.process.poll() is not None or server.state() == 'ready') and
           server.process.poll() is None, 'the server gets ready', log_since(server, position))
    TAP.equal(raft_worker(server), child, 'with this worker')


def check_stop_of_worker(server, points):
    position = os.path.getsize(server.log)
    points.arm(*BEGINS)
    launch(server)
    child = stopped(server)
    server.process.send_signal(signal.SIGTERM)
    TAP.ok(says(server, 'stop asked for', position), 'a stop while the raft worker begins')
    os.kill(child, signal.SIGCONT)
    TAP.equal(end_of(server), 0, 'the server stops in order')
    TAP.ok('ended by signal' not in log_since(server, position), 'and the worker by itself', log_since(server, position))


def check_stop_while_starting_over(server, signo):
    """The raft worker has died, and one backend keeps the others waiting."""
    server.start()
    client = faults.Raw(server)
    TAP.ok(client.wait(client.send(KV + 'Put', E.PutRequest(key=b'k', value=b'v'))), 'a connection')
    backend = claviger.backend_of(server, client.socket)
    os.kill(backend, signal.SIGSTOP)
    position = os.path.getsize(server.log)
    os.kill(raft_worker(server), signal.SIGKILL)
    TAP.ok(says(server, 'stopping all backends', position), 'everything is to start over')
    server.process.send_signal(signo)
    TAP.ok(says(server, 'stop asked for', position), 'when a stop comes: %s' % signo.name, log_since(server, position))
    os.kill(backend, signal.SIGCONT)
    TAP.equal(end_of(server), 0, 'the server stops in order')
    TAP.ok('ready to serve' not in log_since(server, position), 'and has not started again', log_since(server, position))
    client.close()


def main():
    points = faults.Points([BEGINS])
    server = claviger.Server(env=points.env()).start()
    check_reload_of_backend(server, points)
    check_stop_of_backend(server, points)
    check_reload_of_worker(server, points)
    TAP.equal(server.stop(), 0, 'stops in order')
    check_stop_of_worker(server, points)
    for signo in (signal.SIGTERM, signal.SIGINT):
        check_stop_while_starting_over(server, signo)
    server.start()
    TAP.equal(server.stop(), 0, 'starts and stops as before')
    TAP.done()


main()
