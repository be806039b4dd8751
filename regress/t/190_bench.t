#!/usr/bin/python3
"""clav_bench: every operation, with and without TLS and token, against this
server and Debian's etcd; what it reports, and what it says when it cannot.

CLAVIGER_LONG=1 also runs src/tools/benchmark --small as a whole.
"""
import atexit
import json
import os
import subprocess
import sys
import tempfile

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), '..', 'lib'))
import claviger

TAP = claviger.Tap()
BENCH = os.path.join(claviger.BINDIR, 'clav_bench')
SECONDS = 0.4 * claviger.SLOW
PATIENCE = ['--command-timeout=%gs' % (60 * claviger.SLOW), '--dial-timeout=%gs' % (60 * claviger.SLOW)]


def bench(url, *args, ca=None, seconds=SECONDS):
    tls = ['--cacert', ca] if ca else []
    result = subprocess.run([BENCH, '-e', url, '-j', '-q', '-t', '%g' % seconds, '-k', '100'] + tls + list(args),
                            capture_output=True, text=True, timeout=300 * claviger.SLOW)
    lines = result.stdout.strip().split('\n')
    try:
        answer = json.loads(lines[-1])
    except ValueError:
        answer = None
    return result.returncode, answer, lines, result.stderr


def works(name, url, *args, ca=None):
    seconds = SECONDS
    while True:
        status, a, lines, stderr = bench(url, *args, ca=ca, seconds=seconds)
        # so short a time may pass without one answer where the machine is busy
        if status != 0 or a is None or a['requests'] > 0 or seconds > 30 * claviger.SLOW:
            break
        seconds *= 4
    good = (status == 0 and a is not None and a['requests'] > 0 and a['errors'] == 0 and a['rate'] > 0 and
            a['p50_us'] <= a['p90_us'] <= a['p99_us'] <= a['p999_us'] <= a['max_us'])
    TAP.ok(good, name, '%s %s %s' % (status, lines, stderr))
    return a


def count(server, ca=None):
    """Keys below bench/, by etcdctl."""
    tls = ['--cacert', ca] if ca else []
    result = subprocess.run(['etcdctl', '--endpoints', server.url] + PATIENCE + ['--user', 'u:u', 'get', '--prefix', '--keys-only',
                             'bench/'] + tls, env=dict(os.environ, ETCDCTL_API='3'), capture_output=True, text=True)
    return result.stdout.count('bench/')


def set_up(url, ca=None):
    """A user u with a role, and auth on."""
    tls = ['--cacert', ca] if ca else []
    for command in ('user add root:root', 'user add u:u', 'role add r', 'role grant-permission r readwrite --prefix bench/',
                    'user grant-role u r', 'user grant-role root root', 'auth enable'):
        subprocess.run(['etcdctl', '--endpoints', url] + PATIENCE + tls + command.split(),
                       env=dict(os.environ, ETCDCTL_API='3'), capture_output=True, check='root root' not in command)


class Etcd:
    def __init__(self):
        self.dir = tempfile.TemporaryDirectory(prefix='claviger-etcd-')
        self.url = 'http://127.0.0.1:%d' % claviger.free_port()
        peer = 'http://127.0.0.1:%d' % claviger.free_port()
        self.process = subprocess.Popen(
            ['etcd', '--data-dir', self.dir.name, '--log-level', 'error', '--logger', 'zap', '--listen-client-urls',
             self.url, '--advertise-client-urls', self.url, '--listen-peer-urls', peer,
             '--initial-advertise-peer-urls', peer, '--initial-cluster', 'default=' + peer],
            stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        # a test that ends by an exception must not leave it: prove would wait
        atexit.register(self.process.kill)
        if not claviger.wait_until(lambda: subprocess.run(
                ['etcdctl', '--endpoints', self.url, 'get', 'x'], env=dict(os.environ, ETCDCTL_API='3'),
                capture_output=True).returncode == 0, 120):
            raise RuntimeError('etcd does not serve')

    def stop(self):
        self.process.terminate()
        self.process.wait(120)


def all_operations(name, url, ca=None):
    user = ('-u', 'u:u')
    works(name + ': put', url, '-o', 'put', '-c', '4', *user, ca=ca)
    works(name + ': put after loading all keys', url, '-o', 'put', '-L', *user, ca=ca)
    a = works(name + ': range', url, '-o', 'range', '-c', '2', '-s', '8', *user, ca=ca)
    works(name + ': serializable range', url, '-o', 'range', '--serializable', *user, ca=ca)
    works(name + ': mixed', url, '-o', 'mixed', '-r', '50', '-c', '4', *user, ca=ca)
    works(name + ': login', url, '-o', 'login', *user, ca=ca)
    works(name + ': connect', url, '-o', 'connect', *user, ca=ca)
    status, _, lines, stderr = bench(url, '-o', 'idle', '-c', '20', *user, ca=ca)
    TAP.ok(status == 0 and lines[0] == 'idle', name + ': idle', stderr)
    return a


own = claviger.Server(args=claviger.CHEAP_LOGINS).start()
set_up(own.url)
all_operations('plain', own.url)
TAP.equal(count(own), 100, 'the keys are there')

certificates = tempfile.TemporaryDirectory(prefix='claviger-certs-')
ca = claviger.make_certificates(certificates.name)
secure = claviger.Server(args=['--cert-file', certificates.name + '/server.crt', '--key-file',
                               certificates.name + '/server.key'] + claviger.CHEAP_LOGINS, tls=True).start()
set_up(secure.url, ca)
all_operations('TLS', secure.url, ca)
TAP.equal(count(secure, ca), 100, 'TLS: the keys are there')

etcd = Etcd()
set_up(etcd.url)
all_operations('etcd', etcd.url)
etcd.stop()

# what cannot work
status, a, _, stderr = bench(own.url, '-o', 'range')
TAP.ok(status == 1 and a is None and 'too many errors' in stderr or status == 1 and a['errors'] > 0,
       'without a token: errors, and they are counted', stderr)
status, _, _, stderr = bench(own.url, '-o', 'range', '-u', 'u:wrong')
TAP.ok(status == 1 and 'login failed' in stderr, 'a wrong password ends it', stderr)
status, _, _, stderr = bench('http://127.0.0.1:1', '-o', 'range')
TAP.ok(status == 1 and 'could not connect' in stderr, 'nobody there', stderr)
status, _, _, stderr = bench(secure.url, '-o', 'range', ca=os.devnull)
TAP.ok(status == 1 and 'TLS' in stderr, 'a CA file without a CA', stderr)
for wrong in (['-o', 'nothing'], ['-c', '0'], ['-o', 'login'], ['-u', 'nocolon'], ['surplus']):
    status, _, _, stderr = bench(own.url, *wrong)
    TAP.ok(status == 2 and 'Usage' in stderr, 'refused: ' + ' '.join(wrong), stderr)

if os.environ.get('CLAVIGER_LONG'):
    result = subprocess.run([os.path.join(claviger.TOP, 'src', 'tools', 'benchmark'), '--small'], capture_output=True,
                            text=True, env=dict(os.environ, BUILDDIR=claviger.BUILDDIR))
    TAP.ok(result.returncode == 0 and result.stdout.count('###') == 8, 'src/tools/benchmark --small',
           result.stdout[-2000:] + result.stderr)

own.stop()
secure.stop()
TAP.done()
