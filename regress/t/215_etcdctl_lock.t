#!/usr/bin/python3
"""etcdctl lock and etcdctl elect, which wait by watching: a contender that is
killed, one that gives up, a listener."""
import os
import signal
import subprocess
import sys
import time

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), '..', 'lib'))
import claviger
from claviger import wait_until

P = claviger.load_protos()
E, C = P['etcdserverpb'], P['v3electionpb']
TAP = claviger.Tap()
KV, EL = 'etcdserverpb.KV/', 'v3electionpb.Election/'


def get(c, prefix):
    return c.call(KV + 'Range', E.RangeRequest(key=prefix, range_end=prefix[:-1] + bytes([prefix[-1] + 1]),
                                               sort_target=E.RangeRequest.CREATE), E.RangeResponse).kvs


def leader_of(c, name):
    return c.call(EL + 'Leader', C.LeaderRequest(name=name), C.LeaderResponse).kv


def test_etcdctl(server, c):
    env = claviger.etcdctl_environment()
    ctl = ['etcdctl', '--endpoints', server.endpoint]

    def start(*args):
        return subprocess.Popen(ctl + list(args), stdout=subprocess.PIPE, stderr=subprocess.PIPE, env=env, text=True)

    first = start('lock', 'x', '--ttl=5')
    key = first.stdout.readline().strip()
    TAP.ok(key.startswith('x/'), 'etcdctl lock')
    second = start('lock', 'x', '--ttl=5')
    TAP.ok(wait_until(lambda: len(get(c, b'x/')) == 2, 30), 'a second etcdctl waits')
    time.sleep(7)
    TAP.equal(len(get(c, b'x/')), 2, 'both keep their leases alive')
    first.kill()
    since = time.time()
    TAP.ok(second.stdout.readline().startswith('x/'), 'the first one is killed: the second gets the lock')
    TAP.ok(time.time() - since < 5 + 20 * claviger.SLOW, 'when the lease ends')
    second.send_signal(signal.SIGINT)
    second.wait(30 * claviger.SLOW)
    TAP.ok(wait_until(lambda: not get(c, b'x/'), 20), 'and gives it back')
    done = subprocess.run(ctl + ['lock', 'x', 'echo', 'inside'], capture_output=True, env=env, text=True,
                          timeout=60 * claviger.SLOW)
    TAP.equal((done.returncode, done.stdout), (0, 'inside\n'), 'etcdctl lock runs a command')

    first = start('elect', 'y', 'p1')
    TAP.ok(first.stdout.readline().startswith('y/') and first.stdout.readline() == 'p1\n', 'etcdctl elect')
    second = start('elect', 'y', 'p2')
    TAP.ok(wait_until(lambda: len(get(c, b'y/')) == 2, 30), 'a second one stands')
    TAP.equal(leader_of(c, b'y').value, b'p1', 'etcdctl and the service see the same leader')
    listener = start('elect', '-l', 'y')
    TAP.ok(listener.stdout.readline().startswith('y/') and listener.stdout.readline() == 'p1\n', 'etcdctl elect -l')
    first.send_signal(signal.SIGINT)
    TAP.ok(second.stdout.readline().startswith('y/'), 'the second one is elected')
    TAP.ok(listener.stdout.readline().startswith('y/') and listener.stdout.readline() == 'p2\n', 'and seen')
    for process in (first, second, listener):
        process.send_signal(signal.SIGINT)
        process.wait(30 * claviger.SLOW)


def main():
    server = claviger.Server().start()
    test_etcdctl(server, claviger.Client(server))
    TAP.equal(server.stop(), 0, 'stops in order')
    TAP.done()


main()
