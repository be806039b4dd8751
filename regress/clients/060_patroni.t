#!/usr/bin/python3
"""Debian's Patroni with PostgreSQL 15 on Claviger as its etcd3 store, TLS and auth
on: bootstrap, replica, switchover, loss of the leader.

One member is known by the name in its certificate, the other by a password
(and a certificate that is no user's).  PostgreSQL does not run as root: then all
of it runs as the user postgres.  Everything is on loopback, in one temporary
directory.
"""
import json
import os
import pwd
import shutil
import signal
import subprocess
import sys
import tempfile
import time
import urllib.request

HERE = os.path.dirname(os.path.abspath(__file__))
sys.path[:0] = [HERE, os.path.join(HERE, '..', 'lib')]
import claviger
import etcdctl
import setups

TAP = claviger.Tap()
BIN = '/usr/lib/postgresql/15/bin'
USER = pwd.getpwnam('postgres') if os.getuid() == 0 else pwd.getpwuid(os.getuid())
# more than the least that Patroni allows: on a busy machine, too, a leader is to
# lose his key when he is gone and not before
TTL, LOOP_WAIT, RETRY_TIMEOUT = 30, 2, 10
DIR = tempfile.mkdtemp(prefix='claviger-patroni-')


def own(path):
    if os.getuid() == 0:
        os.chown(path, USER.pw_uid, USER.pw_gid)
    return path


def copy_certificate(name):
    path = os.path.join(DIR, name)
    shutil.copy(setups.certificate(name), path)
    os.chmod(path, 0o600)
    return own(path)


class Member:
    """One Patroni and its PostgreSQL."""

    def __init__(self, name, setup, certificate, with_password):
        self.name = name
        self.dir = own_directory(os.path.join(DIR, name))
        self.rest, self.port = claviger.free_port(), claviger.free_port()
        self.config = os.path.join(self.dir, 'patroni.json')
        self.log = os.path.join(self.dir, 'patroni.log')
        store = {'hosts': [setup.server.endpoint], 'protocol': 'https', 'cacert': os.path.join(DIR, 'ca.crt')}
        if setup.cert:
            store.update(cert=os.path.join(DIR, certificate + '.crt'), key=os.path.join(DIR, certificate + '.key'))
        if with_password:
            # without use_proxies this release of Patroni asks for the list of
            # members before it logs in (doc/clients.md)
            store.update(username='app', password=setups.PASSWORD, use_proxies=True)
        with open(self.config, 'w') as file:
            json.dump(self.settings(store), file)       # JSON is YAML
        own(self.config)
        os.chmod(self.config, 0o600)
        self.process = None

    def settings(self, store):
        logins = {role: {'username': role, 'password': 'secret'} for role in ('superuser', 'replication', 'rewind')}
        logins['superuser']['username'] = 'postgres'
        return {
            'scope': 'demo', 'namespace': '/service/', 'name': self.name,
            'restapi': {'listen': '127.0.0.1:%d' % self.rest, 'connect_address': '127.0.0.1:%d' % self.rest},
            'etcd3': store,
            'bootstrap': {
                'dcs': {'ttl': TTL, 'loop_wait': LOOP_WAIT, 'retry_timeout': RETRY_TIMEOUT, 'maximum_lag_on_failover': 1048576,
                        'postgresql': {'use_pg_rewind': True}},
                'initdb': [{'encoding': 'UTF8'}, {'locale': 'C'}, {'auth-host': 'md5'}, {'auth-local': 'trust'}, 'data-checksums']},
            'postgresql': {
                'listen': '127.0.0.1:%d' % self.port, 'connect_address': '127.0.0.1:%d' % self.port,
                'data_dir': os.path.join(self.dir, 'data'), 'bin_dir': BIN, 'pgpass': os.path.join(self.dir, 'pgpass'),
                'authentication': logins,
                'pg_hba': ['local all all trust', 'host replication replication 127.0.0.1/32 md5',
                           'host all all 127.0.0.1/32 md5'],
                'parameters': {'unix_socket_directories': self.dir, 'fsync': 'off', 'shared_buffers': '16MB',
                               'max_connections': 20, 'max_worker_processes': 2}},
        }

    def start(self):
        with open(self.log, 'ab') as log:
            self.process = subprocess.Popen(as_user(['patroni', self.config]), stdin=subprocess.DEVNULL, stdout=log,
                                            stderr=log, cwd=self.dir, start_new_session=True)

    def role(self):
        """primary, replica, or what is missing."""
        try:
            with urllib.request.urlopen('http://127.0.0.1:%d/patroni' % self.rest, timeout=30) as answer:
                said = json.load(answer)
        except urllib.error.HTTPError as error:
            said = json.loads(error.read() or b'{}')
        except OSError as error:
            return str(error)
        if said.get('state') != 'running':
            return said.get('state')
        return 'primary' if said.get('role') in ('master', 'primary') else said.get('role')

    def sql(self, text):
        done = subprocess.run(['psql', '-XAtq', '-h', '127.0.0.1', '-p', str(self.port), '-U', 'postgres', '-c', text,
                               'postgres'], capture_output=True, text=True, timeout=120 * claviger.SLOW,
                              env=dict(os.environ, PGPASSWORD='secret'))
        return done.stdout.strip() if done.returncode == 0 else done.stderr.strip()

    def postmaster(self):
        try:
            with open(os.path.join(self.dir, 'data', 'postmaster.pid')) as file:
                return int(file.readline())
        except (OSError, ValueError):
            return None

    def kill(self):
        """As if its machine were gone: Patroni and PostgreSQL at once."""
        pids = [self.process.pid] if self.process else []
        if self.process:
            os.killpg(self.process.pid, signal.SIGKILL)
            self.process.wait()
            self.process = None
        postmaster = self.postmaster()
        if postmaster:
            children = '/proc/%d/task/%d/children' % (postmaster, postmaster)
            try:
                with open(children) as file:
                    pids += [int(pid) for pid in file.read().split()]
            except OSError:
                pass
            for pid in [postmaster] + pids[1:]:
                try:
                    os.kill(pid, signal.SIGKILL)
                except ProcessLookupError:
                    pass

    def log_end(self):
        with open(self.log, errors='replace') as file:
            return file.read()[-3000:]


def own_directory(path):
    os.mkdir(path, 0o700)
    return own(path)


def as_user(command):
    return ['runuser', '-u', 'postgres', '--'] + command if os.getuid() == 0 else command


def wait_for(condition, seconds):
    """Seconds that it took, or None."""
    begin = time.time()
    while time.time() - begin < seconds * claviger.SLOW:
        if condition():
            return time.time() - begin
        time.sleep(0.2)
    return None


def patronictl(member, *arguments):
    done = subprocess.run(as_user(['patronictl', '-c', member.config, *arguments]), capture_output=True, text=True,
                          timeout=300 * claviger.SLOW, cwd=member.dir)
    return done.returncode, done.stdout + done.stderr


def bootstrap(one, two):
    """Says whether the rest makes sense."""
    one.start()
    took = wait_for(lambda: one.role() == 'primary', 240)
    if not TAP.ok(took is not None, 'bootstrap: the first member is primary', one.log_end()):
        return False
    two.start()
    took = wait_for(lambda: two.role() == 'replica', 240)
    if not TAP.ok(took is not None, 'the second member is a replica', two.log_end()):
        return False
    TAP.equal(one.sql('CREATE TABLE t (n int)') or one.sql('INSERT INTO t VALUES (1) RETURNING n'), '1', 'the primary takes writes')
    TAP.ok(wait_for(lambda: two.sql('SELECT n FROM t') == '1', 120) is not None, 'what the primary writes is on the replica')
    status, text = patronictl(two, 'list')
    return TAP.ok(status == 0 and 'Leader' in text and 'Replica' in text, 'patronictl list', text)


def switchover(one, two):
    status, text = patronictl(one, 'switchover', '--master', 'one', '--candidate', 'two', '--force')
    # it looks for the new leader for some seconds only; we look longer
    TAP.ok(status == 0 and ('Successfully switched over' in text or 'Switchover status unknown' in text),
           'patronictl switchover', text)
    TAP.ok(wait_for(lambda: two.role() == 'primary', 240) is not None, 'the second member is primary', two.log_end())
    TAP.ok(wait_for(lambda: one.role() == 'replica', 240) is not None, 'the first member is its replica', one.log_end())
    TAP.equal(two.sql('INSERT INTO t VALUES (2) RETURNING n'), '2', 'the new primary takes writes')
    TAP.ok(wait_for(lambda: one.sql('SELECT count(*) FROM t') == '2', 120) is not None, 'and the new replica has them')


def leader_loss(one, two, ctl):
    leader = ctl.raw('get', '--print-value-only', '/service/demo/leader')[1].decode().strip()
    TAP.equal(leader, 'two', 'the key of the leader names it')
    two.kill()
    took = wait_for(lambda: one.role() == 'primary', TTL + 240)
    TAP.ok(took is not None, 'the leader is gone: the other member is primary', one.log_end())
    print('# after %s s, with a TTL of %d s' % (took and round(took, 1), TTL))
    TAP.equal(one.sql('SELECT count(*) FROM t'), '2', 'nothing is lost')
    TAP.equal(one.sql('INSERT INTO t VALUES (3) RETURNING n'), '3', 'it takes writes')
    two.start()
    TAP.ok(wait_for(lambda: two.role() == 'replica' and two.sql('SELECT count(*) FROM t') == '3', 240) is not None,
           'the lost member comes back as a replica', two.log_end())


def versions():
    for command in (['patroni', '--version'], [BIN + '/postgres', '--version']):
        print('# ' + subprocess.run(command, capture_output=True, text=True).stdout.strip())


def main():
    versions()
    os.chmod(DIR, 0o755)
    # etcd's gateway takes no names from certificates
    by_name = not setups.AGAINST_ETCD
    setup = setups.Setup('certificate' if by_name else 'password')
    certificate = ['--cert', setups.certificate('root.crt'), '--key', setups.certificate('root.key')]
    root = etcdctl.Ctl(setup.server, ['--cacert', setup.ca, '--user', 'root:' + setups.ROOT_PASSWORD]
                       + (certificate if by_name else []))
    root.run('role', 'grant-permission', '--prefix', 'app', 'readwrite', '/service/')
    for name in ('ca.crt', 'app.crt', 'app.key', 'nobody.crt', 'nobody.key'):
        copy_certificate(name)
    one = Member('one', setup, 'app', with_password=not by_name)
    two = Member('two', setup, 'nobody', with_password=True)
    try:
        if bootstrap(one, two):
            switchover(one, two)
            leader_loss(one, two, root)
    finally:
        one.kill()
        two.kill()
        setup.server.kill9()
        shutil.rmtree(DIR, ignore_errors=True)
    TAP.done()


main()
